//! `rstore/reserve`: real bytes that a prune on a full disk gives up first, since its own
//! transactions need some; it makes them again at the end.

use std::path::Path;

use crate::fsutil::Result;

/// How large it is.
pub const SIZE: u64 = 4 << 20;

/// Makes the reserve below `private` (`ROOT/rstore`) if it is missing or short. Where there is no
/// space for it there is none: that is no error.
pub fn ensure(private: &Path) -> Result<bool> {
    let _ = private;
    Ok(false)
}

/// Gives the reserve up. Returns the bytes that it had.
pub fn release(private: &Path) -> Result<u64> {
    let _ = private;
    Ok(0)
}

//! Cache mounts as a prune sees them: where they are, whether a step has one just now.
//!
//! A cache mount is in use exactly as long as somebody holds the lock in it, whatever the catalog
//! and the leases say. Who removes one holds that lock alone; who takes one looks for its row once
//! it has the lock.

use std::path::{Path, PathBuf};

use crate::catalog::cache_mount::CacheMountRow;
use crate::fsutil;
use crate::layout::Layout;
use crate::lock::FileLock;

use super::debris::CACHE_MOUNTS;

/// The lock in a cache mount's directory.
pub const LOCK: &str = "lock";

/// Where a cache mount is, from the root of the store.
pub fn place(mount: &CacheMountRow) -> PathBuf {
    Path::new("rstore")
        .join(CACHE_MOUNTS)
        .join(&mount.directory)
}

/// Takes a cache mount's lock alone. `None`: it is in use, or its directory is not there.
pub(super) fn claim(layout: &Layout, directory: &str) -> fsutil::Result<Option<FileLock>> {
    let path = layout.private().join(CACHE_MOUNTS).join(directory);
    match FileLock::try_exclusive_existing(&path.join(LOCK)) {
        Err(error) if error.is_not_found() => Ok(None),
        other => other,
    }
}

/// Whether a step, of whatever process, has a cache mount at this moment.
pub fn is_in_use(layout: &Layout, mount: &CacheMountRow) -> fsutil::Result<bool> {
    let path = layout.root().join(place(mount)).join(LOCK);
    match FileLock::try_exclusive_existing(&path) {
        Ok(lock) => Ok(lock.is_none()),
        Err(error) if error.is_not_found() => Ok(false),
        // Another user's: whether it is held cannot be tried, so it is taken to be.
        Err(error) if error.source.kind() == std::io::ErrorKind::PermissionDenied => Ok(true),
        Err(error) => Err(error),
    }
}

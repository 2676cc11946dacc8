//! `rstore/reserve`: real bytes that a prune on a full disk gives up first, since its own
//! transactions need some; it makes them again at the end.
//!
//! Written, not allocated: a file system that compresses or copies on write would give less for
//! zeros or for a hole than it takes.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::fsutil::{self, IoContext, Result};

/// How large it is.
pub const SIZE: u64 = 4 << 20;

/// It is only made where at least this many times its size is free.
const ROOM: u64 = 8;

/// Its path below `private` (`ROOT/rstore`).
pub fn path(private: &Path) -> PathBuf {
    private.join("reserve")
}

/// Free bytes of the file system, as an ordinary user may use them.
pub fn available(private: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(private).at("statvfs", private)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Free bytes of the file system, all of them.
pub fn free(private: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(private).at("statvfs", private)?;
    Ok(stat.f_bfree.saturating_mul(stat.f_frsize))
}

/// How many inodes a prune may need before it has given any back: its lock, a new index.json, the
/// catalog's log.
const INODES: u64 = 4;

/// Inodes that an ordinary user may still make; as many as one likes where the file system has no
/// fixed number of them.
fn inodes(directory: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(directory).at("statvfs", directory)?;
    Ok(if stat.f_files == 0 {
        u64::MAX
    } else {
        stat.f_favail
    })
}

/// Whether there is next to nothing left where `directory` is, so that what has failed there has
/// probably failed for that.
pub fn is_full(directory: &Path) -> bool {
    available(directory).is_ok_and(|bytes| bytes < 1 << 20)
        || inodes(directory).is_ok_and(|inodes| inodes == 0)
}

/// Makes the reserve below `private` if it is missing. Returns whether it stands; where there is
/// little space it is not made, and that is no error.
pub fn ensure(private: &Path) -> Result<bool> {
    let path = path(private);
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() >= SIZE) {
        return Ok(true);
    }
    if available(private)? < SIZE * ROOM || inodes(private)? <= INODES {
        return Ok(false);
    }
    let temporary = private.join(format!(".reserve.{}.tmp", std::process::id()));
    let written = fill(&temporary).and_then(|()| fs::rename(&temporary, &path).at("rename", &path));
    match written {
        Ok(()) => Ok(true),
        Err(error) => {
            fsutil::remove_file(&temporary)?;
            let harmless =
                error.is_no_space() || error.source.kind() == ErrorKind::PermissionDenied;
            if harmless { Ok(false) } else { Err(error) }
        }
    }
}

/// Bytes that no file system makes smaller: a linear congruential generator's (Knuth's MMIX).
fn fill(path: &Path) -> Result<()> {
    let mut file = File::create(path).at("create", path)?;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut block = Vec::with_capacity(1 << 16);
    for _ in 0..SIZE >> 16 {
        block.clear();
        while block.len() < 1 << 16 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            block.extend_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block).at("write", path)?;
    }
    Ok(())
}

/// Gives the reserve up. Returns whether there was one.
pub fn release(private: &Path) -> Result<bool> {
    fsutil::remove_file(&path(private))
}

/// Gives the reserve up if the disk is nearly full: its bytes, and its inode.
pub fn release_if_tight(private: &Path) -> Result<bool> {
    if available(private)? >= SIZE && inodes(private)? >= INODES {
        return Ok(false);
    }
    release(private)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_has_real_bytes_and_can_be_given_up() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ensure(dir.path()).unwrap());
        let metadata = fs::metadata(path(dir.path())).unwrap();
        assert!(fsutil::allocated(&metadata) >= SIZE);
        assert!(ensure(dir.path()).unwrap());
        assert!(release(dir.path()).unwrap());
        assert!(!release(dir.path()).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

//! `rstore/reserve`: real bytes that a prune on a full disk gives up first, since its own
//! transactions need some; it makes them again at the end.
//!
//! Written, not allocated: a file system that compresses or copies on write would give less for
//! zeros or for a hole than it takes.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::fsutil::{self, IoContext, Result};

/// How large it is where there is room.
pub const SIZE: u64 = 4 << 20;

/// What a small prune still does with. Where there is no room for as much there is no reserve.
const LEAST: u64 = 256 << 10;

/// At most this part of what is free is taken: one in eight.
const ROOM: u64 = 8;

/// Of what a prune leaves that gave the reserve up a moment ago: a disk that is full every night
/// would soon have none.
const ROOM_AGAIN: u64 = 2;

/// How large it is to be where `free` bytes are left, those of an existing reserve among them, and
/// one part in `room` may be taken.
fn wanted(free: u64, room: u64) -> Option<u64> {
    // In whole blocks of any file system.
    let size = (free / room).min(SIZE) & !(BLOCK - 1);
    (size >= LEAST).then_some(size)
}

/// What is written at once.
const BLOCK: u64 = 1 << 16;

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

/// Makes the reserve below `private` if it is missing, or less than half of what there is room for
/// now. Returns whether it stands; where there is next to no space it is not made, and that is no
/// error.
pub fn ensure(private: &Path) -> Result<bool> {
    make(private, ROOM)
}

/// Like [`ensure`], where the reserve has just been given up: half of what is free now may be taken.
pub fn restore(private: &Path) -> Result<bool> {
    make(private, ROOM_AGAIN)
}

fn make(private: &Path, room: u64) -> Result<bool> {
    let path = path(private);
    let stands = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if stands >= SIZE {
        return Ok(true);
    }
    let size = match wanted(available(private)?.saturating_add(stands), room) {
        Some(size) if size / 2 > stands || stands == 0 => size,
        _ => return Ok(stands > 0),
    };
    if inodes(private)? <= INODES {
        return Ok(stands > 0);
    }
    let temporary = private.join(format!(".reserve.{}.tmp", std::process::id()));
    let written =
        fill(&temporary, size).and_then(|()| fs::rename(&temporary, &path).at("rename", &path));
    match written {
        Ok(()) => Ok(true),
        Err(error) => {
            fsutil::remove_file(&temporary)?;
            let harmless =
                error.is_no_space() || error.source.kind() == ErrorKind::PermissionDenied;
            if harmless { Ok(stands > 0) } else { Err(error) }
        }
    }
}

/// Bytes that no file system makes smaller: a linear congruential generator's (Knuth's MMIX).
fn fill(path: &Path, size: u64) -> Result<()> {
    let mut file = File::create(path).at("create", path)?;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut block = Vec::with_capacity(BLOCK as usize);
    for _ in 0..size / BLOCK {
        block.clear();
        while block.len() < BLOCK as usize {
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
    fn a_small_disk_has_a_small_reserve_and_a_full_one_has_none() {
        assert_eq!(wanted(u64::MAX, ROOM), Some(SIZE));
        assert_eq!(wanted(SIZE * ROOM, ROOM), Some(SIZE));
        assert_eq!(wanted(12 << 20, ROOM), Some(3 << 19));
        assert_eq!(wanted(LEAST * ROOM, ROOM), Some(LEAST));
        assert_eq!(wanted(LEAST * ROOM - 1, ROOM), None);
        assert_eq!(wanted(0, ROOM), None);
        // What was given up comes back although the disk is nearly full again.
        assert_eq!(wanted(SIZE, ROOM_AGAIN), Some(SIZE / 2));
    }

    #[test]
    fn a_reserve_made_where_there_was_little_room_grows_when_there_is_more() {
        let dir = tempfile::tempdir().unwrap();
        fill(&path(dir.path()), LEAST).unwrap();
        assert!(ensure(dir.path()).unwrap());
        assert_eq!(fs::metadata(path(dir.path())).unwrap().len(), SIZE);
    }

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

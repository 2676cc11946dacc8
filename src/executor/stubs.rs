//! Mount points that an image lacks: empty files and directories that must not end up in a layer.
//!
//! Two ways, so that the second is rarely needed:
//! 1. [`ensure`] fills a directory that is the *bottom lower* of every step's overlay. Where the
//!    image has no `/proc`, that one shows, and nothing is written.
//! 2. Where the image hides it (an opaque directory, a whiteout) or the mount point is the
//!    caller's own, [`Stubs`] makes it in the root, and takes it back after the step: the stub if
//!    it is as it was made, and the parent's mtime if nothing else changed it. What the step has
//!    touched is the step's.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, Timespec, Timestamps};

use super::resolve::Shape;
use super::sys;
use crate::fsutil::{self, IoContext};

/// The mount points of every step.
const POINTS: [(&str, Shape); 7] = [
    ("proc", Shape::Directory),
    ("sys", Shape::Directory),
    ("dev", Shape::Directory),
    ("etc", Shape::Directory),
    ("etc/resolv.conf", Shape::File),
    ("etc/hosts", Shape::File),
    ("etc/hostname", Shape::File),
];

/// The time all stubs in the bottom lower bear: the epoch, so that a tree never depends on when
/// the store was made.
const EPOCH: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// Fills `dir` with empty mount points, to be the bottom lower of every overlay that a step runs
/// in: `/proc`, `/sys`, `/dev`, `/etc/{resolv.conf,hosts,hostname}`. Idempotent, and safe to do
/// from several processes at once.
pub fn ensure(dir: &Path) -> fsutil::Result<()> {
    fsutil::create_dir_all(dir)?;
    let open = fsutil::open_dir(dir)?;
    let mut made = false;
    for (name, shape) in POINTS {
        if fsutil::stat_at(&open, name)?.is_none() {
            match make_empty(open.as_fd(), OsStr::new(name), shape) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => made = true,
                Err(errno) => return Err(errno).at("create", dir.join(name)),
            }
        }
    }
    if made {
        let times = Timestamps {
            last_access: EPOCH,
            last_modification: EPOCH,
        };
        for (name, _) in POINTS {
            rustix::fs::utimensat(&open, name, &times, AtFlags::SYMLINK_NOFOLLOW)
                .at("set the times of", dir.join(name))?;
        }
        rustix::fs::utimensat(CWD, dir, &times, AtFlags::empty()).at("set the times of", dir)?;
    }
    Ok(())
}

/// Makes an empty directory (mode 0755) or file (0644), whatever the umask.
pub fn make_empty(dir: BorrowedFd<'_>, name: &OsStr, shape: Shape) -> sys::Result<()> {
    let mode = match shape {
        Shape::Directory => {
            rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755))?;
            0o755
        }
        Shape::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644))?;
            0o644
        }
    };
    rustix::fs::chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty())
}

/// The stubs made in one root.
#[derive(Debug, Default)]
pub struct Stubs {
    made: Vec<Stub>,
}

#[derive(Debug)]
struct Stub {
    /// Absolute inside the root.
    path: PathBuf,
    parent: OwnedFd,
    name: OsString,
    shape: Shape,
    /// The stub as it was made.
    made: Stat,
    /// The parent's mtime before and after.
    before: Time,
    after: Time,
}

/// An mtime: seconds, nanoseconds.
type Time = (i64, i64);

impl Stubs {
    /// Makes the stub `name` in `dir`, a directory of the root; `path` is its path there.
    pub fn make(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: PathBuf,
        shape: Shape,
    ) -> sys::Result<()> {
        let parent = rustix::io::fcntl_dupfd_cloexec(dir, 0)?;
        let before = mtime(&rustix::fs::fstat(dir)?);
        make_empty(dir, name, shape)?;
        let made = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let after = mtime(&rustix::fs::fstat(dir)?);
        self.made.push(Stub {
            path,
            parent,
            name: name.to_owned(),
            shape,
            made,
            before,
            after,
        });
        Ok(())
    }

    /// Takes back what nobody has touched; returns the paths, parents first.
    pub fn remove(self) -> Vec<PathBuf> {
        // The last made goes first: children before parents, and of two in one directory the
        // second's "before" is the first's "after".
        let removed = self.made.into_iter().rev().filter_map(|stub| {
            let gone = stub.remove();
            gone.ok().filter(|gone| *gone).map(|_| stub.path)
        });
        let mut paths: Vec<PathBuf> = removed.collect();
        paths.reverse();
        paths
    }
}

impl Stub {
    fn remove(&self) -> sys::Result<bool> {
        let now = rustix::fs::statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !self.is_untouched(&now) {
            return Ok(false);
        }
        let parent_now = mtime(&rustix::fs::fstat(&self.parent)?);
        let flags = match self.shape {
            Shape::Directory => AtFlags::REMOVEDIR,
            Shape::File => AtFlags::empty(),
        };
        rustix::fs::unlinkat(&self.parent, &self.name, flags)?;
        let mtime = if parent_now == self.after {
            self.before
        } else {
            parent_now
        };
        set_mtime(&self.parent, mtime)?;
        Ok(true)
    }

    /// A directory's mtime changes with what is made and removed in it, other stubs included;
    /// that it is empty is checked by rmdir(2).
    fn is_untouched(&self, now: &Stat) -> bool {
        let same = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
        let is_directory = FileType::from_raw_mode(now.st_mode) == FileType::Directory;
        same(now) == same(&self.made)
            && (is_directory || (now.st_size == 0 && mtime(now) == mtime(&self.made)))
    }
}

fn mtime(stat: &Stat) -> Time {
    (stat.st_mtime, stat.st_mtime_nsec as i64)
}

/// Sets the mtime of the directory that `dir`, an `O_PATH` descriptor, stands for.
fn set_mtime(dir: &OwnedFd, (tv_sec, tv_nsec): Time) -> sys::Result<()> {
    // futimens(2) refuses O_PATH.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::openat(dir, ".", flags, Mode::empty())?;
    let keep = Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_OMIT as _,
    };
    let times = Timestamps {
        last_access: keep,
        last_modification: Timespec {
            tv_sec,
            tv_nsec: tv_nsec as _,
        },
    };
    rustix::fs::futimens(open, &times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_bottom_lower_is_the_same_whenever_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let stubs = dir.path().join("stubs");
        ensure(&stubs).unwrap();
        ensure(&stubs).unwrap();
        for (name, shape) in POINTS {
            let metadata = std::fs::symlink_metadata(stubs.join(name)).unwrap();
            assert_eq!(metadata.mtime(), 0, "{name}");
            let mode = if shape == Shape::Directory {
                0o755
            } else {
                0o644
            };
            assert_eq!(metadata.mode() & 0o7777, mode, "{name}");
        }
        assert_eq!(std::fs::metadata(&stubs).unwrap().mtime(), 0);
    }
}

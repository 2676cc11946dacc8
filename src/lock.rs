//! Shared and exclusive file locks: the only place that locks.
//!
//! The locks are `flock(2)` through fs4: they belong to the open file description and vanish
//! with the last descriptor of it, so that a process killed at any instant leaves none behind.
//! Descriptors are close-on-exec; a forked child that has not yet called `execve` shares the
//! lock, and dies with its parent (see `executor`).
//!
//! Who blocks whom:
//!
//! | file | held by | mode | for |
//! |---|---|---|---|
//! | `rstore/lock` | whoever rewrites `index.json` or migrates the catalog; a prune while it unlinks a batch of blobs | exclusive | milliseconds |
//! |  | whoever lets another tool write into the layout (`flock`) | exclusive | as long as that takes |
//! | `rstore/prune.lock` | a prune | exclusive | the prune; a second one answers "busy" |
//! | `rstore/leases/ID` | one writer | exclusive | its life; who can take it knows the writer is dead |
//! | `rstore/cache-mounts/NAME/lock` | the steps that have the cache mount | as they share it | the step; a prune takes it to remove the mount |
//! | `rstore/cache-mounts/NAME/mount.json` | who fills a new cache mount | exclusive | the filling |
//! | `rstore/leases/step-KEY` | whoever runs a step | exclusive | until its image is in the cache; others wait, and may cease to |
//! | `rstore/leases/blob-HEX` | whoever fetches a blob | exclusive | until it is published, or the lease of who failed ends; others wait |
//! | `index.json.lock` of a cache directory | whoever adds to it | exclusive | the export |

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs4::FileExt;

use crate::fsutil::{IoContext, Result};

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Beside others that hold it so.
    Shared,
    /// Alone.
    Exclusive,
}

/// How long [`FileLock::wait_existing`] sleeps between two looks. flock(2) can wait by itself, but
/// not until somebody asks for the end.
pub const LOOK: Duration = Duration::from_millis(50);

/// A lock on a file, held until dropped. A value of this type is the proof that it is held.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Takes `path` exclusively, waiting as long as it needs; creates the file.
    pub fn exclusive(path: &Path) -> Result<FileLock> {
        let file = open(path, true)?;
        FileExt::lock(&file).at("lock", path)?;
        Ok(FileLock {
            file,
            path: path.to_path_buf(),
        })
    }

    /// Takes `path` exclusively if nobody holds it; creates the file. `None`: somebody does.
    pub fn try_exclusive(path: &Path) -> Result<Option<FileLock>> {
        Self::try_on(open(path, true)?, path)
    }

    /// Like [`FileLock::try_exclusive`], but a missing file stays missing (an error that
    /// [`is_not_found`](crate::fsutil::Error::is_not_found)).
    pub fn try_exclusive_existing(path: &Path) -> Result<Option<FileLock>> {
        Self::try_on(open(path, false)?, path)
    }

    /// Takes the file at `path`, which must exist, waiting until it is free in this mode. Every
    /// [`LOOK`] `go_on` is asked; `None`: it said `false`.
    ///
    /// A file that is renamed or removed meanwhile is locked all the same: whoever does that is to
    /// be asked by other means.
    pub fn wait_existing(
        path: &Path,
        mode: Mode,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<FileLock>> {
        loop {
            // Opened anew each time: the file may have been replaced.
            if let Some(lock) = Self::try_in(open(path, false)?, path, mode)? {
                return Ok(Some(lock));
            }
            if !go_on() {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn try_on(file: File, path: &Path) -> Result<Option<FileLock>> {
        Self::try_in(file, path, Mode::Exclusive)
    }

    fn try_in(file: File, path: &Path, mode: Mode) -> Result<Option<FileLock>> {
        let taken = match mode {
            Mode::Shared => FileExt::try_lock_shared(&file),
            Mode::Exclusive => FileExt::try_lock(&file),
        };
        match taken {
            Ok(()) => Ok(Some(FileLock {
                file,
                path: path.to_path_buf(),
            })),
            Err(fs4::TryLockError::WouldBlock) => Ok(None),
            Err(fs4::TryLockError::Error(error)) if error.kind() == ErrorKind::WouldBlock => {
                Ok(None)
            }
            Err(fs4::TryLockError::Error(error)) => Err(error).at("lock", path),
        }
    }

    /// The path by which the lock was taken (the file may have been renamed since).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

fn open(path: &Path, create: bool) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .open(path)
        .at("open", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_and_a_third_gets_it_after_the_drop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::exclusive(&path).unwrap();
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        drop(held);
        assert!(FileLock::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn sharers_are_together_and_keep_out_who_wants_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        drop(FileLock::exclusive(&path).unwrap());
        let mut never = || panic!("it is free");
        let first = FileLock::wait_existing(&path, Mode::Shared, &mut never).unwrap();
        let second = FileLock::wait_existing(&path, Mode::Shared, &mut never).unwrap();
        assert!(first.is_some() && second.is_some());
        let mut looks = 0;
        let alone = FileLock::wait_existing(&path, Mode::Exclusive, &mut || {
            looks += 1;
            looks < 2
        });
        assert!(alone.unwrap().is_none(), "it was told to stop");
        drop((first, second));
        let alone = FileLock::wait_existing(&path, Mode::Exclusive, &mut never).unwrap();
        assert!(alone.is_some());
    }

    #[test]
    fn a_missing_file_is_not_created_by_the_existing_form() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone");
        assert!(
            FileLock::try_exclusive_existing(&path)
                .unwrap_err()
                .is_not_found()
        );
        assert!(!path.exists());
    }
}

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
//! | `rstore/lock` | whoever rewrites `index.json` or migrates the catalog | exclusive | milliseconds |
//! | `rstore/prune.lock` | a prune | exclusive | the prune; a second one answers "busy" |
//! | `rstore/leases/ID` | one writer | exclusive | its life; who can take it knows the writer is dead |
//! | `rstore/leases/step-KEY` | whoever runs a step | exclusive | until its image is in the cache; others wait, and may cease to |
//! | `index.json.lock` of a cache directory | whoever adds to it | exclusive | the export |

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use fs4::FileExt;

use crate::fsutil::{IoContext, Result};

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

    fn try_on(file: File, path: &Path) -> Result<Option<FileLock>> {
        match FileExt::try_lock(&file) {
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

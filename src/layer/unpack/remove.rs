//! Removing what is in the way, and what a whiteout says is gone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use crate::layer::entry::join;
use crate::layer::error::Result;
use crate::layer::inode::{fail, list, open_directory};

/// A directory whose content is being removed.
struct Level {
    path: Vec<u8>,
    name: Vec<u8>,
    directory: OwnedFd,
    names: Vec<(Vec<u8>, FileType)>,
    /// Whether something in it was kept, so that it stays.
    kept: bool,
}

/// Removes `name` in `directory` with all that is in it, but for paths that `keep` wants and the
/// directories that lead there. It is at `path`. That it isn't there is no error.
pub fn remove(
    directory: BorrowedFd<'_>,
    name: &[u8],
    path: &[u8],
    keep: &dyn Fn(&[u8]) -> bool,
) -> Result<()> {
    if !keep(path) && unlink_file(directory, name, path)? {
        return Ok(());
    }
    match open_level(directory, name, path)? {
        Some(level) => remove_levels(directory, level, keep),
        None => Ok(()),
    }
}

/// Removes all that is in `directory`, which is at `path`, but for what `keep` wants.
pub fn remove_content(
    directory: BorrowedFd<'_>,
    path: &[u8],
    keep: &dyn Fn(&[u8]) -> bool,
) -> Result<()> {
    for (name, _) in list(directory, path)? {
        remove(directory, &name, &join(path, &name), keep)?;
    }
    Ok(())
}

/// The directory `name`; `None` if it is something else that was to be kept.
fn open_level(directory: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Option<Level>> {
    let stat = crate::layer::inode::stat_at(directory, name, path)?;
    match stat.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Some(FileType::Directory) => {}
        _ => return Ok(None),
    }
    let directory = open_directory(directory, name, path)?;
    let names = list(directory.as_fd(), path)?;
    Ok(Some(Level {
        path: path.to_vec(),
        name: name.to_vec(),
        directory,
        names,
        kept: false,
    }))
}

/// Depth first, without recursion: an image decides how deep its directories are.
fn remove_levels(root: BorrowedFd<'_>, first: Level, keep: &dyn Fn(&[u8]) -> bool) -> Result<()> {
    let mut levels = vec![first];
    while let Some(level) = levels.last_mut() {
        if let Some((name, _)) = level.names.pop() {
            let path = join(&level.path, &name);
            let kept = keep(&path);
            if !kept && unlink_file(&level.directory, &name, &path)? {
                continue;
            }
            level.kept |= kept;
            let next = open_level(level.directory.as_fd(), &name, &path)?;
            levels.extend(next);
            continue;
        }
        let Some(done) = levels.pop() else { break };
        let kept = done.kept || keep(&done.path);
        let parent = levels.last_mut();
        if kept {
            parent.into_iter().for_each(|parent| parent.kept = true);
            continue;
        }
        let parent = parent.map_or(root, |parent| parent.directory.as_fd());
        unlink(parent, &done.name, AtFlags::REMOVEDIR)
            .map_err(|error| fail("remove", &done.path, error))?;
    }
    Ok(())
}

/// Removes what isn't a directory; `false` if it is one.
fn unlink_file(directory: impl AsFd, name: &[u8], path: &[u8]) -> Result<bool> {
    match unlink(directory, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        // unlink(2): EISDIR on Linux, EPERM by POSIX.
        Err(Errno::ISDIR | Errno::PERM) => Ok(false),
        Err(error) => Err(fail("remove", path, error)),
    }
}

fn unlink(directory: impl AsFd, name: &[u8], flags: AtFlags) -> Result<(), Errno> {
    match rustix::fs::unlinkat(directory, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

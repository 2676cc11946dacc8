//! The differ of two complete trees.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;

use super::DiffOptions;
use super::compare::{is_same, same_attributes};
use super::walk::{Level, Place, Walk, check_name, reopen};
use crate::layer::entry::{Entry, EntrySink, Kind};
use crate::layer::error::Result;
use crate::layer::inode::{Inode, file_type, list, stat_at};
use crate::layer::whiteout::is_host_xattr;

/// Sends `sink` what makes the complete tree `upper` of the complete tree `lower` (`None`: of an
/// empty one).
///
/// A file with several names counts as changed when it has another number of them than below, so
/// that a new name comes with the file that it belongs to. If one name went and another came, the
/// new one is a file of its own.
pub fn trees(
    lower: Option<BorrowedFd<'_>>,
    upper: BorrowedFd<'_>,
    options: &DiffOptions,
    sink: &mut dyn EntrySink,
) -> Result<()> {
    let mut walk = Walk::new(options, sink);
    let lower = lower.map(reopen).transpose()?;
    enter(&mut walk, Vec::new(), reopen(upper)?, lower, None)?;
    while let Some((name, place)) = walk.next() {
        let Place { path, upper, lower } = place;
        let Some(inode) = Inode::read(upper, &name, &path)? else {
            continue;
        };
        let Some(kind) = inode.kind(upper, &name, &path)? else {
            continue;
        };
        let entry = inode.entry(&path, kind, |name| !is_host_xattr(name));
        let below = match lower {
            Some(lower) => stat_at(lower, &name, &path)?.map(|stat| (lower, stat)),
            None => None,
        };
        if entry.kind == Kind::Directory {
            let below = match below {
                Some((lower, stat)) if file_type(&stat) == FileType::Directory => {
                    Some(Inode::with_stat(lower, &name, &path, stat)?)
                }
                _ => None,
            };
            descend(&mut walk, entry, inode, below)?;
            continue;
        }
        let same = match below {
            Some((lower, stat)) if stat.st_nlink == inode.stat.st_nlink => {
                is_same(&inode, &entry, lower, &name, stat)?
            }
            _ => false,
        };
        if !same || walk.has_sent(&inode.stat) {
            walk.send_inode(entry, inode)?;
        }
    }
    Ok(())
}

fn descend(walk: &mut Walk<'_>, entry: Entry, inode: Inode, below: Option<Inode>) -> Result<()> {
    let path = entry.path.clone();
    let waiting = match &below {
        Some(below) if same_attributes(&inode, below) => Some(entry),
        _ => {
            walk.send(entry, None)?;
            None
        }
    };
    match inode.file {
        Some(upper) => enter(
            walk,
            path,
            upper,
            below.and_then(|below| below.file),
            waiting,
        ),
        None => Ok(()),
    }
}

/// Goes into a directory, and first sends whiteouts of what is gone from it.
fn enter(
    walk: &mut Walk<'_>,
    path: Vec<u8>,
    upper: OwnedFd,
    lower: Option<OwnedFd>,
    waiting: Option<Entry>,
) -> Result<()> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for (name, _) in list(upper.as_fd(), &path)? {
        check_name(&name, &crate::layer::entry::join(&path, &name))?;
        names.push(name);
    }
    let mut gone = Vec::new();
    if let Some(lower) = &lower {
        for (name, kind) in list(lower.as_fd(), &path)? {
            // A socket is in no layer, so none of it can be gone.
            if kind != FileType::Socket && names.binary_search(&name).is_err() {
                gone.push(name);
            }
        }
    }
    names.reverse();
    walk.enter(Level {
        path,
        upper,
        lower,
        names,
        waiting,
    });
    gone.iter().try_for_each(|name| walk.send_whiteout(name))
}

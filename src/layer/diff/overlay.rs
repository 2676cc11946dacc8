//! The differ of an overlay's upper directory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;

use super::DiffOptions;
use super::compare::{is_same, same_attributes};
use super::walk::{Level, Place, Walk, check_name, reopen};
use crate::layer::entry::{EntrySink, Kind, Xattrs, join};
use crate::layer::error::{Error, Result};
use crate::layer::inode::{Inode, directory_xattrs, file_type, list, stat_at};
use crate::layer::whiteout::{OverlayXattrs, is_host_xattr, opaque_entry};

/// Sends `sink` what the overlay upper directory `upper` changes in `lower`, the merged read-only
/// view of what it lies on (`None`: nothing lies below).
///
/// Nothing may write to `upper` meanwhile: a file that changes its length is noticed, one that
/// keeps it is not.
pub fn overlay(
    upper: BorrowedFd<'_>,
    lower: Option<BorrowedFd<'_>>,
    options: &DiffOptions,
    sink: &mut dyn EntrySink,
) -> Result<()> {
    let mut walk = Walk::new(options, sink);
    let marks = Marks::of(options.xattrs, &directory_xattrs(upper, b"")?, b"")?;
    let lower = lower.map(reopen).transpose()?;
    enter(&mut walk, Vec::new(), reopen(upper)?, lower, None, &marks)?;
    while let Some((name, place)) = walk.next() {
        match visit(options, &name, &place)? {
            Visit::Leave => {}
            Visit::Send(inode, kind) => {
                let entry = inode.entry(&place.path, kind, |name| !is_host_xattr(name));
                walk.send_inode(entry, inode)?;
            }
            Visit::Directory(directory) => descend(&mut walk, directory)?,
        }
    }
    Ok(())
}

/// What is to be done with a name.
enum Visit {
    Leave,
    Send(Inode, Kind),
    Directory(Directory),
}

/// A directory of the upper tree, and what is at its path below.
struct Directory {
    path: Vec<u8>,
    inode: Inode,
    below: Option<Inode>,
    marks: Marks,
}

/// What overlayfs says of a directory or file by its extended attributes.
#[derive(Debug, Default)]
struct Marks {
    /// Nothing of the directory below shows through.
    opaque: bool,
    /// Some files in the directory are whiteouts by extended attribute (Linux 6.7, `opaque=x`).
    holds_xattr_whiteouts: bool,
    /// The file is such a whiteout.
    whiteout: bool,
}

impl Marks {
    fn of(space: OverlayXattrs, xattrs: &Xattrs, path: &[u8]) -> Result<Marks> {
        let mut marks = Marks::default();
        for (name, value) in xattrs {
            match space.strip(name) {
                Some(b"opaque") => {
                    marks.opaque = value == b"y";
                    marks.holds_xattr_whiteouts = value == b"x";
                }
                Some(b"whiteout") => marks.whiteout = true,
                Some(b"redirect" | b"metacopy") => {
                    let xattr = String::from_utf8_lossy(name).into_owned();
                    return Err(Error::Redirect {
                        path: path.to_vec(),
                        xattr,
                    });
                }
                _ => {}
            }
        }
        Ok(marks)
    }
}

fn visit(options: &DiffOptions, name: &[u8], place: &Place<'_>) -> Result<Visit> {
    let Place { path, upper, lower } = place;
    let Some(inode) = Inode::read(*upper, name, path)? else {
        return Ok(Visit::Leave);
    };
    check_name(name, path)?;
    let marks = Marks::of(options.xattrs, &inode.xattrs, path)?;
    let Some(kind) = inode.kind(*upper, name, path)? else {
        return Ok(Visit::Leave);
    };
    let below = match lower {
        Some(lower) => stat_at(*lower, name, path)?.map(|stat| (*lower, stat)),
        None => None,
    };
    if kind == Kind::Directory {
        let below = match below {
            Some((lower, stat)) if file_type(&stat) == FileType::Directory => {
                Some(Inode::with_stat(lower, name, path, stat)?)
            }
            _ => None,
        };
        return Ok(Visit::Directory(Directory {
            path: path.clone(),
            inode,
            below,
            marks,
        }));
    }
    // One of several names is never left out: the others may need it as their link's target.
    if let (Some((lower, stat)), 1) = (below, inode.stat.st_nlink) {
        let entry = inode.entry(path, kind.clone(), |name| !is_host_xattr(name));
        if is_same(&inode, &entry, lower, name, stat)? {
            return Ok(Visit::Leave);
        }
    }
    Ok(Visit::Send(inode, kind))
}

fn descend(walk: &mut Walk<'_>, directory: Directory) -> Result<()> {
    let Directory {
        path,
        inode,
        below,
        mut marks,
    } = directory;
    // The kernel marks new directories opaque too, which says nothing if nothing is below.
    marks.opaque &= below.is_some();
    let entry = inode.entry(&path, Kind::Directory, |name| !is_host_xattr(name));
    let same = !marks.opaque
        && below
            .as_ref()
            .is_some_and(|below| same_attributes(&inode, below));
    let waiting = if same {
        Some(entry)
    } else {
        walk.send(entry, None)?;
        None
    };
    if marks.opaque {
        walk.send(opaque_entry(&path), None)?;
    }
    let lower = below.and_then(|below| below.file).filter(|_| !marks.opaque);
    match inode.file {
        Some(upper) => enter(walk, path, upper, lower, waiting, &marks),
        None => Ok(()),
    }
}

/// Goes into a directory, and sends the whiteouts in it before all else.
fn enter(
    walk: &mut Walk<'_>,
    path: Vec<u8>,
    upper: OwnedFd,
    lower: Option<OwnedFd>,
    waiting: Option<crate::layer::entry::Entry>,
    marks: &Marks,
) -> Result<()> {
    let space = walk.options.xattrs;
    let mut names = Vec::new();
    let mut whiteouts = Vec::new();
    for (name, kind) in list(upper.as_fd(), &path)? {
        let hides = is_whiteout(space, upper.as_fd(), &path, &name, kind, marks)?;
        if hides {
            whiteouts.push(name)
        } else {
            names.push(name)
        }
    }
    names.reverse();
    // A whiteout of what isn't there would hide nothing; overlayfs leaves such behind when a file
    // is renamed over another.
    let mut hiding = Vec::new();
    if let Some(lower) = &lower {
        for name in whiteouts {
            if stat_at(lower.as_fd(), &name, &join(&path, &name))?.is_some() {
                hiding.push(name);
            }
        }
    }
    walk.enter(Level {
        path,
        upper,
        lower,
        names,
        waiting,
    });
    hiding.iter().try_for_each(|name| walk.send_whiteout(name))
}

fn is_whiteout(
    space: OverlayXattrs,
    upper: BorrowedFd<'_>,
    directory: &[u8],
    name: &[u8],
    kind: FileType,
    marks: &Marks,
) -> Result<bool> {
    let path = || join(directory, name);
    let worth_asking = match kind {
        FileType::CharacterDevice | FileType::Unknown => true,
        FileType::RegularFile => marks.holds_xattr_whiteouts,
        _ => false,
    };
    if !worth_asking {
        return Ok(false);
    }
    let Some(stat) = stat_at(upper, name, &path())? else {
        return Ok(false);
    };
    match file_type(&stat) {
        FileType::CharacterDevice => Ok(stat.st_rdev == 0),
        FileType::RegularFile if marks.holds_xattr_whiteouts && stat.st_size == 0 => {
            let inode = Inode::with_stat(upper, name, &path(), stat)?;
            Ok(Marks::of(space, &inode.xattrs, &path())?.whiteout)
        }
        _ => Ok(false),
    }
}

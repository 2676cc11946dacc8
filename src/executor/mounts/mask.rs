//! Hiding files and directories of proc and sysfs, and refusing writes to others.
//!
//! A file is hidden under `/dev/null`, a directory under an empty, read-only tmpfs: the manner of
//! the OCI runtimes, which programs know. What isn't there needs no hiding.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};

use super::{INERT, clone_tree, make, move_to};
use crate::executor::sys;

/// The covers, in init.
#[derive(Debug)]
pub struct Masks<'a> {
    empty: BorrowedFd<'a>,
    attached: bool,
}

/// The empty directory that covers directories; made by the parent, detached.
pub fn empty_directory() -> sys::Result<OwnedFd> {
    let attributes = INERT | MountAttrFlags::MOUNT_ATTR_RDONLY;
    make(
        c"tmpfs",
        &[(c"size", c"0"), (c"nr_inodes", c"1")],
        attributes,
    )
}

impl<'a> Masks<'a> {
    /// Covers, of which `empty` is the one for directories.
    pub fn new(empty: BorrowedFd<'a>) -> Masks<'a> {
        Masks {
            empty,
            attached: false,
        }
    }

    /// Hides `name` in `dir`. Async-signal-safe.
    pub fn hide(&mut self, dir: impl AsFd, name: &CStr) -> sys::Result<()> {
        let Some(target) = open_path(dir, name)? else {
            return Ok(());
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode);
        if kind == FileType::Directory {
            self.hide_directory(&target)
        } else {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            // Still the host's: this runs before the step's root is entered.
            let null = rustix::mount::open_tree(CWD, c"/dev/null", flags)?;
            // It is the host's inode: no chmod of it from inside.
            sys::set_mount_attributes(&null, MountAttrFlags::MOUNT_ATTR_RDONLY, false)?;
            move_to(null, target)
        }
    }

    /// The first time attaches the tmpfs itself, later times clones of it: before Linux 6.15 only
    /// what is attached can be cloned.
    fn hide_directory(&mut self, target: &OwnedFd) -> sys::Result<()> {
        if self.attached {
            return move_to(clone_tree(self.empty)?, target);
        }
        self.attached = true;
        move_to(self.empty, target)
    }
}

/// Makes `name` in `dir` read-only, whatever its modes say. Async-signal-safe.
pub fn write_protect(dir: impl AsFd, name: &CStr) -> sys::Result<()> {
    let Some(target) = open_path(dir, name)? else {
        return Ok(());
    };
    let tree = clone_tree(&target)?;
    sys::set_mount_attributes(&tree, MountAttrFlags::MOUNT_ATTR_RDONLY, true)?;
    move_to(tree, target)
}

/// `None`: it isn't there.
fn open_path(dir: impl AsFd, name: &CStr) -> sys::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

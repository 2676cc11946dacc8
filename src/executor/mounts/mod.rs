//! What is mounted over a step's root: made by the parent as far as it can be, attached by init.
//!
//! A mount is made detached and attached from descriptor to descriptor; no path of the image is
//! ever given to the kernel as a place to mount on. The parent makes what needs only privileges
//! (tmpfs, devpts, binds) with ordinary Rust and good errors; init makes what takes its content
//! from the namespaces it lives in: proc (PID), mqueue (IPC), sysfs (network).
//!
//! `parent` what the caller asked for · `dev` devices · `proc`, `sys` the kernel's two trees ·
//! `mask` hiding and write-protecting parts of them.

pub mod dev;
pub mod mask;
pub mod parent;
pub mod proc;
pub mod sys;

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use super::channel::{Failure, InStage, Stage};
use super::sys as call;
use mask::Masks;

/// Attributes of a file system that holds neither programs nor devices.
pub const INERT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// One mount that init attaches.
#[derive(Debug)]
pub struct Attachment {
    /// Where: a descriptor in the root, or in a tree that an earlier attachment puts there.
    pub target: OwnedFd,
    /// Its path inside the root, for messages.
    pub path: PathBuf,
    /// What it is, for messages.
    pub what: String,
    /// What it is.
    pub kind: Kind,
}

/// What an [`Attachment`] attaches.
#[derive(Debug)]
pub enum Kind {
    /// A detached mount.
    Detached(OwnedFd),
    /// A file or directory inside a detached mount, where the kernel clones only what is
    /// attached somewhere (before Linux 6.15).
    Part {
        /// The detached mount.
        tree: OwnedFd,
        /// What to show of it.
        part: OwnedFd,
        /// How to restrict it.
        attributes: MountAttrFlags,
    },
    /// A new proc; restricted as the OCI runtimes do or not.
    Proc {
        /// Mask and write-protect.
        restricted: bool,
    },
    /// A new sysfs, or the host's; restricted or not.
    Sys {
        /// Mask and write-protect.
        restricted: bool,
    },
    /// A new mqueue.
    MessageQueues,
}

/// Attaches `attachment`, in init. Async-signal-safe.
pub fn attach(attachment: &Attachment, index: usize, masks: &mut Masks<'_>) -> Result<(), Failure> {
    let target = &attachment.target;
    match &attachment.kind {
        Kind::Detached(tree) => move_to(tree, target).stage_of(Stage::Mount, index),
        Kind::Part {
            tree,
            part,
            attributes,
        } => attach_part(tree, part, *attributes, target).stage_of(Stage::Mount, index),
        Kind::Proc { restricted } => {
            let mount = proc::attach(target).stage_of(Stage::Mount, index)?;
            if *restricted {
                proc::restrict(&mount, masks)
            } else {
                Ok(())
            }
            .stage_of(Stage::Mask, index)
        }
        Kind::Sys { restricted } => {
            let mount = sys::attach(target, *restricted).stage_of(Stage::Mount, index)?;
            if *restricted {
                sys::restrict(&mount, masks)
            } else {
                Ok(())
            }
            .stage_of(Stage::Mask, index)
        }
        Kind::MessageQueues => match make(c"mqueue", &[], INERT) {
            // A kernel without POSIX message queues has nothing to show.
            Err(Errno::NODEV) => Ok(()),
            Err(errno) => Err(errno),
            Ok(queues) => move_to(queues, target),
        }
        .stage_of(Stage::Mount, index),
    }
}

/// Moves a detached mount onto `target`.
pub fn move_to(tree: impl AsFd, target: impl AsFd) -> call::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, c"", target, c"", flags)
}

/// Clones `part`, having attached `tree` on top of the host's root in this namespace if it must be
/// attached: a place where nobody looks and that goes away with the host's mounts.
fn attach_part(
    tree: &OwnedFd,
    part: &OwnedFd,
    attributes: MountAttrFlags,
    target: &OwnedFd,
) -> call::Result<()> {
    let clone = match clone_tree(part) {
        Err(Errno::INVAL) => {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            rustix::mount::move_mount(tree, c"", CWD, c"/", flags)?;
            clone_tree(part)?
        }
        cloned => cloned?,
    };
    call::set_mount_attributes(&clone, attributes, true)?;
    move_to(clone, target)
}

/// A detached mount of what `fd` is open on, with what is mounted below it.
///
/// In a user namespace it must be "with": the kernel does not let us uncover what the mounts of a
/// more privileged namespace cover.
pub fn clone_tree(fd: impl AsFd) -> call::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(fd, c"", flags)
}

/// A new file system of this kind with these options (an empty value: a flag), detached.
/// Async-signal-safe.
pub fn make(
    kind: &CStr,
    options: &[(&CStr, &CStr)],
    attributes: MountAttrFlags,
) -> call::Result<OwnedFd> {
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Only a name, for /proc/mounts: without it that says "none".
    rustix::mount::fsconfig_set_string(&fs, c"source", kind)?;
    for &(key, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(&fs, key)?;
        } else {
            rustix::mount::fsconfig_set_string(&fs, key, value)?;
        }
    }
    rustix::mount::fsconfig_create(&fs)?;
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Attaches the step's root on top of the host's, and makes it `/`; the host's mounts are still
/// below it, at the same place.
pub fn enter_root(root: impl AsFd) -> call::Result<()> {
    rustix::process::fchdir(root)?;
    // Old root and new root at the same place: pivot_root(2), "pivot_root(".", ".")".
    rustix::process::pivot_root(c".", c".")
}

/// Lets go of the host's mounts, which [`enter_root`] left on top of the new root.
pub fn leave_host() -> call::Result<()> {
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}

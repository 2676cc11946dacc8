//! `/sys`, read-only. Everything here runs in init: async-signal-safe.
//!
//! A new sysfs shows the network namespace it is made in, and the kernel makes one only for those
//! who own that namespace. A user namespace with the host's network does not (`EPERM`), nor one
//! that sees a masked sysfs only; there the host's own tree is shown, write-protected to its last
//! mount, less the file systems that hang below it.
//!
//! `/sys/fs/cgroup` is an empty directory either way: a step gets no cgroup of its own, and
//! rstore's is none of its business.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::mask::Masks;
use super::{INERT, clone_tree, make, move_to};
use crate::executor::sys;

/// What docker hides.
const HIDDEN: [&CStr; 2] = [c"firmware", c"devices/virtual/powercap"];

/// Where other file systems are mounted on a host's `/sys`; empty on a new one.
const HIDDEN_OF_THE_HOST: [&CStr; 6] = [
    c"fs/cgroup",
    c"fs/bpf",
    c"fs/pstore",
    c"kernel/debug",
    c"kernel/security",
    c"kernel/tracing",
];

/// An attached sysfs.
pub struct Tree {
    mount: OwnedFd,
    is_the_hosts: bool,
}

/// Attaches a new sysfs, or the host's where that is refused.
pub fn attach(target: impl AsFd, read_only: bool) -> sys::Result<Tree> {
    let attributes = if read_only {
        INERT | MountAttrFlags::MOUNT_ATTR_RDONLY
    } else {
        INERT
    };
    let tree = match make(c"sysfs", &[], attributes) {
        Err(Errno::PERM) => Tree {
            mount: hosts(attributes)?,
            is_the_hosts: true,
        },
        made => Tree {
            mount: made?,
            is_the_hosts: false,
        },
    };
    move_to(&tree.mount, target)?;
    Ok(tree)
}

fn hosts(attributes: MountAttrFlags) -> sys::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mount = clone_tree(rustix::fs::openat(CWD, c"/sys", flags, Mode::empty())?)?;
    sys::set_mount_attributes(&mount, attributes, true)?;
    Ok(mount)
}

/// Hides what docker hides, and what isn't sysfs.
pub fn restrict(tree: &Tree, masks: &mut Masks<'_>) -> sys::Result<()> {
    for name in HIDDEN {
        masks.hide(&tree.mount, name)?;
    }
    if tree.is_the_hosts {
        for name in HIDDEN_OF_THE_HOST {
            masks.hide(&tree.mount, name)?;
        }
    }
    Ok(())
}

//! `/dev`: a tmpfs with the six devices every program expects, terminals, shared memory.
//!
//! ```text
//!   /dev            tmpfs, nodev      a node that the step makes here opens nothing
//!   ├─ null, zero…  bound from        nodes on a tmpfs of their own, which the step cannot name,
//!   │                                 or the host's where the kernel lets us make none
//!   ├─ pts, shm, mqueue               file systems of their own
//!   └─ fd, stdin, stdout, stderr, ptmx   links
//! ```
//!
//! Docker's steps hold `CAP_MKNOD`, and what keeps them from `mknod sda b 8 0` is a cgroup. We
//! make no cgroups: every mount that a sandboxed step can write to is `nodev`, so that the node is
//! made, and committed if it is in the image, but opens nothing.
//!
//! In a user namespace the kernel makes no nodes at all (`EPERM`). The host's own are bound then,
//! read-only: that forbids chmod and chown of the host's inode, not writing to the device.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};

use super::parent::part_of;
use super::{Attachment, INERT, Kind, make};
use crate::executor::Error;
use crate::executor::resolve::Shape;
use crate::executor::stubs::make_empty;
use crate::executor::sys;

/// (name, major, minor), as the kernel's admin-guide/devices has them.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

const DIRECTORIES: [&str; 3] = ["pts", "shm", "mqueue"];

/// A `/dev` that isn't attached yet.
#[derive(Debug)]
pub struct Devices {
    /// The tmpfs.
    pub tree: OwnedFd,
    /// The devpts for `/dev/pts`: a duplicate, to make terminals in.
    pub terminals: OwnedFd,
    /// The tmpfs for `/dev/shm`.
    pub shared_memory: OwnedFd,
    /// What is mounted inside of it, to be attached after it; `/dev/shm` is not among them.
    pub inside: Vec<Attachment>,
}

/// Makes a `/dev`; with `devices_open` also the nodes that the step makes itself open devices.
pub fn make_devices(shm_size: u64, devices_open: bool) -> Result<Devices, Error> {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, !devices_open);
    let tree = make(c"tmpfs", &OPTIONS, attributes).map_err(failed("tmpfs", ""))?;
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &tree, name).map_err(failed("link", name))?;
    }
    for name in DIRECTORIES {
        make_empty(tree.as_fd(), OsStr::new(name), Shape::Directory)
            .map_err(failed("directory", name))?;
    }
    let devpts = terminals()?;
    let terminals = rustix::io::fcntl_dupfd_cloexec(&devpts, 0).map_err(failed("devpts", "pts"))?;
    let mut inside = vec![
        inside(&tree, "pts", "devpts", Kind::Detached(devpts))?,
        inside(&tree, "mqueue", "mqueue", Kind::MessageQueues)?,
    ];
    let nodes = make(c"tmpfs", &OPTIONS, NODE_ATTRIBUTES).map_err(failed("tmpfs", ""))?;
    for device in DEVICES {
        inside.push(add_device(&tree, &nodes, device)?);
    }
    let shared_memory = shared_memory(shm_size).map_err(failed("tmpfs", "shm"))?;
    Ok(Devices {
        tree,
        terminals,
        shared_memory,
        inside,
    })
}

const OPTIONS: [(&CStr, &CStr); 2] = [(c"mode", c"755"), (c"size", c"64k")];

const NODE_ATTRIBUTES: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

fn shared_memory(size: u64) -> sys::Result<OwnedFd> {
    // A number's text holds no NUL.
    let size = CString::new(size.to_string()).unwrap_or_default();
    make(c"tmpfs", &[(c"mode", c"1777"), (c"size", &size)], INERT)
}

/// A devpts of its own. Group 5 is `tty` wherever `grantpt` matters; where it isn't mapped, the
/// kernel says `EINVAL`, and terminals belong to their user's group.
fn terminals() -> Result<OwnedFd, Error> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options: [(&CStr, &CStr); 4] = [
        (c"newinstance", c""),
        (c"ptmxmode", c"0666"),
        (c"mode", c"0620"),
        (c"gid", c"5"),
    ];
    match make(c"devpts", &options, attributes) {
        Err(Errno::INVAL) => make(c"devpts", &options[..3], attributes),
        made => made,
    }
    .map_err(failed("devpts", "pts"))
}

/// A device on an empty file in `tree`: a new node of `nodes`, or the host's.
fn add_device(
    tree: &OwnedFd,
    nodes: &OwnedFd,
    (name, major, minor): (&str, u32, u32),
) -> Result<Attachment, Error> {
    make_empty(tree.as_fd(), OsStr::new(name), Shape::File).map_err(failed("file", name))?;
    let device = rustix::fs::makedev(major, minor);
    let mode = Mode::from_raw_mode(0o666);
    let kind = match rustix::fs::mknodat(nodes, name, FileType::CharacterDevice, mode, device) {
        Ok(()) => new_node(nodes, name),
        Err(Errno::PERM) => hosts_node(name),
        Err(errno) => Err(errno),
    };
    inside(
        tree,
        name,
        "a device",
        kind.map_err(failed("a device", name))?,
    )
}

fn new_node(nodes: &OwnedFd, name: &str) -> sys::Result<Kind> {
    // The mode given to mknod(2) is cut by the umask.
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::chmodat(nodes, name, mode, AtFlags::empty())?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::openat(nodes, name, flags, Mode::empty())?;
    part_of(
        rustix::io::fcntl_dupfd_cloexec(nodes, 0)?,
        node,
        NODE_ATTRIBUTES,
    )
}

fn hosts_node(name: &str) -> sys::Result<Kind> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let node = rustix::mount::open_tree(CWD, Path::new("/dev").join(name), flags)?;
    sys::set_mount_attributes(
        &node,
        NODE_ATTRIBUTES | MountAttrFlags::MOUNT_ATTR_RDONLY,
        false,
    )?;
    Ok(Kind::Detached(node))
}

fn inside(tree: &OwnedFd, name: &str, what: &str, kind: Kind) -> Result<Attachment, Error> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(tree, name, flags, Mode::empty())
        .map_err(failed("mount point", name))?;
    Ok(Attachment {
        target,
        path: Path::new("/dev").join(name),
        what: what.to_owned(),
        kind,
    })
}

fn failed(what: &'static str, name: &str) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::Mount {
        what: what.to_owned(),
        target: Path::new("/dev").join(name),
        source: errno.into(),
        hint: super::parent::hint(errno),
    }
}

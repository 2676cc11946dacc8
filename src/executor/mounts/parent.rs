//! The caller's mounts, made detached by the parent.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::{Kind, clone_tree, make};
use crate::executor::resolve::Shape;
use crate::executor::sys;
use crate::executor::{Error, Mount, Source};
use crate::fsutil::{self, IoContext};

/// A mount that is ready to be attached.
#[derive(Debug)]
pub struct Ready {
    /// What to attach.
    pub kind: Kind,
    /// Whether it needs a directory or a file to be mounted on.
    pub shape: Shape,
    /// What it is, for messages.
    pub what: String,
}

/// Makes `mount`'s tree, detached, with its attributes and `also` these.
pub fn make_ready(mount: &Mount, also: MountAttrFlags) -> Result<Ready, Error> {
    let attributes = attributes(mount) | also;
    let what = describe(&mount.source);
    let failed = |errno: Errno| Error::Mount {
        what: what.clone(),
        target: mount.target.clone(),
        source: errno.into(),
        hint: hint(errno),
    };
    let kind = match &mount.source {
        Source::Path(path) => {
            let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            restricted(clone_tree(fd.at("open", path)?), attributes).map_err(failed)?
        }
        Source::Fd(fd) => restricted(clone_tree(fd), attributes).map_err(failed)?,
        Source::Tree { tree, path } => {
            let inside = path.strip_prefix("/").unwrap_or(path);
            let inside = if inside.as_os_str().is_empty() {
                Path::new(".")
            } else {
                inside
            };
            let part = fsutil::open_in_root(tree, inside, OFlags::PATH, Mode::empty())?;
            let tree = tree.try_clone().map_err(host("duplicate a descriptor"))?;
            part_of(tree, part, attributes).map_err(failed)?
        }
        Source::Tmpfs { size, mode } => {
            Kind::Detached(tmpfs(*size, *mode, attributes).map_err(failed)?)
        }
        Source::Bytes { bytes, mode, owner } => {
            let tree = file_system_of_one().map_err(failed)?;
            write_file(&tree, bytes, *mode, *owner)?;
            let part =
                rustix::fs::openat(&tree, FILE, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                    .map_err(failed)?;
            part_of(tree, part, attributes).map_err(failed)?
        }
    };
    let shape = shape(&kind).map_err(failed)?;
    Ok(Ready { kind, shape, what })
}

/// The name of the one file in the tmpfs of [`Source::Bytes`]; nobody sees it.
const FILE: &str = "file";

fn attributes(mount: &Mount) -> MountAttrFlags {
    let mut attributes = MountAttrFlags::empty();
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, mount.read_only);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, mount.nosuid);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, mount.nodev);
    attributes
}

fn describe(source: &Source) -> String {
    match source {
        Source::Path(path) => path.display().to_string(),
        Source::Fd(_) => "a descriptor".to_owned(),
        Source::Tree { path, .. } => format!("{} of an image", path.display()),
        Source::Tmpfs { .. } => "tmpfs".to_owned(),
        Source::Bytes { .. } => "a file in memory".to_owned(),
    }
}

/// `tree`, restricted in all that it holds.
fn restricted(tree: sys::Result<OwnedFd>, attributes: MountAttrFlags) -> sys::Result<Kind> {
    let tree = tree?;
    if !attributes.is_empty() {
        sys::set_mount_attributes(&tree, attributes, true)?;
    }
    Ok(Kind::Detached(tree))
}

/// A clone of `part` of a detached mount where the kernel gives one (Linux 6.15), so that the
/// same mount can serve several steps at once; else init has to attach the mount first.
pub fn part_of(tree: OwnedFd, part: OwnedFd, attributes: MountAttrFlags) -> sys::Result<Kind> {
    match clone_tree(&part) {
        Err(Errno::INVAL) => Ok(Kind::Part {
            tree,
            part,
            attributes,
        }),
        cloned => restricted(cloned, attributes),
    }
}

fn tmpfs(size: Option<u64>, mode: u32, attributes: MountAttrFlags) -> sys::Result<OwnedFd> {
    // The text of a number holds no NUL.
    let text = |text: String| CString::new(text).unwrap_or_default();
    let mode = text(format!("{:o}", mode & 0o7777));
    match size {
        None => make(c"tmpfs", &[(c"mode", &mode)], attributes),
        Some(size) => {
            let size = text(size.to_string());
            make(c"tmpfs", &[(c"mode", &mode), (c"size", &size)], attributes)
        }
    }
}

/// A tmpfs for a file that may be a secret: not swapped out where the kernel (Linux 6.4) and our
/// rights allow that, which in a user namespace they don't.
fn file_system_of_one() -> sys::Result<OwnedFd> {
    let unswapped = [(c"mode", c"0700"), (c"noswap", c"")];
    match make(c"tmpfs", &unswapped, MountAttrFlags::empty()) {
        Err(_) => tmpfs(None, 0o700, MountAttrFlags::empty()),
        made => made,
    }
}

fn write_file(tree: &OwnedFd, bytes: &[u8], mode: u32, owner: (u32, u32)) -> Result<(), Error> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(tree, FILE, flags, Mode::RUSR).at("create", FILE)?;
    let mut file = File::from(file);
    file.write_all(bytes)
        .map_err(host("write a file in memory"))?;
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    // Giving a file away clears its setuid bit, so the mode goes last.
    if owner != (0, 0) {
        rustix::fs::fchown(&file, Some(uid), Some(gid)).at("change the owner of", FILE)?;
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).at("change the mode of", FILE)?;
    Ok(())
}

fn shape(kind: &Kind) -> sys::Result<Shape> {
    match kind {
        Kind::Detached(fd) | Kind::Part { part: fd, .. } => Shape::of(fd),
        Kind::Proc { .. } | Kind::Sys { .. } | Kind::MessageQueues => Ok(Shape::Directory),
    }
}

fn host(doing: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Host { doing, source }
}

/// What to do about a refused mount.
pub fn hint(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::PERM => Some(
            "mounting needs CAP_SYS_ADMIN: run as root, or enter a user namespace (inside another \
             container: run that one with --privileged)",
        ),
        Errno::NOSYS => Some("rstore needs Linux 6.7 or later"),
        Errno::ROFS => Some("the root has no writable directory to make the mount point in"),
        _ => None,
    }
}

//! Mount points in a root that an image filled: found or made without ever leaving it.
//!
//! ```text
//!   /etc/resolv.conf ─┐ component by component, each opened O_PATH|O_NOFOLLOW in the one before
//!        etc          │   ".." goes back on our own stack, never by the kernel's
//!        resolv.conf ─┤   a link is read and walked in its place, from our root if absolute
//!                     │   what is missing is made (and noted, see `stubs`)
//!                     ▼
//!   a descriptor      where an earlier mount will lie on the path, the walk goes on in that tree
//! ```
//!
//! The parent does this on detached mounts, before anything is attached: so that a mount inside
//! an earlier mount (a secret below a tmpfs) finds its mount point, the resolver is told of each
//! tree and where it will be.
//!
//! The kernel's openat2(2) could walk (`RESOLVE_IN_ROOT`), but does not make what is missing, and
//! knows nothing of trees that aren't attached yet.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Error;
use super::stubs::Stubs;
use super::sys;

/// How many links one path may lead through, as in the kernel.
const MAX_LINKS: usize = 40;

/// What a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A directory, for directories.
    Directory,
    /// Anything else, for anything else.
    File,
}

impl Shape {
    /// The shape of what `fd` is open on.
    pub fn of(fd: impl AsFd) -> sys::Result<Shape> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
        Ok(if kind == FileType::Directory {
            Shape::Directory
        } else {
            Shape::File
        })
    }

    fn name(self) -> &'static str {
        match self {
            Shape::Directory => "directory",
            Shape::File => "file",
        }
    }
}

/// Whether links on the way are followed (inside the root) or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Followed, as docker does for what the user mounts.
    Follow,
    /// Refused, as for `/proc`: a kernel's file system under another name helps attackers only.
    Refuse,
}

/// A mount point: where it is, and its true path inside the root.
#[derive(Debug)]
pub struct Place {
    /// An `O_PATH` descriptor.
    pub fd: OwnedFd,
    /// The path without links and `..`.
    pub path: PathBuf,
}

/// Finds and makes mount points in one root.
#[derive(Debug)]
pub struct Resolver<'a> {
    root: BorrowedFd<'a>,
    mounted: Vec<(PathBuf, Option<OwnedFd>)>,
    stubs: &'a mut Stubs,
}

/// A step of the walk: the directory, and whether it belongs to the root itself.
#[derive(Debug)]
struct Level {
    name: OsString,
    fd: OwnedFd,
    of_root: bool,
}

impl<'a> Resolver<'a> {
    /// A resolver in `root`, noting in `stubs` what it makes there.
    pub fn new(root: BorrowedFd<'a>, stubs: &'a mut Stubs) -> Resolver<'a> {
        Resolver {
            root,
            mounted: Vec::new(),
            stubs,
        }
    }

    /// Says that `tree` will be mounted on `path`, or a tree that cannot be looked into.
    pub fn will_be_at(&mut self, path: PathBuf, tree: Option<OwnedFd>) {
        self.mounted.push((path, tree));
    }

    /// Finds the mount point `target`, making what is missing.
    pub fn mount_point(
        &mut self,
        target: &Path,
        shape: Shape,
        links: Links,
    ) -> Result<Place, Error> {
        let mut walk = Walk::new(target)?;
        while let Some(name) = walk.rest.pop_front() {
            if name == ".." {
                walk.levels.pop();
                continue;
            }
            let wanted = if walk.rest.is_empty() {
                shape
            } else {
                Shape::Directory
            };
            let (fd, of_root) = self.open_or_make(&walk, &name, wanted)?;
            match file_type(&fd, target)? {
                FileType::Symlink if links == Links::Refuse => {
                    return Err(wrong(walk.path_with(&name), "a symbolic link", wanted));
                }
                FileType::Symlink => walk.follow(&fd, target)?,
                _ => {
                    self.enter(&mut walk, Level { name, fd, of_root })?;
                    if !walk.rest.is_empty() {
                        walk.expect(Shape::Directory)?;
                    }
                }
            }
        }
        walk.finish(shape)
    }

    /// Goes down a level; into the tree that will cover it, if there is one.
    fn enter(&self, walk: &mut Walk, mut level: Level) -> Result<(), Error> {
        let path = walk.path_with(&level.name);
        match self.mounted.iter().rev().find(|(at, _)| *at == path) {
            // The point itself may be mounted over again, which is what the end of a path is for.
            _ if walk.rest.is_empty() => {}
            None => {}
            Some((_, Some(tree))) => {
                level.fd = duplicate(tree)?;
                level.of_root = false;
            }
            Some((at, None)) => {
                return Err(Error::Invalid(format!(
                    "cannot mount on {}: nothing can be mounted below {}; choose another target",
                    walk.target.display(),
                    at.display()
                )));
            }
        }
        walk.levels.push(level);
        Ok(())
    }

    /// Opens `name` in the walk's present directory, or makes it.
    fn open_or_make(
        &mut self,
        walk: &Walk,
        name: &OsString,
        wanted: Shape,
    ) -> Result<(OwnedFd, bool), Error> {
        let (dir, of_root) = match walk.levels.last() {
            Some(level) => (level.fd.as_fd(), level.of_root),
            None => (self.root, true),
        };
        let failed = |errno: Errno| Error::Mount {
            what: format!("something ({})", walk.path_with(name).display()),
            target: walk.target.clone(),
            source: errno.into(),
            hint: super::mounts::parent::hint(errno),
        };
        match open(dir, name) {
            Err(Errno::NOENT) => {}
            other => return other.map(|fd| (fd, of_root)).map_err(failed),
        }
        let path = walk.path_with(name);
        if of_root {
            self.stubs.make(dir, name, path, wanted).map_err(failed)?;
        } else {
            super::stubs::make_empty(dir, name, wanted).map_err(failed)?;
        }
        open(dir, name).map(|fd| (fd, of_root)).map_err(failed)
    }
}

/// A walk under way.
#[derive(Debug)]
struct Walk {
    target: PathBuf,
    levels: Vec<Level>,
    rest: VecDeque<OsString>,
    links: usize,
}

impl Walk {
    fn new(target: &Path) -> Result<Walk, Error> {
        let rest = components(target);
        if !target.is_absolute() || rest.is_empty() {
            return Err(Error::Invalid(format!(
                "cannot mount on {:?}: give an absolute path other than /",
                target.display().to_string()
            )));
        }
        Ok(Walk {
            target: target.to_path_buf(),
            levels: Vec::new(),
            rest,
            links: 0,
        })
    }

    /// Puts what the link says before the rest of the path.
    fn follow(&mut self, link: &OwnedFd, target: &Path) -> Result<(), Error> {
        self.links += 1;
        let failed = |errno: Errno| Error::Mount {
            what: "something".to_owned(),
            target: target.to_path_buf(),
            source: errno.into(),
            hint: None,
        };
        if self.links > MAX_LINKS {
            return Err(failed(Errno::LOOP));
        }
        let text = rustix::fs::readlinkat(link, "", Vec::new()).map_err(failed)?;
        let text = PathBuf::from(OsString::from_vec(text.into_bytes()));
        if text.is_absolute() {
            self.levels.clear();
        }
        for component in components(&text).into_iter().rev() {
            self.rest.push_front(component);
        }
        Ok(())
    }

    fn path_with(&self, name: &OsString) -> PathBuf {
        let mut path = PathBuf::from("/");
        path.extend(self.levels.iter().map(|level| &level.name));
        path.push(name);
        path
    }

    fn expect(&self, wanted: Shape) -> Result<(), Error> {
        let Some(level) = self.levels.last() else {
            return Ok(());
        };
        if Shape::of(&level.fd).ok() == Some(wanted) {
            return Ok(());
        }
        let found = match wanted {
            Shape::Directory => "a file",
            Shape::File => "a directory",
        };
        let mut path = PathBuf::from("/");
        path.extend(self.levels.iter().map(|level| &level.name));
        Err(wrong(path, found, wanted))
    }

    fn finish(mut self, shape: Shape) -> Result<Place, Error> {
        self.expect(shape)?;
        let mut path = PathBuf::from("/");
        path.extend(self.levels.iter().map(|level| &level.name));
        match self.levels.pop() {
            Some(level) => Ok(Place { fd: level.fd, path }),
            None => Err(Error::Invalid(format!(
                "cannot mount on {}: it leads to the root itself; choose another target",
                self.target.display()
            ))),
        }
    }
}

/// The names in `path`, `..` among them.
fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn open(dir: BorrowedFd<'_>, name: &OsString) -> sys::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn duplicate(fd: impl AsFd) -> Result<OwnedFd, Error> {
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(|source| Error::Host {
            doing: "duplicate a descriptor",
            source,
        })
}

fn file_type(fd: &OwnedFd, target: &Path) -> Result<FileType, Error> {
    match rustix::fs::fstat(fd) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode)),
        Err(errno) => Err(crate::fsutil::Error::new("stat", target, errno).into()),
    }
}

fn wrong(target: PathBuf, found: &'static str, wanted: Shape) -> Error {
    Error::MountPoint {
        target,
        found,
        wanted: wanted.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    struct Root {
        dir: tempfile::TempDir,
        fd: OwnedFd,
        stubs: Stubs,
    }

    impl Root {
        fn new() -> Root {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("root")).unwrap();
            let fd = crate::fsutil::open_dir(&dir.path().join("root")).unwrap();
            Root {
                dir,
                fd,
                stubs: Stubs::default(),
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join("root").join(name)
        }

        fn find(&mut self, target: &str, shape: Shape, links: Links) -> Result<PathBuf, Error> {
            let mut resolver = Resolver::new(self.fd.as_fd(), &mut self.stubs);
            resolver
                .mount_point(Path::new(target), shape, links)
                .map(|place| place.path)
        }
    }

    #[test]
    fn what_is_missing_is_made_and_removed_again() {
        let mut root = Root::new();
        fs::create_dir(root.path("etc")).unwrap();
        let before = fs::metadata(root.path("etc")).unwrap().modified().unwrap();
        let found = root.find("/etc/a/b", Shape::File, Links::Follow).unwrap();
        assert_eq!(found, Path::new("/etc/a/b"));
        assert!(root.path("etc/a/b").is_file());
        let removed = std::mem::take(&mut root.stubs).remove();
        assert_eq!(removed, [Path::new("/etc/a"), Path::new("/etc/a/b")]);
        assert!(!root.path("etc/a").exists());
        assert_eq!(
            fs::metadata(root.path("etc")).unwrap().modified().unwrap(),
            before
        );
    }

    #[test]
    fn a_stub_that_the_step_filled_is_kept() {
        let mut root = Root::new();
        root.find("/etc/hosts", Shape::File, Links::Follow).unwrap();
        fs::write(root.path("etc/hosts"), "mine").unwrap();
        assert!(std::mem::take(&mut root.stubs).remove().is_empty());
        assert_eq!(fs::read(root.path("etc/hosts")).unwrap(), b"mine");
    }

    #[test]
    fn links_stay_inside_the_root() {
        let mut root = Root::new();
        fs::create_dir(root.path("etc")).unwrap();
        symlink("/etc", root.path("absolute")).unwrap();
        symlink("../../../../etc", root.path("etc/upwards")).unwrap();
        for target in [
            "/absolute/new",
            "/etc/upwards/new",
            "/../../etc/new",
            "/absolute/../etc/new",
        ] {
            let found = root.find(target, Shape::File, Links::Follow).unwrap();
            assert_eq!(found, Path::new("/etc/new"), "{target}");
        }
    }

    #[test]
    fn a_link_to_nothing_has_its_target_made() {
        let mut root = Root::new();
        fs::create_dir(root.path("etc")).unwrap();
        symlink("../run/systemd/resolve/stub", root.path("etc/resolv.conf")).unwrap();
        let found = root
            .find("/etc/resolv.conf", Shape::File, Links::Follow)
            .unwrap();
        assert_eq!(found, Path::new("/run/systemd/resolve/stub"));
        assert_eq!(std::mem::take(&mut root.stubs).remove().len(), 4);
        assert!(!root.path("run").exists());
    }

    #[test]
    fn links_are_refused_where_the_kernels_trees_go() {
        let mut root = Root::new();
        symlink("/etc", root.path("proc")).unwrap();
        let error = root
            .find("/proc", Shape::Directory, Links::Refuse)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/proc") && error.contains("symbolic link"),
            "{error}"
        );
    }

    #[test]
    fn a_circle_of_links_ends() {
        let mut root = Root::new();
        symlink("b", root.path("a")).unwrap();
        symlink("a", root.path("b")).unwrap();
        assert!(root.find("/a/x", Shape::File, Links::Follow).is_err());
    }

    #[test]
    fn a_file_is_no_place_for_a_directory() {
        let mut root = Root::new();
        fs::write(root.path("file"), "").unwrap();
        for target in ["/file", "/file/below"] {
            let error = root
                .find(target, Shape::Directory, Links::Follow)
                .unwrap_err();
            assert!(
                error.to_string().contains("/file in the image is a file"),
                "{error}"
            );
        }
    }

    #[test]
    fn below_an_earlier_mount_the_mount_is_searched_not_the_root() {
        let mut root = Root::new();
        let other = tempfile::tempdir().unwrap();
        let tree = crate::fsutil::open_dir(other.path()).unwrap();
        let mut resolver = Resolver::new(root.fd.as_fd(), &mut root.stubs);
        let run = resolver
            .mount_point(Path::new("/run"), Shape::Directory, Links::Follow)
            .unwrap();
        resolver.will_be_at(run.path, Some(tree));
        resolver
            .mount_point(Path::new("/run/secrets/s"), Shape::File, Links::Follow)
            .unwrap();
        resolver.will_be_at("/proc".into(), None);
        let refused = resolver.mount_point(Path::new("/proc/x"), Shape::File, Links::Follow);
        assert!(refused.unwrap_err().to_string().contains("below /proc"));
        assert!(other.path().join("secrets/s").is_file());
        assert!(!root.path("run/secrets").exists());
    }
}

//! Finding, or making, the directory that an entry goes into.
//!
//! The fast way is one `openat2` beneath the root and without symbolic links, kept in a cache:
//! archives name a directory's files one after another. Where that fails the way is walked
//! component by component, in this layer and at the same time in the view of what is below:
//!
//! | in this layer | below | then |
//! |---|---|---|
//! | directory | | into it |
//! | link | | its target takes its place, from here or from the root |
//! | nothing | directory | made, with the attributes it has below |
//! | nothing | link | its target takes its place |
//! | nothing | nothing, another kind | made: 0755, root, mtime 0 |
//! | whiteout | | made so, opaque |
//! | another kind | | an error if this layer made it, else replaced |

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use hashbrown::{HashMap, HashSet};
use rustix::fs::{FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;

use super::attributes::{Attributes, set_time};
use super::remove::remove;
use super::way::{Level, Way};
use super::{Target, UnpackOptions};
use crate::fsutil::{self, open_beneath};
use crate::layer::entry::{Entry, Kind, Mtime, Xattrs, join};
use crate::layer::error::{EntryProblem, Error, Result, entry_path};
use crate::layer::inode::{
    Inode, directory_xattrs, fail, file_type, mtime, open_directory, read_link, stat_at,
};
use crate::layer::whiteout::{OverlayXattrs, is_host_xattr};

/// Directories kept open.
const CACHE_LIMIT: usize = 128;
/// The longest path that the kernel takes at once, with its NUL.
const PATH_LIMIT: usize = 4096;

/// A directory of the tree being made.
pub struct Directory {
    /// Open for reading.
    pub descriptor: OwnedFd,
    /// Where it is, without symbolic links.
    pub path: Vec<u8>,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// What has to wait until all is in a directory.
struct Deferred {
    mtime: Mtime,
    /// A mode without which the directory could not have been filled.
    mode: Option<u32>,
}

/// The tree being made: its root, the directories on the way, what is below.
pub struct Tree<'a> {
    pub root: Rc<Directory>,
    pub attributes: Attributes,
    target: Target<'a>,
    cache: HashMap<Vec<u8>, Rc<Directory>>,
    deferred: BTreeMap<Vec<u8>, Deferred>,
    /// What this layer has made, where a whiteout would otherwise remove it.
    made: HashSet<Vec<u8>>,
}

impl<'a> Tree<'a> {
    pub fn new(root: BorrowedFd<'_>, options: &UnpackOptions<'a>) -> Result<Tree<'a>> {
        let descriptor = open_directory(root, b".", b"")?;
        let attributes = Attributes {
            ignore_unmapped_owners: options.ignore_unmapped_owners,
            skipped: super::Skipped::default(),
        };
        let mut tree = Tree {
            root: Rc::new(Directory {
                descriptor,
                path: Vec::new(),
            }),
            attributes,
            target: options.target,
            cache: HashMap::new(),
            deferred: BTreeMap::new(),
            made: HashSet::new(),
        };
        tree.begin_root()?;
        Ok(tree)
    }

    /// The root shows through an overlay from its topmost layer, so that one must look like those
    /// below until an entry says otherwise.
    fn begin_root(&mut self) -> Result<()> {
        let root = Rc::clone(&self.root);
        let Target::Overlay { parent, .. } = self.target else {
            return self.remember(&root);
        };
        match parent {
            Some(parent) => {
                let inode = Inode::read(parent, b".", b"")?;
                self.set_directory(&root, &implicit_entry(b"", inode.as_ref()), &Xattrs::new())
            }
            None => {
                let mode = Mode::from_raw_mode(0o755);
                rustix::fs::fchmod(&root.descriptor, mode)
                    .map_err(|error| fail("change mode of", b"", error))?;
                self.defer(&root.path, Mtime::default(), None);
                Ok(())
            }
        }
    }

    /// Where the overlay looks for its marks, if this is to be part of one.
    pub fn overlay(&self) -> Option<OverlayXattrs> {
        match self.target {
            Target::Overlay { xattrs, .. } => Some(xattrs),
            _ => None,
        }
    }

    /// The view of what is below.
    pub fn below(&self) -> Option<BorrowedFd<'a>> {
        match self.target {
            Target::Overlay { parent, .. } => parent,
            _ => None,
        }
    }

    /// The directory `path`, by way of links, made if need be. `entry` is for messages.
    pub fn directory(&mut self, path: &[u8], entry: &[u8]) -> Result<Rc<Directory>> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some(directory) = self.cache.get(path) {
            return Ok(Rc::clone(directory));
        }
        let directory = match self.open(path) {
            Ok(descriptor) => Rc::new(Directory {
                descriptor,
                path: path.to_vec(),
            }),
            Err(error) if is_detour(&error) => self.walk(path, entry)?,
            Err(error) => return Err(error.into()),
        };
        self.remember(&directory)?;
        self.keep(path, &directory);
        Ok(directory)
    }

    fn open(&self, path: &[u8]) -> fsutil::Result<OwnedFd> {
        open_beneath(
            &self.root.descriptor,
            entry_path(path),
            OFlags::DIRECTORY,
            Mode::empty(),
        )
    }

    /// Puts a directory into the cache by the path that led to it.
    pub fn keep(&mut self, path: &[u8], directory: &Rc<Directory>) {
        if self.cache.len() >= CACHE_LIMIT {
            self.cache.clear();
        }
        self.cache.insert(path.to_vec(), Rc::clone(directory));
    }

    fn walk(&mut self, path: &[u8], entry: &[u8]) -> Result<Rc<Directory>> {
        let mut way = Way::new(&self.root, self.below(), path)?;
        while let Some(component) = way.ahead.pop() {
            match component.as_slice() {
                b"" | b"." => {}
                b".." => way.up(),
                _ => self.step(&mut way, &component, entry)?,
            }
        }
        Ok(way.here().directory)
    }

    /// One component of a way.
    fn step(&mut self, way: &mut Way, name: &[u8], entry: &[u8]) -> Result<()> {
        let Level { directory, below } = way.here();
        let path = join(&directory.path, name);
        let there = stat_at(directory.as_fd(), name, &path)?;
        match there.as_ref().map(file_type) {
            Some(FileType::Directory) => {
                let next = open_directory(directory.as_fd(), name, &path)?;
                let below = self.below_of(below.as_deref(), name, &path, next.as_fd())?;
                way.down(
                    Directory {
                        descriptor: next,
                        path,
                    },
                    below,
                );
                return Ok(());
            }
            Some(FileType::Symlink) => {
                return way.follow(read_link(directory.as_fd(), name, &path)?, entry);
            }
            Some(_) => self.clear_parent(&directory, name, &path, there.as_ref(), entry)?,
            None => {}
        }
        let inode = match (&below, &there) {
            (Some(below), None) => Inode::read(below.as_fd(), name, &path)?,
            _ => None,
        };
        match inode.as_ref().map(|inode| file_type(&inode.stat)) {
            Some(FileType::Symlink) => {
                let below = below
                    .as_ref()
                    .map_or(self.root.as_fd(), |below| below.as_fd());
                way.follow(read_link(below, name, &path)?, entry)
            }
            Some(FileType::Directory) => {
                let made = self.make_implicit(&directory, name, path, inode.as_ref())?;
                way.down(made, inode.and_then(|inode| inode.file));
                Ok(())
            }
            _ => {
                let made = self.make_implicit(&directory, name, path, None)?;
                if there.is_some() {
                    self.make_opaque(&made)?;
                }
                way.down(made, None);
                Ok(())
            }
        }
    }

    /// Removes what is no directory where one is needed: a whiteout, or a file from below.
    fn clear_parent(
        &mut self,
        directory: &Rc<Directory>,
        name: &[u8],
        path: &[u8],
        there: Option<&Stat>,
        entry: &[u8],
    ) -> Result<()> {
        let own = match self.target {
            Target::Overlay { .. } => !there.is_some_and(is_whiteout),
            Target::Tree => self.made.contains(path),
            Target::Plain => true,
        };
        if own {
            let problem = EntryProblem::ParentNotDirectory;
            return Err(Error::Entry {
                path: entry.to_vec(),
                problem,
            });
        }
        self.remember(directory)?;
        remove(directory.as_fd(), name, path, &|_| false)
    }

    /// The directory below `directory`'s child `name`, if it shows through it.
    fn below_of(
        &self,
        below: Option<&OwnedFd>,
        name: &[u8],
        path: &[u8],
        child: BorrowedFd<'_>,
    ) -> Result<Option<OwnedFd>> {
        let (Some(below), Some(space)) = (below, self.overlay()) else {
            return Ok(None);
        };
        let opaque = directory_xattrs(child, path)?
            .iter()
            .any(|(name, value)| space.strip(name) == Some(b"opaque") && value == b"y");
        if opaque {
            return Ok(None);
        }
        match stat_at(below.as_fd(), name, path)? {
            Some(stat) if file_type(&stat) == FileType::Directory => {
                open_directory(below.as_fd(), name, path).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The directory below `directory`, if one shows through all of the way there.
    pub fn directory_below(&self, directory: &Directory) -> Result<Option<OwnedFd>> {
        let Some(below) = self.below() else {
            return Ok(None);
        };
        let mut here = open_directory(self.root.as_fd(), b".", b"")?;
        let mut below = Some(open_directory(below, b".", b"")?);
        let mut path = Vec::new();
        for name in directory
            .path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
        {
            path = join(&path, name);
            here = open_directory(here.as_fd(), name, &path)?;
            below = self.below_of(below.as_ref(), name, &path, here.as_fd())?;
        }
        Ok(below)
    }

    fn make_implicit(
        &mut self,
        parent: &Rc<Directory>,
        name: &[u8],
        path: Vec<u8>,
        inode: Option<&Inode>,
    ) -> Result<Directory> {
        self.remember(parent)?;
        rustix::fs::mkdirat(parent, name, Mode::RWXU)
            .map_err(|error| fail("create directory", &path, error))?;
        let descriptor = open_directory(parent.as_fd(), name, &path)?;
        let entry = implicit_entry(&path, inode);
        let directory = Directory { descriptor, path };
        self.set_directory(&directory, &entry, &Xattrs::new())?;
        Ok(directory)
    }

    /// Puts an entry's attributes on a directory, as far as that can be done now.
    pub fn set_directory(
        &mut self,
        directory: &Directory,
        entry: &Entry,
        present: &Xattrs,
    ) -> Result<()> {
        // Without these its owner could put nothing into it.
        let usable = entry.mode | 0o700;
        self.attributes
            .set_open_as(&directory.descriptor, entry, usable, present)?;
        let mode = (usable != entry.mode).then_some(entry.mode);
        self.defer(&directory.path, entry.mtime, mode);
        Ok(())
    }

    fn defer(&mut self, path: &[u8], mtime: Mtime, mode: Option<u32>) {
        self.deferred
            .insert(path.to_vec(), Deferred { mtime, mode });
    }

    /// Notes the time of a directory that this layer may not name, before something in it changes:
    /// in an overlay it would keep its time, so it does in a tree.
    pub fn remember(&mut self, directory: &Directory) -> Result<()> {
        if self.deferred.contains_key(&directory.path) {
            return Ok(());
        }
        let stat = rustix::fs::fstat(&directory.descriptor)
            .map_err(|error| fail("stat", &directory.path, error))?;
        self.defer(&directory.path, mtime(&stat), None);
        Ok(())
    }

    /// Hides all that is below a directory.
    pub fn make_opaque(&self, directory: &Directory) -> Result<()> {
        let (Some(space), Some(_)) = (self.overlay(), self.below()) else {
            return Ok(());
        };
        rustix::fs::fsetxattr(
            &directory.descriptor,
            space.opaque(),
            b"y",
            XattrFlags::empty(),
        )
        .map_err(|error| fail("set opaque mark of", &directory.path, error))
    }

    /// Removes what is at a path, to make room.
    pub fn clear(&mut self, directory: &Directory, name: &[u8], path: &[u8]) -> Result<()> {
        self.forget(path);
        remove(directory.as_fd(), name, path, &|_| false)
    }

    /// Forgets all about a path and what is beneath it: it is about to be removed.
    fn forget(&mut self, path: &[u8]) {
        self.cache.clear();
        for path in self.deferred_beneath(path) {
            self.deferred.remove(&path);
        }
    }

    /// Forgets what a whiteout has removed of a path and what was beneath it.
    pub fn forget_removed(&mut self, path: &[u8]) {
        self.cache.clear();
        for path in self.deferred_beneath(path) {
            if open_path(self.root.as_fd(), &path).is_err() {
                self.deferred.remove(&path);
            }
        }
    }

    fn deferred_beneath(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let below = |candidate: &[u8]| {
            path.is_empty()
                || candidate
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        // Between a path and what is beneath it may be names that only begin like it.
        self.deferred
            .range(path.to_vec()..)
            .map(|(candidate, _)| candidate)
            .take_while(|candidate| candidate.starts_with(path))
            .filter(|candidate| below(candidate))
            .cloned()
            .collect()
    }

    /// Notes that this layer has made a path.
    pub fn note_made(&mut self, path: &[u8]) {
        if matches!(self.target, Target::Tree) {
            self.made.insert(path.to_vec());
        }
    }

    /// Whether this layer has made a path.
    pub fn has_made(&self, path: &[u8]) -> bool {
        self.made.contains(path)
    }

    /// Sets what had to wait, from the leaves to the root.
    pub fn finish(self) -> Result<Attributes> {
        for (path, Deferred { mtime, mode }) in self.deferred.iter().rev() {
            let directory = open_path(self.root.as_fd(), path)?;
            set_time(&directory, *mtime, path)?;
            if let Some(mode) = mode {
                rustix::fs::fchmod(&directory, Mode::from_raw_mode(*mode))
                    .map_err(|error| fail("change mode of", path, error))?;
            }
        }
        Ok(self.attributes)
    }
}

/// A character device 0/0.
pub fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// The attributes of a directory that no entry names.
fn implicit_entry(path: &[u8], inode: Option<&Inode>) -> Entry {
    match inode {
        Some(inode) => inode.entry(path, Kind::Directory, |name| !is_host_xattr(name)),
        None => Entry::new(path, Kind::Directory, 0o755),
    }
}

/// Opens a directory by a path without links, however long.
fn open_path(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    if path.is_empty() {
        return open_directory(root, b".", b"");
    }
    if path.len() < PATH_LIMIT {
        return Ok(open_beneath(
            root,
            entry_path(path),
            OFlags::DIRECTORY,
            Mode::empty(),
        )?);
    }
    let mut here = open_directory(root, b".", b"")?;
    for name in path.split(|&byte| byte == b'/') {
        here = open_directory(here.as_fd(), name, path)?;
    }
    Ok(here)
}

/// Whether the fast way failed for a reason that the slow one may get around.
fn is_detour(error: &fsutil::Error) -> bool {
    let detours = [Errno::NOENT, Errno::LOOP, Errno::NOTDIR, Errno::NAMETOOLONG];
    let code = error.source.raw_os_error();
    detours
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

//! Making inodes of entries.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::set_time;
use super::remove::{remove, remove_content};
use super::resolve::{Directory, Tree, is_whiteout};
use super::{Made, Target, UnpackOptions};
use crate::layer::entry::{Device, Entry, EntrySink, Kind, Xattrs, join, split};
use crate::layer::error::{EntryProblem, Error, Result};
use crate::layer::inode::{
    Inode, directory_xattrs, fail, file_type, list, open_directory, stat_at,
};
use crate::layer::whiteout::{self, Meaning, is_host_xattr};

/// Bytes of content written at once.
const BUFFER: usize = 128 << 10;
/// Zeros are left as a hole if there are at least so many at once: a block of most file systems.
const HOLE: usize = 4096;

/// Makes inodes of entries, in one directory.
pub struct Unpacker<'a> {
    tree: Tree<'a>,
    target: Target<'a>,
    entries: u64,
    content_size: u64,
    buffer: Vec<u8>,
    root_is_opaque: bool,
}

impl<'a> Unpacker<'a> {
    /// An unpacker into `root`. Nobody else may write there meanwhile.
    pub fn new(root: BorrowedFd<'_>, options: &UnpackOptions<'a>) -> Result<Unpacker<'a>> {
        Ok(Unpacker {
            tree: Tree::new(root, options)?,
            target: options.target,
            entries: 0,
            content_size: 0,
            buffer: vec![0; BUFFER],
            root_is_opaque: false,
        })
    }

    /// Sets the times of directories, which had to wait until all is in them.
    pub fn finish(mut self) -> Result<Made> {
        if self.root_is_opaque {
            self.hide_all_below_root()?;
        }
        let attributes = self.tree.finish()?;
        Ok(Made {
            entries: self.entries,
            content_size: self.content_size,
            skipped: attributes.skipped,
        })
    }

    fn make(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        if entry.path.is_empty() {
            return self.root(entry);
        }
        let (parent, name) = entry.split_path();
        let meaning = match self.target {
            Target::Plain => Meaning::Entry,
            _ => whiteout::parse(&entry.path, name)?,
        };
        if meaning == Meaning::Ignored {
            return Ok(());
        }
        let directory = self.tree.directory(parent, &entry.path)?;
        match meaning {
            Meaning::Whiteout(hidden) => self.whiteout(&directory, hidden),
            Meaning::Opaque => self.opaque(&directory),
            _ => {
                self.tree.note_made(&join(&directory.path, name));
                self.inode(&directory, name, entry, content)
            }
        }
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(problem(entry, EntryProblem::RootKind));
        }
        let root = Rc::clone(&self.tree.root);
        let present = directory_xattrs(root.as_fd(), b"")?;
        self.tree.set_directory(&root, entry, &present)
    }

    fn inode(
        &mut self,
        directory: &Rc<Directory>,
        name: &[u8],
        entry: &Entry,
        content: Option<&mut dyn Read>,
    ) -> Result<()> {
        match &entry.kind {
            Kind::File { size } => self.file(directory, name, entry, *size, content),
            Kind::Directory => self.directory(directory, name, entry),
            Kind::Symlink { target } => self.symlink(directory, name, entry, target),
            Kind::Hardlink { target } => self.hardlink(directory, name, entry, target),
            Kind::CharDevice(device) => {
                self.node(directory, name, entry, FileType::CharacterDevice, *device)
            }
            Kind::BlockDevice(device) => {
                self.node(directory, name, entry, FileType::BlockDevice, *device)
            }
            Kind::Fifo => {
                let none = Device { major: 0, minor: 0 };
                self.node(directory, name, entry, FileType::Fifo, none)
            }
        }
    }

    /// Tries `create`; if something is in the way, removes it and tries again.
    fn create<T>(
        &mut self,
        directory: &Directory,
        name: &[u8],
        create: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Error> {
        let path = || join(&directory.path, name);
        match create() {
            Err(Errno::EXIST) => self.tree.clear(directory, name, &path())?,
            result => return result.map_err(|error| fail("create", &path(), error)),
        }
        create().map_err(|error| fail("create", &path(), error))
    }

    fn file(
        &mut self,
        directory: &Directory,
        name: &[u8],
        entry: &Entry,
        size: u64,
        content: Option<&mut dyn Read>,
    ) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = self.create(directory, name, || {
            rustix::fs::openat(directory, name, flags, mode)
        })?;
        let file = File::from(file);
        match content {
            Some(content) => self.content(&file, entry, size, content)?,
            None if size == 0 => {}
            None => return Err(problem(entry, EntryProblem::Content)),
        }
        self.tree
            .attributes
            .set_open(&file, entry, &Xattrs::new())?;
        set_time(&file, entry.mtime, &entry.path)?;
        self.content_size += size;
        Ok(())
    }

    fn content(
        &mut self,
        file: &File,
        entry: &Entry,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<()> {
        let changed = |grew| Error::Changed {
            path: entry.path.clone(),
            expected: size,
            grew,
        };
        let failed = |op, error| fail_io(op, entry, error);
        let mut offset = 0;
        let mut written = 0;
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::of_content(&entry.path, error)),
            };
            let end = offset + count as u64;
            if end > size {
                return Err(changed(true));
            }
            let bytes = &self.buffer[..count];
            // Holes that an archive spelled out in zeros, or that a sparse one had.
            if count < HOLE || bytes.iter().any(|&byte| byte != 0) {
                file.write_all_at(bytes, offset)
                    .map_err(|error| failed("write", error))?;
                written = end;
            }
            offset = end;
        }
        if offset < size {
            return Err(changed(false));
        }
        if written < size {
            file.set_len(size)
                .map_err(|error| failed("set length of", error))?;
        }
        Ok(())
    }

    fn directory(&mut self, parent: &Directory, name: &[u8], entry: &Entry) -> Result<()> {
        let path = join(&parent.path, name);
        let make = || rustix::fs::mkdirat(parent, name, Mode::RWXU);
        let mut present = Xattrs::new();
        let mut replaces = false;
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = stat_at(parent.as_fd(), name, &path)?;
                if stat.as_ref().map(file_type) == Some(FileType::Directory) {
                    let there = open_directory(parent.as_fd(), name, &path)?;
                    present = directory_xattrs(there.as_fd(), &path)?;
                } else {
                    self.tree.clear(parent, name, &path)?;
                    make().map_err(|error| fail("create directory", &path, error))?;
                    replaces = true;
                }
            }
            Err(error) => return Err(fail("create directory", &path, error)),
        }
        let descriptor = open_directory(parent.as_fd(), name, &path)?;
        let directory = Rc::new(Directory { descriptor, path });
        // What it replaces hid all that is below, and that must stay hidden.
        if replaces {
            self.tree.make_opaque(&directory)?;
        }
        self.tree.set_directory(&directory, entry, &present)?;
        self.tree.keep(&entry.path, &directory);
        Ok(())
    }

    fn symlink(
        &mut self,
        directory: &Directory,
        name: &[u8],
        entry: &Entry,
        target: &[u8],
    ) -> Result<()> {
        if target.is_empty() || target.contains(&0) {
            return Err(problem(entry, EntryProblem::LinkTarget));
        }
        self.create(directory, name, || {
            rustix::fs::symlinkat(target, directory, name)
        })?;
        self.tree
            .attributes
            .set_named(directory.as_fd(), name, entry, true)
    }

    fn node(
        &mut self,
        directory: &Directory,
        name: &[u8],
        entry: &Entry,
        kind: FileType,
        device: Device,
    ) -> Result<()> {
        let number = rustix::fs::makedev(device.major, device.minor);
        let mode = Mode::RUSR | Mode::WUSR;
        let made = self.create(directory, name, || {
            match rustix::fs::mknodat(directory, name, kind, mode, number) {
                // user_namespaces(7): device nodes are made by the initial namespace's root only.
                Err(Errno::PERM) if kind != FileType::Fifo => Ok(false),
                result => result.map(|()| true),
            }
        })?;
        if !made {
            self.tree.attributes.skipped.devices += 1;
            return Ok(());
        }
        self.tree
            .attributes
            .set_named(directory.as_fd(), name, entry, false)
    }

    fn hardlink(
        &mut self,
        directory: &Directory,
        name: &[u8],
        entry: &Entry,
        target: &[u8],
    ) -> Result<()> {
        let refused = |reason| Error::Hardlink {
            path: entry.path.clone(),
            target: target.to_vec(),
            reason,
        };
        let (target_parent, target_name) = split(target);
        if target_name.is_empty() {
            return Err(refused("is the root"));
        }
        let target_directory = self.tree.directory(target_parent, &entry.path)?;
        let target_path = join(&target_directory.path, target_name);
        let mut stat = stat_at(target_directory.as_fd(), target_name, &target_path)?;
        if stat.is_none() && self.copy_up(&target_directory, target_name)? {
            stat = stat_at(target_directory.as_fd(), target_name, &target_path)?;
        }
        match &stat {
            None => return Err(refused("does not exist")),
            Some(stat) if file_type(stat) == FileType::Directory => {
                return Err(refused("is a directory"));
            }
            Some(stat) if self.tree.overlay().is_some() && is_whiteout(stat) => {
                return Err(refused("does not exist"));
            }
            Some(_) => {}
        }
        if target_path == join(&directory.path, name) {
            // A file is its own name already.
            return Ok(());
        }
        self.create(directory, name, || {
            let flags = AtFlags::empty();
            rustix::fs::linkat(&*target_directory, target_name, directory, name, flags)
        })
    }

    /// Brings a file of a lower layer into this one, to be linked to. Whether there was one.
    fn copy_up(&mut self, directory: &Rc<Directory>, name: &[u8]) -> Result<bool> {
        let Some(below) = self.tree.directory_below(directory)? else {
            return Ok(false);
        };
        let path = join(&directory.path, name);
        let Some(inode) = Inode::read(below.as_fd(), name, &path)? else {
            return Ok(false);
        };
        let Some(kind) = inode.kind(below.as_fd(), name, &path)? else {
            return Ok(false);
        };
        if kind == Kind::Directory {
            return Ok(false);
        }
        let entry = inode.entry(&path, kind, |name| !is_host_xattr(name));
        let counted = self.content_size;
        match inode.into_content() {
            Some(mut content) => self.inode(directory, name, &entry, Some(&mut content))?,
            None => self.inode(directory, name, &entry, None)?,
        }
        // It isn't this layer's content.
        self.content_size = counted;
        Ok(true)
    }

    fn whiteout(&mut self, directory: &Directory, hidden: &[u8]) -> Result<()> {
        let path = join(&directory.path, hidden);
        if self.tree.overlay().is_none() {
            let tree = &self.tree;
            remove(directory.as_fd(), hidden, &path, &|path| {
                tree.has_made(path)
            })?;
            self.tree.forget_removed(&directory.path);
            return Ok(());
        }
        if self.tree.below().is_none() {
            return Ok(());
        }
        match stat_at(directory.as_fd(), hidden, &path)? {
            None => make_whiteout(directory.as_fd(), hidden, &path),
            Some(stat) if file_type(&stat) == FileType::Directory => {
                // This layer's directory stays; what it would merge with is gone.
                let descriptor = open_directory(directory.as_fd(), hidden, &path)?;
                self.tree.make_opaque(&Directory { descriptor, path })
            }
            Some(_) => Ok(()),
        }
    }

    fn opaque(&mut self, directory: &Directory) -> Result<()> {
        if self.tree.overlay().is_none() {
            let tree = &self.tree;
            let keep = |path: &[u8]| tree.has_made(path);
            remove_content(directory.as_fd(), &directory.path, &keep)?;
            self.tree.forget_removed(&directory.path);
            return Ok(());
        }
        if directory.path.is_empty() {
            self.root_is_opaque = true;
            return Ok(());
        }
        self.tree.make_opaque(directory)
    }

    fn hide_all_below_root(&mut self) -> Result<()> {
        let Some(below) = self.tree.below() else {
            return Ok(());
        };
        let below: OwnedFd = open_directory(below, b".", b"")?;
        let root = Rc::clone(&self.tree.root);
        for (name, _) in list(below.as_fd(), b"")? {
            self.whiteout(&root, &name)?;
        }
        Ok(())
    }
}

impl EntrySink for Unpacker<'_> {
    fn entry(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        self.entries += 1;
        if content.is_some() && !matches!(entry.kind, Kind::File { .. }) {
            return Err(problem(entry, EntryProblem::Content));
        }
        crate::layer::entry::check_path(&entry.path)?;
        self.make(entry, content)
    }
}

fn problem(entry: &Entry, problem: EntryProblem) -> Error {
    Error::Entry {
        path: entry.path.clone(),
        problem,
    }
}

fn fail_io(op: &'static str, entry: &Entry, error: std::io::Error) -> Error {
    crate::fsutil::Error::new(op, crate::layer::error::entry_path(&entry.path), error).into()
}

/// overlayfs.rst, "whiteouts and opaque directories"; since Linux 5.8 a user namespace may make
/// this one device, and no other.
fn make_whiteout(directory: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<()> {
    rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0)
        .map_err(|error| fail("create whiteout", path, error))
}

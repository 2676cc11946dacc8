//! Reading one inode by the directory it is in: what it is, its attributes, its content.
//!
//! Always by directory descriptor and last component, never following a symbolic link: the tree
//! was filled by an image, and its links lead where the image likes.
//!
//! Extended attributes of files and directories are read by descriptor. Symbolic links and device
//! nodes cannot be opened for that, so they are named through `/proc/self/fd/N/NAME`, where only
//! the last component is the image's and isn't followed.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::entry::{Device, Entry, Kind, Mtime, Xattrs};
use super::error::{Error, Result, entry_path};
use crate::fsutil::{self, IoContext};

/// The most that the kernel gives for a list of names or for a value (xattr(7), "Limits").
const XATTR_LIMIT: usize = 64 << 10;

/// A name in a directory, and what is there.
pub struct Inode {
    /// What `lstat` says.
    pub stat: Stat,
    /// The open file or directory; other kinds aren't opened.
    pub file: Option<OwnedFd>,
    /// All extended attributes, those of the host and of overlayfs too.
    pub xattrs: Xattrs,
}

impl Inode {
    /// What is at `name` in `directory`, where `path` is the whole path for messages. `None`:
    /// nothing is.
    pub fn read(directory: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Option<Inode>> {
        match stat_at(directory, name, path)? {
            Some(stat) => Inode::with_stat(directory, name, path, stat).map(Some),
            None => Ok(None),
        }
    }

    /// The same, of what has been asked for its `stat` already.
    pub fn with_stat(
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: Stat,
    ) -> Result<Inode> {
        let file = match file_type(&stat) {
            FileType::Directory => Some(open_directory(directory, name, path)?),
            FileType::RegularFile => Some(open(directory, name, path, OFlags::NONBLOCK)?),
            _ => None,
        };
        let xattrs = match &file {
            Some(file) => read_xattrs(&ByDescriptor(file.as_fd()), path)?,
            None => read_xattrs(&ByName::new(directory, name), path)?,
        };
        Ok(Inode { stat, file, xattrs })
    }

    /// What kind it is as an entry; `None` for a socket, which no archive holds.
    pub fn kind(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> Result<Option<Kind>> {
        let device = || Device {
            major: rustix::fs::major(self.stat.st_rdev),
            minor: rustix::fs::minor(self.stat.st_rdev),
        };
        Ok(match file_type(&self.stat) {
            FileType::RegularFile => Some(Kind::File {
                size: self.stat.st_size.cast_unsigned(),
            }),
            FileType::Directory => Some(Kind::Directory),
            FileType::Symlink => Some(Kind::Symlink {
                target: read_link(directory, name, path)?,
            }),
            FileType::CharacterDevice => Some(Kind::CharDevice(device())),
            FileType::BlockDevice => Some(Kind::BlockDevice(device())),
            FileType::Fifo => Some(Kind::Fifo),
            FileType::Socket | FileType::Unknown => None,
        })
    }

    /// It as an entry of `kind` at `path`, with the extended attributes that `keep` wants.
    pub fn entry(&self, path: &[u8], kind: Kind, keep: impl Fn(&[u8]) -> bool) -> Entry {
        Entry {
            path: path.to_vec(),
            kind,
            mode: self.stat.st_mode & 0o7777,
            uid: self.stat.st_uid,
            gid: self.stat.st_gid,
            mtime: mtime(&self.stat),
            xattrs: self
                .xattrs
                .iter()
                .filter(|(name, _)| keep(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        }
    }

    /// The content of a regular file.
    pub fn into_content(self) -> Option<File> {
        let regular = file_type(&self.stat) == FileType::RegularFile;
        self.file.filter(|_| regular).map(File::from)
    }
}

/// The type in `stat`.
pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The modification time in `stat`.
pub fn mtime(stat: &Stat) -> Mtime {
    Mtime {
        seconds: stat.st_mtime,
        nanoseconds: stat.st_mtime_nsec as u32,
    }
}

/// `lstat` of `name` in `directory`; `None`: nothing is there.
pub fn stat_at(directory: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Option<Stat>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(fail("stat", path, error)),
    }
}

/// An error of the file system about an entry.
pub fn fail(op: &'static str, path: &[u8], error: Errno) -> Error {
    fsutil::Error::new(op, entry_path(path), error).into()
}

/// Opens `name` in `directory` for reading.
pub fn open(directory: BorrowedFd<'_>, name: &[u8], path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty()).at("open", entry_path(path))?)
}

/// Opens the directory `name` in `directory`.
pub fn open_directory(directory: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<OwnedFd> {
    open(directory, name, path, OFlags::DIRECTORY)
}

/// The text of the symbolic link `name` in `directory`.
pub fn read_link(directory: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Vec<u8>> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new());
    Ok(target.at("read link", entry_path(path))?.into_bytes())
}

/// The names in a directory, in byte order, each with its type as far as the file system says it.
pub fn list(directory: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<(Vec<u8>, FileType)>> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 16 << 10];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.at("read directory", entry_path(path))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

/// The extended attributes of an open directory.
pub fn directory_xattrs(directory: BorrowedFd<'_>, path: &[u8]) -> Result<Xattrs> {
    read_xattrs(&ByDescriptor(directory), path)
}

/// The two ways to an inode's extended attributes.
trait XattrSource {
    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno>;
    fn get(&self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno>;
}

struct ByDescriptor<'a>(BorrowedFd<'a>);

impl XattrSource for ByDescriptor<'_> {
    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        rustix::fs::flistxattr(self.0, buffer)
    }
    fn get(&self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        rustix::fs::fgetxattr(self.0, name, buffer)
    }
}

/// A path through `/proc` to a name in a directory that is held open.
pub struct ByName(Vec<u8>);

impl ByName {
    /// The path of `name` in `directory`, good for as long as that is open.
    pub fn new(directory: BorrowedFd<'_>, name: &[u8]) -> ByName {
        let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        ByName(path)
    }

    /// The path.
    pub fn path(&self) -> &[u8] {
        &self.0
    }
}

impl XattrSource for ByName {
    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        rustix::fs::llistxattr(self.0.as_slice(), buffer)
    }
    fn get(&self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        rustix::fs::lgetxattr(self.0.as_slice(), name, buffer)
    }
}

fn read_xattrs(source: &impl XattrSource, path: &[u8]) -> Result<Xattrs> {
    let names = match sized(|buffer| source.list(buffer)) {
        Ok(names) => names,
        // A file system without extended attributes has none.
        Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
        Err(error) => return Err(fail("list extended attributes of", path, error)),
    };
    let mut xattrs = Xattrs::new();
    for name in names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        match sized(|buffer| source.get(name, buffer)) {
            Ok(value) => drop(xattrs.insert(name.to_vec(), value)),
            // Listed, but not there for this reader: overlayfs hides its own so.
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(fail("read extended attribute of", path, error)),
        }
    }
    Ok(xattrs)
}

/// What `read` puts into a small buffer, or if that is too small into the largest.
fn sized(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 256];
    match read(&mut small) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; XATTR_LIMIT];
            let length = read(&mut large)?;
            large.truncate(length);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}

//! One entry of a layer: a path, what is there, and its attributes.
//!
//! This is the value that everything in `layer` passes around: the differ makes it from an
//! inode, [`TarWriter`](super::TarWriter) and [`TarReader`](super::TarReader) carry it through a
//! tar archive, [`Unpacker`](super::Unpacker) makes an inode of it again.
//!
//! Invariants of [`Entry::path`], which [`clean_path`] makes and `check_path` holds:
//!
//! ```text
//! usr/share/doc/x     relative, no leading "./", no trailing or doubled "/"
//! (empty)             the root itself; only ever a directory
//! never               "." or ".." as a component, a NUL byte
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use super::error::{Error, NameProblem, Result};

/// Extended attributes by their full name, such as `security.capability`, in byte order.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// An entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, relative to the root; see the module's invariants. Bytes, since Linux names are.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The 12 permission bits: set-user-ID, set-group-ID, sticky, and three times `rwx`.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// When the content was last changed.
    pub mtime: Mtime,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// What an entry is. Sockets have no place in a tar archive, and are not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file with `size` bytes of content.
    File {
        /// Bytes of content, holes included.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link; `target` is kept as it is, whatever it says.
    Symlink {
        /// The text of the link.
        target: Vec<u8>,
    },
    /// One more name of an entry that comes earlier or is in a lower layer.
    Hardlink {
        /// The other name, by the rules of [`Entry::path`].
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
}

/// The number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// The driver's part.
    pub major: u32,
    /// The instance's part.
    pub minor: u32,
}

/// A modification time: `seconds` since 1970, plus `nanoseconds`; before 1970 `seconds` is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mtime {
    /// Whole seconds since 1970, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999, always counted forward.
    pub nanoseconds: u32,
}

impl Mtime {
    /// A whole second.
    pub const fn from_seconds(seconds: i64) -> Mtime {
        Mtime {
            seconds,
            nanoseconds: 0,
        }
    }

    /// `self`, or `limit` if that is earlier.
    pub fn clamp_to(self, limit: Option<i64>) -> Mtime {
        match limit {
            Some(limit) => self.min(Mtime::from_seconds(limit)),
            None => self,
        }
    }
}

impl Entry {
    /// An entry owned by root, with mtime 0 and no extended attributes.
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind, mode: u32) -> Entry {
        Entry {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Mtime::default(),
            xattrs: Xattrs::new(),
        }
    }

    /// The directory part of the path (empty: the root) and the last component.
    pub fn split_path(&self) -> (&[u8], &[u8]) {
        split(&self.path)
    }

    /// Bytes of content.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size } => size,
            _ => 0,
        }
    }
}

/// Whoever takes entries one after another: a tar archive, a directory, a test.
pub trait EntrySink {
    /// Takes `entry`; a regular file comes with its content, of exactly the size it says.
    fn entry(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()>;
}

/// `path` as text for people: what is not UTF-8 is replaced.
pub struct ShowPath<'a>(pub &'a [u8]);

impl fmt::Display for ShowPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        fmt::Display::fmt(&String::from_utf8_lossy(self.0).escape_debug(), f)
    }
}

/// The directory part and the last component of a clean path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// `directory` and `name` joined; an empty directory is the root.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// A name as an archive has it, made into a path by the module's invariants.
///
/// A leading `/` is dropped, as GNU tar, docker and containerd do: archives name the root that
/// way, and nothing leaves it. `..` is refused wherever it stands, as GNU tar does.
pub fn clean_path(name: &[u8]) -> Result<Vec<u8>> {
    let mut path = Vec::with_capacity(name.len());
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => {
                return Err(Error::Name {
                    path: name.to_vec(),
                    problem: NameProblem::DotDot,
                });
            }
            _ if component.contains(&0) => {
                return Err(Error::Name {
                    path: name.to_vec(),
                    problem: NameProblem::Nul,
                });
            }
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
    }
    Ok(path)
}

/// Refuses a path that doesn't hold the module's invariants.
pub(super) fn check_path(path: &[u8]) -> Result<()> {
    let bad = |problem| {
        Err(Error::Name {
            path: path.to_vec(),
            problem,
        })
    };
    if path.contains(&0) {
        return bad(NameProblem::Nul);
    }
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b".." => return bad(NameProblem::DotDot),
            b"" | b"." if !path.is_empty() => return bad(NameProblem::NotClean),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_archives_become_clean_relative_paths() {
        for (name, path) in [
            ("./", ""),
            (".", ""),
            ("/", ""),
            ("./etc/passwd", "etc/passwd"),
            ("/etc//passwd", "etc/passwd"),
            ("usr/./lib/", "usr/lib"),
            ("...", "..."),
        ] {
            assert_eq!(
                clean_path(name.as_bytes()).unwrap(),
                path.as_bytes(),
                "{name}"
            );
            check_path(path.as_bytes()).unwrap();
        }
    }

    #[test]
    fn dot_dot_and_nul_are_refused_wherever_they_stand() {
        for name in ["..", "../x", "a/../b", "a/..", "/..", "a\0b"] {
            assert!(clean_path(name.as_bytes()).is_err(), "{name:?}");
            assert!(check_path(name.as_bytes()).is_err(), "{name:?}");
        }
        for path in ["/a", "a/", "a//b", "./a"] {
            assert!(check_path(path.as_bytes()).is_err(), "{path:?}");
        }
    }

    #[test]
    fn clamping_takes_only_what_is_later() {
        let late = Mtime {
            seconds: 10,
            nanoseconds: 1,
        };
        assert_eq!(late.clamp_to(Some(10)), Mtime::from_seconds(10));
        assert_eq!(late.clamp_to(Some(11)), late);
        assert_eq!(late.clamp_to(None), late);
    }
}

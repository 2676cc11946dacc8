//! What can go wrong between a directory and a layer, told apart by who can help.
//!
//! | variant | at fault |
//! |---|---|
//! | `File` | the file system: permission, space, a disk |
//! | `Name`, `Archive`, `Decompress`, `Escape`, `Hardlink`, … | the layer |
//! | `Digest`, `Size`, `DiffId` | whoever stored or sent the layer |
//! | `Changed`, `WhiteoutName`, `Redirect` | the tree that was to become a layer |

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::compress::Format;
use super::entry::ShowPath;
use crate::fsutil;
use crate::oci::digest::Digest;

/// What the functions of `layer` return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure between a directory and a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] fsutil::Error),
    /// The layer's bytes could not be read.
    #[error("read layer: {0}")]
    Read(#[source] io::Error),
    /// The layer's bytes could not be written.
    #[error("write layer: {0}")]
    Write(#[source] io::Error),
    /// The compressed stream is damaged or cut short.
    #[error("decompress layer ({format}): {source}")]
    Decompress {
        /// The format that its first bytes say.
        format: Format,
        /// What the decompressor says.
        #[source]
        source: io::Error,
    },
    /// The archive is no tar archive, or is damaged.
    #[error("tar archive, at byte {offset}: {problem}")]
    Archive {
        /// Where in the uncompressed archive.
        offset: u64,
        /// What is wrong there.
        problem: ArchiveProblem,
    },
    /// A name that no entry may have.
    #[error("{}: {problem}", ShowPath(path))]
    Name {
        /// The name as it was given.
        path: Vec<u8>,
        /// What is wrong with it.
        problem: NameProblem,
    },
    /// An entry that cannot be made as the layer says.
    #[error("{}: {problem}", ShowPath(path))]
    Entry {
        /// The entry.
        path: Vec<u8>,
        /// What is wrong with it.
        problem: EntryProblem,
    },
    /// A hard link whose other name cannot be linked to.
    #[error("{}: hard link to {}: {reason}", ShowPath(path), ShowPath(target))]
    Hardlink {
        /// The entry.
        path: Vec<u8>,
        /// The other name.
        target: Vec<u8>,
        /// Why not.
        reason: &'static str,
    },
    /// An owner that this process cannot give a file to.
    #[error(
        "{}: owner {uid}:{gid} is not mapped in this user namespace ({source}); \
         more subordinate ids in /etc/subuid and /etc/subgid help",
        ShowPath(path)
    )]
    UnmappedOwner {
        /// The entry.
        path: Vec<u8>,
        /// The owner in the layer.
        uid: u32,
        /// The group in the layer.
        gid: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file had another length than it said when its header was written.
    #[error("{}: changed while it was read: {expected} bytes at first, then {}",
        ShowPath(path), if *grew { "more" } else { "fewer" })]
    Changed {
        /// The entry.
        path: Vec<u8>,
        /// Its size in the header.
        expected: u64,
        /// Whether there was more to read, rather than less.
        grew: bool,
    },
    /// A file in a tree whose name a layer would read as a whiteout.
    #[error(
        "{}: a layer cannot hold a name that begins with .wh., which marks a removed file",
        ShowPath(path)
    )]
    WhiteoutName {
        /// The file.
        path: Vec<u8>,
    },
    /// An upper directory that overlayfs wrote with a feature that a layer has no word for.
    #[error(
        "{}: has {xattr}: its content is elsewhere; mount with redirect_dir=off,metacopy=off",
        ShowPath(path)
    )]
    Redirect {
        /// The directory or file.
        path: Vec<u8>,
        /// The extended attribute that says so.
        xattr: String,
    },
    /// The compressed bytes are not those of the descriptor.
    #[error("layer has digest {actual}, not {expected}")]
    Digest {
        /// The descriptor's.
        expected: Digest,
        /// What was read.
        actual: Digest,
    },
    /// There are more or fewer compressed bytes than the descriptor says.
    #[error("layer {digest} has {} bytes, not {expected}",
        if *more { "more".to_owned() } else { actual.to_string() })]
    Size {
        /// The layer's name, or `-` where it isn't known.
        digest: String,
        /// The descriptor's size.
        expected: u64,
        /// Bytes read before that was noticed.
        actual: u64,
        /// Whether reading stopped since there were too many.
        more: bool,
    },
    /// The uncompressed bytes are not those that the image's config names.
    #[error("layer unpacks to diff id {actual}, not {expected}")]
    DiffId {
        /// The config's.
        expected: Digest,
        /// What was read.
        actual: Digest,
    },
    /// The thread that compresses or decompresses ended without an answer.
    #[error("the layer pipeline's other thread ended without an answer")]
    Pipeline,
}

/// The path of an entry for [`fsutil::Error`].
pub(super) fn entry_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(if path.is_empty() { b"/" } else { path }))
}

/// What is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveProblem {
    /// The first block is not a header.
    #[error("not a tar archive")]
    NotTar,
    /// A later block that should be a header isn't.
    #[error("damaged header (wrong checksum)")]
    Checksum,
    /// It ends in the middle of an entry.
    #[error("truncated")]
    Truncated,
    /// A field that isn't a number, or one that is out of range.
    #[error("bad {0} in header")]
    Field(&'static str),
    /// A PAX extended header that isn't one.
    #[error("bad PAX record {0:?}")]
    Pax(String),
    /// An entry type that nothing can be made of.
    #[error("unknown entry type {0:?}")]
    Type(char),
    /// A long name or PAX header beyond any use.
    #[error("extended header of {0} bytes is too large")]
    ExtensionSize(u64),
    /// An extended header that nothing follows.
    #[error("extended header without an entry")]
    DanglingExtension,
    /// A sparse map that contradicts itself.
    #[error("bad map of a sparse file")]
    Sparse,
}

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// `..` is a component.
    #[error("a name in a layer may not contain ..")]
    DotDot,
    /// A NUL byte.
    #[error("a name may not contain a NUL byte")]
    Nul,
    /// Absolute, or with an empty or `.` component, where a clean path was due.
    #[error("not a clean relative path")]
    NotClean,
    /// `.wh.` with nothing, `.` or `..` after it.
    #[error("a whiteout of no file")]
    EmptyWhiteout,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// The root can only be a directory.
    #[error("the root of a layer can only be a directory")]
    RootKind,
    /// Something on the way to it is a file of the same layer.
    #[error("is in what this layer says is not a directory")]
    ParentNotDirectory,
    /// More symbolic links on the way than Linux follows.
    #[error("too many levels of symbolic links")]
    TooManyLinks,
    /// A regular file without content, or content without a regular file.
    #[error("content and kind of the entry disagree")]
    Content,
    /// A symbolic link to nothing, or one with a NUL byte.
    #[error("a symbolic link must have a target")]
    LinkTarget,
    /// An extended attribute whose name a tar archive or the kernel cannot have.
    #[error("an extended attribute has a name that cannot be")]
    XattrName,
}

impl Error {
    /// What to say when the content of the entry `path` could not be read: what the reader wanted
    /// said, if it was one of ours that wrapped it, else that the file could not be read.
    pub(super) fn of_content(path: &[u8], error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => Error::File(fsutil::Error::new("read", entry_path(path), error)),
        }
    }

    /// `self` through an interface that only takes I/O errors; [`Error::of_content`] unwraps it.
    pub(super) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// Whether the layer's bytes are at fault, rather than this machine.
    pub fn is_bad_layer(&self) -> bool {
        !matches!(
            self,
            Error::File(_)
                | Error::Read(_)
                | Error::Write(_)
                | Error::UnmappedOwner { .. }
                | Error::Changed { .. }
                | Error::Pipeline
        )
    }

    /// Whether the disk, its inodes or a quota are exhausted.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::File(error) => error.is_no_space(),
            Error::Write(error) => {
                matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
            }
            _ => false,
        }
    }
}

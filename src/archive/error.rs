//! What can be wrong with an archive, told with the member at fault.
//!
//! | variant | at fault |
//! |---|---|
//! | `Io`, `Store` | this machine: permission, space, a disk |
//! | `Read`, `NotTar`, `Tar`, `Empty`, `Unfinished` | the archive as a file: damaged, cut short, something else |
//! | `NoImages`, `Member`, `Document`, `Name` | what the archive says |
//! | `Write`, `NotALayout` | what is written to |

use std::io;
use std::path::{Path, PathBuf};

use crate::fsutil;
use crate::layer;
use crate::layer::Format;
use crate::layer::error::ArchiveProblem;
use crate::oci::{Digest, document, reference};
use crate::store;

/// What the functions of this module return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an archive cannot be taken in, or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store said no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] fsutil::Error),
    /// The archive's bytes could not be read or decompressed.
    #[error("read archive{}: {source}", compressed(*format))]
    Read {
        /// What its first bytes say.
        format: Format,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Something else than a tar archive.
    #[error("not a tar archive, plain or compressed by gzip, bzip2, xz or zstd")]
    NotTar,
    /// The tar archive is damaged, cut short, or has a name that leads out of it.
    #[error(transparent)]
    Tar(layer::Error),
    /// There is nothing in it.
    #[error("the archive is empty")]
    Empty,
    /// A root file system that stops without the end mark of a tar archive.
    #[error("the archive stops without an end mark after {entries} entries: it was cut short")]
    Unfinished {
        /// The entries up to there.
        entries: u64,
    },
    /// More members than are kept track of.
    #[error("the archive has more than {limit} members")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// Neither kind of image archive.
    #[error("{what} holds no images: {why}")]
    NoImages {
        /// The archive or the directory.
        what: String,
        /// What is missing.
        why: String,
    },
    /// A member is missing or wrong.
    #[error("{member}: {problem}")]
    Member {
        /// The member's name, or the blob's digest.
        member: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A document cannot be understood.
    #[error("{member}: {source}")]
    Document {
        /// The member's name, or the blob's digest.
        member: String,
        /// What is wrong with it.
        #[source]
        source: document::Error,
    },
    /// A name that no image can have.
    #[error("{member}: {source}")]
    Name {
        /// The member that names it.
        member: String,
        /// What is wrong with the name.
        #[source]
        source: reference::ParseReferenceError,
    },
    /// Two images want one name.
    #[error("two images of the archive are called {name:?}: {} and {}", .images[0], .images[1])]
    SameName {
        /// The name.
        name: String,
        /// Their digests.
        images: [Digest; 2],
    },
    /// What is written cannot be represented, or changed meanwhile.
    #[error("write {}: {source}", path.display())]
    Write {
        /// What is written to.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: layer::Error,
    },
    /// A directory that is no layout is not made one of.
    #[error("{} is neither empty nor an OCI image layout: name another directory", path.display())]
    NotALayout {
        /// The directory.
        path: PathBuf,
    },
    /// One name was given for several images that have none.
    #[error("the archive has several images without a name, and {name:?} can name only one: {}", .images.join(", "))]
    Unnamed {
        /// The name.
        name: String,
        /// Their digests.
        images: Vec<String>,
    },
}

/// What is wrong with a member.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It isn't there.
    #[error("{by} names it, and it is not in the archive; is the archive complete?")]
    Missing {
        /// What names it.
        by: String,
    },
    /// Its bytes are not those that its name or a descriptor promises.
    #[error("its bytes have digest {actual}, not {expected}")]
    Digest {
        /// What was promised.
        expected: Digest,
        /// What is there.
        actual: Digest,
    },
    /// It isn't as long as a descriptor promises.
    #[error("it is {actual} bytes, and {by} says {expected}")]
    Size {
        /// What says so.
        by: String,
        /// What was promised.
        expected: u64,
        /// What is there.
        actual: u64,
    },
    /// The uncompressed layer is not the one that the config names.
    #[error("the layer has diff id {actual}, and the config says {expected}")]
    DiffId {
        /// The config's.
        expected: Digest,
        /// What is there.
        actual: Digest,
    },
    /// Config and manifest disagree.
    #[error("the config lists {config} layers, and {by} {manifest}")]
    LayerCount {
        /// What lists the others.
        by: String,
        /// Diff IDs in the config.
        config: usize,
        /// Layers of the manifest.
        manifest: usize,
    },
    /// Larger than such a document may be.
    #[error("it is {size} bytes, more than the {limit} that are read as a document")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A second member has the same name and other bytes.
    #[error("two different members have this name")]
    Duplicate,
    /// Not of the form that it must have.
    #[error("{0}")]
    Form(String),
    /// A compressed layer is damaged.
    #[error("damaged ({format}): {source}")]
    Compressed {
        /// What its first bytes say.
        format: Format,
        /// What the decompressor says.
        #[source]
        source: io::Error,
    },
    /// Links that lead back to themselves.
    #[error("a link that leads to itself, or through more than {0} others")]
    LinkLoop(usize),
    /// A name that leads out of the archive.
    #[error("{0:?} leads out of the archive")]
    Escape(String),
    /// A directory, a device, a pipe.
    #[error("it is not a regular file")]
    NotAFile,
}

fn compressed(format: Format) -> String {
    match format {
        Format::None => String::new(),
        format => format!(" ({format})"),
    }
}

impl Error {
    /// `problem` in `member`.
    pub(super) fn member(member: impl Into<String>, problem: Problem) -> Error {
        Error::Member {
            member: member.into(),
            problem,
        }
    }

    /// What `layer` said of the archive that is being read, whose compression is `format`.
    pub(super) fn of_archive(error: layer::Error, format: Format) -> Error {
        match error {
            // The reader of one entry's content can only wrap what it wants to say.
            layer::Error::Read(error) => match error.downcast::<layer::Error>() {
                Ok(inner) => Error::of_archive(inner, format),
                Err(source) => Error::Read { format, source },
            },
            layer::Error::Archive {
                problem: ArchiveProblem::NotTar,
                ..
            } => Error::NotTar,
            other => Error::Tar(other),
        }
    }

    /// What went wrong while `path` was written.
    pub(super) fn of_writing(error: layer::Error, path: &Path) -> Error {
        match error {
            layer::Error::Write(source) => fsutil::Error::new("write", path, source).into(),
            layer::Error::File(error) => Error::Io(error),
            source => Error::Write {
                path: path.to_path_buf(),
                source,
            },
        }
    }

    /// What went wrong while layers were put together into `path`.
    pub(super) fn of_merge(error: store::Error, path: &Path) -> Error {
        match error {
            store::Error::Merge(error) => Error::of_writing(error, path),
            other => other.into(),
        }
    }

    /// Whether the disk, its inodes or a quota are exhausted.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::Store(error) => error.is_no_space(),
            Error::Io(error) => error.is_no_space(),
            Error::Tar(error) | Error::Write { source: error, .. } => error.is_no_space(),
            _ => false,
        }
    }
}

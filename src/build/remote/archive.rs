//! A tar archive as a directory of files to build from.
//!
//! Whatever the archive says, nothing of it is outside of the directory: names with `..` are
//! refused, absolute ones lose their slash, and links are followed as if the directory were the
//! root. Owners are not kept: the files of a context are root's.

use std::io::{self, Cursor, Read};
use std::os::fd::AsFd;
use std::path::Path;

use crate::fsutil;
use crate::layer::unpack::{Expected, Target, UnpackOptions};
use crate::layer::{self, Decompressor, Error, TarReader};

/// So much of the beginning tells an archive from a text.
const HEAD: u64 = 64 << 10;

/// What a stream turns out to be, nothing of it lost.
pub enum Sniffed<R: Read> {
    /// A tar archive, compressed or not.
    Archive(io::Chain<Cursor<Vec<u8>>, R>),
    /// Something else: for docker, a Dockerfile.
    Text(io::Chain<Cursor<Vec<u8>>, R>),
}

/// Looks at the beginning of a stream.
pub fn sniff<R: Read>(mut source: R) -> io::Result<Sniffed<R>> {
    let mut head = Vec::new();
    source.by_ref().take(HEAD).read_to_end(&mut head)?;
    let archive = is_archive(&head);
    let whole = Cursor::new(head).chain(source);
    Ok(match archive {
        true => Sniffed::Archive(whole),
        false => Sniffed::Text(whole),
    })
}

/// Whether bytes begin a tar archive. What is compressed is one: nobody compresses a Dockerfile.
fn is_archive(head: &[u8]) -> bool {
    if head.is_empty() {
        return false;
    }
    match Decompressor::new(Cursor::new(head.to_vec())) {
        Err(_) => false,
        Ok(reader) if reader.format() != layer::Format::None => true,
        Ok(reader) => match TarReader::new(reader).next_entry() {
            Ok(first) => first.is_some(),
            Err(Error::Archive { .. } | Error::Decompress { .. } | Error::Read(_)) => false,
            // One whose first member is refused is an archive: unpacking will say why.
            Err(_) => true,
        },
    }
}

/// Unpacks an archive into the empty directory `into`.
pub fn unpack(source: impl Read + Send, into: &Path) -> Result<(), Error> {
    let root = fsutil::open_dir(into).map_err(|error| Error::Read(io::Error::other(error)))?;
    let options = UnpackOptions {
        target: Target::Plain,
        ignore_unmapped_owners: true,
    };
    layer::unpack::unpack(source, root.as_fd(), &options, &Expected::default())?;
    Ok(())
}

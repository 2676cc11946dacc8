//! From a layer to a directory.
//!
//! ```text
//! worker                                                caller's thread
//! read ─▶ SHA-256 ─▶ decompress ─▶ SHA-256 ─▶ chunk ──▶ TarReader ─▶ Unpacker ─▶ inodes
//!        (digest)                 (diff ID)
//! ```
//!
//! **What a layer may do.** Nothing that it says leads out of the directory. Names are clean
//! ([`entry`](super::entry)); the directory that an entry is in is opened with `openat2`
//! beneath the root and without symbolic links, and where links are on the way they are followed
//! step by step, as by a process whose root it is: `..` and absolute targets end at the root. The
//! last component is never followed. Extended attributes of overlayfs in a layer are left out:
//! they would be believed by the kernel.
//!
//! **Parents.** Layers name files in directories that they don't name: those are made, with the
//! attributes that they have below, else 0755, owned by root, with mtime 0. Layers also write
//! through links (`lib/x` where `lib` is `usr/lib`), which may be in a lower layer: then it
//! decides where the file goes, so that a directory in an overlay lower shows what the same
//! layer gives when it is applied to a whole tree. (containerd makes `lib` a directory there,
//! which hides the link and all that is behind it.)
//!
//! **Attributes** go on in the order in which they don't undo each other: content, owner (clears
//! set-user-ID and capabilities), extended attributes, mode, time; times and unusual modes of
//! directories at the very end.
//!
//! **Whiteouts** apply to what is below and never to this layer's own entries, wherever in the
//! archive they stand (image-spec, layer.md, "Whiteouts"). overlayfs doesn't look for the opaque
//! mark on the root of a layer, so there each name below gets its whiteout.
//!
//! Whether the bytes are the right ones is known when the last was read; a directory that an
//! error leaves behind is the caller's to remove.

mod attributes;
mod remove;
mod resolve;
mod stream;
mod unpacker;
mod way;

pub use unpacker::Unpacker;

use std::io::Read;
use std::os::fd::BorrowedFd;

use super::compress::Format;
use super::entry::{EntrySink, Kind};
use super::error::{ArchiveProblem, Error, Result};
use super::read::TarReader;
use super::whiteout::OverlayXattrs;
use crate::oci::digest::Digest;

/// What the directory is going to be, hence what a whiteout becomes in it.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// A lower directory of overlayfs, empty at first: whiteouts become the kernel's marks.
    Overlay {
        /// Where the overlay will look for its marks.
        xattrs: OverlayXattrs,
        /// The merged view of the layers below, if there are any.
        parent: Option<BorrowedFd<'a>>,
    },
    /// A complete tree to which the layer is applied: what a whiteout names is removed.
    Tree,
    /// A plain extraction, in which `.wh.` means nothing.
    Plain,
}

/// How a layer is unpacked.
#[derive(Debug, Clone, Copy)]
pub struct UnpackOptions<'a> {
    /// What the directory is going to be.
    pub target: Target<'a>,
    /// Files whose owner isn't mapped in this user namespace stay with this process' user, and are
    /// counted, instead of being an error.
    pub ignore_unmapped_owners: bool,
}

/// What the layer must turn out to be. What is `None` is not checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected {
    /// The descriptor's digest.
    pub digest: Option<Digest>,
    /// The descriptor's size.
    pub size: Option<u64>,
    /// The config's diff ID.
    pub diff_id: Option<Digest>,
}

/// What could not be made here and was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skipped {
    /// Device nodes that this user namespace may not make.
    pub devices: u64,
    /// Extended attributes that the file system or this user namespace doesn't take, and those
    /// that belong to the host (overlayfs' own, SELinux' label).
    pub xattrs: u64,
    /// Files that kept this process' user, by `ignore_unmapped_owners`.
    pub owners: u64,
}

/// What an [`Unpacker`] has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Made {
    /// Entries, whiteouts included.
    pub entries: u64,
    /// Bytes of the content of regular files.
    pub content_size: u64,
    /// What was left out.
    pub skipped: Skipped,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// Digest of the tar archive.
    pub diff_id: Digest,
    /// Digest of the compressed bytes.
    pub digest: Digest,
    /// Compressed bytes.
    pub size: u64,
    /// Bytes of the tar archive.
    pub unpacked_size: u64,
    /// Bytes of the content of regular files.
    pub content_size: u64,
    /// Entries, whiteouts included.
    pub entries: u64,
    /// What was left out.
    pub skipped: Skipped,
    /// How the layer was compressed.
    pub format: Format,
}

/// Unpacks the layer `source`, compressed or not, into the directory `root`.
///
/// On an error the directory holds part of the layer, or all of a wrong one.
pub fn unpack<R: Read + Send>(
    source: R,
    root: BorrowedFd<'_>,
    options: &UnpackOptions<'_>,
    expected: &Expected,
) -> Result<Unpacked> {
    let (verified, made) = stream::run(source, expected, |archive| {
        let mut tar = TarReader::new(archive);
        let mut unpacker = Unpacker::new(root, options)?;
        while let Some(entry) = tar.next_entry()? {
            match entry.kind {
                Kind::File { .. } => unpacker.entry(&entry, Some(&mut tar))?,
                _ => unpacker.entry(&entry, None)?,
            }
        }
        // A digest proves that the archive is whole, mark or not; without one the mark must.
        let proven = expected.digest.is_some() || expected.diff_id.is_some();
        if !proven && !tar.saw_end_mark() {
            let problem = match tar.offset() {
                0 => ArchiveProblem::NotTar,
                _ => ArchiveProblem::Truncated,
            };
            return Err(Error::Archive {
                offset: tar.offset(),
                problem,
            });
        }
        unpacker.finish()
    })?;
    Ok(Unpacked {
        diff_id: verified.diff_id,
        digest: verified.digest,
        size: verified.size,
        unpacked_size: verified.unpacked_size,
        content_size: made.content_size,
        entries: made.entries,
        skipped: made.skipped,
        format: verified.format,
    })
}

/// Lets `consume` read the uncompressed archive of the layer `source`, and verifies all of it, what
/// `consume` left unread included.
///
/// What `consume` was given is what it should be only if this returns without an error.
pub fn read_archive<R: Read + Send, T>(
    source: R,
    expected: &Expected,
    consume: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let (_, value) = stream::run(source, expected, |archive| consume(archive))?;
    Ok(value)
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

//! From a layer to a directory.
use std::io::Read;
use std::os::fd::BorrowedFd;

use super::compress::Format;
use super::entry::{Entry, EntrySink};
use super::error::Result;
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

/// What the layer must turn out to be.
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
    /// Extended attributes that the file system or this user namespace doesn't take.
    pub xattrs: u64,
    /// Files that kept this process' user, by `ignore_unmapped_owners`.
    pub owners: u64,
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
pub fn unpack<R: Read + Send>(
    source: R,
    root: BorrowedFd<'_>,
    options: &UnpackOptions<'_>,
    expected: &Expected,
) -> Result<Unpacked> {
    let _ = (source, root, options, expected);
    todo!()
}

/// Makes inodes of entries, in one directory.
pub struct Unpacker<'a> {
    root: BorrowedFd<'a>,
    options: UnpackOptions<'a>,
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

impl<'a> Unpacker<'a> {
    /// An unpacker into `root`.
    pub fn new(root: BorrowedFd<'a>, options: &UnpackOptions<'a>) -> Result<Unpacker<'a>> {
        Ok(Unpacker {
            root,
            options: *options,
        })
    }

    /// Sets the times of directories, which had to wait until all is in them.
    pub fn finish(self) -> Result<Made> {
        let _ = (self.root, self.options);
        todo!()
    }
}

impl EntrySink for Unpacker<'_> {
    fn entry(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        let _ = (entry, content);
        todo!()
    }
}

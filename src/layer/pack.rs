//! The commit pipeline: entries → tar → compressed blob.
use std::io::{self, Read, Write};

use super::compress::Compression;
use super::error::Result;
use super::write::TarWriter;
use crate::oci::digest::Digest;

/// What was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
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
}

impl Packed {
    /// Whether the layer changes nothing.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }
}

/// Where the archive of [`pack`] goes: into the pipeline.
pub struct PackSink<'a>(std::marker::PhantomData<&'a ()>);

impl Write for PackSink<'_> {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        todo!()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes to `out` the layer whose entries `source` appends.
pub fn pack<W, F>(compression: Compression, out: W, source: F) -> Result<(Packed, W)>
where
    W: Write + Send,
    F: FnOnce(&mut TarWriter<PackSink<'_>>) -> Result<()>,
{
    let _ = (compression, out, source);
    todo!()
}

/// Writes to `out` the layer whose uncompressed archive is `tar`, which is taken as it is:
/// `entries` and `content_size` stay 0.
pub fn pack_archive<W, R>(compression: Compression, out: W, tar: R) -> Result<(Packed, W)>
where
    W: Write + Send,
    R: Read,
{
    let _ = (compression, out, tar);
    todo!()
}

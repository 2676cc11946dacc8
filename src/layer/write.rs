//! Writing a tar archive.
use std::io::{Read, Write};

use super::entry::{Entry, EntrySink};
use super::error::Result;

/// A tar archive being written. Drop it without [`TarWriter::finish`] and it has no end.
pub struct TarWriter<W: Write> {
    out: W,
    entries: u64,
    content_size: u64,
}

impl<W: Write> TarWriter<W> {
    /// An archive with nothing in it yet.
    pub fn new(out: W) -> TarWriter<W> {
        TarWriter {
            out,
            entries: 0,
            content_size: 0,
        }
    }

    /// Adds `entry`, a regular file with its content.
    pub fn append(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        let _ = (entry, content);
        todo!()
    }

    /// Entries added.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes of content of the files added.
    pub fn content_size(&self) -> u64 {
        self.content_size
    }

    /// Writes the end mark and gives the writer back.
    pub fn finish(self) -> Result<W> {
        Ok(self.out)
    }
}

impl<W: Write> EntrySink for TarWriter<W> {
    fn entry(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        self.append(entry, content)
    }
}

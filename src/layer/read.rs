//! Reading a tar archive.
use std::io::{self, Read};

use super::entry::Entry;
use super::error::Result;

/// A tar archive being read. Between two calls of [`TarReader::next_entry`] it is itself the
/// reader of the entry's content.
pub struct TarReader<R: Read> {
    source: R,
}

impl<R: Read> TarReader<R> {
    /// A reader of the uncompressed archive `source`.
    pub fn new(source: R) -> TarReader<R> {
        TarReader { source }
    }

    /// The next entry; what is left of the one before is passed over.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        todo!()
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.read(buffer)
    }
}

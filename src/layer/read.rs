//! Reading a tar archive, whoever wrote it: ustar, PAX, GNU, star, V7.
//!
//! Our own reader rather than a crate's, since a layer comes from anyone: extended headers are
//! bounded, sparse files of all four GNU kinds are read (the tar crate knows one), times before
//! 1970 survive, and each error says where in the archive.
//!
//! | type | becomes |
//! |---|---|
//! | `0` NUL `7` | file; a directory if the name ends in `/`, as V7 had it |
//! | `1` … `6` | hard link, symbolic link, devices, directory, pipe: never with content |
//! | `x` `X` `L` `K` | what the next entry's header has no room for; PAX wins over GNU |
//! | `g` `V` | passed over: defaults for the archive, a label |
//! | `S`, or PAX records `GNU.sparse.*` | file, read with its holes |
//! | `D` | directory |
//! | else | an error: we would have to guess where it ends |
//!
//! Where readers disagree about an archive an attacker picks the one he likes; so in doubt this
//! one does as Go's `archive/tar`, through which docker and containerd see layers.

use std::io::{self, ErrorKind, Read};

use super::entry::{Device, Entry, Kind, clean_path};
use super::error::{ArchiveProblem, Error, Result};
use super::header::{BLOCK, Header, sparse_extension};
use super::pax::{self, Extension};
use super::sparse::{SparseMap, parse_map_text};

/// The largest PAX or GNU extended header that is read: far above any real one, which is as
/// large as a path and all extended attributes together.
const EXTENSION_LIMIT: u64 = 16 << 20;

/// A tar archive being read. Between two calls of [`TarReader::next_entry`] it is itself the
/// reader of the entry's content.
pub struct TarReader<R: Read> {
    source: R,
    /// Bytes of the archive read so far.
    offset: u64,
    /// Bytes of the current entry's content still in the archive.
    left: u64,
    /// Bytes after them up to the next block.
    padding: u64,
    sparse: Option<SparseMap>,
    ended: bool,
    saw_end_mark: bool,
}

impl<R: Read> TarReader<R> {
    /// A reader of the uncompressed archive `source`.
    pub fn new(source: R) -> TarReader<R> {
        TarReader {
            source,
            offset: 0,
            left: 0,
            padding: 0,
            sparse: None,
            ended: false,
            saw_end_mark: false,
        }
    }

    /// Whether the archive ended with a block of zeros, as it should, or just with the stream.
    ///
    /// Some writers forget the mark, and every reader forgives them; but where no digest says
    /// that the archive is whole, its absence is the only sign that it was cut between entries.
    pub fn saw_end_mark(&self) -> bool {
        self.saw_end_mark
    }

    /// Bytes of the archive read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The source, where reading stopped.
    pub fn into_inner(self) -> R {
        self.source
    }

    /// The source, where reading stopped.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// The next entry, or `None` at the end; what is left of the one before is passed over.
    ///
    /// Its path is clean (see [`entry`](super::entry)): an archive that tries `..` is refused
    /// here. After an error the archive is of no more use.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.sparse = None;
        let mut extension: Option<Extension> = None;
        let mut long_name = None;
        let mut long_link = None;
        loop {
            self.skip_content()?;
            let Some(header) = self.next_header()? else {
                if extension.is_some() || long_name.is_some() || long_link.is_some() {
                    return Err(self.error(ArchiveProblem::DanglingExtension));
                }
                return Ok(None);
            };
            match header.kind() {
                b'x' | b'X' => {
                    let records = self.extension(&header)?;
                    extension = Some(pax::parse(&records).map_err(|problem| self.error(problem))?);
                }
                b'L' => long_name = Some(until_nul(self.extension(&header)?)),
                b'K' => long_link = Some(until_nul(self.extension(&header)?)),
                b'g' | b'V' => self.expect_content(self.field(header.size())?)?,
                _ => {
                    let mut extension = extension.unwrap_or_default();
                    extension.path = extension.path.or(long_name);
                    extension.link = extension.link.or(long_link);
                    return self.entry(&header, extension).map(Some);
                }
            }
        }
    }

    /// The entry that `header` and what came before it say, ready for its content to be read.
    fn entry(&mut self, header: &Header, extension: Extension) -> Result<Entry> {
        let stored = match extension.size {
            Some(size) => size,
            None => self.field(header.size())?,
        };
        let sparse_name = extension.sparse.name.clone();
        let name = sparse_name
            .or(extension.path)
            .unwrap_or_else(|| header.path());
        let link = extension.link.unwrap_or_else(|| header.link());
        let kind = match header.kind() {
            b'0' | 0 | b'7' if name.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => {
                self.expect_content(stored)?;
                self.file(header, &extension.sparse)?
            }
            b'1' => Kind::Hardlink {
                target: clean_path(&link)?,
            },
            b'2' => Kind::Symlink { target: link },
            b'3' => Kind::CharDevice(self.device(header)?),
            b'4' => Kind::BlockDevice(self.device(header)?),
            b'5' => Kind::Directory,
            b'D' => {
                self.expect_content(stored)?;
                Kind::Directory
            }
            b'6' => Kind::Fifo,
            other => return Err(self.error(ArchiveProblem::Type(char::from(other)))),
        };
        Ok(Entry {
            path: clean_path(&name)?,
            kind,
            mode: self.field(header.mode())?,
            uid: extension.uid.map_or_else(|| self.field(header.uid()), Ok)?,
            gid: extension.gid.map_or_else(|| self.field(header.gid()), Ok)?,
            mtime: extension
                .mtime
                .map_or_else(|| self.field(header.mtime()), Ok)?,
            xattrs: extension.xattrs,
        })
    }

    /// A regular file, with the map of a sparse one taken in.
    fn file(&mut self, header: &Header, sparse: &pax::Sparse) -> Result<Kind> {
        let (pieces, size) = if header.kind() == b'S' {
            (self.gnu_map(header)?, self.field(header.real_size())?)
        } else if sparse.map_in_content {
            let Some(size) = sparse.real_size else {
                return Err(self.error(ArchiveProblem::Sparse));
            };
            (self.map_in_content()?, size)
        } else if let Some(map) = &sparse.map {
            (map.clone(), sparse.real_size.unwrap_or(self.left))
        } else {
            return Ok(Kind::File { size: self.left });
        };
        let map = SparseMap::new(pieces, size, self.left)
            .ok_or_else(|| self.error(ArchiveProblem::Sparse))?;
        self.sparse = Some(map);
        Ok(Kind::File { size })
    }

    /// The old GNU map: in the header, and in blocks between it and the content.
    fn gnu_map(&mut self, header: &Header) -> Result<Vec<(u64, u64)>> {
        let (mut pieces, mut more) = self.field(header.sparse_map())?;
        let mut block = [0; BLOCK];
        while more {
            self.fill(&mut block)?;
            let (next, again) = self.field(sparse_extension(&block))?;
            pieces.extend(next);
            more = again;
            self.check_map_length(pieces.len())?;
        }
        Ok(pieces)
    }

    /// The map of version 1.0: lines of decimal numbers, padded to a block, before the content.
    fn map_in_content(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut text = Vec::new();
        let mut block = [0; BLOCK];
        loop {
            self.left = self
                .left
                .checked_sub(BLOCK as u64)
                .ok_or_else(|| self.error(ArchiveProblem::Sparse))?;
            self.fill(&mut block)?;
            text.extend_from_slice(&block);
            match parse_map_text(&text) {
                Err(()) => return Err(self.error(ArchiveProblem::Sparse)),
                Ok(Some(pieces)) => return Ok(pieces),
                Ok(None) => self.check_map_length(text.len() / 4)?,
            }
        }
    }

    fn check_map_length(&self, pieces: usize) -> Result<()> {
        match pieces as u64 > EXTENSION_LIMIT / 16 {
            true => Err(self.error(ArchiveProblem::ExtensionSize(pieces as u64 * 16))),
            false => Ok(()),
        }
    }

    fn device(&self, header: &Header) -> Result<Device> {
        let (major, minor) = self.field(header.device())?;
        Ok(Device { major, minor })
    }

    /// The whole content of an extended header.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = self.field(header.size())?;
        if size > EXTENSION_LIMIT {
            return Err(self.error(ArchiveProblem::ExtensionSize(size)));
        }
        self.expect_content(size)?;
        let mut bytes = vec![0; size as usize];
        self.fill(&mut bytes)?;
        self.left = 0;
        Ok(bytes)
    }

    /// The next block, if it is a header rather than the end.
    fn next_header(&mut self) -> Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let count = self.fill_some(&mut block)?;
        self.ended = count < BLOCK || block == [0; BLOCK];
        if count == 0 {
            return Ok(None);
        }
        let first = self.offset <= BLOCK as u64;
        if count < BLOCK {
            let problem = if first {
                ArchiveProblem::NotTar
            } else {
                ArchiveProblem::Truncated
            };
            return Err(self.error(problem));
        }
        if self.ended {
            self.saw_end_mark = true;
            return Ok(None);
        }
        let header = Header(block);
        if !header.checksum_is_right() {
            let problem = if first {
                ArchiveProblem::NotTar
            } else {
                ArchiveProblem::Checksum
            };
            return Err(self.error(problem));
        }
        Ok(Some(header))
    }

    /// Notes that `size` bytes of content follow, and their padding.
    fn expect_content(&mut self, size: u64) -> Result<()> {
        self.padding = size.wrapping_neg() % BLOCK as u64;
        self.left = size;
        // An offset beyond 2^63 is in no file.
        match i64::try_from(size) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.error(ArchiveProblem::Field("size"))),
        }
    }

    /// Passes over what is left of the content, and its padding.
    ///
    /// An archive that ends in the padding ends there, as it does for Go: umoci leaves the padding
    /// of a layer's last file out.
    fn skip_content(&mut self) -> Result<()> {
        let mut scratch = [0; 16 << 10];
        let (mut left, padding) = (self.left, self.padding as usize);
        (self.left, self.padding) = (0, 0);
        while left > 0 {
            let want = left.min(scratch.len() as u64) as usize;
            self.fill(&mut scratch[..want])?;
            left -= want as u64;
        }
        self.ended |= self.fill_some(&mut scratch[..padding])? < padding;
        Ok(())
    }

    /// Fills `buffer`; that the archive ends before is an error.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        match self.fill_some(buffer)? == buffer.len() {
            true => Ok(()),
            false => Err(self.error(ArchiveProblem::Truncated)),
        }
    }

    /// Fills as much of `buffer` as there is.
    fn fill_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.source.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Read(error)),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    fn error(&self, problem: ArchiveProblem) -> Error {
        Error::Archive {
            offset: self.offset,
            problem,
        }
    }

    fn field<T>(&self, value: Result<T, ArchiveProblem>) -> Result<T> {
        value.map_err(|problem| self.error(problem))
    }

    /// Reads stored bytes of the content; 0 at its end.
    fn read_stored(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let want = self.left.min(buffer.len() as u64) as usize;
        if want == 0 {
            return Ok(0);
        }
        let count = loop {
            match self.source.read(&mut buffer[..want]) {
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Read(error)),
            }
        };
        self.offset += count as u64;
        self.left -= count as u64;
        match count {
            0 => Err(self.error(ArchiveProblem::Truncated)),
            _ => Ok(count),
        }
    }

    fn read_sparse(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(map) = &mut self.sparse else {
            return self.read_stored(buffer);
        };
        let (stored, length) = map.next(buffer.len());
        if !stored {
            buffer[..length].fill(0);
            map.advance(length);
            return Ok(length);
        }
        let count = self.read_stored(&mut buffer[..length])?;
        if let Some(map) = &mut self.sparse {
            map.advance(count);
        }
        Ok(count)
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.read_sparse(buffer).map_err(Error::into_io)
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

#[cfg(test)]
mod tests;

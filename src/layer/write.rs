//! Writing a tar archive: ustar headers, and PAX records for what they cannot say.
//!
//! The same entries give the same bytes. There is a PAX header exactly when one of these holds:
//!
//! | record | when |
//! |---|---|
//! | `path`, `linkpath` | longer than the fields, or UTF-8 that isn't ASCII |
//! | `uid`, `gid` | above 2097151 |
//! | `size` | 8 GiB and more |
//! | `mtime` | before 1970, or with nanoseconds |
//! | `SCHILY.xattr.NAME` | each extended attribute |
//!
//! User and group names are left empty: they mean something on one machine only. A name that is
//! not UTF-8 goes into the header as it is, and if it is too long for that into the record, with
//! `hdrcharset=BINARY` before it as POSIX has it.

use std::io::{ErrorKind, Read, Write};

use super::entry::{Entry, EntrySink, Kind, check_path};
use super::error::{ArchiveProblem, EntryProblem, Error, Result};
use super::header::{BLOCK, Header, NAME_LENGTH};
use super::pax;

/// Bytes of content copied at once.
const BUFFER: usize = 128 << 10;

/// A tar archive being written. Dropped without [`TarWriter::finish`], it has no end.
pub struct TarWriter<W: Write> {
    out: W,
    entries: u64,
    content_size: u64,
    buffer: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    /// An archive with nothing in it yet.
    pub fn new(out: W) -> TarWriter<W> {
        TarWriter {
            out,
            entries: 0,
            content_size: 0,
            buffer: Vec::new(),
        }
    }

    /// Adds `entry`, a regular file with its content.
    ///
    /// The caller sees to the order: a directory before what is in it, a file before its hard
    /// links, whiteouts before the other names of their directory, and names sorted, so that the
    /// same tree gives the same archive. Content of another length than the entry says is an
    /// error that names the entry; the archive is of no use then.
    pub fn append(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        check_path(&entry.path)?;
        let (header, records) = encode(entry)?;
        if !records.is_empty() {
            self.extension(entry, &records)?;
        }
        self.write(&header.finish())?;
        match (&entry.kind, content) {
            (Kind::File { size }, Some(content)) => self.content(entry, *size, content)?,
            (Kind::File { size: 0 }, None) => {}
            (Kind::File { .. }, None) | (_, Some(_)) => {
                return Err(problem(entry, EntryProblem::Content));
            }
            (_, None) => {}
        }
        self.entries += 1;
        self.content_size += entry.size();
        Ok(())
    }

    /// Entries added.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes of content of the files added.
    pub fn content_size(&self) -> u64 {
        self.content_size
    }

    /// Writes the end mark, two blocks of zeros, and gives the writer back.
    pub fn finish(mut self) -> Result<W> {
        self.write(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    /// A PAX header: an entry of type `x` whose content is the records.
    fn extension(&mut self, entry: &Entry, records: &[u8]) -> Result<()> {
        let mut header = Header::new(b'x');
        let (_, name) = entry.split_path();
        // Readers that know no PAX make a file of it; the name says what it is.
        let mut path = b"PaxHeaders/".to_vec();
        path.extend_from_slice(&name[..name.len().min(NAME_LENGTH - path.len())]);
        header.set_path(&path);
        header.set_mode(0o644);
        header.set_size(records.len() as u64);
        self.write(&header.finish())?;
        self.write(records)?;
        self.pad(records.len() as u64)
    }

    fn content(&mut self, entry: &Entry, size: u64, content: &mut dyn Read) -> Result<()> {
        let changed = |grew| Error::Changed {
            path: entry.path.clone(),
            expected: size,
            grew,
        };
        self.buffer.resize(BUFFER, 0);
        let mut left = size;
        while left > 0 {
            // One byte more than is due, so that a file which grew is noticed in the last read.
            let want = usize::try_from(left.saturating_add(1))
                .unwrap_or(BUFFER)
                .min(BUFFER);
            let count = read_some(entry, content, &mut self.buffer[..want])?;
            if count == 0 {
                return Err(changed(false));
            }
            left = left
                .checked_sub(count as u64)
                .ok_or_else(|| changed(true))?;
            self.out
                .write_all(&self.buffer[..count])
                .map_err(Error::Write)?;
        }
        if read_some(entry, content, &mut self.buffer[..1])? != 0 {
            return Err(changed(true));
        }
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let over = (size % BLOCK as u64) as usize;
        if over == 0 {
            Ok(())
        } else {
            self.write(&[0; BLOCK][over..])
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(Error::Write)
    }
}

impl<W: Write> EntrySink for TarWriter<W> {
    fn entry(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        self.append(entry, content)
    }
}

fn problem(entry: &Entry, problem: EntryProblem) -> Error {
    Error::Entry {
        path: entry.path.clone(),
        problem,
    }
}

fn read_some(entry: &Entry, content: &mut dyn Read, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match content.read(buffer) {
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::of_content(&entry.path, error)),
        }
    }
}

/// The header of `entry`, and the PAX records that it needs besides.
fn encode(entry: &Entry) -> Result<(Header, Vec<u8>)> {
    let mut header = Header::new(type_flag(&entry.kind));
    let mut records = Vec::new();
    let path = archive_path(entry)?;
    if !header.set_path(&path) || is_foreign_text(&path) {
        push_name(&mut records, b"path", &path);
    }
    encode_kind(entry, &mut header, &mut records)?;
    header.set_mode(entry.mode);
    if !header.set_size(entry.size()) {
        pax::push(&mut records, b"size", entry.size().to_string().as_bytes());
    }
    if !header.set_uid(entry.uid) {
        pax::push(&mut records, b"uid", entry.uid.to_string().as_bytes());
    }
    if !header.set_gid(entry.gid) {
        pax::push(&mut records, b"gid", entry.gid.to_string().as_bytes());
    }
    if !header.set_mtime(entry.mtime) {
        pax::push(
            &mut records,
            b"mtime",
            pax::format_time(entry.mtime).as_bytes(),
        );
    }
    for (name, value) in &entry.xattrs {
        // The first `=` ends a key, so such a name would be read as another one.
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
            return Err(problem(entry, EntryProblem::XattrName));
        }
        pax::push(&mut records, &[pax::XATTR, name].concat(), value);
    }
    Ok((header, records))
}

/// Directories end in a slash; the root is `./`.
fn archive_path(entry: &Entry) -> Result<Vec<u8>> {
    let mut path = entry.path.clone();
    match (&entry.kind, path.is_empty()) {
        (Kind::Directory, true) => path.extend_from_slice(b"./"),
        (Kind::Directory, false) => path.push(b'/'),
        (_, true) => return Err(problem(entry, EntryProblem::RootKind)),
        (_, false) => {}
    }
    Ok(path)
}

fn type_flag(kind: &Kind) -> u8 {
    match kind {
        Kind::File { .. } => b'0',
        Kind::Hardlink { .. } => b'1',
        Kind::Symlink { .. } => b'2',
        Kind::CharDevice(_) => b'3',
        Kind::BlockDevice(_) => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// What only some kinds have: a target, a device number.
fn encode_kind(entry: &Entry, header: &mut Header, records: &mut Vec<u8>) -> Result<()> {
    match &entry.kind {
        Kind::Symlink { target } | Kind::Hardlink { target } => {
            if target.is_empty() || target.contains(&0) {
                return Err(problem(entry, EntryProblem::LinkTarget));
            }
            if matches!(entry.kind, Kind::Hardlink { .. }) {
                check_path(target)?;
            }
            if !header.set_link(target) || is_foreign_text(target) {
                push_name(records, b"linkpath", target);
            }
        }
        Kind::CharDevice(device) | Kind::BlockDevice(device) => {
            if !header.set_device(device.major, device.minor) {
                let problem = ArchiveProblem::Field("device number");
                return Err(Error::Archive { offset: 0, problem });
            }
        }
        Kind::File { .. } | Kind::Directory | Kind::Fifo => {}
    }
    Ok(())
}

/// UTF-8 beyond ASCII: POSIX lets ustar fields hold ASCII only.
fn is_foreign_text(name: &[u8]) -> bool {
    !name.is_ascii() && std::str::from_utf8(name).is_ok()
}

fn push_name(records: &mut Vec<u8>, key: &[u8], name: &[u8]) {
    if std::str::from_utf8(name).is_err() {
        pax::push(records, b"hdrcharset", b"BINARY");
    }
    pax::push(records, key, name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::entry::{Device, Mtime};

    fn archive(entries: &[(Entry, &[u8])]) -> Result<Vec<u8>> {
        let mut writer = TarWriter::new(Vec::new());
        for (entry, content) in entries {
            let mut content = *content;
            let file = matches!(entry.kind, Kind::File { .. });
            writer.append(entry, file.then_some(&mut content as &mut dyn Read))?;
        }
        writer.finish()
    }

    #[test]
    fn a_plain_file_is_one_header_its_content_and_the_end() {
        let entry = Entry::new("a", Kind::File { size: 3 }, 0o644);
        let bytes = archive(&[(entry, b"xyz")]).unwrap();
        assert_eq!(bytes.len(), 4 * BLOCK);
        assert_eq!(&bytes[BLOCK..BLOCK + 4], b"xyz\0");
        assert_eq!(&bytes[265..329], &[0; 64], "no names of users");
    }

    #[test]
    fn a_file_that_shrinks_or_grows_while_it_is_read_is_an_error_that_names_it() {
        for (size, grew) in [(4, false), (2, true), (0, true), (BUFFER as u64, false)] {
            let entry = Entry::new("dir/log", Kind::File { size }, 0o644);
            match archive(&[(entry, b"xyz")]) {
                Err(Error::Changed {
                    path, grew: found, ..
                }) => {
                    assert_eq!((path.as_slice(), found), (&b"dir/log"[..], grew));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn names_that_are_no_paths_are_refused() {
        for path in ["/etc/passwd", "../x", "a//b", ""] {
            assert!(
                archive(&[(Entry::new(path, Kind::Fifo, 0), b"")]).is_err(),
                "{path}"
            );
        }
        let link = |target: &str| Kind::Hardlink {
            target: target.into(),
        };
        assert!(archive(&[(Entry::new("a", link("../b"), 0), b"")]).is_err());
    }

    #[test]
    fn a_header_alone_is_enough_for_what_ustar_can_say() {
        let mut entry = Entry::new(
            [vec![b'd'; 120], b"/name".to_vec()].concat(),
            Kind::Fifo,
            0o7777,
        );
        entry.uid = 2_097_151;
        entry.mtime = Mtime::from_seconds(8_589_934_591);
        assert!(encode(&entry).unwrap().1.is_empty());
        entry.kind = Kind::CharDevice(Device {
            major: 4095,
            minor: 1_048_575,
        });
        assert!(encode(&entry).unwrap().1.is_empty());
    }

    #[test]
    fn a_size_beyond_8_gib_is_a_record() {
        let entry = Entry::new("big", Kind::File { size: 1 << 33 }, 0);
        let (header, records) = encode(&entry).unwrap();
        assert_eq!(records, b"19 size=8589934592\n");
        assert_eq!(header.size(), Ok(0));
    }
}

//! The 512-byte header block of a tar archive, to and from bytes.
//!
//! POSIX.1-2024, pax, "ustar Interchange Format"; the GNU fields by the tar manual, "Basic Tar".
//!
//! ```text
//!   0 name 100     100 mode 8     108 uid 8     116 gid 8     124 size 12    136 mtime 12
//! 148 checksum 8   156 type 1     157 link name 100           257 magic 6    263 version 2
//! 265 uname 32     297 gname 32   329 major 8   337 minor 8   345 prefix 155
//! GNU, type S:     386 four of (offset 12, length 12)         482 more 1     483 real size 12
//! ```
//!
//! Numbers are octal text; where that is too short GNU has a big-endian two's complement number,
//! marked by the first byte's top bit. It is read but never written: PAX has a record for each.

use std::ops::Range;

use super::entry::Mtime;
use super::error::ArchiveProblem;

/// Bytes of a block: headers are one, content is padded to whole ones.
pub const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const VERSION: Range<usize> = 263..265;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
/// In the format of star, where the prefix ends earlier and times follow it.
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_MAGIC: Range<usize> = 508..512;
const GNU_SPARSE: Range<usize> = 386..482;
const GNU_MORE: usize = 482;
const GNU_REAL_SIZE: Range<usize> = 483..495;

/// The largest number that octal text of a field's width can say.
const fn octal_limit(field: &Range<usize>) -> u64 {
    (1 << (3 * (field.end - field.start - 1))) - 1
}

/// Bytes of a name or of a link's target.
pub const NAME_LENGTH: usize = NAME.end - NAME.start;

/// A header block.
#[derive(Clone)]
pub struct Header(pub [u8; BLOCK]);

impl Header {
    /// A ustar header of `kind` (the type flag) without a name, all numbers 0.
    pub fn new(kind: u8) -> Header {
        let mut header = Header([0; BLOCK]);
        header.0[MAGIC].copy_from_slice(b"ustar\0");
        header.0[VERSION].copy_from_slice(b"00");
        header.0[TYPE] = kind;
        for field in [MODE, UID, GID, SIZE, MTIME, MAJOR, MINOR] {
            header.put_octal(field, 0);
        }
        header
    }

    /// Sets name and prefix if `path` fits them, else the name to what fits of it. Whether it did.
    pub fn set_path(&mut self, path: &[u8]) -> bool {
        if let Some((prefix, name)) = split_for_prefix(path) {
            self.0[NAME][..name.len()].copy_from_slice(name);
            self.0[PREFIX][..prefix.len()].copy_from_slice(prefix);
            return true;
        }
        let fitting = &path[..path.len().min(NAME_LENGTH)];
        self.0[NAME][..fitting.len()].copy_from_slice(fitting);
        false
    }

    /// Sets the link name, as far as it fits. Whether it did.
    pub fn set_link(&mut self, target: &[u8]) -> bool {
        let fitting = &target[..target.len().min(NAME_LENGTH)];
        self.0[LINK][..fitting.len()].copy_from_slice(fitting);
        fitting.len() == target.len()
    }

    /// Sets the permission bits.
    pub fn set_mode(&mut self, mode: u32) {
        self.put_octal(MODE, u64::from(mode & 0o7777));
    }

    /// Sets the owner, or 0 if it is too large. Whether it fitted.
    pub fn set_uid(&mut self, uid: u32) -> bool {
        self.put_octal(UID, uid.into())
    }

    /// Sets the group, or 0 if it is too large. Whether it fitted.
    pub fn set_gid(&mut self, gid: u32) -> bool {
        self.put_octal(GID, gid.into())
    }

    /// Sets the size, or 0 if it is too large. Whether it fitted.
    pub fn set_size(&mut self, size: u64) -> bool {
        self.put_octal(SIZE, size)
    }

    /// Sets the time's whole seconds, or 0 if they don't fit. Whether all of it fitted.
    pub fn set_mtime(&mut self, mtime: Mtime) -> bool {
        match u64::try_from(mtime.seconds) {
            Ok(seconds) => self.put_octal(MTIME, seconds) && mtime.nanoseconds == 0,
            Err(_) => false,
        }
    }

    /// Sets the device number. Whether it fitted; Linux' numbers (12 and 20 bits) do.
    pub fn set_device(&mut self, major: u32, minor: u32) -> bool {
        self.put_octal(MAJOR, major.into()) & self.put_octal(MINOR, minor.into())
    }

    /// Sets the checksum and gives the finished block.
    pub fn finish(mut self) -> [u8; BLOCK] {
        let sum = self.sums().0;
        // Six digits, a NUL and a space: the one field that is ended so.
        self.0[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0
    }

    /// Octal with leading zeros and a NUL, or all zeros if `value` is too large.
    fn put_octal(&mut self, field: Range<usize>, value: u64) -> bool {
        let fits = value <= octal_limit(&field);
        let mut rest = if fits { value } else { 0 };
        let bytes = &mut self.0[field];
        let digits = bytes.len() - 1;
        for byte in bytes[..digits].iter_mut().rev() {
            *byte = b'0' + (rest & 7) as u8;
            rest >>= 3;
        }
        bytes[digits] = 0;
        fits
    }

    /// The sum of all bytes, those of the checksum as spaces: unsigned, and signed as some old
    /// writers had it.
    fn sums(&self) -> (u32, i32) {
        let mut unsigned = 0u32;
        let mut signed = 0i32;
        for (index, &byte) in self.0.iter().enumerate() {
            let byte = if CHECKSUM.contains(&index) {
                b' '
            } else {
                byte
            };
            unsigned += u32::from(byte);
            signed += i32::from(byte.cast_signed());
        }
        (unsigned, signed)
    }

    /// Whether the checksum is that of the block.
    pub fn checksum_is_right(&self) -> bool {
        let (unsigned, signed) = self.sums();
        number(&self.0[CHECKSUM])
            .is_some_and(|sum| sum == i64::from(unsigned) || sum == i64::from(signed))
    }

    /// The type flag.
    pub fn kind(&self) -> u8 {
        self.0[TYPE]
    }

    /// Prefix and name.
    pub fn path(&self) -> Vec<u8> {
        let name = text(&self.0[NAME]);
        let prefix = if self.0[STAR_MAGIC] == *b"tar\0" {
            text(&self.0[STAR_PREFIX])
        } else if self.0[MAGIC] == *b"ustar\0" {
            text(&self.0[PREFIX])
        } else {
            // GNU and V7 have other things there.
            &[]
        };
        if prefix.is_empty() {
            name.to_vec()
        } else {
            [prefix, b"/", name].concat()
        }
    }

    /// The link name.
    pub fn link(&self) -> Vec<u8> {
        text(&self.0[LINK]).to_vec()
    }

    /// The 12 permission bits.
    pub fn mode(&self) -> Result<u32, ArchiveProblem> {
        let mode = number(&self.0[MODE]).ok_or(ArchiveProblem::Field("mode"))?;
        Ok((mode & 0o7777) as u32)
    }

    /// The owner.
    pub fn uid(&self) -> Result<u32, ArchiveProblem> {
        self.narrow(UID, "uid")
    }

    /// The group.
    pub fn gid(&self) -> Result<u32, ArchiveProblem> {
        self.narrow(GID, "gid")
    }

    /// Bytes of content in the archive.
    pub fn size(&self) -> Result<u64, ArchiveProblem> {
        self.narrow(SIZE, "size")
    }

    /// The modification time.
    pub fn mtime(&self) -> Result<Mtime, ArchiveProblem> {
        self.narrow(MTIME, "mtime").map(Mtime::from_seconds)
    }

    /// The device number.
    pub fn device(&self) -> Result<(u32, u32), ArchiveProblem> {
        Ok((
            self.narrow(MAJOR, "device number")?,
            self.narrow(MINOR, "device number")?,
        ))
    }

    /// The size of a GNU sparse file with its holes.
    pub fn real_size(&self) -> Result<u64, ArchiveProblem> {
        self.narrow(GNU_REAL_SIZE, "size")
    }

    /// The first pieces of a GNU sparse file, and whether blocks with more of them follow.
    pub fn sparse_map(&self) -> Result<(Vec<(u64, u64)>, bool), ArchiveProblem> {
        Ok((sparse_pieces(&self.0[GNU_SPARSE])?, self.0[GNU_MORE] != 0))
    }

    fn narrow<T: TryFrom<i64>>(
        &self,
        field: Range<usize>,
        name: &'static str,
    ) -> Result<T, ArchiveProblem> {
        number(&self.0[field])
            .and_then(|value| T::try_from(value).ok())
            .ok_or(ArchiveProblem::Field(name))
    }
}

/// The pieces in a block that continues a GNU sparse map, and whether one more follows.
pub fn sparse_extension(block: &[u8; BLOCK]) -> Result<(Vec<(u64, u64)>, bool), ArchiveProblem> {
    Ok((sparse_pieces(&block[..504])?, block[504] != 0))
}

fn sparse_pieces(bytes: &[u8]) -> Result<Vec<(u64, u64)>, ArchiveProblem> {
    let mut pieces = Vec::new();
    for piece in bytes.chunks_exact(24) {
        if piece[0] == 0 {
            break;
        }
        let half = |bytes| number(bytes).and_then(|value| u64::try_from(value).ok());
        match (half(&piece[..12]), half(&piece[12..])) {
            (Some(offset), Some(length)) => pieces.push((offset, length)),
            _ => return Err(ArchiveProblem::Sparse),
        }
    }
    Ok(pieces)
}

/// A field's text: up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(field.len());
    &field[..end]
}

/// A numeric field: octal text, or GNU's binary number. An empty field is 0.
fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => return binary(field),
        _ => {}
    }
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Two's complement, big-endian; bit 7 of the first byte is only the mark, bit 6 the sign.
fn binary(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let start = if negative { -1i128 } else { 0 };
    let mut value = start << 6 | i128::from(field[0] & 0x3f);
    for &byte in &field[1..] {
        value = value.checked_mul(256)? | i128::from(byte);
    }
    i64::try_from(value).ok()
}

/// `path` as prefix and name around one of its slashes, if it can be had so that both fit.
fn split_for_prefix(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME_LENGTH {
        return Some((&[], path));
    }
    // The name must not be empty, so a directory's last slash is none to split at.
    let earliest = path.len() - NAME_LENGTH - 1;
    let latest = (PREFIX.end - PREFIX.start).min(path.len() - 2);
    let slash = (earliest..=latest).find(|&index| path[index] == b'/')?;
    (slash > 0).then(|| (&path[..slash], &path[slash + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_octal_and_as_gnu_binary() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"    644 "), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"12x\0\0\0\0\0"), None);
        assert_eq!(
            number(&[0x80, 0, 0, 0, 0, 0x2d, 0xc6, 0xc0]),
            Some(3_000_000)
        );
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(
            number(&[
                0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0
            ]),
            None
        );
    }

    #[test]
    fn a_long_path_is_split_only_where_both_halves_fit() {
        let fits = [vec![b'd'; 155], vec![b'/'], vec![b'n'; 100]].concat();
        assert_eq!(
            split_for_prefix(&fits).map(|(p, n)| (p.len(), n.len())),
            Some((155, 100))
        );
        let long_name = [vec![b'd'; 10], vec![b'/'], vec![b'n'; 101]].concat();
        assert_eq!(split_for_prefix(&long_name), None);
        let no_slash = vec![b'n'; 101];
        assert_eq!(split_for_prefix(&no_slash), None);
        let directory = [vec![b'd'; 100], vec![b'/']].concat();
        assert_eq!(
            split_for_prefix(&directory),
            None,
            "the name would be empty"
        );
        assert_eq!(
            split_for_prefix(b"short/"),
            Some((&b""[..], &b"short/"[..]))
        );
    }

    #[test]
    fn a_header_reads_back_what_was_set() {
        let mut header = Header::new(b'0');
        assert!(header.set_path(b"a/b") && header.set_uid(7) && header.set_size(1 << 32));
        assert!(!header.set_gid(3_000_000));
        assert!(!header.set_mtime(Mtime {
            seconds: -1,
            nanoseconds: 0
        }));
        let mut header = Header(header.finish());
        assert!(header.checksum_is_right());
        assert_eq!(
            (header.path(), header.uid(), header.gid()),
            (b"a/b".to_vec(), Ok(7), Ok(0))
        );
        assert_eq!(header.size(), Ok(1 << 32));
        header.0[0] ^= 1;
        assert!(!header.checksum_is_right());
    }
}

//! PAX extended headers: what a ustar header has no room for.
//!
//! POSIX.1-2024, pax, "pax Extended Header": records `LENGTH KEY=VALUE\n`, where LENGTH counts
//! the whole record, its own digits included. Extended attributes are `SCHILY.xattr.NAME`, as
//! star began and image-spec implementations continued. Values are bytes: names on Linux need
//! not be UTF-8, and readers take what comes.

use super::entry::{Mtime, Xattrs};
use super::error::ArchiveProblem;

/// What the key of an extended attribute begins with.
pub const XATTR: &[u8] = b"SCHILY.xattr.";

/// Adds the record `key=value` to `records`.
pub fn push(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // " ", "=" and "\n"; then as many digits as the sum with them needs.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + digits(rest);
    if digits(length) > digits(rest) {
        length += 1;
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// A time as decimal text, with as many digits after the point as it needs.
pub fn format_time(time: Mtime) -> String {
    let Mtime {
        seconds,
        nanoseconds,
    } = time;
    if nanoseconds == 0 {
        return seconds.to_string();
    }
    // Nanoseconds count forward from a second that was rounded down; text counts from zero.
    let (sign, seconds, nanoseconds) = if seconds < 0 {
        (
            "-",
            (seconds + 1).unsigned_abs(),
            1_000_000_000 - nanoseconds,
        )
    } else {
        ("", seconds.unsigned_abs(), nanoseconds)
    };
    let fraction = format!("{nanoseconds:09}");
    format!("{sign}{seconds}.{}", fraction.trim_end_matches('0'))
}

/// The inverse of [`format_time`]; digits beyond nanoseconds are cut off.
pub fn parse_time(text: &[u8]) -> Option<Mtime> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let decimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !decimal(seconds) || !decimal(fraction) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let nanoseconds: u32 = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction))
        .parse()
        .ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => Mtime {
            seconds,
            nanoseconds,
        },
        (true, 0) => Mtime {
            seconds: -seconds,
            nanoseconds,
        },
        (true, _) => Mtime {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// What a PAX header says about the entry after it.
#[derive(Debug, Default)]
pub struct Extension {
    /// The path, in place of the header's.
    pub path: Option<Vec<u8>>,
    /// The link's target.
    pub link: Option<Vec<u8>>,
    /// Bytes of content in the archive.
    pub size: Option<u64>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The modification time.
    pub mtime: Option<Mtime>,
    /// Extended attributes.
    pub xattrs: Xattrs,
    /// What GNU tar says of a sparse file.
    pub sparse: Sparse,
}

/// The records `GNU.sparse.*`, of which there are three generations (tar manual, "Storing Sparse
/// Files"): 0.0 repeats offset and numbytes, 0.1 has a map, 1.0 puts the map before the content.
#[derive(Debug, Default)]
pub struct Sparse {
    /// The file's name, where the entry's is a made-up one (0.1, 1.0).
    pub name: Option<Vec<u8>>,
    /// The size with holes.
    pub real_size: Option<u64>,
    /// Pieces of data as (offset, length), by 0.0 or 0.1.
    pub map: Option<Vec<(u64, u64)>>,
    /// Whether the map precedes the content: 1.0.
    pub map_in_content: bool,
}

/// Reads the records of a PAX header.
pub fn parse(mut records: &[u8]) -> Result<Extension, ArchiveProblem> {
    let mut extension = Extension::default();
    // Some writers pad with NUL inside the size.
    while !records.is_empty() && records[0] != 0 {
        let (key, value, rest) = split_record(records).ok_or_else(|| bad(records))?;
        apply(&mut extension, key, value).ok_or_else(|| bad(records))?;
        records = rest;
    }
    Ok(extension)
}

/// The beginning of what could not be read, for the message.
fn bad(records: &[u8]) -> ArchiveProblem {
    let line = records
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    ArchiveProblem::Pax(String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned())
}

fn split_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|&byte| byte == b' ')?;
    let length: usize = decimal(&records[..space])?.try_into().ok()?;
    let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &records[length..]))
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Takes in one record; `None` if its value makes no sense. Unknown keys are passed over, as
/// POSIX asks.
fn apply(extension: &mut Extension, key: &[u8], value: &[u8]) -> Option<()> {
    if let Some(name) = key.strip_prefix(XATTR) {
        extension.xattrs.insert(name.to_vec(), value.to_vec());
        return Some(());
    }
    if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
        return apply_sparse(&mut extension.sparse, name, value);
    }
    // An empty value takes back what a global header said; global headers are ignored here.
    if value.is_empty() {
        return Some(());
    }
    match key {
        b"path" => extension.path = Some(value.to_vec()),
        b"linkpath" => extension.link = Some(value.to_vec()),
        b"size" => extension.size = Some(decimal(value)?),
        b"uid" => extension.uid = Some(decimal(value)?.try_into().ok()?),
        b"gid" => extension.gid = Some(decimal(value)?.try_into().ok()?),
        b"mtime" => extension.mtime = Some(parse_time(value)?),
        _ => {}
    }
    Some(())
}

fn apply_sparse(sparse: &mut Sparse, name: &[u8], value: &[u8]) -> Option<()> {
    match name {
        b"name" => sparse.name = Some(value.to_vec()),
        b"size" | b"realsize" => sparse.real_size = Some(decimal(value)?),
        b"major" => sparse.map_in_content = decimal(value)? >= 1,
        b"offset" => sparse
            .map
            .get_or_insert_default()
            .push((decimal(value)?, 0)),
        b"numbytes" => sparse.map.as_mut()?.last_mut()?.1 = decimal(value)?,
        b"map" => {
            let numbers: Option<Vec<u64>> =
                value.split(|&byte| byte == b',').map(decimal).collect();
            let numbers = numbers?;
            let pairs = numbers.chunks_exact(2);
            if !pairs.remainder().is_empty() {
                return None;
            }
            sparse.map = Some(pairs.map(|pair| (pair[0], pair[1])).collect());
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_digits() {
        for length in [
            0, 1, 3, 4, 5, 88, 89, 90, 91, 92, 93, 985, 986, 987, 988, 989, 990,
        ] {
            let mut records = Vec::new();
            push(&mut records, b"path", &vec![b'x'; length]);
            let said: usize =
                decimal(records.split(|&b| b == b' ').next().unwrap()).unwrap() as usize;
            assert_eq!(said, records.len(), "{length}");
        }
    }

    #[test]
    fn times_before_and_after_1970_read_back() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (1, 500_000_000, "1.5"),
            (-2, 500_000_000, "-1.5"),
            (-1, 999_999_999, "-0.000000001"),
            (-7, 0, "-7"),
            (1_700_000_000, 123_456_789, "1700000000.123456789"),
        ] {
            let time = Mtime {
                seconds,
                nanoseconds,
            };
            assert_eq!(format_time(time), text);
            assert_eq!(parse_time(text.as_bytes()), Some(time));
        }
        assert_eq!(
            parse_time(b"1.1234567899"),
            Some(Mtime {
                seconds: 1,
                nanoseconds: 123_456_789
            })
        );
        for text in ["", "-", ".5", "1.x", "+1", "1e3", "99999999999999999999"] {
            assert_eq!(parse_time(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn records_are_read_whatever_bytes_they_hold() {
        let mut records = Vec::new();
        push(&mut records, b"path", b"a=b\nc\xff");
        push(&mut records, b"uid", b"3000000");
        push(&mut records, b"SCHILY.xattr.user.x", b"\0=\n");
        push(&mut records, b"VENDOR.thing", b"?");
        let extension = parse(&records).unwrap();
        assert_eq!(extension.path.as_deref(), Some(&b"a=b\nc\xff"[..]));
        assert_eq!(extension.uid, Some(3_000_000));
        assert_eq!(extension.xattrs[&b"user.x"[..]], b"\0=\n");
    }

    #[test]
    fn records_that_lie_about_themselves_are_refused() {
        for records in [
            "5 path=x\n",
            "99 path=x\n",
            "x path=y\n",
            "9 path=xx",
            "11 pathxxxx\n",
            "0 path=x\n",
            "99999999999999999999999 a=b\n",
            "10 uid=-1\n",
            "13 size=1x2\n",
            "-9 path=x\n",
        ] {
            assert!(parse(records.as_bytes()).is_err(), "{records:?}");
        }
    }
}

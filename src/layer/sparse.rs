//! Sparse files in archives that others wrote: which parts are stored, which are holes.
//!
//! ```text
//! file     |data....|hole......|data..|hole.|        real size
//! archive  |data....|data..|                         stored size
//! ```
//!
//! We never write them (image-spec, layer.md, "File Attributes": sparse files should not be used).

use std::collections::VecDeque;

/// Where in a sparse file a reader is, and what is there.
#[derive(Debug)]
pub struct SparseMap {
    /// (offset, length) of the pieces not yet passed, in order, none empty.
    pieces: VecDeque<(u64, u64)>,
    position: u64,
    size: u64,
}

impl SparseMap {
    /// A map of a file of `size` bytes of which `stored` are in the archive; `None` if pieces
    /// overlap, are out of order or beyond the end, or are not as much as is stored.
    pub fn new(pieces: Vec<(u64, u64)>, size: u64, stored: u64) -> Option<SparseMap> {
        let mut end = 0u64;
        let mut sum = 0u64;
        for &(offset, length) in &pieces {
            if offset < end {
                return None;
            }
            end = offset.checked_add(length)?;
            sum = sum.checked_add(length)?;
        }
        let fits = end <= size && sum == stored && i64::try_from(size).is_ok();
        let pieces = pieces
            .into_iter()
            .filter(|&(_, length)| length > 0)
            .collect();
        fits.then_some(SparseMap {
            pieces,
            position: 0,
            size,
        })
    }

    /// Whether stored bytes come next, and how many bytes of that, at most `limit`; 0 at the end.
    pub fn next(&self, limit: usize) -> (bool, usize) {
        let (stored, length) = match self.pieces.front() {
            Some(&(offset, _)) if offset > self.position => (false, offset - self.position),
            Some(&(offset, length)) => (true, offset + length - self.position),
            None => (false, self.size - self.position),
        };
        (stored, usize::try_from(length).unwrap_or(limit).min(limit))
    }

    /// Notes that `count` bytes were read.
    pub fn advance(&mut self, count: usize) {
        self.position += count as u64;
        if self
            .pieces
            .front()
            .is_some_and(|&(offset, length)| self.position >= offset + length)
        {
            self.pieces.pop_front();
        }
    }
}

/// Reads the map of GNU sparse format 1.0 (tar manual, "Storing Sparse Files"): the number of
/// pieces, then offset and length of each, a line a number. `None`: `text` isn't all of it yet.
#[allow(clippy::result_unit_err, reason = "there is one thing to say")]
pub fn parse_map_text(text: &[u8]) -> Result<Option<Vec<(u64, u64)>>, ()> {
    let mut lines = text.split_inclusive(|&byte| byte == b'\n');
    let mut number = || -> Result<Option<u64>, ()> {
        let Some(digits) = lines.next().and_then(|line| line.strip_suffix(b"\n")) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(digits).map_err(drop)?;
        text.parse().map(Some).map_err(drop)
    };
    let Some(count) = number()? else {
        return too_long(text);
    };
    let mut pieces = Vec::new();
    for _ in 0..count {
        match (number()?, number()?) {
            (Some(offset), Some(length)) => pieces.push((offset, length)),
            _ => return Ok(None),
        }
    }
    Ok(Some(pieces))
}

/// A block without a line break is not the beginning of a map.
fn too_long(text: &[u8]) -> Result<Option<Vec<(u64, u64)>>, ()> {
    if text.len() >= 512 { Err(()) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_pieces_alternate_up_to_the_size() {
        let mut map = SparseMap::new(vec![(2, 3), (5, 0), (8, 1)], 10, 4).unwrap();
        let mut seen = Vec::new();
        loop {
            let (stored, length) = map.next(2);
            if length == 0 {
                break;
            }
            seen.push((stored, length));
            map.advance(length);
        }
        let expected = [
            (false, 2),
            (true, 2),
            (true, 1),
            (false, 2),
            (false, 1),
            (true, 1),
            (false, 1),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn maps_that_contradict_themselves_are_refused() {
        assert!(
            SparseMap::new(vec![(4, 4), (2, 1)], 10, 5).is_none(),
            "out of order"
        );
        assert!(
            SparseMap::new(vec![(0, 4), (2, 4)], 10, 8).is_none(),
            "overlap"
        );
        assert!(
            SparseMap::new(vec![(8, 4)], 10, 4).is_none(),
            "beyond the end"
        );
        assert!(
            SparseMap::new(vec![(0, 4)], 10, 5).is_none(),
            "more stored than mapped"
        );
        assert!(
            SparseMap::new(vec![(u64::MAX, 2)], 10, 2).is_none(),
            "overflow"
        );
        assert!(
            SparseMap::new(vec![], u64::MAX, 0).is_none(),
            "beyond any file"
        );
    }

    #[test]
    fn the_text_map_is_read_when_it_is_whole() {
        assert_eq!(
            parse_map_text(b"2\n0\n4\n8\n1\n\0\0"),
            Ok(Some(vec![(0, 4), (8, 1)]))
        );
        assert_eq!(parse_map_text(b"2\n0\n4\n8\n"), Ok(None));
        assert_eq!(parse_map_text(b"x\n"), Err(()));
        assert_eq!(parse_map_text(&[b'1'; 512]), Err(()));
    }
}

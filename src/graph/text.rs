//! One arena for all texts of a graph: each different text lies there once.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Where a text lies. The default is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    /// No text at all, as against an empty one.
    pub const NONE: Span = Span {
        start: u32::MAX,
        length: 0,
    };
}

/// The texts.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: String,
    known: HashTable<Span>,
}

/// A hash for tables that this process makes of its own data.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    FixedState::default().hash_one(bytes)
}

impl Texts {
    /// Where `text` lies; puts it there if it is new. An arena of 4 GiB is full: what comes after
    /// is no text.
    pub fn put(&mut self, text: &str) -> Span {
        let found = self.known.find(hash(text.as_bytes()), |span| {
            slice(&self.bytes, *span) == text
        });
        if let Some(span) = found {
            return *span;
        }
        let (Ok(start), Ok(length)) = (u32::try_from(self.bytes.len()), u32::try_from(text.len()))
        else {
            return Span::NONE;
        };
        if start == u32::MAX || start.checked_add(length).is_none() {
            return Span::NONE;
        }
        let span = Span { start, length };
        self.bytes.push_str(text);
        let bytes = &self.bytes;
        self.known
            .insert_unique(hash(text.as_bytes()), span, |span| {
                hash(slice(bytes, *span).as_bytes())
            });
        span
    }

    /// Where an optional text lies.
    pub fn put_some(&mut self, text: Option<&str>) -> Span {
        text.map_or(Span::NONE, |text| self.put(text))
    }

    /// The text at `span`.
    pub fn get(&self, span: Span) -> Option<&str> {
        (span != Span::NONE).then(|| slice(&self.bytes, span))
    }

    /// Gives back what only putting needs.
    pub fn finish(&mut self) {
        self.known = HashTable::new();
        self.bytes.shrink_to_fit();
    }
}

fn slice(bytes: &str, span: Span) -> &str {
    &bytes[span.start as usize..(span.start + span.length) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_lie_once_and_none_is_not_empty() {
        let mut texts = Texts::default();
        let (a, empty, again) = (texts.put("RUN a"), texts.put(""), texts.put("RUN a"));
        assert_eq!(a, again);
        assert_eq!(texts.get(a), Some("RUN a"));
        assert_eq!(texts.get(empty), Some(""));
        let none = texts.put_some(None);
        assert_eq!(texts.get(none), None);
    }
}

//! What is shown, as values: made of a store by [`load`](super::load), read by
//! [`state`](super::state) and [`draw`](super::draw), written by hand in tests.
//!
//! Texts in it are clean already ([`text::clean`](crate::cli::render::text::clean)): nothing that
//! an image brings along reaches a terminal as it is.

use hashbrown::HashMap;

use crate::catalog::Millis;
use crate::gc::UsageKind;
use crate::graph::State;
use crate::oci::Digest;

/// An image, or a tagged document that is none.
#[derive(Debug, Clone)]
pub struct Row {
    /// The manifest's digest, or the index's.
    pub digest: Digest,
    /// The image's ID; a document's digest.
    pub id: Digest,
    /// Its names, `", "` between them; empty: it has none.
    pub names: Box<str>,
    /// The instruction that made it; may be empty.
    pub step: Box<str>,
    /// What it is.
    pub state: State,
    /// Allocated bytes of its manifest, config and layers.
    pub size: u64,
    /// Those of them that no other image holds.
    pub own: u64,
    /// When it was last used.
    pub used: Millis,
    /// When it was first seen.
    pub seen: Millis,
    /// The place of the image that it was made from, or of the index that lists it.
    pub parent: Option<u32>,
}

impl Row {
    /// Its names, or the instruction that made it, or its ID.
    pub fn title(&self) -> String {
        match (&*self.names, &*self.step) {
            ("", "") => self.id.short(),
            ("", step) => step.to_owned(),
            (names, _) => names.to_owned(),
        }
    }

    /// What it is called in a sentence: its first name, or its ID.
    pub fn called(&self) -> String {
        match self.names.split(", ").next() {
            None | Some("") => self.id.short(),
            Some(name) => name.to_owned(),
        }
    }

    /// Whether a filter that is in lower case lets it pass: it is in a name, the instruction, the
    /// state, or the ID or digest begins with it.
    pub fn matches(&self, filter: &str) -> bool {
        let hex = filter.strip_prefix("sha256:").unwrap_or(filter);
        let is_hex = !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        contains(&self.names, filter)
            || contains(&self.step, filter)
            || contains(self.state.word(), filter)
            || is_hex
                && [self.id, self.digest]
                    .iter()
                    .any(|d| d.hex().starts_with(hex))
    }
}

/// Whether a text has another one in it that is in lower case.
fn contains(text: &str, lower: &str) -> bool {
    if !text.is_ascii() || !lower.is_ascii() {
        return text.to_lowercase().contains(lower);
    }
    let (text, lower) = (text.as_bytes(), lower.as_bytes());
    lower.is_empty()
        || text
            .windows(lower.len())
            .any(|window| window.eq_ignore_ascii_case(lower))
}

/// The store at one moment.
#[derive(Debug, Default)]
pub struct Data {
    /// The store's directory.
    pub root: String,
    /// Every image and every tagged document.
    pub rows: Vec<Row>,
    /// Of each row the places of those whose parent it is.
    pub children: Vec<Vec<u32>>,
    /// The places of rows without a parent.
    pub tops: Vec<u32>,
    /// Allocated bytes of all blobs.
    pub total: u64,
    /// The moment that ages are counted from.
    pub now: Millis,
    places: HashMap<Digest, u32>,
}

impl Data {
    /// The rows with what follows from them. Parents that go round in a circle are cut where the
    /// circle is met first.
    pub fn new(root: String, mut rows: Vec<Row>, total: u64, now: Millis) -> Data {
        // Of each row, the walk that met it first; a walk that meets itself goes in a circle.
        let mut met = vec![usize::MAX; rows.len()];
        for start in 0..rows.len() {
            let mut here = start;
            while met[here] == usize::MAX {
                met[here] = start;
                let Some(parent) = rows[here].parent.map(|parent| parent as usize) else {
                    break;
                };
                if parent >= rows.len() || met[parent] == start {
                    rows[here].parent = None;
                    break;
                }
                here = parent;
            }
        }
        let mut children = vec![Vec::new(); rows.len()];
        let mut tops = Vec::new();
        let mut places = HashMap::with_capacity(rows.len());
        for (place, row) in rows.iter().enumerate() {
            let here = u32::try_from(place).unwrap_or(u32::MAX);
            places.insert(row.digest, here);
            match row.parent {
                Some(parent) => children[parent as usize].push(here),
                None => tops.push(here),
            }
        }
        Data {
            root,
            rows,
            children,
            tops,
            total,
            now,
            places,
        }
    }

    /// The row at a place.
    pub fn row(&self, place: u32) -> Option<&Row> {
        self.rows.get(place as usize)
    }

    /// The row of a digest.
    pub fn find(&self, digest: &Digest) -> Option<&Row> {
        self.row(self.place(digest)?)
    }

    /// Its place.
    pub fn place(&self, digest: &Digest) -> Option<u32> {
        self.places.get(digest).copied()
    }

    /// How many rows a top holds below it, itself not counted.
    pub fn below(&self, place: u32) -> usize {
        let mut count = 0;
        let mut pending = vec![place];
        while let Some(place) = pending.pop() {
            let children = &self.children[place as usize];
            count += children.len();
            pending.extend(children);
        }
        count
    }
}

/// A layer of an image, as the list of layers has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRow {
    /// The blob.
    pub digest: Digest,
    /// The instruction that made it.
    pub step: String,
    /// Allocated bytes of the blob.
    pub size: u64,
    /// Bytes of the uncompressed archive, where it has been read.
    pub unpacked: Option<u64>,
    /// How many other images hold it.
    pub others: usize,
    /// Some of them, by name; those that have one first.
    pub holders: Vec<String>,
}

/// What keeps an image, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The shortest path from a root; `None`: nothing keeps it.
    pub why: Option<String>,
    /// How many more paths there are.
    pub more: usize,
}

/// A thing that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is, and what it is called.
    pub what: String,
    /// Why it goes.
    pub reason: &'static str,
    /// Bytes that the disk gives back.
    pub freed: u64,
}

/// A marked image that does not go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    /// The image.
    pub digest: Digest,
    /// Whether its names go all the same.
    pub untagged: bool,
    /// What keeps it.
    pub why: String,
}

/// What the planner says of a removal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foretold {
    /// Bytes that the disk gives back.
    pub freed: u64,
    /// What goes, in words: `2 images, 3 layers`.
    pub words: String,
    /// How many things go.
    pub count: usize,
    /// Names that go.
    pub untag: Vec<String>,
    /// The things, where they were asked for.
    pub items: Vec<Item>,
    /// What was marked and stays: the first of them.
    pub stays: Vec<Stay>,
    /// How many were marked and stay.
    pub staying: usize,
    /// What else should be known.
    pub notes: Vec<String>,
}

impl Foretold {
    /// Whether nothing would happen.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.untag.is_empty()
    }
}

/// What a removal has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Bytes that the disk gave back.
    pub freed: u64,
    /// What went, in words.
    pub words: String,
    /// How many names went.
    pub untagged: usize,
    /// What did not go as it should: rescued, failed, stopped.
    pub remarks: Vec<String>,
}

/// A row of `df`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRow {
    /// Which.
    pub kind: UsageKind,
    /// Its title.
    pub title: &'static str,
    /// How many there are.
    pub count: u64,
    /// How many of them something holds.
    pub active: u64,
    /// Allocated bytes.
    pub size: u64,
    /// Bytes that the widest prune of this kind would free.
    pub reclaimable: u64,
}

/// All of `df`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// The rows.
    pub rows: Vec<DiskRow>,
    /// All allocated bytes below the root.
    pub total: u64,
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A row for tests; `names` may be empty.
    pub fn row(names: &str, step: &str, state: State, own: u64, parent: Option<u32>) -> Row {
        let digest = Digest::of(format!("{names}{step}").as_bytes());
        Row {
            digest,
            id: Digest::of(digest.hex().as_bytes()),
            names: names.into(),
            step: step.into(),
            state,
            size: own + 1_000_000,
            own,
            used: 0,
            seen: 0,
            parent,
        }
    }

    #[test]
    fn parents_in_a_circle_are_cut_and_every_row_is_below_a_top() {
        let rows = vec![
            row("", "a", State::Dangling, 1, Some(1)),
            row("", "b", State::Dangling, 1, Some(0)),
            row("", "c", State::Dangling, 1, Some(2)),
            row("", "d", State::Dangling, 1, Some(0)),
        ];
        let data = Data::new(String::new(), rows, 0, 0);
        let below: usize = data.tops.iter().map(|top| 1 + data.below(*top)).sum();
        assert_eq!((data.tops.len(), below), (2, 4));
    }

    #[test]
    fn a_filter_looks_at_names_steps_states_and_the_beginning_of_ids() {
        let row = row("App:1", "RUN make ÄÖ", State::Tagged, 1, None);
        let id = row.id.hex();
        for (filter, passes) in [
            ("app", true),
            ("äö", true),
            ("tagg", true),
            (&id[..6], true),
            (&id[1..9], false),
            ("other", false),
            ("", true),
        ] {
            assert_eq!(row.matches(filter), passes, "{filter}");
        }
    }
}

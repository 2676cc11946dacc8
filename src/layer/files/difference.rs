//! What two images do not share, file by file.
//!
//! ```text
//! shared lower layers ──once──▶ Files ──┬─ upper layers of one ────▶ Files ─┐
//!                                       └─ upper layers of the other ▶ Files ─┴─▶ Draft
//!   Draft: what names, attributes and sizes tell, and which contents must be compared
//!     └─ digests of those ──▶ Vec<Difference>
//! ```
//! Of layers that both have at the bottom the names are read once, to tell what is new from what is
//! changed, and nothing at all where there are no others. Contents are compared by digest, and only
//! where both files are of one size and come from different entries.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::content::{Wanted, digests};
use super::{FileId, Files, Origin, Place};
use crate::layer::entry::Kind;
use crate::layer::error::Result;
use crate::layer::merge::Layers;
use crate::oci::Digest;

/// An image to compare: its layers, and what identifies them.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a, L> {
    /// The layers.
    pub layers: &'a L,
    /// Their diff IDs, the lowest first.
    pub diff_ids: &'a [Digest],
}

/// What counts as a difference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompareOptions {
    /// Whether another modification time is one.
    pub times: bool,
    /// Only these paths and what is below; empty: all. Clean and relative to the root.
    pub within: Vec<Vec<u8>>,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Only the other image has it.
    Added,
    /// Only the one image has it.
    Deleted,
    /// Both have it, and it is not the same.
    Changed,
}

/// What is not the same of a path that both images have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// What it is: a file, a directory, …
    Type,
    /// The bytes of a file, the target of a link, the number of a device.
    Content,
    /// The permission bits.
    Mode,
    /// User or group.
    Owner,
    /// Extended attributes.
    Xattrs,
    /// The modification time, if that was asked for.
    Time,
}

impl Aspect {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Aspect::Type => "type",
            Aspect::Content => "content",
            Aspect::Mode => "mode",
            Aspect::Owner => "owner",
            Aspect::Xattrs => "xattr",
            Aspect::Time => "time",
        }
    }
}

/// A path that is not the same in two images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path, relative to the root.
    pub path: Vec<u8>,
    /// What it is in the one image.
    pub one: Option<Place>,
    /// What it is in the other image.
    pub other: Option<Place>,
    /// What is not the same, of what both have.
    pub aspects: BTreeSet<Aspect>,
}

impl Difference {
    /// What became of it.
    pub fn change(&self) -> Change {
        match (&self.one, &self.other) {
            (None, _) => Change::Added,
            (_, None) => Change::Deleted,
            _ => Change::Changed,
        }
    }
}

/// What comparing two images gave.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The one image.
    pub one: Files,
    /// The other.
    pub other: Files,
    /// What they do not share, in byte order of names, directories before what is in them.
    pub differences: Vec<Difference>,
}

/// How many layers two images share at the bottom.
pub fn shared_layers(one: &[Digest], other: &[Digest]) -> usize {
    let same = one
        .iter()
        .zip(other)
        .take_while(|(one, other)| one == other);
    same.count()
}

/// Compares the files of two images.
pub fn compare<L: Layers>(
    one: &Side<'_, L>,
    other: &Side<'_, L>,
    options: &CompareOptions,
) -> Result<Comparison, L::Error> {
    let shared = shared_layers(one.diff_ids, other.diff_ids);
    let (count, other_count) = (one.layers.count(), other.layers.count());
    let mut files = Files::empty();
    if count == shared && other_count == shared {
        return Ok(Comparison {
            one: files.clone(),
            other: files,
            differences: Vec::new(),
        });
    }
    files.read_layers(one.layers, 0..shared)?;
    let mut other_files = files.clone();
    files.read_layers(one.layers, shared..count)?;
    other_files.read_layers(other.layers, shared..other_count)?;
    let same_entry = |a: Origin, b: Origin| {
        a.index == b.index && one.diff_ids.get(a.layer) == other.diff_ids.get(b.layer)
    };
    let draft = Draft::new(&files, &other_files, &same_entry, options);
    let found = digests(one.layers, &draft.wanted)?;
    let other_found = digests(other.layers, &draft.other_wanted)?;
    let digest = |origin: Origin| found.get(&(origin.layer, origin.index?));
    let other_digest = |origin: Origin| other_found.get(&(origin.layer, origin.index?));
    let same = |a, b| matches!((digest(a), other_digest(b)), (Some(a), Some(b)) if a == b);
    let differences = draft.settle(same);
    Ok(Comparison {
        one: files,
        other: other_files,
        differences,
    })
}

/// What names, attributes and sizes tell.
pub struct Draft {
    /// Each with the contents that must be compared before it is known to be one.
    candidates: Vec<(Difference, Option<(Origin, Origin)>)>,
    /// Entries of the one image whose digests are needed.
    pub wanted: Wanted,
    /// Entries of the other image whose digests are needed.
    pub other_wanted: Wanted,
}

impl Draft {
    /// Compares all but contents. `same_entry` tells whether entries of the two are of one layer
    /// and of one place in it.
    pub fn new(
        one: &Files,
        other: &Files,
        same_entry: &dyn Fn(Origin, Origin) -> bool,
        options: &CompareOptions,
    ) -> Draft {
        let mut draft = Draft {
            candidates: Vec::new(),
            wanted: Wanted::new(),
            other_wanted: Wanted::new(),
        };
        let mut path: Vec<Vec<u8>> = Vec::new();
        let mut ahead = vec![Step {
            depth: 0,
            name: Vec::new(),
            one: Some(one.root().into()),
            other: Some(other.root().into()),
        }];
        while let Some(step) = ahead.pop() {
            if step.depth > 0 {
                path.truncate(step.depth - 1);
                path.push(step.name);
            }
            let here = path.join(&b'/');
            let Some(inside) = place_of(&here, &options.within) else {
                continue;
            };
            ahead.extend(steps(
                step.depth + 1,
                children(one, step.one),
                children(other, step.other),
            ));
            if inside {
                let place = |found: Found| Place {
                    path: here.clone(),
                    file: found.0,
                    layer: found.1,
                };
                let places = (step.one.map(place), step.other.map(place));
                draft.judge(
                    (one, places.0),
                    (other, places.1),
                    same_entry,
                    options.times,
                );
            }
        }
        draft
    }

    fn judge(
        &mut self,
        (one, a): (&Files, Option<Place>),
        (other, b): (&Files, Option<Place>),
        same_entry: &dyn Fn(Origin, Origin) -> bool,
        times: bool,
    ) {
        let mut aspects = BTreeSet::new();
        let mut contents = None;
        if let (Some(a), Some(b)) = (&a, &b) {
            let origins = (one.origin(a.file), other.origin(b.file));
            let (Some(origin), Some(other_origin)) = origins else {
                // A root that one image names and the other leaves to whoever unpacks it.
                return;
            };
            if same_entry(origin, other_origin) && origin.index.is_some() {
                return;
            }
            aspects = attributes((one, a.file), (other, b.file), times);
            let (entry, other_entry) = (one.entry(a.file), other.entry(b.file));
            match (&entry.kind, &other_entry.kind) {
                (Kind::File { size }, Kind::File { size: other_size }) => {
                    if size != other_size {
                        aspects.insert(Aspect::Content);
                    } else if *size > 0 {
                        contents = Some((origin, other_origin));
                        want(&mut self.wanted, origin);
                        want(&mut self.other_wanted, other_origin);
                    }
                }
                (kind, other_kind) if kind == other_kind => {}
                (kind, other_kind)
                    if std::mem::discriminant(kind) == std::mem::discriminant(other_kind) =>
                {
                    aspects.insert(Aspect::Content);
                }
                _ => {
                    aspects.insert(Aspect::Type);
                }
            }
            if aspects.is_empty() && contents.is_none() {
                return;
            }
        }
        let Some(path) = a.as_ref().or(b.as_ref()).map(|place| place.path.clone()) else {
            return;
        };
        let difference = Difference {
            path,
            one: a,
            other: b,
            aspects,
        };
        self.candidates.push((difference, contents));
    }

    /// The differences, once contents can be compared.
    pub fn settle(self, same_content: impl Fn(Origin, Origin) -> bool) -> Vec<Difference> {
        let settled = self
            .candidates
            .into_iter()
            .filter_map(|(mut found, contents)| {
                let Some((origin, other_origin)) = contents else {
                    return Some(found);
                };
                if !same_content(origin, other_origin) {
                    found.aspects.insert(Aspect::Content);
                }
                (!found.aspects.is_empty()).then_some(found)
            });
        settled.collect()
    }
}

fn want(wanted: &mut Wanted, origin: Origin) {
    if let Some(index) = origin.index {
        wanted.entry(origin.layer).or_default().insert(index);
    }
}

/// The attributes that are not the same.
fn attributes(
    (one, a): (&Files, FileId),
    (other, b): (&Files, FileId),
    times: bool,
) -> BTreeSet<Aspect> {
    let (entry, other_entry) = (one.entry(a), other.entry(b));
    // What a link may do is what its target may.
    let both_links = matches!(entry.kind, Kind::Symlink { .. })
        && matches!(other_entry.kind, Kind::Symlink { .. });
    let different = [
        (Aspect::Mode, entry.mode != other_entry.mode && !both_links),
        (
            Aspect::Owner,
            (entry.uid, entry.gid) != (other_entry.uid, other_entry.gid),
        ),
        (Aspect::Xattrs, entry.xattrs != other_entry.xattrs),
        (Aspect::Time, times && entry.mtime != other_entry.mtime),
    ];
    let different = different.into_iter().filter(|(_, different)| *different);
    different.map(|(aspect, _)| aspect).collect()
}

/// Whether a path is one of those asked for, or below one; `None`: nor does it lead to one.
fn place_of(path: &[u8], within: &[Vec<u8>]) -> Option<bool> {
    let below = |path: &[u8], directory: &[u8]| {
        directory.is_empty()
            || path
                .strip_prefix(directory)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    if within.is_empty() || within.iter().any(|wanted| below(path, wanted)) {
        return Some(true);
    }
    within
        .iter()
        .any(|wanted| below(wanted, path))
        .then_some(false)
}

/// A file, and the layer that said so.
type Found = (FileId, Option<usize>);

impl From<Place> for Found {
    fn from(place: Place) -> Found {
        (place.file, place.layer)
    }
}

/// A name that is still to be compared. Not a path: in a wide and deep tree, all of them at once
/// would be many times what the layers hold.
struct Step {
    /// How many components its path has.
    depth: usize,
    name: Vec<u8>,
    one: Option<Found>,
    other: Option<Found>,
}

type Names<'f> = Box<dyn Iterator<Item = (&'f Vec<u8>, Found)> + 'f>;

fn children(files: &Files, directory: Option<Found>) -> Names<'_> {
    match directory {
        Some((file, _)) => Box::new(files.names_in(file)),
        None => Box::new(std::iter::empty()),
    }
}

/// The names of two directories side by side, the last first.
fn steps(depth: usize, one: Names<'_>, other: Names<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut one, mut other) = (one.peekable(), other.peekable());
    loop {
        let order = match (one.peek(), other.peek()) {
            (None, None) => break,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        let a = if order.is_le() { one.next() } else { None };
        let b = if order.is_ge() { other.next() } else { None };
        let Some((name, _)) = a.or(b) else { break };
        steps.push(Step {
            depth,
            name: name.clone(),
            one: a.map(|(_, found)| found),
            other: b.map(|(_, found)| found),
        });
    }
    steps.reverse();
    steps
}

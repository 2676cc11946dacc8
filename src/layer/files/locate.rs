//! Reading as few layers as one path needs.
//!
//! What an upper layer says of a path wins, so most files are found without reading what is below.
//! But names are relative to what is below: where a layer writes to `lib/x` and a layer below has
//! `lib` as a link to `usr/lib`, the file is `usr/lib/x`. A directory that entries are in before a
//! layer has named it is such a guess. So the upper layers alone answer only if
//!
//! - the path leads to a file without any link, through directories that they name;
//! - what they have in guessed directories cannot be that file or a directory on the way to it: it
//!   has other names (a file of several names counts by its first one, too), and no such directory
//!   is made opaque;
//! - each hard link of theirs is to a file of theirs.
//!
//! Otherwise layers below are read as well, at last all of them.

use std::collections::VecDeque;
use std::io::Write;

use hashbrown::{HashMap, HashSet};

use super::{Files, FindError, Last, Place, write_content};
use crate::layer::entry::{Entry, Kind, clean_path};
use crate::layer::error::{Error, Result};
use crate::layer::merge::Layers;
use crate::layer::merge::tree::Tree;
use crate::layer::read::TarReader;
use crate::layer::whiteout::{self, Meaning};

/// Contents of at most so many bytes are kept from the first reading.
const KEPT: u64 = 1 << 20;

/// A layer's entries, its number with them.
type Read = (usize, Vec<Entry>);

/// What a path leads to, and what was read to find it.
pub struct Located {
    /// As much of the image as it took.
    pub files: Files,
    /// The file, links followed.
    pub place: Result<Place, FindError>,
    /// Small contents by layer and entry, so that their layer needn't be read again.
    kept: HashMap<(usize, u64), Vec<u8>>,
}

impl Located {
    /// Writes the content of the file `place` to `out`. What was written is what it should be only
    /// if this returns without an error.
    pub fn write_content<L: Layers>(
        &self,
        layers: &L,
        place: &Place,
        out: &mut dyn Write,
    ) -> Result<(), L::Error> {
        let Some(origin) = self.files.origin(place.file) else {
            return Ok(());
        };
        let kept = origin.index.map(|index| (origin.layer, index));
        match kept.and_then(|key| self.kept.get(&key)) {
            Some(content) => Ok(out.write_all(content).map_err(Error::Write)?),
            None => write_content(layers, origin, out),
        }
    }
}

/// The file that a path leads to, links followed, and as much of the image as it took to find it.
pub fn locate<L: Layers>(layers: &L, path: &[u8]) -> Result<Located, L::Error> {
    let literal = clean_path(path).ok();
    let mut read: VecDeque<Read> = VecDeque::new();
    let mut kept = HashMap::new();
    for layer in (0..layers.count()).rev() {
        let mut entries = Vec::new();
        let mut named = false;
        layers.read(layer, &mut |archive| {
            let mut reader = TarReader::new(archive);
            while let Some(entry) = reader.next_entry()? {
                if Some(&entry.path) == literal.as_ref() {
                    named = true;
                    if matches!(entry.kind, Kind::File { size } if size <= KEPT) {
                        let mut content = Vec::new();
                        std::io::Read::read_to_end(&mut reader, &mut content)
                            .map_err(|error| Error::of_content(&entry.path, error))?;
                        kept.insert((layer, entries.len() as u64), content);
                    }
                }
                entries.push(entry);
            }
            Ok(())
        })?;
        read.push_front((layer, entries));
        if let (true, Some(literal)) = (named && layer > 0, &literal)
            && let Some((files, place)) = settled(&read, literal)
        {
            let place = Ok(place);
            return Ok(Located { files, place, kept });
        }
    }
    let mut tree = Tree::new();
    for (layer, entries) in read {
        for (index, entry) in (0..).zip(entries) {
            tree.apply(layer, index, entry)?;
        }
    }
    let files = Files { tree };
    let place = files.find(path, Last::Follow);
    Ok(Located { files, place, kept })
}

/// The files of upper layers and that at `path`, if these leave nothing to guess about it.
fn settled(layers: &VecDeque<Read>, path: &[u8]) -> Option<(Files, Place)> {
    let mut tree = Tree::new();
    let mut guessed: HashSet<Vec<u8>> = HashSet::new();
    for (layer, entries) in layers {
        for (index, entry) in (0..).zip(entries) {
            let directory = tree.apply(*layer, index, entry.clone()).ok()?;
            if !tree.is_guess(directory) {
                continue;
            }
            let name = match whiteout::parse(&entry.path, entry.split_path().1).ok()? {
                Meaning::Opaque => return None,
                Meaning::Ignored => continue,
                Meaning::Whiteout(name) => name,
                Meaning::Entry => entry.split_path().1,
            };
            guessed.insert(name.to_vec());
            // A directory in a guessed one was made somewhere as well; the first is in the root.
            let way = tree.path(directory);
            guessed.extend(way.split(|b| *b == b'/').skip(1).map(<[u8]>::to_vec));
        }
    }
    let files = Files { tree };
    let place = files.find(path, Last::Show).ok()?;
    let node = place.file.0;
    let (directory, _) = crate::layer::entry::split(path);
    let directory = files.find(directory, Last::Show).ok()?.file.0;
    let is_link = matches!(files.entry(place.file).kind, Kind::Symlink { .. });
    if place.path != path || is_link || files.tree.is_guess(directory) || files.tree.is_guess(node)
    {
        return None;
    }
    let first = files.tree.path(node);
    let mut names = path
        .split(|b| *b == b'/')
        .chain(first.split(|b| *b == b'/'));
    let alone = !names.any(|name| guessed.contains(name));
    alone.then_some((files, place))
}

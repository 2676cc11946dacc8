//! Reading as few layers as one path needs.
//!
//! What an upper layer says of a path wins, so most files are found without reading what is below.
//! But names are relative to what is below: where a layer writes to `lib/x` and a layer below has
//! `lib` as a link to `usr/lib`, the file is `usr/lib/x`. So the upper layers alone answer only if
//! they leave nothing to guess:
//!
//! - each directory that an entry of theirs is in is named by one of them before, hence a
//!   directory whatever is below (layers that docker, podman, BuildKit and rstore write are so);
//! - each hard link of theirs is to a file of theirs;
//! - the path, with links followed, leads through their entries only.
//!
//! Otherwise layers below are read as well, at last all of them.

use std::collections::VecDeque;

use super::{Files, FindError, Last, Place};
use crate::layer::entry::{Entry, clean_path};
use crate::layer::error::Result;
use crate::layer::merge::Layers;
use crate::layer::merge::tree::Tree;
use crate::layer::read::TarReader;

/// A layer's entries, its number with them.
type Read = (usize, Vec<Entry>);

/// The file that a path leads to, links followed, and as much of the image as it took to find it.
pub fn locate<L: Layers>(
    layers: &L,
    path: &[u8],
) -> Result<(Files, Result<Place, FindError>), L::Error> {
    let literal = clean_path(path).ok();
    let mut read: VecDeque<Read> = VecDeque::new();
    for layer in (0..layers.count()).rev() {
        let mut entries = Vec::new();
        layers.read(layer, &mut |archive| {
            let mut reader = TarReader::new(archive);
            while let Some(entry) = reader.next_entry()? {
                entries.push(entry);
            }
            Ok(())
        })?;
        let named = entries.iter().any(|e| Some(&e.path) == literal.as_ref());
        read.push_front((layer, entries));
        if layer > 0
            && named
            && let Some(files) = settled(&read)
            && let Ok(place) = files.find(path, Last::Follow)
        {
            return Ok((files, Ok(place)));
        }
    }
    let mut tree = Tree::new();
    for (layer, entries) in read {
        for (index, entry) in (0..).zip(entries) {
            tree.apply(layer, index, entry)?;
        }
    }
    let files = Files { tree };
    let found = files.find(path, Last::Follow);
    Ok((files, found))
}

/// The files of upper layers, if these leave nothing to guess.
fn settled(layers: &VecDeque<Read>) -> Option<Files> {
    let mut tree = Tree::new();
    for (layer, entries) in layers {
        for (index, entry) in (0..).zip(entries) {
            tree.apply(*layer, index, entry.clone()).ok()?;
            if tree.guessed {
                return None;
            }
        }
    }
    Some(Files { tree })
}

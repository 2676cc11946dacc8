//! The files of an image, to be looked at: without a mount, without unpacking.
//!
//! ```text
//! layers ──headers──▶ Files ──┬─ find, children, walk     ls, a browser
//!                             ├─ content ──one layer──▶   cat
//!                             ├─ waste                    what no file of the image needs
//!                             └─ difference ◀── Files     what two images do not share
//! ```
//! [`Files`] is the tree of [`merge`](super::merge): names, attributes, and where each file's
//! content is. It knows of every name which layer said so last, and of all that upper layers
//! replaced or removed. Contents are read only when they are asked for, each from the one layer
//! that has it.
//!
//! Paths are bytes, as Linux has them, relative to the root of the image; that is also where `..`
//! and absolute links end, whatever they say.
//!
//! | file | owns |
//! |---|---|
//! | [`find`] | from a path to a file, links followed inside the image |
//! | [`locate`](mod@locate) | reading as few layers as one path needs |
//! | [`content`] | a file's bytes; digests of many |
//! | [`difference`] | what two images do not share |
//! | [`waste`] | what layers hold and the image does not show |

use std::collections::{HashMap, btree_map};
use std::io::Read;

use super::entry::{Entry, Kind, join};
use super::error::Result;
use super::merge::Layers;
use super::merge::tree::{Name, ROOT, Tree};

pub mod content;
pub mod difference;
pub mod find;
pub mod locate;
pub mod waste;

pub use super::merge::tree::Origin;
pub use content::write_content;
pub use difference::{Change, Difference, compare};
pub use find::{FindError, Last};
pub use locate::locate;
pub use waste::Waste;

/// A file, whatever its names, by its place in one [`Files`]. Worth nothing in another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(usize);

/// The files that layers come to.
#[derive(Debug, Clone)]
pub struct Files {
    tree: Tree,
}

/// A name of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path, relative to the root; empty: the root itself.
    pub path: Vec<u8>,
    /// The file.
    pub file: FileId,
    /// The layer that said so last, the lowest being 0; `None`: the root that no layer names.
    pub layer: Option<usize>,
}

impl Place {
    /// The last component; empty: the root.
    pub fn name(&self) -> &[u8] {
        super::entry::split(&self.path).1
    }
}

impl Files {
    /// The root of no layers.
    pub fn empty() -> Files {
        Files { tree: Tree::new() }
    }

    /// Reads the names and attributes of all layers.
    pub fn read<L: Layers>(layers: &L) -> Result<Files, L::Error> {
        let mut files = Files::empty();
        files.read_layers(layers, 0..layers.count())?;
        Ok(files)
    }

    /// Applies some of the layers, which are those above what was applied before.
    pub fn read_layers<L: Layers>(
        &mut self,
        layers: &L,
        which: std::ops::Range<usize>,
    ) -> Result<(), L::Error> {
        for layer in which {
            layers.read(layer, &mut |archive| self.apply(layer, archive))?;
        }
        Ok(())
    }

    /// Applies the uncompressed archive of the next layer.
    pub fn apply(&mut self, layer: usize, archive: &mut dyn Read) -> Result<()> {
        self.tree.apply_layer(layer, archive)
    }

    /// The root directory.
    pub fn root(&self) -> Place {
        Place {
            path: Vec::new(),
            file: FileId(ROOT),
            layer: self.tree.nodes[ROOT].origin.map(|origin| origin.layer),
        }
    }

    /// A file's attributes. The path is one that it had in an archive: [`Place::path`] tells where
    /// it is. The kind is never [`Kind::Hardlink`]: all names of a file are equal.
    pub fn entry(&self, file: FileId) -> &Entry {
        &self.tree.nodes[file.0].entry
    }

    /// The entry that a file has its content and attributes from; `None`: a root that no layer
    /// names.
    pub fn origin(&self, file: FileId) -> Option<Origin> {
        self.tree.nodes[file.0].origin
    }

    /// Whether it is a directory.
    pub fn is_directory(&self, file: FileId) -> bool {
        self.tree.is_directory(file.0)
    }

    /// What is in a directory, in byte order of names.
    pub fn children(&self, directory: &Place) -> impl DoubleEndedIterator<Item = Place> {
        let children = self.tree.nodes[directory.file.0].children.iter();
        children.map(|(name, child)| Place {
            path: join(&directory.path, name),
            file: FileId(child.node),
            layer: Some(child.layer),
        })
    }

    /// The names in a directory, in byte order, with the files and the layers that said so.
    fn names_in(&self, file: FileId) -> impl Iterator<Item = (&Vec<u8>, (FileId, Option<usize>))> {
        let children = self.tree.nodes[file.0].children.iter();
        children.map(|(name, child)| (name, (FileId(child.node), Some(child.layer))))
    }

    /// All that is below a place and it itself, each directory before what is in it, in byte order
    /// of names.
    pub fn walk(&self, place: &Place) -> Walk<'_> {
        Walk {
            files: self,
            start: Some(place.clone()),
            path: place.path.clone(),
            levels: Vec::new(),
        }
    }

    /// How many names each file has that has several.
    pub fn hard_links(&self) -> HashMap<FileId, u64> {
        let mut names: HashMap<FileId, u64> = HashMap::new();
        for node in &self.tree.directories(ROOT) {
            let children = self.tree.nodes[*node].children.values();
            for child in children.filter(|child| !self.tree.is_directory(child.node)) {
                *names.entry(FileId(child.node)).or_default() += 1;
            }
        }
        names.retain(|_, count| *count > 1);
        names
    }

    /// Bytes of the content of a directory and all below, or of a file; a file of several names
    /// counts once.
    pub fn bytes_below(&self, place: &Place) -> u64 {
        let mut seen = hashbrown::HashSet::new();
        let walk = self.walk(place).map(|place| place.file);
        walk.filter(|file| seen.insert(*file))
            .map(|file| self.entry(file).size())
            .sum()
    }
}

/// The walk of [`Files::walk`]. It holds one path and no more: all of a deep tree's at once would
/// be many times what the layers hold.
pub struct Walk<'f> {
    files: &'f Files,
    start: Option<Place>,
    /// Where it is.
    path: Vec<u8>,
    /// The directories on the way: how long the path of each is, and what is left in it.
    levels: Vec<(usize, btree_map::Iter<'f, Vec<u8>, Name>)>,
}

impl Walk<'_> {
    fn enter(&mut self, place: Place) -> Place {
        if self.files.is_directory(place.file) {
            let children = self.files.tree.nodes[place.file.0].children.iter();
            self.levels.push((self.path.len(), children));
        }
        place
    }
}

impl Iterator for Walk<'_> {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        if let Some(start) = self.start.take() {
            return Some(self.enter(start));
        }
        loop {
            let (length, children) = self.levels.last_mut()?;
            let Some((name, child)) = children.next() else {
                self.levels.pop();
                continue;
            };
            self.path.truncate(*length);
            if *length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            let place = Place {
                path: self.path.clone(),
                file: FileId(child.node),
                layer: Some(child.layer),
            };
            return Some(self.enter(place));
        }
    }
}

/// The word for what a file is.
pub fn kind_word(kind: &Kind) -> &'static str {
    match kind {
        Kind::File { .. } => "file",
        Kind::Directory => "directory",
        Kind::Symlink { .. } => "symlink",
        Kind::Hardlink { .. } => "hardlink",
        Kind::CharDevice(_) => "char",
        Kind::BlockDevice(_) => "block",
        Kind::Fifo => "fifo",
    }
}

#[cfg(test)]
mod tests;

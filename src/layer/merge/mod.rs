//! Layers → the entries of the tree that they come to, without a mount and without unpacking.
//!
//! ```text
//! layer 0 ─┐  first pass: entries                second pass: content
//! layer 1 ─┼──────────────▶ Tree ──▶ what is sent, and from where ──▶ EntrySink
//! layer 2 ─┘                 names, attributes, origins
//! ```
//! Two passes, since what an upper layer removes and which of a file's names are left is known only
//! when all were seen. Memory holds names and attributes, never content. A layer of which nothing
//! is wanted is not read again.
//!
//! [`flatten`] gives the whole tree, [`squash`] what the layers from `base` on change in the tree
//! of those below, as one layer. What comes out depends on the layers' bytes alone, not on how
//! this machine unpacked them, so the same layers give the same bytes everywhere.
//!
//! - Whiteouts, opaque directories, names behind links: as [`unpack`](super::unpack) has them.
//! - Directories come before what is in them, a file's content before its further names, and the
//!   whiteouts of a squash before everything else.
//! - A file of which one name is new or changed is sent with all its names: the layer needs
//!   nothing of those below it. Of two names of which one was removed, the other keeps the content.

mod tree;

use std::collections::{BTreeMap, HashSet};
use std::io::Read;

use tree::{Id, Names, ROOT, Tree};

use super::entry::{Entry, EntrySink, Kind, join};
use super::error::{Error, Result};
use super::read::TarReader;
use super::whiteout;

/// Reads the uncompressed archive of a layer.
pub type Consume<'c> = &'c mut dyn FnMut(&mut dyn Read) -> Result<()>;

/// The layers of an image, the lowest first. Each may be read twice.
pub trait Layers {
    /// Why a layer cannot be read.
    type Error: From<Error>;

    /// How many there are.
    fn count(&self) -> usize;

    /// Lets `consume` read a layer, and verifies its bytes.
    fn read(&self, layer: usize, consume: Consume<'_>) -> Result<(), Self::Error>;
}

/// Sends `sink` the whole tree of the layers.
pub fn flatten<L: Layers>(layers: &L, sink: &mut dyn EntrySink) -> Result<(), L::Error> {
    squash(layers, 0, sink)
}

/// Sends `sink` what the layers from number `base` on make of the tree of those below.
pub fn squash<L: Layers>(
    layers: &L,
    base: usize,
    sink: &mut dyn EntrySink,
) -> Result<(), L::Error> {
    let mut tree = Tree::new();
    let mut below = Names::default();
    for layer in 0..layers.count() {
        if layer == base {
            below = tree.names();
        }
        layers.read(layer, &mut |archive| {
            let mut reader = TarReader::new(archive);
            let mut index = 0;
            while let Some(entry) = reader.next_entry()? {
                tree.apply(layer, index, entry)?;
                index += 1;
            }
            Ok(())
        })?;
    }
    let plan = Plan::new(&tree, base, &below);
    let mut sending = Sending {
        tree: &tree,
        plan: &plan,
        sent: HashSet::new(),
        sink,
    };
    sending.before_content(base)?;
    for (layer, files) in &plan.files {
        if files
            .values()
            .all(|file| tree.nodes[file.node].entry.size() == 0)
        {
            for file in files.values() {
                sending.file(file, None)?;
            }
            continue;
        }
        layers.read(*layer, &mut |archive| sending.layer(archive, files))?;
    }
    Ok(sending.rest()?)
}

/// A file to send: its names in byte order.
struct File {
    node: Id,
    names: Vec<Vec<u8>>,
}

/// What is sent.
#[derive(Default)]
struct Plan {
    /// By layer, and entry in it.
    files: BTreeMap<usize, BTreeMap<u64, File>>,
    /// The directories that are new or changed, in byte order of their components.
    directories: Vec<Vec<u8>>,
    /// Those and all others, since what is in them may need them.
    all: BTreeMap<Vec<u8>, Id>,
    /// The directory and the name of each thing below that is gone.
    gone: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Plan {
    fn new(tree: &Tree, base: usize, below: &Names) -> Plan {
        let mut plan = Plan::default();
        let mut names: BTreeMap<Id, (bool, Vec<Vec<u8>>)> = BTreeMap::new();
        plan.walk(tree, ROOT, &[], base, Some(below), &mut names);
        for (node, (renamed, names)) in names {
            let Some(origin) = tree.nodes[node].origin else {
                continue;
            };
            let Some(index) = origin.index.filter(|_| renamed || origin.layer >= base) else {
                continue;
            };
            let layer = plan.files.entry(origin.layer).or_default();
            layer.insert(index, File { node, names });
        }
        plan
    }

    /// Walks a directory; `names` gathers each file's names, and whether one of them is new.
    fn walk(
        &mut self,
        tree: &Tree,
        directory: Id,
        path: &[u8],
        base: usize,
        below: Option<&Names>,
        names: &mut BTreeMap<Id, (bool, Vec<Vec<u8>>)>,
    ) {
        let children = &tree.nodes[directory].children;
        for name in below.iter().flat_map(|below| below.0.keys()) {
            if !children.contains_key(name) {
                self.gone.push((path.to_vec(), name.clone()));
            }
        }
        for (name, child) in children {
            let path = join(path, name);
            if !tree.is_directory(child.node) {
                let file = names.entry(child.node).or_default();
                file.0 |= child.layer >= base;
                file.1.push(path);
                continue;
            }
            let origin = tree.nodes[child.node].origin;
            if origin.is_some_and(|origin| origin.layer >= base) {
                self.directories.push(path.clone());
            }
            self.all.insert(path.clone(), child.node);
            let below = below.and_then(|below| below.0.get(name)?.as_ref());
            self.walk(tree, child.node, &path, base, below, names);
        }
    }
}

/// Entries on their way out.
struct Sending<'a> {
    tree: &'a Tree,
    plan: &'a Plan,
    /// The directories that were sent.
    sent: HashSet<Vec<u8>>,
    sink: &'a mut dyn EntrySink,
}

impl Sending<'_> {
    /// The root, if a layer named it, and the whiteouts.
    fn before_content(&mut self, base: usize) -> Result<()> {
        let root = &self.tree.nodes[ROOT];
        if root.origin.is_some_and(|origin| origin.layer >= base) {
            self.sink.entry(&root.entry, None)?;
        }
        let plan = self.plan;
        for (directory, name) in &plan.gone {
            self.directories_to(directory)?;
            self.sink.entry(&whiteout::entry(directory, name), None)?;
        }
        Ok(())
    }

    /// The wanted files of one layer.
    fn layer(&mut self, archive: &mut dyn Read, files: &BTreeMap<u64, File>) -> Result<()> {
        let mut reader = TarReader::new(archive);
        let mut index = 0;
        let mut left = files.len();
        while left > 0 {
            let Some(_) = reader.next_entry()? else { break };
            if let Some(file) = files.get(&index) {
                self.file(file, Some(&mut reader))?;
                left -= 1;
            }
            index += 1;
        }
        Ok(())
    }

    /// A file with its content, then its other names.
    fn file(&mut self, file: &File, content: Option<&mut dyn Read>) -> Result<()> {
        let mut entry = self.tree.nodes[file.node].entry.clone();
        let content = content.filter(|_| matches!(entry.kind, Kind::File { .. }));
        let mut content = content;
        for (number, name) in file.names.iter().enumerate() {
            let directory = super::entry::split(name).0.to_vec();
            self.directories_to(&directory)?;
            entry.path.clone_from(name);
            if number == 0 {
                self.sink.entry(&entry, content.take())?;
                entry.kind = Kind::Hardlink {
                    target: name.clone(),
                };
            } else {
                self.sink.entry(&entry, None)?;
            }
        }
        Ok(())
    }

    /// The directories that lead to a path, and the one at it.
    fn directories_to(&mut self, path: &[u8]) -> Result<()> {
        if path.is_empty() || self.sent.contains(path) {
            return Ok(());
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends: Vec<usize> = ends.map(|(at, _)| at).chain([path.len()]).collect();
        for end in ends {
            self.directory(&path[..end])?;
        }
        Ok(())
    }

    fn directory(&mut self, path: &[u8]) -> Result<()> {
        if !self.sent.insert(path.to_vec()) {
            return Ok(());
        }
        let Some(node) = self.plan.all.get(path) else {
            return Ok(());
        };
        let entry = Entry {
            path: path.to_vec(),
            ..self.tree.nodes[*node].entry.clone()
        };
        self.sink.entry(&entry, None)
    }

    /// The directories in which nothing was sent.
    fn rest(&mut self) -> Result<()> {
        let plan = self.plan;
        plan.directories
            .iter()
            .try_for_each(|path| self.directories_to(path))
    }
}

#[cfg(test)]
mod tests;

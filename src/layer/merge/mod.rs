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

pub(crate) mod tree;

use std::collections::BTreeMap;
use std::io::Read;

use hashbrown::{HashMap, HashSet};
use tree::{Id, Name, Names, ROOT, Tree};

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
        layers.read(layer, &mut |archive| tree.apply_layer(layer, archive))?;
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

/// A name in a directory. Whole paths are made when they are sent: in a deep tree, all of them at
/// once would be many times what the layers hold.
type Place = (Id, Vec<u8>);

/// A file to send: its names, in the order of the walk.
struct File {
    node: Id,
    names: Vec<Place>,
}

/// What is sent.
#[derive(Default)]
struct Plan {
    /// By layer, and entry in it.
    files: BTreeMap<usize, BTreeMap<u64, File>>,
    /// The directories that are new or changed, each before those in it.
    directories: Vec<Id>,
    /// Where each directory is, since what is in it may need it.
    places: HashMap<Id, Place>,
    /// What is below, and gone.
    gone: Vec<Place>,
}

/// A directory that is being walked.
struct Level<'t> {
    directory: Id,
    children: std::collections::btree_map::Iter<'t, Vec<u8>, Name>,
    /// What was there below.
    below: Option<&'t BTreeMap<Vec<u8>, Option<Id>>>,
}

impl Plan {
    fn new(tree: &Tree, base: usize, below: &Names) -> Plan {
        let mut plan = Plan::default();
        let mut names: BTreeMap<Id, (bool, Vec<Place>)> = BTreeMap::new();
        plan.walk(tree, base, below, &mut names);
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

    /// Walks the tree in byte order of names; `names` gathers each file's, and whether one of them
    /// is new.
    fn walk(
        &mut self,
        tree: &Tree,
        base: usize,
        below: &Names,
        names: &mut BTreeMap<Id, (bool, Vec<Place>)>,
    ) {
        let mut levels = vec![self.enter(tree, ROOT, Some(ROOT), below)];
        while let Some(level) = levels.last_mut() {
            let Some((name, child)) = level.children.next() else {
                levels.pop();
                continue;
            };
            let place = (level.directory, name.clone());
            if !tree.is_directory(child.node) {
                let file = names.entry(child.node).or_default();
                file.0 |= child.layer >= base;
                file.1.push(place);
                continue;
            }
            let origin = tree.nodes[child.node].origin;
            if origin.is_some_and(|origin| origin.layer >= base) {
                self.directories.push(child.node);
            }
            self.places.insert(child.node, place);
            let same = level.below.and_then(|names| *names.get(name)?);
            levels.push(self.enter(tree, child.node, same, below));
        }
    }

    /// Goes into a directory; `same` is the one that was at its path below.
    fn enter<'t>(
        &mut self,
        tree: &'t Tree,
        directory: Id,
        same: Option<Id>,
        below: &'t Names,
    ) -> Level<'t> {
        let children = &tree.nodes[directory].children;
        let below = same.and_then(|same| below.0.get(&same));
        for name in below.into_iter().flat_map(BTreeMap::keys) {
            if !children.contains_key(name) {
                self.gone.push((directory, name.clone()));
            }
        }
        Level {
            directory,
            children: children.iter(),
            below,
        }
    }

    /// The path of a directory.
    fn path(&self, mut directory: Id) -> Vec<u8> {
        let mut names = Vec::new();
        while let Some((parent, name)) = self.places.get(&directory) {
            names.push(name.as_slice());
            directory = *parent;
        }
        names.reverse();
        names.join(&b'/')
    }
}

/// Entries on their way out.
struct Sending<'a> {
    tree: &'a Tree,
    plan: &'a Plan,
    /// The directories that were sent.
    sent: HashSet<Id>,
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
            let path = self.directory(*directory)?;
            self.sink.entry(&whiteout::entry(&path, name), None)?;
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
        for (number, (directory, name)) in file.names.iter().enumerate() {
            entry.path = join(&self.directory(*directory)?, name);
            if number == 0 {
                self.sink.entry(&entry, content.take())?;
                entry.kind = Kind::Hardlink {
                    target: entry.path.clone(),
                };
            } else {
                self.sink.entry(&entry, None)?;
            }
        }
        Ok(())
    }

    /// Sends the directories that lead to one, and it, unless they were. Returns its path.
    fn directory(&mut self, directory: Id) -> Result<Vec<u8>> {
        let mut unsent = Vec::new();
        let mut next = directory;
        while let Some((parent, _)) = self.plan.places.get(&next) {
            if !self.sent.insert(next) {
                break;
            }
            unsent.push(next);
            next = *parent;
        }
        for directory in unsent.into_iter().rev() {
            let entry = Entry {
                path: self.plan.path(directory),
                ..self.tree.nodes[directory].entry.clone()
            };
            self.sink.entry(&entry, None)?;
        }
        Ok(self.plan.path(directory))
    }

    /// The directories in which nothing was sent.
    fn rest(&mut self) -> Result<()> {
        let plan = self.plan;
        for directory in &plan.directories {
            self.directory(*directory)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

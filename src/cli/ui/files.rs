//! What is in an image, or in one of its layers, as a tree of names with sizes.
//!
//! ```text
//! layers 0 … k-1 ─▶ Tree ─remembered─▶ Below ─┐
//! layer k ────────▶ Tree ─────────────────────┴─▶ Listing: added, changed, removed, the same
//! ```
//! What the layers come to is [`layer::merge`](crate::layer::merge)'s to say: whiteouts, opaque
//! directories, names behind links. Here two of its trees are held side by side. A file of several
//! names counts once, where it is met first. Nothing recurses: a layer may be of any depth.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::cli::render::text;
use crate::layer::merge::tree::{Id, Name, ROOT, Tree};
use crate::layer::{Entry, Kind, Result};

/// What a layer did to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    Same,
    /// It is new.
    Added,
    /// It is another, or something in it is.
    Changed,
    /// It is gone.
    Removed,
}

/// What a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link, and where it leads.
    Symlink(Box<str>),
    /// A device or a pipe.
    Special,
}

/// A name.
#[derive(Debug, Clone)]
pub struct File {
    /// The last component, fit for a terminal.
    pub name: Box<str>,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// What the layer did to it.
    pub mark: Mark,
    /// Bytes of content, its own or of all below it.
    pub size: u64,
    /// Those of them that the layer brought.
    pub brought: u64,
    /// The directory that it is in.
    pub parent: usize,
    /// What is in it, in byte order of names.
    pub children: Vec<usize>,
}

/// A tree of names; the root is the first.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Each before those in it.
    pub files: Vec<File>,
}

/// The entries of each layer, the lowest first.
pub type Entries = [std::sync::Arc<Vec<Entry>>];

/// What was in directories before a layer came.
#[derive(Default)]
struct Below {
    children: HashMap<Id, BTreeMap<Vec<u8>, Name>>,
    attributes: HashMap<Id, (u32, u32, u32)>,
}

impl Listing {
    /// All that the layers come to.
    pub fn merged(layers: &Entries) -> Result<Listing> {
        let mut tree = Tree::new();
        for (number, entries) in layers.iter().enumerate() {
            apply(&mut tree, number, entries)?;
        }
        Ok(Building::new(&tree, None).build())
    }

    /// What layer `number` did to those below it.
    pub fn of_layer(layers: &Entries, number: usize) -> Result<Listing> {
        let mut tree = Tree::new();
        for (lower, entries) in layers.iter().enumerate().take(number) {
            apply(&mut tree, lower, entries)?;
        }
        let below = Below::of(&tree);
        if let Some(entries) = layers.get(number) {
            apply(&mut tree, number, entries)?;
        }
        Ok(Building::new(&tree, Some((&below, number))).build())
    }

    /// The path of a name, `/` that of the root.
    pub fn path(&self, mut place: usize) -> String {
        let mut names = Vec::new();
        while place != 0 {
            names.push(&*self.files[place].name);
            place = self.files[place].parent;
        }
        names.reverse();
        format!("/{}", names.join("/"))
    }
}

fn apply(tree: &mut Tree, layer: usize, entries: &[Entry]) -> Result<()> {
    for (index, entry) in entries.iter().enumerate() {
        tree.apply(layer, index as u64, entry.clone())?;
    }
    Ok(())
}

fn attributes(tree: &Tree, directory: Id) -> (u32, u32, u32) {
    let entry = &tree.nodes[directory].entry;
    (entry.mode, entry.uid, entry.gid)
}

impl Below {
    fn of(tree: &Tree) -> Below {
        let mut below = Below::default();
        let mut pending = vec![ROOT];
        while let Some(directory) = pending.pop() {
            let children = &tree.nodes[directory].children;
            let nodes = children.values().map(|name| name.node);
            pending.extend(nodes.filter(|node| tree.is_directory(*node)));
            below.children.insert(directory, children.clone());
            below
                .attributes
                .insert(directory, attributes(tree, directory));
        }
        below
    }

    /// Bytes that were at a name.
    fn size(&self, tree: &Tree, name: Name) -> u64 {
        let mut size = 0;
        let mut pending = vec![name.node];
        while let Some(node) = pending.pop() {
            match self.children.get(&node) {
                Some(children) => pending.extend(children.values().map(|name| name.node)),
                None => size += tree.nodes[node].entry.size(),
            }
        }
        size
    }
}

/// A listing on its way.
struct Building<'a> {
    tree: &'a Tree,
    /// What was there, and the number of the layer that came.
    layer: Option<(&'a Below, usize)>,
    files: Vec<File>,
    /// Files that were counted.
    counted: Vec<bool>,
}

impl<'a> Building<'a> {
    fn new(tree: &'a Tree, layer: Option<(&'a Below, usize)>) -> Building<'a> {
        Building {
            tree,
            layer,
            files: Vec::new(),
            counted: vec![false; tree.nodes.len()],
        }
    }

    fn build(mut self) -> Listing {
        let mark = Mark::Same;
        self.push(ROOT, b"", mark, 0);
        let mut pending = vec![(ROOT, Some(ROOT), 0)];
        while let Some((node, before, place)) = pending.pop() {
            let tree = self.tree;
            for (name, child) in &tree.nodes[node].children {
                let old = self.before(before, name);
                let mark = self.mark(child, old);
                let at = self.push(child.node, name, mark, place);
                if tree.is_directory(child.node) {
                    pending.push((child.node, old.map(|old| old.node), at));
                }
            }
            self.push_removed(node, before, place);
        }
        self.sum();
        Listing { files: self.files }
    }

    /// What was at a name in a directory.
    fn before(&self, directory: Option<Id>, name: &[u8]) -> Option<Name> {
        let (below, _) = self.layer?;
        below.children.get(&directory?)?.get(name).copied()
    }

    fn mark(&self, name: &Name, old: Option<Name>) -> Mark {
        let Some((below, layer)) = self.layer else {
            return Mark::Same;
        };
        let Some(old) = old else { return Mark::Added };
        let changed = if self.tree.is_directory(name.node) {
            below.attributes.get(&old.node) != Some(&attributes(self.tree, name.node))
        } else {
            old.node != name.node || name.layer == layer
        };
        if changed { Mark::Changed } else { Mark::Same }
    }

    fn push(&mut self, node: Id, name: &[u8], mark: Mark, parent: usize) -> usize {
        let entry = &self.tree.nodes[node].entry;
        let size = match std::mem::replace(&mut self.counted[node], true) {
            false => entry.size(),
            true => 0,
        };
        let kind = match &entry.kind {
            Kind::Directory => FileKind::Directory,
            Kind::File { .. } | Kind::Hardlink { .. } => FileKind::File,
            Kind::Symlink { target } => FileKind::Symlink(shown(target)),
            Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo => FileKind::Special,
        };
        let brought = matches!(mark, Mark::Added | Mark::Changed);
        self.add(File {
            name: shown(name),
            kind,
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            mark,
            size,
            brought: if brought { size } else { 0 },
            parent,
            children: Vec::new(),
        })
    }

    fn add(&mut self, file: File) -> usize {
        let at = self.files.len();
        if at > 0 {
            self.files[file.parent].children.push(at);
        }
        self.files.push(file);
        at
    }

    /// The names that a directory had and has no more.
    fn push_removed(&mut self, node: Id, before: Option<Id>, parent: usize) {
        let Some((below, _)) = self.layer else { return };
        let names = before.and_then(|before| below.children.get(&before));
        for (name, old) in names.into_iter().flatten() {
            if self.tree.nodes[node].children.contains_key(name) {
                continue;
            }
            let entry = &self.tree.nodes[old.node].entry;
            let directory = below.children.contains_key(&old.node);
            self.add(File {
                name: shown(name),
                kind: if directory {
                    FileKind::Directory
                } else {
                    FileKind::File
                },
                mode: entry.mode,
                owner: (entry.uid, entry.gid),
                mark: Mark::Removed,
                size: below.size(self.tree, *old),
                brought: 0,
                parent,
                children: Vec::new(),
            });
        }
    }

    /// Directories get the sizes and the marks of what is in them: those come after them.
    fn sum(&mut self) {
        for at in (1..self.files.len()).rev() {
            let File {
                size,
                brought,
                mark,
                parent,
                ..
            } = self.files[at];
            let directory = &mut self.files[parent];
            if mark != Mark::Removed {
                directory.size += size;
                directory.brought += brought;
            }
            if mark != Mark::Same && directory.mark == Mark::Same && parent != 0 {
                directory.mark = Mark::Changed;
            }
        }
    }
}

/// A name as people see it: what is not UTF-8 is replaced, nothing moves a cursor.
fn shown(name: &[u8]) -> Box<str> {
    text::clean(&String::from_utf8_lossy(name)).into_boxed_str()
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;

    use super::*;

    /// Layers from words: `a/` a directory, `a=10` a file of ten bytes, `-a` a whiteout,
    /// `a>b` a symbolic link, `a#b` a hard link.
    pub fn layers(texts: &[&str]) -> Vec<Arc<Vec<Entry>>> {
        let layer = |text: &&str| Arc::new(text.split(' ').map(entry).collect());
        texts.iter().map(layer).collect()
    }

    fn entry(word: &str) -> Entry {
        if let Some(path) = word.strip_prefix('-') {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            return crate::layer::whiteout::entry(directory.as_bytes(), name.as_bytes());
        }
        if let Some(path) = word.strip_suffix('/') {
            return Entry::new(path, Kind::Directory, 0o755);
        }
        if let Some((path, target)) = word.split_once('>') {
            let target = target.into();
            return Entry::new(path, Kind::Symlink { target }, 0o777);
        }
        if let Some((path, target)) = word.split_once('#') {
            let target = target.into();
            return Entry::new(path, Kind::Hardlink { target }, 0o644);
        }
        let (path, size) = word.split_once('=').unwrap();
        let size = size.parse().unwrap();
        Entry::new(path, Kind::File { size }, 0o644)
    }

    fn words(listing: &Listing) -> String {
        let mut lines: Vec<String> = (1..listing.files.len())
            .map(|at| {
                let file = &listing.files[at];
                let mark = match file.mark {
                    Mark::Same => ' ',
                    Mark::Added => '+',
                    Mark::Changed => '~',
                    Mark::Removed => '-',
                };
                format!("{mark}{} {} {}", listing.path(at), file.size, file.brought)
            })
            .collect();
        lines.sort_by_key(|line| line[1..].to_owned());
        lines.join("\n")
    }

    #[test]
    fn a_layer_adds_changes_and_removes_and_directories_say_so() {
        let layers = layers(&["a/ a/x=10 a/y=20 b/ b/z=5 c=1", "a/ a/x=11 -a/y n=7 -b"]);
        let listing = Listing::of_layer(&layers, 1).unwrap();
        assert_eq!(
            words(&listing),
            "~/a 11 11\n~/a/x 11 11\n-/a/y 20 0\n-/b 5 0\n /c 1 0\n+/n 7 7"
        );
        assert_eq!((listing.files[0].size, listing.files[0].brought), (19, 18));
        let first = Listing::of_layer(&layers, 0).unwrap();
        assert_eq!(first.files[0].brought, 36);
    }

    #[test]
    fn what_the_layers_come_to_has_no_marks() {
        let layers = layers(&["a/ a/x=10 a/y=20", "-a/y l>a/x"]);
        assert_eq!(
            words(&Listing::merged(&layers).unwrap()),
            " /a 10 0\n /a/x 10 0\n /l 0 0"
        );
    }

    #[test]
    fn a_file_of_two_names_counts_once() {
        let layers = layers(&["a=10 b#a"]);
        let listing = Listing::merged(&layers).unwrap();
        assert_eq!(listing.files[0].size, 10);
    }

    #[test]
    fn a_directory_that_a_file_replaces_is_changed_and_one_that_is_only_named_again_is_not() {
        let layers = layers(&["a/ a/x=10 b/ b/y=1", "a=3 b/"]);
        assert_eq!(
            words(&Listing::of_layer(&layers, 1).unwrap()),
            "~/a 3 3\n /b 1 0\n /b/y 1 0"
        );
    }

    #[test]
    fn names_are_fit_for_a_terminal() {
        let name = [b"e\x1b[2J\xff".as_slice(), "東".as_bytes()].concat();
        let entry = Entry::new(name, Kind::File { size: 1 }, 0o644);
        let listing = Listing::merged(&[Arc::new(vec![entry])]).unwrap();
        assert_eq!(&*listing.files[1].name, "e\\u{1b}[2J\u{fffd}東");
    }
}

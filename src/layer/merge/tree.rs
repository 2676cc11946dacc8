//! The tree that layers come to, in memory: names, attributes, and where each file's content is.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;

use hashbrown::HashMap;

use crate::layer::entry::{Entry, Kind, split};
use crate::layer::error::{EntryProblem, Error, Result};
use crate::layer::read::TarReader;
use crate::layer::whiteout::{self, Meaning, is_host_xattr};

/// As many links as Linux follows (path_resolution(7)).
const LINK_LIMIT: usize = 40;
/// Directories in directories: as many as a path of the 4096 bytes that the kernel takes at once can
/// name.
const DEPTH_LIMIT: usize = 2048;

/// A node's place in [`Tree::nodes`].
pub type Id = usize;

/// The root directory.
pub const ROOT: Id = 0;

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The layer, the lowest being 0.
    pub layer: usize,
    /// The entry in the layer; `None`: a directory that the layer needs and doesn't name.
    pub index: Option<u64>,
}

/// A file, whatever its names.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its attributes; the path is that of the entry, which may be gone. Of a directory that no
    /// layer names only the name.
    pub entry: Entry,
    /// The entry that it has them and its content from; `None`: the root that nobody named.
    pub origin: Option<Origin>,
    /// The directory that has its first name, or had it.
    pub directory: Id,
    /// How it lost a name, the last time that it did.
    pub loss: Option<Loss>,
    /// Whether it is a directory that an entry was in before any layer had named it. Of the upper
    /// layers of an image alone that is a guess: below there may be a link of that name.
    pub guessed: bool,
    /// What is in it, if it is a directory.
    pub children: BTreeMap<Vec<u8>, Name>,
}

/// How a name went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// The layer that took it.
    pub layer: usize,
    /// Whether something else has the name instead.
    pub replaced: bool,
}

/// A name of a file.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    /// The file.
    pub node: Id,
    /// The layer that said so last.
    pub layer: usize,
}

/// A tree of layers.
#[derive(Debug, Clone)]
pub struct Tree {
    /// All that ever was in it; what is reached from [`ROOT`] still is.
    pub nodes: Vec<Node>,
}

/// The names in each directory of a tree, as they were once. Of those that are directories, which.
#[derive(Debug, Default)]
pub struct Names(pub HashMap<Id, BTreeMap<Vec<u8>, Option<Id>>>);

impl Tree {
    /// The tree of no layers.
    pub fn new() -> Tree {
        let root = Node {
            entry: Entry::new("", Kind::Directory, 0o755),
            origin: None,
            directory: ROOT,
            loss: None,
            guessed: false,
            children: BTreeMap::new(),
        };
        Tree { nodes: vec![root] }
    }

    /// Applies the archive of a layer.
    pub fn apply_layer(&mut self, layer: usize, archive: &mut dyn Read) -> Result<()> {
        let mut reader = TarReader::new(archive);
        let mut index = 0;
        while let Some(entry) = reader.next_entry()? {
            self.apply(layer, index, entry)?;
            index += 1;
        }
        Ok(())
    }

    /// Applies the entry `index` of a layer. Returns the directory that it is in.
    pub fn apply(&mut self, layer: usize, index: u64, mut entry: Entry) -> Result<Id> {
        entry.xattrs.retain(|name, _| !is_host_xattr(name));
        let origin = Origin {
            layer,
            index: Some(index),
        };
        if entry.path.is_empty() {
            if entry.kind != Kind::Directory {
                return Err(problem(&entry.path, EntryProblem::RootKind));
            }
            self.nodes[ROOT].entry = entry;
            self.nodes[ROOT].origin = Some(origin);
            return Ok(ROOT);
        }
        let (parent, name) = entry.split_path();
        match whiteout::parse(&entry.path, name)? {
            Meaning::Ignored => Ok(ROOT),
            // Their directories are made where there are none, as an unpacked layer has them.
            Meaning::Whiteout(hidden) => {
                let directory = self.make(parent, layer, &entry.path)?;
                self.hide(directory, hidden, layer);
                Ok(directory)
            }
            Meaning::Opaque => {
                let directory = self.make(parent, layer, &entry.path)?;
                self.prune(directory, layer);
                Ok(directory)
            }
            Meaning::Entry => self.put(origin, entry),
        }
    }

    /// The names that there are now.
    pub fn names(&self) -> Names {
        let directory = |name: &Name| Some(name.node).filter(|node| self.is_directory(*node));
        let mut names = HashMap::new();
        for node in self.directories(ROOT) {
            let children = self.nodes[node].children.iter();
            let children = children.map(|(key, name)| (key.clone(), directory(name)));
            names.insert(node, children.collect());
        }
        Names(names)
    }

    /// A directory and all below it, each before those in it. Without recursion: a layer may be of
    /// any depth, and a stack isn't.
    pub fn directories(&self, directory: Id) -> Vec<Id> {
        let mut found = vec![directory];
        let mut next = 0;
        while let Some(directory) = found.get(next) {
            let children = self.nodes[*directory].children.values();
            let children: Vec<Id> = children.map(|name| name.node).collect();
            found.extend(children.into_iter().filter(|node| self.is_directory(*node)));
            next += 1;
        }
        found
    }

    /// Whether a file is in a directory that was guessed, or is one.
    pub fn is_guess(&self, mut node: Id) -> bool {
        while node != ROOT {
            if self.nodes[node].guessed {
                return true;
            }
            node = self.nodes[node].directory;
        }
        false
    }

    /// The path of a file's first name.
    pub fn path(&self, mut node: Id) -> Vec<u8> {
        let mut names = Vec::new();
        while node != ROOT {
            names.push(self.nodes[node].entry.split_path().1);
            node = self.nodes[node].directory;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Whether a node is a directory.
    pub fn is_directory(&self, node: Id) -> bool {
        self.nodes[node].entry.kind == Kind::Directory
    }

    fn put(&mut self, origin: Origin, entry: Entry) -> Result<Id> {
        let layer = origin.layer;
        let (parent, name) = entry.split_path();
        let (name, path) = (name.to_vec(), entry.path.clone());
        let linked = match &entry.kind {
            Kind::Hardlink { target } => Some(self.link_target(target, &path)?),
            _ => None,
        };
        let directory = self.make(parent, origin.layer, &path)?;
        let there = self.nodes[directory].children.get(&name).copied();
        let node = match (linked, there) {
            (Some(node), _) => node,
            (None, Some(there))
                if entry.kind == Kind::Directory && self.is_directory(there.node) =>
            {
                self.nodes[there.node].entry = entry;
                self.nodes[there.node].origin = Some(origin);
                there.node
            }
            (None, _) => self.add(entry, origin, directory),
        };
        if let Some(there) = there.filter(|there| there.node != node) {
            self.lose(there.node, layer, true);
        }
        self.nodes[directory]
            .children
            .insert(name, Name { node, layer });
        Ok(directory)
    }

    fn add(&mut self, entry: Entry, origin: Origin, directory: Id) -> Id {
        self.nodes.push(Node {
            entry,
            origin: Some(origin),
            directory,
            loss: None,
            guessed: false,
            children: BTreeMap::new(),
        });
        self.nodes.len() - 1
    }

    /// The file that a hard link is one more name of.
    fn link_target(&self, target: &[u8], path: &[u8]) -> Result<Id> {
        let refused = |reason| Error::Hardlink {
            path: path.to_vec(),
            target: target.to_vec(),
            reason,
        };
        let (parent, name) = split(target);
        let found = self
            .find(parent, path)?
            .and_then(|directory| self.nodes[directory].children.get(name));
        match found {
            None => Err(refused("does not exist")),
            Some(found) if self.is_directory(found.node) => Err(refused("is a directory")),
            Some(found) => Ok(found.node),
        }
    }

    /// Notes that a name of a file went, and with it all names below.
    fn lose(&mut self, node: Id, layer: usize, replaced: bool) {
        if self.is_directory(node) {
            for directory in self.directories(node) {
                let names = self.nodes[directory].children.values();
                for name in names.map(|name| name.node).collect::<Vec<_>>() {
                    self.nodes[name].loss = Some(Loss {
                        layer,
                        replaced: false,
                    });
                }
            }
        }
        self.nodes[node].loss = Some(Loss { layer, replaced });
    }

    /// Takes away what layers below `layer` have of a name.
    fn hide(&mut self, directory: Id, name: &[u8], layer: usize) {
        let Some(found) = self.nodes[directory].children.get(name).copied() else {
            return;
        };
        if self.is_directory(found.node) {
            self.prune(found.node, layer);
        }
        if !self.is_kept(&found, layer) {
            self.nodes[directory].children.remove(name);
            self.lose(found.node, layer, false);
        }
    }

    /// Takes away what layers below `layer` have in a directory.
    fn prune(&mut self, directory: Id, layer: usize) {
        for directory in self.directories(directory).into_iter().rev() {
            let mut children = std::mem::take(&mut self.nodes[directory].children);
            children.retain(|_, name| {
                let kept = self.is_kept(name, layer);
                if !kept {
                    // What was below has gone before it.
                    self.nodes[name.node].loss = Some(Loss {
                        layer,
                        replaced: false,
                    });
                }
                kept
            });
            self.nodes[directory].children = children;
        }
    }

    /// Whether a name stays that `layer` hides: it is its own, or leads to what is.
    fn is_kept(&self, name: &Name, layer: usize) -> bool {
        let node = &self.nodes[name.node];
        let named = name.layer == layer && node.origin.is_some_and(|o| o.index.is_some());
        named || !node.children.is_empty()
    }

    /// The directory that a path leads to, links followed as by a process whose root this is.
    fn find(&self, path: &[u8], of: &[u8]) -> Result<Option<Id>> {
        let mut way = Way::new(path);
        while let Some(name) = way.next_name() {
            match self.nodes[way.here()].children.get(&name) {
                None => return Ok(None),
                Some(found) => match &self.nodes[found.node].entry.kind {
                    Kind::Directory => way.enter(found.node, of)?,
                    Kind::Symlink { target } => way.follow(target, of)?,
                    _ => return Ok(None),
                },
            }
        }
        Ok(Some(way.here()))
    }

    /// The same; what is missing on the way is made.
    fn make(&mut self, path: &[u8], layer: usize, of: &[u8]) -> Result<Id> {
        let mut way = Way::new(path);
        while let Some(name) = way.next_name() {
            let here = way.here();
            if let Some(found) = self.nodes[here].children.get(&name).copied() {
                match &self.nodes[found.node].entry.kind {
                    Kind::Directory => {
                        way.enter(found.node, of)?;
                        continue;
                    }
                    Kind::Symlink { target } => {
                        way.follow(target, of)?;
                        continue;
                    }
                    _ if found.layer == layer => {
                        return Err(problem(of, EntryProblem::ParentNotDirectory));
                    }
                    // A file of a layer below makes way.
                    _ => self.lose(found.node, layer, true),
                }
            }
            let origin = Origin { layer, index: None };
            let entry = Entry::new(name.clone(), Kind::Directory, 0o755);
            let node = self.add(entry, origin, here);
            self.nodes[node].guessed = true;
            self.nodes[here].children.insert(name, Name { node, layer });
            way.enter(node, of)?;
        }
        Ok(way.here())
    }
}

/// The way down a path.
pub struct Way {
    stack: Vec<Id>,
    ahead: VecDeque<Vec<u8>>,
    links: usize,
}

impl Way {
    /// The way from the root.
    pub fn new(path: &[u8]) -> Way {
        Way {
            stack: vec![ROOT],
            ahead: components(path).collect(),
            links: 0,
        }
    }

    /// The directory that was reached.
    pub fn here(&self) -> Id {
        self.stack.last().copied().unwrap_or(ROOT)
    }

    /// How many directories lie between the root and here.
    pub fn depth(&self) -> usize {
        self.stack.len() - 1
    }

    /// Whether nothing is left of the path.
    pub fn is_at_end(&self) -> bool {
        self.ahead.is_empty()
    }

    /// The next name; `..` is gone up by itself.
    pub fn next_name(&mut self) -> Option<Vec<u8>> {
        loop {
            let name = self.ahead.pop_front()?;
            if name != b".." {
                return Some(name);
            }
            if self.stack.len() > 1 {
                self.stack.pop();
            }
        }
    }

    /// Goes into a directory, for the sake of the path `of`.
    pub fn enter(&mut self, directory: Id, of: &[u8]) -> Result<()> {
        if self.stack.len() >= DEPTH_LIMIT {
            let error = rustix::io::Errno::NAMETOOLONG;
            return Err(crate::layer::inode::fail("enter", of, error));
        }
        self.stack.push(directory);
        Ok(())
    }

    /// Goes on with what a link says.
    pub fn follow(&mut self, target: &[u8], of: &[u8]) -> Result<()> {
        self.links += 1;
        if self.links > LINK_LIMIT {
            return Err(problem(of, EntryProblem::TooManyLinks));
        }
        if target.starts_with(b"/") {
            self.stack.truncate(1);
        }
        for name in components(target).collect::<Vec<_>>().into_iter().rev() {
            self.ahead.push_front(name);
        }
        Ok(())
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
}

fn problem(path: &[u8], problem: EntryProblem) -> Error {
    Error::Entry {
        path: path.to_vec(),
        problem,
    }
}

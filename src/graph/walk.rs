//! Closures over a graph. All of them are loops over a list of what is still to be visited, and
//! visit a node once: cycles end, and depth costs no stack.

use super::{Image, ImageGraph, NodeId};
use crate::oci::document::Role;

/// A set of nodes of one graph: a bit each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSet {
    words: Vec<u64>,
}

impl NodeSet {
    /// The empty set, for nodes of `graph`.
    pub fn of(graph: &ImageGraph) -> NodeSet {
        NodeSet {
            words: vec![0; graph.len().div_ceil(64)],
        }
    }

    /// Puts a node in. Returns whether it is new.
    pub fn insert(&mut self, node: NodeId) -> bool {
        let (word, bit) = (node.index() / 64, 1u64 << (node.index() % 64));
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Takes a node out. Returns whether it was there.
    pub fn remove(&mut self, node: NodeId) -> bool {
        let (word, bit) = (node.index() / 64, 1u64 << (node.index() % 64));
        let there = self.words[word] & bit != 0;
        self.words[word] &= !bit;
        there
    }

    /// Whether a node is there.
    pub fn contains(&self, node: NodeId) -> bool {
        self.words
            .get(node.index() / 64)
            .is_some_and(|word| word >> (node.index() % 64) & 1 == 1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// All of them, in the order of the graph.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.words.iter().enumerate().flat_map(|(place, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(NodeId::at(place * 64 + bit))
            })
        })
    }
}

/// Which content links a walk follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    bits: u8,
}

impl Roles {
    /// Every content link.
    pub const ALL: Roles = Roles { bits: u8::MAX };
    /// What an image needs in order to run: its members, config and layers; not its subject.
    pub const RUN: Roles = Roles {
        bits: 1 << Role::Child as u8 | 1 << Role::Config as u8 | 1 << Role::Layer as u8,
    };

    /// Only links of `role`.
    pub const fn only(role: Role) -> Roles {
        Roles {
            bits: 1 << role as u8,
        }
    }

    /// Whether `role` is among them.
    pub const fn contains(self, role: Role) -> bool {
        self.bits >> role as u8 & 1 == 1
    }
}

impl ImageGraph {
    /// What `from` reaches by content links of these roles, itself included.
    pub fn closure(&self, from: impl IntoIterator<Item = NodeId>, roles: Roles) -> NodeSet {
        let mut reached = NodeSet::of(self);
        let mut pending: Vec<NodeId> = from
            .into_iter()
            .filter(|node| reached.insert(*node))
            .collect();
        while let Some(node) = pending.pop() {
            for (target, role) in self.links(node) {
                if roles.contains(role) && reached.insert(target) {
                    pending.push(target);
                }
            }
        }
        reached
    }

    /// What reaches `to` by content links of these roles, itself included.
    pub fn closure_up(&self, to: impl IntoIterator<Item = NodeId>, roles: Roles) -> NodeSet {
        let mut reached = NodeSet::of(self);
        let mut pending: Vec<NodeId> = to
            .into_iter()
            .filter(|node| reached.insert(*node))
            .collect();
        while let Some(node) = pending.pop() {
            for (source, role) in self.holders(node) {
                if roles.contains(role) && reached.insert(source) {
                    pending.push(source);
                }
            }
        }
        reached
    }

    /// The images from which an image descends by parent links, the nearest first.
    pub fn ancestors(&self, node: NodeId) -> Vec<NodeId> {
        let mut seen = NodeSet::of(self);
        seen.insert(node);
        let next = |node: NodeId| self.image(node).and_then(|image| image.parent_image());
        let mut line = Vec::new();
        let mut image = next(node);
        while let Some(ancestor) = image.filter(|image| seen.insert(image.node())) {
            line.push(ancestor.node());
            image = next(ancestor.node());
        }
        line
    }

    /// The images that descend from an image by parent links, parents before children.
    pub fn descendants(&self, node: NodeId) -> Vec<NodeId> {
        let mut seen = NodeSet::of(self);
        seen.insert(node);
        let mut found = Vec::new();
        let mut pending: Vec<Image> = self.image(node).into_iter().collect();
        while let Some(image) = pending.pop() {
            for child in image.children() {
                if seen.insert(child.node()) {
                    found.push(child.node());
                    pending.push(child);
                }
            }
        }
        found
    }

    /// The images below `node` by content links: itself, or the members of an index and of the
    /// indexes in it.
    pub fn images_of(&self, node: NodeId) -> Vec<Image<'_>> {
        if let Some(image) = self.image(node) {
            return vec![image];
        }
        self.closure([node], Roles::only(Role::Child))
            .iter()
            .filter_map(|node| self.image(node))
            .collect()
    }
}

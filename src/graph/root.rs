//! Roots: what is kept for its own sake, and with it all that it reaches.
//!
//! Which leases are alive is for the file system to say (`gc::roots::collect` asks it); here a
//! root set is a value.

use hashbrown::HashSet;

use super::{ImageGraph, NodeId};
use crate::catalog::Millis;
use crate::oci::Digest;

/// Why something is kept for its own sake.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RootKind {
    /// `index.json` names it.
    Tag {
        /// The name.
        name: String,
    },
    /// Somebody pinned it.
    Pin,
    /// A running build, pull or load uses it.
    Lease {
        /// The lease.
        id: String,
    },
    /// An intermediate container that is kept stands on it.
    Container {
        /// The container.
        id: String,
    },
    /// Another tool wrote it, not long ago.
    Grace {
        /// When that protection ends.
        until: Millis,
    },
}

/// One root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// What is kept.
    pub node: NodeId,
    /// Why.
    pub kind: RootKind,
}

/// All roots of one moment.
#[derive(Debug, Clone, Default)]
pub struct RootSet {
    /// What is kept, and why; the same node may stand there more than once.
    pub roots: Vec<Root>,
    /// Snapshots, by number, that a live lease pins.
    pub snapshots: HashSet<i64>,
    /// The leases that are alive.
    pub live: HashSet<String>,
    /// The leases that are dead, but still recorded.
    pub dead: Vec<String>,
    /// When the oldest live lease began, by the file system's clock.
    pub oldest: Option<Millis>,
    /// Lease files that are locked by a writer of whose pins this catalog cannot know, because it
    /// is younger than they are. While there is one, nothing may be condemned.
    pub unknown: Vec<String>,
    /// Documents that cannot be read, and that the user has given up by name.
    pub ignored: HashSet<Digest>,
}

impl RootSet {
    /// The roots of a graph, where `alive` tells which of its leases are.
    pub fn of(graph: &ImageGraph, alive: impl Fn(&str) -> bool) -> RootSet {
        let mut set = RootSet::default();
        for (name, node) in graph.tags() {
            let name = name.clone();
            set.add(*node, RootKind::Tag { name });
        }
        for node in graph.pins() {
            set.add(*node, RootKind::Pin);
        }
        for lease in graph.leases() {
            if alive(&lease.id) {
                set.live.insert(lease.id.clone());
            } else {
                set.dead.push(lease.id.clone());
            }
        }
        for pin in graph.leased() {
            if !set.live.contains(&pin.lease) {
                continue;
            }
            set.snapshots.extend(pin.snapshot);
            if let Some(node) = pin.node {
                let id = pin.lease.clone();
                set.add(node, RootKind::Lease { id });
            }
        }
        set
    }

    /// Adds a root.
    pub fn add(&mut self, node: NodeId, kind: RootKind) {
        self.roots.push(Root { node, kind });
    }

    /// These roots without the named tags.
    pub fn without_tags(mut self, names: &[String]) -> RootSet {
        self.roots
            .retain(|root| !matches!(&root.kind, RootKind::Tag { name } if names.contains(name)));
        self
    }
}

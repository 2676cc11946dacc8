//! What stays, and for what: how many images, how many bytes; and the roots that hold most.

use hashbrown::HashSet;

use crate::graph::{Classes, ImageGraph, NodeId, NodeSet, Roles, RootKind, RootSet, State};

/// For what an image stays. Where there are several reasons the first of them counts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum KeptFor {
    /// A tag names it, or an index that has one.
    Tag,
    /// It is pinned.
    Pin,
    /// It signs or describes one that stays.
    Referrer,
    /// A running build, or a container that is kept, needs it.
    InUse,
    /// A tagged image descends from it; `--intermediates` would take it.
    Intermediate,
    /// A tagged image's build used it; `--stages` would take it.
    Stage,
    /// Another tool wrote it, not long ago.
    Grace,
    /// There is room enough without its going.
    Space,
    /// A rule spares it (an age, a filter, `--image`), or what was made from it stays.
    Rule,
}

impl KeptFor {
    /// The reason in words.
    pub fn words(self) -> &'static str {
        match self {
            KeptFor::Tag => "tagged",
            KeptFor::Pin => "pinned",
            KeptFor::Referrer => "about one that stays",
            KeptFor::InUse => "in use",
            KeptFor::Intermediate => "intermediate",
            KeptFor::Stage => "build stage",
            KeptFor::Grace => "young, of another tool",
            KeptFor::Space => "there is room",
            KeptFor::Rule => "spared by a rule",
        }
    }
}

/// How much stays for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Kept {
    /// The reason.
    pub because: KeptFor,
    /// How many images.
    pub images: u64,
    /// Allocated bytes of these images' blobs, without those that an earlier reason counts.
    pub bytes: u64,
}

/// A root, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holder {
    /// What it is, in words: `tag app:latest`.
    pub what: String,
    /// Allocated bytes that it reaches; others may reach them too.
    pub bytes: u64,
}

/// Counts what stays of the images. `going` is what goes; `left` what might go, if there were not
/// room enough.
pub(super) fn count(
    graph: &ImageGraph,
    classes: &Classes,
    roots: &RootSet,
    going: &NodeSet,
    left: &NodeSet,
) -> Vec<Kept> {
    let young: HashSet<NodeId> = roots
        .roots
        .iter()
        .filter(|root| matches!(root.kind, RootKind::Grace { .. }))
        .map(|root| root.node)
        .collect();
    let why = |node| match classes.state(node) {
        _ if left.contains(node) => KeptFor::Space,
        State::Tagged | State::Member => KeptFor::Tag,
        State::Pinned => KeptFor::Pin,
        State::Referrer => KeptFor::Referrer,
        State::InUse => KeptFor::InUse,
        State::Intermediate => KeptFor::Intermediate,
        State::Stage => KeptFor::Stage,
        State::Dangling if young.contains(&node) => KeptFor::Grace,
        State::Dangling => KeptFor::Rule,
    };
    let stays = |node: &NodeId| !going.contains(*node) && graph.node(*node).present;
    let mut images: Vec<(KeptFor, NodeId)> = graph
        .images()
        .map(|image| image.node())
        .filter(stays)
        .map(|node| (why(node), node))
        .collect();
    images.sort_unstable();
    let mut counted = NodeSet::of(graph);
    let mut kept: Vec<Kept> = Vec::new();
    for (because, node) in images {
        if kept.last().is_none_or(|last| last.because != because) {
            kept.push(Kept {
                because,
                images: 0,
                bytes: 0,
            });
        }
        if let Some(last) = kept.last_mut() {
            last.images += 1;
            last.bytes += reach(graph, node, |node| counted.insert(node));
        }
    }
    kept
}

/// The roots that hold most, the largest first.
pub fn largest(graph: &ImageGraph, roots: &RootSet, count: usize) -> Vec<Holder> {
    let mut sizes: Vec<(u64, usize)> = Vec::new();
    for (place, root) in roots.roots.iter().enumerate() {
        let mut seen = HashSet::new();
        sizes.push((reach(graph, root.node, |node| seen.insert(node)), place));
    }
    sizes.sort_unstable_by_key(|(bytes, place)| (std::cmp::Reverse(*bytes), *place));
    let holder = |(bytes, place): &(u64, usize)| {
        let root = &roots.roots[*place];
        let digest = graph.node(root.node).digest;
        let what = match &root.kind {
            RootKind::Tag { name } => format!("tag {name}"),
            RootKind::Pin => format!("pin {}", digest.short()),
            RootKind::Lease { id } => format!("running build {id}"),
            RootKind::Container { id } => format!("container {id}"),
            RootKind::Grace { .. } => format!("grace of {}", digest.short()),
        };
        Holder {
            what,
            bytes: *bytes,
        }
    };
    sizes.iter().take(count).map(holder).collect()
}

/// The bytes of what a node reaches in order to run, as far as `new` says that it is.
fn reach(graph: &ImageGraph, from: NodeId, mut new: impl FnMut(NodeId) -> bool) -> u64 {
    let mut bytes = 0;
    let mut pending = vec![from];
    while let Some(node) = pending.pop() {
        if !new(node) {
            continue;
        }
        let stored = graph.node(node);
        bytes += if stored.present { stored.allocated } else { 0 };
        let links = graph.links(node);
        let runs = links.filter(|(_, role)| Roles::RUN.contains(*role));
        pending.extend(runs.map(|(target, _)| target));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::sample::Letters;

    #[test]
    fn shared_bytes_count_once_for_the_first_reason() {
        let letters = Letters::new("A->a,s B->b,s C->c C^B D->d +A *B");
        let roots = letters.roots();
        let classes = Classes::of(&letters.graph, &roots);
        let none = NodeSet::of(&letters.graph);
        let kept = count(&letters.graph, &classes, &roots, &none, &none);
        let kept: Vec<_> = kept
            .iter()
            .map(|kept| (kept.because, kept.images, kept.bytes / 4096))
            .collect();
        let expected = [
            (KeptFor::Tag, 1, 4),
            (KeptFor::Pin, 1, 3),
            (KeptFor::Rule, 2, 6),
        ];
        assert_eq!(kept, expected);
    }

    #[test]
    fn the_largest_holders_are_named() {
        let letters = Letters::new("A->a B->b,c,d +A +B *A");
        let holders = largest(&letters.graph, &letters.roots(), 2);
        let what: Vec<_> = holders.iter().map(|holder| holder.what.as_str()).collect();
        assert_eq!(what[0], "tag B");
        assert!(what[1].starts_with("tag A") || what[1].starts_with("pin "));
        assert_eq!(holders[0].bytes, 5 * 4096);
    }
}

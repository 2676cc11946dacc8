//! Marking: what is reachable from what is kept.
//!
//! Every content link is followed, whatever its kind; and from each node that is reached, `subject`
//! backwards, so that a live image's signatures live. Both go on until nothing new is found.
//! What cannot be read stops the marking: what it points at is not known, and might be anything.
//!
//! | reached from a root | is |
//! |---|---|
//! | a document that is damaged, or was never read, so that its links are not known | an error |
//! | a tagged or pinned document that is missing, its links not known | an error: what it pointed at may still be there |
//! | a member of an index that is missing | no error: indexes are often stored in part |
//! | a missing layer, config or subject | no error: nothing is below it, or nothing is known to be |
//!
//! A document whose links the catalog knows from when it was whole is followed by these: its
//! digest promises that it never said anything else.
//!
//! A document that the user gives up by its digest (`--ignore-broken`) stays, and stops nothing;
//! what only it needed is no longer protected by it.
//!
//! What is kept without being rooted (images that a filter spares) is followed as far as it can
//! be read: where it is broken nothing depends on it.

use crate::catalog::blob::BlobKind;
use crate::graph::{ImageGraph, Node, NodeId, NodeSet, Paths, RootKind, RootSet};
use crate::oci::Digest;
use crate::oci::document::Role;

/// A document that is reachable and cannot be read: nothing may be removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{digest} is needed{} and {why}{}: what it needs in turn is not known, so nothing is removed; load or build the image again to mend it, give it up with `rstore untag`, or give up only what it needs with `rstore prune{}`",
    by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default(),
    more(others),
    self.flags()
)]
pub struct Unreadable {
    /// The document.
    pub digest: Digest,
    /// The root that needs it.
    pub by: Option<String>,
    /// What is wrong with it.
    pub why: String,
    /// What else is needed and cannot be read.
    pub others: Vec<Digest>,
}

impl Unreadable {
    /// All of what cannot be read.
    pub fn digests(&self) -> Vec<Digest> {
        let others = self.others.iter().copied();
        std::iter::once(self.digest).chain(others).collect()
    }

    /// The flags by which a prune goes on in spite of them.
    pub fn flags(&self) -> String {
        if self.others.len() > 3 {
            return " --ignore-broken DIGEST ...".to_owned();
        }
        let flag = |digest: &Digest| format!(" --ignore-broken {digest}");
        self.digests().iter().map(flag).collect()
    }
}

fn more(others: &[Digest]) -> String {
    match others.len() {
        0 => String::new(),
        count => format!(" (and {count} more, which `rstore fsck` lists)"),
    }
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

    /// The same set, told as reached from more roots.
    pub(super) fn with_roots(self, roots: RootSet) -> Reachable {
        Reachable { roots, ..self }
    }

    /// The paths by which a node is kept.
    pub fn why(&self, graph: &ImageGraph, node: NodeId) -> Paths {
        graph.why(&self.roots, node, 16)
    }
}

/// Marks what is reachable from `roots`, which must all be readable, and from `kept`.
pub fn mark(graph: &ImageGraph, roots: &RootSet, kept: &NodeSet) -> Result<Reachable, Unreadable> {
    let mut set = NodeSet::of(graph);
    let mut broken: Vec<(Node, String)> = Vec::new();
    let mut told = NodeSet::of(graph);
    let mut found = |node: Node, why: &str| {
        if told.insert(node.node) && !roots.ignored.contains(&node.digest) {
            broken.push((node, why.to_owned()));
        }
    };
    for root in &roots.roots {
        let node = graph.node(root.node);
        let vital = matches!(root.kind, RootKind::Tag { .. } | RootKind::Pin);
        if vital && !node.present && graph.links(root.node).len() == 0 {
            found(node, "is missing from the store");
        }
    }
    let first = roots.roots.iter().map(|root| root.node);
    let Ok(()) = spread(graph, &mut set, first, |node| {
        if let Some(why) = fault(graph, node) {
            found(node, &why);
        }
        Ok::<(), std::convert::Infallible>(())
    });
    if let [(node, why), rest @ ..] = broken.as_slice() {
        let others = rest.iter().map(|(node, _)| node.digest).collect();
        return Err(Unreadable {
            others,
            ..unreadable(graph, roots, *node, why)
        });
    }
    extend(graph, &mut set, kept.iter());
    Ok(Reachable {
        set,
        roots: roots.clone(),
    })
}

/// Adds to `set` what `nodes` reach.
pub(super) fn extend(
    graph: &ImageGraph,
    set: &mut NodeSet,
    nodes: impl IntoIterator<Item = NodeId>,
) {
    let Ok(()) = spread(
        graph,
        set,
        nodes,
        |_| Ok::<(), std::convert::Infallible>(()),
    );
}

/// Adds to `set` what `nodes` reach by content links and, backwards, by subjects. `look` sees
/// each new node, and may stop the spreading.
fn spread<E>(
    graph: &ImageGraph,
    set: &mut NodeSet,
    nodes: impl IntoIterator<Item = NodeId>,
    mut look: impl FnMut(Node) -> Result<(), E>,
) -> Result<(), E> {
    let mut pending = Vec::new();
    let mut reach = |node: NodeId, set: &mut NodeSet, pending: &mut Vec<NodeId>| {
        if !set.insert(node) {
            return Ok(());
        }
        pending.push(node);
        look(graph.node(node))
    };
    for node in nodes {
        reach(node, set, &mut pending)?;
    }
    while let Some(node) = pending.pop() {
        for (target, _) in graph.links(node) {
            reach(target, set, &mut pending)?;
        }
        for (source, role) in graph.holders(node) {
            // A referrer that is on its way out already cannot come back by what it is about.
            if role == Role::Subject && !graph.node(source).condemned {
                reach(source, set, &mut pending)?;
            }
        }
    }
    Ok(())
}

/// Why the links of a reachable document are not known.
fn fault(graph: &ImageGraph, node: Node) -> Option<String> {
    let document = matches!(node.kind, BlobKind::Index | BlobKind::Manifest);
    if !node.present || graph.links(node.node).len() > 0 {
        return None;
    }
    if node.damaged && node.kind != BlobKind::Layer && node.kind != BlobKind::Config {
        let why = graph.damage(node.node).unwrap_or("it cannot be understood");
        return Some(format!("cannot be read ({why})"));
    }
    // An index may be empty; a manifest has a config at least.
    if document && (node.condemned || node.kind == BlobKind::Manifest) {
        return Some("has not been read".to_owned());
    }
    None
}

fn unreadable(graph: &ImageGraph, roots: &RootSet, node: Node, why: &str) -> Unreadable {
    let paths = graph.why(roots, node.node, 1);
    let by = paths.paths.first().map(|path| match &path.root {
        RootKind::Tag { name } => name.clone(),
        RootKind::Pin => format!("the pinned {}", graph.node(path.from).digest),
        RootKind::Lease { id } => format!("the running build {id}"),
        RootKind::Container { id } => format!("the container {id}"),
        RootKind::Grace { .. } => graph.node(path.from).digest.to_string(),
    });
    Unreadable {
        digest: node.digest,
        by,
        why: why.to_owned(),
        others: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::sample::Letters;

    fn reached(text: &str) -> String {
        let letters = Letters::new(text);
        let none = NodeSet::of(&letters.graph);
        let reachable = mark(&letters.graph, &letters.roots(), &none).unwrap();
        letters.names(reachable.set())
    }

    fn refused(text: &str) -> Unreadable {
        let letters = Letters::new(text);
        let none = NodeSet::of(&letters.graph);
        mark(&letters.graph, &letters.roots(), &none).unwrap_err()
    }

    #[test]
    fn what_a_tag_or_a_pin_reaches_is_reachable_and_nothing_else() {
        assert_eq!(reached("A->a,s B->b,s C->c +A *C"), "ACacs");
    }

    #[test]
    fn an_index_that_names_itself_ends() {
        assert_eq!(reached("X->X,A Y->X A->a B->b +X"), "AXa");
    }

    #[test]
    fn nested_indexes_are_followed() {
        assert_eq!(reached("X->Y Y->Z Z->A A->a B->b +X"), "AXYZa");
    }

    #[test]
    fn signatures_of_live_images_and_signatures_of_signatures_live() {
        assert_eq!(
            reached("A->a S=>A T=>S B->b U->B R=>B +A"),
            "AST a".replace(' ', "")
        );
    }

    #[test]
    fn what_a_live_signature_is_about_lives() {
        assert_eq!(reached("A->a S=>A +S"), "ASa");
    }

    #[test]
    fn a_reachable_document_that_cannot_be_read_stops_the_marking() {
        let error = refused("X->A,B A->a B->b +X !B");
        assert_eq!(error.digest, Digest::of(b"B"));
        assert_eq!(error.by.as_deref(), Some("X"));
        assert!(error.to_string().contains("rstore untag"), "{error}");
    }

    #[test]
    fn all_that_cannot_be_read_is_named_and_what_is_given_up_by_name_stops_nothing() {
        let letters = Letters::new("X->A,B A->a B->b C->c +X +C !B !A");
        let none = NodeSet::of(&letters.graph);
        let error = mark(&letters.graph, &letters.roots(), &none).unwrap_err();
        let digest = |name: &str| Digest::of(name.as_bytes());
        let mut named = error.digests();
        named.sort_unstable();
        let mut both = vec![digest("A"), digest("B")];
        both.sort_unstable();
        assert_eq!(named, both);
        let mut roots = letters.roots();
        roots.ignored.insert(digest("A"));
        let error = mark(&letters.graph, &roots, &none).unwrap_err();
        assert_eq!(error.digests(), [digest("B")]);
        roots.ignored.insert(digest("B"));
        let reached = mark(&letters.graph, &roots, &none).unwrap();
        assert!(
            letters.names(reached.set()).contains('A'),
            "it stays itself"
        );
    }

    #[test]
    fn an_unreadable_document_that_nothing_needs_stops_nothing() {
        assert_eq!(reached("A->a B->b +A !B"), "Aa");
    }

    #[test]
    fn a_tag_on_what_is_missing_stops_the_marking() {
        assert_eq!(refused("A->a B->b +A +B ?B").digest, Digest::of(b"B"));
    }

    #[test]
    fn a_missing_member_of_an_index_and_a_missing_layer_are_no_error() {
        assert_eq!(reached("X->A,B A->a B->b +X ?B ?a"), "ABXa");
    }
}

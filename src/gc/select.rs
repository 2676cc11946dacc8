//! Which tags, images and other documents may go under a policy: before anything is marked.
//!
//! ```text
//! all images ─ held in a way that no scope names ─ spared by a filter ─ what spared ones were
//!              made from = those that go
//! ```
//! An image that goes is one that nothing keeps for its own sake; whether its blobs go too is for
//! the marking to say.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use regex::Regex;

use crate::catalog::blob::BlobKind;
use crate::graph::{Classes, Image, ImageGraph, Node, NodeId, NodeSet, State};
use crate::oci::Reference;
use crate::oci::document::Role;

use super::policy::{LabelFilter, Policy};
use super::{Error, Result};

/// What may go, and what stays though nothing holds it.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Images that go.
    pub go: NodeSet,
    /// Documents that stay: images that do not go, and other documents that are spared.
    pub stay: NodeSet,
}

/// Limits of a selection, besides the policy.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Nothing but these may go. `None`: anything.
    pub only: Option<NodeSet>,
    /// These were asked for by name: an untagged image that was made from one does not keep it.
    pub named: Vec<NodeId>,
    /// These stay: what other tools wrote a short while ago.
    pub spared: Vec<NodeId>,
}

impl Limits {
    fn allow(&self, node: NodeId) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(node))
    }
}

/// Selects.
pub fn select(
    graph: &ImageGraph,
    classes: &Classes,
    policy: &Policy,
    limits: &Limits,
) -> Selection {
    let mut go = NodeSet::of(graph);
    let may = |image: &Image| {
        policy.scope.takes_images()
            && limits.allow(image.node())
            && classes.holds(image.node()).within(policy.scope.holds())
            && !spares(policy, image)
    };
    for image in graph.images().filter(may) {
        go.insert(image.node());
    }
    for node in &limits.spared {
        go.remove(*node);
    }
    keep_sources(graph, classes, &limits.named, &mut go);
    let mut stay = NodeSet::of(graph);
    for node in graph.nodes().filter(|node| node.present && !node.condemned) {
        let stays = match graph.image(node.node) {
            Some(image) => !go.contains(image.node()),
            None => stays_by_itself(policy, limits, node),
        };
        if stays {
            stay.insert(node.node);
        }
    }
    for node in &limits.spared {
        stay.insert(*node);
    }
    Selection { go, stay }
}

/// Whether a filter spares an image that a scope takes.
fn spares(policy: &Policy, image: &Image) -> bool {
    policy.until.is_some_and(|until| image.last_used() >= until)
        || (!policy.labels.is_empty() && !matches_labels(&policy.labels, image.labels()))
}

fn matches_labels(filters: &[LabelFilter], labels: &str) -> bool {
    let labels: BTreeMap<String, String> = serde_json::from_str(labels).unwrap_or_default();
    filters.iter().all(|filter| {
        let has = labels
            .get(&filter.key)
            .is_some_and(|value| filter.value.as_ref().is_none_or(|wanted| wanted == value));
        has != filter.negated
    })
}

/// A blob that is no image stays by itself if it may not go, or was used lately; and a document
/// does too where images are not asked for by kind, but it is left out.
fn stays_by_itself(policy: &Policy, limits: &Limits, node: Node) -> bool {
    let document = matches!(
        node.kind,
        BlobKind::Index | BlobKind::Manifest | BlobKind::Other
    );
    if !policy.scope.takes_images() || !limits.allow(node.node) {
        // A layer that nothing needs is not kept by being left out; a document is, with all that
        // it needs, because it would point at nothing otherwise.
        return document;
    }
    policy.until.is_some_and(|until| node.last_used >= until) && limits.only.is_none()
}

/// An untagged image that stays keeps those that it was made from: without them its history, and
/// the cache of its build, would be broken. Tagged ones don't: their ancestors are asked for.
fn keep_sources(graph: &ImageGraph, classes: &Classes, named: &[NodeId], go: &mut NodeSet) {
    const OWN: [State; 4] = [State::Tagged, State::Member, State::Pinned, State::Referrer];
    let by_itself = |node| OWN.iter().any(|own| classes.holds(node).contains(*own));
    let mut pending: Vec<Image> = graph
        .images()
        .filter(|image| !go.contains(image.node()) && !by_itself(image.node()))
        .collect();
    while let Some(image) = pending.pop() {
        if let Some(parent) = image.parent_image()
            && !named.contains(&parent.node())
            && go.remove(parent.node())
        {
            pending.push(parent);
        }
    }
}

/// The nodes that the removal of `images` (or indexes) may take: these, what they were made from
/// or for, their referrers, and all that they point at.
pub fn belongings(graph: &ImageGraph, documents: impl IntoIterator<Item = NodeId>) -> NodeSet {
    let mut all = NodeSet::of(graph);
    let mut pending: Vec<NodeId> = documents.into_iter().collect();
    while let Some(node) = pending.pop() {
        if !all.insert(node) {
            continue;
        }
        let content = graph.links(node).filter(|(_, role)| *role != Role::Subject);
        pending.extend(content.map(|(target, _)| target));
        let referrers = graph
            .holders(node)
            .filter(|(_, role)| *role == Role::Subject);
        pending.extend(referrers.map(|(source, _)| source));
        if let Some(image) = graph.image(node) {
            pending.extend(image.parent());
            pending.extend(image.stages());
        }
    }
    all
}

/// The tags that a policy for tagged images takes.
pub fn expired_tags(graph: &ImageGraph, policy: &Policy) -> Result<Vec<String>> {
    if !policy.scope.tagged {
        return Ok(Vec::new());
    }
    if policy.until.is_none() && policy.keep_last.is_none() && policy.labels.is_empty() {
        return Err(Error::Policy(
            "tagged images are only removed under a policy: say --until AGE, --keep-last N or --filter label=…".to_owned(),
        ));
    }
    let keep = match &policy.keep {
        Some(pattern) => Some(Regex::new(pattern).map_err(|error| {
            Error::Policy(format!(
                "--keep {pattern:?} is no regular expression: {error}"
            ))
        })?),
        None => None,
    };
    let latest = policy.keep_last.map(|count| last_used_tags(graph, count));
    let expired = |(place, (name, node)): &(usize, &(String, NodeId))| {
        let kept = keep.as_ref().is_some_and(|keep| keep.is_match(name));
        let late = latest.as_ref().is_some_and(|latest| latest[*place]);
        let spared = match graph.image(*node) {
            Some(image) => spares(policy, &image),
            None => policy
                .until
                .is_some_and(|until| graph.node(*node).last_used >= until),
        };
        !kept && !late && !spared
    };
    let tags = graph.tags().iter().enumerate().filter(expired);
    Ok(tags.map(|(_, (name, _))| name.clone()).collect())
}

/// Of each tag, whether it is among the `count` of its repository that were used last.
fn last_used_tags(graph: &ImageGraph, count: usize) -> Vec<bool> {
    let mut repositories: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, (name, _)) in graph.tags().iter().enumerate() {
        let repository = name
            .parse::<Reference>()
            .map_or_else(|_| name.clone(), |name| name.familiar_repository());
        repositories.entry(repository).or_default().push(place);
    }
    let mut among = vec![false; graph.tags().len()];
    for places in repositories.values_mut() {
        let used = |place: &usize| {
            let node = graph.tags()[*place].1;
            graph
                .image(node)
                .map_or(graph.node(node).last_used, |image| image.last_used())
        };
        places.sort_by_key(|place| std::cmp::Reverse(used(place)));
        places
            .iter()
            .take(count)
            .for_each(|place| among[*place] = true);
    }
    among
}

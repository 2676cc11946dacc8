//! Which tags, images and other documents may go under a policy: before anything is marked.
//!
//! ```text
//! all images ─ held in a way that no scope names ─ spared by a rule ─ what those that stay were
//!              made from (not where the scope takes intermediates) = those that go
//! ```
//! An image that goes is one that nothing keeps for its own sake; whether its blobs go too is for
//! the marking to say.
//!
//! **One run reaches the fixpoint.** What goes held nothing that the same scope would take and this
//! run leaves. By its parents it held intermediates, which go or are spared by themselves. By its
//! step an intermediate image held stages, which only `--stages` takes: a tagged image's build used
//! them, and it is that image which is said to have used them once the intermediate one has gone
//! (`condemn`).
//!
//! **Another root never enlarges a plan.** What spares an image for its own sake (an age, a filter,
//! `only`, a short while ago) asks nothing of roots, and more of them only make more ways in which
//! images are held. What is left is the keeping of sources, and there an image that has no name
//! must not keep more than it would with one:
//!
//! | scope | what an image that stays was made from |
//! |---|---|
//! | without intermediates | stays, whatever holds the image. Of a tagged, pinned or listed one it is held as intermediate; of one that is spared, or stays as a signature of an image, it is kept here |
//! | with intermediates | goes, unless it is spared itself: of a tagged image it would go too, and to give a spared one a name would take it |
//!
//! The second costs a line that was spared in part the steps below it: the image stays whole, as a
//! tagged one does. Who wants those too leaves `--intermediates` out. What was asked for by name
//! (`rmi`, which never takes intermediates) goes though an image without a name was made from it;
//! once that has a name, it stays.
//!
//! Three rules look at names, and are no part of this: `--keep-last` counts them, so that one more
//! takes another's place; a filter for a state or a name takes what has it; and where a plan stops
//! at so much room, something goes instead of what stays.

use hashbrown::{HashMap, HashSet};
use regex::Regex;

use crate::catalog::Millis;
use crate::catalog::blob::BlobKind;
use crate::graph::{Classes, Image, ImageGraph, Node, NodeId, NodeSet, State};
use crate::oci::Reference;
use crate::oci::document::Role;

use super::plan::ItemKind;
use super::policy::{Filter, Policy, Thing};
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
#[derive(Clone, Default)]
pub struct Limits<'a> {
    /// Nothing but these may go. `None`: anything.
    pub only: Option<NodeSet>,
    /// These were asked for by name: an untagged image that was made from one does not keep it.
    pub named: Vec<NodeId>,
    /// These stay: what other tools wrote a short while ago.
    pub spared: Vec<NodeId>,
    /// What goes must pass it.
    pub filter: Option<&'a dyn Filter>,
}

impl Limits<'_> {
    /// Whether what a filter is asked about passes it.
    pub fn pass(&self, thing: &Thing) -> bool {
        self.filter.is_none_or(|filter| filter.passes(thing))
    }

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
            && !spares(classes, policy, limits, image)
    };
    for image in graph.images().filter(may) {
        go.insert(image.node());
    }
    for node in &limits.spared {
        go.remove(*node);
    }
    if !policy.scope.intermediates {
        keep_sources(graph, &limits.named, &mut go);
    }
    let mut stay = NodeSet::of(graph);
    for node in graph.nodes().filter(|node| node.present && !node.condemned) {
        let stays = match graph.image(node.node) {
            Some(image) => !go.contains(image.node()),
            None => stays_by_itself(graph, policy, limits, node),
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

/// Whether a rule spares an image that a scope takes.
fn spares(classes: &Classes, policy: &Policy, limits: &Limits, image: &Image) -> bool {
    if policy.until.is_some_and(|until| image.last_used() >= until) {
        return true;
    }
    let Some(filter) = limits.filter else {
        return false;
    };
    let id = image.id().to_string();
    !filter.passes(&Thing {
        kind: ItemKind::Image,
        id: &id,
        names: image.names().collect(),
        image: Some(*image),
        state: Some(classes.state(image.node())),
        first_seen: Some(image.first_seen()),
        last_used: Some(image.last_used()),
    })
}

/// When a document was last used: an index, when the last of its images was.
pub(super) fn last_used(graph: &ImageGraph, node: NodeId) -> Millis {
    let own = graph.node(node).last_used;
    match graph.image(node) {
        Some(image) => image.last_used(),
        None if graph.node(node).kind == BlobKind::Index => {
            let members = graph.images_of(node);
            let members = members.iter().map(|image| image.last_used());
            members.fold(own, Millis::max)
        }
        None => own,
    }
}

/// A blob that is no image stays by itself if it may not go, or was used lately; and a document
/// does too where images are not asked for by kind, but it is left out.
fn stays_by_itself(graph: &ImageGraph, policy: &Policy, limits: &Limits, node: Node) -> bool {
    let document = matches!(
        node.kind,
        BlobKind::Index | BlobKind::Manifest | BlobKind::Other
    );
    if !policy.scope.takes_images() || !limits.allow(node.node) {
        // A layer that nothing needs is not kept by being left out; a document is, with all that
        // it needs, because it would point at nothing otherwise.
        return document;
    }
    if limits.only.is_some() {
        return false;
    }
    if policy.until.is_some_and(|until| node.last_used >= until) {
        return true;
    }
    // What only images hold goes as they do; a document, or what nothing holds, is asked itself.
    if limits.filter.is_none() || !document && graph.holders(node.node).len() > 0 {
        return false;
    }
    let kind = match node.kind {
        BlobKind::Index => ItemKind::Index,
        BlobKind::Manifest => ItemKind::Artifact,
        BlobKind::Config => ItemKind::Config,
        BlobKind::Layer => ItemKind::Layer,
        BlobKind::Other | BlobKind::Unknown => ItemKind::Blob,
    };
    let id = node.digest.to_string();
    !limits.pass(&Thing {
        kind,
        id: &id,
        names: graph.names(node.node).collect(),
        image: None,
        state: None,
        first_seen: Some(node.first_seen),
        last_used: Some(node.last_used),
    })
}

/// An image that stays keeps those that it was made from: without them its history, and the cache
/// of its build, would be broken. Where intermediate images are asked for that is what is wanted.
fn keep_sources(graph: &ImageGraph, named: &[NodeId], go: &mut NodeSet) {
    let mut pending: Vec<Image> = graph
        .images()
        .filter(|image| !go.contains(image.node()))
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

/// The tags that a policy for tagged images takes. Those of pinned images are not among them.
pub fn expired_tags(
    graph: &ImageGraph,
    policy: &Policy,
    filter: Option<&dyn Filter>,
) -> Result<Vec<String>> {
    if !policy.scope.tagged {
        return Ok(Vec::new());
    }
    if !policy.is_selective() {
        return Err(Error::Policy(
            "tagged images are only removed under a policy: say --until AGE, --keep-last N, --keep REGEX, --filter KEY=VALUE or --max-used-space SIZE".to_owned(),
        ));
    }
    let keep = match &policy.keep {
        Some(pattern) => Some(keep_pattern(pattern).map_err(Error::Policy)?),
        None => None,
    };
    let latest = policy
        .keep_last
        .map(|count| last_used_tags(graph, count.get()));
    let pinned: HashSet<NodeId> = graph.pins().iter().copied().collect();
    let expired = |(place, (name, node)): &(usize, &(String, NodeId))| {
        let kept = pinned.contains(node)
            || keep.as_ref().is_some_and(|keep| keep.is_match(name))
            || latest.as_ref().is_some_and(|latest| latest[*place])
            || policy
                .until
                .is_some_and(|until| last_used(graph, *node) >= until);
        !kept && filter.is_none_or(|filter| passes_as(graph, name, *node, filter))
    };
    let tags = graph.tags().iter().enumerate().filter(expired);
    Ok(tags.map(|(_, (name, _))| name.clone()).collect())
}

/// Reads what `--keep` says.
pub fn keep_pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("--keep {text:?} is no regular expression: {error}"))
}

/// Whether a tag passes a filter: as what it points at, under this name alone.
fn passes_as(graph: &ImageGraph, name: &str, node: NodeId, filter: &dyn Filter) -> bool {
    let image = graph.image(node);
    let document = graph.node(node);
    let id = image
        .map_or(document.digest, |image| image.id())
        .to_string();
    filter.passes(&Thing {
        kind: match document.kind {
            BlobKind::Index => ItemKind::Index,
            _ if image.is_some() => ItemKind::Image,
            _ => ItemKind::Artifact,
        },
        id: &id,
        names: vec![name],
        image,
        state: Some(State::Tagged),
        first_seen: Some(image.map_or(document.first_seen, |image| image.first_seen())),
        last_used: Some(last_used(graph, node)),
    })
}

/// Of each tag, whether it is among the `count` of its repository whose images were used last;
/// of those used at the same time, whether it stands later in `index.json`.
///
/// Used, not first seen: who builds the same image again under a new tag has an image that was
/// first seen long ago under the newest tag of all.
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
        let used = |place: usize| last_used(graph, graph.tags()[place].1);
        places.sort_by_cached_key(|place| std::cmp::Reverse((used(*place), *place)));
        places
            .iter()
            .take(count)
            .for_each(|place| among[*place] = true);
    }
    among
}

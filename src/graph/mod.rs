//! The image graph in memory: which documents point at which blobs, which images descend from
//! which, and what that makes of each.
//!
//! ```text
//! tag, pin, lease ──▶ index ──child──▶ manifest ──config──▶ config
//!                                        │  ▲  └──layer──▶ layer, layer, …
//!                              ──parent──┘  └──subject── referrer (signature, attestation)
//!                              ──stage──▶ image that a step copied from or mounted
//! ```
//! Two kinds of links: **content** links stand in documents, and what they point at must not
//! vanish; **parent** and **stage** links tell how an image was made, and may point at nothing.
//!
//! | file | owns |
//! |---|---|
//! | [`load`] | reading it from the catalog, in one moment |
//! | [`scan`] | the same, once `blobs/` has been taken in |
//! | [`root`] | what is kept for its own sake |
//! | [`walk`] | closures; ancestors and descendants |
//! | [`class`] | tagged, intermediate, stage, dangling |
//! | [`why`] | the paths from roots to a node |
//! | [`size`] | what only one image holds, and what it shares |
//! | [`chain`] | the chain IDs of an image's layers, by which snapshots are keyed |
//! | [`resolve`] | what a user meant by a name, an ID or a digest |
//!
//! **Memory.** Bytes, not objects: a node is 64 of them, links are compressed rows of 5 bytes each
//! way, texts lie once in one arena. A million blobs, 200,000 images and 600,000 layers among them,
//! take 160 MB and 0.8 s of one core.
//!
//! **Locking.** None: a graph is a value of one moment, with the [`HighWater`] by which a later
//! transaction tells what has come since.

use hashbrown::HashTable;

use crate::catalog::Millis;
use crate::catalog::blob::{BlobId, BlobKind, HighWater};
use crate::catalog::builds::ContainerRow;
use crate::catalog::cache::CacheRecord;
use crate::catalog::cache_mount::CacheMountRow;
use crate::catalog::lease::LeaseRow;
use crate::catalog::snapshot::SnapshotRow;
use crate::oci::Digest;
use crate::oci::document::Role;

pub mod chain;
pub mod class;
mod links;
pub mod load;
pub mod resolve;
pub mod root;
#[cfg(test)]
pub(crate) mod sample;
pub mod scan;
pub mod size;
mod text;
pub mod walk;
pub mod why;

pub use class::{Classes, Holds, LayerState, State};
pub use load::Depth;
pub use resolve::{Found, ResolveError};
pub use root::{Root, RootKind, RootSet};
pub use walk::{NodeSet, Roles};
pub use why::{Hop, LinkKind, Path, Paths};

use links::Links;
use text::{Span, Texts};

/// A blob, by its place in one [`ImageGraph`]. Worth nothing in another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// The place, from 0 to [`ImageGraph::len`].
    pub fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn at(index: usize) -> NodeId {
        NodeId(u32::try_from(index).unwrap_or(u32::MAX))
    }
}

/// Stands for "none" where an `Option<u32>` would double the bytes.
const NONE: u32 = u32::MAX;

/// A node as it is kept. Times are seconds; `used` is rounded up, so that nothing looks older
/// than it is.
#[derive(Debug, Clone, Copy)]
struct Stored {
    digest: Digest,
    blob: BlobId,
    size: u64,
    /// `st_blocks`: units of 512 bytes.
    blocks: u32,
    seen: u32,
    used: u32,
    kind: BlobKind,
    flags: u8,
}

const PRESENT: u8 = 1;
const OURS: u8 = 2;
const DAMAGED: u8 = 4;
const CONDEMNED: u8 = 8;

/// What is known of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Where it is in the graph.
    pub node: NodeId,
    /// Its number in the catalog.
    pub blob: BlobId,
    /// Its digest.
    pub digest: Digest,
    /// Bytes; of an absent blob, what a descriptor claims.
    pub size: u64,
    /// Bytes that the file system allocated, as the catalog has them.
    pub allocated: u64,
    /// What it is.
    pub kind: BlobKind,
    /// Whether there is a file.
    pub present: bool,
    /// Whether an rstore wrote it.
    pub ours: bool,
    /// Whether it cannot be understood; [`ImageGraph::damage`] says why.
    pub damaged: bool,
    /// Whether a prune has condemned it, and not swept it yet.
    pub condemned: bool,
    /// When the catalog first heard of it, to the second.
    pub first_seen: Millis,
    /// When it was last used, to the second.
    pub last_used: Millis,
}

#[derive(Debug, Clone, Copy)]
struct StoredImage {
    node: u32,
    config: u32,
    parent: u32,
    step: Span,
    platform: Span,
    labels: Span,
    created: Millis,
    size: u64,
    first_seen: Millis,
    last_used: Millis,
}

/// `created` where the config tells none.
const NO_TIME: Millis = Millis::MIN;

#[derive(Debug, Clone, Copy)]
struct StoredLayer {
    node: u32,
    created_by: Span,
    /// `u64::MAX`: not known.
    unpacked: u64,
    diff_id: Digest,
}

/// What a lease pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The lease.
    pub lease: String,
    /// A blob, and all that it reaches.
    pub node: Option<NodeId>,
    /// A snapshot, by its number.
    pub snapshot: Option<i64>,
}

/// The whole graph, as it was at one moment.
#[derive(Debug)]
pub struct ImageGraph {
    nodes: Vec<Stored>,
    /// Whether no number is missing between the first node's and the last's.
    dense: bool,
    /// While the graph is read, unless it is dense: the node of each number from the first node's
    /// on, or [`NONE`].
    places: Vec<u32>,
    /// For each node its place in `images` and in `layers`, or [`NONE`].
    image_of: Vec<u32>,
    layer_of: Vec<u32>,
    by_digest: HashTable<u32>,
    out: Links,
    into: Links,
    texts: Texts,
    /// Sorted by node.
    images: Vec<StoredImage>,
    /// From an image's place to those of the images whose parent it is.
    children: Links,
    /// From an image's place to the nodes that its step used, and from a node's back to images.
    stages: Links,
    used_by: Links,
    /// Sorted by node.
    layers: Vec<StoredLayer>,
    tags: Vec<(String, NodeId)>,
    /// Places in `tags`, sorted by node.
    named: Vec<u32>,
    untagged: Vec<NodeId>,
    pins: Vec<NodeId>,
    leases: Vec<LeaseRow>,
    leased: Vec<Leased>,
    snapshots: Vec<SnapshotRow>,
    containers: Vec<ContainerRow>,
    cache_mounts: Vec<CacheMountRow>,
    cache: Vec<(CacheRecord, Option<NodeId>)>,
    damage: Vec<(NodeId, String)>,
    high_water: HighWater,
    changes: i64,
    born: Millis,
}

/// An image of a graph: a manifest, with what lists show of it.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    graph: &'a ImageGraph,
    place: usize,
}

/// A layer of a graph, with what is known of it besides its blob.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    graph: &'a ImageGraph,
    stored: &'a StoredLayer,
}

impl ImageGraph {
    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Every node, in the order in which the catalog first heard of them.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = Node> + '_ {
        (0..self.nodes.len()).map(|index| self.node(NodeId::at(index)))
    }

    /// What is known of a node.
    pub fn node(&self, node: NodeId) -> Node {
        let stored = &self.nodes[node.index()];
        let flag = |bit| stored.flags & bit != 0;
        Node {
            node,
            blob: stored.blob,
            digest: stored.digest,
            size: stored.size,
            allocated: u64::from(stored.blocks) * 512,
            kind: stored.kind,
            present: flag(PRESENT),
            ours: flag(OURS),
            damaged: flag(DAMAGED),
            condemned: flag(CONDEMNED),
            first_seen: Millis::from(stored.seen) * 1000,
            last_used: Millis::from(stored.used) * 1000,
        }
    }

    /// The node with this digest.
    pub fn find(&self, digest: &Digest) -> Option<NodeId> {
        self.by_digest
            .find(text::hash(digest.as_bytes()), |&place| {
                self.nodes[place as usize].digest == *digest
            })
            .map(|&place| NodeId(place))
    }

    /// The node of a blob's number.
    pub fn find_blob(&self, blob: BlobId) -> Option<NodeId> {
        // Nodes are in the order of their numbers: a node is at most as far from the first as its
        // number is, and where none is missing just there, which need not be looked at.
        let first = self.nodes.first()?.blob;
        let far = usize::try_from(blob.checked_sub(first)?).ok()?;
        if self.dense {
            return (far < self.nodes.len()).then(|| NodeId::at(far));
        }
        if !self.places.is_empty() {
            let place = *self.places.get(far)?;
            return (place != NONE).then_some(NodeId(place));
        }
        let near = &self.nodes[..self.nodes.len().min(far.saturating_add(1))];
        near.binary_search_by_key(&blob, |stored| stored.blob)
            .ok()
            .map(NodeId::at)
    }

    /// Where a document points, in its own order: content links.
    pub fn links(&self, node: NodeId) -> impl ExactSizeIterator<Item = (NodeId, Role)> + '_ {
        self.out.of(node.index())
    }

    /// What points at a node: content links backwards.
    pub fn holders(&self, node: NodeId) -> impl ExactSizeIterator<Item = (NodeId, Role)> + '_ {
        self.into.of(node.index())
    }

    /// Why a document cannot be understood.
    pub fn damage(&self, node: NodeId) -> Option<&str> {
        self.damage
            .binary_search_by_key(&node, |(node, _)| *node)
            .ok()
            .map(|place| self.damage[place].1.as_str())
    }

    /// Every image, in the order in which they were first recorded.
    pub fn images(&self) -> impl ExactSizeIterator<Item = Image<'_>> {
        (0..self.images.len()).map(|place| Image { graph: self, place })
    }

    /// The image whose manifest a node is.
    pub fn image(&self, node: NodeId) -> Option<Image<'_>> {
        let place = *self.image_of.get(node.index())?;
        (place != NONE).then_some(Image {
            graph: self,
            place: place as usize,
        })
    }

    /// Every layer that is known as one.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = Layer<'_>> {
        self.layers.iter().map(|stored| Layer {
            graph: self,
            stored,
        })
    }

    /// What is known of a layer besides its blob.
    pub fn layer(&self, node: NodeId) -> Option<Layer<'_>> {
        let place = *self.layer_of.get(node.index())?;
        if place == NONE {
            return None;
        }
        Some(Layer {
            graph: self,
            stored: &self.layers[place as usize],
        })
    }

    /// Tags and what they point at, in the order of `index.json`.
    pub fn tags(&self) -> &[(String, NodeId)] {
        &self.tags
    }

    /// The tags that point at a node.
    pub fn names(&self, node: NodeId) -> impl Iterator<Item = &str> {
        let tagged = |place: &u32| self.tags[*place as usize].1;
        let start = self.named.partition_point(|place| tagged(place) < node);
        self.named[start..]
            .iter()
            .take_while(move |place| self.tags[**place as usize].1 == node)
            .map(|place| self.tags[*place as usize].0.as_str())
    }

    /// What `index.json` lists without a name.
    pub fn untagged(&self) -> &[NodeId] {
        &self.untagged
    }

    /// What is pinned.
    pub fn pins(&self) -> &[NodeId] {
        &self.pins
    }

    /// The leases that are recorded, dead or alive.
    pub fn leases(&self) -> &[LeaseRow] {
        &self.leases
    }

    /// What they pin.
    pub fn leased(&self) -> &[Leased] {
        &self.leased
    }

    /// The unpacked layers.
    pub fn snapshots(&self) -> &[SnapshotRow] {
        &self.snapshots
    }

    /// The intermediate containers that are recorded, running or left over.
    pub fn containers(&self) -> &[ContainerRow] {
        &self.containers
    }

    /// The directories of `RUN --mount=type=cache`, the oldest first.
    pub fn cache_mounts(&self) -> &[CacheMountRow] {
        &self.cache_mounts
    }

    /// The build cache: each record with the image that it leads to, where that is still known.
    pub fn cache(&self) -> &[(CacheRecord, Option<NodeId>)] {
        &self.cache
    }

    /// When the catalog began: of writers that are older, it cannot know the pins.
    pub fn catalog_born(&self) -> Millis {
        self.born
    }

    /// How many transactions had changed the catalog by the moment that this is a graph of.
    pub fn changes(&self) -> i64 {
        self.changes
    }

    /// The newest numbers of the moment that this is a graph of.
    pub fn high_water(&self) -> HighWater {
        self.high_water
    }
}

impl<'a> Image<'a> {
    fn stored(&self) -> &'a StoredImage {
        &self.graph.images[self.place]
    }

    /// Its place among [`ImageGraph::images`].
    pub fn place(&self) -> usize {
        self.place
    }

    /// The manifest.
    pub fn node(&self) -> NodeId {
        NodeId(self.stored().node)
    }

    /// The manifest's digest.
    pub fn digest(&self) -> Digest {
        self.graph.nodes[self.node().index()].digest
    }

    /// The config.
    pub fn config(&self) -> NodeId {
        NodeId(self.stored().config)
    }

    /// The image ID: the config's digest.
    pub fn id(&self) -> Digest {
        self.graph.nodes[self.config().index()].digest
    }

    /// The manifest of the image that its step started from, where the catalog still knows it;
    /// it need not be there any more.
    pub fn parent(&self) -> Option<NodeId> {
        Some(NodeId(self.stored().parent)).filter(|parent| parent.0 != NONE)
    }

    /// Its parent, where that is still an image.
    pub fn parent_image(&self) -> Option<Image<'a>> {
        self.graph.image(self.parent()?)
    }

    /// The images whose parent it is.
    pub fn children(&self) -> impl ExactSizeIterator<Item = Image<'a>> + use<'a> {
        let graph = self.graph;
        graph.children.of(self.place).map(move |(place, _)| Image {
            graph,
            place: place.index(),
        })
    }

    /// The images that its step copied from or mounted.
    pub fn stages(&self) -> impl ExactSizeIterator<Item = NodeId> + use<'a> {
        self.graph.stages.of(self.place).map(|(node, _)| node)
    }

    /// The images whose step copied from, or mounted, this one.
    pub fn used_by(&self) -> impl ExactSizeIterator<Item = Image<'a>> + use<'a> {
        let graph = self.graph;
        graph
            .used_by
            .of(self.node().index())
            .map(move |(place, _)| Image {
                graph,
                place: place.index(),
            })
    }

    /// The layers, the lowest first; the same blob may stand there twice.
    pub fn layers(&self) -> impl Iterator<Item = NodeId> + use<'a> {
        self.graph
            .out
            .of(self.node().index())
            .filter(|(_, role)| *role == Role::Layer)
            .map(|(node, _)| node)
    }

    /// The instruction that made it.
    pub fn step(&self) -> Option<&'a str> {
        self.graph.texts.get(self.stored().step)
    }

    /// `os/architecture[/variant]`.
    pub fn platform(&self) -> &'a str {
        self.graph.texts.get(self.stored().platform).unwrap_or("")
    }

    /// The config's labels, a JSON object of strings.
    pub fn labels(&self) -> &'a str {
        self.graph.texts.get(self.stored().labels).unwrap_or("{}")
    }

    /// `created` of the config: for display, never for age.
    pub fn created(&self) -> Option<Millis> {
        Some(self.stored().created).filter(|created| *created != NO_TIME)
    }

    /// Bytes of manifest, config and layers as stored.
    pub fn size(&self) -> u64 {
        self.stored().size
    }

    /// When the catalog first saw it.
    pub fn first_seen(&self) -> Millis {
        self.stored().first_seen
    }

    /// When it was last built on, tagged or taken from the cache.
    pub fn last_used(&self) -> Millis {
        self.stored().last_used
    }

    /// The tags that point at it.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.graph.names(self.node())
    }
}

impl std::fmt::Debug for Image<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({})", self.digest().short())
    }
}

impl<'a> Layer<'a> {
    /// The blob.
    pub fn node(&self) -> NodeId {
        NodeId(self.stored.node)
    }

    /// The digest of the uncompressed tar.
    pub fn diff_id(&self) -> Digest {
        self.stored.diff_id
    }

    /// Bytes of the uncompressed tar, where it has been read.
    pub fn unpacked(&self) -> Option<u64> {
        Some(self.stored.unpacked).filter(|unpacked| *unpacked != u64::MAX)
    }

    /// The step of the first image that was seen with it.
    pub fn created_by(&self) -> Option<&'a str> {
        self.graph.texts.get(self.stored.created_by)
    }

    /// The manifests that hold it, each once.
    pub fn manifests(&self) -> Vec<NodeId> {
        let mut manifests: Vec<NodeId> = self
            .graph
            .holders(self.node())
            .filter(|(_, role)| *role == Role::Layer)
            .map(|(node, _)| node)
            .collect();
        manifests.dedup();
        manifests
    }
}

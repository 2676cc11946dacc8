//! The disk as areas in areas.
//!
//! ```text
//! store
//! ├─ layers
//! │  ├─ shared: held by more than one image that is kept        ─ layers
//! │  ├─ held by one: app:latest                                 ─ layers
//! │  │               other:1                                    ─ layers
//! │  └─ intermediate, stage, …, dangling, unreferenced          ─ layers
//! ├─ snapshots, cache mounts, containers, temporary files, …    ─ each of them
//! └─ documents of images: no more is told of them
//! ```
//! Bytes are those of the walk that `df` makes, so that areas add up to its total; each byte is in
//! one area, however many images share it.

use hashbrown::{HashMap, HashSet};

use super::gather::cut;
use crate::cli::commands::{df, view};
use crate::cli::render::report::Tile;
use crate::gc::{Usage, UsageKind};
use crate::graph::{Classes, Image, ImageGraph, LayerState, NodeId, State};
use crate::oci::Digest;
use crate::oci::document::Role;

/// How many areas are told apart: images in the layers' area, layers in an image's, things in any
/// other.
const GROUPS: usize = 400;
const IN_GROUP: usize = 40;
const THINGS: usize = 300;

/// What a walk over all files found.
pub struct Measured {
    /// By place in the graph.
    layers: Vec<u64>,
    /// What has a name of its own.
    named: HashMap<(UsageKind, String), u64>,
}

impl Measured {
    /// Nothing yet.
    pub fn of(graph: &ImageGraph) -> Measured {
        Measured {
            layers: vec![0; graph.len()],
            named: HashMap::new(),
        }
    }

    /// Adds a file or directory, by its path from the root.
    pub fn add(&mut self, graph: &ImageGraph, kind: UsageKind, parts: &[&str], bytes: u64) {
        let name = match (kind, parts) {
            (UsageKind::Layers, [.., name]) => {
                let digest = Digest::from_hex(name);
                if let Some(node) = digest.and_then(|digest| graph.find(&digest)) {
                    self.layers[node.index()] += bytes;
                }
                return;
            }
            (UsageKind::Snapshots | UsageKind::Containers, [_, _, name, ..])
            | (UsageKind::CacheMounts, [_, _, name, ..])
            | (UsageKind::Others, [.., name]) => (*name).to_owned(),
            (UsageKind::Temporary | UsageKind::Quarantine, parts) => {
                parts[..parts.len().min(3)].join("/")
            }
            (UsageKind::Overhead, []) => ".".to_owned(),
            (UsageKind::Overhead | UsageKind::Unaccounted, parts) => {
                parts[..parts.len().min(2)].join("/")
            }
            _ => return,
        };
        *self.named.entry((kind, name)).or_insert(0) += bytes;
    }
}

/// What areas are made of.
pub struct Source<'a> {
    /// What holds what.
    pub graph: &'a ImageGraph,
    /// What each image is.
    pub classes: &'a Classes,
    /// The bytes.
    pub measured: &'a Measured,
    /// Where images and layers stand in the page's tables.
    pub images: &'a HashMap<NodeId, u32>,
    /// Likewise.
    pub layers: &'a HashMap<NodeId, u32>,
}

/// Everything below the root.
pub fn tree(source: &Source, usage: &Usage, name: &str) -> Tile {
    let tiles = usage.rows.iter().filter(|(_, row)| row.size > 0);
    let tiles = tiles
        .map(|(kind, row)| match kind {
            UsageKind::Layers => source.layers(row.size),
            kind => source.things(*kind, row.size),
        })
        .collect();
    Tile::new(name, usage.total, "house").filled(tiles, 0, "files")
}

/// What colours a kind.
fn class(kind: UsageKind) -> &'static str {
    match kind {
        UsageKind::Images | UsageKind::Layers => "kept",
        UsageKind::Intermediates => "intermediate",
        UsageKind::Stages => "stage",
        UsageKind::Dangling => "waste",
        UsageKind::Snapshots
        | UsageKind::Cache
        | UsageKind::CacheMounts
        | UsageKind::Containers
        | UsageKind::Temporary => "derived",
        UsageKind::Overhead => "house",
        UsageKind::Others | UsageKind::Quarantine | UsageKind::Unaccounted => "stranger",
    }
}

fn title(kind: UsageKind) -> &'static str {
    let found = df::KINDS.iter().find(|(known, ..)| *known == kind);
    found.map_or("", |(.., title)| title)
}

/// Leaves of a list the largest. Returns how many it took away.
fn largest<T>(list: &mut Vec<(u64, T)>, limit: usize) -> usize
where
    T: Ord,
{
    list.sort_unstable_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    let left = list.len().saturating_sub(limit);
    list.truncate(limit);
    left
}

/// Who holds a layer, for the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    /// More than one image that is kept.
    Shared,
    /// One that is kept.
    One(NodeId),
    /// None that is kept.
    State(LayerState),
}

/// Whether images of this state are there for their own sake, not for that of others.
fn is_kept(state: State) -> bool {
    matches!(
        state,
        State::Tagged | State::Member | State::Pinned | State::Referrer
    )
}

fn owner(graph: &ImageGraph, classes: &Classes, layer: NodeId) -> Owner {
    let state = classes.layer(graph, layer);
    if !matches!(state, LayerState::Held(best) if is_kept(best)) {
        return Owner::State(state);
    }
    let mut holders = graph
        .holders(layer)
        .filter(|(_, role)| matches!(role, Role::Layer | Role::Other))
        .map(|(manifest, _)| manifest)
        .filter(|manifest| is_kept(classes.state(*manifest)));
    let Some(first) = holders.next() else {
        return Owner::State(state);
    };
    match holders.any(|other| other != first) {
        true => Owner::Shared,
        false => Owner::One(first),
    }
}

/// Of each image that is kept the bytes of its manifest, its config, and of the layers that no
/// other such image holds.
pub fn alone(graph: &ImageGraph, classes: &Classes) -> HashMap<NodeId, u64> {
    let bytes = |node| {
        let node = graph.node(node);
        if node.present { node.allocated } else { 0 }
    };
    let mut alone: HashMap<NodeId, u64> = graph
        .images()
        .filter(|image| is_kept(classes.state(image.node())))
        .map(|image| (image.node(), bytes(image.node()) + bytes(image.config())))
        .collect();
    for layer in graph.layers() {
        if let Owner::One(image) = owner(graph, classes, layer.node()) {
            *alone.entry(image).or_insert(0) += bytes(layer.node());
        }
    }
    alone
}

/// Layers by their bytes.
type Layers = Vec<(u64, NodeId)>;

impl Source<'_> {
    /// The layers: by the images that hold them.
    fn layers(&self, bytes: u64) -> Tile {
        let mut owned: HashMap<Owner, Layers> = HashMap::new();
        for node in self.graph.nodes() {
            let bytes = self.measured.layers[node.node.index()];
            if bytes > 0 {
                let owner = owner(self.graph, self.classes, node.node);
                owned.entry(owner).or_default().push((bytes, node.node));
            }
        }
        let (mut tiles, mut own) = (Vec::new(), Vec::new());
        for (owner, layers) in owned {
            match owner {
                Owner::Shared => {
                    tiles.push(self.group("Shared by images", "kept", layers, THINGS));
                }
                Owner::State(state) => {
                    let (name, class) = state_group(state);
                    tiles.push(self.group(name, class, layers, THINGS));
                }
                Owner::One(image) => {
                    let bytes: u64 = layers.iter().map(|(bytes, _)| bytes).sum();
                    own.push((bytes, (image, layers)));
                }
            }
        }
        tiles.extend(self.own(own));
        Tile::new("Layers", bytes, "kept").filled(tiles, 0, "layers")
    }

    /// Each image with the layers that no other image that is kept holds.
    fn own(&self, mut images: Vec<(u64, (NodeId, Layers))>) -> Option<Tile> {
        if images.is_empty() {
            return None;
        }
        let bytes = images.iter().map(|(bytes, _)| bytes).sum();
        let left = largest(&mut images, GROUPS);
        let tiles = images
            .into_iter()
            .map(|(_, (image, layers))| {
                let name = self.name_of(image);
                let mut tile = self.group(&name, "kept", layers, IN_GROUP);
                tile.image = self.images.get(&image).copied();
                tile
            })
            .collect();
        Some(Tile::new("Held by one image", bytes, "kept").filled(tiles, left, "images"))
    }

    /// What an image is called: by its name, that of the index that it is in, its step, its ID.
    fn name_of(&self, node: NodeId) -> String {
        if let Some(name) = self.graph.names(node).next() {
            return cut(name);
        }
        let indexes = self.graph.holders(node);
        let name = indexes
            .filter(|(_, role)| *role == Role::Child)
            .find_map(|(index, _)| self.graph.names(index).next());
        let image = self.graph.image(node);
        let id = image.map_or(self.graph.node(node).digest, |image| image.id());
        match (name, image.and_then(|image| image.step())) {
            (Some(name), _) => {
                let platform = image.map_or("", |image| image.platform());
                cut(&format!("{name} {platform}"))
            }
            (None, Some(step)) => format!("{} {}", id.short(), cut(view::step_text(step))),
            (None, None) => id.short(),
        }
    }

    fn group(&self, name: &str, class: &'static str, mut layers: Layers, limit: usize) -> Tile {
        let bytes = layers.iter().map(|(bytes, _)| bytes).sum();
        let left = largest(&mut layers, limit);
        let tiles = layers
            .into_iter()
            .map(|(bytes, node)| self.layer(node, bytes, class))
            .collect();
        Tile::new(name, bytes, class).filled(tiles, left, "layers")
    }

    fn layer(&self, node: NodeId, bytes: u64, class: &'static str) -> Tile {
        let digest = self.graph.node(node).digest;
        let step = self
            .graph
            .layer(node)
            .and_then(|layer| layer.created_by())
            .map(|step| cut(view::step_text(step)))
            .filter(|step| !step.is_empty());
        let (name, note) = match step {
            Some(step) => (step, format!("layer {digest}")),
            None => (digest.short(), format!("layer {digest}")),
        };
        Tile {
            note,
            layer: self.layers.get(&node).copied(),
            ..Tile::new(name, bytes, class)
        }
    }

    /// What is not layers: as far as it has names, by these.
    fn things(&self, kind: UsageKind, bytes: u64) -> Tile {
        let named = self.measured.named.iter();
        let mut things: Vec<(u64, &str)> = named
            .filter(|((of, _), bytes)| *of == kind && **bytes > 0)
            .map(|((_, name), bytes)| (*bytes, name.as_str()))
            .collect();
        let left = largest(&mut things, THINGS);
        let shown: HashSet<&str> = things.iter().map(|(_, name)| *name).collect();
        let about = self.about(kind, &shown);
        let class = class(kind);
        let tiles = things
            .into_iter()
            .map(|(bytes, name)| match about.get(name) {
                Some((title, note, image)) => Tile {
                    note: note.clone(),
                    image: image.and_then(|image| self.images.get(&image).copied()),
                    ..Tile::new(title, bytes, class)
                },
                None => Tile::new(cut(name), bytes, class),
            })
            .collect();
        let title = title(kind);
        let mut tile = Tile::new(title, bytes, class);
        if matches!(
            kind,
            UsageKind::Images | UsageKind::Intermediates | UsageKind::Stages | UsageKind::Dangling
        ) {
            tile.note = "manifests and configs; layers are an area of their own".to_owned();
        }
        tile.filled(tiles, left, &title.to_lowercase())
    }

    /// What the catalog says of things by the names of their files: a title, a note, an image.
    fn about<'b>(
        &self,
        kind: UsageKind,
        shown: &HashSet<&'b str>,
    ) -> HashMap<&'b str, (String, String, Option<NodeId>)> {
        let mut about = HashMap::new();
        match kind {
            UsageKind::Snapshots => {
                let tops = self.tops();
                for row in self.graph.snapshots() {
                    let Some(name) = shown.get(row.directory.as_str()) else {
                        continue;
                    };
                    let top = tops.get(&row.chain).copied();
                    let title = top.map_or_else(|| row.chain.short(), |node| self.name_of(node));
                    let note = format!("unpacked in rstore/snapshots/{}", cut(name));
                    about.insert(*name, (title, note, top));
                }
            }
            UsageKind::Containers => {
                for row in self.graph.containers() {
                    if let Some(name) = shown.get(row.id.as_str()) {
                        let note = format!("container {}", cut(name));
                        about.insert(*name, (cut(view::step_text(&row.step)), note, None));
                    }
                }
            }
            UsageKind::CacheMounts => {
                for row in self.graph.cache_mounts() {
                    if let Some(name) = shown.get(row.directory.as_str()) {
                        let note = format!("rstore/cache-mounts/{}", cut(name));
                        about.insert(*name, (cut(&row.name), note, None));
                    }
                }
            }
            _ => {}
        }
        about
    }

    /// The image that ends with each chain of layers: one with a name, where there is one.
    fn tops(&self) -> HashMap<Digest, NodeId> {
        let mut chains: HashMap<(Option<Digest>, Digest), Digest> = HashMap::new();
        let mut tops: HashMap<Digest, NodeId> = HashMap::new();
        let named = |node| self.graph.names(node).next().is_some();
        for image in self.graph.images() {
            let Some(chain) = self.top(image, &mut chains) else {
                continue;
            };
            let node = image.node();
            let best = tops.entry(chain).or_insert(node);
            if !named(*best) && named(node) {
                *best = node;
            }
        }
        tops
    }

    fn top(
        &self,
        image: Image,
        chains: &mut HashMap<(Option<Digest>, Digest), Digest>,
    ) -> Option<Digest> {
        let mut below = None;
        for layer in image.layers() {
            let diff_id = self.graph.layer(layer)?.diff_id();
            let chain = chains
                .entry((below, diff_id))
                .or_insert_with(|| crate::oci::chain_id(below.as_ref(), &diff_id));
            below = Some(*chain);
        }
        below
    }
}

/// What the area of layers of a state is called, and its colour.
fn state_group(state: LayerState) -> (&'static str, &'static str) {
    match state {
        LayerState::Held(State::Intermediate) => ("Intermediate images", "intermediate"),
        LayerState::Held(State::Stage) => ("Build stages", "stage"),
        LayerState::Held(State::InUse) => ("In use by builds", "intermediate"),
        LayerState::Held(_) => ("Kept", "kept"),
        LayerState::Dangling => ("Dangling: only dangling images", "waste"),
        LayerState::Unreferenced => ("Unreferenced: no image", "waste"),
    }
}

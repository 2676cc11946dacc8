//! From a view of the store to what the page shows.
//!
//! A store may have more than a page can hold: of images, layers and log entries those with most
//! bytes, or the newest, are taken, and the rest is counted. Texts are cut to [`TEXT`] characters.
//! What this comes to at most: some ten megabytes.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use super::tiles::{self, Measured};
use crate::catalog::Millis;
use crate::catalog::journal::JournalEntry;
use crate::cli::Result;
use crate::cli::commands::view::{self, View};
use crate::cli::commands::{df, graph};
use crate::cli::render::picture::Picture;
use crate::cli::render::report::{Disk, ImageRow, Kind, LayerRow, LogRow, Prune, Report, Table};
use crate::cli::render::{Look, SCHEMA, fold, text};
use crate::gc::{self, Item, ItemKind, Plan, Policy, Scope, Usage, UsageKind};
use crate::graph::{Image, ImageGraph, NodeId, State};

/// How many images, layers and entries of the log are shown at most.
const IMAGES: usize = 3_000;
const LAYERS: usize = 12_000;
const ENTRIES: usize = 500;
/// The largest layers, of whatever image, are shown first; then those of the images shown.
const LARGEST_LAYERS: usize = 4_000;
/// How many images are drawn at most, long lines of steps folded.
const DRAWN: usize = 400;
/// How many lines of steps longer than this are folded to their ends.
const LONGEST_LINE: usize = 6;
/// The longest text, in characters.
pub(super) const TEXT: usize = 300;
/// How many names and labels of an image are shown at most.
const NAMES: usize = 50;
const LABELS: usize = 30;

/// Everything that the page shows.
pub fn report(view: View, disk: Option<Disk>, now: Millis) -> Result<Report> {
    let read = ENTRIES + 1;
    let journal = view.store.catalog().read(|tx| tx.journal(read))?;
    let plans = Plans::make(&view, now)?;
    let frees = plans.by_image(&view.graph);
    let alone = tiles::alone(&view.graph, &view.classes);
    let images = Chosen::images(&view, &frees, &alone);
    let layers = Chosen::layers(&view, &images);
    let picture = picture(&view, &images, now);
    // An open catalog has files of its own, which are gone when whoever compares asks `du`.
    let (graph, classes, layout) = df::closed(view)?;
    let root = layout.root();
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
    let root = text::clean(&root.to_string_lossy());
    let mut measured = Measured::of(&graph);
    let usage = gc::usage_of_each(&layout, &graph, now, &mut |kind, parts, bytes| {
        measured.add(&graph, kind, parts, bytes);
    })?;
    let tree = tiles::tree(
        &tiles::Source {
            graph: &graph,
            classes: &classes,
            measured: &measured,
            images: &images.place,
            layers: &layers.place,
        },
        &usage,
        &root,
    );
    let rows = RowMaker {
        graph: &graph,
        classes: &classes,
        frees: &frees,
        alone: &alone,
        layers: &layers.place,
    };
    Ok(Report {
        schema: SCHEMA,
        root,
        made: now,
        total: usage.total,
        disk,
        rows: kinds(&usage, plans.widest()),
        tree,
        prunes: plans.rows(),
        blocked: plans.blocked.clone(),
        notes: plans.notes(),
        images: Table {
            shown: images.nodes.iter().filter_map(|n| rows.image(*n)).collect(),
            left: images.left,
            left_bytes: images.left_bytes,
        },
        layers: Table {
            shown: layers.nodes.iter().map(|node| rows.layer(*node)).collect(),
            left: layers.left,
            left_bytes: layers.left_bytes,
        },
        log: log(journal),
        undrawn: picture.1,
        picture: picture.0,
    })
}

/// A text of strangers, made fit and cut.
pub(super) fn cut(text: &str) -> String {
    text::shorten(&text::clean(text), TEXT)
}

fn log(mut journal: Vec<JournalEntry>) -> Table<LogRow> {
    // Whether there are more is known; counting them would be reading them.
    let left = journal.len().saturating_sub(ENTRIES);
    journal.truncate(ENTRIES);
    let row = |entry: JournalEntry| LogRow {
        time: entry.time,
        operation: cut(&entry.operation),
        subject: cut(&entry.subject),
        bytes: entry.bytes,
        detail: cut(&entry.detail),
    };
    Table {
        shown: journal.into_iter().map(row).collect(),
        left: left as u64,
        left_bytes: 0,
    }
}

/// What the prune of each scope would do.
struct Plans {
    plans: Vec<(&'static str, &'static str, Plan)>,
    blocked: Option<String>,
}

impl Plans {
    /// From the ordinary prune to the widest; of the others those that have something to take.
    fn make(view: &View, now: Millis) -> Result<Plans> {
        let has = |state| {
            let mut images = view.graph.images();
            images.any(|image| view.classes.state(image.node()) == state)
        };
        let with = |change: fn(&mut Scope), mut scope: Scope| {
            change(&mut scope);
            scope
        };
        let (plain, none) = (Scope::default, Scope::none);
        let graph = &view.graph;
        let scopes = [
            ("prune", "what nothing needs", true, plain()),
            (
                "prune --stages",
                "also what builds copied from",
                has(State::Stage),
                with(|scope| scope.stages = true, plain()),
            ),
            (
                "prune --intermediates",
                "also steps that tagged images descend from",
                has(State::Intermediate),
                with(|scope| scope.intermediates = true, plain()),
            ),
            (
                "prune --snapshots",
                "unpacked layers; builds make them again",
                !graph.snapshots().is_empty(),
                with(|scope| scope.snapshots = true, none()),
            ),
            (
                "prune --cache",
                "records of the build cache",
                !graph.cache().is_empty(),
                with(|scope| scope.cache = true, none()),
            ),
            (
                "prune --cache-mounts",
                "what RUN --mount=type=cache keeps",
                !graph.cache_mounts().is_empty(),
                with(|scope| scope.cache_mounts = true, none()),
            ),
            (
                "prune --all",
                "whatever tagged and pinned images can run without",
                true,
                Scope::all(),
            ),
        ];
        let mut plans = Plans {
            plans: Vec::new(),
            blocked: None,
        };
        for (name, what, wanted, scope) in scopes {
            if !wanted {
                continue;
            }
            let policy = Policy {
                scope,
                ..Policy::default()
            };
            match gc::plan(view.store.layout(), graph, &policy, now) {
                Ok(plan) => plans.plans.push((name, what, plan)),
                // What cannot be pruned can be looked at.
                Err(gc::Error::Unreadable(error)) => {
                    plans.plans.clear();
                    plans.blocked = Some(text::clean(&error.to_string()));
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(plans)
    }

    fn rows(&self) -> Vec<Prune> {
        let row = |(name, what, plan): &(&str, &'static str, Plan)| Prune {
            command: format!("rstore {name}"),
            what,
            items: plan.totals.items,
            freed: plan.totals.freed,
        };
        self.plans.iter().map(row).collect()
    }

    fn widest(&self) -> &[Item] {
        self.plans
            .last()
            .map(|(.., plan)| plan.items.as_slice())
            .unwrap_or_default()
    }

    fn notes(&self) -> Vec<String> {
        let widest = self.plans.last().map(|(.., plan)| plan.notes.as_slice());
        let notes = widest.unwrap_or_default().iter();
        notes.map(|note| cut(note)).collect()
    }

    /// What goes with each image in the widest prune.
    fn by_image(&self, graph: &ImageGraph) -> HashMap<NodeId, u64> {
        let items = self.widest();
        let mut frees = HashMap::new();
        for item in items {
            let image = match (item.kind, item.with()) {
                (ItemKind::Image, _) => Some(item),
                (_, Some(with)) => items.get(with as usize),
                _ => None,
            };
            let digest = image.and_then(|image| image.digest);
            if let Some(node) = digest.and_then(|digest| graph.find(&digest)) {
                *frees.entry(node).or_insert(0) += item.freed;
            }
        }
        frees
    }
}

/// The rows of `df`, and what of each the widest prune frees.
fn kinds(usage: &Usage, items: &[Item]) -> Vec<Kind> {
    let mut frees: BTreeMap<UsageKind, u64> = BTreeMap::new();
    for item in items {
        let image = item.with().and_then(|with| items.get(with as usize));
        let state = image.unwrap_or(item).state();
        let kind = match item.kind {
            ItemKind::Image | ItemKind::Index | ItemKind::Artifact | ItemKind::Config => {
                match state {
                    Some(State::Intermediate) => UsageKind::Intermediates,
                    Some(State::Stage) => UsageKind::Stages,
                    _ => UsageKind::Dangling,
                }
            }
            ItemKind::Layer => UsageKind::Layers,
            ItemKind::Blob => UsageKind::Others,
            ItemKind::Snapshot => UsageKind::Snapshots,
            ItemKind::Container => UsageKind::Containers,
            ItemKind::CacheMount => UsageKind::CacheMounts,
            ItemKind::CacheRecord => UsageKind::Cache,
            ItemKind::Temporary => UsageKind::Temporary,
        };
        *frees.entry(kind).or_insert(0) += item.freed;
    }
    let row = |(kind, word, title): &(UsageKind, &'static str, &'static str)| {
        let row = usage.rows.get(kind).copied().unwrap_or_default();
        Kind {
            word,
            title,
            total: row.total,
            active: row.active,
            size: row.size,
            reclaimable: frees.get(kind).copied().unwrap_or(0),
        }
    };
    let rows = df::KINDS.iter().map(row);
    rows.filter(|row| row.size > 0 || row.total > 0).collect()
}

/// What of a long list is shown, and in which order.
pub(super) struct Chosen {
    nodes: Vec<NodeId>,
    /// The place of each among those shown.
    place: HashMap<NodeId, u32>,
    left: u64,
    left_bytes: u64,
}

impl Chosen {
    fn new() -> Chosen {
        Chosen {
            nodes: Vec::new(),
            place: HashMap::new(),
            left: 0,
            left_bytes: 0,
        }
    }

    fn add(&mut self, node: NodeId) {
        let place = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        if !self.place.contains_key(&node) {
            self.place.insert(node, place);
            self.nodes.push(node);
        }
    }

    /// The images that are worth most: by what they hold alone, or what goes with them, tagged ones
    /// first where that is the same.
    fn images(view: &View, frees: &HashMap<NodeId, u64>, alone: &HashMap<NodeId, u64>) -> Chosen {
        let graph = &view.graph;
        let mut all: Vec<(u64, State, NodeId)> = graph
            .images()
            .map(|image| {
                let node = image.node();
                let [freed, alone] = [frees, alone].map(|of| of.get(&node).copied().unwrap_or(0));
                (freed.max(alone), view.classes.state(node), node)
            })
            .collect();
        // Everything has a few blocks of its own; names tell more than these.
        let rough = |worth: u64| worth >> 16;
        all.sort_unstable_by(|one, other| {
            (rough(other.0), one.1, other.0, one.2).cmp(&(rough(one.0), other.1, one.0, other.2))
        });
        let mut chosen = Chosen::new();
        for (place, (worth, _, node)) in all.into_iter().enumerate() {
            if place < IMAGES {
                chosen.add(node);
            } else {
                chosen.left += 1;
                chosen.left_bytes += worth;
            }
        }
        chosen
    }

    /// The largest layers, and those of the images that are shown, as far as there is room.
    fn layers(view: &View, images: &Chosen) -> Chosen {
        let graph = &view.graph;
        let mut all: Vec<(u64, NodeId)> = graph
            .layers()
            .map(|layer| graph.node(layer.node()))
            .filter(|blob| blob.present && !blob.condemned)
            .map(|blob| (blob.allocated, blob.node))
            .collect();
        all.sort_unstable_by(|one, other| (other.0, one.1).cmp(&(one.0, other.1)));
        let mut chosen = Chosen::new();
        for (_, node) in all.iter().take(LARGEST_LAYERS) {
            chosen.add(*node);
        }
        let shown = images.nodes.iter().filter_map(|node| graph.image(*node));
        for layer in shown.flat_map(|image| image.layers()) {
            if chosen.nodes.len() >= LAYERS {
                break;
            }
            chosen.add(layer);
        }
        for (bytes, node) in all {
            if !chosen.place.contains_key(&node) {
                chosen.left += 1;
                chosen.left_bytes += bytes;
            }
        }
        chosen
    }
}

/// The images that are worth most with what they were made from, and how many are not drawn.
fn picture(view: &View, images: &Chosen, now: Millis) -> (Picture, u64) {
    let graph = &view.graph;
    let mut drawn: HashSet<NodeId> = HashSet::new();
    for node in &images.nodes {
        let mut line = graph.ancestors(*node);
        line.push(*node);
        let stages: Vec<NodeId> = line
            .iter()
            .filter_map(|node| graph.image(*node))
            .flat_map(|image| image.stages().collect::<Vec<_>>())
            .filter(|stage| graph.image(*stage).is_some())
            .collect();
        line.extend(stages);
        line.retain(|node| !drawn.contains(node));
        if drawn.len() + line.len() <= DRAWN {
            drawn.extend(line);
        }
        if drawn.len() >= DRAWN {
            break;
        }
    }
    let mut nodes: Vec<NodeId> = drawn.into_iter().collect();
    nodes.sort_unstable();
    let undrawn = graph.images().len().saturating_sub(nodes.len());
    let look = Look {
        full: false,
        exact: false,
        now,
        width: None,
    };
    let mut picture = graph::picture_of(view, &nodes, &look);
    for vertex in &mut picture.vertices {
        vertex.step = vertex.step.as_deref().map(cut);
    }
    (fold::folded(picture, LONGEST_LINE), undrawn as u64)
}

/// What makes rows of nodes.
struct RowMaker<'a> {
    graph: &'a ImageGraph,
    classes: &'a crate::graph::Classes,
    frees: &'a HashMap<NodeId, u64>,
    alone: &'a HashMap<NodeId, u64>,
    layers: &'a HashMap<NodeId, u32>,
}

impl RowMaker<'_> {
    fn image(&self, node: NodeId) -> Option<ImageRow> {
        let image = self.graph.image(node)?;
        let bytes = self.graph.bytes_of(node);
        let all: Vec<NodeId> = image.layers().collect();
        let layers: Vec<u32> = all
            .iter()
            .filter_map(|layer| self.layers.get(layer).copied())
            .collect();
        Some(ImageRow {
            names: image.names().take(NAMES).map(cut).collect(),
            id: image.id().to_string(),
            digest: image.digest().to_string(),
            state: self.classes.state(node).word(),
            platform: cut(image.platform()),
            step: image.step().map(cut),
            parent: image.parent_image().map(|parent| parent.id().to_string()),
            labels: labels(&image),
            created: image.created(),
            first_seen: image.first_seen(),
            last_used: image.last_used(),
            size: bytes.total.allocated,
            alone: self.alone.get(&node).copied().unwrap_or(0),
            own: bytes.own.allocated,
            shared: bytes.shared.allocated,
            reclaimable: self.frees.get(&node).copied().unwrap_or(0),
            more_layers: u32::try_from(all.len() - layers.len()).unwrap_or(u32::MAX),
            layers,
        })
    }

    fn layer(&self, node: NodeId) -> LayerRow {
        let blob = self.graph.node(node);
        let layer = self.graph.layer(node);
        let manifests = layer.map(|layer| layer.manifests()).unwrap_or_default();
        let images = manifests.iter().filter(|m| self.graph.image(**m).is_some());
        LayerRow {
            digest: blob.digest.to_string(),
            diff_id: layer.map(|layer| layer.diff_id().to_string()),
            state: self.classes.layer(self.graph, node).word(),
            size: blob.allocated,
            unpacked: layer.and_then(|layer| layer.unpacked()),
            images: images.count() as u64,
            step: layer.and_then(|layer| layer.created_by()).map(cut),
            last_used: blob.last_used,
        }
    }
}

fn labels(image: &Image) -> BTreeMap<String, String> {
    let labels = view::labels(image).into_iter().take(LABELS);
    labels
        .map(|(key, value)| (cut(&key), cut(&value)))
        .collect()
}

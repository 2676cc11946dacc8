//! `rstore layers`: every layer, what it is, who holds it.

use std::rc::Rc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use serde::{Serialize, Serializer};

use super::view::{self, View};
use crate::catalog::{BlobKind, Millis};
use crate::cli::args::ListArgs;
use crate::cli::context::native_platform;
use crate::cli::filter::{Fact, Facts, Filters, Key, Vocabulary};
use crate::cli::render::{Column, Format, Look, Record, list, time};
use crate::cli::{Context, Result, exit};
use crate::graph::{Classes, Image, ImageGraph, LayerState, NodeId};
use crate::oci::Digest;

/// List layers
///
/// Lists layers: those of one image from the lowest to the highest, or all that the store has.
///
/// A layer that only dangling images hold is dangling; one that no manifest holds is
/// unreferenced. The next prune takes both. The same files under two compressions are two layers
/// of one diff ID: duplicates.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Filters: dangling, unreferenced, duplicate, state, until (first seen), used (last used)

Examples:
  rstore layers --sort size:desc
  rstore layers app
  rstore layers --dangling -q --no-trunc
  rstore layers --duplicates --bytes")]
pub struct Args {
    /// Only the layers of this image
    #[arg(value_name = "REF")]
    pub reference: Option<String>,
    /// Only layers that nothing but dangling images holds, or nothing at all
    #[arg(long)]
    pub dangling: bool,
    /// Only layers that no manifest holds
    #[arg(long)]
    pub unreferenced: bool,
    /// Only layers that are there under several compressions, side by side, and what keeping the
    /// smallest of each would save
    #[arg(long)]
    pub duplicates: bool,
    #[command(flatten)]
    pub list: ListArgs,
}

const KEYS: &[Key] = &[
    Key::Dangling,
    Key::Unreferenced,
    Key::Duplicate,
    Key::State,
    Key::Until,
    Key::Used,
];

const STATES: &[&str] = &[
    "tagged",
    "member",
    "pinned",
    "referrer",
    "in use",
    "intermediate",
    "stage",
    "dangling",
    "unreferenced",
];

/// A row.
#[derive(Debug, Serialize)]
pub struct Row {
    digest: Digest,
    diff_id: Option<Digest>,
    size: u64,
    allocated: u64,
    unpacked: Option<u64>,
    /// The IDs of the images that hold it.
    images: Holders,
    #[serde(serialize_with = "state_word")]
    state: LayerState,
    created_by: Option<String>,
    #[serde(serialize_with = "time::json")]
    first_seen: Millis,
    #[serde(serialize_with = "time::json")]
    last_used: Millis,
    /// The other layers of its diff ID.
    duplicates: Vec<Digest>,
    /// Allocated bytes that go when only the smallest of these is kept; 0 for that one.
    saves: u64,
}

/// The images that hold a layer: a number, and their IDs where somebody asks for these. A base's
/// layer has a hundred thousand of them.
#[derive(Debug)]
struct Holders {
    graph: Rc<ImageGraph>,
    layer: NodeId,
    count: usize,
}

impl Holders {
    fn of(graph: &Rc<ImageGraph>, layer: NodeId) -> Holders {
        Holders {
            graph: Rc::clone(graph),
            layer,
            count: configs(graph, layer).len(),
        }
    }
}

impl Serialize for Holders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let configs = configs(&self.graph, self.layer);
        let mut ids: Vec<Digest> = configs
            .into_iter()
            .map(|config| self.graph.node(config).digest)
            .collect();
        ids.sort_unstable();
        serializer.collect_seq(ids)
    }
}

/// The configs of the images that hold a layer, each once.
fn configs(graph: &ImageGraph, layer: NodeId) -> Vec<NodeId> {
    let manifests = graph.layer(layer).map(|layer| layer.manifests());
    let images = manifests.into_iter().flatten();
    let mut configs: Vec<NodeId> = images
        .filter_map(|manifest| graph.image(manifest))
        .map(|image: Image| image.config())
        .collect();
    configs.sort_unstable();
    configs.dedup();
    configs
}

fn state_word<S: Serializer>(state: &LayerState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.word())
}

impl Facts for Row {
    fn fact(&self, key: Key) -> Fact<'_> {
        match key {
            // What is unreferenced dangles as well: the same prune takes both.
            Key::Dangling => Fact::Is(!matches!(self.state, LayerState::Held(_))),
            Key::Unreferenced => Fact::Is(self.state == LayerState::Unreferenced),
            Key::Duplicate => Fact::Is(!self.duplicates.is_empty()),
            Key::State => Fact::Word(self.state.word()),
            Key::Until => Fact::Time(self.first_seen),
            Key::Used => Fact::Time(self.last_used),
            _ => Fact::Nothing,
        }
    }
}

const UNKNOWN: &str = "<unknown>";

impl Record for Row {
    const PLURAL: &'static str = "layers";

    fn columns() -> Vec<Column<Row>> {
        vec![
            Column::<Row>::new("DIGEST", "Digest", "digest", |row, look| {
                look.digest(&row.digest)
            }),
            Column::<Row>::new("DIFF ID", "DiffID", "diff_id", |row, look| {
                row.diff_id
                    .map_or_else(|| UNKNOWN.to_owned(), |digest| look.digest(&digest))
            }),
            Column::<Row>::new("SIZE", "Size", "size", |row, look| look.size(row.size))
                .by(|one, other| one.size.cmp(&other.size)),
            Column::<Row>::new("UNPACKED", "Unpacked", "unpacked", |row, look| {
                row.unpacked
                    .map_or_else(|| UNKNOWN.to_owned(), |bytes| look.size(bytes))
            })
            .by(|one, other| one.unpacked.cmp(&other.unpacked)),
            Column::<Row>::new("IMAGES", "Images", "images", |row, _| {
                row.images.count.to_string()
            })
            .by(|one, other| one.images.count.cmp(&other.images.count)),
            Column::<Row>::new("SAVES", "Saves", "saves", |row, look| look.size(row.saves))
                .by(|one, other| one.saves.cmp(&other.saves)),
            Column::<Row>::new("STATE", "State", "state", |row, _| row.state.to_string()),
            Column::<Row>::new("LAST USED", "LastUsed", "used", |row, look| {
                look.ago(row.last_used)
            })
            .by(|one, other| other.last_used.cmp(&one.last_used)),
            Column::<Row>::new("CREATED BY", "CreatedBy", "created_by", |row, look| {
                look.text(view::step_text(row.created_by.as_deref().unwrap_or("")), 45)
            })
            .flexible(),
        ]
    }

    fn id(&self, look: &Look) -> String {
        look.digest(&self.digest)
    }
}

/// The columns; that of savings where duplicates are asked for.
fn titles(duplicates: bool) -> Vec<&'static str> {
    let mut titles = vec!["DIGEST", "DIFF ID", "SIZE", "UNPACKED", "IMAGES", "STATE"];
    if duplicates {
        titles.push("SAVES");
    }
    titles.push("CREATED BY");
    titles
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    list::check::<Row>(&arguments.list)?;
    let mut texts = arguments.list.filters.clone();
    if arguments.dangling {
        texts.push("dangling=true".to_owned());
    }
    if arguments.unreferenced {
        texts.push("unreferenced=true".to_owned());
    }
    if arguments.duplicates {
        texts.push("duplicate=true".to_owned());
    }
    let vocabulary = Vocabulary {
        keys: KEYS,
        words: STATES,
        now: context.now,
        image_time: &|_| Err(exit::usage_error("layers have no such filter")),
    };
    let filters = Filters::parse(&texts, &vocabulary)?;
    let view = View::open(context)?;
    let nodes = match &arguments.reference {
        Some(reference) => layers_of(&view, reference)?,
        None => all_layers(&view),
    };
    let View { graph, classes, .. } = view;
    let graph = Rc::new(graph);
    let duplicates = Duplicates::of(&graph);
    let mut rows: Vec<Row> = nodes
        .into_iter()
        .map(|node| row(&graph, &classes, &duplicates, node))
        .filter(|row| filters.pass(row))
        .collect();
    if arguments.duplicates {
        rows.sort_by_key(|row| (row.diff_id, row.saves, row.digest));
    }
    let look = Look::of(&arguments.list, context);
    let savings = arguments.duplicates.then(|| savings(&rows, &look));
    let titles = titles(arguments.duplicates);
    list::show(&mut context.out, rows, &titles, &arguments.list, &look)?;
    let for_people = matches!(arguments.list.format, Format::Table) && !arguments.list.quiet;
    if let Some(savings) = savings.filter(|_| for_people) {
        context.flush()?;
        context.tell(&savings);
    }
    Ok(())
}

/// What keeping the smallest of each would come to, in a sentence.
fn savings(rows: &[Row], look: &Look) -> String {
    let mut kept: Vec<Option<Digest>> = rows.iter().map(|row| row.diff_id).collect();
    kept.dedup();
    let saves: u64 = rows.iter().map(|row| row.saves).sum();
    match (rows.len(), kept.len()) {
        (0, _) => "no layer is there under two compressions".to_owned(),
        (layers, kept) => format!(
            "{layers} layers with the files of {kept}: one compression of each, the smallest, would save {}",
            look.size(saves)
        ),
    }
}

/// The layers that have a diff ID in common.
struct Duplicates {
    groups: HashMap<Digest, Vec<NodeId>, FixedState>,
}

impl Duplicates {
    fn of(graph: &ImageGraph) -> Duplicates {
        let there = |node| {
            let node = graph.node(node);
            node.present && !node.condemned
        };
        let mut all: Vec<(Digest, NodeId)> = graph
            .layers()
            .map(|layer| (layer.diff_id(), layer.node()))
            .filter(|(_, node)| there(*node))
            .collect();
        all.sort_unstable();
        let groups = all.chunk_by(|one, other| one.0 == other.0);
        let groups = groups.filter(|group| group.len() > 1);
        let groups =
            groups.map(|group| (group[0].0, group.iter().map(|(_, node)| *node).collect()));
        Duplicates {
            groups: groups.collect(),
        }
    }

    /// The other layers of a layer's diff ID, and the bytes that go when only the smallest of them
    /// all is kept.
    fn beside(&self, graph: &ImageGraph, layer: NodeId) -> (Vec<Digest>, u64) {
        let diff_id = graph.layer(layer).map(|layer| layer.diff_id());
        let group = diff_id.and_then(|diff_id| self.groups.get(&diff_id));
        let Some(group) = group else {
            return (Vec::new(), 0);
        };
        let allocated = |node: NodeId| graph.node(node).allocated;
        let smallest = group.iter().min_by_key(|node| (allocated(**node), **node));
        let others = group.iter().filter(|other| **other != layer);
        let others = others.map(|other| graph.node(*other).digest).collect();
        match smallest {
            Some(smallest) if *smallest != layer => (others, allocated(layer)),
            _ => (others, 0),
        }
    }
}

fn layers_of(view: &View, reference: &str) -> Result<Vec<NodeId>> {
    let node = view.graph.resolve_image(reference, &native_platform())?;
    let image = view.graph.image(node);
    Ok(image.iter().flat_map(|image| image.layers()).collect())
}

/// Every layer file, and every file of which nobody knows what it is and that nothing points at.
fn all_layers(view: &View) -> Vec<NodeId> {
    view.graph
        .nodes()
        .filter(|node| node.present && !node.condemned)
        .filter(|node| match node.kind {
            BlobKind::Layer => true,
            BlobKind::Unknown => view.graph.holders(node.node).len() == 0,
            _ => false,
        })
        .map(|node| node.node)
        .collect()
}

fn row(graph: &Rc<ImageGraph>, classes: &Classes, duplicates: &Duplicates, node: NodeId) -> Row {
    let blob = graph.node(node);
    let layer = graph.layer(node);
    let diff_id = layer.map(|layer| layer.diff_id());
    // An uncompressed layer is its own tar, whether or not somebody has read it.
    let plain = (diff_id == Some(blob.digest)).then_some(blob.size);
    let (duplicates, saves) = duplicates.beside(graph, node);
    Row {
        digest: blob.digest,
        diff_id,
        size: blob.size,
        allocated: blob.allocated,
        unpacked: layer.and_then(|layer| layer.unpacked()).or(plain),
        images: Holders::of(graph, node),
        state: classes.layer(graph, node),
        created_by: layer.and_then(|layer| layer.created_by().map(str::to_owned)),
        first_seen: blob.first_seen,
        last_used: blob.last_used,
        duplicates,
        saves,
    }
}

//! `rstore layers`: every layer, what it is, who holds it.

use serde::Serialize;

use super::view::{self, View};
use crate::catalog::{BlobKind, Millis};
use crate::cli::args::ListArgs;
use crate::cli::context::native_platform;
use crate::cli::filter::{Fact, Facts, Filters, Key, Vocabulary};
use crate::cli::render::{Column, Look, Record, list, time};
use crate::cli::{Context, Result, exit};
use crate::graph::{LayerState, NodeId};
use crate::oci::Digest;

/// List layers
///
/// Lists layers: those of one image from the lowest to the highest, or all that the store has.
///
/// A layer that only dangling images hold is dangling; one that no manifest holds is
/// unreferenced. The next prune takes both.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Filters: dangling, unreferenced, state, until (first seen), used (last used)

Examples:
  rstore layers app
  rstore layers --dangling
  rstore layers --sort size:desc --format '{{.Digest}} {{.Size}} {{.Images}}'")]
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
    #[command(flatten)]
    pub list: ListArgs,
}

const KEYS: &[Key] = &[
    Key::Dangling,
    Key::Unreferenced,
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
    images: Vec<Digest>,
    #[serde(serialize_with = "state_word")]
    state: LayerState,
    created_by: Option<String>,
    #[serde(serialize_with = "time::json")]
    first_seen: Millis,
    #[serde(serialize_with = "time::json")]
    last_used: Millis,
}

fn state_word<S: serde::Serializer>(state: &LayerState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.word())
}

impl Facts for Row {
    fn fact(&self, key: Key) -> Fact<'_> {
        match key {
            // What is unreferenced dangles as well: the same prune takes both.
            Key::Dangling => Fact::Is(!matches!(self.state, LayerState::Held(_))),
            Key::Unreferenced => Fact::Is(self.state == LayerState::Unreferenced),
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
                row.images.len().to_string()
            })
            .by(|one, other| one.images.len().cmp(&other.images.len())),
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

const TITLES: &[&str] = &[
    "DIGEST",
    "DIFF ID",
    "SIZE",
    "UNPACKED",
    "IMAGES",
    "STATE",
    "CREATED BY",
];

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
    let rows = nodes
        .into_iter()
        .map(|node| row(&view, node))
        .filter(|row| filters.pass(row))
        .collect();
    let look = Look::of(&arguments.list, context);
    list::show(&mut context.out, rows, TITLES, &arguments.list, &look)
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

fn row(view: &View, node: NodeId) -> Row {
    let blob = view.graph.node(node);
    let layer = view.graph.layer(node);
    let manifests = layer.map(|layer| layer.manifests()).unwrap_or_default();
    let mut images: Vec<Digest> = manifests
        .into_iter()
        .filter_map(|manifest| Some(view.graph.image(manifest)?.id()))
        .collect();
    images.sort_unstable();
    images.dedup();
    Row {
        digest: blob.digest,
        diff_id: layer.map(|layer| layer.diff_id()),
        size: blob.size,
        allocated: blob.allocated,
        unpacked: layer.and_then(|layer| layer.unpacked()),
        images,
        state: view.classes.layer(&view.graph, node),
        created_by: layer.and_then(|layer| layer.created_by().map(str::to_owned)),
        first_seen: blob.first_seen,
        last_used: blob.last_used,
    }
}

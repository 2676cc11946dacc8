//! `rstore images`: what is here.

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::view::{self, View};
use crate::catalog::Millis;
use crate::catalog::blob::{BlobId, BlobRow};
use crate::catalog::image::{NamedImage, NamedTarget};
use crate::cli::args::ListArgs;
use crate::cli::context::native_platform;
use crate::cli::filter::{Fact, Facts, Filters, Key, Vocabulary};
use crate::cli::render::{self, Column, Format, Look, Record, list, time};
use crate::cli::{Context, Result, exit};
use crate::graph::{Depth, Image, NodeId, State};
use crate::oci::reference::display_parts;
use crate::oci::{Digest, Platform};
use crate::store::Store;

/// List images
///
/// Lists tagged images; with --all also those that builds made on the way and that nothing
/// names: intermediate images, stages, dangling images.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Filters: dangling, state, label, label!, reference, before, since, until (first seen), used (last used)

Examples:
  rstore images
  rstore images -a -f state=stage
  rstore images -q -f dangling=true
  rstore images --sort size:desc --format '{{.Repository}}:{{.Tag}} {{.Size}}'")]
pub struct Args {
    /// Only images of this name; * and ? stand for anything but '/'
    #[arg(value_name = "REF")]
    pub reference: Option<String>,
    /// Also images without a name, and a column that says what they are
    #[arg(short, long)]
    pub all: bool,
    /// Draw what descends from what
    #[arg(long, conflicts_with_all = ["format", "quiet", "sort"])]
    pub tree: bool,
    /// Show manifest digests
    #[arg(long)]
    pub digests: bool,
    #[command(flatten)]
    pub list: ListArgs,
}

const KEYS: &[Key] = &[
    Key::Dangling,
    Key::State,
    Key::Label,
    Key::NotLabel,
    Key::Reference,
    Key::Before,
    Key::Since,
    Key::Until,
    Key::Used,
];

/// What images can be.
pub const STATES: &[&str] = &[
    "tagged",
    "member",
    "pinned",
    "referrer",
    "in use",
    "intermediate",
    "stage",
    "dangling",
];

/// A row: one name of one image, or an image without a name.
#[derive(Debug, Serialize)]
pub struct Row {
    repository: Option<String>,
    tag: Option<String>,
    /// The tag as it is stored.
    name: Option<String>,
    id: Digest,
    digest: Digest,
    platform: String,
    #[serde(serialize_with = "time::json_option")]
    created: Option<Millis>,
    #[serde(serialize_with = "time::json")]
    first_seen: Millis,
    #[serde(serialize_with = "time::json")]
    last_used: Millis,
    size: u64,
    state: State,
    parent: Option<Digest>,
    step: Option<String>,
    labels: Labels,
    /// Where it stands among images of the same time.
    #[serde(skip)]
    place: BlobId,
    /// Its node, where there is a graph.
    #[serde(skip)]
    node: Option<NodeId>,
    /// What takes the whole graph to know, where it is asked for.
    #[serde(skip)]
    costly: Option<Costly>,
}

/// Columns that are made only for whoever asks for them.
const COSTLY: &[(&str, &str)] = &[
    ("SharedSize", "shared_size"),
    ("UniqueSize", "unique_size"),
    ("Containers", "containers"),
];

/// What an image has with others, and what uses it.
#[derive(Debug)]
struct Costly {
    shared: u64,
    own: u64,
    containers: usize,
}

impl Costly {
    /// Whether it is asked for.
    fn is_wanted(list: &ListArgs) -> bool {
        COSTLY.iter().any(|(field, key)| {
            let sorted = list.sort.as_ref().is_some_and(|sort| sort.key == *key);
            let mentioned = match &list.format {
                Format::Template(template) => template.mentions(field),
                _ => false,
            };
            sorted || mentioned
        })
    }

    fn of(view: &View, node: NodeId) -> Costly {
        let bytes = view.graph.bytes_of(node);
        let blob = view.graph.node(node).blob;
        let containers = view.graph.containers().iter();
        Costly {
            shared: bytes.shared.size,
            own: bytes.own.size,
            containers: containers
                .filter(|container| container.image == Some(blob))
                .count(),
        }
    }
}

fn of_graph(row: &Row, look: &Look, bytes: fn(&Costly) -> u64) -> String {
    let costly = row.costly.as_ref();
    costly.map_or_else(|| "N/A".to_owned(), |costly| look.size(bytes(costly)))
}

/// Labels, read where somebody asks for them: a plain list does not, and most images have some.
#[derive(Debug, Default)]
struct Labels {
    text: String,
    read: OnceCell<BTreeMap<String, String>>,
}

impl Labels {
    /// Those of a JSON object of strings.
    fn of(text: String) -> Labels {
        Labels {
            text,
            read: OnceCell::new(),
        }
    }

    fn get(&self) -> &BTreeMap<String, String> {
        let read = || serde_json::from_str(&self.text).unwrap_or_default();
        self.read.get_or_init(read)
    }
}

impl Serialize for Labels {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl Facts for Row {
    fn fact(&self, key: Key) -> Fact<'_> {
        match key {
            Key::Dangling => Fact::Is(self.state == State::Dangling),
            Key::State => Fact::Word(self.state.word()),
            Key::Label | Key::NotLabel => Fact::Labels(self.labels.get()),
            // The repository alone, and with the tag.
            Key::Reference => {
                let names = self.repository.iter().chain(&self.name);
                Fact::Names(names.map(String::as_str).collect())
            }
            Key::Before | Key::Since | Key::Until => Fact::Time(self.first_seen),
            Key::Used => Fact::Time(self.last_used),
            _ => Fact::Nothing,
        }
    }
}

impl Record for Row {
    const PLURAL: &'static str = "images";

    fn columns() -> Vec<Column<Row>> {
        vec![
            Column::<Row>::new("REPOSITORY", "Repository", "repository", |row, _| {
                or_none(&row.repository)
            })
            .flexible(),
            Column::<Row>::new("TAG", "Tag", "tag", |row, _| or_none(&row.tag)),
            // In full, as docker has it: NAME@DIGEST is a name that works.
            Column::<Row>::new("DIGEST", "Digest", "digest", |row, _| {
                row.digest.to_string()
            }),
            Column::<Row>::new("IMAGE ID", "ID", "id", |row, look| look.digest(&row.id)),
            Column::<Row>::new("CREATED", "CreatedSince", "created", |row, look| {
                row.created
                    .map_or_else(|| "N/A".to_owned(), |time| look.ago(time))
            })
            // The newest first: the smallest age.
            .by(|one, other| other.created.cmp(&one.created)),
            Column::<Row>::new("CREATED AT", "CreatedAt", "created_at", |row, _| {
                row.created.map_or_else(|| "N/A".to_owned(), time::dockers)
            })
            .by(|one, other| one.created.cmp(&other.created)),
            Column::<Row>::new("LAST USED", "LastUsed", "used", |row, look| {
                look.ago(row.last_used)
            })
            .by(|one, other| other.last_used.cmp(&one.last_used)),
            Column::<Row>::new("SIZE", "Size", "size", |row, look| look.size(row.size))
                .by(|one, other| one.size.cmp(&other.size)),
            // docker's name of it before version 25, when it meant the same.
            Column::<Row>::new(
                "VIRTUAL SIZE",
                "VirtualSize",
                "virtual_size",
                |row, look| look.size(row.size),
            )
            .by(|one, other| one.size.cmp(&other.size)),
            Column::<Row>::new("SHARED SIZE", "SharedSize", "shared_size", |row, look| {
                of_graph(row, look, |costly| costly.shared)
            })
            .by(|one, other| {
                let bytes = |row: &Row| row.costly.as_ref().map(|costly| costly.shared);
                bytes(one).cmp(&bytes(other))
            }),
            Column::<Row>::new("UNIQUE SIZE", "UniqueSize", "unique_size", |row, look| {
                of_graph(row, look, |costly| costly.own)
            })
            .by(|one, other| {
                let bytes = |row: &Row| row.costly.as_ref().map(|costly| costly.own);
                bytes(one).cmp(&bytes(other))
            }),
            Column::<Row>::new("CONTAINERS", "Containers", "containers", |row, _| {
                let count = row
                    .costly
                    .as_ref()
                    .map(|costly| costly.containers.to_string());
                count.unwrap_or_else(|| "N/A".to_owned())
            })
            .by(|one, other| {
                let count = |row: &Row| row.costly.as_ref().map(|costly| costly.containers);
                count(one).cmp(&count(other))
            }),
            Column::<Row>::new("STATE", "State", "state", |row, _| row.state.to_string()),
            Column::<Row>::new("PLATFORM", "Platform", "platform", |row, _| {
                row.platform.clone()
            }),
            Column::<Row>::new("LABELS", "Labels", "labels", |row, _| {
                let labels = row.labels.get();
                let pairs = labels.iter().map(|(key, value)| format!("{key}={value}"));
                render::text::clean(&pairs.collect::<Vec<_>>().join(","))
            }),
            Column::<Row>::new("CREATED BY", "CreatedBy", "created_by", |row, look| {
                look.text(view::step_text(row.step.as_deref().unwrap_or("")), 45)
            })
            .flexible(),
        ]
    }

    fn id(&self, look: &Look) -> String {
        look.digest(&self.id)
    }
}

fn or_none(text: &Option<String>) -> String {
    match text {
        Some(text) => render::text::clean(text),
        None => "<none>".to_owned(),
    }
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    list::check::<Row>(&arguments.list)?;
    let meant = filters(arguments, None, context.now)?;
    let store = context.open()?;
    let look = Look::of(&arguments.list, context);
    let costly = Costly::is_wanted(&arguments.list);
    let of_graph = arguments.all || arguments.tree || costly;
    let (rows, hidden) = if of_graph || !arguments.list.filters.is_empty() {
        // Of layers it is told only to a filter, which may name one.
        let depth = match arguments.list.filters.is_empty() && !costly && !arguments.tree {
            true => Depth::Removal,
            false => Depth::All,
        };
        let view = View::of_depth(store, depth, context.now)?;
        let filters = filters(arguments, Some(&view), context.now)?;
        let (mut rows, hidden) = all(&view, arguments, &filters);
        for row in rows.iter_mut().filter(|_| costly) {
            row.costly = row.node.map(|node| Costly::of(&view, node));
        }
        if arguments.tree {
            let nodes = rows.iter().filter_map(|row| row.node).collect();
            super::graph::write_forest(&view, nodes, &look, context)?;
            return tell_hidden(arguments, hidden, context);
        }
        (rows, hidden)
    } else {
        store.scan()?;
        named(&store, arguments, &meant)?
    };
    list::show(
        &mut context.out,
        rows,
        &titles(arguments),
        &arguments.list,
        &look,
    )?;
    tell_hidden(arguments, hidden, context)
}

/// The rows that are asked for, and how many images without a name are not.
fn all(view: &View, arguments: &Args, filters: &Filters) -> (Vec<Row>, usize) {
    let by_state = filters.has(Key::Dangling) || filters.has(Key::State);
    let mut hidden = 0;
    let rows = rows(view)
        .into_iter()
        .filter(|row| filters.pass(row))
        .filter(|row| {
            let shown = arguments.all || by_state || row.name.is_some();
            hidden += usize::from(!shown);
            shown
        })
        .collect();
    (rows, hidden)
}

/// The same for a list of names that asks for nothing which only the whole graph can tell: it
/// reads what has a name, and no more.
fn named(store: &Store, arguments: &Args, filters: &Filters) -> Result<(Vec<Row>, usize)> {
    let native = native_platform();
    // What a plain table has not.
    let list = &arguments.list;
    let in_full = list.sort.is_some() || !matches!(list.format, Format::Table);
    let (rows, images) = store.catalog().read(|tx| {
        let mut rows = Vec::new();
        let mut tagged = HashSet::new();
        tx.each_named(in_full, |named| {
            let row = match named.target {
                NamedTarget::Image(image) => {
                    tagged.insert(image.row.manifest);
                    let place = image.row.manifest;
                    stored_row(image, place)
                }
                NamedTarget::Other(blob) => match standing_for(tx.members(blob.id)?, &native) {
                    Some(member) => stored_row(member, blob.id),
                    None => blob_row(&blob),
                },
            };
            rows.push(with_name(row, named.name, named.digest));
            Ok(())
        })?;
        Ok((rows, tx.image_count()?.saturating_sub(tagged.len())))
    })?;
    let mut rows: Vec<Row> = rows.into_iter().filter(|row| filters.pass(row)).collect();
    newest_first(&mut rows);
    // An image without a name is not of the name that was asked for.
    let hidden = if arguments.reference.is_some() {
        0
    } else {
        images
    };
    Ok((rows, hidden))
}

/// Which member of an index lists show: that of this machine, or the first.
fn standing_for(members: Vec<NamedImage>, platform: &Platform) -> Option<NamedImage> {
    let wanted = platform.to_string();
    let place = members
        .iter()
        .position(|image| image.row.platform == wanted)
        .unwrap_or(0);
    members.into_iter().nth(place)
}

/// The row of an image; `place` is the number of what its name points at.
fn stored_row(image: NamedImage, place: BlobId) -> Row {
    Row {
        repository: None,
        tag: None,
        name: None,
        id: image.config,
        digest: image.digest,
        platform: image.row.platform,
        created: image.row.created,
        first_seen: image.row.first_seen,
        last_used: image.row.last_used,
        size: image.row.size,
        state: State::Tagged,
        parent: image.parent,
        step: image.row.step,
        labels: Labels::of(image.row.labels),
        place,
        node: None,
        costly: None,
    }
}

/// The row of what is no image, by the catalog.
fn blob_row(blob: &BlobRow) -> Row {
    Row {
        repository: None,
        tag: None,
        name: None,
        id: blob.digest,
        digest: blob.digest,
        platform: "unknown".to_owned(),
        created: None,
        first_seen: blob.first_seen,
        last_used: blob.last_used,
        size: blob.size,
        state: State::Tagged,
        parent: None,
        step: None,
        labels: Labels::default(),
        place: blob.id,
        node: None,
        costly: None,
    }
}

fn with_name(mut row: Row, name: String, digest: Digest) -> Row {
    let (repository, tag) = display_parts(&name);
    row.digest = digest;
    row.repository = Some(repository);
    row.tag = Some(tag).filter(|tag| tag != "<none>");
    row.name = Some(name);
    row
}

fn tell_hidden(arguments: &Args, hidden: usize, context: &mut Context) -> Result {
    let for_people = matches!(arguments.list.format, Format::Table) && !arguments.list.quiet;
    if for_people && hidden > 0 {
        context.flush()?;
        let images = if hidden == 1 { "image" } else { "images" };
        exit::tell(&format!(
            "{hidden} more {images} without a name; -a shows them"
        ));
    }
    Ok(())
}

fn titles(arguments: &Args) -> Vec<&'static str> {
    let mut titles = vec!["REPOSITORY", "TAG"];
    if arguments.digests {
        titles.push("DIGEST");
    }
    titles.extend(["IMAGE ID", "CREATED", "SIZE"]);
    if arguments.all {
        titles.extend(["STATE", "CREATED BY"]);
    }
    titles
}

/// The filters; without a view only whether they can be meant.
fn filters(arguments: &Args, view: Option<&View>, now: Millis) -> Result<Filters> {
    let mut texts = arguments.list.filters.clone();
    if let Some(reference) = &arguments.reference {
        texts.push(format!("reference={reference}"));
    }
    let image_time = |name: &str| {
        let Some(view) = view else { return Ok(0) };
        let found = view.graph.resolve(name)?;
        Ok(view.graph.node(found.node).first_seen)
    };
    let vocabulary = Vocabulary {
        keys: KEYS,
        words: STATES,
        now,
        image_time: &image_time,
    };
    Filters::parse(&texts, &vocabulary)
}

/// Every name of every image, and every image without one; the newest first.
fn rows(view: &View) -> Vec<Row> {
    let native = native_platform();
    let named = view
        .graph
        .tags()
        .iter()
        .map(|(name, node)| tagged_row(view, name, *node, &native));
    let unnamed = view
        .graph
        .images()
        .filter(|image| view.classes.state(image.node()) != State::Tagged)
        .map(|image| image_row(view, &image));
    let mut rows: Vec<Row> = named.chain(unnamed).collect();
    newest_first(&mut rows);
    rows
}

fn newest_first(rows: &mut [Row]) {
    // By a key aside: rows are long, and each is moved once.
    rows.sort_by_cached_key(|row| {
        let created = row.created.unwrap_or(row.first_seen);
        Reverse((created, row.first_seen, row.place))
    });
}

fn tagged_row(view: &View, name: &str, node: NodeId, native: &Platform) -> Row {
    let mut row = match view.image_of(node, native) {
        Some(image) => image_row(view, &image),
        None => document_row(view, node),
    };
    row.state = view.classes.state(node);
    with_name(row, name.to_owned(), view.graph.node(node).digest)
}

fn image_row(view: &View, image: &Image) -> Row {
    Row {
        repository: None,
        tag: None,
        name: None,
        id: image.id(),
        digest: image.digest(),
        platform: image.platform().to_owned(),
        created: image.created(),
        first_seen: image.first_seen(),
        last_used: image.last_used(),
        size: image.size(),
        state: view.classes.state(image.node()),
        parent: image.parent().map(|parent| view.graph.node(parent).digest),
        step: image.step().map(str::to_owned),
        labels: Labels::of(image.labels().to_owned()),
        place: view.graph.node(image.node()).blob,
        node: Some(image.node()),
        costly: None,
    }
}

/// A tag that points at something that is no image, or an index none of whose images is here.
fn document_row(view: &View, node: NodeId) -> Row {
    let document = view.graph.node(node);
    Row {
        repository: None,
        tag: None,
        name: None,
        id: document.digest,
        digest: document.digest,
        platform: "unknown".to_owned(),
        created: None,
        first_seen: document.first_seen,
        last_used: document.last_used,
        size: document.size,
        state: view.classes.state(node),
        parent: None,
        step: None,
        labels: Labels::default(),
        place: document.blob,
        node: Some(node),
        costly: None,
    }
}

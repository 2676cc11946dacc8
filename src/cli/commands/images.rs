//! `rstore images`: what is here.

use std::collections::BTreeMap;

use serde::Serialize;

use super::view::{self, View};
use crate::catalog::Millis;
use crate::cli::args::ListArgs;
use crate::cli::context::native_platform;
use crate::cli::filter::{Fact, Facts, Filters, Key, Vocabulary};
use crate::cli::render::{self, Column, Format, Look, Record, list, time};
use crate::cli::{Context, Result, exit};
use crate::graph::{Image, NodeId, State};
use crate::oci::reference::display_parts;
use crate::oci::{Digest, Platform};

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

const STATES: &[&str] = &[
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
    labels: BTreeMap<String, String>,
    /// Its names as filters see them: the repository alone, and with the tag.
    #[serde(skip)]
    names: Vec<String>,
    #[serde(skip)]
    node: NodeId,
}

impl Facts for Row {
    fn fact(&self, key: Key) -> Fact<'_> {
        match key {
            Key::Dangling => Fact::Is(self.state == State::Dangling),
            Key::State => Fact::Word(self.state.word()),
            Key::Label | Key::NotLabel => Fact::Labels(&self.labels),
            Key::Reference => Fact::Names(self.names.iter().map(String::as_str).collect()),
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
            Column::<Row>::new("DIGEST", "Digest", "digest", |row, look| {
                look.digest(&row.digest)
            }),
            Column::<Row>::new("IMAGE ID", "ID", "id", |row, look| look.digest(&row.id)),
            Column::<Row>::new("CREATED", "CreatedSince", "created", |row, look| {
                row.created
                    .map_or_else(|| "N/A".to_owned(), |time| look.ago(time))
            })
            // The newest first: the smallest age.
            .by(|one, other| other.created.cmp(&one.created)),
            Column::<Row>::new("CREATED AT", "CreatedAt", "created_at", |row, _| {
                row.created.map_or_else(|| "N/A".to_owned(), time::rfc3339)
            }),
            Column::<Row>::new("LAST USED", "LastUsed", "used", |row, look| {
                look.ago(row.last_used)
            })
            .by(|one, other| other.last_used.cmp(&one.last_used)),
            Column::<Row>::new("SIZE", "Size", "size", |row, look| look.size(row.size))
                .by(|one, other| one.size.cmp(&other.size)),
            Column::<Row>::new("STATE", "State", "state", |row, _| row.state.to_string()),
            Column::<Row>::new("PLATFORM", "Platform", "platform", |row, _| {
                row.platform.clone()
            }),
            Column::<Row>::new("LABELS", "Labels", "labels", |row, _| {
                let pairs = row
                    .labels
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"));
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
    filters(arguments, None, context.now)?;
    let view = View::open(context)?;
    let filters = filters(arguments, Some(&view), context.now)?;
    let named = filters.has(Key::Dangling) || filters.has(Key::State);
    let (rows, mut hidden) = (rows(&view), Hidden::default());
    let rows: Vec<Row> = rows
        .into_iter()
        .filter(|row| filters.pass(row))
        .filter(|row| {
            let shown = arguments.all || named || row.name.is_some();
            if !shown {
                hidden.count(row.state);
            }
            shown
        })
        .collect();
    let look = Look::of(&arguments.list, context);
    if arguments.tree {
        let nodes = rows.iter().map(|row| row.node).collect();
        super::graph::write_forest(&view, nodes, &look, &mut context.out)?;
    } else {
        let titles = titles(arguments);
        list::show(&mut context.out, rows, &titles, &arguments.list, &look)?;
    }
    let for_people = matches!(arguments.list.format, Format::Table) && !arguments.list.quiet;
    if let (true, Some(words)) = (for_people, hidden.words()) {
        context.flush()?;
        exit::tell(&words);
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
    rows.sort_by(|one, other| {
        let age = |row: &Row| {
            (
                row.created.unwrap_or(row.first_seen),
                row.first_seen,
                row.node,
            )
        };
        age(other).cmp(&age(one))
    });
    rows
}

fn tagged_row(view: &View, name: &str, node: NodeId, native: &Platform) -> Row {
    let mut row = match view.image_of(node, native) {
        Some(image) => image_row(view, &image),
        None => document_row(view, node),
    };
    let (repository, tag) = display_parts(name);
    row.names = vec![repository.clone(), name.to_owned()];
    row.digest = view.graph.node(node).digest;
    row.repository = Some(repository);
    row.tag = Some(tag).filter(|tag| tag != "<none>");
    row.name = Some(name.to_owned());
    row.state = view.classes.state(node);
    row
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
        labels: view::labels(image),
        names: Vec::new(),
        node: image.node(),
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
        labels: BTreeMap::new(),
        names: Vec::new(),
        node,
    }
}

/// What a list without `-a` leaves out.
#[derive(Debug, Default)]
struct Hidden {
    states: BTreeMap<State, usize>,
}

impl Hidden {
    fn count(&mut self, state: State) {
        *self.states.entry(state).or_default() += 1;
    }

    fn words(&self) -> Option<String> {
        let total: usize = self.states.values().sum();
        if total == 0 {
            return None;
        }
        let parts = self
            .states
            .iter()
            .map(|(state, count)| format!("{count} {state}"));
        let images = if total == 1 { "image" } else { "images" };
        Some(format!(
            "{total} more {images} without a name ({}); -a shows them",
            parts.collect::<Vec<_>>().join(", ")
        ))
    }
}

//! `rstore ps`: intermediate containers, running and left over.

use serde::Serialize;

use super::view::{self, View};
use crate::catalog::Millis;
use crate::catalog::builds::ContainerRow;
use crate::cli::args::ListArgs;
use crate::cli::filter::{Fact, Facts, Filters, Key, Vocabulary};
use crate::cli::render::{Column, Look, Record, list, time};
use crate::cli::{Context, Result, exit};
use crate::fsutil;
use crate::oci::Digest;

/// List intermediate containers, running and left over
///
/// Lists intermediate containers: those in which steps run just now, those that failed steps left
/// (build --rm=false), and those of builds that were killed. The next prune removes both;
/// `rstore shell ID` opens the container of a failed step.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Filters: status (running, failed, open, dead), until

Examples:
  rstore ps
  rstore ps -q -f status=failed")]
pub struct Args {
    #[command(flatten)]
    pub list: ListArgs,
}

/// How a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// Its build lives.
    Running,
    /// Its step failed, and it was to be kept.
    Failed,
    /// The same, and somebody has a shell in it.
    Open,
    /// Its build is dead.
    Dead,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Failed => "failed",
            Status::Open => "open",
            Status::Dead => "dead",
        }
    }
}

/// A row.
#[derive(Debug, Serialize)]
pub struct Row {
    id: String,
    /// The ID of the image that it stands on.
    image: Option<Digest>,
    step: String,
    /// What is or was built, in words: the context; of a shell, what it was opened in.
    build: Option<String>,
    /// The Dockerfile of a step that failed, and the line at which it begins.
    dockerfile: Option<String>,
    line: Option<u32>,
    #[serde(serialize_with = "time::json")]
    created: Millis,
    status: Status,
    exit_status: Option<i32>,
    process: Option<u32>,
    size: u64,
}

impl Facts for Row {
    fn fact(&self, key: Key) -> Fact<'_> {
        match key {
            Key::Status => Fact::Word(self.status.word()),
            Key::Until => Fact::Time(self.created),
            _ => Fact::Nothing,
        }
    }
}

impl Record for Row {
    const PLURAL: &'static str = "containers";

    fn columns() -> Vec<Column<Row>> {
        vec![
            Column::<Row>::new("CONTAINER ID", "ID", "id", |row, _| row.id.clone()),
            Column::<Row>::new("IMAGE", "Image", "image", |row, look| {
                row.image
                    .map_or_else(|| "scratch".to_owned(), |image| look.digest(&image))
            }),
            Column::<Row>::new("STEP", "Step", "step", |row, look| {
                look.text(view::step_text(&row.step), 45)
            })
            .flexible(),
            Column::<Row>::new("BUILD", "Build", "build", |row, look| {
                let build = row.build.as_deref().unwrap_or("N/A");
                match (&row.dockerfile, row.line) {
                    (Some(file), Some(line)) => look.text(&format!("{build} {file}:{line}"), 30),
                    _ => look.text(build, 30),
                }
            })
            .flexible(),
            Column::<Row>::new("CREATED", "CreatedSince", "created", |row, look| {
                look.ago(row.created)
            })
            .by(|one, other| other.created.cmp(&one.created)),
            Column::<Row>::new("STATUS", "Status", "status", |row, _| {
                match (row.status, row.exit_status) {
                    (Status::Failed | Status::Open, Some(status)) => {
                        format!("{} ({status})", row.status.word())
                    }
                    (status, _) => status.word().to_owned(),
                }
            }),
            Column::<Row>::new("SIZE", "Size", "size", |row, look| look.size(row.size))
                .by(|one, other| one.size.cmp(&other.size)),
        ]
    }

    fn id(&self, _look: &Look) -> String {
        self.id.clone()
    }
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    list::check::<Row>(&arguments.list)?;
    let vocabulary = Vocabulary {
        keys: &[Key::Status, Key::Until],
        words: &["running", "failed", "open", "dead"],
        now: context.now,
        image_time: &|_| Err(exit::usage_error("ps has no such filter")),
    };
    let filters = Filters::parse(&arguments.list.filters, &vocabulary)?;
    let view = View::open(context)?;
    let mut rows = Vec::new();
    for container in view.graph.containers() {
        rows.push(row(&view, container)?);
    }
    rows.retain(|row| filters.pass(row));
    let look = Look::of(&arguments.list, context);
    let titles: Vec<&str> = Row::columns().iter().map(|column| column.title).collect();
    list::show(&mut context.out, rows, &titles, &arguments.list, &look)
}

fn row(view: &View, container: &ContainerRow) -> Result<Row> {
    let graph = &view.graph;
    let lease = graph
        .leases()
        .iter()
        .find(|lease| lease.id == container.lease);
    let alive = view.roots.live.contains(&container.lease);
    let lease = lease.filter(|_| alive);
    let status = match container.status {
        Some(_) if lease.is_some_and(|lease| lease.kind == "shell") => Status::Open,
        Some(_) => Status::Failed,
        None if alive => Status::Running,
        None => Status::Dead,
    };
    let directory = view.store.private("containers").join(&container.id);
    let size = if directory.exists() {
        fsutil::allocated_tree(&directory)?
    } else {
        0
    };
    let image = container
        .image
        .and_then(|blob| graph.image(graph.find_blob(blob)?));
    let left = view.store.left(&container.id)?;
    let (build, dockerfile, line) = match left {
        Some(left) => (Some(left.build), Some(left.dockerfile), Some(left.line)),
        None => (lease.map(|lease| lease.detail.clone()), None, None),
    };
    Ok(Row {
        id: container.id.clone(),
        image: image.map(|image| image.id()),
        step: container.step.clone(),
        build,
        dockerfile,
        line,
        created: container.created,
        status,
        exit_status: container.status,
        process: lease.map(|lease| lease.process),
        size,
    })
}

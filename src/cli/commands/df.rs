//! `rstore df`: what the disk is used for.
//!
//! The rows are every byte below the root, each once: their sum is what `du` says. An image's row
//! counts its documents; its layers, which it may share, are the layers' row. RECLAIMABLE is what
//! the planner of `prune` would free, asked for each kind by itself.

use std::io::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::view::View;
use crate::catalog::Millis;
use crate::catalog::cache_mount::CacheMountRow;
use crate::cli::args::ListArgs;
use crate::cli::filter::{Fact, Facts, Filters, Key, Vocabulary};
use crate::cli::render::table::{self, Heading};
use crate::cli::render::{Column, Format, Look, Record, SCHEMA, list, text, time};
use crate::cli::{Context, Result, exit};
use crate::fsutil;
use crate::gc::{self, Usage, UsageKind};
use crate::graph::{Classes, Image, ImageGraph, State};
use crate::layout::Layout;

/// Show what the disk is used for, and what a prune would give back
///
/// Shows what the disk is used for, and what a prune would give back.
///
/// The total is what `du -s --block-size=1` says of the store. RECLAIMABLE is what the prune of
/// that kind frees: `rstore prune` for dangling images, layers, containers and temporary files;
/// with --stages, --intermediates, --snapshots, --cache-mounts for those.
#[derive(Debug, clap::Args)]
#[command(after_help = "Filters: type")]
pub struct Args {
    /// Also each image with its own and its shared bytes, and each cache mount
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    pub list: ListArgs,
}

/// A row.
#[derive(Debug, Serialize)]
pub struct Row {
    #[serde(rename = "type")]
    kind: UsageKind,
    total: u64,
    active: u64,
    size: u64,
    reclaimable: u64,
}

impl Facts for Row {
    fn fact(&self, key: Key) -> Fact<'_> {
        match key {
            Key::Type => Fact::Word(word(self.kind)),
            _ => Fact::Nothing,
        }
    }
}

/// The kinds in the order in which they are shown, as they are filtered, as they are shown.
pub const KINDS: &[(UsageKind, &str, &str)] = &[
    (UsageKind::Images, "images", "Images"),
    (UsageKind::Intermediates, "intermediates", "Intermediates"),
    (UsageKind::Stages, "stages", "Stages"),
    (UsageKind::Dangling, "dangling", "Dangling images"),
    (UsageKind::Layers, "layers", "Layers"),
    (UsageKind::Others, "others", "Other blobs"),
    (UsageKind::Snapshots, "snapshots", "Snapshots"),
    (UsageKind::Cache, "cache", "Build cache"),
    (UsageKind::CacheMounts, "cache_mounts", "Cache mounts"),
    (UsageKind::Containers, "containers", "Containers"),
    (UsageKind::Temporary, "temporary", "Temporary files"),
    (UsageKind::Quarantine, "quarantine", "Quarantine"),
    (UsageKind::Overhead, "overhead", "Catalog and index"),
    (UsageKind::Unaccounted, "unaccounted", "Unaccounted"),
];

fn word(kind: UsageKind) -> &'static str {
    let found = KINDS.iter().find(|(known, ..)| *known == kind);
    found.map_or("", |(_, word, _)| word)
}

fn title(kind: UsageKind) -> &'static str {
    let found = KINDS.iter().find(|(known, ..)| *known == kind);
    found.map_or("", |(.., title)| title)
}

impl Record for Row {
    const PLURAL: &'static str = "rows";

    fn columns() -> Vec<Column<Row>> {
        vec![
            Column::<Row>::new("TYPE", "Type", "type", |row, _| title(row.kind).to_owned()),
            Column::<Row>::new("TOTAL", "TotalCount", "total", |row, _| {
                row.total.to_string()
            })
            .by(|one, other| one.total.cmp(&other.total)),
            Column::<Row>::new("ACTIVE", "Active", "active", |row, _| {
                row.active.to_string()
            })
            .by(|one, other| one.active.cmp(&other.active)),
            Column::<Row>::new("SIZE", "Size", "size", |row, look| look.size(row.size))
                .by(|one, other| one.size.cmp(&other.size)),
            Column::<Row>::new("RECLAIMABLE", "Reclaimable", "reclaimable", |row, look| {
                share(row.reclaimable, row.size, look)
            })
            .by(|one, other| one.reclaimable.cmp(&other.reclaimable)),
        ]
    }

    fn id(&self, _look: &Look) -> String {
        word(self.kind).to_owned()
    }
}

/// A size, and which part of the whole it is, where it is a part.
fn share(part: u64, whole: u64, look: &Look) -> String {
    let size = look.size(part);
    if whole == 0 || part == 0 || part > whole || look.exact {
        return size;
    }
    format!("{size} ({}%)", u128::from(part) * 100 / u128::from(whole))
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    list::check::<Row>(&arguments.list)?;
    let words: Vec<&str> = KINDS.iter().map(|(_, word, _)| *word).collect();
    let vocabulary = Vocabulary {
        keys: &[Key::Type],
        words: &words,
        now: context.now,
        image_time: &|_| Err(exit::usage_error("df has no such filter")),
    };
    let filters = Filters::parse(&arguments.list.filters, &vocabulary)?;
    let (graph, classes, layout) = closed(View::open(context)?)?;
    let grace = gc::policy::DEFAULT_GRACE;
    let usage = gc::usage(&layout, &graph, grace, context.now)?;
    let mut rows = rows(&usage);
    rows.retain(|row| filters.pass(row));
    let look = Look::of(&arguments.list, context);
    let plain = arguments.list.sort.is_none() && !arguments.list.quiet;
    match arguments.list.format {
        Format::Table if plain => write_table(&usage, rows, &look, &mut context.out)?,
        Format::Json if plain => {
            let mut document = json!({ "schema": SCHEMA, "rows": rows, "total": usage.total });
            if arguments.verbose {
                document["images"] = json_images(&graph, &classes);
                document["cache_mounts"] = serde_json::to_value(cache_mounts(&graph, &layout)?)?;
            }
            serde_json::to_writer_pretty(&mut context.out, &document)?;
            writeln!(context.out)?;
        }
        _ => {
            let titles: Vec<&str> = Row::columns().iter().map(|column| column.title).collect();
            list::show(&mut context.out, rows, &titles, &arguments.list, &look)?;
        }
    }
    if arguments.verbose && matches!(arguments.list.format, Format::Table) {
        write_images(&graph, &classes, &look, &mut context.out)?;
        write_cache_mounts(cache_mounts(&graph, &layout)?, &look, &mut context.out)?;
    }
    Ok(())
}

/// What is left of a view whose catalog is closed: an open one has files of its own (its log, its
/// shared memory) that are gone when whoever compares asks `du`.
fn closed(view: View) -> Result<(ImageGraph, Classes, Layout)> {
    let root = view.store.root().to_path_buf();
    drop(view.store);
    Ok((view.graph, view.classes, Layout::open(&root)?))
}

fn rows(usage: &Usage) -> Vec<Row> {
    let row = |(kind, ..): &(UsageKind, &str, &str)| {
        let row = usage.rows.get(kind).copied().unwrap_or_default();
        Row {
            kind: *kind,
            total: row.total,
            active: row.active,
            size: row.size,
            reclaimable: row.reclaimable,
        }
    };
    KINDS.iter().map(row).collect()
}

/// The rows, and the line that `du` is compared with.
fn write_table(usage: &Usage, rows: Vec<Row>, look: &Look, out: &mut dyn Write) -> Result {
    let columns = Row::columns();
    let headings: Vec<Heading> = columns.iter().map(|c| Heading::new(c.title)).collect();
    let mut cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            columns
                .iter()
                .map(|column| column.text(row, look))
                .collect()
        })
        .collect();
    let blank = String::new;
    cells.push(vec![
        "Total".to_owned(),
        blank(),
        blank(),
        look.size(usage.total),
        blank(),
    ]);
    table::write(out, &headings, cells, look.width)
}

fn json_images(graph: &ImageGraph, classes: &Classes) -> Value {
    let image = |image: Image| {
        json!({
            "id": image.id(),
            "digest": image.digest(),
            "names": image.names().collect::<Vec<_>>(),
            "state": classes.state(image.node()),
            "bytes": graph.bytes_of(image.node()),
        })
    };
    graph.images().map(image).collect()
}

/// Each image with the bytes that go with it, and those that others hold as well.
fn write_images(graph: &ImageGraph, classes: &Classes, look: &Look, out: &mut dyn Write) -> Result {
    let titles = ["IMAGE", "IMAGE ID", "STATE", "SIZE", "OWN", "SHARED"];
    let headings = titles.map(|title| Heading {
        flexible: title == "IMAGE",
        ..Heading::new(title)
    });
    let mut images: Vec<_> = graph.images().collect();
    images.sort_by_key(|image| (classes.state(image.node()), image.node()));
    let row = |image: &Image| {
        let bytes = graph.bytes_of(image.node());
        let names = image.names().collect::<Vec<_>>().join(", ");
        let state: State = classes.state(image.node());
        vec![
            if names.is_empty() {
                "<none>".to_owned()
            } else {
                text::clean(&names)
            },
            look.digest(&image.id()),
            state.to_string(),
            look.size(bytes.total.allocated),
            look.size(bytes.own.allocated),
            look.size(bytes.shared.allocated),
        ]
    };
    writeln!(out)?;
    table::write(out, &headings, images.iter().map(row).collect(), look.width)
}

/// A cache mount.
#[derive(Debug, Serialize)]
struct CacheMountLine {
    id: String,
    directory: String,
    size: u64,
    #[serde(serialize_with = "time::json")]
    first_seen: Millis,
    #[serde(serialize_with = "time::json")]
    last_used: Millis,
    in_use: bool,
}

fn cache_mounts(graph: &ImageGraph, layout: &Layout) -> Result<Vec<CacheMountLine>> {
    let line = |mount: &CacheMountRow| -> Result<CacheMountLine> {
        let directory = gc::cache_mounts::place(mount);
        Ok(CacheMountLine {
            id: mount.name.clone(),
            size: fsutil::allocated_tree(&layout.root().join(&directory))?,
            directory: directory.to_string_lossy().into_owned(),
            first_seen: mount.first_seen,
            last_used: mount.last_used,
            in_use: gc::cache_mounts::is_in_use(layout, mount)?,
        })
    };
    graph.cache_mounts().iter().map(line).collect()
}

/// Each cache mount, where there are any.
fn write_cache_mounts(mounts: Vec<CacheMountLine>, look: &Look, out: &mut dyn Write) -> Result {
    if mounts.is_empty() {
        return Ok(());
    }
    let titles = ["CACHE MOUNT", "SIZE", "LAST USED", "IN USE", "DIRECTORY"];
    let headings = titles.map(|title| Heading {
        flexible: title == "CACHE MOUNT",
        ..Heading::new(title)
    });
    let row = |mount: CacheMountLine| {
        vec![
            text::clean(&mount.id),
            look.size(mount.size),
            look.ago(mount.last_used),
            if mount.in_use { "yes" } else { "no" }.to_owned(),
            mount.directory,
        ]
    };
    writeln!(out)?;
    table::write(
        out,
        &headings,
        mounts.into_iter().map(row).collect(),
        look.width,
    )
}

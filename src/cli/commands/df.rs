//! `rstore df`: what the disk is used for.
//!
//! The rows are every byte below the root, each once: their sum is what `du` says. An image's row
//! counts its documents; its layers, which it may share, are the layers' row. RECLAIMABLE is what
//! the planner of `prune` would free, asked for each kind by itself.

use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Value, json};

use super::df_metrics;
use super::output_file::OutputFile;
use super::view::View;
use crate::catalog::Millis;
use crate::catalog::cache_mount::CacheMountRow;
use crate::catalog::journal::LastPrune;
use crate::cli::args::ListArgs;
use crate::cli::args::values::SortKey;
use crate::cli::filter::{Fact, Facts, Filters, Key, Vocabulary};
use crate::cli::render::table::{self, Heading};
use crate::cli::render::{
    Column, Format, Look, Record, SCHEMA, json as json_text, list, text, time,
};
use crate::cli::{Context, Result, exit};
use crate::fsutil;
use crate::gc::{self, Detail, ImageUsage, Usage, UsageKind};
use crate::graph::{Classes, ImageGraph};
use crate::layout::Layout;

/// Show what the disk is used for, and what a prune would give back
///
/// Shows what the disk is used for, and what a prune would give back.
///
/// The total is what `du -s --block-size=1` says of the store. RECLAIMABLE is what the prune of
/// that kind frees: `rstore prune` for dangling images, layers, containers and temporary files;
/// with --stages, --intermediates, --snapshots, --cache-mounts for those.
///
/// The rows of images count their documents, that of layers all layers, each byte once. With
/// --verbose OWN is what no other kind of images (of layers: no other image) holds, layers
/// included, and SHARED what others hold too.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Filters: type

Examples:
  rstore df
  rstore df -v --bytes
  rstore df --format '{{.Type}} {{.Reclaimable}}'
  rstore df --format prometheus -o /var/lib/prometheus/node-exporter/rstore.prom")]
pub struct Args {
    /// Also what each kind and each image has for itself and shares, and each cache mount
    #[arg(short, long)]
    pub verbose: bool,
    /// Write there instead of to stdout: the whole of it, or nothing (mode 0644)
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// table, json, jsonl, prometheus (text for node_exporter's textfile collector), or a template
    /// such as '{{.Type}} {{.Size}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: DfFormat,
    /// Print types only
    #[arg(short, long)]
    pub quiet: bool,
    /// Print IDs and texts in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Print sizes in bytes
    #[arg(long)]
    pub bytes: bool,
    /// Sort by a column, named in lower case: 'size', 'size:desc'
    #[arg(long, value_name = "KEY[:desc]")]
    pub sort: Option<SortKey>,
    /// Show only what matches
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
}

/// A list's format, or the one for Prometheus.
#[derive(Debug, Clone)]
pub enum DfFormat {
    /// As all lists have it.
    List(Format),
    /// Prometheus's text format.
    Prometheus,
}

impl FromStr for DfFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<DfFormat, String> {
        if text == "prometheus" {
            return Ok(DfFormat::Prometheus);
        }
        let format = text.parse().map(DfFormat::List);
        format.map_err(|error: String| error.replacen("jsonl", "jsonl, prometheus", 1))
    }
}

impl Args {
    /// What any list takes; `None`: it is to be metrics, and all of them.
    fn list(&self) -> Result<Option<ListArgs>> {
        let DfFormat::List(format) = &self.format else {
            let choosy = self.quiet || self.sort.is_some() || !self.filters.is_empty();
            if choosy || self.verbose {
                return Err(exit::usage_error(
                    "--format prometheus has all there is: it goes without --quiet, --sort, --filter and --verbose",
                ));
            }
            return Ok(None);
        };
        Ok(Some(ListArgs {
            format: format.clone(),
            quiet: self.quiet,
            no_trunc: self.no_trunc,
            bytes: self.bytes,
            sort: self.sort.clone(),
            filters: self.filters.clone(),
        }))
    }
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
    own: Option<u64>,
    shared: Option<u64>,
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
            Column::<Row>::new("OWN", "Own", "own", |row, look| part(row.own, look))
                .by(|one, other| one.own.cmp(&other.own)),
            Column::<Row>::new("SHARED", "Shared", "shared", |row, look| {
                part(row.shared, look)
            })
            .by(|one, other| one.shared.cmp(&other.shared)),
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

/// A size, where there is one.
fn part(bytes: Option<u64>, look: &Look) -> String {
    bytes.map_or_else(String::new, |bytes| look.size(bytes))
}

/// A size, and which part of the whole it is, where it is a part.
fn share(part: u64, whole: u64, look: &Look) -> String {
    let size = look.size(part);
    if whole == 0 || part == 0 || part > whole || look.exact {
        return size;
    }
    format!("{size} ({}%)", u128::from(part) * 100 / u128::from(whole))
}

/// The columns; those of shares where they are asked for.
fn titles(verbose: bool) -> Vec<&'static str> {
    let columns = Row::columns().into_iter().map(|column| column.title);
    columns
        .filter(|title| verbose || !matches!(*title, "OWN" | "SHARED"))
        .collect()
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let list_arguments = arguments.list()?;
    let mut filters = Filters::default();
    if let Some(list_arguments) = &list_arguments {
        list::check::<Row>(list_arguments)?;
        filters = self::filters(list_arguments, context.now)?;
    }
    let file = arguments.output.as_deref();
    let file = file.map(OutputFile::check).transpose()?.flatten();
    let looked = look(arguments, context)?;
    let mut text = Vec::new();
    match &list_arguments {
        None => text = df_metrics::text(&context.root, &looked.usage, looked.last_prune).into(),
        Some(list_arguments) => {
            let mut rows = rows(&looked.usage);
            rows.retain(|row| filters.pass(row));
            let look = Look::of(list_arguments, context);
            write(arguments, list_arguments, looked, rows, &look, &mut text)?;
        }
    }
    match file {
        Some(file) => file.write(&text),
        None => Ok(context.out.write_all(&text)?),
    }
}

fn filters(arguments: &ListArgs, now: Millis) -> Result<Filters> {
    let words: Vec<&str> = KINDS.iter().map(|(_, word, _)| *word).collect();
    let vocabulary = Vocabulary {
        keys: &[Key::Type],
        words: &words,
        now,
        image_time: &|_| Err(exit::usage_error("df has no such filter")),
    };
    Filters::parse(&arguments.filters, &vocabulary)
}

/// What was found.
struct Looked {
    graph: ImageGraph,
    layout: Layout,
    usage: Usage,
    last_prune: Option<LastPrune>,
}

/// What is left of a view whose catalog is closed: an open one has files of its own (its log, its
/// shared memory) that are gone when whoever compares asks `du`.
pub(super) fn closed(view: View) -> Result<(ImageGraph, Classes, Layout)> {
    let root = view.store.root().to_path_buf();
    drop(view.store);
    Ok((view.graph, view.classes, Layout::open(&root)?))
}

fn look(arguments: &Args, context: &Context) -> Result<Looked> {
    let store = context.open()?;
    store.scan()?;
    let graph = ImageGraph::load(store.catalog())?;
    let last_prune = store.catalog().read(|tx| tx.last_prune())?;
    // An open catalog has files of its own (its log, its shared memory) that are gone when whoever
    // compares asks `du`.
    let root = store.root().to_path_buf();
    drop(store);
    let layout = Layout::open(&root)?;
    let grace = gc::policy::DEFAULT_GRACE;
    let detail = Detail {
        images: arguments.verbose,
        // The table has no place for it.
        widest: !matches!(arguments.format, DfFormat::List(Format::Table)),
    };
    let usage = gc::usage(&layout, &graph, grace, context.now, detail)?;
    Ok(Looked {
        graph,
        layout,
        usage,
        last_prune,
    })
}

fn write(
    arguments: &Args,
    list_arguments: &ListArgs,
    looked: Looked,
    rows: Vec<Row>,
    look: &Look,
    out: &mut dyn Write,
) -> Result {
    let Looked {
        graph,
        layout,
        usage,
        ..
    } = looked;
    let plain = list_arguments.sort.is_none() && !list_arguments.quiet;
    let titles = titles(arguments.verbose);
    match list_arguments.format {
        Format::Table if plain => write_table(&usage, rows, &titles, look, out)?,
        Format::Json if plain => {
            let mut document = json!({
                "schema": SCHEMA, "rows": rows, "total": usage.total, "prunes": usage.prunes,
            });
            if arguments.verbose {
                let images = usage.images.iter().map(|image| json_image(&graph, image));
                document["images"] = images.collect();
                document["cache_mounts"] = serde_json::to_value(cache_mounts(&graph, &layout)?)?;
            }
            json_text::document(out, &document)?;
        }
        _ => list::show(out, rows, &titles, list_arguments, look)?,
    }
    if arguments.verbose && matches!(list_arguments.format, Format::Table) && !arguments.quiet {
        write_images(&graph, usage.images, look, out)?;
        write_cache_mounts(cache_mounts(&graph, &layout)?, look, out)?;
    }
    Ok(())
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
            own: row.own,
            shared: row.shared,
        }
    };
    KINDS.iter().map(row).collect()
}

/// The rows, and the line that `du` is compared with.
fn write_table(
    usage: &Usage,
    rows: Vec<Row>,
    titles: &[&str],
    look: &Look,
    out: &mut dyn Write,
) -> Result {
    let mut columns = Row::columns();
    columns.retain(|column| titles.contains(&column.title));
    let headings: Vec<Heading> = columns.iter().map(|c| Heading::new(c.title)).collect();
    let cells = |row: &Row| columns.iter().map(|c| c.text(row, look)).collect();
    let mut cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let total = |title: &str| match title {
        "TYPE" => "Total".to_owned(),
        "SIZE" => look.size(usage.total),
        _ => String::new(),
    };
    cells.push(columns.iter().map(|column| total(column.title)).collect());
    table::write(out, &headings, cells, look.width)
}

fn json_image(graph: &ImageGraph, usage: &ImageUsage) -> Value {
    let Some(image) = graph.image(usage.node) else {
        return Value::Null;
    };
    json!({
        "id": image.id(),
        "digest": image.digest(),
        "names": image.names().collect::<Vec<_>>(),
        "state": usage.state,
        "bytes": usage.bytes,
        "reclaimable": usage.reclaimable,
    })
}

/// Each image with the bytes that it alone holds, those that others hold as well, and those that
/// the prune of its kind gives back.
fn write_images(
    graph: &ImageGraph,
    mut images: Vec<ImageUsage>,
    look: &Look,
    out: &mut dyn Write,
) -> Result {
    let titles = [
        "IMAGE",
        "IMAGE ID",
        "STATE",
        "SIZE",
        "OWN",
        "SHARED",
        "RECLAIMABLE",
    ];
    let headings = titles.map(|title| Heading {
        flexible: title == "IMAGE",
        ..Heading::new(title)
    });
    images.sort_by_key(|image| (image.state, image.node));
    let row = |usage: &ImageUsage| {
        let image = graph.image(usage.node)?;
        let names = image.names().collect::<Vec<_>>().join(", ");
        Some(vec![
            if names.is_empty() {
                "<none>".to_owned()
            } else {
                text::clean(&names)
            },
            look.digest(&image.id()),
            usage.state.to_string(),
            look.size(usage.bytes.total.allocated),
            look.size(usage.bytes.own.allocated),
            look.size(usage.bytes.shared.allocated),
            look.size(usage.reclaimable),
        ])
    };
    writeln!(out)?;
    let rows = images.iter().filter_map(row).collect();
    table::write(out, &headings, rows, look.width)
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

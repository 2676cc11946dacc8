//! `rstore diff --wasted`: what the layers of an image hold and the image does not show.

use std::io::Write;

use serde::Serialize;
use serde_json::json;

use super::diff::Args;
use super::image_files::{image, layer_digest, raw, told};
use crate::cli::args::values::SortKey;
use crate::cli::filter::{Filters, Vocabulary};
use crate::cli::output::NEVER;
use crate::cli::render::{Column, Format, Look, Record, SCHEMA, list, names};
use crate::cli::{Context, Result, exit};
use crate::layer::files::waste::{Fate, WastedPath};
use crate::layer::files::{Files, Waste};
use crate::oci::Digest;
use crate::store::Image;

/// A row.
#[derive(Debug, Serialize)]
pub struct Row {
    /// From the root.
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    /// Bytes that no name is left of.
    wasted: u64,
    /// Every content that the path had, the lowest layer's first.
    copies: Vec<Copy>,
    /// The path's bytes.
    #[serde(skip)]
    exact: Vec<u8>,
    /// The numbers of the layers that replaced or removed it.
    #[serde(skip)]
    by: Vec<usize>,
}

/// A content that a path had.
#[derive(Debug, Serialize)]
struct Copy {
    /// The number of the layer that holds it.
    layer: usize,
    layer_digest: Option<Digest>,
    size: u64,
    /// `shown`, `replaced`, `removed`.
    fate: &'static str,
    /// The number of the layer that replaced or removed it.
    by: Option<usize>,
    by_digest: Option<Digest>,
}

impl Record for Row {
    const PLURAL: &'static str = "paths";

    fn columns() -> Vec<Column<Row>> {
        vec![
            Column::<Row>::new("WASTED", "Wasted", "wasted", |row, look| {
                look.size(row.wasted)
            })
            .by(|one, other| one.wasted.cmp(&other.wasted)),
            Column::<Row>::new("COPIES", "Copies", "copies", |row, _| {
                row.copies.len().to_string()
            })
            .by(|one, other| one.copies.len().cmp(&other.copies.len())),
            Column::<Row>::new("IN LAYERS", "Layers", "layers", |row, _| {
                numbers(row.copies.iter().map(|copy| copy.layer))
            }),
            Column::<Row>::new("GONE BY", "By", "by", |row, _| {
                numbers(row.by.iter().copied())
            }),
            Column::<Row>::new("PATH", "Path", "path", |row, _| names::shown(&row.exact))
                .by(|one, other| one.exact.cmp(&other.exact)),
        ]
    }

    fn id(&self, _: &Look) -> String {
        names::shown(&self.exact)
    }
}

const TITLES: &[&str] = &["WASTED", "COPIES", "IN LAYERS", "GONE BY"];

fn numbers(layers: impl Iterator<Item = usize>) -> String {
    layers
        .map(|layer| layer.to_string())
        .collect::<Vec<_>>()
        .join(",")
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    list::check::<Row>(&arguments.list)?;
    let vocabulary = Vocabulary {
        keys: &[],
        words: &[],
        now: context.now,
        image_time: &|_| Err(exit::usage_error("diff --wasted has no such filter")),
    };
    Filters::parse(&arguments.list.filters, &vocabulary)?;
    let store = context.open()?;
    let image = image(&store, &arguments.one, arguments.platform.as_ref())?;
    let files = Files::read(&store.layers(&image, NEVER)).map_err(told)?;
    let waste = files.waste();
    let mut rows: Vec<Row> = waste.paths.iter().map(|path| row(path, &image)).collect();
    let look = Look::of(&arguments.list, context);
    let largest = SortKey {
        key: "wasted".to_owned(),
        descending: true,
    };
    let key = arguments.list.sort.as_ref().unwrap_or(&largest);
    list::sort(&mut rows, key, &look)?;
    show(arguments, &waste, rows, &look, context)
}

fn show(
    arguments: &Args,
    waste: &Waste,
    rows: Vec<Row>,
    look: &Look,
    context: &mut Context,
) -> Result {
    let raw = raw(context);
    let name = |row: &Row| names::bytes(&row.exact, raw);
    let out = &mut context.out;
    if arguments.list.quiet {
        for row in &rows {
            out.write_all(&name(row))?;
            writeln!(out)?;
        }
        return Ok(());
    }
    match arguments.list.format {
        Format::Table => {
            writeln!(out, "Efficiency: {:.2} %", waste.efficiency * 100.0)?;
            let (wasted, total) = (look.size(waste.wasted), look.size(waste.total));
            writeln!(out, "Wasted: {wasted} of {total}")?;
            if rows.is_empty() {
                return Ok(());
            }
            writeln!(out)?;
            names::write_table(out, &rows, TITLES, ("PATH", &name), look)
        }
        Format::Json => {
            let document = json!({
                "schema": SCHEMA,
                "efficiency": waste.efficiency,
                "wasted": waste.wasted,
                "total": waste.total,
                "paths": rows,
            });
            serde_json::to_writer_pretty(&mut *out, &document)?;
            Ok(writeln!(out)?)
        }
        _ => {
            let mut list_arguments = arguments.list.clone();
            list_arguments.sort = None;
            list::show(out, rows, TITLES, &list_arguments, look)
        }
    }
}

fn row(wasted: &WastedPath, image: &Image) -> Row {
    let exact = names::absolute(&wasted.path);
    let (path, path_base64) = names::json(&exact);
    let copy = |copy: &crate::layer::files::waste::Copy| Copy {
        layer: copy.layer,
        layer_digest: layer_digest(image, copy.layer),
        size: copy.size,
        fate: match copy.fate {
            Fate::Shown => "shown",
            Fate::Replaced(_) => "replaced",
            Fate::Removed(_) => "removed",
        },
        by: copy.fate.layer(),
        by_digest: copy
            .fate
            .layer()
            .and_then(|layer| layer_digest(image, layer)),
    };
    Row {
        path,
        path_base64,
        wasted: wasted.wasted,
        copies: wasted.copies.iter().map(copy).collect(),
        exact,
        by: wasted.by(),
    }
}

//! `rstore diff --layers`: which layers two images share.

use serde::Serialize;

use super::diff::{Args, exit_code};
use super::image_files::image;
use super::view;
use crate::cli::filter::{Filters, Vocabulary};
use crate::cli::render::{Column, Look, Record, list};
use crate::cli::{Context, Result, exit};
use crate::layer::files::difference::shared_layers;
use crate::oci::Digest;
use crate::store::{Image, Store};

/// A row.
#[derive(Debug, Serialize)]
pub struct Row {
    /// `both`: in both images, with the same layers below; `one`; `other`.
    image: &'static str,
    /// The number of the layer, the lowest being 0.
    layer: usize,
    digest: Digest,
    diff_id: Digest,
    /// Bytes as stored.
    size: u64,
    /// Bytes of the tar, where it has been read.
    unpacked: Option<u64>,
    /// Whether the other image has it as well, above other layers.
    elsewhere: bool,
    created_by: Option<String>,
}

impl Record for Row {
    const PLURAL: &'static str = "layers";

    fn columns() -> Vec<Column<Row>> {
        vec![
            Column::<Row>::new("IN", "In", "in", |row, _| {
                let elsewhere = if row.elsewhere {
                    ", elsewhere in the other"
                } else {
                    ""
                };
                format!("{}{elsewhere}", row.image)
            }),
            Column::<Row>::new("LAYER", "Layer", "layer", |row, _| row.layer.to_string())
                .by(|one, other| one.layer.cmp(&other.layer)),
            Column::<Row>::new("DIGEST", "Digest", "digest", |row, look| {
                look.digest(&row.digest)
            }),
            Column::<Row>::new("DIFF ID", "DiffID", "diff_id", |row, look| {
                look.digest(&row.diff_id)
            }),
            Column::<Row>::new("SIZE", "Size", "size", |row, look| look.size(row.size))
                .by(|one, other| one.size.cmp(&other.size)),
            Column::<Row>::new("UNPACKED", "Unpacked", "unpacked", |row, look| {
                row.unpacked
                    .map_or_else(|| "<unknown>".to_owned(), |bytes| look.size(bytes))
            })
            .by(|one, other| one.unpacked.cmp(&other.unpacked)),
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

const TITLES: &[&str] = &["IN", "DIGEST", "SIZE", "UNPACKED", "CREATED BY"];

/// Runs the command.
pub fn run(arguments: &Args, other: &str, context: &mut Context) -> Result {
    list::check::<Row>(&arguments.list)?;
    let vocabulary = Vocabulary {
        keys: &[],
        words: &[],
        now: context.now,
        image_time: &|_| Err(exit::usage_error("diff --layers has no such filter")),
    };
    Filters::parse(&arguments.list.filters, &vocabulary)?;
    let store = context.open()?;
    let one = image(&store, &arguments.one, arguments.platform.as_ref())?;
    let other = image(&store, other, arguments.platform.as_ref())?;
    let (ids, other_ids) = (&one.config.rootfs.diff_ids, &other.config.rootfs.diff_ids);
    let shared = shared_layers(ids, other_ids);
    let mut rows = rows(&store, &one, "both", 0..shared, other_ids)?;
    rows.iter_mut().for_each(|row| row.elsewhere = false);
    rows.extend(self::rows(
        &store,
        &one,
        "one",
        shared..ids.len(),
        other_ids,
    )?);
    rows.extend(self::rows(
        &store,
        &other,
        "other",
        shared..other_ids.len(),
        ids,
    )?);
    let differs = rows.len() > shared;
    let look = Look::of(&arguments.list, context);
    list::show(&mut context.out, rows, TITLES, &arguments.list, &look)?;
    exit_code(arguments, differs)
}

fn rows(
    store: &Store,
    image: &Image,
    word: &'static str,
    which: std::ops::Range<usize>,
    others: &[Digest],
) -> Result<Vec<Row>> {
    let steps = image.config.history.iter().filter(|step| !step.empty_layer);
    let steps: Vec<Option<&String>> = steps.map(|step| step.created_by.as_ref()).collect();
    let mut rows = Vec::new();
    for layer in which {
        let descriptor = &image.manifest.layers[layer];
        let diff_id = image.config.rootfs.diff_ids[layer];
        rows.push(Row {
            image: word,
            layer,
            digest: descriptor.digest,
            diff_id,
            size: descriptor.size,
            unpacked: store.known_unpacked_size(&descriptor.digest)?,
            elsewhere: others.contains(&diff_id),
            created_by: steps.get(layer).copied().flatten().cloned(),
        });
    }
    Ok(rows)
}

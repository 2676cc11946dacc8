//! `rstore history`: the steps that made an image.

use std::collections::HashMap;

use serde::Serialize;

use super::view::{self, View};
use crate::cli::args::{ListArgs, values};
use crate::cli::context::native_platform;
use crate::cli::filter::{Fact, Facts, Filters, Key, Vocabulary};
use crate::cli::render::{Column, Look, Record, list, text};
use crate::cli::{Context, Result, exit};
use crate::graph::NodeId;
use crate::oci::{Digest, Platform};
use crate::store::{Image, Store};

/// Show the steps that made an image
///
/// Shows the steps that made an image, the last first, with the bytes that each added (of its
/// layer's tar, uncompressed; as JSON also those of the layer as it is stored) and the intermediate
/// image that it gave, where that is still here.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Filters: empty (steps without a layer)

Examples:
  rstore history app
  rstore history -f empty=false --no-trunc app
  rstore history --format '{{.ID}} {{.Size}} {{.CreatedBy}}' app")]
pub struct Args {
    /// The image
    #[arg(value_name = "REF")]
    pub reference: String,
    /// false: sizes in bytes and times in full, as docker's --human=false
    #[arg(short = 'H', long, value_name = "BOOL", default_value_t = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub human: bool,
    /// Which platform of an image that has several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    pub platform: Option<Platform>,
    #[command(flatten)]
    pub list: ListArgs,
}

/// A row.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The ID of the image that the step gave.
    id: Option<Digest>,
    created: Option<String>,
    created_by: Option<String>,
    /// The layer's bytes as stored.
    size: u64,
    /// The bytes of its tar; `null` where it cannot be read.
    unpacked: Option<u64>,
    layer: Option<Digest>,
    diff_id: Option<Digest>,
    empty_layer: bool,
    comment: Option<String>,
}

impl Facts for Row {
    fn fact(&self, key: Key) -> Fact<'_> {
        match key {
            Key::Empty => Fact::Is(self.empty_layer),
            _ => Fact::Nothing,
        }
    }
}

impl Row {
    fn time(&self) -> Option<i64> {
        let created = chrono::DateTime::parse_from_rfc3339(self.created.as_deref()?);
        Some(created.ok()?.timestamp_millis())
    }
}

impl Record for Row {
    const PLURAL: &'static str = "history";

    fn columns() -> Vec<Column<Row>> {
        vec![
            Column::<Row>::new("IMAGE", "ID", "id", |row, look| row.id(look)),
            Column::<Row>::new("CREATED", "CreatedSince", "created", |row, look| {
                row.time()
                    .map_or_else(|| "N/A".to_owned(), |time| look.ago(time))
            })
            .by(|one, other| other.time().cmp(&one.time())),
            Column::<Row>::new("CREATED AT", "CreatedAt", "created_at", |row, _| {
                text::clean(row.created.as_deref().unwrap_or("N/A"))
            }),
            Column::<Row>::new("CREATED BY", "CreatedBy", "created_by", |row, look| {
                let step = row.created_by.as_deref().unwrap_or("");
                look.text(
                    if look.full {
                        step
                    } else {
                        view::step_text(step)
                    },
                    45,
                )
            })
            .flexible(),
            Column::<Row>::new("SIZE", "Size", "size", |row, look| {
                row.unpacked
                    .map_or_else(|| "<unknown>".to_owned(), |bytes| look.size(bytes))
            })
            .by(|one, other| one.unpacked.cmp(&other.unpacked)),
            Column::<Row>::new("STORED", "Stored", "stored", |row, look| {
                look.size(row.size)
            })
            .by(|one, other| one.size.cmp(&other.size)),
            Column::<Row>::new("COMMENT", "Comment", "comment", |row, look| {
                look.text(row.comment.as_deref().unwrap_or(""), 45)
            })
            .flexible(),
        ]
    }

    fn id(&self, look: &Look) -> String {
        self.id
            .map_or_else(|| "<missing>".to_owned(), |id| look.digest(&id))
    }
}

const TITLES: &[&str] = &["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"];

const EXACT_TITLES: &[&str] = &["IMAGE", "CREATED AT", "CREATED BY", "SIZE", "COMMENT"];

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    list::check::<Row>(&arguments.list)?;
    let vocabulary = Vocabulary {
        keys: &[Key::Empty],
        words: &[],
        now: context.now,
        image_time: &|_| Err(exit::usage_error("history has no such filter")),
    };
    let filters = Filters::parse(&arguments.list.filters, &vocabulary)?;
    let view = View::open(context)?;
    let platform = arguments.platform.clone().unwrap_or_else(native_platform);
    let node = view.graph.resolve_image(&arguments.reference, &platform)?;
    let image = view.store.image(&view.graph.node(node).digest)?;
    let mut rows = rows(&image, &images_by_length(&view, node, &image));
    for row in &mut rows {
        measure(row, &image, &view.store, context);
    }
    rows.retain(|row| filters.pass(row));
    rows.reverse();
    let mut look = Look::of(&arguments.list, context);
    look.exact |= !arguments.human;
    let titles = if arguments.human {
        TITLES
    } else {
        EXACT_TITLES
    };
    list::show(&mut context.out, rows, titles, &arguments.list, &look)
}

/// Finds out how many bytes a step's layer has, unpacked. That it cannot be read hides no step.
fn measure(row: &mut Row, image: &Image, store: &Store, context: &Context) {
    let (Some(layer), Some(diff_id)) = (row.layer, row.diff_id) else {
        return;
    };
    let layers = &image.manifest.layers;
    let Some(descriptor) = layers.iter().find(|descriptor| descriptor.digest == layer) else {
        return;
    };
    match store.unpacked_size(descriptor, &diff_id) {
        Ok(size) => row.unpacked = Some(size),
        Err(error) => context.tell(&format!("warning: {error}; `rstore fsck` tells more")),
    }
}

/// Which image has how many steps, among one and those from which it descends.
fn images_by_length(view: &View, node: NodeId, image: &Image) -> HashMap<usize, Digest> {
    let mut found = HashMap::from([(image.config.history.len(), image.id())]);
    for ancestor in view.graph.ancestors(node) {
        // An ancestor that cannot be read is one that isn't there, as far as this list goes.
        if let Ok(ancestor) = view.store.image(&view.graph.node(ancestor).digest) {
            found
                .entry(ancestor.config.history.len())
                .or_insert_with(|| ancestor.id());
        }
    }
    found
}

/// The steps, the first first. Layers that no step claims are shown as steps of their own.
fn rows(image: &Image, ids: &HashMap<usize, Digest>) -> Vec<Row> {
    let mut layers = image
        .manifest
        .layers
        .iter()
        .zip(&image.config.rootfs.diff_ids);
    let mut rows = Vec::new();
    for (place, step) in image.config.history.iter().enumerate() {
        let layer = if step.empty_layer {
            None
        } else {
            layers.next()
        };
        rows.push(Row {
            id: ids.get(&(place + 1)).copied(),
            created: step.created.clone(),
            created_by: step.created_by.clone(),
            size: layer.map_or(0, |(layer, _)| layer.size),
            unpacked: layer.is_none().then_some(0),
            layer: layer.map(|(layer, _)| layer.digest),
            diff_id: layer.map(|(_, diff_id)| *diff_id),
            empty_layer: layer.is_none(),
            comment: step.comment.clone(),
        });
    }
    for (layer, diff_id) in layers {
        rows.push(Row {
            id: None,
            created: None,
            created_by: None,
            size: layer.size,
            unpacked: None,
            layer: Some(layer.digest),
            diff_id: Some(*diff_id),
            empty_layer: false,
            comment: None,
        });
    }
    if let Some(last) = rows.last_mut() {
        last.id = Some(image.id());
    }
    rows
}

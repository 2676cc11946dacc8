//! `rstore referrers`: what is about an image: signatures, attestations, SBOMs.
//!
//! | how | found by |
//! |---|---|
//! | `subject` | a manifest whose `subject` is the image (image-spec, manifest.md) |
//! | the referrers tag | a tag `sha256-HEX` whose index lists them (distribution-spec, "Referrers Tag Schema") |
//! | cosign's tags | `sha256-HEX.sig`, `.att`, `.sbom` |

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use super::view::View;
use crate::cli::args::ListArgs;
use crate::cli::render::{Column, Look, Record, list};
use crate::cli::{Context, Result, exit};
use crate::graph::NodeId;
use crate::oci::Digest;
use crate::oci::document::{self, Document, INDEX_LIMIT, Role};

/// List what is about an image: signatures, attestations, SBOMs
///
/// Lists the manifests whose subject is the image or, where it is one for several platforms, one of
/// its members; what is about those in turn; what an index under the tag sha256-HEX lists; and what
/// cosign keeps under the tags sha256-HEX.sig, .att and .sbom.
///
/// `pull --referrers` brings them from a registry. What has a subject stays as long as the image
/// does, and goes with it; what has a tag stays until it is untagged.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore referrers app:1.2
  rstore referrers --format '{{.Digest}} {{.Type}}' app:1.2
  rstore referrers -q app:1.2 | xargs rstore inspect --type blob")]
pub struct Args {
    /// The image, or something that is about one
    #[arg(value_name = "REF")]
    pub reference: String,
    #[command(flatten)]
    pub list: ListArgs,
}

/// A row.
#[derive(Debug, Serialize)]
pub struct Row {
    digest: Digest,
    artifact_type: Option<String>,
    /// What it is about.
    subject: Digest,
    /// How that is known.
    by: &'static str,
    size: u64,
    present: bool,
    names: Vec<String>,
}

impl Record for Row {
    const PLURAL: &'static str = "referrers";

    fn columns() -> Vec<Column<Row>> {
        vec![
            Column::<Row>::new("DIGEST", "Digest", "digest", |row, look| {
                look.digest(&row.digest)
            }),
            Column::<Row>::new("TYPE", "Type", "type", |row, look| {
                look.text(row.artifact_type.as_deref().unwrap_or("N/A"), 60)
            })
            .flexible(),
            Column::<Row>::new("ABOUT", "About", "about", |row, look| {
                look.digest(&row.subject)
            }),
            Column::<Row>::new("BY", "By", "by", |row, _| row.by.to_owned()),
            Column::<Row>::new("NAMES", "Names", "names", |row, look| {
                look.text(&row.names.join(", "), 60)
            })
            .flexible(),
            Column::<Row>::new("SIZE", "Size", "size", |row, look| look.size(row.size))
                .by(|one, other| one.size.cmp(&other.size)),
        ]
    }

    fn id(&self, look: &Look) -> String {
        look.digest(&self.digest)
    }
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    list::check::<Row>(&arguments.list)?;
    if !arguments.list.filters.is_empty() {
        return Err(exit::usage_error("referrers knows no filters"));
    }
    let view = View::open(context)?;
    let root = view.graph.resolve(&arguments.reference)?.node;
    let mut rows = Vec::new();
    let mut seen = BTreeSet::from([root]);
    let members = view.graph.images_of(root);
    let mut pending = vec![root];
    pending.extend(members.iter().map(|image| image.node()));
    while let Some(subject) = pending.pop() {
        for (node, by) in found(&view, subject) {
            if !seen.insert(node) {
                continue;
            }
            let blob = view.graph.node(node);
            rows.push(Row {
                digest: blob.digest,
                artifact_type: kind(&view, node),
                subject: view.graph.node(subject).digest,
                by,
                size: blob.size,
                present: blob.present,
                names: view.graph.names(node).map(str::to_owned).collect(),
            });
            pending.push(node);
        }
    }
    let look = Look::of(&arguments.list, context);
    let named = rows.iter().any(|row| !row.names.is_empty());
    let columns = Row::columns();
    let titles = columns.iter().map(|column| column.title);
    let titles: Vec<&str> = titles.filter(|title| *title != "NAMES" || named).collect();
    list::show(&mut context.out, rows, &titles, &arguments.list, &look)
}

/// The referrers of an image's documents, each once.
pub fn of(view: &View, documents: [NodeId; 2]) -> Vec<Value> {
    let mut all: BTreeMap<NodeId, &str> = BTreeMap::new();
    for document in documents {
        for (node, by) in found(view, document) {
            all.entry(node).or_insert(by);
        }
    }
    all.into_iter()
        .map(|(node, by)| one(view, node, by))
        .collect()
}

/// What is about one document, and how that is known.
fn found(view: &View, document: NodeId) -> BTreeMap<NodeId, &'static str> {
    let mut found: BTreeMap<NodeId, &str> = BTreeMap::new();
    for (holder, role) in view.graph.holders(document) {
        if role == Role::Subject {
            found.entry(holder).or_insert("subject");
        }
    }
    let hex = view.graph.node(document).digest.hex();
    for (name, node) in view.graph.tags() {
        let Some((_, tag)) = name.rsplit_once(':') else {
            continue;
        };
        let Some(suffix) = tag
            .strip_prefix("sha256-")
            .and_then(|t| t.strip_prefix(&*hex))
        else {
            continue;
        };
        let children = view
            .graph
            .links(*node)
            .filter(|(_, role)| *role == Role::Child);
        match suffix {
            "" => children.for_each(|(child, _)| {
                found.entry(child).or_insert("referrers tag");
            }),
            ".sig" | ".att" | ".sbom" => {
                found.entry(*node).or_insert("cosign tag");
            }
            _ => {}
        }
    }
    found
}

/// What kind of artifact it is, if it can be read.
fn kind(view: &View, node: NodeId) -> Option<String> {
    let digest = view.graph.node(node).digest;
    let bytes = view.store.layout().blobs().read(&digest, INDEX_LIMIT);
    // One that cannot be read is still told of: that it is there is what matters.
    let document = bytes
        .ok()
        .and_then(|bytes| document::parse(&bytes, "").ok());
    match document {
        Some(Document::Manifest(manifest)) => {
            let config = manifest.config.media_type;
            manifest.artifact_type.or(Some(config))
        }
        _ => None,
    }
}

fn one(view: &View, node: NodeId, by: &str) -> Value {
    let blob = view.graph.node(node);
    json!({
        "digest": blob.digest,
        "artifact_type": kind(view, node),
        "by": by,
        "size": blob.size,
        "present": blob.present,
        "names": view.graph.names(node).collect::<Vec<_>>(),
    })
}

//! `rstore inspect`: all that is known of images, in docker's words and ours.

use std::io::Write;

use serde_json::{Value, json};

use super::referrers;
use super::view::View;
use crate::catalog::BlobKind;
use crate::cli::args::values;
use crate::cli::context::native_platform;
use crate::cli::render::{Format, SCHEMA, docker, json, text, time};
use crate::cli::{Context, Result, exit};
use crate::graph::{self, NodeId};
use crate::oci::document::Role;
use crate::oci::reference::display_parts;
use crate::oci::{Platform, media};
use crate::store::Image;

/// Show all that is known of images, as JSON
///
/// Shows all that is known of images, as a JSON list in the form that docker's users know; what
/// only rstore knows stands in each one's "Rstore": parent and children, stages, state, what keeps
/// it, when it was seen and used, own and shared bytes, layers, signatures and other referrers, and
/// the members of an image for several platforms, of which this machine's is shown. Of other blobs:
/// what they are and who holds them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore inspect app
  rstore inspect --format '{{range .Config.Env}}{{println .}}{{end}}' app
  rstore inspect --format '{{json .Config}}' app
  rstore inspect --format '{{.Rstore.parent}}' app
  rstore inspect --type layer 9a3d0c…")]
pub struct Args {
    /// Names, IDs or digests
    #[arg(value_name = "REF|DIGEST", required = true)]
    pub references: Vec<String>,
    /// json, jsonl, or a template such as '{{.Config.User}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "json")]
    pub format: Format,
    /// Inspect only things of this type; a manifest is also a blob
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<Type>,
    /// Which platform of an image that has several [default: this machine's, or the first]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    pub platform: Option<Platform>,
}

/// What can be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Type {
    /// Images, also those for several platforms
    Image,
    /// Layers
    Layer,
    /// Any blob, as one
    Blob,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    if matches!(arguments.format, Format::Table) {
        return Err(exit::usage_error(
            "inspect knows no tables: json, jsonl or a template",
        ));
    }
    let view = View::open(context)?.with_grace(context.now)?;
    let mut found = Vec::new();
    for reference in &arguments.references {
        found.push(inspect(&view, reference, arguments)?);
    }
    match &arguments.format {
        Format::JsonLines => {
            for value in found {
                json::write_line(&mut context.out, &value)?;
            }
        }
        Format::Template(template) => {
            for value in found {
                let line = template.render(docker::document(value));
                let line = line.map_err(exit::usage_error)?;
                // Scripts get what is there; a terminal gets what is fit for it.
                match context.terminal.stdout {
                    true => writeln!(context.out, "{}", text::clean_lines(&line))?,
                    false => writeln!(context.out, "{line}")?,
                }
            }
        }
        Format::Json | Format::Table => {
            json::document(&mut context.out, &found)?;
        }
    }
    Ok(())
}

fn inspect(view: &View, reference: &str, arguments: &Args) -> Result<Value> {
    let found = view.graph.resolve_any(reference)?.node;
    let is_image = !view.graph.images_of(found).is_empty();
    let is_layer = view.graph.node(found).kind == BlobKind::Layer;
    match arguments.kind {
        Some(Type::Blob) => return Ok(blob(view, found)),
        Some(Type::Image) if !is_image => return Err(other_type(view, found, "image")),
        Some(Type::Layer) if !is_layer => return Err(other_type(view, found, "layer")),
        _ if !is_image => return Ok(blob(view, found)),
        _ => {}
    }
    let here = native_platform();
    let node = match (&arguments.platform, view.image_of(found, &here)) {
        (None, Some(image)) => image.node(),
        (wanted, _) => {
            let wanted = wanted.as_ref().unwrap_or(&here);
            view.graph.resolve_image(reference, wanted)?
        }
    };
    let image = view.store.image(&view.graph.node(node).digest)?;
    let mut value = docker_form(view, found, &image);
    value["Rstore"] = our_form(view, found, node);
    Ok(value)
}

fn other_type(view: &View, found: NodeId, wanted: &str) -> anyhow::Error {
    let node = view.graph.node(found);
    let kind = json!(node.kind);
    let kind = kind.as_str().unwrap_or("blob");
    anyhow::anyhow!("{} is no {wanted}: its type is {kind}", node.digest)
}

/// What `docker image inspect` shows.
fn docker_form(view: &View, document: NodeId, image: &Image) -> Value {
    let names: Vec<&str> = view.graph.names(document).collect();
    let digest = view.graph.node(document).digest;
    let mut repositories: Vec<String> = names.iter().map(|name| display_parts(name).0).collect();
    repositories.dedup();
    let digests: Vec<String> = repositories
        .iter()
        .map(|repository| format!("{repository}@{digest}"))
        .collect();
    let parent = view
        .graph
        .find(&image.digest)
        .and_then(|node| view.graph.image(node)?.parent_image())
        .map_or_else(String::new, |parent| parent.id().to_string());
    let config = &image.config;
    let layers: u64 = image.manifest.layers.iter().map(|layer| layer.size).sum();
    let target = view.graph.node(document);
    let media_type = match document == view.graph.find(&image.digest).unwrap_or(document) {
        true => image
            .manifest
            .media_type
            .as_deref()
            .unwrap_or(media::MANIFEST),
        false => media::INDEX,
    };
    let mut value = json!({
        "Id": image.id(),
        "Digest": digest,
        "RepoTags": names,
        "RepoDigests": digests,
        "Parent": parent,
        "Comment": config.history.last().and_then(|step| step.comment.clone()).unwrap_or_default(),
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Config": config.config,
        "Architecture": config.architecture,
        "Variant": config.variant.clone().unwrap_or_default(),
        "Os": config.os,
        "Size": layers + image.size + image.manifest.config.size,
        "RootFS": { "Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids },
        // When a name was put on it is not recorded: docker's word for that.
        "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" },
        "Descriptor": { "mediaType": media_type, "digest": digest, "size": target.size },
        // From here on podman's.
        "Labels": config.config.labels,
        "Annotations": image.manifest.annotations.clone().unwrap_or_default(),
        "ManifestType": image.manifest.media_type.as_deref().unwrap_or(media::MANIFEST),
        "User": config.config.user,
        "History": config.history,
    });
    if let Some(version) = config.other.get("os.version") {
        value["OsVersion"] = version.clone();
    }
    value
}

/// What only the store knows.
fn our_form(view: &View, document: NodeId, node: NodeId) -> Value {
    let graph = &view.graph;
    let digest = |node: NodeId| graph.node(node).digest;
    let image = graph.image(node);
    let layer = |layer: NodeId| {
        let blob = graph.node(layer);
        json!({
            "digest": blob.digest,
            "diff_id": graph.layer(layer).map(|layer| layer.diff_id()),
            "size": blob.size,
            "present": blob.present,
            "state": view.classes.layer(graph, layer).word(),
        })
    };
    let all = |image: graph::Image| {
        json!({
            "step": image.step(),
            "parent": image.parent().map(digest),
            "children": image.children().map(|child| child.digest()).collect::<Vec<_>>(),
            "stages": image.stages().map(digest).collect::<Vec<_>>(),
            "stage_of": image.used_by().map(|user| user.digest()).collect::<Vec<_>>(),
            "platform": image.platform(),
            "first_seen": time::rfc3339(image.first_seen()),
            "last_used": time::rfc3339(image.last_used()),
            "layers": image.layers().map(layer).collect::<Vec<_>>(),
        })
    };
    let mut value = json!({
        "schema": SCHEMA,
        "digest": digest(node),
        "index": (document != node).then(|| digest(document)),
        "state": view.classes.state(document),
        "pinned": graph.pins().contains(&document),
        "kept_by": kept_by(view, [document, node]),
        "bytes": graph.bytes_of(node),
        "referrers": referrers::of(view, [document, node]),
        "members": (document != node).then(|| members(view, document)),
    });
    if let (Value::Object(members), Some(Value::Object(more))) = (&mut value, image.map(all)) {
        members.extend(more);
    }
    value
}

/// The roots at a document itself: tags, pins, leases, containers, graces.
fn kept_by(view: &View, documents: [NodeId; 2]) -> Vec<Value> {
    let roots = view.roots.roots.iter();
    let kinds = roots.filter(|root| documents.contains(&root.node));
    let mut kinds: Vec<Value> = kinds.map(|root| json!(root.kind)).collect();
    kinds.dedup();
    kinds
}

/// The members of an index, in its own order.
fn members(view: &View, index: NodeId) -> Vec<Value> {
    let graph = &view.graph;
    let member = |(node, _): (NodeId, Role)| {
        let blob = graph.node(node);
        json!({
            "digest": blob.digest,
            "kind": blob.kind,
            "platform": graph.image(node).map(|image| image.platform()),
            "id": graph.image(node).map(|image| image.id()),
            "present": blob.present,
            "bytes": graph.bytes_of(node),
        })
    };
    let children = graph.links(index).filter(|(_, role)| *role == Role::Child);
    children.map(member).collect()
}

/// A blob that is no image, or is to be seen as one.
fn blob(view: &View, node: NodeId) -> Value {
    let graph = &view.graph;
    let blob = graph.node(node);
    let holders = graph.holders(node).map(|(holder, role)| {
        json!({
            "digest": graph.node(holder).digest,
            "role": role,
            "id": graph.image(holder).map(|image| image.id()),
            "names": graph.names(holder).collect::<Vec<_>>(),
        })
    });
    let layer = graph.layer(node);
    json!({
        "schema": SCHEMA,
        "digest": blob.digest,
        "kind": blob.kind,
        "size": blob.size,
        "allocated": blob.allocated,
        "present": blob.present,
        "damage": graph.damage(node),
        "diff_id": layer.map(|layer| layer.diff_id()),
        "unpacked": layer.and_then(|layer| layer.unpacked()),
        "created_by": layer.and_then(|layer| layer.created_by()),
        "held_by": holders.collect::<Vec<_>>(),
        "first_seen": time::rfc3339(blob.first_seen),
        "last_used": time::rfc3339(blob.last_used),
    })
}

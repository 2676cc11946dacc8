//! `rstore inspect`: all that is known of images, in docker's words and ours.

use std::io::Write;

use serde_json::{Value, json};

use super::view::View;
use crate::cli::context::native_platform;
use crate::cli::render::{Format, SCHEMA, docker, json, text, time};
use crate::cli::{Context, Result, exit};
use crate::graph::{self, NodeId};
use crate::oci::reference::display_parts;
use crate::store::Image;

/// Show all that is known of images, as JSON
///
/// Shows all that is known of images, as a JSON list in the form that docker's users know; what
/// only rstore knows stands in each one's "Rstore". Of other blobs: what they are and who holds
/// them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore inspect app
  rstore inspect --format '{{range .Config.Env}}{{println .}}{{end}}' app
  rstore inspect --format '{{json .Config}}' app
  rstore inspect --format '{{.Rstore.parent}}' app")]
pub struct Args {
    /// Names, IDs or digests
    #[arg(value_name = "REF|DIGEST", required = true)]
    pub references: Vec<String>,
    /// json, jsonl, or a template such as '{{.Config.User}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "json")]
    pub format: Format,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    if matches!(arguments.format, Format::Table) {
        return Err(exit::usage_error(
            "inspect knows no tables: json, jsonl or a template",
        ));
    }
    let view = View::open(context)?;
    let mut found = Vec::new();
    for reference in &arguments.references {
        found.push(inspect(&view, reference)?);
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

fn inspect(view: &View, reference: &str) -> Result<Value> {
    let found = view.graph.resolve_any(reference)?;
    let has_images = !view.graph.images_of(found.node).is_empty();
    if !has_images {
        return Ok(blob(view, found.node));
    }
    let node = view.graph.resolve_image(reference, &native_platform())?;
    let image = view.store.image(&view.graph.node(node).digest)?;
    let mut value = docker_form(view, found.node, &image);
    value["Rstore"] = our_form(view, found.node, node);
    Ok(value)
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
    json!({
        "Id": image.id(),
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
    })
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
        "bytes": graph.bytes_of(node),
    });
    if let (Value::Object(members), Some(Value::Object(more))) = (&mut value, image.map(all)) {
        members.extend(more);
    }
    value
}

/// A blob that is no image.
fn blob(view: &View, node: NodeId) -> Value {
    let graph = &view.graph;
    let blob = graph.node(node);
    let holders = graph
        .holders(node)
        .map(|(holder, role)| json!({ "digest": graph.node(holder).digest, "role": role }));
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

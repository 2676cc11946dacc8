//! `rstore why`: who keeps this.

use std::io::Write;

use serde_json::{Value, json};

use super::view::View;
use crate::cli::render::{Format, SCHEMA, size, text, time};
use crate::cli::{Context, Result, exit};
use crate::graph::{LinkKind, NodeId, Path, Paths, RootKind, State};

/// How many paths are shown of each thing.
const PATHS: usize = 16;

/// Tell what keeps an image, a layer or a blob
///
/// Tells what keeps an image, a layer or any other blob: each path from a tag, a pin, a running
/// build or a grace to it, the shortest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore why app
  rstore why sha256:9a3d0c…
  rstore why 77b1")]
pub struct Args {
    /// Names, IDs or digests
    #[arg(value_name = "REF|ID|DIGEST", required = true)]
    pub references: Vec<String>,
    /// table, json or jsonl
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Print digests in full
    #[arg(long)]
    pub no_trunc: bool,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let view = View::open(context)?.with_grace(context.now)?;
    let mut answers = Vec::new();
    for reference in &arguments.references {
        let node = view.graph.resolve_any(reference)?.node;
        let paths = view.graph.why(&view.roots, node, PATHS);
        match arguments.format {
            Format::Table => write_answer(&view, node, &paths, arguments.no_trunc, context)?,
            Format::Json | Format::JsonLines => answers.push(answer(&view, node, &paths)),
            Format::Template(_) => return Err(exit::usage_error("why knows no templates")),
        }
    }
    match arguments.format {
        Format::Json => {
            let document = json!({ "schema": SCHEMA, "answers": answers });
            serde_json::to_writer_pretty(&mut context.out, &document)?;
            writeln!(context.out)?;
        }
        Format::JsonLines => {
            for answer in answers {
                writeln!(context.out, "{answer}")?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn write_answer(
    view: &View,
    node: NodeId,
    paths: &Paths,
    full: bool,
    context: &mut Context,
) -> Result {
    let out = &mut context.out;
    writeln!(out, "{}", describe(view, node, full))?;
    for path in &paths.paths {
        writeln!(out, "  {}", path_words(view, path, full))?;
    }
    if paths.more > 0 {
        writeln!(out, "  and {} more", paths.more)?;
    }
    match (paths.paths.is_empty(), view.classes.state(node)) {
        (true, _) => writeln!(
            out,
            "  nothing keeps it: the next prune removes it (seen first {}, used last {})",
            time::ago(view.graph.node(node).first_seen, context.now),
            time::ago(view.graph.node(node).last_used, context.now),
        )?,
        (false, State::Stage) => writeln!(out, "  `rstore prune --stages` removes it")?,
        (false, State::Intermediate) => {
            writeln!(out, "  `rstore prune --intermediates` removes it")?;
        }
        (false, _) => {}
    }
    Ok(())
}

fn describe(view: &View, node: NodeId, full: bool) -> String {
    let blob = view.graph.node(node);
    let digest = |digest: crate::oci::Digest| {
        if full {
            digest.to_string()
        } else {
            digest.short()
        }
    };
    let Some(image) = view.graph.image(node) else {
        let kind = serde_json::to_value(blob.kind).unwrap_or_default();
        let kind = kind.as_str().unwrap_or("blob").to_owned();
        return format!(
            "{kind} {} ({})",
            digest(blob.digest),
            size::short(blob.size)
        );
    };
    let names: Vec<&str> = image.names().collect();
    let name = match (names.as_slice(), image.step()) {
        ([], Some(step)) => format!(" {}", text::shorten(&text::clean(step), 60)),
        ([], None) => String::new(),
        (names, _) => format!(" {}", text::clean(&names.join(", "))),
    };
    format!(
        "image {}{name} ({}, {})",
        digest(image.id()),
        view.classes.state(node),
        size::short(image.size())
    )
}

fn root_words(root: &RootKind) -> String {
    match root {
        RootKind::Tag { name } => format!("tag {}", text::clean(name)),
        RootKind::Pin => "pin".to_owned(),
        RootKind::Lease { id } => format!("running build or load {id}"),
        RootKind::Container { id } => format!("container {id}"),
        RootKind::Grace { until } => format!(
            "grace for what another tool wrote, until {}",
            time::rfc3339(*until)
        ),
    }
}

/// A path in one line.
pub fn path_words(view: &View, path: &Path, full: bool) -> String {
    let name = |node| short_name(view, node, full);
    let mut words = format!("{} → {}", root_words(&path.root), name(path.from));
    for hop in &path.hops {
        words.push_str(&format!(" {} {}", link_words(hop.link), name(hop.node)));
    }
    words
}

fn short_name(view: &View, node: NodeId, full: bool) -> String {
    let (kind, digest) = match view.graph.image(node) {
        Some(image) => ("image ", image.id()),
        None => ("", view.graph.node(node).digest),
    };
    let digest = if full {
        digest.to_string()
    } else {
        digest.short()
    };
    format!("{kind}{digest}")
}

fn link_words(link: LinkKind) -> &'static str {
    match link {
        LinkKind::Child => "→ member",
        LinkKind::Config => "→ config",
        LinkKind::Layer => "→ layer",
        LinkKind::Subject => "→ subject",
        LinkKind::Other => "→",
        LinkKind::Referrer => "→ signed or described by",
        LinkKind::Parent => "→ parent",
        LinkKind::Stage => "→ stage",
    }
}

fn answer(view: &View, node: NodeId, paths: &Paths) -> Value {
    let digest = |node| view.graph.node(node).digest.to_string();
    let path = |path: &Path| {
        let hops = path
            .hops
            .iter()
            .map(|hop| json!({ "link": hop.link, "digest": digest(hop.node) }));
        json!({
            "root": path.root,
            "from": digest(path.from),
            "hops": hops.collect::<Vec<_>>(),
        })
    };
    let blob = view.graph.node(node);
    let image = view.graph.image(node);
    json!({
        "schema": SCHEMA,
        "digest": digest(node),
        "kind": blob.kind,
        "size": blob.size,
        "id": image.map(|image| image.id().to_string()),
        "state": image.map(|_| view.classes.state(node)),
        "kept": !paths.paths.is_empty(),
        "paths": paths.paths.iter().map(path).collect::<Vec<_>>(),
        "more": paths.more,
        "first_seen": time::rfc3339(blob.first_seen),
        "last_used": time::rfc3339(blob.last_used),
    })
}

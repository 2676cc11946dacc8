//! `rstore rmi`: images go, with all that only they needed.

use std::io::Write;

use super::view::View;
use super::{removal, why};
use crate::cli::exit::{self, Failure};
use crate::cli::{Context, Result};
use crate::gc::plan::Removal;
use crate::gc::{self, ItemKind, Plan, Report};
use crate::graph::ResolveError;
use crate::oci::Digest;

/// Remove images: their names, and what only they needed
///
/// Removes images: their names, and all that only they needed. What a tagged image descends from
/// stays.
///
/// A name takes that name away; the image goes with its last one, unless something else needs it.
/// An ID takes all of an image's names away; where there are several, only with --force.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore rmi app
  rstore rmi --force 77b1c2d3e4f5
  rstore images -q -f dangling=true | xargs -r rstore rmi")]
pub struct Args {
    /// Names, IDs or digests
    #[arg(value_name = "REF", required = true)]
    pub references: Vec<String>,
    /// Remove an image that was named by its ID and has several names; that something is not
    /// there is no failure
    #[arg(short, long)]
    pub force: bool,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let view = View::of(context.open_to_write()?, context.now)?.with_grace(context.now)?;
    let mut targets = Vec::new();
    for reference in &arguments.references {
        match meant(&view, reference, arguments.force) {
            Ok(meant) => targets.extend(meant),
            Err(error) if arguments.force && is_unknown(&error) => {
                context.tell(&exit::message(&error));
            }
            Err(error) => return Err(error),
        }
    }
    if targets.is_empty() {
        return Ok(());
    }
    let plan = match gc::plan_removal(view.store.layout(), &view.graph, &targets, context.now) {
        Err(gc::Error::Unreadable(unreadable)) => {
            return only_untag(&view, &targets, &unreadable, context);
        }
        other => other?,
    };
    removal::tell_notes(&plan, context)?;
    let busy = plan.is_transient;
    let stays = staying(&view, &plan, &targets);
    let planned = Planned::of(&plan);
    let report = if plan.is_empty() {
        Report::default()
    } else {
        removal::execute(&view, plan)?
    };
    let removed = planned.removed(&view, &report)?;
    for line in &removed {
        writeln!(context.out, "{line}")?;
    }
    context.flush()?;
    for name in planned.left(&report) {
        context.tell(&format!(
            "note: {name:?} stays: it was given to another image meanwhile"
        ));
    }
    removal::outcome(&report)?;
    match (stays.is_empty(), removed.is_empty()) {
        (true, _) => Ok(()),
        (false, true) if busy => Err(Failure::Busy(stays.join("; ")).into()),
        (false, true) => anyhow::bail!("{}", stays.join("; ")),
        (false, false) => Err(Failure::Partly(stays.join("; ")).into()),
    }
}

fn is_unknown(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<ResolveError>();
    matches!(error, Some(ResolveError::Unknown { .. }))
}

/// Another image cannot be read: the names go, and what they pointed at has to stay for now.
fn only_untag(
    view: &View,
    targets: &[Removal],
    unreadable: &gc::Unreadable,
    context: &mut Context,
) -> Result {
    let plan = gc::plan_untag(&view.graph, targets, context.now);
    if plan.is_empty() {
        return Err(gc::Error::from(unreadable.clone()).into());
    }
    let planned = Planned::of(&plan);
    let report = removal::execute(view, plan)?;
    for line in planned.removed(view, &report)? {
        writeln!(context.out, "{line}")?;
    }
    context.flush()?;
    removal::outcome(&report)?;
    Err(Failure::Partly(format!("the names went, and no bytes: {unreadable}")).into())
}

/// What was named and neither goes nor loses a name, and what keeps it.
fn staying(view: &View, plan: &Plan, targets: &[Removal]) -> Vec<String> {
    let mut stays = Vec::new();
    for target in targets {
        let digest = view.graph.node(target.node).digest;
        let goes = plan.items.iter().any(|item| item.digest == Some(digest))
            || plan.untag.iter().any(|untag| untag.digest == digest);
        if goes {
            continue;
        }
        let paths = view.graph.why(&view.roots, target.node, 1);
        let why = match paths.paths.first() {
            Some(path) => why::path_words(view, path, false),
            None => plan.notes.join("; "),
        };
        stays.push(format!("{} is needed: {why}", digest.short()));
    }
    stays
}

/// What a reference means. By an image's ID all manifests that have it and a name: they are one image
/// in lists.
fn meant(view: &View, reference: &str, force: bool) -> Result<Vec<Removal>> {
    let found = view.graph.resolve(reference)?;
    let mut nodes = vec![found.node];
    if found.name.is_none()
        && let Some(image) = view.graph.image(found.node)
        && begins(&image.id(), reference)
        && !begins(&view.graph.node(found.node).digest, reference)
    {
        let same = view.graph.images().filter(|other| {
            other.id() == image.id() && other.node() != found.node && other.names().next().is_some()
        });
        nodes.extend(same.map(|other| other.node()));
    }
    let names: Vec<&str> = nodes
        .iter()
        .flat_map(|node| view.graph.names(*node))
        .collect();
    if found.name.is_none() && names.len() > 1 && !force {
        anyhow::bail!(
            "{reference:?} has {} names ({}): remove those, or all of them with --force",
            names.len(),
            names.join(", ")
        );
    }
    let removal = |node| Removal {
        node,
        name: found.name.clone(),
    };
    Ok(nodes.into_iter().map(removal).collect())
}

/// Whether this digest, or the beginning of it, is what was asked for.
fn begins(digest: &Digest, reference: &str) -> bool {
    let hex = reference.strip_prefix("sha256:").unwrap_or(reference);
    digest.hex().starts_with(hex)
}

/// What was to go, kept until it is known what of it has gone: others may have begun to need it
/// between the look at the store and the removal, or have given its name to something else.
struct Planned {
    names: Vec<String>,
    /// What is told of an item, and the blob by which it is known whether it has gone.
    items: Vec<(String, Option<Digest>)>,
}

impl Planned {
    fn of(plan: &Plan) -> Planned {
        let told = plan.items.iter().filter(|item| {
            matches!(
                item.kind,
                ItemKind::Image | ItemKind::Index | ItemKind::Layer
            )
        });
        Planned {
            names: plan.untag.iter().map(|untag| untag.name.clone()).collect(),
            items: told
                .map(|item| (removal::item_name(item), item.digest))
                .collect(),
        }
    }

    /// docker's words for what has gone.
    fn removed(&self, view: &View, report: &Report) -> Result<Vec<String>> {
        let untagged = report.untagged.iter();
        let mut lines: Vec<String> = untagged.map(|name| format!("Untagged: {name}")).collect();
        for (name, digest) in &self.items {
            let row = match digest {
                Some(digest) => view.store.catalog().read(|tx| tx.blob(digest))?,
                None => None,
            };
            if row.is_none_or(|row| !row.present || row.condemned.is_some()) {
                lines.push(format!("Deleted: {name}"));
            }
        }
        Ok(lines)
    }

    /// Names that did not go.
    fn left<'a>(&'a self, report: &'a Report) -> impl Iterator<Item = &'a String> {
        self.names
            .iter()
            .filter(|name| !report.untagged.contains(name))
    }
}

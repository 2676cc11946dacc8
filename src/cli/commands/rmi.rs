//! `rstore rmi`: images go, with all that only they needed.

use std::io::Write;

use super::view::View;
use super::{removal, why};
use crate::cli::exit::Failure;
use crate::cli::{Context, Result};
use crate::gc::plan::Removal;
use crate::gc::{self, ItemKind, Plan, Report};

/// Remove images: their names, and what only they needed
///
/// Removes images: their names, and all that only they needed. What a tagged image descends from
/// stays.
///
/// A name takes that name away; the image goes with its last one. An ID takes all of an image's
/// names away; where there are several, only with --force.
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
    /// Remove an image that was named by its ID and has several names
    #[arg(short, long)]
    pub force: bool,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let view = View::of(context.open_to_write()?, context.now)?.with_grace(context.now)?;
    let mut targets = Vec::new();
    for reference in &arguments.references {
        targets.push(target(&view, reference, arguments.force)?);
    }
    let plan = match gc::plan_removal(view.store.layout(), &view.graph, &targets, context.now) {
        Err(gc::Error::Unreadable(unreadable)) => {
            return only_untag(&view, &targets, &unreadable, context);
        }
        other => other?,
    };
    let stays = staying(&view, &plan, &targets);
    let removed = removed_lines(&plan);
    let report = if plan.is_empty() {
        Report::default()
    } else {
        removal::execute(&view, plan, context.now)?
    };
    for line in &removed {
        writeln!(context.out, "{line}")?;
    }
    context.flush()?;
    removal::outcome(&report)?;
    match (stays.is_empty(), removed.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => anyhow::bail!("{}", stays.join("; ")),
        (false, false) => Err(Failure::Partly(stays.join("; ")).into()),
    }
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
    let lines = removed_lines(&plan);
    let report = removal::execute(view, plan, context.now)?;
    for line in &lines {
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

fn target(view: &View, reference: &str, force: bool) -> Result<Removal> {
    let found = view.graph.resolve(reference)?;
    let names: Vec<&str> = view.graph.names(found.node).collect();
    if found.name.is_none() && names.len() > 1 && !force {
        anyhow::bail!(
            "{reference:?} has {} names ({}): remove those, or all of them with --force",
            names.len(),
            names.join(", ")
        );
    }
    Ok(Removal {
        node: found.node,
        name: found.name,
    })
}

/// docker's words for what goes.
fn removed_lines(plan: &Plan) -> Vec<String> {
    let untagged = plan
        .untag
        .iter()
        .map(|untag| format!("Untagged: {}", untag.name));
    let deleted = plan
        .items
        .iter()
        .filter(|item| {
            matches!(
                item.kind,
                ItemKind::Image | ItemKind::Index | ItemKind::Layer
            )
        })
        .map(|item| format!("Deleted: {}", removal::item_name(item)));
    untagged.chain(deleted).collect()
}

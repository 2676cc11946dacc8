//! `rstore rmi`: images go, with all that only they needed.

use std::io::Write;

use super::removal;
use super::view::View;
use crate::cli::{Context, Result};
use crate::gc::plan::Removal;
use crate::gc::{self, ItemKind, Plan};

/// Removes images: their names, and all that only they needed. What a tagged image descends from
/// stays.
///
/// A name takes that name away; the image goes with its last one. An ID takes all of an image's
/// names away; where there are several, only with --force.
#[derive(Debug, clap::Args)]
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
    let view = View::of(context.open_to_write()?, context.now)?;
    let mut targets = Vec::new();
    for reference in &arguments.references {
        targets.push(target(&view, reference, arguments.force)?);
    }
    let plan = gc::plan_removal(view.store.layout(), &view.graph, &targets, context.now)?;
    if plan.is_empty() && !plan.notes.is_empty() {
        anyhow::bail!("{}", plan.notes.join("; "));
    }
    let removed = removed_lines(&plan);
    let notes = plan.notes.clone();
    let report = removal::execute(&view, plan, context.now)?;
    for line in removed {
        writeln!(context.out, "{line}")?;
    }
    context.flush()?;
    for note in notes {
        context.tell(&format!("note: {note}"));
    }
    removal::outcome(&report)
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
        .map(|item| format!("Deleted: {}", item.id));
    untagged.chain(deleted).collect()
}

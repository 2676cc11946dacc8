//! What `rmi` and `prune` share: a plan shown, carried out, reported.

use std::borrow::Cow;
use std::io::Write;

use super::view::View;
use crate::cli::exit::Failure;
use crate::cli::render::table::{self, Heading};
use crate::cli::render::{Look, text};
use crate::cli::{Context, Result};
use crate::executor::{Cancel, signals};
use crate::gc::{self, Item, ItemKind, Plan, Progress, Report};
use crate::graph::ImageGraph;
use crate::store::Store;

/// Carries out a plan; a signal stops it between two batches.
pub fn execute(view: &View, plan: Plan) -> Result<Report> {
    execute_shown(&view.store, &view.graph, plan, &mut |_| {})
}

/// Like [`execute`], telling after each batch how far it has come.
pub fn execute_shown(
    store: &Store,
    graph: &ImageGraph,
    plan: Plan,
    on_progress: &mut dyn FnMut(&Progress),
) -> Result<Report> {
    let cancel = Cancel::new()?;
    signals::on_interrupt(cancel.clone());
    execute_while(store, graph, plan, &mut |progress| {
        on_progress(progress);
        signals::received().is_none() && !cancel.is_cancelled()
    })
}

/// Like [`execute_shown`], and gives the plan back, to be told as it was.
pub fn execute_whole(
    store: &Store,
    graph: &ImageGraph,
    plan: Plan,
    on_progress: &mut dyn FnMut(&Progress),
) -> Result<(Report, Plan)> {
    let cancel = Cancel::new()?;
    signals::on_interrupt(cancel.clone());
    let (layout, catalog) = (store.layout(), store.catalog());
    let clock = || store.now();
    let mut go_on = |progress: &Progress| {
        on_progress(progress);
        signals::received().is_none() && !cancel.is_cancelled()
    };
    Ok(gc::execute_whole(
        layout, catalog, graph, plan, &clock, &mut go_on,
    )?)
}

/// Carries out a plan; `on_progress` is told of each batch, and stops it by returning `false`.
pub fn execute_while(
    store: &Store,
    graph: &ImageGraph,
    plan: Plan,
    on_progress: &mut dyn FnMut(&Progress) -> bool,
) -> Result<Report> {
    let layout = store.layout();
    Ok(gc::execute(
        layout,
        store.catalog(),
        graph,
        plan,
        &|| store.now(),
        on_progress,
    )?)
}

/// The error, if any, that a report ends in.
pub fn outcome(report: &Report) -> Result {
    if report.stopped {
        let signal = signals::received().unwrap_or(libc::SIGINT);
        return Err(Failure::Interrupted(signal).into());
    }
    match failed(report) {
        Some(message) => Err(Failure::Partly(message).into()),
        None => Ok(()),
    }
}

/// What could not be removed, and why, where there is such.
pub fn failed(report: &Report) -> Option<String> {
    let [first, rest @ ..] = report.failures.as_slice() else {
        return None;
    };
    let more = match rest.len() {
        0 => String::new(),
        count => format!(", and {count} more"),
    };
    Some(format!(
        "{} could not be removed: {}{more}; the next prune tries again",
        first.id, first.why
    ))
}

/// Shows what a plan removes: each thing with its size and the reason.
pub fn write_plan(plan: &Plan, look: &Look, out: &mut dyn Write) -> Result {
    for untag in &plan.untag {
        writeln!(out, "tag {} goes", text::clean(&untag.name))?;
    }
    if plan.items.is_empty() {
        return Ok(());
    }
    let headings =
        ["TYPE", "ID", "SIZE", "REASON", "LAST USED", "CREATED BY"].map(|title| Heading {
            flexible: title == "CREATED BY",
            ..Heading::new(title)
        });
    let rows = || plan.items.iter().map(|item| row(item, look));
    table::write_each(out, &headings, rows, look.width)
}

fn row<'a>(item: &Item, look: &Look) -> [Cow<'a, str>; 6] {
    let what = match (item.step(), item.names()) {
        (_, [_, ..]) => look.text(&item.names().join(", "), 60),
        (Some(step), []) => look.text(super::view::step_text(step), 45),
        (None, []) => String::new(),
    };
    let used = item.last_used().map(|time| look.ago(time));
    [
        kind_word(item.kind).into(),
        shown_id(item, look).into(),
        look.size(item.freed).into(),
        item.reason.words().into(),
        used.unwrap_or_default().into(),
        what.into(),
    ]
}

/// What an item is called: what it is called by itself, or its blob's digest.
pub fn item_name(item: &Item) -> String {
    match (item.id(), item.digest) {
        ("", Some(digest)) => digest.to_string(),
        (id, _) => text::clean(id),
    }
}

fn shown_id(item: &Item, look: &Look) -> String {
    if let ("", Some(digest)) = (item.id(), &item.digest) {
        return look.digest(digest);
    }
    let name = item_name(item);
    match name.parse::<crate::oci::Digest>() {
        Ok(digest) => look.digest(&digest),
        Err(_) => name,
    }
}

/// The word for a kind.
pub fn kind_word(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Image => "image",
        ItemKind::Index => "index",
        ItemKind::Artifact => "artifact",
        ItemKind::Config => "config",
        ItemKind::Layer => "layer",
        ItemKind::Blob => "blob",
        ItemKind::Snapshot => "snapshot",
        ItemKind::Container => "container",
        ItemKind::CacheMount => "cache mount",
        ItemKind::CacheRecord => "cache record",
        ItemKind::Temporary => "temporary",
    }
}

/// Tells what a plan leaves alone although it was asked for.
pub fn tell_notes(plan: &Plan, context: &mut Context) -> Result {
    // In the order in which people read it: first what was printed so far.
    context.flush()?;
    for note in &plan.notes {
        context.tell(&format!("note: {note}"));
    }
    Ok(())
}

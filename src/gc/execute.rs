//! Carrying out a plan, from the lock to the report.

use crate::catalog::journal::{JournalEntry, JournalItem, LastPrune, Particulars};
use crate::catalog::{Catalog, Millis, WriteError};
use crate::fsutil;
use crate::graph::ImageGraph;
use crate::layout::Layout;
use crate::lock::FileLock;

use super::condemn::{Condemning, UNFINISHED};
use super::plan::{Item, ItemKind, Plan, Reason};
use super::report::{Progress, Report};
use super::reserve;
use super::sweep::Sweep;
use super::{Error, Result};

/// How long the catalog's log may get while a prune works, 32 MiB, where there is plenty of room:
/// it ends with the log moved into the catalog and cut.
const LOG_PAGES: i64 = 8_192;
const ROOM_FOR_LOG: u64 = 1 << 30;

/// The lock that one prune holds.
pub fn lock(layout: &Layout) -> Result<FileLock> {
    let path = layout.private().join("prune.lock");
    let taken = match FileLock::try_exclusive(&path) {
        // Not an inode left to make it of: the reserve has one.
        Err(error) if error.is_no_space() && reserve::release(&layout.private())? => {
            FileLock::try_exclusive(&path)
        }
        other => other,
    };
    match taken? {
        Some(lock) => Ok(lock),
        None => Err(Error::Busy { path }),
    }
}

/// See [`super::execute`].
pub(super) fn execute(
    layout: &Layout,
    catalog: &Catalog,
    graph: &ImageGraph,
    mut plan: Plan,
    now: Millis,
    on_progress: &mut dyn FnMut(&Progress) -> bool,
) -> Result<Report> {
    let _lock = lock(layout)?;
    let private = layout.private();
    let before = Measure::take(layout)?;
    reserve::release_if_tight(&private)?;
    if reserve::available(&private)? > ROOM_FOR_LOG {
        catalog.let_log_grow(LOG_PAGES)?;
    }
    let mut report = Report::default();
    let artifacts = plan.items.iter().filter(|i| i.kind == ItemKind::Artifact);
    let artifacts = artifacts.filter_map(|item| item.digest).collect();
    let mut progress = Progress {
        of_items: plan.items.len() as u64,
        of_freed: plan.totals.freed,
        ..Progress::default()
    };
    if !plan.is_empty() {
        let operation = operation(&plan);
        let doomed = super::condemn::doomed(graph, &plan);
        plan.forget_leaves();
        let found = std::mem::take(&mut plan.found);
        let mut condemning = Condemning::new(layout, graph, &plan, doomed, now);
        let whole = condemning.run(catalog, &mut report, &mut || on_progress(&progress))?;
        report.rescued += condemning.rescued;
        report.stopped = !whole;
        let items = plan.items.iter().filter(|item| condemning.takes(item));
        let taken: Vec<JournalItem> = items.filter_map(journal_item).collect();
        let records = plan
            .items
            .iter()
            .filter(|i| i.kind == ItemKind::CacheRecord);
        records.for_each(|item| report.removed.count(item.kind, item.freed));
        progress.items = report.removed.items;
        let mut sweep = Sweep {
            layout,
            catalog,
            report,
            progress,
            on_progress,
            artifacts,
            found: Some((graph, found)),
            now,
        };
        catalog.give_back_memory()?;
        if sweep.go_on() {
            sweep.blobs()?;
            sweep.snapshots()?;
            sweep.trees(graph, &plan, now)?;
        }
        report = sweep.report;
        let more = particulars(&plan, operation, &report, taken);
        let by = plan.policy.name.as_deref();
        close(catalog, (operation, by), &report, more, now)?;
    } else {
        super::condemn::reap_dead(layout, catalog)?;
    }
    if !plan.by_name && !report.stopped {
        remember(catalog, report.removed.freed, now)?;
    }
    catalog.checkpoint()?;
    reserve::ensure(&private)?;
    let after = Measure::take(layout)?;
    report.measured = after.free - before.free;
    report.overhead = after.overhead - before.overhead;
    Ok(report)
}

/// See [`super::remember`].
pub(super) fn remember(catalog: &Catalog, freed: u64, now: Millis) -> Result<()> {
    let last = LastPrune { time: now, freed };
    catalog.write_aside(|tx| Ok::<_, WriteError<Error>>(tx.set_last_prune(last)?))
}

/// See [`super::finish`].
pub(super) fn finish(layout: &Layout, catalog: &Catalog, now: Millis) -> Result<Report> {
    if catalog.read(|tx| tx.meta(UNFINISHED))?.as_deref() != Some("1") {
        return Ok(Report::default());
    }
    let _lock = match lock(layout) {
        Err(error) if error.is_busy() => return Ok(Report::default()),
        other => other?,
    };
    let mut sweep = Sweep {
        layout,
        catalog,
        report: Report::default(),
        progress: Progress::default(),
        on_progress: &mut |_| true,
        artifacts: Default::default(),
        found: None,
        now,
    };
    sweep.blobs()?;
    sweep.snapshots()?;
    sweep.tombstones()?;
    let report = sweep.report;
    close(
        catalog,
        ("prune", None),
        &report,
        Particulars::default(),
        now,
    )?;
    Ok(report)
}

/// What the journal calls the carrying out of a plan.
fn operation(plan: &Plan) -> &'static str {
    let named = plan.items.iter().any(|item| item.reason == Reason::Named);
    match named || plan.items.is_empty() {
        true => "remove",
        false => "prune",
    }
}

/// What the journal keeps of a plan that was carried out.
fn particulars(
    plan: &Plan,
    operation: &str,
    report: &Report,
    mut items: Vec<JournalItem>,
) -> Particulars {
    let gone = plan
        .untag
        .iter()
        .filter(|untag| report.untagged.contains(&untag.name));
    items.extend(gone.map(|untag| {
        JournalItem {
            kind: "tag".to_owned(),
            label: untag.name.clone(),
            digest: Some(untag.digest),
            names: Vec::new(),
            bytes: 0,
            reason: match operation {
                "remove" => Reason::Named,
                _ => Reason::Expired,
            }
            .words()
            .to_owned(),
            step: None,
        }
    }));
    let mut facts = serde_json::Map::new();
    if operation == "prune"
        && let Ok(policy) = serde_json::to_value(&plan.policy)
    {
        facts.insert("policy".to_owned(), policy);
    }
    Particulars {
        facts,
        items,
        ..Particulars::default()
    }
}

/// An image, index or artifact that goes; what goes with it is only counted.
fn journal_item(item: &Item) -> Option<JournalItem> {
    let kind = match item.kind {
        ItemKind::Image => "image",
        ItemKind::Index => "index",
        ItemKind::Artifact => "artifact",
        _ => return None,
    };
    Some(JournalItem {
        kind: kind.to_owned(),
        label: item.label(),
        digest: item.digest,
        names: item.names().to_vec(),
        bytes: item.freed,
        reason: item.reason.words().to_owned(),
        step: item.step().map(str::to_owned),
    })
}

/// Notes what was done, and by which policy. Unless it was stopped, nothing is left for [`finish`]
/// to do.
fn close(
    catalog: &Catalog,
    (operation, by): (&str, Option<&str>),
    report: &Report,
    more: Particulars,
    now: Millis,
) -> Result<()> {
    catalog.write(|tx| {
        if !report.stopped {
            tx.set_meta(UNFINISHED, "0")?;
        }
        if report.removed.items > 0 || !report.untagged.is_empty() {
            let subject = match report.untagged.as_slice() {
                [] => format!("{} items", report.removed.items),
                names => names.join(" "),
            };
            let entry = JournalEntry {
                time: now,
                operation: operation.to_owned(),
                subject,
                bytes: report.removed.freed,
                detail: match by {
                    Some(policy) => format!("{policy}: {}", report.words()),
                    None => report.words(),
                },
            };
            tx.note_with(&entry, more)?;
        }
        Ok::<_, WriteError<Error>>(())
    })
}

/// What the file system says at one moment.
struct Measure {
    free: i64,
    overhead: i64,
}

impl Measure {
    fn take(layout: &Layout) -> Result<Measure> {
        let private = layout.private();
        let mut overhead = 0;
        let names = ["catalog.db", "catalog.db-wal", "catalog.db-shm", "reserve"];
        let files = names.iter().map(|name| private.join(name));
        for path in files.chain([layout.index_path(), private.join("prune.lock")]) {
            overhead += std::fs::symlink_metadata(path).map_or(0, |m| fsutil::allocated(&m));
        }
        let free = reserve::free(&private)?;
        Ok(Measure {
            free: i64::try_from(free).unwrap_or(i64::MAX),
            overhead: i64::try_from(overhead).unwrap_or(i64::MAX),
        })
    }
}

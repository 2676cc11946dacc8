//! Carrying out a plan, from the lock to the report.

use crate::catalog::journal::JournalEntry;
use crate::catalog::{Catalog, Millis, WriteError};
use crate::fsutil;
use crate::graph::ImageGraph;
use crate::layout::Layout;
use crate::lock::FileLock;

use super::condemn::{Condemning, UNFINISHED};
use super::plan::{ItemKind, Plan};
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
    plan: &Plan,
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
        let mut condemning = Condemning::new(layout, graph, plan, now);
        let whole = condemning.run(catalog, &mut report, &mut || on_progress(&progress))?;
        report.rescued += condemning.rescued;
        report.stopped = !whole;
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
            facts: Some((graph, &plan.facts)),
            now,
        };
        if sweep.go_on() {
            sweep.blobs()?;
            sweep.snapshots()?;
            sweep.trees(graph, plan, now)?;
        }
        report = sweep.report;
        close(catalog, &report, now)?;
    } else {
        super::condemn::reap_dead(layout, catalog)?;
    }
    catalog.checkpoint()?;
    reserve::ensure(&private)?;
    let after = Measure::take(layout)?;
    report.measured = after.free - before.free;
    report.overhead = after.overhead - before.overhead;
    Ok(report)
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
        facts: None,
        now,
    };
    sweep.blobs()?;
    sweep.snapshots()?;
    sweep.tombstones()?;
    let report = sweep.report;
    close(catalog, &report, now)?;
    Ok(report)
}

/// Notes what was done. Unless it was stopped, nothing is left for [`finish`] to do.
fn close(catalog: &Catalog, report: &Report, now: Millis) -> Result<()> {
    catalog.write(|tx| {
        if !report.stopped {
            tx.set_meta(UNFINISHED, "0")?;
        }
        if report.removed.items > 0 {
            tx.note(&JournalEntry {
                time: now,
                operation: "prune".to_owned(),
                subject: format!("{} items", report.removed.items),
                bytes: report.removed.freed,
                detail: report.words(),
            })?;
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

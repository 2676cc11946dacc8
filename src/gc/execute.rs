//! Carrying out a plan, from the lock to the report.

use crate::catalog::journal::{JournalEntry, LastPrune, Particulars};
use crate::catalog::{Catalog, Millis, WriteError};
use crate::fsutil;
use crate::graph::ImageGraph;
use crate::layout::Layout;
use crate::lock::FileLock;

use super::condemn::{Condemning, UNFINISHED};
use super::deed::{self, Ending};
use super::plan::{ItemKind, Plan};
use super::report::{Progress, Report};
use super::reserve;
use super::sweep::Sweep;
use super::{Error, Result, disk};

/// How long the catalog's log may get while a prune works, where there is plenty of room: an eighth
/// of the room, and no more than 512 MiB. It ends with the log moved into the catalog and cut. To
/// move it waits for the disk, and for all that was unlinked until then to be on it; and what many
/// transactions have touched is moved each time.
const LOG_PAGES: u64 = 131_072;
const ROOM_FOR_LOG: u64 = 1 << 30;

/// How much of the catalog is kept in memory meanwhile, in KiB: what lies around the rows that one
/// transaction forgets.
const CACHE: i64 = 24_576;

/// With less room than that the journal is written for the most part when bytes have come back.
const ROOM_FOR_JOURNAL: u64 = 64 << 20;

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

/// See [`super::execute`]. Returns the plan too; unless it is to stay `whole`, without most of its
/// items, which take memory meanwhile.
pub(super) fn execute(
    layout: &Layout,
    catalog: &Catalog,
    graph: &ImageGraph,
    (mut plan, whole): (Plan, bool),
    clock: &dyn Fn() -> Millis,
    on_progress: &mut dyn FnMut(&Progress) -> bool,
) -> Result<(Report, Plan)> {
    let _lock = lock(layout)?;
    let private = layout.private();
    let before = Measure::take(layout)?;
    let gave_up = reserve::release_if_tight(&private)?;
    let room = reserve::available(&private)?;
    catalog.set_cache(CACHE)?;
    if room > ROOM_FOR_LOG {
        catalog.let_log_grow((room / 8 / 4_096).min(LOG_PAGES))?;
    }
    let mut report = Report::default();
    let mut now = clock();
    if !plan.is_empty() {
        let doomed = super::condemn::doomed(graph, &plan);
        if !whole {
            plan.forget_leaves();
        }
        let found = std::mem::take(&mut plan.found);
        let mut condemning = Condemning::new(layout, graph, &plan, doomed, clock);
        if room < ROOM_FOR_JOURNAL {
            condemning.deed.be_brief();
        }
        now = condemning.deed.began();
        let worked = work(&mut condemning, catalog, found, &mut report, on_progress);
        let ending = match &worked {
            Err(error) => Ending::Failed(error),
            Ok(()) if report.stopped => Ending::Stopped,
            Ok(()) => Ending::Whole,
        };
        let stays = |node| !condemning.still(node);
        let closed = condemning.deed.close(catalog, &report, stays, ending);
        // What went wrong first is what somebody has to know.
        worked?;
        closed?;
    } else {
        super::condemn::reap_dead(layout, catalog)?;
    }
    if !plan.by_name && !report.stopped {
        remember(catalog, report.removed.freed, now)?;
    }
    catalog.checkpoint()?;
    match gave_up {
        true => reserve::restore(&private)?,
        false => reserve::ensure(&private)?,
    };
    let after = Measure::take(layout)?;
    report.measured = after.free - before.free;
    report.overhead = after.overhead - before.overhead;
    Ok((report, plan))
}

/// Condemns and sweeps. `found` is what the disk has said of what goes.
fn work(
    condemning: &mut Condemning,
    catalog: &Catalog,
    found: disk::Doomed,
    report: &mut Report,
    on_progress: &mut dyn FnMut(&Progress) -> bool,
) -> Result<()> {
    let (layout, graph, plan) = (condemning.layout, condemning.graph, condemning.plan);
    let now = condemning.deed.began();
    let mut progress = Progress {
        of_items: plan.totals.items,
        of_freed: plan.totals.freed,
        ..Progress::default()
    };
    let whole = condemning.run(catalog, report, &mut || on_progress(&progress))?;
    report.rescued += condemning.rescued;
    report.stopped = !whole;
    let of_kind = |kind| plan.items.iter().filter(move |item| item.kind == kind);
    of_kind(ItemKind::CacheRecord).for_each(|item| report.removed.count(item.kind, item.freed));
    progress.items = report.removed.items;
    let artifacts = of_kind(ItemKind::Artifact).filter_map(|item| item.digest);
    let took = || condemning.deed.took();
    catalog.set_cache(CACHE)?;
    let mut sweep = Sweep {
        layout,
        catalog,
        report: std::mem::take(report),
        progress,
        on_progress,
        artifacts: artifacts.collect(),
        found: Some((graph, found)),
        now,
        entry: condemning.deed.id(),
        took: &took,
        noted: 0,
    };
    let swept = match sweep.go_on() {
        true => sweep.planned(graph, plan),
        false => Ok(()),
    };
    *report = sweep.report;
    swept
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
        entry: catalog.read(deed::last_open)?,
        took: &|| None,
        noted: 0,
    };
    sweep.blobs()?;
    sweep.snapshots()?;
    sweep.tombstones()?;
    let Sweep { report, noted, .. } = sweep;
    catalog.write(|tx| {
        tx.set_meta(UNFINISHED, "0")?;
        let told = deed::end(tx, &report, noted)?;
        if !told && report.removed.items > 0 {
            tx.note_with(&left_behind(&report, now), Particulars::default())?;
        }
        Ok::<_, WriteError<Error>>(())
    })?;
    Ok(report)
}

/// What went of the work of somebody of whom the journal knows nothing any more.
fn left_behind(report: &Report, now: Millis) -> JournalEntry {
    JournalEntry {
        time: now,
        operation: "prune".to_owned(),
        subject: format!("{} items", report.removed.items),
        bytes: report.removed.freed,
        detail: report.words(),
    }
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

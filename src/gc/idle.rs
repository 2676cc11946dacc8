//! Whether anything can have changed since a prune of the same policy left nothing to do: then the
//! next one ends at once, without a lock or a graph.
//!
//! What a prune leaves behind, in the catalog:
//!
//! | noted | so that it is noticed that |
//! |---|---|
//! | the catalog's count of changes | anything was built, tagged, pinned, used, leased |
//! | index.json's stat | another tool tagged or untagged |
//! | the stat of the directories of leases, snapshots, … | somebody was killed |
//! | the stat of the directory of blobs, the sum of the names in it | another tool wrote |
//! | the earliest moment at which something is old enough | an age or a grace has run out |
//! | how much is to be free | others have filled the disk |
//!
//! It is only noted when no lease was there, when all that was to go went, and when nobody else has
//! changed anything: the files are the same before the catalog took them in and after the prune,
//! and the catalog has been changed by this process alone since the graph was read of it; and not
//! while a directory is so young that it may change without its time changing (as in git's "racy"
//! index entries).
//!
//! The directory of blobs is changed by the prune itself. It is held against the sum of the names
//! that the graph had and that did not go: as long as its stat proves nothing, the next prune reads
//! the names, and nothing else.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Millis, WriteError};
use crate::fsutil::IoContext;
use crate::graph::ImageGraph;
use crate::layout::{Layout, NameSum};

use super::plan::{ItemKind, Plan};
use super::policy::Policy;
use super::{Error, Result, debris, disk};

/// In `meta`.
const NOTED: &str = "idle-prunes";

/// How many policies are remembered.
const POLICIES: usize = 8;

/// How old a directory must be for its time to prove anything.
const RACY: Millis = 2_000;

/// What changes when anything does that a prune looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    changes: i64,
    stats: Vec<String>,
    /// Of the directory of blobs; empty where it proves nothing.
    blobs: String,
    /// The youngest of the files' times, but for the directory of blobs.
    #[serde(skip)]
    youngest: Millis,
    /// The directory of blobs' own.
    #[serde(skip)]
    blobs_changed: Millis,
    /// How many changes this process had made of those that are counted.
    #[serde(skip)]
    own: i64,
}

impl Fingerprint {
    /// Takes it. `None`: something is there that is certain to change.
    pub fn take(layout: &Layout, catalog: &Catalog) -> Result<Option<Fingerprint>> {
        let private = layout.private();
        let leases = private.join("leases");
        if fs::read_dir(&leases).at("read", &leases)?.next().is_some()
            || debris::has_siblings(layout)?
        {
            return Ok(None);
        }
        let mut stats = Vec::new();
        let mut youngest = Millis::MIN;
        let below = [
            "ingest",
            "snapshots",
            "containers",
            "cache-mounts",
            "leases",
        ];
        let directories = below.iter().map(|name| private.join(name));
        for path in directories.chain([layout.index_path()]) {
            let (text, changed) = stat(&path)?;
            stats.push(text);
            youngest = youngest.max(changed);
        }
        let (blobs, blobs_changed) = stat(layout.blobs().directory())?;
        Ok(Some(Fingerprint {
            changes: catalog.read(|tx| tx.changes())?,
            stats,
            blobs,
            youngest,
            blobs_changed,
            own: catalog.own_changes(),
        }))
    }

    /// To be called with the graph of which the plan is made, before anything else is written: the
    /// catalog has taken in what other tools changed, which is a change by itself.
    pub fn taken_in(&mut self, catalog: &Catalog, graph: &ImageGraph) {
        self.changes = graph.changes();
        self.own = catalog.own_changes();
    }

    /// Whether nobody else has changed anything since it was taken, besides blobs.
    fn holds(&self, now: &Fingerprint) -> bool {
        now.stats == self.stats && now.changes - self.changes == now.own - self.own
    }
}

/// The sum of the names in `blobs/` once all has gone that `plan` lists, where `graph` has what was
/// there before, and `strays` what of it are no digests. `None`: it is not known.
pub fn names_after(
    graph: &ImageGraph,
    plan: &Plan,
    strays: Option<&[OsString]>,
) -> Option<NameSum> {
    if strays.is_none_or(|strays| !strays.is_empty()) {
        return None;
    }
    let mut names = NameSum::default();
    for node in graph.nodes().filter(|node| node.present) {
        names.add(&node.digest.file_name());
    }
    for item in &plan.items {
        use ItemKind::{Artifact, Blob, Config, Image, Index, Layer};
        let blob = matches!(item.kind, Artifact | Blob | Config | Image | Index | Layer);
        if let (true, Some(digest)) = (blob, &item.digest) {
            names.remove(&digest.file_name());
        }
    }
    Some(names)
}

fn stat(path: &Path) -> Result<(String, Millis)> {
    let metadata = fs::symlink_metadata(path).at("stat", path)?;
    let nanoseconds = |seconds: i64, rest: i64| seconds * 1_000_000_000 + rest;
    let text = format!(
        "{} {} {} {}",
        metadata.ino(),
        metadata.size(),
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    );
    let youngest = metadata.mtime().max(metadata.ctime());
    Ok((text, youngest.saturating_mul(1000)))
}

/// A policy for which there is nothing to do.
#[derive(Debug, Serialize, Deserialize)]
struct Idle {
    policy: String,
    fingerprint: Fingerprint,
    /// The names in `blobs/`.
    names: Option<NameSum>,
    due: Option<Millis>,
    /// How large the file system was, of which a part is to be free.
    file_system: u64,
}

/// A policy without what changes from one moment to the next: the age instead of the moment.
/// `None`: what comes of it may change without a trace. Of a store that is to be small somebody may
/// have put files into it that nobody knows.
fn key(policy: &Policy, now: Millis) -> Option<String> {
    if policy.space.max_used.is_some() || policy.space.reserved.is_some() {
        return None;
    }
    let by_time = |filter: &String| filter.starts_with("until=") || filter.starts_with("used=");
    if policy.filters.iter().any(by_time) {
        return None;
    }
    let age = policy.until.map(|until| now.saturating_sub(until));
    let timeless = Policy {
        until: None,
        ..policy.clone()
    };
    // Another version may have other rules.
    serde_json::to_string(&(env!("CARGO_PKG_VERSION"), timeless, age)).ok()
}

fn noted(catalog: &Catalog) -> Result<Vec<Idle>> {
    let text = catalog.read(|tx| tx.meta(NOTED))?;
    // One of another version is none.
    Ok(text
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default())
}

/// Whether a prune under `policy` is certain to have nothing to do.
pub fn is_idle(layout: &Layout, catalog: &Catalog, policy: &Policy, now: Millis) -> Result<bool> {
    let Some(key) = key(policy, now) else {
        return Ok(false);
    };
    let noted = noted(catalog)?;
    let Some(idle) = noted.iter().find(|idle| idle.policy == key) else {
        return Ok(false);
    };
    if idle.due.is_some_and(|due| due <= now) {
        return Ok(false);
    }
    if let Some(least) = policy.space.min_free {
        let current = disk::FileSystem::of(layout.root())?;
        let is_met = current.available >= least.bytes(current.size);
        if current.size != idle.file_system || !is_met {
            return Ok(false);
        }
    }
    let Some(current) = Fingerprint::take(layout, catalog)? else {
        return Ok(false);
    };
    let known = &idle.fingerprint;
    if current.changes != known.changes || current.stats != known.stats {
        return Ok(false);
    }
    if current.blobs == known.blobs {
        return Ok(true);
    }
    let Some(names) = idle.names else {
        return Ok(false);
    };
    let read = layout.blobs().sum_of_names();
    if read.map_err(crate::layout::Error::from)? != names {
        return Ok(false);
    }
    // The next one need not read them.
    if current.blobs_changed.saturating_add(RACY) <= now {
        let mut noted = noted;
        for idle in noted.iter_mut().filter(|idle| idle.names == Some(names)) {
            idle.fingerprint.blobs.clone_from(&current.blobs);
        }
        match keep(catalog, &noted, current.changes) {
            // It spares the next prune some work, and is no reason for this one to fail.
            Err(error) if error.is_no_space() => {}
            other => other?,
        }
    }
    Ok(true)
}

/// Notes that a prune has left nothing to do, if nobody has changed anything since `before`: `plan`
/// is what it was to do, and what it did; `names` is the sum of the names that are left in `blobs/`.
pub fn note(
    layout: &Layout,
    catalog: &Catalog,
    graph: &ImageGraph,
    plan: &Plan,
    names: Option<NameSum>,
    before: Option<Fingerprint>,
    now: Millis,
) -> Result<()> {
    let unmet = plan.target.as_ref().is_some_and(|target| !target.is_met());
    let (Some(before), Some(policy)) = (before, key(&plan.policy, now)) else {
        return Ok(());
    };
    if plan.is_transient || unmet {
        return Ok(());
    }
    let removed = plan.totals.items > 0;
    // A filter may speak of what has gone; what is to be free depends on others.
    let plain = plan.policy.filters.is_empty() && plan.target.is_none();
    if removed && (names.is_none() || !plain) {
        return Ok(());
    }
    let Some(mut fingerprint) = Fingerprint::take(layout, catalog)? else {
        return Ok(());
    };
    let racy = fingerprint.youngest.saturating_add(RACY) > now;
    if racy || !before.holds(&fingerprint) {
        return Ok(());
    }
    let young = fingerprint.blobs_changed.saturating_add(RACY) > now;
    if young || fingerprint.blobs != before.blobs {
        if names.is_none() {
            return Ok(());
        }
        fingerprint.blobs = String::new();
    }
    let changes = fingerprint.changes;
    let mut noted = noted(catalog)?;
    // What was removed may have left something to do for the others.
    noted.retain(|idle| idle.policy != policy && !removed);
    noted.truncate(POLICIES - 1);
    noted.insert(
        0,
        Idle {
            policy,
            fingerprint,
            names,
            due: due(graph, plan, now),
            file_system: disk::FileSystem::of(layout.root())?.size,
        },
    );
    keep(catalog, &noted, changes)
}

/// Keeps the notes, unless the catalog has changed since.
fn keep(catalog: &Catalog, noted: &[Idle], since: i64) -> Result<()> {
    let Ok(text) = serde_json::to_string(noted) else {
        return Ok(());
    };
    catalog.write_aside(|tx| {
        if tx.changes()? == since {
            tx.set_meta(NOTED, &text)?;
        }
        Ok::<_, WriteError<Error>>(())
    })
}

/// When the first thing that stays for its age alone is old enough.
fn due(graph: &ImageGraph, plan: &Plan, now: Millis) -> Option<Millis> {
    let mut due = plan.due;
    let Some(until) = plan.policy.until else {
        return due;
    };
    let age = now.saturating_sub(until);
    let mut used = |moment: Millis| {
        if moment >= until {
            // Times in a graph are rounded up to the second.
            let moment = moment.saturating_add(age).saturating_sub(1_000);
            due = Some(due.map_or(moment, |due: Millis| due.min(moment)));
        }
    };
    graph.images().for_each(|image| used(image.last_used()));
    graph.nodes().for_each(|node| used(node.last_used));
    graph.snapshots().iter().for_each(|row| used(row.last_used));
    graph.containers().iter().for_each(|row| used(row.created));
    let mounts = graph.cache_mounts().iter();
    mounts.for_each(|row| used(row.last_used));
    graph
        .cache()
        .iter()
        .for_each(|(row, _)| used(row.last_used));
    due
}

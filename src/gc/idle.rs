//! Whether anything can have changed since a prune of the same policy found nothing to do: then the
//! next one ends at once, without a lock, a scan or a graph.
//!
//! What a prune with nothing to do leaves behind, in the catalog:
//!
//! | noted | so that it is noticed that |
//! |---|---|
//! | the catalog's count of changes | anything was built, tagged, pinned, used, leased |
//! | index.json's stat | another tool tagged or untagged |
//! | the stat of the directories of blobs, leases, snapshots, … | another tool wrote; somebody was killed |
//! | the earliest moment at which something is old enough | an age or a grace has run out |
//! | how much is to be free | others have filled the disk |
//!
//! It is only noted when nothing was removed, no lease was there, the files were the same before
//! the catalog took them in and after the prune, and the catalog before the graph was read of it
//! and after; and not while a directory is so young that it may change
//! without its time changing (as in git's "racy" index entries).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Millis, Reader, WriteError};
use crate::fsutil::IoContext;
use crate::graph::ImageGraph;
use crate::layout::Layout;

use super::plan::Plan;
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
    /// The youngest of the files' times.
    #[serde(skip)]
    youngest: Millis,
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
        let blobs = layout.blobs().directory().to_path_buf();
        for path in directories.chain([blobs, layout.index_path()]) {
            let (text, changed) = stat(&path)?;
            stats.push(text);
            youngest = youngest.max(changed);
        }
        let changes = catalog.read(changes)?;
        Ok(Some(Fingerprint {
            changes,
            stats,
            youngest,
        }))
    }

    /// To be called once the catalog has taken in what other tools changed, which is a change by
    /// itself, and before a graph is read of it.
    pub fn taken_in(&mut self, catalog: &Catalog) -> Result<()> {
        self.changes = catalog.read(changes)?;
        Ok(())
    }
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

fn changes(tx: &Reader) -> crate::catalog::SqlResult<i64> {
    let changes = tx.meta(crate::catalog::schema::CHANGES)?;
    Ok(changes.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// A policy that found nothing to do.
#[derive(Debug, Serialize, Deserialize)]
struct Idle {
    policy: String,
    fingerprint: Fingerprint,
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
    let current = Fingerprint::take(layout, catalog)?;
    Ok(current.is_some_and(|current| {
        current.changes == idle.fingerprint.changes && current.stats == idle.fingerprint.stats
    }))
}

/// Notes that `plan` was empty and nothing came of it, if nothing has changed since `before`.
pub fn note(
    layout: &Layout,
    catalog: &Catalog,
    graph: &ImageGraph,
    plan: &Plan,
    before: Option<Fingerprint>,
    now: Millis,
) -> Result<()> {
    let unmet = plan.target.as_ref().is_some_and(|target| !target.is_met());
    let (Some(mut fingerprint), Some(policy)) = (before, key(&plan.policy, now)) else {
        return Ok(());
    };
    if plan.is_transient || unmet {
        return Ok(());
    }
    let racy = fingerprint.youngest.saturating_add(RACY) > now;
    if racy || Fingerprint::take(layout, catalog)?.as_ref() != Some(&fingerprint) {
        return Ok(());
    }
    let mut noted = noted(catalog)?;
    noted.retain(|idle| idle.policy != policy);
    noted.truncate(POLICIES - 1);
    let before = fingerprint.changes;
    // The note is a change, too.
    fingerprint.changes += 1;
    // The others hold as they held.
    for idle in &mut noted {
        if idle.fingerprint.changes == before {
            idle.fingerprint.changes += 1;
        }
    }
    noted.insert(
        0,
        Idle {
            policy,
            fingerprint,
            due: due(graph, plan, now),
            file_system: disk::FileSystem::of(layout.root())?.size,
        },
    );
    let Ok(text) = serde_json::to_string(&noted) else {
        return Ok(());
    };
    catalog.write(|tx| {
        if changes(tx)? == before {
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

//! Which leases are alive, and the roots that follow.
//!
//! A lease is a row in the catalog and a file below `rstore/leases` that its owner keeps locked.
//!
//! | file | row | it is |
//! |---|---|---|
//! | locked | there | alive |
//! | free, or missing | there | dead: its owner locked the file before it wrote the row; or in its last moment |
//! | locked, younger than the catalog | missing | in its first moment, when it pins nothing |
//! | locked, older than the catalog | missing | a writer whose pins are in a catalog that was lost |
//! | free | missing | left by a crash; under its hidden name perhaps in its first moment |
//!
//! What the writer of a lost catalog relies on cannot be known: neither what it made nor what of
//! the older things it has looked up. While one lives nothing is condemned at all.
//!
//! A lease file is made once and not written again: its mtime is when the lease began, by the
//! clock that stamps what the lease makes.
//!
//! **Order.** What is to be judged by its lease is listed *before* leases are probed: a lease is
//! locked before the first thing of it is written, so that whatever was listed has a lease that is
//! seen alive, or one that has ended.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hashbrown::{HashMap, HashSet};

use crate::catalog::Millis;
use crate::fsutil::{self, IoContext};
use crate::graph::{ImageGraph, RootSet};
use crate::layout::Layout;
use crate::lock::FileLock;

/// How exactly a file's time is known beside the clock's: the kernel stamps files with the time
/// of its last tick.
pub const CLOCK_SLACK: Millis = 2_000;

/// What the name of a step's lock begins with. It stands among the leases, so that one that was
/// left behind goes as they do, and pins nothing.
pub const STEP_LOCK: &str = "step-";
/// The same of the lock of whoever fetches a blob.
pub const BLOB_LOCK: &str = "blob-";

/// What stands below `rstore/leases`.
#[derive(Debug, Clone, Default)]
pub struct LeaseFiles {
    files: HashMap<String, LeaseFile>,
}

#[derive(Debug, Clone, Copy)]
struct LeaseFile {
    locked: bool,
    modified: Millis,
}

/// The directory of lease files.
pub fn directory(layout: &Layout) -> PathBuf {
    layout.private().join("leases")
}

impl LeaseFiles {
    /// Tries the lock of every lease file.
    pub fn probe(layout: &Layout) -> fsutil::Result<LeaseFiles> {
        let directory = directory(layout);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(LeaseFiles::default()),
            Err(error) => return Err(fsutil::Error::new("read", directory, error)),
        };
        let mut files = HashMap::new();
        for entry in entries {
            let entry = entry.at("read", &directory)?;
            if let Some(file) = probe_one(&entry.path())? {
                files.insert(entry.file_name().to_string_lossy().into_owned(), file);
            }
        }
        Ok(LeaseFiles { files })
    }

    /// Whether a recorded lease is alive.
    pub fn is_alive(&self, id: &str) -> bool {
        self.files.get(id).is_some_and(|file| file.locked)
    }

    /// Locked files without a row, but for the locks of steps and blobs, whose holders have a
    /// lease besides: those in their first or last moment, and those of writers that are older
    /// than the catalog.
    fn without_row(&self, graph: &ImageGraph) -> (Vec<String>, Vec<String>) {
        let rows: HashSet<&str> = graph.leases().iter().map(|row| row.id.as_str()).collect();
        let horizon = graph.catalog_born().saturating_add(CLOCK_SLACK);
        let (young, old): (Vec<_>, Vec<_>) = self
            .files
            .iter()
            .filter(|(id, file)| {
                let is_turn = id.starts_with(STEP_LOCK) || id.starts_with(BLOB_LOCK);
                file.locked && !rows.contains(id.as_str()) && !is_turn
            })
            .partition(|(_, file)| file.modified > horizon);
        let names = |files: Vec<(&String, &LeaseFile)>| {
            let mut names: Vec<String> = files.into_iter().map(|(id, _)| id.clone()).collect();
            names.sort_unstable();
            names
        };
        (names(young), names(old))
    }

    /// Removes the files of leases that are dead: who has a name is locked, or dead. One that is
    /// just being made has a hidden name and may not be locked yet: its file is removed under its
    /// lock, and its owner, finding it gone, makes another.
    pub fn remove_dead(&self, layout: &Layout) -> fsutil::Result<()> {
        let directory = directory(layout);
        for (id, _) in self.files.iter().filter(|(_, file)| !file.locked) {
            let path = directory.join(id);
            let lock = match FileLock::try_exclusive_existing(&path) {
                Err(error) if error.is_not_found() => continue,
                other => other?,
            };
            if lock.is_some() {
                fsutil::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

fn probe_one(path: &Path) -> fsutil::Result<Option<LeaseFile>> {
    let modified = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000
        }
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fsutil::Error::new("stat", path, error)),
    };
    match FileLock::try_exclusive_existing(path) {
        Ok(lock) => Ok(Some(LeaseFile {
            locked: lock.is_none(),
            modified,
        })),
        Err(error) if error.is_not_found() => Ok(None),
        // Another user's: whether it is held cannot be tried, so it is taken to be.
        Err(error) if error.source.kind() == ErrorKind::PermissionDenied => Ok(Some(LeaseFile {
            locked: true,
            modified,
        })),
        Err(error) => Err(error),
    }
}

/// The roots of a graph as the lease files have them.
pub fn collect(graph: &ImageGraph, files: &LeaseFiles) -> RootSet {
    let mut roots = RootSet::of(graph, |id| files.is_alive(id));
    let (young, unknown) = files.without_row(graph);
    roots.live.extend(young);
    roots.live.extend(unknown.iter().cloned());
    roots.unknown = unknown;
    let locked = files.files.values().filter(|file| file.locked);
    roots.oldest = locked.map(|file| file.modified).min();
    roots
}

/// Whether a lease is alive at this very moment.
pub fn is_alive_now(layout: &Layout, id: &str) -> fsutil::Result<bool> {
    let file = probe_one(&directory(layout).join(id))?;
    Ok(file.is_some_and(|file| file.locked))
}

/// The live lease whose name a file or directory carries: `ID`, `ID-…` or `ID.…`, perhaps hidden.
pub fn owner<'a>(name: &str, live: &'a HashSet<String>) -> Option<&'a str> {
    let name = name.trim_start_matches('.');
    live.iter().map(String::as_str).find(|id| {
        name.strip_prefix(*id)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
    })
}

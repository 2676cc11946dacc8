//! What stands on the disk without being a blob that the catalog knows: temporary files, trees
//! without a row, tombstones; and what belongs there.
//!
//! ```text
//! ROOT/                 .index.json.PID.tmp             a killed writer's; removed under its lock
//!   blobs/sha256/       names that are no digests       strays; removed once past the grace
//!   rstore/ingest/      LEASE-…                         a blob being written by a lease
//!                       LEASE-partial-HEX               a download; removed once past the grace
//!          snapshots/   KEY with a row                  a snapshot
//!                       LEASE-…, or no row              being made by a lease, or left behind
//!                       .gone.NAME                      a tombstone: a prune was removing it
//!          containers/  the same
//!          cache-mounts/                                with a row: kept until asked for
//! ```
//! Trees without a row whose name tells no lease are left alone while a lease lives that began
//! before they last changed: they may be its own.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hashbrown::HashSet;

use crate::catalog::Millis;
use crate::fsutil::{self, IoContext};
use crate::graph::{ImageGraph, RootSet};
use crate::layout::Layout;

use super::Result;
use super::roots;

/// What stands between the lease and the digest in the name of a blob that arrives by pieces.
pub const PARTIAL: &str = "-partial-";

/// How a tombstone's name begins.
pub const TOMBSTONE: &str = ".gone.";

/// The directories below `rstore` whose entries may be trees that a lease makes.
pub const SNAPSHOTS: &str = "snapshots";
/// See [`SNAPSHOTS`].
pub const CONTAINERS: &str = "containers";
/// Directories of `RUN --mount=type=cache`.
pub const CACHE_MOUNTS: &str = "cache-mounts";

/// What something outside the catalog is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DebrisKind {
    /// A file in `ingest/`.
    Ingest,
    /// A directory in `snapshots/`, `containers/` or `cache-mounts/` without a row.
    Unrowed,
    /// What a prune was removing.
    Tombstone,
    /// A temporary sibling of `index.json` and the like.
    Sibling,
    /// A name in `blobs/sha256` that is no digest.
    Stray,
}

/// Something outside the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debris {
    /// What it is.
    pub kind: DebrisKind,
    /// Where it is, from the root of the store.
    pub path: PathBuf,
    /// When its inode last changed, by the file system's clock.
    pub changed: Millis,
    /// When its content did.
    pub modified: Millis,
}

/// Lists what stands outside the catalog, whether or not it may go.
pub fn list(graph: &ImageGraph, layout: &Layout) -> Result<Vec<Debris>> {
    let mut names = Vec::new();
    layout
        .blobs()
        .list(|entry| names.extend(entry.err().map(ToOwned::to_owned)))
        .map_err(crate::layout::Error::from)?;
    list_with(graph, layout, &names)
}

/// The same, where it is known which names in `blobs/` are no digests.
pub fn list_with(graph: &ImageGraph, layout: &Layout, strays: &[OsString]) -> Result<Vec<Debris>> {
    let mut found = Vec::new();
    let root = layout.root();
    each(root, Path::new("rstore/ingest"), |entry| {
        found.push(entry.into_debris(DebrisKind::Ingest));
    })?;
    let snapshots = graph.snapshots().iter().map(|row| row.directory.as_str());
    let snapshots: HashSet<&str> = snapshots.collect();
    let containers = graph.containers().iter().map(|row| row.id.as_str());
    let containers: HashSet<&str> = containers.collect();
    let mounts = graph.cache_mounts().iter();
    let mounts: HashSet<&str> = mounts.map(|row| row.directory.as_str()).collect();
    for (directory, known) in [
        (SNAPSHOTS, snapshots),
        (CONTAINERS, containers),
        (CACHE_MOUNTS, mounts),
    ] {
        each(root, &Path::new("rstore").join(directory), |entry| {
            if entry.name.starts_with(TOMBSTONE) {
                found.push(entry.into_debris(DebrisKind::Tombstone));
            } else if !known.contains(entry.name.as_str()) {
                found.push(entry.into_debris(DebrisKind::Unrowed));
            }
        })?;
    }
    for directory in ["", "rstore"] {
        each(root, Path::new(directory), |entry| {
            if is_sibling(&entry.name) {
                found.push(entry.into_debris(DebrisKind::Sibling));
            }
        })?;
    }
    for name in strays {
        let path = Path::new("blobs/sha256").join(name);
        if let Some(entry) = Entry::of(root, path)? {
            // A directory is nobody's temporary file: it stays, and `df` shows it.
            if !entry.directory {
                found.push(entry.into_debris(DebrisKind::Stray));
            }
        }
    }
    Ok(found)
}

/// Whether something that was listed before `roots` were collected may go now.
pub fn may_go(debris: &Debris, roots: &RootSet, grace: Millis, now: Millis) -> bool {
    let name = debris.path.file_name().unwrap_or_default();
    let name = name.to_string_lossy();
    match debris.kind {
        DebrisKind::Tombstone | DebrisKind::Sibling => true,
        DebrisKind::Stray => debris.modified.saturating_add(grace) < now,
        // Half a download is somebody's time: whoever pulls again soon goes on with it.
        DebrisKind::Ingest if name.contains(PARTIAL) => {
            roots::owner(&name, &roots.live).is_none()
                && debris.modified.saturating_add(grace) < now
        }
        DebrisKind::Ingest => roots::owner(&name, &roots.live).is_none(),
        DebrisKind::Unrowed => {
            roots::owner(&name, &roots.live).is_none()
                && roots.oldest.is_none_or(|start| debris.changed < start)
        }
    }
}

/// Trees that a prune was removing.
pub fn tombstones(layout: &Layout) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for directory in [SNAPSHOTS, CONTAINERS, CACHE_MOUNTS] {
        each(
            layout.root(),
            &Path::new("rstore").join(directory),
            |entry| {
                if entry.name.starts_with(TOMBSTONE) {
                    found.push(entry.path);
                }
            },
        )?;
    }
    Ok(found)
}

pub(super) fn is_sibling(name: &str) -> bool {
    ["index.json", "oci-layout", "reserve"]
        .iter()
        .any(|target| fsutil::is_temporary_sibling(name, target))
}

/// Whether there is a temporary sibling of `index.json` and the like.
pub(super) fn has_siblings(layout: &Layout) -> Result<bool> {
    for directory in [layout.root().to_path_buf(), layout.private()] {
        for entry in fs::read_dir(&directory).at("read", &directory)? {
            let name = entry.at("read", &directory)?.file_name();
            if is_sibling(&name.to_string_lossy()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

struct Entry {
    path: PathBuf,
    name: String,
    directory: bool,
    changed: Millis,
    modified: Millis,
}

impl Entry {
    fn of(root: &Path, path: PathBuf) -> fsutil::Result<Option<Entry>> {
        let metadata = match fs::symlink_metadata(root.join(&path)) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fsutil::Error::new("stat", root.join(&path), error)),
        };
        let name = path.file_name().unwrap_or_default();
        Ok(Some(Entry {
            name: name.to_string_lossy().into_owned(),
            directory: metadata.is_dir(),
            changed: metadata.ctime() * 1000 + metadata.ctime_nsec() / 1_000_000,
            modified: metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000,
            path,
        }))
    }

    fn into_debris(self, kind: DebrisKind) -> Debris {
        Debris {
            kind,
            path: self.path,
            changed: self.changed,
            modified: self.modified,
        }
    }
}

/// Shows each entry of `root/below`; a directory that is missing has none.
fn each(root: &Path, below: &Path, mut show: impl FnMut(Entry)) -> fsutil::Result<()> {
    let directory = root.join(below);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fsutil::Error::new("read", directory, error)),
    };
    for entry in entries {
        let entry = entry.at("read", &directory)?;
        if let Some(entry) = Entry::of(root, below.join(entry.file_name()))? {
            show(entry);
        }
    }
    Ok(())
}

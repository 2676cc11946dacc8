//! What can be asked about: images and blobs, and what the store has besides them.
//!
//! A name or an image ID means the image. Anything else may mean several things at once: the chain
//! ID of a lowest layer is its diff ID. Then all of them are answered for.

use std::path::Path;

use crate::catalog::builds::ContainerRow;
use crate::catalog::cache::CacheRecord;
use crate::catalog::cache_mount::CacheMountRow;
use crate::catalog::snapshot::SnapshotRow;
use crate::cli::Result;
use crate::cli::commands::view::View;
use crate::graph::{NodeId, ResolveError};
use crate::oci::Digest;

/// Something that is asked about.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// An image, an index, a layer, any other blob.
    Node(NodeId),
    /// An unpacked layer.
    Snapshot(&'a SnapshotRow),
    /// What the build cache knows of a step.
    CacheRecord(&'a CacheRecord, Option<NodeId>),
    /// An intermediate container.
    Container(&'a ContainerRow),
    /// A directory of `RUN --mount=type=cache`.
    CacheMount(&'a CacheMountRow),
}

/// What a word can mean: never nothing.
pub fn meant<'a>(view: &'a View, text: &str) -> Result<Vec<Subject<'a>>> {
    if let Some(found) = by_path(view, text) {
        return Ok(found);
    }
    let unknown = match view.graph.resolve(text) {
        Ok(found) => return Ok(vec![Subject::Node(found.node)]),
        Err(error @ ResolveError::Unknown { .. }) => error,
        // Of another kind: which, the next look says.
        Err(ResolveError::NotAnImage { .. }) => ResolveError::Unknown {
            text: text.to_owned(),
            near: Vec::new(),
        },
        Err(other) => return Err(other.into()),
    };
    let mut found = others(view, text);
    match view.graph.resolve_any(text) {
        Ok(node) => found.insert(0, Subject::Node(node.node)),
        Err(ResolveError::Unknown { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    match found.is_empty() {
        true => Err(unknown.into()),
        false => Ok(found),
    }
}

/// By a path in the store: `rstore/snapshots/KEY`, `containers/ID`, `blobs/sha256/HEX`, also an
/// absolute one, and one that goes on below.
fn by_path<'a>(view: &'a View, text: &str) -> Option<Vec<Subject<'a>>> {
    let absolute = Path::new(text);
    let relative = absolute.strip_prefix(view.store.root()).unwrap_or(absolute);
    let mut parts = relative.iter().filter_map(|part| part.to_str());
    let mut kind = parts.next()?;
    if kind == "rstore" {
        kind = parts.next()?;
    }
    let name = parts.next()?;
    let graph = &view.graph;
    let subject = match kind {
        "blobs" if name == "sha256" => {
            let digest = Digest::from_hex(parts.next()?)?;
            Subject::Node(graph.find(&digest)?)
        }
        "snapshots" => {
            let mut rows = graph.snapshots().iter();
            Subject::Snapshot(rows.find(|row| row.directory == name)?)
        }
        "containers" => {
            let mut rows = graph.containers().iter();
            Subject::Container(rows.find(|row| row.id == name)?)
        }
        "cache-mounts" => {
            let mut rows = graph.cache_mounts().iter();
            Subject::CacheMount(rows.find(|row| row.directory == name)?)
        }
        _ => return None,
    };
    Some(vec![subject])
}

/// By key, chain ID, container ID, or the name of a cache mount.
fn others<'a>(view: &'a View, text: &str) -> Vec<Subject<'a>> {
    let graph = &view.graph;
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let hexadecimal = digits
        .bytes()
        .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let prefix = (hexadecimal && (4..=64).contains(&digits.len())).then_some(digits);
    let begins = |hex: &str| prefix.is_some_and(|prefix| hex.starts_with(prefix));
    let snapshots = graph.snapshots().iter();
    let snapshots = snapshots.filter(|row| begins(&row.chain.hex()) || row.directory == text);
    let containers = graph.containers().iter();
    let containers = containers.filter(|row| begins(&row.id) || row.id == text);
    let records = graph.cache().iter();
    let records = records.filter(|(record, _)| begins(&record.key.hex()));
    let mounts = graph.cache_mounts().iter();
    let mounts =
        mounts.filter(|row| row.name == text || row.directory == text || begins(&row.key.hex()));
    snapshots
        .map(Subject::Snapshot)
        .chain(containers.map(Subject::Container))
        .chain(records.map(|(record, node)| Subject::CacheRecord(record, *node)))
        .chain(mounts.map(Subject::CacheMount))
        .collect()
}

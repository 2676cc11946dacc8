//! Every file below the root, each inode once: which row of `df` it belongs to, and whose it is.
//!
//! ```text
//! ROOT/blobs/sha256/HEX   by what the graph says of it; the survey has asked the disk already
//!      blobs/sha256/…     temporary (a stray)
//!      rstore/NAME/…      by NAME, and by whether a row knows the entry
//!      index.json, …      overhead
//!      anything else      unaccounted
//! ```

use std::borrow::Cow;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hashbrown::HashSet;

use crate::catalog::blob::BlobKind;
use crate::fsutil;
use crate::graph::{Classes, ImageGraph, NodeId, State};
use crate::oci::document::Role;

use super::debris;
use super::disk::Survey;
use super::usage::{Each, Usage, UsageKind};

/// The row of an image of a state.
pub(super) fn image_row(state: State) -> UsageKind {
    match state {
        State::Tagged | State::Member | State::Pinned | State::Referrer => UsageKind::Images,
        State::Intermediate => UsageKind::Intermediates,
        State::Stage => UsageKind::Stages,
        State::InUse | State::Dangling => UsageKind::Dangling,
    }
}

/// The rows of images.
const IMAGE_ROWS: [UsageKind; 4] = [
    UsageKind::Images,
    UsageKind::Intermediates,
    UsageKind::Stages,
    UsageKind::Dangling,
];

/// One count of all files.
pub(super) struct Files<'a, 'e> {
    graph: &'a ImageGraph,
    classes: &'a Classes,
    snapshots: HashSet<&'a str>,
    containers: HashSet<&'a str>,
    cache_mounts: HashSet<&'a str>,
    /// (device, inode) of files with more than one name that have been counted.
    seen: HashSet<(u64, u64)>,
    /// Is told of each.
    each: &'a mut Each<'e>,
}

impl<'a, 'e> Files<'a, 'e> {
    /// A count that has not begun.
    pub fn new(
        graph: &'a ImageGraph,
        classes: &'a Classes,
        each: &'a mut Each<'e>,
    ) -> Files<'a, 'e> {
        let snapshots = graph.snapshots().iter().map(|row| &*row.directory);
        let mounts = graph.cache_mounts().iter().map(|row| &*row.directory);
        Files {
            graph,
            classes,
            snapshots: snapshots.collect(),
            containers: graph.containers().iter().map(|row| &*row.id).collect(),
            cache_mounts: mounts.collect(),
            seen: HashSet::new(),
            each,
        }
    }

    /// Counts everything below `root`.
    pub fn count(&mut self, root: &Path, survey: &Survey, usage: &mut Usage) {
        let blobs = root.join("blobs/sha256");
        let mut entries = walkdir::WalkDir::new(root).follow_links(false).into_iter();
        while let Some(entry) = entries.next() {
            // What is going while it is counted, or shut, `du` does not count either.
            let Ok(entry) = entry else { continue };
            self.entry(root, entry.path(), usage);
            if entry.file_type().is_dir() && entry.path() == blobs {
                entries.skip_current_dir();
                self.blobs(survey, usage);
                for name in survey.strays.iter().chain(&survey.odd) {
                    self.tree(root, &blobs.join(name), usage);
                }
            }
        }
    }

    fn tree(&mut self, root: &Path, path: &Path, usage: &mut Usage) {
        for entry in walkdir::WalkDir::new(path).follow_links(false) {
            let Ok(entry) = entry else { continue };
            self.entry(root, entry.path(), usage);
        }
    }

    fn entry(&mut self, root: &Path, path: &Path, usage: &mut Usage) {
        let Ok(metadata) = path.symlink_metadata() else {
            return;
        };
        if !self.is_first(&metadata) {
            return;
        }
        let below = path.strip_prefix(root).unwrap_or(path);
        let parts: Vec<Cow<str>> = below.iter().map(|part| part.to_string_lossy()).collect();
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        let kind = self.place(&parts);
        let bytes = fsutil::allocated(&metadata);
        usage.add(kind, bytes);
        (self.each)(kind, &parts, bytes);
        // Of what has no rows to be counted by, the entries themselves are counted.
        let entry = matches!(parts[..], ["rstore", _, _] | ["blobs", _, _] | [_]);
        if entry && matches!(kind, UsageKind::Temporary | UsageKind::Quarantine) {
            usage.thing(kind, false);
        }
    }

    fn is_first(&mut self, metadata: &Metadata) -> bool {
        let linked = !metadata.is_dir() && metadata.nlink() > 1;
        !linked || self.seen.insert((metadata.dev(), metadata.ino()))
    }

    fn blobs(&mut self, survey: &Survey, usage: &mut Usage) {
        let blobs = survey.facts.iter().map(|(node, stat)| (Some(node), stat));
        for (node, stat) in blobs.chain(survey.unknown.iter().map(|stat| (None, stat))) {
            if stat.links > 1 && !self.seen.insert((stat.device, stat.inode)) {
                continue;
            }
            let kind = node.map_or(UsageKind::Others, |node| self.blob(node));
            usage.add(kind, stat.allocated);
            // Nobody has kept the name of what the graph does not know.
            let name = node.map_or_else(String::new, |node| self.graph.node(node).digest.hex());
            (self.each)(kind, &["blobs", "sha256", &name], stat.allocated);
            if let Some(node) = node {
                self.share(node, stat.allocated, usage);
            }
        }
    }

    /// What a file belongs to, by its path from the root.
    fn place(&self, parts: &[&str]) -> UsageKind {
        match parts {
            [] | ["blobs" | "rstore" | "oci-layout" | "index.json"] => UsageKind::Overhead,
            ["blobs", "sha256"] | ["lost+found", ..] => UsageKind::Overhead,
            ["blobs", "sha256", name] if crate::oci::Digest::from_hex(name).is_none() => {
                UsageKind::Temporary
            }
            ["blobs", "sha256", _] => UsageKind::Others,
            [name] | ["rstore", name] if debris::is_sibling(name) => UsageKind::Temporary,
            ["rstore", rest @ ..] => self.private(rest),
            _ => UsageKind::Unaccounted,
        }
    }

    fn private(&self, parts: &[&str]) -> UsageKind {
        match parts {
            ["leases" | "stubs", ..] | ["lock" | "prune.lock" | "reserve"] => UsageKind::Overhead,
            [name] if name.starts_with("catalog.db") => UsageKind::Overhead,
            ["ingest" | "snapshots" | "containers" | "cache-mounts" | "quarantine"] => {
                UsageKind::Overhead
            }
            ["ingest", ..] => UsageKind::Temporary,
            ["snapshots", name, ..] if self.snapshots.contains(name) => UsageKind::Snapshots,
            ["containers", name, ..] if self.containers.contains(name) => UsageKind::Containers,
            ["cache-mounts", name, ..] if self.cache_mounts.contains(name) => {
                UsageKind::CacheMounts
            }
            ["snapshots" | "containers" | "cache-mounts", ..] => UsageKind::Temporary,
            ["quarantine", ..] => UsageKind::Quarantine,
            _ => UsageKind::Unaccounted,
        }
    }

    fn blob(&self, node: NodeId) -> UsageKind {
        match self.graph.node(node).kind {
            BlobKind::Layer => UsageKind::Layers,
            BlobKind::Other | BlobKind::Unknown => UsageKind::Others,
            BlobKind::Index | BlobKind::Manifest => image_row(self.classes.state(node)),
            BlobKind::Config => {
                let holders = self.graph.holders(node);
                let best = holders.map(|(holder, _)| self.classes.state(holder)).min();
                image_row(best.unwrap_or(State::Dangling))
            }
        }
    }

    /// Adds a blob's bytes to what the kinds of images that hold it have for themselves, or share.
    fn share(&self, node: NodeId, bytes: u64, usage: &mut Usage) {
        let kind = self.graph.node(node).kind;
        if matches!(kind, BlobKind::Index | BlobKind::Manifest) {
            usage.own(image_row(self.classes.state(node)), bytes);
            return;
        }
        let (mut rows, mut images, mut last) = ([false; 4], 0, None);
        let holders = self.graph.holders(node);
        for (holder, _) in holders.filter(|(_, role)| *role != Role::Subject) {
            // A layer that stands in a manifest twice is held once.
            if last == Some(holder) || self.graph.image(holder).is_none() {
                continue;
            }
            last = Some(holder);
            images += 1;
            let row = image_row(self.classes.state(holder));
            for (place, known) in IMAGE_ROWS.iter().enumerate() {
                rows[place] |= *known == row;
            }
        }
        let alone = rows.iter().filter(|held| **held).count() == 1;
        for (row, _) in IMAGE_ROWS.iter().zip(rows).filter(|(_, held)| *held) {
            if alone {
                usage.own(*row, bytes);
            } else {
                usage.shared(*row, bytes);
            }
        }
        match (kind, images) {
            (BlobKind::Layer, 1) => usage.own(UsageKind::Layers, bytes),
            (BlobKind::Layer, 2..) => usage.shared(UsageKind::Layers, bytes),
            _ => {}
        }
    }
}

//! The catalog against the disk, and what stands beside the blobs: snapshots, containers, leases,
//! temporary files.
//!
//! A writer records a blob before its file appears, and a prune removes a file before its row: a
//! row without a file is early, or late, or what a crash has left; never a loss by itself.

use std::path::Path;

use super::Result;
use super::finding::{Finding, Kind, Severity};
use super::judge::Digests;
use super::read::{Content, Files};
use crate::catalog::blob::BlobKind;
use crate::catalog::tags::Named;
use crate::catalog::{Catalog, Millis, sync};
use crate::gc;
use crate::gc::debris::{self, DebrisKind};
use crate::gc::roots::LeaseFiles;
use crate::graph::{ImageGraph, Node, NodeId, Roles, RootSet};
use crate::layout::Layout;

/// What is compared.
pub struct Rows<'a> {
    /// The layout.
    pub layout: &'a Layout,
    /// The catalog.
    pub catalog: &'a Catalog,
    /// What it knows.
    pub graph: &'a ImageGraph,
    /// The files, as far as they were read.
    pub files: &'a Files,
    /// Blobs that are known to be missing or wrong.
    pub bad: &'a Digests,
    /// The time.
    pub now: Millis,
}

impl Rows<'_> {
    /// Compares all of it.
    pub fn compare(&self, findings: &mut Vec<Finding>) -> Result<()> {
        // What is judged by its lease is listed before leases are probed: see `gc::roots`.
        let debris = debris::list(self.graph, self.layout)?;
        let roots = gc::roots::collect(self.graph, &LeaseFiles::probe(self.layout)?);
        let leased = self.leased(&roots);
        for node in self.graph.nodes() {
            self.row(node, &leased, findings);
        }
        self.unrecorded(findings);
        self.mirror(findings)?;
        self.cache(findings);
        self.snapshots(&roots, findings);
        self.containers(&roots, findings);
        for lease in &roots.dead {
            findings.push(
                Finding::new(Severity::Note, Kind::DeadLease, lease.clone())
                    .detail("its process is gone")
                    .remedy("the next prune forgets it"),
            );
        }
        self.condemned(findings)?;
        for debris in debris {
            let grace = gc::policy::DEFAULT_GRACE;
            // Strays are told with the blobs.
            if debris.kind != DebrisKind::Stray
                && debris::may_go(&debris, &roots, grace, self.now)
                && self
                    .layout
                    .root()
                    .join(&debris.path)
                    .symlink_metadata()
                    .is_ok()
            {
                findings.push(
                    Finding::new(
                        Severity::Note,
                        Kind::Temporary,
                        debris.path.to_string_lossy(),
                    )
                    .detail("left by a process that is gone")
                    .remedy("the next prune removes it"),
                );
            }
        }
        Ok(())
    }

    /// What live leases pin by name.
    fn leased(&self, roots: &RootSet) -> hashbrown::HashSet<NodeId> {
        let live = self.graph.leased().iter();
        let live = live.filter(|pin| roots.live.contains(&pin.lease));
        live.filter_map(|pin| pin.node).collect()
    }

    fn is_there(&self, node: &Node) -> bool {
        self.layout
            .blobs()
            .stat(&node.digest)
            .ok()
            .flatten()
            .is_some()
    }

    fn row(&self, node: Node, leased: &hashbrown::HashSet<NodeId>, findings: &mut Vec<Finding>) {
        if !node.present || node.condemned {
            return;
        }
        let Some(file) = self.files.get(&node.digest) else {
            if !leased.contains(&node.node)
                && !self.bad.contains(&node.digest)
                && !self.is_there(&node)
            {
                findings.push(
                    Finding::of(Severity::Note, Kind::RowWithoutFile, node.digest)
                        .detail("the catalog knows it, and there is no file: a writer died before it put it there")
                        .remedy("the next command that lists blobs forgets it"),
                );
            }
            return;
        };
        let whole = matches!(file.content, Content::Whole | Content::Document(_));
        if whole && file.size != node.size {
            let text = format!(
                "the catalog says {} bytes, the file has {}",
                node.size, file.size
            );
            findings.push(
                Finding::of(Severity::Warning, Kind::RowSize, node.digest)
                    .detail(text)
                    .remedy("fsck --repair puts the catalog right"),
            );
        }
        let Content::Document(links) = &file.content else {
            return;
        };
        if node.damaged {
            findings.push(
                Finding::of(Severity::Warning, Kind::StaleDamage, node.digest)
                    .detail("the catalog takes it for unreadable, and it is whole: a prune would refuse to work")
                    .remedy("fsck --repair reads it again"),
            );
        }
        let known = self.graph.links(node.node);
        if known.len() == 0 && !links.is_empty() && !node.damaged {
            findings.push(self.unread(&node));
            return;
        }
        let links = links.iter().map(|link| (link.target, link.role));
        let known = known.map(|(target, role)| (self.graph.node(target).digest, role));
        if !node.damaged && !links.eq(known) {
            findings.push(
                Finding::of(Severity::Error, Kind::Links, node.digest)
                    .detail("the catalog has other links of it than it has: a prune might remove what it needs")
                    .remedy("fsck --repair reads it again"),
            );
        }
    }

    /// A document that the catalog has not read: a load that died between writing and reading it
    /// leaves one. Where a name leads to it, a prune would refuse to work.
    fn unread(&self, node: &Node) -> Finding {
        let above = self.graph.closure_up([node.node], Roles::ALL);
        let mut rooted = self.graph.tags().iter().map(|(_, node)| node);
        let rooted = rooted.any(|node| above.contains(*node))
            || self.graph.pins().iter().any(|node| above.contains(*node));
        let severity = match rooted {
            true => Severity::Warning,
            false => Severity::Note,
        };
        Finding::of(severity, Kind::Links, node.digest)
            .detail("the catalog has not read it yet")
            .remedy("fsck --repair reads it; so does the command that gives it a name")
    }

    /// Files of which the catalog has no row: one finding for all.
    fn unrecorded(&self, findings: &mut Vec<Finding>) {
        let (mut count, mut bytes) = (0_u64, 0);
        for file in self.files.iter() {
            let node = self.graph.find(&file.digest);
            if node.is_none_or(|node| !self.graph.node(node).present) {
                count += 1;
                bytes += file.size;
            }
        }
        if count > 0 {
            findings.push(
                Finding::new(Severity::Note, Kind::FileWithoutRow, "blobs/sha256")
                    .detail(format!(
                        "{count} blobs of {bytes} bytes that the catalog does not know yet"
                    ))
                    .remedy("nothing: the next command that lists blobs takes them in"),
            );
        }
    }

    /// The mirror of index.json, where it claims to be of the file as it is.
    fn mirror(&self, findings: &mut Vec<Finding>) -> Result<()> {
        // Both are of one moment only if nothing has changed from before the one to after the other.
        let before = self.layout.index_signature()?;
        let Ok(index) = self.layout.index() else {
            return Ok(());
        };
        let mirror: Vec<Named> = crate::catalog::tags::mirror(self.catalog)?;
        if !sync::index_is_current(self.catalog, self.layout)?
            || self.layout.index_signature()? != before
        {
            return Ok(());
        }
        let mirror = mirror
            .iter()
            .map(|named| (named.name.as_deref(), named.digest));
        let index = index.entries().iter();
        if !mirror.eq(index.map(|entry| (entry.name(), entry.descriptor.digest))) {
            findings.push(
                Finding::new(Severity::Error, Kind::Mirror, "rstore/catalog.db")
                    .detail("the catalog has other names than index.json: a prune might remove what has a name")
                    .remedy("fsck --repair takes index.json in again"),
            );
        }
        Ok(())
    }

    /// Cache records whose image is not there, or not whole.
    fn cache(&self, findings: &mut Vec<Finding>) {
        let bad = self.bad.iter().filter_map(|digest| self.graph.find(digest));
        let harmed = self.graph.closure_up(bad, Roles::RUN);
        for (record, image) in self.graph.cache() {
            let node = image.map(|node| self.graph.node(node));
            let detail = match node {
                None => "leads to an image that is not there",
                Some(node) if !node.present => "leads to an image that is not there",
                Some(node) if harmed.contains(node.node) => "leads to an image that is not whole",
                Some(_) => continue,
            };
            findings.push(
                Finding {
                    digest: Some(record.key),
                    ..Finding::new(Severity::Warning, Kind::CacheRecord, record.key.to_string())
                }
                .detail(detail)
                .remedy("fsck --repair forgets it; so does the build that meets it"),
            );
        }
    }

    fn snapshots(&self, roots: &RootSet, findings: &mut Vec<Finding>) {
        let directory = self.layout.private().join(debris::SNAPSHOTS);
        for row in self.graph.snapshots() {
            let path = directory.join(&row.directory);
            if row.condemned.is_none() && !roots.snapshots.contains(&row.id) && !path.is_dir() {
                let subject = Path::new("rstore/snapshots").join(&row.directory);
                findings.push(
                    Finding::new(Severity::Warning, Kind::Snapshot, subject.to_string_lossy())
                        .detail("the catalog knows this unpacked layer, and there is no directory")
                        .remedy("fsck --repair forgets it; the next build unpacks it again"),
                );
            }
        }
    }

    fn containers(&self, roots: &RootSet, findings: &mut Vec<Finding>) {
        let directory = self.layout.private().join(debris::CONTAINERS);
        for row in self.graph.containers() {
            if roots.live.contains(&row.lease) {
                continue;
            }
            let detail = match (row.status, directory.join(&row.id).is_dir()) {
                // What a failed step left for people to look into is as it should be.
                (Some(_), true) => continue,
                (Some(_), false) => "a failed step's container is recorded, and not there",
                (None, _) => "its build is dead",
            };
            findings.push(
                Finding::new(Severity::Note, Kind::Container, row.id.clone())
                    .detail(detail)
                    .remedy("the next prune removes it"),
            );
        }
    }

    /// What an interrupted prune left; one that is at work is none.
    fn condemned(&self, findings: &mut Vec<Finding>) -> Result<()> {
        let condemned = self.graph.nodes().filter(|node| node.condemned).count();
        if condemned == 0 {
            return Ok(());
        }
        match gc::execute::lock(self.layout) {
            Ok(_lock) => {}
            Err(error) if error.is_busy() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        findings.push(
            Finding::new(Severity::Note, Kind::UnfinishedPrune, "rstore/catalog.db")
                .detail(format!(
                    "{condemned} blobs are condemned: a prune was interrupted"
                ))
                .remedy("the next command that writes ends it"),
        );
        Ok(())
    }
}

/// Whether the catalog has a blob as an index, which may be larger than other documents.
pub fn is_index(graph: Option<&ImageGraph>, digest: &crate::oci::Digest) -> bool {
    graph
        .and_then(|graph| Some(graph.node(graph.find(digest)?)))
        .is_some_and(|node| node.kind == BlobKind::Index)
}

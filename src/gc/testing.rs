//! Real stores in temporary directories, for tests: images with real documents, tags, leases, and
//! checks of what must always hold.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

use serde_json::json;

use crate::catalog::blob::{BlobKind, NewBlob};
use crate::catalog::lease::LeaseRow;
use crate::catalog::snapshot::SnapshotRow;
use crate::catalog::{Catalog, Error, Millis, sync};
use crate::fsutil;
use crate::graph::{ImageGraph, Roles};
use crate::layout::{Index, Layout};
use crate::lock::FileLock;
use crate::oci::document::{self, PARENT, STAGES};
use crate::oci::{Digest, media};

use super::{Plan, Policy, Report, Scope};

/// Some time in the future of every file that a test writes, so that none is racy or young.
pub(crate) const NOW: Millis = 4_000_000_000_000;

pub(crate) struct Store {
    pub layout: Layout,
    pub catalog: Catalog,
    dir: tempfile::TempDir,
}

/// An image to be made.
#[derive(Default, Clone, Copy)]
pub(crate) struct New<'a> {
    pub parent: Option<Digest>,
    pub stages: &'a [Digest],
    pub layers: &'a [&'a str],
    pub subject: Option<Digest>,
    /// As another tool would write it: without telling the catalog.
    pub foreign: bool,
}

impl Store {
    pub fn new() -> Store {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open_or_create(&dir.path().join("store")).unwrap();
        for name in ["leases", "snapshots", "containers", "cache-mounts"] {
            fs::create_dir_all(layout.private().join(name)).unwrap();
        }
        let catalog = Catalog::open(&layout.private().join("catalog.db")).unwrap();
        Store {
            layout,
            catalog,
            dir,
        }
    }

    /// Opens the store anew, with its catalog lost.
    pub fn lose_catalog(self) -> Store {
        let Store {
            layout,
            dir,
            catalog,
        } = self;
        drop(catalog);
        for name in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
            let _ = fs::remove_file(layout.private().join(name));
        }
        let catalog = Catalog::open(&layout.private().join("catalog.db")).unwrap();
        Store {
            layout,
            catalog,
            dir,
        }
    }

    pub fn blob(&self, bytes: &[u8], kind: BlobKind, media_type: &str, foreign: bool) -> Digest {
        let digest = Digest::of(bytes);
        let mut ingest = self.layout.blobs().ingest("test").unwrap();
        ingest.write_all(bytes).unwrap();
        self.layout.blobs().publish(ingest, &digest, true).unwrap();
        let stat = self.layout.blobs().stat(&digest).unwrap().unwrap();
        if !foreign {
            let new = NewBlob {
                digest,
                size: stat.size,
                allocated: stat.allocated,
                kind,
                media_type,
                ours: true,
                boot: "",
            };
            self.catalog
                .write::<_, Error>(|tx| Ok(tx.put_blob(new, 1_000)?))
                .unwrap();
        }
        digest
    }

    /// Makes an image. Its config names it, so that different names are different images.
    pub fn image(&self, name: &str, new: New) -> Digest {
        let mut layers = Vec::new();
        for layer in new.layers {
            let bytes = layer.repeat(3_000);
            let digest = self.blob(bytes.as_bytes(), BlobKind::Layer, media::LAYER, new.foreign);
            layers.push((digest, bytes.len()));
        }
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {}, "author": name,
            "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|l| l.0).collect::<Vec<_>>() },
        })
        .to_string();
        let config_digest = self.blob(
            config.as_bytes(),
            BlobKind::Config,
            media::CONFIG,
            new.foreign,
        );
        let descriptor = |media_type: &str, digest: &Digest, size: usize| json!({ "mediaType": media_type, "digest": digest, "size": size });
        let mut annotations = BTreeMap::new();
        if let Some(parent) = new.parent {
            annotations.insert(PARENT, parent.to_string());
        }
        if !new.stages.is_empty() {
            let stages: Vec<String> = new.stages.iter().map(Digest::to_string).collect();
            annotations.insert(STAGES, stages.join(","));
        }
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": media::MANIFEST,
            "config": descriptor(media::CONFIG, &config_digest, config.len()),
            "layers": layers.iter().map(|(d, s)| descriptor(media::LAYER, d, *s)).collect::<Vec<_>>(),
            "annotations": annotations,
        });
        if let Some(subject) = new.subject {
            manifest["subject"] = descriptor(media::MANIFEST, &subject, 1);
        }
        self.document(&manifest.to_string(), media::MANIFEST, new.foreign)
    }

    pub fn index(&self, members: &[Digest]) -> Digest {
        let members: Vec<_> = members
            .iter()
            .map(|digest| json!({ "mediaType": media::MANIFEST, "digest": digest, "size": 1 }))
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": members });
        self.document(&index.to_string(), media::INDEX, false)
    }

    fn document(&self, text: &str, media_type: &str, foreign: bool) -> Digest {
        let kind = if media_type == media::INDEX {
            BlobKind::Index
        } else {
            BlobKind::Manifest
        };
        let digest = self.blob(text.as_bytes(), kind, media_type, foreign);
        if !foreign {
            let document = document::parse(text.as_bytes(), media_type).unwrap();
            self.catalog
                .write::<_, Error>(|tx| {
                    let id = tx.blob(&digest)?.unwrap().id;
                    let size = text.len() as u64;
                    sync::record_document(tx, &self.layout, id, &document, size, 1_000)?;
                    Ok(())
                })
                .unwrap();
        }
        digest
    }

    pub fn change_index(&self, change: impl FnOnce(&mut Index)) {
        let lock = self.layout.lock_index().unwrap();
        let mut index = self.layout.index().unwrap();
        change(&mut index);
        self.layout.write_index(&index, &lock).unwrap();
    }

    /// Notes that an image was used.
    pub fn used_at(&self, image: Digest, moment: Millis) {
        self.catalog
            .write::<_, Error>(|tx| {
                let id = tx.blob(&image)?.unwrap().id;
                Ok(tx.touch_image(id, moment)?)
            })
            .unwrap();
    }

    pub fn tag(&self, name: &str, digest: Digest) {
        let bytes = self.layout.blobs().read(&digest, 1 << 20).unwrap();
        let index = matches!(
            document::parse(&bytes, ""),
            Ok(document::Document::Index(_))
        );
        let media_type = if index { media::INDEX } else { media::MANIFEST };
        self.change_index(|index| {
            index.tag(name, media_type, digest, bytes.len() as u64);
        });
        sync::index(&self.catalog, &self.layout, 1_000).unwrap();
    }

    pub fn untag(&self, name: &str) {
        self.change_index(|index| {
            index.untag(name);
        });
        sync::index(&self.catalog, &self.layout, 1_000).unwrap();
    }

    /// A lease that lives as long as the lock.
    pub fn lease(&self, id: &str) -> FileLock {
        let lock = FileLock::exclusive(&self.layout.private().join("leases").join(id)).unwrap();
        self.catalog
            .write::<_, Error>(|tx| {
                Ok(tx.put_lease(&LeaseRow {
                    id: id.to_owned(),
                    kind: "build".to_owned(),
                    detail: String::new(),
                    process: 1,
                    started: 1_000,
                })?)
            })
            .unwrap();
        lock
    }

    pub fn lease_blob(&self, lease: &str, digest: Digest) {
        self.catalog
            .write::<_, Error>(|tx| {
                let id = tx.blob(&digest)?.unwrap().id;
                Ok(tx.lease_blob(lease, id)?)
            })
            .unwrap();
    }

    /// A snapshot of a chain, with a file in it.
    pub fn snapshot(&self, chain: Digest) -> std::path::PathBuf {
        let name = chain.short();
        let path = self.layout.private().join("snapshots").join(&name);
        fs::create_dir_all(path.join("etc")).unwrap();
        fs::write(path.join("etc/file"), vec![7; 50_000]).unwrap();
        self.catalog
            .write::<_, Error>(|tx| {
                tx.put_snapshot(&SnapshotRow {
                    id: 0,
                    chain,
                    owners: "host".to_owned(),
                    directory: name,
                    allocated: fsutil::allocated_tree(&path).unwrap(),
                    boot: String::new(),
                    first_seen: 1_000,
                    last_used: 1_000,
                    condemned: None,
                })?;
                Ok(())
            })
            .unwrap();
        path
    }

    pub fn graph(&self) -> ImageGraph {
        sync::index(&self.catalog, &self.layout, NOW).unwrap();
        sync::scan(&self.catalog, &self.layout, NOW).unwrap();
        ImageGraph::load(&self.catalog).unwrap()
    }

    pub fn plan(&self, policy: &Policy) -> Plan {
        super::plan(&self.layout, &self.graph(), policy, NOW).unwrap()
    }

    pub fn execute(&self, graph: &ImageGraph, plan: Plan) -> Report {
        let report = super::execute(
            &self.layout,
            &self.catalog,
            graph,
            plan,
            &|| NOW,
            &mut |_| true,
        );
        report.unwrap()
    }

    /// Plans and prunes; what was foretold must be what was freed.
    pub fn prune(&self, policy: &Policy) -> Report {
        let graph = self.graph();
        let plan = super::plan(&self.layout, &graph, policy, NOW).unwrap();
        let (before, foretold) = (self.used(), plan.totals.clone());
        let report = self.execute(&graph, plan);
        assert_eq!(report.failures, []);
        assert_eq!(before - self.used(), foretold.freed, "{foretold:?}");
        assert_eq!(report.removed, foretold);
        self.check();
        report
    }

    pub fn prune_dangling(&self) -> Report {
        self.prune(&Policy::default())
    }

    /// Like [`Store::prune_dangling`], where siblings of index.json are to go too.
    pub fn prune_dangling_with_siblings(&self) {
        let graph = self.graph();
        let plan = super::plan(&self.layout, &graph, &Policy::default(), NOW).unwrap();
        let foretold = plan.totals.clone();
        let report = self.execute(&graph, plan);
        assert_eq!(report.failures, []);
        assert_eq!(report.removed, foretold);
    }

    /// Bytes of all but the catalog and its like.
    pub fn used(&self) -> u64 {
        [
            "blobs",
            "rstore/snapshots",
            "rstore/containers",
            "rstore/ingest",
            "rstore/cache-mounts",
        ]
        .iter()
        .map(|name| fsutil::allocated_tree(&self.layout.root().join(name)).unwrap())
        .sum()
    }

    pub fn has(&self, digest: &Digest) -> bool {
        self.layout.blobs().stat(digest).unwrap().is_some()
    }

    pub fn count(&self) -> usize {
        fs::read_dir(self.layout.blobs().directory())
            .unwrap()
            .count()
    }

    /// Every tagged image is whole, and no document points at what is gone.
    pub fn check(&self) {
        let graph = ImageGraph::load(&self.catalog).unwrap();
        let condemned = graph.nodes().find(|node| node.present && node.condemned);
        assert_eq!(condemned, None);
        // The documents themselves are asked, not the catalog: it might have forgotten a link.
        for node in graph.nodes().filter(|node| {
            node.present && matches!(node.kind, BlobKind::Index | BlobKind::Manifest)
        }) {
            let bytes = self.layout.blobs().read(&node.digest, 1 << 20).unwrap();
            for link in document::parse(&bytes, "").unwrap().links() {
                let target = link.target.digest;
                assert!(
                    self.has(&target),
                    "{} lost its {:?} {target}",
                    node.digest,
                    link.role
                );
            }
        }
        for (name, node) in graph.tags() {
            for node in graph.closure([*node], Roles::RUN).iter() {
                assert!(self.has(&graph.node(node).digest), "{name} is not whole");
            }
        }
    }
}

/// The policy of `prune` with these scopes.
pub(crate) fn policy(scope: Scope) -> Policy {
    Policy {
        scope,
        ..Policy::default()
    }
}

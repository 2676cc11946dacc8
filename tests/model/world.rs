//! The real store, the model beside it, and each operation done to both.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rstore::archive::{self, LoadOptions, Package, Saved};
use rstore::catalog::blob::NewBlob;
use rstore::catalog::lease::LeaseRow;
use rstore::catalog::{BlobKind, Millis, sync};
use rstore::fsutil::{allocated_tree, remove_tree};
use rstore::gc::plan::Removal;
use rstore::gc::{self, Policy, Scope};
use rstore::graph::ImageGraph;
use rstore::lock::FileLock;
use rstore::oci::document::{PARENT, REF_NAME, STAGES};
use rstore::oci::{Digest, ImageConfig, Platform, media};
use rstore::store::{Host, LayerBlob, NewImage, OpenMode, Store};
use serde_json::{Value, json};

use super::naive::{Document, Model, Set};
use super::{Foreign, Operation};

/// Real time, and chance that is the same each time.
struct TestHost(AtomicU64);

impl Host for TestHost {
    fn now(&self) -> Millis {
        std::time::UNIX_EPOCH
            .elapsed()
            .expect("a clock")
            .as_millis() as Millis
    }

    fn random(&self) -> [u8; 16] {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let digest = Digest::of(&number.to_le_bytes());
        *digest.as_bytes().first_chunk().expect("32 bytes")
    }

    fn boot(&self) -> &str {
        "this boot"
    }

    fn owners(&self) -> &str {
        "host"
    }
}

/// A live writer: its lock, and what it uses.
struct Holder {
    id: String,
    lock: FileLock,
    image: Digest,
    /// The catalog that knew its pins is lost.
    lost: bool,
}

pub struct World {
    directory: tempfile::TempDir,
    /// `None` only while it is opened again.
    store: Option<Store>,
    host: Arc<TestHost>,
    model: Model,
    holders: Vec<Holder>,
    /// The layers of each image that was ever made.
    layers: BTreeMap<Digest, Vec<LayerBlob>>,
    number: usize,
}

impl World {
    pub fn new() -> World {
        let directory = tempfile::Builder::new().prefix("rstore-test-").tempdir();
        let mut world = World {
            directory: directory.expect("a temporary directory"),
            store: None,
            host: Arc::new(TestHost(AtomicU64::new(0))),
            model: Model::default(),
            holders: Vec::new(),
            layers: BTreeMap::new(),
            number: 0,
        };
        world.open();
        world
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn open(&mut self) {
        let store = Store::open(&self.root(), OpenMode::Create, self.host.clone());
        self.store = Some(store.expect("the store opens"));
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("an open store")
    }

    /// One of the documents that there are.
    fn document(&self, number: usize) -> Option<Digest> {
        let all: Vec<&Digest> = self.model.documents.keys().collect();
        (!all.is_empty()).then(|| *all[number % all.len()])
    }

    /// One of the images that there are.
    fn image(&self, number: usize) -> Option<Digest> {
        let images = self
            .model
            .documents
            .iter()
            .filter(|(_, document)| document.image);
        let images: Vec<&Digest> = images.map(|(digest, _)| digest).collect();
        (!images.is_empty()).then(|| *images[number % images.len()])
    }

    fn next(&mut self) -> usize {
        self.number += 1;
        self.number
    }

    pub fn apply(&mut self, operation: &Operation) {
        // As every command does: what another changed is taken in, what a prune left is ended.
        let store = self.store.take();
        drop(store);
        self.open();
        let (layout, catalog) = (self.store().layout(), self.store().catalog());
        gc::finish(layout, catalog, self.host.now()).expect("an interrupted prune is ended");
        match operation {
            Operation::Build {
                parent,
                stage,
                layer,
                name,
            } => {
                let parent = parent.and_then(|number| self.image(number));
                let stage = stage.and_then(|number| self.image(number));
                self.build(parent, stage, *layer, name.map(name_of).as_deref());
            }
            Operation::Tag { image, name } => {
                if let Some(digest) = self.document(*image) {
                    let lease = self.store().lease("tag", "").expect("a lease");
                    lease.tag(&[name_of(*name)], &digest).expect("a tag");
                    drop(lease);
                    self.model.tags.insert(name_of(*name), digest);
                }
            }
            Operation::Untag { name } => {
                if self.model.tags.remove(&name_of(*name)).is_some() {
                    self.store().untag(&[name_of(*name)]).expect("a tag goes");
                }
            }
            Operation::Remove { name } => self.remove(&name_of(*name)),
            Operation::Pin { image } => {
                if let Some(digest) = self.document(*image) {
                    self.pin(&digest, true);
                    self.model.pins.insert(digest);
                }
            }
            Operation::Unpin { image } => {
                let pins: Vec<Digest> = self.model.pins.iter().copied().collect();
                if let Some(digest) = pins.get(image % pins.len().max(1)) {
                    self.pin(digest, false);
                    self.model.pins.remove(digest);
                }
            }
            Operation::Hold { image } => self.hold(*image),
            Operation::Release { writer } => self.release(*writer),
            Operation::Prune {
                stages,
                intermediates,
            } => self.prune(*stages, *intermediates),
            Operation::StoppedPrune { batches } => self.stopped_prune(*batches),
            Operation::Foreign { what, layer, name } => {
                self.foreign(*what, *layer, name.map(name_of).as_deref());
            }
            Operation::ForeignUntag { name } => {
                self.change_index(&name_of(*name), None);
                self.model.tags.remove(&name_of(*name));
            }
            Operation::Crash { layer, image } => self.crash(*layer, *image),
            Operation::LoseCatalog => self.lose_catalog(),
            Operation::Load { layer, name } => self.load(*layer, &name_of(*name)),
            Operation::Save { name } => self.save(&name_of(*name)),
        }
    }

    // -- builds -------------------------------------------------------------------------------

    fn build(
        &mut self,
        parent: Option<Digest>,
        stage: Option<Digest>,
        layer: u8,
        name: Option<&str>,
    ) {
        let store = self.store();
        let lease = store.lease("build", "").expect("a lease");
        for used in parent.iter().chain(&stage) {
            lease.hold(used).expect("what is there can be used");
        }
        let (blob, bytes) = layer_of(layer);
        let mut ingest = lease.ingest().expect("a blob begins");
        ingest.write_all(&bytes).expect("a blob is written");
        lease
            .publish_layer(ingest, &blob, None)
            .expect("a layer is published");
        let mut layers = parent.map_or_else(Vec::new, |parent| self.layers[&parent].clone());
        layers.push(blob);
        let mut config = ImageConfig::scratch(&platform());
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let mut annotations = BTreeMap::new();
        annotations.extend(parent.map(|parent| (PARENT.to_owned(), parent.to_string())));
        annotations.extend(stage.map(|stage| (STAGES.to_owned(), stage.to_string())));
        let new = NewImage {
            config: &config,
            layers: &layers,
            annotations,
            cache_key: None,
        };
        let image = lease.publish_image(&new).expect("an image is published");
        if let Some(name) = name {
            lease.tag(&[name.to_owned()], &image.digest).expect("a tag");
        }
        lease.end().expect("a lease ends");
        self.know_image(image.digest, image.id(), layers, parent, stage);
        if let Some(name) = name {
            self.model.tags.insert(name.to_owned(), image.digest);
        }
    }

    fn know_image(
        &mut self,
        digest: Digest,
        config: Digest,
        layers: Vec<LayerBlob>,
        parent: Option<Digest>,
        stage: Option<Digest>,
    ) {
        let mut content: Set = layers.iter().map(|layer| layer.digest).collect();
        content.insert(config);
        self.model.leaves.extend(&content);
        let mut stages: Set = stage.into_iter().collect();
        let written = (parent, stages.clone());
        // Of one that was there already more is known.
        if let Some(known) = self.model.documents.get(&digest) {
            stages.extend(&known.stages);
        }
        let document = Document {
            image: true,
            content,
            parent,
            stages,
            written,
            ..Document::default()
        };
        self.model.documents.insert(digest, document);
        self.layers.insert(digest, layers);
    }

    fn crash(&mut self, layer: u8, image: bool) {
        let id = format!("dead{}", self.next());
        if image {
            self.build(None, None, layer, None);
        }
        let (blob, _) = layer_of(layer);
        let private = |name: &str| self.root().join("rstore").join(name);
        // Its lock went with it.
        fs::write(private("leases").join(&id), "").expect("a lease file");
        fs::write(private("ingest").join(format!("{id}-1")), [7; 5_000]).expect("half a blob");
        let tree = private("snapshots").join(format!("{id}-2"));
        fs::create_dir_all(tree.join("etc")).expect("half a snapshot");
        fs::write(tree.join("etc/file"), [7; 5_000]).expect("half a snapshot");
        let row = LeaseRow {
            id: id.clone(),
            kind: "build".to_owned(),
            detail: String::new(),
            process: 1,
            started: self.host.now(),
        };
        let new = NewBlob {
            digest: blob.digest,
            size: blob.size,
            allocated: 4_096,
            kind: BlobKind::Layer,
            media_type: media::LAYER,
            ours: true,
            boot: self.host.boot(),
        };
        // It had recorded its layer, and was killed before the file had its name.
        let written = self.store().write(|tx| {
            tx.put_lease(&row)?;
            let blob = tx.put_blob(new, self.host.now())?;
            Ok(tx.lease_blob(&id, blob)?)
        });
        written.expect("rows");
    }

    // -- names, pins, leases ------------------------------------------------------------------

    fn pin(&self, digest: &Digest, pinned: bool) {
        let now = self.host.now();
        let written = self.store().write(|tx| {
            let row = tx.blob(digest)?.expect("a row");
            Ok(if pinned {
                tx.pin(row.id, now)?
            } else {
                tx.unpin(row.id)?
            })
        });
        written.expect("a pin");
    }

    fn hold(&mut self, number: usize) {
        let Some(image) = self.image(number) else {
            return;
        };
        let id = format!("writer{}", self.next());
        let path = self.root().join("rstore/leases").join(&id);
        let lock = FileLock::exclusive(&path).expect("a lock");
        let row = LeaseRow {
            id: id.clone(),
            kind: "build".to_owned(),
            detail: String::new(),
            process: 1,
            started: self.host.now(),
        };
        let written = self.store().write(|tx| {
            tx.put_lease(&row)?;
            let blob = tx.blob(&image)?.expect("a row");
            Ok(tx.lease_blob(&id, blob.id)?)
        });
        written.expect("a lease");
        self.holders.push(Holder {
            id,
            lock,
            image,
            lost: false,
        });
        self.note_held();
    }

    fn release(&mut self, number: usize) {
        if self.holders.is_empty() {
            return;
        }
        let holder = self.holders.remove(number % self.holders.len());
        self.store()
            .write(|tx| Ok(tx.end_lease(&holder.id)?))
            .expect("a lease ends");
        fs::remove_file(self.root().join("rstore/leases").join(&holder.id)).expect("its file");
        drop(holder.lock);
        self.note_held();
    }

    fn note_held(&mut self) {
        self.model.held = self.holders.iter().map(|holder| holder.image).collect();
    }

    /// What a writer of a lost catalog uses is not known: while it lives nothing goes.
    fn is_blocked(&self) -> bool {
        self.holders.iter().any(|holder| holder.lost)
    }

    fn lose_catalog(&mut self) {
        self.store = None;
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(self.root().join(format!("rstore/catalog.db{suffix}")));
        }
        self.open();
        self.model.pins.clear();
        self.model.read_again();
        self.holders
            .iter_mut()
            .for_each(|holder| holder.lost = true);
    }

    // -- pruning ------------------------------------------------------------------------------

    fn graph(&self) -> ImageGraph {
        let (layout, catalog) = (self.store().layout(), self.store().catalog());
        sync::index(catalog, layout, self.host.now()).expect("the index");
        self.store().scan().expect("a scan");
        ImageGraph::load(self.store().catalog()).expect("a graph")
    }

    /// Bytes of all that a plan counts.
    fn used(&self) -> u64 {
        let private = self.root().join("rstore");
        let parts = ["snapshots", "ingest", "containers"].map(|name| private.join(name));
        let parts = parts.into_iter().chain([self.root().join("blobs")]);
        parts
            .map(|path| allocated_tree(&path).expect("a tree"))
            .sum()
    }

    fn execute(&self, graph: &ImageGraph, plan: gc::Plan) -> gc::Report {
        let (layout, catalog) = (self.store().layout(), self.store().catalog());
        let clock = || self.host.now();
        let report = gc::execute(layout, catalog, graph, plan, &clock, &mut |_| true);
        report.expect("a prune or a removal")
    }

    fn prune(&mut self, stages: bool, intermediates: bool) {
        let policy = policy(Scope {
            stages,
            intermediates,
            ..Scope::default()
        });
        let graph = self.graph();
        let layout = self.store().layout();
        let plan = gc::plan(layout, &graph, &policy, self.host.now()).expect("a plan");
        let foretold = plan.totals.clone();
        let before = self.used();
        let report = self.execute(&graph, plan);
        assert_eq!(report.failures, []);
        assert_eq!(
            report.removed, foretold,
            "the dry run and the run: {report:?}"
        );
        assert_eq!(
            before - self.used(),
            foretold.freed,
            "what was foretold and what was freed"
        );
        if self.is_blocked() {
            assert_eq!(
                foretold.items, 0,
                "nothing goes while a writer's pins are not known"
            );
            return;
        }
        let kept = self.model.kept(stages, intermediates);
        self.model.retain(&kept);
        let again = gc::plan(
            self.store().layout(),
            &self.graph(),
            &policy,
            self.host.now(),
        );
        assert_eq!(
            again.expect("a plan").items,
            [],
            "pruning twice equals once"
        );
        self.check_accounts();
    }

    fn stopped_prune(&mut self, batches: usize) {
        let graph = self.graph();
        let (layout, catalog) = (self.store().layout(), self.store().catalog());
        let policy = policy(Scope::default());
        let plan = gc::plan(layout, &graph, &policy, self.host.now()).expect("a plan");
        let kept = self.model.kept(false, false);
        let mut left = batches;
        let report = gc::execute(
            layout,
            catalog,
            &graph,
            plan,
            &|| self.host.now(),
            &mut |_| {
                left = left.saturating_sub(1);
                left > 0
            },
        );
        assert_eq!(report.expect("a prune").failures, []);
        gc::finish(layout, catalog, self.host.now()).expect("what it left is ended");
        self.take_what_is_left(&kept);
    }

    fn remove(&mut self, name: &str) {
        let Some(digest) = self.model.tags.get(name).copied() else {
            return;
        };
        let graph = self.graph();
        let layout = self.store().layout();
        let removal = Removal {
            node: graph.find(&digest).expect("a tagged node"),
            name: Some(name.to_owned()),
        };
        let plan = gc::plan_removal(layout, &graph, &[removal], self.host.now()).expect("a plan");
        assert_eq!(self.execute(&graph, plan).failures, []);
        // Also while nothing else may go.
        self.model.tags.remove(name);
        let needed = self.model.rooted();
        self.take_what_is_left(&needed);
    }

    /// Where the model knows only what must be left and what may be, the disk says what is.
    fn take_what_is_left(&mut self, least: &Set) {
        let left = self.on_disk();
        let before = self.model.blobs();
        assert!(left.is_subset(&before), "blobs came from nowhere");
        let lost: Vec<&Digest> = least
            .intersection(&before)
            .filter(|d| !left.contains(*d))
            .collect();
        assert_eq!(lost, Vec::<&Digest>::new(), "what is needed has gone");
        self.model.retain(&left);
    }

    // -- other tools --------------------------------------------------------------------------

    fn foreign(&mut self, what: Foreign, layer: u8, name: Option<&str>) {
        let blobs = self.root().join("blobs/sha256");
        let (entry, digest) = match what {
            Foreign::Image => {
                let (manifest, digest, config, layers) = write_image(&blobs, layer);
                self.know_image(digest, config, layers, None, None);
                (manifest, digest)
            }
            Foreign::Index(a, b) => {
                let (Some(a), Some(b)) = (self.image(a), self.image(b)) else {
                    return;
                };
                let members = [a, b].map(|digest| self.descriptor(&digest));
                let index = json!({
                    "schemaVersion": 2, "mediaType": media::INDEX, "manifests": members,
                });
                let entry = write(&blobs, &index.to_string(), media::INDEX);
                let document = Document {
                    content: [a, b].into(),
                    members: [a, b].into(),
                    ..Document::default()
                };
                (entry.0, self.know(entry.1, document))
            }
            Foreign::Signature(subject) => {
                let Some(subject) = self.image(subject) else {
                    return;
                };
                let (text, _) = layer_of(layer);
                let empty = write(&blobs, "{}", "application/vnd.oci.empty.v1+json");
                let layer = write(
                    &blobs,
                    &format!("signature {}", text.digest),
                    "text/x-signature",
                );
                let manifest = json!({
                    "schemaVersion": 2, "mediaType": media::MANIFEST,
                    "artifactType": "application/x.signature",
                    "config": empty.0, "layers": [layer.0], "subject": self.descriptor(&subject),
                });
                let entry = write(&blobs, &manifest.to_string(), media::MANIFEST);
                self.model.leaves.extend([empty.1, layer.1]);
                let document = Document {
                    content: [empty.1, layer.1, subject].into(),
                    members: [subject].into(),
                    subject: Some(subject),
                    ..Document::default()
                };
                (entry.0, self.know(entry.1, document))
            }
        };
        match name {
            Some(name) => {
                self.change_index(name, Some(entry));
                self.model.tags.insert(name.to_owned(), digest);
            }
            None => self.change_index("", Some(entry)),
        }
    }

    fn know(&mut self, digest: Digest, document: Document) -> Digest {
        self.model.documents.insert(digest, document);
        digest
    }

    fn descriptor(&self, digest: &Digest) -> Value {
        let size = fs::metadata(self.root().join("blobs/sha256").join(digest.hex()));
        let size = size.expect("a blob").len();
        json!({ "mediaType": media::MANIFEST, "digest": digest, "size": size })
    }

    /// Takes a name out of index.json, and puts an entry in, as other tools do: no lock, a rename.
    fn change_index(&self, name: &str, entry: Option<Value>) {
        let path = self.root().join("index.json");
        let mut index: Value =
            serde_json::from_slice(&fs::read(&path).expect("index.json")).expect("JSON");
        let entries = index["manifests"].as_array_mut().expect("entries");
        if !name.is_empty() {
            entries.retain(|entry| entry["annotations"][REF_NAME] != name);
        }
        if let Some(mut entry) = entry {
            if !name.is_empty() {
                entry["annotations"] = json!({ REF_NAME: name });
            }
            entries.push(entry);
        }
        let temporary = self.root().join("rstore/another-tools-index");
        fs::write(&temporary, index.to_string()).expect("an index");
        fs::rename(&temporary, &path).expect("a rename");
    }

    // -- load and save ------------------------------------------------------------------------

    fn load(&mut self, layer: u8, name: &str) {
        let number = self.next();
        let other = self.directory.path().join(format!("other{number}"));
        let blobs = other.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("a layout");
        let (mut entry, digest, config, layers) = write_image(&blobs, layer);
        entry["annotations"] = json!({ REF_NAME: name });
        let index = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [entry] });
        fs::write(other.join("index.json"), index.to_string()).expect("index.json");
        fs::write(
            other.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .expect("a marker");
        let lease = self.store().lease("load", "").expect("a lease");
        let loaded = archive::load_path(&lease, &other, &LoadOptions::default()).expect("a load");
        assert_eq!(loaded[0].digest, digest);
        drop(lease);
        self.know_image(digest, config, layers, None, None);
        self.model.tags.insert(name.to_owned(), digest);
    }

    fn save(&mut self, name: &str) {
        let Some(digest) = self.model.tags.get(name).copied() else {
            return;
        };
        let number = self.next();
        let other = self.directory.path().join(format!("saved{number}"));
        let saved = Saved {
            digest,
            names: vec![name.to_owned()],
            annotations: BTreeMap::new(),
        };
        let package = Package::oci(self.store(), &[saved]).expect("a package");
        package
            .write_directory(self.store(), &other, &|| false)
            .expect("a layout");
        // It has all that the image needs, and what it has is whole.
        let written = whole_blobs(&other.join("blobs/sha256"));
        assert!(written.contains(&digest) && written.is_subset(&self.model.blobs()));
        let content = &self.model.documents[&digest].content;
        let missing: Vec<&Digest> = content.difference(&written).collect();
        assert!(
            missing.is_empty() || self.model.documents[&digest].subject.is_some(),
            "{missing:?}"
        );
        remove_tree(&other).expect("a directory");
    }

    // -- what must hold -----------------------------------------------------------------------

    fn on_disk(&self) -> Set {
        let entries = fs::read_dir(self.root().join("blobs/sha256")).expect("the blobs");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .map(|name| Digest::from_hex(name.to_str().expect("text")).expect("a digest"))
            .collect()
    }

    pub fn check(&self, operation: &Operation) {
        let disk = self.on_disk();
        let expected = self.model.blobs();
        let lost: Vec<&Digest> = expected.difference(&disk).collect();
        let left: Vec<&Digest> = disk.difference(&expected).collect();
        assert!(
            lost.is_empty() && left.is_empty(),
            "{operation:?}: lost {lost:?}, left over {left:?}"
        );
        let index = fs::read(self.root().join("index.json")).expect("index.json");
        let index: Value = serde_json::from_slice(&index).expect("JSON");
        let entries = index["manifests"].as_array().expect("entries").iter();
        let tags: BTreeMap<String, Digest> = entries
            .filter_map(|entry| {
                let name = entry["annotations"][REF_NAME].as_str()?;
                let digest = entry["digest"].as_str()?.parse().ok()?;
                Some((name.to_owned(), digest))
            })
            .collect();
        assert_eq!(tags, self.model.tags, "{operation:?}: names");
        let rooted = self.model.rooted();
        let missing: Vec<&Digest> = rooted.difference(&disk).collect();
        assert!(
            missing.is_empty(),
            "{operation:?}: what has a name needs {missing:?}"
        );
        for (digest, document) in &self.model.documents {
            let missing: Vec<&Digest> = document.content.difference(&disk).collect();
            assert!(
                missing.is_empty(),
                "{operation:?}: {digest} points at {missing:?}"
            );
        }
    }

    /// `df` is what `du` sees.
    fn check_accounts(&self) {
        let graph = self.graph();
        let usage = gc::usage(
            self.store().layout(),
            &graph,
            0,
            self.host.now(),
            gc::Detail::default(),
        )
        .expect("usage");
        let disk = allocated_tree(&self.root()).expect("a tree");
        assert_eq!(usage.total, disk, "df and du: {usage:#?}");
    }

    /// The last look: every blob is what its name says, and of a store that nobody uses and in
    /// which nothing has a name nothing is left.
    pub fn end(mut self) {
        whole_blobs(&self.root().join("blobs/sha256"));
        while !self.holders.is_empty() {
            self.release(0);
        }
        self.prune(true, true);
        self.check(&Operation::Prune {
            stages: true,
            intermediates: true,
        });
        let names: Vec<String> = self.model.tags.keys().cloned().collect();
        self.store().untag(&names).expect("all names go");
        self.model.tags.clear();
        for digest in std::mem::take(&mut self.model.pins) {
            self.pin(&digest, false);
        }
        self.prune(true, true);
        assert_eq!(self.on_disk(), Set::new());
    }
}

fn policy(scope: Scope) -> Policy {
    // Of files that another tool wrote a moment ago too.
    Policy {
        scope,
        grace: 0,
        ..Policy::default()
    }
}

fn name_of(number: u8) -> String {
    format!("name{number}:latest")
}

fn platform() -> Platform {
    Platform {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        variant: None,
    }
}

/// A layer, the same for the same number: an archive of one file.
fn layer_of(number: u8) -> (LayerBlob, Vec<u8>) {
    let content = vec![number; 100 + 3_000 * usize::from(number)];
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    let appended = builder.append_data(&mut header, format!("file{number}"), content.as_slice());
    appended.expect("a file");
    let bytes = builder.into_inner().expect("an archive");
    let digest = Digest::of(&bytes);
    let layer = LayerBlob {
        media_type: media::LAYER.to_owned(),
        digest,
        size: bytes.len() as u64,
        diff_id: digest,
        unpacked: Some(bytes.len() as u64),
    };
    (layer, bytes)
}

/// Writes a blob as other tools do. Returns its descriptor and its digest.
fn write(blobs: &Path, text: &str, media_type: &str) -> (Value, Digest) {
    write_bytes(blobs, text.as_bytes(), media_type)
}

fn write_bytes(blobs: &Path, bytes: &[u8], media_type: &str) -> (Value, Digest) {
    let digest = Digest::of(bytes);
    let temporary = blobs.parent().expect("blobs").join("another-tools-blob");
    fs::write(&temporary, bytes).expect("a blob");
    fs::rename(&temporary, blobs.join(digest.hex())).expect("a rename");
    (
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }),
        digest,
    )
}

/// Writes an image of one layer: its descriptor, its digest, its config's, its layers.
fn write_image(blobs: &Path, layer: u8) -> (Value, Digest, Digest, Vec<LayerBlob>) {
    let (layer, bytes) = layer_of(layer);
    let (layer_descriptor, _) = write_bytes(blobs, &bytes, media::LAYER);
    let config = json!({
        "architecture": "amd64", "os": "linux", "author": "another tool",
        "rootfs": { "type": "layers", "diff_ids": [layer.diff_id] },
    });
    let (config, config_digest) = write(blobs, &config.to_string(), media::CONFIG);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::MANIFEST,
        "config": config, "layers": [layer_descriptor],
    });
    let (manifest, digest) = write(blobs, &manifest.to_string(), media::MANIFEST);
    (manifest, digest, config_digest, vec![layer])
}

/// The blobs of a directory, each of which is what its name says.
fn whole_blobs(directory: &Path) -> Set {
    let entries = fs::read_dir(directory).expect("blobs");
    let whole = |path: PathBuf| {
        let digest = Digest::of(&fs::read(&path).expect("a blob"));
        assert_eq!(
            path.file_name().expect("a name").to_str(),
            Some(&*digest.hex())
        );
        digest
    };
    entries
        .map(|entry| whole(entry.expect("an entry").path()))
        .collect()
}

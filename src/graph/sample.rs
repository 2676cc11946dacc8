//! Graphs from letters, for tests:
//!
//! ```text
//! A->b,c    A is a manifest of layers b and c (and of a config of its own, named `A.`)
//! X->A,B    X is an index of A and B; indexes are the letters from U to Z
//! A^B       A was made from B             A&B    A copied from B
//! S=>A      S is an artifact whose subject is A
//! +A        tags A as `A`                 *A     pins A
//! A@7       A was last used at second 7 (all others at second 1)
//! !A        A cannot be read              ?A     A is absent
//! ```

use crate::catalog::blob::{BlobId, BlobKind, NewBlob};
use crate::catalog::image::ImageRow;
use crate::catalog::tags::IndexEntryRow;
use crate::catalog::{Catalog, Error, Writer};
use crate::oci::Digest;
use crate::oci::document::Role;

use super::{ImageGraph, NodeId, NodeSet, RootSet};

/// A graph, and the catalog that it is from.
pub(crate) struct Letters {
    pub graph: ImageGraph,
    _catalog: Catalog,
    _dir: tempfile::TempDir,
}

impl Letters {
    pub fn new(text: &str) -> Letters {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.db")).unwrap();
        catalog
            .write::<_, Error>(|tx| {
                record(tx, text)?;
                Ok(())
            })
            .unwrap();
        Letters {
            graph: ImageGraph::load(&catalog).unwrap(),
            _catalog: catalog,
            _dir: dir,
        }
    }

    /// The node of a letter.
    pub fn node(&self, name: &str) -> NodeId {
        self.graph.find(&Digest::of(name.as_bytes())).unwrap()
    }

    /// Tags and pins.
    pub fn roots(&self) -> RootSet {
        RootSet::of(&self.graph, |_| true)
    }

    /// The letters of a set, sorted, without those of configs.
    pub fn names(&self, set: &NodeSet) -> String {
        let letters = (b'A'..=b'Z')
            .chain(b'a'..=b'z')
            .map(|b| (b as char).to_string());
        let find = |name: &String| self.graph.find(&Digest::of(name.as_bytes()));
        letters
            .filter(|name| find(name).is_some_and(|node| set.contains(node)))
            .collect()
    }
}

fn record(tx: &Writer, text: &str) -> rusqlite::Result<()> {
    let mut tags = Vec::new();
    let words: Vec<&str> = text.split_whitespace().collect();
    for word in &words {
        if let Some((source, targets)) = word.split_once("->") {
            document(tx, source, targets)?;
        } else if let Some((source, subject)) = word.split_once("=>") {
            artifact(tx, source, subject)?;
        }
    }
    // Second, so that a parent or a tag may stand before what it is about.
    for word in words {
        if let Some((image, parent)) = word.split_once('^') {
            let (image, parent) = (blob(tx, image)?, blob(tx, parent)?);
            let row = tx.image(image)?.unwrap();
            tx.put_image(&ImageRow {
                parent: Some(parent),
                ..row
            })?;
        } else if let Some((image, second)) = word.split_once('@') {
            let second: crate::catalog::Millis = second.parse().unwrap();
            tx.touch_image(blob(tx, image)?, second * 1_000)?;
        } else if let Some((image, stage)) = word.split_once('&') {
            tx.put_stage_link(blob(tx, image)?, blob(tx, stage)?)?;
        } else if let Some(name) = word.strip_prefix('+') {
            tags.push(IndexEntryRow {
                blob: blob(tx, name)?,
                name: Some(name.to_owned()),
            });
        } else if let Some(name) = word.strip_prefix('*') {
            tx.pin(blob(tx, name)?, 1)?;
        } else if let Some(name) = word.strip_prefix('!') {
            let id = blob(tx, name)?;
            tx.put_edges(id, &[])?;
            tx.set_damage(id, Some("torn"))?;
        } else if let Some(name) = word.strip_prefix('?') {
            let id = blob(tx, name)?;
            tx.set_absent(id)?;
            tx.forget_document(id)?;
        }
    }
    tx.replace_index_entries(&tags)
}

fn kind(name: &str) -> BlobKind {
    match name.as_bytes() {
        [b'U'..=b'Z'] => BlobKind::Index,
        [b'A'..=b'Z'] => BlobKind::Manifest,
        [b'A'..=b'Z', b'.'] => BlobKind::Config,
        _ => BlobKind::Layer,
    }
}

fn blob(tx: &Writer, name: &str) -> rusqlite::Result<BlobId> {
    tx.put_blob(
        NewBlob {
            digest: Digest::of(name.as_bytes()),
            size: 10,
            allocated: 4096,
            kind: kind(name),
            media_type: "",
            ours: true,
            boot: "",
        },
        1_000,
    )
}

fn document(tx: &Writer, source: &str, targets: &str) -> rusqlite::Result<()> {
    let id = blob(tx, source)?;
    let index = kind(source) == BlobKind::Index;
    let role = if index { Role::Child } else { Role::Layer };
    let mut edges = Vec::new();
    if !index {
        edges.push((blob(tx, &format!("{source}."))?, Role::Config));
    }
    for target in targets.split(',').filter(|target| !target.is_empty()) {
        edges.push((blob(tx, target)?, role));
    }
    tx.put_edges(id, &edges)?;
    if !index {
        image(tx, id, edges[0].0)?;
    }
    Ok(())
}

fn image(tx: &Writer, manifest: BlobId, config: BlobId) -> rusqlite::Result<()> {
    tx.put_image(&ImageRow {
        manifest,
        config,
        parent: None,
        step: None,
        created: None,
        platform: "linux/amd64".to_owned(),
        size: 30,
        labels: "{}".to_owned(),
        first_seen: 1_000,
        last_used: 1_000,
    })
}

fn artifact(tx: &Writer, source: &str, subject: &str) -> rusqlite::Result<()> {
    let id = blob(tx, source)?;
    let config = blob(tx, &format!("{source}."))?;
    let subject = blob(tx, subject)?;
    tx.put_edges(id, &[(config, Role::Config), (subject, Role::Subject)])
}

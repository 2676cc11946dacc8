//! Tags: where durability is paid.
//!
//! Before a name appears in `index.json`, all that it reaches is on the disk: each blob that isn't
//! known to be is fsynced, or the whole file system at once where there are many; then the
//! directory; then the index. A crash at any point leaves the old index, or the new one with
//! everything behind it.

use super::{Error, Lease, Result, Store};
use crate::catalog::blob::BlobId;
use crate::catalog::journal::{JournalEntry, JournalItem, Particulars};
use crate::catalog::{self, BlobRow, WriteError, sync};
use crate::layout::{Entry, Index};
use crate::oci::{Digest, Reference};

/// From how many files on one syncfs is cheaper than an fsync each.
const MANY: usize = 8;

impl Store {
    /// The names under which `text` is stored: the familiar form of an image name.
    pub fn tag_name(text: &str) -> Result<String> {
        let reference: Reference = text.parse()?;
        if reference.path == "library/sha256" && text.starts_with("sha256:") {
            return Err(crate::oci::reference::ParseReferenceError {
                text: text.to_owned(),
                why: "it would be taken for a digest".to_owned(),
            }
            .into());
        }
        if reference.digest.is_some() {
            return Err(crate::oci::reference::ParseReferenceError {
                text: text.to_owned(),
                why: "a tag cannot name a digest".to_owned(),
            }
            .into());
        }
        Ok(reference.familiar())
    }

    /// Takes tags away. Returns what each pointed at; an unknown one is an error, and then none goes.
    pub fn untag(&self, names: &[String]) -> Result<Vec<Digest>> {
        let mut before = Vec::new();
        self.change_index("untag", names, |index, gone| {
            for name in names {
                let digest = index.untag(name).ok_or_else(|| Error::UnknownImage {
                    name: name.clone(),
                    nearest: None,
                })?;
                before.push(digest);
                gone.push(taken_away(name, digest, "untagged"));
            }
            Ok(())
        })?;
        Ok(before)
    }

    /// Changes `index.json` under the lock, and the catalog's mirror of it with it.
    fn change_index(
        &self,
        operation: &str,
        names: &[String],
        change: impl FnOnce(&mut Index, &mut Vec<JournalItem>) -> Result<()>,
    ) -> Result<()> {
        let now = self.now();
        let mut gone = Vec::new();
        let lock = self.layout().lock_index()?;
        let mut index = self.layout().index()?;
        change(&mut index, &mut gone)?;
        self.layout().write_index(&index, &lock)?;
        self.write(|tx| {
            sync::take_index(tx, self.layout(), now).map_err(|error| match error {
                WriteError::Sqlite(error) => WriteError::Sqlite(error),
                WriteError::Caller(error) => WriteError::Caller(error.into()),
            })?;
            for name in names {
                let subject = name.clone();
                let operation = operation.to_owned();
                let (mine, others) = gone.into_iter().partition(|item| item.label == *name);
                gone = others;
                let entries = index.entries().iter();
                let there = entries.filter(|entry| entry.name() == Some(name));
                let now_there = there.map(|entry| entry.descriptor.digest).next();
                let detail = detail(&mine, now_there);
                let entry = JournalEntry {
                    time: now,
                    operation,
                    subject,
                    bytes: 0,
                    detail,
                };
                let more = Particulars {
                    digest: now_there,
                    items: mine,
                    ..Particulars::default()
                };
                tx.note_with(&entry, more)?;
            }
            Ok(())
        })
    }

    /// Makes a missing `index.json` again from what the catalog remembers of it. `None`: it is
    /// there, or the catalog does not know, and then reading it will say so.
    pub(super) fn restore_index(&self) -> Result<Option<usize>> {
        let missing = || {
            self.layout()
                .index_signature()
                .map(|s| s == Default::default())
        };
        if !missing()? || !sync::is_built(self.catalog())? {
            return Ok(None);
        }
        let lock = self.layout().lock_index()?;
        if !missing()? {
            return Ok(None);
        }
        let names = catalog::tags::mirror(self.catalog())?;
        let entries = sync::restore_index(self.layout(), &names, &lock)?;
        Ok(Some(entries))
    }

    /// Every blob that `root` reaches by its documents, `root` included.
    fn reach(&self, root: &Digest) -> Result<Vec<BlobRow>> {
        let reached = self.catalog().read(|tx| {
            let mut reached: Vec<BlobRow> = Vec::new();
            let mut seen = hashbrown::HashSet::new();
            let mut pending: Vec<i64> = tx.blob(root)?.map(|row| row.id).into_iter().collect();
            while let Some(id) = pending.pop() {
                if !seen.insert(id) {
                    continue;
                }
                reached.extend(tx.blob_by_id(id)?);
                pending.extend(tx.edges_from(id)?.iter().map(|edge| edge.target));
            }
            Ok(reached)
        })?;
        Ok(reached)
    }

    /// The number of the document that a name stands for, if it is this one and all that it reaches
    /// is here, on the disk for good, and nobody's to remove.
    pub fn stands_for(&self, name: &str, digest: &Digest) -> Result<Option<BlobId>> {
        let tagged = self.catalog().read(|tx| tx.tag(name))?;
        if tagged.is_none_or(|(tagged, _)| tagged != *digest) {
            return Ok(None);
        }
        let reached = self.reach(digest)?;
        for row in &reached {
            let stat = self.layout().blobs().stat(&row.digest)?;
            let whole = stat.is_some_and(|stat| stat.size == row.size);
            if !whole || !row.is_usable() || !row.boot.is_empty() || row.damage.is_some() {
                return Ok(None);
            }
        }
        Ok(reached.first().map(|row| row.id))
    }

    /// Puts all that `root` reaches on the disk for good.
    pub(super) fn make_durable(&self, root: &Digest) -> Result<()> {
        let reached = self.reach(root)?;
        for row in reached.iter().filter(|row| row.present) {
            if self.layout().blobs().stat(&row.digest)?.is_none() {
                return Err(crate::layout::blobs::Error::Missing { digest: row.digest }.into());
            }
        }
        let pending: Vec<BlobRow> = reached
            .into_iter()
            .filter(|row| row.present && !row.boot.is_empty())
            .collect();
        if pending.is_empty() {
            return Ok(());
        }
        let blobs = self.layout().blobs();
        for row in pending
            .iter()
            .filter(|row| row.ours && row.boot != self.host().boot())
        {
            // Written before an unclean stop: what is torn must not get a name.
            blobs.verify(&row.digest)?;
        }
        if pending.len() > MANY {
            blobs.sync_file_system()?;
        } else {
            pending.iter().try_for_each(|row| blobs.sync(&row.digest))?;
            blobs.sync_directory()?;
        }
        self.write(|tx| Ok(pending.iter().try_for_each(|row| tx.set_durable(row.id))?))
    }
}

/// A name that an image has lost.
fn taken_away(name: &str, digest: Digest, reason: &str) -> JournalItem {
    JournalItem {
        kind: "tag".to_owned(),
        label: name.to_owned(),
        digest: Some(digest),
        names: Vec::new(),
        bytes: 0,
        reason: reason.to_owned(),
        step: None,
    }
}

/// What became of a name, in words.
fn detail(gone: &[JournalItem], now: Option<Digest>) -> String {
    let before = gone.iter().find_map(|item| item.digest);
    match (before, now) {
        (Some(before), Some(now)) => format!("now {}, before {}", now.short(), before.short()),
        (Some(before), None) => format!("was {}", before.short()),
        (None, Some(now)) => now.short(),
        (None, None) => String::new(),
    }
}

impl Lease<'_> {
    /// Points tags (in their stored form, see [`Store::tag_name`]) at a manifest or an index that
    /// this lease has pinned.
    pub fn tag(&self, names: &[String], digest: &Digest) -> Result<()> {
        let store = self.store();
        let row = self.pin_root(digest)?;
        store.make_durable(digest)?;
        // Somebody else may have changed the index since this store was opened.
        sync::index(store.catalog(), store.layout(), store.now())?;
        let there = store.catalog().read(|tx| {
            names
                .iter()
                .map(|name| tx.tag(name))
                .collect::<std::result::Result<Vec<_>, _>>()
        })?;
        // A build that changed nothing writes nothing: the names are where they should be.
        if there
            .iter()
            .all(|tag| tag.as_ref().is_some_and(|(tagged, _)| tagged == digest))
        {
            return Ok(());
        }
        let media_type = store.media_type_of(&row)?;
        let entry = Entry::new(&media_type, *digest, row.size);
        let entries: Vec<_> = names
            .iter()
            .map(|name| (Some(name.clone()), entry.clone()))
            .collect();
        self.enter(&entries)
    }

    /// Takes entries of another index into ours, each under its new name or none, all at once.
    /// What they point at is in the store, and pinned by this lease.
    pub fn enter(&self, entries: &[(Option<String>, Entry)]) -> Result<()> {
        let store = self.store();
        for (_, entry) in entries {
            self.pin_root(&entry.descriptor.digest)?;
            store.make_durable(&entry.descriptor.digest)?;
        }
        let names: Vec<String> = entries
            .iter()
            .filter_map(|(name, _)| name.clone())
            .collect();
        store.change_index("tag", &names, |index, gone| {
            for (name, entry) in entries {
                let before = index.enter(name.as_deref(), entry);
                if let (Some(name), Some(digest)) = (name, before)
                    && digest != entry.descriptor.digest
                {
                    gone.push(taken_away(
                        name,
                        digest,
                        "its name was given to another image",
                    ));
                }
            }
            Ok(())
        })
    }

    /// Pins a document that is about to be named.
    fn pin_root(&self, digest: &Digest) -> Result<BlobRow> {
        let store = self.store();
        let Some(row) = store.present(digest)? else {
            return Err(crate::layout::blobs::Error::Missing { digest: *digest }.into());
        };
        let now = store.now();
        store.write(|tx| {
            tx.lease_blob(self.id(), row.id)?;
            tx.touch_image(row.id, now)?;
            Ok(())
        })?;
        Ok(row)
    }
}

impl Store {
    /// The media type to write into a descriptor of a stored document.
    fn media_type_of(&self, row: &BlobRow) -> Result<String> {
        use crate::oci::document::{self, Document, INDEX_LIMIT};
        use crate::oci::media;
        let bytes = self.layout().blobs().read(&row.digest, INDEX_LIMIT)?;
        let document = document::parse(&bytes, "").map_err(|source| Error::Document {
            digest: row.digest,
            source,
        })?;
        match document {
            Document::Manifest(m) => Ok(m.media_type.unwrap_or_else(|| media::MANIFEST.to_owned())),
            Document::Index(i) => Ok(i.media_type.unwrap_or_else(|| media::INDEX.to_owned())),
            Document::Other(_) | Document::Leaf => Err(Error::NotAnImage {
                what: row.digest.to_string(),
                why: "it is neither a manifest nor an index".to_owned(),
            }),
        }
    }
}

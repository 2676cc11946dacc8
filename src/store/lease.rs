//! A lease: what one writer is using, for as long as it lives.
//!
//! ```text
//! leases/.ID.tmp  created, locked ──rename──▶ leases/ID ──▶ row in `lease`
//! ```
//! The file is locked before it has its name, so that whoever can take the lock of `leases/ID`
//! knows that its owner is dead; and it goes before its row does. What the owner makes outside of `blobs/` is named after the ID:
//! `ingest/ID-1`, `snapshots/ID-2`, `containers/…` by its row.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashSet;

use super::{Result, Store};
use crate::catalog::Millis;
use crate::catalog::blob::BlobId;
use crate::catalog::journal::{JournalEntry, Particulars};
use crate::catalog::lease::LeaseRow;
use crate::fsutil;
use crate::layout::Ingest;
use crate::lock::FileLock;
use crate::oci::Digest;

/// A live lease. Dropped, it ends, and what it pinned is for the next prune to judge.
#[derive(Debug)]
pub struct Lease<'s> {
    store: &'s Store,
    id: String,
    began: Millis,
    /// The newest blob of then: what the owner adds has a higher number.
    newest: BlobId,
    lock: Option<FileLock>,
    names: AtomicU64,
    /// Directories of ours that no row has: they go with the lease.
    scratch: Mutex<Vec<PathBuf>>,
    /// Blobs that this lease pins, itself or by what it pins, and has found whole.
    trusted: Mutex<HashSet<Digest>>,
}

impl Store {
    /// Begins a lease of a kind (`build`, `load`, …); `detail` says in words what it is for.
    pub fn lease(&self, kind: &str, detail: &str) -> Result<Lease<'_>> {
        let (id, lock) = self.lock_lease()?;
        let lease = Lease {
            store: self,
            id,
            began: self.now(),
            newest: self.catalog.read(|tx| tx.high_water())?.blob,
            lock: Some(lock),
            names: AtomicU64::new(0),
            scratch: Mutex::default(),
            trusted: Mutex::default(),
        };
        let row = LeaseRow {
            id: lease.id.clone(),
            kind: kind.to_owned(),
            detail: detail.to_owned(),
            process: std::process::id(),
            started: lease.began,
        };
        self.write(|tx| Ok(tx.put_lease(&row)?))?;
        Ok(lease)
    }
}

impl Store {
    /// Makes and locks the file of a new lease.
    fn lock_lease(&self) -> Result<(String, FileLock)> {
        let directory = self.private("leases");
        loop {
            let id = hex(&self.host.random()[..8]);
            let temporary = directory.join(format!(".{id}.tmp"));
            let lock = FileLock::exclusive(&temporary)?;
            match fs::rename(&temporary, directory.join(&id)) {
                Ok(()) => return Ok((id, lock)),
                // A prune took the file for a dead one's before it was locked: make another.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(fsutil::Error::new("rename", temporary, error).into()),
            }
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl<'s> Lease<'s> {
    /// The store.
    pub fn store(&self) -> &'s Store {
        self.store
    }

    /// Puts into the journal what was done under this lease: `operation` to `subject`, how in
    /// words, and what more there is to say. How long it took, and how many bytes it has added to
    /// the store, are the lease's to know.
    pub fn note(
        &self,
        operation: &str,
        subject: &str,
        detail: String,
        more: Particulars,
    ) -> Result<()> {
        let (entry, more) = self.journal_entry(operation, subject, detail, more)?;
        self.store.write(|tx| Ok(tx.note_with(&entry, more)?))
    }

    /// The same for whoever writes it in a transaction of his own.
    pub fn journal_entry(
        &self,
        operation: &str,
        subject: &str,
        detail: String,
        more: Particulars,
    ) -> Result<(JournalEntry, Particulars)> {
        let time = self.store.now();
        let added = self
            .store
            .catalog
            .read(|tx| tx.leased_since(&self.id, self.newest))?;
        let entry = JournalEntry {
            time,
            operation: operation.to_owned(),
            subject: subject.to_owned(),
            bytes: added,
            detail,
        };
        let took = u64::try_from(time.saturating_sub(self.began)).ok();
        let more = Particulars {
            milliseconds: more.milliseconds.or(took),
            ..more
        };
        Ok((entry, more))
    }

    /// Its ID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A file or directory name that nobody else uses, and that names its owner.
    pub fn unique_name(&self) -> String {
        format!("{}-{}", self.id, self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// A new directory name below `rstore/snapshots`, which goes with the lease unless it is
    /// recorded as a snapshot.
    pub(super) fn scratch_directory(&self) -> PathBuf {
        let path = self.store.private("snapshots").join(self.unique_name());
        self.scratch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(path.clone());
        path
    }

    /// A new directory name of our own, which goes with the lease.
    pub fn scratch(&self) -> PathBuf {
        self.scratch_directory()
    }

    /// Says that a directory has a row, and stays.
    pub(super) fn keep_directory(&self, path: &Path) {
        self.scratch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|other| other != path);
    }

    pub(super) fn trusted(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.trusted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a blob.
    pub fn ingest(&self) -> Result<Ingest> {
        Ok(self.store.layout.blobs().ingest(&self.unique_name())?)
    }

    /// Ends the lease and says whether that worked; dropping it does the same in silence.
    pub fn end(mut self) -> Result<()> {
        self.finish()
    }

    /// Ends the lease of a command that has written much to the catalog and waited for the disk
    /// anyhow: the log is moved into the catalog's file before, and begun anew by the end of the
    /// lease. Commands that come after open the store faster.
    pub fn end_and_fold(self) -> Result<()> {
        self.store.catalog.fold_long_log(0)?;
        self.end()
    }

    fn finish(&mut self) -> Result<()> {
        let Some(lock) = self.lock.take() else {
            return Ok(());
        };
        let scratch = self
            .scratch
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        // On a full or a broken disk each of these may fail, and the others still be done: a row
        // without a file is a dead lease's.
        let mut trees = Ok(());
        for directory in scratch.drain(..) {
            trees = trees.and(fsutil::remove_tree(&directory));
        }
        // The file goes first: locked and without a row it would look like that of a writer whose
        // pins were in a catalog that was lost, for whose sake nothing is removed.
        let removed = fsutil::remove_file(&self.store.private("leases").join(&self.id));
        let ended = self.store.last_write(|tx| Ok(tx.end_lease(&self.id)?));
        drop(lock);
        trees?;
        removed?;
        ended
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // Whatever fails here, the lock goes with the process, and the next writer reaps the rest.
        let _ = self.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::catalog::{Catalog, WriteError};
    use crate::gc::roots::LeaseFiles;
    use crate::graph::ImageGraph;
    use crate::store::{Host, OpenMode};

    struct TestHost;

    impl Host for TestHost {
        fn now(&self) -> Millis {
            1_000
        }

        fn random(&self) -> [u8; 16] {
            [7; 16]
        }

        fn boot(&self) -> &str {
            "boot"
        }

        fn owners(&self) -> &str {
            "host"
        }
    }

    /// It would be taken for one whose pins were in a catalog that was lost, where the lease is as
    /// old as the catalog, and nothing could be removed at that moment.
    #[test]
    fn a_lease_that_ends_is_at_no_moment_locked_and_without_a_row() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), OpenMode::Create, Arc::new(TestHost)).unwrap();
        let lease = store.lease("build", "").unwrap();
        let file = store.private("leases").join(lease.id());
        let other = Catalog::open(&store.private("catalog.db")).unwrap();
        std::thread::scope(|scope| {
            // No row goes while this transaction lasts.
            let body = |_: &crate::catalog::Writer| {
                scope.spawn(|| lease.end().unwrap());
                let began = Instant::now();
                while file.exists() && began.elapsed() < Duration::from_secs(4) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok::<_, WriteError<crate::catalog::Error>>(())
            };
            other.write(body).unwrap();
            assert!(!file.exists(), "the file waits for the row");
        });
        let graph = ImageGraph::load(&other).unwrap();
        let files = LeaseFiles::probe(store.layout()).unwrap();
        let roots = crate::gc::roots::collect(&graph, &files);
        assert!(roots.unknown.is_empty() && roots.dead.is_empty());
        assert_eq!(graph.leases(), []);
    }
}

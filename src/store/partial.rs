//! Blobs that arrive piece by piece, and may go on arriving when another process takes over.
//!
//! ```text
//! leases/blob-HEX           locked by the one who fetches it; others wait, and then find the blob
//! ingest/LEASE-partial-HEX ── whole and verified ──▶ blobs/sha256/HEX
//!        └─ LEASE ends: the next who wants HEX renames it to a name of its own, and goes on
//! ```
//! What nobody takes over a prune removes, once it is past the grace. Nothing of it is believed:
//! who goes on hashes what is there. Who fails gives the lock back at once, however long his lease
//! lives: the next one begins with a file of his own. A thread that nobody waits for any more keeps
//! the lock until it has ended ([`Partial::held`]), so that no two write to one file.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Lease, Result, StepLock};
use crate::catalog::BlobKind;
use crate::fsutil::{self, IoContext};
use crate::gc::{debris, roots};
use crate::layout::Ingest;
use crate::oci::Digest;

/// A blob of which not all is here, and which nobody else fetches meanwhile.
#[derive(Debug)]
pub struct Partial {
    digest: Digest,
    path: PathBuf,
    turn: Arc<StepLock>,
}

/// Kept by whoever writes to the file of a [`Partial`]: until all of them are gone, nobody else
/// fetches the blob.
#[derive(Debug, Clone)]
pub struct Held(
    #[expect(dead_code, reason = "it is kept, and nothing is asked of it")] Arc<StepLock>,
);

/// A blob whose bytes have been put on the disk before it was published, or beside that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The blob.
    pub digest: Digest,
    /// The inode of its file.
    pub inode: u64,
}

impl Lease<'_> {
    /// The place for a blob that is to arrive, perhaps with what somebody who has ended has left.
    /// `None`: somebody else, in this process or another, is fetching it. Who has had to wait looks
    /// for the blob before he fetches it.
    pub fn partial(&self, digest: &Digest) -> Result<Option<Partial>> {
        let Some(turn) = self.try_turn(roots::BLOB_LOCK, digest)? else {
            return Ok(None);
        };
        let directory = self.store().private("ingest");
        let ending = format!("{}{}", debris::PARTIAL, digest.hex());
        let path = directory.join(format!("{}{ending}", self.id()));
        let entries = fs::read_dir(&directory).at("read", &directory)?;
        for entry in entries {
            let name = entry.at("read", &directory)?.file_name();
            let name = name.to_string_lossy();
            let Some(owner) = name.strip_suffix(&ending) else {
                continue;
            };
            if owner == self.id() || roots::is_alive_now(self.store().layout(), owner)? {
                continue;
            }
            match fs::rename(directory.join(&*name), &path) {
                Ok(()) => break,
                // A prune was faster.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(fsutil::Error::new("rename", &path, error).into()),
            }
        }
        Ok(Some(Partial {
            digest: *digest,
            path,
            turn: Arc::new(turn),
        }))
    }

    /// Publishes a blob that has arrived whole and verified.
    pub fn publish_partial(
        &self,
        partial: Partial,
        size: u64,
        kind: BlobKind,
        media_type: &str,
    ) -> Result<()> {
        let digest = partial.digest;
        self.arrived(partial, |ingest| {
            self.publish_blob(ingest, &digest, size, kind, media_type)
        })
    }

    /// Has what has arrived whole and verified published by `publish`; then whoever waits for it
    /// finds it.
    pub(super) fn arrived<T>(
        &self,
        partial: Partial,
        publish: impl FnOnce(Ingest) -> Result<T>,
    ) -> Result<T> {
        let ingest = self.store().layout().blobs().take_over(partial.path)?;
        let published = publish(ingest);
        drop(partial.turn);
        published
    }

    /// A file for what arrives and is not to stay, which goes with the lease at the latest.
    pub fn passing_file(&self) -> PathBuf {
        self.store().private("ingest").join(self.unique_name())
    }

    /// Leaves what is here to this lease, and to whoever wants it once that has ended; a file with
    /// nothing in it goes.
    pub fn leave_partial(&self, partial: Partial) -> Result<()> {
        if partial.length() == 0 {
            fsutil::remove_file(&partial.path)?;
        }
        Ok(())
    }

    /// Removes what is here of a blob that is in the store.
    pub fn forget_partial(&self, partial: Partial) -> Result<()> {
        fsutil::remove_file(&partial.path)?;
        Ok(())
    }

    /// Records that the bytes of published blobs are on the disk, and makes their names last. A
    /// blob that another file stands for, which somebody else has published, is left as it is.
    pub fn settle(&self, blobs: &[Settled]) -> Result<()> {
        let store = self.store();
        let mut ours = Vec::new();
        for settled in blobs {
            let stat = store.layout().blobs().stat(&settled.digest)?;
            if stat.is_some_and(|stat| stat.inode == settled.inode) {
                ours.push(settled.digest);
            }
        }
        if ours.is_empty() {
            return Ok(());
        }
        store.layout().blobs().sync_directory()?;
        store.write(|tx| {
            for digest in &ours {
                if let Some(row) = tx.blob(digest)? {
                    tx.set_durable(row.id)?;
                }
            }
            Ok(())
        })
    }
}

impl Settled {
    /// Puts a file of a blob on the disk, however long that takes.
    pub fn by_sync(digest: Digest, file: &fs::File) -> std::io::Result<Settled> {
        file.sync_data()?;
        let inode = file.metadata()?.ino();
        Ok(Settled { digest, inode })
    }
}

impl Partial {
    /// Where it is, or will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For a thread that writes to it.
    pub fn held(&self) -> Held {
        Held(Arc::clone(&self.turn))
    }

    /// Bytes that are here.
    pub fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;
    use crate::catalog::Millis;
    use crate::store::{Host, OpenMode, Store};

    #[derive(Default)]
    struct TestHost(AtomicU8);

    impl Host for TestHost {
        fn now(&self) -> Millis {
            1_000
        }

        fn random(&self) -> [u8; 16] {
            [self.0.fetch_add(1, Ordering::Relaxed); 16]
        }

        fn boot(&self) -> &str {
            "boot"
        }

        fn owners(&self) -> &str {
            "host"
        }
    }

    /// A build that has asked a cache in vain may go on for an hour, and a pull waits for whoever
    /// is fetching.
    #[test]
    fn who_has_failed_to_fetch_a_blob_keeps_nobody_from_it() {
        let directory = tempfile::tempdir().unwrap();
        let host = Arc::new(TestHost::default());
        let store = Store::open(directory.path(), OpenMode::Create, host).unwrap();
        let (build, pull) = (
            store.lease("build", "").unwrap(),
            store.lease("pull", "").unwrap(),
        );
        let digest = Digest::of(b"blob");
        let partial = build.partial(&digest).unwrap().unwrap();
        fs::write(partial.path(), "bl").unwrap();
        assert!(pull.partial(&digest).unwrap().is_none());
        build.leave_partial(partial).unwrap();
        // With a file of its own: the other one's lease lives.
        let own = pull.partial(&digest).unwrap().unwrap();
        assert_eq!(own.length(), 0);
        pull.leave_partial(own).unwrap();
        let again = build.partial(&digest).unwrap().unwrap();
        assert_eq!(again.length(), 2);
        // A thread that nobody waits for may still write.
        let held = again.held();
        build.leave_partial(again).unwrap();
        assert!(pull.partial(&digest).unwrap().is_none());
        assert!(build.partial(&digest).unwrap().is_none());
        drop(held);
        build.end().unwrap();
        let taken_over = pull.partial(&digest).unwrap().unwrap();
        assert_eq!(taken_over.length(), 2);
        pull.forget_partial(taken_over).unwrap();
        pull.end().unwrap();
        let left = fs::read_dir(store.private("leases")).unwrap().count();
        assert_eq!(left, 0);
    }
}

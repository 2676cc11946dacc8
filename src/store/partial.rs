//! Blobs that arrive piece by piece, and may go on arriving when another process takes over.
//!
//! ```text
//! leases/blob-HEX           locked by the one who fetches it; others wait, and then find the blob
//! ingest/LEASE-partial-HEX ── whole and verified ──▶ blobs/sha256/HEX
//!        └─ LEASE ends: the next who wants HEX renames it to a name of its own, and goes on
//! ```
//! What nobody takes over a prune removes, once it is past the grace. Nothing of it is believed:
//! who goes on hashes what is there. Who fails keeps the lock until the lease ends, since what is
//! here is nobody else's before that.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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
    turn: StepLock,
}

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
        let kept = self.turns().remove(digest);
        let turn = match kept {
            Some(turn) => Some(turn),
            None => self.try_turn(roots::BLOB_LOCK, digest)?,
        };
        let Some(turn) = turn else { return Ok(None) };
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
            turn,
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

    /// Leaves what is here to whoever wants it once this lease has ended; a file with nothing in it
    /// goes.
    pub fn leave_partial(&self, partial: Partial) -> Result<()> {
        if partial.length() == 0 {
            fsutil::remove_file(&partial.path)?;
        }
        self.turns().insert(partial.digest, partial.turn);
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

    /// Bytes that are here.
    pub fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }
}

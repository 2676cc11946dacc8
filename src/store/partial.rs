//! Blobs that arrive piece by piece, and may go on arriving when another process takes over.
//!
//! ```text
//! ingest/LEASE-partial-HEX ── whole and verified ──▶ blobs/sha256/HEX
//!        └─ LEASE ends: the next who wants HEX renames it to a name of its own, and goes on
//! ```
//! Whose lease is alive has it to himself. What nobody takes over a prune removes, once it is past
//! the grace. Nothing of it is believed: who goes on hashes what is there.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Lease, Result};
use crate::fsutil::{self, IoContext};
use crate::gc::{debris, roots};
use crate::layout::Ingest;
use crate::oci::Digest;

/// A blob of which not all is here.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
}

impl Lease<'_> {
    /// The place for a blob that is to arrive, perhaps with what somebody who has ended has left.
    /// No other of this lease may be for the same digest.
    pub fn partial(&self, digest: &Digest) -> Result<Partial> {
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
                // Somebody else was faster.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(fsutil::Error::new("rename", &path, error).into()),
            }
        }
        Ok(Partial { path })
    }

    /// A blob that has arrived whole, to be published.
    pub fn arrived(&self, partial: Partial) -> Result<Ingest> {
        Ok(self.store().layout().blobs().take_over(partial.path)?)
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

    /// Leaves what is here to whoever wants it next; a file with nothing in it goes.
    pub fn leave(self) -> Result<()> {
        if self.length() == 0 {
            fsutil::remove_file(&self.path)?;
        }
        Ok(())
    }
}

//! An OCI image layout directory as a source of blobs.
//!
//! It is somebody else's: nothing is written into it, and each blob is copied and verified on its
//! way into `ingest/`, so that it may change or vanish meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{Error, Problem, Result};
use super::members::DOCUMENT_LIMIT;
use super::oci::BlobSource;
use super::spool::{self, FileSource, Spooled};
use crate::fsutil::{self, IoContext};
use crate::oci::Digest;
use crate::store::Lease;

/// A layout directory.
#[derive(Debug)]
pub struct Directory<'l, 's> {
    root: PathBuf,
    lease: &'l Lease<'s>,
}

impl<'l, 's> Directory<'l, 's> {
    /// The layout in `root`.
    pub fn new(root: &Path, lease: &'l Lease<'s>) -> Directory<'l, 's> {
        Directory {
            root: root.to_path_buf(),
            lease,
        }
    }

    /// Its `oci-layout` and `index.json`.
    pub fn documents(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        if !fs::metadata(&self.root).at("open", &self.root)?.is_dir() {
            return Err(Error::NoImages {
                what: self.root.display().to_string(),
                why: "it is a file, and a layout is a directory (oci-archive: and docker-archive: are files)".to_owned(),
            });
        }
        let mut found = [Vec::new(), Vec::new()];
        for (name, bytes) in ["oci-layout", "index.json"].into_iter().zip(&mut found) {
            let Some(file) = self.open(name)? else {
                return Err(Error::NoImages {
                    what: self.root.display().to_string(),
                    why: format!("it has no {name}, as an OCI image layout must"),
                });
            };
            file.take(DOCUMENT_LIMIT + 1)
                .read_to_end(bytes)
                .at("read", self.root.join(name))?;
            let (size, limit) = (bytes.len() as u64, DOCUMENT_LIMIT);
            if size > limit {
                return Err(Error::member(name, Problem::TooLarge { size, limit }));
            }
        }
        let [layout, index] = found;
        Ok((layout, index))
    }

    /// The bytes of a document, not verified; `None`: there is none, or it is too large for one.
    pub fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let name = format!("blobs/sha256/{}", digest.hex());
        let Some(file) = self.open(&name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(DOCUMENT_LIMIT + 1)
            .read_to_end(&mut bytes)
            .at("read", self.root.join(&name))?;
        Ok((bytes.len() as u64 <= DOCUMENT_LIMIT).then_some(bytes))
    }

    /// A regular file of the layout; opening a pipe must not wait for its writer.
    fn open(&self, name: &str) -> Result<Option<File>> {
        let path = self.root.join(name);
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fsutil::Error::new("open", path, error).into()),
        };
        match file.metadata().at("stat", &path)?.is_file() {
            true => Ok(Some(file)),
            false => Err(Error::member(name, Problem::NotAFile)),
        }
    }
}

impl BlobSource for Directory<'_, '_> {
    fn take(&mut self, digest: &Digest) -> Result<Option<Spooled>> {
        let name = format!("blobs/sha256/{}", digest.hex());
        let Some(file) = self.open(&name)? else {
            return Ok(None);
        };
        let path = self.root.join(&name);
        let mut source = FileSource { file, path: &path };
        let spooled = spool::blob(self.lease, &mut source)?;
        if spooled.digest != *digest {
            let (expected, actual) = (*digest, spooled.digest);
            return Err(Error::member(name, Problem::Digest { expected, actual }));
        }
        Ok(Some(spooled))
    }
}

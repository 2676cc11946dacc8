//! `type=local`: a cache in an OCI image layout.
//!
//! ```text
//! DIR/oci-layout, index.json   an entry a tag; whatever others have put there stays
//!     index.json.lock          held (flock) while a cache is added
//!     blobs/sha256/…           written beside their names, fsynced, renamed
//! ```
//! A cache that takes another's tag takes its place: what only the old one had is removed, so that
//! a directory that every build writes to does not grow with each. Readers of the old one find
//! layers missing, and run those steps.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hashbrown::HashSet;

use super::{Around, LayerFile, Source, Wanted, Which, records};
use crate::fsutil::{self, IoContext};
use crate::layout::{Entry, Index, index};
use crate::lock::FileLock;
use crate::oci::digest::HashReader;
use crate::oci::document::{self, Descriptor, Document, MANIFEST_LIMIT};
use crate::oci::{Digest, media};
use crate::store::{self, Offered};

/// Bytes of `index.json` that are read.
const INDEX_LIMIT: u64 = 64 << 20;

/// Why a cache cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] fsutil::Error),
    /// Its index cannot be used.
    #[error(transparent)]
    Index(#[from] index::Error),
    /// It is something else.
    #[error("{} {why}", path.display())]
    NotACache {
        /// The directory.
        path: PathBuf,
        /// What it is.
        why: String,
    },
}

/// The blobs of a layout.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The layout at `root`.
    pub fn new(root: &Path) -> Directory {
        Directory {
            root: root.to_path_buf(),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// The verified bytes of a document of at most `limit` bytes; the error is in words.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, String> {
        let failed = |error: io::Error| format!("blob {digest} cannot be read: {error}");
        let Some(file) = open_file(&self.path(digest)).map_err(failed)? else {
            return Err(format!("blob {digest} is missing"));
        };
        let mut bytes = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > limit {
            return Err(format!("blob {digest} has more than {limit} bytes"));
        }
        if Digest::of(&bytes) != *digest {
            return Err(format!("blob {digest} has other bytes than its name says"));
        }
        Ok(bytes)
    }

    /// The manifest of the cache that is asked for, verified; the error says why there is none.
    pub fn manifest(&self, which: &Which) -> Result<Vec<u8>, String> {
        if !self.root.is_dir() {
            return Err("there is no such directory".to_owned());
        }
        let digest = match which {
            Which::Digest(digest) => *digest,
            Which::Tag(tag) => self.tagged(tag)?,
        };
        self.read(&digest, MANIFEST_LIMIT)
    }

    fn tagged(&self, tag: &str) -> Result<Digest, String> {
        let failed = |error: io::Error| format!("its index.json cannot be read: {error}");
        let Some(file) = open_file(&self.root.join("index.json")).map_err(failed)? else {
            return Err("it has no index.json".to_owned());
        };
        let mut bytes = Vec::new();
        file.take(INDEX_LIMIT)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let index =
            Index::parse(&bytes).map_err(|why| format!("its index.json is not valid: {why}"))?;
        let entry = index.entries().iter().find(|e| e.name() == Some(tag));
        match entry {
            Some(entry) => Ok(entry.descriptor.digest),
            None => Err(format!("it has no cache with the tag {tag:?}")),
        }
    }
}

/// A regular file; opening a pipe must not wait for its writer.
fn open_file(path: &Path) -> io::Result<Option<File>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    match opened {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::other("it is no file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// One of the caches in a layout.
#[derive(Debug)]
pub struct One {
    /// The layout.
    pub directory: Directory,
    /// Which.
    pub which: Which,
}

impl Source for One {
    fn manifest(&self) -> Result<Vec<u8>, String> {
        self.directory.manifest(&self.which)
    }

    fn records(&self, records: &Descriptor, _around: Around) -> Result<Vec<u8>, String> {
        self.directory.read(&records.digest, records::LIMIT)
    }

    fn take(&self, wanted: &[Wanted], around: Around) -> Result<Vec<Offered>, store::Error> {
        let mut offered = Vec::new();
        for Wanted { layer, step } in wanted {
            offered.push(match open_file(&self.directory.path(&layer.digest)) {
                Ok(Some(mut file)) => {
                    let step = step.as_deref();
                    around.lease.adopt_layer(layer, &mut file, step)?
                }
                Ok(None) => Offered::Refused("it is missing".to_owned()),
                Err(error) => Offered::Refused(format!("it cannot be read: {error}")),
            });
            if matches!(offered.last(), Some(Offered::Refused(_))) {
                break;
            }
        }
        Ok(offered)
    }

    fn copy(&self, layer: &Descriptor, _around: Around) -> Result<Option<LayerFile>, store::Error> {
        let path = self.directory.path(&layer.digest);
        let there = open_file(&path).is_ok_and(|file| file.is_some());
        Ok(there.then(|| LayerFile::lasting(path)))
    }
}

/// Removes what exports that were killed have left. Under the lock nobody writes such a file.
fn remove_temporary(blobs: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(blobs).at("read", blobs)? {
        let entry = entry.at("read", blobs)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let digest = name.strip_prefix('.').and_then(|n| n.strip_suffix(".tmp"));
        if digest.and_then(Digest::from_hex).is_some() {
            fsutil::remove_file(&entry.path())?;
        }
    }
    Ok(())
}

/// A layout to which a cache is being added, locked.
#[derive(Debug)]
pub struct Writer {
    directory: Directory,
    lock: FileLock,
}

impl Writer {
    /// Opens the layout at `root`; an absent or empty directory becomes one. Waits for another
    /// export to it.
    pub fn open(root: &Path) -> Result<Writer, Error> {
        let wrong = |why: &str| Error::NotACache {
            path: root.to_path_buf(),
            why: why.to_owned(),
        };
        if root.join("rstore").is_dir() {
            return Err(wrong("is a store; a cache has a directory of its own"));
        }
        fsutil::create_dir_all(root)?;
        let lock = FileLock::exclusive(&root.join("index.json.lock"))?;
        let marker = root.join("oci-layout");
        if !marker.exists() {
            for entry in fs::read_dir(root).at("read", root)? {
                let name = entry.at("read", root)?.file_name();
                let name = name.to_string_lossy();
                // What an interrupted export leaves, and CI services with their caches.
                let known = matches!(&*name, "blobs" | "index.json" | "index.json.lock")
                    || ["index.json", "oci-layout"]
                        .iter()
                        .any(|target| fsutil::is_temporary_sibling(&name, target));
                if !known {
                    return Err(wrong(&format!(
                        "has no oci-layout file, and is not empty ({name})"
                    )));
                }
            }
        }
        fsutil::create_dir_all(&root.join("blobs/sha256"))?;
        if !root.join("index.json").exists() {
            Index::empty().write(&root.join("index.json"), &lock)?;
        }
        if !marker.exists() {
            fsutil::atomic_replace(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        remove_temporary(&root.join("blobs/sha256"))?;
        Ok(Writer {
            directory: Directory::new(root),
            lock,
        })
    }

    /// Whether a blob of this size is there. Its bytes are not read: whoever reads them verifies.
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        fs::symlink_metadata(self.directory.path(digest))
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
    }

    /// Adds a blob. `false`: what `source` gives has another digest, and nothing was added.
    pub fn put(&self, digest: &Digest, source: &mut dyn Read) -> Result<bool, Error> {
        let path = self.directory.path(digest);
        let temporary = path.with_file_name(format!(".{}.tmp", digest.hex()));
        let written = (|| {
            let mut file = File::create(&temporary).at("create", &temporary)?;
            let mut source = HashReader::new(source);
            io::copy(&mut source, &mut file).at("write", &temporary)?;
            let (hasher, _) = source.into_parts();
            if hasher.finish() != *digest {
                return Ok(false);
            }
            file.sync_all().at("fsync", &temporary)?;
            fs::rename(&temporary, &path).at("rename", &temporary)?;
            Ok(true)
        })();
        if !matches!(written, Ok(true)) {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Adds a document. Returns its digest.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        // Small: written anew even where it is, so that a damaged one is made good.
        self.put(&digest, &mut io::Cursor::new(bytes))?;
        Ok(digest)
    }

    /// Gives a manifest its tag, and removes what only the cache that had it before needed.
    pub fn tag(self, tag: &str, manifest: &Digest, size: u64) -> Result<(), Error> {
        let root = &self.directory.root;
        fsutil::sync_dir(&root.join("blobs/sha256"))?;
        let path = root.join("index.json");
        let mut index = Index::read(&path)?;
        let same = |e: &Entry| e.name() == Some(tag) && e.descriptor.digest == *manifest;
        if index.entries().iter().any(same) {
            return Ok(());
        }
        let before = index.tag_artifact(tag, super::ARTIFACT, *manifest, size);
        index.write(&path, &self.lock)?;
        if let Some(before) = before.filter(|before| before != manifest) {
            self.remove_unneeded(&index, &before);
        }
        Ok(())
    }

    /// Removes the blobs of a cache that lost its tag, as far as nothing in the index needs them.
    /// If anything there cannot be understood, all stays.
    fn remove_unneeded(&self, index: &Index, before: &Digest) {
        let Ok(bytes) = self.directory.read(before, MANIFEST_LIMIT) else {
            return;
        };
        let Ok(old) = records::parse_manifest(&bytes) else {
            return;
        };
        let Some(needed) = self.reached(index) else {
            return;
        };
        let blobs = old.layers.iter().map(|layer| layer.digest);
        for digest in blobs.chain([old.config.digest, *before]) {
            if !needed.contains(&digest) {
                let _ = fs::remove_file(self.directory.path(&digest));
            }
        }
    }

    /// Everything that the index reaches; `None`: something cannot be read.
    fn reached(&self, index: &Index) -> Option<HashSet<Digest>> {
        let mut seen = HashSet::new();
        let mut pending: Vec<_> = index
            .entries()
            .iter()
            .map(|entry| entry.descriptor.clone())
            .collect();
        while let Some(descriptor) = pending.pop() {
            if !seen.insert(descriptor.digest) {
                continue;
            }
            let leaf = media::is_layer(&descriptor.media_type)
                || media::is_config(&descriptor.media_type)
                || descriptor.media_type == super::RECORDS;
            if leaf || !self.directory.path(&descriptor.digest).exists() {
                continue;
            }
            let known = media::is_manifest(&descriptor.media_type)
                || media::is_index(&descriptor.media_type);
            if !known && descriptor.size > MANIFEST_LIMIT {
                // A blob of a kind that is not known here, and too large for a document.
                continue;
            }
            let bytes = self
                .directory
                .read(&descriptor.digest, document::INDEX_LIMIT)
                .ok()?;
            let document = document::parse(&bytes, &descriptor.media_type).ok()?;
            if !matches!(document, Document::Leaf) {
                pending.extend(document.links().into_iter().map(|link| link.target));
            }
        }
        Some(seen)
    }
}

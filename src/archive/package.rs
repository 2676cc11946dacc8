//! Images, out: what an archive or a layout of them holds, and writing it.
//!
//! ```text
//! oci-layout, index.json      names → documents
//! manifest.json               docker's: config, names, layers           (docker-archive)
//! blobs/sha256/HEX            each once: documents, then what they reach
//! ```
//! A docker-archive is an OCI layout as well, as docker itself writes them since version 25 and
//! BuildKit does: readers of either kind find what they know, and those of the second kind get the
//! manifest byte for byte. What docker's older readers and skopeo cannot decompress (zstd) goes
//! uncompressed into it, and then the manifest is another one; the config, and with it the image's
//! ID, is the same.
//!
//! What is written is decided first ([`Package`]), from documents alone; then blobs are streamed
//! from the store and verified on the way. The same images give the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use hashbrown::HashSet;
use serde_json::{Value, json};

use super::error::{Error, Problem, Result};
use super::target::{Stop, Target};
use crate::fsutil::{self, IoContext};
use crate::layer::{self, Entry, Expected, Kind, TarWriter, read_archive};
use crate::layout::{self, Index};
use crate::lock::FileLock;
use crate::oci::digest::HashReader;
use crate::oci::document::{self, Document, INDEX_LIMIT, MANIFEST_LIMIT, Role};
use crate::oci::{Digest, Platform, media};
use crate::store::referrers::About;
use crate::store::{self, Image, Store};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 256 << 10;

/// What `oci-layout` says.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Something to save: a manifest or an index, with what it is to be called.
#[derive(Debug, Clone)]
pub struct Saved {
    /// The document.
    pub digest: Digest,
    /// Its names, in their stored form; none: it is in the archive without one.
    pub names: Vec<String>,
    /// What is said of it in the archive's index.
    pub annotations: BTreeMap<String, String>,
}

impl Saved {
    /// What is about an image that is called `image` in the archive.
    pub fn about(about: &About, image: Option<&str>) -> Saved {
        Saved {
            digest: about.digest,
            names: about.name_beside(image).into_iter().collect(),
            annotations: BTreeMap::new(),
        }
    }
}

/// All that is going to be written.
#[derive(Debug)]
pub struct Package {
    index: Index,
    /// `manifest.json`, of a docker-archive.
    manifest: Option<Vec<u8>>,
    blobs: Vec<(Digest, Content)>,
    seen: HashSet<Digest>,
}

/// Where a blob's bytes are.
#[derive(Debug)]
enum Content {
    /// Here.
    Bytes(Vec<u8>),
    /// In the store, as they are.
    Blob { size: u64 },
    /// In the store, compressed, in this blob.
    Inside {
        blob: Digest,
        compressed: u64,
        size: u64,
    },
}

impl Content {
    fn size(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Blob { size } | Content::Inside { size, .. } => *size,
        }
    }
}

impl Package {
    fn empty() -> Package {
        Package {
            index: Index::empty(),
            manifest: None,
            blobs: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Images as an OCI layout: documents and blobs as they are in the store, an index with all
    /// that it names.
    pub fn oci(store: &Store, saved: &[Saved]) -> Result<Package> {
        let mut package = Package::empty();
        for one in saved {
            let (media_type, size) = package.reach(store, &one.digest)?;
            package.enter(one, &media_type, one.digest, size);
        }
        Ok(package)
    }

    /// Images as a docker-archive. Each is the one for `platform` where an index is to be saved:
    /// docker has no archive of several platforms.
    pub fn docker(store: &Store, saved: &[Saved], platform: &Platform) -> Result<Package> {
        let mut package = Package::empty();
        let mut listed: Vec<Value> = Vec::new();
        for one in saved {
            let image = store.image_for(&one.digest, &one.digest.to_string(), platform)?;
            let (media_type, digest, size, layers) = package.image(store, &image)?;
            package.enter(one, &media_type, digest, size);
            let member = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
            let names: Vec<&String> = one
                .names
                .iter()
                .filter(|name| Store::tag_name(name).is_ok())
                .collect();
            listed.push(json!({
                "Config": member(&image.id()),
                "RepoTags": if names.is_empty() { Value::Null } else { json!(names) },
                "Layers": layers.iter().map(member).collect::<Vec<_>>(),
            }));
        }
        let bytes = serde_json::to_vec(&listed).expect("JSON values serialise");
        package.manifest = Some(bytes);
        Ok(package)
    }

    fn enter(&mut self, saved: &Saved, media_type: &str, digest: Digest, size: u64) {
        let entry = layout::Entry::new(media_type, digest, size).annotated(&saved.annotations);
        if saved.names.is_empty() {
            self.index.enter(None, &entry);
        }
        for name in &saved.names {
            self.index.enter(Some(name), &entry);
        }
    }

    fn add(&mut self, digest: Digest, content: Content) {
        if self.seen.insert(digest) {
            self.blobs.push((digest, content));
        }
    }

    /// Adds a document and all that it reaches. Returns its media type and size.
    fn reach(&mut self, store: &Store, root: &Digest) -> Result<(String, u64)> {
        let bytes = read(store, root, INDEX_LIMIT)?;
        let mut told = (String::new(), bytes.len() as u64);
        let mut pending = vec![(*root, String::new(), Some(bytes))];
        while let Some((digest, media_type, bytes)) = pending.pop() {
            if self.seen.contains(&digest) && digest != *root {
                continue;
            }
            let bytes = match bytes {
                Some(bytes) => bytes,
                None => read(store, &digest, INDEX_LIMIT)?,
            };
            let document = document::parse(&bytes, &media_type)
                .map_err(|source| store::Error::Document { digest, source })?;
            let own = match &document {
                Document::Manifest(manifest) => manifest.media_type.as_deref(),
                Document::Index(index) => index.media_type.as_deref(),
                Document::Other(_) | Document::Leaf => Some(media_type.as_str()),
            };
            if digest == *root {
                let default = match &document {
                    Document::Index(_) => media::INDEX,
                    _ => media::MANIFEST,
                };
                told.0 = own.unwrap_or(default).to_owned();
            }
            self.add(digest, Content::Bytes(bytes));
            let mut children = Vec::new();
            for link in document.links() {
                let target = link.target;
                match link.role {
                    Role::Config | Role::Layer => {
                        let size = target.size;
                        check(store, &target.digest, size)?;
                        self.add(target.digest, Content::Blob { size });
                    }
                    Role::Child => children.push((target.digest, target.media_type, None)),
                    // What a signature is about may be elsewhere, and so may what an unknown
                    // document mentions.
                    Role::Subject | Role::Other => {}
                }
            }
            pending.extend(children.into_iter().rev());
        }
        Ok(told)
    }

    /// Adds one image for docker. Returns its manifest's type, digest and size, and its layers.
    fn image(
        &mut self,
        store: &Store,
        image: &Image,
    ) -> Result<(String, Digest, u64, Vec<Digest>)> {
        let bytes = read(store, &image.digest, MANIFEST_LIMIT)?;
        let media_type = image.manifest.media_type.as_deref();
        let media_type = media_type.unwrap_or(media::MANIFEST).to_owned();
        let mut layers = Vec::new();
        let mut changed = Vec::new();
        let diff_ids = &image.config.rootfs.diff_ids;
        for (number, (layer, diff_id)) in image.manifest.layers.iter().zip(diff_ids).enumerate() {
            check(store, &layer.digest, layer.size)?;
            if is_dockers(&layer.media_type) {
                let size = layer.size;
                layers.push((layer.digest, Content::Blob { size }));
                continue;
            }
            let size = store.unpacked_size(layer, diff_id)?;
            let (blob, compressed) = (layer.digest, layer.size);
            let content = Content::Inside {
                blob,
                compressed,
                size,
            };
            layers.push((*diff_id, content));
            changed.push((number, *diff_id, size));
        }
        let bytes = match changed.is_empty() {
            true => bytes,
            false => with_layers(&bytes, &media_type, &changed),
        };
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        self.add(digest, Content::Bytes(bytes));
        let config = &image.manifest.config;
        check(store, &config.digest, config.size)?;
        self.add(config.digest, Content::Blob { size: config.size });
        let names = layers.iter().map(|(digest, _)| *digest).collect();
        for (digest, content) in layers {
            self.add(digest, content);
        }
        Ok((media_type, digest, size, names))
    }

    /// Writes it as one tar archive.
    pub fn write_tar(&self, store: &Store, mut target: Target) -> Result<()> {
        let shown = target.shown().to_path_buf();
        let failed = |error: layer::Error| Error::of_writing(error, &shown);
        let mut writer = TarWriter::new(BufWriter::with_capacity(BUFFER, &mut target));
        for directory in ["blobs", "blobs/sha256"] {
            let entry = Entry::new(directory, Kind::Directory, 0o755);
            writer.append(&entry, None).map_err(failed)?;
        }
        let index = self.index.to_bytes();
        let documents = [
            ("oci-layout", Some(LAYOUT)),
            ("index.json", Some(index.as_slice())),
            ("manifest.json", self.manifest.as_deref()),
        ];
        for (name, bytes) in documents {
            if let Some(mut bytes) = bytes {
                let entry = member(name, bytes.len() as u64);
                writer.append(&entry, Some(&mut bytes)).map_err(failed)?;
            }
        }
        for (digest, content) in &self.blobs {
            let entry = member(&format!("blobs/sha256/{}", digest.hex()), content.size());
            content.read(store, digest, &shown, &mut |bytes| {
                writer.append(&entry, Some(bytes))
            })?;
        }
        let mut out = writer.finish().map_err(failed)?;
        let flushed = out.flush();
        drop(out);
        flushed.map_err(|error| failed(layer::Error::Write(error)))?;
        target.finish()
    }

    /// Writes it into the directory `path`: a new one, an empty one, or a layout, which then has
    /// these images as well. If that fails, a directory that was not there is not there again, and
    /// a layout names what it named before.
    pub fn write_directory(&self, store: &Store, path: &Path, stop: Stop<'_>) -> Result<()> {
        let new = !path.exists();
        if !new {
            check_layout(path)?;
        }
        let written = self.fill(store, path, stop);
        if written.is_err() && new {
            // What failed is told; this is the best that can be done.
            let _ = fsutil::remove_tree(path);
        }
        written
    }

    fn fill(&self, store: &Store, path: &Path, stop: Stop<'_>) -> Result<()> {
        let blobs = path.join("blobs/sha256");
        fsutil::create_dir_all(&blobs)?;
        for (digest, content) in &self.blobs {
            let file = blobs.join(digest.hex());
            if is_whole(&file, digest)? {
                continue;
            }
            let mut target = Target::file(&file, stop)?;
            content.read(store, digest, &file, &mut |bytes| {
                std::io::copy(bytes, &mut target)
                    .map(drop)
                    .map_err(layer::Error::Write)
            })?;
            target.finish()?;
        }
        // A store of rstore's has a lock for what follows; other layouts have none.
        let lock = path.join("rstore/lock");
        let _lock = match lock.exists() {
            true => Some(FileLock::exclusive(&lock)?),
            false => None,
        };
        let index_path = path.join("index.json");
        let mut index = match index_path.exists() {
            true => Index::read(&index_path)
                .map_err(layout::Error::from)
                .map_err(store::Error::from)?,
            false => Index::empty(),
        };
        for entry in self.index.entries() {
            index.enter(entry.name(), entry);
        }
        fsutil::atomic_replace(&index_path, &index.to_bytes())?;
        let marker = path.join("oci-layout");
        if !marker.exists() {
            fsutil::atomic_replace(&marker, LAYOUT)?;
        }
        Ok(())
    }
}

impl Content {
    /// Lets `take` read the bytes, which are verified; what they are written to is called `shown`.
    fn read(
        &self,
        store: &Store,
        digest: &Digest,
        shown: &Path,
        take: &mut dyn FnMut(&mut dyn Read) -> layer::Result<()>,
    ) -> Result<()> {
        match self {
            Content::Bytes(bytes) => {
                take(&mut bytes.as_slice()).map_err(|error| Error::of_writing(error, shown))
            }
            Content::Blob { .. } => {
                let blobs = store.layout().blobs();
                let mut reader =
                    HashReader::new(blobs.open_unverified(digest).map_err(store::Error::from)?);
                let taken = take(&mut reader);
                let (hasher, _) = reader.into_parts();
                if let Err(layer::Error::Write(_)) = &taken {
                    return taken.map_err(|error| Error::of_writing(error, shown));
                }
                if taken.is_err() || hasher.finish() != *digest {
                    // Tells what is wrong with it; if nothing is, what happened is told below.
                    blobs.verify(digest).map_err(store::Error::from)?;
                }
                taken.map_err(|error| Error::of_writing(error, shown))
            }
            Content::Inside {
                blob, compressed, ..
            } => {
                let file = store
                    .layout()
                    .blobs()
                    .open_unverified(blob)
                    .map_err(store::Error::from)?;
                let expected = Expected {
                    digest: Some(*blob),
                    size: Some(*compressed),
                    diff_id: Some(*digest),
                };
                read_archive(file, &expected, |bytes| take(bytes))
                    .map_err(|error| of_layer(error, blob, shown))
            }
        }
    }
}

fn of_layer(source: layer::Error, blob: &Digest, shown: &Path) -> Error {
    match source.is_bad_layer() {
        true => store::Error::Layer {
            digest: *blob,
            source,
        }
        .into(),
        false => Error::of_writing(source, shown),
    }
}

fn member(name: &str, size: u64) -> Entry {
    Entry::new(name, Kind::File { size }, 0o644)
}

fn read(store: &Store, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
    let bytes = store.layout().blobs().read(digest, limit);
    Ok(bytes.map_err(store::Error::from)?)
}

/// A blob that is missing or of the wrong size is told before anything is written.
fn check(store: &Store, digest: &Digest, size: u64) -> Result<()> {
    let blobs = store.layout().blobs();
    match blobs.stat(digest).map_err(store::Error::from)? {
        None => Err(store::Error::from(layout::blobs::Error::Missing { digest: *digest }).into()),
        Some(stat) if stat.size != size => {
            blobs.verify(digest).map_err(store::Error::from)?;
            let problem = Problem::Size {
                by: "its descriptor".to_owned(),
                expected: size,
                actual: stat.size,
            };
            Err(Error::member(digest.to_string(), problem))
        }
        Some(_) => Ok(()),
    }
}

/// Whether every reader of docker-archives can read a layer of this type.
fn is_dockers(media_type: &str) -> bool {
    matches!(
        media_type,
        media::LAYER | media::LAYER_GZIP | media::DOCKER_LAYER | media::DOCKER_LAYER_GZIP
    )
}

/// A manifest of which some layers are not compressed any more: (number, digest, size).
fn with_layers(manifest: &[u8], media_type: &str, changed: &[(usize, Digest, u64)]) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(manifest).expect("it was read before");
    let plain = match media_type {
        media::DOCKER_MANIFEST => media::DOCKER_LAYER,
        _ => media::LAYER,
    };
    for (number, digest, size) in changed {
        value["layers"][*number] = json!({
            "mediaType": plain,
            "digest": digest.to_string(),
            "size": size,
        });
    }
    serde_json::to_vec(&value).expect("JSON values serialise")
}

/// Refuses a directory of other things.
fn check_layout(path: &Path) -> Result<()> {
    if path.join("oci-layout").exists() {
        return Ok(());
    }
    if !path.is_dir() {
        return Err(Error::NotALayout {
            path: path.to_path_buf(),
        });
    }
    let mut entries = fs::read_dir(path).at("read", path)?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(Error::NotALayout {
            path: path.to_path_buf(),
        }),
    }
}

/// Whether a file is there and has this digest.
fn is_whole(path: &Path, digest: &Digest) -> Result<bool> {
    let Ok(file) = fs::File::open(path) else {
        return Ok(false);
    };
    let mut reader = HashReader::new(file);
    std::io::copy(&mut reader, &mut std::io::sink()).at("read", path)?;
    Ok(reader.into_parts().0.finish() == *digest)
}

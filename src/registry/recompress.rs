//! An image with its layers compressed otherwise, for registries that want them so.
//!
//! ```text
//! index ─▶ manifest ─▶ layer in another format ─▶ decompress ─▶ diff ID as the config has it
//!                                                 └─▶ compress ─▶ layer in the store
//!          the same manifest, with other layers; the config, and what is no file system, as it was
//! the same index, with other manifests, and annotations that name them
//! ```
//! Configs, and so the images' IDs, stay what they are; manifests do not, and so neither do digests.
//! What is made is the lease's, without a name, until the next prune, and is remembered: whoever
//! wants it again before that has it.

use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use serde_json::{Value, json};

use super::Stop;
use super::error::{Error, Result};
use crate::catalog::remote::RemoteFile;
use crate::catalog::sync;
use crate::fsutil::{self, IoContext};
use crate::layer::{Compression, Decompressor, Format};
use crate::layout::Ingest;
use crate::oci::digest::HashWriter;
use crate::oci::digest::Hasher;
use crate::oci::document::{self, Document, INDEX_LIMIT, Manifest};
use crate::oci::{Digest, ImageConfig, media};
use crate::store::{self, LayerBlob, Lease};

/// Bytes that are decompressed at once.
const PIECE: usize = 256 << 10;

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recompressed {
    /// The manifest or index; the one that was given, where all is as wanted.
    pub digest: Digest,
    /// How many layers are other ones now.
    pub layers: usize,
}

/// Makes of an image, or of all images of an index, one whose layers are compressed so. Layers that
/// are in that format stay as they are, whatever their level. `threads`: how many layers at once.
pub fn recompressed(
    lease: &Lease,
    root: &Digest,
    compression: Compression,
    threads: usize,
    stop: &Stop,
) -> Result<Recompressed> {
    lease.hold(root)?;
    let mut work = Work {
        lease,
        compression,
        threads,
        stop,
        documents: HashMap::new(),
        layers: HashMap::new(),
    };
    let made = work.document(root, "", 0)?;
    Ok(Recompressed {
        digest: made.digest,
        layers: work.layers.values().filter(|layer| layer.is_some()).count(),
    })
}

/// A document or a layer as it is now.
#[derive(Debug, Clone)]
struct Made {
    digest: Digest,
    size: u64,
    media_type: String,
}

struct Work<'a> {
    lease: &'a Lease<'a>,
    compression: Compression,
    threads: usize,
    stop: &'a Stop,
    /// By what they were.
    documents: HashMap<Digest, Made>,
    /// By what they were; `None`: they stay as they are.
    layers: HashMap<Digest, Option<LayerBlob>>,
}

impl Work<'_> {
    fn document(&mut self, digest: &Digest, told: &str, depth: u32) -> Result<Made> {
        if let Some(made) = self.documents.get(digest) {
            return Ok(made.clone());
        }
        let blobs = self.lease.store().layout().blobs();
        let bytes = blobs
            .read(digest, INDEX_LIMIT)
            .map_err(store::Error::from)?;
        let broken = |source| Error::Document {
            digest: *digest,
            source,
        };
        let parsed = document::parse(&bytes, told).map_err(broken)?;
        let mut value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match &parsed {
            Document::Index(index) if depth < 8 => {
                for child in &index.manifests {
                    self.document(&child.digest, &child.media_type, depth + 1)?;
                }
                self.change_index(&mut value);
            }
            Document::Manifest(manifest) if manifest.is_image() => {
                self.layers_of(manifest)?;
                self.change_manifest(&mut value, manifest);
            }
            _ => {}
        }
        let default = match &parsed {
            Document::Index(_) => media::INDEX,
            _ => media::MANIFEST,
        };
        let media_type = value["mediaType"].as_str();
        let fallback = Some(told).filter(|told| !told.is_empty());
        let media_type = media_type.or(fallback).unwrap_or(default).to_owned();
        let made = self.written(digest, &bytes, &value, media_type)?;
        self.documents.insert(*digest, made.clone());
        Ok(made)
    }

    /// Writes a document, if it is another one than it was.
    fn written(&self, was: &Digest, old: &[u8], new: &Value, media_type: String) -> Result<Made> {
        let before: Value = serde_json::from_slice(old).unwrap_or_default();
        if before == *new {
            return Ok(Made {
                digest: *was,
                size: old.len() as u64,
                media_type,
            });
        }
        let bytes = serde_json::to_vec(new).expect("JSON values serialise");
        let digest = Digest::of(&bytes);
        let kind = sync::kind_of(&media_type);
        self.lease.document(&bytes, &digest, kind, &media_type)?;
        let size = bytes.len() as u64;
        let descriptor = crate::layout::Entry::new(&media_type, digest, size).descriptor;
        self.lease.take_in(&descriptor)?;
        Ok(Made {
            digest,
            size,
            media_type,
        })
    }

    /// Makes the layers of an image.
    fn layers_of(&mut self, manifest: &Manifest) -> Result<()> {
        let limit = document::MANIFEST_LIMIT;
        let digest = manifest.config.digest;
        let blobs = self.lease.store().layout().blobs();
        let bytes = blobs.read(&digest, limit).map_err(store::Error::from)?;
        let config = ImageConfig::parse(&bytes);
        let config = config.map_err(|source| Error::Document { digest, source })?;
        let diff_ids = config.rootfs.diff_ids;
        let is_docker = self.is_docker(manifest);
        let mut wanted = Vec::new();
        for (place, layer) in manifest.layers.iter().enumerate() {
            // Others are no file systems, or are not to be in registries.
            let is_tar =
                media::is_layer(&layer.media_type) && !layer.media_type.contains("foreign");
            if !is_tar
                || layer.media_type.contains("nondistributable")
                || self.layers.contains_key(&layer.digest)
                || wanted.iter().any(|job: &Job| job.digest == layer.digest)
            {
                continue;
            }
            let Some(diff_id) = diff_ids.get(place) else {
                return Err(Error::Refused {
                    what: digest.to_string(),
                    why: "the config has fewer layers than the manifest".to_owned(),
                });
            };
            wanted.push(Job {
                digest: layer.digest,
                diff_id: *diff_id,
                media_type: media_type(self.compression, is_docker),
            });
        }
        let made = self.all(wanted)?;
        self.layers.extend(made);
        Ok(())
    }

    /// Makes several layers at the same time.
    fn all(&self, wanted: Vec<Job>) -> Result<Vec<(Digest, Option<LayerBlob>)>> {
        let threads = self.threads.clamp(1, wanted.len().max(1));
        let jobs = Mutex::new(wanted.into_iter());
        let made = Mutex::new(Vec::new());
        let (lease, compression) = (self.lease, self.compression);
        // One that fails stops the others.
        let stop = self.stop;
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some(job) = next else { return };
                        let outcome = job.run(lease, compression, stop);
                        if outcome.is_err() {
                            stop.ask();
                        }
                        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                        made.push(outcome.map(|layer| (job.digest, layer)));
                    }
                });
            }
        });
        let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        // The others were interrupted by the one that says why.
        let (good, bad): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
        let mut errors: Vec<Error> = bad.into_iter().filter_map(Result::err).collect();
        let own = errors
            .iter()
            .position(|error| !matches!(error, Error::Interrupted));
        match (own, errors.pop()) {
            (Some(place), Some(last)) => {
                errors.push(last);
                Err(errors.swap_remove(place))
            }
            (None, Some(error)) => Err(error),
            (_, None) => Ok(good.into_iter().filter_map(Result::ok).collect()),
        }
    }

    /// Whether layers get docker's media types: it has none for zstd.
    fn is_docker(&self, manifest: &Manifest) -> bool {
        manifest.media_type.as_deref() == Some(media::DOCKER_MANIFEST)
            && !matches!(self.compression, Compression::Zstd(_))
    }

    fn change_manifest(&self, value: &mut Value, manifest: &Manifest) {
        let made = |digest: &Digest| self.layers.get(digest).and_then(Option::as_ref);
        if !manifest
            .layers
            .iter()
            .any(|layer| made(&layer.digest).is_some())
        {
            return;
        }
        if !self.is_docker(manifest) && value["mediaType"] == media::DOCKER_MANIFEST {
            value["mediaType"] = json!(media::MANIFEST);
            value["config"]["mediaType"] = json!(media::CONFIG);
        }
        let to_oci = value["mediaType"] != media::DOCKER_MANIFEST;
        let layers = value["layers"].as_array_mut().into_iter().flatten();
        for (layer, was) in layers.zip(&manifest.layers) {
            match made(&was.digest) {
                Some(new) => {
                    layer["mediaType"] = json!(new.media_type);
                    layer["digest"] = json!(new.digest.to_string());
                    layer["size"] = json!(new.size);
                    forget_positions(layer);
                }
                None if to_oci => {
                    let oci = match was.media_type.as_str() {
                        media::DOCKER_LAYER_GZIP => media::LAYER_GZIP,
                        media::DOCKER_LAYER => media::LAYER,
                        other => other,
                    };
                    layer["mediaType"] = json!(oci);
                }
                None => {}
            }
        }
    }

    fn change_index(&self, value: &mut Value) {
        let mut oci = false;
        let children = value["manifests"].as_array_mut().into_iter().flatten();
        for child in children {
            let digest = child["digest"].as_str().and_then(|text| text.parse().ok());
            if let Some(made) = digest.and_then(|digest: Digest| self.documents.get(&digest)) {
                oci |= child["mediaType"] != made.media_type.as_str();
                child["mediaType"] = json!(made.media_type);
                child["digest"] = json!(made.digest.to_string());
                child["size"] = json!(made.size);
            }
            let annotations = child.get_mut("annotations");
            let annotations = annotations.and_then(Value::as_object_mut);
            // An attestation names the image that it is about.
            for text in annotations.into_iter().flatten().map(|(_, text)| text) {
                let named = text.as_str().and_then(|text| text.parse::<Digest>().ok());
                if let Some(made) = named.and_then(|digest| self.documents.get(&digest)) {
                    *text = json!(made.digest.to_string());
                }
            }
        }
        if oci && value["mediaType"] == media::DOCKER_INDEX {
            value["mediaType"] = json!(media::INDEX);
        }
    }
}

/// The media type of a layer.
fn media_type(compression: Compression, docker: bool) -> &'static str {
    match (compression, docker) {
        (Compression::Gzip(_), true) => media::DOCKER_LAYER_GZIP,
        (Compression::None, true) => media::DOCKER_LAYER,
        (compression, _) => compression.media_type(),
    }
}

/// Takes away annotations that say where in the compressed bytes a file is (eStargz,
/// zstd:chunked): it is elsewhere now.
fn forget_positions(layer: &mut Value) {
    let annotations = layer.get_mut("annotations");
    let Some(annotations) = annotations.and_then(Value::as_object_mut) else {
        return;
    };
    annotations.retain(|key, _| {
        !key.starts_with("containerd.io/snapshot/stargz")
            && !key.starts_with("io.github.containers.zstd-chunked")
    });
}

/// A layer that is to be looked at.
struct Job {
    digest: Digest,
    diff_id: Digest,
    media_type: &'static str,
}

impl Job {
    /// Makes the layer; `None`: it is as wanted.
    fn run(
        &self,
        lease: &Lease,
        compression: Compression,
        stop: &Stop,
    ) -> Result<Option<LayerBlob>> {
        stop.check()?;
        let store = lease.store();
        let blobs = store.layout().blobs();
        let file = blobs
            .open_unverified(&self.digest)
            .map_err(store::Error::from)?;
        let path = blobs.path(&self.digest);
        let mut tar = Decompressor::new(file).at("read", &path)?;
        let same = matches!(
            (tar.format(), compression),
            (Format::None, Compression::None)
                | (Format::Gzip, Compression::Gzip(_))
                | (Format::Zstd, Compression::Zstd(_))
        );
        if same {
            return Ok(None);
        }
        let key = memory_key(&self.digest, compression);
        if let Some(layer) = self.remembered(lease, &key)? {
            return Ok(Some(layer));
        }
        let (ingest, layer) = self.compress(lease, compression, &mut tar, &path, stop)?;
        lease.publish_layer(ingest, &layer, None)?;
        let row = RemoteFile {
            digest: layer.digest,
            etag: String::new(),
            modified: None,
        };
        let now = store.now();
        store.write(|tx| Ok(tx.put_remote_file(&key, &row, now)?))?;
        Ok(Some(layer))
    }

    fn compress(
        &self,
        lease: &Lease,
        compression: Compression,
        tar: &mut Decompressor,
        path: &std::path::Path,
        stop: &Stop,
    ) -> Result<(Ingest, LayerBlob)> {
        let ingest = lease.ingest()?;
        let target = ingest.path().to_path_buf();
        let failed = |error: io::Error| fsutil::Error::new("write", &target, error);
        let mut out = compression
            .writer(HashWriter::new(ingest))
            .map_err(failed)?;
        let mut diff = Hasher::new();
        let mut buffer = vec![0; PIECE];
        loop {
            stop.check()?;
            match tar.read(&mut buffer).at("decompress", path)? {
                0 => break,
                count => {
                    diff.update(&buffer[..count]);
                    out.write_all(&buffer[..count]).map_err(failed)?;
                }
            }
        }
        let (hasher, mut ingest) = out.finish().map_err(failed)?.into_parts();
        ingest.close();
        let unpacked = Some(diff.length());
        let diff_id = diff.finish();
        if diff_id != self.diff_id {
            return Err(Error::Wrong {
                what: self.digest.to_string(),
                why: format!(
                    "its diff ID is {diff_id}, and the config says {}; `rstore fsck` looks for what is damaged",
                    self.diff_id
                ),
            });
        }
        let size = hasher.length();
        let layer = LayerBlob {
            media_type: self.media_type.to_owned(),
            digest: hasher.finish(),
            size,
            diff_id,
            unpacked,
        };
        Ok((ingest, layer))
    }

    /// The layer, if it was made before and is here.
    fn remembered(&self, lease: &Lease, key: &Digest) -> Result<Option<LayerBlob>> {
        let store = lease.store();
        let row = store.catalog().read(|tx| tx.remote_file(key));
        let Some(row) = row.map_err(store::Error::from)? else {
            return Ok(None);
        };
        let blobs = store.layout().blobs();
        let Some(stat) = blobs.stat(&row.digest).map_err(store::Error::from)? else {
            return Ok(None);
        };
        let layer = LayerBlob {
            media_type: self.media_type.to_owned(),
            digest: row.digest,
            size: stat.size,
            diff_id: self.diff_id,
            unpacked: None,
        };
        Ok(lease.has_layer(&layer)?.then_some(layer))
    }
}

fn memory_key(of: &Digest, compression: Compression) -> Digest {
    Digest::of(format!("recompressed {of} {compression}").as_bytes())
}

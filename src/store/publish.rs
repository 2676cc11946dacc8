//! Putting blobs and images into the store.
//!
//! A blob is recorded and pinned in one transaction, and only then renamed into place: a prune
//! that runs in between sees a pinned row, and a sweep that had already taken the old file of the
//! same digest is made good by the rename.

use std::collections::BTreeMap;
use std::io::Write;

use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType};

use super::{Error, Image, Lease, Result};
use crate::catalog::blob::NewBlob;
use crate::catalog::{BlobKind, sync};
use crate::fsutil::IoContext;
use crate::layout::Ingest;
use crate::oci::document::{self, Document, Role};
use crate::oci::{Digest, ImageConfig, media};

/// A layer of an image that is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBlob {
    /// The media type, by its compression.
    pub media_type: String,
    /// The blob.
    pub digest: Digest,
    /// The blob's bytes.
    pub size: u64,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of the uncompressed tar, where known.
    pub unpacked: Option<u64>,
}

/// An image that is being made.
#[derive(Debug)]
pub struct NewImage<'a> {
    /// The config; its diff IDs are those of `layers`.
    pub config: &'a ImageConfig,
    /// The layers, the lowest first.
    pub layers: &'a [LayerBlob],
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// The cache key of the step that made it.
    pub cache_key: Option<Digest>,
}

impl Lease<'_> {
    /// Puts a finished layer into the store.
    pub fn publish_layer(
        &self,
        ingest: Ingest,
        layer: &LayerBlob,
        step: Option<&str>,
    ) -> Result<()> {
        let allocated = allocated(&ingest)?;
        let store = self.store();
        let now = store.now();
        let trusted = store.write(|tx| {
            let trusted = tx.is_trusted(&layer.digest, store.host().boot())?;
            let id = tx.put_blob(
                NewBlob {
                    digest: layer.digest,
                    size: layer.size,
                    allocated,
                    kind: BlobKind::Layer,
                    media_type: &layer.media_type,
                    ours: true,
                    boot: store.host().boot(),
                },
                now,
            )?;
            tx.put_layer(id, &layer.diff_id, layer.unpacked, step)?;
            tx.lease_blob(self.id(), id)?;
            Ok(trusted)
        })?;
        Ok(store
            .layout()
            .blobs()
            .publish(ingest, &layer.digest, trusted)?)
    }

    /// Puts a finished blob into the store whose digest and size the caller has verified.
    pub fn publish_blob(
        &self,
        ingest: Ingest,
        digest: &Digest,
        size: u64,
        kind: BlobKind,
        media_type: &str,
    ) -> Result<()> {
        let trusted = self.put_row(digest, &ingest, size, kind, media_type)?;
        Ok(self
            .store()
            .layout()
            .blobs()
            .publish(ingest, digest, trusted)?)
    }

    /// Records and pins a blob that is about to be renamed into place. Returns whether a file that
    /// is there already can be trusted.
    fn put_row(
        &self,
        digest: &Digest,
        ingest: &Ingest,
        size: u64,
        kind: BlobKind,
        media_type: &str,
    ) -> Result<bool> {
        let allocated = allocated(ingest)?;
        let document = read_document(ingest, kind, media_type)?;
        let store = self.store();
        let now = store.now();
        store.write(|tx| {
            let trusted = tx.is_trusted(digest, store.host().boot())?;
            let new = NewBlob {
                digest: *digest,
                size,
                allocated,
                kind,
                media_type,
                ours: true,
                boot: store.host().boot(),
            };
            let id = tx.put_blob(new, now)?;
            tx.lease_blob(self.id(), id)?;
            // With the row: to a prune in between, a document that is held and has no links is one
            // that nobody can read.
            if let Some(document) = &document {
                sync::record_document(tx, store.layout(), id, document, size, now)
                    .map_err(convert)?;
            }
            Ok(trusted)
        })
    }

    fn write_ingest(&self, bytes: &[u8]) -> Result<Ingest> {
        let mut ingest = self.ingest()?;
        ingest.write_all(bytes).at("write", ingest.path())?;
        Ok(ingest)
    }

    /// Takes in what a document says that this lease has published verbatim, and all that it
    /// reaches.
    pub fn take_in(&self, root: &document::Descriptor) -> Result<()> {
        let store = self.store();
        let now = store.now();
        store.write(|tx| {
            sync::take_document(tx, store.layout(), root, now).map_err(convert)?;
            Ok(())
        })
    }

    /// Makes an image of layers that are in the store: writes its config and its manifest, and
    /// offers it to the cache.
    pub fn publish_image(&self, new: &NewImage) -> Result<Image> {
        let config = new.config.to_bytes();
        let config_digest = Digest::of(&config);
        let manifest = manifest_bytes(
            &config_digest,
            config.len() as u64,
            new.layers,
            &new.annotations,
        );
        let digest = Digest::of(&manifest);
        let config_file = self.write_ingest(&config)?;
        let manifest_file = self.write_ingest(&manifest)?;
        let parsed =
            document::manifest(&manifest).map_err(|source| Error::Document { digest, source })?;
        let (config_trusted, manifest_trusted) = self.record_image(
            new,
            &parsed,
            (&digest, &manifest_file),
            (&config_digest, &config_file),
        )?;
        let store = self.store();
        store
            .layout()
            .blobs()
            .publish(config_file, &config_digest, config_trusted)?;
        store
            .layout()
            .blobs()
            .publish(manifest_file, &digest, manifest_trusted)?;
        if let Some(key) = &new.cache_key {
            let now = store.now();
            store.write(|tx| {
                if let Some(row) = tx.blob(&digest)? {
                    tx.put_cache_record(key, row.id, now)?;
                }
                Ok(())
            })?;
        }
        Ok(Image {
            digest,
            size: manifest.len() as u64,
            manifest: parsed,
            config: new.config.clone(),
        })
    }

    /// Records and pins an image. Returns whether files of its config and its manifest that are
    /// there already can be trusted.
    fn record_image(
        &self,
        new: &NewImage,
        manifest: &document::Manifest,
        (digest, manifest_file): (&Digest, &Ingest),
        (config_digest, config_file): (&Digest, &Ingest),
    ) -> Result<(bool, bool)> {
        let store = self.store();
        let now = store.now();
        let row = |digest: &Digest, file: &Ingest, kind, media_type| -> Result<NewBlob<'_>> {
            Ok(NewBlob {
                digest: *digest,
                size: file.length()?,
                allocated: allocated(file)?,
                kind,
                media_type,
                ours: true,
                boot: store.host().boot(),
            })
        };
        let config_row = row(config_digest, config_file, BlobKind::Config, media::CONFIG)?;
        let manifest_row = row(digest, manifest_file, BlobKind::Manifest, media::MANIFEST)?;
        store.write(|tx| {
            let boot = store.host().boot();
            let trusted = (
                tx.is_trusted(config_digest, boot)?,
                tx.is_trusted(digest, boot)?,
            );
            let config_id = tx.put_blob(config_row, now)?;
            let id = tx.put_blob(manifest_row, now)?;
            let mut targets = vec![(config_id, Role::Config)];
            for layer in new.layers {
                let layer_id = tx.refer_blob(
                    &layer.digest,
                    layer.size,
                    BlobKind::Layer,
                    &layer.media_type,
                    now,
                )?;
                targets.push((layer_id, Role::Layer));
            }
            tx.put_edges(id, &targets)?;
            sync::put_image(
                tx,
                id,
                manifest,
                Some(new.config),
                &targets,
                manifest_row.size,
                now,
            )
            .map_err(convert)?;
            tx.lease_blob(self.id(), id)?;
            // By name as well: a scan beside this spares only what is pinned itself.
            tx.lease_blob(self.id(), config_id)?;
            Ok(trusted)
        })
    }
}

/// A manifest or an index that is about to be published; what it points at is here by now. One that
/// cannot be understood is told of when it is taken in.
fn read_document(ingest: &Ingest, kind: BlobKind, media_type: &str) -> Result<Option<Document>> {
    if !matches!(kind, BlobKind::Manifest | BlobKind::Index) {
        return Ok(None);
    }
    if ingest.length()? > document::INDEX_LIMIT {
        return Ok(None);
    }
    let bytes = std::fs::read(ingest.path()).at("read", ingest.path())?;
    let parsed = document::parse(&bytes, media_type).ok();
    Ok(parsed.filter(|one| matches!(one, Document::Manifest(_) | Document::Index(_))))
}

fn convert(
    error: crate::catalog::WriteError<crate::catalog::Error>,
) -> crate::catalog::WriteError<Error> {
    use crate::catalog::WriteError;
    match error {
        WriteError::Sqlite(error) => WriteError::Sqlite(error),
        WriteError::Caller(error) => WriteError::Caller(error.into()),
    }
}

fn allocated(ingest: &Ingest) -> Result<u64> {
    let metadata = std::fs::metadata(ingest.path()).at("stat", ingest.path())?;
    // Delayed allocation: a file system may count blocks only when it writes them. Whoever
    // accounts for bytes looks again; this is the best that is known now.
    Ok(crate::fsutil::allocated(&metadata).max(metadata.len().next_multiple_of(4096)))
}

/// The manifest of a config and layers; the same ones always give the same bytes.
pub fn manifest_bytes(
    config: &Digest,
    config_size: u64,
    layers: &[LayerBlob],
    annotations: &BTreeMap<String, String>,
) -> Vec<u8> {
    let descriptor = |media_type: &str, digest: &Digest, size: u64| {
        let digest = digest
            .to_string()
            .parse::<oci_spec::image::Digest>()
            .expect("a sha256 digest");
        Descriptor::new(MediaType::from(media_type), size, digest)
    };
    let layers: Vec<Descriptor> = layers
        .iter()
        .map(|layer| descriptor(&layer.media_type, &layer.digest, layer.size))
        .collect();
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(media::CONFIG, config, config_size))
        .layers(layers)
        .build()
        .expect("every required member is set");
    // The specification's type keeps annotations in a hash map, whose order changes from run to
    // run; the same image must have the same digest, so they are added in order.
    let mut value = serde_json::to_value(&manifest).expect("a manifest serialises");
    if !annotations.is_empty() {
        value["annotations"] = serde_json::json!(annotations);
    }
    serde_json::to_vec(&value).expect("a manifest serialises")
}

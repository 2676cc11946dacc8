//! Taking in images that somebody else made: a layer is verified on its way in, and a document is
//! published as it is.
//!
//! A layer's blob must have the digest and the size that its manifest says, and its tar the diff ID
//! that the config says: a chain ID names a snapshot, and what it stands for must not depend on
//! who said so first.

use std::fs::File;
use std::io::{self, Read, Write};

use super::{Error, Image, LayerBlob, Lease, Partial, Result};
use crate::catalog::{BlobKind, BlobRow};
use crate::fsutil::{self, IoContext};
use crate::layer::Decompressor;
use crate::layout::Ingest;
use crate::oci::digest::Hasher;
use crate::oci::document::Descriptor;
use crate::oci::{Digest, media};

/// What became of a layer that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// It is in the store, pinned.
    Taken,
    /// It is not what it should be; in words.
    Refused(String),
}

impl Lease<'_> {
    /// The image with this manifest, pinned, if all of it is here and can be trusted.
    pub fn present_image(&self, digest: &Digest) -> Result<Option<Image>> {
        if !self.pin_present(digest)? {
            return Ok(None);
        }
        match self.trusted_image(digest) {
            Ok(image) => Ok(Some(image)),
            Err(error) if error.is_corruption() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pins a blob that is here. Returns whether it is, and is nobody's to remove.
    fn pin_present(&self, digest: &Digest) -> Result<bool> {
        self.store().write(|tx| {
            let Some(row) = tx.blob(digest)?.filter(BlobRow::is_usable) else {
                return Ok(false);
            };
            tx.lease_blob(self.id(), row.id)?;
            Ok(true)
        })
    }

    /// Whether a layer is here, whole, and has this diff ID as far as anybody has looked. Then it
    /// is pinned.
    pub fn has_layer(&self, layer: &LayerBlob) -> Result<bool> {
        if !self.pin_present(&layer.digest)? {
            return Ok(false);
        }
        let known = self.store().catalog().read(|tx| {
            let Some(row) = tx.blob(&layer.digest)? else {
                return Ok(None);
            };
            Ok(tx.layer(row.id)?.map(|known| known.diff_id))
        })?;
        if known != Some(layer.diff_id) {
            return Ok(false);
        }
        match self.trust_blobs(std::iter::once(&layer.digest)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_corruption() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a blob is here, whole and of this size. Then it is pinned.
    pub fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool> {
        if !self.pin_present(digest)? {
            return Ok(false);
        }
        match self.trust_blobs(std::iter::once(digest)) {
            Ok(()) => {}
            Err(error) if error.is_corruption() => return Ok(false),
            Err(error) => return Err(error),
        }
        let stat = self.store().layout().blobs().stat(digest)?;
        Ok(stat.is_some_and(|stat| stat.size == size))
    }

    /// Takes a layer in from `source`, which may be anything.
    pub fn adopt_layer(
        &self,
        layer: &LayerBlob,
        source: &mut (dyn Read + Send),
        step: Option<&str>,
    ) -> Result<Offered> {
        let mut ingest = self.ingest()?;
        let examined = examine(layer, source, &mut ingest);
        let examined = examined.map_err(|e| fsutil::Error::new("write", ingest.path(), e))?;
        ingest.close();
        match examined {
            Ok(unpacked) => self.adopt_examined(layer, unpacked, ingest, step),
            Err(why) => Ok(Offered::Refused(why)),
        }
    }

    /// Takes a layer in that has arrived in a file, which goes if it is not what it should be.
    pub fn adopt_arrived(
        &self,
        layer: &LayerBlob,
        partial: Partial,
        step: Option<&str>,
    ) -> Result<Offered> {
        let mut file = File::open(partial.path()).at("open", partial.path())?;
        let examined = examine(layer, &mut file, &mut io::sink());
        let examined = examined.map_err(|e| fsutil::Error::new("read", partial.path(), e))?;
        match examined {
            Ok(unpacked) => self.arrived(partial, |ingest| {
                self.adopt_examined(layer, unpacked, ingest, step)
            }),
            Err(why) => {
                self.forget_partial(partial)?;
                Ok(Offered::Refused(why))
            }
        }
    }

    fn adopt_examined(
        &self,
        layer: &LayerBlob,
        unpacked: u64,
        ingest: Ingest,
        step: Option<&str>,
    ) -> Result<Offered> {
        let layer = LayerBlob {
            unpacked: Some(unpacked),
            ..layer.clone()
        };
        self.publish_layer(ingest, &layer, step)?;
        Ok(Offered::Taken)
    }

    /// Publishes an image's documents as they are; its layers are here, and pinned.
    pub fn adopt_documents(&self, image: &Image, manifest: &[u8], config: &[u8]) -> Result<()> {
        let told = &image.manifest.config;
        self.document(config, &told.digest, BlobKind::Config, &told.media_type)?;
        let media_type = image.manifest.media_type.as_deref();
        let media_type = media_type.unwrap_or(media::MANIFEST);
        self.document(manifest, &image.digest, BlobKind::Manifest, media_type)?;
        self.take_in(&Descriptor {
            media_type: media_type.to_owned(),
            digest: image.digest,
            size: image.size,
            annotations: None,
            platform: None,
            artifact_type: None,
        })
    }

    /// Publishes an index of images that are here, and pinned. Returns its digest.
    pub fn publish_index(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        self.document(bytes, &digest, BlobKind::Index, media::INDEX)?;
        self.take_in(&Descriptor {
            media_type: media::INDEX.to_owned(),
            digest,
            size: bytes.len() as u64,
            annotations: None,
            platform: None,
            artifact_type: None,
        })?;
        Ok(digest)
    }

    /// Publishes a small document whose digest is known.
    pub fn document(
        &self,
        bytes: &[u8],
        digest: &Digest,
        kind: BlobKind,
        media_type: &str,
    ) -> Result<()> {
        let mut ingest = self.ingest()?;
        ingest
            .write_all(bytes)
            .map_err(|error| fsutil::Error::new("write", ingest.path(), error))?;
        ingest.close();
        if Digest::of(bytes) != *digest {
            let actual = Digest::of(bytes);
            let digest = *digest;
            return Err(Error::Layout(
                crate::layout::blobs::Error::Corrupt { digest, actual }.into(),
            ));
        }
        self.publish_blob(ingest, digest, bytes.len() as u64, kind, media_type)
    }
}

/// Holds what `source` gives against what a layer should be, while it is written to `into`. The
/// size of its tar, or in words what is wrong with it; the error is that of `into`.
fn examine(
    layer: &LayerBlob,
    source: &mut (dyn Read + Send),
    into: &mut (dyn Write + Send),
) -> io::Result<Result<u64, String>> {
    let mut tee = Tee {
        // One byte more tells a blob that is too long.
        source: source.take(layer.size.saturating_add(1)),
        into,
        hasher: Hasher::new(),
        failed: None,
    };
    let tar = Decompressor::new(&mut tee).and_then(|mut tar| Hasher::of_all(&mut tar));
    // A decompressor may leave what stands behind the end of its stream.
    let rest = io::copy(&mut tee, &mut io::sink());
    let Tee { hasher, failed, .. } = tee;
    if let Some(error) = failed {
        return Err(error);
    }
    let size = hasher.length();
    let refused = |why: String| Ok(Err(why));
    if let Err(error) = rest {
        return refused(format!("it cannot be read: {error}"));
    }
    if size != layer.size {
        return refused(format!(
            "it has {} bytes, not {}",
            if size > layer.size { "more" } else { "fewer" },
            layer.size
        ));
    }
    let digest = hasher.finish();
    if digest != layer.digest {
        return refused(format!("its bytes have digest {digest}"));
    }
    let tar = match tar {
        Ok(tar) => tar,
        Err(error) => return refused(format!("it cannot be decompressed: {error}")),
    };
    let unpacked = tar.length();
    let diff_id = tar.finish();
    if diff_id != layer.diff_id {
        return refused(format!("its diff ID is {diff_id}, not {}", layer.diff_id));
    }
    Ok(Ok(unpacked))
}

/// Writes and hashes what is read through it.
struct Tee<'a, S> {
    source: S,
    into: &'a mut (dyn Write + Send),
    hasher: Hasher,
    /// Why `into` could not be written, which is not the source's fault.
    failed: Option<io::Error>,
}

impl<S: Read> Read for Tee<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed.is_some() {
            return Ok(0);
        }
        let count = self.source.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        if let Err(error) = self.into.write_all(&buffer[..count]) {
            self.failed = Some(error);
            return Err(io::Error::other("the store cannot be written"));
        }
        Ok(count)
    }
}

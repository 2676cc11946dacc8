//! An image's layers as archives, verified while they are read.

use std::io::{self, Read};

use super::{Error, Image, Result, Store};
use crate::layer::merge::{Consume, Layers};
use crate::layer::{Expected, read_archive};
use crate::oci::Digest;
use crate::oci::document::Descriptor;

/// The layers of an image of the store, the lowest first.
#[derive(Clone, Copy)]
pub struct ImageLayers<'a> {
    store: &'a Store,
    image: &'a Image,
    stop: &'a (dyn Fn() -> bool + Sync),
}

impl Store {
    /// The layers of an image, to be read until `stop` says that somebody asked for the end; that
    /// is an error of reading then.
    pub fn layers<'a>(
        &'a self,
        image: &'a Image,
        stop: &'a (dyn Fn() -> bool + Sync),
    ) -> ImageLayers<'a> {
        ImageLayers {
            store: self,
            image,
            stop,
        }
    }
}

impl Store {
    /// Bytes of the tar in a layer, where they are known.
    pub fn known_unpacked_size(&self, layer: &Digest) -> Result<Option<u64>> {
        let known = self.catalog.read(|tx| match tx.blob(layer)? {
            Some(row) => tx.layer(row.id),
            None => Ok(None),
        })?;
        Ok(known.and_then(|row| row.unpacked))
    }

    /// Bytes of the tar in a layer: known, or counted, and then remembered.
    pub fn unpacked_size(&self, layer: &Descriptor, diff_id: &Digest) -> Result<u64> {
        let digest = layer.digest;
        if let Some(size) = self.known_unpacked_size(&digest)? {
            return Ok(size);
        }
        let file = self.layout.blobs().open_unverified(&digest)?;
        let expected = Expected {
            digest: Some(digest),
            size: Some(layer.size),
            diff_id: Some(*diff_id),
        };
        let counted = read_archive(file, &expected, |bytes| {
            io::copy(bytes, &mut io::sink()).map_err(crate::layer::Error::Read)
        });
        let size = counted.map_err(|source| Error::Layer { digest, source })?;
        self.write(|tx| {
            if let Some(row) = tx.blob(&digest)? {
                tx.put_layer(row.id, diff_id, Some(size), None)?;
            }
            Ok(())
        })?;
        Ok(size)
    }
}

/// Asks before each read.
struct Stoppable<'a> {
    source: &'a mut dyn Read,
    stop: &'a (dyn Fn() -> bool + Sync),
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.stop)() {
            // Not of kind `Interrupted`, after which one tries again.
            true => Err(io::Error::other("interrupted")),
            false => self.source.read(buffer),
        }
    }
}

impl Layers for ImageLayers<'_> {
    type Error = Error;

    fn count(&self) -> usize {
        self.image.manifest.layers.len()
    }

    fn read(&self, layer: usize, consume: Consume<'_>) -> Result<()> {
        let descriptor = &self.image.manifest.layers[layer];
        let expected = Expected {
            digest: Some(descriptor.digest),
            size: Some(descriptor.size),
            diff_id: self.image.config.rootfs.diff_ids.get(layer).copied(),
        };
        let blobs = self.store.layout().blobs();
        let file = blobs.open_unverified(&descriptor.digest)?;
        let stop = self.stop;
        let read = read_archive(file, &expected, |source| {
            consume(&mut Stoppable { source, stop })
        });
        read.map_err(|source| {
            use crate::layer::Error as Wrong;
            // Where the entries go may be at fault as well, and then no layer is to be blamed.
            match source {
                Wrong::Write(_) | Wrong::File(_) | Wrong::UnmappedOwner { .. } => {
                    Error::Merge(source)
                }
                source => Error::Layer {
                    digest: descriptor.digest,
                    source,
                },
            }
        })
    }
}

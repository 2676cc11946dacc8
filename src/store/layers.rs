//! An image's layers as archives, verified while they are read.

use super::{Error, Image, Result, Store};
use crate::layer::merge::{Consume, Layers};
use crate::layer::{Expected, read_archive};

/// The layers of an image of the store, the lowest first.
#[derive(Debug, Clone, Copy)]
pub struct ImageLayers<'a> {
    store: &'a Store,
    image: &'a Image,
}

impl Store {
    /// The layers of an image, to be read.
    pub fn layers<'a>(&'a self, image: &'a Image) -> ImageLayers<'a> {
        ImageLayers { store: self, image }
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
        read_archive(file, &expected, consume).map_err(|source| {
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

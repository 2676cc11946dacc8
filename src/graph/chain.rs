//! Chain IDs: which snapshots belong to which images (image-spec, config.md, "Layer ChainID").

use super::{Image, ImageGraph};
use crate::oci::Digest;

impl ImageGraph {
    /// The chain ID of each layer of an image, the lowest first, as far as diff IDs are known.
    pub fn chain_ids(&self, image: Image<'_>) -> Vec<Digest> {
        let mut chain: Vec<Digest> = Vec::new();
        for layer in image.layers() {
            let Some(layer) = self.layer(layer) else {
                break;
            };
            chain.push(crate::oci::chain_id(chain.last(), &layer.diff_id()));
        }
        chain
    }
}

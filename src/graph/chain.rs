//! Chain IDs: which snapshots belong to which images (image-spec, config.md, "Layer ChainID").

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

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

    /// The chain IDs of all layers of these images. Images that share their lower layers share
    /// the hashing of them.
    pub fn chains<'a>(
        &'a self,
        images: impl IntoIterator<Item = Image<'a>>,
    ) -> HashSet<Digest, FixedState> {
        let mut known: HashMap<(Option<Digest>, Digest), Digest, FixedState> = HashMap::default();
        let mut chains: HashSet<Digest, FixedState> = HashSet::default();
        for image in images {
            let mut below = None;
            for layer in image.layers() {
                let Some(layer) = self.layer(layer) else {
                    break;
                };
                let chain = *known
                    .entry((below, layer.diff_id()))
                    .or_insert_with(|| crate::oci::chain_id(below.as_ref(), &layer.diff_id()));
                chains.insert(chain);
                below = Some(chain);
            }
        }
        chains
    }
}

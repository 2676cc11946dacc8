//! `--annotation`: what the manifest of the result says besides what it is made of.
//!
//! Steps are cached by what they do, and annotations do nothing: so they go to a manifest of their
//! own, whose parent is the image without them. Both have the same config, hence the same ID.

use std::collections::BTreeMap;

use super::commit::layers_of;
use super::error::Error;
use crate::oci::document;
use crate::store::{Image, Lease, NewImage};

/// `image` with these annotations in its manifest; without any, itself.
pub fn annotate(
    lease: &Lease,
    image: Image,
    annotations: &BTreeMap<String, String>,
) -> Result<Image, Error> {
    if annotations.is_empty() {
        return Ok(image);
    }
    let mut all = annotations.clone();
    all.insert(document::PARENT.to_owned(), image.digest.to_string());
    // Lists show what made the image, and that is still its last step.
    if let Some(step) = image.manifest.annotation(document::STEP) {
        all.insert(document::STEP.to_owned(), step.to_owned());
    }
    Ok(lease.publish_image(&NewImage {
        config: &image.config,
        layers: &layers_of(&image),
        annotations: all,
        cache_key: None,
    })?)
}

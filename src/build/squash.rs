//! `--squash`: one new layer over the base in place of those that the build made.
//!
//! ```text
//! base ─ a ─ b ─ c      what the build made, and keeps as its cache
//!   └─── abc            what it gives: the same tree
//! ```
//! As docker's classic builder does it: the history keeps every step, those of the build as empty
//! ones, and one more entry says what was merged. The base is the image that the target's first
//! `FROM` names in the end, through all stages in between.
//!
//! The layer is made of the layers' bytes ([`merge`](mod@crate::layer::merge)), so it does not depend on how this
//! machine unpacked them, and its cache key is that of its parts.

use std::collections::BTreeMap;

use serde_json::json;

use super::commit::layers_of;
use super::error::Error;
use super::options::Options;
use super::plan::{Base, BuildGraph};
use crate::executor::Cancel;
use crate::layer::{self, merge};
use crate::oci::config::History;
use crate::oci::document;
use crate::oci::{Digest, ImageConfig};
use crate::store::{self, Image, LayerBlob, Lease, NewImage};

/// Changes when the same layers would give another layer by this program than by an older one.
const VERSION: u32 = 1;

/// The image that a target stands on, through other stages; `None`: nothing.
pub fn base_of(graph: &BuildGraph, target: usize) -> Option<&Image> {
    let mut stage = target;
    // A stage stands on an earlier one, so this ends.
    loop {
        match &graph.stages.get(stage)?.as_ref()?.base {
            Base::Scratch => return None,
            Base::Image(image) => return Some(image),
            Base::Stage(index) => stage = *index,
        }
    }
}

/// `image` with all its layers above those of `base` as one. An image that has at most one such is
/// as it should be already.
pub fn squash(
    lease: &Lease,
    base: Option<&Image>,
    image: Image,
    options: &Options,
    cancel: &Cancel,
) -> Result<Image, Error> {
    let kept = base.map_or(0, |base| base.manifest.layers.len());
    if image.manifest.layers.len() <= kept + 1 {
        return Ok(image);
    }
    let key = key(&image, kept, options);
    if !options.no_cache
        && let Some(image) = lease.cached(&key)?
    {
        return Ok(image);
    }
    let mut layers = layers_of(&image);
    layers.truncate(kept);
    let merged =
        merged(lease, &image, kept, options, cancel).map_err(|error| match cancel.is_cancelled() {
            true => Error::Interrupted,
            false => error.into(),
        });
    layers.extend(merged?);
    let config = config(base, &image, &layers);
    Ok(lease.publish_image(&NewImage {
        config: &config,
        layers: &layers,
        annotations: BTreeMap::from([
            (document::PARENT.to_owned(), image.digest.to_string()),
            (document::STEP.to_owned(), "--squash".to_owned()),
        ]),
        cache_key: Some(key),
    })?)
}

fn key(image: &Image, kept: usize, options: &Options) -> Digest {
    let text = json!({
        "squash": VERSION,
        "image": image.digest,
        "kept": kept,
        "compression": options.compression.to_string(),
    });
    Digest::of(text.to_string().as_bytes())
}

/// The layer that those from number `kept` on come to; `None`: they change nothing.
fn merged(
    lease: &Lease,
    image: &Image,
    kept: usize,
    options: &Options,
    cancel: &Cancel,
) -> Result<Option<LayerBlob>, store::Error> {
    let stop = || cancel.is_cancelled();
    let layers = lease.store().layers(image, &stop);
    let mut failure = None;
    let packed = layer::pack(options.compression, lease.ingest()?, |writer| {
        merge::squash(&layers, kept, writer).map_err(|error| match error {
            store::Error::Merge(error) => error,
            // The pipeline carries a layer's errors; another one waits beside it.
            other => {
                failure = Some(other);
                layer::Error::Read(std::io::Error::other("stopped"))
            }
        })
    });
    let (packed, ingest) = match (packed, failure) {
        (_, Some(failure)) => return Err(failure),
        (packed, None) => packed?,
    };
    if packed.is_empty() {
        return Ok(None);
    }
    let layer = LayerBlob {
        media_type: options.compression.media_type().to_owned(),
        digest: packed.digest,
        size: packed.size,
        diff_id: packed.diff_id,
        unpacked: Some(packed.unpacked_size),
    };
    lease.publish_layer(ingest, &layer, Some("--squash"))?;
    Ok(Some(layer))
}

fn config(base: Option<&Image>, image: &Image, layers: &[LayerBlob]) -> ImageConfig {
    let steps_below = base.map_or(0, |base| base.config.history.len());
    let layers_below = base.map_or(0, |base| base.manifest.layers.len());
    let mut config = image.config.clone();
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    for step in config.history.iter_mut().skip(steps_below) {
        step.empty_layer = true;
    }
    let comment = match base {
        Some(base) => format!("merge {} to {}", image.id(), base.id()),
        None => format!("create new from {}", image.id()),
    };
    config.history.push(History {
        created: image.config.created.clone(),
        comment: Some(comment),
        empty_layer: layers.len() == layers_below,
        ..History::default()
    });
    config
}

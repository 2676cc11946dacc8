//! Reading caches: which images they offer for a step, and fetching those that are needed.
//!
//! An image of a cache is at first only its documents, in memory: enough for the keys of the steps
//! that stand on it. It becomes an image of the store when something needs its layers: a step that
//! is run on it, a COPY from it, or the result's name.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::{HashMap, HashSet};
use serde_json::Value;

use super::directory::Directory;
use super::records::{self, Records};
use super::{CacheFrom, Source};
use crate::build::plan::Step;
use crate::oci::config::RunConfig;
use crate::oci::document::MANIFEST_LIMIT;
use crate::oci::{Digest, ImageConfig, Platform, media};
use crate::store::{self, Image, LayerBlob, Lease, Offered};

/// How many images a step is offered at most.
const MOST: usize = 8;

/// The caches that a build was given.
pub struct Imports {
    caches: Vec<Cache>,
    state: Mutex<State>,
    /// One image is fetched at a time: they share most of their layers.
    fetching: Mutex<()>,
}

struct Cache {
    name: String,
    source: Box<dyn Source>,
    steps: HashMap<Digest, Vec<Digest>>,
    selections: HashMap<Digest, Digest>,
    documents: HashMap<Digest, String>,
    layers: HashSet<Digest>,
}

#[derive(Default)]
struct State {
    /// Images of which something is missing or wrong: not offered again.
    unfit: HashSet<Digest>,
    /// Images that are in the store, and pinned.
    taken: HashSet<Digest>,
    /// Layers that a cache has, and not whole.
    damaged: HashSet<Digest>,
}

/// What became of an image that was needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is in the store, pinned.
    Whole,
    /// The caches do not have all of it: its steps are to be run.
    Unfit,
}

impl std::fmt::Debug for Imports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.caches.iter().map(|cache| &*cache.name).collect();
        f.debug_tuple("Imports").field(&names).finish()
    }
}

impl Imports {
    /// Reads the records of the caches that are there; `warn` hears of the others.
    pub fn open(from: &[CacheFrom], warn: &dyn Fn(String)) -> Imports {
        let mut caches = Vec::new();
        for from in from {
            let name = from.source.display().to_string();
            match Cache::open(from, name.clone()) {
                Ok(cache) => caches.push(cache),
                Err(why) => warn(format!("the cache {name} is not used: {why}")),
            }
        }
        Imports {
            caches,
            state: Mutex::default(),
            fetching: Mutex::new(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The images that caches offer for a step on `parent`: those that can be what the step gives.
    pub fn images(
        &self,
        key: &Digest,
        parent: Option<&Image>,
        platform: &Platform,
        step: &Step,
    ) -> Vec<Image> {
        let mut found: Vec<Image> = Vec::new();
        for cache in &self.caches {
            for digest in cache.steps.get(key).into_iter().flatten() {
                let known = found.iter().any(|image| image.digest == *digest);
                if known || found.len() == MOST || self.state().unfit.contains(digest) {
                    continue;
                }
                let image = cache.image(digest);
                found.extend(image.filter(|image| fits(image, parent, platform, step)));
            }
        }
        found
    }

    /// What a selection of an image's files contained, as the cache says that has the image.
    pub fn selection(&self, image: &Image, key: &Digest) -> Option<Digest> {
        let mut caches = self.caches.iter();
        let found = caches.find_map(|cache| {
            cache.documents.get(&image.digest)?;
            cache.selections.get(key)
        });
        found.copied()
    }

    /// The bytes of a document that a cache has.
    pub fn document(&self, digest: &Digest) -> Option<&str> {
        let mut found = self.caches.iter().map(|cache| cache.documents.get(digest));
        found.find_map(|text| text.map(String::as_str))
    }

    /// The bytes of a layer that a cache has, as it gives them.
    pub fn layer(&self, digest: &Digest) -> Option<Box<dyn std::io::Read + Send>> {
        let mut caches = self.caches.iter().filter(|c| c.layers.contains(digest));
        caches.find_map(|cache| cache.source.open(digest).ok().flatten())
    }

    /// Whether a layer was found to be damaged in a cache.
    pub fn is_damaged(&self, layer: &Digest) -> bool {
        self.state().damaged.contains(layer)
    }

    /// Whether an image was offered by a cache and cannot be had.
    pub fn is_unfit(&self, lease: &Lease, image: &Image) -> Result<bool, store::Error> {
        if !self.state().unfit.contains(&image.digest) {
            return Ok(false);
        }
        // The same image may have been built since.
        Ok(lease.present_image(&image.digest)?.is_none())
    }

    /// Makes sure that an image is in the store, with all of its layers. `warn` hears what is
    /// wrong with a cache.
    pub fn take(
        &self,
        lease: &Lease,
        image: &Image,
        warn: &dyn Fn(String),
    ) -> Result<Taken, store::Error> {
        let Some(manifest) = self.document(&image.digest) else {
            return Ok(Taken::Whole);
        };
        if self.state().taken.contains(&image.digest) {
            return Ok(Taken::Whole);
        }
        let _one = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        if lease.present_image(&image.digest)?.is_none() {
            let config = self.document(&image.id());
            let mut whole = config.is_some();
            for (layer, step) in layers(image) {
                whole = whole && self.take_layer(lease, &layer, step, warn)?;
            }
            let Some(config) = config.filter(|_| whole) else {
                self.state().unfit.insert(image.digest);
                return Ok(Taken::Unfit);
            };
            lease.adopt_documents(image, manifest.as_bytes(), config.as_bytes())?;
        }
        self.state().taken.insert(image.digest);
        Ok(Taken::Whole)
    }

    /// Takes a layer from the first cache that has it whole. Returns whether there is one.
    fn take_layer(
        &self,
        lease: &Lease,
        layer: &LayerBlob,
        step: Option<&str>,
        warn: &dyn Fn(String),
    ) -> Result<bool, store::Error> {
        if lease.has_layer(layer)? {
            return Ok(true);
        }
        for cache in &self.caches {
            if !cache.layers.contains(&layer.digest) {
                continue;
            }
            let why = match cache.source.open(&layer.digest) {
                Ok(Some(mut source)) => match lease.adopt_layer(layer, &mut *source, step)? {
                    Offered::Taken => return Ok(true),
                    Offered::Refused(why) => why,
                },
                Ok(None) => "it is missing".to_owned(),
                Err(error) => format!("it cannot be read: {error}"),
            };
            if self.state().damaged.insert(layer.digest) {
                warn(format!(
                    "the cache {} is damaged: layer {}: {why}; the steps that need it are run",
                    cache.name, layer.digest
                ));
            }
        }
        Ok(false)
    }
}

impl Cache {
    fn open(from: &CacheFrom, name: String) -> Result<Cache, String> {
        let source = Directory::new(&from.source);
        let manifest = records::parse_manifest(&source.manifest(from)?)?;
        let bytes = source.read(&manifest.config.digest, records::LIMIT)?;
        let records = Records::parse(&bytes)?;
        let mut steps: HashMap<Digest, Vec<Digest>> = HashMap::new();
        for step in &records.steps {
            steps.entry(step.key).or_default().push(step.image);
        }
        let selections = records.selections.iter().map(|s| (s.key, s.content));
        let documents = records.verified();
        Ok(Cache {
            name,
            source: Box::new(source),
            steps,
            selections: selections.collect(),
            documents: documents
                .into_iter()
                .map(|(digest, text)| (digest, text.to_owned()))
                .collect(),
            layers: manifest.layers.iter().map(|layer| layer.digest).collect(),
        })
    }

    fn image(&self, digest: &Digest) -> Option<Image> {
        // What the store could not read as a document is none.
        let document = |digest: &Digest| {
            let text = self.documents.get(digest);
            text.filter(|text| text.len() as u64 <= MANIFEST_LIMIT)
        };
        let manifest = document(digest)?;
        let config = |config: &Digest| {
            let text = document(config);
            text.map(|text| text.as_bytes().to_vec())
                .ok_or_else(|| crate::layout::blobs::Error::Missing { digest: *config }.into())
        };
        let image = Image::assemble(digest, manifest.as_bytes(), config).ok()?;
        let layers = &image.manifest.layers;
        let sound = layers
            .iter()
            .all(|layer| media::is_layer(&layer.media_type));
        (sound && image.manifest.subject.is_none()).then_some(image)
    }
}

/// Whether an image can be what a step on `parent` gives: all but the content of one layer follows
/// from the Dockerfile.
fn fits(image: &Image, parent: Option<&Image>, platform: &Platform, step: &Step) -> bool {
    let below = match parent {
        Some(parent) => parent.config.clone(),
        None => ImageConfig::scratch(platform),
    };
    let (layers, lower) = (&image.config.rootfs.diff_ids, &below.rootfs.diff_ids);
    let Some((last, history)) = image.config.history.split_last() else {
        return false;
    };
    let value = |config: &RunConfig| serde_json::to_value(config).unwrap_or(Value::Null);
    layers.starts_with(lower)
        && layers.len() == lower.len() + usize::from(!last.empty_layer)
        && history == below.history
        && last.created_by.as_ref() == Some(&step.created_by)
        && image.config.platform() == below.platform()
        && image.config.other == below.other
        && image.config.author == step.config.author
        && value(&image.config.config) == value(&step.config.run)
}

/// The layers of an image, each with the step that made it.
fn layers(image: &Image) -> Vec<(LayerBlob, Option<&str>)> {
    let of = |(layer, diff_id): (&crate::oci::document::Descriptor, &Digest)| LayerBlob {
        media_type: layer.media_type.clone(),
        digest: layer.digest,
        size: layer.size,
        diff_id: *diff_id,
        unpacked: None,
    };
    let blobs = image.manifest.layers.iter();
    blobs
        .zip(&image.config.rootfs.diff_ids)
        .map(of)
        .zip(image.config.layer_steps())
        .collect()
}

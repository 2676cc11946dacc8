//! Reading caches: which images they offer for a step, and fetching those that are needed.
//!
//! An image of a cache is at first only its documents, in memory: enough for the keys of the steps
//! that stand on it. It becomes an image of the store when something needs its layers: a step that
//! is run on it, a COPY from it, or the result's name.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::{HashMap, HashSet};
use serde_json::Value;

use super::directory::{Directory, One};
use super::records::{self, Records};
use super::remote::Remote;
use super::{Around, CacheFrom, LayerFile, Source, Wanted};
use crate::build::plan::Step;
use crate::oci::config::RunConfig;
use crate::oci::document::{Descriptor, MANIFEST_LIMIT, Manifest};
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

/// A cache of which only the manifest is known.
struct Opened {
    source: Box<dyn Source>,
    manifest: Manifest,
}

#[derive(Default)]
struct State {
    /// Images of which something is missing or wrong: not offered again.
    unfit: HashSet<Digest>,
    /// Images that are in the store, and pinned.
    taken: HashSet<Digest>,
    /// Layers that a cache, by its place, has, and not whole.
    damaged: HashSet<(usize, Digest)>,
    /// Caches, by their places, of which nothing more can be had.
    failed: HashSet<usize>,
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
    /// Reads the records of the caches that are there, and warns of the others.
    pub fn open(from: &[CacheFrom], around: Around) -> Imports {
        // Each may let us wait for its registry: all are asked at the same time.
        let opened: Vec<Result<Opened, String>> = std::thread::scope(|scope| {
            let open = |from| scope.spawn(move || Opened::of(from, around));
            let threads: Vec<_> = from.iter().map(open).collect();
            let ended = threads.into_iter().map(|thread| thread.join());
            ended
                .map(|opened| opened.unwrap_or_else(|_| Err("reading it has failed".to_owned())))
                .collect()
        });
        let mut caches = Vec::new();
        for (from, opened) in from.iter().zip(opened) {
            let name = from.to_string();
            match opened.and_then(|opened| Cache::read(opened, name.clone(), around)) {
                Ok(cache) => caches.push(cache),
                // Whoever asked for the end knows why.
                Err(_) if around.cancel.is_cancelled() => {}
                Err(why) => around.warn(format!("the cache {name} is not used: {why}")),
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

    /// A file with what a cache says is this layer.
    pub fn copy(
        &self,
        layer: &Descriptor,
        around: Around,
    ) -> Result<Option<LayerFile>, store::Error> {
        for cache in self.having(&layer.digest) {
            if let Some(copy) = cache.source.copy(layer, around)? {
                return Ok(Some(copy));
            }
        }
        Ok(None)
    }

    /// The repositories of a registry whose caches say that they have a layer.
    pub fn repositories(&self, registry: &str, layer: &Digest) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for cache in self.having(layer) {
            match cache.source.repository() {
                Some((domain, path)) if domain == registry => found.push(path.to_owned()),
                _ => {}
            }
        }
        found
    }

    /// The caches that say that they have a layer.
    fn having(&self, layer: &Digest) -> impl Iterator<Item = &Cache> {
        self.caches
            .iter()
            .filter(move |cache| cache.layers.contains(layer))
    }

    /// Whether a layer was found to be damaged in a cache.
    pub fn is_damaged(&self, layer: &Digest) -> bool {
        self.state()
            .damaged
            .iter()
            .any(|(_, digest)| digest == layer)
    }

    /// Whether an image was offered by a cache and cannot be had.
    pub fn is_unfit(&self, lease: &Lease, image: &Image) -> Result<bool, store::Error> {
        if !self.state().unfit.contains(&image.digest) {
            return Ok(false);
        }
        // The same image may have been built since.
        Ok(lease.present_image(&image.digest)?.is_none())
    }

    /// Makes sure that an image is in the store, with all of its layers. Warns of what is wrong with
    /// a cache.
    pub fn take(&self, image: &Image, around: Around) -> Result<Taken, store::Error> {
        let lease = around.lease;
        let Some(manifest) = self.document(&image.digest) else {
            return Ok(Taken::Whole);
        };
        if self.state().taken.contains(&image.digest) {
            return Ok(Taken::Whole);
        }
        let _one = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        if lease.present_image(&image.digest)?.is_none() {
            let config = self.document(&image.id());
            let whole = config.is_some() && self.take_layers(image, around)?;
            let Some(config) = config.filter(|_| whole) else {
                self.state().unfit.insert(image.digest);
                return Ok(Taken::Unfit);
            };
            lease.adopt_documents(image, manifest.as_bytes(), config.as_bytes())?;
        }
        self.state().taken.insert(image.digest);
        Ok(Taken::Whole)
    }

    /// Takes the layers that the store lacks, each from the first cache that has it whole. Returns
    /// whether all are here; if no cache has one of them, nothing is fetched.
    fn take_layers(&self, image: &Image, around: Around) -> Result<bool, store::Error> {
        let mut missing: Vec<Wanted> = Vec::new();
        for wanted in layers(image) {
            // The same blob twice, with another diff ID, is one lie at least.
            let lies = |other: &Wanted| {
                let (other, layer) = (&other.layer, &wanted.layer);
                other.digest == layer.digest && other.diff_id != layer.diff_id
            };
            let known = |other: &Wanted| other.layer.digest == wanted.layer.digest;
            if missing.iter().any(lies) || self.having(&wanted.layer.digest).next().is_none() {
                if !around.lease.has_layer(&wanted.layer)? {
                    return Ok(false);
                }
            } else if !missing.iter().any(known) && !around.lease.has_layer(&wanted.layer)? {
                missing.push(wanted);
            }
        }
        for (place, cache) in self.caches.iter().enumerate() {
            let (wanted, others) = missing.into_iter().partition(|wanted: &Wanted| {
                let digest = wanted.layer.digest;
                cache.layers.contains(&digest) && !self.state().damaged.contains(&(place, digest))
            });
            missing = others;
            if wanted.is_empty() {
                continue;
            }
            let mut offered = cache.source.take(&wanted, around)?.into_iter();
            for wanted in wanted {
                match offered.next() {
                    Some(Offered::Taken) => continue,
                    Some(Offered::Refused(why)) => {
                        self.damaged(place, &wanted.layer.digest, &why, around);
                    }
                    None => {}
                }
                missing.push(wanted);
            }
        }
        Ok(missing.is_empty())
    }

    fn damaged(&self, place: usize, layer: &Digest, why: &str, around: Around) {
        if around.cancel.is_cancelled() || !self.state().damaged.insert((place, *layer)) {
            return;
        }
        let Cache { name, source, .. } = &self.caches[place];
        if source.has_failed() {
            if self.state().failed.insert(place) {
                around.warn(format!(
                    "the cache {name} is not used any more: {why}; the steps that need its layers are run"
                ));
            }
            return;
        }
        around.warn(format!(
            "the cache {name} is damaged: layer {layer}: {why}; the steps that need it are run"
        ));
    }
}

impl Opened {
    fn of(from: &CacheFrom, around: Around) -> Result<Opened, String> {
        let source: Box<dyn Source> = match from {
            CacheFrom::Directory { source, which } => Box::new(One {
                directory: Directory::new(source),
                which: which.clone(),
            }),
            CacheFrom::Registry(reference) => Box::new(Remote::open(reference, around)?),
        };
        let manifest = records::parse_manifest(&source.manifest()?)?;
        Ok(Opened { source, manifest })
    }
}

impl Cache {
    fn read(opened: Opened, name: String, around: Around) -> Result<Cache, String> {
        let Opened { source, manifest } = opened;
        let bytes = source.records(&manifest.config, around)?;
        let records = Records::parse(&bytes)?;
        let mut steps: HashMap<Digest, Vec<Digest>> = HashMap::new();
        for step in &records.steps {
            steps.entry(step.key).or_default().push(step.image);
        }
        let selections = records.selections.iter().map(|s| (s.key, s.content));
        let documents = records.verified();
        Ok(Cache {
            name,
            source,
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
fn layers(image: &Image) -> impl Iterator<Item = Wanted> {
    let of = |((layer, diff_id), step): ((&Descriptor, &Digest), Option<&str>)| Wanted {
        layer: LayerBlob {
            media_type: layer.media_type.clone(),
            digest: layer.digest,
            size: layer.size,
            diff_id: *diff_id,
            unpacked: None,
        },
        step: step.map(str::to_owned),
    };
    let blobs = image.manifest.layers.iter();
    blobs
        .zip(&image.config.rootfs.diff_ids)
        .zip(image.config.layer_steps())
        .map(of)
}

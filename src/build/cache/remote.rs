//! `type=registry`: a cache under a tag of a repository.
//!
//! ```text
//! read   GET manifest ─▶ GET records                     before anything is planned
//!        GET layers, a few at the same time, each into ingest/LEASE-partial-HEX
//!                                                        when something stands on them
//! write  HEAD, mount or send each layer ─▶ records ─▶ PUT manifest under the tag
//! ```
//! What a build reads is what the registry itself has, and no mirror: caches are written often. A
//! registry that does not answer, or fails while layers are fetched, is warned of and not asked
//! again by this build: what it has is built as if it had nothing.
//!
//! The manifest says when it was written, which is all that is known of a cache's age there: a
//! cache that is the same as before is written again once it is [`FRESH`] old, manifest only. What
//! had the tag before stays in the registry, untagged, until the registry collects its garbage:
//! hosts that are reading it go on.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::export::{Error, path_in_store};
use super::{Around, Imports, LayerFile, Source, Wanted, records};
use crate::build::event::Event;
use crate::fsutil::IoContext;
use crate::gc::reserve;
use crate::oci::document::Descriptor;
use crate::oci::{Digest, Reference};
use crate::registry::artifact::{Access, Arriving, Artifacts, Leaving};
use crate::registry::{self, LayerState, push};
use crate::store::{self, Held, Lease, Offered, Partial};

/// How long a registry may take to say whether it has a cache.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before looking again whether somebody else has come to an end.
const LOOK: Duration = Duration::from_millis(50);
/// How old a cache must be, in milliseconds, before it is written again though nothing changed.
const FRESH: i64 = 3_600_000;

/// A cache in a registry.
pub struct Remote {
    artifacts: Artifacts,
    name: Reference,
    /// It has failed: nobody waits for it again.
    away: AtomicBool,
}

impl Remote {
    /// What `name` is to be read from; nothing is asked yet.
    pub fn open(name: &Reference, around: Around) -> Result<Remote, String> {
        let cache = name.full();
        around.sink.event(Event::CacheImport { cache });
        let artifacts = artifacts(name, Access::Pull, around).map_err(|error| error.to_string())?;
        Ok(Remote {
            artifacts,
            name: name.clone(),
            away: AtomicBool::new(false),
        })
    }

    /// Fetches blobs into files; each that is there and has its digest is given to `arrived`, the
    /// others' places to `missing` with the reason. Files of neither are left for the next who
    /// wants them.
    fn fetch(
        &self,
        blobs: Vec<Arriving>,
        around: Around,
        mut arrived: impl FnMut(usize) -> Result<(), store::Error>,
        mut missing: impl FnMut(usize, String) -> Result<(), store::Error>,
    ) -> Result<(), store::Error> {
        for blob in &blobs {
            let from = fs::metadata(&blob.path).map_or(0, |metadata| metadata.len());
            let state = match from {
                0 => LayerState::Wanted,
                from => LayerState::Resumed { from },
            };
            tell(around, blob.digest, blob.size, state);
        }
        let shown: Vec<_> = blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
        let sink = |event| around.sink.event(Event::Transfer(event));
        let outcome = self.artifacts.download(blobs, &sink, |place, result| {
            match result {
                Ok(()) => arrived(place)?,
                // The disk is ours.
                Err(registry::Error::Io(error)) => return Err(store::Error::from(error).into()),
                Err(error) => {
                    if !is_about_one(&error) {
                        self.away.store(true, Ordering::Relaxed);
                    }
                    let (digest, size) = shown[place];
                    tell(around, digest, size, LayerState::Refused);
                    missing(place, error.to_string())?;
                }
            }
            Ok(())
        });
        match outcome {
            Err(registry::Error::Store(error)) => Err(error),
            // What nobody has heard of is missing.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Whether an error is about one blob, and says nothing of the others.
fn is_about_one(error: &registry::Error) -> bool {
    use registry::Error;
    matches!(
        error,
        Error::Wrong { .. } | Error::NotFound { .. } | Error::Interrupted
    )
}

fn artifacts(
    name: &Reference,
    access: Access,
    around: Around,
) -> Result<Artifacts, registry::Error> {
    let Some(client) = around.client else {
        return Err(registry::Error::Refused {
            what: name.full(),
            why: "this build asks no registries".to_owned(),
        });
    };
    Artifacts::of(client, name, access, around.cancel)
}

fn tell(around: Around, digest: Digest, size: u64, state: LayerState) {
    around.sink.event(Event::Transfer(registry::Event::Layer {
        digest,
        size,
        state,
    }));
}

impl Source for Remote {
    fn manifest(&self) -> Result<Vec<u8>, String> {
        let what = match (&self.name.digest, &self.name.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => super::DEFAULT_TAG.to_owned(),
        };
        match self.artifacts.manifest_within(&what, PATIENCE) {
            Ok(manifest) => Ok(manifest.bytes),
            Err(error) => Err(error.to_string()),
        }
    }

    fn records(&self, records: &Descriptor, around: Around) -> Result<Vec<u8>, String> {
        let (digest, size) = (records.digest, records.size);
        if size > records::LIMIT {
            return Err(format!(
                "its records have {size} bytes, more than the {} that are read",
                records::LIMIT
            ));
        }
        let read = || -> Result<Result<Vec<u8>, String>, store::Error> {
            let file = LayerFile::passing(around.lease.passing_file());
            let path = file.path();
            let blob = vec![arriving(path, digest, size, None)];
            let mut found = Err("its records did not come".to_owned());
            let mut why = None;
            self.fetch(
                blob,
                around,
                |_| {
                    found = Ok(fs::read(path).at("read", path)?);
                    tell(around, digest, size, LayerState::Pulled);
                    Ok(())
                },
                |_, error| {
                    why = Some(error);
                    Ok(())
                },
            )?;
            Ok(match why {
                Some(why) => Err(format!("its records: {why}")),
                None => found,
            })
        };
        read().unwrap_or_else(|error| Err(error.to_string()))
    }

    fn take(&self, wanted: &[Wanted], around: Around) -> Result<Vec<Offered>, store::Error> {
        let lease = around.lease;
        let mut offered = vec![refused("it did not come"); wanted.len()];
        if self.has_failed() {
            offered.fill(refused("its registry has failed before"));
            return Ok(offered);
        }
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for (place, Wanted { layer, .. }) in wanted.iter().enumerate() {
            match lease.partial(&layer.digest)? {
                Some(partial) => ours.push((place, partial)),
                None => others.push(place),
            }
        }
        self.fetch_layers(wanted, ours, &mut offered, around)?;
        // Two builds that want the same wait for one another with nothing of it in their hands.
        for place in others {
            let layer = &wanted[place].layer;
            match self.turn(&layer.digest, around)? {
                Some(partial) if lease.has_layer(layer)? => {
                    lease.forget_partial(partial)?;
                    tell(around, layer.digest, layer.size, LayerState::Exists);
                    offered[place] = Offered::Taken;
                }
                Some(partial) => {
                    self.fetch_layers(wanted, vec![(place, partial)], &mut offered, around)?;
                }
                None => {
                    offered[place] = refused("somebody else is fetching it, and takes long");
                }
            }
        }
        Ok(offered)
    }

    fn copy(&self, layer: &Descriptor, around: Around) -> Result<Option<LayerFile>, store::Error> {
        let (digest, size) = (layer.digest, layer.size);
        if self.has_failed() || room(around.lease)? < size {
            return Ok(None);
        }
        let file = LayerFile::passing(around.lease.passing_file());
        let mut here = false;
        self.fetch(
            vec![arriving(file.path(), digest, size, None)],
            around,
            |_| {
                here = true;
                tell(around, digest, size, LayerState::Pulled);
                Ok(())
            },
            |_, _| Ok(()),
        )?;
        Ok(here.then_some(file))
    }

    fn has_failed(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    fn repository(&self) -> Option<(&str, &str)> {
        Some((&self.name.domain, &self.name.path))
    }
}

impl Remote {
    /// Waits until nobody else is fetching a layer; not for ever, since the step can be run.
    fn turn(&self, layer: &Digest, around: Around) -> Result<Option<Partial>, store::Error> {
        let mut waited = Duration::ZERO;
        while waited < PATIENCE && !self.has_failed() && !around.cancel.is_cancelled() {
            if let Some(partial) = around.lease.partial(layer)? {
                return Ok(Some(partial));
            }
            std::thread::sleep(LOOK);
            waited += LOOK;
        }
        Ok(None)
    }

    /// Fetches those layers of `wanted` whose turn it is, and says of each in `offered` what came.
    fn fetch_layers(
        &self,
        wanted: &[Wanted],
        turns: Vec<(usize, Partial)>,
        offered: &mut [Offered],
        around: Around,
    ) -> Result<(), store::Error> {
        let lease = around.lease;
        let mut room = room(lease)?;
        // By the place in `blobs`: the place in `wanted`, and where it arrives.
        let mut places: Vec<usize> = Vec::new();
        let mut partials: Vec<Option<Partial>> = Vec::new();
        let mut blobs: Vec<Arriving> = Vec::new();
        for (place, partial) in turns {
            let layer = &wanted[place].layer;
            let Some(rest) = room.checked_sub(layer.size) else {
                offered[place] = refused(&format!(
                    "it has {} bytes, and the store's file system has no room for them",
                    layer.size
                ));
                lease.leave_partial(partial)?;
                continue;
            };
            room = rest;
            let (digest, size, held) = (layer.digest, layer.size, Some(partial.held()));
            blobs.push(arriving(partial.path(), digest, size, held));
            partials.push(Some(partial));
            places.push(place);
        }
        let mut whys: Vec<(usize, String)> = Vec::new();
        let fetched = self.fetch(
            blobs,
            around,
            |arrived| {
                let Some(partial) = partials[arrived].take() else {
                    return Ok(());
                };
                let Wanted { layer, step } = &wanted[places[arrived]];
                let outcome = lease.adopt_arrived(layer, partial, step.as_deref())?;
                let state = match outcome {
                    Offered::Taken => LayerState::Pulled,
                    Offered::Refused(_) => LayerState::Refused,
                };
                tell(around, layer.digest, layer.size, state);
                offered[places[arrived]] = outcome;
                Ok(())
            },
            |missing, why| {
                whys.push((places[missing], why));
                Ok(())
            },
        );
        for partial in partials.into_iter().flatten() {
            lease.leave_partial(partial)?;
        }
        fetched?;
        for (place, why) in whys {
            offered[place] = Offered::Refused(why);
        }
        Ok(())
    }
}

fn refused(why: &str) -> Offered {
    Offered::Refused(why.to_owned())
}

fn arriving(path: &Path, digest: Digest, size: u64, held: Option<Held>) -> Arriving {
    Arriving {
        digest,
        size,
        path: path.to_path_buf(),
        held,
    }
}

/// Bytes that may arrive: what says that it is larger than the disk is not begun.
fn room(lease: &Lease) -> Result<u64, store::Error> {
    Ok(reserve::available(&lease.store().private(""))?)
}

/// Writes a cache with these records and, as far as they can be had, these layers. Returns the
/// digest of its manifest.
pub fn write(
    to: &Reference,
    records: &[u8],
    layers: &[Descriptor],
    imports: &Imports,
    around: Around,
) -> Result<Digest, Error> {
    let cache = to.full();
    around.sink.event(Event::CacheExport { cache });
    let tag = to.tag.clone().filter(|_| to.digest.is_none());
    let tag = tag.ok_or_else(|| registry::Error::Refused {
        what: to.full(),
        why: "a cache is written to a tag, not to a digest".to_owned(),
    })?;
    let artifacts = artifacts(to, Access::Push, around)?;
    let mut export = Export {
        to,
        imports,
        around,
        artifacts: &artifacts,
    };
    let now = around.lease.store().now();
    let damaged = layers.iter().any(|layer| imports.is_damaged(&layer.digest));
    let there = match damaged {
        true => None,
        false => export.same(&tag, records, layers)?,
    };
    let layers = match there {
        Some((digest, created)) if (now - FRESH..=now).contains(&created) => return Ok(digest),
        Some(_) => layers.to_vec(),
        None => {
            let layers = export.layers(layers)?;
            export.records(records)?;
            layers
        }
    };
    let manifest = records::manifest(records, &layers, Some(now));
    let digest = Digest::of(&manifest);
    artifacts.put_manifest(&tag, manifest)?;
    Ok(digest)
}

struct Export<'a> {
    to: &'a Reference,
    imports: &'a Imports,
    around: Around<'a>,
    artifacts: &'a Artifacts,
}

impl Export<'_> {
    /// The cache that has the tag and was written when, if it is the same: then the registry has
    /// all of it.
    fn same(
        &self,
        tag: &str,
        records: &[u8],
        layers: &[Descriptor],
    ) -> Result<Option<(Digest, i64)>, Error> {
        let manifest = match self.artifacts.manifest(tag) {
            Ok(Some(manifest)) => manifest,
            // Something else has the tag, and loses it.
            Ok(None) | Err(registry::Error::Wrong { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Ok(parsed) = records::parse_manifest(&manifest.bytes) else {
            return Ok(None);
        };
        let digests = |layers: &[Descriptor]| -> Vec<Digest> {
            layers.iter().map(|layer| layer.digest).collect()
        };
        let same = parsed.config.digest == Digest::of(records)
            && digests(&parsed.layers) == digests(layers);
        let created = records::created(&parsed);
        Ok(created.filter(|_| same).map(|at| (manifest.digest, at)))
    }

    /// Brings the layers there, and returns those that are.
    fn layers(&mut self, layers: &[Descriptor]) -> Result<Vec<Descriptor>, Error> {
        let lease = self.around.lease;
        let elsewhere = push::elsewhere(lease.store(), self.to)?;
        let leaving = layers.iter().map(|layer| {
            let mut others = self.imports.repositories(&self.to.domain, &layer.digest);
            others.extend(elsewhere.get(&layer.digest).into_iter().flatten().cloned());
            others.retain(|path| *path != self.to.path);
            let (digest, size) = (layer.digest, layer.size);
            tell(self.around, digest, size, LayerState::Prepared);
            Ok(Leaving {
                digest,
                size,
                path: path_in_store(lease, layer)?,
                elsewhere: others,
            })
        });
        let leaving: Vec<Leaving> = leaving.collect::<Result<_, store::Error>>()?;
        let mut there = self.upload(&leaving)?;
        for (place, layer) in layers.iter().enumerate() {
            if there[place] || leaving[place].path.is_some() {
                continue;
            }
            // Another registry's cache, or a directory's, has it.
            if let Some(copy) = self.imports.copy(layer, self.around)? {
                let leaving = Leaving {
                    path: Some(copy.path().to_path_buf()),
                    ..leaving[place].clone()
                };
                there[place] = self.upload(&[leaving])?[0];
            }
        }
        let kept = layers.iter().zip(&there).filter(|(_, there)| **there);
        Ok(kept.map(|(layer, _)| layer.clone()).collect())
    }

    fn records(&self, records: &[u8]) -> Result<(), Error> {
        let (digest, size) = (Digest::of(records), records.len() as u64);
        let file = LayerFile::passing(self.around.lease.passing_file());
        let path = file.path();
        let written = fs::write(path, records).at("write", path);
        written.map_err(store::Error::from)?;
        tell(self.around, digest, size, LayerState::Prepared);
        self.upload(&[Leaving {
            digest,
            size,
            path: Some(file.path().to_path_buf()),
            elsewhere: Vec::new(),
        }])?;
        Ok(())
    }

    /// Brings blobs there. Returns of each whether it is: one that is damaged here is not.
    fn upload(&self, leaving: &[Leaving]) -> Result<Vec<bool>, Error> {
        let mut there = vec![false; leaving.len()];
        let sink = |event| self.around.sink.event(Event::Transfer(event));
        self.artifacts
            .upload(leaving, &sink, |place, sent| -> Result<(), Error> {
                let blob = &leaving[place];
                there[place] = match sent {
                    Ok(sent) => sent,
                    Err(error @ registry::Error::Status { status: 400, .. }) => {
                        // Left out, if it is our bytes that are wrong: its step will be run.
                        if !is_damaged(blob)? {
                            return Err(error.into());
                        }
                        false
                    }
                    Err(error) => return Err(error.into()),
                };
                if !there[place] && blob.path.is_some() {
                    tell(self.around, blob.digest, blob.size, LayerState::Refused);
                }
                Ok(())
            })?;
        Ok(there)
    }
}

/// Whether a file does not have the bytes that it is to have.
fn is_damaged(blob: &Leaving) -> Result<bool, store::Error> {
    let Some(path) = &blob.path else {
        return Ok(true);
    };
    let mut file = fs::File::open(path).at("open", path)?;
    let hasher = crate::oci::digest::Hasher::of_all(&mut file).at("read", path)?;
    Ok(hasher.finish() != blob.digest)
}

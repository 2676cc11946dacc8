//! From a Dockerfile to an image.
//!
//! ```text
//! text ─parse─▶ Dockerfile ─lower─▶ BuildGraph ─solve─▶ image ─▶ tags
//!                              ▲                  │
//!                    base images' configs         ├─ cache: key ▶ image        (`key`)
//!                                                 ├─ COPY: tree ▶ entries       (`tree`, `copy`)
//!                                                 ├─ RUN: container ▶ upper     (`run`)
//!                                                 └─ commit: layer, image       (`commit`)
//! ```
//! | file | owns |
//! |---|---|
//! | [`lower`], [`plan`] | lowering: every word final before anything runs; pure |
//! | [`base`] | base images: of the store, or pulled |
//! | [`config`] | what metadata instructions do; pure |
//! | [`key`] | cache keys; pure |
//! | [`context`], [`tree`], [`copy`], [`chmod`] | files: the context, other images, what COPY makes of them |
//! | [`remote`], [`named`] | files from elsewhere: URLs, repositories, named contexts |
//! | [`mounts`] | what RUN --mount gives a step |
//! | [`run`] | one process in an intermediate container |
//! | [`commit`] | layers and intermediate images, beside the next step |
//! | [`squash`], [`annotate`] | what the result is besides its steps |
//! | [`interrupt`] | the end of a commit that nobody waits for |
//! | [`solver`] | stages side by side, cache first |
//! | [`cache`] | the cache outside of the store: what `--cache-to` writes and `--cache-from` reads |
//! | [`platform`], [`emulation`] | platforms' names, their ARGs, whether their programs run here |
//! | [`event`] | what displays are told |
//! | [`check`], [`hints`], [`memory`] | what a Dockerfile could do better: by rules, by what past builds did |

pub mod annotate;
pub mod base;
pub mod cache;
pub mod check;
pub mod chmod;
pub mod commit;
pub mod config;
pub mod context;
pub mod copy;
pub mod emulation;
pub mod error;
pub mod event;
pub mod hints;
pub mod interrupt;
pub mod key;
pub mod lower;
pub mod memory;
pub mod mounts;
pub mod named;
pub mod options;
pub mod plan;
pub mod platform;
pub mod remote;
pub mod run;
pub mod solver;
pub mod squash;
pub mod tree;
pub mod users;

pub use base::PullPolicy;
pub use context::Context;
pub use error::{Error, StepError};
pub use event::{Event, Sink};
pub use options::{Entitlement, Options, Secret};

use crate::catalog::journal::Particulars;
use crate::dockerfile;
use crate::executor;
use crate::oci::{Digest, Platform, media};
use crate::store::{Image, Lease};

/// What is built from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The text of the Dockerfile.
    pub dockerfile: &'a [u8],
    /// What errors call it.
    pub name: &'a str,
    /// The build context.
    pub context: &'a Context,
}

/// What was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// What the tags point at: the manifest of the image, or the index of several.
    pub digest: Digest,
    /// The images, in the order of their platforms.
    pub images: Vec<Image>,
}

impl Built {
    /// What names the result: the image's ID; of several images, the digest of their index.
    pub fn id(&self) -> Digest {
        match self.images.as_slice() {
            [image] => image.id(),
            _ => self.digest,
        }
    }
}

/// Builds an image, or one for each of several platforms, under a lease, and tags it. The journal
/// tells of it, also where a step failed.
pub fn build(
    lease: &Lease,
    input: Input,
    options: &Options,
    executor: &(dyn executor::Executor + Sync),
    cancel: &executor::Cancel,
    sink: &dyn Sink,
) -> Result<Built, Error> {
    let watch = memory::Watch::new(lease.store(), sink);
    let around = run::Surroundings {
        lease,
        options,
        executor,
        cancel,
    };
    let built = make(around, input, &watch, sink);
    if let Err(error) = &built {
        note_failure(lease, error, &input, options, &watch);
    }
    built
}

/// What [`build`] does; what is to be told of the steps goes by the watch.
fn make(
    around: run::Surroundings,
    input: Input,
    watch: &memory::Watch,
    sink: &dyn Sink,
) -> Result<Built, Error> {
    let run::Surroundings {
        lease,
        options,
        cancel,
        ..
    } = around;
    let parsed = dockerfile::parse(input.dockerfile).map_err(|source| Error::Parse {
        name: input.name.to_owned(),
        source,
    })?;
    let platforms = match options.platforms.as_slice() {
        [] => std::slice::from_ref(&options.platform),
        several => several,
    };
    let bases = &mut base::Bases {
        lease,
        options,
        cancel,
        sink,
        asked: Default::default(),
    };
    let graph = lower::lower_all(&parsed, input.name, options, platforms, bases)?;
    emulation::check(&graph, input.name, options)?;
    let needed = graph.stages.iter().flatten().count();
    let planned = Event::Planned {
        steps: graph.steps().map(|step| step.info.clone()).collect(),
        skipped_stages: graph.stages.len() - needed,
    };
    let findings = check::during(&parsed, &graph, &input, options)?;
    sink.findings(&findings);
    check::refuse(&parsed, &findings, input.name, options)?;
    watch.event(planned);
    for message in &graph.warnings {
        watch.event(Event::Warning {
            message: message.clone(),
        });
    }
    let caches = cache::Around {
        lease,
        client: options.registry.as_ref(),
        cancel,
        sink: watch,
    };
    let imports = cache::Imports::open(&options.cache_from, caches);
    let trees = named::NamedTrees::new(&options.named);
    let solver = solver::Solver::new(
        around,
        &graph,
        input.context,
        watch,
        input.name,
        &imports,
        &trees,
    );
    let solved = solver.solve()?;
    let images: Option<Vec<Image>> = solved.images.into_iter().collect();
    let Some(images) = images else {
        return Err(nothing_built(&graph, input.name));
    };
    let built = finish(lease, images, &graph, options, platforms, cancel)?;
    sink.event(Event::Committed { image: built.id() });
    if !options.tags.is_empty() {
        lease.tag(&options.tags, &built.digest)?;
        for name in &options.tags {
            sink.event(Event::Tagged { name: name.clone() });
        }
    }
    note(lease, &built, &input, options, watch, graph.steps().count())?;
    for to in &options.cache_to {
        match cache::export(to, &solved.used, &built.images, &imports, caches) {
            Ok(_) => {}
            Err(why) if why.is_interrupted() => return Err(Error::Interrupted),
            Err(why) if to.ignore_error => {
                let cache = &to.destination;
                caches.warn(format!("the cache {cache} was not written: {why}"));
            }
            Err(source) => {
                return Err(Error::CacheTo {
                    destination: to.destination.to_string(),
                    source: Box::new(source),
                });
            }
        }
    }
    Ok(built)
}

/// Makes of what the steps gave what was asked for.
fn finish(
    lease: &Lease,
    images: Vec<Image>,
    graph: &plan::BuildGraph,
    options: &Options,
    platforms: &[Platform],
    cancel: &executor::Cancel,
) -> Result<Built, Error> {
    let mut finished = Vec::with_capacity(images.len());
    for (image, target) in images.into_iter().zip(&graph.targets) {
        let image = match options.squash {
            true => squash::squash(
                lease,
                squash::base_of(graph, *target),
                image,
                options,
                cancel,
            )?,
            false => image,
        };
        finished.push(annotate::annotate(lease, image, &options.annotations)?);
    }
    Ok(Built {
        digest: root(lease, &finished, platforms)?,
        images: finished,
    })
}

/// What the images are named by: the one image, or an index of several.
fn root(lease: &Lease, images: &[Image], platforms: &[Platform]) -> Result<Digest, Error> {
    if let [image] = images {
        return Ok(image.digest);
    }
    let entry = |(image, platform): (&Image, &Platform)| {
        let media_type = image.manifest.media_type.as_deref();
        serde_json::json!({
            "mediaType": media_type.unwrap_or(media::MANIFEST),
            "digest": image.digest,
            "size": image.size,
            "platform": platform,
        })
    };
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::INDEX,
        "manifests": images.iter().zip(platforms).map(entry).collect::<Vec<_>>(),
    });
    Ok(lease.publish_index(index.to_string().as_bytes())?)
}

/// Puts the build into the journal, and what it did with its steps into the memory.
fn note(
    lease: &Lease,
    built: &Built,
    input: &Input,
    options: &Options,
    watch: &memory::Watch,
    steps: usize,
) -> Result<(), Error> {
    let store = lease.store();
    let cached = watch.cached();
    let id = built.id();
    let facts = serde_json::json!({
        "image": id,
        "steps": steps,
        "cached": cached,
        "run": watch.done(),
        "tags": options.tags,
    });
    let more = Particulars {
        digest: Some(built.digest),
        facts: facts.as_object().cloned().unwrap_or_default(),
        ..Particulars::default()
    };
    let name = options.tags.first().cloned();
    let name = name.unwrap_or_else(|| id.short());
    let detail = format!("{} from {steps} steps, {cached} cached", id.short());
    let (entry, more) = lease.journal_entry("build", &name, detail, more)?;
    let subject = memory::subject(input.context, input.name, options);
    let mut record = watch.record(&subject, options.no_cache);
    Ok(store.write(|tx| {
        tx.note_with(&entry, more)?;
        if let Some(record) = &mut record {
            let before = tx.builds(&subject, 1)?;
            memory::explain(record, before.first());
            tx.remember_build(record)?;
        }
        Ok(())
    })?)
}

/// Puts a build into the journal that failed when its steps were known. That the journal cannot be
/// written says nothing that the build's own error does not.
fn note_failure(
    lease: &Lease,
    error: &Error,
    input: &Input,
    options: &Options,
    watch: &memory::Watch,
) {
    let Some(steps) = watch.planned() else { return };
    let why = error.to_string();
    let why = why.lines().next().unwrap_or_default();
    let cached = watch.cached();
    let facts = serde_json::json!({
        "failed": true,
        "error": why,
        "steps": steps,
        "cached": cached,
        "run": watch.done(),
        "tags": options.tags,
    });
    let more = Particulars {
        facts: facts.as_object().cloned().unwrap_or_default(),
        ..Particulars::default()
    };
    let name = options.tags.first().map_or(input.name, String::as_str);
    let detail = format!("failed: {why}");
    if let Ok((entry, more)) = lease.journal_entry("build", name, detail, more) {
        let _ = lease.store().write(|tx| Ok(tx.note_with(&entry, more)?));
    }
}

fn nothing_built(graph: &plan::BuildGraph, name: &str) -> Error {
    let step = graph
        .targets
        .first()
        .and_then(|target| graph.stages[*target].as_ref())
        .and_then(|stage| stage.steps.first());
    let why = "nothing was built: FROM scratch needs an instruction after it".to_owned();
    Error::Step {
        name: name.to_owned(),
        line: step.map_or(1, |step| step.info.line),
        column: step.map_or(1, |step| step.info.column),
        instruction: step.map_or_else(String::new, |step| step.info.text.clone()),
        source: Box::new(StepError::Invalid(why)),
    }
}

#[cfg(test)]
mod tests;

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
//! | [`config`] | what metadata instructions do; pure |
//! | [`key`] | cache keys; pure |
//! | [`context`], [`tree`], [`copy`], [`chmod`] | files: the context, other images, what COPY makes of them |
//! | [`remote`], [`named`] | files from elsewhere: URLs, repositories, named contexts |
//! | [`run`] | one process in an intermediate container |
//! | [`commit`] | layers and intermediate images, beside the next step |
//! | [`solver`] | stages side by side, cache first |
//! | [`event`] | what displays are told |

pub mod chmod;
pub mod commit;
pub mod config;
pub mod context;
pub mod copy;
pub mod error;
pub mod event;
pub mod key;
pub mod lower;
pub mod named;
pub mod options;
pub mod plan;
pub mod platform;
pub mod remote;
pub mod run;
pub mod solver;
pub mod tree;
pub mod users;

pub use context::Context;
pub use error::{Error, StepError};
pub use event::{Event, Sink};
pub use options::Options;

use std::sync::atomic::{AtomicUsize, Ordering};

use plan::ResolveBase;

use crate::catalog::journal::JournalEntry;
use crate::dockerfile;
use crate::executor;
use crate::oci::Platform;
use crate::store::{self, Image, Lease};

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

/// Finds base images in the store, and pins them to the build's lease.
struct Bases<'a> {
    lease: &'a Lease<'a>,
}

impl ResolveBase for Bases<'_> {
    fn image(&mut self, name: &str, platform: &Platform) -> Result<Image, store::Error> {
        self.lease.use_image(name, platform)
    }
}

/// Builds an image under a lease, and tags it.
pub fn build(
    lease: &Lease,
    input: Input,
    options: &Options,
    executor: &(dyn executor::Executor + Sync),
    cancel: &executor::Cancel,
    sink: &dyn Sink,
) -> Result<Image, Error> {
    let parsed = dockerfile::parse(input.dockerfile).map_err(|source| Error::Parse {
        name: input.name.to_owned(),
        source,
    })?;
    let graph = lower::lower(&parsed, input.name, options, &mut Bases { lease })?;
    let needed = graph.stages.iter().flatten().count();
    sink.event(Event::Planned {
        steps: graph.steps().map(|step| step.info.clone()).collect(),
        skipped_stages: graph.stages.len() - needed,
    });
    for message in &graph.warnings {
        sink.event(Event::Warning {
            message: message.clone(),
        });
    }
    let cached = AtomicUsize::new(0);
    let count = |event: Event| {
        if matches!(event, Event::StepCached { .. }) {
            cached.fetch_add(1, Ordering::Relaxed);
        }
        sink.event(event);
    };
    let around = run::Surroundings {
        lease,
        options,
        executor,
        cancel,
    };
    let image = solver::Solver::new(around, &graph, input.context, &count, input.name).solve()?;
    let Some(image) = image else {
        return Err(nothing_built(&graph, input.name));
    };
    sink.event(Event::Committed { image: image.id() });
    if !options.tags.is_empty() {
        lease.tag(&options.tags, &image.digest)?;
        for name in &options.tags {
            sink.event(Event::Tagged { name: name.clone() });
        }
    }
    note(
        lease,
        &image,
        options,
        graph.steps().count(),
        cached.into_inner(),
    )?;
    Ok(image)
}

/// Puts the build into the journal.
fn note(
    lease: &Lease,
    image: &Image,
    options: &Options,
    steps: usize,
    cached: usize,
) -> Result<(), Error> {
    let store = lease.store();
    let entry = JournalEntry {
        time: store.now(),
        operation: "build".to_owned(),
        subject: options
            .tags
            .first()
            .cloned()
            .unwrap_or_else(|| image.id().short()),
        bytes: 0,
        detail: format!("{} from {steps} steps, {cached} cached", image.id().short()),
    };
    Ok(store.write(|tx| Ok(tx.note(&entry)?))?)
}

fn nothing_built(graph: &plan::BuildGraph, name: &str) -> Error {
    let step = graph.stages[graph.target]
        .as_ref()
        .and_then(|stage| stage.steps.first());
    let why = "nothing was built: FROM scratch needs an instruction after it".to_owned();
    Error::Step {
        name: name.to_owned(),
        line: step.map_or(0, |step| step.info.line),
        instruction: step.map_or_else(String::new, |step| step.info.text.clone()),
        source: Box::new(StepError::Invalid(why)),
    }
}

#[cfg(test)]
mod tests;

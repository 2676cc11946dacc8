//! What a build tells while it goes on: the one stream that every progress display renders.
//!
//! Events of steps that run side by side are interleaved; each names its step. Within one step
//! the order is that of the variants here:
//!
//! ```text
//! [Transfer…] ─ Planned ─ [CacheImport…]
//! StepStarted ─┬─ [StepWaiting] ─ StepCached ───────────────────────────┬─ StepFinished
//!              └─ [ContainerStarted ─ Output… ─ ContainerRemoved] ──────┴─ StepFailed
//! Committed, Tagged… ─ [CacheExport ─ Transfer…] ─ [Transfer…]
//! ```
//! A step that was taken from a cache which then turns out not to have it starts once more.
//!
//! An event carries no time: whoever renders has a clock, the library has none.

use crate::dockerfile::lint::Finding;
use crate::executor::Stream;
use crate::oci::Digest;
use crate::registry;

/// The number of a step among those that the target needs, from 0.
pub type StepNumber = usize;

/// A step as displays show it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StepInfo {
    /// Its number among all steps that the target needs, from 0: `Step 3/7` is 2 of 7.
    pub number: StepNumber,
    /// The stage: its name, or `stage-N`.
    pub stage: String,
    /// Its number within its stage, from 1, the `FROM` included.
    pub in_stage: usize,
    /// How many steps its stage has.
    pub stage_steps: usize,
    /// The instruction as written, continuations joined.
    pub text: String,
    /// The line of the Dockerfile at which it begins, from 1.
    pub line: u32,
    /// The column there, from 1.
    pub column: u32,
    /// Whether it is a trigger (`ONBUILD`) that the base brought, and stands at the FROM.
    pub trigger: bool,
}

/// Why a step failed, as displays tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The error, whole.
    pub message: String,
    /// The exit status, where it was the command that failed.
    pub status: Option<i32>,
}

/// Something that happened in a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What is going to be done: the steps that the target needs, in the order of the file.
    Planned {
        /// The steps.
        steps: Vec<StepInfo>,
        /// How many stages the target does not need.
        skipped_stages: usize,
    },
    /// Something that is accepted and should be known.
    Warning {
        /// In words.
        message: String,
    },
    /// Something is moved from a registry or to one: a base image before anything is planned, after
    /// [`Event::CacheImport`] a cache's records, and its layers when a step needs them; after
    /// [`Event::CacheExport`] a cache, or the result, to the registry.
    Transfer(registry::Event),
    /// A cache in a registry is going to be read.
    CacheImport {
        /// Its name in full.
        cache: String,
    },
    /// The cache of this build is going to be written to a registry.
    CacheExport {
        /// Its name in full.
        cache: String,
    },
    /// A step began.
    StepStarted {
        /// Which.
        step: StepNumber,
    },
    /// The step's result was there already.
    StepCached {
        /// Which.
        step: StepNumber,
    },
    /// The step is not begun: another build, or another stage, is running the same one.
    StepWaiting {
        /// Which.
        step: StepNumber,
    },
    /// The step's intermediate container was made and its process is about to run.
    ContainerStarted {
        /// Which step.
        step: StepNumber,
        /// The container's ID.
        container: String,
    },
    /// A line that the step's process wrote, without its line end; a very long line comes in parts.
    Output {
        /// Which step.
        step: StepNumber,
        /// To where.
        stream: Stream,
        /// The line's bytes, as they were written.
        line: Vec<u8>,
    },
    /// The step's intermediate container is gone.
    ContainerRemoved {
        /// Which step.
        step: StepNumber,
        /// The container's ID.
        container: String,
    },
    /// The step is done, its image is in the store. With stages or commits side by side this may
    /// come after the next step has started.
    StepFinished {
        /// Which.
        step: StepNumber,
        /// The intermediate image's ID; `FROM scratch` has none.
        image: Option<Digest>,
    },
    /// The step failed; the build ends.
    StepFailed {
        /// Which.
        step: StepNumber,
        /// Why.
        failure: Failure,
    },
    /// The target's image is in the store.
    Committed {
        /// Its ID.
        image: Digest,
    },
    /// A tag points at the image.
    Tagged {
        /// The tag, in its familiar form.
        name: String,
    },
}

/// All that a step's cache key holds, each part by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lookup {
    /// What its words come to.
    pub identity: Option<Digest>,
    /// What it copies, where that is known.
    pub content: Option<Digest>,
    /// The ID of the image before it, or a digest that stands for none; `None`: this build is
    /// about to make it.
    pub parent: Option<Digest>,
}

/// Takes events as they come, from several threads.
pub trait Sink: Sync {
    /// Takes one event.
    fn event(&self, event: Event);

    /// Hears what a step is looked up by in the cache; for a COPY, perhaps twice.
    fn looked_up(&self, _step: StepNumber, _lookup: Lookup) {}

    /// Hears what checking the Dockerfile found, before anything is done.
    fn findings(&self, _findings: &[Finding]) {}
}

impl<F: Fn(Event) + Sync> Sink for F {
    fn event(&self, event: Event) {
        self(event);
    }
}

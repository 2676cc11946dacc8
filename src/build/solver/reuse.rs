//! Taking steps from the cache: the store's own, and those that the build was given.
//!
//! A step may have several results that are all right: one that was built here, and one that a
//! cache has, each with an ID of its own. Which of them leads further is known only at the next
//! steps, so all are kept as long as they do.
//!
//! ```text
//! FROM ─▶ RUN a ─▶ { here, cache } ─▶ RUN b ─▶ { cache } ─▶ …
//! ```
//! An image of a cache is in memory until something needs its layers ([`Imports`]). If it then
//! cannot be had, its stage is done again, without it: by whoever waits for the stage, where its
//! own thread has ended.
//!
//! [`Imports`]: crate::build::cache::Imports

use super::{Progress, Solver, StageResult, StageThread, lock};
use crate::build::cache::{Around, Taken};
use crate::build::error::{Error, StepError};
use crate::build::event::{Event, Lookup};
use crate::build::key::cache_key;
use crate::build::mounts::{Mounted, Shown};
use crate::build::plan::{FilesOperation, Origin, Step};
use crate::oci::Digest;
use crate::store::Image;

/// One result of the steps so far.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// The image; `None`: that of `FROM scratch`.
    pub(super) image: Option<Image>,
    /// The key and the manifest of each step that led to it.
    pub(super) trail: Vec<(Digest, Digest)>,
}

impl Candidate {
    /// What a stage stands on.
    pub(super) fn base(image: Option<Image>) -> Candidate {
        Candidate {
            image,
            trail: Vec::new(),
        }
    }

    /// What one more step made of it.
    pub(super) fn then(&self, key: Digest, image: Image) -> Candidate {
        let mut trail = self.trail.clone();
        trail.push((key, image.digest));
        Candidate {
            image: Some(image),
            trail,
        }
    }
}

impl Solver<'_> {
    /// Makes sure that an image's layers are in the store.
    fn take(&self, image: &Image) -> Result<Taken, crate::store::Error> {
        let around = Around {
            lease: self.around.lease,
            client: self.around.options.registry.as_ref(),
            cancel: self.around.cancel,
            sink: self.sink,
        };
        self.imports.take(image, around)
    }

    /// Whether the image of a stage can be had, as far as anybody knows.
    pub(super) fn is_sound(&self, image: Option<&Image>) -> Result<bool, StepError> {
        match image {
            Some(image) => Ok(!self.imports.is_unfit(self.around.lease, image)?),
            None => Ok(true),
        }
    }

    /// Does a stage again whose image cannot be had. Of several that ask, one does it.
    pub(super) fn redo(&self, index: usize) {
        {
            let mut progress = lock(&self.progress);
            match &progress[index] {
                Progress::Done(_) => progress[index] = Progress::Running,
                Progress::Running | Progress::Failed => return,
            }
        }
        if let Some(stage) = &self.graph.stages[index] {
            self.stage_thread(index, stage);
        }
    }

    /// The image of a target, all of it in the store.
    pub(super) fn result(&self, target: usize) -> Result<StageResult, Error> {
        let interrupted = |_| Error::Interrupted;
        loop {
            let image = self.wait_for(target).map_err(interrupted)?;
            let Some(found) = &image else {
                return Ok(None);
            };
            if self.take(found)? == Taken::Whole {
                return Ok(image);
            }
        }
    }
}

impl StageThread<'_, '_, '_> {
    /// Takes a step from the cache, if its parent is known and a cache has it.
    pub(super) fn cached(
        &mut self,
        step: &Step,
        content: Option<&Digest>,
        stages: &[Digest],
    ) -> Result<bool, StepError> {
        self.looked_up(step, content);
        if !self.pending.is_empty() {
            return Ok(false);
        }
        let fresh = self.stage.no_cache;
        let lease = self.solver.around.lease;
        let mut found: Vec<Candidate> = Vec::new();
        for parent in &self.candidates {
            let key = cache_key(
                parent.image.as_ref(),
                &self.stage.platform,
                self.solver.around.options.timestamp,
                &step.identity,
                content,
            );
            // What another stage of this build has just made is as good as made here.
            if fresh && !lock(&self.solver.made).contains(&key) {
                continue;
            }
            let mut add = |image: Image| {
                let id = image.id();
                let known = |other: &Candidate| other.image.as_ref().map(Image::id) == Some(id);
                if !found.iter().any(known) {
                    found.push(parent.then(key, image));
                }
            };
            if let Some(image) = lease.cached(&key)? {
                if !stages.is_empty() {
                    lease.link_stages(&image.digest, stages)?;
                }
                add(image);
            }
            let (parent, platform) = (parent.image.as_ref(), &self.stage.platform);
            if !fresh {
                let offered = self.solver.imports.images(&key, parent, platform, step);
                offered.into_iter().for_each(add);
            }
        }
        let Some(first) = found.first() else {
            return Ok(false);
        };
        let image = first.image.as_ref().map(Image::id);
        let step = step.info.number;
        self.solver.tell(Event::StepCached { step });
        self.solver.tell(Event::StepFinished { step, image });
        self.candidates = found;
        self.lowers = None;
        Ok(true)
    }

    /// Says by what a step is looked up. Behind a commit that is still going on, the parent is new.
    fn looked_up(&self, step: &Step, content: Option<&Digest>) {
        let scratch = || Digest::of(b"scratch");
        let parent = || self.image().map_or_else(scratch, Image::id);
        let lookup = Lookup {
            identity: Some(Digest::of(step.identity.to_string().as_bytes())),
            content: content.copied(),
            parent: self.pending.is_empty().then(parent),
        };
        self.solver.sink.looked_up(step.info.number, lookup);
    }

    /// Makes sure that the image that the next step stands on is in the store.
    pub(super) fn stand(&mut self) -> Result<(), StepError> {
        if !self.pending.is_empty() {
            return Ok(());
        }
        match self.image() {
            Some(image) if self.solver.take(image)? == Taken::Unfit => Err(StepError::Stale),
            _ => Ok(()),
        }
    }

    /// Makes sure that the images that a step mounts are in the store.
    pub(super) fn stand_on_mounts(&self, mounted: &Mounted) -> Result<(), StepError> {
        for shown in mounted.shown.iter().flatten() {
            if let Shown::Image { image, .. } = shown
                && self.solver.take(image)? == Taken::Unfit
            {
                return Err(StepError::Stale);
            }
        }
        Ok(())
    }

    /// The image that an operation copies from, in the store.
    pub(super) fn whole_source(
        &self,
        operation: &FilesOperation,
        mut image: Option<Image>,
    ) -> Result<Option<Image>, StepError> {
        let Origin::Stage(index) = operation.origin else {
            return Ok(image);
        };
        loop {
            match &image {
                Some(found) if self.solver.take(found)? == Taken::Unfit => {
                    image = self.solver.wait_for(index)?;
                }
                _ => return Ok(image),
            }
        }
    }
}

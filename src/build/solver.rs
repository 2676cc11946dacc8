//! Solving: every step of every needed stage is taken from the cache or done.
//!
//! ```text
//! stage 0 ──▶ step ▶ step ▶ step ─┐ image, lowers
//! stage 1 ──▶ step ▶ step         ├──▶ FROM, COPY --from of later stages
//! stage 2 ─────waits for stage 0──┘
//! ```
//! A stage is a thread; it waits only for the stages that it names, where it names them. At most
//! `jobs` processes run at the same time. The first failure stops the others.
//!
//! A step is looked up in the cache only when its parent's image is known. Behind a RUN that is
//! still being committed it isn't, and need not be: that image is new, so nothing can have been
//! built on it.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::commit::{Committer, Job, Work, reply};
use super::context::Context;
use super::copy::{self, Selection};
use super::error::{Error, StepError};
use super::event::{Event, Failure, Sink};
use super::key::{cache_key, selection_key};
use super::named::NamedTrees;
use super::plan::{
    Base, BuildGraph, FileSource, FilesOperation, Operation, Origin, RunOperation, StagePlan, Step,
};
use super::remote::{Fetcher, Known};
use super::run::{self, Surroundings};
use super::tree::Tree;
use crate::executor::Exit;
use crate::oci::Digest;
use crate::store::{Container, Image, Lower};

/// What a finished stage gives to others. `None`: a stage of `FROM scratch` alone.
type StageResult = Option<Image>;

/// A stage as others see it.
#[derive(Debug, Clone)]
enum Progress {
    Running,
    Done(Box<StageResult>),
    Failed,
}

/// One build in progress, shared by its stages' threads.
pub struct Solver<'a> {
    around: Surroundings<'a>,
    graph: &'a BuildGraph,
    context: &'a Context,
    named: NamedTrees<'a>,
    fetcher: Fetcher<'a>,
    sink: &'a dyn Sink,
    name: &'a str,
    progress: Mutex<Vec<Progress>>,
    changed: Condvar,
    slots: Slots,
    failure: Mutex<Option<Error>>,
}

/// At most so many processes at the same time.
struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

struct Slot<'a>(&'a Slots);

impl Slots {
    fn take(&self) -> Slot<'_> {
        let mut free = lock(&self.free);
        while *free == 0 {
            free = self
                .freed
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Solver<'a> {
    /// A solver of `graph`, whose Dockerfile errors call `name`.
    pub fn new(
        around: Surroundings<'a>,
        graph: &'a BuildGraph,
        context: &'a Context,
        sink: &'a dyn Sink,
        name: &'a str,
    ) -> Solver<'a> {
        let slots = Slots {
            free: Mutex::new(around.options.jobs.max(1)),
            freed: Condvar::new(),
        };
        Solver {
            named: NamedTrees::new(&around.options.named),
            fetcher: Fetcher::new(around.lease, &around.options.remote, around.cancel),
            around,
            graph,
            context,
            sink,
            name,
            progress: Mutex::new(
                graph
                    .stages
                    .iter()
                    .map(|stage| match stage {
                        Some(_) => Progress::Running,
                        None => Progress::Failed,
                    })
                    .collect(),
            ),
            changed: Condvar::new(),
            slots,
            failure: Mutex::new(None),
        }
    }

    /// Does all that the target needs. `None`: the target is `FROM scratch` and nothing else.
    pub fn solve(self) -> Result<Option<Image>, Error> {
        std::thread::scope(|scope| {
            for (index, stage) in self.graph.stages.iter().enumerate() {
                if let Some(stage) = stage {
                    scope.spawn({
                        let solver = &self;
                        move || solver.stage_thread(index, stage)
                    });
                }
            }
        });
        if let Some(error) = lock(&self.failure).take() {
            return Err(error);
        }
        match &lock(&self.progress)[self.graph.target] {
            Progress::Done(image) => Ok((**image).clone()),
            Progress::Running | Progress::Failed => Err(Error::Interrupted),
        }
    }

    fn stage_thread(&self, index: usize, stage: &StagePlan) {
        // A panic must not leave the others waiting for a stage that will never be done.
        let guard = Unfinished {
            solver: self,
            index,
        };
        let progress = match self.stage(stage) {
            Ok(image) => Progress::Done(Box::new(image)),
            Err(()) => Progress::Failed,
        };
        self.report(index, progress);
        std::mem::forget(guard);
    }

    fn report(&self, index: usize, progress: Progress) {
        lock(&self.progress)[index] = progress;
        self.changed.notify_all();
    }

    /// The image of another stage, once it is done.
    fn wait_for(&self, index: usize) -> Result<StageResult, StepError> {
        let mut progress = lock(&self.progress);
        loop {
            match &progress[index] {
                Progress::Done(image) => return Ok((**image).clone()),
                Progress::Failed => return Err(StepError::Needed),
                Progress::Running if self.around.cancel.is_cancelled() => {
                    return Err(StepError::Interrupted);
                }
                Progress::Running => {}
            }
            // A cancellation comes from a signal handler, which can wake nobody.
            progress = self
                .changed
                .wait_timeout(progress, std::time::Duration::from_millis(100))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn tell(&self, event: Event) {
        self.sink.event(event);
    }

    /// Notes the first failure, and stops what runs.
    fn fail(&self, step: &Step, error: StepError) {
        let consequence = matches!(error, StepError::Needed | StepError::Interrupted)
            || matches!(
                &error,
                StepError::Command {
                    exit: Exit::Cancelled,
                    ..
                }
            );
        let mut first = lock(&self.failure);
        if first.is_some() {
            return;
        }
        if consequence {
            if self.around.cancel.is_cancelled() {
                *first = Some(Error::Interrupted);
            }
            return;
        }
        let failure = Failure {
            message: error.to_string(),
            status: error.status(),
        };
        *first = Some(Error::Step {
            name: self.name.to_owned(),
            line: step.info.line,
            instruction: step.info.text.clone(),
            source: Box::new(error),
        });
        drop(first);
        self.tell(Event::StepFailed {
            step: step.info.number,
            failure,
        });
        self.around.cancel.cancel();
    }

    fn stage(&self, stage: &StagePlan) -> Result<StageResult, ()> {
        let Some(first) = stage.steps.first() else {
            return Ok(None);
        };
        let base = match &stage.base {
            Base::Scratch => Ok(None),
            Base::Image(image) => Ok(Some((**image).clone())),
            Base::Stage(index) => self.wait_for(*index),
        };
        let base = base.map_err(|error| self.fail(first, error))?;
        self.tell(Event::StepStarted {
            step: first.info.number,
        });
        self.tell(Event::StepFinished {
            step: first.info.number,
            image: base.as_ref().map(Image::id),
        });
        let tell = |event| self.tell(event);
        let (sender, jobs) = channel();
        let committer = Committer {
            lease: self.around.lease,
            options: self.around.options,
            parent: base.clone(),
            platform: stage.platform.clone(),
            tell: &tell,
        };
        std::thread::scope(|scope| {
            // Not started unless a step has to be done: a cached stage needs no second thread.
            let mut committer = Some((committer, jobs));
            let mut start = || {
                if let Some((committer, jobs)) = committer.take() {
                    scope.spawn(move || committer.serve(jobs));
                }
            };
            // Removing directories takes longer than a small step does: nobody waits for it. What
            // cannot be removed is found by the next prune.
            let mut remove = |container: Container| {
                let lease = self.around.lease;
                scope.spawn(move || drop(lease.remove_container(container)));
            };
            let mut thread = StageThread {
                solver: self,
                stage,
                start: &mut start,
                remove: &mut remove,
                jobs: Some(sender),
                image: base,
                pending: Vec::new(),
                lowers: None,
            };
            let result = thread.steps();
            // Ends the committer, which the scope waits for.
            thread.jobs = None;
            result
        })
    }
}

/// Says that a stage failed if its thread ends without a word.
struct Unfinished<'s, 'a> {
    solver: &'s Solver<'a>,
    index: usize,
}

impl Drop for Unfinished<'_, '_> {
    fn drop(&mut self) {
        self.solver.report(self.index, Progress::Failed);
    }
}

/// One stage being done.
struct StageThread<'s, 'a, 'g> {
    solver: &'s Solver<'a>,
    stage: &'g StagePlan,
    start: &'s mut dyn FnMut(),
    remove: &'s mut dyn FnMut(Container),
    jobs: Option<Sender<Job<'g>>>,
    /// The image of the last step whose commit is known.
    image: Option<Image>,
    /// The commits that nobody has waited for yet, in order.
    pending: Vec<(&'g Step, Receiver<Result<Image, StepError>>)>,
    /// The directories of the state after the last step; `None`: those of `image`.
    lowers: Option<Vec<Lower>>,
}

impl<'g> StageThread<'_, '_, 'g> {
    fn steps(&mut self) -> Result<StageResult, ()> {
        let stage = self.stage;
        for step in stage.steps.iter().skip(1) {
            if self.solver.around.cancel.is_cancelled() {
                self.solver.fail(step, StepError::Interrupted);
                return Err(());
            }
            self.solver.tell(Event::StepStarted {
                step: step.info.number,
            });
            if let Err(error) = self.step(step) {
                // What an earlier commit met is the cause, and is told instead.
                self.settle()?;
                self.solver.fail(step, error);
                return Err(());
            }
        }
        self.settle()?;
        Ok(self.image.clone())
    }

    /// Waits for the commits. A failure is told of its own step, not of the one that waits.
    fn settle(&mut self) -> Result<(), ()> {
        for (step, done) in std::mem::take(&mut self.pending) {
            match done.recv().unwrap_or(Err(StepError::Interrupted)) {
                Ok(image) => self.image = Some(image),
                Err(error) => {
                    self.solver.fail(step, error);
                    return Err(());
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &'g Step) -> Result<(), StepError> {
        match &step.operation {
            Operation::From => Ok(()),
            Operation::Metadata => {
                if self.cached(step, None, &[])? {
                    return Ok(());
                }
                self.submit(step, Work::Metadata, Vec::new())
            }
            Operation::Run(operation) => {
                if self.cached(step, None, &[])? {
                    return Ok(());
                }
                self.run(step, operation)
            }
            Operation::Files(operation) => self.files(step, operation),
        }
    }

    /// Takes a step from the cache, if its parent is known and the cache has it.
    fn cached(
        &mut self,
        step: &Step,
        content: Option<&Digest>,
        stages: &[Digest],
    ) -> Result<bool, StepError> {
        let around = &self.solver.around;
        if around.options.no_cache || !self.pending.is_empty() {
            return Ok(false);
        }
        let key = cache_key(
            self.image.as_ref(),
            &self.stage.platform,
            around.options.timestamp,
            &step.identity,
            content,
        );
        let Some(image) = around.lease.cached(&key)? else {
            return Ok(false);
        };
        if !stages.is_empty() {
            around.lease.link_stages(&image.digest, stages)?;
        }
        self.solver.tell(Event::StepCached {
            step: step.info.number,
        });
        self.solver.tell(Event::StepFinished {
            step: step.info.number,
            image: Some(image.id()),
        });
        self.image = Some(image);
        self.lowers = None;
        Ok(true)
    }

    fn submit(
        &mut self,
        step: &'g Step,
        work: Work<'g>,
        stages: Vec<Digest>,
    ) -> Result<(), StepError> {
        (self.start)();
        // Behind a commit that is still going on, the parent is what that one gives.
        let parent = self.pending.is_empty().then(|| self.image.clone());
        let (sender, done) = reply();
        let job = Job {
            step,
            work,
            parent,
            stages,
            done: sender,
        };
        let sent = self
            .jobs
            .as_ref()
            .is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            return Err(StepError::Interrupted);
        }
        self.pending.push((step, done));
        Ok(())
    }

    /// The directories of the state after the last step, the lowest first.
    fn lowers(&mut self) -> Result<Vec<Lower>, StepError> {
        if let Some(lowers) = &self.lowers {
            return Ok(lowers.clone());
        }
        self.settle().map_err(|()| StepError::Needed)?;
        let lowers = match &self.image {
            Some(image) => self.solver.around.lease.snapshots(image)?,
            None => Vec::new(),
        };
        self.lowers = Some(lowers.clone());
        Ok(lowers)
    }

    fn run(&mut self, step: &'g Step, operation: &RunOperation) -> Result<(), StepError> {
        let lowers = self.lowers()?;
        let around = &self.solver.around;
        let parent = self.image.as_ref().map(|image| image.digest);
        let slot = self.solver.slots.take();
        if around.cancel.is_cancelled() {
            return Err(StepError::Interrupted);
        }
        let number = step.info.number;
        let container = around
            .lease
            .create_container(&step.info.text, parent.as_ref())?;
        let id = container.id.clone();
        self.solver.tell(Event::ContainerStarted {
            step: number,
            container: id.clone(),
        });
        let tell = |event| self.solver.tell(event);
        let exit = run::run(around, operation, &lowers, &container, number, &tell);
        drop(slot);
        match exit {
            Ok(exit) if exit.success() => {}
            Ok(exit) => {
                let keep = around.options.keep_failed && exit != Exit::Cancelled;
                if keep {
                    around
                        .lease
                        .store()
                        .keep_container(&container, exit.code())?;
                } else {
                    around.lease.remove_container(container)?;
                    self.solver.tell(Event::ContainerRemoved {
                        step: number,
                        container: id.clone(),
                    });
                }
                return Err(StepError::Command {
                    exit,
                    kept: keep.then_some(id),
                });
            }
            Err(error) => {
                around.lease.remove_container(container)?;
                return Err(error);
            }
        }
        let path = around.lease.take_upper(&container)?;
        (self.remove)(container);
        self.solver.tell(Event::ContainerRemoved {
            step: number,
            container: id,
        });
        let mut above = lowers.clone();
        above.push(Lower {
            chain: None,
            path: path.clone(),
        });
        self.submit(step, Work::Upper { path, lowers }, Vec::new())?;
        self.lowers = Some(above);
        Ok(())
    }

    fn files(&mut self, step: &'g Step, operation: &'g FilesOperation) -> Result<(), StepError> {
        let (source, stages) = self.source(operation)?;
        let around = &self.solver.around;
        if let Some(content) = self.known_content(step, source.as_ref())?
            && self.cached(step, Some(&content), &stages)?
        {
            return Ok(());
        }
        let known = self.elsewhere(operation)?;
        let remote = !known.is_empty();
        let tree = self.tree(operation, source.as_ref())?;
        let mut selection = copy::select(operation, tree.as_ref(), known)?;
        let mut content = selection.digest(around.lease.store())?;
        if let Some(image) = &source {
            around
                .lease
                .remember_selection(&selection_key(image, &step.identity), &content)?;
        }
        if self.cached(step, Some(&content), &stages)? {
            return Ok(());
        }
        if remote {
            selection.complete(&self.solver.fetcher)?;
            content = selection.digest(self.solver.around.lease.store())?;
        }
        self.copy(step, operation, selection, content, stages)
    }

    /// What is known of the sources that are elsewhere. Where nothing can come from the cache, they
    /// are fetched in any case.
    fn elsewhere(&self, operation: &FilesOperation) -> Result<Vec<Known>, StepError> {
        let fresh = self.solver.around.options.no_cache || !self.pending.is_empty();
        operation
            .sources
            .iter()
            .filter_map(|source| match source {
                FileSource::Remote(remote) => Some(self.solver.fetcher.look(remote, fresh)),
                FileSource::Path(_) | FileSource::Inline { .. } => None,
            })
            .collect()
    }

    fn copy(
        &mut self,
        step: &'g Step,
        operation: &'g FilesOperation,
        selection: Selection,
        content: Digest,
        stages: Vec<Digest>,
    ) -> Result<(), StepError> {
        let lowers = self.lowers()?;
        let view = match lowers.is_empty() {
            true => None,
            false => Some(self.solver.around.lease.view(&lowers)?),
        };
        let work = Work::Files {
            operation,
            selection,
            content,
            view,
        };
        self.submit(step, work, stages)?;
        // The layer's directory is made from its blob when a step needs it.
        self.lowers = None;
        Ok(())
    }

    /// The image that an operation copies from, and what of it counts as a stage image.
    fn source(
        &self,
        operation: &FilesOperation,
    ) -> Result<(Option<Image>, Vec<Digest>), StepError> {
        let image = match &operation.origin {
            Origin::Context | Origin::Nothing | Origin::Named(_) => None,
            Origin::Stage(index) => self.solver.wait_for(*index)?,
            Origin::Image(image) => Some((**image).clone()),
        };
        let stages = image.iter().map(|image| image.digest).collect();
        Ok((image, stages))
    }

    /// What a selection of an image contained when it was looked at before.
    fn known_content(
        &self,
        step: &Step,
        source: Option<&Image>,
    ) -> Result<Option<Digest>, StepError> {
        let Some(image) = source else { return Ok(None) };
        let key = selection_key(image, &step.identity);
        let catalog = self.solver.around.lease.store().catalog();
        Ok(catalog
            .read(|tx| tx.selection(&key))
            .map_err(crate::store::Error::from)?)
    }

    fn tree(
        &self,
        operation: &FilesOperation,
        source: Option<&Image>,
    ) -> Result<Option<Tree<'_>>, StepError> {
        match (&operation.origin, source) {
            (Origin::Context, _) => Ok(Some(self.solver.context.tree()?)),
            (Origin::Named(place), _) => {
                match self.solver.named.context(*place, &self.solver.fetcher)? {
                    Some(context) => Ok(Some(context.tree()?)),
                    None => Ok(None),
                }
            }
            (_, Some(image)) => {
                let lease = self.solver.around.lease;
                let lowers = lease.snapshots(image)?;
                if lowers.is_empty() {
                    return Ok(None);
                }
                let root: OwnedFd = lease.view(&lowers)?;
                let label = match &operation.origin {
                    Origin::Stage(index) => format!("stage {index}"),
                    _ => format!("image {}", image.id().short()),
                };
                Ok(Some(Tree {
                    root,
                    label,
                    ignore: None,
                    hidden: None,
                    keeps_owners: true,
                }))
            }
            (_, None) => Ok(None),
        }
    }
}

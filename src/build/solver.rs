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

mod mounted;
mod reuse;
mod turn;
mod wait;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use hashbrown::HashSet;

use super::cache::Imports;
use super::cache::export::Used;
use super::commit::{Committed, Committer, Job, Work, reply};
use super::context::Context;
use super::copy::{self, Selection};
use super::error::{Error, StepError};
use super::event::{Event, Failure, Sink};
use super::key::selection_key;
use super::lower::is_proxy;
use super::mounts::Mounted;
use super::named::NamedTrees;
use super::plan::{
    Base, BuildGraph, FileSource, FilesOperation, Operation, Origin, RunOperation, StagePlan, Step,
};
use super::remote::{Fetcher, Known};
use super::run::{self, Surroundings};
use super::tree::Tree;
use crate::executor::{Exit, Network};
use crate::oci::Digest;
use crate::store::containers::Left;
use crate::store::{Container, Image, Lower, StepLock};

use mounted::Inputs;
use reuse::Candidate;
use turn::Turn;
use wait::Slots;

/// What a finished stage gives to others. `None`: a stage of `FROM scratch` alone.
pub type StageResult = Option<Image>;

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
    named: &'a NamedTrees<'a>,
    fetcher: Fetcher<'a>,
    sink: &'a dyn Sink,
    name: &'a str,
    imports: &'a Imports,
    progress: Mutex<Vec<Progress>>,
    used: Mutex<StagesUsed>,
    /// The keys of the steps that this build has done itself.
    made: Mutex<HashSet<Digest>>,
    changed: Condvar,
    slots: Slots,
    failure: Mutex<Option<Error>>,
}

/// What the stages have used of the cache, or put into it: by stage, and all together.
#[derive(Default)]
struct StagesUsed {
    steps: BTreeMap<usize, Vec<(Digest, Digest)>>,
    selections: BTreeMap<Digest, Digest>,
}

/// What a build came to.
#[derive(Debug)]
pub struct Solved {
    /// The image of each target; `None`: it is `FROM scratch` and nothing else.
    pub images: Vec<StageResult>,
    /// What a cache of it needs.
    pub used: Used,
}

/// Why a stage has no result.
enum Stop {
    /// It failed, and that was told.
    Failed,
    /// It stands on an image of a cache that cannot be had: it is to be done again.
    Stale,
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
        imports: &'a Imports,
        named: &'a NamedTrees<'a>,
    ) -> Solver<'a> {
        let slots = Slots::new(around.options.jobs);
        Solver {
            named,
            fetcher: Fetcher::new(around.lease, &around.options.remote, around.cancel),
            around,
            graph,
            context,
            sink,
            name,
            imports,
            used: Mutex::default(),
            made: Mutex::default(),
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

    /// Does all that the target needs.
    pub fn solve(self) -> Result<Solved, Error> {
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
        let targets = self.graph.targets.iter();
        let images: Result<Vec<_>, _> = targets.map(|target| self.result(*target)).collect();
        if let Some(error) = lock(&self.failure).take() {
            return Err(error);
        }
        let images = images?;
        let used = self
            .used
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(Solved {
            images,
            used: Used {
                steps: used.steps.into_values().flatten().collect(),
                selections: used.selections,
            },
        })
    }

    fn stage_thread(&self, index: usize, stage: &StagePlan) {
        // A panic must not leave the others waiting for a stage that will never be done.
        let guard = Unfinished {
            solver: self,
            index,
        };
        let progress = match self.stage(index, stage) {
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

    /// Whether somebody asked for the end. A step that failed stops what runs too, but not the
    /// commits of those that are done: they stay in the cache.
    fn is_interrupted(&self) -> bool {
        self.around.cancel.is_cancelled()
            && lock(&self.failure)
                .as_ref()
                .is_none_or(Error::is_interrupted)
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
            column: step.info.column,
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

    fn stage(&self, index: usize, stage: &StagePlan) -> Result<StageResult, ()> {
        loop {
            match self.attempt(index, stage) {
                Ok(image) => return Ok(image),
                Err(Stop::Failed) => return Err(()),
                Err(Stop::Stale) => {}
            }
        }
    }

    fn attempt(&self, index: usize, stage: &StagePlan) -> Result<StageResult, Stop> {
        let Some(first) = stage.steps.first() else {
            return Ok(None);
        };
        let base = match &stage.base {
            Base::Scratch => Ok(None),
            Base::Image(image) => Ok(Some((**image).clone())),
            Base::Stage(index) => self.wait_for(*index),
        };
        let base = base.map_err(|error| {
            self.fail(first, error);
            Stop::Failed
        })?;
        self.tell(Event::StepStarted {
            step: first.info.number,
        });
        self.tell(Event::StepFinished {
            step: first.info.number,
            image: base.as_ref().map(Image::id),
        });
        let tell = |event| self.tell(event);
        let made = |key| {
            lock(&self.made).insert(key);
        };
        let stopped = || self.is_interrupted();
        let (sender, jobs) = channel();
        let committer = Committer {
            lease: self.around.lease,
            options: self.around.options,
            parent: base.clone(),
            platform: stage.platform.clone(),
            stopped: &stopped,
            tell: &tell,
            made: &made,
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
                turn: turn::first(stage, base.as_ref()),
                candidates: vec![Candidate::base(base)],
                pending: Vec::new(),
                lowers: None,
            };
            let result = thread.steps();
            if result.is_ok() {
                let trail = thread.candidates[0].trail.clone();
                lock(&self.used).steps.insert(index, trail);
            }
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
    /// What the last step whose commit is known gave: the first is what the next step stands on,
    /// the others are what caches have for the same steps. Never empty.
    candidates: Vec<Candidate>,
    /// What stands for the state after the last step in the names of step locks.
    turn: Digest,
    /// The commits that nobody has waited for yet, in order.
    pending: Vec<(&'g Step, Receiver<Committed>)>,
    /// The directories of the state after the last step; `None`: those of `image`.
    lowers: Option<Vec<Lower>>,
}

impl<'a, 'g> StageThread<'_, 'a, 'g> {
    fn steps(&mut self) -> Result<StageResult, Stop> {
        let stage = self.stage;
        for step in stage.steps.iter().skip(1) {
            if self.solver.around.cancel.is_cancelled() {
                self.solver.fail(step, StepError::Interrupted);
                return Err(Stop::Failed);
            }
            self.solver.tell(Event::StepStarted {
                step: step.info.number,
            });
            if let Err(error) = self.step(step) {
                // What an earlier commit met is the cause, and is told instead.
                self.settle()?;
                if matches!(error, StepError::Stale) {
                    return Err(Stop::Stale);
                }
                self.solver.fail(step, error);
                return Err(Stop::Failed);
            }
        }
        self.settle()?;
        Ok(self.image().cloned())
    }

    /// The image of the last step whose commit is known.
    fn image(&self) -> Option<&Image> {
        self.candidates[0].image.as_ref()
    }

    /// Waits for the commits. A failure is told of its own step, not of the one that waits.
    fn settle(&mut self) -> Result<(), Stop> {
        for (step, done) in std::mem::take(&mut self.pending) {
            match done.recv().unwrap_or(Err(StepError::Interrupted)) {
                Ok((key, image)) => {
                    let made = self.candidates[0].then(key, image);
                    self.candidates = vec![made];
                }
                Err(error) => {
                    self.solver.fail(step, error);
                    return Err(Stop::Failed);
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &'g Step) -> Result<(), StepError> {
        match &step.operation {
            Operation::From => Ok(()),
            Operation::Metadata => {
                self.pass(step, None);
                if self.cached(step, None, &[])? {
                    return Ok(());
                }
                match self.turn(step, None, &[])? {
                    Turn::Ours(lock) => self.submit(step, Work::Metadata, Vec::new(), lock),
                    Turn::Done => Ok(()),
                }
            }
            Operation::Run(operation) => {
                let (mounted, inputs) = self.mounted(operation)?;
                self.pass(step, inputs.content.as_ref());
                if self.cached(step, inputs.content.as_ref(), &inputs.stages)? {
                    return Ok(());
                }
                self.run(step, operation, mounted, inputs)
            }
            Operation::Files(operation) => self.files(step, operation),
        }
    }

    fn submit(
        &mut self,
        step: &'g Step,
        work: Work<'g>,
        stages: Vec<Digest>,
        lock: StepLock,
    ) -> Result<(), StepError> {
        self.stand()?;
        (self.start)();
        // Behind a commit that is still going on, the parent is what that one gives.
        let parent = self.pending.is_empty().then(|| self.image().cloned());
        let (sender, done) = reply();
        let job = Job {
            step,
            work,
            parent,
            stages,
            done: sender,
            lock: Some(lock),
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
        self.settle().map_err(|_| StepError::Needed)?;
        self.stand()?;
        let lowers = match self.image() {
            Some(image) => self.solver.around.lease.snapshots(image)?,
            None => Vec::new(),
        };
        self.lowers = Some(lowers.clone());
        Ok(lowers)
    }

    fn run(
        &mut self,
        step: &'g Step,
        operation: &RunOperation,
        mut mounted: Mounted<'a>,
        inputs: Inputs,
    ) -> Result<(), StepError> {
        let turn = self.turn(step, inputs.content.as_ref(), &inputs.stages)?;
        let Turn::Ours(lock) = turn else {
            return Ok(());
        };
        self.stand_on_mounts(&mounted)?;
        let lowers = self.lowers()?;
        // Before the slot: who has one runs, and waits for nobody.
        self.take_caches(operation, &mut mounted)?;
        let around = &self.solver.around;
        let parent = self.image().map(|image| image.digest);
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
        let exit = run::run(
            around, operation, &mounted, &lowers, &container, number, &tell,
        );
        drop((slot, mounted));
        match exit {
            Ok(exit) if exit.success() => {}
            Ok(exit) => {
                let keep = around.options.keep_failed && exit != Exit::Cancelled;
                // Asked while what it wrote is still there.
                let full = crate::gc::reserve::is_full(container.directory());
                if keep {
                    self.keep(step, operation, &container, exit)?;
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
                    full,
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
        let content = inputs.content;
        let work = Work::Upper {
            path,
            lowers,
            content,
        };
        self.submit(step, work, inputs.stages, lock)?;
        self.lowers = Some(above);
        Ok(())
    }

    /// Keeps the container of a failed step. Its image is the one that it ran on: by now its layers
    /// have to be written.
    fn keep(
        &mut self,
        step: &Step,
        operation: &RunOperation,
        container: &Container,
        exit: Exit,
    ) -> Result<(), StepError> {
        self.settle().map_err(|_| StepError::Needed)?;
        let lease = self.solver.around.lease;
        let rows = lease.store().catalog().read(|tx| tx.leases());
        let rows = rows.map_err(crate::store::Error::from)?;
        let row = rows.into_iter().find(|row| row.id == lease.id());
        let environment = operation.environment.iter();
        let left = Left {
            build: row.map_or_else(String::new, |row| row.detail),
            dockerfile: self.solver.name.to_owned(),
            line: step.info.line,
            environment: environment
                .filter(|(name, _)| !is_proxy(name))
                .cloned()
                .collect(),
            user: operation.user.clone(),
            directory: operation.directory.clone(),
            offline: operation.network == Network::None,
            shell: step.config.shell(),
        };
        let image = self.image().map(|image| &image.digest);
        Ok(lease.keep_container(container, image, exit.code(), &left)?)
    }

    fn files(&mut self, step: &'g Step, operation: &'g FilesOperation) -> Result<(), StepError> {
        let (source, stages) = self.source(operation)?;
        let around = &self.solver.around;
        if let Some(content) = self.known_content(step, source.as_ref())?
            && self.cached(step, Some(&content), &stages)?
        {
            self.pass(step, Some(&content));
            return Ok(());
        }
        let source = self.whole_source(operation, source)?;
        let stages: Vec<Digest> = source.iter().map(|image| image.digest).collect();
        let known = self.elsewhere(operation)?;
        let remote = !known.is_empty();
        let tree = self.tree(operation, source.as_ref())?;
        let mut selection = copy::select(operation, tree.as_ref(), known)?;
        let mut content = selection.digest(around.lease.store())?;
        if let Some(image) = &source {
            let key = selection_key(image, &step.identity);
            around.lease.remember_selection(&key, &content)?;
            lock(&self.solver.used).selections.insert(key, content);
        }
        if self.cached(step, Some(&content), &stages)? {
            self.pass(step, Some(&content));
            return Ok(());
        }
        if remote {
            selection.complete(&self.solver.fetcher)?;
            content = selection.digest(self.solver.around.lease.store())?;
        }
        self.pass(step, Some(&content));
        let Turn::Ours(lock) = self.turn(step, Some(&content), &stages)? else {
            return Ok(());
        };
        self.copy(step, operation, selection, content, (stages, lock))
    }

    /// What is known of the sources that are elsewhere. Where nothing can come from the cache, they
    /// are fetched in any case.
    fn elsewhere(&self, operation: &FilesOperation) -> Result<Vec<Known>, StepError> {
        let fresh = self.stage.no_cache || !self.pending.is_empty();
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
        (stages, lock): (Vec<Digest>, StepLock),
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
        self.submit(step, work, stages, lock)?;
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
        let known = self.known_selection(&key)?;
        // A cache's word for it is taken of its own images, for this build, and not remembered.
        let imports = self.solver.imports;
        let offered = || match self.stage.no_cache {
            false => imports.selection(image, &key),
            true => None,
        };
        let known = known.or_else(offered);
        if let Some(content) = known {
            lock(&self.solver.used).selections.insert(key, content);
        }
        Ok(known)
    }

    fn tree(
        &self,
        operation: &FilesOperation,
        source: Option<&Image>,
    ) -> Result<Option<Tree<'a>>, StepError> {
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

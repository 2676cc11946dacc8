//! What a build remembers of its steps, so that the next `--check` can say what slows builds down.
//!
//! ```text
//! solver ──looked_up──▶ Watch ──steps──▶ with the build before: why ──▶ catalog
//!        ──events────▶   │ time                                        (only if a step was done)
//!                        └──▶ display
//! ```
//! A build in which every step was cached tells nothing and costs nothing: it is not remembered.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::context::Context;
use super::event::{Event, Lookup, Sink, StepInfo, StepNumber};
use super::options::Options;
use super::tree::descriptor_path;
use crate::catalog::Millis;
use crate::catalog::memory::{BuildRecord, Outcome, StepRecord};
use crate::dockerfile::lint::Finding;
use crate::oci::Digest;
use crate::store::Store;

/// Passes events on, and notes what they tell of each step.
pub struct Watch<'a> {
    store: &'a Store,
    sink: &'a dyn Sink,
    steps: Mutex<BTreeMap<StepNumber, Watched>>,
}

/// What is known of one step so far.
#[derive(Debug, Clone, Default)]
struct Watched {
    info: Option<StepInfo>,
    begun: Option<Millis>,
    ended: Option<Millis>,
    cached: bool,
    finished: bool,
    lookup: Option<Lookup>,
    image: Option<Digest>,
}

impl Sink for Watch<'_> {
    fn event(&self, event: Event) {
        self.note(&event);
        self.sink.event(event);
    }

    fn looked_up(&self, step: StepNumber, lookup: Lookup) {
        let now = self.store.now();
        let mut steps = self.steps();
        let step = steps.entry(step).or_default();
        // What a COPY waits for before it knows its content is another step's time.
        step.begun = Some(step.begun.filter(|_| step.lookup.is_some()).unwrap_or(now));
        step.lookup = Some(lookup);
    }

    fn findings(&self, findings: &[Finding]) {
        self.sink.findings(findings);
    }
}

impl<'a> Watch<'a> {
    /// A watch that has seen nothing, before `sink`.
    pub fn new(store: &'a Store, sink: &'a dyn Sink) -> Watch<'a> {
        Watch {
            store,
            sink,
            steps: Mutex::default(),
        }
    }

    fn steps(&self) -> MutexGuard<'_, BTreeMap<StepNumber, Watched>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: &Event) {
        let mut steps = self.steps();
        let now = || Some(self.store.now());
        match event {
            Event::Planned { steps: planned, .. } => {
                for info in planned {
                    steps.entry(info.number).or_default().info = Some(info.clone());
                }
            }
            Event::StepCached { step } => steps.entry(*step).or_default().cached = true,
            Event::ContainerStarted { step, .. } => steps.entry(*step).or_default().begun = now(),
            Event::StepFinished { step, image } => {
                let step = steps.entry(*step).or_default();
                step.finished = true;
                step.image = *image;
                // The clock costs something, and nobody asks what a cached step took.
                step.ended = if step.cached { None } else { now() };
            }
            _ => {}
        }
    }

    /// How many steps there are; `None`: it never came so far as to know.
    pub fn planned(&self) -> Option<usize> {
        let steps = self.steps();
        let planned = steps.values().filter(|step| step.info.is_some()).count();
        (planned > 0).then_some(planned)
    }

    /// How many steps came from the cache.
    pub fn cached(&self) -> usize {
        self.steps().values().filter(|step| step.cached).count()
    }

    /// How many steps were looked for in the cache, were not there, and were done.
    pub fn done(&self) -> usize {
        let sought = |step: &Watched| step.lookup.as_ref().is_some_and(|l| l.identity.is_some());
        let done = |step: &&Watched| step.finished && !step.cached && sought(step);
        self.steps().values().filter(done).count()
    }

    /// What is to be remembered of the build; `None` if every step was cached.
    pub fn record(&self, subject: &str, forced: bool) -> Option<BuildRecord> {
        let watched = self.steps();
        let mut steps: Vec<StepRecord> = Vec::with_capacity(watched.len());
        for (number, step) in watched.iter().filter(|(_, step)| step.finished) {
            let Some(mut step) = record(*number, step, forced) else {
                continue;
            };
            // Only now is it known what the step before it made.
            if let Some(before) = steps.last().filter(|before| before.stage == step.stage) {
                step.parent = step.parent.or(before.image);
            }
            steps.push(step);
        }
        let did = steps
            .iter()
            .any(|step| step.outcome != Outcome::Cached && step.identity.is_some());
        did.then(|| BuildRecord {
            subject: subject.to_owned(),
            time: self.store.now(),
            steps,
        })
    }
}

fn record(number: StepNumber, step: &Watched, forced: bool) -> Option<StepRecord> {
    let info = step.info.as_ref()?;
    let lookup = step.lookup.clone().unwrap_or_default();
    let milliseconds = match (step.begun, step.ended) {
        (Some(begun), Some(ended)) => ended.saturating_sub(begun),
        _ => 0,
    };
    // FROM is never looked up; it is there.
    let cached = step.cached || step.lookup.is_none();
    Some(StepRecord {
        number,
        stage: info.stage.clone(),
        line: info.line,
        text: info.text.clone(),
        outcome: match (cached, forced) {
            (true, _) => Outcome::Cached,
            (false, true) => Outcome::Forced,
            (false, false) if lookup.parent.is_none() => Outcome::Parent,
            (false, false) => Outcome::First,
        },
        milliseconds: u64::try_from(milliseconds).unwrap_or(0),
        identity: lookup.identity,
        content: lookup.content,
        parent: lookup.parent,
        image: step.image,
    })
}

/// What a build is remembered as: two builds of one subject are compared.
pub fn subject(context: &Context, name: &str, options: &Options) -> String {
    // Where the directory really is, whatever it was called.
    let directory = context
        .tree()
        .ok()
        .and_then(|tree| std::fs::read_link(descriptor_path(&tree.root)).ok())
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    let target = options.target.as_deref().unwrap_or_default();
    format!("{directory}\n{name}\n{target}\n{}", options.platform)
}

/// Says of each step that was done why it was, by the build before.
pub fn explain(build: &mut BuildRecord, before: Option<&BuildRecord>) {
    let Some(before) = before else {
        for step in &mut build.steps {
            if step.outcome == Outcome::Parent {
                step.outcome = Outcome::First;
            }
        }
        return;
    };
    let mut taken = vec![false; before.steps.len()];
    for step in &mut build.steps {
        // The same text, in its order, for one that is there several times.
        let same = before.steps.iter().enumerate().position(|(place, old)| {
            !taken[place] && old.stage == step.stage && old.text == step.text
        });
        if let Some(place) = same {
            taken[place] = true;
        }
        if step.outcome == Outcome::First {
            step.outcome = why(step, same.map(|place| &before.steps[place]));
        }
    }
}

fn why(step: &StepRecord, old: Option<&StepRecord>) -> Outcome {
    match old {
        None => Outcome::Instruction,
        Some(old) if old.parent != step.parent => Outcome::Parent,
        Some(old) if old.identity != step.identity => Outcome::Variable,
        Some(old) if old.content != step.content => Outcome::Content,
        Some(_) => Outcome::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str, parent: &[u8], identity: &[u8], content: &[u8]) -> StepRecord {
        StepRecord {
            number: 0,
            stage: "stage-0".into(),
            line: 1,
            text: text.into(),
            outcome: Outcome::First,
            milliseconds: 0,
            identity: Some(Digest::of(identity)),
            content: Some(Digest::of(content)),
            parent: Some(Digest::of(parent)),
            image: None,
        }
    }

    fn explained(before: Vec<StepRecord>, now: Vec<StepRecord>) -> Vec<Outcome> {
        let build = |steps| BuildRecord {
            subject: "s".into(),
            time: 0,
            steps,
        };
        let mut now = build(now);
        explain(&mut now, Some(&build(before)));
        now.steps.iter().map(|step| step.outcome).collect()
    }

    #[test]
    fn the_first_thing_that_differs_is_the_reason() {
        let old = || vec![step("COPY . .", b"p", b"i", b"c")];
        let reason = |step| explained(old(), vec![step]);
        assert_eq!(
            reason(step("COPY . .", b"p", b"i", b"d")),
            [Outcome::Content]
        );
        assert_eq!(
            reason(step("COPY . .", b"p", b"j", b"d")),
            [Outcome::Variable]
        );
        assert_eq!(
            reason(step("COPY . .", b"q", b"j", b"d")),
            [Outcome::Parent]
        );
        assert_eq!(
            reason(step("COPY x .", b"p", b"i", b"c")),
            [Outcome::Instruction]
        );
        assert_eq!(
            reason(step("COPY . .", b"p", b"i", b"c")),
            [Outcome::Missing]
        );
        let pending = StepRecord {
            outcome: Outcome::Parent,
            ..step("COPY . .", b"p", b"i", b"c")
        };
        assert_eq!(reason(pending.clone()), [Outcome::Parent]);
        let mut first = BuildRecord {
            subject: "s".into(),
            time: 0,
            steps: vec![pending],
        };
        explain(&mut first, None);
        assert_eq!(first.steps[0].outcome, Outcome::First);
    }

    #[test]
    fn steps_of_one_text_are_told_apart_by_their_order() {
        let twice = |second: &[u8]| {
            vec![
                step("RUN x", b"1", b"i", b""),
                step("RUN x", second, b"i", b""),
            ]
        };
        assert_eq!(
            explained(twice(b"2"), twice(b"3")),
            [Outcome::Missing, Outcome::Parent]
        );
    }
}

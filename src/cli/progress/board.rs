//! What every display knows: the steps, when each began, its last lines, what failed.

use std::collections::VecDeque;
use std::time::Duration;

use crate::build::event::{Event, Failure, StepInfo, StepNumber};
use crate::cli::render::text;

/// How many lines of a step's output are kept to be shown if it fails.
const TAIL: usize = 40;

/// One step's state.
#[derive(Debug)]
pub struct Step {
    /// What it is.
    pub info: StepInfo,
    /// When it began.
    pub started: Option<Duration>,
    /// Its last lines of output.
    pub tail: VecDeque<Vec<u8>>,
    /// Whether it waits for somebody else who runs the same one.
    pub waits: bool,
    /// Whether it was taken from the cache.
    pub cached: bool,
    /// When it was done, whichever way.
    pub ended: Option<Duration>,
}

impl Step {
    /// Whether it is going on.
    pub fn runs(&self) -> bool {
        self.started.is_some() && self.ended.is_none()
    }
}

/// All steps of a build.
#[derive(Debug, Default)]
pub struct Board {
    /// By their numbers.
    pub steps: Vec<Step>,
    /// Those that have begun, in the order in which they did.
    pub begun: Vec<StepNumber>,
    /// The first step that failed, and why.
    pub failed: Option<(StepNumber, Failure)>,
    /// Whether there is more than one stage, or one that has a name.
    names_stages: bool,
}

impl Board {
    /// Takes an event in.
    pub fn take(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Planned { steps, .. } => self.plan(steps),
            Event::StepStarted { step } => {
                if !self.begun.contains(step) {
                    self.begun.push(*step);
                }
                self.change(*step, |step| {
                    step.started = Some(now);
                    // It may be done again.
                    step.ended = None;
                    step.cached = false;
                    step.waits = false;
                });
            }
            Event::StepWaiting { step } => self.change(*step, |step| step.waits = true),
            Event::ContainerStarted { step, .. } => self.change(*step, |step| step.waits = false),
            Event::StepCached { step } => self.change(*step, |step| step.cached = true),
            Event::StepFinished { step, .. } => {
                self.change(*step, |step| step.ended = Some(now));
            }
            Event::Output { step, line, .. } => self.change(*step, |step| {
                if step.tail.len() == TAIL {
                    step.tail.pop_front();
                }
                step.tail.push_back(line.clone());
            }),
            // What fails after the first was most likely stopped because of it.
            Event::StepFailed { step, failure } => {
                self.change(*step, |step| step.ended = Some(now));
                self.failed.get_or_insert_with(|| (*step, failure.clone()));
            }
            _ => {}
        }
    }

    fn plan(&mut self, steps: &[StepInfo]) {
        let mut steps: Vec<StepInfo> = steps.to_vec();
        steps.sort_by_key(|step| step.number);
        self.names_stages = steps.iter().any(|step| step.stage != "stage-0");
        self.steps = steps
            .into_iter()
            .map(|info| Step {
                info: StepInfo {
                    // The Dockerfile may be a stranger's.
                    text: text::clean(&info.text),
                    ..info
                },
                started: None,
                tail: VecDeque::new(),
                waits: false,
                cached: false,
                ended: None,
            })
            .collect();
    }

    fn change(&mut self, step: StepNumber, change: impl FnOnce(&mut Step)) {
        if let Some(step) = self.steps.get_mut(step) {
            change(step);
        }
    }

    /// A step's title in BuildKit's manner: `[builder 2/4] RUN make`.
    pub fn title(&self, step: StepNumber) -> String {
        let Some(Step { info, .. }) = self.steps.get(step) else {
            return String::new();
        };
        let place = format!("{}/{}", info.in_stage, info.stage_steps);
        let onbuild = if info.trigger { "ONBUILD " } else { "" };
        if self.names_stages {
            format!("[{} {place}] {onbuild}{}", info.stage, info.text)
        } else {
            format!("[{place}] {onbuild}{}", info.text)
        }
    }

    /// How long a step has been going on, or took.
    pub fn elapsed(&self, step: StepNumber, now: Duration) -> Duration {
        let Some(step) = self.steps.get(step) else {
            return Duration::ZERO;
        };
        let until = step.ended.unwrap_or(now);
        let started = step.started.unwrap_or(until);
        until.saturating_sub(started)
    }

    /// How many steps are done.
    pub fn done(&self) -> usize {
        self.steps
            .iter()
            .filter(|step| step.ended.is_some())
            .count()
    }

    /// Whether a step failed.
    pub fn is_failed(&self, step: StepNumber) -> bool {
        self.failed
            .as_ref()
            .is_some_and(|(failed, _)| *failed == step)
    }
}

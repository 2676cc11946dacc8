//! The classic docker builder's narration, word for word.
//!
//! ```text
//! Step 2/4 : RUN make
//!  ---> Running in c0ffee000001
//! cc main.c
//!  ---> Removed intermediate container c0ffee000001
//!  ---> 1f0c66a2d6f0
//! ```
//! A base's triggers are no steps of their own: they are told between their FROM and its image.
//!
//! It tells whole steps in the order of the file, while stages run side by side and a step begins
//! before its parent's layer is written: what comes early waits until its turn.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use super::board::Board;
use super::transfer::Rows;
use super::{Progress, Settings, failure};
use crate::build::event::{Event, Sink, StepNumber};

/// The display.
pub struct Classic {
    state: Mutex<State>,
}

struct State {
    settings: Settings,
    board: Board,
    /// What each step has told and nobody has heard.
    waiting: Vec<Vec<u8>>,
    /// The step whose turn it is.
    current: StepNumber,
    /// What comes after all steps.
    end: Vec<u8>,
    /// The base that is being pulled.
    pulled: Rows,
}

impl Classic {
    /// A display that has shown nothing.
    pub fn new(settings: Settings) -> Classic {
        Classic {
            state: Mutex::new(State {
                settings,
                board: Board::default(),
                waiting: Vec::new(),
                current: 0,
                end: Vec::new(),
                pulled: Rows::default(),
            }),
        }
    }
}

impl Sink for Classic {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.take(&event);
    }
}

impl Progress for Classic {
    fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.finish();
    }
}

impl State {
    fn take(&mut self, event: &Event) {
        self.board.take(event, (self.settings.clock)());
        match event {
            Event::Planned { steps, .. } => {
                self.waiting = vec![Vec::new(); steps.len()];
            }
            Event::Transfer(event) => {
                if let Some(said) = self.pulled.take(event, false) {
                    self.write(format!("{said}\n").as_bytes());
                }
            }
            Event::CacheImport { cache } => {
                self.pulled.begin(false);
                self.write(format!("Importing cache from {cache}\n").as_bytes());
            }
            Event::CacheExport { cache } => {
                self.pulled.begin(true);
                self.write(format!("Exporting cache to {cache}\n").as_bytes());
            }
            Event::Warning { message } => self.write(format!("[Warning] {message}\n").as_bytes()),
            Event::StepStarted { step } => {
                let line = self.opening(*step);
                self.tell(*step, line.as_bytes());
            }
            Event::StepCached { step } => self.tell(*step, b" ---> Using cache\n"),
            Event::StepWaiting { step } => {
                self.tell(*step, b" ---> Waiting for another build of this step\n");
            }
            Event::ContainerStarted { step, container } => {
                self.tell(*step, format!(" ---> Running in {container}\n").as_bytes());
            }
            Event::Output { step, line, .. } => {
                let mut line = self.settings.line(line).into_owned();
                line.push(b'\n');
                self.tell(*step, &line);
            }
            Event::ContainerRemoved { step, container } => {
                let line = format!(" ---> Removed intermediate container {container}\n");
                self.tell(*step, line.as_bytes());
            }
            Event::StepFinished { step, image } => {
                // `FROM scratch` gives none, and the classic builder's arrow points at nothing.
                let id = image.map_or_else(String::new, |image| image.short());
                if !self.is_trigger(*step + 1) {
                    self.tell(*step, format!(" ---> {id}\n").as_bytes());
                }
                self.advance();
            }
            Event::StepFailed { .. } => {}
            Event::Committed { image } => {
                let line = format!("Successfully built {}\n", image.short());
                self.end.extend_from_slice(line.as_bytes());
            }
            Event::Tagged { name } => {
                let line = format!("Successfully tagged {name}\n");
                self.end.extend_from_slice(line.as_bytes());
            }
        }
    }

    fn is_trigger(&self, step: StepNumber) -> bool {
        self.board
            .steps
            .get(step)
            .is_some_and(|step| step.info.trigger)
    }

    /// What a step begins with.
    fn opening(&self, step: StepNumber) -> String {
        let steps = &self.board.steps;
        let Some(first) = steps.get(step) else {
            return String::new();
        };
        if !first.info.trigger {
            let counts = |steps: &[super::board::Step]| {
                steps.iter().filter(|step| !step.info.trigger).count()
            };
            let (number, total) = (counts(&steps[..=step]), counts(steps));
            return format!("Step {number}/{total} : {}\n", first.info.text);
        }
        if step > 0 && self.is_trigger(step - 1) {
            return String::new();
        }
        let triggers = steps[step..].iter().take_while(|step| step.info.trigger);
        match triggers.count() {
            1 => "# Executing 1 build trigger\n".to_owned(),
            more => format!("# Executing {more} build triggers\n"),
        }
    }

    /// Shows what a step tells, now or when it is its turn.
    fn tell(&mut self, step: StepNumber, text: &[u8]) {
        // An earlier one is being done again, since a cache does not have what it said.
        if step <= self.current {
            self.write(text);
        } else if let Some(waiting) = self.waiting.get_mut(step) {
            waiting.extend_from_slice(text);
        }
    }

    /// Gives the turn to the next step for as long as the one that has it is done.
    fn advance(&mut self) {
        while self
            .board
            .steps
            .get(self.current)
            .is_some_and(|step| step.ended.is_some())
        {
            self.current += 1;
            if let Some(waiting) = self.waiting.get_mut(self.current) {
                let text = std::mem::take(waiting);
                self.write(&text);
            }
        }
    }

    fn finish(&mut self) {
        if let Some((failed, _)) = self.board.failed {
            // What was under way before it, and it itself; what comes after never was.
            for step in self.current..=failed {
                if let Some(waiting) = self.waiting.get_mut(step) {
                    let text = std::mem::take(waiting);
                    self.write(&text);
                }
            }
            let block = failure::block(&self.board, &self.settings, false);
            self.write(&block);
        }
        let end = std::mem::take(&mut self.end);
        self.write(&end);
        let _ = self.settings.out.flush();
    }

    fn write(&mut self, text: &[u8]) {
        // A display that nobody can see must not stop the build.
        let _ = self.settings.out.write_all(text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn shown(events: Vec<Event>) -> String {
        let page = Page::default();
        let classic = Classic::new(settings(&page));
        events.into_iter().for_each(|event| classic.event(event));
        classic.finish();
        page.text()
    }

    #[test]
    fn whole_steps_are_told_in_order_though_they_run_side_by_side() {
        let id = |step| image(step).short();
        let expected = format!(
            "\
Step 1/4 : FROM base AS builder
 ---> {}
Step 2/4 : RUN make
 ---> Running in c0ffee000001
cc main.c
done
 ---> Removed intermediate container c0ffee000001
 ---> {}
Step 3/4 : FROM base
 ---> {}
Step 4/4 : COPY --from=builder /x /x
 ---> Using cache
 ---> {}
Successfully built {}
Successfully tagged app:latest
",
            id(0),
            id(1),
            id(2),
            id(3),
            id(3)
        );
        assert_eq!(shown(side_by_side()), expected);
    }

    #[test]
    fn triggers_are_told_between_their_from_and_its_image() {
        let Event::Planned { mut steps, .. } = planned() else {
            panic!()
        };
        steps[1].trigger = true;
        steps[2].trigger = true;
        let events = vec![
            Event::Planned {
                steps,
                skipped_stages: 0,
            },
            Event::StepStarted { step: 0 },
            finished(0),
            Event::StepStarted { step: 1 },
            started(1),
            finished(1),
            Event::StepStarted { step: 2 },
            Event::StepCached { step: 2 },
            finished(2),
            Event::StepStarted { step: 3 },
            finished(3),
        ];
        let expected = format!(
            "\
Step 1/2 : FROM base AS builder
# Executing 2 build triggers
 ---> Running in c0ffee000001
 ---> Using cache
 ---> {}
Step 2/2 : COPY --from=builder /x /x
 ---> {}
",
            image(2).short(),
            image(3).short()
        );
        assert_eq!(shown(events), expected);
    }

    #[test]
    fn a_failed_step_is_told_with_its_line_and_nothing_after_it() {
        let mut events = failing();
        events.insert(2, Event::StepStarted { step: 2 });
        let text = shown(events);
        assert!(text.contains("main.c:3: error\n ---> Removed"), "{text}");
        assert!(text.ends_with("   4 |     COPY --from=builder /x /x\n--------------------\n"));
        assert!(text.contains("   2 | >>> RUN make\n"), "{text}");
        assert!(!text.contains("Step 3/4"), "{text}");
    }
}

//! BuildKit's plain manner: lines as they come, each with the number of its step.
//!
//! ```text
//! #2 [builder 2/2] RUN make
//! #2 0.123 cc main.c
//! #2 DONE 0.3s
//!
//! #4 [stage-1 2/2] COPY --from=builder /x /x
//! #4 CACHED
//! ```

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::board::Board;
use super::{Progress, Settings, failure};
use crate::build::event::{Event, Sink, StepNumber};

/// The display.
pub struct Plain {
    state: Mutex<State>,
}

struct State {
    settings: Settings,
    board: Board,
}

impl Plain {
    /// A display that has shown nothing.
    pub fn new(settings: Settings) -> Plain {
        Plain {
            state: Mutex::new(State {
                settings,
                board: Board::default(),
            }),
        }
    }
}

impl Sink for Plain {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (state.settings.clock)();
        state.board.take(&event, now);
        let text = state.text(&event, now);
        state.write(&text);
    }
}

impl Progress for Plain {
    fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let block = failure::block(&state.board, state.settings.dockerfile.as_ref(), true);
        state.write(&block);
        let _ = state.settings.out.flush();
    }
}

impl State {
    fn text(&self, event: &Event, now: Duration) -> Vec<u8> {
        let seconds = |step: StepNumber| self.board.elapsed(step, now).as_secs_f64();
        // What follows the steps has the number after theirs.
        let end = self.board.steps.len() + 1;
        let line = match event {
            Event::Planned { .. } | Event::ContainerRemoved { .. } => return Vec::new(),
            Event::ContainerStarted { .. } => return Vec::new(),
            Event::Warning { message } => format!("WARNING: {message}\n"),
            Event::StepStarted { step } => format!("#{} {}\n", step + 1, self.board.title(*step)),
            Event::StepCached { step } => format!("#{} CACHED\n\n", step + 1),
            Event::StepWaiting { step } => {
                format!("#{} waiting for another build of this step\n", step + 1)
            }
            Event::Output { step, line, .. } => {
                let mut text = format!("#{} {:.3} ", step + 1, seconds(*step)).into_bytes();
                text.extend_from_slice(line);
                text.push(b'\n');
                return text;
            }
            Event::StepFinished { step, .. } if self.is_cached(*step) => return Vec::new(),
            Event::StepFinished { step, .. } => {
                format!("#{} DONE {:.1}s\n\n", step + 1, seconds(*step))
            }
            Event::StepFailed { step, failure } => {
                format!("#{} ERROR: {}\n\n", step + 1, failure.message)
            }
            Event::Committed { image } => format!("#{end} writing image {image}\n"),
            Event::Tagged { name } => format!("#{end} naming to {name}\n"),
        };
        line.into_bytes()
    }

    fn is_cached(&self, step: StepNumber) -> bool {
        self.board.steps.get(step).is_some_and(|step| step.cached)
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
        let plain = Plain::new(settings(&page));
        events.into_iter().for_each(|event| plain.event(event));
        plain.finish();
        page.text()
    }

    #[test]
    fn lines_come_as_they_are_with_their_steps_number() {
        let expected = format!(
            "\
#1 [builder 1/2] FROM base AS builder
#3 [stage-1 1/2] FROM base
#3 DONE 0.0s

#1 DONE 0.0s

#2 [builder 2/2] RUN make
#2 0.000 cc main.c
#2 0.000 done
#4 [stage-1 2/2] COPY --from=builder /x /x
#4 CACHED

#2 DONE 0.0s

#5 writing image {}
#5 naming to app:latest
",
            image(3)
        );
        assert_eq!(shown(side_by_side()), expected);
    }

    #[test]
    fn a_failure_repeats_the_output_and_quotes_the_line() {
        let text = shown(failing());
        assert!(text.contains("#2 ERROR: exit status 7\n"), "{text}");
        assert!(text.contains(
            "------\n > [builder 2/2] RUN make:\nmain.c:3: error\n------\nDockerfile:2\n"
        ));
    }
}

//! For terminals: running steps redrawn in place, with their time and last lines; done ones stay
//! above as one line each.
//!
//! ```text
//!  ✔ [builder 1/2] FROM base AS builder   0.0s
//!  ✔ [stage-1 1/2] FROM base              CACHED
//!  ⠹ [builder 2/2] RUN make               1.2s
//!      cc main.c
//!      cc util.c
//! ```
//! Lines are cut to the terminal's width, and escape sequences in the output are left out: what
//! moves the cursor would tear the picture.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::board::Board;
use super::{Progress, Settings, failure};
use crate::build::event::{Event, Sink, StepNumber};
use crate::cli::render::text;

/// How many lines of its output a running step shows.
const LINES: usize = 4;

/// The display.
pub struct Tty {
    state: Mutex<State>,
}

struct State {
    settings: Settings,
    board: Board,
    bars: MultiProgress,
    running: BTreeMap<StepNumber, ProgressBar>,
}

impl Tty {
    /// A display that has shown nothing.
    pub fn new(settings: Settings) -> Tty {
        Tty::on(settings, ProgressDrawTarget::stderr())
    }

    fn on(settings: Settings, target: ProgressDrawTarget) -> Tty {
        Tty {
            state: Mutex::new(State {
                settings,
                board: Board::default(),
                bars: MultiProgress::with_draw_target(target),
                running: BTreeMap::new(),
            }),
        }
    }
}

impl Sink for Tty {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.take(&event);
    }
}

impl Progress for Tty {
    fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for bar in std::mem::take(&mut state.running).into_values() {
            bar.finish_and_clear();
        }
        let _ = state.bars.clear();
        let block = failure::block(&state.board, state.settings.dockerfile.as_ref(), true);
        let _ = state.settings.out.write_all(&block);
        let _ = state.settings.out.flush();
    }
}

impl State {
    fn take(&mut self, event: &Event) {
        let now = (self.settings.clock)();
        self.board.take(event, now);
        match event {
            Event::StepStarted { step } => self.start(*step),
            Event::Output { step, .. } | Event::StepWaiting { step } => self.show_output(*step),
            Event::StepFinished { step, .. } => self.done(*step, now),
            Event::StepFailed { step, failure } => {
                self.remove(*step);
                let mark = self.paint("31", "✘");
                let title = self.title(*step);
                self.print(format!(" {mark} {title}  {}", failure.message));
            }
            Event::Warning { message } => {
                let mark = self.paint("33", "!");
                self.print(format!(" {mark} {message}"));
            }
            Event::Committed { image } => self.print(format!(" = image {}", image.short())),
            Event::Tagged { name } => self.print(format!(" = named {name}")),
            Event::Planned { .. }
            | Event::StepCached { .. }
            | Event::ContainerStarted { .. }
            | Event::ContainerRemoved { .. } => {}
        }
    }

    fn start(&mut self, step: StepNumber) {
        let bar = self.bars.add(ProgressBar::new_spinner());
        let style = ProgressStyle::with_template(" {spinner} {prefix}  {elapsed}{msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        bar.set_style(style);
        bar.set_prefix(self.title(step));
        bar.enable_steady_tick(Duration::from_millis(100));
        self.running.insert(step, bar);
    }

    fn show_output(&self, step: StepNumber) {
        let (Some(bar), Some(state)) = (self.running.get(&step), self.board.steps.get(step)) else {
            return;
        };
        let first = state.tail.len().saturating_sub(LINES);
        let mut message = String::new();
        for line in state.tail.iter().skip(first) {
            message.push_str("\n     ");
            message.push_str(&text::shorten(
                &text::line(line),
                self.width().saturating_sub(6),
            ));
        }
        bar.set_message(message);
    }

    fn done(&mut self, step: StepNumber, now: Duration) {
        self.remove(step);
        let cached = self.board.steps.get(step).is_some_and(|step| step.cached);
        let how = if cached {
            "CACHED".to_owned()
        } else {
            format!("{:.1}s", self.board.elapsed(step, now).as_secs_f64())
        };
        let mark = self.paint("32", "✔");
        let title = self.title(step);
        self.print(format!(" {mark} {title}  {how}"));
    }

    fn remove(&mut self, step: StepNumber) {
        if let Some(bar) = self.running.remove(&step) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    /// A step's title in one line that leaves room for its time.
    fn title(&self, step: StepNumber) -> String {
        let title = text::clean(&self.board.title(step));
        text::shorten(&title, self.width().saturating_sub(14).max(20))
    }

    fn width(&self) -> usize {
        let size = rustix::termios::tcgetwinsize(std::io::stderr());
        size.map_or(80, |size| usize::from(size.ws_col)).max(20)
    }

    fn print(&self, line: String) {
        // A display that nobody can see must not stop the build.
        let _ = self.bars.println(line);
    }

    fn paint(&self, color: &str, text: &str) -> String {
        if self.settings.color {
            format!("\x1b[{color}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use std::io;

    use indicatif::TermLike;

    /// A terminal that never forgets: whatever was ever drawn is on the page.
    #[derive(Debug, Clone)]
    struct Paper(Page);

    impl Paper {
        fn put(&self, text: &str) -> io::Result<()> {
            io::Write::write_all(&mut self.0.clone(), text.as_bytes())
        }
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            100
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, line: &str) -> io::Result<()> {
            self.put(line)?;
            self.put("\n")
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.put(text)
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn shown(events: Vec<Event>) -> (String, String) {
        let page = Page::default();
        let terminal = Page::default();
        let target = ProgressDrawTarget::term_like(Box::new(Paper(terminal.clone())));
        let tty = Tty::on(settings(&page), target);
        events.into_iter().for_each(|event| tty.event(event));
        let during = terminal.text();
        tty.finish();
        (during, page.text())
    }

    #[test]
    fn done_steps_are_one_line_each() {
        let (text, _) = shown(side_by_side());
        assert!(text.contains(" ✔ [builder 2/2] RUN make  0.0s"), "{text}");
        assert!(text.contains("COPY --from=builder /x /x  CACHED"), "{text}");
    }

    #[test]
    fn a_running_step_shows_its_last_lines() {
        let mut events = side_by_side();
        events.truncate(9);
        let (text, _) = shown(events);
        assert!(
            text.contains("     cc main.c ") && text.contains("     done "),
            "{text}"
        );
    }

    #[test]
    fn a_failure_is_quoted_below() {
        let (during, after) = shown(failing());
        assert!(
            during.contains("✘ [builder 2/2] RUN make  exit status 7"),
            "{during}"
        );
        assert!(after.contains("main.c:3: error"), "{after}");
    }
}

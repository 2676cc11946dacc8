//! `-q`: nothing but the image's ID, on stdout; of a failed build, what failed.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use super::board::Board;
use super::{Progress, Settings, failure};
use crate::build::event::{Event, Sink};
use crate::oci::Digest;

/// The display.
pub struct Quiet {
    state: Mutex<State>,
}

struct State {
    settings: Settings,
    stdout: Box<dyn Write + Send>,
    board: Board,
    image: Option<Digest>,
}

impl Quiet {
    /// A display that writes the image's ID to `stdout`.
    pub fn new(settings: Settings, stdout: Box<dyn Write + Send>) -> Quiet {
        Quiet {
            state: Mutex::new(State {
                settings,
                stdout,
                board: Board::default(),
                image: None,
            }),
        }
    }
}

impl Sink for Quiet {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (state.settings.clock)();
        state.board.take(&event, now);
        if let Event::Committed { image } = event {
            state.image = Some(image);
        }
    }
}

impl Progress for Quiet {
    fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let block = failure::block(&state.board, &state.settings, true);
        let _ = state.settings.out.write_all(&block);
        if let Some(image) = state.image.take() {
            let _ = writeln!(state.stdout, "{image}");
            let _ = state.stdout.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn shown(events: Vec<Event>) -> (String, String) {
        let (stdout, stderr) = (Page::default(), Page::default());
        let quiet = Quiet::new(settings(&stderr), Box::new(stdout.clone()));
        events.into_iter().for_each(|event| quiet.event(event));
        quiet.finish();
        (stdout.text(), stderr.text())
    }

    #[test]
    fn only_the_id_is_printed() {
        assert_eq!(
            shown(side_by_side()),
            (format!("{}\n", image(3)), String::new())
        );
    }

    #[test]
    fn a_failure_is_not_silent() {
        let (stdout, stderr) = shown(failing());
        assert_eq!(stdout, "");
        assert!(stderr.contains("main.c:3: error"), "{stderr}");
    }
}

//! The terminal: taken, drawn on, and given back however this ends.
//!
//! ```text
//! cooked, cursor, main screen ──open──▶ raw, no cursor, other screen
//!            ▲                                    │
//!            └── end, error, signal, panic, stop ─┘
//! ```
//! SIGINT, SIGTERM and SIGHUP are messages to the event loop, which ends and so drops the
//! [`Screen`]. A panic gives the terminal back before it tells of itself. Ctrl-Z is a key in raw
//! mode: the terminal is given back, then the process group is stopped as the kernel would have.

use std::io::{self, Stdout};
use std::sync::Once;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::Rect;
use rustix::process::{Signal, kill_current_process_group};

use super::draw::{self, Theme};
use super::state::State;

/// The terminal while it is ours.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

static HOOK: Once = Once::new();

impl Screen {
    /// Takes it.
    pub fn open() -> io::Result<Screen> {
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                leave();
                before(panic);
            }));
        });
        let taken = enter().and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match taken {
            Ok(terminal) => Ok(Screen { terminal }),
            Err(error) => {
                leave();
                Err(error)
            }
        }
    }

    /// Columns and lines.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    /// Draws what has changed.
    pub fn draw(&mut self, state: &State, theme: Theme) -> io::Result<()> {
        self.terminal
            .draw(|frame| draw::draw(state, theme, frame.buffer_mut()))?;
        Ok(())
    }

    /// Has the next draw draw everything.
    pub fn forget(&mut self) -> io::Result<()> {
        // `clear` would ask the terminal where its cursor is, and the answer would come as keys.
        let size = self.terminal.size()?;
        self.terminal
            .resize(Rect::new(0, 0, size.width, size.height))
    }

    /// Gives the terminal back, and takes it again when somebody continues the process.
    pub fn suspend(&mut self) -> io::Result<()> {
        leave();
        kill_current_process_group(Signal::TSTP)?;
        // Any thread may be the one that takes the signal; this one must not go on before.
        std::thread::sleep(Duration::from_millis(50));
        enter()?;
        self.terminal.hide_cursor()?;
        self.forget()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    // What is pasted is not typed: it must not press keys.
    execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)
}

/// Whatever fails, the rest of it is tried: there may be no terminal any more.
fn leave() {
    let _ = execute!(
        io::stdout(),
        DisableBracketedPaste,
        LeaveAlternateScreen,
        Show
    );
    let _ = disable_raw_mode();
}

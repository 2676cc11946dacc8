//! A pull or a push shown while it goes on, in docker's words.
//!
//! ```text
//! latest: Pulling from library/alpine
//! 4abcf2066143: Downloading [=========>          ]  1.9MB/3.4MB
//! 8b2ad98c1c3e: Pull complete
//! Digest: sha256:…
//! Status: Downloaded newer image for alpine:latest
//! ```
//! On a terminal the layers' lines are drawn over themselves; elsewhere each new state is a line,
//! and each tenth of a large layer. [`Rows`] is what builds show of a base that is being pulled.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use super::picture::Size;
use super::tty::size_of_stderr;
use crate::cli::context::Terminal;
use crate::cli::render::{size, text};
use crate::oci::Digest;
use crate::registry::{Event, LayerState, Sink};

/// Layers that are smaller have come before one could look.
const LARGE: u64 = 8 << 20;
/// How many characters a bar has.
const BAR: u64 = 30;

/// One layer.
#[derive(Debug)]
struct Row {
    digest: Digest,
    size: u64,
    state: LayerState,
    done: u64,
    /// How many tenths have been told.
    tenths: u64,
}

/// What is known of the layers of a transfer.
#[derive(Debug, Default)]
pub struct Rows {
    rows: Vec<Row>,
    pushing: bool,
}

impl Rows {
    /// Takes an event in. Returns what there is to say of it line by line; `bytes`: also of how far
    /// a layer has come.
    pub fn take(&mut self, event: &Event, bytes: bool) -> Option<String> {
        match event {
            Event::Pulling { what, repository } => {
                *self = Rows::default();
                Some(format!("{what}: Pulling from {repository}"))
            }
            Event::Pushing { repository } => {
                *self = Rows {
                    pushing: true,
                    ..Rows::default()
                };
                Some(format!("The push refers to repository [{repository}]"))
            }
            Event::Layer {
                digest,
                size,
                state,
            } => {
                self.row(digest, *size).state = state.clone();
                Some(format!("{}: {state}", digest.short()))
            }
            Event::Moved { digest, done, size } => {
                let verb = self.verb();
                let row = self.row(digest, *size);
                row.done = *done;
                let tenths = done.saturating_mul(10) / (*size).max(1);
                if !bytes || *size < LARGE || tenths <= row.tenths || tenths == 10 {
                    return None;
                }
                row.tenths = tenths;
                let (done, size) = (size::short(*done), size::short(*size));
                Some(format!("{}: {verb} {done}/{size}", digest.short()))
            }
            Event::Referrer { digest, kind, of } => {
                // The layers before it are not drawn again below it.
                self.rows.clear();
                let kind = text::clean(kind);
                Some(format!("{}: {kind}, about {of}", digest.short()))
            }
            Event::Warning { message } => Some(format!("WARNING: {}", text::clean(message))),
            Event::Pulled {
                name,
                digest,
                newer,
            } => {
                self.rows.clear();
                let status = match newer {
                    true => "Downloaded newer image",
                    false => "Image is up to date",
                };
                Some(format!("Digest: {digest}\nStatus: {status} for {name}"))
            }
        }
    }

    /// Begins to show layers that come, or that are sent.
    pub fn begin(&mut self, pushing: bool) {
        *self = Rows {
            pushing,
            ..Rows::default()
        };
    }

    /// A line for each layer that is on its way, at most so many.
    pub fn moving(&self, limit: usize) -> Vec<String> {
        let rows = self.rows.iter().filter(|row| !row.state.is_final());
        rows.take(limit).map(|row| self.line(row)).collect()
    }

    fn verb(&self) -> &'static str {
        match self.pushing {
            true => "Pushing",
            false => "Downloading",
        }
    }

    fn row(&mut self, digest: &Digest, size: u64) -> &mut Row {
        let known = self.rows.iter().position(|row| row.digest == *digest);
        let place = known.unwrap_or_else(|| {
            self.rows.push(Row {
                digest: *digest,
                size,
                state: LayerState::Wanted,
                done: 0,
                tenths: 0,
            });
            self.rows.len() - 1
        });
        &mut self.rows[place]
    }

    /// A line for each layer, of which so many are shown: those that are done are left out first.
    pub fn lines(&self, limit: usize) -> Vec<String> {
        let mut surplus = self.rows.len().saturating_sub(limit);
        let mut lines = Vec::new();
        for row in &self.rows {
            if surplus > 0 && row.state.is_final() {
                surplus -= 1;
                continue;
            }
            lines.push(self.line(row));
        }
        lines.truncate(limit);
        lines
    }

    fn line(&self, row: &Row) -> String {
        let id = row.digest.short();
        if row.state.is_final() || row.done == 0 {
            return format!("{id}: {}", row.state);
        }
        let done = row.done.min(row.size);
        let filled = (done.saturating_mul(BAR) / row.size.max(1)) as usize;
        let bar = format!("{}>", "=".repeat(filled));
        let width = BAR as usize + 1;
        let (done, size) = (size::short(done), size::short(row.size));
        format!("{id}: {} [{bar:<width$}] {done:>7}/{size}", self.verb())
    }
}

/// The display of `pull`, `push` and `copy`.
pub struct Transfer {
    state: Mutex<State>,
}

struct State {
    rows: Rows,
    out: Box<dyn Write + Send>,
    manner: Manner,
    size: Box<dyn Fn() -> Size + Send>,
    /// How many lines were drawn last.
    drawn: usize,
}

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Silent,
    Lines,
    Drawn,
}

impl Transfer {
    /// A display on standard error; `shown`: or none.
    pub fn new(terminal: &Terminal, shown: bool) -> Transfer {
        let manner = match shown {
            false => Manner::Silent,
            true if terminal.stderr && !terminal.dumb => Manner::Drawn,
            true => Manner::Lines,
        };
        Transfer::to(Box::new(io::stderr()), manner, Box::new(size_of_stderr))
    }

    fn to(
        out: Box<dyn Write + Send>,
        manner: Manner,
        size: Box<dyn Fn() -> Size + Send>,
    ) -> Transfer {
        Transfer {
            state: Mutex::new(State {
                rows: Rows::default(),
                out,
                manner,
                size,
                drawn: 0,
            }),
        }
    }
}

impl Sink for Transfer {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.take(&event);
    }
}

impl State {
    fn take(&mut self, event: &Event) {
        let said = self.rows.take(event, self.manner == Manner::Lines);
        match self.manner {
            Manner::Silent => {}
            Manner::Lines => {
                if let Some(said) = said {
                    self.write(&format!("{said}\n"));
                }
            }
            Manner::Drawn => match event {
                Event::Layer { .. } | Event::Moved { .. } => self.draw(),
                _ => {
                    // What was drawn stays above.
                    self.drawn = 0;
                    if let Some(said) = said {
                        self.write(&format!("{said}\n"));
                    }
                }
            },
        }
    }

    /// Draws the layers over where they were drawn before.
    fn draw(&mut self) {
        let size = (self.size)();
        let lines = self.rows.lines(size.rows.saturating_sub(2).max(1));
        let mut drawing = String::from("\x1b[?25l\x1b[?7l\r");
        if self.drawn > 0 {
            drawing.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in &lines {
            drawing.push_str(line);
            drawing.push_str("\x1b[K\n");
        }
        drawing.push_str("\x1b[J\x1b[?7h\x1b[?25h");
        self.drawn = lines.len();
        self.write(&drawing);
    }

    fn write(&mut self, text: &str) {
        // A display that nobody can see must not stop anything.
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Page;
    use super::*;

    fn pull() -> Vec<Event> {
        let (digest, size) = (Digest::of(b"layer"), 100_000_000);
        let layer = |state| Event::Layer {
            digest,
            size,
            state,
        };
        let moved = |done| Event::Moved { digest, done, size };
        vec![
            Event::Pulling {
                what: "3".into(),
                repository: "library/alpine".into(),
            },
            layer(LayerState::Wanted),
            moved(5_000_000),
            moved(52_000_000),
            moved(53_000_000),
            layer(LayerState::Pulled),
            Event::Pulled {
                name: "alpine:3".into(),
                digest: Digest::of(b"manifest"),
                newer: true,
            },
        ]
    }

    fn shown(manner: Manner) -> String {
        let page = Page::default();
        let size = Size {
            columns: 80,
            rows: 24,
        };
        let display = Transfer::to(Box::new(page.clone()), manner, Box::new(move || size));
        pull().into_iter().for_each(|event| display.event(event));
        page.text()
    }

    #[test]
    fn a_log_gets_dockers_words_and_each_tenth_of_a_large_layer() {
        let layer = Digest::of(b"layer").short();
        let expected = format!(
            "3: Pulling from library/alpine\n{layer}: Pulling fs layer\n\
             {layer}: Downloading 52MB/100MB\n{layer}: Pull complete\nDigest: {}\n\
             Status: Downloaded newer image for alpine:3\n",
            Digest::of(b"manifest")
        );
        assert_eq!(shown(Manner::Lines), expected);
        assert_eq!(shown(Manner::Silent), "");
    }

    #[test]
    fn on_a_terminal_a_layer_has_one_line_that_is_drawn_over_itself() {
        let mut parser = vt100::Parser::default();
        parser.process(shown(Manner::Drawn).replace('\n', "\r\n").as_bytes());
        let text = parser.screen().contents();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].ends_with(": Pull complete"), "{text}");
        assert!(lines[3].starts_with("Status: Downloaded newer"), "{text}");
    }

    #[test]
    fn what_is_about_an_image_is_a_line_and_its_layers_are_drawn_below_it() {
        let layer = |digest| Event::Layer {
            digest,
            size: 1,
            state: LayerState::Pulled,
        };
        let referrer = Event::Referrer {
            digest: Digest::of(b"signature"),
            kind: "application/\x1b[2Jx".into(),
            of: "0123".into(),
        };
        let mut rows = Rows::default();
        rows.take(&layer(Digest::of(b"of the image")), true);
        let said = rows.take(&referrer, true).unwrap();
        assert!(
            said.ends_with("x, about 0123") && !said.contains('\x1b'),
            "{said}"
        );
        rows.take(&layer(Digest::of(b"of the signature")), true);
        assert_eq!(rows.lines(9).len(), 1);
    }

    #[test]
    fn where_there_is_no_room_what_is_done_is_left_out_first() {
        let mut rows = Rows::default();
        for number in 0..4u8 {
            let state = match number {
                0 | 2 => LayerState::Pulled,
                _ => LayerState::Wanted,
            };
            let digest = Digest::of(&[number]);
            let size = 10;
            rows.take(
                &Event::Layer {
                    digest,
                    size,
                    state,
                },
                false,
            );
        }
        assert_eq!(rows.lines(10).len(), 4);
        let two = rows.lines(2);
        assert!(
            two.iter().all(|line| line.ends_with("Pulling fs layer")),
            "{two:?}"
        );
    }
}

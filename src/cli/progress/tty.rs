//! For terminals: the [`picture`] of the build, drawn over the one before ten times a second.
//!
//! A drawing is one write: cursor hidden and wrapping off, up to where the last one began, every
//! line and what is left behind it erased, wrapping on and cursor shown. Between two drawings the
//! terminal is as it was found, with its cursor below the picture: whatever ends this process,
//! `kill -9` included, there is nothing to restore. The size is asked for before every drawing.
//!
//! A terminal that gets narrower wraps what stands there, as most do today: so many more rows up
//! is where the last picture begins.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::board::Board;
use super::picture::{self, Line, Size};
use super::ticker::Ticker;
use super::transfer::Rows;
use super::{Progress, Settings, failure};
use crate::build::event::{Event, Sink};
use crate::cli::render::text;
use crate::registry;

/// From one drawing to the next.
const PERIOD: Duration = Duration::from_millis(100);

/// What a terminal that doesn't tell its size is taken to have.
const UNKNOWN: Size = Size {
    columns: 80,
    rows: 24,
};

/// The display.
pub struct Tty {
    state: Arc<Mutex<State>>,
    ticker: Mutex<Option<Ticker>>,
}

struct State {
    settings: Settings,
    board: Board,
    size: Box<dyn Fn() -> Size + Send>,
    /// How wide each line is that was drawn last.
    drawn: Vec<usize>,
    /// What is told once the steps are done.
    end: Vec<String>,
    warnings: Vec<String>,
    /// The base that is being pulled, and its layers.
    pulling: Option<String>,
    pulled: Rows,
}

impl Tty {
    /// A display that has shown nothing.
    pub fn new(settings: Settings) -> Tty {
        let tty = Tty::without_ticker(settings, Box::new(size_of_stderr));
        let state = Arc::clone(&tty.state);
        let tick = move || lock(&state).draw();
        *lock(&tty.ticker) = Some(Ticker::start(PERIOD, tick));
        tty
    }

    fn without_ticker(settings: Settings, size: Box<dyn Fn() -> Size + Send>) -> Tty {
        Tty {
            state: Arc::new(Mutex::new(State {
                settings,
                board: Board::default(),
                size,
                drawn: Vec::new(),
                end: Vec::new(),
                warnings: Vec::new(),
                pulling: None,
                pulled: Rows::default(),
            })),
            ticker: Mutex::new(None),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn size_of_stderr() -> Size {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Size {
            columns: usize::from(size.ws_col),
            rows: usize::from(size.ws_row),
        },
        _ => UNKNOWN,
    }
}

impl Sink for Tty {
    fn event(&self, event: Event) {
        let mut state = lock(&self.state);
        let now = (state.settings.clock)();
        state.board.take(&event, now);
        match event {
            Event::Committed { image } => state.end.push(format!("writing image {image}")),
            Event::Tagged { name } => state.end.push(format!("naming to {name}")),
            Event::Warning { message } => state.warnings.push(message),
            Event::CacheImport { cache } => {
                state.pulled.begin(false);
                state.pulling = Some(format!("importing cache from {cache}"));
            }
            Event::CacheExport { cache } => {
                state.pulled.begin(true);
                state.end.push(format!("exporting cache to {cache}"));
            }
            Event::Transfer(event) => {
                let said = state.pulled.take(&event, false);
                match event {
                    registry::Event::Pulling { .. } => state.pulling = said,
                    registry::Event::Pushing { repository } => {
                        state.end.push(format!("pushing to {repository}"));
                    }
                    registry::Event::Pulled { .. } => state.pulling = None,
                    registry::Event::Warning { message } => state.warnings.push(message),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

impl Progress for Tty {
    fn finish(&self) {
        // Before the state is locked: a tick waits for it.
        *lock(&self.ticker) = None;
        lock(&self.state).finish();
    }
}

impl State {
    fn draw(&mut self) {
        let size = (self.size)();
        if self.board.steps.is_empty() {
            self.draw_pull(size);
            return;
        }
        // What a cache or a push moves meanwhile.
        let mut moving = self.pulled.moving(size.rows / 3);
        if let Some(last) = self.end.last().filter(|_| !moving.is_empty()) {
            moving.insert(0, last.clone());
        }
        let rows = size.rows.saturating_sub(moving.len());
        let room = Size { rows, ..size };
        let mut lines = picture::during(&self.board, room, (self.settings.clock)());
        let width = size.columns.saturating_sub(1);
        lines.extend(moving.iter().map(|text| Line {
            text: text::fit(&format!(" => {text}"), width),
            paint: None,
        }));
        self.put(&lines, size);
    }

    /// Draws the base that is being pulled: the first steps are drawn over it.
    fn draw_pull(&mut self, size: Size) {
        let Some(title) = &self.pulling else {
            return;
        };
        let room = size.rows.saturating_sub(3).max(1);
        let texts = std::iter::once(title.clone()).chain(self.pulled.lines(room));
        let lines: Vec<Line> = texts.map(|text| Line { text, paint: None }).collect();
        self.put(&lines, size);
    }

    fn finish(&mut self) {
        let size = (self.size)();
        if !self.board.steps.is_empty() {
            let now = (self.settings.clock)();
            let lines = picture::after(&self.board, size, now, &self.end);
            self.put(&lines, size);
        }
        let mut rest = Vec::new();
        for warning in &self.warnings {
            rest.extend_from_slice(format!("WARNING: {}\n", text::clean(warning)).as_bytes());
        }
        rest.extend(failure::block(&self.board, &self.settings, true));
        self.write(&rest);
        let _ = self.settings.out.flush();
    }

    /// Draws a picture over the last one.
    fn put(&mut self, lines: &[Line], size: Size) {
        let mut drawing = String::from("\x1b[?25l\x1b[?7l\r");
        let rows = |wide: &usize| wide.div_ceil(size.columns.max(1)).max(1);
        let up: usize = self.drawn.iter().map(rows).sum();
        if up > 0 {
            drawing.push_str(&format!("\x1b[{up}A"));
        }
        for line in lines {
            match line.paint.filter(|_| self.settings.color) {
                Some(paint) => {
                    let code = paint.code();
                    drawing.push_str(&format!("\x1b[{code}m{}\x1b[0m", line.text));
                }
                None => drawing.push_str(&line.text),
            }
            drawing.push_str("\x1b[K\n");
        }
        drawing.push_str("\x1b[J\x1b[?7h\x1b[?25h");
        self.drawn = lines.iter().map(|line| text::columns(&line.text)).collect();
        self.write(drawing.as_bytes());
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

    /// A terminal that draws what a display writes.
    #[derive(Clone)]
    struct Screen(Arc<Mutex<vt100::Parser>>);

    impl Screen {
        fn new(size: Size) -> Screen {
            let screen = Screen(Arc::new(Mutex::new(vt100::Parser::default())));
            screen.resize(size);
            screen
        }

        fn resize(&self, size: Size) {
            let number = |n: usize| std::num::NonZeroU16::new(n as u16).unwrap();
            let (rows, columns) = (number(size.rows), number(size.columns));
            lock(&self.0).set_size(rows, columns);
        }

        fn text(&self) -> String {
            lock(&self.0).screen().contents()
        }

        fn is_as_it_was(&self) -> bool {
            let parser = lock(&self.0);
            let screen = parser.screen();
            !screen.hide_cursor() && !screen.alternate_screen()
        }
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            // As a terminal's line discipline does (ONLCR).
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                match line.strip_suffix(b"\n") {
                    Some(line) => lock(&self.0).process(&[line, b"\r\n"].concat()),
                    None => lock(&self.0).process(line),
                }
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Stage {
        screen: Screen,
        size: Arc<Mutex<Size>>,
        tty: Tty,
    }

    impl Stage {
        fn new(columns: usize, rows: usize) -> Stage {
            let size = Size { columns, rows };
            let screen = Screen::new(size);
            let mut settings = settings(&Page::default());
            settings.out = Box::new(screen.clone());
            settings.terminal = true;
            let size = Arc::new(Mutex::new(size));
            let asked = Arc::clone(&size);
            let tty = Tty::without_ticker(settings, Box::new(move || *lock(&asked)));
            Stage { screen, size, tty }
        }

        fn show(&self, events: impl IntoIterator<Item = Event>) {
            for event in events {
                self.tty.event(event);
                lock(&self.tty.state).draw();
                assert!(self.screen.is_as_it_was());
            }
        }

        fn resize(&self, columns: usize, rows: usize) {
            let size = Size { columns, rows };
            *lock(&self.size) = size;
            self.screen.resize(size);
        }
    }

    #[test]
    fn one_picture_is_drawn_over_the_other() {
        let stage = Stage::new(60, 20);
        stage.screen.clone().write_all(b"$ rstore build\n").unwrap();
        stage.show(side_by_side());
        let text = stage.screen.text();
        assert!(text.starts_with("$ rstore build\n[+] Building"), "{text}");
        assert_eq!(text.matches("[+] Building").count(), 1, "{text}");
        stage.tty.finish();
        let text = stage.screen.text();
        assert!(text.contains("(4/4) FINISHED"), "{text}");
        assert!(text.contains(" => naming to app:latest"), "{text}");
        assert!(!text.contains("cc main.c"), "collapsed: {text}");
    }

    #[test]
    fn what_a_cache_moves_is_drawn_below_until_it_is_there() {
        let stage = Stage::new(90, 20);
        stage.show(side_by_side());
        let (digest, size) = (crate::oci::Digest::of(b"layer"), 100_000_000);
        let layer = |state| {
            Event::Transfer(registry::Event::Layer {
                digest,
                size,
                state,
            })
        };
        let done = 52_000_000;
        stage.show([
            Event::CacheExport {
                cache: "host/cache:main".into(),
            },
            layer(registry::LayerState::Prepared),
            Event::Transfer(registry::Event::Moved { digest, done, size }),
        ]);
        let text = stage.screen.text();
        assert!(
            text.contains(" => exporting cache to host/cache:main"),
            "{text}"
        );
        let row = format!(" => {}: Pushing [", digest.short());
        assert!(text.contains(&row) && text.contains("52MB/100MB"), "{text}");
        assert_eq!(text.matches("[+] Building").count(), 1, "{text}");
        stage.show([layer(registry::LayerState::Pushed)]);
        assert!(!stage.screen.text().contains(&row));
        stage.tty.finish();
        let text = stage.screen.text();
        assert!(
            text.contains(" => exporting cache to host/cache:main"),
            "{text}"
        );
    }

    #[test]
    fn a_failure_is_quoted_below() {
        let stage = Stage::new(60, 30);
        stage.show(failing());
        stage.tty.finish();
        let text = stage.screen.text();
        assert!(text.contains(" => ERROR [builder 2/2] RUN make"), "{text}");
        assert!(text.contains(" > [builder 2/2] RUN make:\nmain.c:3: error\n"));
        assert!(text.contains("   2 | >>> RUN make"), "{text}");
    }

    #[test]
    fn output_that_wants_to_draw_cannot() {
        let stage = Stage::new(60, 20);
        stage.screen.clone().write_all(b"$ rstore build\n").unwrap();
        stage.show(side_by_side().into_iter().take(6));
        for hostile in [
            "\x1b[2J\x1b[H\x1b[99A over",
            "50%\r100%\x1b[?1049h\x1b[?25l",
            "\x1b]0;title\x07\x0c\x0b\x08wide 東京 \u{202e}",
            "tab\ttab\x1b[1000C.",
        ] {
            stage.show([output(1, hostile)]);
        }
        let text = stage.screen.text();
        assert!(text.starts_with("$ rstore build\n[+] Building"), "{text}");
        assert_eq!(text.matches("[+] Building").count(), 1, "{text}");
        assert!(text.contains(" => => # 100%"), "{text}");
        assert!(text.contains(" => => # wide 東京"), "{text}");
    }

    #[test]
    fn a_terminal_that_changes_its_size_has_one_picture() {
        let stage = Stage::new(80, 24);
        stage.show(side_by_side().into_iter().take(8));
        for (columns, rows) in [(30, 10), (20, 4), (100, 40), (40, 10)] {
            stage.resize(columns, rows);
            stage.show([output(1, "more")]);
            let text = stage.screen.text();
            assert_eq!(text.matches("[+]").count(), 1, "{columns}: {text}");
        }
    }
}

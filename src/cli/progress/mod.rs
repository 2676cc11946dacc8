//! A build shown while it goes on: each display renders the one stream of [`event`]s.
//!
//! | file | shows |
//! |---|---|
//! | [`classic`] | the classic builder's narration, whole steps in the order of the file |
//! | [`plain`] | lines with their step's number, step by step: BuildKit's plain manner |
//! | [`tty`] | a picture of all steps, drawn over itself: BuildKit's manner on terminals |
//! | [`picture`] | that picture: pure |
//! | [`rawjson`] | every event as a JSON object, for programs |
//! | [`quiet`] | nothing but the image's ID |
//! | [`board`] | what all of them know of the steps; time |
//! | [`transfer`] | a pull or a push by itself |
//! | [`ticker`] | what is done again and again beside the build |
//! | [`failure`] | a failed step: its output's tail, the line of the Dockerfile |
//!
//! [`renderer`] chooses. Everything goes to stderr but `-q`'s ID, which scripts read.
//!
//! What steps write is passed on as it is where nobody's terminal is at the other end; to a
//! terminal goes text, and colours where they are wanted ([`Settings::line`]).
//!
//! [`event`]: crate::build::event

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use clap::ValueEnum;

use super::context::Terminal;
use super::render::output;
use crate::build::event::Sink;

pub mod board;
pub mod classic;
pub mod failure;
pub mod picture;
pub mod plain;
pub mod quiet;
pub mod rawjson;
pub mod ticker;
pub mod transfer;
pub mod tty;

pub use failure::Quoted;

/// How a build is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// tty on a terminal, else plain
    Auto,
    /// Running steps redrawn in place
    Tty,
    /// One line after the other
    Plain,
    /// The classic docker builder's narration
    Classic,
    /// One JSON object a line, for programs
    Rawjson,
    /// Nothing but the image's ID
    Quiet,
}

impl Kind {
    /// The kind that the command line, the environment and the terminal come to. A picture that is
    /// drawn over itself is for terminals that can move their cursor: elsewhere it is `Plain`.
    pub fn choose(asked: Option<Kind>, quiet: bool, terminal: &Terminal) -> Kind {
        let kind = match asked {
            _ if quiet => Kind::Quiet,
            Some(kind) => kind,
            None => Kind::Auto,
        };
        match kind {
            Kind::Auto | Kind::Tty if !terminal.stderr || terminal.dumb => Kind::Plain,
            Kind::Auto => Kind::Tty,
            kind => kind,
        }
    }

    /// What BuildKit's own variable, `BUILDKIT_PROGRESS`, asks for. It is set for another program:
    /// a word that means nothing here is told, and does not stop a build (`Err`: that word).
    pub fn buildkits(word: Option<&str>) -> Result<Option<Kind>, String> {
        match word.filter(|word| !word.is_empty()) {
            None => Ok(None),
            Some(word) => match Kind::from_str(word, true) {
                Ok(kind) => Ok(Some(kind)),
                Err(_) => Err(word.to_owned()),
            },
        }
    }
}

/// A display of one build.
pub trait Progress: Sink + Send {
    /// Ends the display: what was held back is shown, and what failed. To be called once no
    /// event can come any more, however the build ended.
    fn finish(&self);
}

/// Where and how a display writes.
pub struct Settings {
    /// Whose lines are quoted when a step fails.
    pub dockerfile: Option<Quoted>,
    /// Where to.
    pub out: Box<dyn Write + Send>,
    /// Whether that is a terminal.
    pub terminal: bool,
    /// Whether colours are wanted.
    pub color: bool,
    /// The time since the build began.
    pub clock: Clock,
    /// The time of day.
    pub wall: Box<dyn Fn() -> DateTime<Utc> + Send + Sync>,
}

impl Settings {
    /// Standard error, from now on.
    pub fn new(dockerfile: Option<Quoted>, terminal: &Terminal) -> Settings {
        let start = Instant::now();
        Settings {
            dockerfile,
            out: Box::new(io::stderr()),
            terminal: terminal.stderr,
            color: terminal.color,
            clock: Box::new(move || start.elapsed()),
            wall: Box::new(Utc::now),
        }
    }

    /// A line that a step wrote, as it is to be written here.
    fn line<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match (self.terminal, self.color) {
            (false, _) => Cow::Borrowed(bytes),
            (true, true) => Cow::Owned(output::colored(bytes).into_bytes()),
            (true, false) => Cow::Owned(output::plain(bytes).into_bytes()),
        }
    }
}

/// Tells the time since the build began.
pub type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// The display of a kind; [`Kind::choose`] has decided what `Auto` is.
pub fn renderer(kind: Kind, settings: Settings) -> Box<dyn Progress> {
    match kind {
        Kind::Classic => Box::new(classic::Classic::new(settings)),
        Kind::Quiet => Box::new(quiet::Quiet::new(settings, Box::new(io::stdout()))),
        Kind::Plain => Box::new(plain::Plain::new(settings)),
        Kind::Rawjson => Box::new(rawjson::RawJson::new(settings)),
        Kind::Auto | Kind::Tty => Box::new(tty::Tty::new(settings)),
    }
}

/// The display of `--no-progress`: nothing but what fails.
pub fn silent(settings: Settings) -> Box<dyn Progress> {
    Box::new(quiet::Quiet::new(settings, Box::new(io::sink())))
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::build::event::{Event, Failure, StepInfo};
    use crate::executor::Stream;
    use crate::oci::Digest;

    /// A writer that can be read.
    #[derive(Debug, Clone, Default)]
    pub struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Settings that write to a page, with a clock that stands at 1.234 seconds.
    pub fn settings(page: &Page) -> Settings {
        Settings {
            dockerfile: Some(Quoted {
                name: "Dockerfile".into(),
                text: "FROM base AS builder\nRUN make\nFROM base\nCOPY --from=builder /x /x\n"
                    .into(),
            }),
            out: Box::new(page.clone()),
            terminal: false,
            color: false,
            clock: Box::new(|| Duration::from_millis(1234)),
            wall: Box::new(|| DateTime::from_timestamp_millis(1_767_225_600_123).unwrap()),
        }
    }

    pub fn image(step: usize) -> Digest {
        Digest::of(&[u8::try_from(step).unwrap()])
    }

    /// Two stages of two steps each.
    pub fn planned() -> Event {
        let step = |number: usize, stage: &str, text: &str| StepInfo {
            number,
            stage: stage.into(),
            in_stage: number % 2 + 1,
            stage_steps: 2,
            text: text.into(),
            line: number as u32 + 1,
            column: 1,
            trigger: false,
        };
        Event::Planned {
            steps: vec![
                step(0, "builder", "FROM base AS builder"),
                step(1, "builder", "RUN make"),
                step(2, "stage-1", "FROM base"),
                step(3, "stage-1", "COPY --from=builder /x /x"),
            ],
            skipped_stages: 0,
        }
    }

    pub fn output(step: usize, line: &str) -> Event {
        Event::Output {
            step,
            stream: Stream::Stdout,
            line: line.as_bytes().to_vec(),
        }
    }

    fn container(step: usize) -> String {
        format!("c0ffee00000{step}")
    }

    pub fn started(step: usize) -> Event {
        Event::ContainerStarted {
            step,
            container: container(step),
        }
    }

    pub fn removed(step: usize) -> Event {
        Event::ContainerRemoved {
            step,
            container: container(step),
        }
    }

    pub fn finished(step: usize) -> Event {
        Event::StepFinished {
            step,
            image: Some(image(step)),
        }
    }

    /// A build of both stages side by side, the second stage ahead of the first.
    pub fn side_by_side() -> Vec<Event> {
        vec![
            planned(),
            Event::StepStarted { step: 0 },
            Event::StepStarted { step: 2 },
            finished(2),
            finished(0),
            Event::StepStarted { step: 1 },
            started(1),
            output(1, "cc main.c"),
            output(1, "done"),
            removed(1),
            // The next step starts while this one's layer is still being written.
            Event::StepStarted { step: 3 },
            Event::StepCached { step: 3 },
            finished(3),
            finished(1),
            Event::Committed { image: image(3) },
            Event::Tagged {
                name: "app:latest".into(),
            },
        ]
    }

    /// A build whose RUN fails with status 7.
    pub fn failing() -> Vec<Event> {
        vec![
            planned(),
            Event::StepStarted { step: 0 },
            finished(0),
            Event::StepStarted { step: 1 },
            started(1),
            output(1, "main.c:3: error"),
            removed(1),
            Event::StepFailed {
                step: 1,
                failure: Failure {
                    message: "exit status 7".into(),
                    status: Some(7),
                },
            },
        ]
    }

    fn terminal(stderr: bool, dumb: bool) -> Terminal {
        Terminal {
            stdin: stderr,
            stdout: stderr,
            stderr,
            width: None,
            dumb,
            color: false,
        }
    }

    #[test]
    fn quiet_comes_before_what_is_asked_for_and_a_picture_needs_a_terminal() {
        let (good, dumb, none) = (
            terminal(true, false),
            terminal(true, true),
            terminal(false, false),
        );
        let choose = Kind::choose;
        assert_eq!(choose(Some(Kind::Classic), false, &good), Kind::Classic);
        assert_eq!(choose(Some(Kind::Classic), true, &good), Kind::Quiet);
        assert_eq!(choose(None, false, &good), Kind::Tty);
        for unable in [&dumb, &none] {
            assert_eq!(choose(None, false, unable), Kind::Plain);
            assert_eq!(choose(Some(Kind::Auto), false, unable), Kind::Plain);
            assert_eq!(choose(Some(Kind::Tty), false, unable), Kind::Plain);
            assert_eq!(choose(Some(Kind::Rawjson), false, unable), Kind::Rawjson);
        }
    }

    #[test]
    fn buildkits_words_are_understood_and_others_are_told() {
        for word in ["auto", "tty", "plain", "rawjson", "quiet", "PLAIN"] {
            assert!(matches!(Kind::buildkits(Some(word)), Ok(Some(_))), "{word}");
        }
        assert_eq!(Kind::buildkits(None), Ok(None));
        assert_eq!(Kind::buildkits(Some("")), Ok(None));
        assert_eq!(Kind::buildkits(Some("fancy")), Err("fancy".into()));
    }

    #[test]
    fn a_terminal_gets_text_and_anything_else_the_bytes_as_they_were() {
        let page = Page::default();
        let written = b"\x1b[31mred\x1b[0m\x1b[2J\xff";
        let mut settings = settings(&page);
        assert_eq!(*settings.line(written), *written);
        settings.terminal = true;
        assert_eq!(*settings.line(written), *"red\u{fffd}".as_bytes());
        settings.color = true;
        assert_eq!(
            *settings.line(written),
            *"\x1b[0m\x1b[31mred\x1b[0m\u{fffd}".as_bytes()
        );
    }
}

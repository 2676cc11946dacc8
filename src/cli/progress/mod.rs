//! A build shown while it goes on: each display renders the one stream of [`event`]s.
//!
//! | file | shows |
//! |---|---|
//! | [`classic`] | the classic builder's narration, whole steps in the order of the file |
//! | [`plain`] | lines as they come, each with its step's number: BuildKit's plain manner |
//! | [`tty`] | running steps with their time and last lines, done ones in one line |
//! | [`quiet`] | nothing but the image's ID |
//! | [`board`] | what all of them know of the steps; time |
//! | [`failure`] | a failed step: its output's tail, the line of the Dockerfile |
//!
//! [`renderer`] chooses. Everything goes to stderr but `-q`'s ID, which scripts read.
//!
//! [`event`]: crate::build::event

use std::io::{self, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::build::event::Sink;

pub mod board;
pub mod classic;
pub mod failure;
pub mod plain;
pub mod quiet;
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
    /// Nothing but the image's ID
    Quiet,
}

impl Kind {
    /// The kind that the command line, the environment and the terminal come to. BuildKit's own
    /// variable is understood where it names a kind that there is.
    pub fn choose(asked: Option<Kind>, quiet: bool, terminal: bool) -> Kind {
        let buildkit = || Kind::from_str(&std::env::var("BUILDKIT_PROGRESS").ok()?, true).ok();
        let kind = match asked {
            _ if quiet => Kind::Quiet,
            Some(Kind::Auto) => Kind::Auto,
            Some(kind) => kind,
            None => buildkit().unwrap_or(Kind::Auto),
        };
        match kind {
            Kind::Auto | Kind::Tty if !terminal => Kind::Plain,
            Kind::Auto => Kind::Tty,
            kind => kind,
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
    /// Whether colours are wanted.
    pub color: bool,
    /// The time since the build began.
    pub clock: Clock,
}

impl Settings {
    /// Standard error, from now on.
    pub fn new(dockerfile: Option<Quoted>, color: bool) -> Settings {
        let start = Instant::now();
        Settings {
            dockerfile,
            out: Box::new(io::stderr()),
            color,
            clock: Box::new(move || start.elapsed()),
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
            color: false,
            clock: Box::new(|| Duration::from_millis(1234)),
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

    #[test]
    fn what_is_asked_for_comes_before_the_environment_and_quiet_before_all() {
        assert_eq!(
            Kind::choose(Some(Kind::Classic), false, true),
            Kind::Classic
        );
        assert_eq!(Kind::choose(Some(Kind::Classic), true, true), Kind::Quiet);
        assert_eq!(Kind::choose(Some(Kind::Auto), false, true), Kind::Tty);
        assert_eq!(Kind::choose(Some(Kind::Auto), false, false), Kind::Plain);
        assert_eq!(Kind::choose(Some(Kind::Tty), false, false), Kind::Plain);
    }
}

//! What can go wrong in a build, told with the line of the Dockerfile.

use std::path::PathBuf;

use crate::dockerfile::{ParseError, UnknownTarget};
use crate::{executor, fsutil, layer, store};

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Dockerfile cannot be understood.
    #[error("{name}:{source}")]
    Parse {
        /// The Dockerfile.
        name: String,
        /// Where and why.
        #[source]
        source: ParseError,
    },
    /// The options of the checks cannot be understood.
    #[error("{name}: {source}")]
    CheckSettings {
        /// The Dockerfile, or the build argument.
        name: String,
        /// Why.
        #[source]
        source: crate::dockerfile::lint::BadSettings,
    },
    /// Checks found something, and `error=true` was said.
    #[error("{name}: {} found something, and check is set to error=true; `rstore build --check` shows where", rules.join(", "))]
    Check {
        /// The Dockerfile.
        name: String,
        /// The rules.
        rules: Vec<&'static str>,
    },
    /// `--target` names no stage.
    #[error(transparent)]
    Target(#[from] UnknownTarget),
    /// An instruction failed.
    #[error("{name}:{line}:{column}: {instruction}: {source}")]
    Step {
        /// The Dockerfile.
        name: String,
        /// The instruction's first line.
        line: u32,
        /// The column there.
        column: u32,
        /// The instruction as written.
        instruction: String,
        /// Why.
        #[source]
        source: Box<StepError>,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The context cannot be read.
    #[error("build context: {0}")]
    Context(#[from] fsutil::Error),
    /// The context's ignore file cannot be understood.
    #[error("{}:{}: {source}", path.display(), source.line)]
    Ignore {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: crate::dockerfile::ignore::IgnoreError,
    },
    /// The image is built, and its cache was not written.
    #[error("the image is built, but the cache {destination} was not written: {source}")]
    CacheTo {
        /// Where to.
        destination: String,
        /// Why not.
        #[source]
        source: Box<super::cache::export::Error>,
    },
    /// Somebody asked for the end.
    #[error("interrupted")]
    Interrupted,
}

/// Why one instruction failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The command ran, and failed.
    #[error("the command {}{}", told(.exit), place(.kept))]
    Command {
        /// How it ended.
        exit: executor::Exit,
        /// The container that was kept.
        kept: Option<String>,
        /// Whether the disk was full then.
        full: bool,
    },
    /// The command could not be started.
    #[error(transparent)]
    Executor(#[from] executor::Error),
    /// Something that docker's language has and rstore has not yet.
    #[error("{0} is not supported yet; remove it, or build this file with another tool for now")]
    NotSupported(String),
    /// A source of COPY or ADD is not there.
    #[error("{source_path:?} is not in {tree}{}", explained(.hint))]
    NoSource {
        /// The path or pattern as written.
        source_path: String,
        /// Where it was looked for.
        tree: String,
        /// What may explain it.
        hint: Option<String>,
    },
    /// Something about the instruction's arguments.
    #[error("{0}")]
    Invalid(String),
    /// The store has no such base image, and no registry gives it.
    #[error("no image is called {name:?} in the store{}, and it cannot be pulled: {source}", near(.nearest))]
    NoBase {
        /// The name.
        name: String,
        /// The tag that reads most like it.
        nearest: Option<String>,
        /// What the registries say.
        #[source]
        source: Box<crate::registry::Error>,
    },
    /// The store has the base image for other platforms only, and no registry gives another.
    #[error("{here}; and it cannot be pulled: {source}")]
    NoBaseForPlatform {
        /// What the store says.
        here: Box<store::Error>,
        /// What the registries say.
        #[source]
        source: Box<crate::registry::Error>,
    },
    /// A base image cannot be pulled.
    #[error(transparent)]
    Pull(Box<crate::registry::Error>),
    /// Another machine did not give what was asked for.
    #[error(transparent)]
    Remote(Box<super::remote::Error>),
    /// A file system operation.
    #[error(transparent)]
    Io(#[from] fsutil::Error),
    /// A layer cannot be made.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Somebody asked for the end.
    #[error("interrupted")]
    Interrupted,
    /// What this step stands on was a cache's, and cannot be had: the stage is done again.
    #[error("what it stands on is no longer there")]
    Stale,
    /// A step that this one needs failed.
    #[error("a step that it needs failed")]
    Needed,
}

fn told(exit: &executor::Exit) -> String {
    match exit {
        executor::Exit::Code(code) => format!("returned a non-zero code: {code}"),
        executor::Exit::Signal(signal) => format!("was killed by signal {signal}"),
        executor::Exit::Cancelled => "was interrupted".to_owned(),
    }
}

fn place(kept: &Option<String>) -> String {
    kept.as_ref()
        .map(|id| {
            format!(
                "; its container {id} is kept until the next prune: `rstore shell {id}` opens it"
            )
        })
        .unwrap_or_default()
}

fn near(nearest: &Option<String>) -> String {
    let hint = |name| format!(" (did you mean {name:?}?)");
    nearest.as_ref().map(hint).unwrap_or_default()
}

fn explained(hint: &Option<String>) -> String {
    hint.as_ref()
        .map(|hint| format!("; {hint}"))
        .unwrap_or_default()
}

impl StepError {
    /// The exit status of the command, where that is what failed.
    pub fn status(&self) -> Option<i32> {
        match self {
            StepError::Command { exit, .. } => Some(exit.code()),
            StepError::Executor(error) => error.exit_code(),
            _ => None,
        }
    }

    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            StepError::Command { full, .. } => *full,
            StepError::Io(error) => error.is_no_space(),
            StepError::Layer(error) => error.is_no_space(),
            StepError::Store(error) => error.is_no_space(),
            StepError::NoBase { source: error, .. } | StepError::Pull(error) => error.is_no_space(),
            _ => false,
        }
    }
}

impl Error {
    /// The exit status of the failed command, where that is what failed.
    pub fn status(&self) -> Option<i32> {
        match self {
            Error::Step { source, .. } => source.status(),
            _ => None,
        }
    }

    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::Step { source, .. } => source.is_no_space(),
            Error::Store(error) => error.is_no_space(),
            Error::Context(error) => error.is_no_space(),
            _ => false,
        }
    }

    /// Whether somebody asked for the end.
    pub fn is_interrupted(&self) -> bool {
        match self {
            Error::Interrupted => true,
            Error::Step { source, .. } => matches!(
                **source,
                StepError::Interrupted
                    | StepError::Command {
                        exit: executor::Exit::Cancelled,
                        ..
                    }
            ),
            _ => false,
        }
    }

    /// Whether stored bytes are missing or wrong.
    pub fn is_corruption(&self) -> bool {
        match self {
            Error::Store(error) => error.is_corruption(),
            Error::Step { source, .. } => {
                matches!(&**source, StepError::Store(error) if error.is_corruption())
            }
            _ => false,
        }
    }
}

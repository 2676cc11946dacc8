//! How a command ends: what is told of an error, and the exit code. Nowhere else.
//!
//! | code | means |
//! |---|---|
//! | 0 | done, also when there was nothing to do |
//! | 1 | an error |
//! | 2 | a usage error |
//! | 4 | corruption was found |
//! | 5 | partly done |
//! | 75 | busy, try again |
//! | 130, 143 | interrupted, terminated |
//! | other | `build`: the failed RUN's own; `shell`: the command's |

use std::io::{self, Write};
use std::process::ExitCode;

use super::render::text;
use crate::{archive, catalog, gc, store};

/// An error whose exit code is known where it arises.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Some of it was done; the message says what was not, and why.
    #[error("{0}")]
    Partly(String),
    /// Somebody else is at it.
    #[error("{0}")]
    Busy(String),
    /// Stored bytes are missing or wrong.
    #[error("{0}")]
    Corrupt(String),
    /// All was told already: only the code is left.
    #[error("")]
    Told(u8),
    /// A signal ended it.
    #[error("interrupted by {}", signal_name(*.0))]
    Interrupted(i32),
    /// A command that was run for somebody ended with this status, and has said why itself.
    #[error("the command ended with status {0}")]
    Command(i32),
    /// A step of a build ended with this status.
    #[error("{message}")]
    Step {
        /// What is told.
        message: String,
        /// The status of the step's process.
        status: i32,
    },
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Corrupt(_) => 4,
            Failure::Partly(_) => 5,
            Failure::Busy(_) => 75,
            Failure::Told(code) => *code,
            Failure::Interrupted(signal) => u8::try_from(128 + signal).unwrap_or(1),
            // Zero would say that it went well.
            Failure::Step { status, .. } | Failure::Command(status) => {
                match u8::try_from(*status) {
                    Ok(0) | Err(_) => 1,
                    Ok(code) => code,
                }
            }
        }
    }
}

fn signal_name(signal: i32) -> String {
    match signal {
        libc::SIGINT => "SIGINT".to_owned(),
        libc::SIGTERM => "SIGTERM".to_owned(),
        libc::SIGHUP => "SIGHUP".to_owned(),
        other => format!("signal {other}"),
    }
}

/// A usage error, as the error that commands return.
pub fn usage_error(message: impl Into<String>) -> anyhow::Error {
    Failure::Usage(message.into()).into()
}

/// Ends a command: tells its error, if any, and gives the code.
pub fn end(outcome: super::Result) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if is_told(&error) => ExitCode::from(code(&error)),
        Err(error) => {
            tell(&format!("error: {}", message(&error)));
            if let Some(remedy) = remedy(&error) {
                tell(&remedy);
            }
            ExitCode::from(code(&error))
        }
    }
}

/// Ends a command line that could not be understood, or that asked for help.
pub fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        tell(&format!("error: {}", text.trim_end()));
    } else {
        // A reader that went away needs no help any more.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Says something on stderr, in the program's name. That nobody listens is no error. Messages quote
/// Dockerfiles and images: nothing in them moves the cursor.
pub fn tell(message: &str) {
    let lines: Vec<String> = message.split('\n').map(text::clean).collect();
    let _ = writeln!(io::stderr(), "rstore: {}", lines.join("\n"));
}

/// The code of an error.
pub fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.code();
        }
        match cause.downcast_ref::<store::Error>() {
            Some(store::Error::ContainerBusy { .. }) => return 75,
            Some(error) if error.is_corruption() => return 4,
            _ => {}
        }
        if let Some(archive::Error::Store(error)) = cause.downcast_ref::<archive::Error>()
            && error.is_corruption()
        {
            return 4;
        }
        if let Some(error) = cause.downcast_ref::<catalog::Error>()
            && error.is_damage()
        {
            return 4;
        }
        match cause.downcast_ref::<gc::Error>() {
            Some(gc::Error::Busy { .. }) => return 75,
            Some(gc::Error::Unreadable(_)) => return 4,
            Some(gc::Error::Catalog(error)) if error.is_damage() => return 4,
            _ => {}
        }
    }
    1
}

/// What somebody can do about an error of the catalog, however deep it lies.
fn remedy(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<catalog::Error>() {
            return error.remedy();
        }
        match (
            cause.downcast_ref::<store::Error>(),
            cause.downcast_ref::<gc::Error>(),
        ) {
            (Some(store::Error::Catalog(error)), _) | (_, Some(gc::Error::Catalog(error))) => {
                error.remedy()
            }
            _ => None,
        }
    })
}

/// The error and its causes in one line; a cause that its effect has told already is left out.
pub fn message(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if told.contains(&text) {
            continue;
        }
        if !told.is_empty() {
            told.push_str(": ");
        }
        told.push_str(&text);
    }
    told
}

/// Whether there is nothing left to say.
fn is_told(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<Failure>(),
        Some(Failure::Told(_) | Failure::Command(_))
    )
}

/// Whether whoever read our output has gone, as `| head` does: nothing to tell anybody.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn each_failure_has_its_code() {
        let step = |status| Failure::Step {
            message: String::new(),
            status,
        };
        for (failure, expected) in [
            (Failure::Usage(String::new()), 2),
            (Failure::Corrupt(String::new()), 4),
            (Failure::Partly(String::new()), 5),
            (Failure::Busy(String::new()), 75),
            (Failure::Interrupted(2), 130),
            (Failure::Interrupted(15), 143),
            (step(42), 42),
            (Failure::Command(137), 137),
            (step(0), 1),
            (step(-1), 1),
        ] {
            assert_eq!(code(&failure.into()), expected);
        }
        assert_eq!(code(&anyhow::anyhow!("x")), 1);
    }

    #[test]
    fn a_code_is_found_below_a_context() {
        let error = Err::<(), _>(Failure::Busy("a prune runs".into()))
            .context("prune")
            .unwrap_err();
        assert_eq!(code(&error), 75);
        assert_eq!(message(&error), "prune: a prune runs");
    }

    #[test]
    fn a_cause_is_not_told_twice() {
        let source = io::Error::other("no luck");
        let error: anyhow::Error = crate::fsutil::Error::new("open", "/x", source).into();
        assert_eq!(message(&error), "open /x: no luck");
    }
}

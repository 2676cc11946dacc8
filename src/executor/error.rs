//! What can keep a step from starting, told with the path and the next step.

use std::io;
use std::path::PathBuf;

/// A step that could not be started, or an executor that cannot work here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program isn't there. Exit code 127.
    #[error("exec: {command:?}: executable file not found{}", searched(.path))]
    CommandNotFound {
        /// The program as it was given.
        command: String,
        /// The `PATH` that was searched, if it was.
        path: Option<String>,
    },
    /// The program is there but the kernel doesn't run it. Exit code 126.
    #[error("exec: {command:?}: {}", exec_reason(.source))]
    CommandNotExecutable {
        /// The program as it was given.
        command: String,
        /// The kernel's answer to execve(2).
        source: io::Error,
    },
    /// The working directory cannot be entered.
    #[error(
        "enter the working directory {}: {source}; make it with WORKDIR, or correct the path",
        path.display()
    )]
    Cwd {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The user or a group has no place in this user namespace.
    #[error(
        "run as {id}: {source}; this user namespace maps {mapping}: give the user a range of \
         subordinate IDs in /etc/subuid and /etc/subgid, and install newuidmap"
    )]
    UserNotMapped {
        /// `uid 1000`, `gid 5`.
        id: String,
        /// The mapping in force.
        mapping: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A step that makes no sense as it is.
    #[error("{0}")]
    Invalid(String),
    /// Something that isn't there yet, and what to use instead.
    #[error("{what} is not supported yet; use {instead}")]
    NotSupported {
        /// What was asked for.
        what: &'static str,
        /// What works.
        instead: &'static str,
    },
    /// A mount that could not be prepared or attached.
    #[error("mount {} on {}: {source}{}", what, target.display(), next_step(.hint))]
    Mount {
        /// What should have been mounted.
        what: String,
        /// Where, inside the root.
        target: PathBuf,
        /// What the kernel said.
        source: io::Error,
        /// What to do about it, if that is known.
        hint: Option<&'static str>,
    },
    /// A mount point that is there, but of the wrong kind.
    #[error(
        "{} in the image is {found}, not a {wanted}: nothing can be mounted there; \
         remove it in an earlier step", target.display()
    )]
    MountPoint {
        /// The path inside the root.
        target: PathBuf,
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A system call of the setup failed inside the container.
    #[error("set up the container: {doing}: {source}{}", next_step(.hint))]
    Setup {
        /// What it was about.
        doing: String,
        /// What the kernel said.
        source: io::Error,
        /// What to do about it, if that is known.
        hint: Option<&'static str>,
    },
    /// The container's first process ended before it could say how the step did.
    #[error(
        "the container died before its process ended ({how}); the kernel's log (dmesg) says \
         whether memory ran out"
    )]
    Died {
        /// How it ended.
        how: String,
    },
    /// A system call of ours on the host failed.
    #[error("{doing}: {source}")]
    Host {
        /// What it was for.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A user namespace that cannot be entered.
    #[error(transparent)]
    UserNamespace(#[from] super::userns::Error),
    /// A path of the host.
    #[error(transparent)]
    File(#[from] crate::fsutil::Error),
}

impl Error {
    /// The exit code that docker's users expect for it, if there is one: 127 not found, 126
    /// not executable.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Error::CommandNotFound { .. } => Some(127),
            Error::CommandNotExecutable { .. } | Error::Cwd { .. } => Some(126),
            _ => None,
        }
    }
}

fn searched(path: &Option<String>) -> String {
    match path {
        Some(path) => format!(" in $PATH ({path})"),
        None => String::new(),
    }
}

fn next_step(hint: &Option<&'static str>) -> String {
    hint.map(|hint| format!("; {hint}")).unwrap_or_default()
}

/// execve(2)'s answers in the words a Dockerfile's author can use.
fn exec_reason(source: &io::Error) -> String {
    match source.raw_os_error() {
        Some(libc::ENOEXEC) => {
            "exec format error (a script without #!, or a program for another architecture)".into()
        }
        Some(libc::ENOENT) => "its interpreter or loader is not in the image".into(),
        _ => source.to_string(),
    }
}

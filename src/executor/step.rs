//! What a caller says about one step, and what it gets back.
//!
//! Data in, data out: nothing here touches the kernel. A [`Step`] owns the descriptors it needs
//! and is consumed by [`Executor::run`], so that a root cannot be run in twice.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub use rustix::process::Resource;

use super::{Cancel, Console, Error};

/// One process to be run in a prepared root.
#[derive(Debug)]
pub struct Step {
    /// The root file system: a detached mount, as `snapshot::overlay::mount` gives it.
    pub root: OwnedFd,
    /// The program and its arguments. A program without `/` is looked up in `PATH` of `env`.
    pub args: Vec<OsString>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory, absolute inside the root. It must exist.
    pub cwd: PathBuf,
    /// Who runs it, as numbers: names are looked up by the caller, in the image's own files.
    pub user: User,
    /// The host name that `uname` answers.
    pub hostname: String,
    /// Which network it sees.
    pub network: Network,
    /// What is mounted over the root, in this order; missing mount points are made.
    pub mounts: Vec<Mount>,
    /// The size of `/dev/shm` in bytes; [`DEFAULT_SHM_SIZE`] is docker's.
    pub shm_size: u64,
    /// Limits as (resource, soft, hard); `u64::MAX` is "unlimited".
    pub ulimits: Vec<(Resource, u64, u64)>,
    /// How far the process is trusted.
    pub security: Security,
    /// What it reads.
    pub stdin: Stdin,
    /// A terminal of its own for all three streams, whatever [`Step::stdin`] says; what it writes
    /// comes as [`Stream::Stdout`].
    pub console: Option<Console>,
}

/// Docker's size of `/dev/shm`.
pub const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// Where a program is looked for if the environment has no `PATH`: docker's default.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Step {
    /// A step that runs `args` in `root` as docker would by default: root, `/`, the host's
    /// network, sandboxed, no input.
    pub fn new(root: OwnedFd, args: impl IntoIterator<Item = impl Into<OsString>>) -> Step {
        Step {
            root,
            args: args.into_iter().map(Into::into).collect(),
            env: vec![("PATH".into(), DEFAULT_PATH.into())],
            cwd: PathBuf::from("/"),
            user: User::default(),
            hostname: "buildkitsandbox".to_owned(),
            network: Network::Host,
            mounts: Vec::new(),
            shm_size: DEFAULT_SHM_SIZE,
            ulimits: Vec::new(),
            security: Security::Sandbox,
            stdin: Stdin::Null,
            console: None,
        }
    }
}

/// The identity of the step's process. The default is root with no further groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// User ID inside the container.
    pub uid: u32,
    /// Primary group ID inside the container.
    pub gid: u32,
    /// Supplementary groups; `gid` need not be among them.
    pub groups: Vec<u32>,
}

/// Which network a step sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The host's own, less its abstract sockets where the kernel can hide them (Linux 6.12).
    #[default]
    Host,
    /// A new one with nothing but `lo`.
    None,
    /// A new one with a way out through the host. Not supported yet.
    Private,
}

/// How far a step is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// Docker's default capabilities, seccomp profile, masked and read-only paths.
    #[default]
    Sandbox,
    /// `RUN --security=insecure`: every capability we have, no seccomp, nothing masked.
    Insecure,
}

/// What a step reads from its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stdin {
    /// Nothing: `/dev/null`.
    #[default]
    Null,
    /// What this process reads.
    Inherit,
}

/// Something mounted over the root for the time of the step.
#[derive(Debug)]
pub struct Mount {
    /// Where, absolute inside the root; links in the image are followed inside the root.
    pub target: PathBuf,
    /// What.
    pub source: Source,
    /// Refuse writes (`EROFS`).
    pub read_only: bool,
    /// Ignore setuid and setgid bits and file capabilities.
    pub nosuid: bool,
    /// Ignore device nodes. [`Security::Sandbox`] does in any case.
    pub nodev: bool,
}

impl Mount {
    /// `source` on `target`, writable, without setuid and device restrictions.
    pub fn new(target: impl Into<PathBuf>, source: Source) -> Mount {
        Mount {
            target: target.into(),
            source,
            read_only: false,
            nosuid: false,
            nodev: false,
        }
    }

    /// The same, but read-only.
    pub fn read_only(self) -> Mount {
        Mount {
            read_only: true,
            ..self
        }
    }
}

/// What a [`Mount`] shows.
#[derive(Debug)]
pub enum Source {
    /// A file or directory of the host, by path.
    Path(PathBuf),
    /// A file or directory of the host, by descriptor (`O_PATH` is enough).
    Fd(OwnedFd),
    /// A file or directory inside a detached mount (`snapshot::overlay::mount`): `path` in it,
    /// followed inside of it; `/` or nothing is the whole.
    ///
    /// From Linux 6.15 on the kernel clones detached mounts, and any number of steps can be given
    /// duplicates of one tree. Before, it takes part in one step's namespace and no other's:
    /// mount it again for each step.
    Tree {
        /// The detached mount. Give a duplicate to keep it.
        tree: OwnedFd,
        /// What to show of it.
        path: PathBuf,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Its greatest size in bytes; `None` is the kernel's default, half of the memory.
        size: Option<u64>,
        /// The mode of its root.
        mode: u32,
    },
    /// A file in memory with these bytes, never on a disk: a secret, `/etc/resolv.conf`.
    Bytes {
        /// What it holds.
        bytes: Vec<u8>,
        /// Its mode.
        mode: u32,
        /// Its owner and group inside the container.
        owner: (u32, u32),
    },
}

/// Which of the step's two outputs a chunk came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a step's main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// [`Cancel::cancel`] was called, and everything in the container was killed.
    Cancelled,
}

impl Exit {
    /// The code a shell would report: the exit code, 128 + signal, 130 if cancelled.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
            Exit::Cancelled => 130,
        }
    }

    /// Whether it was success.
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }
}

/// What [`Executor::run`] tells of a step that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub exit: Exit,
    /// Mount points that were missing in the root, were made in the upper directory for the
    /// step and removed after it; absolute inside the root, parents first. Their parent
    /// directories may have been copied up to the upper directory, unchanged.
    pub stubs: Vec<PathBuf>,
}

/// Runs steps. [`super::Native`] is ours; tests of the build have their own.
pub trait Executor {
    /// Runs `step` to its end, giving its output to `output` in raw chunks as they come.
    ///
    /// A program that fails is an [`Outcome`]; an [`Error`] is a step that could not be started.
    /// Whichever way this returns, no process of the step is left.
    fn run(
        &self,
        step: Step,
        cancel: &Cancel,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, Error>;
}

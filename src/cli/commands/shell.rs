//! `rstore shell`: look around in an image, or in the container that a failed step left.
//!
//! ```text
//! image      its layers, and an upper directory that goes with the command
//! container  its image's layers, and what the step had written; the container stays
//! ```
//! Both run under a lease like a build's, so that a prune leaves alone what they stand on, and
//! takes what is left of one that was killed.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use crate::build::mounts::Mounted;
use crate::build::plan::RunOperation;
use crate::build::run::Surroundings;
use crate::build::{self, Options};
use crate::cli::args::build::NetworkMode;
use crate::cli::args::values;
use crate::cli::context::native_platform;
use crate::cli::exit::{self, Failure};
use crate::cli::{Context, Result};
use crate::executor::{self, Cancel, Console, Exit, Native, Network, Outcome, Stdin, Stream};
use crate::executor::{Error, signals};
use crate::gc;
use crate::store::containers::Left;
use crate::store::{self, Container, Image, Lease, Lower};

/// Open a shell in an image, or in the container that a failed step left
///
/// Opens a shell in an image, intermediate ones too, or in the container that a failed step left
/// (build --rm=false; `rstore ps` lists them).
///
/// What is changed in an image is gone afterwards. A container is opened as the step left it, with
/// the step's environment, user and working directory, and stays until the next prune; one shell at
/// a time. The exit status is the command's own.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore shell app
  rstore shell --user root app -- cat /etc/shadow
  rstore build --rm=false . ; rstore shell \"$(rstore ps -q -f status=failed)\"")]
pub struct Args {
    /// An image's name or ID, or a container's ID
    #[arg(value_name = "REF|CONTAINER")]
    pub subject: String,
    /// What to run [default: the image's SHELL, or /bin/sh]
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// Who runs it: user[:group], by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// A variable for it; without =VALUE it is taken from the environment
    #[arg(short, long = "env", value_name = "NAME[=VALUE]", value_parser = values::build_arg)]
    pub environment: Vec<(String, Option<String>)>,
    /// The network that it sees [default: host, or that of the failed step]
    #[arg(long, value_name = "MODE")]
    pub network: Option<NetworkMode>,
}

/// What is opened.
struct Opened {
    container: Container,
    lowers: Vec<Lower>,
    operation: RunOperation,
    /// The shell's words, if no command is given.
    shell: Vec<String>,
    /// Whether the container goes with the command.
    throw_away: bool,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let workdir = arguments.workdir.as_deref();
    if workdir.is_some_and(|directory| !directory.starts_with('/')) {
        return Err(exit::usage_error(
            "--workdir needs an absolute path inside of the image",
        ));
    }
    let command: Vec<String> = arguments.command.iter().map(utf8).collect::<Result<_>>()?;
    let store = context.open()?;
    gc::finish(store.layout(), store.catalog(), context.now)?;
    let cancel = Cancel::new()?;
    signals::on_interrupt(cancel.clone());
    let lease = store.lease("shell", &arguments.subject)?;
    let mut opened = open(&lease, &arguments.subject)?;
    apply(arguments, &command, &mut opened, context);
    let mut options = Options::new(native_platform());
    // Where there is none, the command resolves what /etc/hosts has.
    options.resolv_conf = fs::read("/etc/resolv.conf").unwrap_or_default();
    let interactive = Interactive {
        console: context.terminal.stdin && context.terminal.stdout,
        broken: Mutex::default(),
    };
    if context.terminal.stdin && !interactive.console {
        type_into_a_pipe()?;
    }
    let exit = start(&interactive, &lease, &options, &cancel, &opened);
    if opened.throw_away {
        lease.remove_container(opened.container)?;
    }
    lease.end()?;
    if let Some(signal) = signals::received() {
        return Err(Failure::Interrupted(signal).into());
    }
    let broken = interactive.broken.into_inner();
    if let Some(error) = broken.unwrap_or_else(PoisonError::into_inner) {
        return Err(error.into());
    }
    match exit? {
        exit if exit.success() => Ok(()),
        exit => Err(Failure::Command(exit.code()).into()),
    }
}

/// Finds what is meant: a container's whole ID, an image, the beginning of a container's ID.
fn open(lease: &Lease, subject: &str) -> Result<Opened> {
    let found = lease.store().find_container(subject);
    if let Ok(Some(id)) = &found
        && *id == subject
    {
        return open_container(lease, id);
    }
    match (lease.use_image(subject, &native_platform()), found) {
        (Ok(image), _) => open_image(lease, subject, &image),
        (Err(store::Error::UnknownImage { .. }), Ok(Some(id))) => open_container(lease, &id),
        (Err(store::Error::UnknownImage { .. }), Err(error)) => Err(error.into()),
        (Err(error), _) => Err(error.into()),
    }
}

fn open_image(lease: &Lease, subject: &str, image: &Image) -> Result<Opened> {
    let lowers = lease.snapshots(image)?;
    let container =
        lease.create_container(&format!("rstore shell {subject}"), Some(&image.digest))?;
    let config = build::config::StageConfig::on(&image.config.config, None);
    let pairs = image.config.config.env.iter().flatten();
    let pair = |pair: &String| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    };
    Ok(Opened {
        operation: RunOperation {
            environment: pairs.map(pair).collect(),
            user: image.config.config.user.clone(),
            directory: config.working_dir().to_owned(),
            ..RunOperation::default()
        },
        shell: config.shell(),
        container,
        lowers,
        throw_away: true,
    })
}

fn open_container(lease: &Lease, id: &str) -> Result<Opened> {
    let (container, left, image) = lease.open_container(id)?;
    let lowers = match &image {
        Some(image) => lease.snapshots(image)?,
        None => Vec::new(),
    };
    let Left {
        environment,
        user,
        directory,
        offline,
        shell,
        ..
    } = left;
    Ok(Opened {
        operation: RunOperation {
            environment,
            user,
            directory,
            network: if offline {
                Network::None
            } else {
                Network::Host
            },
            ..RunOperation::default()
        },
        shell,
        container,
        lowers,
        throw_away: false,
    })
}

/// Puts what the command line says over what the image or the step had.
fn apply(arguments: &Args, command: &[String], opened: &mut Opened, context: &Context) {
    let operation = &mut opened.operation;
    let set = |environment: &mut Vec<(String, String)>, name: &str, value: String| {
        environment.retain(|(other, _)| other != name);
        environment.push((name.to_owned(), value));
    };
    let has = |environment: &[(String, String)], name: &str| {
        environment.iter().any(|(other, _)| other == name)
    };
    if !has(&operation.environment, "PATH") {
        let path = executor::DEFAULT_PATH.to_owned();
        set(&mut operation.environment, "PATH", path);
    }
    // What is drawn is drawn on our terminal.
    if context.terminal.stdin
        && !has(&operation.environment, "TERM")
        && let Ok(term) = std::env::var("TERM")
    {
        set(&mut operation.environment, "TERM", term);
    }
    for (name, value) in &arguments.environment {
        if let Some(value) = value.clone().or_else(|| std::env::var(name).ok()) {
            set(&mut operation.environment, name, value);
        }
    }
    operation.arguments = match command {
        // `SHELL ["/bin/bash", "-o", "pipefail", "-c"]`: the first word is the shell.
        [] => opened.shell.iter().take(1).cloned().collect(),
        words => words.to_vec(),
    };
    if let Some(user) = &arguments.user {
        operation.user.clone_from(user);
    }
    if let Some(directory) = &arguments.workdir {
        operation.directory = build::config::clean(directory);
    }
    if let Some(network) = arguments.network {
        operation.network = network.into();
    }
}

fn utf8(word: &OsString) -> Result<String> {
    let text = word.to_str();
    text.map(str::to_owned)
        .ok_or_else(|| exit::usage_error(format!("{word:?} is not UTF-8")))
}

fn start(
    executor: &Interactive,
    lease: &Lease,
    options: &Options,
    cancel: &Cancel,
    opened: &Opened,
) -> Result<Exit> {
    let around = Surroundings {
        lease,
        options,
        executor,
        cancel,
    };
    let tell = |_| {};
    let ran = build::run::run(
        &around,
        &opened.operation,
        &Mounted::default(),
        &opened.lowers,
        &opened.container,
        0,
        &tell,
    );
    ran.map_err(|error| match error.status() {
        Some(status) => {
            let hint = match opened.operation.arguments.first() == opened.shell.first() {
                true => "; what to run instead of a shell stands after --",
                false => "",
            };
            let message = format!("{error}{hint}");
            Failure::Step { message, status }.into()
        }
        None => error.into(),
    })
}

/// Puts a pipe between our terminal and whoever inherits our input. What it writes goes elsewhere, so
/// that a terminal of its own would spoil it (line ends, echo); and ours is not for strangers.
fn type_into_a_pipe() -> Result {
    let terminal = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 0)?;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::stdio::dup2_stdin(&read)?;
    // Ends with what is typed, with its reader, or with this process.
    std::thread::Builder::new().spawn(move || {
        let _ = io::copy(&mut fs::File::from(terminal), &mut fs::File::from(write));
    })?;
    Ok(())
}

/// Runs a step with our streams: on a terminal with one of its own that ours is connected with.
struct Interactive {
    console: bool,
    /// Why what the step wrote could not be passed on.
    broken: Mutex<Option<io::Error>>,
}

impl executor::Executor for Interactive {
    fn run(
        &self,
        mut step: executor::Step,
        cancel: &Cancel,
        _output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, Error> {
        step.stdin = Stdin::Inherit;
        if self.console {
            let terminal = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 0);
            step.console = Some(Console {
                terminal: terminal.map_err(|errno| Error::Host {
                    doing: "duplicate the terminal",
                    source: errno.into(),
                })?,
                resized: Some(signals::on_resize()?),
            });
        }
        Native.run(step, cancel, &mut |stream, bytes| {
            let written = match stream {
                Stream::Stdout => pass_on(&mut io::stdout().lock(), bytes),
                Stream::Stderr => pass_on(&mut io::stderr().lock(), bytes),
            };
            if let Err(error) = written {
                // Whoever read it has gone: there is nothing more to run for.
                let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
                broken.get_or_insert(error);
                cancel.cancel();
            }
        })
    }
}

fn pass_on(to: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

//! The parent's side of a step: prepare, clone, watch, reap, clean up.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Gid, OFlags, Uid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions};

use super::channel::{self, Failure, Message, Received};
use super::console::Connection;
use super::explain::Names;
use super::init::{self, Script, Streams};
use super::prepare::{above_streams, prepare};
use super::stubs::Stubs;
use super::sys::{self, Cloned, SignalsBlocked};
use super::{Cancel, Error, Executor, Exit, Network, Outcome, Stdin, Step, Stream, User};

/// The executor of this module, in this process's own user namespace (see
/// [`userns::enter`](super::userns::enter)).
#[derive(Debug, Clone, Copy, Default)]
pub struct Native;

impl Executor for Native {
    fn run(
        &self,
        step: Step,
        cancel: &Cancel,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, Error> {
        refuse_what_is_missing(&step)?;
        let mut stubs = Stubs::default();
        let ran = run(step, cancel, output, &mut stubs);
        // After the container's end, whichever way that came.
        let stubs = stubs.remove();
        Ok(Outcome { exit: ran?, stubs })
    }
}

fn refuse_what_is_missing(step: &Step) -> Result<(), Error> {
    match step.network {
        Network::Host | Network::None => Ok(()),
        Network::Private => Err(Error::NotSupported {
            what: "a private network for RUN",
            instead: "--network host, or --network none if the step needs no network",
        }),
    }
}

fn run(
    mut step: Step,
    cancel: &Cancel,
    output: &mut dyn FnMut(Stream, &[u8]),
    stubs: &mut Stubs,
) -> Result<Exit, Error> {
    if cancel.is_cancelled() {
        return Ok(Exit::Cancelled);
    }
    let mut names = Names::of(&step);
    let namespaces = namespaces(step.network);
    let (ours, streams) = connect(&step.user, step.stdin)?;
    let console = step.console.take();
    let (script, master) = prepare(step, streams, console.as_ref(), stubs)?;
    let named = script
        .attachments
        .iter()
        .map(|one| (one.what.clone(), one.path.clone()));
    names.mounts = named.collect();
    let container = Container::start(script, namespaces, &ours.channel)?;
    let mut watch = Watch::new(container, ours);
    watch.console = console.zip(master).map(|(c, m)| Connection::new(c, m));
    let ended = watch.follow(cancel, output);
    // The caller's terminal is put back before anything is said.
    watch.console = None;
    match (ended?, watch.said) {
        (
            _,
            Said {
                failure: Some(failure),
                ..
            },
        ) => Err(names.explain(failure)),
        (
            _,
            Said {
                status: Some(status),
                ..
            },
        ) => Ok(exit(status)),
        (_, _) if watch.killed => Ok(Exit::Cancelled),
        (how, _) => Err(Error::Died { how }),
    }
}

fn namespaces(network: Network) -> libc::c_int {
    let always = libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    match network {
        Network::Host => always,
        Network::None | Network::Private => always | libc::CLONE_NEWNET,
    }
}

/// wait(2)'s status as an exit.
fn exit(status: i32) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    }
}

/// The parent's ends of what connects it with the container.
#[derive(Debug)]
struct Ours {
    stdout: OwnedFd,
    stderr: OwnedFd,
    channel: OwnedFd,
}

fn connect(user: &User, stdin: Stdin) -> Result<(Ours, Streams), Error> {
    let failed = |errno: Errno| Error::Host {
        doing: "make a pipe",
        source: errno.into(),
    };
    let pipe = || -> Result<(OwnedFd, OwnedFd), Error> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK).map_err(failed)?;
        // So that the user can open /dev/stdout, which is this pipe by another name. Where the
        // user isn't mapped, the step will say so itself.
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        let _ = rustix::fs::fchown(&write, Some(uid), Some(gid));
        Ok((read, above_streams(write)?))
    };
    let (stdout, to_stdout) = pipe()?;
    let (stderr, to_stderr) = pipe()?;
    let (channel, to_channel) = channel::pair().map_err(failed)?;
    let stdin = match stdin {
        Stdin::Null => None,
        Stdin::Inherit => Some(above_streams(io::stdin())?),
    };
    let streams = Streams {
        stdin,
        stdout: to_stdout,
        stderr: to_stderr,
        channel: above_streams(to_channel)?,
    };
    Ok((
        Ours {
            stdout,
            stderr,
            channel,
        },
        streams,
    ))
}

/// A running container. Dropping it, as a panic in the caller's output function does, kills it.
#[derive(Debug)]
struct Container {
    pidfd: OwnedFd,
    reaped: bool,
}

impl Container {
    /// Clones init. The script is dropped in the parent: its ends of the pipes, its mounts.
    fn start(
        script: Script,
        namespaces: libc::c_int,
        parents_end: &OwnedFd,
    ) -> Result<Container, Error> {
        let blocked = SignalsBlocked::all();
        // SAFETY: the child runs `init::run` on the finished script and nothing else; that makes
        // system calls only, and never returns.
        let cloned = unsafe { sys::clone_into(namespaces) };
        let cloned = match cloned {
            Ok(Cloned::Child) => init::run(&script, parents_end.as_raw_fd()),
            Ok(Cloned::Parent(pidfd)) => Ok(Container {
                pidfd,
                reaped: false,
            }),
            Err(errno) => Err(errno),
        };
        drop(blocked);
        cloned.map_err(|errno| Error::Setup {
            doing: "clone a process into new namespaces".to_owned(),
            source: errno.into(),
            hint: clone_hint(errno),
        })
    }

    fn kill(&self) {
        // ESRCH: it is dead already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits for init's end and takes it off the process table; tells how it ended.
    fn reap(&mut self) -> String {
        self.reaped = true;
        loop {
            let waited =
                rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
            match waited {
                Err(Errno::INTR) => {}
                // Somebody else reaps our children, or SIGCHLD is ignored: gone is gone.
                Err(_) | Ok(None) => return "it is gone".to_owned(),
                Ok(Some(status)) => {
                    return match (status.exit_status(), status.terminating_signal()) {
                        (_, Some(signal)) => format!("killed by signal {signal}"),
                        (Some(code), _) => format!("exit code {code}"),
                        _ => "it is gone".to_owned(),
                    };
                }
            }
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.reap();
        }
    }
}

fn clone_hint(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::PERM => Some(
            "it needs CAP_SYS_ADMIN: run as root, or enter a user namespace (inside another \
             container: run that one with --privileged)",
        ),
        Errno::NOSPC => Some("raise the limits in /proc/sys/user/max_*_namespaces"),
        Errno::AGAIN | Errno::NOMEM => Some("too many processes, or too little memory"),
        Errno::INVAL | Errno::NOSYS => Some("rstore needs Linux 6.7 or later"),
        _ => None,
    }
}

/// What the children said so far.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    failure: Option<Failure>,
    status: Option<i32>,
}

/// The parent while a step runs.
#[derive(Debug)]
struct Watch {
    container: Container,
    ours: Ours,
    /// Which of standard output and error are still open.
    open: [bool; 2],
    channel_open: bool,
    console: Option<Connection>,
    killed: bool,
    said: Said,
    buffer: Vec<u8>,
}

/// As much as a pipe holds.
const CHUNK: usize = 64 << 10;

impl Watch {
    fn new(container: Container, ours: Ours) -> Watch {
        Watch {
            container,
            ours,
            open: [true; 2],
            channel_open: true,
            console: None,
            killed: false,
            said: Said::default(),
            buffer: vec![0; CHUNK],
        }
    }

    /// Passes output on until init is dead; then no process of the namespace is left, so that
    /// what the pipes still hold is all there will be.
    fn follow(
        &mut self,
        cancel: &Cancel,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<String, Error> {
        loop {
            let dead = self.wait(cancel)?;
            self.listen()?;
            if cancel.is_cancelled() && !self.killed {
                self.killed = true;
                self.container.kill();
            }
            for stream in [Stream::Stdout, Stream::Stderr] {
                self.pass_on(stream, dead, output)?;
            }
            if let Some(console) = &mut self.console {
                console.pass_in();
                let mut output = |bytes: &[u8]| output(Stream::Stdout, bytes);
                console.pass_out(dead, &mut self.buffer, &mut output);
            }
            if dead {
                self.listen()?;
                return Ok(self.container.reap());
            }
        }
    }

    /// Waits until there is something to do; `true`: init is dead.
    fn wait(&self, cancel: &Cancel) -> Result<bool, Error> {
        let no_flags = PollFlags::empty();
        let wanted = |wanted: bool| if wanted { PollFlags::IN } else { no_flags };
        let mut fds = vec![
            PollFd::new(&self.container.pidfd, PollFlags::IN),
            PollFd::new(cancel, wanted(!self.killed)),
        ];
        // A closed pipe is always ready (POLLHUP), asked for or not: leave it out.
        if self.channel_open {
            fds.push(PollFd::new(&self.ours.channel, PollFlags::IN));
        }
        if self.open[0] {
            fds.push(PollFd::new(&self.ours.stdout, PollFlags::IN));
        }
        if self.open[1] {
            fds.push(PollFd::new(&self.ours.stderr, PollFlags::IN));
        }
        if let Some(console) = &self.console {
            fds.extend(console.poll_fds());
        }
        match poll(&mut fds, None) {
            Ok(_) => Ok(fds.first().is_some_and(|pidfd| !pidfd.revents().is_empty())),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(Error::Host {
                doing: "wait for a step",
                source: errno.into(),
            }),
        }
    }

    /// Takes what the children have said.
    fn listen(&mut self) -> Result<(), Error> {
        while self.channel_open {
            let received = channel::receive(self.ours.channel.as_fd());
            match received.map_err(|errno| Error::Host {
                doing: "hear of a step",
                source: errno.into(),
            })? {
                Received::Message(Message::Armed) => channel::send_go(&self.ours.channel),
                Received::Message(Message::Failed(failure)) => {
                    // The first is the cause.
                    self.said.failure.get_or_insert(failure);
                }
                Received::Message(Message::Ended(status)) => self.said.status = Some(status),
                Received::Nothing => return Ok(()),
                Received::Closed => self.channel_open = false,
            }
        }
        Ok(())
    }

    /// Passes on a chunk, or with `all` everything that is there.
    fn pass_on(
        &mut self,
        stream: Stream,
        all: bool,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(), Error> {
        let (index, pipe) = match stream {
            Stream::Stdout => (0, &self.ours.stdout),
            Stream::Stderr => (1, &self.ours.stderr),
        };
        while self.open[index] {
            match rustix::io::read(pipe, &mut self.buffer) {
                Ok(0) => self.open[index] = false,
                Ok(length) => {
                    output(stream, &self.buffer[..length]);
                    if !all {
                        return Ok(());
                    }
                }
                // Even when all is over: a descriptor may have been passed out of the namespace.
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    let doing = "read a step's output";
                    return Err(Error::Host {
                        doing,
                        source: errno.into(),
                    });
                }
            }
        }
        Ok(())
    }
}

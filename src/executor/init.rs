//! PID 1 of the step's namespace: attaches the mounts, starts the step's process, reaps.
//!
//! Everything here runs between clone and exit in a copy of a process that may have had threads:
//! system calls on prepared memory only. Dropping a descriptor is one of those.
//!
//! It has no signal handlers and, being an init, is immune to signals of its own namespace; every
//! signal is blocked besides. Its capabilities go as soon as the step's process is started, and
//! it is not dumpable, so that nothing inside can look at its memory, at `/proc/1/root`, or at
//! the rstore binary behind `/proc/1/exe`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;
use rustix::process::{DumpableBehavior, Signal, WaitOptions};
use rustix::thread::CapabilitySet;

use super::channel::{self, Failure, InStage, Message, Stage};
use super::mounts::mask::Masks;
use super::mounts::{self, Attachment};
use super::process::Process;
use super::{capabilities, sys};

/// What init does; all made before clone.
#[derive(Debug)]
pub struct Script {
    /// The root, a detached mount.
    pub root: OwnedFd,
    /// What to attach, in this order.
    pub attachments: Vec<Attachment>,
    /// The tmpfs that hides directories.
    pub empty: OwnedFd,
    /// The host name, if it is to be set.
    pub hostname: Vec<u8>,
    /// Where our command line lies in memory: the step may read `/proc/1/cmdline`, and what
    /// rstore was called with (build arguments, paths) is none of its business.
    pub command_line: Option<std::ops::Range<usize>>,
    /// Whether the network namespace is new.
    pub loopback: bool,
    /// The step's process.
    pub process: Process,
    /// The descriptors that go to the step's process.
    pub streams: Streams,
}

/// The step's streams, and the children's end of the channel.
///
/// All are numbered from [`Streams::LOWEST`] on, so that placing one does not close another.
#[derive(Debug)]
pub struct Streams {
    /// What it reads; `None`: `/dev/null` of its own `/dev`.
    pub stdin: Option<OwnedFd>,
    /// Where its standard output goes.
    pub stdout: OwnedFd,
    /// Where its standard error goes.
    pub stderr: OwnedFd,
    /// The children's end.
    pub channel: OwnedFd,
}

impl Streams {
    /// Above all numbers that [`place_streams`] gives out.
    pub const LOWEST: RawFd = 10;
}

/// The number of the channel after [`place_streams`].
const CHANNEL: RawFd = 3;

/// Init, from clone to the end. `parents_end` is the parent's end of the channel, by number.
pub fn run(script: &Script, parents_end: RawFd) -> ! {
    // Our copy of it would keep the channel open when the parent is gone.
    sys::close(parents_end);
    let mut channel = script.streams.channel.as_fd();
    let code = match play(script, &mut channel) {
        Ok(status) => {
            Message::Ended(status).send(channel);
            0
        }
        Err(failure) => {
            Message::Failed(failure).send(channel);
            1
        }
    };
    // The kernel now kills whatever is left in the namespace.
    sys::exit(code)
}

fn play(script: &Script, channel: &mut BorrowedFd<'_>) -> Result<i32, Failure> {
    arm(*channel)?;
    if let Some(range) = &script.command_line {
        sys::forget_command_line(range.clone());
    }
    set_up_mounts(script)?;
    if !script.hostname.is_empty() {
        rustix::system::sethostname(&script.hostname).stage(Stage::Hostname)?;
    }
    if script.loopback {
        sys::bring_up_loopback().stage(Stage::Loopback)?;
    }
    *channel = place_streams(&script.streams)?;
    // Not before every other descriptor is closed: of two steps that are started at once, each
    // may hold a copy of the other's parent's end, and would keep it from seeing the end.
    if !channel::wait_for_go(*channel) {
        sys::exit(1);
    }
    let step = start(&script.process, *channel)?;
    disarm()?;
    wait_for(step)
}

/// Makes the parent's end ours, and says so.
///
/// The signal comes when the *thread* ends that cloned us; it blocks in `run` until we are gone.
/// A parent that ended before this line will not answer; see `channel`.
fn arm(channel: BorrowedFd<'_>) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).stage(Stage::Arm)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).stage(Stage::Arm)?;
    Message::Armed.send(channel);
    // Away from the parent's terminal and its Ctrl-C.
    rustix::process::setsid().map(drop).stage(Stage::Session)
}

fn set_up_mounts(script: &Script) -> Result<(), Failure> {
    sys::make_mounts_private().stage(Stage::Propagation)?;
    // On top of the host's root, in this namespace: a place that is always there.
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&script.root, c"", CWD, c"/", flags).stage(Stage::Root)?;
    let mut masks = Masks::new(script.empty.as_fd());
    for (index, attachment) in script.attachments.iter().enumerate() {
        mounts::attach(attachment, index, &mut masks)?;
    }
    mounts::enter_root(&script.root).stage(Stage::Pivot)?;
    mounts::leave_host().stage(Stage::Detach)
}

/// Puts the streams at 0, 1, 2 and the channel at 3, and closes everything else: the root, the
/// store's files, its leases, what a library may have opened without close-on-exec. Returns the
/// channel under its new number; if this fails, the old one is still open.
fn place_streams(streams: &Streams) -> Result<BorrowedFd<'static>, Failure> {
    let placed = (|| {
        match &streams.stdin {
            Some(stdin) => sys::place(stdin, 0, false)?,
            None => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let null = rustix::fs::openat(CWD, c"/dev/null", flags, Mode::empty())?;
                // It may have been given the number 0 already.
                if null.as_raw_fd() == 0 {
                    rustix::io::fcntl_setfd(&null, rustix::io::FdFlags::empty())?;
                    std::mem::forget(null);
                } else {
                    sys::place(null, 0, false)?;
                }
            }
        }
        sys::place(&streams.stdout, 1, false)?;
        sys::place(&streams.stderr, 2, false)?;
        sys::place(&streams.channel, CHANNEL, true)?;
        sys::close_from(CHANNEL + 1)
    })();
    // SAFETY: it has just been placed there, and init never closes it.
    placed
        .stage(Stage::Streams)
        .map(|()| unsafe { BorrowedFd::borrow_raw(CHANNEL) })
}

/// Starts the step's process. Returns its ID.
fn start(process: &Process, channel: BorrowedFd<'_>) -> Result<i32, Failure> {
    // SAFETY: the child only calls `Process::become_it`, which keeps to the rules.
    match unsafe { sys::fork() }.stage(Stage::Spawn)? {
        0 => {
            let failure = process.become_it();
            Message::Failed(failure).send(channel);
            sys::exit(127)
        }
        pid => Ok(pid),
    }
}

/// Gives up what only the setup needed: the streams, so that a step which closes its output is
/// seen to, and all capabilities.
fn disarm() -> Result<(), Failure> {
    for number in 0..CHANNEL {
        sys::close(number);
    }
    capabilities::set(CapabilitySet::empty()).stage(Stage::Disarm)
}

/// Reaps whatever ends until `step` does; returns its status.
fn wait_for(step: i32) -> Result<i32, Failure> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == step => {
                return Ok(status.as_raw());
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).stage(Stage::Wait),
        }
    }
}

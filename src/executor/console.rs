//! A terminal for a step, and the caller's own terminal behind it.
//!
//! ```text
//!   caller's terminal, raw ◄──► rstore ◄──► master ─ pty of the step's own devpts ─ /dev/pts/0
//! ```
//! The step never gets the caller's terminal: whoever holds a terminal can put characters into
//! what its owner's shell reads next (TIOCSTI, TIOCLINUX), and reads what is typed after the step.
//! The pty belongs to the step's `/dev/pts`, so that `tty` and `/dev/tty` work inside, and goes
//! with it. While the step runs, the caller's terminal is raw: keys, Ctrl-C among them, are the
//! step's to understand. It is put back when [`Raw`] is dropped, in a panic too.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios};

use super::{Error, User};

/// The caller's terminal, to be connected with the step's.
#[derive(Debug)]
pub struct Console {
    /// What is typed is read from here; its size is the step's terminal's.
    pub terminal: OwnedFd,
    /// Readable whenever the size may have changed, as [`signals::on_resize`] gives it; whoever
    /// reads it takes the news.
    ///
    /// [`signals::on_resize`]: super::signals::on_resize
    pub resized: Option<OwnedFd>,
}

/// Makes a pty in a devpts that may not be attached anywhere yet: master and slave.
pub fn open(terminals: impl AsFd, console: &Console, user: &User) -> Result<Pty, Error> {
    let failed = |errno: Errno| Error::Host {
        doing: "make a terminal for the step",
        source: errno.into(),
    };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let master = rustix::fs::openat(terminals, c"ptmx", flags, Mode::empty()).map_err(failed)?;
    rustix::pty::unlockpt(&master).map_err(failed)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(failed)?;
    // So that its user can open it by name. Where the user isn't mapped, the step will say so.
    let owner = Some(rustix::fs::Uid::from_raw(user.uid));
    let _ = rustix::fs::fchown(&slave, owner, None);
    copy_size(&console.terminal, &master);
    Ok(Pty { master, slave })
}

/// Both ends of a terminal.
#[derive(Debug)]
pub struct Pty {
    /// Ours.
    pub master: OwnedFd,
    /// The step's.
    pub slave: OwnedFd,
}

/// Makes one terminal as large as another; one that has no size leaves it.
fn copy_size(from: impl AsFd, to: impl AsFd) {
    if let Ok(size) = rustix::termios::tcgetwinsize(from) {
        let _ = rustix::termios::tcsetwinsize(to, size);
    }
}

/// A terminal whose keys are passed on as they are. Dropped, it is as it was.
#[derive(Debug)]
struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    fn enter(terminal: &OwnedFd) -> Option<Raw> {
        // What has no such settings is no terminal, and needs none.
        let before = rustix::termios::tcgetattr(terminal).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        let terminal = terminal.try_clone().ok()?;
        rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &raw).ok()?;
        Some(Raw { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// How much is read of what is typed before the step has taken it.
const TYPED: usize = 4 << 10;

/// A step's terminal while the step runs.
#[derive(Debug)]
pub struct Connection {
    console: Console,
    master: OwnedFd,
    open: bool,
    typing: bool,
    typed: Vec<u8>,
    _raw: Option<Raw>,
}

impl Connection {
    /// Connects the caller's terminal, from now on raw, with a step's.
    pub fn new(console: Console, master: OwnedFd) -> Connection {
        Connection {
            _raw: Raw::enter(&console.terminal),
            console,
            master,
            open: true,
            typing: true,
            typed: Vec::new(),
        }
    }

    /// What to wait for.
    pub fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let mut fds = Vec::with_capacity(3);
        if self.open {
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, !self.typed.is_empty());
            fds.push(PollFd::new(&self.master, flags));
        }
        if self.typing && self.typed.is_empty() {
            fds.push(PollFd::new(&self.console.terminal, PollFlags::IN));
        }
        if let Some(resized) = &self.console.resized {
            fds.push(PollFd::new(resized, PollFlags::IN));
        }
        fds
    }

    /// Passes on what was typed, and the size.
    pub fn pass_in(&mut self) {
        if let Some(resized) = &self.console.resized
            && is_readable(resized.as_fd())
        {
            let mut count = [0; 8];
            let _ = rustix::io::read(resized, &mut count);
            // The kernel tells the step's foreground process (SIGWINCH).
            copy_size(&self.console.terminal, &self.master);
        }
        if self.typing && self.typed.is_empty() && is_readable(self.console.terminal.as_fd()) {
            self.typed.resize(TYPED, 0);
            let read = rustix::io::read(&self.console.terminal, &mut self.typed);
            self.typed.truncate(*read.as_ref().unwrap_or(&0));
            self.typing = !matches!(read, Ok(0)) && !matches!(read, Err(e) if e != Errno::INTR);
        }
        if !self.typed.is_empty() {
            match rustix::io::write(&self.master, &self.typed) {
                Ok(written) => drop(self.typed.drain(..written)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Nobody will read it any more.
                Err(_) => self.typed.clear(),
            }
        }
    }

    /// Passes on a chunk that the step has written, or with `all` everything that is there.
    pub fn pass_out(&mut self, all: bool, buffer: &mut [u8], output: &mut dyn FnMut(&[u8])) {
        while self.open {
            match rustix::io::read(&self.master, &mut *buffer) {
                Ok(0) => self.open = false,
                Ok(length) => {
                    output(&buffer[..length]);
                    if !all {
                        return;
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                // EIO: nobody in the step has it open any more.
                Err(_) => self.open = false,
            }
        }
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&now)), Ok(1))
}

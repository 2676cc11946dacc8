//! The children's channel to the parent: what happened, in sixteen bytes.
//!
//! ```text
//!   init ────► Armed      it dies with its parent from here on
//!   init ◄──── go         so the parent was alive after that: start the step's process
//!   either ──► Failed     (stage, index, errno)
//!   init ────► Ended      the step's process has ended, with this wait status
//! ```
//!
//! A sequenced-packet socket pair: messages stay whole, and the end of the parent closes it
//! (`read` returns 0), whichever way that ended. Children cannot format text; they send numbers,
//! and `explain` makes sentences of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::sys;

/// The two ends: the parent's, the children's.
pub fn pair() -> sys::Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// Where the setup can fail; in the order in which it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// Asking for a signal at the parent's death.
    Arm,
    /// A new session.
    Session,
    /// Cutting mount propagation.
    Propagation,
    /// Attaching the root.
    Root,
    /// Attaching the mount with this index.
    Mount,
    /// Masking or write-protecting in the mount with this index.
    Mask,
    /// Setting the host name.
    Hostname,
    /// Bringing up `lo`.
    Loopback,
    /// Making the root `/`.
    Pivot,
    /// Letting go of the host's mounts.
    Detach,
    /// Placing the three streams.
    Streams,
    /// Starting the step's process.
    Spawn,
    /// Giving up init's own capabilities.
    Disarm,
    /// Waiting for children.
    Wait,
    /// Making the step's terminal its controlling one.
    Terminal,
    /// The limit with this index.
    Limit,
    /// The bounding set.
    Bounding,
    /// The seccomp profile.
    Seccomp,
    /// The supplementary groups.
    Groups,
    /// The group.
    Group,
    /// The user.
    User,
    /// The capabilities.
    Capabilities,
    /// The working directory.
    Cwd,
    /// execve(2).
    Execute,
}

impl Stage {
    const ALL: [Stage; 24] = [
        Stage::Arm,
        Stage::Session,
        Stage::Propagation,
        Stage::Root,
        Stage::Mount,
        Stage::Mask,
        Stage::Hostname,
        Stage::Loopback,
        Stage::Pivot,
        Stage::Detach,
        Stage::Streams,
        Stage::Spawn,
        Stage::Disarm,
        Stage::Wait,
        Stage::Terminal,
        Stage::Limit,
        Stage::Bounding,
        Stage::Seccomp,
        Stage::Groups,
        Stage::Group,
        Stage::User,
        Stage::Capabilities,
        Stage::Cwd,
        Stage::Execute,
    ];
}

/// A system call that failed in a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub stage: Stage,
    /// Which of several: a mount, a limit.
    pub index: u32,
    /// What the kernel answered.
    pub errno: Errno,
}

/// Names the stage of a failed system call.
pub trait InStage<T> {
    /// `self`, its error told as one of `stage`.
    fn stage(self, stage: Stage) -> Result<T, Failure>;
    /// The same, for the `index`th of several.
    fn stage_of(self, stage: Stage, index: usize) -> Result<T, Failure>;
}

impl<T> InStage<T> for sys::Result<T> {
    fn stage(self, stage: Stage) -> Result<T, Failure> {
        self.stage_of(stage, 0)
    }

    fn stage_of(self, stage: Stage, index: usize) -> Result<T, Failure> {
        self.map_err(|errno| Failure {
            stage,
            index: index as u32,
            errno,
        })
    }
}

/// What a child says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Init will die with its parent.
    Armed,
    /// The setup failed.
    Failed(Failure),
    /// The step's process ended, with this status as wait(2) has it.
    Ended(i32),
}

const LENGTH: usize = 16;

impl Message {
    /// Sends it; there is nobody to tell if that fails. Async-signal-safe.
    pub fn send(self, channel: impl AsFd) {
        let words: [u32; 4] = match self {
            Message::Armed => [0, 0, 0, 0],
            Message::Failed(Failure {
                stage,
                index,
                errno,
            }) => [1, stage as u32, index, errno.raw_os_error() as u32],
            Message::Ended(status) => [2, status as u32, 0, 0],
        };
        let mut bytes = [0; LENGTH];
        for (slot, word) in bytes.chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_ne_bytes());
        }
        let flags = rustix::net::SendFlags::NOSIGNAL;
        let _ = rustix::net::send(channel, &bytes, flags);
    }

    fn decode(bytes: [u8; LENGTH]) -> Option<Message> {
        let mut words = bytes
            .chunks_exact(4)
            .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        let mut next = || words.next().unwrap_or_default();
        match next() {
            0 => Some(Message::Armed),
            1 => {
                let stage = *Stage::ALL.get(next() as usize)?;
                let (index, errno) = (next(), next());
                let errno = Errno::from_raw_os_error(errno as i32);
                Some(Message::Failed(Failure {
                    stage,
                    index,
                    errno,
                }))
            }
            2 => Some(Message::Ended(next() as i32)),
            _ => None,
        }
    }
}

/// What the parent finds on its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Message(Message),
    /// Nothing at the moment.
    Nothing,
    /// No child holds the other end any more.
    Closed,
}

/// Receives without waiting.
pub fn receive(channel: BorrowedFd<'_>) -> sys::Result<Received> {
    let mut bytes = [0; LENGTH];
    let flags = rustix::net::RecvFlags::DONTWAIT;
    loop {
        return match rustix::net::recv(channel, &mut bytes, flags) {
            Ok((_, 0)) => Ok(Received::Closed),
            Ok(_) => match Message::decode(bytes) {
                Some(message) => Ok(Received::Message(message)),
                None => Err(Errno::PROTO),
            },
            Err(Errno::AGAIN) => Ok(Received::Nothing),
            Err(Errno::CONNRESET) => Ok(Received::Closed),
            Err(Errno::INTR) => continue,
            Err(errno) => Err(errno),
        };
    }
}

/// Tells init to go on.
pub fn send_go(channel: impl AsFd) {
    let _ = rustix::net::send(channel, &[1], rustix::net::SendFlags::NOSIGNAL);
}

/// Waits for [`send_go`]; `false`: the parent is gone. Async-signal-safe.
pub fn wait_for_go(channel: impl AsFd) -> bool {
    let mut byte = [0];
    loop {
        match rustix::io::read(&channel, &mut byte) {
            Ok(length) => return length == 1,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_arrives_as_it_was_sent() {
        let (parent, child) = pair().unwrap();
        let failed = |stage| {
            Message::Failed(Failure {
                stage,
                index: 7,
                errno: Errno::NOENT,
            })
        };
        let messages = Stage::ALL
            .map(failed)
            .into_iter()
            .chain([Message::Armed, Message::Ended(9)]);
        for message in messages {
            message.send(&child);
            assert_eq!(receive(parent.as_fd()), Ok(Received::Message(message)));
        }
        assert_eq!(receive(parent.as_fd()), Ok(Received::Nothing));
        drop(child);
        // Children that other tests have just made hold a duplicate until they close it.
        let mut received = receive(parent.as_fd());
        for _ in 0..10_000 {
            if received != Ok(Received::Nothing) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
            received = receive(parent.as_fd());
        }
        assert_eq!(received, Ok(Received::Closed));
    }

    #[test]
    fn a_parent_that_ends_first_is_noticed() {
        let (parent, child) = pair().unwrap();
        drop(parent);
        assert!(!wait_for_go(&child));
    }
}

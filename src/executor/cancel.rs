//! A way to stop a running step from anywhere, a signal handler included.
//!
//! An atomic flag says *whether*, an eventfd says *when*: it becomes readable at the first
//! [`Cancel::cancel`] and stays so, since nobody reads it, so any number of runs can poll it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use super::Error;

/// A handle that stops every step that runs with it or with a clone of it.
#[derive(Debug, Clone)]
pub struct Cancel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cancelled: AtomicBool,
    event: OwnedFd,
}

impl Cancel {
    /// A handle that nobody has cancelled.
    pub fn new() -> Result<Cancel, Error> {
        let event =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| {
                Error::Host {
                    doing: "make an eventfd",
                    source: errno.into(),
                }
            })?;
        Ok(Cancel {
            shared: Arc::new(Shared {
                cancelled: AtomicBool::new(false),
                event,
            }),
        })
    }

    /// Stops what runs, and what will be run, with this handle. Async-signal-safe: an atomic
    /// store and a write(2).
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::SeqCst);
        // Full (EAGAIN) means readable, which is all that is wanted.
        let _: io::Result<usize> =
            rustix::io::write(&self.shared.event, &1u64.to_ne_bytes()).map_err(Into::into);
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::SeqCst)
    }
}

impl AsFd for Cancel {
    /// Readable from the first [`Cancel::cancel`] on, for those who poll.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

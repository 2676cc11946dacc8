//! SIGINT, SIGTERM and SIGHUP as a cancellation; SIGWINCH as news.
//!
//! The handler stores the first signal's number and cancels: a few atomic operations and a
//! write(2), all of them async-signal-safe (signal-safety(7)). It stays: an impatient second Ctrl-C
//! must not leave behind what the first has begun to put away. A process that does not end by
//! itself is for SIGKILL, and the kernel then ends its steps (see the module above).

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use super::{Cancel, Error};

static RECEIVED: AtomicI32 = AtomicI32::new(0);
static CANCEL: OnceLock<Cancel> = OnceLock::new();
static RESIZED: OnceLock<OwnedFd> = OnceLock::new();

/// Cancels `cancel` at SIGINT, SIGTERM or SIGHUP; another one while things are being put away
/// changes nothing, so that an impatient second Ctrl-C leaves nothing behind either. Of several calls in one process the
/// first counts. A signal that the parent had ignored (nohup) stays so.
pub fn on_interrupt(cancel: Cancel) {
    if CANCEL.set(cancel).is_err() {
        return;
    }
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        install(signal, handle);
    }
}

/// The signal that came first, if one did.
pub fn received() -> Option<i32> {
    Some(RECEIVED.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
}

/// A descriptor that becomes readable whenever the terminal changes its size (SIGWINCH). There is
/// one for the process: who reads it takes the news from the others.
pub fn on_resize() -> Result<OwnedFd, Error> {
    let failed = |source: std::io::Error| Error::Host {
        doing: "make an eventfd",
        source,
    };
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let event = eventfd(0, flags).map_err(|errno| failed(errno.into()))?;
    let event = RESIZED.get_or_init(|| event);
    install(libc::SIGWINCH, handle_resize);
    event.try_clone().map_err(failed)
}

extern "C" fn handle(signal: libc::c_int) {
    // The first is the reason.
    let _ = RECEIVED.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
    if let Some(cancel) = CANCEL.get() {
        keeping_errno(|| cancel.cancel());
    }
}

extern "C" fn handle_resize(_signal: libc::c_int) {
    if let Some(event) = RESIZED.get() {
        // Full (EAGAIN) means readable, which is all that is wanted.
        keeping_errno(|| {
            let _ = rustix::io::write(event, &1u64.to_ne_bytes());
        });
    }
}

/// What a handler does, unnoticed by whoever was interrupted.
fn keeping_errno(work: impl FnOnce()) {
    // SAFETY: errno is this thread's own.
    let errno = unsafe { *libc::__errno_location() };
    work();
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn install(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: both structures are valid for the call; all zeroes is a valid `sigaction`, and the
    // handler does nothing that a signal handler must not do.
    unsafe {
        if libc::sigaction(signal, std::ptr::null(), before.as_mut_ptr()) != 0
            || before.assume_init().sa_sigaction == libc::SIG_IGN
        {
            return;
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        // One handler after the other: the first signal is not overtaken by a second.
        libc::sigfillset(&mut action.sa_mask);
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SIGHUP is used by no other test of this process, and its default would end it.
    #[test]
    fn a_signal_cancels_and_is_told() {
        let cancel = Cancel::new().unwrap();
        on_interrupt(cancel.clone());
        assert!(!cancel.is_cancelled());
        // SAFETY: raising a signal whose handler was just installed.
        unsafe { libc::raise(libc::SIGHUP) };
        assert!(cancel.is_cancelled());
        assert_eq!(received(), Some(libc::SIGHUP));
    }
}

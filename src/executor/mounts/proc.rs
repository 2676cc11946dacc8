//! `/proc` of the step's own PID namespace. Everything here runs in init: async-signal-safe.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use super::mask::{Masks, write_protect};
use super::{INERT, make, move_to};
use crate::executor::sys;

/// What docker hides: the kernel's memory and keys, and what tells of the host's other work.
const HIDDEN: [&CStr; 10] = [
    c"acpi",
    c"asound",
    c"interrupts",
    c"kcore",
    c"keys",
    c"latency_stats",
    c"sched_debug",
    c"scsi",
    c"timer_list",
    c"timer_stats",
];

/// What docker write-protects: it belongs to no namespace, so writing to it would change the host.
const READ_ONLY: [&CStr; 5] = [c"bus", c"fs", c"irq", c"sys", c"sysrq-trigger"];

/// Makes a proc and attaches it.
///
/// In a user namespace the kernel refuses (`EPERM`) unless a proc without anything mounted over
/// its parts is visible in the mount namespace: else this would uncover what somebody masked.
/// So it must happen before the host's mounts are let go.
pub fn attach(target: impl AsFd) -> sys::Result<OwnedFd> {
    let mount = make(c"proc", &[], INERT)?;
    move_to(&mount, target)?;
    Ok(mount)
}

/// Hides and write-protects as the OCI runtimes do.
pub fn restrict(mount: &OwnedFd, masks: &mut Masks<'_>) -> sys::Result<()> {
    for name in HIDDEN {
        masks.hide(mount, name)?;
    }
    for name in READ_ONLY {
        write_protect(mount, name)?;
    }
    Ok(())
}

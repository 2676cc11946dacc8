//! Going last: the lowest priority for processor and disk.

use super::{Error, sys};

/// Gives this process, and the threads that it starts from now on, the lowest priority: nice 19,
/// and the disk only where nobody else wants it (ioprio_set(2), idle; what the disk's scheduler
/// makes of that is its own affair).
pub fn lowest() -> Result<(), Error> {
    let failed = |doing| move |source: std::io::Error| Error::Host { doing, source };
    let nice = rustix::process::nice(19);
    nice.map_err(|errno| failed("lower the priority")(errno.into()))?;
    let idle = sys::ioprio_idle();
    idle.map_err(|errno| failed("lower the priority for the disk")(errno.into()))
}

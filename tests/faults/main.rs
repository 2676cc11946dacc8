//! The program killed, and its disk failing, at each of its system calls; files torn, old and lost;
//! a full disk. After each: no image that has a name is lost, the next command works, and a prune
//! leaves nothing that `df` cannot explain.
//!
//! `RSTORE_TEST_FAULTS` says how many calls of each command are hit with each fault: a number (5),
//! spread evenly over those that change something, or `all`, which also kills at those that
//! change nothing. `make faults` is `all`; it takes hours, and says how many there were.

#[path = "../support/mod.rs"]
#[allow(
    dead_code,
    reason = "this binary needs a part of what the others share"
)]
mod support;

mod broken;
mod full;
#[cfg(target_arch = "x86_64")]
mod journal;
mod order;
mod scenario;
#[cfg(target_arch = "x86_64")]
mod syscalls;
#[cfg(target_arch = "x86_64")]
mod trace;

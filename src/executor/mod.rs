//! One process in a prepared root: namespaces, mounts, capabilities, seccomp. The only `unsafe`.
//!
//! There is no runtime and no daemon: [`Native::run`](Executor::run) clones a process into new
//! namespaces, and three processes play:
//!
//! ```text
//!   rstore (any thread)              init: PID 1 of the new namespace      the step's process
//!   ───────────────────              ────────────────────────────────      ──────────────────
//!   prepare: mounts, C strings,
//!   seccomp program, mount points
//!   clone3(PID|NS|IPC|UTS|CGROUP) ─► die with the parent thread
//!   "go" on a pipe ────────────────► attach mounts, pivot_root
//!                                    close every other descriptor
//!                                    clone ──────────────────────────────► session, limits,
//!   poll: output, cancel, pidfd      drop capabilities, reap               seccomp, user, cwd
//!     ◄── channel: (stage, errno) ──────────────────────────────────────── execve
//!     ◄── channel: wait status ───── its child ended: exit
//!   pidfd readable: all are dead     the kernel kills what is left
//!   remove mount-point stubs
//! ```
//!
//! # What holds
//! * **It all dies together.** The kernel kills a PID namespace with its init. Init dies with the
//!   thread that cloned it (`PR_SET_PDEATHSIG`; [`Executor::run`] blocks in that thread, so this
//!   is also the end of rstore, `kill -9` included). A parent that dies before init could ask for
//!   that never writes the "go" byte.
//! * **Mounts leave no trace.** Everything is mounted detached, by descriptor, and attached in
//!   init's own mount namespace: nothing to unmount, whoever is killed when.
//! * **The image chooses no path.** Mount points are resolved component by component with
//!   descriptors that never leave the root (`resolve`); mounts go from descriptor to descriptor.
//! * **After clone, only system calls.** rstore may have threads, and one of them may have held
//!   malloc's lock: between clone and execve nothing allocates, locks or panics. What could need
//!   memory is prepared before; what fails comes back over a typed channel as numbers, and is
//!   told in words by the parent (`channel`).
//! * **A step holds no descriptor of ours**: init closes all but its channel and the step's three
//!   streams, so a step also cannot keep a lease's lock.
//!
//! # Where to look
//! | file | owns |
//! |---|---|
//! | `step`, `error`, `cancel` | what goes in and comes out |
//! | `native` | the parent: prepare, clone, watch, reap |
//! | `prepare` | everything that is made before clone |
//! | `resolve`, `stubs` | mount points in a root that an image filled; those that were missing |
//! | `init`, `process` | the two children |
//! | `console` | a terminal for a step, and the caller's behind it |
//! | `channel`, `explain` | what the children say, and what it means |
//! | `mounts/*` | proc, sys, dev, the caller's mounts; masking |
//! | `owners` | a view of somebody's files as root's |
//! | `capabilities`, `seccomp/*` | what a step may do |
//! | `userns/*` | doing all this without root |
//! | `sys` | raw system calls |

mod cancel;
mod capabilities;
mod channel;
mod console;
mod error;
mod explain;
mod init;
mod mounts;
mod native;
mod owners;
mod prepare;
mod process;
mod resolve;
mod seccomp;
mod step;
mod sys;

pub mod memory;
pub mod priority;
pub mod signals;
pub mod stubs;
pub mod userns;

pub use cancel::Cancel;
pub use console::Console;
pub use error::Error;
pub use native::Native;
pub use owners::as_roots;
pub use step::{
    DEFAULT_PATH, DEFAULT_SHM_SIZE, Executor, Exit, Mount, Network, Outcome, Resource, Security,
    Source, Stdin, Step, Stream, User,
};

//! Real images, built by the real program, held against the kernel and against other tools.
//!
//! One binary, so that what the tests share is linked once. `make test` runs them all; root runs
//! more of them than others do, and what is left out says `SKIP`.

#[path = "../support/mod.rs"]
mod support;

mod add_remote;
mod bad_input;
mod cache;
mod cache_mounts;
mod check;
mod configuration;
mod contexts;
mod copy_flags;
mod debian;
mod files;
mod foreign_writers;
mod interrupts;
mod journal;
mod kill9;
mod lifecycle;
mod mounts;
mod multistage;
mod outputs;
mod peers;
mod platforms;
mod prune_policies;
mod referrers;
mod registry;
mod registry_cache;
mod registry_faults;
mod registry_mirrors;
mod registry_prune;
mod registry_transfers;
mod registry_trust;
mod rootless;
mod round_trips;
mod same_step;
mod save;
mod secrets;
mod shared_cache;
mod shell;
mod steps;
mod terminal;
mod torture;
mod transfers;

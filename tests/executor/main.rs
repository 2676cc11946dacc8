//! Steps run for real: namespaces, mounts, capabilities, output, death.
//!
//! The root is busybox and nothing else. What needs privileges that we lack is skipped loudly,
//! and fails under `RSTORE_TEST_NO_SKIP=1`.

mod console;
mod death;
mod mounts;
mod process;
mod rootless;
mod sandbox;
mod speed;
mod support;

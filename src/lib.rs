//! rstore: builds container images without a daemon, and cleans up after itself.
pub mod executor;
pub mod fsutil;
pub mod lock;
pub mod oci;
pub mod snapshot;

//! rstore: builds container images without a daemon, and cleans up after itself.
pub mod dockerfile;
pub mod fsutil;
pub mod lock;
pub mod oci;

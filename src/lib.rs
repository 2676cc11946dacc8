//! rstore: builds container images without a daemon, and cleans up after itself.
pub mod fsutil;
pub mod layer;
pub mod lock;
pub mod oci;

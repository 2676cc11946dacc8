//! rstore builds container images without a daemon, keeps them in one OCI image layout, and cleans
//! up after itself.
pub mod catalog;
//! rstore: builds container images without a daemon, and cleans up after itself.
pub mod executor;
pub mod dockerfile;
pub mod fsutil;
pub mod layout;
pub mod layer;
pub mod lock;
pub mod oci;
pub mod snapshot;

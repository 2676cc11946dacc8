//! rstore builds container images without a daemon, keeps them in one OCI image layout, and cleans
//! up after itself.
pub mod archive;
pub mod build;
pub mod catalog;
pub mod dockerfile;
pub mod executor;
pub mod fsutil;
pub mod layer;
pub mod layout;
pub mod lock;
pub mod oci;
pub mod snapshot;
pub mod store;

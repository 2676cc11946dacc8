//! rstore builds container images without a daemon, keeps them in one OCI image layout, and cleans
//! up after itself.
pub mod catalog;
pub mod fsutil;
pub mod gc;
pub mod graph;
pub mod layout;
pub mod lock;
pub mod oci;

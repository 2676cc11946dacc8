//! rstore builds container images without a daemon, keeps them in one OCI image layout, and cleans
//! up after itself.
//!
//! The map of the house; a module imports only from rows above its own (`tests/layering.rs`):
//!
//! | module | owns |
//! |---|---|
//! | [`words`] | how far apart two words are, for "did you mean" |
//! | [`fsutil`] | errors that carry paths, atomic replacement, opens that cannot leave a directory |
//! | [`lock`] | file locks; the only place that locks |
//! | [`oci`] | digests, strict documents, configs, image names |
//! | [`layout`] | the OCI layout: blobs and tags |
//! | [`catalog`] | what SQLite knows of the layout: edges, images, leases, cache |
//! | [`graph`] | images and layers in memory: who descends from whom, who keeps what |
//! | [`gc`] | what is alive, what a prune removes and why, and removing it |
//! | [`fsck`] | checking a store, and repairing it |
//! | [`layer`] | directory ↔ layer |
//! | [`snapshot`] | unpacked layers as mounted file systems |
//! | [`store`] | one opened store: what every command holds |
//! | [`executor`] | one process in a prepared root; the only `unsafe` |
//! | [`http`] | how other machines are asked: agents, trust, proxies, URLs |
//! | [`dockerfile`] | text → typed instructions; pure |
//! | [`registry`] | images from registries and to them: protocol, credentials, pull, push |
//! | [`build`] | instructions → steps → cached or run → image |
//! | [`archive`] | docker-archive, oci-archive, root file systems: in and out |
//! | [`cli`] | arguments, tables, trees, bars, exit codes |
pub mod archive;
pub mod build;
pub mod catalog;
pub mod cli;
pub mod dockerfile;
pub mod executor;
pub mod fsck;
pub mod fsutil;
pub mod gc;
pub mod graph;
pub mod http;
pub mod layer;
pub mod layout;
pub mod lock;
pub mod oci;
pub mod registry;
pub mod snapshot;
pub mod store;
pub mod words;

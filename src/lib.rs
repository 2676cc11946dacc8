//! rstore builds container images without a daemon, keeps them in one OCI image layout, and cleans
//! up after itself.
//!
//! # The map
//! A module imports only from rows above its own; `tests/layering.rs` holds the house to it.
//!
//! | module | owns |
//! |---|---|
//! | `fsutil` | errors that carry paths, atomic replace, allocated size, opens that stay beneath |
//! | `lock` | shared and exclusive guards; the only place that locks |
//! | `oci` | digests, media types, documents and the links out of them, image names |
//! | `layout` | the OCI layout: blobs by digest, tags in `index.json` |
//! | `catalog` | SQLite: what is known of the layout, and what only we know; resync |
//! | `graph` | the images and layers in memory: parents, classes, sizes, paths from a root |
//! | `gc` | roots, marking, policies, the plan, the sweep |
//! | `fsck` | checks as findings, repair |
//! | `layer` | directory to layer and back |
//! | `snapshot` | overlays over unpacked layers |
//! | `store` | one opened store: what every command holds |
//! | `executor` | one process in a prepared root; the only `unsafe` |
//! | `dockerfile` | text to typed instructions; no I/O |
//! | `build` | instructions to a graph of steps to an image |
//! | `registry` | the distribution protocol |
//! | `archive` | docker-archive, oci-archive, root file systems |
//! | `cli` | arguments, tables, trees, progress, exit codes; the only one that speaks |
//!
//! # Where to begin
//! A build is [`dockerfile`] → [`build`] → [`executor`] → [`layer`] → [`store`]. A prune is
//! [`store`] → `graph` → `gc`. What is on the disk is drawn in [`store`] and [`layout`].
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

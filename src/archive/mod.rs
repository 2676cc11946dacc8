//! Images in and out of files: docker-archive, oci-archive, OCI layout directories, and root file
//! systems.
//!
//! In:
//!
//! ```text
//! file, stdin ─▶ decompress ─▶ TarReader ─▶ members ─┬─▶ manifest.json, index.json   in memory
//!                (any format)               │        ├─▶ blobs/sha256/HEX            ingest, digest checked
//!                                           │        ├─▶ layers                      ingest, packed as they come
//!                                           │        └─▶ configs, links              ingest, a name
//!                                           ▼
//! directory ──────────────────────────▶ walk from the index ─▶ verified set ─▶ publish ─▶ record ─▶ tag
//! ```
//!
//! Out:
//!
//! ```text
//! manifest, index ─▶ Package ─▶ blobs, verified as they are read ─┬─▶ Target: a file, stdout
//! layers ──────────▶ merge ───▶ entries of the root file system ──┼─▶ Target
//!                                                                 └─▶ a directory
//! ```
//!
//! What holds on the way out: nothing is copied whole before it is written; a file appears whole
//! or not at all; the same images give the same bytes.
//!
//! What holds on the way in:
//! - One pass: the source may be a pipe, its members in any order. What is needed later waits in
//!   `ingest/`, named after the lease; memory holds names, never contents.
//! - Nothing is published before all that the archive names was found and verified, so a bad
//!   archive leaves the store as it was. Tags come last, all in one replacement of the index.
//! - OCI documents and blobs stay byte for byte what they were. From a docker-archive the config
//!   stays, and with it the image's ID; the manifest is ours, since it has none.
//! - Member names are keys of a map and never paths of this machine: no name leads anywhere.
//! - Two different members of one name are an error: what an archive says must not depend on who
//!   reads it.
//!
//! | file | owns |
//! |---|---|
//! | [`error`] | what can be wrong with an archive, and in which member |
//! | [`import`] | a root file system becomes an image of one layer |
//! | [`load`] | which kind of archive it is; publishing what was verified |
//! | [`package`] | images → docker-archive, oci-archive, layout directory |
//! | [`rootfs`] | an image's files → tar archive, directory |
//! | [`target`] | where an archive goes |
//! | `members` | one pass over the archive: what waits for later, and where |
//! | `spool` | a member's bytes on their way to `ingest/` |
//! | `docker` | manifest.json → images |
//! | `oci` | index.json → verified documents and blobs, from an archive or a directory |
//! | `directory` | a layout directory as a source of blobs |
//! | `names` | which names an image gets |
//! | `choose` | one image of a layout directory or an archive, for a build or a copy |
//! | `about` | signatures and what else a layout or an archive has about it |

mod about;
mod choose;
mod directory;
mod docker;
pub mod error;
pub mod import;
pub mod load;
mod members;
mod names;
mod oci;
pub mod package;
pub mod rootfs;
mod spool;
pub mod target;

pub use choose::{take_from_archive, take_from_layout};
pub use error::{Error, Problem, Result};
pub use import::{ImportOptions, import};
pub use load::{LoadOptions, Loaded, LoadedImage, load, load_path};
pub use package::{Package, Saved};
pub use target::Target;

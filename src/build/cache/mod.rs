//! The build cache outside of the store: what `--cache-to` writes and `--cache-from` reads.
//!
//! ```text
//! manifest   OCI image manifest, artifactType application/vnd.rstore.cache.v1
//!  ├─ config application/vnd.rstore.cache.records.v1+json: the records, and every document
//!  └─ layers the layers of the images, each an ordinary OCI layer blob with its own media type
//! ```
//! That is an OCI artifact (image-spec, manifest.md, "Guidelines for Artifact Usage"): any registry
//! stores it, any tool copies it, and nothing in it has to be known to them. `type=local` keeps it
//! in an OCI image layout, under a tag, beside whatever else is there.
//!
//! **The records** are one JSON document, so that one read tells everything:
//!
//! ```json
//! { "version": 1,
//!   "steps":      [{ "key": "sha256:…", "image": "sha256:…" }],
//!   "selections": [{ "key": "sha256:…", "content": "sha256:…" }],
//!   "documents":  { "sha256:…": "{\"schemaVersion\":2,…" } }
//! ```
//! | member | says |
//! |---|---|
//! | `steps` | the step with this cache key ([`key`](super::key)) gave the image with this manifest |
//! | `selections` | what a COPY selects from an image had this content, so that the image's layers need not be read to know it |
//! | `documents` | the manifests and configs of these images, byte for byte, by digest |
//!
//! Keys chain by image IDs, and an ID is the digest of a config: with the configs come the same IDs,
//! and so the same keys, whenever and wherever the images were made. Configs and manifests are
//! here, and not blobs of their own, because they are small and all are needed; a layer is fetched
//! when something stands on it. `mode=min` has the layers of the result only, `mode=max` those of
//! every stage; the records are the same.
//!
//! **Versions.** A reader leaves alone what has another `version` or another artifactType, with a
//! warning. What changes the meaning of a key changes the key: an older or newer program's records
//! are simply never asked for. Members that are not known are ignored.
//!
//! **Trust.** Naming a cache is believing it, for that build and no other:
//! - Everything is verified: documents by digest, layers by digest, size and diff ID.
//! - A record can only claim what its step leaves open. The image must have the configuration and
//!   the platform that the Dockerfile gives it, the history of the parent and this step, and the
//!   layers of the parent and at most one more. A selection is believed of images of the same cache.
//! - Taken images become images of the store, but never cache records of it: another build, which
//!   does not name the cache, runs the step. (Steps that this build runs on them are recorded: their
//!   keys have the taken image's ID in them, which no other build comes to.)
//! - What is missing, torn or wrong is warned of, and then the step is run as if there were no
//!   cache. Nothing of a cache fails a build.

pub mod directory;
pub mod export;
pub mod import;
pub mod records;

pub use export::export;
pub use import::{Imports, Taken};
pub use records::Records;

use std::io::Read;
use std::path::PathBuf;

use crate::oci::Digest;

/// The artifactType of a cache.
pub const ARTIFACT: &str = "application/vnd.rstore.cache.v1";
/// The media type of its config.
pub const RECORDS: &str = "application/vnd.rstore.cache.records.v1+json";
/// The tag of a cache that nobody gave another one.
pub const DEFAULT_TAG: &str = "latest";

/// A cache to take steps from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFrom {
    /// An OCI image layout.
    pub source: PathBuf,
    /// Which of the caches in it.
    pub which: Which,
}

/// One of the caches in a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By its tag.
    Tag(String),
    /// By the digest of its manifest.
    Digest(Digest),
}

/// A cache to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTo {
    /// An OCI image layout; made if it is not there.
    pub destination: PathBuf,
    /// Its tag there.
    pub tag: String,
    /// The layers that it has.
    pub mode: Mode,
    /// A failed export is a warning.
    pub ignore_error: bool,
}

/// Which layers a cache has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Those of the result.
    #[default]
    Min,
    /// Those of every stage.
    Max,
}

/// Where the blobs of a cache are read from. Nothing that it gives is believed.
pub trait Source: Send + Sync {
    /// The bytes of a blob; `None`: it is not there.
    fn open(&self, digest: &Digest) -> std::io::Result<Option<Box<dyn Read + Send>>>;
}

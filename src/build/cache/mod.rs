//! The build cache outside of the store: what `--cache-to` writes and `--cache-from` reads.
//!
//! ```text
//! manifest   OCI image manifest, artifactType application/vnd.rstore.cache.v1
//!  ├─ config application/vnd.rstore.cache.records.v1+json: the records, and every document
//!  └─ layers the layers of the images, each an ordinary OCI layer blob with its own media type
//! ```
//! That is an OCI artifact (image-spec, manifest.md, "Guidelines for Artifact Usage"): any registry
//! stores it, any tool copies it, and nothing in it has to be known to them. `type=local` keeps it
//! in an OCI image layout, under a tag, beside whatever else is there ([`directory`]);
//! `type=registry` in a repository, under a tag, and there with the time at which it was written
//! ([`remote`]), by which [`retention`] says what of it may go. The records and who judges them are
//! the same.
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
//! ```text
//! Source ─ manifest, records ─▶ Imports ─ what a step is offered (in memory)
//!   │                              └─ take: what something stands on
//!   └─ layers ─────────────────────────▶ store, pinned, each verified
//! ```
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
pub mod remote;
pub mod retention;

pub use export::export;
pub use import::{Imports, Taken};
pub use records::Records;

use std::path::{Path, PathBuf};

use crate::build::event::{Event, Sink};
use crate::executor::Cancel;
use crate::oci::document::Descriptor;
use crate::oci::{Digest, Reference};
use crate::registry::Client;
use crate::store::{self, LayerBlob, Lease, Offered};

/// The artifactType of a cache.
pub const ARTIFACT: &str = "application/vnd.rstore.cache.v1";
/// The media type of its config.
pub const RECORDS: &str = "application/vnd.rstore.cache.records.v1+json";
/// The tag of a cache that nobody gave another one.
pub const DEFAULT_TAG: &str = "latest";

/// A cache to take steps from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheFrom {
    /// In a directory.
    Directory {
        /// An OCI image layout.
        source: PathBuf,
        /// Which of the caches in it.
        which: Which,
    },
    /// In a registry: a tag or a digest of a repository.
    Registry(Reference),
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
    /// Where to.
    pub destination: Destination,
    /// The layers that it has.
    pub mode: Mode,
    /// A failed export is a warning.
    pub ignore_error: bool,
}

/// Where a cache is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A directory.
    Directory {
        /// An OCI image layout; made if it is not there.
        path: PathBuf,
        /// Its tag there.
        tag: String,
    },
    /// A tag of a repository.
    Registry(Reference),
}

impl std::fmt::Display for CacheFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CacheFrom::Directory { source, .. } => source.display().fmt(f),
            CacheFrom::Registry(reference) => f.write_str(&reference.full()),
        }
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::Directory { path, .. } => path.display().fmt(f),
            Destination::Registry(reference) => f.write_str(&reference.full()),
        }
    }
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

/// What caches are read and written with.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// Pins what is taken in.
    pub lease: &'a Lease<'a>,
    /// Who asks registries; `None`: nobody does.
    pub client: Option<&'a Client>,
    /// Ends what waits for a network.
    pub cancel: &'a Cancel,
    /// Hears what is moved, and warnings.
    pub sink: &'a dyn Sink,
}

impl Around<'_> {
    /// Tells something that should be known.
    pub fn warn(&self, message: String) {
        self.sink.event(Event::Warning { message });
    }
}

/// A layer of an image that a cache offers.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What it must be.
    pub layer: LayerBlob,
    /// The step that made it, as far as anybody says.
    pub step: Option<String>,
}

/// Where a cache is read from. Nothing that it gives is believed; what is wrong is said in words.
pub trait Source: Send + Sync {
    /// The bytes of its manifest.
    fn manifest(&self) -> Result<Vec<u8>, String>;

    /// The bytes of its records, which have this digest then.
    fn records(&self, records: &Descriptor, around: Around) -> Result<Vec<u8>, String>;

    /// Takes layers into the store, and says of each in turn what became of it; the answer may end
    /// with the first that is refused. No two have the same digest.
    fn take(&self, wanted: &[Wanted], around: Around) -> Result<Vec<Offered>, store::Error>;

    /// A file with what is said to be a layer, to be copied to another cache; `None`: there is none.
    fn copy(&self, layer: &Descriptor, around: Around) -> Result<Option<LayerFile>, store::Error>;

    /// Whether nothing more can be had of it, whatever lies there.
    fn has_failed(&self) -> bool {
        false
    }

    /// The registry and the repository that it is in.
    fn repository(&self) -> Option<(&str, &str)> {
        None
    }
}

/// A file with a layer's bytes, of which nothing is believed.
#[derive(Debug)]
pub struct LayerFile {
    path: PathBuf,
    /// Whether nobody needs it afterwards.
    passing: bool,
}

impl LayerFile {
    /// One that goes when the value does.
    fn passing(path: PathBuf) -> LayerFile {
        let passing = true;
        LayerFile { path, passing }
    }

    /// One that stays where it is.
    fn lasting(path: PathBuf) -> LayerFile {
        let passing = false;
        LayerFile { path, passing }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LayerFile {
    fn drop(&mut self) {
        if self.passing {
            // What stays is debris of this build, and goes with the next prune.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

//! One opened store: layout, catalog, leases, snapshots. What every command holds.
//!
//! ```text
//! Store ── layout    index.json, blobs/            the truth
//!       ├─ catalog   rstore/catalog.db             what is known of it
//!       └─ Lease     rstore/leases/ID, locked      what this process is using:
//!            ├─ publish   blobs, images            pinned before they appear
//!            ├─ cached    cache hits               pinned before they are relied on
//!            ├─ snapshots unpacked layers          pinned before a step stands on them
//!            ├─ cache_mounts RUN --mount=type=cache  locked while a step has them
//!            └─ containers, ingest                 named after the lease, so that whoever
//!                                                  finds it dead knows what to remove
//! ```
//!
//! Opening takes in what changed behind our back: a new or lost catalog is made from the layout, a
//! changed `index.json` is read. What had to be done is told by [`Store::notices`].
//!
//! **Order of writes.** A row before its file: a blob is recorded and pinned, then renamed into
//! place; its image is offered to the cache after that. A crash in between leaves rows without
//! files, which a prune forgets, and never a file that nobody knows. Tags are last of all, after
//! everything they reach was fsynced ([`tags`]).
//!
//! The library reads neither clock nor environment: a [`Host`] answers for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catalog::tags::Salvage;
use crate::catalog::{self, Catalog, Millis, sync};
use crate::fsutil;
use crate::layout::{self, Layout};
use crate::lock::FileLock;

pub mod adopt;
pub mod cache_mounts;
pub mod containers;
pub mod images;
pub mod layers;
pub mod lease;
pub mod partial;
pub mod publish;
pub mod referrers;
pub mod snapshots;
pub mod steps;
pub mod tags;

pub use adopt::Offered;
pub use cache_mounts::{CacheMount, CacheMountRequest, CacheSharing};
pub use containers::Container;
pub use images::Image;
pub use layers::ImageLayers;
pub use lease::Lease;
pub use partial::{Held, Partial, Settled};
pub use publish::{LayerBlob, NewImage};
pub use snapshots::Lower;
pub use steps::StepLock;

/// What the process's surroundings answer: time, chance, identity.
pub trait Host: Send + Sync {
    /// Milliseconds since the epoch.
    fn now(&self) -> Millis;
    /// Sixteen bytes that nobody else has drawn.
    fn random(&self) -> [u8; 16];
    /// Names this boot of the machine: what was not fsynced under another one may be lost.
    fn boot(&self) -> &str;
    /// The ID map of this process's files' owners: `host`, or that of a user namespace.
    fn owners(&self) -> &str;
    /// Who acts, for the journal.
    fn actor(&self) -> catalog::journal::Actor {
        catalog::journal::Actor::default()
    }
}

/// Why the store cannot do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] fsutil::Error),
    /// The layout said no.
    #[error(transparent)]
    Layout(#[from] layout::Error),
    /// The catalog said no.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// A layer cannot be packed or unpacked.
    #[error("layer {digest}: {source}")]
    Layer {
        /// The layer's blob.
        digest: crate::oci::Digest,
        /// What is wrong with it.
        #[source]
        source: crate::layer::Error,
    },
    /// What layers come to cannot be taken where it was to go.
    #[error(transparent)]
    Merge(#[from] crate::layer::Error),
    /// An overlay cannot be mounted.
    #[error(transparent)]
    Overlay(crate::snapshot::overlay::Error),
    /// A document cannot be understood.
    #[error("{digest}: {source}")]
    Document {
        /// The document.
        digest: crate::oci::Digest,
        /// What is wrong with it.
        #[source]
        source: crate::oci::document::Error,
    },
    /// There is no store, and the command makes none.
    #[error("there is no store at {}; `rstore build`, `pull`, `load` or `import` make one, --root names another", path.display())]
    NoStore {
        /// The directory.
        path: PathBuf,
    },
    /// No image has this name or ID.
    #[error("no image is called {name:?}{}", near(.nearest))]
    UnknownImage {
        /// What was asked for.
        name: String,
        /// The tag that reads most like it.
        nearest: Option<String>,
    },
    /// Several images have an ID that starts so.
    #[error("{prefix:?} is the beginning of several image IDs: {}", .candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// The IDs.
        candidates: Vec<String>,
    },
    /// Several containers have an ID that starts so.
    #[error("{prefix:?} is the beginning of several container IDs: {}", .candidates.join(", "))]
    AmbiguousContainer {
        /// What was asked for.
        prefix: String,
        /// The IDs.
        candidates: Vec<String>,
    },
    /// No container has this ID.
    #[error("there is no container {id} any more; `rstore ps` lists those that there are")]
    UnknownContainer {
        /// The ID.
        id: String,
    },
    /// Somebody else has the container.
    #[error("the container {id} is in use by {by}; try again when that has ended")]
    ContainerBusy {
        /// The ID.
        id: String,
        /// By whom.
        by: String,
    },
    /// A build was killed while a step ran in the container.
    #[error(
        "the build that ran the container {id} was killed, and what it left is not whole; `rstore prune` removes it"
    )]
    ContainerDead {
        /// The ID.
        id: String,
    },
    /// An index has no image for the platform.
    #[error("image {name:?} has no variant for {wanted}; it has {}", .found.join(", "))]
    NoPlatform {
        /// The image.
        name: String,
        /// The platform that was asked for.
        wanted: String,
        /// Those that there are.
        found: Vec<String>,
    },
    /// Not an image name.
    #[error(transparent)]
    Name(#[from] crate::oci::reference::ParseReferenceError),
    /// The thing is something else than was asked for.
    #[error("{what} is not an image: {why}")]
    NotAnImage {
        /// The digest or name.
        what: String,
        /// What it is.
        why: String,
    },
}

fn near(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name:?}?"),
        None => "; `rstore images -a` lists what there is".to_owned(),
    }
}

impl From<layout::blobs::Error> for Error {
    fn from(error: layout::blobs::Error) -> Error {
        Error::Layout(error.into())
    }
}

impl Error {
    /// Whether the disk, its inodes or a quota are exhausted.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::Io(error) => error.is_no_space(),
            Error::Layout(layout::Error::Io(error))
            | Error::Layout(layout::Error::Blob(layout::blobs::Error::Io(error)))
            | Error::Layout(layout::Error::Index(layout::index::Error::Io(error))) => {
                error.is_no_space()
            }
            Error::Catalog(error) => error.is_no_space(),
            Error::Layer { source, .. } | Error::Merge(source) => source.is_no_space(),
            _ => false,
        }
    }

    /// Whether stored bytes are missing or wrong.
    pub fn is_corruption(&self) -> bool {
        match self {
            Error::Layout(layout::Error::Blob(error)) => error.is_damage(),
            Error::Layout(layout::Error::Torn { .. }) => true,
            Error::Layout(layout::Error::Index(
                layout::index::Error::Invalid { .. } | layout::index::Error::Missing { .. },
            )) => true,
            Error::Catalog(catalog::Error::Layout(layout::Error::Index(
                layout::index::Error::Invalid { .. } | layout::index::Error::Missing { .. },
            ))) => true,
            Error::Catalog(error) => error.is_damage(),
            Error::Layer { source, .. } => source.is_bad_layer(),
            Error::Document { .. } => true,
            _ => false,
        }
    }
}

/// What the functions of this module return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Something that opening had to do and that people should hear of once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// There was no catalog for a layout that has blobs: it was made from them.
    CatalogBuilt {
        /// How many blobs were taken in.
        blobs: usize,
    },
    /// `index.json` was missing: it was made again from the catalog's mirror of it.
    IndexRestored {
        /// How many entries it has.
        entries: usize,
    },
    /// The catalog was torn: it was moved away and made again.
    CatalogRebuilt {
        /// Where the torn one is.
        moved_to: PathBuf,
        /// What SQLite said of it.
        why: String,
    },
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Notice::CatalogBuilt { blobs } => write!(
                f,
                "the store has no catalog: made one from its {blobs} blobs (cache and history start anew)"
            ),
            Notice::IndexRestored { entries } => write!(
                f,
                "index.json was missing: made again from the catalog, with {entries} entries; check it against `rstore images`"
            ),
            Notice::CatalogRebuilt { moved_to, why } => write!(
                f,
                "the catalog was damaged ({why}): made a new one from the blobs; the old one is {}",
                moved_to.display()
            ),
        }
    }
}

/// Whether opening may make a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An absent or empty directory becomes a store.
    Create,
    /// It must be there.
    Existing,
}

/// One opened store.
pub struct Store {
    layout: Layout,
    catalog: Catalog,
    host: Arc<dyn Host>,
    notices: Vec<Notice>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("root", &self.layout.root())
            .finish_non_exhaustive()
    }
}

/// The directories below `rstore/`.
pub const DIRECTORIES: [&str; 6] = [
    "leases",
    "ingest",
    "snapshots",
    "containers",
    "cache-mounts",
    "quarantine",
];

/// From how many pages of 4 KiB on the catalog's log is moved into its file at the end of a command.
/// Each command that finds no other at work reads all of it: a megabyte takes half a millisecond.
const LONG_LOG: i64 = 256;

impl Store {
    /// Opens the store at `root`, and takes in what changed.
    pub fn open(root: &Path, mode: OpenMode, host: Arc<dyn Host>) -> Result<Store> {
        let new = !Layout::exists(root);
        let layout = match mode {
            OpenMode::Create => Layout::open_or_create(root)?,
            OpenMode::Existing if Layout::exists(root) => Layout::open(root)?,
            OpenMode::Existing => {
                // A directory that may not be looked into is not one that is not there.
                if let Err(error) = std::fs::metadata(root.join("oci-layout"))
                    && error.kind() == std::io::ErrorKind::PermissionDenied
                {
                    return Err(fsutil::Error::new("open", root, error).into());
                }
                return Err(Error::NoStore {
                    path: root.to_path_buf(),
                });
            }
        };
        for directory in DIRECTORIES {
            let path = layout.private().join(directory);
            if !path.is_dir() {
                fsutil::create_dir_all(&path)?;
            }
        }
        if new {
            crate::gc::reserve::ensure(&layout.private())?;
            // Made while there is room, for a prune that comes when there is none.
            FileLock::try_exclusive(&layout.private().join("prune.lock"))?;
        }
        let mut notices = Vec::new();
        let mut salvage = Salvage::default();
        let mut catalog = open_catalog(&layout, host.as_ref(), &mut notices, &mut salvage)?;
        catalog.act_as(host.actor());
        let store = Store {
            layout,
            catalog,
            host,
            notices,
        };
        store.take_in(&salvage)
    }

    fn take_in(mut self, salvage: &Salvage) -> Result<Store> {
        let now = self.now();
        if let Some(entries) = self.restore_index()? {
            self.notices.push(Notice::IndexRestored { entries });
        }
        // Of a new catalog, whoever made it: fsck does too.
        if self
            .catalog
            .read(|tx| tx.meta(cache_mounts::ADOPTED))?
            .is_none()
        {
            self.adopt_cache_mounts()?;
        }
        if !sync::is_built(&self.catalog)? {
            let blobs = sync::build(&self.catalog, &self.layout, now)?;
            salvage.pin_again(&self.catalog, now)?;
            if self.notices.is_empty() && blobs > 0 {
                self.notices.push(Notice::CatalogBuilt { blobs });
            }
        } else {
            sync::index(&self.catalog, &self.layout, now)?;
        }
        Ok(self)
    }

    /// Takes in what other tools put into `blobs/` or took out of it. Commands that speak of all
    /// blobs do this first; it costs a `stat` where nothing changed.
    pub fn scan(&self) -> Result<sync::Scanned> {
        Ok(sync::scan(&self.catalog, &self.layout, self.now())?)
    }

    /// What opening had to do.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        self.layout.root()
    }

    /// The layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The surroundings.
    pub fn host(&self) -> &dyn Host {
        self.host.as_ref()
    }

    /// Milliseconds since the epoch.
    pub fn now(&self) -> Millis {
        self.host.now()
    }

    /// A path below `rstore/`.
    pub fn private(&self, directory: &str) -> PathBuf {
        self.layout.private().join(directory)
    }

    /// Like [`write`](Store::write), for what a command writes last: a log that has become long is
    /// moved into the catalog's file before, and begun anew, so that commands which come after open
    /// it fast.
    pub fn last_write<T>(
        &self,
        body: impl FnOnce(&catalog::Writer) -> std::result::Result<T, catalog::WriteError<Error>>,
    ) -> Result<T> {
        self.catalog.fold_long_log(LONG_LOG)?;
        self.catalog.write(body)
    }

    /// Runs `body` in one write transaction of the catalog.
    pub fn write<T>(
        &self,
        body: impl FnOnce(&catalog::Writer) -> std::result::Result<T, catalog::WriteError<Error>>,
    ) -> Result<T> {
        self.catalog.write(body)
    }
}

fn open_catalog(
    layout: &Layout,
    host: &dyn Host,
    notices: &mut Vec<Notice>,
    salvage: &mut Salvage,
) -> Result<Catalog> {
    let path = layout.private().join("catalog.db");
    match Catalog::open(&path) {
        Err(error) if error.is_damage() => {}
        other => return Ok(other?),
    }
    // A prune at work goes on with the old catalog, and would know nothing of who uses a new one.
    let prune = crate::gc::execute::lock(layout);
    // Of several that notice at once, the first moves it away; the others find a whole one.
    let _lock = layout.lock_index()?;
    let why = match Catalog::open(&path) {
        Err(error) if error.is_damage() && prune.is_ok() => error.to_string(),
        other => return Ok(other?),
    };
    *salvage = Salvage::read(&path);
    let moved_to = catalog::move_away(&path, &layout.private().join("quarantine"), host.now())?;
    notices.push(Notice::CatalogRebuilt { moved_to, why });
    Ok(Catalog::open(&path)?)
}

//! Where every byte below the root is: what `df` shows. The total is what `du` sees.

use std::collections::BTreeMap;

/// A row of `df`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum UsageKind {
    /// Manifests and configs of tagged and pinned images, members and referrers included.
    Images,
    /// Those of intermediate images.
    Intermediates,
    /// Those of stage images.
    Stages,
    /// Those of dangling images and of images in use.
    Dangling,
    /// Layers.
    Layers,
    /// Blobs that are none of these.
    Others,
    /// Unpacked layers.
    Snapshots,
    /// Records of the build cache; their bytes are the catalog's.
    Cache,
    /// Directories of `RUN --mount=type=cache`.
    CacheMounts,
    /// Intermediate containers.
    Containers,
    /// Files being written, or left half written.
    Temporary,
    /// Blobs that `fsck` moved away.
    Quarantine,
    /// The catalog, index.json, locks, the reserve, the directories themselves.
    Overhead,
    /// What is there and belongs to nothing.
    Unaccounted,
}

/// One row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct UsageRow {
    /// How many there are.
    pub total: u64,
    /// How many of them something holds.
    pub active: u64,
    /// Allocated bytes.
    pub size: u64,
    /// Bytes that the widest prune of this kind would free: by itself for dangling images,
    /// layers, containers, temporary files; with `--stages`, `--intermediates`, `--snapshots`,
    /// `--cache-mounts` for those.
    pub reclaimable: u64,
}

/// Where every byte is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// The rows.
    pub rows: BTreeMap<UsageKind, UsageRow>,
    /// All allocated bytes below the root.
    pub total: u64,
}

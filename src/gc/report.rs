//! What a prune has done.

use super::plan::Totals;

/// How far a prune has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Items done.
    pub items: u64,
    /// Of how many.
    pub of_items: u64,
    /// Bytes freed.
    pub freed: u64,
    /// Of how many.
    pub of_freed: u64,
}

/// Something that could not be removed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Failure {
    /// What.
    pub id: String,
    /// Why.
    pub why: String,
}

/// What a prune has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// What went.
    pub removed: Totals,
    /// Tags that went.
    pub untagged: Vec<String>,
    /// What was planned and stayed, because something has begun to need it.
    pub rescued: u64,
    /// What could not be removed; it stays condemned, and the next prune tries again.
    pub failures: Vec<Failure>,
    /// How the free bytes of the file system changed, with all that others did meanwhile.
    pub measured: i64,
    /// How the bytes of the catalog and of index.json changed: on a quiet store `measured` and
    /// this together are `removed.freed`.
    pub overhead: i64,
    /// Whether it was told to stop before the end.
    pub stopped: bool,
}

impl Report {
    /// What went, in words: `3 images, 7 layers`.
    pub fn words(&self) -> String {
        self.removed.words()
    }
}

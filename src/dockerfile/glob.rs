//! Go's `filepath.Match`: the wildcards of COPY and ADD.

/// A malformed pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad pattern {pattern:?}: a [ without its ], an empty range, or a \\ at the end")]
pub struct BadPattern {
    /// The pattern.
    pub pattern: String,
}

/// Whether `name` matches `pattern` as a whole; no wildcard matches a `/`.
pub fn matches(_pattern: &str, _name: &str) -> Result<bool, BadPattern> {
    todo!()
}

/// Whether `path` holds a wildcard at all.
pub fn has_wildcard(_path: &str) -> bool {
    todo!()
}

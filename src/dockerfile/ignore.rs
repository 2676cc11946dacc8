//! `.dockerignore`.

/// The patterns of a `.dockerignore`.
#[derive(Debug, Clone, Default)]
pub struct IgnorePatterns {}

/// A pattern that doesn't parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {pattern:?} is not a pattern")]
pub struct IgnoreError {
    /// The line, from 1.
    pub line: u32,
    /// The pattern as written.
    pub pattern: String,
}

impl IgnorePatterns {
    /// Parses the text of a `.dockerignore`.
    pub fn parse(_text: &[u8]) -> Result<IgnorePatterns, IgnoreError> {
        todo!()
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Whether `path` (relative to the context, with `/`) is ignored, itself or by a parent.
    pub fn ignores(&self, _path: &str, _is_dir: bool) -> bool {
        todo!()
    }

    /// Whether something below the ignored directory `dir` may be taken in again by a `!`
    /// pattern; if not, a walk may leave the directory out.
    pub fn may_contain_exceptions_below(&self, _dir: &str) -> bool {
        todo!()
    }
}

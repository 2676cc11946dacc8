//! Expansion of variables in words, as BuildKit's shell lexer does it.

use std::collections::BTreeSet;

/// Answers a variable's value, or `None` if it isn't set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a word expanded to, and what that depended on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The word as one string, without quotes and escapes.
    pub text: String,
    /// What `text` is made of after splitting at unquoted white space.
    pub words: Vec<String>,
    /// The variables that were looked up and had a value.
    pub found: BTreeSet<String>,
    /// The variables that were looked up and had none.
    pub unset: BTreeSet<String>,
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// `"abc`.
    #[error("a double quote does not end in {word:?}")]
    UnendedDoubleQuote {
        /// The word.
        word: String,
    },
}

/// Expands `word`: quotes and escapes are taken off, variables replaced.
pub fn expand(_word: &str, _lookup: Lookup<'_>, _escape: char) -> Result<Expanded, ExpandError> {
    todo!()
}

/// Expands the content of a heredoc: quotes stay as they are, `\` escapes whatever the file's
/// escape character.
pub fn expand_heredoc(_content: &str, _lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
    todo!()
}

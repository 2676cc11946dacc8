//! Expansion of variables in words, as BuildKit's shell lexer does it.
//!
//! | written | gives |
//! |---|---|
//! | `$v` `${v}` | the value; nothing if unset |
//! | `${v:-word}` `${v-word}` | `word` if unset (with `:` also if empty) |
//! | `${v:+word}` `${v+word}` | `word` if set (with `:` and not empty) |
//! | `${v:?word}` `${v?word}` | an error saying `word` if unset (with `:` also if empty) |
//! | `${v#p}` `${v##p}` | the value without its shortest, longest prefix like `p` |
//! | `${v%p}` `${v%%p}` | the value without its shortest, longest suffix like `p` |
//! | `${v/p/r}` `${v//p/r}` | the first match of `p`, each match, replaced by `r` |
//! | `'…'` | itself |
//! | `"…"` | expanded, never split; `\` escapes `"`, `$` and itself |
//! | `\x` | `x` |
//!
//! `word`, `p` and `r` are expanded in turn. `$1`, `$@` and their like are variables that are
//! never set. The pattern's `*` and `?` match anything, also `/`; there are no brackets.
//!
//! One lexer serves all uses by [`Options`]: `expand` for arguments, `expand_heredoc` for the
//! bodies of `COPY <<EOF`, `expand_for_display` for what a progress display shows.
//!
//! Words are split after expansion: white space that came out of a variable separates, unless
//! the variable stood in double quotes.

use std::collections::BTreeSet;

mod lexer;
mod pattern;

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

/// A word that cannot be expanded, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot expand {}: {problem}", shortened(word))]
pub struct ExpandError {
    /// The word.
    pub word: String,
    /// Why.
    pub problem: ExpandProblem,
}

/// The longest piece of a word that a message quotes.
const QUOTED_WIDTH: usize = 80;

fn shortened(word: &str) -> String {
    let mut quoted: String = word.chars().take(QUOTED_WIDTH).collect();
    if quoted.len() < word.len() {
        quoted.push('…');
    }
    format!("{quoted:?}")
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandProblem {
    /// `"abc`.
    #[error("a double quote does not end; close it, or write \\\" for the character")]
    UnendedDoubleQuote,
    /// `'abc`.
    #[error("a single quote does not end; close it, or write \\' for the character")]
    UnendedSingleQuote,
    /// `${abc`.
    #[error("${{ has no }}")]
    MissingBrace,
    /// `${abc/x}`.
    #[error("${{{name}/pattern/replacement}} lacks its second /")]
    MissingSlash {
        /// The variable.
        name: String,
    },
    /// `${}`, `${:x}`.
    #[error("${{ is not followed by a variable's name")]
    NoName,
    /// `${abc=x}`.
    #[error(
        "{modifier:?} is not supported after ${{{name}; there are :- - :+ + :? ? # ## % %% / //"
    )]
    UnknownModifier {
        /// The variable.
        name: String,
        /// What follows it.
        modifier: String,
    },
    /// `${abc#\x}`.
    #[error("bad pattern {pattern:?}: a \\ only goes before * ? \\ / and }}")]
    BadPattern {
        /// The pattern.
        pattern: String,
    },
    /// `${abc?text}`, unset.
    #[error("{name} is not set{}", told(message))]
    Unset {
        /// The variable.
        name: String,
        /// What the word says about it.
        message: String,
    },
    /// `${abc:?text}`, set to nothing.
    #[error("{name} is empty{}", told(message))]
    Empty {
        /// The variable.
        name: String,
        /// What the word says about it.
        message: String,
    },
    /// More levels of `${a:-${b:-…}}` than anyone needs.
    #[error("more than {} levels of nested ${{…}}", lexer::MAX_DEPTH)]
    TooDeep,
}

fn told(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

/// How a word is read.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The escape character.
    pub escape: char,
    /// Keep the quotes in the result.
    pub keep_quotes: bool,
    /// Keep the escape characters in the result.
    pub keep_escapes: bool,
    /// Quotes are characters like others.
    pub ignore_quotes: bool,
    /// Leave `$v` as it is where `v` isn't set.
    pub keep_unset: bool,
}

impl Options {
    /// Quotes and escapes are taken off, unset variables are empty.
    pub fn new(escape: char) -> Options {
        Options {
            escape,
            keep_quotes: false,
            keep_escapes: false,
            ignore_quotes: false,
            keep_unset: false,
        }
    }

    /// Expands `word` so.
    pub fn expand(self, word: &str, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
        lexer::run(word, lookup, self).map_err(|problem| ExpandError {
            word: word.to_owned(),
            problem,
        })
    }
}

/// Expands `word`: quotes and escapes are taken off, variables replaced.
pub fn expand(word: &str, lookup: Lookup<'_>, escape: char) -> Result<Expanded, ExpandError> {
    Options::new(escape).expand(word, lookup)
}

/// Expands the content of a heredoc: quotes stay as they are, `\` escapes whatever the file's
/// escape character is.
pub fn expand_heredoc(content: &str, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
    Options {
        ignore_quotes: true,
        ..Options::new('\\')
    }
    .expand(content, lookup)
}

/// Expands `text` for people to read: quotes stay, unset variables stay, and what cannot be
/// expanded is shown as it is.
pub fn expand_for_display(text: &str, lookup: Lookup<'_>, escape: char) -> String {
    let options = Options {
        keep_quotes: true,
        keep_unset: true,
        ..Options::new(escape)
    };
    options
        .expand(text, lookup)
        .map_or_else(|_| text.to_owned(), |expanded| expanded.text)
}

#[cfg(test)]
mod tests;

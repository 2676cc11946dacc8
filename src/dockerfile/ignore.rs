//! `.dockerignore`, as moby's `patternmatcher` reads and matches it.
//!
//! A line is a pattern for a path relative to the context:
//!
//! - `#` in the first column makes a comment; blanks around a pattern don't count; a leading `/`
//!   neither; `..`, `.` and doubled slashes are resolved.
//! - `*`, `?`, `[…]` and `\` as in [`glob`]. `**` matches any number of directories:
//!   `a/**/b` is also `a/b`, and `a**b` is `ab` and `ax/b`, but not `axb`. At the end it matches
//!   anything, at the beginning `**/b` is `b` and `x/b`.
//! - `!` takes back in. The last pattern that matches decides.
//! - A pattern that matches a directory matches all below it. There is no difference between
//!   files and directories.
//!
//! A walk may leave an ignored directory out only if no `!` pattern might match below it:
//! [`IgnorePatterns::may_contain_exceptions_below`] says so without reading it.

use regex::Regex;

use super::glob::{self, Token};

/// The patterns of a `.dockerignore`, or of `--exclude` flags.
#[derive(Debug, Clone, Default)]
pub struct IgnorePatterns {
    patterns: Vec<Pattern>,
}

/// A pattern that doesn't parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is not an ignore pattern; {problem}")]
pub struct IgnoreError {
    /// The line, from 1; for [`IgnorePatterns::new`] the pattern's number.
    pub line: usize,
    /// The pattern as written.
    pub pattern: String,
    /// What is wrong.
    pub problem: &'static str,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// It began with `!`.
    exception: bool,
    text: String,
    matcher: Matcher,
}

/// How a path is held against a pattern; most patterns need no regular expression.
#[derive(Debug, Clone)]
enum Matcher {
    Exact(String),
    /// `x**`
    Prefix(String),
    /// `**x`
    Suffix(String),
    Expression(Regex),
}

impl IgnorePatterns {
    /// Parses the text of a `.dockerignore`.
    pub fn parse(text: &[u8]) -> Result<IgnorePatterns, IgnoreError> {
        let text = String::from_utf8_lossy(text);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut patterns = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            patterns.push((index + 1, relative(line.trim())));
        }
        IgnorePatterns::compile(patterns.iter().map(|(line, text)| (*line, text.as_str())))
    }

    /// Takes patterns one by one, as `COPY --exclude` has them.
    pub fn new<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<IgnorePatterns, IgnoreError> {
        let numbered = patterns.into_iter().enumerate();
        IgnorePatterns::compile(numbered.map(|(index, text)| (index + 1, text)))
    }

    fn compile<'a>(
        texts: impl Iterator<Item = (usize, &'a str)>,
    ) -> Result<IgnorePatterns, IgnoreError> {
        let mut patterns = Vec::new();
        for (line, text) in texts.filter(|(_, text)| !text.trim().is_empty()) {
            let pattern = Pattern::parse(text.trim()).map_err(|problem| IgnoreError {
                line,
                pattern: text.to_owned(),
                problem,
            })?;
            patterns.push(pattern);
        }
        Ok(IgnorePatterns { patterns })
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether some pattern takes files back in.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception)
    }

    /// Whether a pattern leaves out all that lies in the root of the context.
    pub fn excludes_everything(&self) -> bool {
        let all = |pattern: &Pattern| matches!(pattern.text.as_str(), "*" | "**" | "**/*");
        self.patterns
            .iter()
            .any(|pattern| !pattern.exception && all(pattern))
    }

    /// Whether `path` is ignored, by itself or by a directory above it. `path` is relative to the
    /// context, clean, with `/` between its parts.
    pub fn ignores(&self, path: &str) -> bool {
        // Nobody can ignore the whole context.
        if path.is_empty() || path == "." {
            return false;
        }
        let last = self
            .patterns
            .iter()
            .rev()
            .find(|pattern| pattern.matches_or_above(path));
        last.is_some_and(|pattern| !pattern.exception)
    }

    /// Whether something below the ignored directory `directory` may be taken in again by a `!`
    /// pattern; if not, a walk may leave the directory out.
    pub fn may_contain_exceptions_below(&self, directory: &str) -> bool {
        // What comes before the pattern that ignores the directory cannot undo it.
        let deciding = self
            .patterns
            .iter()
            .rposition(|p| p.matches_or_above(directory));
        let later = self
            .patterns
            .iter()
            .skip(deciding.map_or(0, |index| index + 1));
        later
            .filter(|pattern| pattern.exception)
            .any(|p| p.may_match_below(directory))
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, &'static str> {
        let cleaned = clean(text);
        let (exception, text) = match cleaned.strip_prefix('!') {
            Some("") => return Err("a ! needs a pattern after it"),
            Some(rest) => (true, rest),
            None => (false, cleaned.as_str()),
        };
        let tokens = glob::tokens(text)
            .map_err(|_| "a [ lacks its ], a range is empty, or a \\ stands at the end")?;
        let matcher = Matcher::compile(text, &tokens)?;
        Ok(Pattern {
            exception,
            text: text.to_owned(),
            matcher,
        })
    }

    fn matches_or_above(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(index, _)| &path[..index]);
        above.chain([path]).any(|path| self.matcher.matches(path))
    }

    /// Whether a path below `directory` might match: the pattern is deeper, and nothing in it
    /// contradicts. In doubt, yes.
    fn may_match_below(&self, directory: &str) -> bool {
        // A class may match a slash, so parts mean nothing then.
        if self.text.contains('[') {
            return true;
        }
        let mut parts = self.text.split('/');
        for name in directory.split('/') {
            let Some(part) = parts.next() else {
                return false;
            };
            if part.contains("**") {
                return true;
            }
            if !glob::matches(part, name).unwrap_or(true) {
                return false;
            }
        }
        parts.next().is_some()
    }
}

impl Matcher {
    fn compile(text: &str, tokens: &[Token]) -> Result<Matcher, &'static str> {
        let plain = |text: &str| !glob::has_wildcard(text) && !text.contains('\\');
        if plain(text) {
            return Ok(Matcher::Exact(text.to_owned()));
        }
        if let Some(suffix) = text.strip_prefix("**").filter(|suffix| plain(suffix)) {
            return Ok(Matcher::Suffix(suffix.to_owned()));
        }
        if let Some(prefix) = text.strip_suffix("**").filter(|prefix| plain(prefix)) {
            return Ok(Matcher::Prefix(prefix.to_owned()));
        }
        let expression = expression(tokens)?;
        Regex::new(&expression)
            .map(Matcher::Expression)
            .map_err(|_| "it is too long")
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Matcher::Exact(text) => path == text,
            Matcher::Prefix(prefix) => path.starts_with(prefix),
            Matcher::Suffix(suffix) => {
                path.ends_with(suffix) || suffix.strip_prefix('/') == Some(path)
            }
            Matcher::Expression(expression) => expression.is_match(path),
        }
    }
}

/// The regular expression of a pattern.
fn expression(mut tokens: &[Token]) -> Result<String, &'static str> {
    let mut expression = "^".to_owned();
    while let Some((token, rest)) = tokens.split_first() {
        tokens = rest;
        match token {
            Token::Star if tokens.first() == Some(&Token::Star) => {
                tokens = &tokens[1..];
                // "**/" is like "**": the slash belongs to what it matches.
                if tokens.first() == Some(&Token::Character('/')) {
                    tokens = &tokens[1..];
                }
                expression.push_str(if tokens.is_empty() { ".*" } else { "(.*/)?" });
            }
            Token::Star => expression.push_str("[^/]*"),
            Token::AnyCharacter => expression.push_str("[^/]"),
            Token::Character(character) => push_escaped(&mut expression, *character),
            Token::Class { negated, ranges } => {
                expression.push_str(if *negated { "[^" } else { "[" });
                for (low, high) in ranges {
                    if low > high {
                        return Err("a range in [] goes backwards");
                    }
                    push_escaped(&mut expression, *low);
                    expression.push('-');
                    push_escaped(&mut expression, *high);
                }
                expression.push(']');
            }
        }
    }
    expression.push('$');
    Ok(expression)
}

fn push_escaped(expression: &mut String, character: char) {
    expression.push_str(&regex::escape(character.encode_utf8(&mut [0; 4])));
}

/// A line of the file as a pattern relative to the context.
fn relative(line: &str) -> String {
    let (exception, text) = match line.strip_prefix('!') {
        Some(rest) => ("!", rest.trim()),
        None => ("", line),
    };
    let cleaned = if text.is_empty() {
        String::new()
    } else {
        clean(text)
    };
    let inside = match cleaned.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => rest,
        _ => &cleaned,
    };
    format!("{exception}{inside}")
}

/// Go's `filepath.Clean`: no doubled slashes, no `.`, and `..` resolved where that is possible.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests;

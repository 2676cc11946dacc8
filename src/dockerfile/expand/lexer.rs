//! The state machine of expansion: one pass over the characters, recursing into `${…}`.
//!
//! A word is read twice at once: into `text`, which keeps everything, and into `words`, which are
//! split where white space stands that no quote protects.

use super::pattern::{replace, trim_prefix, trim_suffix};
use super::{ExpandProblem, Expanded, Lookup, Options};

/// How deep `${a:-${b:-…}}` may nest: enough for people, and little stack for a hostile file.
pub(super) const MAX_DEPTH: usize = 100;

type Result<T> = std::result::Result<T, ExpandProblem>;

/// Reads `word` to its end.
pub(super) fn run(word: &str, lookup: Lookup<'_>, options: Options) -> Result<Expanded> {
    let mut lexer = Lexer {
        characters: word.chars().collect(),
        position: 0,
        options,
        lookup,
        depth: 0,
        expanded: Expanded::default(),
    };
    let (text, words) = lexer.read_until(None, options.keep_escapes)?;
    Ok(Expanded {
        text,
        words,
        ..lexer.expanded
    })
}

struct Lexer<'a> {
    characters: Vec<char>,
    position: usize,
    options: Options,
    lookup: Lookup<'a>,
    depth: usize,
    /// Collects `found` and `unset`.
    expanded: Expanded,
}

/// Collects words, splitting at white space.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    word: String,
    /// Whether a word has begun. It may be empty then, and an empty word is no word.
    inside: bool,
}

impl Words {
    fn push(&mut self, character: char) {
        if !character.is_whitespace() {
            self.push_raw(character);
        } else if self.inside && !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
            self.inside = false;
        }
    }

    fn push_raw(&mut self, character: char) {
        self.word.push(character);
        self.inside = true;
    }

    fn push_str_raw(&mut self, text: &str) {
        self.word.push_str(text);
        self.inside = true;
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.position).copied()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.position += 1;
        Some(character)
    }

    /// Reads up to and over `stop`, or to the end if there is no `stop`.
    fn read_until(
        &mut self,
        stop: Option<char>,
        keep_escapes: bool,
    ) -> Result<(String, Vec<String>)> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(character) = self.peek() {
            if Some(character) == stop {
                self.position += 1;
                return Ok((text, words.finish()));
            }
            match character {
                '$' => {
                    let value = self.read_variable()?;
                    value.chars().for_each(|c| words.push(c));
                    text.push_str(&value);
                }
                '<' => {
                    let arrows = self.read_heredoc_arrows();
                    words.push_str_raw(&arrows);
                    text.push_str(&arrows);
                }
                '\'' | '"' if !self.options.ignore_quotes => {
                    let quoted = if character == '\'' {
                        self.read_single_quoted()?
                    } else {
                        self.read_double_quoted(keep_escapes)?
                    };
                    words.push_str_raw(&quoted);
                    text.push_str(&quoted);
                }
                _ => self.read_plain(keep_escapes, &mut text, &mut words),
            }
        }
        if stop.is_some() {
            Err(ExpandProblem::MissingBrace)
        } else {
            Ok((text, words.finish()))
        }
    }

    /// One character that means itself, or an escape and what it escapes.
    fn read_plain(&mut self, keep_escapes: bool, text: &mut String, words: &mut Words) {
        let Some(character) = self.next() else { return };
        if character != self.options.escape {
            words.push(character);
            text.push(character);
            return;
        }
        if keep_escapes {
            words.push_raw(character);
            text.push(character);
        }
        // An escape at the very end is dropped.
        if let Some(escaped) = self.next() {
            words.push_raw(escaped);
            text.push(escaped);
        }
    }

    /// `<` or `<<`; white space after `<<` belongs to it, since a heredoc's delimiter may stand
    /// apart from its arrows.
    fn read_heredoc_arrows(&mut self) -> String {
        self.position += 1;
        if self.peek() != Some('<') {
            return "<".to_owned();
        }
        self.position += 1;
        let mut arrows = "<<".to_owned();
        while let Some(space @ ('\t' | '\r' | ' ')) = self.peek() {
            self.position += 1;
            arrows.push(space);
        }
        arrows
    }

    fn read_single_quoted(&mut self) -> Result<String> {
        let mut text = String::new();
        self.position += 1;
        if self.options.keep_quotes {
            text.push('\'');
        }
        loop {
            match self.next() {
                None => return Err(ExpandProblem::UnendedSingleQuote),
                Some('\'') => break,
                Some(character) => text.push(character),
            }
        }
        if self.options.keep_quotes {
            text.push('\'');
        }
        Ok(text)
    }

    fn read_double_quoted(&mut self, keep_escapes: bool) -> Result<String> {
        let mut text = String::new();
        self.position += 1;
        if self.options.keep_quotes {
            text.push('"');
        }
        loop {
            match self.peek() {
                None => return Err(ExpandProblem::UnendedDoubleQuote),
                Some('"') => break,
                Some('$') => text.push_str(&self.read_variable()?),
                Some(character) => {
                    self.position += 1;
                    text.extend(self.read_in_double_quotes(character, keep_escapes));
                }
            }
        }
        self.position += 1;
        if self.options.keep_quotes {
            text.push('"');
        }
        Ok(text)
    }

    /// What `character`, just read within double quotes, stands for. An escape only works on a
    /// quote, a dollar and itself there, and otherwise means itself.
    fn read_in_double_quotes(&mut self, character: char, keep_escapes: bool) -> Vec<char> {
        let escape = self.options.escape;
        if character != escape {
            return vec![character];
        }
        let mut read = Vec::with_capacity(2);
        if keep_escapes {
            read.push(escape);
        }
        match self.peek() {
            None => {}
            Some(escaped) if escaped == '"' || escaped == '$' || escaped == escape => {
                self.position += 1;
                read.push(escaped);
            }
            Some(_) => read.push(escape),
        }
        read
    }

    /// Anything that begins with `$`.
    fn read_variable(&mut self) -> Result<String> {
        self.position += 1;
        if self.peek() != Some('{') {
            let name = self.read_name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = self.value_of(&name);
            if value.is_none() && self.options.keep_unset {
                return Ok(format!("${name}"));
            }
            return Ok(value.unwrap_or_default());
        }
        self.position += 1;
        if self.depth == MAX_DEPTH {
            return Err(ExpandProblem::TooDeep);
        }
        self.depth += 1;
        let value = self.read_braced();
        self.depth -= 1;
        value
    }

    /// The rest after `${`.
    fn read_braced(&mut self) -> Result<String> {
        match self.peek() {
            None => return Err(ExpandProblem::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandProblem::NoName),
            _ => {}
        }
        let name = self.read_name();
        match self.next() {
            None => Err(ExpandProblem::MissingBrace),
            Some('}') => {
                let value = self.value_of(&name);
                if value.is_none() && self.options.keep_unset {
                    return Ok(format!("${{{name}}}"));
                }
                Ok(value.unwrap_or_default())
            }
            Some(':') => match self.next() {
                Some(modifier @ ('+' | '-' | '?')) => self.read_conditional(&name, modifier, true),
                None => Err(ExpandProblem::MissingBrace),
                Some(other) => Err(ExpandProblem::UnknownModifier {
                    name,
                    modifier: format!(":{other}"),
                }),
            },
            Some(modifier @ ('+' | '-' | '?')) => self.read_conditional(&name, modifier, false),
            Some(modifier @ ('#' | '%')) => self.read_trim(&name, modifier),
            Some('/') => self.read_replacement(&name),
            Some(other) => Err(ExpandProblem::UnknownModifier {
                name,
                modifier: other.to_string(),
            }),
        }
    }

    /// The rest after `${name:-` and its like. `word` is expanded whether or not it is taken, as
    /// docker does it: a mistake in it shows always.
    fn read_conditional(
        &mut self,
        name: &str,
        modifier: char,
        empty_is_unset: bool,
    ) -> Result<String> {
        let (word, _) = self.read_until(Some('}'), false)?;
        let value = self.value_of(name);
        if value.is_none() && self.options.keep_unset {
            let colon = if empty_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let usable = value
            .as_ref()
            .is_some_and(|value| !empty_is_unset || !value.is_empty());
        match (modifier, usable) {
            ('-', true) | ('?', true) => Ok(value.unwrap_or_default()),
            ('-', false) | ('+', true) => Ok(word),
            ('+', false) => Ok(String::new()),
            _ if value.is_some() => Err(ExpandProblem::Empty {
                name: name.to_owned(),
                message: word,
            }),
            _ => Err(ExpandProblem::Unset {
                name: name.to_owned(),
                message: word,
            }),
        }
    }

    /// The rest after `${name#` or `${name%`.
    fn read_trim(&mut self, name: &str, modifier: char) -> Result<String> {
        let (word, _) = self.read_until(Some('}'), true)?;
        let value = self.value_of(name);
        if value.is_none() && self.options.keep_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let value = value.unwrap_or_default();
        let (pattern, longest) = match word.strip_prefix(modifier) {
            Some(pattern) => (pattern, true),
            None => (word.as_str(), false),
        };
        match modifier {
            '#' => trim_prefix(pattern, &value, longest),
            _ => trim_suffix(pattern, &value, longest),
        }
    }

    /// The rest after `${name/`.
    fn read_replacement(&mut self, name: &str) -> Result<String> {
        let all = self.peek() == Some('/');
        if all {
            self.position += 1;
        }
        let (pattern, _) = self
            .read_until(Some('/'), true)
            .map_err(|problem| match problem {
                ExpandProblem::MissingBrace => ExpandProblem::MissingSlash {
                    name: name.to_owned(),
                },
                other => other,
            })?;
        let (replacement, _) = self.read_until(Some('}'), true)?;
        let value = self.value_of(name);
        if value.is_none() && self.options.keep_unset {
            let slashes = if all { "//" } else { "/" };
            return Ok(format!("${{{name}{slashes}{pattern}/{replacement}}}"));
        }
        replace(&pattern, &value.unwrap_or_default(), &replacement, all)
    }

    /// A variable's name: letters, digits and underscores; or digits only; or one of the shell's
    /// special parameters. May be empty.
    fn read_name(&mut self) -> String {
        match self.peek() {
            Some(first) if first.is_ascii_digit() => self.read_while(|c| c.is_ascii_digit()),
            Some(special @ ('@' | '*' | '#' | '?' | '-' | '$' | '!')) => {
                self.position += 1;
                special.to_string()
            }
            _ => self.read_while(|c| c.is_alphanumeric() || c == '_'),
        }
    }

    fn read_while(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let rest = &self.characters[self.position..];
        let name: String = rest.iter().copied().take_while(|c| belongs(*c)).collect();
        self.position += name.chars().count();
        name
    }

    /// Looks a variable up and notes that it was.
    fn value_of(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        let seen = if value.is_some() {
            &mut self.expanded.found
        } else {
            &mut self.expanded.unset
        };
        seen.insert(name.to_owned());
        value
    }
}

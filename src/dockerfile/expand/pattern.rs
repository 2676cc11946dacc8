//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*` and `?`, which also match `/`.
//!
//! A pattern becomes a regular expression. The shortest suffix cannot be found by a search from
//! the left, so for suffixes pattern and value are both turned round.

use regex::Regex;

use super::ExpandProblem;

type Result<T> = std::result::Result<T, ExpandProblem>;

/// `value` without the prefix that matches `pattern`.
pub(super) fn trim_prefix(pattern: &str, value: &str, longest: bool) -> Result<String> {
    let expression = compile(pattern, pattern, longest, true)?;
    Ok(without_match(&expression, value))
}

/// `value` without the suffix that matches `pattern`.
pub(super) fn trim_suffix(pattern: &str, value: &str, longest: bool) -> Result<String> {
    let expression = compile(&reversed_pattern(pattern), pattern, longest, true)?;
    Ok(reversed(&without_match(&expression, &reversed(value))))
}

/// `value` with the first match of `pattern`, or all of them, replaced.
pub(super) fn replace(pattern: &str, value: &str, replacement: &str, all: bool) -> Result<String> {
    let expression = compile(pattern, pattern, true, false)?;
    let limit = if all { 0 } else { 1 };
    Ok(expression
        .replacen(value, limit, regex::NoExpand(replacement))
        .into_owned())
}

fn without_match(expression: &Regex, value: &str) -> String {
    let end = expression.find(value).map_or(0, |found| found.end());
    value[end..].to_owned()
}

/// The regular expression of `pattern`; `shown` is what an error quotes.
fn compile(pattern: &str, shown: &str, longest: bool, anchored: bool) -> Result<Regex> {
    let bad = || ExpandProblem::BadPattern {
        pattern: shown.to_owned(),
    };
    let mut expression = String::with_capacity(pattern.len() + 8);
    if anchored {
        expression.push('^');
    }
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '*' => expression.push_str(if longest { ".*" } else { ".*?" }),
            '?' => expression.push('.'),
            '\\' => match characters.peek() {
                // These are escaped for the sake of ${…}; for the pattern they are ordinary.
                Some('}' | '/') => {}
                Some(escaped @ ('*' | '?' | '\\')) => {
                    expression.push('\\');
                    expression.push(*escaped);
                    characters.next();
                }
                _ => return Err(bad()),
            },
            other => expression.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    Regex::new(&expression).map_err(|_| bad())
}

/// `pattern` from back to front, with each escape still before what it escapes.
fn reversed_pattern(pattern: &str) -> String {
    let mut tokens = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let escaped = if character == '\\' {
            characters.next()
        } else {
            None
        };
        tokens.push((character, escaped));
    }
    tokens
        .iter()
        .rev()
        .flat_map(|(first, second)| [Some(*first), *second])
        .flatten()
        .collect()
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reversing_keeps_escapes_before_what_they_escape() {
        assert_eq!(reversed_pattern(r"a\*c"), r"c\*a");
        assert_eq!(reversed_pattern(r"\\b"), r"b\\");
        assert_eq!(reversed_pattern(r"ab\"), r"\ba");
    }

    #[test]
    fn shortest_and_longest_differ() {
        assert_eq!(trim_prefix("*.", "a.b.c", false), Ok("b.c".into()));
        assert_eq!(trim_prefix("*.", "a.b.c", true), Ok("c".into()));
        assert_eq!(trim_suffix(".*", "a.b.c", false), Ok("a.b".into()));
        assert_eq!(trim_suffix(".*", "a.b.c", true), Ok("a".into()));
        assert_eq!(trim_suffix("x", "a.b.c", true), Ok("a.b.c".into()));
    }

    #[test]
    fn a_replacement_is_literal() {
        assert_eq!(replace("b?", "abcabc", "$0", false), Ok("a$0abc".into()));
        assert_eq!(replace("b?", "abcabc", "-", true), Ok("a-a-".into()));
    }

    #[test]
    fn an_escape_before_an_ordinary_character_is_an_error() {
        for pattern in [r"\", r"\x", r"\\\"] {
            assert!(trim_prefix(pattern, "x", false).is_err(), "{pattern}");
        }
    }
}

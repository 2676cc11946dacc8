//! Go's `filepath.Match`: the wildcards of COPY and ADD.
//!
//! | written | matches |
//! |---|---|
//! | `*` | any run of characters without `/` |
//! | `?` | any one character but `/` |
//! | `[a-z]` `[^a-z]` | one character in, not in, the ranges; also a `/` |
//! | `\x` | `x` |
//!
//! A pattern is parsed whole before anything is matched, so that a bad one is always an error and
//! never a mere mismatch. There is no backtracking over a `*` that has found its place, which is
//! Go's rule too, so matching takes no more than length of pattern times length of name.

/// A malformed pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad pattern {pattern:?}: a [ lacks its ], a range is empty, or a \\ stands at the end")]
pub struct BadPattern {
    /// The pattern.
    pub pattern: String,
}

/// One element of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// `*`; several in a row are several tokens.
    Star,
    /// `?`
    AnyCharacter,
    /// An ordinary or an escaped character.
    Character(char),
    /// `[…]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Whether `name` matches `pattern` as a whole; no `*` and no `?` matches a `/`.
pub fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    let tokens = tokens(pattern)?;
    let name: Vec<char> = name.chars().collect();
    Ok(matches_tokens(&tokens, &name))
}

/// Whether `path` holds a wildcard that isn't escaped.
pub fn has_wildcard(path: &str) -> bool {
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' | '?' | '[' => return true,
            '\\' => drop(characters.next()),
            _ => {}
        }
    }
    false
}

/// The elements of `pattern`.
pub(super) fn tokens(pattern: &str) -> Result<Vec<Token>, BadPattern> {
    let mut tokens = Vec::with_capacity(pattern.len());
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        let token = match character {
            '*' => Some(Token::Star),
            '?' => Some(Token::AnyCharacter),
            '[' => class(&mut characters),
            '\\' => characters.next().map(Token::Character),
            other => Some(Token::Character(other)),
        };
        tokens.push(token.ok_or_else(|| BadPattern {
            pattern: pattern.to_owned(),
        })?);
    }
    Ok(tokens)
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// The rest of a class after its `[`.
fn class(characters: &mut Characters<'_>) -> Option<Token> {
    let negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || characters.next_if_eq(&']').is_none() {
        let low = class_character(characters)?;
        let high = match characters.next_if_eq(&'-') {
            Some(_) => class_character(characters)?,
            None => low,
        };
        ranges.push((low, high));
    }
    Some(Token::Class { negated, ranges })
}

/// A character in a class; `-` and `]` need an escape there.
fn class_character(characters: &mut Characters<'_>) -> Option<char> {
    match characters.next()? {
        '-' | ']' => None,
        '\\' => characters.next(),
        other => Some(other),
    }
}

fn matches_tokens(mut tokens: &[Token], mut name: &[char]) -> bool {
    while !tokens.is_empty() {
        let stars = tokens
            .iter()
            .take_while(|token| **token == Token::Star)
            .count();
        tokens = &tokens[stars..];
        if stars > 0 && tokens.is_empty() {
            return !name.contains(&'/');
        }
        let length = tokens
            .iter()
            .take_while(|token| **token != Token::Star)
            .count();
        let (chunk, rest) = tokens.split_at(length);
        // The star takes as little as will do; the last chunk must reach the end.
        let reach = match stars {
            0 => 0,
            _ => name
                .iter()
                .take_while(|character| **character != '/')
                .count(),
        };
        let fits = |skipped: &usize| {
            matches_chunk(chunk, &name[*skipped..])
                && (!rest.is_empty() || name.len() - skipped == chunk.len())
        };
        let Some(skipped) = (0..=reach).find(fits) else {
            return false;
        };
        name = &name[skipped + chunk.len()..];
        tokens = rest;
    }
    name.is_empty()
}

/// Whether `name` begins with what `chunk`, which has no star, matches.
fn matches_chunk(chunk: &[Token], name: &[char]) -> bool {
    chunk.len() <= name.len()
        && chunk
            .iter()
            .zip(name)
            .all(|(token, character)| match token {
                Token::Star => false,
                Token::AnyCharacter => *character != '/',
                Token::Character(expected) => expected == character,
                Token::Class { negated, ranges } => {
                    let inside = ranges
                        .iter()
                        .any(|(low, high)| (low..=high).contains(&character));
                    inside != *negated
                }
            })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_match_as_go_says() {
        let table = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*", "", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("a?b", "a/b", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a[^a]b", "a/b", true),
            ("a[\\]a]b", "a]b", true),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[z-a]", "m", false),
            ("[*]x", "*x", true),
            ("**", "ab", true),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(matches(pattern, name), Ok(expected), "{pattern} {name}");
        }
    }

    #[test]
    fn a_bad_pattern_is_an_error_whatever_the_name() {
        for pattern in [
            "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\", "x*[", "[\\",
        ] {
            assert!(matches(pattern, "zzz").is_err(), "{pattern}");
        }
    }

    #[test]
    fn an_escaped_wildcard_is_none() {
        assert!(has_wildcard("a*") && has_wildcard("a?") && has_wildcard("\\\\*"));
        assert!(!has_wildcard("a\\*") && !has_wildcard("a]b") && !has_wildcard("a\\"));
    }

    proptest! {
        #[test]
        fn nothing_panics(pattern in "[a/*?\\[\\]^\\\\-]{0,20}", name in "[a/b]{0,20}") {
            let _ = matches(&pattern, &name);
        }
    }
}

//! A logical line into keyword, flags and arguments, and arguments into words.
//!
//! ```text
//! COPY --chown="a b" --link  src dst
//! └──┘ └──────────┘ └────┘   └─────┘
//! keyword  flags, quotes off  arguments, as they are
//! ```
//!
//! Docker has three ways of splitting, and each instruction its own:
//!
//! | way | quotes | for |
//! |---|---|---|
//! | [`split_blanks`] | are characters | FROM, COPY, ADD, EXPOSE, VOLUME |
//! | [`split_quoted`] | keep spaces, and stay for expansion to take off | ENV, LABEL, ARG |
//! | [`json_strings`] | as JSON has it | RUN, CMD, ENTRYPOINT, SHELL, COPY, ADD, VOLUME |

/// A piece of a line and its byte offset there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub text: String,
    pub offset: usize,
}

/// The first cut of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub keyword: &'a str,
    pub keyword_offset: usize,
    /// The flags with their dashes.
    pub flags: Vec<Word>,
    /// The rest, trimmed.
    pub arguments: &'a str,
    pub arguments_offset: usize,
}

/// The white space that separates words in docker's regular expressions: not that of Unicode.
pub(super) fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\x0b' | '\x0c')
}

/// Cuts the part of `line` from `start` on.
pub(super) fn split_head(line: &str, start: usize, escape: char) -> Head<'_> {
    let part = &line[start..];
    let keyword_offset = start + (part.len() - part.trim_start().len());
    let trimmed = part.trim();
    let keyword_length = trimmed.find(is_blank).unwrap_or(trimmed.len());
    let keyword = &trimmed[..keyword_length];
    let end = keyword_offset + trimmed.len();
    let (flags, rest) = split_flags(&line[..end], keyword_offset + keyword_length, escape);
    let arguments = line[rest..end].trim();
    let leading = line[rest..end].len() - line[rest..end].trim_start().len();
    Head {
        keyword,
        keyword_offset,
        flags,
        arguments,
        arguments_offset: rest + leading,
    }
}

/// The words that begin with `--` from `start` on, without quotes and escapes, and the offset at
/// which the arguments begin. A lone `--` ends the flags.
fn split_flags(line: &str, start: usize, escape: char) -> (Vec<Word>, usize) {
    let mut flags = Vec::new();
    let mut position = start;
    loop {
        let rest = &line[position..];
        position += rest.len() - rest.trim_start().len();
        if !line[position..].starts_with("--") {
            return (flags, position);
        }
        let (text, end) = read_unquoted_word(line, position, escape);
        if text == "--" {
            return (flags, end);
        }
        flags.push(Word {
            text,
            offset: position,
        });
        position = end;
    }
}

/// The word at `start` without its quotes and escapes, and where it ends.
fn read_unquoted_word(line: &str, start: usize, escape: char) -> (String, usize) {
    let mut text = String::new();
    let mut quote = None;
    let mut characters = line[start..].char_indices();
    while let Some((offset, character)) = characters.next() {
        match quote {
            None if character.is_whitespace() => return (text, start + offset),
            None if character == '\'' || character == '"' => quote = Some(character),
            Some(open) if character == open => quote = None,
            _ if character == escape => text.extend(characters.next().map(|(_, next)| next)),
            _ => text.push(character),
        }
    }
    (text, line.len())
}

/// Splits at blanks.
pub(super) fn split_blanks(text: &str, offset: usize) -> Vec<Word> {
    let mut words = Vec::new();
    let mut start = None;
    for (position, character) in text.char_indices() {
        match start {
            None if !is_blank(character) => start = Some(position),
            Some(begin) if is_blank(character) => {
                words.push(Word {
                    text: text[begin..position].to_owned(),
                    offset: offset + begin,
                });
                start = None;
            }
            _ => {}
        }
    }
    if let Some(begin) = start {
        words.push(Word {
            text: text[begin..].to_owned(),
            offset: offset + begin,
        });
    }
    words
}

/// Splits at white space outside quotes; quotes and escapes stay in the words.
pub(super) fn split_quoted(text: &str, offset: usize, escape: char) -> Vec<Word> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    let mut characters = text.char_indices().peekable();
    while let Some((position, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let current = word.get_or_insert_with(|| Word {
            text: String::new(),
            offset: offset + position,
        });
        // Nothing can be escaped in single quotes, and an escape at the very end is dropped.
        if character == escape && quote != Some('\'') {
            if let Some((_, escaped)) = characters.next() {
                current.text.push(character);
                current.text.push(escaped);
            }
            continue;
        }
        match quote {
            None if character == '\'' || character == '"' => quote = Some(character),
            Some(open) if character == open => quote = None,
            _ => {}
        }
        current.text.push(character);
    }
    words.extend(word);
    words.retain(|word| !word.text.is_empty());
    words
}

/// What a text that may be a JSON array is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json {
    /// An array of strings.
    Strings(Vec<String>),
    /// An array with something else in it.
    NotStrings,
    /// No JSON: the text means what it says.
    Not,
}

/// Reads `text` as a JSON array of strings.
pub(super) fn json_strings(text: &str) -> Json {
    if !text.trim_start().starts_with('[') {
        return Json::Not;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Json::Not;
    };
    let count = values.len();
    let strings: Vec<String> = values
        .into_iter()
        .filter_map(|value| match value {
            serde_json::Value::String(string) => Some(string),
            _ => None,
        })
        .collect();
    if strings.len() == count {
        Json::Strings(strings)
    } else {
        Json::NotStrings
    }
}

/// The fields of a comma-separated record, with `"…"` around a field that has commas or quotes
/// (doubled). `None`: a quote doesn't end, or stands within a bare field.
pub(super) fn csv_fields(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => read_quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let field = &rest[..end];
                if field.contains('"') {
                    return None;
                }
                (field.to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

/// A field after its opening quote, and what follows the closing one.
fn read_quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Some((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[Word]) -> Vec<&str> {
        words.iter().map(|word| word.text.as_str()).collect()
    }

    #[test]
    fn flags_lose_their_quotes_and_end_at_the_first_argument() {
        let head = split_head(
            "  COPY --chown=\"a b\"  --x=\\'y --link src --dst ",
            0,
            '\\',
        );
        assert_eq!((head.keyword, head.keyword_offset), ("COPY", 2));
        assert_eq!(texts(&head.flags), ["--chown=a b", "--x='y", "--link"]);
        assert_eq!(head.flags[1].offset, 22);
        assert_eq!((head.arguments, head.arguments_offset), ("src --dst", 37));
    }

    #[test]
    fn two_dashes_end_the_flags() {
        let head = split_head("RUN -- --mount=x", 0, '\\');
        assert_eq!((head.flags.len(), head.arguments), (0, "--mount=x"));
        let head = split_head("CMD --", 0, '\\');
        assert_eq!((head.flags.len(), head.arguments), (0, ""));
        let head = split_head("CMD -x --y", 0, '\\');
        assert_eq!((head.flags.len(), head.arguments), (0, "-x --y"));
    }

    #[test]
    fn quoted_words_keep_their_quotes() {
        let words = |text| texts(&split_quoted(text, 0, '\\')).join("|");
        assert_eq!(
            words(r#"a="b c" d='e "f' g=h\ i"#),
            r#"a="b c"|d='e "f'|g=h\ i"#
        );
        assert_eq!(words(r#"a="x\" y" b"#), r#"a="x\" y"|b"#);
        assert_eq!(words(r"a='x\' b"), r"a='x\'|b");
        assert_eq!(words(r"a=b\"), "a=b");
        assert_eq!(words("\"open a"), "\"open a");
        assert_eq!(words("  "), "");
    }

    #[test]
    fn json_is_json_or_nothing() {
        assert_eq!(
            json_strings(r#"["a", "b\n"]"#),
            Json::Strings(vec!["a".into(), "b\n".into()])
        );
        assert_eq!(json_strings("[]"), Json::Strings(vec![]));
        assert_eq!(json_strings(r#"["a", 1]"#), Json::NotStrings);
        assert_eq!(json_strings(r"['a']"), Json::Not);
        assert_eq!(json_strings(r#"["a"] x"#), Json::Not);
        assert_eq!(json_strings("[ -f x ]"), Json::Not);
    }

    #[test]
    fn csv_fields_may_be_quoted() {
        let fields = |text| csv_fields(text).map(|fields| fields.join("|"));
        assert_eq!(fields("type=bind,ro"), Some("type=bind|ro".into()));
        assert_eq!(fields(r#""target=/a,b",ro"#), Some("target=/a,b|ro".into()));
        assert_eq!(fields(r#""a""b""#), Some(r#"a"b"#.into()));
        assert_eq!(fields("a,,b,"), Some("a||b|".into()));
        assert_eq!(fields(r#"a"b"#), None);
        assert_eq!(fields(r#""ab"#), None);
        assert_eq!(fields(r#""ab"c"#), None);
    }
}

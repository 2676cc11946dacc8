//! The words of a shell's line, as far as a completion needs them.

/// The words of the last simple command of a line, without their quotes; the last one is the one
/// that is being typed, and may be empty. Assignments before the command are left out.
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => {
                let next = characters.next();
                word.get_or_insert_default().extend(next);
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | ';' | '&' | '(' | '`' | '\n') => {
                words.clear();
                word = None;
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.push(word.unwrap_or_default());
    let is_assignment = |word: &String| {
        let name = word.split_once('=').map_or("", |(name, _)| name);
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let assignments = words.iter().take_while(|word| is_assignment(word)).count();
    words.split_off(assignments.min(words.len() - 1))
}

/// A word as the shell reads it back.
pub fn quote(word: &str) -> String {
    let mut quoted = String::with_capacity(word.len());
    for c in word.chars() {
        if !(c.is_alphanumeric() || "-_./:=@%+,^".contains(c)) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_words_that_the_shell_would_read() {
        for (line, expected) in [
            ("rstore rmi ap", &["rstore", "rmi", "ap"][..]),
            ("rstore rmi ", &["rstore", "rmi", ""]),
            (
                "rstore rmi 'a b' \"c\\\"d\" e\\ f",
                &["rstore", "rmi", "a b", "c\"d", "e f"],
            ),
            ("ls | xargs; A=b C= rstore x", &["rstore", "x"]),
            ("rstore rmi 'open a", &["rstore", "rmi", "open a"]),
            ("echo $(rstore im", &["rstore", "im"]),
            ("rstore a\\", &["rstore", "a"]),
            ("", &[""]),
            ("A=b", &["A=b"]),
        ] {
            assert_eq!(split(line), expected, "{line}");
        }
    }

    #[test]
    fn a_word_is_read_back_as_it_was() {
        for word in ["app:1", "a b", "$(x)", "host/app@sha256:00", "ä'\"\\"] {
            assert_eq!(split(&quote(word)), [word]);
        }
    }
}

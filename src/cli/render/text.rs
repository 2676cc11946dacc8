//! Texts that images and their builds bring along: nothing in them may move a cursor, set a colour
//! or draw from right to left on the terminal of whoever looks.

/// `text` with line ends and tabs as blanks, other control characters written out.
pub fn clean(text: &str) -> String {
    if !text.contains(is_unsafe) {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' | '\r' => clean.push(' '),
            c if is_unsafe(c) => clean.extend(c.escape_default()),
            c => clean.push(c),
        }
    }
    clean
}

fn is_unsafe(character: char) -> bool {
    character.is_control()
        // Marks that turn the direction of writing.
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The first `limit` characters of a text, the last of them an ellipsis where there are more.
pub fn shorten(text: &str, limit: usize) -> String {
    let mut rest = text.char_indices().skip(limit.saturating_sub(1));
    match (rest.next(), rest.next()) {
        (Some((cut, _)), Some(_)) => format!("{}…", &text[..cut]),
        _ => text.to_owned(),
    }
}

/// One line of a process's output, for a display that overwrites itself: escape sequences gone,
/// of a line that was overwritten only what stands last.
pub fn line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let last = text
        .trim_end_matches('\r')
        .rsplit('\r')
        .next()
        .unwrap_or("");
    let mut clean = String::with_capacity(last.len());
    let mut characters = last.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_escape(&mut characters),
            '\t' => clean.push_str("    "),
            c if is_unsafe(c) => {}
            c => clean.push(c),
        }
    }
    clean
}

/// ECMA-48: `ESC [ … final`, `ESC ] … BEL`, or `ESC` and one more.
fn skip_escape(characters: &mut std::iter::Peekable<std::str::Chars>) {
    match characters.next() {
        Some('[') => {
            characters.find(|c| ('\u{40}'..='\u{7e}').contains(c));
        }
        Some(']') => {
            while let Some(c) = characters.next() {
                if c == '\u{7}' || (c == '\u{1b}' && characters.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_the_cursor_survives() {
        assert_eq!(clean("a\x1b[2Jb\tc\nd"), "a\\u{1b}[2Jb c d");
        assert_eq!(clean("\u{202e}gpj.exe"), "\\u{202e}gpj.exe");
        assert_eq!(line(b"10%\r50%\r\x1b[1;31m99%\x1b[0m\x07\r"), "99%");
        assert_eq!(line(b"\x1b]0;title\x07ok \xff"), "ok \u{fffd}");
        assert_eq!(line(b"\x1b[31"), "");
    }

    #[test]
    fn a_short_text_stays_and_a_long_one_is_cut() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abcd", 3), "ab…");
        assert_eq!(shorten("äöü", 2), "ä…");
        assert_eq!(shorten("", 3), "");
    }
}

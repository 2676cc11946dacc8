//! Texts that images and their builds bring along: nothing in them may move a cursor, set a colour
//! or draw from right to left on the terminal of whoever looks.

use unicode_width::UnicodeWidthChar;

/// `text` with line ends and tabs as blanks, other control characters written out.
pub fn clean(text: &str) -> String {
    if is_plain(text) || !text.contains(is_unsafe) {
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

/// The same, but line ends and tabs stay.
pub fn clean_lines(text: &str) -> String {
    if !text.contains(|c| is_unsafe(c) && !matches!(c, '\n' | '\t')) {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => clean.push(character),
            c if is_unsafe(c) => clean.extend(c.escape_default()),
            c => clean.push(c),
        }
    }
    clean
}

/// Whether a text is of printable ASCII characters alone, as most are.
pub fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Whether a character steers a terminal: it moves a cursor, or turns the direction of writing.
pub(crate) fn is_unsafe(character: char) -> bool {
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

/// How many columns a text takes on a terminal: wide characters two, combining ones none.
pub fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// As much of a text as `limit` columns hold, its end an ellipsis where there is more.
pub fn fit(text: &str, limit: usize) -> String {
    if columns(text) <= limit {
        return text.to_owned();
    }
    let mut taken = 0;
    let room = limit.saturating_sub(1);
    let fits = |character: &char| {
        taken += character.width().unwrap_or(0);
        taken <= room
    };
    let mut cut: String = text.chars().take_while(fits).collect();
    if limit > 0 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_the_cursor_survives() {
        assert_eq!(clean("a\x1b[2Jb\tc\nd"), "a\\u{1b}[2Jb c d");
        assert_eq!(clean("\u{202e}gpj.exe"), "\\u{202e}gpj.exe");
        assert_eq!(clean_lines("a\x1b\tb\r\n"), "a\\u{1b}\tb\\r\n");
    }

    #[test]
    fn a_short_text_stays_and_a_long_one_is_cut() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abcd", 3), "ab…");
        assert_eq!(shorten("äöü", 2), "ä…");
        assert_eq!(shorten("", 3), "");
    }

    #[test]
    fn wide_characters_take_two_columns_and_combining_ones_none() {
        assert_eq!((columns("e\u{301}"), columns("東京")), (1, 4));
        assert_eq!(fit("東京", 4), "東京");
        assert_eq!(fit("東京都", 5), "東京…");
        assert_eq!(fit("東京都", 4), "東…");
        assert_eq!((fit("ab", 1), fit("ab", 0)), ("…".into(), String::new()));
    }
}

//! Names of files, which on Linux are bytes and need not be text.
//!
//! | to | a name goes |
//! |---|---|
//! | a pipe or a file | as its bytes |
//! | a terminal, a template | as text; what is not UTF-8 as `\xff`, control characters written out |
//! | JSON | as text in `path`; where it is not UTF-8 that is a likeness, and `path_base64` has the bytes |

use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::list::Record;
use super::{Look, text};
use crate::cli::Result;

/// Blanks between two columns.
const GAP: usize = 3;

/// A name as text for people.
pub fn shown(name: &[u8]) -> String {
    let mut shown = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        shown.push_str(&text::clean(chunk.valid()));
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

/// A name as a terminal (`raw` is false) or a program is to have it.
pub fn bytes(name: &[u8], raw: bool) -> Vec<u8> {
    match raw {
        true => name.to_vec(),
        false => shown(name).into_bytes(),
    }
}

/// A name as JSON has it: text, and its bytes in base64 where the text is only a likeness.
pub fn json(name: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(name) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (
            String::from_utf8_lossy(name).into_owned(),
            Some(BASE64_STANDARD.encode(name)),
        ),
    }
}

/// A path from the root of an image.
pub fn absolute(path: &[u8]) -> Vec<u8> {
    [b"/", path].concat()
}

/// What gives a record's name.
pub type NameOf<'n, R> = &'n dyn Fn(&R) -> Vec<u8>;

/// Writes a table of records, with a last column of names under `title`. `titles` are the columns
/// before it.
pub fn write_table<R: Record>(
    out: &mut dyn Write,
    records: &[R],
    titles: &[&str],
    (title, name): (&str, NameOf<'_, R>),
    look: &Look,
) -> Result {
    let columns = R::columns();
    let shown = titles
        .iter()
        .filter_map(|title| columns.iter().find(|column| column.title == *title));
    let mut cells: Vec<Vec<String>> = Vec::new();
    for column in shown {
        let mut cell = vec![column.title.to_owned()];
        cell.extend(records.iter().map(|record| column.text(record, look)));
        cells.push(cell);
    }
    let widths: Vec<usize> = cells
        .iter()
        .map(|column| column.iter().map(|cell| text::columns(cell)).max())
        .map(|widest| widest.unwrap_or(0) + GAP)
        .collect();
    for row in 0..=records.len() {
        for (column, width) in cells.iter().zip(&widths) {
            let blanks = width - text::columns(&column[row]);
            write!(out, "{}{:blanks$}", column[row], "")?;
        }
        match row {
            0 => out.write_all(title.as_bytes())?,
            row => out.write_all(&name(&records[row - 1]))?,
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_text_is_told_from_what_looks_like_it() {
        assert_eq!(shown(b"caf\xe9 \x1b[2J"), "caf\\xe9 \\u{1b}[2J");
        assert_eq!(bytes(b"caf\xe9", true), b"caf\xe9");
        assert_eq!(json("café".as_bytes()), ("café".to_owned(), None));
        let (likeness, exact) = json(b"caf\xe9");
        assert_eq!(
            (likeness.as_str(), exact.as_deref()),
            ("caf\u{fffd}", Some("Y2Fm6Q=="))
        );
    }
}

//! Columns side by side, without borders, three blanks apart: docker's look.

use std::io::Write;

use comfy_table::{ContentArrangement, Table, TableStyle};

use super::text;
use crate::cli::Result;

/// Blanks between two columns.
const GAP: u16 = 3;

/// A column of a table.
#[derive(Debug, Clone)]
pub struct Heading {
    /// The title.
    pub title: String,
    /// Whether its texts may be cut where the terminal is too narrow for all.
    pub flexible: bool,
}

impl Heading {
    /// A column that is shown whole.
    pub fn new(title: impl Into<String>) -> Heading {
        Heading {
            title: title.into(),
            flexible: false,
        }
    }
}

/// Writes a table, cut to `width` columns where that is possible by cutting flexible texts.
pub fn write(
    out: &mut dyn Write,
    headings: &[Heading],
    mut rows: Vec<Vec<String>>,
    width: Option<u16>,
) -> Result {
    if let Some(width) = width {
        fit(headings, &mut rows, usize::from(width));
    }
    let mut table = Table::new();
    table
        .load_style(TableStyle::new())
        .set_content_arrangement(ContentArrangement::Disabled)
        .force_no_tty();
    table.set_header(headings.iter().map(|heading| heading.title.clone()));
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Cuts the texts of the flexible columns, the widest first, until the table fits or nothing can
/// be cut any more: a line that the terminal wraps is better than an ID that nobody can use.
fn fit(headings: &[Heading], rows: &mut [Vec<String>], width: usize) {
    let length = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = headings.iter().map(|h| length(&h.title)).collect();
    for row in rows.iter() {
        for (widest, text) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(length(text));
        }
    }
    let gaps = usize::from(GAP) * headings.len().saturating_sub(1);
    let mut surplus = (widths.iter().sum::<usize>() + gaps).saturating_sub(width);
    while surplus > 0 {
        let least = |place: usize| length(&headings[place].title).max(8);
        let widest = (0..headings.len())
            .filter(|place| headings[*place].flexible && widths[*place] > least(*place))
            .max_by_key(|place| widths[*place]);
        let Some(place) = widest else { break };
        let cut = surplus.min(widths[place] - least(place));
        widths[place] -= cut;
        surplus -= cut;
    }
    for row in rows {
        for ((text, width), heading) in row.iter_mut().zip(&widths).zip(headings) {
            if heading.flexible {
                *text = text::shorten(text, *width);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(width: Option<u16>) -> String {
        let headings = [
            Heading::new("ID"),
            Heading {
                flexible: true,
                ..Heading::new("CREATED BY")
            },
            Heading::new("SIZE"),
        ];
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = vec![
            row(["0123456789ab", "RUN make && make install", "4.26MB"]),
            row(["ba9876543210", "", "0B"]),
        ];
        let mut out = Vec::new();
        write(&mut out, &headings, rows, width).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_three_blanks_apart_and_lines_end_with_their_last_word() {
        assert_eq!(
            shown(None),
            "ID             CREATED BY                 SIZE\n\
             0123456789ab   RUN make && make install   4.26MB\n\
             ba9876543210                              0B\n"
        );
    }

    #[test]
    fn a_narrow_terminal_cuts_texts_and_never_ids() {
        let text = shown(Some(40));
        assert!(
            text.contains("0123456789ab   RUN make && mak…   4.26MB"),
            "{text}"
        );
        assert!(
            text.lines().all(|line| line.chars().count() <= 40),
            "{text}"
        );
        assert!(shown(Some(5)).contains("0123456789ab"));
    }
}

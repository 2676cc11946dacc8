//! Columns side by side, without borders, three blanks apart: docker's look.

use std::borrow::Cow;
use std::io::Write;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, TableStyle, Width};

use super::text;
use crate::cli::Result;

/// Blanks between two columns.
const GAP: u16 = 3;

/// Lines that are laid out at once: a list of a hundred thousand is not held a second time.
const PART: usize = 1024;

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
    let titles: Vec<String> = headings.iter().map(|h| h.title.clone()).collect();
    let widths = widths(&titles, &rows);
    let mut lines = std::iter::once(titles).chain(rows).peekable();
    while lines.peek().is_some() {
        let part: Vec<Vec<String>> = lines.by_ref().take(PART).collect();
        write_part(out, part, &widths)?;
    }
    Ok(())
}

/// Like [`write()`], of so many rows that they are made twice rather than held: once to see how wide
/// each column has to be, once to be written.
pub fn write_each<'a, R, const N: usize>(
    out: &mut dyn Write,
    headings: &[Heading; N],
    rows: impl Fn() -> R,
    width: Option<u16>,
) -> Result
where
    R: Iterator<Item = [Cow<'a, str>; N]>,
{
    let titles = || headings.each_ref().map(|h| Cow::Owned(h.title.clone()));
    let mut widths = [0; N];
    for row in std::iter::once(titles()).chain(rows()) {
        for (widest, text) in widths.iter_mut().zip(&row) {
            *widest = (*widest).max(columns(text));
        }
    }
    if let Some(width) = width {
        narrow(headings, &mut widths, usize::from(width));
    }
    let mut line = String::new();
    for row in std::iter::once(titles()).chain(rows()) {
        for ((text, width), heading) in row.iter().zip(widths).zip(headings) {
            put(&mut line, text, columns(text), heading, width);
        }
        end(out, &mut line)?;
    }
    Ok(())
}

/// The cells of a table that may have many rows. They are held as one text, because the allocations
/// for each would take longer than all else that is done for a list.
#[derive(Debug)]
pub struct Cells<'a> {
    headings: &'a [Heading],
    text: String,
    cells: Vec<Cell>,
    widths: Vec<usize>,
}

/// Where a cell's text ends, and how many columns it takes.
#[derive(Debug, Clone, Copy)]
struct Cell {
    end: usize,
    columns: usize,
}

impl<'a> Cells<'a> {
    /// Of a table that has no rows yet.
    pub fn new(headings: &'a [Heading]) -> Cells<'a> {
        let mut cells = Cells {
            headings,
            text: String::new(),
            cells: Vec::new(),
            widths: vec![0; headings.len()],
        };
        for heading in headings {
            cells.push(&heading.title);
        }
        cells
    }

    /// The next cell: from left to right, row after row.
    pub fn push(&mut self, text: &str) {
        let columns = columns(text);
        self.text.push_str(text);
        let widest = &mut self.widths[self.cells.len() % self.headings.len()];
        *widest = (*widest).max(columns);
        self.cells.push(Cell {
            end: self.text.len(),
            columns,
        });
    }

    /// Writes the table, as [`write()`] does.
    pub fn write(mut self, out: &mut dyn Write, width: Option<u16>) -> Result {
        if let Some(width) = width {
            narrow(self.headings, &mut self.widths, usize::from(width));
        }
        let mut line = String::new();
        let mut begin = 0;
        for row in self.cells.chunks(self.headings.len()) {
            for ((cell, width), heading) in row.iter().zip(&self.widths).zip(self.headings) {
                let text = &self.text[begin..cell.end];
                begin = cell.end;
                put(&mut line, text, cell.columns, heading, *width);
            }
            end(out, &mut line)?;
        }
        Ok(())
    }
}

/// Adds a cell to a line: cut where it may be and must, with the blanks up to the next.
fn put(line: &mut String, text: &str, mut taken: usize, heading: &Heading, width: usize) {
    match heading.flexible && taken > width {
        true => {
            let cut = text::fit(text, width);
            taken = columns(&cut);
            line.push_str(&cut);
        }
        false => line.push_str(text),
    }
    let blanks = (width + usize::from(GAP)).saturating_sub(taken);
    line.extend(std::iter::repeat_n(' ', blanks));
}

/// Writes a line without the blanks at its end, and begins the next.
fn end(out: &mut dyn Write, line: &mut String) -> Result {
    line.truncate(line.trim_end().len());
    line.push('\n');
    out.write_all(line.as_bytes())?;
    line.clear();
    Ok(())
}

/// Lines whose columns are so wide, whatever is in them.
fn write_part(out: &mut dyn Write, lines: Vec<Vec<String>>, widths: &[usize]) -> Result {
    let mut table = Table::new();
    table
        .load_style(TableStyle::new())
        .set_content_arrangement(ContentArrangement::Disabled)
        .force_no_tty();
    table.add_rows(lines);
    for (column, width) in table.column_iter_mut().zip(widths) {
        column.set_padding((0, GAP));
        let width = u16::try_from(*width).unwrap_or(u16::MAX - GAP);
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width + GAP)));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// How wide each column has to be.
fn widths(titles: &[String], rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<usize> = titles.iter().map(|title| columns(title)).collect();
    for row in rows {
        for (widest, text) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(columns(text));
        }
    }
    widths
}

/// How many columns a text takes: of most texts, as many as it has bytes.
fn columns(text: &str) -> usize {
    match text::is_plain(text) {
        true => text.len(),
        false => text::columns(text),
    }
}

/// Cuts the texts of the flexible columns, the widest first, until the table fits or nothing can
/// be cut any more: a line that the terminal wraps is better than an ID that nobody can use.
fn fit(headings: &[Heading], rows: &mut [Vec<String>], width: usize) {
    let titles: Vec<String> = headings.iter().map(|h| h.title.clone()).collect();
    let mut widths = widths(&titles, rows);
    narrow(headings, &mut widths, width);
    for row in rows {
        for ((text, width), heading) in row.iter_mut().zip(&widths).zip(headings) {
            if heading.flexible {
                *text = text::fit(text, *width);
            }
        }
    }
}

/// Makes the flexible columns narrower, the widest first, until a line fits or none can be any
/// more.
fn narrow(headings: &[Heading], widths: &mut [usize], width: usize) {
    let gaps = usize::from(GAP) * headings.len().saturating_sub(1);
    let mut surplus = (widths.iter().sum::<usize>() + gaps).saturating_sub(width);
    while surplus > 0 {
        let least = |place: usize| columns(&headings[place].title).max(8);
        let widest = (0..headings.len())
            .filter(|place| headings[*place].flexible && widths[*place] > least(*place))
            .max_by_key(|place| widths[*place]);
        let Some(place) = widest else { break };
        let cut = surplus.min(widths[place] - least(place));
        widths[place] -= cut;
        surplus -= cut;
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
        let each = || {
            let cells = |row: &Vec<String>| [0, 1, 2].map(|place| Cow::Owned(row[place].clone()));
            rows.iter().map(cells).collect::<Vec<_>>().into_iter()
        };
        let (mut twice, mut long) = (Vec::new(), Vec::new());
        write_each(&mut twice, &headings, each, width).unwrap();
        let mut cells = Cells::new(&headings);
        rows.iter().flatten().for_each(|text| cells.push(text));
        cells.write(&mut long, width).unwrap();
        write(&mut out, &headings, rows.clone(), width).unwrap();
        assert_eq!((&twice, &long), (&out, &out), "all ways write the same");
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
    fn wide_characters_take_their_room() {
        let headings = [Heading::new("A"), Heading::new("B")];
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let rows = vec![row(["東京", "x"]), row(["e\u{301}", "y"])];
        let mut out = Vec::new();
        write(&mut out, &headings, rows, None).unwrap();
        let expected = "A      B\n東京   x\ne\u{301}      y\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
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

//! A line that a process wrote, made fit for a terminal that is not the process's own.
//!
//! What it wrote may move the cursor, clear the screen, set the title or ask the terminal for an
//! answer that then stands in the shell's input. The line is written onto a strip of paper of its
//! own instead, one row high, on which carriage returns, backspaces and the like mean what they
//! mean on a terminal (ECMA-48); what stands there in the end is the text. Colours may be kept.

use anstyle_parse::{Params, Parser, Perform};

use super::text::is_unsafe;

/// The distance of tabulators.
const TAB: usize = 8;
/// No strip is longer: a line of output has 16 KiB at most, but a tab is eight columns.
const LONGEST: usize = 64 << 10;
/// How long a style may be: after so many changes without a reset only the last one counts.
const LONGEST_STYLE: usize = 128;

/// The text that a line comes to.
pub fn plain(bytes: &[u8]) -> String {
    let strip = Strip::of(bytes);
    strip.cells.iter().map(|cell| cell.character).collect()
}

/// The same with its colours, which end where it ends.
pub fn colored(bytes: &[u8]) -> String {
    let strip = Strip::of(bytes);
    let mut text = String::with_capacity(bytes.len());
    let mut style = 0;
    for cell in &strip.cells {
        if cell.style != style {
            text.push_str("\x1b[0m");
            text.push_str(&strip.styles[cell.style]);
            style = cell.style;
        }
        text.push(cell.character);
    }
    if style != 0 {
        text.push_str("\x1b[0m");
    }
    text
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    character: char,
    /// Its place among the styles.
    style: usize,
}

/// One row of a terminal.
#[derive(Debug)]
struct Strip {
    cells: Vec<Cell>,
    cursor: usize,
    /// The place of the style that is set.
    style: usize,
    /// Every style that was set; the first is none.
    styles: Vec<String>,
}

impl Strip {
    fn of(bytes: &[u8]) -> Strip {
        let mut strip = Strip {
            cells: Vec::with_capacity(bytes.len()),
            cursor: 0,
            style: 0,
            styles: vec![String::new()],
        };
        let mut parser = Parser::<anstyle_parse::DefaultCharAccumulator>::new();
        // Bytes that are no UTF-8 must not be taken for the eight-bit forms of escape sequences.
        for byte in String::from_utf8_lossy(bytes).bytes() {
            parser.advance(&mut strip, byte);
        }
        strip
    }

    fn put(&mut self, character: char) {
        if self.cursor >= LONGEST {
            return;
        }
        let cell = Cell {
            character,
            style: self.style,
        };
        match self.cells.get_mut(self.cursor) {
            Some(old) => *old = cell,
            None => self.cells.push(cell),
        }
        self.cursor += 1;
    }

    /// Moves the cursor; beyond the end are blanks.
    fn move_to(&mut self, column: usize) {
        let column = column.min(LONGEST);
        if self.cells.len() < column {
            let blank = Cell {
                character: ' ',
                style: 0,
            };
            self.cells.resize(column, blank);
        }
        self.cursor = column;
    }

    fn erase(&mut self, how: usize) {
        let blank = Cell {
            character: ' ',
            style: 0,
        };
        let passed = (self.cursor + 1).min(self.cells.len());
        match how {
            0 => self.cells.truncate(self.cursor),
            1 => self.cells[..passed].fill(blank),
            2 => self.cells.fill(blank),
            _ => {}
        }
    }

    fn set_style(&mut self, params: &Params) {
        let groups: Vec<String> = params
            .iter()
            .map(|group| {
                let numbers: Vec<String> = group.iter().map(u16::to_string).collect();
                numbers.join(":")
            })
            .collect();
        let codes = groups.join(";");
        if codes.is_empty() || codes == "0" {
            self.style = 0;
            return;
        }
        let mut style = self.styles[self.style].clone();
        let code = format!("\x1b[{codes}m");
        if style.len() + code.len() > LONGEST_STYLE {
            style.clear();
        }
        self.styles.push(style + &code);
        self.style = self.styles.len() - 1;
    }
}

impl Perform for Strip {
    fn print(&mut self, character: char) {
        if !is_unsafe(character) {
            self.put(character);
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\r' => self.cursor = 0,
            0x08 => self.cursor = self.cursor.saturating_sub(1),
            b'\t' => self.move_to((self.cursor / TAB + 1) * TAB),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        if ignore || !intermediates.is_empty() {
            return;
        }
        let first = params.iter().next().and_then(|group| group.first());
        let first = first.map_or(0, |number| usize::from(*number));
        match action {
            b'm' => self.set_style(params),
            b'K' => self.erase(first),
            b'C' => self.move_to(self.cursor + first.max(1)),
            b'D' => self.cursor = self.cursor.saturating_sub(first.max(1)),
            b'G' => self.move_to(first.max(1) - 1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overwritten_is_gone_and_what_is_not_stays() {
        assert_eq!(plain(b"10%\r50%\r\x1b[1;31m99%\x1b[0m\x07\r"), "99%");
        assert_eq!(plain(b"downloading\rdone"), "doneloading");
        assert_eq!(plain(b"downloading\r\x1b[Kdone"), "done");
        assert_eq!(plain(b"ab\x08c"), "ac");
        assert_eq!(plain(b"a\tb"), "a       b");
        assert_eq!(plain(b"abc\x1b[1Gx\x1b[2Cy"), "xbcy");
    }

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(plain(b"\x1b]0;title\x07ok \xff"), "ok \u{fffd}");
        assert_eq!(plain(b"\x1b]0;title\x1b\\ok"), "ok");
        assert_eq!(plain(b"\x1b[2J\x1b[H\x1b[6n\x1b[?1049hx"), "x");
        assert_eq!(plain(b"\x1bP1$r0m\x1b\\\x1b_apc\x1b\\\x1b^pm\x1b\\x"), "x");
        assert_eq!(plain("\u{202e}gpj\u{9b}2J".as_bytes()), "gpj2J");
        assert_eq!(plain(b"\x1b[31"), "");
        // No cursor goes so far that the memory ends.
        assert!(plain(b"\x1b[65535C\x1b[65535C\x1b[65535Cx").len() <= LONGEST);
    }

    #[test]
    fn colours_are_kept_and_end_with_the_line() {
        assert_eq!(
            colored(b"a\x1b[1;31mb\x1b[4mc\x1b[0md"),
            "a\x1b[0m\x1b[1;31mb\x1b[0m\x1b[1;31m\x1b[4mc\x1b[0md"
        );
        assert_eq!(colored(b"\x1b[32mgreen"), "\x1b[0m\x1b[32mgreen\x1b[0m");
        assert_eq!(colored(b"\x1b[2J\x1b]0;t\x07x"), "x");
    }
}

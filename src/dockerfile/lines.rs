//! Physical lines to logical ones: byte-order mark, line ends, directives, comments,
//! continuations, heredoc bodies.
//!
//! ```text
//!   3 │ # why                      ─> comments ["why"]
//!   4 │ RUN apt-get update \       ─┐
//!   5 │     # in between            │ text "RUN apt-get update     && true"
//!   6 │     && true                ─┘ pieces (0, line 4, column 1), (19, line 6, column 1)
//! ```
//!
//! A logical line remembers which piece of its text came from where, so that an error at an
//! offset can be told as a line and column of the file.

use super::{Directives, ParseError, ParseErrorKind, Span, Spanned, Warning};

/// A mistake at an offset of a logical line's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    pub kind: ParseErrorKind,
    pub offset: usize,
}

impl Mistake {
    pub(super) fn at(offset: usize, kind: ParseErrorKind) -> Mistake {
        Mistake { kind, offset }
    }
}

/// One instruction's text, its continuations joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogicalLine {
    pub text: String,
    pieces: Vec<Piece>,
    pub first_line: u32,
    pub last_line: u32,
    /// The comment lines above it, without `#`.
    pub comments: Vec<String>,
}

/// Where a part of a logical line's text, from `offset` on, stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    offset: usize,
    line: u32,
    column: u32,
}

impl LogicalLine {
    /// The line and column of a byte offset in `text`.
    pub(super) fn place(&self, offset: usize) -> (u32, u32) {
        let index = self.pieces.partition_point(|piece| piece.offset <= offset);
        let Some(piece) = self.pieces.get(index.saturating_sub(1)) else {
            return (self.first_line, 1);
        };
        let before = self.text.get(piece.offset..offset).unwrap_or_default();
        (piece.line, piece.column + before.chars().count() as u32)
    }

    /// The place of the whole, from its first visible character on.
    pub(super) fn span(&self) -> Span {
        let indentation = self.text.len() - self.text.trim_start().len();
        let (line, column) = self.place(indentation);
        Span {
            line,
            end_line: self.last_line,
            column,
        }
    }
}

/// Reads a file line by line.
pub(super) struct LineReader<'a> {
    /// With their line ends.
    lines: Vec<&'a str>,
    /// The index of the next line.
    next: usize,
    /// Added to every line number: where the text begins in its file.
    line_offset: u32,
    pub directives: Directives,
    /// Whether a directive may still come.
    in_directives: bool,
    escape_seen: bool,
    pub warnings: Vec<Spanned<Warning>>,
}

impl<'a> LineReader<'a> {
    /// A reader of `text`, whose first line is number `first_line`.
    pub(super) fn new(text: &'a str, first_line: u32) -> LineReader<'a> {
        LineReader {
            lines: text.split_inclusive('\n').collect(),
            next: 0,
            line_offset: first_line.saturating_sub(1),
            directives: Directives {
                syntax: None,
                escape: '\\',
                check: None,
            },
            in_directives: true,
            escape_seen: false,
            warnings: Vec::new(),
        }
    }

    /// The next instruction; `None` at the end.
    pub(super) fn next_line(&mut self) -> Result<Option<LogicalLine>, ParseError> {
        let mut comments = Vec::new();
        while let Some(line) = self.take_line() {
            let number = self.number();
            let visible = line.trim_start();
            if let Some(comment) = visible.strip_prefix('#') {
                if !self.read_directive(visible, number, line)? {
                    note_comment(&mut comments, comment);
                }
                continue;
            }
            self.in_directives = false;
            let column = (line.chars().count() - visible.chars().count()) as u32 + 1;
            let (part, continues) = without_continuation(visible, self.directives.escape);
            if !continues && part.is_empty() {
                continue;
            }
            let mut logical = LogicalLine {
                text: part.to_owned(),
                pieces: vec![Piece {
                    offset: 0,
                    line: number,
                    column,
                }],
                first_line: number,
                last_line: number,
                comments: std::mem::take(&mut comments),
            };
            if continues {
                self.read_continuations(&mut logical);
            }
            // Nothing but continuation characters: no instruction.
            if !logical.text.trim().is_empty() {
                return Ok(Some(logical));
            }
        }
        Ok(None)
    }

    /// Joins the lines that continue `logical`. Comments and empty lines between them vanish.
    fn read_continuations(&mut self, logical: &mut LogicalLine) {
        let mut warned = false;
        while let Some(line) = self.take_line() {
            let number = self.number();
            let visible = line.trim_start();
            if visible.starts_with('#') {
                continue;
            }
            if visible.is_empty() {
                if !warned {
                    let span = Span::at(number, 1);
                    self.warnings.push(Spanned {
                        value: Warning::EmptyContinuationLine,
                        span,
                    });
                }
                warned = true;
                continue;
            }
            let (part, continues) = without_continuation(line, self.directives.escape);
            logical.pieces.push(Piece {
                offset: logical.text.len(),
                line: number,
                column: 1,
            });
            logical.text.push_str(part);
            logical.last_line = number;
            if !continues {
                return;
            }
        }
    }

    /// The lines up to the one that is `name`, as they are. The delimiter's line is read too.
    /// `None`: it doesn't come.
    pub(super) fn read_heredoc(&mut self, name: &str, chomp: bool) -> Option<String> {
        let first = self.next;
        while let Some(&raw) = self.lines.get(self.next) {
            self.next += 1;
            let line = raw.trim_end_matches(['\r', '\n']);
            let candidate = if chomp {
                line.trim_start_matches('\t')
            } else {
                line
            };
            if candidate == name {
                return Some(self.lines[first..self.next - 1].concat());
            }
        }
        None
    }

    /// The number of the line last read.
    pub(super) fn number(&self) -> u32 {
        self.line_offset + self.next as u32
    }

    /// An error at an offset of `line`.
    pub(super) fn error(&self, line: &LogicalLine, mistake: Mistake) -> ParseError {
        let (number, column) = line.place(mistake.offset);
        self.error_at(mistake.kind, number, column)
    }

    /// An error at a place of the file.
    pub(super) fn error_at(&self, kind: ParseErrorKind, line: u32, column: u32) -> ParseError {
        let index = line.saturating_sub(self.line_offset).saturating_sub(1) as usize;
        let text = self.lines.get(index).copied().unwrap_or_default();
        let source_line = text.trim_end_matches(['\r', '\n']).to_owned();
        ParseError {
            kind: Box::new(kind),
            line,
            column,
            source_line,
        }
    }

    /// The next line without its end.
    fn take_line(&mut self) -> Option<&'a str> {
        let line = *self.lines.get(self.next)?;
        self.next += 1;
        Some(line.trim_end_matches(['\r', '\n']))
    }

    /// Takes `comment` (it begins with `#`) in if it is a parser directive. The first comment
    /// that is none ends them, as does anything else.
    fn read_directive(
        &mut self,
        comment: &str,
        number: u32,
        line: &str,
    ) -> Result<bool, ParseError> {
        let Some((name, value)) = directive(comment).filter(|_| self.in_directives) else {
            self.in_directives = false;
            return Ok(false);
        };
        let column_of = |part: &str| {
            let offset = part.as_ptr() as usize - line.as_ptr() as usize;
            line[..offset].chars().count() as u32 + 1
        };
        let span = Span::at(number, column_of(value));
        let spanned = Spanned {
            value: value.to_owned(),
            span,
        };
        let directives = &mut self.directives;
        let lower = name.to_ascii_lowercase();
        let twice = match lower.as_str() {
            "syntax" => directives.syntax.replace(spanned).is_some(),
            "check" => directives.check.replace(spanned).is_some(),
            "escape" => return self.read_escape(value, span),
            _ => {
                self.in_directives = false;
                return Ok(false);
            }
        };
        if twice {
            let kind = ParseErrorKind::DuplicateDirective { name: lower };
            return Err(self.error_at(kind, number, column_of(name)));
        }
        Ok(true)
    }

    fn read_escape(&mut self, value: &str, span: Span) -> Result<bool, ParseError> {
        if self.escape_seen {
            let kind = ParseErrorKind::DuplicateDirective {
                name: "escape".to_owned(),
            };
            return Err(self.error_at(kind, span.line, span.column));
        }
        self.escape_seen = true;
        self.directives.escape = match value {
            "\\" => '\\',
            "`" => '`',
            _ => {
                let kind = ParseErrorKind::BadEscape {
                    value: value.to_owned(),
                };
                return Err(self.error_at(kind, span.line, span.column));
            }
        };
        Ok(true)
    }
}

/// Keeps `comment` for the instruction below; an empty one ends the paragraph above.
fn note_comment(comments: &mut Vec<String>, comment: &str) {
    let comment = comment.trim();
    if comment.is_empty() {
        comments.clear();
    } else {
        comments.push(comment.to_owned());
    }
}

/// The name and value of `# name = value`.
fn directive(comment: &str) -> Option<(&str, &str)> {
    let (name, value) = comment.strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    (plain && !value.is_empty()).then_some((name, value))
}

/// `line` without the escape character at its end, and whether it had one: only blanks may
/// follow, and no other escape character stand before it.
fn without_continuation(line: &str, escape: char) -> (&str, bool) {
    let end = line.trim_end_matches([' ', '\t']);
    match end.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

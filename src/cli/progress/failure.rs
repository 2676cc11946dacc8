//! A failed step: the end of what it wrote, and the line of the Dockerfile, with its neighbours.
//!
//! ```text
//! ------
//!  > [builder 2/2] RUN make:
//! main.c:3: error
//! ------
//! Dockerfile:2
//! --------------------
//!    1 |     FROM base AS builder
//!    2 | >>> RUN make
//!    3 |     FROM base
//! --------------------
//! ```
//! Why it failed is the command's error, and told once, at the end of the program.

use super::Settings;
use super::board::Board;
use crate::cli::render::text;

/// A text whose lines are quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted {
    /// What it is called: a path, or `stdin`.
    pub name: String,
    /// The text.
    pub text: String,
}

/// How many lines are quoted before and after.
const NEIGHBOURS: usize = 2;

/// The failed step's block; empty where none failed. `with_output`: what it wrote was not shown
/// right above.
pub fn block(board: &Board, settings: &Settings, with_output: bool) -> Vec<u8> {
    let Some((number, _)) = &board.failed else {
        return Vec::new();
    };
    let Some(step) = board.steps.get(*number) else {
        return Vec::new();
    };
    let mut block = Vec::new();
    if with_output && !step.tail.is_empty() {
        let title = board.title(*number);
        block.extend_from_slice(format!("------\n > {title}:\n").as_bytes());
        for line in &step.tail {
            block.extend_from_slice(&settings.line(line));
            block.push(b'\n');
        }
        block.extend_from_slice(b"------\n");
    }
    if let Some(dockerfile) = &settings.dockerfile {
        block.extend_from_slice(quote(dockerfile, step.info.line as usize).as_bytes());
    }
    block
}

/// The lines around the instruction that begins at `line`, from 1; all of its own lines marked.
fn quote(dockerfile: &Quoted, line: usize) -> String {
    let lines: Vec<&str> = dockerfile.text.lines().collect();
    if line == 0 || line > lines.len() {
        return String::new();
    }
    let mut last = line;
    // The default escape; with another one the first line alone is marked.
    while last < lines.len() && lines[last - 1].trim_end().ends_with('\\') {
        last += 1;
    }
    lines_marked(dockerfile, line, last)
}

/// The lines from `line` to `last`, from 1, marked, and their neighbours.
pub fn lines_marked(dockerfile: &Quoted, line: usize, last: usize) -> String {
    let lines: Vec<&str> = dockerfile.text.lines().collect();
    if line == 0 || line > lines.len() {
        return String::new();
    }
    let from = line.saturating_sub(NEIGHBOURS).max(1);
    let to = (last + NEIGHBOURS).min(lines.len());
    let rule = "-".repeat(20);
    let mut quoted = format!("{}:{line}\n{rule}\n", dockerfile.name);
    for number in from..=to {
        let mark = if (line..=last).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        let text = text::clean(lines[number - 1]);
        let entry = format!("{number:4} | {mark} {text}");
        quoted.push_str(entry.trim_end());
        quoted.push('\n');
    }
    quoted + &rule + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_of_the_instruction_are_marked() {
        let dockerfile = Quoted {
            name: "Dockerfile".into(),
            text: "FROM a\n\nRUN x && \\\n  y\nENV A=b\nENV B=c\nENV C=d".into(),
        };
        let expected = "\
Dockerfile:3
--------------------
   1 |     FROM a
   2 |
   3 | >>> RUN x && \\
   4 | >>>   y
   5 |     ENV A=b
   6 |     ENV B=c
--------------------
";
        assert_eq!(quote(&dockerfile, 3), expected);
        assert_eq!(quote(&dockerfile, 99), "");
    }
}

//! What can be wrong with a Dockerfile, told with its place.
//!
//! ```text
//! 3:5: unknown flag --form for COPY; did you mean --from?
//!     3 | COPY --form=build /a /b
//!       |      ^
//! ```
//!
//! A [`ParseError`] is a [`ParseErrorKind`] at a line and column (1-based, in characters) with the
//! line's text. Its `Display` is the picture above; [`ParseErrorKind`]'s is the message alone.

use crate::words;
use std::fmt;

use super::Span;
use super::expand::ExpandError;

/// A mistake in a Dockerfile and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong (boxed: errors travel through every result).
    pub kind: Box<ParseErrorKind>,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The text of that line; unprintable characters are replaced.
    pub source_line: String,
}

impl std::error::Error for ParseError {}

impl ParseError {
    /// An error about an instruction that was parsed before. It is told at the instruction's
    /// first line; if all is on one line and the error about a word of it, at that word.
    pub(super) fn about(kind: ParseErrorKind, span: Span, original: &str) -> ParseError {
        let word = match &kind {
            ParseErrorKind::Expand(error) if span.line == span.end_line => error.word.as_str(),
            _ => "",
        };
        let before = original
            .split(word)
            .next()
            .filter(|_| !word.is_empty())
            .unwrap_or_default();
        let indentation = " ".repeat(span.column.saturating_sub(1).min(80) as usize);
        ParseError {
            kind: Box::new(kind),
            line: span.line,
            column: span.column + before.chars().count() as u32,
            source_line: format!("{indentation}{original}"),
        }
    }
}

/// The longest piece of a line that a message quotes.
const QUOTED_WIDTH: usize = 120;

impl fmt::Display for ParseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.line, self.column, self.kind)?;
        if self.source_line.trim().is_empty() {
            return Ok(());
        }
        let column = self.column.max(1) as usize - 1;
        let skipped = if column < QUOTED_WIDTH {
            0
        } else {
            column - QUOTED_WIDTH / 2
        };
        let quoted: String = self
            .source_line
            .chars()
            .skip(skipped)
            .take(QUOTED_WIDTH)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let number = self.line.to_string();
        let caret = column - skipped;
        write!(out, "\n    {number} | {}", quoted.trim_end())?;
        write!(
            out,
            "\n    {:width$} | {:caret$}^",
            "",
            "",
            width = number.len()
        )
    }
}

/// What is wrong, without the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// The file has no instruction at all.
    #[error("the Dockerfile has no instructions; it needs at least a FROM")]
    Empty,
    /// There are instructions (ARG), but no stage.
    #[error("the Dockerfile has no FROM; add one with the base image, or FROM scratch")]
    NoStage,
    /// Bytes that are no text.
    #[error("this is not a text file (byte 0x{byte:02x}); a Dockerfile is UTF-8 text")]
    Binary {
        /// The offending byte.
        byte: u8,
    },
    /// Bytes that are no UTF-8.
    #[error("invalid UTF-8 (byte 0x{byte:02x}); save the Dockerfile as UTF-8")]
    NotUtf8 {
        /// The offending byte.
        byte: u8,
    },
    /// A UTF-16 byte-order mark.
    #[error("the Dockerfile is UTF-16; save it as UTF-8")]
    Utf16,
    /// An instruction before `FROM` that needs a stage.
    #[error("{instruction} before the first FROM; only ARG may stand there")]
    BeforeFrom {
        /// The instruction.
        instruction: &'static str,
    },
    /// A word that is no instruction.
    #[error("unknown instruction {found}{}", did_you_mean(nearest))]
    UnknownInstruction {
        /// The word.
        found: String,
        /// The nearest instruction.
        nearest: Option<String>,
    },
    /// A flag that the instruction doesn't have.
    #[error("unknown flag {flag} for {instruction}{}", did_you_mean(nearest))]
    UnknownFlag {
        /// The instruction.
        instruction: &'static str,
        /// The flag with its dashes.
        flag: String,
        /// The nearest flag.
        nearest: Option<String>,
    },
    /// A flag given twice that may be given once.
    #[error("flag {flag} of {instruction} is given twice; keep one")]
    DuplicateFlag {
        /// The instruction.
        instruction: &'static str,
        /// The flag with its dashes.
        flag: String,
    },
    /// A flag without the value it needs.
    #[error("flag {flag} of {instruction} needs a value: {flag}=VALUE")]
    FlagWithoutValue {
        /// The instruction.
        instruction: &'static str,
        /// The flag with its dashes.
        flag: String,
    },
    /// A flag whose value isn't one of those it takes.
    #[error("{value:?} is not a value for flag {flag} of {instruction}; {expected}")]
    BadFlagValue {
        /// The instruction.
        instruction: &'static str,
        /// The flag with its dashes.
        flag: String,
        /// The value.
        value: String,
        /// What is wrong, or what would be right.
        expected: String,
    },
    /// `RUN --mount=…` that makes no sense.
    #[error("--mount={text}: {problem}")]
    BadMount {
        /// The flag's value.
        text: String,
        /// What is wrong with it.
        problem: MountProblem,
    },
    /// `--from` with a variable.
    #[error(
        "--from={value} has a variable, which is not expanded there; name a stage: FROM {value} AS NAME, then --from=NAME"
    )]
    VariableInFrom {
        /// The value.
        value: String,
    },
    /// No arguments where some are needed.
    #[error("{instruction} needs at least one argument")]
    NoArguments {
        /// The instruction.
        instruction: &'static str,
    },
    /// Not exactly one argument.
    #[error("{instruction} needs exactly one argument")]
    NotOneArgument {
        /// The instruction.
        instruction: &'static str,
    },
    /// `COPY a`.
    #[error("{instruction} needs at least one source and a destination")]
    NoDestination {
        /// The instruction.
        instruction: &'static str,
    },
    /// `COPY a <<EOF`.
    #[error("{instruction} cannot write to a heredoc; the destination is the last argument")]
    HeredocDestination {
        /// The instruction.
        instruction: &'static str,
    },
    /// `FROM a b`.
    #[error("FROM takes an image, or an image AS a name; found {count} arguments")]
    FromArguments {
        /// How many there are.
        count: usize,
    },
    /// `FROM a AS 1st`.
    #[error(
        "{name:?} is not a stage name; one begins with a letter and has letters, digits, '-', '_' and '.'"
    )]
    BadStageName {
        /// The name.
        name: String,
    },
    /// `ENV a=b c`.
    #[error("{word:?} has no '='; {instruction} takes name=value pairs, quote values with spaces")]
    NoEquals {
        /// The instruction.
        instruction: &'static str,
        /// The word.
        word: String,
    },
    /// `ENV a`.
    #[error("{instruction} {name} has no value; write {instruction} {name}=VALUE")]
    NoValue {
        /// The instruction.
        instruction: &'static str,
        /// The name.
        name: String,
    },
    /// `ENV =a`.
    #[error("{instruction} has an empty name before '='")]
    EmptyName {
        /// The instruction.
        instruction: &'static str,
    },
    /// A JSON array with something other than strings.
    #[error(
        "the JSON array of {instruction} may only hold strings; put quotes around each element"
    )]
    JsonNotStrings {
        /// The instruction.
        instruction: &'static str,
    },
    /// `SHELL sh -c`.
    #[error("SHELL takes a JSON array: SHELL [\"/bin/sh\", \"-c\"]")]
    ShellNotJson,
    /// `VOLUME [""]`.
    #[error("VOLUME has an empty path")]
    EmptyVolume,
    /// `HEALTHCHECK FOO`.
    #[error("unknown HEALTHCHECK type {found}; it is CMD or NONE")]
    HealthcheckType {
        /// The word.
        found: String,
    },
    /// `HEALTHCHECK NONE something`.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNoneArguments,
    /// `HEALTHCHECK CMD`.
    #[error("HEALTHCHECK CMD has no command")]
    HealthcheckNoCommand,
    /// `ONBUILD ONBUILD`.
    #[error("ONBUILD ONBUILD is not allowed: a trigger cannot set a trigger")]
    OnbuildChained,
    /// `ONBUILD FROM`, `ONBUILD MAINTAINER`.
    #[error("{trigger} is not allowed as a trigger of ONBUILD")]
    OnbuildTrigger {
        /// The trigger.
        trigger: &'static str,
    },
    /// More than one instruction where one is expected (a trigger of a base image).
    #[error("a trigger of ONBUILD is one instruction; this text has more")]
    SeveralInstructions,
    /// A heredoc whose delimiter never comes.
    #[error("the heredoc <<{name} has no end; write {name} alone on a line after it")]
    UnterminatedHeredoc {
        /// The delimiter.
        name: String,
    },
    /// A heredoc's delimiter with a quote that doesn't end.
    #[error("the heredoc delimiter {word:?} has a quote that does not end")]
    BadHeredocName {
        /// The word.
        word: String,
    },
    /// A word that cannot be expanded.
    #[error("{0}")]
    Expand(ExpandError),
    /// `FROM $x` that expands to nothing.
    #[error("the base image {word} expands to nothing; give its ARG a default, or a --build-arg")]
    EmptyImage {
        /// The word.
        word: String,
    },
    /// `FROM --platform=$x` that expands to nothing.
    #[error("--platform={word} expands to nothing; give its ARG a default, or a --build-arg")]
    EmptyPlatform {
        /// The word.
        word: String,
    },
    /// `--from` a stage that comes later.
    #[error(
        "{name} is a stage that comes later, on line {line}; move it before this stage, which needs it"
    )]
    ForwardReference {
        /// The name as written.
        name: String,
        /// The line of its `FROM`.
        line: u32,
    },
    /// `--from` the stage that it stands in.
    #[error(
        "{name} is the stage that this instruction belongs to; it cannot take files from itself"
    )]
    SelfReference {
        /// The name as written.
        name: String,
    },
    /// `--from=7` where there are fewer stages.
    #[error("there is no stage number {number}; the stages before this one are {}", stages_before(*count))]
    NoSuchStage {
        /// The number.
        number: u64,
        /// How many stages come before.
        count: usize,
    },
    /// `# escape=x`.
    #[error("escape={value:?} is not a value for the directive; it is a backslash or a backquote")]
    BadEscape {
        /// The value.
        value: String,
    },
    /// `# syntax=…` twice.
    #[error("the directive {name} is given twice; keep one")]
    DuplicateDirective {
        /// Its name.
        name: String,
    },
}

/// What is wrong with a `--mount`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountProblem {
    /// Not comma-separated values.
    #[error("a quote does not end, or stands inside a value")]
    BadQuotes,
    /// An option that doesn't exist.
    #[error("unknown option {key}{}", did_you_mean(nearest))]
    UnknownOption {
        /// The option.
        key: String,
        /// The nearest one.
        nearest: Option<String>,
    },
    /// An option without `=value`.
    #[error("option {key} needs a value: {key}=VALUE")]
    NoValue {
        /// The option.
        key: String,
    },
    /// A value that the option doesn't take.
    #[error("{value:?} is not a value for {key}; {expected}")]
    BadValue {
        /// The option.
        key: String,
        /// The value.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// An option of another type.
    #[error("option {key} does not go with type={mount_type}")]
    NotForType {
        /// The option.
        key: &'static str,
        /// The type.
        mount_type: &'static str,
    },
    /// A secret without a name.
    #[error("a secret needs id=, source= or target=")]
    UnnamedSecret,
    /// A secret with both.
    #[error("a secret takes id= or source=, not both: they mean the same")]
    SecretIdAndSource,
    /// `from=$x`.
    #[error("from= does not expand variables; name a stage: FROM {value} AS NAME, then from=NAME")]
    VariableInFrom {
        /// The value.
        value: String,
    },
    /// A variable whose expansion fails.
    #[error("{0}")]
    Expand(ExpandError),
}

/// The numbers of the first `count` stages.
fn stages_before(count: usize) -> String {
    match count {
        0 => "none".to_owned(),
        1 => "0 alone".to_owned(),
        more => format!("0 to {}", more - 1),
    }
}

/// `; did you mean X?`, or nothing.
pub(crate) fn did_you_mean(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; did you mean {name}?"))
        .unwrap_or_default()
}

/// The option nearest to `found` by edit distance, if it is near enough to have been meant.
pub(crate) fn nearest<'a>(
    found: &str,
    options: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    // Two slips, but never most of the word; long rubbish isn't worth the quadratic work.
    if found.len() > 64 {
        return None;
    }
    let lower = found.to_lowercase();
    options
        .into_iter()
        .map(|option| (words::distance(&lower, &option.to_lowercase()), option))
        .filter(|(steps, option)| (1..=2).contains(steps) && *steps < option.chars().count())
        .min_by_key(|(steps, _)| *steps)
        .map(|(_, option)| option.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_nonsense_is_not() {
        let names = ["RUN", "FROM", "COPY", "ENTRYPOINT"];
        assert_eq!(nearest("FORM", names), Some("FROM".into()));
        assert_eq!(nearest("runn", names), Some("RUN".into()));
        assert_eq!(nearest("ENTRYPONT", names), Some("ENTRYPOINT".into()));
        assert_eq!(nearest("XYZZY", names), None);
        assert_eq!(nearest(&"x".repeat(1000), names), None);
    }

    #[test]
    fn the_caret_stands_below_the_column_however_long_the_line() {
        let error = ParseError {
            kind: Box::new(ParseErrorKind::ShellNotJson),
            line: 12,
            column: 301,
            source_line: format!("{}X{}", "a".repeat(300), "b".repeat(300)),
        };
        let text = error.to_string();
        let lines: Vec<&str> = text.lines().collect();
        let caret = lines[2].find('^').unwrap();
        assert_eq!(&lines[1][caret..=caret], "X");
    }
}

//! The whole file: logical lines to instructions, instructions to stages.

use super::instruction::{Parsed, Request};
use super::lines::{LineReader, LogicalLine};
use super::{
    Dockerfile, FromInstruction, Heredoc, Instruction, Kind, ParseError, ParseErrorKind, Stage,
};

type Result<T> = std::result::Result<T, ParseError>;

/// Parses a whole Dockerfile.
pub fn parse(text: &[u8]) -> Result<Dockerfile> {
    let text = decode(text)?;
    let mut reader = LineReader::new(text, 1);
    let mut global_args = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    while let Some(line) = reader.next_line()? {
        match read_instruction(&mut reader, line)? {
            (line, Parsed::From(from)) => stages.push(stage(&line, from)),
            (line, Parsed::Instruction(kind)) => {
                let instruction = instruction(&line, kind);
                match stages.last_mut() {
                    Some(stage) => stage.instructions.push(instruction),
                    None if matches!(instruction.kind, Kind::Arg(_)) => {
                        global_args.push(instruction);
                    }
                    None => {
                        let name = instruction.kind.name();
                        let kind = ParseErrorKind::BeforeFrom { instruction: name };
                        let span = instruction.span;
                        return Err(reader.error_at(kind, span.line, span.column));
                    }
                }
            }
        }
    }
    if stages.is_empty() {
        let no_stage = !global_args.is_empty();
        let kind = if no_stage {
            ParseErrorKind::NoStage
        } else {
            ParseErrorKind::Empty
        };
        return Err(reader.error_at(kind, reader.number().max(1), 1));
    }
    let LineReader {
        directives,
        warnings,
        ..
    } = reader;
    Ok(Dockerfile {
        directives,
        global_args,
        stages,
        warnings,
    })
}

/// Parses one instruction on its own: a trigger that a base image's `ONBUILD` left. Its places
/// count from `line`, the line of the `FROM` that pulled it in.
pub fn parse_instruction(text: &str, line: u32) -> Result<Instruction> {
    let mut reader = LineReader::new(text, line);
    let Some(first) = reader.next_line()? else {
        return Err(reader.error_at(ParseErrorKind::Empty, line, 1));
    };
    let (first, parsed) = read_instruction(&mut reader, first)?;
    let refuse = |kind| Err(reader.error_at(kind, first.span().line, first.span().column));
    let kind = match parsed {
        Parsed::From(_) => return refuse(ParseErrorKind::OnbuildTrigger { trigger: "FROM" }),
        Parsed::Instruction(Kind::Onbuild(_)) => return refuse(ParseErrorKind::OnbuildChained),
        Parsed::Instruction(Kind::Maintainer(_)) => {
            return refuse(ParseErrorKind::OnbuildTrigger {
                trigger: "MAINTAINER",
            });
        }
        Parsed::Instruction(kind) => kind,
    };
    if let Some(second) = reader.next_line()? {
        let span = second.span();
        let kind = ParseErrorKind::SeveralInstructions;
        return Err(reader.error_at(kind, span.line, span.column));
    }
    Ok(instruction(&first, kind))
}

/// Parses `line` and the heredocs that follow it.
fn read_instruction(
    reader: &mut LineReader<'_>,
    mut line: LogicalLine,
) -> Result<(LogicalLine, Parsed)> {
    let text = line.text.clone();
    let escape = reader.directives.escape;
    let request =
        Request::read(&text, 0, escape).map_err(|mistake| reader.error(&line, mistake))?;
    let mut heredocs = request
        .heredocs()
        .map_err(|mistake| reader.error(&line, mistake))?;
    for heredoc in &mut heredocs {
        heredoc.content = read_heredoc(reader, &line, heredoc)?;
    }
    if !heredocs.is_empty() {
        line.last_line = reader.number();
    }
    let parsed = request
        .parse(heredocs)
        .map_err(|mistake| reader.error(&line, mistake))?;
    Ok((line, parsed))
}

fn read_heredoc(
    reader: &mut LineReader<'_>,
    line: &LogicalLine,
    heredoc: &Heredoc,
) -> Result<String> {
    if let Some(content) = reader.read_heredoc(&heredoc.name, heredoc.chomp) {
        return Ok(content);
    }
    let (number, column) = line.place(line.text.find("<<").unwrap_or(0));
    let kind = ParseErrorKind::UnterminatedHeredoc {
        name: heredoc.name.clone(),
    };
    Err(reader.error_at(kind, number, column))
}

fn stage(line: &LogicalLine, from: FromInstruction) -> Stage {
    Stage {
        name: from.alias.as_ref().map(|alias| alias.to_ascii_lowercase()),
        from: FromInstruction {
            comments: line.comments.clone(),
            ..from
        },
        instructions: Vec::new(),
        span: line.span(),
    }
}

fn instruction(line: &LogicalLine, kind: Kind) -> Instruction {
    let original = line.text.trim().to_owned();
    let keyword_length = original.find(char::is_whitespace).unwrap_or(original.len());
    Instruction {
        kind,
        span: line.span(),
        keyword: original[..keyword_length].to_owned(),
        original,
        comments: line.comments.clone(),
    }
}

/// The text of a file: UTF-8, perhaps after a byte-order mark, without NUL.
fn decode(bytes: &[u8]) -> Result<&str> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(undecodable(ParseErrorKind::Utf16, "", b""));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // A NUL is never text, and more to the point than the bad UTF-8 that may follow.
    let text_end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(text_end);
    match (std::str::from_utf8(text), rest.first()) {
        (Ok(text), None) => Ok(text),
        (Ok(before), Some(_)) => Err(undecodable(ParseErrorKind::Binary { byte: 0 }, before, b"")),
        (Err(error), _) => {
            let (valid, rest) = text.split_at(error.valid_up_to());
            let before = std::str::from_utf8(valid).unwrap_or_default();
            let byte = rest.first().copied().unwrap_or_default();
            Err(undecodable(ParseErrorKind::NotUtf8 { byte }, before, rest))
        }
    }
}

/// An error at the end of `before`; the line is quoted with as much of `rest` as can be shown.
fn undecodable(kind: ParseErrorKind, before: &str, rest: &[u8]) -> ParseError {
    let line_start = before.rfind('\n').map_or(0, |index| index + 1);
    let start = &before[line_start..];
    let end = rest
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .next()
        .unwrap_or_default();
    let source_line = match end {
        [] => String::new(),
        end => format!("{start}{}", String::from_utf8_lossy(end)),
    };
    let line = before.matches('\n').count() as u32 + 1;
    ParseError {
        kind: Box::new(kind),
        line,
        column: start.chars().count() as u32 + 1,
        source_line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let error = parse_instruction(text, 7).unwrap_err();
        format!("{}:{} {}", error.line, error.column, error.kind)
    }

    #[test]
    fn a_trigger_is_one_instruction_with_its_heredocs() {
        let instruction = parse_instruction("RUN cat <<E\nx\nE", 7).unwrap();
        assert_eq!((instruction.span.line, instruction.span.end_line), (7, 9));
        assert!(refused("RUN x\nRUN y").starts_with("8:1 a trigger of ONBUILD is one instruction"));
        assert!(refused("").starts_with("7:1 the Dockerfile has no instructions"));
    }

    #[test]
    fn a_trigger_is_not_what_onbuild_refuses() {
        assert!(refused("FROM x").starts_with("7:1 FROM is not allowed"));
        assert!(refused("MAINTAINER x").starts_with("7:1 MAINTAINER is not allowed"));
        assert!(refused("ONBUILD RUN x").starts_with("7:1 ONBUILD ONBUILD is not allowed"));
        assert!(refused(" NONSENSE").starts_with("7:2 unknown instruction NONSENSE"));
    }
}

//! JSON that is fit for a terminal: what would steer one stands there as `\u001b`, which every
//! reader of JSON takes for the same text. [`serde_json`] escapes no more than JSON demands.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use super::text::is_unsafe;
use crate::cli::Result;

/// A formatter's output, with the characters escaped that steer terminals.
struct Safe<F>(F);

macro_rules! pass_on {
    ($($name:ident($($argument:ident: $kind:ty),*)),* $(,)?) => {
        $(fn $name<W: ?Sized + Write>(&mut self, writer: &mut W $(, $argument: $kind)*) -> io::Result<()> {
            self.0.$name(writer $(, $argument)*)
        })*
    };
}

impl<F: Formatter> Formatter for Safe<F> {
    pass_on!(
        begin_array(),
        end_array(),
        begin_array_value(first: bool),
        end_array_value(),
        begin_object(),
        end_object(),
        begin_object_key(first: bool),
        end_object_key(),
        begin_object_value(),
        end_object_value(),
    );

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        text: &str,
    ) -> io::Result<()> {
        if text.is_ascii() && !text.contains('\x7f') {
            return self.0.write_string_fragment(writer, text);
        }
        let mut rest = text;
        while let Some(place) = rest.find(is_unsafe) {
            self.0.write_string_fragment(writer, &rest[..place])?;
            let character = rest[place..].chars().next().unwrap_or_default();
            // All of them lie in the basic plane.
            write!(writer, "\\u{:04x}", u32::from(character))?;
            rest = &rest[place + character.len_utf8()..];
        }
        self.0.write_string_fragment(writer, rest)
    }
}

/// One document over several lines, with a line end.
pub fn document(out: &mut dyn Write, value: &impl Serialize) -> Result {
    let mut serializer = Serializer::with_formatter(&mut *out, Safe(PrettyFormatter::new()));
    value.serialize(&mut serializer)?;
    Ok(writeln!(out)?)
}

/// One document in one line, without a line end.
pub fn line(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(
        &mut bytes,
        Safe(CompactFormatter),
    ))?;
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

/// One document in one line, with a line end.
pub fn write_line(out: &mut dyn Write, value: &impl Serialize) -> Result {
    Ok(writeln!(out, "{}", line(value)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_in_it_steers_a_terminal_and_it_reads_as_it_was() {
        let value = json!({ "a\u{9b}b": ["\u{1b}[2J", "\u{7f}\u{85}", "\u{202e}x", "ä\"\n", ""] });
        let mut pretty = Vec::new();
        document(&mut pretty, &value).unwrap();
        for text in [line(&value).unwrap(), String::from_utf8(pretty).unwrap()] {
            assert!(!text.contains(|c| c != '\n' && is_unsafe(c)), "{text:?}");
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&text).unwrap(),
                value
            );
        }
        assert!(
            line(&value).unwrap().contains(r#""\u009bb""#)
                || line(&value).unwrap().contains(r"\u009b")
        );
    }
}

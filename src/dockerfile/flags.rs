//! Flags of instructions: `--name`, `--name=value`.

use super::ParseErrorKind;
use super::error::nearest;
use super::lines::Mistake;
use super::words::Word;

/// What values a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlagType {
    /// `--x`, `--x=true`, `--x=false`.
    Boolean,
    /// `--x=value`, once.
    Text,
    /// `--x=value`, as often as wanted.
    List,
}

/// The flags that an instruction knows.
pub(super) type FlagTable = &'static [(&'static str, FlagType)];

/// The flags that were given to one instruction, checked against its table.
#[derive(Debug)]
pub(super) struct Flags {
    pub instruction: &'static str,
    /// Name and value; the value's text is "true" or "false" for a boolean. The offset is that of
    /// the flag.
    given: Vec<(&'static str, Word)>,
}

impl Flags {
    /// Checks `words` (with their dashes) against `table`.
    pub(super) fn read(
        instruction: &'static str,
        words: &[Word],
        table: FlagTable,
    ) -> Result<Flags, Mistake> {
        let mut flags = Flags {
            instruction,
            given: Vec::new(),
        };
        for word in words {
            flags
                .read_one(word, table)
                .map_err(|kind| Mistake::at(word.offset, kind))?;
        }
        Ok(flags)
    }

    fn read_one(&mut self, word: &Word, table: FlagTable) -> Result<(), ParseErrorKind> {
        let instruction = self.instruction;
        let (flag, value) = match word.text.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (word.text.as_str(), None),
        };
        let named = flag.trim_start_matches("--");
        let Some((name, flag_type)) = table.iter().find(|(name, _)| *name == &flag[2..]) else {
            let nearest = nearest(named, table.iter().map(|(name, _)| *name));
            return Err(ParseErrorKind::UnknownFlag {
                instruction,
                flag: flag.to_owned(),
                nearest: nearest.map(|name| format!("--{name}")),
            });
        };
        let flag = flag.to_owned();
        if *flag_type != FlagType::List && self.given.iter().any(|(given, _)| given == name) {
            return Err(ParseErrorKind::DuplicateFlag { instruction, flag });
        }
        let text = match (flag_type, value) {
            (FlagType::Boolean, None) => "true".to_owned(),
            (FlagType::Boolean, Some(value)) => boolean(instruction, flag, value)?.to_owned(),
            (_, Some(value)) => value.to_owned(),
            (_, None) => return Err(ParseErrorKind::FlagWithoutValue { instruction, flag }),
        };
        self.given.push((
            name,
            Word {
                text,
                offset: word.offset,
            },
        ));
        Ok(())
    }

    /// The value of a flag and the place of the flag.
    pub(super) fn word(&self, name: &str) -> Option<&Word> {
        self.given
            .iter()
            .find(|(given, _)| *given == name)
            .map(|(_, word)| word)
    }

    /// The value of a flag. An empty one counts as not given, as docker has it.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.word(name)
            .map(|word| word.text.clone())
            .filter(|text| !text.is_empty())
    }

    /// The value of a boolean flag.
    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.word(name).map(|word| word.text == "true")
    }

    /// The values of a flag that may be repeated.
    pub(super) fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Word> {
        self.given
            .iter()
            .filter(move |(given, _)| *given == name)
            .map(|(_, word)| word)
    }

    /// The values of a flag that may be repeated, as strings.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.list(name).map(|word| word.text.clone()).collect()
    }

    /// An error about the value of a flag.
    pub(super) fn bad_value(&self, name: &str, word: &Word, expected: &str) -> Mistake {
        let kind = ParseErrorKind::BadFlagValue {
            instruction: self.instruction,
            flag: format!("--{name}"),
            value: word.text.clone(),
            expected: expected.to_owned(),
        };
        Mistake::at(word.offset, kind)
    }
}

fn boolean(
    instruction: &'static str,
    flag: String,
    value: &str,
) -> Result<&'static str, ParseErrorKind> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok("true"),
        "false" => Ok("false"),
        _ => Err(ParseErrorKind::BadFlagValue {
            instruction,
            flag,
            value: value.to_owned(),
            expected: "it is true or false".to_owned(),
        }),
    }
}

//! The filter engine of lists and prunes: `-f KEY=VALUE`.
//!
//! Each command says which keys it knows; each of its records answers for them with facts. An
//! unknown key or a value that cannot be meant is a usage error, never ignored.
//!
//! | key | value | holds for |
//! |---|---|---|
//! | `dangling`, `unreferenced`, `duplicate`, `empty` | `true`, `false` | what is, or isn't |
//! | `state`, `status`, `operation`, `type` | a word | what has it |
//! | `label`, `label!` | `NAME`, `NAME=VALUE` | what has the label; what doesn't |
//! | `id` | an ID, or the beginning of one | what is called so |
//! | `reference` | a name with `*`, `?`, `[…]` | what is called so |
//! | `before`, `since` | an image | what was seen before it, after it |
//! | `until` | an age or a time | what was first seen before |
//! | `used` | an age or a time | what was last used before |
//!
//! Several values of one key: any of them; of labels, all. Several keys: all of them. That is
//! docker's rule.

use std::collections::BTreeMap;

use regex::Regex;

use super::args::values;
use super::{Result, exit};
use crate::catalog::Millis;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Whether nothing holds it.
    Dangling,
    /// Whether no manifest holds it.
    Unreferenced,
    /// Whether the same is there under another compression.
    Duplicate,
    /// Whether a step made no layer.
    Empty,
    /// A word for what it is.
    State,
    /// A word for how it is.
    Status,
    /// A word for what was done.
    Operation,
    /// A word for what kind it is.
    Type,
    /// A label that it has.
    Label,
    /// A label that it does not have.
    NotLabel,
    /// A pattern that one of its names matches.
    Reference,
    /// Its ID, or the beginning of it.
    Id,
    /// Seen before an image.
    Before,
    /// Seen after an image.
    Since,
    /// First seen before a moment.
    Until,
    /// Last used before a moment.
    Used,
}

impl Key {
    /// The key as it is written.
    pub fn word(self) -> &'static str {
        match self {
            Key::Dangling => "dangling",
            Key::Unreferenced => "unreferenced",
            Key::Duplicate => "duplicate",
            Key::Empty => "empty",
            Key::State => "state",
            Key::Status => "status",
            Key::Operation => "operation",
            Key::Type => "type",
            Key::Label => "label",
            Key::NotLabel => "label!",
            Key::Reference => "reference",
            Key::Id => "id",
            Key::Before => "before",
            Key::Since => "since",
            Key::Until => "until",
            Key::Used => "used",
        }
    }
}

/// What a record answers for a key.
#[derive(Debug, Clone)]
pub enum Fact<'a> {
    /// It has nothing of the kind.
    Nothing,
    /// Whether it is.
    Is(bool),
    /// The word for it.
    Word(&'a str),
    /// Its labels.
    Labels(&'a BTreeMap<String, String>),
    /// Its names.
    Names(Vec<&'a str>),
    /// Its ID.
    Id(&'a str),
    /// A moment.
    Time(Millis),
}

/// A record that can be filtered.
pub trait Facts {
    /// Its answer. [`Key::Before`] and [`Key::Since`] ask for what [`Key::Until`] does: when it was
    /// first seen.
    fn fact(&self, key: Key) -> Fact<'_>;
}

/// What a command's filters know besides the keys: words that exist, images' times.
pub struct Vocabulary<'a> {
    /// The keys that the command knows.
    pub keys: &'a [Key],
    /// The words that exist for [`Key::State`], [`Key::Status`] or [`Key::Type`]; none: any.
    pub words: &'a [&'a str],
    /// The moment that ages are counted from.
    pub now: Millis,
    /// When an image was first seen.
    pub image_time: &'a dyn Fn(&str) -> Result<Millis>,
}

#[derive(Debug)]
enum Test {
    Is(bool),
    Word(String),
    Label(String, Option<String>),
    Name(Regex),
    Id(String),
    Before(Millis),
    After(Millis),
}

/// Filters that were understood.
#[derive(Debug, Default)]
pub struct Filters {
    tests: BTreeMap<Key, Vec<Test>>,
}

impl Filters {
    /// Reads filters.
    pub fn parse(texts: &[String], vocabulary: &Vocabulary) -> Result<Filters> {
        let mut filters = Filters::default();
        for text in texts {
            let (key, value) = split(text)?;
            let key = vocabulary
                .keys
                .iter()
                .copied()
                .find(|known| known.word() == key)
                .ok_or_else(|| unknown_key(key, vocabulary.keys))?;
            let test = vocabulary.test(key, value)?;
            filters.tests.entry(key).or_default().push(test);
        }
        Ok(filters)
    }

    /// Whether a record passes all of them.
    pub fn pass(&self, record: &impl Facts) -> bool {
        self.tests.iter().all(|(key, tests)| {
            let fact = record.fact(*key);
            match key {
                Key::Label => tests.iter().all(|test| holds(test, &fact)),
                Key::NotLabel => !tests.iter().any(|test| holds(test, &fact)),
                _ => tests.iter().any(|test| holds(test, &fact)),
            }
        })
    }

    /// Whether a key is asked for.
    pub fn has(&self, key: Key) -> bool {
        self.tests.contains_key(&key)
    }
}

/// `KEY=VALUE` or `KEY!=VALUE`.
fn split(text: &str) -> Result<(&str, &str)> {
    text.split_once('=')
        .filter(|(key, value)| !key.is_empty() && !value.is_empty())
        .ok_or_else(|| exit::usage_error(format!("filter {text:?} is not KEY=VALUE")))
}

fn unknown_key(key: &str, keys: &[Key]) -> anyhow::Error {
    let known: Vec<&str> = keys.iter().map(|key| key.word()).collect();
    let known = match known.as_slice() {
        [] => "there are no filters here".to_owned(),
        known => format!("there are {}", known.join(", ")),
    };
    exit::usage_error(format!("there is no filter {key:?}; {known}"))
}

impl Vocabulary<'_> {
    fn test(&self, key: Key, value: &str) -> Result<Test> {
        let bad = |why: String| exit::usage_error(format!("filter {}: {why}", key.word()));
        Ok(match key {
            Key::Dangling | Key::Unreferenced | Key::Duplicate | Key::Empty => {
                Test::Is(match value {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    _ => return Err(bad(format!("{value:?} is neither true nor false"))),
                })
            }
            Key::State | Key::Status | Key::Operation | Key::Type => {
                if !self.words.is_empty() && !self.words.contains(&value) {
                    let words = self.words.join(", ");
                    return Err(bad(format!("{value:?} is none of {words}")));
                }
                Test::Word(value.to_owned())
            }
            Key::Label | Key::NotLabel => match value.split_once('=') {
                Some((name, value)) => Test::Label(name.to_owned(), Some(value.to_owned())),
                None => Test::Label(value.to_owned(), None),
            },
            Key::Reference => Test::Name(pattern(value).map_err(bad)?),
            Key::Id => Test::Id(value.to_owned()),
            Key::Before => Test::Before((self.image_time)(value)?),
            Key::Since => Test::After((self.image_time)(value)?),
            Key::Until | Key::Used => Test::Before(values::moment(value, self.now).map_err(bad)?),
        })
    }
}

fn holds(test: &Test, fact: &Fact) -> bool {
    match (test, fact) {
        (Test::Is(wanted), Fact::Is(is)) => wanted == is,
        (Test::Word(wanted), Fact::Word(word)) => wanted == word,
        (Test::Label(name, value), Fact::Labels(labels)) => match (labels.get(name), value) {
            (Some(found), Some(value)) => found == value,
            (found, None) => found.is_some(),
            (None, Some(_)) => false,
        },
        (Test::Name(pattern), Fact::Names(names)) => {
            names.iter().any(|name| pattern.is_match(name))
        }
        (Test::Id(wanted), Fact::Id(id)) => is_called(id, wanted),
        (Test::Before(limit), Fact::Time(time)) => time < limit,
        (Test::After(limit), Fact::Time(time)) => time > limit,
        _ => false,
    }
}

/// Whether an ID is meant: in full or, of a digest, by four digits at least.
fn is_called(id: &str, wanted: &str) -> bool {
    let digits = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let is_prefix = digits.len() >= 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hex = id.strip_prefix("sha256:");
    id == wanted || is_prefix && hex.is_some_and(|hex| hex.starts_with(digits))
}

/// A file name pattern, in which neither `*` nor `?` stands for a `/`, as docker has it.
fn pattern(text: &str) -> Result<Regex, String> {
    let mut regex = String::from("^");
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '[' => {
                regex.push('[');
                let class: String = characters.by_ref().take_while(|c| *c != ']').collect();
                let class = class
                    .strip_prefix('!')
                    .map_or(class.clone(), |c| format!("^{c}"));
                regex.push_str(&class.replace('\\', r"\\").replace('[', r"\["));
                regex.push(']');
            }
            other => regex.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    regex.push('$');
    Regex::new(&regex).map_err(|_| format!("{text:?} is not a pattern"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing {
        labels: BTreeMap<String, String>,
    }

    impl Facts for Thing {
        fn fact(&self, key: Key) -> Fact<'_> {
            match key {
                Key::Dangling => Fact::Is(true),
                Key::State => Fact::Word("stage"),
                Key::Label | Key::NotLabel => Fact::Labels(&self.labels),
                Key::Reference => Fact::Names(vec!["reg/app:1", "reg/app"]),
                Key::Id => Fact::Id("sha256:abcdef"),
                Key::Until | Key::Before | Key::Since => Fact::Time(100),
                _ => Fact::Nothing,
            }
        }
    }

    const KEYS: &[Key] = &[
        Key::Dangling,
        Key::State,
        Key::Label,
        Key::NotLabel,
        Key::Reference,
        Key::Id,
        Key::Before,
        Key::Since,
        Key::Until,
        Key::Used,
    ];

    fn passes(filters: &[&str]) -> Result<bool> {
        let texts: Vec<String> = filters.iter().map(|f| (*f).to_owned()).collect();
        let vocabulary = Vocabulary {
            keys: KEYS,
            words: &["stage", "tagged"],
            now: 10_000,
            image_time: &|name| Ok(name.len() as Millis),
        };
        let labels = [("a", "1"), ("b", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let thing = Thing {
            labels: labels.into(),
        };
        Ok(Filters::parse(&texts, &vocabulary)?.pass(&thing))
    }

    #[test]
    fn one_key_is_any_and_several_are_all() {
        for (filters, expected) in [
            (&[][..], true),
            (&["dangling=true"], true),
            (&["dangling=false"], false),
            (&["state=tagged", "state=stage"], true),
            (&["state=tagged", "dangling=true"], false),
            (&["label=a"], true),
            (&["label=a=1", "label=b"], true),
            (&["label=a=2"], false),
            (&["label=a", "label=c"], false),
            (&["label!=c"], true),
            (&["label!=a"], false),
            (&["reference=reg/*"], true),
            (&["reference=*"], false),
            (&["reference=reg/a?p:[12]"], true),
            (&["reference=reg/app:[!1]"], false),
            (&["id=abcd"], true),
            (&["id=sha256:abcdef"], true),
            (&["id=abc"], false),
            (&["id=bcde"], false),
            (&["before=four"], false),
            (&["since=four"], true),
            (&["until=5s"], true),
            (&["until=10s"], false),
            (&["used=1s"], false),
        ] {
            assert_eq!(passes(filters).unwrap(), expected, "{filters:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_error() {
        for bad in [
            "x=1",
            "dangling",
            "dangling=",
            "=x",
            "dangling=maybe",
            "state=lost",
            "until=soon",
            "status=x",
            "reference=[",
        ] {
            let error = passes(&[bad]).unwrap_err();
            assert_eq!(exit::code(&error), 2, "{bad}: {error}");
        }
    }
}

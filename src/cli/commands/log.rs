//! `rstore log`: what was done to the store, by whom, and why.
//!
//! Without a name it is a list of deeds. With one it is the history of what that name, ID or digest
//! means: who built it, who tagged it, who gave its name away, which prune took it, and on whose
//! command.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::catalog::Millis;
use crate::catalog::journal::{JournalItem, JournalRow};
use crate::cli::args::ListArgs;
use crate::cli::filter::{Fact, Facts, Filters, Key, Vocabulary};
use crate::cli::render::{Column, Look, Record, list, text, time};
use crate::cli::{Context, Result, exit};
use crate::gc::NOT_FINISHED;
use crate::oci::reference::display_parts;
use crate::oci::{Digest, Reference};

/// Show what builds, tags and prunes did, and who asked for it
///
/// Shows what builds, pulls, loads, imports, tags, removals and prunes did, the newest first: to
/// what, how long it took, how many bytes it added or gave back, which user asked for it, and with
/// --no-trunc by which command line.
///
/// With a name, an ID or a digest: only what concerns that image, also one that is gone. So it
/// answers who deleted an image, with the reason.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Filters: operation, reference (a pattern: the subject, or a name that went), since, until (ages or times)

Examples:
  rstore log
  rstore log app
  rstore log -f operation=prune --format json
  rstore log -f reference='app:*' --no-trunc
  rstore log --format '{{.Time}} {{.User}} {{.Command}}'")]
pub struct Args {
    /// Only what concerns this name, ID or digest, be it gone or not
    #[arg(value_name = "REF|ID|DIGEST")]
    pub reference: Option<String>,
    /// How many entries
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    #[command(flatten)]
    pub list: ListArgs,
}

/// A row.
#[derive(Debug, Serialize)]
pub struct Row {
    #[serde(serialize_with = "time::json")]
    time: Millis,
    operation: String,
    subject: String,
    bytes: u64,
    detail: String,
    /// How long it took.
    milliseconds: Option<u64>,
    /// The manifest or index that it is about.
    digest: Option<Digest>,
    uid: Option<u32>,
    command: String,
    facts: Map<String, Value>,
    /// What it took away.
    removed: Vec<JournalItem>,
    /// Every name in it, with its tag and without.
    #[serde(skip)]
    names: Vec<String>,
}

impl Row {
    fn new(row: JournalRow) -> Row {
        let mut names = Vec::new();
        for name in row.entry.subject.split(' ') {
            add_name(&mut names, name);
        }
        for item in &row.particulars.items {
            add_name(&mut names, &item.label);
            item.names
                .iter()
                .for_each(|name| add_name(&mut names, name));
        }
        let tags = row.particulars.facts.get("tags").and_then(Value::as_array);
        for tag in tags.into_iter().flatten().filter_map(Value::as_str) {
            add_name(&mut names, tag);
        }
        Row {
            time: row.entry.time,
            operation: row.entry.operation,
            subject: row.entry.subject,
            bytes: row.entry.bytes,
            detail: row.entry.detail,
            milliseconds: row.particulars.milliseconds,
            digest: row.particulars.digest,
            uid: row.actor.uid,
            command: row.actor.command,
            facts: row.particulars.facts,
            removed: row.particulars.items,
            names,
        }
    }

    /// The digests that it is about: those of manifests, and IDs.
    fn digests(&self) -> impl Iterator<Item = String> + '_ {
        let facts = ["image", "remote_digest"].into_iter();
        let of_facts = facts.filter_map(|name| Some(self.facts.get(name)?.as_str()?.to_owned()));
        let of_items = self.removed.iter().flat_map(|item| {
            item.digest
                .map(|digest| digest.to_string())
                .into_iter()
                .chain([item.label.clone()])
        });
        self.digest
            .map(|digest| digest.to_string())
            .into_iter()
            .chain(of_facts)
            .chain(of_items)
    }
}

fn add_name(names: &mut Vec<String>, name: &str) {
    let (repository, _) = display_parts(name);
    for name in [name.to_owned(), repository] {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
}

/// What somebody asks the history of.
enum Wanted {
    /// A name, as it was written and as it is stored.
    Name(Vec<String>),
    /// A digest or the beginning of one.
    Digits(String),
}

impl Wanted {
    /// What a reference can mean: where it has four hexadecimal digits or more, both.
    fn of(text: &str) -> Vec<Wanted> {
        let mut names = vec![text.to_owned()];
        if let Ok(reference) = text.parse::<Reference>() {
            names.extend([reference.familiar(), reference.full()]);
        }
        // A bare name means each of its tags: whoever asks does not know which one went.
        let mut wanted = vec![Wanted::Name(names)];
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let hexadecimal = digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hexadecimal && (4..=64).contains(&digits.len()) {
            wanted.push(Wanted::Digits(digits.to_owned()));
        }
        wanted
    }

    fn is_of_item(&self, item: &JournalItem) -> bool {
        match self {
            Wanted::Name(names) => {
                let mut of_item = Vec::new();
                add_name(&mut of_item, &item.label);
                item.names
                    .iter()
                    .for_each(|name| add_name(&mut of_item, name));
                names.iter().any(|name| of_item.contains(name))
            }
            Wanted::Digits(digits) => {
                let label = item.label.strip_prefix("sha256:").unwrap_or(&item.label);
                label.starts_with(digits)
                    || item
                        .digest
                        .is_some_and(|digest| digest.hex().starts_with(digits.as_str()))
            }
        }
    }

    fn is_of(&self, row: &Row) -> bool {
        match self {
            Wanted::Name(names) => names.iter().any(|name| row.names.contains(name)),
            Wanted::Digits(digits) => {
                let mut all = row.digests();
                all.any(|d| {
                    d.strip_prefix("sha256:")
                        .is_some_and(|hex| hex.starts_with(digits))
                })
            }
        }
    }
}

impl Facts for Row {
    fn fact(&self, key: Key) -> Fact<'_> {
        match key {
            Key::Operation => Fact::Word(&self.operation),
            Key::Reference => Fact::Names(self.names.iter().map(String::as_str).collect()),
            Key::Until | Key::Since => Fact::Time(self.time),
            _ => Fact::Nothing,
        }
    }
}

impl Record for Row {
    const PLURAL: &'static str = "entries";

    fn columns() -> Vec<Column<Row>> {
        vec![
            Column::<Row>::new("TIME", "Time", "time", |row, _| {
                // Milliseconds are for programs.
                time::rfc3339(row.time - row.time.rem_euclid(1000))
            })
            .by(|one, other| one.time.cmp(&other.time)),
            Column::<Row>::new("OPERATION", "Operation", "operation", |row, _| {
                text::clean(&row.operation)
            }),
            Column::<Row>::new("SUBJECT", "Subject", "subject", |row, look| {
                look.text(&row.subject, 40)
            })
            .flexible(),
            Column::<Row>::new("TOOK", "Took", "took", |row, _| {
                row.milliseconds.map_or_else(String::new, took)
            })
            .by(|one, other| one.milliseconds.cmp(&other.milliseconds)),
            Column::<Row>::new("BYTES", "Bytes", "bytes", |row, look| look.size(row.bytes))
                .by(|one, other| one.bytes.cmp(&other.bytes)),
            Column::<Row>::new("USER", "User", "user", |row, _| {
                row.uid
                    .map_or_else(|| "unknown".to_owned(), |uid| uid.to_string())
            })
            .by(|one, other| one.uid.cmp(&other.uid)),
            Column::<Row>::new("DETAIL", "Detail", "detail", |row, look| {
                look.text(&row.detail, 70)
            })
            .flexible(),
            Column::<Row>::new("COMMAND", "Command", "command", |row, look| {
                look.text(&row.command, 60)
            })
            .flexible(),
        ]
    }

    fn id(&self, _look: &Look) -> String {
        text::clean(&self.subject)
    }
}

/// Seconds with a tenth, above a minute without.
fn took(milliseconds: u64) -> String {
    match milliseconds {
        ..60_000 => format!("{:.1}s", milliseconds as f64 / 1000.0),
        _ => format!("{}m{:02}s", milliseconds / 60_000, milliseconds / 1000 % 60),
    }
}

const KEYS: &[Key] = &[Key::Operation, Key::Reference, Key::Since, Key::Until];

const TITLES: &[&str] = &[
    "TIME",
    "OPERATION",
    "SUBJECT",
    "TOOK",
    "BYTES",
    "USER",
    "DETAIL",
];

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    list::check::<Row>(&arguments.list)?;
    let now = context.now;
    let vocabulary = Vocabulary {
        keys: KEYS,
        words: &[],
        now,
        image_time: &|text| crate::cli::args::values::moment(text, now).map_err(exit::usage_error),
    };
    let filters = Filters::parse(&arguments.list.filters, &vocabulary)?;
    let store = context.open()?;
    // What filters leave out doesn't count.
    let all = arguments.reference.is_some() || !arguments.list.filters.is_empty();
    let read = if all { usize::MAX } else { arguments.limit };
    let entries = store.catalog().read(|tx| tx.journal_rows(read, true))?;
    let wanted = arguments.reference.as_deref().map(Wanted::of);
    let rows = entries
        .into_iter()
        .map(Row::new)
        .filter(|row| filters.pass(row))
        .filter_map(|row| match &wanted {
            Some(wanted) => concerning(row, wanted),
            None => Some(row),
        })
        .take(arguments.limit)
        .collect();
    let look = Look::of(&arguments.list, context);
    let mut titles = TITLES.to_vec();
    if arguments.reference.is_some() || look.full {
        titles.push("COMMAND");
    }
    list::show(&mut context.out, rows, &titles, &arguments.list, &look)
}

/// A row as far as it concerns what is asked for: of a prune only what was taken of it.
fn concerning(mut row: Row, wanted: &[Wanted]) -> Option<Row> {
    if !wanted.iter().any(|wanted| wanted.is_of(&row)) {
        return None;
    }
    row.removed
        .retain(|item| wanted.iter().any(|wanted| wanted.is_of_item(item)));
    let reasons: Vec<String> = row
        .removed
        .iter()
        .map(|item| {
            let name = item
                .label
                .parse::<Digest>()
                .map_or_else(|_| item.label.clone(), |id| id.short());
            format!("{} {name}: {}", item.kind, item.reason)
        })
        .collect();
    if !reasons.is_empty() {
        let mut reasons = reasons.join("; ");
        if row.detail.ends_with(NOT_FINISHED) {
            reasons.push_str(NOT_FINISHED);
        }
        row.detail = match row.operation.as_str() {
            "tag" | "untag" => format!("{} ({})", reasons, row.detail),
            _ => reasons,
        };
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(took(0), "0.0s");
        assert_eq!(took(1_250), "1.2s");
        assert_eq!(took(61_900), "1m01s");
    }
}

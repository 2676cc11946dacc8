//! `rstore log`: what was done to the store, and why.

use serde::Serialize;

use crate::catalog::Millis;
use crate::catalog::journal::JournalEntry;
use crate::cli::args::ListArgs;
use crate::cli::filter::{Fact, Facts, Filters, Key, Vocabulary};
use crate::cli::render::{Column, Look, Record, list, text, time};
use crate::cli::{Context, Result, exit};

/// Show what builds, tags and prunes did
///
/// Shows what builds, imports, tags and prunes did, the newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Filters: operation, reference (the subject), until (before)")]
pub struct Args {
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
}

impl From<JournalEntry> for Row {
    fn from(entry: JournalEntry) -> Row {
        Row {
            time: entry.time,
            operation: entry.operation,
            subject: entry.subject,
            bytes: entry.bytes,
            detail: entry.detail,
        }
    }
}

impl Facts for Row {
    fn fact(&self, key: Key) -> Fact<'_> {
        match key {
            Key::Operation => Fact::Word(&self.operation),
            Key::Reference => Fact::Names(vec![&self.subject]),
            Key::Until => Fact::Time(self.time),
            _ => Fact::Nothing,
        }
    }
}

impl Record for Row {
    const PLURAL: &'static str = "entries";

    fn columns() -> Vec<Column<Row>> {
        vec![
            Column::<Row>::new("TIME", "Time", "time", |row, _| time::rfc3339(row.time))
                .by(|one, other| one.time.cmp(&other.time)),
            Column::<Row>::new("OPERATION", "Operation", "operation", |row, _| {
                text::clean(&row.operation)
            }),
            Column::<Row>::new("SUBJECT", "Subject", "subject", |row, look| {
                look.text(&row.subject, 60)
            })
            .flexible(),
            Column::<Row>::new("BYTES", "Bytes", "bytes", |row, look| look.size(row.bytes))
                .by(|one, other| one.bytes.cmp(&other.bytes)),
            Column::<Row>::new("DETAIL", "Detail", "detail", |row, look| {
                look.text(&row.detail, 60)
            })
            .flexible(),
        ]
    }

    fn id(&self, _look: &Look) -> String {
        text::clean(&self.subject)
    }
}

const KEYS: &[Key] = &[Key::Operation, Key::Reference, Key::Until];

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    list::check::<Row>(&arguments.list)?;
    let vocabulary = Vocabulary {
        keys: KEYS,
        words: &[],
        now: context.now,
        image_time: &|_| Err(exit::usage_error("the log has no such filter")),
    };
    let filters = Filters::parse(&arguments.list.filters, &vocabulary)?;
    let store = context.open()?;
    // What filters leave out doesn't count.
    let read = if arguments.list.filters.is_empty() {
        arguments.limit
    } else {
        usize::MAX >> 1
    };
    let entries = store.catalog().read(|tx| tx.journal(read))?;
    let rows = entries
        .into_iter()
        .map(Row::from)
        .filter(|row| filters.pass(row))
        .take(arguments.limit)
        .collect();
    let look = Look::of(&arguments.list, context);
    let titles: Vec<&str> = Row::columns().iter().map(|column| column.title).collect();
    list::show(&mut context.out, rows, &titles, &arguments.list, &look)
}

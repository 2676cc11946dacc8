//! `rstore fsck`: whether the store is whole, and putting right what is not.

use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::args::ListArgs;
use crate::cli::exit::Failure;
use crate::cli::render::{Column, Format, Look, Record, SCHEMA, list, text};
use crate::cli::{Context, Result};
use crate::fsck::{self, Finding, Options, Outcome, Progress, Report, Severity};

const LONG_HELP: &str = "\
What is found is an error (something that a name or a pin needs is missing or wrong, or the store
itself is), a warning (nothing named needs it, or something derived lies), or a note (what a crash,
another tool or a stopped prune has left, and the next prune removes).

Exit codes: 0 when nothing is wrong, notes are no wrong, or all of it was repaired; 4 when
something is; 5 when --repair could repair only a part of it.

--repair never removes a blob's bytes. What is corrupt moves to rstore/quarantine, where `rstore df`
counts it; no prune removes it from there, remove it by hand when it is of no more use. The
catalog, where it is torn, is made again from the blobs, index.json from what the catalog
remembers. What is missing cannot be made up: build, load or import that image again, or remove its
name with `rstore rmi`.

It runs beside builds and prunes, and neither waits for the other.

Examples:
  rstore fsck
  rstore fsck --quick app
  rstore fsck --repair --format json";

const HELP: &str = "\
Exit codes: 0 nothing is wrong, 4 something is, 5 only a part of it was repaired.

Examples:
  rstore fsck
  rstore fsck --quick app
  rstore fsck --repair --format json";

/// Check that the store is whole, and repair it
///
/// Checks that the store is whole: every blob against its digest, every name against what it
/// needs, the catalog against the disk; and says for each thing that it finds which images it
/// harms and what repairs it.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, after_long_help = LONG_HELP)]
pub struct Args {
    /// Put right what can be, move away what is corrupt
    #[arg(long)]
    pub repair: bool,
    /// Read no blob: compare names and sizes only
    #[arg(long)]
    pub quick: bool,
    /// How many blobs are read at the same time [default: as many as there are processors, 8 at most]
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// table, json, jsonl, or a template such as '{{.Kind}} {{.Subject}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Print only what is found, a subject a line, and no notes
    #[arg(short, long)]
    pub quiet: bool,
    /// Print texts in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Print sizes in bytes
    #[arg(long)]
    pub bytes: bool,
    /// Only what these reach: names, IDs or digests [default: the whole store]
    #[arg(value_name = "REF")]
    pub references: Vec<String>,
}

/// A row.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Row(Finding);

impl Record for Row {
    const PLURAL: &'static str = "findings";

    fn columns() -> Vec<Column<Row>> {
        vec![
            Column::<Row>::new("SEVERITY", "Severity", "severity", |row, _| {
                row.0.severity.word().to_owned()
            }),
            Column::<Row>::new("KIND", "Kind", "kind", |row, _| {
                row.0.kind.word().to_owned()
            }),
            Column::<Row>::new("SUBJECT", "Subject", "subject", |row, look| {
                subject(&row.0, look)
            }),
            Column::<Row>::new("IMAGES", "Images", "images", |row, look| {
                look.text(&row.0.images.join(", "), 40)
            }),
            Column::<Row>::new("WHAT", "Detail", "detail", |row, _| {
                text::clean(&row.0.detail)
            })
            .flexible(),
            Column::<Row>::new("REMEDY", "Remedy", "remedy", |row, _| {
                text::clean(&done(&row.0))
            })
            .flexible(),
        ]
    }

    fn id(&self, _look: &Look) -> String {
        text::clean(&self.0.subject)
    }
}

fn subject(finding: &Finding, look: &Look) -> String {
    match &finding.digest {
        Some(digest) => look.digest(digest),
        None => text::clean(&finding.subject),
    }
}

/// What was done, or what is to be.
fn done(finding: &Finding) -> String {
    match &finding.outcome {
        Some(Outcome::Repaired(how)) => format!("repaired: {how}"),
        Some(Outcome::Remains(why)) => format!("not repaired: {why}"),
        None => finding.remedy.clone(),
    }
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let processors = || {
        let here = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        // A disk gains nothing from more; each has a buffer.
        here.min(NonZeroUsize::new(8).unwrap_or(NonZeroUsize::MIN))
    };
    let options = Options {
        quick: arguments.quick,
        repair: arguments.repair,
        references: arguments.references.clone(),
        jobs: arguments.jobs.unwrap_or_else(processors),
        now: context.now,
    };
    let bar = (context.progress && context.terminal.stderr && !arguments.quick).then(bar);
    let shown = AtomicU64::new(0);
    let on_progress = |progress: Progress| {
        if let Some(bar) = &bar {
            // A bar that is drawn for each of many small blobs takes longer than their reading.
            let step = progress.bytes / (4 << 20) + progress.blobs / 1000 + 1;
            if shown.fetch_max(step, Ordering::Relaxed) >= step {
                return;
            }
            bar.set_length(progress.of_bytes);
            bar.set_position(progress.bytes);
            bar.set_message(format!("{} of {} blobs", progress.blobs, progress.of_blobs));
        }
    };
    let report = fsck::check(&context.root, &options, &on_progress);
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let report = report?;
    show(arguments, &report, context)?;
    context.flush()?;
    outcome(arguments, &report)
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = " {msg}  {bytes} of {total_bytes}  {bar:30}  {bytes_per_sec}  {eta} left";
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn show(arguments: &Args, report: &Report, context: &mut Context) -> Result {
    let look = Look {
        full: arguments.no_trunc,
        exact: arguments.bytes,
        now: context.now,
        width: context.terminal.width,
    };
    if matches!(arguments.format, Format::Json) && !arguments.quiet {
        let mut document = serde_json::json!({ "schema": SCHEMA });
        if let (Some(document), serde_json::Value::Object(members)) =
            (document.as_object_mut(), serde_json::to_value(report)?)
        {
            document.extend(members);
        }
        serde_json::to_writer_pretty(&mut context.out, &document)?;
        writeln!(context.out)?;
        return Ok(());
    }
    let findings = report.findings.iter();
    let shown = findings.filter(|f| !arguments.quiet || f.severity != Severity::Note);
    let rows: Vec<Row> = shown.cloned().map(Row).collect();
    let plain = matches!(arguments.format, Format::Table) && !arguments.quiet;
    if !(plain && rows.is_empty()) {
        let list = ListArgs {
            format: arguments.format.clone(),
            quiet: arguments.quiet,
            no_trunc: arguments.no_trunc,
            bytes: arguments.bytes,
            sort: None,
            filters: Vec::new(),
        };
        let titles: Vec<&str> = Row::columns().iter().map(|column| column.title).collect();
        list::show(&mut context.out, rows, &titles, &list, &look)?;
    }
    if plain {
        summary(report, &look, &mut context.out)?;
    }
    Ok(())
}

fn summary(report: &Report, look: &Look, out: &mut dyn Write) -> Result {
    for broken in &report.broken {
        let lacks: Vec<String> = broken
            .lacks
            .iter()
            .map(|digest| look.digest(digest))
            .collect();
        let name = text::clean(&broken.name);
        writeln!(out, "{name} is not whole: see {}", lacks.join(", "))?;
    }
    let counted = |severity: Severity| {
        let count = report.count(severity);
        format!(
            "{count} {}{}",
            severity.word(),
            if count == 1 { "" } else { "s" }
        )
    };
    let read = match report.read {
        0 => "none of them read".to_owned(),
        count if count == report.blobs => "all of them read".to_owned(),
        count => format!("{count} of them read"),
    };
    writeln!(
        out,
        "{} blobs, {}, {read}; {} names: {}, {}, {}",
        report.blobs,
        look.size(report.bytes),
        report.names,
        counted(Severity::Error),
        counted(Severity::Warning),
        counted(Severity::Note),
    )?;
    Ok(())
}

fn outcome(arguments: &Args, report: &Report) -> Result {
    if !report.is_damaged() {
        return Ok(());
    }
    let names: Vec<&str> = report.broken.iter().map(|broken| &*broken.name).collect();
    let broken = match names.as_slice() {
        [] => "no image that has a name is harmed".to_owned(),
        names => format!("not whole: {}", text::clean(&names.join(", "))),
    };
    if !arguments.repair {
        return Err(Failure::Corrupt(format!(
            "something is wrong with the store, {broken}; `rstore fsck --repair` puts right what can be"
        ))
        .into());
    }
    let message = format!("not all of it could be repaired, {broken}");
    Err(match report.is_partly_repaired() {
        true => Failure::Partly(message).into(),
        false => Failure::Corrupt(message).into(),
    })
}

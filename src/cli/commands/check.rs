//! `rstore build --check`: what a Dockerfile could do better, told instead of built; and the same,
//! briefly, at the end of a build.
//!
//! The JSON of `--call=check,format=json` has the names that docker's has (`warnings`, `ruleName`,
//! `detail`, `location`, `buildError`), and `hints` and `notes` besides.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::build::check::{Checked, check};
use crate::build::event::{Event, Lookup, Sink, StepNumber};
use crate::build::hints::Hint;
use crate::build::{self, Input, Options};
use crate::cli::args::build::{BuildArgs, Call};
use crate::cli::args::sources::ContextSource;
use crate::cli::commands::sources::{self, Sources};
use crate::cli::exit::Failure;
use crate::cli::progress::Quoted;
use crate::cli::progress::failure::lines_marked;
use crate::cli::render::text;
use crate::cli::{Context, Result};
use crate::dockerfile::Span;
use crate::dockerfile::lint::Finding;
use crate::executor::{Cancel, signals};
use crate::layout::Layout;
use crate::store::Store;

/// Checks a Dockerfile; `read` is what [`sources::check`] has read of it.
pub fn run(
    arguments: &BuildArgs,
    mut options: Options,
    read: Option<(String, Vec<u8>)>,
    context: &mut Context,
) -> Result {
    let (store, sources) = match (&arguments.context, read) {
        (ContextSource::Directory(directory), Some(read))
            if arguments.named_contexts.is_empty() =>
        {
            here(arguments, directory, read, context)?
        }
        // What comes from elsewhere is put into the store for the time of the check.
        (_, read) => {
            let store = context.open_or_create()?;
            let cancel = Cancel::new()?;
            signals::on_interrupt(cancel.clone());
            let lease = store.lease("check", &arguments.context.to_string())?;
            options.named = sources::named_contexts(arguments, &lease)?;
            let sources = sources::gather(arguments, read, &lease, &options.remote, &cancel)?;
            let done = report(arguments, &options, Some(&store), &sources, context);
            drop(sources);
            lease.end()?;
            return done;
        }
    };
    report(arguments, &options, store.as_ref(), &sources, context)
}

/// The sources where all of them are on this machine: looking at them needs no store, and makes
/// none.
fn here(
    arguments: &BuildArgs,
    directory: &Path,
    (name, dockerfile): (String, Vec<u8>),
    context: &mut Context,
) -> Result<(Option<Store>, Sources)> {
    let store = match Layout::exists(&context.root) {
        true => Some(context.open()?),
        false => None,
    };
    let root = store.as_ref().map(|store| store.root());
    let path = match &arguments.file {
        Some(file) => file.clone(),
        None => directory.join("Dockerfile"),
    };
    let context = build::Context::open(directory, Some(&path), root)?;
    let sources = Sources {
        name,
        dockerfile,
        context,
    };
    Ok((store, sources))
}

fn report(
    arguments: &BuildArgs,
    options: &Options,
    store: Option<&Store>,
    sources: &Sources,
    context: &mut Context,
) -> Result {
    let input = Input {
        dockerfile: &sources.dockerfile,
        name: &sources.name,
        context: &sources.context,
    };
    let checked = check(store, &input, options)?;
    let quoted = Quoted {
        name: sources.name.clone(),
        text: String::from_utf8_lossy(&sources.dockerfile).into_owned(),
    };
    let json = arguments.call() == Call::CheckJson;
    if json {
        let document = document(&checked, &quoted);
        writeln!(context.out, "{}", serde_json::to_string_pretty(&document)?)?;
    } else {
        context.out.write_all(told(&checked, &quoted).as_bytes())?;
    }
    let Checked {
        findings, error, ..
    } = checked;
    match error {
        // The document has it.
        Some(_) if json => Err(Failure::Told(1).into()),
        Some(error) => Err(error.into()),
        None if findings.is_empty() => Ok(()),
        None => Err(Failure::Told(1).into()),
    }
}

/// What was found, for people.
fn told(checked: &Checked, quoted: &Quoted) -> String {
    let mut page = format!("{}\n", counted(checked.findings.len()));
    for finding in &checked.findings {
        let rule = finding.rule;
        page.push_str(&format!(
            "\nWARNING: {rule} - {}\n{}\n{}",
            rule.description(),
            text::clean(&finding.message),
            marked(quoted, finding.span)
        ));
    }
    for hint in &checked.hints {
        page.push_str(&format!("\nHINT: {}\n", text::clean(&hint.message)));
        for line in &hint.suggestions {
            page.push_str(&format!("    {}\n", text::clean(line)));
        }
        if let Some((first, last)) = hint.lines {
            page.push_str(&lines_marked(quoted, first as usize, last as usize));
        }
    }
    for note in &checked.notes {
        page.push_str(&format!("\nNOTE: {}\n", text::clean(note)));
    }
    page
}

fn counted(warnings: usize) -> String {
    match warnings {
        0 => "no warnings found".to_owned(),
        1 => "1 warning found".to_owned(),
        more => format!("{more} warnings found"),
    }
}

fn marked(quoted: &Quoted, span: Span) -> String {
    lines_marked(quoted, span.line as usize, span.end_line as usize)
}

/// What was found, for programs.
fn document(checked: &Checked, quoted: &Quoted) -> Value {
    let range = |first: u32, last: u32, column: u32| {
        json!({ "ranges": [{
            "start": { "line": first, "character": column },
            "end": { "line": last },
        }] })
    };
    let warning = |finding: &Finding| {
        let span = finding.span;
        json!({
            "ruleName": finding.rule,
            "description": finding.rule.description(),
            "detail": finding.message,
            "location": range(span.line, span.end_line, span.column),
        })
    };
    let hint = |hint: &Hint| {
        json!({
            "kind": hint.kind,
            "detail": hint.message,
            "suggestions": hint.suggestions,
            "milliseconds": hint.milliseconds,
            "location": hint.lines.map(|(first, last)| range(first, last, 1)),
        })
    };
    json!({
        "schema": 1,
        "sources": [{ "filename": quoted.name }],
        "warnings": checked.findings.iter().map(warning).collect::<Vec<_>>(),
        "hints": checked.hints.iter().map(hint).collect::<Vec<_>>(),
        "notes": checked.notes,
        "buildError": checked.error.as_ref().map(|error| {
            let place = match error {
                build::Error::Parse { source, .. } => {
                    Some(range(source.line, source.line, source.column))
                }
                _ => None,
            };
            json!({ "message": error.to_string(), "location": place })
        }),
    })
}

/// Passes a build's events on, and keeps what checking found for its end.
pub struct Noted<'a> {
    sink: &'a dyn Sink,
    findings: Mutex<Vec<Finding>>,
}

impl<'a> Noted<'a> {
    /// Before a display.
    pub fn new(sink: &'a dyn Sink) -> Noted<'a> {
        Noted {
            sink,
            findings: Mutex::default(),
        }
    }

    /// Tells what was found in a line each, on stderr.
    pub fn tell(&self) {
        let findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        if findings.is_empty() {
            return;
        }
        let mut page = format!(
            "\n{} (`rstore build --check` shows the lines):\n",
            counted(findings.len())
        );
        for finding in findings.iter() {
            let message = text::clean(&finding.message);
            let line = finding.span.line;
            page.push_str(&format!(" - {}: {message} (line {line})\n", finding.rule));
        }
        // That nobody listens is no error.
        let _ = io::stderr().write_all(page.as_bytes());
    }
}

impl Sink for Noted<'_> {
    fn event(&self, event: Event) {
        self.sink.event(event);
    }

    fn looked_up(&self, step: StepNumber, lookup: Lookup) {
        self.sink.looked_up(step, lookup);
    }

    fn findings(&self, findings: &[Finding]) {
        let mut kept = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(findings);
        drop(kept);
        self.sink.findings(findings);
    }
}

//! What is told of a plan, and of what came of it: a list, a line, JSON, or nothing.

use std::io::Write;
use std::time::Duration;

use super::args::Args;
use crate::cli::commands::removal;
use crate::cli::exit::Failure;
use crate::cli::render::{Format, Look, SCHEMA, size};
use crate::cli::{Context, Result};
use crate::gc::saved::Skipped;
use crate::gc::target::Target;
use crate::gc::{self, Plan, Report};

/// How it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Each thing.
    List,
    /// One line, for a log.
    Line,
    /// Only what is wrong.
    Nothing,
    /// A document.
    Json,
    /// The same in one line.
    JsonLine,
}

impl Shown {
    /// What the flags ask for.
    pub fn of(arguments: &Args) -> Shown {
        match (&arguments.format, arguments.quiet) {
            (Format::Json, _) => Shown::Json,
            (Format::JsonLines, _) => Shown::JsonLine,
            (_, 0) => Shown::List,
            (_, 1) => Shown::Line,
            (..) => Shown::Nothing,
        }
    }
}

/// What a prune did.
pub struct Done<'a> {
    /// What it was to do.
    pub plan: &'a Plan,
    /// What it did.
    pub report: &'a Report,
    /// What of a saved plan stayed.
    pub skipped: Option<&'a Skipped>,
    /// How long it took, planning and all.
    pub took: Duration,
}

/// Tells that nothing has changed since the same prune had nothing to do.
pub fn unchanged(arguments: &Args, plan: Plan, took: Duration, context: &mut Context) -> Result {
    let look = Look {
        full: false,
        exact: arguments.bytes,
        now: context.now,
        width: None,
    };
    let shown = Shown::of(arguments);
    let report = Report::default();
    let done = Done {
        plan: &plan,
        report: &report,
        skipped: None,
        took,
    };
    if matches!(shown, Shown::Json | Shown::JsonLine) {
        let document = Document {
            unchanged: Some(true),
            ..document(&done)
        };
        return write_json(shown, &document, context);
    }
    self::done(shown, &done, &look, context)
}

/// Shows what would go.
pub fn dry_run(
    shown: Shown,
    plan: &Plan,
    skipped: Option<&Skipped>,
    unreadable: Option<gc::Unreadable>,
    look: &Look,
    context: &mut Context,
) -> Result {
    match shown {
        Shown::Json | Shown::JsonLine => {
            let document = Foretold {
                schema: SCHEMA,
                plan,
                target_met: is_met(plan),
                skipped,
            };
            write_json(shown, &document, context)?;
        }
        Shown::List => {
            removal::write_plan(plan, look, &mut context.out)?;
            removal::tell_notes(plan, context)?;
            tell_skipped(skipped, context)?;
            if unreadable.is_some() {
                let told = "Nothing of it goes before what cannot be read is given up.";
                writeln!(context.out, "{told}")?;
            }
            let foretold = look.size(plan.totals.freed);
            writeln!(context.out, "Total reclaimable space: {foretold}")?;
        }
        Shown::Line => {
            let foretold = look.size(plan.totals.freed);
            let items = plan.totals.items;
            let name = policy_word(plan);
            writeln!(
                context.out,
                "prune{name}: {items} items would go, {foretold} freed{}",
                target_words(plan)
            )?;
        }
        Shown::Nothing => {}
    }
    context.flush()?;
    match unreadable {
        Some(unreadable) => Err(gc::Error::from(unreadable).into()),
        None => outcome(plan),
    }
}

/// Shows what was done.
pub fn done(shown: Shown, done: &Done, look: &Look, context: &mut Context) -> Result {
    let report = done.report;
    match shown {
        Shown::Json | Shown::JsonLine => write_json(shown, &document(done), context)?,
        Shown::List => {
            if report.rescued > 0 {
                writeln!(
                    context.out,
                    "{} things were left alone: something has begun to need them",
                    report.rescued
                )?;
            }
            if report.stopped {
                writeln!(
                    context.out,
                    "Stopped after {} of {} things; what is left is whole, and the next prune goes on",
                    report.removed.items, done.plan.totals.items
                )?;
            }
            let freed = look.size(report.removed.freed);
            writeln!(context.out, "Total reclaimed space: {freed}")?;
        }
        Shown::Line => {
            let line = line(done, look);
            writeln!(context.out, "{line}")?;
        }
        Shown::Nothing => {}
    }
    context.flush()
}

/// `prune nightly: 12 items, 3.4GB freed, 2 left alone, target met, 1.2s`
fn line(done: &Done, look: &Look) -> String {
    let report = done.report;
    let mut parts = vec![
        format!("{} items", report.removed.items),
        format!("{} freed", look.size(report.removed.freed)),
    ];
    if !report.untagged.is_empty() {
        parts.push(format!("{} untagged", report.untagged.len()));
    }
    if report.rescued > 0 {
        parts.push(format!("{} left alone", report.rescued));
    }
    if !report.failures.is_empty() {
        parts.push(format!("{} failed", report.failures.len()));
    }
    if report.stopped {
        parts.push("stopped".to_owned());
    }
    let name = policy_word(done.plan);
    let target = target_words(done.plan);
    let seconds = done.took.as_secs_f64();
    format!("prune{name}: {}{target}, {seconds:.1}s", parts.join(", "))
}

fn policy_word(plan: &Plan) -> String {
    let name = plan.policy.name.as_ref();
    name.map_or_else(String::new, |name| format!(" {name}"))
}

fn target_words(plan: &Plan) -> &'static str {
    match &plan.target {
        None => "",
        Some(target) if target.is_met() => ", target met",
        Some(_) => ", target not met",
    }
}

fn is_met(plan: &Plan) -> Option<bool> {
    plan.target.as_ref().map(Target::is_met)
}

/// What a dry run tells. It is written as it is: a plan may have a million items.
#[derive(serde::Serialize)]
struct Foretold<'a> {
    schema: u32,
    plan: &'a Plan,
    target_met: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<&'a Skipped>,
}

/// What a prune tells.
#[derive(serde::Serialize)]
struct Document<'a> {
    schema: u32,
    plan: &'a Plan,
    report: &'a Report,
    freed: u64,
    target_met: Option<bool>,
    milliseconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<&'a Skipped>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unchanged: Option<bool>,
}

fn document<'a>(done: &Done<'a>) -> Document<'a> {
    Document {
        schema: SCHEMA,
        plan: done.plan,
        report: done.report,
        freed: done.report.removed.freed,
        target_met: is_met(done.plan),
        milliseconds: u64::try_from(done.took.as_millis()).unwrap_or(u64::MAX),
        skipped: done.skipped,
        unchanged: None,
    }
}

/// Writes a document as it was asked for.
pub fn write_json(shown: Shown, document: &impl serde::Serialize, context: &mut Context) -> Result {
    if shown == Shown::JsonLine {
        serde_json::to_writer(&mut context.out, document)?;
    } else {
        serde_json::to_writer_pretty(&mut context.out, document)?;
    }
    writeln!(context.out)?;
    Ok(())
}

/// Tells what of a saved plan stays.
pub fn tell_skipped(skipped: Option<&Skipped>, context: &mut Context) -> Result {
    let Some(skipped) = skipped else {
        return Ok(());
    };
    context.flush()?;
    if skipped.gone > 0 {
        context.tell(&format!(
            "note: {} things of the plan are gone already",
            skipped.gone
        ));
    }
    for label in &skipped.live {
        context.tell(&format!(
            "note: {label} stays: something has begun to need it since the plan was made"
        ));
    }
    Ok(())
}

/// The error, if any, of a plan after which there is less room than was asked for.
pub fn outcome(plan: &Plan) -> Result {
    let Some(target) = plan.target.as_ref().filter(|target| !target.is_met()) else {
        return Ok(());
    };
    let asked = match (target.max_used, target.min_free) {
        (Some(most), None) => format!("the store is to be at most {}", size::short(most)),
        (None, Some(least)) => format!("{} are to be free", size::short(least)),
        (Some(most), Some(least)) => format!(
            "the store is to be at most {} and {} are to be free",
            size::short(most),
            size::short(least)
        ),
        (None, None) => String::new(),
    };
    let mut message = format!(
        "{asked}: {} are missing after all went that may go",
        size::short(target.short)
    );
    if target.reserved_is_in_the_way {
        let reserved = size::short(target.reserved.unwrap_or(0));
        message.push_str(&format!(" without going below the {reserved} reserved"));
    }
    let kept = plan.kept.iter().filter(|kept| kept.bytes > 0);
    let mut kept: Vec<String> = kept
        .map(|kept| format!("{} {}", size::short(kept.bytes), kept.because.words()))
        .collect();
    // So that the figures add up: the catalog, and whatever else images don't hold.
    let images: u64 = plan.kept.iter().map(|kept| kept.bytes).sum();
    let rest = target.used.saturating_sub(plan.totals.freed + images);
    if rest > 0 {
        kept.push(format!(
            "{} other than images, see `rstore df`",
            size::short(rest)
        ));
    }
    if !kept.is_empty() {
        message.push_str(&format!("; what stays: {}", kept.join(", ")));
    }
    let holders = target.held_by.iter();
    let holders: Vec<String> = holders
        .map(|holder| format!("{} ({})", holder.what, size::short(holder.bytes)))
        .collect();
    if !holders.is_empty() {
        message.push_str(&format!("; most is held by {}", holders.join(", ")));
    }
    if plan.policy.scope != gc::Scope::all() && !plan.policy.scope.tagged {
        message.push_str("; a wider scope, up to --all, lets more go");
    }
    Err(Failure::Partly(message).into())
}

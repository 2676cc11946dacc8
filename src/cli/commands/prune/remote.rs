//! `rstore prune --remote`: the build caches in a repository of a registry. No store is opened.
//!
//! ```text
//! tags ─▶ manifests ─▶ retention::Plan ─┬─ --dry-run: shown
//!                                       └─ asked ─▶ each digest whose tags are still its own ─▶ DELETE
//! ```

use std::io::Write;
use std::time::Instant;

use serde_json::{Value, json};

use super::args::Args;
use super::show::{Shown, write_json};
use crate::build::cache::retention::{Found, Plan, Policy, Removal};
use crate::cli::args::values;
use crate::cli::exit::{self, Failure};
use crate::cli::render::table::{self, Heading};
use crate::cli::render::{Look, SCHEMA, time};
use crate::cli::{Context, Result, registries};
use crate::gc::select;
use crate::oci::Reference;
use crate::registry::Error;
use crate::registry::artifact::{Access, Artifacts, Deleted};

/// What becomes of what a plan removes.
#[derive(Debug, Default)]
struct Report {
    /// The places in the plan of what is gone.
    deleted: Vec<usize>,
    /// Those whose tags have been written anew meanwhile: they stay.
    rewritten: Vec<usize>,
    /// Those that the registry did not delete, and why.
    failures: Vec<(usize, String)>,
}

/// Runs the command.
pub fn run(arguments: &Args, remote: &Reference, context: &mut Context) -> Result {
    let start = Instant::now();
    let policy = policy(arguments, remote, context)?;
    let client = registries::client(&arguments.registry, &context.config.registries);
    let cancel = registries::cancellation()?;
    let access = match arguments.dry_run {
        true => Access::Pull,
        false => Access::Delete,
    };
    let artifacts = Artifacts::of(&client, remote, access, &cancel).map_err(registries::told)?;
    let name = format!("{}/{}", remote.domain, remote.path);
    let found = look(&artifacts).map_err(registries::told)?;
    // Before the first cache is written neither is a fault.
    if found.is_none() {
        context.tell(&format!(
            "warning: there is no {name} in the registry, and nothing to prune: is its name right?"
        ));
    } else if found.as_ref().is_some_and(Vec::is_empty) {
        context.tell(&format!("note: {name} has no tags: is its name right?"));
    }
    let found = found.unwrap_or_default();
    let plan = Plan::new(&name, &found, &policy);
    let shown = Shown::of(arguments);
    let look = Look {
        full: arguments.no_trunc,
        exact: arguments.bytes,
        now: context.now,
        width: context.terminal.width,
    };
    if shown == Shown::List {
        list(&plan, &look, context)?;
    }
    if arguments.dry_run {
        return dry_run(shown, &name, &plan, &look, context);
    }
    if !arguments.force && !plan.removals.is_empty() {
        let question = format!("Delete {} of {name}?", caches(plan.removals.len()));
        if !super::agreed(&question, context)? {
            return Ok(());
        }
    }
    context.flush()?;
    let report = delete(&artifacts, &plan, &name, shown == Shown::List, context)?;
    let freed = look.size(plan.bytes);
    match shown {
        Shown::List => {
            let deleted = caches(report.deleted.len());
            writeln!(
                context.out,
                "Deleted {deleted}; the registry's garbage collection gives back up to {freed}"
            )?;
        }
        Shown::Line => {
            let (deleted, failed) = (caches(report.deleted.len()), report.failures.len());
            let kept = plan.kept.len();
            writeln!(
                context.out,
                "prune {name}: {deleted} deleted, up to {freed} for the registry's garbage collection, {kept} tags kept, {failed} failed, {:.1}s",
                start.elapsed().as_secs_f64()
            )?;
        }
        Shown::Nothing => {}
        Shown::Json | Shown::JsonLine => {
            let mut document = document(&name, &plan);
            document["report"] = report.json(&plan, &name);
            let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            document["milliseconds"] = json!(millis);
            write_json(shown, &document, context)?;
        }
    }
    context.flush()?;
    outcome(&plan, &report)
}

/// What the flags ask for.
fn policy(arguments: &Args, remote: &Reference, context: &Context) -> Result<Policy> {
    if remote.digest.is_some() || remote.tag.as_deref().is_some_and(|tag| tag != "latest") {
        return Err(exit::usage_error(
            "--remote takes a repository, without tag and digest: --keep and --keep-last say which of its tags stay",
        ));
    }
    if arguments.until.is_none() && arguments.keep_last.is_none() {
        return Err(exit::usage_error(
            "--remote needs to be told what stays: --keep-last N, --until AGE, or both",
        ));
    }
    let since = match &arguments.until {
        Some(text) => Some(values::moment(text, context.now).map_err(exit::usage_error)?),
        None => None,
    };
    let keep = match &arguments.keep {
        Some(text) => Some(select::keep_pattern(text).map_err(exit::usage_error)?),
        None => None,
    };
    Ok(Policy {
        keep_last: arguments.keep_last.map(usize::from),
        since,
        keep,
    })
}

/// Looks at every tag; `None`: there is no such repository.
fn look(artifacts: &Artifacts) -> Result<Option<Vec<Found>>, Error> {
    let Some(tags) = artifacts.tags()? else {
        return Ok(None);
    };
    let manifests = artifacts.manifests(&tags)?;
    let mut found = Vec::new();
    for (tag, manifest) in tags.into_iter().zip(manifests) {
        match manifest {
            Ok(Some(manifest)) => found.push(Found::new(tag, Ok(manifest))),
            // Untagged since the list was made.
            Ok(None) => {}
            Err(why) => found.push(Found::new(tag, Err(why))),
        }
    }
    Ok(Some(found))
}

/// Shows what goes, and then what stays.
fn list(plan: &Plan, look: &Look, context: &mut Context) -> Result {
    let titles = ["TAG", "DIGEST", "WRITTEN", "SIZE", "BECOMES OF IT"];
    let headings: Vec<Heading> = titles.into_iter().map(Heading::new).collect();
    let written = |created: Option<i64>| match created {
        Some(created) => look.ago(created),
        None => "-".to_owned(),
    };
    let mut rows = Vec::new();
    for removal in &plan.removals {
        for tag in &removal.tags {
            rows.push(vec![
                tag.clone(),
                look.digest(&removal.digest),
                written(Some(removal.created)),
                look.size(removal.size),
                "goes".to_owned(),
            ]);
        }
    }
    for kept in &plan.kept {
        rows.push(vec![
            kept.tag.clone(),
            kept.digest.map_or("-".to_owned(), |d| look.digest(&d)),
            written(kept.created),
            "-".to_owned(),
            format!("kept: {}", kept.because),
        ]);
    }
    table::write(&mut context.out, &headings, rows, look.width)
}

fn dry_run(shown: Shown, name: &str, plan: &Plan, look: &Look, context: &mut Context) -> Result {
    let (count, freed) = (caches(plan.removals.len()), look.size(plan.bytes));
    match shown {
        Shown::List => writeln!(
            context.out,
            "{count} would go; the registry's garbage collection would give back up to {freed}"
        )?,
        Shown::Line => writeln!(
            context.out,
            "prune {name}: {count} would go, up to {freed} for the registry's garbage collection"
        )?,
        Shown::Nothing => {}
        Shown::Json | Shown::JsonLine => write_json(shown, &document(name, plan), context)?,
    }
    context.flush()
}

fn caches(count: usize) -> String {
    match count {
        1 => "1 build cache".to_owned(),
        count => format!("{count} build caches"),
    }
}

/// Deletes what the plan says. The first refusal that is about all of them ends it.
fn delete(
    artifacts: &Artifacts,
    plan: &Plan,
    name: &str,
    told: bool,
    context: &mut Context,
) -> Result<Report> {
    let mut report = Report::default();
    for (place, removal) in plan.removals.iter().enumerate() {
        match delete_one(artifacts, removal) {
            Ok(Some(_)) => {
                report.deleted.push(place);
                if told {
                    for tag in &removal.tags {
                        writeln!(context.out, "Untagged: {name}:{tag}")?;
                    }
                    writeln!(context.out, "Deleted: {}", removal.digest)?;
                    context.flush()?;
                }
            }
            Ok(None) => report.rewritten.push(place),
            Err(error) if refuses_all(&error) => return Err(refusal(error)),
            Err(error) => report.failures.push((place, error.to_string())),
        }
    }
    Ok(report)
}

/// Deletes a cache; `None`: one of its tags has been given to another meanwhile, so that it is not
/// what was shown.
fn delete_one(artifacts: &Artifacts, removal: &Removal) -> Result<Option<Deleted>, Error> {
    for tag in &removal.tags {
        let now = artifacts.digest_of(tag)?;
        if now.is_some_and(|now| now != removal.digest) {
            return Ok(None);
        }
    }
    artifacts.delete(&removal.digest).map(Some)
}

/// Whether an error is about every delete.
fn refuses_all(error: &Error) -> bool {
    match error {
        Error::Status {
            status, message, ..
        } => matches!(status, 403 | 405 | 501) || message.to_lowercase().contains("unsupported"),
        Error::Unauthorized { .. } | Error::Interrupted => true,
        _ => false,
    }
}

fn refusal(error: Error) -> anyhow::Error {
    match &error {
        Error::Status {
            status: 400 | 405 | 501,
            ..
        } => anyhow::anyhow!(
            "{error}: the registry refuses deletes; set REGISTRY_STORAGE_DELETE_ENABLED=true for Docker's registry, or use the registry's own retention rules"
        ),
        _ => registries::told(error),
    }
}

fn document(name: &str, plan: &Plan) -> Value {
    let items = plan.removals.iter().map(|removal| {
        json!({
            "kind": "build_cache",
            "digest": removal.digest,
            "tags": removal.tags,
            "created": time::rfc3339(removal.created),
            "size": removal.size,
            "reason": "no rule spares it",
        })
    });
    let kept = plan.kept.iter().map(|kept| {
        json!({
            "tag": kept.tag,
            "digest": kept.digest,
            "created": kept.created.map(time::rfc3339),
            "because": kept.because.word(),
            "reason": kept.because.to_string(),
        })
    });
    json!({
        "schema": SCHEMA,
        "plan": {
            "repository": name,
            "items": items.collect::<Vec<_>>(),
            "kept": kept.collect::<Vec<_>>(),
            "totals": { "items": plan.removals.len(), "freed_at_most": plan.bytes },
        },
    })
}

impl Report {
    fn json(&self, plan: &Plan, name: &str) -> Value {
        let digests = |places: &[usize]| -> Vec<_> {
            places
                .iter()
                .map(|place| plan.removals[*place].digest)
                .collect()
        };
        let untagged = self
            .deleted
            .iter()
            .flat_map(|place| &plan.removals[*place].tags);
        let failures = self
            .failures
            .iter()
            .map(|(place, why)| json!({ "digest": plan.removals[*place].digest, "error": why }));
        json!({
            "deleted": digests(&self.deleted),
            "untagged": untagged.map(|tag| format!("{name}:{tag}")).collect::<Vec<_>>(),
            "rewritten": digests(&self.rewritten),
            "failures": failures.collect::<Vec<_>>(),
        })
    }
}

/// The error, if any, of a prune that did not do all that it showed.
fn outcome(plan: &Plan, report: &Report) -> Result {
    let mut told: Vec<String> = report
        .failures
        .iter()
        .map(|(place, why)| format!("{}: {why}", plan.removals[*place].digest))
        .collect();
    told.extend(report.rewritten.iter().map(|place| {
        let removal = &plan.removals[*place];
        format!(
            "{}: {} has been written anew",
            removal.digest,
            removal.tags.join(", ")
        )
    }));
    match told.is_empty() {
        true => Ok(()),
        false => Err(Failure::Partly(format!("not deleted: {}", told.join("; "))).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_refuses_one_delete_refuses_all() {
        let status = |status, message: &str| Error::Status {
            url: String::new(),
            status,
            message: message.to_owned(),
        };
        assert!(refuses_all(&status(405, "")));
        assert!(refuses_all(&status(400, "The operation is unsupported.")));
        assert!(!refuses_all(&status(500, "")));
        let told = refusal(status(405, "")).to_string();
        assert!(
            told.contains("REGISTRY_STORAGE_DELETE_ENABLED=true"),
            "{told}"
        );
    }
}

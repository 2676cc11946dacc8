//! `rstore prune`: what nothing needs goes.

use std::io::{self, BufRead, Write};

use serde_json::json;

use super::removal;
use super::view::View;
use crate::catalog::Millis;
use crate::cli::args::values;
use crate::cli::render::{self, Format, Look, SCHEMA, size};
use crate::cli::{Context, Result, exit};
use crate::gc::{self, Plan, Policy, Report, Scope};
use crate::oci::Digest;

const EXIT_CODES: &str = "\
Exit codes: 0 also when there was nothing to do; 5 where something could not be removed;
75 while another prune is running.

Examples:
  rstore prune -n
  rstore prune --stages --until 7d
  rstore prune --all --force";

const LONG_HELP: &str = "\
Exit codes: 0 also when there was nothing to do; 5 where something could not be removed;
75 while another prune is running; 4 where something that a name needs cannot be read: what it
needs in turn is not known, and so nothing is removed. `rstore fsck` says what is broken; building,
loading or importing that image again mends it, `rstore untag` gives it up, and --ignore-broken
gives up what only that document needs. With --dry-run what would then go is shown.

What fsck has moved to rstore/quarantine no prune removes.

Examples:
  rstore prune -n
  rstore prune --stages --until 7d
  rstore prune --all --force

From cron, every night, beside whatever builds; a line for /etc/cron.d/rstore:

  17 3 * * *  root  rstore prune --force --no-progress || [ $? -eq 75 ]

From systemd, the same; /etc/systemd/system/rstore-prune.service:

  [Service]
  Type=oneshot
  ExecStart=/usr/local/bin/rstore prune --force --no-progress
  SuccessExitStatus=75
  IOSchedulingClass=idle

and /etc/systemd/system/rstore-prune.timer, to be enabled with
systemctl enable --now rstore-prune.timer:

  [Timer]
  OnCalendar=daily
  RandomizedDelaySec=1h
  Persistent=true

  [Install]
  WantedBy=timers.target";

/// Remove what nothing needs
///
/// Removes what nothing needs, prints each thing with its size and the reason, and how many bytes
/// that gave back.
///
/// Without a scope: dangling images and all that only they reached, unreferenced layers, what dead
/// builds and failed steps left. Never waits for a running build, and never breaks one. On a
/// terminal it asks first; without one it needs --force.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, after_long_help = LONG_HELP)]
pub struct Args {
    /// Dangling images, what only they reached, unreferenced layers, debris [default]
    #[arg(long, help_heading = "Scopes")]
    pub dangling: bool,
    /// Also images that builds of tagged ones copied from, and those these were made from
    #[arg(long, help_heading = "Scopes")]
    pub stages: bool,
    /// Also images that tagged ones descend from
    #[arg(long, help_heading = "Scopes")]
    pub intermediates: bool,
    /// Unpacked layers; the next build unpacks those that it needs
    #[arg(long, help_heading = "Scopes")]
    pub snapshots: bool,
    /// The records of the build cache
    #[arg(long, help_heading = "Scopes")]
    pub cache: bool,
    /// The directories of RUN --mount=type=cache
    #[arg(long, help_heading = "Scopes")]
    pub cache_mounts: bool,
    /// Whatever tagged and pinned images don't need in order to run
    #[arg(short, long, help_heading = "Scopes")]
    pub all: bool,
    /// Go on although this document cannot be read: it stays, what only it needs may go
    #[arg(long, value_name = "DIGEST", help_heading = "Policies")]
    pub ignore_broken: Vec<Digest>,
    /// Spare what was used within AGE, or since a time
    #[arg(long, value_name = "AGE|TIME", help_heading = "Policies")]
    pub until: Option<String>,
    /// Of the cache mounts take only those of this ID: id=/root/.cache
    #[arg(long = "filter", value_name = "id=ID", help_heading = "Policies")]
    pub filters: Vec<String>,
    /// Show what would go, and remove nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Don't ask
    #[arg(short, long)]
    pub force: bool,
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Print IDs and texts in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Print sizes in bytes
    #[arg(long)]
    pub bytes: bool,
}

impl Args {
    /// What was asked for. A scope for images takes the dangling ones with it.
    fn scope(&self) -> Scope {
        if self.all {
            return Scope::all();
        }
        let named = Scope {
            dangling: self.dangling || self.stages || self.intermediates,
            stages: self.stages,
            intermediates: self.intermediates,
            snapshots: self.snapshots,
            cache: self.cache,
            cache_mounts: self.cache_mounts,
            containers: self.dangling || self.stages || self.intermediates,
            ..Scope::none()
        };
        if named == Scope::none() {
            Scope::default()
        } else {
            named
        }
    }
}

impl Args {
    /// What is to go, and what of it is spared.
    fn policy(&self, now: Millis) -> Result<Policy> {
        let scope = self.scope();
        let until = match &self.until {
            Some(text) => Some(values::moment(text, now).map_err(exit::usage_error)?),
            None => None,
        };
        let mut cache_mounts = Vec::new();
        for filter in &self.filters {
            match filter.split_once('=') {
                Some(("id", id)) if !id.is_empty() => cache_mounts.push(id.to_owned()),
                _ => {
                    return Err(exit::usage_error(format!(
                        "there is no filter {filter:?}; there is id=ID, of a cache mount"
                    )));
                }
            }
        }
        let only_mounts = Scope {
            cache_mounts: true,
            ..Scope::none()
        };
        if !cache_mounts.is_empty() && scope != only_mounts {
            return Err(exit::usage_error(
                "--filter id=ID names a cache mount: it goes with --cache-mounts, and with no other scope",
            ));
        }
        Ok(Policy {
            scope,
            until,
            cache_mounts,
            ignore_broken: self.ignore_broken.clone(),
            ..Policy::default()
        })
    }
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let as_json = match arguments.format {
        Format::Table => false,
        Format::Json | Format::JsonLines => true,
        Format::Template(_) => return Err(exit::usage_error("prune knows no templates")),
    };
    let asks = !arguments.force && !arguments.dry_run;
    if asks && !(context.terminal.stdin && context.terminal.stdout) {
        return Err(exit::usage_error(
            "prune asks before it removes, and there is no terminal to ask on: say --force, or --dry-run to see what would go",
        ));
    }
    let policy = arguments.policy(context.now)?;
    let store = if arguments.dry_run {
        context.open()?
    } else {
        context.open_to_write()?
    };
    let view = View::of(store, context.now)?;
    let (plan, unreadable) = match gc::plan(view.store.layout(), &view.graph, &policy, context.now)
    {
        // A look is not denied: it shows what would go if that were given up.
        Err(gc::Error::Unreadable(unreadable)) if arguments.dry_run => {
            let mut policy = policy;
            policy.ignore_broken.extend(unreadable.digests());
            let plan = gc::plan(view.store.layout(), &view.graph, &policy, context.now)?;
            (plan, Some(unreadable))
        }
        other => (other?, None),
    };
    let outcome = unreadable.map_or(Ok(()), |unreadable| Err(gc::Error::from(unreadable).into()));
    if as_json {
        return run_json(arguments, &view, plan, context).and(outcome);
    }
    let look = Look {
        full: arguments.no_trunc,
        exact: arguments.bytes,
        now: context.now,
        width: context.terminal.width,
    };
    removal::write_plan(&plan, &look, &mut context.out)?;
    removal::tell_notes(&plan, context)?;
    if arguments.dry_run {
        let foretold = size::shown(plan.totals.freed, arguments.bytes);
        if outcome.is_err() {
            writeln!(
                context.out,
                "Nothing of it goes before what cannot be read is given up."
            )?;
        }
        writeln!(context.out, "Total reclaimable space: {foretold}")?;
        context.flush()?;
        return outcome;
    }
    if asks && !plan.is_empty() && !confirmed(&plan, &look, context)? {
        return Ok(());
    }
    let report = removal::execute(&view, plan, context.now)?;
    write_report(&report, &look, context)?;
    removal::outcome(&report)
}

fn run_json(arguments: &Args, view: &View, plan: Plan, context: &mut Context) -> Result {
    let mut document = json!({ "schema": SCHEMA, "plan": plan });
    let report = if arguments.dry_run {
        None
    } else {
        Some(removal::execute(view, plan, context.now)?)
    };
    if let Some(report) = &report {
        document["report"] = serde_json::to_value(report)?;
    }
    if matches!(arguments.format, Format::JsonLines) {
        render::json::write_line(&mut context.out, &document)?;
    } else {
        render::json::document(&mut context.out, &document)?;
    }
    report.as_ref().map_or(Ok(()), removal::outcome)
}

/// Asks, and takes anything but a yes for a no.
fn confirmed(plan: &Plan, look: &Look, context: &mut Context) -> Result<bool> {
    write!(
        context.out,
        "Remove {} things and free {}? [y/N] ",
        plan.items.len() + plan.untag.len(),
        look.size(plan.totals.freed)
    )?;
    context.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

fn write_report(report: &Report, look: &Look, context: &mut Context) -> Result {
    if report.rescued > 0 {
        writeln!(
            context.out,
            "{} things were left alone: something has begun to need them",
            report.rescued
        )?;
    }
    let freed = look.size(report.removed.freed);
    writeln!(context.out, "Total reclaimed space: {freed}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        prune: Args,
    }

    fn scope(flags: &[&str]) -> Scope {
        let line = ["prune"].iter().chain(flags);
        Line::parse_from(line).prune.scope()
    }

    #[test]
    fn scopes_are_what_was_asked_for_and_nothing_else() {
        assert_eq!(scope(&[]), Scope::default());
        assert_eq!(scope(&["--dangling"]), Scope::default());
        assert_eq!(scope(&["--all"]), Scope::all());
        let snapshots = Scope {
            snapshots: true,
            ..Scope::none()
        };
        assert_eq!(scope(&["--snapshots"]), snapshots);
        let stages = Scope {
            stages: true,
            ..Scope::default()
        };
        assert_eq!(scope(&["--stages"]), stages);
    }
}

//! `rstore prune`: what nothing needs goes.
//!
//! ```text
//! flags, configuration ─▶ PolicyWords ─▶ Policy, Filter ─▶ gc::plan ─┬─ --dry-run: shown, perhaps
//!                                   plan.json ─▶ gc::plan_within ────┤   written to a file
//!                                                                    └─ asked ─▶ gc::execute
//! ```
//! | file | owns |
//! |---|---|
//! | [`args`] | the flags, their help |
//! | [`filter`] | the filter engine of the lists, as the collector asks it |
//! | `show` | what is told of a plan and of what came of it |
//! | `remote` | the build caches in a registry |
//! | `bar` | progress |

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::removal;
use crate::catalog::Millis;
use crate::cli::config::PolicyWords;
use crate::cli::render::{Format, Look};
use crate::cli::{Context, Result, exit};
use crate::executor::{memory, priority, signals};
use crate::gc::saved::{self, Skipped};
use crate::gc::{self, Plan, Policy, Report, idle};
use crate::graph::{Depth, ImageGraph};
use crate::layout::NameSum;
use crate::lock::{FileLock, LOOK, Mode};
use crate::store::Store;
use crate::words;

pub mod args;
mod bar;
pub mod filter;
mod remote;
mod show;

pub use args::Args;

/// The policy that is there without a configuration: an ordinary prune.
const NIGHTLY: &str = "nightly";

/// A plan, and what of it the user is to know.
struct Planned {
    store: Store,
    graph: ImageGraph,
    plan: Plan,
    /// What of a saved plan stays.
    skipped: Option<Skipped>,
    /// What cannot be read, where all the same it is shown what would go.
    unreadable: Option<gc::Unreadable>,
    /// What the store was like before.
    before: Option<idle::Fingerprint>,
    /// What there will be in `blobs/`.
    names: Option<NameSum>,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    if matches!(arguments.format, Format::Template(_)) {
        return Err(exit::usage_error("prune knows no templates"));
    }
    if let Some(remote) = &arguments.remote {
        can_ask(arguments, context)?;
        return remote::run(arguments, remote, context);
    }
    let words = words(arguments, context)?;
    let mut policy = words.policy(context.now)?;
    policy.ignore_broken = arguments.ignore_broken.clone();
    filter::read(&policy.filters, None, context.now)?;
    can_ask(arguments, context)?;
    if arguments.nice {
        priority::lowest()?;
    }
    memory::give_back_at_once();
    // A clock of our own for how long it takes, whatever happens to the time of day.
    let start = Instant::now();
    let store = open(arguments, context)?;
    let usual = !arguments.dry_run && arguments.plan.is_none() && words.image.is_none();
    if usual && idle::is_idle(store.layout(), store.catalog(), &policy, context.now)? {
        let plan = Plan::nothing(&policy, context.now);
        match gc::remember(store.catalog(), 0, context.now) {
            // Whoever watches when the last prune was is no reason for this one to fail.
            Err(error) if error.is_no_space() => {}
            other => other?,
        }
        return show::unchanged(arguments, plan, start.elapsed(), context);
    }
    let deadline = arguments.wait.map(|most| deadline(start, most));
    let mut store = Some(store);
    loop {
        if let Some(deadline) = deadline {
            wait(&context.root, deadline)?;
        }
        let opened = match store.take() {
            Some(store) => store,
            None => open(arguments, context)?,
        };
        let planned = plan(arguments, &words, policy.clone(), opened, context)?;
        match carry_out(arguments, planned, start, context) {
            // Another one came in between.
            Err(error)
                if deadline.is_some_and(|deadline| Instant::now() < deadline)
                    && is_busy(&error) => {}
            other => return other,
        }
    }
}

fn can_ask(arguments: &Args, context: &Context) -> Result {
    if asks(arguments) && !(context.terminal.stdin && context.terminal.stdout) {
        return Err(exit::usage_error(
            "prune asks before it removes, and there is no terminal to ask on: say --force, or --dry-run to see what would go",
        ));
    }
    Ok(())
}

fn asks(arguments: &Args) -> bool {
    !arguments.force && !arguments.dry_run
}

/// What is asked for, in words: the flags, and the policy that they name.
fn words(arguments: &Args, context: &Context) -> Result<PolicyWords> {
    let flags = arguments.words();
    let Some(name) = &arguments.policy else {
        return Ok(flags);
    };
    let policies = &context.config.policies;
    if let Some(policy) = policies.get(name) {
        return Ok(policy.clone().with(flags));
    }
    // What the units that are installed with rstore ask for, before anybody has configured it.
    if name == NIGHTLY {
        return Ok(flags);
    }
    let files = context.config.files.iter();
    let files: Vec<String> = files.map(|file| file.display().to_string()).collect();
    let place = match files.as_slice() {
        [] => "there is no configuration, see rstore-config(5)".to_owned(),
        files => format!("looked for in {}", files.join(" and ")),
    };
    let near = policies.keys().min_by_key(|key| words::distance(name, key));
    let near = near.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
    Err(exit::usage_error(format!(
        "there is no policy {name:?} ({place}){near}"
    )))
}

fn open(arguments: &Args, context: &Context) -> Result<Store> {
    match arguments.dry_run {
        true => context.open(),
        false => context.open_to_write(),
    }
}

fn deadline(start: Instant, most: Millis) -> Instant {
    let most = Duration::from_millis(u64::try_from(most).unwrap_or(0));
    // Further than the clock goes: a year.
    let year = Duration::from_secs(365 * 86_400);
    start + most.min(year)
}

/// Waits until no prune runs, at most until the deadline: whoever comes first then tells the
/// others to come again. Nothing is held meanwhile, so that a signal may just end it.
fn wait(root: &Path, deadline: Instant) -> Result {
    let path = root.join("rstore/prune.lock");
    let mut go_on = || Instant::now() + LOOK < deadline && signals::received().is_none();
    match FileLock::wait_existing(&path, Mode::Exclusive, &mut go_on) {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => match signals::received() {
            Some(signal) => Err(exit::Failure::Interrupted(signal).into()),
            None => Ok(()),
        },
    }
}

fn is_busy(error: &anyhow::Error) -> bool {
    let gc = error.downcast_ref::<gc::Error>();
    gc.is_some_and(gc::Error::is_busy)
}

/// Makes the plan.
fn plan(
    arguments: &Args,
    words: &PolicyWords,
    mut policy: Policy,
    store: Store,
    context: &Context,
) -> Result<Planned> {
    let mut before = idle::Fingerprint::take(store.layout(), store.catalog())?;
    // By name a layer is found by its diff ID, too.
    let depth = match words.image.is_none() && policy.filters.is_empty() {
        true => Depth::Removal,
        false => Depth::All,
    };
    let (layout, now) = (store.layout(), context.now);
    let scanned = ImageGraph::load_scanned(store.catalog(), layout, depth, store.now())?;
    let (graph, strays) = (scanned.graph, scanned.strays);
    if let Some(before) = &mut before {
        before.taken_in(store.catalog(), &graph);
    }
    if let Some(file) = &arguments.plan {
        let mut saved = saved::read(file, &name(&store)?)?;
        saved.policy.ignore_broken.extend(&policy.ignore_broken);
        let (plan, unreadable) = tolerant(arguments, &mut saved.policy.clone(), |policy| {
            saved.policy = policy.clone();
            gc::plan_within(layout, &graph, &saved, now)
        })?;
        let skipped = saved::skipped(layout, &graph, &saved, &plan);
        return Ok(Planned {
            skipped: Some(skipped),
            plan,
            unreadable,
            store,
            graph,
            before: None,
            names: None,
        });
    }
    if let Some(image) = &words.image {
        policy.scope.image = Some(graph.node(graph.resolve(image)?.node).digest);
        // They belong to no image.
        policy.scope.cache_mounts = false;
    }
    let filter = filter::read(&policy.filters, Some(&graph), now)?;
    let asked = gc::Asked {
        filter: filter.as_ref().map(|filter| filter as &dyn gc::Filter),
        explain: arguments.out.is_some() || !matches!(arguments.format, Format::Table),
        strays: strays.as_deref(),
    };
    let (plan, unreadable) = tolerant(arguments, &mut policy, |policy| {
        gc::plan_asked(layout, &graph, policy, &asked, now)
    })?;
    let names = idle::names_after(&graph, &plan, strays.as_deref());
    Ok(Planned {
        skipped: None,
        plan,
        unreadable,
        store,
        graph,
        before,
        names,
    })
}

/// A look is not denied where something cannot be read: it shows what would go if that were given
/// up.
fn tolerant(
    arguments: &Args,
    policy: &mut Policy,
    mut plan: impl FnMut(&Policy) -> gc::Result<Plan>,
) -> Result<(Plan, Option<gc::Unreadable>)> {
    match plan(policy) {
        Err(gc::Error::Unreadable(unreadable)) if arguments.dry_run => {
            policy.ignore_broken.extend(unreadable.digests());
            Ok((plan(policy)?, Some(unreadable)))
        }
        other => Ok((other?, None)),
    }
}

fn name(store: &Store) -> Result<gc::plan::StoreName> {
    let random = store.host().random();
    Ok(saved::store_name(store.layout(), store.catalog(), random)?)
}

/// Shows a plan, and does what it says unless it is only to be shown.
fn carry_out(arguments: &Args, planned: Planned, start: Instant, context: &mut Context) -> Result {
    let Planned {
        store,
        graph,
        mut plan,
        skipped,
        unreadable,
        before,
        names,
    } = planned;
    let look = Look {
        full: arguments.no_trunc,
        exact: arguments.bytes,
        now: context.now,
        width: context.terminal.width,
    };
    let shown = show::Shown::of(arguments);
    let skipped = skipped.as_ref();
    if arguments.dry_run {
        if let Some(file) = &arguments.out {
            plan.store = Some(name(&store)?);
            saved::write(file, &plan)?;
        }
        return show::dry_run(shown, &plan, skipped, unreadable, &look, context);
    }
    if shown == show::Shown::List {
        removal::write_plan(&plan, &look, &mut context.out)?;
        removal::tell_notes(&plan, context)?;
        show::tell_skipped(skipped, context)?;
        if asks(arguments) && !plan.is_empty() && !confirmed(&plan, &look, context)? {
            return Ok(());
        }
    } else if asks(arguments) && !plan.is_empty() && !confirmed(&plan, &look, context)? {
        return Ok(());
    }
    context.flush()?;
    let was_empty = plan.is_empty();
    let (report, told) = {
        let bar = bar::Bar::new(context, arguments.quiet < 2 && !was_empty);
        let mut on_progress = |progress: &gc::Progress| bar.show(progress);
        match shown {
            show::Shown::Json | show::Shown::JsonLine => {
                removal::execute_whole(&store, &graph, plan, &mut on_progress)?
            }
            _ => {
                let told = plan.summary();
                let report = removal::execute_shown(&store, &graph, plan, &mut on_progress)?;
                (report, told)
            }
        }
    };
    let done = show::Done {
        plan: &told,
        report: &report,
        skipped,
        took: start.elapsed(),
    };
    show::done(shown, &done, &look, context)?;
    let (layout, catalog) = (store.layout(), store.catalog());
    if is_complete(&report) {
        match idle::note(layout, catalog, &graph, &told, names, before, context.now) {
            // It spares the next prune some work, and is no reason for this one to fail.
            Err(error) if error.is_no_space() => {}
            other => other?,
        }
    }
    removal::outcome(&report)?;
    show::outcome(&told)
}

fn is_complete(report: &Report) -> bool {
    !report.stopped && report.failures.is_empty() && report.rescued == 0
}

fn confirmed(plan: &Plan, look: &Look, context: &mut Context) -> Result<bool> {
    let things = plan.items.len() + plan.untag.len();
    let freed = look.size(plan.totals.freed);
    agreed(
        &format!("Remove {things} things and free {freed}?"),
        context,
    )
}

/// Asks, and takes anything but a yes for a no.
fn agreed(question: &str, context: &mut Context) -> Result<bool> {
    write!(context.out, "{question} [y/N] ")?;
    context.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

//! Garbage collection: what may go, why, and its removal beside running builds.
//!
//! ```text
//! catalog ─load▶ ImageGraph ─┐                      ┌─▶ shown by a dry run
//! lease files ─collect▶ RootSet ─▶ select, mark ─▶ Plan ─▶ execute: condemn ─▶ sweep ─▶ Report
//! Policy ────────────────────┘                        (batches)     (batches)
//! ```
//! | file | owns | touches |
//! |---|---|---|
//! | [`roots`] | which leases are alive; the root set | lease files |
//! | [`mark`](mod@mark) | what is reachable; stops at what it cannot read | nothing |
//! | [`policy`] | scopes and filters, as a value | nothing |
//! | [`select`] | which images go under a policy | nothing |
//! | [`target`] | how much of that goes, and in which order, where there is to be room | reads |
//! | [`kept`] | what stays, and for what | nothing |
//! | [`idle`] | whether a prune is certain to find nothing to do | the catalog |
//! | [`saved`] | a plan in a file: of this store, of this format | the file |
//! | `assemble` | making the plan of all that | reads |
//! | [`disk`] | what the disk says of what is to go: bytes, hard links, age | reads |
//! | [`cache_mounts`] | which cache mounts are in use | their locks |
//! | [`debris`] | what dead builds left outside the catalog | reads |
//! | [`plan`](mod@plan) | the value that says what goes, what stays, and why | nothing |
//! | [`condemn`] | taking a plan into the catalog | index.json, catalog |
//! | `deed` | the journal's entry of a plan that is carried out | catalog |
//! | [`sweep`] | unlinking what is condemned | blobs, trees, catalog |
//! | [`execute`](mod@execute) | a plan from the lock to the report | |
//! | [`report`] | what was done | nothing |
//! | [`reserve`] | some MiB that a prune on a full disk gives up first | `rstore/reserve` |
//! | [`usage`](mod@usage) | where every byte below the root is | nothing |
//! | `files` | which of its rows a file belongs to | reads |
//!
//! **Locking** (DESIGN.md §4). One prune at a time, by `rstore/prune.lock`. Builds are not locked
//! out: a plan is made on a read snapshot; each batch of condemnations is one write transaction
//! that first takes in what has been pinned, tagged or linked since, and rescues what that
//! reaches; each batch of the sweep is one write transaction that removes only what is *still*
//! condemned. A writer that pins something and commits before such a batch has it kept; one that
//! comes after finds it condemned or gone, and makes it again.
//!
//! **A crash** at any point leaves index.json entries that are gone, rows that are condemned, and
//! trees under a tombstone's name. [`finish`] ends such work.
//!
//! **Order**: entries of index.json, documents before what they point at, images made later before
//! those that they were made from. So what is left never points at what is gone. Locks are taken
//! in this order: `prune.lock`, `rstore/lock`, the catalog's write transaction.

use std::ffi::OsString;
use std::path::PathBuf;

use hashbrown::HashMap;

use crate::catalog::{self, Catalog, Millis};
use crate::graph::{ImageGraph, RootSet};
use crate::layout::{self, Layout};
use crate::{fsutil, graph};

mod assemble;
#[cfg(test)]
mod beside;
pub mod cache_mounts;
pub mod condemn;
pub mod debris;
mod deed;
pub mod disk;
pub mod execute;
mod files;
pub mod idle;
pub mod kept;
pub mod mark;
pub mod plan;
pub mod policy;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod reachability;
pub mod report;
pub mod reserve;
pub mod roots;
pub mod saved;
pub mod select;
pub mod sweep;
pub mod target;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod time;
pub mod usage;

use assemble::Request;

pub use deed::NOT_FINISHED;
pub use mark::{Reachable, Unreadable, mark};
pub use plan::{Item, ItemKind, Plan, Reason, Totals};
pub use policy::{Filter, Policy, Scope, Thing};
pub use report::{Failure, Progress, Report};
pub use usage::{Detail, ImageUsage, Prune, Usage, UsageKind, UsageRow};

/// Why a prune cannot be planned or carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] fsutil::Error),
    /// The layout said no.
    #[error(transparent)]
    Layout(#[from] layout::Error),
    /// The catalog said no.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// Something that is reachable cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Another prune is at work.
    #[error("another prune is running (it holds {}); try again when it has ended", path.display())]
    Busy {
        /// The lock that it holds.
        path: PathBuf,
    },
    /// The plan was made of another graph than the one given with it.
    #[error("the plan is not of this moment; make it again, or narrow it to what may still go")]
    Stale,
    /// A file holds no plan for this store.
    #[error("plan {}: {why}", path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The policy asks for something that cannot be meant.
    #[error("{0}")]
    Policy(String),
}

impl Error {
    /// Whether trying again later may help: exit code 75.
    pub fn is_busy(&self) -> bool {
        matches!(self, Error::Busy { .. })
    }

    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::Io(error) => error.is_no_space(),
            Error::Catalog(error) => error.is_no_space(),
            _ => false,
        }
    }
}

/// What the functions of this module return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Plans a prune: what would go under `policy`, of a graph that was just loaded. Changes nothing.
pub fn plan(layout: &Layout, graph: &ImageGraph, policy: &Policy, now: Millis) -> Result<Plan> {
    plan_asked(layout, graph, policy, &Asked::default(), now)
}

/// What [`plan_asked`] is asked for besides a policy.
#[derive(Clone, Copy, Default)]
pub struct Asked<'a> {
    /// What goes must pass it: what the policy's filters mean.
    pub filter: Option<&'a dyn Filter>,
    /// Whether it is to be told of all images that stay for what they do. Where there is less room
    /// than the policy asks for it is told in any case.
    pub explain: bool,
    /// Names in `blobs/` that are no digests, where somebody has looked.
    pub strays: Option<&'a [OsString]>,
}

/// Like [`plan`], of what passes a filter.
pub fn plan_asked(
    layout: &Layout,
    graph: &ImageGraph,
    policy: &Policy,
    asked: &Asked,
    now: Millis,
) -> Result<Plan> {
    let mut request = Request {
        untag: select::expired_tags(graph, policy, asked.filter)?,
        filter: asked.filter,
        explain: asked.explain,
        strays: asked.strays,
        ..Request::default()
    };
    if let Some(digest) = &policy.scope.image {
        let Some(node) = graph.find(digest) else {
            return Err(Error::Policy(format!("there is no image {digest}")));
        };
        let images = graph.images_of(node);
        let line = images.iter().flat_map(|i| graph.descendants(i.node()));
        let only = select::belongings(graph, line.chain([node]));
        let nodes: HashMap<&str, graph::NodeId> = graph
            .tags()
            .iter()
            .map(|(name, node)| (name.as_str(), *node))
            .collect();
        let within = |name: &String| nodes.get(name.as_str()).is_some_and(|n| only.contains(*n));
        request.untag.retain(within);
        request.only = Some(only);
    }
    assemble::assemble(layout, graph, policy, request, now)
}

/// Plans a prune that removes nothing but what `saved` lists, as far as it may still go and was not
/// used since.
pub fn plan_within(layout: &Layout, graph: &ImageGraph, saved: &Plan, now: Millis) -> Result<Plan> {
    // What was used since stays. Times in a graph are known to the second, and rounded up.
    let since = saved.made.saturating_add(1_000);
    let policy = Policy {
        until: Some(saved.policy.until.map_or(since, |until| until.min(since))),
        ..saved.policy.clone()
    };
    let tags: HashMap<&str, graph::NodeId> = graph
        .tags()
        .iter()
        .map(|(name, node)| (name.as_str(), *node))
        .collect();
    let still = |tag: &&plan::Untag| {
        tags.get(tag.name.as_str()).is_some_and(|node| {
            graph.node(*node).digest == tag.digest
                && !graph.pins().contains(node)
                && select::last_used(graph, *node) < since
        })
    };
    let request = Request {
        untag: saved
            .untag
            .iter()
            .filter(still)
            .map(|t| t.name.clone())
            .collect(),
        only: Some(assemble::listed(graph, saved)),
        saved: Some(saved),
        ..Request::default()
    };
    assemble::assemble(layout, graph, &policy, request, now)
}

/// Plans the removal of named images (`rmi`): `targets` lose the tags that are given with them
/// (all of them where none is), and go with all that only they needed, unless something else
/// holds them. An image without tags goes if nothing but the lack of them would keep it.
///
/// What another tool wrote goes too, however young: it was named.
pub fn plan_removal(
    layout: &Layout,
    graph: &ImageGraph,
    targets: &[plan::Removal],
    now: Millis,
) -> Result<Plan> {
    let mut request = Request::default();
    for target in targets {
        match &target.name {
            Some(name) => request.untag.push(name.clone()),
            None => {
                let names = graph.names(target.node).map(str::to_owned);
                request.untag.extend(names);
            }
        }
        request.named.push(target.node);
    }
    request.only = Some(select::belongings(graph, request.named.iter().copied()));
    let policy = Policy {
        grace: 0,
        ..Policy::default()
    };
    let plan = assemble::assemble(layout, graph, &policy, request, now)?;
    Ok(Plan {
        by_name: true,
        ..plan
    })
}

/// Plans that the named tags go, and nothing else: what [`plan_removal`] comes down to where
/// something cannot be read, so that nobody knows what else may go.
pub fn plan_untag(graph: &ImageGraph, targets: &[plan::Removal], now: Millis) -> Plan {
    let mut plan = Plan::nothing(&Policy::default(), now);
    plan.high_water = graph.high_water();
    plan.by_name = true;
    for target in targets {
        let names = graph.names(target.node);
        let named = names.filter(|name| target.name.as_deref().is_none_or(|only| only == *name));
        plan.untag.extend(named.map(|name| plan::Untag {
            name: name.to_owned(),
            digest: graph.node(target.node).digest,
        }));
    }
    plan
}

/// Carries out a plan. `graph` is the one that it was made of (a saved plan goes through
/// [`plan_within`] first). `clock` tells the milliseconds since the epoch: the journal says how long
/// it took. `on_progress` is told after each batch, and stops the work there by returning `false`;
/// [`finish`] then ends it.
pub fn execute(
    layout: &Layout,
    catalog: &Catalog,
    graph: &ImageGraph,
    plan: Plan,
    clock: &dyn Fn() -> Millis,
    on_progress: &mut dyn FnMut(&Progress) -> bool,
) -> Result<Report> {
    if plan.high_water != graph.high_water() {
        return Err(Error::Stale);
    }
    let (report, _) = execute::execute(layout, catalog, graph, (plan, false), clock, on_progress)?;
    Ok(report)
}

/// Like [`execute()`], and gives the plan back, for whoever is to tell all of it.
pub fn execute_whole(
    layout: &Layout,
    catalog: &Catalog,
    graph: &ImageGraph,
    plan: Plan,
    clock: &dyn Fn() -> Millis,
    on_progress: &mut dyn FnMut(&Progress) -> bool,
) -> Result<(Report, Plan)> {
    if plan.high_water != graph.high_water() {
        return Err(Error::Stale);
    }
    execute::execute(layout, catalog, graph, (plan, true), clock, on_progress)
}

/// Ends what an interrupted prune left: condemned rows and tombstones. Every command that writes
/// calls it first; where nothing is left it costs one look at the catalog. Where a prune is
/// running it does nothing.
pub fn finish(layout: &Layout, catalog: &Catalog, now: Millis) -> Result<Report> {
    execute::finish(layout, catalog, now)
}

/// The roots as they are now, for lists and for `why`: tags, pins, live leases; and, where
/// `grace` is more than nothing, what other tools wrote no longer ago and what neither these nor
/// the lineage of tagged images keeps.
pub fn collect_roots(
    layout: &Layout,
    graph: &ImageGraph,
    grace: Millis,
    now: Millis,
) -> Result<RootSet> {
    let mut roots = roots::collect(graph, &roots::LeaseFiles::probe(layout)?);
    if grace > 0 {
        let classes = graph::Classes::of(graph, &roots);
        add_grace(layout, graph, &classes, &mut roots, grace, now)?;
    }
    Ok(roots)
}

/// Adds to `roots`, which make `classes` of the images, what other tools wrote no longer ago than
/// `grace` and what neither these nor the lineage of tagged images keeps.
pub fn add_grace(
    layout: &Layout,
    graph: &ImageGraph,
    classes: &graph::Classes,
    roots: &mut RootSet,
    grace: Millis,
    now: Millis,
) -> Result<()> {
    if graph.nodes().all(|node| node.ours) {
        return Ok(());
    }
    // Age is asked of the disk, a file at a time: only of what nothing else keeps. A store that
    // another tool wrote has a hundred thousand intermediates, whose names are known from tags.
    let held = graph
        .nodes()
        .filter(|node| classes.holds(node.node) != graph::Holds::NONE);
    let mut reached = graph::NodeSet::of(graph);
    mark::extend(
        graph,
        &mut reached,
        roots
            .roots
            .iter()
            .map(|root| root.node)
            .chain(held.map(|node| node.node)),
    );
    let mut others = graph::NodeSet::of(graph);
    for node in graph.nodes().filter(|node| node.present && !node.ours) {
        if !reached.contains(node.node) {
            others.insert(node.node);
        }
    }
    let facts = disk::BlobFacts::survey(graph, layout, &others)?;
    for (node, modified) in facts.young(graph, now.saturating_sub(grace)) {
        let until = modified.saturating_add(grace);
        roots.add(node, graph::RootKind::Grace { until });
    }
    Ok(())
}

/// Remembers that a prune came to its end, and what it freed: also one that had nothing to look at.
pub fn remember(catalog: &Catalog, freed: u64, now: Millis) -> Result<()> {
    execute::remember(catalog, freed, now)
}

/// Where every byte below the root is, and how many of them which prune would free.
pub fn usage(
    layout: &Layout,
    graph: &ImageGraph,
    grace: Millis,
    now: Millis,
    detail: Detail,
) -> Result<Usage> {
    usage::measure(layout, graph, grace, now, detail)
}

/// Where every byte is, without what a prune would free; `each` is told of every file and
/// directory that is counted.
pub fn usage_of_each(
    layout: &Layout,
    graph: &ImageGraph,
    now: Millis,
    each: &mut usage::Each,
) -> Result<Usage> {
    usage::sizes(layout, graph, now, each)
}

//! `rstore why`: who keeps this, and which prune takes it.
//!
//! Which prune takes a thing is said from the ways in which it is held ([`crate::graph::Holds`]),
//! by which the planner of `prune` decides as well; a test asks that planner.

use std::io::Write;

use serde_json::{Value, json};

use super::view::{self, View};
use crate::catalog::Millis;
use crate::cli::render::json as document;
use crate::cli::render::{Format, SCHEMA, size, text, time};
use crate::cli::{Context, Result, exit};
use crate::gc;
use crate::graph::{Holds, LinkKind, NodeId, Path, Paths, RootKind, State};
use crate::oci::Digest;
use crate::oci::document::Role;

mod gone;
mod subject;

use gone::Gone;
use subject::Subject;

/// How many paths are shown of each thing.
const PATHS: usize = 16;

/// Tell what keeps an image, a layer, a snapshot or a cache record
///
/// Tells what keeps an image, a layer or any other blob, a snapshot, a record of the build cache,
/// an intermediate container or a cache mount: each path from a tag, a pin, a running build or a
/// grace to it, the shortest first. Of what nothing keeps: since when, and which prune takes it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore why app
  rstore why sha256:9a3d0c17
  rstore why 77b1 --format json
  rstore why /var/lib/rstore/rstore/snapshots/0f6f3a9c1d2e4b58-2
  rstore why /root/.cache")]
pub struct Args {
    /// Names, IDs or digests; chain IDs, cache keys, container IDs, IDs of cache mounts, paths
    #[arg(value_name = "REF|ID|DIGEST|PATH", required = true)]
    pub references: Vec<String>,
    /// table, json or jsonl
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Print digests in full
    #[arg(long)]
    pub no_trunc: bool,
}

/// What there is to say of one thing.
struct Answer<'a> {
    subject: Subject<'a>,
    paths: Paths,
    /// What holds it that is in the graph: itself, or the images that it belongs to.
    nodes: Vec<NodeId>,
    /// Something of its own that keeps it: a step that uses it just now.
    in_use: Option<String>,
    /// The command that removes it.
    takes: Option<&'static str>,
    /// Since when nothing keeps it, as far as the journal knows.
    gone: Option<Gone>,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    if matches!(arguments.format, Format::Template(_)) {
        return Err(exit::usage_error(
            "why knows no templates: table, json or jsonl",
        ));
    }
    let view = View::open(context)?.with_grace(context.now)?;
    let mut answers = Vec::new();
    for reference in &arguments.references {
        for subject in subject::meant(&view, reference)? {
            answers.push(Answer::of(&view, subject)?);
        }
    }
    let now = context.now;
    let out = &mut context.out;
    match arguments.format {
        Format::Json => {
            let answers: Vec<Value> = answers.iter().map(|answer| answer.json(&view)).collect();
            document::document(out, &json!({ "schema": SCHEMA, "answers": answers }))?;
        }
        Format::JsonLines => {
            for answer in answers {
                document::write_line(out, &answer.json(&view))?;
            }
        }
        _ => {
            for answer in answers {
                answer.write(&view, arguments.no_trunc, now, out)?;
            }
        }
    }
    Ok(())
}

impl<'a> Answer<'a> {
    fn of(view: &'a View, subject: Subject<'a>) -> Result<Answer<'a>> {
        let nodes = nodes(view, subject);
        let paths = match subject {
            // It stands on an image; that image does not keep it.
            Subject::Container(_) | Subject::CacheMount(_) => Paths::default(),
            _ => view.graph.why_any(&view.roots, &nodes, PATHS),
        };
        let mut answer = Answer {
            subject,
            paths,
            nodes,
            in_use: in_use(view, subject)?,
            takes: None,
            gone: None,
        };
        answer.takes = answer.prune(view);
        let of_images = !matches!(subject, Subject::Container(_) | Subject::CacheMount(_));
        if of_images && !answer.is_kept() {
            answer.gone = Gone::of(view, &answer.nodes)?;
        }
        Ok(answer)
    }

    fn is_kept(&self) -> bool {
        !self.paths.paths.is_empty() || self.in_use.is_some()
    }

    /// The prune that takes it; none takes what a name, a pin or somebody's work needs.
    fn prune(&self, view: &View) -> Option<&'static str> {
        if self.in_use.is_some() {
            return None;
        }
        match self.subject {
            Subject::Node(node) => by_holds(holds(view, node)),
            // Held or not, it is derived.
            Subject::Snapshot(_) if self.is_kept() => Some("rstore prune --snapshots"),
            Subject::CacheRecord(..) if self.is_kept() => Some("rstore prune --cache"),
            Subject::Snapshot(_) | Subject::CacheRecord(..) | Subject::Container(_) => {
                Some("rstore prune")
            }
            Subject::CacheMount(_) => Some("rstore prune --cache-mounts"),
        }
    }

    fn write(&self, view: &View, full: bool, now: Millis, out: &mut dyn Write) -> Result {
        writeln!(out, "{}", self.describe(view, full))?;
        if let Some(user) = &self.in_use {
            writeln!(out, "  {user}")?;
        }
        for path in &self.paths.paths {
            let ends = match self.subject {
                Subject::Snapshot(_) => " → snapshot",
                Subject::CacheRecord(..) => " → cache record",
                _ => "",
            };
            writeln!(out, "  {}{ends}", path_words(view, path, full))?;
        }
        if self.paths.more > 0 || self.paths.cut {
            let least = if self.paths.cut { "more than " } else { "" };
            writeln!(
                out,
                "  and {least}{} more, from {} roots in all",
                self.paths.more, self.paths.roots
            )?;
        }
        let (first, last) = self.times(view);
        let seen = format!(
            "(seen first {}, used last {})",
            time::ago(first, now),
            time::ago(last, now)
        );
        match (self.is_kept(), self.takes) {
            (false, Some("rstore prune")) => {
                writeln!(out, "  nothing keeps it: the next prune removes it {seen}")?;
                writeln!(out, "  `rstore prune` removes it")?;
            }
            (false, takes) => {
                writeln!(out, "  nothing keeps it {seen}")?;
                if let Some(command) = takes {
                    writeln!(out, "  `{command}` removes it")?;
                }
            }
            (true, Some(command)) => writeln!(out, "  `{command}` removes it")?,
            (true, None) => {}
        }
        if let Some(gone) = &self.gone {
            writeln!(out, "  {}", gone.words(now))?;
        }
        Ok(())
    }

    /// When it was first seen, and last used.
    fn times(&self, view: &View) -> (Millis, Millis) {
        match self.subject {
            Subject::Node(node) => {
                let node = view.graph.node(node);
                (node.first_seen, node.last_used)
            }
            Subject::Snapshot(row) => (row.first_seen, row.last_used),
            Subject::CacheRecord(row, _) => (row.created, row.last_used),
            Subject::Container(row) => (row.created, row.created),
            Subject::CacheMount(row) => (row.first_seen, row.last_used),
        }
    }

    fn describe(&self, view: &View, full: bool) -> String {
        let digest = |digest: &Digest| shown(digest, full);
        match self.subject {
            Subject::Node(node) => describe(view, node, full),
            Subject::Snapshot(row) => format!(
                "snapshot {} in rstore/snapshots/{} ({})",
                digest(&row.chain),
                text::clean(&row.directory),
                size::short(row.allocated)
            ),
            Subject::CacheRecord(row, node) => format!(
                "cache record {} of {} (taken {} times)",
                digest(&row.key),
                node.map_or_else(
                    || "an image that is gone".to_owned(),
                    |node| short_name(view, node, full)
                ),
                row.hits
            ),
            Subject::Container(row) => format!(
                "container {} of {}",
                text::clean(&row.id),
                text::shorten(&text::clean(view::step_text(&row.step)), 60)
            ),
            Subject::CacheMount(row) => format!(
                "cache mount {} in rstore/cache-mounts/{}",
                text::clean(&row.name),
                text::clean(&row.directory)
            ),
        }
    }

    fn json(&self, view: &View) -> Value {
        let (first, last) = self.times(view);
        let mut value = match self.subject {
            Subject::Node(node) => {
                let blob = view.graph.node(node);
                let image = view.graph.image(node);
                json!({
                    "schema": SCHEMA,
                    "digest": blob.digest,
                    "kind": blob.kind,
                    "size": blob.size,
                    "id": image.map(|image| image.id()),
                    "state": image.map(|_| view.classes.state(node)),
                })
            }
            Subject::Snapshot(row) => json!({
                "schema": SCHEMA,
                "kind": "snapshot",
                "chain_id": row.chain,
                "directory": row.directory,
                "size": row.allocated,
            }),
            Subject::CacheRecord(row, node) => json!({
                "schema": SCHEMA,
                "kind": "cache_record",
                "key": row.key,
                "digest": node.map(|node| view.graph.node(node).digest),
                "hits": row.hits,
            }),
            Subject::Container(row) => json!({
                "schema": SCHEMA,
                "kind": "container",
                "id": row.id,
                "step": row.step,
                "exit_status": row.status,
            }),
            Subject::CacheMount(row) => json!({
                "schema": SCHEMA,
                "kind": "cache_mount",
                "id": row.name,
                "key": row.key,
                "directory": row.directory,
            }),
        };
        value["kept"] = self.is_kept().into();
        value["in_use"] = self.in_use.is_some().into();
        let paths = self.paths.paths.iter().map(|path| path_json(view, path));
        value["paths"] = paths.collect();
        value["more"] = self.paths.more.into();
        value["more_uncounted"] = self.paths.cut.into();
        value["roots"] = self.paths.roots.into();
        value["removed_by"] = self.takes.into();
        value["last_name"] = self.gone.as_ref().map(Gone::json).into();
        value["first_seen"] = time::rfc3339(first).into();
        value["last_used"] = time::rfc3339(last).into();
        value
    }
}

/// What of a thing is in the graph.
fn nodes(view: &View, subject: Subject) -> Vec<NodeId> {
    let graph = &view.graph;
    match subject {
        Subject::Node(node) => vec![node],
        Subject::CacheRecord(_, node) => node.into_iter().collect(),
        Subject::Snapshot(row) => {
            let has = |image: &crate::graph::Image| graph.chain_ids(*image).contains(&row.chain);
            let images = graph.images().filter(has);
            images.map(|image| image.node()).collect()
        }
        Subject::Container(row) => {
            let node = row.image.and_then(|blob| graph.find_blob(blob));
            node.into_iter().collect()
        }
        Subject::CacheMount(_) => Vec::new(),
    }
}

/// Who uses a thing just now that no path leads to.
fn in_use(view: &View, subject: Subject) -> Result<Option<String>> {
    let lease = |id: &str| {
        let lease = view.graph.leases().iter().find(|lease| lease.id == id)?;
        let what = text::shorten(&text::clean(&lease.detail), 60);
        Some(format!(
            "running {} of {what} (process {}) → it",
            lease.kind, lease.process
        ))
    };
    Ok(match subject {
        Subject::Container(row) if view.roots.live.contains(&row.lease) => lease(&row.lease),
        Subject::Snapshot(row) if view.roots.snapshots.contains(&row.id) => {
            let mut pins = view.graph.leased().iter();
            let pin = pins
                .find(|pin| pin.snapshot == Some(row.id) && view.roots.live.contains(&pin.lease));
            pin.and_then(|pin| lease(&pin.lease))
                .or_else(|| Some("a running build → it".to_owned()))
        }
        Subject::CacheMount(row) => gc::cache_mounts::is_in_use(view.store.layout(), row)?
            .then(|| "a step that runs just now → it".to_owned()),
        _ => None,
    })
}

/// In which ways a node is held: an image itself, any other blob by what holds it.
fn holds(view: &View, node: NodeId) -> Holds {
    let own = view.classes.holds(node);
    let holders = view
        .graph
        .holders(node)
        .filter(|(_, role)| *role != Role::Subject);
    let mut all = own;
    for (holder, _) in holders {
        let held = view.classes.holds(holder);
        let states = State::HELD.iter().filter(|state| held.contains(**state));
        all = states.fold(all, |all, state| all.with(*state));
    }
    let graced = view
        .roots
        .roots
        .iter()
        .any(|root| root.node == node && matches!(root.kind, RootKind::Grace { .. }));
    match graced {
        true => all.with(State::InUse),
        false => all,
    }
}

/// The prune that takes what is held in these ways.
fn by_holds(holds: Holds) -> Option<&'static str> {
    let within = |states: &[State]| {
        let allowed = states
            .iter()
            .fold(Holds::NONE, |all, state| all.with(*state));
        holds.within(allowed)
    };
    if within(&[]) {
        return Some("rstore prune");
    }
    if within(&[State::Stage]) {
        return Some("rstore prune --stages");
    }
    if within(&[State::Intermediate]) {
        return Some("rstore prune --intermediates");
    }
    within(&[State::Stage, State::Intermediate]).then_some("rstore prune --stages --intermediates")
}

fn shown(digest: &Digest, full: bool) -> String {
    if full {
        digest.to_string()
    } else {
        digest.short()
    }
}

fn describe(view: &View, node: NodeId, full: bool) -> String {
    let blob = view.graph.node(node);
    let Some(image) = view.graph.image(node) else {
        let kind = serde_json::to_value(blob.kind).unwrap_or_default();
        let kind = kind.as_str().unwrap_or("blob").to_owned();
        return format!(
            "{kind} {} ({})",
            shown(&blob.digest, full),
            size::short(blob.size)
        );
    };
    let names: Vec<&str> = image.names().collect();
    let name = match (names.as_slice(), image.step()) {
        ([], Some(step)) => format!(" {}", text::shorten(&text::clean(step), 60)),
        ([], None) => String::new(),
        (names, _) => format!(" {}", text::clean(&names.join(", "))),
    };
    format!(
        "image {}{name} ({}, {})",
        shown(&image.id(), full),
        view.classes.state(node),
        size::short(image.size())
    )
}

fn root_words(root: &RootKind) -> String {
    match root {
        RootKind::Tag { name } => format!("tag {}", text::clean(name)),
        RootKind::Pin => "pin".to_owned(),
        RootKind::Lease { id } => format!("running build or load {id}"),
        RootKind::Container { id } => format!("container {id}"),
        RootKind::Grace { until } => format!(
            "grace for what another tool wrote, until {}",
            time::rfc3339(*until)
        ),
    }
}

/// A path in one line.
pub fn path_words(view: &View, path: &Path, full: bool) -> String {
    let name = |node| short_name(view, node, full);
    let mut words = format!("{} → {}", root_words(&path.root), name(path.from));
    for hop in &path.hops {
        words.push_str(&format!(" {} {}", link_words(hop.link), name(hop.node)));
    }
    words
}

fn path_json(view: &View, path: &Path) -> Value {
    let digest = |node| view.graph.node(node).digest;
    let hops = path
        .hops
        .iter()
        .map(|hop| json!({ "link": hop.link, "digest": digest(hop.node) }));
    json!({
        "root": path.root,
        "from": digest(path.from),
        "hops": hops.collect::<Vec<_>>(),
    })
}

fn short_name(view: &View, node: NodeId, full: bool) -> String {
    match view.graph.image(node) {
        Some(image) => format!("image {}", shown(&image.id(), full)),
        None => shown(&view.graph.node(node).digest, full),
    }
}

fn link_words(link: LinkKind) -> &'static str {
    match link {
        LinkKind::Child => "→ member",
        LinkKind::Config => "→ config",
        LinkKind::Layer => "→ layer",
        LinkKind::Subject => "→ subject",
        LinkKind::Other => "→",
        LinkKind::Referrer => "→ signed or described by",
        LinkKind::Parent => "→ parent",
        LinkKind::Stage => "→ stage",
    }
}

//! Where every byte below the root is: what `df` shows. The total is what `du` sees.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hashbrown::HashSet;

use crate::catalog::Millis;
use crate::catalog::blob::BlobKind;
use crate::fsutil;
use crate::graph::{Classes, ImageGraph, LayerState, RootSet, State};
use crate::layout::Layout;
use crate::oci::Digest;

use super::plan::ItemKind;
use super::{Error, Policy, Result, Scope, debris};

/// A row of `df`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum UsageKind {
    /// Manifests and configs of tagged and pinned images, members and referrers included.
    Images,
    /// Those of intermediate images.
    Intermediates,
    /// Those of stage images.
    Stages,
    /// Those of dangling images and of images in use.
    Dangling,
    /// Layers.
    Layers,
    /// Blobs that are none of these.
    Others,
    /// Unpacked layers.
    Snapshots,
    /// Records of the build cache; their bytes are the catalog's.
    Cache,
    /// Directories of `RUN --mount=type=cache`.
    CacheMounts,
    /// Intermediate containers.
    Containers,
    /// Files being written, or left half written.
    Temporary,
    /// What was found damaged and moved away.
    Quarantine,
    /// The catalog, index.json, locks, the reserve, the directories themselves.
    Overhead,
    /// What is there and belongs to nothing.
    Unaccounted,
}

/// One row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct UsageRow {
    /// How many there are.
    pub total: u64,
    /// How many of them something holds.
    pub active: u64,
    /// Allocated bytes.
    pub size: u64,
    /// Bytes that the widest prune of this kind would free: by itself for dangling images,
    /// layers, containers, temporary files; with `--stages`, `--intermediates`, `--snapshots`,
    /// `--cache-mounts` for those.
    pub reclaimable: u64,
}

/// Where every byte is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// The rows.
    pub rows: BTreeMap<UsageKind, UsageRow>,
    /// All allocated bytes below the root.
    pub total: u64,
}

impl Usage {
    fn row(&mut self, kind: UsageKind) -> &mut UsageRow {
        self.rows.entry(kind).or_default()
    }

    fn thing(&mut self, kind: UsageKind, active: bool) {
        let row = self.row(kind);
        row.total += 1;
        row.active += u64::from(active);
    }
}

/// Is told of each file and directory: its row, the parts of its path from the root, its allocated
/// bytes. A file with several names is told once.
pub type Each<'a> = dyn FnMut(UsageKind, &[&str], u64) + 'a;

/// Measures.
pub(super) fn measure(
    layout: &Layout,
    graph: &ImageGraph,
    grace: Millis,
    now: Millis,
) -> Result<Usage> {
    let mut usage = sizes(layout, graph, now, &mut |_, _, _| {})?;
    reclaimable(layout, graph, grace, now, &mut usage)?;
    Ok(usage)
}

/// Measures, and plans nothing: no row says what is reclaimable.
pub(super) fn sizes(
    layout: &Layout,
    graph: &ImageGraph,
    now: Millis,
    each: &mut Each,
) -> Result<Usage> {
    let roots = super::collect_roots(layout, graph, 0, now)?;
    let classes = Classes::of(graph, &roots);
    let mut usage = Usage::default();
    count_things(graph, &classes, &roots, &mut usage);
    for mount in graph.cache_mounts() {
        let active = super::cache_mounts::is_in_use(layout, mount)?;
        usage.thing(UsageKind::CacheMounts, active);
    }
    Walk {
        graph,
        classes: &classes,
        snapshots: graph
            .snapshots()
            .iter()
            .map(|row| &*row.directory)
            .collect(),
        containers: graph.containers().iter().map(|row| &*row.id).collect(),
        cache_mounts: graph
            .cache_mounts()
            .iter()
            .map(|row| &*row.directory)
            .collect(),
        seen: HashSet::new(),
    }
    .all(layout.root(), &mut usage, each)?;
    Ok(usage)
}

/// How many there are of what the catalog knows.
fn count_things(graph: &ImageGraph, classes: &Classes, roots: &RootSet, usage: &mut Usage) {
    for image in graph.images() {
        let state = classes.state(image.node());
        usage.thing(image_row(state), state != State::Dangling);
    }
    for node in graph.nodes().filter(|node| node.present) {
        match node.kind {
            BlobKind::Layer => {
                let state = classes.layer(graph, node.node);
                usage.thing(UsageKind::Layers, matches!(state, LayerState::Held(_)));
            }
            BlobKind::Other | BlobKind::Unknown => usage.thing(UsageKind::Others, false),
            _ => {}
        }
    }
    let held = |state| state != State::Dangling;
    let kept = graph
        .images()
        .filter(|image| held(classes.state(image.node())));
    let chains = graph.chains(kept);
    for snapshot in graph.snapshots() {
        let active = roots.snapshots.contains(&snapshot.id) || chains.contains(&snapshot.chain);
        usage.thing(UsageKind::Snapshots, active);
    }
    for container in graph.containers() {
        usage.thing(UsageKind::Containers, roots.live.contains(&container.lease));
    }
    for (_, image) in graph.cache() {
        let active = image.is_some_and(|node| graph.image(node).is_some());
        usage.thing(UsageKind::Cache, active);
    }
}

fn image_row(state: State) -> UsageKind {
    match state {
        State::Tagged | State::Member | State::Pinned | State::Referrer => UsageKind::Images,
        State::Intermediate => UsageKind::Intermediates,
        State::Stage => UsageKind::Stages,
        State::InUse | State::Dangling => UsageKind::Dangling,
    }
}

/// One walk over all files.
struct Walk<'a> {
    graph: &'a ImageGraph,
    classes: &'a Classes,
    snapshots: HashSet<&'a str>,
    containers: HashSet<&'a str>,
    cache_mounts: HashSet<&'a str>,
    /// Files with more than one name that have been counted.
    seen: HashSet<(u64, u64)>,
}

impl Walk<'_> {
    fn all(&mut self, root: &Path, usage: &mut Usage, each: &mut Each) -> Result<()> {
        for entry in walkdir::WalkDir::new(root).follow_links(false) {
            // What is going while it is counted, or shut, `du` does not count either.
            let Ok(entry) = entry else { continue };
            let Ok(metadata) = entry.path().symlink_metadata() else {
                continue;
            };
            let linked = !metadata.is_dir() && metadata.nlink() > 1;
            if linked && !self.seen.insert((metadata.dev(), metadata.ino())) {
                continue;
            }
            let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
            let parts: Vec<Cow<str>> = below.iter().map(|part| part.to_string_lossy()).collect();
            let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
            let kind = self.place(&parts);
            let bytes = fsutil::allocated(&metadata);
            usage.row(kind).size += bytes;
            usage.total += bytes;
            each(kind, &parts, bytes);
            // Of what has no rows to be counted by, the entries themselves are counted.
            let entry = matches!(parts[..], ["rstore", _, _] | ["blobs", _, _] | [_]);
            if entry && kind == UsageKind::Temporary {
                usage.thing(kind, false);
            }
        }
        Ok(())
    }

    /// What a file belongs to, by its path from the root.
    fn place(&self, parts: &[&str]) -> UsageKind {
        match parts {
            [] | ["blobs" | "rstore" | "oci-layout" | "index.json"] => UsageKind::Overhead,
            ["blobs", "sha256"] | ["lost+found", ..] => UsageKind::Overhead,
            ["blobs", "sha256", name] => self.blob(name),
            [name] | ["rstore", name] if debris::is_sibling(name) => UsageKind::Temporary,
            ["rstore", rest @ ..] => self.private(rest),
            _ => UsageKind::Unaccounted,
        }
    }

    fn private(&self, parts: &[&str]) -> UsageKind {
        match parts {
            ["leases" | "stubs", ..] | ["lock" | "prune.lock" | "reserve"] => UsageKind::Overhead,
            [name] if name.starts_with("catalog.db") => UsageKind::Overhead,
            ["ingest" | "snapshots" | "containers" | "cache-mounts" | "quarantine"] => {
                UsageKind::Overhead
            }
            ["ingest", ..] => UsageKind::Temporary,
            ["snapshots", name, ..] if self.snapshots.contains(name) => UsageKind::Snapshots,
            ["containers", name, ..] if self.containers.contains(name) => UsageKind::Containers,
            ["cache-mounts", name, ..] if self.cache_mounts.contains(name) => {
                UsageKind::CacheMounts
            }
            ["snapshots" | "containers" | "cache-mounts", ..] => UsageKind::Temporary,
            ["quarantine", ..] => UsageKind::Quarantine,
            _ => UsageKind::Unaccounted,
        }
    }

    fn blob(&self, name: &str) -> UsageKind {
        let Some(digest) = Digest::from_hex(name) else {
            return UsageKind::Temporary;
        };
        let Some(node) = self.graph.find(&digest) else {
            return UsageKind::Others;
        };
        match self.graph.node(node).kind {
            BlobKind::Layer => UsageKind::Layers,
            BlobKind::Other | BlobKind::Unknown => UsageKind::Others,
            BlobKind::Index | BlobKind::Manifest => image_row(self.classes.state(node)),
            BlobKind::Config => {
                let holders = self.graph.holders(node);
                let best = holders.map(|(holder, _)| self.classes.state(holder)).min();
                image_row(best.unwrap_or(State::Dangling))
            }
        }
    }
}

/// What the named prunes would free: of each kind, what an ordinary prune does; of what has a
/// scope of its own, what that one frees beyond it.
fn reclaimable(
    layout: &Layout,
    graph: &ImageGraph,
    grace: Millis,
    now: Millis,
    usage: &mut Usage,
) -> Result<()> {
    let plan = |scope: Scope| {
        let policy = Policy {
            scope,
            grace,
            ..Policy::default()
        };
        super::plan(layout, graph, &policy, now)
    };
    let ordinary = match plan(Scope::default()) {
        Ok(ordinary) => ordinary,
        // What cannot be pruned can be looked at.
        Err(Error::Unreadable(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    for item in &ordinary.items {
        let kind = match item.kind {
            ItemKind::Image | ItemKind::Index | ItemKind::Artifact | ItemKind::Config => {
                UsageKind::Dangling
            }
            ItemKind::Layer => UsageKind::Layers,
            ItemKind::Blob => UsageKind::Others,
            ItemKind::Snapshot => UsageKind::Snapshots,
            ItemKind::Container => UsageKind::Containers,
            ItemKind::CacheMount => UsageKind::CacheMounts,
            ItemKind::CacheRecord => UsageKind::Cache,
            ItemKind::Temporary => UsageKind::Temporary,
        };
        usage.row(kind).reclaimable += item.freed;
    }
    let wider = |change: &dyn Fn(&mut Scope), base: Scope, less: u64| -> Result<u64> {
        let mut scope = base;
        change(&mut scope);
        Ok(plan(scope)?.totals.freed.saturating_sub(less))
    };
    let less = ordinary.totals.freed;
    let has = |usage: &Usage, kind| usage.rows.get(&kind).is_some_and(|row| row.total > 0);
    if has(usage, UsageKind::Stages) {
        usage.row(UsageKind::Stages).reclaimable =
            wider(&|scope| scope.stages = true, Scope::default(), less)?;
    }
    if has(usage, UsageKind::Intermediates) {
        usage.row(UsageKind::Intermediates).reclaimable =
            wider(&|scope| scope.intermediates = true, Scope::default(), less)?;
    }
    if has(usage, UsageKind::Snapshots) {
        usage.row(UsageKind::Snapshots).reclaimable =
            wider(&|scope| scope.snapshots = true, Scope::none(), 0)?;
    }
    if has(usage, UsageKind::CacheMounts) {
        usage.row(UsageKind::CacheMounts).reclaimable =
            wider(&|scope| scope.cache_mounts = true, Scope::none(), 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, New, Store};
    use super::*;

    #[test]
    fn every_byte_is_in_a_row_and_what_is_reclaimable_is_what_a_prune_frees() {
        let store = Store::new();
        let new = |layers| New {
            layers,
            ..New::default()
        };
        let app = store.image("app", new(&["a", "b"]));
        store.tag("app:latest", app);
        store.image("loose", new(&["a", "c"]));
        store.snapshot(Digest::of(b"gone"));
        std::fs::write(store.layout.private().join("ingest/dead-1"), [1; 9_000]).unwrap();
        std::fs::write(store.layout.root().join("thesis.txt"), [1; 9_000]).unwrap();
        let graph = store.graph();
        let usage = measure(&store.layout, &graph, 0, NOW).unwrap();
        let mut told = 0;
        let mut each = |_: UsageKind, _: &[&str], bytes| told += bytes;
        sizes(&store.layout, &graph, NOW, &mut each).unwrap();
        assert_eq!(usage.total, told);
        let disk = fsutil::allocated_tree(store.layout.root()).unwrap();
        assert_eq!(usage.total, disk);
        let rows: u64 = usage.rows.values().map(|row| row.size).sum();
        assert_eq!(rows, usage.total);
        let layers = usage.rows[&UsageKind::Layers];
        assert_eq!((layers.total, layers.active), (3, 2));
        assert!(usage.rows[&UsageKind::Unaccounted].size > 0);
        let reclaimable: u64 = usage.rows.values().map(|row| row.reclaimable).sum();
        assert_eq!(reclaimable, store.prune_dangling().removed.freed);
    }
}

//! Where every byte below the root is: what `df` shows. The total is what `du` sees.

use std::collections::BTreeMap;

use crate::catalog::Millis;
use crate::catalog::blob::BlobKind;
use crate::graph::size::{Bytes, ImageBytes};
use crate::graph::{Classes, ImageGraph, LayerState, NodeId, NodeSet, RootSet, State};
use crate::layout::Layout;

use super::assemble::{self, Request};
use super::disk::{self, BlobFacts, Survey};
use super::files::{Files, image_row};
use super::plan::{ItemKind, Totals};
use super::{Error, Policy, Result, Scope};

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
    /// Of a kind of images: allocated bytes, those of layers included, that images of no other
    /// kind hold. Of layers: those that a single image holds. `None` for what nothing can share.
    pub own: Option<u64>,
    /// The bytes that others hold as well.
    pub shared: Option<u64>,
}

/// What is measured besides the rows: each costs another walk over the graph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Detail {
    /// What each image takes.
    pub images: bool,
    /// What the widest prune would free.
    pub widest: bool,
}

/// A prune, by the flag that asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Prune {
    /// An ordinary one.
    Dangling,
    /// `--stages`
    Stages,
    /// `--intermediates`
    Intermediates,
    /// `--snapshots`
    Snapshots,
    /// `--cache-mounts`
    CacheMounts,
    /// `--all`
    All,
}

impl Prune {
    /// All of them.
    pub const ALL: [Prune; 6] = [
        Prune::Dangling,
        Prune::Stages,
        Prune::Intermediates,
        Prune::Snapshots,
        Prune::CacheMounts,
        Prune::All,
    ];

    /// What it takes.
    pub fn scope(self) -> Scope {
        let (ordinary, none) = (Scope::default(), Scope::none());
        match self {
            Prune::Dangling => ordinary,
            Prune::Stages => Scope {
                stages: true,
                ..ordinary
            },
            Prune::Intermediates => Scope {
                intermediates: true,
                ..ordinary
            },
            Prune::Snapshots => Scope {
                snapshots: true,
                ..none
            },
            Prune::CacheMounts => Scope {
                cache_mounts: true,
                ..none
            },
            Prune::All => Scope::all(),
        }
    }

    /// The flag's word.
    pub fn word(self) -> &'static str {
        match self {
            Prune::Dangling => "dangling",
            Prune::Stages => "stages",
            Prune::Intermediates => "intermediates",
            Prune::Snapshots => "snapshots",
            Prune::CacheMounts => "cache_mounts",
            Prune::All => "all",
        }
    }
}

/// What one image takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct ImageUsage {
    /// Its manifest.
    #[serde(skip)]
    pub node: NodeId,
    /// What it is.
    pub state: State,
    /// Its bytes, as the disk has them.
    pub bytes: ImageBytes,
    /// Bytes that the prune of its kind frees with it. What several images that go share counts
    /// with the one made last, so that the sum over all images is what goes with images.
    pub reclaimable: u64,
}

/// Where every byte is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// The rows.
    pub rows: BTreeMap<UsageKind, UsageRow>,
    /// All allocated bytes below the root.
    pub total: u64,
    /// What each prune would free, all that it takes together; the widest where it was asked for.
    pub prunes: BTreeMap<Prune, u64>,
    /// How many images there are of each state.
    pub states: BTreeMap<State, u64>,
    /// What each image takes, in the order of the graph; empty unless it was asked for.
    #[serde(skip)]
    pub images: Vec<ImageUsage>,
}

impl Usage {
    fn row(&mut self, kind: UsageKind) -> &mut UsageRow {
        self.rows.entry(kind).or_default()
    }

    pub(super) fn thing(&mut self, kind: UsageKind, active: bool) {
        let row = self.row(kind);
        row.total += 1;
        row.active += u64::from(active);
    }

    pub(super) fn add(&mut self, kind: UsageKind, bytes: u64) {
        self.row(kind).size += bytes;
        self.total += bytes;
    }

    pub(super) fn own(&mut self, kind: UsageKind, bytes: u64) {
        *self.row(kind).own.get_or_insert(0) += bytes;
    }

    pub(super) fn shared(&mut self, kind: UsageKind, bytes: u64) {
        *self.row(kind).shared.get_or_insert(0) += bytes;
    }
}

/// Is told of each file and directory: its row, the parts of its path from the root, its allocated
/// bytes. A file with several names is told once.
pub type Each<'a> = dyn FnMut(UsageKind, &[&str], u64) + 'a;

/// Measures, and plans nothing: no row says what is reclaimable.
pub(super) fn sizes(
    layout: &Layout,
    graph: &ImageGraph,
    now: Millis,
    each: &mut Each,
) -> Result<Usage> {
    let survey = Survey::take(graph, layout)?;
    count(layout, graph, &survey, now, each).map(|(usage, _)| usage)
}

/// Measures.
pub(super) fn measure(
    layout: &Layout,
    graph: &ImageGraph,
    grace: Millis,
    now: Millis,
    detail: Detail,
) -> Result<Usage> {
    // Everything else builds upon this: no file is asked twice.
    let survey = Survey::take(graph, layout)?;
    let (mut usage, classes) = count(layout, graph, &survey, now, &mut |_, _, _| {})?;
    if detail.images {
        usage.images = images(graph, &classes, &survey.facts);
    }
    Foretelling {
        layout,
        graph,
        survey: &survey,
        grace,
        now,
        detail,
    }
    .reclaimable(&mut usage)?;
    Ok(usage)
}

/// What is there, and what it takes.
fn count(
    layout: &Layout,
    graph: &ImageGraph,
    survey: &Survey,
    now: Millis,
    each: &mut Each,
) -> Result<(Usage, Classes)> {
    let roots = super::collect_roots(layout, graph, 0, now)?;
    let classes = Classes::of(graph, &roots);
    let mut usage = Usage::default();
    for kind in [
        UsageKind::Images,
        UsageKind::Intermediates,
        UsageKind::Stages,
        UsageKind::Dangling,
        UsageKind::Layers,
    ] {
        usage.own(kind, 0);
        usage.shared(kind, 0);
    }
    count_things(graph, &classes, &roots, &mut usage);
    for mount in graph.cache_mounts() {
        let active = super::cache_mounts::is_in_use(layout, mount)?;
        usage.thing(UsageKind::CacheMounts, active);
    }
    Files::new(graph, &classes, each).count(layout.root(), survey, &mut usage);
    Ok((usage, classes))
}

/// What each image takes; nothing is reclaimable yet.
fn images(graph: &ImageGraph, classes: &Classes, facts: &BlobFacts) -> Vec<ImageUsage> {
    let bytes = |node| {
        facts.get(node).map_or(Bytes::default(), |stat| Bytes {
            size: stat.size,
            allocated: stat.allocated,
        })
    };
    let usage = |image: crate::graph::Image| ImageUsage {
        node: image.node(),
        state: classes.state(image.node()),
        bytes: graph.bytes_by(image.node(), bytes),
        reclaimable: 0,
    };
    graph.images().map(usage).collect()
}

/// How many there are of what the catalog knows.
fn count_things(graph: &ImageGraph, classes: &Classes, roots: &RootSet, usage: &mut Usage) {
    for image in graph.images() {
        let state = classes.state(image.node());
        usage.thing(image_row(state), state != State::Dangling);
        *usage.states.entry(state).or_default() += 1;
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
    count_snapshots(graph, classes, roots, usage);
    for container in graph.containers() {
        usage.thing(UsageKind::Containers, roots.live.contains(&container.lease));
    }
    for (_, image) in graph.cache() {
        let active = image.is_some_and(|node| graph.image(node).is_some());
        usage.thing(UsageKind::Cache, active);
    }
}

fn count_snapshots(graph: &ImageGraph, classes: &Classes, roots: &RootSet, usage: &mut Usage) {
    // Chain IDs have to be hashed, those of all images: not for nothing.
    if graph.snapshots().is_empty() {
        return;
    }
    let held = |image: &crate::graph::Image| classes.state(image.node()) != State::Dangling;
    let chains = graph.chains(graph.images().filter(held));
    for snapshot in graph.snapshots() {
        let active = roots.snapshots.contains(&snapshot.id) || chains.contains(&snapshot.chain);
        usage.thing(UsageKind::Snapshots, active);
    }
}

/// What a prune would come to.
struct Foretold {
    totals: Totals,
    doomed: NodeSet,
}

/// Asks the planner of prunes, which is told what the disk says.
struct Foretelling<'a> {
    layout: &'a Layout,
    graph: &'a ImageGraph,
    survey: &'a Survey,
    grace: Millis,
    now: Millis,
    detail: Detail,
}

impl Foretelling<'_> {
    fn prune(&self, scope: Scope) -> Result<Foretold> {
        let policy = Policy {
            scope,
            grace: self.grace,
            ..Policy::default()
        };
        let request = Request {
            survey: Some(self.survey),
            ..Request::default()
        };
        let (plan, doomed) =
            assemble::plan_and_doomed(self.layout, self.graph, &policy, request, self.now)?;
        Ok(Foretold {
            totals: plan.totals,
            doomed,
        })
    }

    /// What the named prunes would free: of each kind, what an ordinary prune does; of what has a
    /// scope of its own, what that one frees beyond it.
    fn reclaimable(&self, usage: &mut Usage) -> Result<()> {
        let ordinary = match self.prune(Scope::default()) {
            Ok(ordinary) => ordinary,
            // What cannot be pruned can be looked at.
            Err(Error::Unreadable(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        for (kind, count) in &ordinary.totals.kinds {
            usage.row(row_of(*kind)).reclaimable += count.freed;
        }
        self.claim(&NodeSet::of(self.graph), &ordinary.doomed, usage);
        let has = |usage: &Usage, kind| usage.rows.get(&kind).is_some_and(|row| row.total > 0);
        let less = ordinary.totals.freed;
        usage.prunes.insert(Prune::Dangling, less);
        for (prune, kind) in [
            (Prune::Stages, UsageKind::Stages),
            (Prune::Intermediates, UsageKind::Intermediates),
        ] {
            // Where there is nothing of the kind it is the ordinary one.
            let mut freed = less;
            if has(usage, kind) {
                let wider = self.prune(prune.scope())?;
                freed = wider.totals.freed;
                self.claim(&ordinary.doomed, &wider.doomed, usage);
            }
            usage.row(kind).reclaimable = freed.saturating_sub(less);
            usage.prunes.insert(prune, freed);
        }
        for (prune, kind) in [
            (Prune::Snapshots, UsageKind::Snapshots),
            (Prune::CacheMounts, UsageKind::CacheMounts),
        ] {
            let freed = match has(usage, kind) {
                true => self.prune(prune.scope())?.totals.freed,
                false => 0,
            };
            usage.row(kind).reclaimable = freed;
            usage.prunes.insert(prune, freed);
        }
        if self.detail.widest {
            let all = self.prune(Prune::All.scope())?.totals.freed;
            usage.prunes.insert(Prune::All, all);
        }
        Ok(())
    }

    /// Gives each image what goes with it in a prune, and does not go in a narrower one: the blobs
    /// that no image made later has been given.
    fn claim(&self, narrower: &NodeSet, doomed: &NodeSet, usage: &mut Usage) {
        let mut left = doomed.clone();
        for node in narrower.iter() {
            left.remove(node);
        }
        let mut claim = |node| match left.remove(node) {
            true => self.survey.facts.get(node).map_or(0, disk::freed),
            false => 0,
        };
        for image in usage.images.iter_mut().rev() {
            if !doomed.contains(image.node) || narrower.contains(image.node) {
                continue;
            }
            image.reclaimable += claim(image.node);
            for (target, _) in self.graph.links(image.node) {
                if self.graph.image(target).is_none() {
                    image.reclaimable += claim(target);
                }
            }
        }
    }
}

/// The row in which the things of a plan are.
fn row_of(kind: ItemKind) -> UsageKind {
    match kind {
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
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, New, Store};
    use super::*;
    use crate::fsutil;
    use crate::oci::Digest;

    const ALL: Detail = Detail {
        images: true,
        widest: true,
    };

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
        let usage = measure(&store.layout, &graph, 0, NOW, ALL).unwrap();
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
        assert_eq!(usage.prunes[&Prune::Dangling], reclaimable);
        assert_eq!(reclaimable, store.prune_dangling().removed.freed);
    }

    #[test]
    fn a_file_that_changed_behind_our_back_counts_as_it_is() {
        let store = Store::new();
        let new = New {
            layers: &["a", "b"],
            ..New::default()
        };
        store.tag("app:latest", store.image("app", new));
        let graph = store.graph();
        let layer = graph.nodes().find(|node| node.kind == BlobKind::Layer);
        let layer = layer.unwrap();
        let path = store.layout.blobs().path(&layer.digest);
        // Neither of these changes the directory, by which a scan would notice.
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        std::fs::hard_link(&path, store.layout.root().join("another-name")).unwrap();
        let usage = measure(&store.layout, &graph, 0, NOW, ALL).unwrap();
        let disk = fsutil::allocated_tree(store.layout.root()).unwrap();
        assert_eq!(usage.total, disk);
        assert!(usage.rows[&UsageKind::Layers].size >= 1 << 20);
        assert!(usage.images[0].bytes.own.allocated >= 1 << 20);
        assert!(layer.allocated < 1 << 20, "the catalog knows nothing of it");
    }

    #[test]
    fn what_kinds_and_images_have_for_themselves_and_share_adds_up() {
        let store = Store::new();
        let new = |layers| New {
            layers,
            ..New::default()
        };
        let base = store.image("base", new(&["s"]));
        let app = New {
            parent: Some(base),
            ..new(&["s", "a"])
        };
        store.tag("app:latest", store.image("app", app));
        store.image("loose", new(&["s", "l"]));
        let graph = store.graph();
        let usage = measure(&store.layout, &graph, 0, NOW, ALL).unwrap();
        let row = |kind| usage.rows[&kind];
        let block = |kind| (row(kind).own.unwrap(), row(kind).shared.unwrap());
        let (layers, documents) = (row(UsageKind::Layers), row(UsageKind::Images).size);
        let one = layers.size / 3;
        assert_eq!(block(UsageKind::Layers), (2 * one, one));
        assert_eq!(block(UsageKind::Images), (documents + one, one));
        assert_eq!(block(UsageKind::Intermediates), (documents, one));
        assert_eq!(block(UsageKind::Dangling), (documents + one, one));
        let loose = usage.images.iter().find(|i| i.state == State::Dangling);
        assert_eq!(loose.unwrap().reclaimable, documents + one);
        let base = usage.images.iter().find(|i| i.state == State::Intermediate);
        assert_eq!(
            base.unwrap().reclaimable,
            documents,
            "`s` is the tagged one's too"
        );
    }
}

//! Taking a plan into the catalog: what it lists is condemned, as far as nothing has begun to need
//! it since the plan's graph was read.
//!
//! ```text
//! index lock ─┬─ write transaction: take in index.json, reap leases, catch up, take entries out
//!             └─             of index.json (written and fsynced here), condemn the first batch
//! then           write transaction: take in index.json, catch up, condemn a batch     … again
//! ```
//! **Catching up** means: whatever was pinned, leased, tagged or pointed at since the last look is
//! a new root, and what it reaches is rescued. Numbers only grow ([`HighWater`]), so that "since"
//! is a comparison, and a batch costs what has changed, not what there is.
//!
//! **Order.** Documents come before what they point at, and images before those that they were
//! made from: after each batch the survivors are closed. `index.json` is written before the
//! transaction that condemns commits, so that nothing on the disk names what is condemned; a crash
//! in between leaves images that nothing names, and the next prune takes them.
//!
//! **The journal** is written in the same transactions: see `deed`.
//!
//! **Stages** of an intermediate image that goes are handed on to what stays of its line.

use hashbrown::{HashMap, HashSet};

use crate::catalog::blob::{BlobKind, HighWater};
use crate::catalog::{self, Catalog, Millis, WriteError, Writer, sync};
use crate::graph::{ImageGraph, NodeId, NodeSet};
use crate::layout::Layout;
use crate::oci::document::Role;

use super::deed::Deed;
use super::plan::{ItemKind, Plan};
use super::report::Report;
use super::roots::{self, LeaseFiles};
use super::{Error, Result, sweep};

/// How many documents or leaves one transaction condemns: some tens of milliseconds.
const BATCH: usize = 5_000;

/// In `meta` from the first condemnation to the end of the sweep.
pub(super) const UNFINISHED: &str = "prune-unfinished";

pub(super) type Outcome<T> = std::result::Result<T, WriteError<Error>>;

/// Turns the error of a transaction of the catalog's own into one of ours.
pub(super) fn lift(error: WriteError<catalog::Error>) -> WriteError<Error> {
    match error {
        WriteError::Sqlite(error) => WriteError::Sqlite(error),
        WriteError::Caller(error) => WriteError::Caller(error.into()),
    }
}

pub(super) fn caller(error: impl Into<Error>) -> WriteError<Error> {
    WriteError::Caller(error.into())
}

/// A plan on its way into the catalog.
pub(super) struct Condemning<'a> {
    pub layout: &'a Layout,
    pub graph: &'a ImageGraph,
    pub plan: &'a Plan,
    now: Millis,
    /// What the journal is told.
    pub deed: Deed<'a>,
    /// What is still to be condemned, or is.
    doomed: NodeSet,
    /// What has been looked at.
    seen: HighWater,
    /// Which index.json the tags that were looked at are of.
    index: Option<String>,
    /// How many were rescued.
    pub rescued: u64,
}

impl<'a> Condemning<'a> {
    /// `doomed` are the blobs of `plan`, which need not list any more those that are no documents.
    pub fn new(
        layout: &'a Layout,
        graph: &'a ImageGraph,
        plan: &'a Plan,
        doomed: NodeSet,
        clock: &'a dyn Fn() -> Millis,
    ) -> Self {
        let deed = Deed::new(graph, plan, clock);
        Condemning {
            layout,
            graph,
            plan,
            now: deed.began(),
            deed,
            doomed,
            seen: graph.high_water(),
            index: None,
            rescued: 0,
        }
    }

    /// Condemns everything. `go_on` is asked between two batches; `false` stops there.
    pub fn run(
        &mut self,
        catalog: &Catalog,
        report: &mut Report,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool> {
        let order = order(self.graph, &self.doomed);
        self.first(catalog, report)?;
        for batch in order.chunks(BATCH) {
            if !go_on() {
                return Ok(false);
            }
            catalog.write(|tx| {
                sync::refresh_index(tx, self.layout, self.now).map_err(lift)?;
                self.catch_up(tx)?;
                self.condemn(tx, batch)
            })?;
        }
        Ok(true)
    }

    /// Whether a blob of the plan goes still.
    pub fn still(&self, node: NodeId) -> bool {
        self.doomed.contains(node)
    }

    /// Everything but the blobs, and index.json.
    fn first(&mut self, catalog: &Catalog, report: &mut Report) -> Result<()> {
        let lock = self.layout.lock_index()?;
        let files = LeaseFiles::probe(self.layout)?;
        catalog.write(|tx| {
            sync::refresh_index(tx, self.layout, self.now).map_err(lift)?;
            reap(tx, self.layout, &files)?;
            self.catch_up(tx)?;
            self.hand_on_stages(tx)?;
            self.rewrite_index(tx, &lock, report)?;
            self.deed.begin(tx, &report.untagged)?;
            self.condemn_snapshots(tx)?;
            self.forget_cache(tx)?;
            Ok::<_, WriteError<Error>>(())
        })?;
        files.remove_dead(self.layout)?;
        sweep::siblings(self.layout, self.plan, &lock, report)
    }

    fn condemn(&mut self, tx: &Writer, batch: &[NodeId]) -> Outcome<()> {
        let mut leaves = Vec::new();
        for node in batch.iter().filter(|node| self.doomed.contains(**node)) {
            let node = self.graph.node(*node);
            match node.kind {
                BlobKind::Config | BlobKind::Layer => leaves.push(node.blob),
                _ => tx.condemn_blob(node.blob, self.now)?,
            }
        }
        leaves.sort_unstable();
        tx.condemn_leaves(&leaves, self.now)?;
        let Condemning { deed, doomed, .. } = self;
        let going = batch.iter().filter(|node| doomed.contains(**node));
        Ok(deed.condemn(tx, going.copied())?)
    }

    // -- what came since ----------------------------------------------------------------------

    /// Rescues what has begun to be needed since the last look.
    fn catch_up(&mut self, tx: &Writer) -> Outcome<()> {
        let mut roots = Vec::new();
        let find = |blob| self.graph.find_blob(blob);
        let pins = tx.lease_pins_after(self.seen.lease_pin)?;
        roots.extend(pins.iter().filter_map(|pin| pin.blob).filter_map(find));
        roots.extend(tx.pins_after(self.seen.pin)?.into_iter().filter_map(find));
        tx.each_edge_after(self.seen.edge, |edge| roots.extend(find(edge.target)))?;
        roots.extend(self.new_tags(tx)?);
        self.seen = tx.high_water()?;
        self.rescue(tx, roots)
    }

    /// What tags point at, unless the index is the one of the last look. Tags that go are none.
    fn new_tags(&mut self, tx: &Writer) -> Outcome<Vec<NodeId>> {
        let signature = sync::index_signature(tx)?;
        if signature.is_some() && signature == self.index {
            return Ok(Vec::new());
        }
        let going: HashMap<&str, _> = self
            .plan
            .untag
            .iter()
            .map(|tag| (tag.name.as_str(), tag.digest))
            .collect();
        let mut tagged = Vec::new();
        for entry in tx.index_entries()? {
            let (Some(name), Some(node)) = (entry.name, self.graph.find_blob(entry.blob)) else {
                continue;
            };
            if going.get(name.as_str()) != Some(&self.graph.node(node).digest) {
                tagged.push(node);
            }
        }
        self.index = signature;
        Ok(tagged)
    }

    /// Takes what `roots` reach out of the doomed: by content, by subject backwards, and what it
    /// was made from.
    fn rescue(&mut self, tx: &Writer, roots: Vec<NodeId>) -> Outcome<()> {
        let mut pending = roots;
        while let Some(node) = pending.pop() {
            if !self.doomed.remove(node) {
                continue;
            }
            self.rescued += 1;
            // Documents that were condemned have lost their rows, and come back only by being
            // recorded again; what they point at is whole again at once.
            if self.graph.links(node).len() == 0 {
                tx.rescue_blob(self.graph.node(node).blob)?;
            }
            pending.extend(self.graph.links(node).map(|(target, _)| target));
            let referrers = self.graph.holders(node);
            let referrers = referrers.filter(|(_, role)| *role == Role::Subject);
            pending.extend(referrers.map(|(source, _)| source));
            if let Some(image) = self.graph.image(node) {
                pending.extend(image.parent());
                pending.extend(image.stages());
            }
        }
        Ok(())
    }

    // -- what is not a blob -------------------------------------------------------------------

    /// Takes the planned tags, and entries without a name of images that go, out of index.json.
    fn rewrite_index(
        &mut self,
        tx: &Writer,
        lock: &crate::lock::FileLock,
        report: &mut Report,
    ) -> Outcome<()> {
        // The mirror is of this moment. A large index takes much more memory than its names do.
        let named = tx.index_entries()?.iter().all(|entry| entry.name.is_some());
        if named && self.plan.untag.is_empty() {
            return Ok(());
        }
        let mut index = self.layout.index().map_err(caller)?;
        let mut untagged = Vec::new();
        let before = index.entries().len();
        index.remove(|entry| match entry.name() {
            Some(name) => {
                let digest = entry.descriptor.digest;
                let goes = |tag: &super::plan::Untag| tag.name == name && tag.digest == digest;
                let goes = self.plan.untag.iter().any(goes);
                if goes {
                    untagged.push(name.to_owned());
                }
                goes
            }
            None => self
                .graph
                .find(&entry.descriptor.digest)
                .is_some_and(|node| self.doomed.contains(node)),
        });
        report.untagged = untagged;
        if index.entries().len() == before {
            return Ok(());
        }
        self.layout.write_index(&index, lock).map_err(caller)?;
        sync::take_index(tx, self.layout, self.now).map_err(lift)?;
        self.index = sync::index_signature(tx)?;
        Ok(())
    }

    /// Before what used them goes, images that stay are said to have used them.
    fn hand_on_stages(&self, tx: &Writer) -> Outcome<()> {
        let blob = |node| self.graph.node(node).blob;
        for (image, stage) in handed_on(self.graph, &self.doomed) {
            tx.put_stage_link(blob(image), blob(stage))?;
        }
        Ok(())
    }

    fn condemn_snapshots(&self, tx: &Writer) -> Outcome<()> {
        let doomed = self.plan.items.iter();
        let doomed = doomed.filter(|item| item.kind == ItemKind::Snapshot);
        let directories: HashSet<&str> = doomed
            .filter_map(|item| item.id().rsplit('/').next())
            .collect();
        for snapshot in self.graph.snapshots() {
            if directories.contains(snapshot.directory.as_str())
                && !tx.is_snapshot_leased(snapshot.id)?
            {
                tx.condemn_snapshot(snapshot.id, self.now)?;
            }
        }
        Ok(())
    }

    fn forget_cache(&self, tx: &Writer) -> Outcome<()> {
        for item in &self.plan.items {
            if let (ItemKind::CacheRecord, Some(key)) = (item.kind, &item.digest) {
                tx.forget_cache_record(key)?;
            }
        }
        let policy = &self.plan.policy;
        let all = policy.filters.is_empty() && policy.space.is_unlimited();
        if policy.scope.cache && policy.scope.image.is_none() && all {
            let before = self.plan.policy.until.unwrap_or(Millis::MAX);
            tx.forget_context_files(before)?;
            tx.forget_remote_files(before)?;
        }
        Ok(())
    }
}

/// The images that stay and were made from one that goes, with the stages that their lines used: a
/// stage is that of the image whose build used it, and does not go with an intermediate image on
/// the way. A crash after this leaves links that say the same twice.
pub(super) fn handed_on<'a>(
    graph: &'a ImageGraph,
    doomed: &'a NodeSet,
) -> impl Iterator<Item = (NodeId, NodeId)> + 'a {
    let stays = |node: NodeId| !doomed.contains(node) && graph.node(node).present;
    let orphans = graph.images().filter(move |image| {
        let parent = image.parent();
        stays(image.node()) && parent.is_some_and(|parent| doomed.contains(parent))
    });
    orphans.flat_map(move |image| {
        let mut stages = Vec::new();
        let mut seen = HashSet::new();
        let mut ancestor = image.parent_image();
        // A parent may lead back to where one came from.
        while let Some(next) = ancestor.filter(|next| seen.insert(next.node())) {
            let used = next.stages().filter(|stage| stays(*stage));
            stages.extend(used.filter(|stage| graph.image(*stage).is_some()));
            ancestor = next.parent_image();
        }
        stages.into_iter().map(move |stage| (image.node(), stage))
    })
}

/// The blobs that a plan lists.
pub(super) fn doomed(graph: &ImageGraph, plan: &Plan) -> NodeSet {
    let mut doomed = NodeSet::of(graph);
    for item in &plan.items {
        let tree = matches!(item.kind, ItemKind::Snapshot | ItemKind::CacheRecord);
        let digest = item.digest.as_ref().filter(|_| !tree);
        if let Some(node) = digest.and_then(|digest| graph.find(digest)) {
            doomed.insert(node);
        }
    }
    doomed
}

/// Ends the leases that are dead, where nothing else is to be done.
pub(super) fn reap_dead(layout: &Layout, catalog: &Catalog) -> Result<()> {
    let files = LeaseFiles::probe(layout)?;
    catalog.write(|tx| reap(tx, layout, &files))?;
    Ok(files.remove_dead(layout)?)
}

/// Ends the leases that are dead.
fn reap(tx: &Writer, layout: &Layout, files: &LeaseFiles) -> Outcome<()> {
    for lease in tx.leases()? {
        // One that began after the probe has a file that the probe did not see: look again.
        if files.is_alive(&lease.id) || roots::is_alive_now(layout, &lease.id).map_err(caller)? {
            continue;
        }
        tx.end_lease(&lease.id)?;
    }
    Ok(())
}

/// Doomed blobs in an order in which each comes after what points at it, and after what was made
/// from it. What points at itself in a circle comes last of the documents.
fn order(graph: &ImageGraph, doomed: &NodeSet) -> Vec<NodeId> {
    let is_document = |node: NodeId| graph.links(node).len() > 0;
    let (documents, leaves): (Vec<NodeId>, Vec<NodeId>) =
        doomed.iter().partition(|node| is_document(*node));
    let onward = |node: NodeId| {
        let parent = graph.image(node).and_then(|image| image.parent());
        let targets = graph.links(node).map(|(target, _)| target);
        targets
            .chain(parent)
            .filter(|target| doomed.contains(*target) && is_document(*target))
            .collect::<Vec<_>>()
    };
    let mut waiting: HashMap<NodeId, usize> = HashMap::new();
    for node in &documents {
        for target in onward(*node) {
            *waiting.entry(target).or_default() += 1;
        }
    }
    let free = |node: &NodeId| !waiting.contains_key(node);
    let mut order: Vec<NodeId> = documents.into_iter().filter(free).collect();
    let mut place = 0;
    while place < order.len() {
        for target in onward(order[place]) {
            let Some(count) = waiting.get_mut(&target) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                waiting.remove(&target);
                order.push(target);
            }
        }
        place += 1;
    }
    let mut circular: Vec<NodeId> = waiting.into_keys().collect();
    circular.sort_unstable();
    order.extend(circular);
    order.extend(leaves);
    order
}

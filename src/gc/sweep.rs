//! Removing what is condemned, in batches.
//!
//! ```text
//! write transaction: what changed since? unlink what is *still* condemned     … a batch, again
//! write transaction: forget the rows of so many batches that are still condemned     … again
//!                    └─ meanwhile unlink what comes next, on a thread
//! ```
//! Who pinned a blob before its batch has it kept; who comes after finds it gone. Between the
//! unlink and the forgetting the row stays condemned, as after a crash: nobody relies on such a
//! row, and who makes the blob again takes the condemnation from it, so that it is not forgotten.
//!
//! While no other connection has written anything, nothing can have been rescued, and no row is
//! asked. As soon as one has, every row of the batches that follow is.
//!
//! Documents go before what they point at; within a rank files go by inode, which is how file
//! systems like it. Trees are large: the transaction only renames them to a tombstone, and they
//! are removed after it.
//!
//! **Other tools** know no catalog. Each batch reads `index.json` again, if it is not the one of the
//! last look, and takes in what it names: blobs that a new manifest points at are rescued, also
//! those that nobody has written again. It does that under `rstore/lock`, which whoever lets another
//! tool write holds for it (flock(1)): between that tool's look for a blob and its entry in
//! `index.json` nothing is removed. Without the lock a blob may go that the tool has seen and not
//! named yet; fsck finds such an image, and copying it again mends it.
//!
//! **A second look.** An edge, a pin or a tag that leads to a condemned blob came after the
//! condemnation, since rows that go are deleted with it: such a blob is rescued, not removed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::catalog::blob::{BlobId, BlobKind};
use crate::catalog::{Catalog, Millis, Reader, SqlResult, Version, WriteError, Writer, sync};
use crate::fsutil::{self, IoContext};
use crate::graph::{ImageGraph, NodeId};
use crate::layout::{self, Layout};
use crate::lock::FileLock;
use crate::oci::Digest;

use super::cache_mounts;
use super::condemn::{Outcome, caller, lift};
use super::debris::{self, CONTAINERS, DebrisKind, SNAPSHOTS, TOMBSTONE};
use super::disk::{self, Found, Tally};
use super::plan::{Item, ItemKind, Plan};
use super::report::{Failure, Progress, Report};
use super::roots::{self, LeaseFiles};
use super::{Error, Result};

/// How many blobs one transaction removes: some tens of milliseconds.
const BATCH: usize = 1_000;

/// How many rows one transaction forgets: at least so many, as long as there is more to unlink
/// meanwhile, and at most as many as take some hundred milliseconds. The index of digests has them
/// all over, so that a few thousand touch every page of a large one, and whatever is touched is
/// written.
const FORGET: usize = if cfg!(test) { 100 } else { 10_000 };
const FORGET_MOST: usize = 5 * FORGET;

type Ids = HashSet<BlobId, FixedState>;

/// A blob to be removed. There may be a million.
struct Doomed {
    id: BlobId,
    inode: u64,
    /// Which of the [`Names`] is its digest.
    name: u32,
    /// Units of 512 bytes that unlinking gives back.
    blocks: u32,
    rank: u8,
    kind: ItemKind,
}

impl Doomed {
    fn freed(&self) -> u64 {
        u64::from(self.blocks) * 512
    }
}

/// The digests of what is to be removed: the graph has most of them.
struct Names<'a> {
    graph: Option<&'a ImageGraph>,
    others: Vec<Digest>,
}

impl Names<'_> {
    fn of(&self, blob: &Doomed) -> Digest {
        let place = blob.name as usize;
        match self.graph {
            Some(graph) if place < graph.len() => graph.node(NodeId::at(place)).digest,
            Some(graph) => self.others[place - graph.len()],
            None => self.others[place],
        }
    }

    /// The numbers of blobs in the order of their digests.
    fn by_digest(&self, blobs: &mut [&Doomed]) -> Vec<BlobId> {
        blobs.sort_unstable_by_key(|blob| self.of(blob));
        blobs.iter().map(|blob| blob.id).collect()
    }

    /// The place of one that the graph has not, or not as it is.
    fn add(&mut self, digest: Digest) -> u32 {
        self.others.push(digest);
        let known = self.graph.map_or(0, ImageGraph::len);
        u32::try_from(known + self.others.len() - 1).unwrap_or(u32::MAX)
    }
}

/// What is known of the catalog besides the condemned.
struct Seen {
    /// The catalog, as this sweep has left it.
    version: Version,
    /// The newest edge.
    edge: i64,
    /// Whether anybody else has written since the condemned were read.
    disturbed: bool,
    /// Of the condemned, those that something leads to nevertheless.
    needed: Ids,
}

/// A sweep at work.
pub(super) struct Sweep<'a> {
    pub layout: &'a Layout,
    pub catalog: &'a Catalog,
    pub report: Report,
    pub progress: Progress,
    pub on_progress: &'a mut dyn FnMut(&Progress) -> bool,
    /// Manifests that are no images, so that they are counted as what they are.
    pub artifacts: HashSet<Digest, FixedState>,
    /// What the disk has already said of blobs, and the graph that tells which.
    pub found: Option<(&'a ImageGraph, disk::Doomed)>,
    pub now: Millis,
    /// The number of the journal's entry that is told of each batch.
    pub entry: Option<i64>,
    /// How long the work of that entry has taken so far, in milliseconds.
    pub took: &'a dyn Fn() -> Option<u64>,
    /// The bytes that it has been told of.
    pub noted: u64,
}

impl<'a> Sweep<'a> {
    /// Removes what is condemned, and the trees of a plan.
    pub fn planned(&mut self, graph: &ImageGraph, plan: &Plan) -> Result<()> {
        self.blobs()?;
        self.snapshots()?;
        self.trees(graph, plan, self.now)
    }

    /// Removes every blob that is condemned.
    pub fn blobs(&mut self) -> Result<()> {
        // Before the condemned are read: what changes after this is seen as a change.
        let version = self.catalog.version()?;
        let (mut doomed, names) = self.condemned()?;
        if doomed.is_empty() {
            return Ok(());
        }
        let mut seen = self.seen(&doomed, version)?;
        doomed.sort_unstable_by_key(|blob| (blob.rank, blob.inode));
        let mut gone: Vec<&Doomed> = Vec::new();
        let mut rest = doomed.as_slice();
        while !rest.is_empty() && self.go_on() {
            // The less is left to be unlinked, the less is left to be forgotten after it.
            let forgets = gone.len() >= rest.len().clamp(FORGET, FORGET_MOST);
            let forgotten = match forgets {
                true => names.by_digest(&mut gone),
                false => Vec::new(),
            };
            let lock = self.layout.lock_index()?;
            let removed = self.catalog.write(|tx| {
                seen.look_again(tx, self.layout, self.now)?;
                let removed = match (forgets, seen.disturbed) {
                    (false, _) => {
                        let batch = &rest[..rest.len().min(BATCH)];
                        remove_batch(tx, (self.layout, &names), batch, &seen)?
                    }
                    (true, false) => {
                        forget_beside(tx, (self.layout, &names), rest, &seen, forgotten)?
                    }
                    (true, true) => {
                        tx.forget_blobs(forgotten)?;
                        Vec::new()
                    }
                };
                let freed = freed(rest, &removed);
                if let Some(entry) = self.entry {
                    tx.note_progress(entry, freed, (self.took)())?;
                }
                seen.version = tx.version_after()?;
                Ok((removed, freed))
            })?;
            drop(lock);
            let (removed, freed) = removed;
            self.noted += freed;
            if forgets {
                gone.clear();
            }
            let (batch, left) = rest.split_at(removed.len());
            self.count(&names, batch, removed, &mut gone);
            rest = left;
        }
        let forgotten = names.by_digest(&mut gone);
        self.catalog.write(|tx| {
            seen.look_again(tx, self.layout, self.now)?;
            Ok::<_, WriteError<Error>>(tx.forget_blobs(forgotten)?)
        })
    }

    /// Removes every snapshot that is condemned.
    pub fn snapshots(&mut self) -> Result<()> {
        let rows = self.catalog.read(|tx| tx.snapshots())?;
        let directory = self.layout.private().join(SNAPSHOTS);
        for row in rows.into_iter().filter(|row| row.condemned.is_some()) {
            if !self.go_on() {
                return Ok(());
            }
            let tomb = self.catalog.write(|tx| {
                let still = tx.snapshots()?;
                let still = still.iter().find(|other| other.id == row.id);
                if still.is_none_or(|row| row.condemned.is_none()) {
                    return Ok::<_, WriteError<Error>>(None);
                }
                if tx.is_snapshot_leased(row.id)? {
                    tx.rescue_snapshot(row.id)?;
                    return Ok(None);
                }
                let tomb = entomb(&directory.join(&row.directory)).map_err(caller)?;
                tx.forget_snapshot(row.id)?;
                Ok(Some(tomb))
            })?;
            match tomb {
                Some(tomb) => self.tree(ItemKind::Snapshot, &row.directory, &tomb),
                None => self.report.rescued += 1,
            }
        }
        Ok(())
    }

    /// Removes the containers, cache mounts and temporary files that a plan lists, as far as they
    /// may still go.
    pub fn trees(&mut self, graph: &ImageGraph, plan: &Plan, now: Millis) -> Result<()> {
        let listed: HashSet<&str> = plan
            .items
            .iter()
            .filter(|item| matches!(item.kind, ItemKind::Temporary))
            .map(Item::id)
            .collect();
        let containers: Vec<&Item> = of_kind(plan, ItemKind::Container).collect();
        let mounts: Vec<&Item> = of_kind(plan, ItemKind::CacheMount).collect();
        if listed.is_empty() && containers.is_empty() && mounts.is_empty() {
            return Ok(());
        }
        // In this order: what is listed before leases are probed is judged rightly by them.
        let debris = debris::list(graph, self.layout)?;
        let roots = roots::collect(graph, &LeaseFiles::probe(self.layout)?);
        let (grace, root) = (plan.policy.grace, self.layout.root().to_path_buf());
        for item in containers {
            self.container(item.id())?;
        }
        for debris in debris {
            let name = debris.path.to_string_lossy();
            if !listed.contains(&*name) || !debris::may_go(&debris, &roots, grace, now) {
                continue;
            }
            match debris.kind {
                DebrisKind::Unrowed => self.unrowed(&root.join(&debris.path))?,
                // These went while the lock of index.json was held.
                DebrisKind::Sibling => {}
                _ => self.tree(ItemKind::Temporary, &name, &root.join(&debris.path)),
            }
        }
        for item in mounts {
            self.cache_mount(item)?;
        }
        Ok(())
    }

    /// Removes what an interrupted sweep had renamed.
    pub fn tombstones(&mut self) -> Result<()> {
        for path in debris::tombstones(self.layout)? {
            let name = path.to_string_lossy().into_owned();
            let path = self.layout.root().join(path);
            self.tree(ItemKind::Temporary, &name, &path);
        }
        Ok(())
    }

    /// Whether to go on: tells how far the work has come, and asks.
    pub fn go_on(&mut self) -> bool {
        if self.report.stopped || !(self.on_progress)(&self.progress) {
            self.report.stopped = true;
        }
        !self.report.stopped
    }

    fn container(&mut self, id: &str) -> Result<()> {
        if !self.go_on() {
            return Ok(());
        }
        let path = self.layout.private().join(CONTAINERS).join(id);
        let tomb = self.catalog.write(|tx| {
            let rows = tx.containers()?;
            let row = rows.iter().find(|row| row.id == id);
            let Some(row) = row else {
                return Ok::<_, WriteError<Error>>(None);
            };
            if roots::is_alive_now(self.layout, &row.lease).map_err(caller)? {
                return Ok(None);
            }
            let tomb = entomb(&path).map_err(caller)?;
            tx.forget_container(id)?;
            Ok(Some(tomb))
        })?;
        match tomb {
            Some(tomb) => self.tree(ItemKind::Container, id, &tomb),
            None => self.report.rescued += 1,
        }
        Ok(())
    }

    /// A cache mount, unless a step has it, or has had it since the plan was made.
    fn cache_mount(&mut self, item: &Item) -> Result<()> {
        if !self.go_on() {
            return Ok(());
        }
        let path = self.layout.root().join(item.id());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Held until the directory has another name: a step that comes meanwhile waits, and then
        // finds no row.
        let lock = cache_mounts::claim(self.layout, &name)?;
        let gone = lock.is_none() && !path.join(cache_mounts::LOCK).exists();
        if lock.is_none() && !gone {
            self.report.rescued += 1;
            return Ok(());
        }
        let tomb = self.catalog.write(|tx| {
            let row = tx.cache_mount_in(&name)?;
            let unused = |last_used| item.last_used().is_none_or(|planned| last_used <= planned);
            if row.is_some_and(|row| !unused(row.last_used)) {
                return Ok::<_, WriteError<Error>>(None);
            }
            let tomb = entomb(&path).map_err(caller)?;
            tx.forget_cache_mount(&name)?;
            Ok(Some(tomb))
        })?;
        drop(lock);
        match tomb {
            Some(tomb) => self.tree(ItemKind::CacheMount, item.id(), &tomb),
            None => self.report.rescued += 1,
        }
        Ok(())
    }

    /// A tree without a row: unless it has got one, it goes.
    fn unrowed(&mut self, path: &Path) -> Result<()> {
        if !self.go_on() {
            return Ok(());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let tomb = self.catalog.write(|tx| {
            let rowed = tx.snapshots()?.iter().any(|row| row.directory == name)
                || tx.containers()?.iter().any(|row| row.id == name)
                || tx.cache_mount_in(&name)?.is_some();
            if rowed {
                return Ok::<_, WriteError<Error>>(None);
            }
            entomb(path).map(Some).map_err(caller)
        })?;
        match tomb {
            Some(tomb) => self.tree(ItemKind::Temporary, &name, &tomb),
            None => self.report.rescued += 1,
        }
        Ok(())
    }

    /// Removes a file or a tree that nothing leads to any more, and counts it.
    fn tree(&mut self, kind: ItemKind, id: &str, path: &Path) {
        let removed = Tally::default()
            .take(path)
            .and_then(|freed| fsutil::remove_tree(path).map(|()| freed));
        match removed {
            Ok(freed) => self.done(kind, freed),
            Err(error) => self.report.failures.push(Failure {
                id: id.to_owned(),
                why: error.to_string(),
            }),
        }
    }

    fn done(&mut self, kind: ItemKind, freed: u64) {
        self.report.removed.count(kind, freed);
        self.progress.items += 1;
        self.progress.freed += freed;
    }

    /// Everything that is condemned, by number, with what the disk says of it; and their names.
    fn condemned(&mut self) -> Result<(Vec<Doomed>, Names<'a>)> {
        let found = self.found.take();
        let mut names = Names {
            graph: found.as_ref().map(|(graph, _)| *graph),
            others: Vec::new(),
        };
        // Both are in the order of the blobs' numbers.
        let known = found.iter().flat_map(|(graph, found)| {
            let number = |(node, found): (_, &Found)| (graph.node(node).blob, node, *found);
            found.iter().map(number)
        });
        let mut known = known.peekable();
        let mut doomed = Vec::new();
        let mut unknown = Vec::new();
        self.catalog.snapshot(|tx| {
            tx.each_condemned_blob(|id, digest, kind| {
                while known.next_if(|(other, ..)| *other < id).is_some() {}
                let known = known.next_if(|(other, ..)| *other == id);
                let name = match &known {
                    Some((_, node, _)) => u32::try_from(node.index()).unwrap_or(u32::MAX),
                    None => {
                        unknown.push(doomed.len());
                        names.add(digest)
                    }
                };
                let found = known.map(|(_, _, found)| found);
                doomed.push(Doomed {
                    id,
                    inode: found.map_or(0, |found| found.inode),
                    name,
                    blocks: found.map_or(0, |found| blocks(found.freed())),
                    rank: rank(kind),
                    kind: self.item_kind(kind, &digest),
                });
            })
        })?;
        for place in unknown {
            let blob: &mut Doomed = &mut doomed[place];
            let stat = self.layout.blobs().stat(&names.of(blob));
            let stat = stat.map_err(layout::Error::from)?;
            blob.inode = stat.map_or(0, |stat| stat.inode);
            blob.blocks = stat.as_ref().map_or(0, |stat| blocks(disk::freed(stat)));
        }
        Ok((doomed, names))
    }

    fn item_kind(&self, kind: BlobKind, digest: &Digest) -> ItemKind {
        match kind {
            BlobKind::Index => ItemKind::Index,
            BlobKind::Manifest if self.artifacts.contains(digest) => ItemKind::Artifact,
            BlobKind::Manifest => ItemKind::Image,
            BlobKind::Config => ItemKind::Config,
            BlobKind::Layer => ItemKind::Layer,
            BlobKind::Other | BlobKind::Unknown => ItemKind::Blob,
        }
    }

    /// What is known of the catalog besides the condemned, which are sorted by number.
    fn seen(&self, doomed: &[Doomed], version: Version) -> Result<Seen> {
        let mut needed = Ids::default();
        let ids: Vec<BlobId> = doomed.iter().map(|blob| blob.id).collect();
        let edge = self.catalog.snapshot(|tx| {
            let mut need = |id: BlobId| {
                if ids.binary_search(&id).is_ok() {
                    needed.insert(id);
                }
            };
            tx.each_edge_after(0, |edge| need(edge.target))?;
            others(tx, need)?;
            Ok(tx.high_water()?.edge)
        })?;
        Ok(Seen {
            version,
            edge,
            disturbed: false,
            needed,
        })
    }

    fn count<'d>(
        &mut self,
        names: &Names,
        batch: &'d [Doomed],
        outcomes: Vec<Removal>,
        gone: &mut Vec<&'d Doomed>,
    ) {
        for (blob, outcome) in batch.iter().zip(outcomes) {
            match outcome {
                Removal::Done => {
                    gone.push(blob);
                    self.done(blob.kind, blob.freed());
                }
                Removal::Rescued => self.report.rescued += 1,
                Removal::Failed(why) => self.report.failures.push(Failure {
                    id: names.of(blob).to_string(),
                    why,
                }),
            }
        }
    }
}

impl Seen {
    /// Takes in what others have done since the last look: in the catalog, and to `index.json`.
    fn look_again(&mut self, tx: &Writer, layout: &Layout, now: Millis) -> Outcome<()> {
        let version = tx.version()?;
        let index_changed = sync::refresh_index(tx, layout, now).map_err(lift)?;
        if version == self.version && !index_changed {
            return Ok(());
        }
        self.disturbed = true;
        let needed = &mut self.needed;
        tx.each_edge_after(self.edge, |edge| {
            needed.insert(edge.target);
        })?;
        self.edge = tx.high_water()?.edge;
        others(tx, |id| {
            needed.insert(id);
        })?;
        Ok(())
    }
}

/// What pins, leases and tags point at.
fn others(tx: &Reader, mut need: impl FnMut(BlobId)) -> SqlResult<()> {
    let leased = tx.lease_pins_after(0)?.into_iter();
    leased.filter_map(|pin| pin.blob).for_each(&mut need);
    tx.pins_after(0)?.into_iter().for_each(&mut need);
    let entries = tx.index_entries()?;
    let tags = entries.iter().filter(|entry| entry.name.is_some());
    tags.for_each(|entry| need(entry.blob));
    Ok(())
}

/// What became of one blob.
enum Removal {
    Done,
    Rescued,
    Failed(String),
}

fn remove_batch(
    tx: &Writer,
    (layout, names): (&Layout, &Names),
    batch: &[Doomed],
    seen: &Seen,
) -> Outcome<Vec<Removal>> {
    let mut outcomes = Vec::with_capacity(batch.len());
    for blob in batch {
        outcomes.push(if seen.disturbed && !tx.is_condemned(blob.id)? {
            Removal::Rescued
        } else if seen.needed.contains(&blob.id) {
            tx.rescue_blob(blob.id)?;
            Removal::Rescued
        } else {
            unlink(layout, &names.of(blob))
        });
    }
    Ok(outcomes)
}

fn unlink(layout: &Layout, digest: &Digest) -> Removal {
    match layout.blobs().remove(digest) {
        Ok(_) => Removal::Done,
        // It stays condemned, and the next prune tries again.
        Err(error) => Removal::Failed(error.to_string()),
    }
}

/// Forgets the rows of `gone`, and for as long as that takes removes what comes next, none of which
/// can have been rescued. Returns what became of the first of `rest`.
fn forget_beside(
    tx: &Writer,
    (layout, names): (&Layout, &Names),
    rest: &[Doomed],
    seen: &Seen,
    gone: Vec<BlobId>,
) -> Outcome<Vec<Removal>> {
    let forgotten = AtomicBool::new(false);
    let unlinking = || {
        let free = |blob: &&Doomed| !seen.needed.contains(&blob.id);
        let batch = rest.iter().take_while(free);
        let batch = batch.take_while(|_| !forgotten.load(Ordering::Relaxed));
        batch.map(|blob| unlink(layout, &names.of(blob))).collect()
    };
    let outcomes = std::thread::scope(|scope| {
        // Where there may be no more threads, nothing is unlinked meanwhile.
        let thread = std::thread::Builder::new().spawn_scoped(scope, unlinking);
        let done = tx.forget_blobs(gone);
        forgotten.store(true, Ordering::Relaxed);
        // What was removed has its row still, whatever comes of this.
        let outcomes = thread.ok().and_then(|thread| thread.join().ok());
        done.map(|()| outcomes.unwrap_or_default())
    });
    Ok(outcomes?)
}

fn blocks(bytes: u64) -> u32 {
    u32::try_from(bytes / 512).unwrap_or(u32::MAX)
}

/// The bytes that a batch has given back.
fn freed(batch: &[Doomed], outcomes: &[Removal]) -> u64 {
    let blobs = batch.iter().zip(outcomes);
    let done = blobs.filter(|(_, outcome)| matches!(outcome, Removal::Done));
    done.map(|(blob, _)| blob.freed()).sum()
}

/// Documents before what they point at.
fn rank(kind: BlobKind) -> u8 {
    match kind {
        BlobKind::Index => 0,
        BlobKind::Manifest => 1,
        BlobKind::Other => 2,
        BlobKind::Config => 3,
        BlobKind::Layer | BlobKind::Unknown => 4,
    }
}

fn of_kind(plan: &Plan, kind: ItemKind) -> impl Iterator<Item = &Item> {
    plan.items.iter().filter(move |item| item.kind == kind)
}

/// Renames a tree to its tombstone's name. Returns where it is now; that there is none is no
/// error, since a crash may have come in between.
fn entomb(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let tomb = path.with_file_name(format!("{TOMBSTONE}{name}"));
    match std::fs::rename(path, &tomb) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            // One of an earlier crash stands there.
            fsutil::remove_tree(&tomb)?;
            std::fs::rename(path, &tomb).at("rename", path)?;
        }
        Err(error) => return Err(fsutil::Error::new("rename", path, error).into()),
    }
    Ok(tomb)
}

/// Removes the temporary siblings of index.json that a plan lists. The lock is the proof that
/// nobody is writing them.
pub(super) fn siblings(
    layout: &Layout,
    plan: &Plan,
    _lock: &FileLock,
    report: &mut Report,
) -> Result<()> {
    for item in of_kind(plan, ItemKind::Temporary) {
        let path = Path::new(item.id());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if debris::is_sibling(&name) && fsutil::remove_file(&layout.root().join(path))? {
            report.removed.count(ItemKind::Temporary, item.freed);
        }
    }
    Ok(())
}

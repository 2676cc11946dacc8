//! How much of what may go does go: the least recently used first, until there is room enough.
//!
//! ```text
//! all that may go ─▶ units, and which keeps which ─▶ the oldest that nothing keeps, and with it
//!                    what then nothing holds, again and again until there is room
//! ```
//! **What keeps what**, if it stays: a document what it points at; an image its signatures, and a
//! signature its image (the two are one unit); an image what it was made from and copied from; a
//! container its image. So children go before their parents, and what is left is closed at every
//! stage: it is as if the rest had never been asked for.
//!
//! **Order.** Things that nobody can use any more (debris, blobs that nothing holds, snapshots of
//! no image) go first. Then by last use; of what was last used at the same time, what came last.
//! A step is a document with the blobs and snapshots that nothing else holds: the last step is the
//! one that makes room enough. What a ceiling or floor asks for is thus overshot by less than that
//! step, and nothing goes that was used after something else that might have gone.
//!
//! A rule or a root more never makes *more* go than may, but here it may make something else go: the
//! same room is to be made.
//!
//! **The reserved floor.** A step that would go below it is passed over, with all that it keeps.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;

use crate::catalog::Millis;
use crate::fsutil;
use crate::graph::{ImageGraph, NodeId, NodeSet};
use crate::layout::Layout;
use crate::oci::Digest;
use crate::oci::document::Role;

use super::kept::Holder;
use super::plan::{Item, ItemKind, Plan, Reason};
use super::policy::{Policy, Space};
use super::{Result, disk, select};

/// How much was to go, and how much does. All in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Target {
    /// What the store takes, as `df` says.
    pub used: u64,
    /// What is free on the file system.
    pub free: u64,
    /// The ceiling of what the store may take.
    pub max_used: Option<u64>,
    /// The floor of what it may always take.
    pub reserved: Option<u64>,
    /// The floor of what is to be free.
    pub min_free: Option<u64>,
    /// What has to go for the ceiling and the floor of free space.
    pub wanted: u64,
    /// What goes.
    pub freed: u64,
    /// What is missing.
    pub short: u64,
    /// Whether it is the reserved space that is in the way.
    pub reserved_is_in_the_way: bool,
    /// Where something is missing: the roots that hold most of what stays.
    pub held_by: Vec<Holder>,
}

impl Target {
    /// Whether all went that had to.
    pub fn is_met(&self) -> bool {
        self.short == 0
    }

    /// What a store of this size, on a file system with this much room, is to give up.
    pub fn of(space: &Space, used: u64, file_system: disk::FileSystem) -> Target {
        let bytes = |room: super::policy::Room| room.bytes(file_system.size);
        let (max_used, min_free) = (space.max_used.map(bytes), space.min_free.map(bytes));
        let reserved = space.reserved.map(bytes);
        let above = max_used.map_or(0, |most| used.saturating_sub(most));
        let below = min_free.map_or(0, |least| least.saturating_sub(file_system.available));
        let wanted = match (max_used, min_free) {
            (None, None) => used.saturating_sub(reserved.unwrap_or(0)),
            _ => above.max(below),
        };
        Target {
            used,
            free: file_system.available,
            max_used,
            reserved,
            min_free,
            wanted,
            ..Target::default()
        }
    }

    /// What may go before the reserved space is reached.
    fn allowed(&self) -> u64 {
        let reserved = self.reserved.unwrap_or(0);
        self.used.saturating_sub(reserved)
    }

    /// Whether there is anything that has to be reached; the reserved space alone is only a limit.
    fn is_asked(&self) -> bool {
        self.max_used.is_some() || self.min_free.is_some()
    }
}

/// Leaves in a plan only what has to go for its policy's sake. Returns the blobs that might have
/// gone as well.
pub(super) fn apply(layout: &Layout, graph: &ImageGraph, plan: &mut Plan) -> Result<NodeSet> {
    let mut left = NodeSet::of(graph);
    let space = plan.policy.space;
    if space.is_unlimited() {
        return Ok(left);
    }
    let used = fsutil::allocated_tree(layout.root())?;
    let file_system = disk::FileSystem::of(layout.root())?;
    let mut target = Target::of(&space, used, file_system);
    let taken = choose(graph, plan, &mut target);
    for (item, taken) in plan.items.iter().zip(&taken) {
        if let (false, Some(node)) = (taken, node_of(graph, item)) {
            left.insert(node);
        }
    }
    plan.retain(|place| taken[place]);
    let goes = |digest: &Digest| plan.items.iter().any(|item| item.digest == Some(*digest));
    let mut untag = std::mem::take(&mut plan.untag);
    if untag.len() > 16 {
        let digests = plan.items.iter().filter_map(|item| item.digest);
        let digests: hashbrown::HashSet<Digest> = digests.collect();
        untag.retain(|tag| digests.contains(&tag.digest));
    } else {
        untag.retain(|tag| goes(&tag.digest));
    }
    plan.untag = untag;
    target.freed = plan.totals.freed;
    if target.is_asked() {
        target.short = target.wanted.saturating_sub(target.freed);
    }
    plan.target = Some(target);
    Ok(left)
}

/// Of each item, whether it goes.
pub(super) fn choose(graph: &ImageGraph, plan: &Plan, target: &mut Target) -> Vec<bool> {
    let mut order = Order::of(graph, plan);
    order.unfinished();
    while order.freed < target.wanted {
        let Some(unit) = order.next() else { break };
        let more = order.freed.saturating_add(order.cost(unit));
        if more > target.allowed() {
            target.reserved_is_in_the_way = true;
            continue;
        }
        order.take(unit);
    }
    if order.freed < target.wanted && !target.reserved_is_in_the_way {
        order.circles(target.allowed());
    }
    (0..plan.items.len())
        .map(|place| order.taken[order.unit[place] as usize])
        .collect()
}

/// The blob of an item, if it is one.
fn node_of(graph: &ImageGraph, item: &Item) -> Option<NodeId> {
    match item.kind {
        ItemKind::Snapshot
        | ItemKind::CacheRecord
        | ItemKind::CacheMount
        | ItemKind::Container
        | ItemKind::Temporary => None,
        _ => graph.find(item.digest.as_ref()?),
    }
}

/// When a unit's turn comes: the smallest first.
type Turn = (bool, Millis, Reverse<u32>);

/// Units on their way out. A unit is an item, or several of which none can go alone; it is named
/// by the first of them.
struct Order<'a> {
    items: &'a [Item],
    /// Of each item, its unit.
    unit: Vec<u32>,
    /// The items of units that have several.
    several: HashMap<u32, Vec<u32>>,
    /// Which unit keeps which: sorted, each once.
    keeps: Vec<(u32, u32)>,
    /// How many keep a unit, that have not gone.
    waiting: Vec<u32>,
    /// Whether it goes as soon as nothing keeps it, with what kept it last.
    follows: Vec<bool>,
    taken: Vec<bool>,
    ready: BinaryHeap<Reverse<(Turn, u32)>>,
    turns: Vec<Turn>,
    freed: u64,
}

impl<'a> Order<'a> {
    fn of(graph: &ImageGraph, plan: &'a Plan) -> Order<'a> {
        let items = plan.items.as_slice();
        let keeping = Keeping::of(graph, &plan.policy, items);
        let unit = keeping.units();
        let mut keeps: Vec<(u32, u32)> = keeping
            .links
            .iter()
            .map(|(from, to)| (unit[*from as usize], unit[*to as usize]))
            .filter(|(from, to)| from != to)
            .collect();
        keeps.sort_unstable();
        keeps.dedup();
        let mut waiting = vec![0; items.len()];
        let mut keeper = vec![false; items.len()];
        for (from, to) in &keeps {
            keeper[*from as usize] = true;
            waiting[*to as usize] += 1;
        }
        let mut several: HashMap<u32, Vec<u32>> = HashMap::new();
        for (place, unit) in unit.iter().enumerate() {
            if *unit as usize != place {
                let place = u32::try_from(place).unwrap_or(u32::MAX);
                several
                    .entry(*unit)
                    .or_insert_with(|| vec![*unit])
                    .push(place);
            }
        }
        let is_content = |item: &Item| {
            use ItemKind::{Blob, Config, Layer, Snapshot};
            matches!(item.kind, Config | Layer | Blob | Snapshot)
        };
        let follows = (0..items.len())
            .map(|place| waiting[place] > 0 && !keeper[place] && is_content(&items[place]))
            .collect();
        let mut order = Order {
            items,
            several,
            keeps,
            waiting,
            follows,
            taken: vec![false; items.len()],
            ready: BinaryHeap::new(),
            turns: Vec::new(),
            freed: 0,
            unit,
        };
        order.turns = (0..items.len())
            .map(|place| order.turn(graph, place))
            .collect();
        for place in 0..items.len() {
            if order.unit[place] as usize == place && order.waiting[place] == 0 {
                order.is_ready(place);
            }
        }
        order
    }

    fn turn(&self, graph: &ImageGraph, place: usize) -> Turn {
        let of_use = |item: &Item| {
            use Reason::{DeadBuild, NoImage, Stray, Unfinished, Unreferenced};
            let worthless = [DeadBuild, NoImage, Stray, Unfinished, Unreferenced];
            !worthless.contains(&item.reason)
        };
        let used = |item: &Item| match node_of(graph, item) {
            Some(node) => select::last_used(graph, node),
            None => item.last_used().unwrap_or(Millis::MIN),
        };
        let members = self.members(place).map(|member| &self.items[member]);
        let latest = members.clone().map(used).max().unwrap_or(Millis::MIN);
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        (members.into_iter().any(of_use), latest, Reverse(place))
    }

    fn members(&self, unit: usize) -> impl Iterator<Item = usize> + Clone + '_ {
        let key = u32::try_from(unit).unwrap_or(u32::MAX);
        let several = self.several.get(&key).map_or(&[][..], Vec::as_slice);
        let alone = several.is_empty().then_some(unit);
        several.iter().map(|place| *place as usize).chain(alone)
    }

    fn kept_by(&self, unit: usize) -> impl Iterator<Item = usize> + '_ {
        let start = self
            .keeps
            .partition_point(|(from, _)| (*from as usize) < unit);
        let own = self.keeps[start..].iter();
        own.take_while(move |(from, _)| *from as usize == unit)
            .map(|(_, to)| *to as usize)
    }

    fn is_ready(&mut self, unit: usize) {
        // Going frees nothing, and so it is not for the sake of space that it goes.
        let item = &self.items[unit];
        if item.kind == ItemKind::CacheRecord && item.reason == Reason::Derived {
            return;
        }
        let name = u32::try_from(unit).unwrap_or(u32::MAX);
        self.ready.push(Reverse((self.turns[unit], name)));
    }

    /// The next in turn.
    fn next(&mut self) -> Option<usize> {
        loop {
            let Reverse((_, unit)) = self.ready.pop()?;
            if !self.taken[unit as usize] {
                return Some(unit as usize);
            }
        }
    }

    fn own(&self, unit: usize) -> u64 {
        self.members(unit)
            .map(|place| self.items[place].freed)
            .sum()
    }

    /// What comes back when a unit goes, with what then goes with it.
    fn cost(&self, unit: usize) -> u64 {
        let with = self.kept_by(unit);
        let with = with.filter(|kept| self.waiting[*kept] == 1 && self.follows[*kept]);
        self.own(unit) + with.map(|kept| self.own(kept)).sum::<u64>()
    }

    fn take(&mut self, unit: usize) {
        self.taken[unit] = true;
        self.freed += self.own(unit);
        let kept: Vec<usize> = self.kept_by(unit).collect();
        for kept in kept {
            self.waiting[kept] -= 1;
            if self.waiting[kept] > 0 || self.taken[kept] {
                continue;
            }
            if self.follows[kept] {
                self.taken[kept] = true;
                self.freed += self.own(kept);
            } else {
                self.is_ready(kept);
            }
        }
    }

    /// What an interrupted prune left goes in any case: it is condemned already.
    fn unfinished(&mut self) {
        for place in 0..self.items.len() {
            let unit = self.unit[place] as usize;
            if self.items[place].reason == Reason::Unfinished && !self.taken[unit] {
                self.take(unit);
            }
        }
    }

    /// Documents that keep one another in a circle, and what they keep: all at once.
    fn circles(&mut self, allowed: u64) {
        let rest: Vec<usize> = (0..self.items.len())
            .filter(|place| self.unit[*place] as usize == *place)
            .filter(|unit| !self.taken[*unit] && self.waiting[*unit] > 0)
            .collect();
        let bytes: u64 = rest.iter().map(|unit| self.own(*unit)).sum();
        if self.freed.saturating_add(bytes) <= allowed {
            rest.iter().for_each(|unit| self.taken[*unit] = true);
            self.freed += bytes;
        }
    }
}

/// Which item keeps which, by their places.
struct Keeping {
    links: Vec<(u32, u32)>,
    /// Pairs of which neither goes without the other.
    together: Vec<(u32, u32)>,
    count: usize,
}

impl Keeping {
    fn of(graph: &ImageGraph, policy: &Policy, items: &[Item]) -> Keeping {
        let mut places: HashMap<NodeId, u32> = HashMap::with_capacity(items.len());
        for (place, item) in (0..).zip(items) {
            places.extend(node_of(graph, item).map(|node| (node, place)));
        }
        let mut keeping = Keeping {
            links: Vec::new(),
            together: Vec::new(),
            count: items.len(),
        };
        for (node, place) in &places {
            for (target, role) in graph.links(*node) {
                let Some(target) = places.get(&target) else {
                    continue;
                };
                match role {
                    Role::Subject => keeping.together.push((*place, *target)),
                    _ => keeping.links.push((*place, *target)),
                }
            }
            keeping.lineage(graph, policy, &places, *node, *place);
        }
        keeping.snapshots(graph, items, &places);
        keeping.containers(graph, items, &places);
        keeping
    }

    /// What an image was made from, unless that may go beside an image that has a tag.
    fn lineage(
        &mut self,
        graph: &ImageGraph,
        policy: &Policy,
        places: &HashMap<NodeId, u32>,
        node: NodeId,
        place: u32,
    ) {
        let Some(image) = graph.image(node) else {
            return;
        };
        let tagged = image.names().next().is_some();
        let parent = image
            .parent()
            .filter(|_| !(tagged && policy.scope.intermediates));
        let stages = image.stages().filter(|_| !policy.scope.stages);
        let sources = parent.into_iter().chain(stages);
        let kept = sources.filter_map(|source| places.get(&source));
        self.links.extend(kept.map(|kept| (place, *kept)));
    }

    /// Snapshots that are only asked for because no image has them any more.
    fn snapshots(&mut self, graph: &ImageGraph, items: &[Item], places: &HashMap<NodeId, u32>) {
        let mut chains: HashMap<Digest, Vec<u32>> = HashMap::new();
        for (place, item) in (0..).zip(items) {
            if let (ItemKind::Snapshot, Reason::NoImage, Some(chain)) =
                (item.kind, item.reason, item.digest)
            {
                chains.entry(chain).or_default().push(place);
            }
        }
        if chains.is_empty() {
            return;
        }
        for (node, place) in places {
            let Some(image) = graph.image(*node) else {
                continue;
            };
            for chain in graph.chain_ids(image) {
                let snapshots = chains.get(&chain).into_iter().flatten();
                self.links.extend(snapshots.map(|kept| (*place, *kept)));
            }
        }
    }

    fn containers(&mut self, graph: &ImageGraph, items: &[Item], places: &HashMap<NodeId, u32>) {
        for (place, item) in (0..).zip(items) {
            if item.kind != ItemKind::Container {
                continue;
            }
            let row = graph.containers().iter().find(|row| row.id == item.id());
            let image = row.and_then(|row| graph.find_blob(row.image?));
            let image = image.and_then(|node| places.get(&node));
            self.links.extend(image.map(|image| (place, *image)));
        }
    }

    /// Of each item, the first of those with which it goes together.
    fn units(&self) -> Vec<u32> {
        let mut unit: Vec<u32> = (0..).take(self.count).collect();
        fn first(unit: &mut [u32], mut place: u32) -> u32 {
            while unit[place as usize] != place {
                unit[place as usize] = unit[unit[place as usize] as usize];
                place = unit[place as usize];
            }
            place
        }
        for (one, other) in &self.together {
            let (one, other) = (first(&mut unit, *one), first(&mut unit, *other));
            let (low, high) = (one.min(other), one.max(other));
            unit[high as usize] = low;
        }
        (0..)
            .take(self.count)
            .map(|place| first(&mut unit, place))
            .collect()
    }
}

//! Making the plan out of what was selected, marked and asked of the disk.
//!
//! ```text
//! list debris ▶ probe leases ▶ classify ▶ select ▶ mark ▶ stat what is not marked
//!                                   ▲                         │ young, and another tool's?
//!                                   └──── spare it, again ◀───┘
//! ```
//! The second round can only take away from what goes, so one is enough.

use std::ffi::OsString;
use std::path::Path;

use hashbrown::{HashMap, HashSet};

use crate::catalog::Millis;
use crate::catalog::blob::BlobKind;
use crate::graph::{Classes, ImageGraph, Node, NodeId, NodeSet, RootKind, RootSet, State};
use crate::layout::Layout;
use crate::oci::Digest;

use super::Result;
use super::cache_mounts;
use super::debris::{self, CONTAINERS, Debris, SNAPSHOTS};
use super::disk::{BlobFacts, Doomed, Found, Survey, Tally};
use super::mark::{Reachable, mark};
use super::plan::{Item, ItemKind, Plan, Reason, Untag};
use super::policy::{Filter, Policy, Thing};
use super::roots::{self, LeaseFiles};
use super::select::{self, Limits, Selection};
use super::{kept, target};

/// What is asked for besides the policy.
#[derive(Default)]
pub(super) struct Request<'a> {
    /// What goes must pass it.
    pub filter: Option<&'a dyn Filter>,
    /// Whether it is to be told for what images stay.
    pub explain: bool,
    /// Tags that go.
    pub untag: Vec<String>,
    /// Nothing but these blobs may go, and no debris.
    pub only: Option<NodeSet>,
    /// Documents that were asked for by name.
    pub named: Vec<NodeId>,
    /// Nothing but what this plan lists may go.
    pub saved: Option<&'a Plan>,
    /// Names in `blobs/` that are no digests, where that is known.
    pub strays: Option<&'a [OsString]>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What the disk says of all blobs, where that is known already: then totals are asked for,
    /// and no items of blobs.
    pub survey: Option<&'a Survey>,
}

/// All that a plan is made of.
struct Ground<'a> {
    graph: &'a ImageGraph,
    layout: &'a Layout,
    policy: &'a Policy,
    request: Request<'a>,
    debris: Vec<Debris>,
    /// What the saved plan lists.
    saved: Option<HashSet<(ItemKind, String)>>,
    now: Millis,
}

/// What goes, and why it may.
struct Verdict {
    classes: Classes,
    selection: Selection,
    reachable: Reachable,
    doomed: NodeSet,
    found: Doomed,
}

/// Plans.
pub(super) fn assemble(
    layout: &Layout,
    graph: &ImageGraph,
    policy: &Policy,
    request: Request,
    now: Millis,
) -> Result<Plan> {
    Ok(plan_and_doomed(layout, graph, policy, request, now)?.0)
}

/// Plans, and says which blobs go.
pub(super) fn plan_and_doomed(
    layout: &Layout,
    graph: &ImageGraph,
    policy: &Policy,
    request: Request,
    now: Millis,
) -> Result<(Plan, NodeSet)> {
    let ground = Ground {
        // Listed before leases are probed: see `roots`.
        debris: match (request.survey, request.strays) {
            (Some(survey), _) => debris::list_with(graph, layout, &survey.strays)?,
            (None, Some(strays)) => debris::list_with(graph, layout, strays)?,
            (None, None) => debris::list(graph, layout)?,
        },
        saved: request.saved.map(|saved| {
            let items = saved.items.iter();
            items.map(|item| (item.kind, item.label())).collect()
        }),
        graph,
        layout,
        policy,
        request,
        now,
    };
    let mut roots = roots::collect(graph, &LeaseFiles::probe(layout)?);
    roots.ignored.extend(&policy.ignore_broken);
    let mut plan = Plan::nothing(policy, now);
    plan.high_water = graph.high_water();
    plan.notes = ground.request.notes.clone();
    if !roots.unknown.is_empty() {
        // What was named loses its name all the same: no byte goes by that.
        let named = !ground.request.named.is_empty();
        if named {
            ground.fill_tags(&mut plan);
        }
        plan.notes.push(format!(
            "{}: a writer (lease {}) is older than the catalog, and what it uses is not known; try again when it has ended",
            if named { "nothing but names goes" } else { "nothing is removed" },
            roots.unknown.join(", ")
        ));
        plan.is_transient = true;
        return Ok((plan, NodeSet::of(graph)));
    }
    roots = roots.without_tags(&ground.request.untag);
    ground.keep_containers(&mut roots);
    let verdict = ground.judge(roots, &mut plan)?;
    ground.fill(&verdict, &mut plan)?;
    let mut going = verdict.doomed.clone();
    let mut left = NodeSet::of(graph);
    // A saved plan has met its target already.
    if ground.request.saved.is_none() {
        left = target::apply(layout, graph, &mut plan)?;
        for node in left.iter() {
            going.remove(node);
        }
    }
    let roots = verdict.reachable.roots();
    let unmet = plan.target.as_ref().is_some_and(|target| !target.is_met());
    if ground.request.explain || unmet {
        plan.kept = kept::count(graph, &verdict.classes, roots, &going, &left);
    }
    if let Some(target) = plan.target.as_mut().filter(|target| !target.is_met()) {
        target.held_by = kept::largest(graph, roots, 5);
    }
    plan.found = verdict.found;
    Ok((plan, going))
}

impl Ground<'_> {
    /// Whether everything may go that is garbage, or only what was named.
    fn is_general(&self) -> bool {
        self.request.only.is_none() && self.policy.scope.takes_images()
    }

    fn saved_has(&self, kind: ItemKind, label: &str) -> bool {
        let Some(saved) = &self.saved else {
            return true;
        };
        saved.contains(&(kind, label.to_owned()))
    }

    /// Whether something that is no blob passes the filter.
    fn passes(&self, kind: ItemKind, id: &str, seen: Option<Millis>, used: Option<Millis>) -> bool {
        self.request.filter.is_none_or(|filter| {
            filter.passes(&Thing {
                kind,
                id,
                names: Vec::new(),
                image: None,
                state: None,
                first_seen: seen,
                last_used: used,
            })
        })
    }

    /// Containers that failed steps left, and that stay, keep what they stand on.
    fn keep_containers(&self, roots: &mut RootSet) {
        // Those that died while they ran are debris, and keep nothing.
        let left = self
            .graph
            .containers()
            .iter()
            .filter(|c| c.status.is_some());
        for container in left {
            let image = container.image.and_then(|blob| self.graph.find_blob(blob));
            let goes = self.container_reason(container, roots).is_some();
            if let (Some(node), false) = (image, goes) {
                let id = container.id.clone();
                roots.add(node, RootKind::Container { id });
            }
        }
    }

    fn container_reason(
        &self,
        container: &crate::catalog::builds::ContainerRow,
        roots: &RootSet,
    ) -> Option<Reason> {
        if roots.live.contains(&container.lease)
            || !self.saved_has(ItemKind::Container, &container.id)
        {
            return None;
        }
        let restricted = self.request.only.is_some() && self.request.saved.is_none();
        if restricted {
            return None;
        }
        let late = self
            .policy
            .until
            .is_some_and(|until| container.created >= until);
        let created = Some(container.created);
        if !self.passes(ItemKind::Container, &container.id, created, created) {
            return None;
        }
        match container.status {
            None if self.is_general() || self.request.saved.is_some() => Some(Reason::DeadBuild),
            Some(_) if self.policy.scope.containers && !late => Some(Reason::FailedStep),
            _ => None,
        }
    }

    /// Says what goes.
    fn judge(&self, mut roots: RootSet, plan: &mut Plan) -> Result<Verdict> {
        let mut limits = Limits {
            only: self.request.only.clone(),
            named: self.request.named.clone(),
            spared: Vec::new(),
            filter: self.request.filter,
        };
        let mut verdict = self.judge_once(&roots, &limits)?;
        let facts = match self.request.survey {
            Some(survey) => survey.facts.among(&verdict.doomed),
            None => BlobFacts::survey(self.graph, self.layout, &verdict.doomed)?,
        };
        let since = self.now.saturating_sub(self.policy.grace);
        let young: Vec<(NodeId, Millis)> = facts.young(self.graph, since).collect();
        verdict.found = facts.into();
        if young.is_empty() || self.policy.grace <= 0 {
            return Ok(verdict);
        }
        plan.notes.push(format!(
            "{} blobs that another tool wrote a short while ago are left alone (--grace)",
            young.len()
        ));
        for (node, modified) in young {
            let until = modified.saturating_add(self.policy.grace);
            plan.is_due(until);
            roots.add(node, RootKind::Grace { until });
            limits.spared.push(node);
        }
        let again = self.judge_once(&roots, &limits)?;
        Ok(Verdict {
            found: verdict.found,
            ..again
        })
    }

    fn judge_once(&self, roots: &RootSet, limits: &Limits) -> Result<Verdict> {
        let classes = Classes::of(self.graph, roots);
        let mut selection = select::select(self.graph, &classes, self.policy, limits);
        // A young document need not be readable yet, nor whole: it is kept, not relied upon.
        let mut vital = roots.clone();
        vital
            .roots
            .retain(|root| !matches!(root.kind, RootKind::Grace { .. }));
        let reachable = mark(self.graph, &vital, &selection.stay)?;
        let reachable = reachable.with_roots(roots.clone());
        let mut doomed = NodeSet::of(self.graph);
        if self.policy.scope.takes_images() || self.request.only.is_some() {
            for node in self.graph.nodes().filter(|node| node.present) {
                let allowed = limits.only.as_ref();
                if !reachable.contains(node.node)
                    && allowed.is_none_or(|only| only.contains(node.node))
                {
                    doomed.insert(node.node);
                }
            }
        }
        // What something that stays points at (a signature at its subject) stays too.
        for node in selection.go.clone().iter() {
            if !doomed.contains(node) {
                selection.go.remove(node);
            }
        }
        Ok(Verdict {
            classes,
            selection,
            reachable,
            doomed,
            found: Doomed::default(),
        })
    }

    fn fill_tags(&self, plan: &mut Plan) {
        for (name, node) in self.graph.tags() {
            if self.request.untag.contains(name) {
                plan.untag.push(Untag {
                    name: name.clone(),
                    digest: self.graph.node(*node).digest,
                });
            }
        }
    }

    fn fill(&self, verdict: &Verdict, plan: &mut Plan) -> Result<()> {
        self.fill_tags(plan);
        self.fill_blobs(verdict, plan);
        let mut tally = Tally::default();
        self.fill_snapshots(verdict, &mut tally, plan)?;
        self.fill_containers(verdict.reachable.roots(), &mut tally, plan)?;
        self.fill_cache(verdict, plan)?;
        self.fill_cache_mounts(&mut tally, plan)?;
        self.fill_debris(verdict.reachable.roots(), &mut tally, plan)
    }

    // -- blobs --------------------------------------------------------------------------------

    fn fill_blobs(&self, verdict: &Verdict, plan: &mut Plan) {
        if self.request.survey.is_some() {
            for (node, found) in verdict.found.iter() {
                if verdict.doomed.contains(node) {
                    let kind = self.blob_kind(self.graph.node(node));
                    plan.totals.count(kind, found.freed());
                }
            }
            return;
        }
        let mut left = verdict.doomed.clone();
        plan.items.reserve_exact(verdict.found.iter().len());
        let is_index = |node: &NodeId| self.graph.node(*node).kind == BlobKind::Index;
        for node in verdict.doomed.iter().filter(is_index) {
            left.remove(node);
            plan.push(self.blob_item(verdict, node));
        }
        for node in self.images_in_order(&verdict.doomed) {
            self.fill_group(verdict, node, &mut left, plan);
        }
        let is_manifest = |node: &NodeId| self.graph.node(*node).kind == BlobKind::Manifest;
        let artifacts: Vec<NodeId> = left.iter().filter(is_manifest).collect();
        for node in artifacts {
            self.fill_group(verdict, node, &mut left, plan);
        }
        for node in left.iter() {
            plan.push(self.blob_item(verdict, node));
        }
    }

    /// A manifest, and what goes with it and did not go with one before it.
    fn fill_group(&self, verdict: &Verdict, node: NodeId, left: &mut NodeSet, plan: &mut Plan) {
        left.remove(node);
        let place = plan.push(self.blob_item(verdict, node));
        for (target, role) in self.graph.links(node) {
            let document = role == crate::oci::document::Role::Subject;
            if document || !left.contains(target) || self.graph.image(target).is_some() {
                continue;
            }
            left.remove(target);
            let mut item = self.blob_item(verdict, target);
            item.reason = match item.reason {
                Reason::Unreferenced => Reason::OnlyThere,
                other => other,
            };
            item.set_with(u32::try_from(place).ok());
            plan.push(item);
        }
    }

    fn blob_item(&self, verdict: &Verdict, node: NodeId) -> Item {
        let blob = self.graph.node(node);
        let found = verdict.found.get(node);
        let freed = found.map_or(0, Found::freed);
        let mut item = Item::new(self.blob_kind(blob), self.blob_reason(verdict, blob), freed);
        item.digest = Some(blob.digest);
        item.size = found.map_or(0, |found| found.size);
        item.set_last_used(Some(blob.last_used));
        if let Some(image) = self.graph.image(node) {
            item.set_last_used(Some(image.last_used()));
            let more = item.particulars();
            more.id = image.id().to_string();
            more.state = Some(verdict.classes.state(node));
            more.step = image.step().map(str::to_owned);
        }
        let names: Vec<String> = self.graph.names(node).map(str::to_owned).collect();
        if !names.is_empty() {
            item.particulars().names = names;
        }
        item
    }

    fn blob_kind(&self, node: Node) -> ItemKind {
        match node.kind {
            BlobKind::Index => ItemKind::Index,
            BlobKind::Manifest if self.graph.image(node.node).is_some() => ItemKind::Image,
            BlobKind::Manifest => ItemKind::Artifact,
            BlobKind::Config => ItemKind::Config,
            BlobKind::Layer => ItemKind::Layer,
            BlobKind::Other | BlobKind::Unknown => ItemKind::Blob,
        }
    }

    fn blob_reason(&self, verdict: &Verdict, blob: Node) -> Reason {
        if blob.condemned {
            return Reason::Unfinished;
        }
        if self.request.named.contains(&blob.node) {
            return Reason::Named;
        }
        if self.graph.names(blob.node).next().is_some() {
            return Reason::Expired;
        }
        let document = matches!(blob.kind, BlobKind::Index | BlobKind::Manifest);
        match verdict.classes.state(blob.node) {
            _ if !document => Reason::Unreferenced,
            State::Intermediate => Reason::Intermediate,
            State::Stage => Reason::Stage,
            _ => Reason::Dangling,
        }
    }

    /// Images that go, each after those that were made from it.
    fn images_in_order(&self, doomed: &NodeSet) -> Vec<NodeId> {
        let images: Vec<_> = doomed.iter().filter_map(|n| self.graph.image(n)).collect();
        let mut waiting: HashMap<NodeId, usize> = HashMap::new();
        let mut ready = Vec::new();
        for image in images.iter().rev() {
            let children = image
                .children()
                .filter(|c| doomed.contains(c.node()))
                .count();
            match children {
                0 => ready.push(image.node()),
                children => drop(waiting.insert(image.node(), children)),
            }
        }
        let mut order = Vec::with_capacity(images.len());
        // A stack: the line of an image comes out in one piece.
        ready.reverse();
        while let Some(node) = ready.pop() {
            order.push(node);
            let parent = self.graph.image(node).and_then(|image| image.parent());
            if let Some(parent) = parent
                && let Some(children) = waiting.get_mut(&parent)
            {
                *children -= 1;
                if *children == 0 {
                    waiting.remove(&parent);
                    ready.push(parent);
                }
            }
        }
        // Parents that go round in a circle wait for one another.
        let mut circular: Vec<NodeId> = waiting.into_keys().collect();
        circular.sort_unstable();
        order.extend(circular);
        order
    }

    // -- what is not a blob -------------------------------------------------------------------

    fn fill_snapshots(&self, verdict: &Verdict, tally: &mut Tally, plan: &mut Plan) -> Result<()> {
        let scope = &self.policy.scope;
        if self.graph.snapshots().is_empty() || !(scope.takes_images() || scope.snapshots) {
            return Ok(());
        }
        let goes = |node| verdict.selection.go.contains(node);
        let images = || self.graph.images();
        let kept = self
            .graph
            .chains(images().filter(|image| !goes(image.node())));
        let gone = self
            .graph
            .chains(images().filter(|image| goes(image.node())));
        let roots = verdict.reachable.roots();
        // Those of the images that the prune is restricted to.
        let only = self.request.only.as_ref().filter(|_| self.saved.is_none());
        let asked = only.map(|only| {
            let images = images().filter(|image| only.contains(image.node()));
            self.graph.chains(images)
        });
        let asked = asked.as_ref();
        for snapshot in self.graph.snapshots() {
            let restricted = self.request.only.is_some() && self.request.saved.is_none();
            let late = self
                .policy
                .until
                .is_some_and(|until| snapshot.last_used >= until);
            let with_image = gone.contains(&snapshot.chain);
            let orphan = !kept.contains(&snapshot.chain) && (!restricted || with_image);
            let (seen, used) = (Some(snapshot.first_seen), Some(snapshot.last_used));
            let id = snapshot.chain.to_string();
            let passes = || self.passes(ItemKind::Snapshot, &id, seen, used);
            let reason = match () {
                () if roots.snapshots.contains(&snapshot.id) => continue,
                () if snapshot.condemned.is_some() => Reason::Unfinished,
                () if late => continue,
                // With its image it goes as that does.
                () if !(passes() || orphan && with_image) => continue,
                () if scope.snapshots
                    && asked.is_none_or(|asked| asked.contains(&snapshot.chain)) =>
                {
                    Reason::Derived
                }
                () if orphan && scope.takes_images() => Reason::NoImage,
                () => continue,
            };
            let path = Path::new("rstore")
                .join(SNAPSHOTS)
                .join(&snapshot.directory);
            if !self.saved_has(ItemKind::Snapshot, &path.to_string_lossy()) {
                continue;
            }
            let freed = tally.take(&self.layout.root().join(&path))?;
            let mut item = Item::new(ItemKind::Snapshot, reason, freed);
            item.particulars().id = path.to_string_lossy().into_owned();
            item.digest = Some(snapshot.chain);
            item.size = snapshot.allocated;
            item.set_last_used(Some(snapshot.last_used));
            plan.push(item);
        }
        Ok(())
    }

    fn fill_containers(&self, roots: &RootSet, tally: &mut Tally, plan: &mut Plan) -> Result<()> {
        for container in self.graph.containers() {
            let Some(reason) = self.container_reason(container, roots) else {
                continue;
            };
            let path = Path::new("rstore").join(CONTAINERS).join(&container.id);
            let freed = tally.take(&self.layout.root().join(path))?;
            let mut item = Item::new(ItemKind::Container, reason, freed);
            item.particulars().id = container.id.clone();
            item.size = freed;
            item.set_last_used(Some(container.created));
            item.particulars().step = Some(container.step.clone());
            plan.push(item);
        }
        Ok(())
    }

    fn fill_cache(&self, verdict: &Verdict, plan: &mut Plan) -> Result<()> {
        let scope = &self.policy.scope;
        let restricted = self.request.only.is_some() && self.request.saved.is_none();
        for (record, image) in self.graph.cache() {
            // Records of images that go vanish with them.
            let only = self.request.only.as_ref().filter(|_| restricted);
            if only.is_some_and(|only| image.is_none_or(|node| !only.contains(node)))
                || image.is_some_and(|node| verdict.doomed.contains(node))
            {
                continue;
            }
            let (seen, used) = (Some(record.created), Some(record.last_used));
            if !self.passes(ItemKind::CacheRecord, &record.key.to_string(), seen, used) {
                continue;
            }
            let late = self
                .policy
                .until
                .is_some_and(|until| record.last_used >= until);
            let broken = image.is_none_or(|node| !self.graph.node(node).present);
            let reason = match () {
                () if broken && (self.is_general() || self.request.saved.is_some()) => {
                    Reason::NoImage
                }
                () if scope.cache && !late => Reason::Derived,
                () => continue,
            };
            if !self.saved_has(ItemKind::CacheRecord, &record.key.to_string()) {
                continue;
            }
            let mut item = Item::new(ItemKind::CacheRecord, reason, 0);
            item.digest = Some(record.key);
            item.set_last_used(Some(record.last_used));
            plan.push(item);
        }
        Ok(())
    }

    fn fill_cache_mounts(&self, tally: &mut Tally, plan: &mut Plan) -> Result<()> {
        let policy = self.policy;
        if !policy.scope.cache_mounts {
            return Ok(());
        }
        let mut in_use = 0;
        for mount in self.graph.cache_mounts() {
            let path = cache_mounts::place(mount);
            let late = policy.until.is_some_and(|until| mount.last_used >= until);
            let (seen, used) = (Some(mount.first_seen), Some(mount.last_used));
            let passes = self.passes(ItemKind::CacheMount, &mount.name, seen, used);
            if late || !passes || !self.saved_has(ItemKind::CacheMount, &path.to_string_lossy()) {
                continue;
            }
            if cache_mounts::is_in_use(self.layout, mount)? {
                in_use += 1;
                continue;
            }
            let freed = tally.take(&self.layout.root().join(&path))?;
            let mut item = Item::new(ItemKind::CacheMount, Reason::Derived, freed);
            item.particulars().id = path.to_string_lossy().into_owned();
            item.size = freed;
            item.set_last_used(Some(mount.last_used));
            item.particulars().names = vec![mount.name.clone()];
            plan.push(item);
        }
        if in_use > 0 {
            plan.is_transient = true;
            let word = ItemKind::CacheMount.word(in_use);
            plan.notes
                .push(format!("{in_use} {word} in use: left alone"));
        }
        Ok(())
    }

    fn fill_debris(&self, roots: &RootSet, tally: &mut Tally, plan: &mut Plan) -> Result<()> {
        if !self.is_general() && self.request.saved.is_none() {
            return Ok(());
        }
        for debris in &self.debris {
            if !debris::may_go(debris, roots, self.policy.grace, self.now) {
                if debris.kind == debris::DebrisKind::Stray {
                    plan.is_due(debris.modified.saturating_add(self.policy.grace));
                }
                continue;
            }
            let path = debris.path.to_string_lossy();
            if !self.passes(ItemKind::Temporary, &path, None, Some(debris.modified))
                || !self.saved_has(ItemKind::Temporary, &debris.path.to_string_lossy())
            {
                continue;
            }
            let reason = match debris.kind {
                debris::DebrisKind::Tombstone => Reason::Unfinished,
                debris::DebrisKind::Stray => Reason::Stray,
                _ => Reason::DeadBuild,
            };
            let freed = tally.take(&self.layout.root().join(&debris.path))?;
            let mut item = Item::new(ItemKind::Temporary, reason, freed);
            item.particulars().id = path.into_owned();
            item.size = freed;
            item.set_last_used(Some(debris.modified));
            plan.push(item);
        }
        Ok(())
    }
}

/// The nodes that a saved plan lists, as far as they are still there.
pub(super) fn listed(graph: &ImageGraph, saved: &Plan) -> NodeSet {
    let digests = saved.items.iter().filter_map(|item| item.digest.as_ref());
    let mut nodes = NodeSet::of(graph);
    for node in digests.filter_map(|digest: &Digest| graph.find(digest)) {
        nodes.insert(node);
    }
    nodes
}

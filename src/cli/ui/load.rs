//! From a store's view to what is shown of it: reads the graph, asks the planner, changes nothing.

use crate::catalog::Millis;
use crate::cli::commands::{df, removal, view, view::View, why};
use crate::cli::context::native_platform;
use crate::cli::exit;
use crate::cli::render::text;
use crate::gc::plan::Removal;
use crate::gc::{self, Plan, Policy};
use crate::graph::{Image, ImageGraph, NodeId, Roles};
use crate::oci::document::Role;
use crate::oci::{Digest, Platform};

use super::data::{Data, Details, Disk, DiskRow, Foretold, Item, LayerRow, Row, Stay};

/// Of so many marked images that stay it is told why.
const TOLD: usize = 50;

/// How many holders of a layer are named.
const HOLDERS: usize = 8;

/// Everything that lists show.
pub fn data(view: &View, now: Millis) -> Data {
    let graph = &view.graph;
    let native = native_platform();
    let mut nodes: Vec<NodeId> = graph.images().map(|image| image.node()).collect();
    let documents = graph.tags().iter().map(|(_, node)| *node);
    nodes.extend(documents.filter(|node| graph.image(*node).is_none()));
    nodes.sort_unstable();
    nodes.dedup();
    let place = |node: NodeId| {
        let place = nodes.binary_search(&node).ok()?;
        u32::try_from(place).ok()
    };
    let rows = nodes
        .iter()
        .map(|node| row(view, *node, &native, &place))
        .collect();
    let blobs = graph.nodes().filter(|node| node.present);
    let total = blobs.map(|node| node.allocated).sum();
    let root = text::clean(&view.store.root().to_string_lossy());
    Data::new(root, rows, total, now)
}

fn row(
    view: &View,
    node: NodeId,
    native: &Platform,
    place: &impl Fn(NodeId) -> Option<u32>,
) -> Row {
    let graph = &view.graph;
    let blob = graph.node(node);
    let image = view.image_of(node, native);
    let itself = graph.image(node);
    let (size, own) = match itself {
        Some(_) => bytes_of(graph, node),
        None => {
            let bytes = graph.bytes_of(node);
            (bytes.total.allocated, bytes.own.allocated)
        }
    };
    let holder = || {
        let indexes = graph.holders(node).filter(|(_, role)| *role == Role::Child);
        indexes.map(|(index, _)| index).find_map(place)
    };
    let parent = itself.and_then(|image| image.parent()).and_then(place);
    let names: Vec<&str> = graph.names(node).collect();
    let step = image.and_then(|image| image.step()).unwrap_or("");
    Row {
        digest: blob.digest,
        id: image.map_or(blob.digest, |image| image.id()),
        names: text::clean(&names.join(", ")).into(),
        step: text::clean(view::step_text(step)).into(),
        state: view.classes.state(node),
        size,
        own,
        used: image.map_or(blob.last_used, |image| image.last_used()),
        seen: blob.first_seen,
        parent: parent.or_else(holder),
    }
}

/// Allocated bytes of an image, and those of them that no other holds: what
/// [`bytes_of`](ImageGraph::bytes_of) says, without a set of the whole graph for each of a hundred
/// thousand.
fn bytes_of(graph: &ImageGraph, manifest: NodeId) -> (u64, u64) {
    let mut members: Vec<NodeId> = vec![manifest];
    members.extend(
        graph
            .links(manifest)
            .filter(|(_, role)| Roles::RUN.contains(*role))
            .map(|(node, _)| node),
    );
    members.sort_unstable();
    members.dedup();
    let foreign = |(holder, role): (NodeId, Role)| {
        matches!(role, Role::Config | Role::Layer | Role::Other)
            && members.binary_search(&holder).is_err()
    };
    let (mut total, mut own) = (0, 0);
    for member in &members {
        let node = graph.node(*member);
        if !node.present {
            continue;
        }
        total += node.allocated;
        if !graph.holders(*member).any(foreign) {
            own += node.allocated;
        }
    }
    (total, own)
}

/// The layers of an image, the lowest first.
pub fn layers(view: &View, digest: &Digest) -> Result<Vec<LayerRow>, String> {
    let image = image(view, digest)?;
    let row = |node| {
        let blob = view.graph.node(node);
        let layer = view.graph.layer(node);
        let mut others = layer.map(|layer| layer.manifests()).unwrap_or_default();
        others.retain(|manifest| *manifest != image.node());
        LayerRow {
            digest: blob.digest,
            step: text::clean(&step_of(layer.and_then(|layer| layer.created_by()))),
            size: if blob.present { blob.allocated } else { 0 },
            unpacked: layer.and_then(|layer| layer.unpacked()),
            others: others.len(),
            holders: holders(view, &others),
        }
    };
    Ok(image.layers().map(row).collect())
}

/// The step that made a layer, without the shell that ran it.
fn step_of(created_by: Option<&str>) -> String {
    let step = view::step_text(created_by.unwrap_or(""));
    match step.strip_prefix("RUN /bin/sh -c ") {
        Some(command) => format!("RUN {command}"),
        None => step.to_owned(),
    }
}

/// Some of the images that hold a layer, those with a name first.
fn holders(view: &View, manifests: &[NodeId]) -> Vec<String> {
    let named = manifests
        .iter()
        .filter_map(|node| view.graph.names(*node).next());
    let mut holders: Vec<String> = named.take(HOLDERS).map(text::clean).collect();
    let unnamed = manifests
        .iter()
        .filter(|node| view.graph.names(**node).next().is_none());
    let ids = unnamed.filter_map(|node| Some(view.graph.image(*node)?.id().short()));
    let room = HOLDERS - holders.len();
    holders.extend(ids.take(room));
    holders
}

/// The image that a manifest is, or that an index has for this machine.
pub fn image<'a>(view: &'a View, digest: &Digest) -> Result<Image<'a>, String> {
    let gone = || format!("{} is no image, or is gone", digest.short());
    let node = view.graph.find(digest).ok_or_else(gone)?;
    view.image_of(node, &native_platform()).ok_or_else(gone)
}

/// What keeps an image: the shortest path.
pub fn explain(view: &View, digest: &Digest) -> Details {
    let Some(node) = view.graph.find(digest) else {
        return Details::default();
    };
    let found = view.graph.why(&view.roots, node, 1);
    Details {
        why: found
            .paths
            .first()
            .map(|path| why::path_words(view, path, false)),
        more: found.more,
    }
}

/// Plans the removal of what is marked: as `rstore rmi` does, each with all its names.
pub fn plan_marked(view: &View, marks: &[Digest], now: Millis) -> Result<Plan, String> {
    let node = |digest: &Digest| {
        let node = view.graph.find(digest)?;
        Some(Removal { node, name: None })
    };
    let targets: Vec<Removal> = marks.iter().filter_map(node).collect();
    let plan = gc::plan_removal(view.store.layout(), &view.graph, &targets, now);
    plan.map_err(|error| told(&error.into()))
}

/// Plans what `rstore prune` takes.
pub fn plan_dangling(view: &View, now: Millis) -> Result<Plan, String> {
    let plan = gc::plan(view.store.layout(), &view.graph, &Policy::default(), now);
    plan.map_err(|error| told(&error.into()))
}

/// What a plan says; `items` where each thing is wanted too.
pub fn foretold(view: &View, plan: &Plan, marks: &[Digest], items: bool) -> Foretold {
    let going: hashbrown::HashSet<Digest> =
        plan.items.iter().filter_map(|item| item.digest).collect();
    let staying: Vec<&Digest> = marks.iter().filter(|mark| !going.contains(*mark)).collect();
    let names: Vec<String> = plan.untag.iter().map(|untag| untag.name.clone()).collect();
    let roots = view.roots.clone().without_tags(&names);
    let stay = |digest: &&Digest| {
        let path = view.graph.find(digest).and_then(|node| {
            let found = view.graph.why(&roots, node, 1);
            found.paths.into_iter().next()
        });
        Stay {
            digest: **digest,
            untagged: plan.untag.iter().any(|untag| untag.digest == **digest),
            why: match path {
                Some(path) => why::path_words(view, &path, false),
                None => plan.notes.join("; "),
            },
        }
    };
    let item = |item: &gc::Item| Item {
        what: what(item),
        reason: item.reason.words(),
        freed: item.freed,
    };
    Foretold {
        freed: plan.totals.freed,
        words: plan.totals.words(),
        count: plan.items.len(),
        untag: names.iter().map(|name| text::clean(name)).collect(),
        items: match items {
            true => plan.items.iter().map(item).collect(),
            false => Vec::new(),
        },
        stays: staying.iter().take(TOLD).map(stay).collect(),
        staying: staying.len(),
        notes: plan.notes.iter().map(|note| text::clean(note)).collect(),
    }
}

fn what(item: &gc::Item) -> String {
    let name = removal::item_name(item);
    let name = match name.parse::<Digest>() {
        Ok(digest) => digest.short(),
        Err(_) => name,
    };
    let kind = removal::kind_word(item.kind);
    let more = match (item.names(), item.step()) {
        ([], Some(step)) => text::clean(view::step_text(step)),
        (names, _) => text::clean(&names.join(", ")),
    };
    format!("{kind} {name} {more}").trim_end().to_owned()
}

/// What the disk is used for.
pub fn disk(view: &View, now: Millis) -> Result<Disk, String> {
    let grace = gc::policy::DEFAULT_GRACE;
    let usage = gc::usage(
        view.store.layout(),
        &view.graph,
        grace,
        now,
        gc::Detail::default(),
    );
    let usage = usage.map_err(|error| told(&error.into()))?;
    let row = |(kind, _, title): &(gc::UsageKind, &str, &'static str)| {
        let row = usage.rows.get(kind).copied().unwrap_or_default();
        DiskRow {
            kind: *kind,
            title,
            count: row.total,
            active: row.active,
            size: row.size,
            reclaimable: row.reclaimable,
        }
    };
    Ok(Disk {
        rows: df::KINDS.iter().map(row).collect(),
        total: usage.total,
    })
}

/// An error in one line, fit for a terminal.
pub fn told(error: &anyhow::Error) -> String {
    text::clean(&exit::message(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::sample::Letters;

    #[test]
    fn bytes_are_those_that_df_says() {
        let letters = Letters::new("A->a,a,s B->b,s C->c D->d,c D^C S=>A X->A,B +X +D");
        let graph = &letters.graph;
        for name in ["A", "B", "C", "D", "S"] {
            let node = letters.node(name);
            let bytes = graph.bytes_of(node);
            let expected = (bytes.total.allocated, bytes.own.allocated);
            assert_eq!(bytes_of(graph, node), expected, "{name}");
        }
    }
}

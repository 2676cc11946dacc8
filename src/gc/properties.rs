//! What must hold of every plan, on random graphs (DESIGN.md §3.3). Graphs are of letters, without
//! files; that removal frees what was foretold is tested on real stores, random ones too.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::mark::mark;
use super::plan::{Item, ItemKind, Plan, Reason};
use super::policy::{Policy, Scope};
use super::select::{Limits, select};
use super::target::{Target, choose};
use super::testing::{NOW, New, Store, policy};
use super::{Detail, Prune, UsageKind};
use crate::catalog::BlobKind;
use crate::graph::sample::Letters;
use crate::graph::{Classes, NodeId, NodeSet, Roles, RootKind, RootSet};
use crate::oci::Digest;
use crate::oci::document::Role;

/// Random links between a few documents, some of which go in circles.
fn graphs() -> impl Strategy<Value = String> {
    let image = prop::sample::select(vec!["A", "B", "C", "D", "E", "F"]);
    let index = prop::sample::select(vec!["X", "Y", "Z"]);
    let layer = prop::sample::select(vec!["a", "b", "c", "d"]);
    let layers = prop::collection::vec(layer, 1..4);
    let any = prop_oneof![image.clone(), index.clone()];
    let members = prop::collection::vec(any.clone(), 0..3);
    let documents = (
        prop::collection::vec(layers, 6),
        prop::collection::vec(members, 3),
    )
        .prop_map(|(layers, members)| {
            let images = ["A", "B", "C", "D", "E", "F"].iter().zip(layers);
            let indexes = ["X", "Y", "Z"].iter().zip(members);
            let rows = images.chain(indexes);
            let rows = rows.map(|(name, targets)| format!("{name}->{}", targets.join(",")));
            rows.collect::<Vec<_>>().join(" ")
        });
    let lineage = (image.clone(), prop::sample::select(vec!["^", "&"]), image)
        .prop_map(|(a, link, b)| format!("{a}{link}{b}"));
    let referrer =
        (prop::sample::select(vec!["S", "T"]), any.clone()).prop_map(|(s, a)| format!("{s}=>{a}"));
    let root = (prop::sample::select(vec!["+", "*"]), any).prop_map(|(k, a)| format!("{k}{a}"));
    (
        documents,
        prop::collection::vec(lineage, 0..8),
        prop::collection::vec(referrer, 0..3),
        prop::collection::vec(root, 0..4),
    )
        .prop_map(|(documents, lineage, referrers, roots)| {
            format!(
                "{documents} {} {} {}",
                lineage.join(" "),
                referrers.join(" "),
                roots.join(" ")
            )
        })
}

fn scopes() -> impl Strategy<Value = Scope> {
    (any::<bool>(), any::<bool>()).prop_map(|(stages, intermediates)| Scope {
        stages,
        intermediates,
        ..Scope::default()
    })
}

/// What a plan would remove.
fn doomed(letters: &Letters, roots: &RootSet, scope: &Scope) -> NodeSet {
    let policy = Policy {
        scope: scope.clone(),
        ..Policy::default()
    };
    doomed_under(letters, roots, &policy)
}

fn doomed_under(letters: &Letters, roots: &RootSet, policy: &Policy) -> NodeSet {
    let graph = &letters.graph;
    let classes = Classes::of(graph, roots);
    let selection = select(graph, &classes, policy, &Limits::default());
    let reachable = mark(graph, roots, &selection.stay).unwrap();
    let mut doomed = NodeSet::of(graph);
    for node in graph.nodes().filter(|node| !reachable.contains(node.node)) {
        doomed.insert(node.node);
    }
    doomed
}

/// `A&B` for what the images that stay inherit of those that go.
fn handed_on(letters: &Letters, gone: &NodeSet) -> String {
    let graph = &letters.graph;
    let name = |node: NodeId| {
        let mut one = NodeSet::of(graph);
        one.insert(node);
        letters.names(&one)
    };
    let pairs = crate::gc::condemn::handed_on(graph, gone);
    let words = pairs.map(|(image, stage)| format!("{}&{}", name(image), name(stage)));
    words.collect::<Vec<_>>().join(" ")
}

/// A plan in which these go, each freeing some bytes of its own.
fn plan_of(letters: &Letters, doomed: &NodeSet, scope: &Scope) -> Plan {
    let graph = &letters.graph;
    let policy = Policy {
        scope: scope.clone(),
        ..Policy::default()
    };
    let mut plan = Plan::nothing(&policy, 0);
    for node in doomed.iter() {
        let (kind, reason) = match graph.node(node).kind {
            BlobKind::Index => (ItemKind::Index, Reason::Dangling),
            BlobKind::Manifest if graph.image(node).is_some() => {
                (ItemKind::Image, Reason::Dangling)
            }
            BlobKind::Manifest => (ItemKind::Artifact, Reason::Dangling),
            BlobKind::Config => (ItemKind::Config, Reason::OnlyThere),
            _ => (ItemKind::Layer, Reason::OnlyThere),
        };
        let mut item = Item::new(kind, reason, 1 + node.index() as u64 % 7);
        item.digest = Some(graph.node(node).digest);
        plan.push(item);
    }
    plan
}

/// What goes of a plan for the sake of so many bytes, and how many these are.
fn chosen(letters: &Letters, plan: &Plan, wanted: u64) -> (NodeSet, u64) {
    let mut target = Target {
        used: u64::MAX,
        wanted,
        ..Target::default()
    };
    let taken = choose(&letters.graph, plan, &mut target);
    let mut set = NodeSet::of(&letters.graph);
    let mut freed = 0;
    for (item, _) in plan.items.iter().zip(taken).filter(|(_, taken)| *taken) {
        set.insert(letters.graph.find(&item.digest.unwrap()).unwrap());
        freed += item.freed;
    }
    (set, freed)
}

/// Whether something that stays, of what might go, would keep this one.
fn is_kept(letters: &Letters, doomed: &NodeSet, gone: &NodeSet, node: NodeId) -> bool {
    let graph = &letters.graph;
    let stays = |other: NodeId| other != node && doomed.contains(other) && !gone.contains(other);
    let held = graph.holders(node).any(|(holder, _)| stays(holder));
    let subject = graph
        .links(node)
        .any(|(target, role)| role == Role::Subject && stays(target));
    let source = graph.image(node).is_some_and(|image| {
        let users = image.children().chain(image.used_by());
        users.map(|image| image.node()).any(stays)
    });
    held || subject || source
}

/// Seconds at which images were last used.
fn uses() -> impl Strategy<Value = String> {
    prop::collection::vec(2..9u8, 6).prop_map(|seconds| {
        let images = ["A", "B", "C", "D", "E", "F"].iter().zip(seconds);
        let words = images.map(|(name, second)| format!("{name}@{second}"));
        words.collect::<Vec<_>>().join(" ")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_goes_for_the_sake_of_room_is_enough_closed_and_no_more_than_that(
        text in graphs(), uses in uses(), wanted in 0..60u64, less in 0..60u64
    ) {
        let letters = Letters::new(&format!("{text} {uses}"));
        let scope = Scope::default();
        let all = doomed(&letters, &letters.roots(), &scope);
        let plan = plan_of(&letters, &all, &scope);
        let (gone, freed) = chosen(&letters, &plan, wanted);
        prop_assert!(freed >= wanted || gone == all, "{text} {uses}: {freed} of {wanted}");
        for node in gone.iter() {
            prop_assert!(!is_kept(&letters, &all, &gone, node), "{text} {uses}: {}", letters.names(&gone));
        }
        // Of all beginnings of the order it is the first that is enough.
        let (fewer, freed_by_fewer) = chosen(&letters, &plan, less.min(wanted));
        prop_assert!(fewer.iter().all(|node| gone.contains(node)));
        prop_assert!(fewer == gone || freed_by_fewer < wanted, "{text} {uses}");
    }

    #[test]
    fn nothing_goes_that_was_used_after_something_that_might_have_gone(
        text in graphs(), uses in uses(), wanted in 1..40u64
    ) {
        let letters = Letters::new(&format!("{text} {uses}"));
        let graph = &letters.graph;
        let scope = Scope::default();
        let all = doomed(&letters, &letters.roots(), &scope);
        let (gone, _) = chosen(&letters, &plan_of(&letters, &all, &scope), wanted);
        let none = NodeSet::of(graph);
        let free = |node: NodeId| !is_kept(&letters, &all, &none, node);
        let used = |node| graph.image(node).map(|image| image.last_used());
        let stays = all.iter().filter(|node| !gone.contains(*node) && free(*node));
        if let Some(oldest) = stays.filter_map(used).min() {
            for node in gone.iter().filter(|node| free(*node)) {
                prop_assert!(used(node).is_none_or(|used| used <= oldest), "{text} {uses}");
            }
        }
    }

    #[test]
    fn another_rule_never_enlarges_a_plan(
        text in graphs(), uses in uses(), until in 1..10i64, last in 1..3usize, keep in "[A-FX-Z]"
    ) {
        let letters = Letters::new(&format!("{text} {uses}"));
        let graph = &letters.graph;
        let scope = Scope { tagged: true, ..Scope::default() };
        let goes = |policy: &Policy| {
            let untag = super::select::expired_tags(graph, policy, None).unwrap();
            let roots = letters.roots().without_tags(&untag);
            doomed_under(&letters, &roots, policy)
        };
        let none = Policy { scope, until: Some(i64::MAX), ..Policy::default() };
        let widest = goes(&none);
        let by_age = Policy { until: Some(until * 1_000), ..none.clone() };
        let aged = goes(&by_age);
        for more in [
            by_age.clone(),
            Policy { keep_last: std::num::NonZeroUsize::new(last), ..none.clone() },
            Policy { keep: Some(keep.clone()), ..none.clone() },
        ] {
            prop_assert!(goes(&more).iter().all(|node| widest.contains(node)), "{text} {uses}");
        }
        let both = Policy { keep: Some(keep), ..by_age };
        prop_assert!(goes(&both).iter().all(|node| aged.contains(node)), "{text} {uses}");
    }

    #[test]
    fn nothing_that_is_reachable_goes_and_survivors_point_at_survivors(
        text in graphs(), scope in scopes()
    ) {
        let letters = Letters::new(&text);
        let roots = letters.roots();
        let doomed = doomed(&letters, &roots, &scope);
        let none = NodeSet::of(&letters.graph);
        let reachable = mark(&letters.graph, &roots, &none).unwrap();
        for node in doomed.iter() {
            prop_assert!(!reachable.contains(node));
        }
        for node in letters.graph.nodes().filter(|node| !doomed.contains(node.node)) {
            for (target, _) in letters.graph.links(node.node) {
                prop_assert!(!doomed.contains(target), "{text}: {}", letters.names(&doomed));
            }
            // A survivor's signatures survive.
            for (source, role) in letters.graph.holders(node.node) {
                prop_assert!(role != Role::Subject || !doomed.contains(source));
            }
        }
    }

    #[test]
    fn the_next_prune_finds_nothing_that_this_one_might_have_taken(
        text in graphs(), uses in uses(), scope in scopes(), until in prop::option::of(1..10i64)
    ) {
        let before = Letters::new(&format!("{text} {uses}"));
        let policy = Policy { scope, until: until.map(|until| until * 1_000), ..Policy::default() };
        let gone = doomed_under(&before, &before.roots(), &policy);
        let names = before.names(&gone);
        // What has gone is absent, and so are the configs of images.
        let absent = names.chars().map(|name| match name {
            'A'..='F' => format!("?{name} ?{name}."),
            name => format!("?{name}"),
        });
        let absent: Vec<String> = absent.collect();
        let inherited = handed_on(&before, &gone);
        let after = Letters::new(&format!("{text} {uses} {inherited} {}", absent.join(" ")));
        let again = doomed_under(&after, &after.roots(), &policy);
        let again = after.names(&again);
        prop_assert_eq!(again.replace(|name| names.contains(name), ""), "", "{} {}", text, uses);
    }

    #[test]
    fn a_wider_scope_never_takes_less(text in graphs(), scope in scopes()) {
        let letters = Letters::new(&text);
        let roots = letters.roots();
        let narrow = doomed(&letters, &roots, &Scope::default());
        let wide = doomed(&letters, &roots, &scope);
        for node in narrow.iter() {
            prop_assert!(wide.contains(node));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn one_more_root_never_enlarges_a_plan(
        text in graphs(), uses in uses(), scope in scopes(), until in prop::option::of(1..10i64),
        place in any::<prop::sample::Index>(), tags in any::<bool>()
    ) {
        let letters = Letters::new(&format!("{text} {uses}"));
        let policy = Policy { scope, until: until.map(|until| until * 1_000), ..Policy::default() };
        let mut roots = letters.roots();
        let before = doomed_under(&letters, &roots, &policy);
        let nodes: Vec<_> = letters.graph.nodes().map(|node| node.node).collect();
        let name = "new:latest".to_owned();
        roots.add(*place.get(&nodes), match tags {
            true => RootKind::Tag { name },
            false => RootKind::Pin,
        });
        let after = doomed_under(&letters, &roots, &policy);
        for node in after.iter() {
            prop_assert!(
                before.contains(node),
                "{text} {uses} {policy:?}: {} became {}",
                letters.names(&before),
                letters.names(&after)
            );
        }
    }
}

/// An image of a random store: numbers are of images made before it.
#[derive(Debug, Clone)]
struct Made {
    parent: Option<usize>,
    stage: Option<usize>,
    layers: Vec<&'static str>,
    tagged: bool,
    unpacked: bool,
}

fn made() -> impl Strategy<Value = Vec<Made>> {
    let layer = prop::sample::select(vec!["a", "b", "c", "d", "e"]);
    let image = (
        prop::option::of(0..6usize),
        prop::option::weighted(0.3, 0..6usize),
        prop::collection::vec(layer, 1..4),
        prop::bool::weighted(0.4),
        prop::bool::weighted(0.3),
    );
    let image = image.prop_map(|(parent, stage, layers, tagged, unpacked)| Made {
        parent,
        stage,
        layers,
        tagged,
        unpacked,
    });
    prop::collection::vec(image, 1..7)
}

/// A store of these images, with what a dead build left beside them.
fn real(made: &[Made]) -> Store {
    let store = Store::new();
    let mut digests: Vec<Digest> = Vec::new();
    let mut unpacked = BTreeSet::new();
    for (number, image) in made.iter().enumerate() {
        let before = |place: Option<usize>| digests.get(place?).copied();
        let stage = before(image.stage);
        let new = New {
            parent: before(image.parent),
            stages: stage.as_slice(),
            layers: &image.layers,
            ..New::default()
        };
        let digest = store.image(&format!("image {number}"), new);
        if image.tagged {
            store.tag(&format!("app:{number}"), digest);
        }
        if image.unpacked && unpacked.insert(image.layers[0]) {
            // The diff ID of the first layer is its chain ID.
            store.snapshot(Digest::of(image.layers[0].repeat(3_000).as_bytes()));
        }
        digests.push(digest);
    }
    store.blob(b"no document points at it", BlobKind::Layer, "", false);
    std::fs::write(store.layout.private().join("ingest/dead-1"), [1; 9_000]).unwrap();
    store
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn own_and_shared_bytes_add_up_and_what_is_reclaimable_is_what_a_prune_frees(
        made in made(), prune in prop::sample::select(Prune::ALL.to_vec())
    ) {
        let store = real(&made);
        let graph = store.graph();
        let detail = Detail { images: true, widest: true };
        let usage = super::usage(&store.layout, &graph, 0, NOW, detail).unwrap();
        let rows: u64 = usage.rows.values().map(|row| row.size).sum();
        let disk = crate::fsutil::allocated_tree(store.layout.root()).unwrap();
        prop_assert_eq!((rows, usage.total), (disk, disk));

        // Every image's own bytes, and once what several have, are all that images have.
        let closures = graph.images().map(|image| graph.closure([image.node()], Roles::RUN));
        let closures: Vec<NodeSet> = closures.collect();
        let holders = |node| closures.iter().filter(|closure| closure.contains(node)).count();
        let allocated = |least: usize| -> u64 {
            let nodes = graph.nodes().filter(|node| holders(node.node) >= least);
            nodes.map(|node| node.allocated).sum()
        };
        let own: u64 = usage.images.iter().map(|image| image.bytes.own.allocated).sum();
        prop_assert_eq!(own + allocated(2), allocated(1));
        let layers = usage.rows[&UsageKind::Layers];
        let loose = graph.nodes().filter(|node| {
            node.kind == BlobKind::Layer && holders(node.node) == 0
        });
        let loose: u64 = loose.map(|node| node.allocated).sum();
        prop_assert_eq!(layers.own.unwrap() + layers.shared.unwrap() + loose, layers.size);

        // What goes with images is what the prunes of their kinds take of blobs.
        let by_image: u64 = usage.images.iter().map(|image| image.reclaimable).sum();
        prop_assert!(by_image <= usage.prunes[&Prune::All]);
        let freed = store.prune(&policy(prune.scope())).removed.freed;
        prop_assert_eq!(usage.prunes[&prune], freed, "{:?}", prune);
    }
}

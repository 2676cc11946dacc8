//! What must hold of every plan, on random graphs (DESIGN.md §3.3). Graphs are of letters, without
//! files; that removal frees what was foretold is tested on real stores.

use proptest::prelude::*;

use super::mark::mark;
use super::policy::{Policy, Scope};
use super::select::{Limits, select};
use crate::graph::sample::Letters;
use crate::graph::{Classes, NodeSet, RootKind, RootSet};
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
    let graph = &letters.graph;
    let policy = Policy {
        scope: scope.clone(),
        ..Policy::default()
    };
    let classes = Classes::of(graph, roots);
    let selection = select(graph, &classes, &policy, &Limits::default());
    let reachable = mark(graph, roots, &selection.stay).unwrap();
    let mut doomed = NodeSet::of(graph);
    for node in graph.nodes().filter(|node| !reachable.contains(node.node)) {
        doomed.insert(node.node);
    }
    doomed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

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
    fn one_more_root_never_enlarges_a_plan(
        text in graphs(), scope in scopes(), place in any::<prop::sample::Index>()
    ) {
        let letters = Letters::new(&text);
        let mut roots = letters.roots();
        let before = doomed(&letters, &roots, &scope);
        let nodes: Vec<_> = letters.graph.nodes().map(|node| node.node).collect();
        roots.add(*place.get(&nodes), RootKind::Pin);
        let after = doomed(&letters, &roots, &scope);
        for node in after.iter() {
            prop_assert!(before.contains(node), "{text}: {} became {}", letters.names(&before), letters.names(&after));
        }
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

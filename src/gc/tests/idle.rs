//! A prune after which nothing has changed ends the next one at once; whatever changes, does not.

use super::super::idle::{self, Fingerprint};
use super::super::policy::{Room, Space};
use super::*;
use crate::graph::Depth;

/// A prune as the command line does it: with a note where there was nothing to do.
fn prune(store: &Store, policy: &Policy, now: crate::catalog::Millis) {
    let mut before = Fingerprint::take(&store.layout, &store.catalog).unwrap();
    let depth = Depth::Removal;
    let scanned = ImageGraph::load_scanned(&store.catalog, &store.layout, depth, now).unwrap();
    let (graph, strays) = (scanned.graph, scanned.strays);
    if let Some(before) = &mut before {
        before.taken_in(&store.catalog, &graph);
    }
    let plan = super::super::plan(&store.layout, &graph, policy, now).unwrap();
    let names = idle::names_after(&graph, &plan, strays.as_deref());
    let told = plan.summary();
    store.execute(&graph, plan);
    let (layout, catalog) = (&store.layout, &store.catalog);
    idle::note(layout, catalog, &graph, &told, names, before, now).unwrap();
}

fn is_idle(store: &Store, policy: &Policy, now: crate::catalog::Millis) -> bool {
    idle::is_idle(&store.layout, &store.catalog, policy, now).unwrap()
}

/// A store in which nothing is to be done, and that this is noted of.
fn quiet(policy: &Policy) -> Store {
    let store = Store::new();
    let app = store.image("app", layers(&["app"]));
    store.tag("app:latest", app);
    store.image("loose", layers(&["loose"]));
    prune(&store, policy, NOW);
    prune(&store, policy, NOW);
    store
}

#[test]
fn a_prune_with_nothing_to_do_is_remembered_for_its_policy_alone() {
    let policy = Policy::default();
    let store = Store::new();
    store.image("loose", layers(&["loose"]));
    assert!(!is_idle(&store, &policy, NOW));
    // One run reaches the end of it, and the names that are left are known.
    prune(&store, &policy, NOW);
    assert!(is_idle(&store, &policy, NOW));
    prune(&store, &policy, NOW);
    assert!(is_idle(&store, &policy, NOW));
    let wider = super::policy(Scope::all());
    assert!(!is_idle(&store, &wider, NOW));
    prune(&store, &wider, NOW);
    assert!(is_idle(&store, &wider, NOW) && is_idle(&store, &policy, NOW));
    let catalog = Catalog::open(store.catalog.path()).unwrap();
    assert!(idle::is_idle(&store.layout, &catalog, &policy, NOW).unwrap());
}

#[test]
fn whatever_changes_makes_the_next_prune_look() {
    let policy = Policy::default();
    type Change = (&'static str, fn(&Store));
    let changes: [Change; 8] = [
        ("an image", |store| {
            store.image("new", layers(&["new"]));
        }),
        ("a foreign blob", |store| {
            let media_type = crate::oci::media::LAYER;
            store.blob(b"foreign", BlobKind::Layer, media_type, true);
        }),
        ("a tag that another tool took away", |store| {
            store.change_index(|index| {
                index.untag("app:latest");
            });
        }),
        ("a last use", |store| {
            let graph = store.graph();
            let image = graph.images().next().unwrap().digest();
            store.used_at(image, 70_000);
        }),
        ("what a killed build left", |store| {
            fs::write(store.layout.private().join("ingest/dead-1"), "x").unwrap();
        }),
        ("a tree that nobody knows", |store| {
            fs::create_dir(store.layout.private().join("snapshots/unknown")).unwrap();
        }),
        ("a lease", |store| drop(store.lease("build1"))),
        ("a half-written index.json", |store| {
            fs::write(store.layout.root().join(".index.json.7.tmp"), "x").unwrap();
        }),
    ];
    for (what, change) in changes {
        let store = quiet(&policy);
        assert!(is_idle(&store, &policy, NOW), "{what}");
        change(&store);
        assert!(!is_idle(&store, &policy, NOW), "{what}");
    }
}

#[test]
fn an_age_that_runs_out_is_due() {
    let age = 3_600_000;
    let policy = |now| Policy {
        until: Some(now - age),
        ..Policy::default()
    };
    let store = Store::new();
    let image = store.image("loose", layers(&["loose"]));
    store.used_at(image, NOW - 1_000);
    prune(&store, &policy(NOW), NOW);
    assert!(store.has(&image) && is_idle(&store, &policy(NOW), NOW));
    let later = NOW + age / 2;
    assert!(is_idle(&store, &policy(later), later));
    let due = NOW + age;
    assert!(!is_idle(&store, &policy(due), due));
    prune(&store, &policy(due), due);
    assert!(!store.has(&image));
}

#[test]
fn a_grace_that_runs_out_is_due() {
    let store = Store::new();
    let digest = store.blob(b"foreign", BlobKind::Layer, crate::oci::media::LAYER, true);
    let modified = store
        .layout
        .blobs()
        .stat(&digest)
        .unwrap()
        .unwrap()
        .modified;
    // Late enough for the directories' times to prove something.
    let now = modified + 60_000;
    let policy = Policy::default();
    prune(&store, &policy, now);
    prune(&store, &policy, now);
    assert!(store.has(&digest) && is_idle(&store, &policy, now));
    assert!(!is_idle(&store, &policy, modified + policy.grace + 1));
}

#[test]
fn directories_that_are_too_young_to_prove_anything_prove_nothing() {
    let store = Store::new();
    let blobs = fs::metadata(store.layout.blobs().directory()).unwrap();
    let now = std::os::unix::fs::MetadataExt::mtime(&blobs) * 1_000 + 500;
    prune(&store, &Policy::default(), now);
    prune(&store, &Policy::default(), now);
    assert!(!is_idle(&store, &Policy::default(), now));
}

#[test]
fn what_another_tool_writes_after_a_removal_is_seen_by_its_name() {
    let policy = Policy::default();
    let store = Store::new();
    let loose = store.image("loose", layers(&["loose"]));
    prune(&store, &policy, NOW);
    assert!(!store.has(&loose) && is_idle(&store, &policy, NOW));
    let blobs = store.layout.blobs().directory().to_path_buf();
    for name in [Digest::of(b"other").hex(), "stray".to_owned()] {
        fs::write(blobs.join(&name), "other").unwrap();
        assert!(!is_idle(&store, &policy, NOW), "{name}");
        fs::remove_file(blobs.join(&name)).unwrap();
        // The names are what they were.
        assert!(is_idle(&store, &policy, NOW));
    }
}

#[test]
fn a_removal_under_a_rule_that_speaks_of_others_is_not_remembered() {
    let store = Store::new();
    store.image("loose", layers(&["loose"]));
    let filtered = Policy {
        filters: vec!["label!=keep".to_owned()],
        ..Policy::default()
    };
    prune(&store, &filtered, NOW);
    assert!(!is_idle(&store, &filtered, NOW));
    prune(&store, &filtered, NOW);
    assert!(is_idle(&store, &filtered, NOW));
}

#[test]
fn somebody_else_s_change_beside_a_removal_is_not_lost() {
    let policy = Policy::default();
    let store = Store::new();
    store.image("loose", layers(&["loose"]));
    let depth = Depth::Removal;
    let mut before = Fingerprint::take(&store.layout, &store.catalog).unwrap();
    let scanned = ImageGraph::load_scanned(&store.catalog, &store.layout, depth, NOW).unwrap();
    before
        .as_mut()
        .unwrap()
        .taken_in(&store.catalog, &scanned.graph);
    let plan = super::super::plan(&store.layout, &scanned.graph, &policy, NOW).unwrap();
    let names = idle::names_after(&scanned.graph, &plan, scanned.strays.as_deref());
    assert!(names.is_some());
    let told = plan.summary();
    let other = Catalog::open(store.catalog.path()).unwrap();
    other
        .write::<_, Error>(|tx| Ok(tx.set_meta("x", "y")?))
        .unwrap();
    store.execute(&scanned.graph, plan);
    let (layout, catalog) = (&store.layout, &store.catalog);
    idle::note(layout, catalog, &scanned.graph, &told, names, before, NOW).unwrap();
    assert!(!is_idle(&store, &policy, NOW));
}

#[test]
fn a_floor_of_free_space_is_looked_at_each_time() {
    let floor = |room| Policy {
        space: Space {
            min_free: Some(room),
            ..Space::default()
        },
        ..Policy::default()
    };
    let store = Store::new();
    let met = floor(Room::Bytes(1));
    prune(&store, &met, NOW);
    prune(&store, &met, NOW);
    assert!(is_idle(&store, &met, NOW));
    // What a store takes is only known by looking.
    let ceiling = Policy {
        space: Space {
            max_used: Some(Room::Bytes(1 << 50)),
            ..Space::default()
        },
        ..Policy::default()
    };
    prune(&store, &ceiling, NOW);
    prune(&store, &ceiling, NOW);
    assert!(!is_idle(&store, &ceiling, NOW));
    // One that cannot be met is told every time.
    let unmet = floor(Room::Percent(100));
    prune(&store, &unmet, NOW);
    prune(&store, &unmet, NOW);
    assert!(!is_idle(&store, &unmet, NOW));
}

//! What happens between the parts of a prune: writers that come after the marking, after the
//! condemnation, in the middle of the sweep; and those that have been there for hours.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::condemn::Condemning;
use super::testing::{NOW, New, Store, policy};
use super::{Plan, Policy, Report, Scope};
use crate::catalog::blob::{BlobKind, NewBlob};
use crate::catalog::{Error, sync};
use crate::graph::ImageGraph;
use crate::oci::{Digest, media};

fn of<'a>(layers: &'a [&'a str]) -> New<'a> {
    New {
        layers,
        ..New::default()
    }
}

fn layer(text: &str) -> Digest {
    Digest::of(text.repeat(3_000).as_bytes())
}

/// More blobs that nothing needs than one batch of the sweep takes; they go before layers do.
fn loose(store: &Store) {
    for number in 0..1_100 {
        let text = format!("loose {number}");
        store.blob(text.as_bytes(), BlobKind::Config, media::CONFIG, false);
    }
}

/// As many again, of another rank.
fn loose_layers(store: &Store) {
    for number in 0..1_100 {
        let text = format!("loose layer {number}");
        store.blob(text.as_bytes(), BlobKind::Layer, media::LAYER, false);
    }
}

/// The graph, and the plan that was made of it.
fn planned(store: &Store) -> (ImageGraph, Plan) {
    let graph = store.graph();
    let plan = super::plan(&store.layout, &graph, &Policy::default(), NOW).unwrap();
    (graph, plan)
}

/// Prunes up to the sweep, which is for the caller.
fn condemn(store: &Store) {
    let (graph, plan) = planned(store);
    let doomed = super::condemn::doomed(&graph, &plan);
    let mut condemning = Condemning::new(&store.layout, &graph, &plan, doomed, NOW);
    condemning
        .run(&store.catalog, &mut Report::default(), &mut || true)
        .unwrap();
}

fn sweep(store: &Store) -> Report {
    super::finish(&store.layout, &store.catalog, NOW).unwrap()
}

/// A writer's record of a blob that it has just made: what `Lease::publish_blob` commits before
/// the file is renamed into place.
fn record(store: &Store, lease: &str, digest: Digest) {
    let new = NewBlob {
        digest,
        size: 3_000,
        allocated: 4_096,
        kind: BlobKind::Layer,
        media_type: media::LAYER,
        ours: true,
        boot: "",
    };
    let written = store.catalog.write::<_, Error>(|tx| {
        let id = tx.put_blob(new, NOW)?;
        Ok(tx.lease_blob(lease, id)?)
    });
    written.unwrap();
}

#[test]
fn a_cache_hit_between_mark_and_sweep_keeps_the_old_image_and_its_layers() {
    let store = Store::new();
    let base = store.image("base", of(&["old"]));
    let step = store.image(
        "step",
        New {
            parent: Some(base),
            layers: &["old", "own"],
            ..New::default()
        },
    );
    let gone = store.image("gone", of(&["g"]));
    let (graph, plan) = planned(&store);
    // A build finds the step in its cache, by the row that is still there, and pins it.
    let _lock = store.lease("build");
    store.lease_blob("build", step);
    let report = store.execute(&graph, plan);
    assert!(store.has(&step) && store.has(&base) && store.has(&layer("old")));
    assert!(!store.has(&gone) && report.rescued > 0);
    store.check();
}

#[test]
fn an_image_that_is_condemned_is_no_cache_hit_any_more() {
    let store = Store::new();
    let step = store.image("step", of(&["a"]));
    let key = Digest::of(b"key");
    let record = |tx: &crate::catalog::Writer| {
        let row = tx.blob(&step)?.unwrap();
        Ok(tx.put_cache_record(&key, row.id, 1_000)?)
    };
    store.catalog.write::<_, Error>(record).unwrap();
    assert_eq!(
        store.catalog.read(|tx| tx.cached_image(&key)).unwrap(),
        Some(step)
    );
    condemn(&store);
    assert_eq!(
        store.catalog.read(|tx| tx.cached_image(&key)).unwrap(),
        None
    );
    sweep(&store);
    assert_eq!(store.count(), 0);
}

#[test]
fn a_layer_that_a_writer_makes_again_after_its_condemnation_keeps_its_file() {
    let store = Store::new();
    store.image("loose", of(&["a", "b"]));
    condemn(&store);
    let _lock = store.lease("build");
    record(&store, "build", layer("a"));
    assert!(sweep(&store).rescued == 0, "it is not even condemned");
    assert!(store.has(&layer("a")) && !store.has(&layer("b")));
    store.check();
}

#[test]
fn a_layer_that_a_writer_makes_again_in_the_middle_of_the_sweep_stands_afterwards() {
    let store = Store::new();
    loose(&store);
    store.image("loose", of(&["a"]));
    let (graph, plan) = planned(&store);
    let _lock = store.lease("build");
    let mut calls = 0;
    let report = super::execute(
        &store.layout,
        &store.catalog,
        &graph,
        plan,
        NOW,
        &mut |progress| {
            calls += 1;
            // After the first batch of the sweep: configs have gone, layers have not.
            if progress.items > 0 && !store.catalog.read(|tx| tx.has_lease("again")).unwrap() {
                let _again = store.lease("again");
                record(&store, "build", layer("a"));
            }
            true
        },
    );
    assert!(calls > 2);
    assert_eq!(report.unwrap().failures, []);
    assert!(
        store.has(&layer("a")),
        "the file of a pinned blob was swept"
    );
    assert_eq!(store.count(), 1);
}

#[test]
fn rows_are_forgotten_while_files_go_and_each_is_counted_once() {
    let store = Store::new();
    loose(&store);
    loose_layers(&store);
    let (graph, plan) = planned(&store);
    let (items, freed) = (plan.totals.items, plan.totals.freed);
    let report = store.execute(&graph, plan);
    assert_eq!(report.removed.items, items);
    assert_eq!((report.removed.freed, report.rescued), (freed, 0));
    assert_eq!(store.count(), 0);
    let mut rows = 0;
    store
        .catalog
        .read(|tx| tx.each_node(|_| rows += 1))
        .unwrap();
    assert_eq!(rows, 0);
}

#[test]
fn a_writer_that_comes_after_the_sweep_finds_nothing_and_makes_it_again() {
    let store = Store::new();
    store.image("loose", of(&["a"]));
    condemn(&store);
    sweep(&store);
    assert_eq!(store.catalog.read(|tx| tx.blob(&layer("a"))).unwrap(), None);
    let again = store.image("loose", of(&["a"]));
    store.tag("again:latest", again);
    store.prune_dangling();
    assert!(store.has(&again) && store.has(&layer("a")));
}

/// A pull of hours: everything that it made is old by every clock, and its lease is what keeps it.
#[test]
fn a_lease_that_is_held_for_hours_keeps_what_it_has_and_what_it_is_writing() {
    let store = Store::new();
    let lock = store.lease("pull");
    record(&store, "pull", layer("early"));
    store.blob(
        "early".repeat(3_000).as_bytes(),
        BlobKind::Layer,
        media::LAYER,
        true,
    );
    let private = store.layout.private();
    let partial = private.join("ingest/pull-2");
    fs::write(&partial, [1; 70_000]).unwrap();
    let tree = private.join("snapshots/pull-3");
    fs::create_dir_all(&tree).unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let files = [
        partial.clone(),
        private.join("leases/pull"),
        store.layout.blobs().path(&layer("early")),
    ];
    for file in &files {
        fs::File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
    for scope in [Scope::default(), Scope::all()] {
        assert_eq!(store.prune(&policy(scope)).removed.items, 0);
    }
    assert!(files.iter().all(|file| file.exists()) && tree.exists());
    // Killed, it keeps nothing.
    drop(lock);
    store.prune_dangling();
    assert!(files.iter().all(|file| !file.exists()) && !tree.exists());
    assert_eq!(store.catalog.read(|tx| tx.leases()).unwrap(), []);
}

/// Another tool knows no lease, and puts its blobs before their name; its files are young.
#[test]
fn an_image_that_another_tool_is_writing_is_left_alone_at_every_stage_of_it() {
    let store = Store::new();
    // The moment of a file that was written just now, by the clock that stamps files.
    let young = store.blob(b"young", BlobKind::Unknown, "", true);
    let real_now = store.layout.blobs().stat(&young).unwrap().unwrap().modified + 1;
    let prune = || {
        sync::index(&store.catalog, &store.layout, real_now).unwrap();
        sync::scan(&store.catalog, &store.layout, real_now).unwrap();
        let graph = ImageGraph::load(&store.catalog).unwrap();
        let plan = super::plan(&store.layout, &graph, &policy(Scope::all()), real_now).unwrap();
        let run = super::execute(
            &store.layout,
            &store.catalog,
            &graph,
            plan,
            real_now,
            &mut |_| true,
        );
        assert_eq!(run.unwrap().removed.items, 0);
    };
    let write = |text: &str| store.blob(text.as_bytes(), BlobKind::Unknown, "", true);
    let layer = write("layer");
    prune();
    let config = json!({ "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [layer] } })
    .to_string();
    let config_digest = write(&config);
    prune();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::MANIFEST,
        "config": { "mediaType": media::CONFIG, "digest": config_digest, "size": config.len() },
        "layers": [{ "mediaType": media::LAYER, "digest": layer, "size": 5 }],
    })
    .to_string();
    let digest = write(&manifest);
    prune();
    store.change_index(|index| {
        index.tag(
            "foreign:latest",
            media::MANIFEST,
            digest,
            manifest.len() as u64,
        );
    });
    prune();
    assert_eq!(store.count(), 4);
    store.prune(&policy(Scope::all()));
    assert_eq!(
        store.count(),
        3,
        "and when they are old, their name keeps them"
    );
}

/// skopeo and umoci replace index.json without a lock; what they name while the sweep is under way
/// is not swept.
#[test]
fn what_another_tool_names_between_condemnation_and_sweep_is_not_swept() {
    let store = Store::new();
    let old = store.image("old", of(&["a"]));
    let size = store.layout.blobs().stat(&old).unwrap().unwrap().size;
    condemn(&store);
    store.change_index(|index| {
        index.tag("back:latest", media::MANIFEST, old, size);
    });
    sync::index(&store.catalog, &store.layout, NOW).unwrap();
    sweep(&store);
    store.check();
    assert!(store.has(&old) && store.has(&layer("a")));
}

/// The same, where no command came in between that would have read the index.
#[test]
fn the_sweep_itself_reads_an_index_that_another_tool_has_replaced() {
    let store = Store::new();
    for number in 0..5 {
        store.image(&number.to_string(), of(&[]));
    }
    let old = store.image("old", of(&["a"]));
    let size = store.layout.blobs().stat(&old).unwrap().unwrap().size;
    condemn(&store);
    store.change_index(|index| {
        index.tag("back:latest", media::MANIFEST, old, size);
    });
    sweep(&store);
    sync::index(&store.catalog, &store.layout, NOW).unwrap();
    store.check();
    assert!(store.has(&old) && store.has(&layer("a")));
    assert_eq!(store.count(), 3);
}

#[test]
fn lists_and_sums_can_be_made_at_every_moment_of_a_prune() {
    let store = Store::new();
    let kept = store.image("kept", of(&["k"]));
    store.tag("kept:latest", kept);
    loose(&store);
    let (graph, plan) = planned(&store);
    let mut looks = 0;
    let report = super::execute(
        &store.layout,
        &store.catalog,
        &graph,
        plan,
        NOW,
        &mut |_| {
            let graph = ImageGraph::load(&store.catalog).unwrap();
            assert!(
                graph
                    .images()
                    .any(|image| image.node() == graph.find(&kept).unwrap())
            );
            let usage =
                super::usage(&store.layout, &graph, 0, NOW, super::Detail::default()).unwrap();
            assert!(usage.total > 0);
            looks += 1;
            true
        },
    );
    assert_eq!(report.unwrap().failures, []);
    assert!(looks > 3);
    assert_eq!(store.count(), 3);
}

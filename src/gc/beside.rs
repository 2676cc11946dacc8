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
    let mut condemning = Condemning::new(&store.layout, &graph, &plan, doomed, &|| NOW);
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
        &|| NOW,
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
            &|| real_now,
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

/// Another tool finds one of our layers, which is garbage and old, and leaves it as it is: it writes
/// a manifest around it, and no more.
fn reuse(store: &Store, text: &str) -> (Digest, u64) {
    let layer = layer(text);
    let config = json!({ "architecture": "amd64", "os": "linux", "author": "another tool",
        "rootfs": { "type": "layers", "diff_ids": [layer] } })
    .to_string();
    let config_digest = store.blob(config.as_bytes(), BlobKind::Unknown, "", true);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::MANIFEST,
        "config": { "mediaType": media::CONFIG, "digest": config_digest, "size": config.len() },
        "layers": [{ "mediaType": media::LAYER, "digest": layer, "size": 3_000 * text.len() }],
    })
    .to_string();
    let digest = store.blob(manifest.as_bytes(), BlobKind::Unknown, "", true);
    (digest, manifest.len() as u64)
}

fn name_it(store: &Store, (digest, size): (Digest, u64)) {
    store.change_index(|index| {
        index.tag("reused:latest", media::MANIFEST, digest, size);
    });
}

#[track_caller]
fn assert_reused(store: &Store, image: (Digest, u64)) {
    sync::index(&store.catalog, &store.layout, NOW).unwrap();
    store.check();
    assert!(store.has(&image.0) && store.has(&layer("a")) && !store.has(&layer("b")));
    assert_eq!(
        store.prune_dangling().removed.items,
        0,
        "it is whole and kept"
    );
    assert_eq!(store.count(), 3);
}

#[test]
fn a_garbage_layer_that_another_tool_names_again_between_mark_and_condemnation_stays() {
    let store = Store::new();
    store.image("loose", of(&["a", "b"]));
    let (graph, plan) = planned(&store);
    let image = reuse(&store, "a");
    name_it(&store, image);
    assert!(store.execute(&graph, plan).rescued > 0);
    assert_reused(&store, image);
}

#[test]
fn a_garbage_layer_that_another_tool_names_again_between_condemnation_and_sweep_stays() {
    let store = Store::new();
    store.image("loose", of(&["a", "b"]));
    condemn(&store);
    let image = reuse(&store, "a");
    name_it(&store, image);
    sweep(&store);
    assert_reused(&store, image);
}

#[test]
fn a_garbage_layer_that_another_tool_names_again_between_two_batches_of_the_sweep_stays() {
    let store = Store::new();
    loose(&store);
    store.image("loose", of(&["a", "b"]));
    let (graph, plan) = planned(&store);
    let mut image = None;
    let mut act = |progress: &super::Progress| {
        if progress.items > 0 && image.is_none() {
            let reused = reuse(&store, "a");
            name_it(&store, reused);
            image = Some(reused);
        }
        true
    };
    super::execute(
        &store.layout,
        &store.catalog,
        &graph,
        plan,
        &|| NOW,
        &mut act,
    )
    .unwrap();
    assert_reused(&store, image.expect("the sweep has more than one batch"));
}

/// Who holds `rstore/lock` for another tool loses nothing that the tool has seen and not named yet:
/// each batch of the sweep waits, and reads `index.json` again.
#[test]
fn nothing_is_swept_while_rstore_s_lock_is_held_for_another_tool() {
    let store = Store::new();
    store.image("loose", of(&["a", "b"]));
    condemn(&store);
    let lock = store.layout.lock_index().unwrap();
    let image = std::thread::scope(|scope| {
        let sweep = scope.spawn(|| sweep(&store));
        // Time enough for a sweep that does not wait.
        std::thread::sleep(Duration::from_millis(300));
        assert!(store.has(&layer("a")) && !sweep.is_finished());
        let image = reuse(&store, "a");
        let mut index = store.layout.index().unwrap();
        index.tag("reused:latest", media::MANIFEST, image.0, image.1);
        store.layout.write_index(&index, &lock).unwrap();
        drop(lock);
        assert!(sweep.join().unwrap().rescued > 0);
        image
    });
    assert_reused(&store, image);
}

/// `rmi NAME`, in whose way another comes between its look at the store and its end.
fn remove(store: &Store, name: &str, between: impl FnOnce()) -> Report {
    let graph = store.graph();
    let (_, node) = graph.tags().iter().find(|tag| tag.0 == name).unwrap();
    let removal = super::plan::Removal {
        node: *node,
        name: Some(name.to_owned()),
    };
    let plan = super::plan_removal(&store.layout, &graph, &[removal], NOW).unwrap();
    between();
    store.execute(&graph, plan)
}

#[test]
fn a_removal_takes_the_name_and_leaves_the_image_that_has_got_another_one_meanwhile() {
    let store = Store::new();
    let app = store.image("app", of(&["a"]));
    store.tag("app:1", app);
    let report = remove(&store, "app:1", || store.tag("app:2", app));
    assert_eq!(report.untagged, ["app:1"]);
    assert!(report.rescued > 0 && store.has(&app) && store.has(&layer("a")));
    store.check();
}

#[test]
fn a_removal_leaves_the_name_that_has_been_given_to_another_image_meanwhile() {
    let store = Store::new();
    let (old, new) = (
        store.image("old", of(&["a"])),
        store.image("new", of(&["b"])),
    );
    store.tag("app:1", old);
    let report = remove(&store, "app:1", || {
        store.untag("app:1");
        store.tag("app:1", new);
    });
    assert_eq!(report.untagged, Vec::<String>::new());
    assert!(!store.has(&old) && store.has(&new) && store.has(&layer("b")));
    store.check();
}

#[test]
fn a_removal_takes_a_name_that_has_gone_and_come_back_meanwhile() {
    let store = Store::new();
    let app = store.image("app", of(&["a"]));
    store.tag("app:1", app);
    let report = remove(&store, "app:1", || {
        store.untag("app:1");
        store.tag("app:1", app);
    });
    assert_eq!(report.untagged, ["app:1"]);
    assert_eq!(store.count(), 0);
}

/// What its writers rely on is not known, but a name that was asked for goes nevertheless.
#[test]
fn a_removal_takes_nothing_but_names_while_a_writer_is_older_than_the_catalog() {
    let store = Store::new();
    let app = store.image("app", of(&["a"]));
    store.tag("app:1", app);
    let path = store.layout.private().join("leases/of-a-lost-catalog");
    let lock = crate::lock::FileLock::exclusive(&path).unwrap();
    let report = remove(&store, "app:1", || ());
    assert_eq!(report.untagged, ["app:1"]);
    assert!(report.removed.items == 0 && store.has(&app) && store.has(&layer("a")));
    assert_eq!(store.prune_dangling().removed.items, 0);
    drop(lock);
    store.prune_dangling();
    assert_eq!(store.count(), 0);
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
        &|| NOW,
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

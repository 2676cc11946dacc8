//! What must hold of pruning, on real stores.

use std::fs;

use super::plan::{ItemKind, Removal};
use super::testing::{NOW, New, Store, policy};
use super::{Plan, Policy, Scope};
use crate::catalog::blob::{BlobKind, NewBlob};
use crate::catalog::builds::ContainerRow;
use crate::catalog::cache_mount::CacheMountRow;
use crate::catalog::{Catalog, Error, sync};
use crate::graph::ImageGraph;
use crate::lock::FileLock;
use crate::oci::Digest;

mod idle;
mod journal;
mod rules;
mod space;

fn layers<'a>(layers: &'a [&'a str]) -> New<'a> {
    New {
        layers,
        ..New::default()
    }
}

fn from<'a>(parent: Digest, layers: &'a [&'a str]) -> New<'a> {
    New {
        parent: Some(parent),
        layers,
        ..New::default()
    }
}

#[test]
fn prune_keeps_the_base_that_two_tags_share() {
    let store = Store::new();
    let base = store.image("base", layers(&["a"]));
    let one = store.image("one", from(base, &["a", "b"]));
    let two = store.image("two", from(base, &["a", "c"]));
    store.tag("one:latest", one);
    store.tag("two:latest", two);
    assert_eq!(store.prune_dangling().removed.items, 0);
    store.untag("one:latest");
    let report = store.prune_dangling();
    // The manifest, the config and the layer `b`.
    assert_eq!(report.removed.items, 3);
    assert!(store.has(&base) && store.has(&two) && !store.has(&one));
    assert_eq!(store.prune_dangling().removed.items, 0);
}

#[test]
fn what_other_tools_wrote_is_numbered_in_the_order_in_which_a_sweep_unlinks_it() {
    let store = Store::new();
    sync::build(&store.catalog, &store.layout, NOW).unwrap();
    for number in 0..50 {
        let bytes = format!("blob {number}");
        store.blob(bytes.as_bytes(), BlobKind::Layer, "", true);
    }
    sync::scan(&store.catalog, &store.layout, NOW).unwrap();
    let mut files = Vec::new();
    let listed = store.layout.blobs().list_with_inodes(|name, inode| {
        files.push((inode, name.unwrap()));
    });
    listed.unwrap();
    files.sort_unstable();
    let mut numbered = Vec::new();
    let read = store
        .catalog
        .read(|tx| tx.each_node(|row| numbered.push(row.digest)));
    read.unwrap();
    let files: Vec<Digest> = files.into_iter().map(|(_, digest)| digest).collect();
    assert_eq!(numbered, files);
}

#[test]
fn a_dangling_chain_of_a_thousand_goes_in_one_run() {
    let store = Store::new();
    let kept = store.image("kept", layers(&["k"]));
    store.tag("kept:latest", kept);
    let mut parent = store.image("first", layers(&["x"]));
    for number in 0..1_000 {
        parent = store.image(&format!("step {number}"), from(parent, &["x"]));
    }
    let report = store.prune_dangling();
    assert_eq!(report.removed.kinds[&ItemKind::Image].items, 1_001);
    assert_eq!(store.count(), 3);
}

#[test]
fn stages_and_intermediates_go_only_when_they_are_asked_for() {
    let store = Store::new();
    let base = store.image("base", layers(&["a"]));
    let builder = store.image("builder", from(base, &["a", "tools"]));
    let step = store.image("step", layers(&["s"]));
    let app = store.image(
        "app",
        New {
            parent: Some(step),
            stages: &[builder],
            layers: &["s", "bin"],
            ..New::default()
        },
    );
    store.tag("app:latest", app);
    assert_eq!(store.prune_dangling().removed.items, 0);
    let stages = policy(Scope {
        stages: true,
        ..Scope::default()
    });
    store.prune(&stages);
    assert!(!store.has(&builder) && !store.has(&base) && store.has(&step));
    let intermediates = policy(Scope {
        intermediates: true,
        ..Scope::default()
    });
    store.prune(&intermediates);
    assert!(!store.has(&step) && store.has(&app));
    assert_eq!(store.prune(&policy(Scope::all())).removed.items, 0);
}

#[test]
fn rmi_takes_what_only_the_image_needed_and_never_an_ancestor_of_a_tagged_one() {
    let store = Store::new();
    let base = store.image("base", layers(&["a"]));
    let step = store.image("step", from(base, &["a", "b"]));
    let app = store.image("app", from(step, &["a", "b", "c"]));
    let other = store.image("other", from(base, &["a", "d"]));
    store.tag("app:latest", app);
    store.tag("app:again", app);
    store.tag("other:latest", other);
    let loose = store.image("loose", layers(&["l"]));
    let remove = |text: &str| {
        let graph = store.graph();
        let found = graph.resolve(text).unwrap();
        let target = Removal {
            node: found.node,
            name: found.name,
        };
        let plan = super::plan_removal(&store.layout, &graph, &[target], NOW).unwrap();
        let report = store.execute(&graph, plan);
        store.check();
        report
    };
    let report = remove("app");
    assert_eq!(report.untagged, ["app:latest"]);
    assert_eq!(report.removed.items, 0);
    remove(&app.to_string());
    assert!(!store.has(&app) && !store.has(&step) && store.has(&base) && store.has(&other));
    // What was dangling before is not rmi's business.
    assert!(store.has(&loose));
    // An ancestor of a tagged image stays, even when it is named.
    assert_eq!(remove(&base.to_string()).removed.items, 0);
}

#[test]
fn signatures_go_with_the_image_and_stay_with_it() {
    let store = Store::new();
    let app = store.image("app", layers(&["a"]));
    store.tag("app:latest", app);
    let signature = store.image(
        "signature",
        New {
            subject: Some(app),
            layers: &["signed"],
            ..New::default()
        },
    );
    assert_eq!(store.prune_dangling().removed.items, 0);
    store.untag("app:latest");
    store.prune_dangling();
    assert!(!store.has(&signature) && store.count() == 0);
}

#[test]
fn a_tagged_index_keeps_its_members_and_an_untagged_entry_goes_from_the_index() {
    let store = Store::new();
    let one = store.image("one", layers(&["a"]));
    let index = store.index(&[one]);
    store.tag("multi:latest", index);
    let loose = store.image("loose", layers(&["b"]));
    store.change_index(|index| {
        index.tag("soon:untagged", crate::oci::media::MANIFEST, loose, 1);
    });
    // An entry without a name, as other tools leave them.
    let path = store.layout.index_path();
    let text = fs::read_to_string(&path).unwrap();
    let text = text
        .replace("soon:untagged", "x")
        .replace(r#""org.opencontainers.image.ref.name":"x","#, "");
    fs::write(&path, text).unwrap();
    assert_eq!(store.layout.index().unwrap().entries().len(), 2);
    store.prune_dangling();
    assert!(store.has(&one) && !store.has(&loose));
    assert_eq!(store.layout.index().unwrap().entries().len(), 1);
}

#[test]
fn a_live_lease_keeps_what_it_pins_and_a_dead_one_does_not() {
    let store = Store::new();
    let base = store.image("base", layers(&["a"]));
    let step = store.image("step", from(base, &["a", "b"]));
    let lock = store.lease("build1");
    store.lease_blob("build1", step);
    fs::write(store.layout.private().join("ingest/build1-7"), [1; 9_000]).unwrap();
    assert_eq!(store.prune_dangling().removed.items, 0);
    assert!(store.has(&base));
    drop(lock);
    let report = store.prune_dangling();
    assert_eq!(report.removed.kinds[&ItemKind::Temporary].items, 1);
    assert_eq!(store.count(), 0);
    assert!(!store.layout.private().join("leases/build1").exists());
    assert_eq!(store.catalog.read(|tx| tx.leases()).unwrap(), []);
}

#[test]
fn what_a_writer_pins_between_mark_and_condemn_stays() {
    let store = Store::new();
    let base = store.image("base", layers(&["a"]));
    let step = store.image("step", from(base, &["a", "b"]));
    let gone = store.image("gone", layers(&["g"]));
    let graph = store.graph();
    let plan = super::plan(&store.layout, &graph, &Policy::default(), NOW).unwrap();
    let _lock = store.lease("late");
    store.lease_blob("late", step);
    let report = store.execute(&graph, plan);
    store.check();
    assert!(store.has(&step) && store.has(&base) && !store.has(&gone));
    assert_eq!(report.rescued, 6);
}

#[test]
fn what_is_tagged_between_mark_and_condemn_stays() {
    let store = Store::new();
    let step = store.image("step", layers(&["a"]));
    let graph = store.graph();
    let plan = super::plan(&store.layout, &graph, &Policy::default(), NOW).unwrap();
    // Another tool's hand: the catalog is not told.
    let size = store.layout.blobs().stat(&step).unwrap().unwrap().size;
    store.change_index(|index| {
        index.tag("step:latest", crate::oci::media::MANIFEST, step, size);
    });
    assert_eq!(store.execute(&graph, plan).removed.items, 0);
    store.check();
}

#[test]
fn a_new_image_on_an_old_layer_between_mark_and_condemn_keeps_the_layer() {
    let store = Store::new();
    let old = store.image("old", layers(&["shared", "own"]));
    let graph = store.graph();
    let plan = super::plan(&store.layout, &graph, &Policy::default(), NOW).unwrap();
    let new = store.image("new", layers(&["shared"]));
    store.tag("new:latest", new);
    store.execute(&graph, plan);
    store.check();
    assert!(store.has(&new) && !store.has(&old));
}

/// Condemns what a plan lists, and stops before the sweep, as a crash would.
fn crash_before_the_sweep(store: &Store) -> Plan {
    let graph = store.graph();
    let plan = super::plan(&store.layout, &graph, &Policy::default(), NOW).unwrap();
    let mut report = super::Report::default();
    let doomed = super::condemn::doomed(&graph, &plan);
    let mut condemning =
        super::condemn::Condemning::new(&store.layout, &graph, &plan, doomed, &|| NOW);
    condemning
        .run(&store.catalog, &mut report, &mut || true)
        .unwrap();
    plan
}

#[test]
fn a_crash_between_condemning_and_sweeping_is_ended_by_the_next_command() {
    let store = Store::new();
    store.image("loose", layers(&["a"]));
    let chain = Digest::of(b"chain");
    store.snapshot(chain);
    let plan = crash_before_the_sweep(&store);
    assert_eq!(store.count(), 3);
    let report = super::finish(&store.layout, &store.catalog, NOW).unwrap();
    assert_eq!(report.removed, plan.totals);
    store.check();
    assert_eq!(store.count(), 0);
    let report = super::finish(&store.layout, &store.catalog, NOW).unwrap();
    assert_eq!(report.removed.items, 0);
}

#[test]
fn a_crash_between_condemning_and_sweeping_is_ended_by_the_next_prune() {
    let store = Store::new();
    store.image("loose", layers(&["a"]));
    crash_before_the_sweep(&store);
    assert_eq!(store.prune_dangling().removed.items, 3);
    assert_eq!(store.count(), 0);
}

#[test]
fn a_condemned_layer_that_a_writer_puts_again_is_not_swept() {
    let store = Store::new();
    store.image("loose", layers(&["a", "b"]));
    crash_before_the_sweep(&store);
    let _lock = store.lease("build");
    let bytes = "a".repeat(3_000);
    let digest = Digest::of(bytes.as_bytes());
    store
        .catalog
        .write::<_, Error>(|tx| {
            let new = NewBlob {
                digest,
                size: 3_000,
                allocated: 4_096,
                kind: BlobKind::Layer,
                media_type: "",
                ours: true,
                boot: "",
            };
            let id = tx.put_blob(new, NOW)?;
            Ok(tx.lease_blob("build", id)?)
        })
        .unwrap();
    super::finish(&store.layout, &store.catalog, NOW).unwrap();
    assert!(store.has(&digest) && store.count() == 1);
    store.check();
}

#[test]
fn a_condemned_blob_that_a_new_document_points_at_is_rescued_by_the_sweep() {
    let store = Store::new();
    store.image("loose", layers(&["a"]));
    crash_before_the_sweep(&store);
    let layer = Digest::of("a".repeat(3_000).as_bytes());
    store
        .catalog
        .write::<_, Error>(|tx| {
            let id = tx.blob(&layer)?.unwrap().id;
            Ok(tx.put_edges(9_999, &[(id, crate::oci::document::Role::Layer)])?)
        })
        .unwrap();
    super::finish(&store.layout, &store.catalog, NOW).unwrap();
    assert!(store.has(&layer) && store.count() == 1);
}

#[test]
fn a_prune_that_is_told_to_stop_leaves_a_store_that_the_next_one_finishes() {
    let store = Store::new();
    for number in 0..20 {
        store.image(&number.to_string(), layers(&[&number.to_string()]));
    }
    let graph = store.graph();
    let plan = super::plan(&store.layout, &graph, &Policy::default(), NOW).unwrap();
    let mut calls = 0;
    let report = super::execute(
        &store.layout,
        &store.catalog,
        &graph,
        plan,
        &|| NOW,
        &mut |_| {
            calls += 1;
            calls < 2
        },
    )
    .unwrap();
    assert!(report.stopped);
    super::finish(&store.layout, &store.catalog, NOW).unwrap();
    assert_eq!(store.count(), 0);
}

#[test]
fn a_second_prune_is_told_that_one_is_running() {
    let store = Store::new();
    let _held = super::execute::lock(&store.layout).unwrap();
    let graph = store.graph();
    let plan = super::plan(&store.layout, &graph, &Policy::default(), NOW).unwrap();
    let error = super::execute(
        &store.layout,
        &store.catalog,
        &graph,
        plan,
        &|| NOW,
        &mut |_| true,
    )
    .unwrap_err();
    assert!(error.is_busy(), "{error}");
}

#[test]
fn what_another_tool_wrote_is_left_alone_until_it_is_old() {
    let store = Store::new();
    let foreign = New {
        foreign: true,
        ..layers(&["theirs"])
    };
    let image = store.image("theirs", foreign);
    let stat = store.layout.blobs().stat(&image).unwrap().unwrap();
    let graph = store.graph();
    let soon = stat.modified + 1_000;
    let plan = super::plan(&store.layout, &graph, &Policy::default(), soon).unwrap();
    assert!(plan.is_empty() && plan.notes.len() == 1, "{plan:?}");
    let roots = super::collect_roots(&store.layout, &graph, super::policy::DEFAULT_GRACE, soon);
    assert_eq!(roots.unwrap().roots.len(), 3);
    assert_eq!(store.prune_dangling().removed.items, 3);
}

#[test]
fn a_writer_of_a_lost_catalog_stops_every_removal_until_it_ends() {
    let store = Store::new();
    store.image("loose", layers(&["a"]));
    let lock = store.lease("old");
    std::thread::sleep(std::time::Duration::from_millis(20));
    let store = store.lose_catalog();
    let plan = store.plan(&Policy::default());
    assert!(plan.is_empty() && plan.notes[0].contains("old"), "{plan:?}");
    drop(lock);
    assert_eq!(store.prune_dangling().removed.items, 3);
}

#[test]
fn snapshots_stay_with_their_images_and_go_when_asked_for() {
    let store = Store::new();
    let app = store.image("app", layers(&["a"]));
    store.tag("app:latest", app);
    let graph = store.graph();
    let chain = graph.chain_ids(graph.images().next().unwrap())[0];
    let (kept, gone) = (store.snapshot(chain), store.snapshot(Digest::of(b"gone")));
    // The same file in both: it gives its bytes back with its last name.
    fs::write(kept.join("shared"), vec![3; 70_000]).unwrap();
    fs::hard_link(kept.join("shared"), gone.join("shared")).unwrap();
    store.prune_dangling();
    assert!(kept.exists() && !gone.exists());
    let snapshots = policy(Scope {
        snapshots: true,
        ..Scope::none()
    });
    store.prune(&snapshots);
    assert!(!kept.exists() && store.has(&app));
    assert_eq!(store.catalog.read(|tx| tx.snapshots()).unwrap(), []);
}

#[test]
fn debris_of_dead_builds_goes_and_running_ones_are_left_alone() {
    let store = Store::new();
    let private = store.layout.private();
    let lock = store.lease("alive");
    let row = |id: &str, lease: &str, status| ContainerRow {
        id: id.to_owned(),
        lease: lease.to_owned(),
        image: None,
        step: "RUN x".to_owned(),
        created: 1_000,
        status,
    };
    let rows = [
        row("c1", "alive", None),
        row("c2", "dead", None),
        row("c3", "dead", Some(1)),
    ];
    for row in rows {
        fs::create_dir_all(private.join("containers").join(&row.id).join("upper")).unwrap();
        store
            .catalog
            .write::<_, Error>(|tx| Ok(tx.put_container(&row)?))
            .unwrap();
    }
    fs::create_dir_all(private.join("snapshots/alive-staging")).unwrap();
    fs::create_dir_all(private.join("snapshots/unrowed")).unwrap();
    fs::create_dir_all(private.join("containers/.gone.c9/work")).unwrap();
    fs::write(private.join("ingest/dead-1"), "x").unwrap();
    fs::write(store.layout.root().join(".index.json.42.tmp"), "x").unwrap();
    fs::write(store.layout.blobs().directory().join("stray"), "x").unwrap();
    let exists = |name: &str| private.join(name).exists();
    store.prune_dangling_with_siblings();
    assert!(exists("containers/c1") && exists("snapshots/alive-staging"));
    // Younger than a live lease: it may be its own.
    assert!(exists("snapshots/unrowed"));
    assert!(!exists("containers/c2") && !exists("containers/c3"));
    assert!(!exists("containers/.gone.c9") && !exists("ingest/dead-1"));
    assert!(!store.layout.root().join(".index.json.42.tmp").exists());
    assert_eq!(store.count(), 0);
    drop(lock);
    store.prune_dangling();
    assert!(!exists("snapshots/unrowed") && !exists("containers/c1"));
}

#[test]
fn a_saved_plan_removes_what_it_lists_and_nothing_else() {
    let store = Store::new();
    let one = store.image("one", layers(&["a", "s"]));
    let two = store.image("two", layers(&["b"]));
    let plan = store.plan(&Policy::default());
    let saved: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(saved.items, plan.items);
    // Meanwhile one of them is tagged, and a third comes, which shares a layer.
    store.tag("two:latest", two);
    let three = store.image("three", layers(&["s"]));
    let graph = store.graph();
    let plan = super::plan_within(&store.layout, &graph, &saved, NOW).unwrap();
    store.execute(&graph, plan);
    store.check();
    assert!(!store.has(&one) && store.has(&two) && store.has(&three));
}

#[test]
fn until_spares_what_was_used_since_and_what_that_was_made_from() {
    let store = Store::new();
    let base = store.image("base", layers(&["a"]));
    let step = store.image("step", from(base, &["a", "b"]));
    let other = store.image("other", from(base, &["a", "c"]));
    store
        .catalog
        .write::<_, Error>(|tx| {
            let id = tx.blob(&step)?.unwrap().id;
            Ok(tx.touch_image(id, 50_000)?)
        })
        .unwrap();
    let report = store.prune(&Policy {
        until: Some(40_000),
        ..Policy::default()
    });
    assert!(store.has(&base) && store.has(&step) && !store.has(&other));
    assert_eq!(report.removed.kinds[&ItemKind::Image].items, 1);
}

#[test]
fn tagged_images_go_only_under_a_policy_that_says_which() {
    let store = Store::new();
    for (number, name) in ["app:1", "app:2", "app:3", "db:1"].iter().enumerate() {
        let image = store.image(name, layers(&[name]));
        store.tag(name, image);
        store
            .catalog
            .write::<_, Error>(|tx| {
                let id = tx.blob(&image)?.unwrap().id;
                Ok(tx.touch_image(id, 10_000 * (number as i64 + 1))?)
            })
            .unwrap();
    }
    let tagged = Scope {
        tagged: true,
        ..Scope::default()
    };
    let graph = store.graph();
    assert!(super::plan(&store.layout, &graph, &policy(tagged.clone()), NOW).is_err());
    let report = store.prune(&Policy {
        keep_last: std::num::NonZeroUsize::new(1),
        keep: Some("^app:1$".to_owned()),
        ..policy(tagged)
    });
    assert_eq!(report.untagged, ["app:2"]);
    assert_eq!(store.layout.index().unwrap().entries().len(), 3);
}

#[test]
fn an_unreadable_tagged_image_stops_the_prune_and_removes_nothing() {
    let store = Store::new();
    let app = store.image("app", layers(&["a"]));
    store.tag("app:latest", app);
    store.image("loose", layers(&["b"]));
    fs::write(store.layout.blobs().path(&app), "{").unwrap();
    let store = store.lose_catalog();
    let error = super::plan(&store.layout, &store.graph(), &Policy::default(), NOW).unwrap_err();
    assert!(error.to_string().contains(&app.to_string()), "{error}");
    assert_eq!(store.count(), 6);
}

#[test]
fn a_lost_catalog_loses_no_tagged_image_and_forgets_no_parent() {
    let store = Store::new();
    let base = store.image("base", layers(&["a"]));
    let app = store.image("app", from(base, &["a", "b"]));
    store.tag("app:latest", app);
    let store = store.lose_catalog();
    assert_eq!(store.prune_dangling().removed.items, 0);
    assert!(store.has(&base));
    let graph = ImageGraph::load(&store.catalog).unwrap();
    assert_eq!(graph.ancestors(graph.find(&app).unwrap()).len(), 1);
    assert!(!sync::index(&store.catalog, &store.layout, NOW).unwrap());
}

/// A cache mount of 9,000 bytes that was last used at a time.
fn cache_mount(store: &Store, name: &str, last_used: i64) -> std::path::PathBuf {
    let path = store.layout.private().join("cache-mounts").join(name);
    fs::create_dir_all(path.join("data")).unwrap();
    fs::write(path.join("lock"), "").unwrap();
    fs::write(path.join("data/file"), [1; 9_000]).unwrap();
    let row = CacheMountRow {
        id: 0,
        key: Digest::of(name.as_bytes()),
        owners: "host".into(),
        name: format!("/{name}"),
        directory: name.into(),
        first_seen: 1,
        last_used,
    };
    let put = |tx: &crate::catalog::Writer| Ok(tx.put_cache_mount(&row)?);
    store.catalog.write::<_, Error>(put).unwrap();
    path
}

#[test]
fn cache_mounts_stay_until_they_are_asked_for_and_while_a_step_has_them() {
    let store = Store::new();
    let idle = cache_mount(&store, "idle", 10);
    let used = cache_mount(&store, "used", 10);
    let late = cache_mount(&store, "late", 20);
    let half_made = store.layout.private().join("cache-mounts/half-made");
    fs::create_dir(&half_made).unwrap();
    let lock = FileLock::exclusive(&used.join("lock")).unwrap();
    // One of which nothing is recorded is what a killed build left.
    assert_eq!(store.prune_dangling().removed.items, 1);
    assert!(!half_made.exists() && idle.exists() && used.exists() && late.exists());

    let mut policy = policy(Scope {
        cache_mounts: true,
        ..Scope::none()
    });
    policy.until = Some(20);
    let plan = store.plan(&policy);
    assert_eq!(plan.items.len(), 1);
    assert_eq!(plan.items[0].names(), ["/idle".to_owned()]);
    assert_eq!(plan.notes.len(), 1, "{:?}", plan.notes);
    let used_before = store.used();
    let report = store.prune(&policy);
    assert_eq!(report.removed.freed, plan.totals.freed);
    assert_eq!(used_before - store.used(), plan.totals.freed);
    assert!(!idle.exists() && used.exists() && late.exists());
    drop(lock);
    policy.until = None;
    assert_eq!(store.prune(&policy).removed.items, 2);
}

#[test]
fn a_cache_mount_that_is_taken_after_the_plan_is_kept() {
    let store = Store::new();
    let taken = cache_mount(&store, "taken", 10);
    let touched = cache_mount(&store, "touched", 10);
    let policy = policy(Scope {
        cache_mounts: true,
        ..Scope::none()
    });
    let graph = store.graph();
    let plan = super::plan(&store.layout, &graph, &policy, NOW).unwrap();
    assert_eq!(plan.items.len(), 2);
    let _lock = FileLock::exclusive(&taken.join("lock")).unwrap();
    let touch = |tx: &crate::catalog::Writer| Ok(tx.touch_cache_mount("touched", 11)?);
    assert!(store.catalog.write::<_, Error>(touch).unwrap());
    let report = store.execute(&graph, plan);
    assert_eq!((report.removed.items, report.rescued), (0, 2));
    assert!(taken.exists() && touched.exists());
}

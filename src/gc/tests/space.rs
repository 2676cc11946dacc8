//! Ceilings and floors: how much goes, in which order, and what is told where it is not enough.

use super::super::disk::FileSystem;
use super::super::kept::KeptFor;
use super::super::policy::{Room, Space};
use super::super::target::Target;
use super::*;

/// A policy under which the store is to give up this many bytes at least.
fn give_up(store: &Store, bytes: u64, scope: Scope) -> Policy {
    let used = crate::fsutil::allocated_tree(store.layout.root()).unwrap();
    Policy {
        space: Space {
            max_used: Some(Room::Bytes(used - bytes)),
            ..Space::default()
        },
        ..policy(scope)
    }
}

/// Loose images, each with a layer of its own, the last of them used the longest ago.
fn loose(store: &Store, count: usize) -> Vec<Digest> {
    let image = |number: usize| {
        let name = format!("loose {number}");
        let image = store.image(&name, layers(&[&name]));
        store.used_at(image, 100_000 - 1_000 * number as i64);
        image
    };
    (0..count).map(image).collect()
}

/// What one of them takes: manifest, config and layer.
const ONE: u64 = 4_096 + 4_096 + 24_576 + 4_096;

#[test]
fn a_ceiling_takes_the_least_recently_used_and_no_more_than_it_must() {
    let store = Store::new();
    let images = loose(&store, 5);
    let graph = store.graph();
    let policy = give_up(&store, ONE + 1, Scope::default());
    let plan = super::super::plan(&store.layout, &graph, &policy, NOW).unwrap();
    let target = plan.target.clone().unwrap();
    assert!(
        target.is_met() && target.freed >= target.wanted,
        "{target:?}"
    );
    // Two steps: without the last it would not have been enough.
    let images_gone: Vec<_> = plan
        .items
        .iter()
        .filter(|i| i.kind == ItemKind::Image)
        .collect();
    let last = images_gone
        .iter()
        .find(|i| i.digest == Some(images[3]))
        .unwrap();
    let place = plan
        .items
        .iter()
        .position(|i| i.digest == last.digest)
        .unwrap();
    let step = last.freed + plan.with(place).map(|item| item.freed).sum::<u64>();
    assert!(target.freed - step < target.wanted, "{target:?} {step}");
    let report = store.execute(&graph, plan);
    assert_eq!(report.removed.freed, target.freed);
    store.check();
    assert!(!store.has(&images[4]) && !store.has(&images[3]));
    assert!(store.has(&images[2]) && store.has(&images[0]));
}

#[test]
fn a_store_that_is_small_enough_loses_nothing() {
    let store = Store::new();
    loose(&store, 2);
    let policy = Policy {
        space: Space {
            max_used: Some(Room::Bytes(1 << 40)),
            ..Space::default()
        },
        ..Policy::default()
    };
    let graph = store.graph();
    let asked = super::super::Asked {
        explain: true,
        ..Default::default()
    };
    let plan = super::super::plan_asked(&store.layout, &graph, &policy, &asked, NOW).unwrap();
    assert!(plan.is_empty());
    let target = plan.target.unwrap();
    assert!(target.is_met() && target.wanted == 0);
    assert_eq!(plan.kept.len(), 1);
    assert_eq!(
        (plan.kept[0].because, plan.kept[0].images),
        (KeptFor::Space, 2)
    );
}

#[test]
fn children_go_before_the_images_they_were_made_from_however_old_these_are() {
    let store = Store::new();
    let base = store.image("base", layers(&["base"]));
    let child = store.image("child", from(base, &["base", "child"]));
    let other = store.image("other", layers(&["other"]));
    store.used_at(base, 10_000);
    store.used_at(child, 30_000);
    store.used_at(other, 20_000);
    let gone = |bytes| {
        let plan = store.plan(&give_up(&store, bytes, Scope::default()));
        [base, child, other].map(|image| plan.items.iter().any(|item| item.digest == Some(image)))
    };
    // The base is the oldest, and its turn comes when nothing stands on it any more.
    assert_eq!(gone(1), [false, false, true]);
    assert_eq!(gone(ONE), [false, true, true]);
    assert_eq!(gone(2 * ONE), [true, true, true]);
}

#[test]
fn what_nothing_can_use_goes_first() {
    let store = Store::new();
    let image = loose(&store, 1)[0];
    let stray = store.blob(
        &[7; 9_000],
        BlobKind::Layer,
        crate::oci::media::LAYER,
        false,
    );
    fs::write(store.layout.private().join("ingest/dead-1"), [1; 9_000]).unwrap();
    let policy = give_up(&store, 13_000, Scope::default());
    store.prune(&policy);
    assert!(store.has(&image) && !store.has(&stray));
    assert!(!store.layout.private().join("ingest/dead-1").exists());
}

#[test]
fn a_signature_goes_in_one_step_with_what_it_signs() {
    let store = Store::new();
    let app = store.image("app", layers(&["app"]));
    let new = New {
        subject: Some(app),
        layers: &["signed"],
        ..New::default()
    };
    let signature = store.image("signature", new);
    store.used_at(app, 50_000);
    store.prune(&give_up(&store, 1, Scope::default()));
    assert!(!store.has(&app) && !store.has(&signature) && store.count() == 0);
}

#[test]
fn the_reserved_space_is_a_floor_that_nothing_goes_below() {
    let store = Store::new();
    let images = loose(&store, 4);
    let used = crate::fsutil::allocated_tree(store.layout.root()).unwrap();
    let with = |max_used: Option<u64>, reserved: u64| Policy {
        space: Space {
            max_used: max_used.map(Room::Bytes),
            reserved: Some(Room::Bytes(reserved)),
            min_free: None,
        },
        ..Policy::default()
    };
    // A ceiling below the floor: the floor holds, and it is said that it does.
    let plan = store.plan(&with(Some(used - 3 * ONE), used - ONE - 100));
    let target = plan.target.clone().unwrap();
    assert!(
        !target.is_met() && target.reserved_is_in_the_way,
        "{target:?}"
    );
    assert!(target.freed <= ONE + 100 && target.short > 0, "{target:?}");
    // Alone it is what things go down to.
    let plan = store.plan(&with(None, used - 2 * ONE));
    let target = plan.target.clone().unwrap();
    assert!(
        target.is_met() && used - target.freed >= used - 2 * ONE,
        "{target:?}"
    );
    assert_eq!(plan.totals.kinds[&ItemKind::Image].items, 2);
    let graph = store.graph();
    store.execute(&graph, store.plan(&with(None, used - 2 * ONE)));
    assert!(store.has(&images[0]) && !store.has(&images[3]));
}

#[test]
fn where_there_is_not_enough_it_is_said_what_holds_the_rest() {
    let store = Store::new();
    let app = store.image("app", layers(&["app", "large"]));
    store.tag("app:latest", app);
    let pinned = store.image("pinned", layers(&["pinned"]));
    store
        .catalog
        .write::<_, Error>(|tx| {
            let id = tx.blob(&pinned)?.unwrap().id;
            tx.pin(id, 1)?;
            Ok(())
        })
        .unwrap();
    loose(&store, 1);
    let policy = Policy {
        space: Space {
            max_used: Some(Room::Bytes(0)),
            ..Space::default()
        },
        ..policy(Scope::all())
    };
    let plan = store.plan(&policy);
    let target = plan.target.clone().unwrap();
    assert!(!target.is_met() && target.short > 0);
    let held: Vec<_> = target
        .held_by
        .iter()
        .map(|holder| holder.what.as_str())
        .collect();
    assert_eq!(held[0], "tag app:latest");
    assert!(held[1].starts_with("pin "), "{held:?}");
    let kept: Vec<_> = plan
        .kept
        .iter()
        .map(|kept| (kept.because, kept.images))
        .collect();
    assert_eq!(kept, [(KeptFor::Tag, 1), (KeptFor::Pin, 1)]);
    store.prune(&policy);
}

#[test]
fn of_tagged_images_only_as_many_lose_their_tags_as_must() {
    let store = Store::new();
    let images: Vec<Digest> = (1..=4)
        .map(|number: i64| {
            let name = format!("app:{number}");
            let image = store.image(&name, layers(&[&name]));
            store.tag(&name, image);
            store.used_at(image, number * 10_000);
            image
        })
        .collect();
    // A second tag of one that goes, and a tag of one that a pin keeps, however old.
    store.tag("app:first", images[0]);
    let scope = Scope {
        tagged: true,
        ..Scope::default()
    };
    let report = store.prune(&give_up(&store, ONE + 1, scope));
    let mut untagged = report.untagged.clone();
    untagged.sort();
    assert_eq!(untagged, ["app:1", "app:2", "app:first"]);
    assert!(store.has(&images[2]) && store.has(&images[3]) && !store.has(&images[1]));
}

#[test]
fn a_tag_that_stays_keeps_what_its_image_was_made_from() {
    let store = Store::new();
    let base = store.image("base", layers(&["base"]));
    let stage = store.image("stage", layers(&["tools"]));
    let new = New {
        parent: Some(base),
        stages: &[stage],
        layers: &["base", "app"],
        ..New::default()
    };
    let app = store.image("app", new);
    store.tag("app:latest", app);
    store.used_at(app, 50_000);
    let old = store.image("old", layers(&["old"]));
    store.tag("old:latest", old);
    let scope = Scope {
        tagged: true,
        ..Scope::default()
    };
    let report = store.prune(&give_up(&store, 1, scope));
    assert_eq!(report.untagged, ["old:latest"]);
    assert!(store.has(&base) && store.has(&stage) && store.has(&app));
}

#[test]
fn snapshots_and_cache_mounts_go_by_their_last_use_too() {
    let store = Store::new();
    let app = store.image("app", layers(&["app"]));
    store.tag("app:latest", app);
    let mount = cache_mount(&store, "old", 10);
    let young = cache_mount(&store, "young", 90_000);
    let scope = Scope {
        cache_mounts: true,
        cache: true,
        ..Scope::none()
    };
    store.prune(&give_up(&store, 1, scope));
    assert!(!mount.exists() && young.exists());
}

#[test]
fn what_is_wanted_is_what_the_stricter_of_ceiling_and_floor_asks_for() {
    let file_system = FileSystem {
        size: 1_000,
        available: 100,
    };
    let wanted = |max_used, reserved, min_free| {
        let space = Space {
            max_used,
            reserved,
            min_free,
        };
        Target::of(&space, 500, file_system).wanted
    };
    let (bytes, percent) = (|n| Some(Room::Bytes(n)), |n| Some(Room::Percent(n)));
    assert_eq!(wanted(bytes(400), None, None), 100);
    assert_eq!(wanted(percent(30), None, None), 200);
    assert_eq!(wanted(None, None, percent(25)), 150);
    assert_eq!(wanted(None, None, bytes(50)), 0);
    assert_eq!(wanted(bytes(400), None, percent(25)), 150);
    assert_eq!(wanted(bytes(600), bytes(450), None), 0);
    assert_eq!(wanted(None, bytes(450), None), 50);
    assert_eq!(wanted(None, percent(60), None), 0);
}

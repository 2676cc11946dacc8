//! Scopes and the rules that spare; plans in files.

use std::num::NonZeroUsize;

use super::super::saved;
use super::super::{Asked, Error as GcError, Filter, Thing};
use super::*;

/// A filter of a test: what it takes.
struct Takes<F>(F);

impl<F: Fn(&Thing) -> bool> Filter for Takes<F> {
    fn passes(&self, thing: &Thing) -> bool {
        (self.0)(thing)
    }
}

fn tagged() -> Scope {
    Scope {
        tagged: true,
        ..Scope::default()
    }
}

/// Tags in this order, each used later than the one before it.
fn tags(store: &Store, names: &[&str]) -> Vec<Digest> {
    let image = |(number, name): (usize, &&str)| {
        let image = store.image(name, layers(&[name]));
        store.tag(name, image);
        store.used_at(image, 10_000 * (number as i64 + 1));
        image
    };
    names.iter().enumerate().map(image).collect()
}

fn left(store: &Store) -> Vec<String> {
    let index = store.layout.index().unwrap();
    let names = index.entries().iter().filter_map(|entry| entry.name());
    names.map(str::to_owned).collect()
}

#[test]
fn no_scope_but_tagged_ever_takes_a_tag() {
    let store = Store::new();
    tags(&store, &["a:1", "a:2", "b:1"]);
    for scope in [Scope::default(), Scope::all()] {
        store.prune(&Policy {
            keep_last: NonZeroUsize::new(1),
            until: Some(NOW),
            ..policy(scope)
        });
        assert_eq!(left(&store), ["a:1", "a:2", "b:1"]);
    }
}

#[test]
fn the_last_tags_of_each_repository_stay_by_last_use() {
    let store = Store::new();
    let images = tags(
        &store,
        &["a:1", "a:2", "a:3", "reg.example/x:1", "reg.example/x:2"],
    );
    // The same image built again under a new tag: the oldest image is the newest use.
    store.tag("a:4", images[0]);
    store.used_at(images[0], 90_000);
    store.prune(&Policy {
        keep_last: NonZeroUsize::new(2),
        ..policy(tagged())
    });
    assert_eq!(
        left(&store),
        ["a:1", "reg.example/x:1", "reg.example/x:2", "a:4"]
    );
    store.prune(&Policy {
        keep_last: NonZeroUsize::new(1),
        ..policy(tagged())
    });
    // Of two tags of one image the later one.
    assert_eq!(left(&store), ["reg.example/x:2", "a:4"]);
}

#[test]
fn a_pinned_image_keeps_its_tags_under_every_policy() {
    let store = Store::new();
    let images = tags(&store, &["a:1", "a:2"]);
    store
        .catalog
        .write::<_, Error>(|tx| {
            let id = tx.blob(&images[0])?.unwrap().id;
            tx.pin(id, 1)?;
            Ok(())
        })
        .unwrap();
    store.prune(&Policy {
        until: Some(NOW),
        ..policy(tagged())
    });
    assert_eq!(left(&store), ["a:1"]);
    assert!(store.has(&images[0]) && !store.has(&images[1]));
}

#[test]
fn a_filter_chooses_among_images_and_what_only_they_hold_goes_with_them() {
    let store = Store::new();
    let one = store.image("one", layers(&["one"]));
    let two = store.image("two", layers(&["two"]));
    let stray = store.blob(
        &[7; 9_000],
        BlobKind::Layer,
        crate::oci::media::LAYER,
        false,
    );
    fs::write(store.layout.private().join("ingest/dead-1"), [1; 9_000]).unwrap();
    let filter = Takes(|thing: &Thing| thing.image.is_some_and(|image| image.digest() == one));
    let graph = store.graph();
    let policy = Policy {
        filters: vec!["one".to_owned()],
        ..Policy::default()
    };
    let asked = Asked {
        filter: Some(&filter),
        explain: false,
        ..Asked::default()
    };
    let plan = super::super::plan_asked(&store.layout, &graph, &policy, &asked, NOW).unwrap();
    // Manifest, config and layer.
    assert_eq!(plan.totals.items, 3);
    store.execute(&graph, plan);
    store.check();
    assert!(!store.has(&one) && store.has(&two) && store.has(&stray));
    assert!(store.layout.private().join("ingest/dead-1").exists());
}

#[test]
fn an_image_restricts_a_prune_to_what_was_made_for_or_from_it() {
    let store = Store::new();
    let mut scope = Scope {
        intermediates: true,
        ..Scope::default()
    };
    let line = |name: &str| {
        let step = store.image(&format!("{name} step"), layers(&[name]));
        let other = format!("{name} more");
        let image = store.image(name, from(step, &[name, &other]));
        store.tag(&format!("{name}:latest"), image);
        (step, image)
    };
    let (a, b) = (line("a"), line("b"));
    let loose = store.image("loose", layers(&["loose"]));
    scope.image = Some(a.1);
    store.prune(&policy(scope));
    assert!(!store.has(&a.0) && store.has(&a.1));
    assert!(store.has(&b.0) && store.has(&loose));
}

#[test]
fn a_name_more_takes_no_step_of_an_image_that_its_age_spares() {
    for intermediates in [false, true] {
        let store = Store::new();
        let step = store.image("step", layers(&["step"]));
        let young = store.image("young", from(step, &["step", "young"]));
        store.used_at(young, 90_000);
        let scope = Scope {
            intermediates,
            ..Scope::default()
        };
        let policy = Policy {
            until: Some(50_000),
            ..policy(scope)
        };
        let without = store.plan(&policy);
        store.tag("young:latest", young);
        let named = store.plan(&policy);
        assert_eq!(named.items.len(), without.items.len());
        store.prune(&policy);
        assert!(store.has(&young));
        assert_eq!(store.has(&step), !intermediates);
    }
}

#[test]
fn a_signature_that_stays_keeps_what_it_was_made_from_as_one_that_its_age_spares_does() {
    let store = Store::new();
    let app = store.image("app", layers(&["app"]));
    let step = store.image("step", layers(&["step"]));
    let new = New {
        parent: Some(step),
        subject: Some(app),
        layers: &["signature"],
        ..New::default()
    };
    let signature = store.image("signature", new);
    store.used_at(signature, 90_000);
    let policy = Policy {
        until: Some(50_000),
        ..Policy::default()
    };
    store.prune(&policy);
    assert!(store.has(&step));
    store.tag("app:latest", app);
    store.prune(&policy);
    assert!(store.has(&step) && store.has(&signature));
}

/// The plan through a file, as another process would have it.
fn through_a_file(store: &Store, mut plan: Plan) -> (std::path::PathBuf, Plan) {
    let name = saved::store_name(&store.layout, &store.catalog, [7; 16]).unwrap();
    plan.store = Some(name.clone());
    let path = store.layout.root().join("../plan.json");
    saved::write(&path, &plan).unwrap();
    let read = saved::read(&path, &name).unwrap();
    (path, read)
}

#[test]
fn a_plan_from_a_file_does_what_the_prune_would_have_done() {
    let store = Store::new();
    tags(&store, &["a:1", "a:2"]);
    store.image("loose", layers(&["loose"]));
    store.snapshot(Digest::of(b"gone"));
    fs::write(store.layout.private().join("ingest/dead-1"), [1; 9_000]).unwrap();
    let policy = Policy {
        keep_last: NonZeroUsize::new(1),
        ..policy(tagged())
    };
    let foretold = store.plan(&policy);
    let (_, saved) = through_a_file(&store, foretold.clone());
    let graph = store.graph();
    let plan = super::super::plan_within(&store.layout, &graph, &saved, NOW).unwrap();
    assert_eq!(
        (&plan.totals, &plan.untag),
        (&foretold.totals, &foretold.untag)
    );
    assert_eq!(plan.items, foretold.items);
    let report = store.execute(&graph, plan);
    assert_eq!(report.removed, foretold.totals);
    assert_eq!(left(&store), ["a:2"]);
    store.check();
}

#[test]
fn what_a_saved_plan_does_not_list_stays_and_so_does_what_has_become_live() {
    let store = Store::new();
    let listed = store.image("listed", layers(&["listed"]));
    let revived = store.image("revived", layers(&["revived"]));
    let vanished = store.image("vanished", layers(&["vanished"]));
    let used = store.image("used", layers(&["used"]));
    let (_, saved) = through_a_file(&store, store.plan(&Policy::default()));
    store.used_at(used, NOW + 60_000);
    let later = store.image("later", layers(&["later"]));
    store.tag("revived:latest", revived);
    fs::remove_file(store.layout.blobs().path(&vanished)).unwrap();
    let graph = store.graph();
    let plan = super::super::plan_within(&store.layout, &graph, &saved, NOW).unwrap();
    let skipped = saved::skipped(&store.layout, &graph, &saved, &plan);
    // Manifest, config and layer of what has a tag now, and of what was used since.
    assert_eq!(skipped.live.len(), 6, "{skipped:?}");
    assert_eq!(skipped.gone, 1);
    store.execute(&graph, plan);
    assert!(!store.has(&listed) && store.has(&revived) && store.has(&later));
    assert!(store.has(&used));
}

#[test]
fn a_saved_plan_takes_no_tag_that_was_moved_pinned_or_used_since() {
    let store = Store::new();
    let images = tags(&store, &["a:moved", "a:pinned", "a:used", "a:old", "b:1"]);
    let policy = Policy {
        until: Some(45_000),
        ..policy(tagged())
    };
    let (_, saved) = through_a_file(&store, store.plan(&policy));
    assert_eq!(saved.untag.len(), 4);
    store.tag("a:moved", images[4]);
    let pin = |tx: &crate::catalog::Writer| {
        let id = tx.blob(&images[1])?.unwrap().id;
        tx.pin(id, 1)?;
        Ok(())
    };
    store.catalog.write::<_, Error>(pin).unwrap();
    store.used_at(images[2], NOW + 60_000);
    let graph = store.graph();
    let plan = super::super::plan_within(&store.layout, &graph, &saved, NOW).unwrap();
    assert_eq!(store.execute(&graph, plan).untagged, ["a:old"]);
    store.check();
}

#[test]
fn a_plan_of_another_store_or_another_format_is_refused() {
    let store = Store::new();
    store.image("loose", layers(&["loose"]));
    let (path, _) = through_a_file(&store, store.plan(&Policy::default()));
    let own = saved::store_name(&store.layout, &store.catalog, [9; 16]).unwrap();
    let refused = |text: &str, name: &super::super::plan::StoreName| {
        fs::write(&path, text).unwrap();
        match saved::read(&path, name) {
            Err(GcError::Plan { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    };
    let text = fs::read_to_string(&path).unwrap();
    let other = Store::new();
    let others = saved::store_name(&other.layout, &other.catalog, [8; 16]).unwrap();
    assert!(refused(&text, &others).contains("of the store"));
    assert!(refused(&text.replace(&own.id, "00"), &own).contains("made anew"));
    let older = text.replacen("\"schema\": 2", "\"schema\": 1", 1);
    assert!(refused(&older, &own).contains("format 1"));
    assert!(refused("{}", &own).contains("no plan"));
    assert!(refused("", &own).contains("no plan"));
    assert!(
        refused(&text.replace("\"dangling\": true", "\"dangling\": 7"), &own).contains("no plan")
    );
}

#[test]
fn a_plan_that_somebody_wrote_by_hand_removes_nothing_that_is_needed() {
    let store = Store::new();
    let app = store.image("app", layers(&["app"]));
    store.tag("app:latest", app);
    let loose = store.image("loose", layers(&["loose"]));
    let mut plan = store.plan(&Policy::default());
    let mut item = plan.items[0].clone();
    item.digest = Some(app);
    plan.items.push(item);
    let (_, saved) = through_a_file(&store, plan);
    let graph = store.graph();
    let plan = super::super::plan_within(&store.layout, &graph, &saved, NOW).unwrap();
    store.execute(&graph, plan);
    store.check();
    assert!(store.has(&app) && !store.has(&loose));
}

#[test]
fn what_went_is_in_the_journal_by_name() {
    let store = Store::new();
    tags(&store, &["a:1", "a:2"]);
    let graph = store.graph();
    let policy = Policy {
        name: Some("nightly".to_owned()),
        keep_last: NonZeroUsize::new(1),
        ..policy(tagged())
    };
    let plan = super::super::plan(&store.layout, &graph, &policy, NOW).unwrap();
    store.execute(&graph, plan);
    let journal = store.catalog.read(|tx| tx.journal_rows(10, true)).unwrap();
    let entry = &journal[0].entry;
    assert_eq!(entry.operation, "prune");
    assert!(entry.detail.starts_with("nightly: 1 image"), "{entry:?}");
    let items = &journal[0].particulars.items;
    let told: Vec<_> = items
        .iter()
        .map(|item| (item.kind.as_str(), item.reason.as_str()))
        .collect();
    assert!(told.contains(&("image", "taken by policy")), "{told:?}");
    let tag = items.iter().find(|item| item.kind == "tag").unwrap();
    assert_eq!(
        (tag.label.as_str(), tag.reason.as_str()),
        ("a:1", "taken by policy")
    );
}

/// The step that copied from it was an intermediate image's: the build was the tagged one's.
#[test]
fn a_stage_stays_a_stage_when_the_intermediate_image_that_used_it_goes() {
    let store = Store::new();
    let image = |name: &str, parent, stages: &[Digest]| {
        let layers = &[name][..];
        let new = New {
            parent,
            stages,
            layers,
            ..New::default()
        };
        store.image(name, new)
    };
    let stage = image("stage", None, &[]);
    let below = image("below", None, &[stage]);
    let between = image("between", Some(below), &[]);
    let app = image("app", Some(between), &[]);
    store.tag("app:latest", app);
    let intermediates = policy(Scope {
        intermediates: true,
        ..Scope::default()
    });
    assert!(store.prune(&intermediates).removed.items > 0);
    assert!(store.has(&stage) && !store.has(&below) && !store.has(&between));
    for again in [&intermediates, &Policy::default()] {
        assert_eq!(store.prune(again).removed.items, 0);
    }
    store.prune(&policy(Scope {
        stages: true,
        ..Scope::default()
    }));
    assert!(!store.has(&stage) && store.has(&app));
}

#[test]
fn a_signature_of_an_intermediate_image_goes_with_it_in_one_run_and_stays_with_it_otherwise() {
    let store = Store::new();
    let layers: &[&str] = &["a"];
    let below = store.image(
        "below",
        New {
            layers,
            ..New::default()
        },
    );
    let signature = New {
        subject: Some(below),
        layers: &["s"],
        ..New::default()
    };
    let signature = store.image("signature", signature);
    let above = New {
        parent: Some(below),
        layers: &["b"],
        ..New::default()
    };
    let app = store.image("app", above);
    store.tag("app:latest", app);
    assert_eq!(store.prune_dangling().removed.items, 0);
    let intermediates = policy(Scope {
        intermediates: true,
        ..Scope::default()
    });
    store.prune(&intermediates);
    assert!(!store.has(&below) && !store.has(&signature) && store.has(&app));
    assert_eq!(store.prune(&intermediates).removed.items, 0);
}

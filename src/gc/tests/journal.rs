//! What the journal says of a prune, however it ends.

use std::cell::Cell;

use super::super::condemn::{Condemning, doomed};
use super::super::deed::NOT_FINISHED;
use super::super::{Report, plan, plan_removal};
use super::*;
use crate::catalog::journal::{Actor, JournalRow};

/// A tagged image, and the plan that it is to go.
fn removal(store: &Store) -> (Digest, ImageGraph, Plan) {
    let app = store.image("app", layers(&["app"]));
    store.tag("app:latest", app);
    let graph = store.graph();
    let removal = Removal {
        node: graph.find(&app).unwrap(),
        name: None,
    };
    let plan = plan_removal(&store.layout, &graph, &[removal], NOW).unwrap();
    (app, graph, plan)
}

fn newest(store: &Store) -> JournalRow {
    let rows = store.catalog.read(|tx| tx.journal_rows(1, true)).unwrap();
    rows.into_iter().next().unwrap()
}

/// Kinds and labels of what it took away, without digests.
fn kinds(row: &JournalRow) -> Vec<&str> {
    let items = row.particulars.items.iter();
    items.map(|item| item.kind.as_str()).collect()
}

/// A clock that goes a quarter of a second each time that it is asked.
fn ticking(time: &Cell<i64>) -> i64 {
    time.set(time.get() + 250);
    time.get()
}

#[test]
fn a_removal_killed_before_its_sweep_says_who_took_what_and_that_it_is_not_finished() {
    let mut store = Store::new();
    store.catalog.act_as(Actor {
        uid: Some(1000),
        command: "rstore rmi app".to_owned(),
    });
    let (app, graph, plan) = removal(&store);
    let time = Cell::new(NOW);
    let clock = || ticking(&time);
    let mut condemning =
        Condemning::new(&store.layout, &graph, &plan, doomed(&graph, &plan), &clock);
    let mut report = Report::default();
    condemning
        .run(&store.catalog, &mut report, &mut || true)
        .unwrap();
    drop(condemning);
    let row = newest(&store);
    assert_eq!(row.entry.operation, "remove");
    assert_eq!(row.entry.subject, "app:latest");
    assert!(row.entry.detail.ends_with(NOT_FINISHED), "{row:?}");
    assert_eq!((row.actor.uid, row.entry.bytes), (Some(1000), 0));
    assert!(row.particulars.milliseconds.is_some());
    // Named things first.
    assert_eq!(kinds(&row), ["image", "tag"]);
    assert_eq!(row.particulars.items[0].names, ["app:latest"]);
    assert_eq!(row.particulars.items[0].digest, Some(app));
    assert_eq!(row.particulars.items[1].label, "app:latest");

    store.catalog.act_as(Actor {
        uid: Some(7),
        command: "rstore build .".to_owned(),
    });
    super::super::finish(&store.layout, &store.catalog, NOW).unwrap();
    let ended = newest(&store);
    assert_eq!((ended.id, &ended.actor), (row.id, &row.actor));
    assert_eq!(ended.entry.bytes, plan.totals.freed);
    let detail = &ended.entry.detail;
    assert!(
        detail.ends_with("; a later command ended it: 1 image, 1 config, 1 layer"),
        "{detail}"
    );
    assert_eq!(ended.particulars.items, row.particulars.items);
    store.check();
}

#[test]
fn a_removal_killed_before_its_first_batch_says_which_name_went_and_no_image() {
    let store = Store::new();
    let (app, graph, plan) = removal(&store);
    let clock = || NOW;
    let mut condemning =
        Condemning::new(&store.layout, &graph, &plan, doomed(&graph, &plan), &clock);
    let mut report = Report::default();
    condemning
        .run(&store.catalog, &mut report, &mut || false)
        .unwrap();
    drop(condemning);
    super::super::finish(&store.layout, &store.catalog, NOW).unwrap();
    assert!(store.has(&app));
    let row = newest(&store);
    assert_eq!(kinds(&row), ["tag"]);
    // The next prune says of itself what it takes, and its entry is its own.
    store.prune_dangling();
    let next = newest(&store);
    assert!(next.id > row.id && !store.has(&app));
    assert_eq!(kinds(&next), ["image"]);
}

#[test]
fn a_prune_that_sweeps_what_a_killed_one_left_ends_its_entry_too() {
    let store = Store::new();
    store.image("loose", layers(&["a"]));
    crash_before_the_sweep(&store);
    let killed = newest(&store);
    store.image("other", layers(&["b"]));
    store.prune_dangling();
    let rows = store.catalog.read(|tx| tx.journal_rows(9, true)).unwrap();
    let [own, ended] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    assert_eq!(ended.id, killed.id);
    assert!(
        ended.entry.detail.ends_with("; a later command ended it"),
        "{ended:?}"
    );
    assert!(own.id > ended.id && own.entry.bytes > 0);
    assert!(!own.entry.detail.contains(';'), "{own:?}");
}

#[test]
fn the_journal_says_how_long_a_prune_took_also_one_that_was_stopped_or_has_failed() {
    for calls in [u32::MAX, 1, 2] {
        let store = Store::new();
        store.image("loose", layers(&["a"]));
        let graph = store.graph();
        let policy = Policy::default();
        let plan = plan(&store.layout, &graph, &policy, NOW).unwrap();
        let time = Cell::new(NOW);
        let mut left = calls;
        let mut go_on = |_: &super::super::Progress| {
            left -= 1;
            left > 0
        };
        let clock = || ticking(&time);
        let report = super::super::execute(
            &store.layout,
            &store.catalog,
            &graph,
            plan,
            &clock,
            &mut go_on,
        );
        let row = newest(&store);
        assert_eq!(report.unwrap().stopped, calls != u32::MAX);
        assert!(row.particulars.milliseconds >= Some(250), "{row:?}");
        assert_eq!(row.entry.detail.ends_with(NOT_FINISHED), calls != u32::MAX);
        super::super::finish(&store.layout, &store.catalog, NOW).unwrap();
        let ended = newest(&store);
        assert_eq!(ended.id, row.id);
        assert!(!ended.entry.detail.contains(NOT_FINISHED), "{ended:?}");
    }
}

#[test]
fn a_prune_that_meets_an_error_says_so_with_what_went_and_in_what_time() {
    let store = Store::new();
    let loose = store.image("loose", layers(&["a"]));
    let graph = store.graph();
    let planned = plan(&store.layout, &graph, &Policy::default(), NOW).unwrap();
    let index = fs::read(store.layout.index_path()).unwrap();
    let mut calls = 0;
    // Between the condemnation and the sweep.
    let mut tear = |_: &super::super::Progress| {
        calls += 1;
        if calls == 2 {
            fs::write(store.layout.index_path(), "{").unwrap();
        }
        true
    };
    let time = Cell::new(NOW);
    let clock = || ticking(&time);
    let error = super::super::execute(
        &store.layout,
        &store.catalog,
        &graph,
        planned,
        &clock,
        &mut tear,
    )
    .unwrap_err();
    let row = newest(&store);
    assert_eq!(row.particulars.facts["error"], error.to_string());
    assert!(row.entry.detail.ends_with(NOT_FINISHED), "{row:?}");
    assert!(row.particulars.milliseconds >= Some(250), "{row:?}");
    assert_eq!(kinds(&row), ["image"]);
    assert!(store.has(&loose));
    fs::write(store.layout.index_path(), index).unwrap();
    super::super::finish(&store.layout, &store.catalog, NOW).unwrap();
    assert!(!store.has(&loose));
    assert_eq!(newest(&store).id, row.id);
}

#[test]
fn what_is_rescued_from_a_prune_is_not_said_to_have_gone() {
    let store = Store::new();
    let loose = store.image("loose", layers(&["a"]));
    let wanted = store.image("wanted", layers(&["b"]));
    let graph = store.graph();
    let planned = plan(&store.layout, &graph, &Policy::default(), NOW).unwrap();
    let mut pin = |_: &super::super::Progress| {
        let pin = |tx: &crate::catalog::Writer| {
            let id = tx.blob(&wanted)?.unwrap().id;
            tx.pin(id, 1)?;
            Ok(())
        };
        store.catalog.write::<_, Error>(pin).unwrap();
        true
    };
    let report = super::super::execute(
        &store.layout,
        &store.catalog,
        &graph,
        planned,
        &|| NOW,
        &mut pin,
    );
    assert!(report.unwrap().rescued > 0 && store.has(&wanted));
    let row = newest(&store);
    let items = &row.particulars.items;
    assert_eq!(kinds(&row), ["image"]);
    assert_eq!(items[0].digest, Some(loose));
}

#[test]
fn a_prune_of_which_nothing_came_leaves_no_entry() {
    let store = Store::new();
    let wanted = store.image("wanted", layers(&["b"]));
    let graph = store.graph();
    let planned = plan(&store.layout, &graph, &Policy::default(), NOW).unwrap();
    store.tag("wanted:latest", wanted);
    let report = store.execute(&graph, planned);
    assert_eq!(report.removed.items, 0);
    let rows = store.catalog.read(|tx| tx.journal_rows(9, true)).unwrap();
    assert_eq!(rows, []);
}

//! Each command killed, and its disk failing, at each of its system calls.

use std::fmt::Write;

use libc::{EIO, ENOSPC};

use super::scenario::{Scenario, Verb, assert_sound, assert_tidy, finish};
use super::trace::{Calls, Fault, run};
use crate::support::{Need, Rstore, skip_without};

/// At how many calls; `None`: at all.
fn points() -> Option<usize> {
    match std::env::var("RSTORE_TEST_FAULTS").as_deref() {
        Ok("all") => None,
        Ok(number) => Some(
            number
                .parse()
                .expect("RSTORE_TEST_FAULTS is a number, or all"),
        ),
        Err(_) => Some(5),
    }
}

/// Numbers from 1 to `count`, as many as are wanted, spread evenly.
fn spread(count: usize) -> Vec<usize> {
    match points() {
        Some(wanted) if wanted < count => (0..wanted)
            .map(|n| 1 + (2 * n + 1) * count / (2 * wanted))
            .collect(),
        // A few beyond: threads make the number of calls differ from run to run.
        _ => (1..=count + count / 50).collect(),
    }
}

/// The store after a command that met a fault; the command then succeeds, and a prune tidies up.
fn recovers(scenario: &Scenario, store: &Rstore, verb: Verb, before: &Rstore, what: &str) {
    assert_sound(store, before, what);
    finish(scenario.command(store, verb)).ok();
    store.ok(["prune", "-f"]);
    assert_sound(store, before, &format!("{what}, then again, then pruned"));
    assert_tidy(store, what);
    scenario.assert_pinned(store, what);
}

fn hits(verb: Verb, calls: Calls, name: &str, fault: impl Fn(usize) -> Fault) {
    if skip_without(&[Need::Root]) {
        return;
    }
    let scenario = Scenario::new();
    let before = scenario.store();
    let store = scenario.store();
    let mut command = scenario.command(&store, verb);
    let counted = run(&mut command, calls, Fault::None, false);
    counted.finished.ok();
    let (mut done, mut last) = (0, String::new());
    for at in spread(counted.calls) {
        let store = scenario.store();
        let mut command = scenario.command(&store, verb);
        let traced = run(&mut command, calls, fault(at), false);
        let Some(hit) = traced.hit else {
            // It ended before: so it succeeded.
            traced.finished.ok();
            continue;
        };
        done += 1;
        let what = format!(
            "{verb:?}, {name} at call {at} of {}, {hit}: {}",
            counted.calls, traced.finished
        );
        match fault(at) {
            Fault::Kill(_) => assert_eq!(traced.finished.code, -libc::SIGKILL, "{what}"),
            _ => {
                assert!(traced.finished.code >= 0, "{what}");
                assert!(!traced.finished.stderr.contains("panicked"), "{what}");
                let told = !traced.finished.stderr.trim().is_empty();
                assert!(traced.finished.code == 0 || told, "{what}");
            }
        }
        last = hit;
        recovers(&scenario, &store, verb, &before, &what);
    }
    assert!(done > 0, "no call of {verb:?} was hit");
    let mut line = String::new();
    let _ = write!(
        line,
        "{verb:?}: {name} at {done} of {} calls, the last {last}",
        counted.calls
    );
    println!("{line}");
}

fn killed(verb: Verb) {
    let calls = match points() {
        None => Calls::All,
        Some(_) => Calls::Changing,
    };
    hits(verb, calls, "kill -9", Fault::Kill);
}

fn full_disk(verb: Verb) {
    hits(verb, Calls::Filling, "disk full from there on", |at| {
        Fault::From(at, ENOSPC)
    });
}

fn broken_disk(verb: Verb) {
    hits(verb, Calls::Breaking, "an I/O error once", |at| {
        Fault::Once(at, EIO)
    });
}

#[test]
fn a_prune_killed_at_any_call_loses_no_image_and_leaves_nothing_unaccounted() {
    killed(Verb::Prune);
}

#[test]
fn a_tag_killed_at_any_call_loses_no_image_and_leaves_nothing_unaccounted() {
    killed(Verb::Tag);
}

#[test]
fn a_build_killed_at_any_call_loses_no_image_and_leaves_nothing_unaccounted() {
    killed(Verb::Build);
}

#[test]
fn an_import_killed_at_any_call_loses_no_image_and_leaves_nothing_unaccounted() {
    killed(Verb::Import);
}

#[test]
fn a_load_killed_at_any_call_loses_no_image_and_leaves_nothing_unaccounted() {
    killed(Verb::Load);
}

#[test]
fn a_prune_on_a_disk_that_fills_up_at_any_call_loses_no_image() {
    full_disk(Verb::Prune);
}

#[test]
fn a_tag_on_a_disk_that_fills_up_at_any_call_loses_no_image() {
    full_disk(Verb::Tag);
}

#[test]
fn a_build_on_a_disk_that_fills_up_at_any_call_loses_no_image() {
    full_disk(Verb::Build);
}

#[test]
fn an_import_on_a_disk_that_fills_up_at_any_call_loses_no_image() {
    full_disk(Verb::Import);
}

#[test]
fn a_load_on_a_disk_that_fills_up_at_any_call_loses_no_image() {
    full_disk(Verb::Load);
}

#[test]
fn a_prune_that_meets_an_io_error_at_any_call_loses_no_image() {
    broken_disk(Verb::Prune);
}

#[test]
fn a_tag_that_meets_an_io_error_at_any_call_loses_no_image() {
    broken_disk(Verb::Tag);
}

#[test]
fn a_build_that_meets_an_io_error_at_any_call_loses_no_image() {
    broken_disk(Verb::Build);
}

#[test]
fn an_import_that_meets_an_io_error_at_any_call_loses_no_image() {
    broken_disk(Verb::Import);
}

#[test]
fn a_load_that_meets_an_io_error_at_any_call_loses_no_image() {
    broken_disk(Verb::Load);
}

//! Prunes by policy on stores that builds made: what is left is of use, and whole.

use std::fs;

use rustix::process::{Signal, kill_process};
use sha2::Digest;

use crate::lifecycle::assert_accounted;
use crate::support::rstore::hex;
use crate::support::terminal::Terminal;
use crate::support::{Context, Rstore, machine};

/// A context whose steps write noise of their own.
fn noise(seed: &str) -> Context {
    let step = |n| format!("RUN dd if=/dev/urandom of=/{seed}-{n} bs=1k count=300 2>/dev/null\n");
    let steps: String = (0..3).map(step).collect();
    Context::new(&format!("FROM base\n{steps}"))
}

#[test]
fn a_ceiling_keeps_the_cache_of_what_was_built_last() {
    let store = Rstore::with_base();
    let (old, new) = (noise("old"), noise("new"));
    store.build(new.path(), &["-t", "app"]);
    store.build(old.path(), &["-t", "app"]);
    // Used again: it is the newer one now, though it was made first.
    store.build(new.path(), &["-t", "app"]);
    store.ok(["untag", "app"]);
    let used = machine::allocated(store.root());
    let ceiling = (used - 200_000).to_string();
    let report = store.json(&["prune", "-f", "--max-used-space", &ceiling]);
    assert_eq!(report["target_met"], true, "{report}");
    assert!(machine::allocated(store.root()) <= used - 200_000);
    store.verify();
    assert_accounted(&store);
    let again = store.build(new.path(), &["-t", "app"]);
    assert_eq!((again.cached(), again.ran()), (3, 0), "{again}");
    let lost = store.build(old.path(), &["-t", "app"]);
    assert!(lost.ran() > 0, "{lost}");
}

#[test]
fn a_plan_from_yesterday_leaves_alone_what_a_build_has_used_since() {
    let store = Rstore::with_base();
    let context = noise("a");
    store.build(context.path(), &["-t", "app"]);
    store.ok(["untag", "app"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plan.json");
    let file = file.to_str().unwrap();
    store.ok(["prune", "-n", "--out", file]);
    store.build(context.path(), &["-t", "app"]);
    store.run(["prune", "-f", "--plan", file]).ok();
    store.verify();
    let again = store.build(context.path(), &["-t", "app"]);
    assert_eq!((again.cached(), again.ran()), (3, 0), "{again}");
}

/// Blobs that nothing holds.
fn strays(store: &Rstore, count: usize) {
    let blobs = store.root().join("blobs/sha256");
    for number in 0..count {
        let bytes = format!("stray {number}");
        let name = hex(&sha2::Sha256::digest(bytes.as_bytes()));
        fs::write(blobs.join(name), bytes).unwrap();
    }
}

#[test]
fn a_prune_at_a_terminal_shows_how_far_it_is_and_ends_between_two_batches_when_told_to() {
    let store = Rstore::with_base();
    let whole = store.blobs().len();
    strays(&store, 10_000);
    let mut command = store.command();
    command.args(["prune", "-f", "-q", "--grace", "0s"]);
    let mut terminal = Terminal::run(&command, 24, 120);
    terminal.shows(&["removing [", "/10000", " left"]);
    kill_process(terminal.process(), Signal::INT).unwrap();
    assert_eq!(terminal.code(), Some(130));
    terminal.shows(&["stopped", "interrupted by SIGINT"]);
    let left = store.blobs().len();
    assert!(left > whole, "it was stopped: {left}");
    store.whole("base:latest");
    store.ok(["prune", "-f", "--grace", "0s"]);
    assert_eq!(store.blobs().len(), whole);
    store.verify();
    store.ok(["fsck"]);
    assert_accounted(&store);
}

//! Tags come and go; what they kept goes with them, and nothing else does.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::peers::skopeo;
use crate::support::{Context, Need, Rstore, machine, skip_without};

/// The bytes of the line `Total reclaimed space: N B`, exact.
#[track_caller]
fn total(report: &str) -> u64 {
    let line = report
        .lines()
        .find(|line| line.contains("eclaim") && line.contains("space:"));
    let line = line.unwrap_or_else(|| panic!("no total in:\n{report}"));
    let digits: String = line
        .rsplit(':')
        .next()
        .unwrap()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no number in {line:?}"))
}

/// A context whose steps write `kilobytes` of noise each, made of `seed`.
fn noise(seed: &str, steps: usize) -> Context {
    let step = |n| format!("RUN dd if=/dev/urandom of=/{seed}-{n} bs=1k count=200 2>/dev/null\n");
    let steps: String = (0..steps).map(step).collect();
    Context::new(&format!("FROM base\n{steps}"))
}

#[test]
fn a_dry_run_foretells_to_the_byte_what_a_prune_frees() {
    let store = Rstore::with_base();
    store.build(noise("a", 3).path(), &["-t", "app"]);
    store.build(noise("b", 3).path(), &["-t", "app"]);
    let before = (store.blobs(), store.tags());
    let foretold = total(&store.ok(["prune", "-n", "--bytes"]));
    assert!(foretold > 600_000, "{foretold}");
    assert_eq!(
        (store.blobs(), store.tags()),
        before,
        "a dry run changes nothing"
    );
    // The catalog's log shrinks when a prune folds it into the catalog.
    let catalog = |path: &Path| path.to_string_lossy().contains("/rstore/catalog.db");
    let used = machine::allocated_but(store.root(), catalog);
    let freed = total(&store.ok(["prune", "-f", "--bytes"]));
    let now = machine::allocated_but(store.root(), catalog);
    assert_eq!((freed, used - now), (foretold, foretold));
    store.verify();
    assert_eq!(store.tags(), before.1);
    assert_eq!(
        total(&store.ok(["prune", "-f", "--bytes"])),
        0,
        "once is enough"
    );
}

#[test]
fn a_prune_keeps_the_cache_of_what_is_tagged() {
    let store = Rstore::with_base();
    let context = noise("a", 3);
    store.build(context.path(), &["-t", "app"]);
    store.build(noise("b", 2).path(), &[]);
    store.ok(["prune", "-f"]);
    let again = store.build(context.path(), &["-t", "app"]);
    assert_eq!((again.cached(), again.ran()), (3, 0), "{again}");
}

#[test]
fn a_prune_keeps_the_base_that_two_tags_share() {
    let store = Rstore::with_base();
    let shared = noise("shared", 2);
    store.build(shared.path(), &["-t", "shared"]);
    let on_top = |text: &str| Context::new(&format!("FROM shared\nRUN echo {text} > /{text}\n"));
    store.build(on_top("one").path(), &["-t", "one"]);
    store.build(on_top("two").path(), &["-t", "two"]);
    let layers = store.layers("one:latest");
    store.ok(["untag", "shared"]);
    store.ok(["rmi", "one"]);
    store.ok(["prune", "-f"]);
    store.verify();
    assert_eq!(
        store.tags().keys().collect::<Vec<_>>(),
        [super::support::BASE, "two:latest"]
    );
    assert!(store.blob(&layers[1]).exists(), "two stands on it");
    assert!(
        !store.blob(layers.last().unwrap()).exists(),
        "only one had it"
    );
}

#[test]
fn an_untagged_image_is_dangling_and_goes_with_all_that_only_it_needed() {
    let store = Rstore::with_base();
    let baseline = store.blobs();
    store.build(noise("a", 4).path(), &["-t", "app"]);
    assert!(store.blobs().len() > baseline.len() + 4);
    store.ok(["untag", "app"]);
    assert!(!store.tags().contains_key("app:latest"));
    let dangling = store.ok(["images", "-a", "-q", "--filter", "dangling=true"]);
    assert!(!dangling.trim().is_empty());
    store.ok(["prune", "-f"]);
    assert_eq!(store.blobs(), baseline);
}

#[test]
fn rmi_takes_a_name_from_an_image_that_has_others_and_the_image_with_the_last() {
    let store = Rstore::with_base();
    let baseline = store.blobs();
    store.build(noise("a", 2).path(), &["-t", "app", "-t", "app:2"]);
    let whole = store.blobs();
    store.ok(["rmi", "app:2"]);
    assert_eq!(store.blobs(), whole);
    store.ok(["rmi", "app"]);
    assert_eq!(store.blobs(), baseline);
    store.run(["rmi", "app"]).fails(1, &["app"]);
}

#[test]
fn rmi_never_removes_an_ancestor_of_a_tagged_image() {
    let store = Rstore::with_base();
    store.build(noise("a", 2).path(), &["-t", "below"]);
    store.build(
        Context::new("FROM below\nRUN echo x > /x\n").path(),
        &["-t", "above"],
    );
    store.ok(["rmi", "below"]);
    store.verify();
    assert!(store.tags().contains_key("above:latest"));
    assert_eq!(store.layers("above:latest").len(), 4);
}

#[test]
fn a_tag_moves_and_names_are_as_docker_has_them() {
    let store = Rstore::with_base();
    store.build(noise("a", 1).path(), &["-t", "app"]);
    let first = store.digest("app:latest");
    store.ok(["tag", "app", "docker.io/library/kept:1"]);
    store.build(noise("b", 1).path(), &["-t", "app"]);
    assert_ne!(store.digest("app:latest"), first);
    assert_eq!(store.digest("kept:1"), first);
    store.ok(["prune", "-f"]);
    store.verify();
    let id = store.id("kept:1");
    store.ok(["tag", &id["sha256:".len()..][..12], "again"]);
    assert_eq!(store.digest("again:latest"), first);
}

#[test]
fn the_total_of_df_is_what_du_says() {
    let store = Rstore::with_base();
    store.build(noise("a", 2).path(), &["-t", "app"]);
    store.build(noise("b", 2).path(), &["-t", "app"]);
    assert_accounted(&store);
}

/// What `df` adds up to is what the disk holds, and it can explain all of it.
#[track_caller]
pub fn assert_accounted(store: &Rstore) {
    let (sum, unaccounted) = accounted(store);
    let used = machine::allocated(store.root());
    assert_eq!(sum, used, "df's sum and du");
    assert_eq!(unaccounted, 0);
}

/// The sum of df's rows, and the row of what it cannot explain.
fn accounted(store: &Rstore) -> (u64, u64) {
    let df = store.json(&["df"]);
    let rows = df["rows"]
        .as_array()
        .or(df.as_array())
        .unwrap_or_else(|| panic!("{df}"));
    let size = |row: &serde_json::Value| row["size"].as_u64().unwrap_or_else(|| panic!("{row}"));
    let is_unaccounted = |row: &&serde_json::Value| {
        row["type"]
            .as_str()
            .is_some_and(|t| t.to_lowercase() == "unaccounted")
    };
    let sum = rows.iter().map(size).sum();
    (sum, rows.iter().find(is_unaccounted).map_or(0, size))
}

#[test]
fn a_lost_catalog_costs_cache_and_never_an_image() {
    let store = Rstore::with_base();
    let context = noise("a", 2);
    store.build(context.path(), &["-t", "app"]);
    let before = (store.tags(), store.layers("app:latest"));
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = std::fs::remove_file(store.root().join("rstore").join(file));
    }
    let told = store.run(["images"]).ok();
    assert!(told.stderr.contains("catalog"), "{told}");
    assert!(told.stdout.contains("app"), "{told}");
    assert!(
        !store.run(["images"]).ok().stderr.contains("catalog"),
        "told once"
    );
    store.ok(["prune", "-f"]);
    store.verify();
    assert_eq!((store.tags(), store.layers("app:latest")), before);
    store.build(context.path(), &["-t", "app"]);
    store.verify();
}

#[test]
fn what_other_tools_put_into_the_store_is_seen_built_on_and_kept() {
    if skip_without(&[Need::Program("skopeo")]) {
        return;
    }
    let store = Rstore::with_base();
    let layout = |tag: &str| format!("oci:{}:{tag}", store.root().display());
    skopeo(&["copy", "-q", &layout("base:latest"), &layout("foreign:1")]);
    let listed = store.ok(["images"]);
    assert!(listed.contains("foreign"), "{listed}");
    store.build(
        Context::new("FROM foreign:1\nRUN echo x > /x\n").path(),
        &["-t", "app"],
    );
    store.ok(["untag", "base"]);
    store.ok(["prune", "-f"]);
    store.verify();
    assert!(store.tags().contains_key("foreign:1"));
}

#[test]
fn a_foreign_layout_is_a_store() {
    if skip_without(&[Need::Program("skopeo")]) {
        return;
    }
    let source = Rstore::with_base();
    let target = Rstore::new();
    let copy = |store: &Rstore| format!("oci:{}:base:latest", store.root().display());
    skopeo(&["copy", "-q", &copy(&source), &copy(&target)]);
    let listed = target.ok(["images"]);
    assert!(listed.contains("base"), "{listed}");
    target.build(
        Context::new("FROM base\nRUN echo x > /x\n").path(),
        &["-t", "app"],
    );
    target.verify();
}

#[test]
fn intermediates_and_snapshots_go_when_they_are_named() {
    let store = Rstore::with_base();
    let context = noise("a", 3);
    store.build(context.path(), &["-t", "app"]);
    let tags = store.tags();
    let snapshots = || -> BTreeSet<_> {
        let entries = std::fs::read_dir(store.root().join("rstore/snapshots")).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    assert!(!snapshots().is_empty());
    store.ok(["prune", "--snapshots", "-f"]);
    assert!(snapshots().is_empty(), "{:?}", snapshots());
    store.ok(["prune", "--intermediates", "-f"]);
    assert_eq!(store.tags(), tags);
    store.verify();
    store.ok(["prune", "--all", "-f"]);
    assert_eq!(store.tags(), tags);
    store.verify();
    // Manifest, config and layers of two tags, with their bases' layers shared.
    assert_eq!(
        store.blobs().len(),
        2 + 2 + store.layers("app:latest").len()
    );
    store.build(context.path(), &["-t", "app"]);
    store.verify();
}

#[test]
fn why_tells_the_path_from_a_tag_or_that_there_is_none() {
    let store = Rstore::with_base();
    store.build(noise("a", 2).path(), &["-t", "app"]);
    let parent = &store.layers("app:latest")[1];
    let why = store.ok(["why", parent]);
    assert!(why.contains("app:latest"), "{why}");
    let id = store.id("app:latest");
    store.ok(["untag", "app"]);
    let why = store.ok(["why", &id]);
    assert!(why.contains("nothing keeps it"), "{why}");
}

//! Durability is paid before a name appears: what a name reaches is on the disk before index.json
//! names it, and index.json's own name is after that.

#![cfg(target_arch = "x86_64")]

use super::scenario::{Scenario, VICTIM, Verb};
use super::trace::{Call, Calls, Fault, run};
use crate::support::{Need, skip_without};

/// The blobs that a name needs: manifest, config, layers.
fn needed(store: &crate::support::Rstore) -> Vec<String> {
    let mut digests = store.layers(VICTIM);
    digests.extend([store.digest(VICTIM), store.id(VICTIM)]);
    let hex = |digest: &String| digest.trim_start_matches("sha256:").to_owned();
    digests.iter().map(hex).collect()
}

fn assert_ordered(verb: Verb) {
    if skip_without(&[Need::Root]) {
        return;
    }
    let scenario = Scenario::new();
    let store = scenario.store();
    let mut command = scenario.command(&store, verb);
    let traced = run(&mut command, Calls::Changing, Fault::None, true);
    traced.finished.ok();
    let log = traced.log;
    let root = store.root().canonicalize().unwrap();
    let root = root.to_str().unwrap();
    let blobs = format!("{root}/blobs/sha256");
    let place = |what: &dyn Fn(&Call) -> bool| log.iter().position(what);
    let last = |what: &dyn Fn(&Call) -> bool| log.iter().rposition(what);
    let is_sync = |call: &Call| matches!(call.name, "fsync" | "fdatasync" | "syncfs");
    let named =
        place(&|call| call.name.starts_with("rename") && call.path == format!("{root}/index.json"));
    let named = named.unwrap_or_else(|| panic!("{verb:?} renames no index.json: {log:#?}"));

    for hex in needed(&store) {
        let path = format!("{blobs}/{hex}");
        let arrived = last(&|call| call.name.starts_with("rename") && call.path == path);
        // Without one it was there before, and durable.
        let Some(arrived) = arrived else { continue };
        let synced = log[arrived..named]
            .iter()
            .any(|call| call.name == "syncfs" || (is_sync(call) && call.path == path));
        assert!(
            synced,
            "{verb:?}: {hex} is not synced between its name and the tag: {log:#?}"
        );
        let directory = log[arrived..named]
            .iter()
            .any(|call| call.name == "syncfs" || (is_sync(call) && call.path == blobs));
        assert!(
            directory,
            "{verb:?}: {hex}'s name is not synced before the tag: {log:#?}"
        );
    }
    let temporary = log[..named]
        .iter()
        .rposition(|call| is_sync(call) && call.path.contains("/.index.json."));
    let written = log[..named]
        .iter()
        .rposition(|call| call.name == "write" && call.path.contains("/.index.json."));
    assert!(
        temporary > written,
        "{verb:?}: index.json is renamed before it is synced: {log:#?}"
    );
    let after = log[named..]
        .iter()
        .any(|call| is_sync(call) && call.path == root);
    assert!(
        after,
        "{verb:?}: the directory of index.json is not synced: {log:#?}"
    );
}

#[test]
fn a_build_syncs_its_blobs_before_it_names_them() {
    assert_ordered(Verb::Build);
}

#[test]
fn an_import_syncs_its_blobs_before_it_names_them() {
    assert_ordered(Verb::Import);
}

#[test]
fn a_load_syncs_its_blobs_before_it_names_them() {
    assert_ordered(Verb::Load);
}

#[test]
fn a_tag_syncs_the_index_and_its_directory() {
    assert_ordered(Verb::Tag);
}

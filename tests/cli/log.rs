//! The journal as its readers meet it: who did what, and who deleted my image.

use serde_json::{Value, json};

use crate::sample::{Everything, Recipe};

fn entries(store: &crate::sample::Sample, arguments: &[&str]) -> Vec<Value> {
    let mut all = vec!["log", "--format", "json"];
    all.extend(arguments);
    let list = store.json(&all);
    assert_eq!(list["schema"], 1);
    list["entries"].as_array().unwrap().clone()
}

fn operations(entries: &[Value]) -> Vec<&str> {
    entries
        .iter()
        .map(|entry| entry["operation"].as_str().unwrap())
        .collect()
}

#[test]
fn whoever_removed_an_image_is_found_by_its_name_its_id_and_its_digest() {
    let everything = Everything::new();
    let store = &everything.sample;
    store.ok(&["rmi", "app:1"]);
    store.ok(&["rmi", "app"]);
    let uid = rustix::process::getuid().as_raw();
    for reference in [
        "app",
        "app:latest",
        &everything.app.id.short(),
        &everything.app.digest.to_string(),
    ] {
        let found = entries(store, &[reference]);
        let newest = &found[0];
        assert_eq!(newest["operation"], "remove", "{reference}");
        assert_eq!(newest["uid"], uid);
        let command = newest["command"].as_str().unwrap();
        assert!(command.ends_with(" rmi app"), "{command}");
        assert!(newest["milliseconds"].is_u64(), "{newest}");
        let of_image = |item: &&Value| item["digest"] == json!(everything.app.digest);
        let items = newest["removed"].as_array().unwrap();
        let item = items.iter().find(of_image).unwrap();
        assert_eq!(item["reason"], "named", "{reference}: {item}");
    }
    let text = store.ok(&["log", "app"]);
    assert!(
        text.contains("named") && text.contains("rmi app:1"),
        "{text}"
    );
    assert!(entries(store, &["base"]).is_empty());
}

#[test]
fn a_prune_says_what_it_took_under_which_policy_and_why() {
    let everything = Everything::new();
    let store = &everything.sample;
    store.ok(&["prune", "-f", "--stages"]);
    let found = entries(store, &[&everything.old.id.short()]);
    assert_eq!(operations(&found), ["prune"]);
    let removed = found[0]["removed"].as_array().unwrap();
    assert_eq!(removed.len(), 1, "only what was asked for");
    assert_eq!(removed[0]["reason"], "dangling");
    assert_eq!(removed[0]["step"], "RUN make old");
    assert_eq!(found[0]["facts"]["policy"]["scope"]["stages"], true);
    assert!(found[0]["bytes"].as_u64().unwrap() > 0);
    assert!(found[0]["milliseconds"].is_u64(), "{}", found[0]);
    let all = entries(store, &["-f", "operation=prune"]);
    assert_eq!(all[0]["removed"].as_array().unwrap().len(), 2);
    let text = store.ok(&["log", &everything.builder.digest.to_string()]);
    assert!(text.contains("build stage"), "{text}");
    assert!(text.contains("prune -f --stages"), "{text}");
}

#[test]
fn a_name_that_was_given_to_another_image_is_told_with_the_one_that_lost_it() {
    let everything = Everything::new();
    let store = &everything.sample;
    store.ok(&["tag", "base", "app"]);
    store.ok(&["untag", "app:1"]);
    let found = entries(store, &[&everything.app.digest.to_string()]);
    assert_eq!(operations(&found), ["untag", "tag"]);
    assert_eq!(found[1]["removed"][0]["label"], "app:latest");
    assert_eq!(found[1]["digest"], json!(everything.base.digest));
    assert!(
        found[1]["command"]
            .as_str()
            .unwrap()
            .ends_with(" tag base app")
    );
    // A prune of what thereby dangles is found under its old digest too.
    store.ok(&["prune", "-f"]);
    let found = entries(store, &[&everything.app.digest.to_string()]);
    assert_eq!(operations(&found), ["prune", "untag", "tag"]);
}

#[test]
fn the_log_is_filtered_limited_and_made_for_scripts() {
    let everything = Everything::new();
    let store = &everything.sample;
    store.ok(&["tag", "app", "one", "two:2"]);
    store.ok(&["untag", "one"]);
    assert_eq!(entries(store, &["-n", "1"]).len(), 1);
    assert_eq!(entries(store, &["-f", "reference=two"]).len(), 1);
    assert_eq!(entries(store, &["-f", "reference=*:2"]).len(), 1);
    assert_eq!(entries(store, &["-f", "operation=untag"]).len(), 1);
    assert_eq!(entries(store, &["-f", "since=1h"]).len(), 3);
    assert!(entries(store, &["-f", "until=1h"]).is_empty());
    assert_eq!(store.rstore(&["log", "-f", "since=soon"]).code, 2);
    let template = "{{.Operation}} {{.Subject}} {{.User}}";
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(
        store.ok(&["log", "--format", template, "-n", "2"]),
        format!("untag one:latest {uid}\ntag two:2 {uid}\n")
    );
    let line = store.ok(&["log", "--format", "jsonl", "-n", "1"]);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["schema"], 1);
}

#[test]
fn loads_and_imports_stand_in_it_with_bytes_and_time() {
    let everything = Everything::new();
    let store = &everything.sample;
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("app.tar");
    let archive = archive.to_str().unwrap();
    store.ok(&["save", "-o", archive, "app"]);
    let other = Everything::new();
    other.sample.write_index(&[]);
    other.sample.ok(&["load", "-i", archive]);
    let found = entries(&other.sample, &["-f", "operation=load"]);
    assert_eq!(found[0]["subject"], "app:latest");
    assert!(found[0]["milliseconds"].is_u64(), "{found:?}");
    let rootfs = directory.path().join("rootfs.tar");
    let mut builder = tar::Builder::new(std::fs::File::create(&rootfs).unwrap());
    let mut header = tar::Header::new_ustar();
    header.set_size(5000);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "file", &[b'x'; 5000][..])
        .unwrap();
    builder.finish().unwrap();
    other
        .sample
        .ok(&["import", rootfs.to_str().unwrap(), "fresh"]);
    let found = entries(&other.sample, &["fresh"]);
    assert_eq!(operations(&found), ["import", "tag"]);
    assert!(found[0]["bytes"].as_u64().unwrap() > 0);
}

#[test]
fn nothing_in_a_log_steers_the_terminal() {
    let store = crate::sample::Sample::new();
    let image = store.image(&Recipe {
        steps: &["RUN \u{1b}[2Jevil"],
        ..Recipe::default()
    });
    store.write_index(&[("we\u{1b}[31mird", image)]);
    store.ok(&["rmi", "--force", &image.digest.to_string()]);
    for arguments in [
        &["log"][..],
        &["log", "--format", "json"],
        &["log", "--no-trunc"],
    ] {
        let text = store.ok(arguments);
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

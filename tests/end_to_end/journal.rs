//! What the journal keeps of builds, and what `why` says of what they leave.

use serde_json::Value;

use crate::support::{Context, Need, Rstore, skip_without};

fn log(store: &Rstore, reference: &str) -> Vec<Value> {
    let text = store.ok([
        "log",
        "--format",
        "json",
        "-f",
        "operation=build",
        reference,
    ]);
    let log: Value = serde_json::from_str(&text).expect("JSON");
    log["entries"].as_array().expect("entries").clone()
}

#[test]
fn a_build_stands_in_the_log_with_its_time_its_steps_and_what_it_added() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base\nARG SECRET\nRUN head -c 100000 /dev/urandom > /data\nRUN sleep 0.2\n",
    );
    let build = || {
        let path = context.path().to_string_lossy().into_owned();
        store.ok(["build", "-t", "app", "--build-arg", "SECRET=geheim", &path])
    };
    build();
    build();
    let entries = log(&store, "app");
    let [cached, first] = entries.as_slice() else {
        panic!("two builds: {entries:?}");
    };
    assert!(first["facts"]["run"].as_u64() >= Some(2), "{first}");
    assert!(first["bytes"].as_u64() > Some(100_000), "{first}");
    assert!(first["milliseconds"].as_u64() >= Some(200), "{first}");
    assert_eq!(cached["facts"]["run"].as_u64(), Some(0), "{cached}");
    assert_eq!(cached["facts"]["cached"], first["facts"]["run"], "{cached}");
    assert_eq!(cached["bytes"].as_u64(), Some(0), "{cached}");
    let command = first["command"].as_str().expect("a command line");
    assert!(command.contains("--build-arg SECRET=…"), "{command}");
    assert!(!store.ok(["log", "--no-trunc"]).contains("geheim"));
    // By its ID as well, and with the rmi that took it.
    let id = first["facts"]["image"].as_str().expect("an ID").to_owned();
    assert_eq!(log(&store, &id).len(), 2);
    store.ok(["rmi", "app"]);
    let text = store.ok(["log", &id]);
    assert!(
        text.contains("remove") && text.contains("rmi app"),
        "{text}"
    );
}

#[test]
fn a_build_that_failed_stands_in_the_log_with_the_step_that_did() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nARG SECRET\nRUN true\nRUN test -z \"$SECRET\"\n");
    let path = context.path().to_string_lossy().into_owned();
    let failed = store.run(["build", "-t", "app", "--build-arg", "SECRET=geheim", &path]);
    assert_ne!(failed.code, 0);
    let entries = log(&store, "app");
    let [entry] = entries.as_slice() else {
        panic!("one build: {entries:?}");
    };
    assert_eq!(entry["facts"]["failed"], true, "{entry}");
    assert_eq!(entry["facts"]["tags"][0], "app:latest", "{entry}");
    let detail = entry["detail"].as_str().expect("text");
    assert!(
        detail.starts_with("failed: Dockerfile:4:1") && !detail.contains("geheim"),
        "{detail}"
    );
    assert_eq!(entry["digest"], Value::Null);
    // What cannot be read has done nothing, and is not told.
    let broken = Context::new("FROM base\nRUNN true\n");
    let path = broken.path().to_string_lossy().into_owned();
    assert_ne!(store.run(["build", "-t", "app", &path]).code, 0);
    assert_eq!(log(&store, "app").len(), 1);
}

#[test]
fn why_answers_for_the_snapshot_on_which_a_step_stood() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nRUN echo x > /x\nRUN cat /x\n");
    let path = context.path().to_string_lossy().into_owned();
    store.ok(["build", "-t", "app", &path]);
    let snapshots = store.root().join("rstore/snapshots");
    let mut seen = 0;
    for entry in std::fs::read_dir(snapshots).expect("snapshots") {
        let path = entry.expect("an entry").path();
        let text = store.ok(["why", &path.to_string_lossy()]);
        assert!(text.starts_with("snapshot "), "{text}");
        assert!(
            text.contains("tag app:latest") && text.contains("rstore prune --snapshots"),
            "{text}"
        );
        seen += 1;
    }
    assert!(seen > 0);
    store.ok(["prune", "--snapshots", "--force"]);
    assert_eq!(
        std::fs::read_dir(store.root().join("rstore/snapshots"))
            .expect("a directory")
            .count(),
        0
    );
}

//! Who took an image is told also where whoever took it was killed over it.

use serde_json::Value;

use super::scenario::{Scenario, Verb};
use super::trace::{Calls, Fault, run};
use crate::support::{Need, Rstore, skip_without};

fn newest(store: &Rstore) -> Value {
    let text = store.ok(["log", "--format", "json", "kept"]);
    let log: Value = serde_json::from_str(&text).expect("JSON");
    log["entries"][0].clone()
}

#[test]
fn a_removal_killed_at_its_first_unlink_stands_in_the_log_and_is_ended_by_the_next_command() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let scenario = Scenario::new();
    let store = scenario.store();
    let image = store.digest("kept:latest");
    let mut command = scenario.command(&store, Verb::Remove);
    let whole = run(&mut command, Calls::Changing, Fault::None, true);
    whole.finished.ok();
    let unlinks = |call: &super::trace::Call| {
        call.name.starts_with("unlink") && call.path.contains("/blobs/sha256")
    };
    let first = whole.log.iter().position(unlinks).expect("an unlink");
    assert!(newest(&store)["milliseconds"].is_u64());

    let store = scenario.store();
    let mut command = scenario.command(&store, Verb::Remove);
    let killed = run(&mut command, Calls::Changing, Fault::Kill(first + 1), false);
    assert_eq!(killed.finished.code, -libc::SIGKILL, "{:?}", killed.hit);
    assert!(store.blob(&image).exists(), "{:?}", killed.hit);
    let check = |entry: &Value| {
        assert_eq!(entry["operation"], "remove", "{entry}");
        assert!(entry["uid"].is_u64(), "{entry}");
        let command = entry["command"].as_str().expect("a command line");
        assert!(command.ends_with("rmi kept"), "{entry}");
        let removed = entry["removed"].as_array().expect("items");
        let named = |kind: &str| {
            let mut items = removed.iter().filter(|item| item["kind"] == kind);
            items.any(|item| item["digest"] == image.as_str() && item["reason"] == "named")
        };
        assert!(named("tag") && named("image"), "{entry}");
        entry["detail"]
            .as_str()
            .expect("text")
            .ends_with("; not finished")
    };
    assert!(check(&newest(&store)));
    store.ok(["tag", "base", "other"]);
    let ended = newest(&store);
    assert!(!check(&ended), "{ended}");
    assert!(ended["bytes"].as_u64() > Some(0), "{ended}");
    assert!(!store.blob(&image).exists());
    store.verify();
}

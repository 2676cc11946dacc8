//! `prune --remote`: build caches in a registry, among other things.

use serde_json::{Value, json};

use crate::support::http::{Response, Server};
use crate::support::registry::{Door, Registry, before};
use crate::support::rstore::text;
use crate::support::{Context, Need, Rstore, skip_without};

const NEEDS: [Need; 1] = [Need::Program("docker-registry")];

/// A registry with caches in `cache/app`, each with a layer of its own, written on that day of
/// 2024.
fn with_caches(door: Door, tags: &[(&str, u32)]) -> (Registry, Rstore) {
    let registry = Registry::start(door);
    let store = Rstore::with_base();
    for (tag, day) in tags {
        let context = Context::new(&format!("FROM base\nRUN echo {tag} > /x\n"));
        let name = registry.name(&format!("cache/app:{tag}"));
        store.build(context.path(), &["--cache-to", &name]);
        let path = format!("cache/app/manifests/{tag}");
        let mut manifest: Value = serde_json::from_slice(&registry.get(&path).unwrap()).unwrap();
        let written = format!("2024-01-{day:02}T00:00:00Z");
        manifest["annotations"]["org.opencontainers.image.created"] = json!(written);
        registry.put_manifest(&path, &serde_json::to_vec(&manifest).unwrap());
    }
    (registry, store)
}

fn tags(registry: &Registry) -> Vec<String> {
    let list = registry.get("cache/app/tags/list").expect("tags");
    let list: Value = serde_json::from_slice(&list).unwrap();
    let mut tags: Vec<String> = list["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();
    tags.sort();
    tags
}

fn copy_tag(registry: &Registry, from: &str, to: &str) {
    let bytes = registry
        .get(&format!("cache/app/manifests/{from}"))
        .unwrap();
    registry.put_manifest(&format!("cache/app/manifests/{to}"), &bytes);
}

#[test]
fn old_caches_go_with_all_of_their_tags_and_all_else_stays() {
    if skip_without(&NEEDS) {
        return;
    }
    let caches = [("a", 1), ("b", 2), ("c", 3), ("main", 1)];
    let (registry, store) = with_caches(Door::Open, &caches);
    copy_tag(&registry, "a", "a-too");
    copy_tag(&registry, "b", "kept-b");
    store.ok(["push", "-q", "base", &registry.name("cache/app:image")]);
    let repository = registry.name("cache/app");
    let prune = |more: &[&str]| {
        let fixed = [
            "prune",
            "--remote",
            &repository,
            "--keep-last",
            "1",
            "--keep",
            ":(main|kept-.*)$",
        ];
        store.run(fixed.iter().chain(more))
    };
    let all = ["a", "a-too", "b", "c", "image", "kept-b", "main"];
    let shown = prune(&["-n"]).ok();
    assert_eq!(tags(&registry), all);
    for words in [
        "1 build cache would go",
        "not a build cache of rstore's",
        "has the digest of kept-b, which stays",
        "among the last",
        "matches --keep",
    ] {
        assert!(shown.stdout.contains(words), "no {words:?}: {shown}");
    }
    let foretold = prune(&["-n", "--format", "json"]).ok();
    let foretold: Value = serde_json::from_str(&foretold.stdout).unwrap();
    assert_eq!(foretold["plan"]["items"][0]["tags"], json!(["a", "a-too"]));
    assert_eq!(
        foretold["plan"]["items"][0]["created"],
        "2024-01-01T00:00:00Z"
    );
    assert_eq!(foretold["plan"]["kept"].as_array().unwrap().len(), 5);
    prune(&[]).fails(2, &["--force"]);
    let done = prune(&["-f", "--format", "json"]).ok();
    let done: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(done["plan"], foretold["plan"]);
    assert_eq!(
        done["report"]["deleted"],
        json!([foretold["plan"]["items"][0]["digest"]])
    );
    assert_eq!(tags(&registry), ["b", "c", "image", "kept-b", "main"]);
    // A second time there is nothing to do.
    let again = prune(&["-f"]).ok();
    assert!(again.stdout.contains("Deleted 0 build caches"), "{again}");
    // What is kept is whole.
    let context = Context::new("FROM base\nRUN echo b > /x\n");
    let name = registry.name("cache/app:b");
    let arguments = ["--no-cache-filter", "none", "--cache-from", &name];
    let built = store.build(context.path(), &arguments);
    assert!(!built.stderr.contains("is not used"), "{built}");
}

#[test]
fn what_is_young_enough_stays() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, store) = with_caches(Door::Open, &[("a", 1), ("b", 20)]);
    let repository = registry.name("cache/app");
    let context = Context::new("FROM base\nRUN echo now > /x\n");
    let name = registry.name("cache/app:now");
    store.build(context.path(), &["--cache-to", &name]);
    let prune = |rules: &[&str]| {
        let fixed = ["prune", "-f", "--remote", &repository];
        store.run(fixed.iter().chain(rules))
    };
    prune(&["--until", "2024-01-10"]).ok();
    assert_eq!(tags(&registry), ["b", "now"]);
    let done = prune(&["--until", "1h"]).ok();
    assert!(
        done.stdout.contains("Untagged:") && done.stdout.contains("Deleted: sha256:"),
        "{done}"
    );
    assert_eq!(tags(&registry), ["now"]);
}

#[test]
fn a_registry_that_refuses_deletes_is_told_of_with_what_to_do() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, store) = with_caches(Door::Lasting, &[("a", 1)]);
    let repository = registry.name("cache/app");
    let prune = |more: &[&str]| {
        let fixed = ["prune", "--remote", &repository, "--until", "7d"];
        store.run(fixed.iter().chain(more))
    };
    prune(&["-n"]).ok();
    prune(&["-f"]).fails(
        1,
        &["405", "REGISTRY_STORAGE_DELETE_ENABLED=true", "retention"],
    );
    assert_eq!(tags(&registry), ["a"]);
}

#[test]
fn a_cache_whose_tag_is_written_anew_meanwhile_stays() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, store) = with_caches(Door::Open, &[("a", 1)]);
    // By the time of the delete the tag has another digest.
    let server = before(&registry, |request, mut response| {
        if request.method == "HEAD" {
            response
                .headers
                .retain(|(name, _)| name != "docker-content-digest");
            let other = format!("sha256:{}", "0".repeat(64));
            return response.header("docker-content-digest", &other);
        }
        response
    });
    let url = server.http("cache/app");
    let repository = url.strip_prefix("http://").unwrap();
    let done = store.run(["prune", "-f", "--until", "7d", "--remote", repository]);
    done.fails(5, &["written anew"]);
    let asked = server.requests();
    assert!(
        asked.iter().all(|request| request.method != "DELETE"),
        "{asked:?}"
    );
    assert_eq!(tags(&registry), ["a"]);
}

#[test]
fn who_may_not_look_is_told_to_log_in_and_a_token_is_asked_for_deletes() {
    let store = Rstore::new();
    let server = Server::new(|request| match request.path.starts_with("/token") {
        true => Response::ok(r#"{"token":"t"}"#),
        false if request.headers.contains_key("authorization") => Response::ok(r#"{"tags":[]}"#),
        false => {
            let host = &request.headers["host"];
            let bearer = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
            Response::new(401).header("www-authenticate", &bearer)
        }
    });
    let url = server.http("cache/app");
    let repository = url.strip_prefix("http://").unwrap();
    let scopes = |flag: &str| {
        store.ok(["prune", flag, "--until", "7d", "--remote", repository]);
        let asked = server.requests().into_iter().map(|request| request.path);
        let tokens: Vec<String> = asked.filter(|path| path.starts_with("/token")).collect();
        tokens.concat()
    };
    assert!(scopes("-f").contains("repository%3Acache%2Fapp%3Apull%2Cdelete"));
    assert!(!scopes("-n").contains("delete"));
    let none = store.run(["prune", "-n", "--until", "7d", "--remote", repository]);
    let none = none.ok();
    assert!(none.stderr.contains("has no tags"), "{none}");
    let locked =
        Server::new(|_| Response::new(401).header("www-authenticate", "Basic realm=\"x\""));
    let url = locked.http("cache/app");
    let repository = url.strip_prefix("http://").unwrap();
    let refused = store.run(["prune", "-n", "--until", "7d", "--remote", repository]);
    refused.fails(1, &["rstore login"]);
}

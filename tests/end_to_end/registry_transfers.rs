//! Transfers that need not be made, or are made once for several; and in another compression.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::http::{Request, Server};
use crate::support::machine::until;
use crate::support::registry::{Door, Registry, before, is_layer, noise_tar, passed_on};
use crate::support::rstore::text;
use crate::support::{Context, Need, Rstore, scratch, skip_without};

const NEEDS: [Need; 1] = [Need::Program("docker-registry")];

/// A registry with an image `app:1` of one layer that cannot be compressed.
fn with_image() -> (Registry, Rstore) {
    let registry = Registry::start(Door::Open);
    let store = Rstore::new();
    let directory = scratch();
    store.import(&noise_tar(directory.path(), "noise", 400_000), "app:1");
    store.ok(["push", "-q", "app:1", &registry.name("app:1")]);
    (registry, store)
}

fn name(server: &Server) -> String {
    let url = server.http("app:1");
    url.strip_prefix("http://").expect("a URL").to_owned()
}

fn asked(server: &Server) -> Vec<String> {
    let requests = server.requests().into_iter();
    requests
        .map(|request| format!("{} {}", request.method, request.path))
        .collect()
}

/// A registry with an image, its publisher, and a server before it that notes what is asked.
fn watched() -> (Registry, Rstore, Server) {
    let (registry, publisher) = with_image();
    let server = before(&registry, |_, response| response);
    (registry, publisher, server)
}

/// The image's name there, and a store that has pulled it.
fn pulled(server: &Server) -> (String, Rstore) {
    let (name, store) = (name(server), Rstore::new());
    store.ok(["pull", "-q", &name]);
    (name, store)
}

#[test]
fn a_second_pull_asks_for_the_digest_and_one_by_digest_asks_nobody() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, publisher, server) = watched();
    let (name, store) = pulled(&server);
    server.requests();
    let again = store.run(["pull", &name]).ok();
    assert_eq!(asked(&server), ["HEAD /v2/app/manifests/1"]);
    assert!(
        again.stderr.contains("Status: Image is up to date for"),
        "{again}"
    );
    let digest = publisher.digest("app:1");
    let by_digest = name.replace(":1", &format!("@{digest}"));
    let index = fs::read(store.root().join("index.json")).expect("an index");
    store.ok(["pull", "-q", &by_digest]);
    assert_eq!(asked(&server), [""; 0]);
    assert_eq!(
        fs::read(store.root().join("index.json")).expect("an index"),
        index
    );

    // What is no longer whole is fetched again, and what is another image there now.
    let layer = store.blob(&store.layers(&name)[0]);
    fs::remove_file(&layer).expect("a layer");
    store.ok(["pull", "-q", &name]);
    store.verify();
    assert!(layer.exists());
    let directory = scratch();
    publisher.import(&noise_tar(directory.path(), "newer", 20_000), "app:2");
    publisher.ok(["push", "-q", "app:2", &registry.name("app:1")]);
    let newer = store.run(["pull", &name]).ok();
    assert!(
        newer.stderr.contains("Status: Downloaded newer image"),
        "{newer}"
    );
    assert_eq!(store.digest(&name), publisher.digest("app:2"));
    store.ok(["fsck"]);
}

#[test]
fn the_journal_has_the_digest_and_the_time_of_pulls_and_pushes() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, publisher) = with_image();
    let name = registry.name("app:1");
    let store = Rstore::new();
    store.ok(["pull", "-q", &name]);
    let digest = publisher.digest("app:1");
    for (store, operation, least) in [(&publisher, "push", 400_000), (&store, "pull", 400_000)] {
        for wanted in [digest.as_str(), &publisher.id("app:1")[..12]] {
            let log = store.json(&["log", "-f", &format!("operation={operation}"), wanted]);
            let entry = &log["entries"][0];
            assert_eq!(text(&entry["digest"]), digest, "{log}");
            assert!(entry["milliseconds"].is_u64(), "{log}");
            assert!(entry["bytes"].as_u64() > Some(least), "{log}");
            assert_eq!(text(&entry["facts"]["registry"]), registry.host(), "{log}");
        }
    }
    store.ok(["pull", "-q", &name]);
    let log = store.json(&["log", "-f", "operation=pull", &digest]);
    assert_eq!(log["entries"].as_array().map(Vec::len), Some(2));
    let again = &log["entries"][0];
    assert_eq!(again["bytes"], 0);
    assert!(again["milliseconds"].is_u64(), "{again}");
    assert!(text(&again["detail"]).starts_with("up to date"), "{again}");
    assert_eq!(again["facts"], log["entries"][1]["facts"]);
}

#[test]
fn a_name_that_was_given_to_another_image_is_given_back_by_a_pull_that_fetches_nothing() {
    if skip_without(&NEEDS) {
        return;
    }
    let (_registry, publisher, server) = watched();
    let (name, store) = pulled(&server);
    store.ok(["tag", &name, "kept"]);
    let directory = scratch();
    store.import(&noise_tar(directory.path(), "other", 20_000), &name);
    assert_ne!(store.digest(&name), publisher.digest("app:1"));
    server.requests();
    store.ok(["pull", "-q", &name]);
    assert_eq!(asked(&server), ["HEAD /v2/app/manifests/1"]);
    assert_eq!(store.digest(&name), publisher.digest("app:1"));
    store.ok(["fsck"]);
}

/// Pulls, and says on another thread when it waits for somebody else; gives the lines at the end.
fn pulling(
    store: &Rstore,
    name: &str,
) -> (Child, Arc<AtomicBool>, std::thread::JoinHandle<Vec<String>>) {
    let mut command = store.command();
    command
        .args(["pull", name])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("rstore runs");
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let waits = Arc::new(AtomicBool::new(false));
    let told = waits.clone();
    let reader = std::thread::spawn(move || {
        let lines = lines.map(|line| line.expect("a line"));
        lines
            .inspect(|line| {
                told.store(
                    told.load(Ordering::SeqCst) || line.ends_with(": Waiting"),
                    Ordering::SeqCst,
                )
            })
            .collect()
    });
    (child, waits, reader)
}

#[test]
fn a_layer_that_two_pull_at_the_same_time_is_fetched_once() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, publisher) = with_image();
    let upstream = registry.host();
    let (layers, go) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (count, open) = (layers.clone(), go.clone());
    let server = Server::side_by_side(move |request: &Request| {
        let response = passed_on(&upstream, request);
        if is_layer(request, &response) {
            count.fetch_add(1, Ordering::SeqCst);
            until("the layer may come", || open.load(Ordering::SeqCst));
        }
        response
    });
    let name = name(&server);
    let store = Rstore::new();
    let (mut first, _, of_first) = pulling(&store, &name);
    until("the first asks for the layer", || {
        layers.load(Ordering::SeqCst) == 1
    });
    let (mut second, waits, of_second) = pulling(&store, &name);
    until("the second waits", || waits.load(Ordering::SeqCst));
    // It is an owner's of a live lease: a prune leaves it alone.
    store.ok(["prune", "-f"]);
    go.store(true, Ordering::SeqCst);
    assert!(first.wait().expect("a child").success());
    assert!(second.wait().expect("a child").success());
    let told = of_second.join().expect("lines");
    assert!(
        told.iter().any(|line| line.ends_with(": Already exists")),
        "{told:?}"
    );
    of_first.join().expect("lines");
    assert_eq!(layers.load(Ordering::SeqCst), 1);
    assert_eq!(store.digest(&name), publisher.digest("app:1"));
    store.verify();
    assert!(store.debris().is_empty(), "{:?}", store.debris());
}

#[test]
fn who_waits_for_one_who_is_killed_goes_on_with_what_there_is() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, publisher) = with_image();
    let upstream = registry.host();
    let slow = AtomicBool::new(true);
    let server = Server::side_by_side(move |request: &Request| {
        let mut response = passed_on(&upstream, request);
        if is_layer(request, &response) && slow.swap(false, Ordering::SeqCst) {
            response.drip = Some((300_000, Duration::from_millis(50)));
        }
        response
    });
    let name = name(&server);
    let store = Rstore::new();
    let (mut first, _, of_first) = pulling(&store, &name);
    let ingest = store.root().join("rstore/ingest");
    let bytes = || {
        let entries = fs::read_dir(&ingest).into_iter().flatten().flatten();
        let partial =
            entries.filter(|entry| entry.file_name().to_string_lossy().contains("-partial-"));
        partial
            .filter_map(|entry| entry.metadata().ok())
            .map(|m| m.len())
            .sum::<u64>()
    };
    until("much has come", || bytes() > 200_000);
    let (mut second, waits, of_second) = pulling(&store, &name);
    until("the second waits", || waits.load(Ordering::SeqCst));
    server.requests();
    first.kill().expect("a child");
    first.wait().expect("a child");
    assert!(second.wait().expect("a child").success());
    let told = of_second.join().expect("lines");
    of_first.join().expect("lines");
    assert!(
        told.iter().any(|line| line.contains(": Resuming after ")),
        "{told:?}"
    );
    let ranges: Vec<_> = server
        .requests()
        .into_iter()
        .filter_map(|r| r.headers.get("range").cloned())
        .collect();
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    assert_eq!(store.digest(&name), publisher.digest("app:1"));
    store.verify();
}

fn formats(store: &Rstore, name: &str) -> Vec<String> {
    let manifest = store.manifest(name);
    let layers = manifest["layers"].as_array().expect("layers").iter();
    layers
        .map(|layer| {
            text(&layer["mediaType"])
                .rsplit('.')
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

#[test]
fn a_push_may_be_compressed_otherwise_and_all_tags_of_a_repository_may_go() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let context = Context::new("FROM scratch\nCOPY one /\nCOPY two /\n");
    context.file("one", "1".repeat(50_000));
    context.file("two", "2".repeat(50_000));
    let store = Rstore::new();
    store.build(context.path(), &["-t", "app:1", "-t", "app:2"]);
    assert_eq!(formats(&store, "app:1"), ["tar+gzip"; 2]);
    let name = registry.name("app:1");
    for (compression, format) in [("zstd:3", "tar+zstd"), ("uncompressed", "tar")] {
        let pushed = store
            .run(["push", "--compression", compression, "app:1", &name])
            .ok();
        let other = Rstore::new();
        other.ok(["pull", "-q", &name]);
        assert_eq!(formats(&other, &name), [format; 2]);
        assert_eq!(other.id(&name), store.id("app:1"));
        let digest = other.digest(&name);
        assert_ne!(digest, store.digest("app:1"));
        assert!(
            pushed.stdout.contains(&format!("digest: {digest} ")),
            "{pushed}"
        );
        assert!(
            pushed.stderr.contains("2 layers compressed by") && pushed.stderr.contains(&digest),
            "{pushed}"
        );
        other.verify();
        other.whole(&name);
        let again = store
            .run(["push", "--compression", compression, "app:1", &name])
            .ok();
        assert!(again.stderr.contains(": Layer already exists"), "{again}");
    }
    // In that format already: it goes as it is.
    let same = store
        .run(["push", "--compression", "gzip", "app:1", &name])
        .ok();
    assert!(
        same.stdout.contains(&store.digest("app:1")) && !same.stderr.contains("notice"),
        "{same}"
    );
    assert_eq!(store.tags().len(), 2, "what was made has no name");
    store.ok(["fsck"]);
    store.ok(["prune", "-f"]);
    store.verify();

    store
        .run(["push", "-a", "app:2"])
        .fails(2, &["without tag"]);
    let to = registry.name("team/app");
    let all = store.ok(["push", "-q", "--all-tags", "app", &to]);
    assert_eq!(all, format!("{to}:1\n{to}:2\n"));
    let other = Rstore::new();
    assert_eq!(other.ok(["pull", "-q", "-a", &to]), all);
    store.run(["push", "-a", "nobody"]).fails(1, &["nobody"]);
}

#[test]
fn an_index_is_compressed_otherwise_with_all_of_its_images() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let context = Context::new("FROM scratch\nARG TARGETARCH\nCOPY one /$TARGETARCH\n");
    context.file("one", "1".repeat(50_000));
    let store = Rstore::new();
    store.build(
        context.path(),
        &["-t", "app", "--platform", "linux/amd64,linux/arm64"],
    );
    let name = registry.name("app:1");
    store.ok(["push", "-q", "--compression", "zstd", "app", &name]);
    let other = Rstore::new();
    other.ok(["pull", "-q", "--all-platforms", &name]);
    other.ok(["fsck"]);
    let index = other.manifest(&name);
    let children = index["manifests"].as_array().expect("an index");
    assert_eq!(children.len(), 2);
    for child in children {
        let bytes = fs::read(other.blob(&text(&child["digest"]))).expect("a manifest");
        assert_eq!(child["size"], bytes.len());
        let manifest: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        assert!(
            text(&manifest["layers"][0]["mediaType"]).ends_with("+zstd"),
            "{manifest}"
        );
    }
}

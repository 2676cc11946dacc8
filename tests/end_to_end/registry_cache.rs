//! A cache that several stores share through a registry: what is fetched of it and when, what lies
//! in it do, and what a registry that is away or locked does to a build. And images that a build
//! pushes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::Digest;

use crate::support::http::{Response, Server};
use crate::support::registry::{Door, Registry, before, passed_on};
use crate::support::rstore::{hex, text};
use crate::support::{Context, Finished, Need, Rstore, scratch, skip_without};

const NEEDS: [Need; 1] = [Need::Program("docker-registry")];
const TWO_STAGES: &str = "FROM base AS tools\nCOPY source /source\nRUN wc -c < /source > /size && cp /size /other\n\
    FROM base\nENV A=1\nCOPY --from=tools /size /size\nRUN cat /size > /again\nCMD [\"cat\"]\n";

/// A store with a base, a registry, and what is built.
struct House {
    first: Rstore,
    registry: Registry,
    context: Context,
}

impl House {
    fn new(door: Door, dockerfile: &str) -> House {
        let context = Context::new(dockerfile);
        context.file("source", "some source");
        House {
            first: Rstore::with_base(),
            registry: Registry::start(door),
            context,
        }
    }

    /// Another store, with a base of the same ID.
    fn other(&self) -> Rstore {
        Rstore::beside(&self.first)
    }

    fn name(&self) -> String {
        self.registry.name("cache/app:main")
    }

    fn write(&self, options: &str) -> Finished {
        let to = format!("type=registry,ref={}{options}", self.name());
        self.first
            .build(self.context.path(), &["-t", "app", "--cache-to", &to])
    }

    fn read(&self, store: &Rstore) -> Finished {
        self.read_from(store, &self.name())
    }

    fn read_from(&self, store: &Rstore, name: &str) -> Finished {
        store.build(self.context.path(), &["-t", "app", "--cache-from", name])
    }

    fn manifest(&self) -> Value {
        let bytes = self.registry.get("cache/app/manifests/main");
        serde_json::from_slice(&bytes.expect("a cache")).unwrap()
    }

    fn blob(&self, digest: &Value) -> Vec<u8> {
        let bytes = self
            .registry
            .get(&format!("cache/app/blobs/{}", text(digest)));
        bytes.expect("a blob")
    }

    fn layers(&self) -> usize {
        self.manifest()["layers"].as_array().unwrap().len()
    }

    fn edit(&self, from: &str, to: &str) {
        let path = self.context.path().join("Dockerfile");
        let dockerfile = fs::read_to_string(path).unwrap();
        assert!(dockerfile.contains(from));
        self.context
            .file("Dockerfile", dockerfile.replace(from, to));
    }

    /// A server in front of the registry that has another cache than it: as `change` makes it of
    /// the manifest and the records, with the digests that belong to them.
    fn forged(&self, change: impl FnOnce(&mut Value, &mut Value)) -> Server {
        let mut manifest = self.manifest();
        let records = self.blob(&manifest["config"]["digest"]);
        let mut records: Value = serde_json::from_slice(&records).unwrap();
        change(&mut manifest, &mut records);
        let records = serde_json::to_vec(&records).unwrap();
        let mut blobs = BTreeMap::new();
        manifest["config"]["digest"] = json!(digest(&records));
        manifest["config"]["size"] = json!(records.len());
        blobs.insert(digest(&records), records);
        self.serving(serde_json::to_vec(&manifest).unwrap(), blobs)
    }

    /// A server in front of the registry with another manifest, and other blobs beside its own.
    fn serving(&self, manifest: Vec<u8>, blobs: BTreeMap<String, Vec<u8>>) -> Server {
        let upstream = self.registry.host();
        Server::new(move |request| {
            if request.path.contains("/manifests/") {
                let kind = "application/vnd.oci.image.manifest.v1+json";
                return Response::ok(manifest.clone()).header("content-type", kind);
            }
            let found = blobs
                .iter()
                .find(|(digest, _)| request.path.ends_with(*digest));
            match found {
                Some((_, bytes)) => Response::ok(bytes.clone()),
                None => passed_on(&upstream, request),
            }
        })
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&sha2::Sha256::digest(bytes)))
}

/// The cache behind a server.
fn behind(server: &Server) -> String {
    let url = server.http("cache/app:main");
    url.strip_prefix("http://").expect("a URL").to_owned()
}

/// The digests of the blobs that were asked for.
fn fetched(server: &Server) -> Vec<String> {
    let blob = |path: &str| {
        path.split_once("/blobs/")
            .map(|(_, digest)| digest.to_owned())
    };
    let requests = server.requests().into_iter();
    requests
        .filter(|request| request.method == "GET")
        .filter_map(|request| blob(&request.path))
        .collect()
}

#[test]
fn a_second_store_runs_nothing_and_fetches_what_the_result_needs_and_no_more() {
    if skip_without(&NEEDS) {
        return;
    }
    let house = House::new(Door::Open, TWO_STAGES);
    let written = house.write(",mode=max");
    assert_eq!(written.ran(), 2);
    assert!(written.stderr.contains("Exporting cache to"), "{written}");
    assert!(written.stderr.contains(": Pushed"), "{written}");
    assert_eq!(house.layers(), 5);
    let server = before(&house.registry, |_, response| response);
    let other = house.other();
    let blobs = other.blobs().len();
    let built = house.read_from(&other, &behind(&server));
    assert_eq!((built.cached(), built.ran()), (6, 0), "{built}");
    assert!(!built.stderr.contains("[Warning]"), "{built}");
    assert!(built.stderr.contains("Importing cache from"), "{built}");
    assert_eq!(other.digest("app:latest"), house.first.digest("app:latest"));
    // The records, and the two layers that are not the base's; nothing of the other stage.
    let mut expected = vec![text(&house.manifest()["config"]["digest"])];
    expected.extend(other.layers("app:latest").into_iter().skip(1));
    let mut asked = fetched(&server);
    asked[1..].sort();
    expected[1..].sort();
    assert_eq!(asked, expected);
    assert_eq!(other.blobs().len(), blobs + 4, "{built}");
    other.verify();
    assert!(other.debris().is_empty(), "{:?}", other.debris());
    // What is here is not asked for again.
    let again = house.read_from(&other, &behind(&server));
    assert_eq!((again.cached(), again.ran()), (6, 0), "{again}");
    assert_eq!(fetched(&server).len(), 1);
    // A build that does not name the cache believes nothing of it.
    let without = other.build(house.context.path(), &["-t", "app"]);
    assert_eq!((without.cached(), without.ran()), (0, 2), "{without}");
    other.ok(["prune", "-f", "--all"]);
    other.verify();
}

#[test]
fn a_layer_is_fetched_when_a_step_stands_on_it() {
    if skip_without(&NEEDS) {
        return;
    }
    let house = House::new(Door::Open, TWO_STAGES);
    house.write(",mode=max");
    // One more step on the tools, which changes nothing of what is copied.
    house.edit(
        "/other\n",
        "/other\nRUN test -s /source && echo 11 > /size\n",
    );
    let server = before(&house.registry, |_, response| response);
    let other = house.other();
    let built = house.read_from(&other, &behind(&server));
    assert_eq!((built.cached(), built.ran()), (6, 1), "{built}");
    other.verify();
    // The records, two layers of the stage, two of the result.
    let asked = fetched(&server);
    assert_eq!(asked.len(), 5, "{asked:?}");
}

#[test]
fn min_has_the_layers_of_the_result_and_max_those_of_every_stage() {
    if skip_without(&NEEDS) {
        return;
    }
    let house = House::new(Door::Open, TWO_STAGES);
    house.write("");
    assert_eq!(house.layers(), 3);
    assert_eq!(house.read(&house.other()).ran(), 0);
    house.edit("/other\nFROM", "/other\nRUN cp /source /copy\nFROM");
    // Where the stage is needed itself it is run.
    let other = house.other();
    let built = house.read(&other);
    assert!(!built.stderr.contains("[Warning]"), "{built}");
    assert_eq!(built.ran(), 2, "{built}");
    other.verify();
    house.edit("RUN cp /source /copy\n", "");
    house.write(",mode=max");
    assert_eq!(house.layers(), 5);
    house.edit("/other\nFROM", "/other\nRUN cp /source /copy\nFROM");
    assert_eq!(house.read(&house.other()).ran(), 1);
}

#[test]
fn a_cache_that_is_the_same_is_not_written_again_and_another_takes_its_tag() {
    if skip_without(&NEEDS) {
        return;
    }
    let house = House::new(Door::Open, TWO_STAGES);
    house.write(",mode=max");
    let before = house.manifest();
    let created = text(&before["annotations"]["org.opencontainers.image.created"]);
    assert!(
        created.starts_with("20") && created.ends_with('Z'),
        "{created}"
    );
    let again = house.write(",mode=max");
    assert!(!again.stderr.contains("Pushed"), "{again}");
    assert_eq!(house.manifest(), before);
    // One that is older is given the time of now, and nothing else.
    let mut older = before.clone();
    older["annotations"]["org.opencontainers.image.created"] = json!("2020-01-01T00:00:00Z");
    let bytes = serde_json::to_vec(&older).unwrap();
    house
        .registry
        .put_manifest("cache/app/manifests/main", &bytes);
    let again = house.write(",mode=max");
    assert!(!again.stderr.contains("Pushed"), "{again}");
    let refreshed = house.manifest();
    assert_eq!(refreshed["layers"], before["layers"]);
    assert!(!refreshed.to_string().contains("2020-01-01"), "{refreshed}");
    house.context.file("source", "another source");
    let changed = house.write(",mode=max");
    assert!(changed.stderr.contains(": Pushed"), "{changed}");
    assert!(
        changed.stderr.contains(": Layer already exists"),
        "{changed}"
    );
    assert_eq!(house.read(&house.other()).ran(), 0);
    // What a build has of a cache it writes elsewhere, without ever having had its layers.
    let elsewhere = house.registry.name("cache/else:main");
    let other = house.other();
    let blobs = other.blobs().len();
    let from = house.name();
    let to = format!("type=registry,ref={elsewhere},mode=max");
    let arguments = ["--cache-from", &from, "--cache-to", &to];
    let built = other.build(house.context.path(), &arguments);
    assert!(built.stderr.contains(": Mounted from cache/app"), "{built}");
    assert_eq!(other.blobs().len(), blobs + 4, "{built}");
    let directory = scratch();
    let to = format!(
        "type=local,dest={},mode=max",
        directory.path().join("c").display()
    );
    let other = house.other();
    let arguments = ["--cache-from", &elsewhere, "--cache-to", &to];
    assert_eq!(other.build(house.context.path(), &arguments).ran(), 0);
    let blobs = directory.path().join("c/blobs/sha256");
    assert_eq!(fs::read_dir(blobs).unwrap().count(), 7);
    assert!(other.debris().is_empty(), "{:?}", other.debris());
}

#[test]
fn what_lies_is_warned_of_and_the_steps_are_run() {
    if skip_without(&NEEDS) {
        return;
    }
    let house = House::new(Door::Open, "FROM base\nENV A=1\nRUN echo x > /x\n");
    house.write("");
    let refused = |server: Server, why: &str| {
        let other = house.other();
        let built = house.read_from(&other, &behind(&server));
        assert_eq!(built.ran(), 1, "{why}: {built}");
        if !why.is_empty() {
            assert!(built.stderr.contains("[Warning]"), "{why}: {built}");
            assert!(built.stderr.contains(why), "no {why:?} in {built}");
        }
        other.verify();
        other.whole("app:latest");
        assert!(other.debris().is_empty(), "{:?}", other.debris());
    };
    // No cache at all, or another program's.
    let none = BTreeMap::new;
    refused(house.serving(b"{".to_vec(), none()), "not a well-formed");
    let huge = format!("{{\"schemaVersion\":2,\"x\":\"{}\"}}", "x".repeat(5 << 20));
    refused(
        house.serving(huge.into_bytes(), none()),
        "bytes that are read as a document",
    );
    let deep = format!(
        "{{\"schemaVersion\":2,\"config\":{}{}",
        "[".repeat(9000),
        "]".repeat(9000)
    );
    refused(house.serving(deep.into_bytes(), none()), "is not used");
    refused(
        house.forged(|manifest, _| {
            manifest["artifactType"] = json!(null);
            manifest["config"]["mediaType"] = json!("application/vnd.buildkit.cacheconfig.v0");
        }),
        "no build cache of rstore",
    );
    refused(
        house.forged(|_, records| records["version"] = json!(2)),
        "version 2",
    );
    refused(
        house.forged(|_, records| *records = json!([])),
        "its records",
    );
    // Records that are too large to be read are not fetched; those with another digest are not read.
    let with_config = |change: &dyn Fn(&mut Value)| {
        let mut manifest = house.manifest();
        change(&mut manifest["config"]);
        serde_json::to_vec(&manifest).unwrap()
    };
    let large = with_config(&|config| config["size"] = json!(1u64 << 50));
    refused(house.serving(large, none()), "more than the");
    let short = with_config(&|config| config["size"] = json!(10));
    refused(house.serving(short, none()), "and the manifest says 10");
    let gone = with_config(&|config| config["digest"] = json!(digest(b"gone")));
    refused(house.serving(gone, none()), "is not there");
    let records = text(&house.manifest()["config"]["digest"]);
    let mut wrong = house.blob(&json!(records));
    wrong[20] ^= 1;
    let wrong = BTreeMap::from([(records, wrong)]);
    refused(house.serving(with_config(&|_| {}), wrong), "have digest");
    // Layers: other bytes, too few, none, not in the manifest, and larger than any disk.
    let layer = house.first.layers("app:latest").pop().unwrap();
    let whole = house.blob(&json!(layer));
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let with_layer = |bytes: &[u8]| {
        let blobs = BTreeMap::from([(layer.clone(), bytes.to_vec())]);
        house.serving(serde_json::to_vec(&house.manifest()).unwrap(), blobs)
    };
    refused(with_layer(&flipped), "have digest");
    refused(
        with_layer(&whole[..whole.len() / 2]),
        "and the manifest says",
    );
    let denied = before(&house.registry, move |request, response| {
        match request.path.ends_with(&layer) {
            true => Response::new(403),
            false => response,
        }
    });
    refused(denied, "is not used any more");
    refused(
        house.forged(|manifest, _| manifest["layers"] = json!([])),
        "",
    );
    let of_image = |change: &dyn Fn(&mut Value)| {
        house.forged(|manifest, records| {
            let image = records["steps"][1]["image"].as_str().unwrap().to_owned();
            let document = records["documents"][&image].as_str().unwrap();
            let mut document: Value = serde_json::from_str(document).unwrap();
            change(&mut document);
            for layer in document["layers"].as_array().unwrap() {
                manifest["layers"]
                    .as_array_mut()
                    .unwrap()
                    .push(layer.clone());
            }
            let document = document.to_string();
            records["steps"][1]["image"] = json!(digest(document.as_bytes()));
            records["documents"][digest(document.as_bytes())] = json!(document);
        })
    };
    let gone = digest(b"gone");
    refused(
        of_image(&|image| image["layers"][1]["digest"] = json!(gone)),
        "is not there",
    );
    refused(
        of_image(&|image| image["layers"][1]["size"] = json!(1u64 << 60)),
        "no room",
    );
    refused(
        of_image(&|image| image["layers"][1] = image["layers"][0].clone()),
        "",
    );
}

#[test]
fn a_layer_with_another_diff_id_than_its_config_says_is_not_taken() {
    if skip_without(&NEEDS) {
        return;
    }
    let house = House::new(Door::Open, "FROM base\nRUN echo x > /x\n");
    house.write("");
    // A layer that is whole, has the digest and size that all say, and another content.
    let (mut tar, mut layer) = (tar::Builder::new(Vec::new()), json!(null));
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    tar.append_data(&mut header, "x", &b"other"[..]).unwrap();
    let bytes = tar.into_inner().unwrap();
    let server = {
        let mut manifest = house.manifest();
        let records = house.blob(&manifest["config"]["digest"]);
        let mut records: Value = serde_json::from_slice(&records).unwrap();
        let image = text(&records["steps"][0]["image"]);
        let mut forged: Value =
            serde_json::from_str(records["documents"][&image].as_str().unwrap()).unwrap();
        layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
        layer["digest"] = json!(digest(&bytes));
        layer["size"] = json!(bytes.len());
        forged["layers"][1] = layer.clone();
        manifest["layers"] = json!([layer]);
        let forged = forged.to_string();
        records["steps"][0]["image"] = json!(digest(forged.as_bytes()));
        records["documents"][digest(forged.as_bytes())] = json!(forged);
        let records = records.to_string().into_bytes();
        manifest["config"]["digest"] = json!(digest(&records));
        manifest["config"]["size"] = json!(records.len());
        let blobs = BTreeMap::from([(digest(&records), records), (digest(&bytes), bytes)]);
        house.serving(manifest.to_string().into_bytes(), blobs)
    };
    let other = house.other();
    let built = house.read_from(&other, &behind(&server));
    assert_eq!(built.ran(), 1, "{built}");
    assert!(built.stderr.contains("diff ID"), "{built}");
    other.verify();
    assert!(other.debris().is_empty(), "{:?}", other.debris());
}

#[test]
fn a_registry_that_is_away_costs_a_warning_and_fails_an_export() {
    let context = Context::new("FROM base\nRUN echo x > /x\n");
    let store = Rstore::with_base();
    let away = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("{}/cache:main", listener.local_addr().unwrap())
    };
    let arguments = ["-t", "app", "--cache-from", &away, "--cache-to", &away];
    let built = store.try_build(context.path(), &arguments);
    built.fails(
        1,
        &["is not used", "the image is built, but the cache", &away],
    );
    assert!(store.tags().contains_key("app:latest"));
    store.verify();
}

#[test]
fn a_locked_registry_wants_a_login_for_caches_too() {
    if skip_without(&NEEDS) {
        return;
    }
    let house = House::new(Door::Locked, "FROM base\nRUN echo x > /x\n");
    let (name, logins) = (house.name(), scratch());
    let build = |store: &Rstore, arguments: &[&str]| {
        let mut command = store.command();
        command.env("DOCKER_CONFIG", logins.path()).arg("build");
        command
            .args(["--progress", "classic"])
            .args(arguments)
            .arg(house.context.path());
        let output = command.output().expect("rstore runs");
        Finished::new(&command, &output)
    };
    let refused = build(&house.first, &["--cache-from", &name, "--cache-to", &name]);
    refused.fails(1, &["is not used", "was not written", "rstore login"]);
    let ignored = format!("type=registry,ref={name},ignore-error=true");
    let built = build(&house.first, &["--cache-to", &ignored]).ok();
    assert!(built.stderr.contains("[Warning] the cache"), "{built}");
    log_in(&house.first, &house.registry.host(), logins.path());
    build(&house.first, &["--cache-to", &name]).ok();
    let other = house.other();
    let built = build(&other, &["--cache-from", &name]).ok();
    assert_eq!((built.cached(), built.ran()), (1, 0), "{built}");
}

fn log_in(store: &Rstore, host: &str, logins: &Path) {
    let mut login = store.command();
    login.env("DOCKER_CONFIG", logins);
    login.args(["login", "-u", "me", "-p", "secret", host]);
    let output = login.output().expect("rstore runs");
    Finished::new(&login, &output).ok();
}

#[test]
fn what_a_build_pushes_is_in_the_registry_under_each_of_its_names() {
    if skip_without(&NEEDS) {
        return;
    }
    let house = House::new(Door::Open, "FROM base\nRUN echo x > /x\n");
    let [one, two] = ["team/app:1", "team/app:2"].map(|name| house.registry.name(name));
    let unnamed = house.first.try_build(house.context.path(), &["--push"]);
    unnamed.fails(2, &["a push needs a name", "-t HOST/NAME:TAG"]);
    let arguments = ["-t", &one, "-t", &two, "--push"];
    let built = house.first.build(house.context.path(), &arguments);
    assert!(
        built.stderr.contains("The push refers to repository"),
        "{built}"
    );
    for tag in ["1", "2"] {
        let manifest = house.registry.get(&format!("team/app/manifests/{tag}"));
        assert_eq!(digest(&manifest.unwrap()), house.first.digest(&one));
    }
    let three = house.registry.name("team/other:3");
    let output = format!("type=image,name={three},push=true");
    house.first.build(house.context.path(), &["-o", &output]);
    assert!(house.registry.get("team/other/manifests/3").is_some());
    assert!(!house.first.tags().contains_key(&three));
    let raw = house.first.run([
        "build".as_ref(),
        "--progress=rawjson".as_ref(),
        "--push".as_ref(),
        "-t".as_ref(),
        std::ffi::OsStr::new(&one),
        "--cache-to".as_ref(),
        house.name().as_ref(),
        house.context.path().as_os_str(),
    ]);
    let raw = raw.ok();
    let events: Vec<String> = raw
        .stderr
        .lines()
        .map(|line| text(&serde_json::from_str::<Value>(line).expect(line)["event"]))
        .collect();
    for event in ["cache_export", "pushing", "layer"] {
        assert!(events.iter().any(|e| e == event), "no {event}: {events:?}");
    }
}

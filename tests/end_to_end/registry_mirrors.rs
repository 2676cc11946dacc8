//! What the configuration says of registries: mirrors, certificates, who is believed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::http::{Response, Server};
use crate::support::registry::{Door, Registry, noise_tar};
use crate::support::{Context, Finished, Need, Rstore, package, scratch, skip_without};

const NEEDS: [Need; 1] = [Need::Program("docker-registry")];

/// A store with two images of different layers: `ours:1` and `theirs:1`.
fn with_images() -> Rstore {
    let directory = scratch();
    let store = Rstore::new();
    for name in ["ours", "theirs"] {
        store.import(
            &noise_tar(directory.path(), name, 20_000),
            &format!("{name}:1"),
        );
    }
    store
}

fn configuration(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("config.toml");
    fs::write(&path, text).expect("a file");
    path
}

/// Runs a command in a new store, as a configuration says.
fn configured(text: &str, logins: &Path, arguments: &[&str]) -> (Rstore, Finished) {
    let directory = scratch();
    let store = Rstore::new();
    let mut command = store.command();
    command
        .env("RSTORE_CONFIG", configuration(directory.path(), text))
        .env("DOCKER_CONFIG", logins)
        .args(arguments);
    let output = command.output().expect("rstore runs");
    let finished = Finished::new(&command, &output);
    (store, finished)
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_where_the_mirror_is_down() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, mirror) = (Registry::start(Door::Open), Registry::start(Door::Open));
    let publisher = with_images();
    let name = registry.name("team/app:1");
    publisher.ok(["push", "-q", "theirs:1", &name]);
    publisher.ok(["push", "-q", "ours:1", &mirror.name("hub/team/app:1")]);
    let nowhere = scratch();
    let host = registry.host();
    let of = |more: &str| {
        let mirror = mirror.host();
        format!(
            "[registry.\"{host}\"]\nmirrors = [\"127.0.0.1:1\", \"http://{mirror}/hub/\"]\n{more}"
        )
    };
    let both = of("");
    let pull = |text: &str| configured(text, nowhere.path(), &["pull", &name]);
    let (store, pulled) = pull(&both);
    pulled.ok();
    assert_eq!(store.digest(&name), publisher.digest("ours:1"));
    store.verify();
    let log = store.json(&["log", "-f", "operation=pull"]);
    assert_eq!(
        log["entries"][0]["facts"]["registry"],
        mirror.host().as_str()
    );

    // What the mirror lacks the registry has, unless it is not to be asked.
    let other = registry.name("other:1");
    publisher.ok(["push", "-q", "theirs:1", &other]);
    let (store, pulled) = configured(&both, nowhere.path(), &["pull", &other]);
    pulled.ok();
    assert_eq!(store.digest(&other), publisher.digest("theirs:1"));
    let alone = of("fallback = false\n");
    let (_, refused) = configured(&alone, nowhere.path(), &["pull", &other]);
    let told = format!("the manifest 1 of {}/hub/other is not there", mirror.host());
    let refused = refused.fails(1, &["127.0.0.1:1", &told]);
    assert!(
        !refused.stderr.contains(&format!("of {host}/")),
        "{refused}"
    );

    drop(mirror);
    let (store, pulled) = pull(&both);
    pulled.ok();
    assert_eq!(store.digest(&name), publisher.digest("theirs:1"));
}

#[test]
fn a_mirror_is_shown_the_login_of_its_own_host_and_no_other() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, mirror) = (Registry::start(Door::Locked), Registry::start(Door::Locked));
    let publisher = with_images();
    let logins = scratch();
    // base64 of me:secret.
    let login = |hosts: &[&str]| {
        let auths = hosts
            .iter()
            .map(|host| format!("\"{host}\": {{\"auth\": \"bWU6c2VjcmV0\"}}"));
        let auths = auths.collect::<Vec<_>>().join(",");
        fs::write(
            logins.path().join("config.json"),
            format!("{{\"auths\": {{{auths}}}}}"),
        )
        .expect("a file");
    };
    login(&[&registry.host(), &mirror.host()]);
    let name = registry.name("app:1");
    for (image, target) in [("theirs:1", &name), ("ours:1", &mirror.name("app:1"))] {
        let mut push = publisher.command();
        push.env("DOCKER_CONFIG", logins.path())
            .args(["push", "-q", image, target]);
        let output = push.output().expect("rstore runs");
        Finished::new(&push, &output).ok();
    }
    let by = |host: &str| {
        format!(
            "[registry.\"{}\"]\nmirrors = [\"{host}\"]\n",
            registry.host()
        )
    };
    let (store, pulled) = configured(&by(&mirror.host()), logins.path(), &["pull", &name]);
    pulled.ok();
    assert_eq!(store.digest(&name), publisher.digest("ours:1"));

    // Only the registry's is known: the mirror wants one, gets none, and the registry gives it.
    login(&[&registry.host()]);
    let curious =
        Server::new(|_| Response::new(401).header("www-authenticate", "Basic realm=\"x\""));
    let host = curious
        .http("")
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned();
    let (store, pulled) = configured(&by(&host), logins.path(), &["pull", &name]);
    pulled.ok();
    assert_eq!(store.digest(&name), publisher.digest("theirs:1"));
    let asked = curious.requests();
    assert!(
        asked
            .iter()
            .any(|request| request.path.contains("/manifests/1")),
        "{asked:?}"
    );
    assert!(
        asked
            .iter()
            .all(|request| !request.headers.contains_key("authorization")),
        "{asked:?}"
    );
}

#[test]
fn a_base_that_nobody_has_is_told_with_each_who_was_asked_and_why_not() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let tired = Server::new(|_| Response::new(403));
    let host = tired
        .http("")
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned();
    let text = format!(
        "[registry.\"{}\"]\nmirrors = [\"127.0.0.1:1\", \"{host}\"]\n",
        registry.host()
    );
    let name = registry.name("team/none:7");
    let context = Context::new(&format!("FROM {name}\nRUN true\n"));
    let path = context.path().to_str().expect("UTF-8");
    let (store, built) = configured(&text, context.path(), &["build", path]);
    let built = built.fails(1, &[&format!("cannot pull {name}")]);
    for why in [
        "https://127.0.0.1:1: ".to_owned(),
        format!("http://{host}/v2/team/none/manifests/7: the registry answers 403 (forbidden)"),
        format!(
            "the manifest 7 of {}/team/none is not there",
            registry.host()
        ),
    ] {
        assert!(built.stderr.contains(&why), "no {why:?}: {built}");
    }
    assert!(store.debris().is_empty(), "{:?}", store.debris());
}

#[test]
fn certificates_and_who_needs_none_are_the_configurations_to_say() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Secure);
    let publisher = with_images();
    let name = registry.name("app:1");
    let authority = package().join("tests/fixtures/tls/authority.pem");
    let nowhere = scratch();
    let host = registry.host();
    let run = |text: &str, arguments: &[&str]| {
        let mut command = publisher.command();
        let text = format!("[registry.\"{host}\"]\n{text}\n");
        command
            .env("RSTORE_CONFIG", configuration(nowhere.path(), &text))
            .env("DOCKER_CONFIG", nowhere.path())
            .args(arguments);
        let output = command.output().expect("rstore runs");
        Finished::new(&command, &output)
    };
    let push = ["push", "-q", "ours:1", &name];
    run("", &push).fails(1, &["certificate"]);
    run("ca = '/nonexistent/ca.pem'", &push).fails(1, &["/nonexistent/ca.pem"]);
    run(&format!("ca = '{}'", authority.display()), &push).ok();
    run("insecure = true", &["pull", "-q", &name]).ok();
    run("insecure = true", &["pull", "-q", "--tls-verify", &name]).fails(1, &["certificate"]);
    run("insecure = yes", &push).fails(2, &["config.toml:2:"]);
}

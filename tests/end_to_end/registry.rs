//! Registries: Debian's, on the loopback device, open, locked, and behind TLS.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::peers::{Buildah, Podman, skopeo};
use crate::support::registry::{Door, Registry, noise_tar};
use crate::support::{Context, Finished, Need, Rstore, package, run, scratch, skip_without};

const NEEDS: [Need; 1] = [Need::Program("docker-registry")];

/// A store with an image of a layer that cannot be compressed.
fn with_image(name: &str, size: usize) -> Rstore {
    let directory = scratch();
    let store = Rstore::new();
    store.import(&noise_tar(directory.path(), "noise", size), name);
    store
}

/// Runs a command with logins of its own.
fn with_logins(store: &Rstore, logins: &Path, arguments: &[&str]) -> Finished {
    finished(store.command().env("DOCKER_CONFIG", logins), arguments)
}

fn finished(command: &mut Command, arguments: &[&str]) -> Finished {
    let output = command.args(arguments).output().expect("rstore runs");
    Finished::new(command, &output)
}

#[test]
fn what_is_pushed_comes_back_with_its_digest_and_the_second_time_nothing_moves() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let name = registry.name("team/app:1");
    let store = with_image("app:1", 200_000);
    let digest = store.digest("app:1");
    let pushed = store.run(["push", "app:1", &name]).ok();
    assert!(
        pushed
            .stdout
            .starts_with(&format!("1: digest: {digest} size: ")),
        "{pushed}"
    );
    let repository = registry.name("team/app");
    let told = format!("The push refers to repository [{repository}]");
    assert!(
        pushed.stderr.contains(&told) && pushed.stderr.contains(": Pushed"),
        "{pushed}"
    );
    let again = store.run(["push", "app:1", &name]).ok();
    assert!(again.stderr.contains(": Layer already exists"), "{again}");

    let other = Rstore::new();
    let pulled = other.run(["pull", &name]).ok();
    for words in [
        "1: Pulling from team/app\n".to_owned(),
        ": Pulling fs layer\n".to_owned(),
        ": Pull complete\n".to_owned(),
        format!("Digest: {digest}\n"),
        format!("Status: Downloaded newer image for {name}\n"),
    ] {
        assert!(pulled.stderr.contains(&words), "no {words:?}: {pulled}");
    }
    assert_eq!(pulled.stdout, format!("{name}\n"));
    assert_eq!(other.digest(&name), digest);
    other.verify();
    assert!(other.debris().is_empty(), "{:?}", other.debris());
    let up_to_date = other.run(["pull", &name]).ok();
    assert!(
        up_to_date
            .stderr
            .contains(&format!("Status: Image is up to date for {name}"))
    );
    assert!(
        !up_to_date.stderr.contains("Pulling fs layer"),
        "{up_to_date}"
    );
    other.ok(["fsck"]);

    let log = other.json(&["log"]);
    let log = log["entries"].as_array().expect("entries");
    assert!(
        log.iter()
            .any(|e| e["operation"] == "pull" && e["bytes"].as_u64() > Some(200_000))
    );
    // By its digest alone it has no name, and is in the index.
    let pinned = Rstore::new();
    pinned.ok(["pull", "-q", &registry.name(&format!("team/app@{digest}"))]);
    assert!(pinned.tags().is_empty());
    assert!(
        pinned
            .blobs()
            .contains(digest.strip_prefix("sha256:").expect("a digest"))
    );
    other
        .run(["pull", &registry.name("team/nothing:1")])
        .fails(1, &["team/nothing:1", "is not there"]);
    other.ok(["tag", &name, &registry.name("team/app:2")]);
    other.ok(["push", "-q", &registry.name("team/app:2")]);
    let all = other.ok(["pull", "-q", "-a", &repository]);
    assert_eq!(all, format!("{repository}:1\n{repository}:2\n"));
}

#[test]
fn a_layer_that_another_repository_has_is_mounted_and_not_sent() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let store = with_image(&registry.name("one/app:1"), 300_000);
    store.ok(["push", &registry.name("one/app:1")]);
    let mounted = store.run([
        "push",
        &registry.name("one/app:1"),
        &registry.name("two/app:1"),
    ]);
    let mounted = mounted.ok();
    assert!(
        mounted.stderr.contains(": Mounted from one/app"),
        "{mounted}"
    );
    let pulled = Rstore::new();
    pulled.ok(["pull", &registry.name("two/app:1")]);
    pulled.verify();
}

#[test]
fn a_locked_registry_wants_a_login_and_a_wrong_one_is_told() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Locked);
    let (host, name) = (registry.host(), registry.name("app:1"));
    let store = with_image(&name, 20_000);
    let logins = scratch();
    let run = |arguments: &[&str]| with_logins(&store, logins.path(), arguments);
    let login = format!("rstore login {host}");
    run(&["push", &name]).fails(1, &["wants a login", &login]);
    run(&["login", "-u", "me", "-p", "wrong", &host]).fails(1, &["\"me\"", "refuses the user"]);
    assert!(
        !logins.path().join("config.json").exists(),
        "kept before it was tried"
    );
    run(&["login", "-u", "nobody:", "-p", "x", &host]).fails(2, &["colon"]);
    let done = run(&["login", "-u", "me", "-p", "secret", &host]).ok();
    assert_eq!(done.stdout, "Login Succeeded\n");
    let file = logins.path().join("config.json");
    let mode = fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    run(&["push", &name]).ok();
    let other = Rstore::new();
    with_logins(&other, logins.path(), &["pull", &name]).ok();
    // skopeo reads what we have written.
    let auth = format!("--authfile={}", file.display());
    let image = format!("docker://{name}");
    let told = skopeo(&["inspect", "--tls-verify=false", &auth, &image]);
    assert!(told.contains(&other.digest(&name)), "{told}");
    let gone = run(&["logout", &host]).ok();
    assert_eq!(
        gone.stdout,
        format!("Removing login credentials for {host}\n")
    );
    run(&["pull", &name]).fails(1, &["wants a login"]);
}

#[test]
fn a_login_may_be_podmans_or_a_helpers() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Locked);
    let (host, name) = (registry.host(), registry.name("app:1"));
    let store = with_image(&name, 20_000);
    let directory = scratch();
    let at = |file: &str| directory.path().join(file);
    // base64 of me:secret, as `podman login` keeps it.
    let auth = format!(r#"{{"auths":{{"{host}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#);
    fs::create_dir(at("containers")).expect("a directory");
    fs::write(at("containers/auth.json"), auth).expect("a file");
    let mut podmans = store.command();
    podmans.env("DOCKER_CONFIG", at("none"));
    podmans.env("XDG_RUNTIME_DIR", directory.path());
    finished(&mut podmans, &["push", &name]).ok();

    let helper = at("docker-credential-test");
    let script = format!(
        "#!/bin/sh\nread server\ncase $1 in\nget) [ \"$server\" = {host} ] || {{ echo credentials \
         not found in native keychain; exit 1; }}\n  echo '{{\"Username\":\"me\",\"Secret\":\"secret\"}}';;\n\
         *) echo \"$1 $server\" >> {};;\nesac\n",
        at("told").display()
    );
    fs::write(&helper, script).expect("a script");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::write(at("config.json"), r#"{"credsStore":"test"}"#).expect("a file");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", directory.path().display());
    let run = |arguments: &[&str]| {
        let mut command = store.command();
        command
            .env("DOCKER_CONFIG", directory.path())
            .env("PATH", &path);
        finished(&mut command, arguments)
    };
    run(&["pull", &name]).ok();
    run(&["login", "-u", "me", "-p", "secret", &host]).ok();
    run(&["logout", &host]).ok();
    let told = fs::read_to_string(at("told")).expect("the helper was told");
    assert!(
        told.starts_with("store ") && told.ends_with(&format!("erase {host}\n")),
        "{told}"
    );
    let config = fs::read_to_string(at("config.json")).expect("a file");
    assert_eq!(
        config, r#"{"credsStore":"test"}"#,
        "the helper has it, not the file"
    );
}

#[test]
fn a_certificate_must_be_vouched_for() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Secure);
    let name = registry.name("app:1");
    let store = with_image(&name, 20_000);
    store
        .run(["push", &name])
        .fails(1, &["certificate", "--cert-dir"]);
    let certificates = scratch();
    let authority = package().join("tests/fixtures/tls/authority.pem");
    fs::copy(authority, certificates.path().join("ca.crt")).expect("a copy");
    let directory = certificates.path().to_str().expect("UTF-8");
    store.ok(["push", "--cert-dir", directory, &name]);
    let pulled = Rstore::new();
    pulled
        .run(["pull", "--tls-verify", &name])
        .fails(1, &["certificate"]);
    pulled.ok(["pull", "--tls-verify", "--cert-dir", directory, &name]);
    pulled.ok(["pull", "--tls-verify=false", &name]);
    assert_eq!(pulled.digest(&name), store.digest(&name));
}

#[test]
fn from_and_copy_from_pull_what_is_missing_and_pull_refreshes() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let base = registry.name("base:1");
    let publisher = Rstore::with_base();
    publisher.ok(["push", "-q", "base", &base]);
    let context = Context::new(&format!(
        "FROM {base} AS one\nCOPY mark /mark\nFROM scratch\nCOPY --from=one /mark /\nCOPY --from={base} /bin/busybox /\n"
    ));
    context.file("mark", "1");
    let store = Rstore::new();
    let built = store.build(context.path(), &["-t", "app"]);
    let words = [
        "1: Pulling from base\n",
        "Digest: sha256:",
        "Status: Downloaded newer image for ",
    ];
    let at = words.map(|words| {
        built
            .stderr
            .find(words)
            .unwrap_or_else(|| panic!("{words}: {built}"))
    });
    let step = built.stderr.find("Step 1/").expect("steps");
    assert!(at.is_sorted() && at[2] < step, "{built}");
    assert_eq!(
        built.stderr.matches("Pulling from").count(),
        1,
        "once for all: {built}"
    );
    assert_eq!(store.digest(&base), publisher.digest("base:latest"));
    let again = store.build(context.path(), &[]);
    assert!(!again.stderr.contains("Pulling from"), "{again}");
    let same = store.build(context.path(), &["--pull"]);
    assert!(
        same.stderr.contains("Status: Image is up to date for "),
        "{same}"
    );
    assert_eq!(same.cached(), again.cached(), "{same}");

    publisher.build(
        Context::new("FROM base\nLABEL new=1\n").path(),
        &["-t", &base],
    );
    publisher.ok(["push", "-q", &base]);
    let newer = store.build(context.path(), &["--pull"]);
    assert!(
        newer.stderr.contains("Status: Downloaded newer image for "),
        "{newer}"
    );
    assert_eq!(store.digest(&base), publisher.digest(&base));
    drop(registry);
    store
        .try_build(context.path(), &["--pull"])
        .fails(1, &[&base]);
    let old = store.build(context.path(), &["--pull=newer"]);
    assert!(old.stderr.contains("going on with"), "{old}");
    store.build(context.path(), &[]);
    let empty = Rstore::new();
    empty
        .try_build(context.path(), &["--pull=never"])
        .fails(1, &["no image is called", "may not pull"]);
}

#[test]
fn a_base_that_no_one_has_is_told_with_what_was_tried() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let name = registry.name("no/such:1");
    let context = Context::new(&format!("FROM {name}\n"));
    let store = Rstore::new();
    let words = [
        "Dockerfile:1",
        "no image is called",
        &name,
        "cannot be pulled",
        "is not there",
    ];
    store.try_build(context.path(), &[]).fails(1, &words);
    assert!(store.tags().is_empty() && store.debris().is_empty());
}

#[test]
fn an_index_goes_with_all_its_images_and_one_of_them_is_pulled() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let name = registry.name("multi:1");
    let context = Context::new("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /which\n");
    context.file("amd64", "a");
    context.file("arm64", "b");
    let store = Rstore::new();
    store.build(
        context.path(),
        &["-t", &name, "--platform", "linux/amd64,linux/arm64"],
    );
    store.ok(["push", "-q", &name]);
    let index = store.digest(&name);

    let all = Rstore::new();
    all.ok(["pull", "-q", "--all-platforms", &name]);
    assert_eq!(all.digest(&name), index);
    assert_eq!(
        all.manifest(&name)["manifests"].as_array().map(Vec::len),
        Some(2)
    );
    all.ok(["fsck"]);

    let one = Rstore::new();
    let pulled = one.run(["pull", "--platform", "linux/arm64", &name]).ok();
    assert!(
        pulled.stderr.contains(&format!("Digest: {index}")),
        "{pulled}"
    );
    assert_eq!(one.config(&name)["architecture"], "arm64");
    one.verify();
    one.run(["pull", "--platform", "linux/s390x", &name]).fails(
        1,
        &["no variant for linux/s390x", "linux/amd64", "linux/arm64"],
    );

    // A digest of an index that was pulled is found without the registry.
    let pinned = registry.name(&format!("multi@{index}"));
    let base = Context::new(&format!("FROM {pinned}\nLABEL x=1\n"));
    let builder = Rstore::new();
    builder.build(base.path(), &["-t", "pinned"]);
    drop(registry);
    builder.build(base.path(), &["-t", "pinned"]);
}

#[test]
fn other_tools_take_what_we_push_and_we_what_they_do() {
    if skip_without(&[NEEDS[0], Need::Program("skopeo"), Need::Root]) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let name = |who: &str| registry.name(&format!("{who}:1"));
    let store = Rstore::with_gzip_base();
    store.ok(["push", "-q", "base", &name("rstore")]);
    let digest = store.digest("base:latest");
    let ours = format!("docker://{}", name("rstore"));
    let layout = scratch();
    let path = layout.path().join("layout");
    let copied = format!("oci:{}:x", path.display());
    skopeo(&["copy", "-q", "--src-tls-verify=false", &ours, &copied]);
    let theirs = format!("docker://{}", name("skopeo"));
    skopeo(&["copy", "-q", "--dest-tls-verify=false", &copied, &theirs]);
    store.ok(["pull", "-q", &name("skopeo")]);
    assert_eq!(store.digest(&name("skopeo")), digest);
    if !skip_without(&[Need::Program("buildah")]) {
        let buildah = Buildah::new();
        run(&mut buildah.command(&["pull", "-q", "--tls-verify=false", &name("rstore")]));
        let target = format!("docker://{}", name("buildah"));
        let push = ["push", "-q", "--tls-verify=false", &name("rstore"), &target];
        run(&mut buildah.command(&push));
        store.ok(["pull", "-q", &name("buildah")]);
        assert_eq!(store.id(&name("buildah")), store.id("base:latest"));
    }
    if !skip_without(&[Need::Program("podman")]) {
        let podman = Podman::new();
        podman.run(&["pull", "-q", "--tls-verify=false", &name("rstore")]);
        podman.run(&[
            "push",
            "-q",
            "--tls-verify=false",
            &name("rstore"),
            &name("podman"),
        ]);
        store.ok(["pull", "-q", &name("podman")]);
        assert_eq!(store.id(&name("podman")), store.id("base:latest"));
    }
    store.verify();
}

#[test]
fn an_image_is_copied_from_any_place_to_any_other() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let store = with_image("app:1", 30_000);
    let (digest, id) = (store.digest("app:1"), store.id("app:1"));
    let directory = scratch();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let remote = format!("docker://{}", registry.name("app:1"));
    let chain = [
        "store:app:1".to_owned(),
        remote,
        format!("oci:{}:x", at("layout")),
        format!("oci-archive:{}:y", at("oci.tar")),
        format!("docker://{}", registry.name("other:2")),
        format!("docker-archive:{}:app:3", at("docker.tar")),
        "store:app:4".to_owned(),
    ];
    // A store of its own for each step: nothing is there by chance.
    let last = Rstore::new();
    for pair in chain.windows(2) {
        let own = Rstore::new();
        let through = match (pair[0].as_str(), pair[1].as_str()) {
            ("store:app:1", _) => &store,
            (_, "store:app:4") => &last,
            _ => &own,
        };
        let copied = through.ok(["copy", &pair[0], &pair[1]]);
        assert_eq!(copied, format!("{digest}\n"), "{pair:?}");
    }
    assert_eq!((last.digest("app:4"), last.id("app:4")), (digest, id));
    last.verify();
    assert!(last.debris().is_empty());
    for (arguments, words) in [
        (["copy", "store:", "oci:x"], "needs a name"),
        (["copy", "store:app:1", "somewhere"], "a place begins with"),
    ] {
        store.run(arguments).fails(2, &[words]);
    }
    let absent = format!("oci-archive:{}:nothing", at("oci.tar"));
    store
        .run(["copy", &absent, "store:z"])
        .fails(1, &["none is called \"nothing\"", "y"]);
}

#[test]
fn annotations_travel_as_they_are() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let name = registry.name("noted:1");
    let store = Rstore::new();
    let context = Context::new("FROM scratch\nLABEL a=b\n");
    store.build(
        context.path(),
        &["-t", &name, "--annotation", "org.example.note=kept"],
    );
    store.ok(["push", "-q", &name]);
    let other = Rstore::new();
    other.ok(["pull", "-q", &name]);
    assert_eq!(other.digest(&name), store.digest(&name));
    let manifest: Value = other.manifest(&name);
    assert_eq!(manifest["annotations"]["org.example.note"], "kept");
}

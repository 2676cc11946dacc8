//! Images in archives and layouts: what `save` and `export` write, others read, and so do we.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::peers::{Docker, Podman, skopeo, umoci_unpack};
use crate::support::rstore::text;
use crate::support::tree::{self, Tree};
use crate::support::{BASE, Context, Need, Rstore, run, scratch, skip_without};

/// Hard links, whiteouts, a directory made anew, odd modes and owners, names of all lengths.
pub const DOCKERFILE: &str = r#"
FROM base
WORKDIR /work/deep
COPY files/ .
RUN ln one hard && mkdir out && mv two out/ && chown 1000:1000 out/two && chmod 4755 out/two \
    && mkfifo pipe && ln -s ../../etc/passwd link && mkdir -m 1777 sticky && ln hard out/harder \
    && printf 'x%.0s' $(seq 1 150) | xargs -I {} touch out/long-{}
RUN rm -r /usr/sbin && mkdir /usr/sbin && touch /usr/sbin/fresh && rm /bin/yes one
RUN rm -r out/two && mkdir out/two && echo x > out/two/x && chmod 700 /work && touch gone && rm gone
COPY --chown=5:6 files/two /srv/
ENV A=b
CMD ["sh"]
"#;

pub fn context() -> Context {
    let context = Context::new(DOCKERFILE);
    context.file("files/one", "one\n");
    context.file("files/two", vec![2; 300_000]);
    context.link("files/dangling", "no/where");
    context
}

/// A store with the base and `app`.
fn built(compression: &str) -> Rstore {
    let store = Rstore::with_gzip_base();
    let arguments = ["-t", "app", "-t", "app:2", "--compression", compression];
    store.build(context().path(), &arguments);
    store
}

/// The files of an image, unpacked by umoci.
pub fn files(layout: &Path, tag: &str) -> Tree {
    let work = scratch();
    let image = format!("{}:{tag}", layout.display());
    let mut tree = tree::read(&umoci_unpack(&image, &work.path().join("bundle")));
    tree.remove(Path::new(""));
    tree
}

/// The files of a tar archive, unpacked by tar.
pub fn untarred(archive: &Path) -> Tree {
    let work = scratch();
    let mut tar = Command::new("tar");
    tar.args([
        "-x",
        "--numeric-owner",
        "-p",
        "--xattrs",
        "--xattrs-include=*",
    ]);
    run(tar.arg("-C").arg(work.path()).arg("-f").arg(archive));
    let mut tree = tree::read(work.path());
    tree.remove(Path::new(""));
    tree
}

#[track_caller]
fn save(store: &Rstore, path: &Path, arguments: &[&str]) {
    let path = path.to_str().expect("UTF-8");
    store.ok(["save", "-o", path].iter().chain(arguments));
}

fn load(path: &Path) -> Rstore {
    let store = Rstore::new();
    store.ok(["load".as_ref(), "-i".as_ref(), path.as_os_str()]);
    store.verify();
    store
}

fn hex(id: &str) -> &str {
    id.strip_prefix("sha256:").expect("a digest")
}

#[test]
fn a_docker_archive_has_the_same_images_for_skopeo_podman_and_rstore() {
    if skip_without(&["skopeo", "podman"].map(Need::Program)) || skip_without(&[Need::Root]) {
        return;
    }
    let store = built("gzip");
    let work = scratch();
    let archive = work.path().join("images.tar");
    save(&store, &archive, &["app", "app:2", BASE]);

    let name = |tag: &str| format!("docker-archive:{}:{tag}", archive.display());
    let seen = skopeo(&["inspect", "--config", "--raw", &name("app:2")]);
    let seen: Value = serde_json::from_str(&seen).expect("JSON");
    assert_eq!(seen, store.config("app:latest"));

    let podman = Podman::new();
    podman.run(&["load", "-q", "-i", archive.to_str().expect("UTF-8")]);
    for tag in ["app:latest", "app:2", BASE] {
        assert_eq!(podman.id(tag), hex(&store.id(tag)), "{tag}");
    }

    let other = load(&archive);
    assert_eq!(other.tags(), store.tags(), "names and digests of manifests");
}

#[test]
fn layers_that_not_every_docker_reads_are_uncompressed_in_its_archive() {
    if skip_without(&["skopeo", "podman"].map(Need::Program)) || skip_without(&[Need::Root]) {
        return;
    }
    let store = built("zstd");
    let work = scratch();
    let archive = work.path().join("app.tar");
    save(&store, &archive, &["app"]);
    let podman = Podman::new();
    podman.run(&["load", "-q", "-i", archive.to_str().expect("UTF-8")]);
    assert_eq!(podman.id("app:latest"), hex(&store.id("app:latest")));
    let other = load(&archive);
    assert_eq!(other.id("app:latest"), store.id("app:latest"));
    // A size that the catalog does not know is counted.
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(store.root().join("rstore").join(file));
    }
    let again = work.path().join("again.tar");
    save(&store, &again, &["app"]);
    assert!(fs::read(again).unwrap() == fs::read(archive).unwrap());
}

#[test]
fn docker_loads_what_save_and_build_write() {
    let programs = ["docker", "dockerd"].map(Need::Program);
    if skip_without(&[Need::Root]) || skip_without(&programs) {
        return;
    }
    let Some(docker) = Docker::start() else {
        return;
    };
    let store = built("gzip");
    let work = scratch();
    let archive = work.path().join("app.tar");
    save(&store, &archive, &["app", "app:2"]);
    let squashed = work.path().join("squashed.tar");
    let output = format!("type=docker,dest={}", squashed.display());
    let arguments = [
        "-t",
        "squashed",
        "--squash",
        "--compression",
        "zstd",
        "-o",
        &output,
    ];
    store.build(context().path(), &arguments);
    for archive in [&archive, &squashed] {
        docker.run(&["load", "-q", "-i", archive.to_str().expect("UTF-8")]);
    }
    for tag in ["app:latest", "app:2", "squashed:latest"] {
        let id = docker.run(&["image", "inspect", "--format", "{{.Id}}", tag]);
        assert_eq!(id.trim(), store.id(tag), "{tag}");
    }
    // And back: whatever docker makes of it, the images are the same.
    let saved = work.path().join("saved.tar");
    let arguments = ["save", "-o", saved.to_str().expect("UTF-8")];
    docker.run(&[arguments.as_slice(), &["app:2", "squashed:latest"]].concat());
    let back = load(&saved);
    for tag in ["app:2", "squashed:latest"] {
        assert_eq!(back.id(tag), store.id(tag), "{tag}");
    }
}

#[test]
fn an_oci_archive_has_the_same_manifests_and_files_for_skopeo_umoci_and_rstore() {
    if skip_without(&["skopeo", "umoci"].map(Need::Program)) || skip_without(&[Need::Root]) {
        return;
    }
    let store = built("gzip");
    let work = scratch();
    let archive = work.path().join("app.tar");
    save(&store, &archive, &["--format", "oci-archive", "app", BASE]);
    let copied = work.path().join("copied");
    for tag in ["app:latest", BASE] {
        let source = format!("oci-archive:{}:{tag}", archive.display());
        skopeo(&[
            "copy",
            "-q",
            &source,
            &format!("oci:{}:{tag}", copied.display()),
        ]);
        assert_eq!(Rstore::at(&copied).digest(tag), store.digest(tag));
    }
    tree::assert_same(
        &files(&copied, "app:latest"),
        &files(store.root(), "app:latest"),
    );
    let other = load(&archive);
    assert_eq!(other.digest("app:latest"), store.digest("app:latest"));
    assert_eq!(other.digest(BASE), store.digest(BASE));
}

#[test]
fn a_layout_directory_gets_images_besides_those_that_it_has() {
    if skip_without(&["skopeo", "umoci"].map(Need::Program)) || skip_without(&[Need::Root]) {
        return;
    }
    let store = built("zstd");
    let work = scratch();
    let layout = work.path().join("layout");
    save(&store, &layout, &["--format", "oci", BASE]);
    let names = |layout: &Path| Rstore::at(layout).tags().into_keys().collect::<Vec<_>>();
    assert_eq!(names(&layout), [BASE]);
    // One blob is damaged there: it is written again.
    let blob = Rstore::at(&layout).blob(&store.layers(BASE)[0]);
    fs::write(&blob, "damaged").unwrap();
    save(&store, &layout, &["--format", "oci", "app", BASE]);
    let there = Rstore::at(&layout);
    assert_eq!(names(&layout), ["app:latest", BASE]);
    there.verify();
    let listed = run(crate::support::need::program("umoci")
        .args(["ls", "--layout"])
        .arg(&layout));
    assert!(listed.lines().any(|line| line == "app:latest"), "{listed}");

    let other = work.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.txt"), "x").unwrap();
    let refused = store.run([
        "save",
        "--format",
        "oci",
        "-o",
        other.to_str().unwrap(),
        "app",
    ]);
    refused.fails(1, &["other", "not", "layout"]);
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
}

#[test]
fn what_is_saved_by_its_id_has_no_name_in_the_archive() {
    let store = built("gzip");
    let work = scratch();
    let archive = work.path().join("app.tar");
    let id = store.id("app:latest");
    save(&store, &archive, &[&id[..20]]);
    let other = Rstore::new();
    let told = other.ok(["load".as_ref(), "-i".as_ref(), archive.as_os_str()]);
    assert!(told.contains(&id) && other.tags().is_empty(), "{told}");
}

#[test]
fn an_export_is_the_files_that_umoci_unpacks() {
    if skip_without(&["umoci", "tar"].map(Need::Program)) || skip_without(&[Need::Root]) {
        return;
    }
    let store = built("gzip");
    let work = scratch();
    let archive = work.path().join("rootfs.tar");
    store.ok(["export", "app", "-o", archive.to_str().unwrap()]);
    let tree = untarred(&archive);
    tree::assert_same(&tree, &files(store.root(), "app:latest"));
    let hard = &tree[Path::new("work/deep/out/harder")];
    assert_eq!(hard.same_as.as_deref(), Some(Path::new("work/deep/hard")));
    assert!(!tree.contains_key(Path::new("bin/yes")));
    // As an image again it has the same files.
    let other = Rstore::new();
    other.import(&archive, "again");
    tree::assert_same(&files(other.root(), "again:latest"), &tree);
}

#[test]
fn an_export_keeps_extended_attributes_and_capabilities() {
    if skip_without(&[Need::Root, Need::Program("tar"), Need::Program("setfattr")]) {
        return;
    }
    let work = scratch();
    let root = work.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("ping"), "x").unwrap();
    let capability = "0x0100000200200000000000000000000000000000";
    for (name, value) in [("security.capability", capability), ("user.note", "n")] {
        let mut setfattr = Command::new("setfattr");
        run(setfattr
            .args(["-n", name, "-v", value])
            .arg(root.join("ping")));
    }
    let packed = work.path().join("packed.tar");
    let mut tar = Command::new("tar");
    tar.args(["-c", "--xattrs", "--xattrs-include=*", "-C"]);
    run(tar.arg(&root).arg("-f").arg(&packed).arg("ping"));
    let store = Rstore::new();
    store.import(&packed, "caps");
    let archive = work.path().join("rootfs.tar");
    store.ok(["export", "caps", "-o", archive.to_str().unwrap()]);
    let tree = untarred(&archive);
    assert_eq!(tree[Path::new("ping")].xattrs.len(), 2, "{tree:?}");
    tree::assert_same(&tree, &untarred(&packed));
}

/// Everything in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries
        .map(|entry| name(entry.expect("an entry")))
        .collect()
}

#[test]
fn of_an_archive_that_fails_nothing_is_left() {
    let store = built("gzip");
    let work = scratch();
    let at = |name: &str| work.path().join(name).display().to_string();
    store
        .run(["save", "-o", &at("no/such.tar"), "app"])
        .fails(1, &["no/such.tar"]);
    store
        .run(["save", "-o", &at("x.tar"), "no-such-image"])
        .fails(1, &["no-such-image"]);
    let full = store.run(["save", "-o", "/dev/full", "app"]);
    // That is no disk of ours: no prune makes room there.
    assert!(!full.stderr.contains("prune"), "{full}");
    full.fails(1, &["/dev/full"]);

    // The bytes of a layer are wrong, their number is right.
    let layer: PathBuf = store.blob(&store.layers("app:latest")[0]);
    let mut bytes = fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&layer, &bytes).unwrap();
    let digest = &store.layers("app:latest")[0];
    fs::write(work.path().join("old.tar"), "old").unwrap();
    for arguments in [
        vec!["save", "-o", "new.tar", "app"],
        vec!["save", "-o", "old.tar", "app"],
        vec!["save", "--format", "oci-archive", "-o", "new.tar", "app"],
        vec!["save", "--format", "oci", "-o", "layout", "app"],
        vec!["export", "app", "-o", "new.tar"],
    ] {
        let mut command = store.command();
        command.current_dir(work.path()).args(&arguments);
        let output = command.output().expect("rstore runs");
        crate::support::Finished::new(&command, &output).fails(4, &[digest]);
        assert_eq!(names(work.path()), ["old.tar"], "{arguments:?}");
    }
    assert_eq!(fs::read(work.path().join("old.tar")).unwrap(), b"old");
    assert!(store.debris().is_empty(), "{:?}", store.debris());
}

#[test]
fn a_copy_that_cannot_be_says_what_is_wrong_and_leaves_nothing() {
    let store = built("gzip");
    let work = scratch();
    fs::create_dir_all(work.path().join("other")).unwrap();
    fs::write(work.path().join("other/thesis.txt"), "x").unwrap();
    fs::write(work.path().join("junk.tar"), "junk").unwrap();
    save(&store, &work.path().join("whole.tar"), &["app"]);
    let whole = fs::read(work.path().join("whole.tar")).unwrap();
    fs::write(work.path().join("cut.tar"), &whole[..whole.len() / 2]).unwrap();
    let before = (store.tags(), store.blobs(), names(work.path()).len());
    for (from, to, code, word) in [
        ("oci:nowhere", "store:x", 1, "open nowhere: No such file"),
        ("oci:other", "store:x", 1, "it has no oci-layout"),
        (
            "oci:junk.tar",
            "store:x",
            1,
            "it is a file, and a layout is a directory",
        ),
        (
            "oci-archive:other",
            "store:x",
            1,
            "it is a directory, and an archive is a file",
        ),
        ("oci-archive:nowhere.tar", "store:x", 1, "open nowhere.tar"),
        ("oci-archive:junk.tar", "store:x", 1, "not a tar archive"),
        ("oci-archive:cut.tar", "store:x", 1, "at byte"),
        ("docker-archive:cut.tar", "store:x", 1, "at byte"),
        (
            "docker-archive:whole.tar:other",
            "store:x",
            1,
            "it has app:latest",
        ),
        (
            "store:app",
            "oci:other:x",
            1,
            "neither empty nor an OCI image layout",
        ),
        (
            "store:app",
            "oci:junk.tar:x",
            1,
            "neither empty nor an OCI image layout",
        ),
        (
            "store:app",
            "oci-archive:no/such.tar",
            1,
            "create no/such.tar",
        ),
        ("store:app", "docker-archive:other", 1, "directory"),
        ("store:no-such", "oci:new", 1, "no image is called"),
        (
            "docker-daemon:app:1",
            "store:x",
            2,
            "docker save app:1 | rstore load",
        ),
        (
            "store:app",
            "containers-storage:app",
            2,
            "rstore save app | podman load",
        ),
        ("app", "oci:new", 2, "did you mean store:app"),
        (
            "store:app",
            "oci-archive:-",
            2,
            "`rstore save` writes stdout",
        ),
    ] {
        let mut command = store.command();
        command.current_dir(work.path()).args(["copy", from, to]);
        let output = command.output().expect("rstore runs");
        let finished = crate::support::Finished::new(&command, &output);
        finished.fails(code, &[word]);
    }
    store.ok(["prune", "-f", "--grace", "0s"]);
    let after = (store.tags(), store.blobs(), names(work.path()).len());
    assert_eq!(after, before);
    assert!(store.debris().is_empty(), "{:?}", store.debris());
}

#[test]
fn an_archive_is_not_written_to_a_screen_but_to_a_pipe() {
    let store = built("gzip");
    let mut command = store.command();
    let piped = command.args(["save", "app"]).output().expect("rstore runs");
    assert!(piped.status.success());
    let work = scratch();
    let archive = work.path().join("piped.tar");
    fs::write(&archive, &piped.stdout).unwrap();
    assert_eq!(
        load(&archive).digest("app:latest"),
        store.digest("app:latest")
    );
    store
        .run(["save", "--format", "oci", "app"])
        .fails(2, &["directory"]);
    if skip_without(&[Need::Program("script")]) {
        return;
    }
    let log = work.path().join("log");
    for verb in ["save app", "export app", "build -o - ."] {
        let program = crate::support::rstore::PROGRAM;
        let mut script = Command::new("script");
        script
            .args(["-q", "-e", "-c", &format!("{program} {verb}")])
            .arg(&log);
        script
            .env("RSTORE_ROOT", store.root())
            .current_dir(work.path());
        let output = script.output().expect("script runs");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains("terminal"), "{verb}: {told}");
        assert_eq!(output.status.code(), Some(2), "{verb}: {told}");
    }
}

#[test]
fn archives_of_a_loaded_archive_are_the_same_archives() {
    let store = built("gzip");
    let work = scratch();
    for format in ["docker-archive", "oci-archive"] {
        let (first, second) = (work.path().join("first"), work.path().join("second"));
        save(&store, &first, &["--format", format, "app"]);
        let other = load(&first);
        assert_eq!(
            text(&other.manifest("app:latest")["config"]["digest"]),
            store.id("app:latest")
        );
        save(&other, &second, &["--format", format, "app"]);
        assert!(
            fs::read(&first).unwrap() == fs::read(&second).unwrap(),
            "{format}"
        );
    }
}

/// A store with `multi`, an index of two images for two platforms, each with its own file.
fn multi() -> Rstore {
    let store = Rstore::new();
    let mut members = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let context = Context::new(&format!("FROM scratch\nCOPY Dockerfile /{architecture}\n"));
        let platform = format!("linux/{architecture}");
        store.build(
            context.path(),
            &["-t", architecture, "--platform", &platform],
        );
        let digest = store.digest(&format!("{architecture}:latest"));
        members.push(serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": fs::metadata(store.blob(&digest)).unwrap().len(),
            "platform": { "os": "linux", "architecture": architecture },
        }));
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type, "manifests": members,
    });
    let bytes = serde_json::to_vec(&index).unwrap();
    let digest = rstore::oci::Digest::of(&bytes);
    fs::write(store.blob(&digest.to_string()), &bytes).unwrap();
    // As another tool would name it.
    let path = store.root().join("index.json");
    let mut named: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let entry = serde_json::json!({
        "mediaType": media_type, "digest": digest, "size": bytes.len(),
        "annotations": { "org.opencontainers.image.ref.name": "multi:latest" },
    });
    named["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(&path, serde_json::to_vec(&named).unwrap()).unwrap();
    store
}

#[test]
fn an_image_of_several_platforms_leaves_whole_or_by_the_platform_that_is_asked_for() {
    let store = multi();
    let work = scratch();
    let at = |name: &str| work.path().join(name);
    save(
        &store,
        &at("oci.tar"),
        &["--format", "oci-archive", "multi"],
    );
    let other = Rstore::new();
    other.ok(["load".as_ref(), "-i".as_ref(), at("oci.tar").as_os_str()]);
    assert_eq!(other.digest("multi:latest"), store.digest("multi:latest"));
    assert_eq!(other.blobs().len(), 1 + 2 * 3, "an index, two images");

    for architecture in ["amd64", "arm64"] {
        let platform = format!("linux/{architecture}");
        save(
            &store,
            &at("docker.tar"),
            &["--platform", &platform, "multi"],
        );
        let other = load(&at("docker.tar"));
        let single = format!("{architecture}:latest");
        assert_eq!(other.id("multi:latest"), store.id(&single));
        let output = at("rootfs.tar").display().to_string();
        store.ok(["export", "--platform", &platform, "multi", "-o", &output]);
        let mut archive = tar::Archive::new(fs::File::open(at("rootfs.tar")).unwrap());
        let mut entries = archive.entries().unwrap();
        let first = entries.next().unwrap().unwrap();
        assert_eq!(first.path().unwrap(), Path::new(architecture));
    }
    store
        .run([
            "save",
            "--platform",
            "linux/s390x",
            "-o",
            "/dev/null",
            "multi",
        ])
        .fails(1, &["linux/amd64, linux/arm64"]);
    let oci = [
        "save",
        "--format",
        "oci-archive",
        "--platform",
        "linux/arm64",
        "-o",
        "/dev/null",
    ];
    store
        .run(oci.iter().chain(&["multi"]))
        .fails(2, &["all platforms"]);
}

#[test]
fn the_files_of_several_platforms_are_each_in_a_directory_of_their_own() {
    use rstore::archive::{rootfs, target};
    use rstore::store::{OpenMode, Store};
    let store = multi();
    let digest = store.digest("multi:latest").parse().unwrap();
    let host = std::sync::Arc::new(rstore::cli::host::Machine::new());
    let store = Store::open(store.root(), OpenMode::Existing, host).unwrap();
    let images = rootfs::images(&store, &digest).unwrap();
    assert_eq!(images.len(), 2);
    let work = scratch();
    let directory = work.path().join("rootfs");
    let archive = work.path().join("rootfs.tar");
    let to = target::Target::file(&archive, target::NEVER).unwrap();
    rootfs::write_tar(&store, &images, to).unwrap();
    let mut archive = tar::Archive::new(fs::File::open(&archive).unwrap());
    let entries = archive.entries().unwrap();
    let names: Vec<_> = entries
        .map(|entry| entry.unwrap().path().unwrap().into_owned())
        .collect();
    let expected = [
        "linux_amd64",
        "linux_amd64/amd64",
        "linux_arm64",
        "linux_arm64/arm64",
    ];
    assert_eq!(names, expected.map(PathBuf::from));
    if skip_without(&[Need::Root]) {
        return;
    }
    rootfs::write_directory(&store, &images, &directory, target::NEVER).unwrap();
    assert!(directory.join("linux_arm64/arm64").is_file());
    assert!(directory.join("linux_amd64/amd64").is_file());
}

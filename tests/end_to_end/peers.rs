//! What rstore writes, others read; what others build of the same Dockerfile is the same.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::peers::{Buildah, skopeo, umoci_unpack};
use crate::support::rstore::text;
use crate::support::tree::{self, Tree};
use crate::support::{BASE, Context, Need, Rstore, scratch, skip_without};

/// A Dockerfile with one of everything that two builders can be asked to do alike.
const DOCKERFILE: &str = r#"
ARG RELEASE=7
FROM base:latest AS files
WORKDIR /work/deep
COPY tree/ .
RUN mkdir out && cp -a data out/ && ln -s ../../etc/passwd out/link && ln out/data/one out/hard \
    && mkfifo out/pipe && chown 1000:1000 out/data/two && chmod 4755 out/data/two \
    && mkdir -m 1777 out/sticky && mkdir -m 2750 out/setgid && touch "out/with space" \
    && printf 'x%.0s' $(seq 1 150) | xargs -I {} touch out/long-{}
RUN rm -rf /usr/sbin && mkdir /usr/sbin && touch /usr/sbin/fresh && rm /bin/yes

FROM files AS changes
RUN chmod 700 /work && rm -r /work/deep/data && echo again > /work/deep/data

FROM base:latest
ARG RELEASE
ARG EXTRA=none
ENV RELEASE=$RELEASE GREETING="two words" NEXT=${RELEASE}.${EXTRA:-unset}
LABEL release="$RELEASE" org.example.spaces="a  b"
COPY --from=files /work/deep/out /opt/out
COPY --from=changes /usr/sbin /opt/sbin
COPY --chown=1000:1000 tree/top /srv/
COPY --chown=app tree/data /srv/data
COPY tree/data/o* tree/top /many/
ADD archive.tar /unpacked/
COPY tree/top /renamed
WORKDIR /srv
WORKDIR relative
RUN id -u > id && pwd > where && echo "$GREETING $EXTRA" > greeting && umask > mask
USER app
RUN id -un > /tmp/user && echo "$HOME" > /tmp/home
EXPOSE 80 443/tcp 53/udp
VOLUME ["/data", "/more"]
STOPSIGNAL SIGINT
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo", "$GREETING"]
"#;

fn context() -> Context {
    let context = Context::new(DOCKERFILE);
    context.file("tree/top", "top\n");
    context.file("tree/data/one", "one\n");
    context.file("tree/data/two", vec![2; 100_000]);
    context.file("tree/ignored.o", "object\n");
    context.file("tree/kept.o", "object\n");
    context.file(".dockerignore", "**/*.o\n!tree/kept.o\n");
    context.link("tree/link", "data/one");
    context.mode("tree/data/two", 0o640);
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o604);
    header.set_uid(12);
    header.set_gid(34);
    header.set_mtime(1_600_000_000);
    archive
        .append_data(&mut header, "d/f", &b"abc"[..])
        .expect("a member");
    context.file("archive.tar", archive.into_inner().expect("an archive"));
    context
}

/// A store with the base and `app`, built in a compression that every peer reads.
fn built() -> (Rstore, Context) {
    let store = Rstore::with_gzip_base();
    let context = context();
    store.build(context.path(), &["-t", "app", "--compression", "gzip"]);
    (store, context)
}

/// The files of an image, unpacked by umoci from the layout as it lies there.
fn files(layout: &Path, tag: &str) -> Tree {
    let work = scratch();
    let image = format!("{}:{tag}", layout.display());
    let root = umoci_unpack(&image, &work.path().join("bundle"));
    let mut tree = tree::read(&root);
    // The root directory is umoci's own where no layer has it.
    tree.remove(Path::new(""));
    tree
}

#[test]
fn skopeo_reads_a_tag_in_place() {
    if skip_without(&[Need::Program("skopeo")]) {
        return;
    }
    let (store, _context) = built();
    let image = format!("oci:{}:app:latest", store.root().display());
    let seen: Value = serde_json::from_str(&skopeo(&["inspect", &image])).expect("JSON");
    assert_eq!(text(&seen["Digest"]), store.digest("app:latest"));
    let layers: Vec<String> = seen["Layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect();
    assert_eq!(layers, store.layers("app:latest"));
    assert_eq!(seen["Labels"]["release"], "7");
    let config: Value =
        serde_json::from_str(&skopeo(&["inspect", "--config", "--raw", &image])).expect("JSON");
    assert_eq!(config, store.config("app:latest"));
}

#[test]
fn skopeo_copies_a_tag_to_a_docker_archive() {
    if skip_without(&[Need::Program("skopeo")]) {
        return;
    }
    // In the compression that is the default, too.
    let store = Rstore::with_base();
    let context = context();
    store.build(context.path(), &["-t", "app"]);
    let work = scratch();
    let archive = work.path().join("app.tar");
    let source = format!("oci:{}:app:latest", store.root().display());
    skopeo(&[
        "copy",
        "-q",
        &source,
        &format!("docker-archive:{}:app:copied", archive.display()),
    ]);
    let other = Rstore::new();
    other.ok(["load".as_ref(), "-i".as_ref(), archive.as_os_str()]);
    let (ours, theirs) = (store.config("app:latest"), other.config("app:copied"));
    assert_eq!(ours["rootfs"], theirs["rootfs"]);
    assert_eq!(ours["config"], theirs["config"]);
}

#[test]
fn umoci_unpacks_a_tag_in_place_with_the_same_files_modes_and_owners() {
    if skip_without(&[Need::Root, Need::Program("umoci"), Need::Program("skopeo")]) {
        return;
    }
    let (store, _context) = built();
    let tree = files(store.root(), "app:latest");
    let node = |path: &str| {
        tree.get(Path::new(path))
            .unwrap_or_else(|| panic!("no {path}"))
    };
    assert_eq!(node("opt/out/data/two").mode, 0o104_755);
    assert_eq!(node("opt/out/data/two").owner, (1000, 1000));
    assert_eq!(node("opt/out/sticky").mode, 0o041_777);
    assert_eq!(node("opt/out/setgid").mode, 0o042_750);
    assert_eq!(node("opt/out/link").content, "-> ../../etc/passwd");
    assert_eq!(node("opt/out/pipe").mode & 0o170_000, 0o010_000);
    assert_eq!(node("srv/top").owner, (1000, 1000));
    assert_eq!(node("srv/data/two").owner, (1000, 1000));
    assert_eq!(node("unpacked/d/f").owner, (12, 34));
    assert_eq!(node("unpacked/d/f").mode & 0o777, 0o604);
    assert!(tree.contains_key(Path::new("many/one")) && tree.contains_key(Path::new("many/top")));
    assert!(tree.contains_key(Path::new("opt/sbin/fresh")));
    assert_eq!(
        tree.keys()
            .filter(|path| path.starts_with("opt/sbin"))
            .count(),
        2
    );
    assert!(
        !tree.contains_key(Path::new("work")),
        "a stage's files stay in the stage"
    );
}

#[test]
fn what_umoci_unpacks_is_what_the_build_saw() {
    if skip_without(&[Need::Root, Need::Program("umoci"), Need::Program("skopeo")]) {
        return;
    }
    let store = Rstore::with_gzip_base();
    let context = context();
    // A stage with whiteouts, an opaque directory, hard links and changed modes on top of it.
    store.build(
        context.path(),
        &[
            "-t",
            "changes",
            "--target",
            "changes",
            "--compression",
            "gzip",
        ],
    );
    let tree = files(store.root(), "changes:latest");
    let has = |path: &str| tree.contains_key(Path::new(path));
    assert!(!has("bin/yes") && has("bin/true"));
    assert_eq!(
        tree.keys()
            .filter(|path| path.starts_with("usr/sbin"))
            .count(),
        2
    );
    assert!(!has("work/deep/data/one") && has("work/deep/out/data/one"));
    assert_eq!(tree[Path::new("work")].mode, 0o040_700);
    assert!(has("work/deep/kept.o") && !has("work/deep/ignored.o"));
    let hard = tree[Path::new("work/deep/out/hard")].same_as.as_deref();
    assert_eq!(hard, Some(Path::new("work/deep/out/data/one")));
    assert!(
        !tree
            .keys()
            .any(|path| path.to_string_lossy().contains(".wh."))
    );
}

/// The parts of a configuration that say how a container runs.
fn running(config: &Value) -> Value {
    let mut config = config["config"].clone();
    let labels = config["Labels"].as_object_mut();
    // buildah signs its work.
    labels.expect("labels").remove("io.buildah.version");
    config
}

/// The files of an image that buildah built. It leaves the empty files that it mounted others over.
fn files_of_buildah(layout: &Path, tag: &str) -> Tree {
    let mut tree = files(layout, tag);
    for stub in ["etc/hostname", "etc/hosts", "etc/resolv.conf", "run"] {
        tree.remove(Path::new(stub));
    }
    tree
}

#[test]
fn buildah_makes_the_same_image_of_the_same_dockerfile() {
    let needs = ["buildah", "umoci", "skopeo"].map(Need::Program);
    if skip_without(&[Need::Root]) || skip_without(&needs) {
        return;
    }
    let store = Rstore::with_gzip_base();
    let context = context();
    // What an image from `import` lacks, every real base has.
    let path = Context::new("FROM base\nENV PATH=/usr/sbin:/usr/bin:/sbin:/bin\n");
    store.build(path.path(), &["-t", BASE, "--compression", "gzip"]);
    store.build(
        context.path(),
        &[
            "-t",
            "app",
            "--build-arg",
            "EXTRA=more",
            "--compression",
            "gzip",
        ],
    );

    let buildah = Buildah::new();
    buildah.take(&format!("oci:{}:{BASE}", store.root().display()), BASE);
    buildah.build(context.path(), "theirs", &["--build-arg", "EXTRA=more"]);
    let work = scratch();
    let theirs = work.path().join("theirs");
    buildah.put("theirs", &theirs, "app:latest");

    let (ours, other) = (
        store.config("app:latest"),
        Rstore::at(&theirs).config("app:latest"),
    );
    assert_eq!(running(&ours), running(&other));
    assert_eq!(ours["architecture"], other["architecture"]);
    assert_eq!(ours["os"], other["os"]);
    tree::assert_same(
        &files(store.root(), "app:latest"),
        &files_of_buildah(&theirs, "app:latest"),
    );

    buildah.build(context.path(), "theirs", &["--target", "changes"]);
    buildah.put("theirs", &theirs, "changes:latest");
    store.build(
        context.path(),
        &[
            "-t",
            "changes",
            "--target",
            "changes",
            "--compression",
            "gzip",
        ],
    );
    tree::assert_same(
        &files(store.root(), "changes:latest"),
        &files_of_buildah(&theirs, "changes:latest"),
    );
}

#[test]
fn buildah_and_umoci_accept_the_layout_as_it_lies_on_disk() {
    if skip_without(&[Need::Root, Need::Program("umoci")]) {
        return;
    }
    let (store, _context) = built();
    let layout = store.root().display().to_string();
    let listed = crate::support::run(
        crate::support::need::program("umoci").args(["ls", "--layout", &layout]),
    );
    assert!(listed.lines().any(|line| line == "app:latest"), "{listed}");
    let version = fs::read_to_string(store.root().join("oci-layout")).expect("oci-layout");
    assert!(version.contains("1.0.0"));
}

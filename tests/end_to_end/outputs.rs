//! What leaves a build: `--output`, `--squash`, `--annotation`, `--metadata-file`, `--iidfile`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use super::save::{DOCKERFILE, context, files, untarred};
use crate::support::tree;
use crate::support::user::{Subordinate, User};
use crate::support::{BASE, Context, Finished, Need, Rstore, busybox_tar, scratch, skip_without};

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().expect("UTF-8").to_owned()
}

/// A store whose base is the same each time.
fn fixed() -> Rstore {
    let store = Rstore::new();
    let tar = busybox_tar().to_str().expect("UTF-8");
    store.ok(["import", "--timestamp", "1000000", tar, BASE]);
    store
}

fn json(file: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON")
}

#[test]
fn a_build_writes_all_its_outputs_and_the_store_has_the_image_too() {
    if skip_without(&[Need::Root, Need::Program("umoci"), Need::Program("tar")]) {
        return;
    }
    let store = Rstore::with_gzip_base();
    let work = scratch();
    let at = |name: &str| path(work.path(), name);
    let outputs = [
        format!("type=docker,dest={}", at("docker.tar")),
        format!("type=oci,dest={},name=other:1", at("oci.tar")),
        format!("type=oci,tar=false,dest={}", at("layout")),
        format!("type=tar,dest={}", at("rootfs.tar")),
        at("rootfs"),
        "type=store,name=stored:1".to_owned(),
    ];
    let mut arguments = vec!["-t", "app"];
    outputs
        .iter()
        .for_each(|output| arguments.extend(["-o", output.as_str()]));
    store.build(context().path(), &arguments);

    let names: Vec<String> = store.tags().into_keys().collect();
    assert_eq!(names, ["app:latest", BASE, "stored:1"]);
    let digest = store.digest("app:latest");
    for (archive, name) in [("docker.tar", "app:latest"), ("oci.tar", "other:1")] {
        let other = Rstore::new();
        other.ok(["load", "-i", &at(archive)]);
        assert_eq!(
            other.tags(),
            [(name.to_owned(), digest.clone())].into(),
            "{archive}"
        );
    }
    assert_eq!(
        Rstore::at(&work.path().join("layout")).digest("app:latest"),
        digest
    );
    let image = files(store.root(), "app:latest");
    tree::assert_same(&untarred(&work.path().join("rootfs.tar")), &image);
    // In a directory all is root's, who ran the build.
    let mut directory = tree::read(&work.path().join("rootfs"));
    directory.remove(Path::new(""));
    let mut owned = image;
    owned.values_mut().for_each(|node| node.owner = (0, 0));
    tree::assert_same(&directory, &owned);
}

#[test]
fn without_a_name_what_was_written_is_cache_and_nothing_else() {
    let store = Rstore::with_base();
    let work = scratch();
    let context = Context::new("FROM base\nRUN echo x > /x\n");
    let rootfs = path(work.path(), "rootfs");
    store.build(context.path(), &["-o", &rootfs]);
    assert_eq!(store.tags().len(), 1);
    assert_eq!(
        fs::read_to_string(work.path().join("rootfs/x")).unwrap(),
        "x\n"
    );
    let again = store.build(context.path(), &["-o", &rootfs]);
    assert_eq!((again.cached(), again.ran()), (1, 0), "{again}");
    store.ok(["prune", "-f"]);
    assert_eq!(store.blobs().len(), 3, "the base is left");
}

#[test]
fn a_tar_goes_to_stdout_and_nothing_else_does() {
    let store = Rstore::with_base();
    let context = Context::new("FROM scratch\nCOPY Dockerfile /only\n");
    let mut command = store.command();
    command.args(["build", "-o", "-"]).arg(context.path());
    let output = command.output().expect("rstore runs");
    assert!(output.status.success());
    let mut archive = tar::Archive::new(output.stdout.as_slice());
    let entries = archive.entries().expect("a tar archive");
    let names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .path()
                .expect("a path")
                .into_owned()
        })
        .collect();
    assert_eq!(names, [Path::new("only")]);
    let refused = |arguments: &[&str], words: &[&str]| {
        store.try_build(context.path(), arguments).fails(2, words);
    };
    refused(&["-q", "-o", "-"], &["stdout"]);
    refused(&["-o", "-", "-o", "type=oci"], &["stdout"]);
}

#[test]
fn a_directory_keeps_its_own_files_and_no_link_leads_out_of_it() {
    let store = Rstore::with_base();
    let work = scratch();
    let out = work.path().join("out");
    for directory in ["out/etc", "out/usr", "outside"] {
        fs::create_dir_all(work.path().join(directory)).unwrap();
    }
    fs::write(out.join("mine"), "mine").unwrap();
    fs::write(out.join("etc/config"), "old").unwrap();
    fs::write(work.path().join("outside/secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../outside", out.join("data")).unwrap();
    std::os::unix::fs::symlink("../outside/secret", out.join("file")).unwrap();
    fs::write(out.join("dir"), "a file where a directory comes").unwrap();
    let context = Context::new(
        "FROM scratch\nCOPY a /etc/config\nCOPY a /data/secret\nCOPY a /file\nCOPY a /dir/a\n",
    );
    context.file("a", "new");
    store.build(context.path(), &["-o", out.to_str().unwrap()]);
    let text = |name: &str| fs::read_to_string(work.path().join(name)).unwrap();
    for name in ["out/etc/config", "out/data/secret", "out/file", "out/dir/a"] {
        assert_eq!(text(name), "new", "{name}");
    }
    assert_eq!(
        (text("out/mine"), text("outside/secret")),
        ("mine".into(), "secret".into())
    );
    assert!(!out.join("data").symlink_metadata().unwrap().is_symlink());
    // A link of the image leads nowhere either.
    let context = Context::new("FROM base\nRUN ln -s ../outside /way\nRUN ln -s /etc /absolute\n");
    store.build(context.path(), &["-o", out.to_str().unwrap()]);
    let context = Context::new("FROM scratch\nCOPY a /way/stray\nCOPY a /absolute/stray\n");
    context.file("a", "new");
    store.build(context.path(), &["-o", out.to_str().unwrap()]);
    assert_eq!(
        fs::read_dir(work.path().join("outside")).unwrap().count(),
        1
    );
    assert!(!Path::new("/etc/stray").exists());
}

#[test]
fn an_output_that_cannot_be_written_fails_the_build_and_the_image_stays() {
    let store = Rstore::with_base();
    let work = scratch();
    let context = Context::new("FROM base\nRUN echo x > /x\n");
    let output = format!("type=oci,dest={}", path(work.path(), "no/such.tar"));
    let failed = store.try_build(context.path(), &["-t", "app", "-o", &output]);
    failed.fails(1, &["no/such.tar", "is in the store"]);
    store.whole("app:latest");
    assert!(store.debris().is_empty());
    // Before anything is done where that is clear from the words.
    for (output, word) in [
        ("type=image,name=x", "push=true"),
        ("type=nothing", "store, local"),
    ] {
        store
            .try_build(context.path(), &["-o", output])
            .fails(2, &[word]);
    }
    store
        .try_build(context.path(), &["--pull=sometimes"])
        .fails(2, &["always, newer, missing or never"]);
    let both = [
        "-o",
        "type=oci,dest=x,compression=zstd",
        "--compression",
        "gzip",
    ];
    store
        .try_build(context.path(), &both)
        .fails(2, &["zstd:1", "gzip:1"]);
}

/// What users without root can have of it.
#[test]
fn a_user_owns_what_the_build_put_into_a_directory() {
    if skip_without(&[
        Need::Root,
        Need::Program("useradd"),
        Need::Program("newuidmap"),
    ]) {
        return;
    }
    for (name, ids) in [
        ("outmany", Subordinate::Range),
        ("outone", Subordinate::None),
    ] {
        let user = User::new(name, ids);
        fs::copy(busybox_tar(), user.home().join("base.tar")).expect("a copy");
        fs::create_dir(user.home().join("context")).expect("a directory");
        let chown = match ids {
            Subordinate::Range => " && chown -R 12:34 /x\n",
            Subordinate::None => "\n",
        };
        let text =
            format!("FROM base\nRUN mkdir -p /x/y && echo x > /x/y/z && ln /x/y/z /x/l{chown}");
        fs::write(user.home().join("context/Dockerfile"), text).expect("a file");
        user.own(user.home());
        user.rstore(&["import", "base.tar", "base"]).ok();
        user.rstore(&[
            "build",
            "-t",
            "app",
            "-o",
            "out",
            "-o",
            "type=tar,dest=out.tar",
            "context",
        ])
        .ok();
        let owner = user.home().metadata().expect("a home").uid();
        for (path, node) in tree::read(&user.home().join("out")) {
            assert_eq!(node.owner.0, owner, "{}", path.display());
        }
        user.rstore(&["export", "app", "-o", "exported.tar"]).ok();
        user.rstore(&["save", "app", "-o", "saved.tar"]).ok();
        let read = |name: &str| fs::read(user.home().join(name)).expect("an archive");
        assert!(read("out.tar") == read("exported.tar"), "the same bytes");
        let tree = untarred(&user.home().join("out.tar"));
        let expected = if ids == Subordinate::Range {
            (12, 34)
        } else {
            (0, 0)
        };
        assert_eq!(tree[Path::new("x/y/z")].owner, expected);
        assert!(tree[Path::new("x/y/z")].same_as.is_some());
    }
}

#[test]
fn a_squashed_image_has_the_same_files_in_one_layer_over_the_base() {
    if skip_without(&[Need::Root, Need::Program("umoci")]) {
        return;
    }
    let store = Rstore::with_gzip_base();
    let context = context();
    store.build(context.path(), &["-t", "app"]);
    store.build(context.path(), &["-t", "squashed", "--squash"]);
    assert!(store.layers("app:latest").len() > 5);
    let layers = store.layers("squashed:latest");
    assert_eq!((layers.len(), &layers[..1]), (2, &store.layers(BASE)[..]));
    tree::assert_same(
        &files(store.root(), "squashed:latest"),
        &files(store.root(), "app:latest"),
    );
    let (squashed, app) = (store.config("squashed:latest"), store.config("app:latest"));
    assert_eq!(squashed["config"], app["config"]);
    let steps = |config: &Value| config["history"].as_array().expect("a history").clone();
    let (ours, theirs) = (steps(&squashed), steps(&app));
    assert_eq!(ours.len(), theirs.len() + 1);
    for (squashed, step) in ours.iter().zip(&theirs).skip(1) {
        assert_eq!(squashed["created_by"], step["created_by"]);
        assert_eq!(squashed["empty_layer"], true);
    }
    let comment = ours.last().expect("an entry")["comment"]
        .as_str()
        .expect("a comment");
    assert!(comment.contains(&store.id("app:latest")) && comment.contains(&store.id(BASE)));

    // Made once, and its parts stay as cache.
    let digest = store.digest("squashed:latest");
    store.ok(["untag", "app"]);
    store.ok(["prune", "-f"]);
    store.verify();
    let again = store.build(context.path(), &["-t", "squashed", "--squash"]);
    assert_eq!(again.ran(), 0, "{again}");
    assert_eq!(store.digest("squashed:latest"), digest);
    let child = Context::new("FROM squashed\nRUN test ! -e /bin/yes && test -e /work/deep/hard\n");
    store.build(child.path(), &[]);
}

#[test]
fn a_squash_goes_through_stages_down_to_the_image_that_the_first_stands_on() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base AS one\nRUN echo 1 > /one\nFROM one AS two\nRUN echo 2 > /two && rm /one\nFROM two\nRUN echo 3 > /three\n",
    );
    store.build(context.path(), &["-t", "app", "--squash"]);
    assert_eq!(store.layers("app:latest").len(), 2);
    // On nothing, and where one layer is all there is.
    let scratch = Context::new("FROM scratch\nCOPY Dockerfile /a\nCOPY Dockerfile /b\n");
    store.build(scratch.path(), &["-t", "small", "--squash"]);
    assert_eq!(store.layers("small:latest").len(), 1);
    let one = Context::new("FROM base\nRUN echo 1 > /one\n");
    store.build(one.path(), &["-t", "one"]);
    store.build(one.path(), &["-t", "same", "--squash"]);
    assert_eq!(store.digest("one:latest"), store.digest("same:latest"));
    // Steps that come to nothing leave no layer.
    let nothing = Context::new(
        "FROM base\nRUN touch -d @1 /etc && touch /x\nRUN rm /x && touch -d @1 /etc\n",
    );
    store.build(nothing.path(), &["-t", "nothing", "--squash"]);
    store.whole("nothing:latest");
}

#[test]
fn annotations_are_of_the_result_and_the_id_is_the_same() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nRUN echo x > /x\n");
    let work = scratch();
    let (metadata, layout) = (path(work.path(), "meta.json"), path(work.path(), "layout"));
    store.build(context.path(), &["-t", "plain"]);
    let output = format!("type=oci,tar=false,dest={layout},annotation.from=output");
    store.build(
        context.path(),
        &[
            "-t",
            "app",
            "-o",
            &output,
            "--annotation",
            "org.example.a=1",
            "--annotation",
            "manifest-descriptor:org.example.b=2",
            "--metadata-file",
            &metadata,
        ],
    );
    assert_eq!(store.id("app:latest"), store.id("plain:latest"));
    assert_ne!(store.digest("app:latest"), store.digest("plain:latest"));
    let annotations = &store.manifest("app:latest")["annotations"];
    assert_eq!(annotations["org.example.a"], "1");
    assert_eq!(annotations["from"], "output");
    assert!(annotations.get("org.example.b").is_none());
    assert!(
        store.manifest("plain:latest")["annotations"]
            .get("org.example.a")
            .is_none()
    );
    let index = json(work.path().join("layout/index.json"));
    assert_eq!(index["manifests"][0]["annotations"]["org.example.b"], "2");

    let metadata = json(&metadata);
    assert_eq!(
        metadata["containerimage.digest"],
        store.digest("app:latest")
    );
    assert_eq!(
        metadata["containerimage.config.digest"],
        store.id("app:latest")
    );
    let descriptor = &metadata["containerimage.descriptor"];
    assert_eq!(descriptor["digest"], store.digest("app:latest"));
    let size = fs::metadata(store.blob(&store.digest("app:latest")))
        .unwrap()
        .len();
    assert_eq!(descriptor["size"], size);
    assert_eq!(descriptor["platform"]["os"], "linux");
    assert_eq!(metadata["image.name"], "docker.io/library/app:latest");

    let again = store.build(
        context.path(),
        &[
            "-t",
            "again",
            "--annotation",
            "manifest:org.example.a=1",
            "--annotation",
            "from=output",
        ],
    );
    assert_eq!(
        (again.cached(), store.digest("again:latest")),
        (1, store.digest("app:latest"))
    );
    store.ok(["prune", "-f"]);
    store.verify();
    for (annotation, word) in [
        ("index:a=b", "index"),
        ("manifest-descriptor:a=b", "type oci or docker"),
        ("manifest[linux/s390x]:a=b", "s390x"),
        ("dev.rstore.parent=x", "dev.rstore."),
    ] {
        let arguments = ["--annotation", annotation];
        store
            .try_build(context.path(), &arguments)
            .fails(2, &[word]);
    }
    let twice = ["--annotation", "a=1", "--annotation", "a=2"];
    store
        .try_build(context.path(), &twice)
        .fails(2, &["two values"]);
}

#[test]
fn a_failed_build_leaves_no_file_that_speaks_of_an_earlier_one() {
    let store = Rstore::with_base();
    let work = scratch();
    let (id, metadata) = (path(work.path(), "id"), path(work.path(), "meta.json"));
    let files = ["--iidfile", &id, "--metadata-file", &metadata];
    let context = Context::new("FROM base\nRUN true\n");
    store.build(
        context.path(),
        &["-t", "app", "--iidfile", &id, "--metadata-file", &metadata],
    );
    assert_eq!(fs::read_to_string(&id).unwrap(), store.id("app:latest"));
    store
        .try_build(Context::new("FROM base\nRUN exit 3\n").path(), &files)
        .fails(3, &["3"]);
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0);
    let mut command = store.command();
    command
        .args(["build", "--iidfile", "/dev/stdout"])
        .arg(context.path());
    let output = command.output().expect("rstore runs");
    let told = Finished::new(&command, &output).ok();
    assert_eq!(told.stdout, store.id("app:latest"));
}

#[test]
fn the_same_input_gives_the_same_bytes_in_two_stores_whatever_is_written() {
    let two = "FROM base AS second\nRUN echo 2 > /second && ln /second /hard\n";
    let dockerfile = format!("{two}{DOCKERFILE}COPY --from=second /hard /second /from/\n");
    let outputs = [
        ("docker", "type=docker,dest="),
        ("oci", "type=oci,dest="),
        ("tar", "type=tar,dest="),
    ];
    let work = scratch();
    let mut digests = BTreeSet::new();
    for run in ["first", "second"] {
        let store = fixed();
        let context = context();
        context.file("Dockerfile", &dockerfile);
        for squash in [false, true] {
            let written: Vec<String> = outputs
                .iter()
                .map(|(name, output)| {
                    format!(
                        "{output}{}",
                        path(work.path(), &format!("{run}-{name}-{squash}"))
                    )
                })
                .collect();
            let mut arguments = vec!["-t", "app", "--timestamp", "1600000000"];
            written
                .iter()
                .for_each(|output| arguments.extend(["-o", output.as_str()]));
            arguments.extend(squash.then_some("--squash"));
            store.build(context.path(), &arguments);
            digests.insert((squash, store.digest("app:latest")));
        }
        // Made once more, from layers that were unpacked and not from what the steps left.
        store.ok(["prune", "--snapshots", "-f"]);
        let again = [
            "-t",
            "again",
            "--timestamp",
            "1600000000",
            "--squash",
            "--no-cache",
        ];
        store.build(context.path(), &again);
        assert_eq!(store.digest("again:latest"), store.digest("app:latest"));
    }
    assert_eq!(digests.len(), 2, "{digests:?}");
    for (name, _) in outputs {
        for squash in [false, true] {
            let read =
                |run: &str| fs::read(path(work.path(), &format!("{run}-{name}-{squash}"))).unwrap();
            assert!(read("first") == read("second"), "{name}, squash {squash}");
        }
    }
}

#[test]
fn an_interrupted_output_leaves_nothing_and_says_130() {
    use std::io::Read;
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nCOPY big /big\n");
    // More than a pipe and all buffers before it hold, and not to be compressed away.
    let noise: Vec<u8> = (0u64..1 << 20)
        .flat_map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24).to_le_bytes())
        .collect();
    context.file("big", noise);
    let work = scratch();
    let pipe = work.path().join("pipe");
    crate::support::run(std::process::Command::new("mkfifo").arg(&pipe));
    let file = path(work.path(), "out.tar");
    let outputs = [
        format!("type=oci,dest={}", pipe.display()),
        format!("type=tar,dest={file}"),
    ];
    let mut command = store.command();
    command.args(["build", "-t", "app", "-o", &outputs[0], "-o", &outputs[1]]);
    let mut build = command
        .arg(context.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("rstore runs");
    let mut reader = fs::File::open(&pipe).expect("the build opens the other end");
    reader
        .read_exact(&mut [0; 4096])
        .expect("the archive has begun");
    let id = rustix::process::Pid::from_raw(build.id().cast_signed()).expect("a process");
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("a signal");
    let rest = std::io::copy(&mut reader, &mut std::io::sink()).expect("the build lets go");
    assert!(rest < 4 << 20, "{rest} bytes more were written");
    assert_eq!(build.wait().expect("it ends").code(), Some(130));
    assert_eq!(
        fs::read_dir(work.path()).unwrap().count(),
        1,
        "the pipe alone"
    );
    store.whole("app:latest");
    assert!(store.debris().is_empty(), "{:?}", store.debris());
}

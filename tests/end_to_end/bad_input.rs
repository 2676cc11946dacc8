//! What is wrong is told with its line or path, ends with the right code, and changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::user::{Subordinate, User};
use crate::support::{Context, Need, Rstore, busybox_tar, scratch, skip_without, tree};

/// What a store holds: every file but the catalog's, which may note that somebody looked.
fn holdings(store: &Rstore) -> BTreeMap<PathBuf, tree::Node> {
    let mut files = tree::read(store.root());
    files.retain(|path, _| !path.to_string_lossy().starts_with("rstore/catalog.db"));
    files
}

/// A store with the base, and the base's snapshot: that is no change that anybody should miss.
fn unpacked() -> Rstore {
    let store = Rstore::with_base();
    store.build(Context::new("FROM base\nRUN true\n").path(), &[]);
    store
}

/// Runs `command` on a store with the base, and compares the store before and after.
#[track_caller]
fn leaves_unchanged<T>(store: &Rstore, command: impl FnOnce() -> T) -> T {
    let images = store.ok(["images", "-a", "-q", "--no-trunc"]);
    let before = holdings(store);
    let result = command();
    tree::assert_same(&before, &holdings(store));
    assert_eq!(store.ok(["images", "-a", "-q", "--no-trunc"]), images);
    result
}

#[test]
fn a_wrong_dockerfile_is_told_with_its_line() {
    let store = unpacked();
    // The Dockerfile, the line that is at fault, words of the message.
    let cases: &[(&str, &str, &[&str])] = &[
        ("FROM base\n\nFETCH http://x\n", "3", &["FETCH"]),
        ("FROM base\nRNU true\n", "2", &["RNU", "RUN"]),
        ("FROM base\nCOPY --from=nowhere /a /b\n", "2", &["nowhere"]),
        (
            "FROM base AS a\nCOPY --from=b /x /\nFROM base AS b\n",
            "2",
            &["b"],
        ),
        ("FROM base AS a\nCOPY --from=a /x /\n", "2", &["a"]),
        ("FROM base\nCOPY --from=3 /x /\n", "2", &["3"]),
        ("FROM base\nCOPY absent /\n", "2", &["absent"]),
        ("FROM base\nCOPY ../outside /\n", "2", &["outside"]),
        (
            "FROM base AS a\nFROM base\nCOPY --from=a /absent /\n",
            "3",
            &["absent"],
        ),
        ("FROM nothing-like-it\n", "1", &["nothing-like-it"]),
        ("FROM base\nCOPY one\n", "2", &["COPY"]),
        (
            "FROM base\nRUN [\"unclosed\"\nEXPOSE 99999\n",
            "3",
            &["99999"],
        ),
        ("FROM base\nWORKDIR ${unclosed\n", "2", &["unclosed"]),
        (
            "FROM base\nRUN --no-such-flag true\n",
            "2",
            &["no-such-flag"],
        ),
        ("RUN true\nFROM base\n", "1", &["FROM"]),
        ("FROM base\nCOPY <<EOF /x\nnever ends\n", "2", &["EOF"]),
    ];
    for (dockerfile, line, words) in cases {
        let context = Context::new(dockerfile);
        let failed = leaves_unchanged(&store, || store.try_build(context.path(), &["-t", "app"]));
        let failed = failed.fails(1, words);
        let place = format!("Dockerfile:{line}");
        let spoken = format!("line {line}");
        let told = failed.stderr.contains(&place) || failed.stderr.contains(&spoken);
        assert!(
            told,
            "{dockerfile:?}: neither {place:?} nor {spoken:?} in {failed}"
        );
        assert_eq!(failed.stdout, "", "{failed}");
    }
}

#[test]
fn a_user_that_the_image_does_not_know_is_told_with_the_line_that_needs_it() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nUSER nobody-like-it\nRUN true\n");
    let failed = store.try_build(context.path(), &["-t", "app"]);
    failed.fails(1, &["nobody-like-it", "Dockerfile:3"]);
    assert_eq!(store.debris(), Vec::<PathBuf>::new());
}

#[test]
fn a_dockerfile_that_says_nothing_is_told_with_its_path() {
    let store = Rstore::with_base();
    let cases: &[(&str, &[u8])] = &[
        ("empty", b""),
        ("blank", b"\n\n  \n"),
        ("comments", b"# nothing\n"),
        ("binary", b"\x7fELF\x02\x01\x01\0\0\0\xff\xfe\xfd"),
        ("arguments", b"ARG A=1\n"),
    ];
    let context = Context::new("FROM base\n");
    for (name, contents) in cases {
        let path = context.file(name, contents);
        let path = path.to_str().unwrap();
        let failed = leaves_unchanged(&store, || {
            store.try_build(context.path(), &["-f", path, "-t", "app"])
        });
        failed.fails(1, &[name]);
    }
}

#[test]
fn a_file_that_is_not_there_or_no_file_is_told_with_its_path() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\n");
    let file = context.file("file", "x");
    let absent = context.path().join("absent");
    let directory = context.path().to_str().unwrap();
    let build = |context: &Path, arguments: &[&str]| {
        leaves_unchanged(&store, || store.try_build(context, arguments))
    };
    build(context.path(), &["-f", absent.to_str().unwrap()]).fails(1, &["absent"]);
    build(context.path(), &["-f", directory]).fails(1, &[directory]);
    build(&file, &[]).fails(1, &["file", "director"]);
    build(&absent, &[]).fails(1, &["absent"]);
    fs::remove_file(context.path().join("Dockerfile")).unwrap();
    build(context.path(), &[]).fails(1, &["Dockerfile"]);
}

#[test]
fn a_failing_step_ends_with_its_own_code_and_its_line_is_quoted() {
    let store = unpacked();
    let cases: &[(&str, i32, &[&str])] = &[
        (
            "FROM base\n\nRUN echo out; echo err >&2; exit 7\n",
            7,
            &["3", "exit 7", "out", "err"],
        ),
        (
            "FROM base\nRUN no-such-command\n",
            127,
            &["2", "no-such-command"],
        ),
        (
            "FROM base\nRUN [\"/no/such/file\"]\n",
            127,
            &["2", "/no/such/file"],
        ),
        (
            "FROM base\nRUN [\"/etc/passwd\"]\n",
            126,
            &["2", "/etc/passwd"],
        ),
        ("FROM base\nRUN kill -9 $$\n", 137, &["2", "kill"]),
        ("FROM base\nRUN true && \\\n  # why\n  false\n", 1, &["2"]),
    ];
    for (dockerfile, code, words) in cases {
        let context = Context::new(dockerfile);
        let failed = leaves_unchanged(&store, || store.try_build(context.path(), &["-t", "app"]));
        failed.fails(*code, words);
        assert_eq!(store.debris(), Vec::<PathBuf>::new());
    }
}

#[test]
fn the_steps_before_one_that_fails_stay_in_the_cache() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nRUN echo a > /a\nRUN exit 3\n");
    store.try_build(context.path(), &[]).fails(3, &["exit 3"]);
    context.file("Dockerfile", "FROM base\nRUN echo a > /a\nRUN exit 0\n");
    let built = store.build(context.path(), &[]);
    assert_eq!((built.cached(), built.ran()), (1, 1), "{built}");
}

#[test]
fn a_corrupt_archive_is_told_with_its_path() {
    let store = Rstore::with_base();
    let work = scratch();
    let write = |name: &str, bytes: &[u8]| {
        let path = work.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let tar = fs::read(busybox_tar()).unwrap();
    let gzip = {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&tar).unwrap();
        encoder.finish().unwrap()
    };
    let mut flipped = gzip.clone();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].fill(0x55);
    let cases = [
        write("empty.tar", b""),
        write("text.tar", b"this is no archive"),
        write("noise.tar", &[0xA5; 4096]),
        write("cut.tar", &tar[..tar.len() / 2 + 100]),
        write("cut.tar.gz", &gzip[..gzip.len() / 2]),
        write("flipped.tar.gz", &flipped),
    ];
    for path in &cases {
        let name = path.file_name().unwrap().to_str().unwrap();
        let import = || store.run(["import".as_ref(), path.as_os_str(), "bad".as_ref()]);
        leaves_unchanged(&store, import).fails(1, &[name]);
        let load = || store.run(["load".as_ref(), "-i".as_ref(), path.as_os_str()]);
        leaves_unchanged(&store, load).fails(1, &[name]);
        assert_eq!(store.debris(), Vec::<PathBuf>::new());
    }
    let absent = work.path().join("absent.tar");
    let import = store.run(["import".as_ref(), absent.as_os_str(), "bad".as_ref()]);
    import.fails(1, &["absent.tar"]);
}

#[test]
fn an_archive_whose_config_is_another_is_refused() {
    let store = Rstore::with_base();
    let work = scratch();
    let layer = fs::read(busybox_tar()).unwrap();
    let config = br#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}"#;
    let manifest = br#"[{"Config":"config.json","RepoTags":["bad:1"],"Layers":["layer.tar"]}]"#;
    let mut archive = tar::Builder::new(Vec::new());
    let members: [(&str, &[u8]); 3] = [
        ("config.json", config),
        ("layer.tar", &layer),
        ("manifest.json", manifest),
    ];
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes).unwrap();
    }
    let path = work.path().join("wrong.tar");
    fs::write(&path, archive.into_inner().unwrap()).unwrap();
    let load = || store.run(["load".as_ref(), "-i".as_ref(), path.as_os_str()]);
    leaves_unchanged(&store, load).fails(1, &["wrong.tar"]);
}

/// A store whose base's only layer was damaged by `damage`, and that layer.
fn damaged(damage: impl FnOnce(&mut Vec<u8>)) -> (Rstore, String) {
    let store = Rstore::with_base();
    // Nothing but the blob has the files, and nobody who looked before vouches for it.
    store.ok(["prune", "--snapshots", "-f"]);
    let layer = store.layers("base:latest").remove(0);
    let path = store.blob(&layer);
    let mut bytes = fs::read(&path).unwrap();
    damage(&mut bytes);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, bytes).unwrap();
    (store, layer)
}

#[test]
fn a_truncated_layer_or_one_of_other_bytes_is_told_with_its_digest() {
    let context = Context::new("FROM base\nRUN echo x > /x\n");
    let truncate = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
    };
    let replace = |bytes: &mut Vec<u8>| *bytes = zstd::encode_all(&[0u8; 1024][..], 1).unwrap();
    for (store, layer) in [damaged(truncate), damaged(flip), damaged(replace)] {
        let failed = leaves_unchanged(&store, || store.try_build(context.path(), &["-t", "app"]));
        failed.fails(4, &[&layer["sha256:".len()..][..12]]);
        assert_eq!(store.debris(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_document_that_is_not_what_its_name_says_stops_build_and_prune() {
    let store = Rstore::with_base();
    store.build(
        Context::new("FROM base\nRUN echo x > /x\n").path(),
        &["-t", "app"],
    );
    let manifest = store.digest("app:latest");
    let path = store.blob(&manifest);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let bytes = fs::read_to_string(&path).unwrap();
    fs::write(&path, bytes.replace("sha256:", "sha256;")).unwrap();
    // The catalog remembers better times; without it, the bytes are all there is.
    fs::remove_file(store.root().join("rstore/catalog.db")).unwrap();
    let blobs = store.blobs();
    let prune = store.run(["prune", "-f"]);
    assert_ne!(prune.code, 0, "{prune}");
    prune.fails(4, &[&manifest["sha256:".len()..][..12]]);
    assert_eq!(
        store.blobs(),
        blobs,
        "a prune that cannot read removes nothing"
    );
    let build = store.try_build(Context::new("FROM app\nRUN true\n").path(), &[]);
    build.fails(4, &[&manifest["sha256:".len()..][..12]]);
}

#[test]
fn a_catalog_of_a_newer_format_is_left_alone() {
    let store = Rstore::with_base();
    let path = store.root().join("rstore/catalog.db");
    let catalog = rusqlite::Connection::open(&path).unwrap();
    catalog.pragma_update(None, "user_version", 9999).unwrap();
    drop(catalog);
    let before = tree::read(store.root());
    let context = Context::new("FROM base\nRUN true\n");
    store
        .try_build(context.path(), &["-t", "app"])
        .fails(1, &["catalog", "9999"]);
    for arguments in [&["images"][..], &["prune", "-f"], &["df"]] {
        store.run(arguments).fails(1, &["9999"]);
    }
    let mut after = tree::read(store.root());
    // SQLite's own, made by looking.
    after.retain(|path, _| !path.to_string_lossy().ends_with("-shm"));
    after.retain(|path, _| !path.to_string_lossy().ends_with("-wal"));
    let mut before = before;
    before.retain(|path, _| after.contains_key(path));
    tree::assert_same(&before, &after);
}

#[test]
fn a_store_without_permission_is_told_with_its_path() {
    if skip_without(&[Need::Root, Need::Program("useradd")]) {
        return;
    }
    let user = User::new("locked", Subordinate::None);
    let store = Rstore::with_base();
    let parent = store.root().parent().unwrap();
    fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
    let root = store.root().to_str().unwrap();
    fs::create_dir(user.home().join("context")).unwrap();
    fs::write(
        user.home().join("context/Dockerfile"),
        "FROM base\nRUN true\n",
    )
    .unwrap();
    user.own(user.home());
    // Not to be written, then not to be looked into.
    for mode in [0o755, 0o700] {
        fs::set_permissions(store.root(), fs::Permissions::from_mode(mode)).unwrap();
        let build = ["--root", root, "build", "-t", "app", "context"];
        leaves_unchanged(&store, || user.rstore(&build)).fails(1, &[root]);
    }
    user.rstore(&["--root", root, "prune", "-f"])
        .fails(1, &[root]);
    user.rstore(&["--root", "/proc/store", "build", "context"])
        .fails(1, &["/proc/store"]);
}

#[test]
fn wrong_usage_is_code_2_and_an_absent_store_is_named() {
    let store = Rstore::new();
    for arguments in [
        &["bulid"][..],
        &["build"],
        &["images", "--no-such"],
        &["images", "-f", "nokey=1"],
    ] {
        let store = Rstore::with_base();
        store.run(arguments).fails(2, &[]);
    }
    let root = store.root().to_str().unwrap().to_owned();
    for arguments in [&["images"][..], &["df"], &["prune", "-f"], &["why", "x"]] {
        store.run(arguments).fails(1, &[&root]);
        assert!(!store.root().exists(), "{arguments:?} made a store");
    }
    // A directory of something else is none of ours.
    let work = scratch();
    fs::write(work.path().join("thesis.txt"), "words").unwrap();
    let other = Rstore::at(work.path());
    let context = Context::new("FROM scratch\nCOPY Dockerfile /\n");
    let path = work.path().to_str().unwrap();
    other.try_build(context.path(), &[]).fails(1, &[path]);
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 1);
}

#[test]
fn a_prune_that_nobody_confirms_removes_nothing() {
    let store = Rstore::with_base();
    store.build(Context::new("FROM base\nRUN echo x > /x\n").path(), &[]);
    let mut command = store.command();
    command.arg("prune").stdin(std::process::Stdio::null());
    let output = leaves_unchanged(&store, || command.output().unwrap());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("-f"));
}

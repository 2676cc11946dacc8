//! `ls`, `cat`, `diff`: the files of images, from their blobs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sample::{Image, Layer, Recipe, Sample, program, steady};

/// An archive, one line an entry: `d PATH`, `f PATH CONTENT`, `s PATH TARGET`, `h PATH TARGET`. A
/// whiteout is a file. `\xff` in a name is that byte.
fn archive(text: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<Vec<u8>> = line.split(' ').map(bytes).collect();
        let word = |place: usize| words.get(place).cloned().unwrap_or_default();
        let (kind, rest) = (word(0), word(2));
        let mut header = tar::Header::new_gnu();
        header.set_mode(if kind == b"d" { 0o755 } else { 0o644 });
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        let content: &[u8] = if kind == b"f" { &rest } else { &[] };
        header.set_entry_type(match kind.as_slice() {
            b"d" => tar::EntryType::Directory,
            b"s" => tar::EntryType::Symlink,
            b"h" => tar::EntryType::Link,
            _ => tar::EntryType::Regular,
        });
        header.set_size(content.len() as u64);
        // By hand: the crate refuses names that are absolute or climb.
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..word(1).len()].copy_from_slice(&word(1));
        if matches!(kind.as_slice(), b"s" | b"h") {
            fields.linkname[..rest.len()].copy_from_slice(&rest);
        }
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn bytes(word: &str) -> Vec<u8> {
    let mut pieces = word.split("\\xff");
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        bytes.push(0xff);
        bytes.extend_from_slice(piece.as_bytes());
    }
    bytes
}

fn plain(archive: &[u8]) -> Vec<u8> {
    archive.to_vec()
}

fn gzip(archive: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(archive).unwrap();
    encoder.finish().unwrap()
}

fn zstd(archive: &[u8]) -> Vec<u8> {
    zstd::encode_all(archive, 1).unwrap()
}

/// A store with an image of each of these stacks of layers, tagged. Every third layer is not
/// compressed, the others are in gzip and zstd.
fn store(images: &[(&str, &[&str])]) -> Sample {
    compressed_store(images, [plain, gzip, zstd])
}

type Compress = fn(&[u8]) -> Vec<u8>;

fn compressed_store(images: &[(&str, &[&str])], compress: [Compress; 3]) -> Sample {
    let sample = Sample::new();
    let made: Vec<(&str, Image)> = images
        .iter()
        .map(|(name, layers)| {
            let layer =
                |(n, text): (usize, &&str)| sample.layer_of(&archive(text), compress[n % 3]);
            let layers: Vec<Layer> = layers.iter().enumerate().map(layer).collect();
            let steps = vec!["RUN something"; layers.len()];
            (
                *name,
                sample.image(&Recipe {
                    layers: &layers,
                    steps: &steps,
                    ..Recipe::default()
                }),
            )
        })
        .collect();
    sample.write_index(&made);
    sample
}

/// JSON to be read, without digests, which depend on the compressor.
fn pretty(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap();
    let digest = regex::Regex::new("sha256:[0-9a-f]{64}").unwrap();
    digest.replace_all(&text, "[digest]").into_owned()
}

const BASE: &str = "
    d etc
    f etc/passwd root
    f etc/group wheel
    f etc/old gone
    d usr
    d usr/lib
    f usr/lib/libc.so code
    s lib usr/lib
    d opaque
    f opaque/below b
    s loop loop
    s escape ../../../etc/passwd
    s absolute /etc/passwd
    s dangling nowhere";
const TOP: &str = "
    d etc
    f etc/passwd root:new
    f etc/.wh.old
    d opaque
    f opaque/.wh..wh..opq
    f opaque/above a
    f lib/libm.so math
    h lib/libc.so.6 usr/lib/libc.so";

fn app() -> Sample {
    store(&[
        ("app:latest", &[BASE, TOP]),
        ("base:latest", &[BASE]),
        ("settled:latest", &[BASE, "d etc\nf etc/passwd settled"]),
    ])
}

#[test]
fn ls_lists_a_directory_as_the_layers_make_it() {
    let store = app();
    assert_eq!(store.ok(&["ls", "app", "etc"]), "group\npasswd\n");
    assert_eq!(store.ok(&["ls", "app", "/opaque/"]), "above\n");
    assert_eq!(
        store.ok(&["ls", "app", "lib"]),
        "lib\n",
        "a link is shown itself"
    );
    assert_eq!(
        store.ok(&["ls", "app", "lib/"]),
        "libc.so\nlibc.so.6\nlibm.so\n"
    );
    assert_eq!(
        store.ok(&["ls", "-q", "app", "lib/../../opaque"]),
        "/opaque/above\n"
    );
    assert_eq!(
        store.ok(&["ls", "-R", "app", "usr"]),
        "/usr/lib\n/usr/lib/libc.so\n/usr/lib/libc.so.6\n/usr/lib/libm.so\n"
    );
    assert_eq!(store.ok(&["ls", "app", "etc/passwd"]), "etc/passwd\n");
}

#[test]
fn ls_long_shows_attributes_and_the_layer_of_each_name() {
    let store = app();
    let base = store.json(&["inspect", "base"]);
    let lowest = base[0]["Rstore"]["layers"][0]["digest"].as_str().unwrap()[7..19].to_owned();
    let long = store.ok(&["ls", "-l", "--layer", "app", "etc"]);
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(
        steady(lines[0]),
        "MODE   OWNER   SIZE   MODIFIED   LAYER   NAME"
    );
    assert_eq!(
        steady(lines[1]),
        format!("-rw-r--r--   7:8   5B   2023-11-14 22:13:20   {lowest}   group")
    );
    assert!(
        !lines[2].contains(&lowest) && lines[2].ends_with("passwd"),
        "{long}"
    );
    let links = store.ok(&["ls", "-l", "app", "absolute"]);
    assert!(links.ends_with("   absolute -> /etc/passwd\n"), "{links}");
    insta::assert_snapshot!(steady(
        &store.ok(&["ls", "-lR", "app"]).replace('\u{fffd}', "?")
    ));
}

#[test]
fn ls_as_json_has_everything_and_whole_paths() {
    let store = app();
    let list = store.json(&["ls", "-R", "--format", "json", "app"]);
    insta::assert_snapshot!(pretty(&list));
    let sorted = store.ok(&[
        "ls",
        "-R",
        "--sort",
        "size:desc",
        "-f",
        "type=file",
        "--format",
        "{{.Size}} {{.Path}}",
        "app",
    ]);
    assert!(sorted.starts_with("8B /etc/passwd\n"), "{sorted}");
    let lines = store.ok(&["ls", "--format", "jsonl", "app", "etc"]);
    assert_eq!(lines.lines().count(), 2);
    assert!(
        lines.starts_with(r#"{"schema":1,"path":"/etc/group","type":"file","mode":"0644""#),
        "{lines}"
    );
}

#[test]
fn names_that_are_no_text_leave_as_bytes_and_are_unambiguous_in_json() {
    let store = store(&[("app:latest", &["f caf\\xff x\ns link to\\xff\nf text x"])]);
    let root = store.root();
    let ls = |arguments: &[&str]| {
        let mut command = program();
        command.arg("--root").arg(&root).args(arguments);
        command.output().unwrap().stdout
    };
    assert!(
        ls(&["ls", "app"])
            .split(|b| *b == b'\n')
            .any(|line| line == b"caf\xff")
    );
    assert!(
        ls(&["ls", "-Rq", "app"])
            .split(|b| *b == b'\n')
            .any(|line| line == b"/caf\xff")
    );
    let template = ls(&["ls", "--format", "{{.Name}}", "app"]);
    assert!(String::from_utf8(template).unwrap().contains("caf\\xff\n"));
    let long = ls(&["ls", "-l", "app"]);
    assert!(
        long.split(|b| *b == b'\n')
            .any(|line| line.ends_with(b"link -> to\xff"))
    );
    let list = store.json(&["ls", "--format", "json", "app"]);
    let files = list["files"].as_array().unwrap();
    assert_eq!(files[0]["path"], "/caf\u{fffd}");
    assert_eq!(files[0]["path_base64"], "L2NhZv8=");
    assert_eq!(files[1]["target_base64"], "dG//");
    assert_eq!(files[2].get("path_base64"), None);
    let mut command = program();
    command.arg("--root").arg(&root).args(["cat", "app"]);
    command.arg(std::ffi::OsStr::from_bytes(b"caf\xff"));
    assert_eq!(command.output().unwrap().stdout, b"x");
}

#[test]
fn cat_follows_links_inside_the_image_and_never_out_of_it() {
    let store = app();
    for (path, content) in [
        ("/etc/passwd", "root:new"),
        ("etc/group", "wheel"),
        ("escape", "root:new"),
        ("absolute", "root:new"),
        ("../../etc/../etc/passwd", "root:new"),
        ("lib/libc.so", "code"),
        ("usr/lib/libc.so.6", "code"),
        ("lib/libm.so", "math"),
        ("opaque/above", "a"),
    ] {
        assert_eq!(store.ok(&["cat", "app", path]), content, "{path}");
    }
    assert_eq!(
        store.ok(&["cat", "app", "etc/group", "lib/libm.so"]),
        "wheelmath"
    );
}

#[test]
fn what_cannot_be_shown_is_told_with_what_is_near() {
    let store = app();
    for (arguments, told) in [
        (
            &["cat", "app", "etc/paswd"][..],
            "no such file or directory; did you mean /etc/passwd?",
        ),
        (&["ls", "app", "etc/gruop"], "did you mean /etc/group?"),
        (
            &["cat", "app", "etc/old"],
            "/etc/old: no such file or directory",
        ),
        (&["cat", "app", "opaque/below"], "no such file or directory"),
        (&["cat", "app", "loop"], "too many levels of symbolic links"),
        (&["cat", "app", "dangling"], "there is no /nowhere"),
        (
            &["cat", "app", "etc"],
            "/etc is a directory; `rstore ls` lists it",
        ),
        (
            &["ls", "app", "etc/passwd/x"],
            "/etc/passwd is not a directory but a file",
        ),
        (&["cat", "ap", "etc"], "\"app:latest\""),
        (&["diff", "app", "bass"], "\"base:latest\""),
    ] {
        let run = store.rstore(arguments);
        assert_eq!(run.code, 1, "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(told), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stdout, "");
    }
    for arguments in [
        &["ls", "-f", "type=sock", "app"][..],
        &["ls", "--sort", "beauty", "app"],
        &["ls", "--format", "{{.Nothing}}", "app"],
        &["ls"],
        &["cat", "app"],
        &["diff", "app"],
        &["diff", "--wasted", "app", "base"],
        &["diff", "--layers", "--files", "app", "base"],
        &["diff", "--layers", "-f", "state=added", "app", "base"],
        &["diff", "-f", "state=lost", "app", "base"],
        &["diff", "app", "base", "../x"],
    ] {
        let run = store.rstore(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.stderr);
    }
}

#[test]
fn a_damaged_layer_is_told_by_its_digest_and_what_helps() {
    let store = app();
    let layers = store.json(&["inspect", "--format", "json", "app"]);
    let digest = layers[0]["Rstore"]["layers"][0]["digest"].as_str().unwrap();
    let blob = store.blobs().join(&digest[7..]);
    let mut bytes = fs::read(&blob).unwrap();
    // The content of etc/group: no header, and no checksum but the digest, tells.
    let place = bytes
        .windows(5)
        .position(|window| window == b"wheel")
        .unwrap();
    bytes[place] ^= 1;
    fs::write(&blob, bytes).unwrap();
    for arguments in [
        &["ls", "app"][..],
        &["cat", "app", "etc/group"],
        &["diff", "--wasted", "app"],
    ] {
        let run = store.rstore(arguments);
        assert_eq!(run.code, 4, "{arguments:?}: {}", run.stderr);
        assert!(
            run.stderr.contains(digest) && run.stderr.contains("rstore fsck"),
            "{}",
            run.stderr
        );
    }
    // What the upper layer settles does not need it.
    assert_eq!(store.ok(&["cat", "settled", "etc/passwd"]), "settled");
}

#[test]
fn a_small_file_below_a_large_layer_is_there_at_once() {
    let sample = Sample::new();
    let large = |size: usize| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(size as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, "large", vec![7; size].as_slice())
            .unwrap();
        builder.into_inner().unwrap()
    };
    let layers = [
        sample.layer_of(&archive("f small here\nf other x"), gzip),
        sample.layer_of(&large(100_000_000), gzip),
        sample.layer_of(&archive("f top up"), gzip),
    ];
    let image = sample.image(&Recipe {
        layers: &layers,
        steps: &["RUN a", "RUN b", "RUN c"],
        ..Recipe::default()
    });
    sample.write_index(&[("app:latest", image)]);
    sample.ok(&["images"]);
    let timed = |path: &str| {
        let began = Instant::now();
        let content = sample.ok(&["cat", "app", path]);
        (content, began.elapsed())
    };
    let (content, took) = timed("small");
    assert_eq!(content, "here");
    // What takes it is decompressing and hashing 100 MB once, in a program that is not optimised.
    assert!(took < Duration::from_secs(10), "{took:?}");
    let (content, quick) = timed("top");
    assert_eq!(content, "up");
    assert!(
        quick < took,
        "the layers below were not needed: {quick:?}, {took:?}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let names: String = (0..20_000).map(|n| format!("f file{n} {n}\n")).collect();
    let large: String = format!("f large {}\n", "x".repeat(500_000));
    let store = store(&[("app:latest", &[&names, &large])]);
    for arguments in [&["ls", "app"][..], &["cat", "app", "large"]] {
        let mut command = program();
        command.arg("--root").arg(store.root()).args(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = vec![0];
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut first).unwrap();
        let mut told = String::new();
        BufReader::new(child.stderr.take().unwrap())
            .read_line(&mut told)
            .unwrap();
        let told = told.replace("rstore: notice: the store has no catalog: made one from its 4 blobs (cache and history start anew)\n", "");
        assert_eq!(
            (child.wait().unwrap().code(), told.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn layouts_of_docker_s_media_types_are_read() {
    let sample = Sample::new();
    let layer = sample.layer_of(&archive("d etc\nf etc/x docker"), gzip);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer.diff_id] },
    });
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": { "mediaType": "application/vnd.docker.container.image.v1+json", "digest": sample.blob(&config), "size": config.len() },
        "layers": [{ "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": layer.digest, "size": layer.size }],
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let digest = sample.blob(&manifest);
    let index = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": digest, "size": manifest.len(),
        "annotations": { "org.opencontainers.image.ref.name": "app:latest" },
    }] });
    fs::write(sample.root().join("index.json"), index.to_string()).unwrap();
    assert_eq!(sample.ok(&["cat", "app", "etc/x"]), "docker");
    assert_eq!(sample.ok(&["ls", "app"]), "etc\n");
    assert_eq!(
        sample.ok(&["diff", "--format", "{{.Change}} {{.Path}}", "app", "app"]),
        ""
    );
}

#[test]
fn diff_shows_what_became_of_each_file() {
    let store = app();
    let run = store.rstore(&["diff", "base", "app"]);
    insta::assert_snapshot!(steady(&run.stdout));
    assert!(
        run.stderr
            .ends_with("rstore: 3 added, 1 changed, 2 deleted: +8B\n"),
        "{}",
        run.stderr
    );
    let back = store.ok(&[
        "diff",
        "--format",
        "{{.Change}} {{.Bytes}} {{.Path}}",
        "app",
        "base",
        "/etc",
        "usr/lib/libm.so",
    ]);
    assert_eq!(
        back,
        "A +4B /etc/old\nC -4B /etc/passwd\nD -4B /usr/lib/libm.so\n"
    );
    let list = store.json(&[
        "diff",
        "--format",
        "json",
        "-f",
        "state=changed",
        "base",
        "app",
    ]);
    insta::assert_snapshot!(pretty(&list));
    assert_eq!(
        store.ok(&["diff", "-q", "-f", "state=deleted", "base", "app"]),
        "/etc/old\n/opaque/below\n"
    );
}

#[test]
fn diff_says_by_its_code_whether_there_is_a_difference_if_asked() {
    let store = app();
    for (arguments, code) in [
        (&["diff", "base", "app"][..], 0),
        (&["diff", "--exit-code", "base", "app"], 1),
        (
            &["diff", "--exit-code", "base", "app", "usr/lib/libc.so"],
            0,
        ),
        (&["diff", "--exit-code", "app", "app"], 0),
        (&["diff", "--exit-code", "--layers", "base", "app"], 1),
        (&["diff", "--exit-code", "--layers", "app", "app"], 0),
    ] {
        let run = store.rstore(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {}", run.stderr);
        assert!(!run.stderr.contains("error"), "{}", run.stderr);
    }
}

#[test]
fn diff_of_layers_shows_what_is_shared() {
    let images: [(&str, &[&str]); 2] = [
        ("one:latest", &["f a a", "f b b", "f c c"]),
        ("two:latest", &["f a a", "f x x", "f c c", "f y y"]),
    ];
    let store = compressed_store(&images, [plain; 3]);
    insta::assert_snapshot!(steady(&store.ok(&["diff", "--layers", "one", "two"])));
    let list = store.json(&["diff", "--layers", "--format", "json", "one", "two"]);
    let seen: Vec<Value> = list["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| json!([layer["image"], layer["layer"], layer["elsewhere"]]))
        .collect();
    assert_eq!(
        json!(seen),
        json!([
            ["both", 0, false],
            ["one", 1, false],
            ["one", 2, true],
            ["other", 1, false],
            ["other", 2, true],
            ["other", 3, false],
        ])
    );
}

#[test]
fn diff_wasted_counts_what_upper_layers_replaced_or_removed() {
    let store = store(&[(
        "app:latest",
        &[
            "d a\nf a/kept 1234\nf a/changed 123456\nf gone 12345",
            "d a\nf a/changed 123\nf .wh.gone",
            "d a\nf a/changed 12",
        ],
    )]);
    insta::assert_snapshot!(steady(&store.ok(&["diff", "--wasted", "app"])));
    let waste = store.json(&["diff", "--wasted", "--format", "json", "app"]);
    assert_eq!(waste["schema"], 1);
    assert_eq!(
        (&waste["wasted"], &waste["total"]),
        (&json!(14), &json!(20))
    );
    assert_eq!(waste["efficiency"], json!(6.0 / 20.0));
    let copies = &waste["paths"][0]["copies"];
    assert_eq!(copies[0]["fate"], "replaced");
    assert_eq!(
        copies[2],
        json!({
            "layer": 2, "layer_digest": copies[1]["by_digest"], "size": 2, "fate": "shown", "by": null, "by_digest": null,
        })
    );
    assert_eq!(
        store.ok(&["diff", "--wasted", "-q", "--sort", "path", "app"]),
        "/a/changed\n/gone\n"
    );
    let clean = store.ok(&[
        "diff",
        "--wasted",
        "--format",
        "{{.Wasted}} {{.Copies}} {{.Path}}",
        "app",
    ]);
    assert_eq!(clean, "9B 3 /a/changed\n5B 1 /gone\n");
}

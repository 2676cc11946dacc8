//! What `ls`, `cat` and `diff` say of built images, held against what umoci unpacks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::peers::{skopeo, umoci_unpack};
use crate::support::rstore::{hex, text};
use crate::support::tree::{self, Node, Tree};
use crate::support::{Context, Need, Rstore, scratch, skip_without};

const DOCKERFILE: &str = r#"
FROM base:latest AS first
RUN mkdir -p /work/deep && cd /work && echo one > deep/one && ln deep/one hard && ln deep/one twin && mkfifo pipe \
    && ln -s ../etc/passwd link && touch gone && mkdir -m 1777 sticky && mkdir -m 2750 setgid \
    && cp /bin/busybox suid && chown 1000:1001 suid && chmod 4755 suid \
    && mkdir opaque && touch opaque/below && touch "with space" && mknod device c 1 3
FROM first
RUN cd /work && rm gone && rm -r opaque && mkdir opaque && touch opaque/above && echo two > hard \
    && chmod 700 deep && chown 5 link -h && rm pipe && mkdir pipe
RUN rm -r /usr/sbin && ln -s /work/deep /usr/sbin && touch /usr/sbin/through && rm /bin/yes
"#;

fn built() -> Rstore {
    let store = Rstore::with_gzip_base();
    let context = Context::new(DOCKERFILE);
    let gzip = ["--compression", "gzip"];
    store.build(
        context.path(),
        &[&["-t", "first", "--target", "first"], &gzip[..]].concat(),
    );
    store.build(context.path(), &[&["-t", "app"], &gzip[..]].concat());
    store
}

/// An image as umoci unpacks it, without the root directory, which is umoci's own.
fn unpacked(store: &Rstore, tag: &str) -> Tree {
    let work = scratch();
    let image = format!("{}:{tag}", store.root().display());
    let mut tree = tree::read(&umoci_unpack(&image, &work.path().join("bundle")));
    tree.remove(Path::new(""));
    tree
}

fn path(file: &Value) -> PathBuf {
    PathBuf::from(text(&file["path"]).trim_start_matches('/'))
}

/// Type, permissions, owner, and the size of a file or where a link leads, as `stat` would tell.
fn told(file: &Value) -> (u32, (u32, u32), String) {
    let kind = match file["type"].as_str() {
        Some("file") => 0o100_000,
        Some("directory") => 0o040_000,
        Some("symlink") => 0o120_000,
        Some("char") => 0o020_000,
        Some("fifo") => 0o010_000,
        other => panic!("{other:?}"),
    };
    let mode = u32::from_str_radix(file["mode"].as_str().unwrap(), 8).unwrap();
    let number = |name: &str| u32::try_from(file[name].as_u64().unwrap()).unwrap();
    let content = match kind {
        0o100_000 => format!("{} bytes", file["size"]),
        0o120_000 => format!("-> {}", text(&file["target"])),
        0o020_000 => text(&file["device"]),
        _ => String::new(),
    };
    (kind | mode, (number("uid"), number("gid")), content)
}

fn seen(node: &Node) -> (u32, (u32, u32), String) {
    let content = match node.content.as_str() {
        // 1:3, /dev/null.
        "device 259" => "1:3".to_owned(),
        content if content.starts_with("device") => String::new(),
        content => content
            .split_once(" bytes ")
            .map_or(content.to_owned(), |(size, _)| format!("{size} bytes")),
    };
    (node.mode, node.owner, content)
}

#[test]
fn ls_and_cat_show_what_umoci_unpacks() {
    if skip_without(&[Need::Root, Need::Program("umoci")]) {
        return;
    }
    let store = built();
    let tree = unpacked(&store, "app:latest");
    let list = store.json(&["ls", "-R", "app"]);
    let files = list["files"].as_array().unwrap();
    let ours: BTreeMap<PathBuf, _> = files.iter().map(|file| (path(file), told(file))).collect();
    let theirs: BTreeMap<PathBuf, _> = tree
        .iter()
        .map(|(path, node)| (path.clone(), seen(node)))
        .collect();
    for (path, theirs) in &theirs {
        assert_eq!(ours.get(path), Some(theirs), "{}", path.display());
    }
    assert_eq!(ours.len(), theirs.len());
    assert!(theirs.len() > 100, "{}", theirs.len());
    let twin = files
        .iter()
        .find(|file| file["path"] == "/work/twin")
        .unwrap();
    assert_eq!(twin["links"], 2);
    for name in [
        "work/deep/one",
        "work/hard",
        "work/suid",
        "etc/passwd",
        "usr/sbin/through",
    ] {
        use sha2::Digest;
        let output = store.command().args(["cat", "app", name]).output().unwrap();
        assert!(output.status.success());
        // Through a link the file has another path in the tree.
        let node = tree
            .get(Path::new(name))
            .unwrap_or(&tree[Path::new("work/deep/through")]);
        assert!(
            node.content
                .ends_with(&hex(&sha2::Sha256::digest(&output.stdout))),
            "{name}"
        );
    }
}

#[test]
fn layouts_that_skopeo_and_umoci_wrote_are_read_as_they_are() {
    if skip_without(&[Need::Root, Need::Program("umoci"), Need::Program("skopeo")]) {
        return;
    }
    let store = built();
    let work = scratch();
    let layout = work.path().join("layout");
    let (source, image) = (store.root().display(), format!("{}:app", layout.display()));
    skopeo(&[
        "copy",
        "-q",
        &format!("oci:{source}:app:latest"),
        &format!("oci:{image}"),
    ]);
    std::fs::write(work.path().join("fresh"), "inserted\n").unwrap();
    let mut umoci = Command::new("umoci");
    umoci
        .args(["insert", "--image", &image])
        .arg(work.path().join("fresh"));
    assert!(umoci.arg("/work/fresh").status().unwrap().success());
    let other = Rstore::at(&layout);
    assert_eq!(other.ok(["cat", "app", "/work/fresh"]), "inserted\n");
    let files = |store: &Rstore| store.ok(["ls", "-Rq", "app"]);
    let without = files(&other).replace("/work/fresh\n", "");
    assert_eq!(without, files(&store));
    let wasted = other.json(&["diff", "--wasted", "app"]);
    assert_eq!(
        wasted["wasted"],
        store.json(&["diff", "--wasted", "app"])["wasted"]
    );
}

#[test]
fn diff_shows_what_is_not_the_same_in_two_unpacked_trees() {
    if skip_without(&[Need::Root, Need::Program("umoci")]) {
        return;
    }
    let store = built();
    let (one, other) = (
        unpacked(&store, "first:latest"),
        unpacked(&store, "app:latest"),
    );
    let bare = |tree: &Tree, path: &PathBuf| {
        // That a file has other names is no difference of its own.
        let node = tree.get(path)?;
        Some((
            node.mode,
            node.owner,
            node.content.clone(),
            node.xattrs.clone(),
        ))
    };
    let expected: BTreeSet<PathBuf> = one
        .keys()
        .chain(other.keys())
        .filter(|path| bare(&one, path) != bare(&other, path))
        .cloned()
        .collect();
    let list = store.json(&["diff", "first", "app"]);
    let files = list["files"].as_array().unwrap();
    let found: BTreeSet<PathBuf> = files.iter().map(path).collect();
    assert_eq!(found, expected);
    let change = |name: &str| {
        let file = files.iter().find(|file| file["path"] == name).unwrap();
        (text(&file["change"]), file["aspects"].clone())
    };
    assert_eq!(
        change("/work/pipe"),
        ("changed".to_owned(), serde_json::json!(["type", "mode"]))
    );
    assert_eq!(change("/work/link").1, serde_json::json!(["owner"]));
    assert_eq!(change("/work/deep").1, serde_json::json!(["mode"]));
    assert_eq!(change("/work/gone").0, "deleted");
}

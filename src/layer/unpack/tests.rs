//! What an honest layer becomes.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::layer::entry::{Device, Entry, Mtime};
use crate::layer::testing::{
    Entries, archive, assert_same, dir, directory, file, hardlink, is_root, overlay_view, skip,
    symlink, tree,
};

fn unpack_to(entries: &[(Entry, Vec<u8>)], root: &Path, target: Target<'_>) -> Result<Unpacked> {
    let options = UnpackOptions {
        target,
        ignore_unmapped_owners: !is_uid_0(),
    };
    unpack(
        archive(entries).as_slice(),
        dir(root).as_fd(),
        &options,
        &Expected::default(),
    )
}

fn is_uid_0() -> bool {
    rustix::process::geteuid().is_root()
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn attributes(path: impl AsRef<Path>) -> (u32, i64, i64) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (
        metadata.mode() & 0o7777,
        metadata.mtime(),
        metadata.mtime_nsec(),
    )
}

fn with(mut entry: (Entry, Vec<u8>), mode: u32, seconds: i64) -> (Entry, Vec<u8>) {
    entry.0.mode = mode;
    entry.0.mtime = Mtime {
        seconds,
        nanoseconds: 123_456_789,
    };
    entry
}

#[test]
fn times_and_modes_of_directories_outlive_what_is_put_into_them() {
    let root = tempfile::tempdir().unwrap();
    let entries = [
        with(directory(""), 0o750, -5),
        with(directory("shut"), 0o500, 1_000),
        with(directory("shut/inner"), 0o000, 2_000),
        with(file("shut/inner/late", "x"), 0o4755, 3_000),
        with(file("shut/late", "x"), 0o444, -1),
    ];
    unpack_to(&entries, root.path(), Target::Plain).unwrap();
    assert_eq!(attributes(root.path()), (0o750, -5, 123_456_789));
    assert_eq!(
        attributes(root.path().join("shut")),
        (0o500, 1_000, 123_456_789)
    );
    assert_eq!(
        attributes(root.path().join("shut/late")),
        (0o444, -1, 123_456_789)
    );
    if is_uid_0() {
        assert_eq!(
            attributes(root.path().join("shut/inner")),
            (0, 2_000, 123_456_789)
        );
        let file = root.path().join("shut/inner/late");
        assert_eq!(attributes(file), (0o4755, 3_000, 123_456_789));
    }
}

#[test]
fn directories_that_no_entry_names_are_made_the_same_each_time() {
    let root = tempfile::tempdir().unwrap();
    unpack_to(&[file("a/b/c", "x")], root.path(), Target::Plain).unwrap();
    assert_eq!(attributes(root.path().join("a")), (0o755, 0, 0));
    assert_eq!(attributes(root.path().join("a/b")), (0o755, 0, 0));
}

#[test]
fn the_last_of_entries_with_one_name_wins_and_a_directory_keeps_its_content() {
    for target in [Target::Plain, Target::Tree] {
        let root = tempfile::tempdir().unwrap();
        let entries = [
            directory("dir"),
            file("dir/kept", "kept"),
            with(directory("dir"), 0o700, 9),
            file("file", "one"),
            file("file", "two"),
            directory("other"),
            file("other/gone", ""),
            file("other", "now a file"),
            symlink("link", "x"),
            directory("link"),
        ];
        unpack_to(&entries, root.path(), target).unwrap();
        assert_eq!(text(root.path().join("dir/kept")), "kept");
        assert_eq!(attributes(root.path().join("dir")), (0o700, 9, 123_456_789));
        assert_eq!(text(root.path().join("file")), "two");
        assert_eq!(text(root.path().join("other")), "now a file");
        assert!(
            fs::symlink_metadata(root.path().join("link"))
                .unwrap()
                .is_dir()
        );
    }
}

#[test]
fn plain_extraction_takes_whiteout_names_for_names() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("name"), "").unwrap();
    unpack_to(&[file(".wh.name", "plain")], root.path(), Target::Plain).unwrap();
    assert_eq!(text(root.path().join(".wh.name")), "plain");
    assert!(root.path().join("name").exists());
}

#[test]
fn long_runs_of_zeros_become_holes_of_the_right_length() {
    let root = tempfile::tempdir().unwrap();
    let mut content = vec![0; 3 << 20];
    content[1 << 20] = 1;
    let kind = Kind::File {
        size: content.len() as u64,
    };
    let entries = [
        (Entry::new("holes", kind, 0o644), content.clone()),
        (
            Entry::new("zeros", Kind::File { size: 1 << 20 }, 0o644),
            vec![0; 1 << 20],
        ),
    ];
    unpack_to(&entries, root.path(), Target::Plain).unwrap();
    assert!(fs::read(root.path().join("holes")).unwrap() == content);
    assert_eq!(
        fs::metadata(root.path().join("zeros")).unwrap().len(),
        1 << 20
    );
    assert!(fs::metadata(root.path().join("holes")).unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn paths_longer_than_the_kernel_takes_are_made_and_kept() {
    let root = tempfile::tempdir().unwrap();
    let mut path = String::new();
    let mut entries = Vec::new();
    for _ in 0..25 {
        path.push_str(&"n".repeat(200));
        entries.push(with(directory(&path), 0o711, 7));
        path.push('/');
    }
    entries.push(file(&format!("{path}file"), "deep"));
    assert!(path.len() > 5000);
    unpack_to(&entries, root.path(), Target::Plain).unwrap();
    let found = tree(root.path());
    assert_eq!(found.len(), 26);
    assert_eq!(found[25].1, b"deep");
    assert!(
        found[..25]
            .iter()
            .all(|(entry, _)| entry.mode == 0o711 && entry.mtime.seconds == 7)
    );
    crate::fsutil::remove_tree(root.path()).unwrap();
}

/// The base that the following tests apply a layer to.
fn base() -> Vec<(Entry, Vec<u8>)> {
    vec![
        with(directory(""), 0o755, 11),
        with(directory("dir"), 0o711, 12),
        with(directory("dir/sub"), 0o1777, 13),
        with(file("dir/sub/old", "old"), 0o600, 14),
        with(file("dir/file", "file"), 0o4755, 15),
        with(symlink("lib", "usr/lib"), 0o777, 16),
        with(symlink("abs", "/usr"), 0o777, 16),
        with(symlink("up", "../../usr/lib/../lib"), 0o777, 16),
        with(symlink("dangling", "usr/new"), 0o777, 16),
        with(directory("usr"), 0o755, 17),
        with(directory("usr/lib"), 0o750, 18),
        with(file("usr/lib/a.so", "a"), 0o644, 19),
    ]
}

/// Layers over [`base`], by what they try. The paths that the result is about, sorted, with the
/// content of files.
fn layers() -> Vec<(&'static str, Entries)> {
    vec![
        (
            "a file in directories that only the base names",
            vec![file("dir/sub/new", "new")],
        ),
        ("a whiteout of a file", vec![file("dir/.wh.file", "")]),
        ("a whiteout of a directory", vec![file(".wh.dir", "")]),
        ("a whiteout of nothing", vec![file("dir/.wh.nothing", "")]),
        (
            "a whiteout in a directory that is nowhere",
            vec![file("nowhere/.wh.nothing", "")],
        ),
        (
            "a directory that takes the place of the old one, whiteout first",
            vec![
                file(".wh.dir", ""),
                directory("dir"),
                file("dir/new", "new"),
            ],
        ),
        (
            "a directory that takes the place of the old one, whiteout last",
            vec![
                with(directory("dir"), 0o700, 1),
                file("dir/new", "new"),
                file(".wh.dir", ""),
            ],
        ),
        (
            "an opaque directory",
            vec![
                directory("dir"),
                file("dir/.wh..wh..opq", ""),
                file("dir/n", ""),
            ],
        ),
        (
            "an opaque mark after the entries",
            vec![
                directory("dir"),
                directory("dir/sub"),
                file("dir/sub/new", "new"),
                file("dir/.wh..wh..opq", ""),
            ],
        ),
        (
            "an opaque root",
            vec![
                file("new", "new"),
                file(".wh..wh..opq", ""),
                directory("usr"),
            ],
        ),
        ("a file for a directory", vec![file("dir", "file now")]),
        (
            "a directory for a file",
            vec![directory("dir/file"), file("dir/file/in", "in")],
        ),
        (
            "a file in what below is a file",
            vec![file("dir/file/in", "in")],
        ),
        (
            "a directory for a link",
            vec![directory("lib"), file("lib/own", "own")],
        ),
        (
            "a file through a link",
            vec![file("lib/through", "through")],
        ),
        (
            "a file through an absolute link",
            vec![file("abs/lib/through", "through")],
        ),
        (
            "a file through a link that climbs",
            vec![file("up/through", "through")],
        ),
        (
            "a file through a link to nothing",
            vec![file("dangling/through", "through")],
        ),
        ("a whiteout through a link", vec![file("lib/.wh.a.so", "")]),
        (
            "a link and a file through it",
            vec![symlink("dir/way", "/dir/sub"), file("dir/way/x", "x")],
        ),
        (
            "a hard link to a file of the base",
            vec![hardlink("dir/hard", "usr/lib/a.so")],
        ),
        (
            "a hard link through a link",
            vec![hardlink("hard", "lib/a.so")],
        ),
        (
            "a hard link to itself",
            vec![file("self", "self"), hardlink("self", "self")],
        ),
        (
            "a file, then a directory",
            vec![file("dir", "x"), directory("dir"), file("dir/n", "n")],
        ),
        (
            "aufs' book-keeping",
            vec![file("dir/.wh..wh.aufs", ""), directory(".wh..wh.plnk")],
        ),
    ]
}

/// The two ways to apply a layer agree: to the whole tree, and as an overlay's lower directory
/// that the kernel merges.
#[test]
fn an_overlay_of_layers_shows_what_the_layers_make_of_a_tree() {
    let test = "an_overlay_of_layers_shows_what_the_layers_make_of_a_tree";
    if !is_root(test) {
        return;
    }
    for (what, layer) in layers() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = place.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (whole, below, above) = (at("whole"), at("below"), at("above"));
        unpack_to(&base(), &whole, Target::Tree).unwrap();
        unpack_to(&layer, &whole, Target::Tree).unwrap_or_else(|error| panic!("{what}: {error}"));

        let xattrs = OverlayXattrs::Trusted;
        unpack_to(
            &base(),
            &below,
            Target::Overlay {
                xattrs,
                parent: None,
            },
        )
        .unwrap();
        let parent = dir(&below);
        let target = Target::Overlay {
            xattrs,
            parent: Some(parent.as_fd()),
        };
        unpack_to(&layer, &above, target).unwrap_or_else(|error| panic!("{what}: {error}"));
        let Some(view) = overlay_view(test, &[&above, &below], false) else {
            return;
        };

        let merged = tree(&view.path());
        let whole_tree = tree(&whole);
        assert_same(&without_links(&merged), &without_links(&whole_tree), what);
        assert_eq!(attributes(view.path()), attributes(&whole), "{what}");
    }
}

/// A link to a file of a lower layer is a copy in an overlay, so only what the names show counts.
fn without_links(tree: &[(Entry, Vec<u8>)]) -> Vec<(Entry, Vec<u8>)> {
    let content = |path: &[u8]| {
        tree.iter()
            .find(|(entry, _)| entry.path == path)
            .map(|(entry, content)| (entry.kind.clone(), content.clone()))
    };
    tree.iter()
        .map(|(entry, bytes)| match &entry.kind {
            Kind::Hardlink { target } => {
                let (kind, bytes) = content(target).unwrap();
                (
                    Entry {
                        kind,
                        ..entry.clone()
                    },
                    bytes,
                )
            }
            _ => (entry.clone(), bytes.clone()),
        })
        .collect()
}

#[test]
fn whiteouts_in_an_overlay_are_the_kernel_s_and_only_where_something_is_below() {
    if !is_root("whiteouts_in_an_overlay_are_the_kernel_s_and_only_where_something_is_below") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (below, above) = (place.path().join("below"), place.path().join("above"));
    fs::create_dir(&below).unwrap();
    fs::create_dir(&above).unwrap();
    for (xattrs, name) in [
        (OverlayXattrs::User, "user.overlay.opaque"),
        (OverlayXattrs::Trusted, "trusted.overlay.opaque"),
    ] {
        let parent = dir(&below);
        let layer = [
            file("a/.wh.gone", ""),
            directory("b"),
            file("b/.wh..wh..opq", ""),
            file("a/x", ""),
        ];
        unpack_to(
            &layer,
            &above,
            Target::Overlay {
                xattrs,
                parent: Some(parent.as_fd()),
            },
        )
        .unwrap();
        let gone = fs::symlink_metadata(above.join("a/gone")).unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
        let marks =
            crate::layer::inode::directory_xattrs(dir(&above.join("b")).as_fd(), b"").unwrap();
        assert_eq!(marks.get(name.as_bytes()), Some(&b"y".to_vec()));
        crate::fsutil::remove_tree(&above).unwrap();
        fs::create_dir(&above).unwrap();
        unpack_to(
            &layer,
            &above,
            Target::Overlay {
                xattrs,
                parent: None,
            },
        )
        .unwrap();
        assert!(fs::symlink_metadata(above.join("a/gone")).is_err());
        crate::fsutil::remove_tree(&above).unwrap();
        fs::create_dir(&above).unwrap();
    }
}

#[test]
fn devices_owners_and_capabilities_are_made_by_root() {
    if !is_root("devices_owners_and_capabilities_are_made_by_root") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let device = Device { major: 1, minor: 3 };
    let mut capable = with(file("capable", "x"), 0o6755, 5);
    (capable.0.uid, capable.0.gid) = (3_000_000, 4_000_000);
    let capability = vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    capable
        .0
        .xattrs
        .insert(b"security.capability".to_vec(), capability);
    let mut link = symlink("link", "nowhere");
    link.0.uid = 77;
    let entries = [
        capable,
        link,
        with(
            (Entry::new("null", Kind::CharDevice(device), 0), vec![]),
            0o666,
            6,
        ),
        with(
            (Entry::new("block", Kind::BlockDevice(device), 0), vec![]),
            0o660,
            6,
        ),
        with((Entry::new("fifo", Kind::Fifo, 0), vec![]), 0o622, 6),
    ];
    let unpacked = unpack_to(&entries, root.path(), Target::Plain).unwrap();
    assert_eq!(unpacked.skipped, Skipped::default());
    let mut found = tree(root.path());
    found.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    let mut expected = entries.to_vec();
    expected.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    assert_same(&found, &expected, "made by root");
    let getcap = Command::new("getcap")
        .arg(root.path().join("capable"))
        .output();
    if let Ok(getcap) = getcap {
        let said = String::from_utf8_lossy(&getcap.stdout).into_owned();
        assert!(said.contains("cap_net_bind_service"), "{said}");
    }
}

#[test]
fn gnu_tar_extracts_what_we_write_and_we_what_it_writes() {
    if !is_root("gnu_tar_extracts_what_we_write_and_we_what_it_writes") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (ours, theirs) = (place.path().join("ours"), place.path().join("theirs"));
    fs::create_dir(&ours).unwrap();
    fs::create_dir(&theirs).unwrap();
    let mut entries = base();
    let mut attributed = with(file("dir/attributed", "x"), 0o644, 20);
    attributed
        .0
        .xattrs
        .insert(b"user.key".to_vec(), b"value\0".to_vec());
    attributed.0.uid = 3_000_000;
    entries.insert(5, attributed);
    entries.push(hardlink("z-hard", "dir/attributed"));
    fs::write(place.path().join("layer.tar"), archive(&entries)).unwrap();
    let tar = |arguments: &[&str], directory: &Path| {
        let output = Command::new("tar")
            .args([
                "--xattrs",
                "--xattrs-include=*",
                "--numeric-owner",
                "-p",
                "-C",
            ])
            .arg(directory)
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    let layer = place.path().join("layer.tar");
    tar(&["-xf", layer.to_str().unwrap()], &theirs);
    unpack_to(&entries, &ours, Target::Plain).unwrap();
    assert_same(&tree(&theirs), &tree(&ours), "extracted by GNU tar");

    let written = tar(&["--format=pax", "--sort=name", "-cf", "-", "."], &theirs);
    let again = place.path().join("again");
    fs::create_dir(&again).unwrap();
    let options = UnpackOptions {
        target: Target::Plain,
        ignore_unmapped_owners: false,
    };
    unpack(
        written.as_slice(),
        dir(&again).as_fd(),
        &options,
        &Expected::default(),
    )
    .unwrap();
    assert_same(&tree(&again), &tree(&ours), "written by GNU tar");
    assert_eq!(attributes(&again), attributes(&theirs));
}

#[test]
fn in_a_user_namespace_devices_are_counted_and_unmapped_owners_told() {
    let test = "in_a_user_namespace_devices_are_counted_and_unmapped_owners_told";
    let Ok(this) = std::env::current_exe() else {
        return;
    };
    if std::env::var_os("RSTORE_TEST_INNER").is_some() {
        return inner_of_user_namespace();
    }
    // The same test once more, in a user namespace of which only ID 0 is mapped.
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(this)
        .args([
            "--exact",
            &format!("layer::unpack::tests::{test}"),
            "--nocapture",
        ])
        .env("RSTORE_TEST_INNER", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() && said.is_empty() {
        return skip(test, "user namespaces");
    }
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn inner_of_user_namespace() {
    let place = tempfile::tempdir().unwrap();
    let null = Kind::CharDevice(Device { major: 1, minor: 3 });
    let mut foreign = file("foreign", "x");
    foreign.0.uid = 33;
    foreign
        .0
        .xattrs
        .insert(b"trusted.x".to_vec(), b"y".to_vec());
    let entries = [
        (Entry::new("null", null, 0o666), vec![]),
        foreign,
        file("dir/.wh.gone", ""),
    ];
    let below = place.path().join("below");
    fs::create_dir_all(below.join("dir")).unwrap();
    let parent = dir(&below);
    let target = Target::Overlay {
        xattrs: OverlayXattrs::User,
        parent: Some(parent.as_fd()),
    };
    let options = |ignore| UnpackOptions {
        target,
        ignore_unmapped_owners: ignore,
    };
    let bytes = archive(&entries);
    let try_with = |name: &str, options: &UnpackOptions<'_>| {
        let root = place.path().join(name);
        fs::create_dir(&root).unwrap();
        unpack(
            bytes.as_slice(),
            dir(&root).as_fd(),
            options,
            &Expected::default(),
        )
    };
    let error = try_with("strict", &options(false)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("foreign: owner 33:0 is not mapped"),
        "{error}"
    );
    let unpacked = try_with("lenient", &options(true)).unwrap();
    assert_eq!(
        unpacked.skipped,
        Skipped {
            devices: 1,
            xattrs: 1,
            owners: 1
        }
    );
    let gone = fs::symlink_metadata(place.path().join("lenient/dir/gone")).unwrap();
    assert!(
        gone.file_type().is_char_device(),
        "whiteouts can be made in a user namespace"
    );
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

//! What a tree changes, and that its layer makes that tree again.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink as make_link};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::layer::entry::{Entry, Kind, Mtime, Xattrs};
use crate::layer::error::Error;
use crate::layer::testing::{
    Collect, View, archive, assert_same, dir, directory, file, hardlink, is_real_root, is_root,
    overlay_view, skip, symlink, tree,
};
use crate::layer::unpack::{Expected, Target, UnpackOptions, unpack};
use crate::layer::{Compression, pack};

fn unpack_to(bytes: &[u8], root: &Path, target: Target<'_>) {
    let options = UnpackOptions {
        target,
        ignore_unmapped_owners: true,
    };
    unpack(bytes, dir(root).as_fd(), &options, &Expected::default()).unwrap();
}

fn collect_trees(lower: &Path, upper: &Path) -> Collect {
    let mut collect = Collect::default();
    let (lower, upper) = (dir(lower), dir(upper));
    let options = DiffOptions::default();
    trees(Some(lower.as_fd()), upper.as_fd(), &options, &mut collect).unwrap();
    collect
}

/// A base, unpacked as an overlay's lower directory, and an overlay over it to work in.
struct Work {
    place: tempfile::TempDir,
    view: View,
}

impl Work {
    fn new(test: &str) -> Option<Work> {
        if !is_root(test) {
            return None;
        }
        let place = tempfile::tempdir().unwrap();
        let below = place.path().join("below");
        fs::create_dir(&below).unwrap();
        let target = Target::Overlay {
            xattrs: OverlayXattrs::Trusted,
            parent: None,
        };
        unpack_to(&archive(&base()), &below, target);
        let view = overlay_view(test, &[&below], true)?;
        Some(Work { place, view })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.view.path().join(path)
    }

    fn below(&self) -> PathBuf {
        self.place.path().join("below")
    }

    fn diff_with(&self, options: &DiffOptions) -> Result<Collect, Error> {
        let mut collect = Collect::default();
        let (upper, below) = (dir(&self.view.upper), dir(&self.below()));
        overlay(upper.as_fd(), Some(below.as_fd()), options, &mut collect)?;
        Ok(collect)
    }

    fn diff(&self) -> Collect {
        self.diff_with(&DiffOptions::default()).unwrap()
    }

    /// The layer, applied to a whole tree and as an overlay's lower directory, gives what the
    /// view shows.
    fn assert_round_trip(&self, what: &str) {
        let shown = tree(&self.view.path());
        let (upper, below) = (dir(&self.view.upper), dir(&self.below()));
        let options = DiffOptions::default();
        let (packed, blob) = pack(Compression::default(), Vec::new(), |tar| {
            overlay(upper.as_fd(), Some(below.as_fd()), &options, tar)
        })
        .unwrap();
        let expected = Expected {
            digest: Some(packed.digest),
            size: Some(packed.size),
            diff_id: Some(packed.diff_id),
        };
        for (name, target) in [
            ("whole", Target::Tree),
            (
                "above",
                Target::Overlay {
                    xattrs: OverlayXattrs::Trusted,
                    parent: Some(below.as_fd()),
                },
            ),
        ] {
            let root = tempfile::tempdir().unwrap();
            if matches!(target, Target::Tree) {
                unpack_to(&archive(&base()), root.path(), Target::Tree);
            }
            let unpack_options = UnpackOptions {
                target,
                ignore_unmapped_owners: false,
            };
            let again = unpack(
                blob.as_slice(),
                dir(root.path()).as_fd(),
                &unpack_options,
                &expected,
            );
            let again = again.unwrap();
            assert_eq!(
                (again.entries, again.content_size),
                (packed.entries, packed.content_size)
            );
            let found = match target {
                Target::Tree => tree(root.path()),
                _ => match overlay_view(what, &[root.path(), &self.below()], false) {
                    Some(view) => tree(&view.path()),
                    None => return,
                },
            };
            assert_same(&found, &shown, &format!("{what}, {name}"));
        }
    }
}

fn base() -> Vec<(Entry, Vec<u8>)> {
    let mut entries = vec![
        directory("dir"),
        directory("dir/sub"),
        file("dir/sub/a", "a"),
        file("dir/sub/b", "b"),
        file("dir/file", "content"),
        file("one", "linked"),
        hardlink("two", "one"),
        directory("many"),
        file("many/x", "x"),
        file("many/y", "y"),
        symlink("link", "dir"),
        file("top", "top"),
    ];
    for (index, (entry, _)) in entries.iter_mut().enumerate() {
        if !matches!(entry.kind, Kind::Hardlink { .. }) {
            entry.mtime = Mtime {
                seconds: 1_000 + index as i64,
                nanoseconds: 7,
            };
        }
    }
    entries
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
}

#[test]
fn a_step_that_changes_nothing_gives_no_entries() {
    let Some(work) = Work::new("a_step_that_changes_nothing_gives_no_entries") else {
        return;
    };
    assert!(work.diff().0.is_empty());
    // Opened for writing, so copied up with all directories above it, but not written to.
    fs::OpenOptions::new()
        .append(true)
        .open(work.at("dir/sub/a"))
        .unwrap();
    // Changed and changed back, directory and file.
    let mode = fs::metadata(work.at("many")).unwrap().permissions();
    fs::set_permissions(work.at("many"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(work.at("many"), mode).unwrap();
    fs::write(work.at("top"), "xyz").unwrap();
    fs::write(work.at("top"), "top").unwrap();
    set_time(&work.at("top"), 1_011, 7);
    fs::write(work.at("temporary"), "").unwrap();
    fs::remove_file(work.at("temporary")).unwrap();
    assert!(
        fs::read_dir(&work.view.upper).unwrap().count() >= 3,
        "nothing was copied up"
    );
    assert!(work.diff().0.is_empty(), "{:?}", work.diff().paths());
    work.assert_round_trip("nothing");
}

#[test]
fn a_change_comes_with_the_directories_above_it_and_nothing_else() {
    let test = "a_change_comes_with_the_directories_above_it_and_nothing_else";
    let Some(work) = Work::new(test) else { return };
    fs::write(work.at("dir/sub/a"), "changed").unwrap();
    fs::OpenOptions::new()
        .append(true)
        .open(work.at("many/x"))
        .unwrap();
    assert_eq!(work.diff().paths(), ["dir", "dir/sub", "dir/sub/a"]);
    work.assert_round_trip(test);
}

#[test]
fn content_is_compared_where_size_and_time_are_the_same() {
    let Some(work) = Work::new("content_is_compared_where_size_and_time_are_the_same") else {
        return;
    };
    fs::write(work.at("top"), "TOP").unwrap();
    set_time(&work.at("top"), 1_011, 7);
    assert_eq!(work.diff().paths(), ["top"]);
}

#[test]
fn whiteouts_come_first_and_only_for_what_was_there() {
    let test = "whiteouts_come_first_and_only_for_what_was_there";
    let Some(work) = Work::new(test) else { return };
    fs::remove_file(work.at("dir/sub/b")).unwrap();
    fs::write(work.at("dir/sub/.first"), "").unwrap();
    fs::remove_file(work.at("top")).unwrap();
    crate::fsutil::remove_tree(&work.at("many")).unwrap();
    // A rename leaves a whiteout behind, here of what never was.
    fs::write(work.at("dir/new"), "").unwrap();
    fs::rename(work.at("dir/new"), work.at("dir/newer")).unwrap();
    assert_eq!(
        work.diff().paths(),
        [
            ".wh.many",
            ".wh.top",
            "dir",
            "dir/newer",
            "dir/sub",
            "dir/sub/.wh.b",
            "dir/sub/.first"
        ]
    );
    let diff = work.diff();
    let whiteout = &diff.0[0].0;
    assert_eq!(
        (whiteout.mode, whiteout.mtime, whiteout.uid),
        (0, Mtime::default(), 0)
    );
    work.assert_round_trip(test);
}

#[test]
fn a_directory_made_anew_is_opaque_and_one_that_is_new_is_not() {
    let test = "a_directory_made_anew_is_opaque_and_one_that_is_new_is_not";
    let Some(work) = Work::new(test) else { return };
    crate::fsutil::remove_tree(&work.at("dir")).unwrap();
    fs::create_dir(work.at("dir")).unwrap();
    fs::create_dir(work.at("dir/sub")).unwrap();
    fs::write(work.at("dir/sub/c"), "c").unwrap();
    fs::create_dir(work.at("new")).unwrap();
    fs::remove_file(work.at("top")).unwrap();
    fs::create_dir(work.at("top")).unwrap();
    let paths = work.diff().paths();
    assert_eq!(
        paths,
        [
            "dir",
            "dir/.wh..wh..opq",
            "dir/sub",
            "dir/sub/c",
            "new",
            "top"
        ]
    );
    work.assert_round_trip(test);
}

#[test]
fn hard_links_stay_linked() {
    let test = "hard_links_stay_linked";
    let Some(work) = Work::new(test) else { return };
    fs::write(work.at("dir/z"), "z").unwrap();
    fs::hard_link(work.at("dir/z"), work.at("dir/b")).unwrap();
    fs::hard_link(work.at("dir/z"), work.at("a")).unwrap();
    make_link("target", work.at("many/link")).unwrap();
    fs::hard_link(work.at("many/link"), work.at("many/also")).unwrap();
    let diff = work.diff();
    let links: BTreeMap<_, _> = diff
        .0
        .iter()
        .filter_map(|(entry, _)| match &entry.kind {
            Kind::Hardlink { target } => Some((entry.path.clone(), target.clone())),
            _ => None,
        })
        .collect();
    let expected = [("dir/b", "a"), ("dir/z", "a"), ("many/link", "many/also")];
    assert_eq!(
        links,
        expected.map(|(path, to)| (path.into(), to.into())).into()
    );
    work.assert_round_trip(test);
}

#[test]
fn everything_a_step_may_do_comes_back() {
    let test = "everything_a_step_may_do_comes_back";
    let Some(work) = Work::new(test) else { return };
    let set = |path: &str, name: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(work.at(path), name, value, flags).unwrap();
    };
    let node = |path: &str, kind, device| {
        let mode = rustix::fs::Mode::from_raw_mode(0o640);
        rustix::fs::mknodat(rustix::fs::CWD, work.at(path), kind, mode, device).unwrap();
    };
    use rustix::fs::FileType;
    let name = "n".repeat(255);
    fs::create_dir_all(work.at(&format!("deep/{name}/{name}"))).unwrap();
    fs::write(work.at(&format!("deep/{name}/{name}/{name}")), "far").unwrap();
    fs::write(work.at("setuid"), "x").unwrap();
    std::os::unix::fs::chown(work.at("setuid"), Some(3_000_000), Some(70_000)).unwrap();
    fs::set_permissions(work.at("setuid"), fs::Permissions::from_mode(0o6711)).unwrap();
    fs::write(work.at("capable"), "x").unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set("capable", "security.capability", &capability);
    set("dir/file", "user.note", b"\0binary=\n");
    set("link", "trusted.mark", b"on a link");
    set("dir", "user.empty", b"");
    let device = rustix::fs::makedev(240, 70_000);
    node("char", FileType::CharacterDevice, device);
    node("block", FileType::BlockDevice, device);
    node("fifo", FileType::Fifo, 0);
    let sparse = fs::File::create(work.at("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 1 << 20).unwrap();
    set_time(&work.at("sparse"), -12_345, 999_999_999);
    set_time(&work.at("many"), 5, 1);
    make_link("x".repeat(1000), work.at("far-link")).unwrap();
    make_link("../../../etc", work.at("dir/out")).unwrap();
    std::os::unix::fs::lchown(work.at("dir/out"), Some(12), Some(13)).unwrap();
    fs::rename(work.at("dir/sub/a"), work.at("many/a")).unwrap();
    fs::write(work.at("latin-\u{e9}"), "").unwrap();
    let bytes = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"raw-\xff\xfe");
    fs::write(work.view.path().join(bytes), "raw").unwrap();
    let _socket = UnixListener::bind(work.at("socket")).unwrap();
    let paths = work.diff().paths();
    assert!(
        !paths.contains(&"socket".to_owned()),
        "sockets are left out"
    );
    fs::remove_file(work.at("socket")).unwrap();
    work.assert_round_trip(test);
}

#[test]
fn times_are_clamped_but_compared_as_they_are() {
    let Some(work) = Work::new("times_are_clamped_but_compared_as_they_are") else {
        return;
    };
    fs::write(work.at("dir/new"), "").unwrap();
    set_time(&work.at("dir/new"), 500, 3);
    fs::OpenOptions::new()
        .append(true)
        .open(work.at("dir/sub/a"))
        .unwrap();
    let options = DiffOptions {
        timestamp: Some(900),
        ..DiffOptions::default()
    };
    let diff = work.diff_with(&options).unwrap();
    let times: Vec<_> = diff.0.iter().map(|(entry, _)| entry.mtime).collect();
    assert_eq!(diff.paths(), ["dir", "dir/new"]);
    assert_eq!(
        times,
        [
            Mtime::from_seconds(900),
            Mtime {
                seconds: 500,
                nanoseconds: 3
            }
        ]
    );
}

#[test]
fn a_name_that_would_be_read_as_a_whiteout_is_an_error_that_names_it() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("dir")).unwrap();
    fs::write(place.path().join("dir/.wh.file"), "").unwrap();
    let upper = dir(place.path());
    let options = DiffOptions::default();
    for error in [
        overlay(upper.as_fd(), None, &options, &mut Collect::default()).unwrap_err(),
        trees(None, upper.as_fd(), &options, &mut Collect::default()).unwrap_err(),
    ] {
        assert!(error.to_string().starts_with("dir/.wh.file: "), "{error}");
    }
}

#[test]
fn what_overlayfs_moved_elsewhere_is_an_error_that_names_it() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("moved")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let set = rustix::fs::setxattr(
        place.path().join("moved"),
        "user.overlay.redirect",
        b"old",
        flags,
    );
    if set.is_err() {
        return skip(
            "marks of overlayfs",
            "user.* attributes in the temporary directory",
        );
    }
    let upper = dir(place.path());
    let with = |xattrs| {
        let options = DiffOptions {
            xattrs,
            ..DiffOptions::default()
        };
        overlay(upper.as_fd(), None, &options, &mut Collect::default())
    };
    let error = with(OverlayXattrs::User).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("moved: has user.overlay.redirect"),
        "{error}"
    );
    assert!(
        with(OverlayXattrs::Trusted).is_ok(),
        "not a mark of this overlay"
    );
}

#[test]
fn whiteouts_by_extended_attribute_are_known() {
    let place = tempfile::tempdir().unwrap();
    let (upper, below) = (place.path().join("upper"), place.path().join("below"));
    for root in [&upper, &below] {
        fs::create_dir_all(root.join("dir")).unwrap();
        fs::write(root.join("dir/gone"), "").unwrap();
        fs::write(root.join("dir/kept"), "").unwrap();
        set_time(&root.join("dir/kept"), 1, 0);
        set_time(&root.join("dir"), 1, 0);
    }
    let set = |path: &str, name: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(upper.join(path), name, value, flags)
    };
    if set("dir", "user.overlay.opaque", b"x").is_err() {
        return skip(
            "marks of overlayfs",
            "user.* attributes in the temporary directory",
        );
    }
    set("dir/gone", "user.overlay.whiteout", b"").unwrap();
    let mut collect = Collect::default();
    let (upper, below) = (dir(&upper), dir(&below));
    let options = DiffOptions {
        xattrs: OverlayXattrs::User,
        ..DiffOptions::default()
    };
    overlay(upper.as_fd(), Some(below.as_fd()), &options, &mut collect).unwrap();
    assert_eq!(collect.paths(), ["dir", "dir/.wh.gone"]);
}

#[test]
fn two_trees_give_what_makes_one_of_the_other() {
    let place = tempfile::tempdir().unwrap();
    let (lower, upper) = (place.path().join("lower"), place.path().join("upper"));
    for root in [&lower, &upper] {
        fs::create_dir(root).unwrap();
        unpack_to(&archive(&base()), root, Target::Tree);
    }
    assert!(collect_trees(&lower, &upper).0.is_empty());
    crate::fsutil::remove_tree(&upper.join("dir/sub")).unwrap();
    fs::write(upper.join("dir/sub"), "a file now").unwrap();
    fs::remove_file(upper.join("top")).unwrap();
    fs::hard_link(upper.join("one"), upper.join("three")).unwrap();
    fs::write(upper.join("many/x"), "X").unwrap();
    set_time(&upper.join("many/x"), 1_008, 7);
    let diff = collect_trees(&lower, &upper);
    let paths = [
        ".wh.top", "dir", "dir/sub", "many", "many/x", "one", "three", "two",
    ];
    assert_eq!(diff.paths(), paths);
    unpack_to(&archive(&diff.0), &lower, Target::Tree);
    assert_same(&tree(&lower), &tree(&upper), "after the layer");
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let blobs: Vec<_> = (0..2)
        .map(|_| {
            let place = tempfile::tempdir().unwrap();
            unpack_to(&archive(&base()), place.path(), Target::Plain);
            let root = dir(place.path());
            let options = DiffOptions::default();
            pack(Compression::default(), Vec::new(), |tar| {
                trees(None, root.as_fd(), &options, tar)
            })
            .unwrap()
        })
        .collect();
    assert_eq!(blobs[0].0, blobs[1].0);
    assert!(blobs[0].1 == blobs[1].1);
}

/// A random tree: each name at most once, directories before what is in them.
fn random_tree() -> impl Strategy<Value = Vec<(Entry, Vec<u8>)>> {
    let name = prop_oneof![
        "[a-d]",
        "[a-d]",
        "[a-d]\\.[xy]",
        "[^/\0]{1,60}",
        "[a-z]{100,250}"
    ];
    let path = proptest::collection::vec(name, 1..4);
    let root = rustix::process::geteuid().is_root();
    let owner = if root { 0..5_000_000u32 } else { 0..1 };
    let attributes = (
        0u32..0o10000,
        owner.clone(),
        owner,
        (-5_000i64..5_000, 0u32..1_000_000_000),
        proptest::collection::btree_map("user\\.[a-z]{1,9}", any::<Vec<u8>>(), 0..3),
    );
    let item = (
        path,
        0..6u8,
        attributes,
        proptest::collection::vec(any::<u8>(), 0..3000),
    );
    proptest::collection::vec(item, 0..14).prop_map(build_tree)
}

type Attributes = (u32, u32, u32, (i64, u32), BTreeMap<String, Vec<u8>>);

fn build_tree(items: Vec<(Vec<String>, u8, Attributes, Vec<u8>)>) -> Vec<(Entry, Vec<u8>)> {
    let mut entries: BTreeMap<Vec<u8>, (Entry, Vec<u8>)> = BTreeMap::new();
    let mut files: Vec<(Vec<u8>, Entry)> = Vec::new();
    for (components, kind, attributes, content) in items {
        let bad = |name: &String| name == "." || name == ".." || name.starts_with(".wh.");
        if components.iter().any(bad) || components.iter().any(|name| name.len() > 255) {
            continue;
        }
        let path = components.join("/").into_bytes();
        if entries.contains_key(&path) || !make_parents(&components, &mut entries) {
            continue;
        }
        let (mode, uid, gid, (seconds, nanoseconds), xattrs) = attributes;
        let mut entry = Entry::new(path.clone(), Kind::Directory, mode | 0o700);
        (entry.uid, entry.gid) = (uid, gid);
        entry.mtime = Mtime {
            seconds,
            nanoseconds,
        };
        let xattrs: Xattrs = xattrs
            .into_iter()
            .map(|(k, v)| (k.into_bytes(), v))
            .collect();
        let mut bytes = Vec::new();
        match kind {
            0 | 1 => {
                entry.kind = Kind::File {
                    size: content.len() as u64,
                };
                entry.xattrs = xattrs;
                bytes = content;
                files.push((path.clone(), entry.clone()));
            }
            2 => {
                let target = format!("x{}", content.len()).into_bytes();
                entry.kind = Kind::Symlink { target };
                entry.mode = 0o777;
            }
            3 => entry.kind = Kind::Fifo,
            4 if !files.is_empty() => {
                let (target, original) = files[content.len() % files.len()].clone();
                // Of two names the walk meets the smaller one first; that one is the file.
                if target > path {
                    continue;
                }
                entry = Entry {
                    path: path.clone(),
                    kind: Kind::Hardlink { target },
                    ..original
                };
            }
            _ => entry.xattrs = xattrs,
        }
        entries.insert(path, (entry, bytes));
    }
    entries.into_values().collect()
}

/// Makes the directories above a path; `false` if something else is in the way.
fn make_parents(components: &[String], entries: &mut BTreeMap<Vec<u8>, (Entry, Vec<u8>)>) -> bool {
    for depth in 1..components.len() {
        let path = components[..depth].join("/").into_bytes();
        let entry = Entry::new(path.clone(), Kind::Directory, 0o755);
        let there = entries.entry(path).or_insert((entry, Vec::new()));
        if there.0.kind != Kind::Directory {
            return false;
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Entries → archive → directory → diff → pack → unpack: the same tree each time.
    #[test]
    fn random_trees_survive_the_round_trip(entries in random_tree()) {
        let place = tempfile::tempdir().unwrap();
        let (first, second) = (place.path().join("first"), place.path().join("second"));
        fs::create_dir(&first).unwrap();
        fs::create_dir(&second).unwrap();
        unpack_to(&archive(&entries), &first, Target::Plain);
        let root = dir(&first);
        let options = DiffOptions::default();
        let (packed, blob) = pack(Compression::Zstd(1), Vec::new(), |tar| {
            trees(None, root.as_fd(), &options, tar)
        }).unwrap();
        prop_assert_eq!(packed.entries, entries.len() as u64);
        unpack_to(&blob, &second, Target::Plain);
        let (first, second) = (tree(&first), tree(&second));
        assert_same(&second, &first, "unpacked again");
        let in_path_order: BTreeMap<_, _> =
            first.into_iter().map(|(entry, bytes)| (entry.path.clone(), (entry, bytes))).collect();
        if rustix::process::geteuid().is_root() {
            // A first name may sort after its link when a directory's name is between them.
            let found: Vec<_> = in_path_order.into_values().collect();
            let same_links = found.iter().zip(&entries).all(|(a, b)| a.0.kind == b.0.kind);
            if same_links {
                assert_same(&found, &entries, "what was asked for");
            }
        }
    }

    /// The difference of two random trees, applied to the one, makes the other.
    #[test]
    fn a_difference_makes_one_random_tree_of_another(one in random_tree(), two in random_tree()) {
        let place = tempfile::tempdir().unwrap();
        let (lower, upper) = (place.path().join("lower"), place.path().join("upper"));
        for (root, entries) in [(&lower, &one), (&upper, &two)] {
            fs::create_dir(root).unwrap();
            unpack_to(&archive(entries), root, Target::Plain);
        }
        let diff = collect_trees(&lower, &upper);
        let above = place.path().join("above");
        fs::create_dir(&above).unwrap();
        if is_real_root() {
            let parent = dir(&lower);
            let xattrs = OverlayXattrs::Trusted;
            unpack_to(&archive(&diff.0), &above, Target::Overlay { xattrs, parent: Some(parent.as_fd()) });
            if let Some(view) = overlay_view("a_difference", &[&above, &lower], false) {
                assert_same(&tree(&view.path()), &tree(&upper), "as an overlay");
            }
        }
        unpack_to(&archive(&diff.0), &lower, Target::Tree);
        assert_same(&tree(&lower), &tree(&upper), "as a tree");
    }
}

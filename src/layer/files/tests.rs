use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

use proptest::prelude::*;

use super::difference::{Aspect, CompareOptions, Side};
use super::waste::Fate;
use super::*;
use crate::fsutil::open_dir;
use crate::layer::entry::Mtime;
use crate::layer::error::Error;
use crate::layer::testing::{Archives, archive, archives, tree};
use crate::layer::{Expected, Target, UnpackOptions, unpack};
use crate::oci::Digest;

fn files(layers: &[&str]) -> Files {
    Files::read(&archives(layers)).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Where a path leads to, and the layer that said so; or what is told.
fn find(files: &Files, path: &str, last: Last) -> String {
    match files.find(path.as_bytes(), last) {
        Ok(place) => match place.layer {
            Some(layer) => format!("{}@{layer}", text(&place.path)),
            None => text(&place.path),
        },
        Err(error) => error.to_string(),
    }
}

const LINKED: &[&str] = &[
    "d usr\nd usr/lib\nf usr/lib/a a\ns lib usr/lib\ns up ../../../usr\ns abs /lib/a\ns loop loop\ns gone nowhere",
    "f lib/b b\nh usr/hard usr/lib/a",
];

#[test]
fn paths_are_resolved_inside_the_image() {
    let files = files(LINKED);
    for (path, follow, show) in [
        ("", "", ""),
        ("/", "", ""),
        ("..", "", ""),
        ("/usr/./lib//a", "usr/lib/a@0", "usr/lib/a@0"),
        ("lib", "usr/lib@0", "lib@0"),
        ("lib/", "usr/lib@0", "usr/lib@0"),
        ("lib/b", "usr/lib/b@1", "usr/lib/b@1"),
        ("up/lib/../../up/lib/a", "usr/lib/a@0", "usr/lib/a@0"),
        (
            "../../etc/../usr",
            "/../../etc/../usr: no such file or directory: there is no /etc",
            "/../../etc/../usr: no such file or directory: there is no /etc",
        ),
        ("abs", "usr/lib/a@0", "abs@0"),
        ("usr/hard", "usr/hard@1", "usr/hard@1"),
        ("loop", "/loop: too many levels of symbolic links", "loop@0"),
        (
            "gone",
            "/gone: no such file or directory: there is no /nowhere",
            "gone@0",
        ),
        (
            "usr/lib/a/x",
            "/usr/lib/a/x: /usr/lib/a is not a directory but a file",
            "/usr/lib/a/x: /usr/lib/a is not a directory but a file",
        ),
        (
            "abs/",
            "/abs/: /usr/lib/a is not a directory but a file",
            "/abs/: /usr/lib/a is not a directory but a file",
        ),
        (
            "usr/lob",
            "/usr/lob: no such file or directory; did you mean /usr/lib?",
            "/usr/lob: no such file or directory; did you mean /usr/lib?",
        ),
    ] {
        assert_eq!(find(&files, path, Last::Follow), follow, "{path}, followed");
        assert_eq!(find(&files, path, Last::Show), show, "{path}, shown");
    }
}

#[test]
fn a_walk_goes_in_byte_order_and_each_name_knows_its_layer() {
    let files = files(&["d a\nf a/one 1\nf a/two 2\nf b b", "d a\nx a/one\nf a.b x"]);
    let walk: Vec<(String, Option<usize>)> = files
        .walk(&files.root())
        .map(|place| (text(&place.path), place.layer))
        .collect();
    let expected = [
        ("", None),
        ("a", Some(1)),
        ("a/two", Some(0)),
        ("a.b", Some(1)),
        ("b", Some(0)),
    ];
    assert_eq!(walk, expected.map(|(path, layer)| (path.to_owned(), layer)));
}

#[test]
fn hard_links_are_counted_and_their_bytes_only_once() {
    let files = files(&["f one 12345\nh two one", "h three two\nf other x"]);
    let links: Vec<u64> = files.hard_links().into_values().collect();
    assert_eq!(links, [3]);
    assert_eq!(files.bytes_below(&files.root()), 6);
}

fn content(layers: &Archives, path: &str) -> Vec<u8> {
    let located = locate(layers, path.as_bytes()).unwrap();
    let mut out = Vec::new();
    let place = located.place.as_ref().unwrap();
    located.write_content(layers, place, &mut out).unwrap();
    out
}

#[test]
fn only_the_layers_that_a_path_needs_are_read() {
    let layers = archives(&["d a\nf a/deep below", "f middle m", "d a\nf a/top above"]);
    assert_eq!(content(&layers, "a/top"), b"above");
    assert_eq!(*layers.1.borrow(), [0, 0, 1]);
    assert_eq!(content(&layers, "/a/deep"), b"below");
    assert_eq!(*layers.1.borrow(), [1, 1, 2]);
    // Through a name of its own, the content is read by itself.
    let layers = archives(&[
        "f x 1",
        "f a above\nh b a\nd c\nf other/name x\nf c/other y",
    ]);
    assert_eq!(content(&layers, "b"), b"above");
    assert_eq!(
        *layers.1.borrow(),
        [0, 2],
        "what is in other/ has other names"
    );
    assert_eq!(content(&layers, "c/other"), b"y");
    assert_eq!(*layers.1.borrow(), [0, 3]);
}

#[test]
fn upper_layers_that_leave_something_to_guess_are_not_believed() {
    for (layers, path, expected) in [
        // `lib` is a link below, and the later entry wins.
        (
            &[
                "d usr\nd usr/lib\ns lib usr/lib",
                "f lib/x one\nd usr\nd usr/lib\nf usr/lib/x two",
            ][..],
            "lib/x",
            "two",
        ),
        // A hard link to a file below.
        (&["f old content", "h new old"], "new", "content"),
        // Removed above what has it.
        (&["f x low", "f y y\nf x mid", "f x top\nf y y"], "x", "top"),
    ] {
        let layers = archives(layers);
        assert_eq!(text(&content(&layers, path)), expected, "{path}");
    }
    let layers = archives(&["f x low", "f x mid", "x x"]);
    assert!(locate(&layers, b"x").unwrap().place.is_err());
    // `g/other` is `c/other`, since `g` is a link to `c`.
    let layers = archives(&["d c\ns g c", "d c\nf c/other y", "f g/other/name n"]);
    let located = locate(&layers, b"c/other").unwrap();
    assert!(located.files.is_directory(located.place.unwrap().file));
}

#[test]
fn waste_is_what_no_name_is_left_of() {
    let files = files(&[
        "d a\nf a/kept 1234\nf a/changed 123456\nf gone 12345\nd dir\nf dir/x 1\nf dir/y 12\nf link abc",
        "f a/changed 123\nx gone\nh link2 link",
        "x dir\nx link\nf a/changed 12",
    ]);
    let waste = files.waste();
    let paths: Vec<(String, u64, Vec<usize>)> = waste
        .paths
        .iter()
        .map(|path| (text(&path.path), path.wasted, path.by()))
        .collect();
    let expected = [
        ("a/changed", 9, vec![1, 2]),
        ("dir/x", 1, vec![2]),
        ("dir/y", 2, vec![2]),
        ("gone", 5, vec![1]),
    ];
    assert_eq!(
        paths,
        expected.map(|(path, bytes, by)| (path.to_owned(), bytes, by))
    );
    assert_eq!(waste.wasted, 17);
    assert_eq!(waste.total, 4 + 11 + 5 + 3 + 3);
    // Kept whole: 4; of a/changed 2; link still has a name.
    assert_eq!(waste.efficiency, f64::from(4 + 2 + 3) / 26.0);
    let changed: Vec<Fate> = waste.paths[0].copies.iter().map(|copy| copy.fate).collect();
    assert_eq!(changed, [Fate::Replaced(1), Fate::Replaced(2), Fate::Shown]);
    assert_eq!(Files::empty().waste().efficiency, 1.0);
}

#[test]
fn a_directory_in_whose_place_a_file_comes_is_wasted_with_all_in_it() {
    let waste = files(&["d a\nd a/b\nf a/b/c 123", "f a plain"]).waste();
    assert_eq!(waste.paths.len(), 1);
    assert_eq!(waste.paths[0].copies[0].fate, Fate::Removed(1));
    let opaque = files(&["d a\nd a/b\nf a/b/c 123\nf a/d 1", "d a\no a"]).waste();
    assert_eq!((opaque.wasted, opaque.efficiency), (4, 0.0));
}

fn diff_ids(layers: &Archives) -> Vec<Digest> {
    layers.0.iter().map(|archive| Digest::of(archive)).collect()
}

/// `A path`, `D path`, `C path aspects`; and how often each image's layers were read.
fn compared(
    one: &[&str],
    other: &[&str],
    options: &CompareOptions,
) -> (Vec<String>, [Vec<usize>; 2]) {
    let (a, b) = (archives(one), archives(other));
    let (one_ids, other_ids) = (diff_ids(&a), diff_ids(&b));
    let comparison = compare(
        &Side {
            layers: &a,
            diff_ids: &one_ids,
        },
        &Side {
            layers: &b,
            diff_ids: &other_ids,
        },
        options,
    )
    .unwrap();
    let line = |difference: &Difference| {
        let path = text(&difference.path);
        let words: Vec<&str> = difference
            .aspects
            .iter()
            .map(|aspect| aspect.word())
            .collect();
        match difference.change() {
            Change::Added => format!("A {path}"),
            Change::Deleted => format!("D {path}"),
            Change::Changed => format!("C {path} {}", words.join(",")),
        }
    };
    let lines = comparison.differences.iter().map(line).collect();
    (lines, [a.1.into_inner(), b.1.into_inner()])
}

#[test]
fn images_differ_by_what_is_added_deleted_and_changed() {
    let base =
        "d a\nf a/same 1\nf a/size 1\nf a/bytes 12\nf gone x\ns link one\nd kind\nf kind/x x";
    let top = "d a\nf a/same 1\nf a/size 123\nf a/bytes 21\nx gone\ns link two\nx kind\nf kind plain\nf new n";
    let (lines, reads) = compared(&[base], &[base, top], &CompareOptions::default());
    let expected = [
        "C a/bytes content",
        "C a/size content",
        "D gone",
        "C kind type,mode",
        "D kind/x",
        "C link content",
        "A new",
    ];
    assert_eq!(lines, expected);
    // The names of what both have once; contents once of each image.
    assert_eq!(reads, [vec![2], vec![0, 2]]);
}

#[test]
fn each_attribute_is_an_aspect_of_its_own() {
    let entry = || Entry::new("x", Kind::File { size: 1 }, 0o644);
    let link = |mode| {
        let target = b"x".to_vec();
        (Entry::new("link", Kind::Symlink { target }, mode), vec![])
    };
    let image = |file: Entry, mode| {
        let entries = [link(mode), (file, b"1".to_vec())];
        Archives(vec![archive(&entries)], vec![0].into())
    };
    let changed = |change: fn(&mut Entry), mode| {
        let mut other = entry();
        change(&mut other);
        let (one, other) = (image(entry(), 0o777), image(other, mode));
        let ids = (diff_ids(&one), diff_ids(&other));
        let side = |layers, diff_ids| Side { layers, diff_ids };
        let options = CompareOptions::default();
        let found = compare(&side(&one, &ids.0), &side(&other, &ids.1), &options).unwrap();
        let aspects = found.differences.into_iter().flat_map(|d| d.aspects);
        aspects.map(Aspect::word).collect::<Vec<_>>()
    };
    assert_eq!(changed(|x| x.mode = 0o4644, 0o777), ["mode"]);
    assert_eq!(changed(|x| x.gid = 5, 0o777), ["owner"]);
    let xattr = |x: &mut Entry| drop(x.xattrs.insert(b"user.a".to_vec(), b"b".to_vec()));
    assert_eq!(changed(xattr, 0o777), ["xattr"]);
    // Tools write links with modes of their own, which mean nothing.
    assert_eq!(
        changed(|x| x.mtime = Mtime::from_seconds(9), 0o644),
        Vec::<&str>::new()
    );
}

#[test]
fn times_and_places_count_as_far_as_they_are_asked_for() {
    let (one, other) = (
        &["d a\nf a/x 1\nf b b"][..],
        &["d a\nf a/x 1\nf b b", "f a/x 1\nf b c"][..],
    );
    let times = CompareOptions {
        times: true,
        within: vec![b"a".to_vec()],
    };
    let here = CompareOptions {
        times: false,
        within: vec![b"b".to_vec()],
    };
    assert_eq!(compared(one, other, &times).0, ["C a/x time"]);
    assert_eq!(compared(one, other, &here).0, ["C b content"]);
}

#[test]
fn images_of_the_same_layers_are_not_read() {
    let layers = &["d a\nf a/x 1", "x a/x"][..];
    let (lines, reads) = compared(layers, layers, &CompareOptions::default());
    assert_eq!((lines, reads), (vec![], [vec![0, 0], vec![0, 0]]));
}

/// What a directory holds into which the layers were unpacked, by path. Without times: of a
/// directory they are those of the last change in it.
fn unpacked(layers: &Archives) -> BTreeMap<Vec<u8>, (Entry, Vec<u8>)> {
    let directory = tempfile::tempdir().unwrap();
    let root = open_dir(directory.path()).unwrap();
    let options = UnpackOptions {
        target: Target::Tree,
        ignore_unmapped_owners: true,
    };
    for archive in &layers.0 {
        unpack(
            archive.as_slice(),
            root.as_fd(),
            &options,
            &Expected::default(),
        )
        .unwrap();
    }
    let mut all: BTreeMap<Vec<u8>, (Entry, Vec<u8>)> = BTreeMap::new();
    for (mut entry, content) in tree(directory.path()) {
        entry.mtime = Mtime::default();
        let path = std::mem::take(&mut entry.path);
        // Its first name came before.
        let found = match &entry.kind {
            Kind::Hardlink { target } => all[target].clone(),
            _ => (entry, content),
        };
        all.insert(path, found);
    }
    all
}

/// A line of a layer, of few names, so that layers meet.
fn line(kinds: u8) -> impl Strategy<Value = String> {
    let name = || prop::sample::select(NAMES);
    let word = prop::sample::select(vec!["1", "2", "12"]);
    (name(), name(), word, 0..kinds).prop_map(|(name, other, word, kind)| match kind {
        0 => format!("d {name}"),
        1 => {
            let (directory, last) = crate::layer::entry::split(name.as_bytes());
            let whiteout = [b".wh.", last].concat();
            format!("f {} ", text(&join(directory, &whiteout)))
        }
        2 => format!("s {name} /{other}"),
        3 => format!("p {name}"),
        4 => format!("o {name}"),
        8 => format!("h {name} {other}"),
        _ => format!("f {name} {word}"),
    })
}

/// All kinds of lines.
const ALL: u8 = 9;
/// All but hard links: of those to what has to make way for their own directory, which unpacks to
/// an error, a comparison says something.
const WITHOUT_LINKS: u8 = 8;

const NAMES: &[&str] = &["a", "b", "a/a", "a/b", "b/a", "a/b/c"];

fn image(kinds: u8) -> impl Strategy<Value = Vec<String>> {
    let layer = prop::collection::vec(line(kinds), 0..6).prop_map(|lines| lines.join("\n"));
    prop::collection::vec(layer, 1..4)
}

/// Layers of these lines, but for those with which they would contradict themselves: such are no
/// images.
fn lines(layers: &[String]) -> Archives {
    let of = |layers: &[String]| archives(&layers.iter().map(String::as_str).collect::<Vec<_>>());
    let mut kept: Vec<String> = Vec::new();
    for layer in layers {
        kept.push(String::new());
        for line in layer.lines() {
            let before = kept.clone();
            if let Some(layer) = kept.last_mut() {
                *layer = format!("{layer}{line}\n");
            }
            if Files::read(&of(&kept)).is_err() {
                kept = before;
            }
        }
    }
    of(&kept)
}

/// Holds a comparison of two images against their unpacked trees.
fn compare_naively(a: &Archives, b: &Archives) -> Result<(), TestCaseError> {
    let (a_ids, b_ids) = (diff_ids(a), diff_ids(b));
    let side = |layers, diff_ids| Side { layers, diff_ids };
    let options = CompareOptions::default();
    let found = compare(&side(a, &a_ids), &side(b, &b_ids), &options).unwrap();
    let (before, after) = (unpacked(a), unpacked(b));
    let paths: BTreeSet<&Vec<u8>> = before.keys().chain(after.keys()).collect();
    let different = |path: &&&Vec<u8>| before.get(**path) != after.get(**path);
    let expected: Vec<&Vec<u8>> = paths.iter().filter(different).copied().collect();
    let mut got: Vec<&Vec<u8>> = found.differences.iter().map(|d| &d.path).collect();
    got.sort();
    prop_assert_eq!(&got, &expected);
    for difference in &found.differences {
        let (one, other) = (before.get(&difference.path), after.get(&difference.path));
        prop_assert_eq!(difference.one.is_some(), one.is_some());
        prop_assert_eq!(difference.other.is_some(), other.is_some());
        if let (Some((one, bytes)), Some((other, other_bytes))) = (one, other) {
            let content = bytes != other_bytes && one.size() > 0 && other.size() > 0;
            prop_assert!(!content || difference.aspects.contains(&Aspect::Content));
        }
    }
    Ok(())
}

/// Holds what is located against what the whole image has.
fn locate_naively(layers: &Archives, path: &str) -> Result<(), TestCaseError> {
    let whole = Files::read(layers).unwrap();
    let located = locate(layers, path.as_bytes()).unwrap();
    let expected = whole.find(path.as_bytes(), Last::Follow);
    prop_assert_eq!(located.place.is_ok(), expected.is_ok());
    if let (Ok(found), Ok(expected)) = (located.place, expected) {
        let origin = located.files.origin(found.file);
        prop_assert_eq!(origin, whole.origin(expected.file));
        prop_assert_eq!(found.path, expected.path);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_comparison_finds_what_two_unpacked_trees_tell(
        base in image(WITHOUT_LINKS),
        one in image(WITHOUT_LINKS),
        other in image(WITHOUT_LINKS),
    ) {
        let (a, b) = (lines(&[base.clone(), one].concat()), lines(&[base, other].concat()));
        compare_naively(&a, &b)?;
    }

    #[test]
    fn what_is_located_is_what_the_whole_image_has(
        layers in image(ALL),
        path in prop::sample::select(NAMES),
    ) {
        let layers = lines(&layers);
        locate_naively(&layers, path)?;
    }

    #[test]
    fn waste_and_what_is_shown_are_all_that_layers_hold(layers in image(ALL)) {
        let layers = lines(&layers);
        let files = Files::read(&layers).unwrap();
        let waste = files.waste();
        prop_assert_eq!(waste.total - waste.wasted, files.bytes_below(&files.root()));
        prop_assert!((0.0..=1.0).contains(&waste.efficiency));
    }
}

#[test]
fn a_damaged_layer_is_an_error() {
    let mut layers = archives(&["f a 1", "f b 2"]);
    layers.0[1][0] ^= 1;
    assert!(matches!(Files::read(&layers), Err(Error::Archive { .. })));
    assert!(locate(&layers, b"a").is_err());
}

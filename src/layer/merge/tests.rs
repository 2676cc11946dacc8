use std::os::fd::AsFd;

use super::*;
use crate::fsutil::open_dir;
use crate::layer::entry::Mtime;
use crate::layer::testing::{Collect, Entries, archives, assert_same, tree};
use crate::layer::{Expected, TarWriter, Target, UnpackOptions, unpack};

/// What a directory holds to which the archives were applied one after another.
fn applied(archives: &[&[u8]]) -> Entries {
    try_applied(archives).unwrap()
}

fn try_applied(archives: &[&[u8]]) -> Result<Entries> {
    let directory = tempfile::tempdir().unwrap();
    let root = open_dir(directory.path()).unwrap();
    let options = UnpackOptions {
        target: Target::Tree,
        ignore_unmapped_owners: true,
    };
    for archive in archives {
        unpack(*archive, root.as_fd(), &options, &Expected::default())?;
    }
    Ok(tree(directory.path()))
}

/// Layers that are awkward to put together.
const CASES: &[&[&str]] = &[
    &["d a\nf a/one 1\nf a/two 2", "x a/one\nf a/three 3"],
    &["d a\nf a/one 1\nd a/b\nf a/b/deep x", "d a\no a\nf a/new n"],
    &[
        "d a\nf a/one 1\nd a/b\nf a/b/deep x",
        "d a\nf a/new n\nx a/b\no a",
    ],
    &["d a\nf a/one 1", "x a", "d a\nf a/two 2"],
    &["d a\nf a/one 1", "x a\nf a plain"],
    &["f a plain", "d a\nf a/one 1"],
    &["f one x\nh two one\nh three one", "x one", "f three other"],
    &["f one x\nh two one", "f one changed"],
    &["f one x", "h two one", "x one"],
    &["f one x", "h two one\nf one new"],
    &[
        "d usr\nd usr/lib\nf usr/lib/a a\ns lib usr/lib",
        "f lib/b b",
        "x lib/a",
    ],
    &[
        "d usr\nd usr/lib\ns usr/up ..\ns abs /usr/lib",
        "f usr/up/usr/up/top t\nf abs/x x",
    ],
    &["d a\nd a/b\nd a/b/c\nf a/b/c/d d", "f a/b/c/e e\nx a/b"],
    &["p pipe\ns link nowhere", "x pipe\ns link elsewhere"],
    &["d a\nd a/empty", "d a/empty\nd new"],
    &["f implied/deep/file x", "x implied/deep/file"],
    &["f x 1\nh y x", "x y\nf y 2\nh z x"],
    &["d a\nf a/1 1\nf a/2 2\nf a/3 3", "x a/1\nx a/2\nx a/3"],
    &["f old a", "f .wh..wh.plnk ignored\nf new b"],
];

#[test]
fn a_flattened_image_is_the_tree_to_which_its_layers_were_applied() {
    for layers in CASES {
        let archives = archives(layers);
        let mut writer = TarWriter::new(Vec::new());
        flatten(&archives, &mut writer).unwrap();
        let flat = writer.finish().unwrap();
        let each: Vec<&[u8]> = archives.0.iter().map(Vec::as_slice).collect();
        assert_same(&applied(&[&flat]), &applied(&each), &format!("{layers:?}"));
    }
}

#[test]
fn a_squashed_layer_makes_of_its_base_what_the_layers_made() {
    for layers in CASES {
        let archives = archives(layers);
        let each: Vec<&[u8]> = archives.0.iter().map(Vec::as_slice).collect();
        for base in 0..=layers.len() {
            let mut writer = TarWriter::new(Vec::new());
            squash(&archives, base, &mut writer).unwrap();
            let squashed = writer.finish().unwrap();
            let mut onto = each[..base].to_vec();
            onto.push(&squashed);
            let found = applied(&onto);
            assert_same(&found, &applied(&each), &format!("{layers:?} from {base}"));
        }
    }
}

/// Without the times of directories that no layer names: removing something from one that a layer
/// implied leaves it with the time of the removal.
fn timeless(mut found: Entries, mut expected: Entries) -> (Entries, Entries) {
    for entries in [&mut found, &mut expected] {
        for (entry, _) in entries.iter_mut() {
            let made_now = entry.mtime > Mtime::from_seconds(1_000_000_000);
            if entry.kind == Kind::Directory && made_now {
                entry.mtime = Mtime::default();
            }
        }
    }
    (found, expected)
}

/// Layers of few names, so that they are about the same files.
fn any_layers() -> impl proptest::strategy::Strategy<Value = Vec<String>> {
    use proptest::prelude::*;
    let path = || prop::sample::select(vec!["a", "b", "a/a", "a/b", "a/a/a", "b/a", "b/b", "c"]);
    let line = prop_oneof![
        4 => (path(), "[a-d]{0,3}").prop_map(|(path, text)| format!("f {path} {text}")),
        3 => path().prop_map(|path| format!("d {path}")),
        2 => path().prop_map(|path| format!("x {path}")),
        1 => path().prop_map(|path| format!("o {path}")),
        2 => (path(), path()).prop_map(|(path, target)| format!("h {path} {target}")),
        1 => (path(), path()).prop_map(|(path, target)| format!("s {path} /{target}")),
        1 => path().prop_map(|path| format!("p {path}")),
    ];
    let layer = prop::collection::vec(line, 1..6).prop_map(|lines| lines.join("\n"));
    prop::collection::vec(layer, 1..4)
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(40))]
    #[test]
    fn whatever_the_layers_are_they_come_to_what_unpacking_them_gives(layers in any_layers()) {
        let texts: Vec<&str> = layers.iter().map(String::as_str).collect();
        let archives = archives(&texts);
        let each: Vec<&[u8]> = archives.0.iter().map(Vec::as_slice).collect();
        for base in 0..=layers.len() {
            let mut writer = TarWriter::new(Vec::new());
            let merged = squash(&archives, base, &mut writer);
            match (try_applied(&each), merged) {
                (Ok(expected), Ok(())) => {
                    let squashed = writer.finish().unwrap();
                    let mut onto = each[..base].to_vec();
                    onto.push(&squashed);
                    let (found, expected) = timeless(applied(&onto), expected);
                    assert_same(&found, &expected, &format!("{layers:?} from {base}"));
                }
                // What cannot be unpacked (a link over the directory that its target is in) has
                // no tree to compare with.
                (Err(_), _) => {}
                (Ok(_), Err(error)) => panic!("{layers:?} from {base}: {error}"),
            }
        }
    }
}

fn sent(layers: &[&str], base: usize) -> Vec<String> {
    let mut collected = Collect::default();
    squash(&archives(layers), base, &mut collected).unwrap();
    collected.paths()
}

#[test]
fn a_squash_hides_what_the_base_has_and_nothing_else() {
    let base = "d a\nf a/kept k\nf a/gone g";
    assert_eq!(
        sent(
            &[
                base,
                "d a\nf a/passing p\nx a/gone",
                "d a\nx a/passing\nf b b"
            ],
            1
        ),
        ["a", "a/.wh.gone", "b"]
    );
    // Removed and made again: what the base has in it must stay hidden.
    assert_eq!(
        sent(&[base, "x a", "d a\nf a/gone new"], 1),
        ["a", "a/.wh.kept", "a/gone"]
    );
}

#[test]
fn a_name_that_the_base_lacks_brings_the_file_with_it() {
    let base = "f one content";
    assert_eq!(sent(&[base, "h two one"], 1), ["one", "two"]);
    assert_eq!(sent(&[base, "h two one", "x one"], 1), [".wh.one", "two"]);
    assert_eq!(sent(&[base, "f two x"], 1), ["two"]);
}

#[test]
fn a_layer_of_which_nothing_is_wanted_is_read_once() {
    let archives = archives(&["f base b", "f a a", "f a again"]);
    squash(&archives, 1, &mut Collect::default()).unwrap();
    assert_eq!(*archives.1.borrow(), [1, 1, 2]);
}

#[test]
fn layers_that_cannot_be_are_refused_and_nothing_panics() {
    for (layers, words) in [
        (vec!["h a b"], "does not exist"),
        (vec!["d b\nh a b"], "is a directory"),
        (vec!["f a x\nf a/b y"], "not a directory"),
        (vec!["s a a\nf a/b x"], "symbolic links"),
    ] {
        let error = flatten(&archives(&layers), &mut Collect::default()).unwrap_err();
        assert!(error.to_string().contains(words), "{layers:?}: {error}");
    }
    let deep = format!("f {}x 1", "d/".repeat(2000));
    assert_eq!(sent(&[&deep, &deep], 1).len(), 2001, "as deep as can be");
    let deep: String = (0..3).map(|_| "d/".repeat(2000)).collect();
    let error = flatten(
        &archives(&[&format!("f {deep}x 1")]),
        &mut Collect::default(),
    );
    assert!(error.unwrap_err().to_string().contains("too long"));
}

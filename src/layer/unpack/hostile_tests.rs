//! Layers that want out, lie, or stop in the middle.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::layer::compress::Compression;
use crate::layer::error::NameProblem;
use crate::layer::pack::pack_archive;
use crate::layer::testing::{archive, dir, directory, file, hardlink, is_root, symlink, tree};
use crate::layer::{Entry, Error};

const PLAIN: UnpackOptions<'static> = UnpackOptions {
    target: Target::Plain,
    ignore_unmapped_owners: true,
};
const TREE: UnpackOptions<'static> = UnpackOptions {
    target: Target::Tree,
    ignore_unmapped_owners: true,
};
const OVERLAY: UnpackOptions<'static> = UnpackOptions {
    target: Target::Overlay {
        xattrs: OverlayXattrs::User,
        parent: None,
    },
    ignore_unmapped_owners: true,
};
const TARGETS: [UnpackOptions<'static>; 3] = [PLAIN, TREE, OVERLAY];

fn unpack_to(bytes: &[u8], root: &Path, options: &UnpackOptions<'_>) -> Result<Unpacked> {
    unpack(bytes, dir(root).as_fd(), options, &Expected::default())
}

/// A directory with a secret beside the root.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/secret"), "secret").unwrap();
        Place { directory }
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }

    fn outside(&self) -> String {
        self.directory
            .path()
            .join("outside")
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn assert_outside_is_whole(&self) {
        let names: Vec<_> = fs::read_dir(self.outside()).unwrap().collect();
        assert_eq!(names.len(), 1, "something was put outside");
        assert_eq!(
            fs::read(self.directory.path().join("outside/secret")).unwrap(),
            b"secret"
        );
        assert_eq!(fs::read_dir(self.directory.path()).unwrap().count(), 2);
    }
}

#[test]
fn a_link_that_leads_out_leads_back_to_the_root() {
    for options in TARGETS {
        for target in [
            Place::outside,
            |_: &Place| "../outside".to_owned(),
            |_: &Place| "../../../..".to_owned(),
        ] {
            let place = Place::new();
            let entries = [
                symlink("way", &target(&place)),
                file("way/in", "x"),
                file("way/secret", "mine"),
            ];
            unpack_to(&archive(&entries), &place.root(), &options).unwrap();
            place.assert_outside_is_whole();
        }
    }
}

#[test]
fn a_file_replaces_a_link_and_never_writes_through_it() {
    for options in TARGETS {
        let place = Place::new();
        let secret = format!("{}/secret", place.outside());
        let entries = [symlink("name", &secret), file("name", "mine")];
        unpack_to(&archive(&entries), &place.root(), &options).unwrap();
        place.assert_outside_is_whole();
        assert_eq!(fs::read(place.root().join("name")).unwrap(), b"mine");
    }
}

#[test]
fn a_hard_link_cannot_name_what_is_outside() {
    for options in TARGETS {
        let place = Place::new();
        let secret = format!("{}/secret", place.outside());
        for entries in [
            vec![hardlink("name", secret.trim_start_matches('/'))],
            vec![
                symlink("way", &place.outside()),
                hardlink("name", "way/secret"),
            ],
            vec![symlink("way", "../outside"), hardlink("name", "way/secret")],
        ] {
            let error = unpack_to(&archive(&entries), &place.root(), &options).unwrap_err();
            assert!(matches!(error, Error::Hardlink { .. }), "{error}");
            place.assert_outside_is_whole();
        }
        // A link to a link is a link, which is not followed.
        let entries = [symlink("link", &secret), hardlink("name", "link")];
        unpack_to(&archive(&entries), &place.root(), &options).unwrap();
        assert!(
            fs::symlink_metadata(place.root().join("name"))
                .unwrap()
                .is_symlink()
        );
    }
}

#[test]
fn names_with_dot_dot_are_refused_before_anything_is_made() {
    for options in TARGETS {
        for name in ["../outside/secret", "a/../../outside/secret", ".."] {
            let place = Place::new();
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(0);
            header.set_cksum();
            let bytes = [&header.as_bytes()[..], &[0; 1024]].concat();
            let error = unpack_to(&bytes, &place.root(), &options).unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Name {
                        problem: NameProblem::DotDot,
                        ..
                    }
                ),
                "{error}"
            );
            place.assert_outside_is_whole();
        }
    }
}

#[test]
fn an_absolute_name_is_of_this_root() {
    let place = Place::new();
    let name = format!("{}/secret", place.outside());
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(0);
    header.set_mode(0o600);
    header.set_cksum();
    let bytes = [&header.as_bytes()[..], &[0; 1024]].concat();
    unpack_to(&bytes, &place.root(), &PLAIN).unwrap();
    place.assert_outside_is_whole();
    assert!(place.root().join(name.trim_start_matches('/')).exists());
}

#[test]
fn a_whiteout_removes_nothing_outside() {
    for target in [Place::outside as fn(&Place) -> String, |_| {
        "../outside".to_owned()
    }] {
        let place = Place::new();
        std::os::unix::fs::symlink(target(&place), place.root().join("way")).unwrap();
        for name in ["way/.wh.secret", "way/.wh..wh..opq", ".wh.way"] {
            unpack_to(&archive(&[file(name, "")]), &place.root(), &TREE).unwrap();
            place.assert_outside_is_whole();
        }
        assert!(
            fs::symlink_metadata(place.root().join("way")).is_err(),
            "the link itself may go"
        );
    }
    for name in [".wh.", ".wh..", ".wh..."] {
        let place = Place::new();
        let error = unpack_to(&archive(&[file(name, "")]), &place.root(), &TREE).unwrap_err();
        assert!(matches!(
            error,
            Error::Name {
                problem: NameProblem::EmptyWhiteout,
                ..
            }
        ));
        place.assert_outside_is_whole();
    }
}

#[test]
fn replacing_a_directory_by_a_link_does_not_fool_the_cache() {
    for options in TARGETS {
        let place = Place::new();
        let entries = [
            directory("a"),
            file("a/one", "1"),
            file("a", "in between"),
            symlink("a", &place.outside()),
            file("a/two", "2"),
            file("a/secret", "3"),
        ];
        unpack_to(&archive(&entries), &place.root(), &options).unwrap();
        place.assert_outside_is_whole();
    }
}

#[test]
fn links_in_a_circle_are_an_error() {
    for options in TARGETS {
        let place = Place::new();
        let entries = [symlink("a", "b"), symlink("b", "a"), file("a/x", "")];
        let error = unpack_to(&archive(&entries), &place.root(), &options).unwrap_err();
        assert!(error.to_string().contains("too many levels"), "{error}");
    }
}

#[test]
fn a_file_cannot_be_in_a_file_of_its_own_layer() {
    for options in TARGETS {
        let place = Place::new();
        let entries = [file("a", "file"), file("a/b", "")];
        let error = unpack_to(&archive(&entries), &place.root(), &options).unwrap_err();
        assert!(matches!(error, Error::Entry { .. }), "{error}");
    }
}

#[test]
fn overlay_s_own_attributes_are_not_taken_from_a_layer() {
    let place = Place::new();
    let (mut entry, content) = directory("dir");
    for name in [
        "user.overlay.redirect",
        "trusted.overlay.opaque",
        "user.overlay.opaque",
    ] {
        entry.xattrs.insert(name.into(), b"y".to_vec());
    }
    entry.xattrs.insert(b"user.mine".to_vec(), b"kept".to_vec());
    let unpacked = unpack_to(&archive(&[(entry, content)]), &place.root(), &OVERLAY).unwrap();
    assert_eq!(unpacked.skipped.xattrs, 3);
    let xattrs = crate::layer::inode::directory_xattrs(dir(&place.root().join("dir")).as_fd(), b"");
    assert_eq!(
        xattrs.unwrap().keys().collect::<Vec<_>>(),
        [&b"user.mine".to_vec()]
    );
}

#[test]
fn the_root_cannot_be_anything_but_a_directory() {
    let place = Place::new();
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..2].copy_from_slice(b"./");
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_link_name("/etc").unwrap();
    header.set_mode(0);
    header.set_cksum();
    let bytes = [&header.as_bytes()[..], &[0; 1024]].concat();
    assert!(unpack_to(&bytes, &place.root(), &PLAIN).is_err());
}

/// Some content that doesn't compress to nothing, in several chunks.
fn large() -> Vec<u8> {
    let mut state = 7u32;
    let mut entries = vec![directory("d")];
    for index in 0..40 {
        let content: String = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'a' + (state >> 28) as u8)
        })
        .take(100_000)
        .collect();
        entries.push(file(&format!("d/{index:02}"), &content));
    }
    archive(&entries)
}

#[test]
fn a_blob_that_is_not_the_descriptor_s_is_told_by_what_differs() {
    for compression in [
        Compression::None,
        Compression::Gzip(1),
        Compression::Zstd(1),
    ] {
        let (packed, blob) = pack_archive(compression, Vec::new(), large().as_slice()).unwrap();
        let right = Expected {
            digest: Some(packed.digest),
            size: Some(packed.size),
            diff_id: Some(packed.diff_id),
        };
        let try_with = |bytes: &[u8], expected: &Expected| {
            let place = Place::new();
            unpack(bytes, dir(&place.root()).as_fd(), &PLAIN, expected)
        };
        let unpacked = try_with(&blob, &right).unwrap();
        assert_eq!(
            (unpacked.digest, unpacked.diff_id),
            (packed.digest, packed.diff_id)
        );
        assert_eq!(
            (unpacked.size, unpacked.unpacked_size),
            (packed.size, packed.unpacked_size)
        );

        let other = Digest::of(b"other");
        let error = try_with(
            &blob,
            &Expected {
                digest: Some(other),
                ..right
            },
        )
        .unwrap_err();
        assert!(
            matches!(error, Error::Digest { expected, .. } if expected == other),
            "{error}"
        );
        let error = try_with(
            &blob,
            &Expected {
                diff_id: Some(other),
                ..right
            },
        )
        .unwrap_err();
        assert!(
            matches!(error, Error::DiffId { expected, .. } if expected == other),
            "{error}"
        );
        for size in [packed.size - 1, packed.size + 1, 10, 0] {
            let error = try_with(
                &blob,
                &Expected {
                    size: Some(size),
                    ..right
                },
            )
            .unwrap_err();
            assert!(
                matches!(error, Error::Size { expected, .. } if expected == size),
                "{error}"
            );
        }

        // Damage anywhere is told as the wrong digest, not as what it did to the archive.
        for index in [0, 300, blob.len() / 2, blob.len() - 3] {
            let mut damaged = blob.clone();
            damaged[index] ^= 0x40;
            let error = try_with(&damaged, &right).unwrap_err();
            assert!(
                matches!(error, Error::Digest { .. }),
                "{compression} at {index}: {error}"
            );
        }
        for length in [0, 100, blob.len() / 2, blob.len() - 1] {
            let error = try_with(&blob[..length], &right).unwrap_err();
            assert!(
                matches!(error, Error::Size { .. }),
                "{compression} cut at {length}: {error}"
            );
            // An archive that isn't compressed may be cut within the zeros that end it.
            let length = length.min(blob.len() - 1024);
            let error = try_with(&blob[..length], &Expected::default()).unwrap_err();
            assert!(
                error.is_bad_layer(),
                "{compression} cut at {length}: {error}"
            );
        }
    }
}

#[test]
fn what_is_no_layer_at_all_says_so() {
    let place = Place::new();
    for (bytes, text) in [
        (&b""[..], "not a tar archive"),
        (b"hello, world", "not a tar archive"),
        (&[b'#'; 5000], "not a tar archive"),
        (&[0x1f, 0x8b, 8, 0, 0, 0], "decompress layer (gzip)"),
        (
            &[0x28, 0xb5, 0x2f, 0xfd, 9, 9, 9],
            "decompress layer (zstd)",
        ),
    ] {
        let error = unpack_to(bytes, &place.root(), &PLAIN).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    // Two blocks of zeros are a layer, with nothing in it.
    assert_eq!(
        unpack_to(&[0; 1024], &place.root(), &PLAIN)
            .unwrap()
            .entries,
        0
    );
}

#[test]
fn a_source_that_fails_ends_the_unpacking() {
    struct Failing(Vec<u8>, usize);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = (&self.0[self.1..]).read(buffer)?;
            self.1 += count;
            if count == 0 {
                Err(std::io::Error::other("disk on fire"))
            } else {
                Ok(count)
            }
        }
    }
    let bytes = large();
    for length in [0, 700, 1 << 20, 3 << 20, bytes.len()] {
        let place = Place::new();
        let source = Failing(bytes[..length].to_vec(), 0);
        let result = unpack(
            source,
            dir(&place.root()).as_fd(),
            &PLAIN,
            &Expected::default(),
        );
        let error = result.unwrap_err();
        assert!(
            error.to_string().contains("disk on fire"),
            "at {length}: {error}"
        );
    }
}

#[test]
fn a_directory_that_refuses_ends_the_worker_too() {
    if !is_root("a_directory_that_refuses_ends_the_worker_too") {
        return;
    }
    let place = Place::new();
    let mut entries = vec![(
        Entry::new("f", Kind::File { size: 3 << 20 }, 0),
        vec![1; 3 << 20],
    )];
    entries[0].0.uid = u32::MAX;
    entries.push((
        Entry::new("g", Kind::File { size: 20 << 20 }, 0),
        vec![1; 20 << 20],
    ));
    let options = UnpackOptions {
        ignore_unmapped_owners: false,
        ..PLAIN
    };
    let error = unpack_to(&archive(&entries), &place.root(), &options).unwrap_err();
    assert!(
        matches!(error, Error::UnmappedOwner { uid: u32::MAX, .. }),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random sequences of a few colliding names: never a panic, never anything outside.
    #[test]
    fn no_sequence_of_entries_gets_out(
        steps in proptest::collection::vec((0usize..7, 0usize..8, 0usize..8), 1..14),
        target in 0usize..3,
    ) {
        let place = Place::new();
        let names = ["a", "b", "a/b", "b/a", "a/b/c", ".wh.a", "a/.wh.b", "b/.wh..wh..opq"];
        let links = ["..", "/", "../outside", "a", "b", "/a/b", ".", "b/../../outside"];
        let entries: Vec<_> = steps.iter().map(|&(kind, name, other)| match kind {
            0 | 1 => file(names[name], "x"),
            2 | 3 => directory(names[name]),
            4 | 5 => symlink(names[name], links[other]),
            _ => hardlink(names[name], names[other]),
        }).collect();
        let _ = unpack_to(&archive(&entries), &place.root(), &TARGETS[target]);
        place.assert_outside_is_whole();
        if !matches!(TARGETS[target].target, Target::Plain) {
            // No whiteout is left as a file.
            let _ = tree(&place.root());
        }
    }
}

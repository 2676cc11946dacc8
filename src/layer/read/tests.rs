//! What is read is what was written: by our writer, by GNU tar, by nobody honest.

use super::*;
use crate::layer::entry::{Mtime, Xattrs};
use crate::layer::error::NameProblem;
use crate::layer::write::TarWriter;
use proptest::prelude::*;
use std::process::Command;

fn write(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        let mut content = content.as_slice();
        let file = matches!(entry.kind, Kind::File { .. });
        writer
            .append(entry, file.then_some(&mut content as &mut dyn Read))
            .unwrap();
    }
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = TarReader::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        reader
            .read_to_end(&mut content)
            .map_err(|error| Error::of_content(b"", error))?;
        entries.push((entry, content));
    }
    Ok(entries)
}

fn problem(bytes: &[u8]) -> ArchiveProblem {
    match read(bytes) {
        Err(Error::Archive { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

fn one_of_each() -> Vec<(Entry, Vec<u8>)> {
    let name = |length: usize| vec![b'n'; length];
    let device = Device {
        major: 8,
        minor: 300_000,
    };
    let link = |target: &[u8]| Kind::Symlink {
        target: target.to_vec(),
    };
    let mut entries = vec![
        (Entry::new("", Kind::Directory, 0o755), vec![]),
        (Entry::new("dir", Kind::Directory, 0o1777), vec![]),
        (
            Entry::new("dir/empty", Kind::File { size: 0 }, 0o644),
            vec![],
        ),
        (
            Entry::new("dir/block", Kind::File { size: 512 }, 0o4755),
            vec![7; 512],
        ),
        (Entry::new("dir/fifo", Kind::Fifo, 0o600), vec![]),
        (Entry::new("char", Kind::CharDevice(device), 0o600), vec![]),
        (Entry::new("blk", Kind::BlockDevice(device), 0o600), vec![]),
        (
            Entry::new(
                "hard",
                Kind::Hardlink {
                    target: b"dir/block".to_vec(),
                },
                0,
            ),
            vec![],
        ),
        (
            Entry::new("hard-far", Kind::Hardlink { target: name(300) }, 0),
            vec![],
        ),
        (Entry::new("link", link(b"../../etc"), 0o777), vec![]),
        (Entry::new("link-far", link(&name(4000)), 0o777), vec![]),
        (Entry::new("latin-\u{e9}", Kind::Fifo, 0), vec![]),
        (
            Entry::new(b"bytes-\xff\xfe".to_vec(), Kind::Fifo, 0),
            vec![],
        ),
        (
            Entry::new([b"\xff".to_vec(), name(200)].concat(), Kind::Fifo, 0),
            vec![],
        ),
        (Entry::new(name(101), Kind::Directory, 0), vec![]),
        (Entry::new(name(255), Kind::File { size: 1 }, 0), vec![1]),
        (
            Entry::new([name(120), b"/".to_vec(), name(99)].concat(), Kind::Fifo, 0),
            vec![],
        ),
        (
            Entry::new(
                [name(250), b"/".to_vec(), name(250)].concat(),
                Kind::Fifo,
                0,
            ),
            vec![],
        ),
    ];
    for (index, mtime) in [(-1, 0), (-5, 5), (1, 999_999_999), (1 << 34, 0)]
        .into_iter()
        .enumerate()
    {
        let mut entry = Entry::new(format!("time-{index}"), Kind::File { size: 2 }, 0o2711);
        entry.mtime = Mtime {
            seconds: mtime.0,
            nanoseconds: mtime.1,
        };
        (entry.uid, entry.gid) = (3_000_000, u32::MAX);
        entry.xattrs = Xattrs::from([
            (
                b"security.capability".to_vec(),
                vec![1, 0, 0, 2, 0, 4, 0, 0],
            ),
            (b"user.empty".to_vec(), vec![]),
            (b"user.lines".to_vec(), b"a=b\n\n".to_vec()),
        ]);
        entries.push((entry, vec![1, 2]));
    }
    entries
}

#[test]
fn each_kind_and_attribute_reads_back() {
    assert_eq!(read(&write(&one_of_each())).unwrap(), one_of_each());
}

#[test]
fn the_tar_crate_reads_the_same_from_what_we_write() {
    let bytes = write(&one_of_each());
    let mut archive = tar::Archive::new(bytes.as_slice());
    for (theirs, (ours, _)) in archive.entries().unwrap().zip(one_of_each()) {
        let theirs = theirs.unwrap();
        assert_eq!(clean_path(&theirs.path_bytes()).unwrap(), ours.path);
        assert_eq!(theirs.header().uid().unwrap(), u64::from(ours.uid));
        assert_eq!(theirs.size(), ours.size());
    }
}

#[test]
fn gnu_tar_lists_what_we_write() {
    let bytes = write(&one_of_each());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ours.tar");
    std::fs::write(&path, &bytes).unwrap();
    let output = Command::new("tar")
        .env("LC_ALL", "C.UTF-8")
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--full-time",
            "--numeric-owner",
            "--quoting-style=literal",
            "-tvvf",
        ])
        .arg(&path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for line in [
        "drwxrwxrwt 0/0 ",
        "hard link to dir/block",
        "crw------- 0/0 8,300000 ",
        "-rwx--s--x* 3000000/4294967295 ",
        "1969-12-31 23:59:59 time-0",
        "latin-\u{e9}",
        "security.capability",
    ] {
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains(line), "{line} not in:\n{text}");
    }
    assert_eq!(
        text.lines().filter(|line| !line.starts_with("  ")).count(),
        one_of_each().len()
    );
}

/// Archives of one directory by GNU tar, in each of its formats.
#[test]
fn we_read_what_gnu_tar_writes() {
    let dir = tempfile::tempdir().unwrap();
    let long = "l".repeat(200);
    std::fs::create_dir_all(dir.path().join("d").join(&long)).unwrap();
    std::fs::write(dir.path().join("d").join(&long).join(&long), "deep").unwrap();
    std::os::unix::fs::symlink("t".repeat(300), dir.path().join("d/link")).unwrap();
    std::fs::write(dir.path().join("d/a"), "content").unwrap();
    std::fs::hard_link(dir.path().join("d/a"), dir.path().join("d/b")).unwrap();
    for format in ["pax", "gnu"] {
        let output = Command::new("tar")
            .args([
                "--sort=name",
                "--owner=x:3000000",
                "--group=y:70000",
                "--mtime=@-5",
            ])
            .args([&format!("--format={format}"), "-C"])
            .arg(dir.path())
            .args(["-cf", "-", "./d"])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let entries = read(&output.stdout).unwrap();
        let paths: Vec<String> = entries
            .iter()
            .map(|(e, _)| String::from_utf8(e.path.clone()).unwrap())
            .collect();
        let deep = format!("d/{long}/{long}");
        let expected = ["d", "d/a", "d/b", "d/link", &format!("d/{long}"), &deep];
        assert_eq!(paths, expected, "{format}");
        assert!(
            entries
                .iter()
                .all(|(e, _)| (e.uid, e.gid) == (3_000_000, 70_000)),
            "{format}"
        );
        assert!(
            entries.iter().all(|(e, _)| e.mtime.seconds == -5),
            "{format}"
        );
        assert_eq!(entries[1].1, b"content");
        assert_eq!(
            entries[2].0.kind,
            Kind::Hardlink {
                target: b"d/a".to_vec()
            }
        );
        assert_eq!(
            entries[3].0.kind,
            Kind::Symlink {
                target: vec![b't'; 300]
            }
        );
        assert_eq!(entries[5].1, b"deep");
    }
}

#[test]
fn sparse_files_of_every_gnu_generation_are_read_with_their_holes() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("sparse")).unwrap();
    // More pieces than a header and one extension block hold.
    for piece in 0..40 {
        file.write_all_at(&[piece + 1; 4096], u64::from(piece) * 20_480 + 8192)
            .unwrap();
    }
    file.set_len(900_000).unwrap();
    let content = std::fs::read(dir.path().join("sparse")).unwrap();
    for format in [
        ["--format=gnu", "--sparse"],
        ["--format=pax", "--sparse-version=0.0"],
        ["--format=pax", "--sparse-version=0.1"],
        ["--format=pax", "--sparse-version=1.0"],
    ] {
        let output = Command::new("tar")
            .args(format)
            .args(["--sparse", "-C"])
            .arg(dir.path())
            .args(["-cf", "-", "sparse"])
            .output()
            .unwrap();
        assert!(output.stdout.len() < 400_000, "tar wrote no sparse file");
        let entries = read(&output.stdout).unwrap();
        assert_eq!(entries[0].0.path, b"sparse", "{format:?}");
        assert_eq!(entries[0].0.kind, Kind::File { size: 900_000 });
        assert!(entries[0].1 == content, "{format:?}");
    }
}

#[test]
fn what_is_not_a_tar_archive_says_so() {
    assert_eq!(problem(b"hello"), ArchiveProblem::NotTar);
    assert_eq!(problem(&[b'x'; 4096]), ArchiveProblem::NotTar);
    let mut reader = TarReader::new(&b""[..]);
    assert!(reader.next_entry().unwrap().is_none());
    assert!(
        !reader.saw_end_mark(),
        "an empty stream is an archive that nobody ended"
    );
}

#[test]
fn an_archive_cut_inside_an_entry_is_truncated_wherever_it_is_cut() {
    let bytes = write(&one_of_each());
    let whole = read(&bytes).unwrap().len();
    for length in (1..bytes.len()).step_by(97) {
        let mut reader = TarReader::new(&bytes[..length]);
        let result = (|| {
            let mut count = 0;
            while reader.next_entry()?.is_some() {
                count += 1;
            }
            Ok::<_, Error>(count)
        })();
        match result {
            Ok(count) => assert!(count == whole || !reader.saw_end_mark(), "cut at {length}"),
            Err(Error::Archive { problem, .. }) => assert!(
                matches!(
                    problem,
                    ArchiveProblem::Truncated
                        | ArchiveProblem::DanglingExtension
                        | ArchiveProblem::NotTar
                ),
                "cut at {length}: {problem}"
            ),
            Err(other) => panic!("cut at {length}: {other}"),
        }
    }
}

#[test]
fn an_archive_may_end_in_the_padding_of_its_last_file_and_not_in_its_content() {
    let file = [(
        Entry::new("x", Kind::File { size: 5 }, 0o644),
        b"hello".to_vec(),
    )];
    let bytes = write(&file);
    for length in [BLOCK + 5, BLOCK + 6, 2 * BLOCK - 1, 2 * BLOCK] {
        assert_eq!(read(&bytes[..length]).unwrap(), file, "{length}");
        let mut reader = TarReader::new(&bytes[..length]);
        while reader.next_entry().unwrap().is_some() {}
        assert!(!reader.saw_end_mark(), "{length}");
    }
    assert_eq!(problem(&bytes[..BLOCK + 4]), ArchiveProblem::Truncated);
}

#[test]
fn a_damaged_header_is_found_by_its_checksum() {
    let mut bytes = write(&one_of_each());
    bytes[BLOCK + 3] ^= 1;
    assert_eq!(problem(&bytes), ArchiveProblem::Checksum);
}

/// An archive of one header, made by hand.
fn by_hand(kind: u8, edit: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = Header::new(kind);
    header.set_path(b"name");
    edit(&mut header);
    [&header.finish()[..], &[0; 1024]].concat()
}

#[test]
fn hostile_headers_are_refused_without_being_believed() {
    let huge = by_hand(b'x', |header| assert!(header.set_size(1 << 32)));
    assert_eq!(problem(&huge), ArchiveProblem::ExtensionSize(1 << 32));
    let beyond = by_hand(b'0', |header| {
        header.0[124..136].copy_from_slice(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00")
    });
    assert_eq!(problem(&beyond), ArchiveProblem::Field("size"));
    assert_eq!(problem(&by_hand(b'Q', |_| {})), ArchiveProblem::Type('Q'));
    assert_eq!(problem(&by_hand(b'M', |_| {})), ArchiveProblem::Type('M'));
    assert_eq!(
        problem(&by_hand(b'L', |_| {})),
        ArchiveProblem::DanglingExtension
    );
    let letters = by_hand(b'0', |header| {
        header.0[100..108].copy_from_slice(b"rw-r--r-")
    });
    assert_eq!(problem(&letters), ArchiveProblem::Field("mode"));
}

#[test]
fn names_that_climb_are_refused_and_absolute_ones_are_of_this_root() {
    let climbing = by_hand(b'0', |header| {
        header.0[..100].fill(0);
        header.set_path(b"a/../../x");
    });
    assert!(matches!(
        read(&climbing),
        Err(Error::Name {
            problem: NameProblem::DotDot,
            ..
        })
    ));
    let absolute = by_hand(b'0', |header| {
        header.0[..100].fill(0);
        header.set_path(b"/etc/passwd");
    });
    assert_eq!(read(&absolute).unwrap()[0].0.path, b"etc/passwd");
    let link = by_hand(b'1', |header| assert!(header.set_link(b"../shadow")));
    assert!(matches!(read(&link), Err(Error::Name { .. })));
}

#[test]
fn global_headers_are_passed_over() {
    let mut records = Vec::new();
    pax::push(&mut records, b"path", b"evil");
    let mut header = Header::new(b'g');
    header.set_size(records.len() as u64);
    records.resize(BLOCK, 0);
    let bytes = [&header.finish()[..], &records, &by_hand(b'0', |_| {})].concat();
    assert_eq!(read(&bytes).unwrap()[0].0.path, b"name");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bytes come, the answer is entries or an error.
    #[test]
    fn no_input_makes_the_reader_panic(
        edits in proptest::collection::vec((0usize..40_000, any::<u8>()), 0..12),
        fix in any::<bool>(),
    ) {
        let mut bytes = write(&one_of_each());
        for (index, byte) in edits {
            let index = index % bytes.len();
            bytes[index] = byte;
            if fix {
                // Make the checksum right again, so that the fields behind it are tried.
                let start = index / BLOCK * BLOCK;
                if let Ok(block) = <[u8; BLOCK]>::try_from(&bytes[start..start + BLOCK]) {
                    bytes[start..start + BLOCK].copy_from_slice(&Header(block).finish());
                }
            }
        }
        let _ = read(&bytes);
    }

    #[test]
    fn random_entries_read_back(
        path in "[^/\0]{1,120}(/[^/\0]{1,120}){0,3}",
        content in proptest::collection::vec(any::<u8>(), 0..2000),
        (uid, gid, mode) in (any::<u32>(), any::<u32>(), 0u32..0o10000),
        (seconds, nanoseconds) in (-(1i64 << 40)..1 << 40, 0u32..1_000_000_000),
        xattrs in proptest::collection::btree_map("user\\.[a-z]{1,20}", any::<Vec<u8>>(), 0..3),
    ) {
        let path = clean_path(path.as_bytes());
        prop_assume!(path.as_ref().is_ok_and(|path| !path.is_empty()));
        let entry = Entry {
            path: path.unwrap(),
            kind: Kind::File { size: content.len() as u64 },
            mode, uid, gid,
            mtime: Mtime { seconds, nanoseconds },
            xattrs: xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect(),
        };
        let entries = vec![(entry, content)];
        prop_assert_eq!(read(&write(&entries)).unwrap(), entries);
    }
}

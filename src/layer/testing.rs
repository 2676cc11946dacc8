//! What the tests of this module share.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::diff::{DiffOptions, trees};
use super::entry::{Entry, EntrySink, Kind, Mtime};
use super::error::{Error, Result};
use super::merge::{Consume, Layers};
use super::whiteout;
use super::write::TarWriter;
use crate::fsutil::open_dir;

/// Entries with their content.
pub type Entries = Vec<(Entry, Vec<u8>)>;

/// Entries as they came.
#[derive(Default)]
pub struct Collect(pub Entries);

impl EntrySink for Collect {
    fn entry(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        let mut bytes = Vec::new();
        if let Some(content) = content {
            let read = content.read_to_end(&mut bytes);
            read.map_err(|error| Error::of_content(&entry.path, error))?;
        }
        assert_eq!(bytes.len() as u64, entry.size());
        self.0.push((entry.clone(), bytes));
        Ok(())
    }
}

impl Collect {
    /// The paths, as text.
    pub fn paths(&self) -> Vec<String> {
        let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        self.0.iter().map(|(entry, _)| text(&entry.path)).collect()
    }
}

/// Fails with the entries that are in one tree only.
pub fn assert_same(found: &[(Entry, Vec<u8>)], expected: &[(Entry, Vec<u8>)], what: &str) {
    let show = |these: &[(Entry, Vec<u8>)], others: &[(Entry, Vec<u8>)]| {
        let only = these.iter().filter(|one| !others.contains(one));
        only.map(|(entry, content)| {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            format!("  {path}: {entry:?} with {} bytes\n", content.len())
        })
        .collect::<String>()
    };
    assert!(
        found == expected,
        "{what}:\nfound only:\n{}expected only:\n{}",
        show(found, expected),
        show(expected, found)
    );
}

/// All that is in a directory.
pub fn tree(root: &Path) -> Entries {
    let mut collect = Collect::default();
    trees(
        None,
        dir(root).as_fd(),
        &DiffOptions::default(),
        &mut collect,
    )
    .unwrap();
    collect.0
}

/// An open directory.
pub fn dir(path: &Path) -> OwnedFd {
    open_dir(path).unwrap()
}

/// An archive of these entries.
pub fn archive(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
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

/// A file with this content, mode 0644.
pub fn file(path: &str, content: &str) -> (Entry, Vec<u8>) {
    let kind = Kind::File {
        size: content.len() as u64,
    };
    (Entry::new(path, kind, 0o644), content.as_bytes().to_vec())
}

/// A directory, mode 0755.
pub fn directory(path: &str) -> (Entry, Vec<u8>) {
    (Entry::new(path, Kind::Directory, 0o755), Vec::new())
}

/// A symbolic link.
pub fn symlink(path: &str, target: &str) -> (Entry, Vec<u8>) {
    (
        Entry::new(
            path,
            Kind::Symlink {
                target: target.into(),
            },
            0o777,
        ),
        Vec::new(),
    )
}

/// A hard link.
pub fn hardlink(path: &str, target: &str) -> (Entry, Vec<u8>) {
    (
        Entry::new(
            path,
            Kind::Hardlink {
                target: target.into(),
            },
            0o644,
        ),
        Vec::new(),
    )
}

/// Says that a test was skipped, past the capture of passing tests' output; or fails it if skipping
/// is forbidden.
pub fn skip(test: &str, need: &str) {
    let forbidden = std::env::var_os("RSTORE_TEST_NO_SKIP").is_some_and(|value| value == "1");
    assert!(!forbidden, "{test} needs {need}");
    let _ = writeln!(std::io::stderr(), "SKIP: needs {need}: {test}");
}

/// Whether this is the real root, not that of a user namespace.
pub fn is_real_root() -> bool {
    let whole = std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]));
    whole && rustix::process::geteuid().is_root()
}

/// The same for a test that is nothing without it: if not, it is skipped.
pub fn is_root(test: &str) -> bool {
    if !is_real_root() {
        skip(test, "root");
    }
    is_real_root()
}

/// An overlay mounted for a test; unmounted when dropped.
pub struct View {
    place: tempfile::TempDir,
    /// Where the upper directory is.
    pub upper: std::path::PathBuf,
}

impl View {
    /// Where it is mounted.
    pub fn path(&self) -> std::path::PathBuf {
        self.place.path().join("merged")
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

/// Mounts an overlay of `lowers`, topmost first, if `writable` with an upper directory of its own.
/// `None`, with a word about it, where overlays cannot be mounted.
pub fn overlay_view(test: &str, lowers: &[&Path], writable: bool) -> Option<View> {
    let place = tempfile::tempdir().unwrap();
    for name in ["merged", "upper", "work"] {
        std::fs::create_dir(place.path().join(name)).unwrap();
    }
    let shown: Vec<_> = lowers.iter().map(|path| path.to_str().unwrap()).collect();
    let at = |name: &str| place.path().join(name);
    let mut options = format!(
        "lowerdir={},redirect_dir=off,metacopy=off,index=off",
        shown.join(":")
    );
    if writable {
        let (upper, work) = (at("upper"), at("work"));
        options += &format!(",upperdir={},workdir={}", upper.display(), work.display());
    }
    let options = std::ffi::CString::new(options).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    match rustix::mount::mount(
        "overlay",
        at("merged"),
        "overlay",
        flags,
        Some(options.as_c_str()),
    ) {
        Ok(()) => Some(View {
            upper: at("upper"),
            place,
        }),
        Err(error) => {
            skip(test, &format!("overlayfs ({error})"));
            None
        }
    }
}

/// Archives in memory, and how often each was read.
pub struct Archives(pub Vec<Vec<u8>>, pub std::cell::RefCell<Vec<usize>>);

impl Layers for Archives {
    type Error = Error;

    fn count(&self) -> usize {
        self.0.len()
    }

    fn read(&self, layer: usize, consume: Consume<'_>) -> Result<()> {
        self.1.borrow_mut()[layer] += 1;
        consume(&mut self.0[layer].as_slice())
    }
}

/// One line an entry: `d PATH`, `f PATH CONTENT`, `s PATH TARGET`, `h PATH TARGET`, `p PATH`,
/// `x PATH` (a whiteout), `o PATH` (an opaque directory). Owners are this process' own.
pub fn archive_of_lines(layer: usize, text: &str) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (number, line) in text.lines().map(str::trim).enumerate() {
        let mut words = line.split(' ');
        let (Some(kind), Some(path)) = (words.next(), words.next()) else {
            continue;
        };
        let rest = words.next().unwrap_or_default();
        let (directory, name) = super::entry::split(path.as_bytes());
        let mut entry = match kind {
            "d" => Entry::new(path, Kind::Directory, 0o750),
            "f" => Entry::new(
                path,
                Kind::File {
                    size: rest.len() as u64,
                },
                0o640,
            ),
            "s" => Entry::new(
                path,
                Kind::Symlink {
                    target: rest.into(),
                },
                0o777,
            ),
            "h" => Entry::new(
                path,
                Kind::Hardlink {
                    target: rest.into(),
                },
                0o640,
            ),
            "p" => Entry::new(path, Kind::Fifo, 0o600),
            "x" => whiteout::entry(directory, name),
            "o" => whiteout::opaque_entry(path.as_bytes()),
            other => panic!("{other}"),
        };
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        (entry.uid, entry.gid) = (uid.as_raw(), gid.as_raw());
        entry.mtime = Mtime::from_seconds((1000 * (layer + 1) + number) as i64);
        let mut content = rest.as_bytes();
        let file = kind == "f";
        writer
            .append(&entry, file.then_some(&mut content as &mut dyn Read))
            .unwrap();
    }
    writer.finish().unwrap()
}

/// Layers of such lines.
pub fn archives(layers: &[&str]) -> Archives {
    let made = layers.iter().enumerate();
    let made: Vec<_> = made
        .map(|(layer, text)| archive_of_lines(layer, text))
        .collect();
    let read = vec![0; made.len()];
    Archives(made, read.into())
}

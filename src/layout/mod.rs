//! The OCI image layout (image-spec, image-layout.md): the part of the store that other tools read.
//!
//! ```text
//! ROOT/oci-layout      {"imageLayoutVersion":"1.0.0"}
//! ROOT/index.json      tags                                   → [`index`]
//! ROOT/blobs/sha256/…  documents and layers, by digest        → [`blobs`]
//! ROOT/rstore/…        ours; `catalog`, `store` and `snapshot` own what is in it
//! ```
//! Invariants: a file below `blobs/sha256` has the digest that its name says, whole, from the
//! moment it appears; `index.json` is always one that somebody wrote whole.
//!
//! Locking: only `index.json` needs one, `rstore/lock`, for as long as reading, changing and
//! replacing it takes. Readers need none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::fsutil::{self, IoContext};
use crate::lock::FileLock;

pub mod blobs;
pub mod index;

pub use blobs::{BlobStat, Blobs, Ingest, NameSum};
pub use index::{Entry, Index, Signature};

/// Why a layout cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] fsutil::Error),
    /// A blob cannot be read.
    #[error(transparent)]
    Blob(#[from] blobs::Error),
    /// The index cannot be used.
    #[error(transparent)]
    Index(#[from] index::Error),
    /// The file that says that it is a layout says nothing.
    #[error("{} names no imageLayoutVersion; `rstore fsck --repair` writes it again", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
    },
    /// There is something, and it isn't a layout.
    #[error("{} is not an OCI image layout: {why}", path.display())]
    NotALayout {
        /// The directory.
        path: PathBuf,
        /// What speaks against it.
        why: String,
    },
}

/// What the functions of this module return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the file `oci-layout` holds.
const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// What the file `oci-layout` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marker {
    /// A layout of a version that this program knows.
    Good,
    /// There is no such file.
    Missing,
    /// It names no version.
    Torn,
    /// A version that this program does not know.
    Unknown(String),
}

/// One OCI image layout.
#[derive(Debug)]
pub struct Layout {
    root: PathBuf,
    blobs: Blobs,
}

/// How long what cannot be understood must stay as it is to be taken for torn, and not for what
/// another tool is writing.
const TORN_MILLISECONDS: u64 = 100;
/// How often it is looked at meanwhile.
const STEP_MILLISECONDS: u64 = 10;

/// Reads a file that other tools (skopeo, podman) empty and then write: what is torn is read again
/// until it is not, or has been the same for [`TORN_MILLISECONDS`].
fn settled<T>(path: &Path, read: impl Fn() -> T, is_torn: impl Fn(&T) -> bool) -> Result<T> {
    let (mut before, mut quiet) = (Signature::of(path)?, 0);
    loop {
        let found = read();
        if !is_torn(&found) || quiet >= TORN_MILLISECONDS {
            return Ok(found);
        }
        std::thread::sleep(std::time::Duration::from_millis(STEP_MILLISECONDS));
        let now = Signature::of(path)?;
        let same = now == before;
        quiet = if same { quiet + STEP_MILLISECONDS } else { 0 };
        before = now;
    }
}

impl Layout {
    /// Whether `root` holds a layout.
    pub fn exists(root: &Path) -> bool {
        root.join("oci-layout").exists()
    }

    /// Opens the layout at `root`; an absent or empty directory becomes one.
    ///
    /// `index.json` is written before `oci-layout`, so that whoever sees the latter sees both.
    pub fn open_or_create(root: &Path) -> Result<Layout> {
        if !Layout::exists(root) {
            Layout::create(root)?;
        }
        Layout::open(root)
    }

    fn create(root: &Path) -> Result<()> {
        fsutil::create_dir_all(root)?;
        for entry in fs::read_dir(root).at("read", root)? {
            let name = entry.at("read", root)?.file_name();
            let name = name.to_string_lossy();
            // What an interrupted creation leaves; `lost+found` stands on a fresh file system.
            let known = matches!(&*name, "blobs" | "index.json" | "rstore" | "lost+found")
                || fsutil::is_temporary_sibling(&name, "index.json")
                || fsutil::is_temporary_sibling(&name, "oci-layout");
            if !known {
                return Err(Error::NotALayout {
                    path: root.to_path_buf(),
                    why: format!("it has no oci-layout file, and is not empty ({name})"),
                });
            }
        }
        fsutil::create_dir_all(&root.join("blobs/sha256"))?;
        fsutil::create_dir_all(&root.join("rstore/ingest"))?;
        let lock = FileLock::exclusive(&root.join("rstore/lock"))?;
        if Layout::exists(root) {
            return Ok(());
        }
        if !root.join("index.json").exists() {
            Index::empty().write(&root.join("index.json"), &lock)?;
        }
        Layout::write_marker(root, &lock)
    }

    /// Opens the layout at `root`, which must be one. Makes the directories that an empty layout
    /// of another tool may lack.
    pub fn open(root: &Path) -> Result<Layout> {
        let marker = settled(
            &root.join("oci-layout"),
            || Layout::marker(root),
            |marker| matches!(marker, Ok(Marker::Torn)),
        );
        match marker?? {
            Marker::Good => Layout::open_unmarked(root),
            Marker::Missing => Err(Error::NotALayout {
                path: root.to_path_buf(),
                why: "it has no oci-layout file".to_owned(),
            }),
            Marker::Torn if root.join("blobs").is_dir() => Err(Error::Torn {
                path: root.join("oci-layout"),
            }),
            Marker::Torn => Err(Error::NotALayout {
                path: root.to_path_buf(),
                why: "its oci-layout file names no imageLayoutVersion".to_owned(),
            }),
            Marker::Unknown(version) => Err(Error::NotALayout {
                path: root.to_path_buf(),
                why: format!("its layout version is {version}, and this program knows 1.x"),
            }),
        }
    }

    /// What the file `oci-layout` says (image-spec, image-layout.md, "oci-layout file").
    pub fn marker(root: &Path) -> Result<Marker> {
        let path = root.join("oci-layout");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Marker::Missing),
            Err(error) => return Err(fsutil::Error::new("read", path, error).into()),
        };
        let version = serde_json::from_slice::<serde_json::Value>(&text)
            .ok()
            .and_then(|v| v.get("imageLayoutVersion")?.as_str().map(str::to_owned));
        Ok(match version {
            Some(version) if version.starts_with("1.") => Marker::Good,
            Some(version) => Marker::Unknown(version),
            None => Marker::Torn,
        })
    }

    /// Writes the file `oci-layout`. The lock is the proof that nobody else does.
    pub fn write_marker(root: &Path, _lock: &FileLock) -> Result<()> {
        Ok(fsutil::atomic_replace(&root.join("oci-layout"), MARKER)?)
    }

    /// Opens what stands at `root` as a layout, whether or not `oci-layout` says that it is one:
    /// for those that look for what is wrong.
    pub fn open_unmarked(root: &Path) -> Result<Layout> {
        let ingest = root.join("rstore/ingest");
        fsutil::create_dir_all(&root.join("blobs/sha256"))?;
        fsutil::create_dir_all(&ingest)?;
        let blobs = Blobs::open(root, ingest)?;
        Ok(Layout {
            root: root.to_path_buf(),
            blobs,
        })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `ROOT/rstore`.
    pub fn private(&self) -> PathBuf {
        self.root.join("rstore")
    }

    /// The blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// The path of `index.json`.
    pub fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    /// What `stat` says of `index.json` now.
    pub fn index_signature(&self) -> Result<Signature> {
        Ok(Signature::of(&self.index_path())?)
    }

    /// Reads the index. A missing one is an error: that nothing is named would be a guess, and all
    /// images would be garbage by it.
    ///
    /// One that another tool is writing just now is waited for.
    pub fn index(&self) -> Result<Index> {
        let path = self.index_path();
        let read = || Index::read(&path);
        let read = settled(&path, read, |read| {
            matches!(read, Err(index::Error::Invalid { .. }))
        });
        match read? {
            Err(index::Error::Io(error)) if error.is_not_found() => {
                Err(index::Error::Missing { path }.into())
            }
            other => Ok(other?),
        }
    }

    /// Takes the lock that changes of the index need.
    pub fn lock_index(&self) -> Result<FileLock> {
        Ok(FileLock::exclusive(&self.root.join("rstore/lock"))?)
    }

    /// Replaces the index.
    pub fn write_index(&self, index: &Index, lock: &FileLock) -> Result<()> {
        Ok(index.write(&self.index_path(), lock)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_becomes_a_layout_and_opens_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        Layout::open_or_create(&root).unwrap();
        assert!(
            Layout::open(&root)
                .unwrap()
                .index()
                .unwrap()
                .entries()
                .is_empty()
        );
    }

    #[test]
    fn an_index_that_another_tool_is_writing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open_or_create(&dir.path().join("store")).unwrap();
        let path = layout.index_path();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, "").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (begin, end) = whole.split_at(10);
                for part in [begin, end] {
                    std::thread::sleep(std::time::Duration::from_millis(30));
                    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
                    io::Write::write_all(&mut file, part).unwrap();
                }
            });
            assert!(layout.index().unwrap().entries().is_empty());
        });
        fs::write(&path, "{").unwrap();
        assert!(layout.index().is_err());
    }

    #[test]
    fn a_directory_of_other_things_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "x").unwrap();
        assert!(matches!(
            Layout::open_or_create(dir.path()),
            Err(Error::NotALayout { .. })
        ));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_unknown_layout_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"2.0.0"}"#,
        )
        .unwrap();
        assert!(matches!(
            Layout::open(dir.path()),
            Err(Error::NotALayout { .. })
        ));
    }
}

//! The build context: a directory, what `.dockerignore` leaves of it, and what its files contained
//! when they were last read.
//!
//! A file is hashed once: as long as device, inode, size, mtime and ctime stay the same, so does
//! the digest in the catalog, as in git's index. A file that changed within the clock's tick
//! before it was hashed could change again without showing it, and is not remembered.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::error::Error;
use super::tree::{Found, Tree};
use crate::catalog::Millis;
use crate::catalog::builds::FileIdentity;
use crate::dockerfile::ignore::IgnorePatterns;
use crate::fsutil::{self, IoContext};
use crate::oci::Digest;
use crate::oci::digest::HashReader;
use crate::store::{self, Store};

/// A change this close to the hashing is not told from a later one: some file systems and servers
/// stamp files by seconds, and a kernel by its last tick.
const TICK_NANOSECONDS: i64 = 2_000_000_000;

/// A build context.
#[derive(Debug)]
pub struct Context {
    tree: Tree<'static>,
    ignore: IgnorePatterns,
}

impl Context {
    /// The context in `directory`, for a Dockerfile at `dockerfile`: `DOCKERFILE.dockerignore`
    /// beside it goes before `.dockerignore`. A store that lies in the context is no part of it.
    pub fn open(
        directory: &Path,
        dockerfile: Option<&Path>,
        store: Option<&Path>,
    ) -> Result<Context, Error> {
        let root = fsutil::open_dir(directory)?;
        let mut files = vec![directory.join(".dockerignore")];
        if let Some(dockerfile) = dockerfile {
            files.insert(0, beside(dockerfile));
        }
        let ignore = ignore_patterns(&files, |path| match fs::read(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fsutil::Error::new("read", path, error)),
        })?;
        let hidden = store
            .and_then(|path| fs::metadata(path).ok())
            .map(|m| (m.dev(), m.ino()));
        Ok(Context::new(root, ignore, hidden))
    }

    /// The context in a directory that came from elsewhere, for the Dockerfile of that name in it.
    /// No link in it leads out, for ignore files neither.
    pub fn open_remote(directory: &Path, dockerfile: Option<&Path>) -> Result<Context, Error> {
        let root = fsutil::open_dir(directory)?;
        let mut files = vec![PathBuf::from(".dockerignore")];
        if let Some(dockerfile) = dockerfile {
            files.insert(0, beside(dockerfile));
        }
        let ignore = ignore_patterns(&files, |path| read_inside(&root, path))?;
        Ok(Context::new(root, ignore, None))
    }

    fn new(root: OwnedFd, ignore: IgnorePatterns, hidden: Option<(u64, u64)>) -> Context {
        Context {
            tree: Tree {
                root,
                label: "the build context".to_owned(),
                ignore: None,
                hidden,
                keeps_owners: false,
            },
            ignore,
        }
    }

    /// The same context by another name, for errors.
    pub fn called(mut self, label: &str) -> Context {
        label.clone_into(&mut self.tree.label);
        self
    }

    /// What is left out of it.
    pub fn ignore(&self) -> &IgnorePatterns {
        &self.ignore
    }

    /// Whether there is a file of this name in its root that is not left out.
    pub fn has(&self, name: &str) -> bool {
        !self.ignore.ignores(name)
            && rustix::fs::accessat(
                &self.tree.root,
                name,
                rustix::fs::Access::EXISTS,
                rustix::fs::AtFlags::empty(),
            )
            .is_ok()
    }

    /// The tree that COPY reads.
    pub fn tree(&self) -> Result<Tree<'_>, fsutil::Error> {
        Ok(Tree {
            root: self
                .tree
                .root
                .try_clone()
                .at("duplicate", "the build context")?,
            label: self.tree.label.clone(),
            ignore: Some(&self.ignore),
            hidden: self.tree.hidden,
            keeps_owners: false,
        })
    }
}

/// `DOCKERFILE.dockerignore`.
fn beside(dockerfile: &Path) -> PathBuf {
    let mut name = dockerfile.as_os_str().to_owned();
    name.push(".dockerignore");
    name.into()
}

/// The patterns of the first of `files` that is there.
fn ignore_patterns(
    files: &[PathBuf],
    read: impl Fn(&Path) -> Result<Option<Vec<u8>>, fsutil::Error>,
) -> Result<IgnorePatterns, Error> {
    for path in files {
        if let Some(text) = read(path)? {
            return IgnorePatterns::parse(&text).map_err(|source| Error::Ignore {
                path: path.clone(),
                source,
            });
        }
    }
    Ok(IgnorePatterns::default())
}

/// A file of a directory that came from elsewhere: links are followed as if it were the root. Only
/// regular files are read: a pipe would wait for ever.
pub fn read_inside(root: impl AsFd, path: &Path) -> Result<Option<Vec<u8>>, fsutil::Error> {
    let inside = path.strip_prefix("/").unwrap_or(path);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let mut file = match fsutil::open_in_root(root, inside, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata().at("stat", path)?.is_file() {
        let why = std::io::Error::other("it is not a regular file");
        return Err(fsutil::Error::new("read", path, why));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).at("read", path)?;
    Ok(Some(text))
}

/// What tells one state of a file from another.
pub fn identity(metadata: &Metadata) -> FileIdentity {
    FileIdentity {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
        changed: metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec(),
    }
}

/// The digest of each regular file's content, in order; others have none. Files that are known
/// are not opened.
pub fn digests(store: &Store, files: &[&Found]) -> Result<Vec<Option<Digest>>, store::Error> {
    let regular = |file: &&&Found| file.metadata.is_file();
    let known: Vec<Option<Digest>> = store.catalog().read(|tx| {
        files
            .iter()
            .map(|file| match regular(&file) {
                true => tx.context_digest(&identity(&file.metadata)),
                false => Ok(None),
            })
            .collect()
    })?;
    let mut learned = Vec::new();
    let mut digests = known;
    let now = store.now();
    for (file, digest) in files.iter().zip(&mut digests) {
        if digest.is_some() || !file.metadata.is_file() {
            continue;
        }
        let found = hash(&file.open_path)?;
        *digest = Some(found);
        let id = identity(&file.metadata);
        let after = fs::metadata(&file.open_path).at("stat", &file.open_path)?;
        if identity(&after) == id
            && id.modified.max(id.changed) < now.saturating_mul(1_000_000) - TICK_NANOSECONDS
        {
            learned.push((id, found));
        }
    }
    if !learned.is_empty() {
        remember(store, &learned, now)?;
    }
    Ok(digests)
}

fn remember(
    store: &Store,
    learned: &[(FileIdentity, Digest)],
    now: Millis,
) -> Result<(), store::Error> {
    store.write(|tx| {
        for (identity, digest) in learned {
            tx.put_context_digest(identity, digest, now)?;
        }
        Ok(())
    })
}

/// The digest of a file's content.
pub fn hash(path: &Path) -> Result<Digest, fsutil::Error> {
    let mut reader = HashReader::new(File::open(path).at("open", path)?);
    let mut buffer = vec![0; 128 << 10];
    while reader.read(&mut buffer).at("read", path)? > 0 {}
    Ok(reader.into_parts().0.finish())
}

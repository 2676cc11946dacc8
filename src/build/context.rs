//! The build context: a directory, what `.dockerignore` leaves of it, and what its files contained
//! when they were last read.
//!
//! A file is hashed once: as long as device, inode, size, mtime and ctime stay the same, so does
//! the digest in the catalog, as in git's index. A file that changed within the clock's tick
//! before it was hashed could change again without showing it, and is not remembered.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
        let mut ignore = IgnorePatterns::default();
        let beside = dockerfile.map(|path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".dockerignore");
            name.into()
        });
        for path in beside.into_iter().chain([directory.join(".dockerignore")]) {
            let path: std::path::PathBuf = path;
            match fs::read(&path) {
                Ok(text) => {
                    ignore = IgnorePatterns::parse(&text)
                        .map_err(|source| Error::Ignore { path, source })?;
                    break;
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(fsutil::Error::new("read", path, error).into()),
            }
        }
        let tree = Tree {
            root,
            label: "the build context".to_owned(),
            ignore: None,
            hidden: store
                .and_then(|path| fs::metadata(path).ok())
                .map(|m| (m.dev(), m.ino())),
            keeps_owners: false,
        };
        Ok(Context { tree, ignore })
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

//! COPY, ADD and WORKDIR: from sources to the entries of a layer, without a container.
//!
//! ```text
//! FilesOperation ─select─▶ Selection ─content digest─▶ cache key
//!                    │         └─complete─▶ what is elsewhere is fetched
//!                    │                └─emit, with a view of the image─▶ entries ─▶ layer
//!                    └─ what is elsewhere: what is known of it
//! ```
//! Where a file ends up depends on the image (is the destination a directory there? a link?), but
//! not what the cache asks for: a parent image of the same ID gives the same answers. So a hit
//! needs no view, and no file of the image is read.
//!
//! Nor is a file opened to see whether ADD unpacks it: that follows from its content, whose digest
//! is in the key.

mod emit;

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

pub use emit::{Emission, emit};

use super::context;
use super::error::StepError;
use super::plan::{FileSource, FilesOperation};
use super::remote::{Checkout, Download, Fetcher, Known};
use super::tree::{Found, Include, Matched, Tree};
use crate::dockerfile::glob;
use crate::dockerfile::ignore::IgnorePatterns;
use crate::fsutil::{self, IoContext};
use crate::layer::{Decompressor, Error, TarReader};
use crate::oci::Digest;
use crate::oci::digest::Hasher;
use crate::store::Store;

/// What one source of the instruction comes to.
enum Selected {
    /// A file or directory of the tree, and all below it that is not ignored.
    Files { source: Matched, files: Vec<Found> },
    /// Files that keep their directories: `--parents`.
    Parents { base: Matched, files: Vec<Found> },
    /// A file of the Dockerfile.
    Inline { name: String, content: String },
    /// A file behind a URL.
    Download(Box<Download>),
    /// The files of a commit, once they were fetched.
    Checkout(Box<Checkout>, Option<(Matched, Vec<Found>)>),
}

/// All that a COPY copies.
pub struct Selection {
    selected: Vec<Selected>,
    keeps_owners: bool,
    exclude: IgnorePatterns,
}

/// Finds what an operation copies. `known` says of each source that is elsewhere, in their order,
/// what it is.
pub fn select(
    operation: &FilesOperation,
    tree: Option<&Tree>,
    known: Vec<Known>,
) -> Result<Selection, StepError> {
    let exclude = IgnorePatterns::parse(operation.exclude.join("\n").as_bytes())
        .map_err(|error| StepError::Invalid(format!("--exclude: {error}")))?;
    let mut known = known.into_iter();
    let mut selected = Vec::new();
    for source in &operation.sources {
        match (source, tree) {
            (FileSource::Inline { name, content }, _) => {
                selected.push(Selected::Inline {
                    name: name.clone(),
                    content: content.clone(),
                });
            }
            (FileSource::Remote(_), _) => selected.extend(known.next().map(|known| match known {
                Known::Download(download) => Selected::Download(download),
                Known::Checkout(checkout) => Selected::Checkout(checkout, None),
            })),
            (FileSource::Path(path), Some(tree)) if operation.parents => {
                parents(tree, path, &exclude, &mut selected)?;
            }
            (FileSource::Path(path), Some(tree)) => {
                for source in tree.matches(path)? {
                    let files = tree.walk(&source, &exclude)?;
                    selected.push(Selected::Files { source, files });
                }
            }
            (FileSource::Path(path), None) if glob::has_wildcard(path) => {}
            (FileSource::Path(path), None) => {
                return Err(StepError::NoSource {
                    source_path: path.clone(),
                    tree: "an empty image".to_owned(),
                    hint: None,
                });
            }
        }
    }
    Ok(Selection {
        selected,
        keeps_owners: tree.is_some_and(|tree| tree.keeps_owners),
        exclude,
    })
}

/// `--parents`: what stands before `/./` is where the directories to keep begin; without it that
/// is the root.
fn parents(
    tree: &Tree,
    path: &str,
    exclude: &IgnorePatterns,
    selected: &mut Vec<Selected>,
) -> Result<(), StepError> {
    let (base, pattern) = path.split_once("/./").unwrap_or(("", path));
    let include = Include::new(pattern)?;
    let mut found = false;
    for base in tree.matches(if base.is_empty() { "." } else { base })? {
        let files = tree.walk_included(&base, exclude, &include)?;
        found |= !files.is_empty();
        selected.push(Selected::Parents { base, files });
    }
    if !found && !include.has_wildcard() {
        return Err(tree.missing(path));
    }
    Ok(())
}

fn open(path: &Path, shown: &str) -> Result<File, StepError> {
    Ok(File::open(path).at("open", shown)?)
}

/// Whether ADD unpacks a file: it is a tar archive, as its first block says, whatever its name.
fn is_archive(path: &Path, shown: &str) -> Result<bool, StepError> {
    let file = open(path, shown)?;
    if file.metadata().at("stat", shown)?.len() == 0 {
        return Ok(false);
    }
    let Ok(reader) = Decompressor::new(file) else {
        return Ok(false);
    };
    // An archive whose first entry is refused is one all the same: unpacking will say why.
    Ok(match TarReader::new(reader).next_entry() {
        Ok(first) => first.is_some(),
        Err(Error::Archive { .. } | Error::Decompress { .. } | Error::Read(_)) => false,
        Err(_) => true,
    })
}

impl Selection {
    /// One source and what was found in it.
    pub fn of(source: Matched, files: Vec<Found>, keeps_owners: bool) -> Selection {
        Selection {
            selected: vec![Selected::Files { source, files }],
            keeps_owners,
            exclude: IgnorePatterns::default(),
        }
    }

    /// The sources that are files and directories, each with what was found in it.
    pub fn files(&self) -> impl Iterator<Item = (&Matched, &[Found])> {
        self.selected.iter().filter_map(|selected| match selected {
            Selected::Files { source, files } => Some((source, files.as_slice())),
            _ => None,
        })
    }

    /// The digest of what is copied: names, kinds, modes, owners where they are kept, content;
    /// no times.
    pub fn digest(&self, store: &Store) -> Result<Digest, StepError> {
        let mut hasher = Hasher::new();
        for (number, selected) in self.selected.iter().enumerate() {
            field(&mut hasher, format!("source {number}").as_bytes());
            match selected {
                Selected::Inline { name, content } => {
                    field(&mut hasher, name.as_bytes());
                    field(&mut hasher, content.as_bytes());
                }
                Selected::Download(download) => {
                    let unpack = if download.unpack { "unpack" } else { "keep" };
                    field(&mut hasher, format!("download, {unpack}").as_bytes());
                    field(&mut hasher, download.name.as_bytes());
                    hasher.update(download.digest.as_bytes());
                    // Asked for by its digest, nobody knows the time before it is fetched.
                    let modified = download.modified.filter(|_| download.checksum.is_none());
                    field(&mut hasher, format!("{modified:?}").as_bytes());
                }
                Selected::Checkout(checkout, _) => {
                    field(&mut hasher, b"checkout");
                    hasher.update(checkout.key().as_bytes());
                }
                Selected::Parents { base, files } => {
                    field(&mut hasher, b"parents");
                    field(&mut hasher, base.path.as_bytes());
                    self.hash_files(&mut hasher, store, files)?;
                }
                Selected::Files { source, files } => {
                    field(&mut hasher, file_name(source).as_bytes());
                    self.hash_files(&mut hasher, store, files)?;
                }
            }
        }
        Ok(hasher.finish())
    }

    fn hash_files(
        &self,
        hasher: &mut Hasher,
        store: &Store,
        files: &[Found],
    ) -> Result<(), StepError> {
        let all: Vec<&Found> = files.iter().collect();
        for (found, digest) in files.iter().zip(content_digests(store, self, &all)?) {
            self.file(hasher, found, digest)?;
        }
        Ok(())
    }

    fn file(
        &self,
        hasher: &mut Hasher,
        found: &Found,
        content: Option<Digest>,
    ) -> Result<(), StepError> {
        field(hasher, found.relative.as_os_str().as_bytes());
        let metadata = &found.metadata;
        hasher.update(&metadata.mode().to_le_bytes());
        if self.keeps_owners {
            hasher.update(&metadata.uid().to_le_bytes());
            hasher.update(&metadata.gid().to_le_bytes());
        }
        if metadata.file_type().is_char_device() || metadata.file_type().is_block_device() {
            hasher.update(&metadata.rdev().to_le_bytes());
        }
        if metadata.is_symlink() {
            field(hasher, read_link(found)?.as_bytes());
        }
        if let Some(content) = content {
            hasher.update(content.as_bytes());
        }
        for (name, value) in self.xattrs(found)? {
            field(hasher, &name);
            field(hasher, &value);
        }
        Ok(())
    }

    /// The extended attributes that a copy keeps: those of an image's files; a context's are the
    /// host's business.
    fn xattrs(&self, found: &Found) -> Result<crate::layer::Xattrs, StepError> {
        let mut kept = crate::layer::Xattrs::new();
        if !self.keeps_owners || found.metadata.is_symlink() {
            return Ok(kept);
        }
        let mut names = Vec::with_capacity(1024);
        match rustix::fs::listxattr(&found.open_path, rustix::buffer::spare_capacity(&mut names)) {
            Ok(_) => {}
            Err(_) => return Ok(kept),
        }
        for name in names.split(|byte| *byte == 0) {
            let of_user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
            if name != b"security.capability" && !of_user {
                continue;
            }
            let mut value = Vec::with_capacity(4096);
            if rustix::fs::getxattr(
                &found.open_path,
                name,
                rustix::buffer::spare_capacity(&mut value),
            )
            .is_ok()
            {
                kept.insert(name.to_vec(), value);
            }
        }
        Ok(kept)
    }

    /// Fetches what is elsewhere and wasn't fetched yet. A download without a checksum may be
    /// another one by now: then the digest changes.
    pub fn complete(&mut self, fetcher: &Fetcher) -> Result<(), StepError> {
        for selected in &mut self.selected {
            match selected {
                Selected::Download(download) => fetcher.download(download)?,
                Selected::Checkout(checkout, files) => {
                    fetcher.check_out(checkout)?;
                    let Some(directory) = &checkout.directory else {
                        continue;
                    };
                    let tree = Tree {
                        root: fsutil::open_dir(directory)?,
                        label: "the repository".to_owned(),
                        ignore: None,
                        hidden: None,
                        keeps_owners: false,
                    };
                    for source in tree.matches(".")? {
                        let found = tree.walk(&source, &self.exclude)?;
                        *files = Some((source, found));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn content_digests(
    store: &Store,
    selection: &Selection,
    files: &[&Found],
) -> Result<Vec<Option<Digest>>, StepError> {
    if !selection.keeps_owners {
        return Ok(context::digests(store, files)?);
    }
    // Inode numbers of an overlay mean nothing after it: these are hashed, and the sum is kept.
    let hash = |file: &&Found| match file.metadata.is_file() {
        true => Ok(Some(context::hash(&file.open_path)?)),
        false => Ok(None),
    };
    files.iter().map(hash).collect()
}

/// A length before the bytes, so that no two lists of fields read the same.
fn field(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn file_name(source: &Matched) -> String {
    source.path.rsplit('/').next().unwrap_or("").to_owned()
}

fn read_link(found: &Found) -> Result<std::ffi::OsString, StepError> {
    Ok(std::fs::read_link(&found.open_path)
        .at("readlink", &found.open_path)?
        .into_os_string())
}

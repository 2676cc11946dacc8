//! Copying a tree as it is: what a new cache mount begins with.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use crate::build::error::StepError;
use crate::build::tree::Found;
use crate::fsutil::{self, IoContext};

/// What of a tree is copied.
pub enum Keep<'a> {
    /// All of it, with its owners.
    Everything,
    /// These files of a context, which become root's.
    OfContext(&'a [Found]),
}

/// Copies what is in the directory `from` into the directory `to`, attributes included.
pub fn copy(from: &Path, to: &Path, keep: &Keep) -> Result<(), StepError> {
    let files: Vec<(PathBuf, PathBuf, Metadata)> = match keep {
        Keep::Everything => {
            let walk = walkdir::WalkDir::new(from.join(".")).sort_by_file_name();
            let mut files = Vec::new();
            for entry in walk {
                let failed = |error: walkdir::Error| {
                    let source = error
                        .into_io_error()
                        .unwrap_or_else(|| std::io::Error::other("a directory contains itself"));
                    fsutil::Error::new("read", from, source)
                };
                let entry = entry.map_err(failed)?;
                let metadata = entry.metadata().map_err(failed)?;
                let below = entry.path().strip_prefix(from).unwrap_or(entry.path());
                let below = below.strip_prefix(".").unwrap_or(below).to_path_buf();
                files.push((below, entry.path().to_path_buf(), metadata));
            }
            files
        }
        Keep::OfContext(files) => files
            .iter()
            .map(|file| {
                let path = file.open_path.clone();
                (file.relative.clone(), path, file.metadata.clone())
            })
            .collect(),
    };
    let mut names: HashMap<(u64, u64), PathBuf> = HashMap::new();
    for (below, path, metadata) in &files {
        let target = to.join(below);
        let identity = (metadata.dev(), metadata.ino());
        let kind = metadata.file_type();
        if kind.is_dir() {
            if !below.as_os_str().is_empty() {
                fs::create_dir(&target).at("create directory", &target)?;
            }
            continue;
        }
        if let Some(first) = names.get(&identity) {
            fs::hard_link(first, &target).at("link", &target)?;
            continue;
        }
        match () {
            () if kind.is_symlink() => {
                let link = fs::read_link(path).at("readlink", path)?;
                symlink(link, &target).at("link", &target)?;
            }
            () if kind.is_file() => drop(fs::copy(path, &target).at("copy", path)?),
            () if kind.is_socket() => continue,
            () => {
                let kind = FileType::from_raw_mode(metadata.mode());
                rustix::fs::mknodat(CWD, &target, kind, Mode::empty(), metadata.rdev())
                    .at("create", &target)?;
            }
        }
        if metadata.nlink() > 1 {
            names.insert(identity, target.clone());
        }
        attributes(path, &target, metadata, matches!(keep, Keep::Everything))?;
    }
    // A directory's times change with what is made in it, and one may be shut.
    for (below, path, metadata) in files.iter().rev().filter(|(.., m)| m.is_dir()) {
        let owned = matches!(keep, Keep::Everything);
        attributes(path, &to.join(below), metadata, owned)?;
    }
    Ok(())
}

/// Copies one file, with its mode and times; it becomes root's.
pub fn copy_file(from: &Path, to: &Path, metadata: &Metadata) -> Result<(), StepError> {
    fs::copy(from, to).at("copy", from)?;
    attributes(from, to, metadata, false)
}

fn attributes(from: &Path, to: &Path, metadata: &Metadata, owned: bool) -> Result<(), StepError> {
    let owner = match owned {
        true => (metadata.uid(), metadata.gid()),
        false => (0, 0),
    };
    lchown(to, Some(owner.0), Some(owner.1)).at("chown", to)?;
    if !metadata.is_symlink() {
        let mode = fs::Permissions::from_mode(metadata.mode() & 0o7777);
        fs::set_permissions(to, mode).at("chmod", to)?;
        if owned {
            xattrs(from, to)?;
        }
    }
    Ok(fsutil::copy_times(metadata, to)?)
}

/// Capabilities and what users attached; the rest is the file systems' own.
fn xattrs(from: &Path, to: &Path) -> Result<(), StepError> {
    let mut names = Vec::with_capacity(64 << 10);
    if rustix::fs::listxattr(from, spare_capacity(&mut names)).is_err() {
        return Ok(());
    }
    for name in names.split(|byte| *byte == 0) {
        let of_user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        if name != b"security.capability" && !of_user {
            continue;
        }
        let mut value = Vec::with_capacity(64 << 10);
        if rustix::fs::getxattr(from, name, spare_capacity(&mut value)).is_ok() {
            rustix::fs::setxattr(to, name, &value, XattrFlags::empty())
                .at("set an attribute of", to)?;
        }
    }
    Ok(())
}

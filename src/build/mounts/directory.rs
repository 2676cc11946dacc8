//! A view of a directory of this machine, without what is ignored.
//!
//! ```text
//! nothing is ignored, read-only      the directory itself
//! something is ignored               overlay:  whiteouts, made here   ← topmost
//!                                              the directory
//! writable                           overlay:  upper, with the whiteouts in it
//!                                              the directory
//! the store lies in the directory    a copy, since overlayfs wants no layer inside of another
//! ```
//! Else nothing is copied, whatever the size of the context: a view costs a whiteout for each name
//! that is ignored, and no more for all that is below such a name. What changes in the context
//! while the step runs may show. File systems that are mounted below the directory show only where
//! it is shown itself.
//!
//! **Owners.** In an image's eyes a context is root's, as COPY and BuildKit have it. Without root
//! it is so by itself. For root, what is all one user's is shown by an ID-mapped mount; what
//! belongs to several, or lies on a file system that cannot do that, is shown with the owners that
//! it has. A single file is copied if it is not root's.
//!
//! What is shown is decided by the same walk as the cache key: a name that it did not find is
//! hidden, even if it came since.

use std::fs::{self, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hashbrown::HashSet;
use rustix::fs::{CWD, FileType, Mode};

use crate::build::error::StepError;
use crate::build::tree::{Found, Matched, Tree, descriptor_path};
use crate::executor::{Source, as_roots};
use crate::fsutil::{self, IoContext};
use crate::snapshot::overlay;

use super::tree;

/// What is to be shown.
pub struct View<'a> {
    /// The tree that it is in.
    pub tree: &'a Tree<'a>,
    /// The file or directory.
    pub source: &'a Matched,
    /// All of it that is not ignored.
    pub files: &'a [Found],
    /// How overlays are mounted.
    pub options: overlay::Options,
    /// Whether this is root of the machine, to whom files show the owners that they have.
    pub is_host: bool,
}

impl View<'_> {
    /// Makes the view; what it needs on the disk is below `scratch`.
    pub fn mount(&self, read_only: bool, scratch: &Path) -> Result<Source, StepError> {
        fsutil::create_dir_all(scratch)?;
        if !self.source.metadata.is_dir() {
            return match read_only && self.owner() == Some((0, 0)) {
                true => Ok(Source::Fd(self.handle()?)),
                false => self.file(scratch),
            };
        }
        if self.holds(scratch)? {
            let copy = scratch.join("copy");
            fsutil::create_dir_all(&copy)?;
            let from = descriptor_path(&self.source.handle);
            tree::copy(&from, &copy, &tree::Keep::OfContext(self.files))?;
            return Ok(Source::Path(copy));
        }
        let hidden = self.hidden()?;
        if let Some(owner) = self.foreign_owner()
            && let Ok(mapped) = as_roots(&self.source.handle, owner)
        {
            match self.view(&mapped, &hidden, read_only, true, scratch) {
                // Before Linux 6.15 overlayfs takes no detached mount for a layer.
                Err(_) => fsutil::remove_tree(scratch)?,
                Ok(None) => return Ok(whole(mapped)),
                Ok(Some(view)) => return Ok(whole(view)),
            }
            fsutil::create_dir_all(scratch)?;
        }
        match self.view(&self.source.handle, &hidden, read_only, false, scratch)? {
            None => Ok(Source::Fd(self.handle()?)),
            Some(view) => Ok(whole(view)),
        }
    }

    fn handle(&self) -> Result<OwnedFd, StepError> {
        let handle = self.source.handle.try_clone();
        Ok(handle.at("duplicate", &self.source.path)?)
    }

    /// The owner of all that is shown, where that is one and the same.
    fn owner(&self) -> Option<(u32, u32)> {
        let owner = |file: &Found| (file.metadata.uid(), file.metadata.gid());
        let first = owner(self.files.first()?);
        let same = self.files.iter().all(|file| owner(file) == first);
        same.then_some(first)
    }

    /// The owner that is to be shown as root.
    fn foreign_owner(&self) -> Option<(u32, u32)> {
        self.owner()
            .filter(|owner| self.is_host && *owner != (0, 0))
    }

    /// An overlay over `directory`, where one is needed.
    fn view(
        &self,
        directory: &OwnedFd,
        hidden: &[PathBuf],
        read_only: bool,
        roots: bool,
        scratch: &Path,
    ) -> Result<Option<OwnedFd>, StepError> {
        if read_only && hidden.is_empty() {
            return Ok(None);
        }
        let (top, work) = (scratch.join("upper"), scratch.join("work"));
        fsutil::create_dir_all(&top)?;
        self.hide(hidden, roots, &top)?;
        let directory = descriptor_path(directory);
        let mounted = if read_only {
            let options = overlay::Options {
                volatile: false,
                ..self.options
            };
            overlay::mount(&[top.as_path(), &directory], None, options)
        } else {
            fsutil::create_dir_all(&work)?;
            overlay::mount(&[&directory], Some((&top, &work)), self.options)
        };
        Ok(Some(mounted.map_err(crate::store::Error::Overlay)?))
    }

    /// Whether `path` lies in the directory that is shown.
    fn holds(&self, path: &Path) -> Result<bool, StepError> {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let shown = identity(self.source.metadata.clone());
        let mut at = path.to_path_buf();
        let mut last = None;
        loop {
            let found = identity(fs::metadata(&at).at("stat", &at)?);
            if found == shown || last == Some(found) {
                return Ok(found == shown);
            }
            // By its parent and not by its name, which may be relative or lead through links. That
            // of the root is the root.
            last = Some(found);
            at.push("..");
        }
    }

    /// A copy of a file, root's.
    fn file(&self, scratch: &Path) -> Result<Source, StepError> {
        let copy = scratch.join("file");
        let from = descriptor_path(&self.source.handle);
        tree::copy_file(&from, &copy, &self.source.metadata)?;
        Ok(Source::Path(copy))
    }

    /// The names that are not to be seen, below the source.
    fn hidden(&self) -> Result<Vec<PathBuf>, StepError> {
        if self.tree.ignore.is_none_or(|ignore| ignore.is_empty()) && self.tree.hidden.is_none() {
            return Ok(Vec::new());
        }
        let seen: HashSet<&Path> = self.files.iter().map(|f| f.relative.as_path()).collect();
        let mut hidden = Vec::new();
        for directory in self.files.iter().filter(|file| file.metadata.is_dir()) {
            let path = &directory.open_path;
            for entry in fs::read_dir(path).at("read", path)? {
                let name = directory.relative.join(entry.at("read", path)?.file_name());
                if !seen.contains(name.as_path()) {
                    hidden.push(name);
                }
            }
        }
        Ok(hidden)
    }

    /// Makes the whiteouts of `hidden` in `top`, in directories that look like the source's: the
    /// topmost of merged directories is the one whose attributes show.
    fn hide(&self, hidden: &[PathBuf], roots: bool, top: &Path) -> Result<(), StepError> {
        let mut leading: HashSet<&Path> = HashSet::new();
        for name in hidden {
            let parent = name.parent().unwrap_or(Path::new(""));
            if leading.insert(parent) {
                leading.extend(parent.ancestors().skip(1));
            }
            let parent = top.join(parent);
            fs::create_dir_all(&parent).at("create directory", &parent)?;
            let path = top.join(name);
            rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0)
                .at("create a whiteout", &path)?;
        }
        leading.insert(Path::new(""));
        let mut leading: Vec<&Path> = leading.into_iter().collect();
        leading.sort_unstable_by(|one, other| other.cmp(one));
        let source = descriptor_path(&self.source.handle);
        for name in leading {
            let from = source.join(name);
            let metadata = fs::metadata(&from).at("stat", &from)?;
            let owner = match roots {
                true => (0, 0),
                false => (metadata.uid(), metadata.gid()),
            };
            look_like(&metadata, owner, &top.join(name))?;
        }
        Ok(())
    }
}

/// All of a detached mount.
fn whole(tree: OwnedFd) -> Source {
    Source::Tree {
        tree,
        path: PathBuf::from("/"),
    }
}

/// Gives a directory an owner, and the mode and times of another.
fn look_like(metadata: &Metadata, owner: (u32, u32), path: &Path) -> Result<(), StepError> {
    // Owners that this user namespace does not know cannot be given; they would show as nobody's.
    let _ = std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1));
    let mode = fs::Permissions::from_mode(metadata.mode() & 0o7777);
    fs::set_permissions(path, mode).at("chmod", path)?;
    Ok(fsutil::copy_times(metadata, path)?)
}

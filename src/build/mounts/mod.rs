//! `RUN --mount`: what a step is given besides its root, and takes nothing of into its layer.
//!
//! | type | is | gone |
//! |---|---|---|
//! | bind, of an image | a view of its snapshots; `rw`: an overlay with an upper of the step's own | with the step |
//! | bind, of a directory | that directory, or an overlay that hides what is ignored ([`directory`]) | with the step |
//! | cache | a directory of the store, under its lock ([`CacheMount`]) | never; a prune removes it |
//! | tmpfs | memory | with the step |
//! | secret | a file in memory, a variable, or both | with the step |
//! | ssh | a socket that asks the agent ([`agent`]) | with the step |
//!
//! What has to be on the disk for the time of the step is in the container's directory, and goes
//! with it, however the step ends. Of secrets nothing is.
//!
//! **Order.** What a mount shows is known before the step is looked up in the cache; cache mounts
//! are locked before the step takes its slot, all in one order, so that no step that runs waits
//! for one that doesn't.

pub mod agent;
pub mod directory;
pub mod tree;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::copy::Selection;
use super::error::StepError;
use super::plan::{CacheOperation, MountOperation};
use super::run::{Surroundings, copy_attributes};
use super::tree::{Tree, descriptor_path};
use crate::executor::{Mount, Source};
use crate::fsutil::{self, IoContext};
use crate::oci::Digest;
use crate::snapshot::overlay;
use crate::store::{CacheMount, Container, Image};

use agent::Agent;

/// What a bind mount shows, or a new cache mount begins with.
pub enum Shown<'a> {
    /// Nothing.
    Nothing,
    /// A path of an image.
    Image {
        /// The image, or that of a stage.
        image: Box<Image>,
        /// The path, absolute.
        path: String,
    },
    /// What is not ignored of a file or directory of this machine.
    Directory {
        /// The tree that it is in.
        tree: Tree<'a>,
        /// It, and what is in it.
        selection: Selection,
    },
}

/// A cache mount that a step has.
pub struct Taken<'a> {
    /// What makes it the one it is.
    pub key: Digest,
    /// Its lock, and where it is.
    pub mount: CacheMount<'a>,
}

/// All that is known of a step's mounts before it runs.
#[derive(Default)]
pub struct Mounted<'a> {
    /// For each mount of the operation what it shows, where it shows something.
    pub shown: Vec<Option<Shown<'a>>>,
    /// For each mount of the operation the key of its cache, where it is one.
    pub keys: Vec<Option<Digest>>,
    /// The cache mounts.
    pub taken: Vec<Taken<'a>>,
}

/// A step's mounts, ready.
pub struct Prepared {
    /// For the executor.
    pub mounts: Vec<Mount>,
    /// Variables, over those of the same names.
    pub environment: Vec<(String, OsString)>,
    agents: Vec<Agent>,
    scratch: PathBuf,
}

impl Prepared {
    /// Lets go of what the mounts stood on, once the step has ended.
    pub fn finish(self) -> Result<(), StepError> {
        drop((self.mounts, self.agents));
        Ok(fsutil::remove_tree(&self.scratch)?)
    }
}

/// Makes the mounts of a step.
pub fn prepare(
    around: &Surroundings,
    operations: &[MountOperation],
    mounted: &Mounted,
    container: &Container,
) -> Result<Prepared, StepError> {
    let mut prepared = Prepared {
        mounts: Vec::new(),
        environment: Vec::new(),
        agents: Vec::new(),
        scratch: container.directory().join("mounts"),
    };
    for (place, operation) in operations.iter().enumerate() {
        let scratch = Scratch(prepared.scratch.join(place.to_string()));
        match operation {
            MountOperation::Bind {
                target, read_only, ..
            } => {
                let shown = mounted.shown.get(place).and_then(Option::as_ref);
                let source = bound(around, shown, *read_only, &scratch)?;
                prepared.add(target, source, *read_only);
            }
            MountOperation::Cache(cache) => {
                let source = cached(around, cache, mounted, place)?;
                prepared.add(&cache.target, source, cache.read_only);
            }
            MountOperation::Tmpfs {
                target,
                size,
                read_only,
            } => {
                let source = Source::Tmpfs {
                    size: *size,
                    mode: 0o1777,
                };
                prepared.add(target, source, *read_only);
            }
            MountOperation::Secret { .. } => prepared.secret(around, operation)?,
            MountOperation::Ssh { .. } => prepared.socket(around, operation, &scratch)?,
        }
    }
    Ok(prepared)
}

/// A directory of a mount's own, made when it is needed.
struct Scratch(PathBuf);

impl Scratch {
    fn directory(&self, name: &str) -> Result<PathBuf, StepError> {
        let path = self.0.join(name);
        fsutil::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Prepared {
    fn add(&mut self, target: &str, source: Source, read_only: bool) {
        let mut mount = Mount::new(target, source);
        mount.read_only = read_only;
        mount.nosuid = matches!(mount.source, Source::Tmpfs { .. } | Source::Bytes { .. });
        self.mounts.push(mount);
    }

    fn secret(
        &mut self,
        around: &Surroundings,
        operation: &MountOperation,
    ) -> Result<(), StepError> {
        let MountOperation::Secret {
            id,
            target,
            variable,
            required,
            owner,
            mode,
        } = operation
        else {
            return Ok(());
        };
        let Some(secret) = around.options.secrets.get(id) else {
            let why = format!(
                "secret {id:?} is required and was not given: --secret id={id},src=FILE, or env=VARIABLE"
            );
            return unless_required(*required, why);
        };
        if let Some(variable) = variable {
            if secret.0.contains(&0) {
                return Err(StepError::Invalid(format!(
                    "secret {id:?} has a NUL byte in it, which no variable can hold; mount it as a file"
                )));
            }
            let value = OsString::from_vec(secret.0.clone());
            self.environment.push((variable.clone(), value));
        }
        if let Some(target) = target {
            let source = Source::Bytes {
                bytes: secret.0.clone(),
                mode: *mode,
                owner: *owner,
            };
            self.add(target, source, true);
        }
        Ok(())
    }

    fn socket(
        &mut self,
        around: &Surroundings,
        operation: &MountOperation,
        scratch: &Scratch,
    ) -> Result<(), StepError> {
        let MountOperation::Ssh {
            id,
            target,
            required,
            owner,
            mode,
        } = operation
        else {
            return Ok(());
        };
        let Some(socket) = around.options.ssh.get(id) else {
            let why = format!(
                "an SSH agent {id:?} is required and was not given: --ssh {id}, or --ssh {id}=SOCKET"
            );
            return unless_required(*required, why);
        };
        let agent = Agent::start(&scratch.directory("ssh")?, socket, *owner, *mode)?;
        self.add(target, Source::Path(agent.path().to_owned()), false);
        self.agents.push(agent);
        Ok(())
    }
}

/// What was not given is an error where it is required, and left out where it is not.
fn unless_required(required: bool, why: String) -> Result<(), StepError> {
    match required {
        true => Err(StepError::Invalid(why)),
        false => Ok(()),
    }
}

fn bound(
    around: &Surroundings,
    shown: Option<&Shown>,
    read_only: bool,
    scratch: &Scratch,
) -> Result<Source, StepError> {
    match shown {
        None | Some(Shown::Nothing) => Ok(Source::Tmpfs {
            size: None,
            mode: 0o755,
        }),
        Some(Shown::Image { image, path }) => {
            let tree = image_tree(around, image, read_only, scratch)?;
            let path = PathBuf::from(path);
            Ok(Source::Tree { tree, path })
        }
        Some(Shown::Directory { tree, selection }) => {
            let Some((source, files)) = selection.files().next() else {
                return Err(StepError::Invalid("there is nothing to mount".to_owned()));
            };
            let view = directory::View {
                tree,
                source,
                files,
                options: around.lease.store().overlay_options(),
                is_host: around.lease.store().host().owners() == "host",
            };
            view.mount(read_only, &scratch.0)
        }
    }
}

/// The file system of an image; what is written to it goes to an upper directory in `scratch`.
fn image_tree(
    around: &Surroundings,
    image: &Image,
    read_only: bool,
    scratch: &Scratch,
) -> Result<OwnedFd, StepError> {
    let lease = around.lease;
    let lowers = lease.snapshots(image)?;
    let Some(top) = lowers.last().filter(|_| !read_only) else {
        return Ok(lease.view(&lowers)?);
    };
    let (upper, work) = (scratch.directory("upper")?, scratch.directory("work")?);
    copy_attributes(&top.path, &upper)?;
    let paths: Vec<&Path> = lowers
        .iter()
        .rev()
        .map(|lower| lower.path.as_path())
        .collect();
    let options = lease.store().overlay_options();
    overlay::mount(&paths, Some((&upper, &work)), options)
        .map_err(|error| crate::store::Error::Overlay(error).into())
}

fn cached(
    around: &Surroundings,
    cache: &CacheOperation,
    mounted: &Mounted,
    place: usize,
) -> Result<Source, StepError> {
    let key = mounted.keys.get(place).copied().flatten();
    let taken = mounted.taken.iter().find(|taken| Some(taken.key) == key);
    let Some(taken) = taken else {
        return Err(StepError::Interrupted);
    };
    let shown = mounted.shown.get(place).and_then(Option::as_ref);
    taken
        .mount
        .fill(|directory| begin(around, cache, shown, directory))?;
    Ok(Source::Path(taken.mount.data()))
}

/// Gives a new cache mount what it begins with, and its owner and mode.
fn begin(
    around: &Surroundings,
    cache: &CacheOperation,
    shown: Option<&Shown>,
    directory: &Path,
) -> Result<(), StepError> {
    match shown {
        None | Some(Shown::Nothing) => {}
        Some(Shown::Image { image, path }) => {
            let view = around.lease.view(&around.lease.snapshots(image)?)?;
            let inside = path.trim_start_matches('/');
            let inside = if inside.is_empty() { "." } else { inside };
            let from = fsutil::open_in_root(&view, inside, OFlags::PATH, Mode::empty())?;
            let from = descriptor_path(&from);
            is_directory(&from, path)?;
            tree::copy(&from, directory, &tree::Keep::Everything)?;
        }
        Some(Shown::Directory { tree, selection }) => {
            for (source, files) in selection.files() {
                let from = descriptor_path(&source.handle);
                is_directory(&from, &source.path)?;
                let keep = match tree.keeps_owners {
                    true => tree::Keep::Everything,
                    false => tree::Keep::OfContext(files),
                };
                tree::copy(&from, directory, &keep)?;
            }
        }
    }
    let given = &cache.owner;
    let (mut owner, mut mode) = ((0, 0), 0o755);
    if shown.is_some_and(|shown| !matches!(shown, Shown::Nothing)) {
        let copied = std::fs::metadata(directory).at("stat", directory)?;
        owner = (copied.uid(), copied.gid());
        mode = copied.mode() & 0o7777;
    }
    let (uid, gid) = (given.uid.unwrap_or(owner.0), given.gid.unwrap_or(owner.1));
    std::os::unix::fs::chown(directory, Some(uid), Some(gid)).at("chown", directory)?;
    let mode = std::fs::Permissions::from_mode(given.mode.map_or(mode, |mode| mode & 0o7777));
    Ok(std::fs::set_permissions(directory, mode).at("chmod", directory)?)
}

fn is_directory(path: &Path, name: &str) -> Result<(), StepError> {
    if std::fs::metadata(path).at("stat", path)?.is_dir() {
        return Ok(());
    }
    Err(StepError::Invalid(format!(
        "a cache mount begins with a directory, and {name:?} is a file"
    )))
}

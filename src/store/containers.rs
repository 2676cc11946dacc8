//! Intermediate containers: the directories in which one step runs.
//!
//! ```text
//! containers/ID/upper   what the step writes       ──success──▶ snapshots/LEASE-N
//! containers/ID/work    overlayfs' own
//! containers/ID/step.json  of one that is kept: what ran in it, and how ([`Left`])
//! ```
//! The row is written before the directory is made, and forgotten after it is gone.
//!
//! **A failed step's container** may be kept. It then has a status, and outlives its build; whoever
//! opens it makes it its own lease's, so that a prune leaves it alone and nobody else opens it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::lease::hex;
use super::{Error, Image, Lease, Result, Store};
use serde::{Deserialize, Serialize};

use crate::catalog::WriteError;
use crate::catalog::builds::ContainerRow;
use crate::fsutil::{self, IoContext};
use crate::gc::roots;
use crate::oci::Digest;

/// An intermediate container of this process.
#[derive(Debug)]
pub struct Container {
    /// Its ID: 64 hexadecimal digits would say no more than these 12.
    pub id: String,
    directory: PathBuf,
}

impl Container {
    /// What the step writes.
    pub fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    /// Overlayfs' work directory.
    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// The directory that holds both.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// What ran in a container that is kept: enough to run something else the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// What the build was of, in words: its context.
    pub build: String,
    /// What errors call the Dockerfile.
    pub dockerfile: String,
    /// The line at which the step begins.
    pub line: u32,
    /// The environment but for HOME and proxies, whose passwords are nobody else's.
    pub environment: Vec<(String, String)>,
    /// `user[:group]`.
    pub user: String,
    /// The working directory.
    pub directory: String,
    /// Whether the step had no network.
    pub offline: bool,
    /// The shell of the stage.
    pub shell: Vec<String>,
}

/// The name of [`Left`]'s file.
const LEFT: &str = "step.json";

/// No environment is larger: the kernel would not take it.
const LARGEST_LEFT: u64 = 8 << 20;

impl Lease<'_> {
    /// Makes an intermediate container for a step on an image.
    pub fn create_container(&self, step: &str, image: Option<&Digest>) -> Result<Container> {
        let store = self.store();
        let id = hex(&store.host().random()[..6]);
        let directory = store.private("containers").join(&id);
        let now = store.now();
        store.write(|tx| {
            let image = match image {
                Some(digest) => tx.blob(digest)?.map(|row| row.id),
                None => None,
            };
            let row = ContainerRow {
                id: id.clone(),
                lease: self.id().to_owned(),
                image,
                step: step.to_owned(),
                created: now,
                status: None,
            };
            Ok(tx.put_container(&row)?)
        })?;
        let container = Container { id, directory };
        for part in [
            container.directory.clone(),
            container.upper(),
            container.work(),
        ] {
            fs::create_dir(&part).at("create directory", &part)?;
        }
        Ok(container)
    }

    /// Removes a container and what is left of its files.
    pub fn remove_container(&self, container: Container) -> Result<()> {
        fsutil::remove_tree(&container.directory)?;
        self.store()
            .write(|tx| Ok(tx.forget_container(&container.id)?))
    }

    /// Takes what a step wrote out of its container, to be a lower of the steps after it.
    /// The directory belongs to the lease until it is recorded as a snapshot.
    pub fn take_upper(&self, container: &Container) -> Result<PathBuf> {
        let target = self.scratch_directory();
        fs::rename(container.upper(), &target).at("rename", container.upper())?;
        Ok(target)
    }
}

impl Lease<'_> {
    /// Keeps a container of a step on `image` that failed with `status`, for people to look into.
    pub fn keep_container(
        &self,
        container: &Container,
        image: Option<&Digest>,
        status: i32,
        left: &Left,
    ) -> Result<()> {
        let path = container.directory.join(LEFT);
        // Strings and numbers always are JSON.
        let text = serde_json::to_vec(left).unwrap_or_default();
        fs::write(&path, text).at("write", &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).at("chmod", &path)?;
        self.store().write(|tx| {
            let image = match image {
                Some(digest) => tx.blob(digest)?.map(|row| row.id),
                None => None,
            };
            Ok(tx.keep_container(&container.id, status, image)?)
        })
    }

    /// Makes a container that is kept this lease's own, until the lease ends. Returns it, what ran
    /// in it, and the image that it stands on, pinned; `None` for `FROM scratch`.
    ///
    /// # Errors
    /// [`Error::ContainerBusy`] if somebody else has it open or runs it.
    pub fn open_container(&self, id: &str) -> Result<(Container, Left, Option<Image>)> {
        let store = self.store();
        let image = store.write(|tx| {
            let rows = tx.containers()?;
            let Some(row) = rows.iter().find(|row| row.id == id) else {
                return Err(WriteError::Caller(gone(id)));
            };
            if roots::is_alive_now(store.layout(), &row.lease).map_err(caller)? {
                let leases = tx.leases()?;
                let lease = leases.into_iter().find(|lease| lease.id == row.lease);
                return Err(WriteError::Caller(Error::ContainerBusy {
                    id: id.to_owned(),
                    by: lease.map_or_else(
                        || "another process".to_owned(),
                        |lease| format!("the {} of process {}", lease.kind, lease.process),
                    ),
                }));
            }
            if row.status.is_none() {
                return Err(WriteError::Caller(Error::ContainerDead {
                    id: id.to_owned(),
                }));
            }
            let image = match row.image {
                None => None,
                Some(blob) => match tx.blob_by_id(blob)?.filter(|row| row.is_usable()) {
                    // A prune is at it: the container goes with its image.
                    None => return Err(WriteError::Caller(gone(id))),
                    Some(image) => {
                        tx.lease_blob(self.id(), image.id)?;
                        Some(image.digest)
                    }
                },
            };
            tx.lease_container(self.id(), id)?;
            Ok(image)
        })?;
        let container = Container {
            id: id.to_owned(),
            directory: store.private("containers").join(id),
        };
        let left = store.left(id)?.ok_or_else(|| gone(id))?;
        // The kernel refuses a work directory whose overlay was not synced before it went.
        fsutil::remove_tree(&container.work())?;
        fs::create_dir(container.work()).at("create directory", container.work())?;
        let image = image
            .map(|digest| self.trusted_image(&digest))
            .transpose()?;
        Ok((container, left, image))
    }
}

fn caller(error: fsutil::Error) -> WriteError<Error> {
    WriteError::Caller(error.into())
}

fn gone(id: &str) -> Error {
    Error::UnknownContainer { id: id.to_owned() }
}

impl Store {
    /// What ran in a container that is kept; `None` for others.
    pub fn left(&self, id: &str) -> Result<Option<Left>> {
        let path = self.private("containers").join(id).join(LEFT);
        let mut text = Vec::new();
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fsutil::Error::new("open", path, error).into()),
        };
        file.take(LARGEST_LEFT)
            .read_to_end(&mut text)
            .at("read", &path)?;
        // One that was being written when the machine stopped says nothing.
        Ok(serde_json::from_slice(&text).ok())
    }

    /// The container whose ID is, or uniquely begins with, at least four hexadecimal digits.
    pub fn find_container(&self, prefix: &str) -> Result<Option<String>> {
        let is_prefix = prefix.len() >= 4 && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_prefix {
            return Ok(None);
        }
        let prefix = prefix.to_ascii_lowercase();
        let rows = self.catalog().read(|tx| tx.containers())?;
        let ids = rows.into_iter().map(|row| row.id);
        let mut ids: Vec<String> = ids.filter(|id| id.starts_with(&prefix)).collect();
        match ids.len() {
            0 | 1 => Ok(ids.pop()),
            _ => Err(Error::AmbiguousContainer {
                prefix,
                candidates: ids,
            }),
        }
    }
}

//! Intermediate containers: the directories in which one step runs.
//!
//! ```text
//! containers/ID/upper   what the step writes       ──success──▶ snapshots/LEASE-N
//! containers/ID/work    overlayfs' own
//! ```
//! The row is written before the directory is made, and forgotten after it is gone.

use std::fs;
use std::path::{Path, PathBuf};

use super::lease::hex;
use super::{Lease, Result, Store};
use crate::catalog::builds::ContainerRow;
use crate::fsutil::{self, IoContext};
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

impl Store {
    /// Keeps a container whose step failed with `status`, for people to look into.
    pub fn keep_container(&self, container: &Container, status: i32) -> Result<()> {
        self.write(|tx| Ok(tx.set_container_status(&container.id, status)?))
    }
}

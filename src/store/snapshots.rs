//! Snapshots: layers unpacked to directories that steps stand on.
//!
//! A snapshot holds one layer's own files, with whiteouts as overlayfs has them; its key is the
//! chain ID, since what a layer leaves unsaid (the attributes of implied directories, a hard
//! link's target) comes from the layers below. The directory's name is arbitrary; the row has it.
//!
//! Snapshots are not fsynced one by one. One that was written under another boot and never
//! synced is not trusted, and made again from its blob.

use std::os::fd::AsFd;
use std::path::PathBuf;

use super::{Error, Image, Lease, Result, Store};
use crate::catalog::snapshot::SnapshotRow;
use crate::fsutil;
use crate::layer::{Expected, OverlayXattrs, Target, UnpackOptions};
use crate::oci::Digest;
use crate::snapshot::overlay;

/// A directory that a step stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lower {
    /// The chain ID of it and all below; `None` until the layer is packed.
    pub chain: Option<Digest>,
    /// Where it is.
    pub path: PathBuf,
}

impl Store {
    /// Where overlayfs' marks are kept in this process's namespace.
    pub fn overlay_xattrs(&self) -> OverlayXattrs {
        if self.host().owners() == "host" {
            OverlayXattrs::Trusted
        } else {
            OverlayXattrs::User
        }
    }

    /// How overlays are mounted here.
    pub fn overlay_options(&self) -> overlay::Options {
        overlay::Options {
            volatile: true,
            userxattr: self.host().owners() != "host",
        }
    }
}

impl Lease<'_> {
    /// The directories of an image's layers, the lowest first, unpacked where they aren't yet,
    /// pinned all.
    pub fn snapshots(&self, image: &Image) -> Result<Vec<Lower>> {
        let mut lowers = Vec::with_capacity(image.manifest.layers.len());
        for (index, chain) in image.chain_ids().into_iter().enumerate() {
            let path = match self.snapshot(&chain)? {
                Some(path) => path,
                None => self.unpack(image, index, &chain, &lowers)?,
            };
            lowers.push(Lower {
                chain: Some(chain),
                path,
            });
        }
        Ok(lowers)
    }

    /// The directory of a chain ID, pinned, if it is there and can be trusted.
    pub fn snapshot(&self, chain: &Digest) -> Result<Option<PathBuf>> {
        let store = self.store();
        let owners = store.host().owners();
        if store
            .catalog()
            .read(|tx| tx.snapshot(chain, owners))?
            .is_none()
        {
            return Ok(None);
        }
        let now = store.now();
        let row = store.write(|tx| {
            let Some(row) = tx.snapshot(chain, owners)? else {
                return Ok(None);
            };
            if !row.boot.is_empty() && row.boot != store.host().boot() {
                // Nobody of this boot stands on it; its directory is for the next prune.
                tx.forget_snapshot(row.id)?;
                return Ok(None);
            }
            tx.lease_snapshot(self.id(), row.id)?;
            tx.touch_snapshot(row.id, now)?;
            Ok(Some(row))
        })?;
        let Some(row) = row else { return Ok(None) };
        let path = store.private("snapshots").join(&row.directory);
        if path.is_dir() {
            return Ok(Some(path));
        }
        // Somebody removed it by hand: it is made again.
        store.write(|tx| Ok(tx.forget_snapshot(row.id)?))?;
        Ok(None)
    }

    fn unpack(
        &self,
        image: &Image,
        index: usize,
        chain: &Digest,
        below: &[Lower],
    ) -> Result<PathBuf> {
        let store = self.store();
        let layer = &image.manifest.layers[index];
        let failed = |source| Error::Layer {
            digest: layer.digest,
            source,
        };
        let path = self.scratch_directory();
        fsutil::create_dir_all(&path)?;
        let view = if below.is_empty() {
            None
        } else {
            Some(self.view(below)?)
        };
        let file = store.layout().blobs().open_unverified(&layer.digest)?;
        let expected = Expected {
            diff_id: Some(image.config.rootfs.diff_ids[index]),
            digest: Some(layer.digest),
            size: Some(layer.size),
        };
        let parent = view.as_ref().map(std::os::fd::AsFd::as_fd);
        let options = UnpackOptions {
            target: Target::Overlay {
                xattrs: store.overlay_xattrs(),
                parent,
            },
            ignore_unmapped_owners: store.host().owners() != "host",
        };
        let root = fsutil::open_dir(&path)?;
        let unpacked = crate::layer::unpack(file, root.as_fd(), &options, &expected);
        if let Err(error) = unpacked {
            fsutil::remove_tree(&path)?;
            return Err(failed(error));
        }
        self.record_snapshot(chain, path)
    }

    /// A read-only view of the merged directories, the lowest first.
    pub fn view(&self, lowers: &[Lower]) -> Result<std::os::fd::OwnedFd> {
        let paths: Vec<&PathBuf> = lowers.iter().rev().map(|lower| &lower.path).collect();
        let options = overlay::Options {
            volatile: false,
            ..self.store().overlay_options()
        };
        overlay::mount(&paths, None, options).map_err(Error::Overlay)
    }

    /// Records a finished directory of this lease as the snapshot of `chain`. Returns the
    /// directory to use: if another build was first, still ours, which then goes with the lease.
    pub fn record_snapshot(&self, chain: &Digest, path: PathBuf) -> Result<PathBuf> {
        let store = self.store();
        let now = store.now();
        let directory = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let row = SnapshotRow {
            id: 0,
            chain: *chain,
            owners: store.host().owners().to_owned(),
            directory,
            allocated: fsutil::allocated_tree(&path)?,
            boot: store.host().boot().to_owned(),
            first_seen: now,
            last_used: now,
            condemned: None,
        };
        let recorded = store.write(|tx| {
            let id = tx.put_snapshot(&row)?;
            if let Some(id) = id {
                tx.lease_snapshot(self.id(), id)?;
            }
            Ok(id.is_some())
        })?;
        if recorded {
            self.keep_directory(&path);
        }
        Ok(path)
    }
}

//! Cache mounts: the directories of `RUN --mount=type=cache`, which outlive builds.
//!
//! ```text
//! cache-mounts/NAME/mount.json   what it is, so that a lost catalog can be told again
//!                   lock         held by the steps that have it
//!                   new/         being filled; renamed when it is whole
//!                   data/        what steps see
//! ```
//! Two mounts are the same one if their key is: the ID, what it began with, and the owner and mode
//! that were asked for (BuildKit's rule), under one ID map of owners. The oldest of a key is its
//! **main** one.
//!
//! | sharing | takes | where that is taken |
//! |---|---|---|
//! | shared | the main one, beside other sharers | waits |
//! | locked | the main one, alone | waits |
//! | private | any of the key, alone | makes another one |
//!
//! **Order.** Directory and row are made in one write transaction. A step locks, and then looks
//! whether the row is still there: a prune that was faster has taken it away under the same lock.
//! A build that is killed lets go of its locks a moment before the kernel has killed what its step
//! had running.
//!
//! A step that needs several takes them in the order of their keys ([`CacheMountRequest`] is
//! ordered so), so that two steps never wait for one another.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::lease::hex;
use super::{Error, Lease, Result, Store};
use crate::catalog::WriteError;
use crate::catalog::cache_mount::CacheMountRow;
use crate::fsutil::{self, IoContext};
use crate::gc::cache_mounts::LOCK;
use crate::gc::debris::CACHE_MOUNTS;
use crate::lock::{FileLock, Mode};
use crate::oci::Digest;

/// The file that says what a directory is.
const ABOUT: &str = "mount.json";
/// What steps see.
const DATA: &str = "data";
/// The same before it is whole.
const NEW: &str = "new";

/// Who may have a cache mount at the same time; a stronger one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheSharing {
    /// Everybody.
    Shared,
    /// Nobody else: a second one gets a directory of its own.
    Private,
    /// One after the other.
    Locked,
}

/// A cache mount that a step asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheMountRequest {
    /// What makes two mounts the same one.
    pub key: Digest,
    /// What people call it.
    pub name: String,
    /// How it is shared.
    pub sharing: CacheSharing,
}

/// A cache mount that a step has, until this is dropped.
#[derive(Debug)]
pub struct CacheMount<'s> {
    store: &'s Store,
    directory: String,
    _lock: FileLock,
}

/// What [`ABOUT`] holds.
#[derive(serde::Serialize, serde::Deserialize)]
struct About {
    key: Digest,
    owners: String,
    name: String,
    created: crate::catalog::Millis,
}

impl CacheMount<'_> {
    /// What steps see of it.
    pub fn data(&self) -> PathBuf {
        self.path().join(DATA)
    }

    fn path(&self) -> PathBuf {
        self.store.private(CACHE_MOUNTS).join(&self.directory)
    }

    /// Makes the directory that steps see, unless it is there: `fill` gives an empty one its
    /// content, owner and mode. Others that come meanwhile wait for it.
    pub fn fill<E: From<Error>>(
        &self,
        fill: impl FnOnce(&Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let (data, new) = (self.data(), self.path().join(NEW));
        if data.is_dir() {
            return Ok(());
        }
        let lift = |error: fsutil::Error| E::from(Error::from(error));
        let _lock = FileLock::exclusive(&self.path().join(ABOUT)).map_err(lift)?;
        if data.is_dir() {
            return Ok(());
        }
        // Of somebody who died over it.
        fsutil::remove_tree(&new).map_err(lift)?;
        fs::create_dir(&new)
            .at("create directory", &new)
            .map_err(lift)?;
        fill(&new)?;
        fs::rename(&new, &data).at("rename", &new).map_err(lift)
    }
}

impl Drop for CacheMount<'_> {
    fn drop(&mut self) {
        let now = self.store.now();
        // Failing that, it counts as last used when it was taken.
        let _ = self.store.write(|tx| {
            tx.touch_cache_mount(&self.directory, now)?;
            Ok(())
        });
    }
}

impl<'s> Lease<'s> {
    /// Takes a cache mount, making it if there is none. Where it has to wait it asks `go_on` every
    /// now and then; `None`: that said `false`.
    pub fn cache_mount(
        &self,
        request: &CacheMountRequest,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<CacheMount<'s>>> {
        let store = self.store();
        loop {
            let Some((directory, lock)) = store.lock_cache_mount(request, go_on)? else {
                return Ok(None);
            };
            let now = store.now();
            if store.write(|tx| Ok(tx.touch_cache_mount(&directory, now)?))? {
                return Ok(Some(CacheMount {
                    store,
                    directory,
                    _lock: lock,
                }));
            }
            // A prune was faster: make another.
        }
    }
}

impl Store {
    fn lock_cache_mount(
        &self,
        request: &CacheMountRequest,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<(String, FileLock)>> {
        let (mode, private) = match request.sharing {
            CacheSharing::Shared => (Mode::Shared, false),
            CacheSharing::Locked => (Mode::Exclusive, false),
            CacheSharing::Private => (Mode::Exclusive, true),
        };
        for row in self.cache_mounts_of(&request.key)? {
            let path = self.private(CACHE_MOUNTS).join(&row.directory).join(LOCK);
            let mut looks = 0;
            // Whoever looks whether a mount is in use has its lock for an instant: a private mount
            // is not made twice for that.
            let mut again = || match private {
                true => {
                    looks += 1;
                    looks <= 1
                }
                false => go_on(),
            };
            match FileLock::wait_existing(&path, mode, &mut again) {
                Ok(Some(lock)) => return Ok(Some((row.directory, lock))),
                Ok(None) if private => {}
                Ok(None) => return Ok(None),
                // Somebody removed it by hand, or a prune does just now.
                Err(error) if error.is_not_found() => {
                    self.forget_lost_mount(&row.directory)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.make_cache_mount(request, private)?;
        // Now it is among those of its key, and is taken like any other.
        self.lock_cache_mount(request, go_on)
    }

    fn cache_mounts_of(&self, key: &Digest) -> Result<Vec<CacheMountRow>> {
        let owners = self.host().owners();
        Ok(self.catalog().read(|tx| tx.cache_mounts_of(key, owners))?)
    }

    fn forget_lost_mount(&self, directory: &str) -> Result<()> {
        let lock = self.private(CACHE_MOUNTS).join(directory).join(LOCK);
        self.write(|tx| {
            if !lock.exists() {
                tx.forget_cache_mount(directory)?;
            }
            Ok(())
        })
    }

    /// Makes an empty cache mount; unless it is to be `another` one, only if there is none.
    fn make_cache_mount(&self, request: &CacheMountRequest, another: bool) -> Result<()> {
        let directory = hex(&self.host().random()[..8]);
        let path = self.private(CACHE_MOUNTS).join(&directory);
        let now = self.now();
        let row = CacheMountRow {
            id: 0,
            key: request.key,
            owners: self.host().owners().to_owned(),
            name: request.name.clone(),
            directory,
            first_seen: now,
            last_used: now,
        };
        self.write(|tx| {
            if !another && !tx.cache_mounts_of(&row.key, &row.owners)?.is_empty() {
                return Ok(());
            }
            make_directory(&path, &row).map_err(|error| WriteError::Caller(error.into()))?;
            Ok(tx.put_cache_mount(&row)?)
        })
    }

    /// Takes in the cache mounts of a store whose catalog was lost.
    pub(super) fn adopt_cache_mounts(&self) -> Result<()> {
        let directory = self.private(CACHE_MOUNTS);
        let mut found = Vec::new();
        for entry in fs::read_dir(&directory).at("read", &directory)? {
            let entry = entry.at("read", &directory)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // What has no such file, or a broken one, is debris; so is what a prune has renamed.
            let about = fs::read(entry.path().join(ABOUT)).unwrap_or_default();
            let Ok(about) = serde_json::from_slice::<About>(&about) else {
                continue;
            };
            if !name.starts_with('.') {
                found.push((about, name));
            }
        }
        found.sort_by_key(|(about, _)| about.created);
        self.write(|tx| {
            for (about, name) in found {
                if tx.cache_mount_in(&name)?.is_none() {
                    tx.put_cache_mount(&CacheMountRow {
                        id: 0,
                        key: about.key,
                        owners: about.owners,
                        name: about.name,
                        directory: name,
                        first_seen: about.created,
                        last_used: about.created,
                    })?;
                }
            }
            Ok(())
        })
    }
}

fn make_directory(path: &Path, row: &CacheMountRow) -> fsutil::Result<()> {
    fs::create_dir(path).at("create directory", path)?;
    // What a step makes setuid in there is for steps, not for the users of this machine.
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).at("chmod", path)?;
    let lock = path.join(LOCK);
    fs::write(&lock, b"").at("create", &lock)?;
    let about = About {
        key: row.key,
        owners: row.owners.clone(),
        name: row.name.clone(),
        created: row.first_seen,
    };
    let text = serde_json::to_vec(&about).unwrap_or_default();
    let about = path.join(ABOUT);
    fs::write(&about, text).at("write", &about)
}

//! Cache mounts: the directories of `RUN --mount=type=cache`.

use rusqlite::{OptionalExtension, Row, params};

use super::blob::digest_column;
use super::{Millis, Reader, SqlResult, Writer};
use crate::oci::Digest;

/// A row of `cache_mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMountRow {
    /// Its number: of several with one key the lowest is the main one.
    pub id: i64,
    /// What makes two mounts the same one: the name, what it began with, its owner and mode.
    pub key: Digest,
    /// The ID map of its files' owners: `host`, or that of a user namespace.
    pub owners: String,
    /// `id=` of the mount, or the target that stands for it.
    pub name: String,
    /// Its directory's name below `rstore/cache-mounts`.
    pub directory: String,
    /// When it was made.
    pub first_seen: Millis,
    /// When a step last took or left it.
    pub last_used: Millis,
}

const COLUMNS: &str = "id, key, owners, name, directory, first_seen, last_used";

fn cache_mount_row(row: &Row) -> SqlResult<CacheMountRow> {
    Ok(CacheMountRow {
        id: row.get(0)?,
        key: digest_column(row, 1)?,
        owners: row.get(2)?,
        name: row.get(3)?,
        directory: row.get(4)?,
        first_seen: row.get(5)?,
        last_used: row.get(6)?,
    })
}

impl Reader<'_> {
    /// Every cache mount, the oldest first.
    pub fn cache_mounts(&self) -> SqlResult<Vec<CacheMountRow>> {
        self.connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM cache_mount ORDER BY id"))?
            .query_map([], cache_mount_row)?
            .collect()
    }

    /// The cache mounts of a key under an ID map, the oldest first.
    pub fn cache_mounts_of(&self, key: &Digest, owners: &str) -> SqlResult<Vec<CacheMountRow>> {
        self.connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM cache_mount WHERE key = ?1 AND owners = ?2 ORDER BY id"
            ))?
            .query_map(params![key.as_bytes(), owners], cache_mount_row)?
            .collect()
    }

    /// The cache mount in a directory.
    pub fn cache_mount_in(&self, directory: &str) -> SqlResult<Option<CacheMountRow>> {
        self.connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM cache_mount WHERE directory = ?1"
            ))?
            .query_row([directory], cache_mount_row)
            .optional()
    }
}

impl Writer<'_> {
    /// Records a cache mount; its `id` is not looked at.
    pub fn put_cache_mount(&self, mount: &CacheMountRow) -> SqlResult<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO cache_mount (key, owners, name, directory, first_seen, last_used)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                mount.key.as_bytes(),
                mount.owners,
                mount.name,
                mount.directory,
                mount.first_seen,
                mount.last_used
            ])
            .map(drop)
    }

    /// Marks a cache mount as used now. Returns whether it is recorded.
    pub fn touch_cache_mount(&self, directory: &str, now: Millis) -> SqlResult<bool> {
        let count = self
            .connection
            .prepare_cached(
                "UPDATE cache_mount SET last_used = max(last_used, ?2) WHERE directory = ?1",
            )?
            .execute(params![directory, now])?;
        Ok(count > 0)
    }

    /// Forgets the cache mount in a directory.
    pub fn forget_cache_mount(&self, directory: &str) -> SqlResult<()> {
        self.connection
            .prepare_cached("DELETE FROM cache_mount WHERE directory = ?1")?
            .execute([directory])
            .map(drop)
    }
}

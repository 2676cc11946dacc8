//! Snapshots: unpacked layers, by chain ID and by the ID map under which they were unpacked.

use rusqlite::{OptionalExtension, Row, params};

use super::blob::digest_column;
use super::{Millis, Reader, SqlResult, Writer};
use crate::oci::Digest;

/// A row of `snapshot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its number.
    pub id: i64,
    /// The chain ID of the layer and those below it.
    pub chain: Digest,
    /// The ID map of its files' owners: `host`, or that of a user namespace.
    pub owners: String,
    /// Its directory's name below `rstore/snapshots`.
    pub directory: String,
    /// Bytes that the file system allocated.
    pub allocated: u64,
    /// Empty once it is known to be on the disk; else the boot under which it was written.
    pub boot: String,
    /// When it was made.
    pub first_seen: Millis,
    /// When a step last stood on it.
    pub last_used: Millis,
    /// When a prune condemned it.
    pub condemned: Option<Millis>,
}

const COLUMNS: &str =
    "id, chain, owners, directory, allocated, boot, first_seen, last_used, condemned";

fn snapshot_row(row: &Row) -> SqlResult<SnapshotRow> {
    Ok(SnapshotRow {
        id: row.get(0)?,
        chain: digest_column(row, 1)?,
        owners: row.get(2)?,
        directory: row.get(3)?,
        allocated: row.get::<_, i64>(4)? as u64,
        boot: row.get(5)?,
        first_seen: row.get(6)?,
        last_used: row.get(7)?,
        condemned: row.get(8)?,
    })
}

impl Reader<'_> {
    /// The snapshot of a chain ID under an ID map, if it isn't condemned.
    pub fn snapshot(&self, chain: &Digest, owners: &str) -> SqlResult<Option<SnapshotRow>> {
        self.connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM snapshot WHERE chain = ?1 AND owners = ?2 AND condemned IS NULL"
            ))?
            .query_row(params![chain.as_bytes(), owners], snapshot_row)
            .optional()
    }

    /// Every snapshot.
    pub fn snapshots(&self) -> SqlResult<Vec<SnapshotRow>> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM snapshot ORDER BY id"))?;
        statement.query_map([], snapshot_row)?.collect()
    }
}

impl Writer<'_> {
    /// Records a snapshot whose directory stands, or is about to be renamed there by the caller.
    /// Where another writer was first, the answer is `None`: theirs is the one to use.
    pub fn put_snapshot(&self, new: &SnapshotRow) -> SqlResult<Option<i64>> {
        self.connection
            .prepare_cached(
                "INSERT INTO snapshot (chain, owners, directory, allocated, boot, first_seen, last_used)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
                 ON CONFLICT DO NOTHING RETURNING id",
            )?
            .query_row(
                params![
                    new.chain.as_bytes(),
                    new.owners,
                    new.directory,
                    new.allocated as i64,
                    new.boot,
                    new.first_seen
                ],
                |row| row.get(0),
            )
            .optional()
    }

    /// Condemns a snapshot.
    pub fn condemn_snapshot(&self, id: i64, now: Millis) -> SqlResult<()> {
        self.connection
            .prepare_cached("UPDATE snapshot SET condemned = ?2 WHERE id = ?1")?
            .execute(params![id, now])
            .map(drop)
    }

    /// Takes a condemnation back, of a snapshot whose directory still stands. Returns whether
    /// there was one.
    pub fn rescue_snapshot(&self, id: i64) -> SqlResult<bool> {
        let count = self
            .connection
            .prepare_cached(
                "UPDATE snapshot SET condemned = NULL WHERE id = ?1 AND condemned IS NOT NULL",
            )?
            .execute([id])?;
        Ok(count > 0)
    }

    /// Marks a snapshot as used now.
    pub fn touch_snapshot(&self, id: i64, now: Millis) -> SqlResult<()> {
        self.connection
            .prepare_cached("UPDATE snapshot SET last_used = max(last_used, ?2) WHERE id = ?1")?
            .execute(params![id, now])
            .map(drop)
    }

    /// Says how many bytes a snapshot's directory takes.
    pub fn set_snapshot_allocated(&self, id: i64, allocated: u64) -> SqlResult<()> {
        self.connection
            .prepare_cached("UPDATE snapshot SET allocated = ?2 WHERE id = ?1")?
            .execute(params![id, allocated as i64])
            .map(drop)
    }

    /// Forgets a snapshot whose directory is gone.
    pub fn forget_snapshot(&self, id: i64) -> SqlResult<()> {
        self.connection
            .prepare_cached("DELETE FROM lease_pin WHERE snapshot = ?1")?
            .execute([id])?;
        self.connection
            .prepare_cached("DELETE FROM snapshot WHERE id = ?1")?
            .execute([id])
            .map(drop)
    }
}

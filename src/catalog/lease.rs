//! Leases, and what they pin. The locked files that tell whether one lives are `store`'s.

use rusqlite::{OptionalExtension, params};

use super::blob::BlobId;
use super::{Millis, Reader, SqlResult, Writer};

/// A row of `lease`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// Its ID, the name of its file.
    pub id: String,
    /// `build`, `load`, …
    pub kind: String,
    /// What it is for, in words.
    pub detail: String,
    /// The process that holds it.
    pub process: u32,
    /// When it began.
    pub started: Millis,
}

/// Something that a lease keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasePin {
    /// The lease.
    pub lease: String,
    /// A blob, and all that it reaches.
    pub blob: Option<BlobId>,
    /// A snapshot.
    pub snapshot: Option<i64>,
}

impl Reader<'_> {
    /// Every lease, dead or alive.
    pub fn leases(&self) -> SqlResult<Vec<LeaseRow>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, kind, detail, process, started FROM lease ORDER BY started, id",
        )?;
        statement
            .query_map([], |row| {
                Ok(LeaseRow {
                    id: row.get(0)?,
                    kind: row.get(1)?,
                    detail: row.get(2)?,
                    process: row.get(3)?,
                    started: row.get(4)?,
                })
            })?
            .collect()
    }

    /// Whether there is a row for a lease: a file without one is its first or its last moment.
    pub fn has_lease(&self, id: &str) -> SqlResult<bool> {
        self.connection
            .prepare_cached("SELECT 1 FROM lease WHERE id = ?1")?
            .query_row([id], |_| Ok(()))
            .optional()
            .map(|found| found.is_some())
    }

    /// Whether any lease, dead or alive, keeps this blob by name.
    pub fn is_leased(&self, blob: BlobId) -> SqlResult<bool> {
        self.connection
            .prepare_cached("SELECT 1 FROM lease_pin WHERE blob = ?1 LIMIT 1")?
            .query_row([blob], |_| Ok(()))
            .optional()
            .map(|found| found.is_some())
    }

    /// The bytes of the blobs that a lease keeps by name and that are newer than the number `after`:
    /// what its owner has added since.
    pub fn leased_since(&self, lease: &str, after: BlobId) -> SqlResult<u64> {
        self.connection
            .prepare_cached(
                "SELECT coalesce(sum(blob.size), 0) FROM lease_pin JOIN blob ON blob.id = lease_pin.blob
                 WHERE lease_pin.lease = ?1 AND blob.id > ?2 AND blob.present",
            )?
            .query_row(params![lease, after], |row| row.get::<_, i64>(0))
            .map(|bytes| bytes as u64)
    }

    /// Whether any lease, dead or alive, keeps this snapshot.
    pub fn is_snapshot_leased(&self, snapshot: i64) -> SqlResult<bool> {
        self.connection
            .prepare_cached("SELECT 1 FROM lease_pin WHERE snapshot = ?1 LIMIT 1")?
            .query_row([snapshot], |_| Ok(()))
            .optional()
            .map(|found| found.is_some())
    }

    /// What leases pin, where the pin's number is above `after`.
    pub fn lease_pins_after(&self, after: i64) -> SqlResult<Vec<LeasePin>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT lease, blob, snapshot FROM lease_pin WHERE id > ?1 ORDER BY id",
        )?;
        statement
            .query_map([after], |row| {
                Ok(LeasePin {
                    lease: row.get(0)?,
                    blob: row.get(1)?,
                    snapshot: row.get(2)?,
                })
            })?
            .collect()
    }
}

impl Writer<'_> {
    /// Records a lease whose file its owner has already locked.
    pub fn put_lease(&self, lease: &LeaseRow) -> SqlResult<()> {
        self.connection
            .prepare_cached("INSERT INTO lease VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                lease.id,
                lease.kind,
                lease.detail,
                lease.process,
                lease.started
            ])
            .map(drop)
    }

    /// Keeps a blob, and all that it reaches, as long as the lease lives.
    pub fn lease_blob(&self, lease: &str, blob: BlobId) -> SqlResult<()> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO lease_pin (lease, blob) VALUES (?1, ?2)")?
            .execute(params![lease, blob])
            .map(drop)
    }

    /// Keeps a snapshot as long as the lease lives.
    pub fn lease_snapshot(&self, lease: &str, snapshot: i64) -> SqlResult<()> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO lease_pin (lease, snapshot) VALUES (?1, ?2)")?
            .execute(params![lease, snapshot])
            .map(drop)
    }

    /// Ends a lease: its pins and its row go; its containers stay for whoever removes their files.
    pub fn end_lease(&self, id: &str) -> SqlResult<()> {
        self.connection
            .prepare_cached("DELETE FROM lease_pin WHERE lease = ?1")?
            .execute([id])?;
        self.connection
            .prepare_cached("DELETE FROM lease WHERE id = ?1")?
            .execute([id])
            .map(drop)
    }
}

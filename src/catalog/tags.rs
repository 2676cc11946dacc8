//! The mirror of `index.json`, and pins: what is a root of its own.

use rusqlite::{OptionalExtension, params};

use super::blob::{BlobId, digest_column};
use super::{Millis, Reader, SqlResult, Writer};
use crate::oci::Digest;

/// An entry of `index.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntryRow {
    /// What it points at.
    pub blob: BlobId,
    /// The tag; `None`: somebody put it there without a name.
    pub name: Option<String>,
}

impl Reader<'_> {
    /// What `index.json` names, in its order.
    pub fn index_entries(&self) -> SqlResult<Vec<IndexEntryRow>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT blob, name FROM index_entry ORDER BY place")?;
        statement
            .query_map([], |row| {
                Ok(IndexEntryRow {
                    blob: row.get(0)?,
                    name: row.get(1)?,
                })
            })?
            .collect()
    }

    /// The digest and media type that a tag points at.
    pub fn tag(&self, name: &str) -> SqlResult<Option<(Digest, String)>> {
        self.connection
            .prepare_cached(
                "SELECT digest, media_type FROM index_entry JOIN blob ON blob.id = blob WHERE name = ?1",
            )?
            .query_row([name], |row| Ok((digest_column(row, 0)?, row.get(1)?)))
            .optional()
    }

    /// The names that point at a blob.
    pub fn names_of(&self, blob: BlobId) -> SqlResult<Vec<String>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT name FROM index_entry WHERE blob = ?1 AND name IS NOT NULL ORDER BY place",
        )?;
        statement.query_map([blob], |row| row.get(0))?.collect()
    }

    /// Pinned blobs, in the order in which they were pinned, whose pin's number is above `after`.
    pub fn pins_after(&self, after: i64) -> SqlResult<Vec<BlobId>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT blob FROM pin WHERE id > ?1 ORDER BY id")?;
        statement.query_map([after], |row| row.get(0))?.collect()
    }
}

impl Writer<'_> {
    /// Replaces the mirror of `index.json`.
    pub fn replace_index_entries(&self, entries: &[IndexEntryRow]) -> SqlResult<()> {
        if self.index_entries()? == entries {
            return Ok(());
        }
        self.connection.execute("DELETE FROM index_entry", [])?;
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO index_entry (blob, name) VALUES (?1, ?2)")?;
        for entry in entries {
            insert.execute(params![entry.blob, entry.name])?;
        }
        Ok(())
    }

    /// Makes a blob a root until [`Writer::unpin`]. Returns whether it was not one.
    pub fn pin(&self, blob: BlobId, now: Millis) -> SqlResult<bool> {
        let count = self
            .connection
            .prepare_cached("INSERT OR IGNORE INTO pin (blob, created) VALUES (?1, ?2)")?
            .execute(params![blob, now])?;
        Ok(count > 0)
    }

    /// Ends a pin. Returns whether there was one.
    pub fn unpin(&self, blob: BlobId) -> SqlResult<bool> {
        Ok(self
            .connection
            .prepare_cached("DELETE FROM pin WHERE blob = ?1")?
            .execute([blob])?
            > 0)
    }
}

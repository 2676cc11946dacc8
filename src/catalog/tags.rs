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

/// An entry of `index.json` with all that writing it again takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The tag; `None`: somebody put it there without a name.
    pub name: Option<String>,
    /// What it points at.
    pub digest: Digest,
    /// Its media type, where that is known.
    pub media_type: String,
    /// Its bytes.
    pub size: u64,
}

/// What `index.json` named when it was last taken in, in its order.
pub fn mirror(catalog: &super::Catalog) -> super::Result<Vec<Named>> {
    catalog.read(|tx| tx.mirror())
}

/// What of a damaged catalog can still be read of that which cannot be made again from the blobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Salvage {
    /// What `index.json` named; `None`: not readable.
    pub names: Option<Vec<Named>>,
    /// What was pinned; `None`: not readable.
    pub pins: Option<Vec<Digest>>,
}

impl Salvage {
    /// Reads what can be read of the catalog at `path`, however damaged it is. Changes nothing.
    pub fn read(path: &std::path::Path) -> Salvage {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
        let Ok(connection) = rusqlite::Connection::open_with_flags(path, flags) else {
            return Salvage::default();
        };
        // Closing must not move the log into a file whose pages are torn.
        let setting = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        if connection.set_db_config(setting, true).is_err() {
            return Salvage::default();
        }
        let reader = Reader {
            connection: &connection,
        };
        Salvage {
            names: reader.mirror().ok(),
            pins: reader.pinned().ok(),
        }
    }

    /// Makes what was pinned pinned in a new catalog, as far as it is still there. Returns how
    /// many were.
    pub fn pin_again(&self, catalog: &super::Catalog, now: Millis) -> super::Result<usize> {
        let mut count = 0;
        catalog.write(|tx| {
            for digest in self.pins.iter().flatten() {
                if let Some(row) = tx.blob(digest)?.filter(|row| row.present) {
                    count += usize::from(tx.pin(row.id, now)?);
                }
            }
            Ok::<_, super::WriteError<super::Error>>(())
        })?;
        Ok(count)
    }
}

impl Reader<'_> {
    /// Names that begin so, in order, at most `limit`.
    pub fn names_by_prefix(&self, prefix: &str, limit: usize) -> SqlResult<Vec<String>> {
        self.connection
            .prepare_cached(
                "SELECT DISTINCT name FROM index_entry
                 WHERE name >= ?1 AND substr(name, 1, length(?1)) = ?1 ORDER BY name LIMIT ?2",
            )?
            .query_map(params![prefix, limit as i64], |row| row.get(0))?
            .collect()
    }

    /// What `index.json` named when it was last taken in, in its order.
    pub fn mirror(&self) -> SqlResult<Vec<Named>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT name, digest, media_type, size FROM index_entry
             JOIN blob ON blob.id = blob ORDER BY place",
        )?;
        statement
            .query_map([], |row| {
                Ok(Named {
                    name: row.get(0)?,
                    digest: digest_column(row, 1)?,
                    media_type: row.get(2)?,
                    size: row.get::<_, i64>(3)? as u64,
                })
            })?
            .collect()
    }

    /// What is pinned, by digest.
    pub fn pinned(&self) -> SqlResult<Vec<Digest>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT digest FROM pin JOIN blob ON blob.id = blob ORDER BY pin.id")?;
        statement
            .query_map([], |row| digest_column(row, 0))?
            .collect()
    }

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

//! Cache records: which image a step gave.

use rusqlite::{OptionalExtension, params};

use super::blob::{BlobId, digest_column};
use super::{Millis, Reader, SqlResult, Writer};
use crate::oci::Digest;

/// A row of `cache_record`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRecord {
    /// The step's cache key.
    pub key: Digest,
    /// The manifest of what it gave.
    pub image: BlobId,
    /// When it was made.
    pub created: Millis,
    /// When it was last taken.
    pub last_used: Millis,
    /// How often it was taken.
    pub hits: u64,
}

impl Reader<'_> {
    /// The image that a step with this key gave, if it is still there and not condemned.
    pub fn cached_image(&self, key: &Digest) -> SqlResult<Option<Digest>> {
        self.connection
            .prepare_cached(
                "SELECT blob.digest FROM cache_record JOIN blob ON blob.id = cache_record.image
                 WHERE key = ?1 AND blob.present AND blob.condemned IS NULL",
            )?
            .query_row([key.as_bytes()], |row| digest_column(row, 0))
            .optional()
    }

    /// Every cache record.
    pub fn cache_records(&self) -> SqlResult<Vec<CacheRecord>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT key, image, created, last_used, hits FROM cache_record")?;
        statement
            .query_map([], |row| {
                Ok(CacheRecord {
                    key: digest_column(row, 0)?,
                    image: row.get(1)?,
                    created: row.get(2)?,
                    last_used: row.get(3)?,
                    hits: row.get::<_, i64>(4)? as u64,
                })
            })?
            .collect()
    }
}

impl Writer<'_> {
    /// Records what a step gave; the last build to run a step wins.
    pub fn put_cache_record(&self, key: &Digest, image: BlobId, now: Millis) -> SqlResult<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO cache_record (key, image, created, last_used) VALUES (?1, ?2, ?3, ?3)
                 ON CONFLICT (key) DO UPDATE SET image = ?2, created = ?3, last_used = ?3",
            )?
            .execute(params![key.as_bytes(), image, now])
            .map(drop)
    }

    /// Counts a hit.
    pub fn count_cache_hit(&self, key: &Digest, now: Millis) -> SqlResult<()> {
        self.connection
            .prepare_cached(
                "UPDATE cache_record SET hits = hits + 1, last_used = max(last_used, ?2) WHERE key = ?1",
            )?
            .execute(params![key.as_bytes(), now])
            .map(drop)
    }

    /// Forgets what a step gave.
    pub fn forget_cache_record(&self, key: &Digest) -> SqlResult<()> {
        self.connection
            .prepare_cached("DELETE FROM cache_record WHERE key = ?1")?
            .execute([key.as_bytes()])
            .map(drop)
    }
}

//! The journal: what each build, load and prune did, and why. Bounded in length.

use rusqlite::params;

use super::{Millis, Reader, SqlResult, Writer};

/// How many entries are kept: some megabytes.
pub const LIMIT: i64 = 50_000;

/// A row of `journal`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct JournalEntry {
    /// When.
    pub time: Millis,
    /// What was done: `build`, `tag`, `untag`, `remove`, `prune`, `load`, `import`.
    pub operation: String,
    /// To what: a name or a digest.
    pub subject: String,
    /// Bytes added or freed.
    pub bytes: u64,
    /// Why, or how.
    pub detail: String,
}

/// When a prune last came to its end, also one that found nothing, and the bytes that it freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastPrune {
    /// When.
    pub time: Millis,
    /// Bytes.
    pub freed: u64,
}

/// `meta` key: the last prune, as `TIME BYTES`.
const LAST_PRUNE: &str = "last-prune";

impl Reader<'_> {
    /// The last prune; `None`: there was none since this catalog began.
    pub fn last_prune(&self) -> SqlResult<Option<LastPrune>> {
        let text = self.meta(LAST_PRUNE)?.unwrap_or_default();
        Ok(text.split_once(' ').and_then(|(time, freed)| {
            Some(LastPrune {
                time: time.parse().ok()?,
                freed: freed.parse().ok()?,
            })
        }))
    }

    /// The newest entries, the newest first.
    pub fn journal(&self, limit: usize) -> SqlResult<Vec<JournalEntry>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT time, operation, subject, bytes, detail FROM journal ORDER BY id DESC LIMIT ?1",
        )?;
        statement
            .query_map([limit as i64], |row| {
                Ok(JournalEntry {
                    time: row.get(0)?,
                    operation: row.get(1)?,
                    subject: row.get(2)?,
                    bytes: row.get::<_, i64>(3)? as u64,
                    detail: row.get(4)?,
                })
            })?
            .collect()
    }
}

impl Writer<'_> {
    /// Remembers the last prune.
    pub fn set_last_prune(&self, last: LastPrune) -> SqlResult<()> {
        self.set_meta(LAST_PRUNE, &format!("{} {}", last.time, last.freed))
    }

    /// Notes what was done, and forgets the oldest entries beyond [`LIMIT`].
    pub fn note(&self, entry: &JournalEntry) -> SqlResult<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO journal (time, operation, subject, bytes, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![entry.time, entry.operation, entry.subject, entry.bytes as i64, entry.detail])?;
        let newest = self.connection.last_insert_rowid();
        self.connection
            .prepare_cached("DELETE FROM journal WHERE id <= ?1")?
            .execute([newest - LIMIT])
            .map(drop)
    }
}

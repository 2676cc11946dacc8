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
    /// What was done: `build`, `tag`, `untag`, `remove`, `prune`, `load`, `import`, `pull`, `push`.
    pub operation: String,
    /// To what: a name or a digest.
    pub subject: String,
    /// Bytes added or freed.
    pub bytes: u64,
    /// Why, or how.
    pub detail: String,
}

impl Reader<'_> {
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

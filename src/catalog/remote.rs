//! What files behind URLs contained when they were last fetched, so that a server can say that
//! they still do.

use rusqlite::{OptionalExtension, params};

use super::blob::digest_column;
use super::{Millis, Reader, SqlResult, Writer};
use crate::oci::Digest;

/// A row of `remote_file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// The digest of its content.
    pub digest: Digest,
    /// The server's word for this state of it.
    pub etag: String,
    /// `Last-Modified`, in seconds since the epoch.
    pub modified: Option<i64>,
}

impl Reader<'_> {
    /// What is known of a URL, which is named by its digest: it may hold a password.
    pub fn remote_file(&self, url: &Digest) -> SqlResult<Option<RemoteFile>> {
        self.connection
            .prepare_cached("SELECT digest, etag, modified FROM remote_file WHERE url = ?1")?
            .query_row([url.as_bytes()], |row| {
                Ok(RemoteFile {
                    digest: digest_column(row, 0)?,
                    etag: row.get(1)?,
                    modified: row.get(2)?,
                })
            })
            .optional()
    }
}

impl Writer<'_> {
    /// Remembers what a URL gave.
    pub fn put_remote_file(&self, url: &Digest, file: &RemoteFile, now: Millis) -> SqlResult<()> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO remote_file VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                url.as_bytes(),
                file.digest.as_bytes(),
                file.etag,
                file.modified,
                now
            ])
            .map(drop)
    }

    /// Forgets what was fetched before `before`. Returns how many.
    pub fn forget_remote_files(&self, before: Millis) -> SqlResult<usize> {
        self.connection
            .prepare_cached("DELETE FROM remote_file WHERE used < ?1")?
            .execute([before])
    }
}

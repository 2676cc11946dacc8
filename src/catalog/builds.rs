//! What builds keep besides images: intermediate containers, and what context files contained.

use rusqlite::{OptionalExtension, params};

use super::blob::{BlobId, digest_column};
use super::{Millis, Reader, SqlResult, Writer};
use crate::oci::Digest;

/// A row of `container`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRow {
    /// Its ID, the name of its directory.
    pub id: String,
    /// The lease of the build that runs it, or of the shell that looks into it.
    pub lease: String,
    /// The manifest of the image that it stands on.
    pub image: Option<BlobId>,
    /// The instruction that runs in it.
    pub step: String,
    /// When it was made.
    pub created: Millis,
    /// `None` while it runs; else the exit status of the step that failed in it.
    pub status: Option<i32>,
}

/// What `stat` says of a context file: as long as it says the same, so is the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Modification, nanoseconds since the epoch.
    pub modified: i64,
    /// Change of the inode, nanoseconds since the epoch.
    pub changed: i64,
}

impl Reader<'_> {
    /// Every intermediate container that is recorded.
    pub fn containers(&self) -> SqlResult<Vec<ContainerRow>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, lease, image, step, created, status FROM container ORDER BY created, id",
        )?;
        statement
            .query_map([], |row| {
                Ok(ContainerRow {
                    id: row.get(0)?,
                    lease: row.get(1)?,
                    image: row.get(2)?,
                    step: row.get(3)?,
                    created: row.get(4)?,
                    status: row.get(5)?,
                })
            })?
            .collect()
    }

    /// The digest of a context file's content, if it was hashed under this very identity.
    pub fn context_digest(&self, file: &FileIdentity) -> SqlResult<Option<Digest>> {
        self.connection
            .prepare_cached(
                "SELECT digest FROM context_file
                 WHERE device = ?1 AND inode = ?2 AND size = ?3 AND modified = ?4 AND changed = ?5",
            )?
            .query_row(
                params![
                    file.device as i64,
                    file.inode as i64,
                    file.size as i64,
                    file.modified,
                    file.changed
                ],
                |row| digest_column(row, 0),
            )
            .optional()
    }
}

impl Reader<'_> {
    /// What a selection of an image's files contained, if it was looked at before.
    pub fn selection(&self, key: &Digest) -> SqlResult<Option<Digest>> {
        self.connection
            .prepare_cached("SELECT digest FROM selection WHERE key = ?1")?
            .query_row([key.as_bytes()], |row| digest_column(row, 0))
            .optional()
    }
}

impl Writer<'_> {
    /// Remembers what a selection of an image's files contained.
    pub fn put_selection(&self, key: &Digest, digest: &Digest, now: Millis) -> SqlResult<()> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO selection VALUES (?1, ?2, ?3)")?
            .execute(params![key.as_bytes(), digest.as_bytes(), now])
            .map(drop)
    }

    /// Records a container whose directory is about to be made.
    pub fn put_container(&self, container: &ContainerRow) -> SqlResult<()> {
        self.connection
            .prepare_cached("INSERT INTO container VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                container.id,
                container.lease,
                container.image,
                container.step,
                container.created,
                container.status
            ])
            .map(drop)
    }

    /// Says that the step in a container failed, and that it is kept; and what it stands on, which
    /// may not have been known when it was made.
    pub fn keep_container(&self, id: &str, status: i32, image: Option<BlobId>) -> SqlResult<()> {
        self.connection
            .prepare_cached("UPDATE container SET status = ?2, image = ?3 WHERE id = ?1")?
            .execute(params![id, status, image])
            .map(drop)
    }

    /// Says that a container that was kept is another lease's now.
    pub fn lease_container(&self, lease: &str, id: &str) -> SqlResult<()> {
        self.connection
            .prepare_cached("UPDATE container SET lease = ?2 WHERE id = ?1")?
            .execute(params![id, lease])
            .map(drop)
    }

    /// Forgets a container whose directory is gone.
    pub fn forget_container(&self, id: &str) -> SqlResult<()> {
        self.connection
            .prepare_cached("DELETE FROM container WHERE id = ?1")?
            .execute([id])
            .map(drop)
    }

    /// Remembers the digest of a context file's content.
    pub fn put_context_digest(
        &self,
        file: &FileIdentity,
        digest: &Digest,
        now: Millis,
    ) -> SqlResult<()> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO context_file VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                file.device as i64,
                file.inode as i64,
                file.size as i64,
                file.modified,
                file.changed,
                digest.as_bytes(),
                now
            ])
            .map(drop)
    }

    /// Forgets context files that no build has looked at since `before`. Returns how many.
    pub fn forget_context_files(&self, before: Millis) -> SqlResult<usize> {
        self.connection
            .prepare_cached("DELETE FROM context_file WHERE used < ?1")?
            .execute([before])
    }
}

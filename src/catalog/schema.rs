//! The tables, and how older catalogs become new ones.
//!
//! Migrations are appended, never edited: `user_version` counts those that have run. Each runs in
//! the transaction that counts it.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::{Reader, SqlResult, Writer};

/// The format that this program writes.
pub const VERSION: i64 = MIGRATIONS.len() as i64;

const MIGRATIONS: &[&str] = &[
    FIRST,
    BORN,
    LINKS,
    CACHE_MOUNTS,
    MEMORY,
    REMOTE_FILES,
    JOURNAL_ITEMS,
    FEWER_INDEXES,
];

const FIRST: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- A file below blobs/sha256, or a digest that some document points at (present = 0).
CREATE TABLE blob (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    digest     BLOB NOT NULL UNIQUE,
    size       INTEGER NOT NULL,
    allocated  INTEGER NOT NULL DEFAULT 0,
    kind       INTEGER NOT NULL DEFAULT 0,
    media_type TEXT NOT NULL DEFAULT '',
    present    INTEGER NOT NULL,
    -- 1: an rstore wrote it, under a lease; 0: found on the disk, so its age protects it.
    ours       INTEGER NOT NULL,
    -- '' = known to be on the disk (fsynced); else the boot ID under which it was written.
    boot       TEXT NOT NULL DEFAULT '',
    -- Why the document cannot be understood; marking stops there.
    damage     TEXT,
    first_seen INTEGER NOT NULL,
    last_used  INTEGER NOT NULL,
    condemned  INTEGER
) STRICT;
CREATE INDEX blob_condemned ON blob (condemned) WHERE condemned IS NOT NULL;

CREATE TABLE edge (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    source INTEGER NOT NULL,
    target INTEGER NOT NULL,
    role   INTEGER NOT NULL,
    place  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX edge_source ON edge (source, place, role, target);

-- A manifest that is an image, with what lists show of it.
CREATE TABLE image (
    manifest INTEGER PRIMARY KEY,
    config   INTEGER NOT NULL,
    parent   INTEGER,
    step     TEXT,
    created  INTEGER,
    platform TEXT NOT NULL,
    size     INTEGER NOT NULL,
    labels   TEXT NOT NULL DEFAULT '{}',
    first_seen INTEGER NOT NULL,
    last_used  INTEGER NOT NULL
) STRICT;
CREATE INDEX image_config ON image (config);

-- An image whose step copied from, or mounted, another image.
CREATE TABLE stage_link (
    image INTEGER NOT NULL,
    stage INTEGER NOT NULL,
    PRIMARY KEY (image, stage)
) STRICT, WITHOUT ROWID;

CREATE TABLE layer (
    blob       INTEGER PRIMARY KEY,
    diff_id    BLOB NOT NULL,
    unpacked   INTEGER,
    created_by TEXT
) STRICT;
CREATE INDEX layer_diff ON layer (diff_id);

-- A mirror of index.json; `signature` in meta says of which.
CREATE TABLE index_entry (
    place INTEGER PRIMARY KEY,
    blob  INTEGER NOT NULL,
    name  TEXT
) STRICT;
CREATE INDEX index_entry_name ON index_entry (name);

CREATE TABLE pin (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    blob    INTEGER NOT NULL UNIQUE,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE lease (
    id      TEXT PRIMARY KEY,
    kind    TEXT NOT NULL,
    detail  TEXT NOT NULL,
    process INTEGER NOT NULL,
    started INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lease_pin (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    lease    TEXT NOT NULL,
    blob     INTEGER,
    snapshot INTEGER
) STRICT;
CREATE UNIQUE INDEX lease_pin_blob ON lease_pin (lease, blob) WHERE blob IS NOT NULL;
CREATE INDEX lease_pin_any_blob ON lease_pin (blob);
CREATE UNIQUE INDEX lease_pin_snapshot ON lease_pin (lease, snapshot) WHERE snapshot IS NOT NULL;

-- An unpacked layer: rstore/snapshots/DIRECTORY.
CREATE TABLE snapshot (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    chain      BLOB NOT NULL,
    owners     TEXT NOT NULL,
    directory  TEXT NOT NULL UNIQUE,
    allocated  INTEGER NOT NULL,
    boot       TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_used  INTEGER NOT NULL,
    condemned  INTEGER,
    UNIQUE (chain, owners)
) STRICT;

CREATE TABLE cache_record (
    key       BLOB PRIMARY KEY,
    image     INTEGER NOT NULL,
    created   INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    hits      INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX cache_record_image ON cache_record (image);

-- An intermediate container: rstore/containers/ID.
CREATE TABLE container (
    id      TEXT PRIMARY KEY,
    lease   TEXT NOT NULL,
    image   INTEGER,
    step    TEXT NOT NULL,
    created INTEGER NOT NULL,
    -- NULL while it runs; else the exit status of the step that failed in it.
    status  INTEGER
) STRICT, WITHOUT ROWID;

-- What the content of a file of a build context was, as long as stat says the same of it.
CREATE TABLE context_file (
    device   INTEGER NOT NULL,
    inode    INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    changed  INTEGER NOT NULL,
    digest   BLOB NOT NULL,
    used     INTEGER NOT NULL,
    PRIMARY KEY (device, inode)
) STRICT, WITHOUT ROWID;

-- What a selection of an image's files contained: images never change, so neither does this.
CREATE TABLE selection (
    key    BLOB PRIMARY KEY,
    digest BLOB NOT NULL,
    used   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE journal (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    time      INTEGER NOT NULL,
    operation TEXT NOT NULL,
    subject   TEXT NOT NULL,
    bytes     INTEGER NOT NULL DEFAULT 0,
    detail    TEXT NOT NULL DEFAULT ''
) STRICT;
";

/// When this catalog began, in milliseconds: of writers that are older it cannot know the pins.
const BORN: &str = "
INSERT INTO meta VALUES ('born', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
";

/// The edges of a document in one row; see `edge.rs`.
const LINKS: &str = "
CREATE TABLE links (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    source  INTEGER NOT NULL UNIQUE,
    targets BLOB NOT NULL
) STRICT;
INSERT INTO links (source, targets)
    SELECT source, unhex(group_concat(printf('%010x%02x', target, role), ''))
    FROM (SELECT source, target, role FROM edge ORDER BY source, place, role)
    GROUP BY source;
DROP TABLE edge;
";

/// Directories of `RUN --mount=type=cache`: rstore/cache-mounts/DIRECTORY. Several may have one key:
/// private ones.
const CACHE_MOUNTS: &str = "
CREATE TABLE cache_mount (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    key        BLOB NOT NULL,
    owners     TEXT NOT NULL,
    name       TEXT NOT NULL,
    directory  TEXT NOT NULL UNIQUE,
    first_seen INTEGER NOT NULL,
    last_used  INTEGER NOT NULL
) STRICT;
CREATE INDEX cache_mount_key ON cache_mount (key, owners);
";

/// What the last builds did with each step.
const MEMORY: &str = "
CREATE TABLE build (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT NOT NULL,
    time    INTEGER NOT NULL
) STRICT;
CREATE INDEX build_subject ON build (subject, id);

CREATE TABLE build_step (
    build        INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    stage        TEXT NOT NULL,
    line         INTEGER NOT NULL,
    text         TEXT NOT NULL,
    outcome      INTEGER NOT NULL,
    milliseconds INTEGER NOT NULL,
    identity     BLOB,
    content      BLOB,
    parent       BLOB,
    image        BLOB,
    PRIMARY KEY (build, number)
) STRICT, WITHOUT ROWID;
";

/// What URLs contained, for conditional requests. `url` is the digest of one: it may hold a password.
const REMOTE_FILES: &str = "
CREATE TABLE remote_file (
    url      BLOB PRIMARY KEY,
    digest   BLOB NOT NULL,
    etag     TEXT NOT NULL,
    modified INTEGER,
    used     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Who did what is in the journal, how long it took, and what it took away.
const JOURNAL_ITEMS: &str = "
ALTER TABLE journal ADD COLUMN uid INTEGER;
ALTER TABLE journal ADD COLUMN command TEXT NOT NULL DEFAULT '';
ALTER TABLE journal ADD COLUMN milliseconds INTEGER;
ALTER TABLE journal ADD COLUMN digest BLOB;
ALTER TABLE journal ADD COLUMN facts TEXT NOT NULL DEFAULT '';
-- Bytes, as journal.rs counts them.
ALTER TABLE journal ADD COLUMN weight INTEGER NOT NULL DEFAULT 0;
UPDATE journal SET weight = 64 + length(operation) + length(subject) + length(detail);

CREATE TABLE journal_item (
    entry  INTEGER NOT NULL,
    place  INTEGER NOT NULL,
    kind   TEXT NOT NULL,
    label  TEXT NOT NULL,
    digest BLOB,
    -- With a blank between two.
    names  TEXT NOT NULL,
    bytes  INTEGER NOT NULL,
    reason TEXT NOT NULL,
    step   TEXT,
    PRIMARY KEY (entry, place)
) STRICT, WITHOUT ROWID;
";

/// Nobody looks a layer up by its diff ID, and a sweep reads all blobs once: neither is worth what
/// an index costs whoever adds or removes a hundred thousand rows.
const FEWER_INDEXES: &str = "
DROP INDEX layer_diff;
DROP INDEX blob_condemned;
";

/// In `meta`: how many transactions have changed something.
pub const CHANGES: &str = "changes";

/// Counts a transaction that has changed something.
pub(super) fn count_change(connection: &Connection) -> SqlResult<()> {
    connection
        .prepare_cached(
            "INSERT INTO meta VALUES (?1, '1')
             ON CONFLICT DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)",
        )?
        .execute([CHANGES])
        .map(drop)
}

/// Brings the catalog up to [`VERSION`]. Returns the version that it had; one larger than
/// [`VERSION`] was left alone.
pub fn migrate(connection: &mut Connection) -> SqlResult<i64> {
    let version =
        |c: &Connection| c.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    if version(connection)? >= VERSION {
        return version(connection);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Somebody else may have migrated while we waited for the write lock.
    let found = version(&transaction)?;
    for (number, migration) in MIGRATIONS
        .iter()
        .enumerate()
        .skip(usize::try_from(found).unwrap_or(0))
    {
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", number as i64 + 1)?;
    }
    transaction.commit()?;
    Ok(found)
}

impl Reader<'_> {
    /// When this catalog began.
    pub fn born(&self) -> SqlResult<super::Millis> {
        // One that does not know is taken to be younger than every writer.
        let born = self.meta("born")?.and_then(|born| born.parse().ok());
        Ok(born.unwrap_or(super::Millis::MAX))
    }

    /// How many transactions have changed something.
    pub fn changes(&self) -> SqlResult<i64> {
        let changes = self.meta(CHANGES)?;
        Ok(changes.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// A value of the `meta` table.
    pub fn meta(&self, key: &str) -> SqlResult<Option<String>> {
        self.connection
            .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
            .query_row([key], |row| row.get(0))
            .optional()
    }
}

impl Writer<'_> {
    /// Sets a value of the `meta` table.
    pub fn set_meta(&self, key: &str, value: &str) -> SqlResult<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2",
            )?
            .execute([key, value])
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn the_edges_of_an_older_catalog_are_the_newer_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(FIRST).unwrap();
        old.execute_batch(BORN).unwrap();
        old.execute_batch(
            "PRAGMA user_version = 2;
             INSERT INTO edge (source, target, role, place) VALUES
                 (5, 300, 4, 1), (5, 7, 3, 0), (6, 1099511627775, 4, 0), (5, 7, 4, 2);",
        )
        .unwrap();
        drop(old);
        let catalog = Catalog::open(&path).unwrap();
        let of = |source| {
            let edges = catalog.read(|tx| tx.edges_from(source)).unwrap();
            let pairs = edges.iter().map(|edge| (edge.target, edge.role as u8));
            pairs.collect::<Vec<_>>()
        };
        assert_eq!(of(5), [(7, 3), (300, 4), (7, 4)]);
        assert_eq!(of(6), [(1_099_511_627_775, 4)]);
    }
}

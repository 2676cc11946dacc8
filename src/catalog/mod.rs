//! The catalog: what SQLite knows of the layout, so that nothing has to be read twice.
//!
//! It holds what can be made again from `index.json` and `blobs/` (documents, edges, tags, layers)
//! and what cannot (cache use, last use, pins, the journal). Losing it loses no image: [`sync`]
//! makes the first part again, and the second is history.
//!
//! ```text
//! blob ──edge──▶ blob          image = a blob that is a manifest, with what lists show of it
//! index_entry ──▶ blob         lease ──lease_pin──▶ blob, snapshot      pin ──▶ blob
//! cache_record ──▶ image       snapshot: an unpacked layer             journal: what was done
//!                              cache_mount: a directory of RUN --mount=type=cache
//! ```
//!
//! **Locking.** WAL mode: readers never wait, writers wait for one another for the length of one
//! short transaction. Everything that decides about life and death ([`Catalog::write`]) is one
//! `BEGIN IMMEDIATE` transaction, so that "condemned" and "pinned" are never both believed.
//! Within one process, one connection behind a mutex serves all threads; long reads open a
//! connection of their own ([`Catalog::snapshot`]).
//!
//! **Durability.** `synchronous=NORMAL`: a power cut may lose the last transactions, never the
//! file. Whatever must not be lost is in `index.json`, which is fsynced.
//!
//! **Compatibility.** [`schema`] appends migrations on `user_version`; a catalog of a newer
//! version is refused, not guessed at.
//!
//! Rows are numbered by `AUTOINCREMENT`: numbers only grow, and so "what came since" is a
//! comparison. Times are milliseconds since the epoch, given by the caller.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::fsutil;

pub mod blob;
pub mod builds;
pub mod cache;
pub mod cache_mount;
pub mod edge;
pub mod image;
pub mod journal;
pub mod lease;
pub mod memory;
pub mod remote;
pub mod schema;
pub mod snapshot;
pub mod sync;
pub mod tags;

pub use blob::{BlobId, BlobKind, BlobRow};
pub use image::ImageRow;

/// Milliseconds since the epoch.
pub type Millis = i64;

/// Why the catalog cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite said no.
    #[error("catalog {}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        #[source]
        source: rusqlite::Error,
    },
    /// Made by a later rstore.
    #[error("catalog {} has format {found}, and this rstore knows up to {known}; use the newer rstore, or remove the file to have it rebuilt", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The last one known here.
        known: i64,
    },
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] fsutil::Error),
    /// The layout said no.
    #[error(transparent)]
    Layout(#[from] crate::layout::Error),
}

impl Error {
    /// Whether the file itself is torn, so that making it again is the answer.
    pub fn is_damage(&self) -> bool {
        let Error::Sqlite { source, .. } = self else {
            return false;
        };
        matches!(
            source.sqlite_error_code(),
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
        )
    }

    /// What somebody can do about it, where that is known.
    pub fn remedy(&self) -> Option<String> {
        let Error::Sqlite { path, source } = self else {
            return None;
        };
        let store = path
            .parent()
            .and_then(Path::parent)
            .unwrap_or(path)
            .display();
        match source.sqlite_error_code()? {
            rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::CannotOpen => Some(format!(
                "this user may not write the store {store}, and even looking needs that: become its owner, or name another with --root"
            )),
            _ if self.is_damage() => Some(format!(
                "the catalog is damaged: `rstore --root {store} fsck --repair` makes it again from the blobs"
            )),
            rusqlite::ErrorCode::DiskFull => Some(format!(
                "the disk is full: `rstore --root {store} prune` frees what nothing needs"
            )),
            _ => None,
        }
    }

    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::Sqlite { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            Error::Io(error) => error.is_no_space(),
            _ => false,
        }
    }
}

/// What the functions of this module return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An open catalog.
pub struct Catalog {
    path: PathBuf,
    connection: Mutex<Connection>,
    fresh: bool,
    actor: journal::Actor,
    counted: AtomicI64,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A transaction that reads.
pub struct Reader<'a> {
    pub(crate) connection: &'a Connection,
}

/// A transaction that writes; whatever a [`Reader`] can, it can.
pub struct Writer<'a> {
    reader: Reader<'a>,
    actor: &'a journal::Actor,
    /// The rows that the connection had changed before.
    before: u64,
    /// Whether it counts as a change.
    counts: bool,
}

impl<'a> std::ops::Deref for Writer<'a> {
    type Target = Reader<'a>;

    fn deref(&self) -> &Reader<'a> {
        &self.reader
    }
}

/// What a function of one table group returns; [`Catalog`] adds the path to the error.
pub(crate) type SqlResult<T> = std::result::Result<T, rusqlite::Error>;

/// Tells one state of the catalog from the next, as one connection sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Changes with every commit of another connection.
    others: i64,
    /// The rows that this connection has changed.
    own: u64,
}

impl Reader<'_> {
    /// See [`Catalog::version`]: as of this moment of this transaction.
    pub fn version(&self) -> SqlResult<Version> {
        let mut statement = self.connection.prepare_cached("PRAGMA data_version")?;
        Ok(Version {
            others: statement.query_row([], |row| row.get(0))?,
            own: self.connection.total_changes(),
        })
    }
}

impl Writer<'_> {
    /// What [`Catalog::version`] is once this transaction is committed, if it changes nothing more
    /// and nobody else does.
    pub fn version_after(&self) -> SqlResult<Version> {
        let version = self.version()?;
        let counted = self.counts && version.own != self.before;
        Ok(Version {
            own: version.own + u64::from(counted),
            ..version
        })
    }
}

impl Catalog {
    /// Opens the catalog at `path`, making or migrating it. The caller holds the store's lock
    /// where the file may be missing or old; see [`Catalog::is_current`].
    pub fn open(path: &Path) -> Result<Catalog> {
        let fresh = !path.exists();
        let connection = connect(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        )
        .map_err(|source| Error::Sqlite {
            path: path.to_path_buf(),
            source,
        })?;
        let mut catalog = Catalog {
            path: path.to_path_buf(),
            connection: Mutex::new(connection),
            fresh,
            actor: journal::Actor::default(),
            counted: AtomicI64::new(0),
        };
        catalog.fresh |= catalog.migrate()? == 0;
        Ok(catalog)
    }

    /// Whether `path` is a catalog of this version: then opening it changes nothing.
    pub fn is_current(path: &Path) -> bool {
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .and_then(|c| c.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)))
            .is_ok_and(|version| version == schema::VERSION)
    }

    /// Whether it was made by this opening, and so knows nothing.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Says who writes from now on, for the journal.
    pub fn act_as(&mut self, actor: journal::Actor) {
        self.actor = actor;
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn migrate(&self) -> Result<i64> {
        let mut guard = self.lock();
        let found = schema::migrate(&mut guard).map_err(|source| self.error(source))?;
        if found > schema::VERSION {
            return Err(Error::Newer {
                path: self.path.clone(),
                found,
                known: schema::VERSION,
            });
        }
        Ok(found)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while it was held rolled its transaction back: the connection is as good as new.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, source: rusqlite::Error) -> Error {
        Error::Sqlite {
            path: self.path.clone(),
            source,
        }
    }

    /// Runs `body` in one read transaction: all it sees is of one moment.
    pub fn read<T>(&self, body: impl FnOnce(&Reader) -> SqlResult<T>) -> Result<T> {
        let mut guard = self.lock();
        let transaction = guard.transaction().map_err(|source| self.error(source))?;
        body(&Reader {
            connection: &transaction,
        })
        .map_err(|source| self.error(source))
    }

    /// Runs `body` in one write transaction, and commits it if `body` returns `Ok`.
    ///
    /// `body` may fail with any error that an SQLite error can become; on failure all is undone.
    pub fn write<T, E: From<Error>>(
        &self,
        body: impl FnOnce(&Writer) -> std::result::Result<T, WriteError<E>>,
    ) -> std::result::Result<T, E> {
        self.transact(true, body)
    }

    /// Like [`write`](Catalog::write), for what no prune looks at: it does not count as a change.
    pub fn write_aside<T, E: From<Error>>(
        &self,
        body: impl FnOnce(&Writer) -> std::result::Result<T, WriteError<E>>,
    ) -> std::result::Result<T, E> {
        self.transact(false, body)
    }

    fn transact<T, E: From<Error>>(
        &self,
        counts: bool,
        body: impl FnOnce(&Writer) -> std::result::Result<T, WriteError<E>>,
    ) -> std::result::Result<T, E> {
        let mut guard = self.lock();
        let run = || -> std::result::Result<T, WriteError<E>> {
            let transaction = guard.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let before = transaction.total_changes();
            let value = body(&Writer {
                reader: Reader {
                    connection: &transaction,
                },
                actor: &self.actor,
                before,
                counts,
            })?;
            let changed = counts && transaction.total_changes() != before;
            if changed {
                schema::count_change(&transaction)?;
            }
            transaction.commit()?;
            self.counted.fetch_add(changed.into(), Ordering::Relaxed);
            Ok(value)
        };
        run().map_err(|error| match error {
            WriteError::Sqlite(source) => E::from(self.error(source)),
            WriteError::Caller(error) => error,
        })
    }

    /// A reader with a connection of its own, for long reads beside this process's writers.
    pub fn snapshot<T>(&self, body: impl FnOnce(&Reader) -> SqlResult<T>) -> Result<T> {
        let run = || {
            let mut connection = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            // Who reads tables from end to end comes back to no page.
            connection.pragma_update(None, "cache_size", -2048)?;
            let transaction = connection.transaction()?;
            body(&Reader {
                connection: &transaction,
            })
        };
        run().map_err(|source| self.error(source))
    }

    /// What is wrong with the file itself, as SQLite tells it; nothing, where nothing is. The
    /// quick form leaves out whether indexes and tables agree.
    pub fn damage(&self, quick: bool) -> Result<Vec<String>> {
        let pragma = if quick {
            "quick_check"
        } else {
            "integrity_check"
        };
        let run = || -> SqlResult<Vec<String>> {
            // A connection of its own: it reads all pages, and writers need not wait for that.
            let connection = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            let mut statement = connection.prepare(&format!("PRAGMA {pragma}(8)"))?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        let error = match run() {
            Ok(lines) => return Ok(lines.into_iter().filter(|line| line != "ok").collect()),
            Err(source) => self.error(source),
        };
        if error.is_damage() {
            return Ok(vec![error.to_string()]);
        }
        Err(error)
    }

    /// How many of the changes that [`Reader::changes`] counts were made through this catalog since
    /// it was opened.
    pub fn own_changes(&self) -> i64 {
        self.counted.load(Ordering::Relaxed)
    }

    /// What changes with every change, by whatever connection.
    pub fn version(&self) -> Result<Version> {
        self.read(|tx| tx.version())
    }

    /// Lets the write-ahead log grow to so many pages of 4 KiB before it is moved into the file
    /// (1,000 unless told). Each move waits for the disk twice, and writes again what many
    /// transactions have touched.
    pub fn let_log_grow(&self, pages: u64) -> Result<()> {
        let pages = i64::try_from(pages).unwrap_or(i64::MAX);
        // Nor is it cut on the way, only to be written longer again.
        let set = |c: &Connection| {
            c.pragma_update(None, "wal_autocheckpoint", pages)?;
            c.pragma_update(None, "journal_size_limit", pages.saturating_mul(4_096))
        };
        set(&self.lock()).map_err(|source| self.error(source))
    }

    /// Moves as much of the write-ahead log into the file as can be without waiting for anybody. The
    /// next transaction of this process then begins the log anew, and whoever opens the catalog
    /// next has less of it to read: a megabyte takes a millisecond.
    fn fold_log(&self) -> Result<()> {
        let run = |c: &Connection| c.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        run(&self.lock()).map_err(|source| self.error(source))
    }

    /// The same, where the log has at least so many pages of 4 KiB. For lack of space it is left as it
    /// is: what is in it is safe there.
    pub fn fold_long_log(&self, pages: i64) -> Result<()> {
        // Busy, pages in the log, pages of them that are in the file.
        let look = |c: &Connection| {
            c.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| {
                row.get::<_, i64>(1)
            })
        };
        let length = look(&self.lock()).map_err(|source| self.error(source))?;
        if length < pages {
            return Ok(());
        }
        match self.fold_log() {
            Err(error) if !error.is_no_space() => Err(error),
            _ => Ok(()),
        }
    }

    /// Runs `body` while so many KiB of the file may be kept in memory, and gives them back.
    pub fn with_cache<T>(&self, kib: i64, body: impl FnOnce() -> Result<T>) -> Result<T> {
        self.set_cache(kib)?;
        let value = body();
        self.set_cache(CACHE)?;
        value
    }

    /// Says how many KiB of the file may be kept in memory from now on, and gives back what is.
    pub fn set_cache(&self, kib: i64) -> Result<()> {
        let set = |c: &Connection| {
            c.pragma_update(None, "cache_size", -kib)?;
            c.execute_batch("PRAGMA shrink_memory")
        };
        set(&self.lock()).map_err(|source| self.error(source))
    }

    /// Moves the write-ahead log into the file and cuts it: without it a log of a long prune
    /// stays as large as it ever was. That readers are in the way is no error.
    pub fn checkpoint(&self) -> Result<()> {
        let run = |c: &Connection| c.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        match run(&self.lock()) {
            Err(error) if error.sqlite_error_code() != Some(rusqlite::ErrorCode::DatabaseBusy) => {
                Err(self.error(error))
            }
            _ => Ok(()),
        }
    }
}

/// An error inside [`Catalog::write`]: SQLite's, or the caller's own.
#[derive(Debug)]
pub enum WriteError<E> {
    /// SQLite's; told with the catalog's path.
    Sqlite(rusqlite::Error),
    /// The caller's.
    Caller(E),
}

impl<E> From<rusqlite::Error> for WriteError<E> {
    fn from(error: rusqlite::Error) -> Self {
        WriteError::Sqlite(error)
    }
}

/// Moves the catalog at `path`, and its write-ahead log with it, into `directory`. Returns where
/// it is. The caller holds the store's lock.
pub fn move_away(path: &Path, directory: &Path, now: Millis) -> fsutil::Result<PathBuf> {
    fsutil::create_dir_all(directory)?;
    let moved_to = directory.join(format!("catalog.db.{now}"));
    let with = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    // The log first: a new catalog must not find the log of an old one.
    for suffix in ["-wal", ""] {
        let from = with(path, suffix);
        match std::fs::rename(&from, with(&moved_to, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(fsutil::Error::new("rename", from, error));
            }
            _ => {}
        }
    }
    fsutil::remove_file(&with(path, "-shm"))?;
    Ok(moved_to)
}

/// How much of the file is kept in memory, as far as pages are touched: KiB. A transaction that
/// takes thousands of rows out of a million comes back to the same pages of the indexes again and
/// again.
const CACHE: i64 = 32_768;

fn connect(path: &Path, flags: OpenFlags) -> SqlResult<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(60))?;
    // Whoever happens to be the last to close would pay two fsyncs for everybody's writes; the
    // log is moved into the file when it has grown, and by a prune.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "cache_size", -CACHE)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = NORMAL;
         PRAGMA journal_size_limit = 8388608;
         PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn temporary() -> (tempfile::TempDir, Catalog) {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.db")).unwrap();
        (dir, catalog)
    }

    #[test]
    fn a_new_catalog_is_fresh_and_an_old_one_is_not() {
        let (dir, catalog) = temporary();
        assert!(catalog.is_fresh());
        assert!(Catalog::is_current(catalog.path()));
        assert!(
            !Catalog::open(&dir.path().join("catalog.db"))
                .unwrap()
                .is_fresh()
        );
    }

    #[test]
    fn a_newer_format_is_refused_and_left_as_it_is() {
        let (dir, catalog) = temporary();
        catalog
            .lock()
            .execute_batch("PRAGMA user_version = 9999")
            .unwrap();
        let error = Catalog::open(&dir.path().join("catalog.db")).unwrap_err();
        assert!(matches!(error, Error::Newer { found: 9999, .. }), "{error}");
    }

    #[test]
    fn a_torn_file_is_told_as_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        assert!(Catalog::open(&path).unwrap_err().is_damage());
    }

    #[test]
    fn whoever_writes_knows_the_version_that_follows() {
        let (dir, catalog) = temporary();
        for value in ["", "a", "b"] {
            let foretold = catalog
                .write(|tx| {
                    if !value.is_empty() {
                        tx.set_meta("x", value)?;
                    }
                    Ok::<_, WriteError<Error>>(tx.version_after()?)
                })
                .unwrap();
            assert_eq!(catalog.version().unwrap(), foretold);
        }
        let before = catalog.version().unwrap();
        let other = Catalog::open(&dir.path().join("catalog.db")).unwrap();
        other
            .write(|tx| Ok::<_, WriteError<Error>>(tx.set_meta("x", "c")?))
            .unwrap();
        assert_ne!(catalog.version().unwrap(), before);
    }

    #[test]
    fn a_long_log_is_begun_anew_by_the_write_after_it_was_folded() {
        let (dir, catalog) = temporary();
        let path = dir.path().join("catalog.db");
        catalog.let_log_grow(1_000_000).unwrap();
        let write = |catalog: &Catalog, text: String| {
            catalog
                .write(|tx| Ok::<_, WriteError<Error>>(tx.set_meta("x", &text)?))
                .unwrap();
        };
        let frames = |catalog: &Catalog| {
            let look = "PRAGMA wal_checkpoint(NOOP)";
            let number = |row: &rusqlite::Row| row.get::<_, i64>(1);
            catalog.lock().query_row(look, [], number).unwrap()
        };
        write(&catalog, "x".repeat(4096 * 100));
        let long = frames(&catalog);
        assert!(long >= 100, "{long}");
        drop(catalog);
        // As by the next command, which knows nothing of what this one did.
        let next = Catalog::open(&path).unwrap();
        next.fold_long_log(long + 1).unwrap();
        write(&next, "y".to_owned());
        assert!(frames(&next) > long, "not long enough");
        next.fold_long_log(long).unwrap();
        write(&next, "z".to_owned());
        assert!(frames(&next) < 20, "{}", frames(&next));
        assert_eq!(next.read(|tx| tx.meta("x")).unwrap().as_deref(), Some("z"));
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let (_dir, catalog) = temporary();
        let failed: std::result::Result<(), Error> = catalog.write(|tx| {
            tx.set_meta("x", "y")?;
            Err(WriteError::Sqlite(rusqlite::Error::InvalidQuery))
        });
        assert!(failed.is_err());
        assert_eq!(catalog.read(|tx| tx.meta("x")).unwrap(), None);
    }
}

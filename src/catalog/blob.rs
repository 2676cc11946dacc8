//! Blobs.

use rusqlite::{OptionalExtension, Row, params};

use super::{Millis, Reader, SqlResult, Writer};
use crate::oci::Digest;

/// The number of a blob in the catalog: it only grows, and is never used twice.
pub type BlobId = i64;

/// What a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum BlobKind {
    /// Not looked at, or nothing known.
    Unknown = 0,
    /// An image index.
    Index = 1,
    /// A manifest, of an image or an artifact.
    Manifest = 2,
    /// A config.
    Config = 3,
    /// A layer.
    Layer = 4,
    /// A document of an unknown type, or what one points at.
    Other = 5,
}

impl BlobKind {
    /// The kind with this number.
    pub fn from_number(number: i64) -> BlobKind {
        match number {
            1 => BlobKind::Index,
            2 => BlobKind::Manifest,
            3 => BlobKind::Config,
            4 => BlobKind::Layer,
            5 => BlobKind::Other,
            _ => BlobKind::Unknown,
        }
    }
}

/// A row of `blob`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRow {
    /// Its number.
    pub id: BlobId,
    /// Its digest.
    pub digest: Digest,
    /// Bytes; of an absent blob, what a descriptor claims.
    pub size: u64,
    /// Bytes that the file system allocated.
    pub allocated: u64,
    /// What it is.
    pub kind: BlobKind,
    /// Whether there is a file.
    pub present: bool,
    /// Whether an rstore wrote it.
    pub ours: bool,
    /// Empty once it is known to be on the disk; else the boot under which it was written.
    pub boot: String,
    /// Why it cannot be understood.
    pub damage: Option<String>,
    /// When the catalog first heard of it.
    pub first_seen: Millis,
    /// When it was last used.
    pub last_used: Millis,
    /// When a prune condemned it.
    pub condemned: Option<Millis>,
}

/// The part of a row of `blob` by which it is decided whether there is more to record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its number.
    pub id: BlobId,
    /// What it is.
    pub kind: BlobKind,
    /// Whether there is a file.
    pub present: bool,
    /// Whether a prune has condemned it.
    pub condemned: bool,
    /// Whether it cannot be understood.
    pub damaged: bool,
    /// Whether its media type is known.
    pub typed: bool,
}

impl Known {
    /// Whether a descriptor has nothing to add.
    pub fn is_described(&self) -> bool {
        self.kind != BlobKind::Unknown && self.typed
    }

    /// Whether there is a file, to stay.
    pub fn is_here(&self) -> bool {
        self.present && !self.condemned
    }
}

/// The part of a row of `blob` that a graph keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRow {
    /// Its number.
    pub id: BlobId,
    /// Its digest.
    pub digest: Digest,
    /// Bytes; of an absent blob, what a descriptor claims.
    pub size: u64,
    /// Bytes that the file system allocated.
    pub allocated: u64,
    /// What it is.
    pub kind: BlobKind,
    /// Whether there is a file.
    pub present: bool,
    /// Whether an rstore wrote it.
    pub ours: bool,
    /// Whether it cannot be understood.
    pub damaged: bool,
    /// Whether a prune has condemned it.
    pub condemned: bool,
    /// When the catalog first heard of it.
    pub first_seen: Millis,
    /// When it was last used.
    pub last_used: Millis,
}

/// What is needed to record a blob that is, or is about to be, on the disk.
#[derive(Debug, Clone, Copy)]
pub struct NewBlob<'a> {
    /// Its digest.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Bytes that the file system allocated.
    pub allocated: u64,
    /// What it is.
    pub kind: BlobKind,
    /// Its media type, where known.
    pub media_type: &'a str,
    /// Whether an rstore wrote it.
    pub ours: bool,
    /// The boot under which it was written and not yet fsynced; empty: it is on the disk.
    pub boot: &'a str,
}

const COLUMNS: &str = "id, digest, size, allocated, kind, present, ours, boot, damage, first_seen, last_used, condemned";

fn blob_row(row: &Row) -> SqlResult<BlobRow> {
    blob_row_from(row, 0)
}

/// The columns `id, digest, size, allocated, kind, present, ours, boot, damage, first_seen,
/// last_used, condemned` from column `at` on.
pub(super) fn blob_row_from(row: &Row, at: usize) -> SqlResult<BlobRow> {
    Ok(BlobRow {
        id: row.get(at)?,
        digest: digest_column(row, at + 1)?,
        size: row.get::<_, i64>(at + 2)? as u64,
        allocated: row.get::<_, i64>(at + 3)? as u64,
        kind: BlobKind::from_number(row.get(at + 4)?),
        present: row.get(at + 5)?,
        ours: row.get(at + 6)?,
        boot: row.get(at + 7)?,
        damage: row.get(at + 8)?,
        first_seen: row.get(at + 9)?,
        last_used: row.get(at + 10)?,
        condemned: row.get(at + 11)?,
    })
}

/// The digest in column `index`.
pub(super) fn digest_column(row: &Row, index: usize) -> SqlResult<Digest> {
    let bytes: [u8; 32] = row.get(index)?;
    Ok(Digest::from_bytes(bytes))
}

impl Reader<'_> {
    /// The row of a digest.
    pub fn blob(&self, digest: &Digest) -> SqlResult<Option<BlobRow>> {
        self.connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM blob WHERE digest = ?1"))?
            .query_row([digest.as_bytes()], blob_row)
            .optional()
    }

    /// The row with a number.
    pub fn blob_by_id(&self, id: BlobId) -> SqlResult<Option<BlobRow>> {
        self.connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM blob WHERE id = ?1"))?
            .query_row([id], blob_row)
            .optional()
    }

    /// What is known of a digest, without its texts: half the time of [`Reader::blob`].
    pub fn known(&self, digest: &Digest) -> SqlResult<Option<Known>> {
        self.connection
            .prepare_cached(
                "SELECT id, kind + 16 * present + 32 * (condemned IS NOT NULL)
                     + 64 * (damage IS NOT NULL) + 128 * (media_type <> '')
                 FROM blob WHERE digest = ?1",
            )?
            .query_row([digest.as_bytes()], |row| {
                let packed: i64 = row.get(1)?;
                Ok(Known {
                    id: row.get(0)?,
                    kind: BlobKind::from_number(packed & 15),
                    present: packed >> 4 & 1 == 1,
                    condemned: packed >> 5 & 1 == 1,
                    damaged: packed >> 6 & 1 == 1,
                    typed: packed >> 7 & 1 == 1,
                })
            })
            .optional()
    }

    /// How many blobs have a file.
    pub fn count_present(&self) -> SqlResult<usize> {
        let count: i64 = self
            .connection
            .prepare_cached("SELECT count(*) FROM blob WHERE present")?
            .query_row([], |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Whether the file of a digest can be what its name says: it is recorded, not condemned, and
    /// known to be on the disk or written under this very boot.
    pub fn is_trusted(&self, digest: &Digest, boot: &str) -> SqlResult<bool> {
        let row = self.blob(digest)?;
        Ok(row.is_some_and(|row| {
            row.present && row.condemned.is_none() && (row.boot.is_empty() || row.boot == boot)
        }))
    }

    /// Every blob, by number.
    pub fn each_blob(&self, mut each: impl FnMut(BlobRow)) -> SqlResult<()> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM blob ORDER BY id"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(blob_row(row)?);
        }
        Ok(())
    }

    /// Every blob, by number, with no more of it than a graph of all blobs keeps: half the time of
    /// [`Reader::each_blob`].
    pub fn each_node(&self, mut each: impl FnMut(NodeRow)) -> SqlResult<()> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, digest, size, allocated, first_seen, last_used,
                 kind + 16 * present + 32 * ours + 64 * (damage IS NOT NULL)
                     + 128 * (condemned IS NOT NULL)
             FROM blob ORDER BY id",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let packed: i64 = row.get(6)?;
            each(NodeRow {
                id: row.get(0)?,
                digest: digest_column(row, 1)?,
                size: row.get::<_, i64>(2)? as u64,
                allocated: row.get::<_, i64>(3)? as u64,
                first_seen: row.get(4)?,
                last_used: row.get(5)?,
                kind: BlobKind::from_number(packed & 15),
                present: packed >> 4 & 1 == 1,
                ours: packed >> 5 & 1 == 1,
                damaged: packed >> 6 & 1 == 1,
                condemned: packed >> 7 & 1 == 1,
            });
        }
        Ok(())
    }

    /// The largest number used so far in `blob`, `links`, `lease_pin` and `pin`: what is newer than
    /// a moment has larger ones.
    pub fn high_water(&self) -> SqlResult<HighWater> {
        let last = |table: &str| {
            self.connection
                .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = ?1")?
                .query_row([table], |row| row.get(0))
                .optional()
                .map(|n| n.unwrap_or(0))
        };
        Ok(HighWater {
            blob: last("blob")?,
            edge: last("links")?,
            lease_pin: last("lease_pin")?,
            pin: last("pin")?,
            snapshot: last("snapshot")?,
        })
    }

    /// Every condemned blob, by number.
    pub fn each_condemned_blob(
        &self,
        mut each: impl FnMut(BlobId, Digest, BlobKind),
    ) -> SqlResult<()> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, digest, kind FROM blob WHERE condemned IS NOT NULL ORDER BY id",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let kind = BlobKind::from_number(row.get(2)?);
            each(row.get(0)?, digest_column(row, 1)?, kind);
        }
        Ok(())
    }

    /// Whether a blob is condemned.
    pub fn is_condemned(&self, id: BlobId) -> SqlResult<bool> {
        self.connection
            .prepare_cached("SELECT condemned IS NOT NULL FROM blob WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .optional()
            .map(|condemned| condemned.unwrap_or(false))
    }

    /// Blobs that are condemned, documents before what they point at, at most `limit`.
    pub fn condemned_blobs(&self, limit: usize) -> SqlResult<Vec<BlobRow>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM blob WHERE condemned IS NOT NULL
             ORDER BY CASE kind WHEN 1 THEN 0 WHEN 2 THEN 1 WHEN 5 THEN 2 WHEN 3 THEN 3 ELSE 4 END, id
             LIMIT ?1"
        ))?;
        statement.query_map([limit as i64], blob_row)?.collect()
    }
}

/// The numbers of the newest rows at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HighWater {
    /// Of `blob`.
    pub blob: i64,
    /// Of `edge`.
    pub edge: i64,
    /// Of `lease_pin`.
    pub lease_pin: i64,
    /// Of `pin`.
    pub pin: i64,
    /// Of `snapshot`.
    pub snapshot: i64,
}

impl Writer<'_> {
    /// Records that a blob is on the disk, or is about to be renamed there by the caller, who
    /// holds a lease. A condemned one is rescued; what is known of it is kept where `new` knows
    /// less.
    pub fn put_blob(&self, new: NewBlob, now: Millis) -> SqlResult<BlobId> {
        self.connection
            .prepare_cached(
                "INSERT INTO blob (digest, size, allocated, kind, media_type, present, ours, boot, first_seen, last_used)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, ?8, ?8)
                 ON CONFLICT (digest) DO UPDATE SET
                     size = excluded.size,
                     allocated = excluded.allocated,
                     kind = CASE WHEN excluded.kind = 0 THEN kind ELSE excluded.kind END,
                     media_type = CASE WHEN excluded.media_type = '' THEN media_type ELSE excluded.media_type END,
                     ours = max(ours, excluded.ours),
                     boot = CASE WHEN present AND condemned IS NULL AND boot IN ('', excluded.boot) THEN boot ELSE excluded.boot END,
                     present = 1,
                     damage = NULL,
                     last_used = max(last_used, excluded.last_used),
                     condemned = NULL
                 RETURNING id",
            )?
            .query_row(
                params![
                    new.digest.as_bytes(),
                    new.size as i64,
                    new.allocated as i64,
                    new.kind as i64,
                    new.media_type,
                    new.ours,
                    new.boot,
                    now
                ],
                |row| row.get(0),
            )
    }

    /// The number of a digest that some document points at, whether or not there is a file.
    pub fn refer_blob(
        &self,
        digest: &Digest,
        size: u64,
        kind: BlobKind,
        media_type: &str,
        now: Millis,
    ) -> SqlResult<BlobId> {
        // Most are known, with all there is to say. An insertion that meets a row takes a number
        // all the same, and numbers without rows cost whoever reads a graph.
        match self.known(digest)? {
            Some(known) if known.is_described() => Ok(known.id),
            _ => self.describe_blob(digest, size, kind, media_type, now),
        }
    }

    /// The same of one of which not everything is known yet.
    pub fn describe_blob(
        &self,
        digest: &Digest,
        size: u64,
        kind: BlobKind,
        media_type: &str,
        now: Millis,
    ) -> SqlResult<BlobId> {
        self.connection
            .prepare_cached(
                "INSERT INTO blob (digest, size, kind, media_type, present, ours, first_seen, last_used)
                 VALUES (?1, ?2, ?3, ?4, 0, 0, ?5, ?5)
                 ON CONFLICT (digest) DO UPDATE SET
                     kind = CASE WHEN kind = 0 THEN excluded.kind ELSE kind END,
                     media_type = CASE WHEN media_type = '' THEN excluded.media_type ELSE media_type END
                 RETURNING id",
            )?
            .query_row(params![digest.as_bytes(), size as i64, kind as i64, media_type, now], |row| {
                row.get(0)
            })
    }

    /// Says what a blob is.
    pub fn set_kind(&self, id: BlobId, kind: BlobKind) -> SqlResult<()> {
        self.connection
            .prepare_cached("UPDATE blob SET kind = ?2 WHERE id = ?1")?
            .execute(params![id, kind as i64])
            .map(drop)
    }

    /// Says that a document cannot be understood, and why; `None` takes it back.
    pub fn set_damage(&self, id: BlobId, damage: Option<&str>) -> SqlResult<()> {
        self.connection
            .prepare_cached("UPDATE blob SET damage = ?2 WHERE id = ?1")?
            .execute(params![id, damage])
            .map(drop)
    }

    /// Says that there is no file.
    pub fn set_absent(&self, id: BlobId) -> SqlResult<()> {
        self.connection
            .prepare_cached(
                "UPDATE blob SET present = 0, allocated = 0, condemned = NULL WHERE id = ?1",
            )?
            .execute([id])
            .map(drop)
    }

    /// Says how many bytes a file has, and how many the file system allocated.
    pub fn set_size(&self, id: BlobId, size: u64, allocated: u64) -> SqlResult<()> {
        self.connection
            .prepare_cached("UPDATE blob SET size = ?2, allocated = ?3 WHERE id = ?1")?
            .execute(params![id, size as i64, allocated as i64])
            .map(drop)
    }

    /// Says that a blob's bytes are on the disk.
    pub fn set_durable(&self, id: BlobId) -> SqlResult<()> {
        self.connection
            .prepare_cached("UPDATE blob SET boot = '' WHERE id = ?1")?
            .execute([id])
            .map(drop)
    }

    /// Condemns a blob: its document rows go at once, so that nothing finds it any more; its file
    /// goes in a sweep, unless a writer rescues it first.
    pub fn condemn_blob(&self, id: BlobId, now: Millis) -> SqlResult<()> {
        self.connection
            .prepare_cached("UPDATE blob SET condemned = ?2 WHERE id = ?1 AND condemned IS NULL")?
            .execute(params![id, now])?;
        self.forget_document(id)
    }

    /// Condemns the blobs of these numbers, all of them leaves: each run of numbers that follow
    /// one another with one statement, which costs a fifth of one for each. `ids` are sorted.
    pub fn condemn_leaves(&self, ids: &[BlobId], now: Millis) -> SqlResult<()> {
        let (config, layer) = (BlobKind::Config as i64, BlobKind::Layer as i64);
        let mut statement = self.connection.prepare_cached(
            "UPDATE blob SET condemned = ?3
             WHERE id BETWEEN ?1 AND ?2 AND condemned IS NULL AND kind IN (?4, ?5)",
        )?;
        for run in runs(ids) {
            let changed =
                statement.execute(params![run[0], run[run.len() - 1], now, config, layer])?;
            if changed != run.len() {
                // One is condemned already, or has turned out to be a document.
                run.iter().try_for_each(|id| self.condemn_blob(*id, now))?;
            }
        }
        Ok(())
    }

    /// Takes a condemnation back, of a blob whose file is still there. A document's rows are gone
    /// by then: the caller records it again.
    pub fn rescue_blob(&self, id: BlobId) -> SqlResult<()> {
        self.connection
            .prepare_cached("UPDATE blob SET condemned = NULL WHERE id = ?1")?
            .execute([id])
            .map(drop)
    }

    /// Forgets what a document said: edges, image, links, cache records that lead to it.
    pub fn forget_document(&self, id: BlobId) -> SqlResult<()> {
        self.forget_edges(id)?;
        for statement in [
            "DELETE FROM image WHERE manifest = ?1",
            "DELETE FROM stage_link WHERE image = ?1",
            "DELETE FROM cache_record WHERE image = ?1",
        ] {
            self.connection.prepare_cached(statement)?.execute([id])?;
        }
        Ok(())
    }

    /// Forgets swept blobs, but for those that a writer has made again since, which are condemned
    /// no more.
    ///
    /// `ids` are best in the order of their digests, where they are of one part of the table: that
    /// part is small enough to stay in memory, and the index of all digests, which is not, is then
    /// gone through once from end to end.
    pub fn forget_blobs(&self, mut ids: Vec<BlobId>) -> SqlResult<()> {
        let prepare = |text| self.connection.prepare_cached(text);
        let mut blobs = prepare("DELETE FROM blob WHERE id = ?1 AND condemned IS NOT NULL")?;
        let mut forgotten = 0;
        for id in &ids {
            forgotten += blobs.execute([id])?;
        }
        let mut layers = prepare(match forgotten == ids.len() {
            true => "DELETE FROM layer WHERE blob BETWEEN ?1 AND ?2",
            false => {
                "DELETE FROM layer WHERE blob BETWEEN ?1 AND ?2
                     AND NOT EXISTS (SELECT 1 FROM blob WHERE id = layer.blob)"
            }
        })?;
        ids.sort_unstable();
        for run in runs(&ids) {
            layers.execute(params![run[0], run[run.len() - 1]])?;
        }
        // The commit would write it, and by then nobody works beside it any more.
        self.connection.cache_flush()
    }
}

/// The runs of numbers that follow one another.
fn runs(ids: &[BlobId]) -> impl Iterator<Item = &[BlobId]> {
    ids.chunk_by(|one, next| *next == one + 1)
}

#[cfg(test)]
mod tests {
    use super::super::{Error, tests::temporary};
    use super::*;

    fn new(digest: Digest) -> NewBlob<'static> {
        NewBlob {
            digest,
            size: 3,
            allocated: 4096,
            kind: BlobKind::Layer,
            media_type: "",
            ours: true,
            boot: "boot",
        }
    }

    #[test]
    fn putting_a_condemned_blob_rescues_it() {
        let (_dir, catalog) = temporary();
        let digest = Digest::of(b"x");
        catalog
            .write::<_, Error>(|tx| {
                let id = tx.put_blob(new(digest), 1)?;
                tx.condemn_blob(id, 2)?;
                assert_eq!(tx.condemned_blobs(10)?.len(), 1);
                assert_eq!(tx.put_blob(new(digest), 3)?, id);
                assert!(tx.condemned_blobs(10)?.is_empty());
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn forgetting_leaves_what_was_made_again_whatever_the_order() {
        let (_dir, catalog) = temporary();
        catalog
            .write::<_, Error>(|tx| {
                let mut ids = Vec::new();
                for text in ["a", "b", "c", "d", "e"] {
                    let digest = Digest::of(text.as_bytes());
                    let id = tx.put_blob(new(digest), 1)?;
                    tx.put_layer(id, &digest, None, None)?;
                    tx.condemn_blob(id, 2)?;
                    ids.push(id);
                }
                let stays = tx.put_blob(new(Digest::of(b"c")), 3)?;
                assert_eq!(stays, ids[2]);
                tx.forget_blobs(vec![ids[3], ids[0], ids[2], ids[1]])?;
                let (mut blobs, mut layers) = (Vec::new(), Vec::new());
                tx.each_node(|row| blobs.push(row.id))?;
                tx.each_layer(|row| layers.push(row.blob))?;
                assert_eq!((&blobs, &layers), (&vec![stays, ids[4]], &blobs));
                tx.forget_blobs(vec![ids[4]])?;
                assert!(tx.blob_by_id(ids[4])?.is_none() && tx.layer(ids[4])?.is_none());
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn what_is_known_is_what_the_row_says() {
        let (_dir, catalog) = temporary();
        catalog
            .write::<_, Error>(|tx| {
                let (whole, absent) = (Digest::of(b"whole"), Digest::of(b"absent"));
                assert_eq!(tx.known(&whole)?, None);
                let id = tx.put_blob(new(whole), 1)?;
                let known = Known {
                    id,
                    kind: BlobKind::Layer,
                    present: true,
                    condemned: false,
                    damaged: false,
                    typed: false,
                };
                assert_eq!(tx.known(&whole)?, Some(known));
                assert!(known.is_here() && !known.is_described());
                tx.refer_blob(&whole, 3, BlobKind::Config, "text/x", 2)?;
                let typed = Known {
                    typed: true,
                    ..known
                };
                assert_eq!(tx.known(&whole)?, Some(typed));
                tx.condemn_blob(id, 3)?;
                tx.set_damage(id, Some("torn"))?;
                let condemned = tx.known(&whole)?.unwrap();
                assert!(condemned.condemned && condemned.damaged && !condemned.is_here());
                tx.refer_blob(&absent, 7, BlobKind::Config, "text/x", 3)?;
                let absent = tx.known(&absent)?.unwrap();
                assert!(!absent.present && absent.is_described());
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_node_says_the_same_as_its_row() {
        let (_dir, catalog) = temporary();
        catalog
            .write::<_, Error>(|tx| {
                let ours = tx.put_blob(new(Digest::of(b"ours")), 1)?;
                let foreign = NewBlob {
                    ours: false,
                    kind: BlobKind::Other,
                    ..new(Digest::of(b"theirs"))
                };
                let foreign = tx.put_blob(foreign, 2)?;
                tx.refer_blob(&Digest::of(b"absent"), 7, BlobKind::Config, "", 3)?;
                tx.condemn_blob(ours, 4)?;
                tx.set_damage(foreign, Some("torn"))?;
                let (mut rows, mut nodes) = (Vec::new(), Vec::new());
                tx.each_blob(|row| {
                    rows.push((row.id, row.kind, row.present, row.ours));
                    rows.push((0, row.kind, row.damage.is_some(), row.condemned.is_some()));
                })?;
                tx.each_node(|node| {
                    nodes.push((node.id, node.kind, node.present, node.ours));
                    nodes.push((0, node.kind, node.damaged, node.condemned));
                })?;
                assert_eq!(rows, nodes);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_referred_blob_becomes_present_under_the_same_number() {
        let (_dir, catalog) = temporary();
        let digest = Digest::of(b"x");
        catalog
            .write::<_, Error>(|tx| {
                let id = tx.refer_blob(&digest, 3, BlobKind::Config, "", 1)?;
                assert!(!tx.blob(&digest)?.unwrap().present);
                assert_eq!(
                    tx.put_blob(
                        NewBlob {
                            kind: BlobKind::Unknown,
                            ..new(digest)
                        },
                        2
                    )?,
                    id
                );
                let row = tx.blob(&digest)?.unwrap();
                assert!(row.present && row.kind == BlobKind::Config);
                Ok(())
            })
            .unwrap();
    }
}

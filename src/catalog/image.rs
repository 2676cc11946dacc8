//! Images (manifests, with what lists show of them), their parents and stages, and layers.

use std::collections::BTreeSet;

use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Row, params};

use super::blob::{BlobId, BlobRow, blob_row_from, digest_column};
use super::{Millis, Reader, SqlResult, Writer};
use crate::oci::Digest;
use crate::oci::document::Role;

/// A row of `image`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// The manifest.
    pub manifest: BlobId,
    /// The config; its digest is the image's ID.
    pub config: BlobId,
    /// The image that the step started from; the blob may be gone.
    pub parent: Option<BlobId>,
    /// The instruction that made it.
    pub step: Option<String>,
    /// `created` of the config: for display, never for age.
    pub created: Option<Millis>,
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// Bytes of manifest, config and layers as stored.
    pub size: u64,
    /// The config's labels, a JSON object.
    pub labels: String,
    /// When the catalog first saw it.
    pub first_seen: Millis,
    /// When it was last built on, tagged or taken from the cache.
    pub last_used: Millis,
}

/// What is known of a layer besides its blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRow {
    /// The blob.
    pub blob: BlobId,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of the uncompressed tar, where it has been read.
    pub unpacked: Option<u64>,
    /// The step of the first image that was seen with it.
    pub created_by: Option<String>,
}

/// A name of `index.json`, with what a list shows of what it points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRow {
    /// The tag.
    pub name: String,
    /// The digest of what it points at.
    pub digest: Digest,
    /// What that is.
    pub target: NamedTarget,
}

/// What a name points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedTarget {
    /// An image.
    Image(NamedImage),
    /// An index, or no image.
    Other(BlobRow),
}

/// An image, with the digests that its row has as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedImage {
    /// What is known of it.
    pub row: ImageRow,
    /// Its manifest's digest.
    pub digest: Digest,
    /// Its config's digest.
    pub config: Digest,
    /// Its parent's, where the catalog knows that.
    pub parent: Option<Digest>,
}

const COLUMNS: &str =
    "manifest, config, parent, step, created, platform, size, labels, first_seen, last_used";

fn image_row(row: &Row) -> SqlResult<ImageRow> {
    image_row_from(row, 0)
}

/// [`COLUMNS`] from column `at` on.
fn image_row_from(row: &Row, at: usize) -> SqlResult<ImageRow> {
    Ok(ImageRow {
        manifest: row.get(at)?,
        config: row.get(at + 1)?,
        parent: row.get(at + 2)?,
        step: row.get(at + 3)?,
        created: row.get(at + 4)?,
        platform: row.get(at + 5)?,
        size: row.get::<_, i64>(at + 6)? as u64,
        labels: row.get(at + 7)?,
        first_seen: row.get(at + 8)?,
        last_used: row.get(at + 9)?,
    })
}

/// A digest, where the row that an outer join looked for is there.
fn digest_option(row: &Row, at: usize) -> SqlResult<Option<Digest>> {
    match row.get_ref(at)? {
        ValueRef::Null => Ok(None),
        _ => digest_column(row, at).map(Some),
    }
}

impl Reader<'_> {
    /// The image whose manifest has this number.
    pub fn image(&self, manifest: BlobId) -> SqlResult<Option<ImageRow>> {
        self.connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM image WHERE manifest = ?1"))?
            .query_row([manifest], image_row)
            .optional()
    }

    /// Every image, in the order in which they were first recorded.
    pub fn each_image(&self, mut each: impl FnMut(ImageRow)) -> SqlResult<()> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM image ORDER BY manifest"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(image_row(row)?);
        }
        Ok(())
    }

    /// Every name of `index.json` in its order, without reading what names do not point at: a list
    /// of names takes as long as there are names. Of images that are not wanted `in_full` parent,
    /// step and labels are left out, which tables don't show: they take a third of the time.
    pub fn each_named(
        &self,
        in_full: bool,
        mut each: impl FnMut(NamedRow) -> SqlResult<()>,
    ) -> SqlResult<()> {
        let (parent, more, join) = match in_full {
            true => (
                "p.digest",
                ["i.parent", "i.step", "i.labels"],
                "LEFT JOIN blob p ON p.id = i.parent",
            ),
            false => ("NULL", ["NULL", "NULL", "''"], ""),
        };
        let [number, step, labels] = more;
        // One statement: a hundred thousand would take most of the time to begin and to end.
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT e.name, b.digest, c.digest, {parent},
                 i.manifest, i.config, {number}, {step}, i.created, i.platform, i.size, {labels},
                 i.first_seen, i.last_used,
                 b.id, b.digest, b.size, b.allocated, b.kind, b.present, b.ours, b.boot, b.damage,
                 b.first_seen, b.last_used, b.condemned
             FROM index_entry e JOIN blob b ON b.id = e.blob
                 LEFT JOIN image i ON i.manifest = e.blob
                 LEFT JOIN blob c ON c.id = i.config
                 {join}
             WHERE e.name IS NOT NULL ORDER BY e.place"
        ))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let digest = digest_column(row, 1)?;
            // Of most names these columns are not read: they are images.
            let target = match digest_option(row, 2)? {
                Some(config) => NamedTarget::Image(NamedImage {
                    row: image_row_from(row, 4)?,
                    digest,
                    config,
                    parent: digest_option(row, 3)?,
                }),
                None => NamedTarget::Other(blob_row_from(row, 14)?),
            };
            each(NamedRow {
                name: row.get(0)?,
                digest,
                target,
            })?;
        }
        Ok(())
    }

    /// An image with its digests; `None`: the blob is no image.
    pub fn named_image(&self, manifest: BlobId) -> SqlResult<Option<NamedImage>> {
        let Some(row) = self.image(manifest)? else {
            return Ok(None);
        };
        let digest = |id| -> SqlResult<_> { Ok(self.blob_by_id(id)?.map(|blob| blob.digest)) };
        let (Some(own), Some(config)) = (digest(manifest)?, digest(row.config)?) else {
            return Ok(None);
        };
        let parent = row.parent.map(digest).transpose()?.flatten();
        Ok(Some(NamedImage {
            row,
            digest: own,
            config,
            parent,
        }))
    }

    /// The images below an index, and below the indexes in it, by number.
    pub fn members(&self, index: BlobId) -> SqlResult<Vec<NamedImage>> {
        let mut seen = BTreeSet::from([index]);
        let mut pending = vec![index];
        while let Some(source) = pending.pop() {
            for edge in self.edges_from(source)? {
                if edge.role == Role::Child && seen.insert(edge.target) {
                    pending.push(edge.target);
                }
            }
        }
        seen.into_iter()
            .filter_map(|blob| self.named_image(blob).transpose())
            .collect()
    }

    /// How many images there are, with a name or without. What is absent or condemned is none.
    pub fn image_count(&self) -> SqlResult<usize> {
        let count: i64 = self
            .connection
            .prepare_cached("SELECT count(*) FROM image")?
            .query_row([], |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Every (image, stage image) pair, by manifest numbers.
    pub fn each_stage_link(&self, mut each: impl FnMut(BlobId, BlobId)) -> SqlResult<()> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT image, stage FROM stage_link")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(row.get(0)?, row.get(1)?);
        }
        Ok(())
    }

    /// Every layer, by blob number.
    pub fn each_layer(&self, mut each: impl FnMut(LayerRow)) -> SqlResult<()> {
        let mut statement = self.connection.prepare_cached(
            "SELECT blob, diff_id, unpacked, created_by FROM layer ORDER BY blob",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(layer_row(row)?);
        }
        Ok(())
    }

    /// What is known of one layer.
    pub fn layer(&self, blob: BlobId) -> SqlResult<Option<LayerRow>> {
        self.connection
            .prepare_cached(
                "SELECT blob, diff_id, unpacked, created_by FROM layer WHERE blob = ?1",
            )?
            .query_row([blob], layer_row)
            .optional()
    }

    /// IDs of images, from `low` to `high`, at most `limit`: a look into an index, however many
    /// images there are.
    pub fn image_ids_between(
        &self,
        low: &Digest,
        high: &Digest,
        limit: usize,
    ) -> SqlResult<Vec<Digest>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT DISTINCT blob.digest FROM blob JOIN image ON image.config = blob.id
             WHERE blob.digest BETWEEN ?1 AND ?2 ORDER BY blob.digest LIMIT ?3",
        )?;
        statement
            .query_map(
                params![low.as_bytes(), high.as_bytes(), limit as i64],
                |row| digest_column(row, 0),
            )?
            .collect()
    }

    /// Digests of manifests (of images) or of configs whose hexadecimal form starts with `prefix`,
    /// as manifest digests, at most `limit`.
    pub fn images_by_prefix(&self, prefix: &str, limit: usize) -> SqlResult<Vec<Digest>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT m.digest FROM image
             JOIN blob m ON m.id = image.manifest JOIN blob c ON c.id = image.config
             WHERE substr(lower(hex(c.digest)), 1, length(?1)) = ?1
                OR substr(lower(hex(m.digest)), 1, length(?1)) = ?1
             ORDER BY image.manifest LIMIT ?2",
        )?;
        statement
            .query_map(params![prefix, limit as i64], |row| digest_column(row, 0))?
            .collect()
    }
}

fn layer_row(row: &Row) -> SqlResult<LayerRow> {
    Ok(LayerRow {
        blob: row.get(0)?,
        diff_id: digest_column(row, 1)?,
        unpacked: row.get::<_, Option<i64>>(2)?.map(|n| n as u64),
        created_by: row.get(3)?,
    })
}

impl Writer<'_> {
    /// Records an image; what was known of its use is kept.
    pub fn put_image(&self, image: &ImageRow) -> SqlResult<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO image (manifest, config, parent, step, created, platform, size, labels, first_seen, last_used)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                 ON CONFLICT (manifest) DO UPDATE SET
                     config = ?2, parent = ?3, step = ?4, created = ?5, platform = ?6, size = ?7,
                     labels = ?8, last_used = max(last_used, ?10)",
            )?
            .execute(params![
                image.manifest,
                image.config,
                image.parent,
                image.step,
                image.created,
                image.platform,
                image.size as i64,
                image.labels,
                image.first_seen,
                image.last_used
            ])
            .map(drop)
    }

    /// Records that `image`'s step used `stage`.
    pub fn put_stage_link(&self, image: BlobId, stage: BlobId) -> SqlResult<()> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO stage_link VALUES (?1, ?2)")?
            .execute([image, stage])
            .map(drop)
    }

    /// Says which images `image`'s step used, instead of what was known: the same step, taken from
    /// the cache, may now use other images of the same content.
    pub fn replace_stage_links(&self, image: BlobId, stages: &[BlobId]) -> SqlResult<()> {
        self.connection
            .prepare_cached("DELETE FROM stage_link WHERE image = ?1")?
            .execute([image])?;
        stages
            .iter()
            .try_for_each(|stage| self.put_stage_link(image, *stage))
    }

    /// Records what is known of a layer; what was known before stays where this knows less.
    pub fn put_layer(
        &self,
        blob: BlobId,
        diff_id: &Digest,
        unpacked: Option<u64>,
        created_by: Option<&str>,
    ) -> SqlResult<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO layer VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (blob) DO UPDATE SET
                     unpacked = coalesce(excluded.unpacked, unpacked),
                     created_by = coalesce(created_by, excluded.created_by)",
            )?
            .execute(params![
                blob,
                diff_id.as_bytes(),
                unpacked.map(|n| n as i64),
                created_by
            ])
            .map(drop)
    }

    /// Marks an image as used now.
    pub fn touch_image(&self, manifest: BlobId, now: Millis) -> SqlResult<()> {
        self.connection
            .prepare_cached("UPDATE image SET last_used = max(last_used, ?2) WHERE manifest = ?1")?
            .execute(params![manifest, now])
            .map(drop)
    }
}

//! Where documents point: a row a document, its edges packed into one value.
//!
//! A store has ten edges a manifest and reads all of them whenever the graph is made. SQLite takes
//! as long for a row of one edge as for a row of ten.
//!
//! ```text
//! links.targets   | target: 5 bytes, big endian | role: 1 byte | next edge …
//! ```
//! Five bytes number a trillion blobs; a catalog that runs through one number a microsecond has
//! them for twelve days of nothing else.

use rusqlite::{OptionalExtension, params};

use super::blob::BlobId;
use super::{Reader, SqlResult, Writer};
use crate::oci::document::Role;

/// One link between blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The document.
    pub source: BlobId,
    /// What it points at.
    pub target: BlobId,
    /// How.
    pub role: Role,
}

/// The bytes of one packed edge, and those of its target.
const EDGE: usize = 6;
const TARGET: usize = EDGE - 1;

fn pack(targets: &[(BlobId, Role)]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(targets.len() * EDGE);
    for (target, role) in targets {
        debug_assert!(*target >= 0 && *target >> (8 * TARGET) == 0);
        packed.extend_from_slice(&target.to_be_bytes()[8 - TARGET..]);
        packed.push(*role as u8);
    }
    packed
}

fn unpack(packed: &[u8]) -> impl Iterator<Item = (BlobId, Role)> + '_ {
    packed.chunks_exact(EDGE).map(|edge| {
        let mut target = [0; 8];
        target[8 - TARGET..].copy_from_slice(&edge[..TARGET]);
        let role = Role::from_number(edge[TARGET].into()).unwrap_or(Role::Other);
        (BlobId::from_be_bytes(target), role)
    })
}

impl Reader<'_> {
    /// Every edge of the documents whose links were recorded after number `after`, in the order
    /// in which they were, each document's in its own order.
    pub fn each_edge_after(&self, after: i64, mut each: impl FnMut(Edge)) -> SqlResult<()> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT source, targets FROM links WHERE id > ?1 ORDER BY id")?;
        let mut rows = statement.query([after])?;
        while let Some(row) = rows.next()? {
            let source = row.get(0)?;
            for (target, role) in unpack(row.get_ref(1)?.as_blob()?) {
                each(Edge {
                    source,
                    target,
                    role,
                });
            }
        }
        Ok(())
    }

    /// Where a document points, in its own order.
    pub fn edges_from(&self, source: BlobId) -> SqlResult<Vec<Edge>> {
        let edge = |(target, role)| Edge {
            source,
            target,
            role,
        };
        let packed = self.links_of(source)?.unwrap_or_default();
        Ok(unpack(&packed).map(edge).collect())
    }

    fn links_of(&self, source: BlobId) -> SqlResult<Option<Vec<u8>>> {
        self.connection
            .prepare_cached("SELECT targets FROM links WHERE source = ?1")?
            .query_row([source], |row| row.get(0))
            .optional()
    }
}

impl Writer<'_> {
    /// Sets where a document points, in its own order, replacing what was known.
    pub fn put_edges(&self, source: BlobId, targets: &[(BlobId, Role)]) -> SqlResult<()> {
        let packed = pack(targets);
        if self.links_of(source)?.unwrap_or_default() == packed {
            return Ok(());
        }
        self.forget_edges(source)?;
        // A new number, by which those who have read the others see that it has changed.
        self.connection
            .prepare_cached("INSERT INTO links (source, targets) VALUES (?1, ?2)")?
            .execute(params![source, packed])
            .map(drop)
    }

    /// Forgets where a document points.
    pub fn forget_edges(&self, source: BlobId) -> SqlResult<()> {
        self.connection
            .prepare_cached("DELETE FROM links WHERE source = ?1")?
            .execute([source])
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Error;
    use super::super::tests::temporary;
    use super::*;

    #[test]
    fn edges_keep_their_order_and_are_not_rewritten_for_nothing() {
        let (_dir, catalog) = temporary();
        catalog
            .write::<_, Error>(|tx| {
                let far = (1 << 40) - 1;
                let targets = [
                    (7, Role::Config),
                    (9, Role::Layer),
                    (far, Role::Layer),
                    (9, Role::Layer),
                ];
                tx.put_edges(1, &targets)?;
                let mark = tx.high_water()?.edge;
                tx.put_edges(1, &targets)?;
                assert_eq!(tx.high_water()?.edge, mark);
                let order: Vec<i64> = tx.edges_from(1)?.iter().map(|e| e.target).collect();
                assert_eq!(order, [7, 9, far, 9]);
                tx.put_edges(1, &targets[..1])?;
                assert!(tx.high_water()?.edge > mark);
                let mut since = Vec::new();
                tx.each_edge_after(mark, |edge| since.push((edge.source, edge.target)))?;
                assert_eq!(since, [(1, 7)]);
                Ok(())
            })
            .unwrap();
    }
}

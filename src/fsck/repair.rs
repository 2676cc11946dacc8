//! Putting right what can be.
//!
//! Each step looks again before it acts, within the write transaction that records it: between the
//! finding and now a build may have made the blob again, or a prune may have taken it.

use std::path::PathBuf;

use hashbrown::HashSet;

use super::finding::{Finding, Kind, Outcome, Severity};
use super::judge::Digests;
use super::read::{self, Content};
use super::{Check, Look, Result};
use crate::catalog::journal::JournalEntry;
use crate::catalog::tags::{Named, Salvage};
use crate::catalog::{self, Catalog, WriteError, Writer, sync};
use crate::fsutil::{self, IoContext};
use crate::gc::roots::{self, LeaseFiles};
use crate::graph::{ImageGraph, Roles, RootKind};
use crate::layout::Layout;
use crate::oci::Digest;
use crate::oci::document::INDEX_LIMIT;

type TxResult<T> = std::result::Result<T, WriteError<super::Error>>;

fn caller(error: impl Into<super::Error>) -> WriteError<super::Error> {
    WriteError::Caller(error.into())
}

fn lift(error: WriteError<catalog::Error>) -> WriteError<super::Error> {
    match error {
        WriteError::Sqlite(error) => WriteError::Sqlite(error),
        WriteError::Caller(error) => WriteError::Caller(error.into()),
    }
}

fn repaired(how: impl Into<String>) -> Outcome {
    Outcome::Repaired(how.into())
}

fn remains(why: impl Into<String>) -> Outcome {
    Outcome::Remains(why.into())
}

/// Repairs what was found; each finding comes back with what became of it.
pub(super) fn repair(check: &mut Check, mut findings: Vec<Finding>) -> Result<Vec<Finding>> {
    let has = |kind| {
        findings
            .iter()
            .any(|finding: &Finding| finding.kind == kind)
    };
    let mut steps = Steps {
        check,
        names: None,
        index_outcome: None,
        catalog_outcome: None,
    };
    if has(Kind::CatalogDamaged) {
        steps.rebuild_catalog()?;
    }
    if has(Kind::IndexMissing) || has(Kind::IndexInvalid) {
        steps.restore_index()?;
    }
    steps.refill_catalog()?;
    let catalog = steps.check.catalog()?;
    let in_use = match &catalog {
        Some((_, graph)) => in_use(&steps.check.layout, graph)?,
        None => Digests::default(),
    };
    for finding in &mut findings {
        finding.outcome = match (finding.kind, &catalog) {
            (Kind::Marker, _) => Some(steps.marker()?),
            (Kind::IndexMissing | Kind::IndexInvalid, _) => steps.index_outcome.clone(),
            (Kind::CatalogDamaged, _) => steps.catalog_outcome.clone(),
            (Kind::Corrupt | Kind::WrongSize, catalog) => {
                let catalog = catalog.as_ref().map(|(catalog, _)| catalog);
                Some(steps.quarantine(finding, catalog, &in_use)?)
            }
            (_, Some((catalog, graph))) => steps.row(finding, catalog, graph)?,
            (_, None) => None,
        };
    }
    Ok(findings)
}

/// Puts what was done beside what is so now.
pub(super) fn merge(look: &mut Look, done: Vec<Finding>) {
    for finding in &mut look.findings {
        let before = done.iter().find(|before| before.is_same(finding));
        finding.outcome = match before.and_then(|before| before.outcome.clone()) {
            Some(Outcome::Repaired(_)) => Some(remains("repaired, and found again")),
            None if finding.severity == Severity::Note => None,
            None => Some(remains(finding.remedy.clone())),
            some => some,
        };
    }
    let repaired = |finding: &Finding| matches!(finding.outcome, Some(Outcome::Repaired(_)));
    for finding in done.into_iter().filter(repaired) {
        if !look.findings.iter().any(|now| now.is_same(&finding)) {
            look.findings.push(finding);
        }
    }
}

/// What live leases rely on.
fn in_use(layout: &Layout, graph: &ImageGraph) -> Result<Digests> {
    let roots = roots::collect(graph, &LeaseFiles::probe(layout)?);
    let leased = roots.roots.iter();
    let leased = leased.filter(|root| matches!(root.kind, RootKind::Lease { .. }));
    let reached = graph.closure(leased.map(|root| root.node), Roles::RUN);
    Ok(reached.iter().map(|node| graph.node(node).digest).collect())
}

struct Steps<'a, 'c> {
    check: &'a mut Check<'c>,
    /// What index.json named, as far as a damaged catalog could tell.
    names: Option<Vec<Named>>,
    index_outcome: Option<Outcome>,
    catalog_outcome: Option<Outcome>,
}

impl Steps<'_, '_> {
    fn now(&self) -> i64 {
        self.check.options.now
    }

    fn quarantine_path(&self, name: &str) -> Result<PathBuf> {
        let directory = self.check.layout.private().join("quarantine");
        fsutil::create_dir_all(&directory)?;
        let path = directory.join(name);
        // What stands there already stays: it may be the better one.
        if path.symlink_metadata().is_ok() {
            return Ok(directory.join(format!("{name}.{}", self.now())));
        }
        Ok(path)
    }

    // -- the store's own files ----------------------------------------------------------------

    fn marker(&self) -> Result<Outcome> {
        use crate::layout::Marker;
        let root = self.check.layout.root();
        let lock = self.check.layout.lock_index()?;
        Ok(match Layout::marker(root)? {
            Marker::Unknown(version) => {
                remains(format!("version {version} is a later rstore's: use that"))
            }
            Marker::Good | Marker::Missing | Marker::Torn => {
                Layout::write_marker(root, &lock)?;
                repaired("written again")
            }
        })
    }

    fn rebuild_catalog(&mut self) -> Result<()> {
        let path = self.check.catalog_path();
        // A prune at work goes on with the old catalog, and knows nothing of who uses the new one.
        let _prune = match crate::gc::execute::lock(&self.check.layout) {
            Ok(lock) => lock,
            Err(error) if error.is_busy() => {
                self.catalog_outcome = Some(remains(error.to_string()));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let salvage = Salvage::read(&path);
        let quarantine = self.check.layout.private().join("quarantine");
        let lock = self.check.layout.lock_index()?;
        let still = match Catalog::open(&path) {
            Ok(catalog) => !catalog.damage(false)?.is_empty(),
            Err(error) => error.is_damage(),
        };
        if still {
            catalog::move_away(&path, &quarantine, self.now())?;
        }
        drop(lock);
        self.names = salvage.names.clone();
        let lost = match salvage.pins {
            None => "; which images were pinned could not be read: pin them again",
            Some(_) => "",
        };
        self.catalog_outcome = Some(repaired(format!(
            "made again from the blobs, the old one is in quarantine{lost}"
        )));
        // Filled once index.json can be read; pins need what it knows then.
        self.refill_with(&salvage)
    }

    fn refill_with(&mut self, salvage: &Salvage) -> Result<()> {
        if self.check.layout.index().is_err() {
            self.restore_index()?;
        }
        if self.check.layout.index().is_ok() {
            let catalog = Catalog::open(&self.check.catalog_path())?;
            sync::build(&catalog, &self.check.layout, self.now())?;
            salvage.pin_again(&catalog, self.now())?;
        }
        Ok(())
    }

    /// Makes a catalog where there is none, once index.json can be read.
    fn refill_catalog(&mut self) -> Result<()> {
        if self.check.catalog()?.is_none() && self.check.layout.index().is_ok() {
            let _lock = self.check.layout.lock_index()?;
            let catalog = Catalog::open(&self.check.catalog_path())?;
            sync::build(&catalog, &self.check.layout, self.now())?;
        }
        Ok(())
    }

    fn restore_index(&mut self) -> Result<()> {
        if self.index_outcome.is_some() {
            return Ok(());
        }
        let names = match (&self.names, self.check.catalog()?) {
            (Some(names), _) => Some(names.clone()),
            (None, Some((catalog, _))) => Some(catalog::tags::mirror(&catalog)?),
            (None, None) => None,
        };
        let Some(names) = names else {
            self.index_outcome = Some(remains(
                "no catalog knows what it named: write {\"schemaVersion\":2,\"manifests\":[]} to it, and `rstore tag` what `rstore images -a` lists before anything is pruned",
            ));
            return Ok(());
        };
        let path = self.check.layout.index_path();
        let lock = self.check.layout.lock_index()?;
        if self.check.layout.index().is_err() && path.symlink_metadata().is_ok() {
            let kept = self.quarantine_path("index.json")?;
            std::fs::copy(&path, &kept).at("copy", &path)?;
        }
        let entries =
            sync::restore_index(&self.check.layout, &names, &lock).map_err(super::Error::from)?;
        self.index_outcome = Some(repaired(format!(
            "written with the {entries} entries that the catalog remembers; check it against `rstore images`"
        )));
        Ok(())
    }

    // -- blobs --------------------------------------------------------------------------------

    fn quarantine(
        &mut self,
        finding: &Finding,
        catalog: Option<&Catalog>,
        in_use: &Digests,
    ) -> Result<Outcome> {
        let Some(digest) = finding.digest else {
            return Ok(remains("it has no digest"));
        };
        if in_use.contains(&digest) {
            return Ok(remains(
                "a running build uses it: repair again when that has ended",
            ));
        }
        let layout = &self.check.layout;
        let before = layout
            .blobs()
            .stat(&digest)
            .map_err(crate::layout::Error::from)?;
        let mut buffer = vec![0; 1 << 18];
        match read::look(layout, &digest, INDEX_LIMIT, &mut buffer, &|_| {}) {
            Content::Corrupt(_) => {}
            Content::Gone => return Ok(repaired("gone")),
            Content::Unreadable(why) => return Ok(remains(why)),
            content => {
                self.check.files.set(&digest, content);
                return match catalog {
                    Some(catalog) => self.put_right_size(catalog, &digest),
                    None => Ok(repaired("it is whole")),
                };
            }
        }
        let target = self.quarantine_path(&format!("sha256-{}", digest.hex()))?;
        let Some(catalog) = catalog else {
            // Nobody who works without a catalog can be using it.
            let moved = self.check.layout.blobs().move_away(&digest, &target);
            moved.map_err(crate::layout::Error::from)?;
            self.check.files.remove(&digest);
            return Ok(repaired(format!("moved to {}", target.display())));
        };
        let layout = &self.check.layout;
        let now = self.now();
        let moved = catalog.write(|tx| -> TxResult<bool> {
            let stat = layout.blobs().stat(&digest);
            let stat = stat.map_err(|error| caller(crate::layout::Error::from(error)))?;
            let row = tx.blob(&digest)?;
            if stat != before || is_leased(tx, layout, row.as_ref().map(|row| row.id))? {
                return Ok(false);
            }
            let moved = layout.blobs().move_away(&digest, &target);
            moved.map_err(|error| caller(crate::layout::Error::from(error)))?;
            if let Some(row) = row {
                // What the catalog knows of it stays: it says what else the image needs.
                tx.set_absent(row.id)?;
            }
            tx.note(&JournalEntry {
                time: now,
                operation: "fsck".to_owned(),
                subject: digest.to_string(),
                bytes: stat.map_or(0, |stat| stat.size),
                detail: "corrupt: moved to quarantine".to_owned(),
            })?;
            Ok(true)
        })?;
        Ok(match moved {
            true => {
                self.check.files.remove(&digest);
                repaired(format!("moved to {}", target.display()))
            }
            false => remains("something is writing or using it: repair again"),
        })
    }

    fn put_right_size(&self, catalog: &Catalog, digest: &Digest) -> Result<Outcome> {
        let layout = &self.check.layout;
        catalog.write(|tx| -> TxResult<()> {
            let stat = layout.blobs().stat(digest);
            let stat = stat.map_err(|error| caller(crate::layout::Error::from(error)))?;
            if let (Some(row), Some(stat)) = (tx.blob(digest)?, stat) {
                tx.set_size(row.id, stat.size, stat.allocated)?;
            }
            Ok(())
        })?;
        Ok(repaired("it is whole; the catalog has its size now"))
    }

    // -- rows ---------------------------------------------------------------------------------

    /// What is wrong with the catalog's rows.
    fn row(
        &self,
        finding: &Finding,
        catalog: &Catalog,
        graph: &ImageGraph,
    ) -> Result<Option<Outcome>> {
        let layout = &self.check.layout;
        let now = self.now();
        Ok(match (finding.kind, finding.digest) {
            (Kind::Missing, Some(digest)) => Some(self.bring_back(finding, catalog, &digest)?),
            (Kind::RowWithoutFile, Some(digest)) => {
                forget_absent(catalog, layout, &digest, true)?;
                Some(repaired("forgotten"))
            }
            (Kind::RowSize, Some(digest)) => Some(self.put_right_size(catalog, &digest)?),
            (Kind::Links | Kind::StaleDamage, Some(digest)) => {
                catalog.write(|tx| sync::reread(tx, layout, &digest, now).map_err(lift))?;
                Some(repaired("read again"))
            }
            (Kind::Mirror, _) => {
                catalog.write(|tx| sync::take_index(tx, layout, now).map_err(lift))?;
                Some(repaired("taken in again"))
            }
            (Kind::CacheRecord, Some(key)) => {
                catalog.write(|tx| -> TxResult<()> { Ok(tx.forget_cache_record(&key)?) })?;
                Some(repaired("forgotten"))
            }
            (Kind::Snapshot, _) => {
                let gone = |directory: &str| finding.subject.ends_with(directory);
                let row = graph.snapshots().iter().find(|row| gone(&row.directory));
                if let Some(row) = row {
                    catalog.write(|tx| -> TxResult<()> { Ok(tx.forget_snapshot(row.id)?) })?;
                }
                Some(repaired("forgotten"))
            }
            (Kind::FileWithoutRow, _) => {
                self.take_in(catalog, graph)?;
                Some(repaired("taken in"))
            }
            _ => None,
        })
    }

    /// A blob that is needed and not there: an earlier repair may have moved a whole one away, from
    /// memory or a disk that lied that once.
    fn bring_back(&self, finding: &Finding, catalog: &Catalog, digest: &Digest) -> Result<Outcome> {
        let layout = &self.check.layout;
        let kept = layout
            .private()
            .join(format!("quarantine/sha256-{}", digest.hex()));
        if let Ok(file) = std::fs::File::open(&kept) {
            let mut reader = crate::oci::digest::HashReader::new(file);
            std::io::copy(&mut reader, &mut std::io::sink()).at("read", &kept)?;
            if reader.into_parts().0.finish() == *digest {
                std::fs::rename(&kept, layout.blobs().path(digest)).at("rename", &kept)?;
                sync::meet(catalog, layout, digest, self.now())?;
                return Ok(repaired("it was in quarantine, and is whole: brought back"));
            }
        }
        forget_absent(catalog, layout, digest, false)?;
        Ok(remains(finding.remedy.clone()))
    }

    /// Takes in the files that the catalog does not know.
    fn take_in(&self, catalog: &Catalog, graph: &ImageGraph) -> Result<()> {
        let known: HashSet<Digest, foldhash::fast::FixedState> = graph
            .nodes()
            .filter(|node| node.present)
            .map(|node| node.digest)
            .collect();
        let layout = &self.check.layout;
        for file in self.check.files.iter() {
            if !known.contains(&file.digest) {
                sync::meet(catalog, layout, &file.digest, self.now())?;
            }
        }
        Ok(())
    }
}

/// Whether a live lease pins a blob by name.
fn is_leased(tx: &Writer, layout: &Layout, id: Option<i64>) -> TxResult<bool> {
    let Some(id) = id.filter(|id| tx.is_leased(*id).unwrap_or(true)) else {
        return Ok(false);
    };
    for pin in tx.lease_pins_after(0)? {
        if pin.blob == Some(id) && roots::is_alive_now(layout, &pin.lease).map_err(caller)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Records that there is no file, unless one has come since, or a writer is about to bring it.
fn forget_absent(
    catalog: &Catalog,
    layout: &Layout,
    digest: &Digest,
    document: bool,
) -> Result<()> {
    catalog.write(|tx| -> TxResult<()> {
        let Some(row) = tx.blob(digest)?.filter(|row| row.present) else {
            return Ok(());
        };
        let stat = layout.blobs().stat(digest);
        let stat = stat.map_err(|error| caller(crate::layout::Error::from(error)))?;
        if stat.is_none() && !is_leased(tx, layout, Some(row.id))? {
            tx.set_absent(row.id)?;
            if document {
                tx.forget_document(row.id)?;
            }
        }
        Ok(())
    })
}

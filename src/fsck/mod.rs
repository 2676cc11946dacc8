//! Checking a store, and repairing what can be repaired.
//!
//! ```text
//! oci-layout, index.json ─┐
//! blobs/sha256 ─list▶ read on N threads ─▶ what each file is ─┐
//! catalog ─integrity▶ ImageGraph ─────────────────────────────┴▶ judge, compare ─▶ findings
//!                                                                      │
//!              repair: quarantine, rebuild, forget ◀──────────────────┘ ─▶ judged again
//! ```
//! | file | owns | touches |
//! |---|---|---|
//! | [`finding`] | what can be found, as values | nothing |
//! | [`read`] | listing and reading blobs | reads |
//! | [`judge`] | which names are whole, which blobs are wrong | reads |
//! | [`rows`] | the catalog against the disk; debris | reads |
//! | [`repair`] | putting right what can be | index.json, catalog, quarantine |
//!
//! **What a repair never does**: remove the bytes of a blob. What is corrupt is moved to
//! `rstore/quarantine/sha256-HEX`, where `df` counts it, and where it stays until somebody removes
//! it by its name; a torn catalog and a torn index.json go there too. What is derived (rows, cache
//! records, snapshots) is forgotten, and made again by whoever needs it.
//!
//! **Beside builds.** A check takes no lock. Reading is the long part, and blobs never change, so
//! it needs none; the rest looks at the store of one moment, and what is found is looked for again
//! if the store has changed meanwhile: what a writer was just doing is gone by then. A repair's
//! steps are write transactions of the catalog; a blob that a live lease pins is left alone.
//!
//! **The catalog is not believed.** Where a document was read, its links are the document's. The
//! quick form reads no blob, and believes the catalog.

use std::num::NonZeroUsize;
use std::path::Path;

use crate::catalog::{self, Catalog, Millis, sync};
use crate::fsutil;
use crate::gc;
use crate::graph::{ImageGraph, Roles};
use crate::layout::index::Error as IndexError;
use crate::layout::{self, Index, Layout, Marker, Signature};

pub mod finding;
pub mod judge;
pub mod read;
mod repair;
pub mod rows;
#[cfg(test)]
mod tests;

pub use finding::{Broken, Finding, Kind, Outcome, Report, Severity};

use judge::{Digests, Ground, Name};
use read::Files;
use rows::Rows;

/// Why a store cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] fsutil::Error),
    /// The layout said no.
    #[error(transparent)]
    Layout(#[from] layout::Error),
    /// The catalog said no.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// The garbage collection said no.
    #[error(transparent)]
    Gc(#[from] gc::Error),
    /// There is nothing that could be a store.
    #[error("there is no store at {}; --root names another", path.display())]
    NoStore {
        /// The directory.
        path: std::path::PathBuf,
    },
    /// A part of the store is asked for, and the catalog that knows the parts cannot be read.
    #[error(
        "the catalog cannot be read, so that {reference:?} is not known: check the whole store first"
    )]
    NoCatalog {
        /// What was asked for.
        reference: String,
    },
    /// There is no such image.
    #[error(transparent)]
    Unknown(#[from] crate::graph::ResolveError),
}

/// What the functions of this module return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How a store is to be checked.
#[derive(Debug, Clone)]
pub struct Options {
    /// Read no blob: compare names and sizes only.
    pub quick: bool,
    /// Put right what can be.
    pub repair: bool,
    /// Nothing but what these reach: names, IDs, digests.
    pub references: Vec<String>,
    /// On how many threads blobs are read.
    pub jobs: NonZeroUsize,
    /// The time.
    pub now: Millis,
}

/// How far the reading has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Blobs read.
    pub blobs: u64,
    /// Of how many.
    pub of_blobs: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Of how many.
    pub of_bytes: u64,
}

/// How often a check looks again at a store that changes under it.
const LOOKS: usize = 4;

/// Checks the store at `root`, and repairs it if that is asked for.
pub fn check(
    root: &Path,
    options: &Options,
    on_progress: &(dyn Fn(Progress) + Sync),
) -> Result<Report> {
    let has = |name: &str| root.join(name).exists();
    let looks_like_one = has("blobs") && (has("index.json") || has("rstore"));
    if !looks_like_one && Layout::marker(root)? != Marker::Good {
        return Err(Error::NoStore {
            path: root.to_path_buf(),
        });
    }
    let mut check = Check {
        layout: Layout::open_unmarked(root)?,
        options,
        files: Files::default(),
        only: None,
    };
    check.files = read::list(&check.layout)?;
    check.choose()?;
    if !options.quick {
        check.read(on_progress)?;
    }
    let mut look = check.settled_look()?;
    if options.repair {
        let done = repair::repair(&mut check, look.findings)?;
        // What is so after the repairs, and not what they were meant to do.
        look = check.settled_look()?;
        repair::merge(&mut look, done);
    }
    look.findings.sort_by(|one, other| {
        (one.severity, one.kind, &one.subject).cmp(&(other.severity, other.kind, &other.subject))
    });
    let concerns = |digest: &&crate::oci::Digest| {
        check
            .only
            .as_ref()
            .is_none_or(|only| only.contains(*digest))
    };
    let looked_at = check.files.iter();
    let looked_at = looked_at.filter(|file| concerns(&&file.digest));
    Ok(Report {
        blobs: looked_at.clone().count() as u64,
        bytes: looked_at.map(|file| file.size).sum(),
        read: check.files.read,
        names: look.names as u64,
        broken: look.broken,
        findings: look.findings,
    })
}

/// A check at work.
struct Check<'a> {
    layout: Layout,
    options: &'a Options,
    files: Files,
    only: Option<Digests>,
}

/// What one look has come to.
#[derive(Debug, Default)]
struct Look {
    findings: Vec<Finding>,
    broken: Vec<Broken>,
    names: usize,
}

impl Check<'_> {
    fn catalog_path(&self) -> std::path::PathBuf {
        self.layout.private().join("catalog.db")
    }

    /// The catalog, and what it knows; `None` where there is none, or a damaged one.
    fn catalog(&self) -> Result<Option<(Catalog, ImageGraph)>> {
        let path = self.catalog_path();
        // Opening would make one.
        if std::fs::metadata(&path).map_or(0, |metadata| metadata.len()) == 0 {
            return Ok(None);
        }
        let open = || {
            let catalog = Catalog::open(&path)?;
            let graph = ImageGraph::load(&catalog)?;
            let built = sync::is_built(&catalog)?;
            Ok::<_, catalog::Error>(built.then_some((catalog, graph)))
        };
        match open() {
            Err(error) if error.is_damage() => Ok(None),
            other => Ok(other?),
        }
    }

    /// Narrows the check to what was asked for.
    fn choose(&mut self) -> Result<()> {
        let Some(first) = self.options.references.first() else {
            return Ok(());
        };
        let Some((_catalog, graph)) = self.catalog()? else {
            return Err(Error::NoCatalog {
                reference: first.clone(),
            });
        };
        let mut roots = Vec::new();
        for reference in &self.options.references {
            roots.push(graph.resolve_any(reference)?.node);
        }
        let reached = graph.closure(roots, Roles::ALL);
        self.only = Some(reached.iter().map(|node| graph.node(node).digest).collect());
        Ok(())
    }

    fn read(&mut self, on_progress: &(dyn Fn(Progress) + Sync)) -> Result<()> {
        let graph = self.catalog()?.map(|(_, graph)| graph);
        let graph = graph.as_ref();
        let condemned = |digest: &crate::oci::Digest| {
            graph
                .and_then(|graph| Some(graph.node(graph.find(digest)?)))
                .is_some_and(|node| node.condemned)
        };
        let only = self.only.take();
        let wanted = |digest: &crate::oci::Digest| {
            only.as_ref().is_none_or(|only| only.contains(digest)) && !condemned(digest)
        };
        let is_index = |digest: &crate::oci::Digest| rows::is_index(graph, digest);
        let jobs = self.options.jobs;
        read::read(
            &self.layout,
            &mut self.files,
            wanted,
            is_index,
            jobs,
            on_progress,
        );
        self.only = only;
        Ok(())
    }

    /// Looks until what is found is not the doing of somebody who was just at work.
    fn settled_look(&self) -> Result<Look> {
        let mut before = self.stamp()?;
        let mut look = self.look()?;
        for _ in 1..LOOKS {
            let after = self.stamp()?;
            if after == before || look.findings.is_empty() {
                break;
            }
            before = after;
            let again = self.look()?;
            let still = |found: &Finding| look.findings.iter().any(|old| old.is_same(found));
            let findings: Vec<Finding> = again.findings.into_iter().filter(still).collect();
            let bad = |digest| {
                findings
                    .iter()
                    .any(|finding| finding.digest == Some(digest))
            };
            let mut broken = again.broken;
            for broken in &mut broken {
                broken.lacks.retain(|digest| bad(*digest));
            }
            broken.retain(|broken| !broken.lacks.is_empty());
            look = Look {
                findings,
                broken,
                names: again.names,
            };
        }
        Ok(look)
    }

    /// Changes whenever a tag, a blob or a row does.
    fn stamp(&self) -> Result<(Signature, Signature, Signature)> {
        let wal = self.layout.private().join("catalog.db-wal");
        Ok((
            self.layout.index_signature()?,
            Signature::of(self.layout.blobs().directory())?,
            Signature::of(&wal)?,
        ))
    }

    /// Looks at all of it once.
    fn look(&self) -> Result<Look> {
        let mut look = Look::default();
        let whole_store = self.only.is_none();
        let mut surroundings = Vec::new();
        self.marker(&mut surroundings)?;
        let index = self.index(&mut surroundings)?;
        let catalog = self.catalog()?;
        self.catalog_file(
            catalog.as_ref().map(|(catalog, _)| catalog),
            &mut surroundings,
        )?;
        let names = self.names(index.as_ref(), catalog.as_ref())?;
        look.names = names.len();
        let graph = catalog.as_ref().map(|(_, graph)| graph);
        let ground = Ground {
            layout: &self.layout,
            graph,
            files: &self.files,
            names: &names,
            only: self.only.as_ref(),
        };
        let judged = ground.judge();
        look.broken = judged.broken;
        look.findings = judged.findings;
        if whole_store {
            look.findings.append(&mut surroundings);
            self.strays(&mut look.findings);
            self.quarantine(&mut look.findings)?;
        }
        if let (Some((catalog, graph)), true) = (&catalog, whole_store) {
            let rows = Rows {
                layout: &self.layout,
                catalog,
                graph,
                files: &self.files,
                bad: &judged.bad,
                now: self.options.now,
            };
            rows.compare(&mut look.findings)?;
        }
        Ok(look)
    }

    fn marker(&self, findings: &mut Vec<Finding>) -> Result<()> {
        let detail = match Layout::marker(self.layout.root())? {
            Marker::Good => return Ok(()),
            Marker::Missing => {
                "it is missing, so that no tool takes the directory for an image layout".to_owned()
            }
            Marker::Torn => "it names no imageLayoutVersion".to_owned(),
            Marker::Unknown(version) => {
                format!("it says version {version}, and this program knows 1.x")
            }
        };
        findings.push(
            Finding::new(Severity::Error, Kind::Marker, "oci-layout")
                .detail(detail)
                .remedy("fsck --repair writes it, unless it is of a later version"),
        );
        Ok(())
    }

    fn index(&self, findings: &mut Vec<Finding>) -> Result<Option<Index>> {
        let (kind, detail) = match self.layout.index() {
            Ok(index) => {
                duplicates(&index, findings);
                return Ok(Some(index));
            }
            Err(layout::Error::Index(IndexError::Missing { .. })) => (
                Kind::IndexMissing,
                "it is missing: no image has a name".to_owned(),
            ),
            Err(layout::Error::Index(IndexError::Invalid { why, .. })) => {
                (Kind::IndexInvalid, format!("it is no image index: {why}"))
            }
            Err(error) => return Err(error.into()),
        };
        findings.push(
            Finding::new(Severity::Error, kind, "index.json")
                .detail(detail)
                .remedy("fsck --repair writes it with the names that the catalog remembers"),
        );
        Ok(None)
    }

    fn catalog_file(&self, catalog: Option<&Catalog>, findings: &mut Vec<Finding>) -> Result<()> {
        let path = self.catalog_path();
        let subject = "rstore/catalog.db";
        let damaged = |detail: String| {
            Finding::new(Severity::Error, Kind::CatalogDamaged, subject)
                .detail(detail)
                .remedy("fsck --repair makes it again from the blobs: cache and history are lost, no image is")
        };
        match catalog {
            Some(catalog) => {
                let damage = catalog.damage(self.options.quick)?;
                if !damage.is_empty() {
                    findings.push(damaged(damage.join("; ")));
                }
            }
            None if std::fs::metadata(&path).map_or(0, |m| m.len()) > 0 => {
                let why = Catalog::open(&path).and_then(|catalog| catalog.damage(true));
                match why {
                    Err(error) if !error.is_damage() => return Err(error.into()),
                    Err(error) => findings.push(damaged(error.to_string())),
                    Ok(damage) if !damage.is_empty() => findings.push(damaged(damage.join("; "))),
                    // Made, and not filled yet: an interrupted first command.
                    Ok(_) => findings.push(no_catalog(subject)),
                }
            }
            None => findings.push(no_catalog(subject)),
        }
        Ok(())
    }

    /// What must be whole: what index.json names, and what is pinned. Where index.json cannot be
    /// read, what the catalog remembers of it.
    fn names(
        &self,
        index: Option<&Index>,
        catalog: Option<&(Catalog, ImageGraph)>,
    ) -> Result<Vec<Name>> {
        let called = |name: Option<&str>, digest: &crate::oci::Digest| match name {
            Some(name) => name.to_owned(),
            None => format!("an entry without a name ({})", digest.short()),
        };
        let mut names = Vec::new();
        match (index, catalog) {
            (Some(index), _) => {
                names.extend(index.entries().iter().map(|entry| Name {
                    name: called(entry.name(), &entry.descriptor.digest),
                    digest: entry.descriptor.digest,
                    size: Some(entry.descriptor.size),
                }));
            }
            (None, Some((catalog, _))) => {
                let mirror = catalog::tags::mirror(catalog)?;
                names.extend(mirror.iter().map(|named| Name {
                    name: called(named.name.as_deref(), &named.digest),
                    digest: named.digest,
                    size: None,
                }));
            }
            (None, None) => {}
        }
        if let Some((_, graph)) = catalog {
            names.extend(graph.pins().iter().map(|node| {
                let digest = graph.node(*node).digest;
                Name {
                    name: format!("the pinned {}", digest.short()),
                    digest,
                    size: None,
                }
            }));
        }
        if let Some(only) = &self.only {
            names.retain(|name| only.contains(&name.digest));
        }
        Ok(names)
    }

    fn strays(&self, findings: &mut Vec<Finding>) {
        for name in &self.files.strays {
            let path = Path::new("blobs/sha256").join(name);
            let Ok(metadata) = self.layout.root().join(&path).symlink_metadata() else {
                continue;
            };
            let (detail, remedy) = match metadata.is_file() {
                true => (
                    "its name is no digest: what another tool left half written",
                    "the next prune removes it once it is older than its --grace",
                ),
                false => ("it is no file", "look at it, and move it away by hand"),
            };
            findings.push(
                Finding::new(Severity::Note, Kind::Stray, path.to_string_lossy())
                    .detail(detail)
                    .remedy(remedy),
            );
        }
    }

    fn quarantine(&self, findings: &mut Vec<Finding>) -> Result<()> {
        use crate::fsutil::IoContext;
        let directory = self.layout.private().join("quarantine");
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(fsutil::Error::new("read", directory, error).into()),
        };
        for entry in entries {
            let entry = entry.at("read", &directory)?;
            let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
            let path = Path::new("rstore/quarantine").join(entry.file_name());
            findings.push(
                Finding::new(Severity::Note, Kind::Quarantine, path.to_string_lossy())
                    .detail(format!("{bytes} bytes that an earlier repair moved away"))
                    .remedy("remove it by hand when nothing in it is of use any more"),
            );
        }
        Ok(())
    }
}

fn no_catalog(subject: &str) -> Finding {
    Finding::new(Severity::Note, Kind::CatalogMissing, subject)
        .detail("there is none: cache and history are lost, no image is")
        .remedy("the next command makes it from the blobs")
}

/// Names that stand in index.json twice: readers differ on which of them is meant.
fn duplicates(index: &Index, findings: &mut Vec<Finding>) {
    let mut seen = hashbrown::HashSet::new();
    for name in index.entries().iter().filter_map(|entry| entry.name()) {
        if !seen.insert(name) {
            findings.push(
                Finding::new(Severity::Warning, Kind::DuplicateName, name)
                    .detail(
                        "index.json has this name more than once: tools differ on which is meant",
                    )
                    .remedy("rstore tag the image that is meant with this name"),
            );
        }
    }
}

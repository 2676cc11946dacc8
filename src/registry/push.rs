//! Images of the store → a registry.
//!
//! ```text
//! index, manifest ─▶ documents, inner ones first; configs and layers, each once
//! registry has the document ─▶ it has all of it: only the tag is set
//! else                      ─▶ blobs that it lacks: mounted or sent ─▶ documents by digest ─▶ tag
//! ```
//! Everything goes as it is: media types, annotations, bytes. A repository of the same registry
//! that a tag of the store names, and whose image has a layer, is where the registry is asked to
//! take it from.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::{HashMap, HashSet};
use serde_json::Map;

use super::error::{Error, Result};
use super::event::{Event, LayerState, Sink};
use super::moves::{Moves, News, Next, each};
use super::pull::ask;
use super::repository::Repository;
use super::upload::{Sent, Upload};
use super::{Client, Stop};
use crate::catalog::journal::{JournalEntry, Particulars};
use crate::executor::Cancel;
use crate::layout::blobs;
use crate::oci::document::{self, Document, INDEX_LIMIT, Role};
use crate::oci::{Digest, Reference, media};
use crate::store::{self, Lease, Store};

mod referrers;

pub use referrers::push_about;

/// What was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// The digest that the name has in the registry.
    pub digest: Digest,
    /// The size of that document.
    pub size: u64,
    /// Bytes of blobs that were sent.
    pub bytes: u64,
}

/// A document that is to be there.
#[derive(Debug, Clone)]
struct Written {
    digest: Digest,
    media_type: String,
    bytes: Vec<u8>,
}

/// A blob that is to be there.
#[derive(Debug, Clone)]
struct Blob {
    digest: Digest,
    size: u64,
    /// Whether displays show it.
    is_layer: bool,
}

/// A blob that is being brought.
struct Job {
    repository: Repository,
    blob: Blob,
    path: PathBuf,
    elsewhere: Vec<String>,
    done: Arc<AtomicU64>,
    stop: Stop,
}

/// Pushes a manifest or an index, with all that it reaches, to a tag.
pub fn push(
    client: &Client,
    lease: &Lease,
    root: &Digest,
    to: &Reference,
    sink: &dyn Sink,
    cancel: &Cancel,
) -> Result<Pushed> {
    let (None, Some(tag)) = (&to.digest, to.tag.clone()) else {
        return Err(Error::Refused {
            what: to.familiar(),
            why: "a push is to a tag, not to a digest".to_owned(),
        });
    };
    let stop = Stop::new(cancel);
    let store = lease.store();
    lease.hold(root)?;
    let (documents, blobs) = reach(store, root)?;
    let repository = Repository::new(client, client.registry(&to.domain)?, &to.path).for_pushes();
    sink.event(Event::Pushing {
        repository: format!("{}/{}", to.domain, to.path),
    });
    let tell = |blob: &Blob, state: LayerState| {
        if blob.is_layer {
            let (digest, size) = (blob.digest, blob.size);
            sink.event(Event::Layer {
                digest,
                size,
                state,
            });
        }
    };
    for blob in &blobs {
        tell(blob, LayerState::Prepared);
    }
    let mut bytes = 0;
    match has(&repository, *root, &stop)? {
        // No registry has a document without all that it names.
        true => blobs.iter().for_each(|blob| tell(blob, LayerState::There)),
        false => bytes = bring(&repository, lease, blobs, to, &stop, sink, &tell)?,
    }
    let top = documents.last().map_or(0, |written| written.bytes.len());
    let (to_write, tag_name) = (documents, tag);
    let own = repository.clone();
    ask(&stop, move |stop| write(&own, &to_write, &tag_name, stop))?;
    note(lease, to, root, bytes)?;
    Ok(Pushed {
        digest: *root,
        size: top as u64,
        bytes,
    })
}

/// Writes into the journal what was pushed, and how many bytes were sent.
fn note(lease: &Lease, to: &Reference, digest: &Digest, sent: u64) -> Result<()> {
    let mut facts = Map::from_iter([("registry".to_owned(), to.domain.clone().into())]);
    // An index has no one image.
    if let Ok(image) = lease.store().image(digest) {
        let id = image.manifest.config.digest.to_string();
        facts.insert("image".to_owned(), id.into());
    }
    let more = Particulars {
        digest: Some(*digest),
        facts,
        ..Particulars::default()
    };
    let (entry, more) = lease.journal_entry("push", &to.familiar(), digest.to_string(), more)?;
    let entry = JournalEntry {
        bytes: sent,
        ..entry
    };
    Ok(lease.store().write(|tx| Ok(tx.note_with(&entry, more)?))?)
}

fn has(repository: &Repository, digest: Digest, stop: &Stop) -> Result<bool> {
    let repository = repository.clone();
    ask(stop, move |stop| {
        repository.has_manifest(&digest.to_string(), &digest, stop)
    })
}

/// Writes the documents that the registry lacks, what is pointed at before what points; the last
/// under the tag.
fn write(repository: &Repository, documents: &[Written], tag: &str, stop: &Stop) -> Result<()> {
    let Some((top, inner)) = documents.split_last() else {
        return Ok(());
    };
    for written in inner {
        let digest = written.digest.to_string();
        if !repository.has_manifest(&digest, &written.digest, stop)? {
            repository.put_manifest(&digest, &written.media_type, &written.bytes, stop)?;
        }
    }
    if repository.has_manifest(tag, &top.digest, stop)? {
        return Ok(());
    }
    let written = repository.put_manifest(tag, &top.media_type, &top.bytes, stop);
    written.map(drop)
}

/// All that a document reaches: documents, inner ones first, and blobs.
fn reach(store: &Store, root: &Digest) -> Result<(Vec<Written>, Vec<Blob>)> {
    let (mut documents, mut blobs) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    visit(store, root, "", &mut seen, &mut documents, &mut blobs)?;
    Ok((documents, blobs))
}

fn visit(
    store: &Store,
    digest: &Digest,
    told: &str,
    seen: &mut HashSet<Digest>,
    documents: &mut Vec<Written>,
    blobs: &mut Vec<Blob>,
) -> Result<()> {
    // Digests cannot go in circles, so this ends.
    if !seen.insert(*digest) {
        return Ok(());
    }
    let bytes = store
        .layout()
        .blobs()
        .read(digest, INDEX_LIMIT)
        .map_err(store::Error::from)?;
    let parsed = document::parse(&bytes, told).map_err(|source| Error::Document {
        digest: *digest,
        source,
    })?;
    let media_type = match &parsed {
        Document::Manifest(manifest) => manifest.media_type.clone(),
        Document::Index(index) => index.media_type.clone(),
        Document::Other(_) | Document::Leaf => None,
    };
    let default = match &parsed {
        Document::Index(_) => media::INDEX,
        _ => media::MANIFEST,
    };
    for link in parsed.links() {
        let target = &link.target;
        match link.role {
            Role::Child => visit(
                store,
                &target.digest,
                &target.media_type,
                seen,
                documents,
                blobs,
            )?,
            Role::Config | Role::Layer if seen.insert(target.digest) => blobs.push(Blob {
                digest: target.digest,
                size: target.size,
                is_layer: link.role == Role::Layer,
            }),
            // What a signature is about may be elsewhere.
            Role::Config | Role::Layer | Role::Subject | Role::Other => {}
        }
    }
    let told = Some(told).filter(|told| !told.is_empty());
    documents.push(Written {
        digest: *digest,
        media_type: media_type.unwrap_or_else(|| told.unwrap_or(default).to_owned()),
        bytes,
    });
    Ok(())
}

/// Brings blobs that the registry lacks. Returns how many bytes were sent.
fn bring(
    repository: &Repository,
    lease: &Lease,
    blobs: Vec<Blob>,
    to: &Reference,
    stop: &Stop,
    sink: &dyn Sink,
    tell: &dyn Fn(&Blob, LayerState),
) -> Result<u64> {
    let store = lease.store();
    let elsewhere = elsewhere(store, to)?;
    let mut jobs = Vec::new();
    for blob in &blobs {
        let stat = store.layout().blobs().stat(&blob.digest);
        if stat.map_err(store::Error::from)?.is_none() {
            let digest = blob.digest;
            return Err(store::Error::from(blobs::Error::Missing { digest }).into());
        }
        jobs.push(Job {
            repository: repository.clone(),
            path: store.layout().blobs().path(&blob.digest),
            elsewhere: elsewhere.get(&blob.digest).cloned().unwrap_or_default(),
            blob: blob.clone(),
            done: Arc::default(),
            stop: stop.clone(),
        });
    }
    let counters = jobs.iter().map(|job| (Arc::clone(&job.done), 0)).collect();
    let threads = repository.client.config().parallel;
    let mut bringing = Bringing {
        store,
        blobs: &blobs,
        jobs: jobs.into_iter(),
        counters,
        sink,
        tell,
        sent: 0,
    };
    each(&mut bringing, threads, stop, Job::run)?;
    Ok(bringing.sent)
}

/// Blobs on their way to a registry.
struct Bringing<'a> {
    store: &'a Store,
    blobs: &'a [Blob],
    jobs: std::vec::IntoIter<Job>,
    /// Bytes that were sent of each, and that was told of them.
    counters: Vec<(Arc<AtomicU64>, u64)>,
    sink: &'a dyn Sink,
    tell: &'a dyn Fn(&Blob, LayerState),
    sent: u64,
}

impl Moves for Bringing<'_> {
    type Job = Job;
    type Done = Result<Sent>;

    fn next(&mut self) -> Result<Next<Job>> {
        Ok(self.jobs.next().map_or(Next::End, Next::Job))
    }

    fn news(&mut self, news: News<Result<Sent>>) -> Result<()> {
        let (place, result) = match news {
            News::Done(place, result) => (place, result),
            News::Tick => {
                for (blob, (counter, told)) in self.blobs.iter().zip(&mut self.counters) {
                    let done = counter.load(Ordering::Relaxed);
                    if done != *told && blob.is_layer {
                        *told = done;
                        let (digest, size) = (blob.digest, blob.size);
                        self.sink.event(Event::Moved { digest, done, size });
                    }
                }
                return Ok(());
            }
        };
        let blob = &self.blobs[place];
        match result {
            Ok(Sent::There) => (self.tell)(blob, LayerState::There),
            Ok(Sent::Mounted(from)) => (self.tell)(blob, LayerState::Mounted { from }),
            Ok(Sent::Pushed) => {
                self.sent += blob.size;
                (self.tell)(blob, LayerState::Pushed);
            }
            Err(error @ Error::Status { status: 400, .. }) => {
                // If it is ours that is wrong, that is what to say.
                let verified = self.store.layout().blobs().verify(&blob.digest);
                verified.map_err(store::Error::from)?;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Job {
    fn run(self) -> Result<Sent> {
        Upload {
            repository: &self.repository,
            digest: self.blob.digest,
            size: self.blob.size,
            path: &self.path,
            elsewhere: &self.elsewhere,
            done: &self.done,
            stop: &self.stop,
        }
        .run()
    }
}

/// For each blob, the other repositories of the same registry that may have it.
pub fn elsewhere(store: &Store, to: &Reference) -> Result<HashMap<Digest, Vec<String>>> {
    let found = store.catalog().read(|tx| {
        let mut found: HashMap<Digest, Vec<String>> = HashMap::new();
        for entry in tx.index_entries()? {
            let reference = entry.name.as_deref().map(str::parse::<Reference>);
            let Some(Ok(reference)) = reference else {
                continue;
            };
            if reference.domain != to.domain || reference.path == to.path {
                continue;
            }
            let mut pending = vec![entry.blob];
            let mut seen = HashSet::new();
            while let Some(id) = pending.pop() {
                if !seen.insert(id) {
                    continue;
                }
                for edge in tx.edges_from(id)? {
                    match edge.role {
                        Role::Child => pending.push(edge.target),
                        Role::Layer | Role::Config => {
                            if let Some(row) = tx.blob_by_id(edge.target)? {
                                let paths = found.entry(row.digest).or_default();
                                if !paths.contains(&reference.path) {
                                    paths.push(reference.path.clone());
                                }
                            }
                        }
                        Role::Subject | Role::Other => {}
                    }
                }
            }
        }
        Ok(found)
    });
    Ok(found.map_err(store::Error::from)?)
}

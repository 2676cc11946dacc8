//! Names → images of the store.
//!
//! ```text
//! name, platform ─▶ manifest of the tag ─▶ of an index the platform's, or all
//!                   └─ mirrors first, each answer kept for the error
//! layers the store has: pinned     others: fetched, published one by one, pinned
//! config, manifests                        ─▶ recorded ─▶ tag
//! ```
//! Of an index the one image is taken that is for the platform, and the name is that image's: what
//! is tagged is whole. Which image an index, or a name, came to for a platform is remembered, so
//! that `name@sha256:…` of an index is found again without asking.

use std::fs::OpenOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashSet;

use super::download::Download;
use super::endpoint;
use super::error::{Error, Result};
use super::event::{Event, LayerState, Sink};
use super::moves::{News, each};
use super::repository::{Fetched, Repository};
use super::{Client, Stop};
use crate::catalog::journal::JournalEntry;
use crate::catalog::remote::RemoteFile;
use crate::catalog::{BlobKind, sync};
use crate::executor::Cancel;
use crate::fsutil::IoContext;
use crate::http::unless_cancelled;
use crate::layout::Entry;
use crate::oci::document::{self, Descriptor, Document, Role};
use crate::oci::{Digest, Platform, Reference, media};
use crate::store::{self, Image, Lease, Partial, Store, images};

mod referrers;

pub use referrers::pull_about;

/// Which images of an index are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The one for this platform.
    One {
        /// The platform.
        platform: Platform,
        /// Whether nothing else will do: an image without an index may be for another one.
        only: bool,
    },
    /// All of them.
    All,
}

/// What was pulled, pinned by the lease.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The document that the name is to point at.
    pub entry: Entry,
    /// The digest that the registry has for the name.
    pub remote: Digest,
    /// Bytes that were not in the store.
    pub bytes: u64,
}

impl Pulled {
    /// The digest of what is in the store.
    pub fn digest(&self) -> Digest {
        self.entry.descriptor.digest
    }
}

/// Pulls an image and gives it its name: the tag that `reference` has, or none for a digest.
pub fn pull(
    client: &Client,
    lease: &Lease,
    reference: &Reference,
    wanted: &Wanted,
    sink: &dyn Sink,
    cancel: &Cancel,
) -> Result<Pulled> {
    let pulled = fetch(client, lease, reference, wanted, sink, cancel)?;
    name(lease, reference, &pulled, sink)?;
    Ok(pulled)
}

/// Gives what was fetched its name: the tag that `reference` has, or none for a digest.
pub fn name(lease: &Lease, reference: &Reference, pulled: &Pulled, sink: &dyn Sink) -> Result<()> {
    let store = lease.store();
    let name = reference.familiar();
    let before = store
        .catalog()
        .read(|tx| tx.tag(&name))
        .map_err(store::Error::from)?;
    match reference.digest {
        None => lease.tag(std::slice::from_ref(&name), &pulled.digest())?,
        Some(_) => lease.enter(&[(None, pulled.entry.clone())])?,
    }
    note(store, "pull", &name, &pulled.remote, pulled.bytes)?;
    let before = before.map(|(digest, _)| digest);
    let newer = match reference.digest {
        None => before != Some(pulled.digest()),
        Some(_) => pulled.bytes > 0,
    };
    sink.event(Event::Pulled {
        name,
        digest: pulled.remote,
        newer,
    });
    Ok(())
}

/// Brings an image into the store, for this lease, without a name.
pub fn fetch(
    client: &Client,
    lease: &Lease,
    reference: &Reference,
    wanted: &Wanted,
    sink: &dyn Sink,
    cancel: &Cancel,
) -> Result<Pulled> {
    let stop = Stop::new(cancel);
    let digest = reference.digest.map(|digest| digest.to_string());
    let what = digest.or(reference.tag.clone()).unwrap_or_default();
    sink.event(Event::Pulling {
        what: what.clone(),
        repository: reference.path.clone(),
    });
    let (repositories, root) = find(client, reference, &what, &stop)?;
    let mut pull = Pull::new(lease, repositories, sink, &stop);
    let remote = root.digest;
    let top = match wanted {
        Wanted::All => pull.all(root)?,
        Wanted::One { platform, only } => pull.one(root, reference, platform, *only)?,
    };
    pull.fetch_blobs()?;
    let entry = pull.publish(top)?;
    if let Wanted::One { platform, .. } = wanted {
        remember(
            lease.store(),
            &remote.to_string(),
            platform,
            &entry.descriptor.digest,
        )?;
        if reference.digest.is_none() {
            let name = reference.full();
            remember(lease.store(), &name, platform, &entry.descriptor.digest)?;
        }
    }
    Ok(Pulled {
        entry,
        remote,
        bytes: pull.bytes,
    })
}

/// All tags of a repository.
pub fn tags(client: &Client, reference: &Reference, cancel: &Cancel) -> Result<Vec<String>> {
    let stop = Stop::new(cancel);
    let registry = client.registry(&reference.domain)?;
    let repository = Repository::new(client, registry, &reference.path);
    ask(&stop, move |stop| repository.tags(stop))
}

/// Whether a registry takes us for who we are.
pub fn check(client: &Client, registry: &str, cancel: &Cancel) -> Result<()> {
    let stop = Stop::new(cancel);
    let endpoint = client.registry(registry)?;
    let client = client.clone();
    ask(&stop, move |stop| {
        Repository::check(&client, &endpoint, stop)
    })
}

/// Asks on a thread that need not be waited for.
pub(super) fn ask<T: Send + 'static>(
    stop: &Stop,
    work: impl FnOnce(&Stop) -> Result<T> + Send + 'static,
) -> Result<T> {
    let own = stop.clone();
    unless_cancelled(stop.cancel(), move || work(&own)).unwrap_or(Err(Error::Interrupted))
}

/// Writes into the journal what was moved.
pub(super) fn note(
    store: &Store,
    operation: &str,
    name: &str,
    digest: &Digest,
    bytes: u64,
) -> Result<()> {
    let time = store.now();
    store.write(|tx| {
        Ok(tx.note(&JournalEntry {
            time,
            operation: operation.to_owned(),
            subject: name.to_owned(),
            bytes,
            detail: digest.to_string(),
        })?)
    })?;
    Ok(())
}

fn memory_key(of: &str, platform: &Platform) -> Digest {
    Digest::of(format!("pulled {of} {platform}").as_bytes())
}

fn remember(store: &Store, of: &str, platform: &Platform, digest: &Digest) -> Result<()> {
    let row = RemoteFile {
        digest: *digest,
        etag: String::new(),
        modified: None,
    };
    let now = store.now();
    store.write(|tx| Ok(tx.put_remote_file(&memory_key(of, platform), &row, now)?))?;
    Ok(())
}

/// The image that a name was for a platform when it was last pulled, pinned, if it is here.
pub fn remembered(
    lease: &Lease,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<Image>, store::Error> {
    let of = match &reference.digest {
        Some(digest) => digest.to_string(),
        None => reference.full(),
    };
    let key = memory_key(&of, platform);
    let row = lease.store().catalog().read(|tx| tx.remote_file(&key))?;
    match row {
        Some(row) => lease.present_image(&row.digest),
        None => Ok(None),
    }
}

/// Asks one registry after the other for a manifest. Returns those that may be asked for the rest,
/// the one that has it first.
fn find(
    client: &Client,
    reference: &Reference,
    what: &str,
    stop: &Stop,
) -> Result<(Vec<Repository>, Fetched)> {
    let mut repositories: Vec<Repository> = endpoint::sources(client, &reference.domain)?
        .into_iter()
        .map(|endpoint| Repository::new(client, endpoint, &reference.path))
        .collect();
    let mut tried = Vec::new();
    while let Some(repository) = repositories.first().cloned() {
        let (what, digest) = (what.to_owned(), reference.digest);
        let answer = ask(stop, move |stop| {
            repository.manifest(&what, digest.as_ref(), stop)
        });
        match answer {
            Ok(fetched) => return Ok((repositories, fetched)),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => tried.push(error.to_string()),
        }
        repositories.remove(0);
    }
    Err(Error::Nowhere {
        name: reference.full(),
        tried,
    })
}

/// A pull on its way.
struct Pull<'a> {
    lease: &'a Lease<'a>,
    repositories: Vec<Repository>,
    sink: &'a dyn Sink,
    stop: &'a Stop,
    /// Manifests and indexes; what is pointed at stands before what points.
    documents: Vec<Fetched>,
    /// Configs and layers.
    blobs: Vec<(Role, Descriptor)>,
    seen: HashSet<Digest>,
    bytes: u64,
}

/// A layer that is to be fetched.
struct Job {
    repositories: Vec<Repository>,
    digest: Digest,
    size: u64,
    path: std::path::PathBuf,
    done: Arc<AtomicU64>,
    stop: Stop,
}

impl<'a> Pull<'a> {
    fn new(
        lease: &'a Lease<'a>,
        repositories: Vec<Repository>,
        sink: &'a dyn Sink,
        stop: &'a Stop,
    ) -> Pull<'a> {
        Pull {
            lease,
            repositories,
            sink,
            stop,
            documents: Vec::new(),
            blobs: Vec::new(),
            seen: HashSet::new(),
            bytes: 0,
        }
    }

    /// The manifest for a platform, and what it needs.
    fn one(
        &mut self,
        mut root: Fetched,
        reference: &Reference,
        platform: &Platform,
        only: bool,
    ) -> Result<Fetched> {
        let name = reference.familiar();
        // An index in an index in an index is legal; one that leads back to itself is not.
        for _ in 0..8 {
            match parse(&root)? {
                Document::Index(index) => {
                    let digest = images::choose(&index, &name, platform)?;
                    root = self.child(&digest)?;
                }
                Document::Manifest(manifest) => {
                    self.take(&root, &manifest)?;
                    self.check_platform(&manifest, &name, platform, only)?;
                    return Ok(root);
                }
                Document::Other(_) | Document::Leaf => return Err(unknown(&root)),
            }
        }
        Err(unknown(&root))
    }

    /// An image that says by itself what it is for.
    fn check_platform(
        &mut self,
        manifest: &document::Manifest,
        name: &str,
        platform: &Platform,
        only: bool,
    ) -> Result<()> {
        if !manifest.is_image() {
            return Ok(());
        }
        let config = self.config(&manifest.config)?;
        let digest = manifest.config.digest;
        let config = crate::oci::ImageConfig::parse(&config)
            .map_err(|source| Error::Document { digest, source })?;
        let found = config.platform();
        if platform.distance(&found).is_some() {
            return Ok(());
        }
        if only {
            return Err(store::Error::NoPlatform {
                name: name.to_owned(),
                wanted: platform.to_string(),
                found: vec![found.to_string()],
            }
            .into());
        }
        self.sink.event(Event::Warning {
            message: format!("image {name:?} is for {found}, not for {platform}"),
        });
        Ok(())
    }

    /// The bytes of a config, which is in the store then.
    fn config(&mut self, config: &Descriptor) -> Result<Vec<u8>> {
        let (digest, size) = (config.digest, config.size);
        if self.lease.has_blob(&digest, size)? {
            let limit = document::MANIFEST_LIMIT;
            let bytes = self.lease.store().layout().blobs().read(&digest, limit);
            return Ok(bytes.map_err(store::Error::from)?);
        }
        let bytes =
            self.first(move |repository, stop| repository.small_blob(&digest, size, stop))?;
        self.bytes += size;
        self.lease
            .document(&bytes, &digest, BlobKind::Config, &config.media_type)?;
        Ok(bytes)
    }

    /// All that an index has.
    fn all(&mut self, root: Fetched) -> Result<Fetched> {
        self.reach(&root, 0)?;
        Ok(root)
    }

    fn reach(&mut self, fetched: &Fetched, depth: u32) -> Result<()> {
        if depth > 8 {
            return Err(unknown(fetched));
        }
        match parse(fetched)? {
            Document::Index(index) => {
                for child in &index.manifests {
                    if self.seen.contains(&child.digest) {
                        continue;
                    }
                    let child = self.child(&child.digest)?;
                    self.reach(&child, depth + 1)?;
                }
                if self.seen.insert(fetched.digest) {
                    self.documents.push(fetched.clone());
                }
                Ok(())
            }
            Document::Manifest(manifest) => self.take(fetched, &manifest),
            Document::Other(_) | Document::Leaf => Err(unknown(fetched)),
        }
    }

    /// The answer of the first registry that has one.
    fn first<T: Send + 'static>(
        &self,
        question: impl Fn(&Repository, &Stop) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let repositories = self.repositories.clone();
        ask(self.stop, move |stop| {
            let mut answer = Err(Error::Interrupted);
            for repository in &repositories {
                answer = question(repository, stop);
                if matches!(answer, Ok(_) | Err(Error::Interrupted)) {
                    break;
                }
            }
            answer
        })
    }

    fn child(&self, digest: &Digest) -> Result<Fetched> {
        let digest = *digest;
        self.first(move |repository, stop| {
            repository.manifest(&digest.to_string(), Some(&digest), stop)
        })
    }

    /// Notes what a manifest needs.
    fn take(&mut self, fetched: &Fetched, manifest: &document::Manifest) -> Result<()> {
        if !self.seen.insert(fetched.digest) {
            return Ok(());
        }
        let config = std::iter::once((Role::Config, &manifest.config));
        let layers = manifest.layers.iter().map(|layer| (Role::Layer, layer));
        for (role, descriptor) in config.chain(layers) {
            if self.seen.insert(descriptor.digest) {
                self.blobs.push((role, descriptor.clone()));
            }
        }
        self.documents.push(fetched.clone());
        Ok(())
    }

    /// Fetches what the store lacks, and publishes it as it arrives.
    fn fetch_blobs(&mut self) -> Result<()> {
        let mut layers: Vec<(Descriptor, Partial)> = Vec::new();
        for (role, descriptor) in std::mem::take(&mut self.blobs) {
            let (digest, size) = (descriptor.digest, descriptor.size);
            if role == Role::Config && size <= document::MANIFEST_LIMIT {
                self.config(&descriptor)?;
                continue;
            }
            let state = match self.lease.has_blob(&digest, size)? {
                true => LayerState::Exists,
                false => {
                    layers.push((descriptor, self.lease.partial(&digest)?));
                    LayerState::Wanted
                }
            };
            self.tell(digest, size, state);
        }
        let mut jobs = Vec::new();
        let mut counters = Vec::new();
        for (descriptor, partial) in &layers {
            if partial.length() > 0 {
                let from = partial.length();
                self.tell(
                    descriptor.digest,
                    descriptor.size,
                    LayerState::Resumed { from },
                );
            }
            let done = Arc::new(AtomicU64::new(0));
            counters.push((descriptor.digest, descriptor.size, Arc::clone(&done)));
            jobs.push(Job {
                repositories: self.repositories.clone(),
                digest: descriptor.digest,
                size: descriptor.size,
                path: partial.path().to_path_buf(),
                done,
                stop: self.stop.clone(),
            });
        }
        let mut layers: Vec<Option<(Descriptor, Partial)>> = layers.into_iter().map(Some).collect();
        let first = self.repositories.first();
        let threads = first.map_or(1, |repository| repository.client.config().parallel);
        let mut told: Vec<u64> = vec![0; counters.len()];
        let fetched = each(jobs, threads, self.stop, Job::run, |news| match news {
            News::Tick => {
                for ((digest, size, done), told) in counters.iter().zip(&mut told) {
                    let done = done.load(Ordering::Relaxed);
                    if done != *told {
                        *told = done;
                        let (digest, size) = (*digest, *size);
                        self.sink.event(Event::Moved { digest, done, size });
                    }
                }
                Ok(())
            }
            News::Done(place, result) => {
                let Some((descriptor, partial)) = layers.get_mut(place).and_then(Option::take)
                else {
                    return Ok(());
                };
                match result {
                    Ok(()) => self.arrived(&descriptor, partial),
                    Err(error) => {
                        partial.leave()?;
                        Err(error)
                    }
                }
            }
        });
        for (_, partial) in layers.into_iter().flatten() {
            partial.leave()?;
        }
        fetched
    }

    fn arrived(&mut self, descriptor: &Descriptor, partial: Partial) -> Result<()> {
        let (digest, size) = (descriptor.digest, descriptor.size);
        let ingest = self.lease.arrived(partial)?;
        let media_type = &descriptor.media_type;
        self.lease
            .publish_blob(ingest, &digest, size, BlobKind::Layer, media_type)?;
        self.bytes += size;
        self.tell(digest, size, LayerState::Pulled);
        Ok(())
    }

    fn tell(&self, digest: Digest, size: u64, state: LayerState) {
        let layer = Event::Layer {
            digest,
            size,
            state,
        };
        self.sink.event(layer);
    }

    /// Publishes the documents, and records what they reach.
    fn publish(&mut self, top: Fetched) -> Result<Entry> {
        for fetched in &self.documents {
            let media_type = media_type(fetched);
            let kind = sync::kind_of(&media_type);
            if !self
                .lease
                .has_blob(&fetched.digest, fetched.bytes.len() as u64)?
            {
                self.bytes += fetched.bytes.len() as u64;
            }
            self.lease
                .document(&fetched.bytes, &fetched.digest, kind, &media_type)?;
        }
        let entry = Entry::new(&media_type(&top), top.digest, top.bytes.len() as u64);
        self.lease.take_in(&entry.descriptor)?;
        Ok(entry)
    }
}

impl Job {
    /// Fetches a layer from the first registry that gives it.
    fn run(self) -> Result<()> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut outcome = Err(Error::Interrupted);
        for repository in &self.repositories {
            let mut download = Download {
                repository,
                digest: self.digest,
                size: self.size,
                file: options.open(&self.path).at("create", &self.path)?,
                path: self.path.clone(),
                done: &self.done,
                stop: &self.stop,
            };
            outcome = download.run();
            match &outcome {
                Ok(()) | Err(Error::Interrupted | Error::Io(_)) => break,
                Err(_) => {}
            }
        }
        outcome
    }
}

/// What a document says that it is, or else the answer that it came with.
fn media_type(fetched: &Fetched) -> String {
    let own: Option<String> = serde_json::from_slice::<serde_json::Value>(&fetched.bytes)
        .ok()
        .and_then(|value| Some(value.get("mediaType")?.as_str()?.to_owned()));
    let known = |kind: &String| media::is_index(kind) || media::is_manifest(kind);
    match (own, Some(fetched.media_type.clone()).filter(known)) {
        (Some(own), _) => own,
        (None, Some(told)) => told,
        (None, None) => match document::parse(&fetched.bytes, "") {
            Ok(Document::Index(_)) => media::INDEX.to_owned(),
            _ => media::MANIFEST.to_owned(),
        },
    }
}

fn parse(fetched: &Fetched) -> Result<Document> {
    let digest = fetched.digest;
    document::parse(&fetched.bytes, &media_type(fetched))
        .map_err(|source| Error::Document { digest, source })
}

fn unknown(fetched: &Fetched) -> Error {
    Error::Refused {
        what: fetched.digest.to_string(),
        why: format!(
            "it is no image that can be pulled (its type is {:?}; docker's old schema 1 is not read)",
            fetched.media_type
        ),
    }
}

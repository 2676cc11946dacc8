//! Names → images of the store.
//!
//! ```text
//! name, platform ─▶ search: in the store already, or the manifest of a registry or mirror
//!                └▶ of an index the platform's, or all
//! layers the store has: pinned     others: fetched, published one by one, pinned
//! config, manifests                        ─▶ recorded ─▶ tag
//! ```
//! Of an index the one image is taken that is for the platform, and the name is that image's: what
//! is tagged is whole. Which image an index, or a name, came to for a platform is remembered, so
//! that `name@sha256:…` of an index is found again without asking.

use hashbrown::HashSet;
use serde_json::{Map, Value};

use super::error::{Error, Result};
use super::event::{Event, Sink};
use super::layers::Layers;
use super::repository::{Fetched, Repository};
use super::{Client, Stop};
use crate::catalog::journal::Particulars;
use crate::catalog::remote::RemoteFile;
use crate::catalog::{BlobKind, sync};
use crate::executor::Cancel;
use crate::http::unless_cancelled;
use crate::layout::Entry;
use crate::oci::document::{self, Descriptor, Document, Role};
use crate::oci::{Digest, Platform, Reference, media};
use crate::store::{self, Image, Lease, Store, images};

mod referrers;
mod search;

pub use referrers::pull_about;
pub use search::{Ahead, Search};
use search::{Found, memory_key};

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
    /// The host of the registry or mirror that was asked; `None`: all of it was here, and nobody
    /// had to be.
    pub from: Option<String>,
    /// Whether nothing had to be looked at but the digest: what it stands for was here, whole.
    pub unchanged: bool,
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
        Some(_) if pulled.unchanged && is_entered(store, &pulled.digest())? => {}
        Some(_) => lease.enter(&[(None, pulled.entry.clone())])?,
    }
    note(lease, &name, pulled)?;
    if pulled.bytes > 0 {
        // The disk was waited for anyhow, and commands that come after open the store faster.
        let folded = store.catalog().fold_long_log(0);
        folded.map_err(store::Error::from)?;
    }
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
    let search = Search::new(client, lease.store(), reference, wanted, None, sink, cancel)?;
    search.fetch(lease, sink)
}

impl Search<'_> {
    /// Brings what was found into the store, for this lease, without a name.
    pub fn fetch(self, lease: &Lease, sink: &dyn Sink) -> Result<Pulled> {
        let stop = self.stop().clone();
        let (reference, wanted) = (self.reference(), self.wanted());
        let (repositories, root) = match self.found(lease)? {
            Found::Here(pulled) => return Ok(*pulled),
            Found::There(repositories, root) => (repositories, root),
        };
        let mut pull = Pull::new(lease, repositories, sink, &stop);
        let remote = root.digest;
        let top = match wanted {
            Wanted::All => pull.all(root)?,
            Wanted::One { platform, only } => pull.one(root, reference, platform, *only)?,
        };
        pull.fetch_blobs()?;
        let entry = pull.publish(top)?;
        if let Wanted::One { platform, .. } = wanted {
            let digest = &entry.descriptor.digest;
            remember(lease.store(), &remote.to_string(), platform, digest)?;
            if reference.digest.is_none() {
                remember(lease.store(), &reference.full(), platform, digest)?;
            }
        }
        let first = pull.repositories.first();
        Ok(Pulled {
            entry,
            remote,
            bytes: pull.bytes,
            from: first.map(|repository| repository.endpoint.name.clone()),
            unchanged: false,
        })
    }
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

/// Writes into the journal what was pulled.
fn note(lease: &Lease, name: &str, pulled: &Pulled) -> Result<()> {
    // An index has no one image.
    let image = lease.store().image(&pulled.digest()).ok();
    let (detail, more) = told(pulled, image.map(|image| image.id()));
    Ok(lease.note("pull", name, detail, more)?)
}

/// What the journal says of a pull.
fn told(pulled: &Pulled, image: Option<Digest>) -> (String, Particulars) {
    let mut facts = Map::new();
    let mut fact = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    if let Some(from) = &pulled.from {
        fact("registry", from.clone().into());
    }
    fact("remote_digest", pulled.remote.to_string().into());
    if let Some(image) = image {
        fact("image", image.to_string().into());
    }
    let detail = match pulled.unchanged {
        true => format!("up to date: {}", pulled.digest().short()),
        false => pulled.remote.to_string(),
    };
    let more = Particulars {
        digest: Some(pulled.digest()),
        facts,
        ..Particulars::default()
    };
    (detail, more)
}

/// Whether `index.json` has this document, with or without a name.
fn is_entered(store: &Store, digest: &Digest) -> Result<bool> {
    let entered = store.catalog().read(|tx| {
        let row = tx.blob(digest)?;
        let entries = tx.index_entries()?;
        Ok(row.is_some_and(|row| entries.iter().any(|entry| entry.blob == row.id)))
    });
    Ok(entered.map_err(store::Error::from)?)
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
        let mut layers = Vec::new();
        for (role, descriptor) in std::mem::take(&mut self.blobs) {
            match role == Role::Config && descriptor.size <= document::MANIFEST_LIMIT {
                true => drop(self.config(&descriptor)?),
                false => layers.push(descriptor),
            }
        }
        let layers = Layers::new(self.lease, &self.repositories, self.sink, self.stop, layers);
        self.bytes += layers.fetch()?;
        Ok(())
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

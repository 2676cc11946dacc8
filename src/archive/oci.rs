//! index.json → the documents and blobs that it reaches, each verified.
//!
//! Documents and blobs stay as they are, indexes in indexes and referrers included (image-spec,
//! image-layout.md). Every descriptor's digest and size are held against the bytes. What may be
//! missing:
//!
//! - what a `subject` names: a signature may travel without what it signs (manifest.md, "subject");
//! - what a document of an unknown type mentions;
//! - all platforms of an index but one: docker with the containerd store saves the whole index and
//!   the blobs of one platform. Naming the index would name an image that isn't whole, so the one
//!   image that is there gets its name.

use hashbrown::{HashMap, HashSet};

use super::error::{Error, Problem, Result};
use super::load::{Item, LoadedImage, Root, Verified};
use super::members::DOCUMENT_LIMIT;
use super::names::{self, Named};
use super::spool::Spooled;
use crate::catalog::{BlobKind, sync};
use crate::layout::{Entry, Index};
use crate::oci::document::{self, Descriptor, Document, Link, MANIFEST_LIMIT, Role};
use crate::oci::{Digest, ImageConfig, media};

/// Where blobs come from.
pub trait BlobSource {
    /// The blob, verified, in `ingest/`; each is asked for once.
    fn take(&mut self, digest: &Digest) -> Result<Option<Spooled>>;
}

impl BlobSource for HashMap<Digest, Spooled> {
    fn take(&mut self, digest: &Digest) -> Result<Option<Spooled>> {
        Ok(self.remove(digest))
    }
}

/// A document that was read.
struct Read {
    links: Vec<Link>,
    media_type: String,
    /// The config, if it is the manifest of an image.
    config: Option<Descriptor>,
    layers: usize,
    /// Its children that aren't there.
    absent: Vec<Descriptor>,
}

struct Walk<'s, S> {
    source: &'s mut S,
    blobs: HashMap<Digest, (Spooled, BlobKind, String)>,
    documents: HashMap<Digest, Read>,
}

/// Reads all that `index` (the bytes of index.json) reaches in a layout that says `layout` of itself.
pub fn collect(layout: &[u8], index: &[u8], source: &mut impl BlobSource) -> Result<Verified> {
    check_version(layout)?;
    let index =
        Index::parse(index).map_err(|why| Error::member("index.json", Problem::Form(why)))?;
    let mut walk = Walk {
        source,
        blobs: HashMap::new(),
        documents: HashMap::new(),
    };
    let mut roots: Vec<Root> = Vec::new();
    let mut place: HashMap<Digest, usize> = HashMap::new();
    for entry in index.entries() {
        let digest = entry.descriptor.digest;
        let at = match place.get(&digest) {
            Some(at) => *at,
            None => {
                walk.read(&entry.descriptor)?;
                roots.push(walk.root(entry)?);
                place.insert(digest, roots.len() - 1);
                roots.len() - 1
            }
        };
        match names::of_entry(entry) {
            Named::Full(name) if !roots[at].names.contains(&name) => roots[at].names.push(name),
            Named::Tag(tag) if !roots[at].tags.contains(&tag) => roots[at].tags.push(tag),
            _ => {}
        }
        if let Some(name) = entry.name() {
            roots[at].called.get_or_insert_with(|| name.to_owned());
        }
    }
    Ok(walk.finish(roots))
}

/// The layout's version, which says what the rest means (image-layout.md, "oci-layout file").
fn check_version(layout: &[u8]) -> Result<()> {
    let bad = |why: String| Err(Error::member("oci-layout", Problem::Form(why)));
    let version = serde_json::from_slice::<serde_json::Value>(layout)
        .ok()
        .and_then(|value| value.get("imageLayoutVersion")?.as_str().map(str::to_owned));
    match version {
        Some(version) if version.starts_with("1.") => Ok(()),
        Some(version) => bad(format!(
            "layout version {version:?}, and this program knows 1.x"
        )),
        None => bad("it names no imageLayoutVersion".to_owned()),
    }
}

fn member(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl<S: BlobSource> Walk<'_, S> {
    /// Reads what `root`, an entry of the index, reaches.
    fn read(&mut self, root: &Descriptor) -> Result<()> {
        let mut pending = vec![(Role::Child, root.clone(), None::<Digest>)];
        while let Some((role, descriptor, by)) = pending.pop() {
            let digest = descriptor.digest;
            if !self.fetch(role, &descriptor, by.as_ref())? {
                continue;
            }
            let leaf = matches!(role, Role::Config | Role::Layer);
            if leaf || self.documents.contains_key(&digest) {
                continue;
            }
            let Some(read) = self.document(&descriptor)? else {
                continue;
            };
            for link in &read.links {
                pending.push((link.role, link.target.clone(), Some(digest)));
            }
            self.documents.insert(digest, read);
        }
        Ok(())
    }

    /// Makes sure of one blob. Returns whether it is there; what must be there and isn't is an
    /// error.
    fn fetch(&mut self, role: Role, descriptor: &Descriptor, by: Option<&Digest>) -> Result<bool> {
        let digest = descriptor.digest;
        let named_by = || by.map_or_else(|| "index.json".to_owned(), member);
        if !self.blobs.contains_key(&digest) {
            let Some(spooled) = self.source.take(&digest)? else {
                return match (role, by.and_then(|by| self.documents.get_mut(by))) {
                    (Role::Subject | Role::Other, _) => Ok(false),
                    (Role::Child, Some(index)) => {
                        index.absent.push(descriptor.clone());
                        Ok(false)
                    }
                    _ => {
                        let problem = Problem::Missing { by: named_by() };
                        Err(Error::member(member(&digest), problem))
                    }
                };
            };
            let kind = match role {
                Role::Config => BlobKind::Config,
                Role::Layer => BlobKind::Layer,
                _ => sync::kind_of(&descriptor.media_type),
            };
            let media_type = descriptor.media_type.clone();
            self.blobs.insert(digest, (spooled, kind, media_type));
        }
        let actual = self.blobs[&digest].0.size;
        if actual != descriptor.size && role != Role::Other {
            let (by, expected) = (named_by(), descriptor.size);
            let problem = Problem::Size {
                by,
                expected,
                actual,
            };
            return Err(Error::member(member(&digest), problem));
        }
        Ok(true)
    }

    /// Reads a fetched blob as a document; `None` if it is none.
    fn document(&self, descriptor: &Descriptor) -> Result<Option<Read>> {
        let digest = &descriptor.digest;
        let spooled = &self.blobs[digest].0;
        let known =
            media::is_index(&descriptor.media_type) || media::is_manifest(&descriptor.media_type);
        if !known && spooled.size > MANIFEST_LIMIT {
            return Ok(None);
        }
        let limit = if media::is_index(&descriptor.media_type) {
            DOCUMENT_LIMIT
        } else {
            MANIFEST_LIMIT
        };
        let bytes = spooled.read(&member(digest), limit)?;
        let document = document::parse(&bytes, &descriptor.media_type)
            .map_err(|source| wrong(digest, source))?;
        let mut read = Read {
            links: document.links(),
            media_type: descriptor.media_type.clone(),
            config: None,
            layers: 0,
            absent: Vec::new(),
        };
        match document {
            Document::Manifest(manifest) => {
                read.media_type = manifest
                    .media_type
                    .clone()
                    .unwrap_or_else(|| media::MANIFEST.to_owned());
                read.layers = manifest.layers.len();
                read.config = manifest.is_image().then_some(manifest.config);
            }
            Document::Index(index) => {
                read.media_type = index.media_type.unwrap_or_else(|| media::INDEX.to_owned());
            }
            Document::Other(_) => {}
            Document::Leaf => return Ok(None),
        }
        Ok(Some(read))
    }

    /// The root that an entry of the index is, with the images below it.
    fn root(&self, entry: &Entry) -> Result<Root> {
        let digest = entry.descriptor.digest;
        let mut root = Root::new(entry.clone());
        let mut absent = Vec::new();
        for document in self.reach(&digest, |role| role == Role::Child) {
            let Some(read) = self.documents.get(&document) else {
                continue;
            };
            absent.extend(read.absent.iter().cloned());
            if let Some(config) = &read.config {
                root.images.push(self.image(&document, config, read)?);
            }
        }
        if let Some(first) = absent.first() {
            return self.narrow(root, first, &absent);
        }
        if entry.descriptor.media_type.is_empty()
            && let Some(read) = self.documents.get(&digest)
        {
            root.entry = Entry::new(&read.media_type, digest, entry.descriptor.size);
        }
        Ok(root)
    }

    /// The root of an index of which not all is there: the one image that is.
    fn narrow(&self, mut root: Root, first: &Descriptor, absent: &[Descriptor]) -> Result<Root> {
        let mut images = root.images.iter().filter(|image| image.is_runnable());
        let (Some(image), None) = (images.next().cloned(), images.next()) else {
            let by = member(&root.entry.descriptor.digest);
            return Err(Error::member(
                member(&first.digest),
                Problem::Missing { by },
            ));
        };
        let size = self.blobs[&image.digest].0.size;
        let media_type = &self.documents[&image.digest].media_type;
        root.entry = Entry::new(media_type, image.digest, size);
        root.images = vec![image];
        root.absent = absent
            .iter()
            .filter_map(|descriptor| Some(descriptor.platform.as_ref()?.to_string()))
            .filter(|platform| !platform.starts_with("unknown"))
            .collect();
        Ok(root)
    }

    fn image(&self, digest: &Digest, config: &Descriptor, read: &Read) -> Result<LoadedImage> {
        let name = member(&config.digest);
        let bytes = self.blobs[&config.digest].0.read(&name, MANIFEST_LIMIT)?;
        let parsed = ImageConfig::parse(&bytes).map_err(|source| wrong(&config.digest, source))?;
        let image = LoadedImage {
            digest: *digest,
            id: config.digest,
            platform: parsed.platform(),
        };
        if image.is_runnable() && parsed.rootfs.diff_ids.len() != read.layers {
            let problem = Problem::LayerCount {
                by: member(digest),
                config: parsed.rootfs.diff_ids.len(),
                manifest: read.layers,
            };
            return Err(Error::member(name, problem));
        }
        Ok(image)
    }

    /// What is reached from `root`, itself included, by links whose role is `wanted`.
    fn reach(&self, root: &Digest, wanted: impl Fn(Role) -> bool) -> Vec<Digest> {
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        let mut pending = vec![*root];
        while let Some(digest) = pending.pop() {
            if !self.blobs.contains_key(&digest) || !seen.insert(digest) {
                continue;
            }
            order.push(digest);
            if let Some(read) = self.documents.get(&digest) {
                let wanted = read.links.iter().filter(|link| wanted(link.role)).rev();
                pending.extend(wanted.map(|link| link.target.digest));
            }
        }
        order
    }

    /// What the roots reach, to be published; the rest is dropped.
    fn finish(mut self, roots: Vec<Root>) -> Verified {
        let mut verified = Verified::default();
        let mut order = Vec::new();
        for root in &roots {
            let mut reached = self.reach(&root.entry.descriptor.digest, |_| true);
            // What is pointed at comes before what points.
            reached.reverse();
            order.extend(reached);
        }
        for digest in &order {
            if let Some((spooled, kind, media_type)) = self.blobs.remove(digest) {
                verified.blobs.push(Item {
                    spooled,
                    kind,
                    media_type,
                });
            }
        }
        verified.roots = roots;
        verified
    }
}

fn wrong(digest: &Digest, source: document::Error) -> Error {
    Error::Document {
        member: member(digest),
        source,
    }
}

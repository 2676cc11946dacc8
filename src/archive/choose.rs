//! One image of an OCI layout directory or an archive, taken in without a name: a build's named
//! context, or the source of a copy, then perhaps with what is about it.

use std::path::Path;

use hashbrown::{HashMap, HashSet};
use serde::Deserialize;
use serde_json::{Value, json};

use super::directory::Directory;
use super::error::{Error, Problem, Result};
use super::load::{Item, LoadOptions, Root, Verified};
use super::members::DOCUMENT_LIMIT;
use super::{about, load, oci};
use crate::fsutil::IoContext;
use crate::layout::{Entry, Index};
use crate::oci::Digest;
use crate::oci::document::{self, Descriptor, REF_NAME, Role};
use crate::store::referrers::{About, Kinds};
use crate::store::{Lease, Store};

/// Takes the image that a tag or a digest names into the store; without either, `latest`, or the
/// only one. It belongs to the lease. Returns the digest of its manifest or index, and what of these
/// kinds the layout has about it, taken in as well.
pub fn take_from_layout(
    lease: &Lease,
    path: &Path,
    tag: Option<&str>,
    digest: Option<&Digest>,
    kinds: Option<&Kinds>,
) -> Result<(Digest, Vec<About>)> {
    let mut directory = Directory::new(path, lease);
    let (layout, index) = directory.documents()?;
    let bytes = index.clone();
    let form = |why: String| Error::member("index.json", Problem::Form(why));
    let mut index: Value = serde_json::from_slice(&index).map_err(|e| form(e.to_string()))?;
    let entries = match index.get_mut("manifests").map(Value::take) {
        Some(Value::Array(entries)) => entries,
        _ => return Err(form("it has no manifests".to_owned())),
    };
    let entry = match digest {
        Some(digest) => match find(&entries, "digest", &digest.to_string()) {
            Some(entry) => entry,
            None => inner(path, digest)?,
        },
        None => by_tag(&entries, tag).ok_or_else(|| Error::NoImages {
            what: path.display().to_string(),
            why: missing(&entries, tag),
        })?,
    };
    let mut entries = vec![entry];
    let mut about = Vec::new();
    if let Some(kinds) = kinds {
        let root = Descriptor::deserialize(&entries[0]).map_err(|e| form(e.to_string()))?;
        let all = Index::parse(&bytes).map_err(form)?;
        let read = &mut |digest: &Digest| directory.document(digest);
        for (descriptor, one) in about::find(all.entries(), &root, kinds, read)? {
            entries.push(json!({
                "mediaType": descriptor.media_type,
                "digest": descriptor.digest,
                "size": descriptor.size,
            }));
            about.push(one);
        }
    }
    if let Some(object) = index.as_object_mut() {
        object.insert("manifests".to_owned(), Value::Array(entries));
    }
    let verified = oci::collect(&layout, index.to_string().as_bytes(), &mut directory)?;
    Ok((load::take_in(lease, verified)?, about))
}

/// Takes the image that a name means into the store, out of a docker-archive or an oci-archive;
/// without one, the only image. It belongs to the lease. Returns the digest of its manifest or
/// index, the names that the archive has for it, and what of these kinds it has about it, taken in
/// as well.
pub fn take_from_archive(
    lease: &Lease,
    path: &Path,
    name: Option<&str>,
    kinds: Option<&Kinds>,
) -> Result<(Digest, Vec<String>, Vec<About>)> {
    let file = std::fs::File::open(path).at("open", path)?;
    if file.metadata().at("stat", path)?.is_dir() {
        return Err(Error::NoImages {
            what: path.display().to_string(),
            why: "it is a directory, and an archive is a file (oci: is a directory)".to_owned(),
        });
    }
    let mut verified = load::read(lease, file, &LoadOptions::default())?;
    let stored = name.and_then(|name| Store::tag_name(name).ok());
    let is_meant = |root: &Root| match name {
        None => true,
        Some(name) => {
            stored
                .as_ref()
                .is_some_and(|stored| root.names.contains(stored))
                || root.tags.iter().any(|tag| tag == name)
                || root.called.as_deref() == Some(name)
        }
    };
    let has: Vec<String> = verified.roots.iter().flat_map(known_as).collect();
    let entries: Vec<Entry> = verified.roots.iter().flat_map(named).collect();
    verified.roots.retain(is_meant);
    if name.is_none() && verified.roots.len() > 1 {
        // What is about an image is none that could be meant.
        let gone = about::of_something(&entries, &mut reader(&verified))?;
        let is_gone = |root: &Root| gone.contains(&root.entry.descriptor.digest);
        verified.roots.retain(|root| !is_gone(root));
    }
    let why = match (verified.roots.len(), name) {
        (1, _) => {
            let about = match kinds {
                Some(kinds) => add_about(&mut verified, &entries, kinds)?,
                None => Vec::new(),
            };
            keep_reached(&mut verified)?;
            let root = load::take_in_root(lease, verified)?;
            return Ok((root.entry.descriptor.digest, root.names, about));
        }
        (0, Some(name)) => format!("none is called {name:?}; it has {}", has.join(", ")),
        (0, None) => "its index is empty".to_owned(),
        _ => format!("it has several, and one must be named: {}", has.join(", ")),
    };
    Err(Error::NoImages {
        what: path.display().to_string(),
        why,
    })
}

/// A root's entry, once for each of its names.
fn named(root: &Root) -> Vec<Entry> {
    let names = root.names.iter().chain(&root.tags).chain(&root.called);
    let mut entries: Vec<Entry> = names
        .map(|name| {
            let annotations = [(REF_NAME.to_owned(), name.clone())].into();
            root.entry.annotated(&annotations)
        })
        .collect();
    entries.push(root.entry.clone());
    entries
}

/// Adds to the only root of an archive what the archive has about it.
fn add_about(verified: &mut Verified, entries: &[Entry], kinds: &Kinds) -> Result<Vec<About>> {
    let root = verified.roots[0].entry.descriptor.clone();
    let found = about::find(entries, &root, kinds, &mut reader(verified))?;
    let mut about = Vec::new();
    for (descriptor, one) in found {
        let entry = Entry::new(&descriptor.media_type, descriptor.digest, descriptor.size);
        verified.roots.push(Root::new(entry));
        about.push(one);
    }
    Ok(about)
}

/// Drops what the roots that are left do not reach: a signature that nobody asked for would be held
/// by its image.
fn keep_reached(verified: &mut Verified) -> Result<()> {
    let mut reached: HashSet<Digest> = HashSet::new();
    let roots = verified.roots.iter();
    let mut pending: Vec<Descriptor> = roots.map(|root| root.entry.descriptor.clone()).collect();
    let mut read = reader(verified);
    while let Some(descriptor) = pending.pop() {
        if !reached.insert(descriptor.digest) {
            continue;
        }
        let Some(bytes) = read(&descriptor.digest)? else {
            continue;
        };
        let parsed = document::parse(&bytes, &descriptor.media_type);
        for link in parsed.map_or_else(|_| Vec::new(), |one| one.links()) {
            match link.role {
                Role::Config | Role::Layer => drop(reached.insert(link.target.digest)),
                Role::Child | Role::Subject | Role::Other => pending.push(link.target),
            }
        }
    }
    drop(read);
    let is_reached = |item: &Item| reached.contains(&item.spooled.digest);
    verified.blobs.retain(is_reached);
    Ok(())
}

/// Reads the documents of an archive.
fn reader(verified: &Verified) -> impl FnMut(&Digest) -> Result<Option<Vec<u8>>> + '_ {
    let blobs: HashMap<Digest, &Item> = verified
        .blobs
        .iter()
        .map(|item| (item.spooled.digest, item))
        .collect();
    move |digest| match blobs.get(digest) {
        Some(item) if item.spooled.size <= DOCUMENT_LIMIT => {
            let bytes = item.spooled.read(&digest.to_string(), DOCUMENT_LIMIT)?;
            Ok(Some(bytes))
        }
        _ => Ok(None),
    }
}

/// By what one might ask for an image of an archive.
fn known_as(root: &Root) -> Vec<String> {
    match (root.names.is_empty(), root.tags.is_empty()) {
        (false, _) => root.names.clone(),
        (true, false) => root.tags.clone(),
        (true, true) => vec![root.entry.descriptor.digest.to_string()],
    }
}

fn find(entries: &[Value], key: &str, value: &str) -> Option<Value> {
    let mut entries = entries.iter();
    let found = entries.find(|entry| entry.get(key).and_then(Value::as_str) == Some(value));
    found.cloned()
}

fn name(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}

fn by_tag(entries: &[Value], tag: Option<&str>) -> Option<Value> {
    let wanted = tag.unwrap_or("latest");
    // Some write the tag there, some the whole name.
    let is_tagged = |entry: &&Value| {
        name(entry).is_some_and(|name| {
            name == wanted || name.rsplit_once(':').is_some_and(|(_, tag)| tag == wanted)
        })
    };
    let exact = entries.iter().find(|entry| name(entry) == Some(wanted));
    match exact.or_else(|| entries.iter().find(is_tagged)) {
        Some(entry) => Some(entry.clone()),
        None if tag.is_none() && entries.len() == 1 => entries.first().cloned(),
        None => None,
    }
}

fn missing(entries: &[Value], tag: Option<&str>) -> String {
    let names: Vec<&str> = entries.iter().filter_map(name).collect();
    let has = match names.as_slice() {
        [] => "no tags; @sha256:… names an image by its digest".to_owned(),
        names => names.join(", "),
    };
    format!("none is tagged {:?}; it has {has}", tag.unwrap_or("latest"))
}

/// The descriptor of a document that the index does not name itself.
fn inner(path: &Path, digest: &Digest) -> Result<Value> {
    let file = path.join("blobs/sha256").join(digest.hex());
    let size = std::fs::metadata(&file).at("open", &file)?.len();
    let none = || Error::NoImages {
        what: path.display().to_string(),
        why: format!("{digest} is no manifest"),
    };
    if size > super::members::DOCUMENT_LIMIT {
        return Err(none());
    }
    let bytes = std::fs::read(&file).at("read", &file)?;
    let document: Value = serde_json::from_slice(&bytes).map_err(|_| none())?;
    let own = document.get("mediaType").and_then(Value::as_str);
    let media_type = match own {
        Some(own) => own,
        None if document.get("manifests").is_some() => "application/vnd.oci.image.index.v1+json",
        None => "application/vnd.oci.image.manifest.v1+json",
    };
    Ok(serde_json::json!({
        "mediaType": media_type,
        "digest": digest.to_string(),
        "size": size,
    }))
}

//! One image of an OCI layout directory, taken in without a name: a build's named context.

use std::path::Path;

use serde_json::Value;

use super::directory::Directory;
use super::error::{Error, Problem, Result};
use super::load::{LoadOptions, Root};
use super::{load, oci};
use crate::fsutil::IoContext;
use crate::oci::Digest;
use crate::oci::document::REF_NAME;
use crate::store::{Lease, Store};

/// Takes the image that a tag or a digest names into the store; without either, `latest`, or the
/// only one. It belongs to the lease. Returns the digest of its manifest or index.
pub fn take_from_layout(
    lease: &Lease,
    path: &Path,
    tag: Option<&str>,
    digest: Option<&Digest>,
) -> Result<Digest> {
    let mut directory = Directory::new(path, lease);
    let (layout, index) = directory.documents()?;
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
    if let Some(object) = index.as_object_mut() {
        object.insert("manifests".to_owned(), Value::Array(vec![entry]));
    }
    let verified = oci::collect(&layout, index.to_string().as_bytes(), &mut directory)?;
    load::take_in(lease, verified)
}

/// Takes the image that a name means into the store, out of a docker-archive or an oci-archive;
/// without one, the only image. It belongs to the lease. Returns the digest of its manifest or
/// index, and the names that the archive has for it.
pub fn take_from_archive(
    lease: &Lease,
    path: &Path,
    name: Option<&str>,
) -> Result<(Digest, Vec<String>)> {
    let file = std::fs::File::open(path).at("open", path)?;
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
    verified.roots.retain(is_meant);
    let why = match (verified.roots.len(), name) {
        (1, _) => {
            let root = load::take_in_root(lease, verified)?;
            return Ok((root.entry.descriptor.digest, root.names));
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

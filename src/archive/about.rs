//! What a layout or an archive has about one of its images.
//!
//! | where | is about an image |
//! |---|---|
//! | an entry of index.json, with or without a name | if its `subject` is the image |
//! | a member of an index that is called `sha256-HEX` (distribution-spec, "Referrers Tag Schema") | the same |
//! | an entry that is called `sha256-HEX.sig`, `.att`, `.sbom` | cosign says so |
//!
//! What is found is only what is to be taken in: it is verified when it is.

use hashbrown::{HashMap, HashSet};

use super::error::Result;
use crate::layout::Entry;
use crate::oci::Digest;
use crate::oci::document::{self, Descriptor, Document, Role};
use crate::store::referrers::{About, By, COSIGN, Kinds, subject, tag_of};

/// Reads a document; `None`: it isn't there.
pub(super) type Read<'r> = &'r mut dyn FnMut(&Digest) -> Result<Option<Vec<u8>>>;

/// What `entries` have about `root`: what is about something stands behind it.
pub(super) fn find(
    entries: &[Entry],
    root: &Descriptor,
    kinds: &Kinds,
    read: Read<'_>,
) -> Result<Vec<(Descriptor, About)>> {
    let documents = documents(root, read)?;
    let mut found = Vec::new();
    let mut by_subject: HashMap<Digest, Vec<(Descriptor, Document)>> = HashMap::new();
    for candidate in candidates(entries, read)? {
        if let Some(parsed) = parsed(&candidate, read)?
            && let Some(subject) = subject(&parsed).map(|subject| subject.digest)
        {
            let about = by_subject.entry(subject).or_default();
            about.push((candidate, parsed));
        }
    }
    let mut seen: HashSet<Digest> = documents.iter().copied().collect();
    let mut level = documents.clone();
    let mut first = true;
    while !level.is_empty() {
        let mut next = Vec::new();
        for of in &level {
            for (descriptor, parsed) in by_subject.get(of).into_iter().flatten() {
                let digest = descriptor.digest;
                if first && !kinds.takes_document(parsed) || !seen.insert(digest) {
                    continue;
                }
                next.push(digest);
                let by = By::Subject(*of);
                found.push((descriptor.clone(), About { digest, by }));
            }
        }
        (level, first) = (next, false);
    }
    for entry in entries {
        let descriptor = &entry.descriptor;
        let Some(tag) = entry
            .name()
            .map(tag)
            .filter(|tag| is_cosigns(tag, &documents))
        else {
            continue;
        };
        let wanted = parsed(descriptor, read)?.is_some_and(|one| kinds.takes_document(&one));
        if wanted && seen.insert(descriptor.digest) {
            let (digest, by) = (descriptor.digest, By::Tag(tag.to_owned()));
            found.push((descriptor.clone(), About { digest, by }));
        }
    }
    Ok(found)
}

/// Which of `entries` are about something, or list what is.
pub(super) fn of_something(entries: &[Entry], read: Read<'_>) -> Result<HashSet<Digest>> {
    let mut found = HashSet::new();
    for entry in entries {
        let descriptor = &entry.descriptor;
        let is_named = entry.name().is_some_and(|name| {
            let hex = tag(name).strip_prefix("sha256-");
            hex.is_some_and(|hex| {
                let hex = hex.split('.').next().unwrap_or_default();
                format!("sha256:{hex}").parse::<Digest>().is_ok()
            })
        });
        let mut says_so = || -> Result<bool> {
            Ok(parsed(descriptor, read)?
                .as_ref()
                .and_then(subject)
                .is_some())
        };
        if is_named || says_so()? {
            found.insert(descriptor.digest);
        }
    }
    Ok(found)
}

fn tag(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, tag)| tag)
}

fn is_cosigns(tag: &str, documents: &[Digest]) -> bool {
    documents.iter().any(|digest| {
        let suffix = tag.strip_prefix(tag_of(digest).as_str());
        suffix.is_some_and(|suffix| COSIGN.contains(&suffix))
    })
}

/// What may have a subject: entries, and members of those that list referrers.
fn candidates(entries: &[Entry], read: Read<'_>) -> Result<Vec<Descriptor>> {
    let mut found: Vec<Descriptor> = Vec::new();
    for entry in entries {
        found.push(entry.descriptor.clone());
        let is_list = entry.name().map(tag).is_some_and(|tag| {
            let hex = tag.strip_prefix("sha256-");
            hex.is_some_and(|hex| format!("sha256:{hex}").parse::<Digest>().is_ok())
        });
        if is_list && let Some(Document::Index(list)) = parsed(&entry.descriptor, read)? {
            found.extend(list.manifests);
        }
    }
    Ok(found)
}

/// A document that can be read; what cannot be is not about anything.
fn parsed(descriptor: &Descriptor, read: Read<'_>) -> Result<Option<Document>> {
    let bytes = read(&descriptor.digest)?;
    Ok(bytes.and_then(|bytes| document::parse(&bytes, &descriptor.media_type).ok()))
}

/// A manifest, or an index and its members.
fn documents(root: &Descriptor, read: Read<'_>) -> Result<Vec<Digest>> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    let mut pending = vec![root.clone()];
    while let Some(descriptor) = pending.pop() {
        if !seen.insert(descriptor.digest) {
            continue;
        }
        found.push(descriptor.digest);
        let links = parsed(&descriptor, read)?.map_or_else(Vec::new, |one| one.links());
        let children = links.into_iter().filter(|link| link.role == Role::Child);
        pending.extend(children.map(|link| link.target));
    }
    Ok(found)
}

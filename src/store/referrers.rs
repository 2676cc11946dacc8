//! What is about an image: signatures, attestations, SBOMs, and what is about these.
//!
//! | how | found by |
//! |---|---|
//! | `subject` | a manifest whose `subject` is the image (image-spec, manifest.md): held by the image |
//! | cosign's tags | a tag `sha256-HEX.sig`, `.att` or `.sbom`: held by that tag, in whatever repository |
//!
//! An image is its manifest, or an index with all of its members: what is about a member is about
//! the image.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use super::{Lease, Result, Store};
use crate::catalog::BlobRow;
use crate::catalog::blob::BlobId;
use crate::oci::document::{self, Descriptor, Document, MANIFEST_LIMIT, Manifest, Role};
use crate::oci::{Digest, Reference};

/// What cosign's tags end with.
pub const COSIGN: [&str; 3] = [".sig", ".att", ".sbom"];

/// Something about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its manifest, or its index.
    pub digest: Digest,
    /// How it is known that it is.
    pub by: By,
}

/// How it is known that something is about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// It says so itself: its `subject`, which may be about something in turn.
    Subject(Digest),
    /// This tag of the image's repository says so.
    Tag(String),
}

impl About {
    /// What it is called beside an image that is called `image`: only what has a tag is.
    pub fn name_beside(&self, image: Option<&str>) -> Option<String> {
        let By::Tag(tag) = &self.by else { return None };
        Some(match image.and_then(|name| name.rsplit_once(':')) {
            Some((repository, _)) => format!("{repository}:{tag}"),
            None => tag.clone(),
        })
    }
}

/// Which kinds of things about an image are wanted. What is about those comes with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kinds {
    types: Vec<String>,
}

impl Kinds {
    /// Those of these artifact types; none: all that there are.
    pub fn of(types: Vec<String>) -> Kinds {
        Kinds { types }
    }

    /// The only type that is wanted, if it is one.
    pub fn only(&self) -> Option<&str> {
        match self.types.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    /// Whether something of this type is wanted.
    pub fn takes(&self, artifact_type: Option<&str>) -> bool {
        self.types.is_empty()
            || artifact_type.is_some_and(|found| self.types.iter().any(|kind| kind == found))
    }

    /// The same of a document. What cosign keeps under its tags says only by its layers what it is.
    pub fn takes_document(&self, document: &Document) -> bool {
        let layers = match document {
            Document::Manifest(manifest) => manifest.layers.as_slice(),
            _ => &[],
        };
        self.takes(artifact_type(document))
            || layers
                .iter()
                .any(|layer| self.takes(Some(&layer.media_type)))
    }
}

/// What kind of artifact a document is (image-spec, manifest.md, "artifactType"): what it says, or
/// else its config's media type.
pub fn artifact_type(document: &Document) -> Option<&str> {
    match document {
        Document::Manifest(manifest) => Some(kind_of(manifest)),
        _ => None,
    }
}

fn kind_of(manifest: &Manifest) -> &str {
    let own = manifest.artifact_type.as_deref();
    own.filter(|kind| !kind.is_empty())
        .unwrap_or(&manifest.config.media_type)
}

/// What a document is about, as it says itself.
pub fn subject(document: &Document) -> Option<&Descriptor> {
    match document {
        Document::Manifest(manifest) => manifest.subject.as_ref(),
        Document::Index(index) => index.subject.as_ref(),
        Document::Other(_) | Document::Leaf => None,
    }
}

/// The tag under which registries without the referrers API list what is about a manifest
/// (distribution-spec, "Referrers Tag Schema"), and with which cosign's tags begin.
pub fn tag_of(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}

impl Store {
    /// A manifest, or an index and the members that are here.
    pub fn documents(&self, root: &Digest) -> Result<Vec<Digest>> {
        let found = self.catalog().read(|tx| {
            let mut found = Vec::new();
            let mut seen = HashSet::new();
            let mut pending: Vec<BlobId> = tx.blob(root)?.map(|row| row.id).into_iter().collect();
            while let Some(id) = pending.pop() {
                let Some(row) = tx.blob_by_id(id)?.filter(BlobRow::is_usable) else {
                    continue;
                };
                if !seen.insert(id) {
                    continue;
                }
                found.push(row.digest);
                let edges = tx.edges_from(id)?;
                let children = edges.iter().filter(|edge| edge.role == Role::Child);
                pending.extend(children.rev().map(|edge| edge.target));
            }
            Ok(found)
        })?;
        Ok(found)
    }

    /// All that the store has about an image: what is about something stands behind it. Of
    /// repositories with the same cosign tag the one that `name` is of counts.
    pub fn about(&self, root: &Digest, name: Option<&str>, kinds: &Kinds) -> Result<Vec<About>> {
        let documents = self.documents(root)?;
        let referrers = self.subjects()?;
        let mut found = Vec::new();
        let mut seen: HashSet<Digest> = documents.iter().copied().collect();
        let mut level = documents.clone();
        let mut first = true;
        while !level.is_empty() {
            let mut next = Vec::new();
            for subject in &level {
                for digest in referrers.get(subject).into_iter().flatten() {
                    if seen.contains(digest) || first && !self.is_wanted(digest, kinds)? {
                        continue;
                    }
                    seen.insert(*digest);
                    next.push(*digest);
                    found.push(About {
                        digest: *digest,
                        by: By::Subject(*subject),
                    });
                }
            }
            (level, first) = (next, false);
        }
        for (tag, digest) in self.cosign_tags(&documents, name)? {
            if !seen.contains(&digest) && self.is_wanted(&digest, kinds)? {
                let by = By::Tag(tag);
                found.push(About { digest, by });
            }
        }
        Ok(found)
    }

    /// By what they are about, all documents that are here and say so.
    fn subjects(&self) -> Result<HashMap<Digest, Vec<Digest>>> {
        let found = self.catalog().read(|tx| {
            let mut edges = Vec::new();
            tx.each_edge_after(0, |edge| {
                if edge.role == Role::Subject {
                    edges.push((edge.target, edge.source));
                }
            })?;
            let mut found: HashMap<Digest, Vec<Digest>> = HashMap::new();
            for (target, source) in edges {
                let usable = tx.blob_by_id(source)?.filter(BlobRow::is_usable);
                if let (Some(source), Some(target)) = (usable, tx.blob_by_id(target)?) {
                    found.entry(target.digest).or_default().push(source.digest);
                }
            }
            Ok(found)
        })?;
        Ok(found)
    }

    fn is_wanted(&self, digest: &Digest, kinds: &Kinds) -> Result<bool> {
        if *kinds == Kinds::default() {
            return Ok(true);
        }
        let bytes = self.layout().blobs().read(digest, MANIFEST_LIMIT)?;
        let document = document::parse(&bytes, "").map_err(|source| super::Error::Document {
            digest: *digest,
            source,
        })?;
        Ok(kinds.takes_document(&document))
    }

    /// Cosign's tags for these documents, without their repositories.
    fn cosign_tags(
        &self,
        documents: &[Digest],
        name: Option<&str>,
    ) -> Result<BTreeMap<String, Digest>> {
        let repository = name.and_then(|name| Some(name.rsplit_once(':')?.0));
        let wanted: HashSet<String> = documents
            .iter()
            .flat_map(|digest| COSIGN.map(|suffix| format!("{}{suffix}", tag_of(digest))))
            .collect();
        let found = self.catalog().read(|tx| {
            let mut found = BTreeMap::new();
            for entry in tx.index_entries()? {
                let Some((of, tag)) = entry.name.as_deref().and_then(|name| name.rsplit_once(':'))
                else {
                    continue;
                };
                if !wanted.contains(tag) {
                    continue;
                }
                if let Some(row) = tx.blob_by_id(entry.blob)?.filter(BlobRow::is_usable)
                    && (repository == Some(of) || !found.contains_key(tag))
                {
                    found.insert(tag.to_owned(), row.digest);
                }
            }
            Ok(found)
        })?;
        Ok(found)
    }
}

impl Lease<'_> {
    /// Keeps what was taken in about an image that is about to get the name `of`, or has it: what
    /// has a `subject` the image holds; what cosign tags gets its tag in the image's repository.
    pub fn keep_about(&self, about: &[About], of: Option<&Reference>) -> Result<()> {
        for one in about {
            match (&one.by, of) {
                (By::Subject(_), _) => self.store().make_durable(&one.digest)?,
                (By::Tag(tag), Some(of)) => {
                    let name = Reference {
                        tag: Some(tag.clone()),
                        digest: None,
                        ..of.clone()
                    };
                    self.tag(&[name.familiar()], &one.digest)?;
                }
                (By::Tag(_), None) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(more: &str) -> Document {
        let digest = Digest::of(b"x");
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
                "config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{digest}","size":2}},
                "layers":[{{"mediaType":"text/spdx","digest":"{digest}","size":1}}]{more}}}"#
        );
        document::parse(text.as_bytes(), "").unwrap()
    }

    #[test]
    fn a_document_is_of_the_kind_that_it_says_or_its_config_or_its_layers() {
        let plain = parsed("");
        let config = "application/vnd.oci.empty.v1+json";
        assert_eq!(artifact_type(&plain), Some(config));
        let typed = parsed(r#","artifactType":"application/sbom""#);
        assert_eq!(artifact_type(&typed), Some("application/sbom"));
        let kinds = |types: &[&str]| Kinds::of(types.iter().map(|t| (*t).to_owned()).collect());
        assert!(kinds(&[]).takes_document(&plain) && kinds(&[]).takes(None));
        assert!(kinds(&["a/b", "text/spdx"]).takes_document(&plain));
        assert!(!kinds(&["a/b"]).takes_document(&typed));
        assert_eq!(kinds(&["a/b"]).only(), Some("a/b"));
        assert_eq!(kinds(&["a/b", "c/d"]).only(), None);
    }

    #[test]
    fn what_a_document_is_about_it_says() {
        let digest = Digest::of(b"image");
        let text = format!(r#","subject":{{"mediaType":"","digest":"{digest}","size":5}}"#);
        let document = parsed(&text);
        assert_eq!(
            subject(&document).map(|subject| subject.digest),
            Some(digest)
        );
        assert_eq!(subject(&parsed("")), None);
        assert_eq!(tag_of(&digest), format!("sha256-{}", digest.hex()));
    }
}

//! What a user meant: a name, an image ID or a part of it, a digest.
//!
//! In this order: a tag exactly as it was written; the familiar form of the name (`app` is
//! `app:latest`); `name@digest`; a digest `sha256:…`; a prefix of at least four hexadecimal
//! digits of an image ID or a manifest digest. A name wins over a prefix, as docker has it.

use super::{ImageGraph, NodeId};
use crate::catalog::blob::BlobKind;
use crate::catalog::snapshot::SnapshotRow;
use crate::oci::{Digest, Platform, Reference};
use crate::words;

/// What a reference led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The manifest or index (or, from [`ImageGraph::resolve_any`], any blob).
    pub node: NodeId,
    /// The tag by which it was found.
    pub name: Option<String>,
}

/// Why a reference leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nothing is called that.
    #[error("no image {text:?} in the store{}", near_words(near))]
    Unknown {
        /// What was asked for.
        text: String,
        /// Tags that are spelled almost like it, the nearest first.
        near: Vec<String>,
    },
    /// More than one image begins so.
    #[error(
        "{text:?} is not unique: it begins {}; write more digits",
        candidate_words(candidates)
    )]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// The IDs that begin so, with a name each where they have one.
        candidates: Vec<(Digest, Option<String>)>,
    },
    /// An index without an image for the platform.
    #[error("{text:?} has no image for {platform}; it has {}", if has.is_empty() { "none that is in the store".to_owned() } else { has.join(", ") })]
    Platform {
        /// What was asked for.
        text: String,
        /// The platform that was wanted.
        platform: String,
        /// The platforms that there are.
        has: Vec<String>,
    },
    /// It is there, and is not an image.
    #[error("{text:?} is not an image but {what}")]
    NotAnImage {
        /// What was asked for.
        text: String,
        /// What it is.
        what: String,
    },
}

fn near_words(near: &[String]) -> String {
    match near {
        [] => "; `rstore images -a` lists what there is".to_owned(),
        near => format!("; did you mean {}?", near.join(" or ")),
    }
}

fn candidate_words(candidates: &[(Digest, Option<String>)]) -> String {
    let word = |(id, name): &(Digest, Option<String>)| match name {
        Some(name) => format!("{} ({name})", id.short()),
        None => id.short(),
    };
    candidates.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// How many near names are suggested.
const NEAR: usize = 3;

/// The shortest prefix of an ID that is taken for one.
const SHORTEST: usize = 4;

impl ImageGraph {
    /// The manifest or index that a reference means.
    pub fn resolve(&self, text: &str) -> Result<Found, ResolveError> {
        if let Some(found) = self.by_name(text).or_else(|| self.by_digest(text)) {
            return self.document(text, found);
        }
        let images = self.images().map(|image| image.node());
        let others = self.nodes().filter(|node| {
            node.present
                && !node.condemned
                && matches!(node.kind, BlobKind::Index | BlobKind::Manifest)
                && self.image(node.node).is_none()
        });
        let all = images.chain(others.map(|node| node.node));
        match self.by_prefix(text, all)? {
            Some(node) => Ok(Found { node, name: None }),
            None => Err(self.unknown(text)),
        }
    }

    /// Like [`ImageGraph::resolve`], but also finds layers, configs and other blobs, by digest or
    /// by a prefix of it, and layers by diff ID.
    pub fn resolve_any(&self, text: &str) -> Result<Found, ResolveError> {
        match self.resolve(text) {
            Err(ResolveError::Unknown { .. } | ResolveError::NotAnImage { .. }) => {}
            other => return other,
        }
        let by_diff = |node: NodeId| self.layer(node).map(|layer| layer.diff_id());
        if let Ok(digest) = text.parse::<Digest>() {
            let layer = || self.layers().find(|layer| layer.diff_id() == digest);
            return self
                .find(&digest)
                .or_else(|| layer().map(|layer| layer.node()))
                .map(|node| Found { node, name: None })
                .ok_or_else(|| self.unknown(text));
        }
        let Some(prefix) = hex_prefix(text) else {
            return Err(self.unknown(text));
        };
        let mut matches: Vec<NodeId> = self
            .nodes()
            .filter(|node| {
                starts(&node.digest, prefix)
                    || by_diff(node.node).is_some_and(|diff_id| starts(&diff_id, prefix))
            })
            .map(|node| node.node)
            .collect();
        match (matches.pop(), matches.is_empty()) {
            (None, _) => Err(self.unknown(text)),
            (Some(node), true) => Ok(Found { node, name: None }),
            (Some(node), false) => {
                matches.push(node);
                let digests = matches.iter().map(|node| (self.node(*node).digest, None));
                Err(ambiguous(text, digests.collect()))
            }
        }
    }

    /// The manifest of the image that a reference means; of an index, the member for `platform`.
    pub fn resolve_image(&self, text: &str, platform: &Platform) -> Result<NodeId, ResolveError> {
        let found = self.resolve(text)?;
        if self.image(found.node).is_some() {
            return Ok(found.node);
        }
        let node = self.node(found.node);
        if node.kind != BlobKind::Index {
            return Err(self.not_an_image(text, found.node));
        }
        let members = self.images_of(found.node);
        let wanted = platform.to_string();
        let base = format!("{}/{}", platform.os, platform.architecture);
        let fits = |image: &&super::Image| {
            let rest = image.platform().strip_prefix(&base);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let exact = members.iter().find(|image| image.platform() == wanted);
        match exact.or_else(|| members.iter().find(fits)) {
            Some(image) => Ok(image.node()),
            None => Err(ResolveError::Platform {
                text: text.to_owned(),
                platform: wanted,
                has: members.iter().map(|m| m.platform().to_owned()).collect(),
            }),
        }
    }

    /// The snapshot whose chain ID, or the beginning of it, this is.
    pub fn resolve_snapshot(&self, text: &str) -> Option<&SnapshotRow> {
        let prefix = hex_prefix(text)?;
        let mut matches = self
            .snapshots()
            .iter()
            .filter(|snapshot| starts(&snapshot.chain, prefix));
        matches.next().filter(|_| matches.next().is_none())
    }

    fn by_name(&self, text: &str) -> Option<Found> {
        let found = |(name, node): &(String, NodeId)| Found {
            node: *node,
            name: Some(name.clone()),
        };
        if let Some(tag) = self.tags().iter().find(|(name, _)| name == text) {
            return Some(found(tag));
        }
        let mut wanted = text.parse::<Reference>().ok()?;
        if let Some(digest) = wanted.digest.take() {
            let node = self.find(&digest).filter(|node| self.node(*node).present)?;
            return Some(Found { node, name: None });
        }
        let familiar = wanted.familiar();
        let tags = self.tags();
        tags.iter()
            .find(|(name, _)| *name == familiar)
            // Another tool may have written the name in full, or in another short form.
            .or_else(|| {
                tags.iter()
                    .find(|(name, _)| name.parse::<Reference>().is_ok_and(|name| name == wanted))
            })
            .map(found)
    }

    fn by_digest(&self, text: &str) -> Option<Found> {
        let digest = text.parse::<Digest>().ok()?;
        let node = self.find(&digest)?;
        let of_config = self.newest(self.images().filter(|image| image.config() == node));
        Some(Found {
            node: of_config.unwrap_or(node),
            name: None,
        })
    }

    /// Of the images with one ID, the tagged one, else the newest.
    fn newest<'a>(&self, images: impl Iterator<Item = super::Image<'a>>) -> Option<NodeId> {
        images
            .max_by_key(|image| (image.names().next().is_some(), image.node()))
            .map(|image| image.node())
    }

    fn by_prefix(
        &self,
        text: &str,
        documents: impl Iterator<Item = NodeId>,
    ) -> Result<Option<NodeId>, ResolveError> {
        let Some(prefix) = hex_prefix(text) else {
            return Ok(None);
        };
        // Manifests with the same config are one image to whoever reads its ID.
        let mut ids: Vec<(Digest, NodeId)> = Vec::new();
        for node in documents {
            let digest = self.node(node).digest;
            let id = self.image(node).map_or(digest, |image| image.id());
            if starts(&digest, prefix) || starts(&id, prefix) {
                ids.push((id, node));
            }
        }
        ids.sort_unstable();
        let nodes = ids.iter().map(|(_, node)| *node);
        let best = self.newest(nodes.filter_map(|node| self.image(node)));
        let best = best.or(ids.first().map(|(_, node)| *node));
        ids.dedup_by_key(|(id, _)| *id);
        if ids.len() < 2 {
            return Ok(best);
        }
        let candidates = ids
            .into_iter()
            .map(|(id, node)| (id, self.names(node).next().map(str::to_owned)))
            .collect();
        Err(ambiguous(text, candidates))
    }

    fn document(&self, text: &str, found: Found) -> Result<Found, ResolveError> {
        match self.node(found.node).kind {
            BlobKind::Index | BlobKind::Manifest => Ok(found),
            // What a tag points at is a document, whatever its type.
            _ if found.name.is_some() => Ok(found),
            _ => Err(self.not_an_image(text, found.node)),
        }
    }

    fn not_an_image(&self, text: &str, node: NodeId) -> ResolveError {
        let what = match self.node(node).kind {
            BlobKind::Index => "an index",
            BlobKind::Manifest => "an artifact",
            BlobKind::Config => "the config of an image that is gone",
            BlobKind::Layer => "a layer",
            BlobKind::Other | BlobKind::Unknown => "a blob of another kind",
        };
        ResolveError::NotAnImage {
            text: text.to_owned(),
            what: what.to_owned(),
        }
    }

    fn unknown(&self, text: &str) -> ResolveError {
        let mut near: Vec<(usize, &str)> = self
            .tags()
            .iter()
            .map(|(name, _)| {
                let repository = name.rsplit_once(':').map_or(&**name, |(name, _)| name);
                (
                    words::distance(text, name).min(words::distance(text, repository)),
                    &**name,
                )
            })
            .filter(|(distance, _)| *distance <= (text.chars().count() / 3).max(1))
            .collect();
        near.sort_unstable();
        near.dedup();
        near.truncate(NEAR);
        ResolveError::Unknown {
            text: text.to_owned(),
            near: near.into_iter().map(|(_, name)| name.to_owned()).collect(),
        }
    }
}

fn ambiguous(text: &str, candidates: Vec<(Digest, Option<String>)>) -> ResolveError {
    ResolveError::Ambiguous {
        text: text.to_owned(),
        candidates,
    }
}

/// The digits of a prefix that is long enough to be meant as one.
fn hex_prefix(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let hexadecimal = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let fits = (SHORTEST..=64).contains(&digits.len()) && digits.bytes().all(hexadecimal);
    fits.then_some(digits)
}

fn starts(digest: &Digest, prefix: &str) -> bool {
    // The first two digits are compared as bytes: almost every digest fails there.
    let first = u8::from_str_radix(&prefix[..2], 16);
    first.is_ok_and(|first| first == digest.as_bytes()[0]) && digest.hex().starts_with(prefix)
}

#[cfg(test)]
mod tests {
    use super::super::sample::Letters;
    use super::*;

    #[test]
    fn an_image_is_found_by_id_by_digest_and_by_the_beginnings_of_them() {
        let letters = Letters::new("A->a B->b +B");
        let (id, digest) = (Digest::of(b"A."), Digest::of(b"A"));
        for text in [
            id.to_string(),
            digest.to_string(),
            id.short(),
            digest.hex()[..8].to_owned(),
            format!("sha256:{}", &digest.hex()[..8]),
        ] {
            assert_eq!(
                letters.graph.resolve(&text).unwrap().node,
                letters.node("A")
            );
        }
        let found = letters.graph.resolve("B").unwrap();
        assert_eq!(found.name.as_deref(), Some("B"));
    }

    #[test]
    fn a_layer_is_no_image_but_can_be_asked_about() {
        let letters = Letters::new("A->a");
        let digest = Digest::of(b"a").to_string();
        assert!(matches!(
            letters.graph.resolve(&digest),
            Err(ResolveError::NotAnImage { .. })
        ));
        let found = letters.graph.resolve_any(&digest).unwrap();
        assert_eq!(found.node, letters.node("a"));
        let short = &Digest::of(b"a").hex()[..9];
        assert_eq!(letters.graph.resolve_any(short).unwrap().node, found.node);
    }

    #[test]
    fn an_index_gives_the_member_for_the_platform_or_says_what_it_has() {
        let letters = Letters::new("X->A A->a +X");
        let platform = |architecture: &str| Platform {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: None,
        };
        let graph = &letters.graph;
        let found = graph.resolve_image("X", &platform("amd64")).unwrap();
        assert_eq!(found, letters.node("A"));
        let error = graph.resolve_image("X", &platform("s390x")).unwrap_err();
        assert!(error.to_string().contains("it has linux/amd64"), "{error}");
    }

    #[test]
    fn an_unknown_name_suggests_near_ones() {
        assert_eq!(words::distance("kitten", "sitting"), 3);
        assert_eq!(words::distance("", "ab"), 2);
        let letters = Letters::new("A->a +A");
        let error = letters.graph.resolve("zzzzzz").unwrap_err();
        assert!(error.to_string().contains("rstore images -a"), "{error}");
    }
}

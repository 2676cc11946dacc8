//! How many bytes an image has, and how many of them are its own.
//!
//! Blobs are counted once an image, however often it holds them, and only those that are there.
//! All sizes are allocated bytes beside plain ones: the former are what a disk gives back.

use super::{ImageGraph, NodeId, NodeSet, Roles};
use crate::oci::document::Role;

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

impl std::ops::AddAssign for Bytes {
    fn add_assign(&mut self, other: Bytes) {
        self.size += other.size;
        self.allocated += other.allocated;
    }
}

impl ImageGraph {
    /// The bytes of an image, or of an index with all its members.
    ///
    /// An intermediate image holds the layers of what was made from it too, so that these count
    /// as shared; what the removal of an image frees is for `gc::plan_removal` to say.
    pub fn bytes_of(&self, node: NodeId) -> ImageBytes {
        self.bytes_by(node, |member| self.bytes_at(member))
    }

    /// The same, where `bytes` knows those of each blob.
    pub fn bytes_by(&self, node: NodeId, bytes: impl Fn(NodeId) -> Bytes) -> ImageBytes {
        let members = self.members(node);
        let has = |node: &NodeId| members.binary_search(node).is_ok();
        let mut sum = ImageBytes::default();
        for member in &members {
            let foreign = |(holder, role): (NodeId, Role)| {
                matches!(role, Role::Config | Role::Layer | Role::Other) && !has(&holder)
            };
            let counted = bytes(*member);
            sum.total += counted;
            if self.holders(*member).any(foreign) {
                sum.shared += counted;
            } else {
                sum.own += counted;
            }
        }
        sum
    }

    /// What a document needs in order to run, itself included, in the order of the graph. It is
    /// little, and lists ask for it of every image: a set as wide as the graph would cost more.
    fn members(&self, node: NodeId) -> Vec<NodeId> {
        let mut members = vec![node];
        let mut pending = vec![node];
        while let Some(node) = pending.pop() {
            for (target, role) in self.links(node) {
                if Roles::RUN.contains(role)
                    && let Err(place) = members.binary_search(&target)
                {
                    members.insert(place, target);
                    pending.push(target);
                }
            }
        }
        members
    }

    /// The bytes of a set of blobs.
    pub fn bytes_in(&self, set: &NodeSet) -> Bytes {
        let mut bytes = Bytes::default();
        for node in set.iter() {
            bytes += self.bytes_at(node);
        }
        bytes
    }

    fn bytes_at(&self, node: NodeId) -> Bytes {
        let node = self.node(node);
        if !node.present {
            return Bytes::default();
        }
        Bytes {
            size: node.size,
            allocated: node.allocated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Letters;

    #[test]
    fn what_two_images_hold_is_no_ones_own() {
        let letters = Letters::new("A->a,a,s B->b,s X->A");
        let bytes = letters.graph.bytes_of(letters.node("A"));
        // Manifest, config and `a`, once.
        assert_eq!((bytes.own.size, bytes.shared.size), (30, 10));
        assert_eq!(bytes.total.allocated, 4 * 4096);
    }
}

//! What is about an image: signatures, attestations, SBOMs.
//!
//! | how | found by |
//! |---|---|
//! | `subject` | a manifest whose `subject` is the image (image-spec, manifest.md) |
//! | the referrers tag | a tag `sha256-HEX` whose index lists them (distribution-spec, "Referrers Tag Schema") |
//! | cosign's tags | `sha256-HEX.sig`, `.att`, `.sbom` |

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::view::View;
use crate::graph::NodeId;
use crate::oci::document::{self, Document, INDEX_LIMIT, Role};

/// The referrers of an image's documents, each once.
pub fn of(view: &View, documents: [NodeId; 2]) -> Vec<Value> {
    let mut found: BTreeMap<NodeId, &str> = BTreeMap::new();
    for document in documents {
        for (holder, role) in view.graph.holders(document) {
            if role == Role::Subject {
                found.entry(holder).or_insert("subject");
            }
        }
        let hex = view.graph.node(document).digest.hex();
        for (name, node) in view.graph.tags() {
            let Some((_, tag)) = name.rsplit_once(':') else {
                continue;
            };
            let Some(suffix) = tag
                .strip_prefix("sha256-")
                .and_then(|t| t.strip_prefix(&*hex))
            else {
                continue;
            };
            let children = view
                .graph
                .links(*node)
                .filter(|(_, role)| *role == Role::Child);
            match suffix {
                "" => children.for_each(|(child, _)| {
                    found.entry(child).or_insert("referrers tag");
                }),
                ".sig" | ".att" | ".sbom" => {
                    found.entry(*node).or_insert("cosign tag");
                }
                _ => {}
            }
        }
    }
    found
        .into_iter()
        .map(|(node, by)| one(view, node, by))
        .collect()
}

fn one(view: &View, node: NodeId, by: &str) -> Value {
    let blob = view.graph.node(node);
    let bytes = view.store.layout().blobs().read(&blob.digest, INDEX_LIMIT);
    // One that cannot be read is still told of: that it is there is what matters.
    let document = bytes
        .ok()
        .and_then(|bytes| document::parse(&bytes, "").ok());
    let kind = match document {
        Some(Document::Manifest(manifest)) => {
            let config = manifest.config.media_type;
            manifest.artifact_type.or(Some(config))
        }
        _ => None,
    };
    json!({
        "digest": blob.digest,
        "artifact_type": kind,
        "by": by,
        "size": blob.size,
        "present": blob.present,
        "names": view.graph.names(node).collect::<Vec<_>>(),
    })
}

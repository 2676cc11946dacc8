//! A part of the image graph as a value: for graphviz and for programs.

use std::fmt::Write;

use serde::Serialize;

use super::{SCHEMA, size, text};
use crate::catalog::BlobKind;
use crate::oci::Digest;
use crate::oci::document::Role;

/// Vertices, and edges between them.
#[derive(Debug, Serialize)]
pub struct Picture {
    /// Images, indexes, layers.
    #[serde(rename = "nodes")]
    pub vertices: Vec<Vertex>,
    /// From what needs to what is needed.
    pub edges: Vec<Edge>,
}

/// An image, an index or a layer.
#[derive(Debug, Serialize)]
pub struct Vertex {
    /// The blob: of an image, its manifest.
    pub digest: Digest,
    /// What the blob is.
    pub kind: BlobKind,
    /// The image's ID.
    pub id: Option<Digest>,
    /// Its tags.
    pub names: Vec<String>,
    /// What it is in the store.
    pub state: &'static str,
    /// Bytes.
    pub size: u64,
    /// The instruction that made it.
    pub step: Option<String>,
}

/// That one thing needs another.
#[derive(Debug, Serialize)]
pub struct Edge {
    /// What needs.
    pub from: Digest,
    /// What is needed.
    pub to: Digest,
    /// As what.
    pub kind: EdgeKind,
}

/// As what something is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EdgeKind {
    /// The image that a step started from.
    Parent,
    /// An image that a step copied from or mounted.
    Stage,
    /// A layer.
    Layer,
    /// An index's member.
    Member,
}

impl EdgeKind {
    /// What a content link is; configs and referrers are not drawn.
    pub fn of(role: Role) -> Option<EdgeKind> {
        match role {
            Role::Child => Some(EdgeKind::Member),
            Role::Layer => Some(EdgeKind::Layer),
            Role::Config | Role::Subject | Role::Other => None,
        }
    }

    /// The word for what stands at the end of such an edge: at that of who needs, or the other.
    pub fn word(self, needs: bool) -> &'static str {
        match (self, needs) {
            (EdgeKind::Parent, true) => "child",
            (EdgeKind::Parent, false) => "parent",
            (EdgeKind::Stage, true) => "copied by",
            (EdgeKind::Stage, false) => "stage",
            (EdgeKind::Layer, true) => "layer of",
            (EdgeKind::Layer, false) => "layer",
            (EdgeKind::Member, true) => "member of",
            (EdgeKind::Member, false) => "member",
        }
    }
}

impl Picture {
    /// One JSON document.
    pub fn json(&self) -> serde_json::Result<String> {
        let mut document = serde_json::Map::new();
        document.insert("schema".to_owned(), SCHEMA.into());
        if let serde_json::Value::Object(members) = serde_json::to_value(self)? {
            document.extend(members);
        }
        serde_json::to_string_pretty(&document)
    }

    /// Graphviz' language. Arrows lead from what was first to what was made of it.
    pub fn dot(&self) -> String {
        let mut dot = String::from(
            "digraph rstore {\n  rankdir=TB;\n  node [shape=box, fontname=\"sans-serif\", fontsize=10];\n",
        );
        for vertex in &self.vertices {
            let _ = writeln!(
                dot,
                "  \"{}\" [label=\"{}\"{}];",
                vertex.digest.short(),
                label(vertex),
                style(vertex)
            );
        }
        for edge in &self.edges {
            let look = match edge.kind {
                EdgeKind::Parent => "",
                EdgeKind::Stage => " [style=dashed, label=\"stage\", fontsize=8]",
                EdgeKind::Layer => " [style=dotted, arrowhead=none]",
                EdgeKind::Member => " [arrowhead=odiamond]",
            };
            let _ = writeln!(
                dot,
                "  \"{}\" -> \"{}\"{look};",
                edge.to.short(),
                edge.from.short()
            );
        }
        dot.push_str("}\n");
        dot
    }
}

fn label(vertex: &Vertex) -> String {
    let id = vertex.id.unwrap_or(vertex.digest).short();
    let mut lines = vec![quoted(&text::clean(&vertex.names.join(", ")))];
    let step = vertex.step.as_deref().unwrap_or("");
    lines.push(quoted(&text::shorten(&text::clean(step), 40)));
    lines.push(format!(
        "{id} {} {}",
        vertex.state,
        size::short(vertex.size)
    ));
    lines.retain(|line| !line.is_empty());
    lines.join("\\n")
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn style(vertex: &Vertex) -> &'static str {
    match (vertex.kind, vertex.state) {
        (BlobKind::Layer, _) => ", shape=ellipse",
        (_, "tagged") => ", style=bold",
        (_, "dangling") => ", style=dashed",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_quotes_what_strangers_wrote() {
        let vertex = |text: &[u8], step: &str| Vertex {
            digest: Digest::of(text),
            kind: BlobKind::Manifest,
            id: None,
            names: Vec::new(),
            state: "dangling",
            size: 1000,
            step: Some(step.to_owned()),
        };
        let picture = Picture {
            vertices: vec![vertex(b"a", "RUN echo \"\\\" ]; x"), vertex(b"b", "")],
            edges: vec![Edge {
                from: Digest::of(b"a"),
                to: Digest::of(b"b"),
                kind: EdgeKind::Stage,
            }],
        };
        let dot = picture.dot();
        assert!(dot.contains(r#"RUN echo \"\\\" ]; x\n"#), "{dot}");
        let arrow = format!(
            "\"{}\" -> \"{}\" [style=dashed",
            Digest::of(b"b").short(),
            Digest::of(b"a").short()
        );
        assert!(dot.contains(&arrow), "{dot}");
    }
}

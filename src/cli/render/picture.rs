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
    /// Where it stands for a line of steps ([`super::fold`]): the IDs of all of them.
    #[serde(skip)]
    pub folded: Vec<Digest>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
    pub fn document(&self) -> serde_json::Result<serde_json::Value> {
        let mut document = serde_json::Map::new();
        document.insert("schema".to_owned(), SCHEMA.into());
        if let serde_json::Value::Object(members) = serde_json::to_value(self)? {
            document.extend(members);
        }
        Ok(serde_json::Value::Object(document))
    }

    /// Graphviz' language; instructions in full, or cut. Arrows lead from what was first to what was made of it.
    pub fn dot(&self, whole_steps: bool) -> String {
        let mut dot = String::from(
            "digraph rstore {\n  rankdir=TB;\n  node [shape=box, fontname=\"sans-serif\", fontsize=10];\n",
        );
        for vertex in &self.vertices {
            let _ = writeln!(
                dot,
                "  \"{}\" [label=\"{}\"{}];",
                vertex.digest.short(),
                label(vertex, whole_steps),
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

    /// Mermaid's flowchart language, instructions in full or cut, as Markdown pages draw it.
    pub fn mermaid(&self, whole_steps: bool) -> String {
        let mut text = String::from("flowchart TB\n");
        for (place, vertex) in self.vertices.iter().enumerate() {
            let (open, close) = match vertex.kind {
                BlobKind::Layer => ("([", "])"),
                _ => ("[", "]"),
            };
            let label = entities(&lines(vertex, whole_steps).join("<br/>"));
            let _ = writeln!(text, "  n{place}{open}\"{label}\"{close}");
            let _ = writeln!(text, "  class n{place} {}", vertex.state.replace(' ', "_"));
        }
        let places: std::collections::HashMap<_, _> = self
            .vertices
            .iter()
            .enumerate()
            .map(|(place, vertex)| (vertex.digest, place))
            .collect();
        for edge in &self.edges {
            let (Some(from), Some(to)) = (places.get(&edge.from), places.get(&edge.to)) else {
                continue;
            };
            let arrow = match edge.kind {
                EdgeKind::Parent => "-->",
                EdgeKind::Stage => "-. stage .->",
                EdgeKind::Layer => "-.-",
                EdgeKind::Member => "--o",
            };
            let _ = writeln!(text, "  n{to} {arrow} n{from}");
        }
        text.push_str("  classDef tagged stroke-width:3px\n");
        text.push_str("  classDef dangling stroke-dasharray:4\n");
        text
    }
}

/// What mermaid would read as its own in a quoted label, as its numbered entities.
fn entities(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = rest.find(['"', '#', '&', '<', '>', '`']) {
        safe.push_str(&rest[..place]);
        rest = &rest[place..];
        if let Some(after) = rest.strip_prefix("<br/>") {
            safe.push_str("<br/>");
            rest = after;
            continue;
        }
        let character = rest.chars().next().unwrap_or_default();
        let _ = write!(safe, "#{};", u32::from(character));
        rest = &rest[character.len_utf8()..];
    }
    safe.push_str(rest);
    safe
}

/// What stands in a box.
fn lines(vertex: &Vertex, whole_steps: bool) -> Vec<String> {
    let id = vertex.id.unwrap_or(vertex.digest).short();
    let step = vertex.step.as_deref().unwrap_or("");
    let step = text::clean(step);
    let mut lines = vec![
        text::clean(&vertex.names.join(", ")),
        match whole_steps {
            true => step,
            false => text::shorten(&step, 40),
        },
        format!("{id} {} {}", vertex.state, size::short(vertex.size)),
    ];
    lines.retain(|line| !line.is_empty());
    lines
}

fn label(vertex: &Vertex, whole_steps: bool) -> String {
    let lines: Vec<String> = lines(vertex, whole_steps)
        .iter()
        .map(|line| quoted(line))
        .collect();
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
            folded: Vec::new(),
        };
        let picture = Picture {
            vertices: vec![vertex(b"a", "RUN echo \"\\\" ]; x"), vertex(b"b", "")],
            edges: vec![Edge {
                from: Digest::of(b"a"),
                to: Digest::of(b"b"),
                kind: EdgeKind::Stage,
            }],
        };
        let dot = picture.dot(false);
        assert!(dot.contains(r#"RUN echo \"\\\" ]; x\n"#), "{dot}");
        let arrow = format!(
            "\"{}\" -> \"{}\" [style=dashed",
            Digest::of(b"b").short(),
            Digest::of(b"a").short()
        );
        assert!(dot.contains(&arrow), "{dot}");
    }
    #[test]
    fn mermaid_reads_nothing_of_its_own_in_what_strangers_wrote() {
        assert_eq!(
            entities("a<br/>RUN echo \"#x\" <b>`"),
            "a<br/>RUN echo #34;#35;x#34; #60;b#62;#96;"
        );
    }
}

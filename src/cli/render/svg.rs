//! The graph as a picture (SVG) and as a page that finds things in it (HTML). Both stand alone:
//! no font, script or style comes from elsewhere.
//!
//! ```text
//!  arcs │ rails │ names  instruction            state  size  ID
//!    ╭──│─●─────│ base:latest                   tagged 4MB   0a1b…
//!    ╰──│─│─●───│ COPY --from=…                 …
//! ```

use std::fmt::Write;

use super::picture::{EdgeKind, Picture, Vertex};
use super::rails::{self, Arc, Rails, Row};
use super::{size, text};
use crate::catalog::BlobKind;

/// Sizes, in CSS pixels.
const ROW: usize = 22;
const RAIL: usize = 16;
const TRACK: usize = 7;
const MARGIN: usize = 12;
/// The width of a character of the text, more or less.
const CHARACTER: usize = 7;
/// The longest instruction that is drawn; the whole stands in the row's tooltip.
const STEP: usize = 72;

const STYLE: &str = include_str!("svg.css");
const PAGE_STYLE: &str = include_str!("page.css");
/// What lights up what is searched and what is related: of every page with such a picture.
pub(super) const GRAPH_SCRIPT: &str = include_str!("graph.js");
const SCRIPT: &str = include_str!("page.js");

/// The picture alone.
pub fn svg(picture: &Picture) -> String {
    let mut out = String::new();
    Drawing::of(picture).write(&mut out, STYLE);
    out
}

/// The picture for a page that has the style already.
pub fn unstyled(picture: &Picture) -> String {
    let mut out = String::new();
    Drawing::of(picture).write(&mut out, "");
    out
}

/// A page with the picture, on which rows are searched, and what is related is lit up.
pub fn html(picture: &Picture, title: &str) -> String {
    let drawing = Drawing::of(picture);
    let mut out = String::new();
    let title = escaped(title);
    let count = picture.vertices.len();
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{PAGE_STYLE}</style>\n</head>\n<body>\n\
         <header><h1>{title}</h1>\n\
         <input id=\"find\" type=\"search\" placeholder=\"name, instruction or digest\" \
         aria-label=\"find\" autocomplete=\"off\">\n\
         <output id=\"found\">{count} shown</output>\n\
         <span><button id=\"smaller\" aria-label=\"smaller\">−</button> \
         <button id=\"larger\" aria-label=\"larger\">+</button></span></header>\n<main>\n"
    );
    drawing.write(&mut out, STYLE);
    let _ = write!(
        out,
        "</main>\n<script>\n{GRAPH_SCRIPT}{SCRIPT}</script>\n</body>\n</html>\n"
    );
    out
}

struct Drawing<'a> {
    picture: &'a Picture,
    rails: Rails,
}

impl Drawing<'_> {
    fn of(picture: &Picture) -> Drawing<'_> {
        Drawing {
            picture,
            rails: rails::lay_out(picture),
        }
    }

    fn x(&self, rail: usize) -> usize {
        MARGIN + self.rails.tracks * TRACK + rail * RAIL + RAIL / 2
    }

    fn y(row: usize) -> usize {
        MARGIN + row * ROW + ROW / 2
    }

    /// Where the text begins.
    fn text_x(&self) -> usize {
        self.x(self.rails.rails) + RAIL / 2
    }

    fn write(&self, out: &mut String, style: &str) {
        let widest = self
            .picture
            .vertices
            .iter()
            .map(|vertex| label(vertex).width())
            .max()
            .unwrap_or(0);
        let width = self.text_x() + widest * CHARACTER + MARGIN;
        let height = 2 * MARGIN + self.rails.rows.len() * ROW;
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">"
        );
        if !style.is_empty() {
            let _ = writeln!(out, "<style>\n{style}</style>");
        }
        let _ = writeln!(
            out,
            "<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>"
        );
        for arc in &self.rails.arcs {
            self.write_arc(out, arc);
        }
        for (number, row) in self.rails.rows.iter().enumerate() {
            self.write_rail(out, number, row);
        }
        for (number, row) in self.rails.rows.iter().enumerate() {
            self.write_row(out, number, row);
        }
        out.push_str("</svg>\n");
    }

    fn write_arc(&self, out: &mut String, arc: &Arc) {
        let kind = match arc.kind {
            EdgeKind::Parent => "parent",
            EdgeKind::Stage => "stage",
            EdgeKind::Layer => "layer",
            EdgeKind::Member => "member",
        };
        let bend = MARGIN + (self.rails.tracks - 1 - arc.track) * TRACK;
        let end = |row: usize| (self.x(self.rails.rows[row].rail), Drawing::y(row));
        let ((x1, y1), (x2, y2)) = (end(arc.from), end(arc.to));
        let _ = writeln!(
            out,
            "<path class=\"arc {kind}\" data-from=\"{}\" data-to=\"{}\" \
             d=\"M{x1} {y1}C{bend} {y1} {bend} {y1} {bend} {}L{bend} {}C{bend} {y2} {bend} {y2} {x2} {y2}\"/>",
            arc.from,
            arc.to,
            if y1 < y2 { y1 + TRACK } else { y1 - TRACK },
            if y1 < y2 { y2 - TRACK } else { y2 + TRACK },
        );
    }

    fn write_rail(&self, out: &mut String, number: usize, row: &Row) {
        let Some(above) = row.above else { return };
        let (x1, y1) = (self.x(self.rails.rows[above].rail), Drawing::y(above));
        let (x2, y2) = (self.x(row.rail), Drawing::y(number));
        let path = if x1 == x2 {
            format!("M{x1} {y1}V{y2}")
        } else {
            let turn = y2 - ROW / 2;
            format!("M{x1} {y1}V{turn}Q{x1} {y2} {x2} {y2}")
        };
        let _ = writeln!(
            out,
            "<path class=\"rail\" data-row=\"{number}\" d=\"{path}\"/>"
        );
    }

    fn write_row(&self, out: &mut String, number: usize, row: &Row) {
        let vertex = &self.picture.vertices[row.vertex];
        let label = label(vertex);
        let state = vertex.state.replace(' ', "-");
        let above = row
            .above
            .map(|above| format!(" data-above=\"{above}\""))
            .unwrap_or_default();
        let (x, y, text_x) = (self.x(row.rail), Drawing::y(number), self.text_x());
        let step = text::clean(vertex.step.as_deref().unwrap_or(""));
        let whole = match vertex.folded.as_slice() {
            [] => format!("{} {step}", vertex.id.unwrap_or(vertex.digest)),
            [first, ..] => format!("from {first} on; --no-trunc shows each"),
        };
        let more: Vec<String> = vertex.folded.iter().map(|id| id.hex()).collect();
        let mark = match vertex.kind {
            _ if !more.is_empty() => format!(
                "<path class=\"mark fold\" d=\"M{x} {}v.1m0 5v.1m0 5v.1\"/>",
                y - 5
            ),
            BlobKind::Layer => format!(
                "<rect class=\"mark\" x=\"{}\" y=\"{}\" width=\"8\" height=\"8\"/>",
                x - 4,
                y - 4
            ),
            _ => format!("<circle class=\"mark\" cx=\"{x}\" cy=\"{y}\" r=\"5\"/>"),
        };
        let _ = writeln!(
            out,
            "<g class=\"row {state}\" id=\"row{number}\" data-row=\"{number}\"{above} data-digest=\"{}\"{}>\
             <title>{}</title>{mark}<text x=\"{text_x}\" y=\"{}\">\
             <tspan class=\"name\">{}</tspan> <tspan class=\"step\">{}</tspan> \
             <tspan class=\"facts\">{}</tspan></text></g>",
            vertex.digest,
            match more.is_empty() {
                true => String::new(),
                false => format!(" data-more=\"{}\"", more.join(" ")),
            },
            escaped(&whole),
            y + 4,
            escaped(&label.names),
            escaped(&label.step),
            escaped(&label.facts),
        );
    }
}

struct Label {
    names: String,
    step: String,
    facts: String,
}

impl Label {
    fn width(&self) -> usize {
        [&self.names, &self.step, &self.facts]
            .map(|text| text.chars().count() + 1)
            .iter()
            .sum()
    }
}

fn label(vertex: &Vertex) -> Label {
    if !vertex.folded.is_empty() {
        return Label {
            names: String::new(),
            step: format!("{} more steps", vertex.folded.len()),
            facts: format!("{} · {} more", vertex.state, size::short(vertex.size)),
        };
    }
    let id = vertex.id.unwrap_or(vertex.digest).short();
    let step = text::clean(vertex.step.as_deref().unwrap_or(""));
    Label {
        names: text::clean(&vertex.names.join(", ")),
        step: text::shorten(&step, STEP),
        facts: format!("{} · {} · {id}", vertex.state, size::short(vertex.size)),
    }
}

/// Text as XML has it; characters that XML cannot have at all were written out by `text::clean`.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::picture::Edge;
    use super::*;
    use crate::oci::Digest;

    fn hostile() -> Picture {
        let vertex = |name: &str, step: &str| Vertex {
            digest: Digest::of(name.as_bytes()),
            kind: BlobKind::Manifest,
            id: None,
            names: vec![name.to_owned()],
            state: "tagged",
            size: 1000,
            step: Some(step.to_owned()),
            folded: Vec::new(),
        };
        Picture {
            vertices: vec![
                vertex(
                    "a",
                    "RUN echo '</script><script>alert(1)</script>' \"&\u{1b}[2J",
                ),
                vertex("b<i>", "COPY x y"),
            ],
            edges: vec![Edge {
                from: Digest::of(b"b<i>"),
                to: Digest::of(b"a"),
                kind: EdgeKind::Stage,
            }],
        }
    }

    #[test]
    fn what_strangers_wrote_is_text() {
        let page = html(&hostile(), "a <store>");
        assert_eq!(page.matches("<script>").count(), 1);
        assert!(page.contains("<title>a &lt;store&gt;</title>"));
        assert!(page.contains("b&lt;i&gt;"));
        assert!(!page.contains('\u{1b}'));
    }

    #[test]
    fn a_picture_has_a_row_for_each_vertex_and_nothing_from_elsewhere() {
        let picture = svg(&hostile());
        assert_eq!(picture.matches("class=\"row ").count(), 2);
        assert_eq!(picture.matches("class=\"arc stage\"").count(), 1);
        assert_eq!(picture.matches("http").count(), 1, "the namespace alone");
    }
}

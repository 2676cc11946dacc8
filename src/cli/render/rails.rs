//! Where things stand in a drawing: a row each, on rails.
//!
//! ```text
//! ●    base            a rail runs from an image straight down to the heaviest of what descends
//! ├─●  RUN test        from it; whatever else descends stands above that, one rail to the right
//! ●    RUN make
//! ●    app:latest
//! ```
//! The heaviest child keeps its parent's rail, so n rows need at most log2(n) + 1 rails, and a
//! build of five hundred steps is a line that is read from top to bottom. What else leads from
//! row to row (files that were copied, layers that are shared) is an arc.

use hashbrown::HashMap;

use super::picture::{EdgeKind, Picture};

/// A drawing.
#[derive(Debug, Default)]
pub struct Rails {
    /// From top to bottom.
    pub rows: Vec<Row>,
    /// What is no rail.
    pub arcs: Vec<Arc>,
    /// How many rails stand side by side.
    pub rails: usize,
    /// How many arcs pass one another at most.
    pub tracks: usize,
}

/// A vertex of the picture in its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its place in [`Picture::vertices`].
    pub vertex: usize,
    /// Its rail, from 0.
    pub rail: usize,
    /// The row of what it descends from, or hangs on.
    pub above: Option<usize>,
}

/// A link between rows that is no rail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arc {
    /// The row of what needs.
    pub from: usize,
    /// The row of what is needed.
    pub to: usize,
    /// As what.
    pub kind: EdgeKind,
    /// Arcs of one track do not overlap.
    pub track: usize,
}

const NONE: usize = usize::MAX;

/// Gives everything in a picture its place.
pub fn lay_out(picture: &Picture) -> Rails {
    let links = links(picture);
    let above = forest(picture.vertices.len(), &links);
    let mut rails = rows(&above);
    let mut row_of = vec![0; above.len()];
    for (row, place) in rails.rows.iter().enumerate() {
        row_of[place.vertex] = row;
    }
    let holds = |holder: usize, layer: usize| {
        holder != NONE
            && links
                .binary_search(&(holder, layer, EdgeKind::Layer))
                .is_ok()
    };
    let mut arcs: Vec<Arc> = links
        .iter()
        .filter(|(from, to, kind)| match kind {
            EdgeKind::Parent => above[*from] != *to,
            EdgeKind::Member => above[*to] != *from,
            // A layer is handed down along the rails: only whoever has it from elsewhere is drawn.
            EdgeKind::Layer => above[*to] != *from && !holds(above[*from], *to),
            EdgeKind::Stage => true,
        })
        .map(|(from, to, kind)| Arc {
            from: row_of[*from],
            to: row_of[*to],
            kind: *kind,
            track: 0,
        })
        .collect();
    rails.tracks = spread(&mut arcs);
    rails.arcs = arcs;
    rails
}

/// The edges by places instead of digests, sorted.
fn links(picture: &Picture) -> Vec<(usize, usize, EdgeKind)> {
    let places: HashMap<_, _> = picture
        .vertices
        .iter()
        .enumerate()
        .map(|(place, vertex)| (vertex.digest, place))
        .collect();
    let link = |edge: &super::picture::Edge| {
        Some((*places.get(&edge.from)?, *places.get(&edge.to)?, edge.kind))
    };
    let mut links: Vec<_> = picture.edges.iter().filter_map(link).collect();
    links.sort_unstable();
    links.dedup();
    links
}

/// What each vertex stands below: its parent, the index that it is in, the first image that has
/// the layer. No vertex stands below itself, however the links run.
fn forest(count: usize, links: &[(usize, usize, EdgeKind)]) -> Vec<usize> {
    let mut above = vec![NONE; count];
    for (wanted, upwards) in [
        (EdgeKind::Parent, true),
        (EdgeKind::Member, false),
        (EdgeKind::Layer, false),
    ] {
        for (from, to, kind) in links {
            let (below, over) = if upwards { (*from, *to) } else { (*to, *from) };
            if *kind == wanted && above[below] == NONE && !reaches(&above, over, below) {
                above[below] = over;
            }
        }
    }
    // A layer belongs to the image that brought it: as far up as whoever is above has it too.
    for (holder, layer, kind) in links {
        if *kind != EdgeKind::Layer || above[*layer] != *holder {
            continue;
        }
        let mut top = *holder;
        while above[top] != NONE
            && links
                .binary_search(&(above[top], *layer, EdgeKind::Layer))
                .is_ok()
        {
            top = above[top];
        }
        above[*layer] = top;
    }
    above
}

fn reaches(above: &[usize], mut from: usize, to: usize) -> bool {
    while from != NONE {
        if from == to {
            return true;
        }
        from = above[from];
    }
    false
}

fn rows(above: &[usize]) -> Rails {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); above.len()];
    let mut roots = Vec::new();
    for (vertex, over) in above.iter().enumerate() {
        match *over {
            NONE => roots.push(vertex),
            over => children[over].push(vertex),
        }
    }
    let weights = weights(&roots, &children);
    for list in &mut children {
        list.sort_by_key(|child| weights[*child]);
    }
    let mut rails = Rails::default();
    let mut pending: Vec<(usize, usize, Option<usize>)> =
        roots.iter().rev().map(|root| (*root, 0, None)).collect();
    while let Some((vertex, rail, over)) = pending.pop() {
        let row = rails.rows.len();
        rails.rails = rails.rails.max(rail + 1);
        rails.rows.push(Row {
            vertex,
            rail,
            above: over,
        });
        let list = &children[vertex];
        for (place, child) in list.iter().enumerate().rev() {
            let heaviest = place + 1 == list.len();
            pending.push((*child, rail + usize::from(!heaviest), Some(row)));
        }
    }
    rails
}

/// How many rows each vertex and all below it take.
fn weights(roots: &[usize], children: &[Vec<usize>]) -> Vec<usize> {
    let mut order: Vec<usize> = roots.to_vec();
    let mut next = 0;
    while let Some(vertex) = order.get(next).copied() {
        order.extend(&children[vertex]);
        next += 1;
    }
    let mut weights = vec![1; children.len()];
    for vertex in order.into_iter().rev() {
        weights[vertex] += children[vertex]
            .iter()
            .map(|child| weights[*child])
            .sum::<usize>();
    }
    weights
}

/// Gives arcs tracks, the shortest first: nested arcs lie one in another. Returns how many tracks
/// there are.
fn spread(arcs: &mut [Arc]) -> usize {
    let span = |arc: &Arc| (arc.from.min(arc.to), arc.from.max(arc.to));
    arcs.sort_by_key(|arc| {
        let (first, last) = span(arc);
        (last - first, first)
    });
    let mut tracks: Vec<Vec<(usize, usize)>> = Vec::new();
    for arc in arcs {
        let (first, last) = span(arc);
        let free = |taken: &Vec<(usize, usize)>| {
            taken.iter().all(|(from, to)| last <= *from || *to <= first)
        };
        arc.track = tracks.iter().position(free).unwrap_or(tracks.len());
        if arc.track == tracks.len() {
            tracks.push(Vec::new());
        }
        tracks[arc.track].push((first, last));
    }
    tracks.len()
}

#[cfg(test)]
mod tests {
    use super::super::picture::{Edge, Vertex};
    use super::*;
    use crate::catalog::BlobKind;
    use crate::oci::Digest;

    /// `b^a` b descends from a, `b&a` b copied from a, `b-l` b has layer l.
    fn picture(count: usize, links: &str) -> Picture {
        let digest = |name: &str| Digest::of(name.as_bytes());
        let names: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        let vertices = names.iter().map(|name| Vertex {
            digest: digest(name),
            kind: BlobKind::Manifest,
            id: None,
            names: Vec::new(),
            state: "tagged",
            size: 1,
            step: None,
            folded: Vec::new(),
        });
        let edges = links.split_whitespace().map(|link| {
            let (place, kind) = [
                ('^', EdgeKind::Parent),
                ('&', EdgeKind::Stage),
                ('-', EdgeKind::Layer),
            ]
            .into_iter()
            .find_map(|(sign, kind)| Some((link.find(sign)?, kind)))
            .unwrap();
            Edge {
                from: digest(&link[..place]),
                to: digest(&link[place + 1..]),
                kind,
            }
        });
        Picture {
            edges: edges.collect(),
            vertices: vertices.collect(),
        }
    }

    fn drawn(count: usize, links: &str) -> Vec<(usize, usize)> {
        let rails = lay_out(&picture(count, links));
        assert_eq!(rails.rows.len(), count);
        rails
            .rows
            .iter()
            .map(|row| (row.vertex, row.rail))
            .collect()
    }

    #[test]
    fn the_longest_line_of_descent_stays_on_its_rail() {
        assert_eq!(
            drawn(5, "1^0 2^0 3^1 4^0"),
            [(0, 0), (2, 1), (4, 1), (1, 0), (3, 0)]
        );
    }

    #[test]
    fn five_hundred_rows_need_few_rails() {
        let links: Vec<String> = (1..500).map(|n| format!("{n}^{}", (n - 1) / 2)).collect();
        let rails = lay_out(&picture(500, &links.join(" ")));
        assert!(rails.rails <= 9, "{}", rails.rails);
        let straight: Vec<String> = (1..500).map(|n| format!("{n}^{}", n - 1)).collect();
        assert_eq!(lay_out(&picture(500, &straight.join(" "))).rails, 1);
    }

    #[test]
    fn a_link_that_goes_in_a_circle_is_an_arc() {
        let rails = lay_out(&picture(2, "0^1 1^0"));
        assert_eq!((rails.rows.len(), rails.arcs.len()), (2, 1));
    }

    #[test]
    fn a_layer_hangs_on_who_brought_it_and_is_an_arc_to_who_has_it_from_elsewhere() {
        // 1 descends from 0, both have layer 3; so has 2, which descends from neither.
        let rails = lay_out(&picture(4, "1^0 0-3 1-3 2-3"));
        let row = |vertex| rails.rows.iter().position(|r| r.vertex == vertex).unwrap();
        assert_eq!(rails.rows[row(3)].above, Some(row(0)));
        assert_eq!(rails.arcs.len(), 1);
        assert_eq!((rails.arcs[0].from, rails.arcs[0].to), (row(2), row(3)));
    }

    #[test]
    fn arcs_that_pass_one_another_have_tracks_of_their_own() {
        let rails = lay_out(&picture(4, "3&0 2&1 3&2"));
        let mut tracks: Vec<usize> = rails.arcs.iter().map(|arc| arc.track).collect();
        tracks.sort_unstable();
        assert_eq!((tracks, rails.tracks), (vec![0, 0, 1], 2));
    }
}

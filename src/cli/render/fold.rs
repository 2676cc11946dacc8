//! Long lines of steps drawn as one.
//!
//! ```text
//! ● base:latest                  ● base:latest
//! ● RUN 1                        ● RUN 1
//! ● RUN 2                        ⋮ 3 more steps
//! ● RUN 3            becomes     ● RUN 5
//! ● RUN 4                        ● app:latest
//! ● RUN 5
//! ● app:latest
//! ```
//! A step is folded where nothing tells it from the one before: it has no name, one parent, one
//! child of the same state, and nothing was copied from it or into it.

use hashbrown::HashMap;

use super::picture::{EdgeKind, Picture};
use crate::catalog::BlobKind;

const NONE: usize = usize::MAX;

/// What each vertex hangs together with.
struct Line {
    /// Its parent; [`NONE`] without one, or with more.
    parent: Vec<usize>,
    /// Its child; [`NONE`] without one, or with more.
    child: Vec<usize>,
    /// Whether it is nothing but a step.
    plain: Vec<bool>,
}

impl Line {
    fn of(picture: &Picture) -> Line {
        let count = picture.vertices.len();
        let numbered = picture.vertices.iter().enumerate();
        let places: HashMap<_, _> = numbered.map(|(place, v)| (v.digest, place)).collect();
        let mut line = Line {
            parent: vec![NONE; count],
            child: vec![NONE; count],
            plain: picture
                .vertices
                .iter()
                .map(|vertex| vertex.kind == BlobKind::Manifest && vertex.names.is_empty())
                .collect(),
        };
        let (mut parents, mut children) = (vec![0_u32; count], vec![0_u32; count]);
        for edge in &picture.edges {
            let (Some(&from), Some(&to)) = (places.get(&edge.from), places.get(&edge.to)) else {
                continue;
            };
            if edge.kind != EdgeKind::Parent {
                line.plain[from] = false;
                line.plain[to] = false;
                continue;
            }
            line.parent[from] = to;
            line.child[to] = from;
            parents[from] += 1;
            children[to] += 1;
        }
        for place in 0..count {
            line.plain[place] &= parents[place] <= 1 && children[place] <= 1;
        }
        line
    }

    /// The lines of more than `longest` plain steps of one state, each from its first to its last.
    fn runs(&self, picture: &Picture, longest: usize) -> Vec<Vec<usize>> {
        let state = |place: usize| picture.vertices[place].state;
        let next = |place: usize| {
            let child = self.child[place];
            (child != NONE && self.plain[child] && state(child) == state(place)).then_some(child)
        };
        let begins = |place: &usize| {
            let parent = self.parent[*place];
            self.plain[*place] && (parent == NONE || !self.plain[parent] || next(parent).is_none())
        };
        (0..picture.vertices.len())
            .filter(begins)
            .map(|first| {
                let steps = std::iter::successors(Some(first), |place| next(*place));
                steps.collect::<Vec<_>>()
            })
            .filter(|run| run.len() > longest)
            .collect()
    }
}

/// The picture with what is between the first and the last of more than `longest` steps as one.
pub fn folded(mut picture: Picture, longest: usize) -> Picture {
    let runs = Line::of(&picture).runs(&picture, longest.max(2));
    let mut gone = vec![false; picture.vertices.len()];
    // What stands for what: only parents' edges lead to plain steps, and so from and to a fold
    // lead those of its ends.
    let mut stands_for = HashMap::new();
    for run in &runs {
        let middle = &run[1..run.len() - 1];
        let (Some(&first), Some(&last)) = (middle.first(), middle.last()) else {
            continue;
        };
        let before = picture.vertices[run[0]].size;
        let ids = middle.iter().map(|place| {
            let vertex = &picture.vertices[*place];
            vertex.id.unwrap_or(vertex.digest)
        });
        let ids = ids.collect();
        let added = picture.vertices[last].size.saturating_sub(before);
        stands_for.insert(
            picture.vertices[last].digest,
            picture.vertices[first].digest,
        );
        for place in &middle[1..] {
            gone[*place] = true;
        }
        let fold = &mut picture.vertices[first];
        fold.folded = ids;
        fold.size = added;
        fold.step = None;
    }
    let kept = |place: usize| !gone[place];
    let mut place = 0;
    let mut lost = hashbrown::HashSet::new();
    picture.vertices.retain(|vertex| {
        let stays = kept(place);
        place += 1;
        if !stays {
            lost.insert(vertex.digest);
        }
        stays
    });
    picture.edges.retain_mut(|edge| {
        if let Some(fold) = stands_for.get(&edge.to) {
            edge.to = *fold;
        }
        !lost.contains(&edge.from) && !lost.contains(&edge.to)
    });
    picture
}

#[cfg(test)]
mod tests {
    use super::super::picture::{Edge, Vertex};
    use super::*;
    use crate::oci::Digest;

    /// Steps 0 to `count`, each made from the one before; `named` have names.
    fn line(count: usize, named: &[usize]) -> Picture {
        let digest = |place: usize| Digest::of(place.to_string().as_bytes());
        let vertex = |place: usize| Vertex {
            digest: digest(place),
            kind: BlobKind::Manifest,
            id: None,
            names: if named.contains(&place) {
                vec![format!("name{place}")]
            } else {
                Vec::new()
            },
            state: "intermediate",
            size: 10 * place as u64,
            step: Some(format!("RUN {place}")),
            folded: Vec::new(),
        };
        let edge = |place: usize| Edge {
            from: digest(place),
            to: digest(place - 1),
            kind: EdgeKind::Parent,
        };
        Picture {
            vertices: (0..count).map(vertex).collect(),
            edges: (1..count).map(edge).collect(),
        }
    }

    #[test]
    fn a_long_line_is_its_first_and_last_step_and_a_fold_that_knows_the_rest() {
        let picture = folded(line(12, &[0, 11]), 6);
        let steps: Vec<_> = picture.vertices.iter().map(|v| v.step.as_deref()).collect();
        assert_eq!(
            steps,
            [
                Some("RUN 0"),
                Some("RUN 1"),
                None,
                Some("RUN 10"),
                Some("RUN 11")
            ]
        );
        let fold = &picture.vertices[2];
        assert_eq!((fold.folded.len(), fold.size), (8, 80));
        // They still hang together, each on the one before.
        assert_eq!(picture.edges.len(), 4);
        for (edge, place) in picture.edges.iter().zip(1..) {
            let ends = [place, place - 1].map(|place: usize| picture.vertices[place].digest);
            assert_eq!([edge.from, edge.to], ends);
        }
    }

    #[test]
    fn what_is_short_or_named_or_copied_from_stays() {
        assert_eq!(folded(line(8, &[0, 7]), 6).vertices.len(), 8);
        assert_eq!(folded(line(12, &[0, 5, 11]), 6).vertices.len(), 12);
        let mut copied = line(12, &[0, 11]);
        copied.edges.push(Edge {
            from: Digest::of(b"11"),
            to: Digest::of(b"5"),
            kind: EdgeKind::Stage,
        });
        assert_eq!(folded(copied, 6).vertices.len(), 12);
    }

    #[test]
    fn a_line_that_leads_back_to_itself_ends() {
        let mut circle = line(12, &[]);
        circle.edges.push(Edge {
            from: Digest::of(b"0"),
            to: Digest::of(b"11"),
            kind: EdgeKind::Parent,
        });
        assert_eq!(folded(circle, 6).vertices.len(), 12);
    }
}

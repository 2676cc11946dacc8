//! Links as compressed rows: for each source, where its targets begin in one long list.
//!
//! ```text
//! offsets  0   2   2   5            source 0 has two links, source 1 none, source 2 three
//! targets  7 9 | | 1 4 9
//! labels   C L | | P L L
//! ```

use super::NodeId;
use crate::oci::document::Role;

/// Links from numbered sources to numbered targets, each with a label. Where there is no link there
/// are no offsets.
#[derive(Debug, Default)]
pub(super) struct Links {
    offsets: Vec<u32>,
    targets: Vec<u32>,
    labels: Vec<Role>,
}

/// One link, before it is in its row.
pub(super) type Link = (u32, u32, Role);

impl Links {
    /// The rows of `sources` sources. The order of the links of one source is kept.
    pub fn forwards(sources: usize, links: &[Link]) -> Links {
        Links::build(sources, links, |link| (link.0, link.1))
    }

    /// The rows of `targets` targets, each leading back to its sources.
    pub fn backwards(targets: usize, links: &[Link]) -> Links {
        Links::build(targets, links, |link| (link.1, link.0))
    }

    fn build(sources: usize, links: &[Link], ends: impl Fn(&Link) -> (u32, u32)) -> Links {
        if links.is_empty() {
            return Links::default();
        }
        let mut offsets = vec![0u32; sources + 1];
        for link in links {
            offsets[ends(link).0 as usize + 1] += 1;
        }
        for place in 0..sources {
            offsets[place + 1] += offsets[place];
        }
        let mut next = offsets.clone();
        let mut targets = vec![0; links.len()];
        let mut labels = vec![Role::Other; links.len()];
        for link in links {
            let (source, target) = ends(link);
            let place = &mut next[source as usize];
            targets[*place as usize] = target;
            labels[*place as usize] = link.2;
            *place += 1;
        }
        Links {
            offsets,
            targets,
            labels,
        }
    }

    /// The links of one source, in order.
    pub fn of(&self, source: usize) -> impl ExactSizeIterator<Item = (NodeId, Role)> + '_ {
        let end = self.offsets.get(source + 1);
        let range = end.map_or(0..0, |end| self.offsets[source] as usize..*end as usize);
        let targets = self.targets[range.clone()].iter();
        targets
            .zip(&self.labels[range])
            .map(|(target, role)| (NodeId(*target), *role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_keep_their_order_and_lead_back() {
        let links = [
            (2, 1, Role::Config),
            (0, 1, Role::Child),
            (2, 0, Role::Layer),
            (2, 1, Role::Layer),
        ];
        let forwards = Links::forwards(3, &links);
        let of = |source| forwards.of(source).map(|(n, _)| n.0).collect::<Vec<_>>();
        assert_eq!((of(0), of(1), of(2)), (vec![1], vec![], vec![1, 0, 1]));
        let backwards = Links::backwards(3, &links);
        let sources: Vec<u32> = backwards.of(1).map(|(n, _)| n.0).collect();
        assert_eq!(sources, [2, 0, 2]);
        assert_eq!(Links::forwards(3, &[]).of(2).len(), 0);
    }
}

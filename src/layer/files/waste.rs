//! What layers hold and the image does not show: files that upper layers replaced or removed.
//!
//! **Wasted** bytes are contents of which no name is left. A copy that was overwritten counts, so
//! does one that was removed; the copy that the image shows doesn't.
//!
//! **Efficiency** is what dive made known: of each path the smallest copy that there ever was (0
//! once it was removed), all of these summed, divided by the sum of all copies. 1 is an image in
//! which nothing was written twice. A removed directory stands for each file that was in it. (dive
//! itself counts that directory's bytes once more on both sides, so that removing a whole directory
//! hardly lowers its score.)

use std::collections::BTreeMap;

use super::Files;
use crate::layer::entry::Kind;
use crate::layer::merge::tree::ROOT;

/// What is wasted.
#[derive(Debug, Clone, PartialEq)]
pub struct Waste {
    /// The paths of which content is wasted, in byte order.
    pub paths: Vec<WastedPath>,
    /// Bytes of content that no name is left of.
    pub wasted: u64,
    /// Bytes of content that all layers have together.
    pub total: u64,
    /// From 0 to 1.
    pub efficiency: f64,
}

/// A path of which content is wasted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WastedPath {
    /// The path, links resolved.
    pub path: Vec<u8>,
    /// The bytes that are wasted.
    pub wasted: u64,
    /// Every content that the path ever had, the lowest first.
    pub copies: Vec<Copy>,
}

/// A content that a path had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// The layer that holds it.
    pub layer: usize,
    /// Its bytes.
    pub size: u64,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The image shows it.
    Shown,
    /// A layer put something else in its place.
    Replaced(usize),
    /// A layer removed it.
    Removed(usize),
}

impl WastedPath {
    /// The layers that replaced or removed copies, each once, the lowest first.
    pub fn by(&self) -> Vec<usize> {
        let mut layers: Vec<usize> = self.copies.iter().filter_map(|c| c.fate.layer()).collect();
        layers.sort_unstable();
        layers.dedup();
        layers
    }
}

impl Fate {
    /// The layer that ended it.
    pub fn layer(self) -> Option<usize> {
        match self {
            Fate::Shown => None,
            Fate::Replaced(layer) | Fate::Removed(layer) => Some(layer),
        }
    }
}

impl Files {
    /// What is wasted.
    pub fn waste(&self) -> Waste {
        let shown = self.shown();
        let mut paths: BTreeMap<Vec<u8>, Vec<Copy>> = BTreeMap::new();
        for (id, node) in self.tree.nodes.iter().enumerate() {
            let (Kind::File { size }, Some(origin)) = (&node.entry.kind, node.origin) else {
                continue;
            };
            let fate = match node.loss {
                Some(loss) if !shown[id] && loss.replaced => Fate::Replaced(loss.layer),
                Some(loss) if !shown[id] => Fate::Removed(loss.layer),
                _ => Fate::Shown,
            };
            // Nodes are in the order of layers, so copies are.
            paths.entry(self.tree.path(id)).or_default().push(Copy {
                layer: origin.layer,
                size: *size,
                fate,
            });
        }
        let mut waste = Waste {
            paths: Vec::new(),
            wasted: 0,
            total: 0,
            efficiency: 1.0,
        };
        let mut smallest = 0;
        for (path, copies) in paths {
            smallest += least(&copies);
            waste.total += copies.iter().map(|copy| copy.size).sum::<u64>();
            let gone = copies.iter().filter(|copy| copy.fate != Fate::Shown);
            let wasted = gone.map(|copy| copy.size).sum();
            waste.wasted += wasted;
            if wasted > 0 {
                waste.paths.push(WastedPath {
                    path,
                    wasted,
                    copies,
                });
            }
        }
        if waste.total > 0 {
            waste.efficiency = smallest as f64 / waste.total as f64;
        }
        waste
    }

    /// Whether each file that ever was has a name.
    fn shown(&self) -> Vec<bool> {
        let mut shown = vec![false; self.tree.nodes.len()];
        for directory in self.tree.directories(ROOT) {
            for name in self.tree.nodes[directory].children.values() {
                shown[name.node] = true;
            }
        }
        shown
    }
}

/// The smallest copy that there ever was: none, once it was removed.
fn least(copies: &[Copy]) -> u64 {
    let removed = copies.iter().any(|c| matches!(c.fate, Fate::Removed(_)));
    let sizes = copies.iter().map(|copy| copy.size);
    if removed { 0 } else { sizes.min().unwrap_or(0) }
}

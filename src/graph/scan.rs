//! Reading the graph of a store whose `blobs/` other tools may have changed: names on the disk are
//! held against the graph itself, so that a directory of a million names needs no second table of
//! them, and the catalog is read once where nothing is amiss.

use std::ffi::OsString;

use super::load::Depth;
use super::{ImageGraph, NodeSet};
use crate::catalog::{Catalog, Millis, Result, sync};
use crate::layout::Layout;

/// A graph that was read once the catalog had taken in what is in `blobs/`.
#[derive(Debug)]
pub struct Scanned {
    /// The graph.
    pub graph: ImageGraph,
    /// Names in `blobs/` that are no digests, where it was listed or is as it was when it had none.
    pub strays: Option<Vec<OsString>>,
}

impl ImageGraph {
    /// Takes in what other tools put into `blobs/` or took out of it, as [`sync::scan`] does, and
    /// reads the graph.
    pub fn load_scanned(
        catalog: &Catalog,
        layout: &Layout,
        depth: Depth,
        now: Millis,
    ) -> Result<Scanned> {
        let directory = sync::Directory::look(catalog, layout)?;
        let mut graph = ImageGraph::load_to(catalog, depth)?;
        if directory.is_known() {
            let strays = directory.had_no_strays().then(Vec::new);
            return Ok(Scanned { graph, strays });
        }
        let mut strays = Vec::new();
        let difference = graph.difference(layout, &mut strays)?;
        let is_none = difference.is_none();
        sync::take_in(catalog, layout, &directory, difference, now)?;
        if !is_none {
            drop(graph);
            graph = ImageGraph::load_to(catalog, depth)?;
        }
        let strays = Some(strays);
        Ok(Scanned { graph, strays })
    }

    /// How the names on the disk differ from those that the graph has files for.
    fn difference(&self, layout: &Layout, strays: &mut Vec<OsString>) -> Result<sync::Difference> {
        let mut difference = sync::Difference::default();
        let mut listed = NodeSet::of(self);
        layout
            .blobs()
            .list_with_inodes(|name, inode| match name {
                Ok(digest) => {
                    let node = self.find(&digest);
                    if let Some(node) = node {
                        listed.insert(node);
                    }
                    if node.is_none_or(|node| !self.node(node).present) {
                        difference.new.push(sync::NewFile { inode, digest });
                    }
                }
                Err(name) => strays.push(name.to_owned()),
            })
            .map_err(crate::layout::Error::from)?;
        difference.strays = strays.len();
        for node in self.nodes() {
            if node.present && !node.condemned && !listed.contains(node.node) {
                difference.vanished.push(node.digest);
            }
        }
        Ok(difference)
    }
}

//! What the commands that look and clean start from: the opened store, its graph, the roots, and
//! what these make of each image.

use std::collections::BTreeMap;

use crate::catalog::Millis;
use crate::cli::{Context, Result};
use crate::gc;
use crate::graph::{Classes, Depth, Image, ImageGraph, NodeId, RootSet};
use crate::oci::Platform;
use crate::store::Store;

/// The store as it was at one moment.
pub struct View {
    /// The store.
    pub store: Store,
    /// What points at what.
    pub graph: ImageGraph,
    /// What is kept for its own sake.
    pub roots: RootSet,
    /// What each image is.
    pub classes: Classes,
}

impl View {
    /// Looks at the store that is there.
    pub fn open(context: &Context) -> Result<View> {
        View::of(context.open()?, context.now)
    }

    /// Looks at an opened store, all of whose blobs are taken in first.
    pub fn of(store: Store, now: Millis) -> Result<View> {
        View::of_depth(store, Depth::All, now)
    }

    /// The same, with no more of the graph than is needed.
    pub fn of_depth(store: Store, depth: Depth, now: Millis) -> Result<View> {
        store.scan()?;
        let graph = ImageGraph::load_to(store.catalog(), depth)?;
        // What a grace keeps is not what an image is.
        let roots = gc::collect_roots(store.layout(), &graph, 0, now)?;
        let classes = Classes::of(&graph, &roots);
        Ok(View {
            store,
            graph,
            roots,
            classes,
        })
    }

    /// The same with what a grace keeps among the roots: for those who ask what keeps something.
    /// It has the disk asked for the age of what nothing else keeps.
    pub fn with_grace(mut self, now: Millis) -> Result<View> {
        gc::add_grace(
            self.store.layout(),
            &self.graph,
            &self.classes,
            &mut self.roots,
            gc::policy::DEFAULT_GRACE,
            now,
        )?;
        Ok(self)
    }

    /// The image that stands for a manifest or an index in lists: itself, or the index's member
    /// for `platform`, or its first.
    pub fn image_of(&self, node: NodeId, platform: &Platform) -> Option<Image<'_>> {
        let images = self.graph.images_of(node);
        let wanted = platform.to_string();
        images
            .iter()
            .find(|image| image.platform() == wanted)
            .or(images.first())
            .copied()
    }
}

/// The labels of an image.
pub fn labels(image: &Image) -> BTreeMap<String, String> {
    serde_json::from_str(image.labels()).unwrap_or_default()
}

/// The step that made an image, as lists show it: without what every shell-form step begins with.
pub fn step_text(step: &str) -> &str {
    let step = step.strip_prefix("/bin/sh -c #(nop) ").unwrap_or(step);
    step.trim()
}

//! Reading the graph from the catalog, in one read transaction of its own connection: writers are
//! not held up, and all that is read is of one moment.
//!
//! Rows come sorted by the blob's number, and nodes are numbered in that order: a number's node is
//! found by binary search, or while there are a million links to look up in a plain table of all
//! numbers, as long as that is not much longer than the graph. Links to rows that are gone lead nowhere and are
//! left out: a swept blob's number is never used again.

use hashbrown::HashTable;

use super::links::{Link, Links};
use super::text::{self, Texts};
use super::{
    CONDEMNED, DAMAGED, ImageGraph, Leased, NO_TIME, NONE, NodeId, OURS, PRESENT, Stored,
    StoredImage, StoredLayer,
};
use crate::catalog::blob::{BlobId, NodeRow};
use crate::catalog::image::{ImageRow, LayerRow};
use crate::catalog::{Catalog, Millis, Reader, Result, SqlResult};
use crate::oci::document::Role;

/// How much of a graph is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// All of it.
    All,
    /// What a removal needs: what is known of layers besides their blobs only where there are
    /// snapshots, which are found by it.
    Removal,
}

/// How many numbers there may be for each node before a table of all of them is not worth its
/// bytes.
const SPARSE: usize = 8;

impl ImageGraph {
    /// Reads the graph as it is now.
    pub fn load(catalog: &Catalog) -> Result<ImageGraph> {
        ImageGraph::load_to(catalog, Depth::All)
    }

    /// Reads so much of the graph as it is now.
    pub fn load_to(catalog: &Catalog, depth: Depth) -> Result<ImageGraph> {
        catalog.snapshot(|reader| ImageGraph::read_to(reader, depth))
    }

    /// Reads the graph within the caller's transaction.
    pub fn read(reader: &Reader) -> SqlResult<ImageGraph> {
        ImageGraph::read_to(reader, Depth::All)
    }

    fn read_to(reader: &Reader, depth: Depth) -> SqlResult<ImageGraph> {
        let mut graph = ImageGraph::empty();
        graph.high_water = reader.high_water()?;
        graph.changes = reader.changes()?;
        graph.born = reader.born()?;
        reader.each_node(|row| graph.take_node(row))?;
        graph.read_damage(reader)?;
        graph.index_digests();
        graph.read_content(reader)?;
        reader.each_image(|row| graph.take_image(row))?;
        graph.read_lineage(reader)?;
        graph.snapshots = reader.snapshots()?;
        if depth == Depth::All || !graph.snapshots.is_empty() {
            graph.layer_of = vec![NONE; graph.nodes.len()];
            reader.each_layer(|row| graph.take_layer(row))?;
        }
        graph.texts.finish();
        graph.read_roots(reader)?;
        graph.places = Vec::new();
        Ok(graph)
    }

    fn empty() -> ImageGraph {
        ImageGraph {
            nodes: Vec::new(),
            dense: true,
            places: Vec::new(),
            image_of: Vec::new(),
            layer_of: Vec::new(),
            by_digest: HashTable::new(),
            out: Links::default(),
            into: Links::default(),
            texts: Texts::default(),
            images: Vec::new(),
            children: Links::default(),
            stages: Links::default(),
            used_by: Links::default(),
            layers: Vec::new(),
            tags: Vec::new(),
            named: Vec::new(),
            untagged: Vec::new(),
            pins: Vec::new(),
            leases: Vec::new(),
            leased: Vec::new(),
            snapshots: Vec::new(),
            containers: Vec::new(),
            cache_mounts: Vec::new(),
            cache: Vec::new(),
            damage: Vec::new(),
            high_water: Default::default(),
            changes: 0,
            born: Millis::MAX,
        }
    }

    fn take_node(&mut self, row: NodeRow) {
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        let flags = bit(row.present, PRESENT)
            | bit(row.ours, OURS)
            | bit(row.damaged, DAMAGED)
            | bit(row.condemned, CONDEMNED);
        self.nodes.push(Stored {
            digest: row.digest,
            blob: row.id,
            size: row.size,
            blocks: u32::try_from(row.allocated / 512).unwrap_or(u32::MAX),
            seen: seconds(row.first_seen),
            used: seconds(row.last_used.saturating_add(999)),
            kind: row.kind,
            flags,
        });
    }

    fn read_damage(&mut self, reader: &Reader) -> SqlResult<()> {
        for place in 0..self.nodes.len() {
            if self.nodes[place].flags & DAMAGED != 0 {
                let row = reader.blob_by_id(self.nodes[place].blob)?;
                let damage = row.and_then(|row| row.damage).unwrap_or_default();
                self.damage.push((NodeId::at(place), damage));
            }
        }
        Ok(())
    }

    fn index_digests(&mut self) {
        self.nodes.shrink_to_fit();
        if let (Some(first), Some(last)) = (self.nodes.first(), self.nodes.last()) {
            let far = usize::try_from(last.blob - first.blob).unwrap_or(usize::MAX);
            self.dense = far == self.nodes.len() - 1;
            if !self.dense && far / SPARSE < self.nodes.len() {
                self.places = vec![NONE; far + 1];
                for (place, node) in self.nodes.iter().enumerate() {
                    self.places[(node.blob - first.blob) as usize] = place as u32;
                }
            }
        }
        self.image_of = vec![NONE; self.nodes.len()];
        let nodes = &self.nodes;
        let hash = |place: &u32| text::hash(nodes[*place as usize].digest.as_bytes());
        let mut table = HashTable::with_capacity(nodes.len());
        for place in 0..nodes.len() as u32 {
            table.insert_unique(hash(&place), place, hash);
        }
        self.by_digest = table;
    }

    fn read_content(&mut self, reader: &Reader) -> SqlResult<()> {
        let mut links: Vec<Link> = Vec::with_capacity(self.nodes.len());
        // The edges of one document come one after another: its node is looked up once.
        let mut last: Option<(BlobId, Option<NodeId>)> = None;
        reader.each_edge_after(0, |edge| {
            let source = match last {
                Some((blob, node)) if blob == edge.source => node,
                _ => self.find_blob(edge.source),
            };
            last = Some((edge.source, source));
            if let (Some(source), Some(target)) = (source, self.find_blob(edge.target)) {
                links.push((source.0, target.0, edge.role));
            }
        })?;
        self.out = Links::forwards(self.nodes.len(), &links);
        self.into = Links::backwards(self.nodes.len(), &links);
        Ok(())
    }

    fn take_image(&mut self, row: ImageRow) {
        let (Some(node), Some(config)) = (self.find_blob(row.manifest), self.find_blob(row.config))
        else {
            return;
        };
        let stored = &self.nodes[node.index()];
        // A condemned image is none any more; one that vanished can't be shown as if it were there.
        if stored.flags & (PRESENT | CONDEMNED) != PRESENT {
            return;
        }
        let parent = row.parent.and_then(|parent| self.find_blob(parent));
        self.image_of[node.index()] = self.images.len() as u32;
        self.images.push(StoredImage {
            node: node.0,
            config: config.0,
            parent: parent.map_or(NONE, |parent| parent.0),
            step: self.texts.put_some(row.step.as_deref()),
            platform: self.texts.put(&row.platform),
            labels: self.texts.put(&row.labels),
            created: row.created.unwrap_or(NO_TIME),
            size: row.size,
            first_seen: row.first_seen,
            last_used: row.last_used,
        });
    }

    fn read_lineage(&mut self, reader: &Reader) -> SqlResult<()> {
        let place_of = |node: NodeId| self.image(node).map(|image| image.place() as u32);
        let mut children: Vec<Link> = Vec::new();
        for image in self.images() {
            if let Some(parent) = image.parent().and_then(place_of) {
                children.push((parent, image.place() as u32, Role::Other));
            }
        }
        let mut stages: Vec<Link> = Vec::new();
        reader.each_stage_link(|image, stage| {
            let place = self.find_blob(image).and_then(place_of);
            if let (Some(place), Some(stage)) = (place, self.find_blob(stage)) {
                stages.push((place, stage.0, Role::Other));
            }
        })?;
        self.children = Links::forwards(self.images.len(), &children);
        self.stages = Links::forwards(self.images.len(), &stages);
        self.used_by = Links::backwards(self.nodes.len(), &stages);
        Ok(())
    }

    fn take_layer(&mut self, row: LayerRow) {
        let Some(node) = self.find_blob(row.blob) else {
            return;
        };
        self.layer_of[node.index()] = self.layers.len() as u32;
        self.layers.push(StoredLayer {
            node: node.0,
            created_by: self.texts.put_some(row.created_by.as_deref()),
            unpacked: row.unpacked.unwrap_or(u64::MAX),
            diff_id: row.diff_id,
        });
    }

    fn read_roots(&mut self, reader: &Reader) -> SqlResult<()> {
        for entry in reader.index_entries()? {
            match (self.find_blob(entry.blob), entry.name) {
                (Some(node), Some(name)) => self.tags.push((name, node)),
                (Some(node), None) => self.untagged.push(node),
                (None, _) => {}
            }
        }
        let mut named: Vec<u32> = (0..self.tags.len() as u32).collect();
        named.sort_by_key(|place| self.tags[*place as usize].1);
        self.named = named;
        let pins = reader.pins_after(0)?;
        self.pins = pins.into_iter().filter_map(|b| self.find_blob(b)).collect();
        self.leases = reader.leases()?;
        self.leased = reader
            .lease_pins_after(0)?
            .into_iter()
            .map(|pin| Leased {
                node: pin.blob.and_then(|blob| self.find_blob(blob)),
                lease: pin.lease,
                snapshot: pin.snapshot,
            })
            .collect();
        self.containers = reader.containers()?;
        self.cache_mounts = reader.cache_mounts()?;
        let cache = reader.cache_records()?;
        self.cache = cache
            .into_iter()
            .map(|record| {
                let node = self.find_blob(record.image);
                (record, node)
            })
            .collect();
        Ok(())
    }
}

fn seconds(millis: Millis) -> u32 {
    u32::try_from(millis.div_euclid(1000).max(0)).unwrap_or(u32::MAX)
}

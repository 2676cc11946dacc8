//! What the disk says of what is to go: how many bytes it gives back, and how old it is.
//!
//! A file gives its bytes back with its last name. Files that several doomed trees share by hard
//! links are counted once, with the tree that takes the last name; a file that has a name outside
//! of what goes gives nothing.
//!
//! [`Survey`] asks about everything in `blobs/` at once. Every file is asked, although the catalog
//! remembers how many bytes each had when it came: file systems allocate late, compress, share and
//! punch holes, and other tools have hands, of all of which no directory tells. 280,000 files take
//! 0.3 s of one core, as long as the kernel needs to answer.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hashbrown::HashMap;

use crate::catalog::Millis;
use crate::fsutil::{self, IoContext, allocated};
use crate::graph::{ImageGraph, NodeId, NodeSet};
use crate::layout::{BlobStat, Layout};

use super::Result;

/// How large a file system is, and how much of it an ordinary user may still take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// All of it, in bytes.
    pub size: u64,
    /// What is free, in bytes.
    pub available: u64,
}

impl FileSystem {
    /// Of the one that `path` is on.
    pub fn of(path: &Path) -> fsutil::Result<FileSystem> {
        let stat = rustix::fs::statvfs(path).at("statvfs", path)?;
        Ok(FileSystem {
            size: stat.f_blocks.saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
}

/// What `stat` says of doomed blobs, in the order of the graph.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct BlobFacts {
    facts: Vec<(NodeId, BlobStat)>,
}

/// With so many to ask about, a second thread asks about half of them.
const MANY: usize = if cfg!(test) { 4 } else { 20_000 };

impl BlobFacts {
    /// Asks the disk about each of `nodes`. What has vanished is left out.
    pub fn survey(graph: &ImageGraph, layout: &Layout, nodes: &NodeSet) -> Result<BlobFacts> {
        let nodes: Vec<NodeId> = nodes.iter().collect();
        let mut facts = vec![(NodeId::at(0), BlobStat::default()); nodes.len()];
        // Each thread writes into its part of them; what has vanished is taken out afterwards.
        let ask = |nodes: &[NodeId], facts: &mut [(NodeId, BlobStat)]| -> Result<Vec<NodeId>> {
            let mut vanished = Vec::new();
            for (node, fact) in nodes.iter().zip(facts) {
                let stat = layout.blobs().stat(&graph.node(*node).digest);
                let stat = stat.map_err(crate::layout::Error::from)?;
                if stat.is_none() {
                    vanished.push(*node);
                }
                *fact = (*node, stat.unwrap_or_default());
            }
            Ok(vanished)
        };
        let many = nodes.len() >= MANY;
        let middle = if many { nodes.len() / 2 } else { nodes.len() };
        let (first, second) = nodes.split_at(middle);
        let (asked, beside) = std::thread::scope(|scope| {
            let (ours, theirs) = facts.split_at_mut(middle);
            let beside = || ask(second, theirs);
            let thread = many.then(|| std::thread::Builder::new().spawn_scoped(scope, beside));
            let asked = ask(first, ours);
            let beside = thread.and_then(|thread| thread.ok()?.join().ok());
            (asked, beside)
        });
        let mut vanished = asked?;
        // Where there may be no more threads, nobody has asked about the rest.
        vanished.extend(match beside {
            Some(vanished) => vanished?,
            None => ask(second, &mut facts[middle..])?,
        });
        if !vanished.is_empty() {
            facts.retain(|(node, _)| vanished.binary_search(node).is_err());
        }
        Ok(BlobFacts { facts })
    }

    /// What is known of those that are in `nodes`.
    pub fn among(&self, nodes: &NodeSet) -> BlobFacts {
        let facts = self.facts.iter().filter(|fact| nodes.contains(fact.0));
        BlobFacts {
            facts: facts.copied().collect(),
        }
    }

    /// What is known of all of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (NodeId, &BlobStat)> {
        self.facts.iter().map(|(node, stat)| (*node, stat))
    }

    /// What is known of one blob.
    pub fn get(&self, node: NodeId) -> Option<&BlobStat> {
        let place = self.facts.binary_search_by_key(&node, |fact| fact.0).ok()?;
        Some(&self.facts[place].1)
    }

    /// The blobs that other tools wrote after `since`, with the time of each.
    pub fn young<'a>(
        &'a self,
        graph: &'a ImageGraph,
        since: Millis,
    ) -> impl Iterator<Item = (NodeId, Millis)> + 'a {
        self.facts
            .iter()
            .filter(move |(node, stat)| !graph.node(*node).ours && stat.modified > since)
            .map(|(node, stat)| (*node, stat.modified))
    }
}

/// What of it a removal still needs once it is settled what goes, in a third of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    node: NodeId,
    /// Units of 512 bytes that unlinking gives back.
    blocks: u32,
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
}

impl Found {
    /// The bytes that unlinking the blob gives back.
    pub fn freed(&self) -> u64 {
        u64::from(self.blocks) * 512
    }
}

/// What was found of doomed blobs, in the order of the graph.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Doomed {
    found: Vec<Found>,
}

impl Doomed {
    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (NodeId, &Found)> {
        self.found.iter().map(|found| (found.node, found))
    }

    /// What was found of one.
    pub fn get(&self, node: NodeId) -> Option<&Found> {
        let place = self.found.binary_search_by_key(&node, |found| found.node);
        Some(&self.found[place.ok()?])
    }
}

impl From<BlobFacts> for Doomed {
    fn from(facts: BlobFacts) -> Doomed {
        let found = facts.facts.iter().map(|(node, stat)| Found {
            node: *node,
            blocks: u32::try_from(freed(stat) / 512).unwrap_or(u32::MAX),
            inode: stat.inode,
            size: stat.size,
        });
        Doomed {
            found: found.collect(),
        }
    }
}

/// What the disk says of everything in `blobs/`.
#[derive(Debug, Default)]
pub struct Survey {
    /// Of the blobs of a graph.
    pub facts: BlobFacts,
    /// Of files whose names are digests that the graph does not know.
    pub unknown: Vec<BlobStat>,
    /// Names that are no digests.
    pub strays: Vec<OsString>,
    /// Names that are digests, of what is no plain file.
    pub odd: Vec<OsString>,
}

impl Survey {
    /// Asks the disk about every entry of `blobs/`.
    pub fn take(graph: &ImageGraph, layout: &Layout) -> Result<Survey> {
        let mut survey = Survey::default();
        let facts = &mut survey.facts.facts;
        facts.reserve_exact(graph.len());
        layout
            .blobs()
            .survey(|entry| match entry.name {
                Ok(digest) if entry.file => match graph.find(&digest) {
                    Some(node) => facts.push((node, entry.stat)),
                    None => survey.unknown.push(entry.stat),
                },
                Ok(digest) => survey.odd.push(digest.hex().into()),
                Err(name) => survey.strays.push(name.to_owned()),
            })
            .map_err(crate::layout::Error::from)?;
        facts.sort_unstable_by_key(|fact| fact.0);
        Ok(survey)
    }
}

/// The bytes that unlinking a blob gives back.
pub fn freed(stat: &BlobStat) -> u64 {
    if stat.links > 1 { 0 } else { stat.allocated }
}

/// Counts the bytes that come back as trees go, one after another.
#[derive(Debug, Default)]
pub struct Tally {
    /// Names that are still to be met, of files that have more than one.
    names: HashMap<(u64, u64), u64>,
}

impl Tally {
    /// The bytes that come back when the file or tree at `path` goes too.
    pub fn take(&mut self, path: &Path) -> fsutil::Result<u64> {
        let mut total = 0;
        let mut pending = vec![path.to_path_buf()];
        while let Some(path) = pending.pop() {
            let metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(fsutil::Error::new("stat", path, error)),
            };
            total += self.take_file(&metadata);
            if !metadata.is_dir() {
                continue;
            }
            match fs::read_dir(&path) {
                Ok(entries) => pending.extend(entries.flatten().map(|entry| entry.path())),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // What a step shut to its owner (rootless): removing it opens it first.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                Err(error) => return Err(fsutil::Error::new("read", path, error)),
            }
        }
        Ok(total)
    }

    fn take_file(&mut self, metadata: &Metadata) -> u64 {
        if metadata.is_dir() || metadata.nlink() <= 1 {
            return allocated(metadata);
        }
        let left = self
            .names
            .entry((metadata.dev(), metadata.ino()))
            .or_insert(metadata.nlink());
        *left = left.saturating_sub(1);
        if *left == 0 { allocated(metadata) } else { 0 }
    }
}

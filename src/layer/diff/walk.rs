//! What both differs share: the way down, entries that wait, and hard links.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hashbrown::HashMap;
use rustix::fs::Stat;

use super::DiffOptions;
use crate::layer::entry::{Entry, EntrySink, Kind, join};
use crate::layer::error::{Error, Result};
use crate::layer::inode::Inode;
use crate::layer::whiteout::{self, PREFIX};

/// A directory that is being walked.
pub struct Level {
    /// Its path; empty is the root.
    pub path: Vec<u8>,
    /// It in the tree that becomes a layer.
    pub upper: OwnedFd,
    /// It in the tree below, if it is a directory there too and shows through.
    pub lower: Option<OwnedFd>,
    /// Its names that are still to be visited, last one first.
    pub names: Vec<Vec<u8>>,
    /// Its entry, if it is the same as below: sent only when something in it is.
    pub waiting: Option<Entry>,
}

/// The directories from the root to where the walk is, and where entries go.
///
/// Depth is bounded by open files, two for a level, and then is an error that names the path; not
/// by the stack, since the levels are on the heap.
pub struct Walk<'a> {
    pub options: &'a DiffOptions,
    sink: &'a mut dyn EntrySink,
    levels: Vec<Level>,
    /// (device, inode) of each file with several names that was sent, and its first name.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<'a> Walk<'a> {
    pub fn new(options: &'a DiffOptions, sink: &'a mut dyn EntrySink) -> Walk<'a> {
        Walk {
            options,
            sink,
            levels: Vec::new(),
            links: HashMap::new(),
        }
    }

    /// Goes into a directory.
    pub fn enter(&mut self, level: Level) {
        self.levels.push(level);
    }

    /// The next name to visit, with the directory it is in; `None`: the walk is over.
    pub fn next(&mut self) -> Option<(Vec<u8>, Place<'_>)> {
        while self
            .levels
            .last()
            .is_some_and(|level| level.names.is_empty())
        {
            self.levels.pop();
        }
        let level = self.levels.last_mut()?;
        let name = level.names.pop()?;
        let path = join(&level.path, &name);
        let lower = level.lower.as_ref().map(|lower| lower.as_fd());
        Some((
            name,
            Place {
                path,
                upper: level.upper.as_fd(),
                lower,
            },
        ))
    }

    /// Sends `entry`, after the directories above it that were waiting.
    pub fn send(&mut self, mut entry: Entry, content: Option<&mut dyn Read>) -> Result<()> {
        for level in &mut self.levels {
            if let Some(mut waiting) = level.waiting.take() {
                waiting.mtime = waiting.mtime.clamp_to(self.options.timestamp);
                self.sink.entry(&waiting, None)?;
            }
        }
        entry.mtime = entry.mtime.clamp_to(self.options.timestamp);
        self.sink.entry(&entry, content)
    }

    /// Sends the whiteout of `name` in the directory where the walk is.
    pub fn send_whiteout(&mut self, name: &[u8]) -> Result<()> {
        let entry = match self.levels.last() {
            Some(level) => whiteout::entry(&level.path, name),
            None => whiteout::entry(b"", name),
        };
        self.send(entry, None)
    }

    /// Sends what isn't a directory: as a hard link if an earlier name of it was sent.
    pub fn send_inode(&mut self, entry: Entry, inode: Inode) -> Result<()> {
        let mut entry = entry;
        if inode.stat.st_nlink > 1 {
            let key = (inode.stat.st_dev, inode.stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                // The attributes are the file's; a reader that sets them again does no harm.
                entry.kind = Kind::Hardlink {
                    target: first.clone(),
                };
                return self.send(entry, None);
            }
            self.links.insert(key, entry.path.clone());
        }
        match inode.into_content() {
            Some(mut file) => self.send(entry, Some(&mut file)),
            None => self.send(entry, None),
        }
    }

    /// Whether a name of this inode was sent.
    pub fn has_sent(&self, stat: &Stat) -> bool {
        stat.st_nlink > 1 && self.links.contains_key(&(stat.st_dev, stat.st_ino))
    }
}

/// Where a name is.
pub struct Place<'a> {
    /// The name's whole path.
    pub path: Vec<u8>,
    /// The directory it is in.
    pub upper: BorrowedFd<'a>,
    /// The same directory below.
    pub lower: Option<BorrowedFd<'a>>,
}

/// Refuses a name that a layer would read as a whiteout.
pub fn check_name(name: &[u8], path: &[u8]) -> Result<()> {
    match name.starts_with(PREFIX) {
        true => Err(Error::WhiteoutName {
            path: path.to_vec(),
        }),
        false => Ok(()),
    }
}

/// The same directory opened anew, to put into a [`Level`]: a duplicate of the descriptor would
/// share its position with the caller's, and a second walk find nothing.
pub fn reopen(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    crate::layer::inode::open_directory(directory, b".", b"")
}

//! The way to a directory, component by component, as a process would go whose root is ours.
//!
//! A stack of directories held open, so that `..` means the directory that we came from, and no
//! link can change what was passed; and the components still ahead, to which a link's target is
//! added.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::resolve::Directory;
use crate::layer::error::{EntryProblem, Error, Result};
use crate::layer::inode::open_directory;

/// As many links as Linux follows (path_resolution(7)).
const LINK_LIMIT: usize = 40;

/// A directory on the way, and what is below it.
#[derive(Clone)]
pub struct Level {
    pub directory: Rc<Directory>,
    pub below: Option<Rc<OwnedFd>>,
}

/// The way to a directory, component by component.
pub struct Way {
    root: Level,
    levels: Vec<Level>,
    /// Components still to go, the next one last.
    pub ahead: Vec<Vec<u8>>,
    links: usize,
}

impl Way {
    pub fn new(root: &Rc<Directory>, below: Option<BorrowedFd<'_>>, path: &[u8]) -> Result<Way> {
        let below = below
            .map(|below| open_directory(below, b".", b""))
            .transpose()?;
        let root = Level {
            directory: Rc::clone(root),
            below: below.map(Rc::new),
        };
        let mut way = Way {
            root,
            levels: Vec::new(),
            ahead: Vec::new(),
            links: 0,
        };
        way.put_ahead(path);
        Ok(way)
    }

    pub fn here(&self) -> Level {
        self.levels.last().unwrap_or(&self.root).clone()
    }

    pub fn down(&mut self, directory: Directory, below: Option<OwnedFd>) {
        self.levels.push(Level {
            directory: Rc::new(directory),
            below: below.map(Rc::new),
        });
    }

    /// The root's parent is the root.
    pub fn up(&mut self) {
        self.levels.pop();
    }

    pub fn follow(&mut self, target: Vec<u8>, entry: &[u8]) -> Result<()> {
        self.links += 1;
        if self.links > LINK_LIMIT {
            let problem = EntryProblem::TooManyLinks;
            return Err(Error::Entry {
                path: entry.to_vec(),
                problem,
            });
        }
        if target.starts_with(b"/") {
            self.levels.clear();
        }
        self.put_ahead(&target);
        Ok(())
    }

    fn put_ahead(&mut self, path: &[u8]) {
        self.ahead
            .extend(path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
    }
}

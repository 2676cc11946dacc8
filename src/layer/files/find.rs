//! From a path to a file, as a process would go whose root the image is.

use std::fmt;

use super::{FileId, Files, Place, kind_word};
use crate::layer::entry::{Kind, ShowPath, join};
use crate::layer::merge::tree::Way;
use crate::words;

/// What is meant where the last component of a path is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// What the link leads to. It is also what a path with a `/` at its end means.
    Follow,
    /// The link.
    Show,
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// There is no such name.
    #[error(
        "{}: no such file or directory{}",
        Absolute(path),
        Missing(path, missing, near)
    )]
    Missing {
        /// What was asked for.
        path: Vec<u8>,
        /// The name that is missing, with links resolved; the same as `path` if that is all.
        missing: Vec<u8>,
        /// Paths in the same directory that are spelled almost like it, the nearest first.
        near: Vec<Vec<u8>>,
    },
    /// Something on the way is no directory.
    #[error(
        "{}: {} is not a directory but a {what}",
        Absolute(path),
        Absolute(found)
    )]
    NotADirectory {
        /// What was asked for.
        path: Vec<u8>,
        /// What is on the way, with links resolved.
        found: Vec<u8>,
        /// What it is.
        what: &'static str,
    },
    /// More symbolic links on the way than Linux follows.
    #[error("{}: too many levels of symbolic links", Absolute(path))]
    TooManyLinks {
        /// What was asked for.
        path: Vec<u8>,
    },
    /// More directories in directories than the kernel's paths can name.
    #[error("{}: file name too long", Absolute(path))]
    TooDeep {
        /// What was asked for.
        path: Vec<u8>,
    },
}

/// A path from the root, as text for people.
pub struct Absolute<'a>(pub &'a [u8]);

impl fmt::Display for Absolute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.starts_with(b"/") && !self.0.is_empty() {
            f.write_str("/")?;
        }
        ShowPath(self.0).fmt(f)
    }
}

struct Missing<'a>(&'a [u8], &'a [u8], &'a [Vec<u8>]);

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Missing(path, missing, near) = self;
        // Where links or `..` led elsewhere, that is what the reader must know.
        if path.strip_prefix(b"/").unwrap_or(path) != *missing {
            write!(f, ": there is no {}", Absolute(missing))?;
        }
        for (place, path) in near.iter().enumerate() {
            let between = if place == 0 { "; did you mean" } else { " or" };
            write!(f, "{between} {}", Absolute(path))?;
        }
        f.write_str(if near.is_empty() { "" } else { "?" })
    }
}

/// How many near names are suggested.
const NEAR: usize = 3;

impl Files {
    /// The file that a path leads to. Links are followed inside of the image and never out of it.
    pub fn find(&self, path: &[u8], last: Last) -> Result<Place, FindError> {
        let follow_last = last == Last::Follow || path.ends_with(b"/") || path.ends_with(b"/.");
        let too_many = |_| FindError::TooManyLinks {
            path: path.to_vec(),
        };
        let mut way = Way::new(path);
        let mut trail = Trail::default();
        while let Some(name) = way.next_name() {
            trail.0.truncate(way.depth());
            let here = way.here();
            let Some(found) = self.tree.nodes[here].children.get(&name) else {
                return Err(self.missing(path, &trail, here, &name));
            };
            let at_end = way.is_at_end();
            match &self.tree.nodes[found.node].entry.kind {
                Kind::Directory => {
                    way.enter(found.node, path)
                        .map_err(|_| FindError::TooDeep {
                            path: path.to_vec(),
                        })?;
                    trail.0.push((name, found.layer));
                }
                Kind::Symlink { target } if !at_end || follow_last => {
                    way.follow(target, path).map_err(too_many)?;
                }
                _ if at_end && !path.ends_with(b"/") => {
                    return Ok(Place {
                        path: join(&trail.path(), &name),
                        file: FileId(found.node),
                        layer: Some(found.layer),
                    });
                }
                kind => {
                    return Err(FindError::NotADirectory {
                        path: path.to_vec(),
                        found: join(&trail.path(), &name),
                        what: kind_word(kind),
                    });
                }
            }
        }
        trail.0.truncate(way.depth());
        Ok(match trail.0.last() {
            None => self.root(),
            Some((_, layer)) => Place {
                path: trail.path(),
                file: FileId(way.here()),
                layer: Some(*layer),
            },
        })
    }

    fn missing(&self, path: &[u8], trail: &Trail, here: usize, name: &[u8]) -> FindError {
        let directory = trail.path();
        let wanted = String::from_utf8_lossy(name);
        let allowed = 1 + wanted.chars().count() / 4;
        let mut near: Vec<(usize, &Vec<u8>)> = self.tree.nodes[here]
            .children
            .keys()
            .filter(|other| other.len().abs_diff(name.len()) <= allowed * 4)
            .map(|other| {
                let text = String::from_utf8_lossy(other);
                (words::distance(&wanted, &text), other)
            })
            .filter(|(distance, _)| *distance <= allowed)
            .collect();
        near.sort();
        let near = near.into_iter().take(NEAR);
        FindError::Missing {
            path: path.to_vec(),
            missing: join(&directory, name),
            near: near.map(|(_, other)| join(&directory, other)).collect(),
        }
    }
}

/// The names of the directories that the way has entered and not left, and the layers of these.
#[derive(Default)]
struct Trail(Vec<(Vec<u8>, usize)>);

impl Trail {
    fn path(&self) -> Vec<u8> {
        let names: Vec<&[u8]> = self.0.iter().map(|(name, _)| name.as_slice()).collect();
        names.join(&b'/')
    }
}

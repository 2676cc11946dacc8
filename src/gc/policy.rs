//! What a prune is to take: scopes and filters, as a value that a plan carries with it.
//!
//! **Scopes** say which kinds of things may go. The wider ones for images include the dangling
//! ones: otherwise a tag more could make a prune take more, namely the ancestors that it turns
//! from dangling into intermediate images.
//!
//! **Rules** say which of those stay nevertheless. An image that a rule keeps keeps the images
//! that it was made from, unless the scope takes intermediates: then no more than a tagged one does
//! (`select`). More rules never make a prune take more.
//!
//! **Space** says how much of that goes, the least recently used first. The words are BuildKit's:
//!
//! | | is | |
//! |---|---|---|
//! | `max_used` | a ceiling | of what the store takes, all of it: things go until it is that small |
//! | `min_free` | a floor | of what is free on the file system: things go until it is that much |
//! | `reserved` | a floor | of what the store takes: nothing goes that would make it smaller, whatever the others ask for; alone it is what things go down to |

use std::num::NonZeroUsize;

use crate::catalog::Millis;
use crate::graph::{Holds, Image, State};
use crate::oci::Digest;

use super::plan::ItemKind;
use super::time;

/// An hour, in milliseconds: how long what other tools wrote is left alone.
pub const DEFAULT_GRACE: Millis = 3_600_000;

/// Which kinds of things may go.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    /// Dangling images and what only they reached, unreferenced blobs, snapshots of no image that
    /// is kept, debris of dead builds.
    pub dangling: bool,
    /// Images that builds of tagged images copied from or mounted, and those these were made from.
    pub stages: bool,
    /// Images that tagged ones descend from.
    pub intermediates: bool,
    /// Every snapshot that no live lease pins.
    pub snapshots: bool,
    /// The records of the build cache.
    pub cache: bool,
    /// The directories of `RUN --mount=type=cache`.
    pub cache_mounts: bool,
    /// Containers that failed steps left. (Those of builds that were killed are debris.)
    pub containers: bool,
    /// Tagged images too, under a policy that says which.
    pub tagged: bool,
    /// Only images that descend from, or were made for, the image of this manifest.
    pub image: Option<Digest>,
}

impl Default for Scope {
    /// What `rstore prune` without a scope takes.
    fn default() -> Scope {
        Scope {
            dangling: true,
            containers: true,
            ..Scope::none()
        }
    }
}

impl Scope {
    /// Nothing.
    pub fn none() -> Scope {
        Scope {
            dangling: false,
            stages: false,
            intermediates: false,
            snapshots: false,
            cache: false,
            cache_mounts: false,
            containers: false,
            tagged: false,
            image: None,
        }
    }

    /// Whatever tagged and pinned images don't need in order to run.
    pub fn all() -> Scope {
        Scope {
            dangling: true,
            stages: true,
            intermediates: true,
            snapshots: true,
            cache: true,
            cache_mounts: true,
            containers: true,
            tagged: false,
            image: None,
        }
    }

    /// Whether dangling images are in it: every scope that takes images has them.
    pub fn takes_images(&self) -> bool {
        self.dangling || self.stages || self.intermediates || self.tagged
    }

    /// The ways of being held in spite of which an image may go.
    pub fn holds(&self) -> Holds {
        let mut holds = Holds::NONE;
        for (wanted, state) in [
            (self.stages, State::Stage),
            (self.intermediates, State::Intermediate),
        ] {
            if wanted {
                holds = holds.with(state);
            }
        }
        holds
    }
}

/// So much room: in bytes, or as a part of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Room {
    /// Bytes.
    Bytes(u64),
    /// Hundredths of the file system's size, from 0 to 100.
    Percent(u8),
}

impl Room {
    /// The bytes, on a file system of this size.
    pub fn bytes(self, file_system: u64) -> u64 {
        match self {
            Room::Bytes(bytes) => bytes,
            Room::Percent(percent) => {
                let bytes = u128::from(file_system) * u128::from(percent) / 100;
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
        }
    }
}

/// How much is to go; see the head of this file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Space {
    /// The most that the store may take.
    pub max_used: Option<Room>,
    /// What the store may always take.
    pub reserved: Option<Room>,
    /// The least that is to be free on the file system.
    pub min_free: Option<Room>,
}

impl Space {
    /// Whether nothing is said: all goes that may.
    pub fn is_unlimited(&self) -> bool {
        *self == Space::default()
    }
}

/// What a prune is to take, and what it is to spare.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// What it is called in the configuration; a policy of flags has no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which kinds of things may go.
    pub scope: Scope,
    /// Spare what was used at or after this moment.
    #[serde(with = "time::optional")]
    pub until: Option<Millis>,
    /// Of each repository, spare the tags whose images were used last, this many.
    pub keep_last: Option<NonZeroUsize>,
    /// Spare tags that match this regular expression.
    pub keep: Option<String>,
    /// What the [`Filter`] that goes with it was made of: only what passes goes.
    pub filters: Vec<String>,
    /// How much of it goes.
    pub space: Space,
    /// How long what other tools wrote is left alone, by mtime, in milliseconds.
    pub grace: Millis,
    /// Documents that cannot be read, and of which it is not to be minded what they need.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore_broken: Vec<Digest>,
}

impl Policy {
    /// Whether it says which of several things go: tagged images only go under one that does.
    pub fn is_selective(&self) -> bool {
        self.until.is_some()
            || self.keep_last.is_some()
            || self.keep.is_some()
            || !self.filters.is_empty()
            || !self.space.is_unlimited()
    }
}

/// Something that a filter is asked about.
#[derive(Clone)]
pub struct Thing<'a> {
    /// What it is.
    pub kind: ItemKind,
    /// What it is called: an ID, a digest, a path below the root, the ID of a cache mount.
    pub id: &'a str,
    /// Its tags; of a tag, that alone.
    pub names: Vec<&'a str>,
    /// The image, if it is one.
    pub image: Option<Image<'a>>,
    /// What the image is.
    pub state: Option<State>,
    /// When the store first heard of it.
    pub first_seen: Option<Millis>,
    /// When it was last used.
    pub last_used: Option<Millis>,
}

/// Says which things a prune takes: the filter engine of the lists, seen from here.
pub trait Filter {
    /// Whether a thing passes. One that has nothing of what is asked for does not.
    fn passes(&self, thing: &Thing) -> bool;
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            name: None,
            scope: Scope::default(),
            until: None,
            keep_last: None,
            keep: None,
            filters: Vec::new(),
            space: Space::default(),
            grace: DEFAULT_GRACE,
            ignore_broken: Vec::new(),
        }
    }
}

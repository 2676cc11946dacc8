//! What a prune is to take: scopes and filters, as a value that a plan carries with it.
//!
//! **Scopes** say which kinds of things may go. The wider ones for images include the dangling
//! ones: otherwise a tag more could make a prune take more, namely the ancestors that it turns
//! from dangling into intermediate images.
//!
//! **Filters** say which of those stay nevertheless. An image that a filter keeps keeps the images
//! that it was made from.

use crate::catalog::Millis;
use crate::graph::{Holds, State};
use crate::oci::Digest;

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

/// What a prune is to take, and what it is to spare.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Which kinds of things may go.
    pub scope: Scope,
    /// Spare what was used at or after this moment.
    pub until: Option<Millis>,
    /// Of each repository, spare the tags used last, this many.
    pub keep_last: Option<usize>,
    /// Spare tags that match this regular expression.
    pub keep: Option<String>,
    /// Spare images that these do not match: `label=KEY[=VALUE]` and `label!=…`, as
    /// (negated, key, value).
    pub labels: Vec<LabelFilter>,
    /// Of the cache mounts, spare those that have none of these IDs; nothing here spares none.
    pub cache_mounts: Vec<String>,
    /// How long what other tools wrote is left alone, by mtime, in milliseconds.
    pub grace: Millis,
}

/// A condition on an image's labels.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LabelFilter {
    /// Whether it must *not* have it.
    pub negated: bool,
    /// The label.
    pub key: String,
    /// Its value; any where there is none.
    pub value: Option<String>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            scope: Scope::default(),
            until: None,
            keep_last: None,
            keep: None,
            labels: Vec::new(),
            cache_mounts: Vec::new(),
            grace: DEFAULT_GRACE,
        }
    }
}

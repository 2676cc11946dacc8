//! What a transfer tells while it goes on.

use crate::oci::Digest;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A pull began.
    Pulling {
        /// The tag or the digest.
        what: String,
        /// The repository, without its registry.
        repository: String,
    },
    /// A push began.
    Pushing {
        /// The repository, with its registry.
        repository: String,
    },
    /// A layer has come to a new state.
    Layer {
        /// Its digest.
        digest: Digest,
        /// Its bytes.
        size: u64,
        /// The state.
        state: LayerState,
    },
    /// So many bytes of a layer have been moved.
    Moved {
        /// Its digest.
        digest: Digest,
        /// Bytes, from its beginning.
        done: u64,
        /// All of its bytes.
        size: u64,
    },
    /// Something about the image travels with it.
    Referrer {
        /// Its digest.
        digest: Digest,
        /// What kind of artifact it is: anybody's text.
        kind: String,
        /// What it is about, or its tag.
        of: String,
    },
    /// Something that should be known.
    Warning {
        /// In words.
        message: String,
    },
    /// A pull is done: the image is in the store.
    Pulled {
        /// Its name, as people write it.
        name: String,
        /// The digest that the registry has for the name.
        digest: Digest,
        /// Whether it is another one than the store had.
        newer: bool,
    },
}

/// What becomes of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerState {
    /// It is going to be pulled.
    Wanted,
    /// The store has it.
    Exists,
    /// Somebody else is fetching it: it will be in the store, or is ours to fetch.
    Waiting,
    /// A part of it was here; the rest is asked for.
    Resumed {
        /// Bytes that are here.
        from: u64,
    },
    /// It is in the store.
    Pulled,
    /// It came, or did not come, and was not taken: a warning says why.
    Refused,
    /// It is going to be pushed, if it must be.
    Prepared,
    /// The registry has it in this repository.
    There,
    /// The registry took it from another repository of its own.
    Mounted {
        /// Which.
        from: String,
    },
    /// The registry has taken it.
    Pushed,
}

impl LayerState {
    /// Whether nothing more becomes of it.
    pub fn is_final(&self) -> bool {
        !matches!(
            self,
            LayerState::Wanted
                | LayerState::Waiting
                | LayerState::Resumed { .. }
                | LayerState::Prepared
        )
    }
}

/// Docker's words for it.
impl std::fmt::Display for LayerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LayerState::Wanted => f.write_str("Pulling fs layer"),
            LayerState::Waiting => f.write_str("Waiting"),
            LayerState::Exists => f.write_str("Already exists"),
            LayerState::Resumed { from } => write!(f, "Resuming after {from} bytes"),
            LayerState::Pulled => f.write_str("Pull complete"),
            LayerState::Refused => f.write_str("Not taken"),
            LayerState::Prepared => f.write_str("Preparing"),
            LayerState::There => f.write_str("Layer already exists"),
            LayerState::Mounted { from } => write!(f, "Mounted from {from}"),
            LayerState::Pushed => f.write_str("Pushed"),
        }
    }
}

/// Takes events as they come, all from one thread.
pub trait Sink {
    /// Takes one.
    fn event(&self, event: Event);
}

impl<F: Fn(Event)> Sink for F {
    fn event(&self, event: Event) {
        self(event);
    }
}

//! Why a registry gave or took nothing, and what can be done about it.

use crate::oci::{Digest, document};
use crate::{fsutil, http, store};

/// What the functions of this module return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be had from a registry, or brought to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody can be asked.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] fsutil::Error),
    /// The server cannot be reached, stops in the middle, or doesn't speak HTTP.
    #[error("{url}: {why}")]
    Failed {
        /// What was asked for.
        url: String,
        /// Why.
        why: String,
        /// Whether asking again may help.
        again: bool,
    },
    /// The registry says no.
    #[error("{url}: the registry answers {status}{}{}", meaning(*.status), told(.message))]
    Status {
        /// What was asked for.
        url: String,
        /// The status code.
        status: u16,
        /// Its own words, if it has any.
        message: String,
    },
    /// Not without a login, or not with this one.
    #[error("{registry} {}{}; `rstore login {registry}` {}", refusal(.user), told(.message), advice(.user))]
    Unauthorized {
        /// The registry.
        registry: String,
        /// Who asked.
        user: Option<String>,
        /// Its own words.
        message: String,
    },
    /// It isn't there.
    #[error("{what} is not there{}", told(.message))]
    NotFound {
        /// What was asked for.
        what: String,
        /// The registry's own words.
        message: String,
    },
    /// What came is not what was asked for.
    #[error("{what}: {why}")]
    Wrong {
        /// The digest or the URL.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A document cannot be understood.
    #[error("{digest}: {source}")]
    Document {
        /// The document.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: document::Error,
    },
    /// No registry that was asked has it.
    #[error("cannot pull {name}: {}", .tried.join("; "))]
    Nowhere {
        /// The name in full.
        name: String,
        /// Each that was asked, with its answer.
        tried: Vec<String>,
    },
    /// Something that cannot be meant, or isn't done.
    #[error("{what}: {why}")]
    Refused {
        /// The name.
        what: String,
        /// Why.
        why: String,
    },
    /// Credentials cannot be read or kept.
    #[error("{what}: {why}")]
    Credentials {
        /// The file, or the helper's name.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody asked for the end.
    #[error("interrupted")]
    Interrupted,
}

fn meaning(status: u16) -> &'static str {
    match status {
        403 => " (forbidden)",
        405 => " (method not allowed)",
        407 => " (the proxy wants a user and a password)",
        413 => " (too large)",
        429 => " (too many requests: try again later)",
        500..=599 => " (an error of the server: try again later)",
        _ => "",
    }
}

fn told(message: &str) -> String {
    match message {
        "" => String::new(),
        message => format!(": {message}"),
    }
}

fn refusal(user: &Option<String>) -> String {
    match user {
        Some(user) => format!("refuses the user {user:?} or the password, or what was asked for"),
        None => "wants a login, or has no such repository".to_owned(),
    }
}

fn advice(user: &Option<String>) -> &'static str {
    match user {
        Some(_) => "takes another one",
        None => "tells it who you are",
    }
}

impl Error {
    /// Whether the same question may get another answer in a moment.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Error::Failed { again, .. } => *again,
            Error::Status { status, .. } => is_passing(*status),
            _ => false,
        }
    }

    /// Whether the disk, its inodes or a quota are exhausted.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::Store(error) => error.is_no_space(),
            Error::Io(error) => error.is_no_space(),
            _ => false,
        }
    }

    /// Whether stored bytes are missing or wrong.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Error::Store(error) if error.is_corruption())
    }
}

/// Whether a status says that asking again may help.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

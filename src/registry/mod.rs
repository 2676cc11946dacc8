//! Images from registries, and to them (distribution-spec 1.1).
//!
//! ```text
//! name ─▶ mirrors, registry ─▶ manifest ─▶ layers that the store lacks ─▶ config ─▶ documents ─▶ tag
//!         endpoint, auth       by digest    │ a few at a time, each into
//!                                           │ ingest/LEASE-partial-HEX, hashed on its way
//!                                           └─ cut off: the rest by Range; ended: a later pull goes on
//!
//! documents ─▶ blobs that the registry lacks ─▶ manifests, inner ones first ─▶ tag
//!              mounted, or sent by pieces
//! ```
//! What holds:
//! - No layer passes through memory. What arrives is believed once its digest and its size are what
//!   the manifest says; the manifest, once its digest is what the name says.
//! - A transfer has a lease. What it takes in is pinned before it appears; the tag comes last. What
//!   is interrupted leaves partial downloads, which belong to a dead lease, and nothing else.
//! - What may pass (cut connections, 429, 503) is tried again, later each time; a server that is
//!   silent, or nearly so, is left and asked anew.
//! - User, password and token go to the registry that they are for. A redirect to another one gets
//!   none, and none goes over HTTP to whom HTTPS was meant for.
//!
//! Threads that wait for the network hold nothing of the store: who asks for the end need not wait
//! for them. The library reads neither environment nor clock: [`Config`], [`store::Host`].
//!
//! | file | owns |
//! |---|---|
//! | [`credentials`] | who we are: config.json, auth.json, helpers |
//! | [`event`] | what a transfer tells |
//! | [`error`] | what can go wrong |
//! | [`pull`] | names → images of the store |
//! | [`push`] | images of the store → a registry |
//! | [`recompress`] | images with their layers compressed otherwise |
//! | `referrers` | what is about an image: a registry's list, or the one under its tag |
//! | [`artifact`] | what is no image: manifests and blobs for those who know what they are; deleting |
//! | `endpoint` | where a registry is: schemes, certificates, mirrors |
//! | `auth` | challenges and tokens; `session` asks with them, again where that may help |
//! | `repository` | the questions: manifests, tags, blobs |
//! | `download`, `upload` | a blob's bytes |
//! | `layers` | the layers of a pull, each fetched by one at a time |
//! | `retry` | when to ask again |
//!
//! [`store::Host`]: crate::store::Host

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;

use crate::http;
use crate::store::Host;

pub mod artifact;
mod auth;
pub mod credentials;
mod download;
mod endpoint;
pub mod error;
pub mod event;
mod layers;
mod moves;
pub mod pull;
pub mod push;
pub mod recompress;
mod referrers;
mod repository;
mod retry;
mod session;
mod upload;

use endpoint::Endpoint;

pub use credentials::{Login, Sources};
pub use error::{Error, Result};
pub use event::{Event, LayerState, Sink};
pub use retry::Stop;

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct Config {
    /// Proxies, and the system's certificates.
    pub http: http::Settings,
    /// What is said of single registries, by name (`docker.io`, `host:5000`).
    pub hosts: BTreeMap<String, HostConfig>,
    /// Directories of directories of certificates, by host.
    pub certificate_directories: Vec<PathBuf>,
    /// A directory of certificates for whatever is asked, instead.
    pub certificates: Option<PathBuf>,
    /// Whether certificates are looked at; `None`: as `hosts` say.
    pub tls_verify: Option<bool>,
    /// Who we are.
    pub credentials: Sources,
    /// How many blobs are moved at the same time; at least 1.
    pub parallel: usize,
    /// How long a server may be silent, or nearly so, before it is asked anew.
    pub patience: Duration,
}

/// What is said of one registry, or of one mirror.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostConfig {
    /// Who is asked before it when something is pulled: `HOST[:PORT][/PREFIX]`, perhaps with its
    /// scheme ([`check_mirror`]). What is said of a mirror's host holds for the mirror, and it is
    /// shown the login of that host, never that of the registry.
    pub mirrors: Vec<String>,
    /// Whether nobody but the mirrors is asked when something is pulled.
    pub only_mirrors: bool,
    /// Whether it may have any certificate, or none.
    pub insecure: bool,
    /// A file of certificates of authorities that are trusted besides the system's.
    pub authority: Option<PathBuf>,
    /// The files of the certificate and of the key that it is shown.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Whether a text names a mirror; else what is wrong with it.
pub fn check_mirror(text: &str) -> std::result::Result<(), String> {
    endpoint::mirror_parts(text).map(drop)
}

impl Default for Config {
    fn default() -> Config {
        Config {
            http: http::Settings::default(),
            hosts: BTreeMap::new(),
            certificate_directories: Vec::new(),
            certificates: None,
            tls_verify: None,
            credentials: Sources::default(),
            parallel: 3,
            patience: Duration::from_secs(60),
        }
    }
}

/// Asks registries. A clone shares connections, tokens, and what is known of them.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    host: Arc<dyn Host>,
    /// By what they are called.
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a client of registries")
    }
}

impl Client {
    /// A client that has not asked yet.
    pub fn new(config: Config, host: Arc<dyn Host>) -> Client {
        Client {
            shared: Arc::new(Shared {
                config,
                host,
                endpoints: Mutex::default(),
            }),
        }
    }

    /// The same, but it is this login that is shown, whatever files say; nothing is shared.
    pub fn with_login(&self, login: Login) -> Client {
        let mut config = self.config().clone();
        config.credentials.given = Some(login);
        Client::new(config, Arc::clone(&self.shared.host))
    }

    /// How registries are reached.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Milliseconds since the epoch.
    fn now(&self) -> i64 {
        self.shared.host.now()
    }

    fn chance(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.shared.host.random();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// The endpoint of this name, made where it isn't known.
    fn endpoint(
        &self,
        name: &str,
        make: impl FnOnce(&Config) -> Result<Endpoint>,
    ) -> Result<Arc<Endpoint>> {
        let endpoints = &self.shared.endpoints;
        let mut endpoints = endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = endpoints.get(name) {
            return Ok(Arc::clone(endpoint));
        }
        let endpoint = Arc::new(make(self.config())?);
        endpoints.insert(name.to_owned(), Arc::clone(&endpoint));
        Ok(endpoint)
    }

    /// A name's own registry.
    fn registry(&self, domain: &str) -> Result<Arc<Endpoint>> {
        // No mirror has such a name.
        self.endpoint(&format!("= {domain}"), |config| {
            Endpoint::of(config, domain)
        })
    }
}

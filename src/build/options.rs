//! What a build is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::base::PullPolicy;
use super::cache::{CacheFrom, CacheTo};
use super::named::NamedContext;
use super::remote;
use crate::executor::{Network, Resource};
use crate::layer::Compression;
use crate::oci::Platform;
use crate::registry;

/// Options of one build.
#[derive(Debug, Clone)]
pub struct Options {
    /// The stage to build; `None`: the last.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`, in order: a last step of their own.
    pub labels: Vec<(String, String)>,
    /// `--annotation`: of the result's manifest, by key.
    pub annotations: BTreeMap<String, String>,
    /// `--squash`: one layer over the base.
    pub squash: bool,
    /// Tags for the result, in their stored form.
    pub tags: Vec<String>,
    /// The platform that is built for; of several, the one that is being lowered.
    pub platform: Platform,
    /// All platforms that are built for, where there are several: the result is an index then.
    pub platforms: Vec<Platform>,
    /// The platform that builds.
    pub build_platform: Platform,
    /// Take nothing from the cache.
    pub no_cache: bool,
    /// Take nothing from the cache for these stages, by name or number.
    pub no_cache_stages: Vec<String>,
    /// `--cache-from`.
    pub cache_from: Vec<CacheFrom>,
    /// `--cache-to`.
    pub cache_to: Vec<CacheTo>,
    /// The network of steps that don't say another.
    pub network: Network,
    /// Of the layers that are made.
    pub compression: Compression,
    /// How many steps may run at the same time; at least 1.
    pub jobs: usize,
    /// Keep the container of a failed step.
    pub keep_failed: bool,
    /// Every time in configs and layers is at most this, in seconds since the epoch, and times of
    /// creation are this.
    pub timestamp: Option<i64>,
    /// Lines for `/etc/hosts`: (name, address).
    pub add_hosts: Vec<(String, String)>,
    /// `/etc/resolv.conf` of the steps.
    pub resolv_conf: Vec<u8>,
    /// Bytes of `/dev/shm`.
    pub shm_size: u64,
    /// (resource, soft, hard).
    pub ulimits: Vec<(Resource, u64, u64)>,
    /// Secrets, by ID.
    pub secrets: BTreeMap<String, Secret>,
    /// Sockets of SSH agents, by ID.
    pub ssh: BTreeMap<String, PathBuf>,
    /// What steps may be given that others are not.
    pub allow: BTreeSet<Entitlement>,
    /// `--build-context`.
    pub named: Vec<NamedContext>,
    /// How other machines are reached.
    pub remote: remote::Settings,
    /// When base images are pulled.
    pub pull: PullPolicy,
    /// Who asks registries; `None`: nobody does.
    pub registry: Option<registry::Client>,
}

/// The bytes of a secret, which show in no message.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a secret")
    }
}

/// What only a step gets whose build was started with `--allow`; BuildKit's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entitlement {
    /// `RUN --security=insecure`.
    SecurityInsecure,
    /// `RUN --network=host` where the build's network is another.
    NetworkHost,
}

impl Entitlement {
    /// The word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Entitlement::SecurityInsecure => "security.insecure",
            Entitlement::NetworkHost => "network.host",
        }
    }
}

impl Options {
    /// What a build for `platform`, this machine's own, has where nobody asks for anything.
    pub fn new(platform: Platform) -> Options {
        Options {
            target: None,
            build_args: BTreeMap::new(),
            labels: Vec::new(),
            annotations: BTreeMap::new(),
            squash: false,
            tags: Vec::new(),
            platform: platform.clone(),
            platforms: Vec::new(),
            build_platform: platform,
            no_cache: false,
            no_cache_stages: Vec::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            network: Network::Host,
            compression: Compression::default(),
            jobs: 1,
            keep_failed: false,
            timestamp: None,
            add_hosts: Vec::new(),
            resolv_conf: Vec::new(),
            shm_size: crate::executor::DEFAULT_SHM_SIZE,
            ulimits: Vec::new(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            allow: BTreeSet::new(),
            named: Vec::new(),
            remote: remote::Settings::default(),
            pull: PullPolicy::default(),
            registry: None,
        }
    }
}

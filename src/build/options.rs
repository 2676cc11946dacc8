//! What a build is asked for.

use std::collections::BTreeMap;

use crate::executor::{Network, Resource};
use crate::layer::Compression;
use crate::oci::Platform;

/// Options of one build.
#[derive(Debug, Clone)]
pub struct Options {
    /// The stage to build; `None`: the last.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`, in order: a last step of their own.
    pub labels: Vec<(String, String)>,
    /// Tags for the result, in their stored form.
    pub tags: Vec<String>,
    /// The platform that is built for.
    pub platform: Platform,
    /// The platform that builds.
    pub build_platform: Platform,
    /// Take nothing from the cache.
    pub no_cache: bool,
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
}

impl Options {
    /// What a build for `platform`, this machine's own, has where nobody asks for anything.
    pub fn new(platform: Platform) -> Options {
        Options {
            target: None,
            build_args: BTreeMap::new(),
            labels: Vec::new(),
            tags: Vec::new(),
            platform: platform.clone(),
            build_platform: platform,
            no_cache: false,
            network: Network::Host,
            compression: Compression::default(),
            jobs: 1,
            keep_failed: false,
            timestamp: None,
            add_hosts: Vec::new(),
            resolv_conf: Vec::new(),
            shm_size: crate::executor::DEFAULT_SHM_SIZE,
            ulimits: Vec::new(),
        }
    }
}

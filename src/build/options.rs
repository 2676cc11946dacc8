//! What a build is asked for.

use std::collections::BTreeMap;

use super::named::NamedContext;
use super::remote;
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
    /// `--build-context`.
    pub named: Vec<NamedContext>,
    /// How other machines are reached.
    pub remote: remote::Settings,
}

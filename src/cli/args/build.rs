//! `rstore build`'s arguments.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ValueEnum;

use super::sources::{self, ContextSource, NamedArgument};
use super::values;
use crate::cli::progress;
use crate::executor::{Network, Resource};
use crate::layer::Compression;
use crate::oci::Platform;

/// Build an image from a Dockerfile
///
/// Builds an image from a Dockerfile and a context: a directory, a tar archive on stdin or behind
/// a URL, or a git repository (https://host/x.git#reference:directory).
///
/// Every step gives an intermediate image, which the next build takes from the cache as long as
/// the step, its parent and what it copies are the same. A failed RUN's exit status becomes the
/// command's own, and nothing of the failed step stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore build -t app .
  rstore build -f docker/Dockerfile --target test --build-arg VERSION=1.2 .
  tar c . | rstore build -t app -
  rstore build --build-context lib=../lib https://example.com/app.git#main")]
pub struct BuildArgs {
    /// What COPY and ADD copy from: a directory, - for stdin, a URL or a git repository
    #[arg(value_name = "CONTEXT", value_parser = clap::builder::TypedValueParser::try_map(clap::builder::OsStringValueParser::new(), sources::context))]
    pub context: ContextSource,
    /// The Dockerfile, in a context from elsewhere its path there; - reads it from stdin [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Another tree or image, for FROM, --from and mounts, in place of what has that name
    #[arg(long = "build-context", value_name = "NAME=DIR|URL|docker-image://REF|oci-layout://DIR", value_parser = sources::named_context)]
    pub named_contexts: Vec<NamedArgument>,
    /// A name for the image; may be given many times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]", value_parser = values::tag)]
    pub tags: Vec<String>,
    /// The stage to build, by name or number [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// A value for an ARG; without =VALUE it is taken from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]", value_parser = values::build_arg)]
    pub build_args: Vec<(String, Option<String>)>,
    /// A label for the image
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = values::label)]
    pub labels: Vec<(String, String)>,
    /// The platform to build for [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    pub platform: Option<Platform>,
    /// Run every step, whatever the cache has
    #[arg(long)]
    pub no_cache: bool,
    /// The network that RUN sees
    #[arg(long, value_name = "MODE", default_value = "host")]
    pub network: NetworkMode,
    /// How layers are compressed
    #[arg(long, value_name = "zstd|gzip|none[:LEVEL]", default_value = "gzip")]
    pub compression: Compression,
    /// How many steps may run at the same time [default: one a processor]
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// Remove a step's container; =false keeps that of a failed step
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub rm: bool,
    /// Remove a step's container even where it failed, --rm=false notwithstanding
    #[arg(long)]
    pub force_rm: bool,
    /// Write the image's ID to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Print nothing but the image's ID
    #[arg(short, long)]
    pub quiet: bool,
    /// How the build is shown
    #[arg(
        long,
        value_name = "KIND",
        env = "RSTORE_PROGRESS",
        hide_env_values = true
    )]
    pub progress: Option<progress::Kind>,
    /// The time, in seconds since the epoch, that the image and its files say they were made at
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SOURCE_DATE_EPOCH",
        hide_env_values = true
    )]
    pub timestamp: Option<i64>,
    /// A line for /etc/hosts during RUN
    #[arg(long = "add-host", value_name = "NAME:ADDRESS", value_parser = values::host)]
    pub hosts: Vec<(String, IpAddr)>,
    /// The size of /dev/shm during RUN
    #[arg(long, value_name = "SIZE", default_value = "64m", value_parser = values::memory)]
    pub shm_size: u64,
    /// A resource limit during RUN
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", value_parser = values::ulimit)]
    pub ulimits: Vec<(Resource, u64, u64)>,
}

/// Which network RUN sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetworkMode {
    /// The machine's own
    Host,
    /// None but the loopback device
    None,
}

impl From<NetworkMode> for Network {
    fn from(mode: NetworkMode) -> Network {
        match mode {
            NetworkMode::Host => Network::Host,
            NetworkMode::None => Network::None,
        }
    }
}

impl BuildArgs {
    /// The build arguments with their values; those that neither the command line nor the
    /// environment gives one are left out, as docker does.
    pub fn build_arguments(&self) -> Vec<(String, String)> {
        let value = |(name, value): &(String, Option<String>)| {
            let value = value.clone().or_else(|| std::env::var(name).ok())?;
            Some((name.clone(), value))
        };
        self.build_args.iter().filter_map(value).collect()
    }

    /// How many steps may run at the same time.
    pub fn jobs(&self) -> NonZeroUsize {
        self.jobs
            .or_else(|| std::thread::available_parallelism().ok())
            .unwrap_or(NonZeroUsize::MIN)
    }

    /// Whether the container of a failed step stays.
    pub fn keeps_failed_container(&self) -> bool {
        !self.rm && !self.force_rm
    }
}

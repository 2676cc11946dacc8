//! `rstore build`'s arguments.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ValueEnum;

use super::cache::CacheArgs;
use super::output::{Annotation, Output};
use super::registry::RegistryArgs;
use super::secrets::{self, AgentSource, SecretSource};
use super::sources::{self, ContextSource, NamedArgument};
use super::values;
use crate::build::{Entitlement, PullPolicy};
use crate::cli::progress;
use crate::executor::{Network, Resource};
use crate::layer::Compression;

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
  rstore build --build-context lib=../lib https://example.com/app.git#main
  rstore build --check .
  rstore build --target binaries -o out .
  rstore build -t app -o type=docker,dest=app.tar .
  rstore build -t app --platform linux/amd64,linux/arm64 .
  rstore build -t registry.example/team/app:1 --push .
  rstore build --cache-from registry.example/cache/app:main --cache-to type=registry,ref=registry.example/cache/app:main,mode=max .
  rstore build --cache-from type=local,src=/ci/app --cache-to type=local,dest=/ci/app,mode=max .")]
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
    #[command(flatten)]
    pub cache: CacheArgs,
    /// The network that RUN sees
    #[arg(long, value_name = "MODE", default_value = "host")]
    pub network: NetworkMode,
    /// How layers are compressed [default: gzip]
    #[arg(long, value_name = "zstd|gzip|none[:LEVEL]")]
    pub compression: Option<Compression>,
    /// Also write the result: type=local|tar|oci|docker,dest=PATH, type=registry pushes it; DIR is type=local, - is type=tar to stdout
    ///
    /// May be given many times. The store has the image whatever is written: under its --tag
    /// names, and without any as cache that the next prune may take.
    /// type=local puts the root file system into a directory, type=tar into an archive; type=oci
    /// writes an OCI layout as an archive (tar=false: as a directory), type=docker what docker
    /// load reads. The latter two take name=NAME, compression=, annotation.KEY=VALUE.
    /// type=registry, or type=image,push=true, pushes the image to its --tag names, or to name=NAME.
    #[arg(short, long = "output", value_name = "SPEC")]
    pub outputs: Vec<Output>,
    /// Push the result to its --tag names: the same as --output type=registry
    #[arg(long)]
    pub push: bool,
    /// Make one layer of all that the build adds to its base
    #[arg(long)]
    pub squash: bool,
    /// An annotation of the manifest; manifest-descriptor:KEY=VALUE is one in the index of an output
    #[arg(long = "annotation", value_name = "[PLACE:]KEY=VALUE")]
    pub annotations: Vec<Annotation>,
    /// Write what is known of the result to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// When base images are pulled: always (the same as --pull alone), newer, missing, never [default: missing]
    ///
    /// `always` fails where the registry cannot be asked; `newer` then goes on with what the store
    /// has. IDs and digests are never asked for again.
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always", value_parser = values::pull)]
    pub pull: Option<PullPolicy>,
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
    /// Check the Dockerfile instead of building it; exits 1 if something is found
    #[arg(long)]
    pub check: bool,
    /// What to do: build, check, or check,format=json
    #[arg(long, value_name = "METHOD", conflicts_with = "check", value_parser = values::call)]
    pub call: Option<Call>,
    /// How the build is shown
    ///
    /// BUILDKIT_PROGRESS is understood too, and comes last. Everything goes to stderr, but for the
    /// image's ID of `quiet`.
    ///
    /// `rawjson` is for programs: one JSON object a line, each with `schema` (1), `time` (RFC 3339),
    /// and `event`: `planned` (`steps`, each with `number`, `stage`, `in_stage`, `stage_steps`,
    /// `text`, `line`, `column`, `trigger`; `skipped_stages`), `warning` (`message`), `pulling`
    /// (`reference`, `repository`), `layer` (`digest`, `size`, `state`), `layer_moved` (`digest`,
    /// `size`, `done`), `pulled` (`name`, `digest`, `newer`), `cache_import` and `cache_export`
    /// (`cache`), `pushing` (`repository`), `step_started`, `step_cached`, `step_waiting`,
    /// `container_started` and `container_removed` (`container`), `output` (`stream`, `line`; and
    /// `bytes`, in hexadecimal, where the line is not UTF-8), `step_finished` (`seconds`, `image`),
    /// `step_failed` (`seconds`, `message`, `status`), `committed` (`image`), `tagged` (`name`). What
    /// is about one step has its number as `step`. What is not known is to be passed over: events
    /// and keys are added under the same schema. The error that ends a build follows on a line that
    /// begins with `rstore: error: `.
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
    /// A secret for RUN --mount=type=secret: a file, or a variable of the environment
    #[arg(long = "secret", value_name = "id=ID[,src=FILE|env=VARIABLE]", value_parser = secrets::secret)]
    pub secrets: Vec<SecretSource>,
    /// An SSH agent for RUN --mount=type=ssh [default of SOCKET: $SSH_AUTH_SOCK]
    #[arg(long = "ssh", value_name = "default|ID[=SOCKET]", value_parser = secrets::agent)]
    pub ssh: Vec<AgentSource>,
    /// What the file may ask for although it is not safe: security.insecure, network.host
    #[arg(long = "allow", value_name = "ENTITLEMENT", value_delimiter = ',', value_parser = secrets::entitlement)]
    pub allow: Vec<Entitlement>,
    /// A resource limit during RUN
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", value_parser = values::ulimit)]
    pub ulimits: Vec<(Resource, u64, u64)>,
    #[command(flatten)]
    pub registry: RegistryArgs,
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

/// What is to be done with the Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Build it.
    Build,
    /// Check it, and tell people.
    Check,
    /// Check it, and tell programs.
    CheckJson,
}

impl BuildArgs {
    /// What is to be done.
    pub fn call(&self) -> Call {
        match self.call {
            _ if self.check => Call::Check,
            call => call.unwrap_or(Call::Build),
        }
    }

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

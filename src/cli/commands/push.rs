//! `rstore push`: an image to a registry.

use std::io::Write;
use std::num::NonZeroUsize;

use crate::cli::args::referrers::ReferrersArgs;
use crate::cli::args::registry::RegistryArgs;
use crate::cli::progress::transfer::Transfer;
use crate::cli::{Context, Result, exit, registries};
use crate::executor::Cancel;
use crate::layer::Compression;
use crate::oci::{Digest, Reference};
use crate::registry::push::{self, Pushed};
use crate::registry::{Client, Stop, recompress};
use crate::store::{Lease, Store};

/// Push an image to a registry
///
/// Brings an image, or an index with all of its images, to a registry: byte for byte, with the same
/// digest. Layers that the registry has are not sent; those that it has in another repository it
/// takes from there.
///
/// With --compression, layers in another format are compressed anew. The image's ID stays, but its
/// manifest is another one, with another digest, which is told. Here it has no name, and stays until
/// the next prune, so that pushing it again compresses nothing.
///
/// Progress goes to stderr, the tag and its digest to stdout.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore push registry.example/team/app:1.2
  rstore push app registry.example/team/app:1.2
  rstore push --compression zstd:9 registry.example/team/app:1.2
  rstore push --referrers registry.example/team/app:1.2
  rstore push --all-tags registry.example/team/app")]
pub struct Args {
    /// The image
    #[arg(value_name = "REF")]
    pub image: String,
    /// Its name in the registry [default: the image's own]
    #[arg(value_name = "NAME[:TAG]", value_parser = registries::reference)]
    pub destination: Option<Reference>,
    /// All tags that the store has of the repository REF
    #[arg(short, long)]
    pub all_tags: bool,
    /// Layers in another format are pushed in this one: none, gzip[:1-9], zstd[:1-22]
    #[arg(long, value_name = "FORMAT[:LEVEL]", value_parser = compression)]
    pub compression: Option<Compression>,
    /// Print only the name of what was pushed
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub referrers: ReferrersArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

fn compression(text: &str) -> Result<Compression, String> {
    text.parse::<Compression>()
        .map_err(|error| error.to_string())
}

/// An image that is to be pushed, and where to.
struct Task {
    digest: Digest,
    /// What it is called here, if by a name.
    name: Option<String>,
    to: Reference,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let client = registries::client(&arguments.registry, &context.config.registries);
    let cancel = registries::cancellation()?;
    let store = context.open()?;
    let tasks = match arguments.all_tags {
        true => all_tags(&store, arguments)?,
        false => vec![one(&store, arguments)?],
    };
    let display = Transfer::new(&context.terminal, context.progress && !arguments.quiet);
    for task in &tasks {
        let lease = store.lease("push", &task.to.familiar())?;
        let pushed = push_one(arguments, context, &client, &lease, task, &display, &cancel);
        let ended = lease.end();
        let pushed = pushed?;
        ended?;
        match arguments.quiet {
            true => writeln!(context.out, "{}", task.to.full())?,
            false => {
                let tag = task.to.tag.as_deref().unwrap_or_default();
                let (digest, size) = (pushed.digest, pushed.size);
                writeln!(context.out, "{tag}: digest: {digest} size: {size}")?;
            }
        }
    }
    Ok(())
}

fn push_one(
    arguments: &Args,
    context: &Context,
    client: &Client,
    lease: &Lease,
    task: &Task,
    display: &Transfer,
    cancel: &Cancel,
) -> Result<Pushed> {
    let mut digest = task.digest;
    if let Some(compression) = arguments.compression {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let stop = Stop::new(cancel);
        let made = recompress::recompressed(lease, &digest, compression, threads, &stop);
        let made = made.map_err(registries::told)?;
        if made.digest != digest && !arguments.quiet {
            let (count, name) = (made.layers, task.to.familiar());
            let layers = if count == 1 { "layer" } else { "layers" };
            context.tell(&format!(
                "notice: {name} is pushed with {count} {layers} compressed by {compression}: as {}, which is {digest} here",
                made.digest
            ));
        }
        if made.digest != digest && arguments.referrers.kinds().is_some() {
            return Err(exit::usage_error(format!(
                "--referrers: what is about {digest} is not about {}, which --compression makes of it: push without one of the two",
                made.digest
            )));
        }
        digest = made.digest;
    }
    let about = match arguments.referrers.kinds() {
        Some(kinds) => lease.store().about(&digest, task.name.as_deref(), &kinds)?,
        None => Vec::new(),
    };
    let pushed = push::push(client, lease, &digest, &task.to, display, cancel);
    let pushed = pushed.and_then(|pushed| {
        push::push_about(client, lease, &about, &task.to, display, cancel)?;
        Ok(pushed)
    });
    pushed.map_err(registries::told)
}

/// The image that was named.
fn one(store: &Store, arguments: &Args) -> Result<Task> {
    let (digest, name) = store.find_named(&arguments.image)?;
    let to = match (&arguments.destination, &name) {
        (Some(destination), _) => destination.clone(),
        (None, Some(name)) => name.parse::<Reference>()?,
        (None, None) => {
            return Err(exit::usage_error(format!(
                "{} has no name here: say what it is to be called in the registry, as in `rstore push {} registry.example/app:1`",
                arguments.image, arguments.image
            )));
        }
    };
    Ok(Task { digest, name, to })
}

/// All images of a repository.
fn all_tags(store: &Store, arguments: &Args) -> Result<Vec<Task>> {
    let given = registries::reference(&arguments.image).map_err(exit::usage_error)?;
    let has_tag = |name: &Reference| {
        name.digest.is_some() || name.tag.as_deref().is_some_and(|tag| tag != "latest")
    };
    if has_tag(&given) || arguments.destination.as_ref().is_some_and(has_tag) {
        return Err(exit::usage_error(
            "--all-tags takes names without tag and digest",
        ));
    }
    let named = store.catalog().read(|tx| {
        let mut named = Vec::new();
        for entry in tx.index_entries()? {
            let Some(name) = entry.name else { continue };
            let Ok(parsed) = name.parse::<Reference>() else {
                continue;
            };
            if (&parsed.domain, &parsed.path) == (&given.domain, &given.path)
                && let Some(row) = tx.blob_by_id(entry.blob)?
            {
                named.push((name, parsed.tag, row.digest));
            }
        }
        Ok(named)
    })?;
    if named.is_empty() {
        return Err(anyhow::anyhow!(
            "there is no image of {}; `rstore images` lists those that there are",
            given.familiar_repository()
        ));
    }
    let to = arguments.destination.as_ref().unwrap_or(&given);
    let tasks = named.into_iter().map(|(name, tag, digest)| Task {
        digest,
        name: Some(name),
        to: Reference { tag, ..to.clone() },
    });
    Ok(tasks.collect())
}

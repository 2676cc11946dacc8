//! `rstore push`: an image to a registry.

use std::io::Write;

use crate::cli::args::referrers::ReferrersArgs;
use crate::cli::args::registry::RegistryArgs;
use crate::cli::progress::transfer::Transfer;
use crate::cli::{Context, Result, exit, registries};
use crate::oci::Reference;
use crate::registry::push;

/// Push an image to a registry
///
/// Brings an image, or an index with all of its images, to a registry: byte for byte, with the same
/// digest. Layers that the registry has are not sent; those that it has in another repository it
/// takes from there.
///
/// Progress goes to stderr, the tag and its digest to stdout.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore push registry.example/team/app:1.2
  rstore push app registry.example/team/app:1.2
  rstore push --referrers registry.example/team/app:1.2")]
pub struct Args {
    /// The image
    #[arg(value_name = "REF")]
    pub image: String,
    /// Its name in the registry [default: the image's own]
    #[arg(value_name = "NAME[:TAG]", value_parser = registries::reference)]
    pub destination: Option<Reference>,
    /// Print only the name of what was pushed
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub referrers: ReferrersArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let client = registries::client(&arguments.registry);
    let cancel = registries::cancellation()?;
    let store = context.open()?;
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
    let display = Transfer::new(&context.terminal, context.progress && !arguments.quiet);
    let lease = store.lease("push", &to.familiar())?;
    let about = match arguments.referrers.kinds() {
        Some(kinds) => store.about(&digest, name.as_deref(), &kinds)?,
        None => Vec::new(),
    };
    let pushed = push::push(&client, &lease, &digest, &to, &display, &cancel);
    let pushed = pushed.and_then(|pushed| {
        push::push_about(&client, &lease, &about, &to, &display, &cancel)?;
        Ok(pushed)
    });
    let ended = lease.end();
    let pushed = pushed.map_err(registries::told)?;
    ended?;
    match arguments.quiet {
        true => writeln!(context.out, "{}", to.full())?,
        false => {
            let tag = to.tag.as_deref().unwrap_or_default();
            let (digest, size) = (pushed.digest, pushed.size);
            writeln!(context.out, "{tag}: digest: {digest} size: {size}")?;
        }
    }
    Ok(())
}

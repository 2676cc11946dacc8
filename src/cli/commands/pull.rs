//! `rstore pull`: images from registries.

use std::io::Write;

use crate::cli::args::referrers::ReferrersArgs;
use crate::cli::args::registry::RegistryArgs;
use crate::cli::args::values;
use crate::cli::context::native_platform;
use crate::cli::progress::transfer::Transfer;
use crate::cli::{Context, Result, exit, registries};
use crate::gc;
use crate::oci::{Platform, Reference};
use crate::registry::pull::{self, Wanted};

/// Pull images from registries
///
/// Fetches images that the store does not have, and gives them their names. What the registry has
/// is verified as it arrives; layers that the store has are not fetched again; what is interrupted
/// goes on where it stopped. Of an image for several platforms the one for this machine is taken.
///
/// Progress goes to stderr, the name of what was pulled to stdout.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore pull alpine
  rstore pull --platform linux/arm64 registry.example/team/app:1.2
  rstore pull --all-platforms debian:12
  rstore pull --referrers registry.example/team/app:1.2
  rstore pull --referrers=application/spdx+json registry.example/team/app:1.2")]
pub struct Args {
    /// What to pull; without a tag, latest
    #[arg(value_name = "NAME[:TAG|@DIGEST]", required = true, value_parser = registries::reference)]
    pub names: Vec<Reference>,
    /// Which image of several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    pub platform: Option<Platform>,
    /// The images for all platforms
    #[arg(long, conflicts_with = "platform")]
    pub all_platforms: bool,
    /// All tags of the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Print only the name of what was pulled
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub referrers: ReferrersArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

impl Args {
    fn wanted(&self) -> Wanted {
        match self.all_platforms {
            true => Wanted::All,
            false => Wanted::One {
                platform: self.platform.clone().unwrap_or_else(native_platform),
                only: self.platform.is_some(),
            },
        }
    }
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let client = registries::client(&arguments.registry, &context.config.registries);
    let cancel = registries::cancellation()?;
    let names = match arguments.all_tags {
        false => arguments.names.clone(),
        true => {
            let mut names = Vec::new();
            for name in &arguments.names {
                if name.digest.is_some() || name.tag.as_deref().is_some_and(|tag| tag != "latest") {
                    return Err(exit::usage_error(
                        "--all-tags takes a name without tag and digest",
                    ));
                }
                for tag in pull::tags(&client, name, &cancel).map_err(registries::told)? {
                    let tag = Some(tag);
                    names.push(Reference {
                        tag,
                        ..name.clone()
                    });
                }
            }
            names
        }
    };
    let store = context.open_or_create()?;
    gc::finish(store.layout(), store.catalog(), context.now)?;
    let display = Transfer::new(&context.terminal, context.progress && !arguments.quiet);
    let wanted = arguments.wanted();
    for name in &names {
        let lease = store.lease("pull", &name.familiar())?;
        let pulled = match arguments.referrers.kinds() {
            None => pull::pull(&client, &lease, name, &wanted, &display, &cancel).map(drop),
            Some(kinds) => {
                pull::fetch(&client, &lease, name, &wanted, &display, &cancel).and_then(|pulled| {
                    let about = pull::pull_about(
                        &client, &lease, name, &pulled, &kinds, &display, &cancel,
                    )?;
                    // Before the image has its name: who finds it finds what is about it.
                    lease.keep_about(&about, Some(name))?;
                    pull::name(&lease, name, &pulled, &display)
                })
            }
        };
        let ended = lease.end();
        pulled.map_err(registries::told)?;
        ended?;
        writeln!(context.out, "{}", name.full())?;
    }
    Ok(())
}

//! `rstore pull`: images from registries.

use std::fs;
use std::io::Write;

use crate::cli::args::referrers::ReferrersArgs;
use crate::cli::args::registry::RegistryArgs;
use crate::cli::args::values;
use crate::cli::context::native_platform;
use crate::cli::progress::transfer::Transfer;
use crate::cli::{Context, Result, exit, registries};
use crate::executor::Cancel;
use crate::gc;
use crate::oci::{Platform, Reference};
use crate::registry::Client;
use crate::registry::pull::{self, Ahead, Search, Wanted};

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
    let wanted = arguments.wanted();
    let mut ahead = ask_ahead(&client, &names, &wanted, context, &cancel);
    let store = context.open_or_create()?;
    gc::finish(store.layout(), store.catalog(), context.now)?;
    let display = Transfer::new(&context.terminal, context.progress && !arguments.quiet);
    for name in &names {
        let ahead = ahead.take();
        let search = Search::new(&client, &store, name, &wanted, ahead, &display, &cancel);
        let search = search.map_err(registries::told)?;
        let kinds = arguments.referrers.kinds();
        // New referrers may have come to an old image.
        if kinds.is_none()
            && search
                .up_to_date(&display)
                .map_err(registries::told)?
                .is_some()
        {
            writeln!(context.out, "{}", name.full())?;
            continue;
        }
        let lease = store.lease("pull", &name.familiar())?;
        let pulled = search.fetch(&lease, &display).and_then(|pulled| {
            if let Some(kinds) = kinds {
                let about =
                    pull::pull_about(&client, &lease, name, &pulled, &kinds, &display, &cancel)?;
                // Before the image has its name: who finds it finds what is about it.
                lease.keep_about(&about, Some(name))?;
            }
            pull::name(&lease, name, &pulled, &display)
        });
        let ended = lease.end();
        pulled.map_err(registries::told)?;
        ended?;
        writeln!(context.out, "{}", name.full())?;
    }
    Ok(())
}

/// Asks for the first name while the store is opened, if it stands in `index.json`: then it was
/// pulled before, most likely, and its digest is all that must be known.
fn ask_ahead(
    client: &Client,
    names: &[Reference],
    wanted: &Wanted,
    context: &Context,
    cancel: &Cancel,
) -> Option<Ahead> {
    let name = names
        .first()
        .filter(|_| matches!(wanted, Wanted::One { .. }))?;
    // Only a guess, and so the text is good enough.
    let index = fs::read_to_string(context.root.join("index.json")).ok()?;
    let known = index.contains(&name.familiar());
    known.then(|| Ahead::ask(client, name, cancel))?
}

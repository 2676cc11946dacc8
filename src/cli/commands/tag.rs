//! `rstore tag`: another name for an image.

use crate::cli::args::values;
use crate::cli::{Context, Result};

/// Give an image another name
///
/// Gives an image another name; an image that had that name keeps its others.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore tag app registry.example/team/app:1.2
  rstore tag 77b1c2d3e4f5 app:old")]
pub struct Args {
    /// The image
    #[arg(value_name = "SRC")]
    pub source: String,
    /// Its new names
    #[arg(value_name = "NAME[:TAG]", required = true, value_parser = values::tag)]
    pub names: Vec<String>,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let store = context.open_to_write()?;
    let digest = store.find(&arguments.source)?;
    let lease = store.lease("tag", &arguments.names.join(" "))?;
    lease.tag(&arguments.names, &digest)?;
    Ok(lease.end()?)
}

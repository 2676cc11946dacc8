//! `rstore export`: an image's files into a tar archive.

use std::path::{Path, PathBuf};

use crate::archive::rootfs;
use crate::cli::args::values;
use crate::cli::context::native_platform;
use crate::cli::{Context, Result, output};
use crate::oci::Platform;

/// Write the root file system of an image to a tar archive
///
/// Writes what the layers of an image come to, whiteouts applied, as one tar archive with owners,
/// hard links and extended attributes. The same image gives the same bytes. It needs neither root
/// nor a mount, and a file appears whole or not at all.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore export app -o rootfs.tar
  rstore export app | tar -t")]
pub struct Args {
    /// The image
    #[arg(value_name = "REF")]
    pub reference: String,
    /// The file; - is stdout [default: stdout]
    #[arg(short, long, value_name = "FILE|-")]
    pub output: Option<PathBuf>,
    /// Which platform of an image that has several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    pub platform: Option<Platform>,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    if output::is_stdout(arguments.output.as_deref()) {
        output::refuse_terminal(context)?;
    }
    let path = arguments.output.as_deref().unwrap_or(Path::new("-"));
    let platform = arguments.platform.clone().unwrap_or_else(native_platform);
    let store = context.open()?;
    let lease = store.lease("export", &arguments.reference)?;
    let image = lease.use_image(&arguments.reference, &platform)?;
    rootfs::write_tar(&store, &[image], output::target(path, output::NEVER)?)?;
    Ok(lease.end()?)
}

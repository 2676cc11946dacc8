//! `rstore cat`: a file of an image, to stdout.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::image_files::{image, told};
use crate::cli::args::values;
use crate::cli::output::NEVER;
use crate::cli::{Context, Result};
use crate::layer::Kind;
use crate::layer::files::find::Absolute;
use crate::layer::files::locate;
use crate::oci::Platform;
use crate::store::Store;

/// Write files of an image to stdout
///
/// Writes files of an image to stdout, without unpacking the image. Symbolic links are followed
/// inside of the image, as a process would that has it for its root, and never out of it.
///
/// Each layer that is read is verified against its digest and its diff ID, the one with the content
/// when all of it was read: what was written is what the image has only if the exit code is 0.
/// Layers below those that settle what the path means are not read.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore cat app /etc/os-release
  rstore cat app usr/share/dict/words | head")]
pub struct Args {
    /// The image
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Paths in the image
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<OsString>,
    /// Which platform of an image that has several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    pub platform: Option<Platform>,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let store = context.open()?;
    for path in &arguments.paths {
        write(arguments, path.as_bytes(), &store, context)?;
    }
    Ok(())
}

fn write(arguments: &Args, path: &[u8], store: &Store, context: &mut Context) -> Result {
    let image = image(store, &arguments.reference, arguments.platform.as_ref())?;
    let layers = store.layers(&image, NEVER);
    let located = locate(&layers, path).map_err(told)?;
    let place = located.place.clone().map_err(|error| {
        anyhow::Error::new(error).context(format!("image {:?}", arguments.reference))
    })?;
    let what = match &located.files.entry(place.file).kind {
        Kind::File { .. } | Kind::Hardlink { .. } => {
            let written = located.write_content(&layers, &place, &mut context.out);
            return written.map_err(told);
        }
        Kind::Directory => "is a directory; `rstore ls` lists it",
        Kind::Symlink { .. } => "is a symbolic link",
        Kind::CharDevice(_) | Kind::BlockDevice(_) => "is a device, and has no content",
        Kind::Fifo => "is a named pipe, and has no content",
    };
    anyhow::bail!("{} {what}", Absolute(path))
}

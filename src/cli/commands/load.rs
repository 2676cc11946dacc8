//! `rstore load`: images out of archives and layouts.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::import;
use crate::archive::{self, LoadOptions, Loaded};
use crate::cli::args::values;
use crate::cli::{Context, Result};
use crate::fsutil::IoContext;
use crate::layer::Compression;

/// Take images in from an archive or a layout
///
/// Takes in images from a docker-archive (docker save), an oci-archive or an OCI layout directory,
/// plain or compressed. Nothing is taken in of an archive that is damaged.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore load -i app.tar
  docker save app | rstore load
  skopeo copy docker://alpine oci-archive:alpine.tar && rstore load -i alpine.tar --name alpine")]
pub struct Args {
    /// The archive or the directory [default: stdin]
    #[arg(short, long, value_name = "FILE|DIR")]
    pub input: Option<PathBuf>,
    /// A name for an image that has none in the archive
    #[arg(long, value_name = "NAME[:TAG]", value_parser = values::tag)]
    pub name: Option<String>,
    /// How the layers of a docker-archive are compressed; those of an OCI layout stay as they are
    #[arg(long, value_name = "zstd|gzip|none[:LEVEL]", default_value = "gzip")]
    pub compression: Compression,
    /// Print IDs only
    #[arg(short, long)]
    pub quiet: bool,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let input = arguments
        .input
        .as_deref()
        .filter(|path| *path != Path::new("-"));
    let shown = input.map_or_else(|| "stdin".to_owned(), |path| path.display().to_string());
    let stdin = match input {
        None => Some(import::stdin(context)?),
        // Before the store is made: an archive that isn't there leaves none behind.
        Some(path) => {
            std::fs::metadata(path).at("open", path)?;
            None
        }
    };
    let options = LoadOptions {
        name: arguments.name.clone(),
        compression: arguments.compression,
    };
    let store = context.open_or_create()?;
    let lease = store.lease("load", &shown)?;
    let loaded = match (input, stdin) {
        (Some(path), _) => archive::load_path(&lease, path, &options),
        (None, Some(stdin)) => archive::load(&lease, stdin, &options),
        (None, None) => Ok(Vec::new()),
    }
    .with_context(|| format!("load {shown}"))?;
    lease.end_and_fold()?;
    for one in &loaded {
        write_loaded(one, arguments.quiet, context)?;
    }
    Ok(())
}

fn write_loaded(loaded: &Loaded, quiet: bool, context: &mut Context) -> Result {
    let images: Vec<_> = loaded.images.iter().filter(|i| i.is_runnable()).collect();
    let ids: Vec<String> = if images.is_empty() {
        vec![loaded.digest.to_string()]
    } else {
        images.iter().map(|image| image.id.to_string()).collect()
    };
    if quiet {
        for id in ids {
            writeln!(context.out, "{id}")?;
        }
        return Ok(());
    }
    // docker's words.
    for name in &loaded.names {
        writeln!(context.out, "Loaded image: {name}")?;
    }
    if loaded.names.is_empty() {
        for id in ids {
            writeln!(context.out, "Loaded image ID: {id}")?;
        }
    }
    if !loaded.absent.is_empty() {
        context.flush()?;
        context.tell(&format!(
            "note: the archive does not have the images for {}",
            loaded.absent.join(", ")
        ));
    }
    Ok(())
}

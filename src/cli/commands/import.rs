//! `rstore import`: a root file system becomes an image.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use anyhow::Context as _;

use crate::archive::{self, ImportOptions};
use crate::cli::args::values;
use crate::cli::context::native_platform;
use crate::cli::render::time;
use crate::cli::{Context, Result, exit};
use crate::fsutil::IoContext;
use crate::layer::Compression;
use crate::oci::Platform;
use crate::oci::config::RunConfig;

/// Make an image of a root file system
///
/// Makes an image of one layer of a root file system: a tar archive, plain or compressed by gzip,
/// bzip2, xz or zstd. Prints the image's ID.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore import rootfs.tar.zst debian:12
  debootstrap --variant=minbase bookworm root && tar -C root -c . | rstore import - debian:12")]
pub struct Args {
    /// The archive; - reads it from stdin
    #[arg(value_name = "FILE|-")]
    pub source: PathBuf,
    /// The image's name
    #[arg(value_name = "NAME[:TAG]", value_parser = values::tag)]
    pub name: String,
    /// How the layer is compressed
    #[arg(long, value_name = "zstd|gzip|none[:LEVEL]", default_value = "gzip")]
    pub compression: Compression,
    /// What the image runs on [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    pub platform: Option<Platform>,
    /// A comment for the image's history
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// The time, in seconds since the epoch, that the image says it was made at
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SOURCE_DATE_EPOCH",
        hide_env_values = true
    )]
    pub timestamp: Option<i64>,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    // Before the store is made: an archive that isn't there leaves none behind.
    let shown = arguments.source.display().to_string();
    let source: Box<dyn Read + Send> = if shown == "-" {
        stdin(context)?
    } else {
        Box::new(File::open(&arguments.source).at("open", &arguments.source)?)
    };
    let made = arguments
        .timestamp
        .map_or(context.now, |seconds| seconds.saturating_mul(1000));
    let options = ImportOptions {
        source: shown.clone(),
        names: vec![arguments.name.clone()],
        compression: arguments.compression,
        platform: arguments.platform.clone().unwrap_or_else(native_platform),
        run: RunConfig::default(),
        message: arguments.message.clone(),
        created: time::rfc3339(made),
    };
    let store = context.open_or_create()?;
    let lease = store.lease("import", &arguments.name)?;
    let image =
        archive::import(&lease, source, &options).with_context(|| format!("import {shown}"))?;
    lease.end_and_fold()?;
    writeln!(context.out, "{}", image.id())?;
    Ok(())
}

/// Standard input, unless somebody sits at it.
pub fn stdin(context: &Context) -> Result<Box<dyn Read + Send>> {
    if context.terminal.stdin {
        return Err(exit::usage_error(
            "an archive is read from stdin, and that is a terminal: name a file, or pipe one in",
        ));
    }
    Ok(Box::new(io::stdin()))
}

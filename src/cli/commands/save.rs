//! `rstore save`: images into an archive or a layout.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::archive::{Package, Saved};
use crate::cli::args::referrers::ReferrersArgs;
use crate::cli::args::values;
use crate::cli::context::native_platform;
use crate::cli::{Context, Result, exit, output};
use crate::oci::Platform;

/// Write images to an archive or a layout
///
/// Writes images, with all that they need, to an archive that docker, podman, skopeo and rstore
/// load, or to an OCI layout directory. What is given by name keeps that name in the archive; what
/// is given by ID or digest has none there. A file appears whole or not at all.
///
/// docker-archive holds one platform of an image that has several; layers that not every docker
/// can decompress (zstd) are uncompressed in it, with the same image ID.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore save -o app.tar app:1.2 app:latest
  rstore save app | ssh host docker load
  rstore save --format oci-archive --referrers -o app.tar app:1.2
  rstore save --format oci -o layout app && skopeo copy oci:layout:app:latest docker://host/app")]
pub struct Args {
    /// The images
    #[arg(value_name = "REF", required = true)]
    pub references: Vec<String>,
    /// The file, or the directory of --format oci; - is stdout [default: stdout]
    #[arg(short, long, value_name = "FILE|-|DIR")]
    pub output: Option<PathBuf>,
    /// What is written
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive")]
    pub format: Format,
    /// Which platform of an image docker-archive gets [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    pub platform: Option<Platform>,
    #[command(flatten)]
    pub referrers: ReferrersArgs,
}

/// What images are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A tar archive as docker save writes it
    DockerArchive,
    /// A tar archive of an OCI image layout
    OciArchive,
    /// An OCI image layout directory, a new one or one that gets the images besides its own
    Oci,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let to_stdout = output::is_stdout(arguments.output.as_deref());
    if arguments.format == Format::Oci && to_stdout {
        return Err(exit::usage_error(
            "--format oci writes a directory: name it with -o; oci-archive goes to stdout",
        ));
    }
    if arguments.format != Format::DockerArchive && arguments.platform.is_some() {
        return Err(exit::usage_error(
            "--platform is for docker-archive: the other formats hold all platforms of an image",
        ));
    }
    let kinds = arguments.referrers.kinds();
    if arguments.format == Format::DockerArchive && kinds.is_some() {
        return Err(exit::usage_error(
            "a docker-archive has no place for what is about an image: --format oci-archive has",
        ));
    }
    if to_stdout {
        output::refuse_terminal(context)?;
    }
    let store = context.open()?;
    let lease = store.lease("save", &arguments.references.join(" "))?;
    let mut saved: Vec<Saved> = Vec::new();
    for reference in &arguments.references {
        let (digest, name) = store.find_named(reference)?;
        lease.hold(&digest)?;
        let known = saved.iter().position(|one| one.digest == digest);
        let at = known.unwrap_or_else(|| {
            saved.push(Saved {
                digest,
                names: Vec::new(),
                annotations: Default::default(),
            });
            saved.len() - 1
        });
        if let Some(name) = name.filter(|name| !saved[at].names.contains(name)) {
            saved[at].names.push(name);
        }
    }
    if let Some(kinds) = &kinds {
        for one in saved.clone() {
            let name = one.names.first().map(String::as_str);
            for about in store.about(&one.digest, name, kinds)? {
                lease.hold(&about.digest)?;
                saved.push(Saved::about(&about, name));
            }
        }
    }
    let package = match arguments.format {
        Format::DockerArchive => {
            let platform = arguments.platform.clone().unwrap_or_else(native_platform);
            Package::docker(&store, &saved, &platform)?
        }
        Format::OciArchive | Format::Oci => Package::oci(&store, &saved)?,
    };
    match (&arguments.output, arguments.format) {
        (Some(directory), Format::Oci) => {
            package.write_directory(&store, directory, output::NEVER)?;
        }
        (path, _) => {
            let path = path.as_deref().unwrap_or(Path::new("-"));
            package.write_tar(&store, output::target(path, output::NEVER)?)?;
        }
    }
    Ok(lease.end()?)
}

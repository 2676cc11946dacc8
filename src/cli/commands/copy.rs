//! `rstore copy`: an image from one place to another.
//!
//! Whatever the places are, the image goes through the store, where each byte is verified: so a
//! copy that is interrupted goes on where it stopped, and what the store has is not fetched.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;

use crate::archive::{self, Package, Saved};
use crate::cli::args::referrers::ReferrersArgs;
use crate::cli::args::registry::RegistryArgs;
use crate::cli::args::values;
use crate::cli::context::native_platform;
use crate::cli::progress::transfer::Transfer;
use crate::cli::{Context, Result, exit, output, registries};
use crate::executor::Cancel;
use crate::oci::{Digest, Platform, Reference};
use crate::registry::pull::{Pulled, Wanted};
use crate::registry::{Client, pull, push};
use crate::store::referrers::{About, Kinds};
use crate::store::{Lease, Store};

/// Copy an image between store, registries, archives and layouts
///
/// A place is one of
///   store:[NAME]                  the store
///   docker://NAME                 a registry
///   oci:DIR[:TAG|@DIGEST]         an OCI layout directory
///   oci-archive:FILE[:TAG]        an OCI layout as a tar archive
///   docker-archive:FILE[:NAME]    what docker save writes
///
/// Digests stay what they are, but in a docker-archive where not every docker could decompress the
/// layers. What passes through the store stays there, without a name, until the next prune.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
#[command(after_help = "\
Examples:
  rstore copy docker://alpine oci:layout:alpine
  rstore copy --all-platforms docker://debian docker://mirror.example/debian
  rstore copy --referrers docker://registry.example/app:1 docker://mirror.example/app:1
  rstore copy docker-archive:app.tar store:app:1.2")]
pub struct Args {
    /// From where
    #[arg(value_name = "SRC")]
    pub source: Place,
    /// To where
    #[arg(value_name = "DST")]
    pub destination: Place,
    /// Which image of several a registry or a docker-archive is asked for [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    pub platform: Option<Platform>,
    /// The images for all platforms that a registry has
    #[arg(long, conflicts_with = "platform")]
    pub all_platforms: bool,
    /// Print nothing
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub referrers: ReferrersArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Where an image is, or is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the store, perhaps with a name.
    Store(Option<String>),
    /// In a registry.
    Registry(Box<Reference>),
    /// In a layout directory.
    Layout {
        /// The directory.
        directory: PathBuf,
        /// The tag there.
        tag: Option<String>,
        /// Or the digest.
        digest: Option<Digest>,
    },
    /// In an archive.
    Archive {
        /// The file.
        file: PathBuf,
        /// Its name there.
        name: Option<String>,
        /// Whether it is docker's, not an OCI layout.
        docker: bool,
    },
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        if let Some(name) = text.strip_prefix("docker://") {
            return registries::reference(name).map(|name| Place::Registry(Box::new(name)));
        }
        let (kind, rest) = text.split_once(':').unwrap_or(("", text));
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let path = |text: &str| match text {
            "" => Err("it names no file or directory".to_owned()),
            "-" => Err(STREAMS.to_owned()),
            path => Ok(PathBuf::from(path)),
        };
        let (before, behind) = match rest.split_once(':') {
            Some((before, behind)) => (before, some(behind)),
            None => (rest, None),
        };
        match kind {
            "store" => Ok(Place::Store(some(rest))),
            "oci" => match rest.split_once('@') {
                Some((directory, digest)) if !directory.contains(':') => Ok(Place::Layout {
                    directory: path(directory)?,
                    tag: None,
                    digest: Some(digest.parse::<Digest>().map_err(|e| e.to_string())?),
                }),
                _ => Ok(Place::Layout {
                    directory: path(before)?,
                    tag: behind,
                    digest: None,
                }),
            },
            "oci-archive" | "docker-archive" => Ok(Place::Archive {
                file: path(before)?,
                name: behind,
                docker: kind == "docker-archive",
            }),
            _ => Err(no_place(text, kind, rest)),
        }
    }
}

const STREAMS: &str =
    "a copy has no streams: `rstore load` reads stdin, `rstore save` writes stdout";

/// What somebody may have meant who did not write a place.
fn no_place(text: &str, kind: &str, rest: &str) -> String {
    let places = "a place begins with store:, docker://, oci:, oci-archive: or docker-archive:";
    match kind {
        _ if text == "-" => STREAMS.to_owned(),
        "docker" => format!("{places}; did you mean docker://{rest}?"),
        "docker-daemon" => {
            format!(
                "{places}; from a daemon: `docker save {rest} | rstore load`, to one: `rstore save {rest} | docker load`"
            )
        }
        "containers-storage" => {
            format!(
                "{places}; from podman: `podman save --format oci-archive {rest} | rstore load`, to it: `rstore save {rest} | podman load`"
            )
        }
        _ if text.starts_with("https://") || text.starts_with("http://") => {
            format!("{places}; a registry is docker://HOST/NAME")
        }
        _ if Path::new(text).exists() => {
            format!(
                "{places}; a directory is oci:{text}, a file oci-archive:{text} or docker-archive:{text}"
            )
        }
        _ if Store::tag_name(text).is_ok() => {
            format!("{places}; did you mean store:{text} or docker://{text}?")
        }
        _ => places.to_owned(),
    }
}

/// An image on its way, held by the lease.
struct Passing {
    digest: Digest,
    /// What it was called where it came from, if that is an image's name.
    name: Option<String>,
    /// What is about it and goes with it.
    about: Vec<About>,
}

/// One copy.
struct Copy<'a> {
    arguments: &'a Args,
    kinds: Option<Kinds>,
    client: &'a Client,
    lease: &'a Lease<'a>,
    display: &'a Transfer,
    cancel: &'a Cancel,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let (source, destination) = (&arguments.source, &arguments.destination);
    check(arguments)?;
    let cancel = registries::cancellation()?;
    let client = registries::client(&arguments.registry, &context.config.registries);
    let store = match source {
        Place::Store(_) => context.open()?,
        _ => context.open_or_create()?,
    };
    let display = Transfer::new(&context.terminal, context.progress && !arguments.quiet);
    let lease = store.lease("copy", &format!("{source} to {destination}"))?;
    let copy = Copy {
        arguments,
        kinds: arguments.referrers.kinds(),
        client: &client,
        lease: &lease,
        display: &display,
        cancel: &cancel,
    };
    let copied = copy.take().and_then(|passing| {
        copy.give(&passing)?;
        Ok(passing)
    });
    let ended = lease.end();
    let copied = copied?;
    ended?;
    if !arguments.quiet {
        writeln!(context.out, "{}", copied.digest)?;
    }
    Ok(())
}

/// Says what cannot be meant before anything is moved.
fn check(arguments: &Args) -> Result {
    let (source, destination) = (&arguments.source, &arguments.destination);
    let from_registry = matches!(source, Place::Registry(_));
    let to_docker = matches!(destination, Place::Archive { docker: true, .. });
    if matches!(source, Place::Store(None)) {
        return Err(exit::usage_error(
            "store: as the source needs a name: store:app:1",
        ));
    }
    if arguments.all_platforms && !from_registry {
        return Err(exit::usage_error(
            "--all-platforms is for a registry: from elsewhere all comes that there is",
        ));
    }
    if arguments.platform.is_some() && !from_registry && !to_docker {
        return Err(exit::usage_error(
            "--platform is for a registry as the source, and for a docker-archive",
        ));
    }
    if arguments.referrers.kinds().is_some() {
        let docker = |place: &Place| matches!(place, Place::Archive { docker: true, .. });
        if docker(source) || docker(destination) {
            return Err(exit::usage_error(
                "--referrers: a docker-archive has no place for what is about an image",
            ));
        }
    }
    match destination {
        Place::Registry(name) if name.digest.is_some() => {
            Err(exit::usage_error("the destination has a tag, not a digest"))
        }
        Place::Layout {
            digest: Some(_), ..
        } => Err(exit::usage_error("the destination has a tag, not a digest")),
        Place::Store(Some(name)) => Ok(Store::tag_name(name).map(drop)?),
        _ => Ok(()),
    }
}

impl Copy<'_> {
    /// Takes the image into the store.
    fn take(&self) -> Result<Passing> {
        let lease = self.lease;
        match &self.arguments.source {
            Place::Store(name) => {
                let name = name.as_deref().unwrap_or_default();
                let (digest, name) = lease.store().find_named(name)?;
                lease.hold(&digest)?;
                let about = match &self.kinds {
                    Some(kinds) => lease.store().about(&digest, name.as_deref(), kinds)?,
                    None => Vec::new(),
                };
                Ok(Passing {
                    digest,
                    name,
                    about,
                })
            }
            Place::Registry(name) => {
                let wanted = match self.arguments.all_platforms {
                    true => Wanted::All,
                    false => Wanted::One {
                        platform: self.platform(),
                        only: self.arguments.platform.is_some(),
                    },
                };
                let pulled =
                    pull::fetch(self.client, lease, name, &wanted, self.display, self.cancel)
                        .map_err(registries::told)?;
                Ok(Passing {
                    digest: pulled.digest(),
                    name: name.digest.is_none().then(|| name.familiar()),
                    about: self.about_pulled(name, &pulled)?,
                })
            }
            Place::Layout {
                directory,
                tag,
                digest,
            } => {
                let (tag_wanted, kinds) = (tag.as_deref(), self.kinds.as_ref());
                let taken =
                    archive::take_from_layout(lease, directory, tag_wanted, digest.as_ref(), kinds);
                let (digest, about) =
                    taken.with_context(|| format!("copy {}", self.arguments.source))?;
                let name = tag.as_deref().filter(|tag| tag.contains([':', '/']));
                Ok(Passing {
                    digest,
                    name: name.and_then(|name| Store::tag_name(name).ok()),
                    about,
                })
            }
            Place::Archive { file, name, .. } => {
                let kinds = self.kinds.as_ref();
                let taken = archive::take_from_archive(lease, file, name.as_deref(), kinds);
                let (digest, names, about) =
                    taken.with_context(|| format!("copy {}", self.arguments.source))?;
                let name = names.into_iter().next();
                Ok(Passing {
                    digest,
                    name,
                    about,
                })
            }
        }
    }

    /// What the registry has about an image that was pulled from it.
    fn about_pulled(&self, name: &Reference, pulled: &Pulled) -> Result<Vec<About>> {
        let Some(kinds) = &self.kinds else {
            return Ok(Vec::new());
        };
        let (client, lease, cancel) = (self.client, self.lease, self.cancel);
        let about = pull::pull_about(client, lease, name, pulled, kinds, self.display, cancel);
        about.map_err(registries::told)
    }

    fn platform(&self) -> Platform {
        let platform = self.arguments.platform.clone();
        platform.unwrap_or_else(native_platform)
    }

    /// Gives the image to where it is to be.
    fn give(&self, passing: &Passing) -> Result {
        let (lease, digest) = (self.lease, passing.digest);
        let store = lease.store();
        let stop = || self.cancel.is_cancelled();
        match &self.arguments.destination {
            Place::Store(name) => {
                let name = match name {
                    Some(name) => Some(Store::tag_name(name)?),
                    None => passing.name.clone(),
                };
                let Some(name) = name else {
                    return Err(exit::usage_error(
                        "what is copied has no name of its own: say store:NAME",
                    ));
                };
                lease.keep_about(&passing.about, Some(&name.parse::<Reference>()?))?;
                lease.tag(&[name], &digest)?;
            }
            Place::Registry(name) => {
                let (client, display, cancel) = (self.client, self.display, self.cancel);
                push::push(client, lease, &digest, name, display, cancel)
                    .and_then(|_| {
                        push::push_about(client, lease, &passing.about, name, display, cancel)
                    })
                    .map_err(registries::told)?;
            }
            Place::Layout { directory, tag, .. } => {
                let package = Package::oci(store, &passing.saved(tag.as_ref()))?;
                package
                    .write_directory(store, directory, &stop)
                    .map_err(|error| self.written(error))?;
            }
            Place::Archive { file, name, docker } => {
                let name = name.as_ref().or(passing.name.as_ref());
                let saved = passing.saved(name);
                let package = match docker {
                    true => Package::docker(store, &saved, &self.platform())?,
                    false => Package::oci(store, &saved)?,
                };
                let target = output::target(Path::new(file), &stop)?;
                package
                    .write_tar(store, target)
                    .map_err(|error| self.written(error))?;
            }
        }
        Ok(())
    }

    fn written(&self, error: archive::Error) -> anyhow::Error {
        match self.cancel.is_cancelled() {
            true => registries::told(crate::registry::Error::Interrupted),
            false => error.into(),
        }
    }
}

impl Passing {
    /// What is written of it, where it is called `name`.
    fn saved(&self, name: Option<&String>) -> Vec<Saved> {
        let image = Saved {
            digest: self.digest,
            names: name.into_iter().cloned().collect(),
            annotations: Default::default(),
        };
        let beside = name.map(String::as_str);
        let about = self.about.iter().map(|one| Saved::about(one, beside));
        std::iter::once(image).chain(about).collect()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let behind = |text: &Option<String>| match text {
            Some(text) => format!(":{text}"),
            None => String::new(),
        };
        match self {
            Place::Store(name) => write!(f, "store:{}", name.as_deref().unwrap_or_default()),
            Place::Registry(name) => write!(f, "docker://{name}"),
            Place::Layout {
                directory,
                tag,
                digest,
            } => {
                write!(f, "oci:{}{}", directory.display(), behind(tag))?;
                match digest {
                    Some(digest) => write!(f, "@{digest}"),
                    None => Ok(()),
                }
            }
            Place::Archive { file, name, docker } => {
                let kind = if *docker { "docker" } else { "oci" };
                write!(f, "{kind}-archive:{}{}", file.display(), behind(name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_shown() {
        let digest = Digest::of(b"x");
        for text in [
            "store:app:1",
            "docker://alpine:3",
            "docker://host:5000/x/y:1",
            "oci:dir",
            "oci:dir:tag",
            "oci:dir:host/app:1",
            &format!("oci:dir@{digest}"),
            "oci-archive:a.tar",
            "docker-archive:a.tar:app:1",
        ] {
            let place: Place = text.parse().unwrap();
            assert_eq!(place.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for (text, word) in [
            ("app", "store:app or docker://app"),
            ("docker:app:1", "docker://app:1?"),
            ("docker-daemon:app:1", "docker save app:1 | rstore load"),
            ("containers-storage:app", "podman save"),
            ("https://quay.io/app", "docker://HOST"),
            ("Cargo.toml", "oci-archive:Cargo.toml"),
            ("-", "rstore load"),
            ("docker-archive:-", "rstore save"),
            ("oci:", "names no file"),
        ] {
            let told = text.parse::<Place>().unwrap_err();
            assert!(told.contains(word), "{text}: {told}");
        }
        for text in [
            "oci:",
            "docker-archive:-",
            "docker:app",
            "docker://Bad Name",
            "oci:dir@sha256:1",
            "",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}

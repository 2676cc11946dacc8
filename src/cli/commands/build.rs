//! `rstore build`: a Dockerfile and a context become an image.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::check;
use super::outputs::{self, Outputs};
use crate::archive::target;
use crate::build::{self, Input, Options};
use crate::cli::args::build::{BuildArgs, Call};
use crate::cli::args::secrets;
use crate::cli::context::native_platform;
use crate::cli::exit::Failure;
use crate::cli::progress::{self, Kind, Quoted, Settings};
use crate::cli::{Context, Result};
use crate::executor::{Cancel, Native, Resource, signals};
use crate::fsutil;
use crate::gc;
use crate::oci::Platform;

/// No Dockerfile is larger; what is, is some other file.
const LARGEST_DOCKERFILE: u64 = 8 << 20;

/// Runs the command.
pub fn run(arguments: &BuildArgs, context: &mut Context) -> Result {
    let platforms = arguments.cache.platforms();
    let outputs = Outputs::new(arguments, &platforms, context)?;
    is_directory(&arguments.context)?;
    let (name, text) = dockerfile(arguments)?;
    let path = arguments
        .file
        .clone()
        .unwrap_or_else(|| arguments.context.join("Dockerfile"));
    let options = options(arguments, platforms, &outputs)?;
    if arguments.call() != Call::Build {
        return check::run(arguments, &options, &name, &text, &path, context);
    }
    let store = context.open_or_create()?;
    let files = build::Context::open(&arguments.context, Some(&path), Some(store.root()))?;
    gc::finish(store.layout(), store.catalog(), context.now)?;
    let cancel = Cancel::new()?;
    signals::on_interrupt(cancel.clone());
    let asked = arguments.progress.or_else(|| buildkits_progress(context));
    let kind = Kind::choose(asked, arguments.quiet, &context.terminal);
    let quoted = Quoted {
        name: name.clone(),
        text: String::from_utf8_lossy(&text).into_owned(),
    };
    let settings = Settings::new(Some(quoted), &context.terminal);
    let display = if context.progress || arguments.quiet {
        progress::renderer(kind, settings)
    } else {
        progress::silent(settings)
    };
    let lease = store.lease("build", &arguments.context.display().to_string())?;
    let input = Input {
        dockerfile: &text,
        name: &name,
        context: &files,
    };
    outputs::remove_stale(arguments)?;
    let noted = check::Noted::new(&*display);
    let built = build::build(&lease, input, &options, &Native, &cancel, &noted);
    display.finish();
    if context.progress && !matches!(kind, Kind::Quiet | Kind::Rawjson) {
        noted.tell();
    }
    let written = built
        .map_err(|error| failed(error, context))
        .and_then(|built| {
            let stop = || cancel.is_cancelled();
            outputs.write(&built.digest, &store, &stop, context)?;
            Ok(built)
        });
    // What a failed build made stays in the cache: only the lease ends.
    let ended = lease.end();
    let built = match written {
        Err(_) if cancel.is_cancelled() && signals::received().is_some() => {
            return Err(interrupted());
        }
        written => written?,
    };
    ended?;
    if let Some(file) = &arguments.metadata_file {
        target::write_file(file, &outputs.metadata(&built, &store)?)?;
    }
    if let Some(file) = &arguments.iidfile {
        target::write_file(file, built.id().to_string().as_bytes())?;
    }
    Ok(())
}

/// The display that `BUILDKIT_PROGRESS` names.
fn buildkits_progress(context: &Context) -> Option<Kind> {
    let word = std::env::var("BUILDKIT_PROGRESS").ok();
    Kind::buildkits(word.as_deref()).unwrap_or_else(|word| {
        context.tell(&format!(
            "notice: BUILDKIT_PROGRESS={word:?} names no display (auto, tty, plain, classic, rawjson, quiet): ignored"
        ));
        None
    })
}

/// Says what is wrong with a context that is none, in words of the command line.
fn is_directory(context: &Path) -> Result {
    match fs::metadata(context) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => anyhow::bail!(
            "the build context {} is a file: name the directory that COPY copies from, and the Dockerfile with -f",
            context.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            anyhow::bail!("the build context {} does not exist", context.display())
        }
        Err(error) => Err(fsutil::Error::new("open", context, error).into()),
    }
}

/// What errors call the Dockerfile, and its text.
fn dockerfile(arguments: &BuildArgs) -> Result<(String, Vec<u8>)> {
    let mut text = Vec::new();
    if arguments.file.as_deref() == Some(Path::new("-")) {
        io::stdin()
            .take(LARGEST_DOCKERFILE)
            .read_to_end(&mut text)
            .context("read the Dockerfile from stdin")?;
        return Ok(("stdin".to_owned(), text));
    }
    let (name, path) = match &arguments.file {
        Some(file) => (file.display().to_string(), file.clone()),
        None => (
            "Dockerfile".to_owned(),
            arguments.context.join("Dockerfile"),
        ),
    };
    let file = open(&path)?;
    if path.is_dir() {
        anyhow::bail!(
            "{} is a directory, and should be a Dockerfile",
            path.display()
        );
    }
    let size = file
        .metadata()
        .map_err(|error| fsutil::Error::new("stat", &path, error))?
        .len();
    if size > LARGEST_DOCKERFILE {
        anyhow::bail!("{} is {size} bytes: that is no Dockerfile", path.display());
    }
    file.take(LARGEST_DOCKERFILE)
        .read_to_end(&mut text)
        .map_err(|error| fsutil::Error::new("read", &path, error))?;
    Ok((name, text))
}

fn open(path: &PathBuf) -> Result<fs::File> {
    match fs::File::open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let other = path.with_file_name("Containerfile");
            let hint = if other.exists() {
                "; there is a Containerfile: -f Containerfile"
            } else {
                "; -f names another"
            };
            anyhow::bail!("there is no Dockerfile at {}{hint}", path.display())
        }
        Err(error) => Err(fsutil::Error::new("open", path, error).into()),
    }
}

/// Lets this process open as many files as it may: a COPY of many sources holds each of them open.
/// Returns the limit as it was, which is the steps'.
fn raise_open_files() -> (Resource, u64, u64) {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where that is refused, a build of many sources may say "too many open files".
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
    let unlimited = u64::MAX;
    (
        Resource::Nofile,
        limit.current.unwrap_or(unlimited),
        limit.maximum.unwrap_or(unlimited),
    )
}

fn options(
    arguments: &BuildArgs,
    platforms: Vec<Platform>,
    outputs: &Outputs,
) -> Result<Options> {
    let native = native_platform();
    let open_files = raise_open_files();
    let mut ulimits = arguments.ulimits.clone();
    if !ulimits
        .iter()
        .any(|(resource, ..)| *resource == Resource::Nofile)
    {
        ulimits.push(open_files);
    }
    Ok(Options {
        target: arguments.target.clone(),
        build_args: arguments.build_arguments().into_iter().collect(),
        labels: arguments.labels.clone(),
        annotations: outputs.annotations.clone(),
        squash: arguments.squash,
        tags: outputs.tags.clone(),
        platform: platforms.first().unwrap_or(&native).clone(),
        platforms,
        build_platform: native,
        no_cache: arguments.cache.no_cache,
        no_cache_stages: arguments.cache.no_cache_filter.clone(),
        cache_from: arguments.cache.cache_from.clone(),
        cache_to: arguments.cache.exports(outputs.compression)?,
        network: arguments.network.into(),
        compression: outputs.compression,
        jobs: arguments.jobs().get(),
        keep_failed: arguments.keeps_failed_container(),
        timestamp: arguments.timestamp,
        add_hosts: arguments
            .hosts
            .iter()
            .map(|(name, address)| (name.clone(), address.to_string()))
            .collect(),
        // Where there is none, a step resolves what /etc/hosts has.
        resolv_conf: fs::read("/etc/resolv.conf").unwrap_or_default(),
        shm_size: arguments.shm_size,
        ulimits,
        secrets: secrets::read(&arguments.secrets)?,
        ssh: secrets::sockets(&arguments.ssh)?,
        allow: arguments.allow.iter().copied().collect(),
    })
}

fn interrupted() -> anyhow::Error {
    Failure::Interrupted(signals::received().unwrap_or(libc::SIGINT)).into()
}

/// The error as the program tells it, with the exit code that belongs to it.
fn failed(error: build::Error, context: &Context) -> anyhow::Error {
    if error.is_interrupted() {
        return interrupted();
    }
    let mut message = error.to_string();
    if error.is_no_space() {
        message.push_str(&format!(
            "; the disk is full: `rstore --root {} prune -n` shows what can go",
            context.root.display()
        ));
    }
    match error.status() {
        Some(status) => Failure::Step { message, status }.into(),
        None if error.is_corruption() => Failure::Corrupt(message).into(),
        None => anyhow::Error::msg(message),
    }
}

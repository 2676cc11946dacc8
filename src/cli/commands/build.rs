//! `rstore build`: a Dockerfile and a context become an image.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::check;
use crate::build::{self, Input, Options};
use crate::cli::args::build::{BuildArgs, Call};
use crate::cli::context::native_platform;
use crate::cli::exit::Failure;
use crate::cli::progress::{self, Kind, Quoted, Settings};
use crate::cli::{Context, Result};
use crate::executor::{Cancel, Native, Resource, signals};
use crate::fsutil;
use crate::gc;

/// No Dockerfile is larger; what is, is some other file.
const LARGEST_DOCKERFILE: u64 = 8 << 20;

/// Runs the command.
pub fn run(arguments: &BuildArgs, context: &mut Context) -> Result {
    is_directory(&arguments.context)?;
    let (name, text) = dockerfile(arguments)?;
    let path = arguments
        .file
        .clone()
        .unwrap_or_else(|| arguments.context.join("Dockerfile"));
    if arguments.call() != Call::Build {
        return check::run(arguments, &name, &text, &path, context);
    }
    let store = context.open_or_create()?;
    let files = build::Context::open(&arguments.context, Some(&path), Some(store.root()))?;
    gc::finish(store.layout(), store.catalog(), context.now)?;
    let cancel = Cancel::new()?;
    signals::on_interrupt(cancel.clone());
    let kind = Kind::choose(arguments.progress, arguments.quiet, context.terminal.stderr);
    let quoted = Quoted {
        name: name.clone(),
        text: String::from_utf8_lossy(&text).into_owned(),
    };
    let settings = Settings::new(Some(quoted), context.terminal.color);
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
    let options = options(arguments);
    let noted = check::Noted::new(&*display);
    let built = build::build(&lease, input, &options, &Native, &cancel, &noted);
    display.finish();
    if context.progress && kind != Kind::Quiet {
        noted.tell();
    }
    // What a failed build made stays in the cache: only the lease ends.
    let ended = lease.end();
    let image = built.map_err(|error| failed(error, context))?;
    ended?;
    if let Some(file) = &arguments.iidfile {
        fs::write(file, image.id().to_string())
            .with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
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

pub(super) fn options(arguments: &BuildArgs) -> Options {
    let native = native_platform();
    let open_files = raise_open_files();
    let mut ulimits = arguments.ulimits.clone();
    if !ulimits
        .iter()
        .any(|(resource, ..)| *resource == Resource::Nofile)
    {
        ulimits.push(open_files);
    }
    Options {
        target: arguments.target.clone(),
        build_args: arguments.build_arguments().into_iter().collect(),
        labels: arguments.labels.clone(),
        tags: arguments.tags.clone(),
        platform: arguments.platform.clone().unwrap_or_else(|| native.clone()),
        build_platform: native,
        no_cache: arguments.no_cache,
        network: arguments.network.into(),
        compression: arguments.compression,
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
    }
}

/// The error as the program tells it, with the exit code that belongs to it.
fn failed(error: build::Error, context: &Context) -> anyhow::Error {
    if error.is_interrupted() {
        return Failure::Interrupted(signals::received().unwrap_or(libc::SIGINT)).into();
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

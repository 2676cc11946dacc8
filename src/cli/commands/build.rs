//! `rstore build`: a Dockerfile and a context become an image.

use std::fs;

use anyhow::Context as _;

use crate::build::{self, Input, Options};
use crate::cli::args::build::BuildArgs;
use crate::cli::commands::sources::{self, Sources};
use crate::cli::context::native_platform;
use crate::cli::exit::Failure;
use crate::cli::progress::{self, Kind, Quoted, Settings};
use crate::cli::{Context, Result};
use crate::executor::{Cancel, Native, Resource, signals};
use crate::gc;
use crate::store::Lease;

/// Runs the command.
pub fn run(arguments: &BuildArgs, context: &mut Context) -> Result {
    let read = sources::check(arguments)?;
    let store = context.open_or_create()?;
    gc::finish(store.layout(), store.catalog(), context.now)?;
    let cancel = Cancel::new()?;
    signals::on_interrupt(cancel.clone());
    let lease = store.lease("build", &arguments.context.to_string())?;
    let options = options(arguments, &lease)?;
    let Sources {
        name,
        dockerfile: text,
        context: files,
    } = sources::gather(arguments, read, &lease, &options.remote, &cancel)?;
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
    let input = Input {
        dockerfile: &text,
        name: &name,
        context: &files,
    };
    let built = build::build(&lease, input, &options, &Native, &cancel, &*display);
    display.finish();
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

fn options(arguments: &BuildArgs, lease: &Lease) -> Result<Options> {
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
        named: sources::named_contexts(arguments, lease)?,
        remote: sources::remote_settings(),
    })
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

//! `rstore build`: a Dockerfile and a context become an image.

use std::fs;

use super::check;
use super::outputs::{self, Outputs, Pushing};
use crate::archive::target;
use crate::build::{self, Input, Options};
use crate::cli::args::build::{BuildArgs, Call};
use crate::cli::args::secrets;
use crate::cli::commands::sources::{self, Sources};
use crate::cli::context::native_platform;
use crate::cli::exit::{DiskFull, Failure};
use crate::cli::progress::{self, Kind, Quoted, Settings};
use crate::cli::{Context, Result, registries};
use crate::executor::{Cancel, Native, Resource, signals};
use crate::gc;
use crate::oci::Platform;

/// Runs the command.
pub fn run(arguments: &BuildArgs, context: &mut Context) -> Result {
    let platforms = arguments.cache.platforms();
    let outputs = Outputs::new(arguments, &platforms, context)?;
    let read = sources::check(arguments)?;
    let mut options = options(arguments, platforms, &outputs)?;
    let registries = &context.config.registries;
    options.registry = Some(registries::client(&arguments.registry, registries));
    if arguments.call() != Call::Build {
        return check::run(arguments, options, read, context);
    }
    let store = context.open_or_create()?;
    gc::finish(store.layout(), store.catalog(), context.now)?;
    let cancel = Cancel::new()?;
    signals::on_interrupt(cancel.clone());
    let lease = store.lease("build", &arguments.context.to_string())?;
    options.named = sources::named_contexts(arguments, &lease)?;
    let Sources {
        name,
        dockerfile: text,
        context: files,
    } = sources::gather(arguments, read, &lease, &options.remote, &cancel)?;
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
    let input = Input {
        dockerfile: &text,
        name: &name,
        context: &files,
    };
    outputs::remove_stale(arguments)?;
    let noted = check::Noted::new(&*display);
    let built = build::build(&lease, input, &options, &Native, &cancel, &noted);
    let built = built.map_err(failed).and_then(|built| {
        if let Some(client) = &options.registry {
            let pushing = Pushing {
                client,
                cancel: &cancel,
                sink: &noted,
            };
            outputs.push(&built, &lease, &pushing)?;
        }
        Ok(built)
    });
    display.finish();
    if context.progress && !matches!(kind, Kind::Quiet | Kind::Rawjson) {
        noted.tell();
    }
    let written = built.and_then(|built| {
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

fn options(arguments: &BuildArgs, platforms: Vec<Platform>, outputs: &Outputs) -> Result<Options> {
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
        named: Vec::new(),
        remote: sources::remote_settings(),
        pull: arguments.pull.unwrap_or_default(),
        registry: None,
    })
}

fn interrupted() -> anyhow::Error {
    Failure::Interrupted(signals::received().unwrap_or(libc::SIGINT)).into()
}

/// The error as the program tells it, with the exit code that belongs to it.
fn failed(error: build::Error) -> anyhow::Error {
    if error.is_interrupted() {
        return interrupted();
    }
    let message = error.to_string();
    let full = error.is_no_space();
    let error = match error.status() {
        Some(status) => Failure::Step { message, status }.into(),
        None if error.is_corruption() => Failure::Corrupt(message).into(),
        None => anyhow::Error::msg(message),
    };
    match full {
        true => DiskFull {
            error,
            advice: None,
        }
        .into(),
        false => error,
    }
}

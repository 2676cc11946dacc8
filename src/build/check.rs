//! Checking a Dockerfile: by rules before every build, and with hints instead of one.
//!
//! ```text
//! build:    parse ─▶ lower ─▶ rules, bases known ─▶ told at the end; error=true ends the build
//! --check:  parse ─────────▶ rules, bases of the store ─▶ findings
//!                            memory of past builds, context, layers ─▶ hints
//! ```
//! `--check` changes nothing, runs nothing, and fetches nothing: what a base image that is not in
//! the store would say is left open, and said to be.

use std::collections::BTreeSet;

use super::context::Context;
use super::error::Error;
use super::hints::{self, Hint};
use super::options::Options;
use super::plan::{Base, BuildGraph};
use super::platform::{PLATFORM_ARGUMENTS, parse_platform, platform_argument};
use super::{Input, memory};
use crate::dockerfile::ignore::IgnorePatterns;
use crate::dockerfile::lint::{self, BaseFacts, Finding, Settings, Surroundings};
use crate::dockerfile::{self, Dockerfile};
use crate::oci::{Digest, Platform, Reference};
use crate::store::{Image, Store};

/// The build argument that goes before a file's `# check=`.
pub const SETTINGS_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// What `--check` comes to.
#[derive(Debug, Default)]
pub struct Checked {
    /// What the rules found, in the order of the file.
    pub findings: Vec<Finding>,
    /// What a build would stop at.
    pub error: Option<Error>,
    /// What past builds, the context and stored layers suggest; the costliest first.
    pub hints: Vec<Hint>,
    /// What could not be judged, and why.
    pub notes: Vec<String>,
}

/// Checks a file without building it. `store`: where images and the memory of builds are, if
/// there is one.
pub fn check(store: Option<&Store>, input: &Input, options: &Options) -> Result<Checked, Error> {
    let file = dockerfile::parse(input.dockerfile).map_err(|source| Error::Parse {
        name: input.name.to_owned(),
        source,
    })?;
    let base = |_: usize, image: &str, platform: Option<&str>| {
        let wanted = match platform {
            Some(text) => parse_platform(text).ok()?,
            None => options.platform.clone(),
        };
        let image = store?.find_image(image, &wanted).ok()?;
        Some(facts(&image, &wanted))
    };
    let world = World {
        options,
        last_stage: last_name(&file),
        ignore: Some(input.context.ignore()),
        base: &base,
    };
    let settings = settings(&file, input.name, options)?;
    let wanted = match &options.target {
        Some(target) => lint::needed(&file, &world, target)?,
        None => None,
    };
    let report = lint::lint(&file, &settings, &world, wanted.as_ref());
    let mut notes = Vec::new();
    for image in &report.unknown_bases {
        notes.push(format!(
            "the base image {image} is not in the store: whether it sets the variables that are used on it was not checked"
        ));
    }
    let hints = hints(store, &file, &report, input, options)?;
    Ok(Checked {
        findings: report.findings,
        error: report.error.map(|source| Error::Parse {
            name: input.name.to_owned(),
            source,
        }),
        hints,
        notes,
    })
}

/// Checks a file that is about to be built: the stages that the target needs.
pub(super) fn during(
    file: &Dockerfile,
    graph: &BuildGraph,
    input: &Input,
    options: &Options,
) -> Result<Vec<Finding>, Error> {
    let base = |stage: usize, _: &str, _: Option<&str>| {
        let plan = graph.stages.get(stage)?.as_ref()?;
        match &plan.base {
            Base::Image(image) => Some(facts(image, &plan.platform)),
            Base::Scratch | Base::Stage(_) => None,
        }
    };
    let world = World {
        options,
        last_stage: last_name(file),
        ignore: Some(input.context.ignore()),
        base: &base,
    };
    let needed: BTreeSet<usize> = (0..graph.stages.len())
        .filter(|stage| graph.stages[*stage].is_some())
        .collect();
    let settings = settings(file, input.name, options)?;
    Ok(lint::lint(file, &settings, &world, Some(&needed)).findings)
}

/// Refuses the build if something was found and that is to be an error.
pub(super) fn refuse(
    file: &Dockerfile,
    findings: &[Finding],
    name: &str,
    options: &Options,
) -> Result<(), Error> {
    if findings.is_empty() || !settings(file, name, options)?.error {
        return Ok(());
    }
    let rules: BTreeSet<&'static str> = findings.iter().map(|f| f.rule.name()).collect();
    Err(Error::Check {
        name: name.to_owned(),
        rules: rules.into_iter().collect(),
    })
}

fn settings(file: &Dockerfile, name: &str, options: &Options) -> Result<Settings, Error> {
    let given = options.build_args.get(SETTINGS_ARGUMENT);
    Settings::of(&file.directives, given.map(String::as_str)).map_err(|source| {
        let place = match (given, &file.directives.check) {
            (None, Some(check)) => format!("{name}:{}:{}", check.span.line, check.span.column),
            _ => format!("--build-arg {SETTINGS_ARGUMENT}"),
        };
        Error::CheckSettings {
            name: place,
            source,
        }
    })
}

fn last_name(file: &Dockerfile) -> Option<&str> {
    file.stages.last().and_then(|stage| stage.name.as_deref())
}

/// What an image says of itself to a stage that stands on it.
fn facts(image: &Image, wanted: &Platform) -> BaseFacts {
    let run = &image.config.config;
    let found = image.config.platform();
    let differs = found.os != wanted.os || found.architecture != wanted.architecture;
    let pair = |pair: &String| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    };
    BaseFacts {
        env: run.env.iter().flatten().map(pair).collect(),
        shell: run.shell.as_ref().is_some_and(|shell| !shell.is_empty()),
        on_build: run.on_build.clone().unwrap_or_default(),
        wrong_platform: differs.then(|| (wanted.to_string(), found.to_string())),
    }
}

/// Finds what is known of the base image of a stage.
type BaseOf<'a> = &'a dyn Fn(usize, &str, Option<&str>) -> Option<BaseFacts>;

struct World<'a> {
    options: &'a Options,
    last_stage: Option<&'a str>,
    ignore: Option<&'a IgnorePatterns>,
    base: BaseOf<'a>,
}

impl Surroundings for World<'_> {
    fn build_arg(&self, name: &str) -> Option<String> {
        self.options.build_args.get(name).cloned()
    }

    fn automatic(&self, name: &str) -> Option<String> {
        platform_argument(name, self.options, &self.options.platform, self.last_stage)
    }

    fn automatic_names(&self) -> &[&str] {
        &PLATFORM_ARGUMENTS
    }

    fn base(&self, stage: usize, image: &str, platform: Option<&str>) -> Option<BaseFacts> {
        (self.base)(stage, image, platform)
    }

    fn is_image_name(&self, text: &str) -> bool {
        text.parse::<Reference>().is_ok()
    }

    fn ignore(&self) -> Option<&IgnorePatterns> {
        self.ignore
    }
}

/// How many builds the hints look back on.
const LOOK_BACK: usize = 10;

fn hints(
    store: Option<&Store>,
    file: &Dockerfile,
    report: &lint::Report,
    input: &Input,
    options: &Options,
) -> Result<Vec<Hint>, Error> {
    let subject = memory::subject(input.context, input.name, options);
    let builds = match store {
        Some(store) => store
            .catalog()
            .read(|tx| tx.builds(&subject, LOOK_BACK))
            .map_err(crate::store::Error::from)?,
        None => Vec::new(),
    };
    let exists = |name: &str| input.context.has(name);
    let layers = |image: &Digest| layer_sizes(store?, image);
    let mut hints = hints::order(file, &builds, &exists);
    hints.extend(hints::whole_stages(file, builds.first(), &layers));
    // Where a file takes all of the context there is nothing to look for.
    if !report.context_paths.contains("") {
        let files = context_files(input.context)?;
        hints.extend(hints::unused(&report.context_paths, &files));
    }
    Ok(hints)
}

/// The sizes of an image's layers, the lowest first: unpacked where that is known.
fn layer_sizes(store: &Store, image: &Digest) -> Option<Vec<u64>> {
    let manifest = store.find(&image.to_string()).ok()?;
    let image = store.image(&manifest).ok()?;
    let size = |layer: &crate::oci::document::Descriptor| {
        let known = store.catalog().read(|tx| {
            let Some(blob) = tx.blob(&layer.digest)? else {
                return Ok(None);
            };
            Ok(tx.layer(blob.id)?.and_then(|layer| layer.unpacked))
        });
        known.ok().flatten().unwrap_or(layer.size)
    };
    Some(image.manifest.layers.iter().map(size).collect())
}

/// The files of the context that are not ignored, with their sizes.
fn context_files(context: &Context) -> Result<Vec<(String, u64)>, Error> {
    let broken = |error: super::StepError| match error {
        super::StepError::Io(error) => Error::Context(error),
        other => Error::Context(crate::fsutil::Error::new(
            "read",
            "the build context",
            std::io::Error::other(other.to_string()),
        )),
    };
    let tree = context.tree()?;
    let mut files = Vec::new();
    for root in tree.matches(".").map_err(broken)? {
        for found in tree
            .walk(&root, &IgnorePatterns::default())
            .map_err(broken)?
        {
            if !found.metadata.is_dir() {
                let path = found.relative.to_string_lossy().into_owned();
                files.push((path, found.metadata.len()));
            }
        }
    }
    Ok(files)
}

//! What only a builder with a memory can say of a Dockerfile: which step threw the cache away and
//! what that cost, what of the context nobody copies, what a stage leaves in the image. Pure.
//!
//! A hint speaks of what is in the file now, and of what was measured. An expensive step behind
//! what often changes is no mistake by itself (compiling comes after copying the source), so the
//! order is only blamed for steps that install what the changed files don't decide: package
//! managers, known by their commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use regex::Regex;

use crate::catalog::memory::{BuildRecord, Outcome, StepRecord};
use crate::dockerfile::{Dockerfile, Instruction, Kind, Source, Stage, glob, parse_instruction};
use crate::oci::Digest;

/// What a hint is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HintKind {
    /// A COPY that often changes stands before what it makes run again.
    EarlyCopy,
    /// An ARG that often changes stands before what it makes run again.
    EarlyArgument,
    /// A stage is taken whole.
    WholeStage,
    /// Files of the context that nothing copies.
    UnusedContext,
}

/// One hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// What it is about.
    pub kind: HintKind,
    /// The first and last line of the instruction that it is about.
    pub lines: Option<(u32, u32)>,
    /// In words, numbers included.
    pub message: String,
    /// Lines to put somewhere, which the message names.
    pub suggestions: Vec<String>,
    /// What it cost, in milliseconds of the builds that are remembered; 0 for what costs space.
    pub milliseconds: u64,
}

/// Less than this, in all remembered builds, is nothing to speak of.
const WORTH_MILLISECONDS: u64 = 1_000;
/// What happened once may have been chance.
const WORTH_TIMES: usize = 2;
/// Fewer bytes, and fewer files, in the context do no harm.
const WORTH_BYTES: u64 = 1_000_000;
const WORTH_FILES: usize = 100;
/// How many names a message lists.
const LISTED: usize = 5;

/// A way to install packages.
struct Installer {
    /// How its command looks.
    command: Regex,
    /// The files that decide what it installs; none where the command itself does.
    manifests: &'static [&'static str],
}

fn installers() -> &'static [Installer] {
    static INSTALLERS: OnceLock<Vec<Installer>> = OnceLock::new();
    let known: [(&str, &[&str]); 13] = [
        (
            r"\bnpm (ci|i|install)\b",
            &[
                "package.json",
                "package-lock.json",
                "npm-shrinkwrap.json",
                ".npmrc",
            ],
        ),
        (
            r"\byarn( install| --|$| &&| \|\|)",
            &["package.json", "yarn.lock", ".yarnrc.yml"],
        ),
        (
            r"\bpnpm (i|install|fetch)\b",
            &[
                "package.json",
                "pnpm-lock.yaml",
                "pnpm-workspace.yaml",
                ".npmrc",
            ],
        ),
        (
            r"\bpip3? install\b.* (-r|--requirement)\b",
            &["requirements.txt", "constraints.txt"],
        ),
        (r"\bpoetry install\b", &["pyproject.toml", "poetry.lock"]),
        (r"\buv sync\b", &["pyproject.toml", "uv.lock"]),
        (r"\bbundle install\b", &["Gemfile", "Gemfile.lock"]),
        (r"\bcomposer install\b", &["composer.json", "composer.lock"]),
        (r"\bgo mod (download|verify)\b", &["go.mod", "go.sum"]),
        (r"\bcargo fetch\b", &["Cargo.toml", "Cargo.lock"]),
        (r"\bmvn\b.*\bdependency:", &["pom.xml"]),
        (
            r"\b(apt-get|apt|dnf|yum|microdnf|tdnf|zypper)\b( -\S+)* install\b",
            &[],
        ),
        (r"\bapk( -\S+)* add\b", &[]),
    ];
    INSTALLERS.get_or_init(|| {
        let compiled = |(command, manifests): &(&str, &'static [&'static str])| {
            Some(Installer {
                command: Regex::new(command).ok()?,
                manifests,
            })
        };
        known.iter().filter_map(compiled).collect()
    })
}

fn installer(text: &str) -> Option<&'static Installer> {
    let runs = text.get(..3)?.eq_ignore_ascii_case("run");
    installers()
        .iter()
        .find(|installer| runs && installer.command.is_match(text))
}

/// What one cause cost.
#[derive(Default)]
struct Cost {
    builds: usize,
    milliseconds: u64,
    /// What ran again, and for how long in all.
    steps: BTreeMap<String, u64>,
}

/// The steps that made installations run again, by what the last builds (the newest first) say.
/// `exists`: whether the context has a file.
pub fn order(
    file: &Dockerfile,
    builds: &[BuildRecord],
    exists: &dyn Fn(&str) -> bool,
) -> Vec<Hint> {
    // A first build, and one that was to use no cache, are compared with nothing.
    let compared = |build: &&BuildRecord| {
        let outcomes = || build.steps.iter().map(|step| step.outcome);
        outcomes().all(|outcome| outcome != Outcome::Forced)
            && outcomes().any(|o| !matches!(o, Outcome::First | Outcome::Cached))
    };
    let builds: Vec<&BuildRecord> = builds.iter().filter(compared).collect();
    let mut hints = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let label = label(index, stage);
        let ours: Vec<Vec<&StepRecord>> = builds
            .iter()
            .map(|build| {
                build
                    .steps
                    .iter()
                    .filter(|step| step.stage == label)
                    .collect()
            })
            .collect();
        hints.extend(early_copies(stage, &ours, exists));
        hints.extend(early_arguments(stage, &ours));
    }
    hints.sort_by_key(|hint| std::cmp::Reverse(hint.milliseconds));
    hints
}

/// How steps name a stage.
fn label(index: usize, stage: &Stage) -> String {
    stage
        .name
        .clone()
        .unwrap_or_else(|| format!("stage-{index}"))
}

/// Where an instruction stands that is in the stage now.
fn place<'a>(stage: &'a Stage, text: &str) -> Option<(usize, &'a Instruction)> {
    let instructions = stage.instructions.iter().enumerate();
    instructions
        .into_iter()
        .find(|(_, instruction)| instruction.original == text)
}

fn early_copies(
    stage: &Stage,
    builds: &[Vec<&StepRecord>],
    exists: &dyn Fn(&str) -> bool,
) -> Vec<Hint> {
    let mut costs: BTreeMap<&str, Cost> = BTreeMap::new();
    for steps in builds {
        // What breaks the cache is the first that was done; the rest follows from it.
        let Some(first) = steps
            .iter()
            .position(|step| step.outcome != Outcome::Cached)
        else {
            continue;
        };
        let broken = steps[first];
        if broken.outcome != Outcome::Content {
            continue;
        }
        let Some(copied) = copied_from_context(&broken.text) else {
            continue;
        };
        let innocent = |step: &&&StepRecord| {
            installer(&step.text).is_some_and(|installer| !decides(&copied, installer))
        };
        let followed = steps[first + 1..]
            .iter()
            .filter(|s| s.outcome == Outcome::Parent);
        let again: Vec<&&StepRecord> = followed.filter(innocent).collect();
        if again.is_empty() {
            continue;
        }
        let cost = costs.entry(&broken.text).or_default();
        cost.builds += 1;
        for step in again {
            cost.milliseconds += step.milliseconds;
            *cost.steps.entry(step.text.clone()).or_default() += step.milliseconds;
        }
    }
    costs
        .into_iter()
        .filter(|(_, cost)| cost.builds >= WORTH_TIMES && cost.milliseconds >= WORTH_MILLISECONDS)
        .filter_map(|(text, cost)| early_copy(stage, text, &cost, builds.len(), exists))
        .collect()
}

fn early_copy(
    stage: &Stage,
    text: &str,
    cost: &Cost,
    of: usize,
    exists: &dyn Fn(&str) -> bool,
) -> Option<Hint> {
    let (before, copy) = place(stage, text)?;
    // The order may have been mended since.
    let (step, _) = cost
        .steps
        .iter()
        .max_by_key(|(_, milliseconds)| **milliseconds)?;
    let (after, run) = place(stage, step)?;
    if after < before {
        return None;
    }
    let manifests = installer(step)?.manifests.iter().copied();
    let manifests: Vec<&str> = manifests.filter(|name| exists(name)).collect();
    let advice = if installer(step)?.manifests.is_empty() {
        "it needs nothing of it: move it before the COPY".to_owned()
    } else if manifests.is_empty() {
        "copy what it reads alone before it, and the rest after it".to_owned()
    } else {
        format!(
            "copy {} alone before it, and the rest after it",
            listed(&manifests)
        )
    };
    let suggestions = if manifests.is_empty() {
        Vec::new()
    } else {
        vec![
            format!("COPY {} ./", manifests.join(" ")),
            short(step),
            short(text),
        ]
    };
    Some(Hint {
        kind: HintKind::EarlyCopy,
        lines: Some((copy.span.line, copy.span.end_line)),
        message: format!(
            "{} on line {} brought something new in {}, and {} on line {} ran again each time: {} in all; {advice}",
            short(text),
            copy.span.line,
            times(cost.builds, of),
            short(step),
            run.span.line,
            seconds(cost.milliseconds),
        ),
        suggestions,
        milliseconds: cost.milliseconds,
    })
}

fn early_arguments(stage: &Stage, builds: &[Vec<&StepRecord>]) -> Vec<Hint> {
    let mut costs: BTreeMap<&str, Cost> = BTreeMap::new();
    for step in builds.iter().flatten() {
        if step.outcome == Outcome::Variable && installer(&step.text).is_some() {
            let cost = costs.entry(&step.text).or_default();
            cost.builds += 1;
            cost.milliseconds += step.milliseconds;
        }
    }
    let hint = |(text, cost): (&str, Cost)| {
        let (after, run) = place(stage, text)?;
        let names: Vec<&str> = stage.instructions[..after]
            .iter()
            .filter_map(|instruction| match &instruction.kind {
                Kind::Arg(args) => Some(args.iter().map(|arg| arg.name.as_str())),
                _ => None,
            })
            .flatten()
            .filter(|name| !text.contains(name))
            .collect();
        if names.is_empty() {
            return None;
        }
        Some(Hint {
            kind: HintKind::EarlyArgument,
            lines: Some((run.span.line, run.span.end_line)),
            message: format!(
                "{} on line {} ran again in {} since an ARG before it that it doesn't use had another value: {} in all; declare {} after it",
                short(text),
                run.span.line,
                times(cost.builds, builds.len()),
                seconds(cost.milliseconds),
                listed(&names),
            ),
            suggestions: Vec::new(),
            milliseconds: cost.milliseconds,
        })
    };
    costs
        .into_iter()
        .filter(|(_, cost)| cost.builds >= WORTH_TIMES && cost.milliseconds >= WORTH_MILLISECONDS)
        .filter_map(hint)
        .collect()
}

/// The sources of a COPY or ADD from the context.
fn copied_from_context(text: &str) -> Option<Vec<String>> {
    let sources = match parse_instruction(text, 1).ok()?.kind {
        Kind::Copy(copy) if copy.from.is_none() => copy.sources,
        Kind::Add(add) => add.sources,
        _ => return None,
    };
    let path = |source| match source {
        Source::Path(path) => Some(path),
        Source::Heredoc { .. } => None,
    };
    Some(sources.into_iter().filter_map(path).collect())
}

/// Whether nothing but what decides an installation was copied.
fn decides(copied: &[String], installer: &Installer) -> bool {
    copied.iter().all(|path| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let fits = |manifest: &&str| glob::matches(name, manifest).unwrap_or(false);
        // A `*` alone takes everything.
        !name.trim_matches('*').is_empty() && installer.manifests.iter().any(fits)
    })
}

/// Stages that another takes whole. `build`: the last one; `layers`: the sizes of an image's
/// layers, the lowest first.
pub fn whole_stages(
    file: &Dockerfile,
    build: Option<&BuildRecord>,
    layers: &dyn Fn(&Digest) -> Option<Vec<u64>>,
) -> Vec<Hint> {
    let mut hints = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        for instruction in &stage.instructions {
            let Kind::Copy(copy) = &instruction.kind else {
                continue;
            };
            let Some(from) = &copy.from else { continue };
            let whole = copy.sources.iter().any(|source| match source {
                Source::Path(path) => path.split('/').all(|part| matches!(part, "" | ".")),
                Source::Heredoc { .. } => false,
            });
            let source = file.source_named(index, from, instruction);
            let Ok(crate::dockerfile::StageSource::Stage(taken)) = source else {
                continue;
            };
            if whole {
                let name = label(taken, &file.stages[taken]);
                let line = instruction.span.line;
                hints.push(Hint {
                    kind: HintKind::WholeStage,
                    lines: Some((line, instruction.span.end_line)),
                    message: format!(
                        "{} on line {line} takes the whole stage {name}{}; copy only what the image needs",
                        short(&instruction.original),
                        contents(&name, build, layers),
                    ),
                    suggestions: Vec::new(),
                    milliseconds: 0,
                });
            }
        }
    }
    hints
}

/// What is in a stage, as far as stored layers tell.
fn contents(
    stage: &str,
    build: Option<&BuildRecord>,
    layers: &dyn Fn(&Digest) -> Option<Vec<u64>>,
) -> String {
    let mut below = 0;
    let mut total = 0;
    let mut base = 0;
    let mut left: Vec<(u64, String)> = Vec::new();
    let steps = build.into_iter().flat_map(|build| &build.steps);
    for (place, step) in steps.filter(|step| step.stage == stage).enumerate() {
        let Some(sizes) = step.image.as_ref().and_then(layers) else {
            continue;
        };
        let added: u64 = sizes.iter().skip(below).sum();
        below = sizes.len();
        total += added;
        if place == 0 {
            base = added;
        } else if added > 0 {
            left.push((
                added,
                format!("{} (line {}) {}", short(&step.text), step.line, size(added)),
            ));
        }
    }
    if total == 0 {
        return String::new();
    }
    left.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    let mut parts = Vec::new();
    if base > 0 {
        parts.push(format!("its base image {}", size(base)));
    }
    parts.extend(left.into_iter().take(3).map(|(_, told)| told));
    format!(", {} in all: {}", size(total), parts.join(", "))
}

/// The files of the context, with their sizes, that none of the `copied` paths and patterns takes.
pub fn unused(copied: &BTreeSet<String>, files: &[(String, u64)]) -> Option<Hint> {
    let own = |path: &str| {
        path == "Dockerfile"
            || path == "Containerfile"
            || path.ends_with(".dockerignore")
            || path.ends_with(".Dockerfile")
    };
    let mut unused: Vec<&(String, u64)> = Vec::new();
    let mut used_tops: BTreeSet<&str> = BTreeSet::new();
    for file in files {
        let (path, _) = file;
        if own(path) || copied.iter().any(|pattern| takes(pattern, path)) {
            used_tops.insert(top(path));
        } else {
            unused.push(file);
        }
    }
    let bytes: u64 = unused.iter().map(|(_, size)| size).sum();
    if bytes < WORTH_BYTES && unused.len() < WORTH_FILES {
        return None;
    }
    let biggest = unused.iter().max_by_key(|(_, size)| *size)?;
    let mut tops: BTreeMap<&str, u64> = BTreeMap::new();
    for (path, size) in &unused {
        // Of a directory that is used in part, each file would need a line.
        if !used_tops.contains(top(path)) {
            *tops.entry(top(path)).or_default() += size;
        }
    }
    let mut tops: Vec<(&str, u64)> = tops.into_iter().collect();
    tops.sort_by_key(|(name, size)| (std::cmp::Reverse(*size), *name));
    let suggestions: Vec<String> = tops
        .iter()
        .take(LISTED)
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let advice = if suggestions.is_empty() {
        ""
    } else {
        "; these lines in .dockerignore leave them out"
    };
    Some(Hint {
        kind: HintKind::UnusedContext,
        lines: None,
        message: format!(
            "nothing copies {} of the context's {} files, {} in all, the biggest of them {} ({}){advice}",
            unused.len(),
            files.len(),
            size(bytes),
            biggest.0,
            size(biggest.1),
        ),
        suggestions,
        milliseconds: 0,
    })
}

fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// Whether a source, perhaps with wildcards, takes a file: itself or a directory above it.
fn takes(pattern: &str, path: &str) -> bool {
    // `--parents` alone knows this one; whatever it takes is taken.
    if pattern.contains("**") {
        return true;
    }
    let mut parts = path.split('/');
    pattern
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .all(|part| {
            parts
                .next()
                .is_some_and(|name| glob::matches(part, name).unwrap_or(true))
        })
}

/// An instruction as a message shows it.
fn short(text: &str) -> String {
    const WIDTH: usize = 60;
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    if text.chars().count() <= WIDTH {
        return text;
    }
    let cut: String = text.chars().take(WIDTH - 1).collect();
    format!("{}…", cut.trim_end())
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn times(count: usize, of: usize) -> String {
    if count == of {
        return format!("each of the last {of} builds that changed something");
    }
    format!("{count} of the last {of} builds that changed something")
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}

/// Decimal units, three digits.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return match unit {
                "B" => format!("{bytes}B"),
                _ if value < 9.995 => format!("{value:.2}{unit}"),
                _ if value < 99.95 => format!("{value:.1}{unit}"),
                _ => format!("{value:.0}{unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1}TB")
}

#[cfg(test)]
mod tests;

//! What a Dockerfile says that works and is likely not meant: BuildKit's checks, by its names.
//!
//! ```text
//! Dockerfile ──┬─ casing    keywords, stage names
//!              ├─ stages    FROM: names, ARGs, platforms
//!              └─ walk      instruction by instruction, with the stage's variables
//!                   └─ rules about one instruction: values
//!                                     │
//!      Settings (# check=…) ──────────┴──▶ Findings, in the order of the file
//! ```
//!
//! What no text can tell (which variables a base image sets, what a name of an image may be, what
//! the context ignores) is asked of [`Surroundings`]. A base that they don't know makes no
//! finding up: its stage's variables are not judged, and [`Report::unknown_bases`] names it.
//!
//! A rule is switched off for the file by `# check=skip=RULE,…` at its top, and for one
//! instruction by the same in a comment above it. Experimental rules are off until asked for.
//!
//! Invariant: checking never fails. Where an instruction cannot be expanded, that is the report's
//! `error`, and what was found beside it is still told.

mod casing;
mod rule;
mod settings;
mod stages;
mod values;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use rule::Rule;
pub use settings::{BadSettings, Settings};

use super::ignore::IgnorePatterns;
use super::{Dockerfile, ParseError, Span, UnknownTarget, Warning};

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule that it breaks.
    pub rule: Rule,
    /// What is found, in words.
    pub message: String,
    /// The instruction.
    pub span: Span,
}

/// What checking a file comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What was found, in the order of the file.
    pub findings: Vec<Finding>,
    /// The first mistake that a build would stop at.
    pub error: Option<ParseError>,
    /// What is taken from the context: paths and patterns, expanded; the empty one is all of it,
    /// also where a variable of an unknown base may mean anything.
    pub context_paths: BTreeSet<String>,
    /// Base images that nobody knows here: variables of the stages on them were not judged.
    pub unknown_bases: BTreeSet<String>,
}

/// What is known of a base image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BaseFacts {
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Whether it has a `SHELL` of its own.
    pub shell: bool,
    /// Its triggers.
    pub on_build: Vec<String>,
    /// The platform that it should have had and the one that it has, where they differ.
    pub wrong_platform: Option<(String, String)>,
}

/// What the text of a Dockerfile cannot tell.
pub trait Surroundings {
    /// The value that `--build-arg` gives a name.
    fn build_arg(&self, name: &str) -> Option<String>;
    /// The value that every build has for a name: `TARGETPLATFORM` and its like.
    fn automatic(&self, name: &str) -> Option<String>;
    /// The names that [`Surroundings::automatic`] has, for suggestions.
    fn automatic_names(&self) -> &[&str];
    /// What is known of the base image of a stage, for a platform as `FROM --platform` says it.
    fn base(&self, stage: usize, image: &str, platform: Option<&str>) -> Option<BaseFacts>;
    /// Whether a text may be an image's name.
    fn is_image_name(&self, text: &str) -> bool;
    /// What the context leaves out.
    fn ignore(&self) -> Option<&IgnorePatterns>;
}

/// Checks a file. `stages`: only those are walked through, the others' `FROM` alone is looked at;
/// `None` means all. With a stage, those that it stands on must be in it.
pub fn lint(
    file: &Dockerfile,
    settings: &Settings,
    around: &dyn Surroundings,
    stages: Option<&BTreeSet<usize>>,
) -> Report {
    let mut linter = Linter {
        settings,
        report: Report::default(),
    };
    for warning in &file.warnings {
        match warning.value {
            Warning::EmptyContinuationLine => linter.find(
                Rule::NoEmptyContinuation,
                warning.span,
                &[],
                || "an empty line inside an instruction: it will be an error one day, so remove it or make it a comment".to_owned(),
            ),
        }
    }
    casing::check(file, &mut linter);
    stages::check_names(file, &mut linter);
    match stages::Globals::of(file, around) {
        Ok(globals) => {
            stages::check_from(file, around, &globals, &mut linter);
            walk::check(file, around, &globals, stages, &mut linter);
        }
        Err(error) => linter.fail(error),
    }
    let mut report = linter.report;
    report
        .findings
        .sort_by_key(|finding| (finding.span.line, finding.span.column));
    report
}

/// The stages that a target needs; `None` if that cannot be told, for a mistake that [`lint`] tells.
pub fn needed(
    file: &Dockerfile,
    around: &dyn Surroundings,
    target: &str,
) -> Result<Option<BTreeSet<usize>>, UnknownTarget> {
    let Ok(globals) = stages::Globals::of(file, around) else {
        return Ok(None);
    };
    match globals.graph(file, around) {
        Ok(graph) => {
            let target = graph.target(Some(target))?;
            Ok(Some(graph.needed(target).into_iter().collect()))
        }
        Err(_) => Ok(None),
    }
}

/// Collects findings that are wanted.
struct Linter<'a> {
    settings: &'a Settings,
    report: Report,
}

impl Linter<'_> {
    /// Notes a finding, unless the file or one of the `comments` above its instruction switches
    /// the rule off.
    fn find(&mut self, rule: Rule, span: Span, comments: &[String], message: impl Fn() -> String) {
        if self.settings.with_comments(comments).wants(rule) {
            self.report.findings.push(Finding {
                rule,
                message: message(),
                span,
            });
        }
    }

    /// Notes a mistake that a build would stop at; the first counts.
    fn fail(&mut self, error: ParseError) {
        self.report.error.get_or_insert(error);
    }
}

//! What stages are called, and what their `FROM` says.

use std::collections::{BTreeMap, BTreeSet};

use super::{Linter, Rule, Surroundings};
use crate::dockerfile::error::{did_you_mean, nearest};
use crate::dockerfile::expand::{Expanded, expand};
use crate::dockerfile::{Dockerfile, Kind, ParseError, Stage, StageGraph, define_args};

/// Names that mean something else where a stage may be named.
const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn check_names(file: &Dockerfile, linter: &mut Linter<'_>) {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for stage in &file.stages {
        let Some(name) = &stage.name else { continue };
        let comments = &stage.from.comments;
        if RESERVED.contains(&name.as_str()) {
            linter.find(Rule::ReservedStageName, stage.span, comments, || {
                format!("{name} is a word of the language and no good name for a stage")
            });
        }
        if let Some(line) = seen.get(name.as_str()) {
            linter.find(Rule::DuplicateStageName, stage.span, comments, || {
                format!("the stage on line {line} is called {name} too; the last one counts")
            });
        }
        seen.insert(name, stage.span.line);
        if let [.., last] = comments.as_slice()
            && last.split(' ').next() != Some(name)
        {
            linter.find(
                Rule::InvalidDefinitionDescription,
                stage.span,
                comments,
                || format!("the comment above should begin with the stage's name: # {name} …"),
            );
        }
    }
}

/// The ARGs before the first FROM.
pub(super) struct Globals {
    /// With what the build was given.
    pub given: BTreeMap<String, Option<String>>,
    /// With their defaults alone.
    defaults: BTreeMap<String, Option<String>>,
}

impl Globals {
    pub(super) fn of(file: &Dockerfile, around: &dyn Surroundings) -> Result<Globals, ParseError> {
        Ok(Globals {
            given: global_args(file, around, true)?,
            defaults: global_args(file, around, false)?,
        })
    }

    /// The stages, with what the build was given.
    pub(super) fn graph(
        &self,
        file: &Dockerfile,
        around: &dyn Surroundings,
    ) -> Result<StageGraph, ParseError> {
        let given = |name: &str| self.given.get(name).cloned().flatten();
        file.stage_graph(&|name| given(name).or(around.automatic(name)))
    }
}

fn global_args(
    file: &Dockerfile,
    around: &dyn Surroundings,
    given: bool,
) -> Result<BTreeMap<String, Option<String>>, ParseError> {
    let mut values: BTreeMap<String, Option<String>> = BTreeMap::new();
    for instruction in &file.global_args {
        let Kind::Arg(args) = &instruction.kind else {
            continue;
        };
        let known = values.clone();
        let automatic = |name: &str| around.automatic(name);
        let environment = |name: &str| known.get(name).cloned().flatten().or(automatic(name));
        let from_outside = |name: &str| around.build_arg(name).filter(|_| given);
        let escape = file.directives.escape;
        let defined = define_args(
            instruction,
            args,
            &from_outside,
            &automatic,
            &environment,
            escape,
        )?;
        values.extend(defined.values);
    }
    Ok(values)
}

pub(super) fn check_from(
    file: &Dockerfile,
    around: &dyn Surroundings,
    globals: &Globals,
    linter: &mut Linter<'_>,
) {
    for stage in &file.stages {
        let checker = FromChecker {
            stage,
            around,
            globals,
            escape: file.directives.escape,
        };
        checker.default_name(linter);
        checker.image(linter);
        checker.platform(linter);
    }
}

struct FromChecker<'a> {
    stage: &'a Stage,
    around: &'a dyn Surroundings,
    globals: &'a Globals,
    escape: char,
}

impl FromChecker<'_> {
    /// What a word expands to; a mistake in it is told where stages are put together.
    fn expanded(&self, word: &str, values: &BTreeMap<String, Option<String>>) -> Option<Expanded> {
        let lookup = |name: &str| {
            values
                .get(name)
                .cloned()
                .flatten()
                .or(self.around.automatic(name))
        };
        expand(word, &lookup, self.escape).ok()
    }

    fn default_name(&self, linter: &mut Linter<'_>) {
        let from = &self.stage.from;
        let Some(expanded) = self.expanded(&from.image, &self.globals.defaults) else {
            return;
        };
        let varies = !expanded.found.is_empty() || !expanded.unset.is_empty();
        if varies && !self.around.is_image_name(&expanded.text) {
            let (rule, span) = (Rule::InvalidDefaultArgInFrom, self.stage.span);
            linter.find(rule, span, &from.comments, || match expanded.text.as_str() {
                "" => format!("{} is empty without a --build-arg; give its ARG a default", from.image),
                text => format!(
                    "{} is {text:?} without a --build-arg, which names no image; give its ARG a default",
                    from.image
                ),
            });
        }
    }

    fn image(&self, linter: &mut Linter<'_>) {
        if let Some(expanded) = self.expanded(&self.stage.from.image, &self.globals.given) {
            self.undeclared(&expanded.unset, linter);
        }
    }

    fn platform(&self, linter: &mut Linter<'_>) {
        let from = &self.stage.from;
        let (span, comments) = (self.stage.span, &from.comments);
        let Some(word) = &from.platform else { return };
        let Some(expanded) = self.expanded(word, &self.globals.given) else {
            return;
        };
        self.undeclared(&expanded.unset, linter);
        let target = "TARGETPLATFORM";
        if expanded.unset.is_empty()
            && expanded.found.iter().eq([target])
            && self.around.automatic(target).as_ref() == Some(&expanded.text)
        {
            linter.find(Rule::RedundantTargetPlatform, span, comments, || {
                format!("--platform={word} is what FROM does anyway; leave it out")
            });
        }
        if !expanded.found.is_empty() || !expanded.unset.is_empty() {
            return;
        }
        // A stage that says for which platform it is means it.
        let mut parts = expanded.text.split('/');
        let (first, second) = (parts.next().unwrap_or_default(), parts.next());
        let (os, architecture) = match second {
            Some(architecture) => (first, architecture),
            None => ("linux", first),
        };
        let named = |part: &str| {
            let name = self.stage.name.as_deref().unwrap_or_default();
            !part.is_empty() && name.contains(part)
        };
        if architecture.is_empty() || named(os) || named(architecture) {
            return;
        }
        let text = &expanded.text;
        linter.find(Rule::FromPlatformFlagConstDisallowed, span, comments, || {
            format!(
                "--platform={text} builds for one platform, whatever the build is for; use $BUILDPLATFORM or an ARG"
            )
        });
    }

    /// Tells of ARGs that nothing declares before the first FROM.
    fn undeclared(&self, unset: &BTreeSet<String>, linter: &mut Linter<'_>) {
        let declared = &self.globals.given;
        for name in unset.iter().filter(|name| !declared.contains_key(*name)) {
            let names = declared.keys().map(String::as_str);
            let names = names.chain(self.around.automatic_names().iter().copied());
            let hint = did_you_mean(&nearest(name, names));
            let (rule, span) = (Rule::UndefinedArgInFrom, self.stage.span);
            linter.find(rule, span, &self.stage.from.comments, || {
                format!("no ARG before the first FROM declares {name}{hint}")
            });
        }
    }
}

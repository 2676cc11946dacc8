//! The graph of stages: what each is made from, copies from, and mounts.
//!
//! ```text
//! FROM alpine AS tools          0   base: Image(alpine)
//! FROM tools AS build           1   base: Stage(0)
//! FROM scratch                  2   base: Scratch
//! COPY --from=build /a /a           references: [Stage(1)]
//! COPY --from=nginx /b /b                       [Image(nginx)]
//! ```
//!
//! Names are case-insensitive. A name means the nearest stage above that has it, so that a name
//! may be used twice, as docker allows. If only the stage itself or a later one has it, that is
//! an error, in `FROM` it is an image. A number means a stage, by its place in the file. What is
//! neither is a named context or an image: the caller's to find out.
//!
//! Invariant: every edge goes up the file, so the graph has no cycles.

use std::collections::BTreeSet;

use super::error::{did_you_mean, nearest};
use super::expand::{Lookup, expand};
use super::{Dockerfile, Instruction, Kind, ParseError, ParseErrorKind, Stage};

/// Where a `FROM`, `COPY --from` or `RUN --mount=from=` takes files from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StageSource {
    /// An earlier stage, by its index.
    Stage(usize),
    /// No stage: a named context or an image; which one is the caller's to find out.
    Image(String),
    /// `FROM scratch`, and `from=scratch`: nothing.
    Scratch,
}

/// One use of another stage or image by an instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reference {
    /// The index of the instruction in its stage.
    pub instruction: usize,
    /// The name as written.
    pub name: String,
    /// What it means.
    pub source: StageSource,
}

/// One stage in the graph.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StageNode {
    /// The stage's name in lower case.
    pub name: Option<String>,
    /// What `FROM` names.
    pub base: StageSource,
    /// `FROM --platform`, expanded.
    pub platform: Option<String>,
    /// What its instructions use, in order.
    pub references: Vec<Reference>,
    /// The global ARGs that its `FROM` looked up and found.
    pub found: BTreeSet<String>,
    /// The ones that it looked up and that have no value (lint rule `UndefinedArgInFrom`).
    pub unset: BTreeSet<String>,
}

/// The stages of a Dockerfile and what they need; always acyclic, every edge goes up the file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StageGraph {
    /// By the index of the stage.
    pub nodes: Vec<StageNode>,
}

/// `--target` that is no stage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "target stage {target:?} is not in the Dockerfile{}",
    did_you_mean(nearest)
)]
pub struct UnknownTarget {
    /// What was asked for.
    pub target: String,
    /// The nearest name.
    pub nearest: Option<String>,
}

impl Dockerfile {
    /// The graph of the stages. `global` answers the values of the global ARGs.
    pub fn stage_graph(&self, global: Lookup<'_>) -> Result<StageGraph, ParseError> {
        let mut nodes = Vec::with_capacity(self.stages.len());
        for (index, stage) in self.stages.iter().enumerate() {
            let mut node = self.node(index, stage, global)?;
            for (number, instruction) in stage.instructions.iter().enumerate() {
                for name in names_used_by(instruction) {
                    let source = self.source_named(index, name, instruction)?;
                    let (instruction, name) = (number, name.to_owned());
                    node.references.push(Reference {
                        instruction,
                        name,
                        source,
                    });
                }
            }
            nodes.push(node);
        }
        Ok(StageGraph { nodes })
    }

    /// The node of a stage with its `FROM` and no references yet.
    fn node(
        &self,
        index: usize,
        stage: &Stage,
        global: Lookup<'_>,
    ) -> Result<StageNode, ParseError> {
        let from = &stage.from;
        let fail = |kind| ParseError::about(kind, stage.span, &from.original);
        let escape = self.directives.escape;
        let expanded = |word: &str| {
            expand(word, global, escape).map_err(|error| fail(ParseErrorKind::Expand(error)))
        };
        let image = expanded(&from.image)?;
        if image.text.is_empty() {
            return Err(fail(ParseErrorKind::EmptyImage {
                word: from.image.clone(),
            }));
        }
        let (mut found, mut unset) = (image.found, image.unset);
        let mut platform = None;
        if let Some(word) = &from.platform {
            let value = expanded(word)?;
            if value.text.is_empty() {
                return Err(fail(ParseErrorKind::EmptyPlatform { word: word.clone() }));
            }
            found.extend(value.found);
            unset.extend(value.unset);
            platform = Some(value.text);
        }
        let base = match self.nearest_above(index, &image.text) {
            Some(stage) => StageSource::Stage(stage),
            None => image_or_scratch(&image.text),
        };
        let name = stage.name.clone();
        Ok(StageNode {
            name,
            base,
            platform,
            references: Vec::new(),
            found,
            unset,
        })
    }

    /// What `name` means in an instruction of stage `index`: `--from` of a `COPY`, `from` of a
    /// mount. Also for the triggers that the base image of that stage brings.
    pub fn source_named(
        &self,
        index: usize,
        name: &str,
        instruction: &Instruction,
    ) -> Result<StageSource, ParseError> {
        let too_late = |stage: usize| {
            let name = name.to_owned();
            instruction.error(if stage == index {
                ParseErrorKind::SelfReference { name }
            } else {
                let line = self.stages.get(stage).map_or(0, |stage| stage.span.line);
                ParseErrorKind::ForwardReference { name, line }
            })
        };
        if let Some(stage) = self.nearest_above(index, name) {
            return Ok(StageSource::Stage(stage));
        }
        if let Some(later) = self.stages.iter().position(|stage| has_name(stage, name)) {
            return Err(too_late(later));
        }
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(image_or_scratch(name));
        }
        match name.parse::<usize>() {
            Ok(number) if number < index => Ok(StageSource::Stage(number)),
            Ok(number) if number < self.stages.len() => Err(too_late(number)),
            other => {
                let number = other.map_or(u64::MAX, |number| number as u64);
                Err(instruction.error(ParseErrorKind::NoSuchStage {
                    number,
                    count: index,
                }))
            }
        }
    }

    /// The last stage before `index` that is called `name`.
    fn nearest_above(&self, index: usize, name: &str) -> Option<usize> {
        self.stages
            .iter()
            .take(index)
            .rposition(|stage| has_name(stage, name))
    }
}

fn has_name(stage: &Stage, name: &str) -> bool {
    stage
        .name
        .as_ref()
        .is_some_and(|own| own.eq_ignore_ascii_case(name))
}

fn image_or_scratch(name: &str) -> StageSource {
    if name == "scratch" {
        StageSource::Scratch
    } else {
        StageSource::Image(name.to_owned())
    }
}

/// The names of stages, contexts or images that an instruction takes files from.
fn names_used_by(instruction: &Instruction) -> Vec<&str> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.as_deref().into_iter().collect(),
        Kind::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| mount.from.as_deref())
            .collect(),
        _ => Vec::new(),
    }
}

impl StageGraph {
    /// The index of the stage that `target` names, by name or number; without a target the last.
    pub fn target(&self, target: Option<&str>) -> Result<usize, UnknownTarget> {
        let Some(target) = target.filter(|target| !target.is_empty()) else {
            return Ok(self.nodes.len().saturating_sub(1));
        };
        let named = |node: &StageNode| {
            node.name
                .as_ref()
                .is_some_and(|name| name.eq_ignore_ascii_case(target))
        };
        let numbered = || {
            target
                .parse::<usize>()
                .ok()
                .filter(|index| *index < self.nodes.len())
        };
        self.nodes
            .iter()
            .rposition(named)
            .or_else(numbered)
            .ok_or_else(|| {
                let names = self.nodes.iter().filter_map(|node| node.name.as_deref());
                UnknownTarget {
                    target: target.to_owned(),
                    nearest: nearest(target, names),
                }
            })
    }

    /// The stages that `target` needs, itself included, in the order of the file.
    pub fn needed(&self, target: usize) -> Vec<usize> {
        let mut needed = vec![false; self.nodes.len()];
        if let Some(flag) = needed.get_mut(target) {
            *flag = true;
        }
        // Edges go up the file: by the time a stage is reached, all that need it are known.
        for index in (0..self.nodes.len()).rev().filter(|index| *index <= target) {
            if !needed[index] {
                continue;
            }
            for earlier in self.nodes[index].stages() {
                needed[earlier] = true;
            }
        }
        (0..self.nodes.len())
            .filter(|index| needed[*index])
            .collect()
    }
}

impl StageNode {
    /// The stages that this one needs directly; one may come several times.
    pub fn stages(&self) -> impl Iterator<Item = usize> {
        let references = self.references.iter().map(|reference| &reference.source);
        std::iter::once(&self.base)
            .chain(references)
            .filter_map(|source| match source {
                StageSource::Stage(index) => Some(*index),
                _ => None,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    fn graph(text: &str) -> Result<StageGraph, String> {
        let global = |name: &str| (name == "BASE").then(|| "tools".to_owned());
        parse(text.as_bytes())
            .unwrap()
            .stage_graph(&global)
            .map_err(|error| error.to_string())
    }

    fn refused(text: &str) -> String {
        graph(text).unwrap_err()
    }

    const FILE: &str = "ARG BASE\n\
        FROM alpine AS Tools\n\
        FROM $BASE AS build\n\
        FROM busybox AS unused\n\
        COPY --from=tools /a /a\n\
        FROM scratch\n\
        COPY --from=BUILD /a /a\n\
        COPY --from=nginx /b /b\n\
        RUN --mount=from=0,target=/x true\n";

    #[test]
    fn a_target_needs_what_it_copies_mounts_and_is_made_from() {
        let graph = graph(FILE).unwrap();
        assert_eq!(graph.nodes[1].base, StageSource::Stage(0));
        assert_eq!(graph.nodes[3].base, StageSource::Scratch);
        let sources: Vec<_> = graph.nodes[3]
            .references
            .iter()
            .map(|r| &r.source)
            .collect();
        let nginx = StageSource::Image("nginx".into());
        assert_eq!(
            sources,
            [&StageSource::Stage(1), &nginx, &StageSource::Stage(0)]
        );
        assert_eq!(graph.needed(3), [0, 1, 3]);
        assert_eq!(graph.needed(2), [0, 2]);
        assert_eq!(graph.needed(0), [0]);
    }

    #[test]
    fn a_target_has_a_name_or_a_number() {
        let graph = graph(FILE).unwrap();
        assert_eq!(graph.target(None), Ok(3));
        assert_eq!(graph.target(Some("TOOLS")), Ok(0));
        assert_eq!(graph.target(Some("2")), Ok(2));
        let error = graph.target(Some("biuld")).unwrap_err();
        assert!(
            error.to_string().ends_with("; did you mean build?"),
            "{error}"
        );
        assert!(
            graph
                .target(Some("4"))
                .unwrap_err()
                .to_string()
                .ends_with("in the Dockerfile")
        );
    }

    #[test]
    fn the_nearest_stage_above_has_the_name() {
        let graph =
            graph("FROM a AS x\nFROM b AS x\nFROM x AS x\nFROM x\nCOPY --from=x a b").unwrap();
        assert_eq!(graph.nodes[2].base, StageSource::Stage(1));
        assert_eq!(graph.nodes[3].base, StageSource::Stage(2));
        assert_eq!(graph.nodes[3].references[0].source, StageSource::Stage(2));
        assert_eq!(graph.target(Some("x")), Ok(2));
    }

    #[test]
    fn a_stage_may_have_the_name_of_its_base_image() {
        let graph = graph("FROM alpine AS alpine\nFROM later\nFROM b AS later").unwrap();
        assert_eq!(graph.nodes[0].base, StageSource::Image("alpine".into()));
        assert_eq!(graph.nodes[1].base, StageSource::Image("later".into()));
    }

    #[test]
    fn what_comes_later_or_never_is_refused_with_its_place() {
        let error = refused("FROM a\n  COPY --from=z a b\nFROM b AS z");
        assert!(error.starts_with("2:3: z is a stage that comes later, on line 3"));
        let error = refused("FROM a AS x\nRUN --mount=from=x,target=/y true");
        assert!(
            error.starts_with("2:1: x is the stage that this"),
            "{error}"
        );
        let error = refused("FROM a\nCOPY --from=0 a b");
        assert!(error.contains("0 is the stage that this"), "{error}");
        let error = refused("FROM a\nFROM b\nCOPY --from=5 a b");
        assert!(error.contains("no stage number 5; the stages before this one are 0 alone"));
        let error = refused("FROM a\nCOPY --from=1 a b\nFROM b");
        assert!(
            error.contains("1 is a stage that comes later, on line 3"),
            "{error}"
        );
    }

    #[test]
    fn a_base_that_expands_to_nothing_is_refused() {
        assert!(refused("FROM $nothing").contains("$nothing expands to nothing"));
        assert!(refused("FROM --platform=$nothing a").contains("--platform=$nothing expands"));
        assert!(refused("FROM a\nFROM ${b").starts_with("2:6: cannot expand"));
    }
}

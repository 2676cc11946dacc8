//! The graph of stages: what each is made from and copies from.

use std::collections::BTreeSet;

use super::expand::Lookup;
use super::{Dockerfile, ParseError};

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
    /// What `FROM` names.
    pub base: StageSource,
    /// `FROM --platform`, expanded.
    pub platform: Option<String>,
    /// What its instructions use, in order.
    pub references: Vec<Reference>,
    /// The global ARGs that its `FROM` looked up and found.
    pub found: BTreeSet<String>,
}

/// The stages of a Dockerfile and what they need; always acyclic, every edge goes up the file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StageGraph {
    /// By the index of the stage.
    pub nodes: Vec<StageNode>,
    names: Vec<Option<String>>,
}

/// `--target` that is no stage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("target stage {target:?} is not in the Dockerfile; did you mean {nearest:?}?")]
pub struct UnknownTarget {
    /// What was asked for.
    pub target: String,
    /// The nearest name.
    pub nearest: Option<String>,
}

impl Dockerfile {
    /// The graph of the stages. `global` answers the values of the global ARGs.
    pub fn stage_graph(&self, _global: Lookup<'_>) -> Result<StageGraph, ParseError> {
        todo!()
    }
}

impl StageGraph {
    /// The index of the stage that `target` names, by name or number; without a target the last.
    pub fn target(&self, _target: Option<&str>) -> Result<usize, UnknownTarget> {
        todo!()
    }

    /// The stages that `target` needs, itself included, in the order of the file.
    pub fn needed(&self, _target: usize) -> Vec<usize> {
        todo!()
    }

    /// What a `--from` name means in an instruction of stage `stage`: for the triggers of a base
    /// image. `Err` is the index of a stage that comes too late: `stage` itself or a later one.
    pub fn resolve_from(&self, _stage: usize, _name: &str) -> Result<StageSource, usize> {
        todo!()
    }
}

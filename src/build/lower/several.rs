//! Lowering for several platforms: one graph, in which what is the same for all stands once.
//!
//! ```text
//! FROM --platform=$BUILDPLATFORM go AS tools ── the same for each: one stage
//! FROM --platform=$BUILDPLATFORM tools AS build; ARG TARGETARCH …  ── one for each platform
//! FROM base; COPY --from=build …                                   ── one for each platform
//! ```
//! Stages are the same if every word of theirs is: what they stand on, their steps, the stages that
//! these copy from.

use super::{lower, number};
use crate::build::error::Error;
use crate::build::options::Options;
use crate::build::plan::{BuildGraph, ResolveBase, StagePlan};
use crate::dockerfile::Dockerfile;
use crate::oci::Platform;

/// Lowers a Dockerfile for each of `platforms`; the targets of the graph are in their order.
pub fn lower_all(
    dockerfile: &Dockerfile,
    name: &str,
    options: &Options,
    platforms: &[Platform],
    images: &mut dyn ResolveBase,
) -> Result<BuildGraph, Error> {
    let mut whole: Option<BuildGraph> = None;
    for platform in platforms {
        let options = Options {
            platform: platform.clone(),
            ..options.clone()
        };
        let mut graph = lower(dockerfile, name, &options, images)?;
        graph.stages.iter_mut().flatten().for_each(unnumber);
        whole = Some(match whole {
            Some(whole) => join(whole, graph),
            None => graph,
        });
    }
    let mut whole = match whole {
        Some(whole) => whole,
        None => return lower(dockerfile, name, options, images),
    };
    for stage in whole.stages.iter_mut().flatten() {
        let label = &stage.steps.first().map(|step| step.info.stage.clone());
        let label = label.as_deref().unwrap_or_default();
        let label = match platforms {
            [_] => label.to_owned(),
            _ => format!("{} {label}", stage.platform),
        };
        for step in &mut stage.steps {
            step.info.stage.clone_from(&label);
        }
    }
    number(&mut whole.stages);
    Ok(whole)
}

/// Numbers say where a step stands in its graph, not what it is.
fn unnumber(stage: &mut StagePlan) {
    for step in &mut stage.steps {
        step.info.number = 0;
    }
}

fn join(mut whole: BuildGraph, graph: BuildGraph) -> BuildGraph {
    let text = |stage: &StagePlan| format!("{stage:?}");
    let mut known: Vec<(String, usize)> = Vec::new();
    for (index, stage) in whole.stages.iter().enumerate() {
        known.extend(stage.as_ref().map(|stage| (text(stage), index)));
    }
    // Where each stage of `graph` is in `whole`; a stage stands on earlier ones only.
    let mut places = vec![0; graph.stages.len()];
    for (index, stage) in graph.stages.into_iter().enumerate() {
        let Some(mut stage) = stage else { continue };
        stage.each_stage(&mut |other| *other = places[*other]);
        let told = text(&stage);
        places[index] = match known.iter().find(|(other, _)| *other == told) {
            Some((_, place)) => *place,
            None => {
                whole.stages.push(Some(stage));
                whole.stages.len() - 1
            }
        };
    }
    let targets = graph.targets.into_iter().map(|target| places[target]);
    whole.targets.extend(targets);
    for warning in graph.warnings {
        if !whole.warnings.contains(&warning) {
            whole.warnings.push(warning);
        }
    }
    whole
}

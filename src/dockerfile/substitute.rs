//! Which fields of which instruction are expanded.

use std::collections::BTreeSet;

use super::expand::Lookup;
use super::{ArgDefinition, Instruction, ParseError};

/// An instruction whose words are final, and the variables that it depended on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandedInstruction {
    /// The instruction, expanded.
    pub instruction: Instruction,
    /// The variables it looked up that had a value: what a cache key depends on.
    pub found: BTreeSet<String>,
    /// The variables it looked up that had none (lint rule `UndefinedVar`).
    pub unset: BTreeSet<String>,
}

impl Instruction {
    /// This instruction with everything expanded that docker expands, and nothing else.
    ///
    /// `lookup` answers from the stage's environment (ENV and ARG) before the instruction.
    /// `ARG` is expanded as if nobody had given values; [`define_args`] takes those.
    pub fn expand(
        &self,
        _lookup: Lookup<'_>,
        _escape: char,
    ) -> Result<ExpandedInstruction, ParseError> {
        todo!()
    }
}

/// The value that each name of one `ARG` instruction gets, in order: `given` (`--build-arg`),
/// else its default expanded by `environment` and the names before it, else `inherited` (for an
/// `ARG` in a stage: the global one). `None` leaves the name declared but unset.
pub fn define_args(
    _instruction: &Instruction,
    _args: &[ArgDefinition],
    _given: Lookup<'_>,
    _inherited: Lookup<'_>,
    _environment: Lookup<'_>,
    _escape: char,
) -> Result<DefinedArgs, ParseError> {
    todo!()
}

/// What [`define_args`] answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DefinedArgs {
    /// Each name and its value.
    pub values: Vec<(String, Option<String>)>,
    /// The variables that the defaults looked up that had a value.
    pub found: BTreeSet<String>,
    /// The variables that the defaults looked up that had none.
    pub unset: BTreeSet<String>,
}

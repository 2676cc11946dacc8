//! Dockerfiles: text to typed instructions with spans, expansion of variables, stage graph,
//! ignore patterns. No I/O, no clock, no environment: data in, data out.
//!
//! ```text
//! bytes ──lines──> logical lines ──instruction──> Dockerfile ──stages──> StageGraph
//!        (continuations,          (flags, words,      │
//!         comments, heredocs)      JSON, mounts)      │ Instruction::expand(environment)
//!                                                     v
//!                                            final instructions
//! ```
//!
//! The language is that of BuildKit's stable Dockerfile reference, with its quirks: where its
//! reference and its behaviour differ, its behaviour decides, since that is what people's files
//! were tried with. `# syntax=` is noted and changes nothing.
//!
//! Invariants:
//!
//! - No input makes [`parse`], an expansion or a match panic; property tests try.
//! - What is no mistake and likely not meant is [`lint`]'s to say, by BuildKit's rules.
//! - Every error has a line and a column, quotes the line, and says what would be right.
//! - A parsed instruction is unexpanded; [`Instruction::expand`] expands in exactly the fields
//!   where docker does, and says which variables it looked up.

mod ast;
mod error;
pub mod expand;
mod flags;
pub mod glob;
mod heredoc;
pub mod ignore;
mod instruction;
mod keywords;
mod lines;
pub mod lint;
mod mounts;
mod parser;
mod quantity;
mod stages;
mod substitute;
mod words;

pub use ast::*;
pub use error::{MountProblem, ParseError, ParseErrorKind};
pub use parser::{parse, parse_instruction};
pub use stages::{Reference, StageGraph, StageNode, StageSource, UnknownTarget};
pub use substitute::{DefinedArgs, ExpandedInstruction, define_args};

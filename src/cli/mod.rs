//! The command line: words in, words out. The library below it neither prints nor reads the
//! clock or the environment; here both is done.
//!
//! ```text
//! main ─▶ parse ─▶ run ─▶ commands::VERB ─▶ store, graph, gc, build …
//!            │       │          └─▶ render, progress ─▶ stdout, stderr
//!            │       └─ user namespace, before there is a second thread
//!            └─────────▶ exit ─▶ the exit code
//! ```
//! | file | owns |
//! |---|---|
//! | [`args`] | the words of the command line, as clap types |
//! | [`config`] | configuration files: defaults for flags, prune policies by name |
//! | [`commands`] | a verb a file |
//! | [`completion`] | what a shell completes |
//! | [`context`] | what every command holds: the root, the output, the terminal, the time |
//! | [`exit`] | errors told to people, and the exit codes: in this one place |
//! | [`filter`] | the filter engine of lists and prunes |
//! | [`generated`] | manual pages and completion scripts, made of the arguments |
//! | [`host`] | what the store asks of its surroundings |
//! | [`output`] | archives that leave by stdout or a file |
//! | [`progress`] | a build's events shown |
//! | [`registries`] | registries as the environment and the command line have them |
//! | [`render`] | tables, JSON, templates, trees, sizes, times |
//! | [`ui`] | the store in a terminal |
//!
//! Tables and what scripts read go to stdout; progress, notices and errors to stderr.

use std::ffi::OsString;

pub mod args;
pub mod commands;
pub mod completion;
pub mod config;
pub mod context;
pub mod exit;
pub mod filter;
pub mod generated;
pub mod host;
pub mod output;
pub mod progress;
pub mod registries;
pub mod render;
pub mod ui;

pub use args::Cli;
pub use context::Context;

/// What commands return.
pub type Result<T = (), E = anyhow::Error> = std::result::Result<T, E>;

/// Reads a command line.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    args::lazy::parse(arguments.into_iter().collect())
}

/// Runs one command.
pub fn run(arguments: Cli) -> Result {
    // Where a user's store is must be known before the namespace makes everybody root in it.
    let mut context = Context::new(&arguments.global, arguments.command.is_configured())?;
    enter_namespace(&arguments.command)?;
    let frees = matches!(
        arguments.command,
        args::Command::Prune(_) | args::Command::Rmi(_)
    );
    let mut done = commands::run(arguments.command, &mut context);
    if let Err(error) = done {
        done = Err(commands::space::advise(error, frees, &context));
    }
    // What was written belongs to the reader even where the command then failed.
    let flushed = context.flush();
    done.and(flushed)
}

/// Snapshots and containers hold files of many owners: without root, only a user namespace lets
/// us make, count and remove them. It can only be entered by a process of one thread.
fn enter_namespace(command: &args::Command) -> Result {
    use crate::executor::userns;
    if !command.touches_snapshots() || !userns::needed() {
        return Ok(());
    }
    match userns::enter() {
        Ok(_) => Ok(()),
        Err(error) if command.runs_steps() => Err(error.into()),
        // Looking and cleaning still work on what is the user's own; what isn't will be told.
        Err(_) => Ok(()),
    }
}

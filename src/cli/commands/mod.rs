//! The verbs, a file each: its arguments, what it does, what it prints.

use super::args::Command;
use super::{Context, Result};

pub mod build;
pub mod cat;
pub mod check;
pub mod completions;
pub mod copy;
pub mod df;
mod df_metrics;
pub mod diff;
pub mod diff_layers;
pub mod export;
pub mod fsck;
pub mod graph;
pub mod history;
pub mod image_files;
pub mod images;
pub mod import;
pub mod inspect;
pub mod layers;
pub mod load;
pub mod log;
pub mod login;
pub mod ls;
mod output_file;
pub mod outputs;
pub mod pin;
pub mod prune;
pub mod ps;
pub mod pull;
pub mod push;
pub mod referrers;
pub mod removal;
pub mod report;
pub mod rmi;
pub mod save;
pub mod shell;
pub mod sources;
pub mod space;
pub mod tag;
pub mod ui;
pub mod untag;
pub mod version;
pub mod view;
pub mod wasted;
pub mod why;

/// Runs one command.
pub fn run(command: Command, context: &mut Context) -> Result {
    match command {
        Command::Build(mut arguments) => {
            context.config.fill(&mut arguments);
            build::run(&arguments, context)
        }
        Command::Pull(arguments) => pull::run(&arguments, context),
        Command::Push(arguments) => push::run(&arguments, context),
        Command::Copy(arguments) => copy::run(&arguments, context),
        Command::Login(arguments) => login::login(&arguments, context),
        Command::Logout(arguments) => login::logout(&arguments, context),
        Command::Import(arguments) => import::run(&arguments, context),
        Command::Load(arguments) => load::run(&arguments, context),
        Command::Save(arguments) => save::run(&arguments, context),
        Command::Export(arguments) => export::run(&arguments, context),
        Command::Images(arguments) => images::run(&arguments, context),
        Command::History(arguments) => history::run(&arguments, context),
        Command::Inspect(arguments) => inspect::run(&arguments, context),
        Command::Referrers(arguments) => referrers::run(&arguments, context),
        Command::Ls(arguments) => ls::run(&arguments, context),
        Command::Cat(arguments) => cat::run(&arguments, context),
        Command::Diff(arguments) => diff::run(&arguments, context),
        Command::Graph(arguments) => graph::run(&arguments, context),
        Command::Layers(arguments) => layers::run(&arguments, context),
        Command::Why(arguments) => why::run(&arguments, context),
        Command::Df(arguments) => df::run(&arguments, context),
        Command::Report(arguments) => report::run(&arguments, context),
        Command::Ps(arguments) => ps::run(&arguments, context),
        Command::Log(arguments) => log::run(&arguments, context),
        Command::Tag(arguments) => tag::run(&arguments, context),
        Command::Untag(arguments) => untag::run(&arguments, context),
        Command::Rmi(arguments) => rmi::run(&arguments, context),
        Command::Pin(arguments) => pin::pin(&arguments, context),
        Command::Unpin(arguments) => pin::unpin(&arguments, context),
        Command::Prune(arguments) => prune::run(&arguments, context),
        Command::Fsck(arguments) => fsck::run(&arguments, context),
        Command::Shell(arguments) => shell::run(&arguments, context),
        Command::Ui(arguments) => ui::run(&arguments, context),
        Command::Completions(arguments) => completions::run(&arguments, context),
        Command::Version(arguments) => version::run(&arguments, context),
    }
}

//! The words of the command line.
//!
//! Each verb's own arguments stand in its file under [`super::commands`]; here are the tree of
//! verbs, what all of them take, and what all lists take. `build`'s are many, and in [`build`].
//! A flag that does nothing yet is not here: it is refused, not ignored.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub mod build;
pub mod cache;
pub mod lazy;
pub mod output;
pub mod referrers;
pub mod registry;
pub mod secrets;
pub mod sources;
pub mod values;

use super::commands;
use super::render::Format;
pub use build::BuildArgs;
use lazy::Lazy;

/// Build container images without a daemon, see into the store, and clean it safely.
#[derive(Debug, Parser)]
#[command(
    name = "rstore",
    version,
    after_help = "Exit codes: 0 done, 1 error, 2 usage, 4 corruption found, 5 partly done, \
                  75 busy, 130 or 143 interrupted; build: that of the failed RUN; shell: that of \
                  the command."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// What every verb takes.
#[derive(Debug, Clone, clap::Args)]
pub struct GlobalArgs {
    /// The store's directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]
    #[arg(
        long,
        global = true,
        display_order = 900,
        value_name = "DIR",
        env = "RSTORE_ROOT",
        hide_env_values = true
    )]
    pub root: Option<PathBuf>,
    /// The configuration [default: /etc/rstore/config.toml, then $XDG_CONFIG_HOME/rstore/config.toml]
    #[arg(
        long,
        global = true,
        display_order = 902,
        value_name = "FILE",
        env = "RSTORE_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    /// Show no progress, only results and what fails
    #[arg(long, global = true, display_order = 901)]
    pub no_progress: bool,
}

/// The verbs; what each is for stands above its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    Build(Box<Lazy<BuildArgs>>),
    Pull(Lazy<commands::pull::Args>),
    Push(Lazy<commands::push::Args>),
    Copy(Lazy<commands::copy::Args>),
    Login(Lazy<commands::login::LoginArgs>),
    Logout(Lazy<commands::login::LogoutArgs>),
    Import(Lazy<commands::import::Args>),
    Load(Lazy<commands::load::Args>),
    Save(Lazy<commands::save::Args>),
    Export(Lazy<commands::export::Args>),
    Images(Lazy<commands::images::Args>),
    History(Lazy<commands::history::Args>),
    Inspect(Lazy<commands::inspect::Args>),
    Referrers(Lazy<commands::referrers::Args>),
    Ls(Lazy<commands::ls::Args>),
    Cat(Lazy<commands::cat::Args>),
    Diff(Lazy<commands::diff::Args>),
    Graph(Lazy<commands::graph::Args>),
    Layers(Lazy<commands::layers::Args>),
    Why(Lazy<commands::why::Args>),
    Df(Lazy<commands::df::Args>),
    Report(Lazy<commands::report::Args>),
    Ps(Lazy<commands::ps::Args>),
    Log(Lazy<commands::log::Args>),
    Tag(Lazy<commands::tag::Args>),
    Untag(Lazy<commands::untag::Args>),
    Rmi(Lazy<commands::rmi::Args>),
    Pin(Lazy<commands::pin::Args>),
    /// No longer keep an image for its pin
    Unpin(Lazy<commands::pin::Args>),
    Prune(Box<Lazy<commands::prune::Args>>),
    Fsck(Lazy<commands::fsck::Args>),
    Shell(Lazy<commands::shell::Args>),
    Ui(Lazy<commands::ui::Args>),
    Completions(Lazy<commands::completions::Args>),
    Version(Lazy<commands::version::Args>),
}

impl Command {
    /// Whether it has a use for the configuration; others work where that is broken, too.
    pub fn is_configured(&self) -> bool {
        !matches!(self, Command::Completions(_) | Command::Version(_))
    }

    /// Whether it makes, counts or removes files of other owners than the user.
    pub fn touches_snapshots(&self) -> bool {
        matches!(
            self,
            Command::Build(_)
                | Command::Df(_)
                | Command::Report(_)
                | Command::Ps(_)
                | Command::Rmi(_)
                | Command::Prune(_)
                | Command::Shell(_)
                | Command::Ui(_)
        )
    }

    /// Whether it cannot do without a user namespace where the user isn't root.
    pub fn runs_steps(&self) -> bool {
        match self {
            Command::Build(arguments) => arguments.call() == build::Call::Build,
            Command::Shell(_) => true,
            _ => false,
        }
    }
}

/// What every list takes.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// table, json, jsonl, or a template such as '{{.ID}} {{.Size}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Print IDs only
    #[arg(short, long)]
    pub quiet: bool,
    /// Print IDs, digests and texts in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Print sizes in bytes
    #[arg(long)]
    pub bytes: bool,
    /// Sort by a column, named in lower case: 'size', 'size:desc'
    #[arg(long, value_name = "KEY[:desc]")]
    pub sort: Option<values::SortKey>,
    /// Show only what matches
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
}

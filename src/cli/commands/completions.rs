//! `rstore completions`: a shell's completion script.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, Context, Result};

/// Print a shell's completion script
///
/// Prints a completion script, to be read by the shell at its start.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore completions bash > /etc/bash_completion.d/rstore
  rstore completions zsh > ~/.zfunc/_rstore
  rstore completions fish > ~/.config/fish/completions/rstore.fish")]
pub struct Args {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", value_parser = shell)]
    pub shell: Shell,
}

fn shell(text: &str) -> Result<Shell, String> {
    match text {
        "bash" => Ok(Shell::Bash),
        "zsh" => Ok(Shell::Zsh),
        "fish" => Ok(Shell::Fish),
        _ => Err("a shell is bash, zsh or fish".to_owned()),
    }
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    clap_complete::generate(
        arguments.shell,
        &mut Cli::command(),
        "rstore",
        &mut context.out,
    );
    Ok(())
}

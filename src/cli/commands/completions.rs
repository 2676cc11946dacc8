//! `rstore completions`: a shell's completion script.

use std::io::Write;

use clap_complete::Shell;

use crate::cli::{Context, Result, completion};

/// Print a shell's completion script
///
/// Prints a completion script, to be read by the shell at its start. It asks the program: verbs,
/// options, and names and IDs of the images in the store that the line names.
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
    let mut scripts = completion::SCRIPTS.into_iter();
    if let Some((.., script)) = scripts.find(|(shell, ..)| *shell == arguments.shell) {
        context.out.write_all(script.as_bytes())?;
    }
    Ok(())
}

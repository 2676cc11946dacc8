//! The program: parses its arguments, runs the command, and ends with the code that says how it
//! went. Which code means what is [`rstore::cli::exit`]'s alone.

use std::process::ExitCode;

use rstore::cli;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(arguments) => cli::exit::end(cli::run(arguments)),
        Err(error) => cli::exit::usage(&error),
    }
}

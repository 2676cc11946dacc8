//! The program: parses its arguments, runs the command, and ends with the code that says how it
//! went. Which code means what is [`rstore::cli::exit`]'s alone.

use std::ffi::OsString;
use std::process::ExitCode;

use rstore::cli;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if cli::completion::is_asked(&words) {
        cli::completion::answer(&words);
        return ExitCode::SUCCESS;
    }
    match cli::parse(words) {
        Ok(arguments) => cli::exit::end(cli::run(arguments)),
        Err(error) => cli::exit::usage(&error),
    }
}

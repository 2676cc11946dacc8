//! Archives that leave by standard output or by a file.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use super::{Context, Result, exit};
pub use crate::archive::target::NEVER;
use crate::archive::target::{Stop, Target};
use crate::fsutil::IoContext;

/// What errors call standard output.
pub const STDOUT: &str = "stdout";

/// Whether a path means standard output; so does none.
pub fn is_stdout(path: Option<&Path>) -> bool {
    path.is_none_or(|path| path == Path::new("-"))
}

/// Refuses to write an archive to somebody's screen.
pub fn refuse_terminal(context: &Context) -> Result {
    match context.terminal.stdout {
        true => Err(exit::usage_error(
            "an archive would be written to stdout, and that is a terminal: name a file, or pipe it on",
        )),
        false => Ok(()),
    }
}

/// A file, or `-`.
pub fn target<'a>(path: &Path, stop: Stop<'a>) -> Result<Target<'a>> {
    if !is_stdout(Some(path)) {
        return Ok(Target::file(path, stop)?);
    }
    // Not through the buffer of lines that the standard library puts before it.
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    let stdout = File::from(stdout.at("open", STDOUT)?);
    Ok(Target::stream(Box::new(stdout), STDOUT, stop))
}

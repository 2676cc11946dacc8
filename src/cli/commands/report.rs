//! `rstore report`: the store as one page.

mod gather;
mod tiles;

use std::io::Write;
use std::path::PathBuf;

use super::view::View;
use crate::archive::target;
use crate::cli::render::report::Disk;
use crate::cli::{Context, Result, output};

/// Write a page that shows where the bytes are
///
/// Writes one HTML file that needs no network and no other file: a map of the disk whose areas are
/// allocated bytes and add up to what `df` says, what the prune of each scope would free, what
/// descends from what, and tables of images, layers and past builds that sort and are searched.
///
/// On a large store the page holds what is largest, and says what it leaves out. A file appears
/// whole or not at all.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore report -o report.html
  rstore report -o - | ssh desk 'cat > store.html'")]
pub struct Args {
    /// The file; - is stdout
    #[arg(short, long, value_name = "FILE|-")]
    pub output: PathBuf,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let view = View::open(context)?;
    let disk = rustix::fs::statvfs(view.store.root())
        .ok()
        .map(|stat| Disk {
            size: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
        });
    let page = gather::report(view, disk, context.now)?.html()?;
    if output::is_stdout(Some(&arguments.output)) {
        return Ok(context.out.write_all(page.as_bytes())?);
    }
    Ok(target::write_file(&arguments.output, page.as_bytes())?)
}

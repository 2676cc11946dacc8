//! What is generated from the command line's own definition and committed: manual pages and
//! completion scripts. `cargo run --example generate` writes them; a test holds them against this.

use std::io;

use clap::CommandFactory;
use clap_mangen::Man;

use super::{Cli, completion};

/// A file, by its path in the package.
pub struct File {
    /// `man/rstore-prune.1`, `completions/_rstore`.
    pub path: String,
    /// What it holds.
    pub content: Vec<u8>,
}

/// Every file.
pub fn files() -> io::Result<Vec<File>> {
    let mut files = manual_pages()?;
    for (_, name, script) in completion::SCRIPTS {
        files.push(File {
            path: format!("completions/{name}"),
            content: script.as_bytes().to_vec(),
        });
    }
    Ok(files)
}

/// `rstore.1`, and one page a verb.
fn manual_pages() -> io::Result<Vec<File>> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut pages = vec![page(root.clone())?];
    for verb in root.get_subcommands() {
        let name = format!("rstore-{}", verb.get_name());
        pages.push(page(verb.clone().display_name(name))?);
    }
    Ok(pages)
}

fn page(command: clap::Command) -> io::Result<File> {
    let name = command
        .get_display_name()
        .unwrap_or(command.get_name())
        .to_owned();
    let mut content = Vec::new();
    Man::new(command)
        .manual("rstore")
        .source(concat!("rstore ", env!("CARGO_PKG_VERSION")))
        .render(&mut content)?;
    Ok(File {
        path: format!("man/{name}.1"),
        content,
    })
}

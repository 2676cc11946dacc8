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
    files.push(config_page());
    files.push(cache_page());
    for (_, name, script) in completion::SCRIPTS {
        files.push(File {
            path: format!("completions/{name}"),
            content: script.as_bytes().to_vec(),
        });
    }
    Ok(files)
}

/// `rstore-config.5`: what the configuration may say, and the example that says it.
fn config_page() -> File {
    const EXAMPLE: &str = include_str!("../../contrib/config.toml");
    // roff takes a dot or a quote at the beginning of a line for a request, a backslash for more.
    let example: String = EXAMPLE
        .lines()
        .map(|line| format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-")))
        .collect();
    let content = format!(
        ".TH rstore\\-config 5 \"\" \"rstore {}\" rstore\n\
         .SH NAME\nrstore\\-config \\- the configuration of rstore, and its prune policies\n\
         .SH FILES\n/etc/rstore/config.toml, then $XDG_CONFIG_HOME/rstore/config.toml; or the one that\n\
         \\-\\-config or RSTORE_CONFIG names.\n\
         .SH CONTENT\nTOML. An example with every key:\n.PP\n.nf\n{example}.fi\n\
         .SH SEE ALSO\nrstore(1), rstore\\-prune(1), rstore\\-build(1)\n",
        env!("CARGO_PKG_VERSION"),
    );
    File {
        path: "man/rstore-config.5".to_owned(),
        content: content.into_bytes(),
    }
}

/// `rstore-cache.7`: running a cache that many hosts share.
fn cache_page() -> File {
    const PAGE: &str = include_str!("pages/rstore-cache.7");
    File {
        path: "man/rstore-cache.7".to_owned(),
        content: PAGE
            .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
            .into_bytes(),
    }
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

//! `rstore untag`: names go, and nothing else.

use std::io::Write;

use crate::cli::{Context, Result};
use crate::store::{Error, Store};

/// Take names away, and nothing else
///
/// Takes names away. The images stay until a prune takes those that nothing else keeps.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore untag app:old
  rstore untag app:1 app:2")]
pub struct Args {
    /// The names
    #[arg(value_name = "NAME[:TAG]", required = true)]
    pub names: Vec<String>,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    let store = context.open_to_write()?;
    let names: Vec<String> = arguments
        .names
        .iter()
        .map(|name| stored_name(&store, name))
        .collect::<Result<_>>()?;
    store.untag(&names)?;
    for name in names {
        writeln!(context.out, "Untagged: {name}")?;
    }
    Ok(())
}

/// The stored form of a name: as it was written, if something is stored so, else its familiar form.
fn stored_name(store: &Store, text: &str) -> Result<String> {
    let known = |name: &str| store.catalog().read(|tx| tx.tag(name));
    if known(text)?.is_some() {
        return Ok(text.to_owned());
    }
    let name = Store::tag_name(text)?;
    if known(&name)?.is_some() {
        return Ok(name);
    }
    // The search finds no such name either, and knows which one is spelled almost like it.
    match store.find(text) {
        Err(error) => Err(error.into()),
        Ok(digest) => Err(Error::NotAnImage {
            what: text.to_owned(),
            why: format!("it is not a name, but leads to {digest}"),
        }
        .into()),
    }
}

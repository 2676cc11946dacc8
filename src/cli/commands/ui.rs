//! `rstore ui`: the store in a terminal.

use rustix::fs::{Access, access};

use crate::cli::ui::{self, work};
use crate::cli::{Context, Result, exit};
use crate::store::Store;

/// Look into the store, and clean it, in a terminal interface
///
/// Shows images, what descends from what, layers, files and what the disk is used for; marks
/// images, shows what their removal would free, and removes them after a question.
///
/// What would be freed is what `rstore rmi` would free: images that others still need stay, and it
/// is told what needs them. Nothing is removed without a yes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Keys: j k move, Enter goes in, Backspace back, Tab another view, space marks, x removes what is
marked, p prunes, / filters, ? shows all keys, q quits.

Examples:
  rstore ui
  rstore ui --read-only
  rstore --root /srv/store ui")]
pub struct Args {
    /// Show and foretell, remove nothing
    #[arg(long)]
    pub read_only: bool,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    if !(context.terminal.stdin && context.terminal.stdout) {
        return Err(exit::usage_error(
            "ui needs a terminal for stdin and stdout; `rstore images`, `layers` and `df` write to pipes and files",
        ));
    }
    if context.terminal.dumb {
        return Err(exit::usage_error(
            "ui needs a terminal that can move its cursor, and TERM is \"dumb\"; `rstore images`, `layers` and `df` need none",
        ));
    }
    let store = context.open()?;
    let read_only = match arguments.read_only {
        true => Some("asked for by --read-only".to_owned()),
        false => unwritable(&store),
    };
    ui::run(context, work::fresh(store)?, read_only)
}

/// Why this user cannot remove anything, if so.
fn unwritable(store: &Store) -> Option<String> {
    let private = store.layout().private();
    let blobs = store.root().join("blobs/sha256");
    [store.root(), &private, &blobs]
        .into_iter()
        .find_map(|path| {
            let error = access(path, Access::WRITE_OK).err()?;
            Some(format!("write {}: {error}", path.display()))
        })
}

//! `rstore pin`, `rstore unpin`: keeping an image without a name.

use std::io::Write;

use crate::catalog::BlobRow;
use crate::cli::{Context, Result};
use crate::store::{Error, Store};

/// Keep an image without a name
///
/// A pinned image, and all that it needs, stays as a tagged one does, until it is unpinned.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore pin 77b1c2d3e4f5
  rstore unpin 77b1c2d3e4f5")]
pub struct Args {
    /// Names, IDs or digests
    #[arg(value_name = "REF|DIGEST", required = true)]
    pub references: Vec<String>,
}

/// Runs `pin`.
pub fn pin(arguments: &Args, context: &mut Context) -> Result {
    let store = context.open_to_write()?;
    for reference in &arguments.references {
        let digest = store.find(reference)?;
        store.write(|tx| {
            // Between the search and now a prune may have taken it.
            let usable = |row: &BlobRow| row.present && row.condemned.is_none();
            match tx.blob(&digest)?.filter(usable) {
                Some(row) => Ok(tx.pin(row.id, context.now)?),
                None => Err(crate::catalog::WriteError::Caller(Error::UnknownImage {
                    name: reference.clone(),
                    nearest: None,
                })),
            }
        })?;
        writeln!(context.out, "Pinned: {digest}")?;
    }
    Ok(())
}

/// Runs `unpin`.
pub fn unpin(arguments: &Args, context: &mut Context) -> Result {
    let store = context.open_to_write()?;
    for reference in &arguments.references {
        let digest = store.find(reference)?;
        if remove_pin(&store, &digest)? {
            writeln!(context.out, "Unpinned: {digest}")?;
        } else {
            anyhow::bail!("{reference:?} is not pinned");
        }
    }
    Ok(())
}

fn remove_pin(store: &Store, digest: &crate::oci::Digest) -> Result<bool> {
    let removed = store.write(|tx| match tx.blob(digest)? {
        Some(row) => Ok(tx.unpin(row.id)?),
        None => Ok(false),
    })?;
    Ok(removed)
}

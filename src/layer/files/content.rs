//! Contents of files, each from the one layer that has it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use hashbrown::HashMap;

use super::Origin;
use crate::layer::entry::Kind;
use crate::layer::error::{Error, Result};
use crate::layer::merge::Layers;
use crate::layer::read::TarReader;
use crate::oci::Digest;
use crate::oci::digest::Hasher;

/// Bytes that are copied at once.
const BUFFER: usize = 64 << 10;

/// Entries of layers: by layer, those that are wanted of it.
pub type Wanted = BTreeMap<usize, BTreeSet<u64>>;

/// Writes the content that the entry `origin` has to `out`, and reads the layer to its end, which
/// verifies it: what was written is what it should be only if this returns without an error.
pub fn write_content<L: Layers>(
    layers: &L,
    origin: Origin,
    out: &mut dyn Write,
) -> Result<(), L::Error> {
    let Some(index) = origin.index else {
        return Ok(());
    };
    let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(Error::Write);
    layers.read(origin.layer, &mut |archive| {
        each(archive, &BTreeSet::from([index]), |_, content| {
            copy(content, &mut write)
        })
    })
}

/// The digests of the contents of entries. Layers of which nothing is wanted are not read.
pub fn digests<L: Layers>(
    layers: &L,
    wanted: &Wanted,
) -> Result<HashMap<(usize, u64), Digest>, L::Error> {
    let mut found = HashMap::new();
    for (layer, indexes) in wanted {
        layers.read(*layer, &mut |archive| {
            each(archive, indexes, |index, content| {
                let mut hasher = Hasher::new();
                copy(content, &mut |bytes| {
                    hasher.update(bytes);
                    Ok(())
                })?;
                found.insert((*layer, index), hasher.finish());
                Ok(())
            })
        })?;
    }
    Ok(found)
}

/// Calls `consume` with the content of each wanted file of an archive.
fn each(
    archive: &mut dyn Read,
    wanted: &BTreeSet<u64>,
    mut consume: impl FnMut(u64, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let Some(last) = wanted.last() else {
        return Ok(());
    };
    let mut reader = TarReader::new(archive);
    for index in 0..=*last {
        let Some(entry) = reader.next_entry()? else {
            break;
        };
        if wanted.contains(&index) && matches!(entry.kind, Kind::File { .. }) {
            consume(index, &mut reader)?;
        }
    }
    Ok(())
}

fn copy(content: &mut dyn Read, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        // The reader's errors are ours, wrapped; it never says that it was interrupted.
        let count = content
            .read(&mut buffer)
            .map_err(|error| Error::of_content(b"", error))?;
        if count == 0 {
            return Ok(());
        }
        write(&buffer[..count])?;
    }
}

//! A root file system becomes an image of one layer.
//!
//! The archive is read entry by entry and written again in the store's own form (`layer::write`):
//! whatever dialect it was in, `./` before the names, users' names, sparse maps and global headers
//! are gone, and each name is one that stays inside. The order stays, since a pipe cannot be
//! sorted and a hard link needs its file before it.
//!
//! | refused | because |
//! |---|---|
//! | `..` in a name | it leads out |
//! | `.wh.` names | a layer means "removed" by them |
//! | a hard link to what didn't come before | nothing could be linked |
//! | no end mark | nothing else tells a whole archive from the first half of one |
//! | no entry at all | `tar` of a directory that isn't there makes such archives |

use std::hash::BuildHasher;
use std::io::{self, Read};

use hashbrown::HashSet;

use super::error::{Error, Result};
use crate::catalog::journal::Particulars;
use crate::layer::whiteout::{self, Meaning};
use crate::layer::{
    self, Compression, Decompressor, Entry, Format, Kind, PackSink, Packed, TarReader, TarWriter,
};
use crate::layout::Ingest;
use crate::oci::config::{History, RunConfig};
use crate::oci::{ImageConfig, Platform};
use crate::store::{Image, LayerBlob, Lease, NewImage, Store};

/// What the caller wants of an import.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Where the archive is from, for the history: a file's name, `-`.
    pub source: String,
    /// The image's names; none: it stays untagged.
    pub names: Vec<String>,
    /// How the layer is stored.
    pub compression: Compression,
    /// What the image runs on.
    pub platform: Platform,
    /// What a container of the image runs as.
    pub run: RunConfig,
    /// The comment in the history.
    pub message: Option<String>,
    /// When the image was made, RFC 3339.
    pub created: String,
}

/// Imports the root file system archive `source`, which may be a pipe, plain or compressed.
pub fn import(lease: &Lease, source: impl Read + Send, options: &ImportOptions) -> Result<Image> {
    let names = options
        .names
        .iter()
        .map(|name| Store::tag_name(name))
        .collect::<crate::store::Result<Vec<_>>>()?;
    let (packed, ingest) = repack(lease, source, options.compression)?;
    let layer = LayerBlob {
        media_type: options.compression.media_type().to_owned(),
        digest: packed.digest,
        size: packed.size,
        diff_id: packed.diff_id,
        unpacked: Some(packed.unpacked_size),
    };
    let step = format!("imported from {}", options.source);
    lease.publish_layer(ingest, &layer, Some(&step))?;
    let config = config(&layer, step, options);
    let image = lease.publish_image(&NewImage {
        config: &config,
        layers: &[layer],
        annotations: Default::default(),
        cache_key: None,
    })?;
    if !names.is_empty() {
        lease.tag(&names, &image.digest)?;
    }
    let subject = names.first().cloned().unwrap_or_else(|| image.id().short());
    let more = Particulars {
        digest: Some(image.digest),
        ..Particulars::default()
    };
    lease.note(
        "import",
        &subject,
        format!("{} from {}", image.id().short(), options.source),
        more,
    )?;
    Ok(image)
}

fn config(layer: &LayerBlob, step: String, options: &ImportOptions) -> ImageConfig {
    let mut config = ImageConfig::scratch(&options.platform);
    config.created = Some(options.created.clone());
    config.config = options.run.clone();
    config.rootfs.diff_ids.push(layer.diff_id);
    config.history.push(History {
        created: Some(options.created.clone()),
        created_by: Some(step),
        comment: options.message.clone(),
        ..History::default()
    });
    config
}

/// Writes the archive `source` to `ingest/` in our own form.
fn repack(
    lease: &Lease,
    source: impl Read + Send,
    compression: Compression,
) -> Result<(Packed, Ingest)> {
    let archive = Decompressor::new(source).map_err(|source| Error::Read {
        format: Format::None,
        source,
    })?;
    let format = archive.format();
    let mut reader = TarReader::new(archive);
    let ingest = lease.ingest()?;
    let path = ingest.path().to_path_buf();
    let packed = layer::pack(compression, ingest, |writer| copy(&mut reader, writer));
    let (packed, mut ingest) = packed.map_err(|error| match error {
        layer::Error::Write(error) => crate::fsutil::Error::new("write", path, error).into(),
        other => Error::of_archive(other, format),
    })?;
    if packed.is_empty() {
        return Err(Error::Empty);
    }
    if !reader.saw_end_mark() {
        let entries = packed.entries;
        return Err(Error::Unfinished { entries });
    }
    // The checksum of a compressed stream is at its very end, and a pipe wants to be emptied.
    io::copy(reader.get_mut(), &mut io::sink()).map_err(|source| Error::Read { format, source })?;
    ingest.close();
    Ok((packed, ingest))
}

fn copy<R: Read>(
    reader: &mut TarReader<R>,
    writer: &mut TarWriter<PackSink<'_>>,
) -> layer::Result<()> {
    let mut names = Names::default();
    while let Some(mut entry) = reader.next_entry()? {
        names.check(&entry)?;
        entry
            .xattrs
            .retain(|name, _| !whiteout::is_host_xattr(name));
        match entry.kind {
            Kind::File { .. } => writer.append(&entry, Some(reader))?,
            _ => writer.append(&entry, None)?,
        }
    }
    Ok(())
}

/// The names seen so far, as hashes: eight bytes each, however long they are. That two collide
/// only means that a bad hard link is found when the layer is unpacked, not here.
#[derive(Default)]
struct Names {
    seen: HashSet<u64>,
    hasher: foldhash::quality::RandomState,
}

impl Names {
    fn check(&mut self, entry: &Entry) -> layer::Result<()> {
        let (_, name) = entry.split_path();
        if whiteout::parse(&entry.path, name)? != Meaning::Entry {
            return Err(layer::Error::WhiteoutName {
                path: entry.path.clone(),
            });
        }
        if entry.path.is_empty() && entry.kind != Kind::Directory {
            return Err(layer::Error::Entry {
                path: Vec::new(),
                problem: layer::error::EntryProblem::RootKind,
            });
        }
        if let Kind::Hardlink { target } = &entry.kind
            && !self.seen.contains(&self.hasher.hash_one(target))
        {
            return Err(layer::Error::Hardlink {
                path: entry.path.clone(),
                target: target.clone(),
                reason: "no such file comes before it in the archive",
            });
        }
        if entry.kind != Kind::Directory {
            self.seen.insert(self.hasher.hash_one(&entry.path));
        }
        Ok(())
    }
}

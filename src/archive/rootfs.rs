//! An image's root file system, out: as a tar archive, or into a directory.
//!
//! Both are what the layers come to ([`layer::merge`](crate::layer::merge)), without a mount. The
//! archive keeps owners, hard links and extended attributes, and the same image gives the same
//! bytes. Into a directory it goes as BuildKit's local exporter puts it: all belongs to who runs
//! the command, files that are in the way are replaced, others stay, and no symbolic link leads
//! out of the directory, whoever made it.

use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use super::error::{Error, Result};
use super::target::{Stop, Target};
use crate::fsutil;
use crate::layer::entry::join;
use crate::layer::merge::flatten;
use crate::layer::{
    self, Entry, EntrySink, Kind, Skipped, TarWriter, Target as Place, UnpackOptions, Unpacker,
};
use crate::oci::document::{self, Descriptor, Document, INDEX_LIMIT};
use crate::oci::{Digest, Platform};
use crate::store::{self, Image, Store};

/// Bytes that are gathered before they are written: headers are small.
const BUFFER: usize = 256 << 10;

/// The images whose files leave: the one that a manifest is, or those for running of an index.
pub fn images(store: &Store, digest: &Digest) -> Result<Vec<Image>> {
    let bytes = store.layout().blobs().read(digest, INDEX_LIMIT);
    let bytes = bytes.map_err(store::Error::from)?;
    let digest = *digest;
    let document =
        document::parse(&bytes, "").map_err(|source| store::Error::Document { digest, source })?;
    let Document::Index(index) = document else {
        return Ok(vec![store.image(&digest)?]);
    };
    let for_running = |member: &&Descriptor| {
        let platform = member.platform.as_ref();
        platform.is_none_or(|platform| platform.os != "unknown")
    };
    let members = index.manifests.iter().filter(for_running);
    let images = members.map(|member| Ok(store.image(&member.digest)?));
    images.collect()
}

/// Writes the root file system of `images` to `target`, as one tar archive.
///
/// Of one image the files are at the top; of several each has a directory named after its
/// platform, `linux_arm64`, as BuildKit does.
pub fn write_tar(store: &Store, images: &[Image], mut target: Target) -> Result<()> {
    let (shown, stop) = (target.shown().to_path_buf(), target.stop());
    let mut writer = TarWriter::new(BufWriter::with_capacity(BUFFER, &mut target));
    let failed = |error: layer::Error| Error::of_writing(error, &shown);
    for image in images {
        let mut sink = Below {
            directory: directory_of(image, images),
            sink: &mut writer,
            stop,
            own: false,
        };
        sink.begin().map_err(failed)?;
        flatten(&store.layers(image, stop), &mut sink)
            .map_err(|error| Error::of_merge(error, &shown))?;
    }
    let mut out = writer.finish().map_err(failed)?;
    let flushed = out.flush();
    drop(out);
    flushed.map_err(|error| failed(layer::Error::Write(error)))?;
    target.finish()
}

/// Puts the root file system of `images` into the directory `path`, which is made if need be.
/// Returns what this user, or the file system, could not have.
pub fn write_directory(
    store: &Store,
    images: &[Image],
    path: &Path,
    stop: Stop<'_>,
) -> Result<Skipped> {
    fsutil::create_dir_all(path)?;
    let root = fsutil::open_dir(path)?;
    let options = UnpackOptions {
        target: Place::Plain,
        ignore_unmapped_owners: true,
    };
    let failed = |error: layer::Error| Error::of_writing(error, path);
    let mut unpacker = Unpacker::new(root.as_fd(), &options).map_err(failed)?;
    for image in images {
        let mut sink = Below {
            directory: directory_of(image, images),
            sink: &mut unpacker,
            stop,
            own: true,
        };
        sink.begin().map_err(failed)?;
        flatten(&store.layers(image, stop), &mut sink)
            .map_err(|error| Error::of_merge(error, path))?;
    }
    Ok(unpacker.finish().map_err(failed)?.skipped)
}

/// The directory that an image has for itself; empty: the root.
fn directory_of(image: &Image, images: &[Image]) -> Vec<u8> {
    match images.len() {
        1 => Vec::new(),
        _ => platform_directory(&image.config.platform()).into_bytes(),
    }
}

fn platform_directory(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
}

/// Entries on their way into a directory.
struct Below<'a> {
    directory: Vec<u8>,
    sink: &'a mut dyn EntrySink,
    stop: Stop<'a>,
    /// Whether all is to belong to who runs the command, and the root is not ours to change.
    own: bool,
}

impl Below<'_> {
    fn begin(&mut self) -> layer::Result<()> {
        match self.directory.is_empty() {
            true => Ok(()),
            false => {
                let entry = Entry::new(self.directory.clone(), Kind::Directory, 0o755);
                self.sink.entry(&entry, None)
            }
        }
    }
}

impl EntrySink for Below<'_> {
    fn entry(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> layer::Result<()> {
        if (self.stop)() {
            return Err(layer::Error::Write(io::Error::other("interrupted")));
        }
        if self.own && entry.path.is_empty() {
            return Ok(());
        }
        if !self.own && self.directory.is_empty() {
            return self.sink.entry(entry, content);
        }
        let mut entry = entry.clone();
        if self.own {
            // In the user namespace of who isn't root, this is that user.
            (entry.uid, entry.gid) = (0, 0);
        }
        if !self.directory.is_empty() {
            entry.path = match entry.path.is_empty() {
                true => self.directory.clone(),
                false => join(&self.directory, &entry.path),
            };
            if let Kind::Hardlink { target } = &mut entry.kind {
                *target = join(&self.directory, target);
            }
        }
        self.sink.entry(&entry, content)
    }
}

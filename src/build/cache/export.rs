//! Writing a cache: what a build has used or made, as far as `mode` says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::directory::{self, Writer};
use super::records::{self, Records, Selection, Step};
use super::{Around, CacheTo, Destination, Imports, LayerFile, Mode, remote};
use crate::fsutil::IoContext;
use crate::oci::Digest;
use crate::oci::document::{Descriptor, MANIFEST_LIMIT};
use crate::registry;
use crate::store::{self, Image, Lease};

/// What a build used: steps with their images, and what it looked at.
#[derive(Debug, Default)]
pub struct Used {
    /// (key, manifest of the image) of every step, in the order of the stages.
    pub steps: Vec<(Digest, Digest)>,
    /// (key, content) of selections of images' files.
    pub selections: BTreeMap<Digest, Digest>,
}

/// Why a cache was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory said no.
    #[error(transparent)]
    Directory(#[from] directory::Error),
    /// The registry said no.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Whether somebody asked for the end.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Error::Registry(registry::Error::Interrupted))
    }
}

/// Writes the cache of a build whose results are `results`. Returns the digest of its manifest.
pub fn export(
    to: &CacheTo,
    used: &Used,
    results: &[Image],
    imports: &Imports,
    around: Around,
) -> Result<Digest, Error> {
    let export = Export {
        lease: around.lease,
        imports,
    };
    let (records, images) = export.records(used)?;
    let wanted: &[Image] = match to.mode {
        Mode::Min => results,
        Mode::Max => &images,
    };
    let mut layers: Vec<Descriptor> = Vec::new();
    for layer in wanted.iter().flat_map(|image| &image.manifest.layers) {
        if layers.iter().all(|other| other.digest != layer.digest) {
            layers.push(layer.clone());
        }
    }
    let records = records.to_bytes();
    match &to.destination {
        Destination::Directory { path, tag } => {
            let writer = Writer::open(path)?;
            let mut there = Vec::new();
            for layer in layers {
                if export.layer(&writer, &layer, around)? {
                    there.push(layer);
                }
            }
            writer.put_bytes(&records)?;
            let manifest = records::manifest(&records, &there, None);
            let digest = writer.put_bytes(&manifest)?;
            writer.tag(tag, &digest, manifest.len() as u64)?;
            Ok(digest)
        }
        Destination::Registry(reference) => {
            remote::write(reference, &records, &layers, imports, around)
        }
    }
}

struct Export<'a> {
    lease: &'a Lease<'a>,
    imports: &'a Imports,
}

impl Export<'_> {
    /// The records of what was used, and the images in them.
    fn records(&self, used: &Used) -> Result<(Records, Vec<Image>), store::Error> {
        let mut records = Records {
            version: records::VERSION,
            steps: Vec::new(),
            selections: Vec::new(),
            documents: BTreeMap::new(),
        };
        let mut seen = BTreeSet::new();
        let mut images = Vec::new();
        for (key, image) in &used.steps {
            if !seen.insert((*key, *image)) {
                continue;
            }
            let (image, [manifest, config]) = self.image(image)?;
            let (key, digest) = (*key, image.digest);
            records.steps.push(Step { key, image: digest });
            records.documents.insert(digest.to_string(), manifest);
            records.documents.insert(image.id().to_string(), config);
            images.push(image);
        }
        let selections = used.selections.iter();
        let selections = selections.map(|(key, content)| Selection {
            key: *key,
            content: *content,
        });
        records.selections = selections.collect();
        Ok((records, images))
    }

    /// An image of the store, or one that a cache has offered; and the text of its documents.
    fn image(&self, digest: &Digest) -> Result<(Image, [String; 2]), store::Error> {
        let manifest = self.document(digest)?;
        let mut config = None;
        let image = Image::assemble(digest, manifest.as_bytes(), |id| {
            let text = self.document(id)?;
            let bytes = text.clone().into_bytes();
            config = Some(text);
            Ok(bytes)
        })?;
        Ok((image, [manifest, config.unwrap_or_default()]))
    }

    fn document(&self, digest: &Digest) -> Result<String, store::Error> {
        if let Some(text) = self.imports.document(digest) {
            return Ok(text.to_owned());
        }
        let bytes = self.lease.store().layout().blobs();
        let bytes = bytes.read(digest, MANIFEST_LIMIT)?;
        String::from_utf8(bytes).map_err(|_| store::Error::NotAnImage {
            what: digest.to_string(),
            why: "it is not UTF-8".to_owned(),
        })
    }

    /// Puts a layer into a directory. Returns whether it is there: one that no cache and no store
    /// has, or that is damaged, is left out, and then its step will be run.
    fn layer(&self, writer: &Writer, layer: &Descriptor, around: Around) -> Result<bool, Error> {
        // A damaged one may well be that of this very directory.
        let damaged = self.imports.is_damaged(&layer.digest);
        if !damaged && writer.has(&layer.digest, layer.size) {
            return Ok(true);
        }
        let here = match path_in_store(self.lease, layer)? {
            Some(path) => LayerFile::lasting(path),
            None => match self.imports.copy(layer, around)? {
                Some(copy) => copy,
                None => return Ok(false),
            },
        };
        let source = File::open(here.path()).at("open", here.path());
        let source = source.map_err(store::Error::from)?;
        // One byte more than it may have: what is endless is not copied.
        let mut source = source.take(layer.size.saturating_add(1));
        Ok(writer.put(&layer.digest, &mut source)?)
    }
}

/// Where the store has a layer, if it has it whole; it is pinned then: an image that a cache has
/// offered, and nothing has needed, does not hold its layers.
pub(super) fn path_in_store(
    lease: &Lease,
    layer: &Descriptor,
) -> Result<Option<PathBuf>, store::Error> {
    let blobs = lease.store().layout().blobs();
    let here = lease.has_blob(&layer.digest, layer.size)?;
    Ok(here.then(|| blobs.path(&layer.digest)))
}

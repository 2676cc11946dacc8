//! Writing a cache: what a build has used or made, as far as `mode` says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::directory::{self, Writer};
use super::records::{self, Records, Selection, Step};
use super::{CacheTo, Imports, Mode};
use crate::oci::Digest;
use crate::oci::document::{Descriptor, MANIFEST_LIMIT};
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
    /// The store said no.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Writes the cache of a build whose results are `results`. Returns the digest of its manifest.
pub fn export(
    lease: &Lease,
    to: &CacheTo,
    used: &Used,
    results: &[Image],
    imports: &Imports,
) -> Result<Digest, Error> {
    let writer = Writer::open(&to.destination)?;
    let export = Export {
        lease,
        imports,
        writer: &writer,
    };
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
        let (image, [manifest, config]) = export.image(image)?;
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
    let wanted: &[Image] = match to.mode {
        Mode::Min => results,
        Mode::Max => &images,
    };
    let mut layers: Vec<Descriptor> = Vec::new();
    for layer in wanted.iter().flat_map(|image| &image.manifest.layers) {
        let known = layers.iter().any(|other| other.digest == layer.digest);
        if !known && export.layer(layer)? {
            layers.push(layer.clone());
        }
    }
    let records = records.to_bytes();
    writer.put_bytes(&records)?;
    let manifest = records::manifest(&records, &layers);
    let digest = writer.put_bytes(&manifest)?;
    writer.tag(&to.tag, &digest, manifest.len() as u64)?;
    Ok(digest)
}

struct Export<'a> {
    lease: &'a Lease<'a>,
    imports: &'a Imports,
    writer: &'a Writer,
}

impl Export<'_> {
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

    /// Puts a layer there. Returns whether it is: one that no cache and no store has, or that is
    /// damaged, is left out, and then its step will be run.
    fn layer(&self, layer: &Descriptor) -> Result<bool, Error> {
        // A damaged one may well be that of this very directory.
        let damaged = self.imports.is_damaged(&layer.digest);
        if !damaged && self.writer.has(&layer.digest, layer.size) {
            return Ok(true);
        }
        let blobs = self.lease.store().layout().blobs();
        let here: Option<Box<dyn Read + Send>> = match blobs.stat(&layer.digest) {
            Ok(Some(stat)) if stat.size == layer.size => {
                let file = blobs.open_unverified(&layer.digest);
                Some(Box::new(file.map_err(store::Error::from)?))
            }
            _ => self.imports.layer(&layer.digest),
        };
        let Some(source) = here else {
            return Ok(false);
        };
        // One byte more than it may have: what is endless is not copied.
        let mut source = source.take(layer.size.saturating_add(1));
        Ok(self.writer.put(&layer.digest, &mut source)?)
    }
}

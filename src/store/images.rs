//! Finding images, and reading them.

use super::{Error, Lease, Result, Store};
use crate::catalog::{BlobKind, BlobRow, sync};
use crate::oci::document::{self, Document, INDEX_LIMIT, MANIFEST_LIMIT, Manifest};
use crate::oci::{Digest, ImageConfig, Platform, Reference, digest, media};
use crate::words;

/// An image, read and verified: manifest and config.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's size in bytes.
    pub size: u64,
    /// The manifest.
    pub manifest: Manifest,
    /// The config.
    pub config: ImageConfig,
}

impl Image {
    /// The image of a manifest's bytes, whose digest is `digest`, and of what `config` gives for
    /// the digest of its config.
    pub fn assemble(
        digest: &Digest,
        bytes: &[u8],
        config: impl FnOnce(&Digest) -> Result<Vec<u8>>,
    ) -> Result<Image> {
        let wrong = |source| Error::Document {
            digest: *digest,
            source,
        };
        let manifest = document::manifest(bytes).map_err(wrong)?;
        if !manifest.is_image() {
            return Err(Error::NotAnImage {
                what: digest.to_string(),
                why: format!("its config is {:?}", manifest.config.media_type),
            });
        }
        let config = config(&manifest.config.digest)?;
        let wrong = |source| Error::Document {
            digest: manifest.config.digest,
            source,
        };
        let config = ImageConfig::parse(&config).map_err(wrong)?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(wrong(document::Error::Ambiguous(format!(
                "the config lists {} layers, the manifest {}",
                config.rootfs.diff_ids.len(),
                manifest.layers.len()
            ))));
        }
        Ok(Image {
            digest: *digest,
            size: bytes.len() as u64,
            manifest,
            config,
        })
    }

    /// The image's ID: the digest of its config.
    pub fn id(&self) -> Digest {
        self.manifest.config.digest
    }

    /// The chain ID of each layer, the lowest first.
    pub fn chain_ids(&self) -> Vec<Digest> {
        self.config.chain_ids()
    }

    /// The chain ID of all layers; `None` for an image without any.
    pub fn chain_id(&self) -> Option<Digest> {
        let mut chain = None;
        for diff_id in &self.config.rootfs.diff_ids {
            chain = Some(digest::chain_id(chain.as_ref(), diff_id));
        }
        chain
    }
}

impl Store {
    /// Reads an image by its manifest's digest.
    pub fn image(&self, digest: &Digest) -> Result<Image> {
        let blobs = self.layout.blobs();
        let bytes = blobs.read(digest, MANIFEST_LIMIT)?;
        Image::assemble(digest, &bytes, |config| {
            Ok(blobs.read(config, MANIFEST_LIMIT)?)
        })
    }

    /// The digest that a name, an ID, a unique prefix of one (4 digits or more), or a digest
    /// means: that of a manifest or of an index.
    pub fn find(&self, name: &str) -> Result<Digest> {
        Ok(self.find_named(name)?.0)
    }

    /// The same, and the tag by which it was found; `None`: by an ID or a digest.
    pub fn find_named(&self, name: &str) -> Result<(Digest, Option<String>)> {
        // A name that is stored as it is written comes first, whatever its shape.
        if let Some((digest, _)) = self.catalog.read(|tx| tx.tag(name))? {
            return Ok((digest, Some(name.to_owned())));
        }
        let reference = name.parse::<Reference>();
        if let Ok(reference) = &reference
            && let Some(found) = self.find_reference(reference)?
        {
            return Ok(found);
        }
        if let Some(digest) = self.find_id(name)? {
            return Ok((digest, None));
        }
        if let (Err(error), false) = (&reference, name.starts_with("sha256:")) {
            return Err(error.clone().into());
        }
        Err(Error::UnknownImage {
            name: name.to_owned(),
            nearest: self.nearest_tag(name)?,
        })
    }

    fn find_reference(&self, reference: &Reference) -> Result<Option<(Digest, Option<String>)>> {
        if let Some(digest) = &reference.digest {
            let row = self.present(digest)?.filter(BlobRow::is_usable);
            return Ok(row.map(|row| (row.digest, None)));
        }
        for name in [reference.familiar(), reference.full()] {
            if let Some((digest, _)) = self.catalog.read(|tx| tx.tag(&name))? {
                return Ok(Some((digest, Some(name))));
            }
        }
        Ok(None)
    }

    fn find_id(&self, text: &str) -> Result<Option<Digest>> {
        let prefix = text
            .strip_prefix("sha256:")
            .unwrap_or(text)
            .to_ascii_lowercase();
        if prefix.len() < 4 || prefix.len() > 64 || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        if let Some(digest) = Digest::from_hex(&prefix) {
            let row = self.catalog.read(|tx| tx.blob(&digest))?;
            let document = |row: &BlobRow| matches!(row.kind, BlobKind::Manifest | BlobKind::Index);
            if row.is_some_and(|row| row.is_usable() && document(&row)) {
                return Ok(Some(digest));
            }
        }
        let found = self.catalog.read(|tx| tx.images_by_prefix(&prefix, 8))?;
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            [first, rest @ ..] => {
                // Several manifests of one config are one image by its ID.
                let id = |digest: &Digest| Ok::<_, Error>(self.image(digest)?.id());
                let same = id(first)?;
                if rest
                    .iter()
                    .map(id)
                    .all(|other| other.is_ok_and(|other| other == same))
                {
                    return Ok(Some(*first));
                }
                let candidates = found
                    .iter()
                    .map(|d| id(d).map(|i| i.short()))
                    .collect::<Result<_>>()?;
                Err(Error::Ambiguous {
                    prefix: text.to_owned(),
                    candidates,
                })
            }
        }
    }

    fn nearest_tag(&self, name: &str) -> Result<Option<String>> {
        let names = self.catalog.read(|tx| tx.index_entries())?;
        let distance = |candidate: &str| {
            let repository = candidate.rsplit_once(':').map_or(candidate, |(r, _)| r);
            words::distance(name, candidate).min(words::distance(name, repository))
        };
        Ok(names
            .into_iter()
            .filter_map(|entry| entry.name)
            .map(|candidate| (distance(&candidate), candidate))
            .filter(|(distance, _)| *distance <= 1 + name.chars().count() / 4)
            .min()
            .map(|(_, candidate)| candidate))
    }

    /// The image that a name means, an index being resolved for `platform`.
    pub fn find_image(&self, name: &str, platform: &Platform) -> Result<Image> {
        let digest = self.find(name)?;
        self.image_for(&digest, name, platform)
    }

    /// The image that a manifest is, or that an index has for `platform`.
    pub fn image_for(&self, digest: &Digest, name: &str, platform: &Platform) -> Result<Image> {
        let mut digest = *digest;
        // An index in an index in an index is legal; one that leads back to itself is not.
        for _ in 0..8 {
            let bytes = self.layout.blobs().read(&digest, INDEX_LIMIT)?;
            match document::parse(&bytes, "")
                .map_err(|source| Error::Document { digest, source })?
            {
                Document::Manifest(_) => return self.image(&digest),
                Document::Index(index) => digest = choose(&index, name, platform)?,
                Document::Other(_) | Document::Leaf => break,
            }
        }
        Err(Error::NotAnImage {
            what: name.to_owned(),
            why: format!("{digest} is no manifest"),
        })
    }
}

impl Store {
    /// The row of a blob that is there. One that the catalog has as absent and whose file has come
    /// back is taken in.
    pub(super) fn present(&self, digest: &Digest) -> Result<Option<BlobRow>> {
        let row = self.catalog.read(|tx| tx.blob(digest))?;
        match row {
            Some(row) if row.present => return Ok(Some(row)),
            _ if !sync::meet(&self.catalog, &self.layout, digest, self.now())? => return Ok(None),
            _ => {}
        }
        let row = self.catalog.read(|tx| tx.blob(digest))?;
        Ok(row.filter(|row| row.present))
    }
}

impl BlobRow {
    pub(super) fn is_usable(&self) -> bool {
        self.present && self.condemned.is_none()
    }
}

/// The member of an index that is for `wanted`, or comes nearest; `name` is what errors call it.
pub fn choose(index: &document::Index, name: &str, wanted: &Platform) -> Result<Digest> {
    let images = || {
        index
            .manifests
            .iter()
            .filter(|d| d.platform.as_ref().is_none_or(|p| p.os != "unknown"))
    };
    let distance = |d: &document::Descriptor| wanted.distance(d.platform.as_ref()?);
    let nearest = images().filter_map(|d| Some((distance(d)?, d)));
    let nested = |d: &&document::Descriptor| d.platform.is_none() || media::is_index(&d.media_type);
    nearest
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, descriptor)| descriptor)
        .or_else(|| images().find(nested))
        .map(|descriptor| descriptor.digest)
        .ok_or_else(|| Error::NoPlatform {
            name: name.to_owned(),
            wanted: wanted.to_string(),
            found: images()
                .filter_map(|d| Some(d.platform.as_ref()?.to_string()))
                .collect(),
        })
}

impl Lease<'_> {
    /// The image that a step with this key gave before, pinned; `None` if there is none, or if
    /// what there is cannot be trusted.
    pub fn cached(&self, key: &Digest) -> Result<Option<Image>> {
        let Some(digest) = self.store().catalog.read(|tx| tx.cached_image(key))? else {
            return Ok(None);
        };
        let now = self.store().now();
        let pinned = self.store().write(|tx| {
            // Between the look and now a prune may have condemned it.
            let Some(row) = tx.blob(&digest)?.filter(BlobRow::is_usable) else {
                return Ok(false);
            };
            tx.lease_blob(self.id(), row.id)?;
            tx.touch_image(row.id, now)?;
            tx.count_cache_hit(key, now)?;
            Ok(true)
        })?;
        if !pinned {
            return Ok(None);
        }
        match self.trusted_image(&digest) {
            Ok(image) => Ok(Some(image)),
            Err(error) if error.is_corruption() => {
                self.store().write(|tx| Ok(tx.forget_cache_record(key)?))?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Says which images a cached image's step uses now: of the same content as those it was made
    /// from, and perhaps others.
    pub fn link_stages(&self, image: &Digest, stages: &[Digest]) -> Result<()> {
        self.store().write(|tx| {
            let Some(image) = tx.blob(image)? else {
                return Ok(());
            };
            let mut ids = Vec::with_capacity(stages.len());
            for stage in stages {
                ids.extend(tx.blob(stage)?.map(|row| row.id));
            }
            Ok(tx.replace_stage_links(image.id, &ids)?)
        })
    }

    /// Remembers what a selection of an image's files contained.
    pub fn remember_selection(&self, key: &Digest, content: &Digest) -> Result<()> {
        let now = self.store().now();
        self.store()
            .write(|tx| Ok(tx.put_selection(key, content, now)?))
    }

    /// Pins an image that this process is going to rely on, and reads it.
    pub fn use_image(&self, name: &str, platform: &Platform) -> Result<Image> {
        let image = self.store().find_image(name, platform)?;
        self.store().present(&image.digest)?;
        let now = self.store().now();
        let pinned = self.store().write(|tx| {
            let Some(row) = tx.blob(&image.digest)?.filter(BlobRow::is_usable) else {
                return Ok(false);
            };
            tx.lease_blob(self.id(), row.id)?;
            tx.touch_image(row.id, now)?;
            Ok(true)
        })?;
        if !pinned {
            return Err(Error::UnknownImage {
                name: name.to_owned(),
                nearest: None,
            });
        }
        self.trusted_image(&image.digest)
    }

    /// Pins a document, and with it all that it reaches.
    pub fn hold(&self, digest: &Digest) -> Result<()> {
        let now = self.store().now();
        let pinned = self.store().write(|tx| {
            let Some(row) = tx.blob(digest)?.filter(BlobRow::is_usable) else {
                return Ok(false);
            };
            tx.lease_blob(self.id(), row.id)?;
            tx.touch_image(row.id, now)?;
            Ok(true)
        })?;
        match pinned {
            true => Ok(()),
            false => Err(crate::layout::blobs::Error::Missing { digest: *digest }.into()),
        }
    }

    /// Reads a pinned image, having made sure that all of it is there, and that what an unclean
    /// stop may have torn is whole.
    pub(super) fn trusted_image(&self, digest: &Digest) -> Result<Image> {
        let image = self.store().image(digest)?;
        let blobs = std::iter::once(digest)
            .chain(std::iter::once(&image.manifest.config.digest))
            .chain(image.manifest.layers.iter().map(|layer| &layer.digest));
        self.trust_blobs(blobs)?;
        Ok(image)
    }

    /// Makes sure that pinned blobs are there and whole. What this lease has once made sure of
    /// stays: it is pinned.
    pub(super) fn trust_blobs<'d>(&self, blobs: impl Iterator<Item = &'d Digest>) -> Result<()> {
        let new: Vec<&Digest> = {
            let trusted = self.trusted();
            blobs.filter(|blob| !trusted.contains(*blob)).collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let rows = self.store().catalog.read(|tx| {
            new.iter()
                .map(|blob| tx.blob(blob))
                .collect::<std::result::Result<Vec<_>, _>>()
        })?;
        for (blob, row) in new.into_iter().zip(rows) {
            let missing = || crate::layout::blobs::Error::Missing { digest: *blob };
            let row = match row.filter(|row| row.present) {
                Some(row) => row,
                None => self.store().present(blob)?.ok_or_else(missing)?,
            };
            // What the row says may be older than the disk: another tool's hand, a power cut.
            let stat = self.store().layout.blobs().stat(blob)?;
            if stat.is_none_or(|stat| stat.size != row.size) {
                return Err(missing().into());
            }
            let suspect =
                row.ours && !row.boot.is_empty() && row.boot != self.store().host().boot();
            if suspect {
                self.store().layout.blobs().verify(blob)?;
                self.store().layout.blobs().sync(blob)?;
                self.store().write(|tx| Ok(tx.set_durable(row.id)?))?;
            }
            self.trusted().insert(*blob);
        }
        Ok(())
    }
}

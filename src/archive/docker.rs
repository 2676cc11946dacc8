//! manifest.json → images: the format of `docker save` (moby, image/tarexport; also what skopeo,
//! podman, crane, kaniko and BuildKit write).
//!
//! ```text
//! manifest.json   [{"Config": "HEX.json", "RepoTags": ["app:1"], "Layers": ["HEX/layer.tar", …]}]
//! HEX.json        the config, whose digest is the image's ID; crane calls it sha256:HEX
//! HEX/layer.tar   a layer, or a link to another's; crane's are HEX.tar.gz
//! ```
//! There are no digests of compressed layers here: the config's diff IDs are what each layer is
//! held against, and the config is held against its name where that is a digest.

use std::io::Read;

use hashbrown::HashMap;
use serde::Deserialize;

use super::error::{Error, Problem, Result};
use super::load::{Item, LoadedImage, Root, Verified};
use super::members::{Member, Members, show};
use super::names;
use super::spool::{self, FileSource, Spooled, SpooledLayer};
use crate::catalog::BlobKind;
use crate::fsutil::IoContext;
use crate::layer::Compression;
use crate::layout::Entry;
use crate::oci::document::MANIFEST_LIMIT;
use crate::oci::{Digest, ImageConfig, media};
use crate::store::publish::manifest_bytes;
use crate::store::{LayerBlob, Lease};

const MANIFEST: &str = "manifest.json";

/// One image in manifest.json.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Listed {
    /// Its names in their stored form.
    pub fn names(&self) -> Result<Vec<String>> {
        let tags = self.repo_tags.iter().flatten();
        tags.map(|tag| names::stored(tag, MANIFEST)).collect()
    }

    /// The image's ID, if the config's name tells it.
    pub fn id(&self) -> Option<Digest> {
        let name = self.config.rsplit('/').next().unwrap_or_default();
        let name = name.strip_suffix(".json").unwrap_or(name);
        Digest::from_hex(name.strip_prefix("sha256:").unwrap_or(name))
    }
}

/// Reads manifest.json.
pub fn listed(bytes: &[u8]) -> Result<Vec<Listed>> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::member(MANIFEST, Problem::Form(error.to_string())))
}

/// The images that `listed` names, verified.
pub fn collect(
    lease: &Lease,
    members: Members,
    listed: &[Listed],
    compression: Compression,
) -> Result<Verified> {
    let mut collector = Collector {
        lease,
        members,
        compression,
        configs: HashMap::new(),
        layers: HashMap::new(),
        roots: HashMap::new(),
        verified: Verified::default(),
    };
    for image in listed {
        collector.image(image)?;
    }
    Ok(collector.verified)
}

struct Collector<'l, 's> {
    lease: &'l Lease<'s>,
    members: Members,
    compression: Compression,
    /// By resolved path: which of the verified blobs it is.
    configs: HashMap<Vec<u8>, usize>,
    /// By resolved path.
    layers: HashMap<Vec<u8>, LayerBlob>,
    /// By manifest: which of the verified roots it is.
    roots: HashMap<Digest, usize>,
    verified: Verified,
}

impl Collector<'_, '_> {
    fn image(&mut self, listed: &Listed) -> Result<()> {
        let (id, config) = self.config(listed)?;
        let parsed = ImageConfig::parse(&config).map_err(|source| Error::Document {
            member: listed.config.clone(),
            source,
        })?;
        let paths = listed.layers.as_deref().unwrap_or_default();
        let diff_ids = &parsed.rootfs.diff_ids;
        if diff_ids.len() != paths.len() {
            let problem = Problem::LayerCount {
                by: MANIFEST.to_owned(),
                config: diff_ids.len(),
                manifest: paths.len(),
            };
            return Err(Error::member(&listed.config, problem));
        }
        let mut layers = Vec::with_capacity(paths.len());
        for (path, expected) in paths.iter().zip(diff_ids) {
            let layer = self.layer(path)?;
            if layer.diff_id != *expected {
                let (expected, actual) = (*expected, layer.diff_id);
                return Err(Error::member(path, Problem::DiffId { expected, actual }));
            }
            layers.push(layer);
        }
        let bytes = manifest_bytes(&id, config.len() as u64, &layers, &Default::default());
        let at = self.root(&bytes, id, &parsed)?;
        for name in listed.names()? {
            let names = &mut self.verified.roots[at].names;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(())
    }

    /// The root of an image with this manifest, made if it is a new one.
    fn root(&mut self, manifest: &[u8], id: Digest, config: &ImageConfig) -> Result<usize> {
        let digest = Digest::of(manifest);
        if let Some(at) = self.roots.get(&digest) {
            return Ok(*at);
        }
        let entry = Entry::new(media::MANIFEST, digest, manifest.len() as u64);
        let mut root = Root::new(entry);
        root.images.push(LoadedImage {
            digest,
            id,
            platform: config.platform(),
        });
        self.verified.blobs.push(Item {
            spooled: spool::bytes(self.lease, manifest)?,
            kind: BlobKind::Manifest,
            media_type: media::MANIFEST.to_owned(),
        });
        self.verified.roots.push(root);
        let at = self.verified.roots.len() - 1;
        self.roots.insert(digest, at);
        Ok(at)
    }

    /// The config's digest and bytes.
    fn config(&mut self, listed: &Listed) -> Result<(Digest, Vec<u8>)> {
        let name = &listed.config;
        let path = self.members.resolve(name, MANIFEST)?;
        let at = match self.configs.get(&path) {
            Some(at) => *at,
            None => {
                let spooled = self.raw(&path, name)?;
                if let Some(expected) = listed.id().filter(|id| *id != spooled.digest) {
                    let actual = spooled.digest;
                    return Err(Error::member(name, Problem::Digest { expected, actual }));
                }
                self.verified.blobs.push(Item {
                    spooled,
                    kind: BlobKind::Config,
                    media_type: media::CONFIG.to_owned(),
                });
                let at = self.verified.blobs.len() - 1;
                self.configs.insert(path, at);
                at
            }
        };
        let spooled = &self.verified.blobs[at].spooled;
        Ok((spooled.digest, spooled.read(name, MANIFEST_LIMIT)?))
    }

    fn raw(&mut self, path: &[u8], name: &str) -> Result<Spooled> {
        match self.members.remove(path) {
            Some(Member::Raw(spooled)) => Ok(spooled),
            Some(Member::Large(size)) => {
                let limit = MANIFEST_LIMIT;
                Err(Error::member(name, Problem::TooLarge { size, limit }))
            }
            Some(Member::Layer(_) | Member::Link(_)) => {
                let why = "a layer where a config was due".to_owned();
                Err(Error::member(name, Problem::Form(why)))
            }
            None => Err(missing(name)),
        }
    }

    /// The layer called `name`, packed.
    fn layer(&mut self, name: &str) -> Result<LayerBlob> {
        let path = self.members.resolve(name, MANIFEST)?;
        if let Some(layer) = self.layers.get(&path) {
            return Ok(layer.clone());
        }
        let spooled = match self.members.remove(&path) {
            Some(Member::Layer(layer)) => layer,
            Some(Member::Raw(raw)) => self.pack(&path, &raw)?,
            Some(Member::Large(_)) => {
                let why = "neither a tar archive nor a compressed one".to_owned();
                return Err(Error::member(name, Problem::Form(why)));
            }
            Some(Member::Link(_)) | None => return Err(missing(name)),
        };
        let layer = spooled.layer.clone();
        self.layers.insert(path, layer.clone());
        self.verified.layers.push(spooled);
        Ok(layer)
    }

    /// A layer that was not known as one when it came: `blobs/sha256/HEX` in an archive without
    /// an index.
    fn pack(&self, path: &[u8], raw: &Spooled) -> Result<SpooledLayer> {
        let open = || {
            let path = raw.ingest.path();
            std::fs::File::open(path).at("open", path)
        };
        let mut begins = Vec::new();
        open()?
            .take(512)
            .read_to_end(&mut begins)
            .at("read", raw.ingest.path())?;
        let mut source = FileSource {
            file: open()?,
            path: raw.ingest.path(),
        };
        spool::layer(
            self.lease,
            &show(path),
            &begins,
            &mut source,
            self.compression,
        )
    }
}

fn missing(name: &str) -> Error {
    let by = MANIFEST.to_owned();
    Error::member(name, Problem::Missing { by })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_read_from_whatever_the_config_is_called() {
        let digest = Digest::of(b"config");
        let hex = digest.hex();
        for name in [
            format!("{hex}.json"),
            format!("sha256:{hex}"),
            format!("blobs/sha256/{hex}"),
        ] {
            let text = format!(r#"[{{"Config":"{name}"}}]"#);
            assert_eq!(listed(text.as_bytes()).unwrap()[0].id(), Some(digest));
        }
        assert_eq!(
            listed(br#"[{"Config":"config.json","RepoTags":null,"Layers":null}]"#).unwrap()[0].id(),
            None
        );
    }

    #[test]
    fn what_is_no_list_of_images_is_told() {
        for bad in ["", "{}", "[1]", r#"[{"Layers":[]}]"#, "[[[["] {
            let error = listed(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("manifest.json: "), "{error}");
        }
    }
}

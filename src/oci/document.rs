//! Reading manifests and indexes strictly, and the links that lead out of a document.
//!
//! A document is one JSON object. What it is follows from its `mediaType`, or, where that field
//! is missing as OCI allows, from the descriptor that led to it; the fields must agree. A document
//! that has the members of a manifest *and* of an index is refused: two readers could see two
//! images in it (CVE-2021-41190; image-spec, manifest.md and image-index.md, "mediaType").
//!
//! Links are what garbage collection follows:
//!
//! ```text
//! index ──child──▶ index, manifest, artifact
//! manifest ──config──▶ config      manifest ──layer──▶ layer
//! manifest, index ──subject──▶ the image that it signs or describes
//! anything else that is JSON ──other──▶ whatever descriptors stand in it
//! ```

use serde::Deserialize;
use serde_json::Value;

use super::digest::Digest;
use super::media;

/// Largest document that is read into memory: 4 MiB is what registries accept as a manifest
/// (distribution-spec, "Pushing Manifests"); an index of a large layout may be far larger.
pub const MANIFEST_LIMIT: u64 = 4 << 20;
/// Largest config or index that is read into memory.
pub const INDEX_LIMIT: u64 = 256 << 20;

/// Annotation: the manifest digest of the image that a step started from.
pub const PARENT: &str = "dev.rstore.parent";
/// Annotation: the instruction that made the image, as classic progress shows it.
pub const STEP: &str = "dev.rstore.step";
/// Annotation: the manifest digests, separated by commas, of images the step copied from or mounted.
pub const STAGES: &str = "dev.rstore.stages";
/// Annotation: the tag, as skopeo and umoci address it (image-spec, annotations.md).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation: the full image name, as containerd takes it.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Why a document cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON of the form that the specification asks for.
    #[error("not a well-formed {what}: {source}")]
    Json {
        /// What it should have been.
        what: &'static str,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The document and the descriptor that led to it, or two members of it, disagree.
    #[error("ambiguous document: {0}")]
    Ambiguous(String),
    /// A member that must be there is not, or has a value that the specification forbids.
    #[error("invalid {what}: {why}")]
    Invalid {
        /// What it is.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// A descriptor (image-spec, descriptor.md), as far as links need it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type of what it points at.
    #[serde(default)]
    pub media_type: String,
    /// The digest of what it points at.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Free-form text members.
    #[serde(default)]
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
    /// The platform of an image in an index.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// The kind of an artifact.
    #[serde(default)]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// The value of one annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// The platform of an image (image-spec, image-index.md).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, serde::Serialize)]
pub struct Platform {
    /// The CPU architecture, as Go's GOARCH.
    pub architecture: String,
    /// The operating system, as Go's GOOS.
    pub os: String,
    /// The CPU's variant, such as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// How far an image for `found` is from this platform, 0 being the same; `None`: it does not
    /// do. A processor runs what is for its older variants too, as containerd takes it: arm/v7 runs
    /// v6, amd64/v3 runs v2. A platform without a variant takes what there is.
    pub fn distance(&self, found: &Platform) -> Option<u32> {
        if (&self.os, &self.architecture) != (&found.os, &found.architecture) {
            return None;
        }
        let level = |platform: &Platform| match platform.variant.as_deref() {
            Some(variant) => variant.strip_prefix('v')?.parse::<u32>().ok(),
            None => match &*platform.architecture {
                "arm" => Some(7),
                "arm64" => Some(8),
                "amd64" => Some(1),
                _ => None,
            },
        };
        const FAR: u32 = 1000;
        match (level(self), level(found)) {
            _ if self.variant == found.variant => Some(0),
            (Some(wanted), Some(found)) if found <= wanted => Some(1 + (wanted - found)),
            // One that says nothing of it is for all.
            _ if found.variant.is_none() => Some(FAR),
            _ if self.variant.is_none() => Some(FAR + 1),
            _ => None,
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

/// How a document points at another blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Role {
    /// An index's member.
    Child = 1,
    /// A manifest's config.
    Config = 2,
    /// A manifest's layer.
    Layer = 3,
    /// What a referrer (signature, attestation) is about.
    Subject = 4,
    /// A descriptor in a document of unknown kind.
    Other = 5,
}

impl Role {
    /// The role with this number.
    pub fn from_number(number: i64) -> Option<Role> {
        Some(match number {
            1 => Role::Child,
            2 => Role::Config,
            3 => Role::Layer,
            4 => Role::Subject,
            5 => Role::Other,
            _ => return None,
        })
    }
}

/// One link out of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// How it points.
    pub role: Role,
    /// At what.
    pub target: Descriptor,
}

/// An image manifest (image-spec, manifest.md), or docker's schema 2 one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// What the document says that it is.
    #[serde(default)]
    pub media_type: Option<String>,
    /// The kind of an artifact.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
    /// The image that this one is about.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// Free-form text members.
    #[serde(default)]
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
}

impl Manifest {
    /// The value of one annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether it is a runnable image, rather than an artifact kept in the form of one.
    pub fn is_image(&self) -> bool {
        media::is_config(&self.config.media_type)
    }
}

/// An image index (image-spec, image-index.md), or docker's manifest list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// What the document says that it is.
    #[serde(default)]
    pub media_type: Option<String>,
    /// The members.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// The image that this index is about.
    #[serde(default)]
    pub subject: Option<Descriptor>,
}

/// A document that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An image, or an artifact in the form of one.
    Manifest(Box<Manifest>),
    /// A list of images.
    Index(Box<Index>),
    /// JSON of an unknown media type: the descriptors found in it, in order.
    Other(Vec<Descriptor>),
    /// Not JSON at all, reached by a media type that no document has: a leaf.
    Leaf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'a> {
    #[serde(borrow, default)]
    media_type: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    manifests: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow, default)]
    layers: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow, default)]
    config: Option<&'a serde_json::value::RawValue>,
}

/// Reads `bytes`, which a descriptor of type `media_type` led to (empty: unknown).
///
/// A known media type is held to it; an unknown one is read for descriptors, so that nothing it
/// points at is taken for garbage.
pub fn parse(bytes: &[u8], media_type: &str) -> Result<Document, Error> {
    let known = media::is_manifest(media_type) || media::is_index(media_type);
    let shape: Shape = match serde_json::from_slice(bytes) {
        Ok(shape) => shape,
        Err(source) if known => {
            return Err(Error::Json {
                what: "document",
                source,
            });
        }
        Err(_) => return Ok(generic(bytes)),
    };
    if shape.manifests.is_some() && (shape.layers.is_some() || shape.config.is_some()) {
        return Err(Error::Ambiguous(
            "it has the members of a manifest and those of an index".to_owned(),
        ));
    }
    let own = shape.media_type.as_deref().unwrap_or("");
    if known && !own.is_empty() && own != media_type {
        return Err(Error::Ambiguous(format!(
            "its descriptor says {media_type:?}, the document itself {own:?}"
        )));
    }
    let told = if own.is_empty() { media_type } else { own };
    if media::is_manifest(told)
        || (told.is_empty() && shape.layers.is_some() && shape.config.is_some())
    {
        manifest(bytes).map(|m| Document::Manifest(Box::new(m)))
    } else if media::is_index(told) || (told.is_empty() && shape.manifests.is_some()) {
        index(bytes).map(|index| Document::Index(Box::new(index)))
    } else {
        Ok(generic(bytes))
    }
}

/// Reads `bytes` as an image manifest.
pub fn manifest(bytes: &[u8]) -> Result<Manifest, Error> {
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|source| Error::Json {
        what: "image manifest",
        source,
    })?;
    version(manifest.schema_version, "image manifest")?;
    Ok(manifest)
}

/// Reads `bytes` as an image index.
pub fn index(bytes: &[u8]) -> Result<Index, Error> {
    let index: Index = serde_json::from_slice(bytes).map_err(|source| Error::Json {
        what: "image index",
        source,
    })?;
    version(index.schema_version, "image index")?;
    Ok(index)
}

fn version(version: u32, what: &'static str) -> Result<(), Error> {
    if version == 2 {
        return Ok(());
    }
    Err(Error::Invalid {
        what,
        why: format!("schemaVersion is {version}, and must be 2"),
    })
}

fn generic(bytes: &[u8]) -> Document {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => {
            let mut found = Vec::new();
            descriptors(&value, &mut found);
            Document::Other(found)
        }
        _ => Document::Leaf,
    }
}

/// Every object in `value` that reads as a descriptor. The parser bounds the depth.
fn descriptors(value: &Value, found: &mut Vec<Descriptor>) {
    match value {
        Value::Object(members) => {
            if members.contains_key("digest")
                && members.contains_key("size")
                && let Ok(descriptor) = Descriptor::deserialize(value)
            {
                found.push(descriptor);
            }
            members
                .values()
                .for_each(|member| descriptors(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| descriptors(item, found)),
        _ => {}
    }
}

impl Document {
    /// What it points at, in order.
    pub fn links(&self) -> Vec<Link> {
        let link = |role, target: &Descriptor| Link {
            role,
            target: target.clone(),
        };
        match self {
            Document::Manifest(manifest) => std::iter::once(link(Role::Config, &manifest.config))
                .chain(manifest.layers.iter().map(|layer| link(Role::Layer, layer)))
                .chain(
                    manifest
                        .subject
                        .iter()
                        .map(|subject| link(Role::Subject, subject)),
                )
                .collect(),
            Document::Index(index) => index
                .manifests
                .iter()
                .map(|child| link(Role::Child, child))
                .chain(
                    index
                        .subject
                        .iter()
                        .map(|subject| link(Role::Subject, subject)),
                )
                .collect(),
            Document::Other(found) => found.iter().map(|d| link(Role::Other, d)).collect(),
            Document::Leaf => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest_text(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{D}","size":2}},"layers":[{{"mediaType":"{}","digest":"{D}","size":3}}]{extra}}}"#,
            media::MANIFEST,
            media::CONFIG,
            media::LAYER_GZIP
        )
    }

    #[test]
    fn a_platform_takes_its_own_variant_then_older_ones() {
        let platform = |text: &str| {
            let mut parts = text.split('/').map(str::to_owned);
            Platform {
                architecture: parts.next().unwrap(),
                os: "linux".into(),
                variant: parts.next(),
            }
        };
        let distance = |wanted: &str, found: &str| platform(wanted).distance(&platform(found));
        assert_eq!(distance("arm/v7", "arm/v7"), Some(0));
        assert!(distance("arm/v7", "arm/v6") < distance("arm/v7", "arm/v5"));
        assert_eq!(distance("arm/v6", "arm/v7"), None);
        assert_eq!(distance("arm/v6", "arm64"), None);
        assert!(distance("arm64", "arm64/v8").is_some());
        assert!(distance("amd64", "amd64/v3").is_some());
        assert_eq!(distance("amd64/v2", "amd64/v3"), None);
        assert!(distance("riscv64", "riscv64").is_some());
    }

    #[test]
    fn a_manifest_links_to_config_layers_and_subject() {
        let text = manifest_text(&format!(
            r#","subject":{{"mediaType":"{}","digest":"{D}","size":9}}"#,
            media::MANIFEST
        ));
        let roles: Vec<Role> = parse(text.as_bytes(), media::MANIFEST)
            .unwrap()
            .links()
            .iter()
            .map(|l| l.role)
            .collect();
        assert_eq!(roles, [Role::Config, Role::Layer, Role::Subject]);
    }

    #[test]
    fn a_document_that_is_both_manifest_and_index_is_refused() {
        let text = manifest_text(r#","manifests":[]"#);
        assert!(matches!(
            parse(text.as_bytes(), media::MANIFEST),
            Err(Error::Ambiguous(_))
        ));
        assert!(matches!(
            parse(text.as_bytes(), ""),
            Err(Error::Ambiguous(_))
        ));
    }

    #[test]
    fn a_descriptor_and_a_document_must_agree() {
        let text = manifest_text("");
        assert!(matches!(
            parse(text.as_bytes(), media::INDEX),
            Err(Error::Ambiguous(_))
        ));
    }

    #[test]
    fn an_unknown_document_is_followed_by_every_descriptor_in_it() {
        let text = format!(
            r#"{{"mediaType":"application/x.new","deep":[{{"blob":{{"digest":"{D}","size":1,"mediaType":"a/b"}}}}]}}"#
        );
        assert_eq!(
            parse(text.as_bytes(), "application/x.new")
                .unwrap()
                .links()
                .len(),
            1
        );
        assert_eq!(
            parse(b"\x7fELF", "application/octet-stream").unwrap(),
            Document::Leaf
        );
    }

    #[test]
    fn a_known_type_that_cannot_be_read_is_an_error_and_not_a_leaf() {
        for bad in [
            "",
            "{",
            "[]",
            r#"{"schemaVersion":1}"#,
            r#"{"schemaVersion":2,"config":7}"#,
        ] {
            assert!(parse(bad.as_bytes(), media::MANIFEST).is_err(), "{bad}");
        }
    }
}

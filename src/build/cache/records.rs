//! The records of a cache, and the manifest that holds them.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{ARTIFACT, RECORDS};
use crate::oci::document::{self, Descriptor};
use crate::oci::{Digest, media};

/// The version that this program writes, and the only one that it reads.
pub const VERSION: u32 = 1;
/// Largest records document that is read into memory.
pub const LIMIT: u64 = 64 << 20;

/// The annotation with the time at which an artifact was made (image-spec, annotations.md).
const CREATED: &str = "org.opencontainers.image.created";

/// A step's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The step's cache key.
    pub key: Digest,
    /// The manifest of what it gave.
    pub image: Digest,
}

/// A selection's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Of what, and what of it.
    pub key: Digest,
    /// The digest of its content.
    pub content: Digest,
}

/// The records of one cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// [`VERSION`].
    pub version: u32,
    /// What steps gave.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// What selections contained.
    #[serde(default)]
    pub selections: Vec<Selection>,
    /// Manifests and configs, by digest.
    #[serde(default)]
    pub documents: BTreeMap<String, String>,
}

impl Records {
    /// Reads the records; the error says what is wrong with them.
    pub fn parse(bytes: &[u8]) -> Result<Records, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let told: Versioned =
            serde_json::from_slice(bytes).map_err(|error| format!("its records: {error}"))?;
        if told.version != VERSION {
            return Err(format!(
                "its records have version {}, and this program knows {VERSION}",
                told.version
            ));
        }
        serde_json::from_slice(bytes).map_err(|error| format!("its records: {error}"))
    }

    /// The document; the same records always give the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("records have only string keys")
    }

    /// The documents whose bytes are what their digests say.
    pub fn verified(&self) -> HashMap<Digest, &str> {
        self.documents
            .iter()
            .filter_map(|(digest, text)| Some((digest.parse::<Digest>().ok()?, text.as_str())))
            .filter(|(digest, text)| Digest::of(text.as_bytes()) == *digest)
            .collect()
    }
}

/// A descriptor as JSON.
fn descriptor(media_type: &str, digest: &Digest, size: u64) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

/// The manifest of a cache with these records and these layers. `created`: when it is written, in
/// milliseconds since the epoch, if that is to be in it.
pub fn manifest(records: &[u8], layers: &[Descriptor], created: Option<i64>) -> Vec<u8> {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| descriptor(&layer.media_type, &layer.digest, layer.size))
        .collect();
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::MANIFEST,
        "artifactType": ARTIFACT,
        "config": descriptor(RECORDS, &Digest::of(records), records.len() as u64),
        "layers": layers,
    });
    let created = created.and_then(DateTime::from_timestamp_millis);
    if let Some(created) = created {
        let created = created.to_rfc3339_opts(SecondsFormat::Millis, true);
        manifest["annotations"] = json!({ CREATED: created });
    }
    serde_json::to_vec(&manifest).expect("a manifest serialises")
}

/// When a cache was written, if its manifest says so: milliseconds since the epoch.
pub fn created(manifest: &document::Manifest) -> Option<i64> {
    let text = manifest.annotation(CREATED)?;
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some(time.timestamp_millis())
}

/// Reads the manifest of a cache; the error says why it is none.
pub fn parse_manifest(bytes: &[u8]) -> Result<document::Manifest, String> {
    let manifest = document::manifest(bytes).map_err(|error| error.to_string())?;
    let kind = manifest.artifact_type.as_deref();
    if kind == Some(ARTIFACT) && manifest.config.media_type == RECORDS {
        return Ok(manifest);
    }
    let kind = kind.unwrap_or(&manifest.config.media_type);
    Err(match kind.starts_with("application/vnd.rstore.cache.") {
        true => format!("it is {kind:?}, which another version of rstore wrote"),
        false => format!("it is {kind:?} and no build cache of rstore"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Records {
        let text = "{}";
        Records {
            version: VERSION,
            steps: vec![Step {
                key: Digest::of(b"k"),
                image: Digest::of(b"i"),
            }],
            selections: Vec::new(),
            documents: BTreeMap::from([
                (Digest::of(text.as_bytes()).to_string(), text.to_owned()),
                (Digest::of(b"other").to_string(), "forged".to_owned()),
                ("md5:1".to_owned(), String::new()),
            ]),
        }
    }

    #[test]
    fn records_read_back_and_forged_documents_are_none() {
        let bytes = records().to_bytes();
        let again = Records::parse(&bytes).unwrap();
        assert_eq!(again, records());
        assert_eq!(again.verified().len(), 1);
        let manifest = parse_manifest(&manifest(&bytes, &[], Some(1_700_000_000_123))).unwrap();
        assert_eq!(manifest.config.digest, Digest::of(&bytes));
        assert!(!manifest.is_image());
        assert_eq!(created(&manifest), Some(1_700_000_000_123));
    }

    #[test]
    fn another_version_and_another_artifact_are_told_apart_from_damage() {
        let newer = r#"{"version":2,"steps":"otherwise"}"#;
        let error = Records::parse(newer.as_bytes()).unwrap_err();
        assert!(error.contains("version 2"), "{error}");
        assert!(Records::parse(b"{").is_err() && Records::parse(b"[]").is_err());
        let text = String::from_utf8(manifest(b"", &[], None)).unwrap();
        let newer = text.replace("cache.v1", "cache.v2");
        let error = parse_manifest(newer.as_bytes()).unwrap_err();
        assert!(error.contains("another version"), "{error}");
        let other = text.replace("vnd.rstore", "vnd.example");
        let error = parse_manifest(other.as_bytes()).unwrap_err();
        assert!(error.contains("no build cache"), "{error}");
    }
}

//! The image config: what to run, and what each step did.
//!
//! image-spec, config.md, with docker's additions (moby, image/spec: `Healthcheck`, `OnBuild`,
//! `Shell`, `ArgsEscaped`), which a builder must inherit from its base. Members that are not
//! known here are carried along unchanged, so that building on an image loses nothing of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::digest::Digest;

/// An image config document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339. Never used for age: bases are old or from 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The CPU architecture, as Go's GOARCH.
    pub architecture: String,
    /// The CPU's variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The operating system, as Go's GOOS.
    pub os: String,
    /// What a container of the image runs as.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: RunConfig,
    /// The layers by diff ID.
    pub rootfs: RootFs,
    /// One entry a step, the oldest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub history: Vec<History>,
    /// Members unknown here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The execution parameters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user[:group]`, by name or number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `port[/protocol]` → `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Value>>,
    /// `NAME=value`, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// What runs, and `CMD` are its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// What runs, or the arguments of the entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// How docker checks that a container is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Paths whose content is not the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Value>>,
    /// The working directory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Instructions that run in builds that are based on the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The signal that stops a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// What shell-form instructions run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Members unknown here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Docker's health check. Durations are nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", command]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Of one check.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks during the start period.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make a container unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digests of the uncompressed layers, the lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step has no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl ImageConfig {
    /// The config of an image with nothing in it, for one platform: `FROM scratch`.
    pub fn scratch(platform: &super::document::Platform) -> ImageConfig {
        ImageConfig {
            created: None,
            author: None,
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            os: platform.os.clone(),
            config: RunConfig::default(),
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: Vec::new(),
            },
            history: Vec::new(),
            other: Map::new(),
        }
    }

    /// Reads a config document.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig, super::document::Error> {
        serde_json::from_slice(bytes).map_err(|source| super::document::Error::Json {
            what: "image config",
            source,
        })
    }

    /// The document's bytes; the same value always gives the same ones.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a config has only string keys")
    }

    /// The chain ID of each layer, the lowest first.
    pub fn chain_ids(&self) -> Vec<Digest> {
        let mut chain = Vec::with_capacity(self.rootfs.diff_ids.len());
        for diff_id in &self.rootfs.diff_ids {
            chain.push(super::digest::chain_id(chain.last(), diff_id));
        }
        chain
    }

    /// The platform it is for.
    pub fn platform(&self) -> super::document::Platform {
        super::document::Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone(),
        }
    }

    /// The step that made each layer: `created_by` of the history entries that have one.
    pub fn layer_steps(&self) -> Vec<Option<&str>> {
        let mut steps = self
            .history
            .iter()
            .filter(|entry| !entry.empty_layer)
            .map(|entry| entry.created_by.as_deref());
        self.rootfs
            .diff_ids
            .iter()
            .map(|_| steps.next().flatten())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_carried_along() {
        let text = r#"{"architecture":"amd64","os":"linux","os.version":"1","config":{"Env":["A=b"],"Tomorrow":{"x":1},"Labels":null},"rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.other["os.version"], "1");
        let again = ImageConfig::parse(&config.to_bytes()).unwrap();
        assert_eq!(again, config);
        assert_eq!(again.config.other["Tomorrow"]["x"], 1);
    }

    #[test]
    fn layers_are_matched_with_the_steps_that_are_not_empty() {
        let mut config = ImageConfig::scratch(&super::super::document::Platform {
            architecture: "amd64".into(),
            os: "linux".into(),
            variant: None,
        });
        let step = |text: &str, empty_layer| History {
            created_by: Some(text.into()),
            empty_layer,
            ..History::default()
        };
        config.history = vec![step("a", false), step("ENV", true), step("b", false)];
        config.rootfs.diff_ids = vec![Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"3")];
        assert_eq!(config.layer_steps(), [Some("a"), Some("b"), None]);
    }
}

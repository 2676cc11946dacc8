//! Cache keys: what must be the same for a step's result to be the same. Pure.
//!
//! A key is the digest of the parent image's ID, the instruction with every word final, and, for
//! COPY and ADD, the content of what is copied; and the time that all is to bear, if one was asked
//! for. Not in it: other times, the values of ARGs that a step does not use, proxies.

use serde_json::{Value, json};

use crate::oci::{Digest, Platform};
use crate::store::Image;

/// Changes when the same step would give another result by this program than by an older one.
const VERSION: u32 = 3;

/// The cache key of a step on `parent`; without one, on nothing, for a platform.
pub fn cache_key(
    parent: Option<&Image>,
    platform: &Platform,
    timestamp: Option<i64>,
    identity: &Value,
    content: Option<&Digest>,
) -> Digest {
    let parent = match parent {
        Some(image) => image.id().to_string(),
        None => format!("scratch {platform}"),
    };
    let text = json!({
        "version": VERSION,
        "parent": parent,
        "step": identity,
        "content": content,
        "timestamp": timestamp,
    });
    Digest::of(text.to_string().as_bytes())
}

/// The key under which the content of a selection of an image's files is remembered.
pub fn selection_key(image: &Image, identity: &Value) -> Digest {
    let text = json!({ "version": VERSION, "image": image.id(), "selection": identity });
    Digest::of(text.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform() -> Platform {
        Platform {
            architecture: "amd64".into(),
            os: "linux".into(),
            variant: None,
        }
    }

    #[test]
    fn a_key_depends_on_the_step_and_on_the_content() {
        let step = json!({ "run": ["true"] });
        let key = cache_key(None, &platform(), None, &step, None);
        assert_eq!(key, cache_key(None, &platform(), None, &step, None));
        assert_ne!(
            key,
            cache_key(None, &platform(), None, &json!({ "run": ["false"] }), None)
        );
        assert_ne!(
            key,
            cache_key(None, &platform(), None, &step, Some(&Digest::of(b"")))
        );
    }
}

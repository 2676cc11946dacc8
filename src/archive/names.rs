//! Which names an image gets.
//!
//! | the archive says | the image is called |
//! |---|---|
//! | `io.containerd.image.name`, `RepoTags` | that, in its stored form |
//! | `ref.name` with `:` or `/`: `app:1`, `host/app` | that, as skopeo and our own layouts write it |
//! | `ref.name` without: `latest` (a tag, says annotations.md; skopeo's users write `app`) | the caller's name with that tag, or nothing |
//! | nothing, or what is no image name | the caller's name, if only one image needs it, or nothing |

use super::error::{Error, Result};
use crate::layout::Entry;
use crate::oci::Reference;
use crate::oci::document::CONTAINERD_NAME;
use crate::store::{self, Store};

/// What an entry of an index is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// An image name in its stored form.
    Full(String),
    /// A tag of an unknown repository.
    Tag(String),
    /// Nothing, or nothing that is a name here.
    Not,
}

/// The name that an entry of an index carries.
pub fn of_entry(entry: &Entry) -> Named {
    if let Some(name) = entry.descriptor.annotation(CONTAINERD_NAME)
        && let Ok(name) = Store::tag_name(name)
    {
        return Named::Full(name);
    }
    match entry.name() {
        Some(name) if name.contains([':', '/']) => match Store::tag_name(name) {
            Ok(name) => Named::Full(name),
            Err(_) => Named::Not,
        },
        Some(tag) if Store::tag_name(&format!("name:{tag}")).is_ok() => Named::Tag(tag.to_owned()),
        _ => Named::Not,
    }
}

/// The stored form of a name that `member` asks for.
pub fn stored(text: &str, member: &str) -> Result<String> {
    Store::tag_name(text).map_err(|error| match error {
        store::Error::Name(source) => Error::Name {
            member: member.to_owned(),
            source,
        },
        other => other.into(),
    })
}

/// The caller's name, for an image whose archive knows only its tag.
pub fn with_tag(name: &str, tag: &str) -> Result<String> {
    let mut reference: Reference = name.parse().map_err(store::Error::from)?;
    reference.tag = Some(tag.to_owned());
    Ok(reference.familiar())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Index;
    use crate::oci::{Digest, media};

    fn entry(annotations: &str) -> Entry {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{}","size":1,"annotations":{{{annotations}}}}}]}}"#,
            media::MANIFEST,
            Digest::of(b"x")
        );
        Index::parse(text.as_bytes()).unwrap().entries()[0].clone()
    }

    #[test]
    fn each_way_to_name_an_image_is_understood() {
        let full = |name: &str| Named::Full(name.to_owned());
        for (annotations, named) in [
            ("", Named::Not),
            (
                r#""io.containerd.image.name":"docker.io/library/app:1","org.opencontainers.image.ref.name":"1""#,
                full("app:1"),
            ),
            (
                r#""org.opencontainers.image.ref.name":"app:2""#,
                full("app:2"),
            ),
            (
                r#""org.opencontainers.image.ref.name":"host.example/app""#,
                full("host.example/app:latest"),
            ),
            (
                r#""org.opencontainers.image.ref.name":"latest""#,
                Named::Tag("latest".to_owned()),
            ),
            (
                r#""org.opencontainers.image.ref.name":"My Tag!""#,
                Named::Not,
            ),
            (r#""org.opencontainers.image.ref.name":"A:B:C""#, Named::Not),
        ] {
            assert_eq!(of_entry(&entry(annotations)), named, "{annotations}");
        }
    }

    #[test]
    fn a_tag_joins_the_name_that_the_caller_gives() {
        assert_eq!(with_tag("host/app", "3").unwrap(), "host/app:3");
        assert_eq!(with_tag("app:old", "new").unwrap(), "app:new");
        assert!(with_tag("Bad Name", "new").is_err());
    }
}

//! What a registry has about a manifest (distribution-spec 1.1, "Listing Referrers").
//!
//! ```text
//! GET referrers/DIGEST ─▶ 200, an index: its pages, by Link
//!                      ─▶ else             the registry knows no such list, and the tag has it:
//! GET manifests/sha256-HEX ─▶ 200, an index ("Referrers Tag Schema")    404: there is nothing
//!
//! PUT manifests/DIGEST ─▶ OCI-Subject      the registry has entered it into its list
//!                      ─▶ none             who pushes enters it into the tag's index
//! ```
//! The tag belongs to everybody who pushes, and most registries write what they are given: after an
//! update it is read again, and updated again where somebody else's has gone over it.

use serde_json::{Value, json};

use super::Stop;
use super::error::{Error, Result};
use super::repository::{Repository, body, following};
use super::session::{header, refused};
use crate::http::shown;
use crate::oci::document::{self, Descriptor, Document, MANIFEST_LIMIT};
use crate::oci::{Digest, media};
use crate::store::referrers::{Kinds, tag_of};

/// How much may be about one image; more is not meant, or not well.
pub(super) const MOST: usize = 1000;
/// How often the tag is updated against others who update it too.
const UPDATES: u32 = 5;

impl Repository {
    /// What the registry has about a manifest. Kinds that are not wanted may be left out.
    pub fn referrers(
        &self,
        subject: &Digest,
        kinds: &Kinds,
        stop: &Stop,
    ) -> Result<Vec<Descriptor>> {
        if let Some(listed) = self.listed(subject, kinds, stop)? {
            return Ok(listed);
        }
        let index = self.tagged(subject, stop)?;
        Ok(index.map_or_else(Vec::new, |(_, index)| index.manifests))
    }

    /// The registry's own list; `None`: it has no such lists.
    fn listed(
        &self,
        subject: &Digest,
        kinds: &Kinds,
        stop: &Stop,
    ) -> Result<Option<Vec<Descriptor>>> {
        let mut request = self.request("GET", &format!("referrers/{subject}"), stop)?;
        if let Some(kind) = kinds.only() {
            let kind = super::auth::encoded(kind);
            request.url.query = Some(format!("artifactType={kind}"));
        }
        let mut found: Vec<Descriptor> = Vec::new();
        loop {
            let response = self.send(&request, stop)?;
            let kind = header(&response, "content-type").unwrap_or_default();
            match response.status().as_u16() {
                200 if kind.split(';').next().unwrap_or_default().trim() == media::INDEX => {}
                // The first page of somebody who doesn't know the question.
                200 | 400 | 404 | 405 | 406 | 501 if found.is_empty() => return Ok(None),
                _ => return Err(refused(&request.url, response)),
            }
            let next = following(&response, &request.url)?;
            let bytes = body(response, &request.url)?;
            let index = document::index(&bytes).map_err(|error| Error::Wrong {
                what: shown(&request.url),
                why: format!("that is no list of referrers: {error}"),
            })?;
            let before = found.len();
            for one in index.manifests {
                if !found.iter().any(|known| known.digest == one.digest) {
                    found.push(one);
                }
            }
            if found.len() > MOST {
                return Err(too_many(subject));
            }
            match next {
                // A list that leads back to itself has an end too.
                Some(next) if found.len() > before => request.url = next,
                _ => return Ok(Some(found)),
            }
        }
    }

    /// The index under the tag, with its bytes; `None`: there is none.
    fn tagged(&self, subject: &Digest, stop: &Stop) -> Result<Option<(Vec<u8>, document::Index)>> {
        let tag = tag_of(subject);
        let fetched = match self.manifest(&tag, None, stop) {
            Err(Error::NotFound { .. }) => return Ok(None),
            fetched => fetched?,
        };
        let parsed = document::parse(&fetched.bytes, "").map_err(|source| Error::Document {
            digest: fetched.digest,
            source,
        })?;
        match parsed {
            Document::Index(index) if index.manifests.len() > MOST => Err(too_many(subject)),
            Document::Index(index) => Ok(Some((fetched.bytes, *index))),
            _ => Err(Error::Wrong {
                what: format!("{}/{}:{tag}", self.endpoint.name, self.path),
                why: format!("that is no index, as a tag of what is about {subject} must be"),
            }),
        }
    }

    /// Writes a manifest that is about another one. Returns whether the registry has entered it
    /// into its own list.
    pub fn put_referrer(
        &self,
        digest: &Digest,
        media_type: &str,
        bytes: &[u8],
        stop: &Stop,
    ) -> Result<bool> {
        let response = self.put_manifest(&digest.to_string(), media_type, bytes, stop)?;
        Ok(header(&response, "oci-subject").is_some())
    }

    /// Enters descriptors into the index under the tag, which is made where it isn't there.
    pub fn enter_in_tag(&self, subject: &Digest, entries: &[Value], stop: &Stop) -> Result<()> {
        for _ in 0..UPDATES {
            let before = self.tagged(subject, stop)?.map(|(bytes, _)| bytes);
            let Some(bytes) = with_entries(before.as_deref(), entries) else {
                return Ok(());
            };
            if bytes.len() as u64 > MANIFEST_LIMIT {
                return Err(too_many(subject));
            }
            self.put_manifest(&tag_of(subject), media::INDEX, &bytes, stop)?;
        }
        match self.tagged(subject, stop)? {
            Some((bytes, _)) if with_entries(Some(&bytes), entries).is_none() => Ok(()),
            _ => Err(Error::Wrong {
                what: format!("{}/{}:{}", self.endpoint.name, self.path, tag_of(subject)),
                why: "others write this list at the same time: push again".to_owned(),
            }),
        }
    }
}

/// The index with these entries as well; `None`: it has them all.
fn with_entries(before: Option<&[u8]>, entries: &[Value]) -> Option<Vec<u8>> {
    let mut index: Value = before
        .and_then(|bytes| serde_json::from_slice(bytes).ok())
        .unwrap_or_else(|| json!({ "schemaVersion": 2, "mediaType": media::INDEX }));
    let members = index.as_object_mut()?;
    let list = members.entry("manifests").or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    let list = list.as_array_mut()?;
    let before = list.len();
    for entry in entries {
        if !list.iter().any(|known| known["digest"] == entry["digest"]) {
            list.push(entry.clone());
        }
    }
    (list.len() > before).then(|| serde_json::to_vec(&index).expect("JSON values serialise"))
}

/// The descriptor of a referrer in the tag's index: with its kind and its annotations.
pub(super) fn entry(digest: &Digest, media_type: &str, bytes: &[u8], parsed: &Document) -> Value {
    let mut entry = json!({
        "mediaType": media_type,
        "digest": digest,
        "size": bytes.len(),
    });
    if let Some(kind) = crate::store::referrers::artifact_type(parsed) {
        entry["artifactType"] = json!(kind);
    }
    if let Document::Manifest(manifest) = parsed
        && let Some(annotations) = &manifest.annotations
    {
        entry["annotations"] = json!(annotations);
    }
    entry
}

/// More than anybody means.
pub(super) fn too_many(subject: &Digest) -> Error {
    Error::Refused {
        what: format!("what is about {subject}"),
        why: format!("it is more than {MOST}; --referrers=TYPE asks for those of one type"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_added_once_and_all_else_stays() {
        let entry = json!({ "digest": Digest::of(b"a"), "size": 1, "mediaType": "m" });
        let made = with_entries(None, std::slice::from_ref(&entry)).unwrap();
        let index = document::index(&made).unwrap();
        assert_eq!(index.media_type.as_deref(), Some(media::INDEX));
        assert_eq!(index.manifests.len(), 1);
        assert_eq!(
            with_entries(Some(&made), std::slice::from_ref(&entry)),
            None
        );
        let theirs =
            br#"{"schemaVersion":2,"annotations":{"x":"y"},"manifests":[{"digest":"d","new":1}]}"#;
        let both = with_entries(Some(theirs), &[entry]).unwrap();
        let both: Value = serde_json::from_slice(&both).unwrap();
        assert_eq!(both["annotations"]["x"], "y");
        assert_eq!(both["manifests"][0]["new"], 1);
        assert_eq!(both["manifests"][1]["size"], 1);
    }
}

//! The questions about one repository: manifests and tags (distribution-spec, "Pulling manifests",
//! "Pushing Manifests", "Listing Tags").

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use super::endpoint::Endpoint;
use super::error::{Error, Result};
use super::retry::{ATTEMPTS, delay};
use super::session::{Payload, Request, Response, header, message, refused};
use super::{Client, Stop};
use crate::http::shown;
use crate::http::url::Url;
use crate::oci::document::MANIFEST_LIMIT;
use crate::oci::reference::is_tag;
use crate::oci::{Digest, media};

/// All that a manifest may be.
const ACCEPT: [&str; 4] = [
    media::INDEX,
    media::MANIFEST,
    media::DOCKER_INDEX,
    media::DOCKER_MANIFEST,
];

/// More tags than this are a list without an end.
const MOST_TAGS: usize = 1_000_000;

/// A repository of a registry or a mirror.
#[derive(Clone)]
pub(super) struct Repository {
    pub client: Client,
    pub endpoint: Arc<Endpoint>,
    /// Its path there.
    pub path: String,
    /// `pull`, `pull,push` or `pull,delete`.
    actions: &'static str,
}

/// A manifest or an index, as a registry has it.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    pub bytes: Vec<u8>,
    pub digest: Digest,
    /// By the answer's header.
    pub media_type: String,
}

impl Repository {
    /// What is at `path` of an endpoint, to be pulled from.
    pub fn new(client: &Client, endpoint: Arc<Endpoint>, path: &str) -> Repository {
        Repository {
            client: client.clone(),
            path: endpoint.repository(path),
            endpoint,
            actions: "pull",
        }
    }

    /// The same, to be pushed to.
    pub fn for_pushes(self) -> Repository {
        Repository {
            actions: "pull,push",
            ..self
        }
    }

    /// The same, to be deleted from.
    pub fn for_deletes(self) -> Repository {
        Repository {
            actions: "pull,delete",
            ..self
        }
    }

    /// What a token for it is asked for.
    pub fn scope(&self) -> String {
        format!("repository:{}:{}", self.path, self.actions)
    }

    /// A question about it, to be asked again where that may help.
    pub fn request(&self, method: &'static str, path: &str, stop: &Stop) -> Result<Request<'_>> {
        let path = format!("{}/{path}", self.path);
        Ok(Request {
            method,
            url: self.endpoint.url(&self.client, &path, stop)?,
            headers: Vec::new(),
            payload: Payload::Nothing,
            scope: self.scope(),
            again: true,
        })
    }

    pub fn send(&self, request: &Request, stop: &Stop) -> Result<Response> {
        self.client.send(&self.endpoint, request, stop)
    }

    fn ask_for_manifest(
        &self,
        method: &'static str,
        reference: &str,
        stop: &Stop,
    ) -> Result<(Url, Response)> {
        // Most often the first question: that it is answered says how the registry is reached.
        let path = format!("{}/manifests/{reference}", self.path);
        let mut request = Request {
            method,
            url: self.endpoint.guessed_url(&self.client, &path, stop)?,
            headers: Vec::new(),
            payload: Payload::Nothing,
            scope: self.scope(),
            again: true,
        };
        request.headers.push(("accept", ACCEPT.join(", ")));
        let response = self.send(&request, stop)?;
        Ok((request.url, response))
    }

    /// The manifest of a tag or a digest. `wanted`: what its digest must be.
    pub fn manifest(
        &self,
        reference: &str,
        wanted: Option<&Digest>,
        stop: &Stop,
    ) -> Result<Fetched> {
        let mut failures = 0;
        loop {
            let (url, response) = self.ask_for_manifest("GET", reference, stop)?;
            match response.status().as_u16() {
                200 => {}
                404 => return Err(self.missing(&format!("the manifest {reference}"), response)),
                _ => return Err(refused(&url, response)),
            }
            let told = header(&response, "docker-content-digest");
            let kind = header(&response, "content-type").unwrap_or_default();
            let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
            match document(response, &url) {
                Ok(bytes) => {
                    let digest = Digest::of(&bytes);
                    // The registry's word counts where the name has none; other algorithms do not.
                    let told = told.and_then(|text| text.parse::<Digest>().ok());
                    let expected = wanted.copied().or(told);
                    if let Some(expected) = expected.filter(|expected| *expected != digest) {
                        return Err(Error::Wrong {
                            what: shown(&url),
                            why: format!("its bytes have digest {digest}, not {expected}"),
                        });
                    }
                    return Ok(Fetched {
                        bytes,
                        digest,
                        media_type: kind,
                    });
                }
                Err(error) => {
                    failures += 1;
                    if failures >= ATTEMPTS || !error.is_passing() {
                        return Err(error);
                    }
                    stop.pause(delay(failures, self.client.chance()))?;
                }
            }
        }
    }

    /// The digest of the manifest of a tag or a digest, as the registry tells it; `None`: it has no
    /// such manifest, or doesn't tell. That is no question for a manifest: registries that count
    /// pulls do not count it.
    pub fn digest(&self, reference: &str, stop: &Stop) -> Result<Option<Digest>> {
        Ok(self.manifest_digest(reference, stop)?.flatten())
    }

    /// What digest the manifest under a tag or digest has, as far as the registry says so (the inner
    /// `None`: it does not); the outer `None`: there is no such manifest.
    pub fn manifest_digest(&self, reference: &str, stop: &Stop) -> Result<Option<Option<Digest>>> {
        let (url, response) = self.ask_for_manifest("HEAD", reference, stop)?;
        match response.status().as_u16() {
            200 => {
                let told = header(&response, "docker-content-digest");
                Ok(Some(told.and_then(|told| told.parse::<Digest>().ok())))
            }
            404 => Ok(None),
            _ => Err(refused(&url, response)),
        }
    }

    /// Whether the registry has a manifest with this digest under a tag or digest.
    pub fn has_manifest(&self, reference: &str, digest: &Digest, stop: &Stop) -> Result<bool> {
        Ok(self.digest(reference, stop)? == Some(*digest))
    }

    /// Writes a manifest under a tag or its digest. Returns what the registry says of it.
    pub fn put_manifest(
        &self,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
        stop: &Stop,
    ) -> Result<Response> {
        let mut request = self.request("PUT", &format!("manifests/{reference}"), stop)?;
        request
            .headers
            .push(("content-type", media_type.to_owned()));
        request.payload = Payload::Bytes(bytes);
        let response = self.send(&request, stop)?;
        match response.status().as_u16() {
            200..=202 => {}
            _ => return Err(refused(&request.url, response)),
        }
        let ours = Digest::of(bytes);
        let theirs = header(&response, "docker-content-digest");
        match theirs.and_then(|theirs| theirs.parse::<Digest>().ok()) {
            Some(theirs) if theirs != ours => Err(Error::Wrong {
                what: shown(&request.url),
                why: format!("the registry has kept it as {theirs}, not as {ours}"),
            }),
            _ => Ok(response),
        }
    }

    /// A small blob.
    pub fn small_blob(&self, digest: &Digest, size: u64, stop: &Stop) -> Result<Vec<u8>> {
        let wrong = |why: String| Error::Wrong {
            what: digest.to_string(),
            why,
        };
        if size > MANIFEST_LIMIT {
            return Err(wrong(format!(
                "it is {size} bytes, more than the {MANIFEST_LIMIT} that are read as a document"
            )));
        }
        let mut failures = 0;
        loop {
            let request = self.request("GET", &format!("blobs/{digest}"), stop)?;
            let response = self.send(&request, stop)?;
            match response.status().as_u16() {
                200 => {}
                404 => return Err(self.missing(&format!("the blob {digest}"), response)),
                _ => return Err(refused(&request.url, response)),
            }
            match document(response, &request.url) {
                Ok(bytes) if bytes.len() as u64 != size => {
                    return Err(wrong(format!(
                        "the registry sent {} bytes, and the manifest says {size}",
                        bytes.len()
                    )));
                }
                Ok(bytes) => {
                    let actual = Digest::of(&bytes);
                    if actual != *digest {
                        return Err(wrong(format!(
                            "the bytes that the registry sent have digest {actual}"
                        )));
                    }
                    return Ok(bytes);
                }
                Err(error) => {
                    failures += 1;
                    if failures >= ATTEMPTS || !error.is_passing() {
                        return Err(error);
                    }
                    stop.pause(delay(failures, self.client.chance()))?;
                }
            }
        }
    }

    /// All tags, sorted.
    pub fn tags(&self, stop: &Stop) -> Result<Vec<String>> {
        let mut tags: BTreeSet<String> = BTreeSet::new();
        let mut request = self.request("GET", "tags/list", stop)?;
        loop {
            let response = self.send(&request, stop)?;
            match response.status().as_u16() {
                200 => {}
                404 => return Err(self.missing("the list of tags", response)),
                _ => return Err(refused(&request.url, response)),
            }
            let wrong = |why: String| Error::Wrong {
                what: shown(&request.url),
                why,
            };
            let next = following(&response, &request.url)?;
            let page: Page = serde_json::from_slice(&document(response, &request.url)?)
                .map_err(|error| wrong(format!("that is no list of tags: {error}")))?;
            let known = tags.len();
            for tag in page.tags.unwrap_or_default() {
                // It becomes a part of URLs, of names in the store, and of what is printed.
                if !is_tag(&tag) {
                    return Err(wrong(format!(
                        "the registry lists {tag:?}, which is no tag"
                    )));
                }
                tags.insert(tag);
            }
            if tags.len() > MOST_TAGS {
                return Err(wrong(format!("it lists more than {MOST_TAGS} tags")));
            }
            match next {
                // A list that leads back to itself has an end too.
                Some(next) if tags.len() > known => request.url = next,
                _ => return Ok(tags.into_iter().collect()),
            }
        }
    }

    /// Asks for nothing but leave to ask.
    pub fn check(client: &Client, endpoint: &Endpoint, stop: &Stop) -> Result<()> {
        let request = Request {
            method: "GET",
            url: endpoint.url(client, "", stop)?,
            headers: Vec::new(),
            payload: Payload::Nothing,
            scope: String::new(),
            again: true,
        };
        let response = client.send(endpoint, &request, stop)?;
        match response.status().as_u16() {
            // Some have no such page, and say so to those who may ask.
            200 | 404 => Ok(()),
            _ => Err(refused(&request.url, response)),
        }
    }

    pub fn missing(&self, what: &str, response: Response) -> Error {
        Error::NotFound {
            what: format!("{what} of {}/{}", self.endpoint.name, self.path),
            message: message(response),
        }
    }
}

#[derive(serde::Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

/// Where a list goes on whose page this answer is (distribution-spec, "Listing Tags"). A list that
/// goes on somewhere else is an error: what is not seen of it might be what must be known.
pub(super) fn following(response: &Response, url: &Url) -> Result<Option<Url>> {
    let links = response.headers().get_all("link").iter();
    let mut texts = links.filter_map(|value| value.to_str().ok());
    let Some(link) = texts.find_map(next_page) else {
        return Ok(None);
    };
    let next = url.join(&link).map(|next| Url {
        // Behind a proxy that ends TLS a registry may not know how it is asked.
        scheme: url.scheme.clone(),
        ..next
    });
    match next {
        Some(next) if next.same_origin(url) => Ok(Some(next)),
        _ => Err(Error::Wrong {
            what: shown(url),
            why: format!("the list goes on at {link:?}, which is not the same server"),
        }),
    }
}

/// The URL of `<URL>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<String> {
    let mut rest = link;
    loop {
        let (url, behind) = rest.split_once('<')?.1.split_once('>')?;
        let parameters = behind.split('<').next().unwrap_or_default();
        let is_next = |parameter: &str| {
            let parameter = parameter.trim_matches([' ', ',', '\t']);
            let relations = parameter.strip_prefix("rel=").unwrap_or_default();
            let mut relations = relations.trim_matches('"').split_ascii_whitespace();
            relations.any(|relation| relation.eq_ignore_ascii_case("next"))
        };
        if parameters.split(';').any(is_next) {
            return Some(url.to_owned());
        }
        rest = behind;
    }
}

/// The whole body of an answer that is a document.
pub(super) fn body(response: Response, url: &Url) -> Result<Vec<u8>> {
    document(response, url)
}

/// The whole body of an answer that is a document.
fn document(response: Response, url: &Url) -> Result<Vec<u8>> {
    let announced = header(&response, "content-length").and_then(|text| text.parse::<u64>().ok());
    let mut bytes = Vec::new();
    let mut body = response.into_body().into_reader().take(MANIFEST_LIMIT + 1);
    let failed = |why: String| Error::Failed {
        url: shown(url),
        why,
        again: true,
    };
    body.read_to_end(&mut bytes)
        .map_err(|error| failed(error.to_string()))?;
    let length = bytes.len() as u64;
    if length > MANIFEST_LIMIT {
        return Err(Error::Wrong {
            what: shown(url),
            why: format!("it is more than the {MANIFEST_LIMIT} bytes that are read as a document"),
        });
    }
    match announced {
        Some(announced) if announced != length => Err(failed(format!(
            "the server sent {length} bytes of the {announced} that it announced"
        ))),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::next_page;

    #[test]
    fn the_next_page_is_in_a_link() {
        let link = r#"</v2/a/tags/list?last=x&n=2>; rel="next""#;
        assert_eq!(
            next_page(link).as_deref(),
            Some("/v2/a/tags/list?last=x&n=2")
        );
        assert_eq!(next_page(r#"</x>; rel="prev""#), None);
        let both = r#"</v2/a?next=1>; rel="prev", </v2/a?next=3>; title="x"; rel=next"#;
        assert_eq!(next_page(both).as_deref(), Some("/v2/a?next=3"));
        assert_eq!(next_page(""), None);
    }
}

//! Signatures and SBOMs as registries know them, and a registry of one's own that lists them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::Digest;

use super::http::{Request, Response, Server};
use super::rstore::hex;

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// `sha256:…` of bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&sha2::Sha256::digest(bytes)))
}

/// The tag that a registry without the API has for what is about a manifest.
pub fn tag(subject: &str) -> String {
    subject.replace(':', "-")
}

/// What something is about.
#[derive(Debug, Clone)]
pub struct Subject {
    pub digest: String,
    pub size: u64,
}

impl Subject {
    /// A manifest of a store.
    pub fn of(store: &super::Rstore, digest: &str) -> Subject {
        let file = std::fs::metadata(store.blob(digest));
        Subject {
            digest: digest.to_owned(),
            size: file.expect("a manifest").len(),
        }
    }
}

/// A manifest of something that is no image.
#[derive(Debug, Clone)]
pub struct Artifact {
    pub manifest: Vec<u8>,
    pub kind: String,
    blobs: [Vec<u8>; 2],
}

impl Artifact {
    /// One with a layer of some bytes, about `subject`.
    pub fn new(kind: &str, content: &str, subject: Option<&Subject>) -> Artifact {
        let config = b"{}".to_vec();
        let layer = content.as_bytes().to_vec();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(&config), "size": 2 },
            "layers": [{ "mediaType": "text/plain", "digest": digest(&layer), "size": layer.len() }],
            "annotations": { "org.example.content": content },
        });
        if let Some(subject) = subject {
            let (digest, size) = (&subject.digest, subject.size);
            manifest["subject"] = json!({ "mediaType": MANIFEST, "digest": digest, "size": size });
        }
        Artifact {
            manifest: serde_json::to_vec(&manifest).expect("JSON"),
            kind: kind.to_owned(),
            blobs: [config, layer],
        }
    }

    pub fn digest(&self) -> String {
        digest(&self.manifest)
    }

    /// As what another one is about.
    pub fn subject(&self) -> Subject {
        Subject {
            digest: self.digest(),
            size: self.manifest.len() as u64,
        }
    }

    /// What an index has of it.
    pub fn descriptor(&self) -> Value {
        json!({
            "mediaType": MANIFEST,
            "digest": self.digest(),
            "size": self.manifest.len(),
            "artifactType": self.kind,
        })
    }

    /// Brings it to a repository, under a tag or by its digest.
    pub fn push(&self, host: &str, repository: &str, tag: Option<&str>) {
        for blob in &self.blobs {
            let url = format!("http://{host}/v2/{repository}/blobs/uploads/");
            let begun = ureq::post(&url).send_empty().expect("an upload");
            let location = begun.headers().get("location").expect("a place");
            let location = match location.to_str().expect("text") {
                path if path.starts_with('/') => format!("http://{host}{path}"),
                url => url.to_owned(),
            };
            let mark = if location.contains('?') { '&' } else { '?' };
            let url = format!("{location}{mark}digest={}", digest(blob));
            ureq::put(&url).send(&blob[..]).expect("a blob");
        }
        let name = tag.map_or_else(|| self.digest(), str::to_owned);
        put(host, repository, &name, MANIFEST, &self.manifest);
    }
}

/// Writes a manifest.
pub fn put(host: &str, repository: &str, name: &str, kind: &str, bytes: &[u8]) {
    let url = format!("http://{host}/v2/{repository}/manifests/{name}");
    let put = ureq::put(&url).header("content-type", kind);
    put.send(bytes).expect("a manifest");
}

/// Writes the index that lists what is about a manifest.
pub fn list(host: &str, repository: &str, subject: &str, listed: &[Value]) {
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": listed });
    let bytes = serde_json::to_vec(&index).expect("JSON");
    put(host, repository, &tag(subject), INDEX, &bytes);
}

/// What a repository has under a tag; `None`: nothing.
pub fn get(host: &str, repository: &str, name: &str) -> Option<Value> {
    let url = format!("http://{host}/v2/{repository}/manifests/{name}");
    let asked = ureq::get(&url).header("accept", &format!("{INDEX}, {MANIFEST}"));
    match asked.call() {
        Ok(mut answer) => {
            let bytes = answer.body_mut().read_to_vec().expect("a body");
            Some(serde_json::from_slice(&bytes).expect("JSON"))
        }
        Err(ureq::Error::StatusCode(404)) => None,
        Err(error) => panic!("{url}: {error}"),
    }
}

/// The digests of an index's members.
pub fn members(index: &Value) -> Vec<String> {
    let members = index["manifests"].as_array().expect("members").iter();
    members.map(|m| super::rstore::text(&m["digest"])).collect()
}

/// A registry that lists referrers, in memory.
#[derive(Default)]
pub struct Shelf {
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// By tag and by digest.
    pub manifests: BTreeMap<String, Vec<u8>>,
    /// What it has listed, by what it is about, in order.
    pub referrers: BTreeMap<String, Vec<Value>>,
    /// How often it had no time, and how often a list was gone over.
    refused: usize,
    raced: usize,
}

/// How such a registry is.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// How many there are on a page.
    pub page: usize,
    /// Whether it knows `artifactType`.
    pub filters: bool,
    /// Whether the last page leads back to the first.
    pub circles: bool,
    /// How often it has no time for what is sent to it.
    pub tired: usize,
    /// Whether it has the API; without it, pushes are not told that it has listed anything.
    pub lists: bool,
    /// How often somebody else's list goes over the one that was just written.
    pub races: usize,
}

impl Default for Manners {
    fn default() -> Manners {
        Manners {
            page: 100,
            filters: true,
            circles: false,
            tired: 0,
            lists: true,
            races: 0,
        }
    }
}

/// A registry of one's own, with what it has.
pub fn registry(manners: Manners) -> (Server, Arc<Mutex<Shelf>>) {
    let shelf: Arc<Mutex<Shelf>> = Arc::default();
    let own = shelf.clone();
    let server = Server::new(move |request| {
        let mut shelf = own.lock().expect("nobody panicked");
        answer(&mut shelf, manners, request)
    });
    (server, shelf)
}

fn answer(shelf: &mut Shelf, manners: Manners, request: &Request) -> Response {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let parts: Vec<&str> = path.trim_matches('/').rsplitn(3, '/').collect();
    let found = |bytes: Option<&Vec<u8>>, kind: &str| match bytes {
        Some(bytes) => Response {
            announced: (request.method == "HEAD").then_some(bytes.len()),
            body: if request.method == "HEAD" {
                Vec::new()
            } else {
                bytes.clone()
            },
            ..Response::new(200)
        }
        .header("content-type", kind)
        .header("docker-content-digest", &digest(bytes)),
        None => Response::new(404),
    };
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.replace("%2F", "/").replace("%2B", "+"))
    };
    if request.method == "PUT" && shelf.refused < manners.tired {
        shelf.refused += 1;
        return Response::new(503);
    }
    match (request.method.as_str(), parts.as_slice()) {
        ("GET" | "HEAD", [name, "manifests", _]) => {
            let bytes = shelf.manifests.get(*name);
            let parsed: Option<Value> = bytes.and_then(|b| serde_json::from_slice(b).ok());
            let kind = parsed.and_then(|v| Some(v["mediaType"].as_str()?.to_owned()));
            found(bytes, &kind.unwrap_or_default())
        }
        ("GET" | "HEAD", [name, "blobs", _]) => found(shelf.blobs.get(*name), "a/b"),
        ("POST", ["uploads", "blobs", _]) => {
            Response::new(202).header("location", &format!("{}/1", path.trim_end_matches('/')))
        }
        ("PUT", [_, "uploads", _]) => {
            shelf
                .blobs
                .insert(digest(&request.body), request.body.clone());
            Response::new(201)
        }
        ("PUT", [name, "manifests", _]) => {
            let own = digest(&request.body);
            let parsed: Value = serde_json::from_slice(&request.body).expect("JSON");
            shelf
                .manifests
                .insert((*name).to_owned(), request.body.clone());
            shelf.manifests.insert(own.clone(), request.body.clone());
            let mut answer = Response::new(201).header("docker-content-digest", &own);
            let is_list = name.starts_with("sha256-") && !name.contains('.');
            if is_list && shelf.raced < manners.races {
                shelf.raced += 1;
                let theirs = json!({ "mediaType": MANIFEST, "digest": digest(&[shelf.raced as u8]), "size": 1 });
                let index =
                    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [theirs] });
                shelf
                    .manifests
                    .insert((*name).to_owned(), index.to_string().into_bytes());
            }
            let subject = parsed["subject"]["digest"].as_str();
            if let Some(subject) = subject.filter(|_| manners.lists) {
                let list = shelf.referrers.entry(subject.to_owned()).or_default();
                if !list.iter().any(|known| known["digest"] == own) {
                    list.push(json!({
                        "mediaType": parsed["mediaType"], "digest": own, "size": request.body.len(),
                        "artifactType": parsed["artifactType"],
                    }));
                }
                answer = answer.header("oci-subject", subject);
            }
            answer
        }
        ("GET", [subject, "referrers", _]) if manners.lists => {
            let mut list = shelf.referrers.get(*subject).cloned().unwrap_or_default();
            let kind = value("artifactType").filter(|_| manners.filters);
            if let Some(kind) = &kind {
                list.retain(|one| one["artifactType"] == **kind);
            }
            let from: usize = value("from").map_or(0, |n| n.parse().expect("a number"));
            let to = list.len().min(from + manners.page);
            let index =
                json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": list[from..to] });
            let mut answer = Response::ok(index.to_string()).header("content-type", INDEX);
            if kind.is_some() {
                answer = answer.header("oci-filters-applied", "artifactType");
            }
            let filter = kind.map_or(String::new(), |kind| format!("&artifactType={kind}"));
            let next = match to < list.len() {
                true => Some(to),
                false => manners.circles.then_some(0),
            };
            match next {
                Some(next) => answer.header(
                    "link",
                    &format!("<{path}?from={next}{filter}>; rel=\"next\""),
                ),
                None => answer,
            }
        }
        _ => Response::new(404),
    }
}

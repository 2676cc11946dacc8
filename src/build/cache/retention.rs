//! What of the caches in a repository may go: pure. Whoever asks the registry and deletes is
//! [`artifact`](crate::registry::artifact).
//!
//! ```text
//! tags, manifests ─▶ Found ─▶ Plan::new(policy) ─▶ removals: digest, its tags   kept: tag, why
//! ```
//! - Only what is a cache of rstore's is ever removed; all else is kept, and said to be.
//! - A registry deletes manifests, and with one all of its tags. So a digest goes only if each of
//!   its tags may.
//! - Age is the time that a cache says it was written at. One that says none is kept.
//! - What an index points at is kept.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashSet;
use regex::Regex;

use super::records;
use crate::oci::Digest;
use crate::oci::document::{self, Document};
use crate::registry::artifact::Manifest;

/// A tag of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The tag.
    pub tag: String,
    /// The manifest that it has; `None`: it cannot be told.
    pub digest: Option<Digest>,
    /// What that is.
    pub kind: Kind,
}

/// What a tag has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A cache of rstore's.
    Cache {
        /// When it was written, in milliseconds since the epoch.
        created: Option<i64>,
        /// Its blobs and their sizes, the manifest among them.
        blobs: BTreeMap<Digest, u64>,
    },
    /// Something else; what it points at.
    Other(BTreeSet<Digest>),
    /// It cannot be read; why.
    Unreadable(String),
}

impl Found {
    /// Looks at what a tag has.
    pub fn new(tag: String, manifest: Result<Manifest, String>) -> Found {
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(why) => {
                return Found {
                    tag,
                    digest: None,
                    kind: Kind::Unreadable(why),
                };
            }
        };
        Found {
            tag,
            digest: Some(manifest.digest),
            kind: kind(&manifest),
        }
    }
}

fn kind(manifest: &Manifest) -> Kind {
    let Ok(cache) = records::parse_manifest(&manifest.bytes) else {
        let links = match document::parse(&manifest.bytes, "") {
            Ok(document @ (Document::Index(_) | Document::Manifest(_))) => document.links(),
            _ => Vec::new(),
        };
        return Kind::Other(links.into_iter().map(|link| link.target.digest).collect());
    };
    let descriptors = cache.layers.iter().chain([&cache.config]);
    let mut blobs: BTreeMap<Digest, u64> = descriptors
        .map(|descriptor| (descriptor.digest, descriptor.size))
        .collect();
    blobs.insert(manifest.digest, manifest.bytes.len() as u64);
    Kind::Cache {
        created: records::created(&cache),
        blobs,
    }
}

/// What is spared. Each rule spares by itself.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// So many tags, those that were written last.
    pub keep_last: Option<usize>,
    /// What was written at this time or later, in milliseconds since the epoch.
    pub since: Option<i64>,
    /// Names (`HOST/REPOSITORY:TAG`) that match.
    pub keep: Option<Regex>,
}

/// A cache that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Its manifest.
    pub digest: Digest,
    /// All of its tags.
    pub tags: Vec<String>,
    /// When it was written.
    pub created: i64,
    /// Bytes of what it has, shared or not.
    pub size: u64,
}

/// A tag that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The tag.
    pub tag: String,
    /// Its manifest.
    pub digest: Option<Digest>,
    /// When it was written.
    pub created: Option<i64>,
    /// Why.
    pub because: Because,
}

/// Why a tag stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// It is something else.
    NoCache,
    /// It cannot be read; why.
    Unreadable(String),
    /// It says no time.
    NoTime,
    /// By `--keep-last`.
    Last,
    /// By `--until`.
    Young,
    /// By `--keep`.
    Named,
    /// This tag stays, and has the same digest.
    SharedWith(String),
    /// This tag has an index with it.
    PointedAtBy(String),
}

impl Because {
    /// The word that programs read.
    pub fn word(&self) -> &'static str {
        match self {
            Because::NoCache => "no_cache",
            Because::Unreadable(_) => "unreadable",
            Because::NoTime => "no_time",
            Because::Last => "keep_last",
            Because::Young => "until",
            Because::Named => "keep",
            Because::SharedWith(_) => "shared_digest",
            Because::PointedAtBy(_) => "pointed_at",
        }
    }
}

impl std::fmt::Display for Because {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Because::NoCache => f.write_str("not a build cache of rstore's"),
            Because::Unreadable(why) => write!(f, "cannot be read: {why}"),
            Because::NoTime => f.write_str("says not when it was written"),
            Because::Last => f.write_str("among the last"),
            Because::Young => f.write_str("young enough"),
            Because::Named => f.write_str("matches --keep"),
            Because::SharedWith(tag) => write!(f, "has the digest of {tag}, which stays"),
            Because::PointedAtBy(tag) => write!(f, "{tag} points at it"),
        }
    }
}

/// What is to go, and what stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What goes, the oldest first.
    pub removals: Vec<Removal>,
    /// What stays, by tag.
    pub kept: Vec<Kept>,
    /// Bytes that only what goes has, as far as the tags tell: what the registry's own garbage
    /// collection may give back.
    pub bytes: u64,
}

impl Plan {
    /// What goes of `found`, the tags of the repository `name`.
    pub fn new(name: &str, found: &[Found], policy: &Policy) -> Plan {
        let mut kept: BTreeMap<&str, Because> = BTreeMap::new();
        let last = last(found, policy);
        for found in found {
            let because = match &found.kind {
                Kind::Other(_) => Because::NoCache,
                Kind::Unreadable(why) => Because::Unreadable(why.clone()),
                Kind::Cache { created, .. } => {
                    let matches = |keep: &Regex| keep.is_match(&format!("{name}:{}", found.tag));
                    match created {
                        None => Because::NoTime,
                        Some(_) if policy.keep.as_ref().is_some_and(matches) => Because::Named,
                        Some(_) if last.contains(found.tag.as_str()) => Because::Last,
                        Some(created) if policy.since.is_some_and(|since| *created >= since) => {
                            Because::Young
                        }
                        Some(_) => continue,
                    }
                }
            };
            kept.insert(&found.tag, because);
        }
        for other in found {
            let digest = other.digest;
            let shares = |found: &&Found| found.digest == digest && kept.contains_key(&*found.tag);
            let shared = found.iter().find(shares).map(|found| found.tag.clone());
            let points = |found: &&Found| match (&found.kind, &digest) {
                (Kind::Other(targets), Some(digest)) => targets.contains(digest),
                _ => false,
            };
            let because = match shared {
                Some(tag) => Some(Because::SharedWith(tag)),
                None => {
                    let pointed = found.iter().find(points);
                    pointed.map(|found| Because::PointedAtBy(found.tag.clone()))
                }
            };
            if let Some(because) = because {
                kept.entry(&other.tag).or_insert(because);
            }
        }
        Plan::of(found, &kept)
    }

    fn of(found: &[Found], kept: &BTreeMap<&str, Because>) -> Plan {
        let mut plan = Plan::default();
        let mut removals: BTreeMap<Digest, Removal> = BTreeMap::new();
        let mut going: BTreeMap<Digest, u64> = BTreeMap::new();
        let mut staying: HashSet<Digest> = HashSet::new();
        for found in found {
            let (created, blobs) = match &found.kind {
                Kind::Cache { created, blobs } => (*created, Some(blobs)),
                Kind::Other(targets) => {
                    staying.extend(targets);
                    (None, None)
                }
                Kind::Unreadable(_) => (None, None),
            };
            match (kept.get(&*found.tag), found.digest, created, blobs) {
                (None, Some(digest), Some(created), Some(blobs)) => {
                    going.extend(blobs);
                    let removal = removals.entry(digest).or_insert_with(|| Removal {
                        digest,
                        tags: Vec::new(),
                        created,
                        // Whoever wrote the manifest says how large they are.
                        size: blobs
                            .values()
                            .fold(0, |sum, size| sum.saturating_add(*size)),
                    });
                    removal.tags.push(found.tag.clone());
                }
                (because, ..) => {
                    staying.extend(blobs.into_iter().flat_map(|blobs| blobs.keys()));
                    plan.kept.push(Kept {
                        tag: found.tag.clone(),
                        digest: found.digest,
                        created,
                        because: because.cloned().unwrap_or(Because::NoCache),
                    });
                }
            }
        }
        let only = going
            .iter()
            .filter(|(digest, _)| !staying.contains(*digest));
        plan.bytes = only.fold(0, |sum, (_, size)| sum.saturating_add(*size));
        plan.removals = removals.into_values().collect();
        plan.removals
            .sort_by_key(|removal| (removal.created, removal.digest));
        plan
    }
}

/// The tags that `--keep-last` spares.
fn last<'a>(found: &'a [Found], policy: &Policy) -> BTreeSet<&'a str> {
    let mut caches: Vec<(i64, &str)> = found
        .iter()
        .filter_map(|found| match &found.kind {
            Kind::Cache { created, .. } => Some(((*created)?, found.tag.as_str())),
            _ => None,
        })
        .collect();
    caches.sort_unstable();
    let count = policy.keep_last.unwrap_or(0);
    caches
        .iter()
        .rev()
        .take(count)
        .map(|(_, tag)| *tag)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::document::Descriptor;

    /// A cache with one layer, of 100 bytes, that was written at this time.
    fn cache(tag: &str, layer: &str, created: Option<i64>) -> Found {
        let layer = Descriptor {
            media_type: crate::oci::media::LAYER_GZIP.to_owned(),
            digest: Digest::of(layer.as_bytes()),
            size: 100,
            annotations: None,
            platform: None,
            artifact_type: None,
        };
        let bytes = records::manifest(b"", &[layer], created);
        let digest = Digest::of(&bytes);
        Found::new(tag.to_owned(), Ok(Manifest { bytes, digest }))
    }

    fn other(tag: &str, text: String) -> Found {
        let bytes = text.into_bytes();
        let digest = Digest::of(&bytes);
        Found::new(tag.to_owned(), Ok(Manifest { bytes, digest }))
    }

    fn gone(plan: &Plan) -> Vec<String> {
        plan.removals.iter().map(|r| r.tags.join("+")).collect()
    }

    fn because(plan: &Plan, tag: &str) -> String {
        let kept = plan.kept.iter().find(|kept| kept.tag == tag).unwrap();
        kept.because.word().to_owned()
    }

    fn policy(keep_last: Option<usize>, since: Option<i64>, keep: Option<&str>) -> Policy {
        Policy {
            keep_last,
            since,
            keep: keep.map(|keep| Regex::new(keep).unwrap()),
        }
    }

    #[test]
    fn each_rule_spares_and_the_oldest_go_first() {
        let found = [
            cache("main", "a", Some(10)),
            cache("b", "b", Some(30)),
            cache("c", "c", Some(20)),
            cache("d", "d", Some(40)),
        ];
        let plan = Plan::new("r", &found, &policy(Some(1), None, None));
        assert_eq!(gone(&plan), ["main", "c", "b"]);
        assert_eq!(because(&plan, "d"), "keep_last");
        let plan = Plan::new("r", &found, &policy(Some(1), Some(30), Some(":main$")));
        assert_eq!(gone(&plan), ["c"]);
        assert_eq!(because(&plan, "b"), "until");
        assert_eq!(because(&plan, "main"), "keep");
        assert!(
            Plan::new("r", &found, &policy(Some(9), None, None))
                .removals
                .is_empty()
        );
        assert_eq!(
            Plan::new("r", &[], &policy(Some(9), None, None)),
            Plan::default()
        );
    }

    #[test]
    fn what_is_no_cache_or_says_no_time_is_kept() {
        let image = r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":1},"layers":[]}"#;
        let newer = String::from_utf8(records::manifest(b"", &[], Some(1))).unwrap();
        let newer = newer.replace("cache.v1", "cache.v2");
        let found = [
            other("image", image.to_owned()),
            other("newer", newer),
            other("noise", "{".to_owned()),
            Found::new("gone".to_owned(), Err("it is too large".to_owned())),
            cache("timeless", "a", None),
            cache("old", "b", Some(1)),
        ];
        let plan = Plan::new("r", &found, &policy(None, Some(100), None));
        assert_eq!(gone(&plan), ["old"]);
        for tag in ["image", "newer", "noise"] {
            assert_eq!(because(&plan, tag), "no_cache");
        }
        assert_eq!(because(&plan, "gone"), "unreadable");
        assert_eq!(because(&plan, "timeless"), "no_time");
    }

    #[test]
    fn a_digest_goes_with_all_of_its_tags_or_stays_with_all() {
        let found = [
            cache("a", "x", Some(1)),
            cache("b", "x", Some(1)),
            cache("c", "y", Some(2)),
        ];
        let plan = Plan::new("r", &found, &policy(Some(1), None, None));
        assert_eq!(gone(&plan), ["a+b"]);
        // The two last are c and b: a stays for b's sake.
        let plan = Plan::new("r", &found, &policy(Some(2), None, None));
        assert!(plan.removals.is_empty());
        let kept = plan.kept.iter().find(|kept| kept.tag == "a").unwrap();
        assert_eq!(kept.because, Because::SharedWith("b".to_owned()));
    }

    #[test]
    fn what_an_index_points_at_stays() {
        let old = cache("old", "x", Some(1));
        let digest = old.digest.unwrap();
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":1}}]}}"#
        );
        let found = [old, other("index", index)];
        let plan = Plan::new("r", &found, &policy(None, Some(100), None));
        assert!(plan.removals.is_empty(), "{plan:?}");
        assert_eq!(because(&plan, "old"), "pointed_at");
    }

    #[test]
    fn a_manifest_may_lie_about_sizes_as_it_likes() {
        let layer = |name: &str| Descriptor {
            media_type: crate::oci::media::LAYER_GZIP.to_owned(),
            digest: Digest::of(name.as_bytes()),
            size: i64::MAX as u64,
            annotations: None,
            platform: None,
            artifact_type: None,
        };
        let layers = [layer("a"), layer("b"), layer("c")];
        let bytes = records::manifest(b"", &layers, Some(1));
        let digest = Digest::of(&bytes);
        let found = [Found::new("a".to_owned(), Ok(Manifest { bytes, digest }))];
        let plan = Plan::new("r", &found, &policy(None, Some(100), None));
        assert_eq!((plan.removals[0].size, plan.bytes), (u64::MAX, u64::MAX));
    }

    #[test]
    fn bytes_are_those_that_nothing_else_has() {
        let found = [
            cache("a", "shared", Some(1)),
            cache("b", "own", Some(2)),
            cache("c", "shared", Some(3)),
        ];
        let plan = Plan::new("r", &found, &policy(Some(1), None, None));
        assert_eq!(gone(&plan), ["a", "b"]);
        // b's layer, and two manifests; a's layer is c's too.
        let manifests = plan.removals.iter().map(|removal| removal.size - 100);
        assert_eq!(plan.bytes, 100 + manifests.sum::<u64>());
    }
}

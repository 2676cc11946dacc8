//! `index.json`: which images the layout names.
//!
//! The file is the truth about tags. Members and descriptors that are not understood here belong
//! to other tools and are written back as they were. It is replaced atomically and durably, under
//! the store's lock, so that neither a crash nor another rstore sees half of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::fsutil::{self, IoContext};
use crate::lock::FileLock;
use crate::oci::document::{CONTAINERD_NAME, Descriptor, REF_NAME};
use crate::oci::{Digest, Reference, media};

/// Why `index.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] fsutil::Error),
    /// Not an image index.
    #[error("{} is not a valid image index: {why}; the blobs are untouched: put the file right, or move it away to have the tags restored that the catalog knows", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is none, so that which images have names is not known.
    #[error("{} is missing, and no catalog knows what it named; to begin anew, write {{\"schemaVersion\":2,\"manifests\":[]}} to it, and `rstore tag` what `rstore images -a` lists before anything is pruned", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

/// What the functions of this module return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Tells whether the file changed behind our back: what `stat` says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signature {
    /// Inode: every atomic replacement has a new one.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Modification, nanoseconds since the epoch.
    pub modified: i64,
    /// Change of the inode, nanoseconds since the epoch.
    pub changed: i64,
}

impl Signature {
    /// The signature of `path`, zero where there is no file.
    pub fn of(path: &Path) -> fsutil::Result<Signature> {
        match fs::metadata(path) {
            Ok(m) => Ok(Signature {
                inode: m.ino(),
                size: m.size(),
                modified: m.mtime() * 1_000_000_000 + m.mtime_nsec(),
                changed: m.ctime() * 1_000_000_000 + m.ctime_nsec(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Signature::default()),
            Err(error) => Err(fsutil::Error::new("stat", path, error)),
        }
    }
}

/// One descriptor of the index: typed, and as it was written.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it points at.
    pub descriptor: Descriptor,
    raw: Value,
}

impl Entry {
    /// An entry for a document, with nothing said about it.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Entry {
        let raw = json!({
            "mediaType": media_type,
            "digest": digest.to_string(),
            "size": size,
        });
        let descriptor = Descriptor::deserialize(&raw).expect("made from a typed digest and size");
        Entry { descriptor, raw }
    }

    /// The same entry with these annotations besides those that it has.
    pub fn annotated(&self, annotations: &BTreeMap<String, String>) -> Entry {
        let mut entry = self.clone();
        if let (Value::Object(members), false) = (&mut entry.raw, annotations.is_empty()) {
            let mut all = match members.get("annotations") {
                Some(Value::Object(there)) => there.clone(),
                _ => Map::new(),
            };
            for (key, value) in annotations {
                all.insert(key.clone(), value.as_str().into());
            }
            members.insert("annotations".to_owned(), all.into());
        }
        entry.descriptor =
            Descriptor::deserialize(&entry.raw).expect("was a descriptor before it was annotated");
        entry
    }

    /// The same entry under another name, or none; what else is said of it stays.
    fn called(&self, name: Option<&str>) -> Entry {
        let mut entry = self.clone();
        let mut annotations = match entry.raw.get("annotations") {
            Some(Value::Object(annotations)) => annotations.clone(),
            _ => Map::new(),
        };
        annotations.shift_remove(REF_NAME);
        annotations.shift_remove(CONTAINERD_NAME);
        if let Some(name) = name {
            annotations.insert(REF_NAME.to_owned(), name.into());
            if let Ok(reference) = name.parse::<Reference>() {
                annotations.insert(CONTAINERD_NAME.to_owned(), reference.full().into());
            }
        }
        if let Value::Object(members) = &mut entry.raw {
            if annotations.is_empty() {
                members.shift_remove("annotations");
            } else {
                members.insert("annotations".to_owned(), annotations.into());
            }
        }
        entry.descriptor =
            Descriptor::deserialize(&entry.raw).expect("was a descriptor before it was named");
        entry
    }

    /// The tag: `org.opencontainers.image.ref.name`, whatever its shape.
    pub fn name(&self) -> Option<&str> {
        self.descriptor.annotation(REF_NAME)
    }
}

/// The index as it was read.
#[derive(Debug, Clone)]
pub struct Index {
    document: Map<String, Value>,
    entries: Vec<Entry>,
}

impl Index {
    /// An index that names nothing.
    pub fn empty() -> Index {
        let document = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [] });
        let Value::Object(document) = document else {
            unreachable!("an object literal")
        };
        Index {
            document,
            entries: Vec::new(),
        }
    }

    /// Reads the index at `path`.
    pub fn read(path: &Path) -> Result<Index> {
        let bytes = fs::read(path).at("read", path)?;
        Index::parse(&bytes).map_err(|why| Error::Invalid {
            path: path.to_path_buf(),
            why,
        })
    }

    /// Reads an index; the error says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> std::result::Result<Index, String> {
        let document: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if document.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
            return Err("schemaVersion is not 2".to_owned());
        }
        if document.contains_key("layers") || document.contains_key("config") {
            return Err("it has the members of a manifest".to_owned());
        }
        let raw = match document.get("manifests") {
            Some(Value::Array(raw)) => raw.clone(),
            None | Some(Value::Null) => Vec::new(),
            Some(_) => return Err("`manifests` is not a list".to_owned()),
        };
        let entries = raw
            .into_iter()
            .enumerate()
            .map(|(number, raw)| match Descriptor::deserialize(&raw) {
                Ok(descriptor) => Ok(Entry { descriptor, raw }),
                Err(error) => Err(format!("descriptor {number}: {error}")),
            })
            .collect::<std::result::Result<_, _>>()?;
        Ok(Index { document, entries })
    }

    /// What it names, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Points the tag `name` at a manifest; whoever had the name loses it.
    /// Returns the digest that had it before.
    pub fn tag(
        &mut self,
        name: &str,
        media_type: &str,
        digest: Digest,
        size: u64,
    ) -> Option<Digest> {
        self.enter(Some(name), &Entry::new(media_type, digest, size))
    }

    /// Points the tag `name` at something that is no image: unlike [`Index::tag`] it gives no name
    /// under which other tools would take it for one. Returns the digest that had it before.
    pub fn tag_artifact(
        &mut self,
        name: &str,
        artifact_type: &str,
        digest: Digest,
        size: u64,
    ) -> Option<Digest> {
        let before = self.untag(name);
        let raw = json!({
            "mediaType": media::MANIFEST,
            "digest": digest.to_string(),
            "size": size,
            "annotations": { REF_NAME: name },
            "artifactType": artifact_type,
        });
        let descriptor = Descriptor::deserialize(&raw).expect("made from a typed digest and size");
        self.entries.push(Entry { descriptor, raw });
        before
    }

    /// Takes in an entry of another index under `name`, or under none, with its platform and
    /// annotations. Returns the digest that had the name before.
    pub fn enter(&mut self, name: Option<&str>, entry: &Entry) -> Option<Digest> {
        let digest = entry.descriptor.digest;
        let Some(name) = name else {
            if !self.entries.iter().any(|e| e.descriptor.digest == digest) {
                self.entries.push(entry.called(None));
            }
            return None;
        };
        let before = self.untag(name);
        // An untagged entry for the same image has done its work once a name holds it.
        self.entries
            .retain(|e| e.name().is_some() || e.descriptor.digest != digest);
        self.entries.push(entry.called(Some(name)));
        before
    }

    /// Takes the tag `name` away. Returns what it pointed at.
    pub fn untag(&mut self, name: &str) -> Option<Digest> {
        let before = self
            .entries
            .iter()
            .find(|e| e.name() == Some(name))
            .map(|e| e.descriptor.digest);
        self.entries.retain(|e| e.name() != Some(name));
        before
    }

    /// Takes away every entry, named or not, for which `gone` holds.
    pub fn remove(&mut self, mut gone: impl FnMut(&Entry) -> bool) {
        self.entries.retain(|entry| !gone(entry));
    }

    /// The document's bytes; the same value always gives the same ones.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut document = self.document.clone();
        let raw = self.entries.iter().map(|entry| entry.raw.clone()).collect();
        document.insert("manifests".to_owned(), Value::Array(raw));
        serde_json::to_vec(&document).expect("JSON values serialise")
    }

    /// Writes the index to `path`, durably. The lock is the proof that nobody else does.
    pub fn write(&self, path: &Path, _lock: &FileLock) -> Result<()> {
        Ok(fsutil::atomic_replace(path, &self.to_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_tools_wrote_is_written_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.json");
        let d = Digest::of(b"x");
        let text = format!(
            r#"{{"schemaVersion":2,"x-theirs":1,"manifests":[{{"mediaType":"{}","digest":"{d}","size":1,"x-also":true}}]}}"#,
            media::MANIFEST
        );
        fs::write(&path, text).unwrap();
        let mut index = Index::read(&path).unwrap();
        index.tag("app:latest", media::MANIFEST, Digest::of(b"y"), 5);
        let lock = FileLock::exclusive(&dir.path().join("lock")).unwrap();
        index.write(&path, &lock).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains(r#""x-theirs":1"#) && text.contains(r#""x-also":true"#),
            "{text}"
        );
        assert!(text.contains("docker.io/library/app:latest"));
        assert_eq!(Index::read(&path).unwrap().entries().len(), 2);
    }

    #[test]
    fn a_tag_moves_and_tells_whom_it_left() {
        let mut index = Index::empty();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(index.tag("app:latest", media::MANIFEST, a, 1), None);
        assert_eq!(index.tag("app:latest", media::MANIFEST, b, 1), Some(a));
        assert_eq!(index.entries().len(), 1);
        assert_eq!(index.untag("app:latest"), Some(b));
        assert!(index.entries().is_empty());
    }

    #[test]
    fn an_entry_of_another_index_keeps_what_it_says_under_its_new_name() {
        let digest = Digest::of(b"a");
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"arm64"}},"annotations":{{"{REF_NAME}":"latest","theirs":"1"}}}}]}}"#,
            media::MANIFEST
        );
        let theirs = Index::parse(text.as_bytes()).unwrap();
        let entry = &theirs.entries()[0];
        let mut index = Index::empty();
        assert_eq!(index.enter(None, entry), None);
        assert_eq!(index.entries()[0].name(), None);
        index.enter(Some("app:latest"), entry);
        index.enter(None, entry);
        let [ours] = index.entries() else {
            panic!("one entry, named: {:?}", index.entries())
        };
        assert_eq!(ours.name(), Some("app:latest"));
        assert_eq!(ours.descriptor.annotation("theirs"), Some("1"));
        assert!(ours.descriptor.platform.is_some());
    }

    #[test]
    fn what_is_not_an_index_is_an_error_with_the_reason() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"schemaVersion":2,"manifests":[{"digest":"md5:1"}]}"#,
            r#"{"schemaVersion":2,"layers":[]}"#,
        ] {
            assert!(Index::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

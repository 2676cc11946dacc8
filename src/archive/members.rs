//! One pass over an image archive: what waits for later, and where.
//!
//! The documents that say what the other members are may come last, so each member is judged by
//! its name and first bytes:
//!
//! | member | becomes |
//! |---|---|
//! | `manifest.json`, `index.json`, `oci-layout` | bytes in memory, at most [`DOCUMENT_LIMIT`] |
//! | `blobs/sha256/HEX` | a file in `ingest/`, its digest held against its name |
//! | `*.tar`, or what begins like a tar archive or a compressed stream | a layer in `ingest/` |
//! | up to [`MANIFEST_LIMIT`] of anything else | a file in `ingest/`: a config perhaps |
//! | more of anything else | its size, in case somebody asks |
//! | symbolic and hard links | a name: old `docker save` shares layers by `../HEX/layer.tar` |
//! | directories, devices | nothing |

use std::io::{self, Cursor, Read};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;

use super::error::{Error, Problem, Result};
use super::spool::{self, Source, Spooled, SpooledLayer};
use crate::layer::entry::{ShowPath, clean_path};
use crate::layer::{Compression, Decompressor, Entry, Format, Kind, TarReader};
use crate::oci::Digest;
use crate::oci::document::MANIFEST_LIMIT;
use crate::store::Lease;

/// The largest manifest.json or index.json: a thousand images of a hundred layers fit.
pub const DOCUMENT_LIMIT: u64 = 16 << 20;
/// How many members are kept track of, each with a name and perhaps a file in `ingest/`.
const MEMBER_LIMIT: usize = 200_000;
/// As many links as Linux follows (path_resolution(7)).
const LINK_LIMIT: usize = 40;
/// Where a tar header says `ustar`, behind which first bytes decide nothing more.
const MAGIC: std::ops::Range<usize> = 257..262;

/// A member that is neither a document nor a blob.
#[derive(Debug)]
pub enum Member {
    /// A layer, packed.
    Layer(SpooledLayer),
    /// A small file as it is.
    Raw(Spooled),
    /// Another member's name.
    Link(Vec<u8>),
    /// A large file that begins like nothing that an image has.
    Large(u64),
}

/// What one pass found.
#[derive(Debug, Default)]
pub struct Members {
    /// `manifest.json`.
    pub manifest: Option<Vec<u8>>,
    /// `index.json`.
    pub index: Option<Vec<u8>>,
    /// `oci-layout`.
    pub layout: Option<Vec<u8>>,
    /// What is below `blobs/sha256`.
    pub blobs: HashMap<Digest, Spooled>,
    others: HashMap<Vec<u8>, Member>,
    /// A directory in the archive that has the documents which the archive lacks.
    nested: Option<String>,
}

impl Members {
    /// Reads the archive `source` to its end.
    pub fn read(
        lease: &Lease,
        source: impl Read + Send,
        compression: Compression,
    ) -> Result<Members> {
        let archive = Decompressor::new(source).map_err(|source| Error::Read {
            format: Format::None,
            source,
        })?;
        let format = archive.format();
        let mut reader = TarReader::new(archive);
        let mut members = Members::default();
        while let Some(entry) = reader
            .next_entry()
            .map_err(|error| Error::of_archive(error, format))?
        {
            let mut content = Content {
                reader: &mut reader,
                format,
            };
            members.take(lease, entry, &mut content, compression)?;
        }
        if reader.offset() == 0 {
            return Err(Error::Empty);
        }
        // The checksum of a compressed stream is at its very end, and a pipe wants to be emptied.
        io::copy(reader.get_mut(), &mut io::sink())
            .map_err(|source| Error::Read { format, source })?;
        Ok(members)
    }

    fn take(
        &mut self,
        lease: &Lease,
        entry: Entry,
        content: &mut impl Source,
        compression: Compression,
    ) -> Result<()> {
        let name = show(&entry.path);
        let member = match &entry.kind {
            Kind::File { size } => match entry.path.as_slice() {
                b"manifest.json" => return document(&mut self.manifest, &name, *size, content),
                b"index.json" => return document(&mut self.index, &name, *size, content),
                b"oci-layout" => return document(&mut self.layout, &name, *size, content),
                path => {
                    if let Some(digest) = blob_digest(path) {
                        return self.blob(lease, &name, digest, content);
                    }
                    self.notice_nested(path);
                    file(lease, &name, *size, content, compression)?
                }
            },
            Kind::Symlink { target } => match beside(&entry.path, target) {
                Some(target) => Member::Link(target),
                // It matters only if somebody asks for it, and then it is missing.
                None => return Ok(()),
            },
            Kind::Hardlink { target } => Member::Link(target.clone()),
            _ => return Ok(()),
        };
        self.put(entry.path, member)
    }

    fn blob(
        &mut self,
        lease: &Lease,
        name: &str,
        expected: Digest,
        content: &mut impl Source,
    ) -> Result<()> {
        let spooled = spool::blob(lease, content)?;
        if spooled.digest != expected {
            let actual = spooled.digest;
            return Err(Error::member(name, Problem::Digest { expected, actual }));
        }
        if self.blobs.len() >= MEMBER_LIMIT {
            let limit = MEMBER_LIMIT;
            return Err(Error::TooMany { limit });
        }
        self.blobs.insert(expected, spooled);
        Ok(())
    }

    fn put(&mut self, path: Vec<u8>, member: Member) -> Result<()> {
        if self.others.len() >= MEMBER_LIMIT {
            let limit = MEMBER_LIMIT;
            return Err(Error::TooMany { limit });
        }
        match self.others.entry(path) {
            Slot::Vacant(slot) => drop(slot.insert(member)),
            Slot::Occupied(slot) if same(slot.get(), &member) => {}
            Slot::Occupied(slot) => {
                return Err(Error::member(show(slot.key()), Problem::Duplicate));
            }
        }
        Ok(())
    }

    /// People pack `layout/` rather than what is in it; the error can then say so.
    fn notice_nested(&mut self, path: &[u8]) {
        let path = String::from_utf8_lossy(path);
        if let Some((directory, "index.json" | "manifest.json" | "oci-layout")) =
            path.rsplit_once('/')
            && self.nested.is_none()
        {
            self.nested = Some(directory.to_owned());
        }
    }

    /// Why there are no images in this archive.
    pub fn why_none(&self) -> String {
        let mut why = match (&self.index, &self.layout) {
            (Some(_), None) => "it has index.json, but no oci-layout".to_owned(),
            (None, Some(_)) => "it has oci-layout, but no index.json".to_owned(),
            _ => "it has neither manifest.json (docker-archive) nor index.json (oci-archive)"
                .to_owned(),
        };
        why.push_str(&match &self.nested {
            Some(directory) => format!(
                "; what is in {directory:?} has to be at the top: `tar -C {directory} -c .`"
            ),
            None => "; a root file system is for `rstore import`".to_owned(),
        });
        why
    }

    /// The member that `name` leads to, links followed; `by` names it.
    pub fn resolve(&self, name: &str, by: &str) -> Result<Vec<u8>> {
        let mut path = clean_path(name.as_bytes())
            .map_err(|_| Error::member(by, Problem::Escape(name.to_owned())))?;
        for _ in 0..LINK_LIMIT {
            match self.others.get(&path) {
                Some(Member::Link(target)) => path.clone_from(target),
                _ => return Ok(path),
            }
        }
        Err(Error::member(name, Problem::LinkLoop(LINK_LIMIT)))
    }

    /// Takes the member at a resolved `path` out, if it is there.
    pub fn remove(&mut self, path: &[u8]) -> Option<Member> {
        match blob_digest(path) {
            Some(digest) => self.blobs.remove(&digest).map(Member::Raw),
            None => self.others.remove(path),
        }
    }
}

/// The name of a member, for people.
pub fn show(path: &[u8]) -> String {
    ShowPath(path).to_string()
}

/// The digest that the path of a blob is named after.
pub fn blob_digest(path: &[u8]) -> Option<Digest> {
    let hex = path.strip_prefix(b"blobs/sha256/")?;
    Digest::from_hex(std::str::from_utf8(hex).ok()?)
}

fn document(
    place: &mut Option<Vec<u8>>,
    name: &str,
    size: u64,
    content: &mut impl Source,
) -> Result<()> {
    if size > DOCUMENT_LIMIT {
        let limit = DOCUMENT_LIMIT;
        return Err(Error::member(name, Problem::TooLarge { size, limit }));
    }
    let mut bytes = Vec::new();
    if let Err(error) = content.read_to_end(&mut bytes) {
        return Err(content.failed(error));
    }
    match place {
        Some(first) if *first != bytes => Err(Error::member(name, Problem::Duplicate)),
        _ => {
            *place = Some(bytes);
            Ok(())
        }
    }
}

fn file(
    lease: &Lease,
    name: &str,
    size: u64,
    content: &mut impl Source,
    compression: Compression,
) -> Result<Member> {
    let mut begins = vec![0; MAGIC.end.min(usize::try_from(size).unwrap_or(MAGIC.end))];
    if let Err(error) = content.read_exact(&mut begins) {
        return Err(content.failed(error));
    }
    let is_layer = name.ends_with(".tar")
        || Format::sniff(&begins) != Format::None
        || begins.get(MAGIC) == Some(b"ustar");
    let mut whole = Begun {
        begins: Cursor::new(begins.clone()),
        rest: content,
    };
    if is_layer {
        spool::layer(lease, name, &begins, &mut whole, compression).map(Member::Layer)
    } else if size <= MANIFEST_LIMIT {
        spool::blob(lease, &mut whole).map(Member::Raw)
    } else {
        Ok(Member::Large(size))
    }
}

/// What the link `path` to `target` leads to; `None` where that is outside of the archive.
fn beside(path: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut components: Vec<&[u8]> = Vec::new();
    if !target.starts_with(b"/") {
        components.extend(path.split(|&byte| byte == b'/'));
        components.pop();
    }
    for component in target.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(components.pop()?),
            name => components.push(name),
        }
    }
    Some(components.join(&b'/'))
}

/// Whether two members of one name say the same.
fn same(one: &Member, other: &Member) -> bool {
    match (one, other) {
        (Member::Layer(one), Member::Layer(other)) => one.layer == other.layer,
        (Member::Raw(one), Member::Raw(other)) => one.digest == other.digest,
        (Member::Link(one), Member::Link(other)) => one == other,
        _ => false,
    }
}

/// The content of the archive's current entry.
struct Content<'r, R: Read> {
    reader: &'r mut TarReader<R>,
    format: Format,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl<R: Read + Send> Source for Content<'_, R> {
    fn failed(&self, error: io::Error) -> Error {
        Error::of_archive(crate::layer::Error::Read(error), self.format)
    }
}

/// A source whose first bytes were read already.
struct Begun<'s, S> {
    begins: Cursor<Vec<u8>>,
    rest: &'s mut S,
}

impl<S: Source> Read for Begun<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.begins.read(buffer)? {
            0 => self.rest.read(buffer),
            count => Ok(count),
        }
    }
}

impl<S: Source> Source for Begun<'_, S> {
    fn failed(&self, error: io::Error) -> Error {
        self.rest.failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(pairs: &[(&str, &str)]) -> Members {
        let mut members = Members::default();
        for (path, target) in pairs {
            if let Some(target) = beside(path.as_bytes(), target.as_bytes()) {
                members
                    .put(path.as_bytes().to_vec(), Member::Link(target))
                    .unwrap();
            }
        }
        members
    }

    #[test]
    fn links_are_followed_from_where_they_stand() {
        let members = links(&[
            ("b/layer.tar", "../a/layer.tar"),
            ("c/layer.tar", "../b/layer.tar"),
            ("d", "./a/./x"),
        ]);
        for (name, path) in [
            ("c/layer.tar", "a/layer.tar"),
            ("./b/layer.tar", "a/layer.tar"),
            ("d", "a/x"),
            ("e", "e"),
        ] {
            assert_eq!(
                members.resolve(name, "x").unwrap(),
                path.as_bytes(),
                "{name}"
            );
        }
    }

    #[test]
    fn links_that_go_round_and_names_that_lead_out_are_refused() {
        let members = links(&[("a", "b"), ("b", "a"), ("self", "self"), ("out", "../x")]);
        for name in ["a", "b", "self"] {
            let error = members.resolve(name, "x").unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Member {
                        problem: Problem::LinkLoop(_),
                        ..
                    }
                ),
                "{error}"
            );
        }
        assert!(members.resolve("../etc/passwd", "manifest.json").is_err());
        assert_eq!(
            members.resolve("out", "x").unwrap(),
            b"out",
            "a link that leads out is as if it weren't there"
        );
    }

    #[test]
    fn one_name_is_one_member() {
        let mut members = links(&[("a", "b")]);
        members
            .put(b"a".to_vec(), Member::Link(b"b".to_vec()))
            .unwrap();
        assert!(
            members
                .put(b"a".to_vec(), Member::Link(b"c".to_vec()))
                .is_err()
        );
    }

    #[test]
    fn blobs_are_known_by_their_path() {
        let digest = Digest::of(b"x");
        let path = format!("blobs/sha256/{}", digest.hex());
        assert_eq!(blob_digest(path.as_bytes()), Some(digest));
        for path in ["blobs/sha256/", "blobs/sha256/abc", "blobs/sha512/abc", "x"] {
            assert_eq!(blob_digest(path.as_bytes()), None, "{path}");
        }
    }
}

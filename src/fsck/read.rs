//! Listing `blobs/sha256`, and reading what stands there, on as many threads as help.
//!
//! Memory: some tens of bytes a blob, one buffer a thread, and the links of the documents. A
//! blob's bytes are never held, but for a document's, one a thread.

use std::ffi::OsString;
use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Progress;
use crate::fsutil::{self, IoContext};
use crate::layout::Layout;
use crate::oci::document::{self, Document, INDEX_LIMIT, MANIFEST_LIMIT, Role};
use crate::oci::{Digest, digest::Hasher};

/// How much is read at once.
const CHUNK: usize = 1 << 18;

/// How often progress is told: after so many bytes of one blob.
const TOLD: u64 = 16 << 20;

/// Where a document points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// How.
    pub role: Role,
    /// At what.
    pub target: Digest,
    /// How many bytes that is to have.
    pub size: u64,
    /// Whether it need not be stored (image-spec, layer.md, "Non-Distributable Layers").
    pub elsewhere: bool,
}

/// What is known of one file by reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// It was not read.
    Unread,
    /// It is what its name says.
    Whole,
    /// It is what its name says, and a manifest, an index, or the like.
    Document(Box<[Link]>),
    /// It is what its name says, and should be a document, but cannot be understood.
    Odd(Box<str>),
    /// It has this digest.
    Corrupt(Box<Digest>),
    /// It cannot be read.
    Unreadable(Box<str>),
    /// It went while it was to be read: a prune's doing.
    Gone,
}

/// One file: 72 bytes, and the links of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobFile {
    /// Its name.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    inode: u64,
    /// What reading it has shown.
    pub content: Content,
}

/// The files below `blobs/sha256`.
#[derive(Debug, Default)]
pub struct Files {
    /// Sorted by digest.
    files: Vec<BlobFile>,
    /// Names that are no digests, and things that are no files.
    pub strays: Vec<OsString>,
    /// How many were read.
    pub read: u64,
}

impl Files {
    /// Every file, by digest.
    pub fn iter(&self) -> impl Iterator<Item = &BlobFile> + Clone {
        self.files.iter()
    }

    fn place(&self, digest: &Digest) -> Option<usize> {
        let place = self.files.binary_search_by(|file| file.digest.cmp(digest));
        place.ok()
    }

    /// The file of a digest.
    pub fn get(&self, digest: &Digest) -> Option<&BlobFile> {
        self.place(digest).map(|place| &self.files[place])
    }

    /// Says what reading a file has shown.
    pub fn set(&mut self, digest: &Digest, content: Content) {
        if let Some(place) = self.place(digest) {
            self.files[place].content = content;
        }
    }

    /// Forgets a file that was moved away.
    pub fn remove(&mut self, digest: &Digest) {
        if let Some(place) = self.place(digest) {
            self.files.remove(place);
        }
    }
}

/// Lists the files; nothing is read.
pub fn list(layout: &Layout) -> super::Result<Files> {
    let mut files = Files::default();
    let mut digests: Vec<Digest> = Vec::new();
    let listed = layout.blobs().list(|entry| match entry {
        Ok(digest) => digests.push(digest),
        Err(name) => files.strays.push(name.to_owned()),
    });
    listed.map_err(crate::layout::Error::from)?;
    digests.sort_unstable();
    for digest in digests {
        match layout
            .blobs()
            .stat(&digest)
            .map_err(crate::layout::Error::from)?
        {
            Some(stat) => files.files.push(BlobFile {
                digest,
                size: stat.size,
                inode: stat.inode,
                content: Content::Unread,
            }),
            None => {
                // Gone since, or a directory or a link with a blob's name.
                if std::fs::symlink_metadata(layout.blobs().path(&digest)).is_ok() {
                    files.strays.push(digest.hex().into());
                }
            }
        }
    }
    files.strays.sort_unstable();
    Ok(files)
}

/// Reads those that `wanted` names, in the order of their inodes, which is about where they lie.
pub fn read(
    layout: &Layout,
    files: &mut Files,
    wanted: impl Fn(&Digest) -> bool,
    is_index: impl Fn(&Digest) -> bool + Sync,
    jobs: NonZeroUsize,
    on_progress: &(dyn Fn(Progress) + Sync),
) {
    let mut order: Vec<(u64, Digest, u64)> = files
        .iter()
        .filter(|file| wanted(&file.digest))
        .map(|file| (file.inode, file.digest, file.size))
        .collect();
    order.sort_unstable();
    let of_bytes = order.iter().map(|(_, _, size)| size).sum();
    let (next, done, bytes) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let results = Mutex::new(Vec::with_capacity(order.len()));
    let tell = || {
        on_progress(Progress {
            blobs: done.load(Ordering::Relaxed),
            of_blobs: order.len() as u64,
            bytes: bytes.load(Ordering::Relaxed),
            of_bytes,
        });
    };
    let work = || {
        let mut buffer = vec![0; CHUNK];
        let mut mine = Vec::new();
        while let Some((_, digest, _)) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let limit = match is_index(digest) {
                true => INDEX_LIMIT,
                false => MANIFEST_LIMIT,
            };
            let content = look(layout, digest, limit, &mut buffer, &|more| {
                bytes.fetch_add(more, Ordering::Relaxed);
                tell();
            });
            mine.push((*digest, content));
            done.fetch_add(1, Ordering::Relaxed);
            tell();
        }
        results
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .append(&mut mine);
    };
    let threads = jobs.get().min(order.len().max(1));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let results = results
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    files.read += results.len() as u64;
    for (digest, content) in results {
        files.set(&digest, content);
    }
}

/// Reads one blob. One that is being replaced while it is read is read again.
pub fn look(
    layout: &Layout,
    digest: &Digest,
    limit: u64,
    buffer: &mut [u8],
    on_bytes: &dyn Fn(u64),
) -> Content {
    let mut content = Content::Gone;
    for _ in 0..3 {
        let before = layout.blobs().stat(digest).ok().flatten();
        content = match look_once(layout, digest, limit, buffer, on_bytes) {
            Ok(content) => content,
            Err(crate::layout::blobs::Error::Missing { .. }) => return Content::Gone,
            Err(error) => Content::Unreadable(error.to_string().into()),
        };
        let after = layout.blobs().stat(digest).ok().flatten();
        if !matches!(content, Content::Corrupt(_)) || before == after {
            break;
        }
    }
    content
}

fn look_once(
    layout: &Layout,
    digest: &Digest,
    limit: u64,
    buffer: &mut [u8],
    on_bytes: &dyn Fn(u64),
) -> Result<Content, crate::layout::blobs::Error> {
    let path = layout.blobs().path(digest);
    let mut file = layout.blobs().open_unverified(digest)?;
    let size = file.metadata().at("stat", &path)?.len();
    // Only advice: what the kernel makes of it is its own.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
    let mut hasher = Hasher::new();
    let mut document: Option<Vec<u8>> = None;
    let mut untold = 0;
    loop {
        let count = match file.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(fsutil::Error::new("read", path, error).into()),
        };
        if count == 0 {
            break;
        }
        if hasher.length() == 0 && buffer[0] == b'{' && size <= limit {
            document = Some(Vec::with_capacity(size as usize));
        }
        hasher.update(&buffer[..count]);
        if let Some(document) = &mut document
            && document.len() as u64 <= limit
        {
            document.extend_from_slice(&buffer[..count]);
        }
        untold += count as u64;
        if untold >= TOLD {
            on_bytes(std::mem::take(&mut untold));
        }
    }
    on_bytes(untold);
    let actual = hasher.finish();
    if actual != *digest {
        return Ok(Content::Corrupt(Box::new(actual)));
    }
    Ok(document.map_or(Content::Whole, |bytes| understand(&bytes)))
}

/// What whole bytes say. Only manifests and indexes have links here: what else looks like JSON is
/// a config, or somebody's data.
fn understand(bytes: &[u8]) -> Content {
    match document::parse(bytes, "") {
        Ok(document @ (Document::Manifest(_) | Document::Index(_))) => {
            let link = |link: document::Link| Link {
                role: link.role,
                target: link.target.digest,
                size: link.target.size,
                elsewhere: is_elsewhere(&link.target.media_type),
            };
            Content::Document(document.links().into_iter().map(link).collect())
        }
        Ok(_) => Content::Whole,
        Err(error) => Content::Odd(error.to_string().into()),
    }
}

fn is_elsewhere(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}

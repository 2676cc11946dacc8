//! The commit pipeline: entries → tar → compressed blob, each byte touched once.
//!
//! ```text
//! caller's thread                            worker
//! walk, read, tar ─▶ 1 MiB chunk ─▶ SHA-256 ─full chunks (at most 4 wait)──▶ compress ─▶ SHA-256 ─▶ out
//!                        ▲                  (diff ID)                                   (digest)
//!                        └────────────────────emptied chunks───────────────────┘
//! ```
//!
//! The worker starts with the second chunk: most steps change less than one, and then all of it
//! happens on the caller's thread. The bytes are the same either way.
//!
//! If the worker fails, the next chunk finds nobody to take it, and the worker's error is the
//! answer; if the source fails, the worker finds no more chunks. Neither waits for the other
//! beyond that, since each side's end closes its channel.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, ScopedJoinHandle};

use super::compress::Compression;
use super::error::{Error, Result};
use super::write::TarWriter;
use crate::oci::digest::{Digest, HashWriter, Hasher};

/// Bytes of a chunk.
const CHUNK: usize = 1 << 20;
/// Full chunks that may wait for the worker.
const WAITING: usize = 4;

/// What was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Digest of the tar archive.
    pub diff_id: Digest,
    /// Digest of the compressed bytes.
    pub digest: Digest,
    /// Compressed bytes.
    pub size: u64,
    /// Bytes of the tar archive.
    pub unpacked_size: u64,
    /// Bytes of the content of regular files.
    pub content_size: u64,
    /// Entries, whiteouts included.
    pub entries: u64,
}

impl Packed {
    /// Whether the layer changes nothing.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }
}

/// Writes to `out` the layer whose entries `source` appends, and gives `out` back.
///
/// `source` runs on the calling thread. Nothing is flushed to the disk; that is `out`'s owner's.
pub fn pack<W, F>(compression: Compression, out: W, source: F) -> Result<(Packed, W)>
where
    W: Write + Send,
    F: FnOnce(&mut TarWriter<PackSink<'_>>) -> Result<()>,
{
    run(compression, out, |sink| {
        let mut tar = TarWriter::new(sink);
        source(&mut tar)?;
        let (entries, content_size) = (tar.entries(), tar.content_size());
        Ok((tar.finish()?, entries, content_size))
    })
}

/// Writes to `out` the layer whose uncompressed archive is `tar`, which is taken as it is:
/// `entries` and `content_size` stay 0, since nobody looked.
pub fn pack_archive<W, R>(compression: Compression, out: W, mut tar: R) -> Result<(Packed, W)>
where
    W: Write + Send,
    R: Read,
{
    run(compression, out, |mut sink| {
        let mut buffer = vec![0; 128 << 10];
        loop {
            match tar.read(&mut buffer) {
                Ok(0) => return Ok((sink, 0, 0)),
                Ok(count) => sink.write_all(&buffer[..count]).map_err(Error::Write)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Read(error)),
            }
        }
    })
}

/// Runs `fill` on this thread and what becomes of its chunks on another, if there are several.
fn run<W, F>(compression: Compression, out: W, fill: F) -> Result<(Packed, W)>
where
    W: Write + Send,
    F: FnOnce(PackSink<'_>) -> Result<(PackSink<'_>, u64, u64)>,
{
    std::thread::scope(|scope| {
        let out = RefCell::new(Some(out));
        let worker: RefCell<Option<ScopedJoinHandle<'_, Result<Compressed<W>>>>> =
            RefCell::new(None);
        let start = |full: Receiver<Vec<u8>>, empty: Sender<Vec<u8>>| -> io::Result<()> {
            let Some(out) = out.take() else { return Ok(()) };
            let work = move || compress(compression, out, full, &empty);
            let handle = Builder::new()
                .name("layer-compress".to_owned())
                .spawn_scoped(scope, work)?;
            worker.replace(Some(handle));
            Ok(())
        };
        let filled = fill(PackSink::new(Box::new(start))).and_then(|(sink, entries, content)| {
            Ok((sink.finish().map_err(Error::Write)?, entries, content))
        });
        let worker = worker
            .take()
            .map(|worker| worker.join().unwrap_or(Err(Error::Pipeline)));
        // The worker's error explains that of whoever found it gone.
        let compressed = worker.transpose()?;
        let ((rest, hasher), entries, content_size) = filled?;
        let compressed = match (compressed, out.take()) {
            (Some(compressed), _) => compressed,
            (None, Some(out)) => compress(compression, out, [rest], &channel().0)?,
            (None, None) => return Err(Error::Pipeline),
        };
        let packed = Packed {
            unpacked_size: hasher.length(),
            diff_id: hasher.finish(),
            digest: compressed.digest,
            size: compressed.size,
            content_size,
            entries,
        };
        Ok((packed, compressed.out))
    })
}

struct Compressed<W> {
    digest: Digest,
    size: u64,
    out: W,
}

/// The worker's part: compresses, hashes and writes `chunks`, and gives them back.
fn compress<W: Write>(
    compression: Compression,
    out: W,
    chunks: impl IntoIterator<Item = Vec<u8>>,
    empty: &Sender<Vec<u8>>,
) -> Result<Compressed<W>> {
    let mut writer = compression
        .writer(HashWriter::new(out))
        .map_err(Error::Write)?;
    for chunk in chunks {
        writer.write_all(&chunk).map_err(Error::Write)?;
        // That nobody wants it back any more is no failure.
        let _ = empty.send(chunk);
    }
    let (hasher, mut out) = writer.finish().map_err(Error::Write)?.into_parts();
    out.flush().map_err(Error::Write)?;
    Ok(Compressed {
        size: hasher.length(),
        digest: hasher.finish(),
        out,
    })
}

/// Full chunks on their way to the worker, and emptied ones on their way back.
type Channels = (SyncSender<Vec<u8>>, Receiver<Vec<u8>>);

/// Starts the worker on a stream of full chunks; it sends them back empty.
type Start<'a> = Box<dyn FnOnce(Receiver<Vec<u8>>, Sender<Vec<u8>>) -> io::Result<()> + 'a>;

/// Where the archive of [`pack`] goes: into the pipeline.
pub struct PackSink<'a> {
    chunk: Vec<u8>,
    hasher: Hasher,
    start: Option<Start<'a>>,
    worker: Option<Channels>,
}

impl<'a> PackSink<'a> {
    fn new(start: Start<'a>) -> PackSink<'a> {
        PackSink {
            chunk: Vec::new(),
            hasher: Hasher::new(),
            start: Some(start),
            worker: None,
        }
    }

    /// Hashes the chunk and hands it to the worker, which is started if it isn't there yet.
    fn hand_over(&mut self) -> io::Result<()> {
        self.hasher.update(&self.chunk);
        if let Some(start) = self.start.take() {
            let (full, take_full) = sync_channel(WAITING);
            let (give_back, empty) = channel();
            start(take_full, give_back)?;
            self.worker = Some((full, empty));
        }
        let Some((full, empty)) = &self.worker else {
            return Err(gone());
        };
        let mut next = empty
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        next.clear();
        full.send(std::mem::replace(&mut self.chunk, next))
            .map_err(|_| gone())
    }

    /// Ends the stream: the last chunk, unless the worker has it, and the hash of all.
    fn finish(mut self) -> io::Result<(Vec<u8>, Hasher)> {
        if self.worker.is_some() && !self.chunk.is_empty() {
            self.hand_over()?;
        } else {
            self.hasher.update(&self.chunk);
        }
        Ok((self.chunk, self.hasher))
    }
}

fn gone() -> io::Error {
    io::Error::new(ErrorKind::BrokenPipe, "the compressing thread has ended")
}

impl Write for PackSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk goes when more comes, so that one that is just full stays on this thread.
        if self.chunk.len() == CHUNK {
            self.hand_over()?;
        }
        let count = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::compress::Decompressor;
    use crate::layer::entry::{Entry, Kind};

    const EACH: [Compression; 3] = [
        Compression::None,
        Compression::Gzip(1),
        Compression::Zstd(1),
    ];

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u32;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    fn pack_one(compression: Compression, content: &[u8]) -> Result<(Packed, Vec<u8>)> {
        pack(compression, Vec::new(), |tar| {
            let entry = Entry::new(
                "file",
                Kind::File {
                    size: content.len() as u64,
                },
                0o644,
            );
            let mut content = content;
            tar.append(&entry, Some(&mut content))
        })
    }

    #[test]
    fn digests_and_sizes_are_those_of_the_bytes_on_one_thread_and_on_two() {
        for length in [
            0,
            100,
            CHUNK - 512 * 3,
            CHUNK - 512 * 3 + 1,
            5 * CHUNK + 77,
            9 * CHUNK,
        ] {
            let content = noise(length);
            for compression in EACH {
                let (packed, blob) = pack_one(compression, &content).unwrap();
                assert_eq!(
                    (packed.digest, packed.size),
                    (Digest::of(&blob), blob.len() as u64)
                );
                let mut tar = Vec::new();
                Decompressor::new(blob.as_slice())
                    .unwrap()
                    .read_to_end(&mut tar)
                    .unwrap();
                assert_eq!(
                    (packed.diff_id, packed.unpacked_size),
                    (Digest::of(&tar), tar.len() as u64)
                );
                assert_eq!((packed.entries, packed.content_size), (1, length as u64));
                let (again, blob_again) =
                    pack_archive(compression, Vec::new(), tar.as_slice()).unwrap();
                assert_eq!(
                    (again.digest, again.diff_id),
                    (packed.digest, packed.diff_id)
                );
                assert!(
                    blob == blob_again,
                    "an archive packed as it is gives the same blob"
                );
            }
        }
    }

    #[test]
    fn a_layer_without_entries_is_empty() {
        let (packed, _) = pack(Compression::default(), Vec::new(), |_| Ok(())).unwrap();
        assert!(packed.is_empty());
        assert_eq!(packed.unpacked_size, 1024);
    }

    /// Takes `left` bytes and then is a full disk.
    struct FullDisk {
        left: usize,
    }

    impl Write for FullDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.left.checked_sub(bytes.len()) {
                Some(left) => self.left = left,
                None => return Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_ends_both_sides_with_the_disk_s_error() {
        let content = noise(20 * CHUNK);
        for left in [0, 10, CHUNK, 15 * CHUNK] {
            for compression in EACH {
                let result = pack(compression, FullDisk { left }, |tar| {
                    let entry = Entry::new(
                        "f",
                        Kind::File {
                            size: content.len() as u64,
                        },
                        0,
                    );
                    tar.append(&entry, Some(&mut content.as_slice()))
                });
                assert!(result.err().unwrap().is_no_space(), "{compression} {left}");
            }
        }
    }

    #[test]
    fn a_source_that_fails_late_ends_both_sides_with_its_error() {
        let content = noise(8 * CHUNK);
        let result = pack(Compression::default(), Vec::new(), |tar| {
            let entry = Entry::new("short", Kind::File { size: 9 << 20 }, 0);
            tar.append(&entry, Some(&mut content.as_slice()))
        });
        assert!(
            matches!(result, Err(Error::Changed { .. })),
            "{:?}",
            result.err()
        );
    }
}

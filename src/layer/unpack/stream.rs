//! The layer's bytes on their way to the archive reader: hashed, decompressed, hashed, verified.
//!
//! The first chunk is made on the caller's thread; a worker is started for the others if there
//! are any. A chunk of no bytes ends the stream, so that an end and a worker that failed cannot be
//! taken for each other.
//!
//! Errors: wrong bytes explain everything that comes of them. So if the archive turns out to be
//! bad, the rest is still read, and a wrong digest is told rather than the damage it did.

use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::Builder;

use super::Expected;
use crate::layer::compress::{Decompressor, Format};
use crate::layer::error::{Error, Result};
use crate::oci::digest::{Digest, Hasher};

/// Bytes of a chunk.
const CHUNK: usize = 1 << 20;
/// Chunks that may wait for the archive reader.
const WAITING: usize = 4;

/// What the stream was, and that it was what it should be.
pub struct Verified {
    pub diff_id: Digest,
    pub digest: Digest,
    pub size: u64,
    pub unpacked_size: u64,
    pub format: Format,
}

/// Lets `consume` read the uncompressed archive in `source`, and verifies all of it.
pub fn run<R, T, F>(source: R, expected: &Expected, consume: F) -> Result<(Verified, T)>
where
    R: Read + Send,
    F: FnOnce(&mut ChunkReader) -> Result<T>,
{
    let compressed = Arc::new(Mutex::new(Compressed::new(source, expected.size)));
    let begun = Producer::new(&compressed).and_then(|mut producer| {
        producer
            .next_chunk(Vec::new())
            .map(|first| (producer, first))
    });
    let (producer, first) = begun.map_err(|error| explain(&compressed, expected, error))?;
    if first.len() < CHUNK {
        let mut reader = ChunkReader::of_one(first);
        let consumed = consume(&mut reader);
        let verified = producer.finish(&compressed, expected)?;
        return Ok((verified, consumed?));
    }
    run_with_worker(producer, first, &compressed, expected, consume)
}

type Shared<R> = Arc<Mutex<Compressed<R>>>;

fn run_with_worker<R, T, F>(
    mut producer: Producer<'_>,
    first: Vec<u8>,
    compressed: &Shared<R>,
    expected: &Expected,
    consume: F,
) -> Result<(Verified, T)>
where
    R: Read + Send,
    F: FnOnce(&mut ChunkReader) -> Result<T>,
{
    let (full, take_full) = sync_channel(WAITING);
    let (give_back, empty) = channel();
    std::thread::scope(|scope| {
        let work = move || match producer.send_all(&full, &empty) {
            Ok(true) => producer.finish(compressed, expected).map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(explain(compressed, expected, error)),
        };
        let worker = Builder::new()
            .name("layer-decompress".to_owned())
            .spawn_scoped(scope, work)
            .map_err(Error::Read)?;
        let mut reader = ChunkReader {
            chunk: first,
            position: 0,
            more: Some((take_full, give_back)),
        };
        let consumed = consume(&mut reader);
        if consumed.as_ref().err().is_none_or(Error::is_bad_layer) {
            reader.drain();
        }
        // Without a reader the worker's next chunk finds no taker, and it ends.
        drop(reader);
        let verified = worker.join().unwrap_or(Err(Error::Pipeline))?;
        let consumed = consumed?;
        Ok((verified.ok_or(Error::Pipeline)?, consumed))
    })
}

/// What is to be said of a stream that cannot be decompressed: that it isn't the right one, if so.
fn explain<R: Read>(compressed: &Shared<R>, expected: &Expected, error: Error) -> Error {
    if matches!(error, Error::Read(_)) {
        return error;
    }
    match lock(compressed).finish(expected) {
        Ok(_) => error,
        Err(better) => better,
    }
}

/// The bytes of the blob, counted and hashed as they are read.
struct Compressed<R> {
    source: R,
    hasher: Hasher,
    limit: u64,
}

impl<R: Read> Compressed<R> {
    fn new(source: R, size: Option<u64>) -> Compressed<R> {
        Compressed {
            source,
            hasher: Hasher::new(),
            limit: size.unwrap_or(u64::MAX),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = loop {
            match self.source.read(buffer) {
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Read(error)),
            }
        };
        self.hasher.update(&buffer[..count]);
        match self.hasher.length() > self.limit {
            true => Err(self.wrong_size(&None, self.limit)),
            false => Ok(count),
        }
    }

    fn wrong_size(&self, digest: &Option<Digest>, expected: u64) -> Error {
        let actual = self.hasher.length();
        let digest = digest.map_or_else(|| "blob".to_owned(), |digest| digest.to_string());
        Error::Size {
            digest,
            expected,
            actual,
            more: actual > expected,
        }
    }

    /// Reads what the decompressor had no use for, and compares with what was expected.
    fn finish(&mut self, expected: &Expected) -> Result<(Digest, u64)> {
        let mut rest = vec![0; 64 << 10];
        while self.hasher.length() <= self.limit && self.read(&mut rest)? > 0 {}
        let size = self.hasher.length();
        if let Some(expected_size) = expected.size
            && size != expected_size
        {
            return Err(self.wrong_size(&expected.digest, expected_size));
        }
        let actual = std::mem::take(&mut self.hasher).finish();
        match expected.digest {
            Some(expected) if expected != actual => Err(Error::Digest { expected, actual }),
            _ => Ok((actual, size)),
        }
    }
}

fn lock<R>(compressed: &Shared<R>) -> MutexGuard<'_, Compressed<R>> {
    compressed
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The same bytes for the decompressor to read, which owns its source.
struct Source<R>(Shared<R>);

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        lock(&self.0).read(buffer).map_err(Error::into_io)
    }
}

/// Makes chunks of the uncompressed archive.
struct Producer<'a> {
    decompressor: Decompressor<'a>,
    hasher: Hasher,
}

impl<'a> Producer<'a> {
    fn new<R: Read + Send + 'a>(compressed: &Shared<R>) -> Result<Producer<'a>> {
        let source = Source(Arc::clone(compressed));
        let decompressor =
            Decompressor::new(source).map_err(|error| failed(Format::None, error))?;
        Ok(Producer {
            decompressor,
            hasher: Hasher::new(),
        })
    }

    /// The next chunk, in the memory of `chunk`; shorter than a whole one only at the end.
    fn next_chunk(&mut self, mut chunk: Vec<u8>) -> Result<Vec<u8>> {
        chunk.clear();
        let limit = CHUNK as u64;
        let format = self.decompressor.format();
        Read::by_ref(&mut self.decompressor)
            .take(limit)
            .read_to_end(&mut chunk)
            .map_err(|error| failed(format, error))?;
        self.hasher.update(&chunk);
        Ok(chunk)
    }

    /// Sends all chunks and the end; `false` if nobody wants them any more.
    fn send_all(&mut self, full: &SyncSender<Vec<u8>>, empty: &Receiver<Vec<u8>>) -> Result<bool> {
        loop {
            let memory = empty
                .try_recv()
                .unwrap_or_else(|_| Vec::with_capacity(CHUNK));
            let chunk = self.next_chunk(memory)?;
            let last = chunk.len() < CHUNK;
            let sent = full.send(chunk).is_ok();
            if !sent || last {
                return Ok(sent && full.send(Vec::new()).is_ok());
            }
        }
    }

    fn finish<R: Read>(self, compressed: &Shared<R>, expected: &Expected) -> Result<Verified> {
        let format = self.decompressor.format();
        let (digest, size) = lock(compressed).finish(expected)?;
        let unpacked_size = self.hasher.length();
        let actual = self.hasher.finish();
        match expected.diff_id {
            Some(expected) if expected != actual => Err(Error::DiffId { expected, actual }),
            _ => Ok(Verified {
                diff_id: actual,
                digest,
                size,
                unpacked_size,
                format,
            }),
        }
    }
}

/// A failure of the decompressor: its own, or one of the bytes it reads.
fn failed(format: Format, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => Error::Decompress { format, source },
    }
}

/// Full chunks on their way from the worker, and read ones on their way back.
type Channels = (Receiver<Vec<u8>>, Sender<Vec<u8>>);

/// The uncompressed archive as a reader.
pub struct ChunkReader {
    chunk: Vec<u8>,
    position: usize,
    more: Option<Channels>,
}

impl ChunkReader {
    fn of_one(chunk: Vec<u8>) -> ChunkReader {
        ChunkReader {
            chunk,
            position: 0,
            more: None,
        }
    }

    /// Goes on to the next chunk; `false`: there is none.
    fn advance(&mut self) -> io::Result<bool> {
        let Some((full, empty)) = &self.more else {
            return Ok(false);
        };
        let gone = |_| io::Error::new(ErrorKind::BrokenPipe, "the decompressing thread has ended");
        let next = full.recv().map_err(gone)?;
        let _ = empty.send(std::mem::replace(&mut self.chunk, next));
        self.position = 0;
        if self.chunk.is_empty() {
            self.more = None;
        }
        Ok(self.more.is_some())
    }

    /// Passes over the rest, so that all of it is hashed.
    fn drain(&mut self) {
        while let Ok(true) = self.advance() {}
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.chunk.len() && !self.advance()? {
            return Ok(0);
        }
        let count = buffer.len().min(self.chunk.len() - self.position);
        buffer[..count].copy_from_slice(&self.chunk[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

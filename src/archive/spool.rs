//! A member's bytes on their way to `ingest/`: hashed, and packed where they are a layer, as they
//! come, so that nothing is written twice.
//!
//! ```text
//! blob        bytes ─▶ SHA-256 ─▶ ingest
//! layer, tar  bytes ─▶ SHA-256 (diff ID) ─▶ compress ─▶ SHA-256 ─▶ ingest
//! layer, gz   bytes ─▶ SHA-256 ─▶ ingest
//!                 └──▶ decompress ─▶ SHA-256 (diff ID)
//! ```

use std::io::{self, Read, Write};

use super::error::{Error, Problem, Result};
use crate::fsutil::IoContext;
use crate::layer::{self, Compression, Decompressor, Format};
use crate::layout::Ingest;
use crate::oci::Digest;
use crate::oci::digest::Hasher;
use crate::store::{self, LayerBlob, Lease};

/// Bytes copied at once.
const BUFFER: usize = 256 << 10;

/// A file in `ingest/`, complete, with what its bytes are.
#[derive(Debug)]
pub struct Spooled {
    /// The file.
    pub ingest: Ingest,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
}

impl Spooled {
    /// Its bytes, for a document of at most `limit` bytes that is called `member`.
    pub fn read(&self, member: &str, limit: u64) -> Result<Vec<u8>> {
        if self.size > limit {
            let size = self.size;
            return Err(Error::member(member, Problem::TooLarge { size, limit }));
        }
        let path = self.ingest.path();
        Ok(std::fs::read(path).at("read", path)?)
    }
}

/// A layer in `ingest/`, as the store will have it.
#[derive(Debug)]
pub struct SpooledLayer {
    /// The file.
    pub ingest: Ingest,
    /// What it is.
    pub layer: LayerBlob,
}

/// Whose fault a failed read is.
pub trait Source: Read + Send {
    /// `error` of this source, told.
    fn failed(&self, error: io::Error) -> Error;
}

/// Copies all of `source` to `ingest/`, hashing it.
pub fn blob(lease: &Lease, source: &mut impl Source) -> Result<Spooled> {
    let mut ingest = lease.ingest()?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                write(&mut ingest, &buffer[..count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(source.failed(error)),
        }
    }
    ingest.close();
    let size = hasher.length();
    let digest = hasher.finish();
    Ok(Spooled {
        ingest,
        digest,
        size,
    })
}

fn write(ingest: &mut Ingest, bytes: &[u8]) -> Result<()> {
    Ok(ingest.write_all(bytes).at("write", ingest.path())?)
}

/// Takes the layer `source` in: an uncompressed one is packed with `compression`; one that an
/// image may have compressed stays as it is; another is packed anew.
///
/// `begins` are the first bytes, which `source` gives once more.
pub fn layer(
    lease: &Lease,
    member: &str,
    begins: &[u8],
    source: &mut impl Source,
    compression: Compression,
) -> Result<SpooledLayer> {
    let format = Format::sniff(begins);
    match (format, format.media_type()) {
        (Format::None, _) | (_, None) => packed(lease, member, format, source, compression),
        (_, Some(media_type)) => kept(lease, member, format, media_type, source),
    }
}

fn packed(
    lease: &Lease,
    member: &str,
    format: Format,
    source: &mut impl Source,
    compression: Compression,
) -> Result<SpooledLayer> {
    let ingest = lease.ingest()?;
    let path = ingest.path().to_path_buf();
    let outcome = Decompressor::new(&mut *source)
        .map_err(layer::Error::Read)
        .and_then(|tar| layer::pack_archive(compression, ingest, tar));
    let (packed, mut ingest) = match outcome {
        Ok(done) => done,
        Err(layer::Error::Read(error)) => return Err(blame(source, member, format, error)),
        Err(layer::Error::Write(error)) => {
            return Err(crate::fsutil::Error::new("write", path, error).into());
        }
        Err(other) => return Err(Error::Tar(other)),
    };
    ingest.close();
    let layer = LayerBlob {
        media_type: compression.media_type().to_owned(),
        digest: packed.digest,
        size: packed.size,
        diff_id: packed.diff_id,
        unpacked: Some(packed.unpacked_size),
    };
    Ok(SpooledLayer { ingest, layer })
}

fn kept(
    lease: &Lease,
    member: &str,
    format: Format,
    media_type: &str,
    source: &mut impl Source,
) -> Result<SpooledLayer> {
    let mut tee = Tee {
        source,
        ingest: lease.ingest()?,
        hasher: Hasher::new(),
        failed: None,
    };
    let outcome = Decompressor::new(&mut tee).and_then(|mut tar| Hasher::of_all(&mut tar));
    let Tee {
        mut ingest,
        hasher,
        failed,
        ..
    } = tee;
    if let Some(error) = failed {
        return Err(error);
    }
    let diff = outcome.map_err(|error| blame(source, member, format, error))?;
    ingest.close();
    let unpacked = Some(diff.length());
    let layer = LayerBlob {
        media_type: media_type.to_owned(),
        size: hasher.length(),
        digest: hasher.finish(),
        diff_id: diff.finish(),
        unpacked,
    };
    Ok(SpooledLayer { ingest, layer })
}

/// An error that came out of a decompressor: the source's own, or the layer is damaged.
fn blame(source: &impl Source, member: &str, format: Format, error: io::Error) -> Error {
    let of_source = error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<layer::Error>);
    if of_source || format == Format::None {
        return source.failed(error);
    }
    let problem = Problem::Compressed {
        format,
        source: error,
    };
    Error::member(member, problem)
}

/// Keeps and hashes what is read through it.
struct Tee<'s, S> {
    source: &'s mut S,
    ingest: Ingest,
    hasher: Hasher,
    failed: Option<Error>,
}

impl<S: Read> Read for Tee<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        if let Err(error) = write(&mut self.ingest, &buffer[..count]) {
            // A decompressor passes on I/O errors only: the reason waits aside.
            self.failed = Some(error);
            return Err(io::Error::other("the layer could not be kept"));
        }
        Ok(count)
    }
}

/// A file as a source.
#[derive(Debug)]
pub struct FileSource<'a> {
    /// The file.
    pub file: std::fs::File,
    /// Where it is.
    pub path: &'a std::path::Path,
}

impl Read for FileSource<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Source for FileSource<'_> {
    fn failed(&self, error: io::Error) -> Error {
        crate::fsutil::Error::new("read", self.path, error).into()
    }
}

/// A new blob of `bytes`.
pub fn bytes(lease: &Lease, bytes: &[u8]) -> Result<Spooled, store::Error> {
    let mut ingest = lease.ingest()?;
    ingest.write_all(bytes).at("write", ingest.path())?;
    ingest.close();
    Ok(Spooled {
        ingest,
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    })
}

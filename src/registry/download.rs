//! A blob's bytes, into a file, hashed on their way.
//!
//! ```text
//! file:  |── was here: hashed again ──|── Range: bytes=N- ──▶ … cut off … ──▶ Range: bytes=M- ──▶|
//! ```
//! What comes is counted: more bytes than the manifest says are an error at once, fewer are asked
//! for. A server that gives next to nothing for [`Config::patience`] is asked anew. Each byte of
//! progress makes up for the failures before it, so that a large layer arrives over a bad line.
//!
//! [`Config::patience`]: super::Config::patience

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Stop;
use super::error::{Error, Result};
use super::repository::Repository;
use super::retry::{ATTEMPTS, delay};
use super::session::{Response, header, refused};
use crate::fsutil::IoContext;
use crate::oci::Digest;
use crate::oci::digest::Hasher;

/// Who gives fewer bytes a second is taken for dead.
const SLOWEST: u64 = 256;
const BUFFER: usize = 128 << 10;

/// A blob on its way.
pub(super) struct Download<'a> {
    pub repository: &'a Repository,
    pub digest: Digest,
    pub size: u64,
    pub file: File,
    /// Where it is, for errors.
    pub path: PathBuf,
    /// Bytes that are here.
    pub done: &'a AtomicU64,
    pub stop: &'a Stop,
}

impl Download<'_> {
    /// Fetches what is not here yet. The file is then what was asked for.
    pub fn run(&mut self) -> Result<()> {
        let mut hasher = self.take_up()?;
        let resumed = hasher.length() > 0;
        self.fetch(&mut hasher)?;
        let mut digest = std::mem::take(&mut hasher).finish();
        if digest != self.digest && resumed {
            // What was here may be what a power cut has left.
            self.begin_anew(&mut hasher)?;
            self.fetch(&mut hasher)?;
            digest = std::mem::take(&mut hasher).finish();
        }
        if digest != self.digest {
            // Nobody goes on with that.
            self.begin_anew(&mut hasher)?;
            return Err(Error::Wrong {
                what: self.digest.to_string(),
                why: format!("the bytes that the registry sent have digest {digest}"),
            });
        }
        Ok(())
    }

    /// Hashes what is here.
    fn take_up(&mut self) -> Result<Hasher> {
        let mut hasher = Hasher::new();
        self.file.seek(SeekFrom::Start(0)).at("seek", &self.path)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            self.stop.check()?;
            match self.file.read(&mut buffer).at("read", &self.path)? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
            self.done.store(hasher.length(), Ordering::Relaxed);
        }
        if hasher.length() > self.size {
            self.begin_anew(&mut hasher)?;
        }
        Ok(hasher)
    }

    fn begin_anew(&mut self, hasher: &mut Hasher) -> Result<()> {
        *hasher = Hasher::new();
        self.done.store(0, Ordering::Relaxed);
        self.file.set_len(0).at("truncate", &self.path)?;
        self.file.seek(SeekFrom::Start(0)).at("seek", &self.path)?;
        Ok(())
    }

    fn fetch(&mut self, hasher: &mut Hasher) -> Result<()> {
        let mut failures = 0;
        while hasher.length() < self.size {
            let before = hasher.length();
            match self.ask(hasher) {
                Ok(()) => {}
                Err(error) if error.is_passing() => {
                    failures = match hasher.length() > before {
                        true => 1,
                        false => failures + 1,
                    };
                    if failures >= ATTEMPTS {
                        return Err(error);
                    }
                    let wait = delay(failures, self.repository.client.chance());
                    self.stop.pause(wait)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Asks for the rest, and takes what comes.
    fn ask(&mut self, hasher: &mut Hasher) -> Result<()> {
        let from = hasher.length();
        let path = format!("blobs/{}", self.digest);
        let mut request = self.repository.request("GET", &path, self.stop)?;
        if from > 0 {
            request.headers.push(("range", format!("bytes={from}-")));
        }
        let response = self.repository.send(&request, self.stop)?;
        match response.status().as_u16() {
            206 if from > 0 && begins_at(&response) == Some(from) => {}
            // It knows no ranges, or not this one.
            200 => {
                if from > 0 {
                    self.begin_anew(hasher)?;
                }
            }
            206 | 416 if from > 0 => return self.begin_anew(hasher),
            404 => {
                let what = format!("the blob {}", self.digest);
                return Err(self.repository.missing(&what, response));
            }
            _ => return Err(refused(&request.url, response)),
        }
        let length = header(&response, "content-length").and_then(|text| text.parse::<u64>().ok());
        let rest = self.size - hasher.length();
        if let Some(length) = length.filter(|length| *length != rest) {
            return Err(self.wrong(format!(
                "the registry has {} bytes of it, and the manifest says {}",
                length.saturating_add(hasher.length()),
                self.size
            )));
        }
        self.take(response, hasher)
    }

    fn take(&mut self, response: Response, hasher: &mut Hasher) -> Result<()> {
        let client = &self.repository.client;
        let patience = client.config().patience;
        let failed = |why: String| Error::Failed {
            url: format!("{} of {}", self.digest, self.repository.endpoint.name),
            why,
            again: true,
        };
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER];
        let (mut since, mut moved) = (client.now(), 0u64);
        loop {
            self.stop.check()?;
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    let length = hasher.length();
                    return Err(failed(format!("after {length} bytes: {error}")));
                }
            };
            // Whoever asked for the end may have given the file to somebody else.
            self.stop.check()?;
            let bytes = &buffer[..count];
            if hasher.length() + count as u64 > self.size {
                self.begin_anew(hasher)?;
                return Err(self.wrong(format!(
                    "the registry sends more than the {} bytes that the manifest says",
                    self.size
                )));
            }
            hasher.update(bytes);
            self.file.write_all(bytes).at("write", &self.path)?;
            self.done.store(hasher.length(), Ordering::Relaxed);
            moved += count as u64;
            let now = client.now();
            let millis = u64::try_from(now - since).unwrap_or(0);
            if u128::from(millis) >= patience.as_millis() {
                if moved < SLOWEST.saturating_mul(millis) / 1000 {
                    return Err(failed(format!("only {moved} bytes in {millis} ms")));
                }
                (since, moved) = (now, 0);
            }
        }
        match hasher.length() {
            length if length < self.size => Err(failed(format!(
                "the connection ended after {length} of {} bytes",
                self.size
            ))),
            _ => Ok(()),
        }
    }

    fn wrong(&self, why: String) -> Error {
        Error::Wrong {
            what: self.digest.to_string(),
            why,
        }
    }
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn begins_at(response: &Response) -> Option<u64> {
    let range = header(response, "content-range")?;
    let (first, _) = range.trim().strip_prefix("bytes")?.trim().split_once('-')?;
    first.trim().parse().ok()
}

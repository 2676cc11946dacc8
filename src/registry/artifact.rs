//! Artifacts (image-spec, "Guidelines for Artifact Usage"): manifests and blobs of one repository,
//! for whoever knows what they mean. Nothing here is put into a store.
//!
//! ```text
//! tag ─▶ manifest           blobs ─▶ files, a few at the same time, verified as they arrive
//!                           files ─▶ blobs that the registry lacks: mounted or sent
//! tags ─▶ their manifests, side by side ─▶ DELETE by digest
//! ```
//! What is read and written here is the registry's own: a mirror may have yesterday's.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::download::Download;
use super::error::{Error, Result};
use super::event::{Event, LayerState, Sink};
use super::moves::{News, each_of};
use super::pull::ask;
use super::repository::Repository;
use super::session::refused;
use super::upload::{Sent, Upload};
use super::{Client, Stop};
use crate::executor::Cancel;
use crate::fsutil::IoContext;
use crate::oci::{Digest, Reference, media};
use crate::store::Held;

/// What is to be done in a repository; tokens are asked for accordingly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
    /// Reading and deleting.
    Delete,
}

/// One repository of a registry.
#[derive(Clone)]
pub struct Artifacts {
    repository: Repository,
    cancel: Cancel,
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its bytes, which have this digest.
    pub bytes: Vec<u8>,
    /// The digest.
    pub digest: Digest,
}

/// A blob that is wanted.
#[derive(Debug, Clone)]
pub struct Arriving {
    /// Its digest.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// The file that it is to be in; what is there of it is not asked for again.
    pub path: PathBuf,
    /// Kept as long as somebody may write to the file, where others might as well.
    pub held: Option<Held>,
}

/// A blob that the registry is to have.
#[derive(Debug, Clone)]
pub struct Leaving {
    /// Its digest.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// The file that has it; `None`: it is not here, and may be there.
    pub path: Option<PathBuf>,
    /// Repositories of the same registry that may have it.
    pub elsewhere: Vec<String>,
}

/// What became of a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Gone,
    /// It was not there.
    Absent,
}

impl std::fmt::Debug for Artifacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Artifacts")
            .field(&self.repository.path)
            .finish()
    }
}

impl Artifacts {
    /// The repository of `name`, whose tag and digest don't matter. `cancel` ends all that is asked
    /// of it.
    pub fn of(client: &Client, name: &Reference, access: Access, cancel: &Cancel) -> Result<Self> {
        let repository = Repository::new(client, client.registry(&name.domain)?, &name.path);
        Ok(Artifacts {
            repository: match access {
                Access::Pull => repository,
                Access::Push => repository.for_pushes(),
                Access::Delete => repository.for_deletes(),
            },
            cancel: cancel.clone(),
        })
    }

    /// The manifest of a tag or a digest, which it then has. An error too if there is no answer
    /// within `patience`.
    pub fn manifest_within(&self, reference: &str, patience: Duration) -> Result<Manifest> {
        let (repository, what) = (self.repository.clone(), reference.to_owned());
        let stop = Stop::new(&self.cancel);
        within(&stop, patience, move |stop| {
            manifest(&repository, &what, stop)
        })
        .unwrap_or_else(|| {
            Err(Error::Failed {
                url: self.repository.endpoint.name.clone(),
                why: format!("no answer within {} seconds", patience.as_secs()),
                again: false,
            })
        })
    }

    /// The manifest of a tag or a digest; `None`: there is none.
    pub fn manifest(&self, reference: &str) -> Result<Option<Manifest>> {
        let (repository, what) = (self.repository.clone(), reference.to_owned());
        let asked = ask(&Stop::new(&self.cancel), move |stop| {
            manifest(&repository, &what, stop)
        });
        present(asked)
    }

    /// The digest that a tag has now; `None`: there is no such tag, or the registry doesn't say.
    pub fn digest_of(&self, tag: &str) -> Result<Option<Digest>> {
        let (repository, tag) = (self.repository.clone(), tag.to_owned());
        let told = ask(&Stop::new(&self.cancel), move |stop| {
            repository.manifest_digest(&tag, stop)
        });
        Ok(told?.flatten())
    }

    /// All tags, sorted; `None`: there is no such repository.
    pub fn tags(&self) -> Result<Option<Vec<String>>> {
        let repository = self.repository.clone();
        let asked = ask(&Stop::new(&self.cancel), move |stop| repository.tags(stop));
        present(asked)
    }

    /// The manifests of many tags, in their order. `Ok(None)`: that one is not there; an error in
    /// words: it is no document that can be read.
    pub fn manifests(&self, tags: &[String]) -> Result<Vec<Result<Option<Manifest>, String>>> {
        let mut found: Vec<_> = vec![Ok(None); tags.len()];
        let repository = self.repository.clone();
        let stop = Stop::new(&self.cancel);
        let within = stop.clone();
        let work = move |tag: String| present(manifest(&repository, &tag, &within));
        each_of(tags.to_vec(), self.parallel(), &stop, work, |news| {
            let News::Done(place, result) = news else {
                return Ok(());
            };
            found[place] = match result {
                Err(Error::Wrong { why, .. }) => Err(why),
                result => Ok(result?),
            };
            Ok(())
        })?;
        Ok(found)
    }

    /// Deletes a manifest, and with it every tag that it has.
    pub fn delete(&self, digest: &Digest) -> Result<Deleted> {
        let (repository, digest) = (self.repository.clone(), *digest);
        ask(&Stop::new(&self.cancel), move |stop| {
            let request = repository.request("DELETE", &format!("manifests/{digest}"), stop)?;
            let response = repository.send(&request, stop)?;
            match response.status().as_u16() {
                200 | 202 | 204 => Ok(Deleted::Gone),
                404 => Ok(Deleted::Absent),
                _ => Err(refused(&request.url, response)),
            }
        })
    }

    /// Writes a manifest under a tag.
    pub fn put_manifest(&self, tag: &str, bytes: Vec<u8>) -> Result<()> {
        let (repository, tag) = (self.repository.clone(), tag.to_owned());
        ask(&Stop::new(&self.cancel), move |stop| {
            let written = repository.put_manifest(&tag, media::MANIFEST, &bytes, stop);
            written.map(drop)
        })
    }

    /// Fetches blobs into their files. `arrived` hears of each, by its place: then the file is what
    /// was asked for, or the error says why not, and the others go on. Its own error ends it all.
    pub fn download<E: From<Error>>(
        &self,
        blobs: Vec<Arriving>,
        sink: &dyn Sink,
        mut arrived: impl FnMut(usize, Result<()>) -> Result<(), E>,
    ) -> Result<(), E> {
        let stop = Stop::new(&self.cancel);
        let counted = Counted::of(blobs.iter().map(|blob| (blob.digest, blob.size)));
        let jobs = blobs.into_iter().zip(counted.counters()).collect();
        let (repository, within) = (self.repository.clone(), stop.clone());
        let work = move |(blob, done): (Arriving, Arc<AtomicU64>)| {
            fetch(&repository, &blob, &done, &within)
        };
        self.moved(jobs, counted, &stop, work, sink, &mut arrived)
    }

    /// Brings blobs to the registry. `sent` hears of each, by its place: whether it is there now
    /// (not, if it is in no file here and nowhere there).
    pub fn upload<E: From<Error>>(
        &self,
        blobs: &[Leaving],
        sink: &dyn Sink,
        mut sent: impl FnMut(usize, Result<bool>) -> Result<(), E>,
    ) -> Result<(), E> {
        let stop = Stop::new(&self.cancel);
        let counted = Counted::of(blobs.iter().map(|blob| (blob.digest, blob.size)));
        let jobs = blobs.iter().cloned().zip(counted.counters()).collect();
        let (repository, within) = (self.repository.clone(), stop.clone());
        let work = move |(blob, done): (Leaving, Arc<AtomicU64>)| {
            bring(&repository, &blob, &done, &within)
        };
        let tell = |blob: &Leaving, state| {
            let (digest, size) = (blob.digest, blob.size);
            sink.event(Event::Layer {
                digest,
                size,
                state,
            });
        };
        let mut told = |place: usize, result: Result<Option<Sent>>| {
            let state = match &result {
                Ok(Some(Sent::There)) => Some(LayerState::There),
                Ok(Some(Sent::Mounted(from))) => Some(LayerState::Mounted { from: from.clone() }),
                Ok(Some(Sent::Pushed)) => Some(LayerState::Pushed),
                Ok(None) | Err(_) => None,
            };
            if let Some(state) = state {
                tell(&blobs[place], state);
            }
            sent(place, result.map(|sent| sent.is_some()))
        };
        self.moved(jobs, counted, &stop, work, sink, &mut told)
    }

    /// Moves blobs, a few at the same time, and tells how far they have come.
    fn moved<J: Send + 'static, R: Send + 'static, E: From<Error>>(
        &self,
        jobs: Vec<J>,
        mut counted: Counted,
        stop: &Stop,
        work: impl Fn(J) -> Result<R> + Send + Sync + 'static,
        sink: &dyn Sink,
        done: &mut dyn FnMut(usize, Result<R>) -> Result<(), E>,
    ) -> Result<(), E> {
        // The error of whoever hears of it goes past `each`, which has errors of its own.
        let mut failed = None;
        let outcome = each_of(jobs, self.parallel(), stop, work, |news| match news {
            News::Tick => {
                counted.tell(sink);
                Ok(())
            }
            News::Done(_, Err(Error::Interrupted)) => Err(Error::Interrupted),
            News::Done(place, result) => done(place, result).map_err(|error| {
                failed = Some(error);
                Error::Interrupted
            }),
        });
        match (failed, outcome) {
            (Some(error), _) => Err(error),
            (None, outcome) => Ok(outcome?),
        }
    }

    fn parallel(&self) -> usize {
        self.repository.client.config().parallel
    }
}

/// How far blobs have come that are being moved.
struct Counted(Vec<(Digest, u64, Arc<AtomicU64>, u64)>);

impl Counted {
    fn of(blobs: impl Iterator<Item = (Digest, u64)>) -> Counted {
        Counted(
            blobs
                .map(|(digest, size)| (digest, size, Arc::default(), 0))
                .collect(),
        )
    }

    fn counters(&self) -> impl Iterator<Item = Arc<AtomicU64>> + '_ {
        self.0.iter().map(|(_, _, done, _)| Arc::clone(done))
    }

    fn tell(&mut self, sink: &dyn Sink) {
        for (digest, size, counter, told) in &mut self.0 {
            let done = counter.load(Ordering::Relaxed);
            if done != *told {
                *told = done;
                let (digest, size) = (*digest, *size);
                sink.event(Event::Moved { digest, done, size });
            }
        }
    }
}

/// Asks on a thread that need not be waited for; `None`: there was no answer in time, and nobody
/// waits for it any more.
fn within<T: Send + 'static>(
    stop: &Stop,
    patience: Duration,
    work: impl FnOnce(&Stop) -> Result<T> + Send + 'static,
) -> Option<Result<T>> {
    const LOOK: Duration = Duration::from_millis(50);
    let own = stop.clone();
    let (sender, result) = channel();
    std::thread::spawn(move || drop(sender.send(work(&own))));
    let mut waited = Duration::ZERO;
    while waited < patience {
        match result.recv_timeout(LOOK) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Timeout) if stop.check().is_err() => break,
            Err(RecvTimeoutError::Timeout) => waited += LOOK,
            // It panicked, which has been told.
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if stop.check().is_err() {
        return Some(Err(Error::Interrupted));
    }
    stop.ask();
    None
}

fn manifest(repository: &Repository, reference: &str, stop: &Stop) -> Result<Manifest> {
    let digest = reference.parse::<Digest>().ok();
    let fetched = repository.manifest(reference, digest.as_ref(), stop)?;
    Ok(Manifest {
        bytes: fetched.bytes,
        digest: fetched.digest,
    })
}

/// What is there, of what may not be.
fn present<T>(asked: Result<T>) -> Result<Option<T>> {
    match asked {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn fetch(repository: &Repository, blob: &Arriving, done: &AtomicU64, stop: &Stop) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    Download {
        repository,
        digest: blob.digest,
        size: blob.size,
        file: options.open(&blob.path).at("create", &blob.path)?,
        path: blob.path.clone(),
        done,
        stop,
    }
    .run()
}

fn bring(
    repository: &Repository,
    blob: &Leaving,
    done: &AtomicU64,
    stop: &Stop,
) -> Result<Option<Sent>> {
    let upload = Upload {
        repository,
        digest: blob.digest,
        size: blob.size,
        path: blob.path.as_deref().unwrap_or("".as_ref()),
        elsewhere: &blob.elsewhere,
        done,
        stop,
    };
    match blob.path {
        Some(_) => upload.run().map(Some),
        // An upload that was begun by trying to mount is forgotten by the registry in time.
        None => Ok(upload.spared()?.ok()),
    }
}

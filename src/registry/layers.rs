//! The layers of a pull: fetched a few at a time, published one by one.
//!
//! ```text
//! wanted ─▶ here                          nothing to do
//!        ─▶ somebody else fetches it      waits: until it is here, or nobody fetches it any more
//!        ─▶ its lock is ours ─▶ fetched, verified ─▶ published ─▶ the lock is free
//!                               by a thread  └─ put on the disk, by another one, meanwhile
//! ```
//! Whoever waits holds no lock of those that he waits for, and fetches what else there is: nobody
//! waits in a circle. A layer's bytes go to the disk while the next ones arrive, so that the tag
//! need not wait long for them.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::Stop;
use super::download::Download;
use super::error::{Error, Result};
use super::event::{Event, LayerState, Sink};
use super::moves::{Moves, News, Next, each};
use super::repository::Repository;
use crate::catalog::BlobKind;
use crate::fsutil::IoContext;
use crate::oci::Digest;
use crate::oci::document::Descriptor;
use crate::store::{Held, Lease, Partial, Settled};

/// How often is looked whether somebody asks for the end, while the disk writes.
const LOOK: Duration = Duration::from_millis(50);

/// Layers on their way.
pub(super) struct Layers<'a> {
    lease: &'a Lease<'a>,
    repositories: &'a [Repository],
    sink: &'a dyn Sink,
    stop: &'a Stop,
    /// Those that nobody of ours has begun, and whether somebody else was seen to fetch them.
    wanted: VecDeque<(Descriptor, bool)>,
    /// Those that were begun, by their place.
    begun: Vec<Begun>,
    /// Whoever writes to the disk says here when that is done.
    writers: Sender<std::io::Result<Settled>>,
    written: Receiver<std::io::Result<Settled>>,
    bytes: u64,
}

struct Begun {
    descriptor: Descriptor,
    partial: Option<Partial>,
    done: Arc<AtomicU64>,
    told: u64,
}

/// A layer that a thread fetches.
pub(super) struct Job {
    repositories: Vec<Repository>,
    digest: Digest,
    size: u64,
    path: PathBuf,
    done: Arc<AtomicU64>,
    stop: Stop,
    writer: Sender<std::io::Result<Settled>>,
    /// Nobody else writes to the file while this does.
    held: Held,
}

impl<'a> Layers<'a> {
    /// What is to be fetched, each once.
    pub fn new(
        lease: &'a Lease<'a>,
        repositories: &'a [Repository],
        sink: &'a dyn Sink,
        stop: &'a Stop,
        layers: Vec<Descriptor>,
    ) -> Layers<'a> {
        let (writers, written) = channel();
        Layers {
            lease,
            repositories,
            sink,
            stop,
            wanted: layers.into_iter().map(|layer| (layer, false)).collect(),
            begun: Vec::new(),
            writers,
            written,
            bytes: 0,
        }
    }

    /// Fetches what the store lacks. Returns how many bytes that were.
    pub fn fetch(mut self) -> Result<u64> {
        for (descriptor, _) in std::mem::take(&mut self.wanted) {
            if self.is_here(&descriptor)? {
                self.tell(&descriptor, LayerState::Exists);
            } else {
                self.tell(&descriptor, LayerState::Wanted);
                self.wanted.push_back((descriptor, false));
            }
        }
        let first = self.repositories.first();
        let threads = first.map_or(1, |repository| repository.client.config().parallel);
        let stop = self.stop;
        let fetched = each(&mut self, threads, stop, Job::run);
        for begun in &mut self.begun {
            if let Some(partial) = begun.partial.take() {
                self.lease.leave_partial(partial)?;
            }
        }
        fetched?;
        self.settle()?;
        Ok(self.bytes)
    }

    fn is_here(&self, layer: &Descriptor) -> Result<bool> {
        Ok(self.lease.has_blob(&layer.digest, layer.size)?)
    }

    fn tell(&self, layer: &Descriptor, state: LayerState) {
        self.sink.event(Event::Layer {
            digest: layer.digest,
            size: layer.size,
            state,
        });
    }

    /// Begins a layer, unless it is here or somebody else's now.
    fn begin(&mut self, descriptor: Descriptor, has_waited: bool) -> Result<Option<Job>> {
        let Some(partial) = self.lease.partial(&descriptor.digest)? else {
            if !has_waited {
                self.tell(&descriptor, LayerState::Waiting);
            }
            self.wanted.push_back((descriptor, true));
            return Ok(None);
        };
        // Who had the lock before may have published it.
        if self.is_here(&descriptor)? {
            self.lease.forget_partial(partial)?;
            self.tell(&descriptor, LayerState::Exists);
            return Ok(None);
        }
        if partial.length() > 0 {
            let from = partial.length();
            self.tell(&descriptor, LayerState::Resumed { from });
        }
        let done = Arc::new(AtomicU64::new(0));
        let job = Job {
            repositories: self.repositories.to_vec(),
            digest: descriptor.digest,
            size: descriptor.size,
            path: partial.path().to_path_buf(),
            done: Arc::clone(&done),
            stop: self.stop.clone(),
            writer: self.writers.clone(),
            held: partial.held(),
        };
        self.begun.push(Begun {
            descriptor,
            partial: Some(partial),
            done,
            told: 0,
        });
        Ok(Some(job))
    }

    fn arrived(&mut self, place: usize) -> Result<()> {
        let Some(begun) = self.begun.get_mut(place) else {
            return Ok(());
        };
        let Some(partial) = begun.partial.take() else {
            return Ok(());
        };
        let layer = begun.descriptor.clone();
        let (size, media_type) = (layer.size, &layer.media_type);
        self.lease
            .publish_partial(partial, size, BlobKind::Layer, media_type)?;
        self.bytes += size;
        self.tell(&layer, LayerState::Pulled);
        Ok(())
    }

    /// Waits until all that came is on the disk, and records it.
    fn settle(&mut self) -> Result<()> {
        let mut settled = Vec::new();
        while settled.len() < self.begun.len() {
            self.stop.check()?;
            match self.written.recv_timeout(LOOK) {
                Ok(written) => {
                    let directory = self.lease.store().layout().blobs().directory();
                    settled.push(written.at("fdatasync", directory)?);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Not while this has a sender itself.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(self.lease.settle(&settled)?)
    }
}

impl Moves for Layers<'_> {
    type Job = Job;
    type Done = Result<()>;

    fn next(&mut self) -> Result<Next<Job>> {
        // Each once: those that are somebody else's stand at the end then.
        for _ in 0..self.wanted.len() {
            let Some((descriptor, has_waited)) = self.wanted.pop_front() else {
                break;
            };
            if let Some(job) = self.begin(descriptor, has_waited)? {
                return Ok(Next::Job(job));
            }
        }
        Ok(match self.wanted.is_empty() {
            true => Next::End,
            false => Next::Later,
        })
    }

    fn news(&mut self, news: News<Result<()>>) -> Result<()> {
        match news {
            News::Tick => {
                for begun in &mut self.begun {
                    let done = begun.done.load(Ordering::Relaxed);
                    if done != begun.told {
                        begun.told = done;
                        let (digest, size) = (begun.descriptor.digest, begun.descriptor.size);
                        self.sink.event(Event::Moved { digest, done, size });
                    }
                }
                Ok(())
            }
            News::Done(place, Ok(())) => self.arrived(place),
            News::Done(_, Err(error)) => Err(error),
        }
    }
}

impl Job {
    /// Fetches a layer from the first registry that gives it.
    fn run(self) -> Result<()> {
        let _held = self.held;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut outcome = Err(Error::Interrupted);
        let mut refusals = Vec::new();
        for repository in &self.repositories {
            let mut download = Download {
                repository,
                digest: self.digest,
                size: self.size,
                file: options.open(&self.path).at("create", &self.path)?,
                path: self.path.clone(),
                done: &self.done,
                stop: &self.stop,
            };
            match download.run() {
                Ok(()) => {
                    let (file, digest, writer) = (download.file, self.digest, self.writer);
                    std::thread::spawn(move || writer.send(Settled::by_sync(digest, &file)));
                    return Ok(());
                }
                Err(error @ (Error::Interrupted | Error::Io(_))) => return Err(error),
                Err(error) => {
                    refusals.push(error.to_string());
                    outcome = Err(error);
                }
            }
        }
        match refusals.len() {
            0 | 1 => outcome,
            _ => Err(Error::Nowhere {
                name: self.digest.to_string(),
                tried: refusals,
            }),
        }
    }
}

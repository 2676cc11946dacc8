//! Commits: what a step did becomes a layer and an intermediate image.
//!
//! Each stage has one committer, on a thread of its own: while it packs what one RUN wrote, the
//! next RUN already stands on the same directory. Commits of a stage are done in order, since each
//! image names its parent.
//!
//! ```text
//! stage thread:   RUN a ──────▶ RUN b ──────▶ RUN c
//!                   └ upper a    └ upper b
//! committer:            walk, tar, hash, compress, hash, write ─▶ image a ─▶ …
//! ```

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

use chrono::{DateTime, SecondsFormat};

use super::copy::{self, Emission, Selection};
use super::error::StepError;
use super::event::Event;
use super::interrupt::Interruptible;
use super::key;
use super::options::Options;
use super::plan::{FilesOperation, Step};
use super::users::Accounts;
use crate::fsutil;
use crate::layer::{self, DiffOptions, Mtime, Packed};
use crate::oci::config::{History, ImageConfig};
use crate::oci::document;
use crate::oci::{Digest, Platform, chain_id};
use crate::store::{Image, LayerBlob, Lease, Lower, NewImage, StepLock};

/// What a step did.
pub enum Work<'g> {
    /// It changed the configuration.
    Metadata,
    /// It wrote into an upper directory that lies on `lowers`.
    Upper {
        /// The directory, which is a lower of the next steps by now.
        path: PathBuf,
        /// What it lies on, the lowest first.
        lowers: Vec<Lower>,
        /// The digest of what its mounts showed.
        content: Option<Digest>,
    },
    /// It copies files.
    Files {
        /// What to copy.
        operation: &'g FilesOperation,
        /// The files.
        selection: Selection,
        /// The digest of their content.
        content: Digest,
        /// The merged root of the image, where there is anything in it.
        view: Option<OwnedFd>,
    },
}

/// A step to commit.
pub struct Job<'g> {
    /// The step.
    pub step: &'g Step,
    /// What it did.
    pub work: Work<'g>,
    /// The image that it stands on, where that is known; else that of the job before.
    pub parent: Option<Option<Image>>,
    /// The images whose files it used, by manifest.
    pub stages: Vec<Digest>,
    /// Where the image goes.
    pub done: Sender<Committed>,
    /// The right to do it, held until the image is in the cache.
    pub lock: Option<StepLock>,
}

/// Commits the steps of one stage.
pub struct Committer<'a> {
    /// The lease of the build.
    pub lease: &'a Lease<'a>,
    /// The build's options.
    pub options: &'a Options,
    /// The image that the next step's image has as its parent.
    pub parent: Option<Image>,
    /// The platform of a stage that stands on nothing.
    pub platform: Platform,
    /// Whether somebody asked for the end: no layer is written any further.
    pub stopped: &'a (dyn Fn() -> bool + Sync),
    /// Takes events.
    pub tell: &'a (dyn Fn(Event) + Sync),
    /// Hears the key of each step that is in the cache now.
    pub made: &'a (dyn Fn(Digest) + Sync),
}

/// What a job comes to: the step's cache key, and its image.
pub type Committed = Result<(Digest, Image), StepError>;

/// A channel for one job's image.
pub fn reply() -> (Sender<Committed>, Receiver<Committed>) {
    channel()
}

impl Committer<'_> {
    /// Commits jobs as they come, until there are no more or one fails. After a failure every
    /// later one fails too.
    pub fn serve(mut self, jobs: Receiver<Job>) {
        let mut failed = false;
        for mut job in jobs {
            let result = if failed {
                Err(StepError::Needed)
            } else {
                self.commit(&job)
            };
            match &result {
                Ok((key, _)) => (self.made)(*key),
                Err(_) => failed = true,
            }
            job.lock = None;
            // The stage that asked may have given up.
            let _ = job.done.send(result);
        }
    }

    fn commit(&mut self, job: &Job) -> Committed {
        if let Some(parent) = &job.parent {
            self.parent.clone_from(parent);
        }
        let layer = match &job.work {
            Work::Metadata => None,
            Work::Upper { path, lowers, .. } => self.upper(job.step, path, lowers)?,
            Work::Files {
                operation,
                selection,
                view,
                ..
            } => self.files(job.step, operation, selection, view.as_ref())?,
        };
        let content = match &job.work {
            Work::Files { content, .. } => Some(*content),
            Work::Upper { content, .. } => *content,
            Work::Metadata => None,
        };
        let key = key::cache_key(
            self.parent.as_ref(),
            &self.platform,
            self.options.timestamp,
            &job.step.identity,
            content.as_ref(),
        );
        let image = self.publish(job, layer, key)?;
        (self.tell)(Event::StepFinished {
            step: job.step.info.number,
            image: Some(image.id()),
        });
        self.parent = Some(image.clone());
        Ok((key, image))
    }

    /// The layer of what a process wrote; `None` if it changed nothing.
    fn upper(
        &self,
        step: &Step,
        path: &std::path::Path,
        lowers: &[Lower],
    ) -> Result<Option<LayerBlob>, StepError> {
        let view = if lowers.is_empty() {
            None
        } else {
            Some(self.lease.view(lowers)?)
        };
        let upper = fsutil::open_dir(path)?;
        let options = DiffOptions {
            xattrs: self.lease.store().overlay_xattrs(),
            timestamp: self.options.timestamp,
        };
        let layer = self.pack(step, |sink| {
            Ok(layer::diff::overlay(
                upper.as_fd(),
                view.as_ref().map(AsFd::as_fd),
                &options,
                sink,
            )?)
        })?;
        if let Some(layer) = &layer {
            let below = self.parent.as_ref().and_then(Image::chain_id);
            let chain = chain_id(below.as_ref(), &layer.diff_id);
            self.lease.record_snapshot(&chain, path.to_path_buf())?;
        }
        Ok(layer)
    }

    fn files(
        &self,
        step: &Step,
        operation: &FilesOperation,
        selection: &Selection,
        view: Option<&OwnedFd>,
    ) -> Result<Option<LayerBlob>, StepError> {
        let owner = match (&operation.owner, view) {
            (None, _) => None,
            // WORKDIR is root's where the image does not know the user: the RUN that comes to need
            // it says so, and an image without one is what docker makes of it.
            (Some(owner), view) if operation.directory_only => {
                let accounts = view.map(Accounts::read).transpose()?.unwrap_or_default();
                Some(accounts.owner(owner).unwrap_or((0, 0)))
            }
            (Some(owner), Some(view)) => Some(Accounts::read(view)?.owner(owner)?),
            (Some(owner), None) => Some(Accounts::default().owner(owner)?),
        };
        let emission = Emission {
            view: view.map(AsFd::as_fd),
            owner,
            now: self.time(),
            latest: self.options.timestamp,
        };
        self.pack(step, |sink| {
            copy::emit(operation, selection, emission, sink)
        })
    }

    /// Packs entries into a layer of the store; `None` if there were none.
    fn pack(
        &self,
        step: &Step,
        source: impl FnOnce(&mut dyn layer::EntrySink) -> Result<(), StepError>,
    ) -> Result<Option<LayerBlob>, StepError> {
        let ingest = self.lease.ingest()?;
        let mut failure = None;
        let packed = layer::pack(self.options.compression, ingest, |writer| {
            let mut sink = Interruptible::new(writer, self.stopped);
            source(&mut sink).map_err(|error| match error {
                StepError::Layer(error) => error,
                // The pipeline carries a layer's errors; another one waits beside it.
                other => {
                    failure = Some(other);
                    layer::Error::Read(std::io::Error::other("stopped"))
                }
            })
        });
        let (packed, ingest) = match (packed, failure) {
            (_, Some(failure)) => return Err(failure),
            (Err(_), None) if (self.stopped)() => return Err(StepError::Interrupted),
            (packed, None) => packed?,
        };
        if packed.is_empty() {
            return Ok(None);
        }
        let layer = self.layer_blob(&packed);
        self.lease
            .publish_layer(ingest, &layer, Some(&step.created_by))?;
        Ok(Some(layer))
    }

    fn layer_blob(&self, packed: &Packed) -> LayerBlob {
        LayerBlob {
            media_type: self.options.compression.media_type().to_owned(),
            digest: packed.digest,
            size: packed.size,
            diff_id: packed.diff_id,
            unpacked: Some(packed.unpacked_size),
        }
    }

    fn publish(
        &self,
        job: &Job,
        layer: Option<LayerBlob>,
        key: Digest,
    ) -> Result<Image, StepError> {
        let mut config = match &self.parent {
            Some(parent) => parent.config.clone(),
            None => ImageConfig::scratch(&self.platform),
        };
        let mut layers = self.parent.as_ref().map_or_else(Vec::new, layers_of);
        let created = self.created();
        config.created = Some(created.clone());
        config.author = job.step.config.author.clone();
        config.config = job.step.config.run.clone();
        config.history.push(History {
            created: Some(created),
            created_by: Some(job.step.created_by.clone()),
            comment: Some("rstore".to_owned()),
            empty_layer: layer.is_none(),
            ..History::default()
        });
        if let Some(layer) = layer {
            config.rootfs.diff_ids.push(layer.diff_id);
            layers.push(layer);
        }
        let new = NewImage {
            config: &config,
            layers: &layers,
            annotations: self.annotations(job),
            cache_key: Some(key),
        };
        Ok(self.lease.publish_image(&new)?)
    }

    fn annotations(&self, job: &Job) -> BTreeMap<String, String> {
        let mut annotations = BTreeMap::new();
        if let Some(parent) = &self.parent {
            annotations.insert(document::PARENT.to_owned(), parent.digest.to_string());
        }
        annotations.insert(document::STEP.to_owned(), job.step.info.text.clone());
        if !job.stages.is_empty() {
            let stages: Vec<String> = job.stages.iter().map(Digest::to_string).collect();
            annotations.insert(document::STAGES.to_owned(), stages.join(","));
        }
        annotations
    }

    fn time(&self) -> Mtime {
        let now = self.lease.store().now() / 1000;
        Mtime::from_seconds(self.options.timestamp.map_or(now, |limit| limit.min(now)))
    }

    fn created(&self) -> String {
        let millis = self
            .options
            .timestamp
            .map_or_else(|| self.lease.store().now(), |s| s.saturating_mul(1000));
        let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
        time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
    }
}

/// The layers of an image as those of one that is made on it.
pub(super) fn layers_of(image: &Image) -> Vec<LayerBlob> {
    image
        .manifest
        .layers
        .iter()
        .zip(&image.config.rootfs.diff_ids)
        .map(|(layer, diff_id)| LayerBlob {
            media_type: layer.media_type.clone(),
            digest: layer.digest,
            size: layer.size,
            diff_id: *diff_id,
            unpacked: None,
        })
        .collect()
}

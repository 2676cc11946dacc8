//! What a step's mounts show, and the cache mounts that it needs.

use serde_json::json;

use super::{StageThread, lock};
use crate::build::copy::Selection;
use crate::build::error::StepError;
use crate::build::event::Event;
use crate::build::key::selection_key;
use crate::build::lower::mounts::shown_path;
use crate::build::mounts::{Mounted, Shown, Taken};
use crate::build::plan::{CacheOperation, FilesOperation, MountOperation, RunOperation};
use crate::dockerfile::Sharing;
use crate::dockerfile::ignore::IgnorePatterns;
use crate::oci::Digest;
use crate::oci::digest::Hasher;
use crate::store::{CacheMountRequest, CacheSharing, Image};

/// After how many looks a step that waits for a cache mount says so: some seconds.
const PATIENCE: u32 = 60;

/// What a step's mounts come to, for its cache key and its image.
#[derive(Default)]
pub(super) struct Inputs {
    /// The content of all that is shown; `None` where nothing is.
    pub content: Option<Digest>,
    /// The images that are shown, by manifest.
    pub stages: Vec<Digest>,
}

/// The key under which the content of a part of an image is remembered.
fn part_key(image: &Image, path: &str) -> Digest {
    selection_key(image, &json!({ "mount": path }))
}

impl<'a> StageThread<'_, 'a, '_> {
    /// Looks at what the mounts of a step show.
    pub(super) fn mounted(
        &self,
        operation: &RunOperation,
    ) -> Result<(Mounted<'a>, Inputs), StepError> {
        let mut mounted = Mounted::default();
        let mut inputs = Inputs::default();
        let mut hasher = Hasher::new();
        for mount in &operation.mounts {
            let files = match mount {
                MountOperation::Bind { files, .. } => Some(files),
                MountOperation::Cache(cache) => cache.from.as_ref(),
                _ => None,
            };
            let shown = match files {
                Some(files) => Some(self.shown(files, &mut inputs.stages)?),
                None => None,
            };
            let (shown, content) = shown.unzip();
            if let Some(content) = &content {
                hasher.update(content.as_bytes());
                inputs.content = Some(*content);
            }
            mounted.keys.push(match mount {
                MountOperation::Cache(cache) => Some(cache_key(cache, content.as_ref())),
                _ => None,
            });
            mounted.shown.push(shown);
        }
        inputs.content = inputs.content.map(|_| hasher.finish());
        Ok((mounted, inputs))
    }

    /// What one mount shows, and the digest of that.
    fn shown(
        &self,
        files: &FilesOperation,
        stages: &mut Vec<Digest>,
    ) -> Result<(Shown<'a>, Digest), StepError> {
        let path = shown_path(files);
        let (mut image, _) = self.source(files)?;
        let mut known = None;
        if path != "/" {
            if let Some(image) = &image {
                known = self.known_selection(&part_key(image, path))?;
            }
            if known.is_none() {
                // Only what is looked at has to be here.
                image = self.whole_source(files, image)?;
            }
        }
        if let Some(image) = image {
            if !stages.contains(&image.digest) {
                stages.push(image.digest);
            }
            // All of an image is what its ID says; a part of it is looked at once.
            let content = match path {
                "/" => image.id(),
                _ => self.part(files, &image, known)?,
            };
            if image.manifest.layers.is_empty() {
                return Ok((Shown::Nothing, content));
            }
            let (image, path) = (Box::new(image), path.to_owned());
            return Ok((Shown::Image { image, path }, content));
        }
        if path == "/" && self.tree(files, None)?.is_none() {
            return Ok((Shown::Nothing, Digest::of(b"")));
        }
        let (tree, selection) = self.selection(files, None)?;
        let content = selection.digest(self.solver.around.lease.store())?;
        Ok((Shown::Directory { tree, selection }, content))
    }

    /// The digest of the part of an image that a mount shows, looked at unless it is known.
    fn part(
        &self,
        files: &FilesOperation,
        image: &Image,
        known: Option<Digest>,
    ) -> Result<Digest, StepError> {
        let key = part_key(image, shown_path(files));
        let content = match known {
            Some(content) => content,
            None => {
                let selection = self.selection(files, Some(image))?.1;
                let lease = self.solver.around.lease;
                let content = selection.digest(lease.store())?;
                lease.remember_selection(&key, &content)?;
                content
            }
        };
        lock(&self.solver.used).selections.insert(key, content);
        Ok(content)
    }

    /// What is at the path of a mount, and in it.
    fn selection(
        &self,
        files: &FilesOperation,
        image: Option<&Image>,
    ) -> Result<(crate::build::tree::Tree<'a>, Selection), StepError> {
        let path = shown_path(files);
        let inside = path.trim_start_matches('/');
        let missing = |tree: &str, hint| StepError::NoSource {
            source_path: path.to_owned(),
            tree: tree.to_owned(),
            hint,
        };
        let tree = self
            .tree(files, image)?
            .ok_or_else(|| missing("an empty image", None))?;
        let found = tree.open(inside)?;
        let source = found.ok_or_else(|| missing(&tree.label, tree.why_not(inside)))?;
        let files = tree.walk(&source, &IgnorePatterns::default())?;
        let selection = Selection::of(source, files, tree.keeps_owners);
        Ok((tree, selection))
    }

    pub(super) fn known_selection(&self, key: &Digest) -> Result<Option<Digest>, StepError> {
        let catalog = self.solver.around.lease.store().catalog();
        Ok(catalog
            .read(|tx| tx.selection(key))
            .map_err(crate::store::Error::from)?)
    }

    /// Takes the cache mounts of a step, waiting for those that others have.
    pub(super) fn take_caches(
        &self,
        operation: &RunOperation,
        mounted: &mut Mounted<'a>,
    ) -> Result<(), StepError> {
        let mut requests: Vec<CacheMountRequest> = Vec::new();
        for (mount, key) in operation.mounts.iter().zip(&mounted.keys) {
            let (MountOperation::Cache(cache), Some(key)) = (mount, key) else {
                continue;
            };
            let sharing = match cache.sharing {
                Sharing::Shared => CacheSharing::Shared,
                Sharing::Private => CacheSharing::Private,
                Sharing::Locked => CacheSharing::Locked,
            };
            // A step that has one at two places has it once, as strictly as it asks anywhere.
            match requests.iter_mut().find(|request| request.key == *key) {
                Some(request) => request.sharing = request.sharing.max(sharing),
                None => requests.push(CacheMountRequest {
                    key: *key,
                    name: cache.id.clone(),
                    sharing,
                }),
            }
        }
        requests.sort_unstable();
        let around = &self.solver.around;
        for request in requests {
            let mut looks = 0;
            let mut go_on = || {
                looks += 1;
                if looks == PATIENCE {
                    let message = format!(
                        "waiting for cache mount {:?}, which is in use",
                        request.name
                    );
                    self.solver.tell(Event::Warning { message });
                }
                !around.cancel.is_cancelled() && lock(&self.solver.failure).is_none()
            };
            let Some(mount) = around.lease.cache_mount(&request, &mut go_on)? else {
                return Err(StepError::Interrupted);
            };
            let key = request.key;
            mounted.taken.push(Taken { key, mount });
        }
        Ok(())
    }
}

/// What makes two cache mounts the same one, as in BuildKit: the ID, what it began with, and the
/// owner and mode that were asked for.
fn cache_key(cache: &CacheOperation, begins_with: Option<&Digest>) -> Digest {
    let text = json!({
        "id": cache.id,
        "from": begins_with,
        "uid": cache.owner.uid,
        "gid": cache.owner.gid,
        "mode": cache.owner.mode,
    });
    Digest::of(text.to_string().as_bytes())
}

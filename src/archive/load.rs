//! Which kind of archive it is, and publishing what was verified.
//!
//! An archive with `index.json` and `oci-layout` is taken as an OCI layout, also where docker put
//! its manifest.json beside them: the layout has the digests. Then manifest.json only names.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use hashbrown::HashMap;

use super::directory::Directory;
use super::docker::{self, Listed};
use super::error::{Error, Result};
use super::members::Members;
use super::names;
use super::oci;
use super::spool::{Spooled, SpooledLayer};
use crate::catalog::BlobKind;
use crate::catalog::journal::Particulars;
use crate::fsutil::IoContext;
use crate::layer::Compression;
use crate::layout::Entry;
use crate::oci::{Digest, Platform};
use crate::store::Lease;

/// What the caller wants of a load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// A name for the image that the archive leaves without one, or knows by a tag only.
    pub name: Option<String>,
    /// How the layers of a docker-archive are stored; those of an OCI layout stay as they are.
    pub compression: Compression,
}

/// Something that was loaded: an image, an index of several, or an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its names in the store; none: it is in the index without one.
    pub names: Vec<String>,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// The images in it, one for each platform; none: it is an artifact, such as a signature.
    pub images: Vec<LoadedImage>,
    /// What the archive calls it, where that is no image name.
    pub called: Option<String>,
    /// The platforms that its index has and the archive hasn't: the index was left out then.
    pub absent: Vec<String>,
}

/// One image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its ID: the digest of its config.
    pub id: Digest,
    /// What it runs on.
    pub platform: Platform,
}

impl LoadedImage {
    /// Whether it is for running: BuildKit keeps attestations as images for `unknown/unknown`.
    pub fn is_runnable(&self) -> bool {
        self.platform.os != "unknown"
    }
}

/// What an archive names, before it is published.
#[derive(Debug)]
pub(super) struct Root {
    pub entry: Entry,
    pub names: Vec<String>,
    /// Tags of a repository that the archive doesn't know.
    pub tags: Vec<String>,
    pub called: Option<String>,
    pub images: Vec<LoadedImage>,
    pub absent: Vec<String>,
}

impl Root {
    pub fn new(entry: Entry) -> Root {
        Root {
            entry,
            names: Vec::new(),
            tags: Vec::new(),
            called: None,
            images: Vec::new(),
            absent: Vec::new(),
        }
    }
}

/// A verified blob that waits for its publication.
#[derive(Debug)]
pub(super) struct Item {
    pub spooled: Spooled,
    pub kind: BlobKind,
    pub media_type: String,
}

/// All of an archive that is to be published, verified.
#[derive(Debug, Default)]
pub(super) struct Verified {
    pub layers: Vec<SpooledLayer>,
    /// In the order of publication: what is pointed at before what points.
    pub blobs: Vec<Item>,
    pub roots: Vec<Root>,
}

/// Loads the archive or the layout directory at `path`.
pub fn load_path(lease: &Lease, path: &Path, options: &LoadOptions) -> Result<Vec<Loaded>> {
    let file = File::open(path).at("open", path)?;
    if !file.metadata().at("stat", path)?.is_dir() {
        return load(lease, file, options);
    }
    let mut directory = Directory::new(path, lease);
    let (layout, index) = directory.documents()?;
    let verified = oci::collect(&layout, &index, &mut directory)?;
    publish(lease, verified, &path.display().to_string(), options)
}

/// Loads the archive `source`, which may be a pipe: docker-archive or oci-archive, plain or
/// compressed.
pub fn load(lease: &Lease, source: impl Read + Send, options: &LoadOptions) -> Result<Vec<Loaded>> {
    let verified = read(lease, source, options)?;
    publish(lease, verified, "the archive", options)
}

/// Reads and verifies all of an archive.
pub(super) fn read(
    lease: &Lease,
    source: impl Read + Send,
    options: &LoadOptions,
) -> Result<Verified> {
    let mut members = Members::read(lease, source, options.compression)?;
    let listed = match &members.manifest {
        Some(bytes) => Some(docker::listed(bytes)?),
        None => None,
    };
    let verified = match (&members.layout, &members.index, &listed) {
        (Some(layout), Some(index), _) => {
            let mut verified = oci::collect(layout, index, &mut members.blobs)?;
            add_names(&mut verified, listed.as_deref().unwrap_or_default())?;
            verified
        }
        (_, _, Some(listed)) => docker::collect(lease, members, listed, options.compression)?,
        _ => {
            return Err(Error::NoImages {
                what: "the archive".to_owned(),
                why: members.why_none(),
            });
        }
    };
    Ok(verified)
}

/// Gives the names in manifest.json to the images that it means.
fn add_names(verified: &mut Verified, listed: &[Listed]) -> Result<()> {
    for image in listed {
        let Some(id) = image.id() else { continue };
        for name in image.names()? {
            let mut roots = verified.roots.iter_mut();
            if roots.any(|root| root.names.contains(&name)) {
                continue;
            }
            let means = |root: &&mut Root| root.images.iter().any(|image| image.id == id);
            if let Some(root) = verified.roots.iter_mut().find(means) {
                root.names.push(name);
            }
        }
    }
    Ok(())
}

/// Decides about names, then publishes, records and tags all of it.
fn publish(
    lease: &Lease,
    mut verified: Verified,
    what: &str,
    options: &LoadOptions,
) -> Result<Vec<Loaded>> {
    if verified.roots.is_empty() {
        return Err(Error::NoImages {
            what: what.to_owned(),
            why: "its index is empty".to_owned(),
        });
    }
    give_name(&mut verified.roots, options.name.as_deref())?;
    check_names(&verified.roots)?;
    let roots = publish_blobs(lease, verified)?;
    lease.enter(&entries(&roots))?;
    for root in &roots {
        let digest = root.entry.descriptor.digest;
        let subject = root
            .names
            .first()
            .cloned()
            .unwrap_or_else(|| digest.short());
        let more = Particulars {
            digest: Some(digest),
            ..Particulars::default()
        };
        lease.note(
            "load",
            &subject,
            format!("{} from {what}", digest.short()),
            more,
        )?;
    }
    Ok(roots.into_iter().map(loaded).collect())
}

/// Publishes one root's blobs for the lease alone: the index does not name it.
pub(super) fn take_in(lease: &Lease, verified: Verified) -> Result<Digest> {
    Ok(take_in_root(lease, verified)?.entry.descriptor.digest)
}

/// The same, with what the archive calls it.
pub(super) fn take_in_root(lease: &Lease, verified: Verified) -> Result<Root> {
    let roots = publish_blobs(lease, verified)?;
    roots.into_iter().next().ok_or_else(|| Error::NoImages {
        what: "the layout".to_owned(),
        why: "its index is empty".to_owned(),
    })
}

fn publish_blobs(lease: &Lease, verified: Verified) -> Result<Vec<Root>> {
    for SpooledLayer { ingest, layer } in verified.layers {
        lease.publish_layer(ingest, &layer, None)?;
    }
    for item in verified.blobs {
        let Spooled {
            ingest,
            digest,
            size,
        } = item.spooled;
        lease.publish_blob(ingest, &digest, size, item.kind, &item.media_type)?;
    }
    for root in &verified.roots {
        lease.take_in(&root.entry.descriptor)?;
    }
    Ok(verified.roots)
}

/// Gives the caller's name to what has none.
fn give_name(roots: &mut [Root], name: Option<&str>) -> Result<()> {
    let Some(name) = name else { return Ok(()) };
    for root in roots.iter_mut() {
        for tag in std::mem::take(&mut root.tags) {
            let name = names::with_tag(name, &tag)?;
            if !root.names.contains(&name) {
                root.names.push(name);
            }
        }
    }
    let unnamed = |root: &&mut Root| {
        root.names.is_empty() && root.images.iter().any(LoadedImage::is_runnable)
    };
    let mut without: Vec<&mut Root> = roots.iter_mut().filter(unnamed).collect();
    match without.as_mut_slice() {
        [] => Ok(()),
        [one] => {
            one.names.push(crate::store::Store::tag_name(name)?);
            Ok(())
        }
        several => Err(Error::Unnamed {
            name: name.to_owned(),
            images: several
                .iter()
                .map(|root| root.entry.descriptor.digest.to_string())
                .collect(),
        }),
    }
}

/// A name is for one image.
fn check_names(roots: &[Root]) -> Result<()> {
    let mut owners: HashMap<&str, Digest> = HashMap::new();
    for root in roots {
        let digest = root.entry.descriptor.digest;
        for name in &root.names {
            if let Some(other) = owners.insert(name, digest).filter(|other| *other != digest) {
                return Err(Error::SameName {
                    name: name.clone(),
                    images: [other, digest],
                });
            }
        }
    }
    Ok(())
}

fn entries(roots: &[Root]) -> Vec<(Option<String>, Entry)> {
    let mut entries = Vec::new();
    for root in roots {
        if root.names.is_empty() {
            entries.push((None, root.entry.clone()));
        }
        for name in &root.names {
            entries.push((Some(name.clone()), root.entry.clone()));
        }
    }
    entries
}

fn loaded(root: Root) -> Loaded {
    Loaded {
        called: root.called.filter(|_| root.names.is_empty()),
        names: root.names,
        digest: root.entry.descriptor.digest,
        images: root.images,
        absent: root.absent,
    }
}

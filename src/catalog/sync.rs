//! Taking in what the layout says: after a lost catalog, and after other tools wrote.
//!
//! Two depths:
//!
//! * [`index`] notices a changed `index.json` by its `stat`, and reads the documents that it newly
//!   reaches. Every command does this: one `stat` where nothing changed.
//! * [`scan`] lists `blobs/sha256` (names only) and takes in files that no row knows, and forgets
//!   rows whose file is gone. Commands that speak of all blobs do this; it is skipped where the
//!   directory's mtime says that nothing was added or removed.
//!
//! A document that cannot be read is recorded with the reason, not skipped: whoever marks what
//! is alive must stop at it.

use crate::layout::Layout;
use crate::layout::blobs::{self, BlobStat};
use crate::layout::index::Signature;
use crate::layout::{Entry, Index};
use crate::lock::FileLock;
use crate::oci::document::{self, Document, INDEX_LIMIT, MANIFEST_LIMIT};
use crate::oci::{Digest, ImageConfig, media};

use super::blob::{BlobId, BlobKind, Known, NewBlob};
use super::image::ImageRow;
use super::tags::{IndexEntryRow, Named};
use super::{Catalog, Error, Millis, Result, WriteError, Writer};

const INDEX_SIGNATURE: &str = "index-signature";
const BLOBS_SIGNATURE: &str = "blobs-signature";
/// How many names in `blobs/` of that signature are no digests.
const BLOBS_STRAYS: &str = "blobs-strays";

/// A directory whose mtime is younger than this may still change within the same tick of the
/// file system's clock, and so its mtime proves nothing (as in git's "racy" index entries).
const RACY_NANOSECONDS: i64 = 2_000_000_000;

/// How many new files are taken in by one write transaction: some hundred milliseconds. Each
/// touches pages of the index of digests all over, and all that it touches is written.
const BATCH: usize = 10_000;

/// More new files than this are numbered by inode: a sweep unlinks in that order, and then forgets
/// rows that lie beside one another. Fewer are by digest, so that lists of them are the same
/// wherever the layout is.
const MANY: usize = if cfg!(test) { 40 } else { 10_000 };

/// How many one transaction takes in while the catalog is being made, when nobody can use it yet;
/// and how much of it is kept in memory meanwhile, so that most of the index of a million digests
/// is: KiB.
const FIRST_BATCH: usize = 100_000;
const FIRST_CACHE: i64 = 49_152;

/// What runs inside [`Catalog::write`] returns.
pub type Outcome<T> = std::result::Result<T, WriteError<Error>>;

fn caller(error: impl Into<crate::layout::Error>) -> WriteError<Error> {
    WriteError::Caller(Error::Layout(error.into()))
}

fn signature_text(s: &Signature) -> String {
    format!("{} {} {} {}", s.inode, s.size, s.modified, s.changed)
}

/// What a [`scan`] found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Files that no row knew.
    pub added: usize,
    /// Rows whose file was gone.
    pub vanished: usize,
    /// Names below `blobs/sha256` that are not digests.
    pub strays: usize,
}

/// `meta` key: the catalog has taken in the whole layout once.
const BUILT: &str = "built";

/// Whether the catalog has taken in the whole layout once: if not, it cannot tell what is missing.
pub fn is_built(catalog: &Catalog) -> Result<bool> {
    Ok(catalog.read(|tx| tx.meta(BUILT))?.is_some())
}

/// Takes in the whole layout, for a catalog that knows nothing. Returns how many blobs there are.
pub fn build(catalog: &Catalog, layout: &Layout, now: Millis) -> Result<usize> {
    catalog.with_cache(FIRST_CACHE, || {
        index(catalog, layout, now)?;
        let found = scan_by(catalog, layout, now, FIRST_BATCH)?;
        catalog.write(|tx| Ok::<_, WriteError<Error>>(tx.set_meta(BUILT, "1")?))?;
        if found.added > BATCH {
            catalog.checkpoint()?;
        }
        // This reads the whole table, which is not to stay in memory either.
        catalog.read(|tx| tx.count_present())
    })
}

/// Takes in `index.json` if it changed. Returns whether it did.
pub fn index(catalog: &Catalog, layout: &Layout, now: Millis) -> Result<bool> {
    let signature = signature_text(&layout.index_signature()?);
    if catalog.read(|tx| tx.meta(INDEX_SIGNATURE))?.as_deref() == Some(&signature) {
        return Ok(false);
    }
    catalog.write(|tx| refresh_index(tx, layout, now))
}

/// Takes in `index.json` if it changed, within the caller's transaction. Returns whether it did.
pub fn refresh_index(tx: &Writer, layout: &Layout, now: Millis) -> Outcome<bool> {
    let signature = signature_text(&layout.index_signature().map_err(caller)?);
    if tx.meta(INDEX_SIGNATURE)?.as_deref() == Some(&signature) {
        return Ok(false);
    }
    take_index(tx, layout, now)?;
    Ok(true)
}

/// Tells one state of `index.json` from the next, as the catalog has taken it in.
pub fn index_signature(tx: &super::Reader) -> super::SqlResult<Option<String>> {
    tx.meta(INDEX_SIGNATURE)
}

/// Takes in `index.json` as it is, within the caller's transaction.
pub fn take_index(tx: &Writer, layout: &Layout, now: Millis) -> Outcome<()> {
    // The signature is taken first: a change in between is then noticed the next time.
    let signature = signature_text(&layout.index_signature().map_err(caller)?);
    let index = layout.index().map_err(caller)?;
    let mut rows = Vec::with_capacity(index.entries().len());
    for entry in index.entries() {
        let blob = take_document(tx, layout, &entry.descriptor, now)?;
        rows.push(IndexEntryRow {
            blob,
            name: entry.name().map(str::to_owned),
        });
    }
    tx.replace_index_entries(&rows)?;
    tx.set_meta(INDEX_SIGNATURE, &signature)?;
    Ok(())
}

/// Whether the mirror of `index.json` claims to be of the file as it is now.
pub fn index_is_current(catalog: &Catalog, layout: &Layout) -> Result<bool> {
    let signature = signature_text(&layout.index_signature()?);
    Ok(catalog.read(|tx| tx.meta(INDEX_SIGNATURE))?.as_deref() == Some(&signature))
}

/// Takes in a blob that the catalog has as absent, or not at all, if its file is there after all:
/// another tool, or somebody's hand, has brought it back. Returns whether it is there.
pub fn meet(catalog: &Catalog, layout: &Layout, digest: &Digest, now: Millis) -> Result<bool> {
    if layout
        .blobs()
        .stat(digest)
        .map_err(crate::layout::Error::from)?
        .is_none()
    {
        return Ok(false);
    }
    catalog.write(|tx| take_file(tx, layout, digest, now))?;
    let row = catalog.read(|tx| tx.blob(digest))?;
    Ok(row.is_some_and(|row| row.present && row.condemned.is_none()))
}

/// Reads a document again and puts right what the catalog says of it. A document that cannot be
/// read is recorded as that.
pub fn reread(tx: &Writer, layout: &Layout, digest: &Digest, now: Millis) -> Outcome<()> {
    let Some(row) = tx.blob(digest)? else {
        return Ok(());
    };
    let media_type = match row.kind {
        BlobKind::Index => media::INDEX,
        _ => "",
    };
    let bytes = match layout.blobs().read(digest, limit_of(media_type)) {
        Ok(bytes) => bytes,
        Err(blobs::Error::Missing { .. }) => return Ok(()),
        Err(error @ blobs::Error::Io(_)) => return Err(caller(error)),
        Err(error) => return Ok(tx.set_damage(row.id, Some(&error.to_string()))?),
    };
    match document::parse(&bytes, "") {
        Ok(document) => {
            record_document(tx, layout, row.id, &document, bytes.len() as u64, now).map(drop)
        }
        Err(error) => Ok(tx.set_damage(row.id, Some(&error.to_string()))?),
    }
}

/// Takes in the document that a descriptor leads to, and all that it reaches. Documents that are
/// known already are not read again.
pub fn take_document(
    tx: &Writer,
    layout: &Layout,
    root: &document::Descriptor,
    now: Millis,
) -> Outcome<BlobId> {
    let known = refer(tx, root, kind_of(&root.media_type), now)?;
    let mut pending = vec![root.clone()];
    while let Some(descriptor) = pending.pop() {
        if let Some(next) = take_one(tx, layout, &descriptor, now)? {
            pending.extend(next);
        }
    }
    Ok(known.id)
}

/// What a descriptor's media type says that a blob is.
pub fn kind_of(media_type: &str) -> BlobKind {
    if media::is_index(media_type) {
        BlobKind::Index
    } else if media::is_manifest(media_type) {
        BlobKind::Manifest
    } else if media::is_config(media_type) {
        BlobKind::Config
    } else if media::is_layer(media_type) {
        BlobKind::Layer
    } else {
        BlobKind::Unknown
    }
}

fn refer(
    tx: &Writer,
    descriptor: &document::Descriptor,
    kind: BlobKind,
    now: Millis,
) -> Outcome<Known> {
    let known = tx.known(&descriptor.digest)?;
    match known {
        Some(known) if known.is_described() => Ok(known),
        known => describe(tx, descriptor, known, kind, now),
    }
}

/// Records what a descriptor says of a blob of which so much is known.
fn describe(
    tx: &Writer,
    descriptor: &document::Descriptor,
    known: Option<Known>,
    kind: BlobKind,
    now: Millis,
) -> Outcome<Known> {
    let (digest, media_type) = (&descriptor.digest, descriptor.media_type.as_str());
    let id = tx.describe_blob(digest, descriptor.size, kind, media_type, now)?;
    let known = known.unwrap_or(Known {
        id,
        kind: BlobKind::Unknown,
        present: false,
        condemned: false,
        damaged: false,
        typed: false,
    });
    Ok(Known {
        kind: match known.kind {
            BlobKind::Unknown => kind,
            kind => kind,
        },
        typed: known.typed || !media_type.is_empty(),
        ..known
    })
}

/// Whether there is nothing more to learn of what a descriptor leads to.
fn is_settled(known: &Known, descriptor: &document::Descriptor) -> bool {
    known.is_here()
        && known.kind != BlobKind::Unknown
        && !known.damaged
        && !is_document(&descriptor.media_type)
}

/// Records one file and, where it is a document, reads it. Returns the documents it points at
/// that still want reading; `None` where it was known.
fn take_one(
    tx: &Writer,
    layout: &Layout,
    descriptor: &document::Descriptor,
    now: Millis,
) -> Outcome<Option<Vec<document::Descriptor>>> {
    let known = refer(tx, descriptor, kind_of(&descriptor.media_type), now)?;
    let id = known.id;
    let understood = known.kind != BlobKind::Unknown && !known.damaged;
    if is_settled(&known, descriptor)
        || known.is_here() && understood && !tx.edges_from(id)?.is_empty()
    {
        return Ok(None);
    }
    let stat = layout.blobs().stat(&descriptor.digest).map_err(caller)?;
    let Some(stat) = stat else {
        tx.set_absent(id)?;
        return Ok(Some(Vec::new()));
    };
    if !known.is_here() {
        put_found(
            tx,
            &descriptor.digest,
            stat,
            kind_of(&descriptor.media_type),
            &descriptor.media_type,
            now,
        )?;
    }
    if descriptor_is_leaf(descriptor, stat) {
        return Ok(Some(Vec::new()));
    }
    read_document(
        tx,
        layout,
        id,
        &descriptor.digest,
        &descriptor.media_type,
        now,
    )
    .map(Some)
}

fn is_document(media_type: &str) -> bool {
    media::is_index(media_type) || media::is_manifest(media_type)
}

/// Layers and configs point at nothing; a large file of an unknown type is no document either.
fn descriptor_is_leaf(descriptor: &document::Descriptor, stat: BlobStat) -> bool {
    media::is_layer(&descriptor.media_type)
        || media::is_config(&descriptor.media_type)
        || (!is_document(&descriptor.media_type) && stat.size > MANIFEST_LIMIT)
}

fn put_found(
    tx: &Writer,
    digest: &Digest,
    stat: BlobStat,
    kind: BlobKind,
    media_type: &str,
    now: Millis,
) -> Outcome<BlobId> {
    Ok(tx.put_blob(
        NewBlob {
            digest: *digest,
            size: stat.size,
            allocated: stat.allocated,
            kind,
            media_type,
            ours: false,
            // Another tool wrote it, and answers for its durability; ours is to fsync it before
            // it is tagged here, which an unknown boot makes happen.
            boot: "unknown",
        },
        now,
    )?)
}

/// Reads the document `digest` and records what it says. Returns the documents it points at.
fn read_document(
    tx: &Writer,
    layout: &Layout,
    id: BlobId,
    digest: &Digest,
    media_type: &str,
    now: Millis,
) -> Outcome<Vec<document::Descriptor>> {
    let bytes = match layout.blobs().read(digest, limit_of(media_type)) {
        Ok(bytes) => bytes,
        Err(blobs::Error::Missing { .. }) => {
            tx.set_absent(id)?;
            return Ok(Vec::new());
        }
        Err(error @ blobs::Error::Io(_)) => return Err(caller(error)),
        Err(error) => {
            tx.set_damage(id, Some(&error.to_string()))?;
            return Ok(Vec::new());
        }
    };
    match document::parse(&bytes, media_type) {
        Ok(document) => record_document(tx, layout, id, &document, bytes.len() as u64, now),
        Err(error) => {
            tx.set_damage(id, Some(&error.to_string()))?;
            Ok(Vec::new())
        }
    }
}

fn limit_of(media_type: &str) -> u64 {
    if media::is_index(media_type) {
        INDEX_LIMIT
    } else {
        MANIFEST_LIMIT
    }
}

/// Records what a document says, the document itself being recorded under `id`. Returns the
/// documents it points at.
pub fn record_document(
    tx: &Writer,
    layout: &Layout,
    id: BlobId,
    document: &Document,
    size: u64,
    now: Millis,
) -> Outcome<Vec<document::Descriptor>> {
    let mut targets = Vec::new();
    let mut pending = Vec::new();
    for link in document.links() {
        let kind = match link.role {
            document::Role::Config => BlobKind::Config,
            document::Role::Layer => BlobKind::Layer,
            _ => kind_of(&link.target.media_type),
        };
        let known = refer_to(tx, layout, &link.target, kind, now)?;
        targets.push((known.id, link.role));
        if !is_settled(&known, &link.target) {
            pending.push(link.target);
        }
    }
    tx.put_edges(id, &targets)?;
    tx.set_damage(id, None)?;
    let kind = match document {
        Document::Manifest(_) => BlobKind::Manifest,
        Document::Index(_) => BlobKind::Index,
        Document::Other(_) | Document::Leaf => BlobKind::Other,
    };
    tx.set_kind(id, kind)?;
    if let Document::Manifest(manifest) = document
        && manifest.is_image()
    {
        record_image(tx, layout, id, manifest, &targets, size, now)?;
    }
    Ok(pending)
}

/// Like [`refer`], of what a document points at: a layer that nobody has heard of is taken in with
/// its file at once. They are most of what there is.
fn refer_to(
    tx: &Writer,
    layout: &Layout,
    target: &document::Descriptor,
    kind: BlobKind,
    now: Millis,
) -> Outcome<Known> {
    let known = tx.known(&target.digest)?;
    if let Some(known) = known.filter(Known::is_described) {
        return Ok(known);
    }
    if known.is_none() && kind == BlobKind::Layer && media::is_layer(&target.media_type) {
        let stat = layout.blobs().stat(&target.digest).map_err(caller)?;
        if let Some(stat) = stat {
            return Ok(Known {
                id: put_found(tx, &target.digest, stat, kind, &target.media_type, now)?,
                kind,
                present: true,
                condemned: false,
                damaged: false,
                typed: true,
            });
        }
    }
    describe(tx, target, known, kind, now)
}

fn record_image(
    tx: &Writer,
    layout: &Layout,
    id: BlobId,
    manifest: &document::Manifest,
    targets: &[(BlobId, document::Role)],
    size: u64,
    now: Millis,
) -> Outcome<()> {
    let config = match layout.blobs().read(&manifest.config.digest, MANIFEST_LIMIT) {
        Ok(bytes) => bytes,
        Err(error @ blobs::Error::Io(_)) => return Err(caller(error)),
        // The manifest stays an image that lists show; whoever runs it will be told.
        Err(_) => Vec::new(),
    };
    let config = ImageConfig::parse(&config).ok();
    put_image(tx, id, manifest, config.as_ref(), targets, size, now)
}

/// Records the image that a manifest and its config are.
pub fn put_image(
    tx: &Writer,
    id: BlobId,
    manifest: &document::Manifest,
    config: Option<&ImageConfig>,
    targets: &[(BlobId, document::Role)],
    size: u64,
    now: Millis,
) -> Outcome<()> {
    let refer_image = |digest: &str| -> Outcome<Option<BlobId>> {
        match digest.parse::<Digest>() {
            Ok(digest) => Ok(Some(tx.refer_blob(
                &digest,
                0,
                BlobKind::Manifest,
                media::MANIFEST,
                now,
            )?)),
            Err(_) => Ok(None),
        }
    };
    let parent = manifest
        .annotation(document::PARENT)
        .map_or(Ok(None), refer_image)?;
    for stage in manifest
        .annotation(document::STAGES)
        .unwrap_or("")
        .split(',')
    {
        if let Some(stage) = refer_image(stage)? {
            tx.put_stage_link(id, stage)?;
        }
    }
    let layers: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
    let labels = config.and_then(|c| c.config.labels.as_ref());
    tx.put_image(&ImageRow {
        manifest: id,
        config: targets.first().map_or(id, |(config, _)| *config),
        parent,
        step: manifest.annotation(document::STEP).map(str::to_owned),
        created: config.and_then(|c| parse_created(c.created.as_deref()?)),
        platform: config.map_or_else(|| "unknown".to_owned(), |c| c.platform().to_string()),
        size: size + manifest.config.size + layers,
        labels: labels.map_or_else(|| "{}".to_owned(), |l| serde_json::json!(l).to_string()),
        first_seen: now,
        last_used: now,
    })?;
    if let Some(config) = config {
        let steps = config.layer_steps();
        let blobs = targets
            .iter()
            .filter(|(_, role)| *role == document::Role::Layer);
        for ((blob, diff_id), step) in blobs.zip(&config.rootfs.diff_ids).zip(steps) {
            tx.put_layer(blob.0, diff_id, None, step)?;
        }
    }
    Ok(())
}

fn parse_created(text: &str) -> Option<Millis> {
    chrono::DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|time| time.timestamp_millis())
}

/// Writes `index.json` anew with these names. One whose type is not known and that cannot be read
/// to learn it is left out. Returns how many entries it has.
pub fn restore_index(
    layout: &Layout,
    names: &[Named],
    lock: &FileLock,
) -> std::result::Result<usize, crate::layout::Error> {
    let mut index = Index::empty();
    for named in names {
        let Some((media_type, size)) = type_and_size(layout, named) else {
            continue;
        };
        let entry = Entry::new(&media_type, named.digest, size);
        index.enter(named.name.as_deref(), &entry);
    }
    layout.write_index(&index, lock)?;
    Ok(index.entries().len())
}

/// By the document itself, or else by what the catalog remembers.
fn type_and_size(layout: &Layout, named: &Named) -> Option<(String, u64)> {
    let bytes = layout.blobs().read(&named.digest, INDEX_LIMIT);
    let document = bytes.as_ref().map(|bytes| document::parse(bytes, ""));
    let media_type = match document {
        Ok(Ok(Document::Manifest(m))) => m.media_type.unwrap_or_else(|| media::MANIFEST.to_owned()),
        Ok(Ok(Document::Index(i))) => i.media_type.unwrap_or_else(|| media::INDEX.to_owned()),
        _ if named.media_type.is_empty() => return None,
        _ => named.media_type.clone(),
    };
    let size = bytes.map_or(named.size, |bytes| bytes.len() as u64);
    Some((media_type, size))
}

/// The directory of blobs, and what is known of it as it is.
#[derive(Debug)]
pub struct Directory {
    signature: Signature,
    known: bool,
    strays: Option<usize>,
}

/// A file that no row knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewFile {
    /// The number of its inode, as the directory has it.
    pub inode: u64,
    /// Its digest.
    pub digest: Digest,
}

/// How what is in `blobs/` differs from what the catalog has.
#[derive(Debug, Default)]
pub struct Difference {
    /// Files that no row knows.
    pub new: Vec<NewFile>,
    /// Rows whose file is gone.
    pub vanished: Vec<Digest>,
    /// How many names are not digests.
    pub strays: usize,
}

impl Directory {
    /// Looks at it; to be called before it is listed, so that what changes meanwhile is seen.
    pub fn look(catalog: &Catalog, layout: &Layout) -> Result<Directory> {
        let signature = Signature::of(layout.blobs().directory())?;
        let (taken, strays) =
            catalog.read(|tx| Ok((tx.meta(BLOBS_SIGNATURE)?, tx.meta(BLOBS_STRAYS)?)))?;
        Ok(Directory {
            known: taken.as_deref() == Some(&signature_text(&signature)),
            strays: strays.and_then(|count| count.parse().ok()),
            signature,
        })
    }

    /// Whether nothing was added or removed since the catalog has taken it in.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Whether it is known that all names in it were digests then.
    pub fn had_no_strays(&self) -> bool {
        self.strays == Some(0)
    }
}

impl Difference {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.new.is_empty() && self.vanished.is_empty()
    }
}

/// Takes in every file below `blobs/sha256`, and forgets rows whose file is gone.
pub fn scan(catalog: &Catalog, layout: &Layout, now: Millis) -> Result<Scanned> {
    scan_by(catalog, layout, now, BATCH)
}

fn scan_by(catalog: &Catalog, layout: &Layout, now: Millis, batch: usize) -> Result<Scanned> {
    let directory = Directory::look(catalog, layout)?;
    if directory.is_known() {
        return Ok(Scanned::default());
    }
    let Difference {
        new: mut files,
        mut vanished,
        mut strays,
    } = Difference::default();
    layout
        .blobs()
        .list_with_inodes(|entry, inode| match entry {
            Ok(digest) => files.push(NewFile { inode, digest }),
            Err(_) => strays += 1,
        })
        .map_err(crate::layout::Error::from)?;
    files.sort_unstable_by_key(|file| file.digest);
    // A digest that some document points at may have a file again.
    let mut known = vec![false; files.len()];
    catalog.read(|tx| {
        tx.each_node(
            |row| match files.binary_search_by_key(&row.digest, |file| file.digest) {
                Ok(place) => known[place] = row.present,
                Err(_) if row.present && !row.condemned => vanished.push(row.digest),
                Err(_) => {}
            },
        )
    })?;
    let mut known = known.into_iter();
    files.retain(|_| known.next() != Some(true));
    files.shrink_to_fit();
    let difference = Difference {
        new: files,
        vanished,
        strays,
    };
    take_in_by(catalog, layout, &directory, difference, now, batch)
}

/// Takes in how `blobs/` differs from the catalog.
pub fn take_in(
    catalog: &Catalog,
    layout: &Layout,
    directory: &Directory,
    difference: Difference,
    now: Millis,
) -> Result<Scanned> {
    take_in_by(catalog, layout, directory, difference, now, BATCH)
}

fn take_in_by(
    catalog: &Catalog,
    layout: &Layout,
    directory: &Directory,
    mut difference: Difference,
    now: Millis,
    batch: usize,
) -> Result<Scanned> {
    match difference.new.len() > MANY {
        true => difference.new.sort_unstable(),
        false => difference.new.sort_unstable_by_key(|file| file.digest),
    }
    for batch in difference.new.chunks(batch) {
        catalog.write(|tx| {
            batch
                .iter()
                .try_for_each(|file| take_file(tx, layout, &file.digest, now))
        })?;
    }
    let mut decided = true;
    for batch in difference.vanished.chunks(BATCH) {
        catalog.write(|tx| {
            for digest in batch {
                decided &= take_absence(tx, layout, digest)?;
            }
            Ok::<_, WriteError<Error>>(())
        })?;
    }
    // What a lease still keeps is looked at again by the next scan.
    let age = now
        .saturating_mul(1_000_000)
        .saturating_sub(directory.signature.modified);
    if decided && age > RACY_NANOSECONDS {
        catalog.write_aside(|tx| {
            tx.set_meta(BLOBS_SIGNATURE, &signature_text(&directory.signature))?;
            tx.set_meta(BLOBS_STRAYS, &difference.strays.to_string())?;
            Ok::<_, WriteError<Error>>(())
        })?;
    }
    Ok(Scanned {
        added: difference.new.len(),
        vanished: difference.vanished.len(),
        strays: difference.strays,
    })
}

/// A file that no row knew: another tool's, or one of a catalog that was lost.
fn take_file(tx: &Writer, layout: &Layout, digest: &Digest, now: Millis) -> Outcome<()> {
    // Between the listing and now its own writer may have recorded it, or a document before it.
    if tx.known(digest)?.is_some_and(|known| known.present) {
        return Ok(());
    }
    let Some(stat) = layout.blobs().stat(digest).map_err(caller)? else {
        return Ok(());
    };
    let id = put_found(tx, digest, stat, BlobKind::Unknown, "", now)?;
    if stat.size > MANIFEST_LIMIT || !starts_as_json(layout, digest) {
        return Ok(());
    }
    let bytes = match layout.blobs().read(digest, MANIFEST_LIMIT) {
        Ok(bytes) => bytes,
        Err(error @ blobs::Error::Io(_)) => return Err(caller(error)),
        Err(error) if error.is_damage() => {
            tx.set_damage(id, Some(&error.to_string()))?;
            return Ok(());
        }
        Err(error) => return Err(caller(error)),
    };
    match document::parse(&bytes, "") {
        Ok(document @ (Document::Manifest(_) | Document::Index(_))) => {
            record_document(tx, layout, id, &document, stat.size, now).map(drop)
        }
        // A config, or data of somebody's: what points at it says what it is.
        Ok(_) => Ok(()),
        Err(error) => Ok(tx.set_damage(id, Some(&error.to_string()))?),
    }
}

fn starts_as_json(layout: &Layout, digest: &Digest) -> bool {
    use std::io::Read;
    let mut first = [0; 1];
    layout
        .blobs()
        .open_unverified(digest)
        .is_ok_and(|mut file| file.read_exact(&mut first).is_ok() && first[0] == b'{')
}

/// A row whose file the listing did not have: unless it has come since, it is absent. `false`: a
/// lease keeps it, and it is too early to say.
fn take_absence(tx: &Writer, layout: &Layout, digest: &Digest) -> Outcome<bool> {
    let Some(row) = tx.blob(digest)? else {
        return Ok(true);
    };
    // A writer records and pins a blob before it renames the file into place: its row is early,
    // not stale.
    if tx.is_leased(row.id)? {
        return Ok(false);
    }
    if row.present
        && row.condemned.is_none()
        && layout.blobs().stat(digest).map_err(caller)?.is_none()
    {
        tx.set_absent(row.id)?;
        tx.forget_document(row.id)?;
    }
    Ok(true)
}

//! From a selection to the entries of a layer.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{Cursor, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use hashbrown::HashMap;

use super::{Selected, Selection, file_name, is_archive, open, read_link};
use crate::build::chmod::Chmod;
use crate::build::config;
use crate::build::context;
use crate::build::error::StepError;
use crate::build::plan::FilesOperation;
use crate::build::remote::Download;
use crate::build::tree::{
    Found, descriptor_path, directory_at, link_target, look_up, resolve_destination, resolve_links,
};
use crate::fsutil::{self, IoContext};
use crate::layer::{Decompressor, Device, Entry, EntrySink, Kind, Mtime, TarReader, whiteout};

/// The mode of directories that nobody gives one.
const DIRECTORY_MODE: u32 = 0o755;

/// What an archive has put where so far, by absolute path: a link's target, or nothing for
/// whatever else.
type Unpacked = HashMap<String, Option<String>>;

/// How entries are made.
#[derive(Debug, Clone, Copy)]
pub struct Emission<'a> {
    /// The merged root of the image; `None`: there is nothing in it.
    pub view: Option<BorrowedFd<'a>>,
    /// `--chown`, looked up.
    pub owner: Option<(u32, u32)>,
    /// The time of directories that are made on the way.
    pub now: Mtime,
    /// No time is later than this.
    pub latest: Option<i64>,
}

/// Sends the entries of a COPY to `sink`.
pub fn emit(
    operation: &FilesOperation,
    selection: &Selection,
    emission: Emission,
    sink: &mut dyn EntrySink,
) -> Result<(), StepError> {
    let mut writer = Writer {
        operation,
        selection,
        emission,
        sink,
        made: Default::default(),
        linked: Default::default(),
        first_names: Default::default(),
    };
    let is_directory = operation.destination.ends_with('/') || operation.destination == "/";
    let destination = writer.destination(operation.destination.trim_end_matches('/'))?;
    if operation.directory_only {
        return writer.directory(&destination);
    }
    let several = selection.selected.len() > 1;
    for selected in &selection.selected {
        writer.selected(selected, &destination, is_directory, several)?;
    }
    Ok(())
}

struct Writer<'a> {
    operation: &'a FilesOperation,
    selection: &'a Selection,
    emission: Emission<'a>,
    sink: &'a mut dyn EntrySink,
    /// Directories that this layer has already.
    made: hashbrown::HashSet<String>,
    /// Where files with several names went first, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// The other way round, so that a name that is written again is no longer the file's.
    first_names: HashMap<Vec<u8>, (u64, u64)>,
}

impl Writer<'_> {
    /// Where the destination really is in the image.
    fn destination(&self, path: &str) -> Result<String, StepError> {
        match self.emission.view {
            Some(view) if !self.operation.link => resolve_destination(view, path),
            _ => Ok(config::clean(path)),
        }
    }

    fn there_at(&self, place: &[u8]) -> Result<Option<Metadata>, StepError> {
        match self.emission.view {
            // Of what `--link` finds, only directories stay: a link in its way is replaced.
            Some(view) if self.operation.link => directory_at(view, OsStr::from_bytes(place)),
            Some(view) => look_up(view, OsStr::from_bytes(place)),
            None => Ok(None),
        }
    }

    fn there(&self, path: &str) -> Result<Option<Metadata>, StepError> {
        self.there_at(path.trim_start_matches('/').as_bytes())
    }

    fn is_directory(&self, path: &str) -> Result<bool, StepError> {
        Ok(
            path == "/"
                || self.made.contains(path)
                || self.there(path)?.is_some_and(|m| m.is_dir()),
        )
    }

    fn selected(
        &mut self,
        selected: &Selected,
        destination: &str,
        slash: bool,
        several: bool,
    ) -> Result<(), StepError> {
        match selected {
            Selected::Download(download) => self.download(download, destination, slash, several),
            Selected::Checkout(_, None) => Ok(()),
            Selected::Checkout(_, Some((_, files))) => self.tree(files, destination),
            Selected::Parents { files, .. } => {
                if !files.is_empty() {
                    self.directory(destination)?;
                }
                self.tree(files, destination)
            }
            Selected::Inline { name, content } => {
                let target = self.target(name, destination, slash, several)?;
                self.parents(&target)?;
                let size = content.len() as u64;
                no_whiteout(&relative(&target))?;
                self.overwrite(&relative(&target));
                let mut entry = Entry::new(relative(&target), Kind::File { size }, 0o644);
                entry.mtime = self.emission.now;
                self.finish(&mut entry);
                Ok(self
                    .sink
                    .entry(&entry, Some(&mut Cursor::new(content.as_bytes())))?)
            }
            Selected::Files { source, files } if source.metadata.is_dir() => {
                self.tree(files, destination)
            }
            Selected::Files { source, files } => {
                if self.operation.unpack && source.metadata.is_file() {
                    let path = descriptor_path(&source.handle);
                    if is_archive(&path, &source.path)? {
                        self.directory(destination)?;
                        return self.archive(&path, &source.path, destination);
                    }
                }
                let target = self.target(&file_name(source), destination, slash, several)?;
                self.parents(&target)?;
                let place = relative(&target);
                self.no_directory(&place)?;
                files.iter().try_for_each(|found| self.file(found, &place))
            }
        }
    }

    /// Where a single file goes: into the destination if that is a directory, else it is its name.
    fn target(
        &self,
        name: &str,
        destination: &str,
        slash: bool,
        several: bool,
    ) -> Result<String, StepError> {
        // `--link` puts things where they would be on an empty image.
        let into = match self.operation.link {
            true => destination == "/" || self.made.contains(destination),
            false => self.is_directory(destination)?,
        };
        if slash || into {
            return self.destination_in(destination, name);
        }
        if several {
            // Each would overwrite the one before it.
            return Err(StepError::Invalid(format!(
                "with more than one source the destination is a directory, and must end with a slash: {:?}",
                format!("{destination}/")
            )));
        }
        Ok(destination.to_owned())
    }

    fn destination_in(&self, directory: &str, name: &str) -> Result<String, StepError> {
        Ok(config::clean(&format!("{directory}/{name}")))
    }

    /// The content of a source directory, into the destination.
    fn tree(&mut self, files: &[Found], destination: &str) -> Result<(), StepError> {
        if self
            .there(destination)?
            .is_some_and(|there| !there.is_dir())
        {
            return Err(StepError::Invalid(format!(
                "cannot copy a directory to {destination:?}, which is a file in the image"
            )));
        }
        self.parents(destination)?;
        // Where each directory of the source goes, once the image's own links are followed.
        let mut places: HashMap<&Path, Vec<u8>> = HashMap::new();
        for found in files {
            let parent = found
                .relative
                .parent()
                .and_then(|parent| places.get(parent));
            let place = match (parent, found.relative.file_name()) {
                (Some(parent), Some(name)) => join(parent, name.as_bytes()),
                _ => join(
                    &relative(destination),
                    found.relative.as_os_str().as_bytes(),
                ),
            };
            let is_root = found.relative.as_os_str().is_empty();
            if !found.metadata.is_dir() {
                self.no_directory(&place)?;
                self.file(found, &place)?;
                continue;
            }
            let through = self.through_link(&place)?;
            let kept = through.is_some();
            let place = through.unwrap_or(place);
            if is_root {
                // Its contents are copied, not itself: a destination that is there keeps what it
                // is, and one that isn't is made like the directories above it.
                self.make(destination, self.made_mode(), modified(&found.metadata))?;
            } else if !kept {
                self.file(found, &place)?;
            }
            places.insert(&found.relative, place);
        }
        Ok(())
    }

    /// Where a directory of the source goes if the image has a link to a directory in its place
    /// (`lib` of a merged `/usr`), which a directory would otherwise replace.
    fn through_link(&self, place: &[u8]) -> Result<Option<Vec<u8>>, StepError> {
        let Some(there) = self.there_at(place)?.filter(|there| !there.is_dir()) else {
            return Ok(None);
        };
        let shown = format!("/{}", String::from_utf8_lossy(place));
        if there.is_symlink() {
            let real = self.destination(&shown)?;
            if self.is_directory(&real)? {
                return Ok(Some(relative(&real)));
            }
        }
        Err(StepError::Invalid(format!(
            "cannot copy a directory to {shown:?}, which is none in the image"
        )))
    }

    fn no_directory(&self, place: &[u8]) -> Result<(), StepError> {
        if self.operation.link {
            return Ok(());
        }
        if self.there_at(place)?.is_some_and(|there| there.is_dir()) {
            let shown = String::from_utf8_lossy(place);
            return Err(StepError::Invalid(format!(
                "cannot copy a file to \"/{shown}\", which is a directory in the image"
            )));
        }
        Ok(())
    }

    /// Makes a directory and those on the way that are missing.
    fn directory(&mut self, path: &str) -> Result<(), StepError> {
        self.ancestors(path, DIRECTORY_MODE)?;
        self.make(path, DIRECTORY_MODE, self.emission.now)
    }

    /// The mode of directories that a copy makes on the way: that of `--chmod`, as in BuildKit.
    fn made_mode(&self) -> u32 {
        let asked = self.operation.mode.as_ref().and_then(Chmod::octal);
        let asked = asked.map(|mode| mode & 0o777);
        asked.unwrap_or(DIRECTORY_MODE)
    }

    fn parents(&mut self, path: &str) -> Result<(), StepError> {
        self.ancestors(path, self.made_mode())
    }

    fn ancestors(&mut self, path: &str, mode: u32) -> Result<(), StepError> {
        let mut parent = String::new();
        let components: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        for component in components.iter().take(components.len().saturating_sub(1)) {
            parent.push('/');
            parent.push_str(component);
            self.make(&parent, mode, self.emission.now)?;
        }
        Ok(())
    }

    fn make(&mut self, path: &str, mode: u32, modified: Mtime) -> Result<(), StepError> {
        if self.is_directory(path)? {
            return Ok(());
        }
        if self.there(path)?.is_some() {
            return Err(StepError::Invalid(format!(
                "{path:?} is a file in the image, and cannot be a directory"
            )));
        }
        no_whiteout(&relative(path))?;
        let mut entry = Entry::new(relative(path), Kind::Directory, mode);
        entry.mtime = modified;
        self.owned(&mut entry);
        self.sink.entry(&entry, None)?;
        self.made.insert(path.to_owned());
        Ok(())
    }

    fn file(&mut self, found: &Found, path: &[u8]) -> Result<(), StepError> {
        if found.metadata.is_dir() {
            self.made
                .insert(format!("/{}", String::from_utf8_lossy(path)));
        }
        no_whiteout(path)?;
        let metadata = &found.metadata;
        let Some(kind) = kind(found)? else {
            return Ok(());
        };
        let mut entry = Entry::new(path, kind, metadata.mode() & 0o7777);
        entry.mtime = modified(metadata);
        if self.selection.keeps_owners {
            (entry.uid, entry.gid) = (metadata.uid(), metadata.gid());
        }
        entry.xattrs = self.selection.xattrs(found)?;
        self.finish(&mut entry);
        if metadata.is_file() && metadata.nlink() > 1 {
            let inode = (metadata.dev(), metadata.ino());
            if let Some(target) = self.linked.get(&inode) {
                entry.kind = Kind::Hardlink {
                    target: target.clone(),
                };
                return Ok(self.sink.entry(&entry, None)?);
            }
            self.overwrite(path);
            self.linked.insert(inode, path.to_vec());
            self.first_names.insert(path.to_vec(), inode);
        } else {
            self.overwrite(path);
        }
        if metadata.is_file() {
            return self.content(found, &entry);
        }
        Ok(self.sink.entry(&entry, None)?)
    }

    /// Sends a regular file. One of the context must still be the one that was hashed: under its
    /// cache key, other bytes would be every later build's.
    fn content(&mut self, found: &Found, entry: &Entry) -> Result<(), StepError> {
        let mut file = File::open(&found.open_path).at("open", &found.open_path)?;
        if self.selection.keeps_owners {
            return Ok(self.sink.entry(entry, Some(&mut file))?);
        }
        unchanged(&file, found)?;
        self.sink.entry(entry, Some(&mut file))?;
        unchanged(&file, found)
    }

    /// Says that a name is going to be another file than a link may have been made to.
    fn overwrite(&mut self, path: &[u8]) {
        if let Some(inode) = self.first_names.remove(path) {
            self.linked.remove(&inode);
        }
    }

    /// ADD of an archive: what it holds, below the destination. A directory on the way may be a
    /// link of the image or of the archive, and is followed, as tar does; one that the archive
    /// itself holds replaces a link.
    fn archive(&mut self, path: &Path, shown: &str, destination: &str) -> Result<(), StepError> {
        let compressed = Decompressor::new(open(path, shown)?)
            .map_err(|error| fsutil::Error::new("read", shown, error))?;
        let mut reader = TarReader::new(compressed);
        // Where each file of the archive went, by its name there.
        let mut places: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let mut unpacked = Unpacked::new();
        while let Some(mut entry) = reader.next_entry()? {
            if entry.path.is_empty() {
                continue;
            }
            no_whiteout(&entry.path)?;
            let path = self.unpacked_place(destination, &entry.path, &unpacked)?;
            if let Kind::Hardlink { target } = &mut entry.kind {
                let Some(place) = places.get(target) else {
                    return Err(StepError::Invalid(format!(
                        "{:?} in {shown:?} is a hard link to {:?}, which does not come before it",
                        String::from_utf8_lossy(&entry.path),
                        String::from_utf8_lossy(target)
                    )));
                };
                target.clone_from(place);
            }
            let place = format!("/{}", String::from_utf8_lossy(&path));
            self.ancestors(&place, DIRECTORY_MODE)?;
            self.overwrite(&path);
            match &entry.kind {
                Kind::Directory => drop(self.made.insert(place.clone())),
                _ => drop(places.insert(entry.path.clone(), path.clone())),
            }
            let target = match &entry.kind {
                Kind::Symlink { target } => Some(String::from_utf8_lossy(target).into_owned()),
                _ => None,
            };
            unpacked.insert(place, target);
            entry.path = path;
            self.owned(&mut entry);
            entry.mtime = entry.mtime.clamp_to(self.emission.latest);
            let is_file = matches!(entry.kind, Kind::File { .. });
            let content: Option<&mut dyn Read> = if is_file { Some(&mut reader) } else { None };
            self.sink.entry(&entry, content)?;
        }
        Ok(())
    }

    /// A file behind a URL: root's, for nobody else, unless the instruction says otherwise.
    fn download(
        &mut self,
        download: &Download,
        destination: &str,
        slash: bool,
        several: bool,
    ) -> Result<(), StepError> {
        let Some(body) = &download.body else {
            return Ok(());
        };
        if download.unpack && is_archive(body, &download.name)? {
            self.directory(destination)?;
            return self.archive(body, &download.name, destination);
        }
        let target = self.target(&download.name, destination, slash, several)?;
        self.parents(&target)?;
        let place = relative(&target);
        self.no_directory(&place)?;
        no_whiteout(&place)?;
        self.overwrite(&place);
        let mut file = open(body, &download.name)?;
        let size = file.metadata().at("stat", body)?.len();
        let mut entry = Entry::new(place, Kind::File { size }, 0o600);
        entry.mtime = Mtime::from_seconds(download.modified.unwrap_or(0));
        self.finish(&mut entry);
        Ok(self.sink.entry(&entry, Some(&mut file))?)
    }

    /// Where an entry of an archive goes: its directory resolved, itself not.
    fn unpacked_place(
        &self,
        destination: &str,
        path: &[u8],
        unpacked: &Unpacked,
    ) -> Result<Vec<u8>, StepError> {
        let whole = join(&relative(destination), path);
        // What is not UTF-8 is no link that could be followed.
        let Ok(text) = std::str::from_utf8(&whole) else {
            return Ok(whole);
        };
        let Some((directory, name)) = text.rsplit_once('/') else {
            return Ok(whole);
        };
        let resolved = resolve_links(directory, |so_far| {
            match (unpacked.get(&format!("/{so_far}")), self.emission.view) {
                (Some(target), _) => Ok(target.clone()),
                (None, Some(view)) if !self.operation.link => link_target(view, so_far),
                (None, _) => Ok(None),
            }
        })?;
        Ok(join(&relative(&resolved), name.as_bytes()))
    }

    fn owned(&self, entry: &mut Entry) {
        if let Some((uid, gid)) = self.emission.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        entry.mtime = entry.mtime.clamp_to(self.emission.latest);
    }

    fn finish(&self, entry: &mut Entry) {
        self.owned(entry);
        if let (Some(mode), false) = (
            &self.operation.mode,
            matches!(entry.kind, Kind::Symlink { .. }),
        ) {
            entry.mode = mode.apply(entry.mode, entry.kind == Kind::Directory);
        }
    }
}

fn modified(metadata: &Metadata) -> Mtime {
    Mtime {
        seconds: metadata.mtime(),
        nanoseconds: metadata.mtime_nsec() as u32,
    }
}

fn relative(path: &str) -> Vec<u8> {
    path.trim_matches('/').as_bytes().to_vec()
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if !path.is_empty() && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Refuses a file that is no longer what it was when the build looked at it.
fn unchanged(file: &File, found: &Found) -> Result<(), StepError> {
    let now = file.metadata().at("stat", &found.open_path)?;
    if context::identity(&now) == context::identity(&found.metadata) {
        return Ok(());
    }
    Err(StepError::Invalid(format!(
        "{:?} changed while it was copied; build again when it is at rest",
        found.relative
    )))
}

/// Refuses what a layer cannot hold: `.wh.` names are its words for "removed" (image-spec,
/// layer.md, "Whiteouts"), and would take files of the image away.
fn no_whiteout(path: &[u8]) -> Result<(), StepError> {
    let is_mark = |component: &[u8]| component.starts_with(whiteout::PREFIX);
    if !path.split(|byte| *byte == b'/').any(is_mark) {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(path);
    Err(StepError::Invalid(format!(
        "{shown:?}: a name that begins with .wh. means a removal in a layer; rename it, or exclude it in .dockerignore"
    )))
}

/// What a file becomes; sockets, which no archive holds, are left out as docker does.
fn kind(found: &Found) -> Result<Option<Kind>, StepError> {
    let metadata = &found.metadata;
    let file_type = metadata.file_type();
    let device = || Device {
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
    };
    Ok(Some(if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_symlink() {
        Kind::Symlink {
            target: read_link(found)?.as_bytes().to_vec(),
        }
    } else if file_type.is_char_device() {
        Kind::CharDevice(device())
    } else if file_type.is_block_device() {
        Kind::BlockDevice(device())
    } else if file_type.is_fifo() {
        Kind::Fifo
    } else if file_type.is_socket() {
        return Ok(None);
    } else {
        Kind::File {
            size: metadata.len(),
        }
    }))
}

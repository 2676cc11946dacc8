//! The content-addressed store: `blobs/sha256/HEX`, and `ingest/` where blobs are written first.
//!
//! It is dumb on purpose: it knows digests and bytes, not images; whether a blob may go is for
//! `gc` to say, and the catalog to record, before [`Blobs::remove`] is called.
//!
//! ```text
//! ingest/ID  ──verified──▶  rename  ──▶  blobs/sha256/HEX     (never half a blob under a digest)
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};

use crate::fsutil::{self, IoContext};
use crate::oci::digest::{Digest, HashReader};

/// Why a blob cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] fsutil::Error),
    /// There is no such blob.
    #[error("blob {digest} is missing from the store; load, import or build its image again")]
    Missing {
        /// Its digest.
        digest: Digest,
    },
    /// The bytes are not those that the name promises.
    #[error(
        "blob {digest} is corrupt: its bytes have digest {actual}; `rstore fsck --repair` moves it away, then load, import or build its image again"
    )]
    Corrupt {
        /// The name.
        digest: Digest,
        /// The digest of what is there.
        actual: Digest,
    },
    /// Larger than a document may be.
    #[error("blob {digest} is {size} bytes, more than the {limit} that are read as a document")]
    TooLarge {
        /// Its digest.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
}

impl Error {
    /// Whether it says that the bytes are missing or wrong, as against unreadable just now.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Error::Io(_))
    }
}

/// What the functions of this module return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The blobs of one layout.
#[derive(Debug)]
pub struct Blobs {
    directory: PathBuf,
    handle: OwnedFd,
    ingest: PathBuf,
}

/// A file as the directory has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlobStat {
    /// Bytes.
    pub size: u64,
    /// Bytes that the file system allocated.
    pub allocated: u64,
    /// The device that it is on.
    pub device: u64,
    /// Inode number: files are unlinked fastest in its order.
    pub inode: u64,
    /// Last modification, milliseconds since the epoch.
    pub modified: i64,
    /// How many names the file has: with another one elsewhere, unlinking frees nothing.
    pub links: u64,
}

#[allow(
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "the widths of these fields are the architecture's"
)]
impl From<&Stat> for BlobStat {
    fn from(stat: &Stat) -> BlobStat {
        BlobStat {
            size: stat.st_size as u64,
            // stat(2) counts in 512 bytes, whatever the file system's blocks are.
            allocated: stat.st_blocks as u64 * 512,
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            modified: stat.st_mtime as i64 * 1000 + stat.st_mtime_nsec as i64 / 1_000_000,
            links: stat.st_nlink as u64,
        }
    }
}

/// The sum of some file names: who reads a directory and comes to the same sum has read the same
/// names. Digests are as good as random, so that other names have another sum; one who makes them
/// up could at most have a prune not look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NameSum {
    count: u64,
    /// Of each eight bytes of the names.
    words: [u64; 8],
}

impl NameSum {
    /// Adds a name.
    pub fn add(&mut self, name: &[u8]) {
        self.count = self.count.wrapping_add(1);
        for (place, word) in words(name) {
            self.words[place] = self.words[place].wrapping_add(word);
        }
    }

    /// Takes away a name that was added.
    pub fn remove(&mut self, name: &[u8]) {
        self.count = self.count.wrapping_sub(1);
        for (place, word) in words(name) {
            self.words[place] = self.words[place].wrapping_sub(word);
        }
    }
}

fn words(name: &[u8]) -> impl Iterator<Item = (usize, u64)> + '_ {
    name.chunks(8).enumerate().map(|(place, bytes)| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        (place % 8, u64::from_le_bytes(word))
    })
}

/// An entry of `blobs/sha256`, as [`Blobs::survey`] shows it.
#[derive(Debug, Clone, Copy)]
pub struct Surveyed<'a> {
    /// The digest that its name is; else the name.
    pub name: std::result::Result<Digest, &'a std::ffi::OsStr>,
    /// What `lstat` says of it.
    pub stat: BlobStat,
    /// Whether it is a plain file, as a blob is.
    pub file: bool,
}

impl Blobs {
    /// The blobs below `root` (a layout), written through `ingest`.
    pub fn open(root: &Path, ingest: PathBuf) -> Result<Blobs> {
        let directory = root.join("blobs/sha256");
        let handle = fsutil::open_dir(&directory)?;
        Ok(Blobs {
            directory,
            handle,
            ingest,
        })
    }

    /// `blobs/sha256`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    /// What the directory says of a blob; `None` where there is none.
    pub fn stat(&self, digest: &Digest) -> Result<Option<BlobStat>> {
        let name = &digest.file_name()[..];
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_file() => {
                Ok(Some(BlobStat::from(&stat)))
            }
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(fsutil::Error::new("stat", self.path(digest), error).into()),
        }
    }

    /// Opens a blob without verifying it: for readers that hash as they go.
    pub fn open_unverified(&self, digest: &Digest) -> Result<File> {
        match rustix::fs::openat(
            &self.handle,
            digest.hex(),
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        ) {
            Ok(fd) => Ok(File::from(fd)),
            Err(rustix::io::Errno::NOENT) => Err(Error::Missing { digest: *digest }),
            Err(error) => Err(fsutil::Error::new("open", self.path(digest), error).into()),
        }
    }

    /// The verified bytes of a document of at most `limit` bytes.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let mut file = self.open_unverified(digest)?;
        let size = file.metadata().at("stat", self.path(digest))?.len();
        if size > limit {
            return Err(Error::TooLarge {
                digest: *digest,
                size,
                limit,
            });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        Read::by_ref(&mut file)
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .at("read", self.path(digest))?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(Error::Corrupt {
                digest: *digest,
                actual,
            });
        }
        Ok(bytes)
    }

    /// Reads a whole blob and compares its digest. Returns its size.
    pub fn verify(&self, digest: &Digest) -> Result<u64> {
        let mut reader = HashReader::new(self.open_unverified(digest)?);
        let mut buffer = vec![0; 1 << 18];
        while reader.read(&mut buffer).at("read", self.path(digest))? > 0 {}
        let (hasher, _) = reader.into_parts();
        let size = hasher.length();
        let actual = hasher.finish();
        if actual != *digest {
            return Err(Error::Corrupt {
                digest: *digest,
                actual,
            });
        }
        Ok(size)
    }

    /// Every file name in `blobs/sha256`, in the directory's own order; no stat is made.
    /// Names that are not digests come as `Err`.
    pub fn list(
        &self,
        mut each: impl FnMut(std::result::Result<Digest, &std::ffi::OsStr>),
    ) -> Result<()> {
        self.list_with_inodes(|name, _| each(name))
    }

    /// The same, with the inode number that the directory has of each: `stat` may know another
    /// (overlayfs), so that it is worth an order, and nothing more.
    pub fn list_with_inodes(
        &self,
        mut each: impl FnMut(std::result::Result<Digest, &std::ffi::OsStr>, u64),
    ) -> Result<()> {
        self.each_entry(|name, inode| each(digest_of(name), inode))
    }

    /// The sum of all file names in `blobs/sha256`: as fast as they can be read.
    pub fn sum_of_names(&self) -> Result<NameSum> {
        let mut sum = NameSum::default();
        self.each_name(|name| sum.add(name.to_bytes()))?;
        Ok(sum)
    }

    /// Every entry of `blobs/sha256` with what `lstat` says of it, in the directory's own order.
    /// What vanishes meanwhile is left out.
    pub fn survey(&self, mut each: impl FnMut(Surveyed)) -> Result<()> {
        let mut failed = None;
        self.each_name(|name| {
            let stat = rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW);
            match stat {
                Ok(stat) => each(Surveyed {
                    name: digest_of(name),
                    stat: BlobStat::from(&stat),
                    file: rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file(),
                }),
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => {
                    let path = self.directory.join(os_str(name));
                    failed.get_or_insert(fsutil::Error::new("stat", path, error));
                }
            }
        })?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    fn each_name(&self, mut each: impl FnMut(&std::ffi::CStr)) -> Result<()> {
        self.each_entry(|name, _| each(name))
    }

    fn each_entry(&self, mut each: impl FnMut(&std::ffi::CStr, u64)) -> Result<()> {
        let handle = fsutil::open_dir(&self.directory)?;
        let mut buffer = Vec::with_capacity(256 << 10);
        let mut directory = rustix::fs::RawDir::new(handle, buffer.spare_capacity_mut());
        while let Some(entry) = directory.next() {
            let entry = entry.at("read", &self.directory)?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                each(name, entry.ino());
            }
        }
        Ok(())
    }

    /// Unlinks a blob. Returns whether there was one.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        match rustix::fs::unlinkat(&self.handle, &digest.file_name()[..], AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(fsutil::Error::new("remove", self.path(digest), error).into()),
        }
    }

    /// Sets the mtime to now, as whoever reuses a blob does, so that a grace by age holds for it.
    pub fn refresh(&self, digest: &Digest) -> Result<()> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        let keep = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        };
        let times = Timestamps {
            last_access: keep,
            last_modification: now,
        };
        match rustix::fs::utimensat(
            &self.handle,
            digest.hex(),
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        ) {
            // Another owner's file in a layout that we may write: its age is then its own.
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::PERM) => Ok(()),
            Err(error) => Err(fsutil::Error::new("touch", self.path(digest), error).into()),
        }
    }

    /// fsyncs one blob's bytes.
    pub fn sync(&self, digest: &Digest) -> Result<()> {
        let file = self.open_unverified(digest)?;
        Ok(file.sync_all().at("fsync", self.path(digest))?)
    }

    /// fsyncs the whole file system that the blobs are on: cheaper than many single ones.
    pub fn sync_file_system(&self) -> Result<()> {
        Ok(rustix::fs::syncfs(&self.handle).at("syncfs", &self.directory)?)
    }

    /// fsyncs the directory, so that renames into it last.
    pub fn sync_directory(&self) -> Result<()> {
        Ok(fsutil::sync_dir(&self.directory)?)
    }

    /// Starts a new blob as `ingest/NAME`.
    pub fn ingest(&self, name: &str) -> Result<Ingest> {
        let path = self.ingest.join(name);
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .at("create", &path)?;
        Ok(Ingest {
            file: Some(file),
            path,
        })
    }

    /// A file in `ingest/` that was written by other means, whole and verified.
    pub fn take_over(&self, path: PathBuf) -> Result<Ingest> {
        fs::metadata(&path).at("stat", &path)?;
        Ok(Ingest { file: None, path })
    }

    /// Moves a finished, verified blob to its digest. An existing file that is `trusted` and of the
    /// same size stays, with a fresh mtime, and the new one goes. Any other may be what a power cut
    /// has left: it is read, and replaced unless it is whole. So a file that another process has
    /// just published, and perhaps fsynced and tagged, is never replaced by one that is not synced.
    pub fn publish(&self, mut ingest: Ingest, digest: &Digest, trusted: bool) -> Result<()> {
        let size = ingest.length()?;
        ingest.close();
        let target = self.path(digest);
        match rename_new(ingest.path(), &target) {
            Ok(()) => {
                ingest.keep();
                return Ok(());
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => {
                return Err(fsutil::Error::new("rename", ingest.path(), error).into());
            }
        }
        let same_size = self.stat(digest)?.is_some_and(|stat| stat.size == size);
        if same_size && (trusted || self.verify(digest).is_ok()) {
            return self.refresh(digest);
        }
        fs::rename(ingest.path(), &target).at("rename", ingest.path())?;
        ingest.keep();
        Ok(())
    }

    /// Moves a blob out of the store, to `target` on the same file system. Returns whether there
    /// was one.
    pub fn move_away(&self, digest: &Digest, target: &Path) -> Result<bool> {
        let path = self.path(digest);
        match fs::rename(&path, target) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(fsutil::Error::new("rename", path, error).into()),
        }
    }
}

fn digest_of(name: &std::ffi::CStr) -> std::result::Result<Digest, &std::ffi::OsStr> {
    let digest = name.to_str().ok().and_then(Digest::from_hex);
    digest.ok_or(os_str(name))
}

fn os_str(name: &std::ffi::CStr) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes())
}

/// Renames `from` to `to` where nothing has that name yet; `EXIST` where something has.
fn rename_new(from: &Path, to: &Path) -> rustix::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags};
    use rustix::io::Errno;
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that has no such call (NFS): a look before the leap is the best there is.
        Err(Errno::INVAL | Errno::NOSYS) if fs::symlink_metadata(to).is_ok() => Err(Errno::EXIST),
        Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::rename(from, to),
        other => other,
    }
}

/// A blob being written. Dropped unpublished, its file goes.
#[derive(Debug)]
pub struct Ingest {
    file: Option<File>,
    path: PathBuf,
}

impl Ingest {
    /// Where it is being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written so far.
    pub fn length(&self) -> Result<u64> {
        Ok(fs::metadata(&self.path).at("stat", &self.path)?.len())
    }

    /// Ends the writing, so that whoever has many of them waiting holds no descriptor for each.
    pub fn close(&mut self) {
        self.file = None;
    }

    /// Says that the file has another name now, and stays.
    fn keep(mut self) {
        self.path = PathBuf::new();
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Err(io::Error::other("this blob's writing has ended")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::create_dir_all(dir.path().join("ingest")).unwrap();
        let blobs = Blobs::open(dir.path(), dir.path().join("ingest")).unwrap();
        (dir, blobs)
    }

    fn put(blobs: &Blobs, bytes: &[u8]) -> Digest {
        let mut ingest = blobs.ingest("one").unwrap();
        ingest.write_all(bytes).unwrap();
        let digest = Digest::of(bytes);
        blobs.publish(ingest, &digest, true).unwrap();
        digest
    }

    #[test]
    fn a_published_blob_reads_back_and_leaves_no_ingest() {
        let (dir, blobs) = blobs();
        let digest = put(&blobs, b"hello");
        assert_eq!(blobs.read(&digest, 10).unwrap(), b"hello");
        assert_eq!(put(&blobs, b"hello"), digest);
        assert_eq!(fs::read_dir(dir.path().join("ingest")).unwrap().count(), 0);
        assert!(blobs.remove(&digest).unwrap());
        assert!(!blobs.remove(&digest).unwrap());
    }

    #[test]
    fn a_whole_file_is_never_replaced_and_a_torn_one_is_unless_it_is_trusted() {
        let (dir, blobs) = blobs();
        let digest = put(&blobs, b"hello");
        let publish = |trusted| {
            let mut ingest = blobs.ingest("two").unwrap();
            ingest.write_all(b"hello").unwrap();
            blobs.publish(ingest, &digest, trusted).unwrap();
            blobs.stat(&digest).unwrap().unwrap().inode
        };
        let inode = blobs.stat(&digest).unwrap().unwrap().inode;
        assert_eq!(
            publish(false),
            inode,
            "whole: another process may have synced it"
        );
        fs::write(blobs.path(&digest), b"jello").unwrap();
        assert_eq!(publish(true), inode, "trusted");
        assert_ne!(publish(false), inode, "torn");
        fs::write(blobs.path(&digest), b"").unwrap();
        publish(true);
        assert_eq!(
            blobs.read(&digest, 10).unwrap(),
            b"hello",
            "of another size"
        );
        assert_eq!(fs::read_dir(dir.path().join("ingest")).unwrap().count(), 0);
    }

    #[test]
    fn an_abandoned_ingest_goes() {
        let (dir, blobs) = blobs();
        drop(blobs.ingest("one").unwrap());
        assert_eq!(fs::read_dir(dir.path().join("ingest")).unwrap().count(), 0);
    }

    #[test]
    fn a_closed_ingest_takes_no_more_and_can_be_published() {
        let (_dir, blobs) = blobs();
        let mut ingest = blobs.ingest("one").unwrap();
        ingest.write_all(b"hello").unwrap();
        ingest.close();
        assert!(ingest.write_all(b"more").is_err());
        let digest = Digest::of(b"hello");
        blobs.publish(ingest, &digest, true).unwrap();
        assert_eq!(blobs.read(&digest, 10).unwrap(), b"hello");
    }

    #[test]
    fn damage_is_told_from_absence_and_from_size() {
        let (_dir, blobs) = blobs();
        let digest = put(&blobs, b"hello");
        fs::write(blobs.path(&digest), b"jello").unwrap();
        assert!(matches!(
            blobs.read(&digest, 10),
            Err(Error::Corrupt { .. })
        ));
        assert!(matches!(blobs.verify(&digest), Err(Error::Corrupt { .. })));
        assert!(matches!(
            blobs.read(&digest, 2),
            Err(Error::TooLarge { .. })
        ));
        assert!(matches!(
            blobs.read(&Digest::of(b"x"), 2),
            Err(Error::Missing { .. })
        ));
    }

    #[test]
    fn listing_tells_digests_from_strays() {
        let (_dir, blobs) = blobs();
        let digest = put(&blobs, b"hello");
        fs::write(blobs.directory().join("stray"), "x").unwrap();
        let (mut found, mut strays) = (vec![], vec![]);
        blobs
            .list(|entry| match entry {
                Ok(digest) => found.push(digest),
                Err(name) => strays.push(name.to_owned()),
            })
            .unwrap();
        assert_eq!((found, strays), (vec![digest], vec!["stray".into()]));
    }
}

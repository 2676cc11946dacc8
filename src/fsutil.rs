//! The file system as the rest of the house sees it: errors that carry their path, atomic
//! replacement, directory fsync, allocated size, and opens that cannot leave a directory.
//!
//! Nothing here knows what an image is. Everything that can fail says *what* failed *where*:
//!
//! ```text
//! rename /var/lib/rstore/index.json: no space left on device (os error 28)
//! └op──┘ └path──────────────────────┘ └source─────────────────────────────┘
//! ```
//!
//! Durability: [`atomic_replace`] writes a temporary sibling, fsyncs it, renames it over the
//! target and fsyncs the directory, so that after a crash a reader finds the old bytes or the
//! new ones and never a mixture.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps};

/// A failed file-system operation: the operation, the path it was about, and the kernel's answer.
#[derive(Debug, thiserror::Error)]
#[error("{op} {}: {source}", path.display())]
pub struct Error {
    /// The operation, as a verb: `open`, `rename`, `fsync`.
    pub op: &'static str,
    /// The path it was about.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl Error {
    /// An error of `op` on `path`.
    pub fn new(op: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Error {
            op,
            path: path.as_ref().to_path_buf(),
            source: source.into(),
        }
    }

    /// Whether the kernel's answer was "no such file or directory".
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the disk, its inodes or a quota are exhausted.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.source.raw_os_error(),
            Some(libc::ENOSPC | libc::EDQUOT)
        )
    }
}

/// What the functions of this module return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Attaches the operation and the path to a bare I/O error.
pub trait IoContext<T> {
    /// `self`, with its error told as "`op` `path`: …".
    fn at(self, op: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> IoContext<T> for std::result::Result<T, E> {
    fn at(self, op: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::new(op, path, source))
    }
}

/// Makes `path` and its missing parents, mode 0777 less the umask.
pub fn create_dir_all(path: &Path) -> Result<()> {
    fs::create_dir_all(path).at("create directory", path)
}

/// fsyncs the directory `path`, so that entries made, renamed or removed in it survive a crash.
pub fn sync_dir(path: &Path) -> Result<()> {
    File::open(path)
        .at("open", path)?
        .sync_all()
        .at("fsync", path)
}

/// Replaces `path` with `bytes`, durably and atomically.
///
/// The temporary sibling is `.NAME.PID.tmp`; [`is_temporary_sibling`] knows it, so that what a
/// crash leaves can be told from what people put there.
pub fn atomic_replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, None)
}

/// [`atomic_replace`] by a file of this mode, whatever the process's umask is.
pub fn atomic_replace_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    replace(path, bytes, Some(mode))
}

fn replace(path: &Path, bytes: &[u8], mode: Option<u32>) -> Result<()> {
    let parent = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let name = path
        .file_name()
        .unwrap_or(OsStr::new("file"))
        .to_string_lossy();
    let temporary = parent.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = File::create(&temporary).at("create", &temporary)?;
        if let Some(mode) = mode {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            file.set_permissions(mode).at("chmod", &temporary)?;
        }
        file.write_all(bytes).at("write", &temporary)?;
        file.sync_all().at("fsync", &temporary)?;
        fs::rename(&temporary, path).at("rename", path)?;
        sync_dir(parent)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Whether `name` is one that [`atomic_replace`] of `target` leaves when it is killed.
pub fn is_temporary_sibling(name: &str, target: &str) -> bool {
    name.strip_prefix('.')
        .and_then(|rest| rest.strip_prefix(target))
        .and_then(|rest| rest.strip_prefix('.'))
        .and_then(|rest| rest.strip_suffix(".tmp"))
        .is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
}

/// Removes a file; that it is gone already is no error. Returns whether there was one.
pub fn remove_file(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::new("remove", path, error)),
    }
}

/// Bytes that the file system allocated for one file, as `du` counts them: `st_blocks` × 512.
pub fn allocated(metadata: &fs::Metadata) -> u64 {
    metadata.blocks() * 512
}

/// Allocated bytes of a tree, the root included, every inode counted once, links not followed.
///
/// A tree that shrinks while it is walked is counted as far as it is still there.
pub fn allocated_tree(root: &Path) -> Result<u64> {
    let mut seen = hashbrown::HashSet::new();
    allocated_tree_once(root, &mut seen)
}

/// [`allocated_tree`] for several trees that may share inodes: `seen` holds (device, inode) of
/// the files with more than one link that were counted before.
pub fn allocated_tree_once(root: &Path, seen: &mut hashbrown::HashSet<(u64, u64)>) -> Result<u64> {
    let mut total = 0;
    for entry in walkdir::WalkDir::new(root).follow_links(false) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error)
                if error
                    .io_error()
                    .is_some_and(|e| e.kind() == io::ErrorKind::NotFound) =>
            {
                continue;
            }
            Err(error) => {
                let path = error.path().unwrap_or(root).to_path_buf();
                return Err(Error::new(
                    "read",
                    path,
                    error
                        .into_io_error()
                        .unwrap_or_else(|| io::Error::other("file system loop")),
                ));
            }
        };
        let metadata = match entry.path().symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::new("stat", entry.path(), error)),
        };
        let linked = !metadata.is_dir() && metadata.nlink() > 1;
        if !linked || seen.insert((metadata.dev(), metadata.ino())) {
            total += allocated(&metadata);
        }
    }
    Ok(total)
}

/// Removes a directory tree, whatever modes its directories have. That it is gone is no error.
///
/// Works through directory descriptors and never follows a symbolic link, so that a tree that an
/// image filled cannot lead it elsewhere; depth is bounded by memory, not by open files.
#[expect(
    clippy::disallowed_methods,
    reason = "this is what the others call instead"
)]
pub fn remove_tree(root: &Path) -> Result<()> {
    let not_found = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match fs::symlink_metadata(root) {
        Err(error) if not_found(&error) => return Ok(()),
        Err(error) => return Err(Error::new("stat", root, error)),
        Ok(metadata) if !metadata.is_dir() => return remove_file(root).map(drop),
        Ok(_) => {}
    }
    match fs::remove_dir_all(root) {
        Ok(()) => return Ok(()),
        Err(error) if not_found(&error) => return Ok(()),
        // A directory that its owner may not write or search: open those, then once more.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => return Err(Error::new("remove", root, error)),
    }
    for entry in walkdir::WalkDir::new(root).follow_links(false) {
        // Directories come before what they hold, so each is open before it is read.
        let Ok(entry) = entry else { continue };
        if entry.file_type().is_dir() {
            use std::os::unix::fs::PermissionsExt;
            let _ = fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700));
        }
    }
    fs::remove_dir_all(root)
        .or_else(|e| if not_found(&e) { Ok(()) } else { Err(e) })
        .at("remove", root)
}

/// Opens the directory `path` for use as a base of `*at` calls.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .at("open", path)
}

/// Opens `path` below `dir`, refusing (`EXDEV`, `ELOOP`) to leave it by `..`, an absolute name or
/// any symbolic link on the way. See openat2(2), `RESOLVE_BENEATH`.
pub fn open_beneath(
    dir: impl AsFd,
    path: impl AsRef<Path>,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd> {
    let path = path.as_ref();
    openat2(
        dir,
        path,
        flags,
        mode,
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
}

/// Opens `path` as a process would whose root is `dir`: absolute links and `..` stay inside.
/// See openat2(2), `RESOLVE_IN_ROOT`.
pub fn open_in_root(
    dir: impl AsFd,
    path: impl AsRef<Path>,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd> {
    openat2(
        dir,
        path.as_ref(),
        flags,
        mode,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

fn openat2(
    dir: impl AsFd,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    // The kernel answers EAGAIN when something was renamed during a scoped walk; that is not an
    // answer about the path, so ask again.
    loop {
        match rustix::fs::openat2(&dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
            other => return other.at("open", path),
        }
    }
}

/// The `lstat` of `name` in `dir`; `None` where there is nothing.
pub fn stat_at(dir: impl AsFd, name: impl AsRef<Path>) -> Result<Option<rustix::fs::Stat>> {
    let name = name.as_ref();
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(Error::new("stat", name, error)),
    }
}

/// Gives `path` the times of access and modification that `metadata` tells. A link itself gets
/// them, not what it leads to.
pub fn copy_times(metadata: &fs::Metadata, path: &Path) -> Result<()> {
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec() as _),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec() as _),
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).at("set times of", path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn atomic_replace_leaves_the_new_bytes_and_no_sibling() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.json");
        atomic_replace(&path, b"one").unwrap();
        atomic_replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn temporary_siblings_are_told_from_other_hidden_files() {
        assert!(is_temporary_sibling(".index.json.4242.tmp", "index.json"));
        assert!(!is_temporary_sibling(".index.json.tmp", "index.json"));
        assert!(!is_temporary_sibling("index.json", "index.json"));
        assert!(!is_temporary_sibling(".index.json.42a.tmp", "index.json"));
    }

    #[test]
    fn remove_tree_takes_directories_that_nobody_may_enter() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        fs::create_dir_all(root.join("shut/inner")).unwrap();
        fs::write(root.join("shut/inner/file"), "x").unwrap();
        fs::set_permissions(root.join("shut"), fs::Permissions::from_mode(0o0)).unwrap();
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        remove_tree(&root).unwrap();
    }

    #[test]
    fn remove_tree_does_not_follow_a_link_out() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "precious").unwrap();
        let root = dir.path().join("tree");
        fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        remove_tree(&root).unwrap();
        assert!(outside.exists());
    }

    #[test]
    fn open_beneath_refuses_every_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("link")).unwrap();
        let fd = open_dir(&root).unwrap();
        for path in ["../secret", "/etc/passwd", "link"] {
            assert!(
                open_beneath(&fd, path, OFlags::RDONLY, Mode::empty()).is_err(),
                "{path}"
            );
        }
    }

    #[test]
    fn allocated_tree_counts_a_hard_link_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![7u8; 100_000]).unwrap();
        let one = allocated_tree(dir.path()).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert_eq!(allocated_tree(dir.path()).unwrap(), one);
    }
}

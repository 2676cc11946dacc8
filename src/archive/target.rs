//! Where an archive goes: a file that appears whole or not at all, or a stream.
//!
//! ```text
//! path is          bytes go to                        finish
//! nothing, a file  an unnamed file beside it          fsync, link, rename over it
//! a link           what it leads to, as above
//! a pipe, device   itself                             nothing
//! `-`              standard output                    flush
//! ```
//! The file beside it has no name (open(2), `O_TMPFILE`) until it is whole, so that not even a
//! killed process leaves anything; on file systems that know no such files, and where no `/proc`
//! is to link it by, it has the name that [`fsutil::atomic_replace`] would give it, and is removed
//! after a failure.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::error::{Error, Result};
use crate::fsutil::{self, IoContext};

/// As many links as Linux follows (path_resolution(7)).
const LINK_LIMIT: usize = 40;

/// Says whether somebody asked for the end.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// A stop that nobody asks for.
pub const NEVER: Stop<'static> = &|| false;

/// Somewhere to write to.
pub struct Target<'a> {
    sink: Sink<'a>,
    shown: PathBuf,
    stop: Stop<'a>,
}

enum Sink<'a> {
    Stream(Box<dyn Write + Send + 'a>),
    Unnamed(File),
    Named {
        file: File,
        temporary: PathBuf,
    },
    /// What was renamed, or never began.
    Done,
}

impl<'a> Target<'a> {
    /// A stream, which errors call `shown`.
    pub fn stream(out: Box<dyn Write + Send + 'a>, shown: &str, stop: Stop<'a>) -> Target<'a> {
        Target {
            sink: Sink::Stream(out),
            shown: PathBuf::from(shown),
            stop,
        }
    }

    /// The file `path`, which need not be there; the directory that it is in must.
    pub fn file(path: &Path, stop: Stop<'a>) -> Result<Target<'a>> {
        let path = behind_links(path)?;
        let sink = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                let error = io::Error::from(ErrorKind::IsADirectory);
                return Err(fsutil::Error::new("write", path, error).into());
            }
            Ok(metadata) if is_stream(&metadata) => {
                let file = fs::OpenOptions::new().write(true).open(&path);
                Sink::Stream(Box::new(file.at("open", &path)?))
            }
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(fsutil::Error::new("stat", path, error).into());
            }
            _ => begin(&path)?,
        };
        Ok(Target {
            sink,
            shown: path,
            stop,
        })
    }

    /// What errors call it.
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// Says whether somebody asked for the end.
    pub fn stop(&self) -> Stop<'a> {
        self.stop
    }

    /// Makes what was written appear.
    pub fn finish(mut self) -> Result<()> {
        self.flush().at("write", &self.shown)?;
        match std::mem::replace(&mut self.sink, Sink::Done) {
            Sink::Stream(_) | Sink::Done => Ok(()),
            Sink::Unnamed(file) => {
                file.sync_all().at("fsync", &self.shown)?;
                let temporary = temporary(&self.shown);
                let open = format!("/proc/self/fd/{}", file.as_raw_fd());
                fsutil::remove_file(&temporary)?;
                rustix::fs::linkat(CWD, open, CWD, &temporary, AtFlags::SYMLINK_FOLLOW)
                    .at("link", &temporary)?;
                publish(&temporary, &self.shown)
            }
            Sink::Named { file, temporary } => {
                let synced = file.sync_all().at("fsync", &temporary);
                if let Err(error) = synced {
                    let _ = fs::remove_file(&temporary);
                    return Err(error.into());
                }
                publish(&temporary, &self.shown)
            }
        }
    }
}

impl Write for Target<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.stop)() {
            // Not of kind `Interrupted`, after which one tries again.
            return Err(io::Error::other("interrupted"));
        }
        match &mut self.sink {
            Sink::Stream(out) => out.write(bytes),
            Sink::Unnamed(file) | Sink::Named { file, .. } => file.write(bytes),
            Sink::Done => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Stream(out) => out.flush(),
            _ => Ok(()),
        }
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        if let Sink::Named { temporary, .. } = &self.sink {
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Replaces the file `path`, or writes to the pipe or device that it is.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut target = Target::file(path, NEVER)?;
    target.write_all(bytes).at("write", path)?;
    target.finish()
}

/// Removes the regular file `path`, so that a failure leaves no old one for a new one.
pub fn remove_stale(path: &Path) -> Result<()> {
    let regular = |metadata: &fs::Metadata| metadata.is_file();
    if fs::metadata(path).as_ref().is_ok_and(regular) {
        fsutil::remove_file(&behind_links(path)?)?;
    }
    Ok(())
}

fn is_stream(metadata: &fs::Metadata) -> bool {
    let kind = metadata.file_type();
    kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket()
}

fn begin(path: &Path) -> Result<Sink<'static>> {
    let mode = Mode::from_raw_mode(0o666);
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    if Path::new("/proc/self/fd").exists()
        && let Ok(file) = rustix::fs::open(parent(path), flags, mode)
    {
        return Ok(Sink::Unnamed(File::from(file)));
    }
    // Whatever else is wrong, this will say.
    let temporary = temporary(path);
    let file = fsutil::remove_file(&temporary)
        .map_err(|error| error.source)
        .and_then(|_| File::create_new(&temporary))
        .at("create", path)?;
    Ok(Sink::Named { file, temporary })
}

fn publish(temporary: &Path, path: &Path) -> Result<()> {
    if let Err(error) = fs::rename(temporary, path) {
        let _ = fs::remove_file(temporary);
        return Err(fsutil::Error::new("rename", path, error).into());
    }
    Ok(fsutil::sync_dir(parent(path))?)
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent(path).join(format!(".{name}.{}.tmp", std::process::id()))
}

/// Where the links at `path` lead: a rename would replace the link itself. Those of `/proc` lead
/// to what is open, by any name.
fn behind_links(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINK_LIMIT {
        match fs::metadata(&path) {
            Ok(metadata) if is_stream(&metadata) => return Ok(path),
            _ => {}
        }
        match fs::read_link(&path) {
            Ok(target) => path = parent(&path).join(target),
            Err(_) => return Ok(path),
        }
    }
    let error = io::Error::from_raw_os_error(libc::ELOOP);
    Err(Error::Io(fsutil::Error::new("follow", path, error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.tar");
        fs::write(&path, "old").unwrap();
        let mut target = Target::file(&path, NEVER).unwrap();
        target.write_all(b"half").unwrap();
        drop(target);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["out.tar"]);
        let mut target = Target::file(&path, NEVER).unwrap();
        target.write_all(b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        target.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(dir.path()), ["out.tar"]);
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::os::unix::fs::symlink("real", &link).unwrap();
        write_file(&link, b"x").unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"x");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn devices_are_written_to_and_directories_are_refused() {
        write_file(Path::new("/dev/null"), b"x").unwrap();
        assert!(
            fs::metadata("/dev/null")
                .unwrap()
                .file_type()
                .is_char_device()
        );
        let dir = tempfile::tempdir().unwrap();
        assert!(write_file(dir.path(), b"x").is_err());
        assert!(write_file(&dir.path().join("no/such"), b"x").is_err());
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn who_asks_for_the_end_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut target = Target::file(&dir.path().join("out"), &|| true).unwrap();
        assert!(target.write_all(b"x").is_err());
        drop(target);
        assert!(names(dir.path()).is_empty());
    }
}

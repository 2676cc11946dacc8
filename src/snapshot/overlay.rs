//! Overlay mounts by file descriptor.
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// How an overlay is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Skip fsync: what isn't committed is lost with the machine anyway. The work directory of
    /// such a mount must not be used a second time.
    pub volatile: bool,
    /// Marks in `user.overlay.*`: needed in a user namespace.
    pub userxattr: bool,
}

/// An overlay that could not be mounted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Mounts `lowers` (topmost first) and perhaps an upper and its work directory, attached nowhere:
/// the mount lives as long as the descriptor, or the namespace it is moved into.
pub fn mount(
    _lowers: &[impl AsRef<Path>],
    _upper: Option<(&Path, &Path)>,
    _options: Options,
) -> Result<OwnedFd, Error> {
    Err(Error(format!("{:?}", PathBuf::new())))
}

/// Whether overlays can be mounted with upper directories in `dir`; if not, why.
pub fn probe(_dir: &Path) -> Result<(), Error> {
    Ok(())
}

//! From a directory to the entries of a layer.
//!
//! Two differs, one outcome. [`overlay`] reads the upper directory that overlayfs kept: it holds
//! little more than what changed, so its cost is that of the change. [`trees`] compares two
//! complete trees, for snapshots that are copies and for squashing.
//!
//! ```text
//! upper                    lower           entries, in this order
//! etc/   (copied up)       etc/            etc/            only if it or something in it changed
//!   hosts   c 0,0            hosts         etc/.wh.hosts   whiteouts first
//!   motd                                   etc/motd
//! opt/   opaque            opt/            opt/
//!                            old           opt/.wh..wh..opq
//! ```
//!
//! What is in the upper directory but the same as below is left out: overlayfs copies a directory
//! up when anything in it changes, and a file when it is opened for writing; a step that in the
//! end changed nothing gives no entries. "The same" is type, mode, owner, group, nanosecond
//! mtime, extended attributes, link target, device number, and the content itself.
//!
//! The root directory has no entry, whatever its attributes: so do docker (`TarWithOptions`
//! without the source directory) and BuildKit (its differ skips the root), and an entry for it
//! would carry this machine's umask into the image.
//!
//! Also left out: sockets, which tar cannot hold and which are of no use without their process;
//! `trusted.overlay.*`, `user.overlay.*`, `security.selinux`. An error instead: a file whose name
//! begins with `.wh.`, and what overlayfs moved elsewhere (`redirect_dir`, `metacopy`).

mod compare;
mod overlay;
mod trees;
mod walk;

pub use overlay::overlay;
pub use trees::trees;

use super::whiteout::OverlayXattrs;

/// How trees are compared.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiffOptions {
    /// Where the upper directory's overlay keeps its marks. Of no meaning to [`trees`].
    pub xattrs: OverlayXattrs,
    /// Every mtime later than this (seconds since 1970) becomes this, as BuildKit's
    /// `rewrite-timestamp` does. Comparison sees the times as they are.
    pub timestamp: Option<i64>,
}

#[cfg(test)]
mod tests;

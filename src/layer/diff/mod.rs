//! From a directory to the entries of a layer.
use std::os::fd::BorrowedFd;

use super::entry::EntrySink;
use super::error::Result;
use super::whiteout::OverlayXattrs;

/// How trees are compared.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiffOptions {
    /// Where the upper directory's overlay keeps its marks.
    pub xattrs: OverlayXattrs,
    /// Every mtime later than this (seconds since 1970) becomes this.
    pub timestamp: Option<i64>,
}

/// Sends `sink` what the overlay upper directory `upper` changes in `lower`, the merged read-only
/// view of what it lies on (none: nothing lies below).
pub fn overlay(
    upper: BorrowedFd<'_>,
    lower: Option<BorrowedFd<'_>>,
    options: &DiffOptions,
    sink: &mut dyn EntrySink,
) -> Result<()> {
    let _ = (upper, lower, options, sink);
    todo!()
}

/// Sends `sink` what makes the complete tree `upper` of the complete tree `lower` (none: an empty one).
pub fn trees(
    lower: Option<BorrowedFd<'_>>,
    upper: BorrowedFd<'_>,
    options: &DiffOptions,
    sink: &mut dyn EntrySink,
) -> Result<()> {
    let _ = (upper, lower, options, sink);
    todo!()
}

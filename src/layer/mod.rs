//! Directory ↔ layer.
//!
//! ```text
//!   upper directory ──diff::overlay──┐                         ┌──▶ overlay lower
//!   two trees ───────diff::trees─────┼─▶ Entry ─▶ EntrySink ───┤    Unpacker
//!   build context ───(copy)──────────┘    ▲           │        └──▶ tree, staging directory
//!                                         │           ▼
//!                                     TarReader    TarWriter
//!                                         ▲           │
//!                        decompress, hash │           │ hash, compress, hash
//!                             (unpack)    │           ▼    (pack)
//!                                        layer blob (tar, +gzip, +zstd)
//! ```
//!
//! [`Entry`] is the word that all parts share; whoever makes entries needn't know whether they
//! become an archive or a directory. The digest of the archive is the **diff ID**, the digest of
//! the compressed bytes is the **blob**'s name (image-spec, config.md and layer.md).
//!
//! What holds:
//! - The same tree gives the same archive, byte for byte: entries in byte order of names,
//!   whiteouts before the other names of their directory, no names of users, no padding beyond
//!   the two blocks that end an archive. The same archive gives the same blob.
//! - What cannot be represented is an error that names the file; nothing is left out in silence.
//! - Nothing that a layer says leads out of the directory it is unpacked into.
//! - No input makes this module panic.
//!
//! | file | owns |
//! |---|---|
//! | [`entry`] | the entry, and which paths are paths |
//! | [`error`] | what can go wrong, and whose fault it is |
//! | [`whiteout`] | `.wh.` names and overlayfs' marks |
//! | [`write`](mod@write), [`read`](mod@read); `header`, `pax`, `sparse` | tar archives: ustar, PAX, GNU |
//! | `inode` | reading one inode without following anything |
//! | [`compress`] | gzip, zstd; bzip2 and xz for reading |
//! | [`diff`] | trees → entries |
//! | [`merge`] | layers → the tree that they come to, or one layer |
//! | [`files`] | the files of layers, to be looked at and compared |
//! | [`pack`](mod@pack) | the commit pipeline |
//! | [`unpack`](mod@unpack) | layer → directory |

pub mod compress;
pub mod diff;
pub mod entry;
pub mod error;
pub mod files;
mod header;
mod inode;
pub mod merge;
pub mod pack;
mod pax;
pub mod read;
mod sparse;
#[cfg(test)]
mod testing;
pub mod unpack;
pub mod whiteout;
pub mod write;

pub use compress::{Compression, Compressor, Decompressor, Format};
pub use diff::DiffOptions;
pub use entry::{Device, Entry, EntrySink, Kind, Mtime, Xattrs};
pub use error::{Error, Result};
pub use pack::{PackSink, Packed, pack, pack_archive};
pub use read::TarReader;
pub use unpack::{
    Expected, Made, Skipped, Target, UnpackOptions, Unpacked, Unpacker, read_archive, unpack,
};
pub use whiteout::OverlayXattrs;
pub use write::TarWriter;

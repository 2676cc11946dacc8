//! The two languages for "what was below is gone".
//!
//! | | in a layer (image-spec, layer.md, "Whiteouts") | in overlayfs (kernel, overlayfs.rst, "whiteouts and opaque directories") |
//! |---|---|---|
//! | one name | empty file `.wh.NAME` | character device 0/0 `NAME`, or since Linux 6.7 an empty file with xattr `overlay.whiteout` |
//! | all names | empty file `.wh..wh..opq` in the directory | xattr `overlay.opaque` = `y` on the directory |
//!
//! The xattrs live in `trusted.`, or in `user.` where the overlay is mounted with `userxattr`, as
//! it must be in a user namespace: which one is [`OverlayXattrs`]. In the other name space they
//! mean nothing to the kernel, and nothing here.
//!
//! Other names that begin with `.wh..wh.` are aufs' own book-keeping; old layers have them, and
//! docker and containerd pass over them, as [`parse`] does.

use super::entry::{Entry, Kind, join};
use super::error::{Error, NameProblem, Result};

/// What a whiteout's name begins with.
pub const PREFIX: &[u8] = b".wh.";
/// The name of the file that makes its directory opaque.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// Where overlayfs keeps its extended attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`: mounted by the real root.
    #[default]
    Trusted,
    /// `user.overlay.*`: mounted with `userxattr`.
    User,
}

impl OverlayXattrs {
    /// The name of the mark of an opaque directory.
    pub const fn opaque(self) -> &'static str {
        match self {
            OverlayXattrs::Trusted => "trusted.overlay.opaque",
            OverlayXattrs::User => "user.overlay.opaque",
        }
    }

    /// What follows the overlay's own prefix in `name`: `opaque`, `whiteout`, `redirect`, …
    pub fn strip(self, name: &[u8]) -> Option<&[u8]> {
        match self {
            OverlayXattrs::Trusted => name.strip_prefix(b"trusted.overlay."),
            OverlayXattrs::User => name.strip_prefix(b"user.overlay."),
        }
    }
}

/// Whether a layer leaves this extended attribute out: overlayfs' book-keeping, and SELinux'
/// label, which is this machine's policy and not the file's.
pub fn is_host_xattr(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.")
        || name.starts_with(b"user.overlay.")
        || name == b"security.selinux"
}

/// What the last component of a name in a layer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// An entry like any other.
    Entry,
    /// This name is gone from the layers below.
    Whiteout(&'a [u8]),
    /// All names of this directory are gone from the layers below.
    Opaque,
    /// Book-keeping of aufs: of no meaning.
    Ignored,
}

/// The meaning of `name`, the last component of `path`.
pub fn parse<'a>(path: &[u8], name: &'a [u8]) -> Result<Meaning<'a>> {
    let Some(hidden) = name.strip_prefix(PREFIX) else {
        return Ok(Meaning::Entry);
    };
    match hidden {
        _ if name == OPAQUE => Ok(Meaning::Opaque),
        b"" | b"." | b".." => Err(Error::Name {
            path: path.to_vec(),
            problem: NameProblem::EmptyWhiteout,
        }),
        _ if hidden.starts_with(PREFIX) => Ok(Meaning::Ignored),
        _ => Ok(Meaning::Whiteout(hidden)),
    }
}

/// The entry of a layer that hides `name` in `directory`.
pub fn entry(directory: &[u8], name: &[u8]) -> Entry {
    file(directory, &[PREFIX, name].concat())
}

/// The entry of a layer that makes `directory` opaque.
pub fn opaque_entry(directory: &[u8]) -> Entry {
    file(directory, OPAQUE)
}

/// Whiteouts have neither owner nor time, so that the same removal is the same bytes.
fn file(directory: &[u8], name: &[u8]) -> Entry {
    Entry::new(join(directory, name), Kind::File { size: 0 }, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_meaning() {
        for (name, meaning) in [
            ("file", Meaning::Entry),
            (".wh", Meaning::Entry),
            (".wh.file", Meaning::Whiteout(b"file")),
            (".wh..hidden", Meaning::Whiteout(b".hidden")),
            (".wh..wh..opq", Meaning::Opaque),
            (".wh..wh.plnk", Meaning::Ignored),
            (".wh..wh.aufs", Meaning::Ignored),
        ] {
            assert_eq!(parse(b"", name.as_bytes()).unwrap(), meaning, "{name}");
        }
        for name in [".wh.", ".wh..", ".wh..."] {
            assert!(parse(b"", name.as_bytes()).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let entry = entry(b"a/b", b"c");
        assert_eq!(entry.path, b"a/b/.wh.c");
        assert_eq!(
            parse(&entry.path, entry.split_path().1).unwrap(),
            Meaning::Whiteout(b"c")
        );
        assert_eq!(opaque_entry(b"").path, b".wh..wh..opq");
    }

    #[test]
    fn each_name_space_knows_its_own_marks_only() {
        assert_eq!(
            OverlayXattrs::Trusted.strip(b"trusted.overlay.opaque"),
            Some(&b"opaque"[..])
        );
        assert_eq!(OverlayXattrs::Trusted.strip(b"user.overlay.opaque"), None);
        assert!(is_host_xattr(b"user.overlay.impure"));
        assert!(!is_host_xattr(b"security.capability"));
    }
}

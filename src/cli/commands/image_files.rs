//! What `ls`, `cat` and `diff` share: the image, and what is shown of a file in it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use crate::cli::context::native_platform;
use crate::cli::render::{names, time};
use crate::cli::{Context, Result, exit};
use crate::layer::files::{Files, Place, kind_word};
use crate::layer::{Entry, Kind};
use crate::oci::{Digest, Platform};
use crate::store::{self, Image, Store};

/// The words for what a file is.
pub const KINDS: &[&str] = &["file", "directory", "symlink", "char", "block", "fifo"];

/// The image that a reference means.
pub fn image(store: &Store, reference: &str, platform: Option<&Platform>) -> Result<Image> {
    let platform = platform.cloned().unwrap_or_else(native_platform);
    Ok(store.find_image(reference, &platform)?)
}

/// What to tell of an error of reading layers: of a damaged blob also what helps.
pub fn told(error: store::Error) -> anyhow::Error {
    match error {
        store::Error::Layer { .. } if error.is_corruption() => exit::Failure::Corrupt(format!(
            "{error}; `rstore fsck` tells what is damaged, and with --repair moves it away: then load, import or build the image again"
        ))
        .into(),
        error => error.into(),
    }
}

/// Whether names go to a program rather than to somebody's eyes.
pub fn raw(context: &Context) -> bool {
    !context.terminal.stdout
}

/// All that is shown of a file besides its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Details {
    /// `file`, `directory`, …
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The permission bits, in octal.
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of content.
    pub size: u64,
    pub mtime: String,
    /// What a symbolic link says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_base64: Option<String>,
    /// `major:minor`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Values in base64.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
    /// The number of the layer that brought it, the lowest being 0.
    pub layer: Option<usize>,
    /// That layer's blob.
    pub layer_digest: Option<Digest>,
}

impl Details {
    /// Of a place in an image.
    pub fn of(files: &Files, place: &Place, image: &Image) -> Details {
        let entry = files.entry(place.file);
        let target = match &entry.kind {
            Kind::Symlink { target } => Some(names::json(target)),
            _ => None,
        };
        let (target, target_base64) = match target {
            Some((text, exact)) => (Some(text), exact),
            None => (None, None),
        };
        let xattr = |(name, value): (&Vec<u8>, &Vec<u8>)| {
            (names::shown(name), BASE64_STANDARD.encode(value))
        };
        Details {
            kind: kind_word(&entry.kind),
            mode: format!("{:04o}", entry.mode),
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size(),
            mtime: time::rfc3339_exact(entry.mtime.seconds, entry.mtime.nanoseconds),
            target,
            target_base64,
            device: match &entry.kind {
                Kind::CharDevice(device) | Kind::BlockDevice(device) => {
                    Some(format!("{}:{}", device.major, device.minor))
                }
                _ => None,
            },
            xattrs: entry.xattrs.iter().map(xattr).collect(),
            layer: place.layer,
            layer_digest: place.layer.and_then(|layer| layer_digest(image, layer)),
        }
    }
}

/// The blob of a layer by its number.
pub fn layer_digest(image: &Image, layer: usize) -> Option<Digest> {
    image.manifest.layers.get(layer).map(|layer| layer.digest)
}

/// `drwxr-xr-t`, as `ls -l` has it.
pub fn mode_text(entry: &Entry) -> String {
    let kind = match entry.kind {
        Kind::File { .. } | Kind::Hardlink { .. } => '-',
        Kind::Directory => 'd',
        Kind::Symlink { .. } => 'l',
        Kind::CharDevice(_) => 'c',
        Kind::BlockDevice(_) => 'b',
        Kind::Fifo => 'p',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = entry.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (entry.mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_ls_writes_them() {
        for (mode, expected) in [
            (0o755, "-rwxr-xr-x"),
            (0o4755, "-rwsr-xr-x"),
            (0o6640, "-rwSr-S---"),
            (0o1777, "-rwxrwxrwt"),
            (0o1000, "---------T"),
        ] {
            let entry = Entry::new("x", Kind::File { size: 0 }, mode);
            assert_eq!(mode_text(&entry), expected);
        }
        assert!(mode_text(&Entry::new("x", Kind::Fifo, 0)).starts_with('p'));
    }
}

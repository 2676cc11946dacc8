//! A built image: its configuration, and its files as a container would see them.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use sha2::Digest;

use crate::support::decompressed;
use crate::support::rstore::hex;
use crate::support::tree::{self, Node};

/// A file and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub node: Node,
    /// Seconds since the epoch.
    pub modified: i64,
    /// The content of a small file.
    pub text: Option<String>,
}

pub type Files = BTreeMap<PathBuf, File>;

/// What a builder made.
pub struct Image {
    /// The whole configuration document.
    pub config: Value,
    pub files: Files,
}

/// Files this small are shown.
const SMALL: usize = 4096;

/// Reads a directory.
pub fn of_directory(root: &Path) -> Files {
    let mut nodes = tree::read(root);
    nodes.remove(Path::new(""));
    let file = |(path, node): (PathBuf, Node)| {
        let real = root.join(&path);
        let metadata = real.symlink_metadata().expect("a file");
        let small = metadata.is_file() && metadata.len() <= SMALL as u64;
        let text = small.then(|| std::fs::read(&real).expect("a file"));
        let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let modified = metadata.mtime();
        let file = File {
            node,
            modified,
            text,
        };
        (path, file)
    };
    nodes.into_iter().map(file).collect()
}

/// An inode of a stack of layers.
#[derive(Clone)]
struct Inode {
    mode: u32,
    owner: (u32, u32),
    content: String,
    text: Option<String>,
    modified: i64,
    xattrs: BTreeMap<std::ffi::OsString, Vec<u8>>,
}

/// Layers on top of each other.
#[derive(Default, Clone)]
struct Stack {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
}

/// Reads layers, the lowest first: tars of any compression (image-spec, layer.md).
pub fn of_layers(layers: &[Vec<u8>]) -> Files {
    let mut stack = Stack::default();
    for layer in layers {
        stack.apply(&decompressed(layer));
    }
    stack.files()
}

impl Stack {
    fn apply(&mut self, tar: &[u8]) {
        let mut archive = tar::Archive::new(tar);
        // Whiteouts speak of the layers below, wherever in the archive they stand.
        let mut fresh = Stack::default();
        for entry in archive.entries().expect("a tar") {
            let mut entry = entry.expect("an entry of a tar");
            let path = plain(&entry.path().expect("a path"));
            let Some(name) = path.file_name() else {
                continue;
            };
            let name = name.to_string_lossy().into_owned();
            let parent = path.parent().unwrap_or(Path::new("")).to_path_buf();
            if name == ".wh..wh..opq" {
                self.names
                    .retain(|path, _| *path == parent || !path.starts_with(&parent));
            } else if let Some(removed) = name.strip_prefix(".wh.") {
                let removed = parent.join(removed);
                self.names.retain(|path, _| !path.starts_with(&removed));
            } else if entry.header().entry_type().is_hard_link() {
                let target = plain(&entry.link_name().expect("a name").expect("a target"));
                let inode = fresh.names.get(&target).copied();
                let inode = inode.unwrap_or_else(|| panic!("{path:?}: no {target:?} before it"));
                fresh.names.insert(path, inode);
            } else {
                let inode = Inode::of(&mut entry);
                fresh.inodes.push(inode);
                fresh.names.insert(path, fresh.inodes.len() - 1);
            }
        }
        let first = self.inodes.len();
        self.inodes.extend(fresh.inodes);
        for (path, inode) in fresh.names {
            let inode = first + inode;
            let is_directory = self.inodes[inode].mode & 0o170_000 == 0o040_000;
            if !is_directory {
                self.names.retain(|other, _| !other.starts_with(&path));
            }
            self.names.insert(path, inode);
        }
    }

    fn files(self) -> Files {
        let mut first: BTreeMap<usize, PathBuf> = BTreeMap::new();
        let mut files = Files::new();
        for (path, number) in &self.names {
            let inode = &self.inodes[*number];
            let same_as = first.get(number).cloned();
            first.entry(*number).or_insert_with(|| path.clone());
            let node = Node {
                mode: inode.mode,
                owner: inode.owner,
                content: inode.content.clone(),
                same_as,
                xattrs: inode.xattrs.clone(),
            };
            let file = File {
                node,
                modified: inode.modified,
                text: inode.text.clone(),
            };
            files.insert(path.clone(), file);
        }
        files
    }
}

impl Inode {
    fn of(entry: &mut tar::Entry<&[u8]>) -> Inode {
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("an entry's content");
        let header = entry.header().clone();
        let number = |value: std::io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
        let device = || {
            let major = number(header.device_major());
            let minor = number(header.device_minor());
            format!("device {}", rustix::fs::makedev(major, minor))
        };
        let mut text = None;
        let (kind, content) = match header.entry_type() {
            tar::EntryType::Directory => (0o040_000, String::new()),
            tar::EntryType::Symlink => {
                let target = entry.link_name().expect("a name").expect("a target");
                (0o120_000, format!("-> {}", target.display()))
            }
            tar::EntryType::Char => (0o020_000, device()),
            tar::EntryType::Block => (0o060_000, device()),
            tar::EntryType::Fifo => (0o010_000, "device 0".to_owned()),
            _ => {
                if bytes.len() <= SMALL {
                    text = Some(String::from_utf8_lossy(&bytes).into_owned());
                }
                let hash = hex(&sha2::Sha256::digest(&bytes));
                (0o100_000, format!("{} bytes {hash}", bytes.len()))
            }
        };
        // A symbolic link's mode is no promise: Linux has none.
        let mode = match kind {
            0o120_000 => 0o777,
            _ => header.mode().expect("a mode") & 0o7777,
        };
        let (mut uid, mut gid) = (header.uid().expect("a uid"), header.gid().expect("a gid"));
        let mut modified = header.mtime().expect("a time") as i64;
        let mut xattrs = BTreeMap::new();
        for record in entry
            .pax_extensions()
            .expect("records")
            .into_iter()
            .flatten()
        {
            let record = record.expect("a record");
            let (key, value) = (record.key_bytes(), record.value_bytes());
            let decimal = || std::str::from_utf8(value).expect("digits");
            match key {
                b"uid" => uid = decimal().parse().expect("a uid"),
                b"gid" => gid = decimal().parse().expect("a gid"),
                b"mtime" => {
                    let seconds: f64 = decimal().parse().expect("a time");
                    modified = seconds.floor() as i64;
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        let name = String::from_utf8_lossy(name).into_owned();
                        xattrs.insert(name.into(), value.to_vec());
                    }
                }
            }
        }
        Inode {
            mode: kind | mode,
            owner: (uid as u32, gid as u32),
            content,
            text,
            modified,
            xattrs,
        }
    }
}

/// A path of an archive without `./`, `/` and a slash at its end.
fn plain(path: &Path) -> PathBuf {
    let normal = |component: &Component| matches!(component, Component::Normal(_));
    path.components().filter(normal).collect()
}

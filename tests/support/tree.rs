//! Two directories compared, file by file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::Digest;

use super::rstore::hex;

/// What a file is, but for its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Type and permissions, as `stat` has them.
    pub mode: u32,
    pub owner: (u32, u32),
    /// A link's target, a file's size and hash, a device's numbers.
    pub content: String,
    /// The first path, in order, of the same inode, where there are several.
    pub same_as: Option<PathBuf>,
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
}

/// A directory's files, by their paths below it.
pub type Tree = BTreeMap<PathBuf, Node>;

/// Reads a directory.
pub fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut inodes = BTreeMap::new();
    let walk = walkdir::WalkDir::new(root).sort_by_file_name();
    for entry in walk {
        let entry = entry.expect("a readable tree");
        let path = entry
            .path()
            .strip_prefix(root)
            .expect("below it")
            .to_path_buf();
        let metadata = entry.path().symlink_metadata().expect("a file");
        let kind = metadata.file_type();
        let content = if kind.is_symlink() {
            let target = fs::read_link(entry.path()).expect("a link");
            format!("-> {}", target.display())
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).expect("a file");
            format!(
                "{} bytes {}",
                bytes.len(),
                hex(&sha2::Sha256::digest(&bytes))
            )
        } else if kind.is_dir() {
            String::new()
        } else {
            format!("device {}", metadata.rdev())
        };
        let linked = !kind.is_dir() && metadata.nlink() > 1;
        let same_as = linked
            .then(|| {
                inodes
                    .entry(metadata.ino())
                    .or_insert_with(|| path.clone())
                    .clone()
            })
            .filter(|first| *first != path);
        let node = Node {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            content,
            same_as,
            xattrs: xattrs(entry.path()),
        };
        tree.insert(path, node);
    }
    tree
}

fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let names = names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    let read = |name: &[u8]| {
        let name = OsString::from_vec(name.to_vec());
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name.as_os_str(), &mut value[..]).ok()?;
        value.truncate(length);
        Some((name, value))
    };
    // Labels of the machine's security module are no part of an image.
    let of_machine =
        |name: &OsString| name == "security.selinux" || name == "user.rootlesscontainers";
    names
        .filter_map(read)
        .filter(|(name, _)| !of_machine(name))
        .collect()
}

/// How two trees differ, a line a file; empty if they don't.
pub fn difference(left: &Tree, right: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, node) in left {
        match right.get(path) {
            None => found.push(format!("only left:  {} {node:?}", path.display())),
            Some(other) if other != node => {
                found.push(format!(
                    "{}:\n  left:  {node:?}\n  right: {other:?}",
                    path.display()
                ));
            }
            Some(_) => {}
        }
    }
    let only_right = right.iter().filter(|(path, _)| !left.contains_key(*path));
    found.extend(only_right.map(|(path, node)| format!("only right: {} {node:?}", path.display())));
    found
}

/// The two are the same.
#[track_caller]
pub fn assert_same(left: &Tree, right: &Tree) {
    let found = difference(left, right);
    let some = &found[..found.len().min(20)];
    assert!(
        found.is_empty(),
        "{} differences:\n{}",
        found.len(),
        some.join("\n")
    );
}

//! Not a byte left, not an inode left: on a small ext4 of their own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::scenario::{assert_tidy, finish};
use crate::support::{self, BASE, Context, Need, Rstore, busybox_tar, need::program, skip_without};

/// A file system in a file, mounted as long as the value lives.
struct Small {
    directory: tempfile::TempDir,
}

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Loop,
    Need::Program("mkfs.ext4"),
    Need::Program("mount"),
];

impl Small {
    /// 64 MB with this many inodes.
    fn new(inodes: u32) -> Small {
        Small::of(64 << 20, inodes)
    }

    fn of(bytes: u64, inodes: u32) -> Small {
        let directory = support::scratch();
        let image = directory.path().join("image");
        fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        let count = inodes.to_string();
        // Without blocks for root alone: this test is root, and wants to see the end of the disk.
        support::run(
            program("mkfs.ext4")
                .args(["-q", "-F", "-m", "0", "-N", &count])
                .arg(&image),
        );
        let mount = directory.path().join("mount");
        fs::create_dir(&mount).unwrap();
        support::run(
            program("mount")
                .args(["-o", "loop"])
                .arg(&image)
                .arg(&mount),
        );
        // Made while there is an inode for it.
        fs::File::create(mount.join("ballast")).unwrap();
        Small { directory }
    }

    fn mount(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    fn store(&self) -> Rstore {
        Rstore::at(&self.mount().join("store"))
    }

    fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.mount()).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Takes every byte that is left.
    fn fill_bytes(&self) {
        let path = self.mount().join("ballast");
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            let block = vec![0x5a; size];
            while std::io::Write::write_all(&mut file, &block).is_ok() {}
        }
        assert_eq!(self.free_bytes(), 0);
    }

    /// Takes every inode that is left.
    fn fill_inodes(&self) {
        let directory = self.mount().join("ballast.d");
        fs::create_dir(&directory).unwrap();
        let mut number = 0;
        while fs::File::create(directory.join(number.to_string())).is_ok() {
            number += 1;
        }
        assert_eq!(rustix::fs::statvfs(self.mount()).unwrap().f_favail, 0);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let mut command: Command = program("umount");
        let _ = command.arg("-l").arg(self.mount()).status();
    }
}

/// An image with a name, and one that lost its to it, with a layer of 4 MiB each.
fn store_with_garbage(small: &Small) -> Rstore {
    let store = small.store();
    store.import(busybox_tar(), BASE);
    for (n, name) in [(1_u64, "old"), (2, "kept")] {
        let context = Context::new("FROM base\nCOPY file /file\n");
        context.file("file", noise(n));
        store.build(context.path(), &["-t", name]);
    }
    store.ok(["untag", "old"]);
    store
}

/// 4 MiB that no compression makes smaller.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..(4 << 20) / 8).flat_map(next).collect()
}

fn assert_pruned(small: &Small, store: &Rstore) {
    let kept = store.layers("kept:latest");
    let before = small.free_bytes();
    let pruned = store.run(["prune", "-f"]).ok();
    assert!(
        pruned.stdout.contains("Total reclaimed space: 4"),
        "{pruned}"
    );
    // The reserve is made again at the end, at most as large as what was gained.
    let gained = small.free_bytes() - before;
    assert!(gained > 3 << 20, "{gained} bytes: {pruned}");
    assert_eq!(store.layers("kept:latest"), kept);
    store.verify();
    store.run(["fsck"]).ok();
    assert_tidy(store, "pruned");
}

#[test]
fn a_prune_works_and_frees_with_no_byte_left() {
    if skip_without(NEEDS) {
        return;
    }
    let small = Small::new(8_000);
    let store = store_with_garbage(&small);
    small.fill_bytes();
    assert_pruned(&small, &store);
}

#[test]
fn a_prune_works_on_a_disk_that_is_too_small_for_a_whole_reserve_and_again() {
    if skip_without(NEEDS) {
        return;
    }
    let small = Small::of(32 << 20, 8_000);
    let store = store_with_garbage(&small);
    small.fill_bytes();
    assert_pruned(&small, &store);
    small.fill_bytes();
    store.ok(["rmi", "kept"]);
    assert_tidy(&store, "removed");
}

#[test]
fn a_prune_works_and_frees_with_no_inode_left() {
    if skip_without(NEEDS) {
        return;
    }
    let small = Small::new(2_000);
    let store = store_with_garbage(&small);
    small.fill_inodes();
    assert_pruned(&small, &store);
}

#[test]
fn looking_and_fsck_work_with_no_byte_and_no_inode_left() {
    if skip_without(NEEDS) {
        return;
    }
    let small = Small::new(2_000);
    let store = store_with_garbage(&small);
    small.fill_inodes();
    small.fill_bytes();
    for arguments in [
        &["images", "-a"][..],
        &["df"],
        &["why", "kept"],
        &["prune", "-n"],
        &["fsck"],
    ] {
        store.ok(arguments);
    }
    assert_pruned(&small, &store);
}

/// A build that runs out of bytes: in its own writing, or in that of a command that it runs.
fn assert_says_what_helps(dockerfile: &str, file: Option<Vec<u8>>) {
    if skip_without(NEEDS) {
        return;
    }
    let small = Small::new(8_000);
    let store = store_with_garbage(&small);
    let (blobs, tags) = (store.blobs(), store.tags());
    let context = Context::new(dockerfile);
    if let Some(bytes) = file {
        context.file("file", bytes);
    }
    let room = small.mount().join("room");
    fs::write(&room, vec![1; 3 << 20]).unwrap();
    small.fill_bytes();
    fs::remove_file(&room).unwrap();
    let mut command = store.command();
    command
        .args(["build", "--progress", "classic", "-t", "victim"])
        .arg(context.path());
    let failed = finish(command);
    assert!(failed.code > 0, "{failed}");
    for words in ["the disk is full", "prune` would free 4."] {
        assert!(failed.stderr.contains(words), "no {words:?} in {failed}");
    }
    assert_eq!(store.debris(), Vec::<PathBuf>::new(), "{failed}");
    assert_eq!(store.tags(), tags);
    store.run(["fsck"]).ok();
    store.ok(["prune", "-f"]);
    assert_tidy(&store, "pruned");
    assert!(store.blobs().is_subset(&blobs), "{failed}");
    fs::remove_file(small.mount().join("ballast")).unwrap();
    store.build(context.path(), &["-t", "victim"]);
    store.verify();
}

#[test]
fn a_copy_that_fills_the_disk_leaves_nothing_and_says_what_helps() {
    assert_says_what_helps("FROM base\nCOPY file /file\n", Some(noise(3)));
}

#[test]
fn a_run_that_fills_the_disk_leaves_nothing_and_says_what_helps() {
    let text = "FROM base\nRUN dd if=/dev/urandom of=/file bs=65536 count=100 && sync\n";
    assert_says_what_helps(text, None);
}

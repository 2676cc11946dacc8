//! Processes, mounts and allocated bytes, as the kernel tells them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The processes whose environment, at their start, held `mark`.
///
/// A test gives the mark to rstore and, by `ENV`, to the steps, so that it finds both.
pub fn processes_with(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc") {
        let directory = entry.expect("an entry").path();
        let Ok(environment) = fs::read(directory.join("environ")) else {
            continue;
        };
        if !environment
            .windows(mark.len())
            .any(|window| window == mark.as_bytes())
        {
            continue;
        }
        let command = fs::read(directory.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        found.push(format!("{} {command}", directory.display()));
    }
    found
}

/// Waits until no process holds `mark` any more; those that do after `patience`.
pub fn processes_left(mark: &str, patience: Duration) -> Vec<String> {
    wait(patience, || processes_with(mark), Vec::is_empty)
}

/// Waits until every lease of the store at `root` is free; those that are held after `patience`.
/// Whoever was forked by a process that is killed holds what it held until it is dead too.
pub fn leases_left(root: &Path, patience: Duration) -> Vec<String> {
    let held = || {
        let entries = fs::read_dir(root.join("rstore/leases"));
        let paths = entries.into_iter().flatten().flatten().map(|e| e.path());
        let is_held = |path: &std::path::PathBuf| {
            let operation = rustix::fs::FlockOperation::NonBlockingLockExclusive;
            fs::File::open(path).is_ok_and(|file| rustix::fs::flock(&file, operation).is_err())
        };
        let held = paths.filter(is_held);
        held.map(|path| path.display().to_string()).collect()
    };
    wait(patience, held, Vec::is_empty)
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let so = wait(Duration::from_secs(60), is_so, |so| *so);
    assert!(so, "never happened: {what}");
}

/// Asks until the answer is good, or `patience` is at its end; the last answer.
fn wait<T>(patience: Duration, ask: impl Fn() -> T, good: impl Fn(&T) -> bool) -> T {
    let began = Instant::now();
    loop {
        let answer = ask();
        if good(&answer) || began.elapsed() > patience {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until nothing of `path` is mounted anywhere; what is after `patience`. A process that
/// is dying has its mounts for a moment longer than its memory.
pub fn mounts_left(path: &Path, patience: Duration) -> BTreeSet<String> {
    wait(patience, || mounts_of(path), BTreeSet::is_empty)
}

/// The mounts, in any mount namespace of the machine, that name `path`.
pub fn mounts_of(path: &Path) -> BTreeSet<String> {
    let path = path.to_str().expect("UTF-8");
    let mut namespaces = BTreeSet::new();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").expect("/proc") {
        let directory = entry.expect("an entry").path();
        let Ok(namespace) = fs::read_link(directory.join("ns/mnt")) else {
            continue;
        };
        if !namespaces.insert(namespace) {
            continue;
        }
        let mounts = fs::read_to_string(directory.join("mountinfo")).unwrap_or_default();
        found.extend(
            mounts
                .lines()
                .filter(|line| line.contains(path))
                .map(str::to_owned),
        );
    }
    found
}

/// Allocated bytes below a directory, it included, every inode once: what `du -s -B1` says.
pub fn allocated(root: &Path) -> u64 {
    allocated_but(root, |_| false)
}

/// The same without the files that `left_out` names.
pub fn allocated_but(root: &Path, left_out: impl Fn(&Path) -> bool) -> u64 {
    let mut seen = BTreeSet::new();
    let count = |path: PathBuf| {
        let Ok(metadata) = path.symlink_metadata() else {
            return 0;
        };
        match seen.insert((metadata.dev(), metadata.ino())) {
            true => metadata.blocks() * 512,
            false => 0,
        }
    };
    let walk = walkdir::WalkDir::new(root).into_iter().flatten();
    let paths = walk.map(walkdir::DirEntry::into_path);
    paths.filter(|path| !left_out(path)).map(count).sum()
}

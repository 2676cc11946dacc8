//! How fast layers are packed and unpacked, beside `tar -c DIR | sha256sum` in the same run:
//!
//! ```text
//! cargo run --release --example bench_layers -- DIR
//! ```

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rstore::fsutil::open_dir;
use rstore::layer::{
    Compression, DiffOptions, Expected, Packed, Target, UnpackOptions, diff, pack, unpack,
};

fn main() {
    let Some(tree) = std::env::args_os().nth(1) else {
        eprintln!("usage: bench_layers DIR");
        std::process::exit(2);
    };
    tiny_layers();
    beside_tar(&PathBuf::from(tree));
}

fn timed<T>(what: &str, run: impl Fn() -> T) -> T {
    let mut best = (Duration::MAX, Duration::MAX);
    let mut last = None;
    for _ in 0..3 {
        let start = (Instant::now(), processor_time());
        last = Some(run());
        best = best.min((start.0.elapsed(), processor_time() - start.1));
    }
    let (wall, processor) = (best.0.as_secs_f64(), best.1.as_secs_f64());
    println!("{what:24} {wall:7.3} s, this process' processors {processor:7.3} s");
    last.unwrap()
}

/// What all threads of this process have used; on a busy machine it says more than the clock.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn pack_tree(tree: &Path, compression: Compression) -> (Packed, Vec<u8>) {
    let root = open_dir(tree).unwrap();
    let options = DiffOptions::default();
    let out = Vec::with_capacity(512 << 20);
    pack(compression, out, |tar| {
        diff::trees(None, root.as_fd(), &options, tar)
    })
    .unwrap()
}

fn beside_tar(tree: &Path) {
    let place = tempfile::tempdir_in(tree.parent().unwrap()).unwrap();
    timed("tar | sha256sum", || {
        let line = format!("tar -c -C {} . | sha256sum", tree.display());
        assert!(
            Command::new("sh")
                .args(["-c", &line])
                .output()
                .unwrap()
                .status
                .success()
        );
    });
    for text in [
        "none", "zstd:1", "zstd:3", "gzip:1", "gzip:2", "gzip:3", "gzip:6",
    ] {
        let compression: Compression = text.parse().unwrap();
        let (packed, blob) = timed(&format!("pack {text}"), || pack_tree(tree, compression));
        println!(
            "    {} entries, {} MB of content, tar {} MB, blob {} MB",
            packed.entries,
            packed.content_size >> 20,
            packed.unpacked_size >> 20,
            packed.size >> 20
        );
        let expected = Expected {
            digest: Some(packed.digest),
            size: Some(packed.size),
            diff_id: Some(packed.diff_id),
        };
        let number = std::cell::Cell::new(0);
        let options = UnpackOptions {
            target: Target::Plain,
            ignore_unmapped_owners: false,
        };
        timed(&format!("unpack {text}"), || {
            number.set(number.get() + 1);
            let root = place.path().join(format!("{text}-{}", number.get()));
            std::fs::create_dir(&root).unwrap();
            unpack(
                blob.as_slice(),
                open_dir(&root).unwrap().as_fd(),
                &options,
                &expected,
            )
            .unwrap()
        });
    }
}

/// What a step costs that changes one small file.
fn tiny_layers() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("file"), "content").unwrap();
    for text in ["none", "zstd:1", "gzip:6"] {
        let compression: Compression = text.parse().unwrap();
        let start = Instant::now();
        for _ in 0..1000 {
            let root = open_dir(place.path()).unwrap();
            let options = DiffOptions::default();
            pack(compression, Vec::new(), |tar| {
                diff::trees(None, root.as_fd(), &options, tar)
            })
            .unwrap();
        }
        println!(
            "tiny layer, {text:8} {:6.1} µs",
            start.elapsed().as_secs_f64() * 1000.0
        );
    }
}

//! What the tests that build images share.
//!
//! * [`rstore`]: the program with a store of its own, and what lies in that store, read without it
//! * [`artifacts`]: signatures and SBOMs, and a registry that lists them
//! * [`context`]: a directory to build from
//! * [`http`]: servers of files and repositories
//! * [`need`]: what a test cannot do without; it skips loudly, or fails in CI
//! * [`registry`]: a registry, and one that misbehaves
//! * [`tree`]: two directories compared, file by file
//! * [`peers`]: skopeo, umoci, buildah, podman, docker
//! * [`terminal`]: the program in a terminal, whose screen tests read; [`gate`]: what steps wait at
//! * [`machine`]: processes, mounts, allocated bytes
//! * [`user`]: an ordinary user, made for one test

pub mod artifacts;
pub mod context;
pub mod gate;
pub mod http;
pub mod machine;
pub mod need;
pub mod peers;
pub mod registry;
pub mod rstore;
pub mod terminal;
pub mod tree;
pub mod user;

pub use context::Context;
pub use need::{Need, skip_without};
pub use rstore::{Finished, Rstore};

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The name that [`Rstore::with_base`] gives the busybox image.
pub const BASE: &str = "base:latest";

/// The package.
pub fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where what several runs share is kept; `cargo clean` removes it.
pub fn kept() -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&directory).expect("target is writable");
    directory
}

/// A directory that goes when the value does.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("rstore-test-")
        .tempdir()
        .expect("a temporary directory")
}

/// A tar of a root file system of static busybox, made once per process.
pub fn busybox_tar() -> &'static Path {
    static TAR: OnceLock<PathBuf> = OnceLock::new();
    TAR.get_or_init(|| made_by("busybox-rootfs.sh", "busybox.tar"))
}

/// A tar of a small Debian with tcc and libc6-dev. Made once: it is downloaded.
pub fn debian_tar() -> PathBuf {
    match kept().join("debian.tar") {
        tar if tar.exists() => tar,
        _ => made_by("debian-rootfs.sh", "debian.tar"),
    }
}

/// Runs a script of `fixtures/` that writes one file; the file appears whole or not at all.
fn made_by(script: &str, name: &str) -> PathBuf {
    let finished = kept().join(name);
    let partial = kept().join(format!("{name}.{}", std::process::id()));
    run(Command::new(package().join("fixtures").join(script)).arg(&partial));
    std::fs::rename(&partial, &finished).expect("rename within a directory");
    finished
}

/// Runs a command that is no subject of the test; its failure is the test's.
pub fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The tar in a layer of any compression.
pub fn decompressed(layer: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut tar = Vec::new();
    let read = match layer {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            zstd::Decoder::new(layer).and_then(|mut l| l.read_to_end(&mut tar))
        }
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(layer).read_to_end(&mut tar),
        _ => return layer.to_vec(),
    };
    read.expect("a whole layer");
    tar
}

/// A number from the environment, so that long tests can be shortened while working on them.
pub fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => default,
    }
}

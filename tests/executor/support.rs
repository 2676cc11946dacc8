//! A busybox root to run steps in.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rstore::executor::{Cancel, Error, Executor, Native, Outcome, Step, Stream, stubs};
use rstore::snapshot::overlay;

/// Says loudly that a test did not run, and fails where that isn't allowed.
pub fn skip(why: &str) {
    assert!(
        std::env::var_os("RSTORE_TEST_NO_SKIP").is_none(),
        "may not skip: {why}"
    );
    eprintln!("SKIP: {why}");
}

/// The static busybox of the distribution.
pub fn busybox() -> Option<&'static Path> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    found.into_iter().find(|path| path.exists())
}

/// Whether steps can be run by this process.
pub fn may_run() -> bool {
    if !rustix::process::geteuid().is_root() {
        skip("these tests run steps as root; the rootless ones make a user for themselves");
        return false;
    }
    if busybox().is_none() {
        skip("no /bin/busybox: install busybox-static");
        return false;
    }
    true
}

/// An image of one layer over the stubs, and an upper directory.
pub struct Image {
    pub dir: tempfile::TempDir,
}

impl Image {
    pub fn new() -> Image {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let image = Image { dir };
        fill(&image.lower());
        stubs::ensure(&image.path("stubs")).unwrap();
        image
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The image's layer.
    pub fn lower(&self) -> PathBuf {
        self.path("lower")
    }

    /// Where a step's changes go.
    pub fn upper(&self) -> PathBuf {
        self.path("upper")
    }

    /// A writable root over the layer and the stubs.
    pub fn root(&self) -> OwnedFd {
        self.root_over(&[self.lower(), self.path("stubs")])
    }

    pub fn root_over(&self, lowers: &[PathBuf]) -> OwnedFd {
        let work = self.path("work");
        for dir in [&self.upper(), &work] {
            let _ = rstore::fsutil::remove_tree(dir);
            fs::create_dir(dir).unwrap();
        }
        let options = overlay::Options {
            volatile: true,
            userxattr: false,
        };
        overlay::mount(lowers, Some((&self.upper(), &work)), options).unwrap()
    }

    /// A step that runs `script` by the root's shell.
    pub fn sh(&self, script: &str) -> Step {
        Step::new(self.root(), ["/bin/sh", "-c", script])
    }
}

/// busybox and its applets as links.
pub fn fill(root: &Path) {
    for name in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy(busybox().unwrap(), root.join("bin/busybox")).unwrap();
    let applets = [
        "sh", "true", "cat", "ls", "id", "env", "pwd", "hostname", "sleep", "grep", "mount",
        "unshare", "readlink", "stat", "touch", "mkdir", "rm", "mv", "chown", "ip", "ps", "dd",
        "kill", "wc", "head", "mkfifo", "test", "chroot", "mknod", "dmesg", "umount", "chmod",
    ];
    for applet in applets {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
}

/// What a step wrote and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub outcome: Outcome,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn code(&self) -> i32 {
        self.outcome.exit.code()
    }
}

pub fn try_run(step: Step) -> Result<Ran, Error> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let outcome = Native.run(
        step,
        &Cancel::new().unwrap(),
        &mut |stream, chunk| match stream {
            Stream::Stdout => stdout.extend_from_slice(chunk),
            Stream::Stderr => stderr.extend_from_slice(chunk),
        },
    )?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran {
        outcome,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

pub fn run(step: Step) -> Ran {
    try_run(step).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs `step` and wants success; its standard output.
pub fn output(step: Step) -> String {
    let ran = run(step);
    assert_eq!(ran.code(), 0, "{}{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// `KEY=value` as a step's environment has it.
pub fn env(key: &str, value: &str) -> (OsString, OsString) {
    (key.into(), value.into())
}

/// The example `run_step`, built if it must be (`cargo test --test executor` builds none).
pub fn run_step() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // target/PROFILE/deps/executor-HASH
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", "run_step", "--target-dir"]);
        cargo.arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success());
        profile.join("examples/run_step")
    })
}

/// The kernel's version.
pub fn linux() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// How many processes of the machine have this word in their command line.
pub fn processes_with(word: &str) -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return 0;
    };
    let command_lines = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(())?;
        std::fs::read(entry.path().join("cmdline")).ok()
    });
    command_lines
        .filter(|line| String::from_utf8_lossy(line).contains(word))
        .count()
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "never happened: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A number of seconds that no other sleep on this machine has.
pub fn unique_sleep(salt: u32) -> String {
    format!("{}.{salt}", 100_000 + std::process::id())
}

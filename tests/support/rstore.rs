//! The program, with a store of its own, and what lies in that store, read without the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sha2::Digest;

use super::{BASE, busybox_tar, scratch};

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rstore");

/// A store that goes when the value does.
pub struct Rstore {
    root: PathBuf,
    _directory: Option<tempfile::TempDir>,
}

/// What a command came to.
#[derive(Debug)]
pub struct Finished {
    /// The command, to be shown.
    pub command: String,
    /// The exit code, or minus the signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Of a command that ended.
    pub fn new(command: &Command, output: &Output) -> Finished {
        let signal = || output.status.signal().map_or(-1, |signal| -signal);
        Finished {
            command: format!("{command:?}"),
            code: output.status.code().unwrap_or_else(signal),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Both streams.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Itself, having succeeded.
    #[track_caller]
    pub fn ok(self) -> Finished {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// Itself, having failed with this code and with words to say, all of these among them.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Finished {
        assert_eq!(self.code, code, "{self}");
        assert!(!self.stderr.contains("panicked"), "{self}");
        assert!(!self.stderr.trim().is_empty(), "{self}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in: {self}");
        }
        self
    }

    /// How many steps of a build, shown as `classic`, came from the cache.
    pub fn cached(&self) -> usize {
        self.stderr.matches("---> Using cache").count()
    }

    /// How many steps of a build, shown as `classic`, ran a command.
    pub fn ran(&self) -> usize {
        self.stderr.matches("---> Running in").count()
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Finished {
            command,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "{command}: exit {code}\n--- stdout\n{stdout}--- stderr\n{stderr}"
        )
    }
}

impl Rstore {
    /// A store that is not there yet.
    pub fn new() -> Rstore {
        let directory = scratch();
        Rstore {
            root: directory.path().join("store"),
            _directory: Some(directory),
        }
    }

    /// A store with the busybox image [`BASE`].
    pub fn with_base() -> Rstore {
        let store = Rstore::new();
        store.import(busybox_tar(), BASE);
        store
    }

    /// A store with the base of another one, of the same ID.
    pub fn beside(other: &Rstore) -> Rstore {
        let store = Rstore::new();
        let base = Rstore::with_base_of(other);
        store.ok(["load".as_ref(), "-i".as_ref(), base.path().as_os_str()]);
        store
    }

    /// A layout with nothing but the base of another store, which has an ID of its own.
    pub fn with_base_of(other: &Rstore) -> tempfile::TempDir {
        let directory = scratch();
        let base = other.manifest(BASE);
        let digests = base["layers"].as_array().expect("layers").iter();
        let digests = digests
            .chain([&base["config"]])
            .map(|part| text(&part["digest"]));
        let blobs = directory.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("a directory");
        for digest in digests.chain([other.digest(BASE)]) {
            let blob = other.blob(&digest);
            fs::copy(&blob, blobs.join(blob.file_name().expect("a name"))).expect("a copy");
        }
        let mut index: Value =
            serde_json::from_slice(&fs::read(other.root.join("index.json")).expect("index.json"))
                .expect("JSON");
        let name =
            |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"] == BASE;
        let entries = index["manifests"].as_array_mut().expect("entries");
        entries.retain(name);
        fs::write(directory.path().join("index.json"), index.to_string()).expect("index.json");
        let layout = r#"{"imageLayoutVersion":"1.0.0"}"#;
        fs::write(directory.path().join("oci-layout"), layout).expect("oci-layout");
        directory
    }

    /// The same, its layer compressed so that every peer reads it.
    pub fn with_gzip_base() -> Rstore {
        let store = Rstore::new();
        let import = ["import", "--compression", "gzip"].map(std::ffi::OsStr::new);
        store.ok(import
            .into_iter()
            .chain([busybox_tar().as_os_str(), BASE.as_ref()]));
        store
    }

    /// The store at `root`, which somebody else removes.
    pub fn at(root: &Path) -> Rstore {
        Rstore {
            root: root.to_path_buf(),
            _directory: None,
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The program, set on this store, deaf to the variables of whoever runs the tests.
    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        for variable in ["RSTORE_PROGRESS", "BUILDKIT_PROGRESS", "SOURCE_DATE_EPOCH"] {
            command.env_remove(variable);
        }
        command.env("NO_COLOR", "1").env("RSTORE_ROOT", &self.root);
        // Whatever this machine's says.
        command.env("RSTORE_CONFIG", "/dev/null");
        command
    }

    /// Runs the program.
    pub fn run<A: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Finished {
        let mut command = self.command();
        let output = command.args(arguments).output().expect("rstore runs");
        Finished::new(&command, &output)
    }

    /// Runs the program, which succeeds; its standard output.
    #[track_caller]
    pub fn ok<A: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        self.run(arguments).ok().stdout
    }

    /// What a list says as JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(arguments.iter().chain(&["--format", "json"]));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    #[track_caller]
    pub fn import(&self, tar: &Path, name: &str) {
        self.ok(["import".as_ref(), tar.as_os_str(), name.as_ref()]);
    }

    /// `rstore build --progress classic ARGUMENTS CONTEXT`, however it ends.
    pub fn try_build(&self, context: &Path, arguments: &[&str]) -> Finished {
        let mut command = self.command();
        command.args(["build", "--progress", "classic"]);
        command.args(arguments).arg(context);
        let output = command.output().expect("rstore runs");
        Finished::new(&command, &output)
    }

    /// A build that succeeds.
    #[track_caller]
    pub fn build(&self, context: &Path, arguments: &[&str]) -> Finished {
        self.try_build(context, arguments).ok()
    }

    fn document(&self, digest: &str) -> Value {
        let bytes = fs::read(self.blob(digest)).unwrap_or_else(|error| panic!("{digest}: {error}"));
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{digest}: {error}"))
    }

    /// The file of a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a sha256 digest");
        self.root.join("blobs/sha256").join(hex)
    }

    /// Tags and the digests of their manifests, from `index.json`.
    pub fn tags(&self) -> BTreeMap<String, String> {
        let began = std::time::Instant::now();
        let index: Value = loop {
            let Ok(bytes) = fs::read(self.root.join("index.json")) else {
                return BTreeMap::new();
            };
            match serde_json::from_slice(&bytes) {
                Ok(index) => break index,
                // skopeo empties the file and then writes it.
                Err(_) if began.elapsed() < std::time::Duration::from_secs(2) => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                Err(error) => panic!("index.json is JSON: {error}"),
            }
        };
        let entries = index["manifests"].as_array().cloned().unwrap_or_default();
        let tag = |entry: &Value| {
            let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str()?;
            Some((name.to_owned(), entry["digest"].as_str()?.to_owned()))
        };
        entries.iter().filter_map(tag).collect()
    }

    /// The digest of a tag's manifest.
    #[track_caller]
    pub fn digest(&self, tag: &str) -> String {
        match self.tags().get(tag) {
            Some(digest) => digest.clone(),
            None => panic!("no tag {tag} among {:?}", self.tags()),
        }
    }

    /// The manifest of a tag.
    #[track_caller]
    pub fn manifest(&self, tag: &str) -> Value {
        self.document(&self.digest(tag))
    }

    /// The configuration of a tag.
    #[track_caller]
    pub fn config(&self, tag: &str) -> Value {
        self.document(&self.id(tag))
    }

    /// The ID of a tag's image: the digest of its configuration.
    #[track_caller]
    pub fn id(&self, tag: &str) -> String {
        text(&self.manifest(tag)["config"]["digest"])
    }

    /// The digests of a tag's layers, lowest first.
    #[track_caller]
    pub fn layers(&self, tag: &str) -> Vec<String> {
        let manifest = self.manifest(tag);
        let layers = manifest["layers"].as_array().expect("layers").iter();
        layers.map(|layer| text(&layer["digest"])).collect()
    }

    /// Every blob, by name.
    pub fn blobs(&self) -> BTreeSet<String> {
        let directory = self.root.join("blobs/sha256");
        let entries = fs::read_dir(directory).into_iter().flatten();
        entries
            .map(|entry| {
                entry
                    .expect("a blob")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }

    /// Every tagged image is whole, and every blob is what its name says.
    #[track_caller]
    pub fn verify(&self) {
        for blob in self.blobs() {
            let path = self.root.join("blobs/sha256").join(&blob);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                // A prune beside the test.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => panic!("{}: {error}", path.display()),
            };
            let digest = super::rstore::hex(&sha2::Sha256::digest(&bytes));
            assert_eq!(digest, blob, "{} has other bytes", path.display());
        }
        for tag in self.tags().keys() {
            self.whole(tag);
        }
    }

    /// Everything that a tag's image is made of is there, with its size.
    #[track_caller]
    pub fn whole(&self, tag: &str) {
        let manifest = self.manifest(tag);
        let layers = manifest["layers"].as_array().expect("layers");
        for part in layers.iter().chain([&manifest["config"]]) {
            let path = self.blob(part["digest"].as_str().expect("a digest"));
            let size = fs::metadata(&path).map(|metadata| metadata.len());
            assert_eq!(
                size.ok(),
                part["size"].as_u64(),
                "{tag}: {}",
                path.display()
            );
        }
    }

    /// Everything that a tag's image is made of is there, and is what its digest says.
    #[track_caller]
    pub fn intact(&self, tag: &str) {
        let digest = self.digest(tag);
        let manifest = self.document(&digest);
        let layers = manifest["layers"].as_array().expect("layers");
        let parts = layers.iter().chain([&manifest["config"]]);
        let parts = parts.map(|part| text(&part["digest"]));
        for part in parts.chain([digest]) {
            let path = self.blob(&part);
            let bytes = fs::read(&path);
            let bytes = bytes.unwrap_or_else(|error| panic!("{tag}: {}: {error}", path.display()));
            let actual = hex(&sha2::Sha256::digest(&bytes));
            assert_eq!(format!("sha256:{actual}"), part, "{tag}");
        }
    }

    /// Names of files that only exist while something runs: containers, ingest, leases, siblings
    /// of an atomic replacement.
    pub fn debris(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for directory in ["containers", "ingest", "leases"] {
            let entries = fs::read_dir(self.root.join("rstore").join(directory));
            found.extend(
                entries
                    .into_iter()
                    .flatten()
                    .map(|entry| entry.expect("an entry").path()),
            );
        }
        let entries = fs::read_dir(&self.root).into_iter().flatten();
        let names = entries.map(|entry| entry.expect("an entry").path());
        found.extend(names.filter(|path| path.extension().is_some_and(|suffix| suffix == "tmp")));
        found
    }
}

/// The text of a JSON string.
#[track_caller]
pub fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no string"))
        .to_owned()
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Stores for tests, written by hand: no network, no root, no build.
//!
//! What is written looks as if another tool had put it there two days ago, so that no grace
//! protects it. Nothing in it depends on the time: digests are the same in every run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use rstore::oci::{Digest, media};
use serde_json::{Value, json};

/// A layout that is being written.
pub struct Sample {
    directory: tempfile::TempDir,
}

/// A layer: its blob and its tar's digest.
#[derive(Clone, Copy)]
pub struct Layer {
    pub digest: Digest,
    pub diff_id: Digest,
    pub size: u64,
}

/// An image: its manifest.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    pub digest: Digest,
    pub id: Digest,
    pub size: u64,
}

/// What an image is made of.
#[derive(Default)]
pub struct Recipe<'a> {
    pub layers: &'a [Layer],
    pub steps: &'a [&'a str],
    pub labels: &'a [(&'a str, &'a str)],
    pub parent: Option<Image>,
    pub stages: &'a [Image],
}

impl Sample {
    /// An empty layout.
    pub fn new() -> Sample {
        let sample = Sample {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(sample.blobs()).unwrap();
        fs::write(
            sample.root().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        sample.write_index(&[]);
        sample
    }

    /// The store's directory.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// `blobs/sha256`.
    pub fn blobs(&self) -> PathBuf {
        self.root().join("blobs/sha256")
    }

    /// Writes a blob.
    pub fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = self.blobs().join(digest.hex());
        fs::write(&path, bytes).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 86_400);
        file.set_modified(two_days_ago).unwrap();
        digest
    }

    /// Writes an uncompressed layer with one file.
    pub fn layer(&self, name: &str, length: usize) -> Layer {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(length as u64);
        header.set_mode(0o644);
        let content = name.as_bytes().iter().copied().cycle().take(length);
        let content: Vec<u8> = content.collect();
        builder
            .append_data(&mut header, name, content.as_slice())
            .unwrap();
        let bytes = builder.into_inner().unwrap();
        let digest = self.blob(&bytes);
        Layer {
            digest,
            diff_id: digest,
            size: bytes.len() as u64,
        }
    }

    /// Writes a layer of an archive, compressed by `compress`.
    pub fn layer_of(&self, archive: &[u8], compress: impl Fn(&[u8]) -> Vec<u8>) -> Layer {
        let bytes = compress(archive);
        Layer {
            digest: self.blob(&bytes),
            diff_id: Digest::of(archive),
            size: bytes.len() as u64,
        }
    }

    /// Writes an image.
    pub fn image(&self, recipe: &Recipe) -> Image {
        let mut layers_left = recipe.layers.len();
        let history: Vec<Value> = recipe
            .steps
            .iter()
            .map(|step| {
                let empty = layers_left == 0 || step.starts_with("CMD") || step.starts_with("ENV");
                layers_left -= usize::from(!empty);
                json!({ "created_by": step, "empty_layer": empty })
            })
            .collect();
        let labels: BTreeMap<&str, &str> = recipe.labels.iter().copied().collect();
        let diff_ids: Vec<Digest> = recipe.layers.iter().map(|layer| layer.diff_id).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": { "Labels": labels, "Env": ["PATH=/bin"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": history,
        });
        let config = serde_json::to_vec(&config).unwrap();
        let id = self.blob(&config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media::MANIFEST,
            "config": { "mediaType": media::CONFIG, "digest": id, "size": config.len() },
            "layers": recipe.layers.iter().map(|layer| json!({
                "mediaType": media::LAYER, "digest": layer.digest, "size": layer.size,
            })).collect::<Vec<_>>(),
            "annotations": annotations(recipe),
        });
        let manifest = serde_json::to_vec(&manifest).unwrap();
        Image {
            digest: self.blob(&manifest),
            id,
            size: manifest.len() as u64,
        }
    }

    /// Writes an index of images, each for an architecture.
    pub fn index(&self, members: &[(&str, Image)]) -> Image {
        let members: Vec<Value> = members
            .iter()
            .map(|(architecture, image)| {
                json!({
                    "mediaType": media::MANIFEST, "digest": image.digest, "size": image.size,
                    "platform": { "os": "linux", "architecture": architecture },
                })
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": members });
        let index = serde_json::to_vec(&index).unwrap();
        let digest = self.blob(&index);
        Image {
            digest,
            id: digest,
            size: index.len() as u64,
        }
    }

    /// Replaces `index.json` by one that names images.
    pub fn write_index(&self, tags: &[(&str, Image)]) {
        self.write_entries(tags, media::MANIFEST);
    }

    /// Replaces `index.json` by one that names indexes.
    pub fn write_index_of(&self, tags: &[(&str, Image)]) {
        self.write_entries(tags, media::INDEX);
    }

    fn write_entries(&self, tags: &[(&str, Image)], media_type: &str) {
        let entries: Vec<Value> = tags
            .iter()
            .map(|(name, image)| {
                json!({
                    "mediaType": media_type,
                    "digest": image.digest,
                    "size": image.size,
                    "annotations": { "org.opencontainers.image.ref.name": name },
                })
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "manifests": entries });
        fs::write(self.root().join("index.json"), index.to_string()).unwrap();
    }

    /// Runs rstore on it.
    pub fn rstore(&self, arguments: &[&str]) -> Run {
        let root = self.root();
        let mut all = vec!["--root", root.to_str().unwrap()];
        all.extend(arguments);
        rstore(&all)
    }

    /// Runs rstore on it, which must go well, and gives what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let run = self.rstore(arguments);
        assert_eq!(run.code, 0, "rstore {arguments:?}: {}", run.stderr);
        run.stdout
    }

    /// Like [`Sample::ok`], read as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// Every blob's digest.
    pub fn digests(&self) -> Vec<String> {
        let entries = fs::read_dir(self.blobs()).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| {
            format!("sha256:{}", entry.unwrap().file_name().to_str().unwrap())
        };
        let mut digests: Vec<String> = entries.map(name).collect();
        digests.sort();
        digests
    }
}

fn annotations(recipe: &Recipe) -> BTreeMap<&'static str, String> {
    let mut annotations = BTreeMap::new();
    if let Some(parent) = recipe.parent {
        annotations.insert("dev.rstore.parent", parent.digest.to_string());
    }
    if let Some(step) = recipe.steps.last() {
        annotations.insert("dev.rstore.step", (*step).to_owned());
    }
    if !recipe.stages.is_empty() {
        let stages: Vec<String> = recipe.stages.iter().map(|s| s.digest.to_string()).collect();
        annotations.insert("dev.rstore.stages", stages.join(","));
    }
    annotations
}

/// What a run of the program gave.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The program, with nothing in its environment that changes what it prints.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rstore"));
    for variable in [
        "RSTORE_ROOT",
        "RSTORE_PROGRESS",
        "BUILDKIT_PROGRESS",
        "SOURCE_DATE_EPOCH",
        "COLUMNS",
        "NO_COLOR",
    ] {
        command.env_remove(variable);
    }
    // Whatever this machine's says.
    command.env("RSTORE_CONFIG", "/dev/null");
    command
}

/// Runs the program.
pub fn rstore(arguments: &[&str]) -> Run {
    run(program().args(arguments))
}

/// Runs a prepared program.
pub fn run(command: &mut Command) -> Run {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run {
        code: status.code().unwrap_or(-1),
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

/// A text whose ages are left out, with columns one gap apart: the same in every run.
pub fn steady(text: &str) -> String {
    let ages = regex::Regex::new(r"(About an? \w+|Less than a second|\d+ \w+) ago").unwrap();
    let gaps = regex::Regex::new(r" {3,}").unwrap();
    let text = ages.replace_all(text, "[ago]");
    gaps.replace_all(&text, "   ").into_owned()
}

/// Bytes below a directory as `du` counts them.
pub fn du(root: &Path) -> u64 {
    let output = Command::new("du")
        .args(["-s", "--block-size=1"])
        .arg(root)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// A store with one of everything.
///
/// ```text
/// base:latest ─┬─ builder (stage)
///              ├─ copied (intermediate, copied from builder) ── app:latest, app:1
///              └─ old (dangling, with a layer of its own)
/// and a layer that nothing points at
/// ```
pub struct Everything {
    pub sample: Sample,
    pub base: Image,
    pub builder: Image,
    pub copied: Image,
    pub app: Image,
    pub old: Image,
    pub old_layer: Layer,
    pub stray: Layer,
}

impl Everything {
    pub fn new() -> Everything {
        let sample = Sample::new();
        let system = sample.layer("system", 40_000);
        let built = sample.layer("built", 20_000);
        let binary = sample.layer("binary", 10_000);
        let old_layer = sample.layer("old", 30_000);
        let stray = sample.layer("stray", 5_000);
        let base = sample.image(&Recipe {
            layers: &[system],
            steps: &["IMPORT rootfs.tar"],
            ..Recipe::default()
        });
        let builder = sample.image(&Recipe {
            layers: &[system, built],
            steps: &["IMPORT rootfs.tar", "RUN make"],
            parent: Some(base),
            ..Recipe::default()
        });
        let copied = sample.image(&Recipe {
            layers: &[system, binary],
            steps: &["IMPORT rootfs.tar", "COPY --from=builder /app /app"],
            parent: Some(base),
            stages: &[builder],
            ..Recipe::default()
        });
        let app = sample.image(&Recipe {
            layers: &[system, binary],
            steps: &[
                "IMPORT rootfs.tar",
                "COPY --from=builder /app /app",
                "CMD [\"/app\"]",
            ],
            labels: &[("team", "blue"), ("tier", "web")],
            parent: Some(copied),
            ..Recipe::default()
        });
        let old = sample.image(&Recipe {
            layers: &[system, old_layer],
            steps: &["IMPORT rootfs.tar", "RUN make old"],
            parent: Some(base),
            ..Recipe::default()
        });
        sample.write_index(&[("base:latest", base), ("app:latest", app), ("app:1", app)]);
        Everything {
            sample,
            base,
            builder,
            copied,
            app,
            old,
            old_layer,
            stray,
        }
    }
}

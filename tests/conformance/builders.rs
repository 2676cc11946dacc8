//! The builders: rstore, buildah and, where the environment names one, BuildKit.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::case::{CONTEXT, Case, SERVER};
use crate::image::{self, Image};
use crate::judge::{self, Built, Verdict};
use crate::setup;
use crate::support::http::Server;
use crate::support::need::program;
use crate::support::{Context, Finished, Rstore, peers, run, scratch};

/// Everything that cases are built by.
pub struct Builders {
    store: Rstore,
    /// Another store with the same images.
    second: Rstore,
    buildah: Buildah,
    buildkit: Option<String>,
    /// What URLs of the cases lead to.
    server: Server,
    built: AtomicUsize,
}

/// A case with all that a run gives it.
struct Given<'a> {
    case: &'a Case,
    context: &'a Context,
    /// The case's options, and that which names its Dockerfile.
    arguments: Vec<String>,
    /// The context as a tar, where it is read from standard input.
    tar: Option<tempfile::TempDir>,
}

impl Given<'_> {
    fn new<'a>(case: &'a Case, context: &'a Context, server: &str) -> Given<'a> {
        let directory = context.path().display().to_string();
        let given = |argument: &&str| {
            let argument = argument.replace(CONTEXT, &directory);
            argument.replace(SERVER, server)
        };
        let mut arguments: Vec<String> = case.arguments.iter().map(given).collect();
        if let Some(name) = case.named {
            let inside = match case.piped {
                true => name.into(),
                false => context.path().join(name),
            };
            arguments.push(format!("--file={}", inside.display()));
        }
        let tar = case.piped.then(|| {
            let work = scratch();
            run(Command::new("tar")
                .args(["--sort=name", "--create", "--file"])
                .arg(work.path().join("context.tar"))
                .arg("--directory")
                .arg(context.path())
                .arg("."));
            work
        });
        Given {
            case,
            context,
            arguments,
            tar,
        }
    }

    /// Gives a command the options and the context.
    fn to(&self, command: &mut Command) {
        command.args(&self.arguments);
        match &self.tar {
            None => command.arg(self.context.path()),
            Some(work) => {
                let tar = File::open(work.path().join("context.tar")).expect("a tar");
                command.arg("-").stdin(Stdio::from(tar))
            }
        };
    }
}

impl Builders {
    pub fn new() -> Builders {
        let store = Rstore::new();
        setup::images(&store);
        let second = Rstore::new();
        let buildah = Buildah::new();
        for (name, _) in setup::IMAGES {
            setup::copy(store.root(), second.root(), name);
            buildah.take(store.root(), name);
        }
        Builders {
            store,
            second,
            buildah,
            buildkit: std::env::var("RSTORE_CONFORMANCE_BUILDKIT").ok(),
            server: setup::server(),
            built: AtomicUsize::new(0),
        }
    }

    /// Builds a case by all of them, and judges it.
    pub fn judge(&self, case: &Case) -> Verdict {
        let judged = std::panic::AssertUnwindSafe(|| self.judge_or_panic(case));
        std::panic::catch_unwind(judged).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let said = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            Verdict {
                ours: "?",
                theirs: "?",
                word: "FAIL",
                details: vec![said.unwrap_or_else(|| "a panic".to_owned())],
            }
        })
    }

    fn judge_or_panic(&self, case: &Case) -> Verdict {
        let number = self.built.fetch_add(1, Ordering::Relaxed);
        let server = self.server.http("");
        let server = server.trim_end_matches('/');
        let context = case.context(number, server);
        let given = Given::new(case, &context, server);
        let began = now();
        let tag = format!("case-{number}:latest");
        let ours = ours(&self.store, &given, &tag);
        let theirs = self.buildah.build(&given);
        let differs = case.difference.as_ref().is_some_and(|difference| {
            let later = |version| self.buildah.version >= version;
            !difference.until.is_some_and(later)
        });
        let mut verdict = judge::judge(case, &ours, &theirs, began, differs);
        if case.twice {
            let again = ours_again(&self.second, &given, &tag);
            let first = self.store.tags().get(&tag).cloned();
            if first.is_none() || first != again {
                verdict.details.push(format!(
                    "two stores come to two digests: {first:?}, {again:?}"
                ));
            }
        }
        if let (Some(address), None) = (&self.buildkit, case.unlike_buildkit) {
            let theirs = buildkit(address, &self.store, &given);
            let details = judge::against_buildkit(case, &ours, &theirs, began);
            let said = details.iter().map(|detail| format!("BuildKit: {detail}"));
            verdict.details.extend(said);
        }
        if !verdict.details.is_empty() {
            verdict.word = "FAIL";
        }
        verdict
    }
}

/// Seconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs() as i64
}

fn ours(store: &Rstore, given: &Given, tag: &str) -> Built {
    let finished = ours_with(store, given, tag, &["--no-cache"]);
    if finished.code != 0 {
        assert!(!finished.stderr.contains("panicked"), "{finished}");
        return Built::Refused(finished.all());
    }
    let layers = store.layers(tag);
    let read = |digest: &String| fs::read(store.blob(digest)).expect("a layer");
    let layers: Vec<Vec<u8>> = layers.iter().map(read).collect();
    Built::Image(Box::new(Image {
        config: store.config(tag),
        files: image::of_layers(&layers),
    }))
}

fn ours_with(store: &Rstore, given: &Given, tag: &str, more: &[&str]) -> Finished {
    let mut command = store.command();
    command
        .args(["build", "--progress", "classic", "--compression", "none"])
        .args(["-t", tag])
        .args(more);
    given.to(&mut command);
    let output = command.output().expect("rstore runs");
    Finished::new(&command, &output)
}

/// The digest that another store comes to.
fn ours_again(store: &Rstore, given: &Given, tag: &str) -> Option<String> {
    ours_with(store, given, tag, &[]);
    store.tags().get(tag).cloned()
}

/// buildah with overlays in a directory of its own.
struct Buildah {
    directory: tempfile::TempDir,
    version: (u32, u32),
}

impl Buildah {
    fn new() -> Buildah {
        let directory = scratch();
        let accept = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        fs::write(directory.path().join("policy.json"), accept).expect("a policy");
        fs::create_dir(directory.path().join("tmp")).expect("a directory");
        let text = run(program("buildah").arg("--version"));
        let version = text.split_whitespace().nth(2).expect("a version");
        let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Buildah { directory, version }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Takes an image from a layout.
    fn take(&self, layout: &Path, name: &str) {
        let (root, run) = (self.path("root"), self.path("run"));
        let storage = format!("overlay@{}+{}", root.display(), run.display());
        let source = format!("oci:{}:{name}:latest", layout.display());
        let target = format!("containers-storage:[{storage}]localhost/{name}:latest");
        peers::skopeo(&["copy", "-q", &source, &target]);
    }

    fn build(&self, given: &Given) -> Built {
        let work = scratch();
        let id = work.path().join("id");
        let mut command = program("buildah");
        command
            .arg("--root")
            .arg(self.path("root"))
            .arg("--runroot")
            .arg(self.path("run"))
            .args(["--storage-driver", "overlay", "bud", "--layers=false"])
            // The format that keeps HEALTHCHECK, ONBUILD and SHELL.
            .args(["--pull-never", "--format", "docker", "--iidfile"])
            .arg(&id)
            .arg("--signature-policy")
            .arg(self.path("policy.json"))
            .env("BUILDAH_ISOLATION", "chroot")
            // Its cache mounts are there: no run finds those of another.
            .env("TMPDIR", self.path("tmp"))
            .env_remove("SOURCE_DATE_EPOCH");
        given.to(&mut command);
        let output = command.output().expect("buildah runs");
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            return Built::Refused(String::from_utf8_lossy(&said).into_owned());
        }
        let id = fs::read_to_string(id).expect("an ID");
        let id = id.trim().trim_start_matches("sha256:");
        Built::Image(Box::new(self.image(id, work.path())))
    }

    /// Reads an image of the storage where it lies: `overlay-images/images.json` names its top
    /// layer, and each layer in `overlay/` the ones below it.
    fn image(&self, id: &str, work: &Path) -> Image {
        let images = self.path("root/overlay-images");
        let list: Value = json(&fs::read(images.join("images.json")).expect("images.json"));
        let list = list.as_array().expect("a list");
        let entry = list.iter().find(|image| image["id"] == id);
        let entry = entry.unwrap_or_else(|| panic!("buildah has no image {id}"));
        let config = fs::read_dir(images.join(id))
            .expect("an image")
            .filter_map(|file| fs::read(file.expect("an entry").path()).ok())
            .filter_map(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
            .find(|document| document["rootfs"].is_object())
            .expect("a configuration");
        let files = match entry["layer"].as_str() {
            Some(layer) => self.files(layer, work),
            None => Default::default(),
        };
        Image { config, files }
    }

    fn files(&self, layer: &str, work: &Path) -> image::Files {
        let overlay = self.path("root/overlay");
        let mut lowers = vec![overlay.join(layer).join("diff")];
        if let Ok(below) = fs::read_to_string(overlay.join(layer).join("lower")) {
            lowers.extend(below.trim().split(':').map(|link| overlay.join(link)));
        }
        if let [only] = &lowers[..] {
            return image::of_directory(only);
        }
        let merged = Merged::mount(&lowers, &work.join("merged"));
        image::of_directory(&merged.0)
    }
}

impl Drop for Buildah {
    /// What is mounted cannot be removed with the directory: the storage itself, and the containers
    /// of builds that failed.
    fn drop(&mut self) {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        let ours = points.filter(|point| Path::new(point).starts_with(self.directory.path()));
        let mut ours: Vec<&str> = ours.collect();
        ours.sort_unstable_by_key(|point| std::cmp::Reverse(point.len()));
        for point in ours {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// Directories on top of each other, the highest first, for as long as the value lives.
struct Merged(PathBuf);

impl Merged {
    fn mount(lowers: &[PathBuf], at: &Path) -> Merged {
        fs::create_dir(at).expect("a mount point");
        let real = |path: &PathBuf| path.canonicalize().expect("a layer").display().to_string();
        let lowers: Vec<String> = lowers.iter().map(real).collect();
        let options = format!("lowerdir={}", lowers.join(":"));
        run(Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o"])
            .arg(format!("ro,{options}"))
            .arg(at));
        Merged(at.to_path_buf())
    }
}

impl Drop for Merged {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// Builds by the daemon of BuildKit at an address.
fn buildkit(address: &str, store: &Rstore, given: &Given) -> Built {
    let (case, context) = (given.case, given.context);
    let work = scratch();
    let path = context.path().display();
    let mut command = program("buildctl");
    command
        .args(["--addr", address, "build", "--progress=plain", "--no-cache"])
        .args(["--frontend", "dockerfile.v0"])
        .arg(format!("--local=context={path}"))
        .arg(format!("--local=dockerfile={path}"))
        .arg(format!("--oci-layout=images={}", store.root().display()));
    for (name, _) in setup::IMAGES {
        let digest = store.digest(&format!("{name}:latest"));
        command.arg(format!("--opt=context:{name}=oci-layout://images@{digest}"));
    }
    let layout = work.path().join("layout");
    if let Some(name) = case.named {
        command.arg(format!("--opt=filename={name}"));
    }
    command
        .args(options_of_buildkit(&given.arguments))
        .arg(format!("--output={}", output_of_buildkit(case, &layout)));
    let output = command.output().expect("buildctl runs");
    if !output.status.success() {
        return Built::Refused(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let layout = Rstore::at(&layout);
    let index = json(&fs::read(layout.root().join("index.json")).expect("index.json"));
    let read =
        |digest: &Value| fs::read(layout.blob(digest.as_str().expect("a digest"))).expect("a blob");
    let manifest = json(&read(&index["manifests"][0]["digest"]));
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let layers: Vec<Vec<u8>> = layers.map(|layer| read(&layer["digest"])).collect();
    Built::Image(Box::new(Image {
        config: json(&read(&manifest["config"]["digest"])),
        files: image::of_layers(&layers),
    }))
}

/// A layout, whose times are rewritten where a case names one: the default leaves files alone.
fn output_of_buildkit(case: &Case, layout: &Path) -> String {
    let has_time = |argument: &&str| argument.starts_with("--timestamp");
    let rewrite = case.arguments.iter().any(has_time);
    format!(
        "type=oci,tar=false,rewrite-timestamp={rewrite},dest={}",
        layout.display()
    )
}

/// What `docker build` makes of its options for BuildKit.
fn options_of_buildkit(arguments: &[String]) -> Vec<String> {
    let mut options = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, value),
            None => (word.as_str(), words.next().expect("a value").as_str()),
        };
        let (name, value) = match flag {
            "--build-arg" | "--label" => {
                let (key, value) = value.split_once('=').unwrap_or((value, ""));
                (format!("{}:{key}", flag.trim_start_matches('-')), value)
            }
            // Told by its name in the context already.
            "--file" => continue,
            "--secret" | "--ssh" => {
                options.push(format!("{flag}={value}"));
                continue;
            }
            "--build-context" => {
                let (name, at) = value.split_once('=').expect("NAME=WHERE");
                let place = match at.contains("://") {
                    true => at.to_owned(),
                    false => {
                        options.push(format!("--local={name}={at}"));
                        format!("local:{name}")
                    }
                };
                options.push(format!("--opt=context:{name}={place}"));
                continue;
            }
            "--timestamp" => ("build-arg:SOURCE_DATE_EPOCH".to_owned(), value),
            "--add-host" => {
                let host = value.replace(':', "=");
                options.push(format!("--opt=add-hosts={host}"));
                continue;
            }
            flag => (flag.trim_start_matches('-').to_owned(), value),
        };
        options.push(format!("--opt={name}={value}"));
    }
    options
}

//! A thousand tagged images, listed by `rstore images`, `podman images` and `docker images`.
//!
//! The images have ten layers each, which they share, and configs as long as real ones: what is timed
//! is how long it takes to say what is there. All load the same archives (`docker load`'s format), a hundred images
//! each, until `LOAD_SECONDS` are over; the table says how many each has got.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rstore::oci::Digest;
use serde_json::{Value, json};

use super::{Docker, Outcome, Rstore, find, median, run, time};

/// How many archives there are, and how many images are in each.
const ARCHIVES: usize = 10;
const IMAGES: usize = 100;
/// How many layers an image has.
const LAYERS: usize = 10;
/// When a peer is given no further archive.
const LOAD_SECONDS: u64 = 120;
/// How often each lists; the first time warms up and does not count where there are others.
const ROUNDS: usize = 11;
/// How long one may take for all its rounds; whoever is slower has fewer.
const LIST_SECONDS: u64 = 60;

/// Somebody who lists images.
trait Lister {
    fn name(&self) -> String;
    /// The command that runs with these arguments.
    fn command(&self, arguments: &[&str]) -> Command;
}

impl Lister for Rstore {
    fn name(&self) -> String {
        "rstore images".to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Rstore::command(self);
        command.args(arguments);
        command
    }
}

impl Lister for Rc<Docker> {
    fn name(&self) -> String {
        "docker images".to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Docker::command(self);
        command.args(arguments);
        command
    }
}

struct Podman {
    program: PathBuf,
    directory: PathBuf,
    driver: &'static str,
}

impl Podman {
    /// With the storage driver that works here.
    fn new(work: &Path) -> Outcome<Podman> {
        let program = find("podman").ok_or("not installed")?;
        let mut why = String::new();
        for driver in ["overlay", "vfs"] {
            let podman = Podman {
                program: program.clone(),
                directory: work.join("podman").join(driver),
                driver,
            };
            match run(&mut podman.command(&["images"])) {
                Ok(_) => return Ok(podman),
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

impl Lister for Podman {
    fn name(&self) -> String {
        format!("podman images ({})", self.driver)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--storage-driver", self.driver, "--events-backend", "none"]);
        command.arg("--root").arg(self.directory.join("root"));
        command.arg("--runroot").arg(self.directory.join("run"));
        command.arg("--tmpdir").arg(self.directory.join("tmp"));
        command.args(arguments);
        command
    }
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, bytes)
}

/// A layer of one file, and its diff ID.
fn layer(name: &str) -> std::io::Result<(Digest, Vec<u8>)> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, name, name.as_bytes())?;
    let bytes = layer.into_inner()?;
    Ok((Digest::of(&bytes), bytes))
}

/// The config of an image on these layers: as long as those of images that people run, with a
/// step without a layer for every second one with.
fn config(number: usize, diff_ids: &[Digest]) -> String {
    let created = format!("2026-01-{:02}T{:02}:00:00Z", 1 + number % 28, number % 24);
    let mut history = Vec::new();
    for step in 0..diff_ids.len() {
        history.push(json!({
            "created": created,
            "created_by": format!("RUN /bin/sh -c apt-get update && apt-get install -y \
                --no-install-recommends part-{step} && rm -rf /var/lib/apt/lists/* # buildkit"),
            "comment": "buildkit.dockerfile.v0",
        }));
        if step % 2 == 1 {
            history.push(json!({
                "created": created, "created_by": format!("ENV PART_{step}=/opt/part-{step}"),
                "comment": "buildkit.dockerfile.v0", "empty_layer": true,
            }));
        }
    }
    json!({
        "architecture": "amd64", "os": "linux", "created": created,
        "config": {
            "Cmd": ["/usr/bin/app", "--serve"], "WorkingDir": "/srv", "User": "1000:1000",
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG=C.UTF-8"],
            "ExposedPorts": { "8080/tcp": {} },
            "Labels": {
                "number": number.to_string(),
                "org.opencontainers.image.source": "https://example.org/bench/app",
                "org.opencontainers.image.version": format!("1.{number}"),
            },
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history,
    })
    .to_string()
}

/// An archive of images, the first of which has this number. All of them share the first half of
/// their layers with those of every archive.
fn write_archive(path: &Path, first: usize) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(File::create(path)?);
    let (mut diff_ids, mut files) = (Vec::new(), Vec::new());
    for place in 0..LAYERS {
        let group = if place < LAYERS / 2 { 0 } else { first };
        let (diff_id, bytes) = layer(&format!("layer-{group}-{place}"))?;
        files.push(format!("{}.tar", diff_id.hex()));
        append(&mut archive, &files[place], &bytes)?;
        diff_ids.push(diff_id);
    }
    let mut manifest: Vec<Value> = Vec::new();
    for number in first..first + IMAGES {
        let config = config(number, &diff_ids);
        let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
        append(&mut archive, &name, config.as_bytes())?;
        manifest.push(json!({
            "Config": name,
            "RepoTags": [format!("localhost/bench/app{number}:1")],
            "Layers": files,
        }));
    }
    append(
        &mut archive,
        "manifest.json",
        Value::from(manifest).to_string().as_bytes(),
    )?;
    archive.finish()
}

/// Loads archives until the time is over. Returns how many images are listed then.
fn load(lister: &dyn Lister, archives: &[PathBuf]) -> Outcome<usize> {
    let began = Instant::now();
    for archive in archives {
        let path = archive.to_string_lossy();
        run(&mut lister.command(&["load", "-i", &path]))?;
        if began.elapsed() > Duration::from_secs(LOAD_SECONDS) {
            break;
        }
    }
    let listed = run(&mut lister.command(&["images", "-q"]))?;
    Ok(listed.lines().count())
}

/// Lists, and prints the table.
pub fn bench(work: &Path, docker: Option<Rc<Docker>>) -> Outcome<()> {
    let mut archives = Vec::new();
    for number in 0..ARCHIVES {
        let path = work.join(format!("images-{number}.tar"));
        write_archive(&path, number * IMAGES).map_err(|error| error.to_string())?;
        archives.push(path);
    }
    let mut listers: Vec<(Box<dyn Lister>, usize)> = Vec::new();
    let ours = Rstore::at(work.join("rstore-listing"))?;
    let count = load(&ours, &archives)?;
    listers.push((Box::new(ours), count));
    match Podman::new(work).and_then(|podman| Ok((load(&podman, &archives)?, podman))) {
        Ok((count, podman)) => listers.push((Box::new(podman), count)),
        Err(why) => println!("without podman: {why}"),
    }
    let docker = match docker {
        Some(docker) => Ok(docker),
        None => Docker::start(work).and_then(|mut docker| {
            docker.connect(|_| Ok(()))?;
            Ok(Rc::new(docker))
        }),
    };
    match docker.and_then(|docker| Ok((load(&docker, &archives)?, docker))) {
        Ok((count, docker)) => listers.push((Box::new(docker), count)),
        Err(why) => println!("without docker: {why}"),
    }
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); listers.len()];
    for _ in 0..ROUNDS {
        for ((lister, _), times) in listers.iter().zip(&mut times) {
            if times.iter().sum::<Duration>() < Duration::from_secs(LIST_SECONDS) {
                times.push(time(&mut lister.command(&["images"]))?);
            }
        }
    }
    for times in times.iter_mut().filter(|times| times.len() > 1) {
        times.remove(0);
    }
    println!("\nimages listed; medians, interleaved");
    println!(
        "\n{:<28}{:>10}{:>10}{:>12}{:>10}",
        "", "images", "rounds", "time", "times"
    );
    let first = median(&times[0]).as_secs_f64();
    for ((lister, count), times) in listers.iter().zip(&times) {
        let seconds = median(times).as_secs_f64();
        println!(
            "{:<28}{count:>10}{:>10}{:>9.1} ms{:>10.1}",
            lister.name(),
            times.len(),
            seconds * 1000.0,
            seconds / first
        );
    }
    Ok(())
}

//! A thousand tagged images, listed by `rstore images`, `podman images` and `docker images`.
//!
//! The images are tiny, share their layer and differ in their configs: what is timed is how long it
//! takes to say what is there. All load the same archives (`docker load`'s format), a hundred images
//! each, until `LOAD_SECONDS` are over; the table says how many each has got.

use std::fs::File;
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
/// When a peer is given no further archive.
const LOAD_SECONDS: u64 = 120;
/// How often each lists; the first time warms up and does not count where there are others.
const ROUNDS: usize = 11;
/// When no further round is begun.
const LIST_SECONDS: u64 = 120;

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

fn append(archive: &mut tar::Builder<File>, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, bytes)
}

/// An archive of images, the first of which has this number.
fn write_archive(path: &Path, first: usize) -> std::io::Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(6);
    header.set_mode(0o644);
    layer.append_data(&mut header, "hello", &b"hello\n"[..])?;
    let layer = layer.into_inner()?;
    let diff_id = Digest::of(&layer);
    let mut archive = tar::Builder::new(File::create(path)?);
    let mut manifest: Vec<Value> = Vec::new();
    append(&mut archive, "layer.tar", &layer)?;
    for number in first..first + IMAGES {
        let created = format!("2026-01-{:02}T{:02}:00:00Z", 1 + number % 28, number % 24);
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": created,
            "config": { "Cmd": ["/bin/sh"], "Labels": { "number": number.to_string() } },
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
            "history": [{ "created": created, "created_by": "ADD hello /" }],
        })
        .to_string();
        let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
        append(&mut archive, &name, config.as_bytes())?;
        manifest.push(json!({
            "Config": name,
            "RepoTags": [format!("localhost/bench/app{number}:1")],
            "Layers": ["layer.tar"],
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
    let (began, mut rounds) = (Instant::now(), 0);
    while rounds < ROUNDS && (rounds == 0 || began.elapsed() < Duration::from_secs(LIST_SECONDS)) {
        for ((lister, _), times) in listers.iter().zip(&mut times) {
            times.push(time(&mut lister.command(&["images"]))?);
        }
        rounds += 1;
    }
    if rounds > 1 {
        for times in &mut times {
            times.remove(0);
        }
    }
    println!("\nimages listed; median of {}, interleaved", times[0].len());
    println!("\n{:<28}{:>10}{:>12}{:>10}", "", "images", "time", "times");
    let first = median(&times[0]).as_secs_f64();
    for ((lister, count), times) in listers.iter().zip(&times) {
        let seconds = median(times).as_secs_f64();
        println!(
            "{:<28}{count:>10}{:>9.1} ms{:>10.1}",
            lister.name(),
            seconds * 1000.0,
            seconds / first
        );
    }
    Ok(())
}

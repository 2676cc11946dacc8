//! `make bench-gc`: copies of one synthetic layout, half of it garbage, collected by rstore, by
//! `umoci gc`, by `find -delete` of the same files, and by a plain loop that reads the directory
//! and unlinks them: the floor.
//!
//! ```text
//! bench_gc DIRECTORY [BLOBS ...]      measures, below a DIRECTORY that it makes and removes
//! bench_gc generate DIRECTORY BLOBS   makes one layout, and leaves it
//! bench_gc loop DIRECTORY [LIST]      the plain loop; without a list it only reads
//! ```
//! A layout is of images with 18 layers of their own, which is 20 small files each. Every second
//! one has a tag; nothing holds the others. Garbage was last written in 2001 and the rest in 2003,
//! so that `find` can tell it, and no grace spares it. The same arguments give the same bytes.
//!
//! `RSTORE` names the program, which should be one that was compiled for speed. A contender that
//! takes longer than `BENCH_GC_SECONDS` (600) is ended, and the table says so. `BENCH_GC_ROUNDS` (3)
//! says how often layouts of at most 100,000 blobs are measured; the table has the medians.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rstore::oci::Digest;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT};
use serde_json::{Value, json};

/// Layers of an image that no other image has.
const LAYERS: usize = 18;
/// Blobs of an image: its layers, config and manifest.
const EACH: usize = LAYERS + 2;
/// When garbage was last written: 2001-09-09.
const OLD: i64 = 1_000_000_000;
/// When the rest was.
const YOUNG: i64 = 1_050_000_000;

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let usage = "bench_gc DIRECTORY [BLOBS ...] | generate DIRECTORY BLOBS | loop DIRECTORY [LIST]";
    let number = |text: &OsString| -> usize {
        text.to_str()
            .and_then(|text| text.parse().ok())
            .expect(usage)
    };
    match arguments.as_slice() {
        [verb, directory, blobs] if verb == "generate" => {
            generate(Path::new(directory), number(blobs));
        }
        [verb, directory] if verb == "loop" => plain_loop(Path::new(directory), None),
        [verb, directory, list] if verb == "loop" => {
            plain_loop(Path::new(directory), Some(Path::new(list)));
        }
        [directory, sizes @ ..] => {
            let sizes: Vec<usize> = sizes.iter().map(number).collect();
            let sizes = match sizes.is_empty() {
                true => vec![10_000, 100_000, 1_000_000],
                false => sizes,
            };
            measure(Path::new(directory), &sizes);
        }
        [] => panic!("{usage}"),
    }
}

// -- the layout -------------------------------------------------------------------------------

/// Makes a layout of so many blobs. Beside it, `DIRECTORY.garbage` lists the names that go.
fn generate(root: &Path, blobs: usize) {
    let directory = root.join("blobs/sha256");
    fs::create_dir_all(&directory).expect("create the layout's directory");
    let marker = r#"{"imageLayoutVersion":"1.0.0"}"#;
    fs::write(root.join("oci-layout"), marker).expect("write oci-layout");
    let list = File::create(list_of(root)).expect("create the list");
    let mut list = BufWriter::new(list);
    let mut entries = Vec::new();
    for number in 0..blobs / EACH {
        let garbage = number % 2 == 1;
        let mut put = |text: &str, media_type: &str| {
            let digest = Digest::of(text.as_bytes());
            let path = directory.join(digest.hex());
            fs::write(&path, text).expect("write a blob");
            set_time(&path, if garbage { OLD } else { YOUNG });
            if garbage {
                writeln!(list, "{}", digest.hex()).expect("write the list");
            }
            json!({ "mediaType": media_type, "digest": digest, "size": text.len() })
        };
        let mut entry = image(number, &mut put);
        if !garbage {
            let name = format!("team{}/app{number}:1.{}", number % 12, number % 7);
            entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
            entries.push(entry);
        }
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    });
    fs::write(root.join("index.json"), index.to_string()).expect("write index.json");
    list.flush().expect("write the list");
}

fn image(number: usize, put: &mut dyn FnMut(&str, &str) -> Value) -> Value {
    let layer = |place: usize| format!("layer {place} of image {number}, which is no archive");
    let layers: Vec<Value> = (0..LAYERS)
        .map(|place| put(&layer(place), "application/vnd.oci.image.layer.v1.tar+gzip"))
        .collect();
    let diff_ids: Vec<Digest> = (0..LAYERS)
        .map(|place| Digest::of(format!("tar of {}", layer(place)).as_bytes()))
        .collect();
    let config = json!({
        "created": "2026-01-02T03:04:05Z",
        "architecture": "amd64",
        "os": "linux",
        "config": { "Cmd": ["/bin/sh"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = put(
        &config.to_string(),
        "application/vnd.oci.image.config.v1+json",
    );
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers,
    });
    put(&manifest.to_string(), media_type)
}

fn set_time(path: &Path, seconds: i64) {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(0, UTIME_OMIT),
        last_modification: time(seconds, 0),
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()).expect("set a file's time");
}

fn list_of(root: &Path) -> PathBuf {
    root.with_extension("garbage")
}

// -- the floor --------------------------------------------------------------------------------

/// Reads `blobs/sha256`, and unlinks what the list names, in the directory's own order.
fn plain_loop(root: &Path, list: Option<&Path>) {
    let garbage: HashSet<String> = list.map_or_else(HashSet::new, |list| {
        let file = BufReader::new(File::open(list).expect("open the list"));
        file.lines().map(|line| line.expect("a line")).collect()
    });
    let directory = root.join("blobs/sha256");
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let handle = rustix::fs::open(&directory, flags, rustix::fs::Mode::empty()).expect("open");
    let reader = rustix::fs::open(&directory, flags, rustix::fs::Mode::empty()).expect("open");
    let mut buffer = Vec::with_capacity(256 << 10);
    let mut entries = rustix::fs::RawDir::new(reader, buffer.spare_capacity_mut());
    let (mut seen, mut gone) = (0, 0);
    while let Some(entry) = entries.next() {
        let entry = entry.expect("read the directory");
        let name = entry.file_name();
        if name.to_bytes().starts_with(b".") {
            continue;
        }
        seen += 1;
        if name.to_str().is_ok_and(|name| garbage.contains(name)) {
            rustix::fs::unlinkat(&handle, name, AtFlags::empty()).expect("unlink");
            gone += 1;
        }
    }
    println!("{gone} of {seen}");
}

// -- measuring --------------------------------------------------------------------------------

/// What one run took.
#[derive(Debug, Clone, Copy)]
struct Taken {
    wall: Duration,
    cpu: Duration,
    /// Bytes.
    memory: u64,
    /// It was ended.
    cut: bool,
    /// How many blobs were left.
    left: usize,
}

/// Runs a command to its end, or to the limit.
fn timed(mut command: Command, root: &Path) -> Taken {
    let limit = Duration::from_secs(setting("BENCH_GC_SECONDS", 600) as u64);
    let directory = File::open(root).expect("the layout");
    rustix::fs::syncfs(&directory).expect("sync");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let began = Instant::now();
    #[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let id = child.id();
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let cut = waiting.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if cut {
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
        }
        cut
    });
    let (status, usage) = wait(id);
    let wall = began.elapsed();
    let _ = done.send(());
    let cut = watch.join().expect("the watch");
    assert!(cut || status.success(), "{command:?}: {status}");
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    Taken {
        wall,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        memory: usage.ru_maxrss as u64 * 1024,
        cut,
        left: fs::read_dir(root.join("blobs/sha256"))
            .expect("the blobs")
            .count(),
    }
}

/// Waits for a child, and asks what it used: the standard library does not.
fn wait(id: u32) -> (ExitStatus, libc::rusage) {
    let mut status = 0;
    // SAFETY: all bits zero are a value of this plain structure.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that outlive the call.
    let waited = unsafe { libc::wait4(id as libc::pid_t, &mut status, 0, &mut usage) };
    assert_eq!(waited, id as libc::pid_t, "wait4");
    (ExitStatus::from_raw(status), usage)
}

fn setting(name: &str, default: usize) -> usize {
    let value = std::env::var(name).ok();
    value.map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).map(|place| place.join(name));
    places.into_iter().find(|file| file.is_file())
}

/// One of those that are compared.
struct Contender {
    name: &'static str,
    /// Whether it has a copy of its own, or goes on with that of the one before it.
    own_copy: bool,
    /// What of the files it leaves: half of them, or all that it finds.
    collects: bool,
    command: Box<dyn Fn(&Path) -> Command>,
}

fn contenders() -> Vec<Contender> {
    let itself = std::env::current_exe().expect("this program");
    let again = itself.clone();
    let program = std::env::var_os("RSTORE")
        .map(PathBuf::from)
        .or(find_program("rstore"));
    let program = program.expect("RSTORE says which rstore");
    let rstore = move |arguments: &'static [&'static str]| -> Box<dyn Fn(&Path) -> Command> {
        let program = program.clone();
        Box::new(move |root| {
            let mut command = Command::new(&program);
            command
                .args(arguments)
                .env("RSTORE_ROOT", root)
                .stderr(Stdio::null());
            command
        })
    };
    let contender = |name, own_copy, collects, command| Contender {
        name,
        own_copy,
        collects,
        command,
    };
    let mut all = vec![
        contender(
            "plain loop: read the directory",
            true,
            false,
            Box::new(move |root: &Path| {
                let mut command = Command::new(&itself);
                command.arg("loop").arg(root);
                command
            }) as Box<dyn Fn(&Path) -> Command>,
        ),
        contender(
            "plain loop: read it and unlink",
            false,
            true,
            Box::new(move |root: &Path| {
                let mut command = Command::new(&again);
                command.arg("loop").arg(root).arg(list_of(root));
                command
            }),
        ),
        contender(
            "find -delete",
            true,
            true,
            Box::new(|root: &Path| {
                let mut command = Command::new("find");
                command.arg(root.join("blobs/sha256"));
                command.args(["-type", "f", "!", "-newermt", "2002-01-01", "-delete"]);
                command
            }),
        ),
        contender(
            "rstore: first look at a foreign layout",
            true,
            false,
            rstore(&["images", "-a"]),
        ),
        contender("rstore prune", false, true, rstore(&["prune", "-f"])),
        contender(
            "rstore prune again: nothing to do",
            false,
            false,
            rstore(&["prune", "-f"]),
        ),
        contender(
            "rstore prune -n: the whole walk",
            false,
            false,
            rstore(&["prune", "-n"]),
        ),
    ];
    match find_program("umoci") {
        None => println!("umoci is not installed, and left out"),
        Some(umoci) => all.push(contender(
            "umoci gc",
            true,
            true,
            Box::new(move |root: &Path| {
                let mut command = Command::new(&umoci);
                command
                    .arg("gc")
                    .arg("--layout")
                    .arg(root)
                    .stderr(Stdio::null());
                command
            }),
        )),
    }
    all
}

fn measure(work: &Path, sizes: &[usize]) {
    fs::create_dir(work).unwrap_or_else(|error| panic!("{}: {error}", work.display()));
    let removed = RemoveOnDrop(work);
    let contenders = contenders();
    for &blobs in sizes {
        let rounds = if blobs > 100_000 {
            1
        } else {
            setting("BENCH_GC_ROUNDS", 3).max(1)
        };
        let mut taken: Vec<Vec<Taken>> = contenders.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            let mut copy = None;
            for (contender, taken) in contenders.iter().zip(&mut taken) {
                if contender.own_copy {
                    drop(copy.take());
                    copy = Some(Sample::new(work, blobs));
                }
                let root = copy.as_ref().expect("a copy").root.as_path();
                let run = timed((contender.command)(root), root);
                if contender.collects && !run.cut {
                    assert_eq!(run.left, blobs / EACH / 2 * EACH, "{}", contender.name);
                }
                taken.push(run);
            }
        }
        print_table(blobs, rounds, &contenders, &taken);
    }
    drop(removed);
}

/// A layout, while it is needed.
struct Sample {
    root: PathBuf,
}

impl Sample {
    fn new(work: &Path, blobs: usize) -> Sample {
        let root = work.join("layout");
        generate(&root, blobs);
        Sample { root }
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let _ = rstore::fsutil::remove_tree(&self.root);
        let _ = fs::remove_file(list_of(&self.root));
    }
}

/// Removes the work directory, also when something panics.
struct RemoveOnDrop<'a>(&'a Path);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        let _ = rstore::fsutil::remove_tree(self.0);
    }
}

fn median<T: Ord + Clone>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2].clone()
}

fn print_table(blobs: usize, rounds: usize, contenders: &[Contender], taken: &[Vec<Taken>]) {
    println!("\n{blobs} blobs, half of them garbage; medians of {rounds}");
    println!(
        "{:<40} {:>9} {:>9} {:>9}",
        "", "wall, s", "CPU, s", "RSS, MB"
    );
    for (contender, runs) in contenders.iter().zip(taken) {
        let wall = median(runs.iter().map(|run| run.wall).collect());
        let cpu = median(runs.iter().map(|run| run.cpu).collect());
        let memory = median(runs.iter().map(|run| run.memory).collect());
        let left = runs.iter().filter(|run| run.cut).map(|run| run.left).max();
        let note = left.map_or(String::new(), |left| {
            format!("  ended there, {left} blobs left")
        });
        println!(
            "{:<40} {:>9.3} {:>9.3} {:>9.1}{note}",
            contender.name,
            wall.as_secs_f64(),
            cpu.as_secs_f64(),
            memory as f64 / 1e6,
        );
    }
}

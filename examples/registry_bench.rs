//! `make bench-registry`: an image of 500 MB in 8 layers, pushed and pulled by rstore and by skopeo.
//!
//! `RSTORE` names the program, which should be one that was compiled for speed. The registry is
//! Debian's, on the loopback device: a new one for each push, so that none finds what another one
//! has sent, and one that has the image for all pulls. Each pull goes into an empty directory; the
//! second one finds all of it there. Rounds interleave both, and begin with the other one each time;
//! the table has the medians, how many times as fast rstore is, and the CPU seconds of one run. On a
//! machine that others use as well, the load says how much that is worth.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rstore::fsutil::remove_tree;

const LAYERS: usize = 8;
const LAYER: usize = 62_500_000;
const ROUNDS: usize = 5;
/// The second pull takes milliseconds.
const AGAIN: usize = 5;
/// Of `/proc/PID/stat`, in a second.
const TICKS: f64 = 100.0;

type Outcome<T = ()> = Result<T, String>;

fn main() {
    if let Err(error) = bench() {
        eprintln!("registry_bench: {error}");
        std::process::exit(1);
    }
}

/// A registry with an empty store, which goes when the value does.
struct Registry {
    child: Child,
    host: String,
    directory: PathBuf,
}

impl Registry {
    fn start(directory: PathBuf) -> Outcome<Registry> {
        let text = |error: std::io::Error| error.to_string();
        fs::create_dir_all(&directory).map_err(text)?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(text)?;
        let host = listener.local_addr().map_err(text)?.to_string();
        drop(listener);
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
            directory.join("data").display()
        );
        let file = directory.join("config.yml");
        fs::write(&file, config).map_err(text)?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("docker-registry: {error}"))?;
        let registry = Registry {
            child,
            host,
            directory,
        };
        for _ in 0..500 {
            if TcpStream::connect(&registry.host).is_ok() {
                return Ok(registry);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("docker-registry does not start".to_owned())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = remove_tree(&self.directory);
    }
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
struct Took {
    wall: f64,
    cpu: f64,
}

/// CPU seconds of all children that have ended (proc(5): cutime and cstime).
fn children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(13).take(2);
    ticks
        .filter_map(|tick| tick.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}

/// Runs a command.
fn timed(command: &mut Command) -> Outcome<Took> {
    let (begun, cpu) = (Instant::now(), children());
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(Took {
            wall: begun.elapsed().as_secs_f64(),
            cpu: children() - cpu,
        }),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{command:?}: {}\n{said}", output.status))
        }
    }
}

/// A context of files that cannot be compressed, a layer each.
fn context(directory: &Path) -> Outcome {
    let mut dockerfile = "FROM scratch\n".to_owned();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let text = |error: std::io::Error| error.to_string();
    fs::create_dir_all(directory).map_err(text)?;
    for number in 0..LAYERS {
        let mut bytes = Vec::with_capacity(LAYER + 8);
        while bytes.len() < LAYER {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        let mut file = fs::File::create(directory.join(format!("f{number}"))).map_err(text)?;
        file.write_all(&bytes).map_err(text)?;
        dockerfile.push_str(&format!("COPY f{number} /\n"));
    }
    fs::write(directory.join("Dockerfile"), dockerfile).map_err(text)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn bench() -> Outcome {
    let program = std::env::var("RSTORE").map_err(|_| "RSTORE names the program")?;
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    measure(&program, directory.path())
}

fn measure(program: &str, directory: &Path) -> Outcome {
    let at = |name: &str| directory.join(name);
    let rstore = |store: &Path| {
        let mut command = Command::new(program);
        command
            .env("RSTORE_ROOT", store)
            .env("RSTORE_PROGRESS", "quiet");
        command
    };
    let skopeo = |arguments: &[&str]| {
        let mut command = Command::new("skopeo");
        command
            .args(["--insecure-policy", "copy", "-q"])
            .args(arguments);
        command
    };
    context(&at("context"))?;
    let store = at("store");
    let mut build = rstore(&store);
    // What isn't compressed skopeo compresses on its way.
    build.args(["build", "--compression", "gzip:1", "-t", "bench"]);
    timed(build.arg(at("context")))?;
    let layout = format!("oci:{}:bench:latest", store.display());
    let kept = Registry::start(at("kept"))?;
    let image = format!("{}/bench:1", kept.host);
    timed(rstore(&store).args(["push", "bench", &image]))?;
    let begun = load();
    let mut times: [Vec<Took>; 6] = Default::default();
    for round in 0..ROUNDS {
        for turn in 0..2 {
            let ours = (round + turn) % 2 == 0;
            let new = Registry::start(at("new"))?;
            let target = format!("{}/bench:1", new.host);
            let place = usize::from(!ours);
            let push = match ours {
                true => timed(rstore(&store).args(["push", "bench", &target])),
                false => {
                    let target = format!("docker://{target}");
                    timed(&mut skopeo(&["--dest-tls-verify=false", &layout, &target]))
                }
            };
            times[place].push(push?);
            drop(new);
            let into = at("pulled");
            let pull = || match ours {
                true => timed(rstore(&into).args(["pull", &image])),
                false => {
                    let source = format!("docker://{image}");
                    let target = format!("oci:{}:x", into.display());
                    timed(&mut skopeo(&["--src-tls-verify=false", &source, &target]))
                }
            };
            times[2 + place].push(pull()?);
            for _ in 0..AGAIN {
                times[4 + place].push(pull()?);
            }
            let _ = remove_tree(&into);
        }
    }
    println!(
        "{LAYERS} layers, {} MB; medians of {ROUNDS} rounds; load {begun} before, {} after",
        LAYERS * LAYER / 1_000_000,
        load()
    );
    let [c1, c2, c3, c4, c5] = ["rstore s", "skopeo s", "times", "rstore CPU", "skopeo CPU"];
    println!("{:14}{c1:>10}{c2:>10}{c3:>8}{c4:>12}{c5:>12}", "");
    for (what, runs) in ["push", "pull", "second pull"].iter().zip(times.chunks(2)) {
        let [ours, theirs] = runs else { continue };
        let wall = |runs: &[Took]| median(runs.iter().map(|took| took.wall).collect());
        // Ticks are coarse: a mean says more of what is short.
        let cpu = |runs: &[Took]| runs.iter().map(|took| took.cpu).sum::<f64>() / runs.len() as f64;
        println!(
            "{what:14}{:>10.4}{:>10.4}{:>8.2}{:>12.3}{:>12.3}",
            wall(ours),
            wall(theirs),
            wall(theirs) / wall(ours),
            cpu(ours),
            cpu(theirs)
        );
    }
    Ok(())
}

/// How many processes want a processor, as the last minute has it.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

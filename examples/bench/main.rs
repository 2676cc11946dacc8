//! `make bench`: one Dockerfile of twenty steps, built by rstore, buildah and BuildKit; then
//! [a thousand images listed](listing) by rstore, podman and docker.
//!
//! `RSTORE` names the program, which should be one that was compiled for speed; this one need not.
//!
//! Every round, each builder builds it cold (`--no-cache`: every step runs, the base is there and
//! unpacked) and then all cached. The rounds interleave the builders, so that a machine that gets
//! slower gets slower for all of them; the table has the medians. Rounds end with `ROUNDS` or with
//! `SECONDS`, whichever comes first, and there is always one.
//!
//! All have the machine's network, since one has to be chosen; each keeps its state in a directory
//! of its own that goes at the end. Who isn't installed, or cannot run here, is left out by name.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

mod listing;

/// RUN and COPY steps, of each.
const PAIRS: usize = 10;
/// The most rounds; the first warms up and does not count where there are others.
const ROUNDS: usize = 6;
/// When no further round is begun.
const SECONDS: u64 = 240;

type Outcome<T> = Result<T, String>;

/// Somebody who builds Dockerfiles.
trait Builder {
    fn name(&self) -> String;
    /// The command that builds the context as `bench`.
    fn build(&self, context: &Path, cached: bool) -> Command;
    /// What is done between the rounds, untimed.
    fn tidy(&self) {}
}

fn run(command: &mut Command) -> Outcome<String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().rev().take(5).collect::<Vec<_>>();
        let last = last.into_iter().rev().collect::<Vec<_>>().join("\n  ");
        return Err(format!("{command:?}: {}\n  {last}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    places
        .into_iter()
        .map(|place| place.join(name))
        .find(|file| file.is_file())
}

struct Rstore {
    program: PathBuf,
    root: PathBuf,
}

impl Rstore {
    fn at(root: PathBuf) -> Outcome<Rstore> {
        let program = std::env::var_os("RSTORE").or(find("rstore").map(Into::into));
        Ok(Rstore {
            program: program.ok_or("RSTORE does not say which")?.into(),
            root,
        })
    }

    fn new(work: &Path, tar: &Path) -> Outcome<Rstore> {
        let rstore = Rstore::at(work.join("rstore"))?;
        run(rstore.command().arg("import").arg(tar).arg("base"))?;
        Ok(rstore)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("RSTORE_ROOT", &self.root);
        command
    }
}

impl Builder for Rstore {
    fn name(&self) -> String {
        "rstore".to_owned()
    }

    fn build(&self, context: &Path, cached: bool) -> Command {
        let mut command = self.command();
        command.args(["build", "-q", "-t", "bench", "--network", "host"]);
        if !cached {
            command.arg("--no-cache");
        }
        command.arg(context);
        command
    }

    fn tidy(&self) {
        let _ = run(self.command().args(["prune", "-f"]));
    }
}

struct Buildah {
    program: PathBuf,
    directory: PathBuf,
    driver: &'static str,
}

impl Buildah {
    fn new(work: &Path, tar: &Path, context: &Path) -> Outcome<Buildah> {
        let program = find("buildah").ok_or("not installed")?;
        let directory = work.join("buildah");
        fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        let accept = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        fs::write(directory.join("policy.json"), accept).map_err(|error| error.to_string())?;
        let mut why = String::new();
        for driver in ["overlay", "vfs"] {
            let buildah = Buildah {
                program: program.clone(),
                directory: directory.join(driver),
                driver,
            };
            match buildah.prepare(tar, context) {
                Ok(()) => return Ok(buildah),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    fn prepare(&self, tar: &Path, context: &Path) -> Outcome<()> {
        let container = run(self.command(["from", "scratch"]).stdin(Stdio::null()))?;
        run(self
            .command(["add", "-q", container.as_str()])
            .arg(tar)
            .arg("/"))?;
        run(&mut self.command(["commit", "-q", "--rm", container.as_str(), "base"]))?;
        run(&mut self.build(context, false)).map(drop)
    }

    fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--storage-driver", self.driver]);
        command.arg("--root").arg(self.directory.join("root"));
        command.arg("--runroot").arg(self.directory.join("run"));
        // Its lightest way to run a step, and one that works inside of containers.
        command.env(
            "BUILDAH_ISOLATION",
            std::env::var("BUILDAH_ISOLATION").unwrap_or("chroot".into()),
        );
        command.args(arguments);
        command
    }
}

impl Builder for Buildah {
    fn name(&self) -> String {
        format!("buildah ({})", self.driver)
    }

    fn build(&self, context: &Path, cached: bool) -> Command {
        let mut command =
            self.command(["bud", "-q", "--layers", "--pull-never", "--network", "host"]);
        let policy = self
            .directory
            .parent()
            .expect("a parent")
            .join("policy.json");
        command.arg(format!("--signature-policy={}", policy.display()));
        command.args(["-t", "bench"]);
        if !cached {
            command.arg("--no-cache");
        }
        command.arg(context);
        command
    }

    fn tidy(&self) {
        let _ = run(&mut self.command(["rmi", "--prune"]));
    }
}

/// A daemon of docker's, with a client that it answers.
struct Docker {
    client: PathBuf,
    socket: String,
    daemon: Child,
}

impl Docker {
    fn start(work: &Path) -> Outcome<Docker> {
        let program = find("dockerd").ok_or("docker.io is not installed")?;
        let directory = work.join("docker");
        fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        let socket = format!("unix://{}", directory.join("sock").display());
        let log = fs::File::create(directory.join("log")).map_err(|error| error.to_string())?;
        let daemon = Command::new(program)
            .args([
                "--iptables=false",
                "--ip6tables=false",
                "--bridge=none",
                "-H",
                &socket,
            ])
            .arg("--data-root")
            .arg(directory.join("data"))
            .arg("--exec-root")
            .arg(directory.join("exec"))
            .arg("--pidfile")
            .arg(directory.join("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        Ok(Docker {
            client: PathBuf::new(),
            socket,
            daemon,
        })
    }

    /// Tries the clients until one of them can `prepare`.
    fn connect(&mut self, prepare: impl Fn(&Docker) -> Outcome<()>) -> Outcome<()> {
        // Newer clients want a plugin for BuildKit; the one beside the daemon suits it.
        let mut why = "there is no docker client".to_owned();
        for client in ["/usr/bin/docker".into(), find("docker").unwrap_or_default()] {
            if !client.is_file() {
                continue;
            }
            self.client = client;
            match self.answers().and_then(|()| prepare(self)) {
                Ok(()) => return Ok(()),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    fn answers(&self) -> Outcome<()> {
        let began = Instant::now();
        while let Err(error) = run(self.command().arg("version")) {
            if began.elapsed() > Duration::from_secs(30) {
                return Err(format!("dockerd does not answer: {error}"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.client);
        command
            .env("DOCKER_BUILDKIT", "1")
            .env("DOCKER_HOST", &self.socket);
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .arg(self.daemon.id().to_string())
            .status();
        let _ = self.daemon.wait();
    }
}

struct BuildKit {
    docker: Rc<Docker>,
}

impl BuildKit {
    fn new(work: &Path, tar: &Path, context: &Path) -> Outcome<BuildKit> {
        let mut docker = Docker::start(work)?;
        docker.connect(|docker| {
            run(docker.command().arg("import").arg(tar).arg("base"))?;
            run(&mut BuildKit::command(docker, context, false)).map(drop)
        })?;
        Ok(BuildKit {
            docker: Rc::new(docker),
        })
    }

    fn command(docker: &Docker, context: &Path, cached: bool) -> Command {
        let mut command = docker.command();
        command.args(["build", "-q", "-t", "bench", "--network", "host"]);
        if !cached {
            command.arg("--no-cache");
        }
        command.arg(context);
        command
    }
}

impl Builder for BuildKit {
    fn name(&self) -> String {
        "BuildKit (dockerd)".to_owned()
    }

    fn build(&self, context: &Path, cached: bool) -> Command {
        BuildKit::command(&self.docker, context, cached)
    }
}

/// The context, and the Dockerfile in it.
fn write_context(directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut dockerfile = "FROM base\n".to_owned();
    for n in 0..PAIRS {
        dockerfile += &format!("COPY file-{n} /files/\n");
        dockerfile += &format!("RUN wc -c /files/file-{n} > /count-{n} && cat /count-{n}\n");
        let contents: Vec<u8> = (0..50_000)
            .map(|at: usize| (at * (n + 3) / 7) as u8)
            .collect();
        fs::write(directory.join(format!("file-{n}")), contents)?;
    }
    fs::write(directory.join("Dockerfile"), dockerfile)
}

fn time(command: &mut Command) -> Outcome<Duration> {
    let began = Instant::now();
    run(command)?;
    Ok(began.elapsed())
}

/// The median; of an even number, the lower one of the two.
fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[(times.len() - 1) / 2]
}

#[derive(Default)]
struct Times {
    cold: Vec<Duration>,
    cached: Vec<Duration>,
}

fn table(builders: &[Box<dyn Builder>], times: &[Times]) {
    let seconds = |duration: Duration| format!("{:.3} s", duration.as_secs_f64());
    let ratio =
        |one: Duration, other: Duration| format!("{:.1}", one.as_secs_f64() / other.as_secs_f64());
    let medians = times
        .iter()
        .map(|times| (median(&times.cold), median(&times.cached)));
    let medians: Vec<_> = medians.collect();
    println!(
        "\n{:<22}{:>12}{:>10}{:>14}{:>10}",
        "", "cold", "times", "all cached", "times"
    );
    for (builder, (cold, cached)) in builders.iter().zip(&medians) {
        println!(
            "{:<22}{:>12}{:>10}{:>14}{:>10}",
            builder.name(),
            seconds(*cold),
            ratio(*cold, medians[0].0),
            seconds(*cached),
            ratio(*cached, medians[0].1),
        );
    }
}

/// Builds. Returns the daemon that took part, if one could.
fn bench_builds(work: &Path) -> Outcome<Option<Rc<Docker>>> {
    let (tar, context) = (work.join("base.tar"), work.join("context"));
    let script: &OsStr =
        concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/busybox-rootfs.sh").as_ref();
    run(Command::new(script).arg(&tar))?;
    write_context(&context).map_err(|error| error.to_string())?;

    let mut builders: Vec<Box<dyn Builder>> = vec![Box::new(Rstore::new(work, &tar)?)];
    match Buildah::new(work, &tar, &context) {
        Ok(buildah) => builders.push(Box::new(buildah)),
        Err(why) => println!("without buildah: {why}"),
    }
    let mut docker = None;
    match BuildKit::new(work, &tar, &context) {
        Ok(buildkit) => {
            docker = Some(Rc::clone(&buildkit.docker));
            builders.push(Box::new(buildkit));
        }
        Err(why) => println!("without BuildKit: {why}"),
    }
    let mut times: Vec<Times> = builders.iter().map(|_| Times::default()).collect();
    let began = Instant::now();
    let mut rounds = 0;
    while rounds < ROUNDS && (rounds == 0 || began.elapsed() < Duration::from_secs(SECONDS)) {
        for (builder, times) in builders.iter().zip(&mut times) {
            times.cold.push(time(&mut builder.build(&context, false))?);
            times.cached.push(time(&mut builder.build(&context, true))?);
            builder.tidy();
        }
        rounds += 1;
    }
    if rounds > 1 {
        for times in &mut times {
            times.cold.remove(0);
            times.cached.remove(0);
        }
    }
    let steps = 2 * PAIRS;
    let counted = times[0].cold.len();
    println!("{steps} steps, half RUN, half COPY, on busybox; median of {counted}, interleaved");
    table(&builders, &times);
    Ok(docker)
}

/// All of it, or what `only` names: `builds`, `listing`.
fn bench(work: &Path, only: Option<&str>) -> Outcome<()> {
    let mut docker = None;
    match only {
        None | Some("builds") => docker = bench_builds(work)?,
        Some("listing") => {}
        Some(other) => return Err(format!("there is no part {other:?}: builds, listing")),
    }
    if only != Some("builds") {
        listing::bench(work, docker)?;
    }
    Ok(())
}

fn main() {
    let work = tempfile::Builder::new()
        .prefix("rstore-bench-")
        .tempdir()
        .expect("a temporary directory");
    // The builders' daemons end before their directory goes.
    let only = std::env::args().nth(1);
    let result = bench(work.path(), only.as_deref());
    if let Err(error) = result {
        eprintln!("bench: {error}");
        drop(work);
        std::process::exit(1);
    }
}

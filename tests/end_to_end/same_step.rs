//! The same step in two builds at the same time, or in two stages of one: it is run once.
//!
//! The builds meet at a gate, a socket that their steps connect to and that the test opens, so that
//! nothing here depends on how long anything takes.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use crate::support::{Context, Rstore};

/// A build that runs beside the test.
struct Building {
    child: Child,
    stderr: BufReader<ChildStderr>,
    told: String,
}

impl Building {
    fn start(store: &Rstore, context: &Context, arguments: &[&str]) -> Building {
        let mut command: Command = store.command();
        command
            .args(["build", "--progress", "plain"])
            .args(arguments);
        command
            .arg(context.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("rstore runs");
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Building {
            child,
            stderr,
            told: String::new(),
        }
    }

    /// Reads what it tells until that has `word` in it.
    #[track_caller]
    fn until(&mut self, word: &str) {
        while !self.told.contains(word) {
            let read = self.stderr.read_line(&mut self.told).expect("stderr");
            assert!(read > 0, "it ended without {word:?}:\n{}", self.told);
        }
    }

    /// Waits for its end; what it told, and its exit code.
    fn end(mut self) -> (String, Option<i32>) {
        self.stderr.read_to_string(&mut self.told).expect("stderr");
        let status = self.child.wait().expect("it ends");
        (self.told, status.code())
    }
}

/// A socket that steps connect to, since they have the machine's network: each goes on when the
/// test closes its connection.
struct Gate {
    listener: std::net::TcpListener,
}

impl Gate {
    fn new() -> Gate {
        Gate {
            listener: std::net::TcpListener::bind("127.0.0.1:0").expect("a port"),
        }
    }

    /// A command that waits at the gate, and ends well.
    fn command(&self) -> String {
        let port = self.listener.local_addr().unwrap().port();
        format!("nc 127.0.0.1 {port} < /dev/null > /passed")
    }

    /// Waits until a step is at the gate.
    fn arrival(&self) -> std::net::TcpStream {
        self.listener.accept().expect("a step").0
    }

    /// Whether no other step has come.
    fn is_empty(&self) -> bool {
        self.listener.set_nonblocking(true).unwrap();
        let empty = self.listener.accept().is_err();
        self.listener.set_nonblocking(false).unwrap();
        empty
    }
}

fn leases(store: &Rstore) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.root().join("rstore/leases")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn is_step(path: &Path) -> bool {
    path.file_name()
        .unwrap()
        .to_string_lossy()
        .starts_with("step-")
}

fn house(gate: &Gate) -> (Rstore, Context) {
    let dockerfile = format!(
        "FROM base\nRUN {}\nRUN echo after > /after\n",
        gate.command()
    );
    (Rstore::with_base(), Context::new(&dockerfile))
}

const WAITING: &str = "waiting for another build of this step";

#[test]
fn another_build_waits_for_the_step_and_takes_its_result() {
    let gate = Gate::new();
    let (store, context) = house(&gate);
    let first = Building::start(&store, &context, &["-t", "one"]);
    let step = gate.arrival();
    let mut second = Building::start(&store, &context, &["-t", "two"]);
    second.until(WAITING);
    drop(step);
    let (told, code) = first.end();
    assert_eq!(code, Some(0), "{told}");
    let (told, code) = second.end();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("CACHED"), "{told}");
    assert!(gate.is_empty());
    assert_eq!(store.digest("one:latest"), store.digest("two:latest"));
    assert_eq!(store.debris(), [] as [PathBuf; 0]);
}

#[test]
fn a_killed_build_lets_the_next_one_run_the_step() {
    let gate = Gate::new();
    let (store, context) = house(&gate);
    let mut first = Building::start(&store, &context, &["-t", "one"]);
    let step = gate.arrival();
    let mut second = Building::start(&store, &context, &["-t", "two"]);
    second.until(WAITING);
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    drop(step);
    drop(gate.arrival());
    let (told, code) = second.end();
    assert_eq!(code, Some(0), "{told}");
    store.ok(["prune", "-f"]);
    assert_eq!(store.debris(), [] as [PathBuf; 0]);
}

#[test]
fn the_lock_of_a_killed_build_is_counted_and_goes_with_a_prune() {
    let gate = Gate::new();
    let (store, context) = house(&gate);
    let mut first = Building::start(&store, &context, &["-t", "one"]);
    let step = gate.arrival();
    assert_eq!(
        leases(&store).iter().filter(|path| is_step(path)).count(),
        1
    );
    // It is no debris while it is held.
    store.ok(["prune", "-f"]);
    assert_eq!(
        leases(&store).iter().filter(|path| is_step(path)).count(),
        1
    );
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    drop(step);
    let usage = store.json(&["df"]);
    let rows = usage["rows"].as_array().unwrap();
    let unaccounted = rows.iter().find(|row| row["type"] == "unaccounted");
    assert_eq!(unaccounted.unwrap()["size"], 0, "{usage}");
    store.ok(["prune", "-f"]);
    assert_eq!(leases(&store), [] as [PathBuf; 0]);
}

#[test]
fn a_waiting_build_can_be_interrupted() {
    let gate = Gate::new();
    let (store, context) = house(&gate);
    let first = Building::start(&store, &context, &["-t", "one"]);
    let step = gate.arrival();
    let mut second = Building::start(&store, &context, &["-t", "two"]);
    second.until(WAITING);
    let pid = rustix::process::Pid::from_child(&second.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let (told, code) = second.end();
    assert_eq!(code, Some(130), "{told}");
    drop(step);
    let (told, code) = first.end();
    assert_eq!(code, Some(0), "{told}");
}

#[test]
fn a_build_without_cache_waits_for_nobody() {
    let gate = Gate::new();
    let (store, context) = house(&gate);
    let first = Building::start(&store, &context, &["-t", "one"]);
    let step = gate.arrival();
    let second = Building::start(&store, &context, &["-t", "two", "--no-cache"]);
    drop(gate.arrival());
    let (told, code) = second.end();
    assert_eq!(code, Some(0), "{told}");
    drop(step);
    let (told, code) = first.end();
    assert_eq!(code, Some(0), "{told}");
}

#[test]
fn a_step_that_fails_elsewhere_is_tried_by_the_one_that_waited() {
    let gate = Gate::new();
    let store = Rstore::with_base();
    let command = gate.command();
    let context = Context::new(&format!("FROM base\nRUN {command}; grep -q good /passed\n"));
    let first = Building::start(&store, &context, &[]);
    let step = gate.arrival();
    let mut second = Building::start(&store, &context, &["-t", "two"]);
    second.until(WAITING);
    drop(step);
    let (told, code) = first.end();
    assert_eq!(code, Some(1), "{told}");
    std::io::Write::write_all(&mut gate.arrival(), b"good\n").unwrap();
    let (told, code) = second.end();
    assert_eq!(code, Some(0), "{told}");
}

#[test]
fn two_stages_with_the_same_steps_run_them_once() {
    let gate = Gate::new();
    let store = Rstore::with_base();
    let steps = format!(
        "RUN {} && cat /proc/sys/kernel/random/uuid > /id\nRUN cat /id /id > /ids\n",
        gate.command()
    );
    let context = Context::new(&format!(
        "FROM base AS one\n{steps}FROM base AS two\n{steps}FROM base\n\
         COPY --from=one /ids /one\nCOPY --from=two /ids /two\nRUN cmp /one /two\n"
    ));
    let mut building = Building::start(&store, &context, &["-t", "app", "--jobs", "4"]);
    let step = gate.arrival();
    building.until(WAITING);
    drop(step);
    let (told, code) = building.end();
    assert_eq!(code, Some(0), "{told}");
    assert!(gate.is_empty());
    assert_eq!(told.matches("CACHED").count(), 2, "{told}");
    assert_eq!(store.debris(), [] as [PathBuf; 0]);
}

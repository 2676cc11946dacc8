//! Builders, foreign writers, prunes and people who look, all at once on one store, and `kill -9`
//! among them.
//!
//! ```text
//! 8 builders   build, each its own tag, of stages that they share     1 in 6 is killed
//! 2 copiers    skopeo copies images into the layout; rmi takes some   under the store's lock
//! 2 pruners    prune with random scopes                               1 in 5 is killed
//! 1 looker     images, df, graph, why
//! ```
//! No command may fail but those that were killed, no image that has a name may lose a byte, and
//! at the end `fsck` finds nothing and `df` is what `du` sees.
//!
//! `RSTORE_TEST_SECONDS` (20) says for how long; `make torture` takes ten minutes. What each does
//! is drawn from `RSTORE_TEST_SEED`, which is printed; when, is the scheduler's to say.
//!
//! skopeo reads `index.json` when it begins and replaces it when it ends, without any lock: what
//! is named in between, by rstore or by another skopeo, loses its name. So whoever lets others
//! write into a store in use holds `rstore/lock` for them, as the copiers here do with flock(1).

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::support::need::program;
use crate::support::{Context, Finished, Need, Rstore, machine, number, peers, skip_without};

const BUILDERS: u64 = 8;
const COPIERS: u64 = 2;
const PRUNERS: u64 = 2;

/// Numbers that look random, and are the same for the same seed (Steele, Lea and Flood's
/// SplitMix64).
struct Dice(u64);

impl Dice {
    /// An actor's own.
    fn of(seed: u64, actor: u64) -> Dice {
        let mut dice = Dice(seed ^ actor.wrapping_mul(0xa076_1d64_78bd_642f));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What all actors share.
struct Arena {
    store: Rstore,
    /// Layouts that skopeo copies from.
    sources: Vec<tempfile::TempDir>,
    seed: u64,
    stop: AtomicBool,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Arena {
    fn new(seed: u64) -> Arena {
        let store = Rstore::with_base();
        store.build(
            Context::new("FROM base\nRUN echo kept > /kept\n").path(),
            &["-t", "kept"],
        );
        let sources = (0..COPIERS).map(|copier| source(&store, copier)).collect();
        Arena {
            store,
            sources,
            seed,
            stop: AtomicBool::new(false),
            counts: Mutex::default(),
        }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn count(&self, what: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what).or_default() += 1;
    }

    fn counted(&self, what: &str) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(what).copied().unwrap_or(0)
    }

    fn figures(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let words = counts.iter().map(|(what, count)| format!("{count} {what}"));
        words.collect::<Vec<_>>().join(", ")
    }

    /// Runs a command, and kills it after a while unless it has ended. What ended by itself is
    /// given back.
    fn run(&self, mut command: Command, patience: Option<Duration>) -> Option<Finished> {
        let Some(patience) = patience else {
            let output = command.output().expect("the command runs");
            return Some(Finished::new(&command, &output));
        };
        let words = tempfile::tempfile().expect("a temporary file");
        let stream = || Stdio::from(words.try_clone().expect("a descriptor"));
        command.stdout(stream()).stderr(stream());
        let mut child = command.spawn().expect("the command runs");
        let began = Instant::now();
        while began.elapsed() < patience {
            if child.try_wait().expect("a child").is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // One that has ended is not killed by this.
        child.kill().expect("a child can be killed");
        let status = child.wait().expect("a child can be waited for");
        if status.signal().is_some() {
            return None;
        }
        let mut said = String::new();
        use std::io::{Read, Seek};
        let mut words = words;
        words.rewind().expect("a file");
        words.read_to_string(&mut said).expect("text");
        Some(Finished {
            command: format!("{command:?}"),
            code: status.code().unwrap_or(-1),
            stdout: String::new(),
            stderr: said,
        })
    }
}

/// A layout with three images for one copier, on the base that the store has too.
fn source(store: &Rstore, copier: u64) -> tempfile::TempDir {
    let directory = Rstore::with_base_of(store);
    let source = Rstore::at(directory.path());
    for image in 0..3 {
        let context = Context::new("FROM base\nCOPY file /file\n");
        context.file("file", format!("{copier} {image} ").repeat(20_000));
        source.build(context.path(), &["-t", &format!("image-{image}")]);
    }
    directory
}

/// Builds: the same stages as the others', then steps of its own that change each time, so that
/// each build leaves the one before it dangling.
fn builder(arena: &Arena, number: u64) {
    let mut dice = Dice::of(arena.seed, number);
    let context = Context::new("");
    let tag = format!("builder-{number}");
    let mut named = false;
    while arena.goes_on() {
        let (content, round) = (dice.below(4), dice.below(3));
        context.file("source", format!("{number} {content}"));
        context.file(
            "Dockerfile",
            format!(
                "FROM base AS shared\nRUN echo shared > /shared && dd if=/dev/zero of=/z bs=64k count=4 2>/dev/null\n\
                 FROM base AS own\nCOPY source /source\nRUN cat /source > /made-{number}\n\
                 FROM shared\nCOPY --from=own /made-{number} /made\nRUN echo {round} >> /made && cat /made\n"
            ),
        );
        let mut command = arena.store.command();
        command.args(["build", "--progress", "classic", "-t", &tag]);
        command.arg(context.path());
        let killed = dice
            .one_in(6)
            .then(|| Duration::from_millis(dice.below(600)));
        match arena.run(command, killed) {
            Some(finished) => {
                finished.ok();
                named = true;
                arena.count("builds");
            }
            None => arena.count("builds killed"),
        }
        // From the first success on the tag is there, and whole, whatever is pruned or killed.
        if named || arena.store.tags().contains_key(&format!("{tag}:latest")) {
            named = true;
            arena.store.intact(&format!("{tag}:latest"));
        }
    }
}

/// Copies images into the layout as skopeo does, which knows nothing of leases.
fn copier(arena: &Arena, number: u64) {
    let mut dice = Dice::of(arena.seed, 100 + number);
    let source = &arena.sources[number as usize];
    let lock = arena.store.root().join("rstore/lock");
    while arena.goes_on() {
        let image = format!("image-{}", dice.below(3));
        let name = format!("copy-{number}-{image}:latest");
        let mut command = program("flock");
        command.arg(&lock).arg(program("skopeo").get_program());
        command.arg("--policy").arg(peers::policy());
        command.args(["copy", "-q"]);
        command.arg(format!("oci:{}:{image}:latest", source.path().display()));
        command.arg(format!("oci:{}:{name}", arena.store.root().display()));
        arena.run(command, None).expect("it is not killed").ok();
        arena.store.intact(&name);
        arena.count("copies");
        if dice.one_in(3) {
            match arena.store.run(["rmi", "-f", &name]) {
                finished if finished.code == 75 => arena.count("removals that met a prune"),
                finished => {
                    finished.ok();
                    arena.count("copies removed");
                }
            }
        }
        std::thread::sleep(Duration::from_millis(dice.below(300)));
    }
}

fn pruner(arena: &Arena, number: u64) {
    let mut dice = Dice::of(arena.seed, 200 + number);
    let scopes = [
        "--dangling",
        "--stages",
        "--intermediates",
        "--snapshots",
        "--cache",
        "--all",
    ];
    while arena.goes_on() {
        let mut command = arena.store.command();
        command.args(["prune", "--force"]);
        command.args(scopes.iter().filter(|_| dice.one_in(4)));
        if dice.one_in(5) {
            command.arg("--dry-run");
        }
        let killed = dice
            .one_in(5)
            .then(|| Duration::from_millis(dice.below(150)));
        match arena.run(command, killed) {
            None => arena.count("prunes killed"),
            Some(finished) if finished.code == 75 => arena.count("prunes that met another"),
            Some(finished) => {
                finished.ok();
                arena.count("prunes");
            }
        }
        for tag in ["kept:latest", "base:latest"] {
            arena.store.intact(tag);
        }
        std::thread::sleep(Duration::from_millis(dice.below(100)));
    }
}

fn looker(arena: &Arena) {
    let looks: [&[&str]; 5] = [
        &["images", "-a"],
        &["df"],
        &["graph"],
        &["why", "kept"],
        &["layers"],
    ];
    for arguments in looks.iter().cycle() {
        if !arena.goes_on() {
            return;
        }
        arena.store.ok(*arguments);
        arena.count("looks");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn no_command_fails_and_nothing_with_a_name_is_lost_whoever_is_killed() {
    if skip_without(&[Need::Program("skopeo"), Need::Program("flock")]) {
        return;
    }
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .expect("a clock")
        .as_millis();
    let seed = number("RSTORE_TEST_SEED", now as u64);
    let seconds = number("RSTORE_TEST_SECONDS", 20);
    println!("RSTORE_TEST_SEED={seed} RSTORE_TEST_SECONDS={seconds}");
    let arena = Arena::new(seed);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let arena = &arena;
        let act = |body: Box<dyn FnOnce() + Send>| {
            scope.spawn(move || {
                // Who fails ends the test at once, not after ten minutes.
                let end = StopOnDrop(&arena.stop);
                body();
                drop(end);
            });
        };
        (0..BUILDERS).for_each(|n| act(Box::new(move || builder(arena, n))));
        (0..COPIERS).for_each(|n| act(Box::new(move || copier(arena, n))));
        (0..PRUNERS).for_each(|n| act(Box::new(move || pruner(arena, n))));
        act(Box::new(move || looker(arena)));
        while arena.goes_on() && began.elapsed() < Duration::from_secs(seconds) {
            std::thread::sleep(Duration::from_millis(50));
        }
        arena.stop.store(true, Ordering::Relaxed);
    });
    let figures = format!("{} in {:?}", arena.figures(), began.elapsed());
    for what in ["builds", "copies", "prunes", "looks"] {
        assert!(arena.counted(what) > 0, "{figures}");
    }
    assert_sound_at_the_end(&arena.store);
    println!("{figures}");
}

/// Nothing is broken, nothing is left over, every byte is explained.
fn assert_sound_at_the_end(store: &Rstore) {
    let patience = Duration::from_secs(30);
    let leases = machine::leases_left(store.root(), patience);
    assert!(leases.is_empty(), "{leases:#?}");
    let mounts = machine::mounts_left(store.root(), patience);
    assert!(mounts.is_empty(), "{mounts:#?}");
    store.ok(["prune", "--force"]);
    let report = store.json(&["fsck"]);
    assert_eq!(report["findings"], serde_json::json!([]), "{report:#}");
    store.verify();
    assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new());
    super::lifecycle::assert_accounted(store);
}

/// Sets the flag when the thread ends, by panic too.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

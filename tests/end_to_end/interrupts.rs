//! A build that is told to end does, wherever it is, and leaves nothing: no prune is needed where
//! there was time to tidy up.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::gate::Gate;
use crate::support::{Context, Finished, Rstore, machine};

/// A build under way.
struct Build<'s> {
    store: &'s Rstore,
    command: Command,
    child: Option<Child>,
    mark: String,
}

impl Build<'_> {
    fn start<'s>(
        store: &'s Rstore,
        context: &Context,
        mark: &str,
        arguments: &[&str],
    ) -> Build<'s> {
        let mut command = store.command();
        command.args(["build", "-t", "app", "--progress", "plain"]);
        command
            .args(arguments)
            .arg(context.path())
            .env("MARK", mark);
        command.stderr(Stdio::piped()).stdout(Stdio::null());
        let child = command.spawn().expect("rstore runs");
        Build {
            store,
            command,
            child: Some(child),
            mark: mark.to_owned(),
        }
    }

    /// Waits until a process of the build has this in its command line.
    fn until_runs(&self, words: &str) {
        machine::until(words, || {
            let processes = machine::processes_with(&self.mark);
            processes.iter().any(|line| line.contains(words))
        });
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("a child can be signalled");
    }

    /// Waits for its end: with this code, nothing left, and no image.
    #[track_caller]
    fn ends_with(mut self, code: i32) -> Finished {
        let child = self.child.take().expect("it runs");
        let output = child.wait_with_output().expect("rstore ends");
        let finished = Finished::new(&self.command, &output);
        assert_eq!(finished.code, code, "{finished}");
        assert!(finished.stderr.contains("interrupted by"), "{finished}");
        let left = machine::processes_left(&self.mark, Duration::from_secs(30));
        assert!(left.is_empty(), "{left:#?}");
        let mounts = machine::mounts_left(self.store.root(), Duration::from_secs(30));
        assert!(mounts.is_empty(), "{mounts:#?}");
        assert_eq!(self.store.debris(), Vec::<PathBuf>::new());
        assert!(!self.store.tags().contains_key("app:latest"));
        finished
    }
}

impl Drop for Build<'_> {
    fn drop(&mut self) {
        // Of a test that failed in the middle.
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn mark(name: &str) -> String {
    format!("rstore-{name}-{}", std::process::id())
}

#[test]
fn an_interrupted_build_takes_its_children_with_it() {
    let store = Rstore::with_base();
    let mark = mark("interrupt");
    let dockerfile = format!("FROM base\nENV MARK={mark}\nRUN echo first > /f\nRUN sleep 1000\n");
    let context = Context::new(&dockerfile);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let build = Build::start(&store, &context, &mark, &[]);
        build.until_runs("sleep 1000");
        build.signal(signal);
        build.ends_with(code);
    }
}

#[test]
fn a_second_signal_leaves_no_more_than_the_first() {
    let store = Rstore::with_base();
    let mark = mark("impatient");
    // What it has written takes a while to remove.
    let context = Context::new(&format!(
        "FROM base\nENV MARK={mark}\nRUN mkdir /many && cd /many && seq 5000 | xargs touch && sleep 1000\n",
    ));
    let build = Build::start(&store, &context, &mark, &[]);
    build.until_runs("sleep 1000");
    for _ in 0..5 {
        build.signal(Signal::INT);
    }
    build.ends_with(130);
}

#[test]
fn a_build_is_interrupted_while_one_stage_waits_for_another_and_for_a_slot() {
    let store = Rstore::with_base();
    let mark = mark("waiting");
    // The last stage waits for the others; of those one runs, and one waits for it to end.
    let context = Context::new(&format!(
        "FROM base AS one\nENV MARK={mark}\nRUN sleep 1000\nFROM base AS two\nENV MARK={mark}\nRUN sleep 1000\n\
         FROM base\nCOPY --from=one / /one\nCOPY --from=two / /two\n"
    ));
    let build = Build::start(&store, &context, &mark, &["--jobs", "1"]);
    build.until_runs("sleep 1000");
    build.signal(Signal::INT);
    build.ends_with(130);
}

#[test]
fn a_build_is_interrupted_while_it_writes_a_layer() {
    let store = Rstore::with_base();
    let mark = mark("commit");
    let context = Context::new("FROM base\nCOPY big /big\nRUN true\n");
    // Nothing on the disk, and seconds of compressing: the signal comes in its first moments.
    let big = std::fs::File::create(context.path().join("big")).expect("a file");
    big.set_len(1 << 30).expect("a sparse file");
    let blobs = store.blobs();
    let build = Build::start(&store, &context, &mark, &["--compression", "gzip:9"]);
    let ingest = store.root().join("rstore/ingest");
    machine::until("a layer being written", || {
        std::fs::read_dir(&ingest).is_ok_and(|mut entries| entries.next().is_some())
    });
    build.signal(Signal::TERM);
    build.ends_with(143);
    // It was not finished first.
    assert_eq!(store.blobs(), blobs);
    store.verify();
}

#[test]
fn a_failure_elsewhere_does_not_undo_a_layer_that_is_being_written() {
    let store = Rstore::with_base();
    let gate = Gate::new();
    let context = Context::new(&format!(
        "FROM base AS one\nRUN dd if=/dev/urandom of=/noise bs=64k count=400 2>/dev/null\n\
         FROM base AS two\nRUN {}; exit 6\nFROM base\nCOPY --from=one /noise /\nCOPY --from=two /noise /\n",
        gate.wait()
    ));
    let mut command = store.command();
    let arguments = [
        "build",
        "--jobs",
        "2",
        "--progress",
        "rawjson",
        "--compression",
        "gzip:9",
    ];
    command.args(arguments).arg(context.path());
    let child = command.stderr(Stdio::piped()).spawn().expect("rstore runs");
    // The first stage's process has ended: its layer is being written, or is already.
    let ingest = store.root().join("rstore");
    machine::until("a layer of the first stage", || {
        let containers = std::fs::read_dir(ingest.join("containers"));
        let snapshots = std::fs::read_dir(ingest.join("snapshots"));
        let written = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.is_ok_and(|entry| entry.path().join("noise").exists())
        };
        containers.is_ok() && snapshots.is_ok_and(|entries| entries.into_iter().any(written))
    });
    drop(gate);
    let output = child.wait_with_output().expect("rstore ends");
    let finished = Finished::new(&command, &output);
    assert_eq!(finished.code, 6, "{finished}");
    let built = store.try_build(context.path(), &["--target", "one"]).ok();
    assert_eq!((built.cached(), built.ran()), (1, 0), "{built}");
}

//! Everything dies together.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rstore::executor::{Cancel, Executor, Exit, Native, Stream};

use crate::support::{Image, may_run, run, run_step};

/// How many processes of the machine have this word in their command line.
fn processes_with(word: &str) -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return 0;
    };
    let command_lines = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(())?;
        std::fs::read(entry.path().join("cmdline")).ok()
    });
    command_lines
        .filter(|line| String::from_utf8_lossy(line).contains(word))
        .count()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "never happened: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A number of seconds that no other sleep on this machine has.
fn unique_sleep(salt: u32) -> String {
    format!("{}.{salt}", 100_000 + std::process::id())
}

#[test]
fn a_background_process_ends_with_the_step_and_cannot_hold_its_output() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let sleep = unique_sleep(1);
    let start = Instant::now();
    let ran = run(image.sh(&format!(
        "(sleep {sleep}; echo late) & sleep {sleep} & echo now"
    )));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!((ran.code(), ran.stdout.as_str()), (0, "now\n"));
    assert_eq!(processes_with(&sleep), 0);
}

#[test]
fn cancelling_kills_everything_and_says_so() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let sleep = unique_sleep(2);
    let cancel = Cancel::new().unwrap();
    let step = image.sh(&format!(
        "trap '' TERM INT; sleep {sleep} & echo ready; sleep {sleep}"
    ));
    let canceller = cancel.clone();
    let outcome = Native
        .run(step, &cancel, &mut |stream, chunk| {
            assert_eq!((stream, chunk), (Stream::Stdout, &b"ready\n"[..]));
            canceller.cancel();
        })
        .unwrap();
    assert_eq!(outcome.exit, Exit::Cancelled);
    assert_eq!(processes_with(&sleep), 0);
    // And what comes after it does not start.
    let outcome = Native
        .run(image.sh("true"), &cancel, &mut |_, _| {})
        .unwrap();
    assert_eq!(outcome.exit, Exit::Cancelled);
}

#[test]
fn a_panic_of_the_caller_kills_the_step() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let sleep = unique_sleep(3);
    let step = image.sh(&format!("echo ready; sleep {sleep}"));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Native.run(step, &Cancel::new().unwrap(), &mut |_, _| {
            panic!("on purpose")
        })
    }));
    assert!(caught.is_err());
    assert_eq!(processes_with(&sleep), 0);
}

/// The example `run_step` is killed -9 while its step runs, at many points of its life.
#[test]
fn a_killed_parent_leaves_no_process_and_no_mount() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let sleep = unique_sleep(4);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for delay in (0..20)
        .map(|step| Duration::from_micros(step * 250))
        .chain([Duration::from_millis(200)])
    {
        let mut child = Command::new(run_step())
            .args([image.dir.path().to_str().unwrap(), "/bin/sh", "-c"])
            .arg(format!("sleep {sleep} & sleep {sleep}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "starting\n");
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("the step's processes are gone", || {
            processes_with(&sleep) == 0
        });
    }
    assert_eq!(
        std::fs::read_to_string("/proc/self/mountinfo").unwrap(),
        mounts
    );
}

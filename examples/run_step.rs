//! Runs one command in the overlay of `DIR/lower` and `DIR/stubs`, as the build does.
//!
//! ```text
//! run_step DIR PROGRAM [ARGUMENT…]
//! ```
//!
//! Makes what it needs beside them (`upper.PID`, `work.PID`), enters a user namespace if it isn't
//! root, and exits with the program's code. The executor's tests kill it at every moment.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use rstore::executor::{Cancel, Executor, Native, Step, Stream, stubs, userns};
use rstore::fsutil;
use rstore::snapshot::overlay;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("run_step: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_default());
    let args: Vec<OsString> = args.collect();
    if userns::needed() {
        userns::enter()?;
    }
    let part = |name: &str| dir.join(format!("{name}.{}", std::process::id()));
    let (upper, work) = (part("upper"), part("work"));
    for dir in [&upper, &work] {
        fsutil::create_dir_all(dir)?;
    }
    stubs::ensure(&dir.join("stubs"))?;
    let userxattr = userns::current_mapping().as_str() != "host";
    let options = overlay::Options {
        volatile: true,
        userxattr,
    };
    let root = overlay::mount(
        &[dir.join("lower"), dir.join("stubs")],
        Some((&upper, &work)),
        options,
    )?;
    println!("starting");
    let outcome = Native.run(
        Step::new(root, args),
        &Cancel::new()?,
        &mut |stream, chunk| {
            let _ = match stream {
                Stream::Stdout => std::io::stdout().write_all(chunk),
                Stream::Stderr => std::io::stderr().write_all(chunk),
            };
        },
    );
    for dir in [&upper, &work] {
        fsutil::remove_tree(dir)?;
    }
    Ok(ExitCode::from(outcome?.exit.code() as u8))
}

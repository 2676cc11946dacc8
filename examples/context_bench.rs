//! What a large context costs: `cargo run --example context_bench [FILES [MEGABYTES]]`.
//!
//! Makes a context of 20,000 files and 300 MB, and builds it cold, warm, and with one file changed.
//! Prints how long each took and, where there is strace, how many of the context's files were
//! opened to be read. The program is `RSTORE`, or the one beside this one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, String>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| match arguments.next() {
        Some(text) => text.parse().map_err(|_| format!("{text:?} is no number")),
        None => Ok(default),
    };
    let (files, megabytes) = (number(20_000)?, number(300)?);
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    measure(directory.path(), files, megabytes)
}

fn measure(directory: &Path, files: u64, megabytes: u64) -> Outcome<()> {
    let context = directory.join("context");
    fs::create_dir_all(&context).map_err(told(&context))?;
    fill(&context, files, megabytes)?;
    // Files that were written a moment ago could change again unseen, and are not trusted yet.
    std::thread::sleep(Duration::from_secs(3));
    println!("{files} files, {megabytes} MB");
    let build = |what: &str| report(what, directory, &context);
    build("cold")?;
    build("warm")?;
    build("warm")?;
    let changed = context.join("0/0");
    fs::write(&changed, "changed").map_err(told(&changed))?;
    build("one file changed")?;
    std::thread::sleep(Duration::from_secs(3));
    build("warm")
}

fn fill(context: &Path, files: u64, megabytes: u64) -> Outcome<()> {
    let dockerfile = context.join("Dockerfile");
    fs::write(&dockerfile, "FROM scratch\nCOPY . /app\n").map_err(told(&dockerfile))?;
    let size = (megabytes * 1_000_000 / files.max(1)) as usize;
    let mut state = 1u64;
    for number in 0..files {
        let place = context.join((number / 200).to_string());
        if number % 200 == 0 {
            fs::create_dir_all(&place).map_err(told(&place))?;
        }
        // Half of it noise: neither all the same nor beyond all compression.
        let mut content = Vec::with_capacity(size + 8);
        while content.len() < size {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            content.extend_from_slice(&state.to_le_bytes()[4..]);
            content.extend_from_slice(b"text");
        }
        content.truncate(size);
        let path = place.join((number % 200).to_string());
        fs::write(&path, &content).map_err(told(&path))?;
    }
    Ok(())
}

fn report(what: &str, directory: &Path, context: &Path) -> Outcome<()> {
    let began = Instant::now();
    run(&mut build(directory, context)?)?;
    let took = began.elapsed();
    println!("{what:>18}: {:6.2} s", took.as_secs_f64());
    // Warm builds are the same twice: the second one is watched.
    if what == "warm" {
        let log = directory.join("trace");
        let program = build(directory, context)?;
        let mut trace = Command::new("strace");
        trace.args(["-f", "-qq", "-y", "-e", "trace=openat,openat2,open", "-o"]);
        trace
            .arg(&log)
            .arg(program.get_program())
            .args(program.get_args());
        match run(&mut trace) {
            Ok(()) => println!("{:>18}  {} files read", "", opened(&log, context)?),
            Err(why) => println!("{:>18}  not counted: {why}", ""),
        }
    }
    Ok(())
}

fn build(directory: &Path, context: &Path) -> Outcome<Command> {
    let program = match std::env::var_os("RSTORE") {
        Some(program) => PathBuf::from(program),
        None => {
            let own = std::env::current_exe().map_err(|error| error.to_string())?;
            let place = own.parent().and_then(Path::parent);
            place.ok_or("this program is nowhere")?.join("rstore")
        }
    };
    let mut command = Command::new(program);
    command.arg("--root").arg(directory.join("store"));
    command.args(["build", "-q"]).arg(context);
    Ok(command)
}

/// How many files of the context were opened for reading.
fn opened(log: &Path, context: &Path) -> Outcome<usize> {
    let text = fs::read_to_string(log).map_err(told(log))?;
    let below = format!("<{}/", context.display());
    let reads = text.lines().filter(|line| {
        let descriptor = line.rsplit_once("= ").map_or("", |(_, result)| result);
        let other = ["O_PATH", "O_DIRECTORY", ".dockerignore", "Dockerfile"];
        descriptor.contains(&below) && !other.iter().any(|word| line.contains(word))
    });
    Ok(reads.count())
}

fn run(command: &mut Command) -> Outcome<()> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}\n{stderr}", output.status))
}

fn told(path: &Path) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

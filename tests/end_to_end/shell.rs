//! `rstore shell`: images looked into, and the containers that failed steps left.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::gate::Gate;
use crate::support::{Context, Need, Rstore, machine, skip_without};

/// A build whose last step fails with status 7, its container kept; the container's ID.
#[track_caller]
fn failed(store: &Rstore) -> String {
    let context = Context::new(
        "FROM base\nENV FROM_ENV=e\nARG FROM_ARG=a\nRUN echo me:x:1234:1234::/home/me: >> /etc/passwd\n\
         WORKDIR /work\nRUN chown me . && echo before > /before\nUSER me\n\
         RUN echo half > half; exit 7\n",
    );
    let built = store
        .try_build(
            context.path(),
            &[
                "--rm=false",
                "--build-arg",
                "HTTP_PROXY=http://u:swordfish@p",
            ],
        )
        .fails(7, &["Dockerfile:8", "rstore shell"]);
    assert!(!built.stderr.contains("swordfish"), "{built}");
    let listed = store.json(&["ps"]);
    let row = &listed["containers"][0];
    assert_eq!(row["status"], "failed", "{listed}");
    assert_eq!(row["exit_status"], 7);
    assert_eq!(row["line"], 8);
    assert_eq!(row["dockerfile"], "Dockerfile");
    assert_eq!(row["step"], "RUN echo half > half; exit 7");
    assert_eq!(row["build"], context.path().display().to_string());
    row["id"].as_str().expect("an ID").to_owned()
}

/// A shell in `subject` that says "open" and waits at a gate.
fn waiting(store: &Rstore, subject: &str, gate: &Gate, mark: &str) -> Child {
    let script = format!("echo open; {}", gate.wait());
    let mut command = store.command();
    command.args(["shell", "-e", "MARK", subject, "--", "sh", "-c", &script]);
    command.env("MARK", mark);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("rstore runs");
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert_eq!(line, "open\n");
    child
}

#[test]
fn the_container_of_a_failed_step_is_opened_as_the_step_left_it() {
    let store = Rstore::with_base();
    let id = failed(&store);
    let told = store.ok([
        "shell",
        &id,
        "--",
        "sh",
        "-c",
        "cat half /before; id -un; pwd; echo $FROM_ENV $FROM_ARG $HOME",
    ]);
    assert_eq!(told, "half\nbefore\nme\n/work\ne a /home/me\n");
    // Any unique beginning means it too, and what is changed stays.
    store.ok(["shell", &id[..6], "--", "sh", "-c", "echo more >> half"]);
    assert_eq!(
        store.ok(["shell", &id, "--", "cat", "half"]),
        "half\nmore\n"
    );
    let overridden = [
        "shell",
        "-u",
        "root",
        "-w",
        "/",
        "-e",
        "FROM_ENV=x",
        &id,
        "--",
        "sh",
        "-c",
    ];
    let told = store.ok(overridden.iter().chain(&["id -u; pwd; echo $FROM_ENV"]));
    assert_eq!(told, "0\n/\nx\n");
    // Proxies are for the build alone, and may hold a password.
    let files = walkdir::WalkDir::new(store.root()).into_iter().flatten();
    for file in files.filter(|entry| entry.file_type().is_file()) {
        let bytes = std::fs::read(file.path()).expect("a file");
        let found = bytes.windows(9).any(|window| window == b"swordfish");
        assert!(!found, "{}", file.path().display());
    }
    store.ok(["prune", "-f"]);
    assert_eq!(store.debris(), Vec::<PathBuf>::new());
    store.run(["shell", &id]).fails(1, &[&id]);
    store.verify();
}

#[test]
fn a_container_is_kept_only_where_that_is_asked_for() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nRUN exit 7\n");
    for arguments in [&[] as &[&str], &["--rm=false", "--force-rm"]] {
        store.try_build(context.path(), arguments).fails(7, &[]);
        assert_eq!(store.ok(["ps", "-q"]), "");
        assert_eq!(store.debris(), Vec::<PathBuf>::new());
    }
}

#[test]
fn what_a_failed_build_finished_stays_in_the_cache() {
    let store = Rstore::with_base();
    let gate = Gate::new();
    // The other stage's step is under way when this one fails, and is not finished.
    let dockerfile = format!(
        "FROM base AS one\nRUN echo 1 > /1\nRUN echo 2 > /2\nRUN {}; exit 3\n\
         FROM base AS two\nRUN echo 3 > /3\nRUN sleep 1000\n\
         FROM base\nCOPY --from=one /1 /\nCOPY --from=two /3 /\n",
        gate.wait()
    );
    let context = Context::new(&dockerfile);
    let mut command = store.command();
    command
        .args(["build", "--jobs", "4", "--progress", "plain"])
        .arg(context.path());
    command.stderr(Stdio::piped());
    let mut child = command.spawn().expect("rstore runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    // In whichever order: both stages have come to their last step.
    let mut waits = 2;
    while waits > 0 {
        let line = lines.next().expect("more to come").expect("UTF-8");
        waits -= usize::from(line.contains("] RUN nc ") || line.contains("] RUN sleep"));
    }
    drop(gate);
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(3), "{rest:?}");
    let fixed = dockerfile
        .replace("exit 3", "true")
        .replace("sleep 1000", "true");
    context.file("Dockerfile", fixed);
    let built = store.build(context.path(), &["-t", "app"]);
    assert_eq!((built.cached(), built.ran()), (3, 2), "{built}");
}

#[test]
fn a_container_is_open_once_and_no_prune_takes_it_meanwhile() {
    let store = Rstore::with_base();
    let id = failed(&store);
    let gate = Gate::new();
    let mark = format!("rstore-shell-{}", std::process::id());
    let mut child = waiting(&store, &id, &gate, &mark);
    store.run(["shell", &id]).fails(75, &[&id, "shell"]);
    let listed = store.json(&["ps"]);
    assert_eq!(listed["containers"][0]["status"], "open", "{listed}");
    store.ok(["prune", "--all", "-f"]);
    assert_eq!(store.ok(["ps", "-q"]).trim(), id);
    super::lifecycle::assert_accounted(&store);
    drop(gate);
    assert!(child.wait().expect("it ends").success());
    assert_eq!(store.ok(["shell", &id, "--", "cat", "half"]), "half\n");
    store.ok(["prune", "-f"]);
    assert_eq!(store.ok(["ps", "-q"]), "");
    store.verify();
}

#[test]
fn a_shell_that_is_killed_leaves_what_a_prune_removes_and_a_container_that_opens_again() {
    let store = Rstore::with_base();
    let id = failed(&store);
    let gate = Gate::new();
    let mark = format!("rstore-shell-kill-{}", std::process::id());
    let mut in_container = waiting(&store, &id, &gate, &mark);
    let mut in_image = waiting(&store, "base", &gate, &mark);
    for child in [&mut in_container, &mut in_image] {
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }
    let left = machine::processes_left(&mark, Duration::from_secs(30));
    assert!(left.is_empty(), "{left:#?}");
    let held = machine::leases_left(store.root(), std::time::Duration::from_secs(30));
    assert!(held.is_empty(), "leases {held:#?}");
    let mounts = machine::mounts_left(store.root(), Duration::from_secs(30));
    assert!(mounts.is_empty(), "{mounts:#?}");
    assert_eq!(store.ok(["shell", &id, "--", "cat", "half"]), "half\n");
    let dead = store.ok(["ps", "-q", "-f", "status=dead"]);
    assert_eq!(dead.lines().count(), 1, "{dead}");
    store
        .run(["shell", dead.trim()])
        .fails(1, &["killed", "rstore prune"]);
    store.ok(["prune", "-f"]);
    assert_eq!(store.debris(), Vec::<PathBuf>::new());
    super::lifecycle::assert_accounted(&store);
    store.verify();
}

#[test]
fn an_image_is_opened_with_its_own_settings_and_left_as_it_was() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base\nENV A=b\nWORKDIR /here\nSHELL [\"/bin/ash\", \"-e\", \"-c\"]\n\
         ENTRYPOINT [\"/bin/false\"]\nRUN echo first > /f\nRUN echo second > /f\n",
    );
    store.build(context.path(), &["-t", "app"]);
    let (blobs, tags) = (store.blobs(), store.tags());
    let script = "cat /f; pwd; echo $A; echo changed > /f";
    assert_eq!(
        store.ok(["shell", "app", "--", "sh", "-c", script]),
        "second\n/here\nb\n"
    );
    // The one before it, by its ID.
    let history = store.json(&["images", "-a"]);
    let images = history["images"].as_array().expect("images");
    let first = images
        .iter()
        .find(|image| {
            image["step"]
                .as_str()
                .is_some_and(|by| by.contains("echo first"))
        })
        .unwrap_or_else(|| panic!("{history}"));
    let first = first["id"].as_str().expect("an ID");
    assert_eq!(store.ok(["shell", first, "--", "cat", "/f"]), "first\n");
    // Without words the shell reads them, and what it says comes by stream, whatever the bytes.
    let mut command = store.command();
    command.args(["shell", "--network", "none", "app"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("rstore runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin
        .write_all(b"printf '\\377\\0x'; echo err >&2; ls /sys/class/net; exit 9\n")
        .unwrap();
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(9));
    assert_eq!(output.stdout, b"\xff\0xlo\n");
    assert_eq!(output.stderr, b"err\n");
    assert_eq!((store.blobs(), store.tags()), (blobs, tags));
    assert_eq!(store.debris(), Vec::<PathBuf>::new());
}

#[test]
fn what_cannot_be_opened_is_told_and_leaves_nothing() {
    let store = Rstore::with_base();
    store
        .run(["shell", "bsae"])
        .fails(1, &["did you mean \"base:latest\""]);
    store
        .run(["shell", "base", "--", "nosuch"])
        .fails(127, &["nosuch"]);
    store
        .run(["shell", "-u", "nobody-knows", "base"])
        .fails(1, &["nobody-knows"]);
    store
        .run(["shell", "-w", "here", "base"])
        .fails(2, &["absolute"]);
    let context = Context::new("FROM scratch\nCOPY Dockerfile /\n");
    store.build(context.path(), &["-t", "empty"]);
    store
        .run(["shell", "empty"])
        .fails(127, &["/bin/sh", "stands after --"]);
    assert_eq!(store.debris(), Vec::<PathBuf>::new());
}

#[test]
fn a_user_without_root_opens_shells_too() {
    if skip_without(&[
        Need::Root,
        Need::Program("useradd"),
        Need::Program("newuidmap"),
    ]) {
        return;
    }
    let user = crate::support::user::User::new("sh", crate::support::user::Subordinate::Range);
    let tar = user.home().join("busybox.tar");
    std::fs::copy(crate::support::busybox_tar(), &tar).expect("a copy");
    user.own(&tar);
    user.rstore(&["import", "busybox.tar", "base"]).ok();
    let told = user.rstore(&[
        "shell",
        "base",
        "--",
        "sh",
        "-c",
        "id -u; echo x > /x; exit 4",
    ]);
    assert_eq!((told.code, told.stdout.as_str()), (4, "0\n"), "{told}");
    let mut command = user.command(user.home().join("rstore"));
    command.args(["shell", "base"]);
    let mut terminal =
        crate::support::terminal::Terminal::run_as(&command, Some(user.ids()), 24, 80);
    terminal.shows(&["# "]);
    terminal.keys("tty\r");
    terminal.shows(&["/dev/pts/0"]);
    terminal.keys("exit 3\r");
    assert_eq!(terminal.code(), Some(3));
}

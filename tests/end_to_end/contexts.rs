//! Where a context comes from: directories, stdin, URLs, repositories; by name too.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::http::{Repository, Response, Server};
use crate::support::{Context, Finished, Need, Rstore, decompressed, skip_without};

/// `rstore build -t app ARGUMENTS`, with these bytes on stdin.
fn piped(store: &Rstore, arguments: &[&str], input: &[u8]) -> Finished {
    let mut command = store.command();
    command
        .args(["build", "--progress", "classic", "-t", "app"])
        .args(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("rstore runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // One that has read enough hangs up.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("rstore ends");
    writer.join().unwrap();
    Finished::new(&command, &output)
}

/// A tar of files.
fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        member(&mut archive, name, tar::EntryType::Regular, "", content);
    }
    archive.into_inner().unwrap()
}

/// Adds a member whose name may be anything.
fn member(
    archive: &mut tar::Builder<Vec<u8>>,
    name: &str,
    kind: tar::EntryType,
    link: &str,
    content: &str,
) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    archive.append(&header, content.as_bytes()).unwrap();
}

/// The members of the layers of `app`, with what files hold and where links lead.
fn members(store: &Rstore) -> Vec<String> {
    let mut all = Vec::new();
    for layer in store.layers("app:latest") {
        let tar = decompressed(&std::fs::read(store.blob(&layer)).unwrap());
        let mut archive = tar::Archive::new(&tar[..]);
        for entry in archive.entries().unwrap() {
            use std::io::Read;
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let path = entry.path().unwrap().display().to_string();
            let link = entry
                .link_name()
                .unwrap()
                .map(|to| format!(" -> {}", to.display()));
            all.push(format!(
                "{path}{}{}",
                link.unwrap_or_default(),
                match text.as_str() {
                    "" => String::new(),
                    text => format!(": {text}"),
                }
            ));
        }
    }
    all
}

#[test]
fn a_tar_on_stdin_is_a_context_however_it_is_compressed() {
    let plain = tar_of(&[
        ("Dockerfile", "FROM scratch\nCOPY . /\n"),
        (".dockerignore", "*.log\nDockerfile\n.dockerignore\n"),
        ("dir/file", "content"),
        ("x.log", "no"),
    ]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let store = Rstore::new();
    let mut ids = Vec::new();
    for archive in [
        plain.clone(),
        gzip.finish().unwrap(),
        bzip2.finish().unwrap(),
        xz.finish().unwrap(),
        zstd::encode_all(&plain[..], 1).unwrap(),
    ] {
        let built = piped(&store, &["-"], &archive).ok();
        assert_eq!(members(&store), ["dir/", "dir/file: content"], "{built}");
        ids.push(store.id("app:latest"));
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "the first is in the cache for all the others");
    assert_eq!(store.debris(), [] as [std::path::PathBuf; 0]);
    // What was unpacked went with the build: df knows no temporary file.
    let left = std::fs::read_dir(store.root().join("rstore/snapshots"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
}

#[test]
fn a_dockerfile_on_stdin_has_no_context_or_another() {
    let store = Rstore::new();
    let inline = b"FROM scratch\nCOPY <<EOF /f\nhello\nEOF\n";
    piped(&store, &["-"], inline).ok();
    assert_eq!(members(&store), ["f: hello\n"]);
    piped(&store, &["-"], b"FROM scratch\nCOPY f /\n").fails(1, &["stdin:2", "\"f\" is not in"]);
    piped(&store, &["-"], b"").fails(1, &["nothing came from stdin"]);
    piped(&store, &["-f", "-", "-"], inline).fails(2, &["both the context and the Dockerfile"]);
    piped(&store, &["-f", "Other", "-"], inline).fails(2, &["-f Other"]);

    let archive = tar_of(&[("sub/Other", "FROM scratch\nCOPY f /g\n"), ("f", "x")]);
    piped(&store, &["-f", "sub/Other", "-"], &archive).ok();
    assert_eq!(members(&store), ["g: x"]);
    piped(&store, &["-"], &archive).fails(1, &["no Dockerfile in the build context"]);

    let context = Context::new("this is not it\n");
    context.file("f", "here");
    // Nobody's name is `-`.
    context.file("-.dockerignore", "f");
    let path = context.path().to_str().unwrap();
    piped(&store, &["-f", "-", path], b"FROM scratch\nCOPY f /\n").ok();
    assert_eq!(members(&store), ["f: here"]);
}

#[test]
fn no_member_of_a_tar_reaches_out_of_the_context() {
    let outside = crate::support::scratch();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "TOP SECRET").unwrap();
    let (secret, directory) = (secret.to_str().unwrap(), outside.path().to_str().unwrap());
    let store = Rstore::new();
    let with = |dockerfile: &str, change: &dyn Fn(&mut tar::Builder<Vec<u8>>)| {
        let mut archive = tar::Builder::new(Vec::new());
        change(&mut archive);
        member(
            &mut archive,
            "Dockerfile",
            tar::EntryType::Regular,
            "",
            dockerfile,
        );
        piped(&store, &["-"], &archive.into_inner().unwrap())
    };
    use tar::EntryType::{Link, Regular, Symlink};
    let copy = "FROM scratch\nCOPY . /\n";
    with(copy, &|a| member(a, "../escaped", Regular, "", "x")).fails(1, &["../escaped"]);
    with(copy, &|a| member(a, "a/../../escaped", Regular, "", "x")).fails(1, &["escaped"]);
    with(copy, &|a| member(a, "/absolute", Regular, "", "x")).ok();
    assert!(
        members(&store).contains(&"absolute: x".to_owned()),
        "{:?}",
        members(&store)
    );
    // Through a link that leads out: into a directory of that name inside.
    let link = |a: &mut tar::Builder<Vec<u8>>| member(a, "link", Symlink, directory, "");
    with(copy, &|a| {
        link(a);
        member(a, "link/written", Regular, "", "x");
    });
    assert!(!outside.path().join("written").exists());
    with(copy, &|a| member(a, "hard", Link, secret, "")).fails(1, &["hard"]);
    with(copy, &|a| {
        link(a);
        member(a, "hard", Link, "link/secret", "");
    })
    .fails(1, &["hard"]);
    // Links are copied as links, and followed as if the context were the root.
    with("FROM scratch\nCOPY link/secret /\n", &link).fails(1, &["is not in the build context"]);
    with("FROM scratch\nCOPY link /\n", &link).fails(1, &["is not in the build context"]);
    let mut archive = tar::Builder::new(Vec::new());
    member(&mut archive, "Dockerfile", Symlink, secret, "");
    let refused = piped(&store, &["-"], &archive.into_inner().unwrap());
    assert!(
        !refused
            .fails(1, &["no Dockerfile"])
            .all()
            .contains("TOP SECRET")
    );
    assert!(
        !Path::new(directory)
            .parent()
            .unwrap()
            .join("escaped")
            .exists()
    );
}

#[test]
fn a_url_is_an_archive_or_a_dockerfile() {
    let archive = tar_of(&[
        ("Dockerfile", "FROM scratch\nCOPY f /\n"),
        ("f", "in the tar"),
    ]);
    let server = Server::new(move |request| match request.path.as_str() {
        "/context.tar?token=x" => Response::ok(archive.clone()),
        "/Dockerfile" => Response::ok("FROM scratch\nCOPY <<EOF /f\ntext\nEOF\n"),
        "/copies" => Response::ok("FROM scratch\nCOPY f /g\n"),
        _ => Response::new(404),
    });
    let store = Rstore::new();
    piped(&store, &[&server.http("context.tar?token=x")], b"").ok();
    assert_eq!(members(&store), ["f: in the tar"]);
    piped(&store, &[&server.http("Dockerfile")], b"").ok();
    assert_eq!(members(&store), ["f: text\n"]);
    let url = server.http("context.tar?token=x");
    piped(&store, &["-f", "-", &url], b"FROM scratch\nCOPY f /h\n").ok();
    assert_eq!(members(&store), ["h: in the tar"]);
    let context = Context::new("");
    context.file("f", "local");
    piped(
        &store,
        &[
            "-f",
            &server.http("copies"),
            context.path().to_str().unwrap(),
        ],
        b"",
    )
    .ok();
    assert_eq!(members(&store), ["g: local"]);
    piped(&store, &[&server.http("none")], b"").fails(1, &["build context", "404"]);
}

#[test]
fn a_repository_is_a_context_in_part_or_whole() {
    if skip_without(&[Need::Program("git")]) {
        return;
    }
    let repository = Repository::new("app");
    repository.commit(&[
        ("Dockerfile", "FROM scratch\nCOPY . /\n"),
        (".dockerignore", "Dockerfile\n.dockerignore\nsub\n"),
        ("f", "first"),
        ("sub/Dockerfile", "FROM scratch\nCOPY g /\n"),
        ("sub/g", "deep"),
    ]);
    repository.git(&["checkout", "-q", "-b", "feature/x"]);
    repository.commit(&[("f", "second")]);
    let server = Server::of_repositories(repository.base());
    let url = server.url("git", "app.git");
    let store = Rstore::new();
    piped(&store, &[&url], b"").ok();
    assert_eq!(members(&store), ["f: first"]);
    piped(&store, &[&format!("{url}#feature/x")], b"").ok();
    assert_eq!(members(&store), ["f: second"]);
    piped(&store, &[&format!("{url}#:sub")], b"").ok();
    assert_eq!(members(&store), ["g: deep"]);
    piped(
        &store,
        &["-f", "sub/Dockerfile", &format!("{url}?branch=main")],
        b"",
    )
    .fails(1, &["\"g\""]);
    // A server of files alone, which knows no depth.
    let files = Server::of_files(repository.base());
    piped(
        &store,
        &[&format!("{}#feature/x", files.http("app.git"))],
        b"",
    )
    .ok();
    assert_eq!(members(&store), ["f: second"]);
    let local = format!("file://{}/app.git", repository.base().display());
    piped(&store, &[&local], b"").fails(2, &["file:// URLs"]);
}

#[test]
fn links_to_the_context_and_to_the_dockerfile_are_followed_and_special_files_kept() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let store = Rstore::new();
    let context = Context::new("");
    std::fs::remove_file(context.path().join("Dockerfile")).unwrap();
    let elsewhere = crate::support::scratch();
    std::fs::write(elsewhere.path().join("real"), "FROM scratch\nCOPY d /d\n").unwrap();
    context.link(
        "Dockerfile",
        elsewhere.path().join("real").to_str().unwrap(),
    );
    context.file("d/file", "x");
    context.link("d/out", "/etc/passwd");
    let at = |name: &str| context.path().join("d").join(name);
    let node = |name: &str, kind, mode| {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at(name),
            kind,
            rustix::fs::Mode::from_raw_mode(mode),
            0,
        )
        .unwrap();
    };
    node("pipe", rustix::fs::FileType::Fifo, 0o600);
    node("null", rustix::fs::FileType::CharacterDevice, 0o600);
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let link = elsewhere.path().join("context");
    symlink(context.path(), &link).unwrap();
    store.build(&link, &["-t", "app"]);
    assert_eq!(
        members(&store),
        [
            "d/",
            "d/file: x",
            "d/null",
            "d/out -> /etc/passwd",
            "d/pipe"
        ]
    );
    store.build(&link, &["-t", "app"]);
    // A link that leads out of a context is to nothing.
    context.file("Other", "FROM scratch\nCOPY d/out /\n");
    let other = context.path().join("Other");
    let built = store.try_build(context.path(), &["-f", other.to_str().unwrap()]);
    built.fails(1, &["\"d/out\" is not in"]);
}

#[test]
fn the_ignore_file_beside_the_dockerfile_goes_before_the_contexts() {
    let store = Rstore::new();
    let context = Context::new("FROM scratch\nCOPY a b /\n");
    context.file("a", "");
    context.file("b", "");
    context.file(".dockerignore", "a");
    store
        .try_build(context.path(), &[])
        .fails(1, &["\"a\"", ".dockerignore"]);
    context.file("Dockerfile.dockerignore", "c");
    store.build(context.path(), &[]);
}

#[test]
fn what_a_killed_build_fetched_is_pruned() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let (told, asked) = std::sync::mpsc::channel();
    let server = Server::new(move |request| {
        if request.path == "/held" {
            told.send(()).unwrap();
            let _ = wait.recv();
        }
        Response::ok(tar_of(&[("Dockerfile", "FROM scratch\n"), ("big", "x")]))
    });
    let store = Rstore::new();
    let context = Context::new(&format!(
        "FROM scratch\nADD {} /a\nADD {} /b\n",
        server.http("first"),
        server.http("held")
    ));
    let mut child = store
        .command()
        .args(["build", "-q"])
        .arg(context.path())
        .spawn()
        .unwrap();
    asked.recv().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    release.send(()).unwrap();
    let scratch = || {
        std::fs::read_dir(store.root().join("rstore/snapshots"))
            .unwrap()
            .count()
    };
    assert!(scratch() > 0);
    store.ok(["prune", "-f"]);
    assert_eq!(scratch(), 0);
    assert_eq!(store.debris(), [] as [std::path::PathBuf; 0]);
}

#[test]
fn an_interrupted_fetch_ends_at_once_and_leaves_nothing() {
    let (_release, wait) = std::sync::mpsc::channel::<()>();
    let (told, asked) = std::sync::mpsc::channel();
    let server = Server::new(move |_| {
        told.send(()).unwrap();
        let _ = wait.recv();
        Response::new(500)
    });
    let store = Rstore::new();
    let adds = Context::new(&format!("FROM scratch\nADD {} /a\n", server.http("held")));
    let mut child = (store.command().args(["build", "-q"]).arg(adds.path()))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    asked.recv().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(store.debris(), [] as [std::path::PathBuf; 0]);
    let scratch = store.root().join("rstore/snapshots");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
}

#[test]
fn a_named_context_goes_before_stages_and_images() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base AS tools\nRUN exit 7\nFROM nothing-of-the-kind AS other\n\
         FROM scratch\nCOPY --from=tools f /f\nCOPY --from=lib g /g\n",
    );
    let library = Context::new("");
    library.file("f", "from the directory");
    library.file("g", "g");
    library.file("ignored", "");
    library.file(".dockerignore", "ignored");
    let directory = library.path().to_str().unwrap();
    let tools = format!("tools={directory}");
    let lib = format!("lib={directory}");
    let arguments = [
        "-t",
        "app",
        "--build-context",
        &tools,
        "--build-context",
        &lib,
    ];
    store.build(context.path(), &arguments);
    assert_eq!(members(&store), ["f: from the directory", "g: g"]);
    assert_eq!(store.build(context.path(), &arguments).cached(), 3);
    store
        .try_build(context.path(), &["--build-context", &lib])
        .fails(7, &[]);

    // FROM one is its files on nothing.
    let context = Context::new("FROM lib\nCOPY --from=lib:latest g /h\n");
    store.build(context.path(), &["-t", "app", "--build-context", &lib]);
    let found = members(&store);
    assert!(found.contains(&"f: from the directory".into()), "{found:?}");
    assert!(
        !found.iter().any(|path| path.starts_with("ignored")),
        "{found:?}"
    );

    // Another image under that name; one that is not there is told as FROM tells it.
    let context = Context::new("FROM nowhere\nRUN test -x /bin/busybox\n");
    let image = "nowhere=docker-image://base";
    store.build(context.path(), &["-t", "app", "--build-context", image]);
    let missing = "nowhere=docker-image://absent:1";
    store
        .try_build(context.path(), &["--build-context", missing])
        .fails(1, &["Dockerfile:1", "no image is called \"absent:1\""]);
    let gone = "nowhere=/no/such/directory";
    store
        .try_build(context.path(), &["--build-context", gone])
        .fails(2, &["/no/such/directory"]);
}

#[test]
fn a_named_context_may_be_a_layout_a_url_or_a_repository() {
    if skip_without(&[Need::Root, Need::Program("git")]) {
        return;
    }
    // A store is a layout.
    let other = Rstore::with_base();
    let layout = other.root().to_str().unwrap().to_owned();
    let digest = other.digest("base:latest");
    let store = Rstore::new();
    let context = Context::new(
        "FROM box AS first\nRUN true\nFROM scratch\nCOPY --from=box /bin/busybox /b\n",
    );
    for value in [
        format!("box=oci-layout://{layout}"),
        format!("box=oci-layout://{layout}:latest"),
        format!("box=oci-layout://{layout}@{digest}"),
    ] {
        store.build(context.path(), &["-t", "app", "--build-context", &value]);
    }
    assert_eq!(store.tags().keys().collect::<Vec<_>>(), ["app:latest"]);
    let absent = format!("box=oci-layout://{layout}:v9");
    store
        .try_build(context.path(), &["--build-context", &absent])
        .fails(1, &["none is tagged \"v9\"", "base:latest"]);

    let server = Server::new(|_| Response::ok("a file"));
    let repository = Repository::new("lib");
    repository.commit(&[("src/f", "of the repository")]);
    let repositories = Server::of_repositories(repository.base());
    let file = format!("file={}", server.http("data.bin"));
    let code = format!("code={}#main:src", repositories.url("git", "lib.git"));
    let context =
        Context::new("FROM scratch\nCOPY --from=file context /data\nCOPY --from=code f /\n");
    store.build(
        context.path(),
        &[
            "-t",
            "app",
            "--build-context",
            &file,
            "--build-context",
            &code,
        ],
    );
    assert_eq!(members(&store), ["data: a file", "f: of the repository"]);
    server.requests();
    // What nobody names is not fetched.
    let context = Context::new("FROM scratch\nCOPY <<EOF /x\nx\nEOF\n");
    store.build(context.path(), &["--build-context", &file]);
    assert_eq!(server.requests().len(), 0);
}

/// How often a build opened a file below a directory for reading.
fn opened(store: &Rstore, context: &Path, log: &Path) -> Vec<String> {
    let mut trace = Command::new("strace");
    trace.args([
        "-f",
        "-qq",
        "-y",
        "-e",
        "trace=open,openat,openat2,read,pread64,mmap",
        "-o",
    ]);
    trace.arg(log).arg(crate::support::rstore::PROGRAM);
    trace
        .env("RSTORE_ROOT", store.root())
        .arg("build")
        .arg("-q")
        .arg(context);
    crate::support::run(&mut trace);
    let log = std::fs::read_to_string(log).unwrap();
    // A successful open ends in the descriptor with its path; all files are called f and a number.
    let file = format!("<{}/d", context.display());
    log.lines()
        .filter(|line| line.contains("open") && !line.contains("O_PATH"))
        .filter(|line| !line.contains("O_DIRECTORY"))
        .filter_map(|line| {
            line.rsplit_once("= ")?
                .1
                .split_once(&file)
                .map(|(_, path)| path.to_owned())
                .filter(|path| path.contains("/f"))
        })
        .collect()
}

#[test]
fn a_warm_build_reads_no_file_and_a_changed_file_costs_its_own_hash() {
    if skip_without(&[Need::Program("strace")]) {
        return;
    }
    let context = Context::new("FROM scratch\nADD d1 f.tar /b/\nCOPY . /a\n");
    context.file("f.tar", "not one");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for number in 0..2000 {
        let path = context.file(&format!("d{}/f{number}", number % 20), format!("{number}"));
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(old).unwrap();
    }
    // What was touched a moment ago could change again unseen, and is hashed once more: the time
    // of the last change of the inode, which nobody can set, has to pass.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let store = Rstore::new();
    let logs = crate::support::scratch();
    let log = logs.path().join("log");
    let path = context.path().canonicalize().unwrap();
    assert!(opened(&store, &path, &log).len() >= 2000);
    assert_eq!(opened(&store, &path, &log), [] as [&str; 0]);
    context.file("d7/f7", "changed");
    let again = opened(&store, &path, &log);
    // Once to hash it; then the layer is made, which reads each of them once.
    let changed = again.iter().filter(|path| path.starts_with("7/f7>"));
    assert_eq!((changed.count(), again.len()), (2, 2001), "{again:?}");
}

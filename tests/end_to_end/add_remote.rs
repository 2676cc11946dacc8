//! ADD of what is elsewhere: URLs and repositories.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::Digest;

use crate::support::http::{Repository, Request, Response, Server};
use crate::support::rstore::hex;
use crate::support::{Context, Finished, Need, Rstore, decompressed, skip_without};

/// The members of the top layer of `app`: path, mode, mtime, content.
fn added(store: &Rstore) -> Vec<(String, u32, u64, String)> {
    let layers = store.layers("app:latest");
    let blob = std::fs::read(store.blob(layers.last().expect("a layer"))).expect("a blob");
    let tar = decompressed(&blob);
    let mut archive = tar::Archive::new(&tar[..]);
    let mut members = Vec::new();
    for entry in archive.entries().expect("a tar") {
        use std::io::Read;
        let mut entry = entry.expect("an entry");
        let mut text = String::new();
        if entry.header().entry_type().is_file() {
            entry.read_to_string(&mut text).expect("text");
        }
        let header = entry.header();
        let (mode, mtime) = (header.mode().unwrap(), header.mtime().unwrap());
        let path = entry.path().unwrap().display().to_string();
        members.push((path, mode & 0o7777, mtime, text));
    }
    members
}

fn build(store: &Rstore, dockerfile: &str) -> Finished {
    let context = Context::new(dockerfile);
    store.try_build(context.path(), &["-t", "app"])
}

fn checksum(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&sha2::Sha256::digest(bytes)))
}

#[test]
fn a_url_becomes_a_private_file_of_its_name_and_time() {
    let server = Server::new(|_| {
        Response::ok("hello")
            .header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
            .header("Content-Disposition", "attachment; filename=\"other\"")
    });
    let store = Rstore::new();
    let url = server.http("dir/a%20file.txt?version=1#part");
    build(&store, &format!("FROM scratch\nADD {url} /d/\n")).ok();
    let members = added(&store);
    assert_eq!(
        members.last().unwrap(),
        &("d/a file.txt".into(), 0o600, 784_111_777, "hello".into())
    );
    let asked = server.requests();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].path, "/dir/a%20file.txt?version=1");
    // What is sent is what is hashed.
    assert!(
        !asked[0].headers.contains_key("accept-encoding"),
        "{asked:?}"
    );

    // A name of the destination's, and one that nobody gives.
    build(
        &store,
        &format!("FROM scratch\nADD --chmod=u+x --chown=3:4 {url} /x\n"),
    )
    .ok();
    let (path, mode, ..) = added(&store).pop().unwrap();
    assert_eq!((path.as_str(), mode), ("x", 0o700));
    build(
        &store,
        &format!("FROM scratch\nADD {} /e/\n", server.http("")),
    )
    .ok();
    assert_eq!(added(&store).pop().unwrap().0, "e/__unnamed__");
}

#[test]
fn a_warm_build_asks_whether_a_url_has_changed_and_fetches_only_what_has() {
    let version = Arc::new(AtomicUsize::new(1));
    let current = version.clone();
    let server = Server::new(move |request| {
        let version = current.load(Ordering::SeqCst);
        let tag = format!("\"v{version}\"");
        if request.headers.get("if-none-match") == Some(&tag) {
            return Response::new(304).header("ETag", &tag);
        }
        Response::ok(format!("version {version}")).header("ETag", &format!("W/{tag}"))
    });
    let store = Rstore::new();
    let dockerfile = format!("FROM scratch\nADD {} /f\n", server.http("f"));
    build(&store, &dockerfile).ok();
    let first = store.id("app:latest");
    assert!(!server.requests()[0].headers.contains_key("if-none-match"));

    let warm = build(&store, &dockerfile).ok();
    assert_eq!(warm.cached(), 1, "{warm}");
    let asked = server.requests();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].headers["if-none-match"], "\"v1\"");
    assert_eq!(store.id("app:latest"), first);

    version.store(2, Ordering::SeqCst);
    let changed = build(&store, &dockerfile).ok();
    assert_eq!(changed.cached(), 0, "{changed}");
    assert_eq!(server.requests().len(), 1);
    assert_eq!(added(&store).pop().unwrap().3, "version 2");

    // The same file for another step: what the server says is unchanged is not here any more.
    let other = format!("FROM scratch\nADD {} /g\n", server.http("f"));
    build(&store, &other).ok();
    assert_eq!(server.requests().len(), 2);
    assert_eq!(added(&store).pop().unwrap().3, "version 2");
}

#[test]
fn a_checksum_is_held_against_the_content_and_spares_the_question() {
    let server = Server::new(|_| Response::ok("content").header("ETag", "\"x\""));
    let store = Rstore::new();
    let right = checksum(b"content");
    let dockerfile = format!(
        "FROM scratch\nADD --checksum={right} {} /f\n",
        server.http("f")
    );
    build(&store, &dockerfile).ok();
    assert_eq!(server.requests().len(), 1);
    assert_eq!(build(&store, &dockerfile).ok().cached(), 1);
    assert_eq!(server.requests().len(), 0, "nobody needs to be asked");

    let wrong = checksum(b"other");
    let dockerfile = format!(
        "FROM scratch\nADD --checksum={wrong} {} /f\n",
        server.http("f")
    );
    build(&store, &dockerfile).fails(1, &["Dockerfile:2", &right, &wrong]);
    for (flags, words) in [
        ("--checksum=sha256:abc http://h/x", "64 hexadecimal digits"),
        (
            &*format!("--checksum={right} file"),
            "URLs and repositories",
        ),
        (
            &*format!("--checksum={right} http://h/x http://h/y"),
            "one source",
        ),
    ] {
        build(&store, &format!("FROM scratch\nADD {flags} /d/\n")).fails(1, &[words]);
    }
}

#[test]
fn passwords_are_for_the_server_that_they_were_given_for() {
    let elsewhere = Server::new(|_| Response::ok("there"));
    let target = elsewhere.http("there");
    let server = Server::new(move |request: &Request| match request.path.as_str() {
        "/same" => Response::ok("same"),
        "/here" => Response::new(302).header("Location", "/same"),
        "/loop" => Response::new(302).header("Location", "/loop"),
        "/out" => Response::new(302).header("Location", "file:///etc/passwd"),
        _ => Response::new(307).header("Location", &target),
    });
    let store = Rstore::new();
    let with_password = |path: &str| server.http(path).replace("http://", "http://me:s3cret@");
    build(
        &store,
        &format!("FROM scratch\nADD {} /f\n", with_password("here")),
    )
    .ok();
    for asked in server.requests() {
        assert_eq!(
            asked.headers["authorization"], "Basic bWU6czNjcmV0",
            "{asked:?}"
        );
    }
    build(
        &store,
        &format!("FROM scratch\nADD {} /f\n", with_password("there")),
    )
    .ok();
    assert!(server.requests()[0].headers.contains_key("authorization"));
    assert!(
        !elsewhere.requests()[0]
            .headers
            .contains_key("authorization")
    );
    for entry in walkdir::WalkDir::new(store.root()) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            let found = bytes.windows(6).any(|bytes| bytes == b"s3cret");
            assert!(!found, "{}", entry.path().display());
        }
    }

    let failed = build(
        &store,
        &format!("FROM scratch\nADD {} /f\n", with_password("loop")),
    );
    let why = failed.fails(1, &["redirected more than ten times"]).stderr;
    assert!(
        !why.lines()
            .any(|line| line.contains("s3cret") && !line.contains("ADD")),
        "{why}"
    );
    let out = build(
        &store,
        &format!("FROM scratch\nADD {} /f\n", server.http("out")),
    );
    out.fails(1, &["only http:// and https://"]);
}

#[test]
fn what_a_server_does_not_give_is_an_error_with_the_line() {
    let server = Server::new(|request| match request.path.as_str() {
        "/cut" => Response {
            announced: Some(1000),
            ..Response::ok("short")
        },
        "/broken" => Response::new(500),
        _ => Response::new(404),
    });
    let store = Rstore::new();
    for (path, words) in [
        ("none", "404 (not found)"),
        ("broken", "500"),
        ("cut", "try again"),
    ] {
        let dockerfile = format!("FROM scratch\n\nADD {} /f\n", server.http(path));
        build(&store, &dockerfile).fails(1, &["Dockerfile:3", words]);
    }
    let closed = server.http("x");
    drop(server);
    build(&store, &format!("FROM scratch\nADD {closed} /f\n")).fails(1, &["Dockerfile:2", &closed]);
    build(
        &store,
        "FROM scratch\nADD http://no-such-host.invalid/f /f\n",
    )
    .fails(1, &["no-such-host.invalid"]);
    build(&store, "FROM scratch\nCOPY http://h/f /f\n").fails(1, &["ADD does"]);
    assert_eq!(store.debris(), [] as [std::path::PathBuf; 0]);
}

#[test]
fn an_archive_from_a_url_is_unpacked_where_that_is_said() {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    archive
        .append_data(&mut header, "in/side", &b"ok"[..])
        .unwrap();
    let archive = archive.into_inner().unwrap();
    let served = archive.clone();
    let server = Server::new(move |_| Response::ok(served.clone()));
    let url = server.http("a.tar");
    let store = Rstore::new();
    build(
        &store,
        &format!("FROM scratch\nADD --chmod=644 {url} /d/\n"),
    )
    .ok();
    assert_eq!(store.layers("app:latest").len(), 1);
    let context = Context::new(&format!("FROM scratch\nADD --unpack=true {url} /d/\n"));
    store.build(context.path(), &["-t", "app"]);
    assert_eq!(added(&store).pop().unwrap().0, "d/in/side");
    // And one that is here is not, where that is said.
    let context = Context::new("FROM scratch\nADD --unpack=false a.tar /d/\n");
    context.file("a.tar", &archive);
    store.build(context.path(), &["-t", "app"]);
    let layers = store.layers("app:latest");
    let blob = decompressed(&std::fs::read(store.blob(&layers[0])).unwrap());
    let mut names = tar::Archive::new(&blob[..]);
    let last = names.entries().unwrap().last().unwrap().unwrap();
    assert_eq!(last.path().unwrap().to_str(), Some("d/a.tar"));
}

#[test]
fn a_proxy_is_asked_unless_no_proxy_says_otherwise() {
    let proxy = Server::new(|_| Response::new(502));
    let store = Rstore::new();
    let context = Context::new("FROM scratch\nADD http://example.invalid/f /f\n");
    let run = |no_proxy: &str| {
        let mut command = store.command();
        command
            .env("http_proxy", proxy.http(""))
            .env("no_proxy", no_proxy);
        let output = command
            .arg("build")
            .arg(context.path())
            .output()
            .expect("rstore runs");
        Finished::new(&command, &output).fails(1, &["Dockerfile:2"])
    };
    run("other.invalid");
    assert_eq!(proxy.requests().len(), 1);
    run("other.invalid,.invalid");
    assert_eq!(proxy.requests().len(), 0);
}

#[test]
fn a_server_is_believed_if_the_machine_or_ssl_cert_file_vouches_for_it() {
    let server = Server::secure(|_| Response::ok("over TLS"));
    let store = Rstore::new();
    let url = server.url("https", "f").replace("127.0.0.1", "localhost");
    let context = Context::new(&format!("FROM scratch\nADD {url} /f\n"));
    let run = |authority: Option<&str>| {
        let mut command = store.command();
        command.env_remove("SSL_CERT_FILE");
        if let Some(name) = authority {
            let directory = crate::support::package().join("tests/fixtures/tls");
            command.env("SSL_CERT_FILE", directory.join(name));
        }
        command.args(["build", "-t", "app"]).arg(context.path());
        let output = command.output().expect("rstore runs");
        Finished::new(&command, &output)
    };
    run(None).fails(1, &["Dockerfile:2", "certificate", "SSL_CERT_FILE"]);
    run(Some("authority.pem")).ok();
    assert_eq!(added(&store).pop().unwrap().3, "over TLS");
}

#[test]
fn a_repository_is_its_files_without_git_and_its_commit_is_the_key() {
    if skip_without(&[Need::Program("git")]) {
        return;
    }
    let repository = Repository::new("app");
    let first = repository.commit(&[("a", "1"), ("dir/b", "2"), ("run.sh", "#!/bin/sh\n")]);
    std::os::unix::fs::symlink("a", repository.work().join("link")).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(repository.work().join("run.sh"), executable).unwrap();
    repository.commit(&[]);
    repository.git(&["tag", "-a", "v1", "-m", "one"]);
    let second = repository.commit(&[("a", "changed")]);
    let server = Server::of_repositories(repository.base());
    let url = server.url("git", "app.git");
    let store = Rstore::new();
    let names = |store: &Rstore| -> Vec<String> {
        let members = added(store).into_iter();
        members
            .map(|(path, mode, ..)| format!("{path} {mode:o}"))
            .collect()
    };

    build(&store, &format!("FROM scratch\nADD {url} /d\n")).ok();
    assert_eq!(
        names(&store),
        [
            "d/ 755",
            "d/a 644",
            "d/dir/ 755",
            "d/dir/b 644",
            "d/link 777",
            "d/run.sh 755"
        ]
    );
    let asked = server.requests().len();
    let warm = build(&store, &format!("FROM scratch\nADD {url} /d\n")).ok();
    assert_eq!(
        (warm.cached(), server.requests().len()),
        (1, 1),
        "{asked} at first: {warm}"
    );

    // A tag, a directory, a commit that nobody needs to be asked for.
    build(&store, &format!("FROM scratch\nADD {url}#v1:dir /d\n")).ok();
    assert_eq!(names(&store), ["d/ 755", "d/b 644"]);
    let by_commit = format!("FROM scratch\nADD {url}#{first} /d\n");
    build(&store, &by_commit).ok();
    assert!(
        names(&store).contains(&"d/run.sh 644".to_owned()),
        "{:?}",
        names(&store)
    );
    server.requests();
    assert_eq!(build(&store, &by_commit).ok().cached(), 1);
    assert_eq!(server.requests().len(), 0);

    // What has moved is seen, a checksum holds it.
    let dockerfile = format!("FROM scratch\nADD --checksum={second} {url}#main /d\n");
    build(&store, &dockerfile).ok();
    let third = repository.commit(&[("a", "again")]);
    build(&store, &dockerfile).fails(1, &["Dockerfile:2", &second, &third]);
    assert_eq!(
        build(&store, &format!("FROM scratch\nADD {url} /d\n"))
            .ok()
            .cached(),
        0
    );
    for (fragment, words) in [("#none", "no branch, tag"), ("#main:none", "no directory")] {
        let dockerfile = format!("FROM scratch\nADD {url}{fragment} /d\n");
        build(&store, &dockerfile).fails(1, &["Dockerfile:2", words]);
    }
}

#[test]
fn a_git_directory_is_kept_where_that_is_asked_for() {
    if skip_without(&[Need::Program("git")]) {
        return;
    }
    let repository = Repository::new("app");
    repository.commit(&[("a", "1")]);
    let commit = repository.commit(&[("a", "2")]);
    let server = Server::of_repositories(repository.base());
    let url = server.url("git", "app.git");
    let store = Rstore::new();
    build(
        &store,
        &format!("FROM scratch\nADD --keep-git-dir=true {url} /d\n"),
    )
    .ok();
    let out = crate::support::scratch();
    let layers = store.layers("app:latest");
    let tar = decompressed(&std::fs::read(store.blob(&layers[0])).unwrap());
    tar::Archive::new(&tar[..]).unpack(out.path()).unwrap();
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.args(["-c", "safe.directory=*"]);
        crate::support::run(git.current_dir(out.path().join("d")).args(arguments))
    };
    assert_eq!(
        git(&["rev-parse", "HEAD", "main"]).trim(),
        format!("{commit}\n{commit}")
    );
    assert_eq!(git(&["rev-list", "--count", "HEAD"]).trim(), "1");
    assert_eq!(git(&["remote", "get-url", "origin"]).trim(), url);
    assert_eq!(git(&["status", "--porcelain"]), "");
}

#[test]
fn nothing_that_a_repository_says_is_run_and_no_submodule_is_of_this_machine() {
    if skip_without(&[Need::Program("git")]) {
        return;
    }
    let marks = crate::support::scratch();
    let mark = marks.path().join("ran");
    let library = Repository::new("library");
    library.commit(&[("inner", "in the submodule")]);
    let repository = Repository::new("app");
    repository.commit(&[
        ("a", "1"),
        (".gitattributes", "* filter=evil\n"),
        (
            ".githooks/post-checkout",
            &format!("#!/bin/sh\ntouch {}\n", mark.display()),
        ),
        (
            ".gitconfig",
            &format!("[core]\nfsmonitor = touch {}\n", mark.display()),
        ),
    ]);
    let libraries = Server::of_repositories(library.base());
    let library_path = library.base().join("library.git");
    repository.git(&[
        "submodule",
        "add",
        "-q",
        library_path.to_str().unwrap(),
        "sub",
    ]);
    repository.git(&[
        "config",
        "-f",
        ".gitmodules",
        "submodule.sub.url",
        &libraries.url("git", "library.git"),
    ]);
    repository.commit(&[]);
    let server = Server::of_repositories(repository.base());
    let url = server.url("git", "app.git");
    let store = Rstore::new();
    let context = Context::new(&format!("FROM scratch\nADD {url} /\n"));
    let run = || {
        let mut command = store.command();
        // The user's own configuration would do it too.
        let home = marks.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        let evil = format!(
            "[core]\n\tfsmonitor = touch {0}\n[filter \"evil\"]\n\tsmudge = touch {0}\n",
            mark.display()
        );
        std::fs::write(home.join(".gitconfig"), evil).unwrap();
        command
            .env("HOME", &home)
            .args(["build", "--progress", "classic", "-t", "app"]);
        let output = command.arg(context.path()).output().expect("rstore runs");
        Finished::new(&command, &output)
    };
    run().ok();
    let members = added(&store);
    let inner = members.iter().find(|member| member.0 == "sub/inner");
    assert_eq!(inner.expect("the submodule").3, "in the submodule");
    assert!(
        !members.iter().any(|member| member.0.ends_with(".git")),
        "{members:?}"
    );
    assert!(!mark.exists());

    let local = format!("file://{}", library_path.display());
    repository.git(&["config", "-f", ".gitmodules", "submodule.sub.url", &local]);
    repository.commit(&[]);
    run().fails(1, &["Dockerfile:2", "submodule"]);
}

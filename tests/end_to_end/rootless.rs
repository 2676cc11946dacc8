//! The same without being root.

use std::fs;

use crate::support::user::{Subordinate, User};
use crate::support::{Context, Finished, Need, Rstore, machine, skip_without};

fn skip() -> bool {
    skip_without(&[
        Need::Root,
        Need::Program("useradd"),
        Need::Program("newuidmap"),
    ])
}

/// The demo, run by a user: build, list, prune.
#[track_caller]
fn demo(user: &User) {
    let mut command = user.command("/bin/sh");
    command
        .arg("fixtures/demo/run.sh")
        .env("RSTORE", user.home().join("rstore"));
    let output = command.output().expect("a shell");
    let finished = Finished::new(&command, &output).ok();
    let cached = finished.all().matches("Using cache").count();
    assert!(cached > 10, "{finished}");
    assert!(
        finished.stdout.contains("Total reclaimed space"),
        "{finished}"
    );
    let left: Vec<_> = fs::read_dir(user.home())
        .expect("a home")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.starts_with("rstore-demo"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_demo_runs_for_a_user_with_subordinate_ids() {
    if !skip() {
        demo(&User::new("demo", Subordinate::Range));
    }
}

#[test]
fn the_demo_runs_for_a_user_with_one_id() {
    if !skip() {
        demo(&User::new("single", Subordinate::None));
    }
}

/// Makes a context in the user's home and imports the base into its own store.
fn prepared(user: &User, dockerfile: &str) -> Rstore {
    let context = Context::new(dockerfile);
    context.file("file", "contents");
    let home = user.home().join("context");
    fs::create_dir(&home).expect("a directory");
    for name in ["Dockerfile", "file"] {
        fs::copy(context.path().join(name), home.join(name)).expect("a copy");
    }
    fs::copy(crate::support::busybox_tar(), user.home().join("base.tar")).expect("a copy");
    user.own(user.home());
    user.rstore(&["import", "base.tar", "base"]).ok();
    Rstore::at(&user.store())
}

#[test]
fn a_user_with_subordinate_ids_has_steps_of_several_users() {
    if skip() {
        return;
    }
    let user = User::new("many", Subordinate::Range);
    let store = prepared(
        &user,
        "FROM base\nRUN id -u && touch /root-file && mkdir -p /srv/app && chown app:app /srv/app\n\
         COPY --chown=app:app file /srv/app/\nUSER app\nRUN id -un && touch /srv/app/mine && ls -ln /srv/app\n",
    );
    let built = user
        .rstore(&["build", "--progress", "classic", "-t", "app", "context"])
        .ok();
    assert!(
        built
            .stderr
            .lines()
            .any(|line| line.trim_end().ends_with("app")),
        "{built}"
    );
    store.verify();
    // Owners in the layers are the image's, not the machine's.
    let layers = store.layers("app:latest");
    let bytes = fs::read(store.blob(layers.last().expect("a layer"))).expect("a blob");
    let tar = crate::support::decompressed(&bytes);
    let mut archive = tar::Archive::new(&tar[..]);
    let mine = archive
        .entries()
        .expect("entries")
        .map(|entry| entry.expect("an entry"))
        .find(|entry| entry.path().expect("a path").ends_with("srv/app/mine"))
        .expect("the file");
    assert_eq!(mine.header().uid().expect("an ID"), 1000);

    user.rstore(&["untag", "app"]).ok();
    user.rstore(&["prune", "-f"]).ok();
    assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new());
    assert!(machine::mounts_of(store.root()).is_empty());
    store.verify();
    let df = user.rstore(&["df"]).ok();
    assert!(df.stdout.contains("TOTAL"), "{df}");
}

#[test]
fn a_user_with_one_id_builds_as_root_of_the_image_and_is_told_what_it_cannot() {
    if skip() {
        return;
    }
    let user = User::new("one", Subordinate::None);
    let store = prepared(
        &user,
        "FROM base\nCOPY file /file\nRUN id -u && cat /file > /copy && rm /bin/yes\n",
    );
    let arguments = ["build", "--progress", "classic", "-t", "app", "context"];
    let built = user.rstore(&arguments).ok();
    let again = user.rstore(&arguments).ok();
    assert_eq!((built.ran(), again.ran()), (1, 0), "{again}");
    store.verify();
    let dockerfile = "FROM base\nUSER app\nRUN id -u\n";
    fs::write(user.home().join("context/Dockerfile"), dockerfile).expect("a file");
    let refused = user.rstore(&arguments);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.stderr.contains("/etc/subuid"), "{refused}");
    user.rstore(&["prune", "-f"]).ok();
    store.verify();
}

#[test]
fn a_build_of_a_user_that_is_killed_leaves_nothing_after_a_prune() {
    if skip() {
        return;
    }
    let user = User::new("killed", Subordinate::Range);
    let mark = format!("rstore-user-kill-{}", std::process::id());
    let dockerfile =
        format!("FROM base\nENV MARK={mark}\nRUN touch /x && chown app /x && sleep 1000\n");
    let store = prepared(&user, &dockerfile);
    let mut command = user.command(user.home().join("rstore"));
    command.args(["build", "-q", "context"]).env("MARK", &mark);
    let mut child = command.spawn().expect("rstore runs");
    let began = std::time::Instant::now();
    while !machine::processes_with(&mark)
        .iter()
        .any(|line| line.contains("sleep 1000"))
    {
        assert!(began.elapsed().as_secs() < 20, "the step never began");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().expect("a child can be killed");
    child.wait().expect("a child can be waited for");
    let left = machine::processes_left(&mark, std::time::Duration::from_secs(30));
    assert!(left.is_empty(), "{left:#?}");
    let held = machine::leases_left(store.root(), std::time::Duration::from_secs(30));
    assert!(held.is_empty(), "leases {held:#?}");
    user.rstore(&["prune", "-f"]).ok();
    assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new());
    store.verify();
}

#[test]
fn a_user_mounts_what_root_mounts() {
    if skip() {
        return;
    }
    let user = User::new("mounts", Subordinate::Range);
    let store = prepared(
        &user,
        "FROM base\n\
         RUN --mount=target=/c --mount=type=cache,target=/cache,uid=1000 --mount=type=tmpfs,target=/t \
             --mount=type=secret,id=s,uid=1000 --mount=target=/w,rw --mount=from=base,target=/b,rw \
             cat /c/file && test ! -e /c/Dockerfile && touch /b/x /t/x && rm /w/file && \
             stat -c '%n %u %a' /cache /run/secrets/s && id -u\n\
         USER app\nRUN --mount=type=cache,target=/cache,uid=1000 touch /cache/mine && echo mine\n",
    );
    fs::write(user.home().join("context/.dockerignore"), "Dockerfile\n").expect("a file");
    fs::write(user.home().join("secret"), "0b5e9d3c77").expect("a file");
    user.own(user.home());
    let arguments = [
        "build",
        "--progress",
        "classic",
        "--secret",
        "id=s,src=secret",
        "context",
    ];
    let built = user.rstore(&arguments).ok();
    for line in ["contents/cache 1000 755", "/run/secrets/s 1000 400", "mine"] {
        assert!(
            built.stderr.lines().any(|told| told.trim() == line),
            "{line}: {built}"
        );
    }
    assert!(user.home().join("context/file").exists());
    let df = user.rstore(&["df", "--format", "json"]).ok();
    let df: serde_json::Value = serde_json::from_str(&df.stdout).expect("JSON");
    assert_eq!(df["total"], machine::allocated(store.root()), "{df}");
    let left = || fs::read_dir(store.root().join("rstore/cache-mounts")).expect("a directory");
    assert_eq!(left().count(), 1);
    user.rstore(&["prune", "-f", "--cache-mounts"]).ok();
    assert_eq!(left().count(), 0);
    assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_user_with_one_id_mounts_what_it_owns() {
    if skip() {
        return;
    }
    let user = User::new("onemount", Subordinate::None);
    prepared(
        &user,
        "FROM base\nRUN --mount=target=/c,rw --mount=type=cache,target=/cache --mount=type=secret,id=s \
         rm /c/file && cat /run/secrets/s && touch /cache/x\n",
    );
    fs::write(user.home().join("secret"), "told\n").expect("a file");
    fs::write(user.home().join("context/.dockerignore"), "Dockerfile\n").expect("a file");
    user.own(user.home());
    let arguments = [
        "build",
        "--progress",
        "classic",
        "--secret",
        "id=s,src=secret",
        "context",
    ];
    let built = user.rstore(&arguments).ok();
    assert!(built.stderr.contains("\ntold\n"), "{built}");
    assert!(user.home().join("context/file").exists());
}

#[test]
fn a_user_builds_from_what_is_elsewhere() {
    use crate::support::http::{Repository, Response, Server};
    if skip() || skip_without(&[Need::Program("git")]) {
        return;
    }
    // A tar whose owner nobody has mapped, behind a URL; a repository as the context.
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    header.set_uid(1_000_000_000);
    archive.append_data(&mut header, "f", &b"ok"[..]).unwrap();
    let archive = archive.into_inner().unwrap();
    let files = Server::new(move |_| Response::ok(archive.clone()));
    let repository = Repository::new("app");
    let dockerfile = format!("FROM scratch\nADD {} /\nCOPY g /\n", files.http("f"));
    repository.commit(&[("Dockerfile", &dockerfile), ("g", "x")]);
    let server = Server::of_repositories(repository.base());
    for subordinate in [Subordinate::Range, Subordinate::None] {
        let user = User::new("elsewhere", subordinate);
        user.rstore(&["build", "-t", "a", &server.url("git", "app.git")])
            .ok();
        let context = files.http("context.tar");
        let named = format!("lib={context}");
        user.rstore(&["build", &context])
            .fails(1, &["no Dockerfile in the build context"]);
        std::fs::write(
            user.home().join("Dockerfile"),
            "FROM scratch\nCOPY --from=lib context /\n",
        )
        .expect("a file");
        user.rstore(&["build", "--build-context", &named, "."]).ok();
    }
}

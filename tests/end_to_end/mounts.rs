//! `RUN --mount`, what it shows and what of it stays; and what a step is trusted with.

use std::fs;

use crate::support::{Context, Rstore};

/// The names of the members of a tag's layers above the base, but for roots.
pub fn members(store: &Rstore, tag: &str) -> Vec<String> {
    let mut names = Vec::new();
    for layer in &store.layers(tag)[1..] {
        let bytes = fs::read(store.blob(layer)).expect("a blob");
        let tar = crate::support::decompressed(&bytes);
        let mut archive = tar::Archive::new(&tar[..]);
        for entry in archive.entries().expect("a tar") {
            let entry = entry.expect("an entry");
            let name = entry.path().expect("a path").display().to_string();
            if !matches!(name.as_str(), "" | "." | "./") {
                names.push(name);
            }
        }
    }
    names
}

/// Builds `app` from a Dockerfile on the base.
#[track_caller]
pub fn built(store: &Rstore, dockerfile: &str) -> String {
    let context = Context::new(dockerfile);
    store.build(context.path(), &["-t", "app"]).stderr
}

#[test]
fn a_bind_shows_what_of_the_context_is_not_ignored_and_cannot_be_written() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base\nWORKDIR /w\n\
         RUN --mount=target=. find . -type f | sort | tr '\\n' ' ' && echo && ! touch x 2>/dev/null\n\
         RUN --mount=type=bind,source=sub,dst=/s ls /s && cat /s/in\n\
         RUN --mount=source=sub/in,target=/one cat /one\n",
    );
    context.file("seen", "seen");
    context.file("sub/in", "inside");
    context.file("sub/secret.log", "no");
    context.file("node_modules/a/b", "no");
    context.file("kept/only/this", "yes");
    context.file("kept/that", "no");
    context.file(
        ".dockerignore",
        "**/*.log\nnode_modules\nkept\n!kept/only\nDockerfile\n",
    );
    let told = store.build(context.path(), &["-t", "app"]).stderr;
    let files = "./.dockerignore ./kept/only/this ./seen ./sub/in";
    assert!(told.lines().any(|line| line.trim() == files), "{told}");
    assert!(!told.contains("secret.log\n"), "{told}");
    let inside = told.lines().filter(|line| *line == "inside");
    assert_eq!(inside.count(), 2, "{told}");
    assert_eq!(members(&store, "app:latest"), ["w/"]);
    // The cache follows the content of what is shown, and of nothing else.
    context.file("node_modules/a/b", "other");
    assert_eq!(store.build(context.path(), &[]).ran(), 0);
    context.file("sub/in", "changed");
    assert_eq!(store.build(context.path(), &[]).ran(), 3);
    context.file("seen", "changed");
    assert_eq!(store.build(context.path(), &[]).ran(), 1 + 2);
}

#[test]
fn a_context_that_holds_the_store_does_not_show_it() {
    let context = Context::new(
        "FROM base\nRUN --mount=target=/c ls -A /c\nRUN --mount=target=/c,rw touch /c/x && ls -A /c\n",
    );
    let store = Rstore::at(&context.path().join("store"));
    store.import(crate::support::busybox_tar(), "base");
    let told = store.build(context.path(), &[]).stderr;
    assert!(
        told.lines().any(|line| line.trim() == "Dockerfile"),
        "{told}"
    );
    assert!(!told.lines().any(|line| line.trim() == "store"), "{told}");
    assert!(!context.path().join("x").exists());
}

#[test]
fn a_context_of_some_user_is_roots_in_the_step() {
    let store = Rstore::with_base();
    let look = |flags: &str| {
        format!(
            "RUN --mount=target=/c{flags} stat -c '%u:%g %a' /c /c/sub /c/sub/in /c/link | uniq\n"
        )
    };
    let dockerfile = format!(
        "FROM base\n{}{}RUN --mount=source=sub,target=/c stat -c '%u:%g %a' /c/in\n\
         RUN --mount=source=sub/in,target=/in stat -c '%u:%g %a' /in\n",
        look(""),
        look(",rw")
    ) + "RUN --mount=source=plain,target=/c stat -c '%u:%g %a' /c/x\n";
    let context = Context::new(&dockerfile);
    context.file("sub/in", "inside");
    context.mode("sub", 0o644);
    context.mode("sub/in", 0o644);
    context.mode("", 0o644);
    context.file("sub/no", "ignored");
    context.file("plain/x", "nothing is ignored beside it");
    context.file(".dockerignore", "sub/no\n");
    std::os::unix::fs::symlink("sub/in", context.path().join("link")).expect("a link");
    let owned_by = |owner: u32| {
        for entry in walkdir::WalkDir::new(context.path()) {
            let path = entry.expect("a context").into_path();
            std::os::unix::fs::lchown(path, Some(owner), Some(owner)).expect("root may chown");
        }
    };
    let root = rustix::process::geteuid().is_root();
    for owner in if root { vec![0, 4321] } else { vec![] } {
        owned_by(owner);
        // A file system that cannot map owners shows them as they are.
        let kind = rustix::fs::statfs(context.path())
            .expect("a file system")
            .f_type;
        if owner != 0 && kind == 0x794c_7630 {
            continue;
        }
        let told = store.build(context.path(), &["--no-cache"]).stderr;
        assert!(!told.contains("4321"), "{told}");
        assert!(!told.contains("65534"), "{told}");
        assert!(told.contains("0:0 644\n"), "{told}");
    }
}

#[test]
fn what_is_written_to_a_writable_bind_is_thrown_away() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base AS other\nRUN mkdir /d && echo stage > /d/f\n\
         FROM base\n\
         RUN --mount=target=/c,rw --mount=from=other,source=/d,target=/d,rw \
             --mount=source=file,target=/f,rw=true \
             echo new > /c/new && rm /c/file && ! test -e /c/hidden && \
             echo more >> /d/f && echo new > /d/new && echo over > /f && cat /d/f /f\n\
         RUN --mount=target=/c --mount=from=other,source=/d,target=/d cat /c/file /d/f && ls /c /d\n",
    );
    context.file("file", "context\n");
    context.file("hidden", "");
    context.file(".dockerignore", "hidden\n.dockerignore\nDockerfile\n");
    let told = store.build(context.path(), &["-t", "app"]).stderr;
    assert!(told.contains("stage\nmore\nover\n"), "{told}");
    assert!(
        told.contains("context\nstage\n/c:\nfile\n\n/d:\nf\n"),
        "{told}"
    );
    assert_eq!(fs::read(context.path().join("file")).unwrap(), b"context\n");
    assert!(!context.path().join("new").exists());
    assert_eq!(members(&store, "app:latest"), Vec::<String>::new());
    assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_stage_that_is_only_mounted_is_built_linked_and_kept() {
    let store = Rstore::with_base();
    let dockerfile = "FROM base AS tools\nRUN echo tool > /tool\n\
         FROM base AS unused\nRUN exit 1\n\
         FROM base\nRUN --mount=from=tools,target=/t --mount=from=base,source=/etc/passwd,target=/p \
         cat /t/tool > /out && grep -q root /p\n";
    let told = built(&store, dockerfile);
    assert!(told.contains("Running in"), "{told}");
    assert_eq!(members(&store, "app:latest"), ["out"]);
    let images = store.json(&["images", "-a"]);
    let stages = images.to_string().matches("\"state\":\"stage\"").count();
    assert!(stages >= 1, "{images}");
    store.ok(["prune", "-f"]);
    let context = Context::new(dockerfile);
    assert_eq!(store.build(context.path(), &[]).ran(), 0);
}

#[test]
fn what_a_mount_cannot_show_is_told_with_the_line() {
    let store = Rstore::with_base();
    for (dockerfile, words) in [
        (
            "FROM base\nRUN --mount=source=none,target=/x true\n",
            &["Dockerfile:2", "\"/none\"", "the build context"][..],
        ),
        (
            "FROM base\nRUN --mount=source=ignored,target=/x true\n",
            &["Dockerfile:2", "\"/ignored\"", ".dockerignore"],
        ),
        (
            "FROM base\n\nRUN --mount=from=base,source=/no/such,target=/x true\n",
            &["Dockerfile:3", "\"/no/such\"", "image"],
        ),
        (
            "FROM base\nRUN --mount=from=scratch,source=/a,target=/x true\n",
            &["Dockerfile:2", "\"/a\"", "an empty image"],
        ),
        (
            "FROM base\nRUN --mount=target=/ true\n",
            &["Dockerfile:2", "root directory"],
        ),
        (
            "FROM base\nRUN --mount=type=cache,target=/x,source=a true\n",
            &["Dockerfile:2", "\"/a\"", "an empty image"],
        ),
        (
            "FROM base\nRUN --mount=type=cache,target=/x,from=base,source=/etc/passwd true\n",
            &["Dockerfile:2", "a directory"],
        ),
        (
            "FROM base\nRUN --device=vendor.com/gpu=0 true\n",
            &["Dockerfile:2", "--device"],
        ),
    ] {
        let context = Context::new(dockerfile);
        context.file("ignored", "");
        context.file(".dockerignore", "ignored\n");
        store.try_build(context.path(), &[]).fails(1, words);
    }
    assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn mount_points_that_were_missing_are_not_in_the_layer() {
    let store = Rstore::with_base();
    built(
        &store,
        "FROM base\nWORKDIR /srv\n\
         RUN --mount=type=cache,target=/root/.cache/deep/er --mount=type=tmpfs,target=/new/tmp \
             --mount=type=secret,id=none --mount=target=rel/at,source=Dockerfile \
             test -f /srv/rel/at && touch /srv/made /root/.cache/deep/er/x\n\
         RUN --mount=type=cache,target=/stays touch /stays/x && echo 1 > /one\n",
    );
    let names = members(&store, "app:latest");
    assert_eq!(names, ["srv/", "srv/", "srv/made", "one"], "{names:?}");
}

#[test]
fn mounts_inside_of_mounts_are_made_after_them_and_empty_ones_are_empty() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base\nARG WHERE=/outer\n\
         RUN --mount=type=tmpfs,target=$WHERE/inner/most --mount=type=cache,target=${WHERE},id=$WHERE \
             --mount=from=scratch,target=/empty \
             mkdir -p /outer/x && test -d /outer/inner/most && test -z \"$(ls -A /empty)\" && \
             stat -f -c %T /outer/inner/most\n",
    );
    let told = store.build(context.path(), &[]).stderr;
    assert!(told.contains("tmpfs"), "{told}");
}

#[test]
fn a_tmpfs_has_its_size_and_a_mode_for_everybody() {
    let store = Rstore::with_base();
    let told = built(
        &store,
        "FROM base\n\
         RUN --mount=type=tmpfs,target=/t,size=1m stat -c %a /t && df -k /t | tail -1 | awk '{print $2\"k\"}' && \
         ! dd if=/dev/zero of=/t/x bs=64k count=32 2>/dev/null && echo full\n\
         RUN --mount=type=tmpfs,target=/t,ro ! touch /t/x && echo shut\n",
    );
    for word in ["1777", "1024k", "full", "shut"] {
        assert!(
            told.lines().any(|line| line.trim() == word),
            "{word}: {told}"
        );
    }
}

#[test]
fn an_insecure_step_needs_leave_and_then_has_every_capability() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base\nRUN --security=sandbox grep Seccomp: /proc/self/status\n\
         RUN --security=insecure grep -E 'CapEff|Seccomp:' /proc/self/status && mount -t tmpfs none /tmp && echo mounted\n",
    );
    store
        .try_build(context.path(), &[])
        .fails(1, &["Dockerfile:3", "--allow security.insecure"]);
    store
        .try_build(context.path(), &["--allow", "everything"])
        .fails(2, &["security.insecure"]);
    let built = store.build(context.path(), &["--allow", "security.insecure"]);
    assert!(built.stderr.contains("Seccomp:\t2"), "{built}");
    assert!(built.stderr.contains("Seccomp:\t0"), "{built}");
    assert!(built.stderr.contains("\nmounted\n"), "{built}");
}

#[test]
fn the_hosts_network_needs_leave_where_the_build_has_none() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nRUN --network=host wc -l < /proc/net/dev\n");
    store.build(context.path(), &[]);
    let none = ["--network", "none", "--no-cache"];
    store
        .try_build(context.path(), &none)
        .fails(1, &["Dockerfile:2", "--allow network.host"]);
    store.build(
        context.path(),
        &[&none[..], &["--allow", "network.host"]].concat(),
    );
}

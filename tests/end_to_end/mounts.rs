//! `RUN --mount`, and what of it stays: nothing, but for cache mounts, which are the store's.

use std::fs;
use std::path::Path;

use crate::support::{Context, Rstore, machine};

/// The names of the members of a tag's layers above the base, but for roots.
fn members(store: &Rstore, tag: &str) -> Vec<String> {
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
fn built(store: &Rstore, dockerfile: &str) -> String {
    let context = Context::new(dockerfile);
    store.build(context.path(), &["-t", "app"]).stderr
}

// -- bind ------------------------------------------------------------------------------------

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
    );
    let context = Context::new(&dockerfile);
    context.file("sub/in", "inside");
    context.mode("sub", 0o644);
    context.mode("sub/in", 0o644);
    context.mode("", 0o644);
    context.file("sub/no", "ignored");
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

// -- cache -----------------------------------------------------------------------------------

#[test]
fn a_cache_survives_builds_and_no_cache_and_is_no_part_of_image_or_key() {
    let store = Rstore::with_base();
    let counting = "FROM base\nRUN --mount=type=cache,target=/c echo x >> /c/n && wc -l < /c/n > /seen && cat /seen\n";
    let context = Context::new(counting);
    let seen = |arguments: &[&str]| store.build(context.path(), arguments);
    assert!(seen(&["-t", "app"]).stderr.contains("\n1\n"));
    assert_eq!(seen(&[]).ran(), 0);
    let again = seen(&["--no-cache"]);
    assert!(again.stderr.contains("\n2\n"), "{again}");
    assert_eq!(members(&store, "app:latest"), ["seen"]);
    // Its ID and sharing are no part of the key; its target is.
    context.file(
        "Dockerfile",
        counting.replace("target=/c", "target=/c,id=other,sharing=locked"),
    );
    assert_eq!(seen(&[]).ran(), 0);
    context.file(
        "Dockerfile",
        counting
            .replace("target=/c", "target=/d,id=/c")
            .replace("/c/n", "/d/n"),
    );
    assert!(
        seen(&[]).stderr.contains("\n3\n"),
        "the same cache elsewhere"
    );
    super::lifecycle::assert_accounted(&store);
}

#[test]
fn a_new_cache_begins_with_what_it_is_from_and_has_the_owner_asked_for() {
    let store = Rstore::with_base();
    let told = built(
        &store,
        "FROM base AS seed\nRUN mkdir -p /s/d && echo seed > /s/d/f && chown 7:8 /s/d && chmod 700 /s/d && ln -s f /s/d/l\n\
         FROM base\n\
         RUN --mount=type=cache,target=/c,from=seed,source=/s cat /c/d/l && stat -c '%u:%g %a' /c/d && echo more > /c/d/f\n\
         RUN --mount=type=cache,target=/c,from=seed,source=/s echo again $(cat /c/d/f)\n\
         RUN --mount=type=cache,target=/own,uid=5,gid=6,mode=0711 stat -c 'own %u:%g %a' /own\n\
         RUN --mount=type=cache,target=/plain stat -c 'plain %u:%g %a' /plain\n\
         RUN --mount=type=cache,target=/plain,ro ! touch /plain/x && echo shut\n\
         RUN --mount=type=cache,id=two,target=/one --mount=type=cache,id=two,target=/other touch /one/x && test -e /other/x && echo twice\n",
    );
    for line in [
        "seed",
        "7:8 700",
        "again more",
        "own 5:6 711",
        "plain 0:0 755",
        "shut",
        "twice",
    ] {
        assert!(
            told.lines().any(|told| told.trim() == line),
            "{line}: {told}"
        );
    }
}

/// Two builds at the same time, each with one RUN of this script, `$ME` being `a` and `b`.
fn side_by_side(store: &Rstore, mount: &str, script: &str) -> Vec<crate::support::Finished> {
    let contexts: Vec<Context> = ["a", "b"]
        .iter()
        .map(|me| {
            Context::new(&format!(
                "FROM base\nENV ME={me}\nRUN --mount=type=cache,target=/meet,id=meet {mount} {script}\n"
            ))
        })
        .collect();
    std::thread::scope(|scope| {
        let builds: Vec<_> = contexts
            .iter()
            .map(|context| scope.spawn(|| store.build(context.path(), &[])))
            .collect();
        builds
            .into_iter()
            .map(|build| build.join().expect("a build"))
            .collect()
    })
}

/// Says that it is there, and waits for the other.
const MEET: &str = "touch /meet/$ME; i=0; \
    while ! (test -e /meet/a && test -e /meet/b); do i=$((i+1)); test $i -lt 600 || exit 9; sleep 0.05; done";

#[test]
fn a_shared_cache_is_had_by_two_processes_at_once() {
    let store = Rstore::with_base();
    side_by_side(&store, "--mount=type=cache,target=/x", MEET);
    assert_eq!(
        store.json(&["df", "-v"])["cache_mounts"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn a_locked_cache_is_had_by_one_process_after_the_other() {
    let store = Rstore::with_base();
    // Each notes its steps in a cache that both share; that the other is inside would show.
    let script = "for i in 1 2 3 4 5; do \
           mkdir /locked/inside || exit 9; echo $ME >> /locked/log; sleep 0.02; rmdir /locked/inside; \
         done; test $(uniq /locked/log | wc -l) -le 2";
    side_by_side(
        &store,
        "--mount=type=cache,target=/locked,sharing=locked",
        &format!("{script} && touch /meet/$ME"),
    );
    let context =
        Context::new("FROM base\nRUN --mount=type=cache,target=/locked wc -l < /locked/log\n");
    assert!(store.build(context.path(), &[]).stderr.contains("\n10\n"));
}

#[test]
fn a_private_cache_that_is_in_use_is_another_one_for_the_second() {
    let store = Rstore::with_base();
    // They meet in the shared one, while each has a private one: so these are two.
    let script = format!("touch /own/$ME; {MEET}; ls /own | wc -l");
    let built = side_by_side(
        &store,
        "--mount=type=cache,target=/own,sharing=private",
        &script,
    );
    for build in built {
        assert!(build.stderr.contains("\n1\n"), "{build}");
    }
    let mounts = store.json(&["df", "-v"])["cache_mounts"].clone();
    let own = mounts.as_array().unwrap().iter();
    assert_eq!(
        own.filter(|mount| mount["id"] == "/own").count(),
        2,
        "{mounts}"
    );
    // Alone, one takes up what is there.
    let context = Context::new(
        "FROM base\nRUN --mount=type=cache,target=/own,sharing=private ls /own | wc -l && echo x\n",
    );
    assert!(store.build(context.path(), &[]).stderr.contains("\n1\n"));
    let after = store.json(&["df", "-v"])["cache_mounts"].clone();
    assert_eq!(after.as_array().unwrap().len(), 3, "{after}");
}

#[test]
fn two_stages_that_want_two_locked_caches_in_either_order_both_end() {
    let store = Rstore::with_base();
    let mount = |name: &str| format!("--mount=type=cache,sharing=locked,target=/{name}");
    let (one, two) = (mount("one"), mount("two"));
    let dockerfile = format!(
        "FROM base AS a\nRUN {one} {two} sleep 0.1; echo a > /a\n\
         FROM base AS b\nRUN {two} {one} sleep 0.1; echo b > /b\n\
         FROM base\nCOPY --from=a /a /a\nCOPY --from=b /b /b\n"
    );
    let context = Context::new(&dockerfile);
    for jobs in ["1", "2"] {
        store.build(context.path(), &["--no-cache", "--jobs", jobs]);
    }
}

/// A build whose step has cache mount `/c` and does not end; once it has it.
fn holding(store: &Rstore, mark: &str) -> std::process::Child {
    let context = Context::new(&format!(
        "FROM base\nENV MARK={mark}\nRUN --mount=type=cache,sharing=locked,target=/c echo kept > /c/f && sleep 1000\n"
    ));
    let mut command = store.command();
    command.args(["build", "-q"]).arg(context.path());
    command.env("MARK", mark);
    command.stderr(std::process::Stdio::null());
    let child = command.spawn().expect("rstore runs");
    let began = std::time::Instant::now();
    let sleeps = || {
        let found = machine::processes_with(mark);
        found.iter().any(|line| line.contains("sleep 1000"))
    };
    while !sleeps() {
        assert!(began.elapsed().as_secs() < 30, "the step never began");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child
}

#[test]
fn a_cache_in_use_is_not_pruned_and_one_that_was_killed_over_is_neither_lost_nor_leaked() {
    let store = Rstore::with_base();
    let mark = format!("rstore-hold-{}", std::process::id());
    let mut child = holding(&store, &mark);
    let mounts = store.json(&["df", "-v"])["cache_mounts"].clone();
    assert_eq!(mounts[0]["in_use"], true, "{mounts}");
    let row = |store: &Rstore| {
        let df = store.json(&["df"]);
        let rows = df["rows"].as_array().unwrap().clone();
        rows.into_iter()
            .find(|row| row["type"] == "cache_mounts")
            .unwrap()
    };
    let counted = row(&store);
    assert_eq!(
        (&counted["total"], &counted["active"]),
        (&1.into(), &1.into())
    );
    assert_eq!(counted["reclaimable"], 0, "{counted}");
    let pruned = store.run(["prune", "-f", "--cache-mounts"]).ok();
    assert!(pruned.all().contains("1 cache mount in use"), "{pruned}");
    // One that waits for it is told to stop, and stops.
    let waiting =
        Context::new("FROM base\nRUN --mount=type=cache,sharing=locked,target=/c cat /c/f\n");
    let mut command = store.command();
    command
        .args(["build", "--progress", "plain"])
        .arg(waiting.path());
    let mut waiter = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = std::io::BufReader::new(waiter.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waiting for cache mount") {
        line.clear();
        let read = std::io::BufRead::read_line(&mut told, &mut line).unwrap();
        assert!(read > 0, "it did not wait");
    }
    let process = rustix::process::Pid::from_raw(waiter.id() as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    assert_eq!(waiter.wait().unwrap().code(), Some(130));

    child.kill().unwrap();
    child.wait().unwrap();
    let left = machine::processes_left(&mark, std::time::Duration::from_secs(5));
    assert!(left.is_empty(), "{left:#?}");
    store.ok(["prune", "-f"]);
    assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new());
    super::lifecycle::assert_accounted(&store);
    let built = store.build(waiting.path(), &[]);
    assert!(built.stderr.contains("\nkept\n"), "{built}");
}

#[test]
fn cache_mounts_are_listed_counted_and_pruned_to_the_byte() {
    let store = Rstore::with_base();
    built(
        &store,
        "FROM base\n\
         RUN --mount=type=cache,target=/a dd if=/dev/zero of=/a/x bs=64k count=16 2>/dev/null\n\
         RUN --mount=type=cache,target=/b,id=named dd if=/dev/zero of=/b/x bs=64k count=4 2>/dev/null\n",
    );
    super::lifecycle::assert_accounted(&store);
    let table = store.ok(["df", "-v", "--bytes"]);
    assert!(
        table.contains("CACHE MOUNT") && table.contains("named"),
        "{table}"
    );
    let mounts = store.json(&["df", "-v"])["cache_mounts"].clone();
    let size = |index: usize| mounts[index]["size"].as_u64().unwrap();
    assert_eq!(mounts[0]["id"], "/a");
    assert!(size(0) >= 1 << 20 && size(1) >= 256 << 10, "{mounts}");

    // Nothing old enough, nothing of that name; a filter that cannot be meant.
    for spared in [&["--until", "1h"][..], &["--filter", "id=/none"]] {
        let plan = store.json(&[&["prune", "--cache-mounts", "-n"], spared].concat());
        assert_eq!(plan["plan"]["totals"]["items"], 0, "{plan}");
    }
    store
        .run(["prune", "-n", "--filter", "id=/a"])
        .fails(2, &["--cache-mounts"]);
    store
        .run(["prune", "-n", "--cache-mounts", "--filter", "label=x"])
        .fails(2, &["id=ID"]);
    store
        .run(["prune", "-n", "--cache-mounts", "--until", "soon"])
        .fails(2, &["soon"]);

    let foretold = store.json(&["prune", "--cache-mounts", "--filter", "id=named", "-n"]);
    let before = machine::allocated(&store.root().join("rstore/cache-mounts"));
    let pruned = store.json(&["prune", "--cache-mounts", "--filter", "id=named", "-f"]);
    let after = machine::allocated(&store.root().join("rstore/cache-mounts"));
    let freed = pruned["report"]["removed"]["freed"].as_u64().unwrap();
    assert_eq!(foretold["plan"]["totals"]["freed"], freed);
    assert_eq!((before - after, size(1)), (freed, freed));
    let left = store.json(&["df", "-v"])["cache_mounts"].clone();
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");

    // A lost catalog does not lose them.
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(store.root().join("rstore").join(file));
    }
    let found = store.json(&["df", "-v"])["cache_mounts"].clone();
    assert_eq!(
        (&found[0]["id"], &found[0]["size"]),
        (&"/a".into(), &size(0).into())
    );
    super::lifecycle::assert_accounted(&store);
    store.ok(["prune", "-f", "--cache-mounts"]);
    let directory = store.root().join("rstore/cache-mounts");
    assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
    super::lifecycle::assert_accounted(&store);
}

// -- secrets and agents ----------------------------------------------------------------------

/// The files below a directory in which these bytes are, layers unpacked.
fn holding_bytes(root: &Path, bytes: &[u8]) -> Vec<String> {
    let has = |text: &[u8]| text.windows(bytes.len()).any(|window| window == bytes);
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.expect("a store");
        let name = entry.path().display().to_string();
        if has(name.as_bytes()) {
            found.push(name.clone());
        }
        if !entry.file_type().is_file() {
            continue;
        }
        let content = fs::read(entry.path()).expect("a file");
        let unpacked = match name.contains("blobs/sha256") {
            true => crate::support::decompressed(&content),
            false => Vec::new(),
        };
        if has(&content) || has(&unpacked) {
            found.push(name);
        }
    }
    found
}

/// An agent that answers a request for identities with a comment, and nothing else.
fn agent(directory: &Path, comment: &str) -> std::path::PathBuf {
    use std::io::{Read, Write};
    let path = directory.join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let comment = comment.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 5];
            while stream.read_exact(&mut request).is_ok() {
                let mut answer = vec![12];
                answer.extend(comment.as_bytes());
                let length = (answer.len() as u32).to_be_bytes();
                let _ = stream.write_all(&[&length[..], &answer].concat());
            }
        }
    });
    path
}

#[test]
fn no_file_of_the_store_has_a_byte_of_a_secret() {
    let store = Rstore::with_base();
    let mark = |what: &str| format!("{what}-{}-cc7d31e05a", std::process::id());
    let (in_file, in_variable, of_agent) = (mark("file"), mark("variable"), mark("agent"));
    let outside = crate::support::scratch();
    let path = outside.path().join("token.txt");
    fs::write(&path, &in_file).expect("a file");
    let socket = agent(outside.path(), &of_agent);
    let context = Context::new(
        "FROM base\n\
         RUN --mount=type=secret,id=token --mount=type=secret,id=V,env=TOKEN --mount=type=ssh,required \
             wc -c < /run/secrets/token && test -n \"$TOKEN\" && \
             test -S $SSH_AUTH_SOCK && ls /run/secrets /run/buildkit && echo done > /done\n\
         RUN --mount=type=secret,id=token,target=/t --mount=type=secret,id=V,env=TOKEN exit 3\n",
    );
    let source = format!("id=token,src={}", path.display());
    let ssh = format!("default={}", socket.display());
    let mut command = store.command();
    command
        .args([
            "build",
            "--progress",
            "classic",
            "--rm=false",
            "-t",
            "app",
            "--secret",
            &source,
        ])
        .args(["--secret", "id=V,env=PASSWORD", "--ssh", &ssh])
        .arg(context.path())
        .env("PASSWORD", &in_variable);
    let output = command.output().expect("rstore runs");
    let failed = crate::support::Finished::new(&command, &output).fails(3, &["Dockerfile:3"]);
    assert!(failed.stderr.contains("ssh_agent.0"), "{failed}");
    assert!(
        failed.stderr.contains(&format!("\n{}\n", in_file.len())),
        "{failed}"
    );
    // What is being kept of the failed step is looked at too.
    assert!(!store.ok(["ps", "-q"]).trim().is_empty());
    for secret in [&in_file, &in_variable, &of_agent] {
        let found = holding_bytes(store.root(), secret.as_bytes());
        assert_eq!(found, Vec::<String>::new());
        assert!(!failed.all().contains(secret.as_str()), "{failed}");
    }
    // The same walk finds what is there.
    assert!(!holding_bytes(store.root(), b"--mount=type=secret,id=token").is_empty());
    // Another secret is no other step.
    context.file(
        "Dockerfile",
        "FROM base\nRUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /n\n",
    );
    store.build(context.path(), &["-t", "app", "--secret", &source]);
    fs::write(&path, "another").expect("a file");
    let again = store.build(context.path(), &["-t", "app", "--secret", &source]);
    assert_eq!(again.ran(), 0, "{again}");
    assert_eq!(members(&store, "app:latest"), ["n"]);
}

#[test]
fn secrets_have_names_owners_and_modes_and_those_not_given_are_not_there() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base\nWORKDIR /w\n\
         RUN --mount=type=secret,id=a stat -c 'a %u:%g %a' /run/secrets/a && ! echo x > /run/secrets/a\n\
         RUN --mount=type=secret,id=a,target=/etc/x/y,mode=0444,uid=3,gid=4 stat -c 'y %u:%g %a' /etc/x/y\n\
         RUN --mount=type=secret,target=/deep/a stat -c %s /deep/a\n\
         RUN --mount=type=secret,source=a cat /run/secrets/a > /dev/null\n\
         RUN --mount=type=secret,id=a,env=X,target=/both test \"$X\" = \"$(cat /both)\" && echo both\n\
         RUN --mount=type=secret,id=a,env=ONLY test -n \"$ONLY\" && ! test -e /run/secrets/a && echo only\n\
         RUN --mount=type=secret,id=none --mount=type=secret,id=none,env=NONE \
             --mount=type=ssh ! test -e /run/secrets/none && test -z \"${NONE+x}\" && echo none\n",
    );
    context.file("a.txt", "12345");
    let source = format!("id=a,src={}", context.path().join("a.txt").display());
    let told = store.build(context.path(), &["--secret", &source]).stderr;
    for line in ["a 0:0 400", "y 3:4 444", "5", "both", "only", "none"] {
        assert!(
            told.lines().any(|told| told.trim() == line),
            "{line}: {told}"
        );
    }
}

#[test]
fn what_is_required_and_not_given_or_cannot_be_read_is_told() {
    let store = Rstore::with_base();
    let context =
        Context::new("FROM base\nRUN --mount=type=secret,id=tok,required cat /run/secrets/tok\n");
    let failed = store.try_build(context.path(), &[]);
    failed.fails(1, &["Dockerfile:2", "\"tok\"", "--secret id=tok"]);
    let none = store.try_build(context.path(), &["--secret", "id=tok,src=/no/such"]);
    none.fails(1, &["\"tok\"", "/no/such"]);
    store
        .try_build(context.path(), &["--secret", "tok"])
        .fails(2, &["KEY=VALUE"]);
    let context = Context::new("FROM base\n\nRUN --mount=type=ssh,id=git,required true\n");
    store
        .try_build(context.path(), &[])
        .fails(1, &["Dockerfile:3", "\"git\"", "--ssh git"]);
    let key = context.file("key", "PRIVATE");
    let key = format!("git={}", key.display());
    store
        .try_build(context.path(), &["--ssh", &key])
        .fails(1, &["no socket", "ssh-add"]);
    assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_agent_is_where_it_was_asked_for_with_the_owner_asked_for() {
    let store = Rstore::with_base();
    let outside = crate::support::scratch();
    let socket = agent(outside.path(), "a comment");
    let context = Context::new(
        "FROM base\n\
         RUN --mount=type=ssh --mount=type=ssh,id=two,target=/two,uid=1000,gid=9,mode=0660 \
             stat -c '%n %u:%g %a' /run/buildkit/ssh_agent.0 /two && echo auth=$SSH_AUTH_SOCK\n\
         USER app\nRUN --mount=type=ssh,uid=1000 test -w $SSH_AUTH_SOCK && echo mine\n",
    );
    let ssh = |id: &str| format!("{id}={}", socket.display());
    let built = store.build(
        context.path(),
        &["-t", "app", "--ssh", &ssh("default"), "--ssh", &ssh("two")],
    );
    for line in [
        "/run/buildkit/ssh_agent.0 0:0 600",
        "/two 1000:9 660",
        "auth=/run/buildkit/ssh_agent.0",
        "mine",
    ] {
        assert!(
            built.stderr.lines().any(|told| told.trim() == line),
            "{line}: {built}"
        );
    }
    assert_eq!(members(&store, "app:latest"), Vec::<String>::new());
}

// -- trust -----------------------------------------------------------------------------------

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

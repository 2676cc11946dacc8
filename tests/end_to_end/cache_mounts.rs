//! `RUN --mount=type=cache`: directories of the store's, shared by steps of all processes.

use std::fs;

use super::mounts::{built, members};
use crate::support::{Context, Rstore, machine};

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
    let left = machine::processes_left(&mark, std::time::Duration::from_secs(30));
    assert!(left.is_empty(), "{left:#?}");
    let held = machine::leases_left(store.root(), std::time::Duration::from_secs(30));
    assert!(held.is_empty(), "leases {held:#?}");
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
    for spared in [
        &["--until", "1h"][..],
        &["--filter", "id=/none"],
        // They have no labels.
        &["--filter", "label=x"],
    ] {
        let plan = store.json(&[&["prune", "--cache-mounts", "-n"], spared].concat());
        assert_eq!(plan["plan"]["totals"]["items"], 0, "{plan}");
    }
    // Without the scope no filter takes them.
    let plan = store.json(&["prune", "-n", "--filter", "id=/a"]);
    assert_eq!(plan["plan"]["totals"]["items"], 0, "{plan}");
    store
        .run(["prune", "-n", "--cache-mounts", "--filter", "nokey=x"])
        .fails(2, &["there is no filter"]);
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

//! `kill -9` at any point of a build leaves nothing that the next prune does not remove. What other
//! signals do is in `interrupts`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::{Context, Rstore, machine, number};

/// A build with a bit of everything in it: RUNs that have children, copies from the context and
/// from a stage, two stages that may run side by side.
fn context(mark: &str) -> Context {
    let context = Context::new(&format!(
        "FROM base AS one\nENV MARK={mark}\nCOPY files /files\n\
         RUN (sleep 30 &) ; cat /files/* > /all && sleep 0.05\n\
         RUN --mount=type=cache,sharing=locked,target=/c --mount=target=/w,rw echo x >> /c/n; rm -r /w/files; \
         dd if=/dev/zero of=/big bs=64k count=20 2>/dev/null; mkdir -p /a/b/c && touch /a/b/c/d\n\
         FROM base AS two\nENV MARK={mark}\nRUN sleep 0.05; echo two > /two\n\
         FROM base\nENV MARK={mark}\nCOPY --from=one /all /all\nCOPY --from=two /two /two\n\
         RUN setsid sleep 0.05; cat /all /two > /both && rm /two\nCOPY files/1 /last\n"
    ));
    for n in 0..20 {
        context.file(&format!("files/{n}"), vec![n as u8; 10_000 * n]);
    }
    context
}

#[test]
fn a_build_killed_anywhere_leaves_nothing_after_a_prune_and_then_succeeds() {
    let mark = format!("rstore-kill-{}", std::process::id());
    let store = Rstore::with_base();
    store.build(
        Context::new("FROM base\nRUN echo kept > /kept\n").path(),
        &["-t", "kept"],
    );
    store.ok(["prune", "-f"]);
    let baseline = (store.blobs(), store.tags());
    let context = context(&mark);

    // How long it takes, warmed up.
    let mut duration = Duration::ZERO;
    for _ in 0..2 {
        let began = Instant::now();
        store.build(context.path(), &["-t", "victim"]);
        duration = began.elapsed();
        store.ok(["rmi", "victim"]);
        store.ok(["prune", "-f"]);
        assert_eq!((store.blobs(), store.tags()), baseline);
    }
    let kills = number("RSTORE_TEST_KILLS", 100);
    let mut interrupted = 0;
    for n in 0..kills {
        let mut command = store.command();
        command
            .args(["build", "--progress", "classic", "-t", "victim"])
            .arg(context.path());
        command
            .env("MARK", &mark)
            .stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("rstore runs");
        // Nanoseconds of u128 times a hundred overflow nothing.
        std::thread::sleep(duration * (n as u32) / (kills as u32));
        child.kill().expect("a child can be killed");
        let status = child.wait().expect("a child can be waited for");
        interrupted += u64::from(!status.success());

        let what = format!("killed at {n}/{kills} of {duration:?}");
        let left = machine::processes_left(&mark, Duration::from_secs(30));
        assert!(left.is_empty(), "{what}: processes {left:#?}");
        let mounts = machine::mounts_left(store.root(), Duration::from_secs(30));
        assert!(mounts.is_empty(), "{what}: mounts {mounts:#?}");
        let leases = machine::leases_left(store.root(), Duration::from_secs(30));
        assert!(leases.is_empty(), "{what}: leases {leases:#?}");

        store.ok(["prune", "-f"]);
        assert_eq!(store.debris(), Vec::<PathBuf>::new(), "{what}");
        assert!(store.ok(["ps", "-q"]).trim().is_empty(), "{what}");
        store.verify();
        if store.tags().contains_key("victim:latest") {
            store.ok(["rmi", "victim"]);
            store.ok(["prune", "-f"]);
        }
        assert_eq!((store.blobs(), store.tags()), baseline, "{what}");
        super::lifecycle::assert_accounted(&store);
    }
    assert!(
        interrupted * 2 > kills,
        "only {interrupted} of {kills} builds were interrupted"
    );

    let built = store.build(context.path(), &["-t", "victim"]);
    assert_eq!(built.ran(), 4, "{built}");
    store.verify();
    // Of the cache mount, which outlived them all, there is one.
    let mounts = store.json(&["df", "-v"])["cache_mounts"].clone();
    assert_eq!(mounts.as_array().map(Vec::len), Some(1), "{mounts}");
    store.ok(["prune", "-f", "--cache-mounts"]);
    let left = std::fs::read_dir(store.root().join("rstore/cache-mounts"));
    assert_eq!(left.expect("a directory").count(), 0);
}

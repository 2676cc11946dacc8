//! A prune in a loop beside builds in a loop: neither breaks the other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Context, Rstore, number};

/// One builder: the same stages as the others', then steps of its own that change each time, so
/// that each build leaves the one before it dangling.
fn build_until(stop: &AtomicBool, store: &Rstore, builder: usize, built: &AtomicU64) {
    let context = Context::new("");
    let tag = format!("builder-{builder}");
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        context.file("source", format!("{builder} {}", round / 2));
        context.file(
            "Dockerfile",
            format!(
                "FROM base AS shared\nRUN echo shared > /shared && dd if=/dev/zero of=/z bs=64k count=4 2>/dev/null\n\
                 FROM base AS own\nCOPY source /source\nRUN cat /source > /made-{builder}\n\
                 FROM shared\nCOPY --from=own /made-{builder} /made\nRUN echo {} >> /made && cat /made\n",
                round % 3,
            ),
        );
        store.build(context.path(), &["-t", &tag]);
        // From here on the tag is there, and whole, whatever is pruned.
        store.whole(&format!("{tag}:latest"));
        built.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn no_build_fails_and_nothing_tagged_is_lost() {
    let store = Rstore::with_base();
    let kept = Context::new("FROM base\nRUN echo kept > /kept\n");
    store.build(kept.path(), &["-t", "kept"]);
    let (stop, built) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut prunes = 0;
    let seconds = number("RSTORE_TEST_SECONDS", 60);
    std::thread::scope(|scope| {
        for builder in 0..4 {
            let (stop, store, built) = (&stop, &store, &built);
            scope.spawn(move || {
                // A builder that fails ends the test at once, not after a minute.
                let end = StopOnDrop(stop);
                build_until(stop, store, builder, built);
                drop(end);
            });
        }
        let end = StopOnDrop(&stop);
        let began = Instant::now();
        let scopes: [&[&str]; 4] = [&[], &["--intermediates"], &["--snapshots"], &["--all"]];
        while began.elapsed() < Duration::from_secs(seconds) && !stop.load(Ordering::Relaxed) {
            let mut arguments = vec!["prune", "-f"];
            arguments.extend(scopes[prunes % scopes.len()]);
            store.ok(&arguments);
            store.whole("kept:latest");
            store.whole("base:latest");
            prunes += 1;
        }
        drop(end);
    });
    let built = built.into_inner();
    assert!(
        built > seconds / 4 && prunes > 10,
        "{built} builds beside {prunes} prunes"
    );
    store.verify();
    for builder in 0..4 {
        store.whole(&format!("builder-{builder}:latest"));
    }
    store.ok(["prune", "-f"]);
    store.verify();
    assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new());
    println!("{built} builds beside {prunes} prunes in {seconds} s");
}

/// Sets the flag when the thread ends, by panic too.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

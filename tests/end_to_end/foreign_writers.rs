//! Other tools add images to a store while prunes run on it: skopeo, podman, umoci; and many
//! rstores change `index.json` at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::{Context, Need, Rstore, machine, need::program, peers, run, skip_without};

/// Prunes `store` again and again, with every scope, while `body` runs. How often.
fn beside_prunes(store: &Rstore, body: impl FnOnce()) -> u64 {
    let (done, prunes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                store.ok(["prune", "-f", "--all"]);
                prunes.fetch_add(1, Ordering::Relaxed);
            }
        });
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let end = End(&done);
        body();
        drop(end);
    });
    prunes.into_inner()
}

/// A layout with an image of its own on the base that `store` has.
fn source(store: &Rstore, image: &str) -> tempfile::TempDir {
    let directory = Rstore::with_base_of(store);
    let context = Context::new("FROM base\nCOPY file /file\n");
    context.file("file", image.repeat(50_000));
    Rstore::at(directory.path()).build(context.path(), &["-t", image]);
    directory
}

fn assert_sound(store: &Rstore) {
    store.ok(["prune", "-f"]);
    store.verify();
    let report = store.json(&["fsck"]);
    assert_eq!(report["findings"], serde_json::json!([]), "{report:#}");
    super::lifecycle::assert_accounted(store);
}

#[test]
fn what_skopeo_copies_into_a_store_beside_prunes_is_whole() {
    if skip_without(&[Need::Program("skopeo")]) {
        return;
    }
    let store = Rstore::with_base();
    let source = source(&store, "image");
    let prunes = beside_prunes(&store, || {
        for n in 0..6 {
            let target = format!("oci:{}:copy{n}:latest", store.root().display());
            let from = format!("oci:{}:image:latest", source.path().display());
            peers::skopeo(&["copy", "-q", &from, &target]);
            store.intact(&format!("copy{n}:latest"));
        }
    });
    assert!(prunes > 0);
    assert_eq!(store.tags().len(), 7);
    assert_sound(&store);
}

#[test]
fn what_podman_pushes_into_a_store_beside_prunes_is_whole() {
    if skip_without(&[Need::Root, Need::Program("podman"), Need::Program("skopeo")]) {
        return;
    }
    let store = Rstore::with_base();
    let source = source(&store, "image");
    let podman = peers::Podman::new();
    let from = format!("oci:{}:image:latest", source.path().display());
    let archive = source.path().join("archive.tar");
    let into = format!(
        "docker-archive:{}:localhost/image:latest",
        archive.display()
    );
    peers::skopeo(&["copy", "-q", &from, &into]);
    podman.run(&["load", "-q", "-i", archive.to_str().expect("UTF-8")]);
    let prunes = beside_prunes(&store, || {
        for n in 0..3 {
            let target = format!("oci:{}:pushed{n}:latest", store.root().display());
            podman.run(&["push", "-q", "localhost/image:latest", &target]);
            store.intact(&format!("pushed{n}:latest"));
        }
    });
    assert!(prunes > 0);
    assert_eq!(store.tags().len(), 4);
    assert_sound(&store);
}

#[test]
fn a_tag_that_umoci_makes_beside_prunes_keeps_the_image_when_the_other_goes() {
    if skip_without(&[Need::Program("umoci")]) {
        return;
    }
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nCOPY file /file\n");
    context.file("file", "umoci");
    store.build(context.path(), &["-t", "app"]);
    let prunes = beside_prunes(&store, || {
        for n in 0..6 {
            let image = format!("{}:app:latest", store.root().display());
            run(program("umoci").args(["tag", "--image", &image, &format!("again{n}")]));
        }
    });
    assert!(prunes > 0);
    store.ok(["untag", "app"]);
    store.ok(["prune", "-f", "--all"]);
    (0..6).for_each(|n| store.intact(&format!("again{n}")));
    assert_sound(&store);
}

#[test]
fn many_writers_of_the_index_lose_no_name() {
    let store = Rstore::with_base();
    let store = &store;
    std::thread::scope(|scope| {
        for writer in 0..6 {
            scope.spawn(move || {
                for n in 0..5 {
                    store.ok(["tag", "base", &format!("writer{writer}:{n}")]);
                }
                store.ok(["untag", &format!("writer{writer}:0")]);
            });
        }
    });
    let tags = store.tags();
    for writer in 0..6 {
        assert!(!tags.contains_key(&format!("writer{writer}:0")));
        for n in 1..5 {
            assert!(
                tags.contains_key(&format!("writer{writer}:{n}")),
                "{tags:#?}"
            );
        }
    }
    assert_eq!(tags.len(), 1 + 6 * 4);
    assert_sound(store);
}

#[test]
fn a_lease_ends_when_its_build_is_killed() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nCOPY file /file\nRUN sleep 60\n");
    context.file("file", "held".repeat(10_000));
    let before = store.blobs();
    let mut command = store.command();
    command
        .args(["build", "-q", "-t", "victim"])
        .arg(context.path());
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("rstore runs");
    machine::until("the step runs", || {
        !store.ok(["ps", "-q"]).trim().is_empty()
    });
    let held = store.blobs();
    assert!(held.len() > before.len());
    store.ok(["prune", "-f", "--all"]);
    assert_eq!(store.blobs(), held, "a live build keeps what it has made");
    child.kill().expect("a child can be killed");
    child.wait().expect("a child can be waited for");
    let patience = std::time::Duration::from_secs(30);
    assert!(machine::leases_left(store.root(), patience).is_empty());
    store.ok(["prune", "-f", "--all"]);
    assert_eq!(store.blobs(), before);
    assert_eq!(store.debris(), Vec::<std::path::PathBuf>::new());
    assert_sound(&store);
}

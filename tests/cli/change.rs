//! Commands that change.

use rstore::lock::FileLock;
use serde_json::json;

use crate::sample::{Everything, Layer, Recipe, Run, Sample, du, steady};

#[test]
fn a_tag_is_another_name_and_untag_takes_it_away_again() {
    let everything = Everything::new();
    let store = &everything.sample;
    store.ok(&["tag", "app", "docker.io/library/other:2", "third"]);
    let names = store.ok(&[
        "images",
        "--format",
        "{{.Repository}}:{{.Tag}}",
        "--sort",
        "repository",
    ]);
    assert!(names.contains("other:2\nthird:latest\n"), "{names}");
    assert_eq!(
        store.ok(&["untag", "other:2", "third"]),
        "Untagged: other:2\nUntagged: third:latest\n"
    );
    assert_eq!(store.rstore(&["untag", "third"]).code, 1);
    let by_id = store.rstore(&["untag", &everything.app.id.short()]);
    assert_eq!(by_id.code, 1);
    assert!(by_id.stderr.contains("not a name"), "{}", by_id.stderr);
}

#[test]
fn untagging_several_is_all_or_nothing() {
    let store = Everything::new().sample;
    assert_eq!(store.rstore(&["untag", "app", "nothing-like-it"]).code, 1);
    assert!(store.ok(&["images"]).contains("app          latest"));
}

#[test]
fn rmi_takes_the_name_and_with_the_last_one_the_image() {
    let everything = Everything::new();
    let store = &everything.sample;
    assert_eq!(store.ok(&["rmi", "app:1"]), "Untagged: app:1\n");
    assert!(store.digests().contains(&everything.app.digest.to_string()));
    let said = store.ok(&["rmi", "app"]);
    assert!(
        said.starts_with("Untagged: app:latest\nDeleted: sha256:"),
        "{said}"
    );
    let left = store.digests();
    for image in [everything.app, everything.copied] {
        assert!(!left.contains(&image.digest.to_string()));
    }
    assert!(left.contains(&everything.base.digest.to_string()));
}

#[test]
fn rmi_by_id_needs_force_where_there_are_several_names() {
    let everything = Everything::new();
    let store = &everything.sample;
    let id = everything.app.id.short();
    let refused = store.rstore(&["rmi", &id]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("app:latest, app:1"),
        "{}",
        refused.stderr
    );
    let said = store.ok(&["rmi", "-f", &id]);
    assert!(said.contains("Untagged: app:1"), "{said}");
}

#[test]
fn rmi_by_id_means_every_manifest_that_has_the_id_and_a_name() {
    // As a push with another compression makes them, and a pull brings them back.
    let store = Sample::new();
    let plain = store.layer("files", 1_000);
    let packed = Layer {
        digest: store.blob(b"the same, packed"),
        size: 16,
        ..plain
    };
    let image = |layer: Layer| {
        store.image(&Recipe {
            layers: &[layer],
            ..Recipe::default()
        })
    };
    let (one, other) = (image(plain), image(packed));
    assert_eq!(one.id, other.id);
    store.write_index(&[("plain:latest", one), ("packed:latest", other)]);
    let id = one.id.short();
    let refused = store.rstore(&["rmi", &id]);
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    assert!(refused.stderr.contains("has 2 names"), "{}", refused.stderr);
    let digest = other.digest.to_string();
    assert!(store.ok(&["rmi", &digest]).contains("Untagged: packed"));
    store.write_index(&[("plain:latest", one), ("packed:latest", other)]);
    store.blob(b"the same, packed");
    image(packed);
    let said = store.ok(&["rmi", "-f", &id]);
    assert!(
        said.contains("Untagged: plain:latest\n") && said.contains("Untagged: packed:latest\n"),
        "{said}"
    );
    assert_eq!(store.ok(&["images", "-aq"]), "");
}

#[test]
fn rmi_with_force_of_what_is_not_there_is_no_failure() {
    let store = Everything::new().sample;
    assert_eq!(store.rstore(&["rmi", "nothing-like-it"]).code, 1);
    let run = store.rstore(&["rmi", "-f", "nothing-like-it", "app:1"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "Untagged: app:1\n"));
    assert!(run.stderr.contains("nothing-like-it"), "{}", run.stderr);
}

/// Runs `rmi -f app:1`, and does something between its look at the store and its end: it has made
/// its plan once it has the prunes' lock, and takes names away under the lock of index.json.
fn rmi_with(store: &Sample, between: impl FnOnce()) -> Run {
    let private = store.root().join("rstore");
    // Whatever there is to be taken in is: the store is not written to before the plan is made.
    store.ok(&["images"]);
    let lock = FileLock::exclusive(&private.join("lock")).unwrap();
    std::thread::scope(|scope| {
        let rmi = scope.spawn(|| store.rstore(&["rmi", "-f", "app:1"]));
        let prune = private.join("prune.lock");
        let began = std::time::Instant::now();
        while FileLock::try_exclusive(&prune).unwrap().is_some() {
            assert!(began.elapsed().as_secs() < 60 && !rmi.is_finished());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        between();
        drop(lock);
        rmi.join().unwrap()
    })
}

#[test]
fn rmi_of_a_name_succeeds_whatever_others_name_between_its_look_and_its_end() {
    let everything = Everything::new();
    let (store, app) = (&everything.sample, &everything.app);
    // The image had no other name, and gets one.
    store.ok(&["untag", "app"]);
    let run = rmi_with(store, || {
        store.write_index(&[("app:1", *app), ("rescued:latest", *app)]);
    });
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout, "Untagged: app:1\n", "nothing else has gone");
    assert!(store.ok(&["images"]).contains("rescued"));
    store.ok(&["fsck"]);
}

#[test]
fn rmi_leaves_a_name_that_was_given_to_another_image_meanwhile_and_says_so() {
    let everything = Everything::new();
    let store = &everything.sample;
    let run = rmi_with(store, || store.write_index(&[("app:1", everything.base)]));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(!run.stdout.contains("Untagged"), "{}", run.stdout);
    let word = "\"app:1\" stays: it was given to another image meanwhile";
    assert!(run.stderr.contains(word), "{}", run.stderr);
    let names = store.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(names, "app:1\n");
    store.ok(&["fsck"]);
}

#[test]
fn rmi_takes_the_name_while_a_writer_is_older_than_the_catalog_and_is_busy_where_there_is_none() {
    let everything = Everything::new();
    let store = &everything.sample;
    store.ok(&["images"]);
    let lease = store.root().join("rstore/leases/of-a-lost-catalog");
    let lock = FileLock::exclusive(&lease).unwrap();
    for name in ["app:1", "app"] {
        let run = store.rstore(&["rmi", "-f", name]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stdout.starts_with("Untagged: app:") && run.stdout.lines().count() == 1);
        let word = "nothing but names goes: a writer";
        assert!(run.stderr.contains(word), "{}", run.stderr);
    }
    let digest = everything.app.digest.to_string();
    assert!(store.digests().contains(&digest));
    assert_eq!(store.rstore(&["rmi", &digest]).code, 75, "it has no name");
    drop(lock);
    store.ok(&["rmi", &digest]);
    assert!(!store.digests().contains(&digest));
}

#[test]
fn rmi_never_removes_what_a_tagged_image_descends_from() {
    let everything = Everything::new();
    let store = &everything.sample;
    let before = store.digests();
    let run = store.rstore(&["rmi", &everything.copied.id.short()]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("is needed: tag app"), "{}", run.stderr);
    assert_eq!(store.digests(), before);
}

#[test]
fn a_pinned_image_stays() {
    let everything = Everything::new();
    let store = &everything.sample;
    let old = everything.old.digest.to_string();
    assert_eq!(store.ok(&["pin", &old]), format!("Pinned: {old}\n"));
    assert!(store.ok(&["why", &old]).contains("pin → image"));
    store.ok(&["prune", "-f"]);
    assert!(store.digests().contains(&old));
    store.ok(&["unpin", &old]);
    assert_eq!(store.rstore(&["unpin", &old]).code, 1);
    store.ok(&["prune", "-f"]);
    assert!(!store.digests().contains(&old));
}

#[test]
fn a_dry_run_removes_nothing_and_shows_each_thing_with_its_reason() {
    let store = Everything::new().sample;
    let before = store.digests();
    insta::assert_snapshot!(steady(&store.ok(&["prune", "-n"])));
    assert_eq!(store.digests(), before);
}

#[test]
fn a_prune_frees_what_the_dry_run_foretold() {
    let everything = Everything::new();
    let store = &everything.sample;
    let foretold = store.json(&["prune", "-n", "--format", "json"]);
    let used = du(&store.blobs());
    let done = store.json(&["prune", "-f", "--format", "json"]);
    let freed = done["report"]["removed"]["freed"].as_u64().unwrap();
    assert_eq!(foretold["plan"]["totals"]["freed"], freed);
    assert_eq!(used - du(&store.blobs()), freed);
    let left = store.digests();
    assert!(!left.contains(&everything.old.digest.to_string()));
    assert!(!left.contains(&everything.stray.digest.to_string()));
    assert!(left.contains(&everything.builder.digest.to_string()));
    assert_eq!(store.ok(&["prune", "-f"]), "Total reclaimed space: 0B\n");
}

#[test]
fn scopes_take_what_they_say() {
    for (scope, stage, intermediate) in [
        ("--dangling", true, true),
        ("--stages", false, true),
        ("--intermediates", true, false),
        ("--all", false, false),
    ] {
        let everything = Everything::new();
        let store = &everything.sample;
        store.ok(&["prune", scope, "-f"]);
        let left = store.digests();
        let there = |digest: &rstore::oci::Digest| left.contains(&digest.to_string());
        assert_eq!(there(&everything.builder.digest), stage, "{scope}");
        assert_eq!(there(&everything.copied.digest), intermediate, "{scope}");
        assert!(!there(&everything.old.digest), "{scope}");
        assert!(
            there(&everything.app.digest) && there(&everything.base.digest),
            "{scope}"
        );
        assert_eq!(
            store.json(&["inspect", "app"])[0]["Id"],
            json!(everything.app.id)
        );
    }
}

#[test]
fn without_a_terminal_a_prune_must_be_told_not_to_ask() {
    let store = Everything::new().sample;
    let before = store.digests();
    let refused = store.rstore(&["prune"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(store.digests(), before);
}

#[test]
fn a_second_prune_is_told_to_come_again() {
    let store = Everything::new().sample;
    store.ok(&["images"]);
    let lock = store.root().join("rstore/prune.lock");
    let held = rstore::lock::FileLock::exclusive(&lock).unwrap();
    let busy = store.rstore(&["prune", "-f"]);
    assert_eq!(busy.code, 75, "{}", busy.stderr);
    drop(held);
    assert_eq!(store.rstore(&["prune", "-f"]).code, 0);
}

#[test]
fn what_cannot_be_read_stops_a_prune() {
    let everything = Everything::new();
    let store = &everything.sample;
    store.ok(&["images"]);
    let blob = store.blobs().join(everything.app.digest.hex());
    std::fs::write(&blob, "{}").unwrap();
    let database = store.root().join("rstore/catalog.db");
    std::fs::remove_file(database).unwrap();
    let prune = store.rstore(&["prune", "-f"]);
    assert_eq!(prune.code, 4, "{}", prune.stderr);
    assert!(
        prune.stderr.contains(&everything.app.digest.short()),
        "{}",
        prune.stderr
    );
    assert!(store.digests().contains(&everything.old.digest.to_string()));
}

#[test]
fn import_and_load_take_images_in() {
    let everything = Everything::new();
    let store = &everything.sample;
    let tar = store.root().join("../rootfs.tar");
    let mut builder = tar::Builder::new(std::fs::File::create(&tar).unwrap());
    let mut header = tar::Header::new_ustar();
    header.set_size(2);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "file", &b"hi"[..])
        .unwrap();
    builder.into_inner().unwrap();
    let id = store.ok(&["import", tar.to_str().unwrap(), "fresh", "--timestamp", "0"]);
    assert!(id.starts_with("sha256:"), "{id}");
    assert!(store.ok(&["images"]).contains("fresh"));

    let other = crate::sample::Sample::new();
    let source = store.root();
    let said = other.ok(&["load", "-i", source.to_str().unwrap()]);
    assert!(said.contains("Loaded image: app:latest"), "{said}");
    assert!(other.ok(&["images"]).contains("fresh"));

    let absent = store.rstore(&["load", "-i", "/nowhere/absent.tar"]);
    assert_eq!(absent.code, 1);
    assert!(absent.stderr.contains("absent.tar"), "{}", absent.stderr);
    std::fs::write(&tar, "not a tar").unwrap();
    let bad = store.rstore(&["import", tar.to_str().unwrap(), "bad"]);
    assert_eq!(bad.code, 1);
    assert!(bad.stderr.contains("rootfs.tar"), "{}", bad.stderr);
}

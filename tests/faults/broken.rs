//! Files that are torn, empty, lost, or older than the rest: what `fsck` says of them, what it
//! repairs, and that one of them never stands in the way of what does not need it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::scenario::{copy_tree, tar_of};
use crate::support::{BASE, Context, Finished, Rstore, machine};

/// `app` and `other`, of two layers each, neither of them from the other; no step of them runs.
fn store() -> Rstore {
    let store = Rstore::new();
    let files = crate::support::scratch();
    fs::create_dir(files.path().join("etc")).unwrap();
    fs::write(files.path().join("etc/name"), vec![b'n'; 5_000]).unwrap();
    let tar = files.path().join("base.tar");
    tar_of(files.path(), &tar, &["etc"]);
    store.import(&tar, BASE);
    for name in ["app", "other"] {
        store.build(context(name).path(), &["-t", name]);
    }
    store
}

fn context(text: &str) -> Context {
    let context = Context::new("FROM base\nCOPY file /file\n");
    context.file("file", text.repeat(3_000));
    context
}

fn catalog(store: &Rstore) -> std::path::PathBuf {
    store.root().join("rstore/catalog.db")
}

/// `fsck` with these arguments, as JSON, and how it ended.
fn fsck(store: &Rstore, arguments: &[&str]) -> (Finished, Value) {
    let all = ["fsck", "--format", "json"].iter().chain(arguments);
    let finished = store.run(all);
    let report = serde_json::from_str(&finished.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}: {finished}"));
    (finished, report)
}

/// The finding of this kind.
#[track_caller]
fn finding<'a>(report: &'a Value, kind: &str) -> &'a Value {
    let findings = report["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {report:#}"))
}

#[track_caller]
fn has_no(report: &Value, kind: &str) {
    let findings = report["findings"].as_array().expect("findings");
    assert!(
        findings.iter().all(|finding| finding["kind"] != kind),
        "{report:#}"
    );
}

/// `df` and `du` agree.
#[track_caller]
fn assert_accounted(store: &Rstore) {
    let df = store.json(&["df"]);
    assert_eq!(df["total"], machine::allocated(store.root()), "{df:#}");
}

// -- the catalog ------------------------------------------------------------------------------

#[test]
fn an_empty_or_torn_catalog_is_made_again_by_any_command_and_pins_survive_where_they_can_be_read() {
    for bytes in [&b""[..], &[b'x'; 8192]] {
        let store = store();
        let tags = store.tags();
        store.ok(["prune", "-f"]);
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", catalog(&store).display()));
        }
        fs::write(catalog(&store), bytes).unwrap();
        let told = store.run(["images"]).ok();
        assert!(
            told.stderr.contains("catalog") && told.stdout.contains("app"),
            "{told}"
        );
        assert_eq!(store.tags(), tags);
        store.ok(["prune", "-f"]);
        store.verify();
        store.run(["fsck"]).ok();
        assert_accounted(&store);
    }
}

#[test]
fn a_torn_page_of_the_catalog_is_found_and_the_catalog_is_made_again_with_its_pins() {
    let store = store();
    let pinned = store.digest("app:latest");
    store.ok(["pin", "app"]);
    store.ok(["untag", "app"]);
    // Its log goes into the file, so that there are pages to tear.
    store.ok(["prune", "-f"]);
    let bytes = fs::read(catalog(&store)).unwrap();
    let pages = bytes.len() / 4096;
    let (mut found, mut kept_pins) = (0, 0);
    for page in (1..pages).step_by(3) {
        let copy = Rstore::new();
        copy_tree(store.root(), copy.root());
        let mut torn = bytes.clone();
        torn[page * 4096..(page + 1) * 4096].fill(0x5a);
        fs::write(catalog(&copy), torn).unwrap();
        let (finished, report) = fsck(&copy, &[]);
        // A page that holds nothing yet harms nothing.
        if finished.code == 0 {
            continue;
        }
        assert_eq!(finished.code, 4, "{finished}");
        finding(&report, "catalog_damaged");
        found += 1;
        let (finished, report) = fsck(&copy, &["--repair"]);
        assert_eq!(finished.code, 0, "{finished}");
        assert_eq!(finding(&report, "catalog_damaged")["outcome"], "repaired");
        assert_eq!(copy.tags(), store.tags());
        let lost = finding(&report, "catalog_damaged")["how"]
            .to_string()
            .contains("pin them again");
        copy.ok(["prune", "-f"]);
        copy.verify();
        let (finished, _) = fsck(&copy, &[]);
        assert_eq!(finished.code, 0, "{finished}");
        assert_accounted(&copy);
        let there = copy.blob(&pinned).exists();
        assert!(
            there || lost,
            "page {page}: a pin was lost in silence: {report:#}"
        );
        kept_pins += usize::from(there);
    }
    assert!(
        found > 5 && kept_pins > 0,
        "{found} of {pages} pages, {kept_pins} pins"
    );
}

#[test]
fn a_command_that_meets_a_torn_page_says_fsck_or_makes_the_catalog_again() {
    let store = store();
    store.ok(["prune", "-f"]);
    let bytes = fs::read(catalog(&store)).unwrap();
    let mut refused = 0;
    for page in 1..bytes.len() / 4096 {
        let copy = Rstore::new();
        copy_tree(store.root(), copy.root());
        let mut torn = bytes.clone();
        torn[page * 4096..(page + 1) * 4096].fill(0x5a);
        fs::write(catalog(&copy), torn).unwrap();
        let looked = copy.run(["images", "-a"]);
        if looked.code != 0 {
            looked.fails(4, &["catalog", "fsck --repair"]);
            refused += 1;
            copy.run(["fsck", "--repair"]).ok();
        }
        let looked = copy.run(["images", "-a"]).ok();
        assert!(looked.stdout.contains("app"), "page {page}: {looked}");
        copy.verify();
    }
    assert!(refused > 0);
}

#[test]
fn a_catalog_older_than_the_disk_loses_no_image_and_takes_in_what_came_since() {
    let store = store();
    store.ok(["prune", "-f"]);
    let old = fs::read(catalog(&store)).unwrap();
    // Since then: one image lost its name and went, one came, one moved.
    store.ok(["rmi", "other"]);
    store.build(context("third").path(), &["-t", "third"]);
    store.build(context("newer").path(), &["-t", "app"]);
    store.ok(["pin", "third"]);
    store.ok(["prune", "-f"]);
    let (tags, blobs) = (store.tags(), store.blobs());
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", catalog(&store).display()));
    }
    fs::write(catalog(&store), old).unwrap();
    store.run(["fsck"]).ok();
    store.ok(["images", "-a"]);
    let (finished, report) = fsck(&store, &[]);
    assert_eq!(finished.code, 0, "{finished}");
    has_no(&report, "missing");
    store.ok(["prune", "-f"]);
    assert_eq!(store.tags(), tags);
    assert!(
        store.blobs().is_superset(&blobs),
        "what was needed is still there"
    );
    store.verify();
    store.build(context("fourth").path(), &["-t", "fourth"]);
    store.build(context("other").path(), &["-t", "other"]);
    store.run(["fsck"]).ok();
    store.verify();
    assert_accounted(&store);
}

#[test]
fn a_catalog_that_lies_about_links_names_and_sizes_is_found_out_and_put_right() {
    let store = store();
    let sqlite = |statement: &str| {
        let connection = rusqlite::Connection::open(catalog(&store)).unwrap();
        assert!(
            connection.execute(statement, []).unwrap() > 0,
            "{statement}"
        );
    };
    sqlite(
        "UPDATE links SET targets = unhex(printf('%010x02', source)) WHERE id = (SELECT max(id) FROM links)",
    );
    sqlite("UPDATE blob SET size = size + 1 WHERE kind = 4");
    sqlite(
        "UPDATE blob SET damage = 'a lie' WHERE kind = 2 AND id = (SELECT min(id) FROM blob WHERE kind = 2)",
    );
    sqlite("UPDATE index_entry SET name = 'liar:latest' WHERE name = 'app:latest'");
    sqlite("INSERT INTO cache_record VALUES (randomblob(32), 99999, 1, 1, 0)");
    sqlite(
        "INSERT INTO snapshot (chain, owners, directory, allocated, boot, first_seen, last_used) VALUES (randomblob(32), 'host', 'nowhere', 1, '', 1, 1)",
    );
    let (finished, report) = fsck(&store, &[]);
    assert_eq!(finished.code, 4, "{finished}");
    for kind in [
        "links",
        "row_size",
        "stale_damage",
        "mirror",
        "cache_record",
        "snapshot",
    ] {
        finding(&report, kind);
    }
    assert_eq!(
        report["broken"],
        serde_json::json!([]),
        "no image is harmed: {report:#}"
    );
    let (finished, report) = fsck(&store, &["--repair"]);
    assert_eq!(finished.code, 0, "{finished}");
    assert_eq!(finding(&report, "links")["outcome"], "repaired");
    let (finished, report) = fsck(&store, &[]);
    assert_eq!(
        (finished.code, &report["findings"]),
        (0, &serde_json::json!([])),
        "{finished}"
    );
    store.ok(["prune", "-f"]);
    store.verify();
}

// -- index.json and oci-layout ----------------------------------------------------------------

#[test]
fn an_empty_or_torn_index_is_restored_from_the_catalog() {
    for bytes in ["", "{\"schemaVersion\":2,\"mani"] {
        let store = store();
        let (tags, blobs) = (store.tags(), store.blobs());
        fs::write(store.root().join("index.json"), bytes).unwrap();
        for arguments in [&["images"][..], &["prune", "-f"], &["tag", "app", "x"]] {
            store
                .run(arguments)
                .fails(4, &["index.json", "fsck --repair"]);
        }
        assert_eq!(store.blobs(), blobs, "nothing went");
        let (finished, report) = fsck(&store, &[]);
        assert_eq!(finished.code, 4, "{finished}");
        finding(&report, "index_invalid");
        let (finished, _) = fsck(&store, &["--repair"]);
        assert_eq!(finished.code, 0, "{finished}");
        assert_eq!(store.tags(), tags);
        store.ok(["prune", "-f"]);
        store.run(["fsck"]).ok();
        store.verify();
        assert!(store.root().join("rstore/quarantine/index.json").exists());
        assert_accounted(&store);
    }
}

#[test]
fn an_index_torn_together_with_the_catalog_is_restored_with_what_can_be_read_or_nothing_goes() {
    let store = store();
    let (tags, blobs) = (store.tags(), store.blobs());
    fs::write(store.root().join("index.json"), "{").unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", catalog(&store).display()));
    }
    let (finished, report) = fsck(&store, &["--repair"]);
    assert_eq!(finished.code, 4, "{finished}");
    assert_eq!(finding(&report, "index_invalid")["outcome"], "remains");
    store.run(["prune", "-f"]).fails(4, &["index.json"]);
    assert_eq!(store.blobs(), blobs);
    // What it says is what to do.
    fs::write(
        store.root().join("index.json"),
        r#"{"schemaVersion":2,"manifests":[]}"#,
    )
    .unwrap();
    store.ok(["images", "-a"]);
    for (name, digest) in &tags {
        store.ok(["tag", digest, name]);
    }
    store.run(["fsck"]).ok();
    assert_eq!(store.tags(), tags);
    store.verify();
}

#[test]
fn an_empty_or_missing_oci_layout_is_written_again() {
    for missing in [false, true] {
        let store = store();
        let marker = store.root().join("oci-layout");
        let text = fs::read(&marker).unwrap();
        match missing {
            true => fs::remove_file(&marker).unwrap(),
            false => {
                fs::write(&marker, "").unwrap();
                store
                    .run(["images"])
                    .fails(4, &["oci-layout", "fsck --repair"]);
            }
        }
        let (finished, report) = fsck(&store, &[]);
        assert_eq!(finished.code, 4, "{finished}");
        finding(&report, "marker");
        store.run(["fsck", "--repair"]).ok();
        assert_eq!(fs::read(&marker).unwrap(), text);
        store.run(["images"]).ok();
    }
}

#[test]
fn what_is_no_store_is_told_so() {
    let store = Rstore::new();
    store.run(["fsck"]).fails(1, &["no store"]);
    fs::create_dir_all(store.root()).unwrap();
    fs::write(store.root().join("thesis.txt"), "x").unwrap();
    store.run(["fsck", "--repair"]).fails(1, &["no store"]);
    assert_eq!(fs::read_dir(store.root()).unwrap().count(), 1);
}

// -- blobs ------------------------------------------------------------------------------------

/// How a file comes to harm.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Torn,
    Empty,
    Missing,
}

fn harm(path: &Path, how: Harm) {
    match how {
        Harm::Torn => {
            let mut bytes = fs::read(path).unwrap();
            bytes.truncate(bytes.len() / 2);
            fs::write(path, bytes).unwrap();
        }
        Harm::Empty => fs::write(path, "").unwrap(),
        Harm::Missing => fs::remove_file(path).unwrap(),
    }
}

#[test]
fn one_broken_image_never_disables_what_does_not_need_it() {
    for how in [Harm::Torn, Harm::Empty, Harm::Missing] {
        for lost_catalog in [false, true] {
            let store = store();
            let broken = store.digest("app:latest");
            let layers = store.layers("app:latest");
            harm(&store.blob(&broken), how);
            if lost_catalog {
                for suffix in ["", "-wal", "-shm"] {
                    let _ = fs::remove_file(format!("{}{suffix}", catalog(&store).display()));
                }
            }
            let what = format!("{how:?}, catalog lost: {lost_catalog}");
            for arguments in [
                &["images"][..],
                &["images", "-a"],
                &["df"],
                &["graph"],
                &["layers"],
                &["ps"],
                &["why", "other"],
                &["history", "other"],
                &["inspect", "other"],
                &["tag", "other", "another"],
                &["untag", "another"],
            ] {
                let finished = store.run(arguments);
                assert_eq!(finished.code, 0, "{what}: {finished}");
            }
            store.build(context("third").path(), &["-t", "third"]);
            let look = store.run(["prune", "--dry-run"]);
            assert!([0, 4].contains(&look.code), "{what}: {look}");
            assert!(
                look.stdout.contains("Total reclaimable space"),
                "{what}: {look}"
            );
            let pruned = store.run(["prune", "-f"]);
            for layer in &layers {
                assert!(store.blob(layer).exists(), "{what}: {pruned}");
            }
            if pruned.code == 4 {
                assert!(
                    pruned.stderr.contains(&format!("--ignore-broken {broken}")),
                    "{pruned}"
                );
                let removed = store.run(["rmi", "third"]).fails(5, &["no bytes"]);
                assert!(
                    removed.stdout.contains("Untagged: third:latest"),
                    "{removed}"
                );
                store.ok(["prune", "-f", "--ignore-broken", &broken]);
            }
            assert!(
                store.tags().contains_key("app:latest"),
                "{what}: it keeps its name"
            );
            store.ok(["rmi", "app"]);
            store.ok(["prune", "-f"]);
            store.run(["fsck", "other"]).ok();
            store.whole("other:latest");
            store.build(context("app").path(), &["-t", "app"]);
            store.whole("app:latest");
        }
    }
}

#[test]
fn a_torn_manifest_config_or_layer_is_found_told_with_its_image_and_moved_away() {
    let template = store();
    let manifest = template.digest("app:latest");
    let parts = [
        manifest,
        template.id("app:latest"),
        template.layers("app:latest")[1].clone(),
    ];
    for part in &parts {
        for how in [Harm::Torn, Harm::Empty] {
            let store = Rstore::new();
            copy_tree(template.root(), store.root());
            harm(&store.blob(part), how);
            for (arguments, kind) in [
                (&[][..], "corrupt"),
                (&["--quick"], "wrong_size"),
                (&["app"], "corrupt"),
            ] {
                let (finished, report) = fsck(&store, arguments);
                assert_eq!(finished.code, 4, "{finished}");
                let found = finding(&report, kind);
                assert_eq!(found["digest"], **part, "{report:#}");
                assert_eq!(found["severity"], "error", "{report:#}");
                assert_eq!(
                    found["images"],
                    serde_json::json!(["app:latest"]),
                    "{report:#}"
                );
                assert_eq!(report["broken"][0]["name"], "app:latest", "{report:#}");
            }
            let (finished, _) = fsck(&store, &["other"]);
            assert_eq!(finished.code, 0, "{finished}");
            let (finished, report) = fsck(&store, &["--repair"]);
            assert_eq!(finished.code, 5, "{finished}");
            assert_eq!(finding(&report, "corrupt")["outcome"], "repaired");
            assert_eq!(finding(&report, "missing")["outcome"], "remains");
            assert_eq!(report["broken"][0]["name"], "app:latest", "{report:#}");
            assert_quarantined(&store, part);
            store.build(context("app").path(), &["-t", "app"]);
            let (finished, _) = fsck(&store, &[]);
            assert_eq!(finished.code, 0, "{finished}");
            store.verify();
        }
    }
}

/// It was moved, is counted, and no prune takes it.
fn assert_quarantined(store: &Rstore, digest: &str) {
    let name = format!("rstore/quarantine/{}", digest.replace(':', "-"));
    let file = store.root().join(name);
    assert!(file.exists() && !store.blob(digest).exists());
    store.run(["prune", "-f", "--all"]);
    assert!(file.exists(), "a prune took what is in quarantine");
    assert_accounted(store);
}

#[test]
fn what_was_moved_away_and_is_whole_after_all_is_brought_back() {
    let store = store();
    let layer = store.layers("app:latest")[1].clone();
    let whole = fs::read(store.blob(&layer)).unwrap();
    fs::write(store.blob(&layer), "torn").unwrap();
    store.run(["fsck", "--repair"]).fails(5, &["app:latest"]);
    // As from a disk that read wrongly once.
    let kept = store
        .root()
        .join("rstore/quarantine")
        .join(layer.replace(':', "-"));
    fs::write(kept, whole).unwrap();
    let (finished, report) = fsck(&store, &["--repair"]);
    assert_eq!(finished.code, 0, "{finished}");
    assert_eq!(finding(&report, "missing")["outcome"], "repaired");
    store.verify();
    store.run(["fsck"]).ok();
}

#[test]
fn a_changed_byte_is_found_by_reading_and_not_by_the_quick_form() {
    let store = store();
    let layer = store.layers("app:latest")[1].clone();
    let mut bytes = fs::read(store.blob(&layer)).unwrap();
    bytes[20] ^= 1;
    fs::write(store.blob(&layer), bytes).unwrap();
    let (finished, report) = fsck(&store, &["--quick"]);
    assert_eq!(
        (finished.code, report["read"].as_u64()),
        (0, Some(0)),
        "{finished}"
    );
    let (finished, report) = fsck(&store, &[]);
    assert_eq!(finished.code, 4, "{finished}");
    finding(&report, "corrupt");
}

#[test]
fn a_check_changes_nothing() {
    let store = store();
    harm(&store.blob(&store.digest("app:latest")), Harm::Torn);
    let names = || {
        let walk = walkdir::WalkDir::new(store.root()).into_iter().flatten();
        // SQLite's own are made and removed by whoever opens the catalog.
        let walk = walk.filter(|entry| !entry.path().to_string_lossy().contains("catalog.db-"));
        walk.map(|entry| {
            (
                entry.path().to_owned(),
                entry.metadata().unwrap().modified().unwrap(),
            )
        })
        .collect::<Vec<_>>()
    };
    let before = names();
    store.run(["fsck"]).fails(4, &["app:latest"]);
    store.run(["fsck", "--quick"]).fails(4, &["app:latest"]);
    assert_eq!(names(), before);
}

#[test]
fn a_blob_that_was_gone_and_has_come_back_is_taken_in_when_it_is_met() {
    let store = store();
    let (digest, layer) = (
        store.digest("app:latest"),
        store.layers("app:latest")[1].clone(),
    );
    let aside = |digest: &str| store.root().join(format!("rstore/{}", &digest[7..]));
    for digest in [&digest, &layer] {
        fs::rename(store.blob(digest), aside(digest)).unwrap();
    }
    // The catalog notices that they are gone.
    store.ok(["images", "-a"]);
    for digest in [&digest, &layer] {
        fs::rename(aside(digest), store.blob(digest)).unwrap();
    }
    store.ok(["tag", "app", "again"]);
    let context = Context::new("FROM app\nLABEL a=b\n");
    store.build(context.path(), &["-t", "child"]);
    store.run(["fsck"]).ok();
    store.verify();
}

#[test]
fn a_check_beside_builds_and_prunes_finds_nothing_and_harms_none() {
    let store = store();
    let done = std::sync::atomic::AtomicBool::new(false);
    let (store, done) = (&store, &done);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..10 {
                store.build(context(&format!("busy {n}")).path(), &["-t", "busy"]);
                store.ok(["prune", "-f"]);
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        let mut checks = 0;
        while !done.load(std::sync::atomic::Ordering::SeqCst) || checks == 0 {
            let repair: &[&str] = if checks % 2 == 1 { &["--repair"] } else { &[] };
            let (finished, _) = fsck(store, repair);
            assert_eq!(finished.code, 0, "{finished}");
            checks += 1;
        }
    });
    store.run(["fsck"]).ok();
    store.verify();
}

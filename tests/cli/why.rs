//! Who keeps what, since when nobody does, and which prune takes it.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::sample::{Everything, Image, Recipe, Sample};

fn why(store: &Sample, reference: &str) -> Value {
    let answers = store.json(&["why", reference, "--format", "json"]);
    assert_eq!(answers["schema"], 1);
    let answers = answers["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 1, "{reference}: {answers:?}");
    answers[0].clone()
}

/// Whether the dry run of a prune lists a thing.
fn goes(store: &Sample, command: &str, digest: &str) -> bool {
    let mut words: Vec<&str> = command.split(' ').skip(1).collect();
    words.extend(["-n", "--format", "json"]);
    let plan = store.json(&words);
    let items = plan["plan"]["items"].as_array().unwrap();
    items.iter().any(|item| item["digest"] == digest)
}

const PRUNES: [&str; 4] = [
    "rstore prune",
    "rstore prune --stages",
    "rstore prune --intermediates",
    "rstore prune --stages --intermediates",
];

#[test]
fn the_prune_that_is_named_takes_it_and_no_narrower_one_does() {
    let everything = Everything::new();
    let store = &everything.sample;
    // Held in two ways: as a stage, and as what a tagged image descends from.
    let both = store.image(&Recipe {
        steps: &["RUN both"],
        ..Recipe::default()
    });
    let user = store.image(&Recipe {
        steps: &["RUN both", "COPY --from=both"],
        parent: Some(both),
        stages: &[both],
        ..Recipe::default()
    });
    store.write_index(&[
        ("base:latest", everything.base),
        ("app:latest", everything.app),
        ("user:latest", user),
    ]);
    let mut named = Vec::new();
    for digest in store.digests() {
        let answer = why(store, &digest);
        let digest = answer["digest"].as_str().unwrap();
        let command = answer["removed_by"].as_str();
        for prune in PRUNES {
            let taken = goes(store, prune, digest);
            let expected = match command {
                None => false,
                Some("rstore prune") => true,
                Some(command) => prune == command || prune == PRUNES[3],
            };
            assert_eq!(taken, expected, "{digest} by {prune}: {answer}");
        }
        assert_eq!(
            answer["kept"],
            json!(!answer["paths"].as_array().unwrap().is_empty())
        );
        named.extend(command.map(str::to_owned));
    }
    named.sort();
    named.dedup();
    let mut every = PRUNES;
    every.sort_unstable();
    assert_eq!(named, every);
}

#[test]
fn of_what_many_share_the_shortest_paths_are_told_and_the_rest_is_counted() {
    let store = Sample::new();
    let base = store.layer("base", 1000);
    let images: Vec<(String, Image)> = (0..300)
        .map(|number| {
            let step = format!("RUN {number}");
            let recipe = Recipe {
                layers: &[base],
                steps: &[&step],
                ..Recipe::default()
            };
            (format!("app{number}:latest"), store.image(&recipe))
        })
        .collect();
    let tags: Vec<(&str, Image)> = images
        .iter()
        .map(|(name, image)| (name.as_str(), *image))
        .collect();
    store.write_index(&tags);
    let answer = why(&store, &base.digest.to_string());
    assert_eq!(answer["paths"].as_array().unwrap().len(), 16);
    assert_eq!(
        (&answer["more"], &answer["roots"]),
        (&json!(284), &json!(300))
    );
    assert_eq!(answer["more_uncounted"], false);
    let text = store.ok(&["why", &base.digest.to_string()]);
    assert!(
        text.ends_with("  and 284 more, from 300 roots in all\n"),
        "{text}"
    );
}

#[test]
fn of_what_nothing_keeps_it_is_told_which_name_went_when_and_by_whom() {
    let everything = Everything::new();
    let store = &everything.sample;
    store.ok(&["untag", "app:1"]);
    store.ok(&["tag", "base", "app"]);
    let uid = rustix::process::getuid().as_raw();
    // The image, what it was made from, and a layer of them.
    let layer = store.json(&["inspect", &everything.app.digest.to_string()])[0]["Rstore"]["layers"]
        [1]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    for digest in [
        everything.app.digest.to_string(),
        everything.copied.digest.to_string(),
        layer,
    ] {
        let answer = why(store, &digest);
        assert_eq!(answer["kept"], false, "{answer}");
        assert_eq!(answer["last_name"]["name"], "app:latest", "{answer}");
        assert_eq!(answer["last_name"]["operation"], "tag");
        assert_eq!(answer["last_name"]["uid"], uid);
        let text = store.ok(&["why", &digest]);
        assert!(
            text.contains("its last name, app:latest, was given to another image"),
            "{text}"
        );
        assert!(text.contains("tag base app`"), "{text}");
        assert!(text.contains("`rstore prune` removes it"), "{text}");
    }
    // Of what never had a name there is nothing to tell.
    assert_eq!(
        why(store, &everything.stray.digest.to_string())["last_name"],
        Value::Null
    );
}

/// A store with a snapshot, a cache record, containers and a cache mount, as builds leave them.
fn with_leftovers() -> (Everything, String, String) {
    let everything = Everything::new();
    let store = &everything.sample;
    store.ok(&["images"]);
    let private = store.root().join("rstore");
    for directory in [
        "snapshots/abc-1",
        "snapshots/old-2",
        "containers/c0ffee001122",
        "cache-mounts/dead-3",
    ] {
        std::fs::create_dir_all(private.join(directory)).unwrap();
    }
    let chain = |images: &[&str]| {
        let mut chain = None;
        for diff_id in images {
            let diff_id = diff_id.parse().unwrap();
            chain = Some(rstore::oci::chain_id(chain.as_ref(), &diff_id));
        }
        chain.unwrap()
    };
    let inspected = |image: &Image| store.json(&["inspect", &image.digest.to_string()]);
    let of = |value: Value| {
        let layers = value[0]["RootFS"]["Layers"].as_array().unwrap().clone();
        let texts: Vec<String> = layers
            .iter()
            .map(|l| l.as_str().unwrap().to_owned())
            .collect();
        chain(&texts.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (app, old) = (
        of(inspected(&everything.app)),
        of(inspected(&everything.old)),
    );
    let catalog = Connection::open(private.join("catalog.db")).unwrap();
    let blob = |digest: rstore::oci::Digest| {
        let sql = "SELECT id FROM blob WHERE digest = ?1";
        catalog
            .query_row(sql, [digest.as_bytes()], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    for (chain, directory) in [(app, "abc-1"), (old, "old-2")] {
        catalog
            .execute(
                "INSERT INTO snapshot (chain, owners, directory, allocated, boot, first_seen, last_used)
                 VALUES (?1, 'host', ?2, 4096, '', 1000, 2000)",
                rusqlite::params![chain.as_bytes(), directory],
            )
            .unwrap();
    }
    let key = rstore::oci::Digest::of(b"key");
    catalog
        .execute(
            "INSERT INTO cache_record (key, image, created, last_used, hits) VALUES (?1, ?2, 1, 2, 3)",
            rusqlite::params![key.as_bytes(), blob(everything.copied.digest)],
        )
        .unwrap();
    catalog
        .execute(
            "INSERT INTO container VALUES ('c0ffee001122', 'nolease', ?1, 'RUN false', 1, 7)",
            [blob(everything.base.digest)],
        )
        .unwrap();
    catalog
        .execute(
            "INSERT INTO cache_mount (key, owners, name, directory, first_seen, last_used)
             VALUES (?1, 'host', '/root/.cache', 'dead-3', 1, 2)",
            [rstore::oci::Digest::of(b"mount").as_bytes()],
        )
        .unwrap();
    (everything, app.to_string(), old.to_string())
}

#[test]
fn snapshots_records_containers_and_cache_mounts_are_answered_for() {
    let (everything, app, old) = with_leftovers();
    let store = &everything.sample;
    let kept = why(store, &app);
    assert_eq!(
        (&kept["kind"], &kept["kept"]),
        (&json!("snapshot"), &json!(true))
    );
    assert_eq!(kept["paths"][0]["root"]["name"], "app:latest");
    assert_eq!(kept["removed_by"], "rstore prune --snapshots");
    let text = store.ok(&["why", &app[..20]]);
    assert!(
        text.contains("tag app:latest → image") && text.contains("→ snapshot"),
        "{text}"
    );
    let path = store.root().join("rstore/snapshots/old-2/etc/passwd");
    for reference in [
        "old-2",
        "rstore/snapshots/old-2",
        path.to_str().unwrap(),
        &old,
    ] {
        let answer = why(store, reference);
        assert_eq!(answer["kept"], false, "{answer}");
        assert_eq!(
            (&answer["removed_by"], &answer["directory"]),
            (&json!("rstore prune"), &json!("old-2"))
        );
    }
    let key = rstore::oci::Digest::of(b"key").to_string();
    let record = why(store, &key);
    assert_eq!(
        (&record["kind"], &record["removed_by"]),
        (&json!("cache_record"), &json!("rstore prune --cache"))
    );
    let container = why(store, "c0ffee");
    assert_eq!(
        (&container["kind"], &container["removed_by"]),
        (&json!("container"), &json!("rstore prune"))
    );
    let mount = why(store, "/root/.cache");
    assert_eq!(
        (&mount["kind"], &mount["removed_by"]),
        (&json!("cache_mount"), &json!("rstore prune --cache-mounts"))
    );
    let items = |command: &str| {
        let mut words: Vec<&str> = command.split(' ').skip(1).collect();
        words.extend(["-n", "--format", "json"]);
        let plan = store.json(&words);
        let items = plan["plan"]["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|i| format!("{} {} {}", i["kind"], i["id"], i["digest"]))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let default = items("rstore prune");
    assert!(
        default.contains("old-2") && default.contains("c0ffee001122"),
        "{default}"
    );
    assert!(
        !default.contains("abc-1")
            && !default.contains("cache_record")
            && !default.contains("dead-3"),
        "{default}"
    );
    assert!(items("rstore prune --snapshots").contains("abc-1"));
    assert!(items("rstore prune --cache").contains(&key));
    assert!(items("rstore prune --cache-mounts").contains("dead-3"));
}

#[test]
fn the_chain_id_of_a_lowest_layer_is_its_diff_id_and_both_are_answered_for() {
    let (everything, ..) = with_leftovers();
    let store = &everything.sample;
    let base = store.json(&["inspect", "base"])[0]["RootFS"]["Layers"][0]
        .as_str()
        .unwrap()
        .to_owned();
    let digest: rstore::oci::Digest = base.parse().unwrap();
    let catalog = Connection::open(store.root().join("rstore/catalog.db")).unwrap();
    catalog
        .execute(
            "INSERT INTO snapshot (chain, owners, directory, allocated, boot, first_seen, last_used)
             VALUES (?1, 'host', 'base-1', 4096, '', 1000, 2000)",
            [digest.as_bytes()],
        )
        .unwrap();
    let answers = store.json(&["why", &base, "--format", "json"]);
    let kinds: Vec<&Value> = answers["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| &a["kind"])
        .collect();
    assert_eq!(kinds, [&json!("layer"), &json!("snapshot")]);
}

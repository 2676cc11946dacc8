//! Layers twice, the disk, and metrics of both.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::need::{self, Need, skip_without};
use crate::sample::{Everything, Layer, Recipe, Sample, du, program, run};

/// The same layer twice, plain and through gzip, and one that is there once.
fn twice() -> (Sample, Layer, Layer) {
    let sample = Sample::new();
    let plain = sample.layer("twice", 60_000);
    let bytes = fs::read(sample.blobs().join(plain.digest.hex())).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&bytes).unwrap();
    let bytes = gzip.finish().unwrap();
    let zipped = Layer {
        digest: sample.blob(&bytes),
        diff_id: plain.diff_id,
        size: bytes.len() as u64,
    };
    let once = sample.layer("once", 10_000);
    let image = |layers| {
        sample.image(&Recipe {
            layers,
            steps: &["ADD twice.tar /", "ADD once.tar /"],
            ..Recipe::default()
        })
    };
    let images = [image(&[plain, once]), image(&[zipped, once])];
    sample.write_index(&[("plain:1", images[0]), ("zipped:1", images[1])]);
    (sample, plain, zipped)
}

#[test]
fn layers_tells_what_is_there_under_two_compressions_and_what_one_would_save() {
    let (sample, plain, zipped) = twice();
    let list = sample.json(&["layers", "--duplicates", "--format", "json"]);
    let layers = list["layers"].as_array().unwrap();
    let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    // The one to keep comes first.
    assert_eq!(digests, [&json!(zipped.digest), &json!(plain.digest)]);
    assert_eq!(layers[0]["duplicates"], json!([plain.digest]));
    assert_eq!(layers[0]["saves"], 0);
    assert_eq!(layers[1]["saves"], layers[1]["allocated"]);
    // What is not compressed is as large unpacked as it is.
    assert_eq!(layers[1]["unpacked"], plain.size);
    assert_eq!(layers[0]["unpacked"], Value::Null);
    let table = sample.rstore(&["layers", "--duplicates", "--bytes"]);
    assert!(table.stdout.contains("SAVES"), "{}", table.stdout);
    let saves = layers[1]["saves"].as_u64().unwrap();
    let told = format!(
        "2 layers with the files of 1: one compression of each, the smallest, would save {saves}"
    );
    assert!(table.stderr.contains(&told), "{}", table.stderr);
    let quiet = sample.ok(&["layers", "-q", "--filter", "duplicate=false", "--no-trunc"]);
    assert_eq!(quiet.lines().count(), 1);
    let none = Everything::new().sample.rstore(&["layers", "--duplicates"]);
    assert_eq!((none.code, none.stdout.lines().count()), (0, 1));
    assert!(none.stderr.contains("no layer is there"), "{}", none.stderr);
}

#[test]
fn the_images_of_a_layer_are_counted_once_and_listed_by_id() {
    let everything = Everything::new();
    let list = everything
        .sample
        .json(&["layers", "--format", "json", "--sort", "images:desc"]);
    let images = list["layers"][0]["images"].as_array().unwrap();
    let mut ids: Vec<String> = [
        everything.base,
        everything.builder,
        everything.copied,
        everything.app,
        everything.old,
    ]
    .iter()
    .map(|image| image.id.to_string())
    .collect();
    ids.sort();
    assert_eq!(
        images,
        &ids.into_iter().map(Value::from).collect::<Vec<_>>()
    );
}

#[test]
fn df_sees_a_file_that_changed_without_its_directory() {
    let everything = Everything::new();
    let store = &everything.sample;
    store.ok(&["df"]);
    let path = store.blobs().join(everything.stray.digest.hex());
    fs::write(path, vec![7; 3 << 20]).unwrap();
    let usage = store.json(&["df", "--format", "json"]);
    assert_eq!(usage["total"], du(&store.root()));
    let rows = usage["rows"].as_array().unwrap();
    let others = rows.iter().find(|row| row["type"] == "others").unwrap();
    assert!(others["size"].as_u64().unwrap() >= 3 << 20);
}

#[test]
fn df_says_of_each_image_what_a_prune_of_its_kind_frees() {
    let everything = Everything::new();
    let store = &everything.sample;
    let usage = store.json(&["df", "-v", "--format", "json"]);
    let images = usage["images"].as_array().unwrap();
    let of = |digest| {
        let found = images.iter().find(|image| image["digest"] == json!(digest));
        found.unwrap()["reclaimable"].as_u64().unwrap()
    };
    assert_eq!(of(everything.app.digest), 0);
    let old = of(everything.old.digest);
    assert!(old >= 30_000, "its documents and its layer: {old}");
    let row = |kind: &str| {
        let rows = usage["rows"].as_array().unwrap();
        rows.iter().find(|row| row["type"] == kind).unwrap().clone()
    };
    assert_eq!(row("stages")["reclaimable"], of(everything.builder.digest));
    assert_eq!(row("dangling")["own"], old);
    assert_eq!(row("snapshots")["own"], Value::Null);
    let table = store.ok(&["df", "-v"]);
    let titles: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    let all = "TYPE TOTAL ACTIVE SIZE OWN SHARED RECLAIMABLE";
    assert_eq!(titles.join(" "), all, "{table}");
    let freed = store.json(&["prune", "-f", "--format", "json"]);
    assert_eq!(
        usage["prunes"]["dangling"],
        freed["report"]["removed"]["freed"]
    );
}

fn sample_of(metrics: &str, name: &str, label: &str) -> Option<u64> {
    let line = metrics
        .lines()
        .find(|line| line.starts_with(&format!("{name}{{")) && line.contains(label))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn metrics_are_those_of_the_table_and_of_the_last_prune() {
    let everything = Everything::new();
    let store = &everything.sample;
    let metrics = store.ok(&["df", "--format", "prometheus"]);
    let sample = |metrics: &str, name, label| sample_of(metrics, name, label).unwrap();
    assert_eq!(
        sample(&metrics, "rstore_store_size_bytes", "store="),
        du(&store.root())
    );
    assert_eq!(sample(&metrics, "rstore_objects", "type=\"layers\""), 4);
    assert_eq!(sample(&metrics, "rstore_images", "state=\"stage\""), 1);
    assert_eq!(sample(&metrics, "rstore_images", "state=\"pinned\""), 0);
    let foretold = sample(
        &metrics,
        "rstore_prune_reclaimable_bytes",
        "scope=\"dangling\"",
    );
    assert!(!metrics.contains("last_prune"), "{metrics}");
    store.ok(&["rmi", "app:1"]);
    let metrics = store.ok(&["df", "--format", "prometheus"]);
    assert!(!metrics.contains("last_prune"), "rmi is no prune");
    store.ok(&["prune", "-f"]);
    let metrics = store.ok(&["df", "--format", "prometheus"]);
    assert_eq!(
        sample(&metrics, "rstore_last_prune_freed_bytes", "store="),
        foretold
    );
    // One that finds nothing is one all the same.
    store.ok(&["prune", "-f"]);
    let metrics = store.ok(&["df", "--format", "prometheus"]);
    assert_eq!(
        sample(&metrics, "rstore_last_prune_freed_bytes", "store="),
        0
    );
    assert!(metrics.contains("rstore_last_prune_timestamp_seconds{"));
}

#[test]
fn promtool_finds_nothing_to_say_against_the_metrics() {
    if skip_without(&[Need::Program("promtool")]) {
        return;
    }
    let store = Everything::new().sample;
    store.ok(&["prune", "-f"]);
    let metrics = store.ok(&["df", "--format", "prometheus"]);
    let mut promtool = need::program("promtool");
    promtool.args(["check", "metrics"]);
    let mut promtool = promtool
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(metrics.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}\n{metrics}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn an_output_file_is_whole_and_all_may_read_it() {
    let store = Everything::new().sample;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rstore.prom");
    let root = store.root();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", r#"umask 077; exec "$0" "$@""#]);
    shell.arg(program().get_program());
    shell.arg("--root").arg(&root);
    shell
        .args(["df", "--format", "prometheus", "-o"])
        .arg(&file);
    let written = run(&mut shell);
    assert_eq!(
        (written.code, written.stdout.as_str()),
        (0, ""),
        "{written:?}"
    );
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o644);
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.ends_with('\n') && text.contains("rstore_store_size_bytes{"),
        "{text}"
    );
    // It is replaced, not written over: who reads the old one reads all of it. A link stays one.
    let link = directory.path().join("link.prom");
    std::os::unix::fs::symlink("rstore.prom", &link).unwrap();
    store.ok(&["df", "--format", "json", "--output", link.to_str().unwrap()]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_ne!(fs::metadata(&file).unwrap().ino(), metadata.ino());
    let json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(json["total"], du(&root));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    assert!(store.ok(&["df", "-o", "-"]).starts_with("TYPE"));
}

#[test]
fn an_output_that_can_be_no_file_is_refused() {
    let store = Everything::new().sample;
    let directory = tempfile::tempdir().unwrap();
    let refused = |path: &Path, word: &str| {
        let path = path.to_str().unwrap();
        let run = store.rstore(&["df", "--format", "prometheus", "-o", path]);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
        assert!(run.stderr.contains(word), "{}", run.stderr);
    };
    refused(directory.path(), "is a directory: name a file in it");
    refused(Path::new("/dev/null"), "no plain file");
    refused(
        &directory.path().join("none/x.prom"),
        "there is no directory",
    );
    refused(&directory.path().join("x.prom/"), "names no file");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    for flag in ["-q", "-v", "--sort=size", "--filter=type=layers"] {
        let run = store.rstore(&["df", "--format", "prometheus", flag]);
        assert_eq!(run.code, 2, "{flag}: {}", run.stderr);
    }
    let run = store.rstore(&["df", "--format", "promethius"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("prometheus"), "{}", run.stderr);
    let other = store.rstore(&["images", "--format", "prometheus"]);
    assert_eq!(other.code, 2, "only df measures");
}

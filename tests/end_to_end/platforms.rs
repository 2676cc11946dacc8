//! Images for other platforms, and for several at once.

use std::fs;

use serde_json::{Value, json};
use sha2::Digest;

use crate::support::rstore::{hex, text};
use crate::support::{Context, Need, Rstore, run, scratch, skip_without};

/// A layout with an index `multi` of one-layer images, for each platform one, whose file /platform
/// tells which.
fn multi(platforms: &[(&str, Option<&str>)]) -> tempfile::TempDir {
    let directory = scratch();
    let blobs = directory.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = hex(&sha2::Sha256::digest(bytes));
        fs::write(blobs.join(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let mut manifests = Vec::new();
    for (architecture, variant) in platforms {
        let mut platform = json!({"os": "linux", "architecture": architecture});
        if let Some(variant) = variant {
            platform["variant"] = json!(variant);
        }
        let mut tar = tar::Builder::new(Vec::new());
        let content = format!("{architecture}{}", variant.unwrap_or_default());
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, "platform", content.as_bytes())
            .unwrap();
        let tar = tar.into_inner().unwrap();
        let layer = put("application/vnd.oci.image.layer.v1.tar", &tar);
        let mut config = platform.clone();
        config["config"] = json!({"Env": [format!("BASE={content}")]});
        config["rootfs"] = json!({"type": "layers", "diff_ids": [layer["digest"]]});
        let config = config.to_string();
        let config = put(
            "application/vnd.oci.image.config.v1+json",
            config.as_bytes(),
        );
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
        let mut entry = put(media_type, manifest.to_string().as_bytes());
        entry["platform"] = platform;
        manifests.push(entry);
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    let mut entry = put(media_type, index.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "multi:latest"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    fs::write(directory.path().join("index.json"), index).unwrap();
    fs::write(
        directory.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    directory
}

fn with(platforms: &[(&str, Option<&str>)]) -> Rstore {
    let store = Rstore::new();
    let layout = multi(platforms);
    store.ok(["load".as_ref(), "-i".as_ref(), layout.path().as_os_str()]);
    store
}

/// (platform, config) of each image of the index that a tag points at.
fn images(store: &Rstore, tag: &str) -> Vec<(String, Value)> {
    let read = |digest: &Value| -> Value {
        serde_json::from_slice(&fs::read(store.blob(&text(digest))).unwrap()).unwrap()
    };
    let index = store.manifest(tag);
    let entries = index["manifests"].as_array().expect("an index").iter();
    entries
        .map(|entry| {
            let platform = &entry["platform"];
            let mut name = format!(
                "{}/{}",
                text(&platform["os"]),
                text(&platform["architecture"])
            );
            if let Some(variant) = platform["variant"].as_str() {
                name = format!("{name}/{variant}");
            }
            let config = read(&read(&entry["digest"])["config"]["digest"]);
            (name, config)
        })
        .collect()
}

const DOCKERFILE: &str = "FROM --platform=$BUILDPLATFORM scratch AS shared\nCOPY file /file\nLABEL shared=1\n\
    FROM --platform=$BUILDPLATFORM shared AS cross\nARG TARGETARCH\nLABEL for=$TARGETARCH\nCOPY file /for-$TARGETARCH\n\
    FROM multi\nARG TARGETPLATFORM\nARG TARGETVARIANT\nARG BUILDPLATFORM\n\
    LABEL target=$TARGETPLATFORM variant=v-$TARGETVARIANT build=$BUILDPLATFORM base=$BASE\n\
    COPY --from=cross /for-* /\n";

#[test]
fn several_platforms_give_an_index_and_what_they_share_is_built_once() {
    let store = with(&[
        ("amd64", None),
        ("arm64", Some("v8")),
        ("arm", Some("v6")),
        ("arm", Some("v7")),
    ]);
    let context = Context::new(DOCKERFILE);
    context.file("file", "f");
    let platforms = "linux/amd64,linux/arm64,linux/arm/v7";
    let iid = context.path().join("../iid-of-platforms");
    let iidfile = iid.to_str().unwrap();
    let arguments = ["-t", "app", "--platform", platforms, "--iidfile", iidfile];
    let built = store.build(context.path(), &[&arguments[..], &["--no-cache"]].concat());
    // One stage for all, two for each platform.
    assert_eq!(built.stderr.matches("LABEL shared=1").count(), 1, "{built}");
    assert_eq!(
        built.stderr.matches("COPY file /for-").count(),
        3,
        "{built}"
    );
    let found = images(&store, "app:latest");
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["linux/amd64", "linux/arm64", "linux/arm/v7"]);
    for ((name, config), base) in found.iter().zip(["amd64", "arm64v8", "armv7"]) {
        let labels = &config["config"]["Labels"];
        let variant = name.split('/').nth(2).unwrap_or_default();
        assert_eq!(labels["target"], json!(name), "{config}");
        assert_eq!(labels["variant"], json!(format!("v-{variant}")), "{config}");
        assert_eq!(labels["base"], json!(base), "{config}");
    }
    let digest = store.digest("app:latest");
    assert_eq!(fs::read_to_string(&iid).unwrap(), digest);
    fs::remove_file(&iid).unwrap();
    let again = store.build(context.path(), &arguments[..4]);
    assert_eq!(store.digest("app:latest"), digest, "{again}");
    assert_eq!(
        again.stderr.matches("---> Using cache").count(),
        2 + 3 * 3 + 3 * 5,
        "{again}"
    );
}

#[test]
fn lists_why_prune_and_rmi_take_the_images_of_an_index_for_tagged() {
    let store = with(&[("amd64", None), ("arm64", None)]);
    let context =
        Context::new("FROM multi\nARG TARGETARCH\nCOPY file /file\nLABEL arch=$TARGETARCH\n");
    context.file("file", "f");
    let platforms = ["--platform=linux/amd64", "--platform=linux/arm64"];
    store.build(context.path(), &[&["-t", "app"], &platforms[..]].concat());
    let index = store.manifest("app:latest");
    let entries = index["manifests"].as_array().unwrap().clone();
    store.ok(["untag", "multi"]);
    let before = store.blobs();
    store.ok(["prune", "-f"]);
    store.ok(["prune", "-f", "--intermediates"]);
    for entry in &entries {
        let why = store.ok(["why", &text(&entry["digest"])]);
        assert!(why.contains("app:latest"), "{why}");
        assert!(store.blob(&text(&entry["digest"])).exists());
    }
    let listed = store.ok(["images"]);
    assert!(listed.contains("app"), "{listed}");
    assert!(store.ok(["graph"]).contains("[member]"));
    let inspected = store.ok(["inspect", "app"]);
    assert!(
        inspected.contains("arm64") || inspected.contains("amd64"),
        "{inspected}"
    );
    assert!(!before.is_empty());
    let mut umoci = std::process::Command::new("skopeo");
    if !skip_without(&[Need::Program("skopeo")]) {
        let copy = scratch();
        umoci.args(["copy", "--all"]);
        umoci.arg(format!("oci:{}:app:latest", store.root().display()));
        run(umoci.arg(format!("oci:{}:app", copy.path().display())));
    }
    store.ok(["rmi", "app"]);
    store.ok(["prune", "-f", "--all"]);
    assert_eq!(store.blobs().len(), 0, "{:?}", store.blobs());
}

#[test]
fn one_platform_chooses_its_base_and_needs_no_emulator_without_run() {
    let store = with(&[("amd64", None), ("arm", Some("v6")), ("riscv64", None)]);
    let context = Context::new("FROM multi\nLABEL base=$BASE\n");
    for (platform, base) in [
        ("linux/arm", "armv6"),
        ("linux/arm/v6", "armv6"),
        ("riscv64/x", ""),
        ("linux/riscv64", "riscv64"),
    ] {
        let built = store.try_build(context.path(), &["-t", "app", "--platform", platform]);
        if base.is_empty() {
            assert_ne!(built.code, 0, "{built}");
            continue;
        }
        assert_eq!(built.ok().code, 0);
        assert_eq!(
            store.config("app:latest")["config"]["Labels"]["base"],
            json!(base)
        );
    }
    let arguments = ["--platform", "linux/amd64,linux/s390x"];
    store
        .try_build(context.path(), &arguments)
        .fails(1, &["linux/s390x", "Dockerfile:1"]);
}

#[test]
fn a_command_for_a_platform_that_does_not_run_here_is_refused_before_anything_is_done() {
    // No machine that tests run on emulates every one of these.
    let store = with(&[("amd64", None), ("arm64", None), ("loong64", None)]);
    let context = Context::new("FROM multi AS first\nCOPY file /file\nFROM first\nRUN true\n");
    context.file("file", "f");
    let registered = fs::read_dir("/proc/sys/fs/binfmt_misc")
        .into_iter()
        .flatten()
        .flatten();
    let mut names = registered.map(|entry| entry.file_name().to_string_lossy().into_owned());
    if names.any(|name| name.contains("loongarch64")) {
        return;
    }
    let before = store.blobs();
    let arguments = ["-t", "app", "--platform", "linux/amd64,linux/loong64"];
    let refused = store.try_build(context.path(), &arguments);
    let refused = refused.fails(1, &["linux/loong64", "Dockerfile:4", "qemu-user-static"]);
    assert!(!refused.stderr.contains("Step 1"), "{refused}");
    assert_eq!(store.blobs(), before);
}

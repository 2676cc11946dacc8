//! Images for other platforms, and for several at once.

use std::fs;
use std::io::Read;
use std::process::Command;

use serde_json::{Value, json};
use sha2::Digest;

use crate::support::rstore::{hex, text};
use crate::support::{Context, Need, Rstore, busybox_tar, run, scratch, skip_without};

/// A layout with an index `multi` of one-layer images, for each platform one, whose file /platform
/// tells which.
fn multi(platforms: &[(&str, Option<&str>)]) -> tempfile::TempDir {
    let image = |(architecture, variant): &(&str, Option<&str>)| {
        let content = format!("{architecture}{}", variant.unwrap_or_default());
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, "platform", content.as_bytes());
        let mut config = json!({"os": "linux", "architecture": architecture});
        if let Some(variant) = variant {
            config["variant"] = json!(variant);
        }
        config["config"] = json!({"Env": [format!("BASE={content}")]});
        (config, tar.into_inner().unwrap())
    };
    layout(platforms.iter().map(image).collect())
}

fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, name, content).unwrap();
}

/// A layout with an index `multi` of images, each made of a config without layers and of a layer.
fn layout(images: Vec<(Value, Vec<u8>)>) -> tempfile::TempDir {
    const OCI: &str = "application/vnd.oci.image";
    let directory = scratch();
    let blobs = directory.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = hex(&sha2::Sha256::digest(bytes));
        fs::write(blobs.join(&digest), bytes).unwrap();
        json!({
            "mediaType": format!("{OCI}.{media_type}"),
            "digest": format!("sha256:{digest}"),
            "size": bytes.len(),
        })
    };
    let mut manifests = Vec::new();
    for (mut config, tar) in images {
        let mut platform = config.clone();
        platform.as_object_mut().unwrap().remove("config");
        let layer = put("layer.v1.tar", &tar);
        config["rootfs"] = json!({"type": "layers", "diff_ids": [layer["digest"]]});
        let config = put("config.v1+json", config.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": format!("{OCI}.manifest.v1+json"),
            "config": config,
            "layers": [layer],
        });
        let mut entry = put("manifest.v1+json", manifest.to_string().as_bytes());
        entry["platform"] = platform;
        manifests.push(entry);
    }
    let media_type = format!("{OCI}.index.v1+json");
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    let mut entry = put("index.v1+json", index.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "multi:latest"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    fs::write(directory.path().join("index.json"), index).unwrap();
    let version = r#"{"imageLayoutVersion":"1.0.0"}"#;
    fs::write(directory.path().join("oci-layout"), version).unwrap();
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
    let mut skopeo = Command::new("skopeo");
    if !skip_without(&[Need::Program("skopeo")]) {
        let copy = scratch();
        skopeo.args(["copy", "--all"]);
        skopeo.arg(format!("oci:{}:app:latest", store.root().display()));
        run(skopeo.arg(format!("oci:{}:app", copy.path().display())));
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

/// The machine number of LoongArch in an ELF header, at offset 18.
const LOONGARCH: [u8; 2] = [2, 1];

/// An "emulator" of LoongArch whose programs are this machine's with another machine number: it puts
/// the number right and runs them.
const EMULATOR: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int count, char **arguments, char **environment) {
    static char buffer[1 << 16], own[20];
    int from = open(arguments[1], O_RDONLY), to = memfd_create("program", 0);
    int self = open("/proc/self/exe", O_RDONLY);
    if (count < 2 || from < 0 || to < 0 || read(self, own, 20) != 20) return 121;
    for (long size; (size = read(from, buffer, sizeof buffer)) > 0;)
        if (write(to, buffer, size) != size) return 122;
    if (pwrite(to, own + 18, 2, 18) != 2) return 123;
    fexecve(to, arguments + 1, environment);
    return 124;
}
"#;

#[test]
fn a_command_for_a_foreign_platform_runs_where_the_kernel_has_an_emulator_for_it() {
    if skip_without(&[Need::PrivateBinfmt, Need::Program("cc")]) {
        return;
    }
    let tools = scratch();
    let (source, emulator) = (tools.path().join("e.c"), tools.path().join("emulator"));
    fs::write(&source, EMULATOR).unwrap();
    let mut cc = Command::new("cc");
    run(cc.arg("-static").arg("-o").arg(&emulator).arg(&source));
    // This namespace's only: the mask leaves out the ABI, and tells programs from shared objects.
    let handler = format!(
        r":ours:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x02\x01:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:{}:F",
        emulator.display()
    );
    fs::write(tools.path().join("handler"), handler).unwrap();

    let mut tar = tar::Builder::new(Vec::new());
    let mut busybox = tar::Archive::new(fs::File::open(busybox_tar()).unwrap());
    for entry in busybox.entries().unwrap() {
        let mut entry = entry.unwrap();
        let (mut header, mut content) = (entry.header().clone(), Vec::new());
        entry.read_to_end(&mut content).unwrap();
        if content.starts_with(b"\x7fELF") {
            content[18..20].copy_from_slice(&LOONGARCH);
        }
        let path = entry.path().unwrap().into_owned();
        match entry.link_name().unwrap() {
            Some(target) => tar.append_link(&mut header, path, target).unwrap(),
            None => tar.append_data(&mut header, path, &content[..]).unwrap(),
        }
    }
    let config = json!({"os": "linux", "architecture": "loong64"});
    let base = layout(vec![(config, tar.into_inner().unwrap())]);
    let store = Rstore::new();
    let context =
        Context::new("FROM multi\nARG TARGETARCH\nRUN echo for $TARGETARCH > /told && cat /told\n");
    // All of it in one namespace: who owns what in a store is that namespace's.
    let script = format!(
        "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && cd {tools} && \
         {rstore} load -i {base} >&2 && \
         if {rstore} build --platform linux/loong64 {context}; then exit 9; fi; \
         cat handler > /proc/sys/fs/binfmt_misc/register && \
         {rstore} build --progress classic --platform linux/loong64 -t app {context}",
        tools = tools.path().display(),
        rstore = crate::support::rstore::PROGRAM,
        base = base.path().display(),
        context = context.path().display(),
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    unshare
        .env("RSTORE_ROOT", store.root())
        .env("RSTORE_PROGRESS", "classic");
    let output = unshare.output().expect("unshare runs");
    let finished = crate::support::Finished::new(&unshare, &output).ok();
    assert!(
        finished.stderr.contains("no emulator is registered"),
        "{finished}"
    );
    assert!(finished.stderr.contains("for loong64"), "{finished}");
    assert_eq!(store.config("app:latest")["architecture"], json!("loong64"));
}

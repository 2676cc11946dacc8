//! `inspect` and `history`.

use std::collections::BTreeSet;
use std::fs;

use rstore::oci::media;
use serde_json::{Value, json};

use crate::sample::{Everything, Recipe, Sample};

#[test]
fn inspect_has_the_members_that_docker_and_podman_have() {
    let everything = Everything::new();
    let list = everything.sample.json(&["inspect", "app"]);
    let image = list[0].as_object().unwrap();
    let members: BTreeSet<&str> = image.keys().map(String::as_str).collect();
    // moby, api/types/image/image_inspect.go; podman, libpod/define. Not here: what tells of a
    // daemon's storage (GraphDriver, VirtualSize), the deprecated DockerVersion, names of the past.
    for member in [
        "Id",
        "RepoTags",
        "RepoDigests",
        "Parent",
        "Comment",
        "Created",
        "Author",
        "Config",
        "Architecture",
        "Variant",
        "Os",
        "Size",
        "RootFS",
        "Metadata",
        "Descriptor",
        "Digest",
        "Labels",
        "Annotations",
        "ManifestType",
        "User",
        "History",
    ] {
        assert!(members.contains(member), "{member}: {members:?}");
    }
    assert_eq!(image["Id"], json!(everything.app.id));
    assert_eq!(image["Digest"], json!(everything.app.digest));
    assert_eq!(image["Descriptor"]["mediaType"], media::MANIFEST);
    assert_eq!(image["Labels"]["team"], "blue");
    assert_eq!(image["History"].as_array().unwrap().len(), 3);
    let ours = &image["Rstore"];
    assert_eq!(
        ours["kept_by"],
        json!([{ "kind": "tag", "name": "app:latest" }, { "kind": "tag", "name": "app:1" }])
    );
    assert_eq!(ours["referrers"], json!([]));
    assert_eq!(ours["members"], Value::Null);
}

#[test]
fn inspect_by_type_takes_a_thing_for_what_it_is_asked_as() {
    let everything = Everything::new();
    let store = &everything.sample;
    let layer = everything.old_layer.digest.to_string();
    let value = &store.json(&["inspect", "--type", "layer", &layer])[0];
    assert_eq!(
        (&value["kind"], &value["digest"]),
        (&json!("layer"), &json!(layer))
    );
    assert_eq!(value["held_by"][0]["id"], json!(everything.old.id));
    let manifest = &store.json(&["inspect", "--type", "blob", "app"])[0];
    assert_eq!(manifest["kind"], "manifest");
    for (kind, reference) in [("layer", "app"), ("image", layer.as_str())] {
        let run = store.rstore(&["inspect", "--type", kind, reference]);
        assert_eq!(run.code, 1);
        assert!(
            run.stderr.contains(&format!("is no {kind}")),
            "{}",
            run.stderr
        );
    }
    assert_eq!(store.rstore(&["inspect", "--type", "pod", "app"]).code, 2);
}

/// Writes a manifest that is about another.
fn referrer(sample: &Sample, kind: &str, subject: Option<Value>) -> (rstore::oci::Digest, usize) {
    let empty = sample.blob(b"{}");
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": media::MANIFEST, "artifactType": kind,
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2 },
        "layers": [],
    });
    if let Some(subject) = subject {
        manifest["subject"] = subject;
    }
    let manifest = serde_json::to_vec(&manifest).unwrap();
    (sample.blob(&manifest), manifest.len())
}

#[test]
fn inspect_tells_of_referrers_by_subject_and_by_tags() {
    let sample = Sample::new();
    let layer = sample.layer("a", 10);
    let image = sample.image(&Recipe {
        layers: &[layer],
        steps: &["RUN a"],
        ..Recipe::default()
    });
    let subject =
        json!({ "mediaType": media::MANIFEST, "digest": image.digest, "size": image.size });
    let (signature, signature_size) = referrer(&sample, "application/x.signature", Some(subject));
    let (sbom, sbom_size) = referrer(&sample, "application/x.sbom", None);
    let (cosign, cosign_size) = referrer(&sample, "application/x.cosign", None);
    let listed = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [
        { "mediaType": media::MANIFEST, "digest": sbom, "size": sbom_size },
    ] });
    let listed = serde_json::to_vec(&listed).unwrap();
    let list = sample.blob(&listed);
    let tag = format!("app:sha256-{}", image.digest.hex());
    let entry = |digest, size, kind: &str, name: &str| {
        json!({
            "mediaType": kind, "digest": digest, "size": size,
            "annotations": { "org.opencontainers.image.ref.name": name },
        })
    };
    let index = json!({ "schemaVersion": 2, "manifests": [
        entry(json!(image.digest), image.size as usize, media::MANIFEST, "app:latest"),
        entry(json!(list), listed.len(), media::INDEX, &tag),
        entry(json!(cosign), cosign_size, media::MANIFEST, &format!("{tag}.sig")),
        { "mediaType": media::MANIFEST, "digest": signature, "size": signature_size },
    ] });
    fs::write(sample.root().join("index.json"), index.to_string()).unwrap();
    let value = sample.json(&["inspect", "app:latest"]);
    let referrers = value[0]["Rstore"]["referrers"].as_array().unwrap();
    let seen: BTreeSet<String> = referrers
        .iter()
        .map(|one| {
            format!(
                "{} {} {}",
                one["digest"].as_str().unwrap(),
                one["by"].as_str().unwrap(),
                one["artifact_type"].as_str().unwrap()
            )
        })
        .collect();
    let expected = [
        format!("{signature} subject application/x.signature"),
        format!("{sbom} referrers tag application/x.sbom"),
        format!("{cosign} cosign tag application/x.cosign"),
    ];
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn inspect_of_several_platforms_shows_one_and_lists_all() {
    let sample = Sample::new();
    let arm = sample.image(&Recipe {
        layers: &[sample.layer("arm", 10)],
        steps: &["RUN a"],
        ..Recipe::default()
    });
    let ppc = sample.image(&Recipe {
        layers: &[sample.layer("ppc", 10)],
        steps: &["RUN a"],
        ..Recipe::default()
    });
    let index = sample.index(&[("arm64", arm), ("ppc64le", ppc)]);
    sample.write_index_of(&[("app:latest", index)]);
    let value = &sample.json(&["inspect", "app"])[0];
    assert_eq!(
        value["Id"],
        json!(arm.id),
        "not this machine's, and still shown"
    );
    assert_eq!(value["Descriptor"]["digest"], json!(index.digest));
    let members = value["Rstore"]["members"].as_array().unwrap();
    assert_eq!(members.len(), 2);
    assert_eq!(members[1]["digest"], json!(ppc.digest));
}

#[test]
fn history_has_the_bytes_of_each_layer_unpacked_and_stored() {
    let sample = Sample::new();
    let archive = fs::read(
        sample
            .blobs()
            .join(sample.layer("file", 10_000).digest.hex()),
    )
    .unwrap();
    let layer = sample.layer_of(&archive, |bytes| zstd::encode_all(bytes, 1).unwrap());
    let image = sample.image(&Recipe {
        layers: &[layer],
        steps: &["COPY file /", "CMD [\"/file\"]"],
        ..Recipe::default()
    });
    sample.write_index(&[("app:latest", image)]);
    let list = sample.json(&["history", "--format", "json", "app"]);
    let steps = list["history"].as_array().unwrap();
    assert_eq!(
        (&steps[0]["size"], &steps[0]["unpacked"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(steps[1]["size"], json!(layer.size));
    assert_eq!(steps[1]["unpacked"], json!(archive.len()));
    let sizes = sample.ok(&[
        "history",
        "--human=false",
        "--format",
        "{{.Size}} {{.Stored}}",
        "app",
    ]);
    assert_eq!(sizes, format!("0 0\n{} {}\n", archive.len(), layer.size));
    assert!(
        sample
            .ok(&["history", "--human=false", "app"])
            .starts_with("IMAGE"),
        "as a table"
    );
    // What was counted once is known from then on.
    let layers = sample.json(&["layers", "--format", "json", "app"]);
    assert_eq!(layers["layers"][0]["unpacked"], json!(archive.len()));
    assert!(sample.ok(&["history", "app"]).contains("<missing>"));
}

#[test]
fn history_shows_steps_whose_layer_is_gone_or_damaged() {
    let everything = Everything::new();
    let store = &everything.sample;
    fs::write(
        store.blobs().join(everything.old_layer.digest.hex()),
        b"damaged",
    )
    .unwrap();
    let run = store.rstore(&["history", &everything.old.id.short()]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("<unknown>"), "{}", run.stdout);
    assert!(
        run.stderr.contains("warning") && run.stderr.contains("rstore fsck"),
        "{}",
        run.stderr
    );
}

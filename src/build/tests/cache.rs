//! What the cache may answer, and what it may not.

use std::collections::BTreeMap;
use std::fs;

use super::{House, cached, last_layer, may_mount, refusal};
use crate::oci::Platform;

/// What a stage on nothing has in its environment.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[test]
fn what_a_step_gives_depends_on_what_its_stage_has_said() {
    let house = House::new();
    let tag = |name: &str| vec![format!("{name}:latest")];
    let with_cmd = "FROM scratch\nENV A=1\nCMD [\"x\"]\n";
    house.build(with_cmd, |o| o.tags = tag("img1")).unwrap();
    house
        .build(&format!("{with_cmd}ENTRYPOINT [\"/e\"]\n"), |_| {})
        .unwrap();
    let (image, _) = house
        .build("FROM img1\nENTRYPOINT [\"/e\"]\n", |_| {})
        .unwrap();
    assert_eq!(image.config.config.cmd, None);

    let base = "FROM scratch\nENV A=1\nONBUILD ENV B=1\n";
    house.build(base, |o| o.tags = tag("onb")).unwrap();
    house.build(&format!("{base}ENV B=1\n"), |_| {}).unwrap();
    let (image, _) = house.build("FROM onb\n", |_| {}).unwrap();
    assert_eq!(image.config.config.on_build, None);
    assert_eq!(
        image.config.config.env.as_deref().unwrap(),
        [PATH, "A=1", "B=1"]
    );
}

#[test]
fn a_declared_proxy_counts_and_an_undeclared_one_does_not() {
    let house = House::new();
    let build = |text: &str, value: &str| {
        let args = BTreeMap::from([("HTTP_PROXY".to_owned(), value.to_owned())]);
        cached(
            &house
                .build(text, |options| options.build_args = args)
                .unwrap()
                .1,
        )
    };
    let declared = "FROM scratch\nARG HTTP_PROXY\nLABEL p=$HTTP_PROXY\n";
    assert_eq!((build(declared, "a"), build(declared, "b")), (0, 1));
    let undeclared = "FROM scratch\nLABEL q=1\n";
    assert_eq!((build(undeclared, "a"), build(undeclared, "b")), (0, 1));
}

#[test]
fn the_platform_that_is_built_for_is_the_builds_in_every_stage() {
    let house = House::new();
    let arm = Platform {
        architecture: "arm64".into(),
        os: "linux".into(),
        variant: None,
    };
    house
        .build("FROM scratch\nENV A=1\n", |o| {
            o.tags = vec!["base:latest".into()]
        })
        .unwrap();
    let text = "FROM --platform=$BUILDPLATFORM base\nARG TARGETARCH\nARG BUILDARCH\nLABEL t=$TARGETARCH b=$BUILDARCH\n";
    let (image, _) = house.build(text, |options| options.platform = arm).unwrap();
    let labels = image.config.config.labels.unwrap();
    assert_eq!(
        (labels["t"].as_str(), labels["b"].as_str()),
        ("arm64", "amd64")
    );
}

#[test]
fn a_stage_has_the_arguments_of_the_stage_that_it_stands_on() {
    let house = House::new();
    let text = "FROM scratch AS b\nARG NAME=joe\nFROM b\nLABEL n=$NAME\n";
    let (image, _) = house.build(text, |_| {}).unwrap();
    assert_eq!(image.config.config.labels.unwrap()["n"], "joe");
}

#[test]
fn a_trigger_may_copy_from_a_stage_that_nobody_else_names() {
    if !may_mount() {
        return;
    }
    let house = House::new();
    house.file("f", "f");
    let trigger = "FROM scratch\nONBUILD COPY --from=builder /f /got\n";
    house
        .build(trigger, |o| o.tags = vec!["onb:latest".into()])
        .unwrap();
    let text = "FROM scratch AS below\nENV A=1\nFROM below AS builder\nCOPY f /f\nFROM onb\n";
    let (image, _) = house.build(text, |_| {}).unwrap();
    assert_eq!(image.manifest.layers.len(), 1);
}

#[test]
fn a_name_that_is_copied_over_is_no_longer_linked_to() {
    if !may_mount() {
        return;
    }
    let house = House::new();
    house.file("a/x", "FROM-A");
    house.file("b/x", "FROM-B");
    fs::hard_link(house.context().join("a/x"), house.context().join("b/z")).unwrap();
    let (image, _) = house
        .build("FROM scratch\nCOPY a/ b/ /d/\n", |_| {})
        .unwrap();
    let mut reader = last_layer(&house, &image);
    let mut content = String::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        if entry.path == b"d/z" {
            assert!(
                matches!(entry.kind, crate::layer::Kind::File { .. }),
                "{entry:?}"
            );
            std::io::Read::read_to_string(&mut reader, &mut content).unwrap();
        }
    }
    assert_eq!(content, "FROM-A");
}

#[test]
fn a_cached_image_whose_blob_has_vanished_is_made_again() {
    if !may_mount() {
        return;
    }
    let house = House::new();
    house.file("f", "f");
    let text = "FROM scratch\nCOPY f /f\n";
    let (first, _) = house.build(text, |_| {}).unwrap();
    let blob = house
        .store
        .layout()
        .blobs()
        .path(&first.manifest.layers[0].digest);
    fs::remove_file(&blob).unwrap();
    let (_, events) = house
        .build(text, |o| o.tags = vec!["app:latest".into()])
        .unwrap();
    assert_eq!(cached(&events), 0);
    assert!(blob.exists());
}

#[test]
fn an_ignored_file_is_not_reached_by_a_link_to_it() {
    let house = House::new();
    house.file(".dockerignore", "secret\n");
    house.file("secret", "s");
    std::os::unix::fs::symlink("secret", house.context().join("link")).unwrap();
    let error = refusal(&house, "COPY link /x");
    assert!(error.contains("is not in the build context"), "{error}");
}

//! What cannot be meant ends with 2, before anything is opened; what cannot be done, with 1.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::sample::{Everything, program, rstore, run};

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let store = Everything::new().sample;
    for arguments in [
        &[][..],
        &["bulid"],
        &["build"],
        &["build", "--no-such", "."],
        &["build", "-t", "Not A Name", "."],
        &["build", "--ulimit", "files=1", "."],
        &["build", "--network", "private", "."],
        &["build", "--compression", "brotli", "."],
        &["build", "file:///x.git"],
        &["build", "--build-context", "name", "."],
        &["images", "-f", "nokey=1"],
        &["images", "-f", "dangling"],
        &["images", "-f", "dangling=perhaps"],
        &["images", "-f", "state=lost"],
        &["images", "-f", "until=soon"],
        &["images", "--sort", "beauty"],
        &["images", "--sort", "size:up"],
        &["images", "--format", "xml"],
        &["images", "--format", "{{.Nothing}}"],
        &["images", "--format", "{{range .}}"],
        &["images", "--tree", "-q"],
        &["layers", "-f", "label=x"],
        &["ps", "-f", "status=tired"],
        &["history"],
        &["inspect", "--format", "table", "app"],
        &["graph", "--format", "jpeg"],
        &["graph", "--up"],
        &["graph", "--up", "--down", "app"],
        &["why"],
        &["tag", "app"],
        &["tag", "app", "UPPER"],
        &["prune", "--format", "{{.ID}}", "-f"],
        &["prune", "--tagged", "-f"],
    ] {
        let run = store.rstore(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.stderr);
        assert!(
            run.stderr.starts_with("rstore: error: "),
            "{arguments:?}: {}",
            run.stderr
        );
        assert_eq!(run.stdout, "", "{arguments:?}");
    }
}

#[test]
fn a_store_that_cannot_be_used_is_told_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("file"), "x").unwrap();
    fs::create_dir(path("other")).unwrap();
    fs::write(path("other/oci-layout"), "{}").unwrap();
    for name in ["absent", "file", "other"] {
        for arguments in [&["images"][..], &["df"], &["prune", "-f"], &["why", "x"]] {
            let root = path(name);
            let mut all = vec!["--root", &root];
            all.extend(arguments);
            let run = rstore(&all);
            assert_eq!(run.code, 1, "{all:?}: {}", run.stderr);
            assert!(run.stderr.contains(&root), "{all:?}: {}", run.stderr);
        }
    }
    assert!(
        !fs::exists(path("absent")).unwrap(),
        "looking makes no store"
    );
}

#[test]
fn an_ambiguous_prefix_lists_the_candidates() {
    let sample = crate::sample::Sample::new();
    let mut beginnings = std::collections::HashMap::new();
    let prefix = (0..).find_map(|number: u32| {
        let step = format!("RUN {number}");
        let image = sample.image(&crate::sample::Recipe {
            steps: &[&step],
            ..Default::default()
        });
        let beginning = image.id.hex()[..4].to_owned();
        let before = beginnings.insert(beginning.clone(), image);
        before.map(|_| beginning)
    });
    let run = sample.rstore(&["inspect", &prefix.unwrap()]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains(", "), "{}", run.stderr);
}

#[test]
fn the_root_comes_from_the_flag_then_the_environment_then_the_users_data() {
    let store = Everything::new().sample;
    let elsewhere = tempfile::tempdir().unwrap();
    let by_environment = run(program().arg("images").env("RSTORE_ROOT", store.root()));
    assert_eq!(by_environment.code, 0, "{}", by_environment.stderr);
    let by_flag = run(program()
        .arg("--root")
        .arg(elsewhere.path().join("x"))
        .arg("images")
        .env("RSTORE_ROOT", store.root()));
    assert_eq!(by_flag.code, 1);
}

#[test]
fn names_that_are_no_utf_8_are_survived() {
    use std::os::unix::ffi::OsStrExt;
    let directory = tempfile::tempdir().unwrap();
    let odd = directory
        .path()
        .join(std::ffi::OsStr::from_bytes(b"st\xffore"));
    let absent = run(program().arg("--root").arg(&odd).arg("images"));
    assert_eq!(absent.code, 1, "{}", absent.stderr);
    let store = Everything::new().sample;
    fs::rename(store.root(), &odd).unwrap();
    let there = run(program().arg("--root").arg(&odd).arg("images"));
    assert_eq!(there.code, 0, "{}", there.stderr);
    assert!(there.stdout.contains("app"));
    let image = run(program().arg("--root").arg(&odd).args([
        std::ffi::OsStr::new("inspect"),
        std::ffi::OsStr::from_bytes(b"\xff"),
    ]));
    assert_eq!(image.code, 2);
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o755)).unwrap();
}

//! What is found in stores that are made by hand; `tests/faults` harms those of the program.

use std::fs;
use std::num::NonZeroUsize;

use serde_json::json;

use super::*;
use crate::catalog::Error as CatalogError;
use crate::catalog::blob::{BlobKind, NewBlob};
use crate::gc::testing::{NOW, New, Store};
use crate::oci::{Digest, media};

fn options() -> Options {
    Options {
        quick: false,
        repair: false,
        references: Vec::new(),
        jobs: NonZeroUsize::new(3).unwrap(),
        now: NOW,
    }
}

fn checked(store: &Store, options: &Options) -> Report {
    let catalog = &store.catalog;
    let write = |tx: &catalog::Writer| {
        Ok::<_, catalog::WriteError<CatalogError>>(tx.set_meta("built", "1")?)
    };
    catalog.write(write).unwrap();
    check(store.layout.root(), options, &|_| {}).unwrap()
}

fn kinds(report: &Report) -> Vec<(Severity, Kind)> {
    let kinds = report.findings.iter();
    kinds
        .map(|finding| (finding.severity, finding.kind))
        .collect()
}

fn app(store: &Store) -> Digest {
    let layers = &["base", "app"];
    let app = store.image(
        "app",
        New {
            layers,
            ..New::default()
        },
    );
    store.tag("app:latest", app);
    app
}

#[test]
fn a_whole_store_has_no_findings_and_every_blob_was_read() {
    let store = Store::new();
    app(&store);
    let report = checked(&store, &options());
    assert_eq!(report.findings, []);
    assert_eq!((report.blobs, report.read, report.names), (4, 4, 1));
    assert!(!report.is_damaged());
}

#[test]
fn what_nothing_named_needs_is_a_warning_and_what_a_name_needs_an_error() {
    let store = Store::new();
    app(&store);
    let loose = store.blob(b"loose", BlobKind::Other, "", false);
    fs::write(store.layout.blobs().path(&loose), "other").unwrap();
    let report = checked(&store, &options());
    assert_eq!(kinds(&report), [(Severity::Warning, Kind::Corrupt)]);
    assert!(report.is_damaged() && report.broken.is_empty());
    let base = Digest::of("base".repeat(3_000).as_bytes());
    fs::write(store.layout.blobs().path(&base), "other").unwrap();
    let report = checked(&store, &options());
    assert_eq!(report.findings[0].severity, Severity::Error);
    assert_eq!(report.findings[0].images, ["app:latest"]);
    assert_eq!(report.broken[0].lacks, [base]);
}

#[test]
fn a_row_whose_writer_lives_is_early_and_one_whose_writer_died_is_a_note() {
    let store = Store::new();
    app(&store);
    let digest = Digest::of(b"to come");
    let new = NewBlob {
        digest,
        size: 7,
        allocated: 4096,
        kind: BlobKind::Layer,
        media_type: "",
        ours: true,
        boot: "",
    };
    let put =
        |tx: &catalog::Writer| Ok::<_, catalog::WriteError<CatalogError>>(tx.put_blob(new, 1_000)?);
    store.catalog.write(put).unwrap();
    let report = checked(&store, &options());
    assert_eq!(kinds(&report), [(Severity::Note, Kind::RowWithoutFile)]);
    assert!(!report.is_damaged());
    let report = checked(
        &store,
        &Options {
            repair: true,
            ..options()
        },
    );
    assert!(!report.is_damaged());
    assert_eq!(checked(&store, &options()).findings, []);
}

#[test]
fn an_index_that_is_stored_in_part_is_whole() {
    let store = Store::new();
    let app = app(&store);
    let size = store.layout.blobs().stat(&app).unwrap().unwrap().size;
    let index = json!({
        "schemaVersion": 2, "mediaType": media::INDEX,
        "manifests": [
            { "mediaType": media::MANIFEST, "digest": app, "size": size },
            { "mediaType": media::MANIFEST, "digest": Digest::of(b"arm"), "size": 5 },
        ],
    });
    let index = store.blob(
        index.to_string().as_bytes(),
        BlobKind::Index,
        media::INDEX,
        true,
    );
    store.tag("many:latest", index);
    let report = checked(&store, &options());
    assert!(
        kinds(&report).contains(&(Severity::Note, Kind::Partial)),
        "{report:#?}"
    );
    assert!(
        !report.is_damaged() && report.broken.is_empty(),
        "{report:#?}"
    );
    // A member that is stored, and not whole, harms it.
    let layer = Digest::of("app".repeat(3_000).as_bytes());
    fs::remove_file(store.layout.blobs().path(&layer)).unwrap();
    let report = checked(&store, &options());
    let names: Vec<&str> = report.broken.iter().map(|broken| &*broken.name).collect();
    assert_eq!(names, ["app:latest", "many:latest"]);
}

#[test]
fn a_layer_that_is_kept_elsewhere_is_not_missed() {
    let store = Store::new();
    let config = store.blob(b"{}", BlobKind::Config, media::CONFIG, true);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::MANIFEST,
        "config": { "mediaType": media::CONFIG, "digest": config, "size": 2 },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "digest": Digest::of(b"windows"), "size": 5,
        }],
    });
    let manifest = store.blob(
        manifest.to_string().as_bytes(),
        BlobKind::Manifest,
        media::MANIFEST,
        true,
    );
    store.tag("windows:latest", manifest);
    let report = checked(&store, &options());
    assert!(
        !report.is_damaged() && report.broken.is_empty(),
        "{report:#?}"
    );
}

#[test]
fn a_document_that_is_whole_and_not_understood_is_named_where_it_is_needed() {
    let store = Store::new();
    app(&store);
    let text = format!(
        r#"{{"mediaType":"{}","manifests":[],"layers":[]}}"#,
        media::MANIFEST
    );
    let odd = store.blob(text.as_bytes(), BlobKind::Manifest, media::MANIFEST, true);
    store.tag("odd:latest", odd);
    let report = checked(&store, &options());
    let found = report
        .findings
        .iter()
        .find(|finding| finding.kind == Kind::Document);
    let found = found.unwrap_or_else(|| panic!("{report:#?}"));
    assert_eq!(
        (found.severity, &*found.images),
        (Severity::Error, &["odd:latest".to_owned()][..])
    );
    assert!(found.remedy.contains("--ignore-broken"));
}

#[test]
fn a_descriptor_that_says_another_size_is_a_warning() {
    let store = Store::new();
    let app = app(&store);
    let path = store.layout.index_path();
    let size = store.layout.blobs().stat(&app).unwrap().unwrap().size;
    let text = fs::read_to_string(&path).unwrap();
    let said = format!("\"size\":{size}");
    assert!(text.contains(&said), "{text}");
    fs::write(&path, text.replace(&said, "\"size\":1")).unwrap();
    let report = checked(&store, &options());
    assert!(
        kinds(&report).contains(&(Severity::Warning, Kind::DescriptorSize)),
        "{report:#?}"
    );
}

#[test]
fn progress_ends_with_all_that_there_was() {
    let store = Store::new();
    app(&store);
    let last = std::sync::Mutex::new(Progress::default());
    let tell = |progress: Progress| {
        let mut last = last.lock().unwrap();
        if (progress.blobs, progress.bytes) > (last.blobs, last.bytes) {
            *last = progress;
        }
    };
    let report = check(store.layout.root(), &options(), &tell).unwrap();
    let last = last.into_inner().unwrap();
    assert_eq!((last.blobs, last.bytes), (report.blobs, report.bytes));
    assert_eq!((last.of_blobs, last.of_bytes), (report.blobs, report.bytes));
}

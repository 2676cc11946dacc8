//! What must be found reachable, in layouts as registries and other tools make them: real documents
//! in real files, taken in by a catalog that has never seen them.

use serde_json::{Value, json};

use super::testing::{NOW, New, Store, policy};
use super::{Error, Policy, Scope};
use crate::catalog::blob::BlobKind;
use crate::oci::{Digest, media};

const EMPTY: &str = "application/vnd.oci.empty.v1+json";

fn digest_of(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

impl Store {
    /// Writes a blob as another tool does. Returns its descriptor.
    fn write(&self, text: &str, media_type: &str) -> Value {
        let digest = self.blob(text.as_bytes(), BlobKind::Unknown, media_type, true);
        json!({ "mediaType": media_type, "digest": digest, "size": text.len() })
    }

    /// A manifest over a config and one layer, with more members.
    fn manifest(&self, name: &str, types: [&str; 3], more: Value) -> Value {
        let [manifest, config, layer] = types;
        let rootfs = json!({ "type": "layers", "diff_ids": [Digest::of(name.as_bytes())] });
        let config_text = json!({
            "architecture": "amd64", "os": "linux", "author": name, "rootfs": rootfs,
        });
        let mut document = json!({
            "schemaVersion": 2, "mediaType": manifest,
            "config": self.write(&config_text.to_string(), config),
            "layers": [self.write(&format!("layer of {name}"), layer)],
        });
        for (key, value) in more.as_object().unwrap() {
            document[key] = value.clone();
        }
        self.write(&document.to_string(), manifest)
    }

    fn oci(&self, name: &str) -> Value {
        let types = [media::MANIFEST, media::CONFIG, media::LAYER];
        self.manifest(name, types, json!({}))
    }

    fn index_of(&self, members: &[&Value]) -> Value {
        let document = json!({
            "schemaVersion": 2, "mediaType": media::INDEX, "manifests": members,
        });
        self.write(&document.to_string(), media::INDEX)
    }

    /// An artifact about `subject`, of types that nobody here knows.
    fn artifact(&self, name: &str, subject: Option<&Value>) -> Value {
        let mut document = json!({
            "schemaVersion": 2, "mediaType": media::MANIFEST,
            "artifactType": "application/x.unheard-of",
            "config": self.write("{}", EMPTY),
            "layers": [self.write(&format!("data of {name}"), "application/x.data; v=\"7\"")],
        });
        if let Some(subject) = subject {
            document["subject"] = subject.clone();
        }
        self.write(&document.to_string(), media::MANIFEST)
    }

    fn name(&self, name: &str, descriptor: &Value) {
        let size = descriptor["size"].as_u64().unwrap();
        let media_type = descriptor["mediaType"].as_str().unwrap();
        let digest = digest_of(descriptor);
        self.change_index(|index| {
            index.tag(name, media_type, digest, size);
        });
    }

    fn has_all(&self, descriptors: &[&Value]) -> bool {
        descriptors
            .iter()
            .all(|descriptor| self.has(&digest_of(descriptor)))
    }
}

/// Every scope in turn leaves `store` with so many blobs.
#[track_caller]
fn assert_kept_by_every_scope(store: &Store, blobs: usize) {
    for scope in [Scope::default(), Scope::all()] {
        store.prune(&policy(scope));
        assert_eq!(store.count(), blobs);
    }
}

#[test]
fn an_index_of_indexes_keeps_every_platform_of_every_member() {
    let store = Store::new();
    let [amd64, arm64, riscv64, loose] =
        ["amd64", "arm64", "riscv64", "loose"].map(|n| store.oci(n));
    let inner = store.index_of(&[&amd64, &arm64]);
    let middle = store.index_of(&[&inner]);
    let outer = store.index_of(&[&middle, &riscv64]);
    store.name("app:latest", &outer);
    assert_kept_by_every_scope(&store, 3 + 9);
    assert!(store.has_all(&[&amd64, &arm64, &riscv64]) && !store.has_all(&[&loose]));
    store.untag("app:latest");
    assert_kept_by_every_scope(&store, 0);
}

#[test]
fn a_platform_that_two_indexes_share_stays_with_the_one_that_is_left() {
    let store = Store::new();
    let [shared, first, second] = ["shared", "first", "second"].map(|name| store.oci(name));
    let one = store.index_of(&[&shared, &first]);
    let two = store.index_of(&[&shared, &second]);
    store.name("one:latest", &one);
    store.name("two:latest", &two);
    assert_kept_by_every_scope(&store, 2 + 9);
    store.untag("one:latest");
    assert_kept_by_every_scope(&store, 1 + 6);
    assert!(store.has_all(&[&shared, &second]));
}

#[test]
fn an_index_that_is_stored_in_part_keeps_what_there_is_of_it() {
    let store = Store::new();
    let (here, elsewhere) = (store.oci("here"), store.oci("elsewhere"));
    let index = store.index_of(&[&here, &elsewhere]);
    store.name("app:latest", &index);
    store.layout.blobs().remove(&digest_of(&elsewhere)).unwrap();
    let graph = store.graph();
    let plan = super::plan(&store.layout, &graph, &policy(Scope::all()), NOW).unwrap();
    let report = store.execute(&graph, plan);
    assert_eq!(report.failures, []);
    assert!(store.has_all(&[&here, &index]));
}

#[test]
fn a_name_with_a_digest_in_it_and_a_pin_keep_an_image_that_has_no_tag() {
    let store = Store::new();
    let [by_digest, pinned, loose] = ["by digest", "pinned", "loose"].map(|name| store.oci(name));
    store.name(&format!("app@{}", digest_of(&by_digest)), &by_digest);
    store.graph();
    let pinned_digest = digest_of(&pinned);
    let written = store.catalog.write::<_, crate::catalog::Error>(|tx| {
        let row = tx.blob(&pinned_digest)?.unwrap();
        Ok(tx.pin(row.id, NOW)?)
    });
    assert!(written.unwrap());
    assert_kept_by_every_scope(&store, 6);
    assert!(store.has_all(&[&by_digest, &pinned]) && !store.has_all(&[&loose]));
}

#[test]
fn what_refers_to_an_image_by_subject_lives_and_goes_with_it() {
    let store = Store::new();
    let app = store.oci("app");
    let signature = store.artifact("signature", Some(&app));
    let of_signature = store.artifact("timestamp of the signature", Some(&signature));
    store.artifact(
        "about something that is not here",
        Some(&json!({
            "mediaType": media::MANIFEST, "digest": Digest::of(b"elsewhere"), "size": 1,
        })),
    );
    store.name("app:latest", &app);
    // The artifacts share their empty config.
    assert_kept_by_every_scope(&store, 3 + 2 + 2 + 1);
    assert!(store.has_all(&[&app, &signature, &of_signature]));
    store.untag("app:latest");
    assert_kept_by_every_scope(&store, 0);
}

#[test]
fn what_refers_to_one_platform_of_an_index_lives_with_the_index() {
    let store = Store::new();
    let (amd64, arm64) = (store.oci("amd64"), store.oci("arm64"));
    let index = store.index_of(&[&amd64, &arm64]);
    let of_member = store.artifact("of a platform", Some(&arm64));
    let of_index = store.artifact("of all", Some(&index));
    store.name("app:latest", &index);
    assert_kept_by_every_scope(&store, 1 + 6 + 4 + 1);
    assert!(store.has_all(&[&of_member, &of_index]));
}

/// Registries without the referrers API keep an index under the tag `sha256-HEX`
/// (distribution-spec, "Referrers Tag Schema"); cosign puts signatures under `sha256-HEX.sig`.
#[test]
fn names_of_the_referrers_tag_schema_keep_what_they_list() {
    let store = Store::new();
    let app = store.oci("app");
    let attached = store.artifact("an SBOM", Some(&app));
    let referrers = store.index_of(&[&attached]);
    // Older tools write no subject into it.
    let signature = store.artifact("a signature", None);
    let hex = digest_of(&app).hex();
    store.name("app:latest", &app);
    store.name(&format!("sha256-{hex}"), &referrers);
    store.name(&format!("app:sha256-{hex}.sig"), &signature);
    assert_kept_by_every_scope(&store, 3 + 1 + 2 + 2 + 1);
    assert!(store.has_all(&[&attached, &referrers, &signature]));
    // What lists a signature of an image keeps the image: it is named, if by that alone.
    store.untag("app:latest");
    assert_kept_by_every_scope(&store, 9);
    store.untag(&format!("sha256-{hex}"));
    assert_kept_by_every_scope(&store, 3);
}

#[test]
fn artifacts_with_types_that_nobody_knows_keep_their_parts() {
    let store = Store::new();
    let named = store.artifact("a chart", None);
    let loose = store.artifact("another", None);
    store.name("chart:1", &named);
    assert_kept_by_every_scope(&store, 3);
    assert!(store.has_all(&[&named]) && !store.has_all(&[&loose]));
}

/// An index may list anything: what a member of an unknown type points at is followed where it has
/// the shape of a document.
#[test]
fn a_member_of_an_unknown_type_is_followed_and_not_guessed() {
    let store = Store::new();
    let inner = store.oci("inner");
    let unknown = json!({ "things": "of ours", "manifests": [inner] }).to_string();
    let unknown = store.write(&unknown, "application/x.list+json");
    let index = store.index_of(&[&unknown]);
    store.name("odd:latest", &index);
    store.oci("loose");
    assert_kept_by_every_scope(&store, 2 + 3);
    assert!(store.has_all(&[&unknown, &inner]));
}

#[test]
fn docker_s_types_and_oci_s_may_be_mixed() {
    let store = Store::new();
    let docker = store.manifest(
        "docker",
        [
            media::DOCKER_MANIFEST,
            media::DOCKER_CONFIG,
            media::DOCKER_LAYER_GZIP,
        ],
        json!({}),
    );
    let mixed = store.manifest(
        "mixed",
        [media::MANIFEST, media::DOCKER_CONFIG, media::LAYER_ZSTD],
        json!({}),
    );
    let list = json!({
        "schemaVersion": 2, "mediaType": media::DOCKER_INDEX, "manifests": [docker, mixed],
    });
    let list = store.write(&list.to_string(), media::DOCKER_INDEX);
    let outer = store.index_of(&[&list, &store.oci("oci")]);
    store.name("app:latest", &outer);
    store.manifest(
        "loose",
        [
            media::DOCKER_MANIFEST,
            media::DOCKER_CONFIG,
            media::DOCKER_LAYER_GZIP,
        ],
        json!({}),
    );
    assert_kept_by_every_scope(&store, 2 + 9);
    store.untag("app:latest");
    assert_kept_by_every_scope(&store, 0);
}

/// As BuildKit writes them: a member of platform unknown/unknown, an image by its type, whose
/// layers are statements.
#[test]
fn attestation_manifests_live_with_their_index_and_go_with_it() {
    let store = Store::new();
    let app = store.oci("app");
    let types = [
        media::MANIFEST,
        media::CONFIG,
        "application/vnd.in-toto+json",
    ];
    let mut attestation = store.manifest("attestation", types, json!({}));
    attestation["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
    attestation["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": app["digest"],
    });
    let index = store.index_of(&[&app, &attestation]);
    store.name("app:latest", &index);
    assert_kept_by_every_scope(&store, 1 + 6);
    assert!(store.has_all(&[&attestation]));
    store.untag("app:latest");
    assert_kept_by_every_scope(&store, 0);
}

#[test]
fn what_cannot_be_read_stops_every_scope_until_it_is_given_up_by_its_digest() {
    for text in [
        "",
        "{\"schemaVersion\":2,\"manif",
        "{\"schemaVersion\":2,\"manifests\":[7]}",
    ] {
        let store = Store::new();
        let good = store.oci("good");
        store.name("good:latest", &good);
        store.oci("loose");
        let broken = store.write(text, media::INDEX);
        store.name("broken:latest", &broken);
        let before = store.count();
        for scope in [Scope::default(), Scope::all()] {
            let plan = super::plan(&store.layout, &store.graph(), &policy(scope), NOW);
            let Err(Error::Unreadable(error)) = plan else {
                panic!("{text:?}: {plan:?}");
            };
            assert_eq!(error.digest, digest_of(&broken), "{text:?}");
            assert_eq!(store.count(), before);
        }
        let policy = Policy {
            ignore_broken: vec![digest_of(&broken)],
            ..Policy::default()
        };
        let graph = store.graph();
        let plan = super::plan(&store.layout, &graph, &policy, NOW).unwrap();
        store.execute(&graph, plan);
        assert!(store.has_all(&[&good, &broken]), "{text:?}");
        assert_eq!(store.count(), 3 + 1, "{text:?}");
    }
}

#[test]
fn the_day_that_a_config_says_it_was_made_on_is_of_no_account() {
    let store = Store::new();
    let types = [media::MANIFEST, media::CONFIG, media::LAYER];
    let mut images = Vec::new();
    for (name, created) in [
        ("old", "1970-01-01T00:00:00Z"),
        ("young", "2999-12-31T23:59:59Z"),
    ] {
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": created,
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(name.as_bytes())] },
        });
        let config = store.write(&config.to_string(), media::CONFIG);
        images.push(store.manifest(name, types, json!({ "config": config })));
    }
    // Both were first seen at the same moment: by an age both stay, or both go.
    let seen = store
        .graph()
        .nodes()
        .map(|node| node.last_used)
        .max()
        .unwrap();
    let until = |moment| Policy {
        until: Some(moment),
        ..Policy::default()
    };
    store.prune(&until(seen));
    assert!(store.has_all(&[&images[0], &images[1]]));
    store.prune(&until(seen + 1));
    assert_eq!(store.count(), 0);
}

#[test]
fn a_lost_catalog_finds_all_of_this_again() {
    let store = Store::new();
    let app = store.oci("app");
    let index = store.index_of(&[&app]);
    let signature = store.artifact("signature", Some(&index));
    store.name("app:latest", &index);
    let mine = store.image(
        "mine",
        New {
            layers: &["m"],
            foreign: true,
            ..New::default()
        },
    );
    store.tag("mine:latest", mine);
    let before = {
        store.prune_dangling();
        store.count()
    };
    let store = store.lose_catalog();
    store.prune_dangling();
    assert_eq!(store.count(), before);
    assert!(store.has_all(&[&app, &index, &signature]) && store.has(&mine));
}

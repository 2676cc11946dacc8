//! Signatures, attestations and SBOMs: they travel with the image, and live and go with it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::artifacts::{
    self, Artifact, Manners, Subject, digest, get, list, members, tag,
};
use crate::support::registry::{Door, Registry, noise_tar};
use crate::support::rstore::text;
use crate::support::{Context, Need, Rstore, scratch, skip_without};

const NEEDS: [Need; 1] = [Need::Program("docker-registry")];

/// A signature of an image, an SBOM of it, a signature of the SBOM.
fn three(image: &Subject) -> [Artifact; 3] {
    let signature = Artifact::new("application/x.signature", "signed", Some(image));
    let sbom = Artifact::new("application/spdx+json", "parts", Some(image));
    let of_sbom = Artifact::new(
        "application/x.signature",
        "parts signed",
        Some(&sbom.subject()),
    );
    [signature, sbom, of_sbom]
}

/// A registry without the API, whose `app:1` has [`three`] and something under a tag of cosign's.
fn signed() -> (Registry, Rstore, [Artifact; 3], Artifact) {
    let registry = Registry::start(Door::Open);
    let store = Rstore::new();
    let directory = scratch();
    store.import(&noise_tar(directory.path(), "noise", 20_000), "app:1");
    store.ok(["push", "-q", "app:1", &registry.name("app:1")]);
    let image = store.digest("app:1");
    let three = three(&Subject::of(&store, &image));
    let host = registry.host();
    for artifact in &three {
        artifact.push(&host, "app", None);
    }
    let cosigns = Artifact::new("application/x.cosign", "cosigned", None);
    cosigns.push(&host, "app", Some(&format!("{}.sig", tag(&image))));
    let [signature, sbom, of_sbom] = &three;
    let listed = [signature.descriptor(), sbom.descriptor()];
    list(&host, "app", &image, &listed);
    list(&host, "app", &sbom.digest(), &[of_sbom.descriptor()]);
    (registry, store, three, cosigns)
}

/// What `rstore referrers` lists.
fn listed(store: &Rstore, name: &str) -> BTreeSet<String> {
    let list = store.json(&["referrers", name]);
    let rows = list["referrers"].as_array().expect("rows").iter();
    rows.map(|row| {
        assert_eq!(row["present"], true, "{row}");
        text(&row["digest"])
    })
    .collect()
}

fn digests<'a>(artifacts: impl IntoIterator<Item = &'a Artifact>) -> BTreeSet<String> {
    artifacts.into_iter().map(Artifact::digest).collect()
}

#[test]
fn what_is_about_an_image_comes_with_it_and_goes_with_it() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, _publisher, three, cosigns) = signed();
    let name = registry.name("app:1");
    let store = Rstore::new();
    store.ok(["pull", "-q", &name]);
    assert!(listed(&store, &name).is_empty(), "nobody asked for them");
    let pulled = store.run(["pull", "--referrers", &name]).ok();
    assert!(
        pulled.stderr.contains(": application/spdx+json, about "),
        "{pulled}"
    );
    let all = digests(three.iter().chain([&cosigns]));
    assert_eq!(listed(&store, &name), all);
    let table = store.ok(["referrers", "--no-trunc", &name]);
    for words in ["DIGEST", "application/spdx+json", "cosign tag", "subject"] {
        assert!(table.contains(words), "{table}");
    }
    let image = store.digest(&name);
    let cosigns_tag = registry.name(&format!("app:{}.sig", tag(&image)));
    assert_eq!(store.digest(&cosigns_tag), cosigns.digest());
    assert_eq!(store.tags().len(), 2, "what has a subject needs no tag");

    // The image holds them.
    store.ok(["prune", "--all", "-f"]);
    assert_eq!(listed(&store, &name), all);
    store.ok(["fsck"]);
    let again = store.run(["pull", "--referrers", &name]).ok();
    assert!(again.stderr.contains("Image is up to date"), "{again}");
    store.verify();
    assert!(store.debris().is_empty(), "{:?}", store.debris());

    // And they go with it; what has a tag of its own stays.
    store.ok(["rmi", &name]);
    store.ok(["prune", "-f"]);
    let left = store.blobs();
    for artifact in &three {
        assert!(!left.contains(&artifact.digest()[7..]), "{}", artifact.kind);
    }
    assert!(left.contains(&cosigns.digest()[7..]));
    store.ok(["fsck"]);
}

#[test]
fn those_of_one_type_come_with_what_is_about_them() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, _publisher, three, cosigns) = signed();
    let name = registry.name("app:1");
    let [signature, sbom, of_sbom] = &three;
    for (types, wanted) in [
        (
            vec!["--referrers=application/spdx+json"],
            vec![sbom, of_sbom],
        ),
        (vec!["--referrers=application/x.signature"], vec![signature]),
        (vec!["--referrers=application/x.cosign"], vec![&cosigns]),
        (
            vec!["--referrers=a/b", "--referrers=application/x.signature"],
            vec![signature],
        ),
        (vec!["--referrers=a/b"], vec![]),
    ] {
        let store = Rstore::new();
        store.ok(["pull", "-q", &name].iter().chain(&types));
        assert_eq!(listed(&store, &name), digests(wanted), "{types:?}");
    }
    let store = Rstore::new();
    store
        .run(["pull", "--referrers=sbom", &name])
        .fails(2, &["media type"]);
}

#[test]
fn a_push_keeps_the_list_that_a_registry_without_the_api_has_under_a_tag() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, _publisher, three, cosigns) = signed();
    let host = registry.host();
    let store = Rstore::new();
    store.ok(["pull", "-q", "--referrers", &registry.name("app:1")]);
    let image = store.digest(&registry.name("app:1"));
    // Somebody else's signature is in the list already.
    let theirs = Artifact::new(
        "application/x.theirs",
        "theirs",
        Some(&Subject::of(&store, &image)),
    );
    store.ok([
        "push",
        "-q",
        &registry.name("app:1"),
        &registry.name("mirror/app:1"),
    ]);
    assert_eq!(
        get(&host, "mirror/app", &tag(&image)),
        None,
        "nobody asked for it"
    );
    theirs.push(&host, "mirror/app", None);
    list(&host, "mirror/app", &image, &[theirs.descriptor()]);

    let push = [
        "push",
        "--referrers",
        &registry.name("app:1"),
        &registry.name("mirror/app:1"),
    ];
    let pushed = store.run(push).ok();
    assert!(
        pushed.stderr.contains(": application/x.cosign, about "),
        "{pushed}"
    );
    let [signature, sbom, of_sbom] = &three;
    let index = get(&host, "mirror/app", &tag(&image)).expect("a list");
    let found: BTreeSet<String> = members(&index).into_iter().collect();
    assert_eq!(found, digests([&theirs, signature, sbom]));
    let entry = index["manifests"].as_array().expect("members");
    let entry = entry.iter().find(|e| e["digest"] == sbom.digest().as_str());
    let entry = entry.expect("an entry");
    assert_eq!(entry["artifactType"], "application/spdx+json");
    assert_eq!(entry["annotations"]["org.example.content"], "parts");
    assert_eq!(entry["size"].as_u64(), Some(sbom.manifest.len() as u64));
    let nested = get(&host, "mirror/app", &tag(&sbom.digest())).expect("a list");
    assert_eq!(members(&nested), [of_sbom.digest()]);
    let under = get(&host, "mirror/app", &format!("{}.sig", tag(&image))).expect("cosign's");
    assert_eq!(
        under,
        serde_json::from_slice::<Value>(&cosigns.manifest).expect("JSON")
    );

    // A second time nothing changes.
    store.run(push).ok();
    assert_eq!(get(&host, "mirror/app", &tag(&image)), Some(index));
    let other = Rstore::new();
    other.ok(["pull", "-q", "--referrers", &registry.name("mirror/app:1")]);
    let all = three.iter().chain([&cosigns, &theirs]);
    assert_eq!(listed(&other, &registry.name("mirror/app:1")), digests(all));
}

#[test]
fn a_registry_with_the_api_lists_them_page_by_page_and_needs_no_tag() {
    for manners in [
        Manners {
            page: 1,
            ..Manners::default()
        },
        Manners {
            page: 1,
            filters: false,
            ..Manners::default()
        },
        Manners {
            page: 2,
            circles: true,
            ..Manners::default()
        },
    ] {
        let (server, shelf) = artifacts::registry(manners);
        let host = server.http("").trim_end_matches('/')["http://".len()..].to_owned();
        let name = format!("{host}/app:1");
        let publisher = Rstore::new();
        let directory = scratch();
        publisher.import(&noise_tar(directory.path(), "noise", 5_000), &name);
        publisher.ok(["push", "-q", &name]);
        let image = publisher.digest(&name);
        let three = three(&Subject::of(&publisher, &image));
        for artifact in &three {
            artifact.push(&host, "app", None);
        }
        server.requests();
        let store = Rstore::new();
        let pulled = store.run(["pull", "--referrers", &name]).ok();
        assert_eq!(listed(&store, &name), digests(&three), "{pulled}");
        let asked = server.requests();
        let pages = asked
            .iter()
            .filter(|r| r.path.contains(&format!("referrers/{image}")));
        assert!(pages.count() >= 2, "{asked:?}");
        let by_tag = format!("manifests/{}", tag(&image));
        assert!(
            !asked.iter().any(|r| r.path.ends_with(&by_tag)),
            "{asked:?}"
        );

        let one = Rstore::new();
        one.ok(["pull", "-q", "--referrers=application/spdx+json", &name]);
        assert_eq!(listed(&one, &name), digests(&three[1..]), "{manners:?}");
        let asked = server.requests();
        let filter = "artifactType=application%2Fspdx%2Bjson";
        assert!(asked.iter().any(|r| r.path.contains(filter)), "{asked:?}");

        // Pushed elsewhere: the registry says that it has listed them.
        *shelf.lock().expect("a shelf") = artifacts::Shelf::default();
        store.ok(["push", "-q", "--referrers", &name]);
        let shelf = shelf.lock().expect("a shelf");
        let count = |subject: &str| shelf.referrers.get(subject).map_or(0, Vec::len);
        assert_eq!((count(&image), count(&three[1].digest())), (2, 1));
        let tags = shelf
            .manifests
            .keys()
            .filter(|name| name.starts_with("sha256-"));
        assert_eq!(tags.count(), 0, "the registry needs no tag");
    }
}

#[test]
fn a_list_that_somebody_else_has_gone_over_is_written_again() {
    if skip_without(&NEEDS) {
        return;
    }
    for (races, is_done) in [(2, true), (100, false)] {
        let manners = Manners {
            lists: false,
            races,
            ..Manners::default()
        };
        let (server, shelf) = artifacts::registry(manners);
        let host = server.http("").trim_end_matches('/')["http://".len()..].to_owned();
        let name = format!("{host}/app:1");
        let (registry, _publisher, three, _cosigns) = signed();
        let store = Rstore::new();
        store.ok(["pull", "-q", "--referrers", &registry.name("app:1")]);
        let image = store.digest(&registry.name("app:1"));
        let pushed = store.run(["push", "--referrers", &registry.name("app:1"), &name]);
        if !is_done {
            pushed.fails(1, &["at the same time: push again"]);
            continue;
        }
        pushed.ok();
        let shelf = shelf.lock().expect("a shelf");
        let mut found = BTreeSet::new();
        for subject in [&image, &three[1].digest()] {
            let list = serde_json::from_slice(&shelf.manifests[&tag(subject)]);
            found.extend(members(&list.expect("an index")));
        }
        assert!(found.is_superset(&digests(&three)), "{found:?}");
        assert_eq!(found.len(), 4, "and the last of theirs: {found:?}");
    }
}

#[test]
fn lists_that_lie_or_never_end_are_told() {
    let (server, shelf) = artifacts::registry(Manners::default());
    let host = server.http("").trim_end_matches('/')["http://".len()..].to_owned();
    let name = format!("{host}/app:1");
    let publisher = Rstore::new();
    let directory = scratch();
    publisher.import(&noise_tar(directory.path(), "noise", 5_000), &name);
    publisher.ok(["push", "-q", &name]);
    let image = publisher.digest(&name);
    let pull = || Rstore::new().run(["pull", "--referrers", &name]);
    let listing = |list: Vec<Value>| {
        shelf
            .lock()
            .expect("a shelf")
            .referrers
            .insert(image.clone(), list);
    };

    // About something else, whatever the list says, or about it with another size; and a list
    // that names the image itself.
    let subject = Subject::of(&publisher, &image);
    let wrong = Subject {
        size: 7,
        ..subject.clone()
    };
    let wrong = Artifact::new("application/x.sig", "of 7 bytes", Some(&wrong));
    wrong.push(&host, "app", None);
    let stranger = Artifact::new(
        "application/x.sig",
        "not of this",
        Some(&Subject {
            digest: digest(b"other"),
            size: 5,
        }),
    );
    stranger.push(&host, "app", None);
    let itself = json!({ "mediaType": artifacts::MANIFEST, "digest": image, "size": 1 });
    listing(vec![stranger.descriptor(), wrong.descriptor(), itself]);
    let store = Rstore::new();
    let pulled = store.run(["pull", "--referrers", &name]).ok();
    assert_eq!(
        pulled.stderr.matches("does not say so itself").count(),
        2,
        "{pulled}"
    );
    assert!(listed(&store, &name).is_empty());

    // One that is listed and not there, and one whose bytes are others.
    let gone = Artifact::new("application/x.sig", "gone", Some(&subject));
    listing(vec![gone.descriptor()]);
    let pulled = pull();
    pulled.fails(1, &["the manifest sha256:", "is not there"]);
    shelf
        .lock()
        .expect("a shelf")
        .manifests
        .insert(gone.digest(), stranger.manifest.clone());
    pull().fails(1, &["its bytes have digest"]);

    let many = (0..1001).map(|n| {
        let digest = digest(format!("{n}").as_bytes());
        json!({ "mediaType": artifacts::MANIFEST, "digest": digest, "size": 1 })
    });
    listing(many.collect());
    pull().fails(1, &["more than 1000", "--referrers=TYPE"]);

    // A chain of signatures of signatures.
    listing(Vec::new());
    let mut subject = subject;
    for depth in 0..9 {
        if depth == 8 {
            let store = Rstore::new();
            store.ok(["pull", "-q", "--referrers", &name]);
            assert_eq!(listed(&store, &name).len(), 8);
        }
        let next = Artifact::new("application/x.sig", &format!("{depth}"), Some(&subject));
        next.push(&host, "app", None);
        subject = next.subject();
    }
    let told = pull();
    told.fails(1, &["more than 8 deep"]);
}

#[test]
fn of_an_image_for_several_platforms_they_come_with_all_of_it() {
    if skip_without(&NEEDS) {
        return;
    }
    let registry = Registry::start(Door::Open);
    let (host, name) = (registry.host(), registry.name("multi:1"));
    let context = Context::new("FROM scratch\nARG TARGETARCH\nLABEL which=$TARGETARCH\n");
    let publisher = Rstore::new();
    let platforms = ["-t", &name, "--platform", "linux/amd64,linux/arm64"];
    publisher.build(context.path(), &platforms);
    publisher.ok(["push", "-q", &name]);
    let index = publisher.digest(&name);
    let member = members(&publisher.manifest(&name)).remove(0);
    let of_index = Artifact::new(
        "application/x.sig",
        "index",
        Some(&Subject::of(&publisher, &index)),
    );
    let of_member = Artifact::new(
        "application/x.sig",
        "member",
        Some(&Subject::of(&publisher, &member)),
    );
    for (subject, artifact) in [(&index, &of_index), (&member, &of_member)] {
        artifact.push(&host, "multi", None);
        list(&host, "multi", subject, &[artifact.descriptor()]);
    }
    let one = Rstore::new();
    let platform = ["pull", "--referrers", "--platform", "linux/amd64", &name];
    let pulled = one.run(platform).ok();
    assert!(
        pulled.stderr.contains("--all-platforms pulls it"),
        "{pulled}"
    );
    assert_eq!(listed(&one, &name), digests([&of_member]));
    let all = Rstore::new();
    all.ok(["pull", "-q", "--referrers", "--all-platforms", &name]);
    assert_eq!(listed(&all, &name), digests([&of_index, &of_member]));
    all.ok(["prune", "--all", "-f"]);
    assert_eq!(listed(&all, &name), digests([&of_index, &of_member]));
}

#[test]
fn a_copy_takes_them_from_any_place_to_any_other() {
    if skip_without(&NEEDS) {
        return;
    }
    let (registry, _publisher, three, cosigns) = signed();
    let all = digests(three.iter().chain([&cosigns]));
    let directory = scratch();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let chain = [
        format!("docker://{}", registry.name("app:1")),
        format!("oci:{}:x", at("layout")),
        format!("oci-archive:{}:app:2", at("oci.tar")),
        format!("docker://{}", registry.name("other:2")),
        "store:app:3".to_owned(),
    ];
    let last = Rstore::new();
    for pair in chain.windows(2) {
        // A store of its own for each step: nothing is there by chance.
        let own = Rstore::new();
        let through = if pair[1] == chain[4] { &last } else { &own };
        through.ok(["copy", "-q", "--referrers", &pair[0], &pair[1]]);
    }
    assert_eq!(listed(&last, "app:3"), all);
    last.ok(["prune", "--all", "-f"]);
    assert_eq!(listed(&last, "app:3"), all);
    last.ok([
        "copy",
        "-q",
        "--referrers",
        "store:app:3",
        &format!("oci:{}:app:9", at("again")),
    ]);
    let layout = Rstore::at(directory.path().join("again").as_path());
    assert_eq!(listed(&layout, "app:9"), all, "a layout is a store");

    // Without being asked for, nothing of it goes.
    let plain = Rstore::new();
    plain.ok(["copy", "-q", &chain[1], "store:app:1"]);
    plain.ok(["copy", "-q", &chain[2], "store:app:2"]);
    assert!(listed(&plain, "app:1").is_empty());

    // The archive of an image, and what is about it, has one image that can be meant.
    let saved = at("saved.tar");
    last.ok([
        "save",
        "--format",
        "oci-archive",
        "--referrers",
        "-o",
        &saved,
        "app:3",
    ]);
    let loaded = Rstore::new();
    loaded.ok(["load", "-q", "-i", &saved]);
    assert_eq!(listed(&loaded, "app:3"), all);
    loaded.ok(["fsck"]);
    let copied = Rstore::new();
    copied.ok(["copy", "-q", &format!("oci-archive:{saved}"), "store:app:4"]);
    copied.whole("app:4");
    let docker = format!("docker-archive:{}", at("docker.tar"));
    last.run(["copy", "--referrers", "store:app:3", &docker])
        .fails(2, &["docker-archive has no place"]);
    last.run(["save", "--referrers", "-o", &at("docker.tar"), "app:3"])
        .fails(2, &["docker-archive has no place"]);
}

//! A cache that several stores share through a directory: what is taken from it, what it costs, and
//! what a directory that is no good does to a build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::Digest;

use crate::support::rstore::{hex, text};
use crate::support::{Context, Finished, Need, Rstore, run, scratch, skip_without};

const TWO_STAGES: &str = "FROM base AS tools\nCOPY source /source\nRUN wc -c < /source > /size && cp /size /other\n\
    FROM base\nENV A=1\nCOPY --from=tools /size /size\nRUN cat /size > /again\nCMD [\"cat\"]\n";

/// A store with a base, and others with the same base.
struct House {
    first: Rstore,
    directory: tempfile::TempDir,
    context: Context,
}

impl House {
    fn new(dockerfile: &str) -> House {
        let context = Context::new(dockerfile);
        context.file("source", "some source");
        House {
            first: Rstore::with_base(),
            directory: scratch(),
            context,
        }
    }

    /// Another store, with a base of the same ID.
    fn other(&self) -> Rstore {
        Rstore::beside(&self.first)
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    fn write(&self, options: &str) -> Finished {
        let to = format!("type=local,dest={}{options}", self.cache().display());
        self.first
            .build(self.context.path(), &["-t", "app", "--cache-to", &to])
    }

    fn read(&self, store: &Rstore) -> Finished {
        let from = format!("type=local,src={}", self.cache().display());
        store.build(self.context.path(), &["-t", "app", "--cache-from", &from])
    }

    /// The manifest of the cache, and its records.
    fn documents(&self) -> (Value, Value) {
        let index = json(&self.cache().join("index.json"));
        let entries = index["manifests"].as_array().unwrap();
        let manifest = json(&self.blob(&entries.last().unwrap()["digest"]));
        let records = json(&self.blob(&manifest["config"]["digest"]));
        (manifest, records)
    }

    fn blob(&self, digest: &Value) -> PathBuf {
        let digest = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        self.cache().join("blobs/sha256").join(digest)
    }

    /// Puts other records in place of those that are there, with the digests that belong to them.
    fn forge(&self, change: impl FnOnce(&mut Value, &mut Value)) {
        let (mut manifest, mut records) = self.documents();
        change(&mut manifest, &mut records);
        let put = |value: &Value| {
            let bytes = serde_json::to_vec(value).unwrap();
            let digest = hex(&sha2::Sha256::digest(&bytes));
            fs::write(self.cache().join("blobs/sha256").join(&digest), &bytes).unwrap();
            (format!("sha256:{digest}"), bytes.len())
        };
        let (digest, size) = put(&records);
        manifest["config"]["digest"] = json!(digest);
        manifest["config"]["size"] = json!(size);
        let (digest, size) = put(&manifest);
        let path = self.cache().join("index.json");
        let mut index = json(&path);
        let entry = index["manifests"]
            .as_array_mut()
            .unwrap()
            .last_mut()
            .unwrap();
        entry["digest"] = json!(digest);
        entry["size"] = json!(size);
        fs::write(path, serde_json::to_vec(&index).unwrap()).unwrap();
    }
}

fn json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn a_second_store_runs_nothing_and_copies_the_layers_of_the_result_only() {
    let house = House::new(TWO_STAGES);
    assert_eq!(house.write(",mode=max").ran(), 2);
    let other = house.other();
    let before = other.blobs().len();
    let built = house.read(&other);
    assert_eq!((built.cached(), built.ran()), (6, 0), "{built}");
    assert!(!built.stderr.contains("[Warning]"), "{built}");
    assert_eq!(other.digest("app:latest"), house.first.digest("app:latest"));
    other.verify();
    // Two layers, a config and a manifest; nothing of the other stage.
    assert_eq!(other.layers("app:latest").len(), 3);
    assert_eq!(other.blobs().len(), before + 4, "{built}");
    assert_eq!(other.debris(), [] as [PathBuf; 0]);
    // Another time as well, when the images are there.
    let again = house.read(&other);
    assert_eq!((again.cached(), again.ran()), (6, 0), "{again}");
    assert_eq!(other.blobs().len(), before + 4);
    // A build that does not name the cache believes nothing of it.
    let without = other.build(house.context.path(), &["-t", "app"]);
    assert_eq!((without.cached(), without.ran()), (0, 2), "{without}");
    other.ok(["prune", "-f", "--all"]);
    other.verify();
}

#[test]
fn what_stands_on_a_cached_step_is_run_on_its_layers() {
    let house = House::new(TWO_STAGES);
    house.write(",mode=max");
    let other = house.other();
    let dockerfile = fs::read_to_string(house.context.path().join("Dockerfile")).unwrap();
    // The tools' last step is another one; it stands on what the cache has.
    house.context.file(
        "Dockerfile",
        dockerfile.replace(
            "/other\n",
            "/other\nRUN test -s /source && echo more >> /size\n",
        ),
    );
    let built = house.read(&other);
    assert_eq!((built.cached(), built.ran()), (3, 2), "{built}");
    other.verify();
}

#[test]
fn a_local_step_does_not_hide_what_a_cache_has_for_the_next_ones() {
    let house =
        House::new("FROM base\nENV A=1\nRUN echo long > /long\nRUN echo longer > /longer\n");
    house.write("");
    let other = house.other();
    // The first steps are there by themselves, with IDs of their own.
    let short = Context::new("FROM base\nENV A=1\nRUN echo long > /long\n");
    assert_eq!(other.build(short.path(), &[]).ran(), 1);
    let built = house.read(&other);
    assert_eq!((built.cached(), built.ran()), (3, 0), "{built}");
    assert_eq!(other.id("app:latest"), house.first.id("app:latest"));
}

#[test]
fn min_has_the_layers_of_the_result_and_max_those_of_every_stage() {
    let house = House::new(TWO_STAGES);
    let count = |house: &House| house.documents().0["layers"].as_array().unwrap().len();
    house.write(",mode=min");
    assert_eq!(count(&house), 3);
    // Where nothing changed, that is enough.
    let other = house.other();
    assert_eq!(house.read(&other).ran(), 0);
    // Where the stage is needed itself, it is run.
    let other = house.other();
    let dockerfile = fs::read_to_string(house.context.path().join("Dockerfile")).unwrap();
    let longer = dockerfile.replace("/other\nFROM", "/other\nRUN cp /source /copy\nFROM");
    house.context.file("Dockerfile", &longer);
    let built = house.read(&other);
    assert!(!built.stderr.contains("[Warning]"), "{built}");
    assert_eq!(built.ran(), 2, "{built}");
    other.verify();
    house.context.file("Dockerfile", dockerfile);
    house.write(",mode=max");
    assert_eq!(count(&house), 5);
    house.context.file("Dockerfile", longer);
    assert_eq!(house.read(&house.other()).ran(), 1);
}

#[test]
fn a_cache_stands_beside_others_and_takes_the_place_of_its_own() {
    let house = House::new(TWO_STAGES);
    house.write(",mode=max");
    house.write(",mode=max,tag=kept");
    let blobs = || {
        fs::read_dir(house.cache().join("blobs/sha256"))
            .unwrap()
            .count()
    };
    let (before, index) = (blobs(), json(&house.cache().join("index.json")));
    // Nothing changed: nothing is written.
    house.write(",mode=max");
    assert_eq!(json(&house.cache().join("index.json")), index);
    assert_eq!(blobs(), before);
    for n in 0..3 {
        house.context.file("source", format!("another source, {n}"));
        house.write(",mode=max");
    }
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    // The cache of the first build is whole; of the three after it there is the last.
    let from = format!("type=local,src={},tag=kept", house.cache().display());
    house.context.file("source", "some source");
    let arguments = ["-t", "app", "--cache-from", &from];
    let built = house.other().build(house.context.path(), &arguments);
    assert_eq!((built.cached(), built.ran()), (6, 0), "{built}");
    let after = blobs();
    house.context.file("source", "another source, 2, and more");
    house.write(",mode=max");
    assert_eq!(blobs(), after);
}

#[test]
fn skopeo_copies_a_cache_and_what_it_copies_is_one() {
    if skip_without(&[Need::Program("skopeo")]) {
        return;
    }
    let house = House::new(TWO_STAGES);
    house.write(",mode=max");
    let copy = scratch();
    let name = |path: &Path| format!("oci:{}:latest", path.display());
    let mut skopeo = Command::new("skopeo");
    skopeo.arg("copy").arg(name(&house.cache()));
    run(skopeo.arg(name(&copy.path().join("copy"))));
    rstore::fsutil::remove_tree(&house.cache()).unwrap();
    fs::rename(copy.path().join("copy"), house.cache()).unwrap();
    let other = house.other();
    let built = house.read(&other);
    assert_eq!((built.cached(), built.ran()), (6, 0), "{built}");
}

#[test]
fn a_directory_that_is_no_cache_is_warned_of_and_the_build_goes_on() {
    let house = House::new("FROM base\nRUN echo x > /x\n");
    let refused = |why: &str| {
        let built = house.read(&house.other());
        assert_eq!(built.ran(), 1, "{built}");
        assert!(built.stderr.contains("[Warning]"), "{built}");
        assert!(built.stderr.contains(why), "no {why:?} in {built}");
    };
    refused("there is no such directory");
    fs::create_dir(house.cache()).unwrap();
    refused("no index.json");
    fs::write(house.cache().join("index.json"), "{").unwrap();
    refused("not valid");
    rstore::fsutil::remove_tree(&house.cache()).unwrap();
    house.write(",tag=other");
    refused("no cache with the tag \"latest\"");
    rstore::fsutil::remove_tree(&house.cache()).unwrap();
    house.write("");
    house.forge(|_, records| records["version"] = json!(2));
    refused("version 2");
    house.forge(|manifest, records| {
        records["version"] = json!(1);
        manifest["artifactType"] = json!("application/vnd.rstore.cache.v2");
    });
    refused("another version");
    house.forge(|manifest, _| {
        manifest["artifactType"] = json!("application/vnd.rstore.cache.v1");
        manifest["layers"] = json!("none");
    });
    refused("not a well-formed image manifest");
    rstore::fsutil::remove_tree(&house.cache()).unwrap();
    house.write("");
    let (manifest, _) = house.documents();
    let records = house.blob(&manifest["config"]["digest"]);
    fs::write(
        &records,
        fs::read(&records).unwrap().split_last().unwrap().1,
    )
    .unwrap();
    refused("other bytes than its name says");
    fs::remove_file(&records).unwrap();
    refused("missing");
}

#[test]
fn a_damaged_layer_is_warned_of_and_its_steps_are_run() {
    let house = House::new(TWO_STAGES);
    house.write(",mode=max");
    let (manifest, _) = house.documents();
    let layers = manifest["layers"].as_array().unwrap();
    let here = house.other();
    for layer in layers {
        let path = house.blob(&layer["digest"]);
        if here.blob(layer["digest"].as_str().unwrap()).exists() {
            // The base's: nobody reads it from the cache.
            continue;
        }
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        let damages: [&[u8]; 2] = [&flipped, &whole[..whole.len() / 2]];
        for damage in damages {
            fs::write(&path, damage).unwrap();
            let other = house.other();
            let built = house.read(&other);
            if built.ran() > 0 {
                assert!(built.stderr.contains("is damaged"), "{built}");
            }
            other.verify();
            other.whole("app:latest");
        }
        fs::write(&path, &whole).unwrap();
    }
    // The last layer of the result is needed for certain.
    let last = house.first.layers("app:latest").pop().unwrap();
    let path = house.blob(&json!(last));
    fs::remove_file(&path).unwrap();
    let other = house.other();
    let built = house.read(&other);
    assert!(built.stderr.contains("is damaged"), "{built}");
    assert_eq!(built.ran(), 1, "{built}");
    other.verify();
    // A build that writes there as well makes it good.
    house.write(",mode=max");
    assert!(path.exists());
}

#[test]
fn a_record_that_claims_what_its_step_does_not_say_is_not_believed() {
    let house = House::new("FROM base\nENV A=1\nRUN echo x > /x\n");
    let refused = |change: &dyn Fn(&mut Value)| {
        rstore::fsutil::remove_tree(&house.cache()).unwrap();
        house.write("");
        house.forge(|_, records| change(records));
        let other = house.other();
        let built = house.read(&other);
        assert_eq!(built.ran(), 1, "{built}");
        other.verify();
        let config = &other.config("app:latest")["config"];
        let environment = config["Env"].as_array().unwrap();
        assert!(environment.contains(&json!("A=1")), "{config}");
        // And the PATH that every image has.
        assert_eq!(environment.len(), 2, "{config}");
    };
    // Another step's image.
    refused(&|records| {
        let first = records["steps"][0]["image"].clone();
        records["steps"][1]["image"] = first;
    });
    // A document that is not what its digest says.
    refused(&|records| {
        for text in records["documents"].as_object_mut().unwrap().values_mut() {
            *text = json!(text.as_str().unwrap().replace("A=1", "A=2"));
        }
    });
    // An image that says something else, with digests that are right.
    refused(&|records| {
        let documents = records["documents"].as_object().unwrap().clone();
        let (id, config) = documents
            .iter()
            .find(|(_, text)| {
                let text = text.as_str().unwrap();
                text.contains("rootfs") && text.contains("echo x")
            })
            .map(|(id, text)| (id.clone(), text.as_str().unwrap().to_owned()))
            .unwrap();
        let digest = |text: &str| format!("sha256:{}", hex(&sha2::Sha256::digest(text)));
        let config = config.replace("\"A=1\"", "\"A=1\",\"LD_PRELOAD=/x\"");
        let image = records["steps"][1]["image"].as_str().unwrap().to_owned();
        let manifest = documents[&image].as_str().unwrap();
        let mut manifest: Value = serde_json::from_str(manifest).unwrap();
        assert_eq!(manifest["config"]["digest"], json!(id));
        manifest["config"]["digest"] = json!(digest(&config));
        manifest["config"]["size"] = json!(config.len());
        let manifest = manifest.to_string();
        records["steps"][1]["image"] = json!(digest(&manifest));
        records["documents"][digest(&config)] = json!(config);
        records["documents"][digest(&manifest)] = json!(manifest);
    });
}

#[test]
fn a_layer_with_another_diff_id_than_its_config_says_is_not_taken() {
    let house = House::new("FROM base\nRUN echo x > /x\n");
    house.write("");
    let other = house.other();
    house.forge(|manifest, records| {
        // The image's own layer becomes that of the base: right digest, wrong content.
        let image = records["steps"][0]["image"].as_str().unwrap().to_owned();
        let text = records["documents"][&image].as_str().unwrap();
        let mut forged: Value = serde_json::from_str(text).unwrap();
        let layers = forged["layers"].as_array_mut().unwrap();
        layers[1] = layers[0].clone();
        manifest["layers"] = json!([layers[0]]);
        let forged = forged.to_string();
        let digest = format!("sha256:{}", hex(&sha2::Sha256::digest(&forged)));
        records["steps"][0]["image"] = json!(digest);
        records["documents"][digest] = json!(forged);
    });
    let built = house.read(&other);
    assert_eq!(built.ran(), 1, "{built}");
    assert!(built.stderr.contains("diff ID"), "{built}");
    other.verify();
}

#[test]
fn a_cache_is_not_written_into_a_store_or_among_other_things() {
    let house = House::new("FROM base\nRUN echo x > /x\n");
    let to = |path: &Path| format!("type=local,dest={}", path.display());
    let into = |path: &Path| {
        let to = to(path);
        house
            .first
            .try_build(house.context.path(), &["-t", "app", "--cache-to", &to])
    };
    into(house.first.root()).fails(1, &["is a store"]);
    assert!(house.first.tags().contains_key("app:latest"));
    let things = scratch();
    fs::write(things.path().join("thesis"), "").unwrap();
    into(things.path()).fails(1, &["not empty", "thesis"]);
    let to = format!("{},ignore-error=true", to(things.path()));
    let built = house
        .first
        .build(house.context.path(), &["--cache-to", &to]);
    assert!(built.stderr.contains("[Warning]"), "{built}");
}

#[test]
fn no_cache_asks_nobody_and_is_taken_from_afterwards() {
    let house = House::new(
        "FROM base AS One\nRUN echo 1 > /1\nFROM base\nCOPY --from=one /1 /\nRUN echo 2 > /2\n",
    );
    house.write("");
    let from = format!("type=local,src={}", house.cache().display());
    let build = |arguments: &[&str]| {
        let arguments = [&["--cache-from", &from], arguments].concat();
        house.first.build(house.context.path(), &arguments)
    };
    assert_eq!(build(&[]).ran(), 0);
    assert_eq!(build(&["--no-cache"]).ran(), 2);
    assert_eq!(build(&["--no-cache-filter", "ONE"]).ran(), 1);
    assert_eq!(build(&["--no-cache-filter", "1,one"]).ran(), 2);
    let typo = build(&["--no-cache-filter", "oen"]);
    assert_eq!(typo.ran(), 0, "{typo}");
    assert!(typo.stderr.contains("did you mean \"one\""), "{typo}");
    assert_eq!(build(&[]).ran(), 0);
}

#[test]
fn a_stage_is_done_again_when_its_cached_image_cannot_be_had_after_all() {
    let house = House::new(TWO_STAGES);
    house.write(",mode=max");
    // What is copied from the stage has to be looked at, and the stage's own layers are gone.
    let result = house.first.layers("app:latest");
    house.forge(|manifest, records| {
        records["selections"] = json!([]);
        let layers = manifest["layers"].as_array().unwrap().clone();
        for layer in layers
            .iter()
            .filter(|l| !result.contains(&text(&l["digest"])))
        {
            fs::remove_file(house.blob(&layer["digest"])).unwrap();
        }
    });
    let other = house.other();
    let built = house.read(&other);
    assert!(built.stderr.contains("is damaged"), "{built}");
    assert_eq!(built.stderr.matches("is damaged").count(), 1, "{built}");
    // The stage's RUN; what it gives is the same, and the result is cached.
    assert_eq!(built.ran(), 1, "{built}");
    other.verify();
    assert_eq!(other.debris(), [] as [PathBuf; 0]);
    // What was taken is no record: without the cache the result's RUN is run.
    let again = other.build(house.context.path(), &["-t", "app"]);
    assert_eq!(again.ran(), 1, "{again}");
}

#[test]
fn several_builds_write_to_one_directory_and_read_from_it_at_the_same_time() {
    let house = House::new("FROM base\nCOPY source /source\nRUN cat /source /source > /twice\n");
    house.write(",mode=max");
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (house, other) = (&house, house.other());
            scope.spawn(move || {
                for round in 0..3 {
                    let dockerfile = format!("FROM base\nRUN echo {writer} {round} > /x\n");
                    let context = Context::new(&dockerfile);
                    let cache = house.cache();
                    let to = format!("type=local,dest={},tag=t{writer}", cache.display());
                    let from = format!("type=local,src={}", cache.display());
                    let arguments = ["-t", "app", "--cache-to", &to, "--cache-from", &from];
                    other.build(context.path(), &arguments);
                    let built = house.read(&other);
                    assert_eq!(built.ran(), 0, "{built}");
                }
                other.verify();
            });
        }
    });
    let index = json(&house.cache().join("index.json"));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 4);
    let names = fs::read_dir(house.cache().join("blobs/sha256")).unwrap();
    for name in names.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        let bytes = fs::read(house.cache().join("blobs/sha256").join(&name)).unwrap();
        assert_eq!(hex(&sha2::Sha256::digest(&bytes)), name);
    }
}

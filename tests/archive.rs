//! Images come in: what real tools wrote, and what nobody should have.
//!
//! Each test loads into a store of its own. A refused archive must leave that store as it was,
//! byte for byte. Peers are skopeo, podman and umoci; where one is missing its tests say `SKIP`,
//! and fail if `RSTORE_TEST_NO_SKIP=1`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rstore::archive::{self, ImportOptions, LoadOptions, Loaded};
use rstore::layer::{Compression, Format};
use rstore::oci::config::RunConfig;
use rstore::oci::{Digest, Platform, media};
use rstore::store::{Host, Image, Lease, OpenMode, Store};
use serde_json::{Value, json};

struct TestHost(AtomicU64);

impl Host for TestHost {
    fn now(&self) -> i64 {
        1_700_000_000_000
    }
    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        bytes
    }
    fn boot(&self) -> &str {
        "boot"
    }
    fn owners(&self) -> &str {
        "host"
    }
}

/// A store in a directory of its own.
struct Scene {
    dir: tempfile::TempDir,
    store: Store,
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let host = Arc::new(TestHost(AtomicU64::new(1)));
        let store = Store::open(&dir.path().join("store"), OpenMode::Create, host).unwrap();
        Scene { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn lease(&self) -> Lease<'_> {
        self.store.lease("load", "test").unwrap()
    }

    fn load(&self, archive: &[u8]) -> archive::Result<Vec<Loaded>> {
        self.load_named(archive, None)
    }

    fn load_named(&self, archive: &[u8], name: Option<&str>) -> archive::Result<Vec<Loaded>> {
        let options = LoadOptions {
            name: name.map(str::to_owned),
            ..LoadOptions::default()
        };
        archive::load(&self.lease(), Pipe(archive), &options)
    }

    fn load_path(&self, path: &Path, name: Option<&str>) -> archive::Result<Vec<Loaded>> {
        let options = LoadOptions {
            name: name.map(str::to_owned),
            ..LoadOptions::default()
        };
        archive::load_path(&self.lease(), path, &options)
    }

    fn import(&self, rootfs: &[u8], name: &str) -> archive::Result<Image> {
        archive::import(&self.lease(), Pipe(rootfs), &options(name))
    }

    /// What the layout holds: names below it, and the index.
    fn state(&self) -> (Vec<String>, Vec<u8>) {
        let root = self.store.root();
        let mut names: Vec<String> = ["blobs/sha256", "rstore/ingest", "rstore/leases"]
            .iter()
            .flat_map(|part| std::fs::read_dir(root.join(part)).unwrap())
            .map(|entry| entry.unwrap().path().display().to_string())
            .collect();
        names.sort();
        (names, std::fs::read(root.join("index.json")).unwrap())
    }

    fn image(&self, name: &str) -> Image {
        self.store.find_image(name, &platform()).unwrap()
    }

    /// Every blob that the layout has is the one that its name says.
    fn verify(&self) {
        let blobs = self.store.layout().blobs();
        let mut digests = Vec::new();
        blobs.list(|digest| digests.push(digest.unwrap())).unwrap();
        for digest in digests {
            blobs.verify(&digest).unwrap();
        }
    }

    /// Loads what must be refused; returns what is said of it.
    fn refused(&self, archive: &[u8]) -> String {
        let before = self.state();
        let error = self.load(archive).expect_err("must be refused").to_string();
        assert_eq!(self.state(), before, "the store changed; {error}");
        error
    }
}

fn options(name: &str) -> ImportOptions {
    ImportOptions {
        source: "rootfs.tar".to_owned(),
        names: vec![name.to_owned()],
        compression: Compression::default(),
        platform: platform(),
        run: RunConfig::default(),
        message: Some("a message".to_owned()),
        created: "2023-11-14T22:13:20Z".to_owned(),
    }
}

fn platform() -> Platform {
    Platform {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        variant: None,
    }
}

/// A reader that cannot seek and gives little at a time.
struct Pipe<'a>(&'a [u8]);

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(4093);
        self.0.read(&mut buffer[..count])
    }
}

// --- archives made by hand ---------------------------------------------------------------------

/// One member of a hand-made archive.
enum Member<'a> {
    File(&'a [u8]),
    Symlink(&'a str),
    Hardlink(&'a str),
    Directory,
    /// A file whose header promises more than an archive holds.
    Claims(u64),
}

fn header(name: &str, kind: u8, link: &str, size: u64) -> [u8; 512] {
    let mut header = [0u8; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    assert!(name.len() <= 100 && link.len() <= 100, "{name}");
    put(0, name.as_bytes());
    put(100, b"0000755\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn members(list: &[(&str, Member)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, member) in list {
        match member {
            Member::File(content) => {
                bytes.extend(header(name, b'0', "", content.len() as u64));
                bytes.extend(*content);
                bytes.resize(bytes.len().next_multiple_of(512), 0);
            }
            Member::Symlink(target) => bytes.extend(header(name, b'2', target, 0)),
            Member::Hardlink(target) => bytes.extend(header(name, b'1', target, 0)),
            Member::Directory => bytes.extend(header(name, b'5', "", 0)),
            Member::Claims(size) => bytes.extend(header(name, b'0', "", *size)),
        }
    }
    bytes
}

fn tar(list: &[(&str, Member)]) -> Vec<u8> {
    let mut bytes = members(list);
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn files(list: &[(&str, &[u8])]) -> Vec<u8> {
    let list: Vec<_> = list
        .iter()
        .map(|(name, content)| (*name, Member::File(content)))
        .collect();
    tar(&list)
}

fn rootfs() -> Vec<u8> {
    tar(&[
        ("./", Member::Directory),
        ("./etc/", Member::Directory),
        ("./etc/hostname", Member::File(b"here\n")),
        ("./etc/alias", Member::Hardlink("./etc/hostname")),
        ("./bin", Member::Symlink("usr/bin")),
    ])
}

/// The bytes in every format that an archive may have.
fn compressed(bytes: &[u8]) -> Vec<(Format, Vec<u8>)> {
    let with = |compression: Compression| {
        let mut writer = compression.writer(Vec::new()).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    };
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(bytes).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(bytes).unwrap();
    vec![
        (Format::None, bytes.to_vec()),
        (Format::Gzip, with(Compression::Gzip(6))),
        (Format::Zstd, with(Compression::Zstd(1))),
        (Format::Bzip2, bzip2.finish().unwrap()),
        (Format::Xz, xz.finish().unwrap()),
    ]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    compressed(bytes).swap_remove(1).1
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    json!({
        "architecture": "amd64", "os": "linux", "unknown member": [1, 2],
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}

/// An OCI layout in the making: blobs, and what index.json names.
#[derive(Default)]
struct Oci {
    blobs: Vec<Vec<u8>>,
    entries: Vec<Value>,
}

impl Oci {
    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let descriptor = descriptor(media_type, &bytes);
        self.blobs.push(bytes);
        descriptor
    }

    fn document(&mut self, media_type: &str, mut value: Value) -> Value {
        value["schemaVersion"] = 2.into();
        value["mediaType"] = media_type.into();
        self.blob(media_type, value.to_string().into_bytes())
    }

    /// An image of one layer with one file.
    fn image(&mut self, architecture: &str, more: Value) -> Value {
        let layer = files(&[("arch", architecture.as_bytes())]);
        let config = json!({
            "architecture": architecture, "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]},
        });
        let layer = self.blob(media::LAYER_GZIP, gzip(&layer));
        let config = self.blob(media::CONFIG, config.to_string().into_bytes());
        let mut manifest = json!({"config": config, "layers": [layer]});
        for (key, value) in more.as_object().unwrap() {
            manifest[key] = value.clone();
        }
        let mut entry = self.document(media::MANIFEST, manifest);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    }

    fn name(&mut self, mut entry: Value, annotations: Value) {
        if annotations != json!({}) {
            entry["annotations"] = annotations;
        }
        self.entries.push(entry);
    }

    fn named(&mut self, entry: Value, name: &str) {
        self.name(entry, json!({"org.opencontainers.image.ref.name": name}));
    }

    fn index(&self) -> Vec<u8> {
        json!({"schemaVersion": 2, "manifests": self.entries})
            .to_string()
            .into_bytes()
    }

    /// The archive, with the index at the end, as a pipe may have it.
    fn tar(&self) -> Vec<u8> {
        self.tar_with(&[])
    }

    fn tar_with(&self, extra: &[(&str, &[u8])]) -> Vec<u8> {
        let names: Vec<String> = self
            .blobs
            .iter()
            .map(|blob| format!("blobs/sha256/{}", Digest::of(blob).hex()))
            .collect();
        let mut list: Vec<(&str, &[u8])> = names
            .iter()
            .map(String::as_str)
            .zip(self.blobs.iter().map(Vec::as_slice))
            .collect();
        let index = self.index();
        list.extend(extra);
        list.push(("index.json", &index));
        list.push(("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#));
        files(&list)
    }

    /// Takes one blob away.
    fn without(mut self, descriptor: &Value) -> Oci {
        self.blobs
            .retain(|blob| descriptor["digest"] != Digest::of(blob).to_string());
        self
    }
}

fn simple_oci() -> Oci {
    let mut oci = Oci::default();
    let image = oci.image("amd64", json!({}));
    oci.named(image, "app:1");
    oci
}

/// A docker-archive of one image with these layers, each by a path.
fn docker(layers: &[(&str, &[u8])], tags: &[&str]) -> Vec<u8> {
    let contents: Vec<&[u8]> = layers.iter().map(|(_, content)| *content).collect();
    let config = config(&contents);
    let config_name = format!("{}.json", Digest::of(&config).hex());
    let paths: Vec<&str> = layers.iter().map(|(path, _)| *path).collect();
    let manifest = json!([{"Config": config_name, "RepoTags": tags, "Layers": paths}]).to_string();
    let mut list: Vec<(&str, &[u8])> = layers.to_vec();
    list.push((&config_name, &config));
    list.push(("manifest.json", manifest.as_bytes()));
    files(&list)
}

// --- import ------------------------------------------------------------------------------------

#[test]
fn a_root_file_system_becomes_an_image_whatever_it_is_compressed_with() {
    let scene = Scene::new();
    let mut seen = None;
    for (format, archive) in compressed(&rootfs()) {
        let image = scene.import(&archive, "base").unwrap();
        assert_eq!(*seen.get_or_insert(image.digest), image.digest, "{format}");
    }
    let image = scene.image("base:latest");
    assert_eq!(image.manifest.layers[0].media_type, media::LAYER_GZIP);
    let history = &image.config.history[0];
    assert_eq!(
        history.created_by.as_deref(),
        Some("imported from rootfs.tar")
    );
    assert_eq!(history.comment.as_deref(), Some("a message"));
    assert_eq!(history.created.as_deref(), Some("2023-11-14T22:13:20Z"));
    scene.verify();
}

#[test]
fn an_imported_layer_is_in_our_own_form() {
    let scene = Scene::new();
    let image = scene.import(&rootfs(), "base").unwrap();
    let blobs = scene.store.layout().blobs();
    let blob = blobs
        .open_unverified(&image.manifest.layers[0].digest)
        .unwrap();
    let mut reader = rstore::layer::TarReader::new(rstore::layer::Decompressor::new(blob).unwrap());
    let mut paths = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        paths.push(String::from_utf8(entry.path).unwrap());
    }
    assert_eq!(paths, ["", "etc", "etc/hostname", "etc/alias", "bin"]);
}

#[test]
fn what_is_no_root_file_system_is_refused_and_the_store_unchanged() {
    let scene = Scene::new();
    scene.import(&rootfs(), "base").unwrap();
    let before = scene.state();
    let whole = rootfs();
    let cut_gzip = &gzip(&whole)[..60];
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty file", vec![], "empty"),
        ("no entries", vec![0; 10240], "empty"),
        (
            "text",
            b"just some text, longer than a block? no\n".to_vec(),
            "not a tar archive",
        ),
        ("long text", b"text ".repeat(300), "not a tar archive"),
        (
            "no end mark",
            whole[..whole.len() - 1024].to_vec(),
            "without an end mark after 5",
        ),
        ("cut in a file", whole[..512 * 3 + 2].to_vec(), "truncated"),
        ("cut gzip", cut_gzip.to_vec(), "read archive (gzip)"),
        ("dot dot", files(&[("a/../../x", b"")]), ".."),
        (
            "hard link out",
            tar(&[("x", Member::Hardlink("../y"))]),
            "..",
        ),
        (
            "hard link to nothing",
            tar(&[("x", Member::Hardlink("y"))]),
            "no such file",
        ),
        ("whiteout", files(&[("etc/.wh.passwd", b"")]), ".wh."),
        (
            "huge claim",
            tar(&[("x", Member::Claims(1 << 32))]),
            "truncated",
        ),
        (
            "root is a link",
            tar(&[(".", Member::Symlink("x"))]),
            "can only be a directory",
        ),
    ];
    for (what, archive, said) in cases {
        let error = scene.import(&archive, "other").expect_err(what).to_string();
        assert!(error.contains(said), "{what}: {error}");
        assert_eq!(scene.state(), before, "{what}");
    }
    let error = scene.import(&whole, "Not A Name").unwrap_err();
    assert!(error.to_string().contains("invalid image name"), "{error}");
    assert_eq!(scene.state(), before);
}

// --- docker-archive ----------------------------------------------------------------------------

#[test]
fn a_docker_archive_keeps_the_image_id_and_compresses_its_layers() {
    let (one, two) = (files(&[("one", b"1")]), files(&[("two", b"2")]));
    let archive = docker(
        &[("a/layer.tar", &one), ("b/layer.tar", &two)],
        &["app", "host/x:2"],
    );
    for (format, archive) in compressed(&archive) {
        let scene = Scene::new();
        let loaded = scene.load(&archive).unwrap();
        assert_eq!(loaded[0].names, ["app:latest", "host/x:2"], "{format}");
        let image = scene.image("app");
        assert_eq!(image.id(), Digest::of(&config(&[&one, &two])));
        assert_eq!(loaded[0].images[0].id, image.id());
        assert_eq!(image.manifest.layers[1].media_type, media::LAYER_GZIP);
        scene.verify();
        assert_eq!(scene.load(&archive).unwrap(), loaded, "again is the same");
    }
}

#[test]
fn layers_shared_by_links_as_old_docker_saved_them_are_found() {
    let layer = files(&[("one", b"1")]);
    let config = config(&[&layer, &layer]);
    let name = format!("{}.json", Digest::of(&config).hex());
    let manifest =
        json!([{"Config": name, "RepoTags": null, "Layers": ["b/layer.tar", "c/layer.tar"]}]);
    let archive = tar(&[
        (
            "manifest.json",
            Member::File(manifest.to_string().as_bytes()),
        ),
        ("repositories", Member::File(b"{}")),
        ("b/", Member::Directory),
        ("b/VERSION", Member::File(b"1.0")),
        ("b/layer.tar", Member::Symlink("../a/layer.tar")),
        (&name, Member::File(&config)),
        ("a/layer.tar", Member::File(&layer)),
        ("c/layer.tar", Member::Hardlink("b/layer.tar")),
    ]);
    let scene = Scene::new();
    let loaded = scene.load(&archive).unwrap();
    assert!(loaded[0].names.is_empty());
    let image = scene.store.image(&loaded[0].digest).unwrap();
    assert_eq!(image.manifest.layers.len(), 2);
    assert_eq!(scene.store.find(&image.id().short()).unwrap(), image.digest);
}

#[test]
fn a_compressed_layer_of_a_docker_archive_stays_as_it_is() {
    let layer = files(&[("one", b"1")]);
    let blob = gzip(&layer);
    let config = config(&[&layer]);
    let config_name = format!("sha256:{}", Digest::of(&config).hex());
    let blob_name = format!("{}.tar.gz", Digest::of(&blob).hex());
    let manifest =
        json!([{"Config": config_name, "RepoTags": ["app:1"], "Layers": [blob_name]}]).to_string();
    let archive = files(&[
        (&config_name, &config),
        (&blob_name, &blob),
        ("manifest.json", manifest.as_bytes()),
    ]);
    let scene = Scene::new();
    scene.load(&archive).unwrap();
    let layer = &scene.image("app:1").manifest.layers[0];
    assert_eq!(layer.digest, Digest::of(&blob));
    assert_eq!(layer.media_type, media::LAYER_GZIP);
}

#[test]
fn a_docker_archive_that_lies_is_refused_with_the_member_s_name() {
    let layer = files(&[("one", b"1")]);
    let other = files(&[("one", b"2")]);
    let good = config(&[&layer]);
    let name = format!("{}.json", Digest::of(&good).hex());
    let manifest = |layers: &[&str]| {
        json!([{"Config": name, "RepoTags": ["app:1"], "Layers": layers}]).to_string()
    };
    let huge = vec![b' '; (16 << 20) + 1];
    let bad_tag = json!([{"Config": name, "RepoTags": ["A b"], "Layers": ["l.tar"]}]).to_string();
    let plain = manifest(&["l.tar"]);
    let file = Member::File;
    let cut = gzip(&layer);
    let mut flipped = gzip(&layer);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    type Case<'a> = (&'a str, Vec<(&'a str, Member<'a>)>, &'a str);
    let two = manifest(&["l.tar", "l.tar"]);
    let out = manifest(&["../../etc/passwd"]);
    let cases: Vec<Case> = vec![
        (
            "wrong diff id",
            vec![
                (&name, file(&good)),
                ("l.tar", file(&other)),
                ("manifest.json", file(plain.as_bytes())),
            ],
            "l.tar: the layer has diff id",
        ),
        (
            "no layer",
            vec![
                (&name, file(&good)),
                ("manifest.json", file(plain.as_bytes())),
            ],
            "l.tar: manifest.json names it",
        ),
        (
            "no config",
            vec![
                ("l.tar", file(&layer)),
                ("manifest.json", file(plain.as_bytes())),
            ],
            ".json: manifest.json names it",
        ),
        (
            "wrong config",
            vec![
                (&name, file(b"{}")),
                ("l.tar", file(&layer)),
                ("manifest.json", file(plain.as_bytes())),
            ],
            "its bytes have digest",
        ),
        (
            "layer count",
            vec![
                (&name, file(&good)),
                ("l.tar", file(&layer)),
                ("manifest.json", file(two.as_bytes())),
            ],
            "the config lists 1 layers, and manifest.json 2",
        ),
        (
            "link loop",
            vec![
                (&name, file(&good)),
                ("l.tar", Member::Symlink("m.tar")),
                ("m.tar", Member::Symlink("l.tar")),
                ("manifest.json", file(plain.as_bytes())),
            ],
            "l.tar: a link that leads to itself",
        ),
        (
            "link out",
            vec![
                (&name, file(&good)),
                ("l.tar", Member::Symlink("../../../etc/passwd")),
                ("manifest.json", file(plain.as_bytes())),
            ],
            "l.tar: manifest.json names it",
        ),
        (
            "path out",
            vec![
                (&name, file(&good)),
                ("manifest.json", file(out.as_bytes())),
            ],
            "\"../../etc/passwd\" leads out",
        ),
        ("member out", vec![("../evil", file(b"x"))], ".."),
        (
            "two layers of one name",
            vec![("l.tar", file(&layer)), ("l.tar", file(&other))],
            "l.tar: two different members",
        ),
        (
            "two manifests",
            vec![
                ("manifest.json", file(b"[]")),
                ("./manifest.json", file(plain.as_bytes())),
            ],
            "manifest.json: two different members",
        ),
        (
            "huge manifest",
            vec![("manifest.json", file(&huge))],
            "more than the 16777216",
        ),
        (
            "claimed manifest",
            vec![("manifest.json", Member::Claims(1 << 33 >> 1))],
            "more than",
        ),
        (
            "no json",
            vec![("manifest.json", file(b"[{"))],
            "manifest.json: ",
        ),
        (
            "nothing named",
            vec![("manifest.json", file(b"[]"))],
            "holds no images",
        ),
        (
            "bad name",
            vec![
                (&name, file(&good)),
                ("l.tar", file(&layer)),
                ("manifest.json", file(bad_tag.as_bytes())),
            ],
            "manifest.json: invalid image name",
        ),
        (
            "layer cut short",
            vec![
                (&name, file(&good)),
                ("l.tar", file(&cut[..cut.len() - 5])),
                ("manifest.json", file(plain.as_bytes())),
            ],
            "l.tar: damaged (gzip)",
        ),
        (
            "layer damaged",
            vec![
                (&name, file(&good)),
                ("l.tar", file(&flipped)),
                ("manifest.json", file(plain.as_bytes())),
            ],
            "l.tar: ",
        ),
    ];
    let scene = Scene::new();
    scene.import(&rootfs(), "base").unwrap();
    for (what, list, said) in cases {
        let error = scene.refused(&tar(&list));
        assert!(error.contains(said), "{what}: {error}");
    }
}

#[test]
fn what_is_no_image_archive_is_refused_with_what_to_do() {
    let scene = Scene::new();
    let (_, gz) = compressed(&docker(&[("l.tar", &files(&[("x", b"x")]))], &["a"])).swap_remove(1);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "the archive is empty"),
        (b"FROM scratch\n".to_vec(), "not a tar archive"),
        (rootfs(), "`rstore import`"),
        (files(&[("dir/manifest.json", b"[]")]), "tar -C dir"),
        (files(&[("index.json", b"{}")]), "no oci-layout"),
        (gz[..gz.len() - 1].to_vec(), "read archive (gzip)"),
        (gz[..gz.len() / 2].to_vec(), "read archive (gzip)"),
    ];
    for (archive, said) in cases {
        let error = scene.refused(&archive);
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn an_archive_cut_anywhere_is_refused_or_whole_and_a_flipped_bit_never_panics() {
    let layer = files(&[("one", b"1")]);
    let docker = docker(&[("l.tar", &layer)], &["app:1"]);
    for archive in [docker, simple_oci().tar()] {
        let scene = Scene::new();
        let whole = scene.load(&archive).unwrap();
        for length in (0..archive.len()).step_by(211) {
            if let Ok(loaded) = Scene::new().load(&archive[..length]) {
                assert_eq!(loaded, whole, "cut at {length}");
            }
        }
        for position in (0..archive.len()).step_by(97) {
            let mut flipped = archive.clone();
            flipped[position] ^= 1 << (position % 8);
            let scene = Scene::new();
            let before = scene.state();
            match scene.load(&flipped) {
                Ok(_) => scene.verify(),
                Err(_) => assert_eq!(scene.state(), before, "flipped at {position}"),
            }
        }
    }
}

// --- oci-archive -------------------------------------------------------------------------------

#[test]
fn an_oci_archive_is_kept_byte_for_byte() {
    let oci = simple_oci();
    for (format, archive) in compressed(&oci.tar_with(&[("extra/junk", b"ignored")])) {
        let scene = Scene::new();
        let loaded = scene.load(&archive).unwrap();
        assert_eq!(loaded[0].names, ["app:1"], "{format}");
        assert_eq!(loaded[0].digest.to_string(), oci.entries[0]["digest"]);
        for blob in &oci.blobs {
            assert!(
                scene
                    .store
                    .layout()
                    .blobs()
                    .path(&Digest::of(blob))
                    .exists()
            );
        }
        assert_eq!(
            scene.state().0.len(),
            oci.blobs.len(),
            "and nothing else is there"
        );
    }
}

#[test]
fn an_index_in_an_index_is_kept_with_all_platforms_and_referrers() {
    let mut oci = Oci::default();
    let (amd, arm) = (oci.image("amd64", json!({})), oci.image("arm64", json!({})));
    let empty = oci.blob("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    let signature = oci.blob("application/x.signature", b"signed".to_vec());
    let referrer = oci.document(
        media::MANIFEST,
        json!({"artifactType": "application/x.signature", "config": empty,
               "layers": [signature], "subject": amd}),
    );
    let inner = oci.document(media::INDEX, json!({"manifests": [amd, arm]}));
    let outer = oci.document(media::INDEX, json!({"manifests": [inner]}));
    oci.name(
        outer,
        json!({"io.containerd.image.name": "docker.io/library/multi:1",
               "org.opencontainers.image.ref.name": "1", "theirs": "kept"}),
    );
    oci.name(referrer.clone(), json!({}));
    let scene = Scene::new();
    let loaded = scene.load(&oci.tar()).unwrap();
    assert_eq!(loaded[0].names, ["multi:1"]);
    let platforms: Vec<String> = loaded[0]
        .images
        .iter()
        .map(|i| i.platform.to_string())
        .collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    assert!(loaded[1].images.is_empty() && loaded[1].names.is_empty());
    assert_eq!(scene.image("multi:1").config.architecture, "amd64");
    let index = String::from_utf8(scene.state().1).unwrap();
    assert!(index.contains(r#""theirs":"kept""#), "{index}");
    assert!(
        index.contains(referrer["digest"].as_str().unwrap()),
        "{index}"
    );
    assert_eq!(scene.state().0.len(), oci.blobs.len());
}

#[test]
fn an_index_with_one_of_its_platforms_gives_that_image_its_name() {
    let mut oci = Oci::default();
    let (amd, arm) = (oci.image("amd64", json!({})), oci.image("arm64", json!({})));
    let index = oci.document(media::INDEX, json!({"manifests": [amd, arm]}));
    oci.named(index, "multi:1");
    let oci = oci.without(&arm);
    let scene = Scene::new();
    let loaded = scene.load(&oci.tar()).unwrap();
    assert_eq!(loaded[0].digest.to_string(), amd["digest"]);
    assert_eq!(loaded[0].absent, ["linux/arm64"]);
    scene.image("multi:1");
}

#[test]
fn docker_s_newer_archive_is_a_layout_whose_manifest_json_only_names() {
    let mut oci = Oci::default();
    let image = oci.image("amd64", json!({}));
    let config = oci.blobs[1].clone();
    oci.name(image, json!({}));
    let config_path = format!("blobs/sha256/{}", Digest::of(&config).hex());
    let layer_path = format!("blobs/sha256/{}", Digest::of(&oci.blobs[0]).hex());
    let manifest =
        json!([{"Config": config_path, "RepoTags": ["new:1"], "Layers": [layer_path]}]).to_string();
    let scene = Scene::new();
    let loaded = scene
        .load(&oci.tar_with(&[("manifest.json", manifest.as_bytes())]))
        .unwrap();
    assert_eq!(loaded[0].names, ["new:1"]);
    assert_eq!(loaded[0].digest.to_string(), oci.entries[0]["digest"]);

    // Without the index it is a docker-archive, wherever its files are.
    let files: Vec<(&str, &[u8])> = vec![
        (&layer_path, &oci.blobs[0]),
        (&config_path, &config),
        ("manifest.json", manifest.as_bytes()),
    ];
    let again = Scene::new().load(&self::files(&files)).unwrap();
    assert_eq!(again[0].images[0].id, loaded[0].images[0].id);
}

#[test]
fn a_tag_without_a_repository_takes_the_caller_s_name_or_none() {
    let mut oci = Oci::default();
    let image = oci.image("amd64", json!({}));
    oci.named(image, "latest");
    let scene = Scene::new();
    let loaded = scene.load(&oci.tar()).unwrap();
    assert!(loaded[0].names.is_empty());
    assert_eq!(loaded[0].called.as_deref(), Some("latest"));
    let id = loaded[0].images[0].id;
    assert_eq!(scene.store.find(&id.hex()).unwrap(), loaded[0].digest);
    let index: Value = serde_json::from_slice(&scene.state().1).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    assert!(index["manifests"][0].get("annotations").is_none());

    let named = scene.load_named(&oci.tar(), Some("host/app")).unwrap();
    assert_eq!(named[0].names, ["host/app:latest"]);
    let index: Value = serde_json::from_slice(&scene.state().1).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
}

#[test]
fn one_name_is_given_to_one_image() {
    let mut oci = Oci::default();
    let (one, two) = (oci.image("amd64", json!({})), oci.image("arm64", json!({})));
    oci.name(one.clone(), json!({}));
    oci.name(two.clone(), json!({}));
    let scene = Scene::new();
    let error = scene.load_named(&oci.tar(), Some("app")).unwrap_err();
    assert!(
        error.to_string().contains("several images without a name"),
        "{error}"
    );
    assert_eq!(scene.load(&oci.tar()).unwrap().len(), 2);
    oci.entries.clear();
    oci.named(one, "app:1");
    oci.named(two, "docker.io/library/app:1");
    let error = Scene::new().refused(&oci.tar());
    assert!(
        error.contains("two images of the archive are called"),
        "{error}"
    );
}

#[test]
fn an_oci_archive_that_lies_is_refused_with_the_member_s_name() {
    let scene = Scene::new();
    scene.import(&rootfs(), "base").unwrap();
    let check = |what: &str, archive: Vec<u8>, said: &str| {
        let error = scene.refused(&archive);
        assert!(error.contains(said), "{what}: {error}");
    };
    for (number, what) in ["layer", "config", "manifest"].into_iter().enumerate() {
        let oci = simple_oci();
        let missing = descriptor("", &oci.blobs[number]);
        let path = format!("blobs/sha256/{}", Digest::of(&oci.blobs[number]).hex());
        check(what, oci.without(&missing).tar(), &format!("{path}: "));
        let wrong: &[(&str, &[u8])] = &[(&path, b"other bytes")];
        check(
            what,
            simple_oci().tar_with(wrong),
            &format!("{path}: its bytes have digest"),
        );
    }
    let mut oci = simple_oci();
    oci.entries[0]["size"] = 5.into();
    check("size", oci.tar(), "index.json says 5");
    let mut oci = simple_oci();
    oci.entries[0]["digest"] = format!("sha512:{}", "ab".repeat(64)).into();
    check("sha512", oci.tar(), "other than sha256");
    let mut oci = simple_oci();
    oci.entries[0]["mediaType"] = media::INDEX.into();
    check("type", oci.tar(), "ambiguous document");
    let mut oci = Oci::default();
    let both = oci.document(
        media::MANIFEST,
        json!({"manifests": [], "config": {}, "layers": []}),
    );
    oci.named(both, "app:1");
    check(
        "both",
        oci.tar(),
        "members of a manifest and those of an index",
    );
    let mut oci = Oci::default();
    let config = oci.blob(media::CONFIG, config(&[b"x", b"y"]));
    let manifest = oci.document(media::MANIFEST, json!({"config": config, "layers": []}));
    oci.named(manifest, "app:1");
    check("layers", oci.tar(), "the config lists 2 layers");
    check("empty", Oci::default().tar(), "its index is empty");
    let layout = files(&[("index.json", &simple_oci().index()), ("oci-layout", b"{}")]);
    check(
        "version",
        layout,
        "oci-layout: it names no imageLayoutVersion",
    );
}

#[test]
fn a_cache_key_that_a_foreign_image_claims_makes_no_cache_record() {
    let mut oci = Oci::default();
    let key = Digest::of(b"RUN apt-get install");
    let image = oci.image(
        "amd64",
        json!({"annotations": {"dev.rstore.key": key.to_string()}}),
    );
    oci.named(image, "evil:1");
    let scene = Scene::new();
    scene.load(&oci.tar()).unwrap();
    assert!(scene.lease().cached(&key).unwrap().is_none());
}

#[test]
fn many_blobs_wait_without_a_descriptor_each() {
    let mut oci = simple_oci();
    let image = oci.entries[0].clone();
    let mut children = vec![image];
    for number in 0..1500 {
        let media_type = "application/x.data";
        children.push(oci.blob(media_type, format!("data {number}").into_bytes()));
    }
    let index = oci.document(media::INDEX, json!({"manifests": children}));
    oci.entries.clear();
    oci.named(index, "many:1");
    assert_eq!(Scene::new().load(&oci.tar()).unwrap()[0].images.len(), 1);
}

// --- layout directories, and peers -------------------------------------------------------------

/// Whether a peer is there; says so loudly if it isn't.
fn peer(name: &str) -> bool {
    let found = Command::new(name).arg("--version").output().is_ok();
    if !found {
        let strict = std::env::var_os("RSTORE_TEST_NO_SKIP").is_some_and(|v| v == "1");
        assert!(
            !strict,
            "{name} is not installed, and nothing may be skipped"
        );
        eprintln!("SKIP: {name} is not installed");
    }
    found
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn skopeo(from: &str, to: &str) {
    run("skopeo", &["--insecure-policy", "copy", "-q", from, to]);
}

/// A store with an image of two layers, loaded as `app:1`. They are gzip: the skopeo of Debian 12
/// makes no docker-archive of zstd layers.
fn source() -> (Scene, Image) {
    let scene = Scene::new();
    let layers = [files(&[("etc/one", b"1")]), files(&[("etc/two", b"2")])];
    let archive = docker(&[("a.tar", &layers[0]), ("b.tar", &layers[1])], &["app:1"]);
    let options = LoadOptions {
        compression: Compression::Gzip(6),
        ..LoadOptions::default()
    };
    archive::load(&scene.lease(), Pipe(&archive), &options).unwrap();
    let image = scene.image("app:1");
    (scene, image)
}

fn diff_ids(image: &Image) -> Vec<Digest> {
    image.config.rootfs.diff_ids.clone()
}

#[test]
fn skopeo_s_docker_archive_and_oci_archive_are_loaded() {
    if !peer("skopeo") {
        return;
    }
    let (scene, image) = source();
    let store = format!("oci:{}:app:1", scene.store.root().display());
    let (docker, oci) = (scene.path("docker.tar"), scene.path("oci.tar"));
    skopeo(
        &store,
        &format!("docker-archive:{}:copy:2", docker.display()),
    );
    skopeo(&store, &format!("oci-archive:{}:copy:3", oci.display()));
    let target = Scene::new();
    let loaded = target.load_path(&docker, None).unwrap();
    assert_eq!(loaded[0].names, ["copy:2"]);
    assert_eq!(diff_ids(&target.image("copy:2")), diff_ids(&image));
    let loaded = target.load(&gzip(&std::fs::read(&oci).unwrap())).unwrap();
    assert_eq!(loaded[0].names, ["copy:3"]);
    assert_eq!(target.image("copy:3").digest, image.digest);
    target.verify();
    let name = format!("oci:{}:copy:2", target.store.root().display());
    run("skopeo", &["inspect", &name]);
}

#[test]
fn podman_s_archives_of_several_images_are_loaded() {
    if !peer("podman") || !peer("skopeo") {
        return;
    }
    let (scene, image) = source();
    let gzip = ImportOptions {
        compression: Compression::Gzip(6),
        ..options("base:1")
    };
    archive::import(&scene.lease(), Pipe(&rootfs()), &gzip).unwrap();
    let (graph, runtime) = (scene.path("graph"), scene.path("run"));
    let podman = |arguments: &[&str]| {
        let mut all = vec![
            "--root",
            graph.to_str().unwrap(),
            "--runroot",
            runtime.to_str().unwrap(),
        ];
        all.extend(["--storage-driver", "vfs"]);
        all.extend(arguments);
        run("podman", &all);
    };
    for name in ["app:1", "base:1"] {
        let archive = scene.path("one.tar");
        let _ = std::fs::remove_file(&archive);
        let from = format!("oci:{}:{name}", scene.store.root().display());
        skopeo(
            &from,
            &format!("docker-archive:{}:{name}", archive.display()),
        );
        podman(&["load", "-q", "-i", archive.to_str().unwrap()]);
    }
    let (many, one) = (scene.path("many.tar"), scene.path("one.oci.tar"));
    podman(&[
        "save",
        "-q",
        "-m",
        "-o",
        many.to_str().unwrap(),
        "app:1",
        "base:1",
    ]);
    podman(&[
        "save",
        "-q",
        "--format",
        "oci-archive",
        "-o",
        one.to_str().unwrap(),
        "app:1",
    ]);
    let target = Scene::new();
    let loaded = target.load_path(&many, None).unwrap();
    assert_eq!(loaded.len(), 2);
    let name = &loaded[0].names[0];
    assert_eq!(diff_ids(&target.image(name)), diff_ids(&image), "{name}");
    let loaded = target.load_path(&one, Some("other:9")).unwrap();
    assert_eq!(loaded[0].names.len(), 1, "{loaded:?}");
    target.verify();
}

#[test]
fn umoci_s_layout_directory_is_loaded_and_left_alone() {
    if !peer("umoci") {
        return;
    }
    let scene = Scene::new();
    let layout = scene.path("layout");
    let path = layout.to_str().unwrap();
    run("umoci", &["init", "--layout", path]);
    run("umoci", &["new", "--image", &format!("{path}:v1")]);
    let before: Vec<_> = walkdir::WalkDir::new(&layout)
        .into_iter()
        .flatten()
        .map(|e| e.into_path())
        .collect();
    let loaded = scene.load_path(&layout, Some("made")).unwrap();
    assert_eq!(loaded[0].names, ["made:v1"]);
    let after: Vec<_> = walkdir::WalkDir::new(&layout)
        .into_iter()
        .flatten()
        .map(|e| e.into_path())
        .collect();
    assert_eq!(after, before);
    scene.image("made:v1");
}

#[test]
fn a_layout_directory_that_lies_is_refused() {
    let scene = Scene::new();
    let (source, image) = source();
    let root = source.store.root();
    let layer = &image.manifest.layers[0].digest;
    let blob = source.store.layout().blobs().path(layer);
    let refused = |said: &str| {
        let before = scene.state();
        let error = scene.load_path(root, None).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert_eq!(scene.state(), before);
    };
    let bytes = std::fs::read(&blob).unwrap();
    std::fs::write(&blob, b"torn").unwrap();
    refused("its bytes have digest");
    std::fs::remove_file(&blob).unwrap();
    refused("is the archive complete?");
    std::fs::create_dir(&blob).unwrap();
    refused("it is not a regular file");
    std::fs::remove_dir(&blob).unwrap();
    run("mkfifo", &[blob.to_str().unwrap()]);
    refused("it is not a regular file");
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, bytes).unwrap();
    assert_eq!(scene.load_path(root, None).unwrap()[0].names, ["app:1"]);
    std::fs::remove_file(root.join("oci-layout")).unwrap();
    refused("it has no oci-layout");
}

#[test]
fn a_missing_file_is_told_by_its_path() {
    let scene = Scene::new();
    let error = scene
        .load_path(&scene.path("nothing.tar"), None)
        .unwrap_err();
    assert!(error.to_string().contains("nothing.tar"), "{error}");
}

#[test]
fn a_document_is_read_by_the_time_that_a_prune_can_see_it() {
    use rstore::catalog::BlobKind;
    use rstore::graph::{ImageGraph, NodeSet};
    let scene = Scene::new();
    let config = config(&[]);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::MANIFEST,
        "config": descriptor(media::CONFIG, &config), "layers": [],
    });
    let manifest = manifest.to_string().into_bytes();
    let lease = scene.lease();
    for (bytes, kind, media_type) in [
        (&config, BlobKind::Config, media::CONFIG),
        (&manifest, BlobKind::Manifest, media::MANIFEST),
    ] {
        let digest = Digest::of(bytes);
        lease.document(bytes, &digest, kind, media_type).unwrap();
    }
    // Here a pull or a load goes on to take it in; a prune that comes first must not be stopped.
    let (layout, catalog) = (scene.store.layout(), scene.store.catalog());
    let graph = ImageGraph::load(catalog).unwrap();
    let roots = rstore::gc::collect_roots(layout, &graph, 0, 0).unwrap();
    let reachable = rstore::gc::mark(&graph, &roots, &NodeSet::of(&graph)).unwrap();
    for bytes in [&config, &manifest] {
        let node = graph.find(&Digest::of(bytes)).unwrap();
        assert!(reachable.contains(node));
    }
}

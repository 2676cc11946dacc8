//! `cargo run --example synthetic_store -- DIRECTORY [IMAGES] [INTERMEDIATES]`: an OCI image
//! layout as a busy build host's becomes, for measuring what looks into one.
//!
//! ```text
//! 40 bases of 5 layers ──▶ chains of intermediate images, a layer more each ──▶ tagged image
//!                                    1 chain in 21 has lost its tag: dangling
//! ```
//! By default 10,000 tagged images and 100,000 intermediates of some 10 layers each; the layers
//! are small files that are no archives, which nothing that looks at a store reads. The same
//! arguments give the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rstore::oci::Digest;
use rstore::oci::document::{CONTAINERD_NAME, PARENT, REF_NAME, STEP};
use serde_json::{Value, json};

/// How many base images there are, and how many layers each has.
const BASES: usize = 40;
const BASE_LAYERS: usize = 5;
/// For so many chains with a tag there is one without: dangling.
const DANGLING: usize = 20;

/// A blob as a document points at it.
#[derive(Clone)]
struct Blob {
    digest: Digest,
    size: usize,
}

impl Blob {
    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.size })
    }
}

#[derive(Clone)]
struct Layer {
    blob: Blob,
    diff_id: Digest,
    created_by: String,
}

struct Layout {
    blobs: PathBuf,
    index: Vec<Value>,
    images: usize,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

impl Layout {
    fn create(root: &Path) -> Layout {
        let blobs = root.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("create the layout's directory");
        fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("write oci-layout");
        Layout {
            blobs,
            index: Vec::new(),
            images: 0,
        }
    }

    fn put(&self, bytes: &[u8]) -> Blob {
        let digest = Digest::of(bytes);
        fs::write(self.blobs.join(digest.hex()), bytes).expect("write a blob");
        Blob {
            digest,
            size: bytes.len(),
        }
    }

    fn layer(&self, name: &str, created_by: String) -> Layer {
        Layer {
            // Some are larger than a block, so that sizes differ.
            blob: self.put(name.repeat(1 + name.len() * name.len() % 97).as_bytes()),
            diff_id: Digest::of(format!("diff {name}").as_bytes()),
            created_by,
        }
    }

    /// An image of `layers`; its step and parent are annotations of the manifest.
    fn image(&mut self, layers: &[Layer], step: &str, parent: Option<&Blob>) -> Blob {
        let time = |second: usize| {
            let minute = second / 60;
            format!(
                "2026-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                1 + minute / 60 / 24 / 28 % 12,
                1 + minute / 60 / 24 % 28,
                minute / 60 % 24,
                minute % 60,
                second % 60
            )
        };
        let created = time(self.images * 7);
        self.images += 1;
        let history: Vec<Value> = layers
            .iter()
            .map(|layer| json!({ "created": created, "created_by": layer.created_by }))
            .collect();
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
        let config = json!({
            "created": created,
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["/bin/sh"],
                "Labels": { "team": format!("team{}", self.images % 12) },
            },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": history,
        });
        let config = self.put(config.to_string().as_bytes());
        let mut annotations = BTreeMap::from([(STEP, step.to_owned())]);
        if let Some(parent) = parent {
            annotations.insert(PARENT, parent.digest.to_string());
        }
        let descriptors: Vec<Value> = layers.iter().map(|l| l.blob.descriptor(LAYER)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": descriptors,
            "annotations": annotations,
        });
        self.put(manifest.to_string().as_bytes())
    }

    fn tag(&mut self, image: &Blob, name: &str) {
        let mut descriptor = image.descriptor(MANIFEST);
        descriptor["annotations"] =
            json!({ REF_NAME: name, CONTAINERD_NAME: format!("docker.io/library/{name}") });
        self.index.push(descriptor);
    }

    fn finish(self, root: &Path) {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": self.index,
        });
        fs::write(root.join("index.json"), index.to_string()).expect("write index.json");
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let usage = "synthetic_store DIRECTORY [IMAGES] [INTERMEDIATES]";
    let root = PathBuf::from(arguments.next().expect(usage));
    let mut number = |default: usize| {
        arguments
            .next()
            .map_or(default, |text| text.parse().expect(usage))
    };
    let (images, intermediates) = (number(10_000), number(100_000));
    assert!(!root.exists(), "{} is there already", root.display());
    let mut layout = Layout::create(&root);

    let mut bases = Vec::new();
    for base in 0..BASES.min(images) {
        let layers: Vec<Layer> = (0..BASE_LAYERS)
            .map(|n| layout.layer(&format!("base {base} {n}"), format!("ADD rootfs{n}.tar /")))
            .collect();
        let image = layout.image(&layers, "ADD rootfs.tar /", None);
        layout.tag(&image, &format!("base{base}:latest"));
        bases.push((image, layers));
    }
    let tagged = images - bases.len();
    let chains = tagged + tagged / DANGLING;
    for chain in 0..chains {
        // The remainder is spread, so that chains are of unlike length.
        let steps = intermediates * (chain + 1) / chains - intermediates * chain / chains;
        let (base, mut layers) = bases[chain % bases.len()].clone();
        let mut parent = base;
        for step in 0..=steps {
            let text = format!("RUN make part-{chain}-{step}");
            // Half of the steps change the configuration only.
            if step % 2 == 0 {
                layers.push(layout.layer(&format!("step {chain} {step}"), text.clone()));
            }
            parent = layout.image(&layers, &text, Some(&parent));
        }
        // The last chains' names were given to later images, as it were.
        if chain < tagged {
            let name = format!("team{}/app{chain}:1.{}", chain % 12, chain % 7);
            layout.tag(&parent, &name);
        }
    }
    let (made, tags) = (layout.images, layout.index.len());
    layout.finish(&root);
    println!("{made} images, {tags} tags in {}", root.display());
}

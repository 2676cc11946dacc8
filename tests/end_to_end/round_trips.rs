//! rstore → another tool → rstore, by each form in which images travel, gzip, zstd and uncompressed.
//!
//! | by | skopeo | podman | buildah | umoci |
//! |---|---|---|---|---|
//! | `oci:` | same digest | same ID | same ID | same layers |
//! | `oci-archive:` | same digest | same ID | same ID | |
//! | `docker-archive:` | same ID | same ID | same ID | |
//! | `docker://` | same digest | same ID | same ID | |
//! | `docker://`, docker's schema 2 | same ID | same ID | same ID | |
//!
//! podman and buildah unpack images and pack them again, so that their manifests are their own; the
//! ID, and with it every diff ID, which is every file, must be the one that it was.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::need::program;
use crate::support::peers::policy;
use crate::support::registry::{Door, Registry};
use crate::support::tree;
use crate::support::{Context, Need, Rstore, run, scratch, skip_without};

use super::save::{files, untarred};

/// How images travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Oci,
    OciArchive,
    DockerArchive,
    Registry,
    /// A registry, in docker's own media types.
    Schema2,
}

const FORMS: [Form; 5] = [
    Form::Oci,
    Form::OciArchive,
    Form::DockerArchive,
    Form::Registry,
    Form::Schema2,
];
const COMPRESSIONS: [&str; 3] = ["gzip", "zstd", "none"];

/// One way there and back.
struct Trip<'a> {
    store: &'a Rstore,
    registry: &'a Registry,
    directory: tempfile::TempDir,
    form: Form,
    /// Of the image.
    name: &'a str,
}

impl Trip<'_> {
    fn at(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// A command in the trip's directory: to podman a path with capitals is no name.
    fn here(&self, mut command: Command) -> Command {
        command.current_dir(self.directory.path());
        command
    }

    /// What everybody calls the place: `which` is `there` or `back`.
    fn place(&self, which: &str) -> String {
        let name = self.name;
        match self.form {
            Form::Oci => format!("oci:{which}:{name}"),
            Form::OciArchive => format!("oci-archive:{which}:{name}"),
            Form::DockerArchive => format!("docker-archive:{which}:{name}"),
            Form::Registry | Form::Schema2 => {
                format!(
                    "docker://{}",
                    self.registry.name(&format!("{which}/{name}"))
                )
            }
        }
    }

    /// Writes the image to where the tool takes it from.
    fn leave(&self) {
        let source = format!("store:{}", self.name);
        let mut copy = self.here(self.store.command());
        run(copy.args(["copy", "-q", &source, &self.place("there")]));
    }

    /// Takes it in from where the tool has put it, in a store of its own.
    fn return_to(&self) -> Rstore {
        let store = Rstore::new();
        let target = format!("store:{}", self.name);
        let mut copy = self.here(store.command());
        run(copy.args(["copy", "-q", &self.place("back"), &target]));
        store.verify();
        store
    }
}

/// Images of one base, by compression: changed, removed, linked and special files.
fn images() -> Rstore {
    let store = Rstore::with_gzip_base();
    let context = Context::new(
        "FROM base\nWORKDIR /work\nCOPY file .\nRUN ln file hard && mkfifo pipe && ln -s file link \\\n\
         && chown 5:6 file && chmod 4750 file && mkdir -m 1777 sticky && touch gone\n\
         RUN rm gone && rm -r /usr/sbin && mkdir /usr/sbin && touch /usr/sbin/fresh && rm /bin/yes\n\
         ENV A=\"b c\"\nENTRYPOINT [\"/bin/sh\", \"-c\"]\n",
    );
    context.file("file", vec![7; 20_000]);
    for compression in COMPRESSIONS {
        let name = format!("{compression}:1");
        store.build(context.path(), &["-t", &name, "--compression", compression]);
    }
    store
}

/// Goes all ways with one tool. `carry` brings an image from one place to another.
fn go(
    tool: &str,
    compressions: &[&str],
    carry: impl Fn(&Trip, &str, &str) -> Output,
    same_digest: impl Fn(Form) -> bool,
) {
    let registry = Registry::start(Door::Open);
    let store = images();
    for form in FORMS {
        for compression in compressions {
            let name = format!("{compression}:1");
            let trip = Trip {
                store: &store,
                registry: &registry,
                directory: scratch(),
                form,
                name: &name,
            };
            let what = format!("{tool}, {form:?}, {compression}");
            trip.leave();
            let carried = carry(&trip, &trip.place("there"), &trip.place("back"));
            let told = String::from_utf8_lossy(&carried.stderr).into_owned();
            assert!(carried.status.success(), "{what}: {told}");
            let back = trip.return_to();
            assert_eq!(back.id(&name), store.id(&name), "{what}");
            if same_digest(form) {
                assert_eq!(back.digest(&name), store.digest(&name), "{what}");
            }
            if form == Form::Schema2 {
                let kind = back.manifest(&name)["mediaType"].clone();
                assert_eq!(
                    kind, "application/vnd.docker.distribution.manifest.v2+json",
                    "{what}"
                );
                // As it is it goes on.
                let again = trip.registry.name(&format!("again/{name}"));
                back.ok(["push", "-q", &name, &again]);
                let third = Rstore::new();
                third.ok(["pull", "-q", &again]);
                assert_eq!(third.digest(&again), back.digest(&name), "{what}");
            }
        }
    }
}

#[test]
fn skopeo_brings_back_what_it_was_given() {
    if skip_without(&["docker-registry", "skopeo"].map(Need::Program))
        || skip_without(&[Need::Root])
    {
        return;
    }
    let carry = |trip: &Trip, from: &str, to: &str| {
        let mut skopeo = trip.here(program("skopeo"));
        skopeo.arg("--policy").arg(policy()).args(["copy", "-q"]);
        skopeo.args(["--src-tls-verify=false", "--dest-tls-verify=false"]);
        if trip.form == Form::Schema2 {
            skopeo.args(["--format", "v2s2"]);
        }
        skopeo.args([from, to]).output().expect("skopeo runs")
    };
    let same = |form| matches!(form, Form::Oci | Form::OciArchive | Form::Registry);
    go("skopeo", &COMPRESSIONS, carry, same);
}

/// podman or buildah, with storage in the trip's directory.
fn with_storage(tool: &str, trip: &Trip, from: &str, to: &str) -> Output {
    let command = |arguments: &[&str]| -> Command {
        let mut command = trip.here(program(tool));
        command.args(["--root", &trip.at("root"), "--runroot", &trip.at("run")]);
        command.args(["--storage-driver", "vfs"]).args(arguments);
        command
    };
    let policy = format!("--signature-policy={}", policy().display());
    let pull = ["pull", "-q", &policy, "--tls-verify=false", from];
    let pulled = command(&pull).output().expect("it runs");
    if !pulled.status.success() {
        return pulled;
    }
    let id = String::from_utf8_lossy(&pulled.stdout).trim().to_owned();
    let mut push = vec!["push", "-q", &policy, "--tls-verify=false"];
    match trip.form {
        Form::Schema2 => push.extend(["--format", "v2s2"]),
        Form::Registry => push.extend(["--format", "oci"]),
        _ => {}
    }
    push.extend([id.as_str(), to]);
    command(&push).output().expect("it runs")
}

#[test]
fn podman_brings_back_what_it_was_given() {
    if skip_without(&["docker-registry", "podman"].map(Need::Program))
        || skip_without(&[Need::Root])
    {
        return;
    }
    let carry = |trip: &Trip, from: &str, to: &str| with_storage("podman", trip, from, to);
    go("podman", &COMPRESSIONS, carry, |_| false);
}

#[test]
fn buildah_brings_back_what_it_was_given() {
    if skip_without(&["docker-registry", "buildah"].map(Need::Program))
        || skip_without(&[Need::Root])
    {
        return;
    }
    let carry = |trip: &Trip, from: &str, to: &str| with_storage("buildah", trip, from, to);
    // Its code for images is podman's.
    go("buildah", &["zstd"], carry, |_| false);
}

#[test]
fn umoci_changes_an_image_and_its_layers_and_files_stay() {
    if skip_without(&[Need::Root, Need::Program("umoci"), Need::Program("tar")]) {
        return;
    }
    let store = images();
    for compression in ["gzip", "none"] {
        let name = format!("{compression}:1");
        let directory = scratch();
        let layout = directory.path().join("layout");
        let place = format!("oci:{}:{name}", layout.display());
        store.ok(["copy", "-q", &format!("store:{name}"), &place]);
        let image = format!("{}:{name}", layout.display());
        let mut umoci = program("umoci");
        umoci.args(["config", "--image", &image, "--tag", "changed"]);
        run(umoci.args(["--config.label", "by=umoci"]));
        let back = Rstore::new();
        let changed = format!("oci:{}:changed", layout.display());
        back.ok(["copy", "-q", &changed, &format!("store:{name}")]);
        assert_eq!(back.config(&name)["config"]["Labels"]["by"], "umoci");
        assert_eq!(back.config(&name)["rootfs"], store.config(&name)["rootfs"]);
        assert_eq!(back.layers(&name), store.layers(&name));

        // Unpacked and packed again by umoci, the files are those that we export.
        let (ours, theirs) = (directory.path().join("ours.tar"), directory.path());
        store.ok(["export", &name, "-o", ours.to_str().expect("UTF-8")]);
        tree::assert_same(&untarred(&ours), &files(&theirs.join("layout"), "changed"));
        repacked(&layout, &back);
    }
}

/// umoci adds a layer to the image `changed`; rstore sees the file.
fn repacked(layout: &Path, back: &Rstore) {
    let file = layout.join("../added");
    std::fs::write(&file, "by umoci").expect("a file");
    let mut umoci = program("umoci");
    let image = format!("{}:changed", layout.display());
    umoci.args(["insert", "--image", &image]).arg(&file);
    run(umoci.arg("/work/added"));
    let changed = format!("oci:{}:changed", layout.display());
    back.ok(["copy", "-q", &changed, "store:added"]);
    assert_eq!(back.ok(["cat", "added", "/work/added"]), "by umoci");
    back.verify();
}

//! A store with something of everything in it, commands that change it, and what must hold after.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{BASE, Context, Finished, Rstore, busybox_tar, machine, scratch};

/// The tag that the commands make.
pub const VICTIM: &str = "victim:latest";

/// What is needed to make stores that are all the same.
pub struct Scenario {
    directory: tempfile::TempDir,
    /// The blobs of an image that only a pin keeps.
    pinned: Vec<String>,
}

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Prune,
    /// Of an image that nothing else needs.
    Remove,
    Tag,
    Build,
    Import,
    Load,
}

impl Scenario {
    /// Two images with names, one of them built; one that lost its name to another; a pin.
    pub fn new() -> Scenario {
        let mut scenario = Scenario {
            directory: scratch(),
            pinned: Vec::new(),
        };
        let store = Rstore::at(&scenario.template());
        fs::create_dir_all(scenario.path("rootfs/etc")).unwrap();
        fs::write(scenario.path("rootfs/etc/name"), vec![b'n'; 5_000]).unwrap();
        store.import(busybox_tar(), BASE);
        // As `load` takes it: a layout in a tar.
        let other = Rstore::at(&scenario.path("other"));
        fs::write(scenario.path("rootfs/etc/other"), vec![b'o'; 9_000]).unwrap();
        tar_of(
            &scenario.path("rootfs"),
            &scenario.path("import.tar"),
            &["etc"],
        );
        other.import(&scenario.path("import.tar"), VICTIM);
        let members = ["oci-layout", "index.json", "blobs"];
        tar_of(other.root(), &scenario.path("load.tar"), &members);

        let copy = |text: &str| {
            let context = Context::new("FROM base\nCOPY file /file\nLABEL a=b\nCOPY file /again\n");
            context.file("file", text.repeat(2_000).into_bytes());
            context
        };
        store.build(copy("old").path(), &["-t", "kept"]);
        store.build(copy("new").path(), &["-t", "kept"]);
        store.build(copy("pinned").path(), &["-t", "pinned"]);
        store.ok(["pin", "pinned"]);
        scenario.pinned = store.layers("pinned:latest");
        let documents = [store.digest("pinned:latest"), store.id("pinned:latest")];
        scenario.pinned.extend(documents);
        store.ok(["untag", "pinned"]);
        scenario
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn template(&self) -> PathBuf {
        self.path("template")
    }

    /// The store as every command finds it, in a place of its own.
    pub fn store(&self) -> Rstore {
        let store = Rstore::new();
        copy_tree(&self.template(), store.root());
        store
    }

    /// A command on such a store.
    pub fn command(&self, store: &Rstore, verb: Verb) -> Command {
        let mut command = store.command();
        match verb {
            Verb::Prune => command.args(["prune", "--all", "--force"]),
            Verb::Remove => command.args(["rmi", "kept"]),
            Verb::Tag => command.args(["tag", "kept", VICTIM]),
            Verb::Build => command
                .args(["build", "--progress", "classic", "-t", VICTIM])
                .arg(self.context()),
            Verb::Import => command
                .arg("import")
                .arg(self.path("import.tar"))
                .arg(VICTIM),
            Verb::Load => command.arg("load").arg("-i").arg(self.path("load.tar")),
        };
        command
    }

    /// What only a pin keeps is kept.
    pub fn assert_pinned(&self, store: &Rstore, what: &str) {
        for digest in &self.pinned {
            assert!(
                store.blob(digest).exists(),
                "{what}: the pinned {digest} is gone"
            );
        }
    }

    fn context(&self) -> PathBuf {
        let context = self.path("context");
        // Made once: what is built must be the same each time.
        if !context.exists() {
            fs::create_dir_all(&context).unwrap();
            fs::write(context.join("file"), vec![b'f'; 20_000]).unwrap();
            let text = "FROM base AS one\nCOPY file /file\nFROM base\nENV A=b\n\
                        COPY --from=one /file /file\nRUN cat /file /file > /both\nCOPY file again\n";
            fs::write(context.join("Dockerfile"), text).unwrap();
        }
        context
    }
}

/// Runs a command to its end.
pub fn finish(mut command: Command) -> Finished {
    let output = command.output().expect("rstore runs");
    Finished::new(&command, &output)
}

/// Packs members of a directory into a tar.
pub fn tar_of(directory: &Path, file: &Path, members: &[&str]) {
    let mut builder = tar::Builder::new(fs::File::create(file).unwrap());
    for member in members {
        let path = directory.join(member);
        match path.is_dir() {
            true => builder.append_dir_all(member, &path).unwrap(),
            false => builder.append_path_with_name(&path, member).unwrap(),
        }
    }
    builder.finish().unwrap();
}

/// Copies files and directories; a store without snapshots has nothing else.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// What must hold at every moment: `fsck` finds nothing wrong, and the names are what they were,
/// but for that which the command makes.
pub fn assert_sound(store: &Rstore, before: &Rstore, what: &str) {
    let checked = store.run(["fsck", "--format", "json"]);
    assert_eq!(checked.code, 0, "{what}: {checked}");
    let report: serde_json::Value = serde_json::from_str(&checked.stdout).expect("JSON");
    for finding in report["findings"].as_array().expect("findings") {
        assert_ne!(finding["kind"], "missing", "{what}: {finding}");
    }
    let mut tags = store.tags();
    if tags.remove(VICTIM).is_some() {
        store.whole(VICTIM);
    }
    assert_eq!(tags, before.tags(), "{what}");
    for tag in tags.keys() {
        store.whole(tag);
    }
}

/// What must hold after a prune besides: every byte is explained.
pub fn assert_tidy(store: &Rstore, what: &str) {
    assert_eq!(store.debris(), Vec::<PathBuf>::new(), "{what}");
    let df = store.json(&["df"]);
    assert_eq!(
        df["total"],
        machine::allocated(store.root()),
        "{what}: {df:#}"
    );
    for row in df["rows"].as_array().expect("rows") {
        if row["type"] == "unaccounted" || row["type"] == "temporary" {
            assert_eq!(row["size"], 0, "{what}: {df:#}");
        }
    }
}

//! Builds that need no process: COPY, metadata, stages, the cache.

mod cache;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::executor::{Cancel, Executor, Outcome, Step, Stream};
use crate::layer::{Decompressor, TarReader};
use crate::store::{Host, OpenMode, Store};

/// Whether images can be mounted here: as root. CI sets RSTORE_TEST_NO_SKIP, and skips nothing.
pub(super) fn may_mount() -> bool {
    let may = rustix::process::geteuid().is_root();
    if !may {
        let why = "mounting a view of an image needs root";
        assert!(
            std::env::var_os("RSTORE_TEST_NO_SKIP").is_none(),
            "may not skip: {why}"
        );
        eprintln!("SKIP: {why}");
    }
    may
}

/// A machine whose clock moves a second at each look.
struct TestHost(AtomicU64);

impl Host for TestHost {
    fn now(&self) -> i64 {
        // Well after the files of the context, which real clocks stamped.
        4_000_000_000_000 + self.0.fetch_add(1000, Ordering::Relaxed) as i64
    }
    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        bytes.rotate_left(2);
        bytes
    }
    fn boot(&self) -> &str {
        "boot"
    }
    fn owners(&self) -> &str {
        "host"
    }
}

/// Nothing may run.
struct NoProcess;

impl Executor for NoProcess {
    fn run(
        &self,
        _: Step,
        _: &Cancel,
        _: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, executor::Error> {
        panic!("no process is wanted here");
    }
}

pub(super) struct House {
    dir: tempfile::TempDir,
    pub(super) store: Store,
}

impl House {
    pub(super) fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("context")).unwrap();
        let host = Arc::new(TestHost(AtomicU64::new(1)));
        let store = Store::open(&dir.path().join("store"), OpenMode::Create, host).unwrap();
        House { dir, store }
    }

    pub(super) fn file(&self, path: &str, text: &str) {
        let path = self.dir.path().join("context").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn context(&self) -> std::path::PathBuf {
        self.dir.path().join("context")
    }

    pub(super) fn build(
        &self,
        dockerfile: &str,
        change: impl FnOnce(&mut Options),
    ) -> Result<(Image, Vec<Event>), Error> {
        let mut options = options();
        change(&mut options);
        let context = Context::open(&self.context(), None, Some(self.store.root()))?;
        let lease = self.store.lease("build", "test")?;
        let events = Mutex::new(Vec::new());
        let sink = |event: Event| events.lock().unwrap().push(event);
        let input = Input {
            dockerfile: dockerfile.as_bytes(),
            name: "Dockerfile",
            context: &context,
        };
        let mut built = build(
            &lease,
            input,
            &options,
            &NoProcess,
            &Cancel::new().unwrap(),
            &sink,
        )?;
        Ok((built.images.remove(0), events.into_inner().unwrap()))
    }
}

fn options() -> Options {
    let platform = Platform {
        architecture: "amd64".into(),
        os: "linux".into(),
        variant: None,
    };
    Options {
        jobs: 2,
        ..Options::new(platform)
    }
}

pub(super) fn cached(events: &[Event]) -> usize {
    events
        .iter()
        .filter(|event| matches!(event, Event::StepCached { .. }))
        .count()
}

const TWO_STAGES: &str = "FROM scratch AS files\nCOPY a.txt dir/ /data/\nENV A=1\nFROM scratch\nARG X=1\nLABEL x=y\nCOPY --from=files /data/a.txt /out/\nWORKDIR /work\nCMD [\"/out/a.txt\"]\n";

fn fill(house: &House) {
    house.file("a.txt", "a");
    house.file("dir/b.txt", "b");
    house.file("other.txt", "o");
}

#[test]
fn the_same_build_again_is_all_cached_and_gives_the_same_image() {
    if !may_mount() {
        return;
    }
    let house = House::new();
    fill(&house);
    let (first, events) = house.build(TWO_STAGES, |_| {}).unwrap();
    assert_eq!(cached(&events), 0);
    assert_eq!(first.config.rootfs.diff_ids.len(), 2);
    assert_eq!(first.config.config.working_dir, "/work");
    let (second, events) = house.build(TWO_STAGES, |_| {}).unwrap();
    assert_eq!(second.digest, first.digest);
    assert_eq!(cached(&events), 7);
    // A changed time is no change; a changed mode and changed content are.
    let touch = |path: &str| {
        fs::File::open(house.context().join(path))
            .unwrap()
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap()
    };
    touch("a.txt");
    assert_eq!(
        house.build(TWO_STAGES, |_| {}).unwrap().0.digest,
        first.digest
    );
    house.file("other.txt", "changed, and copied by nobody");
    assert_eq!(
        house.build(TWO_STAGES, |_| {}).unwrap().0.digest,
        first.digest
    );
    house.file("dir/b.txt", "B");
    let (third, events) = house.build(TWO_STAGES, |_| {}).unwrap();
    assert_eq!(
        third.digest, first.digest,
        "the final stage copies only a.txt, which is the same"
    );
    assert_eq!(cached(&events), 5);
}

#[test]
fn an_argument_counts_only_where_it_is_used() {
    let house = House::new();
    let text = "FROM scratch\nARG X\nARG Y\nLABEL x=$X\nLABEL z=1\n";
    let with = |x: &str, y: &str| {
        let args = BTreeMap::from([
            ("X".to_owned(), x.to_owned()),
            ("Y".to_owned(), y.to_owned()),
        ]);
        house
            .build(text, |options| options.build_args = args)
            .unwrap()
    };
    let (first, _) = with("1", "1");
    let (same, events) = with("1", "2");
    assert_eq!((same.digest, cached(&events)), (first.digest, 4));
    let (_, events) = with("2", "2");
    assert_eq!(cached(&events), 2);
}

#[test]
fn a_stage_that_the_target_does_not_need_is_not_looked_at() {
    let house = House::new();
    let text = "FROM scratch AS a\nCOPY missing /\nFROM scratch AS b\nENV A=1\n";
    house.build(text, |_| {}).unwrap();
    let error = house
        .build(text, |options| options.target = Some("a".into()))
        .unwrap_err()
        .to_string();
    assert!(
        error
            .starts_with("Dockerfile:2:1: COPY missing /: \"missing\" is not in the build context"),
        "{error}"
    );
}

#[test]
fn a_tag_is_in_the_index_and_reads_back() {
    let house = House::new();
    let (image, _) = house
        .build("FROM scratch\nENV A=b\n", |o| {
            o.tags = vec!["app:latest".into()]
        })
        .unwrap();
    assert_eq!(house.store.find("app").unwrap(), image.digest);
    let index = fs::read_to_string(house.store.root().join("index.json")).unwrap();
    assert!(index.contains("app:latest"));
}

#[test]
fn the_same_input_gives_the_same_digest_under_a_timestamp() {
    if !may_mount() {
        return;
    }
    let digest = || {
        let house = House::new();
        fill(&house);
        house
            .build(TWO_STAGES, |options| options.timestamp = Some(1000))
            .unwrap()
            .0
            .digest
    };
    assert_eq!(digest(), digest());
}

#[test]
fn what_is_not_there_yet_is_refused_by_name_and_line() {
    let house = House::new();
    for (line, what) in [
        ("RUN --device=vendor.com/gpu=0 true", "RUN --device"),
        ("RUN --security=insecure true", "--allow security.insecure"),
    ] {
        let error = house
            .build(&format!("FROM scratch\n{line}\n"), |_| {})
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("Dockerfile:2:") && error.contains(what),
            "{error}"
        );
    }
    let error = house
        .build("FROM nowhere\n", |_| {})
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("Dockerfile:1:") && error.contains("nowhere"),
        "{error}"
    );
}

#[test]
fn nothing_of_a_lease_stays_behind() {
    if !may_mount() {
        return;
    }
    let house = House::new();
    fill(&house);
    house.build(TWO_STAGES, |_| {}).unwrap();
    let count = |path: &str| fs::read_dir(house.store.private(path)).unwrap().count();
    assert_eq!(
        (count("ingest"), count("leases"), count("containers")),
        (0, 0, 0)
    );
    let snapshots = house
        .store
        .catalog()
        .read(|tx| tx.snapshots())
        .unwrap()
        .len();
    assert_eq!(count("snapshots"), snapshots);
}

/// The archive that is an image's last layer.
pub(super) fn last_layer(house: &House, image: &Image) -> TarReader<Decompressor<'static>> {
    let layer = image.manifest.layers.last().unwrap();
    let blobs = house.store.layout().blobs();
    let file = blobs.open_unverified(&layer.digest).unwrap();
    TarReader::new(Decompressor::new(file).unwrap())
}

/// The paths in an image's last layer.
fn paths_of_last_layer(house: &House, image: &Image) -> Vec<String> {
    let mut reader = last_layer(house, image);
    let mut paths = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        paths.push(String::from_utf8(entry.path).unwrap());
    }
    paths
}

#[test]
fn names_of_one_file_stay_names_of_one_file() {
    if !may_mount() {
        return;
    }
    let house = House::new();
    house.file("d/a", "x");
    fs::hard_link(house.context().join("d/a"), house.context().join("d/b")).unwrap();
    let (image, _) = house.build("FROM scratch\nCOPY d /d\n", |_| {}).unwrap();
    let mut reader = last_layer(&house, &image);
    let mut links = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        if let crate::layer::Kind::Hardlink { target } = entry.kind {
            links.push((entry.path, target));
        }
    }
    assert_eq!(links, [(b"d/b".to_vec(), b"d/a".to_vec())]);
}

#[test]
fn a_directory_is_copied_through_a_link_of_the_image_and_never_over_it() {
    if !may_mount() {
        return;
    }
    let house = House::new();
    house.file("base/usr/lib/old", "o");
    std::os::unix::fs::symlink("usr/lib", house.context().join("base/lib")).unwrap();
    house.file("root/lib/new", "n");
    house.file("root/usr/lib/other", "o");
    let (image, _) = house
        .build("FROM scratch\nCOPY base/ /\nCOPY root/ /\n", |_| {})
        .unwrap();
    assert_eq!(
        paths_of_last_layer(&house, &image),
        ["usr/lib/new", "usr", "usr/lib", "usr/lib/other"]
    );
    house.file("clash/usr", "a file");
    let error = house
        .build("FROM scratch\nCOPY base/ /\nCOPY clash/ /\n", |_| {})
        .unwrap_err();
    assert!(
        error.to_string().contains("\"/usr\", which is a directory"),
        "{error}"
    );
}

/// What a build of these lines on top of a small base is refused with.
pub(super) fn refusal(house: &House, lines: &str) -> String {
    house.file("base/etc/passwd", "root:x:0:0::/:\n");
    let text = format!("FROM scratch AS b\nCOPY base/ /\nFROM b\n{lines}\n");
    house.build(&text, |_| {}).unwrap_err().to_string()
}

pub(super) fn archive(house: &House, name: &str, entries: &[crate::layer::Entry]) {
    let mut tar = crate::layer::TarWriter::new(Vec::new());
    for entry in entries {
        tar.append(entry, None).unwrap();
    }
    fs::write(house.context().join(name), tar.finish().unwrap()).unwrap();
}

#[test]
fn what_would_harm_the_image_is_refused_with_its_line() {
    if !may_mount() {
        return;
    }
    use crate::layer::{Entry, Kind};
    let house = House::new();
    house.file("f", "f");
    house.file("g", "g");
    house.file(".wh.etc", "");
    house.file("d/.wh..wh..opq", "");
    archive(
        &house,
        "marks.tar",
        &[Entry::new("x/.wh.y", Kind::File { size: 0 }, 0o644)],
    );
    let link = Kind::Hardlink {
        target: b"elsewhere".to_vec(),
    };
    archive(&house, "link.tar", &[Entry::new("h", link, 0o644)]);
    for (line, why) in [
        ("COPY .wh.etc /", "means a removal"),
        ("COPY d /d", "means a removal"),
        ("ADD marks.tar /", "means a removal"),
        ("ADD link.tar /", "does not come before it"),
        ("COPY f /etc/passwd/", "is a file in the image"),
        ("COPY f /etc/passwd/f", "is a file in the image"),
        ("COPY f g /both", "must end with a slash"),
        ("WORKDIR /etc/passwd", "is a file in the image"),
        ("STOPSIGNAL FOO", "is not a signal"),
    ] {
        let error = refusal(&house, line);
        assert!(
            error.starts_with(&format!("Dockerfile:4:1: {line}: ")) && error.contains(why),
            "{error}"
        );
    }
}

#[test]
fn a_base_for_another_platform_is_refused_when_one_was_asked_for() {
    let house = House::new();
    let arm = Platform {
        architecture: "arm64".into(),
        os: "linux".into(),
        variant: None,
    };
    house
        .build("FROM scratch\nENV A=1\n", |o| {
            (o.platform, o.tags) = (arm, vec!["arm:latest".into()])
        })
        .unwrap();
    house.build("FROM arm\nENV B=1\n", |_| {}).unwrap();
    for text in [
        "FROM --platform=linux/amd64 arm\n",
        "FROM --platform=$BUILDPLATFORM arm\n",
    ] {
        let error = house.build(text, |_| {}).unwrap_err().to_string();
        assert!(
            error.contains("\"arm\" is for linux/arm64, not for linux/amd64"),
            "{error}"
        );
    }
    let error = house
        .build("FROM --platform=bogus arm\n", |_| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("is not a platform"), "{error}");
}

#[test]
fn a_timestamp_is_part_of_what_is_asked_of_the_cache() {
    let house = House::new();
    let text = "FROM scratch\nENV A=1\n";
    let now = house.build(text, |_| {}).unwrap().0;
    let then = house
        .build(text, |options| options.timestamp = Some(0))
        .unwrap()
        .0;
    assert_ne!(now.digest, then.digest);
    assert_eq!(then.config.created.as_deref(), Some("1970-01-01T00:00:00Z"));
    assert_eq!(house.build(text, |_| {}).unwrap().0.digest, now.digest);
}

#[test]
fn the_store_is_no_part_of_a_context_that_holds_it() {
    if !may_mount() {
        return;
    }
    let house = House::new();
    house.file("f", "f");
    let context = Context::open(house.dir.path(), None, Some(house.store.root())).unwrap();
    let tree = context.tree().unwrap();
    let root = &tree.matches(".").unwrap()[0];
    let found = tree.walk(root, &Default::default()).unwrap();
    let names: Vec<String> = found
        .iter()
        .map(|f| f.relative.display().to_string())
        .collect();
    assert_eq!(names, ["", "context", "context/f"]);
}

#[test]
fn a_missing_index_is_made_again_and_never_taken_for_an_empty_one() {
    let house = House::new();
    house
        .build("FROM scratch\nENV A=b\n", |o| {
            o.tags = vec!["app:latest".into()]
        })
        .unwrap();
    let root = house.store.root().to_path_buf();
    drop(house.store);
    let open = || {
        Store::open(
            &root,
            OpenMode::Existing,
            Arc::new(TestHost(AtomicU64::new(1))),
        )
    };
    fs::remove_file(root.join("index.json")).unwrap();
    let store = open().unwrap();
    assert!(
        store.notices()[0]
            .to_string()
            .contains("index.json was missing")
    );
    assert!(store.find("app").is_ok());
    drop(store);
    // Without the catalog nobody knows the names.
    fs::remove_file(root.join("index.json")).unwrap();
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(root.join("rstore").join(file));
    }
    let error = open().unwrap_err();
    assert!(
        error.is_corruption() && error.to_string().contains("is missing"),
        "{error}"
    );
    assert!(root.join("blobs/sha256").read_dir().unwrap().count() > 0);
}

#[test]
fn a_heredoc_is_expanded_once() {
    let house = House::new();
    let text = "FROM scratch\nENV X=value\nCOPY <<E <<'Q' /\n\\$X $X \\\\$X\nE\n\\$X $X\nQ\n";
    let (image, _) = house.build(text, |_| {}).unwrap();
    let mut reader = last_layer(&house, &image);
    let mut found = BTreeMap::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut content = String::new();
        std::io::Read::read_to_string(&mut reader, &mut content).unwrap();
        found.insert(String::from_utf8(entry.path).unwrap(), content);
    }
    assert_eq!(found["E"], "$X value \\value\n");
    assert_eq!(found["Q"], "\\$X $X\n");
}

#[test]
fn platform_arguments_are_as_buildkit_has_them() {
    let house = House::new();
    let text = "FROM scratch AS last\nARG TARGETSTAGE\nARG TARGETOSVERSION\nARG BUILDARCH\n\
                LABEL x=\"$TARGETSTAGE/$TARGETOSVERSION/$BUILDARCH\"\n";
    let label = |change: fn(&mut Options)| {
        let (image, _) = house.build(text, change).unwrap();
        image.config.config.labels.unwrap()["x"].clone()
    };
    assert_eq!(label(|_| {}), "last//amd64");
    assert_eq!(
        label(|options| options.target = Some("0".into())),
        "0//amd64"
    );
    let given = |options: &mut Options| {
        options.build_args = BTreeMap::from([("BUILDARCH".into(), "riscv64".into())]);
    };
    assert_eq!(label(given), "last//riscv64");
}

#[test]
fn what_past_builds_did_with_each_step_is_remembered() {
    use crate::catalog::memory::Outcome::{self, Cached, Content, First, Instruction, Parent};
    let house = House::new();
    house.file("a", "one");
    let text = "FROM scratch\nCOPY a /\nENV X=1\nLABEL y=z\n";
    let outcomes = |dockerfile: &str| -> Vec<Outcome> {
        house.build(dockerfile, |_| {}).unwrap();
        let context = Context::open(&house.context(), None, None).unwrap();
        let subject = memory::subject(&context, "Dockerfile", &options());
        let builds = house.store.catalog().read(|tx| tx.builds(&subject, 1));
        builds.unwrap()[0]
            .steps
            .iter()
            .map(|step| step.outcome)
            .collect()
    };
    assert_eq!(outcomes(text), [Cached, First, First, First]);
    house.file("a", "two");
    assert_eq!(outcomes(text), [Cached, Content, Parent, Parent]);
    house.file("a", "three");
    assert_eq!(outcomes(text), [Cached, Content, Parent, Parent]);
    let longer = format!("{text}ENV W=1\n");
    assert_eq!(
        outcomes(&longer),
        [Cached, Cached, Cached, Cached, Instruction]
    );
    // All cached: nothing to remember, so the last one is still that before.
    assert_eq!(
        outcomes(&longer),
        [Cached, Cached, Cached, Cached, Instruction]
    );
}

#[test]
fn there_is_always_a_path_to_add_to() {
    let house = House::new();
    let text = "FROM scratch\nENV PATH=$PATH:/x\n";
    let (image, _) = house.build(text, |_| {}).unwrap();
    let path = format!("PATH={}:/x", executor::DEFAULT_PATH);
    assert_eq!(image.config.config.env.unwrap(), [path]);
}

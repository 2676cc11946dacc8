//! Stages: which are run, and what passes between them.

use crate::support::tree;
use crate::support::{Context, Need, Rstore, peers, scratch, skip_without};

#[test]
fn a_stage_that_the_target_does_not_need_is_not_run() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base AS needed\nRUN echo a > /a\n\
         FROM base AS broken\nRUN exit 1\n\
         FROM broken AS on-top\nRUN echo never\n\
         FROM base\nCOPY --from=needed /a /a\n",
    );
    let built = store.build(context.path(), &["-t", "app"]);
    assert_eq!(built.ran(), 1, "{built}");
}

#[test]
fn a_target_is_a_stage_by_name_in_any_case_or_by_number() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base AS First\nLABEL stage=first\nFROM base AS second\nLABEL stage=second\n\
         FROM second\nLABEL stage=third\n",
    );
    for (target, stage) in [("first", "first"), ("1", "second"), ("2", "third")] {
        store.build(context.path(), &["-t", "app", "--target", target]);
        assert_eq!(
            store.config("app:latest")["config"]["Labels"]["stage"],
            stage
        );
    }
    let unknown = store.try_build(context.path(), &["--target", "fourth"]);
    unknown.fails(1, &["fourth"]);
}

#[test]
fn files_come_from_stages_by_name_and_number_and_from_images() {
    let store = Rstore::with_gzip_base();
    let other = Context::new("FROM base\nRUN mkdir /d && echo image > /d/i\n");
    store.build(
        other.path(),
        &[
            "-t",
            "registry.example/team/other:2",
            "--compression",
            "gzip",
        ],
    );
    let context = Context::new(
        "FROM base AS a\nRUN echo a > /a\nFROM base\nRUN echo b > /b\nFROM scratch\n\
         COPY --from=a /a /\nCOPY --from=1 /b /b\nCOPY --from=registry.example/team/other:2 /d /d\n",
    );
    store.build(context.path(), &["-t", "app"]);
    assert_eq!(store.layers("app:latest").len(), 3);
    if skip_without(&[Need::Root, Need::Program("umoci"), Need::Program("skopeo")]) {
        return;
    }
    store.build(
        context.path(),
        &["-t", "app", "--no-cache", "--compression", "gzip"],
    );
    let bundle = scratch();
    let image = format!("{}:app:latest", store.root().display());
    let root = peers::umoci_unpack(&image, &bundle.path().join("b"));
    let files: Vec<String> = tree::read(&root)
        .keys()
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(files, ["", "a", "b", "d", "d/i"]);
    assert_eq!(
        std::fs::read_to_string(root.join("d/i")).unwrap(),
        "image\n"
    );
}

#[test]
fn stages_that_do_not_need_each_other_run_side_by_side() {
    let store = Rstore::with_base();
    // Each calls the test and waits for its answer, which comes when both have called: neither
    // ends unless both run.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = std::thread::spawn(move || {
        let callers = [listener.accept().unwrap().0, listener.accept().unwrap().0];
        for mut caller in callers {
            std::io::Write::write_all(&mut caller, b"go\n").unwrap();
        }
    });
    let call = format!("RUN test \"$(timeout 60 nc 127.0.0.1 {port})\" = go && touch /done");
    let context = Context::new(&format!(
        "FROM base AS one\n{call}\nFROM base AS two\nENV OTHER=1\n{call}\n\
         FROM base\nCOPY --from=one /done /one\nCOPY --from=two /done /two\n"
    ));
    store.build(
        context.path(),
        &["-t", "app", "--network", "host", "--jobs", "2"],
    );
    answer.join().unwrap();
}

#[test]
fn a_stage_is_kept_as_long_as_the_image_that_copied_from_it() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base AS builder\nRUN echo made > /made\nFROM base\nCOPY --from=builder /made /made\n",
    );
    store.build(context.path(), &["-t", "app"]);
    store.ok(["prune", "-f"]);
    let again = store.build(context.path(), &["-t", "app"]);
    assert_eq!(again.ran(), 0, "{again}");
    store.ok(["prune", "--stages", "-f"]);
    store.verify();
    let again = store.build(context.path(), &["-t", "app"]);
    assert_eq!(again.ran(), 1, "{again}");
}

#[test]
fn arguments_before_the_first_stage_name_its_base() {
    let store = Rstore::with_base();
    store.ok(["tag", "base", "other:3"]);
    let context = Context::new(
        "ARG NAME=base\nARG VERSION=latest\nFROM ${NAME}:${VERSION}\nARG VERSION\nLABEL v=${VERSION}\n",
    );
    store.build(context.path(), &["-t", "app"]);
    assert_eq!(
        store.config("app:latest")["config"]["Labels"]["v"],
        "latest"
    );
    let arguments = [
        "-t",
        "app",
        "--build-arg",
        "NAME=other",
        "--build-arg",
        "VERSION=3",
    ];
    store.build(context.path(), &arguments);
    assert_eq!(store.config("app:latest")["config"]["Labels"]["v"], "3");
}

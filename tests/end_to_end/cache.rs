//! What a build takes from the cache, and what makes it run a step again.

use std::fs::File;
use std::time::{Duration, SystemTime};

use crate::support::{Context, Rstore};

#[test]
fn a_second_build_takes_every_step_from_the_cache_and_gives_the_same_image() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base\nENV A=1\nWORKDIR /w\nCOPY file .\nRUN echo hello > greeting\nCMD [\"cat\"]\n",
    );
    context.file("file", "contents");
    let first = store.build(context.path(), &["-t", "app"]);
    assert_eq!((first.cached(), first.ran()), (0, 1), "{first}");
    let (image, blobs) = (store.digest("app:latest"), store.blobs());
    let second = store.build(context.path(), &["-t", "app"]);
    assert_eq!((second.cached(), second.ran()), (5, 0), "{second}");
    assert_eq!(store.digest("app:latest"), image);
    assert_eq!(store.blobs(), blobs);
}

#[test]
fn a_changed_file_runs_what_depends_on_it_and_nothing_else() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base AS tools\nCOPY tools /tools\nRUN echo built > /tools/out\n\
         FROM base\nCOPY --from=tools /tools/out /out\nCOPY source /source\nRUN wc -l /source > /n\n",
    );
    context.file("tools/make", "make");
    context.file("source", "one\n");
    store.build(context.path(), &["-t", "app"]);
    context.file("source", "one\ntwo\n");
    let again = store.build(context.path(), &["-t", "app"]);
    assert_eq!((again.cached(), again.ran()), (3, 1), "{again}");
    context.file("tools/make", "made");
    let again = store.build(context.path(), &["-t", "app"]);
    // The tools are copied and built anew; what they gave is the same, so the rest is cached.
    assert_eq!(again.ran(), 1, "{again}");
}

#[test]
fn a_file_that_is_not_copied_changes_nothing() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nCOPY a* /\nRUN echo x\n");
    context.file("a", "a");
    context.file("b", "b");
    context.file("about.md", "ignored");
    context.file(".dockerignore", "*.md\n");
    store.build(context.path(), &["-t", "app"]);
    context.file("b", "changed");
    context.file("about.md", "changed");
    let again = store.build(context.path(), &["-t", "app"]);
    assert_eq!((again.cached(), again.ran()), (2, 0), "{again}");
}

#[test]
fn the_time_of_a_file_does_not_matter_and_its_mode_does() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nCOPY file /\nRUN ls -l /file\n");
    let path = context.file("file", "contents");
    store.build(context.path(), &["-t", "app"]);
    let earlier = SystemTime::now() - Duration::from_secs(86_400);
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(earlier)
        .unwrap();
    let again = store.build(context.path(), &["-t", "app"]);
    assert_eq!((again.cached(), again.ran()), (2, 0), "{again}");
    context.mode("file", 0o755);
    let again = store.build(context.path(), &["-t", "app"]);
    assert_eq!((again.cached(), again.ran()), (0, 1), "{again}");
}

#[test]
fn an_argument_counts_where_it_is_used_and_not_before() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base AS other\nRUN echo other > /o\n\
         FROM base\nRUN echo before > /b\nARG WHO=nobody\nCOPY file /\nLABEL fixed=1\n\
         RUN echo \"hello $WHO\" > /h\nCOPY --from=other /o /o\n",
    );
    context.file("file", "contents");
    store.build(context.path(), &["-t", "app"]);
    let again = store.build(context.path(), &["-t", "app", "--build-arg", "WHO=you"]);
    assert_eq!(again.ran(), 1, "{again}");
    // `other`, `before`, COPY and LABEL do not know of it.
    assert!(again.cached() >= 4, "{again}");
    let back = store.build(context.path(), &["-t", "app", "--build-arg", "WHO=nobody"]);
    assert_eq!(back.ran(), 0, "{back}");
}

#[test]
fn an_argument_that_nothing_declares_is_told_of_and_changes_nothing() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nRUN echo x > /x\n");
    store.build(context.path(), &["-t", "app"]);
    let again = store.build(context.path(), &["-t", "app", "--build-arg", "NOBODY=1"]);
    assert_eq!((again.cached(), again.ran()), (1, 0), "{again}");
    assert!(again.stderr.contains("NOBODY"), "{again}");
}

#[test]
fn a_changed_environment_runs_the_steps_below_it() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nRUN echo a > /a\nENV X=1\nRUN echo $X > /x\n");
    store.build(context.path(), &["-t", "app"]);
    context.file(
        "Dockerfile",
        "FROM base\nRUN echo a > /a\nENV X=2\nRUN echo $X > /x\n",
    );
    let again = store.build(context.path(), &["-t", "app"]);
    assert_eq!((again.cached(), again.ran()), (1, 1), "{again}");
}

#[test]
fn without_the_cache_every_step_runs() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nRUN echo a > /a\nRUN echo b > /b\n");
    store.build(context.path(), &["-t", "app"]);
    let again = store.build(context.path(), &["-t", "app", "--no-cache"]);
    assert_eq!((again.cached(), again.ran()), (0, 2), "{again}");
}

#[test]
fn two_dockerfiles_share_the_steps_that_they_begin_with() {
    let store = Rstore::with_base();
    let one = Context::new("FROM base\nRUN echo a > /a\nRUN echo b > /b\n");
    let two = Context::new("FROM base\nRUN echo a > /a\nRUN echo c > /c\n");
    store.build(one.path(), &["-t", "one"]);
    let second = store.build(two.path(), &["-t", "two"]);
    assert_eq!((second.cached(), second.ran()), (1, 1), "{second}");
    assert_eq!(
        store.layers("one:latest")[..2],
        store.layers("two:latest")[..2]
    );
}

#[test]
fn a_base_that_was_replaced_is_built_upon_anew() {
    let store = Rstore::with_base();
    let context = Context::new("FROM mine\nRUN echo a > /a\n");
    let mine = Context::new("FROM base\nRUN echo first > /version\n");
    store.build(mine.path(), &["-t", "mine"]);
    store.build(context.path(), &["-t", "app"]);
    mine.file("Dockerfile", "FROM base\nRUN echo second > /version\n");
    store.build(mine.path(), &["-t", "mine"]);
    let again = store.build(context.path(), &["-t", "app"]);
    assert_eq!((again.cached(), again.ran()), (0, 1), "{again}");
    assert!(
        store
            .layers("app:latest")
            .starts_with(&store.layers("mine:latest"))
    );
}

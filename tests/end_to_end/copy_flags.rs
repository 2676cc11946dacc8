//! COPY's flags.

use std::os::unix::fs::MetadataExt;

use crate::support::{Context, Need, Rstore, decompressed, skip_without};

/// What a build of a Dockerfile on a context copies: path, mode.
fn copied(context: &Context, dockerfile: &str) -> Vec<String> {
    context.file("Dockerfile", dockerfile);
    let store = Rstore::new();
    store.build(context.path(), &["-t", "app"]);
    let mut all = Vec::new();
    for layer in store.layers("app:latest") {
        let tar = decompressed(&std::fs::read(store.blob(&layer)).unwrap());
        let mut archive = tar::Archive::new(&tar[..]);
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            all.push(format!(
                "{path} {:o}",
                entry.header().mode().unwrap() & 0o7777
            ));
        }
    }
    all
}

fn tree() -> Context {
    let context = Context::new("");
    for file in [
        "src/a.txt",
        "src/x/b.txt",
        "src/x/y/c.txt",
        "src/x/y/d.log",
        "top.txt",
    ] {
        context.file(file, file);
    }
    context.mode("src/x", 0o700);
    context
}

fn paths(context: &Context, flags: &str) -> Vec<String> {
    let dockerfile = format!("FROM scratch\nCOPY {flags}\n");
    let copied = copied(context, &dockerfile);
    let path = |line: String| line.split_once(' ').unwrap().0.to_owned();
    copied.into_iter().map(path).collect()
}

#[test]
fn parents_keeps_the_directories_that_lead_to_a_source() {
    let context = tree();
    assert_eq!(
        paths(&context, "--parents ./src/x/b.txt top.txt /p/"),
        ["p/", "p/src/", "p/src/x/", "p/src/x/b.txt", "p/top.txt"]
    );
    assert_eq!(
        paths(&context, "--parents ./src/./x/*.txt /p/"),
        ["p/", "p/x/", "p/x/b.txt"]
    );
    assert_eq!(
        paths(&context, "--parents ./src/**/*.txt /p/"),
        [
            "p/",
            "p/src/",
            "p/src/a.txt",
            "p/src/x/",
            "p/src/x/b.txt",
            "p/src/x/y/",
            "p/src/x/y/c.txt"
        ]
    );
    assert_eq!(
        paths(&context, "--parents src/x/y /p/"),
        [
            "p/",
            "p/src/",
            "p/src/x/",
            "p/src/x/y/",
            "p/src/x/y/c.txt",
            "p/src/x/y/d.log"
        ]
    );
    assert_eq!(
        paths(&context, "--parents --exclude=**/*.log s*/./x/y /p/"),
        ["p/", "p/x/", "p/x/y/", "p/x/y/c.txt"]
    );
    // Directories on the way are as they are in the context.
    let modes = copied(&context, "FROM scratch\nCOPY --parents src/x/b.txt /p/\n");
    assert!(modes.contains(&"p/src/x/ 700".to_owned()), "{modes:?}");
    assert_eq!(
        paths(&context, "--parents *.none top.txt /p/"),
        ["p/", "p/top.txt"]
    );
    context.file("Dockerfile", "FROM scratch\nCOPY --parents src/none /p/\n");
    let store = Rstore::new();
    store
        .try_build(context.path(), &[])
        .fails(1, &["Dockerfile:2", "\"src/none\" is not in"]);
}

#[test]
fn a_symbolic_mode_goes_by_what_each_file_is() {
    let context = tree();
    context.mode("src/a.txt", 0o755);
    context.mode("src/x/b.txt", 0o600);
    let copied = copied(&context, "FROM scratch\nCOPY --chmod=u=rwX,go=rX src /d/\n");
    for line in ["d/a.txt 755", "d/x/ 755", "d/x/b.txt 644"] {
        assert!(copied.contains(&line.to_owned()), "{line}: {copied:?}");
    }
    let store = Rstore::new();
    context.file("Dockerfile", "FROM scratch\nCOPY --chmod=u+q src /d/\n");
    store
        .try_build(context.path(), &[])
        .fails(1, &["Dockerfile:2", "--chmod=u+q"]);
}

#[test]
fn a_link_copy_follows_no_link_of_the_image() {
    if skip_without(&[Need::Root]) {
        return;
    }
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base\nRUN mkdir /real && ln -s /real /way && chmod 1777 /tmp\n\
         COPY f /way/\nCOPY --link f /tmp/\nCOPY --link --chown=app f /other/\n\
         RUN test -f /real/f && test -f /tmp/f && stat -c %a,%U /tmp /other/f\n",
    );
    let file = context.file("f", "x");
    assert!(file.metadata().unwrap().mode() & 0o777 == 0o644);
    let built = store.build(context.path(), &["-t", "app"]);
    assert!(built.stderr.contains("1777,root"), "{built}");
    assert!(built.stderr.contains("644,app"), "{built}");
    let context = Context::new(
        "FROM base\nRUN mkdir /real && ln -s /real /way\nCOPY --link f /way/\n\
         RUN test ! -L /way && test -f /way/f && test ! -e /real/f\n",
    );
    context.file("f", "x");
    store.build(context.path(), &["-t", "app"]);
    let context = Context::new("FROM base\nCOPY --chown=nobody-there f /\n");
    context.file("f", "x");
    store
        .try_build(context.path(), &[])
        .fails(1, &["Dockerfile:2", "nobody-there"]);
}

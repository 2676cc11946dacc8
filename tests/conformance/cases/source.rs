//! What COPY, ADD and FROM take from elsewhere: addresses, named contexts, tars on standard input;
//! and how much of a path and which modes COPY keeps.

use crate::case::{Case, case};

pub fn cases() -> Vec<Case> {
    let mut cases = addresses();
    cases.extend(named());
    cases.extend(piped());
    cases.extend(copies());
    cases.extend(squashed());
    cases
}

fn addresses() -> Vec<Case> {
    let right = {
        use sha2::Digest;
        crate::support::rstore::hex(&sha2::Sha256::digest("dated\n"))
    };
    vec![
        case(
            "url/into-a-directory",
            "FROM base\nADD %SERVER%/dated.txt /new/\n",
        )
        .file("/new", "dir mode=0755 owner=0:0")
        .file(
            "/new/dated.txt",
            "file mode=0600 owner=0:0 time=784111777 text=dated\n",
        ),
        case(
            "url/without-a-time",
            "FROM base\nADD %SERVER%/plain.txt /x\n",
        )
        .file("/x", "mode=0600 time=0 text=text\n"),
        case(
            "url/name-is-the-last-of-the-path",
            "FROM base\nADD %SERVER%/dir/dated.txt?version=1 /x/\n",
        )
        .file("/x/dated.txt", "text=dated\n"),
        case("url/moved", "FROM base\nADD %SERVER%/moved.txt /x/\n")
            .file("/x/moved.txt", "time=784111777 text=dated\n"),
        case("url/missing", "FROM base\nADD %SERVER%/missing.txt /x\n").refused(&["404"]),
        case(
            "url/archive-stays",
            "FROM base\nADD %SERVER%/archive.tar /x/\n",
        )
        .file("/x/archive.tar", "file mode=0600")
        .absent("/x/unpacked"),
        case(
            "url/archive-unpacked",
            "FROM base\nADD --unpack=true %SERVER%/archive.tar /x/\n",
        )
        .file("/x/unpacked/file", "mode=0604 owner=12:34 text=unpacked\n")
        .absent("/x/archive.tar")
        .docker_says("buildah has no --unpack"),
        case(
            "url/owner-and-mode",
            "FROM base\nADD --chown=5:6 --chmod=644 %SERVER%/dated.txt /x\n",
        )
        .file("/x", "mode=0644 owner=5:6 time=784111777"),
        case(
            "url/checksum-right",
            &format!("FROM base\nADD --checksum=sha256:{right} %SERVER%/dated.txt /x\n"),
        )
        .file("/x", "mode=0600 text=dated\n")
        .docker_says("buildah has no --checksum"),
        case(
            "url/checksum-wrong",
            &format!("FROM base\nADD --checksum=sha256:{right} %SERVER%/plain.txt /x\n"),
        )
        .refused(&["sha256:"]),
        case(
            "url/copy-has-none",
            "FROM base\nCOPY %SERVER%/dated.txt /x\n",
        )
        .refused(&["dated.txt"]),
    ]
}

/// A context with another one in it, which is ignored as a part of it.
fn with_lib(name: &str, dockerfile: &str) -> Case {
    case(name, dockerfile)
        .with(".dockerignore", "lib\n")
        .with("a", "a\n")
        .with("lib/one", "lib one\n")
        .with("lib/d/two", "lib two\n")
        .options(&["--build-context=lib=%CONTEXT%/lib"])
}

fn named() -> Vec<Case> {
    vec![
        with_lib(
            "named/copied-from",
            "FROM base\nCOPY --from=lib one /x\nCOPY --from=lib / /y/\n",
        )
        .file("/x", "text=lib one\n")
        .file("/y/d/two", "time=1000000000 text=lib two\n"),
        with_lib(
            "named/mounted",
            "FROM base\nRUN --mount=type=bind,from=lib,target=/m cat /m/d/two > /x\n",
        )
        .file("/x", "text=lib two\n"),
        with_lib(
            "named/what-it-ignores",
            "FROM base\nCOPY --from=lib . /y/\n",
        )
        .with("lib/.dockerignore", "one\n.dockerignore\n")
        .file("/y/d/two", "file")
        .absent("/y/one")
        .absent("/y/.dockerignore")
        .docker_says("BuildKit reads the ignore file of a named context"),
        with_lib("named/as-a-base", "FROM lib\nCOPY a /b\n")
            .file("/one", "text=lib one\n")
            .file("/b", "text=a\n")
            .docker_says("buildah takes FROM of images alone"),
        with_lib(
            "named/goes-before-a-stage",
            "FROM base AS lib\nRUN echo stage > /one\nFROM base\nCOPY --from=lib /one /x\n",
        )
        .file("/x", "text=lib one\n"),
        case(
            "named/goes-before-an-image",
            "FROM triggers\nRUN test -d /data/base\n",
        )
        .options(&["--build-context=triggers=docker-image://configured"])
        .unlike_buildkit("the image is in our store alone"),
        with_lib("named/lacks-a-file", "FROM base\nCOPY --from=lib none /x\n").refused(&["none"]),
    ]
}

fn piped() -> Vec<Case> {
    let tar = |name: &str, dockerfile: &str| {
        case(name, dockerfile)
            .with("a", "a\n")
            .with("d/b", "b\n")
            .piped()
            .unlike_buildkit("it is given the directory")
    };
    vec![
        tar("piped/tar", "FROM base\nCOPY a d /x/\n")
            .file("/x/a", "time=1000000000 mode=0644 owner=0:0 text=a\n")
            .file("/x/b", "text=b\n"),
        tar("piped/tar-with-an-ignore-file", "FROM base\nCOPY . /x/\n")
            .with(".dockerignore", "a\nDockerfile\n.dockerignore\n")
            .absent("/x/a")
            .file("/x/d/b", "text=b\n"),
        tar("piped/tar-with-modes-and-links", "FROM base\nCOPY d /x/\n")
            .make(|context| {
                context.mode("d/b", 0o751);
                context.link("d/l", "b");
            })
            .file("/x/b", "mode=0751")
            .file("/x/l", "link to=b"),
        tar(
            "piped/tar-without-what-is-copied",
            "FROM base\nCOPY none /x\n",
        )
        .refused(&["none"]),
    ]
}

/// COPY of a small tree.
fn copy(name: &str, copy: &str) -> Case {
    case(name, &format!("FROM base\nCOPY {copy}\n"))
        .with("src/a.txt", "a\n")
        .with("src/x/b.txt", "b\n")
        .with("src/x/y/c.log", "c\n")
        .make(|context| {
            context.mode("src/a.txt", 0o755);
            context.mode("src/x", 0o700);
        })
}

fn copies() -> Vec<Case> {
    const PARENTS: &str = "buildah has no COPY --parents";
    const LETTERS: &str = "buildah takes numbers alone for --chmod";
    vec![
        copy("parents/file", "--parents src/x/b.txt /p/")
            .file("/p/src/x", "dir mode=0700")
            .file("/p/src/x/b.txt", "text=b\n")
            .absent("/p/src/a.txt")
            .docker_says(PARENTS),
        copy("parents/from-a-dot-on", "--parents src/./x/y /p/")
            .file("/p/x/y/c.log", "text=c\n")
            .absent("/p/src")
            .docker_says(PARENTS),
        case(
            "parents/from-a-stage",
            "FROM base AS one\nFROM base\nCOPY --parents --from=one /full/sub/three /p/\n",
        )
        .file("/p/full/sub/three", "mode=0600 text=base three\n")
        .absent("/p/full/one")
        .docker_says(PARENTS),
        copy(
            "letters/what-may-be-run-stays-so",
            "--chmod=u=rwX,go=rX src /x",
        )
        .file("/x/a.txt", "mode=0755")
        .file("/x/x", "mode=0755")
        .file("/x/x/b.txt", "mode=0644")
        .docker_says(LETTERS),
        copy("letters/add-and-take", "--chmod=u+x,go-r src/x/b.txt /x")
            .file("/x", "mode=0700")
            .docker_says(LETTERS),
        copy("letters/unknown", "--chmod=u+q src /x").refused(&["u+q"]),
    ]
}

fn squashed() -> Vec<Case> {
    let squash = |name: &str, dockerfile: &str| {
        case(name, dockerfile)
            .options(&["--squash"])
            .unlike_buildkit("it has no --squash")
    };
    vec![
        squash(
            "squash/files-of-several-steps",
            "FROM base\nRUN echo one > /x\nRUN echo two >> /x && echo three > /y\nRUN rm /y\n\
             ENV A=b\n",
        )
        .file("/x", "text=one\ntwo\n")
        .absent("/y"),
        squash(
            "squash/files-of-the-base",
            "FROM base\nRUN rm /full/one\nRUN rm -r /full/sub && mkdir /full/sub\n\
             RUN chmod 600 /full/two\n",
        )
        .absent("/full/one")
        .absent("/full/sub/three")
        .file("/full/two", "mode=0600 owner=1000:50"),
    ]
}

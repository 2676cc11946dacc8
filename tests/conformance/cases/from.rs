//! COPY --from, and the flags of COPY.

use crate::case::{Case, case};

pub fn cases() -> Vec<Case> {
    let mut cases = from();
    cases.extend(owners());
    cases.extend(modes());
    cases.extend(link());
    cases.extend(exclude());
    cases
}

fn from() -> Vec<Case> {
    vec![
        case(
            "from/stage-by-name",
            "FROM base AS one\nRUN echo x > /x\n\
             FROM base\nCOPY --from=one /x /y\n",
        )
        .file("/y", "text=x\n")
        .absent("/x"),
        case(
            "from/stage-by-name-of-another-case",
            "FROM base AS One\nRUN echo x > /x\n\
             FROM base\nCOPY --from=oNE /x /y\n",
        )
        .file("/y", "text=x\n")
        .docker_says("buildah minds the case of a stage's name"),
        case(
            "from/stage-by-number",
            "FROM base\nRUN echo 0 > /x\nFROM base\n\
             RUN echo 1 > /x\nFROM base\nCOPY --from=0 /x /0\n\
             COPY --from=1 /x /1\n",
        )
        .file("/0", "text=0\n")
        .file("/1", "text=1\n"),
        case(
            "from/stage-that-is-named-by-a-number-is-refused",
            "FROM base AS 1\nRUN echo x > /x\n\
             FROM base\nCOPY --from=1 /x /y\n",
        )
        .refused(&[]),
        case(
            "from/image",
            "FROM base\nCOPY --from=volumes /data/file /y\n",
        )
        .file("/y", "text=base\n"),
        case(
            "from/image-that-is-unknown",
            "FROM base\nCOPY --from=localhost/there-is-none /x /y\n",
        )
        .refused(&["there-is-none"]),
        case(
            "from/itself",
            "FROM base AS one\nCOPY --from=one /full /x\n",
        )
        .refused(&["one"]),
        case(
            "from/a-later-stage",
            "FROM base AS one\nCOPY --from=two /full /x\n\
             FROM base AS two\n",
        )
        .options(&["--target=one"])
        .refused(&["two"]),
        case(
            "from/a-number-that-is-no-stage",
            "FROM base\nCOPY --from=7 /full /x\n",
        )
        .refused(&["7"]),
        case(
            "from/a-variable",
            "FROM base AS one\nFROM base\nARG S=one\n\
             COPY --from=$S /full /x\n",
        )
        .refused(&[]),
        case(
            "from/everything-of-a-file-is-kept",
            "FROM base AS one\nFROM base\nCOPY --from=one /full /x\n",
        )
        .file("/x", "dir mode=0755")
        .file("/x/two", "mode=0640 owner=1000:50 time=1000000000")
        .file("/x/setuid", "mode=4755")
        .file("/x/capable", "xattr=security.capability"),
        case(
            "from/one-file-with-capabilities",
            "FROM base AS one\nFROM base\nCOPY --from=one /full/capable /full/setuid /x/\n",
        )
        .file("/x/capable", "xattr=security.capability")
        .file("/x/setuid", "mode=4755"),
        case(
            "from/hard-links",
            "FROM base AS one\nFROM base\nCOPY --from=one /full /x\n",
        ),
        case(
            "from/hard-links-that-are-chowned",
            "FROM base AS one\nFROM base\nCOPY --chown=5:6 --from=one /full /x\n",
        ),
        case(
            "from/owner-of-a-directory",
            "FROM base AS one\nFROM base\nCOPY --from=one /owned /x\n\
             COPY --from=one /owned /y/\n",
        )
        .file("/x", "mode=0755 owner=0:0")
        .file("/y", "mode=0755 owner=0:0"),
        case(
            "from/the-root",
            "FROM scratch AS one\nCOPY d /\n\
             FROM base\nCOPY --from=one / /x/\n",
        )
        .with("d/a", "a\n")
        .file("/x/a", "text=a\n"),
        case(
            "from/the-root-to-the-root",
            "FROM scratch AS one\nCOPY d /\n\
             FROM base\nCOPY --from=one / /\n",
        )
        .with("d/full/new", "a\n")
        .file("/full/new", "text=a\n")
        .file("/full/one", "text=base one\n"),
        case(
            "from/wildcard",
            "FROM base AS one\nFROM base\nCOPY --from=one /full/t* /full/s* /x/\n",
        )
        .file("/x/two", "text=base two\n")
        .file("/x/three", "text=base three\n"),
        case(
            "from/a-link-as-a-source",
            "FROM base AS one\nFROM base\nCOPY --from=one /to-file /x\n\
             COPY --from=one /lib /y\n",
        ),
        case(
            "from/a-link-as-a-source-and-a-slash",
            "FROM base AS one\nFROM base\nCOPY --from=one /to-file /x/\n\
             COPY --from=one /lib /y/\n",
        ),
        case(
            "from/a-link-on-the-way",
            "FROM base AS one\nRUN echo x > /run/x\n\
             FROM base\nCOPY --from=one /var/run/x /x\n",
        )
        .file("/x", "text=x\n"),
        case(
            "from/an-absolute-link-is-the-images-own",
            "FROM base AS one\nRUN ln -s /etc/passwd /etc/alias\n\
             FROM base\nCOPY --from=one /etc/alias /x\n",
        ),
        case(
            "from/relative-to-the-root-whatever-the-working-directory",
            "FROM base AS one\nWORKDIR /full\n\
             FROM base\nWORKDIR /w\nCOPY --from=one full/one x\n",
        )
        .file("/w/x", "text=base one\n"),
        case(
            "from/no-such-file",
            "FROM base AS one\nFROM base\nCOPY --from=one /missing /x\n",
        )
        .refused(&["missing"]),
        case(
            "from/the-ignore-file-is-of-the-context",
            "FROM base AS one\nRUN echo x > /ignored\n\
             FROM base\nCOPY --from=one /ignored /x\n",
        )
        .with(".dockerignore", "ignored\n")
        .file("/x", "text=x\n"),
        case(
            "from/devices-and-pipes",
            "FROM base AS one\nRUN mkdir /s && mkfifo /s/p && mknod /s/null c 1 3\n\
             FROM base\nCOPY --from=one /s /x\n",
        )
        .file("/x/p", "fifo")
        .file("/x/null", "char")
        .docker_says("buildah's isolation lets nobody make a device"),
        case(
            "from/a-stage-on-a-stage",
            "FROM base AS one\nRUN echo 1 > /1\n\
             FROM one AS two\nRUN echo 2 > /2\n\
             FROM base\nCOPY --from=two /1 /2 /x/\n",
        )
        .file("/x/1", "text=1\n")
        .file("/x/2", "text=2\n"),
        case(
            "from/removed-files-are-not-there",
            "FROM base AS one\nRUN rm -r /full/sub /full/one\n\
             FROM base\nCOPY --from=one /full /x\n",
        )
        .absent("/x/one")
        .absent("/x/sub"),
    ]
}

fn owners() -> Vec<Case> {
    let chown = |name: &str, owner: &str| {
        case(name, &format!("FROM base\nCOPY --chown={owner} d /new/x\n"))
            .with("d/a", "a\n")
            .with("d/sub/b", "b\n")
    };
    vec![
        chown("chown/numbers", "7:8")
            .file("/new/x/sub/b", "owner=7:8")
            .file("/new/x", "owner=7:8"),
        chown("chown/one-number", "7").file("/new/x/a", "owner=7:7"),
        chown("chown/a-number-that-the-image-knows", "1000"),
        chown("chown/a-name", "app").file("/new/x/a", "owner=1000:1001"),
        chown("chown/names", "app:staff").file("/new/x/a", "owner=1000:50"),
        chown("chown/a-name-and-a-number", "app:9").file("/new/x/a", "owner=1000:9"),
        chown("chown/a-number-and-a-name", "9:staff").file("/new/x/a", "owner=9:50"),
        chown("chown/only-a-group", ":staff"),
        chown("chown/a-name-of-digits", "2000"),
        chown("chown/a-group-of-digits", "0:4000"),
        chown("chown/an-unknown-name", "nobody-knows")
            .refused(&["nobody-knows"])
            .unlike_buildkit("it silently takes root for who is unknown"),
        chown("chown/an-unknown-group", "app:nobody-knows")
            .refused(&["nobody-knows"])
            .unlike_buildkit("it silently takes root for who is unknown"),
        case(
            "chown/a-variable",
            "FROM base\nARG O=app\nCOPY --chown=$O:${G:-staff} a /x\n",
        )
        .with("a", "a\n")
        .file("/x", "owner=1000:50"),
        case(
            "chown/a-name-that-run-added",
            "FROM base\nRUN echo 'late:x:77:78::/:/bin/sh' >> /etc/passwd\n\
             COPY --chown=late a /x\n",
        )
        .with("a", "a\n")
        .file("/x", "owner=77:78"),
        case(
            "chown/user-does-not-own-copies",
            "FROM base\nUSER app\nCOPY a /new/x\n",
        )
        .with("a", "a\n")
        .file("/new", "owner=0:0")
        .file("/new/x", "owner=0:0"),
        case(
            "chown/what-was-there-keeps-its-owner",
            "FROM base\nCOPY --chown=7:8 d /full\n",
        )
        .with("d/a", "a\n")
        .with("d/sub/b", "b\n")
        .file("/full", "owner=0:0")
        .file("/full/a", "owner=7:8"),
        case(
            "chown/of-a-copy-from-a-stage",
            "FROM base AS one\nFROM base\nCOPY --chown=app:staff --from=one /full /x\n",
        )
        .file("/x/sub/three", "owner=1000:50")
        .file("/x", "owner=1000:50"),
        case(
            "chown/keeps-setuid-and-capabilities",
            "FROM base AS one\nFROM base\nCOPY --chown=7:8 --from=one /full /x\n",
        )
        .file("/x/setuid", "mode=4755 owner=7:8"),
    ]
}

fn modes() -> Vec<Case> {
    let chmod = |name: &str, mode: &str| {
        case(
            name,
            &format!(
                "FROM base\nCOPY --chmod={mode} d /new/x\n\
             COPY --chmod={mode} a /b\n"
            ),
        )
        .with("a", "a\n")
        .with("d/a", "a\n")
        .with("d/sub/b", "b\n")
        .make(|context| context.link("d/link", "a"))
    };
    vec![
        chmod("chmod/three-digits", "750")
            .file("/b", "mode=0750")
            .file("/new/x/sub", "mode=0750")
            .file("/new", "mode=0750")
            .file("/new/x", "mode=0750")
            .docker_says("BuildKit gives --chmod to the directories that it makes too"),
        chmod("chmod/four-digits", "0604")
            .file("/b", "mode=0604")
            .file("/new", "mode=0604")
            .file("/new/x", "mode=0604")
            .docker_says("BuildKit gives --chmod to the directories that it makes too"),
        chmod("chmod/setuid", "4755").file("/b", "mode=4755"),
        chmod("chmod/not-octal", "888").refused(&["888"]),
        chmod("chmod/too-large", "17777")
            .refused(&["17777"])
            .docker_says("buildah takes any octal number"),
        case(
            "chmod/a-variable",
            "FROM base\nARG M=640\nCOPY --chmod=$M a /b\n",
        )
        .with("a", "a\n")
        .file("/b", "mode=0640"),
        case(
            "chmod/of-a-copy-from-a-stage",
            "FROM base AS one\nFROM base\nCOPY --chmod=600 --from=one /full /x\n",
        )
        .file("/x/setuid", "mode=0600")
        .file("/x", "mode=0600")
        .docker_says("BuildKit gives --chmod to the directories that it makes too"),
    ]
}

fn link() -> Vec<Case> {
    vec![
        case("link/file", "FROM base\nCOPY --link a /new/b\n")
            .with("a", "a\n")
            .file("/new/b", "text=a\n")
            .docker_says("buildah has no COPY --link"),
        case("link/directory", "FROM base\nCOPY --link d /full\n")
            .with("d/one", "one\n")
            .file("/full/one", "text=one\n")
            .file("/full/linked", "text=base one\n")
            .docker_says("buildah has no COPY --link"),
        case(
            "link/does-not-follow-a-link-of-the-image",
            "FROM base\nCOPY --link a /var/run/x\n",
        )
        .with("a", "a\n")
        .file("/var/run", "dir")
        .file("/var/run/x", "text=a\n")
        .docker_says("buildah has no COPY --link"),
        case("link/false", "FROM base\nCOPY --link=false a /var/run/x\n")
            .with("a", "a\n")
            .file("/run/x", "text=a\n")
            .docker_says("buildah has no COPY --link"),
        case(
            "link/numbers-own",
            "FROM base\nCOPY --link --chown=7:8 a /new/b\n",
        )
        .with("a", "a\n")
        .file("/new/b", "owner=7:8")
        .docker_says("buildah has no COPY --link"),
        case(
            "link/from-a-stage",
            "FROM base AS one\nFROM base\nCOPY --link --from=one /full /x\n",
        )
        .file("/x/two", "owner=1000:50 mode=0640")
        .docker_says("buildah has no COPY --link"),
        case(
            "link/a-file-where-a-directory-is",
            "FROM base\nCOPY --link d /full\n",
        )
        .with("d/sub", "file\n")
        .file("/full/sub", "file text=file\n")
        .absent("/full/sub/three")
        .docker_says("buildah has no COPY --link"),
        case(
            "link/to-a-directory-of-the-image-without-a-slash",
            "FROM base\nCOPY --link a /full\n",
        )
        .with("a", "a\n")
        .file("/full", "file text=a\n")
        .absent("/full/one")
        .docker_says("buildah has no COPY --link"),
    ]
}

fn exclude() -> Vec<Case> {
    let some = |name: &str, line: &str| {
        case(name, &format!("FROM base\n{line}\n"))
            .with("d/a.txt", "a\n")
            .with("d/b.log", "b\n")
            .with("d/sub/c.txt", "c\n")
            .with("d/sub/d.log", "d\n")
    };
    vec![
        some("exclude/by-name", "COPY --exclude=*.log d /x")
            .absent("/x/b.log")
            .file("/x/sub/d.log", "text=d\n")
            .docker_says("buildah has no --exclude"),
        some("exclude/at-any-depth", "COPY --exclude=**/*.log d /x")
            .absent("/x/b.log")
            .absent("/x/sub/d.log")
            .docker_says("buildah has no --exclude"),
        some("exclude/several", "COPY --exclude=*.log --exclude=sub d /x")
            .absent("/x/b.log")
            .absent("/x/sub")
            .docker_says("buildah has no --exclude"),
        some(
            "exclude/with-an-exception",
            "COPY --exclude=** --exclude=!**/a.txt d /x",
        )
        .file("/x/a.txt", "text=a\n")
        .absent("/x/b.log")
        .docker_says("buildah has no --exclude"),
        some("exclude/of-a-wildcard", "COPY --exclude=*.log d/* /x/")
            .file("/x/a.txt", "text=a\n")
            .docker_says("buildah has no --exclude"),
        case(
            "exclude/from-a-stage",
            "FROM base AS one\nFROM base\nCOPY --from=one --exclude=t* /full /x\n",
        )
        .absent("/x/two")
        .file("/x/sub/three", "text=base three\n")
        .docker_says("buildah has no --exclude"),
    ]
}

//! COPY: where things go.

use crate::case::{Case, case};

fn tree(case: Case) -> Case {
    case.with("d/one", "one\n")
        .with("d/two", "two\n")
        .with("d/sub/three", "three\n")
        .make(|context| {
            context.mode("d", 0o750);
            context.mode("d/two", 0o600);
            context.mode("d/sub", 0o711);
        })
}

pub fn cases() -> Vec<Case> {
    let mut cases = files();
    cases.extend(directories());
    cases.extend(wildcards());
    cases.extend(onto());
    cases.extend(links());
    cases
}

fn files() -> Vec<Case> {
    vec![
        case("copy/file-to-a-name", "FROM base\nCOPY a /b\n")
            .with("a", "a\n")
            .file("/b", "file mode=0644 owner=0:0 time=1000000000 text=a\n"),
        case(
            "copy/file-below-new-directories",
            "FROM base\nCOPY a /new/deep/b\n",
        )
        .with("a", "a\n")
        .file("/new", "dir mode=0755 owner=0:0")
        .file("/new/deep/b", "file text=a\n"),
        case("copy/file-to-a-slash", "FROM base\nCOPY a /new/\n")
            .with("a", "a\n")
            .file("/new/a", "file text=a\n"),
        case(
            "copy/file-to-a-directory-of-the-image",
            "FROM base\nCOPY a /full\n",
        )
        .with("a", "a\n")
        .file("/full/a", "file text=a\n")
        .file("/full/one", "file text=base one\n"),
        case(
            "copy/several-files-to-a-slash",
            "FROM base\nCOPY a b d/one /new/\n",
        )
        .with("a", "a\n")
        .with("b", "b\n")
        .with("d/one", "one\n")
        .file("/new/one", "text=one\n"),
        case(
            "copy/several-files-without-a-slash",
            "FROM base\nCOPY a b /new\n",
        )
        .with("a", "a\n")
        .with("b", "b\n")
        .refused(&["slash"])
        .docker_says("docker's reference asks for a slash; buildah lets the last file win")
        .unlike_buildkit("it lets the last file win"),
        case(
            "copy/several-files-to-a-directory-without-a-slash",
            "FROM base\nCOPY a b /full\n",
        )
        .with("a", "a\n")
        .with("b", "b\n")
        .file("/full/a", "text=a\n")
        .file("/full/b", "text=b\n"),
        case(
            "copy/several-files-to-a-dot",
            "FROM base\nWORKDIR /new\nCOPY a b .\n",
        )
        .with("a", "a\n")
        .with("b", "b\n")
        .file("/new/b", "text=b\n"),
        case(
            "copy/several-files-to-dot-dot",
            "FROM base\nWORKDIR /new/deep\nCOPY a b ..\n",
        )
        .with("a", "a\n")
        .with("b", "b\n"),
        case(
            "copy/relative-to-the-working-directory",
            "FROM base\nWORKDIR /w\nCOPY a x/b\nCOPY a ../c\nCOPY a ./\n",
        )
        .with("a", "a\n")
        .file("/w/x/b", "text=a\n")
        .file("/c", "text=a\n")
        .file("/w/a", "text=a\n"),
        case("copy/file-to-slash-dot", "FROM base\nCOPY a /new/.\n")
            .with("a", "a\n")
            .file("/new", "dir mode=0755")
            .file("/new/a", "text=a\n")
            .docker_says("buildah does not see that a dot is a directory"),
        case("copy/double-slashes", "FROM base\nCOPY .//a //new///b\n")
            .with("a", "a\n")
            .file("/new/b", "text=a\n"),
        case("copy/no-such-file", "FROM base\nCOPY missing /x\n").refused(&["missing"]),
        case(
            "copy/no-such-file-among-several",
            "FROM base\nCOPY a missing /x/\n",
        )
        .with("a", "a\n")
        .refused(&["missing"]),
        case(
            "copy/source-with-dot-dot-stays-in-the-context",
            "FROM base\nCOPY ../../a /b\n",
        )
        .with("a", "a\n")
        .file("/b", "text=a\n"),
        case(
            "copy/absolute-source-is-of-the-context",
            "FROM base\nCOPY /a /d/../b\n",
        )
        .with("a", "a\n")
        .file("/b", "text=a\n"),
        case("copy/file-with-a-slash-after-it", "FROM base\nCOPY a/ /b\n").with("a", "a\n"),
        case(
            "copy/modes-are-kept",
            "FROM base\nCOPY d /d\nCOPY d/suid d/none /e/\n",
        )
        .with("d/suid", "s\n")
        .with("d/none", "n\n")
        .with("d/sticky/x", "x\n")
        .make(|context| {
            context.mode("d/suid", 0o6755);
            context.mode("d/none", 0o000);
            context.mode("d/sticky", 0o1777);
        })
        .file("/d/suid", "mode=6755")
        .file("/d/none", "mode=0000")
        .file("/d/sticky", "mode=1777")
        .file("/e/suid", "mode=6755")
        .docker_says("buildah takes setuid and setgid away"),
        case(
            "copy/owners-of-the-context-are-not-kept",
            "FROM base\nCOPY . /c/\n",
        )
        .with("d/a", "a\n")
        .make(|context| {
            for name in ["d", "d/a"] {
                std::os::unix::fs::chown(context.path().join(name), Some(77), Some(88))
                    .expect("chown");
            }
        })
        .ignore("/c/Dockerfile")
        .file("/c/d", "owner=0:0")
        .file("/c/d/a", "owner=0:0"),
        case(
            "copy/names-with-spaces-in-json",
            "FROM base\nCOPY [\"a b\", \"/c d/\"]\n",
        )
        .with("a b", "ab\n")
        .file("/c d/a b", "text=ab\n"),
        case("copy/names-that-are-not-ascii", "FROM base\nCOPY . /c/\n")
            .with("größe/日本", "x\n")
            .with("new\nline", "x\n")
            .with("back\\slash", "x\n")
            .with(".hidden", "x\n")
            .ignore("/c/Dockerfile")
            .file("/c/größe/日本", "text=x\n"),
        case("copy/empty-things", "FROM base\nCOPY d /d\nCOPY empty /e\n")
            .with("empty", "")
            .make(|context| {
                std::fs::create_dir_all(context.path().join("d/none")).expect("a directory")
            })
            .file("/d/none", "dir")
            .file("/e", "file size=0"),
        case(
            "copy/the-same-place-twice-in-one-instruction",
            "FROM base\nCOPY x/a y/a /d/\n",
        )
        .with("x/a", "x\n")
        .with("y/a", "y\n")
        .file("/d/a", "text=y\n"),
        case(
            "copy/the-same-place-twice",
            "FROM base\nCOPY x/a /d/\nCOPY y/a /d/\n",
        )
        .with("x/a", "x\n")
        .with("y/a", "yy\n")
        .file("/d/a", "text=yy\n"),
        case("copy/into-scratch", "FROM scratch\nCOPY a /\n")
            .with("a", "a\n")
            .file("/a", "text=a\n"),
        case("copy/needs-two-words", "FROM base\nCOPY a\n")
            .with("a", "a\n")
            .refused(&["COPY"]),
        case(
            "copy/of-an-archive-does-not-unpack",
            "FROM base\nCOPY a.tar /x/\n",
        )
        .make(|context| drop(context.file("a.tar", crate::setup::archive())))
        .absent("/x/unpacked"),
        case(
            "copy/variables-in-paths",
            "FROM base\nARG S=a\nENV D=/dest\n\
             COPY ${S}.txt $D/${S:+set}\n",
        )
        .with("a.txt", "a\n")
        .file("/dest/set", "text=a\n"),
        case("copy/of-the-dockerfile", "FROM base\nCOPY Dockerfile /x\n")
            .file("/x", "text=FROM base\nCOPY Dockerfile /x\n"),
    ]
}

fn directories() -> Vec<Case> {
    vec![
        tree(case(
            "copy/directory-is-its-contents",
            "FROM base\nCOPY d /x\n",
        ))
        .file("/x", "dir mode=0755")
        .file("/x/two", "mode=0600 time=1000000000 text=two\n")
        .file("/x/sub", "mode=0711"),
        tree(case(
            "copy/directory-with-slashes",
            "FROM base\nCOPY d/ /x/\n",
        ))
        .file("/x", "dir mode=0755")
        .file("/x/sub/three", "text=three\n"),
        tree(case(
            "copy/directory-among-files",
            "FROM base\nCOPY d a /x/\n",
        ))
        .with("a", "a\n")
        .file("/x/one", "text=one\n")
        .file("/x/a", "text=a\n"),
        tree(case(
            "copy/directory-below-new-directories",
            "FROM base\nCOPY d /x/y/z\n",
        ))
        .file("/x", "mode=0755")
        .file("/x/y", "mode=0755")
        .file("/x/y/z", "mode=0755"),
        tree(case(
            "copy/directory-merges-into-one-of-the-image",
            "FROM base\nCOPY d /full\n",
        ))
        .file("/full", "mode=0755 owner=0:0")
        .file("/full/one", "text=one\n")
        .file("/full/linked", "text=base one\n")
        .file("/full/two", "mode=0600 owner=0:0 text=two\n")
        .file("/full/sub", "mode=0711")
        .file("/full/sub/three", "mode=0644 text=three\n")
        .file("/full/setuid", "mode=4755"),
        tree(case(
            "copy/directory-into-one-that-is-somebodys",
            "FROM base\nCOPY d /owned\n",
        ))
        .file("/owned", "mode=2770 owner=1000:50"),
        tree(case("copy/directory-to-the-root", "FROM base\nCOPY d /\n"))
            .file("/one", "text=one\n")
            .file("/sub", "mode=0711"),
        tree(case(
            "copy/dot-is-the-whole-context",
            "FROM base\nCOPY . /x\n",
        ))
        .ignore("/x/Dockerfile")
        .file("/x/d", "mode=0750")
        .file("/x/d/sub/three", "text=three\n"),
        tree(case(
            "copy/slash-is-the-whole-context",
            "FROM base\nCOPY / /x/\n",
        ))
        .ignore("/x/Dockerfile")
        .file("/x/d/sub/three", "text=three\n"),
        tree(case("copy/directory-and-dot", "FROM base\nCOPY d/. /x\n"))
            .file("/x/one", "text=one\n")
            .absent("/x/d"),
        tree(case(
            "copy/two-directories-merge",
            "FROM base\nCOPY d e /x/\n",
        ))
        .with("e/sub/four", "four\n")
        .with("e/one", "e one\n")
        .file("/x/one", "text=e one\n")
        .file("/x/sub/three", "text=three\n")
        .file("/x/sub/four", "text=four\n"),
        tree(case(
            "copy/directory-twice-keeps-what-was-there",
            "FROM base\nCOPY d /x\nCOPY e /x\n",
        ))
        .with("e/five", "five\n")
        .make(|context| context.mode("e", 0o700))
        .file("/x/one", "text=one\n")
        .file("/x/five", "text=five\n"),
    ]
}

fn wildcards() -> Vec<Case> {
    let some = |name: &str, line: &str| {
        case(name, &format!("FROM base\n{line}\n"))
            .with("a.txt", "a\n")
            .with("b.txt", "b\n")
            .with("c.log", "c\n")
            .with("da/x", "x\n")
            .with("db/y", "y\n")
    };
    vec![
        some("copy/wildcard-of-several", "COPY *.txt /w/")
            .file("/w/b.txt", "text=b\n")
            .absent("/w/c.log"),
        some("copy/wildcard-of-one-to-a-name", "COPY *.log /w").file("/w", "file text=c\n"),
        some("copy/wildcard-of-several-to-a-name", "COPY *.txt /w")
            .refused(&["slash"])
            .docker_says("docker's reference asks for a slash; buildah lets the last file win")
            .unlike_buildkit("it lets the last file win"),
        some("copy/wildcard-of-one-directory", "COPY *a /w").file("/w/x", "text=x\n"),
        some("copy/wildcard-of-directories", "COPY d? /w/")
            .file("/w/x", "text=x\n")
            .file("/w/y", "text=y\n"),
        some("copy/wildcard-class", "COPY [ac].* /w/")
            .file("/w/c.log", "text=c\n")
            .absent("/w/b.txt"),
        some("copy/wildcard-range-negated", "COPY [^a-b].* /w/")
            .file("/w/c.log", "text=c\n")
            .absent("/w/a.txt"),
        some("copy/wildcard-inside-a-directory", "COPY d*/* /w/").file("/w/y", "text=y\n"),
        some("copy/wildcard-without-a-match", "COPY *.none /w/")
            .absent("/w/a.txt")
            .docker_says("in BuildKit a pattern may match nothing, so that a file can be optional"),
        some(
            "copy/wildcard-without-a-match-among-others",
            "COPY a.txt *.none /w/",
        ),
        some("copy/wildcard-of-everything", "COPY * /w/")
            .ignore("/w/Dockerfile")
            .file("/w/x", "text=x\n")
            .absent("/w/da"),
        some("copy/wildcard-star-does-not-cross-slashes", "COPY d*x /w/")
            .absent("/w/a.txt")
            .docker_says("in BuildKit a pattern may match nothing, so that a file can be optional"),
        case(
            "copy/wildcard-escaped",
            "FROM base\nCOPY arr[[]0].txt /w/\n",
        )
        .with("arr[0].txt", "0\n")
        .with("arr0.txt", "not\n")
        .file("/w/arr[0].txt", "text=0\n")
        .absent("/w/arr0.txt")
        .docker_says("buildah does not unescape names"),
        case(
            "copy/wildcard-takes-hidden-files",
            "FROM base\nCOPY * /w/\n",
        )
        .with(".hidden", "h\n")
        .ignore("/w/Dockerfile")
        .file("/w/.hidden", "text=h\n"),
        case("copy/wildcard-broken", "FROM base\nCOPY [a /w/\n")
            .with("a", "a\n")
            .refused(&["[a"]),
    ]
}

fn onto() -> Vec<Case> {
    vec![
        case("onto/file-of-the-image", "FROM base\nCOPY a /full/two\n")
            .with("a", "new\n")
            .file("/full/two", "mode=0644 owner=0:0 text=new\n"),
        case(
            "onto/one-name-of-a-hard-link",
            "FROM base\nCOPY a /full/one\n",
        )
        .with("a", "new\n")
        .file("/full/one", "alone text=new\n")
        .file("/full/linked", "alone text=base one\n"),
        case("onto/a-setuid-file", "FROM base\nCOPY a /full/setuid\n")
            .with("a", "new\n")
            .file("/full/setuid", "mode=0644 text=new\n"),
        case(
            "onto/a-file-with-capabilities",
            "FROM base\nCOPY a /full/capable\n",
        )
        .with("a", "new\n")
        .file("/full/capable", "mode=0644 text=new\n"),
        case(
            "onto/file-where-a-directory-is",
            "FROM base\nCOPY d /full\n",
        )
        .with("d/sub", "a file\n")
        .refused(&["sub"])
        .docker_says("buildah replaces one kind of file by the other"),
        case(
            "onto/directory-where-a-file-is",
            "FROM base\nCOPY d /full\n",
        )
        .with("d/one/x", "x\n")
        .refused(&["one"])
        .docker_says("buildah replaces one kind of file by the other"),
        case("onto/directory-to-a-file", "FROM base\nCOPY d /full/one\n")
            .with("d/x", "x\n")
            .refused(&["/full/one"]),
        case("onto/file-below-a-file", "FROM base\nCOPY a /full/one/a\n")
            .with("a", "a\n")
            .refused(&["/full/one"]),
        case(
            "onto/a-slash-where-a-file-is",
            "FROM base\nCOPY a /full/one/\n",
        )
        .with("a", "a\n")
        .refused(&["/full/one"]),
        case(
            "onto/a-link-from-the-context-replaces-a-file",
            "FROM base\nCOPY d /full\n",
        )
        .make(|context| {
            std::fs::create_dir(context.path().join("d")).expect("a directory");
            context.link("d/one", "two");
        })
        .file("/full/one", "link to=two")
        .file("/full/linked", "text=base one\n"),
        case(
            "onto/a-link-from-the-context-where-a-directory-is",
            "FROM base\nCOPY d /full\n",
        )
        .make(|context| {
            std::fs::create_dir(context.path().join("d")).expect("a directory");
            context.link("d/sub", "two");
        })
        .refused(&["sub"])
        .docker_says("buildah replaces one kind of file by the other"),
        case("onto/a-file-where-a-link-is", "FROM base\nCOPY d /\n")
            .with("d/to-file", "new\n")
            .file("/to-file", "file text=new\n")
            .file("/full/one", "text=base one\n"),
        case(
            "onto/a-file-where-a-link-to-a-directory-is",
            "FROM base\nCOPY d /\n",
        )
        .with("d/lib", "new\n"),
        case(
            "onto/a-directory-where-a-link-to-one-is",
            "FROM base\nCOPY d /\n",
        )
        .with("d/lib/x", "x\n")
        .file("/lib", "link to=usr/lib")
        .file("/usr/lib/x", "text=x\n")
        .absent("/lib/x")
        .we_say(
            "a directory goes through the image's link as a file does; BuildKit \
             refuses, buildah breaks the image",
        ),
        case(
            "onto/a-directory-where-a-link-to-a-file-is",
            "FROM base\nCOPY d /\n",
        )
        .with("d/to-file/x", "x\n")
        .refused(&["to-file"])
        .docker_says("buildah replaces one kind of file by the other"),
    ]
}

fn links() -> Vec<Case> {
    vec![
        case(
            "through/a-link-on-the-way",
            "FROM base\nCOPY a /var/run/x\n",
        )
        .with("a", "a\n")
        .file("/run/x", "file text=a\n")
        .file("/var/run", "link to=/run"),
        case(
            "through/a-link-and-a-slash",
            "FROM base\nCOPY a /var/run/\n",
        )
        .with("a", "a\n")
        .file("/run/a", "text=a\n")
        .file("/var/run", "link"),
        case("through/a-link-to-a-directory", "FROM base\nCOPY a /lib\n")
            .with("a", "a\n")
            .file("/usr/lib/a", "text=a\n")
            .file("/lib", "link"),
        case(
            "through/a-link-for-a-directory",
            "FROM base\nCOPY d /lib\nCOPY d /lib/deep\nCOPY d /lib/new\n",
        )
        .with("d/x", "x\n")
        .file("/usr/lib/x", "text=x\n")
        .file("/usr/lib/deep/x", "text=x\n")
        .file("/usr/lib/new/x", "text=x\n"),
        case("through/a-link-to-a-file", "FROM base\nCOPY a /to-file\n")
            .with("a", "a\n")
            .file("/full/one", "alone text=a\n")
            .file("/to-file", "link to=full/one")
            .file("/full/linked", "alone text=base one\n")
            .docker_says("buildah replaces the link"),
        case("through/a-dangling-link", "FROM base\nCOPY a /dangling\n")
            .with("a", "a\n")
            .file("/not/there", "file text=a\n")
            .absent("/not/there/a")
            .docker_says("buildah makes a directory where the link leads"),
        case(
            "through/a-dangling-link-and-a-slash",
            "FROM base\nCOPY a /dangling/\n",
        )
        .with("a", "a\n"),
        case("through/a-link-that-climbs", "FROM base\nCOPY a /up/x\n")
            .with("a", "a\n")
            .file("/full/x", "text=a\n"),
        case(
            "through/a-link-made-by-run",
            "FROM base\nRUN mkdir /real && ln -s real /alias\n\
             COPY a /alias/new/\n",
        )
        .with("a", "a\n")
        .file("/real/new/a", "text=a\n"),
        case(
            "through/a-link-of-the-working-directory",
            "FROM base\nWORKDIR /var/run/work\n\
             COPY a .\nRUN pwd > where\n",
        )
        .with("a", "a\n")
        .file("/run/work/a", "text=a\n"),
        case(
            "links/inside-a-directory-are-kept",
            "FROM base\nCOPY d /x\n",
        )
        .with("d/a", "a\n")
        .make(|context| {
            context.link("d/relative", "a");
            context.link("d/absolute", "/etc/passwd");
            context.link("d/dangling", "nowhere");
            context.link("d/out", "../../../../etc");
        })
        .file("/x/relative", "link to=a time=1000000000")
        .file("/x/absolute", "link to=/etc/passwd")
        .file("/x/dangling", "link to=nowhere")
        .file("/x/out", "link to=../../../../etc"),
        case(
            "links/as-a-source-are-followed",
            "FROM base\nCOPY link /x\n",
        )
        .with("a", "a\n")
        .make(|context| context.link("link", "a"))
        .file("/x", "file text=a\n"),
        case(
            "links/as-a-source-keep-their-name",
            "FROM base\nCOPY link /x/\n",
        )
        .with("a", "a\n")
        .make(|context| context.link("link", "a"))
        .file("/x/link", "file text=a\n"),
        case(
            "links/to-a-directory-as-a-source",
            "FROM base\nCOPY link /x/\n",
        )
        .with("d/a", "a\n")
        .make(|context| context.link("link", "d"))
        .file("/x/a", "file text=a\n"),
        case(
            "links/on-the-way-to-a-source",
            "FROM base\nCOPY link/a /x\n",
        )
        .with("d/a", "a\n")
        .make(|context| context.link("link", "d"))
        .file("/x", "file text=a\n"),
        case(
            "links/absolute-as-a-source-are-of-the-context",
            "FROM base\nCOPY link /x\n",
        )
        .with("d/a", "a\n")
        .make(|context| context.link("link", "/d/a"))
        .file("/x", "file text=a\n"),
        case("links/out-of-the-context", "FROM base\nCOPY link /x\n")
            .make(|context| context.link("link", "../../../../../etc/passwd"))
            .refused(&["link"]),
        case("links/that-dangle-as-a-source", "FROM base\nCOPY link /x\n")
            .make(|context| context.link("link", "nowhere"))
            .refused(&["link"]),
        case("links/by-wildcard", "FROM base\nCOPY l* /x/\n")
            .with("a", "a\n")
            .make(|context| context.link("link", "a")),
        case("links/hard-in-one-copy", "FROM base\nCOPY d /x\n")
            .with("d/a", "a\n")
            .make(|context| {
                let at = |name: &str| context.path().join(name);
                std::fs::hard_link(at("d/a"), at("d/b")).expect("a hard link");
            }),
        case("special/fifo", "FROM base\nCOPY d /x\n")
            .with("d/a", "a\n")
            .make(|context| {
                crate::support::run(
                    std::process::Command::new("mkfifo").arg(context.path().join("d/p")),
                )
                .clear()
            })
            .file("/x/p", "fifo"),
        case("special/device", "FROM base\nCOPY d /x\n")
            .with("d/a", "a\n")
            .make(|context| {
                crate::support::run(
                    std::process::Command::new("mknod")
                        .arg(context.path().join("d/null"))
                        .args(["c", "1", "3"]),
                )
                .clear()
            }),
        case("special/socket", "FROM base\nCOPY d /x\n")
            .with("d/a", "a\n")
            .make(|context| {
                drop(
                    std::os::unix::net::UnixListener::bind(context.path().join("d/s"))
                        .expect("a socket"),
                )
            })
            .absent("/x/s")
            .unlike_buildkit("it makes an empty file of a socket"),
        case("special/sparse-file", "FROM base\nCOPY d /x\n")
            .make(|context| {
                context.file("d/s", "");
                let file = std::fs::File::options()
                    .write(true)
                    .open(context.path().join("d/s"))
                    .expect("a file");
                file.set_len(3_000_000).expect("a hole");
            })
            .file("/x/s", "size=3000000"),
        case(
            "special/attributes-of-the-context",
            "FROM base\nCOPY d /x\n",
        )
        .with("d/a", "a\n")
        .make(|context| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(context.path().join("d/a"), "user.note", b"x", flags)
                .expect("an attribute");
        })
        .file("/x/a", "bare text=a\n")
        .docker_says("buildah takes along what the context's files have of attributes"),
    ]
}

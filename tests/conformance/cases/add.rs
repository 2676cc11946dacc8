//! ADD: archives above all.

use crate::case::{Case, case};
use crate::setup::{Archive, archive, compressed};

fn unpacked(case: Case) -> Case {
    case.file("/x/unpacked", "dir mode=0750 owner=12:34")
        .file(
            "/x/unpacked/file",
            "file mode=0604 owner=12:34 time=1000000000 text=unpacked\n",
        )
        .file("/x/unpacked/link", "link to=file")
        .file("/x/unpacked/hard", "same=/x/unpacked/file")
}

pub fn cases() -> Vec<Case> {
    vec![
        case("add/file", "FROM base\nADD a /x\n")
            .with("a", "a\n")
            .file("/x", "text=a\n"),
        case("add/directory", "FROM base\nADD d /x\n")
            .with("d/a", "a\n")
            .file("/x/a", "text=a\n"),
        case("add/wildcard", "FROM base\nADD *.txt /x/\n")
            .with("a.txt", "a\n")
            .with("b.txt", "b\n")
            .file("/x/b.txt", "text=b\n"),
        unpacked(
            case("add/archive", "FROM base\nADD a.tar /x/\n")
                .make(|c| drop(c.file("a.tar", archive()))),
        ),
        unpacked(
            case("add/archive-without-a-slash", "FROM base\nADD a.tar /x\n")
                .make(|c| drop(c.file("a.tar", archive()))),
        ),
        unpacked(
            case("add/archive-gzip", "FROM base\nADD a.tar.gz /x/\n")
                .make(|c| drop(c.file("a.tar.gz", compressed(&archive(), "gz")))),
        ),
        unpacked(
            case("add/archive-bzip2", "FROM base\nADD a.tar.bz2 /x/\n")
                .make(|c| drop(c.file("a.tar.bz2", compressed(&archive(), "bz2")))),
        ),
        unpacked(
            case("add/archive-xz", "FROM base\nADD a.tar.xz /x/\n")
                .make(|c| drop(c.file("a.tar.xz", compressed(&archive(), "xz")))),
        ),
        unpacked(
            case("add/archive-zstd", "FROM base\nADD a.tar.zst /x/\n")
                .make(|c| drop(c.file("a.tar.zst", compressed(&archive(), "zst")))),
        ),
        unpacked(
            case("add/archive-of-any-name", "FROM base\nADD innocent /x/\n")
                .make(|c| drop(c.file("innocent", compressed(&archive(), "gz")))),
        ),
        unpacked(
            case(
                "add/archives-by-wildcard",
                "FROM base\nADD *.tar a.txt /x/\n",
            )
            .with("a.txt", "a\n")
            .make(|c| drop(c.file("a.tar", archive()))),
        ),
        case(
            "add/archive-inside-a-directory-stays",
            "FROM base\nADD d /x/\n",
        )
        .make(|c| drop(c.file("d/a.tar", archive())))
        .absent("/x/unpacked")
        .file("/x/a.tar", "file"),
        case(
            "add/compressed-that-is-no-archive-stays",
            "FROM base\nADD a.gz /x/\n",
        )
        .make(|c| drop(c.file("a.gz", compressed(b"only text\n", "gz"))))
        .file("/x/a.gz", "file"),
        case("add/archive-broken", "FROM base\nADD a.tar /x/\n")
            .make(|c| {
                let mut tar = Archive::new();
                tar.file("file", 0o644, (0, 0), &[b'x'; 2000]);
                let mut bytes = tar.finish();
                bytes.truncate(1100);
                c.file("a.tar", bytes);
            })
            .refused(&["a.tar"]),
        case(
            "add/name-of-an-archive-that-is-none",
            "FROM base\nADD a.tar.gz /x/\n",
        )
        .with("a.tar.gz", "only text\n")
        .file("/x/a.tar.gz", "text=only text\n"),
        case("add/empty-file", "FROM base\nADD a.tar /x/\n")
            .with("a.tar", "")
            .file("/x/a.tar", "size=0"),
        case(
            "add/archive-with-chown",
            "FROM base\nADD --chown=7:8 a.tar /new/x/\n",
        )
        .make(|c| drop(c.file("a.tar", archive())))
        .file("/new/x/unpacked", "mode=0750 owner=7:8")
        .file("/new/x/unpacked/file", "owner=7:8")
        .file("/new/x/unpacked/hard", "owner=7:8")
        .file("/new/x/unpacked/link", "owner=7:8")
        .docker_says("BuildKit gives --chown to what an archive holds"),
        case(
            "add/archive-with-chmod",
            "FROM base\nADD --chmod=700 a.tar /new/x/\n",
        )
        .make(|c| drop(c.file("a.tar", archive()))),
        case(
            "add/archive-onto-files-of-the-image",
            "FROM base\nADD a.tar /\n",
        )
        .make(|c| {
            let mut tar = Archive::new();
            tar.directory("full", 0o711, (5, 6));
            tar.file("full/one", 0o600, (5, 6), b"new one\n");
            tar.file("full/new", 0o644, (0, 0), b"new\n");
            c.file("a.tar", tar.finish());
        })
        .file("/full/one", "mode=0600 owner=5:6 text=new one\n")
        .file("/full/linked", "text=base one\n")
        .file("/full/two", "text=base two\n"),
        case("add/archive-through-a-link", "FROM base\nADD a.tar /\n").make(|c| {
            let mut tar = Archive::new();
            tar.file("var/run/x", 0o644, (0, 0), b"x\n");
            tar.file("lib/y", 0o644, (0, 0), b"y\n");
            c.file("a.tar", tar.finish());
        }),
        case(
            "add/archive-directory-where-a-link-is",
            "FROM base\nADD a.tar /\n",
        )
        .make(|c| {
            let mut tar = Archive::new();
            tar.directory("lib", 0o755, (0, 0));
            tar.file("lib/y", 0o644, (0, 0), b"y\n");
            c.file("a.tar", tar.finish());
        }),
        case(
            "add/archive-file-where-a-directory-is",
            "FROM base\nADD a.tar /\n",
        )
        .make(|c| {
            let mut tar = Archive::new();
            tar.file("full", 0o644, (0, 0), b"a file\n");
            c.file("a.tar", tar.finish());
        }),
        case(
            "add/archive-without-its-directories",
            "FROM base\nADD a.tar /x/\n",
        )
        .make(|c| {
            let mut tar = Archive::new();
            tar.file("a/b/c", 0o600, (5, 6), b"c\n");
            c.file("a.tar", tar.finish());
        })
        .file("/x/a/b/c", "mode=0600 owner=5:6 text=c\n"),
        case("add/archive-with-dot-names", "FROM base\nADD a.tar /x/\n")
            .make(|c| {
                let mut tar = Archive::new();
                tar.directory(".", 0o700, (5, 6));
                tar.file("./a", 0o600, (5, 6), b"a\n");
                c.file("a.tar", tar.finish());
            })
            .file("/x/a", "text=a\n")
            .file("/x", "mode=0755 owner=0:0")
            .docker_says("buildah gives the destination what the archive says of its dot"),
        case(
            "add/unpack-false",
            "FROM base\nADD --unpack=false a.tar /x/\n",
        )
        .make(|c| drop(c.file("a.tar", archive())))
        .file("/x/a.tar", "file")
        .absent("/x/unpacked")
        .docker_says("buildah has no --unpack"),
        case("add/link", "FROM base\nADD --link a.tar /x/\n")
            .make(|c| drop(c.file("a.tar", archive())))
            .file("/x/unpacked/file", "mode=0604 owner=12:34")
            .docker_says("buildah has no --link"),
        case("add/exclude", "FROM base\nADD --exclude=*.log d /x/\n")
            .with("d/a.txt", "a\n")
            .with("d/b.log", "b\n")
            .absent("/x/b.log")
            .file("/x/a.txt", "file")
            .docker_says("buildah has no --exclude"),
        case("add/chown-by-name", "FROM base\nADD --chown=app a /new/x\n")
            .with("a", "a\n")
            .file("/new/x", "owner=1000:1001"),
    ]
}

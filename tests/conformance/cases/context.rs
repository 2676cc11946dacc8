//! The build context and what an ignore file leaves of it.

use crate::case::{Case, case};

/// A context whose every file is copied to `/c`.
fn ignoring(name: &str, patterns: &'static str) -> Case {
    case(name, "FROM base\nCOPY . /c/\n")
        .with(".dockerignore", patterns)
        .with("a.txt", "a\n")
        .with("b.log", "b\n")
        .with(".hidden", "h\n")
        .with("d/a.txt", "a\n")
        .with("d/b.log", "b\n")
        .with("d/deep/a.txt", "a\n")
        .with("d/deep/c.md", "c\n")
        .with("e/a.txt", "a\n")
        .ignore("/c/Dockerfile")
        .ignore("/c/.dockerignore")
}

pub fn cases() -> Vec<Case> {
    vec![
        ignoring("ignore/by-name", "a.txt\n")
            .absent("/c/a.txt")
            .file("/c/d/a.txt", "text=a\n"),
        ignoring("ignore/wildcard-at-the-top-only", "*.log\n")
            .absent("/c/b.log")
            .file("/c/d/b.log", "text=b\n"),
        ignoring("ignore/wildcard-one-down", "*/*.txt\n")
            .absent("/c/d/a.txt")
            .absent("/c/e/a.txt")
            .file("/c/d/deep/a.txt", "file"),
        ignoring("ignore/at-any-depth", "**/*.txt\n")
            .absent("/c/a.txt")
            .absent("/c/d/deep/a.txt"),
        ignoring("ignore/directory", "d\n").absent("/c/d"),
        ignoring("ignore/directory-with-a-slash", "d/\n").absent("/c/d"),
        ignoring("ignore/with-a-leading-slash", "/d/deep\n")
            .absent("/c/d/deep")
            .file("/c/d/a.txt", "file"),
        ignoring("ignore/everything-but", "*\n!d/deep\n")
            .file("/c/d/deep/c.md", "text=c\n")
            .absent("/c/d/a.txt")
            .absent("/c/a.txt"),
        ignoring("ignore/everything-below-but", "d/**\n!d/deep/*.md\n")
            .file("/c/d/deep/c.md", "text=c\n")
            .absent("/c/d/a.txt"),
        ignoring("ignore/the-last-one-counts", "*.txt\n!a.txt\n*.txt\n").absent("/c/a.txt"),
        ignoring("ignore/exception-first-is-no-use", "!a.txt\n*.txt\n").absent("/c/a.txt"),
        ignoring("ignore/comments-and-blanks", "# a.txt\n\n   \n  b.log  \n")
            .absent("/c/b.log")
            .file("/c/a.txt", "file"),
        ignoring("ignore/hidden-files", ".*\n").absent("/c/.hidden"),
        ignoring("ignore/question-mark-and-class", "?.txt\nd/[a-b].*\n")
            .absent("/c/a.txt")
            .absent("/c/d/b.log"),
        ignoring("ignore/dot-and-dot-dot", "./a.txt\nd/../b.log\n")
            .absent("/c/a.txt")
            .absent("/c/b.log"),
        ignoring("ignore/double-star-in-the-middle", "d/**/a.txt\n")
            .absent("/c/d/a.txt")
            .absent("/c/d/deep/a.txt")
            .file("/c/e/a.txt", "file"),
        ignoring("ignore/case-matters", "A.TXT\n").file("/c/a.txt", "file"),
        ignoring("ignore/carriage-returns", "a.txt\r\nb.log\r\n")
            .absent("/c/a.txt")
            .absent("/c/b.log"),
        ignoring("ignore/byte-order-mark", "\u{feff}a.txt\n").absent("/c/a.txt"),
        ignoring("ignore/broken-pattern", "[a\n").refused(&["[a"]),
        case(
            "ignore/what-is-ignored-cannot-be-copied",
            "FROM base\nCOPY a /x\n",
        )
        .with(".dockerignore", "a\n")
        .with("a", "a\n")
        .refused(&["a"]),
        case(
            "ignore/what-is-ignored-is-no-match",
            "FROM base\nCOPY *.txt /x/\n",
        )
        .with(".dockerignore", "a.txt\n")
        .with("a.txt", "a\n")
        .with("b.txt", "b\n")
        .absent("/x/a.txt")
        .file("/x/b.txt", "file"),
        case("ignore/the-dockerfile-itself", "FROM base\nCOPY . /c/\n")
            .with(".dockerignore", "Dockerfile\n.dockerignore\n")
            .with("a", "a\n")
            .absent("/c/Dockerfile")
            .absent("/c/.dockerignore")
            .file("/c/a", "file"),
        case("ignore/empty-file", "FROM base\nCOPY . /c/\n")
            .with(".dockerignore", "")
            .with("a", "a\n")
            .ignore("/c/Dockerfile")
            .file("/c/.dockerignore", "size=0"),
        case(
            "ignore/of-a-dockerfile-of-another-name",
            "FROM base\nRUN false\n",
        )
        .with("Other", "FROM base\nCOPY . /c/\n")
        .with(
            "Other.dockerignore",
            "a\nOther*\nDockerfile*\n.dockerignore\n",
        )
        .with(".dockerignore", "b\n")
        .with("a", "a\n")
        .with("b", "b\n")
        .named("Other")
        .absent("/c/a")
        .file("/c/b", "text=b\n"),
        case("ignore/of-the-dockerfile", "FROM base\nCOPY . /c/\n")
            .with("Dockerfile.dockerignore", "a\nDockerfile*\n.dockerignore\n")
            .with(".dockerignore", "b\n")
            .with("a", "a\n")
            .with("b", "b\n")
            .absent("/c/a")
            .file("/c/b", "text=b\n"),
        case(
            "context/dockerfile-of-another-name",
            "FROM base\nRUN false\n",
        )
        .with("sub/Other", "FROM base\nCOPY a /x\n")
        .with("a", "a\n")
        .named("sub/Other")
        .file("/x", "text=a\n"),
        case("context/no-such-dockerfile", "FROM base\n")
            .named("Missing")
            .refused(&["Missing"]),
        case("context/many-files", "FROM base\nCOPY d /d\n").make(|context| {
            for number in 0..500 {
                context.file(&format!("d/{}/{number}", number % 7), number.to_string());
            }
        }),
    ]
}

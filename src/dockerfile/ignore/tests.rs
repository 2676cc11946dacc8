//! Tables of what is ignored: moby's own cases and those of its bug reports, in our words.

use proptest::prelude::*;

use super::*;

fn ignores(patterns: &[&str], path: &str) -> bool {
    IgnorePatterns::new(patterns.iter().copied())
        .unwrap()
        .ignores(path)
}

#[test]
fn one_pattern_matches_as_the_table_says() {
    let table: &[(&str, &[&str], &[&str])] = &[
        // (pattern, what it ignores, what it doesn't)
        ("*", &["a", ".a", "a/b"], &[]),
        ("*.rs", &["lib.rs", ".rs"], &["src/lib.rs", "lib.rsx"]),
        ("**", &["file", "dir/file", ".hidden"], &[]),
        ("**/", &["file", "dir/file"], &[]),
        ("**/**", &["file", "dir/file"], &[]),
        ("dir", &["dir", "dir/a", "dir/a/b"], &["dirs", "a/dir"]),
        ("dir/", &["dir", "dir/a"], &["dirs"]),
        ("dir/*", &["dir/a", "dir/a/b"], &["dir"]),
        ("dir/**", &["dir/a", "dir/a/b"], &["dir", "dirs"]),
        ("dir**", &["dir", "dirs", "dir/a"], &["di"]),
        (
            "**/dir",
            &["dir", "dir/file", "a/dir", "a/b/dir/c"],
            &["adir", "dirs"],
        ),
        ("**dir", &["dir", "adir", "a/dir", "a/bdir/c"], &["dirs"]),
        ("**/.foo", &[".foo", "a/.foo"], &["bar.foo"]),
        ("**/two/*", &["one/two/a", "two/a"], &["one/two"]),
        ("**/two/**", &["one/two/three/a", "two/a"], &["one/two"]),
        ("**/file*", &["file", "a/b/file.txt"], &["a/profile"]),
        ("**/file*txt", &["a/b/file.txt", "filetxt"], &["file.txt2"]),
        ("**/*.txt", &["a.txt", "a/b.txt", "a/b/c.txt"], &["a.txt2"]),
        (
            "**/**/*.txt",
            &["a.txt", "a/b.txt", "a/b/c.txt"],
            &["a/b/c.txt2"],
        ),
        ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a/xb", "ab"]),
        ("a**b", &["ab", "ax/b", "a/b", "ax/y/b"], &["axb", "a/xb"]),
        (
            "a**/*.txt",
            &["a/f.txt", "a/b/f.txt", "a/b/c/f.txt", "af.txt"],
            &["b/f.txt"],
        ),
        ("a/*.txt", &["a/f.txt"], &["a/b/f.txt"]),
        (
            "a/*.txt**",
            &["a/f.txt", "a/f.txt.gz", "a/f.txt/b"],
            &["a/f"],
        ),
        ("a[b-d]e", &["ace"], &["ae", "aae"]),
        ("a[^b-d]e", &["aze", "a^e"], &["ace"]),
        ("a[b\\-d]e", &["a-e", "abe"], &["ace"]),
        ("a[&~.#]b", &["a&b", "a~b", "a.b", "a#b"], &["axb"]),
        ("a?c", &["abc", "a.c"], &["ac", "a/c", "abbc"]),
        (".*", &[".foo", ".a/b"], &["foo"]),
        ("abc.def", &["abc.def"], &["abcdef", "abcZdef"]),
        ("a\\\\", &["a\\"], &["a"]),
        ("a\\*b", &["a*b"], &["axb"]),
        ("a\\b", &["ab"], &["a\\b"]),
        ("a(b)c/d", &["a(b)c/d"], &["abc/d"]),
        ("a.|)$(}+{b^c", &["a.|)$(}+{b^c"], &[]),
        ("d/*.whl", &["d/x-2.4.0rc3+g08-py3.whl"], &["d/x.whl2"]),
        ("Größe*", &["Größe", "Größen/x"], &["Grösse"]),
        ("a//b/./c/../d", &["a/b/d"], &["a/b/c"]),
        ("../a", &[], &["a"]),
        (".", &[], &["a", "."]),
    ];
    for (pattern, ignored, kept) in table {
        for path in *ignored {
            assert!(ignores(&[pattern], path), "{pattern} must ignore {path}");
        }
        for path in *kept {
            assert!(
                !ignores(&[pattern], path),
                "{pattern} must not ignore {path}"
            );
        }
    }
}

#[test]
fn the_last_pattern_that_matches_decides() {
    assert!(!ignores(&["docs", "!docs/README.md"], "docs/README.md"));
    assert!(ignores(&["docs", "!docs/README.md"], "docs/other.md"));
    assert!(!ignores(&["docs/*", "!docs/README.md"], "docs/README.md"));
    assert!(ignores(&["!a.go", "*.go"], "a.go"));
    assert!(!ignores(&["*.go", "!a.go"], "a.go"));
    assert!(!ignores(&["**", "!util/web"], "util/web/foo"));
    assert!(ignores(
        &["**", "!util/web", "util/web/foo"],
        "util/web/foo"
    ));
    assert!(!ignores(&["**", "!dist/*.whl"], "dist/a.whl"));
    assert!(ignores(&["*", "!src", "src/**/*.o"], "src/a/b.o"));
    assert!(!ignores(&["*", "!src", "src/**/*.o"], "src/a/b.c"));
}

#[test]
fn the_file_has_comments_blanks_and_absolute_paths() {
    let text = "\u{feff}# comment\n/abs\n\n  spaced  \r\n !kept \n#!x\n ! /abs/kept \n # not a comment\n/\n";
    let patterns = IgnorePatterns::parse(text.as_bytes()).unwrap();
    let texts: Vec<_> = patterns
        .patterns
        .iter()
        .map(|p| (p.exception, p.text.as_str()))
        .collect();
    let expected = [
        (false, "abs"),
        (false, "spaced"),
        (true, "kept"),
        (true, "abs/kept"),
        (false, "# not a comment"),
        (false, "/"),
    ];
    assert_eq!(texts, expected);
}

#[test]
fn a_bad_pattern_is_told_with_its_line() {
    for (text, line) in [
        ("a\n!\n", 2),
        ("\n\n[", 3),
        ("! ", 1),
        ("a[z-a]", 1),
        ("x\\", 1),
    ] {
        assert_eq!(
            IgnorePatterns::parse(text.as_bytes()).unwrap_err().line,
            line,
            "{text}"
        );
    }
    let error = IgnorePatterns::parse(b"!").unwrap_err().to_string();
    assert_eq!(
        error,
        "\"!\" is not an ignore pattern; a ! needs a pattern after it"
    );
}

#[test]
fn no_file_is_no_pattern_and_nobody_ignores_the_context() {
    assert!(IgnorePatterns::parse(b"# nothing\n").unwrap().is_empty());
    assert!(!ignores(&["*", "**", "."], "."));
}

#[test]
fn a_directory_may_be_left_out_unless_an_exception_may_be_below() {
    let below = |patterns: &[&str], directory| {
        let patterns = IgnorePatterns::new(patterns.iter().copied()).unwrap();
        assert!(patterns.ignores(directory));
        patterns.may_contain_exceptions_below(directory)
    };
    assert!(!below(&["target"], "target"));
    assert!(below(&["target", "!target/release/app"], "target"));
    assert!(below(&["target", "!target/release/app"], "target/release"));
    assert!(!below(&["target", "!target/release/app"], "target/debug"));
    assert!(below(&["target", "!target/*/app"], "target/debug"));
    assert!(!below(&["target", "!target/*/app"], "target/debug/deps"));
    assert!(below(&["target", "!**/*.md"], "target/debug/deps"));
    assert!(below(&["target", "!t**x"], "target/debug"));
    assert!(!below(&["target", "!src/**"], "target/debug"));
    assert!(!below(&["!target/x", "target"], "target"));
    assert!(below(&["target", "!target[/]x"], "target"));
    assert!(!below(&["*", "!src"], "target"));
}

proptest! {
    #[test]
    fn nothing_panics(text in "[ab/*?!#\\[\\]^\\\\. \n-]{0,40}", path in "[ab/.]{0,20}") {
        if let Ok(patterns) = IgnorePatterns::parse(text.as_bytes()) {
            patterns.ignores(&path);
            patterns.may_contain_exceptions_below(&path);
        }
    }

    #[test]
    fn a_walk_that_leaves_directories_out_finds_the_same(
        patterns in prop::collection::vec("!?[ab*]{1,2}(/[ab*?]{1,2}){0,2}", 1..5),
        path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
    ) {
        let Ok(patterns) = IgnorePatterns::new(patterns.iter().map(String::as_str)) else {
            return Ok(());
        };
        for (index, _) in path.match_indices('/') {
            let directory = &path[..index];
            if patterns.ignores(directory) && !patterns.may_contain_exceptions_below(directory) {
                prop_assert!(patterns.ignores(&path));
            }
        }
    }
}

//! Tables of what words expand to.

use proptest::prelude::*;

use super::*;

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "HOME" => "/root",
        "SHELL" => "bash",
        "EMPTY" => "",
        "FILE" => "/srv/app/app.tar.gz",
        "SPACED" => "  one  two ",
        "KOREAN" => "한국어",
        "QUOTED" => "a'b\"c",
        _ => return None,
    };
    Some(value.to_owned())
}

fn expanded(word: &str) -> Result<String, ExpandError> {
    expand(word, &environment, '\\').map(|expanded| expanded.text)
}

/// `(word, result)`; `None` is an error.
const TEXTS: &[(&str, Option<&str>)] = &[
    // Quotes and escapes.
    ("plain", Some("plain")),
    ("", Some("")),
    ("don'", None),
    ("a'b'c", Some("abc")),
    (r"a\'b", Some("a'b")),
    (r"a\\'b", None),
    (r"a\tb", Some("atb")),
    (r#""a\tb""#, Some(r"a\tb")),
    (r#""a\\tb""#, Some(r"a\tb")),
    (r"'a\tb'", Some(r"a\tb")),
    (r"end\", Some("end")),
    (r"end\\", Some(r"end\")),
    (r#""open"#, None),
    (r#""open\""#, None),
    (r"'closed\'", Some(r"closed\")),
    (r#""it's""#, Some("it's")),
    (r#"'"x"'"#, Some(r#""x""#)),
    (r#""a\"b""#, Some(r#"a"b"#)),
    // Plain variables.
    ("$HOME", Some("/root")),
    ("a${HOME}b", Some("a/rootb")),
    ("$HOMEb", Some("")),
    ("$home", Some("")),
    ("a$.b", Some("a$.b")),
    ("a$", Some("a$")),
    (r"\$HOME", Some("$HOME")),
    (r"\\$HOME", Some(r"\/root")),
    (r"\${}", Some("${}")),
    ("'$HOME'", Some("$HOME")),
    (r#""$HOME""#, Some("/root")),
    (r#""'$HOME'""#, Some("'/root'")),
    (r#""\$HOME""#, Some("$HOME")),
    ("$KOREAN안녕", Some("")),
    ("${KOREAN}안녕", Some("한국어안녕")),
    ("$QUOTED", Some("a'b\"c")),
    // Braces that are wrong.
    ("${", None),
    ("${}", None),
    ("${HOME", None),
    ("${{HOME}", None),
    ("${:}", None),
    ("${:-x}", None),
    ("${.}", None),
    ("${HOME=x}", None),
    ("${HOME:=x}", None),
    ("${HOME:#x}", None),
    ("${HOME:", None),
    ("${HOME}}", Some("/root}")),
    // Defaults and alternatives.
    ("${NONE:-x}", Some("x")),
    ("${NONE-x}", Some("x")),
    ("${EMPTY:-x}", Some("x")),
    ("${EMPTY-x}", Some("")),
    ("${HOME:-x}", Some("/root")),
    ("${NONE:-}", Some("")),
    ("${NONE:-$HOME}", Some("/root")),
    ("${NONE:-${NONE2:-y}}", Some("y")),
    ("${NONE:-{x}", Some("{x")),
    ("${NONE:-x}}", Some("x}")),
    ("${NONE:-x ${HOME}", None),
    ("${NONE:-'a}b'}", Some("a}b")),
    (r"${NONE:-\$HOME:}", Some("$HOME:")),
    ("${HOME:+x}", Some("x")),
    ("${HOME+x}", Some("x")),
    ("${EMPTY:+x}", Some("")),
    ("${EMPTY+x}", Some("x")),
    ("${NONE:+x}", Some("")),
    ("${HOME:+${HOME}:}", Some("/root:")),
    // Demands.
    ("${HOME:?x}", Some("/root")),
    ("${EMPTY?x}", Some("")),
    ("${EMPTY:?x}", None),
    ("${NONE?x}", None),
    ("${NONE:?}", None),
    // Prefixes, suffixes, replacements.
    ("${FILE#*/}", Some("srv/app/app.tar.gz")),
    ("${FILE##*/}", Some("app.tar.gz")),
    ("${FILE%.*}", Some("/srv/app/app.tar")),
    ("${FILE%%.*}", Some("/srv/app/app")),
    ("${FILE%.$NONE*}", Some("/srv/app/app.tar")),
    ("${FILE#nothing}", Some("/srv/app/app.tar.gz")),
    ("${FILE#?srv}", Some("/app/app.tar.gz")),
    (r"${FILE#\*}", Some("/srv/app/app.tar.gz")),
    (r"${FILE#\x}", None),
    ("${FILE/app/x}", Some("/srv/x/app.tar.gz")),
    ("${FILE//app/x}", Some("/srv/x/x.tar.gz")),
    ("${FILE//app/}", Some("/srv//.tar.gz")),
    (r"${FILE//\//-}", Some("-srv-app-app.tar.gz")),
    ("${FILE/a*p/X}", Some("/srv/X.tar.gz")),
    ("${FILE/./$HOME}", Some("/srv/app/app/roottar.gz")),
    ("${FILE/app}", None),
    ("${FILE/app/x", None),
    ("${NONE/a/b}", Some("")),
    ("${NONE#a}", Some("")),
    // The shell's parameters, never set.
    ("$1x", Some("x")),
    ("$12x", Some("x")),
    ("${1:-x}", Some("x")),
    ("$@$*$#$?$-$$$!", Some("")),
    ("${#}", Some("")),
    ("${-:-x}", Some("x")),
    ("$@@", Some("@")),
    // Heredoc arrows are nothing here.
    ("a<b<<c", Some("a<b<<c")),
];

#[test]
fn words_expand_as_the_table_says() {
    for (word, result) in TEXTS {
        let text = expanded(word);
        match result {
            Some(result) => assert_eq!(text.as_deref(), Ok(*result), "{word}"),
            None => assert!(text.is_err(), "{word} gives {text:?}"),
        }
    }
}

#[test]
fn words_are_split_where_no_quote_protects_the_space() {
    let table: &[(&str, &[&str])] = &[
        ("a b", &["a", "b"]),
        ("  a  b  ", &["a", "b"]),
        (r#"a" b "c"#, &["a b c"]),
        (r"a\ b", &["a b"]),
        ("x${SPACED}y", &["x", "one", "two", "y"]),
        (r#"x"${SPACED}"y"#, &["x  one  two y"]),
        ("x${NONE:-1 2}y", &["x1", "2y"]),
        ("$NONE", &[]),
        ("''", &[]),
        ("<< EOF", &["<< EOF"]),
    ];
    for (word, words) in table {
        assert_eq!(
            expand(word, &environment, '\\').unwrap().words,
            *words,
            "{word}"
        );
    }
}

#[test]
fn a_backquote_can_be_the_escape_character() {
    let text = |word| expand(word, &environment, '`').unwrap().text;
    assert_eq!(text("C:\\dir\\`$HOME"), "C:\\dir\\$HOME");
    assert_eq!(text("\"`\"\\\""), "\"\\");
}

#[test]
fn what_was_looked_up_is_told_whether_taken_or_not() {
    let expanded = expand(
        "${HOME:-$NONE} '$SHELL' ${EMPTY+$KOREAN}",
        &environment,
        '\\',
    )
    .unwrap();
    assert_eq!(
        expanded.found.into_iter().collect::<Vec<_>>(),
        ["EMPTY", "HOME", "KOREAN"]
    );
    assert_eq!(expanded.unset.into_iter().collect::<Vec<_>>(), ["NONE"]);
}

#[test]
fn a_heredoc_keeps_its_quotes() {
    let text = |content| expand_heredoc(content, &environment).unwrap().text;
    assert_eq!(
        text("it's \"$HOME\"\n\\$HOME <<X\n"),
        "it's \"/root\"\n$HOME <<X\n"
    );
}

#[test]
fn a_display_keeps_quotes_and_unset_variables_and_never_fails() {
    let text = |word| expand_for_display(word, &environment, '\\');
    assert_eq!(
        text("echo \"$HOME\" $1 ${x:-y} $?"),
        "echo \"/root\" $1 ${x:-y} $?"
    );
    assert_eq!(text("echo don't"), "echo don't");
}

#[test]
fn errors_say_what_the_word_demands() {
    let message = |word| expanded(word).unwrap_err().to_string();
    assert_eq!(
        message("${TOKEN:?give one}"),
        "cannot expand \"${TOKEN:?give one}\": TOKEN is not set: give one"
    );
    assert_eq!(
        message("${EMPTY:?}"),
        "cannot expand \"${EMPTY:?}\": EMPTY is empty"
    );
    assert_eq!(message("${HOME"), "cannot expand \"${HOME\": ${ has no }");
    assert!(message("${HOME/a}").contains("${HOME/pattern/replacement} lacks its second /"));
    assert!(message("${HOME=a}").contains("\"=\" is not supported after ${HOME"));
}

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    let word = "${a:-".repeat(100_000);
    assert_eq!(expanded(&word).unwrap_err().problem, ExpandProblem::TooDeep);
    let word = "\"${a:-".repeat(100_000);
    assert_eq!(expanded(&word).unwrap_err().problem, ExpandProblem::TooDeep);
}

proptest! {
    #[test]
    fn no_word_panics(word in "[a${}:?#%/*\\\\'\"<` \\-+=]{0,40}", escape in "[\\\\`]") {
        let escape = escape.chars().next().unwrap();
        let _ = expand(&word, &environment, escape);
        let _ = expand_heredoc(&word, &environment);
        let options = Options { keep_escapes: true, keep_quotes: true, keep_unset: true, ..Options::new(escape) };
        let _ = options.expand(&word, &environment);
    }

    #[test]
    fn no_text_panics(word in any::<String>()) {
        let _ = expand(&word, &environment, '\\');
    }

    #[test]
    fn text_without_special_characters_is_itself(word in "[a-zA-Z0-9 ./:=,@%{}#-]*") {
        prop_assert_eq!(expanded(&word).unwrap(), word);
    }
}

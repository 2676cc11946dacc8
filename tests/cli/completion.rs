//! TAB, in the shells themselves.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::need::{Need, skip_without};
use crate::sample::{Everything, Sample, program};
use crate::terminal::Terminal;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("completions")
        .join(name)
}

/// A shell in a terminal, in which `rstore` is the program and its completion is read.
fn shell(command: &[&str], setup: &str) -> Terminal {
    let program = Path::new(env!("CARGO_BIN_EXE_rstore"));
    let path = std::env::var("PATH").unwrap_or_default();
    let home = tempfile::tempdir().unwrap();
    let mut shell = Command::new(command[0]);
    shell
        .args(&command[1..])
        .env(
            "PATH",
            format!("{}:{path}", program.parent().unwrap().display()),
        )
        .env("HOME", home.path())
        .env_remove("RSTORE_ROOT")
        .env_remove("LC_ALL")
        .env("LANG", "C.UTF-8");
    let terminal = Terminal::run(&shell, 24, 200);
    // What is typed stands on the screen too: the answer is another word.
    terminal.keys(&format!("{setup}; echo rea''dy\r"));
    terminal.shows(&["ready"]);
    terminal
}

/// What each line becomes by a TAB.
fn completes(terminal: &Terminal, store: &Sample, cases: &[(&str, &str)]) {
    let root = store.root();
    for (typed, completed) in cases {
        let line = format!("rstore --root {} {typed}", root.display());
        terminal.keys(&format!("{line}\t"));
        let whole = format!("{} {completed}", root.display());
        let bare: String = whole.chars().filter(|c| !c.is_whitespace()).collect();
        terminal.until(completed, |screen| {
            let text: String = screen
                .contents()
                .chars()
                .filter(|c| !c.is_whitespace())
                .collect();
            text.contains(&bare)
        });
        // The line is thrown away.
        terminal.keys("\x15\x0c");
    }
}

fn cases(everything: &Everything) -> Vec<(String, String)> {
    let id = everything.old.id.short();
    vec![
        ("unt".to_owned(), "untag ".to_owned()),
        ("rmi ba".to_owned(), "rmi base:latest".to_owned()),
        ("untag app:l".to_owned(), "untag app:latest".to_owned()),
        (format!("history {}", &id[..6]), format!("history {id}")),
        ("images --no-tr".to_owned(), "images --no-trunc".to_owned()),
    ]
}

fn holds_in(command: &[&str], setup: &str) {
    let everything = Everything::new();
    everything.sample.ok(&["images"]);
    let terminal = shell(command, setup);
    let cases = cases(&everything);
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    completes(&terminal, &everything.sample, &cases);
}

#[test]
fn bash_completes_verbs_options_names_and_ids() {
    if skip_without(&[Need::Program("bash")]) {
        return;
    }
    let source = format!("source {}", script("rstore.bash").display());
    holds_in(&["bash", "--noprofile", "--norc", "-i"], &source);
}

#[test]
fn zsh_completes_verbs_options_names_and_ids() {
    if skip_without(&[Need::Program("zsh")]) {
        return;
    }
    let setup = format!(
        "autoload -U compinit; compinit -u -D; source {}",
        script("_rstore").display()
    );
    holds_in(&["zsh", "-f", "-i"], &setup);
}

#[test]
fn fish_completes_verbs_options_names_and_ids() {
    if skip_without(&[Need::Program("fish")]) {
        return;
    }
    let source = format!("source {}", script("rstore.fish").display());
    holds_in(&["fish", "--no-config", "-i"], &source);
}

fn asked(arguments: &[&str]) -> String {
    let output = program()
        .arg("__complete")
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    assert!(output.stderr.is_empty(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_store_that_is_broken_or_not_there_is_silent_and_left_alone() {
    let store = Everything::new().sample;
    let root = store.root();
    let root = root.to_str().unwrap();
    let ask = |root: &str| asked(&["fish", "--", "rstore", "--root", root, "rmi", "b"]);
    assert_eq!(ask(root), "base:latest\n");
    assert!(
        !store.root().join("rstore").exists(),
        "nothing is made for a TAB"
    );
    std::fs::write(store.root().join("index.json"), "{").unwrap();
    assert_eq!(ask(root), "");
    assert_eq!(ask("/no/such/store"), "");
    assert_eq!(
        asked(&["fish", "--", "rstore", "--root"]).lines().count(),
        1
    );
    for odd in [
        &[][..],
        &["bash"],
        &["tcsh", "--", "rstore", ""],
        &["bash", "x"],
        &["zsh", "--"],
    ] {
        asked(odd);
    }
}

#[test]
fn ids_come_in_the_form_that_was_begun_and_never_without_a_digit() {
    let everything = Everything::new();
    everything.sample.ok(&["images"]);
    let root = everything.sample.root();
    let ask = |word: &str| {
        let words = [
            "fish",
            "--",
            "rstore",
            "--root",
            root.to_str().unwrap(),
            "why",
            word,
        ];
        asked(&words)
    };
    let id = everything.app.id;
    assert_eq!(ask(&id.hex()[..5]), format!("{}\n", id.short()));
    assert_eq!(ask(&id.hex()[..20]), format!("{}\n", id.hex()));
    assert_eq!(ask(&id.to_string()[..12]), format!("{id}\n"));
    assert_eq!(ask(""), "app:1\napp:latest\nbase:latest\n");
    assert_eq!(ask("zz"), "");
}

#[test]
fn names_that_would_steer_the_line_are_left_out() {
    let store = Sample::new();
    let image = store.image(&crate::sample::Recipe::default());
    store.write_index(&[("a\u{1b}[2Jb", image), ("a b;$(x)", image), ("a:1", image)]);
    let root = store.root();
    let line = format!("rstore --root {} rmi a", root.display());
    let breaks = "\"'@><=;|&(: \t";
    assert_eq!(
        asked(&["bash", breaks, &line]),
        "a\\ b\\;\\$\\(x\\) \na:1 \n"
    );
    let line = format!("rstore --root {} rmi a:", root.display());
    assert_eq!(asked(&["bash", breaks, &line]), "1 \n");
}

#[test]
fn nobody_waits_for_ten_thousand_names() {
    let store = Sample::new();
    let image = store.image(&crate::sample::Recipe::default());
    let names: Vec<String> = (0..10_000)
        .map(|n| format!("host/team/app{n}:latest"))
        .collect();
    let tags: Vec<(&str, crate::sample::Image)> =
        names.iter().map(|n| (n.as_str(), image)).collect();
    store.write_index(&tags);
    let root = store.root();
    let words = [
        "fish",
        "--",
        "rstore",
        "--root",
        root.to_str().unwrap(),
        "rmi",
        "host/team/app999",
    ];
    // Before the catalog knows them, and after.
    assert_eq!(asked(&words).lines().count(), 11);
    store.ok(&["images", "-q"]);
    let begun = Instant::now();
    assert_eq!(asked(&words).lines().count(), 11);
    // Twenty times what it takes: an unoptimised program on a busy machine.
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
}

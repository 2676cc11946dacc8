//! Names, texts, arguments and terminals that nobody hoped for.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use crate::sample::{Everything, Image, Recipe, Sample, program, run};
use crate::terminal::Terminal;

/// Every command that lists, on a store with one of everything.
const LISTS: &[&[&str]] = &[
    &["images"],
    &["images", "-a"],
    &["images", "-a", "--tree"],
    &["graph"],
    &["graph", "--layers", "--format", "dot"],
    &["layers"],
    &["history", "app"],
    &["inspect", "app"],
    &["why", "app"],
    &["df", "-v"],
    &["ps"],
    &["log"],
    &["prune", "-n"],
];

#[test]
fn an_unknown_filter_is_refused_with_those_that_there_are() {
    let store = Everything::new().sample;
    for (list, one) in [
        (&["images"][..], "dangling"),
        (&["layers"], "unreferenced"),
        (&["history", "app"], "empty"),
        (&["df"], "type"),
        (&["ps"], "status"),
        (&["log"], "operation"),
    ] {
        let arguments = [list, &["-f", "colour=blue"]].concat();
        let run = store.rstore(&arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.stderr);
        let known = run
            .stderr
            .contains("there is no filter \"colour\"; there are");
        assert!(known && run.stderr.contains(one), "{}", run.stderr);
    }
}

#[test]
fn a_template_that_is_not_understood_is_refused_with_its_line_and_column() {
    let store = Everything::new().sample;
    for list in [
        &["images"][..],
        &["layers"],
        &["history", "app"],
        &["df"],
        &["ps"],
        &["log"],
        &["inspect", "app"],
    ] {
        for (template, told) in [
            ("{{.ID", "template:1:"),
            ("{{.ID}}\n{{range}}", "template:2:"),
            ("{{.ID | uper}}", "uper"),
        ] {
            let arguments = [list, &["--format", template]].concat();
            let run = store.rstore(&arguments);
            assert_eq!(run.code, 2, "{arguments:?}: {}", run.stderr);
            assert!(run.stderr.contains(told), "{arguments:?}: {}", run.stderr);
        }
    }
    let run = store.rstore(&["images", "--format", "{{.Repositry}}"]);
    assert!(
        run.stderr
            .contains("there is no field .Repositry; there are .Repository"),
        "{}",
        run.stderr
    );
    let run = store.rstore(&["inspect", "-f", "{{.Config.Usr}}", "app"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("template:1:3:"), "{}", run.stderr);
}

#[test]
fn an_ambiguous_prefix_lists_the_ids_that_begin_so_with_their_names() {
    let sample = Sample::new();
    let mut beginnings: HashMap<String, Image> = HashMap::new();
    let (prefix, one, other) = (0..)
        .find_map(|number: u32| {
            let step = format!("RUN {number}");
            let image = sample.image(&Recipe {
                steps: &[&step],
                ..Recipe::default()
            });
            let beginning = image.id.hex()[..4].to_owned();
            let before = beginnings.insert(beginning.clone(), image)?;
            Some((beginning, before, image))
        })
        .unwrap();
    sample.write_index(&[("named:1", one)]);
    for command in ["inspect", "why", "history", "graph", "layers", "rmi"] {
        let run = sample.rstore(&[command, &prefix]);
        assert_eq!(run.code, 1, "{command}: {}", run.stderr);
        for wanted in [format!("{} (named:1)", one.id.short()), other.id.short()] {
            assert!(run.stderr.contains(&wanted), "{command}: {}", run.stderr);
        }
    }
}

#[test]
fn a_reader_that_has_gone_is_no_error_for_any_list() {
    let store = Everything::new().sample;
    store.ok(&["images"]);
    for list in LISTS {
        let mut child = program()
            .arg("--root")
            .arg(store.root())
            .args(*list)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{list:?}: {said}");
        assert!(
            !said.contains("panic") && !said.contains("error"),
            "{list:?}: {said}"
        );
    }
}

#[test]
fn a_terminal_of_forty_columns_gets_whole_ids_and_no_more_than_it_holds_of_texts() {
    let everything = Everything::new();
    let store = &everything.sample;
    store.ok(&[
        "tag",
        "app",
        "a-rather-long-repository-name/with-parts:and-a-tag",
    ]);
    for list in LISTS {
        let mut command = program();
        command.arg("--root").arg(store.root()).args(*list);
        let mut terminal = Terminal::run(&command, 200, 40);
        assert_eq!(terminal.code(), Some(0), "{list:?}: {}", terminal.text());
        let id = everything.app.id.short();
        let shows_ids = matches!(list[0], "images" | "graph" | "history" | "why");
        if shows_ids && *list != ["graph", "--layers", "--format", "dot"] {
            terminal.shows(&[&id]);
        }
    }
    // What can be cut is: the row of a short name stands in one line.
    let mut command = program();
    command
        .arg("--root")
        .arg(store.root())
        .args(["layers", "--format", "table"]);
    let mut terminal = Terminal::run(&command, 200, 90);
    assert_eq!(terminal.code(), Some(0));
    let wrapped = terminal.look(|screen| (0..200).any(|row| screen.row_wrapped(row)));
    assert!(!wrapped, "{}", terminal.text());
}

#[test]
fn arguments_that_are_no_utf_8_are_usage_errors_and_never_a_panic() {
    let store = Everything::new().sample;
    let odd = OsStr::from_bytes(b"\xffapp\x1b[2J");
    for verb in [
        "images", "history", "inspect", "graph", "layers", "why", "log", "tag", "untag", "rmi",
        "pin", "unpin", "save", "export", "fsck", "shell",
    ] {
        let said = run(program().arg("--root").arg(store.root()).arg(verb).arg(odd));
        assert_eq!(said.code, 2, "{verb}: {}", said.stderr);
        assert!(
            said.stderr.starts_with("rstore: error: "),
            "{verb}: {}",
            said.stderr
        );
        assert!(!said.stderr.contains('\u{1b}'), "{verb}: {}", said.stderr);
    }
    for flag in ["--format", "--sort", "--filter"] {
        let said = run(program()
            .arg("--root")
            .arg(store.root())
            .arg("images")
            .arg(flag)
            .arg(odd));
        assert_eq!(said.code, 2, "{flag}: {}", said.stderr);
    }
}

#[test]
fn names_labels_and_instructions_of_strangers_steer_no_terminal_in_any_form() {
    let store = Sample::new();
    let evil = "\u{1b}[2J\u{9b}31m\u{202e}\u{7f}\r\u{85}";
    let layer = store.layer("file", 100);
    let step = format!("RUN {evil}");
    let image = store.image(&Recipe {
        layers: &[layer],
        steps: &[&step],
        labels: &[("evil", evil), (evil, "x")],
        ..Recipe::default()
    });
    let name = format!("evil{evil}:1");
    store.write_index(&[(&name, image)]);
    let digest = image.digest.to_string();
    store.ok(&["pin", &digest]);
    store.ok(&["tag", &digest, "plain"]);
    let id = image.id.short();
    let forms: &[&[&str]] = &[
        &["images"],
        &["images", "-a", "--no-trunc"],
        &["images", "--tree"],
        &["images", "--format", "json"],
        &["images", "--format", "jsonl"],
        &["images", "--format", "{{json .}}"],
        &[
            "images",
            "--format",
            "{{.Labels}} {{.labels}} {{.name}} {{range $k, $v := .labels}}{{$k}}{{$v}}{{end}}",
        ],
        &["images", "--format", "table {{.Repository}}\t{{.step}}"],
        &["graph"],
        &["graph", "--created-by", "--layers"],
        &["graph", "--format", "dot"],
        &["graph", "--format", "mermaid"],
        &["graph", "--format", "json"],
        &["graph", "--format", "svg"],
        &["layers", "--no-trunc"],
        &["layers", "--format", "json"],
        &["history", &id, "--no-trunc"],
        &["history", &id, "--format", "json"],
        &["inspect", &id],
        &["inspect", "--format", "jsonl", &id],
        &["why", &id],
        &["why", &id, "--format", "json"],
        &["df", "-v"],
        &["df", "-v", "--format", "json"],
        &["prune", "-n", "--all", "--format", "json"],
        &["log", "--no-trunc"],
        &["log", "--format", "json"],
        &["prune", "-n", "--all"],
    ];
    let unsafe_ones = |text: &str| {
        text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t') || c == '\u{202e}')
    };
    for form in forms {
        let run = store.rstore(form);
        assert_eq!(run.code, 0, "{form:?}: {}", run.stderr);
        assert!(!unsafe_ones(&run.stdout), "{form:?}: {:?}", run.stdout);
        assert!(!unsafe_ones(&run.stderr), "{form:?}: {:?}", run.stderr);
    }
    // A script gets what a label says; a terminal does not.
    let label = ["inspect", "-f", r#"{{index .Config.Labels "evil"}}"#, &id];
    assert_eq!(store.ok(&label), format!("{evil}\n"));
    let mut command = program();
    command.arg("--root").arg(store.root()).args(label);
    let mut terminal = Terminal::run(&command, 10, 100);
    assert_eq!(terminal.code(), Some(0));
    terminal.shows(&["\\u{1b}[2J\\u{9b}31m"]);
}

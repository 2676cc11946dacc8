//! What the program says of itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::CommandFactory;
use rstore::cli::completion::words;
use rstore::cli::generated;

use crate::sample::rstore;

const VERBS: &[&str] = &[
    "build",
    "cat",
    "completions",
    "copy",
    "df",
    "diff",
    "fsck",
    "export",
    "graph",
    "history",
    "images",
    "import",
    "inspect",
    "layers",
    "load",
    "log",
    "login",
    "logout",
    "ls",
    "pin",
    "prune",
    "ps",
    "pull",
    "push",
    "referrers",
    "report",
    "rmi",
    "save",
    "shell",
    "tag",
    "ui",
    "unpin",
    "untag",
    "version",
    "why",
];

#[test]
fn the_help_of_every_verb_is_as_it_was() {
    let mut all = rstore(&["--help"]).stdout;
    for verb in VERBS {
        let help = rstore(&[verb, "--help"]);
        assert_eq!(help.code, 0, "{}", help.stderr);
        all.push_str(&format!("\n=== rstore {verb} ===\n{}", help.stdout));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn every_verb_is_known_to_this_test() {
    let help = rstore(&["--help"]).stdout;
    let listed: BTreeSet<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .collect();
    assert_eq!(listed, VERBS.iter().copied().collect());
}

#[test]
fn every_verb_has_examples_and_each_of_them_is_understood() {
    let mut root = rstore::cli::Cli::command();
    root.build();
    let mut tried = 0;
    for verb in root
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help")
    {
        for help in [verb.get_after_help(), verb.get_after_long_help()] {
            let Some(help) = help.map(ToString::to_string) else {
                continue;
            };
            let (_, examples) = help
                .split_once("Examples:\n")
                .unwrap_or_else(|| panic!("{} has no example", verb.get_name()));
            let lines = examples.lines().take_while(|line| !line.is_empty());
            tried += lines.map(understood).sum::<usize>();
        }
        assert!(
            verb.get_after_help().is_some(),
            "{} has no example",
            verb.get_name()
        );
    }
    assert!(tried > 60, "{tried}");
}

#[test]
fn the_commands_of_the_page_about_shared_caches_are_understood() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/rstore-cache.7");
    let page = fs::read_to_string(path).unwrap().replace("\\-", "-");
    let commands = page.lines().filter_map(|line| {
        let at = line.find("rstore ")?;
        // Alone in a line, or behind the times of a cron table.
        let alone = at == 0 || line.starts_with(|first: char| first.is_ascii_digit());
        (alone && line.contains(" -")).then(|| understood(&line[at..]))
    });
    assert_eq!(commands.sum::<usize>(), 5);
}

/// Reads each command of ours in a line as the program does; how many there were.
fn understood(line: &str) -> usize {
    let substitution = regex::Regex::new(r"\$\(([^)]*)\)").unwrap();
    let inner = substitution
        .captures_iter(line)
        .map(|found| found[1].to_owned());
    let mut commands: Vec<String> = inner.collect();
    let outer = substitution.replace_all(line, "0123456789ab").into_owned();
    commands.extend(outer.split([';', '&', '|']).map(str::to_owned));
    // Alternatives within quotes and values are no pipes.
    if outer.contains('\'')
        || !outer.contains(" | ") && !outer.contains(" ; ") && !outer.contains(" && ")
    {
        commands.truncate(commands.len() - outer.split([';', '&', '|']).count());
        commands.push(outer);
    }
    let mut understood = 0;
    for command in commands {
        let command = command.split(" > ").next().unwrap_or_default();
        let words = words::split(command.trim());
        let begin = words.iter().position(|word| word == "rstore");
        let Some(begin) = begin.filter(|begin| *begin == 0 || words[0] == "xargs") else {
            continue;
        };
        let mut words = words[begin..].to_vec();
        // Directories are looked for.
        words
            .iter_mut()
            .for_each(|word| *word = word.replace("=../lib", "=."));
        if begin > 0 {
            words.push("0123456789ab".to_owned());
        }
        let parsed = rstore::cli::parse(words.iter().map(std::ffi::OsString::from));
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        understood += 1;
    }
    understood
}

#[test]
fn manual_pages_and_completions_are_those_that_are_generated() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut expected = BTreeSet::new();
    for file in generated::files().unwrap() {
        let committed = fs::read(package.join(&file.path)).unwrap_or_default();
        assert!(
            committed == file.content,
            "{} is out of date: cargo run --example generate",
            file.path
        );
        expected.insert(file.path);
    }
    for directory in ["man", "completions"] {
        for entry in fs::read_dir(package.join(directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = format!("{directory}/{name}");
            assert!(expected.contains(&path), "{path} is generated by nothing");
        }
    }
}

#[test]
fn completions_are_printed_for_each_shell() {
    for (shell, word) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef rstore"),
        ("fish", "complete -c rstore"),
    ] {
        let run = rstore(&["completions", shell]);
        assert_eq!(run.code, 0);
        assert!(run.stdout.contains(word), "{shell}");
    }
    assert_eq!(rstore(&["completions", "csh"]).code, 2);
}

#[test]
fn the_version_is_told_to_people_and_to_programs() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(rstore(&["--version"]).stdout, format!("rstore {version}\n"));
    assert!(
        rstore(&["version"])
            .stdout
            .starts_with(&format!("rstore {version}\n"))
    );
    let json = rstore(&["version", "--format", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["version"], version);
}

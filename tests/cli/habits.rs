//! What docker's users have in their scripts, word for word but for the program's name; and the
//! JSON that ours may rely on.

use std::process::Command;

use crate::sample::{Everything, Run, run};

/// Runs a line of shell in which `rstore` is the program and the store is the one there is.
fn shell(everything: &Everything, line: &str) -> Run {
    let directory = std::path::Path::new(env!("CARGO_BIN_EXE_rstore"))
        .parent()
        .unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    run(Command::new("sh")
        .args(["-c", line])
        .env("PATH", format!("{}:{path}", directory.display()))
        .env("RSTORE_ROOT", everything.sample.root())
        .env_remove("RSTORE_PROGRESS"))
}

fn says(everything: &Everything, line: &str) -> String {
    let run = shell(everything, line);
    assert_eq!(run.code, 0, "{line}: {}", run.stderr);
    run.stdout
}

#[test]
fn lists_feed_other_commands() {
    let everything = Everything::new();
    let id = |image: &crate::sample::Image| image.id.short();
    let old = format!("{}\n", id(&everything.old));
    for line in [
        "rstore images -q -f dangling=true",
        "rstore images --quiet --filter dangling=true",
        "rstore images --filter=\"dangling=true\" -q",
        "rstore images -qf dangling=true",
        "rstore images -f dangling=true --format '{{.ID}}'",
        "rstore images -a | awk '$8 == \"dangling\" { print $3 }' | head -1",
    ] {
        let found = says(&everything, line);
        if !line.contains("awk") {
            assert_eq!(found, old, "{line}");
        }
    }
    assert_eq!(
        says(&everything, "rstore images -q --no-trunc -f dangling=true"),
        format!("{}\n", everything.old.id)
    );
    assert_eq!(
        says(&everything, "rstore images -aq | sort -u | wc -l").trim(),
        "5"
    );
    assert_eq!(
        says(
            &everything,
            "rstore images --format '{{.Repository}}:{{.Tag}}' | grep -v '<none>' | sort | head -1"
        ),
        "app:1\n"
    );
    let awk = says(
        &everything,
        "rstore images | awk 'NR > 1 { print $1 \":\" $2 }' | sort | tail -1",
    );
    assert_eq!(awk, "base:latest\n");
    assert_eq!(
        says(&everything, "rstore inspect -f '{{.Id}}' app"),
        format!("{}\n", everything.app.id)
    );
    assert_eq!(
        says(
            &everything,
            "rstore inspect --format='{{len .RootFS.Layers}} {{.RootFS.Layers | len}}' app"
        ),
        "2 2\n"
    );
    assert_eq!(
        says(
            &everything,
            "rstore inspect -f '{{range .Config.Env}}{{println .}}{{end}}' app"
        ),
        "PATH=/bin\n\n"
    );
    assert_eq!(
        says(
            &everything,
            "rstore inspect -f '{{index .RepoTags 0}}' app:1"
        ),
        "app:latest\n"
    );
    assert_eq!(
        says(
            &everything,
            "rstore inspect -f '{{index .Config.Labels \"team\"}}|{{index .Config.Labels \"no\"}}|' app"
        ),
        "blue||\n"
    );
    assert_eq!(
        says(&everything, "rstore inspect -f '{{json .Config.Env}}' app"),
        "[\"PATH=/bin\"]\n"
    );
    assert_eq!(
        says(
            &everything,
            "rstore inspect -f '{{.Config.User}}{{.Config.WorkingDir}}' app"
        ),
        "\n"
    );
    let since = says(
        &everything,
        "rstore images --format '{{.CreatedAt}}|{{.CreatedSince}}|{{.Digest}}' base",
    );
    let digest = &everything.base.digest;
    assert_eq!(since, format!("N/A|N/A|{digest}\n"));
    let sizes = says(
        &everything,
        "rstore images --bytes --format '{{.Size}} {{.VirtualSize}} {{.SharedSize}} {{.UniqueSize}} {{.Containers}}' base",
    );
    let sizes: Vec<u64> = sizes
        .split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect();
    assert_eq!(
        (sizes[0], sizes[0], 0),
        (sizes[1], sizes[2] + sizes[3], sizes[4])
    );
    // The image that was removed is no longer in what is asked for; an empty list is told plainly.
    says(
        &everything,
        "rstore rmi $(rstore images -q -f dangling=true)",
    );
    assert_eq!(says(&everything, "rstore images -q -f dangling=true"), "");
    let nothing = shell(
        &everything,
        "rstore rmi $(rstore images -q -f dangling=true)",
    );
    assert_eq!(nothing.code, 2);
    assert!(nothing.stderr.contains("<REF>"), "{}", nothing.stderr);
    says(
        &everything,
        "rstore images -q -f dangling=true | xargs -r rstore rmi",
    );
    says(&everything, "rstore prune -f && rstore prune --all -f");
    assert_eq!(says(&everything, "rstore images -a -q | wc -l").trim(), "2");
}

#[test]
fn fields_of_history_and_of_df_are_dockers() {
    let everything = Everything::new();
    let history = says(
        &everything,
        "rstore history --format '{{.ID}}|{{.CreatedSince}}|{{.CreatedAt}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}' app",
    );
    assert_eq!(history.lines().count(), 3);
    assert!(
        history.starts_with(&format!("{}|", everything.app.id.short())),
        "{history}"
    );
    let df = says(
        &everything,
        "rstore df --format '{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}'",
    );
    assert!(df.contains("Images|2|2|"), "{df}");
    let table = says(
        &everything,
        "rstore df --format 'table {{.Type}}\\t{{.Size}}'",
    );
    assert!(table.starts_with("TYPE "), "{table}");
}

/// What differs from run to run, left out.
fn steady_json(text: &str) -> String {
    let patterns = [
        (r#""\d{4}-\d\d-\d\dT[^"]*""#, r#""[time]""#),
        (r#""(uid|process|milliseconds)": \d+"#, r#""$1": 0"#),
        (r#""command": "[^"]*""#, r#""command": "[command]""#),
        (r#""allocated": \d+"#, r#""allocated": 0"#),
    ];
    replaced(text, &patterns)
}

/// The text with each pattern's matches replaced, in this order.
fn replaced(text: &str, patterns: &[(&str, &str)]) -> String {
    let replace = |text: String, (pattern, put): &(&str, &str)| {
        let pattern = regex::Regex::new(pattern).unwrap();
        pattern.replace_all(&text, *put).into_owned()
    };
    patterns.iter().fold(text.to_owned(), replace)
}

#[test]
fn the_json_of_each_list_is_as_it_was() {
    let everything = Everything::new();
    let store = &everything.sample;
    let id = everything.old.id.short();
    store.ok(&["tag", "base", "app:1"]);
    for (name, arguments) in [
        ("json_of_images", &["images", "-a", "--sort", "id"][..]),
        ("json_of_layers", &["layers", "--sort", "digest"]),
        ("json_of_history", &["history", "app"]),
        ("json_of_graph", &["graph", "--layers", "app"]),
        ("json_of_why", &["why", &id, "app"]),
        ("json_of_log", &["log"]),
        ("json_of_ps", &["ps"]),
    ] {
        let arguments = [arguments, &["--format", "json"]].concat();
        insta::assert_snapshot!(name, steady_json(&store.ok(&arguments)));
    }
    for (name, arguments) in [
        ("json_of_df", &["df", "-v"][..]),
        ("json_of_prune", &["prune", "-n", "--all"]),
    ] {
        let arguments = [arguments, &["--format", "json"]].concat();
        let text = steady_json(&store.ok(&arguments));
        insta::assert_snapshot!(name, without_allocations(&text));
    }
    insta::assert_snapshot!(
        "json_of_inspect",
        steady_json(&store.ok(&["inspect", "app"]))
    );
}

/// JSON without what the file system decides: how many bytes it allocates.
fn without_allocations(text: &str) -> String {
    let bytes = regex::Regex::new(r"(: |^ *)\d{3,}(,?)$").unwrap();
    let lines = text.lines().map(|line| bytes.replace(line, "$1[bytes]$2"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A table without what differs from run to run and from disk to disk.
fn steady_table(text: &str) -> String {
    let patterns = [
        (r"[0-9.]+(B|kB|MB|GB)\b( \(\d+%\))?", "[size]"),
        (
            r"(About |Less than )?(an?|\d+) (second|minute)s?( ago)?",
            "[age]",
        ),
        (r"\d{4}-\d\d-\d\dT[0-9:]+Z", "[time]"),
        (r" {2,}", "  "),
    ];
    replaced(text, &patterns)
}

#[test]
fn the_table_of_each_list_is_as_it_was() {
    let everything = Everything::new();
    let store = &everything.sample;
    let id = everything.old.id.short();
    store.ok(&["tag", "base", "app:1"]);
    for (name, arguments) in [
        ("table_of_df", &["df"][..]),
        ("table_of_df_in_full", &["df", "-v"]),
        ("table_of_log", &["log"]),
        ("table_of_ps", &["ps"]),
        ("table_of_why", &["why", &id, "app"]),
    ] {
        insta::assert_snapshot!(name, steady_table(&store.ok(arguments)));
    }
}

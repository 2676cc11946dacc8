//! Commands that look.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::sample::{Everything, Image, Recipe, Sample, du, program, rstore, steady};
use crate::terminal::Terminal;

fn short(image: &Image) -> String {
    image.id.short()
}

/// The members of a JSON list's records.
fn members<'a>(list: &'a Value, name: &str, member: &str) -> Vec<&'a Value> {
    assert_eq!(list["schema"], 1);
    let records = list[name].as_array().unwrap().iter();
    records.map(|record| &record[member]).collect()
}

#[test]
fn images_shows_names_and_says_what_it_hides() {
    let store = Everything::new().sample;
    let run = store.rstore(&["images"]);
    insta::assert_snapshot!(run.stdout);
    assert!(
        run.stderr
            .ends_with("rstore: 3 more images without a name; -a shows them\n"),
        "{}",
        run.stderr
    );
}

#[test]
fn images_all_shows_what_each_image_is() {
    let store = Everything::new().sample;
    insta::assert_snapshot!(store.ok(&["images", "-a"]));
}

#[test]
fn images_draws_a_tree_of_what_it_shows() {
    let store = Everything::new().sample;
    insta::assert_snapshot!(store.ok(&["images", "-a", "--tree"]));
    let tagged = store.ok(&["images", "--tree"]);
    assert_eq!(tagged.lines().count(), 2, "{tagged}");
}

#[test]
fn a_catalog_that_had_to_be_made_is_told_once() {
    let store = Everything::new().sample;
    let first = store.rstore(&["images"]).stderr;
    assert!(
        first.contains("notice: the store has no catalog"),
        "{first}"
    );
    let second = store.rstore(&["images"]).stderr;
    assert!(!second.contains("notice"), "{second}");
}

#[test]
fn images_as_json_has_bytes_times_and_whole_digests() {
    let everything = Everything::new();
    let store = &everything.sample;
    let list = store.json(&["images", "-a", "--format", "json", "--sort", "size"]);
    let app = list["images"]
        .as_array()
        .unwrap()
        .iter()
        .find(|image| image["name"] == "app:1")
        .unwrap();
    assert_eq!(app["id"], json!(everything.app.id));
    assert_eq!(app["digest"], json!(everything.app.digest));
    assert_eq!(app["parent"], json!(everything.copied.digest));
    assert_eq!(app["labels"], json!({ "team": "blue", "tier": "web" }));
    assert_eq!(app["state"], "tagged");
    assert!(app["size"].as_u64().unwrap() > 50_000);
    let seen = app["first_seen"].as_str().unwrap();
    assert!(chrono::DateTime::parse_from_rfc3339(seen).is_ok(), "{seen}");
    let sizes = members(&list, "images", "size");
    assert!(
        sizes
            .windows(2)
            .all(|two| two[0].as_u64() <= two[1].as_u64())
    );
}

#[test]
fn images_as_json_lines_is_one_object_a_line() {
    let store = Everything::new().sample;
    let lines = store.ok(&["images", "--format", "jsonl"]);
    assert_eq!(lines.lines().count(), 3);
    for line in lines.lines() {
        let image: Value = serde_json::from_str(line).unwrap();
        assert_eq!(image["schema"], 1);
    }
}

#[test]
fn templates_are_dockers() {
    let everything = Everything::new();
    let store = &everything.sample;
    let lines = |template| {
        let text = store.ok(&["images", "--sort", "tag", "--format", template]);
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        lines("{{.Repository}}:{{.Tag}}"),
        ["app:1", "app:latest", "base:latest"].map(str::to_owned)
    );
    let table = lines("table {{.ID}}\\t{{.Tag}}");
    assert_eq!(table[0], "IMAGE ID       TAG");
    assert_eq!(table[1], format!("{}   1", short(&everything.app)));
    // By name, as docker has it; what stands in it is what --format jsonl has.
    let whole: Value = serde_json::from_str(&lines("{{json .}}")[0]).unwrap();
    assert_eq!(
        (&whole["schema"], &whole["repository"]),
        (&json!(1), &json!("app"))
    );
    assert!(whole["Repository"].is_null() && whole["size"].is_u64());
}

#[test]
fn quiet_prints_an_id_once_however_many_names_it_has() {
    let everything = Everything::new();
    let ids = everything.sample.ok(&["images", "-q"]);
    let mut ids: Vec<&str> = ids.lines().collect();
    ids.sort_unstable();
    let mut expected = [short(&everything.app), short(&everything.base)];
    expected.sort();
    assert_eq!(ids, expected);
    let whole = everything
        .sample
        .ok(&["images", "-q", "--no-trunc", "base"]);
    assert_eq!(whole, format!("{}\n", everything.base.id));
}

#[test]
fn filters_choose() {
    let everything = Everything::new();
    let store = &everything.sample;
    let found = |filters: &[&str]| {
        let mut arguments = vec!["images", "-a", "-q"];
        for filter in filters {
            arguments.extend(["-f", filter]);
        }
        store.ok(&arguments)
    };
    let one = |image: &Image| format!("{}\n", short(image));
    assert_eq!(found(&["dangling=true"]), one(&everything.old));
    assert_eq!(found(&["state=stage"]), one(&everything.builder));
    assert_eq!(found(&["label=team=blue"]), one(&everything.app));
    assert_eq!(found(&["label=team", "label=none"]), "");
    assert_eq!(found(&["reference=ba*"]), one(&everything.base));
    assert_eq!(found(&["reference=base:latest"]), one(&everything.base));
    assert_eq!(found(&["until=1h"]), "");
    assert_eq!(found(&["used=2000-01-01"]), "");
    assert_eq!(
        found(&["label!=team", "state=tagged"]),
        one(&everything.base)
    );
    // docker's habit: dangling images are shown without -a where they are asked for.
    let asked = store.ok(&["images", "-q", "-f", "dangling=true"]);
    assert_eq!(asked, one(&everything.old));
}

#[test]
fn history_has_the_size_and_the_image_of_each_step() {
    let everything = Everything::new();
    insta::assert_snapshot!(everything.sample.ok(&["history", "app"]));
    let list = everything
        .sample
        .json(&["history", "app", "--format", "json"]);
    let ids = members(&list, "history", "id");
    let expected = [everything.app, everything.copied, everything.base];
    assert_eq!(
        ids,
        expected
            .map(|image| json!(image.id))
            .iter()
            .collect::<Vec<_>>()
    );
}

#[test]
fn inspect_is_dockers_document_and_ours() {
    let everything = Everything::new();
    let store = &everything.sample;
    let found = store.json(&["inspect", "app:1"]);
    let image = &found[0];
    assert_eq!(image["Id"], json!(everything.app.id));
    assert_eq!(image["RepoTags"], json!(["app:latest", "app:1"]));
    assert_eq!(image["Config"]["Env"], json!(["PATH=/bin"]));
    assert_eq!(image["Parent"], json!(everything.copied.id));
    assert_eq!(image["Rstore"]["parent"], json!(everything.copied.digest));
    let stage = store.json(&["inspect", &everything.builder.digest.to_string()]);
    assert_eq!(stage[0]["Rstore"]["state"], "stage");
    assert_eq!(
        stage[0]["Rstore"]["stage_of"],
        json!([everything.copied.digest])
    );
    let layer = store.json(&["inspect", &everything.old_layer.digest.to_string()]);
    assert_eq!(layer[0]["kind"], "layer");
    assert_eq!(
        layer[0]["held_by"][0]["digest"],
        json!(everything.old.digest)
    );
    assert_eq!(
        store.ok(&["inspect", "-f", "{{.Config.Labels.tier}}", "app"]),
        "web\n"
    );
    assert_eq!(
        store.rstore(&["inspect", "-f", "{{.Nothing}}", "app"]).code,
        2
    );
}

#[test]
fn graph_draws_what_descends_from_what() {
    let store = Everything::new().sample;
    insta::assert_snapshot!(store.ok(&["graph"]));
    insta::assert_snapshot!("graph_of_layers", store.ok(&["graph", "--layers"]));
    insta::assert_snapshot!("graph_up", store.ok(&["graph", "--up", "base"]));
    insta::assert_snapshot!(
        "graph_down",
        store.ok(&["graph", "--down", "--layers", "app"])
    );
    insta::assert_snapshot!("graph_dot", store.ok(&["graph", "--format", "dot", "app"]));
}

#[test]
fn graph_of_a_layer_goes_up_to_whoever_holds_it() {
    let everything = Everything::new();
    let layer = everything.old_layer.digest.to_string();
    let text = everything.sample.ok(&["graph", "--up", &layer]);
    assert!(
        text.contains(&format!("layer of {}", short(&everything.old))),
        "{text}"
    );
}

#[test]
fn graph_as_json_has_nodes_and_edges() {
    let everything = Everything::new();
    let graph = everything.sample.json(&["graph", "--format", "json"]);
    assert_eq!(members(&graph, "nodes", "digest").len(), 5);
    let edges = graph["edges"].as_array().unwrap();
    let stage = json!({
        "from": everything.copied.digest, "to": everything.builder.digest, "kind": "stage",
    });
    assert!(edges.contains(&stage), "{edges:?}");
}

#[test]
fn layers_says_who_holds_each() {
    let everything = Everything::new();
    let store = &everything.sample;
    let sorted = store.ok(&["layers", "--sort", "digest"]);
    insta::assert_snapshot!(steady(&sorted));
    let dangling = store.json(&["layers", "--dangling", "--format", "json", "--sort", "size"]);
    assert_eq!(
        members(&dangling, "layers", "digest"),
        [
            &json!(everything.stray.digest),
            &json!(everything.old_layer.digest)
        ]
    );
    let unreferenced = store.ok(&["layers", "--unreferenced", "-q", "--no-trunc"]);
    assert_eq!(unreferenced, format!("{}\n", everything.stray.digest));
    assert_eq!(store.ok(&["layers", "-q", "app"]).lines().count(), 2);
}

#[test]
fn why_shows_the_paths_from_names() {
    let everything = Everything::new();
    let store = &everything.sample;
    let text = store.ok(&["why", &everything.builder.digest.to_string()]);
    let (app, copied, builder) = (
        short(&everything.app),
        short(&everything.copied),
        short(&everything.builder),
    );
    let path =
        format!("  tag app:latest → image {app} → parent image {copied} → stage image {builder}\n");
    assert!(text.contains(&path), "{text}");
    assert!(
        text.contains("`rstore prune --stages` removes it"),
        "{text}"
    );
    let answer = store.json(&["why", &copied, "--format", "json"]);
    assert_eq!(answer["answers"][0]["kept"], true);
    assert_eq!(
        answer["answers"][0]["paths"][0]["hops"][0]["link"],
        "parent"
    );
}

#[test]
fn why_says_when_nothing_keeps_it() {
    let everything = Everything::new();
    for digest in [everything.old.digest, everything.stray.digest] {
        let text = everything.sample.ok(&["why", &digest.to_string()]);
        assert!(
            text.contains("nothing keeps it: the next prune removes it"),
            "{text}"
        );
    }
}

#[test]
fn df_adds_up_to_what_du_says() {
    let store = Everything::new().sample;
    store.ok(&["df"]);
    let usage = store.json(&["df", "--format", "json"]);
    let sizes = members(&usage, "rows", "size");
    let sum: u64 = sizes.iter().map(|size| size.as_u64().unwrap()).sum();
    assert_eq!(usage["total"], sum);
    assert_eq!(sum, du(&store.root()));
    let rows = usage["rows"].as_array().unwrap();
    let row = |kind: &str| rows.iter().find(|row| row["type"] == kind).unwrap();
    assert_eq!(row("unaccounted")["size"], 0);
    assert_eq!(row("images")["total"], 2);
    // Nothing says of the fifth that it is one.
    assert_eq!(row("layers")["total"], 4);
    assert_eq!(row("others")["total"], 1);
    assert!(row("layers")["reclaimable"].as_u64().unwrap() > 0);
    let table = store.ok(&["df", "--bytes"]);
    assert!(
        table.lines().last().unwrap().ends_with(&sum.to_string()),
        "{table}"
    );
    let verbose = store.ok(&["df", "-v"]);
    assert!(verbose.contains("SHARED"), "{verbose}");
}

#[test]
fn ps_and_log_are_empty_where_nothing_was_built() {
    let store = Everything::new().sample;
    assert_eq!(
        store.ok(&["ps"]),
        "CONTAINER ID   IMAGE   STEP   BUILD   CREATED   STATUS   SIZE\n"
    );
    assert_eq!(store.ok(&["log", "-q"]), "");
    store.ok(&["tag", "app", "other"]);
    let log = store.json(&["log", "--format", "json"]);
    assert_eq!(
        members(&log, "entries", "subject"),
        [&json!("other:latest")]
    );
}

#[test]
fn an_index_is_listed_as_its_image_for_this_platform() {
    let sample = Sample::new();
    let layer = sample.layer("x", 100);
    let recipe = Recipe {
        layers: &[layer],
        steps: &["RUN x"],
        ..Recipe::default()
    };
    let image = sample.image(&recipe);
    let index = sample.index(&[("amd64", image)]);
    sample.write_index_of(&[("multi:1", index)]);
    let list = sample.json(&["images", "--format", "json"]);
    assert_eq!(list["images"][0]["id"], json!(image.id));
    assert_eq!(list["images"][0]["digest"], json!(index.digest));
}

#[test]
fn texts_of_strangers_cannot_steer_the_terminal() {
    let sample = Sample::new();
    let image = sample.image(&Recipe {
        steps: &["RUN \u{1b}[2J\u{202e}evil"],
        ..Recipe::default()
    });
    sample.write_index(&[("we\u{1b}[31mird name!", image)]);
    for arguments in [
        &["images", "-a"][..],
        &["graph"],
        &["history", &image.id.short()],
        &["why", &image.id.short()],
        &["prune", "-n", "--all"],
    ] {
        let run = sample.rstore(arguments);
        assert!(
            !run.stdout.contains(['\u{1b}', '\u{202e}']),
            "{arguments:?}: {}",
            run.stdout
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sample = Sample::new();
    let layer = sample.layer("x", 100);
    for number in 0..2000 {
        let step = format!("RUN step {number} with a long tail {}", "x".repeat(60));
        sample.image(&Recipe {
            layers: &[layer],
            steps: &[&step],
            ..Recipe::default()
        });
    }
    let mut child = program()
        .arg("--root")
        .arg(sample.root())
        .args(["images", "-a", "--no-trunc"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    drop(reader);
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert!(!said.contains("panic") && !said.contains("error"), "{said}");
}

#[test]
fn an_unknown_image_is_told_with_its_neighbour() {
    let store = Everything::new().sample;
    for command in [
        "history", "inspect", "why", "graph", "layers", "rmi", "untag", "pin",
    ] {
        let run = store.rstore(&[command, "ap"]);
        assert_eq!(run.code, 1, "{command}: {}", run.stderr);
        assert!(
            run.stderr.contains("rstore: error: no image"),
            "{command}: {}",
            run.stderr
        );
        assert!(run.stderr.contains("app"), "{command}: {}", run.stderr);
    }
    let root = store.root();
    let nowhere = rstore(&["--root", root.join("no").to_str().unwrap(), "images"]);
    assert_eq!(nowhere.code, 1);
    assert!(
        nowhere.stderr.contains("there is no store at"),
        "{}",
        nowhere.stderr
    );
}

#[test]
fn graph_is_drawn_for_pages_and_as_one() {
    let store = Everything::new().sample;
    insta::assert_snapshot!(
        "graph_mermaid",
        store.ok(&["graph", "--format", "mermaid", "app"])
    );
    let svg = store.ok(&["graph", "--layers", "--format", "svg"]);
    let picture = roxmltree::Document::parse(&svg).unwrap();
    let rows = picture
        .descendants()
        .filter(|node| node.attribute("data-digest").is_some());
    let graph = store.json(&["graph", "--layers", "--format", "json"]);
    assert_eq!(rows.count(), graph["nodes"].as_array().unwrap().len());
    let page = store.ok(&["graph", "--format", "html", "app"]);
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<title>app</title>"));
}

#[test]
fn an_index_is_drawn_with_its_members_below_it() {
    let everything = Everything::new();
    let store = &everything.sample;
    let other = store.image(&Recipe {
        steps: &["RUN other"],
        ..Recipe::default()
    });
    let index = store.index(&[("amd64", everything.app), ("arm64", other)]);
    store.write_index_of(&[("multi:1", index)]);
    insta::assert_snapshot!("graph_of_an_index", store.ok(&["graph"]));
    let tree = store.ok(&["images", "--tree"]);
    assert!(
        tree.contains("index [tagged]") && tree.contains("multi:1"),
        "{tree}"
    );
    let graph = store.json(&["graph", "--format", "json"]);
    let edges = graph["edges"].as_array().unwrap();
    let member = json!({ "from": index.digest, "to": other.digest, "kind": "member" });
    assert!(edges.contains(&member), "{edges:?}");
    let dot = store.ok(&["graph", "--format", "dot", "multi:1"]);
    assert!(dot.contains("odiamond"), "{dot}");
    let up = store.ok(&["graph", "--up", &other.digest.to_string()]);
    assert!(up.contains("member of") && up.contains("multi:1"), "{up}");
}

#[test]
fn the_flags_of_graph_show_what_they_name() {
    let store = Sample::new();
    let layers = [store.layer("one", 1000), store.layer("two", 50_000)];
    let long = format!("RUN {}", "x".repeat(90));
    let base = store.image(&Recipe {
        layers: &layers[..1],
        steps: &["RUN base"],
        ..Recipe::default()
    });
    let app = store.image(&Recipe {
        layers: &layers,
        steps: &["RUN base", &long],
        parent: Some(base),
        ..Recipe::default()
    });
    store.write_index(&[("app:1", app)]);
    assert!(!store.ok(&["graph"]).contains(&long));
    for form in ["tree", "dot", "mermaid"] {
        let cut = store.ok(&["graph", "--format", form]);
        let whole = store.ok(&["graph", "--format", form, "--created-by"]);
        assert!(
            !cut.contains(&long) && whole.contains(&long),
            "{form}: {whole}"
        );
    }
    let sizes = store.ok(&["graph", "--sizes", "--bytes"]);
    let of = |name: &str| {
        let image = store.json(&["inspect", name]);
        image[0]["Size"].as_u64().unwrap()
    };
    let (base_size, app_size) = (of(&base.digest.to_string()), of("app:1"));
    assert!(
        sizes.contains(&format!(" {app_size} (+{})", app_size - base_size)),
        "{sizes}"
    );
    assert!(
        sizes.contains(&format!(" {base_size} (+{base_size})")),
        "{sizes}"
    );
    for refused in [
        &["--sizes", "--format", "dot"][..],
        &["--created-by", "--format", "svg"],
    ] {
        let arguments: Vec<&str> = ["graph"].iter().chain(refused).copied().collect();
        assert_eq!(store.rstore(&arguments).code, 2, "{refused:?}");
    }
    assert!(!store.ok(&["graph", "--images"]).contains("layer "));
}

#[test]
fn a_tree_has_colours_on_a_terminal_that_wants_them_and_nowhere_else() {
    let store = Everything::new().sample;
    store.ok(&["images"]);
    let colours = |variables: &[(&str, &str)]| {
        let mut command = program();
        command.arg("--root").arg(store.root()).args(["graph"]);
        command.envs(variables.iter().copied());
        let mut terminal = Terminal::run(&command, 24, 120);
        assert_eq!(terminal.code(), Some(0));
        terminal.shows(&["app:latest", "[dangling]"]);
        terminal.look(|screen| {
            let (rows, columns) = screen.size();
            let cells =
                (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
            let mut colours =
                cells.filter_map(|(row, column)| Some(screen.cell(row, column)?.fgcolor()));
            colours.any(|colour| colour != vt100::Color::Default)
        })
    };
    assert!(colours(&[]));
    assert!(!colours(&[("NO_COLOR", "1")]));
    assert!(!colours(&[("TERM", "dumb")]));
    assert!(!store.ok(&["graph"]).contains('\u{1b}'));
}

#[test]
fn a_long_line_of_steps_is_folded_until_all_of_it_is_asked_for() {
    let store = Sample::new();
    let layer = store.layer("bin", 100);
    let mut parent = None;
    let mut tags = Vec::new();
    for step in 0..20 {
        let text = format!("RUN step {step}");
        let image = store.image(&Recipe {
            layers: std::slice::from_ref(&layer),
            steps: &[&text],
            labels: &[],
            parent,
            stages: &[],
        });
        parent = Some(image);
        if step == 0 || step == 19 {
            tags.push((
                if step == 0 {
                    "base:latest"
                } else {
                    "app:latest"
                },
                image,
            ));
        }
    }
    store.write_index(&tags);
    let folded = store.ok(&["graph"]);
    assert!(folded.contains("⋮ 16 more steps"), "{folded}");
    assert_eq!(folded.lines().count(), 5, "{folded}");
    assert!(
        folded.contains("RUN step 18") && !folded.contains("RUN step 17"),
        "{folded}"
    );
    assert_eq!(store.ok(&["graph", "--no-trunc"]).lines().count(), 20);
}

//! Dockerfiles and what they mean: `tests/golden/dockerfile/NAME/{Dockerfile,result}`.
//!
//! `result` is the parsed file and its stage graph as JSON (what is null, false or empty is left
//! out), or the error as people see it. Where there is an `environment` file (`NAME=value` lines),
//! the instructions are expanded with it as well. `UPDATE_GOLDEN=1 cargo test --test
//! dockerfile_golden` writes the results anew; read the difference before you commit it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rstore::dockerfile::{self, Dockerfile, ParseError};
use serde_json::{Value, json};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dockerfile")
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(directory()).expect("read the golden directory");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// The environment of a case, if it has one.
fn environment(case: &Path) -> Option<BTreeMap<String, String>> {
    let text = fs::read_to_string(case.join("environment")).ok()?;
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Some(
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    )
}

fn result(case: &Path) -> String {
    let text = fs::read(case.join("Dockerfile")).expect("read the Dockerfile");
    match meaning(&text, environment(case)) {
        Ok(value) => format!(
            "{}\n",
            serde_json::to_string_pretty(&pruned(value)).unwrap()
        ),
        // As `rstore build` tells it.
        Err(error) => format!("error: Dockerfile:{error}\n"),
    }
}

fn meaning(
    text: &[u8],
    environment: Option<BTreeMap<String, String>>,
) -> Result<Value, ParseError> {
    let file = dockerfile::parse(text)?;
    let values = global_values(&file)?;
    let graph = file.stage_graph(&|name| values.get(name).cloned())?;
    let mut value = json!({ "file": file, "graph": graph.nodes });
    if let Some(environment) = environment {
        value["expanded"] = expanded(&file, &environment)?;
    }
    Ok(value)
}

/// The defaults of the global ARGs.
fn global_values(file: &Dockerfile) -> Result<BTreeMap<String, String>, ParseError> {
    let mut values = BTreeMap::new();
    for instruction in &file.global_args {
        let dockerfile::Kind::Arg(args) = &instruction.kind else {
            continue;
        };
        let none = |_: &str| None;
        let known = values.clone();
        let known = |name: &str| known.get(name).cloned();
        let escape = file.directives.escape;
        let defined = dockerfile::define_args(instruction, args, &none, &none, &known, escape)?;
        for (name, value) in defined.values {
            values.extend(value.map(|value| (name, value)));
        }
    }
    Ok(values)
}

fn expanded(
    file: &Dockerfile,
    environment: &BTreeMap<String, String>,
) -> Result<Value, ParseError> {
    let lookup = |name: &str| environment.get(name).cloned();
    let mut values = Vec::new();
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        let expanded = instruction.expand(&lookup, file.directives.escape)?;
        values.push(json!({
            "kind": expanded.instruction.kind,
            "found": expanded.found,
            "unset": expanded.unset,
        }));
    }
    Ok(values.into())
}

/// `value` without what is null, false or empty, so that results are short. What means something
/// stays: an empty command in exec form, and "no" where nothing said is something else.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut kept = serde_json::Map::new();
            for (name, field) in fields {
                let field = pruned(field);
                let nothing = match &field {
                    Value::Null => true,
                    Value::Bool(false) => name != "unpack" && name != "keep_git_dir",
                    Value::Array(values) => values.is_empty() && name != "exec",
                    _ => false,
                };
                if !nothing {
                    kept.insert(name, field);
                }
            }
            Value::Object(kept)
        }
        Value::Array(values) => values.into_iter().map(pruned).collect(),
        other => other,
    }
}

#[test]
fn every_dockerfile_means_what_its_result_says() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differences = String::new();
    for case in cases() {
        let (path, result) = (case.join("result"), result(&case));
        if update {
            fs::write(&path, result).expect("write the result");
            continue;
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if expected != result {
            let name = case.file_name().unwrap_or_default().to_string_lossy();
            writeln!(
                differences,
                "{name}: expected\n{expected}\nbut it is\n{result}"
            )
            .unwrap();
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn every_error_has_a_place_inside_its_file() {
    let mut errors = 0;
    for case in cases() {
        let text = fs::read(case.join("Dockerfile")).unwrap();
        let Err(error) = meaning(&text, environment(&case)) else {
            continue;
        };
        let lines = text.split_inclusive(|byte| *byte == b'\n').count().max(1);
        assert!(
            (1..=lines).contains(&(error.line as usize)),
            "{case:?}: {error}"
        );
        // In the line, or right behind it.
        let line = text
            .split(|byte| *byte == b'\n')
            .nth(error.line as usize - 1);
        let width = line.map_or(0, |line| String::from_utf8_lossy(line).chars().count());
        assert!(
            (1..=width + 1).contains(&(error.column as usize)),
            "{case:?}: {error}"
        );
        let place = format!("{}:{}: ", error.line, error.column);
        assert!(error.to_string().starts_with(&place), "{case:?}: {error}");
        errors += 1;
    }
    assert!(errors >= 30, "only {errors} bad files");
}

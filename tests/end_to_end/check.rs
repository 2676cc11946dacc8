//! `rstore build --check`, and what an ordinary build says of the same.

use serde_json::Value;

use crate::support::{Context, Finished, Rstore};

fn check(store: &Rstore, context: &Context, arguments: &[&str]) -> Finished {
    let path = context.path().to_str().unwrap();
    store.run(["build", "--check"].iter().chain(arguments).chain(&[path]))
}

fn json(store: &Rstore, context: &Context, code: i32) -> Value {
    let path = context.path().to_str().unwrap();
    let checked = store.run(["build", "--call=check,format=json", path]);
    assert_eq!(checked.code, code, "{checked}");
    serde_json::from_str(&checked.stdout).unwrap_or_else(|error| panic!("{error}: {checked}"))
}

const ODD: &str = "FROM base as x\nCOPY $nothing /\n\nCMD echo \\\n  hello\n";

#[test]
fn what_is_found_is_told_with_its_lines_and_nothing_is_built() {
    let store = Rstore::with_base();
    let context = Context::new(ODD);
    let checked = check(&store, &context, &[]);
    assert_eq!(checked.code, 1, "{checked}");
    assert_eq!(checked.stderr, "", "{checked}");
    assert!(
        checked.stdout.starts_with("3 warnings found\n"),
        "{checked}"
    );
    for part in [
        "\nWARNING: FromAsCasing - ",
        "\nWARNING: UndefinedVar - ",
        "\nnothing sets $nothing before its use here\nDockerfile:2\n--------------------\n",
        "   2 | >>> COPY $nothing /\n",
        "Dockerfile:4\n",
        "   4 | >>> CMD echo \\\n   5 | >>>   hello\n",
    ] {
        assert!(checked.stdout.contains(part), "no {part:?}: {checked}");
    }
    assert_eq!(store.tags().len(), 1, "only the base");
}

#[test]
fn a_file_without_fault_is_said_to_be_one() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nRUN true\nCMD [\"true\"]\n");
    let checked = check(&store, &context, &[]).ok();
    assert_eq!(checked.stdout, "no warnings found\n");
}

#[test]
fn checking_needs_no_store_and_makes_none() {
    let store = Rstore::new();
    let context = Context::new("FROM base\nCOPY $perhaps /\nCMD x\n");
    let checked = check(&store, &context, &[]);
    assert_eq!(checked.code, 1, "{checked}");
    assert!(checked.stdout.starts_with("1 warning found\n"), "{checked}");
    assert!(
        checked
            .stdout
            .contains("NOTE: the base image base is not in the store")
    );
    assert!(!store.root().exists());
}

#[test]
fn programs_get_the_same_as_json() {
    let store = Rstore::with_base();
    let found = json(&store, &Context::new(ODD), 1);
    let names: Vec<&str> = found["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning["ruleName"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["FromAsCasing", "UndefinedVar", "JSONArgsRecommended"]
    );
    let range = &found["warnings"][2]["location"]["ranges"][0];
    assert_eq!(
        (&range["start"]["line"], &range["end"]["line"]),
        (&4.into(), &5.into())
    );
    assert_eq!(found["buildError"], Value::Null);
    let broken = json(&store, &Context::new("FROM base\nWORKDIR ${\n"), 1);
    let error = broken["buildError"]["message"].as_str().unwrap();
    assert!(
        error.starts_with("Dockerfile:2:9: cannot expand"),
        "{error}"
    );
}

#[test]
fn a_mistake_is_an_error_after_the_warnings() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base as x\nCOPY --from=later a b\nFROM base AS later\n");
    let checked = check(&store, &context, &[]).fails(1, &["Dockerfile:2:1: later is a stage"]);
    assert!(checked.stdout.contains("FromAsCasing"), "{checked}");
}

#[test]
fn rules_are_switched_off_by_the_file_and_by_an_argument() {
    let store = Rstore::with_base();
    let context = Context::new(&format!("# check=skip=FromAsCasing,UndefinedVar\n{ODD}"));
    let checked = check(&store, &context, &[]);
    assert!(checked.stdout.starts_with("1 warning found\n"), "{checked}");
    let all = "BUILDKIT_DOCKERFILE_CHECK=skip=all";
    check(&store, &context, &["--build-arg", all]).ok();
    let bad = "BUILDKIT_DOCKERFILE_CHECK=skipp=all";
    check(&store, &context, &["--build-arg", bad])
        .fails(1, &["--build-arg BUILDKIT_DOCKERFILE_CHECK", "skipp=all"]);
}

#[test]
fn a_build_tells_what_it_found_at_its_end_and_goes_on() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base AS unused\nCMD a\nFROM base\nCMD echo hello\n");
    let built = store.build(context.path(), &["-t", "app"]);
    // A stage that isn't built is not spoken of.
    assert!(built.stderr.contains("\n1 warning found ("), "{built}");
    assert!(
        built
            .stderr
            .contains("\n - JSONArgsRecommended: CMD runs in a shell"),
        "{built}"
    );
    assert!(built.stderr.trim_end().ends_with("(line 4)"), "{built}");
    let quiet = store.build(context.path(), &["-q"]);
    assert!(!quiet.stderr.contains("JSONArgs"), "{quiet}");
}

#[test]
fn a_finding_is_an_error_where_the_file_says_so() {
    let store = Rstore::with_base();
    let context = Context::new("# check=error=true\nFROM base\nRUN touch /x\nCMD echo hello\n");
    let failed = store.try_build(context.path(), &["-t", "app"]);
    assert_eq!(failed.ran(), 0, "{failed}");
    failed.fails(1, &["JSONArgsRecommended", "error=true", "(line 4)"]);
    context.file(
        "Dockerfile",
        "# check=error=true\nFROM base\nRUN touch /x\n",
    );
    store.build(context.path(), &["-t", "app"]);
}

#[test]
fn what_broke_the_cache_is_remembered_with_what_it_cost() {
    let store = Rstore::with_base();
    // There is no npm in the image; what counts is the command, and the second that it takes.
    let install = "RUN npm ci 2>/dev/null || sleep 0.6";
    let bad = format!("FROM base\nWORKDIR /app\nCOPY . .\n{install}\nRUN ls > list\n");
    let context = Context::new(&bad);
    context.file("package.json", "{}");
    context.file("main.js", "one");
    store.build(context.path(), &[]);
    let before = check(&store, &context, &[]).ok();
    assert!(!before.stdout.contains("HINT"), "{before}");
    for change in ["two", "three"] {
        context.file("main.js", change);
        let again = store.build(context.path(), &[]);
        assert_eq!(again.ran(), 2, "{again}");
        // One that changes nothing is no build to speak of.
        assert_eq!(store.build(context.path(), &[]).ran(), 0);
    }
    let found = json(&store, &context, 0);
    let hint = &found["hints"][0];
    assert_eq!(hint["kind"], "early-copy", "{found}");
    assert_eq!(hint["location"]["ranges"][0]["start"]["line"], 3, "{found}");
    assert!(hint["milliseconds"].as_u64().unwrap() >= 1_200, "{found}");
    let told = hint["detail"].as_str().unwrap();
    assert!(
        told.contains("COPY . . on line 3 brought something new in each of the last 2 builds")
            && told.contains("on line 4 ran again")
            && told.contains("copy package.json alone before it"),
        "{told}"
    );
    let text = check(&store, &context, &[]).ok();
    assert!(text.stdout.contains("\nHINT: COPY . . on line 3"), "{text}");
    // Mended, and built in its new order: no word any more.
    let good = format!(
        "FROM base\nWORKDIR /app\nCOPY package.json ./\n{install}\nCOPY . .\nRUN ls > list\n"
    );
    context.file("Dockerfile", &good);
    for change in ["four", "five", "six"] {
        context.file("main.js", change);
        store.build(context.path(), &[]);
    }
    let after = check(&store, &context, &[]).ok();
    assert!(!after.stdout.contains("HINT"), "{after}");
}

#[test]
fn an_argument_that_makes_an_installation_run_again_is_named() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base\nARG REVISION\nRUN apk add curl 2>/dev/null || sleep 0.6\nLABEL revision=$REVISION\n",
    );
    for revision in ["REVISION=1", "REVISION=2", "REVISION=3"] {
        let built = store.build(context.path(), &["--build-arg", revision]);
        assert_eq!(built.ran(), 1, "{built}");
    }
    let found = json(&store, &context, 0);
    assert_eq!(found["hints"][0]["kind"], "early-argument", "{found}");
    let told = found["hints"][0]["detail"].as_str().unwrap();
    assert!(
        told.contains("on line 3 ran again in each of the last 2 builds")
            && told.ends_with("declare REVISION after it"),
        "{told}"
    );
}

#[test]
fn what_nobody_copies_and_what_is_taken_whole_are_told() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base AS build\nCOPY src /src\nRUN cat /src/* > /out\nFROM scratch\nCOPY --from=build / /\n",
    );
    context.file("src/a", "a");
    context.file("video/big", "x".repeat(1_500_000));
    store.build(context.path(), &[]);
    let found = json(&store, &context, 0);
    let details: Vec<&str> = found["hints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hint| hint["detail"].as_str().unwrap())
        .collect();
    assert!(
        details[0].contains("takes the whole stage build, ")
            && details[0].contains("in all: its base image ")
            && details[0].contains("RUN cat /src/* > /out (line 3) "),
        "{details:?}"
    );
    assert!(details[1].contains("1.50MB in all, the biggest of them video/big"));
    assert_eq!(found["hints"][1]["suggestions"][0], "video");
    context.file(".dockerignore", "video\n");
    let found = json(&store, &context, 0);
    assert_eq!(found["hints"].as_array().unwrap().len(), 1, "{found}");
}

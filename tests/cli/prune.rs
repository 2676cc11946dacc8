//! What `prune` is told, by flags and by configuration, and what it tells.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::sample::{Everything, Run, Sample, du, program, rstore, run};

/// Runs rstore on a store, with this configuration.
fn configured(store: &Sample, text: &str, arguments: &[&str]) -> Run {
    let path = config(store, text);
    run(program()
        .arg("--config")
        .arg(path)
        .arg("--root")
        .arg(store.root())
        .args(arguments))
}

fn config(store: &Sample, text: &str) -> PathBuf {
    let path = store.root().join("../config.toml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn what_prune_cannot_mean_is_a_usage_error_and_removes_nothing() {
    let store = Everything::new().sample;
    let before = store.digests();
    for arguments in [
        &["--tagged"][..],
        &["--keep-last", "0", "--tagged"],
        &["--keep-last", "2"],
        &["--keep", "x"],
        &["--tagged", "--keep", "("],
        &["--max-used-space", "101%"],
        &["--max-used-space", "-1"],
        &["--reserved-space", "many"],
        &["--min-free-space", ""],
        &["--min-free-space", "5 apples"],
        &["--filter", "nokey=1"],
        &["--filter", "label"],
        &["--filter", "state=lost"],
        &["--filter", "type=stage"],
        &["--filter", "until=soon"],
        &["--until", "soon"],
        &["--grace", "long"],
        &["--wait=soon"],
        &["--image", "app", "--cache-mounts"],
        &["--policy", "none-such"],
        &["--plan", "x", "--all"],
        &["--plan", "x", "--policy", "nightly"],
        &["--out", "x"],
    ] {
        let mut all = vec!["prune", "-f"];
        all.extend(arguments);
        let run = store.rstore(&all);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.starts_with("rstore: error: "), "{}", run.stderr);
    }
    assert_eq!(store.digests(), before);
}

#[test]
fn a_ceiling_and_what_is_in_its_way() {
    let store = Everything::new().sample;
    // Small enough already.
    let told = store.json(&["prune", "-f", "--max-used-space", "1TB", "--format", "json"]);
    assert_eq!(told["target_met"], true);
    assert_eq!(told["plan"]["items"].as_array().map(Vec::len), Some(0));
    // The first of several things that may go is enough.
    let used = du(&store.root());
    let few = store.json(&[
        "prune",
        "-n",
        "--max-used-space",
        &(used - 1).to_string(),
        "--format",
        "json",
    ]);
    assert_eq!(few["target_met"], true, "{few}");
    let all = store.json(&["prune", "-n", "--format", "json"]);
    let items = |plan: &serde_json::Value| plan["plan"]["items"].as_array().unwrap().len();
    assert!(items(&few) < items(&all), "{few}");
    // All that may go is not.
    let unmet = store.rstore(&["prune", "-f", "--max-used-space", "0"]);
    assert_eq!(unmet.code, 5, "{}", unmet.stderr);
    for told in ["are missing", "tagged", "`rstore df`", "tag app:", "--all"] {
        assert!(unmet.stderr.contains(told), "{told}: {}", unmet.stderr);
    }
    assert!(unmet.stdout.contains("Total reclaimed space"));
    assert!(store.ok(&["images"]).contains("app"));
    let full = store.rstore(&["prune", "-f", "--all", "--min-free-space", "100%"]);
    assert_eq!(full.code, 5, "{}", full.stderr);
}

#[test]
fn filters_and_images_choose_what_goes() {
    let everything = Everything::new();
    let store = &everything.sample;
    let none = store.json(&["prune", "-n", "--filter", "label=none", "--format", "json"]);
    assert_eq!(none["plan"]["totals"]["items"], 0);
    let strays = store.json(&["prune", "-n", "--filter", "type=blob", "--format", "json"]);
    assert_eq!(strays["plan"]["totals"]["items"], 1);
    let id = format!("id={}", everything.old.id);
    store.ok(&["prune", "-f", "--filter", &id]);
    let left = store.digests();
    assert!(!left.contains(&everything.old.digest.to_string()));
    assert!(left.contains(&everything.stray.digest.to_string()));
    store.ok(&["prune", "-f", "--intermediates", "--image", "app"]);
    let left = store.digests();
    assert!(!left.contains(&everything.copied.digest.to_string()));
    assert!(left.contains(&everything.stray.digest.to_string()));
    let absent = store.rstore(&["prune", "-f", "--image", "absent"]);
    assert_eq!(absent.code, 1);
}

#[test]
fn tags_go_by_policy_and_never_without() {
    let store = Everything::new().sample;
    store.ok(&["prune", "--all", "-f"]);
    let names = || store.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(names().contains("app:latest") && names().contains("app:1"));
    let line = store.ok(&["prune", "--tagged", "--keep-last", "1", "-f", "-q"]);
    assert!(
        line.starts_with("prune: ") && line.contains("1 untagged"),
        "{line}"
    );
    assert_eq!(names().matches("app:").count(), 1, "{}", names());
    assert!(names().contains("base:latest"));
    store.ok(&["prune", "--tagged", "--keep", "^base:", "-f"]);
    assert_eq!(names(), "base:latest\n");
}

#[test]
fn a_policy_of_the_configuration_is_used_by_its_name_and_flags_go_before_it() {
    let everything = Everything::new();
    let store = &everything.sample;
    let text = "[prune.stages]\nscopes = ['stages']\nuntil = '1s'\n[prune.other]\n";
    let plan = |arguments: &[&str]| {
        let mut all = vec!["prune", "-n", "--format", "json"];
        all.extend(arguments);
        let run = configured(store, text, &all);
        assert_eq!(run.code, 0, "{}", run.stderr);
        serde_json::from_str::<serde_json::Value>(&run.stdout).unwrap()
    };
    let stages = plan(&["--policy", "stages", "--until", "1970-01-02"]);
    assert_eq!(stages["plan"]["policy"]["name"], "stages");
    assert_eq!(stages["plan"]["policy"]["scope"]["stages"], true);
    // Everything was used since.
    assert_eq!(stages["plan"]["totals"]["items"], 0, "{stages}");
    let more = plan(&["--policy", "stages", "--intermediates"]);
    assert_eq!(more["plan"]["policy"]["scope"]["intermediates"], true);
    assert_eq!(more["plan"]["policy"]["scope"]["stages"], true);
    let unknown = configured(store, text, &["prune", "-n", "--policy", "stage"]);
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.stderr.contains("did you mean \"stages\"?"),
        "{}",
        unknown.stderr
    );
    // The units that are installed ask for this one, configured or not.
    let nightly = store.json(&["prune", "-n", "--policy", "nightly", "--format", "json"]);
    let plain = store.json(&["prune", "-n", "--format", "json"]);
    assert_eq!(nightly["plan"]["totals"], plain["plan"]["totals"]);
}

#[test]
fn defaults_of_the_configuration_stand_behind_flags_and_variables() {
    let store = Everything::new().sample;
    let root = store.root().display().to_string();
    let path = config(&store, &format!("root = {root:?}\nno-progress = true\n"));
    let by_file = run(program().arg("--config").arg(&path).arg("images"));
    assert_eq!(by_file.code, 0, "{}", by_file.stderr);
    assert!(by_file.stdout.contains("app"));
    let by_variable = run(program().env("RSTORE_CONFIG", &path).arg("images"));
    assert_eq!(by_variable.code, 0, "{}", by_variable.stderr);
    let by_flag =
        run(program()
            .arg("--config")
            .arg(&path)
            .args(["--root", "/nowhere/at/all", "images"]));
    assert_eq!(by_flag.code, 1, "{}", by_flag.stderr);
    let absent = run(program().args(["--config", "/nowhere/config.toml", "images"]));
    assert_eq!(absent.code, 1);
    assert!(
        absent.stderr.contains("/nowhere/config.toml"),
        "{}",
        absent.stderr
    );
    let wrong = configured(&store, "\n[prune.x]\nkep = '1'\n", &["images"]);
    assert_eq!(wrong.code, 2);
    let told = "config.toml:3:1: there is no key \"kep\"; did you mean \"keep\"?";
    assert!(wrong.stderr.contains(told), "{}", wrong.stderr);
    let version = configured(&store, "nonsense", &["version"]);
    assert_eq!(version.code, 0, "{}", version.stderr);
}

#[test]
fn the_users_file_goes_before_the_machines() {
    let store = Everything::new().sample;
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("rstore");
    fs::create_dir(&directory).unwrap();
    let root = store.root().display().to_string();
    fs::write(directory.join("config.toml"), format!("root = {root:?}\n")).unwrap();
    let found = run(program()
        .env_remove("RSTORE_CONFIG")
        .env("XDG_CONFIG_HOME", home.path())
        .arg("images"));
    assert_eq!(found.code, 0, "{}", found.stderr);
    assert!(found.stdout.contains("app"));
}

#[test]
fn root_does_not_believe_a_file_that_others_can_write() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: not root, who alone is careful about whose configuration it reads");
        assert!(std::env::var_os("RSTORE_TEST_NO_SKIP").is_none());
        return;
    }
    let store = Everything::new().sample;
    let path = config(&store, "no-progress = true\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let refused = run(program().arg("--config").arg(&path).arg("images"));
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("chmod go-w"), "{}", refused.stderr);
}

#[test]
fn the_example_configuration_is_understood_and_its_policies_run() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/config.toml");
    let text = fs::read_to_string(example).unwrap();
    let mut policies = 0;
    for line in text.lines() {
        let Some(name) = line.strip_prefix("[prune.") else {
            continue;
        };
        policies += 1;
        let store = Everything::new().sample;
        let name = name.trim_end_matches(']');
        let ran = configured(&store, &text, &["prune", "-f", "-q", "--policy", name]);
        // A machine whose disk is fuller than the example likes is no fault of it.
        assert!([0, 5].contains(&ran.code), "{name}: {}", ran.stderr);
        assert!(
            ran.stdout.starts_with(&format!("prune {name}: ")),
            "{}",
            ran.stdout
        );
        assert!(store.ok(&["images"]).contains("app"));
    }
    assert_eq!(policies, 3);
    // What is commented out can be meant, too.
    let all: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(all.contains("\njobs = 4\n"), "{all}");
    let store = Everything::new().sample;
    let ran = configured(&store, &all, &["images"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn a_plan_is_written_looked_at_and_carried_out() {
    let everything = Everything::new();
    let store = &everything.sample;
    let file = store.root().join("../plan.json");
    let file = file.to_str().unwrap();
    let shown = store.ok(&["prune", "-n", "--out", file, "--bytes"]);
    let plan: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(plan["schema"], 2);
    assert!(plan["made"].as_str().unwrap().ends_with('Z'));
    for item in plan["items"].as_array().unwrap() {
        assert!(item["size"].is_u64() && item["freed"].is_u64(), "{item}");
        assert!(item["reason"].is_string(), "{item}");
    }
    let total = plan["totals"]["freed"].to_string();
    assert!(shown.contains(&format!("space: {total}")), "{shown}");
    // One thing of it becomes needed.
    store.ok(&["tag", &everything.old.digest.to_string(), "kept"]);
    let done = store.rstore(&["prune", "--plan", file, "-f"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(
        done.stderr.contains("has begun to need it"),
        "{}",
        done.stderr
    );
    let left = store.digests();
    assert!(left.contains(&everything.old.digest.to_string()));
    assert!(!left.contains(&everything.stray.digest.to_string()));
    let again = store.rstore(&["prune", "--plan", file, "-f"]);
    assert!(again.stderr.contains("gone already"), "{}", again.stderr);
    let other = Everything::new().sample;
    let refused = other.rstore(&["prune", "--plan", file, "-f"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("of the store"),
        "{}",
        refused.stderr
    );
}

#[test]
fn the_report_says_what_was_done_what_stays_and_how_long_it_took() {
    let store = Everything::new().sample;
    let done = store.json(&["prune", "-f", "--format", "json"]);
    assert_eq!(done["schema"], 1);
    assert_eq!(done["freed"], done["report"]["removed"]["freed"]);
    assert_eq!(done["plan"]["totals"], done["report"]["removed"]);
    assert!(done["milliseconds"].is_u64());
    assert!(done["target_met"].is_null());
    let kept = done["plan"]["kept"].as_array().unwrap();
    let because: Vec<_> = kept.iter().map(|kept| &kept["because"]).collect();
    assert_eq!(because, ["tag", "intermediate", "stage"]);
}

#[test]
fn quiet_is_one_line_and_twice_is_none() {
    let store = Everything::new().sample;
    let line = store.ok(&["prune", "-f", "-q"]);
    assert_eq!(line.lines().count(), 1, "{line}");
    let pattern = r"^prune: \d+ items, [\d.]+k?B freed, \d+\.\ds\n$";
    assert!(
        regex::Regex::new(pattern).unwrap().is_match(&line),
        "{line}"
    );
    assert_eq!(store.ok(&["prune", "-f", "-qq"]), "");
    let foretold = store.ok(&["prune", "-n", "-q"]);
    assert_eq!(foretold, "prune: 0 items would go, 0B freed\n");
}

#[test]
fn a_prune_waits_for_another_as_long_as_it_is_told_and_at_low_priority() {
    let store = Everything::new().sample;
    store.ok(&["images"]);
    let lock = store.root().join("rstore/prune.lock");
    let held = rstore::lock::FileLock::exclusive(&lock).unwrap();
    let busy = store.rstore(&["prune", "-f", "--wait=1s"]);
    assert_eq!(busy.code, 75, "{}", busy.stderr);
    let mut waiting = program()
        .arg("--root")
        .arg(store.root())
        .args(["prune", "-f", "--wait", "--nice", "-qq"])
        .spawn()
        .unwrap();
    let stat = format!("/proc/{}/stat", waiting.id());
    // The nineteenth word: proc_pid_stat(5).
    let nice = || {
        let text = fs::read_to_string(&stat).unwrap();
        let rest = text.rsplit(')').next().unwrap().to_owned();
        rest.split_whitespace().nth(16).unwrap().to_owned()
    };
    let mut looks = 0;
    while nice() != "19" {
        looks += 1;
        assert!(looks < 200, "it stays at {}", nice());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(waiting.try_wait().unwrap().is_none(), "it waits");
    drop(held);
    assert_eq!(waiting.wait().unwrap().code(), Some(0));
}

#[test]
fn a_prune_after_which_nothing_has_changed_ends_the_next_one_at_once() {
    let store = Everything::new().sample;
    store.ok(&["prune", "-f"]);
    let unchanged = |arguments: &[&str]| {
        let mut all = vec!["prune", "-f", "--format", "json"];
        all.extend(arguments);
        store.json(&all)["unchanged"] == true
    };
    // Directories must be two seconds old before their times prove anything.
    let mut tries = 0;
    while !unchanged(&[]) {
        tries += 1;
        assert!(tries < 40, "it looks every time");
        std::thread::sleep(Duration::from_millis(250));
    }
    assert_eq!(store.ok(&["prune", "-f"]), "Total reclaimed space: 0B\n");
    assert!(!unchanged(&["--all", "-n"]), "another policy, and a look");
    store.ok(&["tag", "app", "other"]);
    assert!(!unchanged(&[]));
}

#[test]
fn what_cron_and_systemd_are_given_to_run_runs() {
    let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in [
        "contrib/cron.d/rstore-prune",
        "contrib/systemd/rstore-prune.service",
    ] {
        let text = fs::read_to_string(package.join(file)).unwrap();
        let line = text.lines().find(|line| line.contains("rstore prune "));
        let command = line.unwrap().split_once("/rstore ").unwrap().1;
        let command = command.split("||").next().unwrap();
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let everything = Everything::new();
        let store = &everything.sample;
        // The first command tells that it has made a catalog.
        store.ok(&["images"]);
        let ran = store.rstore(&arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{file}");
        assert!(ran.stdout.lines().count() <= 1, "{file}: {}", ran.stdout);
        assert!(!store.digests().contains(&everything.old.digest.to_string()));
    }
}

#[test]
fn caches_in_a_registry_are_asked_for_alone_and_with_a_rule() {
    let remote = |more: &[&str]| {
        let fixed = ["prune", "-n", "--remote", "127.0.0.1:1/cache"];
        rstore(&[&fixed, more].concat())
    };
    let refused = |more: &[&str], words: &str| {
        let ran = remote(more);
        assert_eq!(ran.code, 2, "{more:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{more:?}: {}", ran.stderr);
    };
    refused(&[], "--keep-last N, --until AGE");
    refused(&["--keep", "x"], "--keep-last N, --until AGE");
    refused(&["--until", "soon"], "neither an age");
    refused(&["--until", "7d", "--keep", "("], "regular expression");
    for scope in [
        "--dangling",
        "--all",
        "--cache",
        "--tagged",
        "--snapshots",
        "--wait",
    ] {
        refused(&["--until", "7d", scope], "cannot be used with");
    }
    refused(
        &["--until", "7d", "--filter", "label=x"],
        "cannot be used with",
    );
    let tagged = rstore(&[
        "prune",
        "-n",
        "--remote",
        "127.0.0.1:1/cache:main",
        "--until",
        "7d",
    ]);
    assert_eq!(tagged.code, 2);
    assert!(tagged.stderr.contains("without tag"), "{}", tagged.stderr);
}

//! What a step sees of the machine, and what it leaves in the image.

use std::time::{Duration, Instant};

use crate::support::{Context, Rstore};

/// Builds a Dockerfile on the base; what its RUNs print.
#[track_caller]
fn output(dockerfile: &str) -> String {
    let store = Rstore::with_base();
    let context = Context::new(dockerfile);
    store
        .build(context.path(), &["-t", "app", "--no-cache"])
        .stderr
}

#[test]
fn a_step_is_alone_with_its_processes_and_names() {
    let text = output(
        "FROM base\nRUN echo pid=$$ && ps | wc -l && hostname\n\
         RUN test -z \"$(cat)\" && echo stdin is empty\n",
    );
    assert!(text.contains("stdin is empty"), "{text}");
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    assert!(!text.lines().any(|line| line == host), "{text}");
}

#[test]
fn a_step_has_dockers_capabilities_and_cannot_reach_the_machine() {
    let text = output(
        "FROM base\n\
         RUN grep CapEff /proc/self/status; grep Seccomp: /proc/self/status\n\
         RUN mount -t tmpfs none /tmp 2>/dev/null && echo MOUNTED || echo no mount\n\
         RUN mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk >/dev/null 2>&1 && echo READ DISK || echo no disk\n\
         RUN (echo x > /proc/sysrq-trigger) 2>/dev/null && echo SYSRQ || echo no sysrq\n\
         RUN (echo x > /sys/kernel/uevent_helper) 2>/dev/null && echo SYS || echo sys is read-only\n\
         RUN ls /proc/1/root/lib/modules >/dev/null 2>&1 && echo HOST || echo no host files\n\
         RUN test -s /proc/kcore && echo KCORE || echo no kcore\n",
    );
    assert!(text.contains("00000000a80425fb"), "{text}");
    assert!(text.contains("Seccomp:\t2"), "{text}");
    for leak in ["MOUNTED", "READ DISK", "SYSRQ", "SYS\n", "HOST", "KCORE"] {
        assert!(
            !text.lines().any(|line| line.trim() == leak.trim()),
            "{leak}: {text}"
        );
    }
}

#[test]
fn what_is_made_for_the_step_is_not_committed() {
    let store = Rstore::with_base();
    let look = "grep -q localhost /etc/hosts && test -e /etc/resolv.conf && test -e /dev/null";
    let context = Context::new(&format!("FROM base\nRUN {look}\nRUN {look} && touch /x\n"));
    store.build(context.path(), &["-t", "app"]);
    // A step that changes nothing has no layer, or an empty one.
    let layers = store.layers("app:latest");
    let names: Vec<String> = layers[1..]
        .iter()
        .flat_map(|layer| members(&store, layer))
        .collect();
    assert_eq!(names, ["x"]);
}

/// The names of a layer's members, but for the root.
fn members(store: &Rstore, layer: &str) -> Vec<String> {
    let bytes = std::fs::read(store.blob(layer)).expect("a blob");
    let tar = crate::support::decompressed(&bytes);
    let mut archive = tar::Archive::new(&tar[..]);
    let entries = archive.entries().expect("a tar");
    entries
        .map(|entry| {
            entry
                .expect("an entry")
                .path()
                .expect("a path")
                .display()
                .to_string()
        })
        .filter(|name| !matches!(name.as_str(), "" | "." | "./"))
        .collect()
}

#[test]
fn network_none_leaves_the_loopback_alone() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base\nRUN ls /sys/class/net | sort | tr '\\n' ' '; cat /proc/net/dev | wc -l\n",
    );
    let built = store.build(context.path(), &["--network", "none", "-t", "app"]);
    let loopback_alone = |line: &str| line.trim() == "3" || line.trim().ends_with(" 3");
    assert!(built.stderr.lines().any(loopback_alone), "{built}");
}

#[test]
fn a_process_that_a_step_leaves_behind_dies_with_the_step() {
    let store = Rstore::with_base();
    let context =
        Context::new("FROM base\nRUN (sleep 1000 & ) ; setsid sleep 1000 & echo started\n");
    let began = Instant::now();
    store.build(context.path(), &["-t", "app"]);
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn instructions_end_in_the_configuration() {
    let store = Rstore::with_base();
    let context = Context::new(
        "FROM base\nENV A=1 B=\"two words\"\nENV C=${A}-${UNSET:-none}${A:+!}\nWORKDIR /one\nWORKDIR two\n\
         USER app:app\nLABEL k=v \"a b\"=c\nEXPOSE 80 53/udp\nVOLUME /data /z\nVOLUME [\"/y\"]\n\
         STOPSIGNAL SIGINT\nENTRYPOINT [\"/bin/echo\"]\nCMD [\"hi\"]\nMAINTAINER somebody\n",
    );
    store.build(context.path(), &["-t", "app", "--label", "from=outside"]);
    let document = store.config("app:latest");
    let config = &document["config"];
    let environment: Vec<&str> = config["Env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    for pair in ["A=1", "B=two words", "C=1-none!"] {
        assert!(environment.contains(&pair), "{environment:?}");
    }
    assert_eq!(config["WorkingDir"], "/one/two");
    assert_eq!(config["User"], "app:app");
    assert_eq!(config["Labels"]["a b"], "c");
    assert_eq!(config["Labels"]["from"], "outside");
    let keys = |name: &str| {
        let object = config[name]
            .as_object()
            .unwrap_or_else(|| panic!("{name}: {config}"));
        let mut keys: Vec<String> = object.keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(keys("ExposedPorts"), ["53/udp", "80/tcp"]);
    assert!(keys("Volumes").contains(&"/y".to_owned()));
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/bin/echo"]));
    assert_eq!(config["Cmd"], serde_json::json!(["hi"]));
    assert_eq!(document["author"], "somebody");
    let history = document["history"].as_array().unwrap();
    let real = history
        .iter()
        .filter(|entry| entry["empty_layer"] != true)
        .count();
    assert_eq!(
        real,
        document["rootfs"]["diff_ids"].as_array().unwrap().len()
    );
}

#[test]
fn a_build_is_shown_as_the_flag_says_then_our_variable_then_buildkits() {
    let store = Rstore::with_base();
    let context = Context::new("FROM base\nRUN echo has run\n");
    let shown = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = store.command();
        command.arg("build").args(arguments).arg(context.path());
        command.envs(variables.iter().copied());
        let output = command.output().expect("rstore runs");
        crate::support::Finished::new(&command, &output)
    };
    let (ours, buildkits) = ("RSTORE_PROGRESS", "BUILDKIT_PROGRESS");
    let json = shown(&[(buildkits, "rawjson")], &[]).ok();
    for line in json.stderr.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect("an object a line");
        assert_eq!(event["schema"], 1, "{line}");
    }
    assert!(
        json.stderr
            .contains(r#""event":"output","step":1,"stream":"stdout","line":"has run"}"#)
    );
    let classic = [(buildkits, "rawjson"), (ours, "classic")];
    assert!(
        shown(&classic, &[])
            .ok()
            .stderr
            .starts_with("Step 1/2 : FROM base\n")
    );
    let plain = shown(&classic, &["--progress", "plain"]).ok();
    assert!(plain.stderr.starts_with("#1 [1/2] FROM base\n"), "{plain}");
    let quiet = shown(&classic, &["-q"]).ok();
    assert!(
        quiet.stdout.starts_with("sha256:") && quiet.stderr.is_empty(),
        "{quiet}"
    );
    let silent = shown(&classic, &["--no-progress"]).ok();
    assert_eq!(silent.all(), "");
    // Another program's variable stops nothing; ours is a flag by another name.
    let foreign = shown(&[(buildkits, "fancy")], &[]).ok();
    assert!(
        foreign.stderr.contains("BUILDKIT_PROGRESS=\"fancy\""),
        "{foreign}"
    );
    assert!(foreign.stderr.contains("#2 CACHED"), "{foreign}");
    shown(&[(ours, "fancy")], &[]).fails(2, &["fancy", "rawjson"]);
}

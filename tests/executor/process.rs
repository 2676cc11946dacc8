//! Exit codes, output, user, environment: what a Dockerfile's author sees.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::{fs, iter};

use rstore::executor::{Error, Exit, Network, Resource, Step, User};

use crate::support::{Image, env, may_run, output, run, try_run};

#[test]
fn the_exit_code_is_the_programs() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    for code in [0, 1, 42, 255] {
        assert_eq!(
            run(image.sh(&format!("exit {code}"))).outcome.exit,
            Exit::Code(code)
        );
    }
}

#[test]
fn a_signal_is_told_from_an_exit_code() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let exit = run(image.sh("kill -TERM $$")).outcome.exit;
    assert_eq!(exit, Exit::Signal(libc::SIGTERM));
    assert_eq!(exit.code(), 143);
}

#[test]
fn output_comes_whole_and_by_stream() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let ran =
        run(image.sh("echo out; echo err >&2; dd if=/dev/zero bs=1000 count=3000 2>/dev/null"));
    assert_eq!(ran.stderr, "err\n");
    assert_eq!(ran.stdout.len(), 4 + 3_000_000);
}

#[test]
fn standard_input_is_empty() {
    if !may_run() {
        return;
    }
    assert_eq!(
        output(Image::new().sh("cat; readlink /proc/self/fd/0")),
        "/dev/null\n"
    );
}

#[test]
fn environment_directory_and_host_name_are_as_given() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let mut step = image.sh("echo $A; pwd; hostname; umask; env | wc -l");
    step.env.push(env("A", "b c"));
    step.cwd = "/tmp".into();
    step.hostname = "builder".to_owned();
    // PATH and A, and PWD and SHLVL, which the shell adds.
    assert_eq!(output(step), "b c\n/tmp\nbuilder\n0022\n4\n");
}

#[test]
fn a_program_is_found_by_the_steps_own_path() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    fs::create_dir(image.lower().join("mine")).unwrap();
    let tool = image.lower().join("mine/tool");
    fs::write(&tool, "#!/bin/sh\necho mine \"$@\"\n").unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let mut step = Step::new(image.root(), ["tool", "a b"]);
    step.env = vec![env("PATH", "relative:/nowhere:/mine:/bin")];
    assert_eq!(output(step), "mine a b\n");
}

#[test]
fn a_missing_program_is_127_with_the_path_that_was_searched() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let error = try_run(Step::new(image.root(), ["no-such-tool"])).unwrap_err();
    assert_eq!(error.exit_code(), Some(127));
    let text = error.to_string();
    assert!(
        text.contains("no-such-tool") && text.contains("not found in $PATH (/usr/"),
        "{text}"
    );
    let error = try_run(Step::new(image.root(), ["/no/such/tool"])).unwrap_err();
    assert_eq!(error.exit_code(), Some(127));
}

#[test]
fn what_cannot_be_executed_is_126() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    fs::write(image.lower().join("bin/data"), "no program").unwrap();
    let error = try_run(Step::new(image.root(), ["data"])).unwrap_err();
    assert_eq!(error.exit_code(), Some(126), "{error}");
    fs::set_permissions(
        image.lower().join("bin/data"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let error = try_run(Step::new(image.root(), ["data"])).unwrap_err();
    assert_eq!(error.exit_code(), Some(126));
    assert!(error.to_string().contains("exec format error"), "{error}");
}

#[test]
fn a_missing_working_directory_is_named() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let mut step = image.sh("true");
    step.cwd = PathBuf::from("/not/there");
    let error = try_run(step).unwrap_err();
    assert!(matches!(error, Error::Cwd { .. }));
    assert!(error.to_string().contains("/not/there"), "{error}");
}

#[test]
fn the_user_has_its_ids_its_groups_and_no_capability() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let mut step = image.sh("id -u; id -g; id -G; grep -E '^Cap(Prm|Eff|Bnd|Amb)' /proc/self/status; echo x > /dev/stdout");
    step.user = User {
        uid: 1234,
        gid: 567,
        groups: vec![10, 20],
    };
    let expected = "1234\n567\n567 10 20\n\
        CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nx\n";
    assert_eq!(output(step), expected);
}

#[test]
fn root_has_no_groups_of_ours() {
    if !may_run() {
        return;
    }
    assert_eq!(output(Image::new().sh("id -G")), "0\n");
}

#[test]
fn limits_are_set() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let mut step = image.sh("ulimit -n; ulimit -H -n");
    step.ulimits = vec![(Resource::Nofile, 100, 200)];
    assert_eq!(output(step), "100\n200\n");
}

#[test]
fn signals_are_as_a_program_expects_them() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let args = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let status = output(Step::new(image.root(), args));
    assert_eq!(
        status,
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
    );
}

#[test]
fn a_private_network_is_refused_with_what_to_use() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let mut step = image.sh("true");
    step.network = Network::Private;
    let error = try_run(step).unwrap_err().to_string();
    assert!(
        error.contains("not supported yet") && error.contains("--network host"),
        "{error}"
    );
}

#[test]
fn nonsense_is_refused_before_anything_starts() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let error = try_run(Step::new(image.root(), iter::empty::<&str>())).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    let error = try_run(Step::new(image.root(), ["/bin/true", "a\0b"])).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
}

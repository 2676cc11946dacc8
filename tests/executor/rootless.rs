//! The same as an ordinary user, with subordinate IDs and without.
//!
//! The tests are root and make users for themselves; `run_step` is run as them.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{Image, may_run, run_step, skip};

/// A user of the machine, removed at the end.
struct User {
    name: String,
    uid: u32,
}

impl User {
    fn new(salt: &str, with_ranges: bool) -> Option<User> {
        let name = format!("rstore-{salt}-{}", std::process::id() % 10_000);
        let mut useradd = Command::new("useradd");
        useradd.args(["--no-create-home", "--shell", "/bin/sh", &name]);
        if !useradd.output().is_ok_and(|output| output.status.success()) {
            skip("useradd does not work");
            return None;
        }
        let id = Command::new("id").args(["-u", &name]).output().unwrap();
        let uid = String::from_utf8(id.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let user = User { name, uid };
        if with_ranges {
            // useradd may have given ranges of its own; these are of a known size.
            user.usermod(&[
                "--add-subuids",
                "2000000-2065535",
                "--add-subgids",
                "2000000-2065535",
            ]);
        } else {
            user.forget_ranges();
        }
        Some(user)
    }

    fn usermod(&self, args: &[&str]) {
        let done = Command::new("usermod")
            .args(args)
            .arg(&self.name)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    fn forget_ranges(&self) {
        for file in ["/etc/subuid", "/etc/subgid"] {
            let text = fs::read_to_string(file).unwrap_or_default();
            let ours = format!("{}:", self.name);
            for line in text.lines().filter(|line| line.starts_with(&ours)) {
                let fields: Vec<u64> = line.split(':').skip(1).flat_map(str::parse).collect();
                let range = format!("{}-{}", fields[0], fields[0] + fields[1] - 1);
                let option = if file.ends_with("uid") {
                    "--del-subuids"
                } else {
                    "--del-subgids"
                };
                self.usermod(&[option, &range]);
            }
        }
    }

    /// Runs a step as this user, in a copy of `image` that the user owns.
    fn run(&self, image: &Image, script: &str) -> Output {
        Command::new("setpriv")
            .args([
                &format!("--reuid={}", self.uid),
                &format!("--regid={}", self.uid),
            ])
            .args(["--clear-groups", "--inh-caps=-all", "--"])
            .arg(program())
            .arg(image.dir.path())
            .args(["/bin/sh", "-c", script])
            .current_dir("/")
            .output()
            .unwrap()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.name).output();
    }
}

/// `run_step` where every user can reach it.
fn program() -> PathBuf {
    let place = std::env::temp_dir().join(format!("rstore-run-step-{}", std::process::id()));
    if !place.exists() {
        let new = place.with_extension(format!("{:?}", std::thread::current().id()));
        fs::copy(run_step(), &new).unwrap();
        fs::rename(new, &place).unwrap();
    }
    place
}

fn give(dir: &Path, owner: u32) {
    for entry in walkdir::WalkDir::new(dir) {
        std::os::unix::fs::lchown(entry.unwrap().path(), Some(owner), Some(owner)).unwrap();
    }
    chown(dir, Some(owner), Some(owner)).unwrap();
}

fn prepared(salt: &str, with_ranges: bool) -> Option<(User, Image)> {
    if !may_run() {
        return None;
    }
    let user = User::new(salt, with_ranges)?;
    let image = Image::new();
    give(image.dir.path(), user.uid);
    Some((user, image))
}

fn succeeded(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
        .trim_start_matches("starting\n")
        .to_owned()
}

const LOOK: &str = "id -u; grep -E '^(CapEff|Seccomp):' /proc/self/status; \
    head -c 4 /dev/zero | wc -c; echo x > /dev/null; ls /proc | grep -c '^[0-9]'; \
    touch /sys/x 2>/dev/null || echo read-only; ls /sys/class/net >/dev/null && echo network; \
    ls /sys/fs/cgroup | wc -l; cat /proc/kcore 2>/dev/null | wc -c; ls -A / | wc -l";

/// init, the shell, ls and grep are the processes.
const SEEN: &str = "0\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n4\n4\nread-only\nnetwork\n0\n0\n7\n";

#[test]
fn a_user_with_subordinate_ids_has_all_users_inside() {
    let Some((user, image)) = prepared("sub", true) else {
        return;
    };
    assert_eq!(succeeded(&user.run(&image, LOOK)), SEEN);
    let script = "touch /tmp/f && chown 1000:1001 /tmp/f && stat -c %u:%g /tmp/f && rm /tmp/f; \
        cat /proc/self/setgroups; wc -l < /proc/self/uid_map";
    let lines = succeeded(&user.run(&image, script));
    assert!(lines.starts_with("1000:1001\nallow\n"), "{lines}");
    assert_ne!(lines.lines().last(), Some("1"), "{lines}");
}

#[test]
fn a_user_without_subordinate_ids_is_root_alone() {
    let Some((user, image)) = prepared("one", false) else {
        return;
    };
    assert_eq!(succeeded(&user.run(&image, LOOK)), SEEN);
    let lines = succeeded(&user.run(
        &image,
        "cat /proc/self/setgroups; touch /tmp/f; chown 1000 /tmp/f || echo refused; rm /tmp/f",
    ));
    assert_eq!(lines, "deny\nrefused\n");
}

#[test]
fn a_rootless_step_cannot_touch_what_its_user_cannot() {
    let Some((user, image)) = prepared("not", true) else {
        return;
    };
    let secret = image.path("lower/secret");
    fs::write(&secret, "root's").unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(fs::metadata(&secret).unwrap().uid(), 0);
    let lines = succeeded(&user.run(
        &image,
        "cat /secret || echo refused; chmod 600 /dev/null || echo refused",
    ));
    assert_eq!(lines, "refused\nrefused\n");
}

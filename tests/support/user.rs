//! An ordinary user, made for one test, with a home of its own.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::need::program;
use super::rstore::PROGRAM;
use super::{package, run, scratch};

/// A user that goes, with all that is its, when the value does.
pub struct User {
    name: String,
    ids: (u32, u32),
    home: tempfile::TempDir,
}

/// Whether a user has subordinate IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subordinate {
    Range,
    None,
}

impl User {
    /// Makes the user; its home holds the program as `rstore`, and `fixtures/`.
    pub fn new(suffix: &str, subordinate: Subordinate) -> User {
        let name = format!("rstore-{}-{suffix}", std::process::id() % 100_000);
        let home = scratch();
        let _ = program("userdel").arg(&name).output();
        let mut useradd = program("useradd");
        useradd.args(["--shell", "/bin/sh", "--no-create-home", "--home-dir"]);
        // Users of the system get no subordinate IDs.
        run(useradd.arg(home.path()).arg("--system").arg(&name));
        if subordinate == Subordinate::Range {
            // Far from what the machine's own users have.
            let ranges = [
                "--add-subuids",
                "500000000-500065535",
                "--add-subgids",
                "500000000-500065535",
            ];
            run(program("usermod").args(ranges).arg(&name));
        }
        let id = |flag| {
            let text = run(Command::new("id").args([flag, name.as_str()]));
            text.trim().parse().expect("an ID")
        };
        let user = User {
            ids: (id("-u"), id("-g")),
            name,
            home,
        };
        user.furnish();
        user
    }

    fn furnish(&self) {
        std::fs::copy(PROGRAM, self.home().join("rstore")).expect("the program is copied");
        run(Command::new("cp")
            .arg("-R")
            .arg(package().join("fixtures"))
            .arg(self.home()));
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.home(), mode).expect("a mode");
        self.own(self.home());
    }

    /// Makes a tree the user's.
    pub fn own(&self, tree: &Path) {
        for entry in walkdir::WalkDir::new(tree) {
            let entry = entry.expect("a tree");
            if !entry.path_is_symlink() {
                chown(entry.path(), Some(self.ids.0), Some(self.ids.1)).expect("root may chown");
            }
        }
    }

    /// The user and the group.
    pub fn ids(&self) -> (u32, u32) {
        self.ids
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The user's store where `--root` isn't given.
    pub fn store(&self) -> PathBuf {
        self.home().join(".local/share/rstore")
    }

    /// A command of the user's, in its home, with an environment as after a log-in.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .uid(self.ids.0)
            .gid(self.ids.1)
            .current_dir(self.home())
            .env_clear()
            .env("HOME", self.home())
            .env("USER", &self.name)
            .env("LOGNAME", &self.name)
            .env("TMPDIR", self.home())
            .env("NO_COLOR", "1")
            .env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command
    }

    /// The program, run by the user.
    pub fn rstore(&self, arguments: &[&str]) -> super::Finished {
        let mut command = self.command(self.home().join("rstore"));
        let output = command.args(arguments).output().expect("rstore runs");
        super::Finished::new(&command, &output)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = program("userdel").arg(&self.name).output();
    }
}

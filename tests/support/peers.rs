//! skopeo, umoci and buildah, each kept to a directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::need::program;
use super::{run, scratch};

/// skopeo, with a policy that lets it copy.
pub fn skopeo(arguments: &[&str]) -> String {
    let policy = super::kept().join("policy.json");
    if !policy.exists() {
        let accept = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        std::fs::write(&policy, accept).expect("target is writable");
    }
    run(program("skopeo")
        .arg("--policy")
        .arg(policy)
        .args(arguments))
}

/// Unpacks `image`, `DIRECTORY:TAG`, and gives the root file system.
pub fn umoci_unpack(image: &str, into: &Path) -> PathBuf {
    let mut umoci = program("umoci");
    umoci.args(["unpack", "--image", image]);
    if !rustix::process::geteuid().is_root() {
        umoci.arg("--rootless");
    }
    run(umoci.arg(into));
    into.join("rootfs")
}

/// buildah with storage of its own.
pub struct Buildah {
    directory: tempfile::TempDir,
}

impl Buildah {
    pub fn new() -> Buildah {
        let directory = scratch();
        let accept = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        std::fs::write(directory.path().join("policy.json"), accept).expect("a policy");
        Buildah { directory }
    }

    /// buildah's own arguments, then `arguments`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program("buildah");
        command
            .arg("--root")
            .arg(self.directory.path().join("root"))
            .arg("--runroot")
            .arg(self.directory.path().join("run"))
            .args(["--storage-driver", "vfs"])
            .env("BUILDAH_ISOLATION", "chroot")
            .args(arguments);
        command
    }

    fn policy(&self) -> String {
        format!(
            "--signature-policy={}",
            self.directory.path().join("policy.json").display()
        )
    }

    /// Takes an image from a layout, `oci:DIRECTORY:TAG`, under a name.
    pub fn take(&self, source: &str, name: &str) {
        let (root, run) = (
            self.directory.path().join("root"),
            self.directory.path().join("run"),
        );
        let storage = format!("vfs@{}+{}", root.display(), run.display());
        skopeo(&[
            "copy",
            "-q",
            source,
            &format!("containers-storage:[{storage}]localhost/{name}"),
        ]);
    }

    /// Builds `context` under a name.
    pub fn build(&self, context: &Path, name: &str, arguments: &[&str]) -> String {
        let mut command = self.command(&["bud", "--pull-never", "--format", "oci"]);
        command
            .arg(self.policy())
            .args(arguments)
            .args(["-t", name]);
        run(command.arg(context))
    }

    /// Puts an image into a new layout.
    pub fn put(&self, name: &str, layout: &Path, tag: &str) {
        let target = format!("oci:{}:{tag}", layout.display());
        run(&mut self.command(&["push", "-q", &self.policy(), name, &target]));
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        // What is mounted cannot be removed with the directory.
        let _ = self.command(&["rm", "--all"]).output();
    }
}

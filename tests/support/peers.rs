//! skopeo, umoci, buildah, podman and docker, each kept to a directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::need::program;
use super::{run, scratch};

/// A policy that lets skopeo copy.
pub fn policy() -> PathBuf {
    static POLICY: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let write = || {
        let policy = super::kept().join("policy.json");
        if !policy.exists() {
            let accept = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
            std::fs::write(&policy, accept).expect("target is writable");
        }
        policy
    };
    POLICY.get_or_init(write).clone()
}

/// skopeo, with a policy that lets it copy.
pub fn skopeo(arguments: &[&str]) -> String {
    run(program("skopeo")
        .arg("--policy")
        .arg(policy())
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

/// podman with storage of its own.
pub struct Podman {
    directory: tempfile::TempDir,
}

impl Podman {
    pub fn new() -> Podman {
        Podman {
            directory: scratch(),
        }
    }

    /// podman's own arguments, then `arguments`; its output.
    pub fn run(&self, arguments: &[&str]) -> String {
        run(program("podman")
            .arg("--root")
            .arg(self.directory.path().join("root"))
            .arg("--runroot")
            .arg(self.directory.path().join("run"))
            .args(["--storage-driver", "vfs"])
            .args(arguments))
    }

    /// The ID of an image, without `sha256:`.
    pub fn id(&self, name: &str) -> String {
        let id = self.run(&["image", "inspect", "--format", "{{.Id}}", name]);
        id.trim().to_owned()
    }
}

/// A docker daemon of its own, without a network.
pub struct Docker {
    directory: tempfile::TempDir,
    daemon: std::process::Child,
}

impl Docker {
    /// Starts one; `None`, with a word about it, where that cannot be.
    pub fn start() -> Option<Docker> {
        let directory = scratch();
        let log = std::fs::File::create(directory.path().join("log")).expect("a log");
        let option =
            |name: &str, file: &str| format!("--{name}={}", directory.path().join(file).display());
        let daemon = program("dockerd")
            .args([option("data-root", "data"), option("exec-root", "exec")])
            .arg(option("pidfile", "pid"))
            .arg(format!("--host={}", Docker::host(directory.path())))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .arg("--storage-driver=vfs")
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("dockerd");
        let mut docker = Docker { directory, daemon };
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_secs(60) {
            let ended = docker.daemon.try_wait().expect("a child").is_some();
            let answers = docker.command(&["version"]).output();
            if !ended && answers.is_ok_and(|output| output.status.success()) {
                return Some(docker);
            }
            if ended {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let log = std::fs::read_to_string(docker.directory.path().join("log"));
        let log = log.unwrap_or_default();
        // Whether one starts is the kernel's cgroups' and the machine's to say: nothing that could be
        // installed, so it is told and no failure.
        use std::io::Write;
        let _ = writeln!(
            std::io::stderr(),
            "SKIP docker: no daemon can be started:\n{log}"
        );
        None
    }

    fn host(directory: &Path) -> String {
        format!("unix://{}", directory.join("docker.sock").display())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program("docker");
        command
            .arg(format!("--host={}", Docker::host(self.directory.path())))
            .args(arguments);
        command
    }

    /// Runs the client; its output.
    pub fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // SIGTERM, so that it ends its containerd and its mounts.
        if let Some(id) = rustix::process::Pid::from_raw(self.daemon.id().cast_signed()) {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let _ = self.daemon.wait();
    }
}

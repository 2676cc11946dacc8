//! Files of a git repository, by the machine's `git`.
//!
//! ```text
//! https://host/x.git?query#ref:directory     a URL whose path ends in .git
//! git://host/x  ssh://user@host/x            any
//! user@host:x.git#ref:directory              ssh, as scp writes it
//! ```
//! These forms and the query's words are BuildKit's. A commit is fetched alone, without its
//! history, where the server can do that.
//!
//! What a repository says is not believed: no hook runs, no configuration of the user or the
//! machine is read, no question is asked, and nothing but `http`, `https`, `git` and `ssh` is
//! spoken, for submodules neither: one whose URL is a path of this machine is refused.

mod reference;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

pub use reference::{Reference, is_git};

use super::url::redacted;
use crate::executor::Cancel;
use crate::fsutil::{self, IoContext};

/// Why a repository gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no git.
    #[error(
        "git is not installed, and fetches repositories: install it (or name its place in PATH)"
    )]
    Missing,
    /// git failed.
    #[error("{url}: git {doing} failed: {why}")]
    Failed {
        /// The repository, without its password.
        url: String,
        /// git's command.
        doing: String,
        /// What it said.
        why: String,
    },
    /// The repository has no such reference.
    #[error("{url} has no branch, tag or reference {name:?}")]
    NoReference {
        /// The repository, without its password.
        url: String,
        /// What was looked for.
        name: String,
    },
    /// The commit is not the one that was asked for.
    #[error(
        "{url}: {name:?} is commit {found}, not {wanted}: it has moved, or the checksum is wrong"
    )]
    Checksum {
        /// The repository, without its password.
        url: String,
        /// The reference.
        name: String,
        /// The commit that it is.
        found: String,
        /// The beginning of the one that was asked for.
        wanted: String,
    },
    /// The directory is not in the commit.
    #[error("{url}: there is no directory {directory:?} in the repository")]
    NoDirectory {
        /// The repository, without its password.
        url: String,
        /// The directory.
        directory: String,
    },
    /// The file system says no.
    #[error(transparent)]
    Io(#[from] fsutil::Error),
    /// Somebody asked for the end.
    #[error("interrupted")]
    Interrupted,
}

/// What a reference means in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The commit's ID.
    pub id: String,
    /// What the name stands for: the commit, or the tag object that names it.
    pub object: String,
    /// The full name of the reference: `refs/heads/main`; for a commit its ID.
    pub name: String,
}

/// Runs git.
#[derive(Debug, Clone, Copy)]
pub struct Git<'a> {
    /// All that git gets of the environment.
    pub environment: &'a [(String, String)],
    /// Ends what runs.
    pub cancel: &'a Cancel,
}

impl Git<'_> {
    /// Asks which commit a reference is; a full commit ID needs no asking. `directory` exists.
    pub fn resolve(&self, reference: &Reference, directory: &Path) -> Result<Commit, Error> {
        let commit = match &reference.name {
            Some(name) if is_id(name) => Commit {
                id: name.clone(),
                object: name.clone(),
                name: name.clone(),
            },
            name => self.ask(reference, name.as_deref(), directory)?,
        };
        if let Some(wanted) = &reference.checksum {
            let wanted = wanted.to_ascii_lowercase();
            if !commit.id.starts_with(&wanted) && !commit.object.starts_with(&wanted) {
                return Err(Error::Checksum {
                    url: redacted(&reference.remote),
                    name: reference.name.clone().unwrap_or(commit.name),
                    found: commit.id,
                    wanted,
                });
            }
        }
        Ok(commit)
    }

    fn ask(
        &self,
        reference: &Reference,
        name: Option<&str>,
        directory: &Path,
    ) -> Result<Commit, Error> {
        let url = reference.remote.as_str();
        let peeled = name.map(|name| format!("{name}^{{}}"));
        let list = match (name, &peeled) {
            (Some(name), Some(peeled)) => {
                self.run(url, directory, &["ls-remote", "--", url, name, peeled])?
            }
            _ => self.run(
                url,
                directory,
                &["ls-remote", "--symref", "--", url, "HEAD"],
            )?,
        };
        let lines: Vec<(&str, &str)> = list
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .collect();
        let line = |wanted: &str| {
            let found = lines.iter().find(|(id, name)| *name == wanted && is_id(id));
            found.map(|(id, _)| (*id).to_owned())
        };
        let Some(name) = name else {
            let branch = lines
                .iter()
                .find_map(|(target, name)| {
                    let target = target.strip_prefix("ref: ")?;
                    (*name == "HEAD").then(|| target.to_owned())
                })
                .unwrap_or_else(|| "HEAD".to_owned());
            let id = line("HEAD").ok_or_else(|| no_reference(url, "HEAD"))?;
            let object = id.clone();
            return Ok(Commit {
                id,
                object,
                name: branch,
            });
        };
        // A full name first, then branches before tags, as git's checkout has it.
        let strip = |prefix: &str| name.strip_prefix(prefix).unwrap_or(name).to_owned();
        let tag = format!("refs/tags/{}", strip("refs/tags/"));
        for full in [
            format!("refs/{}", strip("refs/")),
            format!("refs/heads/{}", strip("refs/heads/")),
            tag,
        ] {
            if let Some(object) = line(&full) {
                let id = line(&format!("{full}^{{}}")).unwrap_or_else(|| object.clone());
                return Ok(Commit {
                    id,
                    object,
                    name: full,
                });
            }
        }
        Err(no_reference(url, name))
    }

    /// Fetches a commit into the empty directory `into`, and returns the directory below it that
    /// holds what the reference asks for.
    pub fn check_out(
        &self,
        reference: &Reference,
        commit: &Commit,
        into: &Path,
    ) -> Result<PathBuf, Error> {
        let url = reference.remote.as_str();
        let work = into.join("work");
        let format = match commit.id.len() {
            64 => "--object-format=sha256",
            _ => "--object-format=sha1",
        };
        let shown = work.to_string_lossy().into_owned();
        self.run(
            url,
            into,
            &["init", "-q", "--template=", format, "--", &shown],
        )?;
        self.fetch(url, commit, &work)?;
        self.run(url, &work, &["checkout", "-q", "--detach", &commit.id])?;
        if reference.submodules && work.join(".gitmodules").exists() {
            // Where a submodule's URL is relative, it is to this; no file need hold a password.
            let origin = format!("remote.origin.url={url}");
            let update = ["submodule", "update", "-q", "--init", "--recursive"];
            let with = |last: &[&str]| {
                let arguments = [&["-c", origin.as_str()], &update[..], last].concat();
                self.run(url, &work, &arguments)
            };
            with(&["--depth=1"]).or_else(|error| match error {
                Error::Failed { .. } => with(&[]),
                other => Err(other),
            })?;
        }
        if reference.commit_times {
            let time = self.run(url, &work, &["show", "-s", "--format=%ct", &commit.id])?;
            let time = time.trim().parse().unwrap_or(0);
            tidy(&work, reference.keeps_git_directory(), Some(time))?;
        } else {
            tidy(&work, reference.keeps_git_directory(), None)?;
        }
        if reference.keeps_git_directory() {
            self.settle(url, commit, &work)?;
        }
        let Some(directory) = &reference.subdirectory else {
            return Ok(work);
        };
        let root = fsutil::open_dir(&work)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        fsutil::open_beneath(&root, directory, flags, Mode::empty()).map_err(|_| {
            Error::NoDirectory {
                url: redacted(url),
                directory: directory.clone(),
            }
        })?;
        Ok(work.join(directory))
    }

    /// Fetches the commit alone; what a server can't do is done with more.
    fn fetch(&self, url: &str, commit: &Commit, work: &Path) -> Result<(), Error> {
        let has = |git: &Self| {
            let object = format!("{}^{{commit}}", commit.id);
            git.run(url, work, &["cat-file", "-e", &object]).is_ok()
        };
        let everything = "+refs/*:refs/fetched/*";
        let attempts: [&[&str]; 4] = [
            &["fetch", "-q", "--depth=1", "--no-tags", url, &commit.id],
            &["fetch", "-q", "--depth=1", "--no-tags", url, &commit.name],
            // A server of files alone knows no depth.
            &["fetch", "-q", "--no-tags", url, &commit.name],
            &["fetch", "-q", "--no-tags", url, everything],
        ];
        let mut last = None;
        for arguments in attempts {
            match self.run(url, work, arguments) {
                Ok(_) if has(self) => return Ok(()),
                Ok(_) => {}
                Err(error @ Error::Failed { .. }) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| no_reference(url, &commit.id)))
    }

    /// Makes a `.git` that is kept one that others can work with: the reference by its name, no
    /// password, none of our traces.
    fn settle(&self, url: &str, commit: &Commit, work: &Path) -> Result<(), Error> {
        if commit.name.starts_with("refs/") {
            // The tag object may not have come with its commit.
            let object = match self.run(url, work, &["cat-file", "-e", &commit.object]) {
                Ok(_) => &commit.object,
                Err(_) => &commit.id,
            };
            self.run(url, work, &["update-ref", &commit.name, object])?;
        }
        let clean = redacted(url);
        self.run(url, work, &["remote", "add", "origin", &clean])?;
        fsutil::remove_file(&work.join(".git/FETCH_HEAD"))?;
        fsutil::remove_tree(&work.join(".git/logs"))?;
        Ok(())
    }

    fn run(&self, url: &str, directory: &Path, arguments: &[&str]) -> Result<String, Error> {
        let output = self.output(self.command(directory).args(arguments))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.replace(url, &redacted(url));
        let lines: Vec<&str> = said
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        Err(Error::Failed {
            url: redacted(url),
            doing: doing(arguments),
            why: match lines.as_slice() {
                [] => output.status.to_string(),
                lines => lines.join("; "),
            },
        })
    }

    fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new("git");
        command.current_dir(directory).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let own = [
            ("LC_ALL", "C"),
            ("HOME", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ALLOW_PROTOCOL", "http:https:git:ssh"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
        ];
        command.envs(own);
        for setting in [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.autocrlf=false",
            "core.symlinks=true",
            "credential.helper=",
            "init.defaultBranch=master",
            "advice.detachedHead=false",
            "gc.auto=0",
            "maintenance.auto=false",
        ] {
            command.args(["-c", setting]);
        }
        command
    }

    fn output(&self, command: &mut Command) -> Result<Output, Error> {
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Missing),
            Err(error) => return Err(fsutil::Error::new("run", "git", error).into()),
        };
        let group = rustix::process::Pid::from_child(&child);
        let (sender, ended) = channel();
        std::thread::spawn(move || drop(sender.send(child.wait_with_output())));
        loop {
            match ended.recv_timeout(Duration::from_millis(20)) {
                Ok(output) => {
                    return Ok(output.map_err(|error| fsutil::Error::new("run", "git", error))?);
                }
                Err(_) if self.cancel.is_cancelled() => {
                    // Its helpers too: they are in its group.
                    let _ =
                        rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                    return Err(Error::Interrupted);
                }
                Err(_) => {}
            }
        }
    }
}

/// git's command among its arguments.
fn doing(arguments: &[&str]) -> String {
    let skipped = if arguments.first() == Some(&"-c") {
        2
    } else {
        0
    };
    (*arguments.get(skipped).unwrap_or(&"")).to_owned()
}

fn no_reference(url: &str, name: &str) -> Error {
    Error::NoReference {
        url: redacted(url),
        name: name.to_owned(),
    }
}

/// Whether a text is the ID of an object, SHA-1 or SHA-256, in full.
fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Gives files the modes that git knows, whatever the umask of this process is, takes out what
/// is git's own, and sets times if one was asked for.
fn tidy(work: &Path, keep: bool, time: Option<i64>) -> Result<(), Error> {
    let mut walk = walkdir::WalkDir::new(work)
        .contents_first(false)
        .into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(work).to_path_buf();
            fsutil::Error::new("read", path, io::Error::from(error))
        })?;
        let path = entry.path();
        if entry.file_name() == ".git" && !(keep && entry.depth() == 1) {
            // A submodule's is a file that names a directory that will be gone.
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
                fsutil::remove_tree(path)?;
            } else if !keep {
                fsutil::remove_file(path)?;
            }
            continue;
        }
        if !entry.file_type().is_symlink() {
            let mode = std::fs::symlink_metadata(path)
                .at("stat", path)?
                .permissions()
                .mode();
            let executable = entry.file_type().is_dir() || mode & 0o100 != 0;
            let mode = if executable { 0o755 } else { 0o644 };
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
                .at("chmod", path)?;
        }
    }
    match time {
        Some(time) => stamp(work, time),
        None => Ok(()),
    }
}

/// Gives every file one time; directories after what is in them.
fn stamp(work: &Path, time: i64) -> Result<(), Error> {
    let time = rustix::fs::Timespec {
        tv_sec: time,
        tv_nsec: 0,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    for entry in walkdir::WalkDir::new(work).contents_first(true) {
        let Ok(entry) = entry else { continue };
        rustix::fs::utimensat(
            rustix::fs::CWD,
            entry.path(),
            &times,
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )
        .at("set the time of", entry.path())?;
    }
    Ok(())
}

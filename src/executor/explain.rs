//! Makes sentences of the numbers that come over the channel.

use std::path::PathBuf;

use rustix::io::Errno;

use super::channel::{Failure, Stage};
use super::{Error, Step, prepare, userns};

/// What is needed of a step to tell what failed; the step itself is consumed by then.
#[derive(Debug)]
pub struct Names {
    command: String,
    search_path: Option<String>,
    cwd: PathBuf,
    uid: u32,
    gid: u32,
    limits: Vec<String>,
    /// (what, where) of each attachment.
    pub mounts: Vec<(String, PathBuf)>,
}

impl Names {
    /// The names in `step`; its mounts are known later.
    pub fn of(step: &Step) -> Names {
        let command = step
            .args
            .first()
            .map(|arg| arg.to_string_lossy().into_owned());
        let command = command.unwrap_or_default();
        let is_name = !command.contains('/');
        Names {
            search_path: is_name.then(|| {
                prepare::search_path(&step.env)
                    .to_string_lossy()
                    .into_owned()
            }),
            command,
            cwd: step.cwd.clone(),
            uid: step.user.uid,
            gid: step.user.gid,
            limits: step
                .ulimits
                .iter()
                .map(|(resource, soft, hard)| format!("{resource:?} to {soft}:{hard}"))
                .collect(),
            mounts: Vec::new(),
        }
    }

    /// The error that `failure` is.
    pub fn explain(self, failure: Failure) -> Error {
        let Failure {
            stage,
            index,
            errno,
        } = failure;
        match stage {
            Stage::Execute => self.execute(errno),
            Stage::Cwd => Error::Cwd {
                path: self.cwd,
                source: errno.into(),
            },
            Stage::User => unmapped(format!("uid {}", self.uid), errno),
            Stage::Group => unmapped(format!("gid {}", self.gid), errno),
            Stage::Mount => self.mount(index, errno),
            _ => Error::Setup {
                doing: self.doing(stage, index),
                source: errno.into(),
                hint: hint(stage, errno),
            },
        }
    }

    /// `ENOENT` of a program with a path can also mean that its interpreter is missing; the
    /// kernel doesn't say which, so the message of a path tells both.
    fn execute(self, errno: Errno) -> Error {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Error::CommandNotFound {
                command: self.command,
                path: self.search_path,
            },
            _ => Error::CommandNotExecutable {
                command: self.command,
                source: errno.into(),
            },
        }
    }

    fn mount(mut self, index: u32, errno: Errno) -> Error {
        let index = index as usize;
        let (what, target) = if index < self.mounts.len() {
            self.mounts.swap_remove(index)
        } else {
            Default::default()
        };
        let hint = match (what.as_str(), errno) {
            ("proc", Errno::PERM) => Some(
                "the kernel wants an unmasked /proc on the host side: inside another container, \
                 run that one with --privileged or --security-opt systempaths=unconfined",
            ),
            (_, Errno::INVAL) => Some(
                "a tree that another step was given can be mounted again only from Linux 6.15 on",
            ),
            _ => None,
        };
        Error::Mount {
            what,
            target,
            source: errno.into(),
            hint,
        }
    }

    fn doing(&self, stage: Stage, index: u32) -> String {
        let text = match stage {
            Stage::Arm => "tie it to this process",
            Stage::Session => "make a session",
            Stage::Propagation => "separate its mounts from the host's",
            Stage::Root => "attach its root",
            Stage::Mask => {
                let place = self.mounts.get(index as usize);
                let place = place.map(|(_, place)| place.display().to_string());
                return format!("mask parts of {}", place.unwrap_or_default());
            }
            Stage::Hostname => "set its host name",
            Stage::Loopback => "bring up its loopback interface",
            Stage::Pivot => "make its root /",
            Stage::Detach => "let go of the host's mounts",
            Stage::Streams => "place its streams (/dev/null)",
            Stage::Spawn => "start its process",
            Stage::Disarm => "drop the capabilities of its init",
            Stage::Wait => "wait for its process",
            Stage::Terminal => "give it its terminal",
            Stage::Limit => {
                let limit = self.limits.get(index as usize);
                return format!("set the limit {}", limit.map_or("?", String::as_str));
            }
            Stage::Bounding => "lower its bounding set",
            Stage::Seccomp => "install the seccomp profile",
            Stage::Groups => "set its groups",
            Stage::Capabilities => "set its capabilities",
            Stage::Mount | Stage::Group | Stage::User | Stage::Cwd | Stage::Execute => "start it",
        };
        text.to_owned()
    }
}

fn unmapped(id: String, errno: Errno) -> Error {
    let mapping = userns::current_mapping().to_string();
    Error::UserNotMapped {
        id,
        mapping,
        source: errno.into(),
    }
}

fn hint(stage: Stage, errno: Errno) -> Option<&'static str> {
    match (stage, errno) {
        (Stage::Propagation | Stage::Pivot, Errno::INVAL) => Some(
            "the root directory of this process is no mount, as in a chroot or an initramfs; \
             start rstore outside of it",
        ),
        (Stage::Limit, Errno::PERM) => {
            Some("a limit above our own hard limit needs CAP_SYS_RESOURCE; ask for less")
        }
        (Stage::Seccomp, Errno::INVAL) => Some("the kernel needs CONFIG_SECCOMP_FILTER"),
        _ => None,
    }
}

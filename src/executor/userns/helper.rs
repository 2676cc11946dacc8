//! The process that stays outside and has our IDs mapped.
//!
//! It is forked before the namespace is entered, from a process without threads, so it may do what
//! any program does. It waits on a pipe; if we end before, the pipe does, and so does it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions};

use super::Error;
use super::subordinate::{Range, Ranges, arguments};
use crate::executor::sys;

/// The helper, waiting.
#[derive(Debug)]
pub struct Helper {
    process: Pid,
    go: OwnedFd,
    answer: OwnedFd,
}

impl Helper {
    /// Forks it.
    pub fn start(uid: u32, gid: u32, ranges: &Ranges) -> Result<Helper, Error> {
        let failed = |errno: Errno| Error::Prepare {
            doing: "fork a helper",
            source: errno.into(),
        };
        let (go_read, go) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let (answer, answer_write) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let parent = std::process::id();
        match sys::fork_without_threads().map_err(failed)? {
            None => {
                drop((go, answer));
                let mut go = [0];
                if File::from(go_read)
                    .read(&mut go)
                    .is_ok_and(|length| length == 1)
                {
                    let complaint = map(parent, uid, gid, ranges);
                    let _ = File::from(answer_write).write_all(complaint.as_bytes());
                }
                sys::exit(0)
            }
            Some(process) => Ok(Helper {
                process,
                go,
                answer,
            }),
        }
    }

    /// Has it work, now that the namespace is there; returns its complaint, if it has one.
    pub fn finish(self) -> Result<Option<String>, Error> {
        let doing = "hear from the helper that maps our IDs";
        let failed = |source| Error::Prepare { doing, source };
        File::from(self.go).write_all(&[1]).map_err(failed)?;
        let mut complaint = String::new();
        File::from(self.answer)
            .read_to_string(&mut complaint)
            .map_err(failed)?;
        while let Err(Errno::INTR) =
            rustix::process::waitpid(Some(self.process), WaitOptions::empty())
        {}
        Ok((!complaint.is_empty()).then_some(complaint))
    }
}

/// Maps users and groups of `process`; returns a complaint, or nothing.
fn map(process: u32, uid: u32, gid: u32, ranges: &Ranges) -> String {
    let groups = map_with(&ranges.map_groups, process, gid, &ranges.groups);
    let users = map_with(&ranges.map_users, process, uid, &ranges.users);
    groups.and(users).err().unwrap_or_default()
}

fn map_with(program: &Path, process: u32, own: u32, ranges: &[Range]) -> Result<(), String> {
    let mut command = Command::new(program);
    command
        .arg(process.to_string())
        .args(arguments(own, ranges));
    let name = program.display();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{name}: {}: {}", output.status, said.trim()))
        }
        Err(error) => Err(format!("{name}: {error}")),
    }
}

//! The step's own process, between fork and execve: it gives up everything it shouldn't have.
//!
//! System calls on prepared memory only, as in `init`. The order is what makes it work:
//!
//! | what | needs | so it comes |
//! |---|---|---|
//! | limits | perhaps `CAP_SYS_RESOURCE` | first |
//! | bounding set | `CAP_SETPCAP` | before the capabilities go |
//! | Landlock, seccomp without `no_new_privs` | `CAP_SYS_ADMIN` | before the capabilities go |
//! | groups, group, user | `CAP_SETGID`, `CAP_SETUID` | groups first, user last |
//! | working directory | root's rights, or the user's | tried before and after the user |
//! | capabilities | nothing | when nothing else is left |
//!
//! What comes after seccomp must be allowed by the profile. Docker leaves `no_new_privs` off, so
//! that sudo and ping work; so do we.

use std::ffi::{CStr, CString};

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use rustix::thread::CapabilitySet;

use super::capabilities;
use super::channel::{Failure, InStage, Stage};
use super::seccomp::Profile;
use super::sys::{self, StringArray};

/// What to become; all made before clone.
#[derive(Debug)]
pub struct Process {
    /// Where the program may be, in the order of `PATH`.
    pub candidates: Vec<CString>,
    /// Its arguments, the zeroth included.
    pub arguments: StringArray,
    /// Its environment.
    pub environment: StringArray,
    /// Its working directory.
    pub cwd: CString,
    /// Its user.
    pub uid: Uid,
    /// Its group.
    pub gid: Gid,
    /// Its other groups; `None` where the user namespace forbids setting them.
    pub groups: Option<Vec<Gid>>,
    /// Whether its input is a terminal of its own, which becomes its controlling one.
    pub terminal: bool,
    /// Its limits.
    pub limits: Vec<(Resource, Rlimit)>,
    /// What it may gain at most.
    pub capabilities: CapabilitySet,
    /// The system calls it may make; `None`: all.
    pub profile: Option<&'static Profile>,
    /// Whether to hide the abstract sockets of its network namespace.
    pub hide_sockets: bool,
}

impl Process {
    /// Becomes the step's program, or says why not.
    pub fn become_it(&self) -> Failure {
        match self.prepare() {
            Ok(()) => Failure {
                stage: Stage::Execute,
                index: 0,
                errno: self.execute(),
            },
            Err(failure) => failure,
        }
    }

    fn prepare(&self) -> Result<(), Failure> {
        self.leave_surroundings()?;
        self.restrict()?;
        let entered = rustix::process::chdir(&*self.cwd);
        self.switch_user()?;
        // Root in a user namespace may be locked out of a directory that its user may enter.
        entered
            .or_else(|_| rustix::process::chdir(&*self.cwd))
            .stage(Stage::Cwd)?;
        sys::reset_signals();
        Ok(())
    }

    /// A session, its terminal, a keyring and a umask of its own, and its limits.
    fn leave_surroundings(&self) -> Result<(), Failure> {
        rustix::process::setsid().map(drop).stage(Stage::Session)?;
        if self.terminal {
            sys::take_controlling_terminal().stage(Stage::Terminal)?;
        }
        // Kernels without keys, and keys that are used up: then there is nothing to search, or
        // what is there needs rights that the step won't have.
        let _ = sys::new_session_keyring();
        rustix::process::umask(Mode::WGRP | Mode::WOTH);
        for (index, (resource, limit)) in self.limits.iter().enumerate() {
            rustix::process::setrlimit(*resource, *limit).stage_of(Stage::Limit, index)?;
        }
        Ok(())
    }

    fn restrict(&self) -> Result<(), Failure> {
        capabilities::bound(self.capabilities).stage(Stage::Bounding)?;
        if self.hide_sockets {
            // Kernels before 6.12 cannot; docker's own host network hides nothing either.
            let _ = sys::hide_abstract_sockets();
        }
        match self.profile {
            Some(profile) => profile.install().stage(Stage::Seccomp),
            None => Ok(()),
        }
    }

    /// To the user, and to the capabilities that remain: root's are the bounding set, since
    /// execve(2) would give it those anyway, another user's are none.
    fn switch_user(&self) -> Result<(), Failure> {
        if let Some(groups) = &self.groups {
            rustix::thread::set_thread_groups(groups).stage(Stage::Groups)?;
        }
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid).stage(Stage::Group)?;
        rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid).stage(Stage::User)?;
        let kept = if self.uid.is_root() {
            self.capabilities
        } else {
            CapabilitySet::empty()
        };
        capabilities::set(kept).stage(Stage::Capabilities)
    }

    /// Tries each candidate as execvp(3) does: one that is missing is passed over, one that may
    /// not be executed is remembered.
    fn execute(&self) -> Errno {
        let mut answer = Errno::NOENT;
        for candidate in &self.candidates {
            match self.execute_one(candidate) {
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => answer = Errno::ACCESS,
                errno => return errno,
            }
        }
        answer
    }

    fn execute_one(&self, program: &CStr) -> Errno {
        sys::execute(program, &self.arguments, &self.environment)
    }
}

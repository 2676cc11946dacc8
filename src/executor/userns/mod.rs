//! A user namespace for those who aren't root: entered once, after which the code is root's.
//!
//! ```text
//!   rstore, uid 1000                      helper (forked before)
//!   ────────────────                      ──────────────────────
//!   unshare(NEWUSER | NEWNS)
//!   "go" ───────────────────────────────► newuidmap PID  0 1000 1   1 100000 65536
//!                                         newgidmap PID  0 1000 1   1 100000 65536
//!   ◄── what went wrong, or nothing ───── exit
//!   no map yet? write "0 1000 1" itself
//!   may mount? then it is root in here
//! ```
//!
//! Only a privileged helper outside may map more than one's own ID; `newuidmap` checks the request
//! against /etc/subuid. Without it, or without a range there, a single ID is mapped: steps then
//! run as root only, and every file belongs to root.
//!
//! The mount namespace is needed too: making any mount, even one that is attached nowhere, takes
//! `CAP_SYS_ADMIN` over the user namespace that owns the mount namespace.
//!
//! A process with several threads cannot enter (`EINVAL`): call [`enter`] first thing in `main`.
//!
//! `map` what is mapped, in words · `subordinate` /etc/subuid · `helper` the forked one.

mod helper;
mod map;
mod subordinate;

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::sys;
use helper::Helper;
pub use map::OwnerMap;

/// A user namespace that was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// How IDs inside map to IDs outside.
    pub owners: OwnerMap,
    /// Why only one ID is mapped, if that is so: worth a warning, since `USER` and `chown` to
    /// others than root will fail.
    pub only_one_because: Option<String>,
}

/// Why a user namespace cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process has threads already.
    #[error(
        "enter a user namespace: this process has {0} threads; it must be done before any is started"
    )]
    Threads(usize),
    /// unshare(2) was refused.
    #[error("enter a user namespace: {source}; {}", refused(.source))]
    Refused {
        /// What the kernel said.
        source: io::Error,
    },
    /// The namespace is there but gives no rights.
    #[error(
        "mount in our own user namespace: {source}; a security module takes its rights away. On \
         Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile \
         with \"userns,\" for rstore; or run as root"
    )]
    Powerless {
        /// What the kernel said.
        source: io::Error,
    },
    /// Our own IDs could not be mapped.
    #[error("map our own ID: {0}; run as root, or as a user who may make user namespaces")]
    Map(crate::fsutil::Error),
    /// A system call of the preparation failed.
    #[error("{doing}: {source}")]
    Prepare {
        /// What it was for.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What to do about a refused unshare(2).
fn refused(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOSPC) => {
            "none are allowed (any more): raise /proc/sys/user/max_user_namespaces, or run as root"
        }
        Some(libc::EPERM) => {
            "they are forbidden here: sysctl kernel.unprivileged_userns_clone=1 on Debian; inside \
             another container run that one with --privileged, or with --security-opt \
             seccomp=unconfined; or run as root"
        }
        Some(libc::EINVAL) => "the kernel needs CONFIG_USER_NS; or run as root",
        _ => "run as root",
    }
}

/// Whether [`enter`] is needed to run steps: not root, or root without `CAP_SYS_ADMIN`.
pub fn needed() -> bool {
    let may_mount = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    !may_mount || !rustix::process::geteuid().is_root()
}

/// The mapping this process lives in.
pub fn current_mapping() -> OwnerMap {
    OwnerMap::of_this_process()
}

/// Makes this process root in a user namespace of its own, with a mount namespace of its own.
///
/// All ranges that /etc/subuid and /etc/subgid give the user are mapped from 1 on, if newuidmap and
/// newgidmap are installed; else the user's own ID alone.
pub fn enter() -> Result<Mapping, Error> {
    refuse_threads()?;
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let ranges = subordinate::Ranges::of(uid);
    let helper = match &ranges {
        Ok(ranges) => Some(Helper::start(uid, gid, ranges)?),
        Err(_) => None,
    };
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).map_err(|errno| Error::Refused {
        source: errno.into(),
    })?;
    let complaint = match helper {
        Some(helper) => helper.finish()?,
        None => ranges.err(),
    };
    let single = map_what_is_not(uid, gid)?;
    check_power()?;
    let why = || complaint.unwrap_or_else(|| "the helper mapped nothing".to_owned());
    Ok(Mapping {
        owners: current_mapping(),
        only_one_because: single.then(why),
    })
}

fn refuse_threads() -> Result<(), Error> {
    // Where /proc isn't there to count them, unshare(2) will say EINVAL.
    match fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(count @ 2..) => Err(Error::Threads(count)),
        _ => Ok(()),
    }
}

/// Maps root to our own ID where the helper has mapped nothing; whether it had to.
///
/// Without privileges over the parent namespace, a process may map its own ID only, and its group
/// only after giving up setgroups(2), which could else be used to leave a group that a file's mode
/// excludes (user_namespaces(7)).
fn map_what_is_not(uid: u32, gid: u32) -> Result<bool, Error> {
    let unmapped = |file: &str| fs::read(file).is_ok_and(|text| text.is_empty());
    let mut single = false;
    if unmapped("/proc/self/uid_map") {
        write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
        single = true;
    }
    if unmapped("/proc/self/gid_map") {
        write("/proc/self/setgroups", "deny")?;
        write("/proc/self/gid_map", &format!("0 {gid} 1"))?;
        single = true;
    }
    Ok(single)
}

fn write(file: &str, text: &str) -> Result<(), Error> {
    fs::write(file, text)
        .map_err(|source| Error::Map(crate::fsutil::Error::new("write", Path::new(file), source)))
}

/// Does the least that needs the rights we should have now; it is wanted anyway.
fn check_power() -> Result<(), Error> {
    match sys::make_mounts_private() {
        // No mount at /, as in a chroot: an answer that only those get who may.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(Error::Powerless {
            source: errno.into(),
        }),
    }
}

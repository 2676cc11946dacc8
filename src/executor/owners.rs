//! A view of a tree in which what is one user's is root's: an ID-mapped mount
//! (mount_setattr(2), `MOUNT_ATTR_IDMAP`).
//!
//! The kernel takes the map from a user namespace. One is made for that alone: a process is cloned
//! into it, gets its maps, and is killed as soon as there is a descriptor of the namespace.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::process::{Signal, WaitId, WaitIdOptions};

use super::sys::{self, Cloned, SignalsBlocked};

/// A detached mount of the directory that `directory` is open on, without what is mounted below
/// it, in which the files of `owner` (user, group) are root's. Those of others are nobody's.
///
/// It takes root of the initial user namespace, and a file system that can do it: most can, but
/// overlayfs and network file systems.
pub fn as_roots(directory: impl AsFd, owner: (u32, u32)) -> io::Result<OwnedFd> {
    let namespace = namespace(owner)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(directory, c"", flags)?;
    sys::map_owners(&tree, &namespace)?;
    Ok(tree)
}

/// A user namespace in which `owner` is mapped to root.
fn namespace((user, group): (u32, u32)) -> io::Result<OwnedFd> {
    let stand_in = StandIn::start()?;
    let process = stand_in.process()?;
    let file = |name: &str| format!("/proc/{process}/{name}");
    fs::write(file("uid_map"), format!("{user} 0 1"))?;
    fs::write(file("gid_map"), format!("{group} 0 1"))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(file("ns/user"), flags, Mode::empty())?)
}

/// A process that does nothing but be in a user namespace of its own.
struct StandIn {
    pidfd: OwnedFd,
}

impl StandIn {
    fn start() -> io::Result<StandIn> {
        let blocked = SignalsBlocked::all();
        // SAFETY: the child makes system calls only, and never returns.
        let cloned = unsafe { sys::clone_into(libc::CLONE_NEWUSER) };
        let cloned = match cloned {
            Ok(Cloned::Child) => stand(),
            Ok(Cloned::Parent(pidfd)) => Ok(StandIn { pidfd }),
            Err(errno) => Err(errno),
        };
        drop(blocked);
        Ok(cloned?)
    }

    /// Its number, which cannot come to mean another until it is reaped.
    fn process(&self) -> io::Result<u32> {
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.pidfd.as_raw_fd()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pid:"));
        let number = line.and_then(|number| number.trim().parse().ok());
        number.ok_or_else(|| io::Error::other("the kernel does not tell a process's number"))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // ESRCH: it is dead already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let process = || WaitId::PidFd(self.pidfd.as_fd());
        while let Err(Errno::INTR) = rustix::process::waitid(process(), WaitIdOptions::EXITED) {}
    }
}

/// What the child does: nothing, holding nothing, until it is killed or its parent dies. A parent
/// that dies before the child can ask for that is why it also ends by itself.
fn stand() -> ! {
    const SECONDS: u32 = 10;
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let _ = sys::close_from(0);
    sys::wait_and_exit(SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, chown};

    #[test]
    fn a_users_files_are_roots_in_the_view_and_its_own_outside() {
        if !rustix::process::geteuid().is_root() || super::super::userns::needed() {
            let why = "mapping owners needs root";
            assert!(
                std::env::var_os("RSTORE_TEST_NO_SKIP").is_none(),
                "may not skip: {why}"
            );
            eprintln!("SKIP: {why}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        chown(dir.path(), Some(1234), Some(56)).unwrap();
        chown(&file, Some(1234), Some(56)).unwrap();
        let open = crate::fsutil::open_dir(dir.path()).unwrap();
        let view = match as_roots(&open, (1234, 56)) {
            Ok(view) => view,
            // overlayfs, as below TMPDIR in a container.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return,
            Err(error) => panic!("{error}"),
        };
        let stat = rustix::fs::statat(&view, "file", rustix::fs::AtFlags::empty()).unwrap();
        assert_eq!((stat.st_uid, stat.st_gid), (0, 0));
        assert_eq!(fs::metadata(&file).unwrap().uid(), 1234);
    }
}

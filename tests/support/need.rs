//! What a test cannot do without.

use std::path::PathBuf;
use std::process::Command;

/// One thing that a machine has or has not.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// To be root.
    #[allow(dead_code, reason = "not every test target does what only root may")]
    Root,
    /// A program in `PATH` or where root's programs are.
    Program(&'static str),
    /// Loop devices.
    #[allow(dead_code, reason = "not every test target mounts images")]
    Loop,
    /// A binfmt_misc of a user namespace's own: Linux 6.7, and leave to make one.
    #[allow(dead_code, reason = "not every test target registers formats")]
    PrivateBinfmt,
}

impl Need {
    /// Whether it is the kernel's to have, so that nothing can be installed for it: then a test
    /// is left out everywhere, CI included, and says so.
    fn is_the_kernels(self) -> bool {
        matches!(self, Need::Loop | Need::PrivateBinfmt)
    }

    fn is_met(self) -> bool {
        match self {
            Need::Root => rustix::process::geteuid().is_root(),
            Need::Program(name) => find(name).is_some(),
            Need::Loop => {
                let mut losetup = Command::new("losetup");
                losetup.arg("--find");
                losetup.output().is_ok_and(|output| output.status.success())
            }
            Need::PrivateBinfmt => {
                let mut unshare = Command::new("unshare");
                unshare.args(["--user", "--map-root-user", "--mount", "mount"]);
                unshare.args(["-t", "binfmt_misc", "none", "/proc/sys/fs/binfmt_misc"]);
                unshare.output().is_ok_and(|output| output.status.success())
            }
        }
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let roots = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut directories = std::env::split_paths(&path).chain(roots);
    directories.find_map(|directory| Some(directory.join(name)).filter(|file| file.is_file()))
}

/// A command of a program that [`Need::Program`] found.
pub fn program(name: &str) -> Command {
    Command::new(find(name).unwrap_or_else(|| panic!("there is no {name}")))
}

/// Whether the test must be left out for want of something; says so, and fails where
/// `RSTORE_TEST_NO_SKIP` is set and the thing could be had.
pub fn skip_without(needs: &[Need]) -> bool {
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return false;
    }
    let test = std::thread::current();
    let test = test.name().unwrap_or("a test");
    assert!(
        missing.iter().all(|need| need.is_the_kernels())
            || std::env::var_os("RSTORE_TEST_NO_SKIP").is_none(),
        "{test} needs {missing:?}, and RSTORE_TEST_NO_SKIP is set"
    );
    // To the terminal, whatever libtest captures: a skip that nobody sees is a lie.
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIP {test}: needs {missing:?}");
    true
}

//! Which system calls a step may make: docker's default profile, resolved.
//!
//! Docker ships its profile as names with conditions on capabilities, kernel and architecture,
//! and resolves it for each container. Our capabilities are fixed, so the resolved list is
//! shipped (`x86_64`, `aarch64`) and compiled once a process, in a tenth of a millisecond.
//!
//! Two programs are stacked, since a seccompiler program knows two answers only; of several
//! answers the kernel takes the strictest:
//!
//! | call | first program | second | outcome |
//! |---|---|---|---|
//! | in the list, its arguments as they should be | allow | allow | allowed |
//! | `clone3` | allow | `ENOSYS` | libc falls back to `clone`, whose flags can be checked |
//! | any other | `EPERM` | allow | `EPERM` |
//! | another architecture's (i386 on x86_64) | kill | kill | killed |
//!
//! The last row is stricter than docker, which allows 32-bit programs under the same list.
//! x32 is no other architecture to the kernel, but its numbers are in no list: `EPERM`.

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod table;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod table;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::sys;

/// The compiled profile.
#[derive(Debug)]
pub struct Profile {
    allow_list: BpfProgram,
    no_clone3: BpfProgram,
}

impl Profile {
    /// The profile of this architecture; compiled at the first call.
    pub fn get() -> Result<&'static Profile, &'static str> {
        static PROFILE: OnceLock<Result<Profile, String>> = OnceLock::new();
        let compiled = PROFILE.get_or_init(|| compile().map_err(|error| error.to_string()));
        compiled.as_ref().map_err(String::as_str)
    }

    /// Puts this process and all its children under the profile, for good. Without
    /// `no_new_privs` this needs `CAP_SYS_ADMIN`. Async-signal-safe.
    ///
    /// The larger program goes last: the first one is checked against every later system call
    /// of the setup, `seccomp` itself included.
    pub fn install(&self) -> sys::Result<()> {
        sys::install_filter(&self.no_clone3)?;
        sys::install_filter(&self.allow_list)
    }
}

fn compile() -> Result<Profile, seccompiler::BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let errno = |number: i32| SeccompAction::Errno(number as u32);
    let allow_list = SeccompFilter::new(
        rules()?,
        errno(libc::EPERM),
        SeccompAction::Allow,
        architecture,
    )?;
    let clone3 = BTreeMap::from([(i64::from(table::CLONE3), Vec::new())]);
    let no_clone3 = SeccompFilter::new(
        clone3,
        SeccompAction::Allow,
        errno(libc::ENOSYS),
        architecture,
    )?;
    Ok(Profile {
        allow_list: allow_list.try_into()?,
        no_clone3: no_clone3.try_into()?,
    })
}

/// Each allowed call with the alternatives of its arguments; none: any arguments.
fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let any = |&(number, _name): &(u32, &str)| (i64::from(number), Vec::new());
    let mut rules: BTreeMap<_, _> = table::ALLOWED.iter().map(any).collect();
    rules.insert(i64::from(table::CLONE3), Vec::new());
    rules.insert(i64::from(table::CLONE), clone_without_namespaces()?);
    rules.insert(i64::from(table::PERSONALITY), harmless_personalities()?);
    rules.insert(i64::from(table::SOCKET), ordinary_sockets()?);
    Ok(rules)
}

/// `clone` with none of the `CLONE_NEW*` flags.
fn clone_without_namespaces() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let compare = Compare::MaskedEq(namespaces as u64);
    Ok(vec![SeccompRule::new(vec![SeccompCondition::new(
        0,
        Length::Qword,
        compare,
        0,
    )?])?])
}

/// `personality`: Linux, Linux 32-bit, each also with an old `uname`, and the question.
fn harmless_personalities() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff]
        .into_iter()
        .map(first_is)
        .collect()
}

/// `socket` of the families that docker allows: none of `AF_ALG`, `AF_VSOCK`, and others whose
/// kernel code has hardly a user but attackers.
fn ordinary_sockets() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    const BELOW: u64 = 12;
    const ALSO: [u64; 25] = [
        13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43,
        44, 45,
    ];
    let below = SeccompCondition::new(0, Length::Dword, Compare::Lt, BELOW)?;
    let mut rules = vec![SeccompRule::new(vec![below])?];
    for family in ALSO {
        rules.push(first_is(family)?);
    }
    Ok(rules)
}

/// The first argument is `value`. These arguments are 32 bits wide: the kernel ignores the upper
/// half of the register, and so must we.
fn first_is(value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(
        0,
        Length::Dword,
        Compare::Eq,
        value,
    )?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_compiles_within_the_kernels_limit() {
        let profile = Profile::get().unwrap();
        assert!(
            profile.allow_list.len() < 4096,
            "{} instructions",
            profile.allow_list.len()
        );
    }

    #[test]
    fn the_table_is_sorted_and_lacks_what_breaks_out() {
        assert!(table::ALLOWED.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let names: Vec<_> = table::ALLOWED.iter().map(|&(_, name)| name).collect();
        for name in [
            "mount",
            "unshare",
            "setns",
            "bpf",
            "keyctl",
            "open_by_handle_at",
            "kexec_load",
            "io_uring_setup",
        ] {
            assert!(!names.contains(&name), "{name}");
        }
        for name in [
            "read",
            "execve",
            "openat",
            "chroot",
            "landlock_restrict_self",
        ] {
            assert!(names.contains(&name), "{name}");
        }
    }
}

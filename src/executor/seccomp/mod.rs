//! Which system calls a step may make: docker's default profile, resolved.
//!
//! Docker ships its profile as names with conditions on capabilities, kernel and architecture,
//! and resolves it for each container. Our capabilities are fixed, so the resolved list is
//! shipped (`x86_64`, `aarch64`) and compiled once a process (`program`).
//!
//! | call | answer |
//! |---|---|
//! | in the list | allowed |
//! | `clone`, `personality`, `socket` | allowed with harmless arguments, else `EPERM` |
//! | `clone3` | `ENOSYS`: libc falls back to `clone`, whose flags a filter can see |
//! | any other | `EPERM` |
//! | another architecture's (i386 on x86_64) | the process is killed |
//!
//! The last row is stricter than docker, which allows 32-bit programs under the same list.
//! x32 is no other architecture to the kernel, but its numbers are in no list: `EPERM`.

mod program;
#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod table;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod table;

use std::sync::OnceLock;

use super::sys;
use program::{Code, FIRST_ARGUMENT, NUMBER, allow, fail, if_any_bit, only_for, search, segments};

/// The compiled profile.
pub struct Profile {
    program: Code,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Profile({} instructions)", self.program.len())
    }
}

impl Profile {
    /// The profile of this architecture; compiled at the first call.
    pub fn get() -> &'static Profile {
        static PROFILE: OnceLock<Profile> = OnceLock::new();
        PROFILE.get_or_init(|| Profile { program: compile() })
    }

    /// Puts this process and all its children under the profile, for good. Without
    /// `no_new_privs` this needs `CAP_SYS_ADMIN`. Async-signal-safe.
    pub fn install(&self) -> sys::Result<()> {
        sys::install_filter(&self.program)
    }
}

fn compile() -> Code {
    let mut calls: Vec<(u32, Code)> = table::ALLOWED
        .iter()
        .map(|&(number, _name)| (number, allow()))
        .collect();
    calls.push((table::CLONE, clone_without_namespaces()));
    calls.push((table::CLONE3, fail(libc::ENOSYS)));
    calls.push((
        table::PERSONALITY,
        first_argument_in(&HARMLESS_PERSONALITIES),
    ));
    calls.push((table::SOCKET, first_argument_in(&ORDINARY_FAMILIES)));
    calls.sort_by_key(|&(number, _)| number);
    only_for(
        table::ARCHITECTURE,
        search(NUMBER, segments(calls, &fail(libc::EPERM))),
    )
}

/// Linux, Linux 32-bit, each also with an old `uname`, and the question which it is.
const HARMLESS_PERSONALITIES: [u32; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, u32::MAX];

/// The families of sockets that docker allows: none of `AF_ALG`, `AF_VSOCK`, and others whose
/// kernel code has hardly a user but attackers.
const ORDINARY_FAMILIES: [u32; 37] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30,
    31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45,
];

/// Looks at 32 bits, as the kernel does for these arguments, which are `int` there.
fn first_argument_in(values: &[u32]) -> Code {
    let listed = values.iter().map(|&value| (value, allow()));
    search(FIRST_ARGUMENT, segments(listed, &fail(libc::EPERM)))
}

/// `clone` with none of the `CLONE_NEW*` flags, all of which are in the low half.
fn clone_without_namespaces() -> Code {
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    if_any_bit(
        FIRST_ARGUMENT,
        namespaces as u32,
        fail(libc::EPERM),
        allow(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(number: u32, argument: u64) -> u32 {
        program::interpret(
            &Profile::get().program,
            number,
            table::ARCHITECTURE,
            argument,
        )
    }

    fn is(code: Code) -> u32 {
        code[0].k
    }

    #[test]
    fn every_number_is_answered_as_the_table_says() {
        let with_rules = [
            table::CLONE,
            table::CLONE3,
            table::PERSONALITY,
            table::SOCKET,
        ];
        for number in (0..2000).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
            if with_rules.contains(&number) {
                continue;
            }
            let listed = table::ALLOWED.iter().any(|&(allowed, _)| allowed == number);
            let expected = if listed { allow() } else { fail(libc::EPERM) };
            assert_eq!(answer(number, u64::MAX), is(expected), "{number}");
        }
    }

    #[test]
    fn arguments_are_looked_at_where_docker_does() {
        let refused = is(fail(libc::EPERM));
        let namespaces = [
            libc::CLONE_NEWNS,
            libc::CLONE_NEWCGROUP,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
        ];
        for flag in namespaces {
            assert_eq!(
                answer(table::CLONE, flag as u64 | libc::SIGCHLD as u64),
                refused
            );
        }
        assert_eq!(answer(table::CLONE, libc::SIGCHLD as u64), is(allow()));
        assert_eq!(answer(table::CLONE3, 0), is(fail(libc::ENOSYS)));
        for family in [libc::AF_ALG, libc::AF_VSOCK, 12, 46, -1] {
            assert_eq!(answer(table::SOCKET, family as u64), refused, "{family}");
        }
        for family in [
            libc::AF_UNIX,
            libc::AF_INET,
            libc::AF_INET6,
            libc::AF_NETLINK,
        ] {
            assert_eq!(
                answer(table::SOCKET, family as u64),
                is(allow()),
                "{family}"
            );
            // The kernel ignores the upper half, so it must not decide here.
            assert_eq!(
                answer(table::SOCKET, family as u64 | 1 << 40),
                is(allow()),
                "{family}"
            );
        }
        assert_eq!(answer(table::PERSONALITY, 0xffff_ffff), is(allow()));
        assert_eq!(answer(table::PERSONALITY, 0x4_0000), refused);
    }

    #[test]
    fn another_architecture_is_killed() {
        let foreign = program::interpret(&Profile::get().program, 0, 0x4000_0003, 0);
        assert_eq!(foreign, libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn the_table_is_sorted_and_lacks_what_breaks_out() {
        assert!(table::ALLOWED.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let names: Vec<_> = table::ALLOWED.iter().map(|&(_, name)| name).collect();
        let refused = [
            "mount",
            "unshare",
            "setns",
            "bpf",
            "keyctl",
            "open_by_handle_at",
            "kexec_load",
            "io_uring_setup",
        ];
        for name in refused {
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

//! System calls that neither std nor rustix offers, each as a small safe function.
//!
//! Everything here may be called between clone and execve: a system call and nothing else. (libc's
//! `syscall` stores `errno` in thread-local memory, which after clone is the child's own.)

use std::ffi::{CStr, c_char, c_int, c_long};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

/// What a system call answers.
pub type Result<T> = std::result::Result<T, Errno>;

/// Turns libc's convention, -1 and `errno`, into a result.
fn check(returned: c_long) -> Result<c_long> {
    if returned == -1 {
        Err(last_errno())
    } else {
        Ok(returned)
    }
}

fn last_errno() -> Errno {
    // SAFETY: libc guarantees a valid pointer to this thread's errno.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// What [`clone_into`] returns, twice.
pub enum Cloned {
    /// In the new process.
    Child,
    /// In the caller: the new process, as a descriptor that cannot come to mean another.
    Parent(OwnedFd),
}

/// `struct clone_args` of Linux 5.5 and later; libc has it for some targets only.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

fn clone3(arguments: &CloneArguments) -> Result<c_long> {
    // SAFETY: no CLONE_VM: the child gets copies of all memory and a stack of its own, so both
    // return as from fork(2). The kernel reads the struct and writes the pidfd it points to.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_ref(arguments),
            size_of::<CloneArguments>(),
        )
    };
    check(returned)
}

/// Clones this process into new namespaces (`CLONE_NEW*`), its signal handlers reset.
///
/// # Safety
/// If this process has other threads, the child may only make system calls on memory that was
/// prepared before: no allocation, no lock, no panic, no return.
pub unsafe fn clone_into(namespaces: c_int) -> Result<Cloned> {
    const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
    let mut pidfd: RawFd = -1;
    let arguments = CloneArguments {
        flags: namespaces as u64 | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArguments::default()
    };
    match clone3(&arguments)? {
        0 => Ok(Cloned::Child),
        // SAFETY: the kernel has put a new descriptor there, which nobody else knows.
        _ => Ok(Cloned::Parent(unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// fork(2) without libc's handlers. Returns 0 in the child, its process ID in the parent.
///
/// # Safety
/// As [`clone_into`].
pub unsafe fn fork() -> Result<i32> {
    let arguments = CloneArguments {
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArguments::default()
    };
    clone3(&arguments).map(|pid| pid as i32)
}

/// fork(2) as libc does it, for a process that has one thread: the child (`None`) may then do
/// whatever a program does.
pub fn fork_without_threads() -> Result<Option<rustix::process::Pid>> {
    // SAFETY: with a single thread no lock can be held by another; libc's handlers have run.
    let returned = check(unsafe { libc::fork() } as c_long)?;
    Ok(rustix::process::Pid::from_raw(returned as i32))
}

/// Moves this process into new namespaces (`CLONE_NEW*`).
pub fn unshare(namespaces: c_int) -> Result<()> {
    // SAFETY: none of these flags unshares what Rust code could be holding (no CLONE_FILES).
    check(c_long::from(unsafe { libc::unshare(namespaces) })).map(drop)
}

/// Ends this process at once: no handlers, no destructors.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit(2) is always allowed.
    unsafe { libc::_exit(code) }
}

/// Sets attributes on the mount behind `mount`, and with `recursive` on those below it.
pub fn set_mount_attributes(
    mount: impl AsFd,
    attributes: MountAttrFlags,
    recursive: bool,
) -> Result<()> {
    let set = MountAttributes {
        set: u64::from(attributes.bits()),
        ..MountAttributes::default()
    };
    mount_setattr(mount.as_fd().as_raw_fd(), c"", &set, recursive)
}

/// Shows the files of the detached mount `mount` with the owners that the map of `namespace`, a
/// user namespace, gives them. `EINVAL`: its file system cannot.
pub fn map_owners(mount: impl AsFd, namespace: impl AsFd) -> Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let set = MountAttributes {
        set: MOUNT_ATTR_IDMAP,
        user_namespace: namespace.as_fd().as_raw_fd() as u64,
        ..MountAttributes::default()
    };
    mount_setattr(mount.as_fd().as_raw_fd(), c"", &set, false)
}

/// Ends this process after some seconds of doing nothing: for children before execve.
pub fn wait_and_exit(seconds: u32) -> ! {
    let timeout = libc::timespec {
        tv_sec: libc::time_t::from(seconds as i32),
        tv_nsec: 0,
    };
    // SAFETY: nanosleep(2) reads a struct of ours.
    unsafe { libc::nanosleep(&timeout, std::ptr::null_mut()) };
    exit(0)
}

/// Cuts every mount of this namespace off from the one it was copied from, so that what is
/// mounted here stays here. `EINVAL`: `/` is not a mount, as in a chroot.
pub fn make_mounts_private() -> Result<()> {
    let set = MountAttributes {
        propagation: libc::MS_PRIVATE,
        ..MountAttributes::default()
    };
    mount_setattr(libc::AT_FDCWD, c"/", &set, true)
}

/// `struct mount_attr`.
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

fn mount_setattr(dir: RawFd, path: &CStr, set: &MountAttributes, recursive: bool) -> Result<()> {
    const AT_RECURSIVE: c_int = 0x8000;
    let flags = if recursive { AT_RECURSIVE } else { 0 } | libc::AT_EMPTY_PATH;
    // SAFETY: a C string and a struct that outlive the call, and the struct's true size.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            flags,
            std::ptr::from_ref(set),
            size_of::<MountAttributes>(),
        )
    };
    check(returned).map(drop)
}

/// Makes `new` another name of `old`, closing what `new` was; close-on-exec or not.
///
/// The one who calls this gives up the owner of descriptor `new`: for children before execve.
pub fn place(old: impl AsFd, new: RawFd, close_on_exec: bool) -> Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    let old = old.as_fd().as_raw_fd();
    if old == new {
        return Err(Errno::INVAL);
    }
    // SAFETY: dup3(2) on numbers; the kernel checks them.
    check(unsafe { libc::dup3(old, new, flags) } as c_long).map(drop)
}

/// Makes the terminal at number 0 that of this process's session, which has none.
pub fn take_controlling_terminal() -> Result<()> {
    // SAFETY: init has placed it there, and nobody closes it meanwhile.
    let stdin = unsafe { BorrowedFd::borrow_raw(0) };
    rustix::process::ioctl_tiocsctty(stdin)
}

/// Closes the descriptor with this number, whoever owned it: for children before execve.
pub fn close(number: RawFd) {
    // SAFETY: close(2) on a number; in the child nothing uses it after this.
    unsafe { libc::close(number) };
}

/// Closes every descriptor from `first` on: for children before execve.
pub fn close_from(first: RawFd) -> Result<()> {
    // SAFETY: close_range(2) on numbers; in the child nothing uses them after this.
    let returned = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    check(returned).map(drop)
}

/// Joins a new, empty session keyring, so that the host's keys can't be searched.
pub fn new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<c_char>(),
            0,
            0,
            0,
        )
    };
    check(returned).map(drop)
}

/// Drops a capability, by number, from the bounding set. `EINVAL`: the kernel has no such.
pub fn drop_from_bounding_set(capability: u32) -> Result<()> {
    // SAFETY: prctl(2) with numbers only.
    let returned =
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) };
    check(c_long::from(returned)).map(drop)
}

/// Overwrites the command line of this process, a forked child: the pages are its own copy.
pub fn forget_command_line(range: std::ops::Range<usize>) {
    // SAFETY: the range is that of our own argument strings, as the kernel told the parent, whose
    // address space the child has a copy of; nothing in the child reads them again.
    unsafe { std::ptr::write_bytes(range.start as *mut u8, 0, range.len()) };
}

/// Puts this thread under a seccomp program, besides those it is under already.
pub fn install_filter(program: &[libc::sock_filter]) -> Result<()> {
    let header = libc::sock_fprog {
        len: program.len().try_into().map_err(|_| Errno::TOOBIG)?,
        // The kernel only reads it.
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the header describes a slice that outlives the call.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            std::ptr::from_ref(&header),
        )
    };
    check(returned).map(drop)
}

/// Puts this thread and its children in a Landlock domain that cannot connect to the abstract
/// sockets of processes outside of it. `EINVAL`, `E2BIG`, `ENOSYS`, `EOPNOTSUPP`: Linux before 6.12,
/// or without Landlock.
pub fn hide_abstract_sockets() -> Result<()> {
    #[repr(C)]
    struct Ruleset {
        handled_access_fs: u64,
        handled_access_net: u64,
        scoped: u64,
    }
    const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
    let ruleset = Ruleset {
        handled_access_fs: 0,
        handled_access_net: 0,
        scoped: SCOPE_ABSTRACT_UNIX_SOCKET,
    };
    // SAFETY: a struct that outlives the call, and its true size.
    let created = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::from_ref(&ruleset),
            size_of::<Ruleset>(),
            0,
        )
    };
    let created = check(created)?;
    // SAFETY: numbers only.
    let restricted = check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, created, 0) });
    close(created as RawFd);
    restricted.map(drop)
}

/// The signals of this thread that were blocked, until dropped: a clone in between starts with
/// every signal blocked, and no handler of ours runs in it.
pub struct SignalsBlocked {
    before: libc::sigset_t,
}

impl SignalsBlocked {
    /// Blocks every signal in this thread.
    pub fn all() -> SignalsBlocked {
        // SAFETY: sigset_t is plain data; both sets are ours.
        unsafe {
            let mut all = std::mem::zeroed();
            let mut before = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            SignalsBlocked { before }
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the set was filled by pthread_sigmask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}

/// Gives every signal its default disposition and unblocks all: what a new program expects.
///
/// Rust's runtime ignores SIGPIPE and nohup ignores SIGHUP, and execve(2) would keep that. The
/// kernel is asked directly, since libc refuses to touch the two signals that it uses itself,
/// which whoever started us may have left ignored.
pub fn reset_signals() {
    /// The kernel's `struct sigaction`, which isn't libc's; all zeroes is `SIG_DFL`.
    #[repr(C)]
    #[derive(Default)]
    struct KernelAction {
        handler: usize,
        flags: usize,
        restorer: usize,
        mask: u64,
    }
    const LAST: c_int = 64;
    let default = KernelAction::default();
    let none = 0u64;
    let nothing = std::ptr::null_mut::<u64>();
    // SAFETY: the structs outlive the calls, and 8 is the size of the kernel's signal set;
    // SIGKILL and SIGSTOP answer EINVAL.
    unsafe {
        for signal in 1..=LAST {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                std::ptr::from_ref(&default),
                nothing,
                8,
            );
        }
        let set = libc::SIG_SETMASK;
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            set,
            std::ptr::from_ref(&none),
            nothing,
            8,
        );
    }
}

/// A null-terminated array of C strings, as execve(2) wants it, made before clone.
#[derive(Debug)]
pub struct StringArray {
    /// What the pointers point into; a `CString`'s bytes stay where they are when it moves.
    _strings: Vec<std::ffi::CString>,
    pointers: Vec<*const c_char>,
}

impl StringArray {
    /// The array of these strings.
    pub fn new(strings: Vec<std::ffi::CString>) -> StringArray {
        let mut pointers: Vec<*const c_char> =
            strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        StringArray {
            _strings: strings,
            pointers,
        }
    }
}

/// Becomes another program; returns only if that failed.
pub fn execute(program: &CStr, arguments: &StringArray, environment: &StringArray) -> Errno {
    // SAFETY: both arrays end with a null pointer and own the strings that they point to.
    unsafe {
        libc::execve(
            program.as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
        )
    };
    last_errno()
}

/// Brings up the loopback interface of this network namespace.
pub fn bring_up_loopback() -> Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain data, and all zeroes is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as c_char;
    request.ifr_name[1] = b'o' as c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq with name and flags.
    let returned = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            std::ptr::from_ref(&request),
        )
    };
    check(c_long::from(returned)).map(drop)
}

/// Lets this thread, and what it starts, use the disk only where nobody else wants it.
pub fn ioprio_idle() -> Result<()> {
    // linux/ioprio.h: IOPRIO_WHO_PROCESS; IOPRIO_CLASS_IDLE in the bits from 13 on.
    const WHO_PROCESS: c_int = 1;
    const CLASS_IDLE: c_int = 3 << 13;
    // SAFETY: plain numbers; 0 is the calling thread.
    let returned = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE) };
    check(returned).map(drop)
}

/// Has the C library give all pages back of which nothing is in use.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: a plain number; glibc takes its own lock.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Has the C library map every piece of at least so many bytes for itself, and unmap it when it is
/// freed. Without this the limit grows with the pieces that are freed.
pub fn fix_mmap_threshold(bytes: c_int) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: plain numbers; glibc takes its own lock.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) };
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = bytes;
}

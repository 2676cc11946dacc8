//! One run of the program with one fault in it, at a system call that is counted out beforehand.
//!
//! A tracer by ptrace(2), because a fault must hit *the* n-th call of the whole program: tools that
//! count for each thread by itself never reach most calls of a program with threads. What a RUN
//! step executes is not counted: from its execve on it is the user's program, not ours.
//!
//! ```text
//! entry of call n ─┬─ Kill: SIGKILL to the program; the call is not made
//!                  └─ Error: the call is made void, and answers with the error
//! ```
//! Killing before call n leaves what killing after call n−1 would. When the program is dead the
//! tracer waits until all that it had started is dead too.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use libc::{c_int, c_long, c_void, pid_t};

use crate::support::Finished;

/// Which calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Every one.
    All,
    /// Those that change what is on a disk, or what is mounted.
    Changing,
    /// Those of them that a full disk refuses.
    Filling,
    /// Those of them that a broken disk refuses.
    Breaking,
}

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the calls are counted.
    None,
    /// `kill -9`.
    Kill(usize),
    /// It answers with this error.
    Once(usize, c_int),
    /// It, and all counted ones after it, answer with this error.
    From(usize, c_int),
}

/// What came of it.
#[derive(Debug)]
pub struct Traced {
    /// How the program ended, and what it said.
    pub finished: Finished,
    /// How many calls were counted.
    pub calls: usize,
    /// The call that the fault hit; nothing, where the program ended before it.
    pub hit: Option<String>,
    /// Every counted call with its path, where that was asked for.
    pub log: Vec<Call>,
}

/// A call that was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// The file or directory that it is about; of a rename, what it is renamed to.
    pub path: String,
}

/// The calls that change something: number, name, which argument tells the file, and how.
const CHANGING: &[(c_long, &str, About)] = &[
    (libc::SYS_open, "open", About::Path(0)),
    (libc::SYS_openat, "openat", About::Path(1)),
    (libc::SYS_openat2, "openat2", About::Path(1)),
    (libc::SYS_creat, "creat", About::Path(0)),
    (libc::SYS_write, "write", About::File(0)),
    (libc::SYS_writev, "writev", About::File(0)),
    (libc::SYS_pwrite64, "pwrite64", About::File(0)),
    (libc::SYS_pwritev, "pwritev", About::File(0)),
    (libc::SYS_copy_file_range, "copy_file_range", About::File(2)),
    (libc::SYS_sendfile, "sendfile", About::File(0)),
    (libc::SYS_fallocate, "fallocate", About::File(0)),
    (libc::SYS_ftruncate, "ftruncate", About::File(0)),
    (libc::SYS_fsync, "fsync", About::File(0)),
    (libc::SYS_fdatasync, "fdatasync", About::File(0)),
    (libc::SYS_syncfs, "syncfs", About::File(0)),
    (libc::SYS_rename, "rename", About::Path(1)),
    (libc::SYS_renameat, "renameat", About::Path(3)),
    (libc::SYS_renameat2, "renameat2", About::Path(3)),
    (libc::SYS_unlink, "unlink", About::Path(0)),
    (libc::SYS_unlinkat, "unlinkat", About::Path(1)),
    (libc::SYS_rmdir, "rmdir", About::Path(0)),
    (libc::SYS_mkdir, "mkdir", About::Path(0)),
    (libc::SYS_mkdirat, "mkdirat", About::Path(1)),
    (libc::SYS_mknodat, "mknodat", About::Path(1)),
    (libc::SYS_link, "link", About::Path(1)),
    (libc::SYS_linkat, "linkat", About::Path(3)),
    (libc::SYS_symlink, "symlink", About::Path(1)),
    (libc::SYS_symlinkat, "symlinkat", About::Path(2)),
    (libc::SYS_setxattr, "setxattr", About::Path(0)),
    (libc::SYS_lsetxattr, "lsetxattr", About::Path(0)),
    (libc::SYS_fsetxattr, "fsetxattr", About::File(0)),
    (libc::SYS_fchmod, "fchmod", About::File(0)),
    (libc::SYS_fchmodat, "fchmodat", About::Path(1)),
    (libc::SYS_fchown, "fchown", About::File(0)),
    (libc::SYS_fchownat, "fchownat", About::Path(1)),
    (libc::SYS_utimensat, "utimensat", About::Path(1)),
    (libc::SYS_mount, "mount", About::Path(1)),
    (libc::SYS_umount2, "umount2", About::Path(0)),
    (libc::SYS_fsmount, "fsmount", About::Nothing),
    (libc::SYS_move_mount, "move_mount", About::Nothing),
    (libc::SYS_clone3, "clone3", About::Nothing),
];

/// Those that a full disk never refuses.
const NEED_NO_SPACE: &[&str] = &[
    "unlink",
    "unlinkat",
    "rmdir",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "utimensat",
    "mount",
    "umount2",
    "fsmount",
    "move_mount",
    "clone3",
    "ftruncate",
];

/// Those that have nothing to do with a disk.
const NO_DISK: &[&str] = &["mount", "umount2", "fsmount", "move_mount", "clone3"];

/// How a call says what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// By a descriptor.
    File(usize),
    /// By a path, perhaps relative to the descriptor before it.
    Path(usize),
    /// Not at all.
    Nothing,
}

/// A thread of the program at the entry of a call.
struct Entry {
    tid: pid_t,
    number: c_long,
    arguments: [u64; 6],
}

impl Entry {
    /// The call, if `calls` counts it.
    fn counted(&self, calls: Calls) -> Option<Call> {
        let known = CHANGING.iter().find(|(number, ..)| *number == self.number);
        let Some((_, name, about)) = known else {
            return (calls == Calls::All).then(|| Call {
                name: "other",
                path: self.number.to_string(),
            });
        };
        // What it says to people is not on the disk that fails.
        if matches!(about, About::File(place) if self.arguments[*place] <= 2) && calls != Calls::All
        {
            return None;
        }
        let path = self.path(*about);
        let call = Call { name, path };
        let counts = match calls {
            Calls::All => true,
            Calls::Changing => self.changes(&call),
            Calls::Filling => self.changes(&call) && !NEED_NO_SPACE.contains(name),
            Calls::Breaking => self.changes(&call) && !NO_DISK.contains(name),
        };
        counts.then_some(call)
    }

    fn changes(&self, call: &Call) -> bool {
        let flags = match call.name {
            "open" => Some(self.arguments[1]),
            "openat" => Some(self.arguments[2]),
            "openat2" => Some(u64::from_ne_bytes(self.bytes(self.arguments[2]))),
            _ => None,
        };
        let creating =
            (libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE & !libc::O_DIRECTORY) as u64;
        let on_disk = ![
            "/proc/",
            "/sys/",
            "/dev/",
            "pipe:",
            "socket:",
            "anon_inode:",
            "/memfd:",
        ]
        .iter()
        .any(|start| call.path.starts_with(start));
        on_disk && flags.is_none_or(|flags| flags & creating != 0)
    }

    fn bytes(&self, address: u64) -> [u8; 8] {
        let mut bytes = [0; 8];
        if let Ok(memory) = File::open(format!("/proc/{}/mem", self.tid)) {
            let _ = memory.read_exact_at(&mut bytes, address);
        }
        bytes
    }

    fn path(&self, about: About) -> String {
        let descriptor = |number: u64| {
            let link = format!("/proc/{}/fd/{}", self.tid, number as i32);
            std::fs::read_link(link).map_or_else(|_| String::new(), |p| p.to_string_lossy().into())
        };
        match about {
            About::Nothing => String::new(),
            About::File(place) => descriptor(self.arguments[place]),
            About::Path(place) => {
                let text = self.text(self.arguments[place]);
                if text.starts_with('/') || place == 0 {
                    return text;
                }
                let base = PathBuf::from(descriptor(self.arguments[place - 1]));
                base.join(text).to_string_lossy().into_owned()
            }
        }
    }

    /// A string that ends in a zero byte.
    fn text(&self, address: u64) -> String {
        let mut bytes = vec![0; 4096];
        let Ok(memory) = File::open(format!("/proc/{}/mem", self.tid)) else {
            return String::new();
        };
        // A path near the end of a page has fewer bytes behind it.
        let count = memory.read_at(&mut bytes, address).unwrap_or(0);
        bytes.truncate(count);
        let end = bytes
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }
}

fn ptrace(request: libc::c_uint, tid: pid_t, address: usize, data: usize) -> c_long {
    // SAFETY: `tid` is a tracee of this thread, or the call fails; no request used here writes to
    // this process but GETEVENTMSG, whose data is a pointer to a word that outlives the call.
    unsafe { libc::ptrace(request, tid, address as *mut c_void, data as *mut c_void) }
}

/// The x86-64 registers at a stop.
fn registers(tid: pid_t) -> Option<libc::user_regs_struct> {
    // SAFETY: all bits zero are a value of this plain structure.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    let at = std::ptr::from_mut(&mut registers) as usize;
    (ptrace(libc::PTRACE_GETREGS, tid, 0, at) == 0).then_some(registers)
}

fn set_registers(tid: pid_t, registers: &libc::user_regs_struct) {
    let at = std::ptr::from_ref(registers) as usize;
    ptrace(libc::PTRACE_SETREGS, tid, 0, at);
}

#[derive(Debug, Clone, Copy, Default)]
struct Thread {
    /// Between a call's entry and its exit.
    inside: bool,
    /// Runs a program of the user's.
    foreign: bool,
    /// What the call that it is in is to answer.
    answer: Option<c_int>,
}

struct Tracer {
    leader: pid_t,
    calls: Calls,
    fault: Fault,
    keep_log: bool,
    threads: HashMap<pid_t, Thread>,
    /// New ones that have stopped before their maker's stop said whose they are.
    early: HashSet<pid_t>,
    count: usize,
    hit: Option<String>,
    log: Vec<Call>,
    killed: bool,
}

/// Runs `command` with a fault at one of its calls.
pub fn run(command: &mut Command, calls: Calls, fault: Fault, keep_log: bool) -> Traced {
    let mut streams = [0, 1].map(|_| tempfile::tempfile().expect("a temporary file"));
    let give = |file: &File| Stdio::from(file.try_clone().expect("a descriptor"));
    command
        .stdin(Stdio::null())
        .stdout(give(&streams[0]))
        .stderr(give(&streams[1]));
    // SAFETY: ptrace is async-signal-safe, and the child does nothing else before its execve.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    #[expect(
        clippy::zombie_processes,
        reason = "the tracer waits for it, and for all the others"
    )]
    let child = command.spawn().expect("rstore runs");
    let leader = child.id() as pid_t;
    let mut tracer = Tracer {
        leader,
        calls,
        fault,
        keep_log,
        threads: HashMap::new(),
        early: HashSet::new(),
        count: 0,
        hit: None,
        log: Vec::new(),
        killed: false,
    };
    let status = tracer.trace();
    let text = |file: &mut File| {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).expect("a file");
        file.read_to_end(&mut bytes).expect("a file");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let code = match libc::WIFEXITED(status) {
        true => libc::WEXITSTATUS(status),
        false => -libc::WTERMSIG(status),
    };
    Traced {
        finished: Finished {
            command: format!("{command:?}"),
            code,
            stdout: text(&mut streams[0]),
            stderr: text(&mut streams[1]),
        },
        calls: tracer.count,
        hit: tracer.hit,
        log: tracer.log,
    }
}

impl Tracer {
    /// Follows the program and all that it starts to their end. Returns the program's status.
    fn trace(&mut self) -> c_int {
        let mut end = 0;
        loop {
            let mut status = 0;
            // SAFETY: `status` is a word. Only this thread's children and tracees are waited for.
            let tid = unsafe { libc::waitpid(-1, &mut status, libc::__WALL | libc::__WNOTHREAD) };
            if tid < 0 {
                return end;
            }
            if libc::WIFSTOPPED(status) {
                self.stopped(tid, status);
            } else {
                self.threads.remove(&tid);
                if tid == self.leader {
                    end = status;
                }
            }
        }
    }

    fn stopped(&mut self, tid: pid_t, status: c_int) {
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        if self.threads.is_empty() && tid == self.leader {
            // Its own execve: from here on it is traced.
            let options = libc::PTRACE_O_TRACESYSGOOD
                | libc::PTRACE_O_TRACEFORK
                | libc::PTRACE_O_TRACEVFORK
                | libc::PTRACE_O_TRACECLONE
                | libc::PTRACE_O_TRACEEXEC
                | libc::PTRACE_O_EXITKILL;
            ptrace(libc::PTRACE_SETOPTIONS, tid, 0, options as usize);
            self.threads.insert(tid, Thread::default());
            return self.go_on(tid, 0);
        }
        match event {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                let mut new: libc::c_ulong = 0;
                let at = std::ptr::from_mut(&mut new) as usize;
                ptrace(libc::PTRACE_GETEVENTMSG, tid, 0, at);
                let foreign = self.threads.get(&tid).is_some_and(|thread| thread.foreign);
                let thread = Thread {
                    foreign,
                    ..Thread::default()
                };
                self.threads.insert(new as pid_t, thread);
                if self.early.remove(&(new as pid_t)) {
                    self.go_on(new as pid_t, 0);
                }
                self.go_on(tid, 0);
            }
            libc::PTRACE_EVENT_EXEC => {
                let thread = Thread {
                    foreign: true,
                    inside: true,
                    answer: None,
                };
                self.threads.insert(tid, thread);
                self.go_on(tid, 0);
            }
            _ if signal == libc::SIGTRAP | 0x80 => self.call(tid),
            _ if signal == libc::SIGSTOP => {
                if self.threads.contains_key(&tid) || self.killed {
                    self.go_on(tid, 0);
                } else {
                    self.early.insert(tid);
                }
            }
            _ if event != 0 => self.go_on(tid, 0),
            _ => self.go_on(tid, signal),
        }
    }

    fn go_on(&self, tid: pid_t, signal: c_int) {
        let foreign = self.threads.get(&tid).is_some_and(|thread| thread.foreign);
        let request = match self.killed || foreign {
            true => libc::PTRACE_CONT,
            false => libc::PTRACE_SYSCALL,
        };
        ptrace(request, tid, 0, signal as usize);
    }

    fn call(&mut self, tid: pid_t) {
        let thread = self.threads.entry(tid).or_default();
        thread.inside = !thread.inside;
        let (inside, answer) = (thread.inside, thread.answer.take());
        let Some(mut registers) = registers(tid) else {
            return self.go_on(tid, 0);
        };
        if !inside {
            if let Some(errno) = answer {
                registers.rax = (-i64::from(errno)) as u64;
                set_registers(tid, &registers);
            }
            return self.go_on(tid, 0);
        }
        let entry = Entry {
            tid,
            number: registers.orig_rax as c_long,
            arguments: [
                registers.rdi,
                registers.rsi,
                registers.rdx,
                registers.r10,
                registers.r8,
                registers.r9,
            ],
        };
        let Some(call) = entry.counted(self.calls).filter(|_| !self.killed) else {
            return self.go_on(tid, 0);
        };
        self.count += 1;
        let hit = match self.fault {
            Fault::None => false,
            Fault::Kill(at) | Fault::Once(at, _) => self.count == at,
            Fault::From(at, _) => self.count >= at,
        };
        if hit {
            if self.hit.is_none() {
                self.hit = Some(format!("{} {}", call.name, call.path));
            }
            match self.fault {
                Fault::Kill(_) => {
                    self.killed = true;
                    // SAFETY: the program is our child, and has not been waited for.
                    unsafe { libc::kill(self.leader, libc::SIGKILL) };
                    // What waits for us waits no longer.
                    for early in std::mem::take(&mut self.early) {
                        self.go_on(early, 0);
                    }
                }
                Fault::Once(_, errno) | Fault::From(_, errno) => {
                    registers.orig_rax = u64::MAX;
                    set_registers(tid, &registers);
                    if let Some(thread) = self.threads.get_mut(&tid) {
                        thread.answer = Some(errno);
                    }
                }
                Fault::None => {}
            }
        }
        if self.keep_log {
            self.log.push(call);
        }
        self.go_on(tid, 0);
    }
}

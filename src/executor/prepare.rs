//! From a [`Step`] to a script for init: everything that needs memory, names or good errors.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::process::Rlimit;

use super::console::{self, Console};
use super::init::{Script, Streams};
use super::mounts::{Attachment, Kind, dev, mask, parent};
use super::process::Process;
use super::resolve::{Links, Resolver, Shape};
use super::seccomp::Profile;
use super::stubs::Stubs;
use super::sys::StringArray;
use super::{DEFAULT_PATH, Error, Mount, Network, Security, Step, capabilities, sys};

/// Makes the script of `step`; mount points that it makes in the root are noted in `stubs`.
/// With a `console`, also the master of the step's terminal, which then is all of its `streams`.
pub fn prepare(
    step: Step,
    mut streams: Streams,
    console: Option<&Console>,
    stubs: &mut Stubs,
) -> Result<(Script, Option<OwnedFd>), Error> {
    let mut process = process(&step)?;
    let (attachments, terminals) = attachments(&step, stubs)?;
    let mut master = None;
    if let Some(console) = console {
        let pty = console::open(&terminals, console, &step.user)?;
        streams.stdin = Some(above_streams(&pty.slave)?);
        streams.stdout = above_streams(&pty.slave)?;
        streams.stderr = above_streams(&pty.slave)?;
        process.terminal = true;
        master = Some(pty.master);
    }
    close_devices(&step)?;
    let empty = mask::empty_directory().map_err(|errno| Error::Mount {
        what: "tmpfs".to_owned(),
        target: PathBuf::from("/proc"),
        source: errno.into(),
        hint: parent::hint(errno),
    })?;
    let script = Script {
        root: step.root,
        attachments,
        empty,
        hostname: step.hostname.into_bytes(),
        command_line: command_line(),
        loopback: step.network == Network::None,
        process,
        streams,
    };
    Ok((script, master))
}

/// Makes device nodes in the root open nothing, those of the image and those that the step makes;
/// see `mounts::dev`.
fn close_devices(step: &Step) -> Result<(), Error> {
    sys::set_mount_attributes(&step.root, nodev(step), true).map_err(|errno| Error::Mount {
        what: "the root".to_owned(),
        target: PathBuf::from("/"),
        source: errno.into(),
        hint: Some("the root must be a mount, as snapshot::overlay gives it"),
    })
}

/// What every mount that a sandboxed step can write to must be.
fn nodev(step: &Step) -> MountAttrFlags {
    match step.security {
        Security::Sandbox => MountAttrFlags::MOUNT_ATTR_NODEV,
        Security::Insecure => MountAttrFlags::empty(),
    }
}

/// Every mount in the order of attachment: the kernel's, then the caller's; and the devpts.
fn attachments(step: &Step, stubs: &mut Stubs) -> Result<(Vec<Attachment>, OwnedFd), Error> {
    let restricted = step.security == Security::Sandbox;
    let mut resolver = Resolver::new(step.root.as_fd(), stubs);
    let mut attachments = Vec::with_capacity(16 + step.mounts.len());
    for (path, kind) in [
        ("/proc", Kind::Proc { restricted }),
        ("/sys", Kind::Sys { restricted }),
    ] {
        attachments.push(kernels(&mut resolver, path, kind)?);
        resolver.will_be_at(PathBuf::from(path), None);
    }
    let terminals = devices(&mut resolver, step, &mut attachments)?;
    for mount in &step.mounts {
        attachments.push(callers(&mut resolver, mount, nodev(step))?);
    }
    Ok((attachments, terminals))
}

/// One of the kernel's trees, on a directory of the root that is no link.
fn kernels(resolver: &mut Resolver<'_>, path: &str, kind: Kind) -> Result<Attachment, Error> {
    let place = resolver.mount_point(Path::new(path), Shape::Directory, Links::Refuse)?;
    let what = path.trim_start_matches('/').to_owned();
    Ok(Attachment {
        target: place.fd,
        path: place.path,
        what,
        kind,
    })
}

fn devices(
    resolver: &mut Resolver<'_>,
    step: &Step,
    attachments: &mut Vec<Attachment>,
) -> Result<OwnedFd, Error> {
    let insecure = step.security == Security::Insecure;
    let devices = dev::make_devices(step.shm_size, insecure)?;
    let tree = duplicate(&devices.tree)?;
    attachments.push(kernels(resolver, "/dev", Kind::Detached(devices.tree))?);
    resolver.will_be_at(PathBuf::from("/dev"), Some(tree));
    attachments.extend(devices.inside);
    let shared = duplicate(&devices.shared_memory)?;
    attachments.push(kernels(
        resolver,
        "/dev/shm",
        Kind::Detached(devices.shared_memory),
    )?);
    resolver.will_be_at(PathBuf::from("/dev/shm"), Some(shared));
    Ok(devices.terminals)
}

/// What the caller asked for.
fn callers(
    resolver: &mut Resolver<'_>,
    mount: &Mount,
    also: MountAttrFlags,
) -> Result<Attachment, Error> {
    let ready = parent::make_ready(mount, also)?;
    let place = resolver.mount_point(&mount.target, ready.shape, Links::Follow)?;
    let tree = match &ready.kind {
        Kind::Detached(tree) => Some(duplicate(tree)?),
        _ => None,
    };
    resolver.will_be_at(place.path.clone(), tree);
    Ok(Attachment {
        target: place.fd,
        path: place.path,
        what: ready.what,
        kind: ready.kind,
    })
}

fn process(step: &Step) -> Result<Process, Error> {
    let Some(program) = step.args.first() else {
        return Err(Error::Invalid(
            "no program to run: the argument list is empty".to_owned(),
        ));
    };
    if !step.cwd.is_absolute() {
        let path = step.cwd.display();
        return Err(Error::Invalid(format!(
            "the working directory {path} is not absolute"
        )));
    }
    let arguments: Result<Vec<_>, _> = step.args.iter().map(|arg| c_string(arg)).collect();
    let capabilities = capabilities::allowed(step.security).map_err(|errno| Error::Host {
        doing: "read our capabilities",
        source: errno.into(),
    })?;
    Ok(Process {
        candidates: candidates(program, &step.env)?,
        arguments: StringArray::new(arguments?),
        environment: environment(&step.env)?,
        cwd: c_string(step.cwd.as_os_str())?,
        uid: Uid::from_raw(step.user.uid),
        gid: Gid::from_raw(step.user.gid),
        groups: groups(step),
        terminal: false,
        limits: limits(step),
        capabilities,
        profile: (step.security == Security::Sandbox).then(Profile::get),
        hide_sockets: step.network == Network::Host && step.security == Security::Sandbox,
    })
}

/// The groups to set. A user namespace that an ordinary user mapped alone has setgroups(2)
/// forbidden, for good reason (user_namespaces(7)); a step there keeps what it has.
fn groups(step: &Step) -> Option<Vec<Gid>> {
    let denied = std::fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"deny"));
    let groups = step
        .user
        .groups
        .iter()
        .map(|&gid| Gid::from_raw(gid))
        .collect();
    (!denied).then_some(groups)
}

fn limits(step: &Step) -> Vec<(super::Resource, Rlimit)> {
    let finite = |value: u64| (value != u64::MAX).then_some(value);
    let limit = |&(resource, soft, hard)| {
        (
            resource,
            Rlimit {
                current: finite(soft),
                maximum: finite(hard),
            },
        )
    };
    step.ulimits.iter().map(limit).collect()
}

/// Where `program` may be. A name without `/` is looked for in the absolute entries of `PATH`:
/// the others would mean whatever directory the step happens to run in.
fn candidates(program: &OsStr, env: &[(OsString, OsString)]) -> Result<Vec<CString>, Error> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(program)?]);
    }
    let path = search_path(env);
    let places = path
        .as_bytes()
        .split(|&byte| byte == b':')
        .filter(|dir| dir.starts_with(b"/"));
    places
        .map(|dir| c_string(Path::new(OsStr::from_bytes(dir)).join(program).as_os_str()))
        .collect()
}

/// `PATH` of the step; the last one counts, as for getenv in most programs' copies.
pub fn search_path(env: &[(OsString, OsString)]) -> &OsStr {
    let path = env.iter().rev().find(|(key, _)| key == "PATH");
    path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value)
}

fn environment(env: &[(OsString, OsString)]) -> Result<StringArray, Error> {
    let entry = |(key, value): &(OsString, OsString)| {
        let mut text = key.clone();
        text.push("=");
        text.push(value);
        c_string(&text)
    };
    Ok(StringArray::new(
        env.iter().map(entry).collect::<Result<_, _>>()?,
    ))
}

fn c_string(text: &OsStr) -> Result<CString, Error> {
    CString::new(text.as_bytes()).map_err(|_| {
        Error::Invalid(format!(
            "{text:?} has a NUL byte in it; no program takes that"
        ))
    })
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Error> {
    fd.try_clone().map_err(|source| Error::Host {
        doing: "duplicate a descriptor",
        source,
    })
}

/// `fd` under a number that [`Streams`] allows.
pub fn above_streams(fd: impl AsFd) -> Result<OwnedFd, Error> {
    rustix::io::fcntl_dupfd_cloexec(fd, Streams::LOWEST).map_err(|errno: Errno| Error::Host {
        doing: "duplicate a descriptor",
        source: errno.into(),
    })
}

/// Where the kernel says that this process's command line lies (proc_pid_stat(5), `arg_start` and
/// `arg_end`); `None` where it doesn't say.
fn command_line() -> Option<std::ops::Range<usize>> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name is in parentheses and may hold anything; fields 3, 4, … follow it.
    let mut fields = stat
        .rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .skip(48 - 3);
    let (start, end): (usize, usize) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (0 < start && start < end).then_some(start..end)
}

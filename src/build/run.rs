//! RUN: one process in an intermediate container.
//!
//! ```text
//! lowers of the stage ─┐
//! rstore/stubs ─────────┼─ overlay, detached ─▶ executor ─▶ exit status
//! containers/ID/upper ─┘                                     └─ upper becomes a lower
//! ```
//! The stubs are mount points (`/proc`, `/etc/hosts`, …) below everything the image has, so that
//! making them writes nothing into the layer.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::error::StepError;
use super::event::{Event, StepNumber};
use super::mounts::{self, Mounted};
use super::options::Options;
use super::plan::{MountOperation, RunOperation};
use super::users::Accounts;
use crate::executor::{self, Exit, Mount, Source, Stream, stubs};
use crate::fsutil::{self, IoContext};
use crate::snapshot::overlay;
use crate::store::{Container, Lease, Lower};

/// How long a line of output may become before it is passed on in parts.
const LONGEST_LINE: usize = 16 << 10;

/// What a step runs with.
pub struct Surroundings<'a> {
    /// The lease of the build.
    pub lease: &'a Lease<'a>,
    /// The build's options.
    pub options: &'a Options,
    /// What runs processes.
    pub executor: &'a (dyn executor::Executor + Sync),
    /// Ends it.
    pub cancel: &'a executor::Cancel,
}

/// Runs a step on `lowers` (the lowest first) in `container`.
pub fn run(
    around: &Surroundings,
    operation: &RunOperation,
    mounted: &Mounted,
    lowers: &[Lower],
    container: &Container,
    step: StepNumber,
    tell: &dyn Fn(Event),
) -> Result<Exit, StepError> {
    let root = root(around, lowers, container)?;
    let accounts = Accounts::read(root.as_fd())?;
    let user = accounts.user(&operation.user)?;
    working_directory(root.as_fd(), &operation.directory)?;
    let mut environment: BTreeMap<String, String> = operation.environment.iter().cloned().collect();
    environment
        .entry("HOME".to_owned())
        .or_insert_with(|| accounts.home(user.uid).to_owned());
    let mut prepared = mounts::prepare(around, &operation.mounts, mounted, container)?;
    if let Some(socket) = first_socket(operation) {
        environment
            .entry("SSH_AUTH_SOCK".to_owned())
            .or_insert_with(|| socket.to_owned());
    }
    let mut environment: BTreeMap<OsString, OsString> = environment
        .into_iter()
        .map(|(k, v)| (k.into(), v.into()))
        .collect();
    let secrets = prepared.environment.iter().cloned();
    environment.extend(secrets.map(|(name, value)| (name.into(), value)));
    let mut process = executor::Step::new(root, operation.arguments.iter());
    process.env = environment.into_iter().collect();
    process.cwd = PathBuf::from(&operation.directory);
    process.user = user;
    process.hostname = container.id.clone();
    process.network = operation.network;
    process.shm_size = around.options.shm_size;
    process.ulimits = around.options.ulimits.clone();
    process.security = operation.security;
    process.mounts = usual_mounts(around.options, operation, container);
    process.mounts.append(&mut prepared.mounts);
    // What is mounted inside of another mount comes after it, whatever the order in the file.
    process
        .mounts
        .sort_by_key(|mount| mount.target.components().count());
    let mut lines = Lines::new(step, tell);
    let outcome = around
        .executor
        .run(process, around.cancel, &mut |stream, bytes| {
            lines.take(stream, bytes)
        });
    lines.flush();
    prepared.finish()?;
    let exit = outcome?.exit;
    if let Some(top) = lowers.last() {
        // A layer says nothing of the root directory itself, as docker's do not: a later step must
        // find it the same whether this one ran or came from the cache.
        copy_attributes(&top.path, &container.upper())?;
    }
    Ok(exit)
}

/// Where the first socket of an SSH agent is.
fn first_socket(operation: &RunOperation) -> Option<&str> {
    operation.mounts.iter().find_map(|mount| match mount {
        MountOperation::Ssh { target, .. } => Some(target.as_str()),
        _ => None,
    })
}

/// The merged root, with the container's upper directory on top.
fn root(
    around: &Surroundings,
    lowers: &[Lower],
    container: &Container,
) -> Result<std::os::fd::OwnedFd, StepError> {
    let stub_directory = around.lease.store().private("stubs");
    stubs::ensure(&stub_directory)?;
    if let Some(top) = lowers.last() {
        copy_attributes(&top.path, &container.upper())?;
    }
    let mut paths: Vec<&Path> = lowers
        .iter()
        .rev()
        .map(|lower| lower.path.as_path())
        .collect();
    paths.push(&stub_directory);
    let (upper, work) = (container.upper(), container.work());
    let options = around.lease.store().overlay_options();
    overlay::mount(&paths, Some((&upper, &work)), options)
        .map_err(|error| crate::store::Error::Overlay(error).into())
}

/// The root directory of an overlay is the topmost one's: a new upper must look as what is below.
pub(super) fn copy_attributes(from: &Path, to: &Path) -> Result<(), fsutil::Error> {
    let metadata = fs::metadata(from).at("stat", from)?;
    std::os::unix::fs::chown(to, Some(metadata.uid()), Some(metadata.gid())).at("chown", to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))
        .at("chmod", to)?;
    fsutil::copy_times(&metadata, to)
}

/// Makes the working directory if a base image names one that it does not have, as docker does.
fn working_directory(root: std::os::fd::BorrowedFd, path: &str) -> Result<(), StepError> {
    if super::tree::look_up(root, path)?.is_some() {
        return Ok(());
    }
    let resolved = super::tree::resolve_destination(root, path)?;
    let mut directory =
        fsutil::open_in_root(root, ".", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    for component in resolved.split('/').filter(|part| !part.is_empty()) {
        match rustix::fs::mkdirat(&directory, component, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(fsutil::Error::new("create directory", path, error).into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        directory = fsutil::open_beneath(&directory, component, flags, Mode::empty())?;
    }
    Ok(())
}

fn usual_mounts(options: &Options, operation: &RunOperation, container: &Container) -> Vec<Mount> {
    let file = |target: &str, bytes: Vec<u8>, mode| {
        Mount::new(
            target,
            Source::Bytes {
                bytes,
                mode,
                owner: (0, 0),
            },
        )
    };
    let mut mounts = vec![
        file("/etc/hosts", hosts(options, container).into_bytes(), 0o644),
        file("/etc/resolv.conf", options.resolv_conf.clone(), 0o644),
        file(
            "/etc/hostname",
            format!("{}\n", container.id).into_bytes(),
            0o644,
        ),
    ];
    if let Some((path, content)) = &operation.script {
        mounts.push(file(path, content.clone().into_bytes(), 0o755).read_only());
    }
    mounts
}

fn hosts(options: &Options, container: &Container) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for (name, address) in &options.add_hosts {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text.push_str(&format!("127.0.1.1\t{}\n", container.id));
    text
}

/// Cuts two streams of chunks into lines.
struct Lines<'a> {
    step: StepNumber,
    tell: &'a dyn Fn(Event),
    pending: [Vec<u8>; 2],
}

impl<'a> Lines<'a> {
    fn new(step: StepNumber, tell: &'a dyn Fn(Event)) -> Lines<'a> {
        Lines {
            step,
            tell,
            pending: [Vec::new(), Vec::new()],
        }
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let pending = &mut self.pending[slot(stream)];
            pending.extend_from_slice(part);
            if part.ends_with(b"\n") || pending.len() >= LONGEST_LINE {
                let mut line = std::mem::take(pending);
                if line.ends_with(b"\n") {
                    line.pop();
                }
                self.send(stream, line);
            }
        }
    }

    fn flush(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let line = std::mem::take(&mut self.pending[slot(stream)]);
            if !line.is_empty() {
                self.send(stream, line);
            }
        }
    }

    fn send(&self, stream: Stream, line: Vec<u8>) {
        (self.tell)(Event::Output {
            step: self.step,
            stream,
            line,
        });
    }
}

fn slot(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn output_comes_in_lines_whatever_the_chunks() {
        let seen = RefCell::new(Vec::new());
        let tell = |event: Event| {
            if let Event::Output { line, .. } = event {
                seen.borrow_mut().push(String::from_utf8(line).unwrap());
            }
        };
        let mut lines = Lines::new(0, &tell);
        lines.take(Stream::Stdout, b"on");
        lines.take(Stream::Stderr, b"warn\n");
        lines.take(Stream::Stdout, b"e\n\ntw");
        lines.flush();
        assert_eq!(*seen.borrow(), ["warn", "one", "", "tw"]);
    }
}

//! The socket of an SSH agent for one step.
//!
//! ```text
//! step ──▶ socket in the container's directory ──▶ a thread of ours ──▶ the user's agent
//!          owner and mode as asked for              lets pass: list, sign
//! ```
//! A step may ask which keys there are and have something signed; adding, removing and locking
//! keys is refused, as BuildKit does: the agent is the user's, for longer than the build. The
//! messages are those of draft-miller-ssh-agent: four bytes of length, one of type; the agent
//! answers each with one.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::build::error::StepError;
use crate::build::tree::descriptor_path;
use crate::fsutil::{self, IoContext};

/// `SSH_AGENTC_REQUEST_IDENTITIES`.
const LIST: u8 = 11;
/// `SSH_AGENTC_SIGN_REQUEST`.
const SIGN: u8 = 13;
/// `SSH_AGENT_FAILURE`, as a whole message.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];
/// No message is longer (OpenSSH's `AGENT_MAX_LEN`).
const LONGEST: usize = 256 << 10;
/// How many connections a step may have at once.
const MOST: usize = 64;

/// A socket that asks an agent, until this is dropped.
pub struct Agent {
    path: PathBuf,
    /// The directory of the socket: by way of it a path is short enough for an address.
    directory: OwnedFd,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    agent: PathBuf,
    stop: AtomicBool,
    /// By the number of the connection: the step's side, and the agent's once there is one.
    open: Mutex<HashMap<u64, Vec<UnixStream>>>,
}

const NAME: &str = "agent";

impl Agent {
    /// Listens in `directory` for a step; `agent` is the agent's own socket.
    pub fn start(
        directory: &Path,
        agent: &Path,
        owner: (u32, u32),
        mode: u32,
    ) -> Result<Agent, StepError> {
        // Where that fails now, every connection would fail later, and nobody would see why.
        UnixStream::connect(agent).at("connect to the SSH agent", agent)?;
        let path = directory.join(NAME);
        let directory = fsutil::open_dir(directory)?;
        let listener =
            UnixListener::bind(descriptor_path(&directory).join(NAME)).at("listen on", &path)?;
        chown(&path, Some(owner.0), Some(owner.1)).at("chown", &path)?;
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, permissions).at("chmod", &path)?;
        let shared = Arc::new(Shared {
            agent: agent.to_owned(),
            stop: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&listener, &shared)
        });
        Ok(Agent {
            path,
            directory,
            shared,
            thread: Some(thread),
        })
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, which looks at `stop` after each connection.
        let woken = UnixStream::connect(descriptor_path(&self.directory).join(NAME));
        for stream in self.shared.open().values().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Vec<UnixStream>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(listener: &UnixListener, shared: &Arc<Shared>) {
    let mut number = 0;
    for client in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        number += 1;
        // One that cannot be served is closed, which ssh tells as an agent that does not answer.
        let _ = connect(client, number, shared);
    }
}

fn connect(client: UnixStream, number: u64, shared: &Arc<Shared>) -> io::Result<()> {
    {
        let mut open = shared.open();
        if open.len() >= MOST {
            return Ok(());
        }
        open.insert(number, vec![client.try_clone()?]);
    }
    let shared = Arc::clone(shared);
    // The agent is asked from here: one that hangs holds up this connection and no other.
    std::thread::spawn(move || {
        let served = UnixStream::connect(&shared.agent).and_then(|agent| {
            {
                let mut open = shared.open();
                if let Some(streams) = open.get_mut(&number) {
                    streams.push(agent.try_clone()?);
                }
            }
            // Who ends it all looks after this, or before, when the client is shut already.
            relay(&client, &agent)
        });
        // However it ends, both sides are closed.
        drop(served);
        shared.open().remove(&number);
    });
    Ok(())
}

/// Passes requests on and answers back, until one side has had enough.
fn relay(mut client: impl Read + Write, mut agent: impl Read + Write) -> io::Result<()> {
    loop {
        let request = message(&mut client)?;
        match request.get(4) {
            Some(&(LIST | SIGN)) => {
                agent.write_all(&request)?;
                client.write_all(&message(&mut agent)?)?;
            }
            _ => client.write_all(&FAILURE)?,
        }
    }
}

/// One message with its length.
fn message(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 4];
    from.read_exact(&mut message)?;
    let length = u32::from_be_bytes([message[0], message[1], message[2], message[3]]) as usize;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    message.resize(4 + length, 0);
    from.read_exact(&mut message[4..])?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that answers every request with its type, behind what it was told.
    fn echo(directory: &Path) -> PathBuf {
        let path = directory.join("real");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut stream = stream;
                    while let Ok(request) = message(&mut stream) {
                        stream.write_all(&request).unwrap();
                    }
                });
            }
        });
        path
    }

    #[test]
    fn a_step_may_list_and_sign_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let real = echo(directory.path());
        let place = directory.path().join("step");
        std::fs::create_dir(&place).unwrap();
        let us = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let agent = Agent::start(&place, &real, us, 0o600).unwrap();
        let mode = std::fs::metadata(agent.path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut step = UnixStream::connect(agent.path()).unwrap();
        let mut ask = |request: &[u8]| {
            let length = u32::try_from(request.len()).unwrap().to_be_bytes();
            step.write_all(&[&length[..], request].concat()).unwrap();
            message(&mut step).unwrap()[4..].to_vec()
        };
        assert_eq!(ask(&[LIST]), [LIST]);
        assert_eq!(ask(&[SIGN, 1, 2, 3]), [SIGN, 1, 2, 3]);
        // Add, remove all, lock, an extension, and nothing at all.
        for refused in [&[17, 1][..], &[19], &[22, 0], &[27, 1], &[]] {
            assert_eq!(ask(refused), FAILURE[4..], "{refused:?}");
        }
        drop(agent);
        assert!(message(&mut step).is_err(), "the connection ends with it");
    }

    #[test]
    fn an_agent_that_is_not_there_is_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let none = directory.path().join("none");
        let error = Agent::start(directory.path(), &none, (0, 0), 0o600)
            .err()
            .unwrap();
        assert!(error.to_string().contains("none"), "{error}");
    }
}

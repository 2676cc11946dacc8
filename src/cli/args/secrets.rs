//! `--secret`, `--ssh`, `--allow`: from text to what is meant, and from there to bytes and sockets.
//!
//! The short forms are docker's: `--secret id=NAME` is the variable NAME if there is one, else the
//! file NAME; `--ssh default` is the agent of `SSH_AUTH_SOCK`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::build::{Entitlement, Secret};
use crate::cli::Result;

/// No secret is larger, as in docker: what is, is some other file.
const LARGEST: u64 = 500 << 10;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource {
    /// Its ID.
    id: String,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Variable(String),
    /// A variable of the ID's name if there is one, else a file.
    Either,
}

/// Where an SSH agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSource {
    id: String,
    /// `None`: `SSH_AUTH_SOCK` says.
    socket: Option<PathBuf>,
}

/// `id=ID`, `id=ID,src=FILE`, `id=ID,env=VARIABLE`, perhaps with `type=file` or `type=env`.
pub fn secret(text: &str) -> Result<SecretSource, String> {
    let (mut id, mut kind, mut source, mut variable) = (None, None, None, None);
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| {
            format!("{field:?} is not KEY=VALUE: id=token,src=token.txt or id=token,env=TOKEN")
        })?;
        let value = value.to_owned();
        match key.trim().to_ascii_lowercase().as_str() {
            "id" => id = Some(value),
            "src" | "source" => source = Some(value),
            "env" => variable = Some(value),
            "type" if matches!(value.as_str(), "file" | "env") => kind = Some(value),
            "type" => return Err(format!("a secret's type is file or env, not {value:?}")),
            other => {
                return Err(format!(
                    "there is no key {other:?} of a secret; there are id, type, src, env"
                ));
            }
        }
    }
    let id = id.filter(|id| !id.is_empty());
    let id = id.ok_or("a secret needs an ID: id=token,src=token.txt")?;
    let given = |value: Option<String>| value.filter(|value| !value.is_empty());
    let place = match (kind.as_deref(), given(source), given(variable)) {
        (_, Some(_), Some(_)) => return Err("a secret has src or env, not both".to_owned()),
        // Docker's: the source of a variable is its name.
        (Some("env"), Some(name), None) | (None | Some("env"), None, Some(name)) => {
            Place::Variable(name)
        }
        (Some("env"), None, None) => Place::Variable(id.clone()),
        (Some("file"), None, Some(_)) => return Err("a secret of type file has src".to_owned()),
        (Some("file"), None, None) => Place::File(PathBuf::from(&id)),
        (_, Some(path), None) => Place::File(PathBuf::from(path)),
        (_, None, None) => Place::Either,
        (Some(_), None, Some(name)) => Place::Variable(name),
    };
    Ok(SecretSource { id, place })
}

/// `default`, `ID`, `ID=SOCKET`.
pub fn agent(text: &str) -> Result<AgentSource, String> {
    let (id, socket) = match text.split_once('=') {
        Some((id, socket)) => (id, Some(socket)),
        None => (text, None),
    };
    if id.is_empty() || socket == Some("") {
        return Err("an agent is default, ID, or ID=SOCKET".to_owned());
    }
    if socket.is_some_and(|socket| socket.contains(',')) {
        return Err(KEYS.to_owned());
    }
    Ok(AgentSource {
        id: id.to_owned(),
        socket: socket.map(PathBuf::from),
    })
}

const KEYS: &str = "key files are not loaded: give an agent's socket (start one with `eval $(ssh-agent)`, `ssh-add` the key, and say --ssh default)";

/// `security.insecure` or `network.host`.
pub fn entitlement(text: &str) -> Result<Entitlement, String> {
    let known = [Entitlement::SecurityInsecure, Entitlement::NetworkHost];
    let found = known.into_iter().find(|known| known.word() == text);
    found.ok_or_else(|| {
        let known = known.map(Entitlement::word).join(" and ");
        format!("there is no entitlement {text:?}; there are {known}")
    })
}

/// Reads the secrets. No error tells what is in one.
pub fn read(sources: &[SecretSource]) -> Result<BTreeMap<String, Secret>> {
    let mut secrets = BTreeMap::new();
    for source in sources {
        let variable = |name: &str| std::env::var_os(name).map(OsStringExt::into_vec);
        let bytes = match &source.place {
            Place::File(path) => file(&source.id, path)?,
            // One that is not set is empty, as in docker.
            Place::Variable(name) => variable(name).unwrap_or_default(),
            Place::Either => match variable(&source.id) {
                Some(bytes) => bytes,
                None => file(&source.id, Path::new(&source.id))?,
            },
        };
        secrets.insert(source.id.clone(), Secret(bytes));
    }
    Ok(secrets)
}

fn file(id: &str, path: &Path) -> Result<Vec<u8>> {
    let told = || format!("read secret {id:?} from {}", path.display());
    let mut bytes = Vec::new();
    let file = fs::File::open(path).with_context(told)?;
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .with_context(told)?;
    if bytes.len() as u64 > LARGEST {
        bail!(
            "secret {id:?}: {} is larger than {LARGEST} bytes; that is no secret",
            path.display()
        );
    }
    Ok(bytes)
}

/// The sockets of the agents.
pub fn sockets(sources: &[AgentSource]) -> Result<BTreeMap<String, PathBuf>> {
    let mut sockets = BTreeMap::new();
    for source in sources {
        let id = &source.id;
        let given = source.socket.clone();
        let socket = given.or_else(|| Some(PathBuf::from(std::env::var_os("SSH_AUTH_SOCK")?)));
        let Some(socket) = socket.filter(|socket| !socket.as_os_str().is_empty()) else {
            bail!("--ssh {id}: SSH_AUTH_SOCK is not set; start an agent, or say --ssh {id}=SOCKET");
        };
        let metadata = fs::metadata(&socket)
            .with_context(|| format!("--ssh {id}: look at {}", socket.display()))?;
        if !metadata.file_type().is_socket() {
            bail!("--ssh {id}: {} is no socket; {KEYS}", socket.display());
        }
        sockets.insert(id.clone(), socket);
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        let source = secret(text).unwrap();
        assert_eq!(source.id, "t", "{text}");
        source.place
    }

    #[test]
    fn secrets_are_given_as_to_docker() {
        let file = |path: &str| Place::File(PathBuf::from(path));
        let variable = |name: &str| Place::Variable(name.to_owned());
        assert_eq!(place("id=t,src=/a/b"), file("/a/b"));
        assert_eq!(place("type=file,source=b,id=t"), file("b"));
        assert_eq!(place("id=t,type=file"), file("t"));
        assert_eq!(place("id=t,env=E"), variable("E"));
        assert_eq!(place("id=t,type=env,src=E"), variable("E"));
        assert_eq!(place("id=t,type=env"), variable("t"));
        assert_eq!(place("id=t"), Place::Either);
        for (wrong, why) in [
            ("t", "KEY=VALUE"),
            ("src=x", "needs an ID"),
            ("id=,src=x", "needs an ID"),
            ("id=t,src=a,env=B", "not both"),
            ("id=t,type=vault", "file or env"),
            ("id=t,file=x", "no key \"file\""),
            ("id=t,type=file,env=X", "has src"),
        ] {
            let error = secret(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn agents_have_sockets_and_no_keys() {
        assert_eq!(agent("default").unwrap().socket, None);
        assert_eq!(agent("a=/s").unwrap().socket, Some(PathBuf::from("/s")));
        assert!(agent("a=/one,/two").unwrap_err().contains("ssh-add"));
        assert!(agent("").is_err() && agent("=x").is_err() && agent("a=").is_err());
    }

    #[test]
    fn entitlements_are_buildkits() {
        assert_eq!(
            entitlement("security.insecure"),
            Ok(Entitlement::SecurityInsecure)
        );
        assert!(entitlement("all").unwrap_err().contains("network.host"));
    }
}

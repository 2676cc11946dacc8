//! Registries as this machine, the environment and the command line have them.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

use super::args::registry::RegistryArgs;
use super::commands::sources;
use super::exit::{DiskFull, Failure};
use super::host;
use crate::executor::{Cancel, signals};
use crate::oci::Reference;
use crate::registry::{self, Client, Config, HostConfig, Sources};

/// How many blobs are moved at the same time, as docker does.
const PARALLEL: usize = 3;

/// A client that asks as the command line and the configuration say.
pub fn client(arguments: &RegistryArgs, hosts: &BTreeMap<String, HostConfig>) -> Client {
    Client::new(config(arguments, hosts), host::machine())
}

fn config(arguments: &RegistryArgs, hosts: &BTreeMap<String, HostConfig>) -> Config {
    let home = directory("HOME");
    let own = directory("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
    let mut certificate_directories = vec![
        PathBuf::from("/etc/docker/certs.d"),
        PathBuf::from("/etc/containers/certs.d"),
    ];
    if let Some(own) = &own {
        certificate_directories.push(own.join("docker/certs.d"));
        certificate_directories.push(own.join("containers/certs.d"));
    }
    Config {
        http: sources::http_settings(),
        hosts: hosts.clone(),
        certificate_directories,
        certificates: arguments.cert_dir.clone(),
        tls_verify: arguments.tls_verify,
        credentials: credentials(home, own),
        parallel: PARALLEL,
        patience: arguments.stall_timeout,
    }
}

/// Docker's file, and those of podman, buildah and skopeo (containers-auth.json(5)).
fn credentials(home: Option<PathBuf>, own: Option<PathBuf>) -> Sources {
    let config = directory("DOCKER_CONFIG").or_else(|| Some(home?.join(".docker")));
    let runtime = match directory("XDG_RUNTIME_DIR") {
        Some(runtime) => runtime.join("containers/auth.json"),
        None => PathBuf::from(format!(
            "/run/containers/{}/auth.json",
            rustix::process::geteuid().as_raw()
        )),
    };
    let mut others = vec![runtime];
    others.splice(0..0, directory("REGISTRY_AUTH_FILE"));
    others.extend(own.map(|own| own.join("containers/auth.json")));
    Sources {
        config: config.map(|directory| directory.join("config.json")),
        others,
        given: None,
    }
}

fn directory(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).filter(|value| !value.is_empty())?;
    Some(PathBuf::from(value))
}

/// What a registry's image is called; `docker://` before it is understood.
pub fn reference(text: &str) -> Result<Reference, String> {
    let name = text.strip_prefix("docker://").unwrap_or(text);
    name.parse::<Reference>().map_err(|error| error.to_string())
}

/// A cancellation by Ctrl-C and its like.
pub fn cancellation() -> super::Result<Cancel> {
    let cancel = Cancel::new()?;
    signals::on_interrupt(cancel.clone());
    Ok(cancel)
}

/// An error of a registry as the command's.
pub fn told(error: registry::Error) -> anyhow::Error {
    let full = error.is_no_space();
    let error = match error {
        registry::Error::Interrupted => {
            Failure::Interrupted(signals::received().unwrap_or(libc::SIGINT)).into()
        }
        registry::Error::Store(error) => error.into(),
        error => anyhow::Error::new(error),
    };
    match full {
        true => DiskFull {
            error,
            advice: None,
        }
        .into(),
        false => error,
    }
}

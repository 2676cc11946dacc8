//! `[registry."HOST"]`: how one registry is reached, and who is asked before it.
//!
//! Neither docker's `daemon.json` nor podman's `registries.conf` is read: the one is a daemon's, and
//! of the other (short names, prefixes, blocked registries) a part alone would be worse than none.

use std::path::PathBuf;

use super::absolute;
use super::table::Table;
use crate::cli::Result;
use crate::oci::Reference;
use crate::registry::{HostConfig, check_mirror};

/// Reads the table of a registry. Returns the registry as names of images have it.
pub fn take(name: &str, table: &mut Table) -> Result<(String, HostConfig)> {
    let mirror = |text: &str| check_mirror(text).map(|()| text.to_owned());
    let mirrors: Vec<String> = table.list("mirrors", mirror)?.unwrap_or_default();
    let fallback = table.boolean("fallback")?;
    let insecure = table.boolean("insecure")?.unwrap_or_default();
    let authority = table.parsed("ca", absolute)?;
    let certificate: Option<PathBuf> = table.parsed("cert", absolute)?;
    let key = table.parsed("key", absolute)?;
    let Some(domain) = domain(name) else {
        return Err(table.error(format!(
            "{name:?} is no registry: it is a host, perhaps with a port, as in [registry.\"docker.io\"]"
        )));
    };
    if fallback.is_some() && mirrors.is_empty() {
        return Err(table.error(
            "fallback says whether the registry is asked after its mirrors, and there are none",
        ));
    }
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err(table.error("cert and key belong together")),
    };
    let config = HostConfig {
        mirrors,
        only_mirrors: fallback == Some(false),
        insecure,
        authority,
        client,
    };
    Ok((domain, config))
}

/// The registry that a host stands for: docker's own has several.
fn domain(name: &str) -> Option<String> {
    let reference = format!("{name}/a/b").parse::<Reference>().ok()?;
    // Else the host was taken for a part of the path.
    (reference.path == "a/b").then_some(reference.domain)
}

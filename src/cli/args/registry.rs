//! What every verb takes that asks a registry.

use std::path::PathBuf;
use std::time::Duration;

/// How registries are reached.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Registries")]
pub struct RegistryArgs {
    /// Whether registries must prove by a certificate who they are; =false also lets them speak HTTP
    ///
    /// Without it, a registry on the loopback device may speak HTTP, and every other one must have
    /// a certificate that the system or certs.d vouches for.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub tls_verify: Option<bool>,
    /// A directory of certificates: *.crt are authorities, *.cert and *.key are ours [default: certs.d/HOST of /etc/docker, /etc/containers]
    #[arg(
        long,
        value_name = "DIR",
        env = "RSTORE_CERT_DIR",
        hide_env_values = true
    )]
    pub cert_dir: Option<PathBuf>,
    /// How long a registry may send next to nothing before it is asked anew
    #[arg(long, value_name = "SECONDS", default_value = "60", env = "RSTORE_STALL_TIMEOUT", hide_env_values = true, value_parser = seconds)]
    pub stall_timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("a number of seconds, from 1 to 86400".to_owned()),
    }
}

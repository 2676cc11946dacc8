//! `rstore login` and `rstore logout`: who we are to a registry.

use std::io::{self, BufRead, Read, Write};

use anyhow::Context as _;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::cli::args::registry::RegistryArgs;
use crate::cli::{Context, Result, exit, registries};
use crate::registry::credentials::Kept;
use crate::registry::{Client, Config, Login, pull};

/// No password and no token is longer.
const LONGEST: u64 = 64 << 10;

/// Log in to a registry
///
/// Asks the registry whether it takes user and password, and keeps them where docker does: in
/// $DOCKER_CONFIG/config.json (~/.docker), or with the credential helper that it names. Logins of
/// docker, and those of podman's auth.json, hold here without this.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore login registry.example
  pass registry | rstore login -u me --password-stdin registry.example")]
pub struct LoginArgs {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io", value_parser = server)]
    pub registry: String,
    /// The user
    #[arg(short, long, value_name = "USER")]
    pub username: Option<String>,
    /// The password; other users of this machine may see it: --password-stdin is safer
    #[arg(
        short,
        long,
        value_name = "PASSWORD",
        conflicts_with = "password_stdin"
    )]
    pub password: Option<String>,
    /// Read the password from stdin
    #[arg(long)]
    pub password_stdin: bool,
    #[command(flatten)]
    pub access: RegistryArgs,
}

/// Forget the login to a registry
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore logout registry.example")]
pub struct LogoutArgs {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io", value_parser = server)]
    pub registry: String,
    #[command(flatten)]
    pub access: RegistryArgs,
}

/// A registry's name, as images have it; a URL is understood.
fn server(text: &str) -> Result<String, String> {
    let bare = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .unwrap_or(text);
    let bare = bare.split('/').next().unwrap_or_default();
    let reference = registries::reference(&format!("{bare}/x"))?;
    match bare {
        "index.docker.io" | "registry-1.docker.io" => Ok("docker.io".to_owned()),
        bare if reference.domain == bare => Ok(reference.domain),
        _ => Err("that is no registry's host, with a dot, a port, or localhost".to_owned()),
    }
}

/// Runs `login`.
pub fn login(arguments: &LoginArgs, context: &mut Context) -> Result {
    let user = match &arguments.username {
        Some(user) => user.clone(),
        None if context.terminal.stdin && !arguments.password_stdin => ask("Username: ", true)?,
        None => return Err(exit::usage_error("-u says who logs in")),
    };
    let password = match &arguments.password {
        Some(password) => {
            context.tell(
                "notice: a password on the command line may be seen by others: --password-stdin is safer",
            );
            password.clone()
        }
        None if arguments.password_stdin => from_stdin()?,
        None if context.terminal.stdin => ask("Password: ", false)?,
        None => {
            return Err(exit::usage_error(
                "--password-stdin reads the password where stdin is no terminal",
            ));
        }
    };
    if user.is_empty() || password.is_empty() || user.contains(':') {
        return Err(exit::usage_error(
            "user and password must not be empty, and a user has no colon",
        ));
    }
    let cancel = registries::cancellation()?;
    let client = registries::client(&arguments.access, &context.config.registries);
    let credentials = client.config().credentials.clone();
    let login = Login::Password {
        user: user.clone(),
        password: password.clone(),
    };
    let asking = client.with_login(login);
    pull::check(&asking, &arguments.registry, &cancel).map_err(registries::told)?;
    let kept = credentials
        .keep(&arguments.registry, &user, &password)
        .map_err(registries::told)?;
    if let Kept::File(file) = kept {
        context.tell(&format!(
            "notice: the password is kept as it is in {}; a credential helper (credsStore there) keeps it safer",
            file.display()
        ));
    }
    writeln!(context.out, "Login Succeeded")?;
    Ok(())
}

/// Runs `logout`.
pub fn logout(arguments: &LogoutArgs, context: &mut Context) -> Result {
    let client: Client = registries::client(&arguments.access, &context.config.registries);
    let Config { credentials, .. } = client.config();
    let registry = &arguments.registry;
    let found = credentials.forget(registry).map_err(registries::told)?;
    match found {
        true => writeln!(context.out, "Removing login credentials for {registry}")?,
        false => writeln!(context.out, "Not logged in to {registry}")?,
    }
    Ok(())
}

fn from_stdin() -> Result<String> {
    let mut text = String::new();
    let read = io::stdin().lock().take(LONGEST).read_to_string(&mut text);
    read.context("read the password from stdin")?;
    // One line end is the writer's, not the password's.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// A line from the terminal; `shown`: what is typed can be seen.
fn ask(prompt: &str, shown: bool) -> Result<String> {
    let stdin = io::stdin();
    write!(io::stderr(), "{prompt}")?;
    io::stderr().flush()?;
    let before = tcgetattr(&stdin)?;
    if !shown {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    }
    let mut line = String::new();
    let read = stdin.lock().take(LONGEST).read_line(&mut line);
    if !shown {
        tcsetattr(&stdin, OptionalActions::Now, &before)?;
    }
    read.context("read from the terminal")?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

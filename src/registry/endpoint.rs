//! Where a registry is, and how it is reached: its host, HTTPS or HTTP, whom we believe.
//!
//! | the registry | is asked by |
//! |---|---|
//! | any | HTTPS, with the system's certificates and those of its directory |
//! | on the loopback device | HTTP, if it answers to that; else HTTPS |
//! | configured as insecure, or under `--tls-verify=false` | HTTPS, whoever answers; else HTTP |
//! | a mirror written as `http://…` | HTTP |
//!
//! The directory is docker's: `HOST[:PORT]/*.crt` are trusted authorities, `*.cert` with its `*.key`
//! is what we show.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use super::auth::State;
use super::credentials::DOCKER;
use super::error::{Error, Result};
use super::session::{Response, short};
use super::{Client, Config, HostConfig, Stop};
use crate::fsutil::{self, IoContext};
use crate::http::{self, Agents, Trust, url::Url};

/// The host of docker's registry.
const DOCKER_HOST: &str = "registry-1.docker.io";

/// A registry, or a mirror of one.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// What people call it, and credentials are kept for.
    pub name: String,
    /// Host and port.
    host: String,
    /// What comes before repositories: empty, or with a slash at its end.
    prefix: String,
    /// How it may be reached.
    safety: Safety,
    agents: Agents,
    scheme: OnceLock<&'static str>,
    /// Held while the scheme is being found out.
    finding: Mutex<()>,
    pub auth: Mutex<State>,
}

/// How much of HTTPS a registry need not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Safety {
    /// Nothing.
    Verified,
    /// It may speak HTTP, being on this machine.
    Loopback,
    /// It may be anybody, and speak HTTP.
    Insecure,
    /// It speaks HTTP.
    Plain,
}

/// A mirror's safety, host, and prefix: `HOST[:PORT][/PREFIX]`, perhaps with its scheme.
pub(super) fn mirror_parts(text: &str) -> Result<(Option<Safety>, &str, String), String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let plain = match scheme {
        None | Some("https") => None,
        Some("http") => Some(Safety::Plain),
        Some(_) => return Err("a mirror is asked by http:// or https://".to_owned()),
    };
    let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_matches('/');
    let odd = |c: char| c.is_whitespace() || matches!(c, '@' | '?' | '#' | '"');
    if host.is_empty() || text.contains(odd) {
        return Err("a mirror is a host, perhaps with a port and a path".to_owned());
    }
    let prefix = match prefix {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    Ok((plain, host, prefix))
}

impl Endpoint {
    /// The registry of a name's domain.
    pub fn of(config: &Config, domain: &str) -> Result<Endpoint> {
        let host = match domain {
            DOCKER => DOCKER_HOST,
            other => other,
        };
        Endpoint::new(config, domain, host, "", None)
    }

    /// A mirror ([`mirror_parts`]).
    pub fn mirror(config: &Config, text: &str) -> Result<Endpoint> {
        let (plain, host, prefix) = mirror_parts(text).map_err(|why| Error::Refused {
            what: format!("the mirror {text:?}"),
            why,
        })?;
        Endpoint::new(config, host, host, &prefix, plain)
    }

    fn new(
        config: &Config,
        name: &str,
        host: &str,
        prefix: &str,
        plain: Option<Safety>,
    ) -> Result<Endpoint> {
        let settings = config.hosts.get(name);
        let insecure = match config.tls_verify {
            Some(verify) => !verify,
            None => settings.is_some_and(|settings| settings.insecure),
        };
        let safety = match plain {
            Some(safety) => safety,
            None if insecure => Safety::Insecure,
            None if config.tls_verify.is_none() && http::is_direct(host, "") => Safety::Loopback,
            None => Safety::Verified,
        };
        let trust = Trust {
            anybody: safety == Safety::Insecure,
            ..trust(config, settings, host)?
        };
        Ok(Endpoint {
            name: name.to_owned(),
            host: host.to_owned(),
            prefix: prefix.to_owned(),
            safety,
            agents: Agents::new(&config.http, trust, config.patience),
            scheme: OnceLock::new(),
            finding: Mutex::new(()),
            auth: Mutex::default(),
        })
    }

    /// Who asks for a URL.
    pub fn agent(&self, url: &Url) -> Result<&ureq::Agent> {
        Ok(self.agents.of(url)?)
    }

    /// The repository of this endpoint that a name's path means.
    pub fn repository(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Whether what is meant for it may go to a host without TLS: of one that is on this machine,
    /// not to other machines.
    pub fn may_be_plain(&self, host: &str) -> bool {
        match self.safety {
            Safety::Verified => false,
            Safety::Loopback => http::is_direct(host, ""),
            Safety::Insecure | Safety::Plain => true,
        }
    }

    /// `SCHEME://HOST/v2/…`
    pub fn url(&self, client: &Client, path: &str, stop: &Stop) -> Result<Url> {
        let scheme = self.scheme(client, stop)?;
        let text = format!("{scheme}://{}/v2/{path}", self.host);
        Url::parse(&text).ok_or_else(|| Error::Refused {
            what: text,
            why: "it is no URL".to_owned(),
        })
    }

    /// The same by a guess, where it is not known how it is reached: the answer tells.
    pub fn guessed_url(&self, client: &Client, path: &str, stop: &Stop) -> Result<Url> {
        if !self.is_guess() {
            return self.url(client, path, stop);
        }
        let text = format!("http://{}/v2/{path}", self.host);
        Url::parse(&text).ok_or_else(|| Error::Refused {
            what: text,
            why: "it is no URL".to_owned(),
        })
    }

    /// Whether [`Endpoint::guessed_url`] guesses: on this machine, by HTTP.
    pub fn is_guess(&self) -> bool {
        self.safety == Safety::Loopback && self.scheme.get().is_none()
    }

    /// Takes it for known that it speaks HTTP, if that is what an answer to a guess says.
    pub fn learn(&self, answer: &Response) -> bool {
        let plain = is_plain(answer);
        if plain {
            self.scheme.get_or_init(|| "http");
        }
        plain
    }

    /// How it is reached: found out once, where there is a choice.
    fn scheme(&self, client: &Client, stop: &Stop) -> Result<&'static str> {
        match self.safety {
            Safety::Verified => return Ok("https"),
            Safety::Plain => return Ok("http"),
            Safety::Loopback | Safety::Insecure => {}
        }
        let _one = self
            .finding
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(scheme) = self.scheme.get() {
            return Ok(scheme);
        }
        stop.check()?;
        // Nobody can listen in on this machine, and most registries here have no certificate.
        let scheme = match self.safety == Safety::Loopback && self.answers_to_http(client)? {
            true => "http",
            false => self.look_for_tls(client)?,
        };
        Ok(self.scheme.get_or_init(|| scheme))
    }

    /// Asks the registry whether it is one.
    fn ask(&self, client: &Client, scheme: &str) -> Result<Result<Response, ureq::Error>> {
        let text = format!("{scheme}://{}/v2/", self.host);
        let Some(url) = Url::parse(&text) else {
            return Ok(Err(ureq::Error::BadUri(text)));
        };
        Ok(client.probe(self.agent(&url)?, &url))
    }

    /// Whether it speaks HTTP, and does not want HTTPS spoken.
    fn answers_to_http(&self, client: &Client) -> Result<bool> {
        let Ok(response) = self.ask(client, "http")? else {
            return Ok(false);
        };
        let plain = is_plain(&response);
        // Read to its end, so that the connection serves the next question.
        drop(short(response));
        Ok(plain)
    }

    fn look_for_tls(&self, client: &Client) -> Result<&'static str> {
        match self.ask(client, "https")? {
            Ok(_) => Ok("https"),
            // It does speak TLS, and isn't whom it should be.
            Err(error) if is_certificate(&error) => {
                Err(failed(&format!("https://{}", self.host), &error))
            }
            Err(error) => match self.ask(client, "http")? {
                // So those answer who speak TLS only; and have hung up on us before.
                Ok(answer) if answer.status() == 400 => Err(Error::Failed {
                    url: format!("https://{}", self.host),
                    why: format!("{}; {OURS}", http::told(&error)),
                    again: false,
                }),
                Ok(_) => Ok("http"),
                Err(_) => Err(failed(&format!("https://{}", self.host), &error)),
            },
        }
    }
}

/// Whether an answer to HTTP says that HTTP is spoken: 400 is what servers of TLS say to those who
/// speak none, a redirect what leads there.
fn is_plain(response: &Response) -> bool {
    let status = response.status().as_u16();
    status != 400 && !(300..400).contains(&status)
}

/// What to do where it is we who must prove something.
const OURS: &str = "it may want a certificate of ours: client.cert and client.key in certs.d/HOST/, or in the directory that --cert-dir names";

/// Whether it was the certificate that was not as it should be: theirs, or ours.
pub(super) fn is_certificate(error: &ureq::Error) -> bool {
    let text = tls_words(error);
    text.contains("certificate") || text.contains("UnknownIssuer") || is_ours(&text)
}

fn tls_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Rustls(error) => error.to_string(),
        _ => String::new(),
    }
}

/// Whether the server has hung up for want of a certificate that it likes (RFC 8446, 6.2).
fn is_ours(text: &str) -> bool {
    let alerts = [
        "CertificateRequired",
        "BadCertificate",
        "UnsupportedCertificate",
        "CertificateExpired",
        "CertificateUnknown",
        "UnknownCA",
    ];
    text.contains("fatal alert") && alerts.iter().any(|alert| text.contains(alert))
}

/// Why a URL gave nothing, and whether asking again may help.
pub(super) fn failed(url: &str, error: &ureq::Error) -> Error {
    let again = match error {
        ureq::Error::Io(io) => {
            io.kind() != ErrorKind::ConnectionRefused
                && !is_certificate(error)
                && !http::is_unknown_host(io)
        }
        ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => true,
        _ => false,
    };
    let why = match is_certificate(error) {
        true if is_ours(&tls_words(error)) => format!("{error}; {OURS}"),
        true => format!(
            "{error}; its authority's certificate belongs into certs.d/HOST/ca.crt, --cert-dir names another directory, --tls-verify=false believes anybody"
        ),
        false => http::told(error),
    };
    Error::Failed {
        url: url.to_owned(),
        why,
        again,
    }
}

/// What the configuration and the directories of certificates have for a host.
fn trust(config: &Config, settings: Option<&HostConfig>, host: &str) -> Result<Trust> {
    let mut trust = Trust::default();
    let mut directories: Vec<PathBuf> = match &config.certificates {
        Some(directory) => vec![directory.clone()],
        None => Vec::new(),
    };
    if directories.is_empty() {
        let places = config.certificate_directories.iter();
        directories.extend(places.map(|place| place.join(host)));
        trust = configured(settings)?;
    }
    for directory in directories {
        for file in files(&directory)? {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => trust.authorities.push(file),
                Some("cert") => {
                    let key = file.with_extension("key");
                    if !key.exists() {
                        return Err(Error::Refused {
                            what: file.display().to_string(),
                            why: format!("its key, {}, is missing", key.display()),
                        });
                    }
                    trust.client.get_or_insert((file, key));
                }
                _ => {}
            }
        }
    }
    Ok(trust)
}

/// What the configuration says of a host. Files that it names are to be there.
fn configured(settings: Option<&HostConfig>) -> Result<Trust> {
    let mut trust = Trust::default();
    if let Some(settings) = settings {
        trust.authorities.extend(settings.authority.clone());
        trust.client.clone_from(&settings.client);
    }
    let client = trust.client.iter();
    let files = client.flat_map(|(certificate, key)| [certificate, key]);
    for file in files.chain(&trust.authorities) {
        fs::metadata(file).at("stat", file)?;
    }
    Ok(trust)
}

/// The files of a directory, by name; none, where there is no such directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(fsutil::Error::new("read", directory, error).into()),
    };
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.at("read", directory)?.path());
    }
    files.sort();
    Ok(files)
}

/// The registries to ask for a name: the mirrors of its own, then itself, unless only they are to be
/// asked.
pub(super) fn sources(client: &Client, domain: &str) -> Result<Vec<Arc<Endpoint>>> {
    let mut found = Vec::new();
    let settings = client.config().hosts.get(domain);
    for mirror in settings.iter().flat_map(|settings| &settings.mirrors) {
        found.push(client.endpoint(mirror, |config| Endpoint::mirror(config, mirror))?);
    }
    if found.is_empty() || settings.is_none_or(|settings| !settings.only_mirrors) {
        found.push(client.registry(domain)?);
    }
    Ok(found)
}

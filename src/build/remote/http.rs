//! A file behind a URL.
//!
//! - Redirects are followed by us: user and password go to the server that they were given for,
//!   and to no other.
//! - A body is written to a file and hashed on its way, as it is sent: no encoding is asked for.
//!   One that is shorter than was announced is an error.
//! - Each wait has an end: for the connection, for the answer, for the next bytes. The whole has
//!   none, since files may be large.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

use super::time::http_date;
use super::url::{Url, decoded, redacted};
use crate::executor::Cancel;
use crate::fsutil::{self, IoContext};
use crate::oci::Digest;
use crate::oci::digest::Hasher;

const CONNECT: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(120);
const READ: Duration = Duration::from_secs(60);
const MOST_REDIRECTS: usize = 10;

/// How servers are reached.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The proxy for `http` URLs.
    pub http_proxy: Option<String>,
    /// The proxy for `https` URLs.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without one: names, `.domains`, addresses, or `*`, with commas.
    pub no_proxy: String,
    /// Files of PEM certificates that are trusted: all that exist are read, at the first `https`.
    pub certificates: Vec<PathBuf>,
}

/// Why a URL gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URL that can be asked for.
    #[error("{url:?} is no URL that can be fetched: {why}")]
    Bad {
        /// The URL, without its password.
        url: String,
        /// Why.
        why: String,
    },
    /// The server says no.
    #[error("{url}: the server answers {status}{}", meaning(*.status))]
    Status {
        /// The URL, without its password.
        url: String,
        /// The status code.
        status: u16,
    },
    /// The server cannot be reached, or doesn't speak HTTP.
    #[error("{url}: {why}")]
    Failed {
        /// The URL, without its password.
        url: String,
        /// Why.
        why: String,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Io(#[from] fsutil::Error),
    /// Somebody asked for the end.
    #[error("interrupted")]
    Interrupted,
}

fn meaning(status: u16) -> &'static str {
    match status {
        401 => " (unauthorized: it wants a user and a password)",
        403 => " (forbidden)",
        404 => " (not found)",
        407 => " (the proxy wants a user and a password)",
        410 => " (gone)",
        429 => " (too many requests: try again later)",
        500..=599 => " (an error of the server: try again later)",
        _ => "",
    }
}

impl Error {
    /// "Not modified" where nothing was said of what there was.
    pub(super) fn unasked(url: &str) -> Error {
        Error::Status {
            url: redacted(url),
            status: 304,
        }
    }
}

/// What a server answered.
#[derive(Debug)]
pub enum Answer {
    /// What the tag named is what there still is.
    Unchanged,
    /// A file.
    File(File),
}

/// A file that was fetched.
#[derive(Debug)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// Its digest.
    pub digest: Digest,
    /// The server's word for this state of it, without `W/`.
    pub etag: Option<String>,
    /// `Last-Modified`, in seconds since the epoch.
    pub modified: Option<i64>,
}

/// Asks servers. A clone shares its connections.
#[derive(Debug, Clone)]
pub struct Client {
    settings: Arc<Settings>,
    agent: Arc<OnceLock<ureq::Agent>>,
}

impl Client {
    /// A client that has not asked yet.
    pub fn new(settings: Settings) -> Client {
        Client {
            settings: Arc::new(settings),
            agent: Arc::default(),
        }
    }

    /// Fetches a URL into the new file `path`, unless it still is what `etag` names.
    pub fn get(
        &self,
        url: &str,
        etag: Option<&str>,
        path: &Path,
        cancel: &Cancel,
    ) -> Result<Answer, Error> {
        let bad = |why: &str| Error::Bad {
            url: redacted(url),
            why: why.to_owned(),
        };
        let mut current = Url::parse(url).ok_or_else(|| bad("it has no scheme"))?;
        let first = current.clone();
        for _ in 0..=MOST_REDIRECTS {
            if !matches!(current.scheme.as_str(), "http" | "https") || current.host.is_empty() {
                return Err(bad("only http:// and https:// can"));
            }
            let user = match &current.user {
                None if current.same_origin(&first) => first.user.as_deref(),
                own => own.as_deref(),
            };
            let response = self.ask(&current, user, etag)?;
            let header = |name: &str| {
                let value = response.headers().get(name)?;
                value.to_str().ok().map(str::to_owned)
            };
            let status = response.status().as_u16();
            let tag = header("etag").map(|tag| tag.trim_start_matches("W/").to_owned());
            match status {
                301 | 302 | 303 | 307 | 308 => {
                    let location = header("location").and_then(|to| current.join(&to));
                    current = location.ok_or_else(|| bad("it is redirected to nowhere"))?;
                }
                304 if etag.is_some() => return Ok(Answer::Unchanged),
                // Some servers send the tag and never look at it.
                200 if etag.is_some() && tag.as_deref() == etag => return Ok(Answer::Unchanged),
                200..=299 => {
                    let modified = header("last-modified").and_then(|text| http_date(&text));
                    let announced = header("content-length").and_then(|n| n.parse().ok());
                    let body = response.into_body();
                    let digest = save(body, announced, path, &shown(&current), cancel)?;
                    return Ok(Answer::File(File {
                        path: path.to_path_buf(),
                        digest,
                        etag: tag,
                        modified,
                    }));
                }
                status => {
                    let url = shown(&current);
                    return Err(Error::Status { url, status });
                }
            }
        }
        Err(bad("it is redirected more than ten times"))
    }

    fn ask(
        &self,
        url: &Url,
        user: Option<&str>,
        etag: Option<&str>,
    ) -> Result<ureq::http::Response<ureq::Body>, Error> {
        let failed = |error: ureq::Error| Error::Failed {
            url: shown(url),
            why: told(&error),
        };
        let agent = self.agent()?;
        let mut request = agent
            .get(url.request())
            .config()
            .proxy(self.proxy(url)?)
            .build();
        if let Some(user) = user {
            let user = base64::engine::general_purpose::STANDARD.encode(decoded(user));
            request = request.header("authorization", format!("Basic {user}"));
        }
        if let Some(etag) = etag {
            request = request.header("if-none-match", etag);
        }
        request.call().map_err(failed)
    }

    fn agent(&self) -> Result<&ureq::Agent, Error> {
        if let Some(agent) = self.agent.get() {
            return Ok(agent);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&self.certificates()?))
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(READ))
            .user_agent(concat!("rstore/", env!("CARGO_PKG_VERSION")))
            .accept("*/*")
            .build();
        Ok(self
            .agent
            .get_or_init(|| ureq::Agent::new_with_config(config)))
    }

    fn certificates(&self) -> Result<Vec<Certificate<'static>>, Error> {
        let mut found = Vec::new();
        for path in &self.settings.certificates {
            let pem = match fs::read(path) {
                Ok(pem) => pem,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(fsutil::Error::new("read", path, error).into()),
            };
            let items = ureq::tls::parse_pem(&pem);
            found.extend(items.filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            }));
        }
        Ok(found)
    }

    /// The proxy that leads to a URL.
    fn proxy(&self, url: &Url) -> Result<Option<ureq::Proxy>, Error> {
        let proxy = match url.scheme.as_str() {
            "https" => &self.settings.https_proxy,
            _ => &self.settings.http_proxy,
        };
        let Some(text) = proxy.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        if is_direct(&url.host, &self.settings.no_proxy) {
            return Ok(None);
        }
        let proxy = ureq::Proxy::new(text).map_err(|error| Error::Bad {
            url: redacted(text),
            why: format!("as a proxy: {error}"),
        })?;
        Ok(Some(proxy))
    }
}

/// Whether a host is reached without a proxy: this machine always is.
fn is_direct(host: &str, exceptions: &str) -> bool {
    let bare = |host: &str| {
        let host = host.to_ascii_lowercase();
        if let Some(rest) = host.strip_prefix('[') {
            return rest.split(']').next().unwrap_or(rest).to_owned();
        }
        match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name.to_owned(),
            _ => host,
        }
    };
    let name = bare(host);
    let address = name.parse::<std::net::IpAddr>().ok();
    if name == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    exceptions.split(',').map(str::trim).any(|exception| {
        if exception == "*" {
            return true;
        }
        let exception = bare(exception);
        let domain = exception.trim_start_matches('*').trim_start_matches('.');
        !domain.is_empty()
            && (name == domain
                || name
                    .strip_suffix(domain)
                    .is_some_and(|rest| rest.ends_with('.')))
    })
}

/// A URL as errors show it: without user, password, and the query, which may be a signature.
fn shown(url: &Url) -> String {
    let url = Url {
        query: None,
        ..url.clone()
    };
    url.request()
}

/// What is wrong, in words that say what to look at.
fn told(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "the host is not known: is its name right?".to_owned(),
        ureq::Error::Timeout(what) => format!("no answer in time ({what})"),
        ureq::Error::ConnectionFailed => "the server cannot be reached".to_owned(),
        ureq::Error::Io(error) if error.to_string().contains("certificate") => format!(
            "{error}; SSL_CERT_FILE names a file of certificates to trust instead of the system's"
        ),
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

fn save(
    body: ureq::Body,
    announced: Option<u64>,
    path: &Path,
    url: &str,
    cancel: &Cancel,
) -> Result<Digest, Error> {
    let failed = |why: String| Error::Failed {
        url: url.to_owned(),
        why,
    };
    let mut out = fs::File::create_new(path).at("create", path)?;
    let mut body = body.into_reader();
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    let mut length = 0u64;
    loop {
        if cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(failed(format!("after {length} bytes: {error}; try again")));
            }
        };
        hasher.update(&buffer[..count]);
        out.write_all(&buffer[..count]).at("write", path)?;
        length += count as u64;
    }
    if let Some(announced) = announced.filter(|announced| *announced != length) {
        return Err(failed(format!(
            "the server sent {length} bytes of the {announced} that it announced; try again"
        )));
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::is_direct;

    #[test]
    fn no_proxy_names_hosts_and_domains() {
        let list = "example.com, .corp,10.0.0.7,*.wild:8080";
        for host in [
            "example.com:443",
            "a.example.com",
            "x.corp",
            "10.0.0.7",
            "b.wild",
        ] {
            assert!(is_direct(host, list), "{host}");
        }
        for host in ["notexample.com", "corporate", "10.0.0.70", "wilder"] {
            assert!(!is_direct(host, list), "{host}");
        }
        assert!(is_direct("anything", "*") && !is_direct("anything", ""));
        assert!(is_direct("127.0.0.1:80", "") && is_direct("[::1]:80", ""));
    }
}

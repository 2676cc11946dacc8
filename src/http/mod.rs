//! How other machines are asked over HTTP: the agent, what it trusts, proxies, URLs, dates. What is
//! asked, and what is made of the answers, is for those who ask.
//!
//! - Nothing is followed by itself: whoever asks looks at redirects, so that user and password go
//!   to the server that they were given for, and to no other.
//! - Each wait has an end: for the connection, for the answer, for the next bytes. The whole has
//!   none, since files may be large.
//! - The library reads no environment: proxies and certificates are [`Settings`].

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use ureq::tls::{Certificate, ClientCert, PemItem, RootCerts, TlsConfig};

use crate::executor::Cancel;
use crate::fsutil::{self, IoContext};

pub mod time;
pub mod url;

use url::{Url, redacted};

const CONNECT: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(120);

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

/// Whom a server must be to be believed, besides or instead of what [`Settings`] say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Files of PEM certificates that are trusted as well.
    pub authorities: Vec<PathBuf>,
    /// Files of the certificate and of the key that we show.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whoever it is.
    pub anybody: bool,
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URL that can be asked, or not a proxy.
    #[error("{url:?} is no URL that can be fetched: {why}")]
    Bad {
        /// The URL, without its password.
        url: String,
        /// Why.
        why: String,
    },
    /// A certificate cannot be read.
    #[error(transparent)]
    Io(#[from] fsutil::Error),
}

/// The agents of one trust: certificates, which take milliseconds to read, are read when the first
/// server is asked that needs them.
#[derive(Debug)]
pub struct Agents {
    settings: Settings,
    trust: Trust,
    patience: Duration,
    plain: ureq::Agent,
    secure: OnceLock<ureq::Agent>,
}

impl Agents {
    /// Agents that have asked nobody. `patience`: how long a server may be silent within a body.
    pub fn new(settings: &Settings, trust: Trust, patience: Duration) -> Agents {
        Agents {
            settings: settings.clone(),
            trust,
            patience,
            plain: with_tls(TlsConfig::builder().build(), patience),
            secure: OnceLock::new(),
        }
    }

    /// The one for a URL.
    pub fn of(&self, url: &Url) -> Result<&ureq::Agent, Error> {
        let proxy = self.settings.http_proxy.as_deref().unwrap_or_default();
        if url.scheme == "http" && !proxy.starts_with("https:") {
            return Ok(&self.plain);
        }
        if let Some(agent) = self.secure.get() {
            return Ok(agent);
        }
        let agent = agent(&self.settings, &self.trust, self.patience)?;
        Ok(self.secure.get_or_init(|| agent))
    }
}

/// An agent that asks. `patience`: how long a server may be silent within a body.
pub fn agent(settings: &Settings, trust: &Trust, patience: Duration) -> Result<ureq::Agent, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = Vec::new();
    for path in settings.certificates.iter().chain(&trust.authorities) {
        for item in pem(path)? {
            if let PemItem::Certificate(certificate) = item {
                roots.push(certificate);
            }
        }
    }
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .client_cert(client(trust)?)
        .disable_verification(trust.anybody)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    Ok(with_tls(tls, patience))
}

fn with_tls(tls: TlsConfig, patience: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(ANSWER))
        .timeout_per_read(Some(patience))
        .timeout_per_write(Some(patience))
        .user_agent(concat!("rstore/", env!("CARGO_PKG_VERSION")))
        .accept("*/*")
        .build();
    ureq::Agent::new_with_config(config)
}

/// What is in a file of PEM; nothing, where there is no such file.
fn pem(path: &std::path::Path) -> Result<Vec<PemItem<'static>>, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fsutil::Error::new("read", path, error).into()),
    };
    Ok(ureq::tls::parse_pem(&text).filter_map(Result::ok).collect())
}

fn client(trust: &Trust) -> Result<Option<ClientCert>, Error> {
    let Some((certificate, key)) = &trust.client else {
        return Ok(None);
    };
    let mut chain: Vec<Certificate<'static>> = Vec::new();
    for item in pem(certificate)? {
        if let PemItem::Certificate(certificate) = item {
            chain.push(certificate);
        }
    }
    let private = pem(key)?.into_iter().find_map(|item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    });
    let none = || std::io::Error::other("there is no private key in it");
    let private = private.ok_or_else(none).at("read", key)?;
    Ok(Some(ClientCert::new_with_certs(&chain, private)))
}

/// `Basic` and `user:password`, as the header has it.
pub fn basic(user: &str) -> String {
    let user = base64::engine::general_purpose::STANDARD.encode(user);
    format!("Basic {user}")
}

/// The proxy that leads to a URL.
pub fn proxy(settings: &Settings, url: &Url) -> Result<Option<ureq::Proxy>, Error> {
    let proxy = match url.scheme.as_str() {
        "https" => &settings.https_proxy,
        _ => &settings.http_proxy,
    };
    let Some(text) = proxy.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if is_direct(&url.host, &settings.no_proxy) {
        return Ok(None);
    }
    let proxy = ureq::Proxy::new(text).map_err(|error| Error::Bad {
        url: redacted(text),
        why: format!("as a proxy: {error}"),
    })?;
    Ok(Some(proxy))
}

/// Does something that may take long on a thread of its own, which is left to itself when somebody
/// asks for the end (`None`): what waits for another machine cannot be woken.
pub fn unless_cancelled<T: Send + 'static>(
    cancel: &Cancel,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    begin(work).wait(cancel)
}

/// Begins something that may take long, on a thread of its own.
pub fn begin<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Pending<T> {
    let (sender, result) = channel();
    std::thread::spawn(move || drop(sender.send(work())));
    Pending(result)
}

/// What somebody is at work on; left to itself when it is dropped.
#[derive(Debug)]
pub struct Pending<T>(Receiver<T>);

impl<T> Pending<T> {
    /// Waits for it; `None`: somebody has asked for the end.
    pub fn wait(self, cancel: &Cancel) -> Option<T> {
        loop {
            match self.0.recv_timeout(Duration::from_millis(50)) {
                Ok(value) => return Some(value),
                Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => return None,
                Err(RecvTimeoutError::Timeout) => {}
                // It panicked, which has been told.
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

/// Whether a host is reached without a proxy: this machine always is.
pub fn is_direct(host: &str, exceptions: &str) -> bool {
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
pub fn shown(url: &Url) -> String {
    let url = Url {
        query: None,
        ..url.clone()
    };
    url.request()
}

const UNKNOWN_HOST: &str = "the host is not known: is its name right?";

/// Whether nobody knows the name, and asking again won't help (getaddrinfo(3), `EAI_NONAME`,
/// `EAI_NODATA`): the standard library has but the words.
pub fn is_unknown_host(error: &std::io::Error) -> bool {
    let text = error.to_string();
    text.contains("Name or service not known")
        || text.contains("No address associated with hostname")
        || text.contains("Name does not resolve")
}

/// What is wrong, in words that say what to look at.
pub fn told(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => UNKNOWN_HOST.to_owned(),
        ureq::Error::Io(error) if is_unknown_host(error) => UNKNOWN_HOST.to_owned(),
        ureq::Error::Timeout(what) => format!("no answer in time ({what})"),
        ureq::Error::ConnectionFailed => "the server cannot be reached".to_owned(),
        ureq::Error::Io(error) if error.to_string().contains("certificate") => format!(
            "{error}; SSL_CERT_FILE names a file of certificates to trust instead of the system's"
        ),
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
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

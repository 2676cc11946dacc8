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

use crate::executor::Cancel;
use crate::fsutil::{self, IoContext};
use crate::http::time::http_date;
use crate::http::url::{Url, decoded, redacted};
use crate::http::{self, Trust, basic, shown, told};
use crate::oci::Digest;
use crate::oci::digest::Hasher;

const READ: Duration = Duration::from_secs(60);
const MOST_REDIRECTS: usize = 10;

pub use crate::http::Settings;

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

impl From<http::Error> for Error {
    fn from(error: http::Error) -> Error {
        match error {
            http::Error::Bad { url, why } => Error::Bad { url, why },
            http::Error::Io(error) => Error::Io(error),
        }
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
            .proxy(http::proxy(&self.settings, url)?)
            .build();
        if let Some(user) = user {
            request = request.header("authorization", basic(&decoded(user)));
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
        let agent = http::agent(&self.settings, &Trust::default(), READ)?;
        Ok(self.agent.get_or_init(|| agent))
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

//! What a build takes from elsewhere: files behind URLs, git repositories, contexts made of them.
//!
//! ```text
//! ADD URL            ─look─▶ digest (a question, If-None-Match)  ─▶ cache key ─fetch─▶ a file
//! ADD repository     ─look─▶ commit (ls-remote)                  ─▶ cache key ─fetch─▶ a checkout
//! context, --build-context                                                    ─fetch─▶ a directory
//! ```
//! What is fetched lies in scratch directories of the build's lease, closed to others, and goes
//! with it. Nothing is kept but what a URL's content was, for the next question.
//!
//! The library reads no environment: proxies, certificates and git's variables are [`Settings`].
//! No password is in an error: [`redacted`] takes them out of URLs.

pub mod archive;
pub mod git;
pub mod http;

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use serde_json::json;

use super::error::StepError;
use crate::catalog::remote::RemoteFile;
use crate::executor::Cancel;
use crate::fsutil::IoContext;
use crate::oci::Digest;
use crate::store::{self, Lease};

use crate::http::unless_cancelled;
pub use crate::http::url::{self, redacted};

/// How other machines are reached.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// HTTP and HTTPS.
    pub http: http::Settings,
    /// All the environment that git gets, `PATH` with it, but for what keeps it from reading
    /// configurations, running hooks and asking questions.
    pub git_environment: Vec<(String, String)>,
}

/// Why something could not be had from elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// HTTP.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// git.
    #[error(transparent)]
    Git(#[from] git::Error),
    /// What was fetched is something else than was asked for.
    #[error(
        "{url} is sha256:{}, not sha256:{}: what is there has changed, or --checksum is wrong",
        found.hex(), wanted.hex()
    )]
    Checksum {
        /// The URL, without its password.
        url: String,
        /// What `--checksum` says.
        wanted: Box<Digest>,
        /// What it is.
        found: Box<Digest>,
    },
    /// Somebody asked for the end.
    #[error("interrupted")]
    Interrupted,
}

/// A source of ADD that is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// A file behind a URL.
    File {
        /// The URL.
        url: String,
        /// Its name in a directory.
        name: String,
        /// `--checksum`.
        checksum: Option<Digest>,
        /// `--unpack=true`: if it is an archive, its files are meant.
        unpack: bool,
    },
    /// The files of a repository.
    Repository(Box<git::Reference>),
}

/// A file behind a URL, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// The URL.
    pub url: String,
    /// Its name in a directory.
    pub name: String,
    /// `--checksum`.
    pub checksum: Option<Digest>,
    /// Whether an archive is unpacked.
    pub unpack: bool,
    /// The digest of its content.
    pub digest: Digest,
    /// `Last-Modified`, in seconds since the epoch.
    pub modified: Option<i64>,
    /// Where it is, once it was fetched.
    pub body: Option<PathBuf>,
}

/// A commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The repository, and what of it.
    pub reference: git::Reference,
    /// What the reference means there, now.
    pub commit: git::Commit,
    /// The directory that holds its files, once they were fetched.
    pub directory: Option<PathBuf>,
}

impl Checkout {
    /// Stands for its files: a commit's never change.
    pub fn key(&self) -> Digest {
        let reference = &self.reference;
        let keeps = reference.keeps_git_directory();
        let text = json!({
            "commit": if keeps { &self.commit.object } else { &self.commit.id },
            "subdirectory": reference.subdirectory,
            "submodules": reference.submodules,
            "git": keeps.then_some((&reference.remote, &self.commit.name)),
        });
        Digest::of(text.to_string().as_bytes())
    }
}

/// What is known of a [`Remote`] before it is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// A file.
    Download(Box<Download>),
    /// A commit.
    Checkout(Box<Checkout>),
}

/// Fetches for one build.
#[derive(Debug)]
pub struct Fetcher<'a> {
    lease: &'a Lease<'a>,
    settings: &'a Settings,
    cancel: &'a Cancel,
    client: http::Client,
}

impl<'a> Fetcher<'a> {
    /// A fetcher whose files go with `lease`.
    pub fn new(lease: &'a Lease<'a>, settings: &'a Settings, cancel: &'a Cancel) -> Fetcher<'a> {
        Fetcher {
            lease,
            settings,
            cancel,
            client: http::Client::new(settings.http.clone()),
        }
    }

    /// Where the store is, which is no part of a context that it lies in.
    pub fn store_root(&self) -> &'a std::path::Path {
        self.lease.store().root()
    }

    /// Finds out what is there now. `fresh`: it will be fetched in any case.
    pub fn look(&self, remote: &Remote, fresh: bool) -> Result<Known, StepError> {
        match remote {
            Remote::File {
                url,
                name,
                checksum,
                unpack,
            } => {
                let download = Download {
                    url: url.clone(),
                    name: name.clone(),
                    checksum: *checksum,
                    unpack: *unpack,
                    digest: checksum.unwrap_or(Digest::of(b"")),
                    modified: None,
                    body: None,
                };
                self.look_at_file(download, fresh)
            }
            Remote::Repository(reference) => {
                let git = self.git();
                let commit = git.resolve(reference, &self.scratch()?)?;
                Ok(Known::Checkout(Box::new(Checkout {
                    reference: (**reference).clone(),
                    commit,
                    directory: None,
                })))
            }
        }
    }

    fn look_at_file(&self, mut download: Download, fresh: bool) -> Result<Known, StepError> {
        // What it must be is what it will be: nobody needs to be asked.
        if download.checksum.is_none() {
            let key = Digest::of(download.url.as_bytes());
            let catalog = self.lease.store().catalog();
            let remembered = match fresh {
                true => None,
                false => catalog
                    .read(|tx| tx.remote_file(&key))
                    .map_err(store::Error::from)?,
            };
            let etag = remembered.as_ref().map(|file| file.etag.clone());
            match (self.get(&download.url, etag)?, remembered) {
                (http::Answer::Unchanged, Some(file)) => {
                    download.digest = file.digest;
                    download.modified = file.modified;
                }
                (http::Answer::Unchanged, None) => {
                    return Err(http::Error::unasked(&download.url).into());
                }
                (http::Answer::File(file), _) => self.take(&mut download, file)?,
            }
        }
        Ok(Known::Download(Box::new(download)))
    }

    fn take(&self, download: &mut Download, file: http::File) -> Result<(), StepError> {
        if let Some(etag) = file.etag {
            let row = RemoteFile {
                digest: file.digest,
                etag,
                modified: file.modified,
            };
            let store = self.lease.store();
            let (key, now) = (Digest::of(download.url.as_bytes()), store.now());
            store.write(|tx| Ok(tx.put_remote_file(&key, &row, now)?))?;
        }
        download.digest = file.digest;
        download.modified = file.modified;
        download.body = Some(file.path);
        Ok(())
    }

    /// Fetches a file that wasn't yet.
    pub fn download(&self, download: &mut Download) -> Result<(), StepError> {
        if download.body.is_some() {
            return Ok(());
        }
        let http::Answer::File(file) = self.get(&download.url, None)? else {
            return Err(http::Error::unasked(&download.url).into());
        };
        if let Some(wanted) = download.checksum.filter(|wanted| *wanted != file.digest) {
            return Err(Error::Checksum {
                url: redacted(&download.url),
                wanted: Box::new(wanted),
                found: Box::new(file.digest),
            }
            .into());
        }
        self.take(download, file)
    }

    /// Fetches a commit's files that weren't yet.
    pub fn check_out(&self, checkout: &mut Checkout) -> Result<(), StepError> {
        if checkout.directory.is_none() {
            let directory = self.scratch()?;
            let found = self
                .git()
                .check_out(&checkout.reference, &checkout.commit, &directory)?;
            checkout.directory = Some(found);
        }
        Ok(())
    }

    /// The content of a URL, in a file of its own.
    pub fn file(&self, url: &str) -> Result<PathBuf, StepError> {
        match self.get(url, None)? {
            http::Answer::File(file) => Ok(file.path),
            http::Answer::Unchanged => Err(http::Error::unasked(url).into()),
        }
    }

    fn get(&self, url: &str, etag: Option<String>) -> Result<http::Answer, StepError> {
        let path = self.scratch()?.join("body");
        let (client, url) = (self.client.clone(), url.to_owned());
        let cancel = self.cancel.clone();
        let work = move || client.get(&url, etag.as_deref(), &path, &cancel);
        Ok(unless_cancelled(self.cancel, work).ok_or(Error::Interrupted)??)
    }

    fn git(&self) -> git::Git<'a> {
        git::Git {
            environment: &self.settings.git_environment,
            cancel: self.cancel,
        }
    }

    /// A new directory that nobody else can look into, which goes with the lease.
    pub fn scratch(&self) -> Result<PathBuf, StepError> {
        let path = self.lease.scratch();
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .at("create directory", &path)?;
        Ok(path)
    }
}

impl From<Error> for StepError {
    fn from(error: Error) -> StepError {
        match error {
            Error::Interrupted => StepError::Interrupted,
            Error::Http(http::Error::Interrupted) | Error::Git(git::Error::Interrupted) => {
                StepError::Interrupted
            }
            Error::Http(http::Error::Io(error)) | Error::Git(git::Error::Io(error)) => {
                StepError::Io(error)
            }
            error => StepError::Remote(Box::new(error)),
        }
    }
}

impl From<http::Error> for StepError {
    fn from(error: http::Error) -> StepError {
        Error::from(error).into()
    }
}

impl From<git::Error> for StepError {
    fn from(error: git::Error) -> StepError {
        Error::from(error).into()
    }
}

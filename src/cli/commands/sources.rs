//! What a build is made from: the context, the Dockerfile, named contexts, and how other machines
//! are reached.
//!
//! ```text
//! context     Dockerfile
//! directory   DIR/Dockerfile, -f FILE (of this machine), -f -
//! tar         Dockerfile in it, -f NAME in it, -f - unless it is on stdin too
//! text        is the Dockerfile; the context is empty
//! repository  Dockerfile in it, -f NAME in it, -f -
//! ```

use std::env;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::archive;
use crate::build::context::read_inside;
use crate::build::named::{self, NamedContext, NamedSource};
use crate::build::remote::archive::{Sniffed, sniff, unpack};
use crate::build::remote::{self, Fetcher, git, http};
use crate::build::{self, StepError};
use crate::cli::Result;
use crate::cli::args::build::BuildArgs;
use crate::cli::args::sources::{ContextSource, NamedArgument};
use crate::cli::exit::{self, Failure};
use crate::executor::{Cancel, signals};
use crate::fsutil::{self, IoContext};
use crate::store::Lease;

/// No Dockerfile is larger; what is, is some other file.
const LARGEST_DOCKERFILE: u64 = 8 << 20;

/// Where the system keeps the certificates that it trusts; distributions differ.
const CERTIFICATES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A Dockerfile and the context that it is for.
pub struct Sources {
    /// What errors call the Dockerfile.
    pub name: String,
    /// Its text.
    pub dockerfile: Vec<u8>,
    /// The context.
    pub context: build::Context,
}

/// Says what is wrong with arguments before anything is made or fetched, and reads the
/// Dockerfile where it is on this machine.
pub fn check(arguments: &BuildArgs) -> Result<Option<(String, Vec<u8>)>> {
    let file = arguments.file.as_deref();
    let from_stdin = file == Some(Path::new("-"));
    match &arguments.context {
        ContextSource::Directory(context) => {
            is_directory(context)?;
            match file {
                _ if from_stdin => Ok(Some(stdin_dockerfile()?)),
                // A URL is fetched later.
                Some(file) if url(file).is_some() => Ok(None),
                Some(file) => Ok(Some((file.display().to_string(), local(file)?))),
                None => {
                    let path = context.join("Dockerfile");
                    Ok(Some(("Dockerfile".to_owned(), local(&path)?)))
                }
            }
        }
        ContextSource::Stdin if from_stdin => Err(exit::usage_error(
            "stdin cannot be both the context and the Dockerfile: -f - needs another context",
        )),
        _ if from_stdin => Ok(Some(stdin_dockerfile()?)),
        _ => Ok(None),
    }
}

/// Fetches what is to be fetched, and opens the context. `read`: what [`check`] gave.
pub fn gather(
    arguments: &BuildArgs,
    read: Option<(String, Vec<u8>)>,
    lease: &Lease,
    settings: &remote::Settings,
    cancel: &Cancel,
) -> Result<Sources> {
    let fetcher = Fetcher::new(lease, settings, cancel);
    let gathering = Gathering {
        file: arguments
            .file
            .as_deref()
            .filter(|file| *file != Path::new("-")),
        read,
        fetcher: &fetcher,
    };
    match &arguments.context {
        ContextSource::Directory(directory) => gathering.local(directory),
        ContextSource::Stdin => gathering.stream(io::stdin(), "stdin"),
        ContextSource::Url(url) => {
            let path = fetcher.file(url).map_err(told)?;
            let file = fs::File::open(&path).at("open", &path)?;
            gathering.stream(file, &remote::redacted(url))
        }
        ContextSource::Repository(reference) => {
            let keep = (arguments.build_arguments().into_iter())
                .any(|(name, value)| name == "BUILDKIT_CONTEXT_KEEP_GIT_DIR" && is_true(&value));
            let mut reference: git::Reference = (**reference).clone();
            if keep {
                reference.keep_git_directory = Some(true);
            }
            let directory = named::check_out(&fetcher, &reference).map_err(told)?;
            gathering.inside(&directory)
        }
    }
}

fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

struct Gathering<'a> {
    /// `-f`, unless it is `-`.
    file: Option<&'a Path>,
    /// The Dockerfile, if it was read before.
    read: Option<(String, Vec<u8>)>,
    fetcher: &'a Fetcher<'a>,
}

impl Gathering<'_> {
    /// A context on this machine.
    fn local(self, directory: &Path) -> Result<Sources> {
        let url = self.file.and_then(url);
        let (name, dockerfile) = match (self.read, url) {
            (Some(read), _) => read,
            (None, Some(url)) => {
                let path = self.fetcher.file(url).map_err(told)?;
                (remote::redacted(url), local(&path)?)
            }
            (None, None) => anyhow::bail!("there is no Dockerfile"),
        };
        let beside = match self.file {
            Some(_) if url.is_some() => None,
            Some(file) => Some(file.to_path_buf()),
            None if name == "stdin" => None,
            None => Some(directory.join("Dockerfile")),
        };
        let store = Some(self.fetcher.store_root());
        let context = build::Context::open(directory, beside.as_deref(), store)?;
        Ok(Sources {
            name,
            dockerfile,
            context,
        })
    }

    /// A context that comes as a stream: an archive, or a Dockerfile alone.
    fn stream(self, source: impl Read + Send, shown: &str) -> Result<Sources> {
        let directory = self.fetcher.scratch().map_err(told)?;
        let files = directory.join("files");
        fsutil::create_dir_all(&files)?;
        match sniff(source).with_context(|| format!("read the build context from {shown}"))? {
            Sniffed::Archive(archive) => {
                unpack(archive, &files)
                    .with_context(|| format!("unpack the build context from {shown}"))?;
                self.inside(&files)
            }
            Sniffed::Text(text) => {
                if let Some(file) = self.file {
                    return Err(exit::usage_error(format!(
                        "what came from {shown} is no tar archive, so it is the Dockerfile; -f {} names another",
                        file.display()
                    )));
                }
                if self.read.is_some() {
                    anyhow::bail!(
                        "{shown} is no tar archive, and the Dockerfile came from stdin: there is no context"
                    );
                }
                let dockerfile = limited(text, Path::new(shown))?;
                if dockerfile.is_empty() {
                    anyhow::bail!(
                        "nothing came from {shown}: neither a tar archive nor a Dockerfile"
                    );
                }
                Ok(Sources {
                    name: shown.to_owned(),
                    dockerfile,
                    context: build::Context::open_remote(&files, None)?,
                })
            }
        }
    }

    /// A context that was unpacked or checked out. Its links lead nowhere else, its Dockerfile's
    /// neither.
    fn inside(self, directory: &Path) -> Result<Sources> {
        let path = self.file.unwrap_or(Path::new("Dockerfile"));
        let (name, dockerfile, beside) = match self.read {
            Some((name, text)) => (name, text, None),
            None => {
                let root = fsutil::open_dir(directory)?;
                let Some(text) = read_inside(&root, path)? else {
                    anyhow::bail!(
                        "there is no {} in the build context; -f names another Dockerfile in it",
                        path.display()
                    );
                };
                let text = limited(&text[..], path)?;
                (path.display().to_string(), text, Some(path))
            }
        };
        Ok(Sources {
            name,
            dockerfile,
            context: build::Context::open_remote(directory, beside)?,
        })
    }
}

fn url(file: &Path) -> Option<&str> {
    let text = file.to_str()?;
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    (is_url && !file.exists()).then_some(text)
}

/// Says what is wrong with a context that is none, in words of the command line.
fn is_directory(context: &Path) -> Result {
    match fs::metadata(context) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => anyhow::bail!(
            "the build context {} is a file: name the directory that COPY copies from, and the Dockerfile with -f; a tar archive goes to stdin: rstore build - < FILE",
            context.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            anyhow::bail!("the build context {} does not exist", context.display())
        }
        Err(error) => Err(fsutil::Error::new("open", context, error).into()),
    }
}

fn stdin_dockerfile() -> Result<(String, Vec<u8>)> {
    let text = limited(io::stdin().lock(), Path::new("stdin"))?;
    Ok(("stdin".to_owned(), text))
}

fn limited(source: impl Read, path: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    source
        .take(LARGEST_DOCKERFILE + 1)
        .read_to_end(&mut text)
        .at("read", path)?;
    if text.len() as u64 > LARGEST_DOCKERFILE {
        anyhow::bail!(
            "{} is larger than {LARGEST_DOCKERFILE} bytes: that is no Dockerfile",
            path.display()
        );
    }
    Ok(text)
}

/// The text of a Dockerfile of this machine.
fn local(path: &Path) -> Result<Vec<u8>> {
    let file = open(path)?;
    if path.is_dir() {
        anyhow::bail!(
            "{} is a directory, and should be a Dockerfile",
            path.display()
        );
    }
    limited(file, path)
}

fn open(path: &Path) -> Result<fs::File> {
    match fs::File::open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let other = path.with_file_name("Containerfile");
            let hint = if other.exists() {
                "; there is a Containerfile: -f Containerfile"
            } else {
                "; -f names another"
            };
            anyhow::bail!("there is no Dockerfile at {}{hint}", path.display())
        }
        Err(error) => Err(fsutil::Error::new("open", path, error).into()),
    }
}

/// An error of fetching, as the command's.
fn told(error: StepError) -> anyhow::Error {
    match error {
        StepError::Interrupted => {
            Failure::Interrupted(signals::received().unwrap_or(libc::SIGINT)).into()
        }
        error => anyhow::Error::new(error).context("build context"),
    }
}

/// The named contexts; images in OCI layouts are taken into the store, for this build.
pub fn named_contexts(arguments: &BuildArgs, lease: &Lease) -> Result<Vec<NamedContext>> {
    let ready = |argument: &NamedArgument| match argument {
        NamedArgument::Ready(context) => Ok(context.clone()),
        NamedArgument::Layout {
            name,
            directory,
            tag,
            digest,
        } => {
            let loaded =
                archive::take_from_layout(lease, directory, tag.as_deref(), digest.as_ref(), None)
                    .map(|(digest, _)| digest)
                    .with_context(|| format!("the context {name:?}"))?;
            Ok(NamedContext {
                name: name.clone(),
                source: NamedSource::Image(loaded.to_string()),
            })
        }
    };
    arguments.named_contexts.iter().map(ready).collect()
}

/// A variable of the environment that has a value.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Proxies and certificates, as the environment says.
pub fn http_settings() -> http::Settings {
    // Lower case first, as curl has it; a capital HTTP_PROXY may be a header of a CGI script.
    let either = |name: &str| variable(name).or_else(|| variable(&name.to_ascii_uppercase()));
    let all = either("all_proxy");
    let certificates = match env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty()) {
        Some(file) => vec![PathBuf::from(file)],
        None => CERTIFICATES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
            .into_iter()
            .collect(),
    };
    http::Settings {
        http_proxy: either("http_proxy").or_else(|| all.clone()),
        https_proxy: either("https_proxy").or(all),
        no_proxy: either("no_proxy").unwrap_or_default(),
        certificates,
    }
}

/// How other machines are reached: as the environment says.
pub fn remote_settings() -> remote::Settings {
    let ssh = match variable("HOME") {
        // In a user namespace ssh takes root's home, which is another.
        Some(home) if !home.contains(['\'', '\n']) => {
            format!("ssh -o BatchMode=yes -o 'UserKnownHostsFile={home}/.ssh/known_hosts'")
        }
        _ => "ssh -o BatchMode=yes".to_owned(),
    };
    let mut git_environment = vec![("GIT_SSH_COMMAND".to_owned(), ssh)];
    for name in [
        "PATH",
        "SSH_AUTH_SOCK",
        "TMPDIR",
        "http_proxy",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "GIT_SSL_CAINFO",
    ] {
        git_environment.extend(variable(name).map(|value| (name.to_owned(), value)));
    }
    remote::Settings {
        http: http_settings(),
        git_environment,
    }
}

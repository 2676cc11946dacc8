//! What a build is made from, on the command line: contexts and named contexts.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::build::named::{self, NamedContext, NamedSource};
use crate::build::remote::git::Reference;

/// The build context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSource {
    /// A directory of this machine.
    Directory(PathBuf),
    /// `-`: a tar archive, or a Dockerfile, on stdin.
    Stdin,
    /// A tar archive, or a Dockerfile, behind a URL.
    Url(String),
    /// A repository.
    Repository(Box<Reference>),
}

impl std::fmt::Display for ContextSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::build::remote::redacted;
        match self {
            ContextSource::Directory(path) => path.display().fmt(f),
            ContextSource::Stdin => f.write_str("stdin"),
            ContextSource::Url(url) => f.write_str(&redacted(url)),
            ContextSource::Repository(reference) => f.write_str(&redacted(&reference.remote)),
        }
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// A repository that a text names; one that names another kind of URL is an error.
fn repository(text: &str) -> Result<Option<Box<Reference>>, String> {
    if let Some(reference) = Reference::parse(text)? {
        return Ok(Some(Box::new(reference)));
    }
    match text.split_once("://") {
        Some((scheme, _)) if !is_url(text) && scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Err(format!(
                "nothing is taken from {scheme}:// URLs; http, https, git and ssh are, and directories"
            ))
        }
        _ => Ok(None),
    }
}

/// A directory, `-`, a URL or a repository.
pub fn context(text: OsString) -> Result<ContextSource, String> {
    let shown = text.to_string_lossy();
    if shown == "-" {
        return Ok(ContextSource::Stdin);
    }
    let path = PathBuf::from(&text);
    // What is there by that name is meant, whatever else the name might be.
    if path.exists() {
        return Ok(ContextSource::Directory(path));
    }
    if let Some(reference) = repository(&shown)? {
        return Ok(ContextSource::Repository(reference));
    }
    if is_url(&shown) {
        return Ok(ContextSource::Url(shown.into_owned()));
    }
    // docker's oldest form of a repository.
    if shown.starts_with("github.com/")
        && let Some(reference) = with_git_suffix(&shown)?
    {
        return Ok(ContextSource::Repository(reference));
    }
    Ok(ContextSource::Directory(path))
}

fn with_git_suffix(text: &str) -> Result<Option<Box<Reference>>, String> {
    let (path, behind) = match text.find(['#', '?']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let path = path.trim_end_matches('/').trim_end_matches(".git");
    repository(&format!("https://{path}.git{behind}"))
}

/// A named context as it is given: an OCI layout is loaded before it can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedArgument {
    /// Ready to be used.
    Ready(NamedContext),
    /// `oci-layout://DIR[:TAG][@DIGEST]`.
    Layout {
        /// The context's name.
        name: String,
        /// The layout.
        directory: PathBuf,
        /// The image in it, by tag.
        tag: Option<String>,
        /// The image in it, by digest.
        digest: Option<crate::oci::Digest>,
    },
}

/// `NAME=DIR|URL|docker-image://REF|oci-layout://DIR`.
pub fn named_context(text: &str) -> Result<NamedArgument, String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
        .ok_or("a named context is NAME=SOURCE: lib=../lib")?;
    let name = named::name(name).ok_or_else(|| {
        format!("{name:?} cannot be a context's name: it is one as images have, in lower case")
    })?;
    if let Some(layout) = value.strip_prefix("oci-layout://") {
        return oci_layout(name, layout);
    }
    let source = if let Some(image) = value.strip_prefix("docker-image://") {
        NamedSource::Image(image.to_owned())
    } else if let Some(target) = value.strip_prefix("target:") {
        return Err(format!(
            "target:{target} is a word of bake files; a stage of this Dockerfile is named as it is"
        ));
    } else if PathBuf::from(value).exists() {
        NamedSource::Directory(PathBuf::from(value))
    } else if let Some(reference) = repository(value)? {
        NamedSource::Repository(reference)
    } else if is_url(value) {
        NamedSource::Url(value.to_owned())
    } else {
        return Err(format!(
            "the context {name:?}: there is no directory {value:?}"
        ));
    };
    if let NamedSource::Directory(path) = &source
        && !path.is_dir()
    {
        return Err(format!(
            "the context {name:?}: {value:?} is not a directory"
        ));
    }
    Ok(NamedArgument::Ready(NamedContext { name, source }))
}

fn oci_layout(name: String, text: &str) -> Result<NamedArgument, String> {
    let (text, digest) = match text.split_once('@') {
        Some((text, digest)) => {
            let digest = digest.parse().map_err(|_| {
                format!("{digest:?} is no digest: sha256: and 64 hexadecimal digits")
            })?;
            (text, Some(digest))
        }
        None => (text, None),
    };
    let last = text.rfind('/').map_or(0, |slash| slash + 1);
    let (directory, tag) = match text[last..].find(':') {
        Some(colon) => (
            &text[..last + colon],
            Some(text[last + colon + 1..].to_owned()),
        ),
        None => (text, None),
    };
    if directory.is_empty() {
        return Err("oci-layout:// is followed by a directory".to_owned());
    }
    Ok(NamedArgument::Layout {
        name,
        directory: PathBuf::from(directory),
        tag,
        digest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_a_directory_stdin_a_url_or_a_repository() {
        let source = |text: &str| context(text.into());
        assert_eq!(source("."), Ok(ContextSource::Directory(".".into())));
        assert_eq!(source("-"), Ok(ContextSource::Stdin));
        let url = "https://h/x.tar.gz";
        assert_eq!(source(url), Ok(ContextSource::Url(url.into())));
        for text in [
            "https://h/x.git#v1:d",
            "git@h:x",
            "git://h/x",
            "github.com/x/y",
        ] {
            let found = source(text).unwrap();
            assert!(matches!(found, ContextSource::Repository(_)), "{found:?}");
        }
        let Ok(ContextSource::Repository(old)) = source("github.com/x/y#main") else {
            panic!("no repository");
        };
        assert_eq!(old.remote, "https://github.com/x/y.git");
        assert_eq!(old.name.as_deref(), Some("main"));
        assert!(source("file:///x.git").is_err() && source("ftp://h/x").is_err());
    }

    #[test]
    fn a_named_context_says_its_kind() {
        let ready = |text: &str| match named_context(text) {
            Ok(NamedArgument::Ready(context)) => context.source,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(ready("x=."), NamedSource::Directory(".".into()));
        assert_eq!(
            ready("x=docker-image://a:1"),
            NamedSource::Image("a:1".into())
        );
        assert_eq!(ready("x=http://h/f"), NamedSource::Url("http://h/f".into()));
        assert!(matches!(
            ready("x=https://h/f.git"),
            NamedSource::Repository(_)
        ));
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(
            named_context(&format!("x=oci-layout://../d:v1@{digest}")),
            Ok(NamedArgument::Layout {
                name: "x".into(),
                directory: "../d".into(),
                tag: Some("v1".into()),
                digest: digest.parse().ok(),
            })
        );
        for bad in [
            "x",
            "=.",
            "X Y=.",
            "x=/no/such/directory",
            "x=target:y",
            "x=oci-layout://",
        ] {
            assert!(named_context(bad).is_err(), "{bad}");
        }
    }
}

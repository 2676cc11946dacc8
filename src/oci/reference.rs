//! Image names, normalised as docker's users know them.
//!
//! ```text
//! name      = [domain "/"] path [":" tag] ["@" digest]
//! app                → docker.io/library/app:latest    shown as app:latest
//! user/app:1         → docker.io/user/app:1            shown as user/app:1
//! localhost/app      → localhost/app:latest            shown as it is
//! ```
//! The grammar is that of distribution's reference package: a first component with a `.`, a `:`
//! or upper case, or `localhost`, is a domain; path components are lower case.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;

const DEFAULT_DOMAIN: &str = "docker.io";
/// What the path of docker's own images begins with.
const OFFICIAL: &str = "library/";

/// A parsed image name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The registry: `docker.io` where none was written.
    pub domain: String,
    /// The repository below it: `library/app` for `app`.
    pub path: String,
    /// The tag; `None` only where a digest was given without one.
    pub tag: Option<String>,
    /// The pinned digest.
    pub digest: Option<Digest>,
}

/// Why a text is not an image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image name {text:?}: {why}")]
pub struct ParseReferenceError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

/// The parts of a name, as they stand in it.
struct Parts<'a> {
    domain: &'a str,
    path: &'a str,
    tag: Option<&'a str>,
    digest: Option<Digest>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Parts<'a>, ParseReferenceError> {
        let fail = |why: &str| ParseReferenceError {
            text: text.to_owned(),
            why: why.to_owned(),
        };
        if text.is_empty() {
            return Err(fail("it is empty"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (
                name,
                Some(
                    digest
                        .parse::<Digest>()
                        .map_err(|error| fail(&error.to_string()))?,
                ),
            ),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag)),
            _ => (name, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(fail(
                "a tag is 1 to 128 of letters, digits, '_', '.', '-', and starts with none of the last two",
            ));
        }
        let (domain, path) = split_domain(name);
        if !is_domain(domain) {
            return Err(fail(
                "the registry is not a host name with an optional port",
            ));
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(fail("a repository is lower case"));
        }
        if !path.split('/').all(is_component) {
            return Err(fail(
                "a repository is made of lower-case letters and digits, separated by '.', '_', '__', '-' or '/'",
            ));
        }
        Ok(Parts {
            domain,
            path,
            tag: tag.or(digest.is_none().then_some("latest")),
            digest,
        })
    }

    /// Whether it is one of docker's own images, which are below `library/` at its registry.
    fn is_official(&self) -> bool {
        self.domain == DEFAULT_DOMAIN && !self.path.contains('/')
    }

    /// See [`Reference::familiar_repository`].
    fn familiar_repository(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return [self.domain, self.path].join("/");
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.to_owned(),
        }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Reference, ParseReferenceError> {
        let parts = Parts::of(text)?;
        let path = match parts.is_official() {
            true => [OFFICIAL, parts.path].concat(),
            false => parts.path.to_owned(),
        };
        Ok(Reference {
            domain: parts.domain.to_owned(),
            path,
            tag: parts.tag.map(str::to_owned),
            digest: parts.digest,
        })
    }
}

/// The registry of a name, and what stands behind it.
fn split_domain(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    }
}

/// Whether a text can be a tag (distribution-spec, "Pulling manifests").
pub fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    let port = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    port && (plain
        || (bracketed
            && host
                .bytes()
                .all(|b| b.is_ascii_hexdigit() || b"[]:".contains(&b))))
}

fn is_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    bytes
        .split(alphanumeric)
        .filter(|separator| !separator.is_empty())
        .all(|s| matches!(s, b"." | b"_" | b"__") || s.iter().all(|b| *b == b'-'))
}

impl Reference {
    /// The repository as people write it: without `docker.io/` and `library/`.
    pub fn familiar_repository(&self) -> String {
        let parts = Parts {
            domain: &self.domain,
            path: &self.path,
            tag: None,
            digest: None,
        };
        parts.familiar_repository()
    }

    /// The name as people write it, with its tag and digest: what tables show.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_repository())
    }

    /// The name in full: `docker.io/library/app:latest`.
    pub fn full(&self) -> String {
        self.with_suffix(format!("{}/{}", self.domain, self.path))
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar())
    }
}

/// The repository and the tag that a stored tag name shows as.
///
/// Names of another shape (a foreign tool may write `my tag!`) have no repository.
pub fn display_parts(name: &str) -> (String, String) {
    match Parts::of(name) {
        Ok(parts) => {
            let tag = parts.tag.unwrap_or("<none>").to_owned();
            (parts.familiar_repository(), tag)
        }
        Err(_) => (name.to_owned(), "<none>".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_normalise_as_dockers_do() {
        for (text, familiar, full) in [
            ("app", "app:latest", "docker.io/library/app:latest"),
            (
                "docker.io/library/alpine:3",
                "alpine:3",
                "docker.io/library/alpine:3",
            ),
            (
                "index.docker.io/alpine",
                "alpine:latest",
                "docker.io/library/alpine:latest",
            ),
            ("user/app:1.2", "user/app:1.2", "docker.io/user/app:1.2"),
            (
                "localhost/app",
                "localhost/app:latest",
                "localhost/app:latest",
            ),
            (
                "127.0.0.1:5000/x/y:t",
                "127.0.0.1:5000/x/y:t",
                "127.0.0.1:5000/x/y:t",
            ),
            (
                "registry.example/x__y/z-w",
                "registry.example/x__y/z-w:latest",
                "registry.example/x__y/z-w:latest",
            ),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(
                (reference.familiar().as_str(), reference.full().as_str()),
                (familiar, full)
            );
        }
    }

    #[test]
    fn names_are_shown_as_they_are_parsed() {
        for (name, repository, tag) in [
            ("app:1", "app", "1"),
            ("app", "app", "latest"),
            ("localhost:5000", "localhost", "5000"),
            ("user/app:1", "user/app", "1"),
            ("docker.io/library/app:1", "app", "1"),
            ("docker.io/app:1", "app", "1"),
            ("library/app/x", "library/app/x", "latest"),
            ("index.docker.io/user/app:1", "user/app", "1"),
            ("localhost:5000/app:1", "localhost:5000/app", "1"),
            ("my tag!", "my tag!", "<none>"),
            ("App:1", "App:1", "<none>"),
            ("a:b:c", "a:b:c", "<none>"),
        ] {
            let parts = display_parts(name);
            assert_eq!((parts.0.as_str(), parts.1.as_str()), (repository, tag));
            if let Ok(reference) = name.parse::<Reference>() {
                assert_eq!(reference.familiar_repository(), parts.0);
                assert_eq!(reference.tag.unwrap(), parts.1);
            }
        }
    }

    #[test]
    fn a_digest_without_a_tag_has_no_tag() {
        let digest = Digest::of(b"");
        let reference: Reference = format!("app@{digest}").parse().unwrap();
        assert_eq!(reference.tag, None);
        assert_eq!(reference.familiar(), format!("app@{digest}"));
    }

    #[test]
    fn bad_names_are_refused_with_the_reason() {
        for text in [
            "",
            "App",
            "a b",
            "a:",
            "a:-x",
            "/a",
            "a/",
            "a//b",
            "a..b",
            "-a/b",
            "a@sha256:1",
            "ex.ample:port/a",
            "a___b",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}

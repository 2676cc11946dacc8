//! The name of a repository, and of what is wanted of it. Pure.

use std::sync::LazyLock;

use regex::Regex;

use crate::build::config::clean;
use crate::build::remote::url::{Url, decoded};

/// `user@host:path?query#fragment`
static SCP: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^([A-Za-z0-9_-]+@[A-Za-z0-9.-]+:.*?)(?:\?(.*?))?(?:#(.*))?$").ok()
});

/// A repository, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What git is given.
    pub remote: String,
    /// A branch, tag, full reference or commit; `None`: what the repository's HEAD is.
    pub name: Option<String>,
    /// The directory in it, clean and relative; `None`: all.
    pub subdirectory: Option<String>,
    /// The beginning of the commit's ID.
    pub checksum: Option<String>,
    /// Whether `.git` is kept; `None`: nobody said.
    pub keep_git_directory: Option<bool>,
    /// Whether submodules are fetched too.
    pub submodules: bool,
    /// Whether files bear the commit's time instead of that of the checkout.
    pub commit_times: bool,
}

/// Whether a text names a repository.
pub fn is_git(text: &str) -> bool {
    parts(text).is_some()
}

/// The remote, the query and the fragment of a text that names a repository.
fn parts(text: &str) -> Option<(String, Option<String>, Option<String>)> {
    if let Some(url) = Url::parse(text) {
        let known = match url.scheme.as_str() {
            "git" | "ssh" => true,
            "http" | "https" => url.path.ends_with(".git"),
            _ => false,
        };
        if !known {
            return None;
        }
        let user = url
            .user
            .as_ref()
            .map_or(String::new(), |user| format!("{user}@"));
        let remote = format!("{}://{user}{}{}", url.scheme, url.host, url.path);
        return Some((remote, url.query, url.fragment));
    }
    if text.contains("://") {
        return None;
    }
    let found = SCP.as_ref()?.captures(text)?;
    let part = |number| found.get(number).map(|part| part.as_str().to_owned());
    Some((part(1)?, part(2), part(3)))
}

impl Reference {
    /// Reads the name of a repository; `None`: the text is none.
    pub fn parse(text: &str) -> Result<Option<Reference>, String> {
        let Some((remote, query, fragment)) = parts(text) else {
            return Ok(None);
        };
        let mut reference = Reference {
            remote,
            name: None,
            subdirectory: None,
            checksum: None,
            keep_git_directory: None,
            submodules: true,
            commit_times: false,
        };
        if let Some(fragment) = fragment {
            let (name, directory) = fragment.split_once(':').unwrap_or((&fragment, ""));
            reference.name = Some(decoded(name)).filter(|name| !name.is_empty());
            reference.subdirectory = directory_in(&decoded(directory));
        }
        for pair in query.iter().flat_map(|query| query.split('&')) {
            if pair.is_empty() {
                continue;
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            reference.query(&decoded(key), &decoded(&value.replace('+', " ")))?;
        }
        if reference
            .name
            .as_deref()
            .is_some_and(|name| name.starts_with('-'))
        {
            return Err("a reference does not begin with -".to_owned());
        }
        Ok(Some(reference))
    }

    fn query(&mut self, key: &str, value: &str) -> Result<(), String> {
        let flag = || match value {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(format!("?{key}={value} is neither true nor false")),
        };
        let set = |place: &mut Option<String>, value: String| match place {
            Some(other) if *other != value => Err(format!("?{key}={value} contradicts {other:?}")),
            _ => {
                *place = Some(value);
                Ok(())
            }
        };
        match key {
            "submodules" => self.submodules = flag()?,
            "keep-git-dir" => self.keep_git_directory = Some(flag()?),
            // What it saves is a question that is not asked for a full commit ID anyway.
            "fetch-by-commit" => {
                flag()?;
            }
            _ if value.is_empty() => return Err(format!("?{key} has no value")),
            "ref" => set(&mut self.name, value.to_owned())?,
            "tag" => {
                let bare = value.strip_prefix("refs/tags/").unwrap_or(value);
                set(&mut self.name, format!("refs/tags/{bare}"))?;
            }
            "branch" => {
                let bare = value.strip_prefix("refs/heads/").unwrap_or(value);
                set(&mut self.name, format!("refs/heads/{bare}"))?;
            }
            "subdir" => {
                let directory = directory_in(value).unwrap_or_default();
                set(&mut self.subdirectory, directory)?;
                self.subdirectory = self.subdirectory.take().filter(|d| !d.is_empty());
            }
            "checksum" | "commit" => set(&mut self.checksum, checksum(value)?)?,
            "mtime" => match value {
                "commit" => self.commit_times = true,
                "checkout" => self.commit_times = false,
                _ => return Err(format!("?mtime={value}: it is commit or checkout")),
            },
            _ => return Err(format!("?{key} is no word of a git URL")),
        }
        Ok(())
    }

    /// Takes the flags of ADD: what the URL says too must be the same.
    pub fn with_flags(
        mut self,
        keep_git_directory: Option<bool>,
        wanted: Option<&str>,
    ) -> Result<Reference, String> {
        if let (Some(flag), Some(own)) = (keep_git_directory, self.keep_git_directory)
            && flag != own
        {
            return Err("--keep-git-dir contradicts the URL's ?keep-git-dir".to_owned());
        }
        self.keep_git_directory = self.keep_git_directory.or(keep_git_directory);
        if let Some(wanted) = wanted {
            let wanted = checksum(wanted)?;
            if self.checksum.as_ref().is_some_and(|own| *own != wanted) {
                return Err("--checksum contradicts the URL's ?checksum".to_owned());
            }
            self.checksum = Some(wanted);
        }
        Ok(self)
    }

    /// Whether `.git` is among the files: never with a directory of the repository alone.
    pub fn keeps_git_directory(&self) -> bool {
        self.keep_git_directory == Some(true) && self.subdirectory.is_none()
    }
}

fn checksum(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!(
            "{text:?} is no commit ID: for a repository --checksum is one, or its beginning"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

fn directory_in(text: &str) -> Option<String> {
    let path = clean(&format!("/{text}"));
    let path = path.trim_start_matches('/');
    (!path.is_empty()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Reference {
        Reference::parse(text).unwrap().unwrap()
    }

    #[test]
    fn repositories_are_told_from_files_and_urls() {
        for text in [
            "https://h/x.git",
            "http://u:p@h/x.git#main:dir",
            "https://h/x.git?branch=main",
            "git://h/x",
            "ssh://git@h/x",
            "git@github.com:x/y.git",
            "me@host:path#v1",
        ] {
            assert!(is_git(text), "{text}");
        }
        for text in [
            "https://h/x",
            "https://h/x.git/file",
            "https://h/x.tar#x.git",
            "file:///x.git",
            "ext::sh -c x.git",
            "./x.git",
            "x.git",
            "a/b@c:d",
        ] {
            assert!(!is_git(text), "{text}");
        }
    }

    #[test]
    fn a_fragment_is_a_reference_and_a_directory() {
        let reference = parse("https://u:p@h/x.git#feature/a:sub/../dir/");
        assert_eq!(reference.remote, "https://u:p@h/x.git");
        assert_eq!(reference.name.as_deref(), Some("feature/a"));
        assert_eq!(reference.subdirectory.as_deref(), Some("dir"));
        let reference = parse("git@h:x.git#:../../etc");
        assert_eq!(reference.remote, "git@h:x.git");
        assert_eq!(reference.name, None);
        assert_eq!(reference.subdirectory.as_deref(), Some("etc"));
        assert_eq!(parse("https://h/x.git#").name, None);
    }

    #[test]
    fn a_query_says_the_same_in_words() {
        let reference =
            parse("https://h/x.git?tag=v1&subdir=a&keep-git-dir=1&submodules=0&checksum=ABC");
        assert_eq!(reference.name.as_deref(), Some("refs/tags/v1"));
        assert_eq!(reference.subdirectory.as_deref(), Some("a"));
        assert_eq!(reference.checksum.as_deref(), Some("abc"));
        assert!(!reference.submodules && !reference.keeps_git_directory());
        for bad in [
            "?ref=a&branch=b",
            "?tag=a&branch=a",
            "?x=1",
            "?ref=",
            "?mtime=never",
            "?submodules=maybe",
            "?checksum=xyz",
            "?ref=b#a",
            "#--upload-pack=x",
        ] {
            let text = format!("https://h/x.git{bad}");
            assert!(Reference::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn flags_and_words_may_not_contradict_each_other() {
        let text = "https://h/x.git?keep-git-dir=true&commit=abc";
        assert!(parse(text).with_flags(Some(false), None).is_err());
        assert!(parse(text).with_flags(None, Some("abd")).is_err());
        assert!(
            parse(text)
                .with_flags(Some(true), Some("ABC"))
                .unwrap()
                .keeps_git_directory()
        );
    }
}

//! Named contexts (`--build-context`): trees and images that FROM, COPY --from and mounts may name.
//!
//! A name goes before images and before stages: a stage of that name is what the context is, and
//! none of its instructions are done. Names are compared as docker does, without `:latest`.
//!
//! | given | `FROM name` | `COPY --from=name` |
//! |---|---|---|
//! | a directory, a repository | its files on nothing | its files, less `.dockerignore`'s |
//! | a URL | the file `context` on nothing | the file `context` |
//! | an image | the image | the image's files |

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::context::Context;
use super::error::StepError;
use super::remote::{Checkout, Fetcher, Known, Remote, git};
use crate::fsutil::IoContext;
use crate::oci::Reference;

/// A named context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedContext {
    /// Its name, by [`name`].
    pub name: String,
    /// What it is.
    pub source: NamedSource,
}

/// What a named context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedSource {
    /// A directory of this machine.
    Directory(PathBuf),
    /// An image of the store, by name or digest; `scratch` is none.
    Image(String),
    /// A file behind a URL.
    Url(String),
    /// A repository.
    Repository(Box<git::Reference>),
}

/// The form in which names are compared: what docker shows, without `:latest`.
pub fn name(text: &str) -> Option<String> {
    let reference = text.parse::<Reference>().ok()?;
    let familiar = reference.familiar();
    let bare = familiar.strip_suffix(":latest").unwrap_or(&familiar);
    Some(bare.to_owned())
}

/// The place of the context that a FROM or `--from` means.
pub fn find(contexts: &[NamedContext], text: &str) -> Option<usize> {
    if contexts.is_empty() || text == "scratch" {
        return None;
    }
    let name = name(text)?;
    // The last of several of one name, as with every other flag.
    contexts.iter().rposition(|context| context.name == name)
}

/// The trees of named contexts, each opened when it is first needed.
#[derive(Debug)]
pub struct NamedTrees<'a> {
    contexts: &'a [NamedContext],
    opened: Vec<(Mutex<()>, OnceLock<Context>)>,
}

impl<'a> NamedTrees<'a> {
    /// Trees of which none is opened.
    pub fn new(contexts: &'a [NamedContext]) -> NamedTrees<'a> {
        NamedTrees {
            contexts,
            opened: contexts.iter().map(|_| Default::default()).collect(),
        }
    }

    /// The context at a place; `None` for an image.
    pub fn context(&self, place: usize, fetcher: &Fetcher) -> Result<Option<&Context>, StepError> {
        let (Some(named), Some((opening, opened))) =
            (self.contexts.get(place), self.opened.get(place))
        else {
            return Ok(None);
        };
        let _one = opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = opened.get() {
            return Ok(Some(context));
        }
        let label = format!("the context {:?}", named.name);
        let context = match &named.source {
            NamedSource::Image(_) => return Ok(None),
            NamedSource::Directory(directory) => {
                Context::open(directory, None, Some(fetcher.store_root()))
            }
            NamedSource::Url(url) => {
                let directory = fetcher.scratch()?;
                let file = fetcher.file(url)?;
                let place = directory.join("context");
                std::fs::rename(&file, &place).at("rename", &file)?;
                private(&place)?;
                Context::open_remote(&directory, None)
            }
            NamedSource::Repository(reference) => {
                let directory = check_out(fetcher, reference)?;
                Context::open_remote(&directory, None)
            }
        };
        let context = context
            .map_err(|error| StepError::Invalid(format!("{label}: {error}")))?
            .called(&label);
        Ok(Some(opened.get_or_init(|| context)))
    }
}

/// Mode 0600, whatever the umask is.
fn private(path: &std::path::Path) -> Result<(), StepError> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).at("chmod", path)?)
}

/// The directory of a repository's files.
pub fn check_out(fetcher: &Fetcher, reference: &git::Reference) -> Result<PathBuf, StepError> {
    let remote = Remote::Repository(Box::new(reference.clone()));
    let Known::Checkout(mut checkout) = fetcher.look(&remote, true)? else {
        return Err(StepError::Needed);
    };
    fetcher.check_out(&mut checkout)?;
    let Checkout { directory, .. } = *checkout;
    directory.ok_or(StepError::Needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_docker_shows_them() {
        let context = |name: &str| NamedContext {
            name: super::name(name).unwrap(),
            source: NamedSource::Directory("/x".into()),
        };
        let contexts = [
            context("alpine"),
            context("docker.io/library/app:1"),
            context("alpine:latest"),
        ];
        assert_eq!(find(&contexts, "alpine"), Some(2));
        assert_eq!(find(&contexts, "docker.io/library/alpine:latest"), Some(2));
        assert_eq!(find(&contexts, "app:1"), Some(1));
        assert_eq!(find(&contexts, "app"), None);
        assert_eq!(find(&contexts, "scratch"), None);
    }
}

//! Lowering of COPY and ADD: where the files come from, and what is asked of them.

use serde_json::json;

use super::{Lowering, StageState};
use crate::build::chmod::Chmod;
use crate::build::config::StageConfig;
use crate::build::error::{Error, StepError};
use crate::build::named::{self, NamedSource};
use crate::build::plan::{FileSource, FilesOperation, Operation, Origin};
use crate::build::remote::url::Url;
use crate::build::remote::{Remote, git, redacted};
use crate::dockerfile::{Add, Copy, Instruction, Source, StageSource};
use crate::oci::Digest;

impl Lowering<'_> {
    pub(super) fn copy(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        copy: &Copy,
    ) -> Result<(), Error> {
        let at = (instruction.span.line, instruction.original.as_str());
        for source in &copy.sources {
            if let Source::Path(path) = source
                && (is_url(path) || git::is_git(path))
            {
                let why = format!("{:?}: COPY takes no URLs; ADD does", redacted(path));
                return Err(self.failed(at.0, at.1, StepError::Invalid(why)));
            }
        }
        let origin = self.origin(state, instruction, copy.from.as_deref())?;
        let operation = FilesOperation {
            origin,
            sources: sources(&copy.sources),
            destination: destination(&state.config, &copy.destination),
            owner: copy.chown.clone(),
            mode: self.mode(at, copy.chmod.as_deref())?,
            link: copy.link,
            exclude: copy.exclude.clone(),
            parents: copy.parents,
            unpack: false,
            directory_only: false,
        };
        self.files(state, at, "COPY", operation, copy.from.as_deref())
    }

    pub(super) fn add(
        &mut self,
        state: &mut StageState,
        (line, text): (u32, &str),
        add: &Add,
    ) -> Result<(), Error> {
        // What is shown and kept of the instruction: a password in a URL is neither.
        let text: Vec<String> = text.split(' ').map(redacted).collect();
        let text = text.join(" ");
        let at = (line, text.as_str());
        let sources = sources(&add.sources);
        let sources = elsewhere(add, sources)
            .map_err(|why| self.failed(at.0, at.1, StepError::Invalid(why)))?;
        let operation = FilesOperation {
            origin: Origin::Context,
            sources,
            destination: destination(&state.config, &add.destination),
            owner: add.chown.clone(),
            mode: self.mode(at, add.chmod.as_deref())?,
            link: add.link,
            exclude: add.exclude.clone(),
            parents: false,
            // What comes from elsewhere stays as it is, unless it is said: see `remote`.
            unpack: add.unpack.unwrap_or(true),
            directory_only: false,
        };
        self.files(state, at, "ADD", operation, None)
    }

    fn files(
        &mut self,
        state: &mut StageState,
        at: (u32, &str),
        keyword: &str,
        operation: FilesOperation,
        from: Option<&str>,
    ) -> Result<(), Error> {
        let names: Vec<String> = operation.sources.iter().map(told).collect();
        let inline: Vec<&str> = operation
            .sources
            .iter()
            .filter_map(|source| match source {
                FileSource::Inline { content, .. } => Some(content.as_str()),
                FileSource::Path(_) | FileSource::Remote(_) => None,
            })
            .collect();
        let identity = json!({
            "files": names,
            "inline": inline,
            "destination": operation.destination,
            "owner": operation.owner,
            "mode": operation.mode.as_ref().map(Chmod::to_string),
            "link": operation.link,
            "exclude": operation.exclude,
            "unpack": operation.unpack,
            "parents": operation.parents,
        });
        let mut created_by = keyword.to_owned();
        if operation.parents {
            created_by.push_str(" --parents");
        }
        for (flag, value) in [("from", from), ("chown", operation.owner.as_deref())] {
            if let Some(value) = value {
                created_by.push_str(&format!(" --{flag}={value}"));
            }
        }
        if let Some(mode) = &operation.mode {
            created_by.push_str(&format!(" --chmod={mode}"));
        }
        created_by.push_str(&format!(" {} {}", names.join(" "), operation.destination));
        self.push(state, at, Operation::Files(operation), created_by, identity);
        Ok(())
    }

    pub(super) fn origin(
        &mut self,
        state: &StageState,
        instruction: &Instruction,
        from: Option<&str>,
    ) -> Result<Origin, Error> {
        let Some(from) = from else {
            return Ok(Origin::Context);
        };
        let source = self
            .dockerfile
            .source_named(state.index, from, instruction)
            .map_err(|source| Error::Parse {
                name: self.name.to_owned(),
                source,
            })?;
        match source {
            StageSource::Stage(index) => {
                self.need(index)?;
                Ok(Origin::Stage(index))
            }
            StageSource::Scratch => Ok(Origin::Nothing),
            StageSource::Image(name) => match self.named_image(&name) {
                NamedBase::Tree(place) => Ok(Origin::Named(place)),
                NamedBase::Nothing => Ok(Origin::Nothing),
                NamedBase::Image(name) => self.image_origin(state, instruction, &name),
            },
        }
    }

    fn image_origin(
        &mut self,
        state: &StageState,
        instruction: &Instruction,
        name: &str,
    ) -> Result<Origin, Error> {
        match self.images.image(name, &state.platform) {
            Ok(image) => Ok(Origin::Image(Box::new(image))),
            Err(error) => Err(self.failed(instruction.span.line, &instruction.original, error)),
        }
    }

    /// What the name of an image means, once the named contexts were asked.
    pub(super) fn named_image(&self, name: &str) -> NamedBase {
        let contexts = &self.options.named;
        match named::find(contexts, name).map(|place| (place, &contexts[place].source)) {
            None => NamedBase::Image(name.to_owned()),
            Some((_, NamedSource::Image(image))) if image == "scratch" => NamedBase::Nothing,
            Some((_, NamedSource::Image(image))) => NamedBase::Image(image.clone()),
            Some((place, _)) => NamedBase::Tree(place),
        }
    }

    /// `FROM` a tree: all of it, copied onto nothing.
    pub(super) fn copy_tree(
        &mut self,
        state: &mut StageState,
        at: (u32, &str),
        place: usize,
    ) -> Result<(), Error> {
        let operation = FilesOperation {
            origin: Origin::Named(place),
            sources: vec![FileSource::Path(".".to_owned())],
            destination: "/".to_owned(),
            owner: None,
            mode: None,
            link: false,
            exclude: Vec::new(),
            parents: false,
            unpack: false,
            directory_only: false,
        };
        let name = self.options.named[place].name.clone();
        self.files(state, at, "COPY", operation, Some(&name))
    }

    fn mode(&self, at: (u32, &str), mode: Option<&str>) -> Result<Option<Chmod>, Error> {
        let Some(text) = mode.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let mode =
            Chmod::parse(text).map_err(|why| self.failed(at.0, at.1, StepError::Invalid(why)))?;
        Ok(Some(mode))
    }
}

/// What a name in FROM or `--from` comes to.
pub(super) enum NamedBase {
    /// An image of the store, by this name.
    Image(String),
    /// The files of a named context.
    Tree(usize),
    /// Nothing.
    Nothing,
}

/// Finds the sources of an ADD that are elsewhere, and says what is wrong with its flags.
fn elsewhere(add: &Add, sources: Vec<FileSource>) -> Result<Vec<FileSource>, String> {
    let checksum = add.checksum.as_deref().filter(|text| !text.is_empty());
    if checksum.is_some() && sources.len() != 1 {
        return Err("--checksum is for one source".to_owned());
    }
    let remote = |source| match source {
        FileSource::Path(path) => Ok(match remote(&path, add, checksum)? {
            Some(remote) => FileSource::Remote(remote),
            None if checksum.is_some() => {
                return Err("--checksum is for URLs and repositories".to_owned());
            }
            None => FileSource::Path(path),
        }),
        other => Ok(other),
    };
    sources.into_iter().map(remote).collect()
}

fn remote(path: &str, add: &Add, checksum: Option<&str>) -> Result<Option<Remote>, String> {
    let shown = redacted(path);
    if let Some(reference) = git::Reference::parse(path).map_err(|why| format!("{shown}: {why}"))? {
        let reference = reference.with_flags(add.keep_git_dir, checksum)?;
        return Ok(Some(Remote::Repository(Box::new(reference))));
    }
    if !is_url(path) {
        return Ok(None);
    }
    let checksum = match checksum {
        Some(text) => Some(text.parse::<Digest>().map_err(|_| {
            format!("--checksum={text}: for a URL it is sha256: and 64 hexadecimal digits")
        })?),
        None => None,
    };
    // BuildKit's word for a file that the URL does not name; Content-Disposition counts for nothing.
    let name = Url::parse(path).and_then(|url| url.file_name());
    Ok(Some(Remote::File {
        url: path.to_owned(),
        name: name.unwrap_or_else(|| "__unnamed__".to_owned()),
        checksum,
        unpack: add.unpack == Some(true),
    }))
}

/// How history tells a source: without a password.
fn told(source: &FileSource) -> String {
    match source {
        FileSource::Path(path) => path.clone(),
        FileSource::Inline { name, .. } => name.clone(),
        FileSource::Remote(Remote::File { url, .. }) => redacted(url),
        FileSource::Remote(Remote::Repository(reference)) => {
            let mut text = redacted(&reference.remote);
            if reference.name.is_some() || reference.subdirectory.is_some() {
                text.push('#');
                text.push_str(reference.name.as_deref().unwrap_or(""));
            }
            if let Some(directory) = &reference.subdirectory {
                text.push(':');
                text.push_str(directory);
            }
            text
        }
    }
}

/// The sources, which are expanded already: what an escape kept as it is stays so.
fn sources(sources: &[Source]) -> Vec<FileSource> {
    let source = |source: &Source| match source {
        Source::Path(path) => FileSource::Path(path.clone()),
        Source::Heredoc { name, content, .. } => FileSource::Inline {
            name: name.clone(),
            content: content.clone(),
        },
    };
    sources.iter().map(source).collect()
}

/// The destination below the working directory; a trailing slash, or `.`, says "a directory".
fn destination(config: &StageConfig, text: &str) -> String {
    let directory = text.ends_with('/') || matches!(text, "." | "") || text.ends_with("/.");
    let path = config.resolve(text);
    if directory && path != "/" {
        format!("{path}/")
    } else {
        path
    }
}

fn is_url(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://")
}

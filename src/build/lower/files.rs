//! Lowering of COPY and ADD: where the files come from, and what is asked of them.

use serde_json::json;

use super::{Lowering, StageState, missing_image};
use crate::build::config::StageConfig;
use crate::build::error::{Error, StepError};
use crate::build::plan::{FileSource, FilesOperation, Operation, Origin};
use crate::dockerfile::{Add, Copy, Instruction, Source, StageSource};

impl Lowering<'_> {
    pub(super) fn copy(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        copy: &Copy,
    ) -> Result<(), Error> {
        let at = (instruction.span.line, instruction.original.as_str());
        if copy.parents {
            let what = "COPY --parents".to_owned();
            return Err(self.failed(at.0, at.1, StepError::NotSupported(what)));
        }
        let origin = self.origin(state, instruction, copy.from.as_deref())?;
        let operation = FilesOperation {
            origin,
            sources: Self::sources(&copy.sources),
            destination: destination(&state.config, &copy.destination),
            owner: copy.chown.clone(),
            mode: self.mode(at, copy.chmod.as_deref())?,
            link: copy.link,
            exclude: copy.exclude.clone(),
            unpack: false,
            directory_only: false,
        };
        self.files(state, at, "COPY", operation, copy.from.as_deref())
    }

    pub(super) fn add(
        &mut self,
        state: &mut StageState,
        at: (u32, &str),
        add: &Add,
    ) -> Result<(), Error> {
        let refuse =
            |what: &str| Err(self.failed(at.0, at.1, StepError::NotSupported(what.to_owned())));
        if add.checksum.is_some() {
            return refuse("ADD --checksum");
        }
        if add.keep_git_dir.is_some() {
            return refuse("ADD --keep-git-dir");
        }
        for source in &add.sources {
            if let Source::Path(path) = source
                && is_remote(path)
            {
                return refuse(&format!("ADD of a URL ({path})"));
            }
        }
        let operation = FilesOperation {
            origin: Origin::Context,
            sources: Self::sources(&add.sources),
            destination: destination(&state.config, &add.destination),
            owner: add.chown.clone(),
            mode: self.mode(at, add.chmod.as_deref())?,
            link: add.link,
            exclude: add.exclude.clone(),
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
        let names: Vec<&str> = operation
            .sources
            .iter()
            .map(|source| match source {
                FileSource::Path(path) => path.as_str(),
                FileSource::Inline { name, .. } => name.as_str(),
            })
            .collect();
        let inline: Vec<&str> = operation
            .sources
            .iter()
            .filter_map(|source| match source {
                FileSource::Inline { content, .. } => Some(content.as_str()),
                FileSource::Path(_) => None,
            })
            .collect();
        let identity = json!({
            "files": names,
            "inline": inline,
            "destination": operation.destination,
            "owner": operation.owner,
            "mode": operation.mode,
            "link": operation.link,
            "exclude": operation.exclude,
            "unpack": operation.unpack,
        });
        let mut created_by = keyword.to_owned();
        for (flag, value) in [("from", from), ("chown", operation.owner.as_deref())] {
            if let Some(value) = value {
                created_by.push_str(&format!(" --{flag}={value}"));
            }
        }
        if let Some(mode) = operation.mode {
            created_by.push_str(&format!(" --chmod={mode:o}"));
        }
        created_by.push_str(&format!(" {} {}", names.join(" "), operation.destination));
        self.push(state, at, Operation::Files(operation), created_by, identity);
        Ok(())
    }

    fn origin(
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
            StageSource::Image(name) => match self.images.image(&name, &state.platform) {
                Ok(image) => Ok(Origin::Image(Box::new(image))),
                Err(error) => Err(self.failed(
                    instruction.span.line,
                    &instruction.original,
                    missing_image(error),
                )),
            },
        }
    }

    /// The sources of an instruction that is expanded already, bodies of heredocs included.
    fn sources(sources: &[Source]) -> Vec<FileSource> {
        sources
            .iter()
            .map(|source| match source {
                Source::Path(path) => FileSource::Path(path.clone()),
                Source::Heredoc { name, content, .. } => FileSource::Inline {
                    name: name.clone(),
                    content: content.clone(),
                },
            })
            .collect()
    }

    fn mode(&self, at: (u32, &str), mode: Option<&str>) -> Result<Option<u32>, Error> {
        let Some(text) = mode.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o7777 => Ok(Some(mode)),
            _ if text.bytes().any(|b| b.is_ascii_alphabetic()) => {
                let what = format!("--chmod={text} (symbolic modes)");
                Err(self.failed(at.0, at.1, StepError::NotSupported(what)))
            }
            _ => {
                let why = format!("--chmod={text}: a mode is octal, from 0 to 7777");
                Err(self.failed(at.0, at.1, StepError::Invalid(why)))
            }
        }
    }
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

fn is_remote(path: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

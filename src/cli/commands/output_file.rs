//! `-o FILE`: a file that is there as a whole, or as it was before.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::cli::Result;
use crate::fsutil;

/// A file to be written.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
}

impl OutputFile {
    /// Whether a file can be at `path`, asked before there is anything to write. `-` is stdout,
    /// for which there is `None`. What a link leads to is replaced, not the link.
    pub fn check(path: &Path) -> Result<Option<OutputFile>> {
        let shown = path.display();
        if path == Path::new("-") {
            return Ok(None);
        }
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                bail!("--output {shown} is a directory: name a file in it")
            }
            // Renaming a file over a device or a pipe would take it away from everybody.
            Ok(metadata) if !metadata.is_file() => {
                bail!("--output {shown} is no plain file; - is stdout")
            }
            Ok(_) => {
                let path = path.canonicalize();
                let path = path.with_context(|| format!("--output {shown}"))?;
                return Ok(Some(OutputFile { path }));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("--output {shown}")),
        }
        if path.file_name().is_none() || shown.to_string().ends_with('/') {
            bail!("--output {shown} names no file");
        }
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        if let Some(parent) = parent
            && !parent.is_dir()
        {
            bail!(
                "--output {shown}: there is no directory {}; make it first",
                parent.display()
            );
        }
        let path = path.to_path_buf();
        Ok(Some(OutputFile { path }))
    }

    /// Writes it: a temporary file beside it, fsync, rename. All may read it.
    pub fn write(&self, bytes: &[u8]) -> Result {
        Ok(fsutil::atomic_replace_with_mode(&self.path, bytes, 0o644)?)
    }
}

//! The configuration: `/etc/rstore/config.toml`, then `$XDG_CONFIG_HOME/rstore/config.toml`; of
//! what both say the latter's holds. `--config FILE` (`RSTORE_CONFIG`) names one file in place of
//! both. `contrib/config.toml` explains each key.
//!
//! ```text
//! root = "/srv/images"            defaults for flags: a flag, or its variable, goes before them
//! no-progress = true
//! [build]                         defaults for flags of `rstore build`
//! progress = "plain"
//! compression = "zstd:3"
//! jobs = 4
//! [prune.nightly]                 what `rstore prune --policy nightly` does
//! scopes = ["dangling", "stages"]
//! until = "7d"
//! [registry."docker.io"]          how a registry is reached
//! mirrors = ["mirror.example"]
//! ```
//! | file | owns |
//! |---|---|
//! | [`table`] | tables of a file: typed keys, and errors that name file, line and column |
//! | [`policy`] | `[prune.NAME]` |
//! | [`registry`] | `[registry."HOST"]` |
//!
//! An unknown key is an error, not ignored: what is misspelt would otherwise not happen, at three
//! in the morning. A new section is one more field of [`Config`], and one line in `Config::take`.
//!
//! **Whose word counts.** Run by root, a file that somebody else could have written is refused: it
//! says what is deleted, and where.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::args::BuildArgs;
use super::progress;
use super::{Result, exit};
use crate::fsutil::IoContext;
use crate::layer::Compression;
use crate::registry::HostConfig;

pub mod policy;
pub mod registry;
pub mod table;

pub use policy::PolicyWords;
use table::Table;

/// What the files say. What they don't is `None`, or empty.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The store's directory.
    pub root: Option<PathBuf>,
    /// Whether no progress is shown.
    pub no_progress: Option<bool>,
    /// How builds are shown.
    pub progress: Option<progress::Kind>,
    /// How builds compress layers.
    pub compression: Option<Compression>,
    /// How many steps of a build run at the same time.
    pub jobs: Option<NonZeroUsize>,
    /// What prunes are called, and what they do.
    pub policies: BTreeMap<String, PolicyWords>,
    /// How registries are reached, by their domain.
    pub registries: BTreeMap<String, HostConfig>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// Reads the file that was named, or else those that there are.
    pub fn load(named: Option<&Path>) -> Result<Config> {
        let mut config = Config::default();
        if let Some(path) = named {
            let text = read(path)?.at("open", path)?;
            config.read(path, &text)?;
            return Ok(config);
        }
        for path in default_files() {
            match read(&path)? {
                Ok(text) => config.read(&path, &text)?,
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(crate::fsutil::Error::new("open", path, error).into()),
            }
        }
        Ok(config)
    }

    /// Takes in one file's text, which goes before what was read so far.
    pub fn read(&mut self, path: &Path, text: &str) -> Result {
        let mut file = Table::parse(path, text)?;
        self.take(&mut file)?;
        file.end()?;
        self.files.push(path.to_path_buf());
        Ok(())
    }

    fn take(&mut self, file: &mut Table) -> Result {
        let root = file.parsed("root", absolute)?;
        self.root = root.or(self.root.take());
        self.no_progress = file.boolean("no-progress")?.or(self.no_progress);
        if let Some(mut build) = file.table("build")? {
            let kind = |text: &str| progress::Kind::from_str(text, true);
            self.progress = build.parsed("progress", kind)?.or(self.progress);
            let compression = |text: &str| text.parse::<Compression>().map_err(|e| e.to_string());
            let compression = build.parsed("compression", compression)?;
            self.compression = compression.or(self.compression);
            self.jobs = build.count("jobs")?.or(self.jobs);
            build.end()?;
        }
        for (name, mut table) in file.tables("prune")? {
            let policy = PolicyWords::take(&mut table)?;
            table.end()?;
            self.policies.insert(name, policy);
        }
        for (name, mut table) in file.tables("registry")? {
            let (domain, config) = registry::take(&name, &mut table)?;
            table.end()?;
            self.registries.insert(domain, config);
        }
        Ok(())
    }

    /// Gives a build what its command line leaves open.
    pub fn fill(&self, build: &mut BuildArgs) {
        let buildkit = std::env::var_os("BUILDKIT_PROGRESS").is_some_and(|word| !word.is_empty());
        if build.progress.is_none() && !buildkit {
            build.progress = self.progress;
        }
        let by_output = build.outputs.iter().any(|o| o.compression.is_some());
        if build.compression.is_none() && !by_output {
            build.compression = self.compression;
        }
        build.jobs = build.jobs.or(self.jobs);
    }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    match Path::new(text) {
        path if path.is_absolute() => Ok(path.to_path_buf()),
        _ => Err(format!("{text:?} is not a path from / on")),
    }
}

/// Where configuration is looked for, the one that goes before the other last.
fn default_files() -> Vec<PathBuf> {
    let absolute = |name: &str| {
        let value = PathBuf::from(std::env::var_os(name)?);
        value.is_absolute().then_some(value)
    };
    let users = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    let users = users.map(|directory| directory.join("rstore/config.toml"));
    let machines = PathBuf::from("/etc/rstore/config.toml");
    [machines].into_iter().chain(users).collect()
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// A file's text, unless it is one that root does not believe.
fn read(path: &Path) -> Result<std::io::Result<String>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Ok(Err(error)),
    };
    let others = metadata.uid() != 0 || metadata.mode() & 0o022 != 0;
    if rustix::process::geteuid().is_root() && metadata.is_file() && others {
        return Err(exit::usage_error(format!(
            "{} is not root's alone to write, and says what root deletes: chown root and chmod go-w it, or name another file with --config",
            path.display()
        )));
    }
    Ok(fs::read_to_string(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config> {
        let mut config = Config::default();
        config.read(Path::new("c.toml"), text)?;
        Ok(config)
    }

    fn refused(text: &str) -> String {
        let error = config(text).unwrap_err();
        assert_eq!(exit::code(&error), 2, "{error}");
        error.to_string()
    }

    #[test]
    fn defaults_and_policies_are_read() {
        let config = config(
            "root = '/srv'\n[build]\njobs = 3\nprogress = 'plain'\ncompression = 'zstd:3'\n\
             [prune.nightly]\nscopes = ['stages']\nuntil = '7d'\nkeep-last = 2\nmax-used-space = '10%'\n",
        )
        .unwrap();
        assert_eq!(config.root.as_deref(), Some(Path::new("/srv")));
        assert_eq!(config.jobs.map(NonZeroUsize::get), Some(3));
        assert_eq!(config.compression, Some(Compression::Zstd(3)));
        assert_eq!(config.policies["nightly"].until.as_deref(), Some("7d"));
    }

    #[test]
    fn the_later_file_goes_before_the_earlier_one_key_by_key_and_policy_by_policy() {
        let mut config = config("root = '/a'\n[build]\njobs = 3\n[prune.p]\nuntil = '1d'\nkeep = 'x'\n[prune.q]\nuntil = '2d'\n").unwrap();
        let later = "root = '/b'\n[prune.p]\nuntil = '3d'\n";
        config.read(Path::new("d.toml"), later).unwrap();
        assert_eq!(config.root.as_deref(), Some(Path::new("/b")));
        assert!(config.jobs.is_some());
        assert_eq!(config.policies["p"].until.as_deref(), Some("3d"));
        assert_eq!(config.policies["p"].keep, None, "a policy is taken whole");
        assert_eq!(config.policies["q"].until.as_deref(), Some("2d"));
    }

    #[test]
    fn registries_are_read_by_the_domain_that_names_have() {
        let text = include_str!("../../../contrib/config.toml");
        let (_, example) = text.split_once("#[registry").expect("an example");
        // The example is commented out there: it names hosts that nobody has.
        let example = format!("#[registry{example}");
        let lines = example.lines().map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => key,
            _ => line,
        });
        let config = config(&lines.collect::<Vec<_>>().join("\n")).unwrap();
        let docker = &config.registries["docker.io"];
        assert_eq!(docker.mirrors.len(), 2);
        assert!(docker.only_mirrors);
        let other = &config.registries["registry.example:5000"];
        assert!(other.insecure && other.authority.is_some() && other.client.is_some());
        let hub = "[registry.'index.docker.io']\nmirrors = ['http://10.0.0.1:5000/hub/']";
        let hub = super::tests::config(hub).unwrap();
        assert!(hub.registries.contains_key("docker.io"), "{hub:?}");
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_file_line_and_the_nearest_key() {
        for (text, told) in [
            (
                "\nrot = 'x'\n",
                "c.toml:2:1: there is no key \"rot\"; did you mean \"root\"?",
            ),
            (
                "[prune.n]\nuntill = '1d'\n",
                "c.toml:2:1: there is no key \"untill\"; did you mean \"until\"?",
            ),
            ("[prune.n]\nscopes = ['stage']\n", "c.toml:2:11"),
            ("[prune.n]\nuntil = 'soon'\n", "c.toml:2:9"),
            ("[prune.n]\nkeep = '('\n", "c.toml:2:8"),
            ("[prune.n]\nkeep-last = 0\n", "c.toml:2:13"),
            ("[prune.n]\nmax-used-space = '101%'\n", "c.toml:2:18"),
            ("[prune.n]\nfilters = ['nokey=1']\n", "c.toml:2:12"),
            ("[build]\njobs = 'many'\n", "c.toml:2:8"),
            ("root = 'here'\n", "c.toml:1:8"),
            ("root = \n", "c.toml:1:"),
            ("prune = 3\n", "c.toml:1:9"),
            ("[registry.'h:1']\nmirrors = ['ftp://x']\n", "c.toml:2:12"),
            (
                "[registry.'h:1']\nmirorr = []\n",
                "c.toml:2:1: there is no key \"mirorr\"; did you mean \"mirrors\"?",
            ),
            ("[registry.'h:1']\nca = 'here'\n", "c.toml:2:6"),
            (
                "[registry.'h:1']\ncert = '/c'\n",
                "c.toml:1:11: cert and key",
            ),
            (
                "[registry.'h:1']\nfallback = false\n",
                "c.toml:1:11: fallback",
            ),
            (
                "\n[registry.'https://h']\n",
                "c.toml:2:11: \"https://h\" is no registry",
            ),
            ("[registry.team]\n", "c.toml:1:11: \"team\" is no registry"),
        ] {
            let said = refused(text);
            assert!(said.starts_with(told), "{text:?}: {said}");
        }
    }
}

//! What a build comes to: stages and steps whose every word is final. Plain data;
//! [`lower`](super::lower::lower) makes it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::chmod::Chmod;
use super::config::StageConfig;
use super::event::StepInfo;
use super::remote::Remote;
use crate::executor::Network;
use crate::oci::Platform;
use crate::store::{self, Image};

/// Finds base images.
pub trait ResolveBase {
    /// The image that a name means, for a platform.
    fn image(&mut self, name: &str, platform: &Platform) -> Result<Image, store::Error>;
}

/// What a stage stands on.
#[derive(Debug, Clone)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image of the store.
    Image(Box<Image>),
    /// An earlier stage.
    Stage(usize),
}

/// Where COPY takes files from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The build context.
    Context,
    /// Nothing (`--from=scratch`), or only what the Dockerfile itself holds.
    Nothing,
    /// An earlier stage.
    Stage(usize),
    /// An image of the store.
    Image(Box<Image>),
    /// A named context, by its place among the options'.
    Named(usize),
}

/// What one step does.
#[derive(Debug, Clone)]
pub enum Operation {
    /// FROM.
    From,
    /// An instruction that changes the configuration only.
    Metadata,
    /// RUN.
    Run(RunOperation),
    /// COPY, ADD, and the directory that WORKDIR makes.
    Files(FilesOperation),
}

/// A process to run.
#[derive(Debug, Clone)]
pub struct RunOperation {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// The whole environment but for HOME.
    pub environment: Vec<(String, String)>,
    /// `user[:group]`.
    pub user: String,
    /// The working directory.
    pub directory: String,
    /// Its network.
    pub network: Network,
    /// A script to mount at a path for the step: (path, content).
    pub script: Option<(String, String)>,
}

/// Files to put into the image.
#[derive(Debug, Clone)]
pub struct FilesOperation {
    /// From where.
    pub origin: Origin,
    /// What: paths and patterns, or files given in the Dockerfile.
    pub sources: Vec<FileSource>,
    /// To where: absolute, a trailing slash is significant.
    pub destination: String,
    /// `--chown`.
    pub owner: Option<String>,
    /// `--chmod`.
    pub mode: Option<Chmod>,
    /// `--link`: the destination is not looked up in the image.
    pub link: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--parents`: sources keep the directories that lead to them.
    pub parents: bool,
    /// Whether archives are unpacked.
    pub unpack: bool,
    /// WORKDIR: nothing is copied, the directory is made.
    pub directory_only: bool,
}

/// One source of a COPY.
#[derive(Debug, Clone)]
pub enum FileSource {
    /// A path or pattern.
    Path(String),
    /// A file given in the Dockerfile.
    Inline {
        /// Its name.
        name: String,
        /// Its content.
        content: String,
    },
    /// A URL, or a repository: ADD.
    Remote(Remote),
}

/// One step: an instruction with every word final.
#[derive(Debug, Clone)]
pub struct Step {
    /// What displays show.
    pub info: StepInfo,
    /// What is done.
    pub operation: Operation,
    /// The configuration after it.
    pub config: StageConfig,
    /// How history tells it.
    pub created_by: String,
    /// What of it goes into the cache key, besides the parent and the content of files.
    pub identity: Value,
}

/// ARGs and their values; `None`: declared, and nobody gave one.
pub type Arguments = BTreeMap<String, Option<String>>;

/// One stage that the target needs.
#[derive(Debug, Clone)]
pub struct StagePlan {
    /// What it stands on.
    pub base: Base,
    /// The ARGs that it has at its end, for stages that stand on it.
    pub arguments: Arguments,
    /// Its steps; the first is FROM.
    pub steps: Vec<Step>,
    /// The platform it is for.
    pub platform: Platform,
}

/// All that the target needs.
#[derive(Debug)]
pub struct BuildGraph {
    /// By index of the stage in the file; `None`: the target does not need it.
    pub stages: Vec<Option<StagePlan>>,
    /// The stage that is built.
    pub target: usize,
    /// What is accepted and should be known.
    pub warnings: Vec<String>,
}

impl BuildGraph {
    /// Every step, in the order of the file.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.stages.iter().flatten().flat_map(|stage| &stage.steps)
    }
}

//! What a build comes to: stages and steps whose every word is final. Plain data;
//! [`lower`](super::lower::lower) makes it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::chmod::Chmod;
use super::config::StageConfig;
use super::error::StepError;
use super::event::StepInfo;
use super::remote::Remote;
use crate::dockerfile::{MountOwner, Sharing};
use crate::executor::{Network, Security};
use crate::oci::Platform;
use crate::store::Image;

/// Finds base images.
pub trait ResolveBase {
    /// The image that a name means, for a platform.
    fn image(&mut self, name: &str, platform: &Platform) -> Result<Image, StepError>;
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

impl Operation {
    /// Shows the index of every stage that it takes files from.
    fn each_stage(&mut self, show: &mut dyn FnMut(&mut usize)) {
        let mut of = |files: &mut FilesOperation| {
            if let Origin::Stage(index) = &mut files.origin {
                show(index);
            }
        };
        match self {
            Operation::Files(files) => of(files),
            Operation::Run(run) => {
                for mount in &mut run.mounts {
                    match mount {
                        MountOperation::Bind { files, .. } => of(files),
                        MountOperation::Cache(cache) => {
                            if let Some(files) = &mut cache.from {
                                of(files);
                            }
                        }
                        _ => {}
                    }
                }
            }
            Operation::From | Operation::Metadata => {}
        }
    }
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
#[derive(Debug, Clone, Default)]
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
    /// How far it is trusted.
    pub security: Security,
    /// What is mounted for it, in the order of the file.
    pub mounts: Vec<MountOperation>,
}

/// One `RUN --mount`. Targets are absolute.
#[derive(Debug, Clone)]
pub enum MountOperation {
    /// Files of the context, a stage or an image.
    Bind {
        /// Where.
        target: String,
        /// Which: one path, that is neither unpacked nor copied.
        files: Box<FilesOperation>,
        /// Refuse writes; else they go to where nobody looks.
        read_only: bool,
    },
    /// A directory that survives the build.
    Cache(CacheOperation),
    /// Memory.
    Tmpfs {
        /// Where.
        target: String,
        /// Bytes; none: half of the memory.
        size: Option<u64>,
        /// Refuse writes.
        read_only: bool,
    },
    /// A secret.
    Secret {
        /// Which.
        id: String,
        /// The file it is to be, if any.
        target: Option<String>,
        /// The variable it is to be, if any.
        variable: Option<String>,
        /// Whether the step fails without it.
        required: bool,
        /// Of the file.
        owner: (u32, u32),
        /// Of the file.
        mode: u32,
    },
    /// The socket of an SSH agent.
    Ssh {
        /// Which.
        id: String,
        /// Where.
        target: String,
        /// Whether the step fails without it.
        required: bool,
        /// Of the socket.
        owner: (u32, u32),
        /// Of the socket.
        mode: u32,
    },
}

/// A `RUN --mount=type=cache`.
#[derive(Debug, Clone)]
pub struct CacheOperation {
    /// Where.
    pub target: String,
    /// `id=`, or the target as written.
    pub id: String,
    /// Who may have it at the same time.
    pub sharing: Sharing,
    /// What a new one begins with.
    pub from: Option<Box<FilesOperation>>,
    /// Owner, group and mode of a new one.
    pub owner: MountOwner,
    /// Refuse writes.
    pub read_only: bool,
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
    /// Take nothing from the cache.
    pub no_cache: bool,
}

impl StagePlan {
    /// Shows the index of every stage that this one stands on or takes files from.
    pub fn each_stage(&mut self, show: &mut dyn FnMut(&mut usize)) {
        if let Base::Stage(index) = &mut self.base {
            show(index);
        }
        for step in &mut self.steps {
            step.operation.each_stage(show);
        }
    }

    /// The platform whose programs its steps run: that of its base, which may be another than was
    /// asked for where nobody asked.
    pub fn runs_on(&self) -> Platform {
        match &self.base {
            Base::Image(image) => image.config.platform(),
            Base::Scratch | Base::Stage(_) => self.platform.clone(),
        }
    }

    /// The first of its steps that runs a process.
    pub fn runs(&self) -> Option<&Step> {
        let mut steps = self.steps.iter();
        steps.find(|step| matches!(step.operation, Operation::Run(_)))
    }
}

/// All that the target needs.
#[derive(Debug)]
pub struct BuildGraph {
    /// By index of the stage in the file; `None`: the target does not need it.
    pub stages: Vec<Option<StagePlan>>,
    /// The stages that are built, one for each platform.
    pub targets: Vec<usize>,
    /// What is accepted and should be known.
    pub warnings: Vec<String>,
}

impl BuildGraph {
    /// Every step, in the order of the file.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.stages.iter().flatten().flat_map(|stage| &stage.steps)
    }
}

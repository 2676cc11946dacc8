//! What a Dockerfile says, as values: stages, instructions, flags, with the place of each.
//!
//! ```text
//! Dockerfile
//! ├ directives            # syntax=… # escape=… # check=…
//! ├ global_args           ARG before the first FROM
//! └ stages
//!    ├ from               FROM [--platform=…] image [AS name]
//!    └ instructions       kind (typed), span, original
//! ```
//!
//! Invariants:
//!
//! - Words are **as written**: variables, quotes and escapes are still in them, because what
//!   they expand to depends on the environment of the stage at that point. `Instruction::expand`
//!   makes an instruction whose words are final; only that one may be executed. The exceptions
//!   are what docker never expands: the bodies of `RUN`, `CMD`, `ENTRYPOINT`, `HEALTHCHECK`,
//!   `SHELL`, `ONBUILD` and `MAINTAINER`.
//! - Values of flags have lost their quotes and escapes already: docker takes them off while it
//!   splits flags from arguments, and expands what is left.
//! - Everything here is plain data and serialises; golden tests hold it in JSON.

use std::time::Duration;

use serde::Serialize;

/// Where something stands: 1-based lines, both inclusive, and the 1-based column (in characters)
/// at which it begins on the first of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Span {
    /// The first line.
    pub line: u32,
    /// The last line, heredoc bodies included.
    pub end_line: u32,
    /// The column of the first character on `line`.
    pub column: u32,
}

impl Span {
    /// The single place `line`, `column`.
    pub fn at(line: u32, column: u32) -> Span {
        Span {
            line,
            end_line: line,
            column,
        }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

/// A parsed Dockerfile. It has at least one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dockerfile {
    /// The parser directives at the top.
    pub directives: Directives,
    /// The `ARG` instructions before the first `FROM`: visible to `FROM`, and to a stage that
    /// names them in an `ARG` of its own.
    pub global_args: Vec<Instruction>,
    /// The stages in the order of the file.
    pub stages: Vec<Stage>,
    /// What is accepted but ought to be said.
    pub warnings: Vec<Spanned<Warning>>,
}

impl Dockerfile {
    /// The column of the instruction that begins on `line`; 1 where none does.
    pub fn column_of(&self, line: u32) -> u32 {
        let instructions = self.stages.iter().flat_map(|stage| &stage.instructions);
        let spans = self.global_args.iter().chain(instructions).map(|i| i.span);
        spans
            .chain(self.stages.iter().map(|stage| stage.span))
            .find(|span| span.line == line)
            .map_or(1, |span| span.column)
    }
}

/// The parser directives: `# name=value` comments before anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Directives {
    /// `# syntax=…`: the frontend that docker would load. Noted, never fetched.
    pub syntax: Option<Spanned<String>>,
    /// `# escape=…`: the character that escapes and continues lines, `\` or a backquote.
    pub escape: char,
    /// `# check=…`: options for the linter.
    pub check: Option<Spanned<String>>,
}

/// Something accepted, as docker accepts it, that is likely a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// An empty line inside a continued instruction (lint rule `NoEmptyContinuation`).
    EmptyContinuationLine,
}

/// One stage: a `FROM` and what follows it up to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// The name after `AS`, in lower case: names are case-insensitive.
    pub name: Option<String>,
    /// The `FROM` itself.
    pub from: FromInstruction,
    /// The instructions after it.
    pub instructions: Vec<Instruction>,
    /// The place of the `FROM`.
    pub span: Span,
}

/// `FROM [--platform=PLATFORM] IMAGE [AS ALIAS]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FromInstruction {
    /// The image, stage, or `scratch`; unexpanded.
    pub image: String,
    /// The value of `--platform`; unexpanded.
    pub platform: Option<String>,
    /// The name after `AS`, as it was written.
    pub alias: Option<String>,
    /// `AS` as it was written (lint rule `FromAsCasing`).
    pub as_keyword: Option<String>,
    /// `FROM` as it was written.
    pub keyword: String,
    /// The line with its continuations joined.
    pub original: String,
    /// The comment lines directly above, without `#`.
    pub comments: Vec<String>,
}

/// One instruction of a stage, or a global `ARG`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instruction {
    /// What it says.
    pub kind: Kind,
    /// Its place.
    pub span: Span,
    /// The line with its continuations joined and no heredoc bodies: what a progress display
    /// shows after `Step 2/7 : `.
    pub original: String,
    /// The keyword as it was written (lint rule `ConsistentInstructionCasing`).
    pub keyword: String,
    /// The comment lines directly above, without `#`.
    pub comments: Vec<String>,
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `RUN`.
    Run(Run),
    /// `COPY`.
    Copy(Copy),
    /// `ADD`.
    Add(Add),
    /// `ENV key=value …`. All values see the environment before the instruction.
    Env(Vec<KeyValue>),
    /// `ARG name[=default] …`. A later default sees the earlier names.
    Arg(Vec<ArgDefinition>),
    /// `WORKDIR path`.
    Workdir(String),
    /// `USER user[:group]`.
    User(String),
    /// `LABEL key=value …`.
    Label(Vec<KeyValue>),
    /// `EXPOSE port[/protocol] …`, in the order written.
    Expose(Vec<String>),
    /// `VOLUME path …` or its JSON form.
    Volume(Vec<String>),
    /// `CMD`.
    Cmd(Command),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `SHELL ["…"]`; never empty.
    Shell(Vec<String>),
    /// `STOPSIGNAL signal`.
    Stopsignal(String),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `ONBUILD trigger`: the trigger's raw text with its heredocs, checked, unexpanded.
    Onbuild(String),
    /// `MAINTAINER text` (deprecated).
    Maintainer(String),
}

impl Kind {
    /// The keyword in capitals: `COPY`.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Run(_) => "RUN",
            Kind::Copy(_) => "COPY",
            Kind::Add(_) => "ADD",
            Kind::Env(_) => "ENV",
            Kind::Arg(_) => "ARG",
            Kind::Workdir(_) => "WORKDIR",
            Kind::User(_) => "USER",
            Kind::Label(_) => "LABEL",
            Kind::Expose(_) => "EXPOSE",
            Kind::Volume(_) => "VOLUME",
            Kind::Cmd(_) => "CMD",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Shell(_) => "SHELL",
            Kind::Stopsignal(_) => "STOPSIGNAL",
            Kind::Healthcheck(_) => "HEALTHCHECK",
            Kind::Onbuild(_) => "ONBUILD",
            Kind::Maintainer(_) => "MAINTAINER",
        }
    }
}

/// A command line: text for the shell, or arguments for `execve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Shell form; the image's `SHELL` goes before it. May be empty.
    Shell(String),
    /// Exec form: a JSON array of strings. May be empty, which resets an inherited one.
    Exec(Vec<String>),
}

/// `key=value` of `ENV` and `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// Written `ENV key value`, where the value is the rest of the line (lint rule
    /// `LegacyKeyValueFormat`).
    pub legacy: bool,
}

/// `name[=default]` of `ARG`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArgDefinition {
    /// The name; docker doesn't expand it.
    pub name: String,
    /// The default.
    pub default: Option<String>,
}

/// `RUN [flags] command`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The command, as written; with heredocs it is the line that introduces them.
    /// [`Run::script`] says what is to be executed.
    pub command: Command,
    /// The heredocs, in order; only with [`Command::Shell`].
    pub heredocs: Vec<Heredoc>,
    /// `--mount=…`, in order.
    pub mounts: Vec<Mount>,
    /// `--network=…`.
    pub network: Option<RunNetwork>,
    /// `--security=…`.
    pub security: Option<RunSecurity>,
    /// `--device=…`.
    pub devices: Vec<Device>,
}

/// What a `RUN` executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// These arguments, without a shell.
    Exec(Vec<String>),
    /// This text, by the image's `SHELL`.
    Shell(String),
    /// A file of this name and content, mode 0755, readable for the step only (BuildKit mounts it
    /// below `/dev/pipes`), whose path the image's `SHELL` is given: a heredoc with a `#!`.
    File {
        /// The file's name.
        name: String,
        /// Its content.
        content: String,
    },
}

/// `RUN --network=…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunNetwork {
    /// What the build as a whole uses.
    Default,
    /// No network but a loopback.
    None,
    /// The host's.
    Host,
}

/// `RUN --security=…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunSecurity {
    /// As always.
    Sandbox,
    /// All capabilities; needs an entitlement.
    Insecure,
}

/// `RUN --device=name[,required]`: a CDI device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// The CDI name, such as `vendor.com/class=name`.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
}

/// One `RUN --mount=…`.
///
/// An option may hold variables (`target=$HOME/.cache`), all but `from`, which docker refuses
/// then. Until `Instruction::expand` has been through, [`Mount::resolved`] is false if there are
/// any, and only `from` and `text` may be relied on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// The flag's value as it was written.
    pub text: String,
    /// Whether every other field is final.
    pub resolved: bool,
    /// `from=`: a stage, a named context or an image.
    pub from: Option<String>,
    /// `source=`: the path in `from`. For a secret it is its ID.
    pub source: Option<String>,
    /// `target=`: where it appears; relative to the working directory.
    pub target: Option<String>,
    /// `ro` and `rw`; where neither is said, bind, secret and ssh mounts are read-only.
    pub read_only: bool,
    /// `type=` and what only that type has.
    pub kind: MountKind,
}

/// The type of a mount and what only that type has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// The build context, or what `from` names.
    Bind,
    /// A directory that survives the build.
    Cache {
        /// `id=`; the target where it isn't said.
        id: Option<String>,
        /// `sharing=`.
        sharing: Sharing,
        /// `mode=`, `uid=`, `gid=` of the directory when it is made.
        owner: MountOwner,
    },
    /// Memory.
    Tmpfs {
        /// `size=` in bytes.
        size: Option<u64>,
    },
    /// A secret file or variable.
    Secret {
        /// `id=`.
        id: Option<String>,
        /// `env=`: the variable to set; the empty name means one made from the ID.
        env: Option<String>,
        /// Whether the step fails without it.
        required: bool,
        /// `mode=`, `uid=`, `gid=` of the file.
        owner: MountOwner,
    },
    /// The socket of an SSH agent.
    Ssh {
        /// `id=`; `default` where it isn't said.
        id: Option<String>,
        /// Whether the step fails without it.
        required: bool,
        /// `mode=`, `uid=`, `gid=` of the socket.
        owner: MountOwner,
    },
}

/// `mode=`, `uid=`, `gid=` of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MountOwner {
    /// Octal in the text.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// Nobody else: a second user gets a directory of its own.
    Private,
    /// One after the other.
    Locked,
}

/// `COPY [flags] source… destination`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copy {
    /// At least one.
    pub sources: Vec<Source>,
    /// The destination; a trailing slash is significant.
    pub destination: String,
    /// `--from=`: a stage by name or number, a named context, an image. Never expanded.
    pub from: Option<String>,
    /// `--chown=user[:group]`.
    pub chown: Option<String>,
    /// `--chmod=`, octal or symbolic.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude=`, each one pattern; docker doesn't expand them.
    pub exclude: Vec<String>,
}

/// `ADD [flags] source… destination`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Add {
    /// At least one; paths, URLs, git URLs.
    pub sources: Vec<Source>,
    /// The destination; a trailing slash is significant.
    pub destination: String,
    /// `--chown=user[:group]`.
    pub chown: Option<String>,
    /// `--chmod=`, octal or symbolic.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--exclude=`, each one pattern; docker doesn't expand them.
    pub exclude: Vec<String>,
    /// `--checksum=` of a URL or a git commit.
    pub checksum: Option<String>,
    /// `--keep-git-dir`; `None` where it isn't said.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`; `None` where it isn't said: local archives are unpacked, remote ones not.
    pub unpack: Option<bool>,
}

/// A source of `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A path, wildcard or URL.
    Path(String),
    /// A file given in the Dockerfile, named after its delimiter.
    Heredoc {
        /// The file's name.
        name: String,
        /// The file's content, leading tabs gone if it was `<<-`.
        content: String,
        /// Whether variables in it are expanded: the delimiter had no quotes.
        expand: bool,
    },
}

/// A heredoc of `RUN`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heredoc {
    /// The delimiter without quotes.
    pub name: String,
    /// The lines up to the delimiter, as they are in the file, line ends included.
    pub content: String,
    /// Whether the delimiter had no quotes. For `RUN` it is the shell that expands.
    pub expand: bool,
    /// Written `<<-`: leading tabs don't count.
    pub chomp: bool,
    /// The number before `<<`, 0 where there is none.
    pub file_descriptor: u32,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`: no check, not the base's either.
    None,
    /// `HEALTHCHECK [flags] CMD command`.
    Cmd {
        /// The command; not empty.
        command: Command,
        /// `--interval`; zero means inherit, as in the image's configuration.
        interval: Option<Duration>,
        /// `--timeout`.
        timeout: Option<Duration>,
        /// `--start-period`.
        start_period: Option<Duration>,
        /// `--start-interval`.
        start_interval: Option<Duration>,
        /// `--retries`.
        retries: Option<u32>,
    },
}

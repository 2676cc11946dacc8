//! Lowering: from a Dockerfile to steps whose every word is final. Pure but for base images,
//! which [`ResolveBase`] reads.
//!
//! ```text
//! Dockerfile ─┬─ global ARGs, --build-arg ─▶ stage graph ─▶ stages that the target needs
//!             └─ per stage: configuration of the base ─▶ [instruction ─expand─▶ Step] …
//! ```
//! What an instruction expands to depends on ENV and ARG before it, and those on the base image's
//! configuration, never on what a RUN did: so all is known before anything runs, and what is not
//! supported is refused before anything is changed.

mod files;
pub mod mounts;
mod several;
mod uncached;

pub use several::lower_all;
use uncached::{is_uncached, unknown_stages};

use files::NamedBase;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::config::StageConfig;
use super::error::{Error, StepError};
use super::event::StepInfo;
use super::named;
use super::options::{Entitlement, Options};
use super::plan::{
    Arguments, Base, BuildGraph, FilesOperation, Operation, Origin, ResolveBase, RunOperation,
    StagePlan, Step,
};
use super::platform::{PLATFORM_ARGUMENTS, parse_platform, platform_argument};
use crate::dockerfile::{
    self, Dockerfile, Instruction, Kind, Run, RunNetwork, RunSecurity, Script, StageGraph,
    StageSource,
};
use crate::executor::{Network, Security};
use crate::oci::Platform;
use crate::store::Image;

/// Lowers a Dockerfile. `name` is what errors call it.
pub fn lower(
    dockerfile: &Dockerfile,
    name: &str,
    options: &Options,
    images: &mut dyn ResolveBase,
) -> Result<BuildGraph, Error> {
    let parse = |source| Error::Parse {
        name: name.to_owned(),
        source,
    };
    let mut used = BTreeSet::new();
    let globals = global_args(dockerfile, options, &mut used).map_err(parse)?;
    let automatic =
        |arg: &str| platform_argument(arg, options, &options.platform, last_stage(dockerfile));
    let visible = |arg: &str| {
        globals
            .get(arg)
            .cloned()
            .flatten()
            .or_else(|| automatic(arg))
    };
    let mut graph = dockerfile.stage_graph(&visible).map_err(parse)?;
    replace_named_stages(&mut graph, options);
    let target = graph.target(options.target.as_deref())?;
    let mut lowering = Lowering {
        dockerfile,
        name,
        options,
        graph: &graph,
        globals: &globals,
        images,
        used,
        stages: vec![None; dockerfile.stages.len()],
    };
    for index in graph.needed(target) {
        let stage = lowering.stage(index, index == target)?;
        lowering.stages[index] = Some(stage);
    }
    let Lowering {
        mut stages, used, ..
    } = lowering;
    number(&mut stages);
    let mut warnings = unused_arguments(options, &used);
    warnings.extend(unknown_stages(dockerfile, options));
    Ok(BuildGraph {
        stages,
        targets: vec![target],
        warnings,
    })
}

/// The name of the last stage.
fn last_stage(dockerfile: &Dockerfile) -> Option<&str> {
    dockerfile.stages.last()?.name.as_deref()
}

/// A stage whose name is a named context's is what that one is: it stands on it, and needs nothing.
fn replace_named_stages(graph: &mut StageGraph, options: &Options) {
    for node in &mut graph.nodes {
        if let Some(name) = node
            .name
            .as_deref()
            .filter(|name| is_replaced(name, options))
        {
            node.base = StageSource::Image(name.to_owned());
            node.references.clear();
        }
    }
}

fn is_replaced(stage: &str, options: &Options) -> bool {
    named::find(&options.named, stage).is_some()
}

fn number(stages: &mut [Option<StagePlan>]) {
    let mut number = 0;
    for stage in stages.iter_mut().flatten() {
        let count = stage.steps.len();
        for (place, step) in stage.steps.iter_mut().enumerate() {
            step.info.number = number;
            step.info.in_stage = place + 1;
            step.info.stage_steps = count;
            number += 1;
        }
    }
}

fn unused_arguments(options: &Options, used: &BTreeSet<String>) -> Vec<String> {
    let unused: Vec<&str> = options
        .build_args
        .keys()
        .map(String::as_str)
        .filter(|name| !used.contains(*name) && !is_proxy(name) && !is_for_the_builder(name))
        .collect();
    if unused.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "one or more build-args were not consumed: {}",
        unused.join(", ")
    )]
}

/// The names that speak to the builder, not to the file.
fn is_for_the_builder(name: &str) -> bool {
    name.starts_with("BUILDKIT_") || PLATFORM_ARGUMENTS.contains(&name)
}

/// The names that RUN sees without ARG if they are given; then no cache key or history holds them.
pub(super) fn is_proxy(name: &str) -> bool {
    matches!(
        name.to_ascii_lowercase().as_str(),
        "http_proxy" | "https_proxy" | "ftp_proxy" | "no_proxy" | "all_proxy"
    )
}

fn global_args(
    dockerfile: &Dockerfile,
    options: &Options,
    used: &mut BTreeSet<String>,
) -> Result<Arguments, dockerfile::ParseError> {
    let mut globals = Arguments::new();
    for instruction in &dockerfile.global_args {
        let Kind::Arg(definitions) = &instruction.kind else {
            continue;
        };
        let given = |name: &str| options.build_args.get(name).cloned();
        let automatic = |name: &str| {
            platform_argument(name, options, &options.platform, last_stage(dockerfile))
        };
        let seen = globals.clone();
        let environment = |name: &str| {
            seen.get(name)
                .cloned()
                .flatten()
                .or_else(|| automatic(name))
        };
        let defined = dockerfile::define_args(
            instruction,
            definitions,
            &given,
            &automatic,
            &environment,
            dockerfile.directives.escape,
        )?;
        used.extend(defined.values.iter().map(|(name, _)| name.clone()));
        globals.extend(defined.values);
    }
    Ok(globals)
}

struct Lowering<'a> {
    dockerfile: &'a Dockerfile,
    name: &'a str,
    options: &'a Options,
    graph: &'a StageGraph,
    globals: &'a Arguments,
    images: &'a mut dyn ResolveBase,
    used: BTreeSet<String>,
    stages: Vec<Option<StagePlan>>,
}

/// A stage while its instructions are gone through.
struct StageState {
    index: usize,
    label: String,
    config: StageConfig,
    arguments: Arguments,
    platform: Platform,
    steps: Vec<Step>,
    /// Whether the base's triggers are being gone through.
    in_triggers: bool,
}

impl StageState {
    /// The value of a variable: of ARG and ENV the later one's, as in BuildKit. An ENV takes the
    /// ARG of its name away, so that an ARG that is there is later than every ENV, the base's too.
    fn lookup(&self, name: &str) -> Option<String> {
        let argument = self.arguments.get(name).cloned().flatten();
        argument.or_else(|| self.config.env(name))
    }

    /// Takes the values that an ARG gives; one that gives none leaves a name what it was.
    fn define(&mut self, values: Vec<(String, Option<String>)>) {
        for (name, value) in values {
            let known = self.arguments.entry(name).or_default();
            *known = value.or_else(|| known.take());
        }
    }
}

impl Lowering<'_> {
    fn stage(&mut self, index: usize, is_target: bool) -> Result<StagePlan, Error> {
        let dockerfile = self.dockerfile;
        let stage = &dockerfile.stages[index];
        let node = &self.graph.nodes[index];
        self.used.extend(node.found.iter().cloned());
        let line = stage.span.line;
        let platform = match node.platform.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => parse_platform(text)
                .map_err(|why| self.failed(line, &stage.from.original, StepError::Invalid(why)))?,
            None => self.options.platform.clone(),
        };
        let (base, tree) = self.base(
            &node.base,
            (&platform, node.platform.is_some()),
            line,
            &stage.from.original,
        )?;
        let replaced = (stage.name.as_deref()).is_some_and(|name| is_replaced(name, self.options));
        let mut state = StageState {
            index,
            label: stage
                .name
                .clone()
                .unwrap_or_else(|| format!("stage-{index}")),
            config: self.base_config(&base),
            arguments: self.base_arguments(&base),
            platform: platform.clone(),
            steps: Vec::new(),
            in_triggers: false,
        };
        let triggers = state.config.run.on_build.take().unwrap_or_default();
        self.push(
            &mut state,
            (line, &stage.from.original),
            Operation::From,
            String::new(),
            Value::Null,
        );
        state.in_triggers = true;
        for trigger in triggers {
            let instruction =
                dockerfile::parse_instruction(&trigger, line).map_err(|source| Error::Parse {
                    name: format!("{} (ONBUILD of the base)", self.name),
                    source,
                })?;
            self.instruction(&mut state, &instruction)?;
        }
        state.in_triggers = false;
        if let Some(place) = tree {
            self.copy_tree(&mut state, (line, &stage.from.original), place)?;
        }
        let instructions = stage.instructions.iter().filter(|_| !replaced);
        for instruction in instructions {
            self.instruction(&mut state, instruction)?;
        }
        if is_target && !self.options.labels.is_empty() {
            self.labels(&mut state, stage.span.end_line)?;
        }
        Ok(StagePlan {
            base,
            arguments: state.arguments,
            steps: state.steps,
            platform,
            no_cache: self.options.no_cache
                || is_uncached(self.options, index, stage.name.as_deref()),
        })
    }

    /// `--label`: a last step, so that other labels change nothing before it.
    fn labels(&mut self, state: &mut StageState, line: u32) -> Result<(), Error> {
        let pair = |(key, value): &(String, String)| dockerfile::KeyValue {
            key: key.clone(),
            value: value.clone(),
            legacy: false,
        };
        let words: Vec<String> = self
            .options
            .labels
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let text = format!("LABEL {}", words.join(" "));
        let kind = Kind::Label(self.options.labels.iter().map(pair).collect());
        self.metadata(state, (line, &text), &kind, text.clone())
    }

    fn failed(&self, line: u32, instruction: &str, error: StepError) -> Error {
        Error::Step {
            name: self.name.to_owned(),
            line,
            column: self.dockerfile.column_of(line),
            instruction: instruction.to_owned(),
            source: Box::new(error),
        }
    }

    /// What a stage stands on, and the named context whose files come first.
    fn base(
        &mut self,
        source: &StageSource,
        (platform, asked): (&Platform, bool),
        line: u32,
        text: &str,
    ) -> Result<(Base, Option<usize>), Error> {
        let name = match source {
            StageSource::Scratch => return Ok((Base::Scratch, None)),
            StageSource::Stage(index) => return Ok((Base::Stage(*index), None)),
            StageSource::Image(name) => match self.named_image(name) {
                NamedBase::Nothing => return Ok((Base::Scratch, None)),
                NamedBase::Tree(place) => return Ok((Base::Scratch, Some(place))),
                NamedBase::Image(name) => name,
            },
        };
        match self.images.image(&name, platform) {
            Ok(image) => {
                self.same_platform(&image, &name, platform, asked)
                    .map_err(|error| self.failed(line, text, error))?;
                Ok((Base::Image(Box::new(image)), None))
            }
            Err(error) => Err(self.failed(line, text, error)),
        }
    }

    /// A platform that was asked for is that of the base, or the build is another than was meant.
    /// One that nobody asked for is whatever the image is.
    fn same_platform(
        &self,
        image: &Image,
        name: &str,
        wanted: &Platform,
        asked: bool,
    ) -> Result<(), StepError> {
        let found = image.config.platform();
        let same = wanted.distance(&found).is_some();
        if same || !(asked || *wanted != self.options.build_platform) {
            return Ok(());
        }
        Err(StepError::Invalid(format!(
            "image {name:?} is for {found}, not for {wanted}"
        )))
    }

    /// The ARGs of the stage that this one stands on are its own too, as in BuildKit.
    fn base_arguments(&self, base: &Base) -> Arguments {
        match base {
            Base::Stage(index) => {
                let stage = self.stages[*index].as_ref();
                stage.map_or_else(Arguments::new, |stage| stage.arguments.clone())
            }
            Base::Scratch | Base::Image(_) => Arguments::new(),
        }
    }

    /// Lowers a stage, and what it needs, that only a base image's trigger has named: the graph
    /// of the file could not know of it. It is always an earlier one.
    fn need(&mut self, index: usize) -> Result<(), Error> {
        if self.stages[index].is_some() {
            return Ok(());
        }
        let graph = self.graph;
        for needed in graph.nodes[index].stages() {
            self.need(needed)?;
        }
        let stage = self.stage(index, false)?;
        self.stages[index] = Some(stage);
        Ok(())
    }

    /// What a stage begins with. There is always a PATH, in the image too, as docker has it: so
    /// `ENV PATH=$PATH:/x` means the same on every base.
    fn base_config(&self, base: &Base) -> StageConfig {
        let mut config = match base {
            Base::Scratch => StageConfig::default(),
            Base::Image(image) => {
                StageConfig::on(&image.config.config, image.config.author.clone())
            }
            Base::Stage(index) => {
                let last = self.stages[*index]
                    .as_ref()
                    .and_then(|stage| stage.steps.last());
                last.map_or_else(StageConfig::default, |step| {
                    StageConfig::on(&step.config.run, step.config.author.clone())
                })
            }
        };
        if config.env("PATH").is_none() {
            config.set_env("PATH", crate::executor::DEFAULT_PATH);
        }
        config
    }

    fn push(
        &mut self,
        state: &mut StageState,
        (line, text): (u32, &str),
        operation: Operation,
        created_by: String,
        identity: Value,
    ) {
        let info = StepInfo {
            number: 0,
            stage: state.label.clone(),
            in_stage: 0,
            stage_steps: 0,
            text: text.to_owned(),
            line,
            column: self.dockerfile.column_of(line),
            trigger: state.in_triggers,
        };
        let config = state.config.clone();
        // What an instruction gives depends on more than its words and its parent: whether this
        // stage has said CMD, whether the base's triggers have run. All of that is in here.
        let identity = json!({
            "step": identity,
            "config": config.run,
            "author": config.author,
        });
        state.steps.push(Step {
            info,
            operation,
            config,
            created_by,
            identity,
        });
    }

    fn instruction(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
    ) -> Result<(), Error> {
        let at = (instruction.span.line, instruction.original.as_str());
        if let Kind::Arg(definitions) = &instruction.kind {
            return self.argument(state, instruction, definitions);
        }
        let expanded = instruction
            .expand(
                &|name| state.lookup(name),
                self.dockerfile.directives.escape,
            )
            .map_err(|source| Error::Parse {
                name: self.name.to_owned(),
                source,
            })?;
        match &expanded.instruction.kind {
            Kind::Run(run) => self.run(state, &expanded.instruction, run),
            Kind::Copy(copy) => self.copy(state, &expanded.instruction, copy),
            Kind::Add(add) => self.add(state, at, add),
            kind @ Kind::Workdir(_) => self.workdir(state, at, kind),
            kind => self.metadata(state, at, kind, told(kind, &instruction.original)),
        }
    }

    fn argument(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        definitions: &[dockerfile::ArgDefinition],
    ) -> Result<(), Error> {
        let (options, dockerfile) = (self.options, self.dockerfile);
        let globals = self.globals;
        let given = |name: &str| options.build_args.get(name).cloned();
        let inherited = |name: &str| match globals.get(name) {
            Some(value) => value.clone(),
            // The build's platform, whatever this stage runs on: a cross-compiler's stage is
            // `FROM --platform=$BUILDPLATFORM` and compiles for TARGETARCH.
            None => platform_argument(name, options, &options.platform, last_stage(dockerfile)),
        };
        let defined = {
            let environment = |name: &str| state.lookup(name);
            let escape = self.dockerfile.directives.escape;
            dockerfile::define_args(
                instruction,
                definitions,
                &given,
                &inherited,
                &environment,
                escape,
            )
            .map_err(|source| Error::Parse {
                name: self.name.to_owned(),
                source,
            })?
        };
        self.used
            .extend(defined.values.iter().map(|(name, _)| name.clone()));
        state.define(defined.values);
        // The value is no part of the step: it counts where it is used.
        let text = instruction.original.as_str();
        let identity = json!({ "arg": text });
        self.push(
            state,
            (instruction.span.line, text),
            Operation::Metadata,
            text.to_owned(),
            identity,
        );
        Ok(())
    }

    fn metadata(
        &mut self,
        state: &mut StageState,
        at: (u32, &str),
        kind: &Kind,
        created_by: String,
    ) -> Result<(), Error> {
        state
            .config
            .apply(kind)
            .map_err(|why| self.failed(at.0, at.1, StepError::Invalid(why)))?;
        if let Kind::Env(pairs) = kind {
            for pair in pairs {
                state.arguments.remove(&pair.key);
            }
        }
        let identity = json!({ "metadata": kind });
        self.push(state, at, Operation::Metadata, created_by, identity);
        Ok(())
    }

    fn workdir(
        &mut self,
        state: &mut StageState,
        at: (u32, &str),
        kind: &Kind,
    ) -> Result<(), Error> {
        let owner = Some(state.config.run.user.clone()).filter(|user| !user.is_empty());
        state
            .config
            .apply(kind)
            .map_err(|why| self.failed(at.0, at.1, StepError::Invalid(why)))?;
        let directory = state.config.working_dir().to_owned();
        let identity = json!({ "workdir": directory });
        let created_by = format!("WORKDIR {directory}");
        let operation = FilesOperation {
            origin: Origin::Nothing,
            sources: Vec::new(),
            destination: directory,
            owner,
            mode: None,
            link: false,
            exclude: Vec::new(),
            parents: false,
            unpack: false,
            directory_only: true,
        };
        self.push(state, at, Operation::Files(operation), created_by, identity);
        Ok(())
    }

    fn run(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<(), Error> {
        let at = (instruction.span.line, instruction.original.as_str());
        if !run.devices.is_empty() {
            let what = "RUN --device".to_owned();
            return Err(self.failed(at.0, at.1, StepError::NotSupported(what)));
        }
        let network = match run.network {
            None | Some(RunNetwork::Default) => self.options.network,
            Some(RunNetwork::None) => Network::None,
            Some(RunNetwork::Host) => Network::Host,
        };
        if network == Network::Host && self.options.network != Network::Host {
            self.entitled(at, Entitlement::NetworkHost, "RUN --network=host")?;
        }
        let security = match run.security {
            None | Some(RunSecurity::Sandbox) => Security::Sandbox,
            Some(RunSecurity::Insecure) => {
                let what = "RUN --security=insecure";
                self.entitled(at, Entitlement::SecurityInsecure, what)?;
                Security::Insecure
            }
        };
        let mounts = self.mounts(state, instruction, run)?;
        let (arguments, script) = self.script(state, run);
        let declared = declared_arguments(state);
        let mut identity = json!({
            "run": arguments,
            "script": script,
            "arguments": declared,
            "network": format!("{network:?}"),
            "hosts": self.options.add_hosts,
        });
        if !mounts.is_empty() {
            identity["mounts"] = mounts.iter().map(mounts::identity).collect();
        }
        if security == Security::Insecure {
            identity["security"] = "insecure".into();
        }
        let created_by = run_created_by(&declared, &arguments, script.as_ref());
        let operation = RunOperation {
            environment: self.environment(state),
            user: state.config.run.user.clone(),
            directory: state.config.working_dir().to_owned(),
            arguments,
            network,
            script,
            security,
            mounts,
        };
        self.push(state, at, Operation::Run(operation), created_by, identity);
        Ok(())
    }

    /// Whether the build was started with leave for what an instruction asks.
    fn entitled(
        &self,
        (line, text): (u32, &str),
        entitlement: Entitlement,
        what: &str,
    ) -> Result<(), Error> {
        if self.options.allow.contains(&entitlement) {
            return Ok(());
        }
        let why = format!(
            "{what} needs leave that nobody gave; build with --allow {} if you trust the file",
            entitlement.word()
        );
        Err(self.failed(line, text, StepError::Invalid(why)))
    }

    fn script(&self, state: &StageState, run: &Run) -> (Vec<String>, Option<(String, String)>) {
        let shell = |text: String| {
            let mut arguments = state.config.shell();
            arguments.push(text);
            arguments
        };
        match run.script() {
            Script::Exec(arguments) => (arguments, None),
            Script::Shell(text) => (shell(text), None),
            Script::File { name, content } => {
                let path = format!("/dev/pipes/{name}");
                (shell(path.clone()), Some((path, content)))
            }
        }
    }

    /// What a RUN sees: ENV, the ARGs that came later, and proxies that were given.
    fn environment(&self, state: &StageState) -> Vec<(String, String)> {
        let mut environment: Vec<(String, String)> = Vec::new();
        let mut set =
            |name: &str, value: &str| match environment.iter_mut().find(|(key, _)| key == name) {
                Some(pair) => value.clone_into(&mut pair.1),
                None => environment.push((name.to_owned(), value.to_owned())),
            };
        set("PATH", crate::executor::DEFAULT_PATH);
        for (name, value) in self
            .options
            .build_args
            .iter()
            .filter(|(name, _)| is_proxy(name))
        {
            set(name, value);
        }
        for pair in state.config.run.env.iter().flatten() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            set(name, value);
        }
        for (name, value) in &state.arguments {
            if let Some(value) = value {
                set(name, value);
            }
        }
        environment
    }
}

/// The ARGs whose values a RUN depends on, as `name=value`, in order of their names.
fn declared_arguments(state: &StageState) -> Vec<String> {
    state
        .arguments
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
        .collect()
}

fn run_created_by(
    declared: &[String],
    arguments: &[String],
    script: Option<&(String, String)>,
) -> String {
    let mut text = "RUN ".to_owned();
    if !declared.is_empty() {
        text.push_str(&format!("|{} {} ", declared.len(), declared.join(" ")));
    }
    text.push_str(&arguments.join(" "));
    if let Some((_, content)) = script {
        text.push_str(&format!(" <<EOF\n{content}EOF"));
    }
    text
}

/// How history tells a metadata instruction: as written, which is what people look for.
fn told(kind: &Kind, original: &str) -> String {
    match kind {
        Kind::Env(pairs) => {
            let words: Vec<String> = pairs
                .iter()
                .map(|p| format!("{}={}", p.key, p.value))
                .collect();
            format!("ENV {}", words.join(" "))
        }
        Kind::Label(pairs) => {
            let words: Vec<String> = pairs
                .iter()
                .map(|p| format!("{}={}", p.key, p.value))
                .collect();
            format!("LABEL {}", words.join(" "))
        }
        _ => original.to_owned(),
    }
}

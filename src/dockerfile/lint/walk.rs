//! Each stage gone through with the variables that it has at each point, as a build would.

use std::collections::{BTreeMap, BTreeSet};

use super::stages::Globals;
use super::values::{clean, is_ignored, is_remote, is_secret, odd_port};
use super::{BaseFacts, Linter, Rule, Surroundings};
use crate::dockerfile::error::{did_you_mean, nearest};
use crate::dockerfile::{
    ArgDefinition, Command, Dockerfile, Instruction, KeyValue, Kind, MountKind, Source, Span,
    Stage, StageSource, define_args, parse_instruction,
};

pub(super) fn check(
    file: &Dockerfile,
    around: &dyn Surroundings,
    globals: &Globals,
    wanted: Option<&BTreeSet<usize>>,
    linter: &mut Linter<'_>,
) {
    for instruction in &file.global_args {
        if let Kind::Arg(args) = &instruction.kind {
            described(instruction, args, linter);
        }
    }
    let graph = match globals.graph(file, around) {
        Ok(graph) => graph,
        Err(error) => return linter.fail(error),
    };
    let mut states: Vec<State> = Vec::with_capacity(file.stages.len());
    for (index, stage) in file.stages.iter().enumerate() {
        if wanted.is_some_and(|wanted| !wanted.contains(&index)) {
            states.push(State::default());
            continue;
        }
        let node = &graph.nodes[index];
        let mut state = match &node.base {
            StageSource::Stage(base) => states.get(*base).map(State::inherited).unwrap_or_default(),
            StageSource::Scratch => State::on(BaseFacts::default()),
            StageSource::Image(image) => {
                match around.base(index, image, node.platform.as_deref()) {
                    Some(facts) => {
                        wrong_platform(stage, image, &facts, linter);
                        State::on(facts)
                    }
                    None => {
                        linter.report.unknown_bases.insert(image.clone());
                        State::unknown()
                    }
                }
            }
        };
        let mut walk = Walk {
            file,
            around,
            globals,
            state: &mut state,
            linter,
        };
        walk.stage(stage);
        states.push(state);
    }
}

fn wrong_platform(stage: &Stage, image: &str, facts: &BaseFacts, linter: &mut Linter<'_>) {
    let Some((wanted, found)) = &facts.wrong_platform else {
        return;
    };
    let (rule, span) = (Rule::InvalidBaseImagePlatform, stage.span);
    linter.find(rule, span, &stage.from.comments, || {
        format!("the base image {image} is for {found}, and this build for {wanted}")
    });
}

/// What a stage has at a point.
#[derive(Debug, Clone, Default)]
struct State {
    /// ARG and ENV that have a value.
    variables: BTreeMap<String, String>,
    /// The ARGs that were declared.
    declared: BTreeSet<String>,
    /// The base is not known: what is not in `variables` may be set by it.
    open: bool,
    shell: bool,
    workdir: bool,
    triggers: Vec<String>,
    /// Where each of the instructions stands that count once.
    once: BTreeMap<&'static str, (Span, Vec<String>)>,
}

impl State {
    fn on(facts: BaseFacts) -> State {
        let mut variables: BTreeMap<String, String> = facts.env.into_iter().collect();
        // A step always has one.
        variables.entry("PATH".to_owned()).or_default();
        State {
            variables,
            shell: facts.shell,
            triggers: facts.on_build,
            ..State::default()
        }
    }

    fn unknown() -> State {
        State {
            open: true,
            ..State::on(BaseFacts::default())
        }
    }

    /// What a stage on this one begins with.
    fn inherited(&self) -> State {
        State {
            once: BTreeMap::new(),
            ..self.clone()
        }
    }
}

/// Whether a comment right above an ARG is about it.
fn described(instruction: &Instruction, args: &[ArgDefinition], linter: &mut Linter<'_>) {
    let comments = &instruction.comments;
    let Some(last) = comments.last() else { return };
    let word = last.split(' ').next().unwrap_or_default();
    if args.iter().any(|arg| arg.name == word) {
        return;
    }
    let name = match args {
        [arg] => arg.name.as_str(),
        _ => "NAME",
    };
    let (rule, span) = (Rule::InvalidDefinitionDescription, instruction.span);
    linter.find(rule, span, comments, || {
        format!("the comment above should begin with the ARG's name: # {name} …")
    });
}

/// The local paths among sources.
fn paths_of(sources: &[Source]) -> Vec<&str> {
    let mut paths = Vec::with_capacity(sources.len());
    for source in sources {
        if let Source::Path(path) = source
            && !is_remote(path)
        {
            paths.push(path.as_str());
        }
    }
    paths
}

struct Walk<'a, 'l> {
    file: &'a Dockerfile,
    around: &'a dyn Surroundings,
    globals: &'a Globals,
    state: &'a mut State,
    linter: &'a mut Linter<'l>,
}

impl Walk<'_, '_> {
    fn stage(&mut self, stage: &Stage) {
        for trigger in std::mem::take(&mut self.state.triggers) {
            match parse_instruction(&trigger, stage.span.line) {
                Ok(instruction) => self.instruction(&Instruction {
                    span: stage.span,
                    comments: stage.from.comments.clone(),
                    ..instruction
                }),
                Err(error) => self.linter.fail(error),
            }
        }
        for instruction in &stage.instructions {
            self.instruction(instruction);
        }
    }

    fn find(&mut self, rule: Rule, instruction: &Instruction, message: impl Fn() -> String) {
        self.linter
            .find(rule, instruction.span, &instruction.comments, message);
    }

    fn instruction(&mut self, instruction: &Instruction) {
        if let Kind::Arg(args) = &instruction.kind {
            return self.arg(instruction, args);
        }
        let escape = self.file.directives.escape;
        let variables = &self.state.variables;
        let expanded = match instruction.expand(&|name| variables.get(name).cloned(), escape) {
            Ok(expanded) => expanded,
            Err(error) => return self.linter.fail(error),
        };
        // Ports are put together word by word, where nothing may come out.
        if !matches!(instruction.kind, Kind::Expose(_)) {
            self.undefined(instruction, &expanded.unset);
        }
        self.taken(&expanded.instruction.kind, !expanded.unset.is_empty());
        match &expanded.instruction.kind {
            Kind::Env(pairs) => {
                self.legacy(instruction, pairs);
                for pair in pairs {
                    self.secret(instruction, &pair.key);
                    self.state
                        .variables
                        .insert(pair.key.clone(), pair.value.clone());
                }
            }
            Kind::Label(pairs) => self.legacy(instruction, pairs),
            Kind::Copy(copy) if copy.from.is_none() => self.sources(instruction, &copy.sources),
            Kind::Add(add) => self.sources(instruction, &add.sources),
            Kind::Workdir(path) => self.workdir(instruction, path),
            Kind::Expose(ports) => self.ports(instruction, ports),
            Kind::Cmd(command) | Kind::Entrypoint(command) => {
                self.once(instruction);
                self.shell_form(instruction, command);
            }
            Kind::Healthcheck(_) => self.once(instruction),
            Kind::Shell(_) => self.state.shell = true,
            Kind::Onbuild(trigger) => self.state.triggers.push(trigger.clone()),
            Kind::Maintainer(author) => self.find(Rule::MaintainerDeprecated, instruction, || {
                format!("MAINTAINER is out of use; write LABEL org.opencontainers.image.authors={author:?}")
            }),
            _ => {}
        }
    }

    fn arg(&mut self, instruction: &Instruction, args: &[ArgDefinition]) {
        described(instruction, args, self.linter);
        for arg in args {
            self.secret(instruction, &arg.name);
        }
        let (around, globals) = (self.around, self.globals);
        let given = |name: &str| around.build_arg(name);
        let inherited = |name: &str| match globals.given.get(name) {
            Some(value) => value.clone(),
            None => around.automatic(name),
        };
        let escape = self.file.directives.escape;
        let variables = &self.state.variables;
        let environment = |name: &str| variables.get(name).cloned();
        let defined = define_args(instruction, args, &given, &inherited, &environment, escape);
        let defined = match defined {
            Ok(defined) => defined,
            Err(error) => return self.linter.fail(error),
        };
        // A default may name an ARG of the same instruction that has no value.
        let own: BTreeSet<String> = args.iter().map(|arg| arg.name.clone()).collect();
        let unset = &defined.unset - &own;
        self.undefined(instruction, &unset);
        for (name, value) in defined.values {
            if let Some(value) = value {
                // ENV wins.
                self.state.variables.entry(name.clone()).or_insert(value);
            }
            self.state.declared.insert(name);
        }
    }

    /// Tells of variables that nothing sets.
    fn undefined(&mut self, instruction: &Instruction, unset: &BTreeSet<String>) {
        if self.state.open {
            return;
        }
        for name in unset - &self.state.declared {
            let names = self.state.variables.keys().chain(&self.state.declared);
            let hint = nearest(&name, names.map(String::as_str)).map(|name| format!("${name}"));
            let hint = did_you_mean(&hint);
            self.find(Rule::UndefinedVar, instruction, || {
                format!("nothing sets ${name} before its use here{hint}")
            });
        }
    }

    fn secret(&mut self, instruction: &Instruction, name: &str) {
        let keyword = instruction.kind.name();
        if is_secret(name) {
            self.find(Rule::SecretsUsedInArgOrEnv, instruction, || {
                format!("{keyword} {name} looks like a secret, which stays in the image; use RUN --mount=type=secret")
            });
        }
    }

    fn legacy(&mut self, instruction: &Instruction, pairs: &[KeyValue]) {
        let keyword = instruction.kind.name();
        for pair in pairs.iter().filter(|pair| pair.legacy) {
            let key = &pair.key;
            self.find(Rule::LegacyKeyValueFormat, instruction, || {
                format!("{keyword} {key} VALUE is the old form; write {keyword} {key}=VALUE")
            });
        }
    }

    /// Notes what an instruction takes from the context.
    fn taken(&mut self, kind: &Kind, unsure: bool) {
        let mut paths: Vec<&str> = match kind {
            Kind::Copy(copy) if copy.from.is_none() => paths_of(&copy.sources),
            Kind::Add(add) => paths_of(&add.sources),
            Kind::Run(run) => run
                .mounts
                .iter()
                .filter(|mount| matches!(mount.kind, MountKind::Bind) && mount.from.is_none())
                .map(|mount| mount.source.as_deref().unwrap_or_default())
                .collect(),
            _ => return,
        };
        if unsure && self.state.open {
            paths = vec![""];
        }
        let taken = &mut self.linter.report.context_paths;
        taken.extend(paths.into_iter().map(clean));
    }

    fn sources(&mut self, instruction: &Instruction, sources: &[Source]) {
        let Some(ignore) = self.around.ignore() else {
            return;
        };
        let keyword = instruction.kind.name();
        for source in sources {
            let Source::Path(path) = source else { continue };
            if !is_remote(path) && is_ignored(path, ignore) {
                self.find(Rule::CopyIgnoredFile, instruction, || {
                    format!(
                        "{keyword} {path}: a pattern of .dockerignore leaves it out of the context"
                    )
                });
            }
        }
    }

    fn workdir(&mut self, instruction: &Instruction, path: &str) {
        if !self.state.workdir && !path.starts_with('/') {
            self.find(Rule::WorkdirRelativePath, instruction, || {
                format!("where {path} is depends on the base image; begin with an absolute WORKDIR")
            });
        }
        self.state.workdir = true;
    }

    fn ports(&mut self, instruction: &Instruction, ports: &[String]) {
        for port in ports {
            let odd = odd_port(port);
            if odd.capitals {
                self.find(Rule::ExposeProtoCasing, instruction, || {
                    format!(
                        "the protocol of {port} has capitals; write {}",
                        port.to_lowercase()
                    )
                });
            }
            if odd.mapping {
                self.find(Rule::ExposeInvalidFormat, instruction, || {
                    format!("{port} has an address or a port of the host, which an image cannot set; write the container's port alone")
                });
            }
        }
    }

    fn shell_form(&mut self, instruction: &Instruction, command: &Command) {
        // A shell of one's own is there to be used.
        if matches!(command, Command::Shell(_)) && !self.state.shell {
            let keyword = instruction.kind.name();
            self.find(Rule::JsonArgsRecommended, instruction, || {
                format!("{keyword} runs in a shell, which passes no signals on; write a JSON array")
            });
        }
    }

    /// Tells of the earlier one of two instructions of which the last counts.
    fn once(&mut self, instruction: &Instruction) {
        let keyword = instruction.kind.name();
        let here = (instruction.span, instruction.comments.clone());
        if let Some((span, comments)) = self.state.once.insert(keyword, here) {
            let line = instruction.span.line;
            self.linter.find(
                Rule::MultipleInstructionsDisallowed,
                span,
                &comments,
                || format!("this {keyword} means nothing: the one on line {line} takes its place"),
            );
        }
    }
}

//! Which fields of which instruction are expanded, as docker does it and nowhere else.
//!
//! | instruction | expanded |
//! |---|---|
//! | `FROM` | image and `--platform`, with the global ARGs (see `stage_graph`) |
//! | `ENV`, `LABEL` | keys and values, all with the environment before the instruction |
//! | `ARG` | defaults, each with the names before it ([`define_args`]) |
//! | `COPY`, `ADD` | sources, destination, `--chown`, `--chmod`; `ADD --checksum`; heredoc bodies |
//! | `RUN` | options of `--mount`, but `from` |
//! | `EXPOSE` | each port, split into words afterwards |
//! | `WORKDIR`, `USER`, `VOLUME`, `STOPSIGNAL` | all |
//! | `--from`, `--exclude`, and all else | nothing |

use std::collections::BTreeSet;

use super::error::MountProblem;
use super::expand::{Expanded, Lookup, expand, expand_heredoc};
use super::mounts::parse_mount;
use super::{
    ArgDefinition, Instruction, KeyValue, Kind, Mount, ParseError, ParseErrorKind, Source,
};

/// An instruction whose words are final, and the variables that it depended on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandedInstruction {
    /// The instruction, expanded.
    pub instruction: Instruction,
    /// The variables it looked up that had a value: what a cache key depends on.
    pub found: BTreeSet<String>,
    /// The variables it looked up that had none (lint rule `UndefinedVar`).
    pub unset: BTreeSet<String>,
}

/// What [`define_args`] answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DefinedArgs {
    /// Each name and its value.
    pub values: Vec<(String, Option<String>)>,
    /// The variables that the defaults looked up that had a value.
    pub found: BTreeSet<String>,
    /// The variables that the defaults looked up that had none.
    pub unset: BTreeSet<String>,
}

impl Instruction {
    /// This instruction with everything expanded that docker expands, and nothing else.
    ///
    /// `lookup` answers from the stage's environment (ENV and ARG) before the instruction.
    /// `ARG` is expanded as if nobody had given values; [`define_args`] takes those.
    pub fn expand(
        &self,
        lookup: Lookup<'_>,
        escape: char,
    ) -> Result<ExpandedInstruction, ParseError> {
        let mut expander = Expander {
            lookup,
            escape,
            found: BTreeSet::new(),
            unset: BTreeSet::new(),
        };
        let mut instruction = self.clone();
        expander
            .kind(&mut instruction.kind)
            .map_err(|kind| self.error(kind))?;
        let Expander { found, unset, .. } = expander;
        Ok(ExpandedInstruction {
            instruction,
            found,
            unset,
        })
    }

    /// An error about this instruction.
    pub fn error(&self, kind: ParseErrorKind) -> ParseError {
        ParseError::about(kind, self.span, &self.original)
    }
}

/// The value that each name of one `ARG` instruction gets, in order: `given` (`--build-arg`),
/// else its default expanded by the names before it and `environment`, else `inherited` (for an
/// `ARG` in a stage: the global one). `None` leaves the name declared but unset.
///
/// `instruction` is what an error is about.
pub fn define_args(
    instruction: &Instruction,
    args: &[ArgDefinition],
    given: Lookup<'_>,
    inherited: Lookup<'_>,
    environment: Lookup<'_>,
    escape: char,
) -> Result<DefinedArgs, ParseError> {
    let mut defined = DefinedArgs::default();
    for arg in args {
        let value = match (given(&arg.name), &arg.default) {
            (Some(value), _) => Some(value),
            (None, None) => inherited(&arg.name),
            (None, Some(default)) => {
                let earlier = |name: &str| defined.lookup(name).or_else(|| environment(name));
                let expanded = expand(default, &earlier, escape)
                    .map_err(|error| instruction.error(ParseErrorKind::Expand(error)))?;
                defined.found.extend(expanded.found);
                defined.unset.extend(expanded.unset);
                Some(expanded.text)
            }
        };
        defined.values.push((arg.name.clone(), value));
    }
    Ok(defined)
}

impl DefinedArgs {
    /// The value that `name` was given last.
    fn lookup(&self, name: &str) -> Option<String> {
        self.values
            .iter()
            .rev()
            .find(|(known, value)| known == name && value.is_some())?
            .1
            .clone()
    }
}

type Result<T, E = ParseErrorKind> = std::result::Result<T, E>;

/// Expands one instruction in place and collects what it looks up.
struct Expander<'a> {
    lookup: Lookup<'a>,
    escape: char,
    found: BTreeSet<String>,
    unset: BTreeSet<String>,
}

impl Expander<'_> {
    fn kind(&mut self, kind: &mut Kind) -> Result<()> {
        match kind {
            Kind::Run(run) => run
                .mounts
                .iter_mut()
                .try_for_each(|mount| self.mount(mount)),
            Kind::Copy(copy) => {
                self.option(&mut copy.chown)?;
                self.option(&mut copy.chmod)?;
                self.sources(&mut copy.sources)?;
                self.text(&mut copy.destination)
            }
            Kind::Add(add) => {
                self.option(&mut add.chown)?;
                self.option(&mut add.chmod)?;
                self.option(&mut add.checksum)?;
                self.sources(&mut add.sources)?;
                self.text(&mut add.destination)
            }
            Kind::Env(pairs) | Kind::Label(pairs) => {
                pairs.iter_mut().try_for_each(|pair| self.pair(pair))
            }
            Kind::Arg(args) => self.args(args),
            Kind::Workdir(text) | Kind::User(text) | Kind::Stopsignal(text) => self.text(text),
            Kind::Volume(paths) => paths.iter_mut().try_for_each(|path| self.text(path)),
            Kind::Expose(ports) => self.ports(ports),
            Kind::Cmd(_)
            | Kind::Entrypoint(_)
            | Kind::Shell(_)
            | Kind::Healthcheck(_)
            | Kind::Onbuild(_)
            | Kind::Maintainer(_) => Ok(()),
        }
    }

    fn expanded(&mut self, word: &str) -> Result<Expanded> {
        let expanded = expand(word, self.lookup, self.escape).map_err(ParseErrorKind::Expand)?;
        self.note(&expanded);
        Ok(expanded)
    }

    fn note(&mut self, expanded: &Expanded) {
        self.found.extend(expanded.found.iter().cloned());
        self.unset.extend(expanded.unset.iter().cloned());
    }

    fn text(&mut self, text: &mut String) -> Result<()> {
        *text = self.expanded(text)?.text;
        Ok(())
    }

    /// The value of a flag: one that expands to nothing counts as not given.
    fn option(&mut self, text: &mut Option<String>) -> Result<()> {
        if let Some(word) = text {
            *text = Some(self.expanded(word)?.text).filter(|text| !text.is_empty());
        }
        Ok(())
    }

    fn pair(&mut self, pair: &mut KeyValue) -> Result<()> {
        self.text(&mut pair.key)?;
        self.text(&mut pair.value)
    }

    fn sources(&mut self, sources: &mut [Source]) -> Result<()> {
        for source in sources {
            match source {
                Source::Path(path) => self.text(path)?,
                Source::Heredoc {
                    content,
                    expand: true,
                    ..
                } => {
                    let expanded =
                        expand_heredoc(content, self.lookup).map_err(ParseErrorKind::Expand)?;
                    self.note(&expanded);
                    *content = expanded.text;
                }
                Source::Heredoc { .. } => {}
            }
        }
        Ok(())
    }

    fn args(&mut self, args: &mut [ArgDefinition]) -> Result<()> {
        let outer = self.lookup;
        let mut earlier: Vec<(String, String)> = Vec::new();
        for arg in args {
            let Some(default) = &mut arg.default else {
                continue;
            };
            let lookup = |name: &str| {
                let known = earlier.iter().rev().find(|(known, _)| known == name);
                known
                    .map(|(_, value)| value.clone())
                    .or_else(|| outer(name))
            };
            let expanded = expand(default, &lookup, self.escape).map_err(ParseErrorKind::Expand)?;
            self.note(&expanded);
            *default = expanded.text;
            earlier.push((arg.name.clone(), default.clone()));
        }
        Ok(())
    }

    fn ports(&mut self, ports: &mut Vec<String>) -> Result<()> {
        let mut words = Vec::with_capacity(ports.len());
        for port in ports.iter() {
            words.extend(self.expanded(port)?.words);
        }
        *ports = words;
        Ok(())
    }

    fn mount(&mut self, mount: &mut Mount) -> Result<()> {
        let mut expand_value = |value: &str| {
            let expanded = expand(value, self.lookup, self.escape).map_err(MountProblem::Expand)?;
            self.found.extend(expanded.found);
            self.unset.extend(expanded.unset);
            Ok(expanded.text)
        };
        let text = mount.text.clone();
        *mount = parse_mount(&text, Some(&mut expand_value))
            .map_err(|problem| ParseErrorKind::BadMount { text, problem })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::{Command, parse, parse_instruction};

    fn environment(name: &str) -> Option<String> {
        let value = match name {
            "a" => "A",
            "two" => "1 2",
            "path" => "/srv",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn expanded(text: &str) -> Kind {
        let file = parse(format!("FROM x\n{text}\n").as_bytes()).unwrap();
        let instruction = &file.stages[0].instructions[0];
        instruction
            .expand(&environment, '\\')
            .unwrap()
            .instruction
            .kind
    }

    #[test]
    fn all_values_of_an_env_see_the_environment_before_it() {
        let Kind::Env(pairs) = expanded("ENV a=new b=$a c=\"$a $a\" $a=1") else {
            panic!()
        };
        let shown: Vec<_> = pairs
            .iter()
            .map(|p| format!("{}={}", p.key, p.value))
            .collect();
        assert_eq!(shown, ["a=new", "b=A", "c=A A", "A=1"]);
    }

    #[test]
    fn the_old_form_of_env_loses_its_quotes_too() {
        let Kind::Env(pairs) = expanded("ENV x  \"y z\"  it\\'s $a") else {
            panic!()
        };
        assert_eq!(
            (pairs[0].key.as_str(), pairs[0].value.as_str()),
            ("x", "y z  it's A")
        );
    }

    #[test]
    fn a_later_arg_sees_an_earlier_one() {
        let Kind::Arg(args) = expanded("ARG x=1 y=$x$a z") else {
            panic!()
        };
        assert_eq!(args[1].default.as_deref(), Some("1A"));
        assert_eq!(args[2].default, None);
    }

    #[test]
    fn a_given_arg_wins_and_an_inherited_one_is_for_those_without_default() {
        let instruction = parse_instruction("ARG x=1 y=$x z w=$none", 1).unwrap();
        let Kind::Arg(args) = &instruction.kind else {
            panic!()
        };
        let given = |name: &str| (name == "x").then(|| "2".to_owned());
        let inherited = |name: &str| (name == "z" || name == "y").then(|| "global".to_owned());
        let defined =
            define_args(&instruction, args, &given, &inherited, &environment, '\\').unwrap();
        let values: Vec<_> = defined
            .values
            .iter()
            .map(|(_, value)| value.as_deref())
            .collect();
        assert_eq!(values, [Some("2"), Some("2"), Some("global"), Some("")]);
        assert_eq!(defined.unset.into_iter().collect::<Vec<_>>(), ["none"]);
    }

    #[test]
    fn ports_are_split_after_expansion() {
        assert_eq!(
            expanded("EXPOSE $two 80/tcp"),
            Kind::Expose(vec!["1".into(), "2".into(), "80/tcp".into()])
        );
    }

    #[test]
    fn copy_expands_paths_owners_and_unquoted_heredocs_but_no_patterns() {
        let text = "COPY --from=x --chown=$a --exclude=$a $path/b <<E <<'Q' $path/\n'$a'\nE\n$a\nQ";
        let Kind::Copy(copy) = expanded(text) else {
            panic!()
        };
        assert_eq!(
            (copy.chown.as_deref(), copy.exclude),
            (Some("A"), vec!["$a".to_owned()])
        );
        assert_eq!(copy.destination, "/srv/");
        let heredoc = |name: &str, content: &str, expand| Source::Heredoc {
            name: name.into(),
            content: content.into(),
            expand,
        };
        assert_eq!(copy.sources[0], Source::Path("/srv/b".into()));
        assert_eq!(copy.sources[1], heredoc("E", "'A'\n", true));
        assert_eq!(copy.sources[2], heredoc("Q", "$a\n", false));
    }

    #[test]
    fn commands_are_left_to_the_shell() {
        for name in ["RUN", "CMD", "ENTRYPOINT"] {
            let kind = expanded(&format!("{name} echo $a"));
            let command = match kind {
                Kind::Run(run) => run.command,
                Kind::Cmd(command) | Kind::Entrypoint(command) => command,
                other => panic!("{other:?}"),
            };
            assert_eq!(command, Command::Shell("echo $a".into()));
        }
        assert_eq!(expanded("ONBUILD RUN $a"), Kind::Onbuild("RUN $a".into()));
        assert_eq!(expanded("MAINTAINER $a"), Kind::Maintainer("$a".into()));
        assert_eq!(expanded("SHELL [\"$a\"]"), Kind::Shell(vec!["$a".into()]));
    }

    #[test]
    fn mounts_are_final_after_expansion() {
        let Kind::Run(run) = expanded("RUN --mount=type=cache,target=$path/x true") else {
            panic!()
        };
        assert!(run.mounts[0].resolved);
        assert_eq!(run.mounts[0].target.as_deref(), Some("/srv/x"));
        let instruction = parse_instruction("RUN --mount=type=$none,target=/x true", 1).unwrap();
        assert!(instruction.expand(&environment, '\\').is_err());
    }

    #[test]
    fn what_an_instruction_depends_on_is_told() {
        let instruction = parse_instruction("WORKDIR $path/${none:-$a}", 7).unwrap();
        let expanded = instruction.expand(&environment, '\\').unwrap();
        assert_eq!(
            expanded.found.into_iter().collect::<Vec<_>>(),
            ["a", "path"]
        );
        assert_eq!(expanded.unset.into_iter().collect::<Vec<_>>(), ["none"]);
    }

    #[test]
    fn an_error_has_the_place_of_the_word() {
        let instruction = parse_instruction("  WORKDIR ${x", 7).unwrap();
        let error = instruction.expand(&environment, '\\').unwrap_err();
        assert_eq!((error.line, error.column), (7, 11));
        let text = error.to_string();
        assert_eq!(
            text,
            "7:11: cannot expand \"${x\": ${ has no }\n    7 |   WORKDIR ${x\n      |           ^"
        );
    }
}

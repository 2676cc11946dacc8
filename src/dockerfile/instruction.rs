//! One logical line to one typed instruction: the grammar of each keyword.
//!
//! Everything here works on offsets into the line, so that a mistake can be told at its column.

use super::error::nearest;
use super::flags::Flags;
use super::heredoc::{introduced_by, parse_word, without_leading_tabs};
use super::keywords::KEYWORDS;
use super::lines::Mistake;
use super::mounts::{parse_device, parse_mount};
use super::quantity::duration;
use super::words::{
    Head, Json, Word, is_blank, json_strings, split_blanks, split_head, split_quoted,
};
use super::{
    Add, ArgDefinition, Command, Copy, FromInstruction, Healthcheck, Heredoc, KeyValue, Kind,
    ParseErrorKind, Run, RunNetwork, RunSecurity, Source,
};

type Result<T> = std::result::Result<T, Mistake>;

/// A line cut up, its keyword known and its flags checked.
pub(super) struct Request<'a> {
    pub line: &'a str,
    /// The keyword in capitals.
    pub name: &'static str,
    pub head: Head<'a>,
    flags: Flags,
    /// Where the escape character of the file is needed.
    escape: char,
}

/// What a line is.
pub(super) enum Parsed {
    From(FromInstruction),
    Instruction(Kind),
}

impl<'a> Request<'a> {
    /// Cuts up the part of `line` from `start` on.
    pub(super) fn read(line: &'a str, start: usize, escape: char) -> Result<Request<'a>> {
        let head = split_head(line, start, escape);
        let upper = head.keyword.to_ascii_uppercase();
        let Some((name, table)) = KEYWORDS.iter().find(|(name, _)| *name == upper) else {
            let nearest = nearest(&upper, KEYWORDS.iter().map(|(name, _)| *name));
            let kind = ParseErrorKind::UnknownInstruction {
                found: head.keyword.to_owned(),
                nearest,
            };
            return Err(Mistake::at(head.keyword_offset, kind));
        };
        let flags = Flags::read(name, &head.flags, table)?;
        Ok(Request {
            line,
            name,
            head,
            flags,
            escape,
        })
    }

    /// The heredocs that the line introduces, still without content.
    pub(super) fn heredocs(&self) -> Result<Vec<Heredoc>> {
        let request;
        let inner = if self.name == "ONBUILD" && !self.head.arguments.is_empty() {
            request = self.trigger()?;
            &request
        } else {
            self
        };
        let possible = matches!(inner.name, "RUN" | "COPY" | "ADD")
            && json_strings(inner.head.arguments) == Json::Not;
        if !possible {
            return Ok(Vec::new());
        }
        introduced_by(self.line).map_err(|kind| inner.mistake(kind))
    }

    /// The instruction, given the heredocs that [`Request::heredocs`] asked for.
    pub(super) fn parse(&self, heredocs: Vec<Heredoc>) -> Result<Parsed> {
        if self.name == "FROM" {
            return self.parse_from().map(Parsed::From);
        }
        self.parse_kind(heredocs).map(Parsed::Instruction)
    }

    fn parse_kind(&self, heredocs: Vec<Heredoc>) -> Result<Kind> {
        Ok(match self.name {
            "RUN" => Kind::Run(self.parse_run(heredocs)?),
            "COPY" => Kind::Copy(self.parse_copy(&heredocs)?),
            "ADD" => Kind::Add(self.parse_add(&heredocs)?),
            "ENV" => Kind::Env(self.parse_pairs()?),
            "LABEL" => Kind::Label(self.parse_pairs()?),
            "ARG" => Kind::Arg(self.parse_arg()?),
            "WORKDIR" => Kind::Workdir(self.one_argument()?),
            "USER" => Kind::User(self.one_argument()?),
            "STOPSIGNAL" => Kind::Stopsignal(self.one_argument()?),
            "MAINTAINER" => Kind::Maintainer(self.one_argument()?),
            "EXPOSE" => Kind::Expose(self.parse_expose()?),
            "VOLUME" => Kind::Volume(self.parse_volume()?),
            "CMD" => Kind::Cmd(self.parse_command()?),
            "ENTRYPOINT" => Kind::Entrypoint(self.parse_command()?),
            "SHELL" => Kind::Shell(self.parse_shell()?),
            "HEALTHCHECK" => Kind::Healthcheck(self.parse_healthcheck()?),
            _ => Kind::Onbuild(self.parse_onbuild(heredocs)?),
        })
    }

    /// A mistake about the instruction as a whole, told at its keyword.
    fn mistake(&self, kind: ParseErrorKind) -> Mistake {
        Mistake::at(self.head.keyword_offset, kind)
    }

    fn arguments_mistake(&self, kind: ParseErrorKind) -> Mistake {
        Mistake::at(self.head.arguments_offset, kind)
    }

    fn no_arguments(&self) -> Mistake {
        self.mistake(ParseErrorKind::NoArguments {
            instruction: self.name,
        })
    }

    fn one_argument(&self) -> Result<String> {
        if self.head.arguments.is_empty() {
            return Err(self.mistake(ParseErrorKind::NotOneArgument {
                instruction: self.name,
            }));
        }
        Ok(self.head.arguments.to_owned())
    }

    /// The arguments as words: the elements of a JSON array, or what stands between blanks. The
    /// flag tells whether it was JSON.
    fn list(&self) -> Result<(Vec<Word>, bool)> {
        let (arguments, offset) = (self.head.arguments, self.head.arguments_offset);
        match json_strings(arguments) {
            Json::Strings(strings) => {
                let word = |text| Word { text, offset };
                Ok((strings.into_iter().map(word).collect(), true))
            }
            Json::NotStrings => Err(self.json_mistake()),
            Json::Not => Ok((split_blanks(arguments, offset), false)),
        }
    }

    fn json_mistake(&self) -> Mistake {
        self.arguments_mistake(ParseErrorKind::JsonNotStrings {
            instruction: self.name,
        })
    }

    /// `text` as a command: exec form if it is JSON, else shell form.
    fn command(&self, text: &str) -> Result<Command> {
        match json_strings(text) {
            Json::Strings(strings) => Ok(Command::Exec(strings)),
            Json::NotStrings => Err(self.json_mistake()),
            Json::Not => Ok(Command::Shell(text.to_owned())),
        }
    }

    fn parse_command(&self) -> Result<Command> {
        self.command(self.head.arguments)
    }

    fn parse_from(&self) -> Result<FromInstruction> {
        let words = split_blanks(self.head.arguments, self.head.arguments_offset);
        let (image, named) = match words.as_slice() {
            [image] => (image, None),
            [image, keyword, alias] if keyword.text.eq_ignore_ascii_case("as") => {
                (image, Some((keyword, alias)))
            }
            _ => {
                let kind = ParseErrorKind::FromArguments { count: words.len() };
                let offset = words
                    .get(1)
                    .map_or(self.head.keyword_offset, |word| word.offset);
                return Err(Mistake::at(offset, kind));
            }
        };
        if let Some((_, alias)) = named.filter(|(_, alias)| !is_stage_name(&alias.text)) {
            let kind = ParseErrorKind::BadStageName {
                name: alias.text.clone(),
            };
            return Err(Mistake::at(alias.offset, kind));
        }
        Ok(FromInstruction {
            image: image.text.clone(),
            platform: self.flags.text("platform"),
            alias: named.map(|(_, alias)| alias.text.clone()),
            as_keyword: named.map(|(keyword, _)| keyword.text.clone()),
            keyword: self.head.keyword.to_owned(),
            original: self.line.trim().to_owned(),
            comments: Vec::new(),
        })
    }

    fn parse_run(&self, heredocs: Vec<Heredoc>) -> Result<Run> {
        let mut mounts = Vec::new();
        for word in self.flags.list("mount") {
            mounts.push(parse_mount(&word.text, None).map_err(|problem| {
                let text = word.text.clone();
                Mistake::at(word.offset, ParseErrorKind::BadMount { text, problem })
            })?);
        }
        let mut devices = Vec::new();
        for word in self.flags.list("device") {
            devices.push(
                parse_device(&word.text)
                    .map_err(|problem| self.flags.bad_value("device", word, problem))?,
            );
        }
        Ok(Run {
            command: self.parse_command()?,
            heredocs,
            mounts,
            network: self.choice(
                "network",
                "it is default, none or host",
                |text| match text {
                    "default" => Some(RunNetwork::Default),
                    "none" => Some(RunNetwork::None),
                    "host" => Some(RunNetwork::Host),
                    _ => None,
                },
            )?,
            security: self.choice("security", "it is sandbox or insecure", |text| match text {
                "sandbox" => Some(RunSecurity::Sandbox),
                "insecure" => Some(RunSecurity::Insecure),
                _ => None,
            })?,
            devices,
        })
    }

    /// The value of the flag `name` as `read` understands it.
    fn choice<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(word) = self.flags.word(name) else {
            return Ok(None);
        };
        match read(&word.text) {
            Some(value) => Ok(Some(value)),
            None => Err(self.flags.bad_value(name, word, expected)),
        }
    }

    fn parse_copy(&self, heredocs: &[Heredoc]) -> Result<Copy> {
        let (sources, destination) = self.sources_and_destination(heredocs)?;
        let from = self.flags.text("from");
        if let Some(value) = from.clone().filter(|value| value.contains('$')) {
            let offset = self.flags.word("from").map_or(0, |word| word.offset);
            return Err(Mistake::at(
                offset,
                ParseErrorKind::VariableInFrom { value },
            ));
        }
        Ok(Copy {
            sources,
            destination,
            from,
            chown: self.flags.text("chown"),
            chmod: self.flags.text("chmod"),
            link: self.flags.boolean("link").unwrap_or(false),
            parents: self.flags.boolean("parents").unwrap_or(false),
            exclude: self.flags.texts("exclude"),
        })
    }

    fn parse_add(&self, heredocs: &[Heredoc]) -> Result<Add> {
        let (sources, destination) = self.sources_and_destination(heredocs)?;
        Ok(Add {
            sources,
            destination,
            chown: self.flags.text("chown"),
            chmod: self.flags.text("chmod"),
            link: self.flags.boolean("link").unwrap_or(false),
            exclude: self.flags.texts("exclude"),
            checksum: self.flags.text("checksum"),
            keep_git_dir: self.flags.boolean("keep-git-dir"),
            unpack: self.flags.boolean("unpack"),
        })
    }

    fn sources_and_destination(&self, heredocs: &[Heredoc]) -> Result<(Vec<Source>, String)> {
        let (mut words, json) = self.list()?;
        let destination = words.pop().filter(|_| !words.is_empty()).ok_or_else(|| {
            self.mistake(ParseErrorKind::NoDestination {
                instruction: self.name,
            })
        })?;
        let heredoc = |word: &Word| {
            if json {
                None
            } else {
                parse_word(&word.text).ok().flatten()
            }
        };
        if heredoc(&destination).is_some() {
            let kind = ParseErrorKind::HeredocDestination {
                instruction: self.name,
            };
            return Err(Mistake::at(destination.offset, kind));
        }
        let source = |word: Word| match heredoc(&word) {
            None => Source::Path(word.text),
            Some(Heredoc {
                name,
                expand,
                chomp,
                ..
            }) => {
                // Of two bodies with one delimiter the last counts: they are one file.
                let body = heredocs.iter().rfind(|heredoc| heredoc.name == name);
                let content = body
                    .map(|heredoc| heredoc.content.clone())
                    .unwrap_or_default();
                let content = if chomp {
                    without_leading_tabs(&content)
                } else {
                    content
                };
                Source::Heredoc {
                    name,
                    content,
                    expand,
                }
            }
        };
        Ok((words.into_iter().map(source).collect(), destination.text))
    }

    /// `name=value …`, or `name rest of the line`: whichever the first word looks like.
    fn parse_pairs(&self) -> Result<Vec<KeyValue>> {
        let (arguments, offset) = (self.head.arguments, self.head.arguments_offset);
        let words = split_quoted(arguments, offset, self.escape);
        let Some(first) = words.first() else {
            return Err(self.no_arguments());
        };
        if !first.text.contains('=') {
            let Some((key, value)) = arguments.split_once(is_blank) else {
                let (instruction, name) = (self.name, arguments.to_owned());
                let kind = ParseErrorKind::NoValue { instruction, name };
                return Err(Mistake::at(first.offset, kind));
            };
            let value = value.trim_start_matches(is_blank).to_owned();
            return Ok(vec![KeyValue {
                key: key.to_owned(),
                value,
                legacy: true,
            }]);
        }
        words.into_iter().map(|word| self.pair(word)).collect()
    }

    fn pair(&self, word: Word) -> Result<KeyValue> {
        let instruction = self.name;
        match word.text.split_once('=') {
            None => {
                let kind = ParseErrorKind::NoEquals {
                    instruction,
                    word: word.text,
                };
                Err(Mistake::at(word.offset, kind))
            }
            Some(("", _)) => Err(Mistake::at(
                word.offset,
                ParseErrorKind::EmptyName { instruction },
            )),
            Some((key, value)) => Ok(KeyValue {
                key: key.to_owned(),
                value: value.to_owned(),
                legacy: false,
            }),
        }
    }

    fn parse_arg(&self) -> Result<Vec<ArgDefinition>> {
        let words = split_quoted(self.head.arguments, self.head.arguments_offset, self.escape);
        if words.is_empty() {
            return Err(self.no_arguments());
        }
        let definition = |word: Word| match word.text.split_once('=') {
            Some(("", _)) => {
                let kind = ParseErrorKind::EmptyName {
                    instruction: self.name,
                };
                Err(Mistake::at(word.offset, kind))
            }
            Some((name, default)) => Ok(ArgDefinition {
                name: name.to_owned(),
                default: Some(default.to_owned()),
            }),
            None => Ok(ArgDefinition {
                name: word.text,
                default: None,
            }),
        };
        words.into_iter().map(definition).collect()
    }

    fn parse_expose(&self) -> Result<Vec<String>> {
        let words = split_blanks(self.head.arguments, self.head.arguments_offset);
        if words.is_empty() {
            return Err(self.no_arguments());
        }
        Ok(words.into_iter().map(|word| word.text).collect())
    }

    fn parse_volume(&self) -> Result<Vec<String>> {
        let (words, _) = self.list()?;
        if words.is_empty() {
            return Err(self.no_arguments());
        }
        let path = |word: Word| match word.text.trim() {
            "" => Err(Mistake::at(word.offset, ParseErrorKind::EmptyVolume)),
            path => Ok(path.to_owned()),
        };
        words.into_iter().map(path).collect()
    }

    fn parse_shell(&self) -> Result<Vec<String>> {
        match self.parse_command()? {
            Command::Exec(words) if words.is_empty() => Err(self.no_arguments()),
            Command::Exec(words) => Ok(words),
            Command::Shell(text) if text.is_empty() => Err(self.no_arguments()),
            Command::Shell(_) => Err(self.arguments_mistake(ParseErrorKind::ShellNotJson)),
        }
    }

    fn parse_healthcheck(&self) -> Result<Healthcheck> {
        let arguments = self.head.arguments;
        let end = arguments
            .find(char::is_whitespace)
            .unwrap_or(arguments.len());
        let (word, rest) = (&arguments[..end], arguments[end..].trim_start());
        match word.to_ascii_uppercase().as_str() {
            "" => Err(self.no_arguments()),
            "NONE" if rest.is_empty() => Ok(Healthcheck::None),
            "NONE" => {
                let offset = self.head.arguments_offset + arguments.len() - rest.len();
                Err(Mistake::at(
                    offset,
                    ParseErrorKind::HealthcheckNoneArguments,
                ))
            }
            "CMD" => self.parse_healthcheck_command(rest),
            _ => {
                let kind = ParseErrorKind::HealthcheckType {
                    found: word.to_owned(),
                };
                Err(self.arguments_mistake(kind))
            }
        }
    }

    fn parse_healthcheck_command(&self, text: &str) -> Result<Healthcheck> {
        let command = self.command(text)?;
        if matches!(&command, Command::Shell(text) if text.is_empty())
            || matches!(&command, Command::Exec(words) if words.is_empty())
        {
            return Err(self.arguments_mistake(ParseErrorKind::HealthcheckNoCommand));
        }
        let retries = match self
            .flags
            .word("retries")
            .filter(|word| !word.text.is_empty())
        {
            None => None,
            Some(word) => {
                let number = word
                    .text
                    .parse::<i32>()
                    .ok()
                    .and_then(|n| u32::try_from(n).ok());
                let expected = "it is a number from 0";
                Some(number.ok_or_else(|| self.flags.bad_value("retries", word, expected))?)
            }
        };
        Ok(Healthcheck::Cmd {
            command,
            interval: self.interval("interval")?,
            timeout: self.interval("timeout")?,
            start_period: self.interval("start-period")?,
            start_interval: self.interval("start-interval")?,
            retries,
        })
    }

    /// The value of the flag `name` as a duration, which is nothing or at least a millisecond.
    fn interval(&self, name: &str) -> Result<Option<std::time::Duration>> {
        let Some(word) = self.flags.word(name).filter(|word| !word.text.is_empty()) else {
            return Ok(None);
        };
        let bad = |expected| self.flags.bad_value(name, word, expected);
        let value = duration(&word.text)
            .ok_or_else(|| bad("it is a duration such as 30s, 1m30s or 500ms"))?;
        if !value.is_zero() && value.as_millis() == 0 {
            return Err(bad("it is at least 1ms"));
        }
        Ok(Some(value))
    }

    /// The instruction after `ONBUILD`.
    fn trigger(&self) -> Result<Request<'a>> {
        // Not trimmed at the end, so that offsets stay those of the line.
        let trigger = split_head(self.line, self.head.arguments_offset, self.escape);
        match trigger.keyword.to_ascii_uppercase().as_str() {
            "ONBUILD" => Err(Mistake::at(
                trigger.keyword_offset,
                ParseErrorKind::OnbuildChained,
            )),
            "FROM" => Err(self.refused_trigger("FROM")),
            "MAINTAINER" => Err(self.refused_trigger("MAINTAINER")),
            _ => Request::read(self.line, self.head.arguments_offset, self.escape),
        }
    }

    fn refused_trigger(&self, trigger: &'static str) -> Mistake {
        self.arguments_mistake(ParseErrorKind::OnbuildTrigger { trigger })
    }

    /// Checks the trigger and keeps its text, heredoc bodies put back.
    fn parse_onbuild(&self, heredocs: Vec<Heredoc>) -> Result<String> {
        if self.head.arguments.is_empty() {
            return Err(self.no_arguments());
        }
        let mut text = self.head.arguments.to_owned();
        for heredoc in &heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        self.trigger()?.parse_kind(heredocs)?;
        Ok(text)
    }
}

/// Whether `name` may stand after `AS`.
fn is_stage_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

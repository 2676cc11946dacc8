//! What metadata instructions do to an image's configuration. Pure.

use std::time::Duration;

use serde_json::json;

use crate::dockerfile::{Command, Healthcheck, KeyValue, Kind};
use crate::executor::DEFAULT_PATH;
pub use crate::http::url::clean;
use crate::oci::config::{self, RunConfig};

/// The shell of shell-form instructions where neither the image nor SHELL names one.
pub const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// The configuration of a stage as its instructions change it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StageConfig {
    /// What ends up in the image.
    pub run: RunConfig,
    /// MAINTAINER.
    pub author: Option<String>,
    /// Whether this stage has said CMD: an ENTRYPOINT then leaves it alone.
    pub command_is_own: bool,
}

impl StageConfig {
    /// The configuration of a stage on top of an image.
    pub fn on(base: &RunConfig, author: Option<String>) -> StageConfig {
        StageConfig {
            run: base.clone(),
            author,
            command_is_own: false,
        }
    }

    /// The configuration of a stage on top of nothing: what BuildKit gives it.
    pub fn on_nothing() -> StageConfig {
        let mut config = StageConfig::default();
        config.set_env("PATH", DEFAULT_PATH);
        config.run.working_dir = "/".to_owned();
        config
    }

    /// The value of an environment variable.
    pub fn env(&self, name: &str) -> Option<String> {
        self.run.env.iter().flatten().rev().find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key == name).then(|| value.to_owned())
        })
    }

    /// Sets an environment variable, in its old place if it had one.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let env = self.run.env.get_or_insert_default();
        let pair = format!("{name}={value}");
        let same =
            |other: &String| other.split_once('=').map_or(other.as_str(), |(key, _)| key) == name;
        match env.iter().position(same) {
            Some(place) => env[place] = pair,
            None => env.push(pair),
        }
    }

    /// The shell of shell-form instructions.
    pub fn shell(&self) -> Vec<String> {
        match &self.run.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => DEFAULT_SHELL
                .iter()
                .map(|word| (*word).to_owned())
                .collect(),
        }
    }

    /// The arguments that run a command.
    pub fn arguments(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(arguments) => arguments.clone(),
            Command::Shell(text) => {
                let mut arguments = self.shell();
                arguments.push(text.clone());
                arguments
            }
        }
    }

    /// The working directory: `/` where none was named.
    pub fn working_dir(&self) -> &str {
        if self.run.working_dir.is_empty() {
            "/"
        } else {
            &self.run.working_dir
        }
    }

    /// `path` below the working directory, cleaned; a trailing slash is lost.
    pub fn resolve(&self, path: &str) -> String {
        clean(&if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", self.working_dir())
        })
    }

    /// Does what an expanded metadata instruction says. Others change nothing here.
    ///
    /// The error says what is wrong with the instruction's arguments.
    pub fn apply(&mut self, kind: &Kind) -> Result<(), String> {
        match kind {
            Kind::Env(pairs) => pairs
                .iter()
                .for_each(|pair| self.set_env(&pair.key, &pair.value)),
            Kind::Label(pairs) => self.label(pairs),
            Kind::Workdir(path) => {
                // An empty one, of a variable that is not set, stays where it is.
                self.run.working_dir = self.resolve(path);
            }
            // An empty one, of a variable that is not set, is root.
            Kind::User(user) => self.run.user = user.clone(),
            Kind::Expose(ports) => {
                for port in ports {
                    for port in expose(port)? {
                        self.run
                            .exposed_ports
                            .get_or_insert_default()
                            .insert(port, json!({}));
                    }
                }
            }
            Kind::Volume(paths) => {
                for path in paths {
                    if path.is_empty() {
                        return Err("a volume is empty after expansion".to_owned());
                    }
                    self.run
                        .volumes
                        .get_or_insert_default()
                        .insert(path.clone(), json!({}));
                }
            }
            Kind::Cmd(command) => {
                self.run.cmd = some_arguments(self.arguments(command));
                self.command_is_own = true;
            }
            Kind::Entrypoint(command) => {
                self.run.entrypoint = some_arguments(match command {
                    // `ENTRYPOINT` of an empty text resets; there is no shell to run nothing in.
                    Command::Shell(text) if text.is_empty() => Vec::new(),
                    command => self.arguments(command),
                });
                // A base's CMD were arguments of the base's entrypoint.
                if !self.command_is_own {
                    self.run.cmd = None;
                }
            }
            Kind::Shell(shell) => self.run.shell = Some(shell.clone()),
            Kind::Stopsignal(signal) => self.run.stop_signal = Some(stop_signal(signal)?),
            Kind::Healthcheck(check) => self.run.healthcheck = Some(self.healthcheck(check)),
            Kind::Onbuild(trigger) => self
                .run
                .on_build
                .get_or_insert_default()
                .push(trigger.clone()),
            Kind::Maintainer(author) => self.author = Some(author.clone()),
            Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Arg(_) => {}
        }
        Ok(())
    }

    fn label(&mut self, pairs: &[KeyValue]) {
        for pair in pairs {
            self.run
                .labels
                .get_or_insert_default()
                .insert(pair.key.clone(), pair.value.clone());
        }
    }

    fn healthcheck(&self, check: &Healthcheck) -> config::Healthcheck {
        match check {
            Healthcheck::None => config::Healthcheck {
                test: vec!["NONE".to_owned()],
                ..Default::default()
            },
            Healthcheck::Cmd {
                command,
                interval,
                timeout,
                start_period,
                start_interval,
                retries,
            } => {
                let mut test = match command {
                    Command::Exec(_) => vec!["CMD".to_owned()],
                    Command::Shell(_) => vec!["CMD-SHELL".to_owned()],
                };
                match command {
                    Command::Exec(arguments) => test.extend(arguments.iter().cloned()),
                    Command::Shell(text) => test.push(text.clone()),
                }
                config::Healthcheck {
                    test,
                    interval: nanoseconds(*interval),
                    timeout: nanoseconds(*timeout),
                    start_period: nanoseconds(*start_period),
                    start_interval: nanoseconds(*start_interval),
                    retries: retries.map_or(0, i64::from),
                }
            }
        }
    }
}

fn some_arguments(arguments: Vec<String>) -> Option<Vec<String>> {
    (!arguments.is_empty()).then_some(arguments)
}

fn nanoseconds(duration: Option<Duration>) -> i64 {
    duration.map_or(0, |duration| {
        i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
    })
}

/// The ports of one word of EXPOSE: `80` is `80/tcp`, `8000-8002/udp` are three.
fn expose(word: &str) -> Result<Vec<String>, String> {
    let wrong = || {
        format!(
            "{word:?} is not a port: a number or a range from 1 to 65535, and /tcp, /udp or /sctp"
        )
    };
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(wrong());
    }
    // `host:container` publishes; of it docker takes the container's.
    let ports = ports
        .rsplit_once(':')
        .map_or(ports, |(_, container)| container);
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(wrong)
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(wrong());
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

/// The signals of Linux by name; signal(7).
const SIGNALS: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "UNUSED",
];

fn stop_signal(signal: &str) -> Result<String, String> {
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = signal.parse::<u8>().is_ok_and(|n| (1..=64).contains(&n));
    let real_time = |text: &str| text.is_empty() || text[1..].parse::<u8>().is_ok_and(|n| n <= 30);
    let named = SIGNALS.contains(&name)
        || name
            .strip_prefix("RTMIN")
            .is_some_and(|rest| rest.is_empty() || (rest.starts_with('+') && real_time(rest)))
        || name
            .strip_prefix("RTMAX")
            .is_some_and(|rest| rest.is_empty() || (rest.starts_with('-') && real_time(rest)));
    if number || named {
        return Ok(signal.to_owned());
    }
    Err(format!(
        "{signal:?} is not a signal: a name such as SIGTERM, or a number from 1 to 64"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_variable_is_replaced_where_it_stood() {
        let mut config = StageConfig::default();
        config.set_env("A", "1");
        config.set_env("B", "2");
        config.set_env("A", "3");
        assert_eq!(config.run.env.as_deref().unwrap(), ["A=3", "B=2"]);
        assert_eq!(config.env("A").as_deref(), Some("3"));
    }

    #[test]
    fn an_entrypoint_resets_the_command_of_the_base_and_not_ones_own() {
        let base = RunConfig {
            cmd: Some(vec!["x".into()]),
            ..RunConfig::default()
        };
        let entrypoint = Kind::Entrypoint(Command::Exec(vec!["/e".into()]));
        let mut config = StageConfig::on(&base, None);
        config.apply(&entrypoint).unwrap();
        assert_eq!(config.run.cmd, None);
        let mut config = StageConfig::on(&base, None);
        config
            .apply(&Kind::Cmd(Command::Exec(vec!["y".into()])))
            .unwrap();
        config.apply(&entrypoint).unwrap();
        assert_eq!(config.run.cmd.as_deref().unwrap(), ["y"]);
    }

    #[test]
    fn a_working_directory_builds_on_the_one_before() {
        let mut config = StageConfig::default();
        for (path, result) in [
            ("a", "/a"),
            ("b/../c", "/a/c"),
            ("/x/", "/x"),
            ("../..", "/"),
        ] {
            config.apply(&Kind::Workdir(path.into())).unwrap();
            assert_eq!(config.working_dir(), result);
        }
    }

    #[test]
    fn signals_are_those_of_linux() {
        for good in ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-1", "SIGRTMIN"] {
            assert_eq!(stop_signal(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "FOO",
            "SIG",
            "0",
            "65",
            "SIGRTMIN3",
            "RTMIN+",
            "RTMIN+99",
        ] {
            assert!(stop_signal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_normalised_and_nonsense_is_refused() {
        assert_eq!(expose("80").unwrap(), ["80/tcp"]);
        assert_eq!(
            expose("8000-8002/UDP").unwrap(),
            ["8000/udp", "8001/udp", "8002/udp"]
        );
        for bad in ["", "0", "70000", "90-80", "80/ip", "x"] {
            assert!(expose(bad).is_err(), "{bad}");
        }
    }
}

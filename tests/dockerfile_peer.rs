//! Ordinary Dockerfiles read by a second parser: where both accept a file, they must agree on what
//! it says. (It refuses more than docker does, so only ordinary files are compared.)

use parse_dockerfile as peer;
use rstore::dockerfile::{self, Command, Kind, Source};

/// Files as people write them, without what the peer doesn't know.
const FILES: &[&str] = &[
    "FROM alpine\nRUN apk add --no-cache curl\nCMD [\"curl\", \"--version\"]\n",
    "# syntax=docker/dockerfile:1\nARG V=1\nFROM --platform=linux/amd64 golang:1 AS build\n\
     WORKDIR /src\nCOPY go.mod go.sum ./\nRUN go mod download\nCOPY . .\n\
     RUN --mount=type=cache,target=/root/.cache go build -o /out ./...\n\
     FROM scratch\nCOPY --from=build --chown=1:1 /out /app\nUSER 1\nEXPOSE 80 443/tcp\n\
     ENTRYPOINT [\"/app\"]\n",
    "FROM debian:stable-slim\nRUN apt-get update && \\\n    apt-get install -y \\\n    # tools\n    \
     curl \\\n    git && \\\n    rm -rf /var/lib/apt/lists/*\nVOLUME /data /logs\nSTOPSIGNAL SIGINT\n",
    "from python:3 as base\nworkdir /app\ncopy requirements.txt .\nrun pip install -r requirements.txt\n\
     from base\ncopy . .\nexpose 8000\nshell [\"/bin/bash\", \"-c\"]\ncmd python -m http.server\n",
    "FROM node:22\nENV NODE_ENV=production\nARG PORT\nLABEL a=b\nCOPY [\"a b\", \"/c d/\"]\n\
     ADD https://example.org/x.tar.gz /x/\nVOLUME [\"/data\"]\nENTRYPOINT node server.js\n",
];

/// An instruction as a line of text that both parsers can be brought to.
fn ours(text: &str) -> Vec<String> {
    let file = dockerfile::parse(text.as_bytes()).unwrap();
    let mut lines: Vec<String> = Vec::new();
    lines.extend(
        file.global_args
            .iter()
            .map(|instruction| line(&instruction.kind)),
    );
    for stage in &file.stages {
        let from = &stage.from;
        let platform = from.platform.as_ref().map(|p| format!("platform={p} "));
        lines.push(format!(
            "FROM {}{} {:?}",
            platform.unwrap_or_default(),
            from.image,
            from.alias.as_deref()
        ));
        lines.extend(
            stage
                .instructions
                .iter()
                .map(|instruction| line(&instruction.kind)),
        );
    }
    lines
}

fn line(kind: &Kind) -> String {
    let name = kind.name();
    match kind {
        Kind::Run(run) => format!("{name} {} {}", run.mounts.len(), command(&run.command)),
        Kind::Cmd(value) | Kind::Entrypoint(value) => format!("{name} {}", command(value)),
        Kind::Copy(copy) => format!("{name} {:?} {}", paths(&copy.sources), copy.destination),
        Kind::Add(add) => format!("{name} {:?} {}", paths(&add.sources), add.destination),
        Kind::Workdir(text) | Kind::User(text) | Kind::Stopsignal(text) => format!("{name} {text}"),
        Kind::Expose(words) | Kind::Volume(words) | Kind::Shell(words) => {
            format!("{name} {words:?}")
        }
        Kind::Env(pairs) | Kind::Label(pairs) => {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|p| format!("{}={}", p.key, p.value))
                .collect();
            format!("{name} {}", pairs.join(" "))
        }
        Kind::Arg(args) => {
            let args: Vec<_> = args
                .iter()
                .map(|arg| match &arg.default {
                    Some(default) => format!("{}={default}", arg.name),
                    None => arg.name.clone(),
                })
                .collect();
            format!("{name} {}", args.join(" "))
        }
        _ => name.to_owned(),
    }
}

fn command(command: &Command) -> String {
    match command {
        Command::Shell(text) => without_spaces(text),
        Command::Exec(words) => format!("{words:?}"),
    }
}

/// The peer leaves continuations and comments in a shell command.
fn without_spaces(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let words: Vec<&str> = lines
        .flat_map(|line| line.strip_suffix('\\').unwrap_or(line).split_whitespace())
        .collect();
    words.join(" ")
}

fn paths(sources: &[Source]) -> Vec<&str> {
    sources
        .iter()
        .map(|source| match source {
            Source::Path(path) => path.as_str(),
            Source::Heredoc { name, .. } => name.as_str(),
        })
        .collect()
}

fn theirs(text: &str) -> Vec<String> {
    let file = peer::parse(text).unwrap();
    file.instructions.iter().map(their_line).collect()
}

fn their_line(instruction: &peer::Instruction<'_>) -> String {
    use peer::Instruction as I;
    match instruction {
        I::From(from) => {
            let flags: String = from
                .options
                .iter()
                .map(|flag| format!("{} ", their_flag(flag)))
                .collect();
            let alias = from.as_.as_ref().map(|(_, name)| name.value.as_ref());
            format!("FROM {flags}{} {alias:?}", from.image.value)
        }
        I::Run(run) => {
            let mounts = run
                .options
                .iter()
                .filter(|flag| flag.name.value == "mount")
                .count();
            format!("RUN {mounts} {}", their_command(&run.arguments))
        }
        I::Cmd(cmd) => format!("CMD {}", their_command(&cmd.arguments)),
        I::Entrypoint(entry) => format!("ENTRYPOINT {}", their_command(&entry.arguments)),
        I::Copy(copy) => format!("COPY {:?} {}", their_paths(&copy.src), copy.dest.value),
        I::Add(add) => format!("ADD {:?} {}", their_paths(&add.src), add.dest.value),
        I::Workdir(workdir) => format!("WORKDIR {}", workdir.arguments.value),
        I::User(user) => format!("USER {}", user.arguments.value),
        I::Stopsignal(signal) => format!("STOPSIGNAL {}", signal.arguments.value),
        I::Expose(expose) => format!("EXPOSE {:?}", their_words(&expose.arguments)),
        I::Volume(volume) => match &volume.arguments {
            peer::JsonOrStringArray::Json(words) => {
                format!("VOLUME {:?}", their_words(&words.value))
            }
            peer::JsonOrStringArray::String(words) => format!("VOLUME {:?}", their_words(words)),
        },
        I::Shell(shell) => format!("SHELL {:?}", their_words(&shell.arguments)),
        I::Env(env) => format!("ENV {}", env.arguments.value),
        I::Label(label) => format!("LABEL {}", label.arguments.value),
        I::Arg(arg) => format!("ARG {}", arg.arguments.value),
        other => format!("{other:?}"),
    }
}

fn their_flag(flag: &peer::Flag<'_>) -> String {
    let value = flag.value.as_ref().map(|value| value.value.as_ref());
    format!("{}={}", flag.name.value, value.unwrap_or_default())
}

fn their_words<'a>(words: &'a [peer::UnescapedString<'_>]) -> Vec<&'a str> {
    words.iter().map(|word| word.value.as_ref()).collect()
}

fn their_paths<'a>(sources: &'a [peer::Source<'_>]) -> Vec<&'a str> {
    sources
        .iter()
        .map(|source| match source {
            peer::Source::Path(path) => path.value.as_ref(),
            _ => "",
        })
        .collect()
}

fn their_command(command: &peer::Command<'_>) -> String {
    match command {
        peer::Command::Exec(words) => format!("{:?}", their_words(&words.value)),
        peer::Command::Shell(text) => without_spaces(text.value),
        _ => String::new(),
    }
}

#[test]
fn two_parsers_agree_on_ordinary_files() {
    for text in FILES {
        assert_eq!(ours(text), theirs(text), "{text}");
    }
}

//! Completion of a command line: verbs, options and their values from the definition of the command
//! line, and names and IDs of images from the store.
//!
//! ```text
//! shell ─TAB─▶ rstore.bash, _rstore, rstore.fish ─▶ rstore __complete SHELL … ─▶ a candidate a line
//! ```
//! Whoever presses TAB waits: nothing is brought up to date for it, and nothing written. Names are
//! those of `index.json`, which the catalog may know; IDs those that the catalog knows, where it is
//! of this version. A store
//! that is broken or is not there has no names, and nobody is told so while he types.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Arg, Command, CommandFactory};
use clap_complete::engine::{self, ArgValueCompleter, CompletionCandidate};

use super::{Cli, context};
use crate::catalog::{Catalog, sync};
use crate::layout::{Index, Layout};
use crate::oci::Digest;

pub mod words;

/// What asks for completions instead of naming a verb.
pub const VERB: &str = "__complete";

/// How many names are offered of a store that has more.
const NAMES: usize = 10_000;

/// How many IDs are offered: whoever wants one of more types another digit.
const IDS: usize = 200;

/// The scripts that ask, by shell.
pub const SCRIPTS: [(clap_complete::Shell, &str, &str); 3] = [
    (
        clap_complete::Shell::Bash,
        "rstore.bash",
        include_str!("rstore.bash"),
    ),
    (
        clap_complete::Shell::Zsh,
        "_rstore",
        include_str!("_rstore"),
    ),
    (
        clap_complete::Shell::Fish,
        "rstore.fish",
        include_str!("rstore.fish"),
    ),
];

/// Whether a command line asks for completions.
pub fn is_asked(arguments: &[OsString]) -> bool {
    arguments.get(1).is_some_and(|verb| verb == VERB)
}

/// Answers on standard output. Whatever goes wrong, there is nothing to complete then.
pub fn answer(arguments: &[OsString]) {
    let lines = match arguments.get(2).and_then(|shell| shell.to_str()) {
        Some("bash") => for_bash(&arguments[3..]),
        Some("zsh") => for_words(&arguments[3..], zsh_line),
        Some("fish") => for_words(&arguments[3..], fish_line),
        _ => return,
    };
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    // The shell may have gone.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// `WORDBREAKS LINE`: bash parts words at `:` and `=` too, and replaces only the last piece.
fn for_bash(arguments: &[OsString]) -> Vec<String> {
    let [breaks, line] = arguments else {
        return Vec::new();
    };
    let (Some(breaks), Some(line)) = (breaks.to_str(), line.to_str()) else {
        return Vec::new();
    };
    let words = words::split(line);
    let Some(current) = words.last() else {
        return Vec::new();
    };
    let is_break = |c: char| breaks.contains(c) && !matches!(c, '"' | '\'' | ' ' | '\t' | '\n');
    let kept = current.rfind(is_break).map_or(0, |place| place + 1);
    candidates(&words)
        .into_iter()
        .filter_map(|candidate| {
            let value = candidate.get_value().to_str()?;
            let value = value.get(kept..)?;
            let blank = if is_begun(value) { "" } else { " " };
            Some(format!("{}{blank}", words::quote(value)))
        })
        .collect()
}

/// `-- WORD…`, the last of which is to be completed.
fn for_words(arguments: &[OsString], line: fn(&str, &str) -> String) -> Vec<String> {
    let Some((_, words)) = arguments.split_first() else {
        return Vec::new();
    };
    let words: Option<Vec<String>> = words
        .iter()
        .map(|word| word.to_str().map(str::to_owned))
        .collect();
    candidates(&words.unwrap_or_default())
        .iter()
        .filter_map(|candidate| {
            let help = candidate.get_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let help = help.lines().next().unwrap_or_default();
            Some(line(candidate.get_value().to_str()?, help))
        })
        .collect()
}

/// Whether a word goes on: a directory, an option's name with its `=`.
fn is_begun(value: &str) -> bool {
    value.ends_with(['/', '=', ':'])
}

/// `+VALUE:HELP`, or `=VALUE:HELP` of a word that goes on; colons in the value are escaped.
fn zsh_line(value: &str, help: &str) -> String {
    let mark = if is_begun(value) { '=' } else { '+' };
    let value = value.replace('\\', "\\\\").replace(':', "\\:");
    match help {
        "" => format!("{mark}{value}"),
        help => format!("{mark}{value}:{help}"),
    }
}

fn fish_line(value: &str, help: &str) -> String {
    match help {
        "" => value.to_owned(),
        help => format!("{value}\t{help}"),
    }
}

fn candidates(words: &[String]) -> Vec<CompletionCandidate> {
    let Some(last) = words.len().checked_sub(1).filter(|last| *last > 0) else {
        return Vec::new();
    };
    let root = root(&words[..last]).map(Arc::new);
    let mut command = Cli::command();
    if let Some(root) = root {
        command = command.mut_subcommands(|verb| with_names(verb, &root));
    }
    let dash = words[last].starts_with('-');
    let words = words.iter().map(OsString::from).collect();
    let directory = std::env::current_dir().ok();
    let found = engine::complete(&mut command, words, last, directory.as_deref());
    let mut found = found.unwrap_or_default();
    found.retain(|candidate| !candidate.is_hide_set() && is_plain(candidate.get_value()));
    // Options are there for whoever types a dash, and where there is nothing else.
    let is_option = |candidate: &CompletionCandidate| {
        candidate.get_value().as_encoded_bytes().starts_with(b"-")
    };
    if !dash && !found.iter().all(is_option) {
        found.retain(|candidate| !is_option(candidate));
    }
    found
}

/// What a shell's line can hold without a trick: no control characters.
fn is_plain(value: &OsStr) -> bool {
    value
        .to_str()
        .is_some_and(|text| !text.contains(super::render::text::is_unsafe))
}

/// The store that the words name, or the one that there is without.
fn root(words: &[String]) -> Option<PathBuf> {
    let mut root = None;
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.strip_prefix("--root") {
            Some("") => root = rest.next().map(PathBuf::from),
            Some(value) => root = value.strip_prefix('=').map(PathBuf::from).or(root),
            None => {}
        }
    }
    root.or_else(|| std::env::var_os("RSTORE_ROOT").map(PathBuf::from))
        .or_else(|| context::default_root().ok())
}

/// What an argument is to be completed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offer {
    names: bool,
    ids: bool,
    containers: bool,
}

impl Offer {
    /// By what its value is called: so an argument of a new verb is completed without a word here.
    fn of(argument: &Arg) -> Option<Offer> {
        let [name] = argument.get_value_names()? else {
            return None;
        };
        let kinds: Vec<&str> = name.split('|').collect();
        let offer = Offer {
            names: kinds
                .iter()
                .any(|kind| matches!(*kind, "REF" | "SRC" | "NAME[:TAG]")),
            ids: kinds
                .iter()
                .any(|kind| matches!(*kind, "REF" | "SRC" | "ID")),
            containers: kinds.contains(&"CONTAINER"),
        };
        (offer.names || offer.ids || offer.containers).then_some(offer)
    }
}

fn with_names(verb: Command, root: &Arc<PathBuf>) -> Command {
    verb.mut_args(|argument| match Offer::of(&argument) {
        None => argument,
        Some(offer) => {
            let root = Arc::clone(root);
            let complete = move |current: &OsStr| offered(&root, current, offer);
            argument.add(ArgValueCompleter::new(complete))
        }
    })
}

fn offered(root: &Path, current: &OsStr, offer: Offer) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if offer.names {
        found.extend(names(root, current).unwrap_or_default());
    }
    if offer.ids || offer.containers {
        found.extend(ids(root, current, offer).unwrap_or_default());
    }
    found.into_iter().map(CompletionCandidate::new).collect()
}

fn names(root: &Path, current: &str) -> Option<Vec<String>> {
    if !Layout::exists(root) {
        return None;
    }
    // What the catalog has of index.json it has sorted, if index.json is still the same.
    if let Some(catalog) = catalog(root)
        && let Ok(layout) = Layout::open(root)
        && sync::index_is_current(&catalog, &layout).is_ok_and(|is| is)
    {
        return catalog.read(|tx| tx.names_by_prefix(current, NAMES)).ok();
    }
    // Opening a layout that no rstore has seen would make directories in it.
    let index = Index::read(&root.join("index.json")).ok()?;
    let names = index.entries().iter().filter_map(|entry| entry.name());
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with(current))
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names.dedup();
    Some(names)
}

/// The catalog, if opening it changes nothing.
fn catalog(root: &Path) -> Option<Catalog> {
    let path = root.join("rstore/catalog.db");
    (path.exists() && Catalog::is_current(&path)).then(|| Catalog::open(&path).ok())?
}

/// IDs of images and containers that begin so. Before a digit is typed there are none: they would
/// bury the names.
fn ids(root: &Path, current: &str, offer: Offer) -> Option<Vec<String>> {
    let digits = current.strip_prefix("sha256:").unwrap_or(current);
    if digits.is_empty() {
        return None;
    }
    let end = |fill: &str| {
        Digest::from_hex(&(digits.to_owned() + &fill.repeat(64_usize.checked_sub(digits.len())?)))
    };
    let (low, high) = (end("0")?, end("f")?);
    let catalog = catalog(root)?;
    let mut found = Vec::new();
    if offer.ids {
        let ids = catalog
            .read(|tx| tx.image_ids_between(&low, &high, IDS))
            .ok()?;
        let whole = current.len() > 12 || current != digits;
        found.extend(ids.iter().map(|id| match (whole, current == digits) {
            (true, true) => id.hex(),
            (true, false) => id.to_string(),
            (false, _) => id.short(),
        }));
    }
    if offer.containers {
        let containers = catalog.read(|tx| tx.containers()).ok()?;
        let ids = containers.into_iter().map(|container| container.id);
        found.extend(ids.filter(|id| id.starts_with(current)));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> Vec<String> {
        let arguments = ["\"'@><=;|&(: \t", line].map(OsString::from);
        for_bash(&arguments)
    }

    #[test]
    fn verbs_options_and_their_values_are_the_command_lines_own() {
        assert_eq!(completed("rstore unt"), ["untag "]);
        assert_eq!(
            completed("cd /; FOO=1 ./rstore --no-pro"),
            ["--no-progress "]
        );
        assert_eq!(completed("rstore graph --format mer"), ["mermaid "]);
        assert_eq!(completed("rstore graph --format=mer"), ["mermaid "]);
        assert!(completed("rstore images --tr").contains(&"--tree ".to_owned()));
        assert!(completed("rstore __comp").is_empty());
        assert!(completed("rst").is_empty() && completed("").is_empty());
    }

    #[test]
    fn the_root_is_the_last_that_was_said() {
        let root = |line: &str| root(&words::split(line)).unwrap();
        assert_eq!(root("rstore --root /a images"), Path::new("/a"));
        assert_eq!(
            root("rstore --root=/a --root '/b c' rmi"),
            Path::new("/b c")
        );
    }

    #[test]
    fn what_is_not_there_or_broken_has_no_names() {
        let directory = tempfile::tempdir().unwrap();
        let offer = Offer {
            names: true,
            ids: true,
            containers: true,
        };
        assert!(offered(directory.path(), OsStr::new("a"), offer).is_empty());
        std::fs::create_dir_all(directory.path().join("rstore")).unwrap();
        std::fs::write(directory.path().join("oci-layout"), "x").unwrap();
        std::fs::write(directory.path().join("rstore/catalog.db"), "x").unwrap();
        assert!(offered(directory.path(), OsStr::new("a"), offer).is_empty());
        assert!(!directory.path().join("blobs").exists(), "nothing is made");
    }
}

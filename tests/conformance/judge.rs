//! Two images and a case's expectations become a verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::case::{Case, Check, Outcome};
use crate::image::{File, Image};

/// What one builder came to.
pub enum Built {
    Image(Box<Image>),
    /// What it said.
    Refused(String),
}

impl Built {
    fn word(&self) -> &'static str {
        match self {
            Built::Image(_) => "built",
            Built::Refused(_) => "refused",
        }
    }
}

/// A line of the table.
pub struct Verdict {
    pub ours: &'static str,
    pub theirs: &'static str,
    /// `same`, `docker's`, `ours` or `FAIL`.
    pub word: &'static str,
    /// Why it failed.
    pub details: Vec<String>,
}

impl Verdict {
    pub fn failed(&self) -> bool {
        self.word == "FAIL"
    }
}

/// Judges a case. `began` is a time before any build, in seconds since the epoch; `differs` says
/// whether this buildah is one that is known to differ.
pub fn judge(case: &Case, ours: &Built, theirs: &Built, began: i64, differs: bool) -> Verdict {
    let mut details = held(case, ours, "rstore");
    let checked = Checked::of(case);
    let explained = differs.then_some(&checked);
    let rest = compared(case, ours, theirs, began, explained);
    details.extend(rest);
    let wrong_there = held(case, theirs, "buildah");
    if differs && wrong_there.is_empty() {
        let reason = case.reason().unwrap_or("");
        details.push(format!("buildah does not differ any more: {reason}"));
    }
    if !differs {
        details.extend(wrong_there);
    }
    let ours_alone = case.difference.as_ref().is_some_and(|known| known.ours);
    let word = match (details.is_empty(), differs) {
        (false, _) => "FAIL",
        (true, true) if ours_alone => "ours",
        (true, true) => "docker's",
        (true, false) => "same",
    };
    Verdict {
        ours: ours.word(),
        theirs: theirs.word(),
        word,
        details,
    }
}

/// What BuildKit makes of it is what the case says, and what rstore makes of it.
pub fn against_buildkit(case: &Case, ours: &Built, theirs: &Built, began: i64) -> Vec<String> {
    let mut details = held(case, theirs, "buildkit");
    // Its cache may answer for a heredoc; what it made is new if it is of this week.
    let week = 7 * 24 * 3600;
    details.extend(compared(case, ours, theirs, began - week, None));
    details
}

/// Which of a case's expectations do not hold.
fn held(case: &Case, built: &Built, who: &str) -> Vec<String> {
    let image = match (&case.outcome, built) {
        (Outcome::Built, Built::Image(image)) => image,
        (Outcome::Built, Built::Refused(said)) => {
            return vec![format!("{who} refuses it: {}", tail(said))];
        }
        (Outcome::Refused(_), Built::Image(_)) => {
            return vec![format!("{who} builds what docker refuses")];
        }
        (Outcome::Refused(words), Built::Refused(said)) => {
            let lacks = |word: &&&str| who == "rstore" && !said.contains(**word);
            let missing = words.iter().filter(lacks);
            return missing
                .map(|word| format!("{who} does not say {word:?}: {}", tail(said)))
                .collect();
        }
    };
    let wrong = |check: &Check| match check {
        Check::File(path, is) => match image.files.get(&inside(path)) {
            None => Some(format!("{who}: no {path}")),
            Some(file) => unlike(file, is).map(|why| format!("{who}: {path}: {why}")),
        },
        Check::Absent(path) => {
            let file = image.files.get(&inside(path))?;
            Some(format!("{who}: {path} must not be there: {file:?}"))
        }
        Check::Config(member, value) => {
            let found = member_of(&image.config, member);
            let same = normal(&found) == normal(value);
            (!same).then(|| format!("{who}: {member} is {found}, not {value}"))
        }
    };
    case.checks.iter().filter_map(wrong).collect()
}

fn tail(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

fn inside(path: &str) -> PathBuf {
    PathBuf::from(path.trim_matches('/'))
}

/// Why a file is not what the words say.
fn unlike(file: &File, words: &str) -> Option<String> {
    let (words, text) = match words.split_once("text=") {
        Some((words, text)) => (words, Some(text)),
        None => (words, None),
    };
    if let Some(text) = text
        && file.text.as_deref() != Some(text)
    {
        return Some(format!("holds {:?}, not {text:?}", file.text));
    }
    let node = &file.node;
    words.split_whitespace().find_map(|word| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let (found, good) = match key {
            "file" | "dir" | "link" | "fifo" | "char" => {
                let kind = kind(node.mode);
                (kind.to_owned(), kind == key)
            }
            "mode" => {
                let mode = format!("{:04o}", node.mode & 0o7777);
                let good = mode == value;
                (mode, good)
            }
            "owner" => {
                let owner = format!("{}:{}", node.owner.0, node.owner.1);
                let good = owner == value;
                (owner, good)
            }
            "to" => (node.content.clone(), node.content == format!("-> {value}")),
            "same" => {
                let same = node.same_as.as_deref() == Some(inside(value).as_path());
                (format!("{:?}", node.same_as), same)
            }
            "alone" => (format!("{:?}", node.same_as), node.same_as.is_none()),
            "bare" => (format!("{:?}", node.xattrs.keys()), node.xattrs.is_empty()),
            "time" => {
                let good = file.modified.to_string() == value;
                (file.modified.to_string(), good)
            }
            "size" => {
                let good = node.content.starts_with(&format!("{value} bytes"));
                (node.content.clone(), good)
            }
            "xattr" => {
                let good = node.xattrs.contains_key(std::ffi::OsStr::new(value));
                (format!("{:?}", node.xattrs.keys()), good)
            }
            other => panic!("{other:?} says nothing of a file"),
        };
        (!good).then(|| format!("{word} does not hold: {found}"))
    })
}

fn kind(mode: u32) -> &'static str {
    match mode & 0o170_000 {
        0o040_000 => "dir",
        0o120_000 => "link",
        0o010_000 => "fifo",
        0o020_000 => "char",
        0o060_000 => "block",
        _ => "file",
    }
}

/// What a case speaks of itself.
struct Checked {
    files: BTreeSet<PathBuf>,
    members: BTreeSet<&'static str>,
    outcome: bool,
}

impl Checked {
    fn of(case: &Case) -> Checked {
        let mut checked = Checked {
            files: BTreeSet::new(),
            members: BTreeSet::new(),
            outcome: true,
        };
        for check in &case.checks {
            match check {
                Check::File(path, _) | Check::Absent(path) => {
                    checked.files.insert(inside(path));
                }
                Check::Config(member, _) => {
                    checked.members.insert(member);
                }
            }
        }
        checked
    }
}

/// How the two differ, but for what `explained` speaks of.
fn compared(
    case: &Case,
    ours: &Built,
    theirs: &Built,
    began: i64,
    explained: Option<&Checked>,
) -> Vec<String> {
    let (ours, theirs) = match (ours, theirs) {
        (Built::Image(ours), Built::Image(theirs)) => (ours, theirs),
        (Built::Refused(_), Built::Refused(_)) => return Vec::new(),
        (ours, theirs) => {
            if explained.is_some_and(|checked| checked.outcome) {
                return Vec::new();
            }
            let said = |built: &Built| match built {
                Built::Refused(said) => tail(said),
                Built::Image(_) => "built".to_owned(),
            };
            return vec![format!("rstore: {}\npeer: {}", said(ours), said(theirs))];
        }
    };
    let mut found = members(ours, theirs, explained);
    let skip = |path: &Path| {
        let spoken = explained.is_some_and(|checked| checked.files.contains(path));
        spoken
            || case
                .ignored
                .iter()
                .any(|below| path.starts_with(inside(below)))
    };
    let paths: BTreeSet<&PathBuf> = ours.files.keys().chain(theirs.files.keys()).collect();
    for path in paths {
        if skip(path) {
            continue;
        }
        match (ours.files.get(path), theirs.files.get(path)) {
            (Some(left), Some(right)) => found.extend(unequal(path, left, right, began)),
            (left, right) => found.push(format!(
                "/{}: rstore {}, peer {}",
                path.display(),
                left.map_or("has none".to_owned(), shown),
                right.map_or("has none".to_owned(), shown)
            )),
        }
    }
    let more = found.len().saturating_sub(12);
    found.truncate(12);
    if more > 0 {
        found.push(format!("… and {more} more"));
    }
    found
}

fn shown(file: &File) -> String {
    format!("{:?} time {} {:?}", file.node, file.modified, file.text)
}

fn unequal(path: &Path, left: &File, right: &File, began: i64) -> Option<String> {
    // What is new is as new as its build; only an old time was kept from somewhere.
    let time = |file: &File| (file.modified < began).then_some(file.modified);
    // The time of a directory that another step may have written into says nothing.
    let is_directory = left.node.mode & 0o170_000 == 0o040_000;
    if left.node == right.node && (is_directory || time(left) == time(right)) {
        return None;
    }
    Some(format!(
        "/{}:\n  rstore: {}\n  peer:   {}",
        path.display(),
        shown(left),
        shown(right)
    ))
}

/// The members of a configuration that say how a container runs.
const MEMBERS: [&str; 17] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "User",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "Shell",
    "Healthcheck",
    "OnBuild",
    "architecture",
    "os",
    "variant",
    "author",
    "os.version",
];

fn members(ours: &Image, theirs: &Image, explained: Option<&Checked>) -> Vec<String> {
    let unequal = |member: &&str| {
        if explained.is_some_and(|checked| checked.members.contains(*member)) {
            return None;
        }
        let (left, right) = (
            member_of(&ours.config, member),
            member_of(&theirs.config, member),
        );
        let same = normal(&left) == normal(&right);
        (!same).then(|| format!("{member}: rstore {left}, peer {right}"))
    };
    MEMBERS.iter().filter_map(unequal).collect()
}

/// A member of `config.config`, or of the document.
fn member_of(config: &Value, member: &str) -> Value {
    let mut value = match member.starts_with(|first: char| first.is_ascii_uppercase()) {
        true => config["config"][member].clone(),
        false => config[member].clone(),
    };
    // What a container starts in where nothing is said.
    if member == "WorkingDir" && value == "/" {
        return Value::Null;
    }
    if let Some(labels) = value.as_object_mut() {
        // buildah signs its work.
        labels.remove("io.buildah.version");
    }
    value
}

/// Absent and empty are the same; an order that nobody promises is sorted.
fn normal(value: &Value) -> Value {
    match value {
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::Object(map) if map.is_empty() => Value::Null,
        Value::String(text) if text.is_empty() => Value::Null,
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            serde_json::to_value(sorted).expect("JSON")
        }
        value => value.clone(),
    }
}

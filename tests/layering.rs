//! The map of the house, held against the house.
//!
//! DESIGN.md §6 in one sentence: a module imports only from rows above it. [`MAP`] is that table,
//! and these tests read `src/` for what breaks it. They look at tokens, not at text: comments,
//! strings and `#[cfg(test)]` items are blanked first ([`Source::strip`]), so that a doc link is
//! not an import.
//!
//! ```text
//! src/**/*.rs ─ strip ─► tokens ─┬─ crate::X, super::…::X   against MAP
//!                                ├─ unsafe                  only in executor
//!                                ├─ println!, env, clocks   only in cli and main.rs
//!                                └─ lines                   a file fits a head
//! ```

use std::fs;
use std::path::{Path, PathBuf};

/// The modules, top row first.
const MAP: [&str; 19] = [
    "words",
    "fsutil",
    "lock",
    "oci",
    "layout",
    "catalog",
    "graph",
    "gc",
    "fsck",
    "layer",
    "snapshot",
    "store",
    "executor",
    "http",
    "dockerfile",
    "registry",
    "build",
    "archive",
    "cli",
];

/// Modules that import less than their row would let them: they could be crates of their own.
const SELF_CONTAINED: [(&str, &[&str]); 2] =
    [("executor", &["fsutil"]), ("dockerfile", &["words"])];

/// Where `unsafe` may stand.
const UNSAFE: &str = "executor";

/// What the library takes as an argument and never reaches for: the terminal, the environment, the
/// clock. Tokens are matched in sequence.
const SURROUNDINGS: [&[&str]; 8] = [
    &["println", "!"],
    &["print", "!"],
    &["eprintln", "!"],
    &["eprint", "!"],
    &["dbg", "!"],
    &["std", "::", "env"],
    &["SystemTime", "::", "now"],
    &["Instant", "::", "now"],
];

/// `std::env::consts` is data of the compiler, not the environment.
const NOT_SURROUNDINGS: &[&str] = &["std", "::", "env", "::", "consts"];

/// The longest file that still has one subject.
const MAX_LINES: usize = 800;

/// One file of the library.
struct Source {
    /// Relative to `src`.
    path: PathBuf,
    text: String,
}

/// A word or a mark, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        Source {
            path: PathBuf::from(path),
            text: text.to_owned(),
        }
    }

    /// The module of the first level that the file belongs to; `lib` and `main` are themselves.
    fn module(&self) -> String {
        let first = self.path.iter().next().expect("a path has a component");
        let first = first.to_string_lossy();
        first.strip_suffix(".rs").unwrap_or(&first).to_owned()
    }

    /// How many `super::` lead from this file's module to the crate.
    fn depth(&self) -> usize {
        let components = self.path.components().count();
        match self.path.file_name().is_some_and(|name| name == "mod.rs") {
            true => components - 1,
            false => components,
        }
    }

    /// Whether the whole file is a test: named so, or in a directory named so.
    fn is_test(&self) -> bool {
        self.path.iter().any(|part| {
            let part = part.to_string_lossy();
            let part = part.strip_suffix(".rs").unwrap_or(&part);
            ["tests", "testing"].contains(&part) || part.ends_with("_tests")
        })
    }

    /// The code without comments, literals and test items.
    fn tokens(&self) -> Vec<Token> {
        without_test_items(tokenize(&self.strip()))
    }

    /// The text with comments and literals blanked, line by line as long as before.
    fn strip(&self) -> String {
        let chars: Vec<char> = self.text.chars().collect();
        let mut out = String::with_capacity(chars.len());
        let mut at = 0;
        while at < chars.len() {
            let end = literal_end(&chars, at);
            if end == at {
                out.push(chars[at]);
                at += 1;
                continue;
            }
            for &c in &chars[at..end] {
                out.push(if c == '\n' { '\n' } else { ' ' });
            }
            at = end;
        }
        out
    }
}

/// Where the comment or literal that begins at `at` ends; `at` if none begins there.
fn literal_end(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let word_before = at > 0 && is_word(chars[at - 1]);
    match rest {
        ['/', '/', ..] => at + rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment_end(chars, at),
        ['"', ..] => quoted_end(chars, at + 1, '"'),
        ['b' | 'c', '"', ..] if !word_before => quoted_end(chars, at + 2, '"'),
        ['b', '\'', ..] if !word_before => quoted_end(chars, at + 2, '\''),
        ['r', '"' | '#', ..] if !word_before => raw_end(chars, at, at + 1),
        ['b' | 'c', 'r', '"' | '#', ..] if !word_before => raw_end(chars, at, at + 2),
        // A character, not a lifetime.
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted_end(chars, at + 1, '\''),
        _ => at,
    }
}

fn block_comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The end of a raw string whose hashes begin at `hashes`; `start` if it is an identifier, `r#type`.
fn raw_end(chars: &[char], start: usize, hashes: usize) -> usize {
    let count = chars[hashes..].iter().take_while(|&&c| c == '#').count();
    if chars.get(hashes + count) != Some(&'"') {
        return start;
    }
    let mut at = hashes + count + 1;
    while at < chars.len() {
        if chars[at] == '"' && chars[at + 1..].iter().take_while(|&&c| c == '#').count() >= count {
            return at + 1 + count;
        }
        at += 1;
    }
    chars.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn tokenize(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                c => c.len_utf8(),
            };
            tokens.push(Token {
                text: rest[..length].to_owned(),
                line: index + 1,
            });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

fn texts_match(tokens: &[Token], texts: &[&str]) -> bool {
    tokens.len() >= texts.len()
        && tokens
            .iter()
            .zip(texts)
            .all(|(token, text)| token.text == *text)
}

/// `tokens` without the items under `#[cfg(test)]`: each ends with its `;` or its closing brace.
fn without_test_items(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !texts_match(&tokens[at..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0;
        while at < tokens.len() {
            let text = tokens[at].text.as_str();
            at += 1;
            match text {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(text, ";" | "}") {
                break;
            }
        }
    }
    kept
}

/// The modules of the first level that a file names, each with the line.
fn imports(source: &Source) -> Vec<(String, usize)> {
    let tokens = source.tokens();
    let climb = ["super", "::"].repeat(source.depth());
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let from_crate = texts_match(&tokens[at..], &["crate", "::"]);
        let after_path = at > 0 && tokens[at - 1].text == "::";
        if from_crate {
            found.extend(names(&tokens[at + 2..]));
        } else if !after_path && !climb.is_empty() && texts_match(&tokens[at..], &climb) {
            found.extend(names(&tokens[at + climb.len()..]));
        }
    }
    found
}

/// The first names of what follows `crate::`: one, or those of a group.
fn names(tokens: &[Token]) -> Vec<(String, usize)> {
    let name = |token: &Token| (token.text.clone(), token.line);
    match tokens.first() {
        Some(token) if token.text == "{" => {
            let mut found = Vec::new();
            let mut depth = 0;
            let mut begins = false;
            for token in tokens {
                match token.text.as_str() {
                    "{" => (depth, begins) = (depth + 1, depth == 0),
                    "}" => depth -= 1,
                    "," => begins = depth == 1,
                    _ if begins => {
                        found.push(name(token));
                        begins = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            found
        }
        Some(token) => vec![name(token)],
        None => Vec::new(),
    }
}

/// What a file does that its place in the house forbids.
fn violations(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let module = source.module();
    let path = source.path.display();
    let lines = source.text.lines().count();
    if lines > MAX_LINES {
        found.push(format!("{path}: {lines} lines, more than {MAX_LINES}"));
    }
    let is_crate_root = module == "lib" || module == "main";
    if !is_crate_root && !MAP.contains(&module.as_str()) {
        found.push(format!("{path}: module {module} is not on the map"));
        return found;
    }
    if source.is_test() {
        return found;
    }
    if !is_crate_root {
        let row = |name: &str| MAP.iter().position(|module| *module == name);
        for (name, line) in imports(source) {
            // A macro or an item of the crate root is no module.
            let Some(imported) = row(&name) else { continue };
            if Some(imported) > row(&module) {
                found.push(format!(
                    "{path}:{line}: {module} imports {name}, which is below it"
                ));
            }
            let contained = SELF_CONTAINED.iter().find(|(name, _)| *name == module);
            if contained.is_some_and(|(_, may)| name != module && !may.contains(&name.as_str())) {
                found.push(format!(
                    "{path}:{line}: {module} is self-contained, and imports {name}"
                ));
            }
        }
    }
    let tokens = source.tokens();
    for at in 0..tokens.len() {
        let (rest, line) = (&tokens[at..], tokens[at].line);
        if tokens[at].text == "unsafe" && module != UNSAFE {
            found.push(format!("{path}:{line}: unsafe outside of {UNSAFE}"));
        }
        if module == "cli" || module == "main" || texts_match(rest, NOT_SURROUNDINGS) {
            continue;
        }
        if let Some(call) = SURROUNDINGS.iter().find(|call| texts_match(rest, call)) {
            found.push(format!("{path}:{line}: {} outside of cli", call.concat()));
        }
    }
    found
}

/// The modules that `lib.rs` declares and its crate doc does not name.
fn undocumented(lib: &str) -> Vec<String> {
    let doc: Vec<&str> = lib.lines().filter(|line| line.starts_with("//!")).collect();
    let doc = doc.join("\n");
    let declared = lib.lines().filter_map(|line| {
        let line = line.trim();
        let name = line
            .strip_prefix("pub mod ")
            .or(line.strip_prefix("mod "))?;
        name.strip_suffix(';')
    });
    declared
        .filter(|name| !doc.split(|c| !is_word(c)).any(|word| word == *name))
        .map(str::to_owned)
        .collect()
}

fn source_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<Source> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = source_directory();
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    assert!(paths.len() > 10, "{} has hardly any source", root.display());
    let read = |path: &PathBuf| Source {
        path: path.strip_prefix(&root).expect("below src").to_path_buf(),
        text: fs::read_to_string(path).expect("source is UTF-8"),
    };
    paths.iter().map(read).collect()
}

#[test]
fn every_module_keeps_to_its_row() {
    let found: Vec<String> = sources().iter().flat_map(violations).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_crate_doc_names_every_module() {
    let lib = fs::read_to_string(source_directory().join("lib.rs")).expect("lib.rs is readable");
    let missing = undocumented(&lib);
    assert!(
        missing.is_empty(),
        "lib.rs does not say what these own: {missing:?}"
    );
    for line in lib
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub mod "))
    {
        let name = line.trim_end_matches(';');
        assert!(MAP.contains(&name), "module {name} is not on the map");
    }
}

/// The rules can fail: each of these is one violation, told with its line.
#[test]
fn a_broken_rule_is_found() {
    let cases = [
        (
            "oci/digest.rs",
            "//! x\nuse crate::store::Store;\n",
            ":2: oci imports store",
        ),
        (
            "oci/mod.rs",
            "use crate::{\n    lock,\n    store::{self, Store},\n};",
            ":3: oci imports store",
        ),
        (
            "lock.rs",
            "fn f() { crate::cli::run() }",
            ":1: lock imports cli",
        ),
        (
            "gc/mark.rs",
            "use super::super::build::Solver;",
            ":1: gc imports build",
        ),
        (
            "executor/step.rs",
            "use crate::oci::Digest;",
            "executor is self-contained",
        ),
        (
            "gc/sweep.rs",
            "fn f() {\n    unsafe { g() }\n}",
            ":2: unsafe outside",
        ),
        (
            "store/mod.rs",
            "fn f() { println!(\"x\") }",
            ":1: println! outside",
        ),
        ("store/mod.rs", "use std::env;", ":1: std::env outside"),
        (
            "build/key.rs",
            "let now = std::time::SystemTime::now();",
            "SystemTime::now outside",
        ),
        (
            "build/key.rs",
            "let c = '\"'; let t = Instant::now(); // \"",
            "Instant::now outside",
        ),
        ("utils.rs", "", "module utils is not on the map"),
    ];
    for (path, text, expected) in cases {
        let found = violations(&Source::new(path, text));
        let all = found.join("\n");
        assert!(
            all.contains(expected),
            "{path}: {text:?} gives {all:?}, not {expected:?}"
        );
    }
    let long = "\n".repeat(MAX_LINES + 1);
    assert_eq!(violations(&Source::new("lock.rs", &long)).len(), 1);
    assert_eq!(
        undocumented("//! Has `lock`.\npub mod lock;\npub mod gc;\n"),
        ["gc"]
    );
}

#[test]
fn what_only_looks_like_a_violation_is_none() {
    let cases = [
        (
            "oci/mod.rs",
            "//! [`crate::store`] /* unsafe */\n/// unsafe println!()\nfn f() {}",
        ),
        (
            "oci/mod.rs",
            "const A: &str = \"crate::store unsafe\"; const B: &str = r#\"\"unsafe\"#;",
        ),
        (
            "lock.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::cli; fn f() { println!() }\n}\n",
        ),
        (
            "lock.rs",
            "#[cfg(test)]\nuse crate::cli::{a, b};\nfn f<'a>(x: &'a str) {}",
        ),
        ("store/tests.rs", "fn f() { println!() }"),
        (
            "executor/sys.rs",
            "fn f() { unsafe { g() } let a = std::env::consts::ARCH; }",
        ),
        (
            "cli/mod.rs",
            "use crate::{build, store}; fn f() { println!() }",
        ),
        (
            "gc/mod.rs",
            "#![forbid(unsafe_code)]\nuse super::oci;\nuse crate::graph;",
        ),
        (
            "main.rs",
            "fn main() { let a = std::env::args(); rstore::cli::run(a) }",
        ),
    ];
    for (path, text) in cases {
        assert_eq!(
            violations(&Source::new(path, text)),
            Vec::<String>::new(),
            "{text:?}"
        );
    }
}

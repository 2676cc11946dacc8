//! All that can be done with an input without I/O, and what must hold of it.

use super::dockerfile::ignore::IgnorePatterns;
use super::dockerfile::lint::{self, BaseFacts, Surroundings};
use super::dockerfile::{self, Dockerfile, Instruction, Kind, expand, glob};

/// Every target.
pub fn all(bytes: &[u8]) {
    parse(bytes);
    expand(bytes);
    ignore(bytes);
}

/// A file is parsed, put together, expanded and checked, or refused with a place inside of it.
pub fn parse(bytes: &[u8]) {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').count().max(1) as u32;
    let file = match dockerfile::parse(bytes) {
        Ok(file) => file,
        Err(error) => {
            assert!(
                (1..=lines).contains(&error.line) && error.column >= 1,
                "{error}"
            );
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let values = |name: &str| {
        name.len()
            .is_multiple_of(2)
            .then(|| format!("{name}'s \"va lue"))
    };
    if let Ok(graph) = file.stage_graph(&values) {
        for index in 0..graph.nodes.len() {
            assert!(graph.nodes[index].stages().all(|earlier| earlier < index));
            assert!(graph.needed(index).contains(&index));
        }
    }
    let mut last_line = 0;
    for instruction in instructions(&file) {
        let span = instruction.span;
        assert!(last_line < span.line && span.line <= span.end_line && span.end_line <= lines);
        last_line = span.end_line;
        let _ = instruction.expand(&values, file.directives.escape);
        if let Kind::Run(run) = &instruction.kind {
            run.script();
        }
        reads_the_same_alone(&file, instruction);
    }
    check(&file, lines);
}

/// Whatever the rules find has a place in the file.
fn check(file: &Dockerfile, lines: u32) {
    let Ok(settings) = lint::Settings::of(&file.directives, None) else {
        return;
    };
    let report = lint::lint(file, &settings, &Nowhere, None);
    for finding in &report.findings {
        assert!((1..=lines).contains(&finding.span.line), "{finding:?}");
        assert!(!finding.message.is_empty());
    }
}

/// Surroundings in which some is known and some is not.
struct Nowhere;

impl Surroundings for Nowhere {
    fn build_arg(&self, name: &str) -> Option<String> {
        name.starts_with('V').then(|| "a b".to_owned())
    }
    fn automatic(&self, name: &str) -> Option<String> {
        name.starts_with("TARGET").then(|| "linux/amd64".to_owned())
    }
    fn automatic_names(&self) -> &[&str] {
        &["TARGETPLATFORM"]
    }
    fn base(&self, _: usize, image: &str, _: Option<&str>) -> Option<BaseFacts> {
        image.len().is_multiple_of(2).then(|| BaseFacts {
            on_build: vec![image.to_owned(), "RUN <<E\n$x\nE".to_owned()],
            ..BaseFacts::default()
        })
    }
    fn is_image_name(&self, text: &str) -> bool {
        !text.is_empty()
    }
    fn ignore(&self) -> Option<&IgnorePatterns> {
        None
    }
}

fn instructions(file: &Dockerfile) -> impl Iterator<Item = &Instruction> {
    let staged = file.stages.iter().flat_map(|stage| &stage.instructions);
    file.global_args.iter().chain(staged)
}

/// An instruction's joined text means what the instruction did.
fn reads_the_same_alone(file: &Dockerfile, instruction: &Instruction) {
    // A heredoc's body is not in the text, not even that of one which no argument names.
    let spread = instruction.original.contains("<<")
        || matches!(instruction.kind, Kind::Onbuild(_) | Kind::Maintainer(_));
    // A trailing `\` that a form feed kept from continuing the line would continue it now.
    let continues = instruction.original.ends_with('\\');
    if !spread && !continues && file.directives.escape == '\\' {
        let alone = dockerfile::parse_instruction(&instruction.original, 1);
        assert_eq!(alone.map(|alone| alone.kind), Ok(instruction.kind.clone()));
    }
}

/// Each line is expanded in every way there is, or refused; without a dollar, a quote or an escape
/// it stays as it is.
pub fn expand(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let values = |name: &str| (name.len() % 2 == 1).then(|| "a/b.c \"d".to_owned());
    for line in text.lines() {
        for escape in ['\\', '`'] {
            let Ok(expanded) = expand::expand(line, &values, escape) else {
                continue;
            };
            if !line.contains(['$', '"', '\'', escape]) {
                assert_eq!(expanded.text, line);
            }
            assert!(expanded.words.iter().all(|word| !word.is_empty()));
            expand::expand_for_display(line, &values, escape);
        }
        let _ = expand::expand_heredoc(line, &values);
    }
    let _ = expand::expand_heredoc(&text, &|_| None);
}

/// Patterns are read and hold against the paths that they look like, or are refused.
pub fn ignore(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let patterns = match IgnorePatterns::parse(bytes) {
        Ok(patterns) => patterns,
        Err(error) => {
            assert!(error.line >= 1 && !error.to_string().is_empty());
            return;
        }
    };
    for path in text.lines().take(20) {
        let path = path.trim_matches(['/', '!', ' ']);
        // What lies below what is ignored for good is ignored.
        if patterns.ignores(path)
            && !path.contains("//")
            && !patterns.may_contain_exceptions_below(path)
        {
            assert!(patterns.ignores(&format!("{path}/x")), "{path:?}");
        }
        let _ = glob::matches(path, "a/b.c");
    }
}

//! What holds for any input of the Dockerfile parser, however broken, and what a second parser
//! says about ordinary files.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use rstore::dockerfile::{self, Dockerfile, Instruction, Kind, Source};

/// The golden Dockerfiles: the seeds of mutation.
fn seeds() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dockerfile");
    let mut paths: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path.join("Dockerfile")).unwrap())
        .collect()
}

/// Pieces that mean something somewhere.
const PIECES: [&str; 40] = [
    "\\\n",
    "`\n",
    "\n",
    "\r\n",
    "#",
    "# escape=`\n",
    "<<EOF",
    "<<-",
    "EOF\n",
    "\nEOF\n",
    "\"",
    "'",
    "\\",
    "`",
    "$",
    "${",
    "}",
    ":-",
    "##",
    "//",
    "[\"",
    "\"]",
    "[",
    "]",
    ",",
    "=",
    "--",
    "--mount=",
    "--from=",
    "type=cache",
    "FROM ",
    "RUN ",
    "ONBUILD ",
    "COPY ",
    "HEALTHCHECK ",
    "ENV ",
    "\0",
    "\u{feff}",
    "é",
    "\t",
];

/// One change of a text: what to put in, where, and how much to take out there.
fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, usize)>> {
    prop::collection::vec(
        (any::<prop::sample::Index>(), 0..12usize, 0..PIECES.len()),
        1..8,
    )
}

fn changed(mut text: Vec<u8>, changes: &[(prop::sample::Index, usize, usize)]) -> Vec<u8> {
    for (place, removed, piece) in changes {
        let start = place.index(text.len() + 1);
        let end = (start + removed).min(text.len());
        text.splice(start..end, PIECES[*piece].bytes());
    }
    text
}

/// Does all that can be done with a file without I/O, and checks what must hold.
fn exercise(text: &[u8]) {
    let lines = text.split_inclusive(|byte| *byte == b'\n').count().max(1) as u32;
    let file = match dockerfile::parse(text) {
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
    let values = |name: &str| (name.len().is_multiple_of(2)).then(|| format!("{name}'s \"va lue"));
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
}

fn instructions(file: &Dockerfile) -> impl Iterator<Item = &Instruction> {
    let staged = file.stages.iter().flat_map(|stage| &stage.instructions);
    file.global_args.iter().chain(staged)
}

/// An instruction's joined text means what the instruction did.
fn reads_the_same_alone(file: &Dockerfile, instruction: &Instruction) {
    let spread = match &instruction.kind {
        Kind::Run(run) => !run.heredocs.is_empty(),
        Kind::Copy(copy) => copy
            .sources
            .iter()
            .any(|s| matches!(s, Source::Heredoc { .. })),
        Kind::Add(add) => add
            .sources
            .iter()
            .any(|s| matches!(s, Source::Heredoc { .. })),
        Kind::Onbuild(_) | Kind::Maintainer(_) => true,
        _ => false,
    };
    // A trailing `\` that a form feed kept from continuing the line would continue it now.
    let continues = instruction.original.ends_with('\\');
    if !spread && !continues && file.directives.escape == '\\' {
        let alone = dockerfile::parse_instruction(&instruction.original, 1);
        assert_eq!(alone.map(|alone| alone.kind), Ok(instruction.kind.clone()));
    }
}

proptest! {
    // PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2000), ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_dockerfile_is_parsed_or_refused(
        seed in any::<prop::sample::Index>(),
        changes in changes(),
    ) {
        let seeds = seeds_once();
        exercise(&changed(seeds[seed.index(seeds.len())].clone(), &changes));
    }

    #[test]
    fn a_soup_of_pieces_is_parsed_or_refused(
        pieces in prop::collection::vec(0..PIECES.len(), 0..30),
    ) {
        let soup: String = pieces.iter().map(|piece| PIECES[*piece]).collect();
        exercise(soup.as_bytes());
        exercise(format!("FROM x\n{soup}").as_bytes());
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        exercise(&bytes);
    }
}

fn seeds_once() -> &'static [Vec<u8>] {
    static SEEDS: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    SEEDS.get_or_init(seeds)
}

#[test]
fn a_hostile_file_takes_no_forever() {
    let long = [
        format!("FROM x\nRUN {}", "a\\\n".repeat(100_000)),
        format!("FROM x\nENV a={}", "\"x\" ".repeat(100_000)),
        format!("FROM x\nRUN {}", "<<A ".repeat(20_000)),
        format!("FROM x\nCMD {}", "[".repeat(100_000)),
        format!("FROM x\nENV a={}", "${a:-".repeat(50_000)),
        format!("FROM x\n{}", "RUN x\n".repeat(50_000)),
        "#\n".repeat(200_000),
    ];
    for text in &long {
        exercise_quickly(text.as_bytes());
    }
}

fn exercise_quickly(text: &[u8]) {
    if let Ok(file) = dockerfile::parse(text) {
        for instruction in instructions(&file) {
            let _ = instruction.expand(&|_| None, file.directives.escape);
        }
    }
}

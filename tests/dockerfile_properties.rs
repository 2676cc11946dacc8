//! What holds for any input of the Dockerfile parser, however broken, and what a second parser
//! says about ordinary files.

use std::path::Path;

use proptest::prelude::*;
use rstore::dockerfile;

#[path = "../fuzz/src/exercise.rs"]
mod exercise;
#[path = "../fuzz/src/mutate.rs"]
mod mutate;

use mutate::{Mutator, PIECES};

/// The golden Dockerfiles: the seeds of mutation.
fn seeds() -> Vec<Vec<u8>> {
    mutate::seeds(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dockerfile"))
}

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

proptest! {
    // PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2000), ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_dockerfile_is_parsed_or_refused(
        seed in any::<prop::sample::Index>(),
        changes in changes(),
    ) {
        let seeds = seeds_once();
        exercise::parse(&changed(seeds[seed.index(seeds.len())].clone(), &changes));
    }

    #[test]
    fn a_soup_of_pieces_is_parsed_or_refused(
        pieces in prop::collection::vec(0..PIECES.len(), 0..30),
    ) {
        let soup: String = pieces.iter().map(|piece| PIECES[*piece]).collect();
        exercise::all(soup.as_bytes());
        exercise::parse(format!("FROM x\n{soup}").as_bytes());
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        exercise::all(&bytes);
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
        let staged = file.stages.iter().flat_map(|stage| &stage.instructions);
        for instruction in file.global_args.iter().chain(staged) {
            let _ = instruction.expand(&|_| None, file.directives.escape);
        }
    }
}

/// The bounded run of what `fuzz/` does without bound. `RSTORE_TEST_FUZZ` asks for more inputs.
#[test]
fn mutations_of_the_golden_files_are_parsed_checked_and_expanded_or_refused() {
    let asked = std::env::var("RSTORE_TEST_FUZZ").ok();
    let count: u64 = asked.map_or(20_000, |text| text.parse().expect("a number of inputs"));
    let threads = 2;
    std::thread::scope(|scope| {
        for seed in 0..threads {
            scope.spawn(move || {
                let mut mutator = Mutator::new(seed, seeds_once());
                for _ in 0..count / threads {
                    exercise::all(mutator.next_input());
                }
            });
        }
    });
}

//! Many mutated inputs through all targets, without a fuzzer: `soak [COUNT [SEED]]`.
//!
//! Ends with a panic, and the input that made it, or says how many it did.

use std::path::Path;
use std::time::Instant;

use rstore_fuzz::{exercise, mutate};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |otherwise| {
        arguments.next().map_or(otherwise, |text| {
            text.parse::<u64>().expect("a number of inputs, and a seed")
        })
    };
    let (count, seed) = (number(1_000_000), number(1));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/dockerfile");
    let seeds = mutate::seeds(&golden);
    let mut mutator = mutate::Mutator::new(seed, &seeds);
    let start = Instant::now();
    for done in 0..count {
        let input = mutator.next_input();
        let told = std::panic::catch_unwind(|| exercise::all(input));
        if told.is_err() {
            eprintln!(
                "input {done} of seed {seed} panicked: {:?}",
                String::from_utf8_lossy(input)
            );
            std::process::exit(1);
        }
        if done % 1_000_000 == 999_999 {
            println!("{} inputs, {} s", done + 1, start.elapsed().as_secs());
        }
    }
    println!(
        "{count} inputs of seed {seed}, no panic, {} s",
        start.elapsed().as_secs()
    );
}

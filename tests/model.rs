//! Random operations on a real store beside a naive model of it in memory; after each of them the
//! invariants of DESIGN.md §3.
//!
//! The model knows images, tags, pins and what is in use as sets of digests, and works out what a
//! prune keeps by going over these sets until nothing changes: slowly, and by other code than the
//! store's. The operations go through the library, but for those of other tools, which write files.
//!
//! `RSTORE_TEST_CASES` (50) says how many sequences are tried, `RSTORE_TEST_STEPS` (30) how long
//! they are at most, `RSTORE_TEST_SEED` (1) which they are: a change is not refused for what it did
//! not bring. A failing sequence is made shorter, and printed.

#[path = "model/naive.rs"]
mod naive;
#[path = "model/world.rs"]
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use world::World;

/// What is done to the store. Numbers choose among what there is at that moment.
#[derive(Debug, Clone)]
enum Operation {
    /// A build's last step: a layer, an image on another, perhaps with a stage, perhaps a name.
    Build {
        parent: Option<usize>,
        stage: Option<usize>,
        layer: u8,
        name: Option<u8>,
    },
    /// The image gets a name, which another may lose by it.
    Tag {
        image: usize,
        name: u8,
    },
    Untag {
        name: u8,
    },
    /// The name goes, and with the last one the image.
    Remove {
        name: u8,
    },
    Pin {
        image: usize,
    },
    Unpin {
        image: usize,
    },
    /// A writer begins to use an image.
    Hold {
        image: usize,
    },
    /// A writer ends.
    Release {
        writer: usize,
    },
    /// A prune to its end.
    Prune {
        stages: bool,
        intermediates: bool,
    },
    /// A prune that is stopped after so many batches; the next writer ends what it began.
    StoppedPrune {
        batches: usize,
    },
    /// Another tool writes an image of one layer, or what goes with one that is there.
    Foreign {
        what: Foreign,
        layer: u8,
        name: Option<u8>,
    },
    /// Another tool takes a name away.
    ForeignUntag {
        name: u8,
    },
    /// A writer is killed.
    Crash {
        layer: u8,
        image: bool,
    },
    /// `catalog.db` is lost.
    LoseCatalog,
    /// An image comes from a layout on another disk.
    Load {
        layer: u8,
        name: u8,
    },
    /// An image is written to a layout on another disk.
    Save {
        name: u8,
    },
}

/// What another tool writes.
#[derive(Debug, Clone, Copy)]
enum Foreign {
    Image,
    /// An index of two images that are there.
    Index(usize, usize),
    /// A signature of an image that is there.
    Signature(usize),
}

fn operations() -> impl Strategy<Value = Operation> {
    let image = || any::<usize>();
    let name = || 0..5_u8;
    let layer = || 0..8_u8;
    let foreign = prop_oneof![
        2 => Just(Foreign::Image),
        1 => (image(), image()).prop_map(|(a, b)| Foreign::Index(a, b)),
        1 => image().prop_map(Foreign::Signature),
    ];
    prop_oneof![
        8 => (
            prop::option::weighted(0.7, image()),
            prop::option::weighted(0.3, image()),
            layer(),
            prop::option::weighted(0.4, name()),
        )
            .prop_map(|(parent, stage, layer, name)| Operation::Build { parent, stage, layer, name }),
        3 => (image(), name()).prop_map(|(image, name)| Operation::Tag { image, name }),
        3 => name().prop_map(|name| Operation::Untag { name }),
        2 => name().prop_map(|name| Operation::Remove { name }),
        2 => image().prop_map(|image| Operation::Pin { image }),
        1 => image().prop_map(|image| Operation::Unpin { image }),
        2 => image().prop_map(|image| Operation::Hold { image }),
        1 => any::<usize>().prop_map(|writer| Operation::Release { writer }),
        5 => (any::<bool>(), any::<bool>())
            .prop_map(|(stages, intermediates)| Operation::Prune { stages, intermediates }),
        1 => (0..4_usize).prop_map(|batches| Operation::StoppedPrune { batches }),
        3 => (foreign, layer(), prop::option::weighted(0.5, name()))
            .prop_map(|(what, layer, name)| Operation::Foreign { what, layer, name }),
        1 => name().prop_map(|name| Operation::ForeignUntag { name }),
        2 => (layer(), any::<bool>()).prop_map(|(layer, image)| Operation::Crash { layer, image }),
        1 => Just(Operation::LoseCatalog),
        1 => (layer(), name()).prop_map(|(layer, name)| Operation::Load { layer, name }),
        1 => name().prop_map(|name| Operation::Save { name }),
    ]
}

fn number(variable: &str, default: u32) -> u32 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is a number")),
        Err(_) => default,
    }
}

#[test]
fn random_operations_leave_the_store_as_a_naive_model_says() {
    let config = Config {
        cases: number("RSTORE_TEST_CASES", 50),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(u64::from(number("RSTORE_TEST_SEED", 1))),
        max_shrink_iters: 400,
        ..Config::default()
    };
    let steps = number("RSTORE_TEST_STEPS", 30) as usize;
    let sequences = prop::collection::vec(operations(), 1..=steps);
    let result = TestRunner::new(config).run(&sequences, |sequence| {
        let mut world = World::new();
        for operation in &sequence {
            world.apply(operation);
            world.check(operation);
        }
        world.end();
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

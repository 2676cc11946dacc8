//! What a step costs beyond fork and execve. Ignored: numbers, not truths.
//!
//! ```text
//! cargo test --release --test executor speed -- --ignored --nocapture
//! ```

use std::process::Command;
use std::time::{Duration, Instant};

use rstore::executor::{Network, Security, Step};

use crate::support::{Image, busybox, may_run, run};

const ROUNDS: usize = 300;

fn median(mut one: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            one();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

#[test]
#[ignore = "a measurement"]
fn speed_of_a_step_that_does_nothing() {
    if !may_run() {
        return;
    }
    let image = Image::new();
    let step = |security, network| {
        let mut step = Step::new(image.root(), ["/bin/true"]);
        (step.security, step.network) = (security, network);
        assert_eq!(run(step).code(), 0);
    };
    let alone = median(|| {
        let mut command = Command::new(busybox().unwrap());
        assert!(command.arg("true").status().unwrap().success());
    });
    let mount = median(|| drop(image.root()));
    eprintln!("fork and execve alone       {alone:?}");
    eprintln!("an overlay, made and dropped {mount:?}");
    for (name, security, network) in [
        (
            "insecure, host's network",
            Security::Insecure,
            Network::Host,
        ),
        (
            "sandboxed, host's network",
            Security::Sandbox,
            Network::Host,
        ),
        ("sandboxed, no network", Security::Sandbox, Network::None),
    ] {
        eprintln!(
            "{name:27} {:?} (with the overlay)",
            median(|| step(security, network))
        );
    }
}

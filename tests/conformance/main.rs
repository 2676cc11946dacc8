//! What rstore makes of a Dockerfile, held against what `buildah bud` makes of it in the same run.
//!
//! ```text
//! case ─┬─ rstore build ─▶ layers ─▶ image ─┐
//!       └─ buildah bud  ─▶ mount  ─▶ image ─┴─ judge ─▶ a line of the table
//! ```
//! | file | owns |
//! |---|---|
//! | [`case`] | what a case is: a Dockerfile, its context, its options, what must come of it |
//! | [`cases`] | the cases, a file an area |
//! | [`setup`] | the base images |
//! | [`builders`] | rstore, buildah and, where one is named, BuildKit |
//! | [`image`] | a built image: configuration and files |
//! | [`judge`] | two images and a case's expectations become a verdict |
//!
//! Docker's reference decides. Where buildah is known to differ from it, the case says why and what
//! holds instead ([`case::Case::docker_says`]); that buildah still differs is a part of the verdict,
//! so that no reason outlives what it explains.
//!
//! `make conformance` prints the table; `cargo test --test conformance -- NAME…` runs what has NAME
//! in its name. `RSTORE_CONFORMANCE_BUILDKIT=ADDRESS` holds every case against the daemon of
//! BuildKit at that address too (it needs `buildctl` in `PATH`): not needed for a verdict, it shows
//! whether what we say of docker is so.

// Other tests use more of it.
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

mod builders;
mod case;
mod cases;
mod image;
mod judge;
mod setup;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use builders::Builders;
use case::Case;
use judge::Verdict;
use support::{Need, skip_without};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let wanted: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let cases: Vec<Case> = cases::all()
        .into_iter()
        .filter(|case| wanted.is_empty() || wanted.iter().any(|part| case.name.contains(*part)))
        .collect();
    if has("--list") {
        cases
            .iter()
            .for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    if cases.is_empty() {
        return ExitCode::SUCCESS;
    }
    let needs = ["buildah", "skopeo"].map(Need::Program);
    if skip_without(&[Need::Root]) || skip_without(&needs) {
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let verdicts = judge_all(&cases);
    let table = has("--table") || !wanted.is_empty();
    let failed = report(&cases, &verdicts, table);
    let count = |word: &str| {
        verdicts
            .iter()
            .filter(|verdict| verdict.word == word)
            .count()
    };
    println!(
        "conformance: {} cases, {} as buildah, {} as docker where buildah differs, \
         {} as rstore alone, {failed} failed; {:.0} s",
        cases.len(),
        count("same"),
        count("docker's"),
        count("ours"),
        began.elapsed().as_secs_f64(),
    );
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Judges every case, several at the same time; the verdicts in the order of the cases.
fn judge_all(cases: &[Case]) -> Vec<Verdict> {
    let builders = Builders::new();
    let next = AtomicUsize::new(0);
    let verdicts: Mutex<Vec<Option<Verdict>>> = Mutex::new(cases.iter().map(|_| None).collect());
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let place = next_place(cases, case);
            let verdict = builders.judge(case);
            verdicts.lock().expect("no case panics here")[place] = Some(verdict);
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get() + 1);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let verdicts = verdicts.into_inner().expect("no case panics here");
    verdicts.into_iter().map(|v| v.expect("judged")).collect()
}

fn next_place(cases: &[Case], case: &Case) -> usize {
    cases
        .iter()
        .position(|other| std::ptr::eq(other, case))
        .expect("one of them")
}

/// Prints the table, or of it what failed; how many failed.
fn report(cases: &[Case], verdicts: &[Verdict], whole: bool) -> usize {
    let widest = cases.iter().map(|case| case.name.len()).max().unwrap_or(4);
    let line = |cells: [&str; 6]| {
        let [name, area, ours, theirs, word, reason] = cells;
        println!("{name:widest$}  {area:9}  {ours:8}  {theirs:8}  {word:8}  {reason}");
    };
    let failed = verdicts.iter().filter(|verdict| verdict.failed()).count();
    if whole || failed > 0 {
        line(["CASE", "AREA", "RSTORE", "BUILDAH", "VERDICT", "REASON"]);
    }
    for (case, verdict) in cases.iter().zip(verdicts) {
        if !whole && !verdict.failed() {
            continue;
        }
        let reason = case.reason().unwrap_or("");
        let (ours, theirs) = (verdict.ours, verdict.theirs);
        line([&case.name, case.area(), ours, theirs, verdict.word, reason]);
        for detail in &verdict.details {
            println!("    {}", detail.replace('\n', "\n    "));
        }
    }
    failed
}

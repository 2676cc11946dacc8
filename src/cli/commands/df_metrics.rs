//! `rstore df --format prometheus`: what a dashboard draws, for node_exporter's textfile collector.
//!
//! Every family has a sample for each type and each state, also where there is nothing of it, so
//! that a line on a dashboard goes to zero and does not end. All samples name their store: one
//! machine may have several, each with a file of its own.

use std::path::Path;

use super::df::KINDS;
use crate::catalog::journal::LastPrune;
use crate::cli::render::prometheus::Exposition;
use crate::gc::{Prune, Usage, UsageRow};
use crate::graph::State;

/// The metrics.
pub fn text(root: &Path, usage: &Usage, last_prune: Option<LastPrune>) -> String {
    let store = root.canonicalize().unwrap_or(root.to_path_buf());
    let store = store.to_string_lossy().into_owned();
    let mut metrics = Exposition::new(vec![("store", store)]);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    metrics
        .gauge("rstore_build_info", "The rstore that measured; always 1.")
        .sample(&version, 1);
    metrics
        .gauge(
            "rstore_store_size_bytes",
            "Allocated bytes below the store's directory, as du counts them.",
        )
        .sample(&[], usage.total);
    by_type(&mut metrics, usage);
    metrics.gauge(
        "rstore_prune_reclaimable_bytes",
        "Allocated bytes that the prune of a scope would free.",
    );
    for prune in Prune::ALL {
        if let Some(freed) = usage.prunes.get(&prune) {
            metrics.sample(&[("scope", prune.word())], freed);
        }
    }
    metrics.gauge("rstore_images", "Images, by what keeps them.");
    for state in State::HELD.into_iter().chain([State::Dangling]) {
        let count = usage.states.get(&state).copied().unwrap_or(0);
        let word = state.word().replace(' ', "_");
        metrics.sample(&[("state", &word)], count);
    }
    if let Some(last) = last_prune {
        // Milliseconds are as exact as it is known.
        let seconds = last.time as f64 / 1000.0;
        metrics
            .gauge(
                "rstore_last_prune_timestamp_seconds",
                "When a prune last came to its end, in seconds since the epoch.",
            )
            .sample(&[], format!("{seconds:.3}"));
        metrics
            .gauge(
                "rstore_last_prune_freed_bytes",
                "Allocated bytes that the last prune freed.",
            )
            .sample(&[], last.freed);
    }
    metrics.finish()
}

/// A family of which there is a sample for each type.
type Family = (&'static str, &'static str, fn(&UsageRow) -> Option<u64>);

fn by_type(metrics: &mut Exposition, usage: &Usage) {
    let families: [Family; 6] = [
        (
            "rstore_size_bytes",
            "Allocated bytes by what they belong to, each byte once.",
            |row| Some(row.size),
        ),
        (
            "rstore_reclaimable_bytes",
            "Allocated bytes that the prune of this type would free.",
            |row| Some(row.reclaimable),
        ),
        (
            "rstore_own_bytes",
            "Allocated bytes, layers included, that nothing else holds; of layers, those of one image.",
            |row| row.own,
        ),
        (
            "rstore_shared_bytes",
            "Allocated bytes, layers included, that others hold as well.",
            |row| row.shared,
        ),
        ("rstore_objects", "How many there are of a type.", |row| {
            Some(row.total)
        }),
        (
            "rstore_active_objects",
            "How many of a type something holds.",
            |row| Some(row.active),
        ),
    ];
    for (name, help, value) in families {
        metrics.gauge(name, help);
        for (kind, word, _) in KINDS {
            let row = usage.rows.get(kind).copied().unwrap_or_default();
            if let Some(value) = value(&row) {
                metrics.sample(&[("type", word)], value);
            }
        }
    }
}

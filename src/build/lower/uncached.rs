//! `--no-cache-filter`: the stages that take nothing from the cache.

use crate::build::options::Options;
use crate::dockerfile::Dockerfile;
use crate::words;

/// Whether `--no-cache-filter` names a stage: by its name, in whatever case, or by its number, as
/// `--target` does.
pub(super) fn is_uncached(options: &Options, index: usize, name: Option<&str>) -> bool {
    let mut named = options.no_cache_stages.iter();
    named.any(|wanted| is_called(wanted, index, name))
}

fn is_called(wanted: &str, index: usize, name: Option<&str>) -> bool {
    name.is_some_and(|name| name.eq_ignore_ascii_case(wanted)) || wanted == index.to_string()
}

/// Warnings of names in `--no-cache-filter` that no stage has. BuildKit says nothing of them; but
/// then a slip of the pen is a step taken from the cache that should not have been.
pub(super) fn unknown_stages(dockerfile: &Dockerfile, options: &Options) -> Vec<String> {
    let stages = || dockerfile.stages.iter().enumerate();
    let unknown = options.no_cache_stages.iter().filter(|wanted| {
        !stages().any(|(index, stage)| is_called(wanted, index, stage.name.as_deref()))
    });
    let warning = |wanted: &String| {
        let lower = wanted.to_ascii_lowercase();
        let near = stages()
            .filter_map(|(_, stage)| stage.name.as_deref())
            .map(|name| (words::distance(&lower, &name.to_ascii_lowercase()), name))
            .filter(|(distance, _)| *distance <= 1 + wanted.chars().count() / 4)
            .min();
        let hint = near.map_or_else(String::new, |(_, name)| format!("; did you mean {name:?}?"));
        format!("no stage is called {wanted:?}, and --no-cache-filter has no effect by it{hint}")
    };
    unknown.map(warning).collect()
}

//! `[prune.NAME]`: a prune's policy in words, as the flags of `rstore prune` are; and what comes of
//! it together with flags.

use std::num::NonZeroUsize;

use clap::ValueEnum;

use super::table::Table;
use crate::catalog::Millis;
use crate::cli::args::values;
use crate::cli::commands::prune::filter;
use crate::cli::{Result, exit};
use crate::gc::policy::{DEFAULT_GRACE, Space};
use crate::gc::{Policy, Scope, select};

/// A scope by its flag's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScopeWord {
    /// `--dangling`
    Dangling,
    /// `--stages`
    Stages,
    /// `--intermediates`
    Intermediates,
    /// `--snapshots`
    Snapshots,
    /// `--cache`
    Cache,
    /// `--cache-mounts`
    CacheMounts,
    /// `--all`
    All,
    /// `--tagged`
    Tagged,
}

/// A policy in words. What is not said is `None`, or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyWords {
    /// The name that it has in the configuration.
    pub name: Option<String>,
    /// Which kinds of things may go.
    pub scopes: Vec<ScopeWord>,
    /// Only what belongs to this image, or descends from it.
    pub image: Option<String>,
    /// Spare what was used since: an age or a time.
    pub until: Option<String>,
    /// Spare this many tags of each repository.
    pub keep_last: Option<NonZeroUsize>,
    /// Spare tags that match.
    pub keep: Option<String>,
    /// What goes must match.
    pub filters: Vec<String>,
    /// How much goes.
    pub space: Space,
    /// How long what other tools wrote is left alone.
    pub grace: Option<Millis>,
}

impl PolicyWords {
    /// Reads a policy's table.
    pub fn take(table: &mut Table) -> Result<PolicyWords> {
        let scope = |text: &str| {
            ScopeWord::from_str(text, false).map_err(|_| {
                let words = ScopeWord::value_variants().iter();
                let words = words.filter_map(|word| word.to_possible_value());
                let words: Vec<String> = words.map(|word| word.get_name().to_owned()).collect();
                format!("there is no scope {text:?}; there are {}", words.join(", "))
            })
        };
        let until = |text: &str| values::moment(text, 0).map(|_| text.to_owned());
        let keep = |text: &str| select::keep_pattern(text).map(|_| text.to_owned());
        let filter = |text: &str| filter::check(text).map(|()| text.to_owned());
        let text = |text: &str| Ok::<_, String>(text.to_owned());
        Ok(PolicyWords {
            name: None,
            scopes: table.list("scopes", scope)?.unwrap_or_default(),
            image: table.parsed("image", text)?,
            until: table.parsed("until", until)?,
            keep_last: table.count("keep-last")?,
            keep: table.parsed("keep", keep)?,
            filters: table.list("filters", filter)?.unwrap_or_default(),
            space: Space {
                max_used: table.parsed("max-used-space", values::room)?,
                reserved: table.parsed("reserved-space", values::room)?,
                min_free: table.parsed("min-free-space", values::room)?,
            },
            grace: table.parsed("grace", values::duration)?,
        })
    }

    /// This policy, with what flags say: single values go before the policy's, scopes and filters
    /// are added to its own.
    pub fn with(mut self, flags: PolicyWords) -> PolicyWords {
        self.scopes.extend(flags.scopes);
        self.filters.extend(flags.filters);
        PolicyWords {
            name: flags.name.or(self.name),
            scopes: self.scopes,
            image: flags.image.or(self.image),
            until: flags.until.or(self.until),
            keep_last: flags.keep_last.or(self.keep_last),
            keep: flags.keep.or(self.keep),
            filters: self.filters,
            space: Space {
                max_used: flags.space.max_used.or(self.space.max_used),
                reserved: flags.space.reserved.or(self.space.reserved),
                min_free: flags.space.min_free.or(self.space.min_free),
            },
            grace: flags.grace.or(self.grace),
        }
    }

    /// The scopes. A scope for images takes the dangling ones with it.
    pub fn scope(&self) -> Scope {
        let has = |word| self.scopes.contains(&word);
        let tagged = has(ScopeWord::Tagged);
        if has(ScopeWord::All) {
            return Scope {
                tagged,
                ..Scope::all()
            };
        }
        let (stages, intermediates) = (has(ScopeWord::Stages), has(ScopeWord::Intermediates));
        let images = has(ScopeWord::Dangling) || stages || intermediates || tagged;
        if self.scopes.is_empty() {
            return Scope::default();
        }
        Scope {
            dangling: images,
            stages,
            intermediates,
            snapshots: has(ScopeWord::Snapshots),
            cache: has(ScopeWord::Cache),
            cache_mounts: has(ScopeWord::CacheMounts),
            containers: images,
            tagged,
            image: None,
        }
    }

    /// What is meant, at this moment. Whose image `image` is remains to be found out.
    pub fn policy(&self, now: Millis) -> Result<Policy> {
        let usage = |why: &str| Err(exit::usage_error(why));
        let scope = self.scope();
        let until = match &self.until {
            Some(text) => Some(values::moment(text, now).map_err(exit::usage_error)?),
            None => None,
        };
        if let Some(keep) = &self.keep {
            select::keep_pattern(keep).map_err(exit::usage_error)?;
        }
        if !scope.tagged && (self.keep_last.is_some() || self.keep.is_some()) {
            return usage(
                "--keep-last and --keep say which tagged images stay, and without --tagged all of them do",
            );
        }
        if self.image.is_some()
            && scope.cache_mounts
            && self.scopes.contains(&ScopeWord::CacheMounts)
        {
            return usage("--cache-mounts belong to no image: not together with --image");
        }
        let policy = Policy {
            name: self.name.clone(),
            scope,
            until,
            keep_last: self.keep_last,
            keep: self.keep.clone(),
            filters: self.filters.clone(),
            space: self.space,
            grace: self.grace.unwrap_or(DEFAULT_GRACE),
            ignore_broken: Vec::new(),
        };
        if policy.scope.tagged && !policy.is_selective() {
            return usage(
                "--tagged needs to be told which: --until AGE, --keep-last N, --keep REGEX, --filter KEY=VALUE, --max-used-space SIZE or another",
            );
        }
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(scopes: &[ScopeWord]) -> PolicyWords {
        PolicyWords {
            scopes: scopes.to_vec(),
            ..PolicyWords::default()
        }
    }

    #[test]
    fn scopes_are_what_was_asked_for_and_nothing_else() {
        assert_eq!(words(&[]).scope(), Scope::default());
        assert_eq!(words(&[ScopeWord::Dangling]).scope(), Scope::default());
        assert_eq!(words(&[ScopeWord::All]).scope(), Scope::all());
        let snapshots = Scope {
            snapshots: true,
            ..Scope::none()
        };
        assert_eq!(words(&[ScopeWord::Snapshots]).scope(), snapshots);
        let stages = Scope {
            stages: true,
            ..Scope::default()
        };
        assert_eq!(words(&[ScopeWord::Stages]).scope(), stages);
        let tagged = words(&[ScopeWord::Tagged, ScopeWord::All]).scope();
        assert!(tagged.tagged && tagged.cache_mounts);
    }

    #[test]
    fn flags_go_before_a_policys_values_and_add_to_its_scopes_and_filters() {
        let policy = PolicyWords {
            until: Some("7d".to_owned()),
            keep: Some("prod".to_owned()),
            filters: vec!["label=a".to_owned()],
            ..words(&[ScopeWord::Stages])
        };
        let flags = PolicyWords {
            until: Some("1d".to_owned()),
            filters: vec!["label=b".to_owned()],
            ..words(&[ScopeWord::Snapshots])
        };
        let both = policy.with(flags);
        assert_eq!(both.until.as_deref(), Some("1d"));
        assert_eq!(both.keep.as_deref(), Some("prod"));
        assert_eq!(both.filters, ["label=a", "label=b"]);
        assert!(both.scope().stages && both.scope().snapshots);
    }
}

//! The arguments of `rstore prune`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::catalog::Millis;
use crate::cli::args::registry::RegistryArgs;
use crate::cli::args::values;
use crate::cli::config::PolicyWords;
use crate::cli::config::policy::ScopeWord;
use crate::cli::registries;
use crate::cli::render::Format;
use crate::gc::policy::{Room, Space};
use crate::oci::{Digest, Reference};

/// In the short help and in the long one.
macro_rules! examples {
    () => {
        "\
Examples:
  rstore prune -n
  rstore prune --all --until 7d
  rstore prune --intermediates --snapshots --max-used-space 50GB --reserved-space 10GB
  rstore prune --tagged --keep-last 3 --keep '^(prod|base):' --until 30d
  rstore prune --policy nightly --force
  rstore prune --remote registry.example/cache/app --keep-last 50 --until 14d -n
  rstore prune -n --all --out plan.json; rstore prune --plan plan.json

"
    };
}

const EXIT_CODES: &str = concat!(
    examples!(),
    "\
Exit codes: 0 also when there was nothing to do; 5 where something could not be removed, or there
is not as much room as was asked for; 75 while another prune is running."
);

const LONG_HELP: &str = concat!(
    examples!(),
    "\
Exit codes: 0 also when there was nothing to do; 5 where something could not be removed, or where
there is not as much room as was asked for, with what holds the rest; 75 while another prune is
running; 130 where Ctrl-C stopped it, between two batches: what is left is whole, and the next
prune goes on; 4 where something that a name needs cannot be read: what it needs in turn is not
known, and so nothing is removed. `rstore fsck` says what is broken; building, loading or importing
that image again mends it, `rstore untag` gives it up, and --ignore-broken gives up what only that
document needs. With --dry-run what would then go is shown.

What fsck has moved to rstore/quarantine no prune removes.

SCOPES say what may go, and rules what of that stays all the same; another rule never makes more
go. Pinned images and their tags always stay. An image that stays keeps the images that it was made
from, unless intermediates are asked for (--intermediates, --all): of those go what no rule spares
itself. Tagged images go with --tagged alone, which needs a rule: then tags that no rule spares
go, and with the last of an image's tags the image.
--keep-last counts by last use: built, built on, tagged or loaded. Building an image again that has
not changed is use, too.

SPACE says how much goes, the least recently used first, children before the images they were made
from; without it all goes that may. What nothing can use any more goes first.
  --max-used-space  a ceiling: things go until the store (the total of `rstore df`) is that small
  --min-free-space  a floor: things go until that much is free on its file system
  --reserved-space  a floor: nothing goes that makes the store smaller than that, whatever the
                    others ask for; alone, things go until the store is down to it
Sizes are as they are shown (50GB is 50,000,000,000 bytes, 50GiB is binary), or parts of the file
system (10%). A store that is small enough already loses nothing.

FILTERS are those of lists: dangling, state, label, label!, reference, id, before, since,
until (first seen before), used (last used before), type (image, index, artifact, config, layer, blob,
snapshot, container, cache_mount, cache_record, temporary). Several values of one key: any of
them; of labels all; several keys: all of them. What goes passes; with an image go its config,
layers and snapshots as far as nothing else needs them.

JSON (--format json) has `schema`; `plan` with `items` (each with `kind`, `size`, `freed`, `reason`,
`last_used`), `untag`, `totals`, `kept` (how much stays for what), `target` and `policy`; `report` with
`removed`, `rescued`, `failures` and `measured`; `freed`, `target_met`, `milliseconds`; with --plan
`skipped`; and `unchanged` where nothing has changed since the same prune had nothing to do. With
--remote: `plan` with `repository`, `items` (`kind`, `digest`, `tags`, `created`, `size`, `reason`),
`kept` (`tag`, `digest`, `created`, `because`, `reason`) and `totals`; `report` with `deleted`,
`untagged`, `rewritten` (a tag was written anew meanwhile) and `failures`; `milliseconds`.

POLICIES have names in the configuration: /etc/rstore/config.toml, then
$XDG_CONFIG_HOME/rstore/config.toml; see rstore-config(5). Flags beside --policy go before the
policy's values; scopes and filters are added to its own. `nightly` is there without one, too: an
ordinary prune.

  [prune.nightly]
  scopes = [\"intermediates\", \"snapshots\"]
  until = \"7d\"
  max-used-space = \"50GB\"

From cron, every night, beside whatever builds; a line for /etc/cron.d/rstore:

  17 3 * * *  root  rstore prune --policy nightly --force -q --nice || [ $? -eq 75 ]

From systemd, the same: systemctl enable --now rstore-prune.timer"
);

/// Remove what nothing needs
///
/// Removes what nothing needs, prints each thing with its size and the reason, and how many bytes
/// that gave back.
///
/// Without a scope: dangling images and all that only they reached, unreferenced layers, what dead
/// builds and failed steps left. Never waits for a running build, and never breaks one. On a
/// terminal it asks first; without one it needs --force.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, after_long_help = LONG_HELP)]
pub struct Args {
    /// Dangling images, what only they reached, unreferenced layers, debris [default]
    #[arg(long, help_heading = "Scopes")]
    pub dangling: bool,
    /// Also images that builds of tagged ones copied from, and those these were made from
    #[arg(long, help_heading = "Scopes")]
    pub stages: bool,
    /// Also images that tagged ones descend from
    #[arg(long, help_heading = "Scopes")]
    pub intermediates: bool,
    /// Unpacked layers; the next build unpacks those that it needs
    #[arg(long, help_heading = "Scopes")]
    pub snapshots: bool,
    /// The records of the build cache
    #[arg(long, help_heading = "Scopes")]
    pub cache: bool,
    /// The directories of RUN --mount=type=cache
    #[arg(long, help_heading = "Scopes")]
    pub cache_mounts: bool,
    /// Whatever tagged and pinned images don't need in order to run
    #[arg(short, long, help_heading = "Scopes")]
    pub all: bool,
    /// Also tagged images; needs a rule that says which
    #[arg(long, help_heading = "Scopes")]
    pub tagged: bool,
    /// Only what was made for or from this image
    #[arg(long, value_name = "REF", help_heading = "Scopes")]
    pub image: Option<String>,
    /// The build caches in this repository of a registry instead, and nothing of the store
    ///
    /// Deletes what --cache-to type=registry has written there, with the tags that it has, as far as
    /// --keep-last N (of the whole repository), --until AGE and --keep REGEX do not spare it. Age is
    /// the time since a cache was last written, since a registry knows no last use. What is not a
    /// build cache of rstore's is left alone. A digest goes only if all of its tags go. The
    /// registry's own garbage collection gives back the space; see rstore-cache(7).
    #[arg(long, value_name = "HOST/NAME", help_heading = "Scopes", value_parser = registries::reference, conflicts_with_all = [
        "policy", "dangling", "stages", "intermediates", "snapshots", "cache", "cache_mounts", "all",
        "tagged", "image", "filters", "grace", "ignore_broken", "max_used_space", "reserved_space",
        "min_free_space", "plan", "out", "wait", "nice",
    ])]
    pub remote: Option<Reference>,
    /// Spare what was used within AGE, or since a time
    #[arg(long, value_name = "AGE|TIME", help_heading = "Rules")]
    pub until: Option<String>,
    /// Of each repository spare the N tags whose images were used last
    #[arg(long, value_name = "N", help_heading = "Rules")]
    pub keep_last: Option<NonZeroUsize>,
    /// Spare tags that match
    #[arg(long, value_name = "REGEX", help_heading = "Rules")]
    pub keep: Option<String>,
    /// Remove only what matches: label=NAME, until=24h, id=/root/.cache
    #[arg(long = "filter", value_name = "KEY=VALUE", help_heading = "Rules")]
    pub filters: Vec<String>,
    /// Leave alone for how long what other tools wrote [default: 1h]
    #[arg(long, value_name = "AGE", value_parser = values::duration, help_heading = "Rules")]
    pub grace: Option<Millis>,
    /// Go on although this document cannot be read: it stays, what only it needs may go
    #[arg(long, value_name = "DIGEST", help_heading = "Rules")]
    pub ignore_broken: Vec<Digest>,
    /// Remove no more than it takes for the store to be this small
    #[arg(long, value_name = "SIZE|%", value_parser = values::room, help_heading = "Space")]
    pub max_used_space: Option<Room>,
    /// Never make the store smaller than this
    #[arg(long, value_name = "SIZE|%", value_parser = values::room, help_heading = "Space")]
    pub reserved_space: Option<Room>,
    /// Remove no more than it takes for this much to be free on the file system
    #[arg(long, value_name = "SIZE|%", value_parser = values::room, help_heading = "Space")]
    pub min_free_space: Option<Room>,
    /// Do what the configuration has under this name
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,
    /// Remove what a plan lists and nothing else, as far as nothing needs it by now
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "policy", "dangling", "stages", "intermediates", "snapshots", "cache", "cache_mounts", "all",
        "tagged", "image", "until", "keep_last", "keep", "filters", "grace", "max_used_space",
        "reserved_space", "min_free_space",
    ])]
    pub plan: Option<PathBuf>,
    /// Show what would go, and remove nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Write the plan to a file, for --plan
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    pub out: Option<PathBuf>,
    /// Don't ask
    #[arg(short, long)]
    pub force: bool,
    /// Wait for a prune that is running, at most for AGE
    #[arg(long, value_name = "AGE", num_args = 0..=1, require_equals = true, default_missing_value = "forever", conflicts_with = "dry_run", value_parser = values::patience)]
    pub wait: Option<Millis>,
    /// Let everything else on the machine go first: lowest priority for processor and disk
    #[arg(long)]
    pub nice: bool,
    /// One line, for a log, in place of the list; twice: nothing but errors
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub quiet: u8,
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Print IDs and texts in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Print sizes in bytes
    #[arg(long)]
    pub bytes: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

impl Args {
    /// The policy that the flags alone make.
    pub fn words(&self) -> PolicyWords {
        let scopes = [
            (self.dangling, ScopeWord::Dangling),
            (self.stages, ScopeWord::Stages),
            (self.intermediates, ScopeWord::Intermediates),
            (self.snapshots, ScopeWord::Snapshots),
            (self.cache, ScopeWord::Cache),
            (self.cache_mounts, ScopeWord::CacheMounts),
            (self.all, ScopeWord::All),
            (self.tagged, ScopeWord::Tagged),
        ];
        let scopes = scopes.into_iter().filter(|(said, _)| *said);
        PolicyWords {
            name: self.policy.clone(),
            scopes: scopes.map(|(_, word)| word).collect(),
            image: self.image.clone(),
            until: self.until.clone(),
            keep_last: self.keep_last,
            keep: self.keep.clone(),
            filters: self.filters.clone(),
            space: Space {
                max_used: self.max_used_space,
                reserved: self.reserved_space,
                min_free: self.min_free_space,
            },
            grace: self.grace,
        }
    }
}

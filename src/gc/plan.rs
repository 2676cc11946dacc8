//! The plan: what a prune removes, and why. A dry run shows it; [`super::execute()`] consumes it.
//!
//! Items are grouped for reading: indexes, then each image with the blobs that go with it, later
//! images before those that they were made from, then what belongs to no image. Removal has its
//! own order ([`super::sweep`]). Bytes are exact: `freed` of all items together is what the disk
//! gives back on a quiet store.

use crate::catalog::Millis;
use crate::catalog::blob::HighWater;
use crate::graph::{NodeId, State};
use crate::oci::Digest;

use super::disk::Doomed;
use super::kept::Kept;
use super::policy::Policy;
use super::target::Target;
use super::time;

/// The format of a saved plan.
pub const SCHEMA: u32 = 2;

/// What an item is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// An image's manifest. The blobs that go with it follow.
    Image,
    /// An index.
    Index,
    /// A manifest that is no image: a signature, an attestation, another artifact.
    Artifact,
    /// A config.
    Config,
    /// A layer.
    Layer,
    /// Any other blob.
    Blob,
    /// An unpacked layer.
    Snapshot,
    /// An intermediate container.
    Container,
    /// A directory of `RUN --mount=type=cache`.
    CacheMount,
    /// A record of the build cache.
    CacheRecord,
    /// A temporary file or directory that nobody writes any more.
    Temporary,
}

impl ItemKind {
    /// The word for `count` of them.
    pub fn word(self, count: u64) -> &'static str {
        let (one, many) = match self {
            ItemKind::Image => ("image", "images"),
            ItemKind::Index => ("index", "indexes"),
            ItemKind::Artifact => ("artifact", "artifacts"),
            ItemKind::Config => ("config", "configs"),
            ItemKind::Layer => ("layer", "layers"),
            ItemKind::Blob => ("blob", "blobs"),
            ItemKind::Snapshot => ("snapshot", "snapshots"),
            ItemKind::Container => ("container", "containers"),
            ItemKind::CacheMount => ("cache mount", "cache mounts"),
            ItemKind::CacheRecord => ("cache record", "cache records"),
            ItemKind::Temporary => ("temporary file", "temporary files"),
        };
        if count == 1 { one } else { many }
    }
}

/// Why an item goes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is asked for by name.
    Named,
    /// A policy for tagged images takes it.
    Expired,
    /// Nothing holds it.
    Dangling,
    /// It is only a stage, and stages are asked for.
    Stage,
    /// It is only an intermediate image, and these are asked for.
    Intermediate,
    /// Only images that go hold it.
    OnlyThere,
    /// No manifest holds it.
    Unreferenced,
    /// It is derived, and can be made again; asked for.
    Derived,
    /// No image that stays has this stack of layers.
    NoImage,
    /// The build that made it is dead.
    DeadBuild,
    /// A failed step left it.
    FailedStep,
    /// An earlier prune was interrupted.
    Unfinished,
    /// It is nobody's.
    Stray,
}

impl Reason {
    /// The reason in words, for a column.
    pub fn words(self) -> &'static str {
        match self {
            Reason::Named => "named",
            Reason::Expired => "taken by policy",
            Reason::Dangling => "dangling",
            Reason::Stage => "build stage",
            Reason::Intermediate => "intermediate",
            Reason::OnlyThere => "only held by what goes",
            Reason::Unreferenced => "unreferenced",
            Reason::Derived => "can be made again",
            Reason::NoImage => "no image has it",
            Reason::DeadBuild => "its build is dead",
            Reason::FailedStep => "left by a failed step",
            Reason::Unfinished => "left by an interrupted prune",
            Reason::Stray => "belongs to nothing",
        }
    }
}

/// One thing that goes. Most are layers, of which there may be a million: what only others have
/// is kept apart.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Why it goes.
    pub reason: Reason,
    /// Its blob's digest, or a snapshot's chain ID, or a cache record's key.
    pub digest: Option<Digest>,
    /// The place of the image, or [`NONE`].
    group: u32,
    /// Plain bytes: for an image, those of its manifest alone.
    pub size: u64,
    /// Bytes that the disk gives back.
    pub freed: u64,
    /// When it was last used, or [`NEVER`].
    used: Millis,
    particulars: Option<Box<Particulars>>,
}

/// Stands for no place, and for no time, where an `Option` would take twice the bytes.
const NONE: u32 = u32::MAX;
const NEVER: Millis = Millis::MIN;

/// What layers and configs do not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Particulars {
    /// See [`Item::id`].
    pub id: String,
    /// What the image is.
    pub state: Option<State>,
    /// Tags that go with it.
    pub names: Vec<String>,
    /// The instruction that made it.
    pub step: Option<String>,
}

/// An item as it is written.
#[derive(serde::Serialize, serde::Deserialize)]
struct Written {
    kind: ItemKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    size: u64,
    freed: u64,
    reason: Reason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    #[serde(
        default,
        with = "time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    last_used: Option<Millis>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    with: Option<u32>,
}

impl From<Item> for Written {
    fn from(item: Item) -> Written {
        let (last_used, with) = (item.last_used(), item.with());
        let more = item.particulars.map(|more| *more).unwrap_or_default();
        Written {
            kind: item.kind,
            id: more.id,
            digest: item.digest,
            size: item.size,
            freed: item.freed,
            reason: item.reason,
            state: more.state,
            last_used,
            names: more.names,
            step: more.step,
            with,
        }
    }
}

impl From<Written> for Item {
    fn from(written: Written) -> Item {
        let mut item = Item::new(written.kind, written.reason, written.freed);
        item.digest = written.digest;
        item.size = written.size;
        item.set_last_used(written.last_used);
        item.set_with(written.with);
        let particulars = Particulars {
            id: written.id,
            state: written.state,
            names: written.names,
            step: written.step,
        };
        if particulars != Particulars::default() {
            item.particulars = Some(Box::new(particulars));
        }
        item
    }
}

/// A tag that goes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Untag {
    /// The name.
    pub name: String,
    /// What it points at; it stays if it points elsewhere by then.
    pub digest: Digest,
}

/// What `rmi` was asked to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The manifest or index.
    pub node: NodeId,
    /// The tag by which it was named: the only one that it loses. `None`: all of them.
    pub name: Option<String>,
}

/// How many of a kind, and how many bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Count {
    /// How many.
    pub items: u64,
    /// Bytes that the disk gives back.
    pub freed: u64,
}

/// What a plan comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// By kind.
    pub kinds: std::collections::BTreeMap<ItemKind, Count>,
    /// All items together.
    pub items: u64,
    /// Bytes that the disk gives back.
    pub freed: u64,
}

/// Tells one store from another.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StoreName {
    /// Its directory, without symbolic links.
    pub root: String,
    /// What its catalog was called at random when it first made a plan.
    pub id: String,
}

/// What a prune removes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Plan {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Of which store it is, where it is to be carried out later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreName>,
    /// When it was made.
    #[serde(with = "time")]
    pub made: Millis,
    /// What it was made for.
    pub policy: Policy,
    /// What goes, in order.
    pub items: Vec<Item>,
    /// Tags that go, before everything else.
    pub untag: Vec<Untag>,
    /// What they come to.
    pub totals: Totals,
    /// What is left alone although it was asked for, and why, in words.
    pub notes: Vec<String>,
    /// Of the images that stay, how many stay for what.
    #[serde(default)]
    pub kept: Vec<Kept>,
    /// How much was to go and how much does, where the policy says how much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Whether something stays for what may end without leaving a trace.
    #[serde(skip)]
    pub is_transient: bool,
    /// When something that stays for its age alone is old enough to go, at the earliest.
    #[serde(skip)]
    pub due: Option<Millis>,
    /// The newest numbers of the graph that it was made of.
    #[serde(skip)]
    pub high_water: HighWater,
    /// Whether things were asked for by name (`rmi`): then carrying it out is no prune, and none
    /// is remembered.
    #[serde(skip)]
    pub by_name: bool,
    /// What the disk said of the blobs that go.
    #[serde(skip)]
    pub(super) found: Doomed,
}

impl Item {
    /// What it is called, where that isn't its digest: an image ID, a container's ID, a path below
    /// the root. [`Item::label`] has either.
    pub fn id(&self) -> &str {
        self.particulars.as_ref().map_or("", |more| &more.id)
    }

    /// What the image is.
    pub fn state(&self) -> Option<State> {
        self.particulars.as_ref().and_then(|more| more.state)
    }

    /// Tags that go with it.
    pub fn names(&self) -> &[String] {
        self.particulars.as_ref().map_or(&[], |more| &more.names)
    }

    /// The instruction that made it.
    pub fn step(&self) -> Option<&str> {
        self.particulars.as_ref()?.step.as_deref()
    }

    /// When it was last used, where that is known.
    pub fn last_used(&self) -> Option<Millis> {
        (self.used != NEVER).then_some(self.used)
    }

    /// The place in [`Plan::items`] of the image with which it goes.
    pub fn with(&self) -> Option<u32> {
        (self.group != NONE).then_some(self.group)
    }

    /// What it is called.
    pub fn label(&self) -> String {
        match (self.id(), &self.digest) {
            ("", Some(digest)) => digest.to_string(),
            (id, _) => id.to_owned(),
        }
    }

    /// An item of which only this is known.
    pub(super) fn new(kind: ItemKind, reason: Reason, freed: u64) -> Item {
        Item {
            kind,
            reason,
            digest: None,
            group: NONE,
            size: 0,
            freed,
            used: NEVER,
            particulars: None,
        }
    }

    pub(super) fn set_last_used(&mut self, time: Option<Millis>) {
        self.used = time.unwrap_or(NEVER);
    }

    pub(super) fn set_with(&mut self, place: Option<u32>) {
        self.group = place.unwrap_or(NONE);
    }

    /// What is known of it besides, to be filled in.
    pub(super) fn particulars(&mut self) -> &mut Particulars {
        self.particulars.get_or_insert_default()
    }
}

impl Totals {
    /// What they are of, in words: `3 images, 7 layers`.
    pub fn words(&self) -> String {
        let kinds = self.kinds.iter();
        let words =
            kinds.map(|(kind, count)| format!("{} {}", count.items, kind.word(count.items)));
        words.collect::<Vec<_>>().join(", ")
    }

    /// Counts one thing.
    pub fn count(&mut self, kind: ItemKind, freed: u64) {
        let count = self.kinds.entry(kind).or_default();
        count.items += 1;
        count.freed += freed;
        self.items += 1;
        self.freed += freed;
    }
}

impl Plan {
    /// A plan in which nothing goes.
    pub fn nothing(policy: &Policy, made: Millis) -> Plan {
        Plan {
            schema: SCHEMA,
            store: None,
            made,
            policy: policy.clone(),
            items: Vec::new(),
            untag: Vec::new(),
            totals: Totals::default(),
            notes: Vec::new(),
            kept: Vec::new(),
            target: None,
            is_transient: false,
            due: None,
            high_water: HighWater::default(),
            by_name: false,
            found: Doomed::default(),
        }
    }

    /// Takes note that something stays only until then.
    pub(super) fn is_due(&mut self, moment: Millis) {
        self.due = Some(self.due.map_or(moment, |due| due.min(moment)));
    }

    /// Leaves only the items for which `stays` says so, in their order.
    pub(super) fn retain(&mut self, stays: impl Fn(usize) -> bool) {
        let items = std::mem::take(&mut self.items);
        self.totals = Totals::default();
        let mut places: Vec<Option<u32>> = Vec::with_capacity(items.len());
        for (place, mut item) in items.into_iter().enumerate() {
            if !stays(place) {
                places.push(None);
                continue;
            }
            let with = item
                .with()
                .and_then(|with| places.get(with as usize).copied());
            item.set_with(with.flatten());
            let place = self.push(item);
            places.push(u32::try_from(place).ok());
        }
    }

    /// Adds an item. Returns its place.
    pub(super) fn push(&mut self, item: Item) -> usize {
        self.totals.count(item.kind, item.freed);
        self.items.push(item);
        self.items.len() - 1
    }

    /// Takes configs, layers and the like off the list, once it is noted elsewhere which they are:
    /// they are most of it, and its end needs the memory.
    pub(super) fn forget_leaves(&mut self) {
        use ItemKind::{Blob, Config, Layer};
        let is_leaf = |item: &Item| matches!(item.kind, Config | Layer | Blob);
        self.items.retain(|item| !is_leaf(item));
        self.items.shrink_to_fit();
    }

    /// The plan without its lists: what is left to tell when they are done.
    pub fn summary(&self) -> Plan {
        Plan {
            store: self.store.clone(),
            totals: self.totals.clone(),
            notes: self.notes.clone(),
            kept: self.kept.clone(),
            target: self.target.clone(),
            is_transient: self.is_transient,
            due: self.due,
            high_water: self.high_water,
            ..Plan::nothing(&self.policy, self.made)
        }
    }

    /// Whether nothing goes.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.untag.is_empty()
    }

    /// The items that go with the image at `place`.
    pub fn with(&self, place: usize) -> impl Iterator<Item = &Item> {
        self.items
            .iter()
            .skip(place + 1)
            .take_while(move |item| item.with() == u32::try_from(place).ok())
    }
}

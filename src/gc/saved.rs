//! A plan in a file: made by a dry run, looked at by somebody, carried out later.
//!
//! It is for the store that it was made of, and for this format; anything else is refused. What it
//! lists goes as far as it may still go at that moment ([`super::plan_within`]): a file that was
//! written by hand, or is old, cannot make anything go that an ordinary prune of the same policy
//! would keep.

use std::fs;
use std::path::Path;

use hashbrown::HashSet;

use crate::catalog::{Catalog, WriteError};
use crate::fsutil::{self, IoContext};
use crate::graph::ImageGraph;
use crate::layout::Layout;

use super::plan::{Item, ItemKind, Plan, SCHEMA, StoreName};
use super::{Error, Result};

/// In `meta`: the catalog's name among catalogs.
const STORE_ID: &str = "store-id";

/// The largest file that is read: some millions of items.
const LIMIT: u64 = 4 << 30;

/// What a store is called. One that has no name yet gets one, made of `random` bytes; a catalog
/// that was made anew is another store, since its plans know nothing of what came before.
pub fn store_name(layout: &Layout, catalog: &Catalog, random: [u8; 16]) -> Result<StoreName> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the store's own directory, which no image has written"
    )]
    let root = fs::canonicalize(layout.root()).at("resolve", layout.root())?;
    let root = root.to_string_lossy().into_owned();
    if let Some(id) = catalog.read(|tx| tx.meta(STORE_ID))? {
        return Ok(StoreName { root, id });
    }
    let new: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = catalog.write(|tx| {
        // Somebody else may have come first.
        if let Some(id) = tx.meta(STORE_ID)? {
            return Ok(id);
        }
        tx.set_meta(STORE_ID, &new)?;
        Ok::<_, WriteError<Error>>(new)
    })?;
    Ok(StoreName { root, id })
}

/// Writes a plan, whole or not at all.
pub fn write(path: &Path, plan: &Plan) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(plan)
        .map_err(|error| Error::Policy(format!("the plan cannot be written: {error}")))?;
    Ok(fsutil::atomic_replace(path, &bytes)?)
}

/// Reads a plan, which must be of `store`.
pub fn read(path: &Path, store: &StoreName) -> Result<Plan> {
    let size = fs::metadata(path).at("open", path)?.len();
    let refuse = |why: String| {
        Err(Error::Plan {
            path: path.to_path_buf(),
            why,
        })
    };
    if size > LIMIT {
        return refuse("it is larger than any plan".to_owned());
    }
    let bytes = fs::read(path).at("read", path)?;
    #[derive(serde::Deserialize)]
    struct Head {
        schema: u32,
    }
    // The format first: a plan of another one need not be readable as one of this.
    match serde_json::from_slice::<Head>(&bytes) {
        Ok(head) if head.schema == SCHEMA => {}
        Ok(head) => {
            return refuse(format!(
                "it has format {}, and this rstore knows {SCHEMA}; make a new one with --dry-run --out",
                head.schema
            ));
        }
        Err(error) => return refuse(format!("it is no plan: {error}")),
    }
    let plan: Plan = match serde_json::from_slice(&bytes) {
        Ok(plan) => plan,
        Err(error) => return refuse(format!("it is no plan: {error}")),
    };
    match &plan.store {
        Some(of) if of == store => Ok(plan),
        Some(of) if of.root == store.root => refuse(
            "the store's catalog was made anew since; make a new plan with --dry-run --out"
                .to_owned(),
        ),
        Some(of) => refuse(format!(
            "it is of the store {}, and this one is {}",
            of.root, store.root
        )),
        None => refuse("it does not say of which store it is".to_owned()),
    }
}

/// What of a saved plan does not go any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// How many things are not there any more.
    pub gone: u64,
    /// What stays because something needs it now.
    pub live: Vec<String>,
}

/// What `saved` lists and `plan`, made of it, does not.
pub fn skipped(layout: &Layout, graph: &ImageGraph, saved: &Plan, plan: &Plan) -> Skipped {
    let goes: HashSet<(ItemKind, String)> = plan
        .items
        .iter()
        .map(|item| (item.kind, item.label()))
        .collect();
    let mut skipped = Skipped::default();
    for item in &saved.items {
        if goes.contains(&(item.kind, item.label())) {
            continue;
        }
        if is_there(layout, graph, item) {
            skipped.live.push(item.label());
        } else {
            skipped.gone += 1;
        }
    }
    for tag in &saved.untag {
        if plan.untag.contains(tag) {
            continue;
        }
        match graph.tags().iter().any(|(name, _)| *name == tag.name) {
            true => skipped.live.push(tag.name.clone()),
            false => skipped.gone += 1,
        }
    }
    skipped
}

fn is_there(layout: &Layout, graph: &ImageGraph, item: &Item) -> bool {
    match item.kind {
        ItemKind::Snapshot | ItemKind::CacheMount | ItemKind::Temporary => {
            layout.root().join(item.id()).exists()
        }
        ItemKind::Container => {
            let mut rows = graph.containers().iter();
            rows.any(|row| row.id == item.id())
        }
        ItemKind::CacheRecord => {
            let mut records = graph.cache().iter();
            records.any(|(record, _)| Some(record.key) == item.digest)
        }
        _ => {
            let node = item.digest.and_then(|digest| graph.find(&digest));
            node.is_some_and(|node| graph.node(node).present)
        }
    }
}

//! What to do about a full disk: which prune would free how much.

use std::sync::Arc;

use super::view::View;
use crate::cli::exit::{self, DiskFull};
use crate::cli::render::size;
use crate::cli::{Context, host};
use crate::gc::{self, Policy, Scope};
use crate::store::{OpenMode, Store};

/// The error, with what would make room where it says that there is none.
pub fn advise(error: anyhow::Error, context: &Context) -> anyhow::Error {
    if !exit::is_no_space(&error) {
        return error;
    }
    let error = match error.downcast::<DiskFull>() {
        Ok(full) => full.error,
        Err(error) => error,
    };
    let advice = Some(advice(context));
    DiskFull { error, advice }.into()
}

fn advice(context: &Context) -> String {
    let root = context.root.display();
    let Some((some, all)) = would_free(context) else {
        return format!("the disk is full: `rstore --root {root} prune` frees what nothing needs");
    };
    let shown = |bytes| size::shown(bytes, false);
    match (some, all) {
        (0, 0) => format!(
            "the disk is full, and a prune would free nothing: remove images with `rstore --root {root} rmi`, or make room elsewhere"
        ),
        (0, all) => format!(
            "the disk is full: `rstore --root {root} prune --all` would free {}",
            shown(all)
        ),
        (some, all) if all <= some => format!(
            "the disk is full: `rstore --root {root} prune` would free {}",
            shown(some)
        ),
        (some, all) => format!(
            "the disk is full: `rstore --root {root} prune` would free {}, `rstore --root {root} prune --all` {}",
            shown(some),
            shown(all)
        ),
    }
}

/// What an ordinary prune, and the widest, would free; `None` where even a look takes room.
fn would_free(context: &Context) -> Option<(u64, u64)> {
    let machine = Arc::new(host::Machine::new());
    let store = Store::open(&context.root, OpenMode::Existing, machine).ok()?;
    let view = View::of(store, context.now).ok()?;
    let freed = |scope| {
        let policy = Policy {
            scope,
            ..Policy::default()
        };
        let plan = gc::plan(view.store.layout(), &view.graph, &policy, context.now).ok()?;
        Some(plan.totals.freed)
    };
    Some((freed(Scope::default())?, freed(Scope::all())?))
}

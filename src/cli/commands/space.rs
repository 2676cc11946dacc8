//! What to do about a full disk: which prune would free how much.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::view::View;
use crate::archive;
use crate::cli::exit::{self, DiskFull};
use crate::cli::output::STDOUT;
use crate::cli::render::size;
use crate::cli::{Context, host};
use crate::fsutil;
use crate::gc::{self, Policy, Scope};
use crate::store::{OpenMode, Store};

/// The error, with what would make room where it says that there is none. `frees`: a command that
/// was to make room has failed with it.
pub fn advise(error: anyhow::Error, frees: bool, context: &Context) -> anyhow::Error {
    if !exit::is_no_space(&error) || is_elsewhere(&error, &context.root) {
        return error;
    }
    let error = match error.downcast::<DiskFull>() {
        Ok(full) => full.error,
        Err(error) => error,
    };
    let advice = Some(match frees {
        // Only where the store has no reserve: it was never made, or somebody took it away.
        true => "the disk is full, and a removal needs some bytes itself: make room for a few hundred kB elsewhere on that file system, and run it again".to_owned(),
        false => advice(context),
    });
    DiskFull { error, advice }.into()
}

/// Whether what could not be written is on another disk than the store: there no prune makes room.
fn is_elsewhere(error: &anyhow::Error, root: &Path) -> bool {
    let path = error.chain().find_map(|cause| {
        let archives = cause.downcast_ref::<archive::Error>();
        match (cause.downcast_ref::<fsutil::Error>(), archives) {
            (Some(error), _) | (None, Some(archive::Error::Io(error))) => Some(&error.path),
            _ => None,
        }
    });
    let Some(path) = path else { return false };
    let device = match path == Path::new(STDOUT) {
        true => rustix::fs::fstat(io::stdout()).map(|stat| stat.st_dev).ok(),
        false => device_of(path),
    };
    match (device, device_of(root)) {
        (Some(theirs), Some(ours)) => theirs != ours,
        _ => false,
    }
}

/// The device of a file that may not be there yet.
fn device_of(path: &Path) -> Option<u64> {
    let mut places = path
        .ancestors()
        .map(|place| match place.as_os_str().is_empty() {
            true => Path::new("."),
            false => place,
        });
    places.find_map(|place| Some(fs::metadata(place).ok()?.dev()))
}

fn advice(context: &Context) -> String {
    let root = context.root.display();
    let Some(Freed { some, all, held_by }) = would_free(context) else {
        return format!("the disk is full: `rstore --root {root} prune` frees what nothing needs");
    };
    let shown = |bytes| size::shown(bytes, false);
    match (some, all) {
        (0, 0) if held_by.is_empty() => {
            "the disk is full, and the store has nothing to give: make room elsewhere".to_owned()
        }
        (0, 0) => format!(
            "the disk is full, and a prune would free nothing: remove images with `rstore --root {root} rmi` (most is held by {}), or make room elsewhere",
            held_by.join(", ")
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

/// What would make room.
struct Freed {
    /// What an ordinary prune frees.
    some: u64,
    /// What the widest does.
    all: u64,
    /// What holds most of the rest.
    held_by: Vec<String>,
}

/// What would make room; `None` where even a look takes some.
fn would_free(context: &Context) -> Option<Freed> {
    let machine = host::machine();
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
    let held_by = gc::kept::largest(&view.graph, &view.roots, 3);
    let held_by = held_by.iter().filter(|holder| holder.bytes > 0);
    Some(Freed {
        some: freed(Scope::default())?,
        all: freed(Scope::all())?,
        held_by: held_by
            .map(|holder| format!("{}: {}", holder.what, size::shown(holder.bytes, false)))
            .collect(),
    })
}

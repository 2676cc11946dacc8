//! Since when nothing keeps a thing, as far as the journal remembers.

use serde_json::{Value, json};

use crate::catalog::Millis;
use crate::catalog::journal::JournalRow;
use crate::cli::Result;
use crate::cli::commands::view::View;
use crate::cli::render::{text, time};
use crate::graph::NodeId;
use crate::oci::Digest;

/// The last name that went of whatever had kept a thing.
#[derive(Debug)]
pub struct Gone {
    /// The name.
    pub name: String,
    /// When it went.
    pub time: Millis,
    /// How: `untag`, `tag` (it was given to another image), `prune`, `remove`.
    pub operation: String,
    /// Who did it.
    pub uid: Option<u32>,
    /// By which command line.
    pub command: String,
}

impl Gone {
    /// Looks for it: a thing's own names, and those of all that it was kept by.
    pub fn of(view: &View, nodes: &[NodeId]) -> Result<Option<Gone>> {
        let keepers = view.graph.all_keepers(nodes);
        let digests: Vec<Digest> = keepers
            .iter()
            .map(|node| view.graph.node(node).digest)
            .collect();
        let digests: std::collections::HashSet<Digest> = digests.into_iter().collect();
        let rows = view
            .store
            .catalog()
            .read(|tx| tx.journal_rows(usize::MAX, true))?;
        Ok(rows.into_iter().find_map(|row| Gone::in_row(row, &digests)))
    }

    fn in_row(row: JournalRow, digests: &std::collections::HashSet<Digest>) -> Option<Gone> {
        let item = row.particulars.items.iter().find(|item| {
            item.kind == "tag" && item.digest.is_some_and(|digest| digests.contains(&digest))
        })?;
        Some(Gone {
            name: item.label.clone(),
            time: row.entry.time,
            operation: row.entry.operation.clone(),
            uid: row.actor.uid,
            command: row.actor.command.clone(),
        })
    }

    /// In one line.
    pub fn words(&self, now: Millis) -> String {
        let how = match self.operation.as_str() {
            "tag" => "was given to another image",
            _ => "went",
        };
        let user = self
            .uid
            .map_or_else(String::new, |uid| format!(" by user {uid}"));
        let command = match self.command.as_str() {
            "" => String::new(),
            command => format!(" (`{}`)", text::clean(command)),
        };
        format!(
            "its last name, {}, {how} {}{user}{command}",
            text::clean(&self.name),
            time::ago(self.time, now)
        )
    }

    /// As scripts read it.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "time": time::rfc3339(self.time),
            "operation": self.operation,
            "uid": self.uid,
            "command": self.command,
        })
    }
}

//! What stands over the screen and takes the keys: help, details, a removal from the question to
//! the result.

use std::sync::Arc;

use super::cursor::Cursor;
use crate::cli::ui::data::{Foretold, Removed};
use crate::gc::Progress;

/// What is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// What is marked.
    Marked,
    /// What `rstore prune` takes.
    Dangling,
}

/// Something over the screen.
#[derive(Debug, Clone)]
pub enum Dialog {
    /// The keys.
    Help(Cursor),
    /// All of the chosen image.
    Details(Cursor),
    /// Whether to remove.
    Confirm {
        /// What.
        target: Target,
        /// What the planner says; `None`: it is still at it.
        foretold: Option<Result<Arc<Foretold>, String>>,
        /// How far its list is scrolled.
        cursor: Cursor,
    },
    /// Something is being removed.
    Removing {
        /// How far that is.
        progress: Progress,
        /// Whether it was asked to stop.
        stopping: bool,
    },
    /// What was removed, or why nothing was.
    Result(Result<Removed, String>, Cursor),
}

impl Dialog {
    /// How far it is scrolled, where it can be.
    pub fn cursor(&mut self) -> Option<&mut Cursor> {
        match self {
            Dialog::Help(cursor)
            | Dialog::Details(cursor)
            | Dialog::Confirm { cursor, .. }
            | Dialog::Result(_, cursor) => Some(cursor),
            Dialog::Removing { .. } => None,
        }
    }

    /// The first line of it that is shown.
    pub fn top(&self) -> usize {
        match self {
            Dialog::Help(cursor)
            | Dialog::Details(cursor)
            | Dialog::Confirm { cursor, .. }
            | Dialog::Result(_, cursor) => cursor.top,
            Dialog::Removing { .. } => 0,
        }
    }
}

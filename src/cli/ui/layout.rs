//! Which lines of the screen are for what.
//!
//! ```text
//! 0        views                         rstore's root
//! 1        headings, or the path
//! 2 …      the list
//! …        details, where there is room
//! last-1   what the removal of what is marked would free
//! last     totals, or a question
//! ```

/// The least that can be worked on.
pub const LEAST: (u16, u16) = (24, 7);

/// Lines that details take.
const PANE: u16 = 7;

/// Below this height there are no details beside the list; `i` shows them over it.
const ROOM_FOR_PANE: u16 = 20;

/// Where things are: first line and number of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Areas {
    /// The list.
    pub list: (u16, u16),
    /// The details.
    pub pane: Option<(u16, u16)>,
    /// What would be freed.
    pub figure: u16,
    /// Totals.
    pub status: u16,
}

/// The areas of a screen of so many lines.
pub fn areas(height: u16, wants_pane: bool) -> Areas {
    let figure = height.saturating_sub(2);
    let pane = (wants_pane && height >= ROOM_FOR_PANE).then(|| (figure - PANE, PANE));
    let end = pane.map_or(figure, |(first, _)| first);
    Areas {
        list: (2, end.saturating_sub(2)),
        pane,
        figure,
        status: height.saturating_sub(1),
    }
}

/// Lines of text that a dialog over the screen can show.
pub fn dialog_height(height: u16) -> usize {
    // A border above and below, a title's line and a question's line within, a line around.
    usize::from(height.saturating_sub(6)).max(1)
}

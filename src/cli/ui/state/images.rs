//! The list of images: its order, what it leaves out, where one is in it.

use std::cmp::Reverse;

use super::cursor::Cursor;
use crate::cli::ui::data::{Data, Row};
use crate::graph::State;

/// What the list is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// The largest first.
    Size,
    /// What the most bytes belong to alone first.
    Own,
    /// What was used last first.
    Used,
    /// By name; what has none comes last.
    Name,
    /// Tagged first, dangling last.
    State,
}

impl Sort {
    /// The heading of its column.
    pub fn heading(self) -> &'static str {
        match self {
            Sort::Size => "SIZE",
            Sort::Own => "OWN",
            Sort::Used => "USED",
            Sort::Name => "IMAGE",
            Sort::State => "STATE",
        }
    }
}

/// The list of images.
#[derive(Debug, Clone)]
pub struct Images {
    /// What it is sorted by.
    pub sort: Sort,
    /// Whether the other way round.
    pub reverse: bool,
    /// Whether those are in it too that others are made of.
    pub all: bool,
    /// What an image must match, in lower case.
    pub filter: String,
    /// Whether the filter is being typed.
    pub editing: bool,
    /// Places of rows, in the order in which they are shown.
    pub order: Vec<u32>,
    /// Where one is.
    pub cursor: Cursor,
}

impl Images {
    /// The list as it is first seen.
    pub fn new(data: &Data) -> Images {
        let mut images = Images {
            sort: Sort::Size,
            reverse: false,
            all: false,
            filter: String::new(),
            editing: false,
            order: Vec::new(),
            cursor: Cursor::default(),
        };
        images.arrange(data);
        images
    }

    /// The place of the chosen row.
    pub fn chosen(&self) -> Option<u32> {
        self.order.get(self.cursor.at).copied()
    }

    /// Sorts by a column; by the same once more: the other way round.
    pub fn sort_by(&mut self, sort: Sort, data: &Data) {
        self.reverse = self.sort == sort && !self.reverse;
        self.sort = sort;
        self.arrange(data);
    }

    /// Makes the list again; the chosen row stays chosen where it is still there.
    pub fn arrange(&mut self, data: &Data) {
        let chosen = self.chosen();
        let shown = |row: &Row| {
            let own = self.all || !is_part(row.state) || !row.names.is_empty();
            (own || !self.filter.is_empty()) && row.matches(&self.filter)
        };
        let rows = data.rows.iter().zip(0u32..);
        let mut order: Vec<u32> = rows
            .filter_map(|(row, place)| shown(row).then_some(place))
            .collect();
        let row = |place: &u32| &data.rows[*place as usize];
        match self.sort {
            Sort::Size => order.sort_by_key(|place| Reverse(row(place).size)),
            Sort::Own => order.sort_by_key(|place| Reverse(row(place).own)),
            Sort::Used => order.sort_by_key(|place| Reverse(row(place).used)),
            Sort::Name => order.sort_by(|one, other| by_name(row(one), row(other))),
            Sort::State => order.sort_by_key(|place| (row(place).state, Reverse(row(place).size))),
        }
        if self.reverse {
            order.reverse();
        }
        let at = chosen.and_then(|chosen| order.iter().position(|place| *place == chosen));
        self.order = order;
        self.cursor.at = at.unwrap_or(0);
    }

    /// Chooses a row, where it is in the list.
    pub fn choose(&mut self, place: u32) {
        if let Some(at) = self.order.iter().position(|other| *other == place) {
            self.cursor.at = at;
        }
    }
}

/// Whether an image is there for another one's sake.
fn is_part(state: State) -> bool {
    matches!(
        state,
        State::Member | State::Referrer | State::Intermediate | State::Stage
    )
}

fn by_name(one: &Row, other: &Row) -> std::cmp::Ordering {
    let key = |row: &Row| row.names.is_empty();
    (key(one), &one.names, &one.step).cmp(&(key(other), &other.names, &other.step))
}

//! What descends from what, and what of it is folded.
//!
//! ```text
//! base:latest
//! ├─ RUN make          several images were made from one
//! │  ↓ CMD ["/app"]    one image was made from one: no further to the right
//! │  ↓ app:latest
//! └─ RUN test [+3]     three more are folded
//! ```

use hashbrown::HashSet;

use super::cursor::Cursor;
use crate::cli::ui::data::Data;

/// Above so many rows a tree is folded at first.
const MANY: usize = 500;

/// The tree.
#[derive(Debug, Clone)]
pub struct Tree {
    folded: HashSet<u32>,
    /// Places of the rows that are shown, from top to bottom.
    pub lines: Vec<u32>,
    /// Where one is.
    pub cursor: Cursor,
}

impl Tree {
    /// The tree as it is first seen.
    pub fn new(data: &Data) -> Tree {
        let mut tree = Tree {
            folded: HashSet::new(),
            lines: Vec::new(),
            cursor: Cursor::default(),
        };
        tree.fold_all(data.rows.len() > MANY, data);
        tree
    }

    /// The place of the chosen row.
    pub fn chosen(&self) -> Option<u32> {
        self.lines.get(self.cursor.at).copied()
    }

    /// Whether what was made from a row is left out.
    pub fn is_folded(&self, place: u32) -> bool {
        self.folded.contains(&place)
    }

    /// Folds or unfolds everything.
    pub fn fold_all(&mut self, fold: bool, data: &Data) {
        self.folded.clear();
        if fold {
            let parents = data.children.iter().zip(0u32..);
            let parents = parents.filter(|(children, _)| !children.is_empty());
            self.folded.extend(parents.map(|(_, place)| place));
        }
        self.arrange(data);
    }

    /// Shows what was made from the chosen row, or goes on to it.
    pub fn unfold(&mut self, data: &Data) {
        let Some(chosen) = self.chosen() else { return };
        if self.folded.remove(&chosen) {
            self.arrange(data);
        } else if !data.children[chosen as usize].is_empty() {
            self.cursor.at += 1;
        }
    }

    /// Leaves out what was made from the chosen row, or goes back to what that was made from.
    pub fn fold(&mut self, data: &Data) {
        let Some(chosen) = self.chosen() else { return };
        if !data.children[chosen as usize].is_empty() && self.folded.insert(chosen) {
            self.arrange(data);
        } else if let Some(parent) = data.rows[chosen as usize].parent {
            self.choose(parent, data);
        }
    }

    /// Chooses a row, unfolding what hides it.
    pub fn choose(&mut self, place: u32, data: &Data) {
        let mut here = place;
        let mut hidden = false;
        while let Some(parent) = data.rows.get(here as usize).and_then(|row| row.parent) {
            hidden |= self.folded.remove(&parent);
            here = parent;
        }
        if hidden {
            self.arrange(data);
        }
        if let Some(at) = self.lines.iter().position(|line| *line == place) {
            self.cursor.at = at;
        }
    }

    /// Makes the lines again; the chosen row stays chosen where it is still there.
    pub fn arrange(&mut self, data: &Data) {
        let chosen = self.chosen();
        self.lines.clear();
        let mut pending: Vec<u32> = data.tops.iter().rev().copied().collect();
        while let Some(place) = pending.pop() {
            self.lines.push(place);
            if !self.folded.contains(&place) {
                pending.extend(data.children[place as usize].iter().rev());
            }
        }
        let at = chosen.and_then(|chosen| self.lines.iter().position(|line| *line == chosen));
        self.cursor.at = at.unwrap_or(self.cursor.at);
    }

    /// Takes over what is folded in a tree of other places; `place` gives the new one of each.
    pub fn renumber(&mut self, place: impl Fn(u32) -> Option<u32>, data: &Data) {
        let chosen = self.chosen().and_then(&place);
        self.folded = self.folded.iter().copied().filter_map(&place).collect();
        self.arrange(data);
        if let Some(chosen) = chosen {
            self.choose(chosen, data);
        }
    }
}

/// What is drawn before a row, of at most `room` columns: of a deep tree the right end.
pub fn branches(data: &Data, place: u32, room: usize) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let mut here = place;
    while let Some(parent) = data.rows[here as usize].parent {
        let siblings = &data.children[parent as usize];
        let last = siblings.last() == Some(&here);
        match (siblings.len() > 1, here == place) {
            (false, true) => parts.push("↓ "),
            (false, false) => {}
            (true, true) => parts.push(if last { "└─ " } else { "├─ " }),
            (true, false) => parts.push(if last { "   " } else { "│  " }),
        }
        here = parent;
    }
    let fits = room / 3;
    let cut = parts.len() > fits;
    parts.truncate(fits.max(1));
    let mut text: String = parts.iter().rev().copied().collect();
    if cut {
        text.insert(0, '…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ui::data::tests::row;
    use crate::graph::State;

    fn data() -> Data {
        let tagged = |name, parent| row(name, "", State::Tagged, 1, parent);
        let rows = vec![
            tagged("base", None),
            tagged("one", Some(0)),
            tagged("two", Some(0)),
            tagged("of-one", Some(1)),
            tagged("alone", None),
        ];
        Data::new(String::new(), rows, 0, 0)
    }

    fn shown(tree: &Tree, data: &Data) -> String {
        let line = |place: &u32| {
            let row = &data.rows[*place as usize];
            format!("{}{}", branches(data, *place, 30), row.names)
        };
        tree.lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn branches_go_to_the_right_and_single_lines_do_not() {
        let data = data();
        let tree = Tree::new(&data);
        assert_eq!(
            shown(&tree, &data),
            "base\n├─ one\n│  ↓ of-one\n└─ two\nalone"
        );
    }

    #[test]
    fn left_folds_then_goes_to_the_parent_and_right_unfolds_then_goes_on() {
        let data = data();
        let mut tree = Tree::new(&data);
        tree.cursor.at = 1;
        tree.fold(&data);
        assert_eq!(shown(&tree, &data), "base\n├─ one\n└─ two\nalone");
        tree.fold(&data);
        assert_eq!(tree.cursor.at, 0);
        tree.cursor.at = 1;
        tree.unfold(&data);
        assert_eq!((tree.lines.len(), tree.cursor.at), (5, 1));
        tree.unfold(&data);
        assert_eq!(tree.cursor.at, 2);
    }

    #[test]
    fn what_is_chosen_is_unfolded() {
        let data = data();
        let mut tree = Tree::new(&data);
        tree.fold_all(true, &data);
        assert_eq!(tree.lines, [0, 4]);
        tree.choose(3, &data);
        assert_eq!(tree.chosen(), Some(3));
    }

    #[test]
    fn a_deep_tree_does_not_push_its_names_off_the_screen() {
        let mut rows = Vec::new();
        for depth in 0..2000u32 {
            let parent = depth.checked_sub(1).map(|parent| parent * 2);
            rows.push(row(&format!("n{depth}"), "", State::Tagged, 1, parent));
            rows.push(row(&format!("s{depth}"), "", State::Tagged, 1, parent));
        }
        let data = Data::new(String::new(), rows, 0, 0);
        let drawn = branches(&data, 3998, 30);
        assert!(
            drawn.starts_with('…') && drawn.chars().count() <= 31,
            "{drawn}"
        );
    }
}

//! A place in a long list of which a screen shows a part.

use crate::cli::ui::keys::Key;

/// The chosen line, and the first that is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The chosen line.
    pub at: usize,
    /// The first line that is shown.
    pub top: usize,
}

impl Cursor {
    /// A cursor at a line.
    pub fn at(at: usize) -> Cursor {
        Cursor { at, top: 0 }
    }

    /// Moves it, in a list of `len` lines of which `height` are shown. Whether the key was one
    /// that moves.
    pub fn key(&mut self, key: Key, len: usize, height: usize) -> bool {
        let page = height.saturating_sub(1).max(1);
        let last = len.saturating_sub(1);
        self.at = match key {
            Key::Up | Key::Char('k') | Key::Ctrl('p') => self.at.saturating_sub(1),
            Key::Down | Key::Char('j') | Key::Ctrl('n') => self.at + 1,
            Key::PageUp | Key::Ctrl('b') => self.at.saturating_sub(page),
            Key::PageDown | Key::Ctrl('f') => self.at + page,
            Key::Ctrl('u') => self.at.saturating_sub(page.div_ceil(2)),
            Key::Ctrl('d') => self.at + page.div_ceil(2),
            Key::Home | Key::Char('g') => 0,
            Key::End | Key::Char('G') => last,
            _ => return false,
        };
        self.settle(len, height);
        true
    }

    /// Keeps it inside the list, and the chosen line on the screen.
    pub fn settle(&mut self, len: usize, height: usize) {
        let height = height.max(1);
        self.at = self.at.min(len.saturating_sub(1));
        self.top = self.top.min(self.at).min(len.saturating_sub(height));
        if self.at >= self.top + height {
            self.top = self.at + 1 - height;
        }
    }

    /// Moves a text of `len` lines that has no chosen one.
    pub fn scroll(&mut self, key: Key, len: usize, height: usize) -> bool {
        let page = height.saturating_sub(1).max(1);
        let end = len.saturating_sub(height);
        self.top = match key {
            Key::Up | Key::Char('k') => self.top.saturating_sub(1),
            Key::Down | Key::Char('j') => self.top + 1,
            Key::PageUp | Key::Ctrl('b') => self.top.saturating_sub(page),
            Key::PageDown | Key::Ctrl('f') | Key::Char(' ') => self.top + page,
            Key::Home | Key::Char('g') => 0,
            Key::End | Key::Char('G') => end,
            _ => return false,
        };
        self.top = self.top.min(end);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_line_stays_on_the_screen_and_in_the_list() {
        let mut cursor = Cursor::default();
        for (key, at, top) in [
            (Key::Up, 0, 0),
            (Key::Char('j'), 1, 0),
            (Key::PageDown, 5, 1),
            (Key::Char('G'), 99, 95),
            (Key::Down, 99, 95),
            (Key::PageUp, 95, 95),
            (Key::Char('k'), 94, 94),
            (Key::Char('g'), 0, 0),
        ] {
            assert!(cursor.key(key, 100, 5));
            assert_eq!((cursor.at, cursor.top), (at, top), "{key:?}");
        }
        assert!(!cursor.key(Key::Enter, 100, 5));
    }

    #[test]
    fn a_list_that_shrinks_takes_the_cursor_along() {
        let mut cursor = Cursor { at: 99, top: 95 };
        cursor.settle(3, 5);
        assert_eq!((cursor.at, cursor.top), (2, 0));
        cursor.settle(0, 5);
        assert_eq!((cursor.at, cursor.top), (0, 0));
        assert!(cursor.key(Key::Down, 0, 0));
        assert_eq!((cursor.at, cursor.top), (0, 0));
    }

    #[test]
    fn a_text_scrolls_to_its_end_and_no_further() {
        let mut cursor = Cursor::default();
        assert!(cursor.scroll(Key::End, 10, 4));
        assert_eq!(cursor.top, 6);
        assert!(cursor.scroll(Key::Down, 10, 4));
        assert_eq!(cursor.top, 6);
        assert!(cursor.scroll(Key::Home, 10, 40));
        assert_eq!(cursor.top, 0);
    }
}

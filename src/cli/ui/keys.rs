//! Keys, apart from how a terminal sends them.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A character as it was typed.
    Char(char),
    /// A letter with Control held.
    Ctrl(char),
    /// An arrow.
    Up,
    /// An arrow.
    Down,
    /// An arrow.
    Left,
    /// An arrow.
    Right,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first.
    Home,
    /// To the last.
    End,
    /// Enter.
    Enter,
    /// Backspace.
    Backspace,
    /// Delete.
    Delete,
    /// Tab.
    Tab,
    /// Shift and Tab.
    BackTab,
    /// Escape.
    Escape,
}

impl Key {
    /// The keys of an event, none of one that means nothing here. A terminal sends Alt as an Escape
    /// before the key: over a slow line somebody's Escape and next key look the same, and here Alt
    /// means nothing else.
    pub fn of(event: &KeyEvent) -> impl Iterator<Item = Key> {
        let escape =
            event.modifiers.contains(KeyModifiers::ALT) && event.kind == KeyEventKind::Press;
        escape
            .then_some(Key::Escape)
            .into_iter()
            .chain(Key::plain(event))
    }

    fn plain(event: &KeyEvent) -> Option<Key> {
        if event.kind == KeyEventKind::Release {
            return None;
        }
        let control = event.modifiers.contains(KeyModifiers::CONTROL);
        Some(match event.code {
            KeyCode::Char(character) if control => Key::Ctrl(character.to_ascii_lowercase()),
            KeyCode::Char(character) => Key::Char(character),
            KeyCode::Up => Key::Up,
            KeyCode::Down => Key::Down,
            KeyCode::Left => Key::Left,
            KeyCode::Right => Key::Right,
            KeyCode::PageUp => Key::PageUp,
            KeyCode::PageDown => Key::PageDown,
            KeyCode::Home => Key::Home,
            KeyCode::End => Key::End,
            KeyCode::Enter => Key::Enter,
            KeyCode::Backspace => Key::Backspace,
            KeyCode::Delete => Key::Delete,
            KeyCode::Tab => Key::Tab,
            KeyCode::BackTab => Key::BackTab,
            KeyCode::Esc => Key::Escape,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_that_comes_with_the_next_key_is_both() {
        let keys = |modifiers| {
            let event = KeyEvent::new(KeyCode::Char('q'), modifiers);
            Key::of(&event).collect::<Vec<_>>()
        };
        assert_eq!(keys(KeyModifiers::ALT), [Key::Escape, Key::Char('q')]);
        assert_eq!(keys(KeyModifiers::NONE), [Key::Char('q')]);
        assert_eq!(keys(KeyModifiers::CONTROL), [Key::Ctrl('q')]);
    }
}

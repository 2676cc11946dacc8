//! Colours, and what stands for them where there are none: each thing that a colour says, a sign
//! or a word says too (no-color.org).

use ratatui::style::{Color, Modifier, Style};

use crate::cli::ui::files::Mark;
use crate::cli::ui::texts::Tone;
use crate::graph::State;

/// How things look.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    /// Whether colour is wanted.
    pub color: bool,
}

impl Theme {
    fn of(self, color: Color) -> Style {
        match self.color {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }

    /// The chosen line.
    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Headings.
    pub fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What is of less importance.
    pub fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// What is marked.
    pub fn marked(self) -> Style {
        self.of(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// What is to be taken note of.
    pub fn warning(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// A line of a dialog.
    pub fn tone(self, tone: Tone) -> Style {
        match tone {
            Tone::Plain => Style::new(),
            Tone::Bold => self.heading(),
            Tone::Dim => self.dim(),
            Tone::Warning => self.warning(),
        }
    }

    /// The word for what an image is.
    pub fn state(self, state: State) -> Style {
        match state {
            State::Tagged | State::Member => self.of(Color::Green),
            State::Pinned | State::Referrer | State::InUse => self.of(Color::Cyan),
            State::Intermediate | State::Stage => self.dim(),
            State::Dangling => self.of(Color::Red),
        }
    }

    /// What a layer did to a name.
    pub fn mark(self, mark: Mark) -> Style {
        match mark {
            Mark::Same => Style::new(),
            Mark::Added => self.of(Color::Green),
            Mark::Changed => self.of(Color::Yellow),
            Mark::Removed => self.of(Color::Red),
        }
    }

    /// Bars.
    pub fn bar(self) -> Style {
        self.of(Color::Blue)
    }
}
